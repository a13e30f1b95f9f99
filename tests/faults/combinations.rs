//! What stands in a scene of the fault suite: a resource for each policy and kind of content, once over sources that stay and once for
//! each fault over sources of which one goes, with what its Secret may hold one after the other.
//!
//! A scene enters; sources, Secrets of others and resources are made in it. Nothing here waits for the controller.

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
};

use kube::api::PostParams;
use serde_json::{Value, json};

use crate::support::Scene;

/// What a Secret holds.
pub type Data = BTreeMap<String, String>;

/// How a resource gets its keys: by name or by a listing, from either store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// `data`, from Secrets Manager.
    Secrets,
    /// `data`, from Parameter Store.
    Parameters,
    /// `dataFrom` with `find`, in Secrets Manager: a list of names, whose values are read in batches.
    Find,
    /// `dataFrom` with `byPath`, in Parameter Store: a list with values.
    ByPath,
}

impl Content {
    pub const ALL: [Self; 4] = [Self::Secrets, Self::Parameters, Self::Find, Self::ByPath];

    fn is_listed(self) -> bool {
        matches!(self, Self::Find | Self::ByPath)
    }

    fn is_secret(self) -> bool {
        matches!(self, Self::Secrets | Self::Find)
    }

    /// The name of a source, as [`Scene::path`] takes it.
    fn place(self, group: Group, key: &str) -> String {
        let folder = if self.is_listed() { "listed/" } else { "" };
        format!("{folder}{group}/{key}")
    }

    /// The id that the store is asked for.
    pub fn id(self, s: &Scene, group: Group, key: &str) -> String {
        let path = s.path(&self.place(group, key));
        if self.is_secret() { path } else { format!("/{path}") }
    }

    /// The value that a source has from this version on.
    fn value(self, s: &Scene, group: Group, key: &str, version: u8) -> String {
        s.value(&format!("{self:?} {group} {key} {version}"))
    }

    async fn put(self, s: &Scene, group: Group, key: &str, version: u8) {
        let (place, value) = (self.place(group, key), self.value(s, group, key, version));
        if self.is_secret() { s.put_secret(&place, &value).await } else { s.put_parameter(&place, &value).await }
    }

    fn delete(self, s: &Scene, group: Group, key: &str) {
        let id = self.id(s, group, key);
        if self.is_secret() { s.emulator().delete_secret(&id) } else { s.emulator().delete_parameter(&id) }.unwrap();
    }
}

/// The two kinds of sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// `a` and `b` stay; `b` gets a new version while each fault lasts.
    Kept,
    /// `goes` is deleted while the fault of this number lasts, `stays` stays.
    Lost(usize),
}

impl Group {
    /// Those of a scene of so many faults.
    pub fn all(faults: usize) -> Vec<Self> {
        [Self::Kept].into_iter().chain((0..faults).map(Self::Lost)).collect()
    }

    pub fn keys(self) -> [&'static str; 2] {
        match self {
            Self::Kept => ["a", "b"],
            Self::Lost(_) => ["goes", "stays"],
        }
    }
}

impl Display for Group {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept => f.write_str("kept"),
            Self::Lost(fault) => write!(f, "lost-{fault}"),
        }
    }
}

/// One resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Combination {
    pub creation: &'static str,
    pub deletion: &'static str,
    pub content: Content,
    pub group: Group,
}

/// Every policy that the API takes: over sources that stay with every content, over those of which one goes by name and by a listing. Those
/// come from either store in turn, so that each fault, each policy and each content meet.
pub fn all(groups: &[Group]) -> Vec<Combination> {
    let policies = ["Owner", "Orphan", "Merge"].into_iter().flat_map(|creation| ["Retain", "Delete", "DropKeys"].map(|deletion| (creation, deletion)));
    // A Secret of others is never deleted: the API refuses this pair.
    let policies = policies.filter(|policy| *policy != ("Merge", "Delete"));
    let mut all = Vec::new();
    for (turn, (creation, deletion)) in policies.enumerate() {
        for &group in groups {
            let has = |content: &Content| match group {
                Group::Kept => true,
                Group::Lost(fault) => content.is_secret() == (turn + fault).is_multiple_of(2),
            };
            all.extend(Content::ALL.into_iter().filter(has).map(|content| Combination { creation, deletion, content, group }));
        }
    }
    all
}

impl Combination {
    /// The name of the resource and its Secret.
    pub fn name(&self) -> String {
        format!("{}-{}-{}-{:?}", self.group, self.creation, self.deletion, self.content).to_lowercase()
    }

