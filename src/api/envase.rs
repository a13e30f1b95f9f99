//! Where and as whom a provider reads Envase Vault: over HTTP, or by invoking its Lambda function.
//!
//! The doc comments below are what `kubectl explain clusterrobotoprovider.spec.envase` prints. Pure types; what they hold is named, never a secret.

#![allow(clippy::doc_markdown)] // `kubectl explain` prints them, where backticks are noise.

use kube::{KubeSchema, core::Rule};
use serde::{Deserialize, Serialize};

use super::{
    aws::AwsSpec,
    http::{FromSecret, ReadLimits, SecretKey, certificates_rule, url_rule},
    is_default,
};

/// One of Envase's environments. Where each is: <https://coredocs.envaseconnect.cloud/vault>; the production's addresses follow from the others'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// Development and test.
    Development,
    /// Staging and sandbox.
    Staging,
    /// Production.
    Production,
}

impl Environment {
    /// The one of this name, in whatever case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "dev" | "development" | "test" => Some(Self::Development),
            "stg" | "staging" | "sandbox" => Some(Self::Staging),
            "prod" | "production" => Some(Self::Production),
            _ => None,
        }
    }

    /// What the names of its functions, and its host's name, begin with.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Development => "vault-dev",
            Self::Staging => "vault-stg",
            Self::Production => "vault",
        }
    }

    /// The address of its Vault.
    #[must_use]
    pub fn base_url(self) -> String {
        format!("https://{}.envaseconnect.cloud", self.prefix())
    }

    /// Where its clients get their tokens.
    #[must_use]
    pub const fn token_url(self) -> &'static str {
        match self {
            Self::Development => "https://envase-dev.auth.us-east-1.amazoncognito.com/oauth2/token",
            Self::Staging => "https://envase-stg.auth.us-east-1.amazoncognito.com/oauth2/token",
            Self::Production => "https://envase.auth.us-east-1.amazoncognito.com/oauth2/token",
        }
    }
}

/// Envase Vault: standard secrets and those of organisations, over HTTP or by a Lambda function.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.http) != has(self.lambda)").message("write exactly one of http and lambda"),
    validation = Rule::new("has(self.environment) || (has(self.http) && has(self.http.baseUrl)) || (has(self.lambda) && has(self.lambda.function))").message("write environment, or else http.baseUrl or lambda.function"),
    validation = Rule::new("has(self.environment) || !has(self.http) || !has(self.http.auth.oauth) || has(self.http.auth.oauth.tokenUrl)").message("without environment, write http.auth.oauth.tokenUrl")
)]
pub struct EnvaseSpec {
    /// The environment, in whatever case: `dev`, `development` or `test`; `stg`, `staging` or `sandbox`; `prod` or `production`. It says where the store, its tokens and its functions are, as far as the fields below don't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new("self.lowerAscii() in ['dev', 'development', 'test', 'stg', 'staging', 'sandbox', 'prod', 'production']").message("dev, development or test; stg, staging or sandbox; prod or production"))]
    pub environment: Option<String>,

    /// Over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<EnvaseHttp>,

    /// By a Lambda function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lambda: Option<EnvaseLambda>,

    /// What the body of a 404 holds where the store itself says that it has no such secret, such as `SECRET_NOT_FOUND`. Left out: nothing counts as gone, since a gateway that knows no such way answers 404, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub not_found: Option<String>,

    /// How the members of a secret are called, where they are called otherwise.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fields: EnvaseFields,

    /// How many calls a second are made at most; fewer while the store asks to slow down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ReadLimits>,
}

impl EnvaseSpec {
    /// Whether both read the same place as the same identity: a client made for one serves the other.
    #[must_use]
    pub fn same_place(&self, other: &Self) -> bool {
        // Spelled out, so that a new field has to be sorted.
        let Self { environment, http, lambda, not_found, fields, limits: _ } = self;
        let same_lambda = match (lambda, &other.lambda) {
            (Some(one), Some(other)) => one.same_place(other),
            (None, None) => true,
            _ => false,
        };
        same_lambda && (environment, http, not_found, fields) == (&other.environment, &other.http, &other.not_found, &other.fields)
    }

