//! Pushing through a store that accepts calls and never answers: it is told, it costs no more than a few calls, and nobody else waits for it.

use std::time::Duration;

use aws_sdk_secretsmanager::types::Tag;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use robotosecret::api::robotopush::RobotoPushStatus;
use serde_json::{Value, json};
use testbed::front::{Answer, Fault};

use super::{OWNER, SECONDS, Scene, WITHIN_TTL, apply_object, held, holds, parameter, push, pushes, pushing, ready, says, secret, until, world};

/// Two calls that aren't answered, and what is told after them.
const TWO_CALLS: Duration = Duration::from_secs(20);

fn entry(uri: &str) -> Value {
    json!({"key": "password", "uri": uri})
}

/// Entries for that many secrets of one prefix.
fn many(s: &Scene, prefix: &str, count: usize) -> Vec<Value> {
    (0..count).map(|i| entry(&format!("aws.sm://{}", s.path(&format!("{prefix}-{i}"))))).collect()
}

/// Waits until Fresh has a reason.
async fn fresh(s: &Scene, name: &str, reason: &str, limit: Duration) -> RobotoPushStatus {
    until(&format!("{name} is {reason}; see {}", s.controller().process.log_path().display()), limit, async || {
        let status = pushes(s).get(name).await.unwrap().status?;
        (status.condition("Fresh")?.reason == reason).then_some(status)
    })
    .await
}

/// A provider that goes to the store itself, past the scene's front.
async fn healthy(s: &Scene) -> Value {
    let (name, url) = (format!("{}.healthy", s.namespace), world().moto.url());
    let spec = json!({
        "aws": {"region": "eu-west-1", "endpoints": {"secretsManager": url, "ssm": url, "sts": url}, "identity": {"ambient": {}}},
        "allow": [{"namespaces": {"names": [s.namespace]}, "references": ["*"], "verbs": ["write"]}],
    });
    let provider = json!({"apiVersion": "robotosecret.dev/v1alpha1", "kind": "ClusterRobotoProvider", "metadata": {"name": name}, "spec": spec});
    apply_object(&s.client, &provider).await.unwrap();
    json!({"kind": "ClusterRobotoProvider", "name": name})
}

#[tokio::test]
async fn a_store_that_hangs_is_told_and_keeps_no_other_from_being_written() {
    pushing("push-hang", &["write"], async |s| {
        let (one, two) = (s.value("one"), s.value("two"));
        let provider = healthy(s).await;
        s.limit(json!({"secretsManagerWrites": 1000})).await;
        secret(s, "db", json!({"password": one})).await;
        let (beside, elsewhere) = (s.path("beside"), s.path("elsewhere"));
        let mut data = many(s, "wide", 30);
        data.push(entry(&format!("aws.ps:///{beside}")));
        push(s, "wide", json!({"secretName": "db", "data": data})).await;
        for i in 0..12 {
            push(s, &format!("more-{i}"), json!({"secretName": "db", "data": many(s, &format!("more-{i}"), 2)})).await;
        }
        let names: Vec<String> = (0..12).map(|i| format!("more-{i}")).chain(["wide".to_owned()]).collect();
        for name in &names {
            ready(s, name, "True Pushed", SECONDS).await;
        }
        let before = s.calls("DescribeSecret");
        let hang = s.front.add_fault(Fault::new(|call| call.service == "secretsmanager", Answer::Hang));
        secret(s, "db", json!({"password": two})).await;
        push(s, "elsewhere", json!({"secretName": "db", "provider": provider, "data": [entry(&format!("aws.sm://{elsewhere}"))]})).await;
        // Another provider, and another store of the same one, of a target that comes after all that hang.
        holds(&elsewhere, &two, TWO_CALLS).await;
        until("the healthy store gets the value", TWO_CALLS, async || parameter(&format!("/{beside}")).await.filter(|value| *value == two)).await;
        for name in &names {
            let status = fresh(s, name, "ProviderUnavailable", TWO_CALLS * 2).await;
            let fresh = status.condition("Fresh").unwrap();
            says(&fresh.message, " answer");
            assert_eq!(status.condition("Ready").unwrap().status, "False", "what is there is what the Secret held before");
        }
        s.event("wide", "ProviderUnavailable: aws.sm://").await;
        // Some at once, then one at a time; without an end to it each of 54 would have been asked for again and again.
        let asked = s.calls("DescribeSecret") - before;
        assert!((2..=24).contains(&asked), "{asked} calls");
        s.front.remove_fault(hang);
        for name in &names {
            ready(s, name, "True Pushed", WITHIN_TTL).await;
        }
        for id in [s.path("wide-0"), s.path("wide-29"), s.path("more-11-1")] {
            assert_eq!(held(&id).await.unwrap().0, two);
        }
    })
    .await;
}

