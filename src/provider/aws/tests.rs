//! What stands on the wire, and what becomes of it: answers as AWS spells them, from a server of the test's own.

mod questions;
mod stores;
mod writes;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use aws_config::BehaviorVersion;
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, error::CredentialsError, future},
};
use axum::{
    Router,
    body::{Bytes, to_bytes},
    extract::Request,
    http::StatusCode,
    response::{IntoResponse, Response},
    serve::ListenerExt,
};
use futures::future::join_all;
use serde_json::{Value as Json, json};
use tokio::net::TcpListener;

use super::*;
use crate::{api::reference::Reference, limit::Turns, provider::Value};

/// Whatever it is part of holds a value that must not be seen.
const CANARY: &str = "cAnArY-7f3a";
const ACCOUNT: &str = r#"<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
    <Arn>arn:aws:iam::123456789012:role/r</Arn><UserId>AIDA</UserId><Account>123456789012</Account></GetCallerIdentityResult>
    <ResponseMetadata><RequestId>r-1</RequestId></ResponseMetadata></GetCallerIdentityResponse>"#;

/// One answer of the server; status 0: none, ever.
struct Answer(&'static str, u16, String);

fn ok(action: &'static str, body: &Json) -> Answer {
    Answer(action, 200, body.to_string())
}

fn fails(action: &'static str, status: u16, code: &str, message: &str) -> Answer {
    Answer(action, status, json!({"__type": code, "message": message}).to_string())
}

/// A store that answers by the book, and what was asked of it.
struct Wire {
    url: String,
    calls: Arc<Mutex<Vec<(String, Json)>>>,
    connections: Arc<AtomicUsize>,
}

impl Wire {
    /// Each action is answered in turn by the answers that are there for it; the last one stays.
    async fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        let book: Arc<Mutex<VecDeque<Answer>>> = Arc::new(Mutex::new(answers.into_iter().collect()));
        let calls: Arc<Mutex<Vec<(String, Json)>>> = Arc::default();
        let connections: Arc<AtomicUsize> = Arc::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (told, counted) = (calls.clone(), connections.clone());
        let serve = async move |request: Request| -> Response {
            let target = request.headers().get("x-amz-target").map(|target| target.to_str().unwrap().to_owned());
            let body: Bytes = to_bytes(request.into_body(), 1 << 20).await.unwrap();
            let action = target.as_deref().and_then(|target| target.rsplit('.').next()).unwrap_or("GetCallerIdentity").to_owned();
            told.lock().unwrap().push((action.clone(), serde_json::from_slice(&body).unwrap_or_default()));
            let (status, body) = {
                let mut book = book.lock().unwrap();
                let more = book.iter().filter(|answer| answer.0 == action).count() > 1;
                match book.iter().position(|answer| answer.0 == action) {
                    Some(first) if more => book.remove(first).map(|answer| (answer.1, answer.2)).unwrap(),
                    Some(first) => (book[first].1, book[first].2.clone()),
                    None => (500, "not in the book".to_owned()),
                }
            };
            if status == 0 {
                std::future::pending::<()>().await;
            }
            (StatusCode::from_u16(status).unwrap(), [("x-amzn-requestid", "r-1")], body).into_response()
        };
        let listener = listener.tap_io(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(serve)).await });
        Self { url, calls, connections }
    }

    fn actions(&self) -> Vec<String> {
        self.calls.lock().unwrap().iter().map(|(action, _)| action.clone()).collect()
    }

    fn spec(&self) -> AwsSpec {
        let url = &self.url;
        serde_json::from_value(json!({"region": "eu-west-1", "endpoints": {"secretsManager": url, "ssm": url, "sts": url}, "identity": {"ambient": {}}}))
            .unwrap()
    }

    async fn provider(&self) -> AwsProvider {
        AwsProvider::new(&self.spec(), Principal::ambient(), &Keys::lasting(3600).ambient().await, Metrics::default())
    }
}

/// An identity that counts how often it was asked, and whose keys last some seconds; 0: it has none.
#[derive(Clone, Debug)]
struct Keys {
    seconds: u64,
    asked: Arc<AtomicUsize>,
}

impl Keys {
    fn lasting(seconds: u64) -> Self {
        Self { seconds, asked: Arc::default() }
    }

    async fn ambient(&self) -> Ambient {
        Ambient::of(aws_config::defaults(BehaviorVersion::v2026_01_12()).credentials_provider(self.clone())).await
    }
}

