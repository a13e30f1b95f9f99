//! The main job, for one resource at a time: plan its references, read them, render the keys, mirror them, write the status.
//!
//! A `RobotoSecret` enters; its Secret and status are written, and when to look again leaves. All or nothing: if any reference
//! fails, nothing is written and the last good Secret stays. Nobody waits here for a store: what is to be read is asked of the reader,
//! and the resource is looked at again when the answers are there. A resource that did not change makes no request at all.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::OwnerReference, jiff::Timestamp};
use kube::{Client, Resource, ResourceExt};
use tokio::time::Instant;

use super::{
    absence,
    asking::{expected, reads_otherwise, services},
    cache::{Asked, FirstRound, Key, Reading, Resources, Secrets, Standing, Standings, fingerprint, target_name},
    compose::{self, ComposeError},
    decide::{Decision, Pause, Situation, Why, decide},
    drift::{self, Claim, DATA_FIELD, Drift, MANAGER_PREFIX, Ownership, Seen, first_apply_changed_nothing, is_older, judge, ownership},
    events::Events,
    fan_out::FanOut,
    finalizer::is_held,
    gather::{Gathered, Need},
    namespaces::NamespaceCache,
    plan::{InvalidSpec, Plan},
    providers::{Admitted, Providers},
    push::Pushes,
    queue::{Next, Queue},
    rollout::Rollouts,
    schedule,
    served::{self, Previous, Served},
    status::{Failure, Mirrored, Notice, Outcome},
    target::{Look, Target, TargetError, Wanted},
    tellings::Tellings,
    templates::{ConfigMaps, Texts},
};
use crate::{
    api::{
        MANAGED_LABEL, REFRESH_ANNOTATION, Reason, RobotoSecret,
        reference::{Reference, Store},
        robotosecret::{CreationPolicy, DeletionPolicy, RefreshPolicy},
    },
    provider::{Question, ReadError, ServedVersion},
    reader::{Answer, Expected, News, Reader, Since},
    render::template::Provenance,
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
/// How often a target that nothing watches is looked at: once a TTL, but not more often than this,
const LOOK_MOST: Duration = Duration::from_mins(1);
/// and not less often than this.
const LOOK_LEAST: Duration = Duration::from_mins(5);
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
    /// What is fanned out.
    pub fan_out: FanOut,
    /// What is pushed.
    pub pushes: Pushes,
    /// The labels of namespaces.
    pub namespaces: Arc<NamespaceCache>,
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
    /// The templates that are kept in ConfigMaps.
    pub config_maps: ConfigMaps,
    /// Whether workloads may be restarted at all.
    pub allow_rollout: bool,
    /// Whether Secrets may be written, and not read: nothing watches them then.
    pub confined: bool,
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
    let leaves = resource.meta().deletion_timestamp.is_some();
    if leaves && !is_held(resource) {
        // The Secret goes with its owner, by garbage collection, or stays.
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
        manager: format!("{MANAGER_PREFIX}{}", key.1),
        key: key.clone(),
    };
    if leaves {
        return work.leave(standing).await;
    }
    let action = match work.hold(plan.is_ok(), standing).await {
        Some(next) => next,
        None => work.run(plan, standing).await,
    };
    let action = work.roll_out(standing, action).await;
    context.standings.summarize(&work.key, resource.spec.refresh_policy == RefreshPolicy::Ttl && !resource.spec.suspend, standing);
    action
}

/// Writes down that a reconcile panicked or hung, so that the resource says so; it is tried again with growing pauses.
pub async fn record_defect(key: &Arc<Key>, resource: &RobotoSecret, context: &Context, message: &str) -> Next {
    context.metrics.panicked();
    let slot = context.standings.of(key);
    let mut slot = slot.lock().await;
    let (Some(standing), Some(owner)) = (slot.as_mut(), resource.controller_owner_ref(&())) else { return Next::In(STATUS_RETRY) };
    let work = Work { resource, context, asked: fingerprint(&resource.spec), wanted: wanted(resource, owner), manager: String::new(), key: key.clone() };
    let failure = Failure::new(Reason::InternalError, message, true);
    work.fail(standing, failure, None).await
}

