//! When the store is asked, and when a Secret or a status is written: on the TTL, on request, and not otherwise.

use std::time::{Duration, Instant};

use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use robotosecret::api::RobotoSecretStatus;
use serde_json::{Value, json};

use crate::support::{SECONDS, Scene, WITHIN_TTL, emulated, emulated_before_controller, says, scene, scene_before_controller, until, world};

/// A TTL whose phase hardly ever falls into a test.
const LONG: &str = "1000h";

/// What must not move while nothing happens: the versions of the Secret and of the resource.
async fn versions(s: &Scene, name: &str) -> (String, String) {
    let resource = s.resources().get(name).await.unwrap();
    (s.meta(name).await.resource_version.unwrap(), resource.resource_version().unwrap())
}

/// Mirrors a value under the key `value`, with more of a spec.
async fn mirror(s: &Scene, name: &str, value: &str, more: Value) {
    s.put_secret(name, value).await;
    let mut spec = json!({"data": [{"key": "value", "uri": format!("aws.sm://{}", s.path(name))}]});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    s.apply(name, &spec.to_string()).await;
    s.ready(name).await;
    s.holds(name, &[("value", value)], SECONDS).await;
}

/// Starts to mirror something that is rechecked every TTL; see [`ttls`].
async fn witness(s: &Scene) {
    mirror(s, "witness", "nothing", json!({})).await;
}

/// Waits until the witness shows that this many TTLs have gone by.
async fn ttls(s: &Scene, count: usize) {
    let id = s.path("witness");
    let enough = s.reads(&id) + count + 1;
    until(&format!("{count} TTLs go by"), WITHIN_TTL * u32::try_from(count + 1).unwrap(), async || (s.reads(&id) >= enough).then_some(())).await;
}

async fn new_version(s: &Scene, name: &str, before: &RobotoSecretStatus) -> RobotoSecretStatus {
    let seen = async || Some(s.status(name).await).filter(|status| status.sources[0].version != before.sources[0].version);
    until("the status shows the new version", WITHIN_TTL, seen).await
}

/// Waits until a refresh was carried out.
async fn handled(s: &Scene, value: &str) {
    let done = async || s.status("db").await.last_handled_refresh.filter(|handled| handled == value);
    until(&format!("the refresh {value:?} is handled"), SECONDS, done).await;
}

#[tokio::test]
async fn a_changed_value_arrives_within_the_ttl_and_is_told_once() {
    scene("changed-value", async |s| {
        let (old, new) = (s.value("old"), s.value("new"));
        mirror(s, "db", &old, json!({})).await;
        let before = s.status("db").await;
        // Times in a status have no fractions of a second.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        s.put_secret("db", &new).await;
        s.holds("db", &[("value", &new)], WITHIN_TTL).await;
        let after = new_version(s, "db", &before).await;
        assert!(after.last_change_time > before.last_change_time, "{after:?}");
        assert!(after.sources[0].last_changed_time > before.sources[0].last_changed_time, "{after:?}");
        assert_eq!(Some(after.target.unwrap().resource_version), s.meta("db").await.resource_version);
        s.event("db", &format!("Updated: the Secret db was updated: aws.sm://{} has a new version", s.path("db"))).await;
        let reads = s.reads(&s.path("db"));
        until("one more recheck", WITHIN_TTL, async || (s.reads(&s.path("db")) > reads).then_some(())).await;
        assert_eq!(s.told("db", "Updated").await, 1);
    })
    .await;
}

