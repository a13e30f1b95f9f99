//! Whose a Secret is, and whether somebody changed it: both told from metadata alone.
//!
//! A Secret's metadata enters, cut down to what is used; verdicts leave. Pure: no I/O. Values never come near this room, since every
//! read of a Secret asks the API server for its metadata only; annotations but our own are dropped (kubectl keeps values there).

use std::{borrow::Cow, collections::BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};

use crate::api::{GROUP, MANAGED_LABEL, OWNER_ANNOTATION, robotosecret::CreationPolicy};

/// What the field manager of a `RobotoSecret` starts with; its name follows. The same under every policy, so that a resource whose
/// policy changes never meets itself as somebody else.
pub const MANAGER_PREFIX: &str = "robotosecret/";

/// Annotation by which a user hands an existing Secret over: the name of the `RobotoSecret` that shall own it.
pub const ADOPT_ANNOTATION: &str = "robotosecret.dev/adopt";
/// The kind of the resources that own Secrets.
const KIND: &str = "RobotoSecret";
/// In whose name the API server books what was there before the first apply: nobody's.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// Where kubectl keeps a copy of all that was applied, values included.
pub const LAST_APPLIED_ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// How the API server begins the name of a key, a label and an annotation when it names them in a conflict.
pub const DATA_FIELD: &str = ".data.";
/// See [`DATA_FIELD`].
pub const LABEL_FIELD: &str = ".metadata.labels.";
/// See [`DATA_FIELD`].
pub const ANNOTATION_FIELD: &str = ".metadata.annotations.";

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

    fn meets(&self, others: &BTreeSet<&str>) -> bool {
        self.iter().any(|name| others.contains(name))
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

    /// Whether it owns a field, which is named as the API server names it in a conflict: `.data.password`.
    fn owns(&self, field: &str) -> bool {
        match (field.strip_prefix(DATA_FIELD), field.strip_prefix(LABEL_FIELD), field.strip_prefix(ANNOTATION_FIELD)) {
            (Some(key), ..) => self.data.contains(key) || self.string_data.contains(key),
            (_, Some(label), _) => self.labels.contains(label),
            (.., Some(annotation)) => self.annotations.contains(annotation),
            _ => false,
        }
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
            managers: meta.managed_fields.iter().flatten().map(|entry| manager(entry, created)).collect(),
        }
    }

    /// Every key that the metadata shows the Secret to have.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.managers.iter().flat_map(|manager| manager.data.iter().chain(manager.string_data.iter()))
    }

    /// What we own, alone or with others.
    #[must_use]
    pub fn owned(&self, ours: &str) -> Owned<'_> {
        let ours = || self.managers.iter().filter(|manager| self.is_ours(manager, ours));
        Owned {
            keys: ours().flat_map(|manager| manager.data.iter()).collect(),
            labels: ours().flat_map(|manager| manager.labels.iter()).collect(),
            annotations: ours().flat_map(|manager| manager.annotations.iter()).collect(),
        }
    }

    /// What we own and nobody else does.
    #[must_use]
    pub fn owned_alone(&self, ours: &str) -> Owned<'_> {
        let mut owned = self.owned(ours);
        for other in self.managers.iter().filter(|manager| !self.is_ours(manager, ours)) {
            other.data.iter().chain(other.string_data.iter()).for_each(|key| _ = owned.keys.remove(key));
            other.labels.iter().for_each(|label| _ = owned.labels.remove(label));
            other.annotations.iter().for_each(|annotation| _ = owned.annotations.remove(annotation));
        }
        owned
    }

    /// Whether somebody else applied this key under `stringData`, which the API server forgets to count as `data`.
    #[must_use]
    pub fn came_as_text(&self, ours: &str, key: &str) -> bool {
        self.managers.iter().any(|manager| !self.is_ours(manager, ours) && manager.string_data.contains(key))
    }

    /// Who owns a field and is not us (see [`DATA_FIELD`]).
    pub fn other_owners<'s>(&'s self, ours: &'s str, field: &'s str) -> impl Iterator<Item = &'s str> {
        self.managers.iter().filter(move |manager| !self.is_ours(manager, ours) && manager.owns(field)).map(|manager| manager.name.as_str())
    }

    /// Whether a `RobotoSecret` of this name and uid has it, or had it, for itself: by its reference or by its mark.
    #[must_use]
    pub fn belongs_to(&self, name: &str, uid: &str) -> bool {
        match &self.controller {
            Some(controller) if controller.uid == uid => true,
            Some(controller) if controller.kind == KIND => false,
            _ => self.owner.as_deref() == Some(name),
        }
    }

    /// When we last changed it, in seconds since the epoch.
    #[must_use]
    pub fn last_written(&self, ours: &str) -> Option<i64> {
        self.managers.iter().filter(|manager| self.is_ours(manager, ours)).map(|manager| manager.time).max()
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

/// Names of what a manager owns of a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owned<'s> {
    /// Keys.
    pub keys: BTreeSet<&'s str>,
    /// Labels.
    pub labels: BTreeSet<&'s str>,
    /// Annotations.
    pub annotations: BTreeSet<&'s str>,
}

