//! The kubectl plugin as somebody types it: as an administrator, and as somebody of a namespace who may see RobotoSecrets and pods and nothing
//! else. Whatever it prints is searched for the scene's values.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::{
    proxy::Proxy,
    push,
    support::{SECONDS, Scene, apply_object, emulated, says, until, world},
};

/// A password that must appear nowhere.
const CANARY: &str = "cAnArY-7d20";

/// Somebody with a kubeconfig.
struct User<'s> {
    scene: &'s Scene,
    kubeconfig: PathBuf,
    environment: Vec<(&'static str, String)>,
}

/// What was printed, and how it ended.
struct Printed {
    code: i32,
    out: String,
    err: String,
}

/// The binary under the name that makes it a plugin; it takes the place of what a former run left there.
fn plugin() -> PathBuf {
    let dir = world().dir.join("bin");
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("kubectl-robotosecret");
    // Another test may have linked it meanwhile.
    let _ = std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_robotosecret"), &path);
    path
}

impl<'s> User<'s> {
    fn admin(scene: &'s Scene) -> Self {
        Self { scene, kubeconfig: world().plane.kubeconfig().to_owned(), environment: Vec::new() }
    }

    /// Somebody with these rights in the scene's namespace, which is that of the kubeconfig's context.
    async fn with(scene: &'s Scene, name: &str, rules: Value) -> Self {
        let meta = json!({"name": name, "namespace": scene.namespace});
        let rbac = "rbac.authorization.k8s.io/v1";
        let subject = json!({"kind": "ServiceAccount", "name": name, "namespace": scene.namespace});
        for object in [
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}),
            json!({"apiVersion": rbac, "kind": "Role", "metadata": meta, "rules": rules}),
            json!({
                "apiVersion": rbac, "kind": "RoleBinding", "metadata": meta, "subjects": [subject],
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            }),
        ] {
            apply_object(&scene.client, &object).await.unwrap();
        }
        let kubeconfig = world().plane.kubeconfig_for(&scene.namespace, name).unwrap();
        let user = Self { scene, kubeconfig, environment: Vec::new() };
        // Rights take a moment to arrive.
        until("the rights of the user are there", SECONDS, async || (user.plugin(&["status"]).code != 3).then_some(())).await;
        user
    }

    /// Somebody who may see and patch RobotoSecrets, and see pods.
    async fn of_namespace(scene: &'s Scene) -> Self {
        let rules = json!([
            {"apiGroups": ["robotosecret.dev"], "resources": ["robotosecrets"], "verbs": ["get", "list", "watch", "patch"]},
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
        ]);
        Self::with(scene, "somebody", rules).await
    }

    fn run(&self, program: &Path, arguments: &[&str]) -> Printed {
        let mut command = Command::new(program);
        command.env_clear().env("KUBECONFIG", &self.kubeconfig).envs(self.environment.iter().map(|(name, value)| (name, value))).args(arguments);
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let printed = Printed { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) };
        for text in [&printed.out, &printed.err] {
            let leaks: Vec<String> = self.scene.canary.scan(&format!("{arguments:?}"), text).iter().map(ToString::to_string).collect();
            assert!(leaks.is_empty(), "{leaks:?} in {text}");
            assert!(!text.contains('\u{1b}'), "colours in a pipe: {text:?}");
        }
        printed
    }

    /// The plugin, in the namespace of the context.
    fn plugin(&self, arguments: &[&str]) -> Printed {
        self.run(&plugin(), arguments)
    }

    /// The plugin, in the scene's namespace.
    fn there(&self, arguments: &[&str]) -> Printed {
        self.plugin(&[arguments, &["--namespace", &self.scene.namespace]].concat())
    }
}

impl Printed {
    /// What it printed, if it ended like this and complained of nothing.
    #[track_caller]
    fn ended(&self, code: i32) -> &str {
        assert!(self.code == code && self.err.is_empty(), "{}: {}{}", self.code, self.out, self.err);
        &self.out
    }

    /// What it complained of, if it ended like this.
    #[track_caller]
    fn failed(&self, code: i32) -> &str {
        assert!(self.code == code && !self.err.is_empty(), "{}: {}{}", self.code, self.out, self.err);
        &self.err
    }
}

/// A resource of two keys that is mirrored, and one whose source isn't there.
async fn one_well_one_not(s: &Scene) {
    s.put_secret("db", &json!({"username": s.value("user"), "password": s.value("password")}).to_string()).await;
    s.apply("good", &format!("{{uri: 'aws.sm://{}', ttl: 1h}}", s.path("db"))).await;
    s.apply("wrong", &format!("{{uri: 'aws.sm://{}', ttl: 1h}}", s.path("none"))).await;
    s.ready("good").await;
    s.condition("wrong", "Ready", "False SourceNotFound", SECONDS).await;
}

