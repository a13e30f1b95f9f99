//! What goes wrong: the resource says so in words that tell what to do, the last good Secret stays, and all is well again by itself
//! when the cause goes.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::front::{Answer, Fault};

use crate::support::{SECONDS, Scene, WITHIN_TTL, apply_object, says, scene, scene_before_controller, until, world};

/// What must not change while something fails: the Secret's version and its data.
type Good = (Option<String>, Option<Vec<(String, String)>>);

async fn good(s: &Scene, name: &str) -> Good {
    let data = s.data(name).await;
    (if data.is_some() { s.meta(name).await.resource_version } else { None }, data)
}

/// Applies a `RobotoSecret` with the key `value` read from a reference.
async fn reads(s: &Scene, name: &str, reference: &str) {
    s.apply(name, &json!({"data": [{"key": "value", "uri": reference}]}).to_string()).await;
}

/// Applies a `RobotoSecret` `name` that reads the secret `name` into the key `value`, and waits until it is mirrored.
async fn mirrored(s: &Scene, name: &str, value: &str) {
    s.put_secret(name, value).await;
    reads(s, name, &format!("aws.sm://{}", s.path(name))).await;
    s.ready(name).await;
    s.holds(name, &[("value", value)], SECONDS).await;
}

/// Waits until a resource fails: Fresh is False for this reason, Ready reads `ready`, and one event told why. Returns the message.
async fn fails(s: &Scene, name: &str, ready: &str, reason: &str) -> String {
    let message = s.condition(name, "Fresh", &format!("False {reason}"), WITHIN_TTL).await;
    s.condition(name, "Ready", ready, SECONDS).await;
    let status = s.status(name).await;
    assert!(status.condition("Stalled").is_none(), "an edit of the spec is not the only help: {status:?}");
    s.event(name, &format!("CheckFailed: {reason}: {message}")).await;
    message
}

/// Waits until a resource is mirrored and verified again, however long its longest retry so far takes.
async fn recovers(s: &Scene, name: &str) {
    s.condition(name, "Ready", "True Mirrored", WITHIN_TTL).await;
    s.condition(name, "Fresh", "True Verified", SECONDS).await;
}

/// Waits until an id was asked for this many times more.
async fn asked(s: &Scene, id: &str, more: usize) {
    let enough = s.reads(id) + more;
    until(&format!("{id} is asked for {more} more times"), WITHIN_TTL * 2, async || (s.reads(id) >= enough).then_some(())).await;
}

fn error(id: String, status: u16, code: &str, message: &str) -> Fault {
    let answer = Answer::Error { status, code: code.into(), message: message.into() };
    Fault::new(move |call| call.ids.contains(&id), answer)
}

