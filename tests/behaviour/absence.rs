//! What is gone from the store: nothing good is lost by mistake, and what is to go goes once it is proven.
//!
//! A proof takes a second look at least a minute after the first, so that these tests take their time; they run beside each other.

use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::{SECONDS, Scene, WITHIN_TTL, no_status, says, scene, until, world};

/// How long after a first look nothing is removed.
const PROOF: Duration = Duration::from_secs(60);
/// How long the second look may take: the retries after 10, 20 and 40 s, one more after 80 s where a busy machine made one of them fail, and
/// time for that machine.
const PROVEN: Duration = Duration::from_secs(240);

async fn delete_for_good(s: &Scene, name: &str) {
    world().moto.secrets_manager().delete_secret().secret_id(s.path(name)).force_delete_without_recovery(true).send().await.unwrap();
}

async fn secret_is_gone(s: &Scene, name: &str) {
    until(&format!("the Secret {name} is gone; {}", s.log_tail()), PROVEN, async || s.secrets().get_opt(name).await.unwrap().is_none().then_some(())).await;
}

/// Whether the scene's provider has the condition `MassAbsence` with this status.
async fn mass_absence(s: &Scene, expected: &str) -> Option<()> {
    let status = s.providers().get(&s.namespace).await.unwrap().status.unwrap_or_default();
    status.conditions.iter().any(|condition| condition.type_ == "MassAbsence" && condition.status == expected).then_some(())
}

/// A spec that mirrors these secrets of the scene, a key each.
fn keys(s: &Scene, names: &[&str], policy: &str) -> String {
    let data: Vec<Value> = names.iter().map(|name| json!({"key": name, "uri": format!("aws.sm://{}", s.path(name))})).collect();
    json!({"data": data, "target": {"deletionPolicy": policy}}).to_string()
}

#[tokio::test]
async fn under_delete_the_secret_goes_when_its_source_is_gone_for_certain_and_comes_back_with_it() {
    scene("absent-delete", async |s| {
        s.put_secret("db", &s.value("1")).await;
        s.apply("db", &keys(s, &["db"], "Delete")).await;
        s.ready("db").await;
        let deleted = Instant::now();
        delete_for_good(s, "db").await;
        s.condition("db", "Ready", "False SourceNotFound", WITHIN_TTL).await;
        let waits = async || {
            let status = s.status("db").await;
            status.condition("Ready").filter(|ready| ready.message.contains("a look at least a minute later has to agree")).map(|_| ())
        };
        until("it says what it waits for", WITHIN_TTL, waits).await;
        assert!(s.secrets().get_opt("db").await.unwrap().is_some());
        secret_is_gone(s, "db").await;
        assert!(deleted.elapsed() >= PROOF, "removed after {:?}", deleted.elapsed());
        let message = s.condition("db", "Ready", "False SourceDeleted", SECONDS).await;
        says(&message, "the Secret was deleted, as deletionPolicy asks for");
        s.event("db", "Removed").await;
        assert_eq!(s.status("db").await.target, None);
        s.put_secret("db", &s.value("2")).await;
        s.condition("db", "Ready", "True Mirrored", WITHIN_TTL).await;
        s.holds("db", &[("db", &s.value("2"))], SECONDS).await;
    })
    .await;
}

#[tokio::test]
async fn under_drop_keys_only_what_came_from_there_goes_and_the_rest_stays_fresh_also_after_a_restart() {
    scene("absent-drop", async |s| {
        for name in ["one", "two"] {
            s.put_secret(name, &s.value(name)).await;
        }
        s.apply("db", &keys(s, &["one", "two"], "DropKeys")).await;
        let data = json!([{"key": "two", "uri": format!("aws.sm://{}", s.path("two"))}]);
        let template = json!({"data": {"dsn": "{{ two }}@db"}});
        s.apply("templated", &json!({"data": data, "target": {"deletionPolicy": "DropKeys", "template": template}}).to_string()).await;
        s.ready("db").await;
        s.ready("templated").await;
        delete_for_good(s, "two").await;
        s.condition("db", "Ready", "False SourceNotFound", WITHIN_TTL).await;
        s.holds("db", &[("one", &s.value("one")), ("two", &s.value("two"))], SECONDS).await;
        s.holds("db", &[("one", &s.value("one"))], PROVEN).await;
        says(&s.condition("db", "Ready", "True Mirrored", SECONDS).await, "two is gone from the store: its keys were taken out");
        // What was made of it can't be made any more: the template is not to blame, and nothing is taken away.
        let message = s.condition("templated", "Ready", "False TemplateError", PROVEN).await;
        says(&message, &format!("`two` is not among the keys; aws.sm://{} is gone from the store", s.path("two")));
        assert_eq!(s.status("templated").await.condition("Stalled"), None, "the store can help");
        s.holds("templated", &[("dsn", &format!("{}@db", s.value("two")))], SECONDS).await;
        s.put_secret("one", &s.value("rotated")).await;
        s.holds("db", &[("one", &s.value("rotated"))], WITHIN_TTL).await;
        // What was proven is remembered: a new process begins no new proof.
        s.kill_controller();
        s.put_secret("one", &s.value("again")).await;
        s.start_controller(&[]).await;
        s.holds("db", &[("one", &s.value("again"))], WITHIN_TTL).await;
        s.condition("db", "Ready", "True Mirrored", SECONDS).await;
        s.put_secret("two", &s.value("back")).await;
        s.holds("db", &[("one", &s.value("again")), ("two", &s.value("back"))], WITHIN_TTL).await;
    })
    .await;
}

