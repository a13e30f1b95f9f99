//! Whose a Secret is, and whether somebody changed it: both told from metadata alone.
//!
//! A Secret's metadata enters, cut down to what is used; verdicts leave. Pure: no I/O. Values never come near this room, since every
//! read of a Secret asks the API server for its metadata only; annotations but our own are dropped (kubectl keeps values there).

use std::{borrow::Cow, collections::BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};

use crate::api::{GROUP, MANAGED_LABEL, OWNER_ANNOTATION};

/// Annotation by which a user hands an existing Secret over: the name of the `RobotoSecret` that shall own it.
pub const ADOPT_ANNOTATION: &str = "robotosecret.dev/adopt";
/// In whose name the API server books what was there before the first apply: nobody's.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// Where kubectl keeps a copy of all that was applied, values included.
pub const LAST_APPLIED_ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What is kept of a Secret's metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its version, which every write moves.
    pub resource_version: String,
    /// When it was made, in seconds since the epoch.
    pub created: i64,
    /// Whether it carries our label.
    pub managed: bool,
    /// The `RobotoSecret` that our annotation names.
    pub owner: Option<String>,
    /// The `RobotoSecret` that a user wants it to be adopted by.
    pub adopt: Option<String>,
    /// Whether kubectl's copy of the values is there.
    pub last_applied: bool,
    /// The controller among its ownerReferences.
    pub controller: Option<Controller>,
    /// Who owns which fields, as far as it matters here.
    pub managers: Vec<Manager>,
}

/// A controlling ownerReference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    /// The owner's kind.
    pub kind: String,
    /// The owner's name.
    pub name: String,
    /// The owner's uid.
    pub uid: String,
}

/// One entry of `managedFields`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manager {
    /// The field manager's name.
    pub name: String,
    /// Whether it is an apply; else it is an update.
    pub apply: bool,
    /// When it last wrote, in seconds since the epoch.
    pub time: i64,
    /// The keys under `data` that it owns.
    pub data: Names,
    /// The keys that it applied under `stringData`, which the API server forgets to count as `data`.
    pub string_data: Names,
    /// The labels that it owns.
    pub labels: Names,
    /// The annotations that it owns.
    pub annotations: Names,
}

/// A sorted set of names, as small as it can be: there are some for every Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(Box<[Cow<'static, str>]>);

impl Names {
    /// All names, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|name| &**name)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn contains(&self, name: &str) -> bool {
        self.0.binary_search_by(|known| (**known).cmp(name)).is_ok()
    }

    fn is_subset(&self, other: &Self) -> bool {
        self.iter().all(|name| other.contains(name))
    }
}

impl FromIterator<String> for Names {
    fn from_iter<I: IntoIterator<Item = String>>(names: I) -> Self {
        // Two names that every Secret of ours has.
        let shared = |name: String| [MANAGED_LABEL, OWNER_ANNOTATION].into_iter().find(|known| *known == name).map_or(Cow::Owned(name), Cow::Borrowed);
        Self(BTreeSet::from_iter(names).into_iter().map(shared).collect())
    }
}

impl Manager {
    fn touches_data(&self) -> bool {
        !self.data.is_empty() || !self.string_data.is_empty()
    }
}

impl Seen {
    /// Cuts metadata down.
    #[must_use]
    pub fn new(meta: &ObjectMeta) -> Self {
        let annotation = |name: &str| meta.annotations.as_ref().and_then(|all| all.get(name));
        let controller = meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        let created = meta.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second());
        Self {
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            created,
            managed: meta.labels.as_ref().and_then(|labels| labels.get(MANAGED_LABEL)).is_some_and(|value| value == "true"),
            owner: annotation(OWNER_ANNOTATION).cloned(),
            adopt: annotation(ADOPT_ANNOTATION).cloned(),
            last_applied: annotation(LAST_APPLIED_ANNOTATION).is_some(),
            controller: controller.map(|owner| Controller { kind: owner.kind.clone(), name: owner.name.clone(), uid: owner.uid.clone() }),
            managers: meta.managed_fields.iter().flatten().filter_map(|entry| manager(entry, created)).collect(),
        }
    }

    /// Every key that the metadata shows the Secret to have.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.managers.iter().flat_map(|manager| manager.data.iter().chain(manager.string_data.iter()))
    }

    /// The names of the labels and of the annotations that we own.
    #[must_use]
    pub fn owned_metadata(&self, ours: &str) -> (BTreeSet<&str>, BTreeSet<&str>) {
        let ours = || self.managers.iter().filter(|manager| self.is_ours(manager, ours));
        (ours().flat_map(|manager| manager.labels.iter()).collect(), ours().flat_map(|manager| manager.annotations.iter()).collect())
    }

    /// The managers that own a key and are not us.
    pub fn other_data_managers<'s>(&'s self, ours: &'s str) -> impl Iterator<Item = &'s Manager> {
        self.managers.iter().filter(move |manager| !self.is_ours(manager, ours) && manager.touches_data())
    }

    /// The managers that own a key beside us and that would show if they wrote again. Who applied `stringData` shows only by the time
    /// of the write, in whole seconds: not before its second is over. `now` is in seconds since the epoch.
    #[must_use]
    pub fn tolerable(&self, ours: &str, now: i64) -> Vec<Manager> {
        self.other_data_managers(ours).filter(|manager| manager.string_data.is_empty() || manager.time + 1 < now).cloned().collect()
    }

    /// We apply; the only update that we make is the creation, which the API server books before admission and dates after it. Any later
    /// update in our name was made by somebody else.
    fn is_ours(&self, manager: &Manager, ours: &str) -> bool {
        manager.name == ours && (manager.apply || manager.time <= self.created)
    }
}

