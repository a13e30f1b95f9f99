//! Running the controller: its command line, its pages, its logs, and the rights that it needs.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use testbed::{
    ControlPlane, Front, Process, chart, install,
    process::{Signal, Spec},
};

use crate::support::{
    Controller, SECONDS, Said, Scene, WITHIN_TTL, apply_object, emulated_elsewhere, kubectl, root, run, says, scene, scene_before_controller, until, world,
};

const FLAGS: [(&str, &str); 17] = [
    ("--listen", "ROBOTOSECRET_LISTEN"),
    ("--namespaces", "ROBOTOSECRET_NAMESPACES"),
    ("--log-level", "ROBOTOSECRET_LOG_LEVEL"),
    ("--log-format", "ROBOTOSECRET_LOG_FORMAT"),
    ("--status-interval", "ROBOTOSECRET_STATUS_INTERVAL"),
    ("--concurrency", "ROBOTOSECRET_CONCURRENCY"),
    ("--allow-rollout", "ROBOTOSECRET_ALLOW_ROLLOUT"),
    ("--confined", "ROBOTOSECRET_CONFINED"),
    ("--push-namespaces", "ROBOTOSECRET_PUSH_NAMESPACES"),
    ("--lease", "ROBOTOSECRET_LEASE"),
    ("--resource-metrics", "ROBOTOSECRET_RESOURCE_METRICS"),
    ("--cluster-robotosecrets", "ROBOTOSECRET_CLUSTER_ROBOTOSECRETS"),
    ("--allow-ambient-providers", "ROBOTOSECRET_ALLOW_AMBIENT_PROVIDERS"),
    ("--token-audiences", "ROBOTOSECRET_TOKEN_AUDIENCES"),
    ("--allowed-endpoints", "ROBOTOSECRET_ALLOWED_ENDPOINTS"),
    ("--pod-namespace", "POD_NAMESPACE"),
    ("--otlp-endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT"),
];

/// The program with these arguments and this environment and nothing else.
fn program(arguments: &[&str], environment: &[(&str, &str)]) -> Said {
    run(Command::new(env!("CARGO_BIN_EXE_robotosecret")).args(arguments).env_clear().envs(environment.iter().copied()), "")
}

#[test]
fn the_help_names_each_flag_and_its_environment_variable() {
    let help = program(&["--help"], &[]).out;
    for part in ["Mirrors secrets from where they live into Kubernetes Secrets", "controller", "crds", "--version"] {
        says(&help, part);
    }
    let help = program(&["controller", "--help"], &[]).out;
    let document = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    for (flag, variable) in FLAGS {
        let entry = help.split("\n      --").find(|entry| entry.split_whitespace().next() == flag.strip_prefix("--")).unwrap_or_default();
        says(entry, &format!("[env: {variable}=]"));
        says(&document, &format!("| `{flag}` | `{variable}` |"));
    }
    let flags: BTreeSet<&str> = help.split_whitespace().filter(|word| word.starts_with("--") && *word != "--help").collect();
    assert_eq!(flags, FLAGS.iter().map(|(flag, _)| *flag).collect(), "a flag that this test and docs/operations.md don't know");
    assert_eq!(program(&["--version"], &[]).out, format!("robotosecret {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_wrong_setting_is_refused_with_what_to_write_instead() {
    for (flag, variable, value, message) in [
        ("--listen", "ROBOTOSECRET_LISTEN", "8080", "invalid socket address"),
        ("--status-interval", "ROBOTOSECRET_STATUS_INTERVAL", "1d", "a duration such as 10s, 5m or 1h"),
        ("--concurrency", "ROBOTOSECRET_CONCURRENCY", "0", "0 is not in 1..=65535"),
        ("--concurrency", "ROBOTOSECRET_CONCURRENCY", "many", "invalid digit"),
        ("--log-format", "ROBOTOSECRET_LOG_FORMAT", "xml", "[possible values: json, text]"),
        // Read as the name of a module, these would turn all logs off.
        ("--log-level", "ROBOTOSECRET_LOG_LEVEL", "verbose", "error, warn, info, debug, trace or off, or a target with one of them"),
        ("--log-level", "ROBOTOSECRET_LOG_LEVEL", "warning", "error, warn, info"),
        ("--log-level", "ROBOTOSECRET_LOG_LEVEL", "info,kube=loud", "error, warn, info"),
        ("--otlp-endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317", "a URL of http or https"),
        ("--otlp-endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT", "https://user:password@collector", "without user, query or fragment"),
        ("--namespaces", "ROBOTOSECRET_NAMESPACES", "Shop", "names of namespaces, separated by commas; where there are none to name, leave the flag out"),
        ("--namespaces", "ROBOTOSECRET_NAMESPACES", "shop,", "names of namespaces"),
        ("--namespaces", "ROBOTOSECRET_NAMESPACES", "", "names of namespaces"),
        ("--namespaces", "ROBOTOSECRET_NAMESPACES", "*", "names of namespaces"),
    ] {
        for said in [program(&["controller", &format!("{flag}={value}")], &[]), program(&["controller"], &[(variable, value)])] {
            assert!(!said.ok, "{flag}={value} is taken");
            says(&said.err, message);
            says(&said.err, flag);
            assert!(!said.err.contains("password"), "{}", said.err);
        }
    }
    says(&program(&[], &[]).err, "Usage: robotosecret <COMMAND>");
    says(&program(&["controller", "--leader-elect"], &[]).err, "unexpected argument '--leader-elect'");
    says(&program(&["controller"], &[("KUBECONFIG", "/nobody/kubeconfig")]).err, "no way to an API server");
    // What OpenTelemetry's variables ask for beside that cannot be met is passed over, and not shown.
    let otlp = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"), ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"), ("OTEL_EXPORTER_OTLP_HEADERS", "a=token")];
    let said = program(&["controller"], &otlp).err;
    assert!(said.contains("no way to an API server") && !said.contains("token"), "{said}");
    says(&program(&["crds", "--dir", "/nobody/crds"], &[]).err, "writing /nobody/crds/robotosecrets.yaml");
}