#[tokio::test]
async fn targets_that_hang_keep_those_after_them_from_nothing() {
    pushing("push-hang-some", &["write"], async |s| {
        let [one, two] = ["one", "two"].map(|name| s.value(name));
        secret(s, "db", json!({"password": one})).await;
        s.limit(json!({"secretsManagerWrites": 1000})).await;
        push(s, "db", json!({"secretName": "db", "deletionPolicy": "Delete", "recovery": {"force": true}, "data": many(s, "t", 6)})).await;
        ready(s, "db", "True Pushed", SECONDS).await;
        let bad = [s.path("t-0"), s.path("t-1"), s.path("t-2")];
        s.front.add_fault(Fault::new(move |call| call.ids.iter().any(|id| bad.contains(id)), Answer::Hang));
        secret(s, "db", json!({"password": two})).await;
        for i in 3..6 {
            holds(&s.path(&format!("t-{i}")), &two, WITHIN_TTL * 2).await;
        }
        ready(s, "db", "False ProviderUnavailable", SECONDS).await;
        // So with what is to be deleted.
        pushes(s).delete("db", &DeleteParams::default()).await.unwrap();
        for i in 3..6 {
            until(&format!("t-{i} is deleted"), WITHIN_TTL * 2, async || held(&s.path(&format!("t-{i}"))).await.is_none().then_some(())).await;
        }
        let status = fresh(s, "db", "ProviderUnavailable", SECONDS).await;
        assert!(status.targets.len() >= 3, "what is still there is known");
        pushes(s).patch("db", &PatchParams::default(), &Patch::Merge(&json!({"spec": {"deletionPolicy": "Retain", "recovery": null}}))).await.unwrap();
        until("Retain lets it go", SECONDS, async || pushes(s).get_opt("db").await.unwrap().is_none().then_some(())).await;
    })
    .await;
}

#[tokio::test]
async fn a_change_that_waits_is_told_and_no_status_says_that_all_is_well_meanwhile() {
    pushing("push-slow", &["write"], async |s| {
        let [one, two] = ["one", "two"].map(|name| s.value(name));
        secret(s, "db", json!({"password": one})).await;
        s.limit(json!({"secretsManagerWrites": 1000})).await;
        let spec = json!({"secretName": "db", "ttl": "10m", "data": many(s, "t", 8)});
        push(s, "db", spec.clone()).await;
        ready(s, "db", "True Pushed", SECONDS).await;
        s.front.delay(Duration::from_secs(2), Duration::ZERO);
        secret(s, "db", json!({"password": two})).await;
        let status = fresh(s, "db", "Throttled", TWO_CALLS).await;
        assert_eq!(status.condition("Ready").unwrap().status, "False");
        says(&status.condition("Fresh").unwrap().message, "a change is not carried out yet");
        assert_eq!(status.targets.len(), 8, "what is there is known");
        ready(s, "db", "True Pushed", WITHIN_TTL * 3).await;
        for i in 0..8 {
            assert_eq!(held(&s.path(&format!("t-{i}"))).await.unwrap().0, two);
        }
    })
    .await;
}

#[tokio::test]
async fn what_was_never_to_be_had_holds_up_no_deletion() {
    pushing("push-never", &["write"], async |s| {
        secret(s, "db", json!({"password": s.value("one")})).await;
        let id = s.path("db");
        let rule = json!({"namespaces": {"names": [s.namespace]}, "references": [format!("aws.sm://{id}")], "verbs": ["write"]});
        s.providers().patch(&s.namespace, &PatchParams::default(), &Patch::Merge(&json!({"spec": {"allow": [rule]}}))).await.unwrap();
        let spec = |uris: &[String], provider: &str| {
            let data: Vec<Value> = uris.iter().map(|uri| entry(uri)).collect();
            let provider = json!({"kind": "ClusterRobotoProvider", "name": provider});
            json!({"secretName": "db", "deletionPolicy": "Delete", "recovery": {"force": true}, "provider": provider, "data": data})
        };
        let (allowed, not) = (format!("aws.sm://{id}"), format!("aws.sm://{}", s.path("not")));
        push(s, "typo", spec(std::slice::from_ref(&allowed), "none")).await;
        ready(s, "typo", "False ProviderNotFound", SECONDS).await;
        push(s, "vault", spec(&["vault://kv/x".to_owned()], &s.namespace)).await;
        ready(s, "vault", "False InvalidSpec", SECONDS).await;
        push(s, "arn", spec(&["arn:aws:secretsmanager:us-east-1:123456789012:secret:x-AbCdEf".to_owned()], &s.namespace)).await;
        ready(s, "arn", "False NotAllowed", SECONDS).await;
        push(s, "db", spec(&[allowed.clone(), not], &s.namespace)).await;
        ready(s, "db", "False NotAllowed", SECONDS).await;
        assert!(held(&id).await.is_some());
        // What is taken out of the spec again is forgotten.
        push(s, "db", spec(&[allowed], &s.namespace)).await;
        let (_, status) = ready(s, "db", "True Pushed", SECONDS).await;
        assert_eq!(status.targets.len(), 1);
        for name in ["typo", "vault", "arn", "db"] {
            pushes(s).delete(name, &DeleteParams::default()).await.unwrap();
            until(&format!("{name} goes"), SECONDS, async || pushes(s).get_opt(name).await.unwrap().is_none().then_some(())).await;
        }
        assert!(held(&id).await.is_none());
    })
    .await;
}