/// An entry, unless it owns nothing that is of use here.
fn manager(entry: &ManagedFieldsEntry, created: i64) -> Option<Manager> {
    let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
    let keys = |path: &[&str]| -> Names {
        let place = fields.and_then(|fields| path.iter().try_fold(fields, |place, step| place.get(step)));
        let object = place.and_then(serde_json::Value::as_object);
        object.into_iter().flat_map(serde_json::Map::keys).filter_map(|key| key.strip_prefix("f:")).map(str::to_owned).collect()
    };
    let apply = entry.operation.as_deref() == Some("Apply");
    let time = entry.time.as_ref().map_or(created, |time| time.0.as_second());
    let seen = Manager {
        name: entry.manager.clone().unwrap_or_default(),
        apply,
        time,
        data: keys(&["f:data"]),
        string_data: keys(&["f:stringData"]),
        labels: keys(&["f:metadata", "f:labels"]),
        annotations: keys(&["f:metadata", "f:annotations"]),
    };
    (seen.touches_data() || !seen.labels.is_empty() || !seen.annotations.is_empty()).then_some(seen)
}

/// Whose a Secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Ours: controlled by our uid, or marked with our name and controlled by nobody.
    Ours,
    /// Handed over to us by the annotation, and controlled by nobody.
    HandedOver,
    /// Somebody else's: why, and how to release it.
    Foreign(String),
}

/// Judges whose a Secret is, for the `RobotoSecret` of this name and uid.
#[must_use]
pub fn ownership(seen: &Seen, name: &str, uid: &str) -> Ownership {
    match &seen.controller {
        Some(controller) if controller.uid == uid => Ownership::Ours,
        Some(controller) if controller.kind == "RobotoSecret" && controller.name == name => {
            Ownership::Foreign(format!("the Secret {} belongs to an earlier RobotoSecret of this name; garbage collection is about to remove it", seen.name))
        }
        Some(controller) => Ownership::Foreign(format!(
            "the Secret {} is controlled by the {} {}; choose another target.name, or delete that one",
            seen.name, controller.kind, controller.name
        )),
        None if seen.managed && seen.owner.as_deref() == Some(name) => Ownership::Ours,
        None if seen.adopt.as_deref() == Some(name) => Ownership::HandedOver,
        None => Ownership::Foreign(format!(
            "a Secret {0} exists and is not this RobotoSecret's; delete it, choose another target.name, or hand it over: kubectl annotate secret {0} {GROUP}/adopt={name} (keys that are not mirrored are then removed)",
            seen.name
        )),
    }
}

/// What was left behind at the last write, to compare with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected<'e> {
    /// Our field manager.
    pub manager: &'e str,
    /// The uid of the Secret that we wrote.
    pub uid: &'e str,
    /// The resourceVersion that our write left.
    pub resource_version: &'e str,
    /// The keys that we wrote; of more than 100 only the first.
    pub keys: &'e [String],
    /// How many keys we wrote.
    pub key_count: usize,
    /// The labels and annotations that we wrote, our own marks included.
    pub labels: Vec<&'e str>,
    /// See `labels`.
    pub annotations: Vec<&'e str>,
    /// Other managers that owned keys together with us right after our write.
    pub tolerated: &'e [Manager],
}

