//! One of those who share a call is trouble: it is told, and the others don't notice.

use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use kube::{Api, api::ListParams};
use serde_json::json;
use testbed::front::{Answer, Fault};

use super::{LATENCY, LONG, all_calls, all_hold, all_mirrored, calls, ids, mirror_parameters, mirror_secrets, names, rechecked, timeline};
use crate::support::{SECONDS, Scene, TTL, WITHIN_TTL, emulated, emulated_before_controller, says, until};

/// Waits until a resource fails for this reason, and looks whether all others are well and its own Secret is as it was.
async fn fails_alone(s: &Scene, names: &[String], culprit: &str, reason: &str) -> String {
    let message = s.condition(culprit, "Fresh", &format!("False {reason}"), WITHIN_TTL).await;
    s.condition(culprit, "Ready", &format!("False {reason}"), SECONDS).await;
    for name in names.iter().filter(|name| *name != culprit) {
        s.condition(name, "Ready", "True Mirrored", SECONDS).await;
        s.condition(name, "Fresh", "True Verified", SECONDS).await;
        assert_eq!(s.told(name, "CheckFailed").await, 0, "{name}");
    }
    message
}

/// What was read by calls for one.
fn read_alone(s: &Scene) -> Vec<String> {
    let alone = [calls(s, "GetSecretValue"), calls(s, "GetParameter")].concat();
    ids(&alone).into_iter().map(str::to_owned).collect()
}

fn paths(s: &Scene, names: &[String]) -> Vec<String> {
    names.iter().map(|name| s.path(name)).collect()
}

fn parameter_paths(s: &Scene, names: &[String]) -> Vec<String> {
    names.iter().map(|name| format!("/{}", s.path(name))).collect()
}

/// The events about the scene's provider.
async fn provider_events(s: &Scene) -> Vec<String> {
    let events: Api<Event> = Api::namespaced(s.client.clone(), "default");
    let all = events.list(&ListParams::default()).await.unwrap().items;
    let about = all.into_iter().filter(|event| event.regarding.as_ref().and_then(|about| about.name.as_deref()) == Some(&s.namespace));
    about.map(|event| format!("{}: {}", event.reason.unwrap_or_default(), event.note.unwrap_or_default())).collect()
}

#[tokio::test]
async fn a_secret_that_may_not_be_read_or_decrypted_fails_alone() {
    emulated("item", async |s| {
        s.front.delay(LATENCY, Duration::ZERO);
        let all = names("s", 25);
        mirror_secrets(s, &all, TTL).await;
        all_mirrored(s, &all).await;
        let ids = paths(s, &all);
        rechecked(s, &ids, 2).await;
        let versions = s.versions().await;
        s.front.forget_calls();
        s.front.deny(&s.path("s-03"));
        s.front.kms_denied(&s.path("s-04"));
        let others: Vec<String> = all.iter().filter(|name| !["s-03", "s-04"].contains(&name.as_str())).cloned().collect();
        for (culprit, grant) in [("s-03", "grant it secretsmanager:GetSecretValue"), ("s-04", "grant it kms:Decrypt")] {
            says(&fails_alone(s, &others, culprit, "AccessDenied").await, grant);
        }
        // A recheck or two of all, and the retries of two.
        assert!(all_calls(s) <= 24, "{} calls:\n{}", all_calls(s), timeline(s));
        // A call that names a denied one tells of the others all the same.
        let alone = read_alone(s);
        assert!(alone.iter().all(|id| *id == s.path("s-03") || *id == s.path("s-04")), "{}", timeline(s));
        assert_eq!(s.versions().await, versions);
        s.front.clear_faults();
        for culprit in ["s-03", "s-04"] {
            s.refresh(culprit, "granted").await;
            s.condition(culprit, "Fresh", "True Verified", WITHIN_TTL).await;
        }
        assert_eq!(s.versions().await, versions);
    })
    .await;
}

