//! Pushing to the stores that are reached over HTTP: what arrives there, whose it is, what a crash leaves, and what none of them would lose.

use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use testbed::{
    Envase, Roboto, Vault,
    front::{Answer, Fault},
    vault::Policy,
};

use super::{SECONDS, Scene, WITHIN_TTL, apply_object, pushes, ready, says, scene_before_controller, secret, start_valued, start_with, until};
use crate::{
    support::{emulated_before_controller, root},
    web::{provide, put_key},
};

/// A policy that lets these paths be done anything with.
fn all(paths: &[String]) -> Policy {
    let capabilities = ["create", "update", "read", "delete", "list"].map(str::to_owned);
    paths.iter().map(|path| (path.clone(), capabilities.to_vec())).collect()
}

/// Starts a controller that may push from the scene's namespace and send to these addresses.
async fn start(s: &mut Scene, origins: &[String]) {
    let endpoints = format!("--allowed-endpoints={}", origins.join(","));
    start_with(s, &[&endpoints]).await;
}

/// A provider of the scene's namespace that may be written through.
async fn writable(s: &Scene, name: &str, mut spec: Value) {
    spec["allow"] = json!([{"references": ["*"], "verbs": ["read", "write"]}]);
    provide(s, name, &spec).await;
}

async fn push(s: &Scene, name: &str, provider: &str, mut spec: Value) {
    spec["provider"] = json!({"kind": "RobotoProvider", "name": provider});
    super::push(s, name, spec).await;
}

async fn gone(s: &Scene, name: &str) {
    pushes(s).delete(name, &DeleteParams::default()).await.unwrap();
    until(&format!("{name} goes"), WITHIN_TTL, async || pushes(s).get_opt(name).await.unwrap().is_none().then_some(())).await;
}

/// A scene with a Vault whose token may do all below `kv/<namespace>/`, and with the mount `old` of version 1.
async fn vault(name: &str, test: impl AsyncFnOnce(&mut Scene, &Vault, Policy)) {
    scene_before_controller(name, async |s| {
        let vault = Vault::start().unwrap();
        vault.mount("kv");
        vault.put_plain("", "old/there", &json!({"a": "theirs"}));
        let ns = s.namespace.clone();
        let policy = all(&[format!("kv/data/{ns}/"), format!("kv/metadata/{ns}/"), format!("old/{ns}"), "old/there".to_owned()]);
        vault.token(&s.value("token"), "root", policy.clone(), None);
        put_key(s, "vault", &s.value("token")).await;
        let auth = json!({"token": {"secretRef": {"name": "vault", "key": "key"}}});
        writable(s, "vault", json!({"vault": {"address": vault.url(), "auth": auth}})).await;
        writable(s, "old", json!({"vault": {"address": vault.url(), "auth": auth, "keyValue": "v1"}})).await;
        test(s, &vault, policy).await;
    })
    .await;
}

