//! Each way in which the emulated AWS can be told to misbehave.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::SdkError;
use aws_sdk_secretsmanager::operation::batch_get_secret_value::{BatchGetSecretValueError, BatchGetSecretValueOutput};
use testbed::Emulator;
use testbed::front::{Answer, Cut, Fault, SSM_READS};

use crate::{error, wait_until};

/// An emulator with the secrets and parameters `a` to `e`, whose values are `of <name>`.
fn five() -> Emulator {
    let emulator = Emulator::start().unwrap();
    for name in ["a", "b", "c", "d", "e"] {
        emulator.put_secret(name, &format!("of {name}"));
        emulator.put_parameter(name, &format!("of {name}"));
    }
    emulator
}

async fn batch(client: &Client, ids: &[&str]) -> Result<BatchGetSecretValueOutput, SdkError<BatchGetSecretValueError>> {
    client.batch_get_secret_value().set_secret_id_list(Some(ids.iter().map(|id| (*id).to_owned()).collect())).send().await
}

/// The names that an answer has values for, and the ids and codes of its errors.
fn outcome(answer: &BatchGetSecretValueOutput) -> (Vec<&str>, BTreeSet<(&str, &str)>) {
    let values = answer.secret_values().iter().map(|value| value.name().unwrap()).collect();
    (values, answer.errors().iter().map(|error| (error.secret_id().unwrap(), error.error_code().unwrap())).collect())
}

async fn read(client: &Client, id: &str) -> String {
    client.get_secret_value().secret_id(id).send().await.unwrap().secret_string().unwrap().to_owned()
}

#[tokio::test]
async fn a_batch_action_is_denied_as_a_whole() {
    let emulator = five();
    let client = emulator.secrets_manager();
    let denied = emulator.deny_action("secretsmanager", "BatchGetSecretValue");
    let (code, message, _) = error(batch(&client, &["a", "b"]).await);
    assert_eq!(code, "AccessDeniedException");
    assert!(message.contains("not authorized to perform: secretsmanager:BatchGetSecretValue on resource: * because"), "{message}");
    assert_eq!(read(&client, "a").await, "of a");
    emulator.remove_fault(denied);
    batch(&client, &["a", "b"]).await.unwrap();
}

#[tokio::test]
async fn items_of_a_batch_are_denied_failed_and_left_out() {
    let emulator = five();
    let (client, ssm) = (emulator.secrets_manager(), emulator.ssm());
    emulator.deny("a");
    emulator.kms_denied("b");
    emulator.fail_item("c", "InternalServiceError");
    emulator.leave_out("d");
    let answer = batch(&client, &["a", "b", "c", "d", "e"]).await.unwrap();
    let errors = BTreeSet::from([("a", "AccessDeniedException"), ("b", "AccessDeniedException"), ("c", "InternalServiceError")]);
    assert_eq!(outcome(&answer), (vec!["e"], errors));
    assert_eq!(outcome(&batch(&client, &["d"]).await.unwrap()), (vec![], BTreeSet::new()));
    // Alone, what fails fails, and what was left out is there.
    assert_eq!(error(client.get_secret_value().secret_id("c").send().await).0, "InternalServiceError");
    assert_eq!(read(&client, "d").await, "of d");
    // One forbidden name refuses all of GetParameters; one left out is in no list.
    assert_eq!(error(ssm.get_parameters().names("a").names("e").send().await).0, "AccessDeniedException");
    let answer = ssm.get_parameters().names("d").names("e").names("none").send().await.unwrap();
    assert_eq!(answer.parameters().iter().map(|parameter| parameter.name().unwrap()).collect::<Vec<_>>(), ["e"]);
    assert_eq!(answer.invalid_parameters(), ["none"]);
    assert_eq!(ssm.get_parameters().names("d").send().await.unwrap().parameters().len(), 0);
    emulator.clear_faults();
    assert_eq!(batch(&client, &["a", "b", "c", "d", "e"]).await.unwrap().secret_values().len(), 5);
}

