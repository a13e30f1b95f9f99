//! The examples: each is applied as it stands, but for its namespace and its provider, and becomes what its comments say.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, ResourceExt, api::DeleteParams};
use serde_json::{Value, json};
use testbed::{chart::documents, examples};

use crate::support::{SECONDS, Scene, apply_object, root, says, scene_before_controller, until, world};

/// The examples with identities of their own.
pub const TENANCY: std::ops::RangeInclusive<u32> = 21..=25;
/// How long the proof of an absence may take: a minute between two looks, and time for a busy machine.
const PROVEN: Duration = Duration::from_secs(240);
/// How long a restart may take: the burst of rotations that it waits for, and time for a busy machine.
const RESTARTED: Duration = Duration::from_secs(90);

/// The objects of all files, put into the scene.
fn objects(s: &Scene) -> Vec<Value> {
    let mut files: Vec<_> = std::fs::read_dir(root().join("examples")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    // The later ones need other rights, accounts and stores: identity.rs and the tests of each store apply them.
    files.retain(|file| file.file_name().unwrap().to_str().unwrap().split('-').next().unwrap().parse::<u32>().unwrap() < *TENANCY.start());
    let all = files.iter().flat_map(|file| documents(&std::fs::read_to_string(file).unwrap()).unwrap());
    all.filter(|object| object["kind"] != "Namespace").map(|object| placed(s, object)).collect()
}

/// An object in the scene's namespace, with the scene's provider in place of the default one.
fn placed(s: &Scene, mut object: Value) -> Value {
    let kind = object["kind"].as_str().unwrap().to_owned();
    if kind == "ClusterRobotoProvider" {
        let url = s.front.url();
        object["metadata"]["name"] = json!(provider(s, object["metadata"]["name"].as_str().unwrap()));
        object["spec"]["aws"]["endpoints"] = json!({"secretsManager": url, "ssm": url, "sts": url});
        assert_eq!(object["spec"]["allow"][0]["namespaces"], json!({"names": ["shop"]}));
        object["spec"]["allow"][0]["namespaces"]["names"] = json!([s.namespace]);
        return object;
    }
    assert_eq!(object["metadata"]["namespace"], "shop", "{object:#}");
    object["metadata"]["namespace"] = json!(s.namespace);
    if kind == "RobotoSecret" {
        for entry in object.pointer_mut("/spec/data").and_then(Value::as_array_mut).into_iter().flatten().filter(|entry| !entry["provider"].is_null()) {
            entry["provider"]["name"] = json!(provider(s, entry["provider"]["name"].as_str().unwrap()));
        }
        assert_eq!(object["spec"]["provider"], Value::Null, "the examples use the default provider");
        object["spec"]["provider"] = json!({"kind": "ClusterRobotoProvider", "name": s.namespace});
    }
    object
}

/// What a provider is called in the scene.
fn provider(s: &Scene, name: &str) -> String {
    if name == "default" { s.namespace.clone() } else { format!("{}.{name}", s.namespace) }
}

/// A Secret's name, and its keys and their bytes.
type Holding = (&'static str, Vec<(&'static str, Vec<u8>)>);

