//! What the scenes stand on: a node, an emulated AWS that its pods reach, and the tools that a user has, kubectl and helm. A folder and images
//! enter, a cluster to play in leaves, and when a scene fails, what there is to know about why. It prints what it does and how long that
//! took; it must never print a value.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use testbed::binaries::{self, Tool};
use testbed::{Canary, Front, Moto, Node, aws, install, node};

use crate::Inside;
use crate::image;

/// Where the chart is installed, as the README does it.
pub const SYSTEM: &str = install::SYSTEM;
/// The release's name, which its Deployment gets.
pub const RELEASE: &str = "robotosecret";

/// How long what takes seconds may take on a machine that is busy.
pub const SOON: Duration = Duration::from_mins(1);
/// How long a rotation may take into a Secret: the shortest TTL and time for a busy machine.
pub const ROTATED_WITHIN: Duration = Duration::from_secs(45);
/// How long a changed Secret may take into a volume: the kubelet looks once a minute or so.
pub const IN_VOLUME_WITHIN: Duration = Duration::from_secs(150);

/// The secret of most scenes, a JSON object with a `password`.
pub const SOURCE: &str = "prod/shop/bigdb";

/// Namespace and name of the emulated AWS's Service.
const STORE: &str = "store";

pub struct Stage {
    pub node: Node,
    /// What pods and controllers see of the emulated AWS. Dropped before moto.
    pub front: Front,
    moto: Moto,
    helm: PathBuf,
    pub work: PathBuf,
    runtime: tokio::runtime::Runtime,
    canary: Canary,
    /// How often [`SOURCE`] was rotated.
    rotations: usize,
}

impl Stage {
    pub fn start(arguments: &Inside) -> Result<Self> {
        let work = arguments.work.clone();
        let mut images: Vec<PathBuf> = std::fs::read_dir(work.join("images"))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        images.retain(|file| file.extension().is_some_and(|extension| extension == "tar"));
        let logs = work.join("logs");
        let node = step("a cluster with one node", || Node::start(&arguments.host_network, &images, &arguments.cgroups, &logs))?;
        let (moto, front) = step("an emulated AWS that pods can reach", || {
            let moto = Moto::start(&logs)?;
            let front = Front::start_at(node::ADDRESS, moto.url())?;
            Ok((moto, front))
        })?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let helm = binaries::find(Tool::Helm)?;
        let mut stage = Self { node, front, moto, helm, work, runtime, canary: Canary::new("e2e")?, rotations: 0 };
        stage.rotate()?;
        stage.name_store()?;
        Ok(stage)
    }

