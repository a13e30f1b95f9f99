//! The confined mode: Secrets are written and never read, with rights on nothing else, and behind the chart's admission policy.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::json;

use crate::support::{SECONDS, Scene, WITHIN_TTL, emulated_before_controller, says, until};

/// Nothing tells a confined controller what others do to its Secrets: it looks once a TTL, but not more often than once a minute.
const NEXT_LOOK: Duration = Duration::from_secs(100);

async fn confined(name: &str, test: impl AsyncFnOnce(&mut Scene)) {
    emulated_before_controller(name, async |s| {
        s.provide(&["*"]).await;
        start(s).await;
        test(s).await;
    })
    .await;
}

async fn start(s: &mut Scene) {
    let kubeconfig = s.account(&["confined=true"], |_| true).await;
    // The API server learns of a policy, and of a role, a moment after it was made.
    let theirs: Api<Secret> = Api::namespaced(testbed::control_plane::client(&kubeconfig).await.unwrap(), &s.namespace);
    let unlabelled: Secret = serde_json::from_value(json!({"metadata": {"generateName": "x"}})).unwrap();
    let guarded = async || {
        let refused = theirs.create(&PostParams { dry_run: true, ..PostParams::default() }, &unlabelled).await;
        refused.is_err_and(|error| error.to_string().contains("may create only Secrets with the label")).then_some(())
    };
    until("the role and the policy hold", SECONDS, guarded).await;
    s.start_controller_as(&kubeconfig, &["--confined"]);
    s.controller_ready().await;
}

async fn mirror(s: &Scene, name: &str, value: &str, target: serde_json::Value) {
    s.put_secret(name, value).await;
    let spec = json!({"data": [{"key": "value", "uri": format!("aws.sm://{}", s.path(name))}], "target": target});
    s.apply(name, &spec.to_string()).await;
}

#[tokio::test]
async fn a_value_is_mirrored_rotated_renamed_and_put_right_without_the_right_to_read_a_secret() {
    confined("confined", async |s| {
        let (one, two) = (s.value("one"), s.value("two"));
        for name in ["db", "gone", "edited"] {
            mirror(s, name, &one, json!({})).await;
        }
        s.all("Ready", "True Mirrored", SECONDS).await;
        s.put_secret("db", &two).await;
        s.holds("db", &[("value", &two)], WITHIN_TTL).await;

        s.secrets().delete("gone", &DeleteParams::default()).await.unwrap();
        s.tamper("edited", "kubectl-edit", json!({"data": {"value": "eA==", "more": "eA=="}})).await;
        s.holds("gone", &[("value", &one)], NEXT_LOOK).await;
        s.holds("edited", &[("value", &one)], NEXT_LOOK).await;

        mirror(s, "db", &two, json!({"name": "renamed"})).await;
        s.holds("renamed", &[("value", &two)], SECONDS).await;
        until("the Secret of the former name is removed", SECONDS, async || s.data("db").await.is_none().then_some(())).await;

        let before = s.versions().await;
        s.kill_controller();
        start(s).await;
        let three = s.value("three");
        s.put_secret("edited", &three).await;
        s.holds("edited", &[("value", &three)], WITHIN_TTL).await;
        let mut after = s.versions().await;
        after.insert("edited".into(), before["edited"].clone());
        assert_eq!(after, before, "a restart writes nothing that is right");
    })
    .await;
}

#[tokio::test]
async fn a_foreign_secret_is_out_of_reach_until_it_is_handed_over() {
    confined("confined-foreign", async |s| {
        let value = s.value("mine");
        let foreign = json!({"metadata": {"name": "db"}, "stringData": {"theirs": "foreign"}});
        s.secrets().create(&PostParams::default(), &serde_json::from_value(foreign).unwrap()).await.unwrap();
        mirror(s, "db", &value, json!({})).await;
        let message = s.condition("db", "Ready", "False TargetNotOwned", SECONDS).await;
        says(&message, "this controller is confined to those that do");
        says(&message, "kubectl annotate secret db robotosecret.dev/adopt=db");
        assert_eq!(s.data("db").await.unwrap(), [("theirs".to_owned(), "foreign".to_owned())]);
        s.tamper("db", "kubectl-annotate", json!({"metadata": {"annotations": {"robotosecret.dev/adopt": "db"}}})).await;
        s.holds("db", &[("value", &value)], WITHIN_TTL).await;
        s.ready("db").await;
    })
    .await;
}

#[tokio::test]
async fn keys_are_merged_into_a_secret_that_was_handed_over_and_taken_out_again() {
    confined("confined-merge", async |s| {
        let value = s.value("mine");
        let shared = json!({"metadata": {"name": "shared", "labels": {"robotosecret.dev/managed": "true"}}, "stringData": {"theirs": "foreign"}});
        s.secrets()
            .create(&PostParams { field_manager: Some("team".into()), ..PostParams::default() }, &serde_json::from_value(shared).unwrap())
            .await
            .unwrap();
        mirror(s, "db", &value, json!({"name": "shared", "creationPolicy": "Merge"})).await;
        let theirs = ("theirs", "foreign");
        s.holds("shared", &[theirs, ("value", &value)], SECONDS).await;
        s.ready("db").await;
        s.resources().delete("db", &DeleteParams::default()).await.unwrap();
        s.holds("shared", &[theirs], SECONDS).await;
        until("the resource is gone", SECONDS, async || s.resources().get_opt("db").await.unwrap().is_none().then_some(())).await;
    })
    .await;
}
