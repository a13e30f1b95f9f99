//! One look at a `RobotoPush`: may it be written, what does its Secret hold, what does the store hold; then what differs is written, and the status.
//!
//! A resource and what the last look left enter; writes to the store, the status, events and when to look again leave. Nothing is read from the Secret for
//! what may not be written. One target that fails or hangs stops no other, and none is left out for good. What is written is permitted again at the last
//! moment: by the lease, by the provider's rules, and by a resource that is still what it was. No value is held here.

use std::{
    collections::{BTreeSet, HashMap},
    convert::Infallible,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::ResourceExt;
use tokio::sync::Mutex;

use super::{
    loops,
    plan::{Plan, Target, overlap, whole},
    source::{Pushed, Seen},
    status::{self, Circumstances, Outcome},
    store::{Announce, Claim, Done, Mark, Met, Owned, Permit, Removed},
};
use crate::{
    api::{
        REFRESH_ANNOTATION, Reason, RobotoPush,
        reference::{Reference, Source},
        robotopush::{PUSH_FINALIZER, PushDeletionPolicy, PushOwnership, PushTarget, UpdatePolicy},
        robotosecret::ProviderRef,
        status::{FRESH, LISTED},
    },
    controller::{
        cache::Key,
        mirror::Context,
        providers::{Asker, writing::Writable},
        schedule,
        status::Notice,
    },
    provider::{ReadError, writing::Recovery},
    reader::phase::fraction,
    sensitive::Sensitive,
};

/// How soon to try again when Kubernetes did not take something.
const KUBE_RETRY: Duration = Duration::from_secs(5);
/// How many characters of the refresh annotation are looked at: as many as the status takes.
const LONGEST_REFRESH: usize = 256;
/// How many targets a status lists.
const MOST_TARGETS: usize = 200;
/// How long deleting may take while the namespace goes.
const FAREWELL: Duration = Duration::from_secs(30);
/// How long one look goes on to targets that it didn't come to yet. With the longest that one may take it is shorter than [`LIMIT`](super::LIMIT).
const ENOUGH: Duration = Duration::from_secs(90);
/// How soon a store is asked again that didn't answer; as long as its breaker's longest pause.
const PROBE: Duration = Duration::from_secs(30);
/// How often it is looked whether a change came that one at work isn't about.
const LATE: Duration = Duration::from_secs(1);
/// How soon it is looked at again whose what was taken over is.
const ADOPTED: Duration = Duration::from_secs(10);
/// How long it is looked for whether what was begun, and isn't there, comes after all: a store may carry out a call that it didn't answer.
const COMES_LATE: Duration = Duration::from_mins(1);
/// How many targets of one resource are looked at at the same time.
const TARGETS_AT_ONCE: usize = 4;
/// What is said of what is to be deleted, and isn't yet.
const WAITS: &str = "it is in the spec no more, and is deleted once all that is there is written";

/// What a look leaves for the next one.
#[derive(Default)]
pub struct Memory {
    /// The uid that this is about.
    uid: Option<String>,
    /// What was found to agree, by reference.
    marks: HashMap<String, Mark>,
    /// Which content of the Secret each reference last got, for which generation.
    brought: HashMap<String, (Seen, i64)>,
    /// In which look the store was last asked about each reference: who waits longest comes first.
    asked: HashMap<String, u64>,
    /// Those that weren't answered: they come last, so that they keep none from its turn.
    hung: BTreeSet<String>,
    /// How many looks there were.
    looks: u64,
    /// Whether this look found the store silent, or as much of it as some targets need.
    met_silence: bool,
    /// Whether this look took something over.
    adopted: bool,
    /// Since when what was begun and is to be deleted wasn't there.
    absent: HashMap<String, Instant>,
    /// How often it failed in a row.
    failures: u32,
    /// What may help, besides time.
    pub waits: Waits,
}

impl Memory {
    /// Who comes first: the lowest. Mixed, since those that hang may be neighbours, and two in a row count for the whole store.
    fn place(&self, uri: &str) -> impl Ord + use<> {
        let lot = fraction(&format!("{uri}/{}", self.looks)).to_bits();
        (self.hung.contains(uri), self.asked.get(uri).copied(), lot)
    }

    fn note(&mut self, uri: &str, met: &Met) {
        let was = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        if was(&met.asked) {
            self.asked.insert(uri.to_owned(), self.looks);
            self.hung.remove(uri);
        }
        if was(&met.hung) {
            self.hung.insert(uri.to_owned());
            self.met_silence = true;
        }
        self.adopted |= was(&met.adopted);
    }
}

/// What may help before a retry is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// Any change of a provider, a namespace, or of those that stood in its way.
    pub change: bool,
    /// That its namespace goes.
    pub end: bool,
    /// That a store answers again.
    pub store: bool,
}

