//! Pushing: a `RobotoPush` has keys of a Secret written into a store, and keeps them there.
//!
//! Watch events enter; each resource is looked at when it or its Secret changed, when its time has come, or when a provider or whatever else it waits for changed. A
//! panic or a hang of one stops no other, and no provider that hangs those of others. Only in the namespaces that the controller's flags name is a Secret
//! read; elsewhere a resource is told so, and may go. What is being written to a store when the controller stops is finished.

pub mod breakers;
pub mod loops;
pub mod plan;
pub mod source;
pub mod status;
pub mod store;
mod work;
mod writes;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, Client, ResourceExt,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use tokio::{
    sync::{OnceCell, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use self::{
    plan::overlap,
    source::Sources,
    work::{Memory, give_up, tell_waiting, tend},
};
use super::{
    cache::Key,
    drift::is_older,
    lease::Fence,
    mirror::Context,
    watches::{Gates, PUSHED_SECRETS, PUSHES, Pauses, api, key_of},
};
use crate::{
    api::{
        REFRESH_ANNOTATION, Reason, RobotoPush,
        provider::ProviderId,
        reference::{Reference, Source},
        robotopush::{PushOwnership, RobotoPushStatus},
        status::{FRESH, READY},
    },
    provider::ReadError,
};

/// How long one look may take.
const LIMIT: Duration = Duration::from_mins(2);
/// How many are looked at at the same time.
const AT_ONCE: usize = 8;
/// How many of them through one provider: if that one hangs, the others have room.
const SHARE: usize = 4;
/// How much sooner a change comes than what is only looked at again.
const HEAD_START: Duration = Duration::from_mins(5);
/// How long a change may wait before that is told.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long telling may take that a look came to no end.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// How long after a defect one is looked at again.
const AFTER_DEFECT: Duration = Duration::from_mins(1);
/// The shortest time between two looks at one whose Secret changed, or that waits for a provider.
const DEBOUNCE: Duration = Duration::from_secs(1);
/// The namespace whose uid stands for the cluster.
const CLUSTER: &str = "kube-system";

/// What is known of pushing.
pub struct Pushes {
    known: Mutex<Known>,
    wake: watch::Sender<()>,
    /// A store answers that did not: whoever it failed is looked at again.
    came_back: watch::Sender<()>,
    /// Something changed or went that may have stood in the way of others.
    released: watch::Sender<()>,
    sources: Sources,
    fence: Option<Fence>,
    cluster: OnceCell<String>,
}

#[derive(Default)]
struct Known {
    pushes: HashMap<Key, Arc<RobotoPush>>,
    changed: BTreeSet<Key>,
    /// Those whose Secret changed.
    touched: BTreeSet<Key>,
    /// Those of which a change waits to be carried out.
    waiting: HashMap<Key, Waiting>,
    /// Whether one let go of something that others may wait for.
    lets_go: bool,
}

/// A change, or several, that wait to be carried out.
#[derive(Clone, Copy)]
struct Waiting {
    since: Instant,
    changes: u64,
    told: bool,
}

impl Waiting {
    fn new() -> Self {
        Self { since: Instant::now(), changes: 1, told: false }
    }

    /// When it is told, if it isn't yet.
    fn told_at(self) -> Option<Instant> {
        (!self.told).then_some(self.since + PATIENCE)
    }
}

/// What a resource writes to, as its status tells.
fn held(push: &RobotoPush) -> BTreeSet<&str> {
    push.status.iter().flat_map(|status| &status.targets).map(|target| target.uri.as_str()).collect()
}

/// What a write depends on of a resource.
fn gist(push: &RobotoPush) -> impl PartialEq {
    (push.uid(), push.metadata.generation, push.metadata.deletion_timestamp.clone())
}

impl Known {
    /// Takes in what a watch told.
    fn put(&mut self, push: RobotoPush) {
        let key = key_of(&push);
        let known = self.pushes.get(&key).filter(|known| known.uid() == push.uid());
        let version = |of: &RobotoPush| of.resource_version().unwrap_or_default();
        if known.is_some_and(|known| is_older(&version(&push), &version(known))) {
            return;
        }
        let refresh = |of: &RobotoPush| of.annotations().get(REFRESH_ANNOTATION).cloned();
        if known.is_none_or(|known| gist(known) != gist(&push) || refresh(known) != refresh(&push)) {
            // What a controller that just started finds was told by the one before, if it saw it.
            let seen = push.status.as_ref().and_then(|status| status.observed_generation);
            if known.is_some() || seen != push.metadata.generation {
                self.note_change(&key);
            }
            self.changed.insert(key.clone());
        }
        self.lets_go |= self.pushes.get(&key).is_some_and(|known| !held(known).is_subset(&held(&push)));
        self.pushes.insert(key, Arc::new(push));
    }

    /// One is gone, or can't be read any more.
    fn remove(&mut self, key: &Key) {
        self.lets_go |= self.pushes.remove(key).is_some();
    }

    /// A Secret was seen for the first time, changed, or went.
    fn touch(&mut self, namespace: &str, secret: &str, is_change: bool) {
        let pushes = self.pushes.iter().filter(|(key, push)| key.0 == namespace && push.spec.secret_name == secret);
        for key in pushes.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            if is_change {
                self.note_change(&key);
            }
            self.touched.insert(key);
        }
    }

    fn note_change(&mut self, key: &Key) {
        self.waiting.entry(key.clone()).and_modify(|waiting| waiting.changes += 1).or_insert_with(Waiting::new);
    }

    /// A look has ended that was to carry out these changes. Those that came meanwhile wait from now on.
    fn carried_out(&mut self, key: &Key, change: Option<Waiting>) {
        match self.waiting.get_mut(key) {
            Some(waiting) if change.is_none_or(|change| change.changes != waiting.changes) => *waiting = Waiting::new(),
            _ => drop(self.waiting.remove(key)),
        }
    }

    /// Those that have waited for too long by now, of which nobody looks after; and when the next ones will have.
    fn overdue(&mut self, now: Instant, is_busy: impl Fn(&Key) -> bool) -> (Vec<Key>, Option<Instant>) {
        let pushes = &self.pushes;
        self.waiting.retain(|key, _| pushes.contains_key(key));
        let (mut overdue, mut next) = (Vec::new(), None::<Instant>);
        for (key, waiting) in self.waiting.iter_mut().filter(|(key, _)| !is_busy(key)) {
            match waiting.told_at() {
                Some(at) if at <= now => {
                    waiting.told = true;
                    overdue.push(key.clone());
                }
                Some(at) => next = Some(next.map_or(at, |next| next.min(at))),
                None => {}
            }
        }
        (overdue, next)
    }
}

impl Pushes {
    /// `namespaces`: where Secrets may be pushed from. `fence`: open while this controller may write; `None`: always.
    #[must_use]
    pub fn new(namespaces: &[String], fence: Option<Fence>) -> Self {
        let [wake, came_back, released] = std::array::from_fn(|_| watch::Sender::new(()));
        Self { known: Mutex::default(), wake, came_back, released, sources: Sources::new(namespaces), fence, cluster: OnceCell::new() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.known();
        change(&mut known);
        let wakes = !known.changed.is_empty() || !known.touched.is_empty();
        let lets_go = std::mem::take(&mut known.lets_go);
        drop(known);
        if wakes {
            self.wake.send_replace(());
        }
        if lets_go {
            self.release();
        }
    }

    /// Something changed or went that may have stood in the way of others: they are looked at again.
    pub(super) fn release(&self) {
        self.released.send_replace(());
    }

    /// Takes in the answer to a write of ours.
    fn written(&self, push: RobotoPush) {
        self.change(|known| {
            if known.pushes.contains_key(&key_of(&push)) {
                known.put(push);
            }
        });
    }

    /// When it is to be told that a change of this one waits; `None`: of none, or it was.
    fn told_at(&self, key: &Key) -> Option<Instant> {
        self.known().waiting.get(key).and_then(|waiting| waiting.told_at())
    }

    fn note_told(&self, key: &Key) {
        if let Some(waiting) = self.known().waiting.get_mut(key) {
            waiting.told = true;
        }
    }

    const fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Whether the lease lets this controller write at this moment.
    fn may_write(&self) -> bool {
        self.fence.as_ref().is_none_or(Fence::is_open)
    }

    /// Whether a resource still is what a look began with.
    fn is_current(&self, key: &Key, push: &RobotoPush) -> bool {
        self.known().pushes.get(key).is_some_and(|known| gist(known) == gist(push))
    }

    /// Whose it is what a store without marks keeps there, if it isn't this one's: that of who made it or took it over first.
    fn holder(&self, key: &Key, push: &RobotoPush, source: &Source) -> Option<Key> {
        let provider = ProviderId::meant(&push.spec.provider, &key.0);
        let owns = |(key, push): (&Key, &RobotoPush)| {
            let mut targets = push.status.iter().flat_map(|status| &status.targets).filter(|target| target.ownership == Some(PushOwnership::Owned));
            let is_same = |uri: &str| uri.parse::<Reference>().is_ok_and(|known| overlap(&known.source, source));
            targets.any(|target| ProviderId::meant(&target.provider, &key.0) == provider && is_same(&target.uri))
        };
        let age = |(key, push): (&Key, &RobotoPush)| (push.creation_timestamp().map(|time| time.0), key.clone());
        let known = self.known();
        let this = (key, known.pushes.get(key).map_or(push, |push| &**push));
        let is_owned = owns(this);
        let mut others = known.pushes.iter().map(|(key, push)| (key, &**push)).filter(|(other, _)| *other != key);
        others.find(|other| owns(*other) && (!is_owned || age(*other) < age(this))).map(|(key, _)| key.clone())
    }

    /// How many may be pushed and are not suspended, and how many of them are Ready and Fresh.
    #[must_use]
    pub fn totals(&self) -> (usize, usize) {
        let known = self.known();
        let serving = known.pushes.iter().filter(|(key, push)| !push.spec.suspend && self.sources.admit(&key.0).is_ok()).map(|(_, push)| push);
        let is_true = |push: &RobotoPush, type_| push.status.as_ref().and_then(|status| status.condition(type_)).is_some_and(|told| told.status == "True");
        serving.fold((0, 0), |(all, well), push| (all + 1, well + usize::from(is_true(push, READY) && is_true(push, FRESH))))
    }

    /// The last known status of a resource.
    fn status(&self, key: &Key, push: &RobotoPush) -> RobotoPushStatus {
        let known = self.known().pushes.get(key).filter(|known| known.uid() == push.uid()).cloned();
        known.map_or_else(|| push.status.clone(), |known| known.status.clone()).unwrap_or_default()
    }

    /// What tells this cluster from others.
    async fn cluster(&self, client: &Client) -> Result<&str, ReadError> {
        let ask = async || {
            let found = Api::<PartialObjectMeta<Namespace>>::all(client.clone()).get(CLUSTER).await.ok();
            let problem = format!("the namespace {CLUSTER}, whose uid marks what this cluster pushes, could not be read; check the controller's roles");
            found.and_then(|found| found.uid()).ok_or_else(|| ReadError::new(Reason::KubernetesError, problem))
        };
        self.cluster.get_or_try_init(ask).await.map(String::as_str)
    }
}

/// Watches the kind in one namespace, or in all. Nobody waits for it: mirroring needs none of it.
pub(super) async fn watch(client: Client, scope: Option<String>, context: Arc<Context>, gates: Gates) {
    let config = watcher::Config::default();
    let mut events = pin!(watcher(api::<DeserializeGuard<RobotoPush>>(&client, scope.as_deref()), config).backoff(Pauses::default()));
    let mut listed = BTreeSet::new();
    let forget = |key: &Key| context.pushes.change(|known| known.remove(key));
    let take_in = |push: DeserializeGuard<RobotoPush>| {
        let key = key_of(&push);
        if let Ok(push) = push.0 {
            context.pushes.change(|known| known.put(push));
        } else {
            tracing::warn!(namespace = key.0, name = key.1, "the RobotoPush cannot be read; it is older than the CRD's rules");
            forget(&key);
        }
        key
    };
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(push)) => drop(listed.insert(take_in(push))),
            Ok(Event::Apply(push)) => drop(take_in(push)),
            Ok(Event::Delete(push)) => forget(&key_of(&push)),
            Ok(Event::InitDone) => {
                let elsewhere = |key: &Key| scope.as_ref().is_some_and(|scope| *scope != key.0);
                context.pushes.change(|known| {
                    let gone: Vec<Key> = known.pushes.keys().filter(|key| !elsewhere(key) && !listed.contains(*key)).cloned().collect();
                    for key in &gone {
                        known.remove(key);
                    }
                });
            }
            Err(error) => gates.trouble(PUSHES, scope.as_deref(), &error),
        }
    }
}

