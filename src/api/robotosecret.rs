//! The kind `RobotoSecret`: where a value lives, and the Secret that shall hold it.
//!
//! The doc comments below are what `kubectl explain rsec.spec` prints. Validation happens in the API server (CEL), in words that
//! tell what to write instead; the controller checks again, since a resource may be older than the rules.

#![allow(clippy::doc_markdown)] // `kubectl explain` prints them, where backticks are noise.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{duration, status::RobotoSecretStatus};

/// The longest name of a `RobotoSecret`: the field manager `robotosecret/<name>` may have 128 characters.
pub const MAX_NAME: usize = 115;
/// The recheck interval that holds when none is written.
pub const DEFAULT_TTL: &str = "15m";
/// The provider that serves resources that name none.
pub const DEFAULT_PROVIDER: &str = "default";
/// The key that holds a value which is not a JSON object, in the short form.
pub const DEFAULT_KEY: &str = "value";

/// Mirrors values from a secret store into a Kubernetes Secret of the same namespace and keeps them fresh.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "robotosecret.dev",
    version = "v1alpha1",
    kind = "RobotoSecret",
    plural = "robotosecrets",
    shortname = "rsec",
    category = "roboto",
    namespaced,
    status = "RobotoSecretStatus",
    derive = "PartialEq",
    doc = "Mirrors values from a secret store into a Kubernetes Secret of the same namespace and keeps them fresh.",
    validation = Rule::new("size(self.metadata.name) <= 115").message("the name of a RobotoSecret has at most 115 characters"),
    printcolumn(name = "Provider", type_ = "string", json_path = ".spec.provider.name"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Checked", type_ = "date", json_path = ".status.lastCheckTime"),
    printcolumn(name = "Changed", type_ = "date", json_path = ".status.lastChangeTime"),
    printcolumn(name = "Target", type_ = "string", json_path = ".status.target.name", priority = 1),
    printcolumn(name = "TTL", type_ = "string", json_path = ".spec.ttl", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.uri) != has(self.data)").message("write either uri (the short form: the whole value) or data (single keys)"),
    validation = Rule::new("!has(self.maxStaleness) || self.refreshPolicy == 'TTL'").message("maxStaleness needs refreshPolicy: TTL; the other policies never recheck"),
    validation = Rule::new("!has(self.maxStaleness) || duration(self.maxStaleness) >= duration(self.ttl)").message("maxStaleness is at least ttl")
)]
pub struct RobotoSecretSpec {
    /// Short form: a reference to mirror whole, such as `aws.sm://prod/db`, `aws.ps:///prod/token` or an ARN. A JSON object becomes one key a member, anything else the key `value`. Use `data` instead to choose keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    #[x_kube(validation = Rule::new("self.startsWith('aws.sm://') || self.startsWith('aws.ps://') || self.startsWith('arn:aws')").message("a reference starts with aws.sm:// (Secrets Manager), aws.ps:// (Parameter Store; aws.ps:///prod/x for the parameter /prod/x) or is an ARN of one of them"))]
    pub uri: Option<String>,

    /// Single keys of the Secret, each with the reference that its value is read from. A key stands only once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["key".into()]))]
    pub data: Option<Vec<DataEntry>>,

    /// The provider that says whose identity reads which store, and who may. Left out: the ClusterRobotoProvider `default`.
    #[serde(default)]
    pub provider: ProviderRef,

    /// How often the store is asked whether the value changed: a duration of at least `10s`, such as `15m` (the default) or `1h30m`.
    #[serde(default = "default_ttl")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(format!("self.matches('{}') && duration(self) >= duration('10s')", duration::PATTERN)).message("a duration of at least 10s, such as 30s, 15m or 1h30m (a day is 24h)"))]
    pub ttl: String,

    /// When the store is asked again. `TTL` (default): every `ttl`. `OnChange`: when this spec changes. `Once`: never after the first success. A lost or damaged Secret, or a change of the annotation `robotosecret.dev/refresh`, makes it read again under each of them.
    #[serde(default)]
    pub refresh_policy: RefreshPolicy,

    /// While true, nothing is read and nothing is written; the Secret stays as it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,

    /// After this long without a good recheck, Ready turns False with reason Stale: a duration, at least `ttl`. Left out: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new(format!("self.matches('{}')", duration::PATTERN)).message("a duration such as 30m or 2h (a day is 24h)"))]
    pub max_staleness: Option<String>,

    /// The Secret that holds the values.
    #[serde(default, skip_serializing_if = "Target::is_default")]
    pub target: Target,
}

fn default_ttl() -> String {
    DEFAULT_TTL.to_owned()
}

