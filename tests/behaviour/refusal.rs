//! What the API server does not take, and what is not ours to write: said without a word of any value, and put right when it can be.

use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::support::{SECONDS, Scene, WITHIN_TTL, apply_object, says, scene, until};

/// Applies a `RobotoSecret` `name` that reads the secret `name` into `key`, with this target.
async fn mirror(s: &Scene, name: &str, key: &str, target: Value) {
    s.apply(name, &json!({"data": [{"key": key, "uri": format!("aws.sm://{}", s.path(name))}], "target": target}).to_string()).await;
}

/// Waits until the API server's refusal is told, by condition and by one event. Returns the message.
async fn refused(s: &Scene, name: &str) -> String {
    let message = s.condition(name, "Ready", "False TargetRejected", WITHIN_TTL).await;
    assert_eq!(s.condition(name, "Fresh", "False TargetRejected", SECONDS).await, message);
    assert!(s.status(name).await.condition("Stalled").is_none());
    s.event(name, &format!("CheckFailed: TargetRejected: {message}")).await;
    assert_eq!(s.told(name, "CheckFailed").await, 1, "{:?}", s.events(name).await);
    message
}

/// Waits until the API server refuses a Secret of the user's, whose text contains `why`: quotas and policies take effect a while after
/// they were made.
async fn takes_effect(s: &Scene, why: &str) {
    let secret = serde_json::from_value(json!({"metadata": {"name": "probe"}, "stringData": {"value": "x"}})).unwrap();
    let parameters = PostParams { dry_run: true, ..PostParams::default() };
    let asked = async || match s.secrets().create(&parameters, &secret).await {
        Err(kube::Error::Api(status)) if status.message.contains(why) => Some(()),
        _ => None,
    };
    until(&format!("the API server refuses Secrets because of {why:?}"), SECONDS, asked).await;
}

#[tokio::test]
async fn a_label_that_kubernetes_does_not_take_is_named_and_the_secret_stays() {
    scene("bad-label", async |s| {
        s.put_secret("db", &s.value("1")).await;
        mirror(s, "db", "value", json!({"labels": {"team": "shop"}})).await;
        s.ready("db").await;
        let before = s.meta("db").await.resource_version;
        mirror(s, "db", "value", json!({"labels": {"team": "not valid!"}})).await;
        let message = refused(s, "db").await;
        says(&message, "metadata.labels; check target.labels");
        assert!(!message.contains("not valid!"), "{message}");
        assert_eq!(s.meta("db").await.resource_version, before);
        mirror(s, "db", "value", json!({"labels": {"team": "valid"}})).await;
        s.ready("db").await;
        assert_eq!(s.meta("db").await.labels.unwrap()["team"], "valid");
        s.holds("db", &[("value", &s.value("1"))], SECONDS).await;
    })
    .await;
}

#[tokio::test]
async fn keys_that_do_not_fit_the_type_are_told_without_their_values() {
    scene("bad-type", async |s| {
        s.put_secret("tls", &s.value("tls")).await;
        mirror(s, "tls", "value", json!({"type": "kubernetes.io/tls"})).await;
        s.put_secret("docker", &format!("{{\"auths\": {}", s.value("docker"))).await;
        mirror(s, "docker", ".dockerconfigjson", json!({"type": "kubernetes.io/dockerconfigjson"})).await;
        let message = refused(s, "tls").await;
        says(&message, "the type kubernetes.io/tls needs the key tls.crt; it is not among value");
        says(&refused(s, "docker").await, "needs the key .dockerconfigjson to be a JSON object with an object auths");
        for name in ["tls", "docker"] {
            assert_eq!(s.data(name).await, None);
        }
        let config = json!({"auths": {"registry": {"auth": s.value("docker")}}}).to_string();
        s.put_secret("docker", &config).await;
        s.condition("docker", "Ready", "True Mirrored", WITHIN_TTL).await;
        s.holds("docker", &[(".dockerconfigjson", &config)], SECONDS).await;
    })
    .await;
}

