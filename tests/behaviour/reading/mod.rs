//! How the stores are asked: few calls for many resources, also when something goes wrong with one of them, with a call or with a
//! store. On an emulator that counts and misbehaves; counts are asserted here, times only in the bench.

mod company;
mod few;
mod identities;
mod moments;
mod outages;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testbed::front::Call;

use crate::support::{SECONDS, Scene, WITHIN_TTL, until};

/// Long enough for nothing to be due by itself while a test runs.
const LONG: &str = "1h";
/// A slow store. What is asked at once, on a machine that is busy with other tests, has time to gather behind the first call.
const LATENCY: Duration = Duration::from_millis(100);

/// `s-00`, `s-01`, …
fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|i| format!("{prefix}-{i:02}")).collect()
}

/// A spec that reads one reference into the key `value`.
fn reads(reference: &str, ttl: &str) -> Value {
    json!({"ttl": ttl, "data": [{"key": "value", "uri": reference}]})
}

/// Makes a secret of each name, with its name in its value, and a resource that reads it.
async fn mirror_secrets(s: &Scene, names: &[String], ttl: &str) {
    for name in names {
        s.put_secret(name, &s.value(name)).await;
    }
    s.apply_all(names, |name| reads(&format!("aws.sm://{}", s.path(name)), ttl)).await;
}

/// Makes a parameter of each name, with its name in its value, and a resource that reads it.
async fn mirror_parameters(s: &Scene, names: &[String], ttl: &str) {
    for name in names {
        s.put_parameter(name, &s.value(name)).await;
    }
    s.apply_all(names, |name| reads(&format!("aws.ps:///{}", s.path(name)), ttl)).await;
}

/// Waits until all resources are mirrored, and looks whether each Secret holds the value that was made for it.
async fn all_mirrored(s: &Scene, names: &[String]) {
    s.all("Ready", "True Mirrored", SECONDS * 2).await;
    all_hold(s, names).await;
}

/// So many mirrored secrets that are not due while the test runs, under a controller that has nothing to look at. Returns their names.
async fn at_rest(s: &mut Scene, count: usize) -> Vec<String> {
    s.provide(&["*"]).await;
    let all = names("s", count);
    mirror_secrets(s, &all, LONG).await;
    s.start_controller(&[]).await;
    all_mirrored(s, &all).await;
    settled(s).await;
    all
}

/// Looks whether each Secret holds the value that was made for it.
async fn all_hold(s: &Scene, names: &[String]) {
    for name in names {
        assert_eq!(s.data(name).await, Some(vec![("value".to_owned(), s.value(name))]), "{name}");
    }
}

/// The calls of an action so far.
fn calls(s: &Scene, action: &str) -> Vec<Call> {
    s.front.calls().into_iter().filter(|call| call.action == action).collect()
}

/// The calls so far, to be read by whoever looks for why there are so many.
fn timeline(s: &Scene) -> String {
    let calls = s.front.calls();
    let line = |call: &Call| {
        let ids: Vec<&str> = call.ids.iter().map(|id| id.rsplit('/').next().unwrap_or_default()).collect();
        format!("{:7.3} {} {:?} {}\n", call.at.duration_since(calls[0].at).as_secs_f64(), call.action, call.status, ids.join(" "))
    };
    calls.iter().map(line).collect()
}

/// All that was asked for by these calls.
fn ids(calls: &[Call]) -> BTreeSet<&str> {
    calls.iter().flat_map(|call| &call.ids).map(String::as_str).collect()
}

/// How many calls were made that read something.
fn all_calls(s: &Scene) -> usize {
    s.front.count(|call| matches!(call.service, "secretsmanager" | "ssm"))
}

/// Waits until each of these ids was asked for `times` more times. Returns how long that took.
async fn rechecked(s: &Scene, ids: &[String], times: usize) -> Duration {
    let asked = || {
        let mut asked: BTreeMap<String, usize> = ids.iter().map(|id| (id.clone(), 0)).collect();
        for id in s.front.calls().into_iter().flat_map(|call| call.ids) {
            asked.entry(id).and_modify(|count| *count += 1);
        }
        asked
    };
    let (started, before) = (Instant::now(), asked());
    let enough = async || asked().iter().all(|(id, count)| *count >= before[id] + times).then_some(());
    until("everything is rechecked", WITHIN_TTL * u32::try_from(times).unwrap(), enough).await;
    started.elapsed()
}

/// How many looks at resources the controller has made.
fn looks(s: &Scene) -> f64 {
    s.controller().metric("robotosecret_reconcile_seconds_count", "")
}

/// How many writes of a kind the controller has made.
fn writes(s: &Scene, kind: &str) -> f64 {
    s.controller().metric("robotosecret_kube_writes_total", &format!("kind=\"{kind}\""))
}

/// Waits until the controller has nothing more to look at: its own writes have come back.
async fn settled(s: &Scene) {
    let mut last = (looks(s), Instant::now());
    let quiet = async || {
        let now = looks(s);
        // The slowest of what it does by itself a moment later comes after a quarter of a second.
        if now.to_bits() != last.0.to_bits() {
            last = (now, Instant::now());
        }
        (last.1.elapsed() > Duration::from_secs(2)).then_some(())
    };
    until("the controller has nothing to look at", SECONDS, quiet).await;
}
