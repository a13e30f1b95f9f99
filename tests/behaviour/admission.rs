//! What a stolen token of the controller's account can do to Secrets where the chart's admission policy holds, and that the operator can do its work.

use base64::{Engine, prelude::BASE64_STANDARD};
use k8s_openapi::api::{admissionregistration::v1::ValidatingAdmissionPolicy, core::v1::ServiceAccount};
use kube::{
    Api, Client, Config,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};

use crate::support::{SECONDS, Scene, WITHIN_TTL, apply_object, says, scene_before_controller, until};

const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
const JSON: &str = "application/json";
const MANAGED: &str = "robotosecret.dev/managed";
/// What the policy's own refusals begin with, behind the API server's words.
const POLICY: &str = "denied request: robotosecret may ";

/// What a path begins with that is one of RobotoSecrets.
const RESOURCES: &str = "rsec:";
/// And one of `RobotoPushes`.
const PUSHES: &str = "rpush:";

/// A request as whoever stole the token sends it: method, what follows the path of the namespace's Secrets, content type and body.
type Ask<'a> = (&'a str, &'a str, &'a str, Value);

/// The controller's account in the scene's namespace, and nothing else of the controller.
struct Thief {
    client: Client,
    namespace: String,
}

impl Thief {
    async fn new(s: &Scene, values: &[&str]) -> Self {
        let kubeconfig = s.account(values, |_| true).await;
        let config = Config::from_custom_kubeconfig(Kubeconfig::read_from(&kubeconfig).unwrap(), &KubeConfigOptions::default()).await.unwrap();
        Self { client: Client::try_from(config).unwrap(), namespace: s.namespace.clone() }
    }

