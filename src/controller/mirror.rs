//! The main job, for one resource at a time: plan its references, read them, render the keys, mirror them, write the status.
//!
//! A `RobotoSecret` enters; its Secret and status are written, and when to look again leaves. All or nothing: if any reference
//! fails, nothing is written and the last good Secret stays. A resource that did not change and is not due makes no request at all.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::OwnerReference, jiff::Timestamp};
use kube::{Client, Resource, ResourceExt, runtime::controller::Action};
use tokio::time::Instant;

use super::{
    cache::{Key, Resources, Secrets, Standing, Standings, fingerprint},
    decide::{Decision, Pause, Situation, Why, decide},
    drift::{Drift, Expected, Ownership, Seen, first_apply_changed_nothing, is_older, judge, ownership},
    events::Events,
    plan::{InvalidSpec, Plan},
    providers::{Admitted, Providers, answered_otherwise},
    schedule,
    status::{self, Failure, Mirrored, Notice, Outcome},
    target::{Look, Target, TargetError, Wanted},
};
use crate::{
    api::{MANAGED_LABEL, OWNER_ANNOTATION, REFRESH_ANNOTATION, Reason, RobotoSecret, reference::Source},
    provider::{ReadError, Reading},
    telemetry::Metrics,
};

/// How often a write that meets a changed Secret is started again before it waits.
const ATTEMPTS: usize = 3;
/// How soon the watch has brought back what we wrote ourselves.
pub(super) const SOON: Duration = Duration::from_millis(250);
/// How often a resource may be met in an older version than we wrote, [`SOON`] apart, before that counts as its present one.
const LAGGING: u32 = 40;
/// How soon to try again when the status could not be written.
const STATUS_RETRY: Duration = Duration::from_secs(5);
/// How many characters of the refresh annotation are looked at: as many as `status.lastHandledRefresh` takes.
const LONGEST_REFRESH: usize = 256;

/// What all reconciles share.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// The providers.
    pub providers: Providers,
    /// The Secrets that are watched.
    pub secrets: Secrets,
    /// Who cares for what.
    pub resources: Resources,
    /// How each resource stands.
    pub standings: Standings,
    /// Takes events.
    pub events: Events,
    /// Counts.
    pub metrics: Metrics,
    /// How often the time of the last check alone is written, at most.
    pub status_interval: Duration,
}

/// Works on one resource. Never fails: what goes wrong is in its status, and in when it is looked at again.
pub async fn reconcile(resource: &RobotoSecret, context: &Context) -> Action {
    let (Some(namespace), Some(uid)) = (resource.namespace(), resource.uid()) else { return Action::await_change() };
    if resource.meta().deletion_timestamp.is_some() {
        // The Secret goes with its owner, by garbage collection.
        return Action::await_change();
    }
    let key = (namespace, resource.name_any());
    let slot = context.standings.of(&key);
    let mut slot = slot.lock().await;
    let plan = Plan::new(&resource.spec);
    let standing = match slot.take() {
        Some(standing) if standing.uid == uid => slot.insert(standing),
        _ => slot.insert(Standing::new(resource, &uid, plan.as_ref().ok(), Timestamp::now())),
    };
    let lags = is_older(&resource.resource_version().unwrap_or_default(), &standing.resource_version);
    standing.lagging = if lags { standing.lagging + 1 } else { 0 };
    // A watch lags for moments. What stays older was restored from a backup, and counts from there.
    if (1..LAGGING).contains(&standing.lagging) {
        return Action::requeue(SOON);
    }
    let Some(owner) = resource.controller_owner_ref(&()) else { return Action::await_change() };
    let work = Work { resource, context, asked: fingerprint(&resource.spec), wanted: wanted(resource, owner), manager: format!("robotosecret/{}", key.1), key };
    let action = work.run(plan, standing).await;
    context.standings.summarize(&work.key, resource.spec.refresh_policy, standing);
    action
}