#[tokio::test]
async fn how_all_stand_is_a_table_that_begins_with_what_is_not_well() {
    emulated("plugin-status", async |s| {
        one_well_one_not(s).await;
        let user = User::of_namespace(s).await;
        let printed = user.plugin(&["status"]);
        let lines: Vec<&str> = printed.ended(1).lines().collect();
        assert_eq!(lines[0], "NAME   READY  FRESH  REASON          SINCE  CHECKED  MESSAGE");
        assert!(lines[1].starts_with("wrong  False  False  SourceNotFound  ") && lines[1].ends_with("..."), "{}", lines[1]);
        assert!(lines[2].starts_with("good   True   True   Mirrored        ") && lines[2].ends_with("2 keys from 1 source"), "{}", lines[2]);
        assert_eq!((lines[3], lines.len()), ("1 well, 1 not", 4));
        assert!(lines.iter().all(|line| line.len() <= 80), "{lines:#?}");
        // As wide as whoever shows it says.
        let wide = User { environment: vec![("COLUMNS", "400".to_owned())], ..User::of_namespace(s).await };
        says(wide.plugin(&["status"]).ended(1), "Secrets Manager has no such secret in this region");

        assert!(user.plugin(&["status", "good"]).ended(0).ends_with("\n1 well\n"));
        let printed = user.plugin(&["status", "good", "none"]);
        says(printed.failed(1), &format!("robotosecret: there is no RobotoSecret none in the namespace {}", s.namespace));
        says(&printed.out, "1 well");
        let told: Value = serde_json::from_str(user.plugin(&["status", "-o", "json"]).ended(1)).unwrap();
        assert_eq!((&told["well"], &told["notWell"], &told["items"][0]["name"]), (&json!(1), &json!(1), &json!("wrong")));
        assert_eq!((&told["items"][0]["reason"], &told["items"][1]["ready"]), (&json!("SourceNotFound"), &json!("True")));
        assert!(told["items"][1]["checked"].as_str().unwrap().ends_with('Z'));

        let told = "robotosecret: robotosecrets can't be listed in all namespaces: forbidden; name a namespace that you may see, with -n NAMESPACE\n";
        assert_eq!(user.plugin(&["status", "-A"]).failed(3), told);
        says(user.plugin(&["status", "-n", "default"]).failed(3), "robotosecrets can't be listed in the namespace default: forbidden; name a namespace");
        assert_eq!(user.plugin(&["status", "-A", "good"]).code, 2);
        let admin = User::admin(s);
        let printed = admin.plugin(&["status", "--all-namespaces"]);
        says(&printed.out, "NAMESPACE");
        // Whatever other tests have in the cluster.
        assert!(printed.out.lines().all(|line| line.len() <= 80), "{}", printed.out);
        let printed = User { environment: wide.environment.clone(), ..User::admin(s) }.plugin(&["status", "--all-namespaces"]);
        says(&printed.out, &format!("{}  ", s.namespace));
        assert_eq!(admin.plugin(&["status"]).ended(0), "no RobotoSecrets in the namespace default\n");
    })
    .await;
}