#[tokio::test]
async fn a_changed_answer_says_of_the_others_exactly_what_it_would_have_said() {
    let emulator = Emulator::start().unwrap();
    let names: Vec<String> = (0..20).map(|i| format!("s{i}")).collect();
    emulator.put_secrets(names.iter().map(|name| (name.clone(), format!("of {name}"))));
    let client = emulator.secrets_manager();
    let ids: Vec<&str> = names.iter().map(String::as_str).collect();
    let before = batch(&client, &ids).await.unwrap();
    emulator.leave_out("s0");
    let after = batch(&client, &ids).await.unwrap();
    // A date that is off by a fraction of a microsecond would be another version.
    assert_eq!(after.secret_values(), &before.secret_values()[1..]);
}

#[tokio::test]
async fn one_id_refuses_a_whole_batch() {
    let emulator = five();
    let (client, ssm) = (emulator.secrets_manager(), emulator.ssm());
    emulator.refuse("BatchGetSecretValue", "b", "DecryptionFailure");
    emulator.refuse("GetParameters", "c", "InvalidKeyId");
    // A fault of an item doesn't hide it.
    emulator.fail_item("a", "InternalServiceError");
    assert_eq!(error(batch(&client, &["a", "b"]).await).0, "DecryptionFailure");
    assert_eq!(error(ssm.get_parameters().names("d").names("c").send().await).0, "InvalidKeyId");
    assert_eq!(batch(&client, &["d", "c"]).await.unwrap().secret_values().len(), 2);
    assert_eq!(read(&client, "b").await, "of b");
    assert_eq!(ssm.get_parameter().name("c").with_decryption(true).send().await.unwrap().parameter.unwrap().value(), Some("of c"));
}

#[tokio::test]
async fn a_batch_is_answered_in_pages() {
    let emulator = five();
    let client = emulator.secrets_manager();
    emulator.deny("b");
    for (empty_between, pages) in [(false, 3), (true, 5)] {
        let fault = emulator.always(Answer::Pages { size: 2, empty_between });
        emulator.forget_calls();
        let ids = ["none", "e", "b", "a", "c"].map(str::to_owned).to_vec();
        let mut found = client.batch_get_secret_value().set_secret_id_list(Some(ids)).into_paginator().send();
        let (mut values, mut errors, mut sizes) = (Vec::new(), BTreeSet::new(), Vec::new());
        while let Some(page) = found.next().await {
            let page = page.unwrap();
            sizes.push(page.secret_values().len() + page.errors().len());
            values.extend(page.secret_values().iter().map(|value| value.secret_string().unwrap().to_owned()));
            errors.extend(page.errors().iter().map(|error| error.secret_id().unwrap().to_owned()));
        }
        assert_eq!(sizes, if empty_between { vec![2, 0, 2, 0, 1] } else { vec![2, 2, 1] });
        assert_eq!(values, ["of a", "of c", "of e"]);
        assert_eq!(errors, BTreeSet::from(["b".to_owned(), "none".to_owned()]));
        assert_eq!(emulator.count(|call| call.action == "BatchGetSecretValue" && call.ids.len() == 5), pages);
        emulator.remove_fault(fault);
    }
    assert_eq!(batch(&client, &["a", "c", "d"]).await.unwrap().next_token(), None);
}

#[tokio::test]
async fn a_quota_is_shared_by_the_actions_of_a_group() {
    let emulator = five();
    let ssm = emulator.ssm();
    // Nothing is refilled.
    let quota = emulator.add_fault(Fault::new(|call| SSM_READS.contains(&call.action.as_str()), Answer::Quota { per_second: 0, burst: 2 }));
    ssm.get_parameter().name("a").send().await.unwrap();
    ssm.get_parameters().names("a").send().await.unwrap();
    assert_eq!(error(ssm.get_parameter().name("a").send().await).0, "ThrottlingException");
    // What isn't in the group has no part in it.
    read(&emulator.secrets_manager(), "a").await;
    let totals = emulator.totals();
    assert_eq!((totals["GetParameter"].calls, totals["GetParameter"].throttled, totals["GetParameters"].throttled), (2, 1, 0));
    emulator.remove_fault(quota);
    // By default a second's worth at once.
    emulator.quota(&["GetParameter"], 1);
    ssm.get_parameter().name("a").send().await.unwrap();
    ssm.get_parameters().names("a").send().await.unwrap();
}

