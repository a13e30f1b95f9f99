//! The life of a resource and of the controller: changed, renamed, deleted, re-created; killed, stopped, started again.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::support::{SECONDS, Scene, WITHIN_TTL, apply_object, no_status, says, scene, scene_before_controller, until};

/// How long Kubernetes may take to collect garbage: it learns only every 30 s of kinds that are new.
const COLLECTED: Duration = Duration::from_secs(90);

/// How long it may take until something that failed is tried again: the pauses have grown on a machine that was slow to look.
const PAUSED: Duration = Duration::from_secs(120);

/// Waits until there is no such Secret.
async fn is_gone(s: &Scene, name: &str) {
    let gone = async || s.secrets().get_opt(name).await.unwrap().is_none().then_some(());
    until(&format!("the Secret {name} is gone"), COLLECTED, gone).await;
}

/// Waits until there is no such resource.
async fn resource_is_gone(s: &Scene, name: &str) {
    let gone = async || s.resources().get_opt(name).await.unwrap().is_none().then_some(());
    until(&format!("the resource {name} is gone"), COLLECTED, gone).await;
}

/// How many events about a resource say this.
async fn told(s: &Scene, name: &str, what: &str) -> usize {
    s.events(name).await.iter().filter(|event| event.contains(what)).count()
}

async fn uid(s: &Scene, name: &str) -> String {
    s.meta(name).await.uid.unwrap()
}

#[tokio::test]
async fn a_renamed_target_is_there_under_the_new_name_before_the_old_one_goes() {
    scene("renamed", async |s| {
        s.put_secret("db", &s.value("db")).await;
        s.apply("db", &format!("{{uri: 'aws.sm://{}', ttl: 1h}}", s.path("db"))).await;
        s.ready("db").await;
        s.patch("db", json!({"spec": {"target": {"name": "database"}}})).await;
        let started = Instant::now();
        let mut names = vec!["db".to_owned()];
        while names != ["database"] {
            assert!(started.elapsed() < SECONDS, "the Secrets are {names:?}\n{}", s.log_tail());
            // One list is one moment.
            let secrets = s.secrets().list(&ListParams::default()).await.unwrap();
            names = secrets.items.iter().filter_map(|secret| secret.metadata.name.clone()).collect();
            assert!(names.iter().any(|name| name == "db" || name == "database"), "both are missing");
        }
        s.holds("database", &[("value", &s.value("db"))], SECONDS).await;
        s.ready("db").await;
        assert_eq!(s.status("db").await.target.unwrap().name, "database");
        says(&s.event("db", "Removed").await, "the Secret db was removed: the target is now database");
        s.event("db", "1 key mirrored into the Secret database").await;
    })
    .await;
}

#[tokio::test]
async fn a_target_that_is_renamed_onto_a_foreign_secret_stays_where_it_is() {
    scene("renamed-onto", async |s| {
        let theirs = serde_json::from_value(json!({"metadata": {"name": "taken"}, "stringData": {"mine": "theirs"}})).unwrap();
        let theirs: Secret = s.secrets().create(&PostParams::default(), &theirs).await.unwrap();
        s.put_secret("db", &s.value("db")).await;
        s.apply("db", &format!("uri: aws.sm://{}", s.path("db"))).await;
        s.ready("db").await;
        let ours = uid(s, "db").await;
        s.patch("db", json!({"spec": {"target": {"name": "taken"}}})).await;
        s.condition("db", "Ready", "False TargetNotOwned", SECONDS).await;
        // It is tried again a TTL later, and another resource comes and goes.
        let looked = s.controller().metric("robotosecret_reconcile_seconds_count", "");
        until("it is tried again", WITHIN_TTL, async || (s.controller().metric("robotosecret_reconcile_seconds_count", "") > looked).then_some(())).await;
        s.apply("later", &format!("uri: aws.sm://{}", s.path("db"))).await;
        s.ready("later").await;
        assert_eq!(uid(s, "db").await, ours, "the old Secret went before there was a new one");
        assert_eq!(s.meta("taken").await.resource_version, theirs.metadata.resource_version);
        assert_eq!(told(s, "db", "Removed").await, 0);
        // And back again.
        s.patch("db", json!({"spec": {"target": {"name": "db"}}})).await;
        s.ready("db").await;
        assert_eq!(uid(s, "db").await, ours);
        s.holds("db", &[("value", &s.value("db"))], SECONDS).await;
    })
    .await;
}

