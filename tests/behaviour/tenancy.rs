//! Who may reach what: what is another's can't be named, what is taken back goes or stays as the provider says, and what stands in for a region that
//! is down is never older.

use std::time::Duration;

use aws_sdk_secretsmanager::{config::Region, types::ReplicaRegionType};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use robotosecret::api::RobotoSecretStatus;
use serde_json::{Value, json};
use testbed::front::{Answer, Fault};

use crate::support::{SECONDS, Scene, TTL, WITHIN_TTL, apply_object, emulated_before_controller, kubectl, root, says, scene_before_controller, until, world};

const HOME: &str = testbed::aws::REGION;
const REPLICA: &str = "eu-central-1";

/// A ClusterRobotoProvider of the scene with this `allow` and more of its spec; `aws` is added to what leads to the scene's front.
async fn provide(s: &Scene, name: &str, allow: Value, aws: Value, more: Value) {
    let url = s.front.url();
    let mut spec = json!({
        "aws": {"region": HOME, "endpoints": {"secretsManager": url, "ssm": url, "sts": url}, "identity": {"ambient": {}}}, "allow": allow,
    });
    spec["aws"].as_object_mut().unwrap().extend(aws.as_object().unwrap().clone());
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let provider = json!({"apiVersion": "robotosecret.dev/v1alpha1", "kind": "ClusterRobotoProvider", "metadata": {"name": name}, "spec": spec});
    apply_object(&s.client, &provider).await.unwrap();
}

/// A rule for the scene's namespace.
fn mine(s: &Scene, references: &[&str]) -> Value {
    json!([{"namespaces": {"names": [s.namespace]}, "references": references}])
}

/// A resource that reads one secret of the scene.
#[allow(clippy::needless_pass_by_value)] // It is written where it is used.
fn reads(s: &Scene, provider: &str, secret: &str, ttl: &str, target: Value) -> String {
    let data = json!([{"key": "value", "uri": format!("aws.sm://{}", s.path(secret))}]);
    json!({"provider": {"kind": "ClusterRobotoProvider", "name": provider}, "ttl": ttl, "data": data, "target": target}).to_string()
}

/// How many calls for values were made.
fn asked(s: &Scene) -> usize {
    s.front.count(|call| call.service != "sts")
}

#[tokio::test]
async fn what_was_mirrored_under_a_permission_that_is_taken_back_stays_or_goes_as_the_provider_says() {
    emulated_before_controller("revoked", async |s| {
        let value = s.value("a");
        s.put_secret("db", &value).await;
        let (namespaces, ns) = (Api::<k8s_openapi::api::core::v1::Namespace>::all(s.client.clone()), s.namespace.clone());
        let label = async |labels: Value| {
            namespaces.patch(&ns, &PatchParams::default(), &Patch::Merge(&json!({"metadata": {"labels": labels}}))).await.unwrap();
        };
        label(json!({"reads": "yes"})).await;
        let allow = json!([{"namespaces": {"selector": {"matchLabels": {"reads": "yes", "kubernetes.io/metadata.name": s.namespace}}}, "references": ["*"]}]);
        let (retain, delete) = (s.namespace.clone(), format!("{}.delete", s.namespace));
        provide(s, &retain, allow.clone(), json!({}), json!({})).await;
        provide(s, &delete, allow.clone(), json!({}), json!({"onRevoked": "Delete"})).await;
        let shared = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shared", "namespace": s.namespace}, "stringData": {"theirs": "x"}});
        apply_object(&s.client, &shared).await.unwrap();
        s.start_controller(&[]).await;
        s.apply("kept", &reads(s, &retain, "db", "1h", json!({}))).await;
        s.apply("gone", &reads(s, &delete, "db", "1h", json!({}))).await;
        s.apply("merged", &reads(s, &delete, "db", "1h", json!({"name": "shared", "creationPolicy": "Merge"}))).await;
        s.all("Ready", "True Mirrored", SECONDS).await;
        let calls = asked(s);

        // Nothing is due for an hour: what happens now happens because of the label.
        label(json!({"reads": null})).await;
        s.all("Ready", "False NotAllowed", SECONDS).await;
        until("what the provider takes along is gone", SECONDS, async || s.data("gone").await.is_none().then_some(())).await;
        s.holds("shared", &[("theirs", "x")], SECONDS).await;
        assert_eq!(s.data("kept").await, Some(vec![("value".to_owned(), value.clone())]));
        says(&s.event("gone", "onRevoked: Delete").await, "Removed");
        assert_eq!(asked(s), calls, "no call was made for it");

        label(json!({"reads": "yes"})).await;
        s.all("Ready", "True Mirrored", SECONDS).await;
        s.holds("gone", &[("value", &value)], SECONDS).await;
        s.holds("shared", &[("theirs", "x"), ("value", &value)], SECONDS).await;

        // A provider that is gone, or that can't be read, has taken nothing back.
        s.providers().delete(&delete, &kube::api::DeleteParams::default()).await.unwrap();
        says(&s.condition("gone", "Ready", "False ProviderNotFound", SECONDS).await, &delete);
        s.holds("gone", &[("value", &value)], SECONDS).await;
        s.holds("shared", &[("theirs", "x"), ("value", &value)], SECONDS).await;
        // A rule that is narrowed takes back what it covered, and no more.
        s.put_secret("other", &value).await;
        provide(s, &delete, allow, json!({}), json!({"onRevoked": "Delete"})).await;
        s.apply("other", &reads(s, &delete, "other", "1h", json!({}))).await;
        s.all("Ready", "True Mirrored", SECONDS).await;
        provide(s, &delete, mine(s, &[&format!("aws.sm://{}", s.path("other"))]), json!({}), json!({"onRevoked": "Delete"})).await;
        until("what is not covered any more is gone", SECONDS, async || s.data("gone").await.is_none().then_some(())).await;
        s.holds("other", &[("value", &value)], SECONDS).await;
        s.holds("shared", &[("theirs", "x")], SECONDS).await;
    })
    .await;
}

