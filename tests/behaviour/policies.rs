//! Whose a Secret is: the resource's alone, its own but left to stay, or shared with others; and every way from one to another.

use std::{collections::BTreeSet, path::PathBuf};

use base64::{Engine, prelude::BASE64_STANDARD};
use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    core::v1::{Namespace, Secret},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::support::{self, SECONDS, Scene, WITHIN_TTL, apply_object, root, says, scene, scene_before_controller, until, world};

const FINALIZER: &str = "robotosecret.dev/merge";
const MANAGED: &str = "robotosecret.dev/managed";
const OWNER: &str = "robotosecret.dev/owner";
/// How long Kubernetes may take to collect garbage: it learns only every 30 s of kinds that are new.
const COLLECTED: std::time::Duration = std::time::Duration::from_secs(90);

/// Puts the secret `source` whose members are named like these keys.
async fn put(s: &Scene, source: &str, keys: &[&str]) {
    let members: serde_json::Map<String, Value> = keys.iter().map(|key| ((*key).to_owned(), json!(of(s, source, key)))).collect();
    s.put_secret(source, &Value::from(members).to_string()).await;
}

/// The value of a member that [`put`] put.
fn of(s: &Scene, source: &str, key: &str) -> String {
    s.value(&format!("{source} {key}"))
}

/// Applies a resource that mirrors these members of the secret of its own name into the keys of their names. Never rechecked.
async fn mirror(s: &Scene, name: &str, keys: &[&str], target: Value) {
    mirror_from(s, name, name, keys, target).await;
}

async fn mirror_from(s: &Scene, name: &str, source: &str, keys: &[&str], target: Value) {
    let data: Vec<Value> = keys.iter().map(|key| json!({"key": key, "uri": format!("aws.sm://{}#/{key}", s.path(source))})).collect();
    s.apply(name, &json!({"data": data, "target": target, "refreshPolicy": "OnChange"}).to_string()).await;
}

/// Makes a Secret with a key of somebody's.
async fn theirs(s: &Scene, name: &str, more: Value) {
    let mut object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "Opaque", "stringData": {"theirs": "x"}});
    for (field, value) in more.as_object().unwrap() {
        object[field] = value.clone();
    }
    let parameters = PostParams { field_manager: Some("helm".into()), ..PostParams::default() };
    s.secrets().create(&parameters, &serde_json::from_value(object).unwrap()).await.unwrap();
}

/// The Secret, and what its marks are: label, owner annotation, and the uids of its controllers.
async fn marks(s: &Scene, name: &str) -> (bool, Option<String>, Vec<String>) {
    let meta = s.meta(name).await;
    let label = meta.labels.unwrap_or_default().contains_key(MANAGED);
    let owners = meta.owner_references.unwrap_or_default().into_iter().filter(|owner| owner.controller == Some(true)).map(|owner| owner.uid);
    (label, meta.annotations.unwrap_or_default().get(OWNER).cloned(), owners.collect())
}

async fn uid(s: &Scene, name: &str) -> String {
    s.meta(name).await.uid.unwrap()
}

async fn version(s: &Scene, name: &str) -> String {
    s.meta(name).await.resource_version.unwrap()
}

async fn resource_uid(s: &Scene, name: &str) -> String {
    s.resources().get(name).await.unwrap().metadata.uid.unwrap()
}

async fn is_held(s: &Scene, name: &str) -> bool {
    s.resources().get(name).await.unwrap().finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}

/// Deletes a resource and waits until it is gone.
async fn delete(s: &Scene, name: &str) {
    s.resources().delete(name, &DeleteParams::background()).await.unwrap();
    is_gone(s, name).await;
}

async fn is_gone(s: &Scene, name: &str) {
    let gone = async || s.resources().get_opt(name).await.unwrap().is_none().then_some(());
    until(&format!("the resource {name} is gone\n{}", s.log_tail()), SECONDS, gone).await;
}

async fn secret_is_gone(s: &Scene, name: &str) {
    let gone = async || s.secrets().get_opt(name).await.unwrap().is_none().then_some(());
    until(&format!("the Secret {name} is gone"), COLLECTED, gone).await;
}

/// Waits until garbage collection has seen all that was deleted before.
async fn collected(s: &Scene) {
    put(s, "collected", &["k"]).await;
    mirror(s, "collected", &["k"], json!({})).await;
    s.ready("collected").await;
    delete(s, "collected").await;
    secret_is_gone(s, "collected").await;
}

fn edit(key: &str, value: &str) -> Value {
    json!({"data": {key: BASE64_STANDARD.encode(value)}})
}

/// Waits until a Secret holds what these sources' members are, and these keys of others.
async fn holds(s: &Scene, name: &str, ours: &[(&str, &str)], others: &[(&str, &str)]) {
    let ours: Vec<(&str, String)> = ours.iter().map(|(source, key)| (*key, of(s, source, key))).collect();
    let mut all: Vec<(&str, &str)> = ours.iter().map(|(key, value)| (*key, value.as_str())).chain(others.iter().copied()).collect();
    all.sort_unstable();
    s.holds(name, &all, WITHIN_TTL).await;
}

