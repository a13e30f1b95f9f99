//! A store that asks to slow down, fails or does not answer at all: what is mirrored stays, few calls are made, and all is well again by
//! itself.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use kube::api::ListParams;
use serde_json::json;
use testbed::{
    Emulator,
    front::{Answer, Cut, Fault, SSM_READS},
};

use super::{LONG, all_calls, all_hold, all_mirrored, at_rest, calls, mirror_parameters, mirror_secrets, names, reads, settled};
use crate::support::{SECONDS, Scene, TTL, WITHIN_TTL, emulated, emulated_before_controller, until};

/// Waits until all are mirrored; meanwhile no condition says anything but these reasons.
async fn mirrored_with(s: &Scene, names: &[String], reasons: &[&str]) {
    let all = async || {
        let all = s.resources().list(&ListParams::default()).await.unwrap().items;
        let conditions = all.iter().flat_map(|resource| resource.status.iter().flat_map(|status| &status.conditions));
        let said: BTreeSet<String> = conditions.map(|condition| condition.reason.clone()).collect();
        assert!(said.iter().all(|reason| ["Mirrored", "Verified", "Pending"].contains(&reason.as_str()) || reasons.contains(&reason.as_str())), "{said:?}");
        all.iter().all(|resource| resource.status.as_ref().is_some_and(|status| status.is_true("Ready") && status.is_true("Fresh"))).then_some(())
    };
    until("everything is mirrored", WITHIN_TTL * 3, all).await;
    all_hold(s, names).await;
}

#[tokio::test]
async fn a_store_that_throttles_gets_fewer_calls_and_everything_is_mirrored_in_the_end() {
    emulated_before_controller("quota", async |s| {
        s.provide(&["*"]).await;
        let everything = &["GetSecretValue", "BatchGetSecretValue"];
        s.front.add_fault(Fault::new(|call| everything.contains(&call.action.as_str()), Answer::Quota { per_second: 1, burst: 1 }));
        let all = names("s", 100);
        mirror_secrets(s, &all, LONG).await;
        s.start_controller(&[]).await;
        mirrored_with(s, &all, &["Throttled"]).await;
        // Five calls were needed; each step of the halving may be refused a few at once.
        assert!(all_calls(s) <= 40, "{:?}", s.front.totals());
    })
    .await;
}

#[tokio::test]
async fn below_the_quota_nothing_is_throttled() {
    emulated_before_controller("limits", async |s| {
        s.provide(&["*"]).await;
        s.limit(json!({"ssmReads": 4})).await;
        s.front.quota(SSM_READS, 5);
        let all = names("p", 50);
        mirror_parameters(s, &all, LONG).await;
        s.start_controller(&[]).await;
        mirrored_with(s, &all, &[]).await;
        let throttled: u64 = s.front.totals().values().map(|total| total.throttled).sum();
        assert_eq!(throttled, 0, "{:?}", s.front.totals());
        // Five that are full, and two for those that the first ones could not wait for.
        assert!(all_calls(s) <= 7, "{:?}", s.front.totals());
    })
    .await;
}

#[tokio::test]
async fn other_limits_hold_at_once_and_cost_no_read() {
    emulated_before_controller("relimit", async |s| {
        let all = at_rest(s, 60).await;
        let called = all_calls(s);
        s.limit(json!({"batchGetSecretValue": 1, "getSecretValue": 1})).await;
        settled(s).await;
        assert_eq!(all_calls(s), called);
        s.front.forget_calls();
        futures::future::join_all(all.iter().map(|name| s.refresh(name, "now"))).await;
        until("three more calls", WITHIN_TTL, async || (calls(s, "BatchGetSecretValue").len() >= 3).then_some(())).await;
        let made = calls(s, "BatchGetSecretValue");
        // The bucket holds one call to begin with, and a call may take its time to arrive.
        let took = made[2].at.duration_since(made[0].at);
        assert!(took > Duration::from_millis(1500), "three calls in {took:?}");
    })
    .await;
}

