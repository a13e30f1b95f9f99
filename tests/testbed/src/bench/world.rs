//! What a scenario runs in: an API server, an emulated AWS and an installed controller, all of its own, so that no scenario sees another's
//! leftovers. The controller's binary and a list of items enter; resources, a started controller and the verdict on the Secrets leave. Making
//! and checking happen outside the measured time.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, CustomResource};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use testbed::{ControlPlane, Controller, Emulator, http, install};

/// As many requests at once as the controller has.
pub const CONCURRENCY: usize = 32;

/// What a call to the store takes.
pub const LATENCY: Duration = Duration::from_millis(15);

/// In which everything is rechecked once.
pub const INTERVAL: Duration = Duration::from_secs(60);

/// [`INTERVAL`] as resources have it.
const TTL: &str = "60s";

/// The one key of every Secret.
pub const KEY: &str = "password";

/// The marks of our Secrets, which the watches select by.
pub const MANAGED: &str = "robotosecret.dev/managed=true";

const PROVIDER: &str = "bench";
const NAMESPACES: usize = 10;
const READY_WITHIN: Duration = Duration::from_mins(1);

/// As much of the kind as the bench looks at: what is left out costs the bench nothing to read.
#[derive(CustomResource, Deserialize, Serialize, Clone, Debug)]
#[kube(group = "robotosecret.dev", version = "v1alpha1", kind = "RobotoSecret", namespaced, status = "Status", schema = "disabled")]
pub struct Nothing {}

/// What the controller says about a resource.
#[derive(Deserialize, Serialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    observed_generation: Option<i64>,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Deserialize, Serialize, Clone, Debug)]
struct Condition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
}

impl RobotoSecret {
    /// Whether the controller says that the Secret holds what the spec, of this generation at least, asks for.
    pub fn is_ready(&self, generation: i64) -> bool {
        let Some(status) = &self.status else { return false };
        status.observed_generation.is_some_and(|observed| observed >= generation && Some(observed) == self.metadata.generation)
            && status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    }
}

/// One resource, and what its Secret, of the same name, has to hold under [`KEY`].
#[derive(Clone, Debug)]
pub struct Item {
    pub namespace: String,
    pub name: String,
    /// The reference.
    pub uri: String,
    pub value: String,
    /// The ClusterRobotoProvider that it reads through.
    pub provider: String,
}

impl Item {
    /// The `number`th resource of a scenario; they are spread over ten namespaces.
    pub fn new(number: usize, uri: String, value: String) -> Self {
        Self { namespace: namespace(number), name: format!("item-{number}"), uri, value, provider: PROVIDER.to_owned() }
    }

    /// The resource, rechecked once an [`INTERVAL`].
    pub fn resource(&self) -> Value {
        json!({
            "apiVersion": "robotosecret.dev/v1alpha1",
            "kind": "RobotoSecret",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": {"provider": {"kind": "ClusterRobotoProvider", "name": self.provider}, "ttl": TTL, "data": [{"key": KEY, "uri": self.uri}]},
        })
    }
}

/// The namespace of the `number`th item.
pub fn namespace(number: usize) -> String {
    format!("bench-{}", number % NAMESPACES)
}

/// Everything that a scenario needs; ends on drop.
pub struct World {
    pub client: Client,
    pub emulator: Emulator,
    /// Held for its end.
    _plane: ControlPlane,
    kubeconfig: PathBuf,
    binary: PathBuf,
    logs: PathBuf,
}

impl World {
    /// Brings everything up but the controller. The emulated AWS is empty and takes [`LATENCY`] a call.
    pub async fn start(binary: &Path, logs: &Path) -> Result<Self> {
        let root = install::root()?;
        let plane = ControlPlane::start(logs)?;
        let emulator = Emulator::start()?;
        emulator.delay(LATENCY, Duration::ZERO);
        // Only the counters are used, and the list grows with every call.
        emulator.list_calls(false);
        let client = plane.client().await?;
        install::crds(&client, &root.join("crds")).await?;
        let kubeconfig = install::account(&plane, &client, &root.join("charts/robotosecret")).await?;
        for number in 0..NAMESPACES {
            install::namespace(&client, &namespace(number)).await?;
        }
        let world = Self { client, emulator, _plane: plane, kubeconfig, binary: binary.to_owned(), logs: logs.to_owned() };
        world.provide(PROVIDER, &[]).await?;
        Ok(world)
    }

