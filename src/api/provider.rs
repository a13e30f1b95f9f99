//! The kinds `RobotoProvider` and `ClusterRobotoProvider`: whose identity reads which store, who may use it, and for what.
//!
//! The doc comments below are what `kubectl explain robotoprovider.spec` prints. Who may do what is decided in [`allow`](super::allow).

#![allow(clippy::doc_markdown)] // `kubectl explain` prints them, where backticks are noise.
#![allow(clippy::duplicated_attributes)] // Two kinds have the same columns.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema, core::Rule};
use serde::{Deserialize, Serialize};

use super::{
    allow::{AllowRule, OwnAllowRule},
    aws::AwsSpec,
    edge::EdgeSpec,
    envase::EnvaseSpec,
    reference::Store,
    roboto::RobotoSpec,
    robotosecret::{ProviderKind, ProviderRef},
    vault::VaultSpec,
};

fn one_store_rule() -> Rule {
    Rule::new("[has(self.aws), has(self.vault), has(self.edge), has(self.roboto), has(self.envase)].filter(written, written).size() == 1")
        .message("write exactly one of aws, vault, edge, roboto and envase")
}

/// What a provider reads, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// AWS.
    Aws(AwsSpec),
    /// Vault or OpenBao.
    Vault(VaultSpec),
    /// Edge's secrets, in Vault.
    Edge(EdgeSpec),
    /// A Roboto platform.
    Roboto(RobotoSpec),
    /// Envase Vault.
    Envase(Box<EnvaseSpec>),
}

impl Backend {
    /// Exactly one of what may be written.
    fn of(aws: Option<&AwsSpec>, vault: Option<&VaultSpec>, edge: Option<&EdgeSpec>, roboto: Option<&RobotoSpec>, envase: Option<&EnvaseSpec>) -> Option<Self> {
        let all = [
            aws.cloned().map(Self::Aws),
            vault.cloned().map(Self::Vault),
            edge.cloned().map(Self::Edge),
            roboto.cloned().map(Self::Roboto),
            envase.cloned().map(Box::new).map(Self::Envase),
        ];
        let mut written = all.into_iter().flatten();
        written.next().filter(|_| written.next().is_none())
    }

    /// Its field in the spec.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::Aws(_) => "aws",
            Self::Vault(_) => "vault",
            Self::Edge(_) => "edge",
            Self::Roboto(_) => "roboto",
            Self::Envase(_) => "envase",
        }
    }

    /// Whether it has this store.
    #[must_use]
    pub const fn serves(&self, store: Store) -> bool {
        match self {
            Self::Aws(_) => matches!(store, Store::SecretsManager | Store::ParameterStore),
            Self::Vault(_) => matches!(store, Store::Vault),
            Self::Edge(_) => matches!(store, Store::Edge),
            Self::Roboto(_) => matches!(store, Store::Roboto),
            Self::Envase(_) => matches!(store, Store::Envase),
        }
    }

    /// Whether both read the same place as the same identity: a client made for one serves the other.
    #[must_use]
    pub fn same_place(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Aws(one), Self::Aws(other)) => one.same_place(other),
            (Self::Vault(one), Self::Vault(other)) => one.same_place(other),
            (Self::Edge(one), Self::Edge(other)) => one.same_place(other),
            (Self::Roboto(one), Self::Roboto(other)) => one.same_place(other),
            (Self::Envase(one), Self::Envase(other)) => one.same_place(other),
            _ => false,
        }
    }

    /// The identity in AWS that it stands on, if it does.
    #[must_use]
    pub fn aws(&self) -> Option<&AwsSpec> {
        match self {
            Self::Aws(aws) => Some(aws),
            Self::Envase(envase) => envase.lambda.as_ref().map(|lambda| &lambda.aws),
            Self::Vault(_) | Self::Edge(_) | Self::Roboto(_) => None,
        }
    }

    /// The Vault that it stands on, if it does.
    #[must_use]
    pub const fn vault(&self) -> Option<&VaultSpec> {
        match self {
            Self::Vault(vault) => Some(vault),
            Self::Edge(edge) => Some(&edge.vault),
            Self::Aws(_) | Self::Roboto(_) | Self::Envase(_) => None,
        }
    }
}

