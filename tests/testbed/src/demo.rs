//! The demo: the whole way of a secret from AWS into Kubernetes, told to somebody who sees it for the first time. The controller's binary
//! and the project's own `crds/`, `charts/` and `examples/` enter; short lines of text leave. It must never print a value, never touch an
//! object that was in the cluster before, and never leave one behind that it made.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use testbed::binaries::{self, Tool};
use testbed::chart::{self, documents};
use testbed::control_plane::service_account_kubeconfig;
use testbed::examples::{self, API_TOKEN, DATABASE};
use testbed::folder::random_hex;
use testbed::install::{self, SYSTEM};
use testbed::interrupt::Interrupt;
use testbed::{ControlPlane, Controller, Moto, TempFolder, aws, http};

use crate::{DemoArguments, Where};

/// The namespace of the examples.
const SHOP: &str = "shop";

/// The examples that it shows are those whose files are numbered up to here.
const LAST: u32 = 6;

/// What takes a second or two when nothing is wrong.
const SOON: Duration = Duration::from_mins(1);

/// An object that the demo made in the cluster.
struct Made {
    kind: String,
    name: String,
}

/// The cluster as the demo sees it: a kubectl and an administrator's kubeconfig.
struct Cluster {
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    /// Holds kubeconfigs; private.
    folder: TempFolder,
    /// None if the cluster was there before.
    own: Option<ControlPlane>,
}

struct Demo<'a> {
    root: PathBuf,
    logs: &'a Path,
    cluster: &'a Cluster,
    moto: &'a Moto,
    interrupt: &'a Interrupt,
    controller: Option<Controller>,
    made: Vec<Made>,
}

/// Runs the demo and cleans up, also after a failure or Ctrl-C. An error says what didn't work; the logs are then kept.
pub fn run(arguments: &DemoArguments) -> Result<()> {
    let binary = std::path::absolute(&arguments.controller)?;
    if !binary.is_file() {
        bail!("there is no controller at {}; `make demo` builds it first", binary.display());
    }
    let root = install::root()?;
    println!("RobotoSecret: secrets that live in AWS, mirrored into native Kubernetes Secrets.");
    println!("The AWS of this demo is an emulation on this machine (moto); no account is needed and none is touched.");
    let logs = TempFolder::new("demo-logs")?;
    let outcome = bring_up_and_show(arguments, &binary, root, logs.path());
    if outcome.is_err() {
        eprintln!("\nThe logs of everything that ran are in {}", logs.keep().display());
    }
    outcome
}

fn bring_up_and_show(arguments: &DemoArguments, binary: &Path, root: PathBuf, logs: &Path) -> Result<()> {
    let cluster = match arguments.cluster {
        Where::New => Cluster::start(logs)?,
        Where::Current => match Cluster::current(arguments.yes)? {
            Some(cluster) => cluster,
            None => return Ok(()),
        },
    };
    let moto = Moto::start(logs)?;
    println!("The emulated AWS listens at {}.", moto.url());
    // From here on Ctrl-C cleans up first.
    let interrupt = Interrupt::install()?;
    let mut demo = Demo { root, logs, cluster: &cluster, moto: &moto, interrupt: &interrupt, controller: None, made: Vec::new() };
    let mut outcome = demo.show(binary);
    if outcome.is_ok() && arguments.keep {
        demo.keep();
    }
    if let (Err(error), Some(controller), false) = (&outcome, &demo.controller, interrupt.wait(Duration::ZERO)) {
        outcome = Err(anyhow::anyhow!("{error:#}\nThe controller: {}", controller.process.log_tail()));
    }
    let cleaned = demo.clean_up();
    outcome.and(cleaned)
}

impl Cluster {
    /// A control plane of our own.
    fn start(logs: &Path) -> Result<Self> {
        heading("A Kubernetes API server of its own");
        let started = Instant::now();
        let own = ControlPlane::start(logs)?;
        println!("It is ready after {}, at {}.", seconds(started), own.url());
        Ok(Self { kubectl: binaries::find(Tool::Kubectl)?, kubeconfig: own.kubeconfig().to_owned(), folder: TempFolder::new("demo")?, own: Some(own) })
    }