#[tokio::test]
async fn a_terminal_gets_colours_and_as_wide_a_table_as_it_is() {
    emulated("plugin-terminal", async |s| {
        one_well_one_not(s).await;
        let kubeconfig = world().plane.kubeconfig().display().to_string();
        let typed = format!("stty cols 150 rows 40; exec {} status --kubeconfig {kubeconfig} -n {}", plugin().display(), s.namespace);
        // Of util-linux: it runs a command before a terminal of its own.
        let in_terminal = |no_color: &str| {
            let mut command = Command::new("script");
            command.args(["--quiet", "--return", "--command", &typed, "/dev/null"]).env("TERM", "xterm").env("NO_COLOR", no_color).env_remove("COLUMNS");
            let output = command.stdin(std::process::Stdio::null()).output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        let coloured = in_terminal("");
        says(&coloured, "wrong  \u{1b}[31mFalse\u{1b}[0m  ");
        says(&coloured, "\u{1b}[31m1 well, 1 not\u{1b}[0m");
        let plain = in_terminal("1");
        assert!(!plain.contains('\u{1b}'), "{plain:?}");
        let longest = plain.lines().map(|line| line.trim_end().len()).max().unwrap();
        assert!((140..=150).contains(&longest), "{longest}: {plain}");
    })
    .await;
}

#[tokio::test]
async fn kubectl_finds_it_and_it_finds_the_cluster_as_kubectl_does() {
    emulated("plugin-way", async |s| {
        one_well_one_not(s).await;
        let user = User::admin(s);
        let kubectl = world().plane.kubectl().arg("robotosecret").args(["status", "good", "-n", &s.namespace]).env("PATH", plugin().parent().unwrap()).output();
        let kubectl = kubectl.unwrap();
        assert!(kubectl.status.success(), "{}", String::from_utf8_lossy(&kubectl.stderr));
        says(&String::from_utf8(kubectl.stdout).unwrap(), "1 well");
        // Under its own name it has them beside its other commands.
        let binary = Path::new(env!("CARGO_BIN_EXE_robotosecret"));
        says(user.run(binary, &["status", "good", "-n", &s.namespace]).ended(0), "1 well");
        let (own, plugins) = (user.run(binary, &["--help"]), user.plugin(&["--help"]));
        assert!(own.out.contains("\n  get ") && own.out.contains("\n  status "), "{}", own.out);
        assert!(!plugins.out.contains("\n  get ") && plugins.out.contains("Usage: kubectl robotosecret <COMMAND>"), "{}", plugins.out);
        // A copy does as well.
        let copy = world().dir.join("bin-copy").join("kubectl-robotosecret");
        std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
        // By another process: what this one has open to write, its other children would hold open, and then it can't be run.
        assert!(Command::new("cp").args([binary, &copy]).status().unwrap().success());
        says(user.run(&copy, &["status", "good", "-n", &s.namespace]).ended(0), "1 well");

        let path = user.kubeconfig.to_str().unwrap();
        let nowhere = User { scene: s, kubeconfig: world().dir.join("none"), environment: Vec::new() };
        says(nowhere.there(&["status", "good", "--kubeconfig", path]).ended(0), "1 well");
        says(nowhere.there(&["status", "good", "--kubeconfig", path, "--context", "testbed"]).ended(0), "1 well");
        says(nowhere.there(&["status", "--kubeconfig", path, "--context", "nonsense"]).failed(5), "the kubeconfig has no context nonsense");
        says(nowhere.there(&["status", "--kubeconfig", "/nowhere"]).failed(5), "the kubeconfig /nowhere can't be read");
        // As kubectl does it: of several files those that are there.
        for list in [format!("/nowhere:{path}"), format!("{path}:/nowhere")] {
            says(User { scene: s, kubeconfig: list.into(), environment: Vec::new() }.there(&["status", "good"]).ended(0), "1 well");
        }
        let mut without: Value = serde_json::from_slice(&std::fs::read(&user.kubeconfig).unwrap()).unwrap();
        without["current-context"] = json!("");
        let without_path = world().dir.join(format!("{}.without.kubeconfig", s.namespace));
        std::fs::write(&without_path, without.to_string()).unwrap();
        let printed = User { scene: s, kubeconfig: without_path.clone(), environment: Vec::new() }.there(&["status", "good"]);
        says(printed.failed(5), "the kubeconfig has no");
        std::fs::remove_file(without_path).unwrap();
        let mut gone: Value = serde_json::from_slice(&std::fs::read(&user.kubeconfig).unwrap()).unwrap();
        gone["clusters"][0]["cluster"]["server"] = json!("https://127.0.0.1:1");
        let gone_path = world().dir.join(format!("{}.gone.kubeconfig", s.namespace));
        std::fs::write(&gone_path, gone.to_string()).unwrap();
        let printed = nowhere.there(&["status", "--kubeconfig", gone_path.to_str().unwrap()]);
        assert_eq!(printed.failed(4), "robotosecret: robotosecrets can't be listed: the API server can't be reached\n");
        std::fs::remove_file(gone_path).unwrap();
    })
    .await;
}

#[tokio::test]
async fn the_cluster_is_found_behind_a_proxy() {
    emulated("plugin-proxy", async |s| {
        one_well_one_not(s).await;
        let proxy = Proxy::start(Some(world().plane.url().strip_prefix("https://").unwrap()));
        let status = ["status", "good"];
        let mut config: Value = serde_json::from_slice(&std::fs::read(User::admin(s).kubeconfig).unwrap()).unwrap();
        // A name that nothing but the proxy leads to.
        config["clusters"][0]["cluster"]["server"] = json!("https://api.example.test:6443");
        config["clusters"][0]["cluster"]["tls-server-name"] = json!("127.0.0.1");
        let path = world().dir.join(format!("{}.far.kubeconfig", s.namespace));
        let far = |proxy_url: Option<&str>, environment: &[(&'static str, &str)]| {
            config["clusters"][0]["cluster"]["proxy-url"] = json!(proxy_url);
            std::fs::write(&path, config.to_string()).unwrap();
            User { scene: s, kubeconfig: path.clone(), environment: environment.iter().map(|(name, value)| (*name, (*value).to_owned())).collect() }
        };
        let mut far = far;
        let (address, url) = (proxy.address.as_str(), format!("http://{}", proxy.address));
        for named in [url.as_str(), address] {
            says(far(None, &[("HTTPS_PROXY", named), ("NO_PROXY", "127.0.0.1,.other.test")]).there(&status).ended(0), "1 well");
            let asked = proxy.asked();
            assert!(!asked.is_empty() && asked.iter().all(|head| head.starts_with("CONNECT api.example.test:6443 ")), "{asked:?}");
        }
        for direct in ["api.example.test", "*.example.test", "api.example.test:6443", "*"] {
            assert_eq!(
                far(None, &[("HTTPS_PROXY", address), ("NO_PROXY", direct)]).there(&status).failed(4),
                "robotosecret: the RobotoSecret good can't be read: the API server can't be reached\n"
            );
        }
        let mut near = User::admin(s);
        near.environment = vec![("HTTPS_PROXY", url.clone())];
        says(near.there(&status).ended(0), "1 well");
        assert_eq!(proxy.asked(), [""; 0], "what is to be called directly, and what is on this machine");
        for unusable in ["socks5://127.0.0.1:1", "http://a b"] {
            near.environment = vec![("HTTPS_PROXY", unusable.to_owned())];
            says(near.there(&status).ended(0), "1 well");
        }
        // What the kubeconfig says goes before that.
        says(far(Some(&url), &[("HTTPS_PROXY", "http://127.0.0.1:1"), ("NO_PROXY", "127.0.0.1,api.example.test")]).there(&status).ended(0), "1 well");
        assert!(!proxy.asked().is_empty());
        let closed = Proxy::start(None);
        let said = far(None, &[("HTTPS_PROXY", &format!("http://us:{CANARY}@{}", closed.address))]).there(&status);
        says(said.failed(4), &format!("the API server can't be reached through the proxy {} (proxy-url of the kubeconfig, or HTTPS_PROXY", closed.address));
        let socks = format!("socks5://us:{CANARY}@{address}");
        let unusable = [
            (Some(socks.as_str()), &[][..], "this program can use those of http and https alone"),
            (None, &[("HTTPS_PROXY", socks.as_str())], "HTTPS_PROXY names no proxy that can be used"),
            (None, &[("HTTPS_PROXY", "http://a b")], "HTTPS_PROXY names no proxy that can be used"),
            (None, &[("HTTPS_PROXY", url.as_str()), ("NO_PROXY", "a,")], "NO_PROXY can't be understood"),
            (Some("http://us er"), &[], "the kubeconfig's proxy-url is no address"),
        ];
        for (proxy_url, environment, said) in unusable {
            let printed = far(proxy_url, environment).there(&status);
            let told = printed.failed(5);
            says(told, said);
            assert!(!told.contains(CANARY), "{told}");
        }
        std::fs::remove_file(&path).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_refresh_is_waited_for_and_says_what_came_of_it() {
    emulated("plugin-refresh", async |s| {
        one_well_one_not(s).await;
        let user = User::of_namespace(s).await;
        assert_eq!(user.plugin(&["refresh", "good", "--wait"]).ended(0), "good: refreshed, nothing changed: Mirrored: 2 keys from 1 source\n");
        s.put_secret("db", &json!({"username": s.value("user"), "password": s.value("another")}).to_string()).await;
        assert_eq!(user.plugin(&["refresh", "good", "--wait=30s"]).ended(0), "good: refreshed, the Secret changed: Mirrored: 2 keys from 1 source\n");
        s.holds("good", &[("password", &s.value("another")), ("username", &s.value("user"))], Duration::from_secs(1)).await;
        says(user.plugin(&["refresh", "wrong", "--wait"]).ended(1), "wrong: asked, and not well: SourceNotFound: aws.sm://");
        let printed = user.plugin(&["refresh", "--all", "--wait"]);
        assert!(printed.ended(1).contains("good: refreshed, nothing changed") && printed.out.contains("wrong: asked, and not well"), "{}", printed.out);
        assert_eq!(user.plugin(&["refresh", "good"]).ended(0), "good: refresh requested\n");
        says(user.plugin(&["refresh", "none", "good"]).failed(1), "there is no RobotoSecret none");
        says(user.plugin(&["refresh"]).failed(2), "<NAMES|--all>");
        says(user.run(Path::new(env!("CARGO_BIN_EXE_robotosecret")), &["refresh"]).failed(2), "missing: <NAMES|--all>; see --help");
        assert_eq!(user.plugin(&["refresh", "good", "--all"]).code, 2);
        for wait in [&[][..], &["--wait"]] {
            let typo = [&["refresh", "--all", "-n", "typo"], wait].concat();
            assert_eq!(User::admin(s).plugin(&typo).failed(0), "No RobotoSecrets found in namespace typo.\n");
        }
        assert_eq!(user.plugin(&["refresh", "good", "--wait=soon"]).code, 2);
        // Nobody is there to do it.
        s.patch("wrong", json!({"spec": {"suspend": true}})).await;
        assert_eq!(user.plugin(&["refresh", "wrong", "--wait"]).ended(1), "wrong: not refreshed: it is suspended; resume it\n");
        assert_eq!(user.plugin(&["refresh", "wrong"]).ended(0), "wrong: refresh requested; it is suspended, so nothing is read before it is resumed\n");
        // What it may not do, it says.
        let rules = json!([{"apiGroups": ["robotosecret.dev"], "resources": ["robotosecrets"], "verbs": ["get", "list"]}]);
        let reader = User::with(s, "reader", rules).await;
        says(reader.plugin(&["refresh", "good"]).failed(3), "the RobotoSecret good can't be annotated: forbidden");
        let rules = json!([{"apiGroups": ["robotosecret.dev"], "resources": ["robotosecrets"], "verbs": ["get", "list", "patch"]}]);
        let blind = User::with(s, "blind", rules).await;
        // What is done by the first list needs no watch.
        s.controller().process.signal(testbed::process::Signal::Stop).unwrap();
        let said = blind.plugin(&["refresh", "good", "--wait"]);
        s.controller().process.signal(testbed::process::Signal::Cont).unwrap();
        says(said.failed(3), "robotosecrets can't be watched: forbidden");
    })
    .await;
}

#[tokio::test]
async fn a_refresh_that_nobody_carries_out_is_waited_for_no_longer_than_told() {
    emulated("plugin-timeout", async |s| {
        one_well_one_not(s).await;
        s.stop_controller();
        let started = std::time::Instant::now();
        let printed = User::of_namespace(s).await.plugin(&["refresh", "good", "--wait=2s"]);
        assert_eq!(printed.ended(4), "good: not carried out within 2s; does the controller run, and serve this namespace?\n");
        assert!(started.elapsed() >= Duration::from_secs(2));
    })
    .await;
}

#[tokio::test]
async fn suspending_and_resuming_say_what_happened() {
    emulated("plugin-suspend", async |s| {
        one_well_one_not(s).await;
        let user = User::of_namespace(s).await;
        let field = async || s.resources().get("good").await.unwrap().spec.suspend;
        let before = s.resources().get("good").await.unwrap().spec;
        says(user.plugin(&["suspend", "good"]).ended(0), "good: suspended; nothing is read");
        assert!(field().await);
        s.condition("good", "Fresh", "Unknown Suspended", SECONDS).await;
        let printed = user.plugin(&["suspend", "good", "wrong"]);
        assert!(printed.ended(0).starts_with("good: is suspended already\nwrong: suspended; "), "{}", printed.out);
        assert!(user.plugin(&["status", "good"]).ended(0).contains("Suspended"));
        assert_eq!(user.plugin(&["resume", "good"]).ended(0), "good: resumed\n");
        assert_eq!(s.resources().get("good").await.unwrap().spec, before, "nothing but this field");
        s.condition("good", "Fresh", "True Verified", SECONDS).await;
        assert_eq!(user.plugin(&["resume", "good"]).ended(0), "good: is not suspended\n");
        says(user.plugin(&["suspend", "none"]).failed(1), "there is no RobotoSecret none");
        let rules = json!([{"apiGroups": ["robotosecret.dev"], "resources": ["robotosecrets"], "verbs": ["get", "list"]}]);
        says(User::with(s, "reader", rules).await.plugin(&["suspend", "good"]).failed(3), "the RobotoSecret good can't be changed: forbidden");
    })
    .await;
}

/// A pod, an account and an Ingress that use a Secret.
async fn use_it(s: &Scene, secret: &str) {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": s.namespace},
        "spec": {
            "containers": [{"name": "web", "image": "web", "env": [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": secret, "key": "password"}}}]}],
            "volumes": [{"name": "conf", "secret": {"secretName": secret}}],
        },
    });
    // The namespace's ServiceAccount comes some moments after the namespace.
    until("a pod can be made", SECONDS, async || apply_object(&s.client, &pod).await.ok()).await;
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "puller", "namespace": s.namespace}, "imagePullSecrets": [{"name": secret}]});
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let ingress = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "front", "namespace": s.namespace},
        "spec": {"tls": [{"secretName": secret}], "defaultBackend": backend},
    });
    apply_object(&s.client, &account).await.unwrap();
    apply_object(&s.client, &ingress).await.unwrap();
}