#[tokio::test]
async fn an_orphan_holds_just_its_keys_stays_behind_and_is_taken_up_again() {
    scene("orphan", async |s| {
        put(s, "db", &["a", "b"]).await;
        let target = json!({"creationPolicy": "Orphan"});
        mirror(s, "db", &["a", "b"], target.clone()).await;
        s.ready("db").await;
        assert_eq!(marks(s, "db").await, (true, Some("db".into()), vec![]));
        assert!(!is_held(s, "db").await, "there is nothing to do when it goes");
        s.tamper("db", "editor", edit("c", "not ours")).await;
        s.event("db", "changed by editor and put right again").await;
        holds(s, "db", &[("db", "a"), ("db", "b")], &[]).await;
        let first = uid(s, "db").await;
        delete(s, "db").await;
        collected(s).await;
        let left = version(s, "db").await;
        mirror(s, "db", &["a", "b"], target.clone()).await;
        s.ready("db").await;
        assert_eq!((uid(s, "db").await, version(s, "db").await), (first.clone(), left), "what is equal is not written");
        // Also with another content.
        delete(s, "db").await;
        mirror(s, "db", &["b"], target).await;
        s.ready("db").await;
        holds(s, "db", &[("db", "b")], &[]).await;
        assert_eq!(uid(s, "db").await, first);
        // A new resource of that name that mirrors elsewhere leaves it alone.
        delete(s, "db").await;
        mirror(s, "db", &["a"], json!({"name": "elsewhere"})).await;
        s.ready("db").await;
        collected(s).await;
        assert_eq!(uid(s, "db").await, first, "what a predecessor left to stay went");
        // Renamed while it is known, it moves.
        mirror(s, "mover", &["b"], json!({"creationPolicy": "Orphan"})).await;
        s.condition("mover", "Ready", "False SourceNotFound", SECONDS).await;
        mirror_from(s, "mover", "db", &["b"], json!({"creationPolicy": "Orphan"})).await;
        s.ready("mover").await;
        mirror_from(s, "mover", "db", &["b"], json!({"creationPolicy": "Orphan", "name": "moved"})).await;
        secret_is_gone(s, "mover").await;
        holds(s, "moved", &[("db", "b")], &[]).await;
    })
    .await;
}

#[tokio::test]
async fn merged_keys_are_kept_right_among_those_of_others_and_taken_out_at_the_end() {
    scene("merge", async |s| {
        put(s, "db", &["a", "b", "c"]).await;
        theirs(s, "shared", json!({"type": "example.com/theirs"})).await;
        let first = uid(s, "shared").await;
        let target = json!({"name": "shared", "creationPolicy": "Merge", "labels": {"team": "shop"}});
        mirror(s, "db", &["a", "b"], target.clone()).await;
        s.ready("db").await;
        holds(s, "shared", &[("db", "a"), ("db", "b")], &[("theirs", "x")]).await;
        assert_eq!(marks(s, "shared").await, (true, None, vec![]));
        let secret = s.secrets().get("shared").await.unwrap();
        assert_eq!((secret.type_.as_deref(), secret.labels()["team"].as_str()), (Some("example.com/theirs"), "shop"));
        assert!(is_held(s, "db").await);
        s.event("db", "mirrored into the Secret shared").await;
        assert_eq!(s.events("db").await.len(), 1, "{:?}", s.events("db").await);

        // What isn't ours is not touched, nor is the store asked for it.
        let reads = s.reads(&s.path("db"));
        s.tamper("shared", "helm", edit("theirs", "y")).await;
        s.tamper("shared", "somebody", edit("new", "z")).await;
        let left = version(s, "shared").await;
        // What is ours is put back, and only that.
        s.tamper("shared", "kubectl-edit", edit("a", "wrong")).await;
        s.event("db", "changed by kubectl-edit and put right again").await;
        holds(s, "shared", &[("db", "a"), ("db", "b")], &[("new", "z"), ("theirs", "y")]).await;
        s.ready("db").await;
        assert_eq!(s.reads(&s.path("db")), reads + 1);
        assert_ne!(version(s, "shared").await, left);

        // A key that is dropped goes, another comes; what somebody else wants too stays.
        let both = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shared"}, "data": {"b": BASE64_STANDARD.encode(of(s, "db", "b"))}});
        s.secrets().patch("shared", &PatchParams::apply("argocd"), &Patch::Apply(&both)).await.unwrap();
        mirror(s, "db", &["c"], target.clone()).await;
        s.ready("db").await;
        holds(s, "shared", &[("db", "b"), ("db", "c")], &[("new", "z"), ("theirs", "y")]).await;
        // Nor does that count as damage.
        s.tamper("shared", "helm", edit("theirs", "x")).await;
        mirror(s, "late", &["a"], json!({"name": "late"})).await;
        s.condition("late", "Ready", "False SourceNotFound", SECONDS).await;
        assert_eq!(s.told("db", "put right again").await, 1);

        // Deletion needs no store.
        s.front.down().unwrap();
        delete(s, "db").await;
        s.holds("shared", &[("b", &of(s, "db", "b")), ("new", "z"), ("theirs", "x")], SECONDS).await;
        let after = s.secrets().get("shared").await.unwrap();
        assert_eq!((after.metadata.uid.as_deref(), after.labels().len()), (Some(first.as_str()), 0), "{:?}", after.labels());
        s.event("db", "Removed: 1 key was taken out of the Secret shared").await;
        s.front.up().unwrap();
    })
    .await;
}

