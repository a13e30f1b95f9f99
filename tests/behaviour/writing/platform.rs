//! A Roboto platform: what this client makes, changes and deletes, and what the platform's own SDK does, against the same double.

use std::process::Command;

use futures::{FutureExt, future::BoxFuture};
use robotosecret::{
    limit::{Budgets, Calls, Turns},
    provider::{
        Provider, Question, ReadError, Value as Kept, WriteError,
        aws::Ambient,
        grants::{Grant, Grants},
        roboto::{READS, RobotoPlatform},
        writing::{Described, Written},
    },
    sensitive::Sensitive,
    telemetry::Metrics,
};
use serde_json::{Value, json};
use testbed::{
    Emulator, Roboto,
    front::{Answer, Fault},
    roboto::{Asked, refusal},
};

use super::{source, told};
use crate::support::{run, says};

struct Key;

impl Grants for Key {
    fn grant(&self) -> BoxFuture<'_, Result<Grant, ReadError>> {
        async { Ok(Grant::Secret(Sensitive::from("robo_key".to_owned()))) }.boxed()
    }
}

/// A platform whose API key belongs to `org_1`, where its values are, and a client of ours.
struct Platform {
    emulator: Emulator,
    roboto: Roboto,
    ours: RobotoPlatform,
}

impl Platform {
    async fn new() -> Self {
        let emulator = Emulator::start().unwrap();
        let roboto = Roboto::start(&emulator, 50).unwrap();
        roboto.key("robo_key", &["org_1"]);
        let spec = json!({"endpoint": roboto.url(), "apiKey": {"secretRef": {"name": "x", "key": "x"}}, "secretsManagerEndpoint": emulator.url()});
        let ambient = Ambient::load().await;
        let ours = RobotoPlatform::new(&serde_json::from_value(spec).unwrap(), Box::new(Key), &ambient, "test", Metrics::default()).unwrap();
        Self { emulator, roboto, ours }
    }

    /// What our client reads there, or why not.
    async fn read(&self, uri: &str) -> Result<String, ReadError> {
        let calls = Calls::new(Turns::new(std::sync::Arc::new(std::sync::Mutex::new(Budgets::default())), ("test".into(), READS)));
        match self.ours.read_one(&Question::Value(source(uri)), &calls).await?.value {
            Kept::Text(text) => Ok(String::from_utf8(text.expose().to_vec()).unwrap()),
            Kept::Binary(_) | Kept::List(_) => panic!("no text"),
        }
    }

    async fn create(&self, uri: &str, initial: Option<&str>) -> Result<Written, WriteError> {
        self.ours.create(&source(uri), initial.map(value).as_ref()).await
    }

    async fn update(&self, uri: &str, text: &str) -> Result<Written, WriteError> {
        self.ours.update(&source(uri), &value(text)).await
    }

    /// What the platform's own SDK answers to each step.
    fn sdk(&self, steps: &Value) -> Vec<String> {
        let mut command = Command::new(testbed::moto::python().unwrap());
        command.args(["-c", SCRIPT]).env("ROBOTO_API_KEY", "robo_key").env("ROBOTO_SERVICE_ENDPOINT", self.roboto.url());
        let said = run(command.env("AWS_ENDPOINT_URL_SECRETS_MANAGER", self.emulator.url()), &steps.to_string());
        assert!(said.ok, "{}", said.err);
        said.out.lines().map(str::to_owned).collect()
    }

    /// What was asked of the platform since then, as somebody who compares two clients sees it.
    fn asked(&self, since: usize) -> Vec<Told> {
        self.roboto.asked().into_iter().skip(since).map(Told::from).collect()
    }
}