    /// The cluster of kubectl's current context; none if the user doesn't want that.
    fn current(yes: bool) -> Result<Option<Self>> {
        heading("The cluster that kubectl points at");
        let kubectl = PathBuf::from("kubectl");
        let folder = TempFolder::new("demo")?;
        let ask = |arguments: &[&str]| {
            let output = Command::new(&kubectl).args(arguments).output().context("running kubectl, which has to be on PATH for this")?;
            if !output.status.success() {
                bail!("kubectl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
            }
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let context = ask(&["config", "current-context"])?;
        if !yes {
            print!("This installs CRDs and a ClusterRobotoProvider into {context}. Continue? [y/N] ");
            std::io::stdout().flush()?;
            let mut answer = String::new();
            std::io::stdin().lock().read_line(&mut answer)?;
            if !matches!(answer.trim(), "y" | "Y" | "yes") {
                println!("Nothing was done.");
                return Ok(None);
            }
        }
        // A copy, so that a switch of contexts meanwhile doesn't send half of the demo to another cluster.
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, ask(&["config", "view", "--minify", "--flatten", "--raw", "--output=json"])?)?;
        Ok(Some(Self { kubectl, kubeconfig, folder, own: None }))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.env("KUBECONFIG", &self.kubeconfig).env("KUBECACHEDIR", self.folder.path().join("cache")).args(arguments);
        command
    }

    /// Runs kubectl with an optional input and returns what it writes.
    fn kubectl(&self, arguments: &[&str], input: Option<&str>) -> Result<String> {
        let mut command = self.command(arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("running {}", self.kubectl.display()))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.unwrap_or_default().as_bytes())?;
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("kubectl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs kubectl and shows the command and what it writes, as a user would see it.
    fn shown(&self, arguments: &[&str]) -> Result<()> {
        println!("$ kubectl {}", arguments.iter().map(|argument| quoted(argument)).collect::<Vec<_>>().join(" "));
        print!("{}", indented(&self.kubectl(arguments, None)?));
        Ok(())
    }

    /// Whether a cluster-scoped object is there. A kind that isn't known has no objects.
    fn has(&self, kind: &str, name: &str) -> Result<bool> {
        match self.kubectl(&["get", kind, name, "--ignore-not-found", "--output=name"], None) {
            Ok(found) => Ok(!found.trim().is_empty()),
            Err(error) if error.to_string().contains("doesn't have a resource type") => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Demo<'_> {
    fn show(&mut self, binary: &Path) -> Result<()> {
        let examples = Examples::read(&self.root.join("examples"), self.moto.url())?;
        let chart = self.root.join("charts/robotosecret");
        let rbac = chart::rbac(&chart, SYSTEM, &[])?;
        let mut cluster_wide = vec![("namespace".to_owned(), SYSTEM.to_owned())];
        cluster_wide.extend(rbac.objects.iter().chain(&examples.objects).filter(|object| object["metadata"]["namespace"].is_null()).map(kind_and_name));
        for (kind, name) in &cluster_wide {
            if self.cluster.has(kind, name)? {
                bail!("{kind}/{name} is in this cluster already; the demo only touches what it made, so it stops here");
            }
        }

        heading("Install: the kinds (CRDs) and the controller's rights, which are those of the Helm chart");
        self.install_crds()?;
        println!("$ kubectl create namespace {SYSTEM}");
        self.making("namespace", SYSTEM);
        print!("{}", indented(&self.cluster.kubectl(&["create", "namespace", SYSTEM], None)?));
        for (kind, name) in rbac.objects.iter().filter(|object| object["metadata"]["namespace"].is_null()).map(kind_and_name) {
            self.making(&kind, &name);
        }
        println!("$ helm template robotosecret charts/robotosecret --namespace {SYSTEM} | kubectl apply -f -    (only its account and roles)");
        print!("{}", indented(&self.cluster.kubectl(&["apply", "-f", "-"], Some(&rbac.list().to_string()))?));

        heading("Start the controller, here as a process and with the rights of its own account only");
        self.start_controller(binary, &rbac.service_account)?;

        heading("Two secrets in AWS");
        let mut password = random_hex(12)?;
        let token = random_hex(16)?;
        self.store(&password, &token)?;
        println!("Secrets Manager holds {DATABASE}: a JSON object with username and password.");
        println!("Parameter Store holds {API_TOKEN}: a SecureString.");

        heading("Ask for them");
        self.apply(&examples)?;
        self.wait("the Secret bigdb", SOON, |demo| Ok((demo.key("bigdb", "password")?.as_deref() == Some(password.as_bytes())).then_some(())))?;
        self.wait("the Secret api-token", SOON, |demo| Ok((demo.key("api-token", "token")?.as_deref() == Some(token.as_bytes())).then_some(())))?;
        println!("Both Secrets are there, and their values are those in AWS: yes.");
        // The status follows the Secret.
        self.cluster.shown(&["wait", "--for=condition=Ready", "rsec/bigdb", "rsec/api-token", "--namespace", SHOP, "--timeout=60s"])?;
        self.cluster.shown(&["get", "rsec,secret", "--namespace", SHOP])?;
        println!("(versions asks for the password before the last rotation, and there was none yet; wrong-name is wrong on purpose.)");

        heading("Rotate the password in AWS and touch nothing else");
        let before = std::mem::replace(&mut password, random_hex(12)?);
        let rotated = Instant::now();
        self.rotate(&password)?;
        println!("Rotated. The resource bigdb is rechecked every 10 seconds (ttl: 10s); waiting for the Secret.");
        self.wait("the new password", SOON, |demo| Ok((demo.key("bigdb", "password")?.as_deref() == Some(password.as_bytes())).then_some(())))?;
        println!("The new value arrived after {}. Value changed: {}.", seconds(rotated), if before == password { "no" } else { "yes" });
        self.cluster.shown(&["get", "rsec", "bigdb", "--namespace", SHOP])?;

        heading("And when something is wrong, the resource says so");
        let message = "jsonpath={.status.conditions[?(@.type==\"Ready\")].message}";
        self.wait("the failing resource's message", SOON, |demo| {
            let reason = "jsonpath={.status.conditions[?(@.type==\"Ready\")].reason}";
            let reason = demo.cluster.kubectl(&["get", "rsec", "wrong-name", "--namespace", SHOP, "--output", reason], None)?;
            Ok((reason == "SourceNotFound").then_some(()))
        })?;
        self.cluster.shown(&["get", "rsec", "wrong-name", "--namespace", SHOP])?;
        self.cluster.shown(&["get", "rsec", "wrong-name", "--namespace", SHOP, "--output", message])?;
        Ok(())
    }

    /// Applies the CRDs that aren't there; one that is may be of another version and isn't ours to change.
    fn install_crds(&mut self) -> Result<()> {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(self.root.join("crds")).context("reading crds/")?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
        files.sort();
        if files.is_empty() {
            bail!("crds/ is empty; `make crds` writes it");
        }
        for file in files {
            let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
            let shown = format!("crds/{}", file.file_name().unwrap_or_default().to_string_lossy());
            let names: Vec<(String, String)> = documents(&text)?.iter().map(kind_and_name).collect();
            let present = names.iter().map(|(kind, name)| self.cluster.has(kind, name)).collect::<Result<Vec<_>>>()?;
            if present.contains(&true) {
                println!("{shown} is in this cluster already and stays as it is.");
                continue;
            }
            for (kind, name) in names {
                self.making(&kind, &name);
            }
            println!("$ kubectl apply -f {shown}");
            print!("{}", indented(&self.cluster.kubectl(&["apply", "-f", "-"], Some(&text))?));
        }
        let crds: Vec<String> = self.made.iter().filter(|made| made.kind == "customresourcedefinition").map(|made| format!("crd/{}", made.name)).collect();
        if !crds.is_empty() {
            let mut arguments = vec!["wait", "--for=condition=Established", "--timeout=60s"];
            arguments.extend(crds.iter().map(String::as_str));
            self.cluster.kubectl(&arguments, None)?;
        }
        Ok(())
    }

    fn start_controller(&mut self, binary: &Path, service_account: &str) -> Result<()> {
        let kubeconfig = self.cluster.folder.path().join("controller.kubeconfig");
        service_account_kubeconfig(&self.cluster.kubeconfig, SYSTEM, service_account, &kubeconfig)?;
        let started = Instant::now();
        let controller = Controller::start(binary, &kubeconfig, &["--log-format", "text"], self.logs)?;
        println!("$ robotosecret controller --listen 127.0.0.1:{} --log-format text", controller.port);
        let health = controller.port;
        self.controller = Some(controller);
        let mut said = String::from("nothing");
        let ready = self.wait("the controller's /readyz", SOON, |_| {
            let Ok((status, text)) = http::get(health, "/readyz") else { return Ok(None) };
            said = text;
            Ok((status == 200).then_some(()))
        });
        ready.with_context(|| format!("/readyz last said: {}", said.trim()))?;
        println!("    ready after {}", seconds(started));
        Ok(())
    }

    /// Puts all that the examples read into the emulated AWS, also what is left for whoever keeps the demo running.
    fn store(&self, password: &str, token: &str) -> Result<()> {
        let other = random_hex(16)?;
        let value = |name: &str| match name {
            "password" => password.to_owned(),
            "token" => token.to_owned(),
            name => format!("{name}-{other}"),
        };
        block_on(examples::store(self.moto, &value))
    }

    fn rotate(&self, password: &str) -> Result<()> {
        let database = json!({"username": "root", "password": password}).to_string();
        block_on(async {
            self.moto.secrets_manager().put_secret_value().secret_id(DATABASE).secret_string(database).send().await.context("rotating the secret")?;
            Ok(())
        })
    }

    fn apply(&mut self, examples: &Examples) -> Result<()> {
        for (kind, name) in examples.objects.iter().filter(|object| object["metadata"]["namespace"].is_null()).map(kind_and_name) {
            self.making(&kind, &name);
        }
        println!("$ for file in examples/[0-{LAST}]-*; do kubectl apply -f $file; done    (the provider with the address of the emulated AWS)");
        print!("{}", indented(&self.cluster.kubectl(&["apply", "-f", "-"], Some(&examples.list().to_string()))?));
        Ok(())
    }

    /// One key's bytes of a mirrored Secret; none if the Secret or the key isn't there.
    fn key(&self, secret: &str, key: &str) -> Result<Option<Vec<u8>>> {
        let text = self.cluster.kubectl(&["get", "secret", secret, "--namespace", SHOP, "--ignore-not-found", "--output=json"], None)?;
        if text.trim().is_empty() {
            return Ok(None);
        }
        let secret: k8s_openapi::api::core::v1::Secret = serde_json::from_str(&text)?;
        Ok(secret.data.and_then(|mut data| data.remove(key)).map(|value| value.0))
    }

    /// Asks until there is an answer, at most for `deadline`. Ends early when the controller does or the user wants to.
    fn wait<T>(&self, what: &str, deadline: Duration, mut ask: impl FnMut(&Self) -> Result<Option<T>>) -> Result<T> {
        let end = Instant::now() + deadline;
        loop {
            if let Some(answer) = ask(self)? {
                return Ok(answer);
            }
            if self.controller.as_ref().is_some_and(|controller| !controller.process.is_running()) {
                bail!("waiting for {what}: the controller has ended");
            }
            if Instant::now() > end {
                bail!("waiting for {what}: it didn't arrive within {} s", deadline.as_secs());
            }
            if self.interrupt.wait(Duration::from_millis(100)) {
                bail!("interrupted");
            }
        }
    }

    fn keep(&self) {
        heading("Everything keeps running; Enter or Ctrl-C ends it");
        println!("Play with it in another terminal:");
        if self.cluster.own.is_some() {
            println!("export KUBECONFIG={}", self.cluster.kubeconfig.display());
        }
        println!("export AWS_ENDPOINT_URL={} AWS_REGION={}", self.moto.url(), aws::REGION);
        println!("export AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={}", aws::ACCESS_KEY_ID, aws::SECRET_ACCESS_KEY);
        println!("kubectl get rsec -n {SHOP} -w");
        if let Some(controller) = &self.controller {
            println!("tail -f {}", controller.process.log_path().display());
        }
        let entered = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&entered);
        std::thread::spawn(move || {
            // The end of the input isn't Enter: it is what a script without a terminal has.
            if std::io::stdin().lock().read_line(&mut String::new()).is_ok_and(|length| length > 0) {
                flag.store(true, Ordering::SeqCst);
            }
        });
        while !entered.load(Ordering::SeqCst) && !self.interrupt.wait(Duration::from_millis(200)) {}
    }

    /// Remembers an object that is about to be made, so that it goes also when making it fails half-way.
    fn making(&mut self, kind: &str, name: &str) {
        self.made.push(Made { kind: kind.to_owned(), name: name.to_owned() });
    }

    /// Ends the controller and, in a cluster that stays, takes out what the demo made, in reverse order.
    fn clean_up(&mut self) -> Result<()> {
        heading("Clean up");
        let mut problems = Vec::new();
        if let Some(controller) = self.controller.take()
            && controller.process.is_running()
        {
            let code = controller.process.stop()?;
            if code != 0 {
                problems.push(format!("the controller ended with code {code} instead of 0 when it was asked to"));
            }
        }
        if self.cluster.own.is_none() {
            while let Some(made) = self.made.pop() {
                let object = format!("{}/{}", made.kind, made.name);
                println!("$ kubectl delete {object}");
                if let Err(error) = self.cluster.kubectl(&["delete", &object, "--ignore-not-found", "--timeout=120s"], None) {
                    problems.push(format!("{object}: {error:#}"));
                }
            }
        }
        if !problems.is_empty() {
            bail!("cleaning up: {}", problems.join("; "));
        }
        println!("{}", if self.cluster.own.is_some() { "The cluster and the emulated AWS are gone." } else { "The cluster is as it was." });
        Ok(())
    }
}

/// The objects of the first of `examples/`, in the order of the files.
struct Examples {
    objects: Vec<Value>,
}

impl Examples {
    /// Reads them and points their provider at the emulated AWS.
    fn read(folder: &Path, aws_url: &str) -> Result<Self> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(folder).context("reading examples/")?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        let number = |file: &PathBuf| file.file_name()?.to_str()?.split_once('-')?.0.parse::<u32>().ok();
        files.retain(|file| number(file).is_some_and(|number| number <= LAST));
        files.sort();
        let mut objects = Vec::new();
        for file in files {
            let text = std::fs::read_to_string(&file)?;
            objects.extend(documents(&text).with_context(|| format!("reading {}", file.display()))?);
        }
        for provider in objects.iter_mut().filter(|object| object["kind"] == "ClusterRobotoProvider") {
            provider["spec"]["aws"]["endpoints"] = json!({"secretsManager": aws_url, "ssm": aws_url, "sts": aws_url});
        }
        Ok(Self { objects })
    }

    fn list(&self) -> Value {
        json!({"apiVersion": "v1", "kind": "List", "items": self.objects})
    }
}

/// As kubectl takes them: the kind in lower case.
fn kind_and_name(object: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&object["kind"]).to_lowercase(), text(&object["metadata"]["name"]))
}

fn heading(text: &str) {
    println!("\n== {text}");
}

fn seconds(since: Instant) -> String {
    format!("{:.1} s", since.elapsed().as_secs_f32())
}

fn indented(text: &str) -> String {
    text.lines().fold(String::new(), |all, line| if line.is_empty() { all + "\n" } else { all + "    " + line + "\n" })
}

/// An argument as it has to be typed.
fn quoted(argument: &str) -> String {
    let plain = |char: char| char.is_ascii_alphanumeric() || "-_./=,:".contains(char);
    if argument.chars().all(plain) { argument.to_owned() } else { format!("'{argument}'") }
}

fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}
