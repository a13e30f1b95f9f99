//! The kind `RobotoPush`: which keys of a Secret are written into which secrets and parameters of a store.
//!
//! The doc comments below are what `kubectl explain rpush.spec` prints. Validation happens in the API server (CEL); the controller checks
//! again, since a resource may be older than the rules. Neither spec nor status ever holds a value, nor anything made from one.

#![allow(clippy::doc_markdown)] // `kubectl explain` prints them, where backticks are noise.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{
    duration, is_default,
    robotosecret::{ProviderRef, default_ttl, key_rule, object_name_rule, reference_rule},
};

/// The finalizer of a RobotoPush that deletes at the store what it made there.
pub const PUSH_FINALIZER: &str = "robotosecret.dev/push";
/// The tag by which what was pushed is known at the store: `<uid of the cluster's namespace kube-system>/<namespace>/<name>`.
pub const OWNER_TAG: &str = "robotosecret.dev/owner";
/// The tag at the store, beside the mark, of what members are pushed into: `true` where others may keep members beside them, so that it is neither
/// written over as a whole nor deleted.
pub const SHARED_TAG: &str = "robotosecret.dev/shared";

/// Writes keys of a Kubernetes Secret into a secret store and keeps them there as they are in the Secret.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "robotosecret.dev",
    version = "v1alpha1",
    kind = "RobotoPush",
    plural = "robotopushes",
    shortname = "rpush",
    category = "roboto",
    namespaced,
    status = "RobotoPushStatus",
    derive = "PartialEq",
    doc = "Writes keys of a Kubernetes Secret into a secret store and keeps them there as they are in the Secret.",
    validation = Rule::new("size(self.metadata.name) <= 115").message("the name of a RobotoPush has at most 115 characters"),
    printcolumn(name = "Secret", type_ = "string", json_path = ".spec.secretName"),
    printcolumn(name = "Provider", type_ = "string", json_path = ".spec.provider.name"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Checked", type_ = "date", json_path = ".status.lastCheckTime"),
    printcolumn(name = "Written", type_ = "date", json_path = ".status.lastWriteTime"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.deletionPolicy != 'Delete' || self.data.all(entry, !entry.uri.contains('#'))").message("deletionPolicy Delete deletes whole secrets and parameters, and with a keypath others may keep something beside it; use Retain"),
    validation = Rule::new("!has(self.recovery) || self.deletionPolicy == 'Delete'").message("recovery says how deletionPolicy: Delete deletes")
)]
pub struct RobotoPushSpec {
    /// The Secret of the same namespace whose keys are pushed.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = object_name_rule("Secret"))]
    pub secret_name: String,

    /// What goes where. Each reference stands only once.
    #[schemars(length(min = 1, max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["uri".into()]))]
    pub data: Vec<PushEntry>,

    /// The provider that says whose identity writes; its `allow` must let this namespace write these references (`verbs: [write]`). Left out: the ClusterRobotoProvider `default`.
    #[serde(default)]
    pub provider: ProviderRef,

    /// What happens to what is there already. `Replace` (default): it is made what the Secret holds, and again when somebody changes it. `IfNotExists`: it stays as it is, whoever made it.
    #[serde(default)]
    pub update_policy: UpdatePolicy,

    /// What happens at the store when a reference is taken out of this spec, or the RobotoPush is deleted. `Retain` (default): nothing. `Delete`: what is this RobotoPush's is deleted, once all that is in the spec is written. What members were written into is never deleted.
    #[serde(default)]
    pub deletion_policy: PushDeletionPolicy,

    /// How `deletionPolicy: Delete` deletes. Left out: a secret of Secrets Manager can be had back for 30 days, one of Vault as long as its versions are kept. All else is gone at once in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<PushRecovery>,

    /// Takes over what is there and has nobody's mark (the tag robotosecret.dev/owner). What has the mark of another RobotoPush is never taken over; delete the tag for that. Roboto, Envase and version 1 of Vault keep no mark: there whoever adopts takes it, also from another cluster.
    #[serde(default, skip_serializing_if = "is_default")]
    pub adopt: bool,

    /// How often the Secret and the store are compared: a duration of at least `10s`, such as `15m` (the default) or `1h30m`.
    #[serde(default = "default_ttl")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(format!("self.matches('{}') && duration(self) >= duration('10s')", duration::PATTERN)).message("a duration of at least 10s, such as 30s, 15m or 1h30m (a day is 24h)"))]
    pub ttl: String,

    /// While true, nothing is read and nothing is written; what is at the store stays as it is. Deleting the RobotoPush still does what deletionPolicy says.
    #[serde(default, skip_serializing_if = "is_default")]
    pub suspend: bool,
}

/// One thing that is pushed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.key) || !self.uri.contains('#')").message("a keypath takes one key; name it with key"))]
pub struct PushEntry {
    /// The key of the Secret. Left out: the whole Secret, as a JSON object with a member for each key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = key_rule())]
    pub key: Option<String>,

