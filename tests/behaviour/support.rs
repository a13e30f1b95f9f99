//! What every test stands on: one world a run (control plane, emulated AWS, the chart's roles), and a scene a test (a namespace, a
//! provider, a front before the emulated AWS, and the real controller as its own ServiceAccount).
//!
//! [`scene`] ends with a search for the scene's canary in all that the controller wrote anywhere: a leak fails every test.

use std::{
    collections::BTreeMap,
    io::Write,
    ops::Deref,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use k8s_openapi::api::{
    core::v1::{Namespace, Secret},
    events::v1::Event,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    core::PartialObjectMeta,
};
use robotosecret::api::{ClusterRobotoProvider, RobotoPush, RobotoSecret, RobotoSecretStatus};
use serde_json::{Value, json};
use testbed::{Canary, ControlPlane, Door, Emulator, Front, Moto, install};
pub use testbed::{Controller, install::apply as apply_object};

/// The environment of a controller that reads the emulated AWS as itself.
const CREDENTIALS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", testbed::aws::ACCESS_KEY_ID), ("AWS_SECRET_ACCESS_KEY", testbed::aws::SECRET_ACCESS_KEY)];
/// How long anything that should happen "within seconds" may take on a machine that is busy with other tests.
pub const SECONDS: Duration = Duration::from_secs(30);
/// The shortest TTL that the API allows.
pub const TTL: &str = "10s";
/// How long a recheck may take to be noticed: a TTL, and time for a busy machine.
pub const WITHIN_TTL: Duration = Duration::from_secs(40);

/// What a run of the suite starts once. Everything in it ends with the process.
pub struct World {
    pub plane: ControlPlane,
    pub moto: Moto,
    pub dir: PathBuf,
    /// The kubeconfig of the controller's ServiceAccount, with the chart's roles in cluster scope.
    pub kubeconfig: PathBuf,
}

/// The world of this run; the first test starts it.
pub fn world() -> &'static World {
    static WORLD: LazyLock<World> = LazyLock::new(|| {
        // Clients need a runtime of their own, and the first test's ends with that test.
        std::thread::spawn(|| tokio::runtime::Runtime::new().unwrap().block_on(start())).join().expect("the control plane starts")
    });
    &WORLD
}