#[test]
fn an_address_that_is_taken_ends_the_program() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let kubeconfig = world().kubeconfig.display().to_string();
    let said = program(&["controller", "--listen", &taken.local_addr().unwrap().to_string(), "--namespaces", "nobody"], &[("KUBECONFIG", &kubeconfig)]);
    assert!(!said.ok);
    says(&said.err, "Address already in use");
}

#[test]
fn a_way_to_the_api_server_that_is_none_is_told_without_its_password() {
    const PASSWORD: &str = "cAnArY-66b1";
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&world().kubeconfig).unwrap()).unwrap();
    let path = world().dir.join("no-way.kubeconfig");
    let kubeconfig = path.display().to_string();
    let run = |more: &[(&str, &str)]| program(&["controller", "--listen", "127.0.0.1:0"], &[&[("KUBECONFIG", kubeconfig.as_str())], more].concat());
    let socks = format!("socks5://us:{PASSWORD}@127.0.0.1:1");
    config["clusters"][0]["cluster"]["server"] = serde_json::json!("https://api.example.test");
    std::fs::write(&path, config.to_string()).unwrap();
    let by_environment = run(&[("HTTPS_PROXY", &socks)]);
    let broken = run(&[("HTTPS_PROXY", &format!("http://us:{PASSWORD}#@127.0.0.1:1"))]);
    config["clusters"][0]["cluster"]["proxy-url"] = serde_json::json!(socks);
    std::fs::write(&path, config.to_string()).unwrap();
    let by_file = run(&[]);
    std::fs::write(&path, format!("clusters: {PASSWORD}")).unwrap();
    let unreadable = run(&[]);
    std::fs::remove_file(path).unwrap();
    let all = [
        (by_environment, "HTTPS_PROXY names no proxy that can be used"),
        (broken, "HTTPS_PROXY names no proxy that can be used"),
        (by_file, "this program can use those of http and https alone"),
        (unreadable, "the kubeconfig can't be used"),
    ];
    for (said, part) in all {
        assert!(!said.ok);
        says(&format!("{}{}", said.out, said.err), part);
        assert!(!said.out.contains(PASSWORD) && !said.err.contains(PASSWORD), "{said:?}");
    }
}

/// Starts the program with an environment only.
fn start(dir: &Path, kubeconfig: &Path, environment: &[(&str, &str)]) -> Controller {
    let [port] = testbed::port::free().unwrap();
    let mut spec = Spec::new(env!("CARGO_BIN_EXE_robotosecret")).name("controller").arg("controller").env_clear();
    for (name, value) in environment {
        spec = spec.env(name, value);
    }
    let process: Process = spec
        .env("ROBOTOSECRET_LISTEN", format!("127.0.0.1:{port}"))
        .env("KUBECONFIG", kubeconfig)
        .env("AWS_ACCESS_KEY_ID", testbed::aws::ACCESS_KEY_ID)
        .env("AWS_SECRET_ACCESS_KEY", testbed::aws::SECRET_ACCESS_KEY)
        .start(dir)
        .unwrap();
    Controller { process, port }
}