/// Whether somebody changed the Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drift {
    /// Nothing moved.
    None,
    /// Only metadata that isn't ours moved.
    ForeignMetadata,
    /// Something of ours moved, or may have; the manager that did it, if it shows.
    Damaged(Option<String>),
}

/// Judges whether somebody changed a Secret of ours since we wrote it.
#[must_use]
pub fn judge(seen: &Seen, owner: (&str, &str), expected: &Expected<'_>) -> Drift {
    let (name, uid) = owner;
    if seen.uid == expected.uid && seen.resource_version == expected.resource_version {
        return Drift::None;
    }
    let others: Vec<&Manager> = seen.other_data_managers(expected.manager).filter(|manager| !expected.tolerated.contains(manager)).collect();
    let took = |of: &Names, names: &[&str]| names.iter().any(|name| of.contains(name));
    let took_metadata = |manager: &&Manager| took(&manager.labels, &expected.labels) || took(&manager.annotations, &expected.annotations);
    let culprits = others.iter().copied().chain(seen.managers.iter().filter(|manager| !seen.is_ours(manager, expected.manager)).filter(took_metadata));
    let culprit = culprits.filter(|manager| manager.name != BEFORE_FIRST_APPLY).max_by_key(|manager| manager.time).map(|manager| manager.name.clone());
    let ours: Vec<&Manager> = seen.managers.iter().filter(|manager| seen.is_ours(manager, expected.manager)).collect();
    let all_owned = |of: fn(&Manager) -> &Names, keys: &[&str]| keys.iter().all(|key| ours.iter().any(|manager| of(manager).contains(key)));
    let our_keys: BTreeSet<&str> = ours.iter().flat_map(|manager| manager.data.iter()).collect();
    let intact = seen.uid == expected.uid
        && ownership(seen, name, uid) == Ownership::Ours
        && seen.controller.is_some()
        && seen.managed
        && seen.owner.as_deref() == Some(name)
        && others.is_empty()
        && our_keys.len() == expected.key_count
        && expected.keys.iter().all(|key| our_keys.contains(key.as_str()))
        && ours.iter().all(|manager| manager.string_data.is_empty())
        && all_owned(|manager| &manager.labels, &expected.labels)
        && all_owned(|manager| &manager.annotations, &expected.annotations);
    if intact { Drift::ForeignMetadata } else { Drift::Damaged(culprit) }
}

/// Whether our first apply over the Secret that we made changed nothing but who owns what.
///
/// That apply always moves the version. What it changes, it takes away from the entry that the creation left; what it adds was not there.
#[must_use]
pub fn first_apply_changed_nothing(before: &Seen, after: &Seen, ours: &str) -> bool {
    let entry = |seen: &'_ Seen, apply: bool| seen.managers.iter().find(|manager| manager.name == ours && manager.apply == apply).cloned();
    match (entry(before, true), entry(before, false), entry(after, true), entry(after, false)) {
        (None, Some(made), Some(applied), Some(left)) => {
            before.uid == after.uid
                && made == left
                && applied.data.is_subset(&made.data)
                && applied.labels.is_subset(&made.labels)
                && applied.annotations.is_subset(&made.annotations)
        }
        _ => false,
    }
}