#[tokio::test]
async fn two_resources_share_a_secret_that_they_make_but_no_key() {
    scene("share", async |s| {
        for source in ["first", "second"] {
            put(s, source, &["a", "b", "c", "d"]).await;
        }
        let target = json!({"name": "shared", "creationPolicy": "Merge"});
        mirror(s, "first", &["a", "b"], target.clone()).await;
        s.ready("first").await;
        mirror(s, "second", &["c"], target.clone()).await;
        s.ready("second").await;
        holds(s, "shared", &[("first", "a"), ("first", "b"), ("second", "c")], &[]).await;
        // A key that the creation owns as well goes when it is dropped.
        mirror(s, "first", &["a"], target.clone()).await;
        holds(s, "shared", &[("first", "a"), ("second", "c")], &[]).await;
        s.ready("first").await;

        // The same key: whoever comes second is told whose it is, and nothing is written.
        let before = version(s, "shared").await;
        mirror(s, "second", &["a", "c", "d"], target.clone()).await;
        let message = s.condition("second", "Ready", "False TargetConflict", SECONDS).await;
        says(&message, "the key a is managed by robotosecret/first");
        s.event("second", "CheckFailed: TargetConflict").await;
        assert_eq!(version(s, "shared").await, before);
        // A foreign key and one of its own that was edited: neither is forced.
        s.tamper("shared", "kubectl-edit", edit("c", "wrong")).await;
        s.refresh("second", "1").await;
        until("the refresh is handled", SECONDS, async || (s.status("second").await.last_handled_refresh.as_deref() == Some("1")).then_some(())).await;
        says(&s.condition("second", "Ready", "False TargetConflict", SECONDS).await, "the key a is managed by robotosecret/first");
        s.holds("shared", &[("a", &of(s, "first", "a")), ("c", "wrong")], SECONDS).await;
        mirror(s, "second", &["c", "d"], target.clone()).await;
        s.ready("second").await;
        holds(s, "shared", &[("first", "a"), ("second", "c"), ("second", "d")], &[]).await;

        // Rotation of both.
        s.put_secret("first", &json!({"a": s.value("rotated")}).to_string()).await;
        s.refresh("first", "1").await;
        s.holds("shared", &[("a", &s.value("rotated")), ("c", &of(s, "second", "c")), ("d", &of(s, "second", "d"))], WITHIN_TTL).await;
        s.ready("first").await;
        // One goes, the other's stays as it is.
        delete(s, "first").await;
        holds(s, "shared", &[("second", "c"), ("second", "d")], &[]).await;
        assert_eq!(marks(s, "shared").await, (true, None, vec![]), "the other one's watch needs the label");
        s.ready("second").await;
        // Somebody deletes it: it comes back with what is left.
        s.secrets().delete("shared", &DeleteParams::default()).await.unwrap();
        holds(s, "shared", &[("second", "c"), ("second", "d")], &[]).await;
        s.ready("second").await;
        delete(s, "second").await;
        s.holds("shared", &[], SECONDS).await;
        assert_eq!(marks(s, "shared").await, (false, None, vec![]));
    })
    .await;
}

#[tokio::test]
async fn what_is_anothers_alone_is_not_merged_into_and_what_an_operator_controls_is() {
    scene("merge-into", async |s| {
        put(s, "db", &["a"]).await;
        for (name, policy) in [("owned", "Owner"), ("orphaned", "Orphan")] {
            mirror_from(s, name, "db", &["a"], json!({"creationPolicy": policy})).await;
            s.ready(name).await;
            let before = version(s, name).await;
            let merging = format!("into-{name}");
            mirror_from(s, &merging, "db", &["a"], json!({"name": name, "creationPolicy": "Merge"})).await;
            let message = s.condition(&merging, "Ready", "False TargetNotOwned", SECONDS).await;
            says(&message, &format!("belongs to the RobotoSecret {name} alone; give {name} the creationPolicy Merge too"));
            assert_eq!(version(s, name).await, before);
            // It goes without having been there.
            delete(s, &merging).await;
            assert_eq!(version(s, name).await, before);
        }
        let configs: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::namespaced(s.client.clone(), &s.namespace);
        let operator = configs.create(&PostParams::default(), &serde_json::from_value(json!({"metadata": {"name": "operator"}})).unwrap()).await.unwrap();
        let reference = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "operator", "uid": operator.metadata.uid, "controller": true});
        theirs(s, "tls", json!({"metadata": {"name": "tls", "ownerReferences": [reference]}})).await;
        mirror(s, "db", &["a"], json!({"name": "tls", "creationPolicy": "Merge"})).await;
        s.ready("db").await;
        holds(s, "tls", &[("db", "a")], &[("theirs", "x")]).await;
        assert_eq!(marks(s, "tls").await, (true, None, vec![operator.metadata.uid.unwrap()]));
        // A key of the operator's own stays the operator's.
        mirror(s, "greedy", &["theirs"], json!({"name": "tls", "creationPolicy": "Merge"})).await;
        put(s, "greedy", &["theirs"]).await;
        s.refresh("greedy", "1").await;
        says(&s.condition("greedy", "Ready", "False TargetConflict", WITHIN_TTL).await, "the key theirs is managed by helm");
        holds(s, "tls", &[("db", "a")], &[("theirs", "x")]).await;
    })
    .await;
}

