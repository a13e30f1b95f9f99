//! The lease: which of several controllers works, and that no other one writes.
//!
//! A Lease object's name enters; leadership, its end, and a [`Fence`] before every write leave. A lease is taken and renewed by replacing
//! the version that was read, so that of two who try one fails. Time is this process's own monotonic clock and never another machine's:
//! a follower counts from when it *saw* the last renewal, the leader from before it *sent* it, and the leader's time is shorter.
//! A leader that is late writes nothing, whatever it was about to do; it goes on when its lease turns out to be untouched.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use http::{Method, Request};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client, Config,
    api::{ObjectMeta, PostParams},
    client::{Body, ClientBuilder},
};
use tokio_util::sync::CancellationToken;
use tower::{BoxError, filter::FilterLayer};

use crate::telemetry::Readiness;

/// How long a follower has to see no renewal before it takes the lease.
const DURATION: Duration = Duration::from_secs(10);
/// How long the leader may write after it began its last renewal that worked. What is left of [`DURATION`] is for a request that is on its way.
const TERM: Duration = Duration::from_secs(7);
/// The pause between two renewals.
const RENEWAL: Duration = Duration::from_secs(2);
/// The pause between two looks of a follower.
const LOOK: Duration = Duration::from_secs(1);
/// How long a request for the lease may take.
const CALL: Duration = Duration::from_secs(3);
/// A lease that is said to last longer than this was not made by a controller, and nobody shall wait for its end for ever.
const LONGEST: Duration = Duration::from_mins(1);
/// What is not ready, as `/readyz` names it.
const LEASES: &str = "leases.coordination.k8s.io";
/// Why.
const FORBIDDEN: &str = "the controller's ServiceAccount may not get, create and update the lease; check its roles";

/// Where the Lease object is: `NAMESPACE/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseName {
    namespace: String,
    name: String,
}

impl FromStr for LeaseName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let legal = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b));
        match text.split_once('/') {
            Some((namespace, name)) if legal(namespace) && legal(name) => Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() }),
            _ => Err("the namespace and the name of a Lease: NAMESPACE/NAME"),
        }
    }
}

/// Until when this process may write. A clone is the same fence.
#[derive(Clone)]
pub struct Fence(Arc<Mutex<Option<Instant>>>);

impl Fence {
    fn shut() -> Self {
        Self(Arc::default())
    }

    /// Whether a write may leave at this moment.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| Instant::now() < until)
    }

    fn set(&self, until: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    /// Lets a request through that only reads, and any while the fence is open.
    fn check(&self, request: Request<Body>) -> Result<Request<Body>, BoxError> {
        if request.method() == Method::GET || self.is_open() { Ok(request) } else { Err("this controller does not hold the lease".into()) }
    }
}

/// A client whose writes pass only while the fence is open.
///
/// # Errors
/// When the configuration makes no client.
pub fn fenced(config: Config, fence: &Fence) -> kube::Result<Client> {
    let fence = fence.clone();
    let layer = FilterLayer::new(move |request| fence.check(request));
    Ok(ClientBuilder::try_from(config)?.with_layer(&layer).build())
}

/// Another controller holds the lease, and may have written since this one did.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("another controller holds the lease")]
pub struct Lost;

/// What is known of the lease: a version of it, and since when.
struct Seen {
    version: Option<String>,
    holder: Option<String>,
    lasts: Duration,
    since: Instant,
}

impl Seen {
    fn new(lease: Option<&Lease>, since: Instant) -> Self {
        let spec = lease.and_then(|lease| lease.spec.as_ref());
        let seconds = spec.and_then(|spec| spec.lease_duration_seconds).and_then(|seconds| u64::try_from(seconds).ok());
        Self {
            version: lease.and_then(|lease| lease.metadata.resource_version.clone()),
            holder: spec.and_then(|spec| spec.holder_identity.clone()).filter(|holder| !holder.is_empty()),
            lasts: seconds.map_or(DURATION, Duration::from_secs).min(LONGEST),
            since,
        }
    }