/// Waits for a page that holds all of these parts, with this status.
async fn page(controller: &Controller, path: &str, status: u16, parts: &[&str]) -> String {
    let mut last = (0, String::new());
    let limit = Duration::from_secs(90);
    let started = Instant::now();
    while started.elapsed() < limit {
        last = controller.page(path);
        if last.0 == status && parts.iter().all(|part| last.1.contains(part)) {
            return last.1;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{path} is not {status} {parts:?} within {limit:?} but {last:?}; {}", controller.process.log_tail());
}

#[tokio::test]
async fn settings_may_come_from_the_environment_and_json_logs_are_an_object_a_line() {
    scene_before_controller("environment", async |s| {
        let value = s.value("a");
        s.put_secret("db", &value).await;
        s.provide(&["*"]).await;
        // A name that stands twice, and spaces, as hand-written lists have them.
        let namespaces = format!("{}, {}", s.namespace, s.namespace);
        let dir = world().dir.join(&s.namespace);
        let environment =
            [("ROBOTOSECRET_NAMESPACES", namespaces.as_str()), ("ROBOTOSECRET_LOG_LEVEL", "warn,robotosecret=debug"), ("ROBOTOSECRET_LOG_FORMAT", "json")];
        s.controller = Some(start(&dir, &world().kubeconfig, &environment));
        s.apply("db", &format!("uri: aws.sm://{}", s.path("db"))).await;
        s.apply("wrong", &format!("uri: aws.sm://{}", s.path("nobody"))).await;
        s.holds("db", &[("value", &value)], SECONDS).await;
        s.condition("wrong", "Ready", "False SourceNotFound", SECONDS).await;
        let log = s.controller().process.log_path().to_owned();
        assert_eq!(s.stop_controller(), 0);
        let log = std::fs::read_to_string(log).unwrap();
        let lines: Vec<BTreeMap<String, Value>> =
            log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
        // Nobody says what a reader makes of an object that has a field twice.
        assert!(log.lines().all(|line| line.matches("\"message\":").count() == 1), "{log}");
        let failed: Vec<_> = lines.iter().filter(|line| line["message"] == "check failed" && line["reason"] == "SourceNotFound").collect();
        assert_eq!(failed.len(), 1, "{log}");
        for (field, expected) in [("level", "WARN"), ("namespace", s.namespace.as_str()), ("name", "wrong"), ("reason", "SourceNotFound")] {
            assert_eq!(failed[0][field], expected, "{failed:?}");
        }
        assert!(failed[0].contains_key("timestamp") && failed[0]["detail"].as_str().unwrap().contains("ResourceNotFoundException"), "{failed:?}");
        let synced = lines.iter().filter(|line| line["message"].as_str().is_some_and(|message| message.contains("caches are synced"))).count();
        assert_eq!(synced, 1, "a namespace that stands twice is served once");
        assert!(lines.iter().any(|line| line["level"] == "DEBUG") && lines.iter().any(|line| line["message"] == "stopped"), "{log}");
    })
    .await;
}

#[tokio::test]
async fn the_pages_tell_health_and_the_documented_metrics() {
    scene("pages", async |s| {
        s.put_secret("db", &s.value("a")).await;
        s.put_parameter("p", &s.value("b")).await;
        s.apply("db", &format!("data: [{{key: a, uri: 'aws.sm://{}'}}, {{key: b, uri: 'aws.ps:///{}'}}]", s.path("db"), s.path("p"))).await;
        // With a stage, it is never read in company.
        s.apply("wrong", &format!("{{uri: 'aws.sm://{}?version-stage=AWSPREVIOUS', ttl: 15m}}", s.path("nobody"))).await;
        s.ready("db").await;
        s.condition("wrong", "Ready", "False SourceNotFound", SECONDS).await;
        s.event("wrong", "CheckFailed").await;
        let controller = s.controller();
        assert_eq!(controller.page("/livez"), (200, "ok\n".to_owned()));
        assert_eq!(controller.page("/readyz"), (200, "ok\n".to_owned()));
        assert_eq!(controller.page("/").0, 404);
        for (metric, labels, expected) in [
            ("robotosecret_resources", "", 2.0),
            ("robotosecret_mirrored", "", 1.0),
            ("robotosecret_fresh", "", 1.0),
            ("robotosecret_provider_calls_total", "api=\"GetParameter\",outcome=\"ok\"", 1.0),
            ("robotosecret_provider_calls_total", "api=\"GetSecretValue\",outcome=\"SourceNotFound\"", 1.0),
            ("robotosecret_kube_writes_total", "kind=\"Secret\",outcome=\"ok\"", 1.0),
            ("robotosecret_reconcile_panics_total", "", 0.0),
        ] {
            let is = controller.metric(metric, labels);
            assert!(if expected > 0.0 && metric.ends_with("_total") { is >= expected } else { (is - expected).abs() < 0.5 }, "{metric}{{{labels}}} is {is}");
        }
        let age = controller.metric("robotosecret_oldest_check_age_seconds", "");
        assert!((0.0..120.0).contains(&age), "{age}");
        let (_, text) = controller.page("/metrics");
        assert!(!text.contains(&s.namespace), "a label holds a name\n{text}");
        // The text log: a line an event, without colours in a file.
        let log = controller.process.log().unwrap();
        assert!(!log.contains('\u{1b}') && log.lines().all(|line| line.starts_with("20") && line.contains("Z ")), "{log}");
    })
    .await;
}

#[tokio::test]
async fn without_its_roles_the_controller_says_so_and_with_those_of_its_namespaces_it_works() {
    scene_before_controller("own-roles", async |s| {
        let plane = &world().plane;
        let (first, second) = (s.value("a"), s.value("b"));
        s.put_secret("db", &first).await;
        s.provide(&["*"]).await;
        let namespaces = format!("rbac.namespaces={{{}}}", s.namespace);
        let rbac = chart::rbac(&root().join("charts/robotosecret"), &s.namespace, &["rbac.scope=namespaces", &namespaces]).unwrap();
        let (accounts, roles): (Vec<_>, Vec<_>) = rbac.objects.iter().partition(|object| object["kind"] == "ServiceAccount");
        apply_object(&s.client, accounts[0]).await.unwrap();
        let kubeconfig = plane.kubeconfig_for(&s.namespace, &rbac.service_account).unwrap();
        s.start_controller_as(&kubeconfig, &[]);
        let waits =
            |what: &str, place: &str| format!("waiting for {what}: the controller's ServiceAccount may not list and watch it; check its roles{place}\n");
        let here_only = format!(" (namespace {})", s.namespace);
        let expected =
            [waits("clusterrobotoproviders.robotosecret.dev", ""), waits("robotosecrets.robotosecret.dev", &here_only), waits("secrets", &here_only)];
        page(s.controller(), "/readyz", 503, &expected.iter().map(String::as_str).collect::<Vec<_>>()).await;
        assert_eq!(s.controller().page("/livez").0, 200);
        for role in roles {
            apply_object(&s.client, role).await.unwrap();
        }
        page(s.controller(), "/readyz", 200, &["ok"]).await;

        // Each kind of request that it makes: create, apply, delete, status, events.
        s.apply("db", &format!("uri: aws.sm://{}", s.path("db"))).await;
        s.holds("db", &[("value", &first)], SECONDS).await;
        s.put_secret("db", &second).await;
        s.refresh("db", "1").await;
        s.holds("db", &[("value", &second)], SECONDS).await;
        // An edit that comes before this is told would leave nothing to tell but itself.
        s.event("db", "Updated").await;
        s.patch("db", json!({"spec": {"target": {"name": "renamed"}}})).await;
        s.holds("renamed", &[("value", &second)], SECONDS).await;
        until("the old Secret is gone", SECONDS, async || s.data("db").await.is_none().then_some(())).await;
        s.event("db", "Removed").await;
        s.ready("db").await;
        // The words for a request that was refused; one that an edit overtook is none of them.
        let log = s.controller().process.log().unwrap();
        let ready = log.split_once("caches are synced").unwrap().1;
        for refused in ["could not be written", "could not be published", "could not be removed", "KubernetesError", "watching failed"] {
            assert!(!ready.contains(refused), "{refused:?} is in {ready}");
        }
        s.patch("db", json!({"spec": {"target": {"type": "example.com/other"}}})).await;
        let type_ = async || (s.secrets().get_opt("renamed").await.unwrap()?.type_.as_deref() == Some("example.com/other")).then_some(());
        until("the Secret has its new type", SECONDS, type_).await;
        s.ready("db").await;

        // What the roles don't give: anything in another namespace, and anything else.
        let account = format!("--as=system:serviceaccount:{}:{}", s.namespace, rbac.service_account);
        let may = |question: &str| {
            let said = kubectl(plane, &[&["auth", "can-i", &account][..], &question.split(' ').collect::<Vec<_>>()].concat(), "");
            assert!(["yes", "no"].contains(&said.out.trim()), "{question}: {said:?}");
            said.ok
        };
        let here = |question: &str| may(&format!("{question} -n {}", s.namespace));
        // Events about what has no namespace lie in `default`.
        assert!(here("create events.events.k8s.io") && may("create events.events.k8s.io -n default") && !may("create events.events.k8s.io -A"));
        for question in ["create secrets", "patch secrets", "delete secrets", "list robotosecrets.robotosecret.dev", "update robotosecrets.robotosecret.dev"] {
            assert!(here(question) && !may(&format!("{question} -n default")) && !may(&format!("{question} -A")), "{question}");
        }
        for question in ["get pods", "update configmaps", "update secrets", "create serviceaccounts/token"] {
            assert!(!here(question), "{question}");
        }
        for question in ["update clusterrobotoproviders.robotosecret.dev", "list customresourcedefinitions", "get namespaces"] {
            assert!(!may(question), "{question}");
        }
        for object in rbac.objects.iter().filter(|object| object["kind"].as_str().unwrap().starts_with("Cluster")) {
            let (kind, name) = (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
            assert!(kubectl(plane, &["delete", kind, name], "").ok);
        }
    })
    .await;
}

#[tokio::test]
async fn a_namespace_that_is_gone_keeps_a_new_controller_from_serving_no_other_and_is_served_when_it_is_back() {
    scene_before_controller("one-gone", async |s| {
        let plane = &world().plane;
        s.put_secret("db", &s.value("db")).await;
        s.provide(&["*"]).await;
        let (here, gone) = (s.namespace.clone(), format!("{}-gone", s.namespace));
        let all = json!({"spec": {"allow": [{"namespaces": {"names": [here, gone]}, "references": ["*"]}]}});
        s.providers().patch(&here, &PatchParams::default(), &Patch::Merge(&all)).await.unwrap();
        let both = format!("{{{here},{gone}}}");
        let values = [&format!("rbac.namespaces={both}")[..], "rbac.scope=namespaces", "push.enabled=true", &format!("push.namespaces={both}")];
        assert!(kubectl(plane, &["create", "namespace", &gone], "").ok);
        let kubeconfig = s.account(&values, |_| true).await;
        // With the namespace, what was in it went: the Roles, too.
        assert!(kubectl(plane, &["delete", "namespace", &gone], "").ok);
        let push = format!("{here},{gone}");
        s.start_controller_as(&kubeconfig, &["--namespaces", &gone, "--push-namespaces", &push]);
        s.controller_ready().await;
        let spec = format!("uri: aws.sm://{}", s.path("db"));
        s.apply("db", &spec).await;
        s.holds("db", &[("value", &s.value("db"))], SECONDS).await;
        assert!(kubectl(plane, &["create", "namespace", &gone], "").ok);
        let mut resource = s.resource("db", &spec);
        resource["metadata"]["namespace"] = json!(gone);
        apply_object(&s.client, &resource).await.unwrap();
        s.account(&values, |_| true).await;
        let secrets: Api<Secret> = Api::namespaced(s.client.clone(), &gone);
        until("it is served again", SECONDS, async || secrets.get_opt("db").await.unwrap().map(|_| ())).await;
        assert!(kubectl(plane, &["delete", "namespace", &gone, "--wait=false"], "").ok);
    })
    .await;
}

/// A control plane besides the world's.
async fn own_plane(dir: &Path) -> ControlPlane {
    let dir = dir.to_owned();
    tokio::task::spawn_blocking(move || ControlPlane::start(&dir).unwrap()).await.unwrap()
}

/// A cluster of its own, since what happens here would meddle with the other tests: no CRDs at first, then a controller of all namespaces.
#[tokio::test]
async fn a_controller_without_crds_waits_for_them_and_then_serves_the_whole_cluster_with_the_charts_roles() {
    let dir = world().dir.join("own-cluster");
    let plane = own_plane(&dir).await;
    let client = plane.client().await.unwrap();
    let moto = testbed::Moto::start(&dir).unwrap();
    let (front, canary) = (Front::start(moto.url()).unwrap(), testbed::Canary::new("own-cluster").unwrap());
    assert!(kubectl(&plane, &["create", "namespace", "operators"], "").ok);
    let rbac = chart::rbac(&root().join("charts/robotosecret"), "operators", &[]).unwrap();
    let said = kubectl(&plane, &["apply", "-f", "-"], &rbac.list().to_string());
    assert!(said.ok && said.err.is_empty(), "{said:?}");
    let kubeconfig = plane.kubeconfig_for("operators", &rbac.service_account).unwrap();
    let front_url = front.url();
    // Stands for AWS's own addresses, which the examples' provider relies on.
    let controller = start(&dir, &kubeconfig, &[("AWS_ENDPOINT_URL", front_url.as_str()), ("ROBOTOSECRET_LOG_LEVEL", "debug"), ("POD_NAME", "pod-1")]);
    let waits = |what: &str| format!("waiting for {what}: the API server does not know it; install the CRDs (kubectl apply -f crds/)\n");
    let providers = waits("clusterrobotoproviders.robotosecret.dev") + &waits("robotoproviders.robotosecret.dev");
    let resources = waits("robotosecrets.robotosecret.dev");
    let text = page(&controller, "/readyz", 503, &[&resources, &providers]).await;
    assert!(!text.contains("waiting for secrets: the API"), "{text}");
    assert_eq!(controller.page("/livez").0, 200);
    // Half of them: the page names what is still missing, and only that.
    let said = kubectl(&plane, &["apply", "-f", "crds/robotosecrets.yaml"], "");
    assert!(said.ok && said.err.is_empty(), "{said:?}");
    let half = async || {
        let (status, text) = controller.page("/readyz");
        (status == 503 && text == providers).then_some(())
    };
    until("only the providers are waited for", Duration::from_secs(90), half).await;
    let said = kubectl(&plane, &["apply", "-f", "crds/"], "");
    assert!(said.ok && said.err.is_empty(), "{said:?}");
    page(&controller, "/readyz", 200, &["ok"]).await;

    // The examples, as the README has them applied, in a cluster that knows nothing yet.
    let (user, password, token) = ("root".to_owned(), canary.value("password"), canary.value("token"));
    testbed::examples::store(&moto, &|name| canary.value(name)).await.unwrap();
    let text = json!({"username": user, "password": password}).to_string();
    moto.secrets_manager().put_secret_value().secret_id(testbed::examples::DATABASE).secret_string(text).send().await.unwrap();
    let said = kubectl(&plane, &["apply", "-f", "examples/"], "");
    assert!(said.ok && said.err.is_empty(), "{said:?}");
    for (resource, expected) in [
        ("bigdb", vec![("password", &password), ("username", &user)]),
        ("api-token", vec![("token", &token)]),
        ("bigdb-all", vec![("password", &password), ("username", &user)]),
        ("versions", vec![("first-token", &token), ("password-before", &password), ("username-before", &user)]),
    ] {
        let said = kubectl(&plane, &["wait", "-n", "shop", "--for=condition=Ready", "--timeout=120s", &format!("rsec/{resource}")], "");
        assert!(said.ok, "{said:?}; {}", controller.process.log_tail());
        let secret: k8s_openapi::api::core::v1::Secret = kube::Api::namespaced(client.clone(), "shop").get(resource).await.unwrap();
        let data: Vec<_> = secret.data.unwrap().into_iter().map(|(key, value)| (key, String::from_utf8(value.0).unwrap())).collect();
        assert_eq!(data, expected.into_iter().map(|(key, value)| (key.to_owned(), value.clone())).collect::<Vec<_>>());
    }
    let said =
        kubectl(&plane, &["wait", "-n", "shop", "--for=jsonpath={.status.conditions[0].reason}=SourceNotFound", "--timeout=120s", "rsec/wrong-name"], "");
    assert!(said.ok, "{said:?}");
    // A namespace that was made later is served too; there, nothing is allowed.
    assert!(kubectl(&plane, &["create", "namespace", "later"], "").ok);
    let elsewhere = std::fs::read_to_string(root().join("examples/2-database.yaml")).unwrap().replace("namespace: shop", "namespace: later");
    assert!(kubectl(&plane, &["apply", "-f", "-"], &elsewhere).ok);
    let said = kubectl(&plane, &["wait", "-n", "later", "--for=jsonpath={.status.conditions[0].reason}=NotAllowed", "--timeout=120s", "rsec/bigdb"], "");
    assert!(said.ok, "{said:?}");
    // Every other kind of request: a renamed target, and what goes with its owner.
    assert!(kubectl(&plane, &["patch", "-n", "shop", "rsec/bigdb", "--type=merge", "-p", r#"{"spec":{"target":{"name":"other"}}}"#], "").ok);
    let gone = async || {
        (!kubectl(&plane, &["get", "-n", "shop", "secret/bigdb"], "").ok && kubectl(&plane, &["get", "-n", "shop", "secret/other"], "").ok).then_some(())
    };
    until("the Secret has its new name", SECONDS * 3, gone).await;
    let told = async || kubectl(&plane, &["get", "events", "-n", "shop"], "").out.contains("was removed: the target is now other").then_some(());
    until("the event about it", SECONDS * 3, told).await;

    // The API server's own count: nothing was forbidden once the roles and CRDs were there (a watch of an unknown kind is 404).
    let metrics = kubectl(&plane, &["get", "--raw", "/metrics"], "").out;
    let forbidden: Vec<&str> = metrics.lines().filter(|line| line.starts_with("apiserver_request_total") && line.contains("code=\"403\"")).collect();
    assert!(metrics.contains("apiserver_request_total") && forbidden.is_empty(), "{forbidden:#?}");
    let written = [
        ("log", controller.process.log().unwrap()),
        ("metrics", controller.page("/metrics").1),
        ("resources and events", kubectl(&plane, &["get", "rsec,events,crprov", "-A", "-o", "json"], "").out),
    ];
    let leaks: Vec<String> = written.iter().flat_map(|(what, text)| canary.scan(what, text)).map(|leak| leak.to_string()).collect();
    assert!(leaks.is_empty(), "{leaks:#?}");
    says(&written[2].1, "\"reportingInstance\": \"pod-1\"");
}

#[tokio::test]
async fn a_status_that_is_overtaken_while_the_watch_is_down_is_tried_ever_more_slowly() {
    scene_before_controller("overtaken", async |s| {
        s.provide(&["*"]).await;
        s.put_secret("db", &s.value("1")).await;
        let (door, kubeconfig) = s.door(&s.account(&[], |_| true).await);
        s.start_controller_as(&kubeconfig, &[]);
        s.controller_ready().await;
        s.apply("db", &format!("uri: aws.sm://{}", s.path("db"))).await;
        s.ready("db").await;
        s.condition("db", "Fresh", "True Verified", SECONDS).await;
        // What happens to the resource from here on is not seen: its watch is cut, and may not begin again.
        let is_watch = |rule: &Value| rule["resources"] == json!(["robotosecrets"]) && rule["verbs"].as_array().unwrap().contains(&json!("watch"));
        s.account(&[], |rule| !is_watch(rule)).await;
        door.shut();
        door.open();
        until("its watch is refused", SECONDS * 3, async || s.controller().process.log().unwrap().contains("may not list and watch it").then_some(())).await;
        s.patch("db", json!({"metadata": {"annotations": {"example.com/moved": "yes"}}})).await;
        s.put_secret("db", &s.value("2")).await;
        s.holds("db", &[("value", &s.value("2"))], WITHIN_TTL).await;
        let (reads, since) = (s.reads(&s.path("db")), Instant::now());
        until("it is tried for a while", SECONDS * 2, async || (since.elapsed() > SECONDS).then_some(())).await;
        // Pauses of a quarter of a second, a half, and so on, up to ten seconds.
        let tries = s.reads(&s.path("db")) - reads;
        assert!(tries <= 16, "{tries} reads");
        s.account(&[], |_| true).await;
        let told = async || s.events("db").await.iter().any(|event| event.contains("has a new version")).then_some(());
        until("it is told after all", SECONDS * 4, told).await;
        s.ready("db").await;
    })
    .await;
}

/// How many secrets, and as many parameters, are mirrored while the API server is killed.
const SIDE: usize = 20;

/// Puts a version of all sources, of the emulator at once.
async fn put_all(s: &Scene, version: usize) {
    for n in 0..SIDE {
        s.put_secret(&format!("s-{n}"), &s.value(&format!("s-{n} {version}"))).await;
        s.put_parameter(&format!("p-{n}"), &s.value(&format!("p-{n} {version}"))).await;
    }
}

/// Looks at all Secrets all the time, where the API server answers: none of these is ever missing, made anew, or holds anything but its
/// value's versions, one after the other. Ends with the first that is otherwise.
async fn each_is_there_and_goes_forward(s: &Scene, names: &[String], versions: usize) -> String {
    let mut known: BTreeMap<String, (String, usize)> = BTreeMap::new();
    loop {
        let Ok(all) = s.secrets().list(&kube::api::ListParams::default()).await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let mut seen: BTreeMap<String, _> = all.items.into_iter().map(|secret| (secret.metadata.name.clone().unwrap(), secret)).collect();
        for name in names {
            let Some(secret) = seen.remove(name) else { return format!("{name} is missing") };
            let data: Vec<_> = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, String::from_utf8(value.0).unwrap())).collect();
            let version = (1..=versions).find(|version| data == [("value".to_owned(), s.value(&format!("{name} {version}")))]);
            let Some(version) = version else { return format!("{name} holds {data:?}") };
            let uid = secret.metadata.uid.unwrap();
            let (first, before) = known.entry(name.clone()).or_insert_with(|| (uid.clone(), version));
            if *first != uid || *before > version {
                return format!("{name} was {first} with version {before} and is {uid} with version {version}");
            }
            *before = version;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A cluster of its own, since the other tests would miss its API server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_is_killed_and_started_again_costs_no_key_and_no_flood_of_calls() {
    let mut plane = own_plane(&world().dir.join("own-api-server")).await;
    let client = plane.client().await.unwrap();
    install::crds(&client, &root().join("crds")).await.unwrap();
    let kubeconfig = install::account(&plane, &client, &root().join("charts/robotosecret")).await.unwrap();
    emulated_elsewhere(client, "own-api-server", async |s| {
        s.provide(&["*"]).await;
        put_all(s, 1).await;
        s.start_controller_as(&kubeconfig, &[]);
        s.controller_ready().await;
        let names: Vec<String> = (0..SIDE).flat_map(|n| [format!("s-{n}"), format!("p-{n}")]).collect();
        let spec = |name: &str| {
            let scheme = if name.starts_with("s-") { "aws.sm://" } else { "aws.ps:///" };
            let policy = ["Owner", "Orphan", "Merge"][name[2..].parse::<usize>().unwrap() % 3];
            json!({"data": [{"key": "value", "uri": format!("{scheme}{}", s.path(name))}], "target": {"creationPolicy": policy}})
        };
        s.apply_all(&names, spec).await;
        s.all("Ready", "True Mirrored", SECONDS * 2).await;
        s.front.forget_calls();
        let began = Instant::now();
        let s = &*s;
        let goes_on = async {
            // Out of reach for a while, so that every write fails; then gone for no longer than it takes to start.
            for (round, new, stays_down) in [(2, "new-1", true), (3, "new-2", false)] {
                s.put_secret(new, &s.value(new)).await;
                let id = s.path(new);
                // It is being made: its value is read, and nothing of it is written yet.
                let hold = s.front.hold();
                s.apply(new, &format!("uri: aws.sm://{id}")).await;
                until("the new one is being read", SECONDS, async || (s.reads(&id) > 0).then_some(())).await;
                put_all(s, round).await;
                plane.api_server().signal(Signal::Kill).unwrap();
                plane.api_server().wait_exit(SECONDS).unwrap();
                s.front.remove_fault(hold);
                if stays_down {
                    let failed = || s.controller().metric("robotosecret_kube_writes_total", "kind=\"Secret\",outcome=\"error\"");
                    let tried = async || (failed() >= 40.0).then_some(());
                    until("every write was tried", SECONDS * 4, tried).await;
                }
                tokio::task::block_in_place(|| plane.restart_api_server().unwrap());
                for name in &names {
                    s.holds(name, &[("value", &s.value(&format!("{name} {round}")))], SECONDS * 4).await;
                }
                s.holds(new, &[("value", &s.value(new))], SECONDS * 4).await;
                s.all("Ready", "True Mirrored", SECONDS * 4).await;
                s.all("Fresh", "True Verified", SECONDS * 4).await;
            }
        };
        tokio::select! {
            wrong = each_is_there_and_goes_forward(s, &names, 3) => panic!("{wrong}\n{}", s.log_tail()),
            () = goes_on => {}
        }
        let (calls, took) = (s.front.calls().len(), began.elapsed());
        // A new version is read a few times by each; the retries' pauses grow; and the rechecks share their calls.
        let most = names.len() * 2 * 8 + 10 * (1 + usize::try_from(took.as_secs()).unwrap() / 10);
        assert!(calls <= most, "{calls} calls in {took:?}: {:?}", s.front.totals());
    })
    .await;
}