impl Owned<'_> {
    /// Whether it is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.labels.is_empty() && self.annotations.is_empty()
    }

    /// All of it, as the API server names it in a conflict.
    #[must_use]
    pub fn fields(&self) -> Vec<String> {
        let named = |prefix: &str, names: &BTreeSet<&str>| names.iter().map(|name| format!("{prefix}{name}")).collect::<Vec<_>>();
        [named(DATA_FIELD, &self.keys), named(LABEL_FIELD, &self.labels), named(ANNOTATION_FIELD, &self.annotations)].concat()
    }
}

/// An entry. Also one that owns nothing of what is told apart here has had its hand in the Secret.
pub(super) fn manager(entry: &ManagedFieldsEntry, created: i64) -> Manager {
    let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
    let keys = |path: &[&str]| -> Names {
        let place = fields.and_then(|fields| path.iter().try_fold(fields, |place, step| place.get(step)));
        let object = place.and_then(serde_json::Value::as_object);
        object.into_iter().flat_map(serde_json::Map::keys).filter_map(|key| key.strip_prefix("f:")).map(str::to_owned).collect()
    };
    let apply = entry.operation.as_deref() == Some("Apply");
    let time = entry.time.as_ref().map_or(created, |time| time.0.as_second());
    Manager {
        name: entry.manager.clone().unwrap_or_default(),
        apply,
        time,
        data: keys(&["f:data"]),
        string_data: keys(&["f:stringData"]),
        labels: keys(&["f:metadata", "f:labels"]),
        annotations: keys(&["f:metadata", "f:annotations"]),
    }
}

/// Who asks whose a Secret is, and what for.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'c> {
    /// The name of the `RobotoSecret`.
    pub name: &'c str,
    /// Its uid.
    pub uid: &'c str,
    /// Its field manager.
    pub manager: &'c str,
    /// What it wants of the Secret.
    pub policy: CreationPolicy,
    /// Whether it has merged keys into a Secret, and may have some in there still.
    pub merged: bool,
}

/// Whose a Secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Ours: controlled by our uid, or marked with our name and controlled by nobody, or made and filled by nobody but us. To merge into, it is
    /// enough that no other `RobotoSecret` has it for itself.
    Ours,
    /// Handed over to us by the annotation, and controlled by nobody.
    HandedOver,
    /// Somebody else's: why, and how to release it.
    Foreign(String),
}