#[tokio::test]
async fn a_call_of_which_a_half_or_all_failed_touches_no_secret_and_says_so_of_each() {
    emulated("half", async |s| {
        let all = names("s", 20);
        mirror_secrets(s, &all, TTL).await;
        all_mirrored(s, &all).await;
        let ids = paths(s, &all);
        let versions = s.versions().await;
        s.front.forget_calls();
        let faults: Vec<_> = ids[..10].iter().map(|id| s.front.fail_item(id, "InternalServiceError")).collect();
        for name in &all[..10] {
            s.condition(name, "Fresh", "False ProviderUnavailable", WITHIN_TTL).await;
            s.condition(name, "Ready", "True Mirrored", SECONDS).await;
        }
        for name in &all[10..] {
            s.condition(name, "Fresh", "True Verified", SECONDS).await;
            assert_eq!(s.told(name, "CheckFailed").await, 0, "{name}");
        }
        // A recheck, and the retries of ten: they share their calls, too.
        assert!(all_calls(s) <= 30, "{} calls:\n{}", all_calls(s), timeline(s));
        for fault in faults {
            s.front.remove_fault(fault);
        }
        s.all("Fresh", "True Verified", WITHIN_TTL * 2).await;
        s.front.forget_calls();
        for id in &ids {
            s.front.deny(id);
        }
        s.all("Ready", "False AccessDenied", WITHIN_TTL).await;
        // A recheck and perhaps the first retries, of all together.
        assert!(all_calls(s) <= 20, "{} calls", all_calls(s));
        s.front.clear_faults();
        s.all("Ready", "True Mirrored", WITHIN_TTL * 2).await;
        assert_eq!(s.versions().await, versions);
        all_hold(s, &all).await;
    })
    .await;
}

#[tokio::test]
async fn a_secret_that_an_answer_passes_over_is_read_by_itself() {
    emulated("left-out", async |s| {
        s.front.delay(LATENCY, Duration::ZERO);
        let all = names("s", 12);
        let culprit = s.path("s-05");
        s.front.leave_out(&culprit);
        mirror_secrets(s, &all, TTL).await;
        all_mirrored(s, &all).await;
        let ids = paths(s, &all);
        rechecked(s, &ids, 2).await;
        s.front.forget_calls();
        rechecked(s, &ids, 2).await;
        assert_eq!(read_alone(s), [culprit], "{}", timeline(s));
        assert_eq!(s.told("s-05", "CheckFailed").await, 0);
        s.put_secret("s-05", &s.value("2")).await;
        s.holds("s-05", &[("value", &s.value("2"))], WITHIN_TTL).await;
    })
    .await;
}

#[tokio::test]
async fn a_secret_without_a_value_fails_alone_although_aws_refuses_the_whole_call_for_it() {
    emulated_before_controller("empty", async |s| {
        s.provide(&["*"]).await;
        s.front.delay(LATENCY, Duration::ZERO);
        let all = names("s", 20);
        let culprit = s.path("s-07");
        mirror_secrets(s, &all, TTL).await;
        s.emulator().delete_secret(&culprit).unwrap();
        s.emulator().put_empty_secret(&culprit).unwrap();
        s.start_controller(&[]).await;
        let mut others = all.clone();
        others.retain(|name| name != "s-07");
        fails_alone(s, &others, "s-07", "SourceNotFound").await;
        let ids = paths(s, &others);
        // On a busy machine it may have been asked for alone at first; a retry has company.
        let refused = async || calls(s, "BatchGetSecretValue").iter().any(|call| call.status == Some(400)).then_some(());
        until("a call is refused as a whole", WITHIN_TTL * 2, refused).await;
        rechecked(s, &ids, 1).await;
        // Two calls for each of five halvings, and a few rechecks and retries.
        assert!(all_calls(s) <= 24, "{} calls:\n{}", all_calls(s), timeline(s));
        rechecked(s, &ids, 2).await;
        s.front.forget_calls();
        rechecked(s, &ids, 2).await;
        let alone = read_alone(s);
        assert!(alone.iter().all(|id| *id == culprit), "{}", timeline(s));
        assert!(calls(s, "BatchGetSecretValue").iter().all(|call| call.status == Some(200) || call.status.is_none()));
        s.put_secret("s-07", &s.value("s-07")).await;
        s.refresh("s-07", "filled").await;
        s.condition("s-07", "Ready", "True Mirrored", WITHIN_TTL * 2).await;
        s.front.forget_calls();
        // Once it worked alone, it is in company again.
        let together = async || calls(s, "BatchGetSecretValue").iter().any(|call| call.ids.contains(&culprit)).then_some(());
        until("it shares a call again", WITHIN_TTL * 2, together).await;
        all_hold(s, &all).await;
    })
    .await;
}