impl ProvideCredentials for Keys {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            self.asked.fetch_add(1, Ordering::SeqCst);
            // Long enough for all others to come while the first waits.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            if self.seconds == 0 {
                return Err(CredentialsError::not_loaded("none here"));
            }
            Ok(Credentials::new("AKID", "secret", None, Some(SystemTime::now() + Duration::from_secs(self.seconds)), "test"))
        })
    }
}

fn questions(uris: &[&str]) -> Vec<Question> {
    uris.iter().map(|uri| Question::Value(uri.parse::<Reference>().unwrap().source)).collect()
}

/// Reads them as the lot that the first of them belongs to.
async fn read(provider: &AwsProvider, uris: &[&str]) -> LotAnswer {
    let questions = questions(uris);
    provider.read_lot(provider.route(&questions[0]).lot.unwrap(), &questions).await
}

/// Each answer in a word or two: the value, the reason and message, or a dash; and the number of pages.
async fn each(provider: &AwsProvider, uris: &[&str]) -> (Vec<String>, u32) {
    let LotAnswer::Each { answers, pages } = read(provider, uris).await else { panic!("not each") };
    (
        answers
            .into_iter()
            .map(|answer| answer.map_or("-".to_owned(), |answer| answer.map_or_else(|error| error.to_string(), |reading| text(&reading))))
            .collect(),
        pages,
    )
}

/// Calls that never wait for their turn.
fn calls() -> Calls {
    Calls::new(Turns::new(Arc::default(), ("account".into(), GET_SECRET_VALUE)))
}

fn text(reading: &Reading) -> String {
    match &reading.value {
        Value::Text(text) => String::from_utf8(text.expose().to_vec()).unwrap(),
        Value::Binary(bytes) => format!("{:?}", bytes.expose()),
        Value::List(found) => format!("{} found", found.len()),
    }
}

fn secret_arn(name: &str) -> String {
    format!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:{name}-AbCdEf")
}

fn parameter_arn(name: &str) -> String {
    format!("arn:aws:ssm:eu-west-1:123456789012:parameter{name}")
}

fn secret(name: &str, value: &str) -> Json {
    let id = "11111111-2222-3333-4444-555555555555";
    json!({"ARN": secret_arn(name), "Name": name, "VersionId": id, "SecretString": value, "VersionStages": ["AWSCURRENT"], "CreatedDate": 1_523_477_145.713})
}

fn parameter(name: &str, value: &str) -> Json {
    let arn = parameter_arn(name);
    json!({"ARN": arn, "Name": name, "Type": "SecureString", "Value": value, "Version": 7, "LastModifiedDate": 1_582_154_711.976, "DataType": "text"})
}

fn without(mut entry: Json, member: &str) -> Json {
    entry.as_object_mut().unwrap().remove(member).unwrap();
    entry
}

fn problem(id: &str, code: &str, message: &str) -> Json {
    json!({"SecretId": id, "ErrorCode": code, "Message": message})
}

