//! Fanning out: a `ClusterRobotoSecret` becomes a `RobotoSecret` in each selected namespace, and how those stand becomes its status.
//!
//! Watch events enter; RobotoSecrets are made, put right and removed, and a status leaves (what of it, says [`family`](super::family)). A
//! namespace never gets a finalizer. No store is asked here: what it makes is read like any other, and the same value once for all of them. Where
//! all is as it should be, no request is made; where a namespace refuses, or a `ClusterRobotoSecret` hangs, the others go on.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{FutureExt, StreamExt, stream};
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use serde_json::json;
use tokio::{sync::watch, task::JoinSet, time::Instant};

use super::{
    cache::Key,
    drift::is_older,
    family::{Child, MANAGER, Pattern, Step, child_name, plan, selected, status_of},
    mirror::Context,
    schedule::until_retry,
    status::Notice,
    target::causes,
    watches::{CLUSTER_RESOURCES, Gates, Pauses, key_of},
};
use crate::api::{
    ClusterRobotoSecret, GROUP, Reason, RobotoSecret,
    clusterrobotosecret::{ClusterRobotoSecretStatus, NamespaceFailure},
};

/// What happens together is looked at together.
const DEBOUNCE: Duration = Duration::from_millis(250);
/// How soon to look again after somebody else wrote at the same moment.
const AGAIN: Duration = Duration::from_secs(1);
/// How often a status is written at most.
const STATUS_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two tries in a namespace that refuses.
const LONGEST_RETRY: Duration = Duration::from_mins(1);
/// How soon to try a status again that could not be written.
const STATUS_RETRY: Duration = Duration::from_secs(10);
/// How long one look at a `ClusterRobotoSecret` may take.
const LIMIT: Duration = Duration::from_mins(2);
/// How many of them are worked on at the same time.
const PARENTS_AT_ONCE: usize = 4;
/// How many of its RobotoSecrets are written at the same time.
const CHILDREN_AT_ONCE: usize = 8;

/// What is known of fanning out.
pub struct FanOut {
    known: Mutex<Known>,
    wake: watch::Sender<()>,
}

#[derive(Default)]
struct Known {
    parents: HashMap<String, Arc<ClusterRobotoSecret>>,
    /// By the name of whose they are.
    children: HashMap<String, BTreeMap<Key, Child>>,
    owners: HashMap<Key, String>,
    /// The names of those that are to be looked at.
    changed: BTreeSet<String>,
}

impl Default for FanOut {
    fn default() -> Self {
        Self { known: Mutex::default(), wake: watch::Sender::new(()) }
    }
}

impl Known {
    fn child(&self, key: &Key) -> Option<&Child> {
        self.children.get(self.owners.get(key)?)?.get(key)
    }

    fn take(&mut self, key: &Key) -> Option<Child> {
        let owner = self.owners.remove(key)?;
        let family = self.children.get_mut(&owner)?;
        let child = family.remove(key);
        if family.is_empty() {
            self.children.remove(&owner);
        }
        child
    }

    /// Takes note of a RobotoSecret.
    fn see(&mut self, resource: &RobotoSecret) {
        let key = key_of(resource);
        let version = resource.resource_version().unwrap_or_default();
        // What was written is known before the watch tells what was there before.
        if self.child(&key).is_some_and(|known| is_older(&version, &known.version)) {
            return;
        }
        let (was, is) = (self.take(&key), Child::of(resource));
        let same = match (&was, &is) {
            (Some(was), Some(is)) => was.looks_like(is),
            (was, is) => was.is_none() && is.is_none(),
        };
        if !same {
            self.changed.extend(was.iter().chain(&is).map(|child| child.owner.name.clone()));
        }
        if let Some(child) = is {
            self.owners.insert(key.clone(), child.owner.name.clone());
            self.children.entry(child.owner.name.clone()).or_default().insert(key, child);
        }
    }

    /// A RobotoSecret is gone. Its place may be wanted, whosever it was.
    fn forget(&mut self, key: &Key) {
        let wanted = self.parents.values().filter(|parent| child_name(parent) == key.1).map(|parent| parent.name_any());
        self.changed.extend(wanted);
        let gone = self.take(key);
        self.changed.extend(gone.map(|child| child.owner.name));
    }