#[tokio::test]
async fn under_retain_the_secret_stays_and_is_counted() {
    scene("absent-retain", async |s| {
        s.put_secret("db", &s.value("1")).await;
        s.apply("db", &keys(s, &["db"], "Retain")).await;
        s.ready("db").await;
        assert!(s.controller().metric("robotosecret_retained", "").abs() < 0.5);
        let before = s.meta("db").await.resource_version;
        delete_for_good(s, "db").await;
        s.condition("db", "Ready", "False SourceNotFound", WITHIN_TTL).await;
        until("it is counted", SECONDS, async || (s.controller().metric("robotosecret_retained", "") > 0.5).then_some(())).await;
        // Until well after others would have lost theirs.
        let lost = Instant::now();
        let tries = s.calls("BatchGetSecretValue") + s.calls("GetSecretValue");
        until("it was looked for until there was proof", PROVEN, async || {
            (lost.elapsed() > PROOF + Duration::from_secs(15) && s.calls("BatchGetSecretValue") + s.calls("GetSecretValue") > tries + 1).then_some(())
        })
        .await;
        assert_eq!(s.meta("db").await.resource_version, before);
        s.holds("db", &[("db", &s.value("1"))], SECONDS).await;
    })
    .await;
}

#[tokio::test]
async fn what_a_search_found_goes_when_it_is_gone_for_certain_under_every_policy() {
    scene("absent-member", async |s| {
        for name in ["x/a", "x/b"] {
            s.put_secret(name, &s.value(name)).await;
        }
        let spec =
            |policy: &str| json!({"dataFrom": [{"byPath": {"uri": format!("aws.sm://{}", s.path("x/"))}}], "target": {"deletionPolicy": policy}}).to_string();
        for policy in ["Retain", "Delete", "DropKeys"] {
            s.apply(&policy.to_lowercase(), &spec(policy)).await;
        }
        let all = ["retain", "delete", "dropkeys"];
        for name in all {
            s.holds(name, &[("a", &s.value("x/a")), ("b", &s.value("x/b"))], SECONDS).await;
            s.ready(name).await;
        }
        let deleted = Instant::now();
        delete_for_good(s, "x/b").await;
        for name in all {
            s.holds(name, &[("a", &s.value("x/a"))], PROVEN).await;
            s.condition(name, "Ready", "True Mirrored", SECONDS).await;
        }
        assert!(deleted.elapsed() >= PROOF, "removed after {:?}", deleted.elapsed());
    })
    .await;
}

#[tokio::test]
async fn when_all_that_a_search_found_is_gone_the_policy_decides() {
    scene("absent-members", async |s| {
        s.put_secret("x/a", &s.value("x/a")).await;
        let spec =
            |policy: &str| json!({"dataFrom": [{"byPath": {"uri": format!("aws.sm://{}", s.path("x/"))}}], "target": {"deletionPolicy": policy}}).to_string();
        let all = ["retain", "delete", "dropkeys"];
        for (name, policy) in all.into_iter().zip(["Retain", "Delete", "DropKeys"]) {
            s.apply(name, &spec(policy)).await;
            s.ready(name).await;
        }
        delete_for_good(s, "x/a").await;
        secret_is_gone(s, "delete").await;
        s.holds("dropkeys", &[], PROVEN).await;
        for (name, reason) in [("retain", "SourceNotFound"), ("delete", "SourceDeleted"), ("dropkeys", "SourceDeleted")] {
            s.condition(name, "Ready", &format!("False {reason}"), WITHIN_TTL).await;
        }
        s.holds("retain", &[("a", &s.value("x/a"))], SECONDS).await;
        s.put_secret("x/c", &s.value("x/c")).await;
        // What was not found is looked for with growing pauses, minutes by now: whoever put it back asks for a look.
        s.refresh("retain", "1").await;
        for name in all {
            s.holds(name, &[("c", &s.value("x/c"))], WITHIN_TTL + WITHIN_TTL).await;
        }
    })
    .await;
}

