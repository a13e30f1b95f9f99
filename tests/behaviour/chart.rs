//! The chart and the image as an administrator meets them: what they render, what they refuse, and that the binary takes it.

use std::{net::SocketAddr, process::Command};

use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod, rbac::v1::Role};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, ListParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use testbed::{
    binaries::{Tool, find},
    chart::documents,
};

use crate::support::{SECONDS, Said, apply_object, kubectl, root, run, says, scene_before_controller, until, world};

const CHART: &str = "charts/robotosecret";

fn helm(arguments: &[&str]) -> Said {
    run(Command::new(find(Tool::Helm).unwrap()).args(arguments).current_dir(root()), "")
}

/// Renders the chart with these values, given as `--set-json` takes them.
pub fn template(namespace: &str, values: &[&str]) -> Said {
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
    &[r#"push={"enabled": true, "namespaces": ["default"]}"#, "rbac.aggregateToUsers=true"],
    &[r#"push={"enabled": true, "namespaces": ["default"]}"#, r#"rbac={"scope": "namespaces", "namespaces": ["NS", "default"]}"#, "confined=true"],
    &["rollout.enabled=true", r#"rbac={"scope": "namespaces", "namespaces": ["NS"]}"#],
    &[PROVIDER],
    &["replicas=2"],
    &["replicas=0"],
    &["podDisruptionBudget.enabled=false"],
    &[r#"podDisruptionBudget.maxUnavailable="50%""#],
    &["rbac.aggregateToUsers=true"],
    &["admissionPolicy.enabled=true"],
    &["confined=true"],
    &["confined=true", "rbac.create=false"],
    &["confined=true", "rollout.enabled=true", r#"rbac={"scope": "namespaces", "namespaces": ["NS"]}"#],
    &[r#"listen={"address": "[::]", "port": 9090}"#],
    &["resourceMetrics=true", r#"otlpEndpoint="http://collector.observability:4318""#],
    &["hostNetwork=true", "listen.port=18080"],
    &[r#"dnsPolicy="Default""#],
    &["networkPolicy.enabled=true"],
    &[NETWORK],
    &[r#"extraArgs=["--namespaces=NS"]"#],
    &[
        r#"extraVolumes=[{"name": "ca", "configMap": {"name": "ca"}}, {"name": "tmp", "emptyDir": {}}]"#,
        r#"extraVolumeMounts=[{"name": "ca", "mountPath": "/etc/ca", "readOnly": true}, {"name": "tmp", "mountPath": "/tmp"}]"#,
    ],
    &["podSecurityContext.runAsUser=1000", "podSecurityContext.fsGroup=1000", "securityContext.privileged=false"],
    &[r#"priorityClassName="system-cluster-critical""#],
    &[r#"topologySpreadConstraints=[{"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}]"#, "replicas=3"],
    &[r#"serviceMonitor={"enabled": true, "labels": {"release": "prometheus"}, "interval": "1m"}"#],
    &[r#"prometheusRule={"enabled": true, "labels": {"release": "prometheus"}, "runbookUrl": "https://example.com/operations.md"}"#],
    &[r#"grafanaDashboard={"enabled": true, "annotations": {"grafana_folder": "Secrets"}}"#],
];

const NETWORK: &str = r#"networkPolicy={"enabled": true, "metricsFrom": [{"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}],
    "dnsTo": [{"ipBlock": {"cidr": "10.0.0.10/32"}}], "httpsTo": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "httpsPorts": [8443],
    "extraEgress": [{"to": [{"podSelector": {}}], "ports": [{"port": 4318}]}]}"#;

/// The objects that the chart renders in the namespace `here` with these values.
fn rendered(values: &[&str]) -> Vec<Value> {
    let said = template("here", values);
    assert!(said.ok, "{values:?}: {said:?}");
    documents(&said.out).unwrap()
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    objects.iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

/// The rules of all roles for a resource.
fn rules<'a>(objects: &'a [Value], resource: &str) -> Vec<&'a Value> {
    let all = objects.iter().filter_map(|object| object["rules"].as_array()).flatten();
    all.filter(|rule| rule["resources"].as_array().unwrap().contains(&json!(resource))).collect()
}

#[tokio::test]
async fn every_switch_renders_what_the_api_server_and_the_binary_take() {
    scene_before_controller("chart", async |s| {
        // Pods that break the restricted standard are refused here, and workloads that would make such pods get a warning.
        let levels = json!({"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"});
        apply_object(&s.client, &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": s.namespace, "labels": levels}})).await.unwrap();
        // The kinds of the Prometheus operator, which not every cluster has.
        let said = kubectl(&world().plane, &["apply", "--server-side", "-f", "tests/behaviour/monitoring.yaml"], "");
        assert!(said.ok, "{said:?}");
        let said = kubectl(&world().plane, &["wait", "--for=condition=Established", "--timeout=60s", "-f", "tests/behaviour/monitoring.yaml"], "");
        assert!(said.ok, "{said:?}");
        for switch in SWITCHES {
            let values: Vec<String> = switch.iter().map(|value| value.replace("NS", &s.namespace)).collect();
            let rendered = template(&s.namespace, &values.iter().map(String::as_str).collect::<Vec<_>>());
            assert!(rendered.ok && rendered.err.is_empty(), "{switch:?}: {rendered:?}");
            // Without a namespace of its own: what belongs into the release's must say so itself.
            let said = kubectl(&world().plane, &["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-"], &rendered.out);
            let objects = documents(&rendered.out).unwrap();
            // The node's network breaks the standard, as its value says.
            let warned = if switch.contains(&"hostNetwork=true") { said.err.contains("host namespaces (hostNetwork=true)") } else { said.err.is_empty() };
            assert!(said.ok && warned && said.out.lines().count() == objects.len(), "{switch:?}: {said:?}");
            let elsewhere = ["Role", "RoleBinding"];
            let namespaced: Vec<&Value> = objects.iter().filter(|object| object["metadata"]["namespace"].is_string()).collect();
            assert!(namespaced.len() >= 3, "{switch:?}");
            for object in namespaced {
                let (kind, namespace) = (object["kind"].as_str().unwrap(), object["metadata"]["namespace"].as_str().unwrap());
                assert!(namespace == s.namespace || (elsewhere.contains(&kind) && namespace == "default"), "{switch:?}: {kind} in {namespace}");
            }
            for object in objects.iter().filter(|object| object["metadata"]["namespace"].is_null()) {
                let kind = object["kind"].as_str().unwrap();
                let of_the_cluster = kind.starts_with("Cluster") || kind.starts_with("Validating") || kind == "CustomResourceDefinition";
                assert!(of_the_cluster, "{switch:?}: a {kind} without a namespace");
            }

            let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
            let container = &deployment["spec"]["template"]["spec"]["containers"][0];
            let arguments: Vec<&str> = container["args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap()).collect();
            let mut binary = Command::new(env!("CARGO_BIN_EXE_robotosecret"));
            let said = run(binary.args(&arguments).env_clear().env("KUBECONFIG", "/nobody/kubeconfig"), "");
            assert!(!said.ok && said.err.contains("no way to an API server"), "{arguments:?}: {said:?}");
            let listen: SocketAddr = arguments.iter().find_map(|argument| argument.strip_prefix("--listen=")).unwrap().parse().unwrap();
            assert_eq!(container["ports"][0], json!({"name": "http", "containerPort": listen.port()}));
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
fn the_chart_passes_helms_strict_lint_with_every_switch() {
    for switch in SWITCHES {
        let values: Vec<String> = switch.iter().map(|value| value.replace("NS", "here")).collect();
        let set: Vec<&str> = values.iter().flat_map(|value| ["--set-json", value]).collect();
        let said = helm(&[&["lint", "--strict", CHART], set.as_slice()].concat());
        assert!(said.ok, "{values:?}: {said:?}");
        says(&said.out, "0 chart(s) failed");
    }
}

#[test]
fn values_that_mean_nothing_are_refused() {
    for (value, field) in [
        ("replica=2", "replica"),
        ("replicas=-1", "replicas"),
        (r#"replicas="two""#, "replicas"),
        ("podDisruptionBudget.maxUnavailable=0", "maxUnavailable"),
        (r#"podDisruptionBudget.maxUnavailable="0%""#, "maxUnavailable"),
        ("podDisruptionBudget.minAvailable=1", "minAvailable"),
        (r#"confined="yes""#, "confined"),
        (r#"admissionPolicy.enabled="yes""#, "admissionPolicy"),
        ("admissionPolicy.enable=true", "enable"),
        ("rbac.aggregate=true", "aggregate"),
        ("listen.port=80", "port"),
        (r#"listen.address="localhost""#, "address"),
        (r#"listen.address="::""#, "address"),
        (r#"hostNetwork={"enabled": true}"#, "hostNetwork"),
        (r#"otlpEndpoint="collector:4318""#, "otlpEndpoint"),
        (r#"otlpEndpoint="http://user:word@collector:4318""#, "otlpEndpoint"),
        (r#"resourceMetrics="some""#, "resourceMetrics"),
        (r#"dnsPolicy="First""#, "dnsPolicy"),
        ("networkPolicy.egress=[]", "egress"),
        ("networkPolicy.httpsPorts=[]", "httpsPorts"),
        (r#"networkPolicy.metricsFrom=[{"namespace": "monitoring"}]"#, "namespace"),
        ("networkPolicy.metricsFrom=[{}]", "metricsFrom"),
        (r#"extraVolumes=[{"emptyDir": {}}]"#, "extraVolumes"),
        (r#"extraVolumeMounts=[{"name": "x"}]"#, "extraVolumeMounts"),
        (r#"topologySpreadConstraints=[{"topologyKey": "rack"}]"#, "topologySpreadConstraints"),
        ("priorityClassName=7", "priorityClassName"),
        (r#"serviceMonitor.interval="often""#, "interval"),
        ("serviceMonitor.scrape=true", "scrape"),
        ("prometheusRule.staleAfterSeconds=0", "staleAfterSeconds"),
        (r#"prometheusRule.selector="{job=\"x\"}""#, "selector"),
        (r#"prometheusRule.runbookUrl="operations.md""#, "runbookUrl"),
        ("grafanaDashboard.labels.x=1", "labels"),
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
        (r#"extraArgs=["--lease=here/other"]"#, "extraArgs"),
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

#[test]
fn two_releases_of_one_name_have_no_object_in_common() {
    let objects = |release: &str| {
        let served = format!("{release}-team");
        let values = [
            &format!(r#"rbac={{"scope": "namespaces", "namespaces": ["{served}"]}}"#)[..],
            &format!(r#"push={{"enabled": true, "namespaces": ["{served}"]}}"#),
            "confined=true",
            "rollout.enabled=true",
            "clusterRobotoSecrets.enabled=true",
            "admissionPolicy.enabled=true",
        ];
        let said = template(release, &values);
        assert!(said.ok, "{said:?}");
        let places = documents(&said.out).unwrap().into_iter().map(|object| {
            let of = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
            // What names no namespace is put into the release's, or has none.
            let is_everybodys = object["kind"].as_str().unwrap().starts_with("Cluster") || object["kind"].as_str().unwrap().starts_with("Validating");
            let namespace = if of("namespace").is_empty() && !is_everybodys { release.to_owned() } else { of("namespace") };
            format!("{} {namespace}/{}", object["kind"].as_str().unwrap(), of("name"))
        });
        places.collect::<std::collections::BTreeSet<String>>()
    };
    let (here, there) = (objects("here"), objects("there"));
    assert!(here.len() > 10 && here.is_disjoint(&there), "{:?}", here.intersection(&there).collect::<Vec<_>>());
}

#[test]
fn secrets_are_read_to_be_pushed_only_where_that_is_switched_on() {
    let about_pushes = |objects: &[Value]| rules(objects, "robotopushes").len() + rules(objects, "robotopushes/status").len();
    let pushes = |objects: &[Value]| of_kind(objects, "Deployment").to_string().contains("--push-namespaces");
    for off in [&[][..], &[r#"push={"enabled": false, "namespaces": ["shop"]}"#]] {
        let objects = rendered(off);
        assert_eq!((about_pushes(&objects), pushes(&objects)), (0, false));
    }
    // In that mode nothing else reads a Secret.
    let on = rendered(&["confined=true", r#"push={"enabled": true, "namespaces": ["shop", "store"]}"#]);
    assert!(of_kind(&on, "Deployment").to_string().contains("\"--push-namespaces=shop,store\""));
    let reads = |rule: &Value| rule["resources"] == json!(["secrets"]) && rule["verbs"].as_array().unwrap().contains(&json!("get"));
    let readers: Vec<&Value> = on.iter().filter(|object| object["rules"].as_array().is_some_and(|rules| rules.iter().any(reads))).collect();
    let places: Vec<(&Value, &Value)> = readers.iter().map(|role| (&role["kind"], &role["metadata"]["namespace"])).collect();
    assert_eq!(places, [(&json!("Role"), &json!("shop")), (&json!("Role"), &json!("store"))]);
    for role in readers {
        let secrets: Vec<&Value> = role["rules"].as_array().unwrap().iter().filter(|rule| rule["resources"] == json!(["secrets"])).collect();
        assert_eq!(secrets, [&json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch"]})]);
    }
    for wrong in
        [&["push.enabled=true"][..], &[r#"push={"enabled": true, "namespaces": ["shop"]}"#, r#"rbac={"scope": "namespaces", "namespaces": ["store"]}"#]]
    {
        let said = template("here", wrong);
        assert!(!said.ok && said.err.contains("push"), "{said:?}");
    }
}

/// Beside what a workload's own test above looks at: that no network policy is believed in where none holds.
#[test]
fn values_that_contradict_each_other_are_refused() {
    let said = template("here", &["hostNetwork=true", "networkPolicy.enabled=true"]);
    assert!(!said.ok && said.err.contains("networkPolicy"), "{said:?}");
    assert!(template("here", &["hostNetwork=true", "networkPolicy.enabled=false"]).ok);
}

/// The members of a map of values and what the schema says of them, as far down as both go; then what only one of them has.
fn differences(path: &str, values: &Value, schema: &Value, found: &mut Vec<String>) {
    let Some(members) = schema["properties"].as_object() else { return };
    if schema["additionalProperties"] != json!(false) {
        found.push(format!("{path}: any other name is taken"));
    }
    let Some(values) = values.as_object() else { return found.push(format!("{path}: no map")) };
    // An empty map is filled in by the user alone.
    if values.is_empty() {
        return;
    }
    for name in values.keys().filter(|name| !members.contains_key(*name)) {
        found.push(format!("{path}.{name} is not in the schema"));
    }
    for (name, of) in members {
        let path = format!("{path}.{name}");
        if of.get("type").or(of.get("enum")).or(of.get("anyOf")).or(of.get("$ref")).is_none() {
            found.push(format!("{path}: the schema says nothing of it"));
        }
        match values.get(name) {
            Some(value) => differences(&path, value, of, found),
            None => found.push(format!("{path} is not in values.yaml")),
        }
    }
}

#[test]
fn the_schema_and_the_values_name_the_same() {
    let text = |file: &str| std::fs::read_to_string(root().join(CHART).join(file)).unwrap();
    let values: Value = serde_yaml::from_str(&text("values.yaml")).unwrap();
    let mut schema: Value = serde_json::from_str(&text("values.schema.json")).unwrap();
    // Helm's own, which it adds where the chart is a part of another.
    assert!(schema["properties"].as_object_mut().unwrap().remove("global").is_some());
    let mut found = Vec::new();
    differences("", &values, &schema, &mut found);
    assert!(found.is_empty(), "{found:#?}");
    assert!(values.as_object().unwrap().len() >= 30);
    // That a difference is seen.
    schema["properties"]["image"]["properties"].as_object_mut().unwrap().remove("tag");
    schema["properties"]["crds"]["properties"]["keep"] = json!({});
    differences("", &values, &schema, &mut found);
    assert_eq!(found, [".crds.keep: the schema says nothing of it", ".crds.keep is not in values.yaml", ".image.tag is not in the schema"]);
}

#[test]
fn secrets_are_read_unless_confined_and_the_policy_comes_with_it() {
    let policies = |objects: &[Value]| objects.iter().filter(|object| object["kind"].as_str().unwrap().starts_with("ValidatingAdmission")).count();
    let verbs = |objects: &[Value]| rules(objects, "secrets").iter().map(|rule| rule["verbs"].clone()).collect::<Vec<_>>();
    let confined = |objects: &[Value]| of_kind(objects, "Deployment").to_string().contains("\"--confined\"");
    let all = json!(["get", "list", "watch", "create", "patch", "delete"]);
    let few = json!(["create", "patch", "delete"]);
    let plain = rendered(&[]);
    assert_eq!((verbs(&plain), policies(&plain), confined(&plain)), (vec![all.clone()], 0, false));
    let guarded = rendered(&["admissionPolicy.enabled=true"]);
    assert_eq!((verbs(&guarded), policies(&guarded), confined(&guarded)), (vec![all], 4, false));
    // Nor can it be switched off where it is needed.
    for values in [&["confined=true"][..], &["confined=true", "admissionPolicy.enabled=false"]] {
        let objects = rendered(values);
        assert_eq!((verbs(&objects), policies(&objects), confined(&objects)), (vec![few.clone()], 4, true));
    }
    let objects = rendered(&["confined=true", r#"rbac={"scope": "namespaces", "namespaces": ["shop", "here"]}"#]);
    assert_eq!((verbs(&objects), policies(&objects)), (vec![few.clone(), few], 4));
    let objects = rendered(&["confined=true", "rbac.create=false"]);
    assert_eq!((verbs(&objects), policies(&objects)), (vec![], 4));
    assert_eq!(policies(&rendered(&["confined=true", "rollout.enabled=true"])), 6);
    // What the roles' comments say is true in that mode.
    let text = template("here", &["confined=true"]).out;
    says(&text, "No get, list or watch.");
    says(&text, "which the admission policy in admission.yaml keeps as they are");
    assert!(!text.contains("get, list, watch: metadata only"), "{text}");
    // The policy is about the account that the pod runs under.
    let named = rendered(&["confined=true", r#"serviceAccount={"create": false, "name": "reader"}"#]);
    assert_eq!(of_kind(&named, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"], "reader");
    says(&of_kind(&named, "ValidatingAdmissionPolicy")["spec"]["matchConditions"].to_string(), "system:serviceaccount:here:reader");
}

#[test]
fn a_release_elects_by_a_lease_of_its_own() {
    for (release, name) in [("robotosecret", "robotosecret"), ("team", "team-robotosecret")] {
        let said = helm(&["template", release, CHART, "--namespace", "here"]);
        let objects = documents(&said.out).unwrap();
        let arguments = of_kind(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"].to_string();
        says(&arguments, &format!("\"--lease=here/{name}\""));
        let expected = [
            json!({"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]}),
            json!({"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "update"], "resourceNames": [name]}),
        ];
        assert_eq!(rules(&objects, "leases"), expected.iter().collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn the_account_has_its_own_lease_and_no_other() {
    scene_before_controller("lease", async |s| {
        // The release's own namespace is served, too: two Roles there, neither in the other's place.
        let served = format!(r"rbac.namespaces={{{}}}", s.namespace);
        let kubeconfig = s.account(&["rbac.scope=namespaces", &served], |_| true).await;
        let config = Kubeconfig::read_from(&kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
        let leases: Api<Lease> = Api::namespaced(Client::try_from(config).unwrap(), &s.namespace);
        let lease = |name: &str| serde_json::from_value::<Lease>(json!({"metadata": {"name": name}, "spec": {"holderIdentity": "me"}})).unwrap();
        let created = async || leases.create(&PostParams::default(), &lease("robotosecret")).await.ok();
        until("the role holds", SECONDS, created).await;
        let mut held = leases.get("robotosecret").await.unwrap();
        held.spec.as_mut().unwrap().holder_identity = Some("other".into());
        leases.replace("robotosecret", &PostParams::default(), &held).await.unwrap();
        let theirs: Api<Lease> = Api::namespaced(s.client.clone(), &s.namespace);
        theirs.create(&PostParams::default(), &lease("theirs")).await.unwrap();
        let code = |error: kube::Error| if let kube::Error::Api(status) = error { status.code } else { 0 };
        assert_eq!(leases.get("theirs").await.map_err(code).unwrap_err(), 403);
        assert_eq!(leases.replace("theirs", &PostParams::default(), &lease("theirs")).await.map_err(code).unwrap_err(), 403);
        assert_eq!(leases.list(&ListParams::default()).await.map_err(code).unwrap_err(), 403);
        assert_eq!(leases.delete("robotosecret", &DeleteParams::default()).await.map_err(code).unwrap_err(), 403);
        let elsewhere: Api<Lease> = Api::namespaced(leases.clone().into_client(), "default");
        assert_eq!(elsewhere.create(&PostParams::default(), &lease("robotosecret")).await.map_err(code).unwrap_err(), 403);
        // The rights of the served namespace are there besides.
        let rules = Api::<Role>::namespaced(s.client.clone(), &s.namespace).get("robotosecret").await.unwrap().rules.unwrap();
        assert!(rules.iter().any(|rule| rule.resources.as_ref().is_some_and(|resources| resources.contains(&"secrets".to_owned()))));
    })
    .await;
}

#[test]
fn pods_are_replaced_spread_and_stopped_as_their_number_and_network_ask() {
    let deployment = |values: &[&str]| of_kind(&rendered(values), "Deployment")["spec"].clone();
    let one = deployment(&[]);
    assert_eq!((&one["replicas"], &one["template"]["spec"]["topologySpreadConstraints"]), (&json!(1), &Value::Null));
    assert_eq!(one["strategy"], json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}));
    // A stop takes 25 s at most, and the API server's and the kubelet's part some more.
    assert!(one["template"]["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap() >= 30);
    for (field, value) in [("hostNetwork", Value::Null), ("dnsPolicy", Value::Null), ("priorityClassName", Value::Null), ("volumes", Value::Null)] {
        assert_eq!(one["template"]["spec"][field], value, "{field}");
    }

    let selector = json!({"matchLabels": {"app.kubernetes.io/name": "robotosecret", "app.kubernetes.io/instance": "robotosecret"}});
    let two = deployment(&["replicas=2"]);
    let spread = two["template"]["spec"]["topologySpreadConstraints"].as_array().unwrap();
    assert_eq!(spread.iter().map(|one| &one["topologyKey"]).collect::<Vec<_>>(), ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]);
    // As far as possible: a cluster of one node takes both.
    assert!(spread.iter().all(|one| one["whenUnsatisfiable"] == "ScheduleAnyway" && one["labelSelector"] == selector));
    let constraint = |more: &str| format!(r#"topologySpreadConstraints=[{{"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"{more}}}]"#);
    for replicas in ["replicas=1", "replicas=2"] {
        let chosen = deployment(&[replicas, &constraint("")])["template"]["spec"]["topologySpreadConstraints"].clone();
        assert_eq!(chosen, json!([{"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector}]));
    }
    let own = deployment(&[&constraint(r#", "labelSelector": {"matchLabels": {"a": "b"}}"#)]);
    assert_eq!(own["template"]["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"]["a"], "b");

    let host = deployment(&["hostNetwork=true", "listen.port=18080"]);
    assert_eq!((&host["template"]["spec"]["hostNetwork"], &host["template"]["spec"]["dnsPolicy"]), (&json!(true), &json!("ClusterFirstWithHostNet")));
    // Two pods can't listen on one node's port.
    assert_eq!(host["strategy"]["rollingUpdate"], json!({"maxUnavailable": 1, "maxSurge": 0}));
    assert_eq!(deployment(&["hostNetwork=true", r#"dnsPolicy="Default""#])["template"]["spec"]["dnsPolicy"], "Default");
    assert_eq!(deployment(&[r#"priorityClassName="high""#])["template"]["spec"]["priorityClassName"], "high");

    let budget = |values: &[&str]| rendered(values).into_iter().find(|object| object["kind"] == "PodDisruptionBudget").map(|object| object["spec"].clone());
    let expected = json!({"maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow", "selector": selector});
    assert_eq!(budget(&[]), Some(expected));
    assert_eq!(budget(&[r#"podDisruptionBudget.maxUnavailable="50%""#]).unwrap()["maxUnavailable"], "50%");
    assert_eq!(budget(&["podDisruptionBudget.enabled=false"]), None);
}

#[test]
fn the_network_policy_lets_in_and_out_what_is_named() {
    assert!(rendered(&[]).iter().all(|object| object["kind"] != "NetworkPolicy"));
    let objects = rendered(&["networkPolicy.enabled=true"]);
    let policy = &of_kind(&objects, "NetworkPolicy")["spec"];
    assert_eq!(policy["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(policy["podSelector"], of_kind(&objects, "Deployment")["spec"]["selector"]);
    // helm test's pod alone, until somebody is named.
    let test = json!({"podSelector": {"matchLabels": of_kind(&objects, "Pod")["metadata"]["labels"]}});
    assert_eq!(policy["ingress"], json!([{"from": [test], "ports": [{"protocol": "TCP", "port": "http"}]}]));
    let ports = |rule: &Value| rule["ports"].as_array().unwrap().iter().map(|port| port["port"].as_u64().unwrap()).collect::<Vec<_>>();
    let egress = |policy: &Value| policy["egress"].as_array().unwrap().iter().map(|rule| (ports(rule), rule["to"].is_null())).collect::<Vec<_>>();
    assert_eq!(egress(policy), [(vec![53, 53], true), (vec![443, 6443], true), (vec![80], false)]);

    let objects = rendered(&[NETWORK]);
    let policy = &of_kind(&objects, "NetworkPolicy")["spec"];
    assert_eq!(policy["ingress"][0]["from"], json!([test, {"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}]));
    assert_eq!(egress(policy), [(vec![53, 53], false), (vec![8443], false), (vec![4318], false)]);
    assert_eq!(policy["egress"][0]["to"], json!([{"ipBlock": {"cidr": "10.0.0.10/32"}}]));
    assert_eq!(policy["egress"][1]["to"], json!([{"ipBlock": {"cidr": "10.0.0.0/8"}}]));
}

#[test]
fn prometheus_finds_the_port_that_the_operator_listens_on() {
    let objects = rendered(&["serviceMonitor.enabled=true", r#"serviceMonitor.labels={"release": "x", "app.kubernetes.io/name": "y"}"#, "listen.port=9999"]);
    let (monitor, service, deployment) = (of_kind(&objects, "ServiceMonitor"), of_kind(&objects, "Service"), of_kind(&objects, "Deployment"));
    let labels = service["metadata"]["labels"].as_object().unwrap();
    for (name, value) in monitor["spec"]["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(labels.get(name), Some(value));
    }
    // Theirs are added; ours win.
    assert_eq!((&monitor["metadata"]["labels"]["release"], &monitor["metadata"]["labels"]["app.kubernetes.io/name"]), (&json!("x"), &json!("robotosecret")));
    let port = &service["spec"]["ports"][0];
    assert_eq!((&monitor["spec"]["endpoints"][0]["port"], &port["port"]), (&port["name"], &json!(8080)));
    let container = &deployment["spec"]["template"]["spec"]["containers"][0]["ports"][0];
    assert_eq!((&port["targetPort"], &container["containerPort"]), (&container["name"], &json!(9999)));
    let kinds = ["ServiceMonitor", "PrometheusRule", "ConfigMap"];
    assert!(rendered(&[]).iter().all(|object| !kinds.contains(&object["kind"].as_str().unwrap())));
}

#[tokio::test]
async fn users_get_rights_on_robotosecrets_with_their_roles_and_never_on_providers_values_or_status() {
    scene_before_controller("users", async |s| {
        assert!(rendered(&[]).iter().all(|object| !object["metadata"]["labels"].to_string().contains("aggregate-to")));
        s.account(&["rbac.aggregateToUsers=true"], |_| true).await;
        for role in ["view", "edit", "admin"] {
            let subjects = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": format!("{}-{role}", s.namespace)}]);
            let binding = json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": role, "namespace": s.namespace},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}, "subjects": subjects,
            });
            apply_object(&s.client, &binding).await.unwrap();
        }
        let may = |role: &str, verb: &str, resource: &str, namespace: &str| {
            let user = format!("{}-{role}", s.namespace);
            // To kubectl, what follows a slash is a name.
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            let said = kubectl(&world().plane, &["auth", "can-i", verb, resource, "--subresource", subresource, "--namespace", namespace, "--as", &user], "");
            match said.out.trim() {
                "yes" => true,
                "no" => false,
                _ => panic!("{said:?}"),
            }
        };
        let (ours, resource) = (s.namespace.as_str(), "robotosecrets.robotosecret.dev");
        until("the roles are aggregated", SECONDS, async || may("edit", "create", resource, ours).then_some(())).await;
        for (verb, roles) in [
            ("get", ["view", "edit", "admin"].as_slice()),
            ("watch", &["view", "edit", "admin"]),
            ("patch", &["edit", "admin"]),
            ("deletecollection", &["edit", "admin"]),
        ] {
            for role in ["view", "edit", "admin"] {
                assert_eq!(may(role, verb, resource, ours), roles.contains(&role), "{role} {verb}");
                assert!(!may(role, verb, resource, "default"), "{role} {verb} elsewhere");
            }
        }
        for role in ["view", "edit", "admin"] {
            for (verb, resource) in [
                ("patch", "robotosecrets.robotosecret.dev/status"),
                ("get", "clusterrobotoproviders.robotosecret.dev"),
                ("create", "clusterrobotoproviders.robotosecret.dev"),
            ] {
                assert!(!may(role, verb, resource, ours), "{role} {verb} {resource}");
            }
        }
        // Whoever may not read Secrets still may not.
        assert!(!may("view", "get", "secrets", ours) && may("edit", "get", "secrets", ours));
    })
    .await;
}

#[test]
fn the_notes_say_what_is_switched_on_and_what_is_still_to_do() {
    let notes = |values: &[&str]| {
        let set: Vec<&str> = values.iter().flat_map(|value| ["--set-json", *value]).collect();
        let said = helm(&[&["install", "robotosecret", CHART, "--namespace", "here", "--dry-run=client"], set.as_slice()].concat());
        assert!(said.ok, "{said:?}");
        said.out.split_once("\nNOTES:\n").unwrap().1.to_owned()
    };
    let plain = notes(&[]);
    says(&plain, "is installed in namespace here and serves all namespaces.");
    says(&plain, "kubectl --namespace here rollout status deployment/robotosecret");
    says(&plain, "helm test robotosecret --namespace here");
    says(&plain, "kubectl get robotosecrets --all-namespaces");
    let told = [
        (r#"rbac={"scope": "namespaces", "namespaces": ["shop", "web"]}"#, "serves these namespaces: shop, web."),
        (r#"rbac={"scope": "namespaces", "namespaces": ["shop", "web"]}"#, "kubectl get robotosecrets --namespace shop\n"),
        ("replicas=0", "replicas: 0, so nothing is mirrored"),
        (PROVIDER, "The ClusterRobotoProvider \"default\" reads AWS in eu-west-1."),
        ("confined=true", "confined: the controller gets, lists and watches no Secrets"),
        ("confined=true", "creationPolicy Merge works only on Secrets that carry the annotation robotosecret.dev/adopt."),
        ("admissionPolicy.enabled=true", "admissionPolicy.enabled: the controller's ServiceAccount can write only Secrets with our label."),
        ("rollout.enabled=true", "rollout.enabled: workloads"),
        ("rbac.create=false", "rbac.create=false: nothing works until the ServiceAccount robotosecret has the rights"),
        ("hostNetwork=true", "hostNetwork: /livez, /readyz and /metrics are open on port 8080"),
        ("networkPolicy.enabled=true", "nobody may read the metrics until networkPolicy.metricsFrom names who."),
        ("crds.install=false", "The CRDs are not part of this release"),
    ];
    for (value, text) in told {
        says(&notes(&[value]), text);
        assert!(!plain.contains(text), "{text}");
    }
    assert!(!notes(&[NETWORK]).contains("nobody may read"));
    assert!(!notes(&["replicas=0"]).contains("helm test"));
}

#[test]
fn helm_test_asks_the_operator_from_a_pod_that_the_service_does_not_find() {
    let objects = rendered(&["confined=true"]);
    let (pod, service) = (of_kind(&objects, "Pod"), of_kind(&objects, "Service"));
    assert_eq!(pod["metadata"]["annotations"]["helm.sh/hook"], "test");
    let container = &pod["spec"]["containers"][0];
    let url = format!("http://{}.here.svc:{}/readyz", service["metadata"]["name"].as_str().unwrap(), service["spec"]["ports"][0]["port"]);
    assert_eq!(container["args"], json!(["probe", url]));
    let labels = &pod["metadata"]["labels"];
    assert!(service["spec"]["selector"].as_object().unwrap().iter().any(|(name, value)| labels[name] != *value), "the Service finds the test's pod");
    // It needs no rights, and the same image.
    assert_eq!((&pod["spec"]["automountServiceAccountToken"], &pod["spec"]["serviceAccountName"]), (&json!(false), &Value::Null));
    assert_eq!(container["image"], of_kind(&objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["image"]);
}

#[tokio::test]
async fn the_probe_of_helm_test_tells_ready_from_not_ready_and_from_nobody() {
    scene_before_controller("probe", async |s| {
        s.provide(&["*"]).await;
        let url = of_kind(&rendered(&[]), "Pod")["spec"]["containers"][0]["args"][1].as_str().unwrap().to_owned();
        let path = &url[url.rfind('/').unwrap()..];
        let probe = |port: u16, path: &str| {
            run(Command::new(env!("CARGO_BIN_EXE_robotosecret")).args(["probe", &format!("http://127.0.0.1:{port}{path}")]).env_clear(), "")
        };
        let [nobody] = testbed::port::free().unwrap();
        assert!(!probe(nobody, path).ok);
        s.start_controller(&[]).await;
        let port = s.controller().port;
        let said = probe(port, path);
        assert!(said.ok, "{said:?}");
        assert!(!probe(port, "/none").ok);
    })
    .await;
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