/// Writes down that a reconcile panicked or hung, so that the resource says so; it is tried again with growing pauses.
pub async fn record_defect(resource: &RobotoSecret, context: &Context, message: &str) -> Action {
    context.metrics.panicked();
    let key = (resource.namespace().unwrap_or_default(), resource.name_any());
    let slot = context.standings.of(&key);
    let mut slot = slot.lock().await;
    let (Some(standing), Some(owner)) = (slot.as_mut(), resource.controller_owner_ref(&())) else { return Action::requeue(STATUS_RETRY) };
    let work = Work { resource, context, asked: fingerprint(&resource.spec), wanted: wanted(resource, owner), manager: String::new(), key };
    let failure = Failure { reason: Reason::InternalError, message: message.to_owned(), intact: true };
    work.fail(standing, failure, None).await
}

fn wanted(resource: &RobotoSecret, owner: OwnerReference) -> Wanted {
    let target = &resource.spec.target;
    Wanted {
        name: target_name(resource),
        type_: target.type_.clone().unwrap_or_else(|| "Opaque".to_owned()),
        labels: target.labels.clone(),
        annotations: target.annotations.clone(),
        owner,
    }
}

/// The name of the Secret that a resource mirrors into.
#[must_use]
pub fn target_name(resource: &RobotoSecret) -> String {
    resource.spec.target.name.clone().unwrap_or_else(|| resource.name_any())
}

/// One resource at work.
pub(super) struct Work<'w> {
    pub(super) resource: &'w RobotoSecret,
    pub(super) context: &'w Context,
    pub(super) key: Key,
    pub(super) asked: u64,
    pub(super) wanted: Wanted,
    manager: String,
}

/// The target, as far as it is known before anything is read.
pub(super) enum Known {
    /// It was never written by us under this name.
    Never,
    /// It holds what we wrote.
    Intact(Arc<Seen>),
    /// It holds what we wrote, and moved since the last look; whether by our own write or by foreign metadata does not show.
    Moved(Arc<Seen>),
    /// It is there and ours, and does not hold what we wrote; who changed it, if that shows.
    Damaged(Option<String>),
    /// It is gone.
    Missing,
}

impl Known {
    /// Whether nothing that we wrote is known to be damaged. A new name is not: what we wrote stands under the former one.
    pub(super) fn is_intact(&self) -> bool {
        !matches!(self, Self::Damaged(_) | Self::Missing)
    }
}

