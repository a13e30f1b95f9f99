//! Where and as whom a provider reads a Roboto platform.
//!
//! The doc comments below are what `kubectl explain clusterrobotoprovider.spec.roboto` prints. Pure types; what they hold is named, never a secret.

#![allow(clippy::doc_markdown)] // `kubectl explain` prints them, where backticks are noise.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::http::{FromSecret, ReadLimits, certificates_rule, url_rule};

/// The platform's own address.
pub const DEFAULT_ENDPOINT: &str = "https://api.roboto.ai";

/// A Roboto platform: its secrets, whose values it keeps in AWS Secrets Manager.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RobotoSpec {
    /// The platform's address. Default `https://api.roboto.ai`; of a RobotoProvider any other must be among the controller's `--allowed-endpoints`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = url_rule())]
    pub endpoint: Option<String>,

    /// The organisation of references that name none (`roboto-secret://NAME`), and the one that is searched. Left out: the API key's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_]+$')").message("an organisation has letters, digits and _"))]
    pub org_id: Option<String>,

    /// The API key (a token that begins with `robo_`), in a Secret of the RobotoProvider's own namespace; for a ClusterRobotoProvider, of the namespace in which the controller runs.
    pub api_key: FromSecret,

    /// Certificates, in PEM, of those who may vouch for the platform's server, besides those that the system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    #[x_kube(validation = certificates_rule())]
    pub ca_bundle: Option<String>,

    /// Another address of AWS Secrets Manager than AWS's own, for private endpoints and emulators. `{region}` in it stands for the region that the platform says. Of a RobotoProvider it must be among the controller's `--allowed-endpoints`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^/?#@]+/?$')").message("an address such as https://host or https://host:port, without path and credentials"))]
    pub secrets_manager_endpoint: Option<String>,

    /// How many values a second are read at most; fewer while the platform asks to slow down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ReadLimits>,
}

impl RobotoSpec {
    /// Whether both read the same place as the same identity: a client made for one serves the other.
    #[must_use]
    pub fn same_place(&self, other: &Self) -> bool {
        // Spelled out, so that a new field has to be sorted.
        let Self { endpoint, org_id, api_key, ca_bundle, secrets_manager_endpoint, limits: _ } = self;
        (endpoint, org_id, api_key, ca_bundle, secrets_manager_endpoint)
            == (&other.endpoint, &other.org_id, &other.api_key, &other.ca_bundle, &other.secrets_manager_endpoint)
    }

    /// The addresses that are written, each with its field, but the one that is used anyway.
    #[must_use]
    pub fn written(&self) -> Vec<(&'static str, &str)> {
        let all = [("endpoint", &self.endpoint), ("secretsManagerEndpoint", &self.secrets_manager_endpoint)];
        // The platform's own may be written out.
        all.into_iter().filter_map(|(field, url)| Some((field, url.as_deref().filter(|url| url.trim_end_matches('/') != DEFAULT_ENDPOINT)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_platforms_own_address_may_be_written_out() {
        let written = |endpoint: &str| RobotoSpec { endpoint: Some(endpoint.to_owned()), ..RobotoSpec::default() }.written().len();
        assert_eq!((written("https://api.roboto.ai"), written("https://api.roboto.ai/"), written("https://api.roboto.ai.example")), (0, 0, 1));
    }
}
