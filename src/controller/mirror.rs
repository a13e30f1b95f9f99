//! The main job, for one resource at a time: plan its references, read them, render the keys, mirror them, write the status.
//!
//! A `RobotoSecret` enters; its Secret and status are written, and when to look again leaves. All or nothing: if any reference
//! fails, nothing is written and the last good Secret stays. Nobody waits here for a store: what is to be read is asked of the reader,
//! and the resource is looked at again when the answers are there. A resource that did not change makes no request at all.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::OwnerReference, jiff::Timestamp};
use kube::{Client, Resource, ResourceExt};
use tokio::time::Instant;

use super::{
    asking::{expected, reads_otherwise, services},
    cache::{Key, Reading, Resources, Secrets, Standing, Standings, fingerprint, target_name},
    decide::{Decision, Pause, Situation, Why, decide},
    drift::{Drift, Expected, Ownership, Seen, first_apply_changed_nothing, is_older, judge, ownership},
    events::Events,
    plan::{InvalidSpec, Plan, PlannedSource},
    providers::{Admitted, Providers},
    queue::{Next, Queue},
    rollout::Rollouts,
    status::{self, Failure, Mirrored, Notice, Outcome},
    target::{Look, Target, TargetError, Wanted},
    tellings::Tellings,
};
use crate::{
    api::{
        MANAGED_LABEL, OWNER_ANNOTATION, REFRESH_ANNOTATION, Reason, RobotoSecret,
        reference::{Source, Store},
        robotosecret::RefreshPolicy,
    },
    provider::{ReadError, ServedVersion},
    reader::{self, Answer, News, Reader, Since},
    telemetry::Metrics,
};

/// How often a write that meets a changed Secret is started again before it waits.
const ATTEMPTS: usize = 3;
/// How soon the watch has brought back what we wrote ourselves.
pub(super) const SOON: Duration = Duration::from_millis(250);
/// How often a resource may be met in an older version than we wrote, [`SOON`] apart, before that counts as its present one.
const LAGGING: u32 = 40;
/// How soon to try again when the status could not be written.
pub(super) const STATUS_RETRY: Duration = Duration::from_secs(5);
/// For how long a version that was just replaced is not believed at once: the store may answer with either for a while.
const UNSETTLED: Duration = Duration::from_mins(2);
/// After how long a version that is not believed is read again.
const SECOND_READ: Duration = Duration::from_secs(5);
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
    /// Which resource is looked at next.
    pub queue: Queue,
    /// Reads the stores.
    pub reader: Arc<Reader>,
    /// Whose time of the last check is written next.
    pub tellings: Tellings,
    /// Which workloads are restarted next.
    pub rollouts: Rollouts,
    /// Whether workloads may be restarted at all.
    pub allow_rollout: bool,
    /// Takes events.
    pub events: Events,
    /// Counts.
    pub metrics: Metrics,
    /// How often the time of the last check alone is written, at most.
    pub status_interval: Duration,
}

/// Works on one resource. Never fails: what goes wrong is in its status, and in when it is looked at again.
pub async fn reconcile(key: &Arc<Key>, resource: &RobotoSecret, context: &Context) -> Next {
    let Some(uid) = resource.uid() else { return Next::OnChange };
    if resource.meta().deletion_timestamp.is_some() {
        // The Secret goes with its owner, by garbage collection.
        return Next::OnChange;
    }
    let slot = context.standings.of(key);
    let mut slot = slot.lock().await;
    if slot.as_ref().is_some_and(|standing| standing.uid != uid) {
        context.reader.forget(key);
    }
    let plan = Plan::new(&resource.spec);
    let standing = match slot.take() {
        Some(standing) if standing.uid == uid => slot.insert(standing),
        _ => slot.insert(Standing::new(resource, &uid, plan.as_ref().ok(), Timestamp::now())),
    };
    context.resources.drop_status(key);
    let lags = is_older(&resource.resource_version().unwrap_or_default(), &standing.resource_version);
    standing.lagging = if lags { standing.lagging + 1 } else { 0 };
    // A watch lags for moments. What stays older was restored from a backup, and counts from there.
    if (1..LAGGING).contains(&standing.lagging) {
        return Next::In(SOON);
    }
    let Some(owner) = resource.controller_owner_ref(&()) else { return Next::OnChange };
    let work = Work {
        resource,
        context,
        asked: fingerprint(&resource.spec),
        wanted: wanted(resource, owner),
        manager: format!("robotosecret/{}", key.1),
        key: key.clone(),
    };
    let action = work.run(plan, standing).await;
    let action = work.roll_out(standing, action).await;
    context.standings.summarize(&work.key, resource.spec.refresh_policy, standing);
    action
}