#[tokio::test]
async fn answers_are_delayed_but_not_what_they_say() {
    let emulator = five();
    let client = emulator.secrets_manager();
    let (latency, jitter) = (Duration::from_millis(60), Duration::from_millis(40));
    let delay = emulator.delay(latency, jitter);
    let timed = async |id: &str| {
        let start = Instant::now();
        let _ = client.get_secret_value().secret_id(id).send().await;
        start.elapsed()
    };
    // A failed call is as late as any.
    assert!(timed("a").await >= latency && timed("none").await >= latency);
    emulator.throttle_next(1);
    assert!(timed("a").await >= latency);
    // The newest decides.
    let long = emulator.delay(Duration::from_secs(1000), Duration::ZERO);
    let none = emulator.add_fault(Fault::new(|call| call.ids == ["b"], Answer::Delay { latency: Duration::ZERO, jitter: Duration::ZERO }));
    assert_eq!(read(&client, "b").await, "of b");
    emulator.remove_fault(long);
    emulator.remove_fault(none);
    emulator.remove_fault(delay);

    // Calls are delayed side by side, and each answers as things were when it arrived.
    emulator.forget_calls();
    emulator.delay(Duration::from_millis(500), Duration::ZERO);
    let reads: Vec<_> = (0..8).map(|_| tokio::spawn(client.get_secret_value().secret_id("a").send())).collect();
    wait_until("all calls are in flight", || emulator.most_in_flight() == 8).await;
    emulator.put_secret("a", "new");
    for read in reads {
        assert_eq!(read.await.unwrap().unwrap().secret_string(), Some("of a"));
    }
}

#[tokio::test]
async fn a_held_answer_is_an_old_one_and_a_held_call_is_not() {
    let emulator = five();
    let client = emulator.secrets_manager();
    for (old, expected) in [(true, "of a"), (false, "newer")] {
        let fault = if old { emulator.hold_answers() } else { emulator.hold() };
        emulator.forget_calls();
        let held = tokio::spawn(client.get_secret_value().secret_id("a").send());
        wait_until("the call arrives", || !emulator.calls().is_empty()).await;
        emulator.put_secret("a", if old { "new" } else { "newer" });
        assert!(!held.is_finished());
        emulator.remove_fault(fault);
        assert_eq!(held.await.unwrap().unwrap().secret_string(), Some(expected));
    }
}

#[tokio::test]
async fn reads_are_stale_after_a_write() {
    let emulator = five();
    let (client, ssm) = (emulator.secrets_manager(), emulator.ssm());
    let parameter = async |name: &str| {
        let answer = ssm.get_parameters().names(name).with_decryption(true).send().await.unwrap();
        answer.parameters().first().map(|parameter| (parameter.value().unwrap().to_owned(), parameter.version()))
    };
    let before = client.get_secret_value().secret_id("a").send().await.unwrap();
    emulator.put_secret("a", "new");
    emulator.put_parameter("a", "new");
    // What was written before counts too: the rule looks at the write, not at when it was made itself.
    let stale = emulator.stale_reads(2);
    let first = client.get_secret_value().secret_id("a").send().await.unwrap();
    assert_eq!((first.secret_string(), first.version_id(), first.created_date()), (Some("of a"), before.version_id(), before.created_date()));
    assert_eq!(first.version_stages(), ["AWSCURRENT"]);
    assert_eq!(batch(&client, &["a"]).await.unwrap().secret_values()[0].secret_string(), Some("of a"));
    assert_eq!(batch(&client, &["a"]).await.unwrap().secret_values()[0].secret_string(), Some("new"));
    assert_eq!([parameter("a").await, parameter("a").await, parameter("a").await].map(|found| found.unwrap().1), [1, 1, 2]);
    // Each write starts anew, also one that goes back.
    emulator.rollback("a").unwrap();
    assert_eq!([read(&client, "a").await, read(&client, "a").await, read(&client, "a").await], ["new", "new", "of a"]);
    // A new one isn't there yet.
    emulator.put_secret("new", "value");
    emulator.put_parameter("new", "value");
    for _ in 0..2 {
        assert_eq!(error(client.get_secret_value().secret_id("new").send().await).0, "ResourceNotFoundException");
        assert_eq!(parameter("new").await, None);
    }
    assert_eq!((read(&client, "new").await, parameter("new").await), ("value".to_owned(), Some(("value".to_owned(), 1))));
    emulator.remove_fault(stale);

    emulator.put_secret("b", "new");
    let stale = emulator.stale_for(Duration::from_secs(1000));
    for _ in 0..5 {
        assert_eq!(read(&client, "b").await, "of b");
    }
    emulator.remove_fault(stale);
    assert_eq!(read(&client, "b").await, "new");
    emulator.stale_for(Duration::from_millis(1));
    assert_eq!(read(&client, "b").await, "new");
}