impl Work<'_> {
    async fn run(&self, plan: Result<Plan, InvalidSpec>, standing: &mut Standing) -> Action {
        if self.resource.spec.suspend {
            return self.settle(standing, &Outcome::Suspended).await;
        }
        let known = match self.known_target(standing).await {
            Ok(known) => known,
            Err(error) => return self.target_failed(standing, &error, false).await,
        };
        let plan = match plan {
            Ok(plan) => plan,
            Err(invalid) => {
                let failure = Failure { reason: Reason::InvalidSpec, message: invalid.to_string(), intact: known.is_intact() };
                return self.fail(standing, failure, None).await;
            }
        };
        let admitted = match self.context.providers.admit(&plan, &self.key.0) {
            Ok(admitted) => admitted,
            Err(error) => {
                standing.refused = true;
                return self.read_failed(standing, &error, known.is_intact()).await;
            }
        };
        match decide(&self.situation(standing, &known, &admitted)) {
            Decision::Read(why) => self.mirror(standing, &plan, &admitted, &known, why).await,
            Decision::Once => self.settle(standing, &Outcome::OnceAgain { same: !self.respecified(standing) }).await,
            Decision::Wait => self.rest(standing, &plan, &known).await,
        }
    }

    fn situation(&self, standing: &Standing, known: &Known, admitted: &[Admitted]) -> Situation {
        let now = Instant::now();
        Situation {
            policy: self.resource.spec.refresh_policy,
            spec_changed: standing.status.observed_generation != self.resource.meta().generation,
            mirrored_once: standing.status.target.is_some(),
            refresh_requested: self.refresh().is_some_and(|refresh| standing.status.last_handled_refresh.as_deref() != Some(refresh)),
            provider_changed: standing.refused || reads_otherwise(standing, admitted),
            intact: known.is_intact(),
            newly_damaged: !known.is_intact() && standing.failing.as_ref().is_some_and(|failing| failing.failure.intact),
            may_repair: standing.repairs.next(now).is_none(),
            failing: standing.failing.as_ref().map(|failing| {
                let released = failing.failure.reason == Reason::TargetNotOwned && !self.is_foreign_to_watch();
                if failing.retry.is_some_and(|retry| retry <= now) || released { Pause::Over } else { Pause::Running }
            }),
            due: standing.due <= now,
        }
    }

    /// Whether the watch sees a Secret of the target's name that belongs to somebody else. Where it sees none, a look must tell.
    fn is_foreign_to_watch(&self) -> bool {
        let seen = self.context.secrets.get(&self.key.0, &self.wanted.name);
        seen.is_some_and(|seen| matches!(ownership(&seen, &self.wanted.owner.name, &self.wanted.owner.uid), Ownership::Foreign(_)))
    }

    /// The value of the refresh annotation, as much of it as a status holds.
    pub(super) fn refresh(&self) -> Option<&str> {
        let value = self.resource.annotations().get(REFRESH_ANNOTATION)?;
        Some(value.char_indices().nth(LONGEST_REFRESH).map_or(value, |(end, _)| &value[..end]))
    }

    pub(super) fn target(&self) -> Target<'_> {
        Target::new(&self.context.client, &self.key.0, &self.manager, &self.context.metrics)
    }

    /// How the target stands, from what the watch saw; asks the API server only where the watch can't tell.
    async fn known_target(&self, standing: &mut Standing) -> Result<Known, TargetError> {
        let Some(was) = standing.status.target.as_ref().filter(|was| was.name == self.wanted.name) else { return Ok(Known::Never) };
        let seen = match self.context.secrets.get(&self.key.0, &self.wanted.name) {
            Some(seen) => seen,
            // It was deleted, or our label was taken off.
            None => match self.target().look(&self.wanted.name, &self.wanted.owner).await? {
                Look::Absent => return Ok(Known::Missing),
                Look::Ours(seen) => Arc::from(seen),
            },
        };
        if let Ownership::Foreign(why) = ownership(&seen, &self.wanted.owner.name, &self.wanted.owner.uid) {
            return Err(TargetError::NotOwned(why));
        }
        let expected = Expected {
            manager: &self.manager,
            uid: &was.uid,
            resource_version: standing.unmoved.as_deref().unwrap_or(&was.resource_version),
            keys: &was.keys,
            key_count: usize::try_from(was.key_count).unwrap_or_default(),
            // What the user just asked for in addition is not there yet; nobody took it away.
            labels: if self.respecified(standing) { vec![MANAGED_LABEL] } else { self.wanted.label_names().collect() },
            annotations: if self.respecified(standing) { vec![OWNER_ANNOTATION] } else { self.wanted.annotation_names().collect() },
            tolerated: &standing.tolerated,
        };
        Ok(match judge(&seen, (&self.wanted.owner.name, &self.wanted.owner.uid), &expected) {
            Drift::None => {
                standing.tolerated = seen.tolerable(&self.manager, Timestamp::now().as_second());
                Known::Intact(seen)
            }
            Drift::ForeignMetadata => {
                // Until the first good read of this process it may also be the write of a predecessor that died before it wrote the status.
                if standing.checked {
                    standing.unmoved = Some(seen.resource_version.clone());
                }
                Known::Moved(seen)
            }
            Drift::Damaged(by) => Known::Damaged(by),
        })
    }

    /// Whether the spec asks for something else than was last mirrored, as far as is known.
    fn respecified(&self, standing: &Standing) -> bool {
        standing.asked != Some(self.asked)
    }

    async fn mirror(&self, standing: &mut Standing, plan: &Plan, admitted: &[Admitted], known: &Known, why: Why) -> Action {
        let mut look = match known {
            Known::Intact(seen) | Known::Moved(seen) => Some(Look::Ours(Box::new(Seen::clone(seen)))),
            // If something is there after all, making it anew is refused and the next attempt looks.
            Known::Never if standing.failing.is_none() && self.context.secrets.get(&self.key.0, &self.wanted.name).is_none() => Some(Look::Absent),
            _ => None,
        };
        for _ in 0..ATTEMPTS {
            let result = match look.take() {
                Some(look) => self.attempt(standing, plan, admitted, known, &look).await,
                // The look comes before the store is read, so that an old value can't go over a newer write.
                None => match self.target().look(&self.wanted.name, &self.wanted.owner).await {
                    Ok(look) => self.attempt(standing, plan, admitted, known, &look).await,
                    Err(error) => Err(Trouble::Target(error)),
                },
            };
            if !matches!(result, Err(Trouble::Target(TargetError::Changed))) {
                // A change of the providers has had its try, whatever came of it: from here on the pauses hold.
                standing.refused = false;
                standing.tried_through = admitted.to_vec();
            }
            match result {
                Ok((mirrored, wrote)) => {
                    if wrote {
                        standing.unmoved = None;
                        standing.tolerated = mirrored.target.tolerable(&self.manager, Timestamp::now().as_second());
                    }
                    return self.mirrored(standing, plan, mirrored, why).await;
                }
                Err(Trouble::Target(TargetError::Changed)) => {}
                Err(Trouble::Leaving) => return Action::await_change(),
                Err(Trouble::Target(error)) => return self.target_failed(standing, &error, known.is_intact()).await,
                Err(Trouble::Read(error)) => return self.read_failed(standing, &error, known.is_intact()).await,
            }
        }
        Action::requeue(SOON * 4)
    }

    /// Reads, renders and writes, against the Secret as it was looked at. Tells besides whether there was anything to write.
    async fn attempt(&self, standing: &Standing, plan: &Plan, admitted: &[Admitted], known: &Known, look: &Look) -> Result<(Mirrored, bool), Trouble> {
        let readings = self.read(plan, admitted).await?;
        let values: Vec<_> = readings.iter().map(|reading| (&reading.value, reading.keypath.as_slice())).collect();
        let data = plan.render(&values).map_err(|failure| ReadError::new(failure.reason(), failure.to_string()))?;
        let sources: Vec<_> = plan.sources.iter().zip(&readings).map(|(planned, reading)| (planned.source.to_string(), reading.version.clone())).collect();
        let keys: Vec<String> = data.keys().cloned().collect();
        // Not the generation: a changed spec that could not be carried out is an observed one, too.
        let respecified = self.respecified(standing);
        if let (Known::Intact(seen) | Known::Moved(seen), Some(was), false) = (known, &standing.status.target, respecified)
            && status::same_versions(&standing.status, &sources)
        {
            // What moved without touching what is ours is not worth a status write.
            let target = Seen { resource_version: was.resource_version.clone(), ..Seen::clone(seen) };
            return Ok((Mirrored { target, keys, sources, moved: false, respecified, repaired: None }, false));
        }
        // A permission may have been taken back while the store was read.
        self.context.providers.admit(plan, &self.key.0)?;
        if let Look::Ours(seen) = look
            && seen.controller.is_none()
            && !self.target().owner_stays(&self.wanted.owner).await?
        {
            // It is just being orphaned: our reference to a resource that is gone would have it removed.
            return Err(Trouble::Leaving);
        }
        let target = self.target().put(&self.wanted, &data, look).await?;
        self.context.secrets.put(&self.key.0, target.clone());
        let was_right = matches!(look, Look::Ours(seen) if seen.uid == target.uid && seen.resource_version == target.resource_version);
        let repaired = match known {
            Known::Damaged(by) if !was_right => Some(by.clone()),
            Known::Missing => Some(None),
            Known::Never | Known::Intact(_) | Known::Moved(_) | Known::Damaged(_) => None,
        };
        let same = match look {
            Look::Ours(seen) if seen.uid == target.uid && seen.resource_version == target.resource_version => true,
            Look::Ours(seen) => first_apply_changed_nothing(seen, &target, &self.manager),
            Look::Absent => false,
        };
        let moved = !same || !matches!(known, Known::Intact(_));
        Ok((Mirrored { target, keys, sources, moved, respecified, repaired }, true))
    }

    /// Reads each distinct source once. Any failure fails the whole; a lasting one is told before a passing one.
    async fn read(&self, plan: &Plan, admitted: &[Admitted]) -> Result<Vec<Reading>, ReadError> {
        let namespace = self.key.0.as_str();
        let mut answers: Vec<Option<Result<Reading, ReadError>>> = plan.sources.iter().map(|_| None).collect();
        while let Some(first) = answers.iter().position(Option::is_none) {
            let through = &admitted[first];
            // All that goes through the same provider, in one call of it.
            let group: Vec<usize> =
                (first..plan.sources.len()).filter(|&i| answers[i].is_none() && plan.sources[i].provider == plan.sources[first].provider).collect();
            let sources: Vec<Source> = group.iter().map(|&i| plan.sources[i].source.clone()).collect();
            let may_read = |reference: &str| through.may_read(namespace, reference);
            let read = through.provider.read(&sources, &may_read).await;
            for (&i, answer) in group.iter().zip(read) {
                let denied = |reference: &String| !through.may_read(namespace, reference);
                answers[i] = Some(answer.and_then(|reading| match reading.denotes.iter().find(|reference| denied(reference)) {
                    // That name is not told: what the provider doesn't allow is not the reader's to know.
                    Some(_) => Err(answered_otherwise(&plan.sources[i].provider.name, namespace, &plan.sources[i].source.to_string())),
                    None => Ok(reading),
                }));
            }
            // A provider that answers short has a defect; its missing answers must not be asked for without end.
            for &i in &group {
                answers[i]
                    .get_or_insert_with(|| Err(ReadError::new(Reason::InternalError, format!("{}: the provider gave no answer", plan.sources[i].source))));
            }
        }
        let (readings, errors): (Vec<_>, Vec<_>) = answers.into_iter().flatten().partition(Result::is_ok);
        let passing = |error: &ReadError| matches!(error.reason, Reason::Throttled | Reason::ProviderUnavailable);
        let worst = errors.into_iter().filter_map(Result::err).min_by_key(passing);
        worst.map_or_else(|| Ok(readings.into_iter().flatten().collect()), Err)
    }

    async fn mirrored(&self, standing: &mut Standing, plan: &Plan, mirrored: Mirrored, why: Why) -> Action {
        let now = Timestamp::now();
        standing.last_check = Some(now);
        standing.failing = None;
        let since_epoch = Duration::try_from(now.duration_since(Timestamp::UNIX_EPOCH)).unwrap_or_default();
        standing.due = Instant::now() + schedule::until_recheck(&standing.uid, plan.ttl, since_epoch);
        tracing::debug!(namespace = self.key.0, name = self.key.1, ?why, "checked");
        if why == Why::Drift
            && standing.repairs.made(Instant::now())
            && let Some(culprit) = &mirrored.repaired
        {
            let who = culprit.as_deref().unwrap_or("somebody");
            let note =
                format!("{who} keeps changing the Secret {}; it is put right again ever more slowly. Let one of the two manage it", mirrored.target.name);
            self.context.events.publish(Notice { warning: true, reason: "DriftFight", action: "Repair", note }, self.resource);
        }
        self.settle(standing, &Outcome::Mirrored(Box::new(mirrored))).await
    }
}

/// Whether the providers changed since the last try in a way that can make a difference: their addresses, region or identity, or,
/// after they did not allow what the store answered, their rules.
fn reads_otherwise(standing: &Standing, admitted: &[Admitted]) -> bool {
    let denied = standing.failing.as_ref().is_some_and(|failing| failing.failure.reason == Reason::NotAllowed);
    let differs = |was: &Admitted, is: &Admitted| !Arc::ptr_eq(&was.provider, &is.provider) || (denied && was.rules != is.rules);
    let was = &standing.tried_through;
    !was.is_empty() && (was.len() != admitted.len() || was.iter().zip(admitted).any(|(was, is)| differs(was, is)))
}

/// Why nothing was mirrored.
enum Trouble {
    Read(ReadError),
    Target(TargetError),
    /// The resource is being deleted, which the watch has not told yet.
    Leaving,
}

impl From<ReadError> for Trouble {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<TargetError> for Trouble {
    fn from(error: TargetError) -> Self {
        Self::Target(error)
    }
}
