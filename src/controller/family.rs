//! What a `ClusterRobotoSecret` makes: which `RobotoSecret`s are to be there and as what, what that takes, and how all of it stands.
//!
//! A template, namespaces and the RobotoSecrets that are there enter; steps and a status leave. Pure: no I/O, no clock. What isn't its own is
//! never a step's object.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference, Time},
    jiff::Timestamp,
};
use kube::{Resource, ResourceExt};

use super::{cache::Key, drift, namespaces::Known};
use crate::api::{
    ClusterRobotoSecret, REFRESH_ANNOTATION, Reason, RobotoSecret,
    clusterrobotosecret::{ClusterRobotoSecretStatus, LISTED_FAILURES, NamespaceFailure},
    namespaces::{Labels, Place},
    status::READY,
};

/// The field manager of what is written here. What it owns of a RobotoSecret's labels and annotations, and the template has no more, goes.
pub const MANAGER: &str = "robotosecret-fan-out";
/// The reason of a RobotoSecret that is somebody else's.
const NOT_OWNED: &str = "ChildNotOwned";

/// A RobotoSecret that a `ClusterRobotoSecret` made, as far as that is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// Its own uid.
    uid: String,
    /// Its version.
    pub version: String,
    /// Whose it is.
    pub owner: Owner,
    /// What it asks for (see [`print`]).
    spec: u64,
    labels: Labels,
    annotations: Labels,
    /// The labels and annotations that were set here.
    ours: (BTreeSet<String>, BTreeSet<String>),
    /// Its condition Ready: status, reason and message, if that is about its present spec.
    ready: Option<(String, String, String)>,
    leaves: bool,
}

/// Whose a child is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The name of the `ClusterRobotoSecret`.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// Tells specs apart.
fn print(spec: &impl serde::Serialize) -> u64 {
    let mut hasher = DefaultHasher::new();
    // What came as JSON always goes into JSON.
    serde_json::to_vec(spec).unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}

/// The labels and the annotations of an object that were set here.
fn ours(object: &impl ResourceExt) -> (BTreeSet<String>, BTreeSet<String>) {
    let managers = object.managed_fields().iter().filter(|entry| entry.manager.as_deref() == Some(MANAGER)).map(|entry| drift::manager(entry, 0));
    let mut ours = <(BTreeSet<String>, BTreeSet<String>)>::default();
    for manager in managers {
        ours.0.extend(manager.labels.iter().map(str::to_owned));
        ours.1.extend(manager.annotations.iter().map(str::to_owned));
    }
    ours
}

impl Child {
    /// A RobotoSecret as it is, if it is the child of a `ClusterRobotoSecret`.
    #[must_use]
    pub fn of(resource: &RobotoSecret) -> Option<Self> {
        let owner = resource.owner_references().iter().find(|owner| owner.controller == Some(true) && owner.kind == ClusterRobotoSecret::kind(&()))?;
        let status = resource.status.as_ref().filter(|status| status.observed_generation == resource.metadata.generation);
        let ready = status.and_then(|status| status.condition(READY)).map(|ready| (ready.status.clone(), ready.reason.clone(), ready.message.clone()));
        Some(Self {
            uid: resource.uid().unwrap_or_default(),
            version: resource.resource_version().unwrap_or_default(),
            owner: Owner { name: owner.name.clone(), uid: owner.uid.clone() },
            spec: print(&resource.spec),
            labels: resource.labels().clone(),
            annotations: resource.annotations().clone(),
            ours: ours(resource),
            ready,
            leaves: resource.metadata.deletion_timestamp.is_some(),
        })
    }

    /// Whether a look at it and a look at another one of it come to the same.
    #[must_use]
    pub fn looks_like(&self, other: &Self) -> bool {
        Self { version: String::new(), ..self.clone() } == Self { version: String::new(), ..other.clone() }
    }
}

/// What every child of one `ClusterRobotoSecret` is to be.
pub struct Pattern<'p> {
    /// The children's name.
    pub name: String,
    owner: Owner,
    parent: &'p ClusterRobotoSecret,
    spec: u64,
    labels: Labels,
    annotations: Labels,
}

