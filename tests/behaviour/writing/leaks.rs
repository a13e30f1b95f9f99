//! A refused write tells nobody what was to be written, although AWS does: it quotes what it refuses.

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use robotosecret::provider::{WriteError, writing::Attributes};
use serde_json::json;
use testbed::front::{Answer, Fault};

use super::{make, ours, read, source, text};

/// Both halves stand in no error.
const CANARY: [&str; 2] = ["cAnArY7f3a", "9b2eRoTtEn"];

/// What is logged while this lives.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

#[track_caller]
fn tells_nothing(text: &str) {
    assert!(!CANARY.iter().any(|half| text.contains(half)), "{text}");
}

#[tokio::test]
async fn no_refusal_and_no_log_holds_a_part_of_the_value() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(move || writer.clone()).finish();
    let _logged = tracing::subscriber::set_default(subscriber);
    let (front, ours) = ours().await;
    let value = CANARY.concat();
    let (secret, parameter) = (source("aws.sm://leaks"), source("aws.ps:///leaks"));
    make(&ours, "aws.sm://leaks", &text("first")).await;
    make(&ours, "aws.ps:///leaks", &text("first")).await;
    let bases = (read(&ours, "aws.sm://leaks").await.1, read(&ours, "aws.ps:///leaks").await.1);

    let quoted = format!("1 validation error detected: Value '{value}' at 'value' failed to satisfy constraint: Member must satisfy {value}");
    let error = |status, code: &str| Answer::Error { status, code: code.to_owned(), message: quoted.clone() };
    let answers = [
        error(400, "ValidationException"),
        error(400, "InvalidParameterException"),
        error(400, "InvalidRequestException"),
        error(400, "ParameterPatternMismatchException"),
        error(400, "AccessDeniedException"),
        error(400, "ThrottlingException"),
        error(400, "EncryptionFailure"),
        error(400, "SomethingNew"),
        error(500, "InternalServiceError"),
        // Something that isn't AWS, but repeats what it was sent.
        Answer::Body { status: 400, body: json!({"__type": format!("{value} {value}"), "message": value}).to_string() },
        Answer::Body { status: 502, body: format!("<html>{value}</html>") },
        Answer::Body { status: 200, body: format!("<html>{value}</html>") },
        Answer::Body { status: 200, body: json!({"ARN": 1, "SecretString": value}).to_string() },
    ];
    let mut seen = 0;
    for answer in answers {
        for action in ["CreateSecret", "PutSecretValue", "UpdateSecretVersionStage", "PutParameter"] {
            front.clear_faults();
            front.add_fault(Fault::new(move |call| call.action == action, answer.clone()));
            let (new, none) = (text(&value), Attributes::default());
            let outcomes: Vec<Result<_, WriteError>> = match action {
                "CreateSecret" => vec![ours.create(&source("aws.sm://leaks/new"), &new, &none).await],
                "PutSecretValue" => vec![ours.update(&secret, &new, None).await, ours.update(&secret, &new, Some(&bases.0)).await],
                "UpdateSecretVersionStage" => vec![ours.update(&secret, &new, Some(&bases.0)).await],
                _ => vec![ours.create(&source("aws.ps:///leaks/new"), &new, &none).await, ours.update(&parameter, &new, Some(&bases.1)).await],
            };
            for outcome in outcomes {
                let error = outcome.expect_err(action);
                tells_nothing(&format!("{error} {error:?} {error:#?}"));
                if let WriteError::Failed(failed) = &error {
                    tells_nothing(failed.detail.as_deref().unwrap_or_default());
                }
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 13 * 6);
    // A value that is refused before it is sent.
    for (source, value) in [(&secret, text(&value.repeat(4000))), (&parameter, text(&value.repeat(500)))] {
        let error = ours.update(source, &value, None).await.unwrap_err();
        tells_nothing(&format!("{error} {error:?}"));
    }
    tells_nothing(&format!("{:?}", text(&value)));
    let log = log.text();
    assert!(!log.is_empty(), "the log is looked at");
    tells_nothing(&log);
}