#[tokio::test]
async fn when_too_much_is_missing_at_once_nothing_is_removed_before_a_person_confirms_it() {
    scene("absent-mass", async |s| {
        let names: Vec<String> = (0..6).map(|i| format!("db{i}")).collect();
        for name in &names {
            s.put_secret(name, &s.value(name)).await;
            s.apply(name, &keys(s, &[name], "Delete")).await;
        }
        s.all("Ready", "True Mirrored", SECONDS).await;
        let before = s.versions().await;
        for name in &names {
            delete_for_good(s, name).await;
        }
        let provider = async || s.providers().get(&s.namespace).await.unwrap();
        let says_so = async || {
            let status = provider().await.status.unwrap_or_default();
            status.conditions.into_iter().find(|condition| condition.type_ == "MassAbsence" && condition.status == "True")
        };
        let condition = until("the provider says MassAbsence", PROVEN, says_so).await;
        says(&condition.message, "so much vanished from the store that it is taken for an accident (5 references and more; up to 4 are believed)");
        let deleted = Instant::now();
        until("the proof would be there", PROVEN, async || (deleted.elapsed() > PROOF * 3 / 2).then_some(())).await;
        for name in &names {
            says(&s.condition(name, "Ready", "False SourceNotFound", SECONDS).await, "says MassAbsence; if all that is really gone: kubectl annotate");
        }
        assert_eq!(s.versions().await, before);
        let confirm = async |time: String| {
            let confirm = json!({"metadata": {"annotations": {"robotosecret.dev/confirm-absence": time}}});
            s.providers().patch(&s.namespace, &PatchParams::default(), &Patch::Merge(&confirm)).await.unwrap();
        };
        // Milliseconds are a time to come: that would confirm whatever goes missing until then.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        confirm((now * 1000).to_string()).await;
        s.refresh("db0", "1").await;
        until("it was looked for again", SECONDS, async || (s.status("db0").await.last_handled_refresh.as_deref() == Some("1")).then_some(())).await;
        assert_eq!(s.versions().await, before);
        confirm(now.to_string()).await;
        for name in &names {
            secret_is_gone(s, name).await;
            s.condition(name, "Ready", "False SourceDeleted", SECONDS).await;
        }
    })
    .await;
}

#[tokio::test]
async fn mass_absence_is_over_when_all_is_back_also_where_the_controller_was_not_there_to_see_it() {
    scene("absent-over", async |s| {
        let names: Vec<String> = (0..6).map(|i| format!("db{i}")).collect();
        for name in &names {
            s.put_secret(name, &s.value(name)).await;
            s.apply(name, &keys(s, &[name], "Delete")).await;
        }
        s.all("Ready", "True Mirrored", SECONDS).await;
        for name in &names {
            delete_for_good(s, name).await;
        }
        until("the provider says MassAbsence", PROVEN, async || mass_absence(s, "True").await).await;
        s.kill_controller();
        for name in &names {
            s.put_secret(name, &s.value(name)).await;
        }
        s.start_controller(&[]).await;
        s.all("Ready", "True Mirrored", WITHIN_TTL).await;
        until("it says that it is over", PROVEN, async || mass_absence(s, "False").await).await;
    })
    .await;
}

#[tokio::test]
async fn a_provider_that_is_edited_to_another_region_removes_nothing() {
    scene("absent-region", async |s| {
        s.put_secret("db", &s.value("1")).await;
        s.apply("db", &keys(s, &["db"], "Delete")).await;
        s.ready("db").await;
        let before = s.versions().await;
        let region = |region: &str| json!({"spec": {"aws": {"region": region}}});
        s.providers().patch(&s.namespace, &PatchParams::default(), &Patch::Merge(&region("us-west-2"))).await.unwrap();
        let edited = Instant::now();
        let message = s.condition("db", "Ready", "False SourceNotFound", WITHIN_TTL).await;
        assert!(!message.contains("a minute later"), "no proof is begun: {message}");
        let tries = s.calls("BatchGetSecretValue") + s.calls("GetSecretValue");
        until("it was looked for until there would be proof", PROVEN, async || {
            (edited.elapsed() > PROOF * 3 / 2 && s.calls("BatchGetSecretValue") + s.calls("GetSecretValue") > tries).then_some(())
        })
        .await;
        assert_eq!(s.versions().await, before);
        s.providers().patch(&s.namespace, &PatchParams::default(), &Patch::Merge(&region(testbed::aws::REGION))).await.unwrap();
        s.condition("db", "Ready", "True Mirrored", WITHIN_TTL).await;
        assert_eq!(s.versions().await, before);
    })
    .await;
}