/// Watches the Secrets of one namespace, by their metadata alone. Nobody waits for it: where it isn't allowed, a change is seen at the next `ttl`.
pub(super) async fn watch_secrets(client: Client, namespace: String, context: Arc<Context>, gates: Gates) {
    let config = watcher::Config::default();
    let mut events = pin!(watcher(api::<PartialObjectMeta<Secret>>(&client, Some(&namespace)), config).backoff(Pauses::default()));
    let mut versions: BTreeMap<String, source::Seen> = BTreeMap::new();
    let mut listed = BTreeSet::new();
    let touch = |name: &str, is_change: bool| context.pushes.change(|known| known.touch(&namespace, name, is_change));
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(secret) | Event::Apply(secret)) => {
                let (name, seen) = (secret.name_any(), source::seen(&secret));
                listed.insert(name.clone());
                let before = versions.insert(name.clone(), seen.clone());
                if before.as_ref() != Some(&seen) {
                    touch(&name, before.is_some());
                }
            }
            Ok(Event::Delete(secret)) => {
                versions.remove(&secret.name_any());
                touch(&secret.name_any(), true);
            }
            Ok(Event::InitDone) => {
                let gone: Vec<String> = versions.keys().filter(|name| !listed.contains(*name)).cloned().collect();
                for name in gone {
                    versions.remove(&name);
                    touch(&name, true);
                }
            }
            Err(error) => gates.trouble(PUSHED_SECRETS, Some(&namespace), &error),
        }
    }
}

