//! The rights that the chart gives to the controller. A chart folder enters, its `ServiceAccount`, RBAC objects and admission policies leave, ready for
//! `kubectl apply`. They come from the chart alone, so that the tests and the demo run with what users install; nothing is added here.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::binaries::{self, Tool};

const KINDS: [&str; 7] =
    ["ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"];

/// What [`rbac`] takes out of a chart.
#[derive(Debug, Clone)]
pub struct Rbac {
    /// The objects, each with its namespace where it has one. The namespace itself isn't among them.
    pub objects: Vec<Value>,
    /// The name of the controller's `ServiceAccount`; it lives in the release's namespace.
    pub service_account: String,
}

impl Rbac {
    /// The objects as one `v1/List`, which `kubectl apply -f -` takes.
    #[must_use]
    pub fn list(&self) -> Value {
        json!({"apiVersion": "v1", "kind": "List", "items": self.objects})
    }
}

/// Renders `chart` with `helm template` as release `robotosecret` in `namespace`; `values` are `--set` expressions such as
/// `rbac.scope=cluster`. Builds helm if it isn't there; blocks the thread.
pub fn rbac(chart: &Path, namespace: &str, values: &[&str]) -> Result<Rbac> {
    let mut command = Command::new(binaries::find(Tool::Helm)?);
    command.args(["template", "robotosecret"]).arg(chart).args(["--namespace", namespace]);
    for value in values {
        command.args(["--set", value]);
    }
    let output = command.output().context("running helm")?;
    if !output.status.success() {
        bail!("helm can't render {}: {}", chart.display(), String::from_utf8_lossy(&output.stderr));
    }
    let mut objects = documents(&String::from_utf8_lossy(&output.stdout))?;
    objects.retain(|object| KINDS.iter().any(|kind| object["kind"] == *kind));
    let service_account = objects
        .iter()
        .find(|object| object["kind"] == "ServiceAccount")
        .and_then(|object| object["metadata"]["name"].as_str())
        .map(str::to_owned)
        .context("the chart renders no ServiceAccount")?;
    Ok(Rbac { objects, service_account })
}

/// The documents of a YAML text; empty ones are left out.
pub fn documents(yaml: &str) -> Result<Vec<Value>> {
    let documents: Result<Vec<Value>, _> = serde_yaml::Deserializer::from_str(yaml).map(Value::deserialize).collect();
    Ok(documents?.into_iter().filter(|document| !document.is_null()).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_told_apart() {
        let documents = documents("# first\n---\nkind: A\n---\n# nothing\n---\nkind: B\nlist: [1]\n").unwrap();
        assert_eq!(documents, [json!({"kind": "A"}), json!({"kind": "B", "list": [1]})]);
    }

    #[test]
    fn the_chart_gives_an_account_and_binds_it() {
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/robotosecret");
        let rbac = rbac(&chart, "robotosecret-system", &[]).unwrap();
        let binding = rbac.objects.iter().find(|object| object["kind"] == "ClusterRoleBinding").unwrap();
        assert_eq!(binding["subjects"][0]["name"], rbac.service_account.as_str());
        assert_eq!(binding["subjects"][0]["namespace"], "robotosecret-system");
        assert!(rbac.objects.iter().all(|object| object["kind"] != "Deployment"));
        assert_eq!(rbac.list()["items"].as_array().unwrap().len(), rbac.objects.len());
    }
}
