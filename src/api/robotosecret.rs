//! The kind `RobotoSecret`: where a value lives, and the Secret that shall hold it.
//!
//! The doc comments below are what `kubectl explain rsec.spec` prints. Validation happens in the API server (CEL), in words that
//! tell what to write instead; the controller checks again, since a resource may be older than the rules.

#![allow(clippy::doc_markdown)] // `kubectl explain` prints them, where backticks are noise.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema, core::Rule};
use serde::{Deserialize, Serialize};

use super::{duration, is_default, status::RobotoSecretStatus};

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
    validation = Rule::new("has(self.uri) ? !has(self.data) && !has(self.dataFrom) : has(self.data) || has(self.dataFrom)").message("write either uri (the short form: the whole value), or data (single keys) and dataFrom (many keys)"),
    validation = Rule::new("!has(self.maxStaleness) || self.refreshPolicy == 'TTL'").message("maxStaleness needs refreshPolicy: TTL; the other policies never recheck"),
    validation = Rule::new("!has(self.maxStaleness) || duration(self.maxStaleness) >= duration(self.ttl)").message("maxStaleness is at least ttl")
)]
pub struct RobotoSecretSpec {
    /// Short form: a reference to mirror whole, such as `aws.sm://prod/db`, `aws.ps:///prod/token` or an ARN. A JSON object becomes one key a member, anything else the key `value`. Use `data` instead to choose keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    #[x_kube(validation = reference_rule())]
    pub uri: Option<String>,

    /// Single keys of the Secret, each with the reference that its value is read from. A key stands only once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["key".into()]))]
    pub data: Option<Vec<DataEntry>>,

    /// Many keys from one place each: a whole value, all values under a path, or all that a search finds. Entries are carried out in order, before `data`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub data_from: Option<Vec<DataFromEntry>>,

    /// What happens when two entries make the same key. `Error` (default): nothing is written, reason KeyCollision. `Override`: the later wins, all of `dataFrom` in order, then `data`. Two keys from within one entry of `dataFrom` never override each other.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_collision: OnCollision,

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
    #[serde(default, skip_serializing_if = "is_default")]
    pub target: Target,

    /// Workloads of the same namespace whose pods are restarted when the mirrored data changed: after a rotation, never at first creation. Needs the controller's right to do so (chart: `rollout.enabled`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["kind".into(), "name".into()]))]
    pub rollout: Vec<RolloutTarget>,
}

/// The rule that every reference in a spec obeys.
pub(super) fn reference_rule() -> Rule {
    Rule::new("self.startsWith('aws.sm://') || self.startsWith('aws.ps://') || self.startsWith('vault://') || self.startsWith('edge://') || self.startsWith('roboto-secret://') || self.startsWith('envase://') || self.startsWith('arn:aws')").message("a reference starts with aws.sm:// (Secrets Manager), aws.ps:// (Parameter Store; aws.ps:///prod/x for the parameter /prod/x), vault://, edge://, roboto-secret:// or envase://, or is an ARN")
}

pub(super) fn default_ttl() -> String {
    DEFAULT_TTL.to_owned()
}

/// What is said of a key that no Secret can have.
const KEY_MESSAGE: &str = "a key of a Secret has only letters, digits, - _ and . and does not start with two dots";

/// The rule that every key of a Secret obeys.
pub(super) fn key_rule() -> Rule {
    Rule::new("self.matches('^[-._a-zA-Z0-9]+$') && self != '.' && !self.startsWith('..')").message(KEY_MESSAGE)
}

/// The rule that every name of an object obeys.
pub(super) fn object_name_rule(kind: &str) -> Rule {
    Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')")
        .message(&*format!("the name of a {kind} has lower case letters, digits, - and . and starts and ends with a letter or digit"))
}

/// The rule that keeps users' `labels` or `annotations` apart from the controller's.
fn own_names_rule(names: &str) -> Rule {
    Rule::new("self.all(k, !k.startsWith('robotosecret.dev/'))").message(&*format!("{names} under robotosecret.dev/ are the controller's own"))
}

/// The rule that keeps annotations out that turn a Secret into credentials.
fn minting_rule() -> Rule {
    Rule::new("self.all(k, !k.startsWith('kubernetes.io/service-account.'))")
        .message("these annotations make Kubernetes mint credentials; a RobotoSecret mirrors values and cannot have them")
}