    /// The addresses over HTTP that are written, each with its field.
    #[must_use]
    pub fn written(&self) -> Vec<(&'static str, &str)> {
        let Some(http) = &self.http else { return Vec::new() };
        let token = http.auth.oauth.as_ref().and_then(|oauth| oauth.token_url.as_deref());
        [("http.baseUrl", http.base_url.as_deref()), ("http.auth.oauth.tokenUrl", token)].into_iter().filter_map(|(field, url)| Some((field, url?))).collect()
    }
}

/// Envase Vault over HTTP.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EnvaseHttp {
    /// The store's address, with a path if it has one. Default: the environment's. Of a RobotoProvider it must be among the controller's `--allowed-endpoints`, without its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = url_rule())]
    pub base_url: Option<String>,

    /// Certificates, in PEM, of those who may vouch for the servers, besides those that the system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    #[x_kube(validation = certificates_rule())]
    pub ca_bundle: Option<String>,

    /// As whom it reads.
    pub auth: EnvaseAuth,

    /// An API key that is sent besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<EnvaseApiKey>,

    /// Where secrets are below the address, where they are elsewhere.
    #[serde(default, skip_serializing_if = "is_default")]
    pub paths: EnvasePaths,
}

/// As whom Envase Vault is read: exactly one of its fields.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct EnvaseAuth {
    /// A token in a Secret of the RobotoProvider's own namespace; for a ClusterRobotoProvider, of the namespace in which the controller runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer: Option<FromSecret>,
    /// A client's id and secret, for which a token is given (OAuth client credentials).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth: Option<EnvaseOauth>,
}

impl EnvaseAuth {
    /// The Secret that it needs.
    #[must_use]
    pub fn secret(&self) -> Option<&SecretKey> {
        let bearer = self.bearer.as_ref().map(|bearer| &bearer.secret_ref);
        bearer.or_else(|| self.oauth.as_ref().map(|oauth| &oauth.client_secret_ref))
    }
}

/// A client of the environment.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EnvaseOauth {
    /// The client's id.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("!self.contains(':')").message("a client's id has no colon"))]
    pub client_id: String,
    /// The client's secret, in a Secret of the RobotoProvider's own namespace; for a ClusterRobotoProvider, of the namespace in which the controller runs. It is watched: another secret in it is used at once.
    pub client_secret_ref: SecretKey,
    /// The scopes that are asked for, with spaces between them. Left out: those that the client has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub scope: Option<String>,
    /// Where tokens are given. Default: the environment's. Of a RobotoProvider it must be among the controller's `--allowed-endpoints`, without its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = url_rule())]
    pub token_url: Option<String>,
}

/// An API key.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EnvaseApiKey {
    /// The Secret with the key, in the namespaces as for a token.
    pub secret_ref: SecretKey,
    /// The header that it is sent in. Default `x-api-key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9-]+$') && !(self.lowerAscii() in ['authorization', 'host', 'content-length', 'transfer-encoding', 'connection'])").message("a header of letters, digits and -, and none that HTTP itself needs"))]
    pub header: Option<String>,
}

/// Where secrets are below the address. `{key}` and `{organization}` stand for what a reference names, each as one segment.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EnvasePaths {
    /// One standard secret. Default `secrets/{key}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = path_rule(), validation = Rule::new("self.contains('{key}')").message("a path with {key}"))]
    pub secret: Option<String>,
    /// One secret of an organisation. Default `organizations/{organization}/secrets/{key}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = path_rule(), validation = Rule::new("self.contains('{key}') && self.contains('{organization}')").message("a path with {key} and {organization}"))]
    pub organization_secret: Option<String>,
    /// All standard secrets, where new ones are made. Default `secrets`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = path_rule())]
    pub secrets: Option<String>,
    /// All secrets of an organisation. Default `organizations/{organization}/secrets`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = path_rule(), validation = Rule::new("self.contains('{organization}')").message("a path with {organization}"))]
    pub organization_secrets: Option<String>,
}

