//! Fanning out: a `ClusterRobotoSecret` becomes a `RobotoSecret` in each selected namespace, and how those stand becomes its status.
//!
//! Templates, namespaces and the RobotoSecrets that are there enter; RobotoSecrets are made, put right and removed, and a status leaves. A
//! RobotoSecret that isn't its own is never touched, and a namespace never gets a finalizer. No store is asked here: what it makes is read like
//! any other, and the same value once for all of them. Where all is as it should be, no request is made.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt, stream};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference, Time},
    jiff::Timestamp,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use serde_json::json;
use tokio::sync::watch;

use super::{
    cache::Key,
    mirror::Context,
    status::Notice,
    target::causes,
    watches::{CLUSTER_RESOURCES, Gates, Pauses, key_of},
};
use crate::api::{
    ClusterRobotoSecret, GROUP, REFRESH_ANNOTATION, Reason, RobotoSecret,
    clusterrobotosecret::{ClusterRobotoSecretStatus, LISTED_FAILURES, NamespaceFailure},
    namespaces::{Labels, Place},
    status::READY,
};

/// What happens together is looked at together.
const DEBOUNCE: Duration = Duration::from_millis(250);
/// How soon something that failed is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// How many are written at the same time.
const AT_ONCE: usize = 8;
/// The field manager of what is written.
const MANAGER: &str = "robotosecret";
/// The reason of a RobotoSecret that is somebody else's.
const NOT_OWNED: &str = "ChildNotOwned";

/// A RobotoSecret that a `ClusterRobotoSecret` made, as far as that is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Child {
    /// Its own uid.
    uid: String,
    /// Name and uid of whose it is.
    owner: (String, String),
    /// What it asks for (see [`print`]).
    spec: u64,
    labels: Labels,
    annotations: Labels,
    /// Its condition Ready: status, reason and message, if that is about its present spec.
    ready: Option<(String, String, String)>,
    leaves: bool,
}

/// Tells specs apart.
fn print(spec: &impl serde::Serialize) -> u64 {
    let mut hasher = DefaultHasher::new();
    // What came as JSON always goes into JSON.
    serde_json::to_vec(spec).unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}

impl Child {
    /// A RobotoSecret as it is, if it is the child of a `ClusterRobotoSecret`.
    fn of(resource: &RobotoSecret) -> Option<Self> {
        let owner = resource.owner_references().iter().find(|owner| owner.controller == Some(true) && owner.kind == ClusterRobotoSecret::kind(&()))?;
        let status = resource.status.as_ref().filter(|status| status.observed_generation == resource.metadata.generation);
        let ready = status.and_then(|status| status.condition(READY)).map(|ready| (ready.status.clone(), ready.reason.clone(), ready.message.clone()));
        Some(Self {
            uid: resource.uid().unwrap_or_default(),
            owner: (owner.name.clone(), owner.uid.clone()),
            spec: print(&resource.spec),
            labels: resource.labels().clone(),
            annotations: resource.annotations().clone(),
            ready,
            leaves: resource.metadata.deletion_timestamp.is_some(),
        })
    }
}

/// What every child of one `ClusterRobotoSecret` is to be.
struct Pattern {
    name: String,
    owner: (String, String),
    spec: u64,
    labels: Labels,
    annotations: Labels,
}

impl Pattern {
    fn of(parent: &ClusterRobotoSecret) -> Self {
        let metadata = parent.spec.template.metadata.clone().unwrap_or_default();
        let refresh = parent.annotations().get(REFRESH_ANNOTATION).map(|value| (REFRESH_ANNOTATION.to_owned(), value.clone()));
        Self {
            name: parent.spec.roboto_secret_name.clone().unwrap_or_else(|| parent.name_any()),
            owner: (parent.name_any(), parent.uid().unwrap_or_default()),
            spec: print(&parent.spec.template.spec),
            labels: metadata.labels,
            annotations: metadata.annotations.into_iter().chain(refresh).collect(),
        }
    }

    fn is_met_by(&self, child: &Child) -> bool {
        let holds = |wanted: &Labels, is: &Labels| wanted.iter().all(|(key, value)| is.get(key) == Some(value));
        child.spec == self.spec && holds(&self.labels, &child.labels) && holds(&self.annotations, &child.annotations)
    }
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Make(String),
    PutRight(Key),
    Remove(Key, String),
}

/// What is there in a namespace under the children's name.
enum There<'t> {
    Nothing,
    Mine(&'t Child),
    SomebodyElses,
}