    /// Makes a Service for the emulated AWS, so that pods find it as they find AWS: by a name.
    fn name_store(&self) -> Result<()> {
        self.namespace(STORE)?;
        let metadata = json!({"name": STORE, "namespace": STORE, "labels": {"kubernetes.io/service-name": STORE}});
        let port = json!({"name": "http", "port": self.front.address().port()});
        self.apply(&json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"name": "http", "port": 80}]}}))?;
        self.apply(&json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
            "addressType": "IPv4", "ports": [port], "endpoints": [{"addresses": [node::ADDRESS]}],
        }))
    }

    // The store.

    /// Gives [`SOURCE`] a new value.
    pub fn rotate(&mut self) -> Result<()> {
        let value = json!({"username": "root", "password": self.canary.value(&format!("-{}", self.rotations + 1))}).to_string();
        self.put(SOURCE, &value)?;
        self.rotations += 1;
        Ok(())
    }

    /// Makes a secret or gives it a new value.
    pub fn put(&self, name: &str, value: &str) -> Result<()> {
        let client = self.moto.secrets_manager();
        self.runtime.block_on(async {
            let Err(error) = client.create_secret().name(name).secret_string(value).send().await else { return Ok(()) };
            if !error.as_service_error().is_some_and(aws_sdk_secretsmanager::operation::create_secret::CreateSecretError::is_resource_exists_exception) {
                return Err(error).context("making a secret in the emulated AWS");
            }
            client.put_secret_value().secret_id(name).secret_string(value).send().await.context("rotating a secret in the emulated AWS")?;
            Ok(())
        })
    }

    /// Which of the passwords that there were so far this is, counted from 1.
    pub fn rotation_of(&self, password: &str) -> Option<usize> {
        (1..=self.rotations).find(|rotation| self.canary.value(&format!("-{rotation}")) == password)
    }

    /// How often the password was set so far.
    pub fn rotations(&self) -> usize {
        self.rotations
    }

    /// How many calls the emulated AWS has got so far.
    pub fn calls(&self) -> u64 {
        self.front.totals().values().map(|total| total.calls).sum()
    }

    // The user.

    /// What kubectl prints; an error if it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        output(self.node.plane().kubectl().args(arguments))
    }

    /// `kubectl apply` of one object.
    pub fn apply(&self, object: &Value) -> Result<()> {
        let file = self.work.join("apply.json");
        std::fs::write(&file, object.to_string())?;
        self.kubectl(&["apply", "--filename", &file.display().to_string()])?;
        Ok(())
    }

    /// `kubectl get --output=json`; none if it isn't there.
    pub fn get(&self, namespace: &str, kind: &str, name: &str) -> Result<Option<Value>> {
        let text = self.kubectl(&["get", kind, name, "--namespace", namespace, "--ignore-not-found", "--output=json"])?;
        if text.trim().is_empty() { Ok(None) } else { Ok(Some(serde_json::from_str(&text)?)) }
    }

    /// The items of `kubectl get --output=json` with more arguments.
    pub fn list(&self, arguments: &[&str]) -> Result<Vec<Value>> {
        let list: Value = serde_json::from_str(&self.kubectl(&[&["get", "--output=json"], arguments].concat())?)?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    pub fn helm(&self, arguments: &[&str]) -> Result<String> {
        output(Command::new(&self.helm).args(arguments).env("KUBECONFIG", self.node.plane().kubeconfig()))
    }

    /// `helm install` of a chart with the values that this stage needs (the image, and credentials for the emulated AWS) and more `--set`
    /// expressions; returns when the controller is ready.
    pub fn install(&self, chart: &Path, image: &str, set: &[&str]) -> Result<()> {
        self.release(&["install", "--create-namespace"], chart, image, set)
    }

    /// `helm upgrade` to this checkout, otherwise as [`Stage::install`].
    pub fn upgrade_current(&self, set: &[&str]) -> Result<()> {
        self.check_leaks()?;
        self.release(&["upgrade"], &chart()?, image::CURRENT, set)
    }

    /// Installs this checkout, in place of whatever was installed before.
    pub fn reinstall(&self, set: &[&str]) -> Result<()> {
        self.remove_release()?;
        self.install(&chart()?, image::CURRENT, set)
    }

    /// `helm uninstall`, if there is something installed.
    pub fn remove_release(&self) -> Result<()> {
        let installed = self.helm(&["list", "--namespace", SYSTEM, "--short"])?;
        if installed.trim().is_empty() { Ok(()) } else { self.uninstall() }
    }

    fn release(&self, how: &[&str], chart: &Path, image: &str, set: &[&str]) -> Result<()> {
        let (repository, tag) = image.rsplit_once(':').context("an image has a tag")?;
        let values = self.work.join("values.json");
        let environment = [
            ("AWS_ACCESS_KEY_ID", aws::ACCESS_KEY_ID),
            ("AWS_SECRET_ACCESS_KEY", aws::SECRET_ACCESS_KEY),
            // There is no metadata service here, and asking it takes seconds.
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ];
        let environment = environment.map(|(name, value)| json!({"name": name, "value": value}));
        std::fs::write(&values, json!({"image": {"repository": repository, "tag": tag}, "extraEnv": environment}).to_string())?;
        let (chart, values) = (chart.display().to_string(), values.display().to_string());
        let mut arguments = how.to_vec();
        arguments.extend([RELEASE, &chart, "--namespace", SYSTEM, "--values", &values, "--wait", "--timeout=120s"]);
        arguments.extend(set.iter().flat_map(|expression| ["--set", expression]));
        self.helm(&arguments)?;
        Ok(())
    }

    /// `helm rollback` to the revision before.
    pub fn rollback(&self) -> Result<()> {
        self.check_leaks()?;
        self.helm(&["rollback", RELEASE, "--namespace", SYSTEM, "--wait", "--timeout=120s"])?;
        Ok(())
    }

    /// `helm uninstall`.
    pub fn uninstall(&self) -> Result<()> {
        self.check_leaks()?;
        self.helm(&["uninstall", RELEASE, "--namespace", SYSTEM, "--wait", "--timeout=120s"])?;
        Ok(())
    }

    /// The ClusterRobotoProvider "default", which leads to the emulated AWS and lets every namespace read all below `prod/`.
    pub fn provide(&self) -> Result<()> {
        let url = format!("http://{STORE}.{STORE}.svc");
        self.apply(&json!({
            "apiVersion": "robotosecret.dev/v1alpha1", "kind": "ClusterRobotoProvider", "metadata": {"name": "default"},
            "spec": {
                "aws": {"region": aws::REGION, "endpoints": {"secretsManager": url, "ssm": url, "sts": url}, "identity": {"ambient": {}}},
                "allow": [{"namespaces": {"all": true}, "references": ["aws.sm://prod/**"]}],
            },
        }))
    }

    pub fn namespace(&self, name: &str) -> Result<()> {
        self.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
    }

    /// Deletes a scene's namespace, so that its pods don't slow down the next one.
    pub fn forget(&self, namespace: &str) -> Result<()> {
        self.kubectl(&["delete", "namespace", namespace, "--wait=false"])?;
        Ok(())
    }

    /// A RobotoSecret that mirrors the password of [`SOURCE`] into a Secret of the same name, with more fields of its spec.
    pub fn mirror(&self, namespace: &str, name: &str, more: &Value) -> Result<()> {
        let mut spec = json!({"ttl": "10s", "data": [{"key": "password", "uri": format!("aws.sm://{SOURCE}#/password")}]});
        for (field, value) in more.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        self.apply(&json!({
            "apiVersion": "robotosecret.dev/v1alpha1", "kind": "RobotoSecret", "metadata": {"namespace": namespace, "name": name}, "spec": spec,
        }))
    }

    /// Waits until a mirrored Secret holds the newest password.
    pub fn wait_newest(&self, namespace: &str, name: &str, within: Duration) -> Result<()> {
        wait(&format!("the Secret {namespace}/{name} with the newest value"), within, || {
            let Some(secret) = self.get(namespace, "secret", name)? else { return Ok(None) };
            let secret: k8s_openapi::api::core::v1::Secret = serde_json::from_value(secret)?;
            let password = secret.data.and_then(|mut data| data.remove("password")).map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned());
            Ok(password.and_then(|password| self.rotation_of(&password)).filter(|rotation| *rotation == self.rotations))
        })?;
        Ok(())
    }

    /// The names of the controller's pods that aren't about to go.
    pub fn controllers(&self) -> Result<Vec<String>> {
        let pods = self.list(&["pods", "--namespace", SYSTEM, "--selector", &format!("app.kubernetes.io/instance={RELEASE}")])?;
        let names = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).filter_map(|pod| pod["metadata"]["name"].as_str());
        Ok(names.map(str::to_owned).collect())
    }

    /// Returns when the controller's Deployment has all its pods ready.
    pub fn wait_controller(&self) -> Result<()> {
        self.kubectl(&["rollout", "status", &format!("deployment/{RELEASE}"), "--namespace", SYSTEM, "--timeout=90s"])?;
        Ok(())
    }

    /// The names of this project's CRDs that are there.
    pub fn crds(&self) -> Result<Vec<String>> {
        let crds = self.list(&["crds"])?;
        let names = crds.iter().filter(|crd| crd["spec"]["group"] == "robotosecret.dev").filter_map(|crd| crd["metadata"]["name"].as_str());
        Ok(names.map(str::to_owned).collect())
    }

    // The end.

    /// Looks for values in what the controllers said: their logs, which go with their pods, the events, the resources.
    pub fn check_leaks(&self) -> Result<()> {
        let mut said = vec![("the events", self.kubectl(&["get", "events", "--all-namespaces", "--output=json"])?)];
        // Not the category `roboto`: kubectl expands it from its cache of discovery, which names CRDs that another scene removed.
        let kinds = self.crds()?.join(",");
        said.push(("the resources", self.kubectl(&["get", &kinds, "--all-namespaces", "--output=json"])?));
        for folder in std::fs::read_dir(self.work.join("logs/node/pod-logs"))? {
            let folder = folder?.path();
            if folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&format!("{SYSTEM}_{RELEASE}"))) {
                said.push(("a controller's log", output(Command::new("cat").args(["--"]).args(files(&folder)?))?));
            }
        }
        ensure!(said.len() > 2, "there is no log of a controller to look at");
        let leaks: Vec<String> = said.iter().flat_map(|(what, text)| self.canary.scan(what, text)).map(|leak| leak.to_string()).collect();
        ensure!(leaks.is_empty(), "values leaked: {}", leaks.join("\n"));
        Ok(())
    }

    /// Prints what may tell why a scene failed.
    pub fn explain(&self) {
        let log = ["logs", "--namespace", SYSTEM, "--selector", "app.kubernetes.io/name=robotosecret", "--tail=40", "--prefix", "--all-containers"];
        let previous = [&log[..], &["--previous"]].concat();
        let commands: [&[&str]; 6] = [
            &["get", "pods", "--all-namespaces", "--output=wide"],
            &["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"],
            &["get", "roboto", "--all-namespaces", "--output=yaml"],
            &["describe", "pods", "--all-namespaces"],
            &log,
            &previous,
        ];
        for arguments in commands {
            println!("\n$ kubectl {}", arguments.join(" "));
            let output = self.node.plane().kubectl().args(["--request-timeout=10s"]).args(arguments).stdin(Stdio::null()).output();
            if let Ok(output) = output {
                print!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            }
        }
        for process in self.node.processes() {
            println!("\n{}{}", if process.is_running() { "" } else { "ended: " }, process.log_tail());
        }
    }
}