    /// Takes in what a watch told.
    fn put(&mut self, parent: ClusterRobotoSecret) {
        let name = parent.name_any();
        let known = self.parents.get(&name).filter(|known| known.uid() == parent.uid());
        let (version, known_version) = (parent.resource_version(), known.and_then(|known| known.resource_version()));
        if known_version.is_some_and(|known| version == Some(known.clone()) || is_older(&version.unwrap_or_default(), &known)) {
            return;
        }
        self.parents.insert(name.clone(), Arc::new(parent));
        self.changed.insert(name);
    }

    /// Takes in the answer to a write of ours, unless the watch told something newer meanwhile.
    fn put_written(&mut self, parent: ClusterRobotoSecret) {
        let Some(known) = self.parents.get_mut(&parent.name_any()) else { return };
        let version = |of: &ClusterRobotoSecret| of.resource_version().unwrap_or_default();
        if known.uid() == parent.uid() && is_older(&version(known), &version(&parent)) {
            *known = Arc::new(parent);
        }
    }
}

impl FanOut {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.known();
        change(&mut known);
        let wakes = !known.changed.is_empty();
        drop(known);
        if wakes {
            self.wake.send_replace(());
        }
    }

    /// Takes note of a RobotoSecret.
    pub fn see(&self, resource: &RobotoSecret) {
        self.change(|known| known.see(resource));
    }

    /// A RobotoSecret is gone.
    pub fn forget(&self, key: &Key) {
        self.change(|known| known.forget(key));
    }

    /// Forgets the children, of one namespace or of all, that a complete list doesn't have.
    pub fn keep_only(&self, scope: Option<&str>, listed: &BTreeSet<Key>) {
        self.change(|known| {
            let is_gone = |key: &&Key| scope.is_none_or(|scope| scope == key.0) && !listed.contains(*key);
            let gone: Vec<Key> = known.owners.keys().filter(is_gone).cloned().collect();
            for key in &gone {
                known.forget(key);
            }
        });
    }
}

/// Watches the kind.
pub(super) async fn watch(context: Arc<Context>, gates: Gates) {
    let api = Api::<DeserializeGuard<ClusterRobotoSecret>>::all(context.client.clone());
    let mut events = pin!(watcher(api, watcher::Config::default()).backoff(Pauses::default()));
    let mut listed = BTreeSet::new();
    let mut synced = false;
    let take_in = |parent: DeserializeGuard<ClusterRobotoSecret>| {
        let name = parent.name_any();
        if let Ok(parent) = parent.0 {
            context.fan_out.change(|known| known.put(parent));
        } else {
            // What it made stays as it is.
            tracing::warn!(name, "the ClusterRobotoSecret cannot be read; it is older than the CRD's rules");
            context.fan_out.change(|known| drop(known.parents.remove(&name)));
        }
        name
    };
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(parent)) => drop(listed.insert(take_in(parent))),
            Ok(Event::Apply(parent)) => drop(take_in(parent)),
            // What it made goes by garbage collection, or stays if that was asked for.
            Ok(Event::Delete(parent)) => context.fan_out.change(|known| {
                known.changed.extend(known.parents.remove(&parent.name_any()).map(|parent| parent.name_any()));
            }),
            Ok(Event::InitDone) => {
                context.fan_out.change(|known| known.parents.retain(|name, _| listed.contains(name)));
                if !std::mem::replace(&mut synced, true) {
                    gates.synced(CLUSTER_RESOURCES, None);
                }
            }
            Err(error) => gates.trouble(CLUSTER_RESOURCES, None, &error),
        }
    }
}

/// How the work on one of them goes.
#[derive(Default)]
struct Course {
    /// Whether all namespaces are served.
    everybody: bool,
    /// The uid and the generation that this is about.
    about: (Option<String>, Option<i64>),
    /// When its status was last written.
    told: Option<Instant>,
    /// What is refused and waits.
    refused: HashMap<Key, Refused>,
}

/// A write that was refused.
struct Refused {
    tries: u32,
    again: Instant,
    failure: NamespaceFailure,
}

