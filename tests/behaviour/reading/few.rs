//! Many resources, few calls and few writes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use k8s_openapi::jiff::Timestamp;
use kube::{ResourceExt, api::ListParams};
use robotosecret::api::RobotoSecret;
use serde_json::json;
use testbed::Door;

use super::{
    LATENCY, LONG, all_calls, all_hold, all_mirrored, at_rest, calls, ids, looks, mirror_parameters, mirror_secrets, names, reads, rechecked, settled,
    timeline, writes,
};
use crate::support::{SECONDS, Scene, TTL, WITHIN_TTL, emulated_before_controller, until, world};

/// How many calls all rechecks of `count` references may take in this time at the shortest TTL, `size` a call: besides full calls one a
/// TTL that is not; and the TTLs at both ends count whole.
fn at_most(count: usize, size: usize, took: Duration) -> usize {
    (count / size + 1) * (usize::try_from(took.as_secs()).unwrap() / 9 + 1)
}

/// How many calls read one of these for the first time.
fn first_reads(s: &Scene, ids: &[String]) -> usize {
    let calls = s.front.calls();
    ids.iter().map(|id| calls.iter().position(|call| call.ids.contains(id)).unwrap()).collect::<BTreeSet<_>>().len()
}

/// The resourceVersion of each resource and the time of the check that its status tells.
async fn resources(s: &Scene) -> BTreeMap<String, (Option<String>, Option<Timestamp>)> {
    let all = s.resources().list(&ListParams::default()).await.unwrap().items;
    let checked = |resource: &RobotoSecret| resource.status.as_ref().and_then(|status| Some(status.last_check_time.as_ref()?.0));
    all.iter().map(|resource| (resource.name_any(), (resource.resource_version(), checked(resource)))).collect()
}

#[tokio::test]
async fn twenty_secrets_or_ten_parameters_share_a_call_cold_and_at_every_interval() {
    emulated_before_controller("few", async |s| {
        s.provide(&["*"]).await;
        s.front.delay(LATENCY, Duration::ZERO);
        let (secrets, parameters) = (names("s", 60), names("p", 25));
        mirror_secrets(s, &secrets, TTL).await;
        mirror_parameters(s, &parameters, TTL).await;
        s.start_controller(&[]).await;
        all_mirrored(s, &[secrets.clone(), parameters.clone()].concat()).await;
        let secrets: Vec<String> = secrets.iter().map(|name| s.path(name)).collect();
        let parameters: Vec<String> = parameters.iter().map(|name| format!("/{}", s.path(name))).collect();
        for (ids, least) in [(&secrets, 3), (&parameters, 3)] {
            let cold = first_reads(s, ids);
            assert!((least..=least + 2).contains(&cold), "{} were read by {cold} calls", ids.len());
        }

        let all = [secrets, parameters].concat();
        settled(s).await;
        // The first rechecks find those whose calls they share from then on.
        rechecked(s, &all, 2).await;
        let (versions, written, looked) = (s.versions().await, (writes(s, "Secret"), writes(s, "Status")), looks(s));
        s.front.forget_calls();
        let took = rechecked(s, &all, 2).await;
        for (one, several, most) in [("GetSecretValue", "BatchGetSecretValue", at_most(60, 20, took)), ("GetParameter", "GetParameters", at_most(25, 10, took))]
        {
            let made = s.calls(one) + s.calls(several);
            assert!(made <= most, "{made} calls of {several} in {took:?}, at most {most} expected:\n{}", timeline(s));
        }
        assert_eq!(s.versions().await, versions, "a recheck that finds nothing new writes to no Secret");
        assert_eq!((writes(s, "Secret"), writes(s, "Status")), written);
        assert_eq!(looks(s).to_bits(), looked.to_bits(), "a recheck that finds nothing new has no resource looked at");
    })
    .await;
}