#[tokio::test]
async fn a_policy_changes_in_every_direction_on_the_same_secret() {
    scene("change", async |s| {
        put(s, "db", &["a", "b"]).await;
        let both = [("db", "a"), ("db", "b")];
        let change = async |policy: &str| s.patch("db", json!({"spec": {"target": {"creationPolicy": policy}}})).await;
        mirror(s, "db", &["a", "b"], json!({"creationPolicy": "Owner"})).await;
        s.ready("db").await;
        let (first, resource) = (uid(s, "db").await, resource_uid(s, "db").await);
        let (owner, orphan, merge) = ((true, Some("db".to_owned()), vec![resource]), (true, Some("db".to_owned()), vec![]), (true, None, vec![]));
        // Nobody else has anything in it: every change goes.
        for (step, policy) in ["Orphan", "Owner", "Merge", "Orphan", "Merge", "Owner", "Orphan", "Owner"].into_iter().enumerate() {
            change(policy).await;
            s.ready("db").await;
            let expected = match policy {
                "Owner" => &owner,
                "Orphan" => &orphan,
                _ => &merge,
            };
            assert_eq!(&marks(s, "db").await, expected, "{policy}");
            until("the finalizer is as it should be", SECONDS, async || (is_held(s, "db").await == (policy == "Merge")).then_some(())).await;
            holds(s, "db", &both, &[]).await;
            assert_eq!(uid(s, "db").await, first, "{policy}");
            // Oftener, it would look like a fight.
            if [2, 3].contains(&step) {
                s.tamper("db", "editor", edit("a", "wrong")).await;
                holds(s, "db", &both, &[]).await;
                s.ready("db").await;
            }
        }
        // Somebody else comes, and what is theirs is not taken without their leave.
        change("Merge").await;
        s.ready("db").await;
        s.tamper("db", "helm", edit("theirs", "x")).await;
        for policy in ["Owner", "Orphan"] {
            change(policy).await;
            let message = s.condition("db", "Ready", "False TargetNotOwned", SECONDS).await;
            says(&message, "kubectl annotate secret db robotosecret.dev/adopt=db");
            holds(s, "db", &both, &[("theirs", "x")]).await;
            assert!(is_held(s, "db").await, "its keys are still in there");
        }
        s.tamper("db", "somebody", json!({"metadata": {"annotations": {"robotosecret.dev/adopt": "db"}}})).await;
        s.ready("db").await;
        holds(s, "db", &both, &[]).await;
        assert_eq!(marks(s, "db").await, orphan);
        until("the finalizer goes", SECONDS, async || (!is_held(s, "db").await).then_some(())).await;
        assert!(!s.meta("db").await.annotations.unwrap().contains_key("robotosecret.dev/adopt"));
        assert_eq!(uid(s, "db").await, first);
        // An Owner that became an Orphan leaves its Secret.
        change("Owner").await;
        s.ready("db").await;
        change("Orphan").await;
        s.ready("db").await;
        delete(s, "db").await;
        collected(s).await;
        assert_eq!(uid(s, "db").await, first);
        holds(s, "db", &both, &[]).await;
    })
    .await;
}

#[tokio::test]
async fn a_secret_of_a_type_of_its_own_keeps_it_when_it_becomes_shared() {
    scene("typed", async |s| {
        put(s, "db", &["username", "password"]).await;
        mirror(s, "db", &["username", "password"], json!({"type": "kubernetes.io/basic-auth"})).await;
        s.ready("db").await;
        // Once more, so that it was applied and not only made.
        mirror(s, "db", &["username", "password"], json!({"type": "kubernetes.io/basic-auth", "labels": {"team": "shop"}})).await;
        s.ready("db").await;
        let first = uid(s, "db").await;
        mirror(s, "db", &["username", "password"], json!({"creationPolicy": "Merge"})).await;
        s.ready("db").await;
        let secret = s.secrets().get("db").await.unwrap();
        assert_eq!((secret.metadata.uid.as_deref(), secret.type_.as_deref()), (Some(first.as_str()), Some("kubernetes.io/basic-auth")));
        assert_eq!(marks(s, "db").await, (true, None, vec![]));
        assert_eq!(secret.labels().keys().collect::<Vec<_>>(), [MANAGED]);
    })
    .await;
}

#[tokio::test]
async fn a_merge_that_is_renamed_leaves_its_former_secret_to_the_others() {
    scene("merge-renamed", async |s| {
        put(s, "db", &["a"]).await;
        let target = |name: &str, policy: &str| json!({"name": name, "creationPolicy": policy});
        theirs(s, "one", json!({})).await;
        theirs(s, "three", json!({})).await;
        mirror(s, "db", &["a"], target("one", "Merge")).await;
        s.ready("db").await;
        mirror(s, "db", &["a"], target("two", "Merge")).await;
        holds(s, "two", &[("db", "a")], &[]).await;
        s.holds("one", &[("theirs", "x")], SECONDS).await;
        assert_eq!(marks(s, "one").await, (false, None, vec![]));
        s.event("db", "the mirrored keys were taken out of the Secret one: the target is now two").await;
        s.ready("db").await;
        // What it made itself is not deleted either.
        let made = uid(s, "two").await;
        mirror(s, "db", &["a"], target("three", "Merge")).await;
        holds(s, "three", &[("db", "a")], &[("theirs", "x")]).await;
        s.holds("two", &[], SECONDS).await;
        assert_eq!(uid(s, "two").await, made);
        s.ready("db").await;
        // Name and policy at once, and the label that the watch needs was taken off.
        s.kill_controller();
        s.tamper("three", "somebody", json!({"metadata": {"labels": {MANAGED: null}}})).await;
        mirror(s, "db", &["a"], target("own", "Owner")).await;
        s.start_controller(&[]).await;
        s.ready("db").await;
        s.holds("three", &[("theirs", "x")], SECONDS).await;
        until("the finalizer goes", SECONDS, async || (!is_held(s, "db").await).then_some(())).await;
        mirror(s, "db", &["a"], target("three", "Merge")).await;
        secret_is_gone(s, "own").await;
        holds(s, "three", &[("db", "a")], &[("theirs", "x")]).await;
    })
    .await;
}

#[tokio::test]
async fn a_spec_that_turns_invalid_leaves_the_secret_alone_under_every_policy() {
    scene("invalid", async |s| {
        put(s, "db", &["a"]).await;
        let policies = ["Owner", "Orphan", "Merge"];
        for policy in policies {
            let name = policy.to_lowercase();
            mirror_from(s, &name, "db", &["a"], json!({"creationPolicy": policy})).await;
            s.ready(&name).await;
            let before = version(s, &name).await;
            let next = policies[(policies.iter().position(|p| *p == policy).unwrap() + 1) % 3];
            let data = json!([{"key": "a", "uri": "aws.sm://x#/~9"}]);
            s.patch(&name, json!({"spec": {"data": data, "target": {"creationPolicy": next}}})).await;
            s.condition(&name, "Ready", "False InvalidSpec", SECONDS).await;
            assert_eq!(version(s, &name).await, before, "{policy}");
            holds(s, &name, &[("db", "a")], &[]).await;
        }
    })
    .await;
}