/// Judges whether a Secret is a `RobotoSecret`'s to write as its policy says.
#[must_use]
pub fn ownership(seen: &Seen, claim: &Claim<'_>) -> Ownership {
    let (secret, name, merge) = (&seen.name, claim.name, claim.policy == CreationPolicy::Merge);
    match &seen.controller {
        Some(controller) if controller.uid == claim.uid => Ownership::Ours,
        Some(controller) if controller.kind == KIND && controller.name == name => {
            Ownership::Foreign(format!("the Secret {secret} belongs to an earlier RobotoSecret of this name; garbage collection is about to remove it"))
        }
        Some(controller) if controller.kind == KIND && merge => Ownership::Foreign(format!(
            "the Secret {secret} belongs to the RobotoSecret {0} alone; give {0} the creationPolicy Merge too, or choose another target.name",
            controller.name
        )),
        Some(_) if merge => Ownership::Ours,
        Some(controller) => Ownership::Foreign(format!(
            "the Secret {secret} is controlled by the {} {}; choose another target.name, or delete that one",
            controller.kind, controller.name
        )),
        None if merge => match seen.owner.as_deref().filter(|owner| *owner != name) {
            Some(owner) => Ownership::Foreign(format!(
                "the Secret {secret} belongs to the RobotoSecret {owner} alone; give {owner} the creationPolicy Merge too, choose another target.name, or, if {owner} is gone: kubectl annotate secret {secret} {OWNER_ANNOTATION}-"
            )),
            None => Ownership::Ours,
        },
        None if seen.managed && seen.owner.as_deref() == Some(name) => Ownership::Ours,
        None if seen.adopt.as_deref() == Some(name) => Ownership::HandedOver,
        None if claim.merged && seen.managed && seen.owner.is_none() && is_our_work_alone(seen, claim.manager) => Ownership::Ours,
        None => Ownership::Foreign(format!(
            "a Secret {secret} exists and is not this RobotoSecret's; delete it, choose another target.name, or hand it over: kubectl annotate secret {secret} {GROUP}/adopt={name} (keys that are not mirrored are then removed)",
        )),
    }
}

/// Whether we made it and filled it, and nobody else has anything in it: no key, and no label, annotation or type either.
fn is_our_work_alone(seen: &Seen, ours: &str) -> bool {
    let made = seen.managers.iter().any(|manager| !manager.apply);
    made && !seen.owned(ours).keys.is_empty() && seen.managers.iter().all(|manager| seen.is_ours(manager, ours))
}

/// What was left behind at the last write, to compare with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected<'e> {
    /// The policy that we wrote it under; `None` if the spec changed since, which may have been the policy.
    pub policy: Option<CreationPolicy>,
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