#[tokio::test]
async fn one_is_explained_from_its_provider_to_its_users() {
    emulated("plugin-explain", async |s| {
        one_well_one_not(s).await;
        use_it(s, "good").await;
        s.event("good", "Mirrored").await;
        let admin = User::admin(s);
        let printed = admin.there(&["explain", "good"]);
        let page = printed.ended(0);
        let length = |suffix: &str| s.value(suffix).len();
        for part in [
            format!("RobotoSecret {}/good: well\n  Ready is True, since ", s.namespace),
            "\n    2 keys from 1 source\n".to_owned(),
            format!("\nClusterRobotoProvider {}\n  reads aws in {} as arn:aws:", s.namespace, testbed::aws::REGION),
            "\n  Ready is True: Identified, ".to_owned(),
            format!("\nReferences\n  aws.sm://{}\n    allowed by allow[0], *\n    version ", s.path("db")),
            format!("\n    makes password ({} bytes), username ({} bytes)\n", length("password"), length("user")),
            format!(
                "\nSecret good\n  this RobotoSecret's alone, type Opaque\n  password: {} bytes\n  username: {} bytes\n",
                length("password"),
                length("user")
            ),
            "\nUsed by\n  Ingress front (tls)\n  Pod web (env PASSWORD, volume conf)\n  ServiceAccount puller (imagePullSecrets)\n".to_owned(),
            " Normal Mirrored: ".to_owned(),
        ] {
            says(page, &part);
        }
        assert!(!page.contains("what helps"), "{page}");
        let printed = admin.there(&["explain", "wrong"]);
        for part in [
            ": not well\n  Ready is False, since ",
            "Secrets Manager has no such secret in this region",
            "\n    what helps: check the name, and where it is looked for (region, account, mount, organisation); put it back; or delete the resource\n",
            "\n    was never read\n    makes a key for each member that it has\n",
            "\nSecret wrong\n  it isn't there\n\nUsed by\n  nobody that was found\n",
        ] {
            says(printed.ended(0), part);
        }
        // Whoever may see less is told what.
        let user = User::of_namespace(s).await;
        let printed = user.plugin(&["explain", "good"]);
        for part in [
            format!("the ClusterRobotoProvider {} can't be read: forbidden\n", s.namespace).as_str(),
            "whether it is allowed is not known: the provider can't be seen",
            "    makes password, username\n",
            "the Secret good can't be read: forbidden\n  the controller wrote 2 keys: password, username\n",
            "  Pod web (env PASSWORD, volume conf)\n  serviceaccounts can't be listed: forbidden\n  ingresses can't be listed: forbidden\n",
            "events can't be listed: forbidden\n",
        ] {
            says(printed.ended(0), part);
        }
        says(user.plugin(&["explain", "none"]).failed(1), "there is no RobotoSecret none");
        // What the provider doesn't allow, and one that isn't there.
        s.provide(&["aws.sm://elsewhere/*"]).await;
        let condition = s.condition("good", "Ready", "False NotAllowed", SECONDS).await;
        says(&condition, "allow");
        let printed = admin.there(&["explain", "good"]);
        says(printed.ended(0), &format!("not allowed: no rule in its allow lets the namespace {} read aws.sm://{}", s.namespace, s.path("db")));
        says(&printed.out, "what helps: add what the message says is missing, or name another provider");
        s.apply("lost", "{uri: 'aws.sm://x', provider: {kind: RobotoProvider, name: none}}").await;
        s.condition("lost", "Ready", "False ProviderNotFound", SECONDS).await;
        says(admin.there(&["explain", "lost"]).ended(0), "\nRobotoProvider none\n  it isn't there\n");
    })
    .await;
}