/// The files in a folder and the folders in it.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { all.extend(files(&path)?) } else { all.push(path) }
    }
    Ok(all)
}

/// Begins a scene in print.
pub fn heading(text: &str) {
    println!("\n== {text}");
}

/// One thing that is done: says what, does it, and says how long it took.
pub fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    let outcome = work();
    println!("  {:>6.1} s  {what}{}", started.elapsed().as_secs_f32(), if outcome.is_ok() { "" } else { ": FAILED" });
    outcome.with_context(|| what.to_owned())
}

/// Asks until there is an answer. Not to be able to ask is no answer, since servers are down on purpose here.
pub fn wait<T: Debug>(what: &str, within: Duration, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + within;
    loop {
        let outcome = ask();
        match outcome {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) if Instant::now() > end => bail!("not within {} s: {what}", within.as_secs()),
            Err(error) if Instant::now() > end => return Err(error).with_context(|| format!("not within {} s: {what}", within.as_secs())),
            _ => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

/// Runs a command to its end: what it printed, or an error with what it complained of.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("running {}", command.get_program().display()))?;
    if !output.status.success() {
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy().into_owned()).collect();
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} {} ended with {}: {}", command.get_program().display(), arguments.join(" "), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The chart of this checkout.
pub fn chart() -> Result<PathBuf> {
    Ok(install::root()?.join("charts/robotosecret"))
}
