//! When a reference is rechecked for the first time: at its own phase of the TTL.
//!
//! Pure: times and identifiers enter, delays leave. References with the same TTL never share a phase by accident of when they were
//! first read or when the controller started, so that rechecks don't arrive as one burst.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

/// Over how long the rechecks that are overdue when the controller starts are spread.
const RAMP: Duration = Duration::from_mins(1);

/// A stable fraction in [0, 1) for an identifier.
#[must_use]
pub fn fraction(id: &str) -> f64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    // 53 bits are what an f64 holds exactly.
    #[allow(clippy::cast_precision_loss)]
    let fraction = (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64;
    fraction
}

/// How long until the next recheck: until the next time, on the clock, that is the reference's phase within the TTL. At most a TTL.
///
/// `now` is the time since the epoch.
#[must_use]
pub fn until_recheck(id: &str, ttl: Duration, now: Duration) -> Duration {
    let period = ttl.as_secs_f64().max(1.0);
    let phase = fraction(id) * period;
    let into = (now.as_secs_f64() - phase).rem_euclid(period);
    // A time that has just come is a whole period away, not nothing.
    let rest = if period - into < 1e-3 { period } else { period - into };
    Duration::from_secs_f64(rest)
}

/// How long until the first recheck after the controller started: what is not due yet waits for its phase, what is overdue is spread
/// over a minute (or the TTL, if that is shorter), differently at each start (`salt`), so that a controller that never lives for long
/// comes to each resource once in a while.
#[must_use]
pub fn until_first_recheck(id: &str, ttl: Duration, now: Duration, last_check: Option<Duration>, salt: i128) -> Duration {
    let age = last_check.map_or(ttl, |last| now.saturating_sub(last));
    if age < ttl { until_recheck(id, ttl, now).min(ttl.saturating_sub(age)) } else { RAMP.min(ttl).mul_f64(fraction(&format!("{id}/{salt}"))) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TTL: Duration = Duration::from_secs(900);

    #[test]
    fn a_thousand_references_do_not_arrive_together() {
        let now = Duration::from_secs(1_800_000_000);
        let mut tenths = [0_usize; 10];
        for i in 0..1000 {
            let wait = until_recheck(&format!("id-{i}"), TTL, now);
            let tenth = (1..10).position(|tenth| wait < TTL / 10 * tenth).unwrap_or(9);
            tenths[tenth] += 1;
        }
        assert!(tenths.iter().all(|&count| (60..=140).contains(&count)), "{tenths:?}");
    }

    proptest! {
        #[test]
        fn a_recheck_comes_within_a_ttl_and_then_every_ttl(id in "[a-f0-9-]{36}", ttl in 10_u64..100_000, now in 1_700_000_000.0..2_000_000_000.0_f64) {
            let (ttl, now) = (Duration::from_secs(ttl), Duration::from_secs_f64(now));
            let first = until_recheck(&id, ttl, now);
            prop_assert!(first > Duration::ZERO && first <= ttl);
            let second = until_recheck(&id, ttl, now + first);
            prop_assert!(second.abs_diff(ttl) < Duration::from_millis(10), "{:?} after {:?}", second, first);
        }

        #[test]
        fn after_a_restart_nothing_waits_longer_than_a_ttl_and_the_overdue_at_most_a_minute(id in "[a-f0-9]{8}", ttl in 10_u64..10_000, age in 0_u64..20_000, salt in any::<i128>()) {
            let (ttl, now) = (Duration::from_secs(ttl), Duration::from_secs(1_800_000_000));
            let wait = until_first_recheck(&id, ttl, now, Some(now.saturating_sub(Duration::from_secs(age))), salt);
            prop_assert!(wait <= ttl);
            if Duration::from_secs(age) >= ttl {
                prop_assert!(wait <= Duration::from_secs(60));
            } else {
                prop_assert!(wait + Duration::from_secs(age) <= ttl);
            }
        }
    }
}