    /// The code and the text of the answer, whatever it is.
    async fn ask(&self, (method, path, content, body): &Ask<'_>) -> (u16, String) {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let uri = match (path.strip_prefix(RESOURCES), path.strip_prefix(PUSHES)) {
            (Some(path), _) => format!("/apis/robotosecret.dev/v1alpha1/namespaces/{}/robotosecrets{path}", self.namespace),
            (_, Some(path)) => format!("/apis/robotosecret.dev/v1alpha1/namespaces/{}/robotopushes{path}", self.namespace),
            (None, None) => format!("/api/v1/namespaces/{}/secrets{path}", self.namespace),
        };
        let request = http::Request::builder().method(*method).uri(uri).header("content-type", *content).body(Body::from(body)).unwrap();
        let answer = self.client.send(request).await.unwrap();
        let code = answer.status().as_u16();
        (code, String::from_utf8(answer.into_body().collect_bytes().await.unwrap().to_vec()).unwrap())
    }

    /// The API server learns of a policy, and of a role, a moment after it was made: waits until both hold for the Secret `theirs`.
    async fn bound(&self) {
        let look: Ask<'_> = ("PATCH", "/theirs?dryRun=All", MERGE, json!({}));
        let refused = async || self.ask(&look).await.1.contains(POLICY).then_some(());
        until("the role and the policy hold", SECONDS, refused).await;
    }

    /// That all of these are refused as forbidden, by the policy where `by_policy` says so, in an answer that holds nothing of what the scene's Secrets hold.
    async fn forbidden(&self, s: &Scene, asks: &[Ask<'_>], by_policy: bool) {
        for ask in asks {
            let (code, text) = self.ask(ask).await;
            let status: Value = serde_json::from_str(&text).unwrap_or_default();
            assert_eq!((code, &status["reason"]), (403, &json!("Forbidden")), "{ask:?}: {text}");
            assert!(!by_policy || text.contains(POLICY), "{ask:?}: {text}");
            assert!(s.canary.scan("the answer", &text).is_empty(), "{ask:?} was answered with a value: {text}");
        }
    }

    /// That all of these are done.
    async fn done(&self, asks: &[Ask<'_>]) {
        for ask in asks {
            let (code, text) = self.ask(ask).await;
            assert!((200..300).contains(&code), "{ask:?}: {code} {text}");
        }
    }
}

fn secret(name: &str, mut metadata: Value, mut fields: Value) -> Value {
    metadata["name"] = json!(name);
    fields["apiVersion"] = json!("v1");
    fields["kind"] = json!("Secret");
    fields["metadata"] = metadata;
    fields
}

fn ours() -> Value {
    json!({"labels": {MANAGED: "true"}})
}

/// Makes a Secret as its owner would.
async fn make(s: &Scene, name: &str, metadata: Value) {
    let mut object = secret(name, metadata, json!({"data": {"password": BASE64_STANDARD.encode(s.value(name))}}));
    object["metadata"]["namespace"] = json!(s.namespace);
    apply_object(&s.client, &object).await.unwrap();
}

/// What may never work, whatever rights the account has besides: it is the policy that refuses it.
fn thefts() -> Vec<Ask<'static>> {
    let own = |name: &str| secret(name, json!({}), json!({}));
    let token = |name: &str, type_: &str| {
        secret(name, json!({"labels": {MANAGED: "true"}, "annotations": {"kubernetes.io/service-account.name": "default"}}), json!({"type": type_}))
    };
    vec![
        // Reading by a patch that changes nothing.
        ("PATCH", "/theirs", MERGE, json!({})),
        ("PATCH", "/theirs?dryRun=All", MERGE, json!({})),
        ("PATCH", "/theirs", STRATEGIC, json!({})),
        ("PATCH", "/theirs", JSON_PATCH, json!([])),
        ("PATCH", "/theirs?dryRun=All", JSON_PATCH, json!([{"op": "test", "path": "/metadata/name", "value": "theirs"}])),
        ("PATCH", "/theirs?fieldManager=robotosecret/x", APPLY, own("theirs")),
        ("PATCH", "/theirs?fieldManager=robotosecret/x&force=true&dryRun=All", APPLY, own("theirs")),
        // Making it ours: by the label, or by the annotation of its owner.
        ("PATCH", "/theirs", MERGE, json!({"metadata": ours()})),
        ("PATCH", "/theirs?dryRun=All", MERGE, json!({"metadata": ours()})),
        ("PATCH", "/theirs", JSON_PATCH, json!([{"op": "add", "path": "/metadata/labels", "value": {MANAGED: "true"}}])),
        ("PATCH", "/theirs?fieldManager=robotosecret/x&force=true", APPLY, secret("theirs", ours(), json!({}))),
        ("PATCH", "/theirs", MERGE, json!({"metadata": {"annotations": {"robotosecret.dev/adopt": "x"}}})),
        ("PATCH", "/almost", MERGE, json!({"metadata": ours()})),
        // Changing and removing it.
        ("PATCH", "/theirs", MERGE, json!({"data": {"password": "eA=="}})),
        ("PATCH", "/theirs", MERGE, json!({"data": null})),
        ("PATCH", "/theirs", JSON_PATCH, json!([{"op": "copy", "from": "/data/password", "path": "/data/copy"}])),
        ("PATCH", "/theirs", MERGE, json!({"metadata": {"finalizers": ["example.com/stay"]}})),
        ("PATCH", "/theirs", MERGE, json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "y"}]}})),
        ("DELETE", "/theirs", JSON, Value::Null),
        ("DELETE", "/theirs?dryRun=All", JSON, Value::Null),
        ("DELETE", "/theirs?propagationPolicy=Foreground", JSON, Value::Null),
        ("DELETE", "/almost", JSON, Value::Null),
        ("DELETE", "/handed", JSON, Value::Null),
        // Making Secrets that aren't marked, or of which Kubernetes makes credentials.
        ("POST", "", JSON, own("new")),
        ("POST", "?dryRun=All", JSON, own("new")),
        ("POST", "", JSON, secret("new", json!({"labels": {MANAGED: "false"}}), json!({}))),
        ("POST", "", JSON, secret("new", json!({"annotations": {"robotosecret.dev/adopt": "x"}}), json!({}))),
        ("PATCH", "/new?fieldManager=robotosecret/x&force=true", APPLY, own("new")),
        ("POST", "", JSON, token("new", "kubernetes.io/service-account-token")),
        ("POST", "?dryRun=All", JSON, token("new", "kubernetes.io/service-account-token")),
        ("PATCH", "/new?fieldManager=robotosecret/x&force=true", APPLY, token("new", "kubernetes.io/service-account-token")),
        ("POST", "", JSON, token("new", "Opaque")),
        ("POST", "", JSON, secret("new", ours(), json!({"type": "bootstrap.kubernetes.io/token"}))),
        ("PATCH", "/mirrored", MERGE, json!({"metadata": {"annotations": {"kubernetes.io/service-account.uid": "x"}}})),
        // One that somebody marked as ours by mistake stays unreadable while Kubernetes keeps a token in it.
        ("PATCH", "/token", MERGE, json!({})),
    ]
}