impl<'p> Pattern<'p> {
    /// What the children of this one are to be.
    #[must_use]
    pub fn of(parent: &'p ClusterRobotoSecret) -> Self {
        let metadata = parent.spec.template.metadata.clone().unwrap_or_default();
        let refresh = parent.annotations().get(REFRESH_ANNOTATION).map(|value| (REFRESH_ANNOTATION.to_owned(), value.clone()));
        Self {
            name: child_name(parent),
            owner: Owner { name: parent.name_any(), uid: parent.uid().unwrap_or_default() },
            parent,
            spec: print(&parent.spec.template.spec),
            labels: metadata.labels,
            annotations: metadata.annotations.into_iter().chain(refresh).collect(),
        }
    }

    fn is_met_by(&self, child: &Child) -> bool {
        let holds = |wanted: &Labels, is: &Labels, ours: &BTreeSet<String>| {
            wanted.iter().all(|(key, value)| is.get(key) == Some(value)) && ours.iter().all(|key| wanted.contains_key(key))
        };
        child.spec == self.spec && holds(&self.labels, &child.labels, &child.ours.0) && holds(&self.annotations, &child.annotations, &child.ours.1)
    }

    /// A child that is to be made.
    #[must_use]
    pub fn child(&self) -> Option<RobotoSecret> {
        let mut child = RobotoSecret::new(&self.name, self.parent.spec.template.spec.clone());
        child.metadata.labels = Some(self.labels.clone()).filter(|labels| !labels.is_empty());
        child.metadata.annotations = Some(self.annotations.clone()).filter(|annotations| !annotations.is_empty());
        child.metadata.owner_references = Some(vec![self.parent.controller_owner_ref(&())?]);
        Some(child)
    }

    /// A RobotoSecret that is there, put right: a field, a label or an annotation that the template has no more goes, what others labelled it
    /// with stays. None if it isn't ours.
    #[must_use]
    pub fn put_right(&self, mut child: RobotoSecret) -> Option<RobotoSecret> {
        let is_ours = |owner: &OwnerReference| owner.controller == Some(true) && owner.uid == self.owner.uid;
        if !child.owner_references().iter().any(is_ours) {
            return None;
        }
        let (labels, annotations) = ours(&child);
        child.labels_mut().retain(|key, _| !labels.contains(key));
        child.annotations_mut().retain(|key, _| !annotations.contains(key));
        child.spec = self.parent.spec.template.spec.clone();
        child.labels_mut().extend(self.labels.clone());
        child.annotations_mut().extend(self.annotations.clone());
        child.metadata.managed_fields = None;
        child.status = None;
        Some(child)
    }
}

/// What the children of this one are called.
#[must_use]
pub fn child_name(parent: &ClusterRobotoSecret) -> String {
    parent.spec.roboto_secret_name.clone().unwrap_or_else(|| parent.name_any())
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make the child of a namespace.
    Make(Key),
    /// Make a child what it is to be.
    PutRight(Key),
    /// Remove what is no longer selected, if it still has this uid.
    Remove(Key, String),
}

impl Step {
    /// What it is about.
    #[must_use]
    pub const fn key(&self) -> &Key {
        match self {
            Self::Make(key) | Self::PutRight(key) | Self::Remove(key, _) => key,
        }
    }
}

/// The selected namespaces, in the order of their names. One that is being deleted takes nothing in any more.
#[must_use]
pub fn selected(parent: &ClusterRobotoSecret, namespaces: &BTreeMap<String, Known>) -> Vec<String> {
    let is_selected = |name: &str, known: &Known| !known.leaves && parent.spec.namespaces.contain(Place { name, labels: &known.labels });
    namespaces.iter().filter(|(name, known)| is_selected(name, known)).map(|(name, _)| name.clone()).collect()
}