fn path_rule() -> Rule {
    Rule::new("self.matches('^[A-Za-z0-9_.~{}-]+(/[A-Za-z0-9_.~{}-]+)*$') && !self.contains('..')")
        .message("a path such as secrets/{key}, without slashes at its ends, query and fragment")
}

impl EnvasePaths {
    /// Where one secret is, with its places.
    #[must_use]
    pub fn item(&self, of_organization: bool) -> &str {
        if of_organization {
            self.organization_secret.as_deref().unwrap_or("organizations/{organization}/secrets/{key}")
        } else {
            self.secret.as_deref().unwrap_or("secrets/{key}")
        }
    }

    /// Where new ones are made, with its places.
    #[must_use]
    pub fn collection(&self, of_organization: bool) -> &str {
        if of_organization {
            self.organization_secrets.as_deref().unwrap_or("organizations/{organization}/secrets")
        } else {
            self.secrets.as_deref().unwrap_or("secrets")
        }
    }
}

/// How the members of a secret are called.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EnvaseFields {
    /// Its key. Default `key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub key: Option<String>,
    /// What it holds. Default `secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub secret: Option<String>,
    /// What it is for. Default `description`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub description: Option<String>,
    /// Where in an answer the secret is, as a JSON pointer such as `/data`. Left out: it is the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("self == '' || self.startsWith('/')").message("a JSON pointer such as /data"))]
    pub pointer: Option<String>,
}

impl EnvaseFields {
    /// What its key is called.
    #[must_use]
    pub fn key(&self) -> &str {
        self.key.as_deref().unwrap_or("key")
    }

    /// What its content is called.
    #[must_use]
    pub fn secret(&self) -> &str {
        self.secret.as_deref().unwrap_or("secret")
    }

    /// What its description is called.
    #[must_use]
    pub fn description(&self) -> &str {
        self.description.as_deref().unwrap_or("description")
    }

    /// Where it is in an answer.
    #[must_use]
    pub fn pointer(&self) -> &str {
        self.pointer.as_deref().unwrap_or_default()
    }
}

/// Envase Vault by a Lambda function.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EnvaseLambda {
    /// Where the function is, and whose identity invokes it.
    pub aws: AwsSpec,
    /// The function's name or ARN. Default: `<environment's prefix>-get-secret`, such as `vault-dev-get-secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 170))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_:-]+$')").message("the name or ARN of a function"))]
    pub function: Option<String>,
    /// What it is invoked with: a JSON object in whose texts `${key}` and `${organization}` stand for what a reference names; a member that names an organisation is left out where there is none. Default `{"key": "${key}", "organization": "${organization}"}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 4096))]
    #[x_kube(validation = Rule::new("self.trim().startsWith('{') && self.trim().endsWith('}') && self.contains('${key}')").message("a JSON object in which ${key} stands"))]
    pub payload: Option<String>,
}

impl EnvaseLambda {
    /// Whether both invoke the same function as the same identity.
    #[must_use]
    pub fn same_place(&self, other: &Self) -> bool {
        self.aws.same_place(&other.aws) && (&self.function, &self.payload) == (&other.function, &other.payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_goes_by_several_names() {
        let url = |name: &str| Environment::named(name).map(Environment::base_url);
        for name in ["dev", "DEV", "Development", "test"] {
            assert_eq!(url(name).as_deref(), Some("https://vault-dev.envaseconnect.cloud"), "{name}");
        }
        assert_eq!(url("Sandbox").as_deref(), Some("https://vault-stg.envaseconnect.cloud"));
        assert_eq!(url("PROD").as_deref(), Some("https://vault.envaseconnect.cloud"));
        assert_eq!((url("qa"), url("")), (None, None));
        assert_eq!(Environment::named("DEV").map(Environment::prefix), Some("vault-dev"));
    }
}
