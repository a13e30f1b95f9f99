//! Where a provider finds the secrets of Edge's users and organisations: which Vault, and where in it.
//!
//! The doc comments below are what `kubectl explain clusterrobotoprovider.spec.edge` prints. Pure types; what they hold is named, never a secret.

#![allow(clippy::doc_markdown)] // `kubectl explain` prints them, where backticks are noise.

use kube::{KubeSchema, core::Rule};
use serde::{Deserialize, Serialize};

use super::vault::VaultSpec;

fn place_rule() -> Rule {
    Rule::new("self.matches('^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$')").message("segments of letters, digits, - and _, such as edge or apps/edge")
}

fn id_rule() -> Rule {
    Rule::new("self.matches('^[A-Za-z0-9_-]+$')").message("letters, digits, - and _")
}

/// Edge's secrets, kept in Vault or OpenBao: a user's at `<mount>/<prefix>/users/<user>/NAME`, the organisation's at `<mount>/<prefix>/orgs/<organization>/NAME`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EdgeSpec {
    /// The Vault that keeps them.
    pub vault: VaultSpec,

    /// The mount of the key-value store. Default `secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = id_rule())]
    pub mount: Option<String>,

    /// What all paths begin with. Default `edge`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = place_rule())]
    pub prefix: Option<String>,

    /// The user whose secrets `edge://user/NAME` are. Left out: the entity in Vault of the identity that reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = id_rule())]
    pub user: Option<String>,

    /// The organisation whose secrets `edge://org/NAME` are. Left out: there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = id_rule())]
    pub organization: Option<String>,
}

impl EdgeSpec {
    /// Whether both read the same place as the same identity: a client made for one serves the other.
    #[must_use]
    pub fn same_place(&self, other: &Self) -> bool {
        // Spelled out, so that a new field has to be sorted.
        let Self { vault, mount, prefix, user, organization } = self;
        vault.same_place(&other.vault) && (mount, prefix, user, organization) == (&other.mount, &other.prefix, &other.user, &other.organization)
    }

    /// The mount of the key-value store.
    #[must_use]
    pub fn mount(&self) -> &str {
        self.mount.as_deref().unwrap_or("secret")
    }

    /// What all paths begin with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.prefix.as_deref().unwrap_or("edge")
    }
}