/// What is to be done, and where that is impossible. `selected` are the namespaces, `children` all children there are, `taken` tells whether there
/// is a RobotoSecret that is no child.
fn plan(pattern: &Pattern, selected: &[String], children: &BTreeMap<Key, Child>, taken: impl Fn(&Key) -> bool) -> (Vec<Step>, Vec<NamespaceFailure>) {
    let (mut steps, mut failures) = (Vec::new(), Vec::new());
    for namespace in selected {
        let key = (namespace.clone(), pattern.name.clone());
        let there = match children.get(&key) {
            Some(child) if child.owner == pattern.owner => There::Mine(child),
            Some(_) => There::SomebodyElses,
            None if taken(&key) => There::SomebodyElses,
            None => There::Nothing,
        };
        match there {
            There::Nothing => steps.push(Step::Make(namespace.clone())),
            There::Mine(child) if child.leaves || pattern.is_met_by(child) => {}
            There::Mine(_) => steps.push(Step::PutRight(key)),
            There::SomebodyElses => failures.push(NamespaceFailure {
                namespace: namespace.clone(),
                reason: NOT_OWNED.to_owned(),
                message: format!("there is a RobotoSecret {} that isn't made from this one; delete it, or choose another spec.robotoSecretName", pattern.name),
            }),
        }
    }
    let is_left_over =
        |key: &Key, child: &Child| child.owner == pattern.owner && !child.leaves && (key.1 != pattern.name || selected.binary_search(&key.0).is_err());
    let leftovers = children.iter().filter(|(key, child)| is_left_over(key, child));
    steps.extend(leftovers.map(|(key, child)| Step::Remove(key.clone(), child.uid.clone())));
    (steps, failures)
}

/// The status, from how the children stand and what could not be done.
fn status_of(
    parent: &ClusterRobotoSecret,
    pattern: &Pattern,
    selected: &[String],
    children: &BTreeMap<Key, Child>,
    mut failures: Vec<NamespaceFailure>,
    now: Timestamp,
) -> ClusterRobotoSecretStatus {
    let mut ready = 0;
    for namespace in selected {
        let child = children.get(&(namespace.clone(), pattern.name.clone())).filter(|child| child.owner == pattern.owner);
        match child.and_then(|child| child.ready.as_ref()) {
            Some((status, ..)) if status == "True" => ready += 1,
            Some((status, reason, message)) if status == "False" && !failures.iter().any(|failure| failure.namespace == *namespace) => {
                let failure = NamespaceFailure { namespace: namespace.clone(), reason: reason.clone(), message: message.chars().take(4096).collect() };
                failures.push(failure);
            }
            _ => {}
        }
    }
    failures.sort_by(|a, b| a.namespace.cmp(&b.namespace));
    let (all, failed) = (selected.len(), failures.len());
    let (status, reason, message) = match failures.first() {
        Some(first) => {
            let rest = if failed == 1 { String::new() } else { format!("; {} more fail", failed - 1) };
            ("False", "ChildrenFailed", format!("namespace {}: {} {}{rest}", first.namespace, first.reason, first.message))
        }
        None if all == 0 => ("True", "NothingSelected", "no namespace is selected".to_owned()),
        None if ready == all => ("True", Reason::Mirrored.as_str(), format!("mirrored in {all} namespaces")),
        None => ("Unknown", Reason::Pending.as_str(), format!("mirrored in {ready} of {all} namespaces so far")),
    };
    let message: String = message.chars().take(4096).collect();
    let was = parent.status.iter().flat_map(|status| &status.conditions).find(|condition| condition.type_ == READY && condition.status == status);
    let condition = Condition {
        type_: READY.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: parent.metadata.generation,
        last_transition_time: was.map_or(Time(now), |was| was.last_transition_time.clone()),
    };
    failures.truncate(LISTED_FAILURES);
    let count = |count: usize| Some(i32::try_from(count).unwrap_or(i32::MAX));
    ClusterRobotoSecretStatus {
        observed_generation: parent.metadata.generation,
        conditions: vec![condition],
        namespaces: count(all),
        ready: count(ready),
        failed: count(failed),
        failures,
    }
}

/// What is known of fanning out.
pub struct FanOut {
    parents: Mutex<HashMap<String, Arc<ClusterRobotoSecret>>>,
    children: Mutex<BTreeMap<Key, Child>>,
    changes: watch::Sender<()>,
}