#[tokio::test]
async fn a_parameter_that_may_not_be_read_fails_alone_although_aws_refuses_the_whole_call_for_it() {
    emulated("forbidden", async |s| {
        s.front.delay(LATENCY, Duration::ZERO);
        let all = names("p", 10);
        mirror_parameters(s, &all, TTL).await;
        all_mirrored(s, &all).await;
        let ids = parameter_paths(s, &all);
        rechecked(s, &ids, 2).await;
        let versions = s.versions().await;
        s.front.forget_calls();
        s.front.deny(&ids[4]);
        let mut others = all.clone();
        others.remove(4);
        says(&fails_alone(s, &others, "p-04", "AccessDenied").await, "grant it ssm:GetParameter on it");
        let mut others = ids.clone();
        others.remove(4);
        rechecked(s, &others, 2).await;
        assert!(all_calls(s) <= 30, "{} calls:\n{}", all_calls(s), timeline(s));
        s.front.forget_calls();
        rechecked(s, &others, 2).await;
        let alone = read_alone(s);
        assert!(alone.iter().all(|id| *id == ids[4]), "{}", timeline(s));
        assert!(calls(s, "GetParameters").iter().all(|call| call.status == Some(200) || call.status.is_none()));
        assert_eq!(provider_events(s).await, [""; 0], "one parameter that may not be read says nothing about the call");
        assert_eq!(s.versions().await, versions);
        s.front.clear_faults();
        s.refresh("p-04", "granted").await;
        s.condition("p-04", "Fresh", "True Verified", WITHIN_TTL * 2).await;
    })
    .await;
}

