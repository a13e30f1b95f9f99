//! The chart and the image as an administrator meets them: what they render, what they refuse, and that the binary takes it.

use std::process::Command;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::PostParams};
use serde_json::{Value, json};
use testbed::{
    binaries::{Tool, find},
    chart::documents,
};

use crate::support::{Said, apply_object, kubectl, root, run, says, scene_before_controller, world};

const CHART: &str = "charts/robotosecret";

fn helm(arguments: &[&str]) -> Said {
    run(Command::new(find(Tool::Helm).unwrap()).args(arguments).current_dir(root()), "")
}

/// Renders the chart with these values, given as `--set-json` takes them.
fn template(namespace: &str, values: &[&str]) -> Said {
    let set: Vec<&str> = values.iter().flat_map(|value| ["--set-json", *value]).collect();
    helm(&[&["template", "robotosecret", CHART, "--namespace", namespace], set.as_slice()].concat())
}

const PROVIDER: &str = r#"defaultProvider={"enabled": true, "region": "eu-west-1", "endpoints": {"sts": "https://sts.example.com"}, "limits": {"ssmReads": 900},
    "allow": [{"namespaces": {"names": ["shop"]}, "references": ["aws.sm://prod/shop/**"]}]}"#;

/// Every switch of the values, alone or with what belongs to it. `NS` stands for a namespace that is there.
const SWITCHES: &[&[&str]] = &[
    &[],
    &[r#"image={"repository": "registry.example.com/robotosecret", "tag": "1.2.3", "pullPolicy": "Always"}"#, r#"imagePullSecrets=[{"name": "registry"}]"#],
    &[r#"image.digest="sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef""#],
    &[r#"serviceAccount={"name": "reader", "annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/robotosecret"}}"#],
    &["serviceAccount.create=false"],
    &["rbac.create=false"],
    &[r#"rbac={"scope": "namespaces", "namespaces": ["NS", "default"]}"#],
    &[r#"logLevel="info,robotosecret=debug""#, r#"logFormat="text""#, r#"statusInterval="1h30m""#, "concurrency=65535"],
    &[r#"extraEnv=[{"name": "AWS_REGION", "value": "eu-west-1"}]"#, r#"podLabels={"team": "a"}"#, r#"podAnnotations={"note": "b"}"#],
    &[r#"nodeSelector={"disk": "ssd"}"#, r#"tolerations=[{"operator": "Exists"}]"#, r#"affinity={"nodeAffinity": {}}"#, "resources={}"],
    &["crds.install=false"],
    &["rollout.enabled=true"],
    &["rollout.enabled=true", r#"rbac={"scope": "namespaces", "namespaces": ["NS"]}"#],
    &[PROVIDER],
];

#[tokio::test]
async fn every_switch_renders_what_the_api_server_and_the_binary_take() {
    scene_before_controller("chart", async |s| {
        // Pods that break the restricted standard are refused here, and workloads that would make such pods get a warning.
        let levels = json!({"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"});
        apply_object(&s.client, &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": s.namespace, "labels": levels}})).await.unwrap();
        for switch in SWITCHES {
            let values: Vec<String> = switch.iter().map(|value| value.replace("NS", &s.namespace)).collect();
            let rendered = template(&s.namespace, &values.iter().map(String::as_str).collect::<Vec<_>>());
            assert!(rendered.ok && rendered.err.is_empty(), "{switch:?}: {rendered:?}");
            // Without a namespace of its own: what belongs into the release's must say so itself.
            let said = kubectl(&world().plane, &["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-"], &rendered.out);
            let objects = documents(&rendered.out).unwrap();
            assert!(said.ok && said.err.is_empty() && said.out.lines().count() == objects.len(), "{switch:?}: {said:?}");
            let namespaced = objects.iter().filter(|object| ["Deployment", "Service", "ServiceAccount"].contains(&object["kind"].as_str().unwrap()));
            assert!(namespaced.clone().count() >= 2 && namespaced.clone().all(|object| object["metadata"]["namespace"] == s.namespace.as_str()), "{switch:?}");

            let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
            let container = &deployment["spec"]["template"]["spec"]["containers"][0];
            let arguments: Vec<&str> = container["args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap()).collect();
            let mut binary = Command::new(env!("CARGO_BIN_EXE_robotosecret"));
            let said = run(binary.args(&arguments).env_clear().env("KUBECONFIG", "/nobody/kubeconfig"), "");
            assert!(!said.ok && said.err.contains("no way to an API server"), "{arguments:?}: {said:?}");
            let listen = arguments.iter().find_map(|argument| argument.strip_prefix("--listen=0.0.0.0:")).unwrap();
            assert_eq!(container["ports"][0], json!({"name": "http", "containerPort": listen.parse::<u16>().unwrap()}));
            let probe = |name: &str| container[name]["httpGet"].clone();
            assert_eq!(
                [probe("livenessProbe"), probe("readinessProbe")],
                [json!({"path": "/livez", "port": "http"}), json!({"path": "/readyz", "port": "http"})]
            );
            assert_eq!(container["env"][0]["name"], "POD_NAME");
        }
    })
    .await;
}

#[tokio::test]
async fn the_pod_meets_the_restricted_standard() {
    scene_before_controller("restricted", async |s| {
        let levels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        apply_object(&s.client, &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": s.namespace, "labels": levels}})).await.unwrap();
        let objects = documents(&template(&s.namespace, &[]).out).unwrap();
        let of_kind = |kind: &str| objects.iter().find(|object| object["kind"] == kind).unwrap();
        apply_object(&s.client, of_kind("ServiceAccount")).await.unwrap();
        let mut pod = of_kind("Deployment")["spec"]["template"].clone();
        pod["metadata"]["name"] = json!("controller");
        let pods: Api<Pod> = Api::namespaced(s.client.clone(), &s.namespace);
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        pods.create(&dry_run, &serde_json::from_value(pod.clone()).unwrap()).await.unwrap();
        // That this namespace would not take just any pod.
        pod["spec"]["containers"][0]["securityContext"] = Value::Null;
        let refused = pods.create(&dry_run, &serde_json::from_value(pod).unwrap()).await.unwrap_err().to_string();
        says(&refused, "violates PodSecurity \"restricted");
    })
    .await;
}

#[test]
fn the_chart_passes_helms_strict_lint() {
    let namespaces = r#"rbac={"scope": "namespaces", "namespaces": ["shop"]}"#;
    for values in [&[][..], &["--set-json", namespaces], &["--set-json", PROVIDER], &["--set", "rollout.enabled=true"]] {
        let said = helm(&[&["lint", "--strict", CHART], values].concat());
        assert!(said.ok, "{values:?}: {said:?}");
        says(&said.out, "0 chart(s) failed");
    }
}

#[test]
fn values_that_mean_nothing_are_refused() {
    for (value, field) in [
        ("replicas=2", "replicas"),
        (r#"image.repo="x""#, "repo"),
        (r#"image.repository="""#, "repository"),
        (r#"image.digest="sha256:12""#, "digest"),
        (r#"image.pullPolicy="Sometimes""#, "pullPolicy"),
        (r#"rbac.scope="namespace""#, "scope"),
        (r#"rbac.scope="namespaces""#, "namespaces"),
        (r#"rbac.namespaces=["shop"]"#, "namespaces"),
        (r#"rbac={"scope": "namespaces", "namespaces": ["Shop"]}"#, "namespaces"),
        (r#"rbac={"scope": "namespaces", "namespaces": ["shop", "shop"]}"#, "namespaces"),
        (r#"logFormat="xml""#, "logFormat"),
        (r#"logLevel="""#, "logLevel"),
        (r#"logLevel="verbose""#, "logLevel"),
        (r#"statusInterval="1d""#, "statusInterval"),
        ("concurrency=0", "concurrency"),
        (r#"concurrency="many""#, "concurrency"),
        (r#"extraArgs="--x""#, "extraArgs"),
        (r#"extraEnv=[{"value": "x"}]"#, "extraEnv"),
        ("serviceAccount.annotation={}", "annotation"),
        ("crds.keep=false", "keep"),
        (r#"rollout.enabled="yes""#, "rollout"),
        ("rollout.quiet=10", "quiet"),
        ("defaultProvider.enabled=true", "defaultProvider"),
        (r#"defaultProvider={"enabled": true, "region": "eu-west-1"}"#, "allow"),
        (r#"defaultProvider={"enabled": true, "region": "", "allow": [{"namespaces": {"all": true}}]}"#, "region"),
        (r#"defaultProvider={"endpoints": {"s3": "https://x"}}"#, "s3"),
        (r#"defaultProvider={"limits": {"ssmReads": 0}}"#, "ssmReads"),
        (r#"defaultProvider={"limits": {"kms": 5}}"#, "kms"),
    ] {
        let said = template("default", &[value]);
        assert!(!said.ok && said.err.contains(field), "{value}: {said:?}");
    }
}

#[test]
fn workloads_are_out_of_reach_unless_rollout_is_enabled_and_then_guarded() {
    let rendered = |values: &[&str]| {
        let said = template("here", values);
        assert!(said.ok, "{said:?}");
        documents(&said.out).unwrap()
    };
    let touches_workloads = |object: &Value| object["rules"].as_array().is_some_and(|rules| rules.iter().any(|rule| rule["apiGroups"] == json!(["apps"])));
    let policies = |objects: &[Value]| objects.iter().filter(|object| object["kind"].as_str().unwrap().starts_with("ValidatingAdmission")).count();
    let off = rendered(&[]);
    assert!(!off.iter().any(touches_workloads) && policies(&off) == 0);
    for (scope, kind) in [(r#"rbac.scope="cluster""#, "ClusterRole"), (r#"rbac={"scope": "namespaces", "namespaces": ["shop"]}"#, "Role")] {
        let on = rendered(&["rollout.enabled=true", scope]);
        let roles: Vec<&Value> = on.iter().filter(|object| touches_workloads(object)).collect();
        assert!(roles.len() == 1 && roles[0]["kind"] == kind && policies(&on) == 2, "{roles:#?}");
        let rules: Vec<&Value> = roles[0]["rules"].as_array().unwrap().iter().filter(|rule| rule["apiGroups"] == json!(["apps"])).collect();
        assert_eq!(rules, [&json!({"apiGroups": ["apps"], "resources": ["deployments", "statefulsets", "daemonsets"], "verbs": ["patch"]})]);
    }
    // Whoever writes the roles gets the guard all the same.
    assert_eq!(policies(&rendered(&["rollout.enabled=true", "rbac.create=false"])), 2);
}

/// The build itself takes too long for a test; what it needs to begin is looked at.
#[test]
fn the_image_is_built_from_files_that_are_there_and_reach_the_build() {
    let text = std::fs::read_to_string(root().join("Dockerfile")).unwrap();
    let ignored = std::fs::read_to_string(root().join(".dockerignore")).unwrap();
    let kept: Vec<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    assert!(ignored.lines().any(|line| line == "*") && !kept.is_empty());
    let context = testbed::TempFolder::new("image").unwrap();
    let mut copied = 0;
    for line in text.lines().filter(|line| line.starts_with("COPY ") && !line.contains("--from=")) {
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        let (target, sources) = words.split_last().unwrap();
        for source in sources {
            assert!(root().join(source).exists(), "{line}");
            assert!(kept.contains(source), ".dockerignore keeps {source} from the build");
            if !target.starts_with('/') {
                let into = context.path().join(target);
                std::fs::create_dir_all(if target.ends_with('/') { &into } else { into.parent().unwrap() }).unwrap();
                assert!(run(Command::new("cp").arg("-r").arg(root().join(source)).arg(&into), "").ok);
            }
            copied += 1;
        }
    }
    assert!(copied >= 5, "{copied}");
    // Cargo finds all that the manifests name in what was copied, and the lock file fits. What only other platforms need was never fetched.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let metadata = ["metadata", "--locked", "--offline", "--format-version=1", "--filter-platform", &platform];
    let cargo = run(Command::new(env!("CARGO")).args(metadata).current_dir(context.path()), "");
    assert!(cargo.ok, "{}", cargo.err);
    let toolchain = std::fs::read_to_string(root().join("rust-toolchain.toml")).unwrap();
    let version = toolchain.lines().find_map(|line| line.strip_prefix("channel = \"")?.strip_suffix('"')).unwrap();
    says(&text, &format!("FROM rust:{version}-"));
    says(&text, &format!("ARG VERSION={}", env!("CARGO_PKG_VERSION")));
    let chart: Value = serde_yaml::from_str(&std::fs::read_to_string(root().join(CHART).join("Chart.yaml")).unwrap()).unwrap();
    assert_eq!((&chart["version"], &chart["appVersion"]), (&json!(env!("CARGO_PKG_VERSION")), &json!(env!("CARGO_PKG_VERSION"))));
}
