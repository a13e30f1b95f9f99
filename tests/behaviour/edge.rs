//! Edge's secrets as a user meets them: mirrored from Vault under the policies that `docs/edge.md` shows, and made, changed, wrapped and deleted as Edge's
//! documentation has it, by this project's client and by hvac.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use robotosecret::{
    api::{Reason, reference::Reference},
    limit::{Budgets, Calls, Turns},
    provider::{
        Listing, Provider, Question, ReadError, Value as Read_, WriteError,
        edge::{EdgeProvider, WRAPPED_FOR},
        grants::{Grant, Grants},
        vault::READS,
    },
    sensitive::Sensitive,
    telemetry::Metrics,
};
use serde_json::{Value, json};
use testbed::{
    Vault,
    vault::{Policy, hcl},
};

use crate::{
    support::{SECONDS, WITHIN_TTL, apply_object, root, says, scene_before_controller, until},
    web::{entry, fleeting, provide, put_key, spec, start},
};

/// The policies of `docs/edge.md`: of a user, a member and an administrator.
fn policies(entity: &str) -> [Policy; 3] {
    let text = std::fs::read_to_string(root().join("docs/edge.md")).unwrap();
    let blocks: Vec<&str> = text.split("```hcl\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let policies: Vec<Policy> = blocks.into_iter().map(|block| hcl(block, entity)).collect();
    policies.try_into().expect("three policies")
}

/// A double of Vault with two users, who are members of the organisation `shop`, and its administrator.
fn vault() -> Vault {
    let vault = Vault::start().unwrap();
    vault.mount("secret");
    for (token, entity, is_admin) in [("s.ann", "e-ann", false), ("s.bob", "e-bob", false), ("s.root", "e-root", true)] {
        let [user, member, admin] = policies(entity);
        vault.entity_token(token, entity, [user, if is_admin { admin } else { member }].concat());
    }
    vault
}

struct Token(&'static str);

impl Grants for Token {
    fn grant(&self) -> BoxFuture<'_, Result<Grant, ReadError>> {
        async { Ok(Grant::Secret(Sensitive::from(self.0.to_owned()))) }.boxed()
    }
}

/// Edge as somebody uses it.
struct Ours(EdgeProvider);

impl Ours {
    fn new(vault: &Vault, token: &'static str, more: &Value) -> Self {
        let mut spec = json!({"vault": {"address": vault.url(), "auth": {"token": {"secretRef": {"name": "x", "key": "x"}}}}, "organization": "shop"});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Self(EdgeProvider::new(&serde_json::from_value(spec).unwrap(), Box::new(Token(token)), "test", Metrics::default()).unwrap())
    }

    async fn ask(&self, question: &Question) -> Result<Read_, ReadError> {
        let calls = Calls::new(Turns::new(Arc::new(Mutex::new(Budgets::default())), ("test".into(), READS)));
        self.0.read_one(question, &calls).await.map(|reading| reading.value)
    }

    async fn read(&self, uri: &str) -> Result<Value, ReadError> {
        match self.ask(&Question::Value(source(uri))).await? {
            Read_::Text(text) => Ok(serde_json::from_slice(text.expose()).unwrap()),
            Read_::Binary(_) | Read_::List(_) => panic!("no text"),
        }
    }

    async fn list(&self, whose: &str) -> Vec<String> {
        let listing = Listing { store: source("edge://user/x").store, path: Some(whose.to_owned()), recursive: true, tags: std::collections::BTreeMap::new() };
        match self.ask(&Question::List(listing)).await.unwrap() {
            Read_::List(found) => found.iter().map(|found| found.source.id()).collect(),
            Read_::Text(_) | Read_::Binary(_) => panic!("no list"),
        }
    }
}

/// Edge as somebody uses it who logs in as a role.
fn by_role(vault: &Vault) -> Ours {
    let auth = json!({"appRole": {"roleId": "the-role", "secretIdRef": {"name": "x", "key": "x"}}});
    Ours::new(vault, "secret-id", &json!({"vault": {"address": vault.url(), "auth": auth}}))
}

fn source(uri: &str) -> robotosecret::api::reference::Source {
    uri.parse::<Reference>().unwrap().source
}

fn value(value: &Value) -> Sensitive {
    Sensitive::from(value.to_string())
}

/// Redeems a wrapping token by plain HTTP, as anybody would.
fn redeem(wrapped: &robotosecret::provider::vault::Wrapped) -> (u16, Value) {
    let (host, path) = wrapped.unwrap_url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let token = std::str::from_utf8(wrapped.token.expose()).unwrap();
    write!(stream, "POST /{path} HTTP/1.0\r\nHost: {host}\r\nX-Vault-Token: {token}\r\nContent-Length: 0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
}

/// What Edge's documentation says of its methods, done with hvac on the layout of `docs/edge.md`. Prints a line for each step.
const SCRIPT: &str = r#"
import json, re, sys
import hvac, requests

url, token, user = sys.argv[1:]
client = hvac.Client(url=url, token=token)
kv = client.secrets.kv.v2
place = {"user": f"edge/users/{user}", "org": "edge/orgs/shop"}

class BadEntry(Exception): pass
class AlreadyExists(Exception): pass
class NotFound(Exception): pass

def path(whose, name):
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise BadEntry
    return f"{place[whose]}/{name}"

def create(whose, name, value):
    try:
        kv.create_or_update_secret(path=path(whose, name), secret=value, cas=0, mount_point="secret")
    except hvac.exceptions.InvalidRequest:
        raise AlreadyExists

def update(whose, name, value):
    try:
        current = kv.read_secret_metadata(path=path(whose, name), mount_point="secret")["data"]["current_version"]
    except hvac.exceptions.InvalidPath:
        raise NotFound
    kv.create_or_update_secret(path=path(whose, name), secret=value, cas=current, mount_point="secret")

def read(whose, name):
    return kv.read_secret_version(path=path(whose, name), raise_on_deleted_version=True, mount_point="secret")["data"]["data"]

def names(whose):
    return kv.list_secrets(path=place[whose], mount_point="secret")["data"]["keys"]

def delete(whose, name):
    kv.delete_metadata_and_all_versions(path=path(whose, name), mount_point="secret")

def wrap(whose, name):
    wrapped = client.read(f"secret/data/{path(whose, name)}", wrap_ttl="300s")["wrap_info"]
    redeem = lambda: requests.post(f"{url}/v1/sys/wrapping/unwrap", headers={"X-Vault-Token": wrapped["token"]})
    first, second = redeem(), redeem()
    return [first.json()["data"]["data"], second.status_code]

for step in json.load(sys.stdin):
    try:
        print(json.dumps(globals()[step[0]](*step[1:])))
    except Exception as error:
        print(type(error).__name__)
"#;

fn hvac(vault: &Vault, token: &str, user: &str, steps: &Value) -> Vec<String> {
    let mut command = Command::new(testbed::moto::python().unwrap());
    let said = crate::support::run(command.args(["-c", SCRIPT, &vault.url(), token, user]), &steps.to_string());
    assert!(said.ok, "{}", said.err);
    said.out.lines().map(str::to_owned).collect()
}

fn failed(error: WriteError) -> Reason {
    match error {
        WriteError::Failed(error) => error.reason,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_token_that_may_not_look_itself_up_is_whoevers_who_logged_in() {
    let vault = vault();
    let [user, ..] = policies("e-ann");
    vault.app_role("the-role", "secret-id", user, Duration::from_secs(3600));
    vault.app_role_looks("the-role", false, "e-ann");
    vault.put("", "secret/edge/users/e-ann/x", &json!({"a": 1}));
    let ours = by_role(&vault);
    assert_eq!(ours.read("edge://user/x").await.unwrap(), json!({"a": 1}));
    // Whether the token or the path is refused can't be told: it is not asked for another each time.
    for _ in 0..5 {
        assert_eq!(ours.read("edge://org/x").await.unwrap_err().reason, Reason::AccessDenied);
    }
    assert_eq!(vault.count("auth/approle/login"), 1);
    // Whoever is nobody now may be somebody the next time.
    vault.app_role_looks("the-role", true, "");
    let error = by_role(&vault).read("edge://user/x").await.unwrap_err();
    assert_eq!(error.reason, Reason::AccessDenied);
    says(&error.message, "name the user (the provider's user");
}

#[tokio::test]
async fn a_token_that_can_not_be_replaced_is_used_as_long_as_it_holds() {
    let vault = vault();
    let [user, ..] = policies("e-ann");
    vault.app_role("the-role", "secret-id", user, Duration::from_secs(12));
    vault.app_role_looks("the-role", true, "e-ann");
    vault.put("", "secret/edge/users/e-ann/x", &json!({"a": 1}));
    let ours = by_role(&vault);
    ours.read("edge://user/x").await.unwrap();
    vault.remove_app_role("the-role");
    let trouble = until("the provider is told", SECONDS, async || {
        ours.read("edge://user/x").await.unwrap();
        ours.0.vault().in_trouble()
    });
    assert_eq!(trouble.await.1.reason, Reason::CredentialsError);
    assert_eq!(ours.0.vault().identity().await.unwrap_err().reason, Reason::CredentialsError);
    ours.read("edge://user/x").await.unwrap();
    let error = until("its life is over", SECONDS, async || ours.read("edge://user/x").await.err()).await;
    assert_eq!(error.reason, Reason::CredentialsError);
}

#[tokio::test]
async fn a_list_that_something_in_between_does_not_know_is_not_empty() {
    let vault = vault();
    let ann = Ours::new(&vault, "s.ann", &json!({}));
    vault.put("", "secret/edge/users/e-ann/x", &json!({"a": 1}));
    assert_eq!(ann.list("user").await, ["user/x"]);
    vault.lose_folder(Some("secret/edge/users/e-ann"));
    let listing = Listing { store: source("edge://user/x").store, path: Some("user".to_owned()), recursive: true, tags: std::collections::BTreeMap::new() };
    let error = ann.ask(&Question::List(listing)).await.unwrap_err();
    assert_eq!(error.reason, Reason::ProviderUnavailable);
    says(&error.message, "a part of the list is missing");
}

#[tokio::test]
async fn secrets_are_made_read_changed_wrapped_and_deleted_as_edges_documentation_has_it() {
    let vault = vault();
    let ann = Ours::new(&vault, "s.ann", &json!({}));
    let root = Ours::new(&vault, "s.root", &json!({}));
    let mine = source("edge://user/my-secret");

    // E01 and E02: made, listed, read; not made twice.
    assert!(ann.list("user").await.is_empty());
    ann.0.create(&mine, &value(&json!({"secret": "value"}))).await.unwrap();
    assert_eq!(ann.list("user").await, ["user/my-secret"]);
    assert_eq!(ann.read("edge://user/my-secret").await.unwrap(), json!({"secret": "value"}));
    assert!(matches!(ann.0.create(&mine, &value(&json!({}))).await, Err(WriteError::AlreadyExists)));
    assert_eq!(ann.read("edge://user/my-secret").await.unwrap(), json!({"secret": "value"}));
    let steps = json!([["names", "user"], ["read", "user", "my-secret"], ["create", "user", "my-secret", {}], ["create", "user", "hvacs", {"a": 1}]]);
    assert_eq!(hvac(&vault, "s.ann", "e-ann", &steps), [r#"["my-secret"]"#, r#"{"secret": "value"}"#, "AlreadyExists", "null"]);
    assert_eq!(ann.read("edge://user/hvacs").await.unwrap(), json!({"a": 1}));

    // E03: a bad name is refused before any request.
    let asked = vault.asked().len();
    for bad in ["edge://org/bad/name", "edge://user/bad.name", "edge://user/ä"] {
        says(&bad.parse::<Reference>().unwrap_err().to_string(), "BadEntry");
    }
    assert_eq!(hvac(&vault, "s.root", "e-root", &json!([["create", "org", "bad/name", {}]])), ["BadEntry"]);
    assert_eq!(vault.asked().len(), asked);

    // E04: what isn't there isn't changed.
    let none = source("edge://user/nope");
    assert!(matches!(ann.0.update(&none, &value(&json!({"a": 1})), None).await, Err(WriteError::NotFound)));
    assert_eq!(hvac(&vault, "s.ann", "e-ann", &json!([["update", "user", "nope", {"a": 1}]])), ["NotFound"]);
    assert_eq!(vault.value("", "secret/edge/users/e-ann/nope"), None);
    ann.0.update(&mine, &value(&json!({"other": true})), None).await.unwrap();
    assert_eq!(ann.read("edge://user/my-secret").await.unwrap(), json!({"other": true}), "it takes the place of the whole value");
    for no_object in ["[1]", "\"text\"", "1", "not json"] {
        let error = ann.0.update(&mine, &Sensitive::from(no_object.to_owned()), None).await.unwrap_err();
        assert!(matches!(error, WriteError::Refused(_)), "{no_object}: {error}");
    }

    // E05: wrapped by a member, redeemed once by whoever has the token.
    let shared = source("edge://org/s");
    root.0.create(&shared, &value(&json!({"a": 1}))).await.unwrap();
    let wrapped = ann.0.wrap(&shared, WRAPPED_FOR).await.unwrap();
    assert_eq!((wrapped.life, wrapped.namespace.as_deref()), (WRAPPED_FOR, None));
    let (status, answer) = redeem(&wrapped);
    assert_eq!((status, &answer["data"]["data"]), (200, &json!({"a": 1})));
    let (status, answer) = redeem(&wrapped);
    assert_eq!((status, &answer["errors"][0]), (400, &json!("wrapping token is not valid or does not exist")));
    assert!(!format!("{wrapped:?}").contains("s.wrap"), "it is printed nowhere");
    assert_eq!(hvac(&vault, "s.bob", "e-bob", &json!([["wrap", "org", "s"]])), [r#"[{"a": 1}, 400]"#]);
    assert_eq!(ann.0.wrap(&source("edge://org/none"), WRAPPED_FOR).await.unwrap_err().reason, Reason::SourceNotFound);
    let short = ann.0.wrap(&shared, Duration::from_secs(1)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(redeem(&short).0, 400, "it is over after its life");

    // E06: deleted and made again, by both; deleting what isn't there is no error.
    for _ in 0..2 {
        root.0.delete(&shared).await.unwrap();
    }
    root.0.create(&shared, &value(&json!({"b": 2}))).await.unwrap();
    let steps = json!([["delete", "org", "s"], ["create", "org", "s", {"c": 3}]]);
    assert_eq!(hvac(&vault, "s.root", "e-root", &steps), ["null", "null"]);
    assert_eq!(ann.read("edge://org/s").await.unwrap(), json!({"c": 3}));
    // One that was deleted softly isn't changed either; Vault wouldn't say so of itself.
    vault.delete("", "secret/edge/orgs/shop/s", false);
    assert!(matches!(root.0.update(&shared, &value(&json!({})), None).await, Err(WriteError::NotFound)));
}

#[tokio::test]
async fn the_documented_policies_keep_users_apart_and_members_from_writing() {
    let vault = vault();
    let [ann, bob] = ["s.ann", "s.bob"].map(|token| Ours::new(&vault, token, &json!({})));
    let root = Ours::new(&vault, "s.root", &json!({}));
    ann.0.create(&source("edge://user/mine"), &value(&json!({"a": 1}))).await.unwrap();
    root.0.create(&source("edge://org/ours"), &value(&json!({"b": 1}))).await.unwrap();
    for token in ["s.bob", "s.root"] {
        let as_ann = Ours::new(&vault, token, &json!({"user": "e-ann"}));
        let error = as_ann.read("edge://user/mine").await.unwrap_err();
        assert_eq!(error.reason, Reason::AccessDenied, "not even the organisation's administrator");
        assert_eq!(failed(as_ann.0.update(&source("edge://user/mine"), &value(&json!({})), None).await.unwrap_err()), Reason::AccessDenied);
        assert_eq!(as_ann.0.wrap(&source("edge://user/mine"), WRAPPED_FOR).await.unwrap_err().reason, Reason::AccessDenied);
    }
    assert_eq!(bob.read("edge://org/ours").await.unwrap(), json!({"b": 1}));
    assert_eq!(bob.list("org").await, ["org/ours"]);
    assert_eq!(failed(bob.0.create(&source("edge://org/new"), &value(&json!({}))).await.unwrap_err()), Reason::AccessDenied);
    assert_eq!(failed(bob.0.update(&source("edge://org/ours"), &value(&json!({})), None).await.unwrap_err()), Reason::AccessDenied);
    assert_eq!(failed(bob.0.delete(&source("edge://org/ours")).await.unwrap_err()), Reason::AccessDenied);
    assert_eq!(bob.read("edge://org/ours").await.unwrap(), json!({"b": 1}));
    assert!(vault.asked().iter().filter(|asked| asked.status == 403).all(|asked| asked.who.starts_with("token-e-")), "each was refused as whoever asked");
}

#[tokio::test]
async fn secrets_are_mirrored_searched_rechecked_and_told_of_when_they_are_gone() {
    scene_before_controller("edge", async |s| {
        let vault = vault();
        let [user, member, _] = policies("e-ann");
        vault.entity_token(&s.value("token"), "e-ann", [user, member].concat());
        put_key(s, "edge", &s.value("token")).await;
        let root = Ours::new(&vault, "s.root", &json!({}));
        let ann = Ours::new(&vault, "s.ann", &json!({}));
        ann.0.create(&source("edge://user/db"), &value(&json!({"user": "ann", "password": s.value("mine")}))).await.unwrap();
        for name in ["db", "goes"] {
            root.0.create(&source(&format!("edge://org/{name}")), &value(&json!({"password": s.value(name)}))).await.unwrap();
        }
        // What lies deeper, or has a name that no secret of Edge has, is none.
        vault.put("", "secret/edge/orgs/shop/deeper/x", &json!({"a": s.value("deeper")}));
        vault.put("", "secret/edge/orgs/shop/a.b", &json!({"a": s.value("dotted")}));
        let edge = |more: Value| {
            let mut spec = json!({"vault": {"address": vault.url(), "auth": {"token": {"secretRef": {"name": "edge", "key": "key"}}}}});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({"edge": spec})
        };
        provide(s, "edge", &edge(json!({"organization": "shop"}))).await;
        provide(s, "nowhere", &edge(json!({}))).await;
        let mut narrow = edge(json!({"organization": "shop"}));
        narrow["allow"] = json!([{"references": ["edge://org/*"]}]);
        provide(s, "narrow", &narrow).await;
        start(s, &[vault.url()], &[]).await;
        s.apply("keys", &spec("edge", json!([entry("mine", "edge://user/db#/password"), entry("ours", "edge://org/db#/password")]))).await;
        s.apply("goes", &fleeting("edge", json!([entry("a", "edge://org/goes#/password")]))).await;
        s.apply("nowhere", &spec("nowhere", json!([entry("a", "edge://org/db")]))).await;
        s.apply("narrow", &spec("narrow", json!([entry("a", "edge://user/db")]))).await;
        s.apply("missing", &spec("edge", json!([entry("a", "edge://org/none")]))).await;
        s.apply("bad", &spec("edge", json!([entry("a", "edge://org/a.b")]))).await;
        let provider = json!({"kind": "RobotoProvider", "name": "edge"});
        s.apply("all", &json!({"provider": provider, "ttl": "10s", "dataFrom": [{"byPath": {"uri": "edge://org"}}]}).to_string()).await;
        s.holds("keys", &[("mine", &s.value("mine")), ("ours", &s.value("db"))], SECONDS).await;
        s.holds("goes", &[("a", &s.value("goes"))], SECONDS).await;
        let [db, goes] = ["db", "goes"].map(|name| json!({"password": s.value(name)}).to_string());
        s.holds("all", &[("db", &db), ("goes", &goes)], SECONDS).await;
        says(&s.condition("nowhere", "Ready", "False InvalidSpec", SECONDS).await, "no organization is named");
        s.condition("narrow", "Ready", "False NotAllowed", SECONDS).await;
        says(&s.condition("missing", "Ready", "False SourceNotFound", SECONDS).await, "edge://org/none");
        says(&s.condition("bad", "Ready", "False InvalidSpec", SECONDS).await, "BadEntry");
        let source_status = s.status("keys").await.sources.into_iter().find(|of| of.uri == "edge://user/db").unwrap();
        assert_eq!(source_status.arn, format!("vault:{}/secret/edge/users/e-ann/db", vault.url()));

        ann.0.update(&source("edge://user/db"), &value(&json!({"password": s.value("next")})), None).await.unwrap();
        s.holds("keys", &[("mine", &s.value("next")), ("ours", &s.value("db"))], WITHIN_TTL).await;
        vault.fail(Some(503));
        s.condition("goes", "Fresh", "False ProviderUnavailable", WITHIN_TTL).await;
        assert!(s.data("goes").await.is_some());
        vault.fail(None);
        root.0.delete(&source("edge://org/goes")).await.unwrap();
        until("goes is gone", Duration::from_secs(240), async || s.data("goes").await.is_none().then_some(())).await;
        assert!(s.data("keys").await.is_some());
    })
    .await;
}

#[tokio::test]
async fn the_example_becomes_what_it_says() {
    scene_before_controller("edge-example", async |s| {
        let (vault, ns) = (Vault::start().unwrap(), s.namespace.clone());
        let [user, member, _] = policies("entity-edge-shop");
        vault.role("edge-shop", &format!("{ns}:edge-reader"), "vault", [user, member].concat(), Duration::from_secs(3600));
        vault.put("", "secret/edge/orgs/shop/database", &json!({"password": s.value("password")}));
        vault.put("", "secret/edge/users/entity-edge-shop/notebook", &json!({"token": s.value("token")}));
        let text = std::fs::read_to_string(root().join("examples/28-edge.yaml")).unwrap();
        let text = text.replace("namespace: shop", &format!("namespace: {ns}")).replace("https://vault.example.com:8200", &vault.url());
        for object in testbed::chart::documents(&text).unwrap() {
            apply_object(&s.client, &object).await.unwrap();
        }
        let account = format!("identities.serviceAccounts[0].namespaces[0]={ns}");
        start(s, &[vault.url()], &["identities.serviceAccounts[0].name=edge-reader", &account]).await;
        s.holds("from-edge", &[("password", &s.value("password")), ("token", &s.value("token"))], SECONDS).await;
    })
    .await;
}
