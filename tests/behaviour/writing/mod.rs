//! What is written into AWS's stores and a Roboto platform by the providers, without any controller: what becomes of it there, who is told what when it
//! isn't written, and that boto3 and the platform's own SDK do the same. No test takes moto's word where it is believed to differ from AWS.

mod against_boto;
mod leaks;
mod parameters;
mod platform;
mod secrets;

use std::{path::Path, sync::LazyLock};

use futures::{FutureExt, future::BoxFuture};
use robotosecret::{
    api::reference::{Reference, Source},
    limit::{Budgets, Calls, Turns},
    provider::{
        Provider, Question, ReadError, ServedVersion, Value, WriteError,
        aws::{Ambient, AwsProvider, GET_SECRET_VALUE, Principal},
        grants::{Grant, Grants},
        writing::{Attributes, Written},
    },
    sensitive::Sensitive,
    telemetry::Metrics,
};
use serde_json::json;
use testbed::{Front, Moto};

/// The emulated AWS of these tests; the first one starts it.
pub fn moto() -> &'static Moto {
    static MOTO: LazyLock<Moto> = LazyLock::new(|| {
        let start = || {
            let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("writing-{}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            let moto = Moto::start(&dir).unwrap();
            // It loads a service at its first call, which can take longer than a call may.
            let warm = async {
                moto.secrets_manager().list_secrets().send().await.unwrap();
                moto.ssm().describe_parameters().send().await.unwrap();
            };
            tokio::runtime::Runtime::new().unwrap().block_on(warm);
            moto
        };
        std::thread::spawn(start).join().expect("moto starts")
    });
    &MOTO
}

/// An access key, which needs nobody to be asked.
struct Key;

impl Grants for Key {
    fn grant(&self) -> BoxFuture<'_, Result<Grant, ReadError>> {
        let key = Grant::AccessKey { id: "testbed".to_owned(), secret: Sensitive::from("testbed".to_owned()), session_token: None };
        async { Ok(key) }.boxed()
    }
}

/// A provider that writes and reads at this address.
async fn provider(url: &str) -> AwsProvider {
    let spec = json!({"region": "eu-west-1", "endpoints": {"secretsManager": url, "ssm": url, "sts": url}, "identity": {"ambient": {}}});
    let principal = Principal { grants: Some(Box::new(Key)), session_name: "test".to_owned(), roles: Vec::new(), payer: "test".to_owned() };
    AwsProvider::new(&serde_json::from_value(spec).unwrap(), principal, &Ambient::load().await, Metrics::default())
}

/// A front before moto, and a provider that writes through it.
async fn ours() -> (Front, AwsProvider) {
    let front = Front::start(moto().url()).unwrap();
    let provider = provider(&front.url()).await;
    (front, provider)
}

fn source(uri: &str) -> Source {
    uri.parse::<Reference>().unwrap().source
}

fn text(value: &str) -> Value {
    Value::Text(Sensitive::from(value.to_owned()))
}

fn binary(value: &[u8]) -> Value {
    Value::Binary(Sensitive::new(value.to_vec()))
}

/// What is read there now: the value as text, with its kind, and its version.
async fn read(provider: &AwsProvider, uri: &str) -> (String, ServedVersion) {
    let calls = Calls::new(Turns::new(std::sync::Arc::new(std::sync::Mutex::new(Budgets::default())), ("test".into(), GET_SECRET_VALUE)));
    let reading = provider.read_one(&Question::Value(source(uri)), &calls).await.unwrap();
    let value = match &reading.value {
        Value::Text(value) => format!("text {}", String::from_utf8_lossy(value.expose())),
        Value::Binary(value) => format!("binary {}", value.expose().escape_ascii()),
        Value::List(_) => panic!("a list"),
    };
    (value, reading.version)
}

/// Makes one with nothing but a value.
async fn make(provider: &AwsProvider, uri: &str, value: &Value) -> Written {
    provider.create(&source(uri), value, &Attributes::default()).await.unwrap()
}

/// The first word of what came of a write.
#[allow(clippy::needless_pass_by_value)] // What a call answers is told where it is made.
fn told<T>(answer: Result<T, WriteError>) -> String {
    answer.map_or_else(|error| error.to_string().split(':').next().unwrap_or_default().to_owned(), |_| "ok".to_owned())
}

/// How often a front was asked for this.
fn count(front: &Front, action: &str) -> usize {
    front.count(|call| call.action == action)
}