/// One key of the Secret.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.uri) != has(self.path)").message("write either uri or path (with store)"),
    validation = Rule::new("has(self.path) == has(self.store)").message("path and store belong together: store: aws.sm (Secrets Manager), aws.ps (Parameter Store), vault, edge, roboto-secret or envase"),
    validation = Rule::new("!has(self.uri) || !has(self.keypath)").message("with uri, the keypath is its fragment: uri: aws.sm://name#/member"),
    validation = Rule::new("!has(self.uri) || !has(self.version)").message("with uri, the version is part of it: ?version-stage= or ?version-id= (aws.sm), ?version= or ?label= (aws.ps), ?version= (vault)"),
    validation = Rule::new("!has(self.version) || !has(self.metadata)").message("tags belong to all versions; leave the version out"),
    validation = Rule::new("!has(self.version) || !has(self.store) || (self.store == 'aws.sm' ? has(self.version.stage) || has(self.version.id) : self.store in ['aws.ps', 'vault'] && has(self.version.number) || (self.store == 'aws.ps' && has(self.version.label)))").message("aws.sm selects a version by stage or id, aws.ps by number or label, vault by number, other stores by nothing")
)]
pub struct DataEntry {
    /// The key in the Secret: letters, digits, `-`, `_` and `.`.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = key_rule())]
    pub key: String,

    /// The reference: `<store>://<name>[?<version>][#<JSON pointer>]`, such as `aws.sm://prod/db#/password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    #[x_kube(validation = reference_rule())]
    pub uri: Option<String>,

    /// The store that `path` is a name in: `aws.sm` (Secrets Manager), `aws.ps` (Parameter Store), `vault`, `edge`, `roboto-secret` or `envase`.
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

    /// How the value (after the keypath) is decoded: `none` (default), `base64` or `base64url`. Nothing is decoded by guessing; text that is not of that form is an error.
    #[serde(default, skip_serializing_if = "is_default")]
    pub decode: Decode,

    /// Mirrors what the store knows about the value instead of the value: `tags` are its tags as a JSON object, or one tag with a keypath.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,

    /// Another provider than the resource's, for this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderRef>,
}

/// How a value is decoded.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Decode {
    /// Not at all.
    #[default]
    #[serde(rename = "none")]
    None,
    /// Standard base64, with or without padding; line breaks are skipped.
    #[serde(rename = "base64")]
    Base64,
    /// The alphabet for URLs, with or without padding; line breaks are skipped.
    #[serde(rename = "base64url")]
    Base64Url,
}

/// What is mirrored instead of a value.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metadata {
    /// The tags.
    #[serde(rename = "tags")]
    Tags,
}

/// Many keys of the Secret from one place: exactly one of `uri`, `byPath` and `find`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.uri) ? 1 : 0) + (has(self.byPath) ? 1 : 0) + (has(self.find) ? 1 : 0) == 1").message("write exactly one of uri (one value), byPath (all values under a path) and find (all values that a search finds)"),
    validation = Rule::new("!has(self.as) || has(self.uri)").message("as names the key of a value that is not a JSON object: it goes with uri")
)]
pub struct DataFromEntry {
    /// The reference of one value, such as `aws.sm://prod/app/config`. A JSON object (at the keypath, if there is one) becomes one key a member, anything else the one key `as`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    #[x_kube(validation = reference_rule())]
    pub uri: Option<String>,

    /// With `uri`: the key that holds a value which is not a JSON object. Left out: `value`.
    #[serde(rename = "as", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = key_rule())]
    pub as_: Option<String>,

    /// All values under a path, one key each: the name without the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_path: Option<ByPath>,

    /// All values that a search finds, one key each: the whole name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub find: Option<Find>,

    /// Regular expressions; a key (as it is before `rewrite`) that one of them matches anywhere is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 512)))]
    pub exclude: Vec<String>,

    /// Changes keys, step after step. Two keys that become one are an error (reason KeyCollision), never the last of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub rewrite: Vec<Rewrite>,

    /// What happens with characters that a key of a Secret can't have (all but letters, digits, `-`, `_` and `.`), after `rewrite`. `Error` (default): reason InvalidKey, and the message names the key. `Underscore`: each becomes `_`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub conversion: Conversion,

    /// How every value of this entry is decoded: `none` (default), `base64` or `base64url`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub decode: Decode,

    /// Another provider than the resource's, for this entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderRef>,
}

/// All values under a path.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ByPath {
    /// The path: `aws.ps:///prod/app` holds every parameter below `/prod/app`, `aws.sm://prod/app` every secret whose name starts with `prod/app`, `vault://kv/prod/app` every one below `prod/app` in the mount `kv`, `edge://org` every one of the organisation, `roboto-secret://app` every one below `app`. Without version and keypath.
    #[schemars(length(min = 1, max = 4096))]
    #[x_kube(validation = Rule::new("(self.startsWith('aws.sm://') || self.startsWith('aws.ps:///') || self.startsWith('vault://') || self.startsWith('edge://') || self.startsWith('roboto-secret://')) && !(self in ['aws.sm://', 'vault://', 'edge://', 'roboto-secret://']) && !self.contains('?') && !self.contains('#')").message("a path is aws.ps:///prod/app or aws.sm://prod/app, without version and keypath; all that is allowed is found by find: {name: '.*'}"))]
    pub uri: String,

    /// Whether what lies deeper (behind a further `/`) belongs to it. Default true.
    #[serde(default = "yes")]
    pub recursive: bool,
}