/// What is to be done, and where that is impossible. `children` are all that belong to one of this name; `taken` tells whether there is another
/// RobotoSecret.
pub fn plan(
    pattern: &Pattern<'_>,
    selected: &[String],
    namespaces: &BTreeMap<String, Known>,
    children: &BTreeMap<Key, Child>,
    taken: impl Fn(&Key) -> bool,
) -> (Vec<Step>, Vec<NamespaceFailure>) {
    let (mut steps, mut failures) = (Vec::new(), Vec::new());
    for namespace in selected {
        let key = (namespace.clone(), pattern.name.clone());
        match children.get(&key) {
            // That of an earlier one of this name is about to be garbage collected.
            Some(child) if child.leaves || child.owner != pattern.owner || pattern.is_met_by(child) => {}
            Some(_) => steps.push(Step::PutRight(key)),
            None if taken(&key) => failures.push(NamespaceFailure {
                namespace: namespace.clone(),
                reason: NOT_OWNED.to_owned(),
                message: format!("there is a RobotoSecret {} that isn't made from this one; delete it, or choose another spec.robotoSecretName", pattern.name),
            }),
            None => steps.push(Step::Make(key)),
        }
    }
    // Under another name the new one comes first; but what only the old one holds back can't come while that one is there.
    let is_replaced = |key: &Key| {
        let ready = children.get(&(key.0.clone(), pattern.name.clone())).and_then(|child| child.ready.as_ref());
        ready.is_some_and(|(status, reason, _)| status == "True" || reason == Reason::TargetNotOwned.as_str())
    };
    let may_go = |key: &Key| selected.binary_search(&key.0).is_err() || is_replaced(key);
    // A namespace that goes takes what is in it along.
    let stays = |namespace: &String| namespaces.get(namespace).is_some_and(|known| !known.leaves);
    let is_wanted = |key: &Key| key.1 == pattern.name && selected.binary_search(&key.0).is_ok();
    let leftovers = children.iter().filter(|(key, child)| child.owner == pattern.owner && !child.leaves && stays(&key.0) && !is_wanted(key) && may_go(key));
    steps.extend(leftovers.map(|(key, child)| Step::Remove(key.clone(), child.uid.clone())));
    (steps, failures)
}