/// Says whose identity reads which store, which namespaces may use it, and for which references.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "robotosecret.dev",
    version = "v1alpha1",
    kind = "ClusterRobotoProvider",
    plural = "clusterrobotoproviders",
    shortname = "crprov",
    category = "roboto",
    status = "ProviderStatus",
    derive = "PartialEq",
    doc = "Says whose identity reads which store, which namespaces may use it, and for which references.",
    printcolumn(name = "Region", type_ = "string", json_path = ".spec.aws.region"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Identity", type_ = "string", json_path = ".status.identity", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = one_store_rule())]
pub struct ClusterRobotoProviderSpec {
    /// AWS: serves `aws.sm` (Secrets Manager) and `aws.ps` (Parameter Store).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<AwsSpec>,

    /// Vault or OpenBao: serves `vault`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<VaultSpec>,

    /// Edge's secrets, kept in Vault: serves `edge`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge: Option<EdgeSpec>,

    /// A Roboto platform: serves `roboto-secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roboto: Option<RobotoSpec>,

    /// Envase Vault: serves `envase`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envase: Option<EnvaseSpec>,

    /// Who may use this provider, and for which references. Empty: nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub allow: Vec<AllowRule>,

    /// What becomes of Secrets that were mirrored under a permission that was taken back. `Retain` (default): they stay as they are, without being rechecked. `Delete`: they are deleted, or their keys taken out of a Secret that is shared.
    #[serde(default, skip_serializing_if = "OnRevoked::is_default")]
    pub on_revoked: OnRevoked,
}

/// Says whose identity reads which store for the RobotoSecrets of its own namespace.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "robotosecret.dev",
    version = "v1alpha1",
    kind = "RobotoProvider",
    plural = "robotoproviders",
    shortname = "rprov",
    category = "roboto",
    namespaced,
    status = "ProviderStatus",
    derive = "PartialEq",
    doc = "Says whose identity reads which store for the RobotoSecrets of its own namespace.",
    printcolumn(name = "Region", type_ = "string", json_path = ".spec.aws.region"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Identity", type_ = "string", json_path = ".status.identity", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = one_store_rule())]
pub struct RobotoProviderSpec {
    /// AWS: serves `aws.sm` (Secrets Manager) and `aws.ps` (Parameter Store).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<AwsSpec>,

    /// Vault or OpenBao: serves `vault`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<VaultSpec>,

    /// Edge's secrets, kept in Vault: serves `edge`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge: Option<EdgeSpec>,

    /// A Roboto platform: serves `roboto-secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roboto: Option<RobotoSpec>,

    /// Envase Vault: serves `envase`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envase: Option<EnvaseSpec>,

    /// For which references it may be used. Left out: everything that its identity may read, in its own account and region. An empty list: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub allow: Option<Vec<OwnAllowRule>>,

    /// What becomes of Secrets that were mirrored under a permission that was taken back. `Retain` (default): they stay as they are, without being rechecked. `Delete`: they are deleted, or their keys taken out of a Secret that is shared.
    #[serde(default, skip_serializing_if = "OnRevoked::is_default")]
    pub on_revoked: OnRevoked,
}

impl ClusterRobotoProviderSpec {
    /// What it reads.
    #[must_use]
    pub fn backend(&self) -> Option<Backend> {
        Backend::of(self.aws.as_ref(), self.vault.as_ref(), self.edge.as_ref(), self.roboto.as_ref(), self.envase.as_ref())
    }
}

impl RobotoProviderSpec {
    /// What it reads.
    #[must_use]
    pub fn backend(&self) -> Option<Backend> {
        Backend::of(self.aws.as_ref(), self.vault.as_ref(), self.edge.as_ref(), self.roboto.as_ref(), self.envase.as_ref())
    }

    /// Its permissions as rules.
    #[must_use]
    pub fn rules(&self) -> Vec<AllowRule> {
        let everything = || vec![OwnAllowRule { references: vec!["*".to_owned()], verbs: vec![super::allow::Verb::Read], ..OwnAllowRule::default() }];
        self.allow.clone().unwrap_or_else(everything).iter().map(OwnAllowRule::for_all).collect()
    }
}

/// What becomes of Secrets that were mirrored under a permission that was taken back.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnRevoked {
    /// They stay as they are.
    #[default]
    Retain,
    /// They are deleted.
    Delete,
}

impl OnRevoked {
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde passes a reference.
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// One provider of all: of its kind, and of its namespace if it has one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProviderId {
    /// The namespace of a RobotoProvider.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl ProviderId {
    /// The one that a resource of this namespace means.
    #[must_use]
    pub fn meant(reference: &ProviderRef, namespace: &str) -> Self {
        let own = match reference.kind {
            ProviderKind::ClusterRobotoProvider => None,
            ProviderKind::RobotoProvider => Some(namespace.to_owned()),
        };
        Self { namespace: own, name: reference.name.clone() }
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> ProviderKind {
        if self.namespace.is_some() { ProviderKind::RobotoProvider } else { ProviderKind::ClusterRobotoProvider }
    }
}

impl fmt::Display for ProviderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind().as_str(), self.name)
    }
}

/// How a provider stands, as the controller last saw it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ProviderStatus {
    /// The generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// As whom it reads, as the store tells it; left out where every namespace or resource reads as somebody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub identity: Option<String>,
    /// `Ready`: its identity works. `MassAbsence`: so many of its references vanished from the store that nothing is removed until a person confirms it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Condition of a provider: too much vanished from the store at once to be believed.
pub const MASS_ABSENCE: &str = "MassAbsence";
/// Annotation on a provider: absences that were first seen before this time (seconds since the epoch) are believed, however many.
pub const CONFIRM_ABSENCE_ANNOTATION: &str = "robotosecret.dev/confirm-absence";