#[tokio::test]
async fn a_secret_that_is_scheduled_for_deletion_counts_as_gone_and_a_missing_version_does_not() {
    scene("absent-scheduled", async |s| {
        for name in ["scheduled", "staged"] {
            s.put_secret(name, &s.value(name)).await;
        }
        s.apply("scheduled", &keys(s, &["scheduled"], "Delete")).await;
        let client = world().moto.secrets_manager();
        let staged = client.put_secret_value().secret_id(s.path("staged")).secret_string(s.value("old")).version_stages("OLD").send().await.unwrap();
        let uri = format!("aws.sm://{}?version-stage=OLD", s.path("staged"));
        s.apply("staged", &json!({"data": [{"key": "k", "uri": uri}], "target": {"deletionPolicy": "Delete"}}).to_string()).await;
        s.all("Ready", "True Mirrored", SECONDS).await;
        client.delete_secret().secret_id(s.path("scheduled")).recovery_window_in_days(7).send().await.unwrap();
        let version = staged.version_id.unwrap();
        client.update_secret_version_stage().secret_id(s.path("staged")).version_stage("OLD").remove_from_version_id(version).send().await.unwrap();
        secret_is_gone(s, "scheduled").await;
        says(&s.condition("staged", "Ready", "False SourceNotFound", SECONDS).await, "version-stage=OLD");
        s.holds("staged", &[("k", &s.value("old"))], SECONDS).await;
        client.restore_secret().secret_id(s.path("scheduled")).send().await.unwrap();
        s.holds("scheduled", &[("scheduled", &s.value("scheduled"))], WITHIN_TTL).await;
    })
    .await;
}

/// Changes what becomes of a Secret whose source is gone.
async fn change(s: &Scene, name: &str, policy: &str) {
    s.patch(name, json!({"spec": {"target": {"deletionPolicy": policy}}})).await;
}