/// A kubeconfig of an identity that has all of the controller's rights but to do this: everything else then happens as if the
/// controller were killed right before that.
async fn without(s: &Scene, resource: &str, verb: &str) -> PathBuf {
    let rbac = testbed::chart::rbac(&support::root().join("charts/robotosecret"), &s.namespace, &[]).unwrap();
    for mut object in rbac.objects {
        if let Some(rules) = object.get_mut("rules").and_then(Value::as_array_mut) {
            for rule in rules.iter_mut().filter(|rule| rule["resources"].as_array().unwrap().contains(&json!(resource))) {
                let verbs = rule["verbs"].as_array_mut().unwrap();
                verbs.retain(|allowed| allowed != verb);
            }
            rules.retain(|rule| rule["verbs"] != json!([]));
        }
        apply_object(&s.client, &object).await.unwrap();
    }
    world().plane.kubeconfig_for(&s.namespace, &rbac.service_account).unwrap()
}

#[tokio::test]
async fn a_merge_that_is_killed_between_any_two_writes_goes_on_after_the_restart() {
    scene_before_controller("merge-killed", async |s| {
        s.provide(&["*"]).await;
        for source in ["made", "merged"] {
            put(s, source, &["a"]).await;
        }
        theirs(s, "merged", json!({})).await;
        // Before the finalizer: nothing is written.
        s.start_controller_as(&without(s, "robotosecrets", "patch").await, &[]);
        for name in ["made", "merged"] {
            mirror(s, name, &["a"], json!({"creationPolicy": "Merge"})).await;
            says(&s.condition(name, "Fresh", "False KubernetesError", SECONDS).await, "check the roles of the controller's ServiceAccount");
        }
        s.kill_controller();
        assert_eq!(s.data("made").await, None);
        s.holds("merged", &[("theirs", "x")], SECONDS).await;
        // Between finalizer and first write.
        s.start_controller_as(&without(s, "secrets", "create").await, &[]);
        until("the finalizer is there", SECONDS, async || is_held(s, "made").await.then_some(())).await;
        s.condition("made", "Fresh", "False KubernetesError", SECONDS).await;
        s.kill_controller();
        assert_eq!(s.data("made").await, None);
        // Between the first write and the status.
        s.start_controller_as(&without(s, "robotosecrets/status", "patch").await, &[]);
        holds(s, "made", &[("made", "a")], &[]).await;
        holds(s, "merged", &[("merged", "a")], &[("theirs", "x")]).await;
        s.kill_controller();
        assert_eq!(s.status("made").await.target, None);
        // A rename, before its status.
        s.start_controller(&[]).await;
        for name in ["made", "merged"] {
            s.ready(name).await;
        }
        s.kill_controller();
        s.start_controller_as(&without(s, "robotosecrets/status", "patch").await, &[]);
        for name in ["made", "merged"] {
            mirror(s, name, &["a"], json!({"creationPolicy": "Merge", "name": format!("{name}-2")})).await;
            holds(s, &format!("{name}-2"), &[(name, "a")], &[]).await;
        }
        s.kill_controller();
        s.start_controller(&[]).await;
        s.holds("made", &[], SECONDS).await;
        s.holds("merged", &[("theirs", "x")], SECONDS).await;
        for name in ["made", "merged"] {
            s.ready(name).await;
        }
        s.kill_controller();
        // A rename, between the status and the former Secret.
        s.start_controller_as(&without(s, "secrets", "patch").await, &[]);
        for name in ["made", "merged"] {
            mirror(s, name, &["a"], json!({"creationPolicy": "Merge", "name": format!("{name}-3")})).await;
            s.ready(name).await;
            holds(s, &format!("{name}-2"), &[(name, "a")], &[]).await;
        }
        s.kill_controller();
        s.start_controller(&[]).await;
        for name in ["made", "merged"] {
            s.holds(&format!("{name}-2"), &[], SECONDS).await;
        }
        s.kill_controller();
        // Deletion, before the keys are taken out.
        s.start_controller_as(&without(s, "secrets", "patch").await, &[]);
        for name in ["made", "merged"] {
            s.resources().delete(name, &DeleteParams::background()).await.unwrap();
            let said = async || {
                let status = s.status(name).await;
                let fresh = status.condition("Fresh").filter(|fresh| fresh.status == "False")?;
                fresh.message.contains(&format!("can't be taken out of the Secret {name}-3, so that this RobotoSecret can't go")).then_some(())
            };
            until(&format!("{name} says why it can't go"), SECONDS, said).await;
        }
        s.kill_controller();
        // Between the keys and the finalizer.
        s.start_controller_as(&without(s, "robotosecrets", "patch").await, &[]);
        for name in ["made", "merged"] {
            s.holds(&format!("{name}-3"), &[], SECONDS).await;
            assert!(is_held(s, name).await);
        }
        s.kill_controller();
        s.start_controller(&[]).await;
        for name in ["made", "merged"] {
            is_gone(s, name).await;
            s.holds(&format!("{name}-3"), &[], SECONDS).await;
        }
    })
    .await;
}

/// Has the API server refuse this operation on the scene's Secrets unless an expression holds, and waits until it does, as an attempt tells:
/// everything else then happens as if the controller were killed right before that. One at a time.
async fn forbid(s: &Scene, operation: &str, unless: &str, attempt: &impl AsyncFn() -> kube::Result<()>) {
    let (api_version, name) = ("admissionregistration.k8s.io/v1", format!("{}.robotosecret.test", s.namespace));
    let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": [operation], "resources": ["secrets"]});
    let policy = json!({
        "apiVersion": api_version, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": s.namespace}}, "resourceRules": [rule]},
            "validations": [{"expression": unless}],
        },
    });
    let binding = json!({
        "apiVersion": api_version, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    });
    apply_object(&s.client, &policy).await.unwrap();
    apply_object(&s.client, &binding).await.unwrap();
    let refused = async || attempt().await.is_err_and(|error| error.to_string().contains(&name)).then_some(());
    until("the policy is in force", COLLECTED, refused).await;
}

