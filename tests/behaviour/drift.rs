//! A Secret that somebody changed is put right within seconds; what isn't ours stays as it is.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::{Engine, prelude::BASE64_STANDARD};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::support::{SECONDS, Scene, WITHIN_TTL, says, scene, until};

/// Mirrors a JSON secret of the members a and b, with a label and an annotation of the user's. Never rechecked, not even in the company
/// of another read, so that every read has its cause in the test.
async fn mirror(s: &Scene, name: &str) {
    s.put_secret(name, &json!({"a": s.value(&format!("{name} a")), "b": s.value(&format!("{name} b"))}).to_string()).await;
    apply(s, name, "refreshPolicy: OnChange").await;
}

async fn apply(s: &Scene, name: &str, recheck: &str) {
    s.apply(name, &format!("{{uri: 'aws.sm://{}', {recheck}, target: {{labels: {{team: shop}}, annotations: {{note: mine}}}}}}", s.path(name))).await;
}

/// How often the store was asked for the secret of a resource.
fn reads(s: &Scene, name: &str) -> usize {
    let path = s.path(name);
    s.front.count(|call| call.ids.contains(&path))
}

/// What is wrong with the Secret of [`mirror`], if something is.
async fn wrong(s: &Scene, name: &str) -> Option<String> {
    let Some(secret) = s.secrets().get_opt(name).await.unwrap() else { return Some("it is not there".into()) };
    let (a, b) = (s.value(&format!("{name} a")), s.value(&format!("{name} b")));
    let data: Vec<_> = secret.data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice())).collect();
    if data != [("a", a.as_bytes()), ("b", b.as_bytes())] {
        return Some(format!("its keys are {:?}, or their values are wrong", data.iter().map(|(key, _)| key).collect::<Vec<_>>()));
    }
    let marks = [(secret.labels(), "robotosecret.dev/managed", "true"), (secret.labels(), "team", "shop")];
    let notes = [(secret.annotations(), "robotosecret.dev/owner", name), (secret.annotations(), "note", "mine")];
    if let Some((map, key, _)) = marks.into_iter().chain(notes).find(|(map, key, value)| map.get(*key).map(String::as_str) != Some(value)) {
        return Some(format!("{key} is not right in {map:?}"));
    }
    let resource = s.resources().get(name).await.unwrap();
    let owners: Vec<_> = secret.owner_references().iter().map(|owner| (owner.uid.as_str(), owner.controller)).collect();
    (owners != [(resource.metadata.uid.as_deref().unwrap(), Some(true))]).then(|| format!("its owners are {:?}", secret.owner_references()))
}