/// One key of the Secret.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.uri) != has(self.path)").message("write either uri or path (with store)"),
    validation = Rule::new("has(self.path) == has(self.store)").message("path and store belong together: store: aws.sm (Secrets Manager) or aws.ps (Parameter Store)"),
    validation = Rule::new("!has(self.uri) || !has(self.keypath)").message("with uri, the keypath is its fragment: uri: aws.sm://name#/member"),
    validation = Rule::new("!has(self.uri) || !has(self.version)").message("with uri, the version is part of it: ?version-stage= or ?version-id= (aws.sm), ?version= or ?label= (aws.ps)"),
    validation = Rule::new("!has(self.version) || !has(self.store) || (self.store == 'aws.sm' ? has(self.version.stage) || has(self.version.id) : has(self.version.number) || has(self.version.label))").message("aws.sm selects a version by stage or id, aws.ps by number or label")
)]
pub struct DataEntry {
    /// The key in the Secret: letters, digits, `-`, `_` and `.`.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[-._a-zA-Z0-9]+$') && self != '.' && !self.startsWith('..')").message("a key of a Secret has only letters, digits, - _ and . and does not start with two dots"))]
    pub key: String,

    /// The reference: `<store>://<name>[?<version>][#<JSON pointer>]`, such as `aws.sm://prod/db#/password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    #[x_kube(validation = Rule::new("self.startsWith('aws.sm://') || self.startsWith('aws.ps://') || self.startsWith('arn:aws')").message("a reference starts with aws.sm:// (Secrets Manager), aws.ps:// (Parameter Store; aws.ps:///prod/x for the parameter /prod/x) or is an ARN of one of them"))]
    pub uri: Option<String>,

    /// The store that `path` is a name in: `aws.sm` (Secrets Manager) or `aws.ps` (Parameter Store).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreName>,

    /// The name or ARN in the store, verbatim; instead of `uri`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub path: Option<String>,

    /// The way into a JSON value, member by member: `[items, "0", name]`. A dot is just a dot. Quote what YAML reads as a number or boolean (`"0"`, `"on"`, `"n"`). A name applied to a list takes that member of each of its objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), inner(length(max = 512)))]
    pub keypath: Option<Vec<String>>,

    /// The version to read; left out: the current one (AWSCURRENT, or the highest number).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionSelector>,

    /// Another provider than the resource's, for this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderRef>,
}

/// A store, as users name it.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreName {
    /// AWS Secrets Manager.
    #[serde(rename = "aws.sm")]
    SecretsManager,
    /// AWS Systems Manager Parameter Store.
    #[serde(rename = "aws.ps")]
    ParameterStore,
}

/// A version: exactly one of its fields.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct VersionSelector {
    /// Secrets Manager: the staging label, such as `AWSPREVIOUS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub stage: Option<String>,
    /// Secrets Manager: the version id, 32 to 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 32, max = 64))]
    pub id: Option<String>,
    /// Parameter Store: the version number, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub number: Option<i64>,
    /// Parameter Store: the parameter label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub label: Option<String>,
}

/// Names a provider.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProviderRef {
    /// The provider's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The provider's kind: `ClusterRobotoProvider`.
    pub kind: ProviderKind,
}

impl Default for ProviderRef {
    fn default() -> Self {
        Self { name: DEFAULT_PROVIDER.to_owned(), kind: ProviderKind::ClusterRobotoProvider }
    }
}

/// The kinds of providers.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProviderKind {
    /// A provider for the whole cluster, with a list of who may use it for what.
    ClusterRobotoProvider,
}

/// When the store is asked again.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RefreshPolicy {
    /// Every `ttl`.
    #[default]
    #[serde(rename = "TTL")]
    Ttl,
    /// Only when the spec changes.
    OnChange,
    /// Never after the first success.
    Once,
}

/// The Secret that holds the values.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// The Secret's name; left out: the name of the RobotoSecret. When it changes, the new Secret is written first and then the old one is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')").message("the name of a Secret has lower case letters, digits, - and . and starts and ends with a letter or digit"))]
    pub name: Option<String>,

    /// The Secret's type, `Opaque` when left out. A changed type makes the Secret anew, since Kubernetes can't change it.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self != 'kubernetes.io/service-account-token' && self != 'bootstrap.kubernetes.io/token'").message("this type makes Kubernetes mint credentials; a RobotoSecret mirrors values and cannot have it"))]
    pub type_: Option<String>,

    /// Labels of the Secret, besides the controller's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 63}))]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('robotosecret.dev/'))").message("labels under robotosecret.dev/ are the controller's own"))]
    pub labels: BTreeMap<String, String>,

    /// Annotations of the Secret, besides the controller's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 4096}))]
    #[x_kube(
        validation = Rule::new("self.all(k, !k.startsWith('robotosecret.dev/'))").message("annotations under robotosecret.dev/ are the controller's own"),
        validation = Rule::new("self.all(k, !k.startsWith('kubernetes.io/service-account.'))").message("these annotations make Kubernetes mint credentials; a RobotoSecret mirrors values and cannot have them")
    )]
    pub annotations: BTreeMap<String, String>,
}

impl Target {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