impl Default for FanOut {
    fn default() -> Self {
        Self { parents: Mutex::default(), children: Mutex::default(), changes: watch::Sender::new(()) }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FanOut {
    /// Takes note of a RobotoSecret.
    pub fn see(&self, resource: &RobotoSecret) {
        let key = key_of(resource);
        let child = Child::of(resource);
        let mut children = locked(&self.children);
        let was = match child.clone() {
            Some(child) => children.insert(key, child),
            None => children.remove(&key),
        };
        drop(children);
        if was != child {
            self.changes.send_replace(());
        }
    }

    /// A RobotoSecret is gone. Its place may be wanted, whosever it was.
    pub fn forget(&self, key: &Key) {
        locked(&self.children).remove(key);
        self.changes.send_replace(());
    }

    fn put(&self, parent: ClusterRobotoSecret) {
        locked(&self.parents).insert(parent.name_any(), Arc::new(parent));
        self.changes.send_replace(());
    }

    fn parents(&self) -> Vec<Arc<ClusterRobotoSecret>> {
        locked(&self.parents).values().cloned().collect()
    }
}

/// Watches the kind.
pub(super) async fn watch(context: Arc<Context>, gates: Gates) {
    let api = Api::<DeserializeGuard<ClusterRobotoSecret>>::all(context.client.clone());
    let mut events = pin!(watcher(api, watcher::Config::default()).backoff(Pauses::default()));
    let mut listed = Vec::new();
    let mut synced = false;
    let take_in = |parent: DeserializeGuard<ClusterRobotoSecret>| {
        let name = parent.name_any();
        if let Ok(parent) = parent.0 {
            context.fan_out.put(parent);
        } else {
            // What it made stays as it is.
            tracing::warn!(name, "the ClusterRobotoSecret cannot be read; it is older than the CRD's rules");
        }
        name
    };
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(parent)) => listed.push(take_in(parent)),
            Ok(Event::Apply(parent)) => drop(take_in(parent)),
            // What it made goes by garbage collection, or stays if that was asked for.
            Ok(Event::Delete(parent)) => drop(locked(&context.fan_out.parents).remove(&parent.name_any())),
            Ok(Event::InitDone) => {
                locked(&context.fan_out.parents).retain(|name, _| listed.contains(name));
                if !std::mem::replace(&mut synced, true) {
                    gates.synced(CLUSTER_RESOURCES);
                }
            }
            Err(error) => gates.trouble(CLUSTER_RESOURCES, None, &error),
        }
    }
}

