//! When what failed is tried again: after growing delays, spread so that what failed together doesn't come back together.
//!
//! Pure: a reason and a count enter, a delay leaves. When what works is rechecked is the reader's.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use crate::{api::Reason, reader::phase::fraction};

/// The longest pause between two tries of what fails.
pub const LONGEST_RETRY: Duration = Duration::from_mins(5);
/// How soon to look again at what is overdue.
const OVERDUE: Duration = Duration::from_secs(1);

/// How soon to try again what failed for the `failures`th time in a row (1 is the first). `None`: not before something changes.
#[must_use]
pub fn until_retry(reason: Reason, failures: u32, ttl: Duration, jitter_id: &str) -> Option<Duration> {
    let doubling = |start: u64| Duration::from_secs(start).saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(LONGEST_RETRY);
    // Spread by up to a fifth, differently at each try.
    let jittered = |delay: Duration| delay.mul_f64(0.8 + 0.2 * fraction(&format!("{jitter_id}/{failures}")));
    match reason {
        Reason::InvalidSpec | Reason::ProviderNotFound => None,
        Reason::SourceNotFound | Reason::KeypathNotFound | Reason::InvalidKey | Reason::DecodeError | Reason::KeyCollision | Reason::TemplateError => {
            // After the doubling has run out, a missing value is as periodic as a present one.
            let delay = doubling(10);
            Some(jittered(if delay == LONGEST_RETRY { ttl.max(LONGEST_RETRY) } else { delay }))
        }
        Reason::AccessDenied | Reason::CredentialsError | Reason::NotAllowed | Reason::TargetRejected => Some(jittered(doubling(10))),
        Reason::TargetNotOwned | Reason::TargetConflict => Some(ttl.min(LONGEST_RETRY)),
        Reason::SourceDeleted => Some(ttl),
        _ => Some(jittered(doubling(1))),
    }
}

/// How soon to look at what is due after this long.
#[must_use]
pub fn until_look(due: Duration) -> Duration {
    // What is due by now has just been looked at. Whatever kept it from being done, looking at it all the time would not help.
    let due = if due.is_zero() { OVERDUE } else { due };
    // A moment later, so that it is due when it is looked at.
    due + Duration::from_millis(20)
}

/// How long until the time of the last check is worth telling, if another was told before.
#[must_use]
pub fn until_telling(last: Timestamp, told: Option<Timestamp>, now: Timestamp, interval: Duration) -> Duration {
    // What was told by a clock that was ahead is not true.
    let Some(told) = told.filter(|told| *told <= now) else { return Duration::ZERO };
    let since_told = Duration::try_from(now.duration_since(told)).unwrap_or_default();
    if since_told < interval {
        return interval.saturating_sub(since_told);
    }
    // Without a newer check there is nothing to tell; the next one may come any time.
    if last > told { Duration::ZERO } else { interval }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(900);

    #[test]
    fn the_last_check_is_told_at_the_interval_and_at_once_where_the_clock_was_ahead() {
        let at = |second: i64| Timestamp::from_second(1_000_000 + second).expect("a time");
        let until = |last: i64, told: Option<i64>| until_telling(at(last), told.map(at), at(1000), Duration::from_secs(300)).as_secs();
        assert_eq!((until(990, None), until(990, Some(900)), until(990, Some(600)), until(600, Some(600))), (0, 200, 0, 300));
        assert_eq!(until(1000, Some(90_000)), 0);
    }

    #[test]
    fn what_is_overdue_is_not_looked_at_all_the_time() {
        assert!(until_look(Duration::ZERO) >= Duration::from_secs(1));
        let soon = Duration::from_millis(5);
        assert!(until_look(soon) > soon && until_look(soon) < Duration::from_millis(100), "what is not due yet is not kept waiting");
    }

    #[test]
    fn retries_follow_the_error_table() {
        let delays =
            |reason, count: u32| -> Vec<f64> { (1..=count).filter_map(|n| until_retry(reason, n, TTL, "x")).map(|delay| delay.as_secs_f64()).collect() };
        let within = |delays: Vec<f64>, expected: &[f64]| {
            assert_eq!(delays.len(), expected.len());
            for (delay, most) in delays.iter().zip(expected) {
                assert!((most * 0.8..=*most).contains(delay), "{delays:?} against {expected:?}");
            }
        };
        within(delays(Reason::Throttled, 10), &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0]);
        within(delays(Reason::AccessDenied, 7), &[10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0]);
        within(delays(Reason::SourceNotFound, 7), &[10.0, 20.0, 40.0, 80.0, 160.0, 900.0, 900.0]);
        assert_eq!(until_retry(Reason::InvalidSpec, 1, TTL, "x"), None);
        assert_eq!(until_retry(Reason::TargetNotOwned, 9, TTL, "x"), Some(LONGEST_RETRY));
        assert_eq!(until_retry(Reason::TargetNotOwned, 9, Duration::from_secs(30), "x"), Some(Duration::from_secs(30)));
        assert!(until_retry(Reason::Throttled, u32::MAX, TTL, "x").is_some_and(|delay| delay <= LONGEST_RETRY));
    }
}
