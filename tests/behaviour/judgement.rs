//! What is made of the store's answers where the spec, the provider or the store changes its mind meanwhile: which key an answer
//! belongs to, when an older version is believed, and what an edited search leaves behind.

use std::time::{Duration, Instant};

use serde_json::json;
use testbed::front::{Answer, Fault};

use crate::support::{SECONDS, Scene, WITHIN_TTL, emulated, until};

/// A TTL whose phase hardly ever falls into a test.
const LONG: &str = "1000h";

/// How many calls for values or names were made.
fn calls(s: &Scene) -> usize {
    s.front.count(|call| matches!(call.service, "secretsmanager" | "ssm"))
}

/// How often the controller has looked at a resource.
fn looks(s: &Scene) -> f64 {
    s.controller().metric("robotosecret_reconcile_seconds_count", "")
}

/// A secret `db` whose value `a` was replaced by `b` a moment ago, mirrored.
async fn rotated(s: &Scene, more: &str) {
    s.put_secret("db", &s.value("a")).await;
    s.apply("db", &format!("{{ttl: {LONG}, {more} data: [{{key: value, uri: 'aws.sm://{}'}}]}}", s.path("db"))).await;
    s.ready("db").await;
    s.put_secret("db", &s.value("b")).await;
    s.refresh("db", "rotated").await;
    s.holds("db", &[("value", &s.value("b"))], SECONDS).await;
    s.ready("db").await;
    handled(s, "rotated").await;
}

async fn handled(s: &Scene, value: &str) {
    let done = async || s.status("db").await.last_handled_refresh.filter(|handled| handled == value);
    until(&format!("the refresh {value:?} is handled"), SECONDS, done).await;
}

#[tokio::test]
async fn each_key_gets_its_own_value_although_the_provider_s_rules_change_while_it_is_read() {
    emulated("shifted", async |s| {
        for name in ["x", "y"] {
            s.put_secret(name, &json!({"user": s.value(name)}).to_string()).await;
        }
        s.put_secret("probe", &s.value("probe")).await;
        let [x, y, x_user, y_user, probe] = ["x", "y", "x/user", "y/user", "probe"].map(|name| format!("aws.sm://{}", s.path(name)));
        s.provide(&[&x, &x_user, &y, &probe]).await;
        s.apply("probe", &format!("{{ttl: {LONG}, data: [{{key: k, uri: '{probe}'}}]}}")).await;
        s.ready("probe").await;
        let held = s.front.hold_answers();
        let user_of = |name: &str| format!("aws.ps:///aws/reference/secretsmanager/{}", s.path(&format!("{name}/user")));
        let data = json!([{"key": "y", "uri": user_of("y")}, {"key": "x", "uri": user_of("x")}]);
        let before = calls(s);
        s.apply("db", &json!({"ttl": LONG, "data": data}).to_string()).await;
        until("the read is under way", SECONDS, async || (calls(s) > before).then_some(())).await;
        // What each name may stand for: of one it shrinks from two secrets to one, of the other it grows.
        s.provide(&[&x, &y, &y_user]).await;
        s.condition("probe", "Ready", "False NotAllowed", SECONDS).await;
        s.front.remove_fault(held);
        s.ready("db").await;
        s.holds("db", &[("x", &s.value("x")), ("y", &s.value("y"))], Duration::from_secs(1)).await;
    })
    .await;
}

#[tokio::test]
async fn a_version_that_was_just_replaced_is_believed_by_no_read_within_five_seconds_whatever_causes_it() {
    emulated("hasty", async |s| {
        rotated(s, "").await;
        let version = s.meta("db").await.resource_version;
        let before = calls(s);
        s.front.add_fault(Fault::new(|_| true, Answer::Stale { reads: 0, within: Duration::from_secs(3600) }).times(3));
        s.refresh("db", "one").await;
        until("the first stale read", SECONDS, async || (calls(s) > before).then_some(())).await;
        let first = Instant::now();
        s.refresh("db", "two").await;
        until("the second", SECONDS, async || (calls(s) > before + 1).then_some(())).await;
        s.patch("db", json!({"spec": {"ttl": "999h"}})).await;
        until("the third", SECONDS, async || (calls(s) > before + 2).then_some(())).await;
        assert!(first.elapsed() < Duration::from_secs(4), "the machine is too slow for this: {:?}", first.elapsed());
        handled(s, "two").await;
        assert_eq!(calls(s), before + 4, "and one that is believed");
        assert_eq!(s.meta("db").await.resource_version, version, "it never held anything else");
        s.holds("db", &[("value", &s.value("b"))], Duration::from_secs(1)).await;
    })
    .await;
}