/// What was found and done.
struct Looked {
    targets: Vec<PushTarget>,
    /// Whether something failed that holds what the Secret held before.
    behind: bool,
}

/// What came of a target.
struct Brought {
    entry: PushTarget,
    met: Met,
    /// By which the next look knows that it agrees.
    mark: Option<Mark>,
    /// Whether it now holds what the Secret holds.
    is_right: bool,
}

/// One resource at work.
pub(super) struct Work<'w> {
    pub(super) context: &'w Context,
    pub(super) push: &'w RobotoPush,
    pub(super) key: Key,
    /// When it begins with no other target.
    until: Instant,
    /// Held from reading a status to writing it: two may be about to.
    telling: Mutex<()>,
}

/// Tells that a look came to no end.
pub(super) async fn give_up(context: &Context, push: &RobotoPush, error: ReadError) {
    Work::new(context, push).conclude(&Outcome::Failed(error), schedule::LONGEST_RETRY, &mut Memory::default()).await;
}

/// Tells that a change waits for its turn.
pub(super) async fn tell_waiting(context: &Context, push: &RobotoPush) {
    Work::new(context, push).tell_waiting().await;
}

/// Looks at a resource; a change that waits for too long meanwhile is told. Returns after how long to look again, if nothing happens before.
pub(super) async fn tend(context: &Context, push: &RobotoPush, memory: &mut Memory) -> Option<Duration> {
    let work = Work::new(context, push);
    tokio::select! {
        biased;
        again = work.tend(memory) => again,
        never = work.tell_if_late() => match never {},
    }
}

impl<'w> Work<'w> {
    fn new(context: &'w Context, push: &'w RobotoPush) -> Self {
        let key = (push.namespace().unwrap_or_default(), push.name_any());
        Self { context, push, key, until: Instant::now() + ENOUGH, telling: Mutex::default() }
    }

    async fn tend(&self, memory: &mut Memory) -> Option<Duration> {
        let (context, push) = (self.context, self.push);
        if memory.uid != push.uid() {
            *memory = Memory { uid: push.uid(), ..Memory::default() };
        }
        memory.waits = Waits::default();
        (memory.met_silence, memory.adopted) = (false, false);
        memory.looks += 1;
        if push.metadata.deletion_timestamp.is_some() {
            return if self.is_held() { self.leave(memory).await } else { None };
        }
        // Who is to leave what was made behind has nothing to wait for, whatever else keeps it from being looked at.
        if push.spec.deletion_policy == PushDeletionPolicy::Retain && self.is_held() && self.set_finalizer(false).await.is_err() {
            return self.conclude(&Outcome::Failed(unset()), schedule::LONGEST_RETRY, memory).await;
        }
        if push.spec.suspend {
            return self.tell(&Outcome::Suspended).await.err();
        }
        if let Err(error) = context.pushes.sources().admit(&self.key.0) {
            let again = self.conclude(&Outcome::Failed(error), schedule::LONGEST_RETRY, memory).await;
            // Which are served is said when the controller starts, and changes no more.
            memory.waits = Waits::default();
            return again;
        }
        let plan = Plan::new(&push.spec);
        let ttl = plan.as_ref().map_or(schedule::LONGEST_RETRY, |plan| plan.ttl);
        let outcome = match plan {
            Ok(plan) => match self.look(&plan, memory).await {
                Ok(Looked { targets, behind }) => Outcome::Looked { targets, behind, leaves: push.spec.update_policy == UpdatePolicy::IfNotExists },
                Err(error) => Outcome::Failed(error),
            },
            Err(error) => Outcome::Failed(error),
        };
        self.conclude(&outcome, ttl, memory).await
    }
}