/// Takes back what [`forbid`] said.
async fn permit(s: &Scene, attempt: &impl AsyncFn() -> kube::Result<()>) {
    let name = format!("{}.robotosecret.test", s.namespace);
    Api::<ValidatingAdmissionPolicyBinding>::all(s.client.clone()).delete(&name, &DeleteParams::default()).await.unwrap();
    Api::<ValidatingAdmissionPolicy>::all(s.client.clone()).delete(&name, &DeleteParams::default()).await.unwrap();
    until("the policy is gone", COLLECTED, async || attempt().await.is_ok().then_some(())).await;
}

#[tokio::test]
async fn a_controller_that_is_killed_between_a_secret_of_a_former_type_and_the_new_one_makes_that_after_the_restart() {
    scene("type-killed", async |s| {
        put(s, "db", &["username", "password"]).await;
        let target = |type_: &str| json!({"type": type_});
        for name in ["changed", "other"] {
            mirror_from(s, name, "db", &["username", "password"], target("Opaque")).await;
            s.ready(name).await;
        }
        let (first, other) = (uid(s, "changed").await, version(s, "other").await);
        let probe: Secret = serde_json::from_value(json!({"metadata": {"generateName": "probe-"}})).unwrap();
        let secrets = s.secrets();
        let made = async || secrets.create(&PostParams::default(), &probe).await.map(|_| ());
        // A dry run tells that the new one would be taken.
        forbid(s, "CREATE", "has(request.dryRun) && request.dryRun", &made).await;
        mirror_from(s, "changed", "db", &["username", "password"], target("kubernetes.io/basic-auth")).await;
        secret_is_gone(s, "changed").await;
        s.kill_controller();
        assert_eq!(s.data("changed").await, None);
        permit(s, &made).await;
        s.start_controller(&[]).await;
        holds(s, "changed", &[("db", "password"), ("db", "username")], &[]).await;
        s.ready("changed").await;
        let secret = s.secrets().get("changed").await.unwrap();
        assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/basic-auth"));
        assert_ne!(secret.metadata.uid.as_deref(), Some(first.as_str()));
        assert_eq!(marks(s, "changed").await, (true, Some("changed".into()), vec![resource_uid(s, "changed").await]));
        assert_eq!(version(s, "other").await, other, "nothing else is touched");
    })
    .await;
}