async fn start() -> World {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("behaviour-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    eprintln!("logs of this run: {}", dir.display());
    let plane = ControlPlane::start(&dir).unwrap();
    let moto = Moto::start(&dir).unwrap();
    // The emulated AWS loads a service at its first call, which can take longer than the controller waits when all tests begin at once.
    moto.secrets_manager().list_secrets().send().await.unwrap();
    moto.ssm().describe_parameters().send().await.unwrap();
    let client = plane.client().await.unwrap();
    install::crds(&client, &root().join("crds")).await.unwrap();
    let kubeconfig = install::account(&plane, &client, &root().join("charts/robotosecret")).await.unwrap();
    World { plane, moto, dir, kubeconfig }
}

/// The project's folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Asks again until there is an answer. Panics after `limit` with what was waited for.
pub async fn until<T>(what: &str, limit: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The emulated AWS of a scene, with all that it counts and does wrong when it is told to.
pub enum Aws {
    /// Before the world's moto.
    Moto(Front),
    /// The scene's own.
    Emulator(Emulator),
}

impl Deref for Aws {
    type Target = Front;

    fn deref(&self) -> &Front {
        match self {
            Self::Moto(front) => front,
            Self::Emulator(emulator) => emulator,
        }
    }
}

/// One test's place.
pub struct Scene {
    pub namespace: String,
    pub client: Client,
    pub front: Aws,
    pub canary: Canary,
    pub controller: Option<Controller>,
    /// What controllers of this scene that are gone had written.
    written: Vec<(String, String)>,
    dir: PathBuf,
}

/// Runs a test in a scene with a provider that allows it everything and a controller that is ready.
pub async fn scene(name: &str, test: impl AsyncFnOnce(&mut Scene)) {
    scene_before_controller(name, async |scene| {
        scene.provide(&["*"]).await;
        scene.start_controller(&[]).await;
        test(scene).await;
    })
    .await;
}

/// Runs a test in a scene without provider and controller.
pub async fn scene_before_controller(name: &str, test: impl AsyncFnOnce(&mut Scene)) {
    let mut scene = Scene::new(name, Aws::Moto(Front::start(world().moto.url()).unwrap()), world().plane.client().await.unwrap()).await;
    test(&mut scene).await;
    scene.finish().await;
}

/// As [`scene`], on an emulator of its own.
pub async fn emulated(name: &str, test: impl AsyncFnOnce(&mut Scene)) {
    emulated_before_controller(name, async |scene| {
        scene.provide(&["*"]).await;
        scene.start_controller(&[]).await;
        test(scene).await;
    })
    .await;
}

/// As [`scene_before_controller`], on an emulator of its own.
pub async fn emulated_before_controller(name: &str, test: impl AsyncFnOnce(&mut Scene)) {
    emulated_elsewhere(world().plane.client().await.unwrap(), name, test).await;
}

/// As [`emulated_before_controller`], in a cluster of the test's own.
pub async fn emulated_elsewhere(cluster: Client, name: &str, test: impl AsyncFnOnce(&mut Scene)) {
    let mut scene = Scene::new(name, Aws::Emulator(Emulator::start().unwrap()), cluster).await;
    test(&mut scene).await;
    scene.finish().await;
}

impl Scene {
    async fn new(name: &str, front: Aws, client: Client) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let world = world();
        let namespace = format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let namespaces: Api<Namespace> = Api::all(client.clone());
        namespaces.create(&PostParams::default(), &serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap()).await.unwrap();
        let canary = Canary::new(&namespace).unwrap();
        let dir = world.dir.join(&namespace);
        Self { namespace, client, front, canary, controller: None, written: Vec::new(), dir }
    }

    // The emulated AWS.

    /// A value that carries the scene's canary.
    pub fn value(&self, suffix: &str) -> String {
        self.canary.value(suffix)
    }

    /// The name of this scene's secret in Secrets Manager.
    pub fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.namespace)
    }

    /// The scene's own emulator.
    pub fn emulator(&self) -> &Emulator {
        match &self.front {
            Aws::Emulator(emulator) => emulator,
            Aws::Moto(_) => panic!("the scene stands on moto"),
        }
    }

    /// Makes a secret or gives it a new value.
    pub async fn put_secret(&self, name: &str, value: &str) {
        if let Aws::Emulator(emulator) = &self.front {
            emulator.put_secret(&self.path(name), value);
            return;
        }
        let client = world().moto.secrets_manager();
        let id = self.path(name);
        if client.describe_secret().secret_id(&id).send().await.is_ok() {
            client.put_secret_value().secret_id(id).secret_string(value).send().await.unwrap();
        } else {
            client.create_secret().name(id).secret_string(value).send().await.unwrap();
        }
    }

    /// Makes a `SecureString` parameter `/<namespace>/<name>` or gives it a new value.
    pub async fn put_parameter(&self, name: &str, value: &str) {
        if let Aws::Emulator(emulator) = &self.front {
            emulator.put_parameter(&format!("/{}", self.path(name)), value);
            return;
        }
        let put = world().moto.ssm().put_parameter().name(format!("/{}", self.path(name))).value(value).overwrite(true);
        put.r#type(aws_sdk_ssm::types::ParameterType::SecureString).send().await.unwrap();
    }

    /// How many calls of this action the controller has made.
    pub fn calls(&self, action: &str) -> usize {
        self.front.count(|call| call.action == action)
    }

    /// How many calls so far asked for this id, exactly as it is sent (a name, an ARN, a parameter with its selector).
    pub fn reads(&self, id: &str) -> usize {
        self.front.count(|call| call.ids.iter().any(|asked| asked == id))
    }

    // Kubernetes, as the user.

    /// Makes or changes the scene's ClusterRobotoProvider (named like the namespace), allowing these references.
    pub async fn provide(&self, references: &[&str]) {
        self.provider(&self.namespace, &self.front.url(), references).await;
    }

    /// Makes or changes a further ClusterRobotoProvider of the scene, for what is at this address. Returns its name.
    pub async fn provide_also(&self, suffix: &str, url: &str, references: &[&str]) -> String {
        let name = format!("{}.{suffix}", self.namespace);
        self.provider(&name, url, references).await;
        name
    }

    async fn provider(&self, name: &str, url: &str, references: &[&str]) {
        let provider = json!({
            "apiVersion": "robotosecret.dev/v1alpha1", "kind": "ClusterRobotoProvider", "metadata": {"name": name},
            "spec": {
                "aws": {"region": testbed::aws::REGION, "endpoints": {"secretsManager": url, "ssm": url, "sts": url}, "identity": {"ambient": {}}},
                "allow": [{"namespaces": {"names": [self.namespace]}, "references": references}],
            },
        });
        apply_object(&self.client, &provider).await.unwrap();
    }

    /// Sets how many calls a second the scene's provider makes at most.
    pub async fn limit(&self, limits: Value) {
        let patch = json!({"spec": {"aws": {"limits": limits}}});
        self.providers().patch(&self.namespace, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    pub fn providers(&self) -> Api<ClusterRobotoProvider> {
        Api::all(self.client.clone())
    }

    pub fn resources(&self) -> Api<RobotoSecret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A RobotoSecret of this spec, in YAML or JSON, that reads through the scene's provider; `ttl` is 10s unless the spec says otherwise.
    pub fn resource(&self, name: &str, spec: &str) -> Value {
        let mut spec: Value = serde_yaml::from_str(spec).expect("a spec in YAML");
        let fields = spec.as_object_mut().unwrap();
        fields.entry("provider").or_insert(json!({"kind": "ClusterRobotoProvider", "name": self.namespace}));
        fields.entry("ttl").or_insert(json!(TTL));
        json!({"apiVersion": "robotosecret.dev/v1alpha1", "kind": "RobotoSecret", "metadata": {"name": name, "namespace": self.namespace}, "spec": spec})
    }

    /// Applies a RobotoSecret (see [`Scene::resource`]).
    pub async fn apply(&self, name: &str, spec: &str) {
        apply_object(&self.client, &self.resource(name, spec)).await.unwrap();
    }

    /// Applies a RobotoSecret for each name, all at once, each with a spec of its own.
    pub async fn apply_all(&self, names: &[String], spec: impl Fn(&str) -> Value) {
        let apply = async |name: &String| self.apply(name, &spec(name).to_string()).await;
        join_all(names.iter().map(apply)).await;
    }

    /// Merges a patch into a RobotoSecret, as `kubectl patch` does.
    pub async fn patch(&self, name: &str, patch: Value) {
        self.resources().patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    /// Changes the refresh annotation.
    pub async fn refresh(&self, name: &str, to: &str) {
        self.patch(name, json!({"metadata": {"annotations": {"robotosecret.dev/refresh": to}}})).await;
    }

    /// Patches a Secret as another field manager would.
    pub async fn tamper(&self, name: &str, manager: &str, patch: Value) {
        let parameters = PatchParams { field_manager: Some(manager.into()), ..PatchParams::default() };
        self.secrets().patch(name, &parameters, &Patch::Merge(&patch)).await.unwrap();
    }

    pub async fn status(&self, name: &str) -> RobotoSecretStatus {
        self.resources().get_opt(name).await.unwrap().and_then(|resource| resource.status).unwrap_or_default()
    }

    /// Waits until a condition reads `<status> <reason>`, for the current generation. Returns its message.
    pub async fn condition(&self, name: &str, type_: &str, expected: &str, limit: Duration) -> String {
        let mut last = String::new();
        let started = Instant::now();
        loop {
            if let Some(resource) = self.resources().get_opt(name).await.unwrap() {
                let status = resource.status.clone().unwrap_or_default();
                last = format!("{:?}", status.conditions.iter().map(|c| format!("{}={} {}: {}", c.type_, c.status, c.reason, c.message)).collect::<Vec<_>>());
                let observed = resource.spec.suspend || status.observed_generation == resource.metadata.generation;
                let found = status.condition(type_).filter(|c| observed && format!("{} {}", c.status, c.reason) == expected);
                if let Some(found) = found {
                    return found.message.clone();
                }
            }
            assert!(started.elapsed() < limit, "{name}: {type_} was not {expected:?} within {limit:?}; it has {last}\n{}", self.log_tail());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until the resource is mirrored.
    pub async fn ready(&self, name: &str) -> String {
        self.condition(name, "Ready", "True Mirrored", SECONDS).await
    }

    /// Waits until all resources of the scene (not none) have a condition that reads `<status> <reason>`, for their current generation.
    pub async fn all(&self, type_: &str, expected: &str, limit: Duration) {
        let started = Instant::now();
        loop {
            let all = self.resources().list(&ListParams::default()).await.unwrap().items;
            let condition = |resource: &RobotoSecret| {
                let status = resource.status.as_ref().filter(|status| status.observed_generation == resource.metadata.generation)?;
                status.condition(type_).map(|c| format!("{} {}", c.status, c.reason))
            };
            let others: Vec<_> = all.iter().filter(|resource| condition(resource).as_deref() != Some(expected)).collect();
            if others.is_empty() && !all.is_empty() {
                return;
            }
            let shown: Vec<String> = others.iter().take(3).map(|resource| format!("{}: {}", resource.name_any(), json!(resource.status))).collect();
            assert!(
                started.elapsed() < limit,
                "{} of {} are not {type_}={expected} within {limit:?}, such as {shown:#?}\n{}",
                others.len(),
                all.len(),
                self.log_tail()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The resourceVersion of each Secret of ours: what does not change while nothing writes to them.
    pub async fn versions(&self) -> BTreeMap<String, String> {
        let all = self.secrets().list_metadata(&ListParams::default().labels("robotosecret.dev/managed=true")).await.unwrap().items;
        all.into_iter().map(|secret| (secret.name_any(), secret.resource_version().unwrap_or_default())).collect()
    }

    /// The data of a Secret, as text where it is text; `None` if there is no such Secret.
    pub async fn data(&self, name: &str) -> Option<Vec<(String, String)>> {
        let secret = self.secrets().get_opt(name).await.unwrap()?;
        Some(secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned())).collect())
    }

    /// Waits until a Secret holds exactly this.
    pub async fn holds(&self, name: &str, expected: &[(&str, &str)], limit: Duration) {
        let expected: Vec<(String, String)> = expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mut last = None;
        let started = Instant::now();
        while started.elapsed() < limit {
            last = self.data(name).await;
            if last.as_ref() == Some(&expected) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let resource = self.resources().list(&ListParams::default()).await.unwrap();
        let statuses: Vec<_> = resource.items.iter().map(|r| format!("{}: {}", r.name_any(), json!(r.status))).collect();
        panic!("the Secret {name} does not hold {expected:?} within {limit:?} but {last:?}\n{statuses:#?}\n{}", self.log_tail());
    }

    /// The metadata of a Secret.
    pub async fn meta(&self, name: &str) -> kube::core::ObjectMeta {
        let api: Api<PartialObjectMeta<Secret>> = Api::namespaced(self.client.clone(), &self.namespace);
        api.get(name).await.unwrap().metadata
    }

    /// The events about a RobotoSecret so far, as `reason: note`.
    pub async fn events(&self, name: &str) -> Vec<String> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let all = events.list(&ListParams::default()).await.unwrap();
        let about = all.items.into_iter().filter(|event| event.regarding.as_ref().and_then(|about| about.name.as_deref()) == Some(name));
        about.map(|event| format!("{}: {}", event.reason.unwrap_or_default(), event.note.unwrap_or_default())).collect()
    }

    /// How often something was told about a RobotoSecret in words that contain a text: repeated events are one object with a count.
    pub async fn told(&self, name: &str, text: &str) -> usize {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let all = events.list(&ListParams::default()).await.unwrap();
        let about = all.items.into_iter().filter(|event| event.regarding.as_ref().and_then(|about| about.name.as_deref()) == Some(name));
        let saying = about.filter(|event| format!("{}: {}", event.reason.clone().unwrap_or_default(), event.note.clone().unwrap_or_default()).contains(text));
        saying.map(|event| event.series.map_or(1, |series| usize::try_from(series.count).unwrap())).sum()
    }

    /// Waits for an event whose `reason: note` contains a text.
    pub async fn event(&self, name: &str, text: &str) -> String {
        let what = format!("an event about {name} that says {text:?}");
        until(&what, SECONDS, async || self.events(name).await.into_iter().find(|event| event.contains(text))).await
    }

    /// Lets the controller do what it would do anyway: waits until it has asked for the id `times` more times.
    pub async fn rechecked(&self, id: &str, times: usize) {
        let before = self.reads(id);
        let limit = WITHIN_TTL * u32::try_from(times).unwrap();
        until(&format!("{id} is read {times} more times"), limit, async || (self.reads(id) >= before + times).then_some(())).await;
    }

    // The controller.

    /// A kubeconfig of an account of the scene's own, with the chart's rights under these values (as `--set` takes them), but only those
    /// rules that are to be kept.
    pub async fn account(&self, values: &[&str], keep: impl Fn(&Value) -> bool) -> PathBuf {
        self.account_of(&self.namespace, values, keep).await
    }

    /// As [`Scene::account`], of a release in another namespace.
    pub async fn account_of(&self, release: &str, values: &[&str], keep: impl Fn(&Value) -> bool) -> PathBuf {
        let rbac = testbed::chart::rbac(&root().join("charts/robotosecret"), release, values).unwrap();
        for mut object in rbac.objects {
            if let Some(rules) = object.get_mut("rules").and_then(Value::as_array_mut) {
                rules.retain(&keep);
            }
            apply_object(&self.client, &object).await.unwrap();
        }
        world().plane.kubeconfig_for(release, &rbac.service_account).unwrap()
    }

    /// A door before the API server, and this kubeconfig by way of it.
    pub fn door(&self, kubeconfig: &Path) -> (Door, PathBuf) {
        let door = Door::before(world().plane.url().trim_start_matches("https://").parse().unwrap()).unwrap();
        let mut config: Value = serde_json::from_slice(&std::fs::read(kubeconfig).unwrap()).unwrap();
        config["clusters"][0]["cluster"]["server"] = json!(format!("https://{}", door.address()));
        // Beside the other one: that folder is private, and goes at the end.
        let path = kubeconfig.with_file_name(format!("{}.door.kubeconfig", self.namespace));
        std::fs::write(&path, config.to_string()).unwrap();
        (door, path)
    }

    /// Starts the controller with these arguments besides the usual ones, and waits until it is ready.
    pub async fn start_controller(&mut self, arguments: &[&str]) {
        let kubeconfig = world().kubeconfig.clone();
        self.start_controller_as(&kubeconfig, arguments);
        self.controller_ready().await;
    }

    /// Waits until the controller is ready.
    pub async fn controller_ready(&self) {
        let controller = self.controller();
        let ready = async || (controller.page("/readyz").0 == 200).then_some(());
        until(&format!("the controller is ready; see {}", controller.process.log_path().display()), Duration::from_secs(60), ready).await;
    }

    /// Starts the controller with another identity, and does not wait.
    pub fn start_controller_as(&mut self, kubeconfig: &Path, arguments: &[&str]) {
        self.start_controller_with(kubeconfig, arguments, &CREDENTIALS);
    }

    /// Starts the controller with another identity and this environment alone, and does not wait.
    pub fn start_controller_with(&mut self, kubeconfig: &Path, arguments: &[&str], environment: &[(&str, &str)]) {
        let namespace = self.namespace.clone();
        self.start_process(kubeconfig, &[&["--namespaces", &namespace], arguments].concat(), environment);
    }

    /// Starts the controller with another identity for all namespaces, in a cluster of the test's own, and waits until it is ready.
    pub async fn start_controller_everywhere(&mut self, kubeconfig: &Path, arguments: &[&str]) {
        self.start_process(kubeconfig, arguments, &CREDENTIALS);
        self.controller_ready().await;
    }

    fn start_process(&mut self, kubeconfig: &Path, arguments: &[&str], environment: &[(&str, &str)]) {
        let arguments = [&["--log-level", "debug", "--log-format", "text"], arguments].concat();
        let binary = Path::new(env!("CARGO_BIN_EXE_robotosecret"));
        self.controller = Some(Controller::start_with(binary, kubeconfig, &arguments, environment, &self.dir).unwrap());
    }

    /// Starts one of several controllers, as the pod of this name, that ask for the scene's lease; does not wait. The caller hands it to
    /// [`Scene::retire`] in the end.
    pub fn candidate(&self, kubeconfig: &Path, pod: &str) -> Controller {
        let lease = format!("{}/robotosecret", self.namespace);
        let arguments = ["--namespaces", &self.namespace, "--lease", &lease, "--log-level", "debug", "--log-format", "text"];
        let environment = [("AWS_ACCESS_KEY_ID", testbed::aws::ACCESS_KEY_ID), ("AWS_SECRET_ACCESS_KEY", testbed::aws::SECRET_ACCESS_KEY), ("POD_NAME", pod)];
        let dir = self.dir.join(pod);
        std::fs::create_dir_all(&dir).unwrap();
        Controller::start_with(Path::new(env!("CARGO_BIN_EXE_robotosecret")), kubeconfig, &arguments, &environment, &dir).unwrap()
    }

    /// Ends one of several controllers, or finds that it has ended, and keeps what it wrote for the search at the end. Returns its exit code.
    pub fn retire(&mut self, controller: Controller, signal: testbed::process::Signal) -> i32 {
        let before = self.controller.replace(controller);
        let code = self.end_controller(signal);
        self.controller = before;
        code
    }

    pub fn controller(&self) -> &Controller {
        self.controller.as_ref().expect("a controller")
    }

    /// Kills the controller as the kernel would: no chance to finish anything.
    pub fn kill_controller(&mut self) {
        self.end_controller(testbed::process::Signal::Kill);
    }

    /// Ends the controller as Kubernetes would. Returns its exit code.
    pub fn stop_controller(&mut self) -> i32 {
        self.end_controller(testbed::process::Signal::Term)
    }

    fn end_controller(&mut self, signal: testbed::process::Signal) -> i32 {
        let controller = self.controller.take().expect("a controller");
        self.written.push(("metrics".into(), controller.page("/metrics").1));
        let log = controller.process.log_path().to_owned();
        if controller.process.is_running() {
            controller.process.signal(signal).unwrap();
        }
        let code = controller.process.wait_exit(SECONDS).unwrap();
        self.written.push((log.display().to_string(), std::fs::read_to_string(&log).unwrap()));
        code
    }

    pub fn log_tail(&self) -> String {
        self.controller.as_ref().map(|controller| controller.process.log_tail()).unwrap_or_default()
    }

    /// Ends the scene, and looks for its values in all that the controller wrote but the Secrets' data.
    async fn finish(mut self) {
        if self.controller.is_some() {
            self.stop_controller();
        }
        let mut written = std::mem::take(&mut self.written);
        let mut note = |what: &str, object: &dyn erased::Json| written.push((what.to_owned(), object.json()));
        note("events", &Api::<Event>::namespaced(self.client.clone(), &self.namespace).list(&ListParams::default()).await.unwrap().items);
        note("pushes", &Api::<RobotoPush>::namespaced(self.client.clone(), &self.namespace).list(&ListParams::default()).await.unwrap().items);
        note("resources", &self.resources().list(&ListParams::default()).await.unwrap().items);
        note("providers", &self.providers().list(&ListParams::default()).await.unwrap().items);
        let secrets = self.secrets().list(&ListParams::default()).await.unwrap().items;
        note("metadata of Secrets", &secrets.into_iter().map(|secret| secret.metadata).collect::<Vec<_>>());
        let leaks: Vec<_> = written.iter().flat_map(|(what, text)| self.canary.scan(what, text)).map(|leak| leak.to_string()).collect();
        assert!(leaks.is_empty(), "values leaked:\n{}", leaks.join("\n"));
        for name in self.providers().list(&ListParams::default()).await.unwrap().items.iter().map(ResourceExt::name_any) {
            if name == self.namespace || name.starts_with(&format!("{}.", self.namespace)) {
                let _ = self.providers().delete(&name, &DeleteParams::default()).await;
            }
        }
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let gone = namespaces.delete(&self.namespace, &DeleteParams::background()).await;
        // A test may have deleted it itself.
        assert!(gone.is_ok() || namespaces.get_opt(&self.namespace).await.unwrap().is_none(), "{:?}", gone.err());
    }
}

mod erased {
    /// Anything that can be put into JSON, without its type.
    pub trait Json {
        fn json(&self) -> String;
    }

    impl<T: serde::Serialize> Json for T {
        fn json(&self) -> String {
            serde_json::to_string(self).unwrap()
        }
    }
}

/// What a command-line program did.
#[derive(Debug)]
pub struct Said {
    pub ok: bool,
    pub out: String,
    pub err: String,
}

/// Runs a program to its end, with this standard input. Blocks the thread: the scene's servers have threads of their own.
pub fn run(command: &mut Command, input: &str) -> Said {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A program that needs no input may end before it took it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { ok: output.status.success(), out: text(output.stdout), err: text(output.stderr) }
}

/// Runs `kubectl` in a control plane, with an object or more on its standard input.
pub fn kubectl(plane: &ControlPlane, arguments: &[&str], input: &str) -> Said {
    run(plane.kubectl().args(arguments).current_dir(root()), input)
}

/// Whether a rule of a role gives no right to write a status.
pub fn no_status(rule: &Value) -> bool {
    !rule["resources"].as_array().unwrap().contains(&json!("robotosecrets/status"))
}

/// Asserts that a text says something.
#[track_caller]
pub fn says(text: &str, part: &str) {
    assert!(text.contains(part), "{part:?} is not in {text:?}");
}