/// What each resource's Secret holds, by the name of the resource, and which Secret that is where it has another name.
fn secrets(s: &Scene) -> BTreeMap<&'static str, Holding> {
    let value = |name: &str| s.value(name).into_bytes();
    let text = |text: &str| text.as_bytes().to_vec();
    let (password, token) = (s.value("password"), s.value("token"));
    let login = || vec![("password", value("password")), ("username", text("root"))];
    let pem = |tag: &str, of: &str| format!("-----BEGIN {tag}-----\n{}\n-----END {tag}-----\n", BASE64_STANDARD.encode(s.value(of)));
    let auth = BASE64_STANDARD.encode(format!("puller:{}", s.value("registry")));
    let docker = format!(r#"{{"auths":{{"registry.example.com":{{"auth":"{auth}","password":"{}","username":"puller"}}}}}}"#, s.value("registry"));
    BTreeMap::from([
        ("bigdb", ("bigdb", login())),
        ("api-token", ("api-token", vec![("token", value("token"))])),
        ("bigdb-all", ("bigdb-all", login())),
        ("versions", ("versions", vec![("first-token", value("token")), ("password-before", value("password")), ("username-before", text("root"))])),
        (
            "many-keys",
            (
                "many-keys",
                vec![
                    ("database.password", value("app")),
                    ("database.user", text("shop")),
                    ("license.txt", value("license")),
                    ("smtp_host", text("mail.example.com")),
                ],
            ),
        ),
        ("override", ("override", vec![("password", value("token")), ("username", text("root"))])),
        ("by-path", ("by-path", vec![("db.host", text("bigdb.example.com")), ("log-level", text("info")), ("signing", value("signing"))])),
        ("find", ("find", vec![("paypal", value("paypal")), ("stripe", value("stripe"))])),
        ("find-parameters", ("find-parameters", vec![("host", text("bigdb.example.com"))])),
        (
            "decode-and-tags",
            (
                "decode-and-tags",
                vec![
                    ("keystore.p12", [&[0, 255], s.value("keystore").as_bytes()].concat()),
                    ("owner", text("payments")),
                    ("tags.json", text(r#"{"owner":"payments","stage":"prod"}"#)),
                ],
            ),
        ),
        (
            "template",
            (
                "template",
                vec![
                    ("app.conf", text(&format!("[database]\nuser = \"root\"\n[api]\ntoken = \"{token}\"\n"))),
                    ("dsn", text(&format!("mysql://root:{password}@bigdb/shop"))),
                ],
            ),
        ),
        (
            "template-merge",
            (
                "template-merge",
                vec![
                    (".my.cnf", text(&format!("[client]\nuser = root\npassword = \"{password}\"\n"))),
                    ("password", value("password")),
                    ("username", text("root")),
                ],
            ),
        ),
        ("registry", ("registry", vec![(".dockerconfigjson", docker.into_bytes())])),
        (
            "shop-tls",
            (
                "shop-tls",
                vec![
                    ("tls.crt", [pem("CERTIFICATE", "leaf"), pem("CERTIFICATE", "chain")].concat().into_bytes()),
                    ("tls.key", pem("PRIVATE KEY", "key").into_bytes()),
                ],
            ),
        ),
        ("outlives", ("outlives", login())),
        ("merged", ("web-settings", vec![("greeting", text("hello")), ("token", value("token"))])),
        ("handed-over", ("handed-over", vec![("password", value("password"))])),
        ("drops-keys", ("drops-keys", vec![("partner-a", value("a")), ("partner-b", value("b"))])),
        ("goes-with-its-source", ("goes-with-its-source", vec![("value", value("b"))])),
        ("restarts-web", ("restarts-web", vec![("SESSION_KEY", value("session"))])),
        ("never-stale", ("never-stale", vec![("value", value("token"))])),
        ("on-change", ("on-change", vec![("value", value("token"))])),
        ("once", ("once", vec![("value", value("token"))])),
        ("pinned", ("pinned", vec![("license", value("license")), ("log-level", text("info"))])),
        ("two-providers", ("two-providers", vec![("license", value("license")), ("license-us", value("us-license"))])),
        ("basic-auth", ("basic-auth", login())),
        ("ssh-auth", ("ssh-auth", vec![("ssh-privatekey", pem("OPENSSH PRIVATE KEY", "deploy").into_bytes())])),
    ])
}

/// The resources without a Secret, and what they say.
const OTHERS: [(&str, &str, &str); 2] = [("wrong-name", "Ready", "False SourceNotFound"), ("suspended", "Fresh", "Unknown Suspended")];

async fn hold(s: &Scene, secret: &str, expected: &[(&str, Vec<u8>)]) {
    let expected: BTreeMap<String, Vec<u8>> = expected.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    let found = s.secrets().get(secret).await.unwrap().data.unwrap_or_default();
    let found: BTreeMap<String, Vec<u8>> = found.into_iter().map(|(key, value)| (key, value.0)).collect();
    let text = |all: &BTreeMap<String, Vec<u8>>| all.iter().map(|(key, value)| format!("{key}={:?}", String::from_utf8_lossy(value))).collect::<Vec<_>>();
    assert!(found == expected, "the Secret {secret} holds {:#?} instead of {:#?}", text(&found), text(&expected));
}

#[tokio::test]
async fn each_becomes_what_its_comments_say() {
    scene_before_controller("examples", async |s| {
        examples::store(&world().moto, &|name| s.value(name)).await.unwrap();
        // `versions` asks for what was there before a change.
        let text = json!({"username": "root", "password": s.value("password")}).to_string();
        world().moto.secrets_manager().put_secret_value().secret_id(examples::DATABASE).secret_string(text).send().await.unwrap();
        let objects = objects(s);
        for object in &objects {
            apply_object(&s.client, object).await.unwrap_or_else(|error| panic!("{error}\n{object:#}"));
        }
        let made_by_hand = s.meta("handed-over").await.uid;
        let kubeconfig = s.account(&["rollout.enabled=true"], |_| true).await;
        s.start_controller_as(&kubeconfig, &["--allow-rollout"]);
        s.controller_ready().await;

        let secrets = secrets(s);
        let known: BTreeSet<&str> = secrets.keys().copied().chain(OTHERS.map(|(name, ..)| name)).collect();
        let resources = objects.iter().filter(|object| object["kind"] == "RobotoSecret").map(|object| object["metadata"]["name"].as_str().unwrap());
        assert_eq!(known, resources.collect(), "each example is known here");
        for (name, (secret, expected)) in &secrets {
            s.ready(name).await;
            hold(s, secret, expected).await;
        }
        for (name, condition, expected) in OTHERS {
            s.condition(name, condition, expected, SECONDS).await;
            assert!(s.data(name).await.is_none(), "{name} has a Secret");
        }
        for name in ["on-change", "once"] {
            s.condition(name, "Fresh", "Unknown NotRechecked", SECONDS).await;
        }
        let annotations = s.meta("template").await.annotations.unwrap();
        assert_eq!(annotations["example.com/read-from"], format!("aws.sm://{}", examples::DATABASE));
        assert_eq!(s.meta("handed-over").await.uid, made_by_hand, "it was made anew");
        for (name, type_) in [
            ("registry", "kubernetes.io/dockerconfigjson"),
            ("shop-tls", "kubernetes.io/tls"),
            ("basic-auth", "kubernetes.io/basic-auth"),
            ("ssh-auth", "kubernetes.io/ssh-auth"),
        ] {
            assert_eq!(s.secrets().get(name).await.unwrap().type_.as_deref(), Some(type_));
        }

        tokio::join!(the_sources_go(s), a_rotation_restarts(s), the_policies_hold(s));
    })
    .await;
}

/// 15-deletion.
async fn the_sources_go(s: &Scene) {
    let gone = world().moto.secrets_manager().delete_secret().secret_id("prod/shop/partners/b").force_delete_without_recovery(true);
    gone.send().await.unwrap();
    for name in ["drops-keys", "goes-with-its-source"] {
        s.refresh(name, "now").await;
    }
    s.holds("drops-keys", &[("partner-a", &s.value("a"))], PROVEN).await;
    says(&s.ready("drops-keys").await, "prod/shop/partners/b is gone from the store: its keys were taken out");
    s.condition("goes-with-its-source", "Ready", "False SourceDeleted", PROVEN).await;
    assert!(s.data("goes-with-its-source").await.is_none());
}

/// 16-rollout.
async fn a_rotation_restarts(s: &Scene) {
    let deployments: Api<Deployment> = Api::namespaced(s.client.clone(), &s.namespace);
    let restarted = async || {
        let template = deployments.get("web").await.unwrap().spec.unwrap().template;
        template.metadata.unwrap().annotations.unwrap_or_default().contains_key("robotosecret.dev/restarted-for")
    };
    assert!(!restarted().await, "the first mirroring restarts nothing");
    let rotated = json!({"SESSION_KEY": s.value("rotated")}).to_string();
    world().moto.secrets_manager().put_secret_value().secret_id("prod/shop/session-key").secret_string(rotated).send().await.unwrap();
    s.refresh("restarts-web", "now").await;
    until("the Deployment is restarted", RESTARTED, async || restarted().await.then_some(())).await;
    hold(s, "restarts-web", &[("SESSION_KEY", s.value("rotated").into_bytes())]).await;
}

/// 14-policies.
async fn the_policies_hold(s: &Scene) {
    for name in ["outlives", "merged"] {
        s.resources().delete(name, &DeleteParams::default()).await.unwrap();
    }
    s.holds("web-settings", &[("greeting", "hello")], SECONDS).await;
    until("the resources are gone", SECONDS, async || {
        let left = s.resources().list(&kube::api::ListParams::default()).await.unwrap().items;
        (!left.iter().any(|it| ["outlives", "merged"].contains(&it.name_any().as_str()))).then_some(())
    })
    .await;
    assert!(s.data("outlives").await.is_some());
    assert_eq!(s.meta("outlives").await.owner_references, None, "nothing will collect it");
}