fn wanted(resource: &RobotoSecret, owner: OwnerReference) -> Wanted {
    let target = &resource.spec.target;
    let metadata = target.template.as_ref().and_then(|template| template.metadata.clone()).unwrap_or_default();
    // What templates make of these is filled in once they are rendered; that they are to be there is known before.
    let named = |own: &BTreeMap<String, String>, templated: BTreeMap<String, String>| templated.into_iter().chain(own.clone()).collect();
    Wanted {
        name: target_name(resource),
        policy: target.creation_policy,
        type_: target.type_.clone().unwrap_or_else(|| "Opaque".to_owned()),
        labels: named(&target.labels, metadata.labels),
        annotations: named(&target.annotations, metadata.annotations),
        owner,
    }
}

/// One resource at work.
pub(super) struct Work<'w> {
    pub(super) resource: &'w RobotoSecret,
    pub(super) context: &'w Context,
    pub(super) key: Arc<Key>,
    pub(super) asked: Asked,
    pub(super) wanted: Wanted,
    pub(super) manager: String,
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

/// What is known of a resource before anything is read.
pub(super) struct Ground {
    pub(super) plan: Plan,
    pub(super) admitted: Vec<Admitted>,
    pub(super) known: Known,
    /// The templates that are kept in ConfigMaps.
    texts: Result<Texts, ReadError>,
}

impl Known {
    /// Whether nothing that we wrote is known to be damaged. A new name is not: what we wrote stands under the former one.
    pub(super) fn is_intact(&self) -> bool {
        !matches!(self, Self::Damaged(_) | Self::Missing)
    }

    /// What is there, if it moved without losing what we wrote.
    const fn moved(&self) -> Option<&Arc<Seen>> {
        if let Self::Moved(seen) = self { Some(seen) } else { None }
    }
}