    /// What is known after another look. The time runs on while the version is the same.
    fn after(self, lease: Option<&Lease>, now: Instant) -> Self {
        let next = Self::new(lease, now);
        if next.version == self.version {
            return self;
        }
        // A lease that was there and is gone was deleted under its holder, who may write until its term is over.
        if next.version.is_none() { Self { holder: self.holder, ..next } } else { next }
    }

    fn is_free(&self, now: Instant) -> bool {
        self.holder.is_none() || now.saturating_duration_since(self.since) >= self.lasts
    }
}

/// The lease as it stands after a write of ours.
fn claimed(former: Option<Lease>, name: &LeaseName, holder: &str, time: Timestamp) -> Lease {
    let spec = former.as_ref().and_then(|lease| lease.spec.clone()).unwrap_or_default();
    let same = spec.holder_identity.as_deref() == Some(holder);
    let metadata = former.map_or_else(
        || ObjectMeta { name: Some(name.name.clone()), namespace: Some(name.namespace.clone()), ..ObjectMeta::default() },
        |lease| ObjectMeta { managed_fields: None, ..lease.metadata },
    );
    Lease {
        metadata,
        spec: Some(LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: if same { spec.acquire_time } else { Some(MicroTime(time)) },
            renew_time: Some(MicroTime(time)),
            lease_transitions: Some(spec.lease_transitions.unwrap_or_default().saturating_add(i32::from(!same))),
            ..LeaseSpec::default()
        }),
    }
}

/// One candidate for the lease.
pub struct Election {
    api: Api<Lease>,
    name: LeaseName,
    identity: String,
    fence: Fence,
    /// The lease as we last wrote it.
    held: Option<Lease>,
}

/// Why a look at the lease, or a write of it, came to nothing.
enum Miss {
    /// Somebody else wrote it.
    Outrun,
    /// The API server forbids it.
    Forbidden,
    /// It failed, or took too long.
    Failed,
}

impl From<kube::Error> for Miss {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if matches!(status.code, 404 | 409) => Self::Outrun,
            kube::Error::Api(status) if matches!(status.code, 401 | 403) => Self::Forbidden,
            _ => Self::Failed,
        }
    }
}

/// A call that has its time.
async fn within<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, Miss> {
    tokio::time::timeout(CALL, call).await.map_err(|_| Miss::Failed)?.map_err(Miss::from)
}

impl Election {
    /// A candidate. `client` must not stand behind the fence; `instance` is the pod's name. The fence is shut until it leads.
    #[must_use]
    pub fn new(client: Client, name: LeaseName, instance: Option<&str>) -> Self {
        // A container that starts anew in the same pod is another candidate.
        let run = RandomState::new().hash_one(std::process::id());
        let identity = format!("{}_{run:016x}", instance.unwrap_or("robotosecret"));
        Self { api: Api::namespaced(client, &name.namespace), name, identity, fence: Fence::shut(), held: None }
    }