#[tokio::test]
async fn an_unchanged_value_costs_one_read_a_reference_a_ttl_and_no_write() {
    scene("unchanged", async |s| {
        s.put_secret("db", &json!({"user": s.value("user"), "password": s.value("password")}).to_string()).await;
        s.put_parameter("token", &s.value("token")).await;
        let (secret, parameter) = (s.path("db"), format!("/{}", s.path("token")));
        s.apply("db", &format!("data: [{{key: user, uri: 'aws.sm://{secret}#/user'}}, {{key: password, uri: 'aws.sm://{secret}#/password'}}, {{key: token, uri: 'aws.ps://{parameter}'}}]")).await;
        assert_eq!(s.ready("db").await, "3 keys from 2 sources");
        s.event("db", "Mirrored").await;
        // The status of the provider is a write of its own, which can be late on a busy machine.
        let told = async || s.providers().get(&s.namespace).await.unwrap().status.filter(|status| status.identity.is_some());
        until("the provider says as whom it reads", SECONDS, told).await;
        let (before, writes) = (versions(s, "db").await, s.controller().metric("robotosecret_kube_writes_total", ""));
        assert!(writes > 1.5, "the Secret and its status were counted: {writes}");
        let (started, first) = (Instant::now(), s.reads(&secret));
        until("three more rechecks", WITHIN_TTL * 3, async || (s.reads(&secret) >= first + 3).then_some(())).await;
        let (rechecks, others) = (s.reads(&secret) - first, s.reads(&parameter));
        let most = usize::try_from(started.elapsed().as_secs() / 10).unwrap() + 1;
        assert!(rechecks <= most, "{rechecks} reads in {:?}", started.elapsed());
        // The two reads of one recheck may be caught halfway.
        assert!(others.abs_diff(first + rechecks) <= 1, "{} reads of the secret, {others} of the parameter", first + rechecks);
        assert_eq!(versions(s, "db").await, before);
        assert!((s.controller().metric("robotosecret_kube_writes_total", "") - writes).abs() < 0.5, "{}", s.controller().page("/metrics").1);
        assert_eq!(first, 1, "what the controller wrote itself made it read again");
    })
    .await;
}

#[tokio::test]
async fn the_time_of_the_last_check_is_written_at_the_status_interval() {
    scene_before_controller("status-interval", async |s| {
        s.provide(&["*"]).await;
        s.start_controller(&["--status-interval", "15s"]).await;
        mirror(s, "db", &s.value(""), json!({})).await;
        let (secret, _) = versions(s, "db").await;
        // The time of the first check is written when it is made.
        let first = s.status("db").await.last_check_time.unwrap();
        let moved = async || s.status("db").await.last_check_time.filter(|time| time.0 > first.0);
        let second = until("lastCheckTime moves", WITHIN_TTL * 2, moved).await;
        let after = k8s_openapi::jiff::Timestamp::now().duration_since(first.0);
        assert!(after.as_secs() >= 15, "{first:?} was followed by {second:?} after {after:?}");
        assert_eq!(versions(s, "db").await.0, secret);
    })
    .await;
}

#[tokio::test]
async fn a_new_version_with_the_old_value_is_noted_and_nothing_else() {
    scene("same-value", async |s| {
        mirror(s, "db", &s.value(""), json!({})).await;
        // Foreign metadata moves the Secret, too, and is no update either.
        s.tamper("db", "somebody", json!({"metadata": {"annotations": {"team": "shop"}}})).await;
        let first = s.status("db").await;
        s.put_secret("db", &s.value("")).await;
        let second = new_version(s, "db", &first).await;
        // The first apply after the creation takes note of its manager; from then on an equal value is no write at all.
        let (secret, _) = versions(s, "db").await;
        s.put_secret("db", &s.value("")).await;
        let third = new_version(s, "db", &second).await;
        assert_eq!(versions(s, "db").await.0, secret);
        assert_eq!(third.last_change_time, first.last_change_time);
        // Events are published in order: had there been one before this, it would be here.
        s.put_secret("db", &s.value("new")).await;
        s.event("db", "Updated").await;
        assert_eq!(s.told("db", "Updated").await, 1, "{:?}", s.events("db").await);
    })
    .await;
}

#[tokio::test]
async fn a_secret_or_parameter_that_was_deleted_and_made_again_is_a_change() {
    scene("made-again", async |s| {
        s.put_secret("db", &s.value("old")).await;
        s.put_parameter("token", &s.value("old")).await;
        s.apply("db", &format!("data: [{{key: value, uri: 'aws.sm://{}'}}]", s.path("db"))).await;
        s.apply("token", &format!("data: [{{key: value, uri: 'aws.ps:///{}'}}]", s.path("token"))).await;
        for name in ["db", "token"] {
            s.ready(name).await;
        }
        assert_eq!(s.status("token").await.sources[0].version, "1");
        world().moto.secrets_manager().delete_secret().secret_id(s.path("db")).force_delete_without_recovery(true).send().await.unwrap();
        s.put_secret("db", &s.value("new")).await;
        world().moto.ssm().delete_parameter().name(format!("/{}", s.path("token"))).send().await.unwrap();
        s.put_parameter("token", &s.value("new")).await;
        for name in ["db", "token"] {
            s.holds(name, &[("value", &s.value("new"))], WITHIN_TTL).await;
            s.event(name, "Updated").await;
        }
        assert_eq!(s.status("token").await.sources[0].version, "1");
    })
    .await;
}