#[tokio::test]
async fn a_target_that_is_renamed_while_the_store_is_down_waits_under_its_old_name() {
    scene("renamed-down", async |s| {
        s.put_secret("db", &s.value("db")).await;
        s.apply("db", &format!("{{uri: 'aws.sm://{}', ttl: 1h}}", s.path("db"))).await;
        s.ready("db").await;
        let (ours, down) = (uid(s, "db").await, s.front.fail(503));
        s.patch("db", json!({"spec": {"target": {"name": "database"}}})).await;
        s.condition("db", "Ready", "False ProviderUnavailable", SECONDS).await;
        until("it is tried again", PAUSED, async || (s.calls("GetSecretValue") >= 3).then_some(())).await;
        s.condition("db", "Ready", "False ProviderUnavailable", SECONDS).await;
        assert_eq!(uid(s, "db").await, ours);
        // The same is said after a restart.
        assert_eq!(s.stop_controller(), 0);
        s.start_controller(&[]).await;
        let calls = s.calls("GetSecretValue");
        until("it is tried after the restart", PAUSED, async || (s.calls("GetSecretValue") > calls).then_some(())).await;
        s.condition("db", "Ready", "False ProviderUnavailable", SECONDS).await;
        s.front.remove_fault(down);
        s.holds("database", &[("value", &s.value("db"))], PAUSED).await;
        is_gone(s, "db").await;
        s.ready("db").await;
    })
    .await;
}

#[tokio::test]
async fn a_changed_type_makes_the_secret_anew_unless_the_api_server_refuses_it() {
    scene("type-changed", async |s| {
        let (username, password) = (s.value("user"), s.value("password"));
        s.put_secret("db", &json!({"username": username, "password": password}).to_string()).await;
        s.apply("db", &format!("{{uri: 'aws.sm://{}', ttl: 1h}}", s.path("db"))).await;
        s.ready("db").await;
        let first = uid(s, "db").await;
        s.patch("db", json!({"spec": {"target": {"type": "kubernetes.io/basic-auth"}}})).await;
        let basic = async || s.secrets().get_opt("db").await.unwrap().filter(|secret| secret.type_.as_deref() == Some("kubernetes.io/basic-auth"));
        let second = until("it has the new type", SECONDS, basic).await;
        assert_ne!(second.metadata.uid.as_deref(), Some(first.as_str()));
        s.ready("db").await;
        s.holds("db", &[("password", &password), ("username", &username)], SECONDS).await;
        s.event("db", "the Secret db was updated: the spec changed").await;
        // A certificate has other keys, so this type can't be had, and what is there must not be given up for it.
        s.patch("db", json!({"spec": {"target": {"type": "kubernetes.io/tls"}}})).await;
        let message = s.condition("db", "Ready", "False TargetRejected", SECONDS).await;
        says(&message, "the type kubernetes.io/tls needs the key tls.crt");
        // Nor is it given up for one that only the API server refuses.
        s.patch("db", json!({"spec": {"target": {"type": "example.com/own", "labels": {"team": "no good value!"}}}})).await;
        let message = s.condition("db", "Ready", "False TargetRejected", SECONDS).await;
        says(&message, "metadata.labels");
        let kept = s.secrets().get("db").await.unwrap();
        assert_eq!((kept.metadata.uid, kept.type_.as_deref()), (second.metadata.uid, Some("kubernetes.io/basic-auth")));
        s.holds("db", &[("password", &password), ("username", &username)], SECONDS).await;
        s.patch("db", json!({"spec": {"target": {"type": "Opaque", "labels": null}}})).await;
        s.ready("db").await;
        assert_eq!(s.secrets().get("db").await.unwrap().type_.as_deref(), Some("Opaque"));
    })
    .await;
}