/// A request: method, path, the header that names the organisation, the organisation, the body and the status.
#[derive(Debug, PartialEq)]
struct Told(String, String, &'static str, String, String, u16);

impl From<Asked> for Told {
    fn from(asked: Asked) -> Self {
        assert_eq!(asked.version, "2026-10-06");
        Self(asked.method, asked.path, asked.org_header, asked.org, asked.body, asked.status)
    }
}

fn value(text: &str) -> Sensitive {
    Sensitive::from(text.to_owned())
}

/// Takes steps from its input and prints what came of each: null, a value or the name of an exception.
const SCRIPT: &str = r#"
import json, sys
from roboto.domain.secrets import Secret

def create(name, initial):
    Secret.create(name, caller_org_id="org_1", initial_value=initial)

def update(name, value):
    Secret.from_name(name, org_id="org_1").update_value(value)

def read(name):
    return Secret.from_name(name, org_id="org_1").read_value().get_secret_value()

def delete(name):
    Secret.from_name(name, org_id="org_1").delete()

for step in json.load(sys.stdin):
    try:
        print(json.dumps(globals()[step[0]](*step[1:])))
    except Exception as error:
        print(type(error).__name__)
"#;

#[tokio::test]
async fn a_secret_is_made_changed_and_deleted_as_the_platforms_own_sdk_does_it() {
    let it = Platform::new().await;
    // R01, R02, R03 and R12, request by request.
    let steps = json!([["create", "theirs", null], ["create", "theirs2", "super_secret"], ["create", "theirs", null]]);
    assert_eq!(it.sdk(&steps), ["null", "null", "RobotoConflictException"]);
    let theirs = it.asked(0);
    let before = it.roboto.asked().len();
    let address = |name: &str| format!("roboto:{}/org_1/{name}", it.roboto.url());
    assert_eq!(
        it.create("roboto-secret://ourss@org_1", None).await.unwrap(),
        Written { arn: address("ourss"), version: String::new() },
        "the record is there, without a value"
    );
    let written = it.create("roboto-secret://ourss2@org_1", Some("super_secret")).await.unwrap();
    assert_eq!((written.arn, written.version.len()), (address("ourss2"), 36));
    assert_eq!(told(it.create("roboto-secret://ourss@org_1", Some("other")).await), "AlreadyExists");
    let as_theirs = |told: Told| Told(told.0, told.1.replace("ourss", "theirs"), told.2, told.3, told.4.replace("ourss", "theirs"), told.5);
    assert_eq!(it.asked(before).into_iter().map(as_theirs).collect::<Vec<_>>(), theirs);
    assert_eq!(theirs[0], Told("POST".to_owned(), "/v1/secrets".to_owned(), "x-roboto-org-id", "org_1".to_owned(), r#"{"name":"theirs"}"#.to_owned(), 200));

    // Each reads what the other wrote, byte for byte, with credentials that are lent and never the platform's help.
    assert_eq!(it.sdk(&json!([["read", "ourss2"], ["read", "ourss"]])), [r#""super_secret""#, "ResourceNotFoundException"]);
    for text in ["pä$$\n\"日本\"", r#"{"k":1}"#, " x "] {
        it.update("roboto-secret://theirs2@org_1", text).await.unwrap();
        assert_eq!(it.sdk(&json!([["read", "theirs2"]])), [serde_json::to_string(text).unwrap().chars().map(ascii).collect::<String>()]);
        assert_eq!(it.sdk(&json!([["update", "ourss2", text]])), ["null"]);
        assert_eq!(it.read("roboto-secret://ourss2").await.unwrap(), text);
    }
    assert!(it.emulator.count(|call| call.action == "PutSecretValue") >= 8);
    assert_eq!(it.emulator.count(|call| call.action == "PutSecretValue" && !(call.temporary && call.access_key_id.starts_with("ASIALENT"))), 0);

    // What isn't there isn't changed.
    let before = it.roboto.asked().len();
    assert_eq!(told(it.update("roboto-secret://none@org_1", "x").await), "NotFound");
    let asked = it.asked(before);
    assert_eq!((asked.len(), asked[0].1.as_str(), asked[0].2, asked[0].5), (1, "/v1/secrets/name/none/creds", "x-roboto-resource-owner-id", 404));
    assert_eq!(it.sdk(&json!([["update", "none", "x"]])), ["RobotoNotFoundException"]);

    // Deleted by either; then it is not found.
    let before = it.roboto.asked().len();
    it.ours.delete(&source("roboto-secret://theirs@org_1")).await.unwrap();
    let gone = Told("DELETE".to_owned(), "/v1/secrets/name/theirs".to_owned(), "x-roboto-resource-owner-id", "org_1".to_owned(), String::new(), 204);
    assert_eq!(it.asked(before), [gone]);
    assert_eq!(told(it.ours.delete(&source("roboto-secret://theirs@org_1")).await), "NotFound");
    assert_eq!(
        it.sdk(&json!([["delete", "ourss"], ["delete", "ourss"], ["delete", "theirs"]])),
        ["null", "RobotoNotFoundException", "RobotoNotFoundException"]
    );
    assert_eq!(told(it.ours.describe(&source("roboto-secret://ourss@org_1")).await), "NotFound");
    // What was kept of one that is gone is of no use.
    it.read("roboto-secret://ourss2@org_1").await.unwrap();
    it.ours.delete(&source("roboto-secret://ourss2@org_1")).await.unwrap();
    assert!(it.read("roboto-secret://ourss2@org_1").await.is_err());
    it.create("roboto-secret://ourss2@org_1", Some("anew")).await.unwrap();
    assert_eq!(it.read("roboto-secret://ourss2@org_1").await.unwrap(), "anew");
}

/// As Python's JSON is printed.
fn ascii(letter: char) -> String {
    if letter.is_ascii() { letter.to_string() } else { format!("\\u{:04x}", u32::from(letter)) }
}

#[tokio::test]
async fn without_an_organisation_none_is_named_and_the_record_tells_all_but_the_value() {
    let it = Platform::new().await;
    it.create("roboto-secret://team/a", Some("x")).await.unwrap();
    it.update("roboto-secret://team/a", "y").await.unwrap();
    let described = it.ours.describe(&source("roboto-secret://team/a")).await.unwrap();
    assert!(described.created.is_some() && described.changed.is_some());
    let expected = Described {
        arn: Some(format!("roboto:{}/org_1/team/a", it.roboto.url())),
        created: described.created.clone(),
        changed: described.changed.clone(),
        ..Described::default()
    };
    assert_eq!(described, expected);
    it.ours.delete(&source("roboto-secret://team/a")).await.unwrap();
    let asked = it.asked(0);
    // Once it is made, its organisation is known.
    let named: Vec<&str> = asked.iter().map(|told| told.3.as_str()).collect();
    assert_eq!(named, ["", "org_1", "", "", ""], "{asked:?}");
}

#[tokio::test]
async fn what_can_not_be_kept_is_refused_before_anything_is_made() {
    let it = Platform::new().await;
    for bad in [Sensitive::new(Vec::new()), Sensitive::new(vec![0xff]), Sensitive::new(vec![b'x'; 65_537])] {
        assert_eq!(told(it.ours.create(&source("roboto-secret://bad"), Some(&bad)).await), "Refused");
        assert_eq!(told(it.ours.update(&source("roboto-secret://bad"), &bad).await), "Refused");
    }
    assert_eq!(told(it.ours.delete(&source("aws.sm://bad")).await), "Refused");
    assert!(it.roboto.asked().is_empty());
}

#[tokio::test]
async fn each_way_to_fail_is_told_and_nothing_is_said_twice() {
    let it = Platform::new().await;
    it.create("roboto-secret://x", Some("first")).await.unwrap();
    for (status, body, of_update, of_create) in [
        (409, refusal("RobotoConflictException", "canary"), "Conflict", "AlreadyExists"),
        (409, json!("canary"), "Conflict", "AlreadyExists"),
        (404, json!({"message": "canary"}), "SourceNotFound", "SourceNotFound"),
        (400, refusal("RobotoIllegalArgumentException", "canary"), "Refused", "Refused"),
        (400, refusal("RobotoLimitExceededException", "canary"), "Refused", "Refused"),
        (401, refusal("RobotoUnauthorizedException", "canary"), "AccessDenied", "AccessDenied"),
        (403, testbed::roboto::explicit_deny(), "CredentialsError", "CredentialsError"),
        (429, json!("canary"), "Throttled", "Throttled"),
        (503, json!("canary"), "ProviderUnavailable", "ProviderUnavailable"),
        (200, json!({"data": "canary"}), "ProviderUnavailable", "ProviderUnavailable"),
    ] {
        for (make, expected) in [(true, of_create), (false, of_update)] {
            it.roboto.fail(1, status, &body);
            let before = it.roboto.asked().len();
            let answer = if make { it.create("roboto-secret://new", None).await } else { it.update("roboto-secret://x", "canary").await };
            let error = answer.unwrap_err();
            assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
            assert_eq!((told::<()>(Err(error)).as_str(), it.roboto.asked().len() - before), (expected, 1), "HTTP {status} {make}");
        }
        it.roboto.fail(1, status, &body);
        // What a success of a deletion says is not looked at.
        let of_delete = if status == 200 { "ok" } else { of_update };
        assert_eq!(told(it.ours.delete(&source("roboto-secret://x")).await), of_delete, "HTTP {status}");
    }
    assert_eq!(it.read("roboto-secret://x").await.unwrap(), "first");

    // Secrets Manager refuses what is lent; what was made stays, without a value.
    let denied = Answer::Denied { id: "roboto/org_1/x".to_owned() };
    let fault = it.emulator.add_fault(Fault::new(|call| call.action == "PutSecretValue", denied));
    let error = it.update("roboto-secret://x", "canary").await.unwrap_err().to_string();
    says(&error, "AccessDenied: Secrets Manager refuses the credentials that the platform lends for it");
    let error = it.create("roboto-secret://half", Some("canary")).await.unwrap_err().to_string();
    says(&error, "AccessDenied: the secret was made, and has no value yet; update it: Secrets Manager refuses");
    it.emulator.remove_fault(fault);
    assert_eq!(told(it.create("roboto-secret://half", Some("x")).await), "AlreadyExists");
    it.update("roboto-secret://half", "x").await.unwrap();
    assert_eq!(it.read("roboto-secret://half").await.unwrap(), "x");
    // The platform knows it, and Secrets Manager doesn't.
    it.emulator.delete_secret("roboto/org_1/x").unwrap();
    let error = it.update("roboto-secret://x", "y").await.unwrap_err().to_string();
    says(&error, "SourceNotFound: the platform knows it, and Secrets Manager");
}