async fn in_vault(vault: &Vault, name: &str, expected: &Value) {
    until(&format!("{name} holds {}", if expected.is_null() { "nothing" } else { "what was pushed" }), WITHIN_TTL, async || {
        (vault.value("", name).unwrap_or_default() == *expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn vault_gets_values_with_a_mark_and_keeps_what_others_write_beside_them() {
    vault("push-vault", async |s, vault, _| {
        let (ns, one, two) = (s.namespace.clone(), s.value("<one>&\u{e9}"), s.value("two"));
        secret(s, "db", json!({"user": "shop", "password": one})).await;
        let [whole, app] = ["whole", "app"].map(|name| format!("kv/{ns}/{name}"));
        vault.put("", &app, &json!({"port": 5432, "db": {"more": [1]}}));
        start(s, &[vault.url()]).await;
        let data = json!([
            {"uri": format!("vault://{whole}"), "attributes": {"tags": {"team": "shop"}}},
            {"key": "password", "uri": format!("vault://{app}#/db/password")},
        ]);
        push(s, "db", "vault", json!({"secretName": "db", "adopt": true, "data": data})).await;
        let (_, status) = ready(s, "db", "True Pushed", SECONDS).await;
        assert_eq!(vault.value("", &whole), Some(json!({"user": "shop", "password": one})));
        assert_eq!(vault.value("", &app), Some(json!({"port": 5432, "db": {"password": one, "more": [1]}})));
        let owner = vault.said("", &whole);
        assert!(owner["team"] == "shop" && owner["robotosecret.dev/owner"].as_str().unwrap().ends_with(&format!("/{ns}/db")), "{owner}");
        assert_eq!(vault.said("", &app)["robotosecret.dev/owner"], owner["robotosecret.dev/owner"]);
        let told: Vec<_> = status.targets.iter().map(|target| (target.arn.clone().unwrap(), target.version.clone().unwrap(), target.ownership)).collect();
        let arn = |name: &str| format!("vault:{}/{name}", vault.url());
        assert_eq!(told, [(arn(&whole), "1".to_owned(), None), (arn(&app), "2".to_owned(), None)]);

        // Nothing changes, and nothing is written; what agrees is known by its version.
        let count = |method: &str, part: &str| vault.asked().iter().filter(|asked| asked.method == method && asked.path.contains(part)).count();
        let (posts, looks) = (count("POST", "/"), count("GET", "kv/metadata/"));
        until("it was looked at three times more", WITHIN_TTL * 3, async || (count("GET", "kv/metadata/") >= looks + 6).then_some(())).await;
        let reads = count("GET", "kv/data/");
        until("it was looked at once more", WITHIN_TTL, async || (count("GET", "kv/metadata/") >= looks + 10).then_some(())).await;
        assert_eq!((count("POST", "/"), count("GET", "kv/data/")), (posts, reads));

        // What somebody changes is put back, with the rest of what they wrote.
        vault.put("", &whole, &json!({"user": "theirs"}));
        in_vault(vault, &whole, &json!({"user": "shop", "password": one})).await;
        s.event("db", &format!("Repaired: vault://{whole} was changed at the store, and was put back")).await;
        vault.put("", &app, &json!({"port": 1, "db": {"password": "theirs", "new": true}}));
        in_vault(vault, &app, &json!({"port": 1, "db": {"password": one, "new": true}})).await;
        // What is deleted is made anew, and another value arrives.
        vault.delete("", &whole, false);
        in_vault(vault, &whole, &json!({"user": "shop", "password": one})).await;
        secret(s, "db", json!({"user": "shop", "password": two})).await;
        in_vault(vault, &whole, &json!({"user": "shop", "password": two})).await;
        in_vault(vault, &app, &json!({"port": 1, "db": {"password": two, "new": true}})).await;

        // Another one doesn't write there, even if it would adopt.
        push(s, "other", "vault", json!({"secretName": "db", "adopt": true, "data": [{"key": "user", "uri": format!("vault://{app}#/db/user")}]})).await;
        says(&ready(s, "other", "False TargetNotOwned", SECONDS).await.0, "it is another RobotoPush's");
        // A text is no value of Vault's.
        push(s, "text", "vault", json!({"secretName": "db", "data": [{"key": "user", "uri": format!("vault://kv/{ns}/text")}]})).await;
        says(&ready(s, "text", "False TargetRejected", SECONDS).await.0, "Vault keeps JSON objects, and this is none");
        assert_eq!(vault.value("", &format!("kv/{ns}/text")), None);
        // What could not be compared is not written, and nobody else notices.
        let deep = ["{\"a\":".repeat(5_000), "1".to_owned(), "}".repeat(5_000)].concat();
        secret(s, "deep", json!({"key": deep})).await;
        push(s, "deep", "vault", json!({"secretName": "deep", "data": [{"key": "key", "uri": format!("vault://kv/{ns}/deep")}]})).await;
        says(&ready(s, "deep", "False TargetRejected", SECONDS).await.0, "the value nests deeper than 128 levels");
        assert_eq!(vault.value("", &format!("kv/{ns}/deep")), None);
    })
    .await;
}

#[tokio::test]
async fn what_vault_lost_between_value_and_mark_is_still_known_for_ours_and_goes_with_its_push() {
    vault("push-vault-crash", async |s, vault, policy| {
        let (ns, one) = (s.namespace.clone(), s.value("one"));
        secret(s, "db", json!({"password": one})).await;
        start(s, &[vault.url()]).await;
        // The value arrives, and the mark may not be written.
        let unmarked: Policy =
            policy.iter().cloned().map(|(path, may)| (path.clone(), if path.contains("metadata") { vec!["read".to_owned()] } else { may })).collect();
        vault.allow(&s.value("token"), unmarked);
        let name = format!("kv/{ns}/db");
        push(s, "db", "vault", json!({"secretName": "db", "deletionPolicy": "Delete", "data": [{"uri": format!("vault://{name}")}]})).await;
        let (message, status) = ready(s, "db", "False AccessDenied", SECONDS).await;
        says(&message, "metadata");
        assert_eq!((vault.value("", &name), vault.said("", &name)), (Some(json!({"password": one})), Value::Null));
        assert_eq!(serde_json::to_value(status.targets[0].ownership).unwrap(), json!("Owned"), "the store said that it was made");
        s.kill_controller();
        vault.allow(&s.value("token"), policy);
        start(s, &[vault.url()]).await;
        let (_, status) = ready(s, "db", "True Pushed", WITHIN_TTL).await;
        assert_eq!((status.targets[0].version.as_deref(), status.targets[0].ownership), (Some("1"), None), "written once, and marked");
        assert!(vault.said("", &name)["robotosecret.dev/owner"].is_string());
        // What has another's mark stays another's also while its value is deleted.
        let marked = format!("kv/{ns}/marked");
        vault.put("", &marked, &json!({"password": "theirs"}));
        vault.say_of("", &marked, &json!({"robotosecret.dev/owner": "other/ns/name"}));
        vault.delete("", &marked, false);
        push(s, "marked", "vault", json!({"secretName": "db", "data": [{"uri": format!("vault://{marked}")}]})).await;
        says(&ready(s, "marked", "False TargetNotOwned", SECONDS).await.0, "it is another RobotoPush's");
        assert_eq!((vault.value("", &marked), &vault.said("", &marked)["robotosecret.dev/owner"]), (None, &json!("other/ns/name")));
        // What somebody else made is not taken for ours.
        vault.put("", &format!("kv/{ns}/theirs"), &json!({"password": "theirs"}));
        push(s, "theirs", "vault", json!({"secretName": "db", "deletionPolicy": "Delete", "data": [{"uri": format!("vault://kv/{ns}/theirs")}]})).await;
        says(&ready(s, "theirs", "False TargetNotOwned", SECONDS).await.0, "nobody's mark");
        gone(s, "theirs").await;
        gone(s, "db").await;
        assert_eq!((vault.value("", &name), vault.value("", &format!("kv/{ns}/theirs"))), (None, Some(json!({"password": "theirs"}))));
    })
    .await;
}

#[tokio::test]
async fn what_was_about_to_be_made_when_the_controller_died_goes_with_its_push_if_it_was() {
    vault("push-vault-making", async |s, vault, _| {
        let (ns, one) = (s.namespace.clone(), s.value("one"));
        let uri = |name: &str| format!("vault://kv/{ns}/{name}");
        secret(s, "db", json!({"password": one, "json": "{\"a\":1}"})).await;
        let whole = json!({"password": one, "json": "{\"a\":1}"});
        for (name, there, is_deleted) in [("ours", &whole, true), ("theirs", &json!({"password": "theirs"}), true), ("moved", &json!({"a": 1}), false)] {
            vault.put("", &format!("kv/{ns}/{name}"), there);
            let now = if is_deleted { uri(name) } else { uri("elsewhere") };
            push(s, name, "vault", json!({"secretName": "db", "deletionPolicy": "Delete", "data": [{"uri": now}]})).await;
            // As a controller leaves it that dies after the value and before the mark.
            let provider = json!({"kind": "RobotoProvider", "name": "vault"});
            let status = json!({"status": {"targets": [{"uri": uri(name), "provider": provider, "begun": true, "ownership": "Making"}]}});
            let held = json!({"metadata": {"finalizers": ["robotosecret.dev/push"]}});
            pushes(s).patch(name, &PatchParams::default(), &Patch::Merge(&held)).await.unwrap();
            pushes(s).patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
            if is_deleted {
                pushes(s).delete(name, &DeleteParams::default()).await.unwrap();
            }
        }
        start(s, &[vault.url()]).await;
        let is_gone = async |name: &str| pushes(s).get_opt(name).await.unwrap().is_none();
        until("both go", WITHIN_TTL, async || (is_gone("ours").await && is_gone("theirs").await).then_some(())).await;
        ready(s, "moved", "True Pushed", WITHIN_TTL).await;
        let there = |name: &str| vault.value("", &format!("kv/{ns}/{name}"));
        assert_eq!((there("ours"), there("theirs"), there("moved"), there("elsewhere")), (None, Some(json!({"password": "theirs"})), None, Some(whole)));
        s.event("theirs", &format!("Left: {} is left as it is", uri("theirs"))).await;
    })
    .await;
}

#[tokio::test]
async fn where_a_store_keeps_no_mark_the_status_says_whose_it_is() {
    vault("push-vault-v1", async |s, vault, _| {
        let (ns, one, two) = (s.namespace.clone(), s.value("one"), s.value("two"));
        secret(s, "db", json!({"password": one})).await;
        start(s, &[vault.url()]).await;
        let (name, entry) = (format!("old/{ns}"), json!([{"uri": format!("vault://old/{ns}")}]));
        push(s, "db", "old", json!({"secretName": "db", "deletionPolicy": "Delete", "data": entry})).await;
        let (_, status) = ready(s, "db", "True Pushed", SECONDS).await;
        let target = &status.targets[0];
        assert_eq!((serde_json::to_value(target.ownership).unwrap(), target.version.as_deref()), (json!("Owned"), None));
        secret(s, "db", json!({"password": two})).await;
        let holds = async |expected: &Value| {
            until("it holds what was pushed", WITHIN_TTL, async || (vault.plain("", &name).as_ref() == Some(expected)).then_some(())).await;
        };
        holds(&json!({"password": two})).await;
        vault.put_plain("", &name, &json!({"password": "theirs"}));
        holds(&json!({"password": two})).await;
        // Two don't write in turns.
        secret(s, "second", json!({"password": one})).await;
        push(s, "second", "old", json!({"secretName": "second", "adopt": true, "deletionPolicy": "Delete", "ttl": "15m", "data": entry})).await;
        says(&ready(s, "second", "False TargetNotOwned", SECONDS).await.0, "the RobotoPush db writes it, and was there first");
        assert_eq!(vault.plain("", &name), Some(json!({"password": two})));
        // Members could be lost there, and what is there is not ours.
        push(s, "member", "old", json!({"secretName": "db", "data": [{"key": "password", "uri": format!("vault://old/{ns}/m#/password")}]})).await;
        says(&ready(s, "member", "False InvalidSpec", SECONDS).await.0, "push a whole value there");
        push(s, "theirs", "old", json!({"secretName": "db", "deletionPolicy": "Delete", "data": [{"uri": "vault://old/there"}]})).await;
        says(&ready(s, "theirs", "False TargetNotOwned", SECONDS).await.0, "it is there, and this RobotoPush did not make it");
        gone(s, "theirs").await;
        gone(s, "db").await;
        ready(s, "second", "True Pushed", SECONDS).await;
        assert_eq!(vault.plain("", &name), Some(json!({"password": one})), "whoever had to stand back is looked at");
        gone(s, "second").await;
        assert_eq!((vault.plain("", &name), vault.plain("", "old/there")), (None, Some(json!({"a": "theirs"}))));
    })
    .await;
}

#[tokio::test]
async fn edge_gets_secrets_of_the_organisation() {
    scene_before_controller("push-edge", async |s| {
        let (vault, one) = (Vault::start().unwrap(), s.value("one"));
        vault.mount("secret");
        vault.token(&s.value("token"), "root", all(&["secret/".to_owned()]), None);
        put_key(s, "vault", &s.value("token")).await;
        let auth = json!({"token": {"secretRef": {"name": "vault", "key": "key"}}});
        writable(s, "edge", json!({"edge": {"vault": {"address": vault.url(), "auth": auth}, "organization": "shop"}})).await;
        secret(s, "db", json!({"password": one})).await;
        start(s, &[vault.url()]).await;
        push(s, "db", "edge", json!({"secretName": "db", "deletionPolicy": "Delete", "data": [{"uri": "edge://org/db"}]})).await;
        let (_, status) = ready(s, "db", "True Pushed", SECONDS).await;
        let name = "secret/edge/orgs/shop/db";
        assert_eq!((vault.value("", name), status.targets[0].version.as_deref()), (Some(json!({"password": one})), Some("1")));
        assert!(vault.said("", name)["robotosecret.dev/owner"].is_string());
        // A member of another secret, beside what others keep there.
        vault.put("", "secret/edge/orgs/shop/app", &json!({"port": 1}));
        push(s, "app", "edge", json!({"secretName": "db", "adopt": true, "data": [{"key": "password", "uri": "edge://org/app#/password"}]})).await;
        ready(s, "app", "True Pushed", SECONDS).await;
        assert_eq!(vault.value("", "secret/edge/orgs/shop/app"), Some(json!({"password": one, "port": 1})));
        gone(s, "db").await;
        assert_eq!(vault.value("", name), None);
    })
    .await;
}

#[tokio::test]
async fn a_roboto_platform_gets_a_secret_once_even_if_the_controller_dies_meanwhile() {
    emulated_before_controller("push-roboto", async |s| {
        let roboto = Roboto::start(s.emulator(), 2).unwrap();
        let (one, two) = (s.value("one"), s.value("two"));
        roboto.key(&s.value("api-key"), &["org_1"]);
        roboto.lends(&s.value("lent"));
        put_key(s, "roboto", &s.value("api-key")).await;
        let platform = json!({"endpoint": roboto.url(), "apiKey": {"secretRef": {"name": "roboto", "key": "key"}}, "secretsManagerEndpoint": s.front.url()});
        writable(s, "roboto", json!({"roboto": platform})).await;
        roboto.put("org_1", "theirs", "theirs");
        secret(s, "db", json!({"password": one})).await;
        let origins = [roboto.url(), s.front.url()];
        start(s, &origins).await;
        // The platform has it, and the controller dies before it hears of that.
        s.front.add_fault(Fault::new(|call| call.action == "PutSecretValue", Answer::HoldAnswer));
        push(s, "db", "roboto", json!({"secretName": "db", "data": [{"key": "password", "uri": "roboto-secret://pushed@org_1"}]})).await;
        until("it is written", SECONDS, async || (s.calls("PutSecretValue") == 1).then_some(())).await;
        s.kill_controller();
        s.front.clear_faults();
        start(s, &origins).await;
        let (_, status) = ready(s, "db", "True Pushed", WITHIN_TTL).await;
        assert_eq!(serde_json::to_value(status.targets[0].ownership).unwrap(), json!("Owned"));
        assert_eq!(s.calls("PutSecretValue"), 1);
        secret(s, "db", json!({"password": two})).await;
        until("the new value arrives", WITHIN_TTL, async || (s.calls("PutSecretValue") == 2).then_some(())).await;
        // It is mirrored back as it was pushed.
        let mirror = json!({"provider": {"kind": "RobotoProvider", "name": "roboto"}, "data": [{"key": "password", "uri": "roboto-secret://pushed"}]});
        s.apply("mirror", &mirror.to_string()).await;
        s.holds("mirror", &[("password", &two)], SECONDS).await;

        push(s, "theirs", "roboto", json!({"secretName": "db", "data": [{"key": "password", "uri": "roboto-secret://theirs"}]})).await;
        says(&ready(s, "theirs", "False TargetNotOwned", SECONDS).await.0, "this RobotoPush did not make it");
        push(s, "member", "roboto", json!({"secretName": "db", "data": [{"key": "password", "uri": "roboto-secret://m#/password"}]})).await;
        says(&ready(s, "member", "False InvalidSpec", SECONDS).await.0, "push a whole value there");
        let tagged = json!([{"key": "password", "uri": "roboto-secret://m", "attributes": {"tags": {"a": "b"}}}]);
        push(s, "tagged", "roboto", json!({"secretName": "db", "data": tagged})).await;
        says(&ready(s, "tagged", "False InvalidSpec", SECONDS).await.0, "keeps no tags");
        assert_eq!(s.calls("PutSecretValue"), 2);
    })
    .await;
}

#[tokio::test]
async fn envase_gets_secrets_and_what_is_there_already_stays() {
    emulated_before_controller("push-envase", async |s| {
        let (envase, one, two) = (Envase::start().unwrap(), s.value("one"), s.value("two"));
        envase.client("shop", &s.value("client-secret"));
        put_key(s, "client", &s.value("client-secret")).await;
        let oauth = json!({"clientId": "shop", "clientSecretRef": {"name": "client", "key": "key"}, "tokenUrl": envase.token_url()});
        writable(s, "envase", json!({"envase": {"http": {"baseUrl": envase.base_url(), "auth": {"oauth": oauth}}}})).await;
        envase.put("", "theirs", &json!({"password": "theirs"}));
        secret(s, "db", json!({"password": one})).await;
        start(s, &[envase.origin()]).await;
        let entry = json!({"uri": "envase://shop/db@org-1", "attributes": {"description": "pushed"}});
        push(s, "db", "envase", json!({"secretName": "db", "deletionPolicy": "Delete", "data": [entry]})).await;
        let (_, status) = ready(s, "db", "True Pushed", SECONDS).await;
        let there = || envase.secret("org-1", "shop/db").unwrap_or_default();
        assert_eq!((&there()["secret"], &there()["description"]), (&json!({"password": one}), &json!("pushed")));
        assert_eq!(serde_json::to_value(status.targets[0].ownership).unwrap(), json!("Owned"));
        let holds = async |expected: &Value| {
            until("it holds what was pushed", WITHIN_TTL, async || (there()["secret"] == *expected).then_some(())).await;
        };
        envase.put("org-1", "shop/db", &json!({"password": "theirs"}));
        holds(&json!({"password": one})).await;
        secret(s, "db", json!({"password": two})).await;
        holds(&json!({"password": two})).await;
        assert_eq!(there()["description"], "pushed");
        // Who doesn't speak of it leaves it.
        push(s, "db", "envase", json!({"secretName": "db", "deletionPolicy": "Delete", "data": [{"uri": "envase://shop/db@org-1"}]})).await;
        secret(s, "db", json!({"password": one})).await;
        holds(&json!({"password": one})).await;
        assert_eq!(there()["description"], "pushed");
        for (policy, expected) in [("Replace", "False TargetNotOwned"), ("IfNotExists", "True Pushed")] {
            let spec = json!({"secretName": "db", "updatePolicy": policy, "deletionPolicy": "Delete", "data": [{"uri": "envase://theirs"}]});
            push(s, "theirs", "envase", spec).await;
            ready(s, "theirs", expected, SECONDS).await;
        }
        gone(s, "theirs").await;
        gone(s, "db").await;
        assert_eq!((there(), &envase.secret("", "theirs").unwrap()["secret"]), (Value::Null, &json!({"password": "theirs"})));
    })
    .await;
}

#[tokio::test]
async fn the_example_becomes_what_it_says() {
    scene_before_controller("push-example", async |s| {
        let (vault, ns) = (Vault::start().unwrap(), s.namespace.clone());
        let text = ["26-vault", "32-push-vault"].map(|name| std::fs::read_to_string(root().join(format!("examples/{name}.yaml"))).unwrap()).join("\n---\n");
        let text = text
            .replace("namespace: shop", &format!("namespace: {ns}"))
            .replace("kv/shop/", &format!("kv/{ns}/"))
            .replace("https://vault.example.com:8200", &vault.url());
        let policy = all(&[format!("kv/data/{ns}/"), format!("kv/metadata/{ns}/")]);
        vault.role("shop-writer", &format!("{ns}:vault-reader"), "vault", policy, std::time::Duration::from_secs(3600));
        vault.put("", &format!("kv/{ns}/app"), &json!({"signing": {"alg": "EdDSA"}}));
        secret(s, "signing-key", json!({"public.pem": "PUBLIC", "private.pem": s.value("private")})).await;
        for object in testbed::chart::documents(&text).unwrap() {
            apply_object(&s.client, &object).await.unwrap();
        }
        let accounts = format!("identities.serviceAccounts[0].namespaces[0]={ns}");
        let endpoints = format!("--allowed-endpoints={}", vault.url());
        let values = ["identities.serviceAccounts[0].name=vault-reader", &accounts];
        start_valued(s, &values, |_| true, &[&endpoints, "--token-audiences=vault"]).await;
        ready(s, "signing-key", "True Pushed", SECONDS).await;
        assert_eq!(vault.value("", &format!("kv/{ns}/app")), Some(json!({"signing": {"alg": "EdDSA", "public": "PUBLIC"}})));
        assert_eq!(vault.said("", &format!("kv/{ns}/app"))["team"], "shop");
    })
    .await;
}