#[tokio::test]
async fn what_is_dropped_from_the_spec_leaves_the_secret_also_right_after_its_creation() {
    scene("dropped", async |s| {
        s.put_secret("db", &json!({"a": s.value("a"), "b": s.value("b")}).to_string()).await;
        let path = s.path("db");
        let entry = |key: &str| format!("{{key: {key}, uri: 'aws.sm://{path}#/{key}'}}");
        let spec = |keys: &str, more: &str| format!("{{ttl: 1h, data: [{keys}]{more}}}");
        let (a, b) = (entry("a"), entry("b"));
        let both = format!("{a}, {b}");
        s.apply("db", &spec(&both, ", target: {labels: {team: shop, tier: gold}, annotations: {note: one, more: two}}")).await;
        s.ready("db").await;
        let first = uid(s, "db").await;
        s.apply("db", &spec(&a, ", target: {labels: {team: sales}, annotations: {more: three}}")).await;
        s.holds("db", &[("a", &s.value("a"))], SECONDS).await;
        s.ready("db").await;
        let ours = async || {
            let meta = s.meta("db").await;
            let map = |map: Option<std::collections::BTreeMap<String, String>>| {
                map.unwrap_or_default().into_iter().filter(|(name, _)| !name.starts_with("robotosecret.dev/")).collect::<Vec<_>>()
            };
            (map(meta.labels), map(meta.annotations))
        };
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(ours().await, (vec![pair("team", "sales")], vec![pair("more", "three")]));
        // The other way round, and without any.
        s.apply("db", &spec(&both, ", target: {labels: {tier: gold}}")).await;
        s.holds("db", &[("a", &s.value("a")), ("b", &s.value("b"))], SECONDS).await;
        s.ready("db").await;
        assert_eq!(ours().await, (vec![pair("tier", "gold")], vec![]));
        s.apply("db", &spec(&b, "")).await;
        s.holds("db", &[("b", &s.value("b"))], SECONDS).await;
        s.ready("db").await;
        assert_eq!(ours().await, (vec![], vec![]));
        assert_eq!(uid(s, "db").await, first, "it was made anew");
        // A member that disappears at the source goes too.
        s.apply("whole", &format!("{{uri: 'aws.sm://{path}', ttl: 1h}}")).await;
        s.ready("whole").await;
        s.put_secret("db", &json!({"b": s.value("b2")}).to_string()).await;
        s.refresh("whole", "1").await;
        s.holds("whole", &[("b", &s.value("b2"))], SECONDS).await;
    })
    .await;
}

#[tokio::test]
async fn the_secret_of_a_deleted_resource_goes_and_that_of_a_replaced_one_comes_back() {
    scene("deleted", async |s| {
        s.put_secret("db", &s.value("db")).await;
        let spec = format!("{{uri: 'aws.sm://{}', ttl: 1h}}", s.path("db"));
        for name in ["db", "replaced"] {
            s.apply(name, &spec).await;
            s.ready(name).await;
        }
        s.resources().delete("db", &DeleteParams::default()).await.unwrap();
        is_gone(s, "db").await;
        // As `kubectl replace --force` does it. The finalizer holds garbage collection up until the new resource was looked at.
        s.tamper("replaced", "somebody", json!({"metadata": {"finalizers": ["somebody.example/slow"]}})).await;
        s.resources().delete("replaced", &DeleteParams::background()).await.unwrap();
        s.apply("replaced", &spec).await;
        says(&s.condition("replaced", "Ready", "False TargetNotOwned", COLLECTED).await, "belongs to an earlier RobotoSecret of this name");
        s.tamper("replaced", "somebody", json!({"metadata": {"finalizers": null}})).await;
        s.condition("replaced", "Ready", "True Mirrored", COLLECTED).await;
        let resource = s.resources().get("replaced").await.unwrap().metadata.uid;
        let owned = async || {
            let owners = s.secrets().get_opt("replaced").await.unwrap()?.metadata.owner_references?;
            (owners.len() == 1 && Some(&owners[0].uid) == resource.as_ref()).then_some(())
        };
        until("the Secret belongs to the new resource", COLLECTED, owned).await;
        s.holds("replaced", &[("value", &s.value("db"))], SECONDS).await;
        assert!(s.secrets().get_opt("db").await.unwrap().is_none(), "the Secret of a deleted resource came back");
    })
    .await;
}

