//! What happens at the wrong moment: while a call is under way, or before the store has agreed with itself.

use std::time::{Duration, Instant};

use kube::api::DeleteParams;
use testbed::front::{Answer, Fault};

use super::{LONG, all_calls, mirror_parameters, mirror_secrets, names, reads};
use crate::support::{SECONDS, Scene, TTL, WITHIN_TTL, emulated, until};

/// One secret `db` with the value `1`, mirrored.
async fn mirrored(s: &Scene, ttl: &str) {
    s.put_secret("db", &s.value("1")).await;
    s.apply("db", &reads(&format!("aws.sm://{}", s.path("db")), ttl).to_string()).await;
    s.ready("db").await;
    s.holds("db", &[("value", &s.value("1"))], SECONDS).await;
}

/// Waits until a Secret holds a value, and that it held none of `never` on the way.
async fn becomes(s: &Scene, name: &str, value: &str, never: &[&str], limit: Duration) {
    let started = Instant::now();
    loop {
        let data = s.data(name).await.unwrap();
        assert!(never.iter().all(|never| data[0].1 != s.value(never)), "it held {data:?}");
        if data[0].1 == s.value(value) {
            return;
        }
        assert!(started.elapsed() < limit, "not {value} within {limit:?} but {data:?}\n{}", s.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_refresh_gets_what_was_put_before_it_although_a_read_is_under_way() {
    emulated("under-way", async |s| {
        mirrored(s, LONG).await;
        s.front.forget_calls();
        let held = s.front.hold_answers();
        s.refresh("db", "1").await;
        until("the first read is under way", SECONDS, async || (all_calls(s) == 1).then_some(())).await;
        s.put_secret("db", &s.value("2")).await;
        s.refresh("db", "2").await;
        until("a second read is under way", SECONDS, async || (all_calls(s) == 2).then_some(())).await;
        s.front.remove_fault(held);
        let handled = async || (s.status("db").await.last_handled_refresh.as_deref() == Some("2")).then_some(());
        until("the second refresh is handled", SECONDS, handled).await;
        s.holds("db", &[("value", &s.value("2"))], Duration::from_secs(1)).await;
        assert_eq!(all_calls(s), 2);
    })
    .await;
}

#[tokio::test]
async fn a_parameter_does_not_go_back_to_an_older_version_however_often_the_store_says_so() {
    emulated("older", async |s| {
        s.put_parameter("db", &s.value("1")).await;
        s.apply("db", &reads(&format!("aws.ps:///{}", s.path("db")), TTL).to_string()).await;
        s.holds("db", &[("value", &s.value("1"))], SECONDS).await;
        s.put_parameter("db", &s.value("2")).await;
        s.holds("db", &[("value", &s.value("2"))], WITHIN_TTL).await;
        let version = s.meta("db").await.resource_version;
        let stale = s.emulator().stale_for(Duration::from_secs(100));
        let id = format!("/{}", s.path("db"));
        // A recheck, what it calls for, and two more that are not believed either.
        let enough = s.reads(&id) + 4;
        until("the store has said so four times", WITHIN_TTL, async || (s.reads(&id) >= enough).then_some(())).await;
        assert_eq!(s.meta("db").await.resource_version, version, "the Secret went back");
        s.front.remove_fault(stale);
        s.put_parameter("db", &s.value("3")).await;
        becomes(s, "db", "3", &["1"], WITHIN_TTL).await;
    })
    .await;
}

#[tokio::test]
async fn a_resource_that_is_deleted_while_it_is_read_leaves_nothing_behind() {
    emulated("deleted", async |s| {
        mirrored(s, LONG).await;
        let all = names("s", 3);
        mirror_secrets(s, &all, LONG).await;
        s.all("Ready", "True Mirrored", SECONDS).await;
        s.front.forget_calls();
        s.front.hang();
        s.refresh("db", "1").await;
        until("the read hangs", SECONDS, async || (all_calls(s) == 1).then_some(())).await;
        s.resources().delete("db", &DeleteParams::default()).await.unwrap();
        until("the Secret is gone, too", WITHIN_TTL * 2, async || s.data("db").await.is_none().then_some(())).await;
        s.front.clear_faults();
        s.refresh("s-00", "1").await;
        let handled = async || (s.status("s-00").await.last_handled_refresh.as_deref() == Some("1")).then_some(());
        until("others are read", WITHIN_TTL, handled).await;
        assert_eq!(s.data("db").await, None);
        assert!(s.resources().get_opt("db").await.unwrap().is_none());
        mirrored(s, LONG).await;
    })
    .await;
}

#[tokio::test]
async fn a_store_that_answers_late_with_a_new_value_is_believed_when_it_does() {
    emulated("late", async |s| {
        mirrored(s, TTL).await;
        s.emulator().stale_for(Duration::from_secs(6));
        s.put_secret("db", &s.value("2")).await;
        s.refresh("db", "stale").await;
        becomes(s, "db", "2", &[], WITHIN_TTL).await;
    })
    .await;
}

#[tokio::test]
async fn a_store_that_forgets_a_new_value_for_a_moment_takes_it_from_nobody() {
    emulated("forgetful", async |s| {
        mirrored(s, TTL).await;
        s.put_secret("db", &s.value("2")).await;
        s.refresh("db", "now").await;
        becomes(s, "db", "2", &[], SECONDS).await;
        s.ready("db").await;
        let version = s.meta("db").await.resource_version;
        let called = all_calls(s);
        s.front.add_fault(Fault::new(|_| true, Answer::Stale { reads: 0, within: Duration::from_secs(3600) }).times(2));
        // The recheck sees the version before, and so does the read that it causes, which therefore is made again.
        until("it is read again", WITHIN_TTL, async || (all_calls(s) >= called + 3).then_some(())).await;
        s.condition("db", "Fresh", "True Verified", SECONDS).await;
        let called = all_calls(s);
        until("and rechecked", WITHIN_TTL, async || (all_calls(s) > called).then_some(())).await;
        assert_eq!(s.meta("db").await.resource_version, version, "it never held anything else");
    })
    .await;
}

#[tokio::test]
async fn two_reads_that_agree_on_the_version_before_are_an_emergency_rollback() {
    emulated("rollback", async |s| {
        mirrored(s, TTL).await;
        s.put_secret("db", &s.value("2")).await;
        s.refresh("db", "now").await;
        becomes(s, "db", "2", &[], SECONDS).await;
        s.ready("db").await;
        s.emulator().rollback(&s.path("db")).unwrap();
        s.front.forget_calls();
        s.refresh("db", "back").await;
        becomes(s, "db", "1", &[], WITHIN_TTL).await;
        let calls = s.front.calls();
        // One read to find it, one five seconds later to believe it.
        assert!(calls.len() >= 2 && calls[calls.len() - 1].at.duration_since(calls[0].at) > Duration::from_millis(4500), "{calls:?}");
        s.condition("db", "Fresh", "True Verified", SECONDS).await;
    })
    .await;
}

#[tokio::test]
async fn a_parameter_that_is_deleted_and_put_again_is_seen_although_its_number_is_the_same() {
    emulated("again", async |s| {
        let all = names("p", 2);
        mirror_parameters(s, &all, TTL).await;
        s.all("Ready", "True Mirrored", SECONDS).await;
        let name = format!("/{}", s.path("p-00"));
        s.emulator().delete_parameter(&name).unwrap();
        assert_eq!(s.emulator().put_parameter(&name, &s.value("again")), 1);
        s.holds("p-00", &[("value", &s.value("again"))], WITHIN_TTL).await;
        s.holds("p-01", &[("value", &s.value("p-01"))], SECONDS).await;
    })
    .await;
}