/// Writes down that a reconcile panicked or hung, so that the resource says so; it is tried again with growing pauses.
pub async fn record_defect(key: &Arc<Key>, resource: &RobotoSecret, context: &Context, message: &str) -> Next {
    context.metrics.panicked();
    let slot = context.standings.of(key);
    let mut slot = slot.lock().await;
    let (Some(standing), Some(owner)) = (slot.as_mut(), resource.controller_owner_ref(&())) else { return Next::In(STATUS_RETRY) };
    let work = Work { resource, context, asked: fingerprint(&resource.spec), wanted: wanted(resource, owner), manager: String::new(), key: key.clone() };
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

/// One resource at work.
pub(super) struct Work<'w> {
    pub(super) resource: &'w RobotoSecret,
    pub(super) context: &'w Context,
    pub(super) key: Arc<Key>,
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
    async fn run(&self, plan: Result<Plan, InvalidSpec>, standing: &mut Standing) -> Next {
        if let Some(checked) = self.context.reader.last_check(&self.key) {
            standing.last_check = standing.last_check.max(Some(checked));
            standing.checked = true;
        }
        if self.resource.spec.suspend {
            self.stop_reading(standing);
            return self.settle(standing, &Outcome::Suspended).await;
        }
        let known = match self.known_target(standing).await {
            Ok(known) => known,
            Err(error) => {
                self.stop_reading(standing);
                return self.target_failed(standing, &error, false).await;
            }
        };
        let plan = match plan {
            Ok(plan) => plan,
            Err(invalid) => {
                self.stop_reading(standing);
                let failure = Failure { reason: Reason::InvalidSpec, message: invalid.to_string(), intact: known.is_intact() };
                return self.fail(standing, failure, None).await;
            }
        };
        let admitted = match self.context.providers.admit(&plan, &self.key.0) {
            Ok(admitted) => admitted,
            Err(error) => {
                self.stop_reading(standing);
                let first = !std::mem::replace(&mut standing.refused, true);
                if first && error.reason == Reason::ProviderNotFound {
                    // One that was made together with the resource may come by its own watch a moment later.
                    return Next::In(SOON * 4);
                }
                return self.read_failed(standing, &error, known.is_intact()).await;
            }
        };
        if standing.reading.as_ref().is_some_and(|reading| self.is_for_this(reading, &admitted)) {
            match (self.context.reader.take(&self.key), standing.reading.take()) {
                (Some(answers), Some(reading)) => return self.mirror(standing, &plan, &admitted, &known, reading, answers).await,
                (None, reading) if self.context.reader.waits(&self.key) => {
                    standing.reading = reading;
                    return self.next_look(standing);
                }
                // The reader knows nothing of it any more: it is asked anew.
                _ => {}
            }
        } else if standing.reading.take().is_some() {
            // Nobody would take those answers.
            self.context.reader.unask(&self.key);
        }
        standing.services = services(&admitted);
        if self.resource.spec.refresh_policy != RefreshPolicy::Ttl && self.context.reader.watches(&self.key) {
            self.context.reader.unwatch(&self.key);
        }
        let news = self.context.reader.news(&self.key);
        standing.changed |= matches!(news, Some(News::Changed));
        match (decide(&self.situation(standing, &known, &admitted, news.as_ref())), news) {
            (Decision::Read(why), _) => self.ask(standing, &admitted, &known, why, 0).await,
            (Decision::Once, _) => self.settle(standing, &Outcome::OnceAgain { same: !self.respecified(standing) }).await,
            (Decision::Wait, Some(News::Failed(error))) if standing.failing.is_none() => self.read_failed(standing, &error, known.is_intact()).await,
            (Decision::Wait, _) => {
                if self.resource.spec.refresh_policy == RefreshPolicy::Ttl && standing.failing.is_none() && !self.context.reader.watches(&self.key) {
                    self.watch_again(standing, &plan, &admitted);
                }
                self.rest(standing, &plan, &known).await
            }
        }
    }

    fn situation(&self, standing: &Standing, known: &Known, admitted: &[Admitted], news: Option<&News>) -> Situation {
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
                let recovered = failing.failure.reason.is_passing() && matches!(news, Some(News::Recovered));
                if failing.retry.is_some_and(|retry| retry <= now) || released || recovered { Pause::Over } else { Pause::Running }
            }),
            changed: standing.changed && standing.doubt.is_none_or(|until| until <= now),
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
                if standing.checked && !standing.untold {
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

    async fn mirror(&self, standing: &mut Standing, plan: &Plan, admitted: &[Admitted], known: &Known, reading: Reading, answers: Vec<Answer>) -> Next {
        let Reading { why, look, attempts, .. } = reading;
        let result = self.attempt(standing, plan, admitted, known, &look, &answers).await;
        // From here on the values are not needed any more.
        let expected = expected(&answers);
        drop(answers);
        self.context.reader.poke();
        if !matches!(result, Err(Trouble::Target(TargetError::Changed))) {
            // A change of the providers has had its try, whatever came of it: from here on the pauses hold.
            standing.refused = false;
            standing.tried_through = admitted.iter().map(|admitted| admitted.through.clone()).collect();
        }
        match result {
            Ok((mirrored, wrote)) => {
                if wrote {
                    standing.unmoved = None;
                    standing.tolerated = mirrored.target.tolerable(&self.manager, Timestamp::now().as_second());
                }
                self.mirrored(standing, plan, admitted, mirrored, expected, why).await
            }
            Err(Trouble::Target(TargetError::Changed)) if attempts + 1 < ATTEMPTS => self.ask(standing, admitted, known, why, attempts + 1).await,
            Err(Trouble::Target(TargetError::Changed)) => Next::In(SOON * 4),
            Err(Trouble::Leaving) => Next::OnChange,
            Err(Trouble::Doubt) => {
                tracing::debug!(namespace = self.key.0, name = self.key.1, "the store answers with a version that was just replaced; reading again in 5 s");
                standing.doubt = Some(Instant::now() + SECOND_READ);
                standing.changed = true;
                self.next_look(standing)
            }
            Err(Trouble::Target(error)) => self.target_failed(standing, &error, known.is_intact()).await,
            Err(Trouble::Read(error)) => self.read_failed(standing, &error, known.is_intact()).await,
        }
    }

    /// Renders and writes, against the Secret as it was looked at. Tells besides whether there was anything to write.
    async fn attempt(
        &self,
        standing: &mut Standing,
        plan: &Plan,
        admitted: &[Admitted],
        known: &Known,
        look: &Look,
        answers: &[Answer],
    ) -> Result<(Mirrored, bool), Trouble> {
        let readings = self.readings(plan, admitted, answers)?;
        let values: Vec<_> = readings.iter().map(|(held, keypath)| (&held.reading().value, *keypath)).collect();
        let data = plan.render(&values).map_err(|failure| ReadError::new(failure.reason(), failure.to_string()))?;
        let sources: Vec<_> =
            plan.sources.iter().zip(&readings).map(|(planned, (held, _))| (planned.source.to_string(), held.reading().version.clone())).collect();
        let keys: Vec<String> = data.keys().cloned().collect();
        // Not the generation: a changed spec that could not be carried out is an observed one, too.
        let respecified = self.respecified(standing);
        if let (Known::Intact(seen) | Known::Moved(seen), Some(was), false) = (known, &standing.status.target, respecified)
            && !standing.untold
            && status::same_versions(&standing.status, &sources)
        {
            // What moved without touching what is ours is not worth a status write.
            let target = Seen { resource_version: was.resource_version.clone(), ..Seen::clone(seen) };
            return Ok((Mirrored { target, keys, sources, moved: false, rewritten: false, respecified, repaired: None }, false));
        }
        let in_doubt = |(planned, (uri, version)): (&PlannedSource, &(String, ServedVersion))| {
            is_outdated(standing, &planned.source, uri, version) || (standing.doubt.is_none() && was_just_replaced(standing, uri, version))
        };
        if plan.sources.iter().zip(&sources).any(in_doubt) {
            return Err(Trouble::Doubt);
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
        standing.untold = true;
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
        Ok((Mirrored { target, keys, sources, moved, rewritten: !same, respecified, repaired }, true))
    }

    async fn mirrored(
        &self,
        standing: &mut Standing,
        plan: &Plan,
        admitted: &[Admitted],
        mirrored: Mirrored,
        expected: Vec<reader::Expected>,
        why: Why,
    ) -> Next {
        standing.last_check = Some(Timestamp::now());
        standing.failing = None;
        standing.changed = false;
        standing.doubt = None;
        let now = Instant::now();
        standing.replaced.retain(|(_, _, when)| now.duration_since(*when) < UNSETTLED);
        let mut changed = false;
        for (uri, version) in &mirrored.sources {
            if let Some(was) = status::version_of(&standing.status, uri).filter(|was| was != version) {
                standing.replaced.push((uri.clone(), was, now));
                changed = true;
            }
        }
        if self.resource.spec.refresh_policy == RefreshPolicy::Ttl {
            self.watch(plan, admitted, expected, Since::Now { changed });
        } else {
            self.context.reader.unwatch(&self.key);
        }
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

/// Whether this is certainly older than what was mirrored lately: a parameter's versions go only forward, unless one is asked for.
fn is_outdated(standing: &Standing, source: &Source, uri: &str, version: &ServedVersion) -> bool {
    let now = Instant::now();
    let changed_lately = standing.replaced.iter().any(|(changed, _, when)| changed == uri && now.duration_since(*when) < UNSETTLED);
    let time = |version: &ServedVersion| version.created.as_deref().and_then(|created| created.parse::<Timestamp>().ok());
    let older = || status::version_of(&standing.status, uri).is_some_and(|mirrored| time(version) < time(&mirrored));
    source.store == Store::ParameterStore && source.version.is_none() && changed_lately && older()
}

/// Whether this is the version that a source had right before the present one, until lately.
fn was_just_replaced(standing: &Standing, uri: &str, version: &ServedVersion) -> bool {
    let now = Instant::now();
    standing.replaced.iter().any(|(source, was, when)| source == uri && was == version && now.duration_since(*when) < UNSETTLED)
}

/// Why nothing was mirrored.
enum Trouble {
    Read(ReadError),
    Target(TargetError),
    /// The resource is being deleted, which the watch has not told yet.
    Leaving,
    /// The store answers with a version that was just replaced.
    Doubt,
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