/// Makes, puts right and removes, for ever.
pub(super) async fn run(context: Arc<Context>, gates: Gates) {
    gates.all_synced().await;
    let (mut changes, mut namespaces) = (context.fan_out.changes.subscribe(), context.namespaces.changes());
    let mut told: HashMap<String, Vec<NamespaceFailure>> = HashMap::new();
    loop {
        let mut in_vain = false;
        for parent in context.fan_out.parents() {
            if parent.metadata.deletion_timestamp.is_none() {
                in_vain |= !tend(&context, &parent, &mut told).await;
            }
        }
        let retry = async {
            if in_vain {
                tokio::time::sleep(RETRY).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            _ = changes.changed() => tokio::time::sleep(DEBOUNCE).await,
            _ = namespaces.changed() => tokio::time::sleep(DEBOUNCE).await,
            () = retry => {}
        }
    }
}

/// Does what is to be done for one of them. Returns whether all of it worked.
async fn tend(context: &Context, parent: &ClusterRobotoSecret, told: &mut HashMap<String, Vec<NamespaceFailure>>) -> bool {
    let pattern = Pattern::of(parent);
    let all = context.namespaces.all();
    let is_selected = |name: &str, labels: &Labels| parent.spec.namespaces.contain(Place { name, labels });
    // In the order of their names.
    let selected: Vec<String> = all.iter().filter(|(name, known)| !known.leaves && is_selected(name, &known.labels)).map(|(name, _)| name.clone()).collect();
    let children = locked(&context.fan_out.children).clone();
    let (steps, mut failures) = plan(&pattern, &selected, &children, |key| context.resources.get(key).is_some());
    let outcomes: Vec<Option<NamespaceFailure>> =
        stream::iter(steps).map(|step| take(context, parent, &pattern, step)).buffer_unordered(AT_ONCE).collect().await;
    failures.extend(outcomes.into_iter().flatten());
    let worked = failures.is_empty();
    let children = locked(&context.fan_out.children).clone();
    let status = status_of(parent, &pattern, &selected, &children, failures, Timestamp::now());
    let name = parent.name_any();
    if told.get(&name) != Some(&status.failures) {
        let before = told.insert(name.clone(), status.failures.clone()).unwrap_or_default();
        for failure in status.failures.iter().filter(|failure| !before.contains(failure)) {
            let note = format!("namespace {}: {} {}", failure.namespace, failure.reason, failure.message);
            context.events.publish(Notice { warning: true, reason: "CheckFailed", action: "FanOut", note }, parent);
        }
    }
    parent.status.as_ref() == Some(&status) || write_status(context, parent, &status).await && worked
}

async fn write_status(context: &Context, parent: &ClusterRobotoSecret, status: &ClusterRobotoSecretStatus) -> bool {
    let name = parent.name_any();
    let body = json!({"apiVersion": format!("{GROUP}/v1alpha1"), "kind": "ClusterRobotoSecret", "metadata": {"name": name}, "status": status});
    let api = Api::<ClusterRobotoSecret>::all(context.client.clone());
    let (parameters, patch) = (PatchParams::apply(MANAGER).force(), Patch::Apply(&body));
    match context.metrics.kube_write("Status", api.patch_status(&name, &parameters, &patch)).await {
        Ok(written) => {
            // The watch brings it back later; until then it would be written again.
            context.fan_out.put(written);
            true
        }
        Err(kube::Error::Api(error)) if error.code == 404 => true,
        Err(_) => {
            tracing::warn!(name, "the status of the ClusterRobotoSecret could not be written");
            false
        }
    }
}

/// Takes one step. What it writes is known at once, as the watch will tell it.
async fn take(context: &Context, parent: &ClusterRobotoSecret, pattern: &Pattern, step: Step) -> Option<NamespaceFailure> {
    let namespace = match &step {
        Step::Make(namespace) => namespace.clone(),
        Step::PutRight(key) | Step::Remove(key, _) => key.0.clone(),
    };
    let api = Api::<RobotoSecret>::namespaced(context.client.clone(), &namespace);
    let result = match step {
        Step::Make(_) => {
            let child = child_of(parent, pattern)?;
            let made = context
                .metrics
                .kube_write("RobotoSecret", api.create(&PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }, &child))
                .await;
            made.map(|made| context.fan_out.see(&made))
        }
        Step::PutRight(key) => put_right(context, &api, parent, pattern, &key).await,
        Step::Remove(key, uid) => {
            let parameters = DeleteParams { preconditions: Some(Preconditions { uid: Some(uid), resource_version: None }), ..DeleteParams::default() };
            context.metrics.kube_write("RobotoSecret", api.delete(&key.1, &parameters)).await.map(drop)
        }
    };
    let problem = match result {
        Ok(()) => return None,
        // It is gone already, or was made or changed by somebody at this moment; the watch tells.
        Err(kube::Error::Api(error)) if matches!(error.code, 404 | 409) => return None,
        Err(kube::Error::Api(error)) if causes(&error).any(|(_, reason)| reason == "NamespaceTerminating") => {
            return None;
        }
        Err(kube::Error::Api(error)) if error.code == 403 => "the controller may not do it, or a quota or admission is against it; check its roles".to_owned(),
        Err(kube::Error::Api(error)) => format!("the API server failed with HTTP {}", error.code),
        Err(_) => "the API server could not be reached".to_owned(),
    };
    let message = format!("the RobotoSecret {} could not be written: {problem}", pattern.name);
    Some(NamespaceFailure { namespace, reason: Reason::KubernetesError.as_str().to_owned(), message })
}

fn child_of(parent: &ClusterRobotoSecret, pattern: &Pattern) -> Option<RobotoSecret> {
    let mut child = RobotoSecret::new(&pattern.name, parent.spec.template.spec.clone());
    child.metadata.labels = Some(pattern.labels.clone()).filter(|labels| !labels.is_empty());
    child.metadata.annotations = Some(pattern.annotations.clone()).filter(|annotations| !annotations.is_empty());
    child.metadata.owner_references = Some(vec![parent.controller_owner_ref(&())?]);
    Some(child)
}