#[tokio::test]
async fn a_store_that_hangs_is_asked_now_and_then_and_another_does_not_notice() {
    emulated("hang", async |s| {
        let other = Emulator::start().unwrap();
        let provider = s.provide_also("other", &other.url(), &["*"]).await;
        let through_other = |spec: serde_json::Value| {
            let mut spec = spec;
            spec["provider"] = json!({"kind": "ClusterRobotoProvider", "name": provider});
            spec
        };
        let (here, there) = (names("here", 5), names("there", 5));
        mirror_secrets(s, &here, TTL).await;
        for name in &there {
            other.put_secret(&s.path(name), &s.value(name));
        }
        s.apply_all(&there, |name| through_other(reads(&format!("aws.sm://{}", s.path(name)), TTL))).await;
        let both = json!({"ttl": TTL, "data": [
            {"key": "here", "uri": format!("aws.sm://{}", s.path("here-00"))},
            {"key": "there", "uri": format!("aws.sm://{}", s.path("there-00")), "provider": {"kind": "ClusterRobotoProvider", "name": provider}},
        ]});
        s.apply("both", &both.to_string()).await;
        s.all("Ready", "True Mirrored", SECONDS).await;
        let versions = s.versions().await;

        s.front.hang();
        s.front.forget_calls();
        let started = Instant::now();
        for name in here.iter().map(String::as_str).chain(["both"]) {
            let message = s.condition(name, "Fresh", "False ProviderUnavailable", WITHIN_TTL).await;
            assert!(message.contains("did not answer within 5 s"), "{message}");
            s.condition(name, "Ready", "True Mirrored", SECONDS).await;
        }
        other.put_secret(&s.path("new"), &s.value("new"));
        let applied = Instant::now();
        s.apply("new", &through_other(reads(&format!("aws.sm://{}", s.path("new")), TTL)).to_string()).await;
        s.ready("new").await;
        // A call that hangs takes five seconds.
        assert!(applied.elapsed() < Duration::from_secs(5), "it took {:?}", applied.elapsed());
        other.put_secret(&s.path("there-01"), &s.value("2"));
        s.holds("there-01", &[("value", &s.value("2"))], WITHIN_TTL).await;
        for name in &there {
            s.condition(name, "Fresh", "True Verified", SECONDS).await;
            assert_eq!(s.told(name, "CheckFailed").await, 0);
        }
        // What hung is tried alone, at most four at a time and for five seconds each.
        let most = 4 * (usize::try_from(started.elapsed().as_secs()).unwrap() / 5 + 1);
        assert!(all_calls(s) <= most && s.front.most_in_flight() <= 6, "{} calls in {:?}", all_calls(s), started.elapsed());
        s.front.clear_faults();
        s.all("Fresh", "True Verified", WITHIN_TTL * 3).await;
        let mut after = s.versions().await;
        after.remove("new");
        after.insert("there-01".into(), versions["there-01"].clone());
        assert_eq!(after, versions);
    })
    .await;
}

#[tokio::test]
async fn waiting_for_a_read_holds_no_slot() {
    emulated_before_controller("slots", async |s| {
        s.provide(&["*"]).await;
        let other = Emulator::start().unwrap();
        let provider = s.provide_also("other", &other.url(), &["*"]).await;
        let all = names("s", 12);
        mirror_secrets(s, &all, LONG).await;
        other.put_secret(&s.path("new"), &s.value("new"));
        s.front.hang();
        s.start_controller(&["--concurrency", "2"]).await;
        until("reads are under way", SECONDS, async || (all_calls(s) > 0).then_some(())).await;
        let mut spec = reads(&format!("aws.sm://{}", s.path("new")), LONG);
        spec["provider"] = json!({"kind": "ClusterRobotoProvider", "name": provider});
        let applied = Instant::now();
        s.apply("new", &spec.to_string()).await;
        s.ready("new").await;
        // Six times as many wait as may be at work, and a call that hangs takes five seconds.
        assert!(applied.elapsed() < Duration::from_secs(15), "it took {:?}", applied.elapsed());
        s.front.clear_faults();
        all_mirrored(s, &[all, vec!["new".to_owned()]].concat()).await;
    })
    .await;
}

#[tokio::test]
async fn broken_answers_are_an_outage_and_all_is_well_after_it() {
    emulated("broken", async |s| {
        let all = names("s", 4);
        mirror_secrets(s, &all, TTL).await;
        all_mirrored(s, &all).await;
        let versions = s.versions().await;
        let cut = |place| Answer::Cut(place);
        let body = format!("{{\"SecretValues\": [{{\"SecretString\": \"{}\"", s.value("s-00"));
        for (round, answer) in [
            cut(Cut::Reset),
            cut(Cut::Close),
            cut(Cut::Head),
            cut(Cut::Body),
            Answer::Body { status: 200, body },
            Answer::Error { status: 500, code: "InternalFailure".into(), message: String::new() },
            Answer::Error { status: 503, code: "ServiceUnavailable".into(), message: String::new() },
        ]
        .into_iter()
        .enumerate()
        {
            let what = format!("{answer:?}");
            s.front.forget_calls();
            let fault = s.front.always(answer);
            for name in &all {
                s.refresh(name, &round.to_string()).await;
            }
            for name in &all {
                s.condition(name, "Fresh", "False ProviderUnavailable", SECONDS).await;
                s.condition(name, "Ready", "True Mirrored", SECONDS).await;
            }
            // Four rounds of retries take 15 s.
            assert!(all_calls(s) <= 4 * 5, "{what}: {} calls", all_calls(s));
            s.front.remove_fault(fault);
            s.all("Fresh", "True Verified", WITHIN_TTL).await;
        }
        assert_eq!(s.versions().await, versions);
    })
    .await;
}