#[tokio::test]
async fn a_secret_that_an_orphaning_delete_left_behind_is_taken_up_again() {
    scene("orphaned", async |s| {
        s.put_secret("db", &s.value("db")).await;
        let spec = format!("{{uri: 'aws.sm://{}', ttl: 1h}}", s.path("db"));
        let names = ["calm", "at-work", "in-repair"];
        let mut uids = Vec::new();
        for name in ["collected"].into_iter().chain(names) {
            s.apply(name, &spec).await;
            s.ready(name).await;
        }
        for name in names {
            uids.push(uid(s, name).await);
        }
        // From here on garbage collection is quick.
        s.resources().delete("collected", &DeleteParams::default()).await.unwrap();
        is_gone(s, "collected").await;
        // Two are being worked on while their resources go.
        s.put_secret("db", &s.value("db2")).await;
        let (before, hold) = (s.calls("GetSecretValue"), s.front.hold());
        s.refresh("at-work", "1").await;
        s.tamper("in-repair", "somebody", json!({"metadata": {"ownerReferences": null}})).await;
        until("both are being read", SECONDS, async || (s.calls("GetSecretValue") >= before + 2).then_some(())).await;
        for name in names {
            s.resources().delete(name, &DeleteParams::orphan()).await.unwrap();
        }
        for name in names {
            resource_is_gone(s, name).await;
        }
        s.front.remove_fault(hold);
        // A Secret whose owner is gone would be collected before one whose owner is deleted later.
        s.apply("last", &spec).await;
        s.ready("last").await;
        s.resources().delete("last", &DeleteParams::default()).await.unwrap();
        is_gone(s, "last").await;
        for (name, uid) in names.iter().zip(&uids) {
            let meta = s.secrets().get_opt(name).await.unwrap().unwrap_or_else(|| panic!("the Secret {name} went with its resource")).metadata;
            assert_eq!((meta.uid.as_ref(), meta.owner_references), (Some(uid), None), "{name}");
        }
        for (name, uid) in names.iter().zip(&uids) {
            s.apply(name, &spec).await;
            s.ready(name).await;
            let (meta, resource) = (s.meta(name).await, s.resources().get(name).await.unwrap());
            assert_eq!(meta.uid.as_ref(), Some(uid), "{name} was made anew");
            assert_eq!(meta.owner_references.unwrap()[0].uid, resource.metadata.uid.unwrap());
            s.holds(name, &[("value", &s.value("db2"))], SECONDS).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_namespace_that_is_deleted_goes_without_a_fuss() {
    scene_before_controller("namespaces", async |s| {
        let doomed = format!("{}-doomed", s.namespace);
        let namespaces: Api<Namespace> = Api::all(s.client.clone());
        namespaces.create(&PostParams::default(), &serde_json::from_value(json!({"metadata": {"name": doomed}})).unwrap()).await.unwrap();
        s.provide(&["*"]).await;
        let both = json!({"spec": {"allow": [{"namespaces": {"names": [s.namespace, doomed]}, "references": ["*"]}]}});
        s.providers().patch(&s.namespace, &kube::api::PatchParams::default(), &kube::api::Patch::Merge(&both)).await.unwrap();
        s.start_controller(&["--namespaces", &doomed]).await;
        s.put_secret("db", &s.value("db")).await;
        let uri = format!("uri: aws.sm://{}", s.path("db"));
        let secrets: Api<Secret> = Api::namespaced(s.client.clone(), &doomed);
        for i in 0..10 {
            let mut resource = s.resource(&format!("db-{i}"), &uri);
            resource["metadata"]["namespace"] = json!(doomed);
            apply_object(&s.client, &resource).await.unwrap();
        }
        let mirrored = async || (secrets.list(&ListParams::default()).await.unwrap().items.len() == 10).then_some(());
        until("all are mirrored", SECONDS, mirrored).await;
        let calm = s.controller().process.log().unwrap().len();
        namespaces.delete(&doomed, &DeleteParams::background()).await.unwrap();
        until("the namespace is gone", COLLECTED, async || namespaces.get_opt(&doomed).await.unwrap().is_none().then_some(())).await;
        // What would be tried again and again would be by now.
        s.apply("db", &uri).await;
        s.ready("db").await;
        let reads = s.reads(&s.path("db"));
        s.rechecked(&s.path("db"), 1).await;
        let log = s.controller().process.log().unwrap();
        let fuss: Vec<_> = log[calm..].lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).collect();
        assert!(fuss.is_empty(), "{fuss:#?}");
        assert!(s.reads(&s.path("db")) <= reads + 2, "what is gone is still read");
    })
    .await;
}

/// A kubeconfig of an identity that has all of the controller's rights but that to write a status: everything else then happens
/// as if the controller were killed right before that.
async fn without_status(s: &Scene) -> PathBuf {
    s.account(&[], no_status).await
}

#[tokio::test]
async fn a_controller_that_is_killed_before_it_wrote_a_status_writes_it_after_the_restart() {
    scene_before_controller("killed", async |s| {
        s.provide(&["*"]).await;
        let crippled = without_status(s).await;
        s.put_secret("db", &s.value("one")).await;
        s.put_secret("rotated", &s.value("one")).await;
        s.start_controller(&[]).await;
        s.apply("rotated", &format!("uri: aws.sm://{}", s.path("rotated"))).await;
        s.ready("rotated").await;
        s.event("rotated", "1 key mirrored").await;
        let change = s.status("rotated").await.last_change_time;
        s.kill_controller();

        s.put_secret("rotated", &s.value("two")).await;
        s.start_controller_as(&crippled, &[]);
        s.apply("db", &format!("uri: aws.sm://{}", s.path("db"))).await;
        s.holds("db", &[("value", &s.value("one"))], SECONDS).await;
        s.holds("rotated", &[("value", &s.value("two"))], WITHIN_TTL).await;
        let (new, rotated) = (uid(s, "db").await, uid(s, "rotated").await);
        s.kill_controller();
        assert_eq!(s.status("db").await.observed_generation, Some(-1), "the status was written after all");
        assert_eq!(s.status("rotated").await.last_change_time, change);
        assert_eq!((told(s, "db", "").await, told(s, "rotated", "Updated").await), (0, 0), "told before it was written down");

        s.start_controller(&[]).await;
        s.ready("db").await;
        let changed = async || {
            let status = s.status("rotated").await;
            (status.last_change_time != change).then_some(status)
        };
        let status = until("the change is written down", WITHIN_TTL, changed).await;
        assert!(status.is_true("Ready") && status.is_true("Fresh"), "{status:?}");
        // Both agree with the Secrets, which are still the same ones.
        for (name, uid) in [("db", new), ("rotated", rotated)] {
            let (meta, target) = (s.meta(name).await, s.status(name).await.target.unwrap());
            assert_eq!((meta.uid.as_ref(), meta.resource_version), (Some(&uid), Some(target.resource_version)), "{name}");
        }
        s.event("db", "1 key mirrored into the Secret db").await;
        s.event("rotated", "has a new version").await;
        // Nothing of it is done or told again at the next checks.
        s.rechecked(&s.path("db"), 3).await;
        s.rechecked(&s.path("rotated"), 1).await;
        let events = (s.events("db").await, s.events("rotated").await);
        assert_eq!((events.0.len(), events.1.len()), (1, 2), "{events:#?}");
        s.holds("db", &[("value", &s.value("one"))], SECONDS).await;
    })
    .await;
}

#[tokio::test]
async fn a_controller_that_is_killed_while_it_renames_removes_the_old_secret_after_the_restart() {
    scene_before_controller("killed-renaming", async |s| {
        s.provide(&["*"]).await;
        let crippled = without_status(s).await;
        s.put_secret("db", &s.value("db")).await;
        s.start_controller(&[]).await;
        s.apply("db", &format!("{{uri: 'aws.sm://{}', ttl: 1h}}", s.path("db"))).await;
        s.ready("db").await;
        s.kill_controller();
        s.start_controller_as(&crippled, &[]);
        s.patch("db", json!({"spec": {"target": {"name": "database"}}})).await;
        s.holds("database", &[("value", &s.value("db"))], SECONDS).await;
        s.kill_controller();
        s.holds("db", &[("value", &s.value("db"))], SECONDS).await;
        s.start_controller(&[]).await;
        is_gone(s, "db").await;
        s.ready("db").await;
        s.holds("database", &[("value", &s.value("db"))], SECONDS).await;
        s.event("db", "the Secret db was removed").await;
        assert_eq!((told(s, "db", "Removed").await, told(s, "db", "into the Secret database").await), (1, 1), "{:?}", s.events("db").await);
    })
    .await;
}

#[tokio::test]
async fn a_controller_that_is_stopped_does_not_wait_for_the_store_and_goes_on_after_the_restart() {
    scene("stopped", async |s| {
        s.put_secret("db", &s.value("one")).await;
        let hold = s.front.hold();
        s.apply("db", &format!("uri: aws.sm://{}", s.path("db"))).await;
        until("the read is under way", SECONDS, async || (s.calls("GetSecretValue") == 1).then_some(())).await;
        let asked = Instant::now();
        assert_eq!(s.stop_controller(), 0);
        assert!(asked.elapsed() < Duration::from_secs(4), "it took {:?} to stop", asked.elapsed());
        s.front.remove_fault(hold);
        s.start_controller(&[]).await;
        s.holds("db", &[("value", &s.value("one"))], SECONDS).await;
        s.ready("db").await;
        s.event("db", "1 key mirrored").await;
        // Nor for a recheck.
        s.stop_controller();
        let before = s.calls("GetSecretValue");
        s.put_secret("db", &s.value("two")).await;
        let hang = s.front.hang();
        s.start_controller(&[]).await;
        until("a read hangs", WITHIN_TTL, async || (s.calls("GetSecretValue") > before).then_some(())).await;
        let asked = Instant::now();
        assert_eq!(s.stop_controller(), 0);
        assert!(asked.elapsed() < Duration::from_secs(15), "it took {:?} to stop", asked.elapsed());
        s.front.remove_fault(hang);
        s.start_controller(&[]).await;
        s.holds("db", &[("value", &s.value("two"))], WITHIN_TTL).await;
        s.ready("db").await;
    })
    .await;
}

#[tokio::test]
async fn what_was_there_before_the_controller_is_mirrored_as_soon_as_the_store_can_be_reached() {
    scene_before_controller("before", async |s| {
        s.put_secret("db", &s.value("db")).await;
        s.provide(&["*"]).await;
        for name in ["db", "other"] {
            s.apply(name, &format!("{{uri: 'aws.sm://{}', ttl: 1h}}", s.path("db"))).await;
        }
        s.front.down().unwrap();
        s.start_controller(&[]).await;
        for name in ["db", "other"] {
            says(&s.condition(name, "Ready", "Unknown ProviderUnavailable", SECONDS).await, "the store could not be reached");
        }
        assert_eq!(s.data("db").await, None);
        s.front.up().unwrap();
        for name in ["db", "other"] {
            s.condition(name, "Ready", "True Mirrored", PAUSED).await;
            s.condition(name, "Fresh", "True Verified", SECONDS).await;
            s.holds(name, &[("value", &s.value("db"))], SECONDS).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_clock_that_was_wrong_before_a_restart_delays_no_recheck_and_tells_no_time_to_come() {
    scene("clock", async |s| {
        let names = ["ahead-rotated", "ahead-calm", "behind-rotated", "behind-calm"];
        for name in names {
            s.put_secret(name, &s.value(name)).await;
            s.apply(name, &format!("{{uri: 'aws.sm://{}', maxStaleness: 1h}}", s.path(name))).await;
            s.ready(name).await;
        }
        s.kill_controller();
        for name in names {
            // As a controller wrote it whose clock was wrong by years.
            let then = if name.starts_with("ahead") { "2099-01-01T00:00:00Z" } else { "2001-01-01T00:00:00Z" };
            let patch = json!({"status": {"lastCheckTime": then}});
            s.resources().patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        }
        for name in names.into_iter().filter(|name| name.ends_with("rotated")) {
            s.put_secret(name, &s.value(&format!("{name} 2"))).await;
        }
        s.start_controller(&["--status-interval", "1s"]).await;
        for name in names {
            let value = if name.ends_with("rotated") { format!("{name} 2") } else { name.to_owned() };
            s.holds(name, &[("value", &s.value(&value))], WITHIN_TTL).await;
            let told = async || {
                let last = s.status(name).await.last_check_time?.0.as_second();
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
                i64::try_from(now).unwrap().abs_diff(last).lt(&300).then_some(())
            };
            until(&format!("{name} tells when it was really checked"), WITHIN_TTL, told).await;
            s.condition(name, "Ready", "True Mirrored", SECONDS).await;
            s.condition(name, "Fresh", "True Verified", SECONDS).await;
        }
    })
    .await;
}