    /// The fence that is open while this candidate leads.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.fence.clone()
    }

    /// Waits until this candidate leads. What keeps it from asking for the lease is told in the log and in `/readyz`.
    pub async fn win(&mut self, readiness: &Readiness) {
        let mut seen: Option<Seen> = None;
        let (mut told, mut forbidden) = (None, false);
        loop {
            match self.look(&mut seen).await {
                Ok(true) => return readiness.done(LEASES),
                Ok(false) => {
                    forbidden = false;
                    readiness.done(LEASES);
                    let holder = seen.as_ref().and_then(|seen| seen.holder.clone());
                    if told != holder {
                        tracing::info!(holder, "another controller leads; following");
                        told = holder;
                    }
                }
                Err(Miss::Forbidden) => {
                    if !std::mem::replace(&mut forbidden, true) {
                        tracing::warn!(lease = self.name.name, namespace = self.name.namespace, "{FORBIDDEN}");
                    }
                    readiness.wait_for(LEASES, FORBIDDEN);
                }
                // Whoever was faster shows at the next look; an API server that can't be reached is told by the watches.
                Err(Miss::Outrun | Miss::Failed) => {}
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Takes the lease if it is free. Returns whether it is ours now.
    async fn look(&mut self, seen: &mut Option<Seen>) -> Result<bool, Miss> {
        let lease = within(self.api.get_opt(&self.name.name)).await?;
        let now = Instant::now();
        let known = match seen.take() {
            Some(before) => before.after(lease.as_ref(), now),
            None => Seen::new(lease.as_ref(), now),
        };
        let known = seen.insert(known);
        // A claim of ours whose answer was lost shows as ours.
        let free = known.is_free(now) || known.holder.as_ref() == Some(&self.identity);
        if free {
            self.write(lease).await?;
            tracing::info!(lease = self.name.name, namespace = self.name.namespace, identity = self.identity, "leading");
        }
        Ok(free)
    }

    /// Writes the lease as ours over the version that was read, and opens the fence for a term.
    async fn write(&mut self, former: Option<Lease>) -> Result<(), Miss> {
        let sent = Instant::now();
        let exists = former.is_some();
        let lease = claimed(former, &self.name, &self.identity, Timestamp::now());
        let written = if exists {
            within(self.api.replace(&self.name.name, &PostParams::default(), &lease)).await?
        } else {
            within(self.api.create(&PostParams::default(), &lease)).await?
        };
        self.held = Some(written);
        self.fence.set(Some(sent + TERM));
        Ok(())
    }

    /// Renews the lease until `end`; then gives it back, so that the next one need not wait. Who calls it has nothing to write any more by then.
    /// What keeps it from renewing is told once in the log and, where only a role can help, in `/readyz`.
    ///
    /// # Errors
    /// When another one holds it.
    pub async fn lead(mut self, end: CancellationToken, readiness: Readiness) -> Result<(), Lost> {
        let (mut pause, mut late) = (RENEWAL, false);
        while end.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            let renewed = match self.write(self.held.clone()).await {
                Err(Miss::Outrun) => self.recover().await?,
                Err(Miss::Forbidden) => {
                    readiness.wait_for(LEASES, FORBIDDEN);
                    false
                }
                result => result.is_ok(),
            };
            if renewed {
                readiness.done(LEASES);
                if std::mem::take(&mut late) {
                    tracing::info!("the lease is renewed again");
                }
            } else if !late && !self.fence.is_open() {
                late = true;
                tracing::warn!(waiting = readiness.waiting(), "the lease could not be renewed; nothing is written until it is");
            }
            pause = if renewed { RENEWAL } else { LOOK };
        }
        self.fence.set(None);
        self.give_back().await;
        Ok(())
    }

    /// Somebody wrote the lease or deleted it. As long as it names us, or nobody can have taken it, it is ours.
    async fn recover(&mut self) -> Result<bool, Lost> {
        let Ok(lease) = within(self.api.get_opt(&self.name.name)).await else { return Ok(false) };
        let holder = lease.as_ref().map(|lease| lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()));
        match holder {
            // Deleted under us. Others wait for our term to end before they make a new one; we need not, and only one creation succeeds.
            None if self.fence.is_open() => Ok(self.write(None).await.is_ok()),
            Some(Some(holder)) if holder == self.identity => Ok(self.write(lease).await.is_ok()),
            _ => {
                self.fence.set(None);
                tracing::error!(holder = holder.flatten(), "another controller has taken the lease");
                Err(Lost)
            }
        }
    }

    async fn give_back(self) {
        let Some(mut lease) = self.held else { return };
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
        }
        lease.metadata.managed_fields = None;
        if within(self.api.replace(&self.name.name, &PostParams::default(), &lease)).await.is_ok() {
            tracing::info!("the lease is given back");
        } else {
            tracing::warn!("the lease could not be given back; the next controller waits for its end");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(version: &str, holder: &str, seconds: i32) -> Lease {
        let spec = LeaseSpec { holder_identity: Some(holder.into()), lease_duration_seconds: Some(seconds), ..LeaseSpec::default() };
        Lease { metadata: ObjectMeta { resource_version: Some(version.into()), ..ObjectMeta::default() }, spec: Some(spec) }
    }

    #[test]
    fn a_lease_is_free_when_its_holder_was_not_seen_to_renew_it_for_as_long_as_it_lasts() {
        let start = Instant::now();
        let at = |second: u64| start + Duration::from_secs(second);
        let seen = Seen::new(Some(&lease("1", "a", 10)), at(0));
        assert!(!seen.is_free(at(9)) && seen.is_free(at(10)));
        let seen = seen.after(Some(&lease("1", "a", 10)), at(9));
        assert!(seen.is_free(at(10)), "a look is no renewal");
        let seen = seen.after(Some(&lease("2", "a", 10)), at(9));
        assert!(!seen.is_free(at(18)) && seen.is_free(at(19)));
        assert!(seen.after(Some(&lease("3", "", 10)), at(9)).is_free(at(9)), "it was given back");
        assert!(Seen::new(None, at(0)).is_free(at(0)), "there never was one");
    }

    #[test]
    fn a_lease_that_is_deleted_under_its_holder_is_not_free_before_its_end() {
        let start = Instant::now();
        let gone = Seen::new(Some(&lease("1", "a", 10)), start).after(None, start + Duration::from_secs(3));
        assert!(!gone.is_free(start + Duration::from_secs(12)) && gone.is_free(start + Duration::from_secs(13)));
        assert!(Seen::new(Some(&lease("1", "", 10)), start).after(None, start).is_free(start), "it had no holder");
    }

    #[test]
    fn nobody_waits_for_ever_for_a_lease_that_no_controller_made() {
        let start = Instant::now();
        assert!(Seen::new(Some(&lease("1", "a", i32::MAX)), start).is_free(start + LONGEST));
        assert!(!Seen::new(Some(&lease("1", "a", -1)), start).is_free(start));
    }

    #[test]
    fn the_leader_stops_before_a_follower_starts() {
        assert!(TERM + CALL <= DURATION, "a write that began in the last moment has ended");
        assert!(RENEWAL + CALL < TERM, "a renewal that hangs is followed by another one in time");
    }

    #[test]
    fn a_claim_counts_changes_of_the_holder_and_keeps_what_it_replaces() {
        let name = "system/robotosecret".parse::<LeaseName>().expect("a name");
        let time = Timestamp::from_second(1_000_000).expect("a time");
        let made = claimed(None, &name, "a", time);
        assert_eq!((made.metadata.namespace.as_deref(), made.metadata.name.as_deref()), (Some("system"), Some("robotosecret")));
        let spec = made.spec.clone().expect("a spec");
        assert_eq!((spec.lease_transitions, &spec.acquire_time), (Some(1), &Some(MicroTime(time))));
        let later = Timestamp::from_second(1_000_002).expect("a time");
        let renewed = claimed(Some(made.clone()), &name, "a", later).spec.expect("a spec");
        assert_eq!((renewed.lease_transitions, renewed.acquire_time, renewed.renew_time), (Some(1), spec.acquire_time, Some(MicroTime(later))));
        let versioned = Lease { metadata: ObjectMeta { resource_version: Some("7".into()), ..made.metadata }, ..made };
        let taken = claimed(Some(versioned), &name, "b", later);
        assert_eq!(taken.metadata.resource_version.as_deref(), Some("7"), "so that of two who take it one fails");
        assert_eq!(taken.spec.expect("a spec").lease_transitions, Some(2));
    }

    #[test]
    fn a_shut_fence_lets_only_reads_through() {
        let request = |method: Method| Request::builder().method(method).body(Body::empty()).expect("a request");
        let fence = Fence::shut();
        let passes = |fence: &Fence| [Method::GET, Method::POST, Method::PATCH, Method::PUT, Method::DELETE].map(|method| fence.check(request(method)).is_ok());
        assert_eq!(passes(&fence), [true, false, false, false, false]);
        fence.set(Some(Instant::now() + TERM));
        assert_eq!(passes(&fence.clone()), [true; 5]);
        fence.set(Some(Instant::now()));
        assert_eq!(passes(&fence), [true, false, false, false, false], "the term is over");
    }

    #[test]
    fn the_name_of_a_lease_has_two_parts() {
        assert!("system/robotosecret".parse::<LeaseName>().is_ok());
        for wrong in ["", "robotosecret", "/robotosecret", "system/", "a/b/c", "System/x", "a/b?c"] {
            assert!(wrong.parse::<LeaseName>().is_err(), "{wrong}");
        }
    }
}