#[tokio::test]
async fn a_rollback_to_the_former_version_arrives() {
    scene("rollback", async |s| {
        s.put_secret("db", &s.value("good")).await;
        // The emulated AWS follows a moved stage only where it is asked for.
        s.apply("db", &format!("data: [{{key: value, uri: 'aws.sm://{}?version-stage=AWSCURRENT'}}]", s.path("db"))).await;
        s.ready("db").await;
        let good = s.status("db").await.sources[0].version.clone();
        s.put_secret("db", &s.value("bad")).await;
        s.holds("db", &[("value", &s.value("bad"))], WITHIN_TTL).await;
        let client = world().moto.secrets_manager();
        let bad = client.describe_secret().secret_id(s.path("db")).send().await.unwrap().version_ids_to_stages.unwrap();
        let bad = bad.into_iter().find(|(_, stages)| stages.iter().any(|stage| stage == "AWSCURRENT")).unwrap().0;
        let rollback = client.update_secret_version_stage().secret_id(s.path("db")).version_stage("AWSCURRENT");
        rollback.move_to_version_id(&good).remove_from_version_id(bad).send().await.unwrap();
        s.holds("db", &[("value", &s.value("good"))], WITHIN_TTL).await;
        until("the status shows the good version", SECONDS, async || (s.status("db").await.sources[0].version == good).then_some(())).await;
    })
    .await;
}

#[tokio::test]
async fn under_the_policy_on_change_only_the_spec_makes_it_read() {
    scene("on-change", async |s| {
        mirror(s, "db", &s.value("1"), json!({"refreshPolicy": "OnChange"})).await;
        says(&s.condition("db", "Fresh", "Unknown NotRechecked", SECONDS).await, "only when the spec changes");
        witness(s).await;
        s.put_secret("db", &s.value("2")).await;
        let before = versions(s, "db").await;
        ttls(s, 2).await;
        assert_eq!((s.reads(&s.path("db")), versions(s, "db").await), (1, before));
        s.patch("db", json!({"spec": {"target": {"labels": {"team": "shop"}}}})).await;
        s.holds("db", &[("value", &s.value("2"))], SECONDS).await;
        s.condition("db", "Fresh", "Unknown NotRechecked", SECONDS).await;
        s.patch("db", json!({"spec": {"refreshPolicy": "TTL"}})).await;
        s.condition("db", "Fresh", "True Verified", SECONDS).await;
        s.put_secret("db", &s.value("3")).await;
        s.holds("db", &[("value", &s.value("3"))], WITHIN_TTL).await;
    })
    .await;
}

#[tokio::test]
async fn a_resource_that_turns_from_ttl_to_once_is_read_no_more() {
    scene("to-once", async |s| {
        mirror(s, "db", &s.value("1"), json!({})).await;
        witness(s).await;
        s.patch("db", json!({"spec": {"refreshPolicy": "Once"}})).await;
        s.condition("db", "Fresh", "Unknown NotRechecked", SECONDS).await;
        let (reads, before) = (s.reads(&s.path("db")), versions(s, "db").await);
        ttls(s, 2).await;
        assert_eq!((s.reads(&s.path("db")), versions(s, "db").await), (reads, before));
    })
    .await;
}

#[tokio::test]
async fn under_the_policy_once_a_changed_spec_is_not_mirrored_and_says_so() {
    scene("once", async |s| {
        let object = |suffix: &str| json!({"a": s.value(&format!("a{suffix}")), "b": s.value(&format!("b{suffix}"))}).to_string();
        s.put_secret("db", &object("1")).await;
        let data = |member: &str| json!([{"key": "value", "uri": format!("aws.sm://{}#/{member}", s.path("db"))}]);
        s.apply("db", &json!({"data": data("a"), "refreshPolicy": "Once"}).to_string()).await;
        s.ready("db").await;
        says(&s.condition("db", "Fresh", "Unknown NotRechecked", SECONDS).await, "only once");
        witness(s).await;
        s.put_secret("db", &object("2")).await;
        ttls(s, 1).await;
        s.patch("db", json!({"spec": {"ttl": "20s"}})).await;
        s.ready("db").await;
        s.patch("db", json!({"spec": {"data": data("b")}})).await;
        says(&s.condition("db", "Ready", "False NotRechecked", SECONDS).await, "robotosecret.dev/refresh");
        s.patch("db", json!({"spec": {"data": data("a")}})).await;
        assert_eq!(s.ready("db").await, "1 key from 1 source");
        s.patch("db", json!({"spec": {"data": data("b"), "target": {"labels": {"team": "shop"}}}})).await;
        s.condition("db", "Ready", "False NotRechecked", SECONDS).await;
        assert_eq!(s.reads(&s.path("db")), 1);
        s.holds("db", &[("value", &s.value("a1"))], SECONDS).await;
        s.refresh("db", "1").await;
        s.ready("db").await;
        s.holds("db", &[("value", &s.value("b2"))], SECONDS).await;
        assert_eq!(s.reads(&s.path("db")), 2);
    })
    .await;
}