/// The Secrets that the tests below are about.
async fn prepare(s: &Scene) {
    make(s, "theirs", json!({"labels": {"team": "other"}})).await;
    make(s, "almost", json!({"labels": {MANAGED: "yes"}})).await;
    make(s, "mirrored", ours()).await;
    make(s, "handed", json!({"annotations": {"robotosecret.dev/adopt": "db"}})).await;
    // Kubernetes deletes a token Secret whose ServiceAccount is not there (yet).
    let accounts: Api<ServiceAccount> = Api::namespaced(s.client.clone(), &s.namespace);
    until("the namespace's own ServiceAccount", SECONDS, async || accounts.get_opt("default").await.unwrap()).await;
    let marks = json!({"namespace": s.namespace, "labels": {MANAGED: "true"}, "annotations": {"kubernetes.io/service-account.name": "default"}});
    apply_object(&s.client, &secret("token", marks, json!({"type": "kubernetes.io/service-account-token"}))).await.unwrap();
}

/// That the Secrets of others are as they were.
async fn untouched(s: &Scene) {
    for name in ["theirs", "almost"] {
        assert_eq!(s.data(name).await.unwrap(), [("password".to_owned(), s.value(name))]);
        let meta = s.meta(name).await;
        let labels = meta.labels.unwrap_or_default();
        assert_ne!(labels.get(MANAGED).map(String::as_str), Some("true"));
        assert!(meta.deletion_timestamp.is_none() && meta.finalizers.is_none() && meta.owner_references.is_none());
        assert!(!meta.annotations.unwrap_or_default().contains_key("robotosecret.dev/adopt"));
    }
    assert_eq!(s.data("new").await, None);
}

#[tokio::test]
async fn a_stolen_token_of_a_confined_controller_gets_nothing_of_the_secrets_of_others() {
    scene_before_controller("confined-thief", async |s| {
        prepare(s).await;
        let thief = Thief::new(s, &["confined=true"]).await;
        thief.bound().await;
        thief.forbidden(s, &thefts(), true).await;
        let without_right: Vec<Ask<'_>> = vec![
            ("GET", "/theirs", JSON, Value::Null),
            ("GET", "/mirrored", JSON, Value::Null),
            ("GET", "", JSON, Value::Null),
            ("GET", "?labelSelector=robotosecret.dev%2Fmanaged", JSON, Value::Null),
            ("GET", "?watch=1", JSON, Value::Null),
            ("DELETE", "", JSON, Value::Null),
            ("PUT", "/theirs", JSON, secret("theirs", ours(), json!({}))),
            ("PUT", "/mirrored", JSON, secret("mirrored", ours(), json!({}))),
        ];
        thief.forbidden(s, &without_right, false).await;
        untouched(s).await;
    })
    .await;
}

#[tokio::test]
async fn the_policy_holds_also_where_another_role_gives_the_account_every_right_on_secrets() {
    scene_before_controller("more-rights", async |s| {
        prepare(s).await;
        let thief = Thief::new(s, &["admissionPolicy.enabled=true", "rbac.create=false"]).await;
        let rules = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["*"]}]);
        let metadata = json!({"name": "more", "namespace": s.namespace});
        let subjects = json!([{"kind": "ServiceAccount", "name": "robotosecret", "namespace": s.namespace}]);
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "more"});
        let group = "rbac.authorization.k8s.io/v1";
        apply_object(&s.client, &json!({"apiVersion": group, "kind": "Role", "metadata": metadata, "rules": rules})).await.unwrap();
        apply_object(&s.client, &json!({"apiVersion": group, "kind": "RoleBinding", "metadata": metadata, "roleRef": role, "subjects": subjects}))
            .await
            .unwrap();
        thief.bound().await;
        let mut asks = thefts();
        asks.extend([
            ("PUT", "/theirs", JSON, secret("theirs", json!({}), json!({}))),
            ("PUT", "/theirs", JSON, secret("theirs", ours(), json!({"data": {"password": "eA=="}}))),
            ("DELETE", "?fieldSelector=metadata.name%3Dtheirs", JSON, Value::Null),
            ("DELETE", "?fieldSelector=metadata.name%3Dtheirs&dryRun=All", JSON, Value::Null),
        ]);
        thief.forbidden(s, &asks, true).await;
        untouched(s).await;
        // This one goes object by object, so that ours may be gone before it comes to one of others.
        thief.forbidden(s, &[("DELETE", "", JSON, Value::Null)], true).await;
        untouched(s).await;
    })
    .await;
}