fn yes() -> bool {
    true
}

/// A search. Everything that is written must hold.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.path) || has(self.name) || has(self.tags)").message("write at least one of path, name and tags; name: '.*' finds everything"),
    validation = Rule::new("!has(self.path) || self.store != 'aws.ps' || self.path.startsWith('/')").message("a path in Parameter Store starts with a slash: /prod/app"),
    validation = Rule::new("!(self.store in ['vault', 'edge']) || has(self.path)").message("a search in Vault has a path, from the mount on, and one in Edge the path user or org"),
    validation = Rule::new("self.store in ['aws.sm', 'aws.ps'] || !has(self.tags)").message("only AWS finds by tags"),
    validation = Rule::new("self.store != 'envase'").message("Envase has no list of its secrets")
)]
pub struct Find {
    /// The store that is searched: `aws.sm` (Secrets Manager), `aws.ps` (Parameter Store), `vault`, `edge` or `roboto-secret`.
    pub store: StoreName,

    /// What the name starts with (`aws.sm`), or the path that it lies below (`aws.ps`: `/prod/app`; `vault`: `kv/prod/app`, from the mount on; `edge`: `user` or `org`; `roboto-secret`: `app`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub path: Option<String>,

    /// A regular expression that matches somewhere in the name; `^` and `$` stand for its ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub name: Option<String>,

    /// Tags that it has, each with exactly this value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minProperties" = 1, "maxProperties" = 8, "additionalProperties" = {"type": "string", "maxLength": 256}))]
    pub tags: Option<BTreeMap<String, String>>,
}

/// One step that changes keys: exactly one of `regexp` (with `replace`) and `template`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.regexp) != has(self.template)").message("write either regexp (with replace) or template"),
    validation = Rule::new("has(self.regexp) == has(self.replace)").message("regexp and replace belong together")
)]
pub struct Rewrite {
    /// A regular expression; every match in the key is replaced by `replace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub regexp: Option<String>,
    /// What takes the place of a match: text in which `$1` or `${name}` stand for groups of the expression and `$$` for a dollar sign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub replace: Option<String>,
    /// A template of the new key; it sees the old one as `name`: `{{ name | upper }}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub template: Option<String>,
}

/// What happens with characters that a key can't have.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Conversion {
    /// They are an error.
    #[default]
    Error,
    /// Each becomes an underscore.
    Underscore,
}

/// What happens when two entries make the same key.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnCollision {
    /// Nothing is written.
    #[default]
    Error,
    /// The later entry wins.
    Override,
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
    /// Vault or OpenBao.
    #[serde(rename = "vault")]
    Vault,
    /// Edge's secrets, in Vault.
    #[serde(rename = "edge")]
    Edge,
    /// A Roboto platform.
    #[serde(rename = "roboto-secret")]
    Roboto,
    /// Envase Vault.
    #[serde(rename = "envase")]
    Envase,
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
    /// Parameter Store and Vault: the version number, from 1.
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
    #[schemars(length(min = 1, max = 253), extend("pattern" = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// The provider's kind: `ClusterRobotoProvider`, or `RobotoProvider` for one of the resource's own namespace.
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
    /// A provider of the resource's own namespace.
    RobotoProvider,
}

impl ProviderKind {
    /// The kind as Kubernetes spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClusterRobotoProvider => "ClusterRobotoProvider",
            Self::RobotoProvider => "RobotoProvider",
        }
    }
}

impl ProviderRef {
    /// How a status names it: by its name, a RobotoProvider with its kind before.
    #[must_use]
    pub fn label(&self) -> String {
        match self.kind {
            ProviderKind::ClusterRobotoProvider => self.name.clone(),
            ProviderKind::RobotoProvider => format!("{}/{}", self.kind.as_str(), self.name),
        }
    }
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
#[x_kube(
    validation = Rule::new("!has(self.creationPolicy) || self.creationPolicy != 'Merge' || !has(self.deletionPolicy) || self.deletionPolicy != 'Delete'").message("creationPolicy Merge shares the Secret with others, so that deletionPolicy Delete would delete theirs; use DropKeys"),
    validation = Rule::new("!has(self.creationPolicy) || self.creationPolicy != 'Merge' || !has(self.type)").message("with creationPolicy Merge the Secret keeps the type that it has")
)]
pub struct Target {
    /// The Secret's name; left out: the name of the RobotoSecret. When it changes, the new Secret is written first and then the old one is deleted; with `creationPolicy: Merge` the mirrored keys are taken out of it instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = object_name_rule("Secret"))]
    pub name: Option<String>,