#[tokio::test]
async fn a_spec_mirrored_once_is_mirrored_again_on_request_though_the_store_did_not_change() {
    scene("once-same", async |s| {
        s.put_secret("db", &json!({"a": s.value("a"), "b": s.value("b")}).to_string()).await;
        let data = |member: &str| json!([{"key": "value", "uri": format!("aws.sm://{}#/{member}", s.path("db"))}]);
        s.apply("db", &json!({"data": data("a"), "refreshPolicy": "Once"}).to_string()).await;
        s.ready("db").await;
        s.patch("db", json!({"spec": {"data": data("b")}})).await;
        s.condition("db", "Ready", "False NotRechecked", SECONDS).await;
        s.refresh("db", "1").await;
        s.ready("db").await;
        s.holds("db", &[("value", &s.value("b"))], SECONDS).await;
        s.event("db", "Updated: the Secret db was updated: the spec changed").await;
    })
    .await;
}

#[tokio::test]
async fn while_suspended_nothing_is_read_or_written_until_it_is_resumed() {
    scene("suspend", async |s| {
        mirror(s, "db", &s.value("1"), json!({})).await;
        witness(s).await;
        s.patch("db", json!({"spec": {"suspend": true}})).await;
        s.condition("db", "Fresh", "Unknown Suspended", SECONDS).await;
        s.put_secret("db", &s.value("2")).await;
        s.put_secret("born", &s.value("born")).await;
        s.apply("born", &format!("{{suspend: true, data: [{{key: value, uri: 'aws.sm://{}'}}]}}", s.path("born"))).await;
        s.condition("born", "Ready", "Unknown Suspended", SECONDS).await;
        s.tamper("db", "somebody", json!({"data": {"value": null, "other": "eA=="}})).await;
        s.refresh("db", "now").await;
        let (reads, before) = (s.reads(&s.path("db")), versions(s, "db").await);
        ttls(s, 1).await;
        assert_eq!((s.reads(&s.path("db")), versions(s, "db").await), (reads, before));
        s.holds("db", &[("other", "x")], SECONDS).await;
        assert_eq!((s.reads(&s.path("born")), s.data("born").await), (0, None));
        assert_eq!(s.condition("db", "Ready", "True Mirrored", SECONDS).await, "1 key from 1 source");
        for (name, value) in [("db", s.value("2")), ("born", s.value("born"))] {
            s.patch(name, json!({"spec": {"suspend": false}})).await;
            s.holds(name, &[("value", &value)], SECONDS).await;
            s.condition(name, "Fresh", "True Verified", SECONDS).await;
            s.ready(name).await;
        }
        assert_eq!(s.status("db").await.last_handled_refresh.as_deref(), Some("now"));
    })
    .await;
}

#[tokio::test]
async fn the_refresh_annotation_reads_at_once_and_once_a_value_also_over_a_restart() {
    scene("refresh", async |s| {
        mirror(s, "db", &s.value("1"), json!({"ttl": LONG})).await;
        let id = s.path("db");
        s.put_secret("db", &s.value("2")).await;
        // Neither another annotation nor a label asks for anything.
        s.patch("db", json!({"metadata": {"annotations": {"team": "shop", "robotosecret.dev/refreshed": "1"}, "labels": {"a": "b"}}})).await;
        s.refresh("db", "one").await;
        handled(s, "one").await;
        s.holds("db", &[("value", &s.value("2"))], SECONDS).await;
        assert_eq!(s.reads(&id), 2);
        s.patch("db", json!({"metadata": {"annotations": {"robotosecret.dev/refresh": null}}})).await;
        s.refresh("db", "one").await;
        // A status takes 256 characters of it.
        s.refresh("db", &"ä".repeat(300)).await;
        handled(s, &"ä".repeat(256)).await;
        assert_eq!(s.reads(&id), 3);
        s.stop_controller();
        s.start_controller(&[]).await;
        // What is made now is looked at after what was there before.
        witness(s).await;
        assert_eq!(s.reads(&id), 3);
        s.refresh("db", "two").await;
        handled(s, "two").await;
        assert_eq!(s.reads(&id), 4);
    })
    .await;
}