#[tokio::test]
async fn more_than_a_secret_can_hold_is_told_before_it_is_tried() {
    scene("too-large", async |s| {
        s.put_secret("large", &s.value(&"x".repeat(65_000))).await;
        let entry = |key: usize| json!({"key": format!("key-{key}"), "uri": format!("aws.sm://{}", s.path("large"))});
        let data = |keys: usize| json!({"data": (0..keys).map(entry).collect::<Vec<_>>()});
        s.apply("large", &data(18).to_string()).await;
        says(&refused(s, "large").await, "a Secret holds at most 1048576");
        assert_eq!(s.data("large").await, None);
        s.patch("large", json!({"spec": data(16)})).await;
        assert_eq!(s.ready("large").await, "16 keys from 1 source");
    })
    .await;
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_named_and_the_secret_is_made_when_there_is_room() {
    scene("quota", async |s| {
        let quota = async |limit: &str| {
            let mut quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few", "namespace": s.namespace}, "spec": {"hard": {"count/secrets": limit}}});
            apply_object(&s.client, &quota).await.unwrap();
            // Whoever enforces it goes by its status, which no controller of this control plane fills in.
            quota["status"] = json!({"hard": {"count/secrets": limit}, "used": {"count/secrets": "0"}});
            let quotas: kube::Api<k8s_openapi::api::core::v1::ResourceQuota> = kube::Api::namespaced(s.client.clone(), &s.namespace);
            quotas.patch_status("few", &PatchParams::apply("user").force(), &Patch::Apply(&quota)).await.unwrap();
        };
        s.put_secret("db", &s.value("")).await;
        quota("0").await;
        takes_effect(s, "exceeded quota").await;
        mirror(s, "db", "value", json!({})).await;
        says(&refused(s, "db").await, "a ResourceQuota of the namespace does not allow the Secret; raise it, or make room");
        assert_eq!(s.data("db").await, None);
        quota("5").await;
        s.condition("db", "Ready", "True Mirrored", WITHIN_TTL).await;
        s.holds("db", &[("value", &s.value(""))], SECONDS).await;
    })
    .await;
}

#[tokio::test]
async fn an_admission_policy_that_denies_is_told_without_its_text() {
    scene("policy", async |s| {
        s.put_secret("db", &s.value("1")).await;
        mirror(s, "db", "value", json!({})).await;
        s.ready("db").await;
        let before = s.meta("db").await.resource_version;
        let name = format!("{}.robotosecret.test", s.namespace);
        // The policy's own text shows the value, which must go nowhere.
        let policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": s.namespace}},
                    "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["secrets"]}],
                },
                "validations": [{"expression": "false", "messageExpression": "'no Secrets today: ' + string(object.data['value'])"}],
            },
        });
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        });
        apply_object(&s.client, &policy).await.unwrap();
        apply_object(&s.client, &binding).await.unwrap();
        takes_effect(s, "no Secrets today").await;
        s.put_secret("db", &s.value("2")).await;
        says(&refused(s, "db").await, "an admission policy or webhook may be the cause");
        assert_eq!(s.meta("db").await.resource_version, before);
        let bindings: kube::Api<k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding> = kube::Api::all(s.client.clone());
        bindings.delete(&name, &DeleteParams::default()).await.unwrap();
        s.condition("db", "Ready", "True Mirrored", WITHIN_TTL).await;
        s.holds("db", &[("value", &s.value("2"))], SECONDS).await;
        let policies: kube::Api<k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy> = kube::Api::all(s.client.clone());
        policies.delete(&name, &DeleteParams::default()).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_secret_of_somebody_else_is_left_alone_until_it_goes() {
    scene("not-ours", async |s| {
        let theirs = serde_json::from_value(json!({"metadata": {"name": "db"}, "stringData": {"theirs": "x"}})).unwrap();
        s.secrets().create(&PostParams::default(), &theirs).await.unwrap();
        let before = s.meta("db").await;
        s.put_secret("db", &s.value("")).await;
        mirror(s, "db", "value", json!({})).await;
        let message = s.condition("db", "Ready", "False TargetNotOwned", SECONDS).await;
        says(&message, "kubectl annotate secret db robotosecret.dev/adopt=db");
        s.event("db", "CheckFailed: TargetNotOwned").await;
        let reads = s.reads(&s.path("db"));
        mirror(s, "db", "other", json!({})).await;
        until("the new spec is looked at", SECONDS, async || (s.status("db").await.observed_generation == Some(2)).then_some(())).await;
        assert_eq!(s.meta("db").await, before);
        // Where the watch sees nothing, the first try makes the Secret without a look; from then on a look comes before the store.
        assert_eq!((reads, s.reads(&s.path("db"))), (1, 1), "what can't be written need not be read");
        s.secrets().delete("db", &DeleteParams::default()).await.unwrap();
        s.condition("db", "Ready", "True Mirrored", WITHIN_TTL).await;
        s.holds("db", &[("other", &s.value(""))], SECONDS).await;
        assert_eq!(s.told("db", "CheckFailed").await, 1, "{:?}", s.events("db").await);
    })
    .await;
}