/// Whether `earlier` is an older resourceVersion than `later`. Both come from one API server, which counts upwards.
#[must_use]
pub fn is_older(earlier: &str, later: &str) -> bool {
    match (earlier.parse::<u128>(), later.parse::<u128>()) {
        (Ok(earlier), Ok(later)) => earlier < later,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "db";
    const UID: &str = "uid-of-db";
    const MANAGER: &str = "robotosecret/db";

    fn set(names: &[&str]) -> Names {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn ours(apply: bool, keys: &[&str]) -> Manager {
        Manager {
            name: MANAGER.into(),
            apply,
            time: 100,
            data: set(keys),
            labels: set(&[MANAGED_LABEL]),
            annotations: set(&[OWNER_ANNOTATION]),
            ..Manager::default()
        }
    }

    fn seen(managers: Vec<Manager>) -> Seen {
        Seen {
            name: "db".into(),
            uid: "s1".into(),
            resource_version: "8".into(),
            created: 100,
            managed: true,
            owner: Some(NAME.into()),
            controller: Some(Controller { kind: "RobotoSecret".into(), name: NAME.into(), uid: UID.into() }),
            managers,
            ..Seen::default()
        }
    }

    fn judged(seen: &Seen, tolerated: &[Manager]) -> Drift {
        let keys = ["a".to_owned(), "b".to_owned()];
        let expected = Expected {
            manager: MANAGER,
            uid: "s1",
            resource_version: "7",
            keys: &keys,
            key_count: 2,
            labels: vec![MANAGED_LABEL],
            annotations: vec![OWNER_ANNOTATION],
            tolerated,
        };
        judge(seen, (NAME, UID), &expected)
    }

    #[test]
    fn the_first_apply_is_told_from_a_change() {
        let made = seen(vec![ours(false, &["a", "b"])]);
        let applied = |managers| first_apply_changed_nothing(&made, &seen(managers), MANAGER);
        assert!(applied(vec![ours(true, &["a", "b"]), ours(false, &["a", "b"])]));
        assert!(!applied(vec![ours(true, &["a", "b"]), ours(false, &["a"])]), "b changed");
        assert!(!applied(vec![ours(true, &["a", "b", "c"]), ours(false, &["a", "b"])]), "c is new");
        assert!(!applied(vec![ours(true, &["a", "b"])]), "all changed");
        let later = seen(vec![ours(true, &["a", "b"]), ours(false, &["a", "b"])]);
        assert!(!first_apply_changed_nothing(&later, &later, MANAGER), "a later apply that moves the version changes something");
    }

    #[test]
    fn a_foreign_annotation_is_no_drift() {
        assert_eq!(judged(&seen(vec![ours(true, &["a", "b"])]), &[]), Drift::ForeignMetadata);
        assert_eq!(judged(&seen(vec![ours(false, &["a", "b"])]), &[]), Drift::ForeignMetadata);
        let annotator = Manager { name: "kubectl-annotate".into(), time: 200, annotations: set(&["note"]), ..Manager::default() };
        assert_eq!(judged(&seen(vec![ours(false, &["a", "b"]), annotator]), &[]), Drift::ForeignMetadata);
        let slowly_admitted = Manager { time: 97, ..ours(false, &["a", "b"]) };
        assert_eq!(judged(&seen(vec![slowly_admitted]), &[]), Drift::ForeignMetadata);
        let mut unmoved = seen(vec![]);
        unmoved.resource_version = "7".into();
        assert_eq!(judged(&unmoved, &[]), Drift::None);
    }

    #[test]
    fn everything_that_touches_what_is_ours_is_drift() {
        let edit = Manager { name: "kubectl-edit".into(), time: 200, data: set(&["a"]), ..Manager::default() };
        let by_edit = Drift::Damaged(Some("kubectl-edit".into()));
        assert_eq!(judged(&seen(vec![ours(true, &["b"]), edit.clone()]), &[]), by_edit, "a key was edited");
        assert_eq!(judged(&seen(vec![ours(true, &["a", "b"]), Manager { data: set(&["c"]), ..edit.clone() }]), &[]), by_edit, "a key was added");
        let string_data = Manager { data: set(&[]), string_data: set(&["a"]), apply: true, ..edit.clone() };
        assert_eq!(judged(&seen(vec![ours(true, &["a", "b"]), string_data]), &[]), by_edit, "a value was overwritten through stringData");
        assert_eq!(judged(&seen(vec![]), &[]), Drift::Damaged(None), "managedFields were wiped");
        assert_eq!(judged(&seen(vec![ours(true, &["a"])]), &[]), Drift::Damaged(None), "a key was removed");
        let in_our_name = Manager { time: 200, ..ours(false, &["a"]) };
        assert_eq!(judged(&seen(vec![ours(true, &["b"]), in_our_name]), &[]), Drift::Damaged(Some(MANAGER.into())), "an edit under our manager's name");
        let spoil = |change: fn(&mut Seen)| {
            let mut spoiled = seen(vec![ours(true, &["a", "b"])]);
            change(&mut spoiled);
            judged(&spoiled, &[])
        };
        assert_eq!(spoil(|seen| seen.managed = false), Drift::Damaged(None), "our label was removed");
        assert_eq!(spoil(|seen| seen.owner = None), Drift::Damaged(None), "our annotation was removed");
        assert_eq!(spoil(|seen| seen.controller = None), Drift::Damaged(None), "our ownerReference was removed");
        assert_eq!(spoil(|seen| seen.uid = "s2".into()), Drift::Damaged(None), "the Secret is another");
        assert_eq!(spoil(|seen| seen.managers[0].labels = Names::default()), Drift::Damaged(None), "a label of ours was edited");
    }

    #[test]
    fn who_owned_keys_beside_us_at_our_last_write_is_tolerated_until_it_writes_again() {
        let beside = Manager { name: "before-first-apply".into(), time: 150, data: set(&["a", "b"]), ..Manager::default() };
        let both = seen(vec![ours(true, &["a", "b"]), beside.clone()]);
        assert_eq!(judged(&both, std::slice::from_ref(&beside)), Drift::ForeignMetadata);
        let again = seen(vec![ours(true, &["a", "b"]), Manager { time: 300, ..beside.clone() }]);
        assert_eq!(judged(&again, &[beside]), Drift::Damaged(None), "nobody has that name");
    }

    #[test]
    fn who_applied_string_data_is_tolerated_once_its_second_is_over() {
        let applied = Manager { name: "operator".into(), apply: true, time: 200, string_data: set(&["a"]), ..Manager::default() };
        let both = seen(vec![ours(true, &["a", "b"]), applied.clone()]);
        assert_eq!(both.tolerable(MANAGER, 200), []);
        assert_eq!(both.tolerable(MANAGER, 202), [applied]);
    }

    #[test]
    fn who_took_a_label_or_an_annotation_of_ours_is_named() {
        let labeller = Manager { name: "kubectl-label".into(), time: 200, labels: set(&[MANAGED_LABEL]), ..Manager::default() };
        let bystander = Manager { name: "kubectl-annotate".into(), time: 300, annotations: set(&["note"]), ..Manager::default() };
        let mut edited = seen(vec![Manager { labels: set(&[]), ..ours(true, &["a", "b"]) }, labeller, bystander]);
        edited.managed = false;
        assert_eq!(judged(&edited, &[]), Drift::Damaged(Some("kubectl-label".into())));
    }

    #[test]
    fn a_secret_is_ours_by_uid_or_by_marks_and_else_foreign() {
        let mut secret = seen(vec![]);
        assert_eq!(ownership(&secret, NAME, UID), Ownership::Ours);
        assert!(matches!(ownership(&secret, NAME, "another uid"), Ownership::Foreign(text) if text.contains("earlier RobotoSecret")));
        secret.controller = None;
        assert_eq!(ownership(&secret, NAME, "another uid"), Ownership::Ours, "left by an orphaning delete");
        assert!(matches!(ownership(&secret, "other", UID), Ownership::Foreign(_)));
        secret.adopt = Some("other".into());
        assert_eq!(ownership(&secret, "other", UID), Ownership::HandedOver);
        secret.controller = Some(Controller { kind: "Certificate".into(), name: "tls".into(), uid: "x".into() });
        assert!(matches!(ownership(&secret, "other", UID), Ownership::Foreign(text) if text.contains("controlled by the Certificate tls")));
        assert!(matches!(ownership(&Seen::default(), NAME, UID), Ownership::Foreign(text) if text.contains("robotosecret.dev/adopt=db")));
    }

    #[test]
    fn metadata_is_cut_down_to_what_is_used() {
        let meta: ObjectMeta = serde_json::from_value(serde_json::json!({
            "name": "db", "uid": "s1", "resourceVersion": "8", "creationTimestamp": "1970-01-01T00:01:40Z",
            "labels": {MANAGED_LABEL: "true"}, "annotations": {OWNER_ANNOTATION: "db", LAST_APPLIED_ANNOTATION: "CANARY"},
            "ownerReferences": [{"apiVersion": "robotosecret.dev/v1alpha1", "kind": "RobotoSecret", "name": "db", "uid": UID, "controller": true}],
            "managedFields": [
                {"manager": MANAGER, "operation": "Update", "time": "1970-01-01T00:01:40Z", "fieldsV1": {
                    "f:data": {".": {}, "f:a": {}, "f:b": {}}, "f:metadata": {"f:labels": {".": {}, format!("f:{MANAGED_LABEL}"): {}}, "f:annotations": {format!("f:{OWNER_ANNOTATION}"): {}}}}},
                {"manager": "gc", "operation": "Update", "fieldsV1": {"f:metadata": {"f:finalizers": {}}}},
            ],
        }))
        .expect("metadata");
        let cut = Seen::new(&meta);
        assert_eq!(cut, Seen { last_applied: true, ..seen(vec![ours(false, &["a", "b"])]) });
        assert!(!format!("{cut:?}").contains("CANARY"));
    }

    #[test]
    fn versions_of_one_server_are_ordered() {
        assert!(is_older("9", "10") && !is_older("10", "9") && !is_older("10", "10") && !is_older("x", "10"));
    }
}
