//! What the controller writes back: the status of a `RobotoSecret`, its conditions and their reasons.
//!
//! A status never holds a value, nor anything that could be compared with a guess of one.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Condition: the Secret holds what the spec asks for.
pub const READY: &str = "Ready";
/// Reason of a provider's `Ready`: AWS says who its identity is.
pub const IDENTIFIED: &str = "Identified";
/// Condition: the last recheck worked.
pub const FRESH: &str = "Fresh";
/// Condition (kstatus): only an edit of the spec can help.
pub const STALLED: &str = "Stalled";

/// How many keys and sources the status lists; the rest is only counted.
pub const LISTED: usize = 100;

/// Why a condition is as it is. The texts are stable: alerts and scripts may rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Ready: the Secret holds what the spec asks for.
    Mirrored,
    /// Ready of a `RobotoPush`: the store holds what the Secret holds.
    Pushed,
    /// Fresh: the store was asked and the Secret agrees.
    Verified,
    /// Nothing was tried yet.
    Pending,
    /// `suspend: true`.
    Suspended,
    /// The refresh policy asks the store no more.
    NotRechecked,
    /// No good recheck within `maxStaleness`.
    Stale,
    /// The spec can't be carried out.
    InvalidSpec,
    /// Two entries make the same key.
    KeyCollision,
    /// A template can't be rendered.
    TemplateError,
    /// There is no such provider.
    ProviderNotFound,
    /// The provider doesn't allow it.
    NotAllowed,
    /// The store has no such secret, parameter or version, or no value in it.
    SourceNotFound,
    /// The source is gone for certain, and `deletionPolicy` was carried out.
    SourceDeleted,
    /// The value has no such member, or isn't JSON.
    KeypathNotFound,
    /// The value isn't of the form that `decode` names.
    DecodeError,
    /// A member of the JSON object can't be a key of a Secret.
    InvalidKey,
    /// The store or its encryption key refuses the identity.
    AccessDenied,
    /// There are no usable credentials.
    CredentialsError,
    /// The store asks to slow down.
    Throttled,
    /// The store can't be reached or answers with an error of its own.
    ProviderUnavailable,
    /// A Secret of that name belongs to somebody else.
    TargetNotOwned,
    /// Somebody else manages a key that the resource would merge into the Secret.
    TargetConflict,
    /// The API server refuses the Secret.
    TargetRejected,
    /// The Secret was damaged by hand and can't be put right now.
    TargetDrifted,
    /// The API server forbids or fails something.
    KubernetesError,
    /// A defect of the controller.
    InternalError,
}

impl Reason {
    /// The reason as it stands in a condition or an event.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mirrored => "Mirrored",
            Self::Pushed => "Pushed",
            Self::Verified => "Verified",
            Self::Pending => "Pending",
            Self::Suspended => "Suspended",
            Self::NotRechecked => "NotRechecked",
            Self::Stale => "Stale",
            Self::InvalidSpec => "InvalidSpec",
            Self::KeyCollision => "KeyCollision",
            Self::TemplateError => "TemplateError",
            Self::ProviderNotFound => "ProviderNotFound",
            Self::NotAllowed => "NotAllowed",
            Self::SourceNotFound => "SourceNotFound",
            Self::SourceDeleted => "SourceDeleted",
            Self::KeypathNotFound => "KeypathNotFound",
            Self::DecodeError => "DecodeError",
            Self::InvalidKey => "InvalidKey",
            Self::AccessDenied => "AccessDenied",
            Self::CredentialsError => "CredentialsError",
            Self::Throttled => "Throttled",
            Self::ProviderUnavailable => "ProviderUnavailable",
            Self::TargetNotOwned => "TargetNotOwned",
            Self::TargetConflict => "TargetConflict",
            Self::TargetRejected => "TargetRejected",
            Self::TargetDrifted => "TargetDrifted",
            Self::KubernetesError => "KubernetesError",
            Self::InternalError => "InternalError",
        }
    }
}

impl Reason {
    /// Whether the store is to blame, and it goes away by itself.
    #[must_use]
    pub const fn is_passing(self) -> bool {
        matches!(self, Self::Throttled | Self::ProviderUnavailable)
    }