/// What the README of the chart says can't be kept from a thief. Should the API server come to keep it, the README has good news to tell.
#[tokio::test]
async fn a_patch_that_makes_no_secret_is_answered_with_the_secret_before_any_policy_is_asked() {
    scene_before_controller("broken-patch", async |s| {
        prepare(s).await;
        let thief = Thief::new(s, &["confined=true"]).await;
        thief.bound().await;
        let (code, text) = thief.ask(&("PATCH", "/theirs?dryRun=All", MERGE, json!({"metadata": {"creationTimestamp": "never"}}))).await;
        assert_eq!(code, 422, "{text}");
        assert!(!s.canary.scan("the answer", &text).is_empty(), "the API server keeps it to itself now: {text}");
        untouched(s).await;
    })
    .await;
}

#[tokio::test]
async fn the_account_can_do_to_its_own_secrets_what_the_operator_does() {
    scene_before_controller("confined-work", async |s| {
        prepare(s).await;
        let operator = Thief::new(s, &["confined=true"]).await;
        operator.bound().await;
        let apply = |name: &str, data: Value| {
            let marks = json!({"labels": {MANAGED: "true"}, "annotations": {"robotosecret.dev/owner": "db"}});
            secret(name, marks, json!({"data": data}))
        };
        let value = json!({"a": "eA==", "b": "eQ=="});
        operator
            .done(&[
                ("POST", "", JSON, apply("made", value.clone())),
                ("PATCH", "/made?fieldManager=robotosecret/db&force=true", APPLY, apply("made", value.clone())),
                // A look, a key taken out, a new value.
                ("PATCH", "/made?dryRun=All", MERGE, json!({})),
                ("PATCH", "/made", MERGE, json!({"data": {"b": null}})),
                ("PATCH", "/made?fieldManager=robotosecret/db&force=true", APPLY, apply("made", json!({"a": "eg=="}))),
            ])
            .await;
        assert_eq!(s.data("made").await.unwrap(), [("a".to_owned(), "z".to_owned())]);
        let uid = s.meta("made").await.uid.unwrap();
        operator
            .done(&[
                ("DELETE", "/made", JSON, json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}})),
                // Apply makes one that isn't there.
                ("PATCH", "/applied?fieldManager=robotosecret/db&force=true", APPLY, apply("applied", value.clone())),
                ("PATCH", "/applied", MERGE, json!({"metadata": {"labels": {"team": "shop"}}})),
                // Its owner hands one over: a look, then it becomes ours.
                ("PATCH", "/handed?dryRun=All", MERGE, json!({})),
                ("PATCH", "/handed?fieldManager=robotosecret/db&force=true", APPLY, apply("handed", value)),
                ("PATCH", "/handed", MERGE, json!({"metadata": {"annotations": {"robotosecret.dev/adopt": null}}})),
                ("PATCH", "/handed?dryRun=All", MERGE, json!({})),
                // A merge is released: the key and the marks go, and with them the right.
                ("PATCH", "/handed", MERGE, json!({"data": {"a": null, "b": null}, "metadata": {"labels": {MANAGED: null}}})),
            ])
            .await;
        assert_eq!(s.data("handed").await.unwrap(), [("password".to_owned(), s.value("handed"))]);
        operator.forbidden(s, &[("PATCH", "/handed", MERGE, json!({})), ("PATCH", "/handed", MERGE, json!({"metadata": ours()}))], true).await;
        untouched(s).await;
    })
    .await;
}