/// Looks at all of them, for ever; after `stop` finishes what was begun.
pub(super) async fn run(context: Arc<Context>, gates: Gates, stop: CancellationToken) {
    if stop.run_until_cancelled(gates.all_synced()).await.is_none() {
        return;
    }
    let mut changes = context.pushes.wake.subscribe();
    let mut came_back = context.pushes.came_back.subscribe();
    let mut released = context.pushes.released.subscribe();
    let (mut providers, mut namespaces) = (context.providers.changes(), context.namespaces.changes());
    let mut memories: HashMap<Key, Box<Memory>> = HashMap::new();
    let mut due: BTreeMap<Key, Instant> = BTreeMap::new();
    let mut working: JoinSet<Worked> = JoinSet::new();
    // Each with the provider of which it takes a place; who makes no call takes none.
    let mut at_work: BTreeMap<Key, Option<ProviderId>> = BTreeMap::new();
    // Those at work while something changed that may help: they may have begun before it.
    let mut overtaken: BTreeSet<Key> = BTreeSet::new();
    let (mut changed_around, mut revived) = (false, false);
    let helps = |key: &Key, memory: &Memory, changed_around: bool, revived: bool| {
        let waits = memory.waits;
        changed_around && (waits.change || waits.end && context.namespaces.leaves(&key.0)) || revived && waits.store
    };
    while !stop.is_cancelled() {
        let now = Instant::now();
        let (changed, touched) = {
            let mut known = context.pushes.known();
            (std::mem::take(&mut known.changed), std::mem::take(&mut known.touched))
        };
        for key in changed {
            due.insert(key, now);
        }
        let (around, back) = (std::mem::take(&mut changed_around), std::mem::take(&mut revived));
        if around || back {
            overtaken.extend(at_work.keys().cloned());
        }
        let waiting = memories.iter().filter(|(key, memory)| helps(key, memory, around, back)).map(|(key, _)| key.clone());
        for key in touched.into_iter().chain(waiting) {
            // What changes all the time doesn't make the store be asked all the time.
            let soon = due.entry(key).or_insert(now + DEBOUNCE);
            *soon = (*soon).min(now + DEBOUNCE);
        }
        let mut ripe: Vec<(Instant, Key)> =
            due.iter().filter(|(key, at)| **at <= now && !at_work.contains_key(*key)).map(|(key, at)| (*at, key.clone())).collect();
        // Who waits longest comes first, and a change before what is only looked at again.
        {
            let known = context.pushes.known();
            ripe.sort_by_cached_key(|(at, key)| if known.waiting.contains_key(key) { *at } else { *at + HEAD_START });
        }
        for (_, key) in ripe {
            let (push, change) = {
                let known = context.pushes.known();
                (known.pushes.get(&key).cloned(), known.waiting.get(&key).copied())
            };
            let Some(push) = push else {
                due.remove(&key);
                memories.remove(&key);
                continue;
            };
            let calls = push.metadata.deletion_timestamp.is_some() || !push.spec.suspend && context.pushes.sources().admit(&key.0).is_ok();
            let place = calls.then(|| ProviderId::meant(&push.spec.provider, &key.0));
            let taken = |by: &ProviderId| at_work.values().flatten().filter(|other| *other == by).count();
            if place.as_ref().is_some_and(|place| at_work.values().flatten().count() >= AT_ONCE || taken(place) >= SHARE) {
                continue;
            }
            due.remove(&key);
            let memory = memories.remove(&key).unwrap_or_default();
            at_work.insert(key.clone(), place);
            working.spawn(look(context.clone(), key, push, memory, change));
        }
        // Those at work tell it themselves.
        let (overdue, told_at) = context.pushes.known().overdue(now, |key| at_work.contains_key(key));
        for key in overdue {
            let push = context.pushes.known().pushes.get(&key).cloned();
            if let Some(push) = push {
                at_work.insert(key.clone(), None);
                working.spawn(wait(context.clone(), key, push));
            }
        }
        // What is ripe and has no room is looked for once somebody is through.
        let next = due.values().copied().filter(|at| *at > now).chain(told_at).min();
        tokio::select! {
            () = stop.cancelled() => {}
            _ = changes.changed() => {}
            _ = providers.changed() => changed_around = true,
            _ = namespaces.changed() => changed_around = true,
            _ = released.changed() => changed_around = true,
            _ = came_back.changed() => revived = true,
            Some(Ok(worked)) = working.join_next() => match worked {
                Worked::Told(key) => {
                    at_work.remove(&key);
                    overtaken.remove(&key);
                }
                Worked::Looked { key, memory, again } => {
                    at_work.remove(&key);
                    let soon = (overtaken.remove(&key) && helps(&key, &memory, true, true)).then_some(DEBOUNCE);
                    if let Some(again) = again.into_iter().chain(soon).min() {
                        let at = Instant::now() + again;
                        let soon = due.entry(key.clone()).or_insert(at);
                        *soon = (*soon).min(at);
                    }
                    memories.insert(key, memory);
                }
            },
            () = until(next) => {}
        }
    }
    while working.join_next().await.is_some() {}
}

