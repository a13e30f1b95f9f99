//! Envase Vault as a user meets it: standard secrets and those of organisations, over HTTP by a token or as a client, and by a Lambda function.

use std::time::Duration;

use futures::{FutureExt, future::BoxFuture};
use robotosecret::{
    api::{envase::EnvaseSpec, reference::Reference},
    provider::{
        ReadError, WriteError,
        envase::EnvaseProvider,
        grants::{Grant, Grants},
    },
    sensitive::Sensitive,
    telemetry::Metrics,
};
use serde_json::{Value, json};
use testbed::Envase;

use crate::{
    support::{SECONDS, Scene, WITHIN_TTL, apply_object, emulated_before_controller, root, says, until},
    web::{entry, fleeting, identity, provide, put_key, spec, start},
};

const FUNCTION: &str = "vault-dev-get-secret";

async fn scene(name: &str, test: impl AsyncFnOnce(&mut Scene, &Envase)) {
    emulated_before_controller(name, async |s| {
        let envase = Envase::start().unwrap();
        envase.client("shop", &s.value("client-secret"));
        put_key(s, "client", &s.value("client-secret")).await;
        test(s, &envase).await;
    })
    .await;
}

/// A provider over HTTP, as a client unless `more` says otherwise.
fn over_http(envase: &Envase, more: &Value) -> Value {
    let oauth = json!({"clientId": "shop", "clientSecretRef": {"name": "client", "key": "key"}, "scope": "vault/read vault/x", "tokenUrl": envase.token_url()});
    let mut http = json!({"baseUrl": envase.base_url(), "auth": {"oauth": oauth}});
    http.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"envase": {"http": http}})
}

async fn by_lambda(s: &Scene, name: &str, more: &Value) {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "aws-access-key", "namespace": s.namespace},
        "stringData": {"accessKeyId": testbed::aws::ACCESS_KEY_ID, "secretAccessKey": testbed::aws::SECRET_ACCESS_KEY}});
    apply_object(&s.client, &secret).await.unwrap();
    let url = s.front.url();
    let aws =
        json!({"region": testbed::aws::REGION, "endpoints": {"lambda": url, "sts": url}, "identity": {"accessKey": {"secretRef": {"name": "aws-access-key"}}}});
    let mut lambda = json!({"aws": aws});
    lambda.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    provide(s, name, &json!({"envase": {"environment": "DEV", "lambda": lambda, "notFound": "\"m\":1"}})).await;
}

