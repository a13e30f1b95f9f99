//! Pushing while things fail: the controller dies between any two steps, others write at the same time, the status can't be written, limits are low. What was
//! pushed is written once, nobody's change is lost, and the status says how it is.

use std::{process::Command, time::Duration};

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use testbed::{
    aws,
    front::{Answer, Fault},
};

use super::{
    OWNER, SECONDS, Scene, WITHIN_TTL, allow, held, holds, parameter, push, pushes, pushing, ready, says, secret, start, start_as, tags, until, world,
};
use crate::support::scene_before_controller;

/// All values that a parameter ever had.
async fn history(name: &str) -> Vec<String> {
    let answer = world().moto.ssm().get_parameter_history().name(name).with_decryption(true).send().await.unwrap();
    answer.parameters.unwrap_or_default().into_iter().map(|one| one.value.unwrap()).collect()
}

/// Waits until a controller that just started says that all is well with this version.
async fn settled(s: &Scene, version: &str) {
    let what = format!("the status says version {version}; see {}", s.controller().process.log_path().display());
    until(&what, WITHIN_TTL * 2, async || {
        let status = pushes(s).get("db").await.unwrap().status?;
        let is_well = status.conditions.iter().all(|condition| condition.status == "True" && condition.type_ != "Stalled");
        (is_well && status.targets[0].version.as_deref() == Some(version)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_target_that_may_not_be_written_does_not_slow_down_the_others() {
    pushing("push-mixed", &["write"], async |s| {
        let (id, one) = (s.path("db"), s.value("one"));
        let rule = json!({"namespaces": {"names": [s.namespace]}, "references": [format!("aws.sm://{id}")], "verbs": ["write"]});
        s.providers().patch(&s.namespace, &PatchParams::default(), &Patch::Merge(&json!({"spec": {"allow": [rule]}}))).await.unwrap();
        secret(s, "db", json!({"password": one})).await;
        s.front.fail(503);
        let data = json!([{"key": "password", "uri": format!("aws.sm://{id}")}, {"key": "password", "uri": format!("aws.sm://{}", s.path("not"))}]);
        push(s, "db", json!({"secretName": "db", "data": data})).await;
        // After 1, 2 and 4 seconds, and not after 10, 20 and 40 as what isn't allowed.
        until("the store is asked for the fourth time", SECONDS, async || (s.calls("DescribeSecret") >= 4).then_some(())).await;
        s.front.clear_faults();
        holds(&id, &one, WITHIN_TTL).await;
        ready(s, "db", "False NotAllowed", SECONDS).await;
    })
    .await;
}

#[tokio::test]
async fn whatever_the_controller_dies_of_a_value_is_written_once() {
    pushing("push-kill", &["write"], async |s| {
        let name = format!("/{}", s.path("db"));
        let mut values = vec![s.value("0")];
        secret(s, "db", json!({"password": values[0]})).await;
        push(s, "db", json!({"secretName": "db", "data": [{"key": "password", "uri": format!("aws.ps://{name}")}]})).await;
        ready(s, "db", "True Pushed", SECONDS).await;
        // Before the call arrives, after it was carried out, and while the look before it is answered.
        let moments: [(&str, Answer); 3] = [("PutParameter", Answer::Hold), ("PutParameter", Answer::HoldAnswer), ("DescribeParameters", Answer::HoldAnswer)];
        for (round, (action, answer)) in (1..).zip(moments) {
            let before = s.calls(action);
            s.front.add_fault(Fault::new(move |call| call.action == action, answer));
            values.push(s.value(&round.to_string()));
            secret(s, "db", json!({"password": values[round]})).await;
            until(&format!("{action} is under way"), WITHIN_TTL, async || (s.calls(action) > before).then_some(())).await;
            s.kill_controller();
            s.front.clear_faults();
            start(s).await;
            until("the value arrives", WITHIN_TTL, async || (parameter(&name).await.as_ref() == Some(&values[round])).then_some(())).await;
            settled(s, &(round + 1).to_string()).await;
        }
        assert_eq!(history(&name).await, values);
    })
    .await;
}

#[tokio::test]
async fn a_secret_that_changes_while_the_controller_is_killed_again_and_again_ends_as_the_secret() {
    pushing("push-kills", &["write"], async |s| {
        let (id, name) = (s.path("db"), format!("/{}", s.path("db")));
        let value = |round: usize| s.value(&format!("round {round}"));
        let values: Vec<String> = (0..8).map(value).collect();
        secret(s, "db", json!({"password": values[0]})).await;
        let data = json!([{"key": "password", "uri": format!("aws.ps://{name}")}, {"key": "password", "uri": format!("aws.sm://{id}#/db/password")}]);
        push(s, "db", json!({"secretName": "db", "deletionPolicy": "Retain", "data": data})).await;
        ready(s, "db", "True Pushed", SECONDS).await;
        for (round, value) in values.iter().enumerate().skip(1) {
            secret(s, "db", json!({"password": value})).await;
            // Each time a little further on: the look, the reads, the writes, the status.
            tokio::time::sleep(Duration::from_millis(900 + 60 * u64::try_from(round).unwrap())).await;
            s.kill_controller();
            start(s).await;
        }
        let last = values.last().unwrap();
        holds(&id, &json!({"db": {"password": last}}).to_string(), WITHIN_TTL).await;
        until("the parameter too", WITHIN_TTL, async || (parameter(&name).await.as_ref() == Some(last)).then_some(())).await;
        ready(s, "db", "True Pushed", WITHIN_TTL).await;
        let written = history(&name).await;
        // Never twice the same, and never an older one after a newer.
        let order: Vec<usize> = written.iter().map(|value| values.iter().position(|one| one == value).expect("one of ours")).collect();
        assert!(order.windows(2).all(|pair| pair[0] < pair[1]), "{order:?}");
    })
    .await;
}

#[tokio::test]
async fn members_that_others_write_at_the_same_time_are_not_lost() {
    pushing("push-members", &["write"], async |s| {
        let (id, name) = (s.path("app"), format!("/{}", s.path("app")));
        let uris = [format!("aws.sm://{id}"), format!("aws.ps://{name}")];
        s.put_secret("app", r#"{"theirs":{}}"#).await;
        s.put_parameter("app", r#"{"theirs":{}}"#).await;
        secret(s, "db", json!({"password": s.value("0")})).await;
        let data = json!([{"key": "password", "uri": format!("{}#/password", uris[0])}, {"key": "password", "uri": format!("{}#/password", uris[1])}]);
        push(s, "db", json!({"secretName": "db", "adopt": true, "data": data})).await;
        ready(s, "db", "True Pushed", SECONDS).await;
        // Two others add members of their own, one after the other, while the Secret changes.
        let url = s.front.url();
        let write = move |uri: String, writer: usize| {
            let mut failed = Vec::new();
            for number in 0..5 {
                let mut command = Command::new(env!("CARGO_BIN_EXE_robotosecret"));
                command.env_clear().env("AWS_ACCESS_KEY_ID", aws::ACCESS_KEY_ID).env("AWS_SECRET_ACCESS_KEY", aws::SECRET_ACCESS_KEY);
                command.args(["update", &format!("{uri}#/theirs/{writer}-{number}"), "--value", "kept", "--region", aws::REGION, "--endpoint", &url]);
                let output = command.output().unwrap();
                if !output.status.success() {
                    failed.push(String::from_utf8_lossy(&output.stderr).into_owned());
                }
            }
            failed
        };
        let mut writers = tokio::task::JoinSet::new();
        for uri in &uris {
            for writer in 0..2 {
                let (write, uri) = (write.clone(), uri.clone());
                writers.spawn_blocking(move || write(uri, writer));
            }
        }
        let mut round = 0;
        let mut failed = Vec::new();
        while !writers.is_empty() {
            round += 1;
            secret(s, "db", json!({"password": s.value(&round.to_string())})).await;
            let ended = tokio::time::timeout(Duration::from_millis(1500), writers.join_next()).await;
            failed.extend(ended.ok().flatten().into_iter().flat_map(Result::unwrap));
        }
        assert_eq!(failed, Vec::<String>::new());
        assert!(round >= 3, "the Secret changed {round} times meanwhile");
        let theirs: Value =
            (0..2).flat_map(|writer| (0..5).map(move |number| (format!("{writer}-{number}"), json!("kept")))).collect::<serde_json::Map<_, _>>().into();
        let expected = json!({"theirs": theirs, "password": s.value(&round.to_string())});
        for uri in &uris {
            let text = async || if uri.starts_with("aws.sm") { Some(held(&id).await?.0) } else { parameter(&name).await };
            let holds = async || (serde_json::from_str::<Value>(&text().await?).unwrap() == expected).then_some(());
            let waited = tokio::time::timeout(WITHIN_TTL * 2, async {
                while holds().await.is_none() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            });
            assert!(waited.await.is_ok(), "{uri} holds {:?} and not {expected}; its history: {:#?}", text().await, history(&name).await);
        }
    })
    .await;
}

#[tokio::test]
async fn what_a_member_is_written_over_in_parameter_store_is_done_again_each_time() {
    pushing("push-over", &["write"], async |s| {
        let (name, one, two) = (format!("/{}", s.path("app")), s.value("one"), s.value("two"));
        secret(s, "db", json!({"password": one})).await;
        let described = |description: &str| {
            let entry = json!({"key": "password", "uri": format!("aws.ps://{name}#/password"), "attributes": {"description": description}});
            json!({"secretName": "db", "data": [entry]})
        };
        push(s, "db", described("one")).await;
        ready(s, "db", "True Pushed", SECONDS).await;
        // Twice somebody writes between the controller's look and its write.
        let hold = || s.front.add_fault(Fault::new(|call| call.action == "PutParameter", Answer::Hold).times(1));
        let (mut held_back, puts) = (hold(), s.calls("PutParameter"));
        secret(s, "db", json!({"password": two})).await;
        push(s, "db", described("two")).await;
        for (round, member) in (1..).zip(["a", "b"]) {
            until("a write is under way", WITHIN_TTL, async || (s.calls("PutParameter") >= puts + round).then_some(())).await;
            let mut there: Value = serde_json::from_str(&parameter(&name).await.unwrap()).unwrap();
            there[member] = json!("theirs");
            let theirs = world().moto.ssm().put_parameter().name(&name).value(there.to_string()).overwrite(true);
            theirs.r#type(aws_sdk_ssm::types::ParameterType::SecureString).send().await.unwrap();
            let versions = history(&name).await.len();
            s.front.remove_fault(held_back);
            until("it is written over that", WITHIN_TTL, async || (history(&name).await.len() > versions).then_some(())).await;
            // The next one comes after a pause.
            held_back = hold();
        }
        s.front.remove_fault(held_back);
        let expected = json!({"password": two, "a": "theirs", "b": "theirs"});
        until("all that was written over is there", WITHIN_TTL, async || {
            (serde_json::from_str::<Value>(&parameter(&name).await?).unwrap() == expected).then_some(())
        })
        .await;
        ready(s, "db", "True Pushed", WITHIN_TTL).await;
    })
    .await;
}

#[tokio::test]
async fn what_can_not_be_written_down_is_not_made() {
    scene_before_controller("push-status", async |s| {
        s.provide(&["*"]).await;
        allow(s, &["write"]).await;
        start_as(s, |rule| !rule["resources"].as_array().unwrap().contains(&json!("robotopushes/status")), &[]).await;
        let (id, one) = (s.path("db"), s.value("one"));
        secret(s, "db", json!({"password": one})).await;
        push(s, "db", json!({"secretName": "db", "deletionPolicy": "Delete", "data": [{"key": "password", "uri": format!("aws.sm://{id}")}]})).await;
        let log = s.controller().process.log_path().to_owned();
        let refused =
            async || std::fs::read_to_string(&log).unwrap().contains("the status could not be written, without which nothing is pushed").then_some(());
        until("it would push, and does not", SECONDS, refused).await;
        assert_eq!((held(&id).await, s.calls("CreateSecret")), (None, 0));
        s.kill_controller();
        start(s).await;
        ready(s, "db", "True Pushed", SECONDS).await;
        assert_eq!(held(&id).await.unwrap().0, one);
    })
    .await;
}

#[tokio::test]
async fn writes_keep_to_the_provider_s_limits_and_a_change_of_the_secret_is_pushed_at_once() {
    pushing("push-limits", &["write"], async |s| {
        s.limit(json!({"ssmWrites": 1})).await;
        secret(s, "db", json!({"password": s.value("one")})).await;
        let data: Vec<Value> = (0..4).map(|i| json!({"key": "password", "uri": format!("aws.ps:///{}", s.path(&i.to_string()))})).collect();
        push(s, "db", json!({"secretName": "db", "ttl": "1h", "data": data})).await;
        ready(s, "db", "True Pushed", SECONDS).await;
        let at: Vec<_> = s.front.calls().into_iter().filter(|call| call.action == "PutParameter").map(|call| call.at).collect();
        assert_eq!(at.len(), 4);
        assert!(at.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(900)), "one a second: {at:?}");
        // An hour passes before the next look; the change is seen by itself.
        secret(s, "db", json!({"password": s.value("two")})).await;
        let last = format!("/{}", s.path("3"));
        until("the new value arrives", SECONDS, async || (parameter(&last).await == Some(s.value("two"))).then_some(())).await;
    })
    .await;
}

#[tokio::test]
async fn description_and_tags_are_kept_as_the_spec_says_and_those_of_others_stay() {
    pushing("push-attributes", &["write"], async |s| {
        let (id, name) = (s.path("db"), format!("/{}", s.path("db")));
        secret(s, "db", json!({"password": s.value("one")})).await;
        let spec = |description: &str, team: &str| {
            let attributes = json!({"description": description, "tags": {"team": team}});
            let entry = |uri: String| json!({"key": "password", "uri": uri, "attributes": attributes});
            json!({"secretName": "db", "data": [entry(format!("aws.sm://{id}")), entry(format!("aws.ps://{name}"))]})
        };
        push(s, "db", spec("one", "shop")).await;
        ready(s, "db", "True Pushed", SECONDS).await;
        world()
            .moto
            .secrets_manager()
            .tag_resource()
            .secret_id(&id)
            .tags(aws_sdk_secretsmanager::types::Tag::builder().key("theirs").value("x").build())
            .send()
            .await
            .unwrap();
        push(s, "db", spec("two", "store")).await;
        ready(s, "db", "True Pushed", SECONDS).await;
        let described = async || {
            let secret = world().moto.secrets_manager().describe_secret().secret_id(&id).send().await.unwrap().description;
            let filter = aws_sdk_ssm::types::ParameterStringFilter::builder().key("Name").values(&name).build().unwrap();
            let parameter = world().moto.ssm().describe_parameters().parameter_filters(filter).send().await.unwrap().parameters().first().cloned();
            (secret.unwrap_or_default(), parameter.unwrap().description.unwrap_or_default())
        };
        assert_eq!(described().await, ("two".to_owned(), "two".to_owned()));
        let now = tags(&id).await;
        assert!(now["team"] == "store" && now["theirs"] == "x" && now[OWNER].ends_with("/db"), "{now:?}");
        // What somebody changes there is put back.
        world().moto.secrets_manager().update_secret().secret_id(&id).description("theirs").send().await.unwrap();
        until("the description is put back", WITHIN_TTL, async || (described().await.0 == "two").then_some(())).await;
        assert_eq!(held(&id).await.unwrap().0, s.value("one"));
        let before = history(&name).await.len();
        let looked = s.calls("DescribeParameters");
        until("it was looked at twice more", WITHIN_TTL * 2, async || (s.calls("DescribeParameters") >= looked + 2).then_some(())).await;
        assert_eq!(history(&name).await.len(), before);
        says(&ready(s, "db", "True Pushed", SECONDS).await.0, "2 targets hold");
        // A parameter gets its value and its description in one write.
        let mut both = spec("three", "store");
        both["suspend"] = json!(true);
        push(s, "db", both.clone()).await;
        secret(s, "db", json!({"password": s.value("two")})).await;
        both["suspend"] = json!(false);
        push(s, "db", both).await;
        ready(s, "db", "True Pushed", SECONDS).await;
        assert_eq!((described().await, history(&name).await.len()), (("three".to_owned(), "three".to_owned()), before + 1));
        assert_eq!((held(&id).await.unwrap().0, parameter(&name).await), (s.value("two"), Some(s.value("two"))));
    })
    .await;
}