impl Work<'_> {
    /// Tells what came of a look, and when to look again.
    async fn conclude(&self, outcome: &Outcome, ttl: Duration, memory: &mut Memory) -> Option<Duration> {
        let trouble = match outcome {
            Outcome::Failed(error) => {
                tracing::debug!(namespace = self.key.0, name = self.key.1, reason = %error.reason, problem = error.message, detail = error.detail, "pushing failed");
                Some((error.reason, error.message.clone()))
            }
            Outcome::Looked { targets, .. } => status::worst(targets),
            Outcome::Suspended | Outcome::Waiting => None,
        };
        let told = self.tell(outcome).await.err();
        let Some((reason, message)) = trouble else {
            memory.failures = 0;
            // Somebody else may have taken over the same at the same time: then the mark isn't ours any more.
            let soon = memory.adopted.then_some(ADOPTED);
            return told.into_iter().chain(soon).chain([ttl]).min();
        };
        let before = self.push.status.as_ref().and_then(|status| status.condition(FRESH));
        // Which target it is said of may be another one each time, as long as it lasts.
        if before.is_none_or(|before| before.reason != reason.as_str() || !reason.is_passing() && before.message != message) {
            self.event(true, "CheckFailed", "Push", format!("{reason}: {message}"));
        }
        memory.failures = memory.failures.saturating_add(1);
        let targets = if let Outcome::Looked { targets, .. } = outcome { targets.as_slice() } else { &[] };
        let reasons: Vec<Reason> = status::failed(targets).map(|(reason, _)| reason).chain([reason]).collect();
        let change_helps = |reason: &Reason| {
            use Reason::{CredentialsError, InvalidSpec, NotAllowed, ProviderNotFound, TargetConflict, TargetNotOwned};
            matches!(reason, NotAllowed | ProviderNotFound | CredentialsError | InvalidSpec | TargetNotOwned | TargetConflict)
        };
        memory.waits = Waits { change: reasons.iter().any(change_helps), store: reasons.contains(&Reason::ProviderUnavailable), end: false };
        let uid = self.push.uid().unwrap_or_default();
        // What heals soon does not wait for what heals late.
        let retries = reasons.into_iter().filter_map(|reason| schedule::until_retry(reason, memory.failures, ttl, &uid));
        // Whoever found a store silent asks it again for all others, which are woken once it answers.
        let probe = memory.met_silence.then_some(PROBE);
        retries.chain(told).chain(probe).min()
    }

    fn event(&self, warning: bool, reason: &'static str, action: &'static str, note: String) {
        self.context.events.publish(Notice { warning, reason, action, note }, self.push);
    }

    fn asker(&self) -> Asker<'_> {
        Asker { namespace: &self.key.0, resource: &self.key.1 }
    }

    /// The mark of this resource at a store.
    async fn owner(&self) -> Result<String, ReadError> {
        let cluster = self.context.pushes.cluster(&self.context.client).await?;
        Ok(format!("{cluster}/{}/{}", self.key.0, self.key.1))
    }

    /// Whether something may be written through a provider at this very moment.
    fn permit(&self, provider: &ProviderRef, source: &Source) -> Result<(), ReadError> {
        if !self.context.pushes.may_write() {
            return Err(ReadError::new(Reason::KubernetesError, "this controller does not hold the lease, and so writes nothing"));
        }
        if !self.context.pushes.is_current(&self.key, self.push) {
            return Err(ReadError::new(Reason::TargetConflict, "the RobotoPush was changed meanwhile; it is looked at again"));
        }
        self.context.providers.admit_write(provider, source, self.asker()).map(drop)
    }

    /// Brings every target up to date, and removes former ones.
    async fn look(&self, plan: &Plan, memory: &mut Memory) -> Result<Looked, ReadError> {
        let spec = &self.push.spec;
        let deletes = spec.deletion_policy == PushDeletionPolicy::Delete;
        // Before anything is written: what is made has to be deleted one day.
        if deletes && !self.is_held() {
            self.set_finalizer(true).await.map_err(|()| unset())?;
        }
        let owner = self.owner().await?;
        let admit = |target: &Target| self.context.providers.admit_write(&spec.provider, &target.source, self.asker());
        let targets = plan.targets.iter().zip(self.loops(plan));
        let admitted: Vec<_> = targets.map(|(target, looped)| looped.map_or_else(|| admit(target), Err)).collect();
        let mut entries: Vec<PushTarget> = plan.targets.iter().map(|target| self.entry(target)).collect();
        let former = if deletes { self.former(plan) } else { Vec::new() };
        if entries.len() + former.len() > MOST_TARGETS {
            return self.too_many(entries, (former, &owner, plan.recovery), memory).await;
        }
        let mut behind = false;
        if admitted.iter().all(Result::is_err) {
            for (entry, refused) in entries.iter_mut().zip(admitted) {
                fail(entry, refused.err());
            }
        } else {
            let secret = self.context.pushes.sources().find(&self.context.client, &self.key.0, &spec.secret_name).await?;
            if deletes {
                for (entry, _) in entries.iter_mut().zip(&admitted).filter(|(_, admitted)| admitted.is_ok()) {
                    entry.begun = true;
                }
                // A crash after the first write must not leave something that nobody knows of.
                self.announce(&entries, &former).await?;
            }
            self.bring_all(plan, &mut entries, admitted, (&owner, &secret), memory).await;
            let is_old = |entry: &PushTarget| memory.brought.get(&entry.uri).is_some_and(|(seen, _)| seen != secret.seen());
            behind = entries.iter().any(|entry| entry.reason.is_some() && is_old(entry));
        }
        // What takes their place comes first.
        let mut left = if entries.iter().all(|entry| entry.reason.is_none()) {
            self.remove_all(former, &owner, plan.recovery, memory).await
        } else {
            former.into_iter().map(|target| PushTarget { reason: None, message: Some(WAITS.to_owned()), ..target }).collect()
        };
        entries.append(&mut left);
        Ok(Looked { targets: entries, behind })
    }

    /// More is to be kept in mind than a status holds: nothing is written before some of it is gone.
    async fn too_many(
        &self,
        entries: Vec<PushTarget>,
        (former, owner, recovery): (Vec<PushTarget>, &str, Recovery),
        memory: &mut Memory,
    ) -> Result<Looked, ReadError> {
        let left = self.remove_all(former, owner, recovery, memory).await;
        let problem = format!("{} targets are still to be deleted, and nothing is written before some of them are gone", left.len());
        let _telling = self.telling.lock().await;
        let mut status = self.context.pushes.status(&self.key, self.push);
        status.targets = entries.into_iter().filter(|entry| self.prior(&entry.uri).is_some()).chain(left).take(MOST_TARGETS).collect();
        self.write(&status).await.map_err(|_| unwritten())?;
        Err(ReadError::new(Reason::TargetConflict, problem))
    }

    /// Brings some targets at a time up to date, until all had their turn or it is late.
    async fn bring_all(
        &self,
        plan: &Plan,
        entries: &mut [PushTarget],
        admitted: Vec<Result<Writable, ReadError>>,
        (owner, secret): (&str, &Pushed),
        memory: &mut Memory,
    ) {
        let mut ready = Vec::new();
        for (index, admitted) in admitted.into_iter().enumerate() {
            match admitted {
                Ok(through) => ready.push((index, through)),
                Err(error) => fail(&mut entries[index], Some(error)),
            }
        }
        ready.sort_by_cached_key(|(index, _)| memory.place(&entries[*index].uri));
        let (doubtful, ready): (Vec<_>, Vec<_>) = ready.into_iter().partition(|(index, _)| memory.hung.contains(&entries[*index].uri));
        self.bring_some(plan, entries, ready, (owner, secret), memory).await;
        // Of those that weren't answered before, one: all of them would count for a store that hangs, and keep others waiting.
        let mut doubtful = doubtful.into_iter();
        let Some(first) = doubtful.next() else { return };
        let uri = entries[first.0].uri.clone();
        self.bring_some(plan, entries, vec![first], (owner, secret), memory).await;
        if !memory.hung.contains(&uri) {
            return self.bring_some(plan, entries, doubtful.collect(), (owner, secret), memory).await;
        }
        for (index, _) in doubtful {
            let problem = unanswered().about(&entries[index].uri);
            fail(&mut entries[index], Some(problem));
        }
    }

    async fn bring_some(
        &self,
        plan: &Plan,
        entries: &mut [PushTarget],
        targets: Vec<(usize, Writable)>,
        (owner, secret): (&str, &Pushed),
        memory: &mut Memory,
    ) {
        let generation = self.push.metadata.generation.unwrap_or_default();
        let jobs = targets.into_iter().map(|(index, through)| {
            let entry = entries[index].clone();
            let mark = memory.marks.remove(&entry.uri);
            let brought = memory.brought.get(&entry.uri).cloned();
            let target = &plan.targets[index];
            async move { (index, self.bring((target, entry), &through, (owner, secret), (mark, brought)).await) }.boxed()
        });
        let jobs: Vec<_> = jobs.collect();
        let mut done = futures::stream::iter(jobs).buffer_unordered(TARGETS_AT_ONCE);
        while let Some((index, Brought { entry, met, mark, is_right })) = done.next().await {
            memory.note(&entry.uri, &met);
            if let Some(mark) = mark {
                memory.marks.insert(entry.uri.clone(), mark);
            }
            if is_right {
                memory.brought.insert(entry.uri.clone(), (secret.seen().clone(), generation));
            }
            entries[index] = entry;
        }
    }

    /// A target at its store.
    fn owned<'o>(&'o self, through: &'o Writable, owner: &'o str, target: &PushTarget, (permit, announce): (Permit<'o>, Announce<'o>)) -> Owned<'o> {
        let spec = &self.push.spec;
        Owned {
            store: &through.store,
            breakers: &through.breakers,
            came_back: &self.context.pushes.came_back,
            reader: &self.context.reader,
            owner,
            generation: self.push.metadata.generation.unwrap_or_default(),
            policy: spec.update_policy,
            adopt: spec.adopt,
            claim: claim(target),
            shared: target.shared,
            permit,
            announce,
            met: Met::default(),
        }
    }

    /// Brings one target up to date.
    async fn bring(
        &self,
        (target, mut entry): (&Target, PushTarget),
        through: &Writable,
        (owner, secret): (&str, &Pushed),
        (known, was): (Option<Mark>, Option<(Seen, i64)>),
    ) -> Brought {
        if self.is_late() {
            let problem = late().about(&entry.uri);
            fail(&mut entry, Some(problem));
            return Brought { entry, met: Met::default(), mark: known, is_right: false };
        }
        if !through.store.keeps_tags()
            && let Some(holder) = self.context.pushes.holder(&self.key, self.push, &target.source)
        {
            let problem = self.held(&holder).about(&entry.uri);
            fail(&mut entry, Some(problem));
            return Brought { entry, met: Met::default(), mark: known, is_right: false };
        }
        let generation = self.push.metadata.generation.unwrap_or_default();
        let permit = || self.permit(&self.push.spec.provider, &target.source);
        let announced = AtomicBool::new(false);
        let as_it_was = entry.clone();
        let announce = || self.announce_one(as_it_was.clone(), &announced).boxed();
        let owned = self.owned(through, owner, &entry, (&permit, &announce));
        let answer = owned.bring(target, secret, known.as_ref()).await;
        let met = owned.met;
        let (announced, made) = (announced.load(Ordering::Relaxed), met.made.load(Ordering::Relaxed));
        entry.ownership = match &answer {
            // The mark says it.
            Ok(Done::Agrees(..) | Done::Written { .. }) if through.store.keeps_tags() => None,
            Ok(Done::Agrees(..) | Done::Written { .. }) => Some(PushOwnership::Owned),
            Err(_) if made => Some(PushOwnership::Owned),
            // What was refused isn't there.
            Err(error) if announced && !is_definite(error.reason) => Some(PushOwnership::Making),
            Ok(Done::Left(_)) | Err(_) => entry.ownership,
        };
        if matches!(answer, Ok(Done::Agrees(..) | Done::Written { .. })) {
            // As a whole it was taken over from those who shared it.
            entry.shared = target.is_members();
        }
        entry.keys = target.keys(secret.known());
        if entry.keys.is_empty() {
            entry.keys = self.prior(&entry.uri).map(|prior| prior.keys.clone()).unwrap_or_default();
        }
        entry.keys.truncate(LISTED);
        let (mut mark, mut is_right) = (None, false);
        match answer {
            Ok(Done::Agrees(there, agrees)) => {
                (entry.arn, entry.version) = (there.arn, there.version);
                (mark, is_right) = (Some(agrees), true);
            }
            Ok(Done::Left(there)) => (entry.arn, entry.version) = (there.arn, there.version),
            Ok(Done::Written { written, anew }) => {
                is_right = true;
                // The Secret did not change since, so that the store did.
                let repaired = was.is_some_and(|was| was == (secret.seen().clone(), generation));
                let (reason, what) = match (repaired, anew) {
                    (true, true) => ("Repaired", "was gone from the store, and was made again"),
                    (true, false) => ("Repaired", "was changed at the store, and was put back"),
                    (false, true) => ("Pushed", "was made"),
                    (false, false) => ("Pushed", "was written"),
                };
                let version = if written.version.is_empty() { String::new() } else { format!(": version {}", written.version) };
                self.event(false, reason, "Push", format!("{} {what}{version}", entry.uri));
                entry.arn = Some(written.arn).filter(|arn| !arn.is_empty()).or_else(|| entry.arn.take());
                entry.version = Some(written.version).filter(|version| !version.is_empty());
                entry.last_write_time = Some(Time(Timestamp::now()));
            }
            Err(error) => {
                let (reason, problem, detail) = (error.reason.as_str(), &error.message, &error.detail);
                tracing::debug!(namespace = self.key.0, name = self.key.1, uri = entry.uri, reason, problem, detail, "a target failed");
                fail(&mut entry, Some(error));
            }
        }
        Brought { entry, met, mark, is_right }
    }

    /// That another RobotoPush writes to the same.
    fn held(&self, (namespace, name): &Key) -> ReadError {
        let whose =
            if *namespace == self.key.0 { format!("the RobotoPush {name} writes it") } else { "a RobotoPush of another namespace writes it".to_owned() };
        ReadError::new(Reason::TargetNotOwned, format!("{whose}, and was there first; choose another name, or delete that one"))
    }

    /// A RobotoSecret that mirrors into the Secret must not read what is written from it.
    fn loops(&self, plan: &Plan) -> Vec<Option<ReadError>> {
        let (resources, spec) = (&self.context.resources, &self.push.spec);
        let mirrors = resources.with_target(&self.key.0, &spec.secret_name).into_iter();
        let mirrors: Vec<_> = mirrors.filter_map(|key| resources.get(&key).map(|mirror| (key.1.clone(), mirror))).collect();
        let may_be_one = |one: &ProviderRef, other: &ProviderRef| self.context.providers.may_be_one_place(one, other, &self.key.0);
        loops::find(&plan.targets, &spec.provider, &mirrors, may_be_one)
    }

    /// How a target stands as far as the status tells.
    fn entry(&self, target: &Target) -> PushTarget {
        let uri = target.source.to_string();
        let prior = self.prior(&uri).filter(|prior| prior.provider == self.push.spec.provider).cloned().unwrap_or_default();
        let shared = prior.shared || target.is_members();
        PushTarget { provider: self.push.spec.provider.clone(), reason: None, message: None, uri, shared, ..prior }
    }

    fn prior(&self, uri: &str) -> Option<&PushTarget> {
        self.push.status.iter().flat_map(|status| &status.targets).find(|known| known.uri == uri)
    }

    /// What was written to and is in the spec no more, under no name that it may have. What is shared with others is none of it.
    fn former(&self, plan: &Plan) -> Vec<PushTarget> {
        let stays = |known: &PushTarget| {
            let source = known.uri.parse::<Reference>().map(|reference| reference.source);
            let is_named = source.is_ok_and(|source| plan.targets.iter().any(|target| overlap(&target.source, &source)));
            is_named && self.context.providers.may_be_one_place(&known.provider, &self.push.spec.provider, &self.key.0)
        };
        self.push.status.iter().flat_map(|status| &status.targets).filter(|known| !known.shared && !stays(known)).cloned().collect()
    }

    /// Writes down what is about to be written to, if the status doesn't list it yet.
    async fn announce(&self, entries: &[PushTarget], former: &[PushTarget]) -> Result<(), ReadError> {
        let listed = |entry: &PushTarget| self.prior(&entry.uri).is_some_and(|prior| prior.provider == entry.provider && (prior.begun || !entry.begun));
        if entries.iter().all(listed) {
            return Ok(());
        }
        let _telling = self.telling.lock().await;
        let mut status = self.push.status.clone().unwrap_or_default();
        status.targets = entries.iter().chain(former).take(MOST_TARGETS).cloned().collect();
        self.write(&status).await.map_err(|_| unwritten())
    }

    /// Writes down that one thing is about to be made, where its mark doesn't come with it.
    async fn announce_one(&self, entry: PushTarget, announced: &AtomicBool) -> Result<(), ReadError> {
        let _telling = self.telling.lock().await;
        let mut status = self.context.pushes.status(&self.key, self.push);
        let entry = PushTarget { ownership: Some(PushOwnership::Making), ..entry };
        announced.store(true, Ordering::Relaxed);
        match status.targets.iter_mut().find(|known| known.uri == entry.uri && known.provider == entry.provider) {
            Some(known) if known.ownership == entry.ownership => return Ok(()),
            Some(known) => known.ownership = entry.ownership,
            None => status.targets.push(entry),
        }
        self.write(&status).await.map_err(|_| unwritten())
    }

    /// Deletes these, as far as they have our mark. Returns those that are still to be deleted.
    pub(super) async fn remove_all(&self, targets: Vec<PushTarget>, owner: &str, recovery: Recovery, memory: &mut Memory) -> Vec<PushTarget> {
        let mut order: Vec<usize> = (0..targets.len()).collect();
        order.sort_by_cached_key(|index| memory.place(&targets[*index].uri));
        let mut left: Vec<Option<PushTarget>> = targets.into_iter().map(Some).collect();
        for index in order {
            let Some(target) = &mut left[index] else { continue };
            let removed = if !has_trace(target) {
                // It was never about to be made.
                Ok(Removed::Nothing)
            } else if self.is_late() {
                Err(late().about(&target.uri))
            } else {
                self.remove(target, owner, recovery, memory).await
            };
            match removed {
                Ok(removed) => {
                    let uri = &target.uri;
                    match removed {
                        Removed::Deleted => self.event(false, "Removed", "Remove", format!("{uri} was deleted, as deletionPolicy asks for")),
                        Removed::Doubtful => {
                            let doubt = "is left as it is: this RobotoPush was about to make it, and whether it did can't be told; delete it at the store if nobody else made it";
                            self.event(true, "Left", "Remove", format!("{uri} {doubt}"));
                        }
                        Removed::Nothing => {}
                    }
                    left[index] = None;
                }
                Err(error) => fail(target, Some(error)),
            }
        }
        left.into_iter().flatten().collect()
    }

    async fn remove(&self, target: &PushTarget, owner: &str, recovery: Recovery, memory: &mut Memory) -> Result<Removed, ReadError> {
        let broken = |_| ReadError::new(Reason::InternalError, "a defect of the controller: the status names no reference");
        let Reference { source, .. } = target.uri.parse().map_err(broken)?;
        let permit = || self.permit(&target.provider, &source);
        let through = self.context.providers.admit_write(&target.provider, &source, self.asker())?;
        let announce = || std::future::ready(Ok(())).boxed();
        let owned = self.owned(&through, owner, target, (&permit, &announce));
        let answer = owned.remove(&source, recovery, async || self.makings().await).await;
        memory.note(&target.uri, &owned.met);
        match answer {
            // What can't be made wasn't, and can't be deleted for the same reason.
            Err(error) if matches!(error.reason, Reason::TargetRejected | Reason::InvalidSpec) && !was_seen(target) && says(target, error.reason) => {
                Ok(Removed::Nothing)
            }
            Ok(Removed::Nothing) if self.may_come(target) => {
                let since = *memory.absent.entry(target.uri.clone()).or_insert_with(Instant::now);
                if since.elapsed() < COMES_LATE { Err(not_yet().about(&target.uri)) } else { Ok(Removed::Nothing) }
            }
            answer => answer,
        }
    }

    /// All that may have been made of the Secret, as a whole or of one of its keys; nothing if it is gone.
    async fn makings(&self) -> Result<Vec<Sensitive>, ReadError> {
        let secret = self.context.pushes.sources().find(&self.context.client, &self.key.0, &self.push.spec.secret_name).await;
        let secret = match secret {
            Err(error) if matches!(error.reason, Reason::SourceNotFound | Reason::NotAllowed) => return Ok(Vec::new()),
            secret => secret?,
        };
        let data = secret.data().await?;
        Ok(data.values().cloned().chain(whole(data).ok()).collect())
    }

    /// Whether a store may still make what isn't there: it left the call without an answer, or the controller that made it died.
    fn may_come(&self, target: &PushTarget) -> bool {
        let unanswered = target.reason.is_none() || says(target, Reason::ProviderUnavailable);
        unanswered && !was_seen(target) && self.prior(&target.uri).is_some_and(|prior| prior.begun)
    }

    /// The resource is being deleted: what it made goes first.
    async fn leave(&self, memory: &mut Memory) -> Option<Duration> {
        let plan = Plan::new(&self.push.spec).ok();
        let mut targets = Vec::new();
        if self.push.spec.deletion_policy == PushDeletionPolicy::Delete {
            targets.extend(self.push.status.iter().flat_map(|status| status.targets.clone()).filter(|target| !target.shared));
            let planned = plan.iter().flat_map(|plan| &plan.targets).map(|target| PushTarget { begun: true, ..self.entry(target) });
            let new: Vec<PushTarget> =
                planned.filter(|entry| !targets.iter().any(|known| known.uri == entry.uri && known.provider == entry.provider)).collect();
            targets.extend(new);
        }
        let left = match self.owner().await {
            Ok(owner) => {
                let known = targets.clone();
                let removing = self.remove_all(targets, &owner, plan.map_or_else(Recovery::default, |plan| plan.recovery), memory);
                if self.context.namespaces.leaves(&self.key.0) {
                    // A store that hangs holds up no namespace; what was deleted by then is among these, too.
                    tokio::time::timeout(FAREWELL, removing).await.unwrap_or(known)
                } else {
                    removing.await
                }
            }
            Err(error) => {
                for target in &mut targets {
                    fail(target, Some(error.clone()));
                }
                targets
            }
        };
        if !left.is_empty() && self.context.namespaces.leaves(&self.key.0) {
            // A namespace that is deleted waits for no store.
            let uris: Vec<&str> = left.iter().map(|target| target.uri.as_str()).collect();
            tracing::warn!(namespace = self.key.0, name = self.key.1, uris = uris.join(" "), "the namespace goes, and what was pushed stays at the store");
        } else if !left.is_empty() {
            let outcome = Outcome::Looked { targets: left, behind: false, leaves: false };
            let again = self.conclude(&outcome, schedule::LONGEST_RETRY, memory).await;
            memory.waits.end = true;
            return again;
        }
        self.set_finalizer(false).await.err().map(|()| KUBE_RETRY)
    }

    /// Writes the status if it is another one. An error: after how long to try again.
    async fn tell(&self, outcome: &Outcome) -> Result<(), Duration> {
        let _telling = self.telling.lock().await;
        let prior = self.context.pushes.status(&self.key, self.push);
        let refresh = self.push.annotations().get(REFRESH_ANNOTATION).map(|text| text.chars().take(LONGEST_REFRESH).collect::<String>());
        let about = Circumstances { generation: self.push.metadata.generation.unwrap_or_default(), refresh: refresh.as_deref(), now: Timestamp::now() };
        let next = status::next(&prior, about, outcome);
        let mut same = next.clone();
        same.last_check_time.clone_from(&prior.last_check_time);
        let since = prior.last_check_time.as_ref().map_or(Duration::MAX, |last| Duration::try_from(about.now.duration_since(last.0)).unwrap_or(Duration::MAX));
        if next == prior || same == prior && since < self.context.status_interval {
            return Ok(());
        }
        self.write(&next).await
    }

    async fn tell_if_late(&self) -> Infallible {
        loop {
            match self.context.pushes.told_at(&self.key) {
                Some(at) => {
                    tokio::time::sleep_until(at).await;
                    self.context.pushes.note_told(&self.key);
                    self.tell_waiting().await;
                }
                None => tokio::time::sleep(LATE).await,
            }
        }
    }

    /// Tells that a change waits for its turn, where nothing worse is said already.
    async fn tell_waiting(&self) {
        let known = self.context.pushes.status(&self.key, self.push);
        if !self.push.spec.suspend && known.condition(FRESH).is_none_or(|fresh| fresh.status != "False") {
            let _ = self.tell(&Outcome::Waiting).await;
        }
    }

    fn is_late(&self) -> bool {
        Instant::now() >= self.until
    }

    pub(super) fn is_held(&self) -> bool {
        self.push.finalizers().iter().any(|name| name == PUSH_FINALIZER)
    }
}