    /// The keys that it mirrors. Under `Delete` the Secret goes when all that it names is gone.
    fn keys(&self) -> Vec<&'static str> {
        if self.group != Group::Kept && self.deletion == "Delete" && !self.content.is_listed() { vec!["goes"] } else { self.group.keys().to_vec() }
    }

    fn spec(&self, s: &Scene) -> Value {
        let mut spec = json!({"target": {"creationPolicy": self.creation, "deletionPolicy": self.deletion}});
        let path = |key: &str| self.content.id(s, self.group, key);
        let data = |store: &str| self.keys().into_iter().map(|key| json!({"key": key, "uri": format!("{store}://{}", path(key))})).collect::<Vec<_>>();
        match self.content {
            Content::Secrets => spec["data"] = json!(data("aws.sm")),
            Content::Parameters => spec["data"] = json!(data("aws.ps")),
            Content::Find => {
                let rewrite = json!([{"regexp": "^.*/", "replace": ""}]);
                spec["dataFrom"] = json!([{"find": {"store": "aws.sm", "path": path("")}, "rewrite": rewrite}]);
            }
            Content::ByPath => spec["dataFrom"] = json!([{"byPath": {"uri": format!("aws.ps://{}", path(""))}}]),
        }
        spec
    }

    /// What others have in the Secret, if it is theirs.
    pub fn theirs(&self) -> Option<(String, String)> {
        (self.creation == "Merge").then(|| ("theirs".to_owned(), "x".to_owned()))
    }

    /// What the Secret holds at first, and what it comes to hold by what [`rotate`] did so often and [`delete`] did; `None` is no Secret. Never
    /// anything else.
    pub fn states(&self, s: &Scene, rotations: u8) -> Vec<Option<Data>> {
        let theirs = self.theirs();
        let holding = |keys: &[(&str, u8)]| {
            let ours = keys.iter().map(|(key, version)| ((*key).to_owned(), self.content.value(s, self.group, key, *version)));
            Some(ours.chain(theirs.clone()).collect())
        };
        let first: Vec<(&str, u8)> = self.keys().into_iter().map(|key| (key, 1)).collect();
        match (self.group, self.deletion, self.content.is_listed()) {
            (Group::Kept, ..) => (1..=rotations + 1).map(|version| holding(&[("a", 1), ("b", version)])).collect(),
            (Group::Lost(_), "Retain", false) => vec![holding(&first)],
            (Group::Lost(_), "Delete", false) => vec![holding(&first), None],
            (Group::Lost(_), ..) => vec![holding(&first), holding(&[("stays", 1)])],
        }
    }

    /// What Ready says when all is over.
    pub fn in_the_end(&self) -> &'static str {
        match (self.group, self.deletion, self.content.is_listed()) {
            (Group::Lost(_), "Retain", false) => "False SourceNotFound",
            (Group::Lost(_), "Delete", false) => "False SourceDeleted",
            _ => "True Mirrored",
        }
    }
}

/// So many more parameters are mirrored in each scene that what goes with all of its faults is not taken for an accident (`MassAbsence`)
/// by a controller that has just been started either.
const BALLAST: usize = 250;

/// Makes all sources, the Secrets of others that some merge into, and the resources.
pub async fn plant(s: &Scene, groups: &[Group], all: &[Combination]) {
    for content in Content::ALL {
        for &group in groups {
            for key in group.keys() {
                content.put(s, group, key, 1).await;
            }
        }
    }
    for combination in all {
        let Some((key, value)) = combination.theirs() else { continue };
        let theirs = json!({"metadata": {"name": combination.name()}, "stringData": {key: value}});
        let parameters = PostParams { field_manager: Some("helm".into()), ..PostParams::default() };
        s.secrets().create(&parameters, &serde_json::from_value(theirs).unwrap()).await.unwrap();
    }
    let specs: BTreeMap<String, Value> = all.iter().map(|combination| (combination.name(), combination.spec(s))).collect();
    s.apply_all(&specs.keys().cloned().collect::<Vec<_>>(), |name| specs[name].clone()).await;
    let mut ballast = Vec::new();
    for n in 0..BALLAST {
        let name = format!("ballast/{n}");
        s.put_parameter(&name, &s.value(&name)).await;
        ballast.push(json!({"key": n.to_string(), "uri": format!("aws.ps:///{}", s.path(&name))}));
    }
    s.apply("ballast", &json!({"data": ballast, "ttl": "1h"}).to_string()).await;
}

/// Gives one source of each content that stays a new version, after so many.
pub async fn rotate(s: &Scene, rotations: u8) {
    for content in Content::ALL {
        content.put(s, Group::Kept, "b", rotations + 2).await;
    }
}

/// Deletes one source of each content for good: that of this fault.
pub fn delete(s: &Scene, fault: usize) {
    for content in Content::ALL {
        content.delete(s, Group::Lost(fault), "goes");
    }
}