#[tokio::test]
async fn while_its_sources_are_there_a_deletion_policy_changes_in_every_direction_and_the_secret_stays_as_it_is() {
    scene("absent-policies", async |s| {
        s.put_secret("db", &s.value("1")).await;
        s.apply("db", &keys(s, &["db"], "Retain")).await;
        s.ready("db").await;
        let uid = s.meta("db").await.uid;
        for policy in ["Delete", "DropKeys", "Retain", "DropKeys", "Delete", "Retain"] {
            change(s, "db", policy).await;
            s.ready("db").await;
            s.condition("db", "Fresh", "True Verified", SECONDS).await;
            s.holds("db", &[("db", &s.value("1"))], SECONDS).await;
            assert_eq!(s.meta("db").await.uid, uid, "{policy}");
        }
        assert_eq!(s.told("db", "Removed").await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_deletion_policy_that_changes_while_a_source_is_gone_holds_from_then_on() {
    scene("absent-changed", async |s| {
        for name in ["stays", "gone"] {
            s.put_secret(name, &s.value(name)).await;
        }
        let (stays, gone) = (s.value("stays"), s.value("gone"));
        let (alone, both) = (vec![("gone", gone.as_str())], vec![("gone", gone.as_str()), ("stays", stays.as_str())]);
        let all = [
            ("retain-delete", "Retain", &alone),
            ("retain-drop", "Retain", &both),
            ("delete-retain", "Delete", &alone),
            ("drop-retain", "DropKeys", &both),
            ("delete-drop", "Delete", &both),
            ("drop-delete", "DropKeys", &alone),
        ];
        let names = |holds: &[(&'static str, &str)]| holds.iter().map(|(key, _)| *key).collect::<Vec<_>>();
        for (name, policy, holds) in all {
            s.apply(name, &keys(s, &names(holds), policy)).await;
            s.ready(name).await;
        }
        let deleted = Instant::now();
        delete_for_good(s, "gone").await;
        s.all("Ready", "False SourceNotFound", WITHIN_TTL * 2).await;
        // Each is changed before there can be proof of anything.
        let changed = Instant::now();
        for (name, policy) in [
            ("retain-delete", "Delete"),
            ("retain-drop", "DropKeys"),
            ("delete-retain", "Retain"),
            ("drop-retain", "Retain"),
            ("delete-drop", "DropKeys"),
            ("drop-delete", "Delete"),
        ] {
            change(s, name, policy).await;
            s.condition(name, "Ready", "False SourceNotFound", SECONDS).await;
        }
        // What nobody would have removed before needs the whole proof from then on.
        secret_is_gone(s, "retain-delete").await;
        assert!(changed.elapsed() >= PROOF, "removed {:?} after it was asked for", changed.elapsed());
        s.holds("retain-drop", &[("stays", &stays)], PROVEN).await;
        // And what somebody would have removed needs no less.
        secret_is_gone(s, "drop-delete").await;
        s.holds("delete-drop", &[("stays", &stays)], PROVEN).await;
        assert!(deleted.elapsed() >= PROOF, "removed after {:?}", deleted.elapsed());
        for name in ["retain-drop", "delete-drop"] {
            s.condition(name, "Ready", "True Mirrored", SECONDS).await;
        }
        for name in ["retain-delete", "drop-delete"] {
            s.condition(name, "Ready", "False SourceDeleted", SECONDS).await;
        }
        // By now everything is proven, and whoever shall keep it has kept it.
        for (name, _, holds) in all.into_iter().filter(|(name, ..)| name.ends_with("-retain")) {
            s.refresh(name, "1").await;
            until("it was looked for again", SECONDS, async || (s.status(name).await.last_handled_refresh.as_deref() == Some("1")).then_some(())).await;
            s.condition(name, "Ready", "False SourceNotFound", SECONDS).await;
            s.holds(name, holds, SECONDS).await;
        }

        // Once more, after it was carried out: what is gone stays gone, and nothing else goes.
        for (name, policy) in [("retain-delete", "Retain"), ("retain-drop", "Retain"), ("delete-drop", "Delete"), ("drop-delete", "DropKeys")] {
            change(s, name, policy).await;
        }
        for name in ["retain-delete", "retain-drop", "delete-drop"] {
            s.condition(name, "Ready", "False SourceNotFound", SECONDS).await;
        }
        s.condition("drop-delete", "Ready", "False SourceDeleted", SECONDS).await;
        assert_eq!(s.data("retain-delete").await, None);
        for name in ["retain-drop", "delete-drop"] {
            s.holds(name, &[("stays", &stays)], SECONDS).await;
        }
        assert!(s.data("drop-delete").await.is_none_or(|data| data.is_empty()));

        s.put_secret("gone", &gone).await;
        for (name, _, holds) in all {
            // The pauses may be minutes by now.
            s.refresh(name, "2").await;
            s.holds(name, holds, WITHIN_TTL * 2).await;
            s.ready(name).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_controller_that_is_killed_between_a_removal_and_its_status_tells_of_it_after_the_restart() {
    scene("absent-killed", async |s| {
        for name in ["gone", "stays"] {
            s.put_secret(name, &s.value(name)).await;
            s.apply(name, &keys(s, &[name], "Delete")).await;
            s.ready(name).await;
        }
        let stays = s.meta("stays").await.uid;
        s.kill_controller();
        let mirrored = s.status("gone").await;
        delete_for_good(s, "gone").await;
        let crippled = s.account(&[], no_status).await;
        s.start_controller_as(&crippled, &[]);
        secret_is_gone(s, "gone").await;
        s.kill_controller();
        assert_eq!(json!(s.status("gone").await), json!(mirrored), "the status was written after all");
        s.start_controller(&[]).await;
        // A new process begins a new proof, of which nothing is left to remove.
        s.condition("gone", "Ready", "False SourceDeleted", PROVEN).await;
        assert_eq!(s.data("gone").await, None);
        assert_eq!(s.status("gone").await.target, None);
        s.condition("stays", "Ready", "True Mirrored", SECONDS).await;
        s.holds("stays", &[("stays", &s.value("stays"))], SECONDS).await;
        assert_eq!(s.meta("stays").await.uid, stays);
        s.put_secret("gone", &s.value("back")).await;
        s.holds("gone", &[("gone", &s.value("back"))], WITHIN_TTL).await;
        s.ready("gone").await;
    })
    .await;
}