    /// Makes a ClusterRobotoProvider for everybody, which reads as the last of these roles.
    pub async fn provide(&self, name: &str, roles: &[String]) -> Result<()> {
        let (url, roles) = (self.emulator.url(), roles.iter().map(|arn| json!({"arn": arn})).collect::<Vec<_>>());
        let provider = json!({
            "apiVersion": "robotosecret.dev/v1alpha1",
            "kind": "ClusterRobotoProvider",
            "metadata": {"name": name},
            "spec": {
                "aws": {
                    "region": testbed::aws::REGION, "endpoints": {"secretsManager": url, "ssm": url, "sts": url},
                    "identity": {"ambient": {}}, "assumeRoles": roles,
                },
                "allow": [{"namespaces": {"all": true}, "references": ["*"]}],
            },
        });
        install::apply(&self.client, &provider).await.map(drop).with_context(|| format!("making the provider {name}"))
    }

    /// Starts the controller with its default settings.
    pub fn start_controller(&self) -> Result<Controller> {
        Controller::start(&self.binary, &self.kubeconfig, &[], &self.logs)
    }

    /// Makes RobotoSecrets, many at once.
    pub async fn create(&self, resources: impl IntoIterator<Item = Value>) -> Result<()> {
        let creations = resources.into_iter().map(|resource| async move {
            let namespace = resource["metadata"]["namespace"].as_str().unwrap_or_default();
            let api: Api<RobotoSecret> = Api::namespaced(self.client.clone(), namespace);
            // The typed API would send no spec, since its type has none.
            let url = api.resource_url();
            let request = kube::core::Request::new(url).create(&PostParams::default(), serde_json::to_vec(&resource)?)?;
            self.client.request::<RobotoSecret>(request).await.with_context(|| format!("making {}", resource["metadata"]["name"]))?;
            Ok(())
        });
        stream::iter(creations).buffer_unordered(CONCURRENCY).try_collect().await
    }

    /// Compares the Secrets of all namespaces with what they have to hold; an error names the first that is missing or wrong. There
    /// may be others.
    pub async fn check(&self, items: &[Item]) -> Result<()> {
        let api: Api<Secret> = Api::all(self.client.clone());
        let mut found = HashMap::new();
        let mut parameters = ListParams::default().labels(MANAGED).limit(500);
        loop {
            let page = api.list(&parameters).await.context("listing the Secrets")?;
            for mut secret in page.items {
                let value = secret.data.as_mut().and_then(|data| data.remove(KEY)).map(|bytes| bytes.0);
                found.insert((secret.metadata.namespace.unwrap_or_default(), secret.metadata.name.unwrap_or_default()), value);
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters.continue_token = Some(token),
                None => break,
            }
        }
        let wrong = |item: &&Item| found.get(&(item.namespace.clone(), item.name.clone())).and_then(Option::as_deref) != Some(item.value.as_bytes());
        let wrong: Vec<&Item> = items.iter().filter(wrong).collect();
        match wrong.first() {
            None => Ok(()),
            Some(first) => bail!("{} of {} Secrets are missing or hold a wrong value, among them {}/{}", wrong.len(), items.len(), first.namespace, first.name),
        }
    }

    /// Whether one Secret holds what it has to.
    pub async fn holds(&self, item: &Item) -> Result<bool> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &item.namespace);
        let secret = api.get_opt(&item.name).await?;
        Ok(secret.and_then(|secret| secret.data?.remove(KEY)).is_some_and(|value| value.0 == item.value.as_bytes()))
    }
}

/// Asks `/readyz` until it says yes; returns when that was. Doesn't block the runtime.
pub async fn ready(controller: &Controller) -> Result<Instant> {
    let (port, end) = (controller.port, Instant::now() + READY_WITHIN);
    let asked = tokio::task::spawn_blocking(move || {
        while Instant::now() < end {
            if http::get(port, "/readyz").is_ok_and(|(status, _)| status == 200) {
                return Some(Instant::now());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    });
    asked.await?.with_context(|| format!("the controller isn't ready within {READY_WITHIN:?}; {}", controller.process.log_tail()))
}