/// Whether something was heard of a target from the store.
const fn was_seen(target: &PushTarget) -> bool {
    target.version.is_some() || target.arn.is_some() || target.last_write_time.is_some() || target.ownership.is_some()
}

/// Whether the last try at a target failed for this reason.
fn says(target: &PushTarget, reason: Reason) -> bool {
    target.reason.as_deref() == Some(reason.as_str())
}

/// Whether a target may have been made.
const fn has_trace(target: &PushTarget) -> bool {
    target.begun || was_seen(target)
}

fn fail(entry: &mut PushTarget, error: Option<ReadError>) {
    (entry.reason, entry.message) = error.map(|error| (error.reason.as_str().to_owned(), error.message)).unzip();
}

fn unset() -> ReadError {
    let problem =
        format!("the finalizer {PUSH_FINALIZER} could not be changed, without which nothing is pushed; check the roles of the controller's ServiceAccount");
    ReadError::new(Reason::KubernetesError, problem)
}

fn unwritten() -> ReadError {
    ReadError::new(Reason::KubernetesError, "the status could not be written, without which nothing is pushed")
}

/// Others took so long that this one's turn has to wait for the next look.
fn late() -> ReadError {
    ReadError::new(
        Reason::Throttled,
        "its turn did not come within 90 s, so slow were others or so low are the provider's limits; it comes first at the next look",
    )
}

/// One that wasn't answered, like others that come first now.
fn unanswered() -> ReadError {
    ReadError::new(Reason::ProviderUnavailable, "the store did not answer for it, and is asked again once it answers for another one of those")
}

fn not_yet() -> ReadError {
    let problem = "it is not there, and the store may still carry out the call that made it and was not answered; it is looked for again for a minute";
    ReadError::new(Reason::ProviderUnavailable, problem)
}

/// What the status says of whose something is.
fn claim(entry: &PushTarget) -> Claim {
    match entry.ownership {
        None => Claim::None,
        Some(PushOwnership::Making) => Claim::Making,
        Some(PushOwnership::Owned) => Claim::Owned,
    }
}

/// Whether a failure says that nothing was made.
fn is_definite(reason: Reason) -> bool {
    matches!(reason, Reason::TargetRejected | Reason::TargetNotOwned | Reason::TargetConflict | Reason::InvalidSpec)
}