#[tokio::test]
async fn a_parameter_that_may_be_read_only_by_itself_changes_nothing_for_the_others() {
    emulated("by-itself", async |s| {
        s.front.delay(LATENCY, LATENCY / 2);
        let all = names("p", 9);
        let ids = parameter_paths(s, &all);
        mirror_parameters(s, &all, TTL).await;
        all_mirrored(s, &all).await;
        // Where nobody was well in company yet, two that are refused together are both read by themselves for a minute.
        rechecked(s, &ids, 1).await;
        s.front.refuse("GetParameters", &ids[4], "AccessDeniedException");
        let mut others = ids.clone();
        others.remove(4);
        rechecked(s, &others, 3).await;
        s.front.forget_calls();
        rechecked(s, &ids, 2).await;
        let alone = read_alone(s);
        assert!(alone.iter().all(|id| *id == ids[4]), "{}", timeline(s));
        assert!(calls(s, "GetParameters").iter().all(|call| call.status == Some(200) || call.status.is_none()), "{}", timeline(s));
        assert_eq!(provider_events(s).await, [""; 0], "one parameter says nothing about the call");
        for name in &all {
            assert_eq!(s.told(name, "CheckFailed").await, 0, "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_secret_whose_key_is_used_too_often_waits_alone() {
    emulated("key", async |s| {
        s.front.delay(LATENCY, LATENCY / 2);
        let all = names("s", 20);
        mirror_secrets(s, &all, TTL).await;
        all_mirrored(s, &all).await;
        let ids = paths(s, &all);
        rechecked(s, &ids, 1).await;
        s.front.fail_item(&ids[3], "KMSThrottlingException");
        says(&s.condition("s-03", "Fresh", "False Throttled", WITHIN_TTL).await, "the encryption key is used too often");
        s.front.forget_calls();
        let mut others = ids.clone();
        others.remove(3);
        let took = rechecked(s, &others, 2).await;
        assert!(read_alone(s).iter().all(|id| *id == ids[3]), "{}", timeline(s));
        // Each round of the others, and the retries of one.
        assert!(all_calls(s) <= 8 + 2 * usize::try_from(took.as_secs() / 9).unwrap(), "{} calls:\n{}", all_calls(s), timeline(s));
        for name in all.iter().filter(|name| *name != "s-03") {
            assert_eq!(s.told(name, "CheckFailed").await, 0, "{name}");
        }
        s.front.clear_faults();
        s.condition("s-03", "Fresh", "True Verified", WITHIN_TTL).await;
    })
    .await;
}

#[tokio::test]
async fn without_the_permission_to_read_several_at_once_everything_is_read_one_by_one() {
    emulated_before_controller("one-by-one", async |s| {
        s.provide(&["*"]).await;
        s.front.deny_action("secretsmanager", "BatchGetSecretValue");
        s.front.deny_action("ssm", "GetParameters");
        s.front.delay(LATENCY, Duration::ZERO);
        let (secrets, parameters) = (names("s", 25), names("p", 12));
        mirror_secrets(s, &secrets, TTL).await;
        mirror_parameters(s, &parameters, TTL).await;
        s.start_controller(&[]).await;
        let all = [secrets.clone(), parameters.clone()].concat();
        all_mirrored(s, &all).await;
        let ids = [paths(s, &secrets), parameter_paths(s, &parameters)].concat();
        rechecked(s, &ids, 2).await;
        // Those that left before the first was refused, and the halves of one refused call.
        let (secrets, parameters) = (s.calls("BatchGetSecretValue"), s.calls("GetParameters"));
        assert!((1..=4).contains(&secrets) && (1..=12).contains(&parameters), "{:?}", s.front.totals());
        rechecked(s, &ids, 1).await;
        assert_eq!((s.calls("BatchGetSecretValue"), s.calls("GetParameters")), (secrets, parameters), "it is not tried again for an hour");
        let told = async || Some(provider_events(s).await).filter(|told| told.len() == 2);
        let told = until("two events about the provider", SECONDS, told).await.join("\n");
        says(&told, "BatchDenied: the identity may not call secretsmanager:BatchGetSecretValue; grant it.");
        says(&told, "BatchDenied: the identity may not call ssm:GetParameters; grant it.");
        assert_eq!(s.controller().metric("robotosecret_batch_denied_total", "").to_bits(), 2_f64.to_bits());
        for name in &all {
            assert_eq!(s.told(name, "CheckFailed").await, 0, "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_answer_in_pages_some_of_them_empty_is_read_to_its_end() {
    emulated_before_controller("pages", async |s| {
        s.provide(&["*"]).await;
        s.front.add_fault(Fault::new(|_| true, Answer::Pages { size: 3, empty_between: true }));
        let all = names("s", 20);
        mirror_secrets(s, &all, LONG).await;
        s.start_controller(&[]).await;
        all_mirrored(s, &all).await;
        // Seven pages with a value or more, and one between two of them; some more or fewer if not all twenty shared one call.
        let pages = s.calls("BatchGetSecretValue");
        assert!((10..=20).contains(&pages), "{pages} pages");
        assert!(read_alone(s).len() <= 1, "{:?}", read_alone(s));
    })
    .await;
}

#[tokio::test]
async fn names_of_the_same_thing_never_meet_in_a_call() {
    emulated_before_controller("aliases", async |s| {
        s.provide(&["*"]).await;
        s.front.delay(LATENCY, Duration::ZERO);
        let (secret, parameter) = (s.path("db"), format!("/{}", s.path("token")));
        s.put_secret("db", &s.value("db")).await;
        s.put_parameter("token", &s.value("token")).await;
        let secret_arn = s.emulator().secret_arn(&secret).unwrap();
        let parameter_arn = format!("arn:aws:ssm:{}:{}:parameter{parameter}", testbed::aws::REGION, testbed::aws::ACCOUNT);
        let data = json!([
            {"key": "secret", "uri": format!("aws.sm://{secret}")},
            {"key": "again", "uri": format!("aws.sm://{secret}")},
            {"key": "secret-arn", "uri": secret_arn},
            {"key": "secret-stage", "uri": format!("aws.sm://{secret}?version-stage=AWSCURRENT")},
            {"key": "parameter", "uri": format!("aws.ps://{parameter}")},
            {"key": "parameter-arn", "uri": parameter_arn},
        ]);
        let all = names("same", 5);
        s.apply_all(&all, |_| json!({"ttl": TTL, "data": data})).await;
        s.start_controller(&[]).await;
        s.all("Ready", "True Mirrored", SECONDS).await;
        rechecked(s, &[secret, secret_arn, parameter, parameter_arn], 2).await;
        // AWS refuses a call that names something twice.
        assert!(s.front.totals().values().all(|total| total.refused == 0), "{}", timeline(s));
        for name in &all {
            let data = s.data(name).await.unwrap();
            let expected = |key: &str| s.value(if key.starts_with("parameter") { "token" } else { "db" });
            assert!(data.len() == 6 && data.iter().all(|(key, value)| *value == expected(key)), "{data:?}");
        }
    })
    .await;
}