#[tokio::test]
async fn secrets_are_mirrored_as_a_client_whose_tokens_are_kept_and_replaced() {
    scene("envase", async |s, envase| {
        envase.tokens_live(30);
        envase.put("", "shop/db", &json!({"user": "x", "password": s.value("standard")}));
        envase.put("org-1", "license", &json!(s.value("of org")));
        envase.put("org-2", "license", &json!(s.value("theirs")));
        provide(s, "envase", &over_http(envase, &json!({}))).await;
        let mut narrow = over_http(envase, &json!({}));
        narrow["allow"] = json!([{"references": ["envase://**", "envase://*@org-1"]}]);
        provide(s, "narrow", &narrow).await;
        start(s, &[envase.origin()], &[]).await;
        let data = json!([
            entry("password", "envase://shop/db#/password"),
            {"key": "license", "store": "envase", "path": "license@org-1"},
        ]);
        s.apply("keys", &spec("envase", data.clone())).await;
        s.apply("narrow", &spec("narrow", data)).await;
        s.apply("beyond", &spec("narrow", json!([entry("a", "envase://license@org-2")]))).await;
        for name in ["keys", "narrow"] {
            s.holds(name, &[("license", &s.value("of org")), ("password", &s.value("standard"))], SECONDS).await;
        }
        s.condition("beyond", "Ready", "False NotAllowed", SECONDS).await;
        let asked = envase.asked();
        assert!(
            asked.iter().any(|asked| asked.path == "/vault/secrets/shop%2Fdb")
                && asked.iter().any(|asked| asked.path == "/vault/organizations/org-1/secrets/license")
        );
        assert!(!asked.iter().any(|asked| asked.path.contains("org-2")), "what isn't allowed isn't asked for");
        let tokens: Vec<_> = asked.iter().filter(|asked| asked.path == "/oauth2/token").collect();
        assert_eq!(tokens.len(), 2, "one for each provider: {tokens:?}");
        assert_eq!(tokens[0].form, "grant_type=client_credentials&scope=vault%2Fread%20vault%2Fx");
        let source = s.status("keys").await.sources.into_iter().find(|of| of.uri == "envase://shop/db").unwrap();
        assert_eq!((source.arn, source.version), (format!("envase:{}/secrets/shop%2Fdb", envase.base_url()), String::new()));
        until("the provider says as whom it reads", SECONDS, async || identity(s, "envase").await.filter(|identity| identity == "shop")).await;

        // Tokens are replaced before they run out, and when they are taken back, and nobody is told.
        until("other tokens are asked for", WITHIN_TTL, async || (envase.tokens_asked() >= 4).then_some(())).await;
        envase.revoke();
        envase.put("", "shop/db", &json!({"password": s.value("next")}));
        for name in ["keys", "narrow"] {
            s.holds(name, &[("license", &s.value("of org")), ("password", &s.value("next"))], WITHIN_TTL).await;
            assert_eq!(s.told(name, "CheckFailed").await, 0);
        }
        // A client's secret that is changed is used at once.
        envase.client("shop", &s.value("other-secret"));
        put_key(s, "client", &s.value("wrong-secret")).await;
        says(&s.condition("keys", "Ready", "False CredentialsError", WITHIN_TTL).await, "no token is given for the client");
        put_key(s, "client", &s.value("other-secret")).await;
        s.condition("keys", "Ready", "True Mirrored", SECONDS).await;
    })
    .await;
}