#[tokio::test]
async fn the_operator_mirrors_rotates_repairs_renames_and_removes_under_the_policy() {
    scene_before_controller("guarded", async |s| {
        prepare(s).await;
        s.provide(&["*"]).await;
        Thief::new(s, &["admissionPolicy.enabled=true"]).await.bound().await;
        let kubeconfig = s.account(&["admissionPolicy.enabled=true"], |_| true).await;
        s.start_controller_as(&kubeconfig, &[]);
        s.controller_ready().await;
        s.put_secret("db", &s.value("one")).await;
        let uri = format!("uri: 'aws.sm://{}'", s.path("db"));
        s.apply("db", &format!("{{{uri}}}")).await;
        s.ready("db").await;
        s.holds("db", &[("value", &s.value("one"))], SECONDS).await;
        s.put_secret("db", &s.value("two")).await;
        s.holds("db", &[("value", &s.value("two"))], WITHIN_TTL).await;
        s.tamper("db", "somebody", json!({"data": {"value": "dGhlaXJz", "more": "eA=="}})).await;
        s.holds("db", &[("value", &s.value("two"))], WITHIN_TTL).await;
        s.patch("db", json!({"spec": {"target": {"type": "example.com/other"}}})).await;
        let type_ = async || s.secrets().get("db").await.ok().filter(|secret| secret.type_.as_deref() == Some("example.com/other")).map(|_| ());
        until("the Secret has the other type", SECONDS, type_).await;
        s.patch("db", json!({"spec": {"target": {"name": "renamed"}}})).await;
        s.holds("renamed", &[("value", &s.value("two"))], SECONDS).await;
        until("the former Secret is gone", SECONDS, async || s.data("db").await.is_none().then_some(())).await;

        // One that its owner hands over takes our key and gives it back; one of others is refused in words.
        let merge = |name: &str| format!("{{data: [{{key: extra, {uri}}}], target: {{name: {name}, creationPolicy: Merge}}}}");
        make(s, "handed", json!({"annotations": {"robotosecret.dev/adopt": "handed"}})).await;
        s.apply("handed", &merge("handed")).await;
        s.ready("handed").await;
        s.holds("handed", &[("extra", &s.value("two")), ("password", &s.value("handed"))], SECONDS).await;
        s.resources().delete("handed", &kube::api::DeleteParams::default()).await.unwrap();
        s.holds("handed", &[("password", &s.value("handed"))], SECONDS).await;
        s.apply("theirs", &merge("theirs")).await;
        let refused = async || {
            let status = s.status("theirs").await;
            status.condition("Ready").filter(|ready| ready.status != "True" && ready.reason != "Pending").map(|ready| ready.message.clone())
        };
        says(&until("the merge is refused", SECONDS, refused).await, "an admission policy or webhook may be the cause");
        untouched(s).await;
    })
    .await;
}

#[tokio::test]
async fn a_stolen_token_changes_no_spec_and_the_operator_still_sets_its_finalizer() {
    scene_before_controller("specs", async |s| {
        prepare(s).await;
        let thief = Thief::new(s, &["confined=true"]).await;
        thief.bound().await;
        s.apply("db", "uri: aws.sm://prod/db").await;
        s.apply("kept", "uri: aws.sm://prod/kept").await;
        s.patch("kept", json!({"metadata": {"finalizers": ["example.com/kept"], "labels": {"team": "a"}}})).await;
        let other = json!({"spec": {"uri": "aws.sm://prod/other"}});
        let refused = async || thief.ask(&("PATCH", "rsec:/db?dryRun=All", MERGE, other.clone())).await.1.contains(POLICY).then_some(());
        until("the policy holds", SECONDS, refused).await;
        let mut applied = s.resource("db", "uri: aws.sm://prod/other");
        applied["metadata"].as_object_mut().unwrap().remove("namespace");
        let asks: Vec<Ask<'_>> = vec![
            ("PATCH", "rsec:/db", MERGE, other),
            ("PATCH", "rsec:/db", MERGE, json!({"spec": {"target": {"name": "theirs"}}})),
            ("PATCH", "rsec:/db", JSON_PATCH, json!([{"op": "add", "path": "/spec/suspend", "value": true}])),
            ("PATCH", "rsec:/db?fieldManager=x&force=true", APPLY, applied.clone()),
            // Garbage collection would remove it, and its Secret.
            ("PATCH", "rsec:/db", MERGE, json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "y"}]}})),
            ("PATCH", "rsec:/db", MERGE, json!({"metadata": {"finalizers": ["example.com/stay"]}})),
            ("PATCH", "rsec:/kept", MERGE, json!({"metadata": {"finalizers": null}})),
            ("PATCH", "rsec:/kept", MERGE, json!({"metadata": {"finalizers": ["robotosecret.dev/merge"]}})),
            ("PATCH", "rsec:/db", MERGE, json!({"metadata": {"labels": {"team": "x"}}})),
            ("PATCH", "rsec:/db", MERGE, json!({"metadata": {"annotations": {"robotosecret.dev/refresh": "1"}}})),
            ("PATCH", "rsec:/kept", MERGE, json!({"metadata": {"labels": null}})),
        ];
        thief.forbidden(s, &asks, true).await;
        // There is no right to these at all.
        applied["metadata"]["name"] = json!("new");
        let others: Vec<Ask<'_>> =
            vec![("PATCH", "rsec:/new?fieldManager=x", APPLY, applied.clone()), ("POST", "rsec:", JSON, applied), ("DELETE", "rsec:/db", JSON, Value::Null)];
        thief.forbidden(s, &others, false).await;
        thief
            .done(&[
                ("PATCH", "rsec:/db", MERGE, json!({"metadata": {"finalizers": ["robotosecret.dev/merge"]}})),
                ("PATCH", "rsec:/db", MERGE, json!({"metadata": {"finalizers": null}})),
                ("PATCH", "rsec:/kept", MERGE, json!({"metadata": {"finalizers": ["example.com/kept", "robotosecret.dev/merge"]}})),
                ("PATCH", "rsec:/kept", MERGE, json!({"metadata": {"finalizers": ["example.com/kept"]}})),
            ])
            .await;
        // Nothing keeps the namespace after the test.
        s.patch("kept", json!({"metadata": {"finalizers": null}})).await;
        let found = s.resources().get("db").await.unwrap();
        assert_eq!((found.metadata.generation, found.metadata.finalizers), (Some(1), None));
    })
    .await;
}

