//! A Roboto platform as a user meets it: what its own SDK writes is mirrored, found and rechecked, and what happens when the platform, its key or the
//! credentials that it lends fail.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testbed::{
    Roboto,
    front::{Answer, Fault},
    roboto::{explicit_deny, refusal},
};

use crate::{
    support::{SECONDS, Scene, WITHIN_TTL, apply_object, emulated_before_controller, root, says, until},
    web::{entry, fleeting, identity, provide, put_key, spec, start},
};

/// A scene with a platform whose API key in the Secret `roboto` belongs to `org_1`; its pages have two records.
async fn scene(name: &str, test: impl AsyncFnOnce(&mut Scene, &Roboto)) {
    emulated_before_controller(name, async |s| {
        let roboto = Roboto::start(s.emulator(), 2).unwrap();
        roboto.key(&s.value("api-key"), &["org_1"]);
        roboto.lends(&s.value("lent"));
        put_key(s, "roboto", &s.value("api-key")).await;
        test(s, &roboto).await;
    })
    .await;
}

fn platform(s: &Scene, roboto: &Roboto) -> Value {
    json!({"endpoint": roboto.url(), "apiKey": {"secretRef": {"name": "roboto", "key": "key"}}, "secretsManagerEndpoint": s.front.url()})
}

async fn run(s: &mut Scene, roboto: &Roboto) {
    provide(s, "roboto", &json!({"roboto": platform(s, roboto)})).await;
    start(s, &[roboto.url(), s.front.url()], &[]).await;
}

