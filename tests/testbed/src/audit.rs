//! Who wrote what: the API server's own record of the writes that `ServiceAccounts` make to Secrets and to this project's kinds.
//! A policy for the API server leaves, its log enters; no value is in either. Tokens are told apart, also those of one account.

use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// How the API server names a token in its log.
const CREDENTIAL: &str = "/user/extra/authentication.kubernetes.io~1credential-id/0";

/// One write that was asked for, whatever became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The token that it was asked with; see [`credential`].
    pub credential: String,
    /// `create`, `update`, `patch` or `delete`.
    pub verb: String,
    /// The resource, with its subresource: `secrets`, `robotosecrets/status`.
    pub resource: String,
    /// The object's name; empty where the API server was to choose it.
    pub name: String,
}

/// What is recorded: metadata of requests, never their bodies.
pub(crate) fn policy() -> Value {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {
                "level": "Metadata",
                "verbs": ["create", "update", "patch", "delete"],
                "userGroups": ["system:serviceaccounts"],
                "resources": [{"group": "", "resources": ["secrets"]}, {"group": "robotosecret.dev", "resources": ["*"]}],
            },
            {"level": "None"},
        ],
    })
}

/// The writes in a log, in the order in which they ended.
pub(crate) fn writes(log: &Path) -> Result<Vec<Write>> {
    let text = std::fs::read_to_string(log).with_context(|| format!("reading {}", log.display()))?;
    text.lines().map(|line| Ok(write(&serde_json::from_str(line)?))).collect()
}

fn write(entry: &Value) -> Write {
    let text = |pointer: &str| entry.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let resource = [text("/objectRef/resource"), text("/objectRef/subresource")].join("/");
    Write { credential: text(CREDENTIAL), verb: text("/verb"), resource: resource.trim_end_matches('/').to_owned(), name: text("/objectRef/name") }
}

/// How writes with the token of this kubeconfig are marked.
pub fn credential(kubeconfig: &Path) -> Result<String> {
    let config: Value = serde_json::from_slice(&std::fs::read(kubeconfig)?)?;
    let token = config.pointer("/users/0/user/token").and_then(Value::as_str).context("the kubeconfig has no token")?;
    let claims = token.split('.').nth(1).context("the token is no JWT")?;
    let claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims)?)?;
    Ok(format!("JTI={}", claims["jti"].as_str().context("the token has no id")?))
}