#[tokio::test]
async fn a_stolen_token_sends_no_secret_anywhere_by_a_robotopush() {
    scene_before_controller("pushes", async |s| {
        let namespaces = format!("push.namespaces={{{}}}", s.namespace);
        let thief = Thief::new(s, &["admissionPolicy.enabled=true", "push.enabled=true", &namespaces]).await;
        let spec = json!({"secretName": "db", "data": [{"uri": "aws.sm://prod/db"}]});
        let push = json!({"apiVersion": "robotosecret.dev/v1alpha1", "kind": "RobotoPush", "metadata": {"name": "db", "namespace": s.namespace}, "spec": spec});
        apply_object(&s.client, &push).await.unwrap();
        let other = json!({"spec": {"data": [{"uri": "aws.sm://elsewhere"}]}});
        let refused = async || thief.ask(&("PATCH", "rpush:/db?dryRun=All", MERGE, other.clone())).await.1.contains(POLICY).then_some(());
        until("the policy holds", SECONDS, refused).await;
        let asks: Vec<Ask<'_>> = vec![
            ("PATCH", "rpush:/db", MERGE, other),
            ("PATCH", "rpush:/db", MERGE, json!({"spec": {"secretName": "theirs"}})),
            ("PATCH", "rpush:/db", MERGE, json!({"spec": {"suspend": true}})),
            ("PATCH", "rpush:/db", MERGE, json!({"metadata": {"finalizers": ["example.com/stay"]}})),
            ("PATCH", "rpush:/db", MERGE, json!({"metadata": {"labels": {"team": "x"}}})),
            ("PATCH", "rpush:/db", MERGE, json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "y"}]}})),
        ];
        thief.forbidden(s, &asks, true).await;
        let mut applied = push.clone();
        applied["metadata"] = json!({"name": "new"});
        let others: Vec<Ask<'_>> =
            vec![("PATCH", "rpush:/new?fieldManager=x", APPLY, applied.clone()), ("POST", "rpush:", JSON, applied), ("DELETE", "rpush:/db", JSON, Value::Null)];
        thief.forbidden(s, &others, false).await;
        thief
            .done(&[
                ("PATCH", "rpush:/db", MERGE, json!({"metadata": {"finalizers": ["robotosecret.dev/push"]}})),
                ("PATCH", "rpush:/db", MERGE, json!({"metadata": {"finalizers": null}})),
            ])
            .await;
    })
    .await;
}

#[tokio::test]
async fn kubernetes_finds_nothing_to_warn_of_in_the_policies() {
    scene_before_controller("policies", async |s| {
        let namespaces = format!("push.namespaces={{{}}}", s.namespace);
        s.account(&["confined=true", "rollout.enabled=true", "push.enabled=true", &namespaces], |_| true).await;
        let policies: Api<ValidatingAdmissionPolicy> = Api::all(s.client.clone());
        for suffix in ["robotosecret", "robotosecret.secrets", "robotosecret.resources", "robotosecret.pushes"] {
            let name = format!("{}.{suffix}", s.namespace);
            let checked = async || policies.get(&name).await.unwrap().status.filter(|status| status.observed_generation.is_some())?.type_checking;
            let checking = until(&format!("the expressions of {name} are checked"), SECONDS, checked).await;
            assert_eq!(checking.expression_warnings, None, "{name}");
        }
    })
    .await;
}
