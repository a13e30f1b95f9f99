//! Vault as a user meets it: values of both versions of the key-value store, versions, searches, each way to log in, and what happens when it fails.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use testbed::{Vault, vault::Policy};

use crate::{
    support::{SECONDS, Scene, TTL, WITHIN_TTL, apply_object, root, says, scene_before_controller, until, world},
    web::{self, entry, spec},
};

/// A policy that lets these paths be read and listed.
fn may(paths: &[&str]) -> Policy {
    paths.iter().map(|path| ((*path).to_owned(), vec!["read".to_owned(), "list".to_owned()])).collect()
}

/// A scene with a double of Vault, whose token in the Secret `vault` may read all below `kv/<namespace>/`.
async fn scene(name: &str, test: impl AsyncFnOnce(&mut Scene, &Vault)) {
    scene_before_controller(name, async |s| {
        let vault = Vault::start().unwrap();
        let ns = s.namespace.clone();
        vault.put("", &format!("kv/{ns}/db"), &json!({"user": "shop", "password": s.value("one")}));
        test(s, &vault).await;
    })
    .await;
}

fn policy(s: &Scene) -> Policy {
    may(&[&format!("kv/data/{}/", s.namespace), &format!("kv/metadata/{}/", s.namespace)])
}

/// A `RobotoProvider` of the scene's namespace.
async fn provide(s: &Scene, vault: &Vault, name: &str, auth: Value, more: Value) {
    let mut spec = json!({"vault": {"address": vault.url(), "auth": auth}});
    spec["vault"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    web::provide(s, name, &spec).await;
}

async fn put_token(s: &Scene, token: &str) {
    web::put_key(s, "vault", token).await;
}

fn by_token() -> Value {
    json!({"token": {"secretRef": {"name": "vault", "key": "key"}}})
}

async fn start(s: &mut Scene, vault: &Vault, values: &[&str]) {
    web::start(s, &[vault.url()], values).await;
}

#[tokio::test]
async fn values_are_mirrored_by_member_version_and_search_and_rechecked() {
    scene("vault", async |s, vault| {
        let ns = s.namespace.clone();
        vault.token(&s.value("token"), "root", policy(s), None);
        put_token(s, &s.value("token")).await;
        vault.put("", &format!("kv/{ns}/team/a"), &json!({"value": s.value("a")}));
        vault.put("", &format!("kv/{ns}/team/deep/b"), &json!({"value": s.value("b")}));
        vault.put("", "kv/other/db", &json!({"password": s.value("theirs")}));
        provide(s, vault, "vault", by_token(), json!({})).await;
        start(s, vault, &[]).await;
        s.apply("db", &spec("vault", json!([entry("password", &format!("vault://kv/{ns}/db#/password"))]))).await;
        s.apply("short", &json!({"provider": {"kind": "RobotoProvider", "name": "vault"}, "uri": format!("vault://kv/{ns}/db")}).to_string()).await;
        let by_path = json!({"provider": {"kind": "RobotoProvider", "name": "vault"}, "dataFrom": [{
            "byPath": {"uri": format!("vault://kv/{ns}/team")}, "rewrite": [{"regexp": "/", "replace": "."}],
        }]});
        s.apply("by-path", &by_path.to_string()).await;
        s.holds("db", &[("password", &s.value("one"))], SECONDS).await;
        s.holds("short", &[("password", &s.value("one")), ("user", "shop")], SECONDS).await;
        let (a, b) = (json!({"value": s.value("a")}).to_string(), json!({"value": s.value("b")}).to_string());
        s.holds("by-path", &[("a", &a), ("deep.b", &b)], SECONDS).await;
        let source = s.status("db").await.sources.remove(0);
        assert_eq!((source.version.as_str(), source.arn.as_str()), ("1", format!("vault:{}/kv/{ns}/db", vault.url()).as_str()));

        // A new version arrives; the former one can be asked for.
        vault.put("", &format!("kv/{ns}/db"), &json!({"user": "shop", "password": s.value("two")}));
        s.apply("former", &spec("vault", json!([entry("password", &format!("vault://kv/{ns}/db?version=1#/password"))]))).await;
        s.holds("db", &[("password", &s.value("two"))], WITHIN_TTL).await;
        s.holds("former", &[("password", &s.value("one"))], SECONDS).await;
        // Everybody reads as the token, in the right namespace, and nobody asked for what is another's.
        let asked = vault.asked();
        assert!(asked.iter().all(|asked| asked.who == "root" && asked.namespace.is_empty() && !asked.path.contains("other")), "{asked:?}");
        until("the provider says as whom it reads", SECONDS, async || {
            let provider = kube::Api::<robotosecret::api::RobotoProvider>::namespaced(s.client.clone(), &ns).get("vault").await.unwrap();
            provider.status.and_then(|status| status.identity).filter(|identity| identity == "root")
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn what_is_missing_denied_or_another_stores_is_told_in_words() {
    scene("vault-told", async |s, vault| {
        let ns = s.namespace.clone();
        vault.token("s.root", "root", [policy(s), may(&["nothing/"])].concat(), None);
        put_token(s, "s.root").await;
        vault.put("", &format!("kv/{ns}/deleted"), &json!({"a": "x"}));
        vault.delete("", &format!("kv/{ns}/deleted"), false);
        vault.put_plain("", &format!("old/{ns}"), &json!({"a": "x"}));
        provide(s, vault, "vault", by_token(), json!({})).await;
        start(s, vault, &[]).await;
        let cases = [
            ("missing", format!("vault://kv/{ns}/none"), "SourceNotFound", "Vault has no such value"),
            ("deleted", format!("vault://kv/{ns}/deleted"), "SourceNotFound", "its current version was deleted"),
            ("version", format!("vault://kv/{ns}/db?version=9"), "SourceNotFound", "or not in this version"),
            ("mount", "vault://nothing/db".to_owned(), "SourceNotFound", "Vault has no such mount"),
            ("denied", "vault://kv/other/db".to_owned(), "AccessDenied", "give it a policy with read on the path"),
            ("member", format!("vault://kv/{ns}/db#/none"), "KeypathNotFound", ""),
            ("aws", "aws.sm://prod/db".to_owned(), "InvalidSpec", "the RobotoProvider vault reads vault; name another provider"),
        ];
        for (name, uri, ..) in &cases {
            s.apply(name, &spec("vault", json!([entry("a", uri)]))).await;
        }
        for (name, uri, reason, part) in &cases {
            let message = s.condition(name, "Ready", &format!("False {reason}"), SECONDS).await;
            says(&message, part);
            assert!(*reason == "InvalidSpec" || message.contains(uri.split('#').next().unwrap()), "{message}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_value_that_is_gone_goes_as_the_policy_says_and_an_outage_takes_nothing() {
    scene("vault-gone", async |s, vault| {
        let ns = s.namespace.clone();
        vault.token("s.root", "root", policy(s), None);
        put_token(s, "s.root").await;
        for name in ["soft", "hard", "stays"] {
            vault.put("", &format!("kv/{ns}/{name}"), &json!({"a": s.value(name)}));
        }
        provide(s, vault, "vault", by_token(), json!({})).await;
        start(s, vault, &[]).await;
        for name in ["soft", "hard", "stays"] {
            let spec = json!({"provider": {"kind": "RobotoProvider", "name": "vault"}, "ttl": TTL, "target": {"deletionPolicy": "Delete"},
                "data": [entry("a", &format!("vault://kv/{ns}/{name}#/a"))]});
            s.apply(name, &spec.to_string()).await;
        }
        s.all("Ready", "True Mirrored", SECONDS).await;
        for status in [503, 500, 429, 404, 403, 301] {
            vault.fail(Some(status));
            s.refresh("stays", &status.to_string()).await;
            s.condition(
                "stays",
                "Fresh",
                &format!(
                    "False {}",
                    match status {
                        429 => "Throttled",
                        404 => "SourceNotFound",
                        403 => "CredentialsError",
                        _ => "ProviderUnavailable",
                    }
                ),
                WITHIN_TTL,
            )
            .await;
            assert_eq!(s.data("stays").await, Some(vec![("a".to_owned(), s.value("stays"))]), "HTTP {status}");
        }
        vault.fail(None);
        s.all("Fresh", "True Verified", Duration::from_secs(90)).await;
        vault.delete("", &format!("kv/{ns}/soft"), false);
        vault.delete("", &format!("kv/{ns}/hard"), true);
        for name in ["soft", "hard"] {
            until(&format!("{name} is gone"), Duration::from_secs(240), async || s.data(name).await.is_none().then_some(())).await;
        }
        assert!(s.data("stays").await.is_some());
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_is_none_replaces_nothing_and_an_outage_of_values_alone_is_told_as_one() {
    scene("vault-odd", async |s, vault| {
        let ns = s.namespace.clone();
        vault.token("s.root", "root", [policy(s), may(&["old/"])].concat(), None);
        put_token(s, "s.root").await;
        vault.put_plain("", &format!("old/{ns}/db"), &json!({"password": s.value("plain")}));
        provide(s, vault, "vault", by_token(), json!({})).await;
        provide(s, vault, "old", by_token(), json!({"keyValue": "v1"})).await;
        start(s, vault, &[]).await;
        let ask = |provider: &str, more: Value| {
            let mut spec = json!({"provider": {"kind": "RobotoProvider", "name": provider}, "ttl": TTL});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            spec.to_string()
        };
        s.apply("short", &ask("old", json!({"uri": format!("vault://old/{ns}/db")}))).await;
        s.apply("whole", &ask("old", json!({"data": [entry("all", &format!("vault://old/{ns}/db"))]}))).await;
        s.apply("newer", &ask("vault", json!({"uri": format!("vault://kv/{ns}/db")}))).await;
        s.apply("path", &ask("vault", json!({"dataFrom": [{"byPath": {"uri": format!("vault://kv/{ns}")}}]}))).await;
        s.all("Ready", "True Mirrored", SECONDS).await;
        let metadata = json!({"version": 2, "created_time": "2026-01-01T00:00:00Z", "deletion_time": "", "destroyed": false});
        for (mount, case, reply) in [
            ("old", "wrapped", (200, json!({"data": null, "wrap_info": {"token": "s.x", "ttl": 300}}))),
            ("old", "errors", (200, json!({"data": null, "errors": ["x"]}))),
            ("old", "list", (200, json!({"data": [1]}))),
            ("kv", "wrapped", (200, json!({"data": null, "wrap_info": {"token": "s.x", "ttl": 300}}))),
            ("kv", "text", (200, json!({"data": {"data": "text", "metadata": metadata}}))),
            ("kv", "outage", (503, json!({"errors": ["x"]}))),
        ] {
            let names = if mount == "old" { ["short", "whole"] } else { ["newer", "path"] };
            let before = [s.data(names[0]).await, s.data(names[1]).await];
            vault.say(Some((mount, reply)));
            for (name, before) in names.iter().zip(before) {
                s.refresh(name, &format!("{mount} {case}")).await;
                s.condition(name, "Fresh", "False ProviderUnavailable", WITHIN_TTL).await;
                assert_eq!(s.data(name).await, before, "{name}: {case}");
                s.condition(name, "Ready", "True Mirrored", SECONDS).await;
            }
            vault.say(None);
            for name in names {
                s.condition(name, "Fresh", "True Verified", Duration::from_secs(90)).await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_list_that_is_cut_short_takes_nothing() {
    scene("vault-cut", async |s, vault| {
        let ns = s.namespace.clone();
        vault.token("s.root", "root", policy(s), None);
        put_token(s, "s.root").await;
        for name in ["a", "deep/b"] {
            vault.put("", &format!("kv/{ns}/team/{name}"), &json!({"value": s.value(name)}));
        }
        provide(s, vault, "vault", by_token(), json!({})).await;
        start(s, vault, &[]).await;
        let spec = json!({"provider": {"kind": "RobotoProvider", "name": "vault"}, "ttl": TTL, "target": {"deletionPolicy": "Delete"},
            "dataFrom": [{"byPath": {"uri": format!("vault://kv/{ns}/team")}, "rewrite": [{"regexp": "/", "replace": "."}]}]});
        s.apply("team", &spec.to_string()).await;
        let value = |name: &str| json!({"value": s.value(name)}).to_string();
        let all = [("a", value("a")), ("deep.b", value("deep/b"))];
        let all = all.each_ref().map(|(key, value)| (*key, value.as_str()));
        s.holds("team", &all, SECONDS).await;
        for lost in ["team", "team/deep"] {
            vault.lose_folder(Some(&format!("kv/{ns}/{lost}")));
            s.refresh("team", lost).await;
            until("what is missing is named", WITHIN_TTL, async || {
                let message = s.condition("team", "Fresh", "False ProviderUnavailable", WITHIN_TTL).await;
                message.contains(&format!("a part of the list is missing: kv/{ns}/{lost}/")).then_some(())
            })
            .await;
            s.holds("team", &all, SECONDS).await;
        }
        vault.lose_folder(None);
        s.condition("team", "Fresh", "True Verified", Duration::from_secs(90)).await;
        vault.delete("", &format!("kv/{ns}/team/deep/b"), true);
        s.holds("team", &all[..1], Duration::from_secs(240)).await;
    })
    .await;
}

#[tokio::test]
async fn each_way_to_log_in_works_and_a_token_that_runs_out_is_replaced() {
    scene("vault-logins", async |s, vault| {
        let ns = s.namespace.clone();
        let life = Duration::from_secs(30);
        // Before there is a token: what is left of its life when a busy machine is done starting may be too little.
        start(s, vault, &["identities.serviceAccounts[0].name=reader", "identities.serviceAccounts[0].everywhere=true"]).await;
        vault.role("shop", &format!("{ns}:reader"), "vault", policy(s), life);
        vault.app_role("the-role", &s.value("secret-id"), policy(s), life);
        vault.token("s.short", "short", policy(s), Some(life));
        put_token(s, "s.short").await;
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "role-secret", "namespace": ns}, "stringData": {"id": s.value("secret-id")}});
        apply_object(&s.client, &secret).await.unwrap();
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reader", "namespace": ns, "annotations": {"robotosecret.dev/allow-token": "kubernetes"}}});
        apply_object(&s.client, &account).await.unwrap();
        let kubernetes = json!({"kubernetes": {"role": "shop", "serviceAccount": "reader"}});
        provide(s, vault, "token", by_token(), json!({})).await;
        provide(s, vault, "kubernetes", kubernetes.clone(), json!({})).await;
        provide(s, vault, "unlisted", kubernetes, json!({})).await;
        provide(s, vault, "approle", json!({"appRole": {"roleId": "the-role", "secretIdRef": {"name": "role-secret", "key": "id"}}}), json!({})).await;
        let names = ["token", "kubernetes", "approle"];
        for name in names.into_iter().chain(["unlisted"]) {
            s.apply(name, &spec(name, json!([entry("password", &format!("vault://kv/{ns}/db#/password"))]))).await;
        }
        for name in names {
            s.holds(name, &[("password", &s.value("one"))], SECONDS).await;
        }
        says(&s.condition("unlisted", "Ready", "False CredentialsError", SECONDS).await, "does not opt in; annotate it robotosecret.dev/allow-token=unlisted");
        // Well before they run out, and without a read that is refused.
        until("each is renewed", Duration::from_secs(60), async || {
            let counts = ["auth/token/renew-self", "auth/kubernetes/login", "auth/approle/login"].map(|path| vault.count(path));
            // Each login is followed by a look; a token that was revoked before its own would be taken for one that may not look.
            let looks = vault.asked().iter().filter(|asked| asked.path == "auth/token/lookup-self" && asked.who != "short").count();
            (counts[0] >= 1 && counts[1] >= 2 && counts[2] >= 2 && looks >= counts[1] + counts[2]).then_some(())
        })
        .await;
        let refused: Vec<_> = vault.asked().into_iter().filter(|asked| asked.status >= 400).collect();
        assert!(refused.is_empty(), "{refused:?}");
        // Revoked in between: another login, and nothing is told of it.
        vault.revoke_logins();
        vault.put("", &format!("kv/{ns}/db"), &json!({"password": s.value("two")}));
        for name in ["kubernetes", "approle"] {
            s.holds(name, &[("password", &s.value("two"))], WITHIN_TTL).await;
            let told = s.events(name).await;
            assert!(!told.iter().any(|event| event.contains("CheckFailed")), "{told:?}; see {}", s.controller().process.log_path().display());
        }
        // A token of a Secret is told; another one in it is used at once.
        vault.revoke("s.short");
        says(&s.condition("token", "Ready", "False CredentialsError", WITHIN_TTL).await, "put another one into the provider's Secret");
        vault.token("s.next", "next", policy(s), None);
        put_token(s, "s.next").await;
        s.holds("token", &[("password", &s.value("two"))], SECONDS).await;
        s.condition("token", "Ready", "True Mirrored", SECONDS).await;
    })
    .await;
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_is_sent_nothing() {
    scene("vault-tls", async |s, vault| {
        // The API server has a certificate of an authority that no system trusts; for Vault it only answers that it knows no such token.
        let address = world().plane.url();
        let config: Value = serde_json::from_slice(&std::fs::read(&world().kubeconfig).unwrap()).unwrap();
        let cluster = &config["clusters"][0]["cluster"];
        let authority = match cluster["certificate-authority-data"].as_str() {
            Some(data) => String::from_utf8(BASE64_STANDARD.decode(data).unwrap()).unwrap(),
            None => std::fs::read_to_string(cluster["certificate-authority"].as_str().unwrap()).unwrap(),
        };
        put_token(s, "s.none").await;
        provide(s, vault, "vouched", by_token(), json!({"address": address, "caBundle": authority})).await;
        provide(s, vault, "unknown", by_token(), json!({"address": address})).await;
        let kubeconfig = s.account(&[], |_| true).await;
        s.start_controller_as(&kubeconfig, &[&format!("--allowed-endpoints={address}")]);
        s.controller_ready().await;
        for name in ["vouched", "unknown"] {
            s.apply(name, &spec(name, json!([entry("password", "vault://kv/a/db#/password")]))).await;
        }
        says(&s.condition("vouched", "Ready", "False CredentialsError", SECONDS).await, "put another one into the provider's Secret");
        let message = s.condition("unknown", "Fresh", "False ProviderUnavailable", SECONDS).await;
        says(&message, "the store could not be reached; check its address and the way there");
    })
    .await;
}

#[tokio::test]
async fn the_example_becomes_what_it_says() {
    scene("vault-example", async |s, vault| {
        let ns = s.namespace.clone();
        let text = std::fs::read_to_string(root().join("examples/26-vault.yaml")).unwrap();
        let text = text
            .replace("namespace: shop", &format!("namespace: {ns}"))
            .replace("kv/shop/", &format!("kv/{ns}/"))
            .replace("https://vault.example.com:8200", &vault.url());
        vault.put("", &format!("kv/{ns}/database"), &json!({"password": s.value("before")}));
        vault.put("", &format!("kv/{ns}/database"), &json!({"password": s.value("now")}));
        vault.put("", &format!("kv/{ns}/partners/a"), &json!({"token": s.value("a")}));
        vault.role("shop", &format!("{ns}:vault-reader"), "vault", policy(s), Duration::from_secs(3600));
        for object in testbed::chart::documents(&text).unwrap() {
            apply_object(&s.client, &object).await.unwrap();
        }
        let account = format!("identities.serviceAccounts[0].namespaces[0]={ns}");
        start(s, vault, &["identities.serviceAccounts[0].name=vault-reader", &account]).await;
        let partner = json!({"token": s.value("a")}).to_string();
        s.holds("from-vault", &[("a", &partner), ("password", &s.value("now")), ("password-before", &s.value("before"))], SECONDS).await;
    })
    .await;
}

#[tokio::test]
async fn namespaces_version_one_and_allow_hold() {
    scene("vault-spaces", async |s, vault| {
        let ns = s.namespace.clone();
        vault.token("s.root", "root", may(&["kv/", "old/"]), None);
        put_token(s, "s.root").await;
        vault.put("teams/shop", &format!("kv/{ns}/db"), &json!({"password": s.value("in-namespace")}));
        vault.put_plain("", &format!("old/{ns}/db"), &json!({"password": s.value("v1"), "number": 12.50}));
        provide(s, vault, "space", by_token(), json!({"namespace": "teams/shop"})).await;
        provide(s, vault, "old", by_token(), json!({"keyValue": "v1"})).await;
        let allowed = json!({"apiVersion": "robotosecret.dev/v1alpha1", "kind": "RobotoProvider", "metadata": {"name": "narrow", "namespace": ns},
            "spec": {"vault": {"address": vault.url(), "auth": by_token()}, "allow": [{"references": ["vault://kv/${namespace}/*"]}]}});
        apply_object(&s.client, &allowed).await.unwrap();
        let closed = json!({"apiVersion": "robotosecret.dev/v1alpha1", "kind": "RobotoProvider", "metadata": {"name": "closed", "namespace": ns},
            "spec": {"vault": {"address": "https://elsewhere.example", "auth": by_token()}}});
        apply_object(&s.client, &closed).await.unwrap();
        start(s, vault, &[]).await;
        let password = |uri: String| json!([entry("password", &format!("{uri}#/password"))]);
        s.apply("space", &spec("space", password(format!("vault://kv/{ns}/db")))).await;
        s.apply("old", &spec("old", password(format!("vault://old/{ns}/db")))).await;
        s.apply("number", &spec("old", json!([entry("n", &format!("vault://old/{ns}/db#/number"))]))).await;
        s.apply("narrow", &spec("narrow", password(format!("vault://kv/{ns}/db")))).await;
        s.apply("beyond", &spec("narrow", password("vault://kv/other/db".to_owned()))).await;
        s.apply("closed", &spec("closed", password(format!("vault://kv/{ns}/db")))).await;
        s.holds("space", &[("password", &s.value("in-namespace"))], SECONDS).await;
        s.holds("old", &[("password", &s.value("v1"))], SECONDS).await;
        s.holds("number", &[("n", "12.5")], SECONDS).await;
        s.holds("narrow", &[("password", &s.value("one"))], SECONDS).await;
        s.condition("beyond", "Ready", "False NotAllowed", SECONDS).await;
        says(&s.condition("closed", "Ready", "False NotAllowed", SECONDS).await, "--allowed-endpoints");
        assert_eq!(vault.count("kv/data/other/db"), 0, "what isn't allowed isn't asked for");
        vault.put_plain("", &format!("old/{ns}/db"), &json!({"password": s.value("v1-new"), "number": 1}));
        s.holds("old", &[("password", &s.value("v1-new"))], WITHIN_TTL).await;
    })
    .await;
}

#[tokio::test]
async fn a_proxy_of_the_environment_is_used() {
    scene("vault-proxy", async |s, vault| {
        // Nothing listens at the provider's address; the double stands in as the proxy, which is asked for whole addresses.
        let nowhere = "http://127.0.0.1:1";
        vault.token("s.root", "root", policy(s), None);
        put_token(s, "s.root").await;
        provide(s, vault, "vault", by_token(), json!({"address": nowhere})).await;
        let kubeconfig = s.account(&[], |_| true).await;
        s.start_controller_with(&kubeconfig, &[&format!("--allowed-endpoints={nowhere}")], &[("HTTP_PROXY", &vault.url())]);
        s.controller_ready().await;
        s.apply("db", &spec("vault", json!([entry("password", &format!("vault://kv/{}/db#/password", s.namespace))]))).await;
        s.holds("db", &[("password", &s.value("one"))], SECONDS).await;
    })
    .await;
}