impl Work<'_> {
    async fn run(&self, plan: Result<Plan, InvalidSpec>, standing: &mut Standing) -> Next {
        if let Some(checked) = self.context.reader.last_check(&self.key) {
            standing.last_check = standing.last_check.max(Some(checked));
            standing.checked = true;
        }
        // A clock that was ahead and was put right: it was now at the latest.
        standing.last_check = standing.last_check.map(|time| time.min(Timestamp::now()));
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
                let failure = Failure { stalled: true, ..Failure::new(invalid.reason, invalid.to_string(), known.is_intact()) };
                return self.fail(standing, failure, None).await;
            }
        };
        let admitted = match self.context.providers.admit(&plan, &self.key) {
            Ok(admitted) => admitted,
            Err(error) => {
                self.stop_reading(standing);
                let first = !std::mem::replace(&mut standing.refused, true);
                if first && error.reason == Reason::ProviderNotFound {
                    // One that was made together with the resource may come by its own watch a moment later.
                    return Next::In(SOON * 4);
                }
                if error.reason == Reason::NotAllowed && self.is_taken_back(standing, &plan) {
                    return self.take_back(standing, &error).await;
                }
                return self.read_failed(standing, &error, known.is_intact()).await;
            }
        };
        let from = plan.template.as_ref().map_or(&[][..], |template| &template.from);
        let texts = self.context.config_maps.texts(&self.context.client, &self.key.0, from).await;
        if let Err(error) = &texts
            && !(self.resource.spec.refresh_policy == RefreshPolicy::Once && standing.status.target.is_some() && known.is_intact())
        {
            standing.tried_with = None;
            return self.read_failed(standing, error, known.is_intact()).await;
        }
        let ground = Ground { plan, admitted, known, texts };
        if standing.reading.as_ref().is_some_and(|reading| self.is_for_this(reading, &ground.admitted)) {
            match (self.context.reader.take(&self.key), standing.reading.take()) {
                (Some(answers), Some(reading)) => return self.mirror(standing, &ground, *reading, answers).await,
                (None, reading) if self.context.reader.waits(&self.key) => {
                    standing.reading = reading;
                    return self.wait_on(standing, ground.known.is_intact()).await;
                }
                // The reader knows nothing of it any more: it is asked anew.
                _ => {}
            }
        } else if standing.reading.take().is_some() {
            // Nobody would take those answers.
            self.context.reader.unask(&self.key);
        }
        standing.services = services(&ground.admitted);
        if self.resource.spec.refresh_policy != RefreshPolicy::Ttl && self.context.reader.watches(&self.key) {
            self.context.reader.unwatch(&self.key);
        }
        let news = self.context.reader.news(&self.key);
        standing.changed |= matches!(news, Some(News::Changed));
        match (decide(&self.situation(standing, &ground, news.as_ref())), news) {
            (Decision::Read(why), _) => self.ask(standing, &ground, why, 0).await,
            (Decision::Once, _) => {
                // What the former spec left open is not to mirror this one.
                (standing.doubt, standing.relook) = (None, None);
                self.settle(standing, &Outcome::OnceAgain { same: !self.respecified(standing) }).await
            }
            (Decision::Wait, Some(News::Failed(error))) if standing.failing.is_none() => self.read_failed(standing, &error, ground.known.is_intact()).await,
            (Decision::Wait, _) => {
                if self.resource.spec.refresh_policy == RefreshPolicy::Ttl && standing.failing.is_none() && !self.context.reader.watches(&self.key) {
                    self.watch_again(standing, &ground);
                }
                self.rest(standing, &ground).await
            }
        }
    }

    fn situation(&self, standing: &Standing, ground: &Ground, news: Option<&News>) -> Situation {
        let Ground { admitted, known, texts, .. } = ground;
        let now = Instant::now();
        Situation {
            policy: self.resource.spec.refresh_policy,
            spec_changed: standing.status.observed_generation != self.resource.meta().generation,
            mirrored_once: standing.status.target.is_some(),
            refresh_requested: self.refresh().is_some_and(|refresh| standing.status.last_handled_refresh.as_deref() != Some(refresh)),
            provider_changed: standing.refused || reads_otherwise(standing, admitted),
            retemplated: texts.as_ref().is_ok_and(|texts| texts.hash != standing.tried_with),
            intact: known.is_intact(),
            newly_damaged: !known.is_intact() && standing.failing.as_ref().is_some_and(|failing| failing.failure.intact),
            may_repair: standing.repairs.next(now).is_none(),
            failing: standing.failing.as_ref().map(|failing| {
                let released = failing.failure.reason == Reason::TargetNotOwned && !self.is_foreign_to_watch();
                let recovered = failing.failure.reason.is_passing() && matches!(news, Some(News::Recovered));
                if failing.retry.is_some_and(|retry| retry <= now) || released || recovered { Pause::Over } else { Pause::Running }
            }),
            changed: standing.changed && standing.doubt.is_none_or(|until| until <= now),
            unfinished: standing.doubt.into_iter().chain(standing.relook).any(|when| when <= now),
        }
    }

    /// Whether the watch sees a Secret of the target's name that belongs to somebody else. Where it sees none, a look must tell.
    fn is_foreign_to_watch(&self) -> bool {
        let seen = self.context.secrets.get(&self.key.0, &self.wanted.name);
        seen.is_some_and(|seen| matches!(ownership(&seen, &self.claim()), Ownership::Foreign(_)))
    }

    /// The value of the refresh annotation, as much of it as a status holds.
    pub(super) fn refresh(&self) -> Option<&str> {
        let value = self.resource.annotations().get(REFRESH_ANNOTATION)?;
        Some(value.char_indices().nth(LONGEST_REFRESH).map_or(value, |(end, _)| &value[..end]))
    }

    pub(super) fn target(&self) -> Target<'_> {
        Target::new(&self.context.client, &self.key.0, self.claim(), self.context.confined, &self.context.metrics)
    }

    /// Who asks for the target, and what for.
    pub(super) fn claim(&self) -> Claim<'_> {
        let owner = &self.wanted.owner;
        Claim { name: &owner.name, uid: &owner.uid, manager: &self.manager, policy: self.wanted.policy, merged: is_held(self.resource) }
    }

    /// How the target stands, from what the watch saw; asks the API server only where the watch can't tell.
    async fn known_target(&self, standing: &mut Standing) -> Result<Known, TargetError> {
        let Some(was) = standing.status.target.as_ref().filter(|was| was.name == self.wanted.name) else { return Ok(Known::Never) };
        if self.until_look(standing).is_some_and(|wait| wait.is_zero()) {
            standing.looked = Some(Instant::now());
            self.context.secrets.forget(&self.key.0, &self.wanted.name);
        }
        let seen = match self.context.secrets.get(&self.key.0, &self.wanted.name) {
            Some(seen) => seen,
            // It was deleted, or our label was taken off, or nothing watches it.
            None => match self.target().look(&self.wanted.name).await? {
                Look::Absent => return Ok(Known::Missing),
                Look::Ours(seen) => {
                    if self.context.confined {
                        self.context.secrets.put(&self.key.0, Seen::clone(&seen));
                    }
                    Arc::from(seen)
                }
            },
        };
        if let Ownership::Foreign(why) = ownership(&seen, &self.claim()) {
            return Err(TargetError::NotOwned(why));
        }
        if self.wanted.policy == CreationPolicy::Merge && standing.merged.as_ref().is_none_or(|merged| merged.0 != seen.uid) {
            // After a restart, what we own in it tells what we merged, before somebody takes of it.
            standing.merged = Some(Box::new((seen.uid.clone(), seen.owned(&self.manager).fields())));
        }
        let respecified = self.respecified(standing);
        let expected = drift::Expected {
            policy: (!respecified).then_some(self.wanted.policy),
            uid: &was.uid,
            resource_version: standing.unmoved.as_deref().unwrap_or(&was.resource_version),
            keys: &was.keys,
            key_count: usize::try_from(was.key_count).unwrap_or_default(),
            // What the user just asked for in addition is not there yet; nobody took it away.
            labels: if respecified { vec![MANAGED_LABEL] } else { self.wanted.label_names().collect() },
            annotations: if respecified { Vec::new() } else { self.wanted.annotation_names().collect() },
            tolerated: &standing.tolerated,
        };
        Ok(match judge(&seen, &self.claim(), &expected) {
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

    /// How often the sources are to be checked, also where the spec as a whole can't be carried out.
    pub(super) fn ttl(&self) -> Duration {
        crate::api::duration::parse(&self.resource.spec.ttl).unwrap_or(schedule::LONGEST_RETRY)
    }

    /// When to look at the target again because nothing watches it; `None`: it is watched, or there is none yet.
    pub(super) fn until_look(&self, standing: &Standing) -> Option<Duration> {
        let due = self.context.confined && standing.status.target.is_some();
        due.then(|| self.ttl().clamp(LOOK_MOST, LOOK_LEAST).saturating_sub(standing.looked.map_or(LOOK_LEAST, |looked| looked.elapsed())))
    }

    /// Whether the spec asks for something else than was last mirrored, as far as is known.
    pub(super) fn respecified(&self, standing: &Standing) -> bool {
        standing.asked != Some(self.asked)
    }

    async fn mirror(&self, standing: &mut Standing, ground: &Ground, mut reading: Reading, answers: Vec<Answer>) -> Next {
        let Ground { plan, admitted, known, texts } = ground;
        let record = standing.record();
        let rounds = match reading.first.take() {
            Some(FirstRound { answers: first, needs }) => Ok(Rounds { first, second: needs.into_iter().zip(answers).collect() }),
            None => match self.gathering(standing, plan, admitted, &record).needs(&answers) {
                Ok(needs) if needs.is_empty() => Ok(Rounds { first: answers, second: Vec::new() }),
                Ok(needs) => return self.ask_further(standing, ground, reading, FirstRound { answers, needs }),
                Err(error) => Err(error),
            },
        };
        let Reading { why, look, attempts, since, .. } = reading;
        let (result, expected) = match rounds {
            Ok(rounds) => {
                let result = self.attempt(standing, ground, &record, (&look, since), &rounds).await;
                // From here on the values are not needed any more.
                (result, rounds.expected())
            }
            Err(error) => (Err(Trouble::Read(error)), Rechecks::default()),
        };
        self.context.reader.poke();
        self.tell_mass_absence(admitted).await;
        if !matches!(result, Err(Trouble::Target(TargetError::Changed))) {
            // A change of the providers or templates has had its try, whatever came of it: from here on the pauses hold.
            standing.refused = false;
            standing.tried_with = texts.as_ref().ok().and_then(|texts| texts.hash.clone());
            standing.tried_through = admitted.iter().map(|admitted| admitted.through.clone()).collect();
        }
        match result {
            Ok(Done::Mirrored { mirrored, wrote, relook }) => {
                if wrote {
                    standing.unmoved = None;
                    standing.tolerated = mirrored.target.tolerable(&self.manager, Timestamp::now().as_second());
                    let shared = self.wanted.policy == CreationPolicy::Merge;
                    standing.merged = shared.then(|| Box::new((mirrored.target.uid.clone(), mirrored.target.owned(&self.manager).fields())));
                }
                self.mirrored(standing, ground, &record, mirrored, expected, (why, relook)).await
            }
            Ok(Done::Removed(gone)) => {
                self.checked(standing, ground, expected, false);
                self.settle(standing, &Outcome::Removed(gone)).await
            }
            Err(Trouble::Target(TargetError::Changed)) if attempts + 1 < ATTEMPTS => self.ask(standing, ground, why, attempts + 1).await,
            Err(Trouble::Target(TargetError::Changed)) => Next::In(SOON * 4),
            Err(Trouble::Leaving) => Next::OnChange,
            Err(Trouble::Doubt) => {
                tracing::debug!(namespace = self.key.0, name = self.key.1, "the store answers with a version that was just replaced; reading again in 5 s");
                // Whatever has it read before that time, it is no second opinion.
                if standing.doubt.is_none_or(|until| until <= since) {
                    standing.doubt = Some(Instant::now() + SECOND_READ);
                }
                standing.changed = true;
                self.next_look(standing)
            }
            Err(Trouble::Target(error)) => self.target_failed(standing, &error, known.is_intact()).await,
            // What a search found is allowed or not one by one.
            Err(Trouble::Read(error)) if error.reason == Reason::NotAllowed && self.is_taken_back(standing, &ground.plan) => {
                self.take_back(standing, &error).await
            }
            Err(Trouble::Read(error)) => self.read_failed(standing, &error, known.is_intact()).await,
        }
    }

    /// Renders and writes, against the Secret as it was looked at when the store was asked.
    async fn attempt(
        &self,
        standing: &mut Standing,
        ground: &Ground,
        record: &[Previous],
        (look, since): (&Look, Instant),
        rounds: &Rounds,
    ) -> Result<Done, Trouble> {
        let Ground { plan, admitted, known, texts } = ground;
        let Gathered { found, sources, gone, relook } = self.gather(standing, plan, admitted, record, rounds)?;
        if sources.is_empty() && plan.deletion == DeletionPolicy::Delete {
            return self.remove(standing, plan, look, gone).await;
        }
        let failed = |failure: ComposeError| {
            // Where keys were taken out, that may be the cause, and the store the remedy.
            let cause = gone.first().map(|gone| format!("; {} is gone from the store, and so are its keys", gone.uri)).unwrap_or_default();
            ReadError::new(failure.reason(), format!("{failure}{cause}"))
        };
        let Texts { sources: texts, hash: template_hash } = texts.clone()?;
        let rendered = compose::read_keys(plan, &found).map_err(failed)?;
        let rendered = compose::finish(plan, rendered, texts, &self.provenance(&sources)).map_err(failed)?;
        let keys: Vec<String> = rendered.data.keys().cloned().collect();
        let compared = served::compare(record, standing.status.source_count, &sources, &gone);
        // Not the generation: a changed spec that could not be carried out is an observed one, too.
        let respecified = self.respecified(standing);
        // What moved before this process looked may hold what a predecessor wrote and did not tell.
        let held = if let Known::Intact(seen) = known { Some(seen) } else { known.moved().filter(|_| standing.checked) };
        if let (Some(seen), Some(was), false) = (held, &standing.status.target, respecified)
            && !standing.untold
            && compared.same
            && was.template_hash == template_hash
        {
            // What moved without touching what is ours is not worth a status write.
            let target = Seen { resource_version: was.resource_version.clone(), ..Seen::clone(seen) };
            let mirrored = Mirrored { target, keys, template_hash, sources, gone, compared, moved: false, rewritten: false, respecified, repaired: None };
            return Ok(Done::Mirrored { mirrored: Box::new(mirrored), wrote: false, relook });
        }
        let confirms = standing.doubt.is_some_and(|until| since >= until);
        let in_doubt = |served: &Served| is_outdated(standing, record, served) || (!confirms && was_just_replaced(standing, served));
        if sources.iter().any(in_doubt) {
            return Err(Trouble::Doubt);
        }
        // A permission may have been taken back while the store was read.
        if Admitted::asked(&self.context.providers.admit(plan, &self.key)?) != Admitted::asked(admitted) {
            return Err(Trouble::Target(TargetError::Changed));
        }
        if let Look::Ours(seen) = look
            && self.wanted.policy == CreationPolicy::Owner
            && seen.controller.is_none()
            && !self.target().owner_stays(&self.wanted.owner).await?
        {
            // It is just being orphaned: our reference to a resource that is gone would have it removed.
            return Err(Trouble::Leaving);
        }
        standing.untold = true;
        let wanted = self.wanted.rendered(rendered.labels, rendered.annotations);
        let target = self.target().put(&wanted, &rendered.data, look, &were_ours(standing, look)).await?;
        self.context.secrets.put(&self.key.0, target.clone());
        standing.looked = self.context.confined.then(Instant::now);
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
        let mirrored = Mirrored { target, keys, template_hash, sources, gone, compared, moved, rewritten: !same, respecified, repaired };
        Ok(Done::Mirrored { mirrored: Box::new(mirrored), wrote: true, relook })
    }

    /// Deletes the Secret whose sources are all gone, if it is the one that we wrote.
    async fn remove(&self, standing: &Standing, plan: &Plan, look: &Look, gone: Vec<Served>) -> Result<Done, Trouble> {
        self.context.providers.admit(plan, &self.key)?;
        if let (Look::Ours(seen), Some(was)) = (look, &standing.status.target)
            && seen.uid == was.uid
        {
            self.target().delete(seen).await?;
            self.context.secrets.remove(&self.key.0, seen);
        }
        Ok(Done::Removed(gone))
    }

    /// Where the keys come from, for templates of labels and annotations.
    fn provenance(&self, sources: &[Served]) -> Provenance {
        Provenance {
            name: self.key.1.clone(),
            namespace: self.key.0.clone(),
            target: self.wanted.name.clone(),
            sources: sources
                .iter()
                .map(|served| (served.uri.clone(), if served.version.lasts() { served.version.id.clone() } else { String::new() }))
                .collect(),
        }
    }

    /// Takes note of a good check, and has everything rechecked.
    fn checked(&self, standing: &mut Standing, ground: &Ground, expected: Rechecks, changed: bool) {
        standing.last_check = Some(Timestamp::now());
        standing.failing = None;
        standing.changed = false;
        standing.doubt = None;
        standing.relook = None;
        if self.resource.spec.refresh_policy == RefreshPolicy::Ttl {
            self.watch(ground, expected.questions, expected.members, Since::Now { changed });
        } else {
            self.context.reader.unwatch(&self.key);
        }
    }

    async fn mirrored(
        &self,
        standing: &mut Standing,
        ground: &Ground,
        record: &[Previous],
        mirrored: Box<Mirrored>,
        expected: Rechecks,
        (why, relook): (Why, bool),
    ) -> Next {
        let now = Instant::now();
        standing.replaced.retain(|(_, when)| now.duration_since(*when) < UNSETTLED);
        let mut changed = false;
        for served in &mirrored.sources {
            if let Some(was) = served::version_of(record, served).filter(|was| **was != served.version) {
                standing.replaced.push((Served { version: was.clone(), ..served.clone() }, now));
                changed = true;
            }
        }
        if let Some(failing) = &standing.failing {
            tracing::info!(namespace = self.key.0, name = self.key.1, reason = failing.failure.reason.as_str(), "recovered");
        }
        self.checked(standing, ground, expected, changed);
        standing.relook = relook.then(|| now + absence::STALE_LISTING);
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
        self.settle(standing, &Outcome::Mirrored(mirrored)).await
    }
}

/// What was answered in both rounds.
pub(super) struct Rounds {
    pub(super) first: Vec<Answer>,
    pub(super) second: Vec<(Need, Answer)>,
}

/// What is rechecked, and what has to be found for nothing to be done.
#[derive(Default)]
struct Rechecks {
    questions: Vec<Expected>,
    members: Vec<(Need, Expected)>,
}

impl Rounds {
    fn expected(self) -> Rechecks {
        let is_member = |(need, answer): (Need, Answer)| matches!(need.question, Question::Value(_)).then(|| (need, expected(&answer)));
        Rechecks { questions: self.first.iter().map(expected).collect(), members: self.second.into_iter().filter_map(is_member).collect() }
    }
}

/// What came of an attempt.
enum Done {
    /// The Secret holds what the spec asks for.
    Mirrored {
        mirrored: Box<Mirrored>,
        /// Whether there was anything to write.
        wrote: bool,
        /// Whether it has to be looked at again, since a listing and what is there disagree.
        relook: bool,
    },
    /// All sources are gone, and so is the Secret.
    Removed(Vec<Served>),
}

/// The fields of a shared Secret that were ours when we last wrote it, as the API server names them.
fn were_ours(standing: &Standing, look: &Look) -> BTreeSet<String> {
    let Look::Ours(seen) = look else { return BTreeSet::new() };
    let told = standing.status.target.iter().filter(|was| was.name == seen.name && was.uid == seen.uid);
    let told = told.flat_map(|was| was.keys.iter().map(|key| format!("{DATA_FIELD}{key}")));
    let known = standing.merged.as_deref().into_iter().filter(|(uid, _)| *uid == seen.uid).flat_map(|(_, fields)| fields.iter().cloned());
    told.chain(known).collect()
}

/// Whether this is certainly older than what was mirrored lately: a parameter's versions go only forward, unless one is asked for.
fn is_outdated(standing: &Standing, record: &[Previous], served: &Served) -> bool {
    let now = Instant::now();
    let changed_lately = standing.replaced.iter().any(|(was, when)| was.is_of(served) && now.duration_since(*when) < UNSETTLED);
    let time = |version: &ServedVersion| version.created.as_deref().and_then(|created| created.parse::<Timestamp>().ok());
    let older = || served::version_of(record, served).is_some_and(|mirrored| time(&served.version) < time(mirrored));
    let goes_forward = || served.uri.parse().is_ok_and(|of: Reference| of.source.store == Store::ParameterStore && of.source.version.is_none());
    changed_lately && goes_forward() && older()
}

/// Whether this is the version that a source had right before the present one, until lately.
fn was_just_replaced(standing: &Standing, served: &Served) -> bool {
    let now = Instant::now();
    standing.replaced.iter().any(|(was, when)| was == served && now.duration_since(*when) < UNSETTLED)
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
