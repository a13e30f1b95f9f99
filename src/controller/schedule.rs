//! When a resource is looked at again: rechecks on a stable phase, retries with growing delays.
//!
//! Pure: times and identifiers enter, delays leave. Two resources with the same TTL never share a phase by accident of when they
//! were made or when the controller started, so that rechecks don't arrive as one burst.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use crate::api::Reason;

/// The longest pause between two tries of what fails.
pub const LONGEST_RETRY: Duration = Duration::from_mins(5);
/// Over how long the rechecks that are overdue when the controller starts are spread.
const RAMP: Duration = Duration::from_mins(1);

/// A stable fraction in [0, 1) for an identifier.
fn fraction(id: &str) -> f64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    // 53 bits are what an f64 holds exactly.
    #[allow(clippy::cast_precision_loss)]
    let fraction = (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64;
    fraction
}

/// How long until the next recheck: until the next time, on the clock, that is this resource's phase within the TTL. At most a TTL.
///
/// `now` is the time since the epoch.
#[must_use]
pub fn until_recheck(uid: &str, ttl: Duration, now: Duration) -> Duration {
    let period = ttl.as_secs_f64().max(1.0);
    let phase = fraction(uid) * period;
    let into = (now.as_secs_f64() - phase).rem_euclid(period);
    // A time that has just come is a whole period away, not nothing.
    let rest = if period - into < 1e-3 { period } else { period - into };
    Duration::from_secs_f64(rest)
}

/// How long until the first recheck after the controller started: what is not due yet waits for its phase, what is overdue is spread
/// over a minute (or the TTL, if that is shorter), differently at each start (`salt`), so that a controller that never lives for long
/// comes to each resource once in a while.
#[must_use]
pub fn until_first_recheck(uid: &str, ttl: Duration, now: Duration, last_check: Option<Duration>, salt: i128) -> Duration {
    let age = last_check.map_or(ttl, |last| now.saturating_sub(last));
    if age < ttl { until_recheck(uid, ttl, now).min(ttl.saturating_sub(age)) } else { RAMP.min(ttl).mul_f64(fraction(&format!("{uid}/{salt}"))) }
}

/// How soon to try again what failed for the `failures`th time in a row (1 is the first). `None`: not before something changes.
#[must_use]
pub fn until_retry(reason: Reason, failures: u32, ttl: Duration, jitter_id: &str) -> Option<Duration> {
    let doubling = |start: u64| Duration::from_secs(start).saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(LONGEST_RETRY);
    // Spread by up to a fifth, differently at each try.
    let jittered = |delay: Duration| delay.mul_f64(0.8 + 0.2 * fraction(&format!("{jitter_id}/{failures}")));
    match reason {
        Reason::InvalidSpec | Reason::ProviderNotFound => None,
        Reason::SourceNotFound | Reason::KeypathNotFound | Reason::InvalidKey => {
            // After the doubling has run out, a missing value is as periodic as a present one.
            let delay = doubling(10);
            Some(jittered(if delay == LONGEST_RETRY { ttl.max(LONGEST_RETRY) } else { delay }))
        }
        Reason::AccessDenied | Reason::CredentialsError | Reason::NotAllowed | Reason::TargetRejected => Some(jittered(doubling(10))),
        Reason::TargetNotOwned => Some(ttl.min(LONGEST_RETRY)),
        _ => Some(jittered(doubling(1))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    #[test]
    fn a_thousand_resources_do_not_arrive_together() {
        let now = Duration::from_secs(1_800_000_000);
        let mut tenths = [0_usize; 10];
        for i in 0..1000 {
            let wait = until_recheck(&format!("uid-{i}"), TTL, now);
            let tenth = (1..10).position(|tenth| wait < TTL / 10 * tenth).unwrap_or(9);
            tenths[tenth] += 1;
        }
        assert!(tenths.iter().all(|&count| (60..=140).contains(&count)), "{tenths:?}");
    }

    proptest! {
        #[test]
        fn a_recheck_comes_within_a_ttl_and_then_every_ttl(uid in "[a-f0-9-]{36}", ttl in 10_u64..100_000, now in 1_700_000_000.0..2_000_000_000.0_f64) {
            let (ttl, now) = (Duration::from_secs(ttl), Duration::from_secs_f64(now));
            let first = until_recheck(&uid, ttl, now);
            prop_assert!(first > Duration::ZERO && first <= ttl);
            let second = until_recheck(&uid, ttl, now + first);
            prop_assert!(second.abs_diff(ttl) < Duration::from_millis(10), "{:?} after {:?}", second, first);
        }

        #[test]
        fn after_a_restart_nothing_waits_longer_than_a_ttl_and_the_overdue_at_most_a_minute(uid in "[a-f0-9]{8}", ttl in 10_u64..10_000, age in 0_u64..20_000, salt in any::<i128>()) {
            let (ttl, now) = (Duration::from_secs(ttl), Duration::from_secs(1_800_000_000));
            let wait = until_first_recheck(&uid, ttl, now, Some(now.saturating_sub(Duration::from_secs(age))), salt);
            prop_assert!(wait <= ttl);
            if Duration::from_secs(age) >= ttl {
                prop_assert!(wait <= Duration::from_secs(60));
            } else {
                prop_assert!(wait + Duration::from_secs(age) <= ttl);
            }
        }
    }
}