    /// Where it goes: `aws.sm://prod/db`, `aws.ps:///prod/token`, `vault://kv/prod/db`, `edge://org/db`, `roboto-secret://db`, `envase://db`, an ARN, or a member of the JSON there: `aws.sm://prod/db#/password`.
    #[schemars(length(min = 1, max = 4096))]
    #[x_kube(
        validation = reference_rule(),
        validation = Rule::new("!self.contains('?')").message("what is written becomes the newest version; leave the version out")
    )]
    pub uri: String,

    /// What a secret or parameter has besides its value, as far as its store keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<PushAttributes>,
}

/// What a secret or parameter has besides its value. Description and tags are kept as they are here; all else is given when it is made.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PushAttributes {
    /// What people are told about it (AWS, Envase).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub description: Option<String>,
    /// Its tags, besides the controller's own and those of others (AWS; custom metadata in Vault and Edge).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 40, "additionalProperties" = {"type": "string", "maxLength": 256}))]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('robotosecret.dev/') && !k.startsWith('aws:'))").message("tags under robotosecret.dev/ are the controller's own, and those that begin with aws: are AWS's"))]
    pub tags: BTreeMap<String, String>,
    /// The key that it is encrypted with (AWS): an id, an ARN or an alias. Left out: the account's own for the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub kms_key: Option<String>,
    /// The type of a parameter: `SecureString` (default), `String` or `StringList`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter_type: Option<PushParameterType>,
    /// The tier of a parameter: `Standard`, `Advanced` or `Intelligent-Tiering`. Left out: the account's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter_tier: Option<PushParameterTier>,
}

/// The type of a parameter.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PushParameterType {
    /// Text that is encrypted.
    SecureString,
    /// Text.
    String,
    /// Text with commas.
    StringList,
}

/// The tier of a parameter.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PushParameterTier {
    /// Up to 4,096 bytes.
    Standard,
    /// Up to 8,192 bytes, and paid for.
    Advanced,
    /// Standard, or Advanced where that is needed.
    #[serde(rename = "Intelligent-Tiering")]
    IntelligentTiering,
}

/// What happens to what is there already.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum UpdatePolicy {
    /// It is made what the Secret holds.
    #[default]
    Replace,
    /// It stays as it is.
    IfNotExists,
}

/// What happens at the store when something is pushed no more.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PushDeletionPolicy {
    /// Nothing.
    #[default]
    Retain,
    /// It is deleted, if it has our mark.
    Delete,
}

/// What is known of whose something is, besides a mark at the store.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PushOwnership {
    /// It was about to be made: if it holds what was to be pushed, it is this RobotoPush's.
    Making,
    /// It is this RobotoPush's.
    Owned,
}

/// How a secret is deleted: exactly one of its fields.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.days) != has(self.force)").message("write either days or force"))]
pub struct PushRecovery {
    /// It can be had back for so many days, 7 to 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 7, max = 30))]
    pub days: Option<i32>,
    /// It can't be had back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self").message("write force: true, or leave it out"))]
    pub force: Option<bool>,
}

/// What became of a RobotoPush, as the controller last saw it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RobotoPushStatus {
    /// The generation of the spec that this status speaks of; -1 before the controller saw the resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready: the store holds what the Secret holds. Fresh: the last comparison worked. Stalled: only an edit of the spec can help.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// When Secret and store were last compared with success; written at most every five minutes while nothing changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_check_time: Option<Time>,
    /// When something was last written to the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_write_time: Option<Time>,
    /// The value of the annotation `robotosecret.dev/refresh` that was last carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_refresh: Option<String>,
    /// What is written to, and how that stands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    pub targets: Vec<PushTarget>,
}

impl RobotoPushStatus {
    /// The condition of this type, if it is there.
    #[must_use]
    pub fn condition(&self, type_: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == type_)
    }
}

/// One secret or parameter that is written to.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PushTarget {
    /// The reference, without keypath.
    pub uri: String,
    /// The provider that it is written through.
    pub provider: ProviderRef,
    /// The keys of the Secret that go there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub keys: Vec<String>,
    /// Its ARN, or its address at the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arn: Option<String>,
    /// The version that was last written, or found to hold what the Secret holds: the version id of a secret, the number of a parameter or in Vault. Left out where the store has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Whether members of it are written, among others that may be somebody else's; such a target is never deleted.
    #[serde(default, skip_serializing_if = "is_default")]
    pub shared: bool,
    /// Whose it is, where the store keeps no mark. `Making`: it was about to be made. `Owned`: this RobotoPush made it or took it over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ownership: Option<PushOwnership>,
    /// Whether it may have been made, though nothing was heard of it: `deletionPolicy: Delete` looks for it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub begun: bool,
    /// When this controller last wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_write_time: Option<Time>,
    /// Why the last try failed; left out: it worked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// The same in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,
}
