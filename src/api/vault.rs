//! Where and as whom a provider reads Vault or OpenBao.
//!
//! The doc comments below are what `kubectl explain clusterrobotoprovider.spec.vault` prints. Pure types; what they hold is named, never a secret.

#![allow(clippy::doc_markdown)] // `kubectl explain` prints them, where backticks are noise.

use kube::{KubeSchema, core::Rule};
use serde::{Deserialize, Serialize};

use super::{
    http::{FromSecret, ReadLimits, SecretKey, certificates_rule, name_rule},
    is_default,
};

/// Vault or OpenBao: its key-value stores.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct VaultSpec {
    /// The address, such as `https://vault.example.com:8200`. Of a RobotoProvider it must be among the controller's `--allowed-endpoints`.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("isURL(self) && url(self).getScheme() in ['https', 'http'] && url(self).getHost() != '' && url(self).getEscapedPath() in ['', '/'] && url(self).getQuery().size() == 0 && !self.contains('@')").message("an address such as https://vault.example.com:8200, without path and user"))]
    pub address: String,

    /// The namespace in Vault Enterprise or OpenBao, such as `teams/shop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*/?$')").message("a namespace such as teams/shop"))]
    pub namespace: Option<String>,

    /// Certificates, in PEM, of those who may vouch for the server, besides those that the system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    #[x_kube(validation = certificates_rule())]
    pub ca_bundle: Option<String>,

    /// Version 2 (default) of the key-value store, whose values have versions, or 1.
    #[serde(default, skip_serializing_if = "is_default")]
    pub key_value: KeyValue,

    /// As whom it reads.
    pub auth: VaultAuth,

    /// How many calls a second are made at most; fewer while Vault asks to slow down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ReadLimits>,
}

impl VaultSpec {
    /// Whether both read the same place as the same identity: a client made for one serves the other.
    #[must_use]
    pub fn same_place(&self, other: &Self) -> bool {
        // Spelled out, so that a new field has to be sorted.
        let Self { address, namespace, ca_bundle, key_value, auth, limits: _ } = self;
        (address, namespace, ca_bundle, key_value, auth) == (&other.address, &other.namespace, &other.ca_bundle, &other.key_value, &other.auth)
    }
}

/// The version of a key-value store.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyValue {
    /// Without versions.
    #[serde(rename = "v1")]
    V1,
    /// With versions.
    #[default]
    #[serde(rename = "v2")]
    V2,
}

/// As whom Vault is read: exactly one of its fields.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct VaultAuth {
    /// A token in a Secret of the RobotoProvider's own namespace; for a ClusterRobotoProvider, of the namespace in which the controller runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<FromSecret>,
    /// A ServiceAccount that opted in, whose token Vault takes for a role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<VaultKubernetes>,
    /// A role and its secret id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_role: Option<VaultAppRole>,
}

impl VaultAuth {
    /// The Secret that it needs.
    #[must_use]
    pub fn secret(&self) -> Option<&SecretKey> {
        let token = self.token.as_ref().map(|token| &token.secret_ref);
        token.or_else(|| self.app_role.as_ref().map(|role| &role.secret_id_ref))
    }
}

/// A ServiceAccount that Vault takes for a role.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct VaultKubernetes {
    /// Where the method is mounted. Default `kubernetes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = mount_rule())]
    pub mount: Option<String>,
    /// The role in Vault.
    #[schemars(length(min = 1, max = 253))]
    pub role: String,
    /// The ServiceAccount, of the RobotoProvider's own namespace; for a ClusterRobotoProvider the one of this name in the namespace of each resource. It opts in with the annotation `robotosecret.dev/allow-token: <provider>`.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = name_rule("ServiceAccount"))]
    pub service_account: String,
    /// Whom the token is for; default `vault`. Each must be among the controller's `--token-audiences`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 253)))]
    pub audiences: Vec<String>,
}

/// Whom a token for Vault is for, where the provider doesn't say.
pub const DEFAULT_AUDIENCE: &str = "vault";

/// A role and its secret id.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct VaultAppRole {
    /// Where the method is mounted. Default `approle`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = mount_rule())]
    pub mount: Option<String>,
    /// The role's id.
    #[schemars(length(min = 1, max = 253))]
    pub role_id: String,
    /// The Secret with the secret id, in the namespaces as for a token.
    pub secret_id_ref: SecretKey,
}

fn mount_rule() -> Rule {
    Rule::new("self.matches('^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$')").message("a mount such as kubernetes or teams/kubernetes")
}
