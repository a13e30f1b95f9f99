//! No value leaks, whatever the store and the API server answer. Every scene looks for its canary in the logs (at debug level), events,
//! statuses and metrics when it ends; here stand the answers that are made to bring a value there.

use kube::api::PostParams;
use serde_json::{Value, json};
use testbed::front::{Answer, Fault};

use crate::support::{SECONDS, Scene, WITHIN_TTL, apply_object, says, scene, until};

/// Answers every read with this body and HTTP status.
fn answer(s: &Scene, status: u16, body: &str) {
    let body = body.to_owned();
    s.front.add_fault(Fault::new(|call| call.action.starts_with("Get"), Answer::Body { status, body }));
}

fn whole_answer(s: &Scene, value: &str) -> String {
    json!({"ARN": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:x-AbCdEf", "Name": s.path("db"), "VersionId": "v", "SecretString": value}).to_string()
}

#[tokio::test]
async fn an_answer_cut_short_is_told_without_its_text() {
    scene("cut-short", async |s| {
        let body = whole_answer(s, &s.value("x"));
        answer(s, 200, &body[..body.len() - 2]);
        s.apply("db", &format!("uri: aws.sm://{}", s.path("db"))).await;
        let message = s.condition("db", "Ready", "Unknown ProviderUnavailable", SECONDS).await;
        says(&message, "the store's answer could not be understood");
        s.event("db", "CheckFailed").await;
    })
    .await;
}

#[tokio::test]
async fn an_answer_of_the_wrong_shape_is_told_without_its_text() {
    scene("wrong-shape", async |s| {
        let value = s.value("x");
        for (name, body) in [
            ("number", json!({"ARN": 7, "SecretString": {"nested": value}}).to_string()),
            ("text", format!("\"{value}\"")),
            ("html", format!("<html>{value}</html>")),
            ("parameter", json!({"Parameter": {"Name": "/x", "Value": [value], "Version": "seven"}}).to_string()),
        ] {
            answer(s, 200, &body);
            s.apply(name, &format!("data: [{{key: a, uri: 'aws.sm://{0}'}}, {{key: b, uri: 'aws.ps:///{0}'}}]", s.path(name))).await;
            s.condition(name, "Fresh", "False ProviderUnavailable", SECONDS).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_value_that_is_no_json_is_not_quoted() {
    scene("not-json", async |s| {
        for (name, value) in [
            ("plain", s.value("")),
            ("broken", format!("{{\"password\": \"{}\"", s.value(""))),
            ("twice", format!("{{}} {}", s.value(""))),
            ("list", format!("[\"{}\"]", s.value(""))),
        ] {
            s.put_secret(name, &value).await;
            s.apply(name, &format!("data: [{{key: a, uri: 'aws.sm://{}#/password'}}]", s.path(name))).await;
            s.condition(name, "Ready", "False KeypathNotFound", SECONDS).await;
        }
        s.put_secret("short", &format!("{{\"password\": {}", s.value(""))).await;
        s.apply("short", &format!("uri: aws.sm://{}", s.path("short"))).await;
        s.condition("short", "Ready", "False KeypathNotFound", SECONDS).await;
    })
    .await;
}

#[tokio::test]
async fn what_the_api_server_refuses_is_told_without_its_text() {
    scene("refused-text", async |s| {
        // An admission that says in its refusal what the Secret holds, as some do.
        let name = s.namespace.clone();
        let policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
            "spec": {
                "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["secrets"]}]},
                "validations": [{"expression": "false", "messageExpression": "'we do not like ' + string(object.data.a)"}],
            },
        });
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
            "spec": {
                "policyName": name, "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}},
            },
        });
        apply_object(&s.client, &policy).await.unwrap();
        apply_object(&s.client, &binding).await.unwrap();
        let probe = json!({"metadata": {"name": "probe"}, "data": {"a": "cHJvYmU="}});
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        let refused = async || s.secrets().create(&dry, &serde_json::from_value(probe.clone()).unwrap()).await.err();
        says(&until("the policy holds", SECONDS, refused).await.to_string(), "we do not like cHJvYmU=");
        s.put_secret("db", &s.value("x")).await;
        s.apply("db", &format!("data: [{{key: a, uri: 'aws.sm://{}'}}]", s.path("db"))).await;
        s.condition("db", "Ready", "False TargetRejected", SECONDS).await;
        s.event("db", "CheckFailed").await;
        for kind in ["validatingadmissionpolicies", "validatingadmissionpolicybindings"] {
            let url = format!("/apis/admissionregistration.k8s.io/v1/{kind}/{name}");
            let request = http::Request::delete(url).body(Vec::new()).unwrap();
            s.client.request_text(request).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_value_in_every_encoding_is_mirrored_and_nowhere_else() {
    scene("everywhere", async |s| {
        let value = s.value(" %41\\u0041\"\n\t&=/+");
        s.put_secret("db", &json!({"a": value, "b": value.repeat(3)}).to_string()).await;
        s.put_parameter("p", &value).await;
        let base = s.path("");
        let data = json!([
            {"key": "a", "uri": format!("aws.sm://{base}db#/a")},
            {"key": "b", "uri": format!("aws.sm://{base}db#/b")},
            {"key": "whole", "uri": format!("aws.sm://{base}db")},
            {"key": "p", "uri": format!("aws.ps:///{base}p")},
        ]);
        s.apply("db", &json!({"data": data}).to_string()).await;
        s.ready("db").await;
        // A rotation, a repair and a refusal bring the value past every part of the controller.
        let rotated = s.value("rotated");
        s.put_parameter("p", &rotated).await;
        s.refresh("db", "1").await;
        s.event("db", "Updated").await;
        s.tamper("db", "kubectl-edit", json!({"stringData": {"a": value, "foreign": value}})).await;
        s.event("db", "put right again").await;
        s.patch("db", json!({"spec": {"target": {"labels": {"team": "no good value!"}}}})).await;
        s.condition("db", "Ready", "False TargetRejected", WITHIN_TTL).await;
        assert!(s.data("db").await.unwrap().iter().all(|(key, value)| key != "foreign" && value.contains(s.canary.token())));
        let log = s.controller().process.log().unwrap();
        assert!(log.contains("DEBUG") && log.contains("aws"), "the log is at debug level, with what the AWS SDK has to say:\n{log}");
    })
    .await;
}

#[tokio::test]
async fn the_search_finds_what_leaks() {
    scene("planted", async |s| {
        // What every scene's end relies on: a value in an event, a status or a log would be found.
        let planted: Value = json!({"note": format!("value is {}", s.value("x"))});
        assert_eq!(s.canary.scan("planted", planted.to_string()).len(), 1);
        assert!(s.canary.scan("clean", json!({"note": "value is gone"}).to_string()).is_empty());
    })
    .await;
}
