//! When what failed is tried again: after growing delays, spread so that what failed together doesn't come back together.
//!
//! Pure: a reason and a count enter, a delay leaves. When what works is rechecked is the reader's.

use std::time::Duration;

use crate::{api::Reason, reader::phase::fraction};

/// The longest pause between two tries of what fails.
pub const LONGEST_RETRY: Duration = Duration::from_mins(5);
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

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(900);

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