#[tokio::test]
async fn each_secret_of_a_shared_call_has_its_own_answer() {
    let denied = "User: u is not authorized to perform: secretsmanager:GetSecretValue on resource: denied";
    let wire = Wire::new([ok(
        "BatchGetSecretValue",
        &json!({
            "SecretValues": [secret("b", "two"), {"ARN": secret_arn("bin"), "Name": "bin", "VersionId": "v", "SecretBinary": "AP8="}, secret("foreign", CANARY), secret("a", "one")],
            "Errors": [
                problem("gone", "ResourceNotFoundException", "Secrets Manager can't find the specified secret."),
                problem("denied", "AccessDeniedException", denied),
                problem("key", "AccessDeniedException", "Access to KMS is not allowed"),
                problem("binned", "InvalidRequestException", "You can't perform this operation on the secret because it was marked for deletion."),
                problem("often", "ThrottlingException", "Rate exceeded"),
                problem("broken", "InternalServiceError", "An error occurred on the server side."),
            ],
        }),
    )])
    .await;
    let provider = wire.provider().await;
    let names = ["a", "gone", "bin", "denied", "key", "binned", "often", "broken", "unsaid", "b"];
    let uris: Vec<String> = names.iter().map(|name| format!("aws.sm://{name}")).collect();
    let (answers, pages) = each(&provider, &uris.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let expected = [
        "one",
        "SourceNotFound: Secrets Manager has no such secret in this region, or no value of it with this version or stage; check the name (ResourceNotFoundException)",
        "[0, 255]",
        "AccessDenied: the identity may not read this; grant it secretsmanager:GetSecretValue on it (AccessDeniedException)",
        "AccessDenied: the encryption key refuses the identity; grant it kms:Decrypt on the key (AccessDeniedException)",
        "SourceNotFound: the secret is scheduled for deletion; restore it or refer to another (InvalidRequestException)",
        "Throttled: the store asks to slow down; retrying more slowly (ThrottlingException)",
        "ProviderUnavailable: the store failed (InternalServiceError)",
        "-",
        "two",
    ];
    assert_eq!((answers, pages), (expected.map(str::to_owned).to_vec(), 1));
    assert_eq!(*wire.calls.lock().unwrap(), [("BatchGetSecretValue".to_owned(), json!({"SecretIdList": names}))]);
    let metrics = provider.metrics.render(None);
    assert!(metrics.contains(r#"provider_calls_total{store="aws.sm",api="BatchGetSecretValue",outcome="ok"} 1"#), "{metrics}");
}

#[tokio::test]
async fn each_parameter_of_a_shared_call_has_its_own_answer() {
    let wire = Wire::new([ok(
        "GetParameters",
        &json!({"Parameters": [parameter("/p/b", "two"), parameter("/x", CANARY), parameter("/p/a", "one"), parameter("root", "three")], "InvalidParameters": ["/p/gone"]}),
    )])
    .await;
    let provider = wire.provider().await;
    let (answers, pages) = each(&provider, &["aws.ps:///p/a", "aws.ps:///p/gone", "aws.ps:///p/unsaid", "aws.ps:///root", "aws.ps:///p/b"]).await;
    let gone =
        "SourceNotFound: Parameter Store has no such parameter in this region; check the name (most start with a slash: aws.ps:///name) (ParameterNotFound)";
    assert_eq!((answers, pages), (["one", gone, "-", "three", "two"].map(str::to_owned).to_vec(), 1));
    let asked = json!({"Names": ["/p/a", "/p/gone", "/p/unsaid", "/root", "/p/b"], "WithDecryption": true});
    assert_eq!(*wire.calls.lock().unwrap(), [("GetParameters".to_owned(), asked)]);
    assert!(provider.metrics.render(None).contains(r#"provider_calls_total{store="aws.ps",api="GetParameters",outcome="ok"} 1"#));
}

#[tokio::test]
async fn further_pages_are_fetched_also_after_an_empty_one() {
    let wire = Wire::new([
        ok("BatchGetSecretValue", &json!({"SecretValues": [secret("a", "one")], "NextToken": "t1"})),
        ok("BatchGetSecretValue", &json!({"SecretValues": [], "Errors": [], "NextToken": "t2"})),
        ok("BatchGetSecretValue", &json!({"SecretValues": [secret("b", "two")], "NextToken": null})),
    ])
    .await;
    let provider = wire.provider().await;
    assert_eq!(each(&provider, &["aws.sm://a", "aws.sm://b"]).await, (vec!["one".into(), "two".into()], 3));
    let bodies: Vec<Json> = wire.calls.lock().unwrap().iter().map(|(_, body)| body.clone()).collect();
    let page = |token: &str| json!({"SecretIdList": ["a", "b"], "NextToken": token});
    assert_eq!(bodies, [json!({"SecretIdList": ["a", "b"]}), page("t1"), page("t2")]);
}

#[tokio::test]
async fn an_answer_without_an_end_is_cut_off() {
    let wire = Wire::new([ok("BatchGetSecretValue", &json!({"SecretValues": [secret("a", "one")], "NextToken": "again"}))]).await;
    let provider = wire.provider().await;
    assert_eq!(each(&provider, &["aws.sm://a", "aws.sm://b"]).await, (vec!["one".into(), "-".into()], 25));
    assert_eq!(wire.actions().len(), 25);
}

#[tokio::test]
async fn two_answers_to_one_question_are_only_believed_if_they_are_the_same() {
    let wire = Wire::new([
        ok(
            "BatchGetSecretValue",
            &json!({"SecretValues": [secret("same", "1"), secret("other", CANARY), secret("same", "1"), secret("both", CANARY)], "NextToken": "t"}),
        ),
        ok("BatchGetSecretValue", &json!({"SecretValues": [secret("other", "2")], "Errors": [problem("both", "ResourceNotFoundException", "no")]})),
        ok(
            "GetParameters",
            &json!({"Parameters": [parameter("/other", CANARY), parameter("/other", "2"), parameter("/both", CANARY)], "InvalidParameters": ["/both"]}),
        ),
    ])
    .await;
    let provider = wire.provider().await;
    let conflict = "ProviderUnavailable: the store's answer could not be understood".to_owned();
    let (answers, _) = each(&provider, &["aws.sm://same", "aws.sm://other", "aws.sm://both"]).await;
    assert_eq!(answers, ["1".to_owned(), conflict.clone(), conflict.clone()]);
    let (answers, _) = each(&provider, &["aws.ps:///other", "aws.ps:///both"]).await;
    assert_eq!(answers, [conflict.clone(), conflict]);
}

#[tokio::test]
async fn an_incomplete_entry_is_an_error_of_its_own_only() {
    let wire = Wire::new([
        ok(
            "BatchGetSecretValue",
            &json!({"SecretValues": [without(secret("id", CANARY), "VersionId"), without(secret("arn", CANARY), "ARN"), without(secret("value", ""), "SecretString"), secret("whole", "1")]}),
        ),
        ok(
            "GetParameters",
            &json!({"Parameters": [without(parameter("/v", CANARY), "Version"), without(parameter("/arn", CANARY), "ARN"), without(parameter("/value", ""), "Value"), parameter("/whole", "1")]}),
        ),
    ])
    .await;
    let provider = wire.provider().await;
    let incomplete = "ProviderUnavailable: the store's answer was incomplete";
    let (answers, _) = each(&provider, &["aws.sm://id", "aws.sm://arn", "aws.sm://value", "aws.sm://whole"]).await;
    assert_eq!(answers, [incomplete, incomplete, "SourceNotFound: the secret has no value", "1"]);
    let (answers, _) = each(&provider, &["aws.ps:///v", "aws.ps:///arn", "aws.ps:///value", "aws.ps:///whole"]).await;
    assert_eq!(answers, [incomplete, incomplete, incomplete, "1"]);
}

/// How a call for two sources failed: the variant and the error.
async fn whole(answer: Answer, uris: &[&str]) -> (&'static str, ReadError) {
    let wire = Wire::new([answer]).await;
    match read(&wire.provider().await, uris).await {
        LotAnswer::Failed(error) => ("Failed", error),
        LotAnswer::Refused(error) => ("Refused", error),
        LotAnswer::Denied(error) => ("Denied", error),
        LotAnswer::Each { .. } => panic!("each"),
    }
}

#[tokio::test]
async fn a_call_that_fails_as_a_whole_says_whether_its_sources_may_be_why() {
    let denied =
        "User: arn:aws:sts::1:assumed-role/r/s is not authorized to perform: secretsmanager:BatchGetSecretValue because no identity-based policy allows it";
    let item = "User: arn:aws:sts::1:assumed-role/r/s is not authorized to perform: secretsmanager:GetSecretValue on resource: a";
    let parameter = "User: arn:aws:sts::1:assumed-role/r/s is not authorized to perform: ssm:GetParameters on resource: arn:aws:ssm:eu-west-1:1:parameter/a";
    let (secrets, parameters) = ("BatchGetSecretValue", "GetParameters");
    for (action, status, code, message, expected, reason) in [
        (secrets, 400, "ThrottlingException", "Rate exceeded", "Failed", Reason::Throttled),
        (parameters, 400, "ThrottlingException", "Rate exceeded", "Failed", Reason::Throttled),
        (parameters, 429, "Whatever", "slow down", "Failed", Reason::Throttled),
        (secrets, 400, "LimitExceededException", "too much", "Failed", Reason::Throttled),
        (parameters, 400, "KMSThrottlingException", "KMS is busy", "Refused", Reason::Throttled),
        (parameters, 400, "ThrottlingException", "You have exceeded the rate at which you may call KMS (Service: AWSKMS)", "Refused", Reason::Throttled),
        (secrets, 500, "InternalServiceError", "oh", "Failed", Reason::ProviderUnavailable),
        (parameters, 500, "InternalServerError", "oh", "Failed", Reason::ProviderUnavailable),
        (secrets, 503, "ServiceUnavailable", "oh", "Failed", Reason::ProviderUnavailable),
        (secrets, 400, "ExpiredTokenException", "expired", "Failed", Reason::ProviderUnavailable),
        (parameters, 403, "RequestTimeTooSkewed", "late", "Failed", Reason::ProviderUnavailable),
        (secrets, 400, "UnrecognizedClientException", "who", "Failed", Reason::CredentialsError),
        (parameters, 403, "InvalidSignatureException", "what", "Failed", Reason::CredentialsError),
        (secrets, 400, "AccessDeniedException", denied, "Denied", Reason::AccessDenied),
        (secrets, 400, "AccessDeniedException", "no", "Denied", Reason::AccessDenied),
        (secrets, 400, "AccessDeniedException", item, "Refused", Reason::AccessDenied),
        (secrets, 400, "AccessDeniedException", "Access to KMS is not allowed", "Refused", Reason::AccessDenied),
        (secrets, 400, "ResourceNotFoundException", "no value of one of them", "Refused", Reason::SourceNotFound),
        (secrets, 400, "InvalidRequestException", "duplicates", "Refused", Reason::SourceNotFound),
        (secrets, 400, "InvalidParameterException", "odd", "Refused", Reason::SourceNotFound),
        (secrets, 400, "DecryptionFailure", "key", "Refused", Reason::AccessDenied),
        (secrets, 400, "NeverHeardOf", "?", "Refused", Reason::ProviderUnavailable),
        (parameters, 400, "AccessDeniedException", parameter, "Refused", Reason::AccessDenied),
        (parameters, 400, "AccessDeniedException", "The ciphertext refers to a key that does not exist", "Refused", Reason::AccessDenied),
        (parameters, 400, "ValidationException", "name", "Refused", Reason::SourceNotFound),
        (parameters, 400, "InvalidKeyId", "key", "Refused", Reason::AccessDenied),
    ] {
        let uris = if action == secrets { ["aws.sm://a", "aws.sm://b"] } else { ["aws.ps:///a", "aws.ps:///b"] };
        let (said, error) = whole(fails(action, status, code, message), &uris).await;
        assert_eq!((said, error.reason), (expected, reason), "{action} {status} {code} {message}: {error:?}");
        assert!(!error.message.contains("aws."), "the reader names the source: {error:?}");
        assert_eq!(error.own, reason == Reason::Throttled && said == "Refused", "{error:?}");
    }
    let (_, error) = whole(fails(secrets, 400, "AccessDeniedException", denied), &["aws.sm://a"]).await;
    assert_eq!(error.message, "the identity may not read several secrets at once; grant it secretsmanager:BatchGetSecretValue on *");
    assert!(error.detail.unwrap().contains("[request r-1]"));
}

#[tokio::test]
async fn what_cannot_be_parsed_is_told_without_a_word_of_it() {
    for (action, uri) in [("BatchGetSecretValue", "aws.sm://a"), ("GetParameters", "aws.ps:///a")] {
        for (status, body) in [
            (200, format!("{{\"SecretValues\": [{{\"SecretString\": \"{CANARY}\"}}, {CANARY}]}}")),
            (
                200,
                format!(
                    "{{\"Parameters\": [{{\"Value\": {{\"a\": \"{CANARY}\"}}}}], \"SecretValues\": [{{\"Name\": \"a\", \"SecretString\": {{\"a\": \"{CANARY}\"}}}}]}}"
                ),
            ),
            (200, format!("{{\"Parameters\": [{{\"Name\": \"/a\", \"Value\": \"{CANARY}")),
            (200, CANARY.to_owned()),
            (502, format!("<html>{CANARY}</html>")),
        ] {
            let (said, error) = whole(Answer(action, status, body.clone()), &[uri]).await;
            assert_eq!((said, error.reason), ("Failed", Reason::ProviderUnavailable), "{action} {status} {body}: {error:?}");
            assert!(!format!("{error} {error:?}").contains(CANARY), "{action} {status} {body}: {error:?}");
        }
    }
}

#[tokio::test]
async fn both_ways_to_read_give_the_same_reading() {
    let (bytes, id) = (
        json!({"ARN": secret_arn("bin"), "Name": "bin", "VersionId": "v", "SecretBinary": "AP8=", "CreatedDate": 1.700_591_229_801E9}),
        "11111111-2222-3333-4444-555555555555",
    );
    let wire = Wire::new([
        ok("BatchGetSecretValue", &json!({"SecretValues": [secret("a", "one"), bytes]})),
        ok("GetSecretValue", &secret("a", "one")),
        ok("GetSecretValue", &bytes),
        ok("GetParameters", &json!({"Parameters": [parameter("/p/a", "one"), parameter("/root", "two")]})),
        ok("GetParameter", &json!({"Parameter": parameter("/p/a", "one")})),
        ok("GetParameter", &json!({"Parameter": parameter("/root", "two")})),
    ])
    .await;
    let provider = wire.provider().await;
    let mut versions = Vec::new();
    for uris in [["aws.sm://a", "aws.sm://bin"], ["aws.ps:///p/a", "aws.ps://root"]] {
        let LotAnswer::Each { answers, .. } = read(&provider, &uris).await else { panic!("not each") };
        for (source, answer) in questions(&uris).iter().zip(answers) {
            let (together, alone) = (answer.unwrap().unwrap(), provider.read_one(source, &calls()).await.unwrap());
            assert_eq!((text(&together), &together.version, &together.denotes), (text(&alone), &alone.version, &alone.denotes), "{source}");
            versions.push((together.version.id, together.version.created.unwrap(), together.denotes));
        }
    }
    let expected = [
        (id, "2018-04-11T20:05:45.713", "aws.sm://a"),
        ("v", "2023-11-21T18:27:09.801", "aws.sm://bin"),
        ("7", "2020-02-19T23:25:11.976", "aws.ps:///p/a"),
        ("7", "2020-02-19T23:25:11.976", "aws.ps:///root"),
    ];
    for ((id, created, denotes), expected) in versions.into_iter().zip(expected) {
        assert_eq!((id.as_str(), &created[..23], &denotes[..]), (expected.0, expected.1, &[expected.2.to_owned()][..]));
    }
}

#[tokio::test]
async fn a_single_read_names_its_source() {
    let wire = Wire::new([fails("GetSecretValue", 400, "ResourceNotFoundException", "no"), fails("GetParameter", 400, "ParameterNotFound", "")]).await;
    let provider = wire.provider().await;
    for (uri, start) in
        [("aws.sm://a?version-stage=X", "aws.sm://a?version-stage=X: Secrets Manager has no such"), ("aws.ps:///a", "aws.ps:///a: Parameter Store has")]
    {
        let error = provider.read_one(&questions(&[uri])[0], &calls()).await.unwrap_err();
        assert!(error.reason == Reason::SourceNotFound && error.message.starts_with(start), "{error:?}");
    }
    let error = provider.read_one(&questions(&["aws.ps:///aws/reference/secretsmanager/a"])[0], &calls()).await.unwrap_err();
    assert_eq!(error.reason, Reason::InternalError, "it is read as a secret: {error:?}");
    assert_eq!(wire.actions(), ["GetSecretValue", "GetParameter"]);
}

#[tokio::test]
async fn what_its_route_does_not_allow_is_not_asked_in_company() {
    let wire = Wire::new([ok("BatchGetSecretValue", &json!({"SecretValues": [secret("a", "one")]}))]).await;
    let provider = wire.provider().await;
    let (answers, _) = each(&provider, &["aws.sm://a", "aws.sm://b?version-stage=X", "aws.ps:///c"]).await;
    assert_eq!(answers[0], "one");
    assert!(answers[1..].iter().all(|answer| answer.starts_with("InternalError: ")), "{answers:?}");
    assert_eq!(*wire.calls.lock().unwrap(), [("BatchGetSecretValue".to_owned(), json!({"SecretIdList": ["a"]}))]);
}

#[tokio::test]
async fn arns_are_held_against_the_account_which_is_asked_once() {
    let (home, away) = (secret_arn("a"), secret_arn("b").replace("123456789012", "210987654321"));
    let parameter_home = parameter_arn("/p");
    let wire = Wire::new([
        Answer("GetCallerIdentity", 200, ACCOUNT.to_owned()),
        ok("BatchGetSecretValue", &json!({"SecretValues": [secret("a", "one")]})),
        ok("GetParameters", &json!({"Parameters": [parameter("/p", "two")]})),
        ok("GetSecretValue", &secret("a", "one")),
    ])
    .await;
    let provider = wire.provider().await;
    let (uris, parameters, secrets) = ([home.as_str(), &away], [parameter_home.as_str()], questions(&[&home]));
    let alone = calls();
    let ((answers, _), (parameters, _), single) = tokio::join!(each(&provider, &uris), each(&provider, &parameters), provider.read_one(&secrets[0], &alone));
    let account = "NotAllowed: the identity belongs to another account than the ARN; that is not allowed";
    assert_eq!((answers, parameters, text(&single.unwrap())), (vec!["one".into(), account.to_owned()], vec!["two".into()], "one".into()));
    let mut actions = wire.actions();
    actions.sort();
    assert_eq!(actions, ["BatchGetSecretValue", "GetCallerIdentity", "GetParameters", "GetSecretValue"]);
    let asked = wire.calls.lock().unwrap().iter().find(|(action, _)| action == "BatchGetSecretValue").unwrap().1.clone();
    assert_eq!(asked, json!({"SecretIdList": [home]}));
    assert!(provider.metrics.render(None).contains(r#"provider_calls_total{store="aws.sts",api="GetCallerIdentity",outcome="ok"} 1"#));
}

#[tokio::test]
async fn providers_of_one_identity_ask_for_the_account_within_their_limit() {
    let wire = Wire::new([Answer("GetCallerIdentity", 200, ACCOUNT.to_owned())]).await;
    let ambient = Keys::lasting(3600).ambient().await;
    let slow = AwsSpec { limits: Some(Limits { sts: Some(1), ..Limits::default() }), ..wire.spec() };
    let (first, second) = (
        AwsProvider::new(&slow, Principal::ambient(), &ambient, Metrics::default()),
        AwsProvider::new(&wire.spec(), Principal::ambient(), &ambient, Metrics::default()),
    );
    let started = std::time::Instant::now();
    let (one, two) = futures::join!(first.caller(false), second.caller(false));
    assert_eq!((one.unwrap().account, two.unwrap().account), ("123456789012".to_owned(), "123456789012".to_owned()));
    assert_eq!(wire.actions().len(), 2);
    assert!(started.elapsed() >= Duration::from_millis(900), "two calls in {:?}, where one a second is allowed", started.elapsed());
}

#[tokio::test]
async fn an_account_that_cannot_be_told_fails_those_that_need_it_and_is_asked_again_by_the_next() {
    let refusal = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error><RequestId>r-1</RequestId></ErrorResponse>";
    let wire = Wire::new([
        Answer("GetCallerIdentity", 403, refusal.to_owned()),
        Answer("GetCallerIdentity", 0, String::new()),
        Answer("GetCallerIdentity", 200, ACCOUNT.to_owned()),
        ok("BatchGetSecretValue", &json!({"SecretValues": [secret("a", "one")]})),
    ])
    .await;
    let (provider, by_arn) = (wire.provider().await, [secret_arn("a"), secret_arn("b")]);
    let by_arn = by_arn.each_ref().map(String::as_str);
    let message = "AccessDenied: the account of the identity: the identity may not read this; grant it sts:GetCallerIdentity on it (AccessDenied)";
    assert_eq!(each(&provider, &by_arn).await, (vec![message.to_owned(); 2], 0));
    // Those who wait share the failure; those who need no account don't wait.
    let hung = "ProviderUnavailable: the account of the identity: the store did not answer within 4 s";
    let waiting = join_all((0..5).map(|_| each(&provider, &by_arn)));
    let (hanging, plain) = tokio::join!(waiting, each(&provider, &["aws.sm://a"]));
    assert_eq!((hanging, plain), (vec![(vec![hung.to_owned(); 2], 0); 5], (vec!["one".to_owned()], 1)));
    assert_eq!(wire.actions().iter().filter(|action| *action == "GetCallerIdentity").count(), 2);
    assert_eq!(each(&provider, &by_arn).await, (vec!["one".into(), "-".into()], 1));
    assert_eq!(wire.actions().iter().filter(|action| *action == "GetCallerIdentity").count(), 3);
}

#[tokio::test]
async fn credentials_are_fetched_once_for_all_providers_and_renewed_before_they_run_out() {
    let wire = Wire::new([ok("BatchGetSecretValue", &json!({"SecretValues": [secret("a", "one")]})), ok("GetParameters", &json!({"Parameters": []}))]).await;
    // Five minutes are more than they are renewed before.
    let lasting = Keys::lasting(300);
    let ambient = lasting.ambient().await;
    let providers: Vec<AwsProvider> = (0..20).map(|_| AwsProvider::new(&wire.spec(), Principal::ambient(), &ambient, Metrics::default())).collect();
    let reads = providers.iter().flat_map(|provider| [each(provider, &["aws.sm://a"]), each(provider, &["aws.ps:///a"])]);
    assert_eq!(join_all(reads).await.len(), 40);
    each(&providers[0], &["aws.sm://a"]).await;
    assert_eq!(lasting.asked.load(Ordering::SeqCst), 1);
    // One minute is less: they are still good, and the next call asks for others.
    let ending = Keys::lasting(60);
    let provider = AwsProvider::new(&wire.spec(), Principal::ambient(), &ending.ambient().await, Metrics::default());
    for times in 1..=2 {
        assert_eq!(each(&provider, &["aws.sm://a"]).await.0, ["one"]);
        assert_eq!(ending.asked.load(Ordering::SeqCst), times);
    }
}

#[tokio::test]
async fn credentials_that_aws_says_have_run_out_are_fetched_anew_for_the_next_call_but_not_again_and_again() {
    let expired = || fails("BatchGetSecretValue", 400, "ExpiredTokenException", "The security token included in the request is expired");
    let denied = fails("BatchGetSecretValue", 400, "AccessDeniedException", "no");
    let wire = Wire::new([denied, expired(), expired(), ok("BatchGetSecretValue", &json!({"SecretValues": [secret("a", "one")]}))]).await;
    let keys = Keys::lasting(3600);
    let provider = AwsProvider::new(&wire.spec(), Principal::ambient(), &keys.ambient().await, Metrics::default());
    for (asked, refused) in [(1, true), (1, true), (2, true), (2, false)] {
        let answer = read(&provider, &["aws.sm://a"]).await;
        assert_eq!((keys.asked.load(Ordering::SeqCst), !matches!(answer, LotAnswer::Each { .. })), (asked, refused));
    }
}

#[tokio::test]
async fn without_credentials_no_call_is_made_and_no_source_is_to_blame() {
    let wire = Wire::new([]).await;
    let provider = AwsProvider::new(&wire.spec(), Principal::ambient(), &Keys::lasting(0).ambient().await, Metrics::default());
    for uri in ["aws.sm://a", "aws.ps:///a"] {
        let LotAnswer::Failed(error) = read(&provider, &[uri]).await else { panic!("not failed") };
        assert_eq!(error.reason, Reason::CredentialsError, "{error:?}");
    }
    assert_eq!(wire.actions(), Vec::<String>::new());
}

#[tokio::test]
async fn reads_after_each_other_share_a_connection() {
    let wire = Wire::new([ok("BatchGetSecretValue", &json!({"SecretValues": [secret("a", "one")]})), ok("GetSecretValue", &secret("a", "one"))]).await;
    let (provider, source) = (wire.provider().await, questions(&["aws.sm://a"]));
    for _ in 0..10 {
        assert_eq!(each(&provider, &["aws.sm://a"]).await.1, 1);
        provider.read_one(&source[0], &calls()).await.unwrap();
    }
    assert_eq!((wire.actions().len(), wire.connections.load(Ordering::SeqCst)), (20, 1));
}

#[tokio::test]
async fn a_call_that_is_given_up_counts_as_unavailable() {
    let wire = Wire::new([Answer("BatchGetSecretValue", 0, String::new())]).await;
    let provider = wire.provider().await;
    let seen = async {
        while wire.actions().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let gone = async {
        tokio::select! { _ = read(&provider, &["aws.sm://a"]) => panic!("answered"), () = seen => {} }
    };
    tokio::time::timeout(Duration::from_secs(5), gone).await.expect("the call leaves");
    let metrics = provider.metrics.render(None);
    assert!(metrics.contains(r#"provider_calls_total{store="aws.sm",api="BatchGetSecretValue",outcome="ProviderUnavailable"} 1"#), "{metrics}");
}

#[tokio::test]
async fn limits_change_without_new_clients_and_budgets_are_shared_by_place() {
    let wire = Wire::new([]).await;
    let ambient = Keys::lasting(3600).ambient().await;
    let of = |spec: &AwsSpec| AwsProvider::new(spec, Principal::ambient(), &ambient, Metrics::default());
    let (plain, limits) = (wire.spec(), Limits { ssm_reads: Some(900), ..Limits::default() });
    let limited = AwsSpec { limits: Some(limits), ..plain.clone() };
    let provider = of(&plain);
    let ceiling = |provider: &AwsProvider, family| provider.ceilings().into_iter().find(|(of, _)| *of == family).map_or(0.0, |(_, ceiling)| ceiling);
    assert_eq!(format!("{} {}", ceiling(&provider, SSM_READS), ceiling(&of(&limited), SSM_READS)), "35 900");
    provider.limit(Some(limits));
    let ceiling = |provider: &AwsProvider, family| provider.ceilings().into_iter().find(|(of, _)| *of == family).map_or(0.0, |(_, ceiling)| ceiling);
    assert_eq!(format!("{} {}", ceiling(&provider, SSM_READS), ceiling(&provider, BATCH_GET_SECRET_VALUE)), "900 50");
    provider.limit(None);
    assert_eq!(format!("{}", ceiling(&provider, SSM_READS)), "35");

    assert_eq!(provider.account(), of(&limited).account());
    let url = &wire.url;
    assert_eq!(provider.account(), format!("ambient/eu-west-1/secretsManager={url},ssm={url},sts={url}"));
    assert_eq!(of(&AwsSpec { endpoints: None, ..plain.clone() }).account(), "ambient/eu-west-1/");
    assert_ne!(of(&AwsSpec { region: "eu-west-2".into(), ..plain }).account(), provider.account());
}