/// Makes, puts right and removes, for ever, in the namespaces that are served (`everybody`: in all).
pub(super) async fn run(context: Arc<Context>, gates: Gates, everybody: bool) {
    gates.all_synced().await;
    let (mut changes, mut namespaces) = (context.fan_out.wake.subscribe(), context.namespaces.changes());
    let mut courses: HashMap<String, Course> = HashMap::new();
    let mut due: BTreeMap<String, Instant> = BTreeMap::new();
    let mut working: JoinSet<(String, Course, Option<Duration>)> = JoinSet::new();
    let mut at_work: BTreeSet<String> = BTreeSet::new();
    let mut everything = true;
    loop {
        let (now, mut changed) = (Instant::now(), std::mem::take(&mut context.fan_out.known().changed));
        if std::mem::take(&mut everything) {
            changed.extend(context.fan_out.known().parents.keys().cloned());
        }
        for name in changed {
            let soon = due.entry(name).or_insert(now + DEBOUNCE);
            *soon = (*soon).min(now + DEBOUNCE);
        }
        let mut ripe: Vec<(Instant, String)> =
            due.iter().filter(|(name, at)| **at <= now && !at_work.contains(*name)).map(|(name, at)| (*at, name.clone())).collect();
        // Who waits longest comes first, or one that changes all the time would keep others waiting for ever.
        ripe.sort();
        for (_, name) in ripe.into_iter().take(PARENTS_AT_ONCE.saturating_sub(at_work.len())) {
            due.remove(&name);
            let course = courses.remove(&name).unwrap_or_else(|| Course { everybody, ..Course::default() });
            let parent = context.fan_out.known().parents.get(&name).filter(|parent| parent.metadata.deletion_timestamp.is_none()).cloned();
            if let Some(parent) = parent {
                at_work.insert(name.clone());
                working.spawn(look(context.clone(), name, parent, course));
            }
        }
        let next = due.iter().filter(|(name, _)| !at_work.contains(*name)).map(|(_, at)| *at).min().filter(|_| at_work.len() < PARENTS_AT_ONCE);
        tokio::select! {
            _ = changes.changed() => {}
            _ = namespaces.changed() => everything = true,
            Some(Ok((name, course, again))) = working.join_next() => {
                at_work.remove(&name);
                if let Some(again) = again {
                    let at = Instant::now() + again;
                    let soon = due.entry(name.clone()).or_insert(at);
                    *soon = (*soon).min(at);
                }
                courses.insert(name, course);
            }
            () = until(next) => {}
        }
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Looks at one of them. A panic or a hang stays here. Returns after how long to look again, if nothing happens before.
async fn look(context: Arc<Context>, name: String, parent: Arc<ClusterRobotoSecret>, mut course: Course) -> (String, Course, Option<Duration>) {
    let about = (parent.uid(), parent.metadata.generation);
    if course.about != about {
        course = Course { about, everybody: course.everybody, told: course.told, ..Course::default() };
    }
    let work = tokio::time::timeout(LIMIT, tend(&context, &parent, &mut course));
    let problem = match AssertUnwindSafe(work).catch_unwind().await {
        Ok(Ok(again)) => return (name, course, again),
        Ok(Err(_)) => "working on the ClusterRobotoSecret took longer than two minutes and was given up; it is tried again",
        Err(_) => "a defect of the controller met this ClusterRobotoSecret; it is tried again. Please report it with the controller's log",
    };
    tracing::error!(name, problem, "fanning out failed");
    (name, course, Some(LONGEST_RETRY))
}

/// How a step ended that didn't simply work.
enum Trouble {
    /// Somebody else wrote at the same moment.
    Again,
    /// It was refused.
    Refused(NamespaceFailure),
}

/// Does what is to be done for one of them. Returns after how long to look again, if nothing happens before.
async fn tend(context: &Context, parent: &ClusterRobotoSecret, course: &mut Course) -> Option<Duration> {
    let pattern = Pattern::of(parent);
    let namespaces = context.namespaces.all();
    let selected = selected(parent, &namespaces);
    let family = || context.fan_out.known().children.get(&parent.name_any()).cloned().unwrap_or_default();
    let (steps, mut failures) = plan(&pattern, &selected, &namespaces, &family(), |key| context.resources.get(key).is_some());
    course.refused.retain(|key, _| steps.iter().any(|step| step.key() == key));
    let now = Instant::now();
    let waits = |step: &Step| course.refused.get(step.key()).is_some_and(|refused| refused.again > now);
    let steps: Vec<Step> = steps.into_iter().filter(|step| !waits(step)).collect();
    let take = |step: Step| {
        let pattern = &pattern;
        async move { (step.key().clone(), take(context, pattern, step).await) }
    };
    let taken: Vec<(Key, Option<Trouble>)> = stream::iter(steps).map(take).buffer_unordered(CHILDREN_AT_ONCE).collect().await;
    let mut again = None;
    for (key, trouble) in taken {
        match trouble {
            None => drop(course.refused.remove(&key)),
            Some(Trouble::Again) => again = Some(AGAIN),
            Some(Trouble::Refused(failure)) => {
                let tries = course.refused.get(&key).map_or(1, |refused| refused.tries.saturating_add(1));
                let wait = until_retry(Reason::KubernetesError, tries, Duration::ZERO, &key.0).unwrap_or(LONGEST_RETRY).min(LONGEST_RETRY);
                course.refused.insert(key, Refused { tries, again: Instant::now() + wait, failure });
            }
        }
    }
    failures.extend(course.refused.values().map(|refused| refused.failure.clone()));
    let retry = course.refused.values().map(|refused| refused.again.saturating_duration_since(Instant::now())).min();
    // It is another controller's, which serves the namespaces that it selects.
    if selected.is_empty() && !course.everybody && course.told.is_none() {
        return None;
    }
    let status = status_of(parent, &pattern, &selected, &family(), failures, Timestamp::now());
    let told = tell(context, parent, &status, course).await;
    again.into_iter().chain(retry).chain(told).min()
}

/// Writes the status, if it is another one, and events about what fails newly. Returns after how long to look again, if that is necessary.
async fn tell(context: &Context, parent: &ClusterRobotoSecret, status: &ClusterRobotoSecretStatus, course: &mut Course) -> Option<Duration> {
    if parent.status.as_ref() == Some(status) {
        return None;
    }
    if let Some(wait) = course.told.and_then(|told| STATUS_PAUSE.checked_sub(told.elapsed())) {
        return Some(wait);
    }
    course.told = Some(Instant::now());
    let name = parent.name_any();
    let metadata = json!({"name": name, "uid": parent.uid()});
    let body = json!({"apiVersion": format!("{GROUP}/v1alpha1"), "kind": "ClusterRobotoSecret", "metadata": metadata, "status": status});
    let api = Api::<ClusterRobotoSecret>::all(context.client.clone());
    let (parameters, patch) = (PatchParams::apply(MANAGER).force(), Patch::Apply(&body));
    match context.metrics.kube_write("Status", api.patch_status(&name, &parameters, &patch)).await {
        Ok(written) => {
            // The watch brings it back later; until then it would be written again.
            context.fan_out.change(|known| known.put_written(written));
        }
        // It is gone, or another one of its name is there; the watch tells.
        Err(kube::Error::Api(error)) if matches!(error.code, 404 | 409) => return None,
        Err(_) => {
            tracing::warn!(name, "the status of the ClusterRobotoSecret could not be written");
            return Some(STATUS_RETRY);
        }
    }
    let before = parent.status.iter().flat_map(|status| &status.failures).collect::<Vec<_>>();
    for failure in status.failures.iter().filter(|failure| !before.contains(failure)) {
        let note = format!("namespace {}: {} {}", failure.namespace, failure.reason, failure.message);
        context.events.publish(Notice { warning: true, reason: "CheckFailed", action: "FanOut", note }, parent);
    }
    None
}

/// Takes one step. What it writes is known at once, as the watch will tell it.
async fn take(context: &Context, pattern: &Pattern<'_>, step: Step) -> Option<Trouble> {
    let (namespace, name) = step.key().clone();
    let api = Api::<RobotoSecret>::namespaced(context.client.clone(), &namespace);
    let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    let write = async {
        match step {
            Step::Make(_) => {
                let Some(child) = pattern.child() else { return Ok(None) };
                context.metrics.kube_write("RobotoSecret", api.create(&parameters, &child)).await.map(Some)
            }
            // As a whole: a patch would leave a field that the template has no more.
            Step::PutRight(_) => {
                let Some(child) = pattern.put_right(api.get(&name).await?) else { return Ok(None) };
                context.metrics.kube_write("RobotoSecret", api.replace(&name, &parameters, &child)).await.map(Some)
            }
            Step::Remove(_, uid) => {
                let preconditions = Preconditions { uid: Some(uid), resource_version: None };
                let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
                context.metrics.kube_write("RobotoSecret", api.delete(&name, &parameters)).await.map(|_| None)
            }
        }
    };
    let problem = match write.await {
        Ok(written) => {
            if let Some(written) = written {
                context.fan_out.see(&written);
            }
            return None;
        }
        Err(kube::Error::Api(error)) if matches!(error.code, 404 | 409) => return Some(Trouble::Again),
        // The watch of namespaces tells.
        Err(kube::Error::Api(error)) if causes(&error).any(|(_, reason)| reason == "NamespaceTerminating") => return None,
        Err(kube::Error::Api(error)) if error.code == 403 => "the controller may not do it, or a quota or admission is against it; check its roles".to_owned(),
        Err(kube::Error::Api(error)) => format!("the API server failed with HTTP {}", error.code),
        Err(_) => "the API server could not be reached".to_owned(),
    };
    let message = format!("the RobotoSecret {name} could not be written: {problem}");
    Some(Trouble::Refused(NamespaceFailure { namespace, reason: Reason::KubernetesError.as_str().to_owned(), message }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(version: &str, ready: &str) -> RobotoSecret {
        let yaml = format!(
            "{{metadata: {{name: db, namespace: a, uid: c, generation: 1, resourceVersion: '{version}', ownerReferences: [{{apiVersion: x, kind: ClusterRobotoSecret, \
             name: db, uid: p, controller: true}}]}}, apiVersion: robotosecret.dev/v1alpha1, kind: RobotoSecret, spec: {{uri: 'aws.sm://x'}}, \
             status: {{observedGeneration: 1, conditions: [{{type: Ready, status: '{ready}', reason: Mirrored, message: m, lastTransitionTime: '2026-01-01T00:00:00Z'}}]}}}}"
        );
        serde_yaml::from_str(&yaml).expect("a RobotoSecret")
    }

    fn parent(uid: &str, version: &str) -> ClusterRobotoSecret {
        let yaml = "{namespaces: {all: true}, template: {spec: {uri: 'aws.sm://x'}}}";
        let mut parent = ClusterRobotoSecret::new("db", serde_yaml::from_str(yaml).expect("a spec"));
        (parent.metadata.uid, parent.metadata.resource_version) = (Some(uid.to_owned()), Some(version.to_owned()));
        parent
    }

    #[test]
    fn what_was_written_is_not_undone_by_what_a_watch_tells_of_before() {
        let key = ("a".to_owned(), "db".to_owned());
        let mut known = Known::default();
        known.see(&child("7", "True"));
        known.see(&child("5", "False"));
        assert_eq!(known.child(&key).map(|child| child.version.clone()).as_deref(), Some("7"));
        known.put(parent("p", "3"));
        known.put_written(parent("p", "9"));
        known.put(parent("p", "6"));
        assert_eq!(known.parents["db"].resource_version().as_deref(), Some("9"));
        // Another one of the name is no older version of it, and the answer to a write about the former one is none about it.
        known.put(parent("q", "2"));
        known.put_written(parent("p", "10"));
        assert_eq!(known.parents["db"].uid().as_deref(), Some("q"));
        // Nor does an answer bring back what was deleted.
        known.parents.clear();
        known.put_written(parent("q", "11"));
        assert!(known.parents.is_empty());
    }

    #[test]
    fn only_what_matters_is_looked_at_again() {
        let mut known = Known::default();
        let mut changed = |change: &dyn Fn(&mut Known)| {
            change(&mut known);
            std::mem::take(&mut known.changed).len()
        };
        assert_eq!(changed(&|known| known.put(parent("p", "1"))), 1);
        assert_eq!(changed(&|known| known.put_written(parent("p", "2"))), 0, "the answer to our own write");
        assert_eq!(changed(&|known| known.put(parent("p", "2"))), 0, "and the watch's word of it");
        assert_eq!(changed(&|known| known.see(&child("3", "True"))), 1, "a child appears");
        assert_eq!(changed(&|known| known.see(&child("4", "True"))), 0, "it is written to, and stands as before");
        assert_eq!(changed(&|known| known.see(&child("5", "False"))), 1, "it fails");
        assert_eq!(changed(&|known| known.forget(&("b".to_owned(), "other".to_owned()))), 0, "another name is free");
        assert_eq!(changed(&|known| known.forget(&("b".to_owned(), "db".to_owned()))), 1, "its name is free somewhere");
        assert_eq!(changed(&|known| known.forget(&("a".to_owned(), "db".to_owned()))), 1, "a child is gone");
        assert!(known.children.is_empty() && known.owners.is_empty());
    }
}