/// Makes a child what it is to be, as a whole: a field that the template has no more goes.
async fn put_right(context: &Context, api: &Api<RobotoSecret>, parent: &ClusterRobotoSecret, pattern: &Pattern, key: &Key) -> kube::Result<()> {
    let mut child = api.get(&key.1).await?;
    let is_ours = |owner: &OwnerReference| owner.controller == Some(true) && owner.uid == pattern.owner.1;
    if !child.owner_references().iter().any(is_ours) {
        return Ok(());
    }
    child.spec = parent.spec.template.spec.clone();
    child.labels_mut().extend(pattern.labels.clone());
    child.annotations_mut().extend(pattern.annotations.clone());
    child.metadata.managed_fields = None;
    child.status = None;
    let written = context
        .metrics
        .kube_write("RobotoSecret", api.replace(&key.1, &PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }, &child))
        .await?;
    context.fan_out.see(&written);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parent(selector: &str) -> ClusterRobotoSecret {
        let yaml = format!("{{namespaces: {selector}, template: {{metadata: {{labels: {{a: b}}}}, spec: {{uri: 'aws.sm://x'}}}}}}");
        let mut parent = ClusterRobotoSecret::new("db", serde_yaml::from_str(&yaml).expect("a spec"));
        parent.metadata.uid = Some("uid".to_owned());
        parent.metadata.generation = Some(2);
        parent
    }

    fn child(pattern: &Pattern) -> Child {
        Child {
            uid: "child".into(),
            owner: pattern.owner.clone(),
            spec: pattern.spec,
            labels: pattern.labels.clone(),
            annotations: [("other".to_owned(), "x".to_owned())].into(),
            ready: Some(("True".into(), "Mirrored".into(), "1 key".into())),
            leaves: false,
        }
    }

    fn key(namespace: &str, name: &str) -> Key {
        (namespace.to_owned(), name.to_owned())
    }

    #[test]
    fn what_is_missing_wrong_or_too_much_is_a_step_and_what_is_right_is_none() {
        let parent = parent("{all: true}");
        let pattern = Pattern::of(&parent);
        let right = child(&pattern);
        let children: BTreeMap<Key, Child> = [
            (key("right", "db"), right.clone()),
            (key("edited", "db"), Child { spec: 0, ..right.clone() }),
            (key("unlabelled", "db"), Child { labels: Labels::new(), ..right.clone() }),
            (key("other", "db"), Child { owner: ("db".into(), "another uid".into()), ..right.clone() }),
            (key("left", "db"), right.clone()),
            (key("right", "former"), right.clone()),
            (key("going", "db"), Child { leaves: true, spec: 0, ..right.clone() }),
            (key("gone", "db"), Child { leaves: true, ..right.clone() }),
        ]
        .into();
        let selected = ["edited", "going", "new", "other", "right", "taken", "unlabelled"].map(str::to_owned);
        let (steps, failures) = plan(&pattern, &selected, &children, |key| key.0 == "taken");
        let remove = |namespace, name| Step::Remove(key(namespace, name), "child".into());
        assert_eq!(
            steps,
            [
                Step::PutRight(key("edited", "db")),
                Step::Make("new".into()),
                Step::PutRight(key("unlabelled", "db")),
                remove("left", "db"),
                remove("right", "former"),
            ]
        );
        let refused: Vec<&str> = failures.iter().map(|failure| failure.namespace.as_str()).collect();
        assert_eq!(refused, ["other", "taken"]);
        assert!(failures.iter().all(|failure| failure.reason == NOT_OWNED));
    }

    #[test]
    fn the_status_counts_all_and_lists_some() {
        let parent = parent("{all: true}");
        let pattern = Pattern::of(&parent);
        let right = child(&pattern);
        let failed = Child { ready: Some(("False".into(), "NotAllowed".into(), "no".into())), ..right.clone() };
        let waiting = Child { ready: None, ..right.clone() };
        let told = |children: &[(&str, &Child)], failures: usize| {
            let selected: Vec<String> = children.iter().map(|(namespace, _)| (*namespace).to_owned()).collect();
            let children = children.iter().map(|(namespace, child)| (key(namespace, "db"), (*child).clone())).collect();
            let failures = (0..failures).map(|i| NamespaceFailure { namespace: format!("x{i:02}"), ..NamespaceFailure::default() }).collect();
            let status = status_of(&parent, &pattern, &selected, &children, failures, Timestamp::UNIX_EPOCH);
            let ready = &status.conditions[0];
            let counts = [status.namespaces, status.ready, status.failed].map(Option::unwrap_or_default);
            (format!("{} {}", ready.status, ready.message), counts, status.failures.len())
        };
        assert_eq!(told(&[("a", &right), ("b", &right)], 0), ("True mirrored in 2 namespaces".into(), [2, 2, 0], 0));
        assert_eq!(told(&[("a", &right), ("b", &waiting)], 0), ("Unknown mirrored in 1 of 2 namespaces so far".into(), [2, 1, 0], 0));
        assert_eq!(told(&[("a", &right), ("b", &failed), ("c", &failed)], 0), ("False namespace b: NotAllowed no; 1 more fail".into(), [3, 1, 2], 2));
        assert_eq!(told(&[], 0), ("True no namespace is selected".into(), [0, 0, 0], 0));
        assert_eq!(told(&[("a", &right)], 30).1, [1, 1, 30]);
        assert_eq!(told(&[("a", &right)], 30).2, LISTED_FAILURES);
    }
}