#[tokio::test]
async fn what_a_store_makes_late_goes_with_its_push() {
    pushing("push-late", &["write"], async |s| {
        secret(s, "db", json!({"password": s.value("one")})).await;
        let id = s.path("db");
        let hold = s.front.add_fault(Fault::new(|call| call.action == "CreateSecret", Answer::Hold).times(1));
        push(s, "db", json!({"secretName": "db", "deletionPolicy": "Delete", "recovery": {"force": true}, "data": [entry(&format!("aws.sm://{id}"))]})).await;
        until("it is about to be made", SECONDS, async || (s.calls("CreateSecret") > 0).then_some(())).await;
        pushes(s).delete("db", &DeleteParams::default()).await.unwrap();
        let told = async || {
            let status = pushes(s).get("db").await.unwrap().status?;
            status.condition("Fresh").filter(|fresh| fresh.message.contains("the store may still carry out the call")).map(drop)
        };
        until("it is waited for", SECONDS, told).await;
        // The front forgets a call whose connection is gone; a store may not.
        let cluster = Api::<Namespace>::all(s.client.clone()).get("kube-system").await.unwrap().metadata.uid.unwrap();
        let mark = Tag::builder().key(OWNER).value(format!("{cluster}/{}/db", s.namespace)).build();
        world().moto.secrets_manager().create_secret().name(&id).secret_string(s.value("one")).tags(mark).send().await.unwrap();
        s.front.remove_fault(hold);
        until("the push goes", WITHIN_TTL * 2, async || pushes(s).get_opt("db").await.unwrap().is_none().then_some(())).await;
        assert_eq!((held(&id).await, s.calls("DeleteSecret")), (None, 1), "what was made late");
    })
    .await;
}

#[tokio::test]
async fn of_two_that_take_over_the_same_the_loser_is_told() {
    pushing("push-adopt-race", &["write"], async |s| {
        let id = s.path("db");
        s.put_secret("db", "nobody's").await;
        for name in ["a", "b"] {
            secret(s, name, json!({"password": s.value(name)})).await;
        }
        // Both look before either takes it over.
        let hold = s.front.add_fault(Fault::new(|call| call.action == "TagResource", Answer::Hold));
        for name in ["a", "b"] {
            push(s, name, json!({"secretName": name, "adopt": true, "ttl": "10m", "data": [entry(&format!("aws.sm://{id}"))]})).await;
        }
        until("both take it over", SECONDS, async || (s.calls("TagResource") >= 2).then_some(())).await;
        s.front.remove_fault(hold);
        let settled = until("one has it, the other is told", WITHIN_TTL, async || {
            let mut said = Vec::new();
            for name in ["a", "b"] {
                let status = pushes(s).get(name).await.unwrap().status?;
                said.push(status.condition("Ready")?.reason.clone());
            }
            let winner = said.iter().position(|reason| reason == "Pushed")?;
            (said[1 - winner] == "TargetNotOwned").then_some(winner)
        })
        .await;
        holds(&id, &s.value(["a", "b"][settled]), SECONDS).await;
    })
    .await;
}

#[tokio::test]
async fn retain_lets_go_what_is_suspended_or_has_no_provider() {
    pushing("push-retain", &["write"], async |s| {
        secret(s, "db", json!({"password": s.value("one")})).await;
        let spec = |name: &str, more: Value| {
            let mut spec = json!({"secretName": "db", "deletionPolicy": "Delete", "data": [entry(&format!("aws.sm://{}", s.path(name)))]});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            spec
        };
        for name in ["suspended", "lost"] {
            push(s, name, spec(name, json!({}))).await;
            ready(s, name, "True Pushed", SECONDS).await;
        }
        push(s, "suspended", spec("suspended", json!({"suspend": true, "deletionPolicy": "Retain"}))).await;
        push(s, "lost", spec("lost", json!({"provider": {"kind": "ClusterRobotoProvider", "name": "none"}, "deletionPolicy": "Retain"}))).await;
        for name in ["suspended", "lost"] {
            until(&format!("{name} is held by nothing"), SECONDS, async || {
                pushes(s).get(name).await.unwrap().metadata.finalizers.unwrap_or_default().is_empty().then_some(())
            })
            .await;
        }
    })
    .await;
}
