//! What the stores that are reached over HTTP have in common in a provider's spec: addresses, certificates, keys of Secrets, limits.
//!
//! Pure types; what they hold is named, never a secret.

#![allow(clippy::doc_markdown)] // `kubectl explain` prints them, where backticks are noise.

use kube::{KubeSchema, core::Rule};
use serde::{Deserialize, Serialize};

/// The rule that every name of an object of the cluster obeys.
pub(super) fn name_rule(kind: &str) -> Rule {
    Rule::new("self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')").message(&*format!("the name of a {kind}, without namespace"))
}

/// The rule for certificates.
pub(super) fn certificates_rule() -> Rule {
    Rule::new("self.contains('-----BEGIN CERTIFICATE-----')").message("certificates in PEM")
}

/// The rule for an address that may have a path.
pub(super) fn url_rule() -> Rule {
    Rule::new("self.matches('^https?://[^/?#@]+(/[^?#@]*)?$')").message("an address such as https://host/path, without user, query and fragment")
}

/// What is said of a text that is no address.
pub const ADDRESS: &str = "an address is http://HOST:PORT or https://HOST:PORT";

/// Whether something could be called there: a text with scheme and host, perhaps with a path.
#[must_use]
pub fn is_address(text: &str) -> bool {
    text.parse::<http::Uri>().is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty()))
}

/// The address up to its path, which is what the controller's `--allowed-endpoints` lists.
#[must_use]
pub fn origin(url: &str) -> &str {
    let after = url.find("://").map_or(0, |scheme| scheme + 3);
    url[after..].find('/').map_or(url, |path| &url[..after + path])
}

/// A value in a Secret of the RobotoProvider's own namespace; for a ClusterRobotoProvider, of the namespace in which the controller runs.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FromSecret {
    /// The Secret. It is watched: another value in it is used at once.
    pub secret_ref: SecretKey,
}

/// A key of a Secret.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretKey {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = name_rule("Secret"))]
    pub name: String,
    /// The key.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// Calls a second. Each is a start and a ceiling.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ReadLimits {
    /// Reads and lists, and what a RobotoPush looks at and writes. Default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub reads: Option<i32>,
}

impl ReadLimits {
    /// How many reads a second there may be.
    #[must_use]
    pub fn reads(self) -> f64 {
        f64::from(self.reads.unwrap_or(100))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_no_path() {
        for (url, expected) in [
            ("https://a.example", "https://a.example"),
            ("https://a.example/", "https://a.example"),
            ("https://a.example:8200/x/y", "https://a.example:8200"),
            ("http://[::1]:1/x", "http://[::1]:1"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(origin(url), expected);
        }
    }
}