#[tokio::test]
async fn a_wrong_name_says_so_once_and_is_mirrored_when_it_is_made_later() {
    scene("wrong-name", async |s| {
        let (secret, parameter) = (s.path("db"), format!("/{}", s.path("token")));
        reads(s, "db", &format!("aws.sm://{secret}")).await;
        reads(s, "token", &format!("aws.ps://{parameter}")).await;
        let message = fails(s, "db", "False SourceNotFound", "SourceNotFound").await;
        says(&message, &format!("aws.sm://{secret}: "));
        says(&message, "check the name");
        let message = fails(s, "token", "False SourceNotFound", "SourceNotFound").await;
        says(&message, &format!("aws.ps://{parameter}: "));
        says(&message, "most start with a slash");
        let started = Instant::now();
        asked(s, &secret, 1).await;
        asked(s, &parameter, usize::from(s.reads(&parameter) < 2)).await;
        assert!(started.elapsed() > Duration::from_secs(5), "asked again after {:?}", started.elapsed());
        s.put_secret("db", &s.value("db")).await;
        s.put_parameter("token", &s.value("token")).await;
        for name in ["db", "token"] {
            recovers(s, name).await;
            s.holds(name, &[("value", &s.value(name))], SECONDS).await;
            assert_eq!(s.told(name, "CheckFailed").await, 1, "{:?}", s.events(name).await);
            s.event(name, "Mirrored").await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_denied_secret_or_key_names_what_to_grant_and_keeps_the_last_value() {
    scene("denied", async |s| {
        let ids: Vec<String> = [s.path("sm"), s.path("kms"), format!("/{}", s.path("ps")), format!("/{}", s.path("ps-kms"))].into();
        for name in ["sm", "kms"] {
            mirrored(s, name, &s.value("1")).await;
        }
        for name in ["ps", "ps-kms"] {
            s.put_parameter(name, &s.value("1")).await;
            reads(s, name, &format!("aws.ps:///{}", s.path(name))).await;
            s.ready(name).await;
        }
        let names = ["sm", "kms", "ps", "ps-kms"];
        let mut before = Vec::new();
        for name in names {
            before.push(good(s, name).await);
        }
        for (id, deny_key) in ids.iter().zip([false, true, false, true]) {
            if deny_key {
                s.front.kms_denied(id)
            } else {
                s.front.deny(id)
            };
        }
        let grants = ["grant it secretsmanager:GetSecretValue", "grant it kms:Decrypt", "grant it ssm:GetParameter", "grant it kms:Decrypt"];
        for (name, grant) in names.into_iter().zip(grants) {
            says(&fails(s, name, "False AccessDenied", "AccessDenied").await, grant);
        }
        asked(s, &ids[3], 1).await;
        for (name, before) in names.into_iter().zip(before) {
            assert_eq!(good(s, name).await, before, "{name}");
            assert_eq!(s.told(name, "CheckFailed").await, 1, "{:?}", s.events(name).await);
        }
        s.put_secret("sm", &s.value("2")).await;
        s.front.clear_faults();
        for name in names {
            recovers(s, name).await;
        }
        s.holds("sm", &[("value", &s.value("2"))], SECONDS).await;
    })
    .await;
}

/// Brings trouble about, shows what becomes of a mirrored resource and of a new one, and that both are well when it ends.
async fn passes<T>(s: &Scene, name: &str, reason: &str, text: &str, begin: impl FnOnce() -> T, end: impl FnOnce()) {
    let new = format!("new-{name}");
    s.put_secret(&new, &s.value(&new)).await;
    let before = good(s, "db").await;
    begin();
    // A recheck would come within the TTL; asking for one is only quicker.
    s.refresh("db", name).await;
    reads(s, &new, &format!("aws.sm://{}", s.path(&new))).await;
    says(&fails(s, "db", "True Mirrored", reason).await, text);
    says(&fails(s, &new, &format!("Unknown {reason}"), reason).await, text);
    assert_eq!((good(s, "db").await, s.data(&new).await), (before, None));
    end();
    recovers(s, "db").await;
    recovers(s, &new).await;
    s.holds(&new, &[("value", &s.value(&new))], SECONDS).await;
    assert_eq!(s.told(&new, "CheckFailed").await, 1, "{:?}", s.events(&new).await);
}

#[tokio::test]
async fn a_store_that_answers_with_errors_leaves_ready_as_it_was() {
    scene("store-errors", async |s| {
        mirrored(s, "db", &s.value("")).await;
        passes(s, "http-500", "ProviderUnavailable", "HTTP 500", || s.front.fail(500), || s.front.clear_faults()).await;
        passes(s, "http-503", "ProviderUnavailable", "HTTP 503", || s.front.fail(503), || s.front.clear_faults()).await;
        passes(s, "malformed", "ProviderUnavailable", "could not be understood", || s.front.malformed(), || s.front.clear_faults()).await;
        passes(s, "throttled", "Throttled", "slow down", || s.front.throttle(), || s.front.clear_faults()).await;
    })
    .await;
}

#[tokio::test]
async fn a_store_that_is_down_or_hangs_leaves_ready_as_it_was() {
    scene("store-down", async |s| {
        mirrored(s, "db", &s.value("")).await;
        passes(s, "down", "ProviderUnavailable", "could not be reached", || s.front.down().unwrap(), || s.front.up().unwrap()).await;
        passes(s, "hanging", "ProviderUnavailable", "did not answer within 5 s", || s.front.hang(), || s.front.clear_faults()).await;
    })
    .await;
}

#[tokio::test]
async fn a_throttled_store_is_asked_ever_more_slowly_and_told_of_once() {
    scene("throttled", async |s| {
        mirrored(s, "db", &s.value("")).await;
        let id = s.path("db");
        s.front.throttle();
        // It is told when the recheck is late by a TTL; until then and from then on the budget shrinks to one call in two seconds.
        fails(s, "db", "True Mirrored", "Throttled").await;
        let (started, first) = (Instant::now(), s.reads(&id));
        until("three retries", WITHIN_TTL, async || (s.reads(&id) >= first + 3).then_some(())).await;
        assert!(started.elapsed() > Duration::from_secs(3), "three retries in {:?}", started.elapsed());
        let before = s.resources().get("db").await.unwrap().metadata.resource_version;
        asked(s, &id, 1).await;
        assert_eq!(s.resources().get("db").await.unwrap().metadata.resource_version, before, "a retry that says nothing new writes no status");
        s.front.clear_faults();
        recovers(s, "db").await;
        assert_eq!(s.told("db", "CheckFailed").await, 1, "{:?}", s.events("db").await);
    })
    .await;
}

#[tokio::test]
async fn when_a_store_answers_one_again_the_others_do_not_wait_out_their_pauses() {
    scene("recovered", async |s| {
        mirrored(s, "db", &s.value("")).await;
        let id = s.path("db");
        s.front.fail(500);
        fails(s, "db", "True Mirrored", "ProviderUnavailable").await;
        // After 1, 2, 4 and 8 s the next pause is one of 12 s at least.
        let first = s.reads(&id);
        until("four retries", WITHIN_TTL, async || (s.reads(&id) >= first + 4).then_some(())).await;
        s.front.clear_faults();
        mirrored(s, "new", &s.value("new")).await;
        s.condition("db", "Fresh", "True Verified", Duration::from_secs(9)).await;
    })
    .await;
}

#[tokio::test]
async fn a_store_that_is_down_when_the_controller_starts_takes_nothing_away() {
    scene("down-at-start", async |s| {
        mirrored(s, "db", &s.value("1")).await;
        let before = good(s, "db").await;
        s.stop_controller();
        s.front.down().unwrap();
        s.start_controller(&[]).await;
        fails(s, "db", "True Mirrored", "ProviderUnavailable").await;
        assert_eq!(good(s, "db").await, before);
        s.put_secret("db", &s.value("2")).await;
        s.front.up().unwrap();
        recovers(s, "db").await;
        s.holds("db", &[("value", &s.value("2"))], SECONDS).await;
    })
    .await;
}

#[tokio::test]
async fn a_spec_that_changes_while_the_store_is_down_is_carried_out_when_it_is_back() {
    scene("changed-while-down", async |s| {
        s.put_secret("db", &json!({"user": s.value("user"), "password": s.value("password")}).to_string()).await;
        let data = |member: &str| json!([{"key": "value", "uri": format!("aws.sm://{}#/{member}", s.path("db"))}]);
        for name in ["member", "label"] {
            s.apply(name, &json!({"data": data("user")}).to_string()).await;
            s.ready(name).await;
        }
        s.front.down().unwrap();
        s.patch("member", json!({"spec": {"data": data("password")}})).await;
        s.patch("label", json!({"spec": {"target": {"labels": {"team": "shop"}}}})).await;
        for name in ["member", "label"] {
            fails(s, name, "False ProviderUnavailable", "ProviderUnavailable").await;
            s.holds(name, &[("value", &s.value("user"))], SECONDS).await;
        }
        s.front.up().unwrap();
        for (name, value) in [("member", "password"), ("label", "user")] {
            recovers(s, name).await;
            s.holds(name, &[("value", &s.value(value))], SECONDS).await;
            s.event(name, "the spec changed").await;
        }
        assert_eq!(s.meta("label").await.labels.unwrap()["team"], "shop");
    })
    .await;
}

#[tokio::test]
async fn a_secret_scheduled_for_deletion_keeps_its_mirror_and_can_be_restored() {
    scene("scheduled", async |s| {
        mirrored(s, "db", &s.value("")).await;
        let before = good(s, "db").await;
        let client = world().moto.secrets_manager();
        client.delete_secret().secret_id(s.path("db")).recovery_window_in_days(7).send().await.unwrap();
        says(&fails(s, "db", "False SourceNotFound", "SourceNotFound").await, "scheduled for deletion; restore it");
        client.restore_secret().secret_id(s.path("db")).send().await.unwrap();
        recovers(s, "db").await;
        assert_eq!(good(s, "db").await, before);
    })
    .await;
}

#[tokio::test]
async fn a_version_that_does_not_exist_is_not_found_until_it_does() {
    scene("no-version", async |s| {
        s.put_secret("db", &s.value("1")).await;
        s.put_parameter("token", &s.value("1")).await;
        let (secret, parameter) = (s.path("db"), s.path("token"));
        reads(s, "stage", &format!("aws.sm://{secret}?version-stage=AWSPREVIOUS")).await;
        reads(s, "id", &format!("aws.sm://{secret}?version-id=11111111-2222-3333-4444-555555555555")).await;
        reads(s, "number", &format!("aws.ps:///{parameter}?version=2")).await;
        reads(s, "label", &format!("aws.ps:///{parameter}?label=blue")).await;
        for name in ["stage", "id", "number", "label"] {
            says(&fails(s, name, "False SourceNotFound", "SourceNotFound").await, "version");
            assert_eq!(s.data(name).await, None);
        }
        s.put_secret("db", &s.value("2")).await;
        s.put_parameter("token", &s.value("2")).await;
        let ssm = world().moto.ssm();
        ssm.label_parameter_version().name(format!("/{parameter}")).parameter_version(1).labels("blue").send().await.unwrap();
        for (name, value) in [("stage", "1"), ("number", "2"), ("label", "1")] {
            recovers(s, name).await;
            s.holds(name, &[("value", &s.value(value))], SECONDS).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_value_without_the_member_asked_for_is_told_and_never_shown() {
    scene("no-member", async |s| {
        let object = json!({"user": s.value("user"), "none": null, "text": s.value("text")}).to_string();
        s.put_secret("object", &object).await;
        s.put_secret("broken", &format!("{{\"user\": \"{}\"", s.value("broken"))).await;
        s.put_secret("empty", "{}").await;
        s.put_secret("odd", &json!({"not a key": s.value("odd")}).to_string()).await;
        let binary = aws_sdk_secretsmanager::primitives::Blob::new(object.clone().into_bytes());
        world().moto.secrets_manager().create_secret().name(s.path("binary")).secret_binary(binary).send().await.unwrap();
        for (name, source, reason, text) in [
            ("missing", "object#/password", "KeypathNotFound", "nothing at #/password: the value has no member \"password\""),
            ("through-text", "object#/text/inner", "KeypathNotFound", "what is at #/text is a string, which has no members"),
            ("null", "object#/none", "KeypathNotFound", "nothing at #/none: the member is null"),
            ("malformed", "broken#/user", "KeypathNotFound", "nothing at #/user: the value is not JSON"),
            ("binary", "binary#/user", "KeypathNotFound", "the value is binary and has no members"),
        ] {
            reads(s, name, &format!("aws.sm://{}", s.path(source))).await;
            says(&fails(s, name, &format!("False {reason}"), reason).await, text);
            assert_eq!(s.data(name).await, None);
        }
        for (name, reason, text) in [
            ("object", "KeypathNotFound", "nothing at #/none: the member is null"),
            ("empty", "KeypathNotFound", "empty JSON object"),
            ("odd", "InvalidKey", "would become the key \"not a key\", which a Secret cannot have"),
            ("broken", "KeypathNotFound", "starts like a JSON object and is not JSON"),
        ] {
            s.apply(name, &format!("uri: 'aws.sm://{}'", s.path(name))).await;
            says(&fails(s, name, &format!("False {reason}"), reason).await, text);
            assert_eq!(s.data(name).await, None);
        }
    })
    .await;
}

#[tokio::test]
async fn an_object_that_becomes_malformed_or_empty_keeps_its_keys() {
    scene("became-malformed", async |s| {
        let object = |suffix: &str| json!({"user": s.value(suffix), "password": s.value("password")}).to_string();
        for name in ["malformed", "empty", "odd"] {
            s.put_secret(name, &object("1")).await;
            s.apply(name, &format!("uri: 'aws.sm://{}'", s.path(name))).await;
            s.ready(name).await;
        }
        let before = [good(s, "malformed").await, good(s, "empty").await, good(s, "odd").await];
        s.put_secret("malformed", object("2").trim_end_matches('}')).await;
        s.put_secret("empty", "{}").await;
        s.put_secret("odd", &json!({"user": s.value("2"), "a/b": 1}).to_string()).await;
        fails(s, "malformed", "False KeypathNotFound", "KeypathNotFound").await;
        fails(s, "empty", "False KeypathNotFound", "KeypathNotFound").await;
        fails(s, "odd", "False InvalidKey", "InvalidKey").await;
        assert_eq!([good(s, "malformed").await, good(s, "empty").await, good(s, "odd").await], before);
        for name in ["malformed", "empty", "odd"] {
            s.put_secret(name, &object("3")).await;
        }
        for name in ["malformed", "empty", "odd"] {
            recovers(s, name).await;
            s.holds(name, &[("password", &s.value("password")), ("user", &s.value("3"))], SECONDS).await;
        }
    })
    .await;
}

#[tokio::test]
async fn one_failing_reference_of_several_writes_nothing() {
    scene("all-or-nothing", async |s| {
        let entry = |key: &str| json!({"key": key, "uri": format!("aws.sm://{}", s.path(key))});
        s.put_secret("a", &s.value("a1")).await;
        s.put_secret("b", &s.value("b1")).await;
        s.apply("whole", &json!({"data": [entry("a"), entry("b")]}).to_string()).await;
        s.ready("whole").await;
        let before = good(s, "whole").await;
        s.apply("never", &json!({"data": [entry("a"), entry("c")]}).to_string()).await;
        says(&fails(s, "never", "False SourceNotFound", "SourceNotFound").await, &s.path("c"));
        assert_eq!(s.data("never").await, None);
        s.front.deny(&s.path("b"));
        s.put_secret("a", &s.value("a2")).await;
        says(&fails(s, "whole", "False AccessDenied", "AccessDenied").await, &s.path("b"));
        asked(s, &s.path("b"), 1).await;
        assert_eq!(good(s, "whole").await, before);
        s.front.clear_faults();
        s.put_secret("c", &s.value("c1")).await;
        for (name, key, value) in [("whole", "b", "b1"), ("never", "c", "c1")] {
            recovers(s, name).await;
            s.holds(name, &[("a", &s.value("a2")), (key, &s.value(value))], SECONDS).await;
        }
    })
    .await;
}

#[tokio::test]
async fn resources_that_fail_never_stop_another() {
    scene("neighbours", async |s| {
        mirrored(s, "db", &s.value("1")).await;
        // Each hangs for itself, as a key does that is kept outside of AWS.
        let hanging: Vec<String> = (0..12).map(|i| format!("hanging-{i}")).collect();
        let ids: Vec<String> = hanging.iter().map(|name| s.path(name)).collect();
        s.front.add_fault(Fault::new(move |call| call.ids.iter().any(|id| ids.contains(id)), Answer::Hang));
        for name in &hanging {
            reads(s, name, &format!("aws.sm://{}", s.path(name))).await;
        }
        reads(s, "missing", &format!("aws.sm://{}", s.path("missing"))).await;
        until("all of them hang", SECONDS, async || hanging.iter().all(|name| s.reads(&s.path(name)) > 0).then_some(())).await;
        mirrored(s, "new", &s.value("new")).await;
        s.put_secret("db", &s.value("2")).await;
        s.holds("db", &[("value", &s.value("2"))], WITHIN_TTL).await;
        for name in &hanging {
            fails(s, name, "Unknown ProviderUnavailable", "ProviderUnavailable").await;
        }
    })
    .await;
}

#[tokio::test]
async fn credentials_that_are_not_accepted_are_told_from_those_that_ran_out() {
    scene("refused-credentials", async |s| {
        mirrored(s, "db", &s.value("")).await;
        let before = good(s, "db").await;
        s.front.add_fault(error(s.path("db"), 400, "ExpiredTokenException", "The security token included in the request is expired"));
        says(&fails(s, "db", "True Mirrored", "ProviderUnavailable").await, "the credentials have run out, or the clock of the machine that reads is wrong");
        s.front.clear_faults();
        recovers(s, "db").await;
        s.front.add_fault(error(s.path("db"), 400, "UnrecognizedClientException", "The security token included in the request is invalid."));
        says(
            &fails(s, "db", "False CredentialsError", "CredentialsError").await,
            "check the provider's identity, on the command line the profile or the environment (UnrecognizedClientException)",
        );
        assert_eq!(good(s, "db").await, before);
        s.front.clear_faults();
        recovers(s, "db").await;
    })
    .await;
}

#[tokio::test]
async fn a_controller_without_credentials_says_so_and_calls_nothing() {
    scene_before_controller("no-credentials", async |s| {
        s.provide(&["*"]).await;
        s.put_secret("db", &s.value("")).await;
        reads(s, "db", &format!("aws.sm://{}", s.path("db"))).await;
        s.start_controller_with(&world().kubeconfig, &[], &[("AWS_EC2_METADATA_DISABLED", "true")]);
        s.controller_ready().await;
        says(&fails(s, "db", "False CredentialsError", "CredentialsError").await, "by a role of its ServiceAccount");
        assert_eq!(s.front.calls(), []);
        s.stop_controller();
        s.start_controller(&[]).await;
        recovers(s, "db").await;
        s.holds("db", &[("value", &s.value(""))], SECONDS).await;
    })
    .await;
}

#[tokio::test]
async fn rights_on_secrets_that_are_taken_away_are_told_and_missed_no_longer_than_needed() {
    scene_before_controller("no-rights", async |s| {
        let scope = format!("rbac.namespaces={{{}}}", s.namespace);
        let rbac = testbed::chart::rbac(&crate::support::root().join("charts/robotosecret"), &s.namespace, &["rbac.scope=namespaces", &scope]).unwrap();
        for object in &rbac.objects {
            apply_object(&s.client, object).await.unwrap();
        }
        let without_secrets = |role: &Value| {
            let mut less = role.clone();
            less["rules"].as_array_mut().unwrap().retain(|rule| !rule["resources"].as_array().unwrap().contains(&Value::from("secrets")));
            (less != *role).then_some(less)
        };
        let mut roles = rbac.objects.iter().filter(|object| object["kind"] == "Role");
        let (role, less) = roles.find_map(|role| Some((role, without_secrets(role)?))).unwrap();
        s.provide(&["*"]).await;
        s.start_controller_as(&world().plane.kubeconfig_for(&s.namespace, &rbac.service_account).unwrap(), &[]);
        s.controller_ready().await;
        mirrored(s, "db", &s.value("1")).await;
        let before = good(s, "db").await;
        apply_object(&s.client, &less).await.unwrap();
        s.put_secret("db", &s.value("2")).await;
        says(&fails(s, "db", "True Mirrored", "KubernetesError").await, "check the roles of its ServiceAccount");
        assert_eq!(good(s, "db").await, before);
        apply_object(&s.client, role).await.unwrap();
        recovers(s, "db").await;
        s.holds("db", &[("value", &s.value("2"))], SECONDS).await;
        assert_eq!(s.told("db", "CheckFailed").await, 1, "{:?}", s.events("db").await);
    })
    .await;
}
