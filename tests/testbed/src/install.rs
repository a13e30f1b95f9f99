//! What a cluster needs before the controller can run in it. A client and the project's own `crds/` and chart enter; kinds that are served,
//! and an account with the chart's rights, leave. Nothing is added to what users install.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::{ControlPlane, chart};

/// Where the controller's account lives, as in the documents.
pub const SYSTEM: &str = "robotosecret-system";

/// What the API server takes to serve a new kind, on a machine that is busy.
const SERVED_WITHIN: Duration = Duration::from_secs(30);

/// The project's folder, in which `crds/` and `charts/` are.
pub fn root() -> Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().context("the project's folder")
}

/// Applies any object as `kubectl apply --server-side --force-conflicts` does.
pub async fn apply(client: &Client, object: &Value) -> kube::Result<DynamicObject> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (group, version) = match text("/apiVersion").split_once('/') {
        Some((group, version)) => (group.to_owned(), version.to_owned()),
        None => (String::new(), text("/apiVersion")),
    };
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(&group, &version, &text("/kind")));
    let api: Api<DynamicObject> = match text("/metadata/namespace").as_str() {
        "" => Api::all_with(client.clone(), &resource),
        namespace => Api::namespaced_with(client.clone(), namespace, &resource),
    };
    api.patch(&text("/metadata/name"), &PatchParams::apply("user").force(), &Patch::Apply(object)).await
}

/// Makes a namespace.
pub async fn namespace(client: &Client, name: &str) -> Result<()> {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    apply(client, &object).await.with_context(|| format!("making the namespace {name}"))?;
    Ok(())
}

/// Applies every file of a folder of CRDs and waits until the API server serves the kinds.
pub async fn crds(client: &Client, folder: &Path) -> Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let file = entry?.path();
        for crd in chart::documents(&std::fs::read_to_string(&file)?)? {
            apply(client, &crd).await.with_context(|| format!("applying {}", file.display()))?;
            let name = crd["metadata"]["name"].as_str().unwrap_or_default();
            let end = Instant::now() + SERVED_WITHIN;
            while !established(&api.get(name).await?) {
                if Instant::now() > end {
                    bail!("{name} isn't served within {SERVED_WITHIN:?}");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    Ok(())
}

fn established(crd: &CustomResourceDefinition) -> bool {
    let conditions = crd.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|conditions| conditions.iter().any(|condition| condition.type_ == "Established" && condition.status == "True"))
}

/// Makes the namespace [`SYSTEM`] and in it the controller's account with the roles of `chart` as it comes. Returns its kubeconfig.
pub async fn account(plane: &ControlPlane, client: &Client, chart: &Path) -> Result<PathBuf> {
    namespace(client, SYSTEM).await?;
    let rbac = chart::rbac(chart, SYSTEM, &[])?;
    for object in &rbac.objects {
        apply(client, object).await.with_context(|| format!("applying {} {}", object["kind"], object["metadata"]["name"]))?;
    }
    plane.kubeconfig_for(SYSTEM, &rbac.service_account)
}