/// Runs a script with the platform's own SDK. Blocks the thread: the doubles have threads of their own.
fn sdk(s: &Scene, roboto: &Roboto, script: &str) {
    let script = format!("from roboto.domain.secrets import Secret\n{script}");
    let mut command = Command::new(testbed::moto::python().unwrap());
    command.args(["-c", &script]).env("ROBOTO_API_KEY", s.value("api-key")).env("ROBOTO_SERVICE_ENDPOINT", roboto.url());
    let output = command.env("AWS_ENDPOINT_URL_SECRETS_MANAGER", s.front.url()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn what_the_platforms_own_sdk_writes_is_mirrored_found_and_rechecked() {
    scene("roboto", async |s, roboto| {
        let (text, object, more) = (s.value("pä$$\n\"日本\""), json!({"user": "x", "n": 1.50, "password": s.value("p")}).to_string(), s.value("more"));
        let create = [("team/text", &text), ("team/object", &object), ("other", &more), ("last", &more)];
        let script: Vec<String> =
            create.iter().map(|(name, value)| format!("Secret.create({}, caller_org_id='org_1', initial_value={})", json!(name), json!(value))).collect();
        sdk(s, roboto, &script.join("\n"));
        let before = roboto.asked().len();
        run(s, roboto).await;
        let data = json!([
            entry("text", "roboto-secret://team/text@org_1"),
            entry("same", "roboto-secret://team/text"),
            entry("password", "roboto-secret://team/object#/password"),
        ]);
        s.apply("keys", &spec("roboto", data)).await;
        s.apply("whole", &spec("roboto", json!([{"key": "object", "store": "roboto-secret", "path": "team/object@org_1"}]))).await;
        let provider = json!({"kind": "RobotoProvider", "name": "roboto"});
        let by_path = json!({"provider": provider, "ttl": "10s", "dataFrom": [{"byPath": {"uri": "roboto-secret://team"}}]});
        let find = json!({"provider": provider, "ttl": "10s", "dataFrom": [{"find": {"store": "roboto-secret", "name": "^(other|last)$"}}]});
        s.apply("by-path", &by_path.to_string()).await;
        s.apply("found", &find.to_string()).await;
        s.holds("keys", &[("password", &s.value("p")), ("same", &text), ("text", &text)], SECONDS).await;
        s.holds("whole", &[("object", &object)], SECONDS).await;
        s.holds("by-path", &[("object", &object), ("text", &text)], SECONDS).await;
        s.holds("found", &[("last", &more), ("other", &more)], SECONDS).await;

        // What the platform knows stands in the status; the value's version is Secrets Manager's.
        let source = s.status("whole").await.sources.remove(0);
        assert_eq!(source.arn, format!("roboto:{}/org_1/team/object", roboto.url()));
        let record = source.record.unwrap();
        assert!(record.created.is_some() && record.modified.is_some() && record.last_used.is_none() && source.created_time.is_some(), "{record:?}");
        until("the provider says as whom it reads", SECONDS, async || identity(s, "roboto").await.filter(|identity| identity == "org_1")).await;

        // The requests are the SDK's: its version, the organisation where one is named, both pages, and a value only from Secrets Manager.
        let asked: Vec<_> = roboto.asked().into_iter().skip(before).collect();
        assert!(asked.iter().all(|asked| asked.version == "2026-10-06" && asked.method == "GET" && asked.status == 200), "{asked:?}");
        assert!(asked.iter().any(|asked| asked.path == "/v1/secrets/name/team/text/creds" && asked.org == "org_1"));
        assert!(
            asked.iter().any(|asked| asked.path == "/v1/secrets/name/team/text/creds" && asked.org.is_empty()),
            "without an organisation there is no header"
        );
        assert!(asked.iter().any(|asked| asked.path == "/v1/secrets?page_token=Mg"), "{asked:?}");
        let lent = s.front.count(|call| call.action == "GetSecretValue" && call.access_key_id.starts_with("ASIALENT") && call.temporary);
        assert!(lent > 0 && lent == s.front.count(|call| call.action == "GetSecretValue" && call.access_key_id != testbed::aws::ACCESS_KEY_ID), "{lent}");

        // Another value arrives, although what was lent is used again.
        let creds = roboto.count("/creds");
        let (text, object) = (s.value("after"), json!({"password": s.value("after")}).to_string());
        sdk(s, roboto, &format!("[Secret.from_name(n, org_id='org_1').update_value(v) for n, v in {}]", json!([["team/text", text], ["team/object", object]])));
        let by_sdk = roboto.count("/creds") - creds;
        s.holds("keys", &[("password", &s.value("after")), ("same", &text), ("text", &text)], WITHIN_TTL).await;
        s.holds("by-path", &[("object", &object), ("text", &text)], WITHIN_TTL).await;
        assert_eq!((by_sdk, roboto.count("/creds") - creds), (2, 2), "only the SDK asks for credentials each time");
    })
    .await;
}

#[tokio::test]
async fn what_is_missing_denied_or_kept_elsewhere_is_told_in_words() {
    scene("roboto-told", async |s, roboto| {
        roboto.key("robo_both", &["org_1", "org_2"]);
        put_key(s, "key-both", "robo_both").await;
        put_key(s, "key-unknown", "robo_none").await;
        put_key(s, "key-old", "robo_pat_1").await;
        roboto.put("org_1", "there", &s.value("there"));
        roboto.put("org_2", "theirs", &s.value("theirs"));
        roboto.put_binary("org_1", "binary", &[0, 255]);
        roboto.put_elsewhere("org_1", "elsewhere");
        sdk(s, roboto, "Secret.create('empty', caller_org_id='org_1')");
        run(s, roboto).await;
        let keyed = async |name: &str, more: Value| {
            let mut platform = platform(s, roboto);
            platform["apiKey"]["secretRef"]["name"] = json!(format!("key-{name}"));
            platform.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            provide(s, name, &json!({"roboto": platform})).await;
        };
        keyed("both", json!({})).await;
        keyed("unknown", json!({})).await;
        keyed("old", json!({})).await;
        let mut of_org = platform(s, roboto);
        of_org["apiKey"]["secretRef"]["name"] = json!("key-both");
        of_org["orgId"] = json!("org_2");
        provide(s, "second", &json!({"roboto": of_org, "allow": [{"references": ["roboto-secret://**"]}]})).await;
        let mut unlisted = platform(s, roboto);
        unlisted["endpoint"] = json!("https://elsewhere.example");
        provide(s, "unlisted", &json!({"roboto": unlisted})).await;
        let cases = [
            ("missing", "roboto", "roboto-secret://nothing", "SourceNotFound", "the platform has no such secret in this organisation"),
            ("empty", "roboto", "roboto-secret://empty", "SourceNotFound", "has none yet or none any more"),
            ("binary", "roboto", "roboto-secret://binary", "DecodeError", "the value is binary"),
            ("elsewhere", "roboto", "roboto-secret://elsewhere", "SourceNotFound", "in a store of another kind than aws"),
            ("foreign", "roboto", "roboto-secret://theirs@org_2", "AccessDenied", "RobotoUnauthorizedException"),
            ("no-org", "both", "roboto-secret://there", "SourceNotFound", "name one: roboto-secret://NAME@ORG, or the provider's orgId"),
            ("unknown", "unknown", "roboto-secret://there", "CredentialsError", "put another one into the provider's Secret"),
            ("old", "old", "roboto-secret://there", "CredentialsError", "a personal access token of the old kind"),
            ("beyond", "second", "roboto-secret://there@org_1", "NotAllowed", "add it to the provider's spec.allow"),
            ("unlisted", "unlisted", "roboto-secret://there", "NotAllowed", "--allowed-endpoints"),
            ("cut", "roboto", "roboto-secret://there@org-1", "InvalidSpec", "letters, digits and _ only"),
        ];
        for (name, provider, uri, ..) in cases {
            s.apply(name, &spec(provider, json!([entry("a", uri)]))).await;
        }
        s.apply("fallback", &spec("second", json!([entry("a", "roboto-secret://theirs")]))).await;
        s.apply("named", &spec("both", json!([entry("a", "roboto-secret://there@org_1"), entry("b", "roboto-secret://theirs@org_2")]))).await;
        for (name, _, uri, reason, part) in cases {
            let message = s.condition(name, "Ready", &format!("False {reason}"), SECONDS).await;
            says(&message, part);
            assert!(matches!(reason, "InvalidSpec" | "NotAllowed") || message.contains(uri), "{message}");
        }
        s.holds("fallback", &[("a", &s.value("theirs"))], SECONDS).await;
        s.holds("named", &[("a", &s.value("there")), ("b", &s.value("theirs"))], SECONDS).await;
        assert!(!roboto.asked().iter().any(|asked| asked.org == "org_1" && asked.status == 401), "what isn't allowed isn't asked for");
        until("a key of several organisations is good", SECONDS, async || identity(s, "both").await.filter(|of| of == "several organisations")).await;
        // Another key in the Secret is used at once.
        put_key(s, "key-unknown", &s.value("api-key")).await;
        s.holds("unknown", &[("a", &s.value("there"))], SECONDS).await;
    })
    .await;
}

#[tokio::test]
async fn a_secret_that_is_gone_goes_as_the_policy_says_and_an_outage_takes_nothing() {
    scene("roboto-gone", async |s, roboto| {
        for name in ["stays", "goes"] {
            roboto.put("org_1", name, &s.value(name));
        }
        run(s, roboto).await;
        for name in ["stays", "goes"] {
            s.apply(name, &fleeting("roboto", json!([entry("a", &format!("roboto-secret://{name}"))]))).await;
            s.holds(name, &[("a", &s.value(name))], SECONDS).await;
        }
        // What was lent is good no more: others are asked for, and nobody is told.
        let creds = roboto.count("/creds");
        let expired = Answer::Error { status: 400, code: "ExpiredTokenException".into(), message: "expired".into() };
        s.front.add_fault(Fault::new(|call| matches!(call.access_key_id.as_str(), "ASIALENT000000000001" | "ASIALENT000000000002"), expired));
        roboto.put("org_1", "stays", &s.value("second"));
        s.holds("stays", &[("a", &s.value("second"))], WITHIN_TTL).await;
        until("other credentials are asked for, for both", WITHIN_TTL, async || (roboto.count("/creds") >= creds + 2).then_some(())).await;
        assert_eq!((s.told("stays", "CheckFailed").await, s.told("goes", "CheckFailed").await), (0, 0));
        // Every way to fail is told and takes nothing.
        for (status, body, expected) in [
            (404, json!({"message": "Not Found"}), "SourceNotFound"),
            (409, refusal("RobotoConflictException", "x"), "ProviderUnavailable"),
            (400, refusal("RobotoIllegalArgumentException", "x"), "SourceNotFound"),
            (403, json!("no"), "AccessDenied"),
            (429, Value::Null, "Throttled"),
            (503, Value::Null, "ProviderUnavailable"),
            (403, explicit_deny(), "CredentialsError"),
        ] {
            roboto.fail(10_000, status, &body);
            s.refresh("stays", &format!("{status}-{expected}")).await;
            s.condition("stays", "Fresh", &format!("False {expected}"), WITHIN_TTL).await;
            assert_eq!(s.data("stays").await, Some(vec![("a".to_owned(), s.value("second"))]), "HTTP {status}");
        }
        assert!(s.data("goes").await.is_some());
        roboto.fail(0, 200, &Value::Null);
        s.front.clear_faults();
        s.refresh("stays", "again").await;
        s.all("Fresh", "True Verified", Duration::from_secs(90)).await;
        roboto.delete("org_1", "goes");
        until("goes is gone", Duration::from_secs(240), async || s.data("goes").await.is_none().then_some(())).await;
        assert!(s.data("stays").await.is_some());
        // Made anew under the same name, it is kept elsewhere; what was lent for the former place is no reason to go on with that.
        roboto.relocate("org_1", "stays", &s.value("anew"));
        s.holds("stays", &[("a", &s.value("anew"))], WITHIN_TTL).await;
    })
    .await;
}

#[tokio::test]
async fn a_platform_that_answers_503_three_times_is_asked_a_fourth_time_and_more_slowly_each_time() {
    scene("roboto-retry", async |s, roboto| {
        roboto.put("org_1", "x", &s.value("x"));
        run(s, roboto).await;
        until("the provider was asked as whom it reads", SECONDS, async || identity(s, "roboto").await).await;
        let (before, started) = (roboto.asked().len(), Instant::now());
        roboto.fail(3, 503, &Value::Null);
        s.apply("x", &spec("roboto", json!([entry("a", "roboto-secret://x")]))).await;
        s.holds("x", &[("a", &s.value("x"))], SECONDS).await;
        let statuses: Vec<u16> = roboto.asked()[before..].iter().filter(|asked| asked.path.ends_with("/creds")).map(|asked| asked.status).collect();
        assert_eq!(statuses, [503, 503, 503, 200]);
        // 1, 2 and 4 s, a fifth less at most.
        assert!(started.elapsed() > Duration::from_millis(5500), "{:?}", started.elapsed());
    })
    .await;
}

#[tokio::test]
async fn the_example_becomes_what_it_says() {
    scene("roboto-example", async |s, roboto| {
        let ns = s.namespace.clone();
        let text = std::fs::read_to_string(root().join("examples/27-roboto.yaml")).unwrap();
        for (name, value) in [("shop/api_key", "key"), ("shop/database", "db"), ("shop/partners/a", "a")] {
            roboto.put("org_1", name, &if value == "db" { json!({"password": s.value("db")}).to_string() } else { s.value(value) });
        }
        let (url, front) = (roboto.url(), s.front.url());
        for mut object in testbed::chart::documents(&text.replace("namespace: shop", &format!("namespace: {ns}"))).unwrap() {
            if object["kind"] == "RobotoProvider" {
                object["spec"]["roboto"]["endpoint"] = json!(url);
                object["spec"]["roboto"]["secretsManagerEndpoint"] = json!(front);
                object["spec"]["roboto"]["orgId"] = json!("org_1");
            }
            apply_object(&s.client, &object).await.unwrap();
        }
        put_key(s, "roboto-api-key", &s.value("api-key")).await;
        start(s, &[url, front], &[]).await;
        s.holds("from-roboto", &[("a", &s.value("a")), ("api-key", &s.value("key")), ("password", &s.value("db"))], SECONDS).await;
    })
    .await;
}