#[tokio::test]
async fn a_rule_that_changes_holds_at_once_for_what_a_path_finds() {
    emulated_before_controller("revoked-path", async |s| {
        let value = s.value("a");
        for name in ["l/1", "l/2"] {
            s.put_secret(name, &value).await;
        }
        s.start_controller(&[]).await;
        let s = &*s;
        let (retain, delete) = (s.namespace.clone(), format!("{}.delete", s.namespace));
        let allow = async |references: &[&str]| {
            let references: Vec<String> = references.iter().map(|name| format!("aws.sm://{}", s.path(name))).collect();
            let allow = mine(s, &references.iter().map(String::as_str).collect::<Vec<_>>());
            provide(s, &retain, allow.clone(), json!({}), json!({})).await;
            provide(s, &delete, allow, json!({}), json!({"onRevoked": "Delete"})).await;
        };
        allow(&["l/1"]).await;
        for (name, provider) in [("kept", &retain), ("gone", &delete)] {
            // Nothing is due for an hour: what happens now happens because of the rules.
            let spec = json!({"provider": {"kind": "ClusterRobotoProvider", "name": provider}, "ttl": "1h", "dataFrom": [{"byPath": {"uri": format!("aws.sm://{}/", s.path("l"))}}]});
            s.apply(name, &spec.to_string()).await;
        }
        for name in ["kept", "gone"] {
            s.holds(name, &[("1", &value)], SECONDS).await;
        }
        allow(&["l/*"]).await;
        for name in ["kept", "gone"] {
            s.holds(name, &[("1", &value), ("2", &value)], SECONDS).await;
        }
        allow(&["l/1"]).await;
        for name in ["kept", "gone"] {
            says(&s.condition(name, "Ready", "False NotAllowed", SECONDS).await, &s.path("l/2"));
        }
        until("what the provider takes along is gone", SECONDS, async || s.data("gone").await.is_none().then_some(())).await;
        s.holds("kept", &[("1", &value), ("2", &value)], SECONDS).await;
        says(&s.event("gone", "onRevoked: Delete").await, "Removed");
        allow(&["l/*"]).await;
        s.all("Ready", "True Mirrored", SECONDS).await;
        s.holds("gone", &[("1", &value), ("2", &value)], SECONDS).await;
        until("the provider's status is of this generation", SECONDS, async || {
            let provider = s.providers().get(&retain).await.unwrap();
            (provider.status.and_then(|status| status.observed_generation) == provider.metadata.generation).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_permission_that_is_taken_back_between_the_read_and_the_write_leaves_nothing_written() {
    emulated_before_controller("revoked-midway", async |s| {
        let (one, two) = (s.value("one"), s.value("two"));
        for name in ["probe", "old", "new"] {
            s.put_secret(name, &one).await;
        }
        let ns = s.namespace.clone();
        provide(s, &ns, mine(s, &["*"]), json!({}), json!({})).await;
        s.start_controller(&[]).await;
        s.apply("probe", &reads(s, &ns, "probe", "1h", json!({}))).await;
        s.apply("old", &reads(s, &ns, "old", "1h", json!({}))).await;
        s.all("Ready", "True Mirrored", SECONDS).await;
        s.put_secret("old", &two).await;
        let (new, old) = (s.path("new"), s.path("old"));
        let before = s.reads(&old);
        let hold = s.front.hold_answers();
        s.apply("new", &reads(s, &ns, "new", "1h", json!({}))).await;
        s.refresh("old", "now").await;
        until("both are being read", SECONDS, async || (s.reads(&new) > 0 && s.reads(&old) > before).then_some(())).await;
        provide(s, &ns, json!([]), json!({}), json!({})).await;
        // What is not being read says when the controller knows.
        s.condition("probe", "Ready", "False NotAllowed", SECONDS).await;
        s.front.remove_fault(hold);
        s.all("Ready", "False NotAllowed", SECONDS).await;
        assert_eq!(s.data("new").await, None, "what was read is not written");
        assert_eq!(s.data("old").await, Some(vec![("value".to_owned(), one.clone())]), "nor is a newer value");
        // Allowed again, all of it is read anew.
        provide(s, &ns, mine(s, &["*"]), json!({}), json!({})).await;
        s.holds("new", &[("value", &one)], SECONDS).await;
        s.holds("old", &[("value", &two)], SECONDS).await;
    })
    .await;
}

/// References that lead, or could be thought to lead, from a namespace to what is another's. `{ns}` is the namespace.
const REACHES: [&str; 44] = [
    "aws.sm://other/db",
    "aws.sm:///other/db",
    "aws.sm://{ns}",
    "aws.sm://{ns}x/db",
    "aws.sm://x{ns}/db",
    "aws.sm://{ns}-2/db",
    "aws.sm://other/{ns}/db",
    "aws.sm://{ns}/../other/db",
    "aws.sm://{ns}/./../other/db",
    "aws.sm://../other/db",
    "aws.sm://./other/db",
    "aws.sm://{ns}//../other/db",
    "aws.sm://other/db/",
    "aws.sm://other//db",
    "aws.sm://{ns}%2F..%2F..%2Fother/db",
    "aws.sm://{ns}/%2e%2e/other/db",
    "aws.sm://%6fther/db",
    "aws.sm://other%2Fdb",
    "aws.sm://оther/db",
    "aws.sm://{ns}∕db",
    "aws.sm://ｏther/db",
    "aws.sm://other/db\u{200b}",
    "aws.sm://${namespace}/db",
    "aws.sm://*/db",
    "aws.sm://{ns}*/db",
    "aws.sm://OTHER/db",
    "aws.sm://other/db?version-stage=AWSPREVIOUS",
    "aws.sm://other/db#/a",
    "aws.ps:///other/db",
    "aws.ps://other/db",
    "aws.ps:////other/db",
    "aws.ps:///{ns}x/db",
    "aws.ps:///{ns}/../other/db",
    "aws.ps:///other/db?version=1",
    "aws.ps:///aws/reference/secretsmanager/other/db",
    "aws.ps://aws/reference/secretsmanager/other/db",
    "aws.ps:///aws/reference/secretsmanager/{ns}/../other/db",
    "arn:aws:secretsmanager:eu-west-1:123456789012:secret:other/db-AbCdEf",
    "arn:aws:secretsmanager:eu-west-1:123456789012:secret:other/db",
    "arn:aws:secretsmanager:eu-central-1:123456789012:secret:{ns}/db-AbCdEf",
    "arn:aws:ssm:eu-west-1:123456789012:parameter/other/db",
    "arn:aws:ssm:eu-central-1:123456789012:parameter/{ns}/db",
    "arn:aws:ssm:eu-west-1:123456789012:parameter/{ns}/../other/db",
    "arn:aws-cn:secretsmanager:eu-west-1:123456789012:secret:other/db",
];

#[tokio::test]
async fn no_reference_reaches_what_is_anothers_and_none_is_asked_for() {
    emulated_before_controller("reaches", async |s| {
        let ns = s.namespace.clone();
        let theirs = s.value("theirs");
        let others = [
            "other/db",
            "other/db/",
            "other//db",
            &format!("{ns}x/db"),
            &format!("x{ns}/db"),
            &format!("{ns}-2/db"),
            &format!("other/{ns}/db"),
            &ns,
            "OTHER/db",
        ];
        s.emulator().put_secrets(others.iter().map(|name| ((*name).to_owned(), theirs.clone())));
        s.emulator().put_parameters(["/other/db", &format!("/{ns}x/db")].map(|name| (name.to_owned(), theirs.clone())));
        s.put_secret("db", &s.value("mine")).await;
        // A label of another tenant's, and rules that are not for this namespace, help nobody.
        let allow = json!([
            {"namespaces": {"names": [ns]}, "references": ["aws.sm://${namespace}/**", "aws.ps:///${namespace}/**"]},
            {"namespaces": {"names": ["other", format!("{ns}x")]}, "references": ["*"]},
            {"namespaces": {"selector": {"matchLabels": {"team": "other"}}}, "references": ["*"]},
            {"namespaces": {"names": [ns]}, "references": ["aws.sm://other/**"], "verbs": ["write"]},
        ]);
        provide(s, &ns, allow, json!({}), json!({})).await;
        s.start_controller(&[]).await;
        let mut specs: Vec<Value> = REACHES.iter().map(|uri| json!({"data": [{"key": "value", "uri": uri.replace("{ns}", &ns)}]})).collect();
        for path in ["aws.ps:///other", "aws.ps:///other/", "aws.ps:///{ns}x/", "aws.sm://other/", "aws.sm://{ns}x/", "aws.ps:///{ns}/../other"] {
            specs.push(json!({"dataFrom": [{"byPath": {"uri": path.replace("{ns}", &ns)}}]}));
        }
        specs.push(json!({"dataFrom": [{"extract": {"uri": "aws.sm://other/db"}}]}));
        specs.push(json!({"uri": format!("aws.sm://{ns}/db"), "data": [{"key": "more", "uri": "aws.sm://other/db"}]}));
        let mut admitted = Vec::new();
        for (i, spec) in specs.iter().enumerate() {
            let name = format!("r{i:02}");
            if apply_object(&s.client, &s.resource(&name, &spec.to_string())).await.is_ok() {
                admitted.push((name, spec));
            }
        }
        assert!(admitted.len() > 25, "most of it is for the controller to refuse: {}", admitted.len());
        for (name, spec) in &admitted {
            let refused = async || {
                let status = s.status(name).await;
                let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready")?;
                (ready.status == "False").then(|| (ready.reason.clone(), ready.message.clone()))
            };
            let (reason, message) = until(&format!("{spec} is refused"), SECONDS, refused).await;
            assert!(["NotAllowed", "InvalidSpec"].contains(&reason.as_str()), "{spec}: {reason} {message}");
            assert!(s.data(name).await.is_none(), "{spec}");
        }
        assert_eq!(asked(s), 0, "{:?}", s.front.calls());
        // What finds by pattern finds its own alone, and asks for no more than that.
        for (name, path) in [("found", ""), ("found-below", "other/")] {
            let find = json!({"find": {"store": "aws.sm", "path": path, "name": "db$"}, "rewrite": [{"regexp": "^.*/", "replace": ""}]});
            let mut find = json!({"dataFrom": [find]});
            if path.is_empty() {
                find["dataFrom"][0]["find"].as_object_mut().unwrap().remove("path");
            }
            s.apply(name, &find.to_string()).await;
        }
        s.holds("found", &[("db", &s.value("mine"))], SECONDS).await;
        s.condition("found-below", "Ready", "False NotAllowed", SECONDS).await;
        s.apply("found-everywhere", &json!({"dataFrom": [{"byPath": {"uri": "aws.ps:///"}}]}).to_string()).await;
        says(&s.condition("found-everywhere", "Ready", "False SourceNotFound", SECONDS).await, "finds nothing that the provider allows this namespace to read");
        let values: Vec<String> = s
            .front
            .calls()
            .into_iter()
            .filter(|call| call.action.contains("GetSecret") || call.action == "BatchGetSecretValue")
            .flat_map(|call| call.ids)
            .collect();
        assert!(values.iter().all(|id| id.contains(&format!("{ns}/db"))), "{values:?}");
        s.condition("found", "Ready", "True Mirrored", SECONDS).await;
    })
    .await;
}

#[tokio::test]
async fn no_field_names_another_namespace() {
    scene_before_controller("fields", async |s| {
        let ns = s.namespace.clone();
        let data = "data: [{key: a, uri: 'aws.sm://x'}]";
        let rsec = |spec: &str| format!("apiVersion: robotosecret.dev/v1alpha1\nkind: RobotoSecret\nmetadata: {{name: a, namespace: {ns}}}\nspec: {{{spec}}}\n");
        let rprov =
            |identity: &str| format!("apiVersion: robotosecret.dev/v1alpha1\nkind: RobotoProvider\nmetadata: {{name: a, namespace: {ns}}}\nspec: {{aws: {{region: eu-west-1, identity: {{{identity}}}}}}}\n");
        let cases = [
            rsec(&format!("{data}, target: {{name: other/db}}")),
            rsec(&format!("{data}, target: {{name: ../db}}")),
            rsec(&format!("{data}, target: {{name: db, namespace: other}}")),
            rsec(&format!("{data}, provider: {{kind: RobotoProvider, name: other/p}}")),
            rsec(&format!("{data}, provider: {{kind: RobotoProvider, name: p, namespace: other}}")),
            rsec(&format!("{data}, target: {{template: {{from: [{{configMap: {{name: other/t}}}}]}}}}")),
            rsec(&format!("{data}, target: {{template: {{from: [{{configMap: {{name: t, namespace: other}}}}]}}}}")),
            rsec(&format!("{data}, target: {{template: {{from: [{{secret: {{name: t}}}}]}}}}")),
            rprov("serviceAccount: {name: other/reader}"),
            rprov("serviceAccount: {name: 'system:serviceaccount:other:reader'}"),
            rprov("serviceAccount: {name: reader, namespace: other}"),
            rprov("accessKey: {secretRef: {name: other/key}}"),
            rprov("accessKey: {secretRef: {name: ../key}}"),
            rprov("accessKey: {secretRef: {name: key, namespace: other}}"),
            format!("apiVersion: robotosecret.dev/v1alpha1\nkind: RobotoProvider\nmetadata: {{name: a, namespace: {ns}}}\nspec: {{aws: {{region: eu-west-1, identity: {{serviceAccount: {{name: reader}}}}}}, allow: [{{namespaces: {{all: true}}, references: ['*']}}]}}\n"),
        ];
        for case in cases {
            let said = kubectl(&world().plane, &["apply", "--validate=strict", "--dry-run=server", "--filename=-"], &case);
            assert!(!said.ok, "{case}\nwas accepted: {}", said.out);
            assert!(said.err.contains("unknown field") || said.err.contains("is invalid") || said.err.contains("Invalid value"), "{case}\n{}", said.err);
        }
        // The same but for what is another's is accepted.
        for case in [rsec(&format!("{data}, target: {{name: db}}, provider: {{kind: RobotoProvider, name: p}}")), rprov("serviceAccount: {name: reader}")] {
            let said = kubectl(&world().plane, &["apply", "--validate=strict", "--dry-run=server", "--filename=-"], &case);
            assert!(said.ok, "{case}\n{}", said.err);
        }
    })
    .await;
}

#[test]
fn only_a_tenant_reads_a_secret_or_makes_a_token() {
    let sources = sources(&root().join("src"));
    let with = |part: &str| -> Vec<&str> { sources.iter().filter(|(_, text)| text.contains(part)).map(|(name, _)| name.as_str()).collect() };
    let tenant = ["src/controller/tenant.rs"];
    assert_eq!(with("TokenRequest"), tenant);
    assert_eq!(with("create_token_request"), tenant);
    // Everybody else knows a Secret by its metadata alone, but for what is pushed.
    let mut readers = with("Api::<Secret>");
    readers.sort_unstable();
    assert_eq!(readers, ["src/controller/push/source.rs", tenant[0]]);
    for part in ["Api<Secret>", "request::<Secret>", "<DynamicObject>"] {
        assert_eq!(with(part), Vec::<&str>::new(), "{part}");
    }
    // And a tenant is made there alone: its fields are private, and nothing else there is public that makes one.
    let (_, text) = sources.iter().find(|(name, _)| name == tenant[0]).unwrap();
    let makers = text.lines().filter(|line| line.contains("fn ") && line.contains("Result<Self, ReadError>"));
    let public: Vec<&str> = makers.filter(|line| line.trim().starts_with("pub")).collect();
    assert_eq!(public.len(), 2, "of_account and of_key: {public:?}");
    says(text, "pub struct Tenant {\n    namespace: String,\n    provider: ProviderId,\n}");
}

/// The Rust sources under a folder, by their path from the project's root.
fn sources(folder: &std::path::Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((path.strip_prefix(root()).unwrap().display().to_string(), std::fs::read_to_string(&path).unwrap()));
        }
    }
    assert!(!found.is_empty());
    found
}

/// A Secrets Manager client for a region, past the front.
fn in_region(region: &'static str) -> aws_sdk_secretsmanager::Client {
    let client = testbed::aws::secrets_manager(world().moto.url());
    aws_sdk_secretsmanager::Client::from_conf(client.config().to_builder().region(Region::from_static(region)).build())
}

/// Puts a value into a region, with replicas in others.
async fn put(region: &'static str, name: &str, value: &str, replicas: &[&str]) {
    let client = in_region(region);
    if client.describe_secret().secret_id(name).send().await.is_ok() {
        client.put_secret_value().secret_id(name).secret_string(value).send().await.unwrap();
        return;
    }
    let replicas = replicas.iter().map(|region| ReplicaRegionType::builder().region(*region).build()).collect();
    client.create_secret().name(name).secret_string(value).set_add_replica_regions(Some(replicas)).send().await.unwrap();
}

#[tokio::test]
async fn an_arn_of_another_region_or_account_is_asked_for_where_a_rule_names_it() {
    scene_before_controller("abroad", async |s| {
        let (ns, value) = (s.namespace.clone(), s.value("far"));
        put(REPLICA, &s.path("db"), &value, &[]).await;
        let arn = in_region(REPLICA).describe_secret().secret_id(s.path("db")).send().await.unwrap().arn.unwrap();
        let foreign = format!("arn:aws:secretsmanager:{HOME}:210987654321:secret:{}-AbCdEf", s.path("db"));
        let pattern = format!("aws.sm://{ns}/**");
        let rule = |more: Value| {
            let mut rule = json!([{"namespaces": {"names": [ns]}, "references": [pattern]}]);
            rule[0].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            rule
        };
        provide(s, &ns, rule(json!({})), json!({}), json!({})).await;
        s.start_controller(&[]).await;
        s.apply("region", &json!({"data": [{"key": "value", "uri": arn}]}).to_string()).await;
        s.apply("account", &json!({"data": [{"key": "value", "uri": foreign}]}).to_string()).await;
        s.all("Ready", "False NotAllowed", SECONDS).await;
        assert_eq!(asked(s), 0, "{:?}", s.front.calls());
        // Another's rule is none for this namespace.
        let mut others = rule(json!({}));
        others
            .as_array_mut()
            .unwrap()
            .push(json!({"namespaces": {"names": ["other"]}, "references": ["*"], "regions": [REPLICA], "accounts": ["210987654321"]}));
        provide(s, &ns, others, json!({}), json!({})).await;
        s.apply("after", &json!({"data": [{"key": "value", "uri": "aws.sm://not/allowed"}]}).to_string()).await;
        s.all("Ready", "False NotAllowed", SECONDS).await;
        assert_eq!(asked(s), 0, "{:?}", s.front.calls());

        provide(s, &ns, rule(json!({"regions": [REPLICA], "accounts": ["210987654321"]})), json!({}), json!({})).await;
        s.holds("region", &[("value", &value)], SECONDS).await;
        until("the other account's secret is asked for under its ARN", SECONDS, async || (s.reads(&foreign) > 0).then_some(())).await;
        let regions: Vec<(String, Vec<String>)> =
            s.front.calls().into_iter().filter(|call| call.service != "sts").map(|call| (call.region, call.ids)).collect();
        assert!(regions.iter().all(|(region, ids)| (region == REPLICA) == ids.contains(&arn)), "{regions:?}");
    })
    .await;
}

fn region_of(status: &RobotoSecretStatus) -> Option<String> {
    status.sources.first().and_then(|source| source.region.clone())
}

#[tokio::test]
async fn a_replica_stands_in_while_its_region_is_down_and_is_never_mirrored_when_it_lags_behind() {
    scene_before_controller("failover", async |s| {
        let (ns, one, two) = (s.namespace.clone(), s.value("one"), s.value("two"));
        // `same` is replicated; the replica of `lags` has not caught up, and that of `primary-only` isn't there.
        put(REPLICA, &s.path("lags"), &one, &[]).await;
        put(HOME, &s.path("same"), &one, &[REPLICA]).await;
        put(HOME, &s.path("primary-only"), &one, &[]).await;
        // AWS tells the time of a version in whole seconds.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        put(HOME, &s.path("lags"), &two, &[]).await;
        let limits = json!({"failoverRegions": [REPLICA], "limits": {"getSecretValue": 50}});
        provide(s, &ns, mine(s, &["*"]), limits, json!({})).await;
        s.start_controller(&[]).await;
        let names = ["same", "lags", "primary-only"];
        for name in names {
            s.apply(
                name,
                &json!({"ttl": TTL, "target": {"deletionPolicy": "Delete"}, "data": [{"key": "value", "uri": format!("aws.sm://{}", s.path(name))}]})
                    .to_string(),
            )
            .await;
        }
        s.all("Ready", "True Mirrored", SECONDS).await;
        assert!(region_of(&s.status("same").await).is_none(), "its own region serves");
        let abroad = |s: &Scene| s.front.count(|call| call.region == REPLICA);
        assert_eq!(abroad(s), 0, "no replica is asked while the region answers");

        // Denied is an answer: no replica is asked either.
        let denied = s.front.add_fault(Fault::new(
            |call| call.region == HOME && call.service == "secretsmanager",
            Answer::Error { status: 400, code: "AccessDeniedException".into(), message: "no".into() },
        ));
        s.all("Fresh", "False AccessDenied", WITHIN_TTL).await;
        assert_eq!(abroad(s), 0);
        s.front.remove_fault(denied);
        s.all("Fresh", "True Verified", WITHIN_TTL).await;

        let down = s.front.add_fault(Fault::new(
            |call| call.region == HOME && call.service == "secretsmanager",
            Answer::Error { status: 503, code: "ServiceUnavailable".into(), message: "down".into() },
        ));
        until("the replica serves", WITHIN_TTL, async || region_of(&s.status("same").await).filter(|region| region == REPLICA)).await;
        says(&s.condition("lags", "Fresh", "False ProviderUnavailable", WITHIN_TTL).await, "has an older version than is mirrored");
        says(&s.condition("primary-only", "Fresh", "False ProviderUnavailable", WITHIN_TTL).await, REPLICA);
        s.holds("lags", &[("value", &two)], SECONDS).await;
        s.holds("primary-only", &[("value", &one)], SECONDS).await;
        s.condition("same", "Ready", "True Mirrored", SECONDS).await;
        // What is new in the replica is mirrored.
        let three = s.value("three");
        put(HOME, &s.path("same"), &three, &[]).await;
        s.holds("same", &[("value", &three)], WITHIN_TTL).await;

        // The region is back, and serves again.
        s.front.remove_fault(down);
        s.all("Fresh", "True Verified", Duration::from_secs(90)).await;
        until("its own region serves", Duration::from_secs(90), async || region_of(&s.status("same").await).is_none().then_some(())).await;
        s.holds("same", &[("value", &three)], SECONDS).await;
    })
    .await;
}