#[tokio::test]
async fn ready_turns_false_when_the_store_is_down_for_longer_than_max_staleness() {
    scene("staleness", async |s| {
        mirror(s, "db", &s.value(""), json!({"maxStaleness": "20s"})).await;
        let (secret, _) = versions(s, "db").await;
        s.front.down().unwrap();
        s.refresh("db", "1").await;
        s.condition("db", "Fresh", "False ProviderUnavailable", WITHIN_TTL).await;
        s.condition("db", "Ready", "True Mirrored", Duration::from_secs(1)).await;
        says(&s.condition("db", "Ready", "False Stale", WITHIN_TTL).await, "no good recheck since");
        let status = s.status("db").await;
        let since = status.condition("Ready").unwrap().last_transition_time.0.as_second();
        let last = status.last_check_time.unwrap().0.as_second();
        assert!((19..32).contains(&(since - last)), "{since} - {last}");
        assert_eq!(versions(s, "db").await.0, secret);
        s.front.up().unwrap();
        s.ready("db").await;
        s.condition("db", "Fresh", "True Verified", SECONDS).await;
        assert_eq!(versions(s, "db").await.0, secret);
    })
    .await;
}

#[tokio::test]
async fn max_staleness_is_told_in_time_however_many_wait_for_a_store_that_hangs() {
    emulated("stale-hung", async |s| {
        let names: Vec<String> = (0..30).map(|i| format!("p{i}")).collect();
        for name in &names {
            s.put_parameter(name, &s.value(name)).await;
        }
        s.apply_all(&names, |name| json!({"uri": format!("aws.ps:///{}", s.path(name)), "maxStaleness": "20s"})).await;
        s.all("Ready", "True Mirrored", SECONDS).await;
        s.front.hang();
        // They are asked for one at a time by now, 5 s each.
        s.all("Ready", "False Stale", Duration::from_secs(60)).await;
        s.front.clear_faults();
        s.all("Ready", "True Mirrored", Duration::from_secs(90)).await;
    })
    .await;
}

#[tokio::test]
async fn a_changed_ttl_takes_effect() {
    scene("changed-ttl", async |s| {
        mirror(s, "slow", &s.value("1"), json!({"ttl": LONG})).await;
        mirror(s, "fast", &s.value("1"), json!({})).await;
        s.patch("slow", json!({"spec": {"ttl": "10s"}})).await;
        s.patch("fast", json!({"spec": {"ttl": LONG}})).await;
        for name in ["slow", "fast"] {
            s.ready(name).await;
        }
        witness(s).await;
        let reads = s.reads(&s.path("fast"));
        s.put_secret("slow", &s.value("2")).await;
        s.holds("slow", &[("value", &s.value("2"))], WITHIN_TTL).await;
        ttls(s, 1).await;
        assert_eq!(s.reads(&s.path("fast")), reads);
    })
    .await;
}

#[tokio::test]
async fn each_resource_is_rechecked_every_ttl_in_company() {
    scene("company", async |s| {
        let ids: Vec<String> = (0..6).map(|i| s.path(&format!("db-{i}"))).collect();
        for i in 0..6 {
            mirror(s, &format!("db-{i}"), &s.value("1"), json!({})).await;
        }
        // The first rechecks may come early, to find company.
        let together = async || {
            let calls: Vec<Instant> = s.front.calls().iter().filter(|call| ids.iter().all(|id| call.ids.contains(id))).map(|call| call.at).collect();
            (calls.len() >= 3).then_some(calls)
        };
        let calls = until("three rechecks of all of them at once", WITHIN_TTL * 4, together).await;
        for period in calls.windows(2).map(|pair| pair[1] - pair[0]) {
            assert!((7..14).contains(&period.as_secs()), "{period:?} between two rechecks");
        }
    })
    .await;
}