#[tokio::test]
async fn resources_that_read_the_same_secrets_share_the_calls_and_the_shortest_ttl_counts() {
    emulated_before_controller("shared", async |s| {
        s.provide(&["*"]).await;
        s.front.delay(LATENCY, Duration::ZERO);
        let (secrets, resources) = (names("shared", 4), names("r", 40));
        for name in &secrets {
            s.put_secret(name, &s.value(name)).await;
        }
        let source = |resource: &str| &secrets[resource[2..].parse::<usize>().unwrap() % 4];
        // One reader of each secret wants it every ten seconds, the others once an hour.
        let ttl = |resource: &str| if resource < "r-04" { TTL } else { LONG };
        s.apply_all(&resources, |name| reads(&format!("aws.sm://{}", s.path(source(name))), ttl(name))).await;
        s.start_controller(&[]).await;
        s.all("Ready", "True Mirrored", SECONDS).await;
        let ids: Vec<String> = secrets.iter().map(|name| s.path(name)).collect();
        assert!(first_reads(s, &ids) <= 2, "{}", timeline(s));
        rechecked(s, &ids, 2).await;
        s.front.forget_calls();
        let took = rechecked(s, &ids, 3).await;
        assert!(all_calls(s) <= at_most(4, 20, took), "{} calls in {took:?}:\n{}", all_calls(s), timeline(s));
        for name in &secrets {
            s.put_secret(name, &s.value(&format!("{name}-2"))).await;
        }
        for name in &resources {
            s.holds(name, &[("value", &s.value(&format!("{}-2", source(name))))], WITHIN_TTL).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_others_write_beside_our_data_costs_no_call_and_no_write() {
    emulated_before_controller("foreign", async |s| {
        let all = at_rest(s, 30).await;
        let (called, written, looked) = (all_calls(s), (writes(s, "Secret"), writes(s, "Status")), looks(s));
        for round in 0..4 {
            let annotate = async |name: &String| {
                let patch = json!({"metadata": {"annotations": {"backup.example.com/seen": round.to_string()}, "labels": {"team": "shop"}}});
                s.tamper(name, "backup", patch.clone()).await;
                s.patch(name, patch).await;
            };
            futures::future::join_all(all.iter().map(annotate)).await;
        }
        until("the controller looks at all of them", SECONDS, async || (looks(s) >= looked + 30.0).then_some(())).await;
        settled(s).await;
        assert_eq!((all_calls(s), writes(s, "Secret"), writes(s, "Status")), (called, written.0, written.1));
        all_hold(s, &all).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_unchanged_and_not_due_is_looked_at_without_a_request() {
    emulated_before_controller("no-request", async |s| {
        s.provide(&["*"]).await;
        let all = names("s", 30);
        mirror_secrets(s, &all, LONG).await;
        // By way of a door that counts.
        let door = Door::before(world().plane.url().trim_start_matches("https://").parse().unwrap()).unwrap();
        let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&world().kubeconfig).unwrap()).unwrap();
        config["clusters"][0]["cluster"]["server"] = json!(format!("https://{}", door.address()));
        let kubeconfig = world().kubeconfig.with_file_name(format!("{}.door.kubeconfig", s.namespace));
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        s.start_controller_as(&kubeconfig, &[]);
        s.controller_ready().await;
        all_mirrored(s, &all).await;
        settled(s).await;
        let (called, sent, looked) = (all_calls(s), door.sent(), looks(s));
        let annotate = async |name: &String| s.patch(name, json!({"metadata": {"annotations": {"backup.example.com/seen": "1"}}})).await;
        futures::future::join_all(all.iter().map(annotate)).await;
        until("the controller looks at all of them", SECONDS, async || (looks(s) >= looked + 30.0).then_some(())).await;
        settled(s).await;
        // A watch that begins anew is a request as well; thirty are not.
        let sent = door.sent() - sent;
        assert!(sent < 30 * 200, "{sent} bytes");
        assert_eq!(all_calls(s), called);
    })
    .await;
}

#[tokio::test]
async fn a_restart_verifies_what_is_overdue_with_few_calls_and_writes_nothing() {
    emulated_before_controller("restart", async |s| {
        s.provide(&["*"]).await;
        s.front.delay(LATENCY, Duration::ZERO);
        let all = names("s", 60);
        mirror_secrets(s, &all, TTL).await;
        let ids: Vec<String> = all.iter().map(|name| s.path(name)).collect();
        s.start_controller(&[]).await;
        // Some are written, some read, some neither.
        until("some are mirrored", SECONDS, async || (s.versions().await.len() >= 5).then_some(())).await;
        s.kill_controller();
        s.start_controller(&[]).await;
        all_mirrored(s, &all).await;
        settled(s).await;
        let (versions, written) = (s.versions().await, resources(s).await);
        s.kill_controller();
        s.front.forget_calls();
        s.start_controller(&[]).await;
        let took = rechecked(s, &ids, 1).await;
        assert!(all_calls(s) <= at_most(60, 20, took) + 1, "{} calls in {took:?}:\n{}", all_calls(s), timeline(s));
        settled(s).await;
        assert_eq!(s.versions().await, versions);
        assert_eq!(resources(s).await, written, "nothing was written, not even a time");
    })
    .await;
}

#[tokio::test]
async fn times_of_checks_are_written_at_most_five_times_a_second_and_all_get_their_turn() {
    emulated_before_controller("telling", async |s| {
        s.provide(&["*"]).await;
        let all = names("s", 80);
        mirror_secrets(s, &all, TTL).await;
        s.start_controller(&["--status-interval", "1s"]).await;
        all_mirrored(s, &all).await;
        let before = resources(s).await;
        // The queue of those who have something to tell is full from here on: eighty in ten seconds, and fifty are written.
        until("a time of a check is written", WITHIN_TTL, async || (resources(s).await != before).then_some(())).await;
        let (started, written) = (Instant::now(), writes(s, "Status"));
        until("sixty more are written", WITHIN_TTL, async || (writes(s, "Status") >= written + 60.0).then_some(())).await;
        let took = started.elapsed();
        let made = writes(s, "Status") - written;
        assert!(made <= took.as_secs_f64() * 5.0 + 3.0, "{made} in {took:?}");
        let all_told = async || resources(s).await.iter().all(|(name, (_, checked))| *checked > before[name].1).then_some(());
        until("each has told a newer check", WITHIN_TTL * 2, all_told).await;
    })
    .await;
}

#[tokio::test]
async fn a_new_resource_is_mirrored_in_the_middle_of_a_wave() {
    emulated_before_controller("wave", async |s| {
        let all = at_rest(s, 120).await;
        // Six calls from here on, one a second.
        s.limit(json!({"batchGetSecretValue": 1, "getSecretValue": 1})).await;
        settled(s).await;
        s.put_secret("new", &s.value("new")).await;
        s.front.forget_calls();
        futures::future::join_all(all.iter().map(|name| s.refresh(name, "now"))).await;
        until("the wave has begun", SECONDS, async || (all_calls(s) > 0).then_some(())).await;
        s.apply("new", &reads(&format!("aws.sm://{}", s.path("new")), LONG).to_string()).await;
        until("the new one is mirrored", SECONDS, async || s.data("new").await).await;
        let read = calls(s, "BatchGetSecretValue");
        let read = ids(&read);
        assert!(read.len() < all.len(), "{} of {} were read before the new one was mirrored", read.len(), all.len());
        all_mirrored(s, &[all, vec!["new".to_owned()]].concat()).await;
    })
    .await;
}
