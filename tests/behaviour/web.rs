//! What the tests of the stores that are reached over HTTP have in common: a `RobotoProvider` of the scene's namespace, the Secret that it is let in by, and
//! a controller that may send there.

use serde_json::{Value, json};

use crate::support::{Scene, TTL, apply_object};

/// Makes or changes a `RobotoProvider` of the scene's namespace.
pub async fn provide(s: &Scene, name: &str, spec: &Value) {
    let provider =
        json!({"apiVersion": "robotosecret.dev/v1alpha1", "kind": "RobotoProvider", "metadata": {"name": name, "namespace": s.namespace}, "spec": spec});
    apply_object(&s.client, &provider).await.unwrap();
}

/// Makes or changes a Secret of the scene's namespace with this under the key `key`, and a line end behind it as people leave one.
pub async fn put_key(s: &Scene, name: &str, value: &str) {
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": s.namespace}, "stringData": {"key": format!("{value}\n")}});
    apply_object(&s.client, &secret).await.unwrap();
}

/// Starts the controller with the chart's rights under these values; it may send to these addresses.
pub async fn start(s: &mut Scene, origins: &[String], values: &[&str]) {
    let kubeconfig = s.account(values, |_| true).await;
    let endpoints = format!("--allowed-endpoints={}", origins.join(","));
    s.start_controller_as(&kubeconfig, &[&endpoints, "--token-audiences=vault"]);
    s.controller_ready().await;
}

/// The spec of a resource that reads through a `RobotoProvider`.
#[allow(clippy::needless_pass_by_value)] // It is written where it is used.
pub fn spec(provider: &str, data: Value) -> String {
    json!({"provider": {"kind": "RobotoProvider", "name": provider}, "ttl": TTL, "data": data}).to_string()
}

/// As [`spec`], of which what is gone is deleted.
#[allow(clippy::needless_pass_by_value)] // It is written where it is used.
pub fn fleeting(provider: &str, data: Value) -> String {
    let mut spec: Value = serde_json::from_str(&spec(provider, data)).unwrap();
    spec["target"] = json!({"deletionPolicy": "Delete"});
    spec.to_string()
}

pub fn entry(key: &str, uri: &str) -> Value {
    json!({"key": key, "uri": uri})
}

/// As whom a `RobotoProvider` reads, as its status says.
pub async fn identity(s: &Scene, provider: &str) -> Option<String> {
    let api = kube::Api::<robotosecret::api::RobotoProvider>::namespaced(s.client.clone(), &s.namespace);
    api.get(provider).await.unwrap().status?.identity
}