#[tokio::test]
async fn the_keys_are_compared_and_never_printed() {
    emulated("plugin-diff", async |s| {
        one_well_one_not(s).await;
        let mut admin = User::admin(s);
        admin.environment = vec![
            ("AWS_ACCESS_KEY_ID", testbed::aws::ACCESS_KEY_ID.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", testbed::aws::SECRET_ACCESS_KEY.to_owned()),
            ("AWS_REGION", testbed::aws::REGION.to_owned()),
            ("AWS_ENDPOINT_URL", s.emulator().url()),
        ];
        let table = "KEY       VERDICT  WHY\npassword  equal\nusername  equal\n2 equal\n";
        says(admin.there(&["diff", "good"]).ended(0), table);
        says(admin.there(&["diff", "good", "--source"]).ended(0), table);
        let printed = admin.there(&["diff", "wrong"]);
        assert!(printed.ended(1).ends_with("the controller has not written it yet.\nno keys\n"), "{}", printed.out);
        // Somebody else's Secret, and one that is shared.
        for (name, key) in [("theirs", "password"), ("shared", "greeting")] {
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": s.namespace}, "data": {key: "aGVsbG8="}});
            apply_object(&s.client, &secret).await.unwrap();
        }
        let entry = json!({"key": "password", "uri": format!("aws.sm://{}#/password", s.path("db"))});
        s.apply("theirs", &json!({"data": [entry]}).to_string()).await;
        s.apply("shared", &json!({"data": [entry], "target": {"creationPolicy": "Merge"}}).to_string()).await;
        s.condition("theirs", "Ready", "False TargetNotOwned", SECONDS).await;
        s.ready("shared").await;
        let printed = admin.there(&["diff", "theirs"]);
        says(printed.ended(1), "a Secret theirs exists and is not this RobotoSecret's");
        assert!(printed.out.ends_with("\npassword  unknown\n1 unknown\n"), "{}", printed.out);
        for arguments in [&["diff", "shared"][..], &["diff", "shared", "--source"]] {
            let printed = admin.there(arguments);
            assert!(printed.ended(0).ends_with("KEY       VERDICT  WHY\npassword  equal\n1 equal\n"), "{}", printed.out);
        }
        let length = s.value("password").len();
        let told = format!("\nSecret shared\n  shared with others, type Opaque\n  password: {length} bytes\n  the keys of others are left out\n");
        says(admin.there(&["explain", "shared"]).ended(0), &told);
        let printed = admin.there(&["explain", "theirs"]);
        says(printed.ended(0), "\n    makes password\n\nSecret theirs\n  a Secret theirs exists and is not this RobotoSecret's");
        assert!(!printed.out.contains(" byte") && !printed.out.contains("Opaque"), "{}", printed.out);
        says(admin.there(&["diff", "wrong", "--source"]).failed(1), "Secrets Manager has no such secret");
        let user = User::of_namespace(s).await;
        let printed = user.plugin(&["diff", "good"]);
        says(printed.ended(1), "the Secret good can't be read: forbidden\n");
        says(&printed.out, "password  unknown\nusername  unknown\n2 unknown\n");
    })
    .await;
}

#[tokio::test]
async fn what_others_did_to_a_secret_shows_in_its_keys() {
    emulated("plugin-drift", async |s| {
        one_well_one_not(s).await;
        s.stop_controller();
        s.tamper("good", "somebody", json!({"data": {"password": "YQ==", "more": "Yg=="}})).await;
        s.put_secret("db", &json!({"username": s.value("user"), "password": s.value("password"), "third": s.value("3")}).to_string()).await;
        let mut admin = User::admin(s);
        admin.environment =
            vec![("AWS_ACCESS_KEY_ID", testbed::aws::ACCESS_KEY_ID.to_owned()), ("AWS_SECRET_ACCESS_KEY", testbed::aws::SECRET_ACCESS_KEY.to_owned())];
        let printed = admin.there(&["diff", "good"]);
        says(printed.ended(1), "more      extra    it was put in by somebody\npassword  differs  it was last written by somebody\nusername  equal\n");
        says(&printed.out, "\n1 equal, 1 differs, 1 extra\n");
        let (url, region) = (s.emulator().url(), testbed::aws::REGION);
        let printed = admin.there(&["diff", "good", "--source", "--endpoint", &url, "--region", region]);
        says(printed.ended(1), "more      extra\npassword  differs\nthird     missing\nusername  equal\n1 equal, 1 differs, 1 missing, 1 extra\n");
        s.tamper("good", "somebody", json!({"data": {"username": null}})).await;
        says(admin.there(&["diff", "good"]).ended(1), "username  missing  it was taken out\n");
        s.secrets().delete("good", &DeleteParams::default()).await.unwrap();
        says(admin.there(&["diff", "good"]).ended(1), "password  missing  there is no such Secret\n");
    })
    .await;
}

#[tokio::test]
async fn what_the_stores_hold_is_made_as_the_controller_makes_it() {
    emulated("plugin-source", async |s| {
        s.put_secret("db", &json!({"user": s.value("user"), "password": s.value("password")}).to_string()).await;
        s.put_parameter("app/one", &s.value("one")).await;
        s.put_parameter("app/two", &s.value("two")).await;
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tpl", "namespace": s.namespace}, "data": {"conf": "{{ password }}!"}});
        apply_object(&s.client, &map).await.unwrap();
        s.apply(
            "templated",
            &json!({
                "uri": format!("aws.sm://{}", s.path("db")),
                "target": {"template": {
                    "data": {"dsn": "mysql://{{ user }}:{{ password }}@db"}, "from": [{"configMap": {"name": "tpl", "key": "conf"}}],
                    "metadata": {"labels": {"of": "{{ name }}"}},
                }},
            })
            .to_string(),
        )
        .await;
        s.apply("many", &json!({"ttl": "1h", "dataFrom": [{"byPath": {"uri": format!("aws.ps:///{}", s.path("app"))}}]}).to_string()).await;
        s.ready("templated").await;
        s.ready("many").await;
        let mut admin = User::admin(s);
        admin.environment = vec![
            ("AWS_ACCESS_KEY_ID", testbed::aws::ACCESS_KEY_ID.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", testbed::aws::SECRET_ACCESS_KEY.to_owned()),
            ("AWS_REGION", testbed::aws::REGION.to_owned()),
            ("AWS_ENDPOINT_URL", s.emulator().url()),
        ];
        says(admin.there(&["diff", "templated", "--source"]).ended(0), "conf  equal\ndsn   equal\n2 equal\n");
        says(admin.there(&["diff", "templated"]).ended(0), "conf  equal\ndsn   equal\n2 equal\n");
        says(admin.there(&["diff", "many", "--source"]).ended(0), "one  equal\ntwo  equal\n2 equal\n");
        let page = admin.there(&["explain", "many"]);
        says(page.ended(0), &format!("found aws.ps:///{}", s.path("app/one")));
        says(&page.out, "may be searched; each name that it finds is compared with allow");
        says(admin.there(&["explain", "templated"]).ended(0), "templates make dsn, conf\n");
        // What was added since, and what the controller will not read.
        s.put_parameter("app/three", &s.value("three")).await;
        says(admin.there(&["diff", "many", "--source"]).ended(1), "one    equal\nthree  missing\ntwo    equal\n");
        s.provide(&[&format!("aws.ps:///{}", s.path("app/one"))]).await;
        says(admin.there(&["diff", "many", "--source"]).ended(1), "one  equal\ntwo  extra\n");
    })
    .await;
}

#[tokio::test]
async fn a_tree_leads_from_providers_to_users() {
    emulated("plugin-tree", async |s| {
        one_well_one_not(s).await;
        use_it(s, "good").await;
        let admin = User::admin(s);
        let tree = format!(
            "ClusterRobotoProvider {}: Identified\n\
             |-- RobotoSecret good: Mirrored\n\
             |   `-- Secret good: 2 keys\n\
             |       |-- Ingress front (tls)\n\
             |       |-- Pod web (env PASSWORD, volume conf)\n\
             |       `-- ServiceAccount puller (imagePullSecrets)\n\
             `-- RobotoSecret wrong: SourceNotFound\n    `-- Secret wrong: not written yet\n",
            s.namespace
        );
        assert_eq!(admin.there(&["tree"]).ended(0), tree);
        let user = User { environment: vec![("LC_ALL", "C.UTF-8".to_owned())], ..User::of_namespace(s).await };
        assert_eq!(
            user.plugin(&["tree", "good"]).ended(0),
            format!(
                "ClusterRobotoProvider {}: can't be seen\n└── RobotoSecret good: Mirrored\n    └── Secret good: 2 keys\n        └── Pod web (env PASSWORD, volume conf)\n\
                 serviceaccounts can't be listed: forbidden\ningresses can't be listed: forbidden\n",
                s.namespace
            )
        );
        says(user.plugin(&["tree", "none"]).failed(1), "there is no RobotoSecret none");
        says(user.plugin(&["tree", "-A"]).failed(3), "robotosecrets can't be listed in all namespaces: forbidden");
        says(admin.plugin(&["tree", "-A"]).ended(0), &format!("RobotoSecret {}/good: Mirrored", s.namespace));
        assert_eq!(admin.plugin(&["tree"]).ended(0), "no RobotoSecrets\n");
    })
    .await;
}

#[tokio::test]
async fn pushes_are_shown_explained_refreshed_and_suspended_under_their_own_names() {
    push::pushing("plugin-push", &["read", "write"], async |s| {
        let (id, taken) = (s.path("db"), s.path("taken"));
        push::secret(s, "db", json!({"password": s.value("one")})).await;
        s.put_secret("taken", &s.value("theirs")).await;
        let to = |id: &str| json!({"secretName": "db", "ttl": "1h", "data": [{"key": "password", "uri": format!("aws.sm://{id}")}]});
        push::push(s, "db", to(&id)).await;
        push::push(s, "taken", to(&taken)).await;
        push::ready(s, "db", "True Pushed", SECONDS).await;
        push::ready(s, "taken", "False TargetNotOwned", SECONDS).await;
        s.apply("db", &json!({"uri": format!("aws.sm://{}", s.path("none")), "target": {"name": "mirror"}}).to_string()).await;
        s.condition("db", "Ready", "False SourceNotFound", SECONDS).await;
        let user = User::admin(s);
        let all = user.there(&["status"]);
        let lines: Vec<&str> = all.ended(1).lines().collect();
        assert!(lines[1].starts_with("db          False  False  SourceNotFound"), "{}", lines[1]);
        assert!(lines[2].starts_with("push/taken  False  False  TargetNotOwned") && lines[3].starts_with("push/db     True   True   Pushed"), "{lines:#?}");
        assert_eq!(lines[4], "1 well, 2 not");
        assert_eq!(user.there(&["status", "push/db"]).ended(0).lines().count(), 3, "one name, two kinds");
        assert_eq!(user.there(&["status", "push/none"]).failed(1), format!("robotosecret: there is no RobotoPush none in the namespace {}\n", s.namespace));

        let page = user.there(&["explain", "rpush/taken"]);
        let page = page.ended(0);
        for part in [
            &format!("RobotoPush {}/taken: not well", s.namespace),
            "compared every 1h",
            &format!("password: {} bytes", s.value("one").len()),
            &format!("aws.sm://{taken}"),
            "TargetNotOwned: aws.sm://",
            "what helps: ",
            "Warning CheckFailed: TargetNotOwned",
        ] {
            says(page, part);
        }
        let tree = user.there(&["tree"]);
        says(tree.ended(0), &format!("|-- RobotoPush db: Pushed\n|   `-- Secret db\n|       `-- aws.sm://{id}: version "));

        // Whoever may see these alone is shown them.
        let rules = json!([{"apiGroups": ["robotosecret.dev"], "resources": ["robotopushes"], "verbs": ["get", "list", "watch"]}]);
        let few = User::with(s, "pushes-alone", rules).await;
        for (command, code, part) in [("status", 1, "push/db     True   True   Pushed"), ("tree", 0, "RobotoPush db: Pushed")] {
            let printed = few.plugin(&[command]);
            assert_eq!(printed.code, code, "{command}: {}", printed.err);
            says(&printed.out, part);
            says(&printed.err, &format!("robotosecrets can't be listed in the namespace {}: forbidden", s.namespace));
        }

        // What somebody changed there is put back at once when that is asked for.
        world().moto.secrets_manager().put_secret_value().secret_id(&id).secret_string("theirs").send().await.unwrap();
        assert_eq!(
            user.there(&["refresh", "push/db", "--wait"]).ended(0),
            "push/db: refreshed, the store changed: Pushed: 1 target holds what the Secret holds\n"
        );
        says(user.there(&["refresh", "push/taken", "--wait"]).ended(1), "push/taken: asked, and not well: TargetNotOwned");
        says(
            user.there(&["suspend", "push/db"]).ended(0),
            "push/db: suspended; nothing is read and nothing is written until it is resumed, and the store stays as it is",
        );
        says(user.there(&["refresh", "push/db", "--wait"]).ended(1), "push/db: not refreshed: it is suspended");
        assert_eq!(user.there(&["resume", "push/db"]).ended(0), "push/db: resumed\n");
        assert_eq!(user.there(&["refresh", "push/db"]).ended(0), "push/db: refresh requested\n");
    })
    .await;
}