#[tokio::test]
async fn what_the_store_refuses_is_told_with_its_status_and_a_gone_secret_goes() {
    scene("envase-told", async |s, envase| {
        put_key(s, "token", &s.value("token")).await;
        put_key(s, "api-key", &s.value("api-key")).await;
        envase.token(&s.value("token"));
        envase.api_key(&s.value("api-key"));
        for name in ["stays", "goes"] {
            envase.put("", name, &json!(s.value(name)));
        }
        let auth = json!({"bearer": {"secretRef": {"name": "token", "key": "key"}}});
        let api_key = json!({"secretRef": {"name": "api-key", "key": "key"}});
        provide(s, "envase", &over_http(envase, &json!({"auth": auth, "apiKey": api_key}))).await;
        provide(s, "keyless", &over_http(envase, &json!({"auth": auth}))).await;
        provide(s, "astray", &over_http(envase, &json!({"auth": auth, "apiKey": api_key, "paths": {"secret": "nowhere/{key}"}}))).await;
        let mut renamed = over_http(envase, &json!({"auth": auth, "apiKey": api_key}));
        renamed["envase"]["fields"] = json!({"secret": "value"});
        provide(s, "renamed", &renamed).await;
        let mut worded = over_http(envase, &json!({"auth": auth, "apiKey": api_key}));
        worded["envase"]["notFound"] = json!("\"m\":1");
        provide(s, "worded", &worded).await;
        let mut unlisted = over_http(envase, &json!({"auth": auth, "baseUrl": "https://elsewhere.example/vault"}));
        unlisted["envase"]["environment"] = json!("dev");
        provide(s, "unlisted", &unlisted).await;
        start(s, &[envase.origin()], &[]).await;
        for name in ["stays", "goes"] {
            s.apply(name, &fleeting("envase", json!([entry("a", &format!("envase://{name}"))]))).await;
        }
        s.apply("worded", &fleeting("worded", json!([entry("a", "envase://goes")]))).await;
        for (name, provider, uri) in [
            ("missing", "envase", "envase://none@org1"),
            ("keyless", "keyless", "envase://stays"),
            ("astray", "astray", "envase://stays"),
            ("renamed", "renamed", "envase://stays"),
            ("unlisted", "unlisted", "envase://stays"),
        ] {
            s.apply(name, &spec(provider, json!([entry("a", uri)]))).await;
        }
        for (name, secret) in [("stays", "stays"), ("goes", "goes"), ("worded", "goes")] {
            s.holds(name, &[("a", &s.value(secret))], SECONDS).await;
        }
        says(&s.condition("missing", "Ready", "False SourceNotFound", SECONDS).await, "envase://none@org1: the store has no such secret");
        says(&s.condition("missing", "Ready", "False SourceNotFound", SECONDS).await, "(VaultClientError, status 404)");
        says(&s.condition("keyless", "Ready", "False AccessDenied", SECONDS).await, "(VaultClientError, status 403)");
        says(&s.condition("astray", "Ready", "False SourceNotFound", SECONDS).await, "the address and paths of the store");
        says(&s.condition("renamed", "Ready", "False KeypathNotFound", SECONDS).await, "fields.secret");
        says(&s.condition("unlisted", "Ready", "False NotAllowed", SECONDS).await, "add https://elsewhere.example to the controller's --allowed-endpoints");
        // No way to fail takes anything; what the store says of it may hold a value, and is told to nobody.
        for (status, body, expected) in [
            (404, json!({"message": "Not Found"}), "SourceNotFound"),
            (404, Value::Null, "SourceNotFound"),
            (404, json!({"error": "no such route"}), "SourceNotFound"),
            (400, json!({"m": s.value("stays")}), "SourceNotFound"),
            (408, Value::Null, "ProviderUnavailable"),
            (500, json!({"m": s.value("stays")}), "ProviderUnavailable"),
            (429, Value::Null, "Throttled"),
            (401, json!({"m": s.value("stays")}), "CredentialsError"),
        ] {
            envase.fail(10_000, status, &body);
            s.refresh("stays", &format!("{status}-{expected}")).await;
            until(&format!("{expected} with status {status} is told"), WITHIN_TTL, async || {
                let message = s.condition("stays", "Fresh", &format!("False {expected}"), WITHIN_TTL).await;
                // Once it asked for fewer calls, it is not asked each time.
                (expected == "Throttled" || message.contains(&format!("(VaultClientError, status {status})"))).then_some(())
            })
            .await;
            assert_eq!(s.data("stays").await, Some(vec![("a".to_owned(), s.value("stays"))]), "HTTP {status}");
        }
        assert!(s.data("goes").await.is_some());
        envase.fail(0, 200, &Value::Null);
        s.refresh("stays", "again").await;
        for name in ["stays", "goes", "worded"] {
            s.condition(name, "Fresh", "True Verified", Duration::from_secs(90)).await;
        }
        envase.delete("", "goes");
        until("worded is gone", Duration::from_secs(240), async || s.data("worded").await.is_none().then_some(())).await;
        assert!(s.data("stays").await.is_some());
        // Where the provider doesn't say in which words the store would, a 404 may be anybody's.
        s.condition("goes", "Fresh", "False SourceNotFound", SECONDS).await;
        assert!(s.data("goes").await.is_some());
    })
    .await;
}