    /// The Secret's type, `Opaque` when left out. A changed type makes the Secret anew, since Kubernetes can't change it.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self != 'kubernetes.io/service-account-token' && self != 'bootstrap.kubernetes.io/token'").message("this type makes Kubernetes mint credentials; a RobotoSecret mirrors values and cannot have it"))]
    pub type_: Option<String>,

    /// Labels of the Secret, besides the controller's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 63}))]
    #[x_kube(validation = own_names_rule("labels"))]
    pub labels: BTreeMap<String, String>,

    /// Annotations of the Secret, besides the controller's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 4096}))]
    #[x_kube(
        validation = own_names_rule("annotations"),
        validation = minting_rule()
    )]
    pub annotations: BTreeMap<String, String>,

    /// Whose the Secret is. `Owner` (default): the RobotoSecret's alone; it holds exactly the mirrored keys and is deleted with it. `Orphan`: likewise, but it stays when the RobotoSecret is deleted. `Merge`: the mirrored keys are put into a Secret that others may write as well, and are taken out again when the RobotoSecret is deleted.
    #[serde(default, skip_serializing_if = "is_default")]
    pub creation_policy: CreationPolicy,

    /// What happens when a source is gone from the store for certain (confirmed by a second look at least a minute later). One of several that a path or a search found goes under every policy, as what is added comes; the policy speaks of what is named, and of a path or search that finds nothing any more. `Retain` (default): the Secret stays as it is. `Delete`: it is deleted once all sources are gone. `DropKeys`: the keys of what is gone are taken out.
    #[serde(default, skip_serializing_if = "is_default")]
    pub deletion_policy: DeletionPolicy,

    /// Makes the Secret's keys, labels and annotations out of templates (minijinja).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Box<Template>>,
}

/// Whose the Secret is.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CreationPolicy {
    /// The resource's alone.
    #[default]
    Owner,
    /// The resource's alone, but it outlives it.
    Orphan,
    /// Shared: only the mirrored keys are the resource's.
    Merge,
}

/// What happens when a source is gone for certain.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DeletionPolicy {
    /// Nothing.
    #[default]
    Retain,
    /// The Secret is deleted once all sources are gone.
    Delete,
    /// Its keys are taken out.
    DropKeys,
}

/// Templates: every key that was read is a variable of its name (and a member of `keys`, for names that are no identifiers: `keys["tls.crt"]`).
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.data) || has(self.from) || has(self.metadata)").message("write at least one of data, from and metadata"))]
pub struct Template {
    /// The templates of keys, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("minProperties" = 1, "maxProperties" = 100, "additionalProperties" = {"type": "string", "maxLength": 65536}))]
    #[x_kube(validation = Rule::new("self.all(k, k.matches('^[-._a-zA-Z0-9]{1,253}$') && k != '.' && !k.startsWith('..'))").message(KEY_MESSAGE))]
    pub data: BTreeMap<String, String>,

    /// Templates of keys that are kept in ConfigMaps of the same namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub from: Vec<TemplateFrom>,

    /// Templates of labels and annotations. They see names and provenance, never values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMetadata>,

    /// `Replace` (default): the Secret holds the templated keys only. `Merge`: also all keys that were read; a template of the same key takes its place.
    #[serde(default, skip_serializing_if = "is_default")]
    pub merge_policy: MergePolicy,
}

/// A template that is kept elsewhere.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TemplateFrom {
    /// Where in a ConfigMap.
    pub config_map: ConfigMapKey,

    /// The key of the Secret. Left out: the ConfigMap's key.
    #[serde(rename = "as", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = key_rule())]
    pub as_: Option<String>,
}

/// A key of a ConfigMap of the same namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKey {
    /// The ConfigMap's name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = object_name_rule("ConfigMap"))]
    pub name: String,
    /// The key there.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// Templates of labels and annotations.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TemplateMetadata {
    /// Templates of labels, by label.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 4096}))]
    #[x_kube(validation = own_names_rule("labels"))]
    pub labels: BTreeMap<String, String>,
    /// Templates of annotations, by annotation.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 4096}))]
    #[x_kube(
        validation = own_names_rule("annotations"),
        validation = minting_rule()
    )]
    pub annotations: BTreeMap<String, String>,
}

/// What becomes of the keys that were read when there are templates.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MergePolicy {
    /// Only templated keys are mirrored.
    #[default]
    Replace,
    /// They are mirrored, too.
    Merge,
}

/// A workload whose pods are restarted when the data changed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct RolloutTarget {
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = object_name_rule("workload"))]
    pub name: String,
}

/// The kinds of workloads that can be restarted.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WorkloadKind {
    /// apps/v1 Deployment.
    Deployment,
    /// apps/v1 StatefulSet.
    StatefulSet,
    /// apps/v1 DaemonSet.
    DaemonSet,
}