#[tokio::test]
async fn after_a_restart_only_what_is_overdue_is_read() {
    scene("restart", async |s| {
        let later: Vec<String> = (0..20).map(|i| format!("later-{i}")).collect();
        for name in &later {
            s.put_secret(name, &s.value("1")).await;
            s.apply(name, &format!("{{ttl: {LONG}, data: [{{key: value, uri: 'aws.sm://{}'}}]}}", s.path(name))).await;
        }
        for name in &later {
            s.ready(name).await;
        }
        mirror(s, "due", &s.value("1"), json!({})).await;
        s.stop_controller();
        let mut before = Vec::new();
        for name in &later {
            before.push(versions(s, name).await);
        }
        let stopped = Instant::now();
        s.put_secret("due", &s.value("2")).await;
        until("a TTL goes by", WITHIN_TTL, async || (stopped.elapsed() > Duration::from_secs(11)).then_some(())).await;
        let calls = s.front.calls().len();
        s.start_controller(&[]).await;
        s.holds("due", &[("value", &s.value("2"))], WITHIN_TTL).await;
        s.event("due", "Updated").await;
        let reads = s.reads(&s.path("due"));
        until("one more recheck", WITHIN_TTL, async || (s.reads(&s.path("due")) > reads).then_some(())).await;
        // Others may share a call with it; none has one of its own.
        let made = s.front.calls().split_off(calls);
        let own = made.iter().filter(|call| call.service != "sts" && !call.ids.contains(&s.path("due"))).count();
        assert_eq!(own, 0, "{made:?}");
        for (name, before) in later.iter().zip(before) {
            assert_eq!(versions(s, name).await, before, "{name} was written");
        }
    })
    .await;
}

#[tokio::test]
async fn a_changed_spec_is_told_only_if_the_secret_changed() {
    scene("changed-spec", async |s| {
        mirror(s, "db", &s.value(""), json!({"ttl": LONG})).await;
        let before = s.status("db").await;
        s.tamper("db", "somebody", json!({"metadata": {"annotations": {"team": "shop"}}})).await;
        let data = |key: &str| json!({"spec": {"data": [{"key": key, "store": "aws.sm", "path": s.path("db")}]}});
        s.patch("db", data("value")).await;
        s.ready("db").await;
        let (secret, _) = versions(s, "db").await;
        s.patch("db", json!({"spec": {"ttl": "2000h", "refreshPolicy": "OnChange"}})).await;
        s.condition("db", "Fresh", "Unknown NotRechecked", SECONDS).await;
        let after = s.status("db").await;
        assert_eq!((after.observed_generation, &after.last_change_time), (Some(3), &before.last_change_time));
        assert_eq!(versions(s, "db").await.0, secret);
        s.patch("db", data("other")).await;
        s.event("db", "Updated: the Secret db was updated: the spec changed").await;
        s.holds("db", &[("other", &s.value(""))], SECONDS).await;
        assert_eq!(s.told("db", "Updated").await, 1, "{:?}", s.events("db").await);
    })
    .await;
}

#[tokio::test]
async fn what_a_controller_wrote_before_it_was_killed_is_taken_back_when_the_store_took_it_back() {
    emulated_before_controller("untold", async |s| {
        s.provide(&["*"]).await;
        let whole = s.account(&[], |_| true).await;
        s.start_controller_as(&whole, &[]);
        let (one, two) = (s.value("one"), s.value("two"));
        mirror(s, "db", &one, json!({})).await;
        s.kill_controller();
        // It writes the Secret and dies before it can tell.
        let crippled = s.account(&[], |rule| rule["resources"] != json!(["robotosecrets/status"])).await;
        s.put_secret("db", &two).await;
        s.start_controller_as(&crippled, &[]);
        s.holds("db", &[("value", &two)], WITHIN_TTL).await;
        s.kill_controller();
        s.emulator().rollback(&s.path("db")).unwrap();
        let whole = s.account(&[], |_| true).await;
        s.start_controller_as(&whole, &[]);
        s.holds("db", &[("value", &one)], WITHIN_TTL).await;
    })
    .await;
}

#[tokio::test]
async fn a_check_that_a_predecessor_did_not_tell_any_more_is_told_soon_after_a_restart_and_not_an_interval_later() {
    emulated_before_controller("untold-check", async |s| {
        s.provide(&["*"]).await;
        s.start_controller(&[]).await;
        mirror(s, "db", &s.value("one"), json!({})).await;
        s.kill_controller();
        // As if controllers had followed each other, none of which lived for as long as it takes to tell.
        let (then, before) = ("2020-01-01T00:00:00Z", s.status("db").await.last_check_time.unwrap().0);
        let patch = json!({"status": {"lastCheckTime": then}});
        s.resources().patch_status("db", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        s.start_controller(&["--status-interval", "1h"]).await;
        let told = async || s.status("db").await.last_check_time.filter(|time| time.0 > before);
        until("the check of this controller is told", WITHIN_TTL * 2, told).await;
    })
    .await;
}