#[tokio::test]
async fn a_doubt_that_an_outage_meets_costs_no_looks() {
    emulated("doubt-outage", async |s| {
        rotated(s, "").await;
        let before = calls(s);
        s.front.add_fault(Fault::new(|_| true, Answer::Stale { reads: 0, within: Duration::from_secs(3600) }).times(1));
        s.refresh("db", "one").await;
        until("the stale read", SECONDS, async || (calls(s) > before).then_some(())).await;
        s.front.fail(500);
        s.condition("db", "Fresh", "False ProviderUnavailable", SECONDS).await;
        let (looked, called) = (looks(s), calls(s));
        // With pauses of 1, 2 and 4 seconds.
        until("it is tried three more times", WITHIN_TTL, async || (calls(s) >= called + 3).then_some(())).await;
        let looked = looks(s) - looked;
        assert!(looked < 40.0, "{looked} looks");
        s.front.clear_faults();
        s.condition("db", "Fresh", "True Verified", WITHIN_TTL).await;
        s.holds("db", &[("value", &s.value("b"))], Duration::from_secs(1)).await;
    })
    .await;
}

#[tokio::test]
async fn under_the_policy_on_change_a_doubt_is_resolved_and_costs_no_looks() {
    emulated("doubt-on-change", async |s| {
        rotated(s, "refreshPolicy: OnChange,").await;
        let before = calls(s);
        s.emulator().rollback(&s.path("db")).unwrap();
        let looked = looks(s);
        // What makes it read is over when the answer is in doubt.
        s.secrets().delete("db", &kube::api::DeleteParams::default()).await.unwrap();
        until("the Secret is back", SECONDS, async || s.data("db").await).await;
        s.holds("db", &[("value", &s.value("a"))], Duration::from_secs(1)).await;
        assert!(calls(s) >= before + 2, "{} calls", calls(s) - before);
        let looked = looks(s) - looked;
        assert!(looked < 60.0, "{looked} looks");
    })
    .await;
}

/// What a Secret holds as soon as it is the keys of these secrets.
async fn holds_keys(s: &Scene, name: &str, keys: &[(&str, &str)]) {
    let values: Vec<(&str, String)> = keys.iter().map(|(key, secret)| (*key, s.value(secret))).collect();
    let values: Vec<(&str, &str)> = values.iter().map(|(key, value)| (*key, value.as_str())).collect();
    s.holds(name, &values, SECONDS).await;
}

#[tokio::test]
async fn what_an_edited_search_does_not_find_goes_at_once_also_where_the_new_takes_its_key() {
    emulated("edited-search", async |s| {
        for (env, name) in [("staging", "db"), ("staging", "old"), ("prod", "db")] {
            let secret = format!("{env}/{name}");
            s.put_secret(&secret, &s.value(&secret)).await;
            s.emulator().tag_secret(&s.path(&secret), &[("env", env)]).unwrap();
        }
        let spec = |policy: &str, env: &str| {
            let rewrite = json!([{"regexp": "^.*/", "replace": ""}]);
            json!({"refreshPolicy": policy, "dataFrom": [{"find": {"store": "aws.sm", "tags": {"env": env}}, "rewrite": rewrite}]}).to_string()
        };
        for (name, policy) in [("a", "TTL"), ("b", "OnChange")] {
            s.apply(name, &spec(policy, "staging")).await;
            holds_keys(s, name, &[("db", "staging/db"), ("old", "staging/old")]).await;
            s.ready(name).await;
            s.apply(name, &spec(policy, "prod")).await;
            s.ready(name).await;
            holds_keys(s, name, &[("db", "prod/db")]).await;
        }
        // Under one and the same spec a listing is not believed at once.
        s.emulator().tag_secret(&s.path("prod/db"), &[("env", "other")]).unwrap();
        let before = calls(s);
        s.refresh("a", "1").await;
        until("it is read", SECONDS, async || (s.status("a").await.last_handled_refresh.as_deref() == Some("1") && calls(s) > before).then_some(())).await;
        holds_keys(s, "a", &[("db", "prod/db")]).await;
    })
    .await;
}