#[tokio::test]
async fn secrets_are_mirrored_by_a_function() {
    scene("envase-lambda", async |s, _| {
        let emulator = s.emulator();
        emulator.put_function_secret(FUNCTION, "", "shop/db", &json!({"password": s.value("one")}));
        emulator.put_function_secret(FUNCTION, "org-1", "license", &json!(s.value("license")));
        emulator.put_function_secret(FUNCTION, "org-1", "stays", &json!(s.value("stays")));
        emulator.put_function_secret("other", "", "shop/db", &json!({"password": s.value("other")}));
        by_lambda(s, "lambda", &json!({})).await;
        by_lambda(s, "other", &json!({"function": "other", "payload": "{\"key\": \"${key}\", \"kind\": \"get\"}\n"})).await;
        by_lambda(s, "nothing", &json!({"function": "nothing"})).await;
        let url = s.front.url();
        start(s, &[url], &[]).await;
        s.apply("keys", &spec("lambda", json!([entry("password", "envase://shop/db#/password"), entry("stays", "envase://stays@org-1")]))).await;
        s.apply("goes", &fleeting("lambda", json!([entry("license", "envase://license@org-1")]))).await;
        s.apply("other", &spec("other", json!([entry("password", "envase://shop/db#/password")]))).await;
        s.apply("foreign", &spec("other", json!([entry("a", "envase://shop/db@org-2")]))).await;
        s.apply("missing", &spec("lambda", json!([entry("a", "envase://none")]))).await;
        s.apply("nothing", &spec("nothing", json!([entry("a", "envase://shop/db")]))).await;
        s.holds("keys", &[("password", &s.value("one")), ("stays", &s.value("stays"))], SECONDS).await;
        s.holds("goes", &[("license", &s.value("license"))], SECONDS).await;
        s.holds("other", &[("password", &s.value("other"))], SECONDS).await;
        says(&s.condition("missing", "Ready", "False SourceNotFound", SECONDS).await, "(VaultClientError, status 404)");
        says(&s.condition("foreign", "Ready", "False InvalidSpec", SECONDS).await, "lambda.payload has no ${organization}");
        says(&s.condition("nothing", "Ready", "False SourceNotFound", SECONDS).await, "Lambda has no function nothing in this region");
        until("the provider says as whom it reads", SECONDS, async || identity(s, "lambda").await.filter(|identity| identity.starts_with("arn:aws"))).await;
        s.emulator().put_function_secret(FUNCTION, "", "shop/db", &json!({"password": s.value("two")}));
        s.holds("keys", &[("password", &s.value("two")), ("stays", &s.value("stays"))], WITHIN_TTL).await;
        // A function that fails, or isn't there, takes nothing; it says more than anybody is told.
        s.emulator().break_function(FUNCTION, true);
        says(&s.condition("goes", "Fresh", "False ProviderUnavailable", WITHIN_TTL).await, &format!("the function {FUNCTION} failed"));
        s.emulator().break_function(FUNCTION, false);
        s.emulator().take_function_secret(FUNCTION, "org-1", "license");
        until("goes is gone", Duration::from_secs(240), async || s.data("goes").await.is_none().then_some(())).await;
        assert_eq!(s.data("keys").await.map(|data| data.len()), Some(2), "what is kept stays");
    })
    .await;
}

struct Token;

impl Grants for Token {
    fn grant(&self) -> BoxFuture<'_, Result<Grant, ReadError>> {
        async { Ok(Grant::Secret(Sensitive::from("token".to_owned()))) }.boxed()
    }
}