/// What came of a job.
enum Worked {
    /// It was looked at; after how long it is again.
    Looked { key: Key, memory: Box<Memory>, again: Option<Duration> },
    /// It was told that it waits.
    Told(Key),
}

async fn wait(context: Arc<Context>, key: Key, push: Arc<RobotoPush>) -> Worked {
    // Whether it could be told or not.
    let _ = AssertUnwindSafe(tokio::time::timeout(LAST_WORDS, tell_waiting(&context, &push))).catch_unwind().await;
    Worked::Told(key)
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Looks at one of them. A panic or a hang stays here. `change`: the change that it is to carry out.
async fn look(context: Arc<Context>, key: Key, push: Arc<RobotoPush>, mut memory: Box<Memory>, change: Option<Waiting>) -> Worked {
    let work = tokio::time::timeout(LIMIT, tend(&context, &push, &mut memory));
    let looked = AssertUnwindSafe(work).catch_unwind().await;
    context.pushes.known().carried_out(&key, change);
    let error = match looked {
        Ok(Ok(again)) => return Worked::Looked { key, memory, again },
        Ok(Err(_)) => ReadError::new(Reason::ProviderUnavailable, "working on it took longer than two minutes and was given up; it is tried again"),
        Err(_) => ReadError::new(Reason::InternalError, "a defect of the controller; it is tried again. Please report it with the controller's log"),
    };
    tracing::error!(namespace = key.0, name = key.1, problem = error.message, "pushing failed");
    let told = tokio::time::timeout(LAST_WORDS, give_up(&context, &push, error));
    // Whether it could be told or not.
    let _ = AssertUnwindSafe(told).catch_unwind().await;
    Worked::Looked { key, memory: Box::default(), again: Some(AFTER_DEFECT) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(version: &str, generation: i64) -> RobotoPush {
        let mut push = RobotoPush::new("p", serde_yaml::from_str("{secretName: s, data: [{uri: 'aws.sm://x'}]}").expect("a spec"));
        push.metadata.namespace = Some("n".to_owned());
        push.metadata.uid = Some("u".to_owned());
        push.metadata.generation = Some(generation);
        push.metadata.resource_version = Some(version.to_owned());
        push
    }

    #[test]
    fn a_change_is_told_once_it_has_waited_and_only_those_that_were_not_carried_out_wait() {
        let mut known = Known::default();
        let key = ("n".to_owned(), "p".to_owned());
        let seen = |version: &str, generation| {
            let mut push = push(version, generation);
            push.status = Some(RobotoPushStatus { observed_generation: Some(1), ..RobotoPushStatus::default() });
            push
        };
        let late = || Instant::now() + PATIENCE;
        known.put(seen("5", 1));
        assert_eq!(known.overdue(late(), |_| false), (vec![], None), "the controller before this one carried it out");
        known.touch("n", "s", false);
        assert_eq!(known.overdue(late(), |_| false), (vec![], None), "seen for the first time");
        known.touch("n", "s", true);
        known.put(seen("6", 2));
        let (overdue, next) = known.overdue(Instant::now(), |_| false);
        assert!(overdue.is_empty() && next.is_some_and(|next| next <= late()));
        assert_eq!(known.overdue(late(), |_| true), (vec![], None), "who is at work tells it itself");
        let change = known.waiting.get(&key).copied();
        assert_eq!(known.overdue(late(), |_| false), (vec![key.clone()], None));
        assert_eq!(known.overdue(late(), |_| false), (vec![], None), "it was told");
        known.touch("n", "s", true);
        known.carried_out(&key, change);
        assert_eq!(known.overdue(late(), |_| false), (vec![key.clone()], None), "another one came meanwhile");
        known.carried_out(&key, known.waiting.get(&key).copied());
        assert_eq!(known.overdue(late(), |_| false), (vec![], None));
        known.touch("n", "s", true);
        known.pushes.clear();
        assert_eq!((known.overdue(late(), |_| false), known.waiting.len()), ((vec![], None), 0), "it is gone");
    }

    #[test]
    fn only_what_matters_wakes_and_nothing_older_comes_back() {
        let pushes = Pushes::new(&[], None);
        let key = ("n".to_owned(), "p".to_owned());
        let changed = || std::mem::take(&mut pushes.known().changed).len();
        pushes.change(|known| known.put(push("5", 1)));
        assert_eq!(changed(), 1);
        pushes.written(push("6", 1));
        assert_eq!(changed(), 0, "the answer to our own write");
        pushes.change(|known| known.put(push("4", 0)));
        assert_eq!((changed(), pushes.is_current(&key, &push("6", 1))), (0, true), "an older version");
        pushes.change(|known| known.put(push("7", 2)));
        assert_eq!((changed(), pushes.is_current(&key, &push("6", 1))), (1, false), "another spec");
        pushes.change(|known| known.remove(&key));
        pushes.written(push("8", 2));
        assert!(pushes.known().pushes.is_empty(), "an answer brings nothing back");
        assert!(pushes.may_write(), "without a lease");
    }
}