#[tokio::test]
async fn a_controller_that_is_killed_between_an_apply_and_what_it_leaves_to_take_out_does_that_after_the_restart() {
    scene_before_controller("prune-killed", async |s| {
        s.provide(&["*"]).await;
        s.start_controller(&[]).await;
        put(s, "db", &["a", "b", "c"]).await;
        let (first, then) = (["Owner", "Owner", "Orphan", "Merge"], ["Merge", "Orphan", "Merge", "Merge"]);
        let names: Vec<String> = first.iter().zip(then).map(|(first, then)| format!("{first}-{then}").to_lowercase()).collect();
        for (name, policy) in names.iter().zip(first) {
            mirror_from(s, name, "db", &["a", "b"], json!({"creationPolicy": policy})).await;
            s.ready(name).await;
        }
        s.kill_controller();
        let prune = PatchParams { dry_run: true, field_manager: Some("robotosecret-prune".into()), ..PatchParams::default() };
        let secrets = s.secrets();
        let pruned = async || secrets.patch(&names[0], &prune, &Patch::Merge(json!({"data": {"b": null}}))).await.map(|_| ());
        forbid(s, "UPDATE", "request.options.fieldManager != 'robotosecret-prune'", &pruned).await;
        s.start_controller_as(&without(s, "robotosecrets/status", "patch").await, &[]);
        for (name, policy) in names.iter().zip(then) {
            mirror_from(s, name, "db", &["a", "c"], json!({"creationPolicy": policy})).await;
            holds(s, name, &[("db", "a"), ("db", "b"), ("db", "c")], &[]).await;
        }
        assert_eq!(marks(s, &names[0]).await.2.len(), 1, "it is still an Owner's");
        s.kill_controller();
        permit(s, &pruned).await;
        s.start_controller(&[]).await;
        for (name, policy) in names.iter().zip(then) {
            holds(s, name, &[("db", "a"), ("db", "c")], &[]).await;
            s.ready(name).await;
            let mark = (policy == "Orphan").then(|| name.clone());
            assert_eq!(marks(s, name).await, (true, mark, vec![]), "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_merge_that_is_deleted_while_the_controller_is_down_leaves_when_it_is_back() {
    scene("merge-down", async |s| {
        put(s, "db", &["a", "b", "c"]).await;
        for name in ["shared", "gone"] {
            theirs(s, name, json!({})).await;
            mirror_from(s, &format!("into-{name}"), "db", &["a", "b", "c"], json!({"name": name, "creationPolicy": "Merge"})).await;
            s.ready(&format!("into-{name}")).await;
        }
        s.kill_controller();
        for name in ["into-shared", "into-gone"] {
            s.resources().delete(name, &DeleteParams::background()).await.unwrap();
        }
        // One key has become somebody else's, one is somebody else's too, the label was taken off, and the other Secret is gone.
        let both = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shared"}, "data": {"b": BASE64_STANDARD.encode(of(s, "db", "b"))}});
        s.secrets().patch("shared", &PatchParams::apply("argocd"), &Patch::Apply(&both)).await.unwrap();
        s.tamper("shared", "kubectl-edit", json!({"data": {"a": BASE64_STANDARD.encode("kept")}, "metadata": {"labels": {MANAGED: null}}})).await;
        s.secrets().delete("gone", &DeleteParams::default()).await.unwrap();
        s.front.down().unwrap();
        s.start_controller(&[]).await;
        for name in ["into-shared", "into-gone"] {
            is_gone(s, name).await;
        }
        s.holds("shared", &[("a", "kept"), ("b", &of(s, "db", "b")), ("theirs", "x")], SECONDS).await;
        assert_eq!(s.data("gone").await, None, "a Secret was made to have something to leave");
        s.front.up().unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_namespace_that_is_deleted_does_not_wait_for_a_merge() {
    scene_before_controller("merge-namespace", async |s| {
        let namespaces: Api<Namespace> = Api::all(s.client.clone());
        let doomed = ["up", "down"].map(|which| format!("{}-{which}", s.namespace));
        for name in &doomed {
            namespaces.create(&PostParams::default(), &serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()).await.unwrap();
        }
        s.provide(&["*"]).await;
        let all = json!({"spec": {"allow": [{"namespaces": {"names": doomed}, "references": ["*"]}]}});
        s.providers().patch(&s.namespace, &PatchParams::default(), &Patch::Merge(&all)).await.unwrap();
        let scopes: Vec<&str> = doomed.iter().flat_map(|name| ["--namespaces", name.as_str()]).collect();
        s.start_controller(&scopes).await;
        put(s, "db", &["a"]).await;
        let spec = json!({"data": [{"key": "a", "uri": format!("aws.sm://{}#/a", s.path("db"))}], "target": {"name": "shared", "creationPolicy": "Merge"}});
        for name in &doomed {
            let secrets: Api<Secret> = Api::namespaced(s.client.clone(), name);
            // Its finalizer keeps it there for as long as somebody else needs.
            let shared = json!({"metadata": {"name": "shared", "finalizers": ["somebody.example/slow"]}, "stringData": {"theirs": "x"}});
            secrets.create(&PostParams::default(), &serde_json::from_value(shared).unwrap()).await.unwrap();
            let mut resource = s.resource("db", &spec.to_string());
            resource["metadata"]["namespace"] = json!(name);
            apply_object(&s.client, &resource).await.unwrap();
            let merged = async || secrets.get("shared").await.unwrap().data.unwrap_or_default().contains_key("a").then_some(());
            until("the key is merged", SECONDS, merged).await;
        }
        let client = s.client.clone();
        let gone = async |name: &str| {
            let resources: Api<robotosecret::api::RobotoSecret> = Api::namespaced(client.clone(), name);
            until("the resource goes", COLLECTED, async || resources.get_opt("db").await.unwrap().is_none().then_some(())).await;
            let secrets: Api<Secret> = Api::namespaced(client.clone(), name);
            let keys: BTreeSet<String> = secrets.get("shared").await.unwrap().data.unwrap_or_default().into_keys().collect();
            assert_eq!(keys, BTreeSet::from(["a".to_owned(), "theirs".to_owned()]), "there is nothing to put in order any more");
            let free = json!({"metadata": {"finalizers": null}});
            secrets.patch("shared", &PatchParams::default(), &Patch::Merge(&free)).await.unwrap();
            until("the namespace goes", COLLECTED, async || namespaces.get_opt(name).await.unwrap().is_none().then_some(())).await;
        };
        namespaces.delete(&doomed[0], &DeleteParams::background()).await.unwrap();
        gone(&doomed[0]).await;
        s.kill_controller();
        namespaces.delete(&doomed[1], &DeleteParams::background()).await.unwrap();
        let going = async || {
            let resources: Api<robotosecret::api::RobotoSecret> = Api::namespaced(s.client.clone(), &doomed[1]);
            resources.get("db").await.unwrap().metadata.deletion_timestamp.is_some().then_some(())
        };
        until("the resource is being deleted", COLLECTED, going).await;
        s.start_controller(&scopes).await;
        gone(&doomed[1]).await;
    })
    .await;
}

#[tokio::test]
async fn a_namespace_that_loses_the_role_before_its_resources_does_not_wait_either() {
    scene_before_controller("merge-roles", async |s| {
        let namespaces: Api<Namespace> = Api::all(s.client.clone());
        let doomed = format!("{}-doomed", s.namespace);
        namespaces.create(&PostParams::default(), &serde_json::from_value(json!({"metadata": {"name": doomed}})).unwrap()).await.unwrap();
        let scope = format!("rbac.namespaces={{{doomed},{}}}", s.namespace);
        let rbac = testbed::chart::rbac(&root().join("charts/robotosecret"), &s.namespace, &["rbac.scope=namespaces", &scope]).unwrap();
        for object in &rbac.objects {
            apply_object(&s.client, object).await.unwrap();
        }
        s.provide(&["*"]).await;
        let all = json!({"spec": {"allow": [{"namespaces": {"names": [doomed]}, "references": ["*"]}]}});
        s.providers().patch(&s.namespace, &PatchParams::default(), &Patch::Merge(&all)).await.unwrap();
        let kubeconfig = world().plane.kubeconfig_for(&s.namespace, &rbac.service_account).unwrap();
        s.start_controller_as(&kubeconfig, &["--namespaces", &doomed]);
        put(s, "db", &["a"]).await;
        let spec = json!({"data": [{"key": "a", "uri": format!("aws.sm://{}#/a", s.path("db"))}], "target": {"creationPolicy": "Merge"}});
        let mut resource = s.resource("db", &spec.to_string());
        resource["metadata"]["namespace"] = json!(doomed);
        apply_object(&s.client, &resource).await.unwrap();
        let secrets: Api<Secret> = Api::namespaced(s.client.clone(), &doomed);
        until("the key is merged", SECONDS, async || secrets.get_opt("db").await.unwrap().map(|_| ())).await;
        // What the deletion of a namespace does at some moment, before or after its RobotoSecrets.
        let bindings: Api<k8s_openapi::api::rbac::v1::RoleBinding> = Api::namespaced(s.client.clone(), &doomed);
        for binding in bindings.list(&ListParams::default()).await.unwrap() {
            bindings.delete(&binding.name_any(), &DeleteParams::default()).await.unwrap();
        }
        namespaces.delete(&doomed, &DeleteParams::background()).await.unwrap();
        until("the namespace goes", COLLECTED, async || namespaces.get_opt(&doomed).await.unwrap().is_none().then_some(())).await;
    })
    .await;
}

#[tokio::test]
async fn a_key_that_somebody_applied_as_text_is_theirs_although_the_api_server_forgets_it() {
    scene("merge-text", async |s| {
        let theirs = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shared", "namespace": s.namespace}, "stringData": {"a": "theirs"}});
        s.secrets().patch("shared", &PatchParams::apply("flux"), &Patch::Apply(&theirs)).await.unwrap();
        put(s, "db", &["a"]).await;
        mirror(s, "db", &["a"], json!({"name": "shared", "creationPolicy": "Merge"})).await;
        says(&s.condition("db", "Ready", "False TargetConflict", SECONDS).await, "the key a is managed by flux");
        s.holds("shared", &[("a", "theirs")], SECONDS).await;
    })
    .await;
}

#[tokio::test]
async fn a_merged_label_that_is_edited_after_a_restart_is_put_back() {
    scene("merge-restart", async |s| {
        put(s, "db", &["a"]).await;
        theirs(s, "shared", json!({})).await;
        mirror(s, "db", &["a"], json!({"name": "shared", "creationPolicy": "Merge", "labels": {"team": "shop", "tier": "back"}})).await;
        s.ready("db").await;
        s.kill_controller();
        s.start_controller(&[]).await;
        // What is made now is looked at after what was there before.
        put(s, "witness", &["a"]).await;
        mirror(s, "witness", &["a"], json!({})).await;
        s.ready("witness").await;
        s.tamper("shared", "kubectl-label", json!({"metadata": {"labels": {"team": "x"}}})).await;
        s.event("db", "changed by kubectl-label and put right again").await;
        assert_eq!(s.meta("shared").await.labels.unwrap()["team"], "shop");
        s.ready("db").await;
    })
    .await;
}

#[tokio::test]
async fn a_secret_that_somebody_else_made_is_not_taken_over_though_it_was_empty() {
    scene("merge-empty", async |s| {
        put(s, "db", &["a"]).await;
        let empty = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shared"}, "type": "example.com/x"});
        let parameters = PostParams { field_manager: Some("kubectl-create".into()), ..PostParams::default() };
        s.secrets().create(&parameters, &serde_json::from_value(empty).unwrap()).await.unwrap();
        let first = uid(s, "shared").await;
        mirror(s, "db", &["a"], json!({"name": "shared", "creationPolicy": "Merge"})).await;
        holds(s, "shared", &[("db", "a")], &[]).await;
        s.ready("db").await;
        mirror(s, "db", &["a"], json!({"name": "shared"})).await;
        says(&s.condition("db", "Ready", "False TargetNotOwned", SECONDS).await, "kubectl annotate secret shared robotosecret.dev/adopt=db");
        let secret = s.secrets().get("shared").await.unwrap();
        assert_eq!((secret.metadata.uid.as_deref(), secret.type_.as_deref()), (Some(first.as_str()), Some("example.com/x")));
        // Nor is one of ours in which somebody else has but a label.
        mirror(s, "db", &["a"], json!({"name": "made", "creationPolicy": "Merge"})).await;
        holds(s, "made", &[("db", "a")], &[]).await;
        s.ready("db").await;
        s.tamper("made", "kubectl-label", json!({"metadata": {"labels": {"team": "shop"}}})).await;
        mirror(s, "db", &["a"], json!({"name": "made"})).await;
        s.condition("db", "Ready", "False TargetNotOwned", SECONDS).await;
        s.tamper("made", "kubectl-label", json!({"metadata": {"labels": {"team": null}}})).await;
        s.refresh("db", "1").await;
        s.ready("db").await;
        holds(s, "made", &[("db", "a")], &[]).await;
    })
    .await;
}

#[tokio::test]
async fn a_copy_that_somebody_made_of_a_secret_is_left_alone() {
    scene("copy", async |s| {
        put(s, "db", &["a"]).await;
        mirror(s, "db", &["a"], json!({})).await;
        s.ready("db").await;
        let mut copy = s.secrets().get("db").await.unwrap();
        copy.metadata = kube::core::ObjectMeta {
            name: Some("copy".into()),
            labels: copy.metadata.labels,
            annotations: copy.metadata.annotations,
            owner_references: copy.metadata.owner_references,
            ..Default::default()
        };
        let parameters = PostParams { field_manager: Some("kubectl-create".into()), ..PostParams::default() };
        s.secrets().create(&parameters, &copy).await.unwrap();
        s.refresh("db", "1").await;
        until("it was looked at", SECONDS, async || (s.status("db").await.last_handled_refresh.as_deref() == Some("1")).then_some(())).await;
        // Only a Secret of its own that it left is removed.
        mirror(s, "db", &["a"], json!({"name": "other"})).await;
        secret_is_gone(s, "db").await;
        assert!(s.secrets().get_opt("copy").await.unwrap().is_some());
    })
    .await;
}