#[tokio::test]
async fn secrets_are_made_changed_and_deleted_as_envases_documentation_has_it() {
    let envase = Envase::start().unwrap();
    envase.token("token");
    let spec: EnvaseSpec =
        serde_json::from_value(over_http(&envase, &json!({"auth": {"bearer": {"secretRef": {"name": "x", "key": "x"}}}}))["envase"].clone()).unwrap();
    let ours = EnvaseProvider::over_http(&spec, spec.http.as_ref().unwrap(), Box::new(Token), None, "test", Metrics::default()).unwrap();
    let value = |value: Value| Sensitive::from(value.to_string());
    for (uri, organization) in [("envase://k", ""), ("envase://k@org1", "org1")] {
        let source = uri.parse::<Reference>().unwrap().source;
        assert!(matches!(ours.update(&source, &value(json!(1)), None).await, Err(WriteError::NotFound)));
        ours.create(&source, &value(json!({"u": "x"})), Some("d")).await.unwrap();
        assert_eq!(envase.secret(organization, "k"), Some(json!({"key": "k", "secret": {"u": "x"}, "description": "d"})));
        assert!(matches!(ours.create(&source, &value(json!(1)), None).await, Err(WriteError::AlreadyExists)));
        ours.update(&source, &value(json!({"u": "y"})), None).await.unwrap();
        let there = envase.secret(organization, "k");
        assert_eq!(there, Some(json!({"key": "k", "secret": {"u": "y"}, "description": "d"})), "what isn't spoken of stays");
        assert_eq!(ours.describe(&source).await.unwrap().description.as_deref(), Some("d"));
        assert!(ours.delete(&source).await.unwrap() && !ours.delete(&source).await.unwrap());
        assert_eq!(envase.secret(organization, "k"), None);
    }
    // What is refused isn't missing: whoever took it for that would make it.
    let source = "envase://k".parse::<Reference>().unwrap().source;
    for (status, expected) in [
        (400, "Refused: the store refuses to write this; check key, organisation and value (VaultClientError, status 400)"),
        (418, "Refused: the store refuses to write this"),
        (403, "AccessDenied: the identity may not write this"),
        (401, "CredentialsError: the store does not take the token"),
        (429, "Throttled: the store asks for fewer calls"),
        (503, "ProviderUnavailable: the store failed"),
    ] {
        // Before an update it is asked for the description; who may not see one, or is told of none, writes all the same.
        let asks_twice = matches!(status, 400 | 403 | 418);
        envase.fail(3 + usize::from(asks_twice), status, &json!({"m": "canary"}));
        let answers = [
            ours.create(&source, &value(json!(1)), None).await.map(drop),
            ours.update(&source, &value(json!(1)), None).await.map(drop),
            ours.delete(&source).await.map(drop),
        ];
        for answer in answers {
            let error = answer.unwrap_err();
            says(&error.to_string(), expected);
            assert!(!format!("{error:?}").contains("canary"));
        }
    }
    let methods: Vec<String> = envase.asked().iter().take(10).map(|asked| format!("{} {}", asked.method, asked.path)).collect();
    let item = "/vault/secrets/k";
    let expected = [
        ("GET", item),
        ("PUT", item),
        ("POST", "/vault/secrets"),
        ("POST", "/vault/secrets"),
        ("GET", item),
        ("PUT", item),
        // To describe it.
        ("GET", item),
        ("DELETE", item),
        ("DELETE", item),
        ("GET", "/vault/organizations/org1/secrets/k"),
    ];
    assert_eq!(methods, expected.map(|(method, path)| format!("{method} {path}")));
}

#[tokio::test]
async fn the_example_becomes_what_it_says() {
    scene("envase-example", async |s, envase| {
        let ns = s.namespace.clone();
        envase.put("", "shop/database", &json!({"password": s.value("password")}));
        envase.put("org-shop", "license", &json!(s.value("license")));
        s.emulator().put_function_secret(FUNCTION, "", "shop/database", &json!({"password": s.value("by lambda")}));
        put_key(s, "envase-client", &s.value("client-secret")).await;
        by_lambda(s, "for-its-access-key", &json!({})).await;
        let text = std::fs::read_to_string(root().join("examples/29-envase.yaml")).unwrap();
        let url = s.front.url();
        for mut object in testbed::chart::documents(&text.replace("namespace: shop", &format!("namespace: {ns}"))).unwrap() {
            let envase_spec = &mut object["spec"]["envase"];
            if envase_spec["http"].is_object() {
                envase_spec["http"]["baseUrl"] = json!(envase.base_url());
                envase_spec["http"]["auth"]["oauth"]["tokenUrl"] = json!(envase.token_url());
            } else if envase_spec["lambda"].is_object() {
                envase_spec["lambda"]["aws"]["endpoints"] = json!({"lambda": url, "sts": url});
            }
            if object["kind"] == "RobotoSecret" {
                object["spec"].as_object_mut().unwrap().remove("envase");
            }
            apply_object(&s.client, &object).await.unwrap();
        }
        start(s, &[envase.origin(), url], &[]).await;
        let expected = [("by-lambda", s.value("by lambda")), ("license", s.value("license")), ("password", s.value("password"))];
        s.holds("from-envase", &expected.each_ref().map(|(key, value)| (*key, value.as_str())), SECONDS).await;
    })
    .await;
}