    /// Every reason.
    pub const ALL: [Self; 27] = [
        Self::Mirrored,
        Self::Pushed,
        Self::Verified,
        Self::Pending,
        Self::Suspended,
        Self::NotRechecked,
        Self::Stale,
        Self::InvalidSpec,
        Self::KeyCollision,
        Self::TemplateError,
        Self::ProviderNotFound,
        Self::NotAllowed,
        Self::SourceNotFound,
        Self::SourceDeleted,
        Self::KeypathNotFound,
        Self::DecodeError,
        Self::InvalidKey,
        Self::AccessDenied,
        Self::CredentialsError,
        Self::Throttled,
        Self::ProviderUnavailable,
        Self::TargetNotOwned,
        Self::TargetConflict,
        Self::TargetRejected,
        Self::TargetDrifted,
        Self::KubernetesError,
        Self::InternalError,
    ];

    /// The reason of this name, as it stands in a condition that we wrote.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What became of a `RobotoSecret`, as the controller last saw it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RobotoSecretStatus {
    /// The generation of the spec that this status speaks of; -1 before the controller saw the resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Ready: the Secret holds what the spec asks for. Fresh: the last recheck worked. Stalled: only an edit of the spec can help.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// When the store was last asked with success; written at most every five minutes while nothing changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_check_time: Option<Time>,

    /// When the content of the Secret last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_change_time: Option<Time>,

    /// The value of the annotation `robotosecret.dev/refresh` that was last carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_refresh: Option<String>,

    /// The Secret as the controller last wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetStatus>,

    /// What the keys were read from: the first 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub sources: Vec<SourceStatus>,

    /// How many distinct sources there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_count: Option<i32>,

    /// How far the restart of workloads is that the last change of the data asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
}

impl RobotoSecretStatus {
    /// The condition of this type, if it is there.
    #[must_use]
    pub fn condition(&self, type_: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == type_)
    }

    /// Whether the condition of this type is there and `True`.
    #[must_use]
    pub fn is_true(&self, type_: &str) -> bool {
        self.condition(type_).is_some_and(|condition| condition.status == "True")
    }
}

/// The Secret as the controller last wrote it: how a change by others is seen, also after a restart.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TargetStatus {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its resourceVersion after the controller's last write.
    pub resource_version: String,
    /// How many keys were mirrored.
    pub key_count: i32,
    /// The mirrored keys: the first 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub keys: Vec<String>,
    /// Tells apart the templates from ConfigMaps that it was made with; left out: it was made with none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_hash: Option<String>,
    /// The generation of the spec that it was last written or checked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
}

/// Restarts of workloads. It is written together with the change that asks for them, so that a crash in between loses none.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// Since when a restart is to be made; left out: none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_since: Option<Time>,
    /// The resourceVersion of the Secret that a restart is to be made for; left out: none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_for: Option<String>,
    /// The resourceVersion of the Secret that the last restart was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done_for: Option<String>,
}

/// One secret or parameter that keys were read from.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// The reference, without keypath.
    pub uri: String,
    /// The provider that it was read through, where it is not the resource's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The ARN that the store answered with.
    pub arn: String,
    /// The version served: the version id of a secret, the number of a parameter; empty for what has none, such as tags.
    pub version: String,
    /// When the store says that this version was made. With `arn` and `version` it tells a new value from the old one, also when a secret was deleted and made again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_time: Option<String>,
    /// The failover region that served it, while the provider's own is unavailable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub region: Option<String>,
    /// What the store knows about it besides, where it tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<SourceRecord>,
    /// When the controller first saw this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_changed_time: Option<Time>,
    /// Since when it is known to be gone; its keys were then taken out, as `deletionPolicy` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone_since: Option<Time>,
}

/// What a store knows about a secret besides its value (Roboto), as it was when the value was last read. Times are of RFC 3339.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SourceRecord {
    /// When the secret was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub created: Option<String>,
    /// When it was last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub modified: Option<String>,
    /// When its value was last used. A status is not written for this alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub last_used: Option<String>,
}