/// Judges whether somebody changed a Secret of ours since we wrote it. What others do to their own keys of a shared one is theirs.
#[must_use]
pub fn judge(seen: &Seen, claim: &Claim<'_>, expected: &Expected<'_>) -> Drift {
    if seen.uid == expected.uid && seen.resource_version == expected.resource_version {
        return Drift::None;
    }
    let shared = expected.policy.map_or(claim.merged, |policy| policy == CreationPolicy::Merge);
    let owned = seen.owned(claim.manager);
    let our_keys: BTreeSet<&str> = owned.keys.iter().copied().chain(expected.keys.iter().map(String::as_str)).collect();
    let meddles =
        |manager: &&Manager| !expected.tolerated.contains(manager) && (!shared || manager.data.meets(&our_keys) || manager.string_data.meets(&our_keys));
    let others: Vec<&Manager> = seen.other_data_managers(claim.manager).filter(meddles).collect();
    let took = |of: &Names, names: &[&str]| names.iter().any(|name| of.contains(name));
    let took_metadata = |manager: &&Manager| took(&manager.labels, &expected.labels) || took(&manager.annotations, &expected.annotations);
    let culprits = others.iter().copied().chain(seen.managers.iter().filter(|manager| !seen.is_ours(manager, claim.manager)).filter(took_metadata));
    let culprit = culprits.filter(|manager| manager.name != BEFORE_FIRST_APPLY).max_by_key(|manager| manager.time).map(|manager| manager.name.clone());
    let marked = seen.owner.as_deref() == Some(claim.name);
    let controlled = seen.controller.as_ref().is_some_and(|controller| controller.uid == claim.uid);
    let marks_are_right = match expected.policy {
        Some(CreationPolicy::Owner) => marked && controlled,
        Some(CreationPolicy::Orphan) => marked && seen.controller.is_none(),
        Some(CreationPolicy::Merge) => !marked && !controlled,
        // They are still those of the former spec, whichever that was.
        None => true,
    };
    let is_ours = match ownership(seen, claim) {
        Ownership::Ours => true,
        Ownership::HandedOver => expected.policy.is_none(),
        Ownership::Foreign(_) => false,
    };
    let intact = seen.uid == expected.uid
        && is_ours
        && marks_are_right
        && seen.managed
        && others.is_empty()
        // Of a shared Secret we may own more: a key that we dropped and that somebody else wants to keep.
        && (owned.keys.len() == expected.key_count || shared && owned.keys.len() > expected.key_count)
        && expected.keys.iter().all(|key| owned.keys.contains(key.as_str()))
        && seen.managers.iter().all(|manager| !seen.is_ours(manager, claim.manager) || manager.string_data.is_empty())
        && expected.labels.iter().all(|label| owned.labels.contains(label))
        && expected.annotations.iter().all(|annotation| owned.annotations.contains(annotation));
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

    const OWNER: Claim<'static> = Claim { name: NAME, uid: UID, manager: MANAGER, policy: CreationPolicy::Owner, merged: false };

    fn judged(seen: &Seen, tolerated: &[Manager]) -> Drift {
        let keys = ["a".to_owned(), "b".to_owned()];
        let expected = Expected {
            policy: Some(CreationPolicy::Owner),
            uid: "s1",
            resource_version: "7",
            keys: &keys,
            key_count: 2,
            labels: vec![MANAGED_LABEL],
            annotations: vec![OWNER_ANNOTATION],
            tolerated,
        };
        judge(seen, &OWNER, &expected)
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
        assert_eq!(ownership(&secret, &OWNER), Ownership::Ours);
        assert!(matches!(ownership(&secret, &Claim { uid: "another uid", ..OWNER }), Ownership::Foreign(text) if text.contains("earlier RobotoSecret")));
        secret.controller = None;
        assert_eq!(ownership(&secret, &Claim { uid: "another uid", ..OWNER }), Ownership::Ours, "left by an orphaning delete");
        assert!(matches!(ownership(&secret, &Claim { name: "other", ..OWNER }), Ownership::Foreign(_)));
        secret.adopt = Some("other".into());
        assert_eq!(ownership(&secret, &Claim { name: "other", ..OWNER }), Ownership::HandedOver);
        secret.controller = Some(Controller { kind: "Certificate".into(), name: "tls".into(), uid: "x".into() });
        assert!(
            matches!(ownership(&secret, &Claim { name: "other", ..OWNER }), Ownership::Foreign(text) if text.contains("controlled by the Certificate tls"))
        );
        assert!(matches!(ownership(&Seen::default(), &OWNER), Ownership::Foreign(text) if text.contains("robotosecret.dev/adopt=db")));
    }

    const MERGE: Claim<'static> = Claim { policy: CreationPolicy::Merge, merged: true, ..OWNER };

    /// A Secret that others made, and into which we merged a and b.
    fn shared() -> Seen {
        let helm = Manager { name: "helm".into(), time: 90, data: set(&["x"]), labels: set(&["chart"]), ..Manager::default() };
        Seen { controller: None, owner: None, ..seen(vec![Manager { annotations: set(&[]), ..ours(true, &["a", "b"]) }, helm]) }
    }

    fn judged_under(policy: Option<CreationPolicy>, claim: &Claim<'_>, seen: &Seen, tolerated: &[Manager]) -> Drift {
        let keys = ["a".to_owned(), "b".to_owned()];
        let labels = vec![MANAGED_LABEL];
        judge(seen, claim, &Expected { policy, uid: "s1", resource_version: "7", keys: &keys, key_count: 2, labels, annotations: vec![], tolerated })
    }

    #[test]
    fn in_a_shared_secret_only_what_touches_our_keys_is_drift() {
        let merged = |change: &dyn Fn(&mut Seen)| {
            let mut changed = shared();
            change(&mut changed);
            judged_under(Some(CreationPolicy::Merge), &MERGE, &changed, &[])
        };
        let fine = Drift::ForeignMetadata;
        let by = |name: &str| Drift::Damaged(Some(name.into()));
        assert_eq!(merged(&|_| ()), fine);
        let other = |data: &[&str]| Manager { name: "editor".into(), time: 200, data: set(data), ..Manager::default() };
        assert_eq!(merged(&|seen| seen.managers.push(other(&["c"]))), fine, "a key of somebody else's came");
        assert_eq!(merged(&|seen| drop(seen.managers.pop())), fine, "the keys of others went");
        let stringy = |key: &str| Manager { string_data: set(&[key]), apply: true, ..other(&[]) };
        assert_eq!(merged(&|seen| seen.managers.push(stringy("c"))), fine);
        assert_eq!(merged(&|seen| seen.managers.push(stringy("a"))), by("editor"), "our value was overwritten through stringData");
        assert_eq!(merged(&|seen| seen.managers.push(other(&["a"]))), by("editor"), "somebody owns a key beside us");
        let edited = |seen: &mut Seen| {
            seen.managers[0].data = set(&["b"]);
            seen.managers.push(other(&["a"]));
        };
        assert_eq!(merged(&edited), by("editor"), "a key was edited");
        assert_eq!(merged(&|seen| seen.managers[0].data = set(&["b"])), Drift::Damaged(None), "a key was removed");
        assert_eq!(merged(&|seen| seen.managers[0].data = set(&["a", "b", "old"])), fine, "a dropped key that somebody wanted to keep");
        assert_eq!(merged(&|seen| seen.managers.clear()), Drift::Damaged(None), "managedFields were wiped");
        assert_eq!(merged(&|seen| seen.managed = false), Drift::Damaged(None), "the watch would not see it any more");
        assert_eq!(merged(&|seen| seen.owner = Some(NAME.into())), Drift::Damaged(None), "it would count as ours alone");
        assert_eq!(merged(&|seen| seen.owner = Some("other".into())), Drift::Damaged(None), "somebody has it alone");
        let controlled = |kind: &str, uid: &str| Some(Controller { kind: kind.into(), name: "x".into(), uid: uid.into() });
        assert_eq!(merged(&|seen| seen.controller = controlled("Certificate", "u")), fine);
        assert_eq!(merged(&|seen| seen.controller = controlled("RobotoSecret", UID)), Drift::Damaged(None), "garbage collection would take it with us");
        let beside = [other(&["a"])];
        let mut both = shared();
        both.managers.push(beside[0].clone());
        assert_eq!(judged_under(Some(CreationPolicy::Merge), &MERGE, &both, &beside), fine);
    }

    #[test]
    fn an_orphan_is_marked_and_controlled_by_nobody() {
        let orphan = Claim { policy: CreationPolicy::Orphan, ..OWNER };
        let judged = |seen: &Seen| judged_under(Some(CreationPolicy::Orphan), &orphan, seen, &[]);
        let mut secret = seen(vec![ours(true, &["a", "b"])]);
        assert_eq!(judged(&secret), Drift::Damaged(None), "it would go with us");
        secret.controller = None;
        assert_eq!(judged(&secret), Drift::ForeignMetadata);
        secret.controller = Some(Controller { kind: "Certificate".into(), name: "tls".into(), uid: "x".into() });
        assert!(matches!(ownership(&secret, &orphan), Ownership::Foreign(text) if text.contains("controlled by the Certificate tls")));
        assert_eq!(judged(&secret), Drift::Damaged(None));
    }

    #[test]
    fn a_changed_policy_is_no_damage_by_others() {
        let owned = seen(vec![ours(true, &["a", "b"])]);
        for policy in [CreationPolicy::Owner, CreationPolicy::Orphan, CreationPolicy::Merge] {
            assert_eq!(judged_under(None, &Claim { policy, ..OWNER }, &owned, &[]), Drift::ForeignMetadata, "{policy:?}");
        }
        let handed_over = Seen { adopt: Some(NAME.into()), ..shared() };
        for policy in [CreationPolicy::Owner, CreationPolicy::Merge] {
            assert_eq!(judged_under(None, &Claim { policy, ..MERGE }, &handed_over, &[]), Drift::ForeignMetadata, "{policy:?}");
        }
    }

    #[test]
    fn a_secret_may_be_merged_into_unless_another_resource_has_it_alone() {
        assert_eq!(ownership(&Seen::default(), &MERGE), Ownership::Ours, "anybody's");
        assert_eq!(ownership(&shared(), &Claim { name: "second", uid: "2", ..MERGE }), Ownership::Ours, "another one merges into it");
        let controlled =
            |kind: &str, name: &str, uid: &str| Seen { controller: Some(Controller { kind: kind.into(), name: name.into(), uid: uid.into() }), ..shared() };
        assert_eq!(ownership(&controlled("Certificate", "tls", "x"), &MERGE), Ownership::Ours);
        assert_eq!(ownership(&controlled("RobotoSecret", NAME, UID), &MERGE), Ownership::Ours, "it was an Owner before");
        assert!(matches!(ownership(&controlled("RobotoSecret", "web", "x"), &MERGE), Ownership::Foreign(text) if text.contains("RobotoSecret web alone")));
        assert!(matches!(ownership(&controlled("RobotoSecret", NAME, "x"), &MERGE), Ownership::Foreign(text) if text.contains("earlier")));
        assert_eq!(ownership(&Seen { owner: Some(NAME.into()), ..shared() }, &MERGE), Ownership::Ours, "it was an Orphan before");
        let orphan = Seen { owner: Some("web".into()), ..shared() };
        assert!(matches!(ownership(&orphan, &MERGE), Ownership::Foreign(text) if text.contains("annotate secret db robotosecret.dev/owner-")));
    }

    #[test]
    fn what_was_merged_is_taken_over_alone_or_handed_over() {
        for policy in [CreationPolicy::Owner, CreationPolicy::Orphan] {
            let claim = Claim { policy, ..MERGE };
            let foreign =
                |seen: &Seen, claim: &Claim<'_>| matches!(ownership(seen, claim), Ownership::Foreign(text) if text.contains("robotosecret.dev/adopt=db"));
            assert!(foreign(&shared(), &claim), "it has keys of others");
            let mut alone = shared();
            alone.managers.pop();
            assert!(foreign(&alone, &claim), "it was made by somebody else");
            alone.managers.push(Manager { name: MANAGER.into(), apply: false, time: 100, ..Manager::default() });
            assert_eq!(ownership(&alone, &claim), Ownership::Ours);
            for theirs in [Manager { labels: set(&["team"]), ..Manager::default() }, Manager::default()] {
                let with = Seen { managers: alone.managers.iter().cloned().chain([Manager { name: "kubectl".into(), ..theirs }]).collect(), ..alone.clone() };
                assert!(foreign(&with, &claim), "somebody else has a label in it, or its type");
            }
            assert!(foreign(&alone, &Claim { merged: false, ..claim }), "it is not known to be ours");
            alone.managers.push(Manager { name: "robotosecret/web".into(), apply: true, time: 200, data: set(&["w"]), ..Manager::default() });
            assert!(foreign(&alone, &claim), "another one merges into it");
            assert_eq!(ownership(&Seen { adopt: Some(NAME.into()), ..shared() }, &claim), Ownership::HandedOver);
        }
    }

    #[test]
    fn only_what_nobody_else_owns_is_ours_alone() {
        let mut secret = shared();
        secret.managers[0].labels = set(&[MANAGED_LABEL, "team"]);
        secret.managers.push(Manager { name: "robotosecret/web".into(), apply: true, time: 200, labels: set(&[MANAGED_LABEL]), ..Manager::default() });
        secret.managers.push(Manager { name: "editor".into(), apply: true, time: 200, string_data: set(&["b"]), ..Manager::default() });
        assert_eq!(secret.owned(MANAGER).fields(), [".data.a", ".data.b", ".metadata.labels.robotosecret.dev/managed", ".metadata.labels.team"]);
        assert_eq!(secret.owned_alone(MANAGER).fields(), [".data.a", ".metadata.labels.team"]);
        assert_eq!(secret.other_owners(MANAGER, ".data.b").collect::<Vec<_>>(), ["editor"]);
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
        let gc = Manager { name: "gc".into(), time: 100, ..Manager::default() };
        assert_eq!(cut, Seen { last_applied: true, ..seen(vec![ours(false, &["a", "b"]), gc]) });
        assert!(!format!("{cut:?}").contains("CANARY"));
    }

    #[test]
    fn versions_of_one_server_are_ordered() {
        assert!(is_older("9", "10") && !is_older("10", "9") && !is_older("10", "10") && !is_older("x", "10"));
    }
}