/// Waits until the Secret of [`mirror`] is exactly right and the resource says so.
async fn is_right(s: &Scene, name: &str, what: &str) {
    let mut last = None;
    let started = Instant::now();
    while started.elapsed() < WITHIN_TTL {
        last = wrong(s, name).await;
        if last.is_none() {
            s.condition(name, "Ready", "True Mirrored", SECONDS).await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what}: the Secret {name} is not right: {}\n{:?}\n{}", last.unwrap_or_default(), s.status(name).await, s.log_tail());
}

/// What somebody does to a Secret.
enum Deed {
    /// A merge patch, such as `kubectl edit` and `kubectl patch` send.
    Patch(&'static str, Value),
    /// A server-side apply of these fields, by force or not.
    Apply(&'static str, bool, Value),
    Delete,
}

impl Deed {
    async fn is_done(&self, s: &Scene, name: &str) {
        match self {
            Self::Patch(manager, patch) => s.tamper(name, manager, patch.clone()).await,
            Self::Apply(manager, force, fields) => {
                let mut object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
                object.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
                let parameters = PatchParams { force: *force, ..PatchParams::apply(manager) };
                s.secrets().patch(name, &parameters, &Patch::Apply(&object)).await.unwrap();
            }
            Self::Delete => drop(s.secrets().delete(name, &DeleteParams::default()).await.unwrap()),
        }
    }
}

/// Waits until a second of the clock begins.
async fn next_second() {
    let into_second = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_millis();
    tokio::time::sleep(Duration::from_millis(u64::from(1000 - into_second))).await;
}

/// Does each deed to a Secret of its own; each must be put right and told, and afterwards a foreign annotation must be left alone.
async fn put_right(s: &Scene, deeds: Vec<(&str, Deed, &str)>) {
    mirror(s, "marker").await;
    for (name, ..) in &deeds {
        mirror(s, name).await;
    }
    for (name, ..) in &deeds {
        is_right(s, name, "at first").await;
    }
    is_right(s, "marker", "at first").await;
    // Within the second of its creation, an edit in our own manager's name leaves no trace but a version.
    next_second().await;
    for (name, deed, _) in &deeds {
        deed.is_done(s, name).await;
    }
    for (name, _, told) in &deeds {
        let event = s.event(name, " again").await;
        says(&event, told);
        is_right(s, name, told).await;
        assert_eq!(reads(s, name), 2, "{name}: one read to mirror it and one to put it right");
    }
    // What is applied as stringData in the second of a repair can't be told from what was applied before it.
    tokio::time::sleep(Duration::from_secs(4)).await;
    // A repair is made 10 s after the last one at the earliest, so a wrong one would come before the marker's second.
    let edit = json!({"data": {"a": BASE64_STANDARD.encode("not ours")}});
    s.tamper("marker", "one-editor", edit.clone()).await;
    is_right(s, "marker", "the first time").await;
    let mut before = Vec::new();
    for (name, ..) in &deeds {
        s.tamper(name, "somebody", json!({"metadata": {"annotations": {"somebody.example/seen": "yes"}}})).await;
        before.push((s.meta(name).await.resource_version, s.resources().get(name).await.unwrap().metadata.resource_version));
    }
    s.tamper("marker", "another-editor", edit).await;
    is_right(s, "marker", "the second time").await;
    // The second event is not just the first one counted up.
    s.event("marker", "changed by one-editor").await;
    s.event("marker", "changed by another-editor").await;
    mirror(s, "late").await;
    is_right(s, "late", "at first").await;
    for ((name, ..), before) in deeds.iter().zip(before) {
        assert_eq!(reads(s, name), 2, "{name}: a foreign annotation made the store be read\n{:?}", s.events(name).await);
        let after = (s.meta(name).await.resource_version, s.resources().get(name).await.unwrap().metadata.resource_version);
        assert_eq!(before, after, "{name}: a foreign annotation made the Secret or the status be written");
    }
}

#[tokio::test]
async fn keys_that_somebody_edits_adds_or_takes_out_are_put_right_and_then_left_in_peace() {
    scene("drift-keys", async |s| {
        let (text, encoded) = (s.value("not ours"), BASE64_STANDARD.encode(s.value("not ours")));
        put_right(
            s,
            vec![
                ("edited", Deed::Patch("kubectl-edit", json!({"data": {"a": encoded}})), "by kubectl-edit"),
                ("added", Deed::Patch("kubectl-patch", json!({"data": {"extra": encoded}})), "by kubectl-patch"),
                ("taken-out", Deed::Patch("kubectl-edit", json!({"data": {"a": null}})), "changed"),
                ("added-by-apply", Deed::Apply("argocd", false, json!({"data": {"extra": encoded}})), "by argocd"),
                ("edited-by-force", Deed::Apply("argocd", true, json!({"data": {"a": encoded, "extra": encoded}})), "by argocd"),
                // The API server puts these keys into the Secret and books them under no one's data.
                ("added-as-text", Deed::Apply("flux", false, json!({"stringData": {"extra": text}})), "by flux"),
                ("edited-as-text", Deed::Apply("flux", false, json!({"stringData": {"a": text}})), "by flux"),
                ("edited-in-our-name", Deed::Patch("robotosecret/edited-in-our-name", json!({"data": {"a": encoded}})), "changed"),
            ],
        )
        .await;
    })
    .await;
}

#[tokio::test]
async fn marks_that_somebody_takes_off_and_a_deleted_secret_are_put_right_and_then_left_in_peace() {
    scene("drift-marks", async |s| {
        let labels = |labels: Value| Deed::Patch("kubectl-label", json!({"metadata": {"labels": labels}}));
        let annotations = |annotations: Value| Deed::Patch("kubectl-annotate", json!({"metadata": {"annotations": annotations}}));
        put_right(
            s,
            vec![
                ("fields-wiped", Deed::Patch("somebody", json!({"metadata": {"managedFields": [{}]}})), "changed"),
                ("mark-removed", labels(json!({"robotosecret.dev/managed": null})), "changed"),
                ("mark-edited", labels(json!({"robotosecret.dev/managed": "false"})), "by kubectl-label"),
                ("owner-renamed", annotations(json!({"robotosecret.dev/owner": "another"})), "by kubectl-annotate"),
                ("label-removed", labels(json!({"team": null})), "changed"),
                ("label-edited", labels(json!({"team": "sales"})), "by kubectl-label"),
                ("note-edited", annotations(json!({"note": "yours"})), "by kubectl-annotate"),
                ("ownerless", Deed::Patch("somebody", json!({"metadata": {"ownerReferences": null}})), "changed"),
                ("deleted", Deed::Delete, "deleted and made again"),
            ],
        )
        .await;
    })
    .await;
}

#[tokio::test]
async fn foreign_annotations_and_labels_stay_and_cost_no_call_and_no_write() {
    scene("foreign-metadata", async |s| {
        mirror(s, "db").await;
        is_right(s, "db", "at first").await;
        // What the first mirroring still causes is over when another resource has come and gone.
        mirror(s, "earlier").await;
        is_right(s, "earlier", "at first").await;
        s.event("earlier", "2 keys mirrored").await;
        let writes = |s: &Scene| s.controller().metric("robotosecret_kube_writes_total", "");
        let (written, status) = (writes(s), s.resources().get("db").await.unwrap().metadata.resource_version);
        for i in 0..50 {
            let field = if i % 2 == 0 { "annotations" } else { "labels" };
            s.tamper("db", &format!("somebody-{}", i % 7), json!({"metadata": {field: {format!("somebody.example/{i}"): "x"}}})).await;
        }
        let version = s.meta("db").await.resource_version;
        // The watch brings changes in their order.
        s.tamper("earlier", "kubectl-edit", json!({"data": {"a": null}})).await;
        is_right(s, "earlier", "after an edit").await;
        s.event("earlier", "put right again").await;
        mirror(s, "later").await;
        is_right(s, "later", "at first").await;
        s.event("later", "2 keys mirrored").await;
        assert_eq!((reads(s, "db"), reads(s, "earlier"), reads(s, "later")), (1, 2, 1));
        // One Secret, one status and one event for what was put right, and the same for what is new.
        let (now, six) = (writes(s), written + 6.0);
        assert!(now <= six, "{now} writes, at most {six} expected\n{}", s.log_tail());
        let after = (s.meta("db").await, s.resources().get("db").await.unwrap().metadata.resource_version);
        assert_eq!((after.0.resource_version, after.1), (version, status));
        let foreign = |map: Option<std::collections::BTreeMap<String, String>>| map.unwrap().keys().filter(|key| key.starts_with("somebody")).count();
        assert_eq!((foreign(after.0.annotations), foreign(after.0.labels)), (25, 25));
    })
    .await;
}

#[tokio::test]
async fn drift_while_the_controller_was_down_is_put_right_and_nothing_else_is_read() {
    scene("drift-while-down", async |s| {
        for name in ["edited", "added", "deleted", "wiped", "whole", "annotated"] {
            mirror(s, name).await;
        }
        for name in ["edited", "added", "deleted", "wiped", "whole", "annotated"] {
            is_right(s, name, "at first").await;
        }
        let wipe = json!({"metadata": {"managedFields": [{}]}});
        s.tamper("wiped", "somebody", wipe).await;
        s.event("wiped", "put right again").await;
        s.condition("wiped", "Ready", "True Mirrored", SECONDS).await;
        assert_eq!(s.stop_controller(), 0);
        let encoded = BASE64_STANDARD.encode(s.value("not ours"));
        s.tamper("edited", "kubectl-edit", json!({"data": {"a": encoded}})).await;
        s.tamper("added", "kubectl-edit", json!({"data": {"extra": encoded}})).await;
        s.tamper("annotated", "somebody", json!({"metadata": {"annotations": {"somebody.example/seen": "yes"}}})).await;
        Deed::Delete.is_done(s, "deleted").await;
        s.start_controller(&[]).await;
        for name in ["edited", "added", "deleted"] {
            is_right(s, name, "after the restart").await;
            s.event(name, " again").await;
            assert_eq!(reads(s, name), 2, "{name}");
        }
        // Who owned keys beside us is known again after a restart.
        s.tamper("wiped", "somebody", json!({"metadata": {"annotations": {"somebody.example/seen": "yes"}}})).await;
        mirror(s, "later").await;
        is_right(s, "later", "at first").await;
        s.tamper("later", "kubectl-edit", json!({"data": {"a": null}})).await;
        is_right(s, "later", "after an edit").await;
        assert_eq!((reads(s, "whole"), reads(s, "annotated"), reads(s, "wiped")), (1, 1, 2), "reads of what nobody damaged");
    })
    .await;
}

#[tokio::test]
async fn two_managers_that_fight_are_told_so_and_the_repairs_slow_down() {
    scene("drift-fight", async |s| {
        mirror(s, "db").await;
        is_right(s, "db", "at first").await;
        let edit = json!({"data": {"a": BASE64_STANDARD.encode(s.value("not ours"))}});
        let mut repaired = Vec::new();
        for _ in 0..5 {
            s.tamper("db", "argocd", edit.clone()).await;
            is_right(s, "db", "in a fight").await;
            repaired.push(Instant::now());
            if repaired.len() == 3 {
                assert!(!s.events("db").await.iter().any(|event| event.contains("DriftFight")), "three repairs are no fight yet");
            }
        }
        let pauses: Vec<_> = repaired.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_secs_f64()).collect();
        assert!(pauses[..3].iter().all(|pause| *pause > 9.0), "repairs come too fast: {pauses:?}");
        assert!(pauses[3] > 18.0, "repairs do not slow down: {pauses:?}");
        says(&s.event("db", "DriftFight").await, "argocd keeps changing the Secret db");
        assert_eq!(reads(s, "db"), 6);
        // While it is wrong and not put right yet, it says so.
        s.tamper("db", "argocd", edit.clone()).await;
        says(&s.condition("db", "Ready", "False TargetDrifted", SECONDS).await, "is changed again and again");
        until("it is put right in the end", WITHIN_TTL * 2, async || wrong(s, "db").await.is_none().then_some(())).await;
        s.ready("db").await;
    })
    .await;
}

#[tokio::test]
async fn an_operator_that_answers_a_repair_at_once_does_not_get_the_last_word() {
    scene("drift-at-once", async |s| {
        mirror(s, "db").await;
        is_right(s, "db", "at first").await;
        // Both edits in the same second leave managedFields exactly as the first one did.
        next_second().await;
        for text in ["not ours", "not ours either"] {
            Deed::Apply("operator", true, json!({"stringData": {"a": s.value(text)}})).is_done(s, "db").await;
            assert!(text == "not ours" || wrong(s, "db").await.is_some(), "the edit did not arrive");
            let right = async || wrong(s, "db").await.is_none().then_some(());
            until(&format!("{text:?} is put right"), SECONDS, right).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_secret_that_is_damaged_while_the_store_is_down_is_not_called_ready_and_is_put_right_later() {
    scene("drift-store-down", async |s| {
        for name in ["at-once", "in-a-pause"] {
            mirror(s, name).await;
            is_right(s, name, "at first").await;
        }
        let down = s.front.fail(503);
        s.tamper("at-once", "kubectl-edit", json!({"data": {"a": null}})).await;
        let message = s.condition("at-once", "Ready", "False TargetDrifted", SECONDS).await;
        says(&message, "the Secret was changed by hand and can't be put right");
        s.condition("at-once", "Fresh", "False ProviderUnavailable", SECONDS).await;
        // The other fails a few times first, so that its pauses are long; it must not wait for their end to try and to say what happened.
        s.refresh("in-a-pause", "1").await;
        until("five tries", WITHIN_TTL, async || (reads(s, "in-a-pause") == 6).then_some(())).await;
        s.condition("in-a-pause", "Ready", "True Mirrored", SECONDS).await;
        s.tamper("in-a-pause", "kubectl-edit", json!({"data": {"a": null}})).await;
        s.condition("in-a-pause", "Ready", "False TargetDrifted", SECONDS).await;
        assert!(reads(s, "in-a-pause") >= 7, "the damage was told without a try");
        s.front.remove_fault(down);
        for name in ["at-once", "in-a-pause"] {
            is_right(s, name, "when the store is back").await;
            s.event(name, "put right again").await;
        }
    })
    .await;
}

/// Makes a Secret as a user would.
async fn make(s: &Scene, secret: Value) -> Secret {
    s.secrets().create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap()
}

fn operators_secret(name: &str) -> Value {
    let owner =
        json!({"apiVersion": "cert-manager.io/v1", "kind": "Certificate", "name": "web", "uid": "0dc1f0f5-4b32-41a6-9a7c-6a1bb1a0b5a5", "controller": true});
    json!({"metadata": {"name": name, "ownerReferences": [owner]}, "stringData": {"tls": "theirs"}})
}

#[tokio::test]
async fn a_secret_of_somebody_else_is_left_untouched_until_it_is_deleted() {
    scene("not-ours", async |s| {
        let theirs = make(s, json!({"metadata": {"name": "db"}, "stringData": {"mine": "theirs"}})).await;
        s.put_secret("db", &json!({"a": s.value("db a"), "b": s.value("db b")}).to_string()).await;
        apply(s, "db", "ttl: 10s").await;
        let message = s.condition("db", "Ready", "False TargetNotOwned", SECONDS).await;
        says(&message, "delete it, choose another target.name, or hand it over: kubectl annotate secret db robotosecret.dev/adopt=db");
        // Another user's resource can't be taken over by its name either.
        s.tamper("db", "somebody", json!({"metadata": {"annotations": {"robotosecret.dev/adopt": "another"}}})).await;
        let version = s.meta("db").await.resource_version;
        let looked = s.controller().metric("robotosecret_reconcile_seconds_count", "");
        until("it is tried again", WITHIN_TTL, async || (s.controller().metric("robotosecret_reconcile_seconds_count", "") > looked).then_some(())).await;
        s.condition("db", "Ready", "False TargetNotOwned", SECONDS).await;
        assert_eq!(s.meta("db").await.resource_version, version);
        assert_eq!(s.data("db").await, Some(vec![("mine".to_owned(), "theirs".to_owned())]));
        let warnings = s.events("db").await;
        assert_eq!(warnings.iter().filter(|event| event.contains("TargetNotOwned")).count(), 1, "{warnings:?}");
        Deed::Delete.is_done(s, "db").await;
        is_right(s, "db", "when the other one was deleted").await;
        assert_ne!(s.meta("db").await.uid, theirs.metadata.uid);
    })
    .await;
}

#[tokio::test]
async fn a_secret_that_is_handed_over_holds_what_is_mirrored_and_nothing_else() {
    scene("handed-over", async |s| {
        let last_applied = json!({"stringData": {"old": s.value("old")}}).to_string();
        let old = json!({"metadata": {"name": "db", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": last_applied, "keep": "me"}},
            "stringData": {"old": s.value("old"), "a": s.value("old")}});
        let old = make(s, old).await;
        s.put_secret("db", &json!({"a": s.value("db a"), "b": s.value("db b")}).to_string()).await;
        apply(s, "db", "ttl: 10s").await;
        s.condition("db", "Ready", "False TargetNotOwned", SECONDS).await;
        s.tamper("db", "kubectl-annotate", json!({"metadata": {"annotations": {"robotosecret.dev/adopt": "db"}}})).await;
        is_right(s, "db", "when it was handed over").await;
        let gone = async || {
            let annotations = s.meta("db").await.annotations.unwrap();
            let gone = !annotations.contains_key("robotosecret.dev/adopt") && !annotations.contains_key("kubectl.kubernetes.io/last-applied-configuration");
            gone.then_some(annotations)
        };
        let annotations = until("the annotations that it came with are gone", SECONDS, gone).await;
        assert_eq!(annotations.get("keep").map(String::as_str), Some("me"));
        assert_eq!(s.meta("db").await.uid, old.metadata.uid, "it was made anew");
        // A Secret that another operator controls can't be handed over.
        make(s, operators_secret("tls")).await;
        s.tamper("tls", "kubectl-annotate", json!({"metadata": {"annotations": {"robotosecret.dev/adopt": "tls"}}})).await;
        let version = s.meta("tls").await.resource_version;
        mirror(s, "tls").await;
        says(&s.condition("tls", "Ready", "False TargetNotOwned", SECONDS).await, "is controlled by the Certificate web");
        assert_eq!(s.meta("tls").await.resource_version, version);
    })
    .await;
}

#[tokio::test]
async fn a_foreign_secret_that_appears_while_the_store_is_read_is_not_touched() {
    scene("appears", async |s| {
        for name in ["rotated", "deleted"] {
            mirror(s, name).await;
            is_right(s, name, "at first").await;
        }
        s.put_secret("rotated", &json!({"a": s.value("a2"), "b": s.value("b2")}).to_string()).await;
        let hold = s.front.hold();
        mirror(s, "new").await;
        mirror(s, "new-tls").await;
        s.refresh("rotated", "1").await;
        Deed::Delete.is_done(s, "deleted").await;
        let reading = async || (reads(s, "new") + reads(s, "new-tls") + reads(s, "rotated") + reads(s, "deleted") == 6).then_some(());
        until("all four are being read", SECONDS, reading).await;
        Deed::Delete.is_done(s, "rotated").await;
        let mut made = Vec::new();
        for name in ["new", "rotated", "deleted"] {
            made.push(make(s, json!({"metadata": {"name": name}, "stringData": {"mine": "theirs"}})).await);
        }
        made.push(make(s, operators_secret("new-tls")).await);
        s.front.remove_fault(hold);
        for theirs in made {
            let name = theirs.name_any();
            s.condition(&name, "Ready", "False TargetNotOwned", SECONDS).await;
            assert_eq!(s.meta(&name).await.resource_version, theirs.metadata.resource_version, "{name} was touched");
        }
    })
    .await;
}

#[tokio::test]
async fn a_secret_deleted_during_the_pause_after_a_failure_is_put_back_at_once() {
    scene("in-a-pause", async |s| {
        s.put_secret("db", &s.value("x")).await;
        s.apply("db", &format!("{{uri: 'aws.sm://{}', ttl: 1h}}", s.path("db"))).await;
        s.ready("db").await;
        // Three failures in a row: the pause after them is longer than this test waits.
        let denied = s.front.deny(&s.path("db"));
        for n in 1..=3 {
            s.refresh("db", &n.to_string()).await;
            until("the refresh is handled", SECONDS, async || (s.status("db").await.last_handled_refresh == Some(n.to_string())).then_some(())).await;
        }
        s.condition("db", "Ready", "False AccessDenied", SECONDS).await;
        s.front.remove_fault(denied);
        s.secrets().delete("db", &DeleteParams::default()).await.unwrap();
        s.holds("db", &[("value", &s.value("x"))], Duration::from_secs(20)).await;
        s.ready("db").await;
    })
    .await;
}