#[tokio::test]
async fn connections_are_cut_before_and_in_the_answer() {
    let emulator = five();
    let client = emulator.secrets_manager();
    for cut in [Cut::Reset, Cut::Close, Cut::Head, Cut::Body] {
        emulator.forget_calls();
        let fault = emulator.cut(cut);
        let (code, ..) = error(client.get_secret_value().secret_id("a").send().await);
        assert_eq!(code, "none", "{cut:?}");
        // The call arrived once and was never answered.
        assert_eq!(emulator.calls().iter().map(|call| call.status).collect::<Vec<_>>(), [None], "{cut:?}");
        let (bytes, end) = raw(&emulator.url());
        match cut {
            Cut::Reset => assert_eq!((bytes.as_str(), end), ("", Some(ErrorKind::ConnectionReset))),
            Cut::Close => assert_eq!((bytes.as_str(), end), ("", None)),
            Cut::Head => assert!(bytes.starts_with("HTTP/1.1 200 OK") && !bytes.contains("\r\n\r\n") && end.is_none(), "{bytes} {end:?}"),
            Cut::Body => {
                let (head, body) = bytes.split_once("\r\n\r\n").unwrap();
                let length = head.to_lowercase().split_once("content-length: ").unwrap().1.lines().next().unwrap().parse::<usize>().unwrap();
                assert!((1..length).contains(&body.len()) && end.is_none(), "{bytes} {end:?}");
            }
        }
        emulator.remove_fault(fault);
        assert_eq!(read(&client, "a").await, "of a", "{cut:?}");
    }
}

/// All that comes in answer to a read of `a`, and the error at its end, if it isn't a plain one.
fn raw(url: &str) -> (String, Option<ErrorKind>) {
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let body = r#"{"SecretId":"a"}"#;
    let head = format!("POST / HTTP/1.1\r\nHost: {address}\r\nX-Amz-Target: secretsmanager.GetSecretValue\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut bytes = Vec::new();
    let end = stream.read_to_end(&mut bytes).err().map(|error| error.kind());
    (String::from_utf8(bytes).unwrap(), end)
}

#[tokio::test]
async fn a_hanging_call_ends_with_its_client() {
    let emulator = five();
    let hang = emulator.add_fault(Fault::new(|call| call.ids == ["a"], Answer::Hang));
    let client = emulator.secrets_manager();
    let hanging = tokio::spawn(client.get_secret_value().secret_id("a").send());
    wait_until("the call arrives", || emulator.calls().len() == 1).await;
    assert_eq!(read(&client, "b").await, "of b");
    emulator.remove_fault(hang);
    assert!(!hanging.is_finished());
    hanging.abort();
    assert!(hanging.await.unwrap_err().is_cancelled());
    assert_eq!(emulator.calls()[0].status, None);
    // It is in flight no more.
    wait_until("the connection is gone", || {
        emulator.forget_calls();
        emulator.most_in_flight() == 0
    })
    .await;
}

#[tokio::test]
async fn answers_are_errors_or_no_answers() {
    let emulator = five();
    let (client, ssm) = (emulator.secrets_manager(), emulator.ssm());
    for (status, code) in [(500, "InternalFailure"), (503, "ServiceUnavailable")] {
        let fault = emulator.fail(status);
        assert_eq!(error(batch(&client, &["a"]).await).0, code);
        assert_eq!(error(ssm.get_parameters().names("a").send().await).0, code);
        assert_eq!(error(testbed::aws::sts(&emulator.url()).get_caller_identity().send().await).0, code);
        emulator.remove_fault(fault);
    }
    emulator.malformed();
    let (code, _, text) = error(batch(&client, &["a"]).await);
    assert!(code == "none" && text.contains("UnexpectedToken"), "{code} {text}");
    assert!(emulator.calls().last().unwrap().status == Some(200));
}