/// The status, from how the children stand and what could not be done.
#[must_use]
pub fn status_of(
    parent: &ClusterRobotoSecret,
    pattern: &Pattern<'_>,
    selected: &[String],
    children: &BTreeMap<Key, Child>,
    mut failures: Vec<NamespaceFailure>,
    now: Timestamp,
) -> ClusterRobotoSecretStatus {
    let mut ready = 0;
    for namespace in selected {
        let child = children.get(&(namespace.clone(), pattern.name.clone())).filter(|child| child.owner == pattern.owner && !child.leaves);
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

    fn child(pattern: &Pattern<'_>) -> Child {
        Child {
            uid: "child".into(),
            version: "1".into(),
            owner: pattern.owner.clone(),
            spec: pattern.spec,
            labels: pattern.labels.clone(),
            annotations: [("other".to_owned(), "x".to_owned())].into(),
            ours: (["a".to_owned()].into(), BTreeSet::new()),
            ready: Some(("True".into(), "Mirrored".into(), "1 key".into())),
            leaves: false,
        }
    }

    fn key(namespace: &str, name: &str) -> Key {
        (namespace.to_owned(), name.to_owned())
    }

    fn namespaces(names: &[&str]) -> BTreeMap<String, Known> {
        names.iter().map(|name| ((*name).to_owned(), Known { leaves: *name == "terminating", ..Known::default() })).collect()
    }

    #[test]
    fn what_is_missing_wrong_or_too_much_is_a_step_and_what_is_right_is_none() {
        let parent = parent("{all: true}");
        let pattern = Pattern::of(&parent);
        let right = child(&pattern);
        let children: BTreeMap<Key, Child> = [
            (key("right", "db"), right.clone()),
            (key("edited", "db"), Child { spec: 0, ready: Some(("False".into(), "TargetNotOwned".into(), String::new())), ..right.clone() }),
            (key("unlabelled", "db"), Child { labels: Labels::new(), ready: Some(("False".into(), "AccessDenied".into(), String::new())), ..right.clone() }),
            (key("labelled", "db"), Child { ours: (["a".to_owned(), "former".to_owned()].into(), BTreeSet::new()), ..right.clone() }),
            (key("earlier", "db"), Child { owner: Owner { name: "db".into(), uid: "another uid".into() }, spec: 0, ..right.clone() }),
            (key("left", "db"), right.clone()),
            (key("right", "former"), right.clone()),
            (key("edited", "former"), right.clone()),
            (key("unlabelled", "former"), right.clone()),
            (key("new", "former"), right.clone()),
            (key("going", "db"), Child { leaves: true, spec: 0, ..right.clone() }),
            (key("gone", "db"), Child { leaves: true, ..right.clone() }),
            (key("terminating", "db"), right.clone()),
            (key("unknown", "db"), right.clone()),
        ]
        .into();
        let namespaces = namespaces(&["earlier", "edited", "going", "gone", "labelled", "left", "new", "right", "taken", "terminating", "unlabelled"]);
        let selected = ["earlier", "edited", "going", "labelled", "new", "right", "taken", "unlabelled"].map(str::to_owned);
        let (steps, failures) = plan(&pattern, &selected, &namespaces, &children, |key| key.0 == "taken");
        let remove = |namespace, name| Step::Remove(key(namespace, name), "child".into());
        assert_eq!(
            steps,
            [
                Step::PutRight(key("edited", "db")),
                Step::PutRight(key("labelled", "db")),
                Step::Make(key("new", "db")),
                Step::PutRight(key("unlabelled", "db")),
                remove("edited", "former"),
                remove("left", "db"),
                remove("right", "former"),
            ]
        );
        let refused: Vec<(&str, &str)> = failures.iter().map(|failure| (failure.namespace.as_str(), failure.reason.as_str())).collect();
        assert_eq!(refused, [("taken", NOT_OWNED)]);
    }

    #[test]
    fn a_namespace_that_goes_is_not_selected() {
        let known = namespaces(&["a", "b", "terminating"]);
        assert_eq!(selected(&parent("{all: true}"), &known), ["a", "b"]);
        assert_eq!(selected(&parent("{names: [b, c, terminating]}"), &known), ["b"]);
    }

    #[test]
    fn what_the_template_has_no_more_goes_and_what_others_set_stays() {
        let parent = parent("{all: true}");
        let pattern = Pattern::of(&parent);
        let mut there = pattern.child().expect("a child");
        there.labels_mut().extend(["former", "theirs"].map(|name| (name.to_owned(), "x".to_owned())));
        there.annotations_mut().insert("theirs".into(), "x".into());
        let entry = |manager: &str, labels: serde_json::Value| serde_json::json!({"manager": manager, "operation": "Update", "fieldsV1": {"f:metadata": {"f:labels": labels}}});
        let entries =
            serde_json::json!([entry(MANAGER, serde_json::json!({"f:a": {}, "f:former": {}})), entry("kubectl", serde_json::json!({"f:theirs": {}}))]);
        there.metadata.managed_fields = Some(serde_json::from_value(entries).expect("entries"));
        assert!(!pattern.is_met_by(&Child::of(&there).expect("a child")));
        let mut right = pattern.put_right(there.clone()).expect("our child");
        assert_eq!(right.labels().keys().collect::<Vec<_>>(), ["a", "theirs"]);
        assert_eq!(right.annotations().keys().collect::<Vec<_>>(), ["theirs"]);
        right.metadata.owner_references = None;
        assert!(pattern.put_right(right).is_none(), "somebody else's");
    }

    #[test]
    fn the_status_counts_all_and_lists_some() {
        let parent = parent("{all: true}");
        let pattern = Pattern::of(&parent);
        let right = child(&pattern);
        let failed = Child { ready: Some(("False".into(), "NotAllowed".into(), "no".into())), ..right.clone() };
        let waiting = Child { ready: None, ..right.clone() };
        let leaving = Child { leaves: true, ..right.clone() };
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
        assert_eq!(told(&[("a", &right), ("b", &leaving)], 0), ("Unknown mirrored in 1 of 2 namespaces so far".into(), [2, 1, 0], 0));
        assert_eq!(told(&[], 0), ("True no namespace is selected".into(), [0, 0, 0], 0));
        assert_eq!(told(&[("a", &right)], 30).1, [1, 1, 30]);
        assert_eq!(told(&[("a", &right)], 30).2, LISTED_FAILURES);
    }
}
