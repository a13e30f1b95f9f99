//! How fast one account is called: a token bucket a family of calls, and whose ceiling it has.
//!
//! Times, throttled answers and ceilings enter; leave to call, or the time to ask again, leaves. Pure: it makes no call, and the clock
//! is the caller's (monotonic; equal times are fine). It must never let more calls through than the rate allows, and never forget a
//! throttle because a provider was edited.
//!
//! # What a throttle does
//! - The rate is halved, at most once in half a second: what comes back within that time left before the halving and says nothing
//!   about the new rate. The tokens that are there go, so that nothing more leaves in the store's worst moment.
//! - The floor is half a call a second, whatever the ceiling. So the end of the throttling is seen within two seconds; a part of the
//!   ceiling instead would be a call in 100 s for a ceiling of 1, and useless calls every second for one of 500.
//! - The rate grows again once a second, as soon as a call at this rate had a second's time to be refused. So it doesn't move off the
//!   floor while everything is refused.
//! - A step is a thirtieth of the ceiling, so that it is back in about half a minute; and never more than the rate itself, so that a
//!   high ceiling doesn't turn a trickle into a flood in one step. Where the store takes `x` calls a second for long, the rate goes
//!   back and forth between `x / 2` and a step above `x`: with a ceiling of 35 and `x = 10`, one call in about forty is refused and a
//!   quarter of the quota is left over. A larger step would be refused more often, a smaller one would be slow to come back.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

/// What a lasting throttle leaves, in calls a second.
const FLOOR: f64 = 0.5;
/// The shortest time between two halvings.
const HALVING_PAUSE: Duration = Duration::from_millis(500);
/// How long the store has to refuse a call that left after a throttle, before the rate grows; and the time from step to step.
const STEP: Duration = Duration::from_secs(1);
/// How many steps there are from nothing to the ceiling.
const STEPS: f64 = 30.0;
/// How long a throttle is remembered: when a ceiling is raised, and after the last provider of a bucket went. Longer than it takes from
/// the floor to the ceiling.
const MEMORY: Duration = Duration::from_secs(60);
/// How much of a token may be missing: sums of fractions are not exact.
const SLACK: f64 = 1e-6;

/// A token bucket whose rate gives way to throttles.
#[derive(Clone, Debug)]
pub struct Bucket {
    ceiling: f64,
    rate: f64,
    /// Calls that may leave at once; negative after more of them left than there were tokens for.
    tokens: f64,
    /// Up to when tokens were filled in.
    filled: Instant,
    halved: Option<Instant>,
    throttled: Option<Instant>,
    /// When the rate grows by its next step; `None` at the ceiling.
    grows: Option<Instant>,
}

impl Bucket {
    /// A full bucket. `ceiling`: calls a second, above 0.
    #[must_use]
    pub fn new(ceiling: f64, now: Instant) -> Self {
        let ceiling = bounded(ceiling);
        Self { ceiling, rate: ceiling, tokens: burst(ceiling), filled: now, halved: None, throttled: None, grows: None }
    }

    /// Calls a second at the last time that was told.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// Takes a token, or tells when there will be one if nobody else takes it and no throttle comes.
    pub fn take(&mut self, now: Instant) -> Result<(), Instant> {
        self.advance(now);
        if self.tokens >= 1.0 - SLACK {
            self.tokens -= 1.0;
            return Ok(());
        }
        let mut ahead = self.clone();
        loop {
            // Rounding up: a nanosecond early is a token that isn't there.
            let there = ahead.filled + Duration::from_secs_f64((1.0 - ahead.tokens).max(0.0) / ahead.rate) + Duration::from_nanos(1);
            match ahead.grows {
                Some(step) if step < there => ahead.advance(step),
                _ => return Err(there),
            }
        }
    }

    /// Counts calls that left without asking: the further pages of an answer.
    pub fn owe(&mut self, calls: u32) {
        self.tokens -= f64::from(calls);
    }

    /// Takes note of a throttled answer.
    pub fn throttled(&mut self, now: Instant) {
        self.advance(now);
        self.tokens = self.tokens.min(0.0);
        if self.halved.is_none_or(|last| now.saturating_duration_since(last) >= HALVING_PAUSE) {
            self.rate = (self.rate / 2.0).max(FLOOR.min(self.ceiling));
            self.halved = Some(now);
        }
        self.throttled = Some(now);
        self.grows = Some(now + Duration::from_secs_f64(1.0 / self.rate) + STEP);
    }

    /// Another ceiling. A lower one holds at once; a higher one too, unless a throttle of the last minute speaks against it: then the
    /// rate grows from where it is.
    pub fn set_ceiling(&mut self, ceiling: f64, now: Instant) {
        self.advance(now);
        self.ceiling = bounded(ceiling);
        let lately = self.throttled.is_some_and(|last| now.saturating_duration_since(last) < MEMORY);
        self.rate = if lately { self.rate.min(self.ceiling) } else { self.ceiling };
        self.grows = if self.rate < self.ceiling { self.grows.or(Some(now + STEP)) } else { None };
    }

    fn advance(&mut self, now: Instant) {
        while let Some(step) = self.grows.filter(|step| *step <= now) {
            self.fill(step);
            self.rate = (self.rate + self.rate.min(self.ceiling / STEPS)).min(self.ceiling);
            self.grows = (self.rate < self.ceiling).then(|| step + STEP);
        }
        self.fill(now);
    }

    fn fill(&mut self, to: Instant) {
        let passed = to.saturating_duration_since(self.filled);
        self.tokens = (self.tokens + self.rate * passed.as_secs_f64()).min(burst(self.rate));
        self.filled += passed;
    }
}

/// A tenth of a second's worth, so that a second never sees more than a tenth above the rate: 35 a second is never throttled by a store
/// that takes 40 in any second.
fn burst(rate: f64) -> f64 {
    (rate / 10.0).max(1.0)
}

/// Keeps times finite, whatever the ceiling; no number is the lowest.
fn bounded(ceiling: f64) -> f64 {
    if ceiling > 0.01 { ceiling.min(1e6) } else { 0.01 }
}

/// Calls that share a limit of the store, by the name that the metrics and `spec.aws.limits` use for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Family(pub &'static str);

/// Whose calls share a bucket: an account (see [`Provider::account`](crate::provider::Provider::account)) and a family of calls.
pub type Budget = (Arc<str>, Family);

/// The buckets of all accounts. Each has the lowest ceiling that any of its providers asks for.
#[derive(Debug, Default)]
pub struct Budgets(HashMap<Budget, Shared>);

#[derive(Debug)]
struct Shared {
    bucket: Bucket,
    /// The ceilings by provider; never empty unless `left` is set.
    ceilings: BTreeMap<String, f64>,
    /// When the last provider went.
    left: Option<Instant>,
}

impl Budgets {
    /// Takes a provider in, or its changed account or ceiling. `ceiling`: calls a second, above 0.
    pub fn enlist(&mut self, id: &str, account: &Arc<str>, family: Family, ceiling: f64, now: Instant) {
        self.drop_where(id, now, |(other, of)| *of == family && other != account);
        let shared =
            self.0.entry((account.clone(), family)).or_insert_with(|| Shared { bucket: Bucket::new(ceiling, now), ceilings: BTreeMap::new(), left: None });
        shared.ceilings.insert(id.to_owned(), ceiling);
        shared.settle(now);
    }

    /// Lets a provider go.
    pub fn dismiss(&mut self, id: &str, now: Instant) {
        self.drop_where(id, now, |_| true);
    }

    /// The bucket in front of these calls, if a provider is there or was until a minute ago.
    pub fn bucket(&mut self, budget: &Budget) -> Option<&mut Bucket> {
        self.0.get_mut(budget).map(|shared| &mut shared.bucket)
    }

    fn drop_where(&mut self, id: &str, now: Instant, here: impl Fn(&Budget) -> bool) {
        for (_, shared) in self.0.iter_mut().filter(|(budget, _)| here(budget)) {
            if shared.ceilings.remove(id).is_some() {
                shared.settle(now);
            }
        }
        self.0.retain(|_, shared| shared.left.is_none_or(|left| now.saturating_duration_since(left) < MEMORY));
    }
}

impl Shared {
    fn settle(&mut self, now: Instant) {
        match self.ceilings.values().copied().reduce(f64::min) {
            Some(lowest) => {
                self.bucket.set_ceiling(lowest, now);
                self.left = None;
            }
            None => self.left = Some(now),
        }
    }
}

mod turns;

pub use turns::{CALL_LIMIT, Calls, Turns, lock};

#[cfg(test)]
mod minute;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SSM: Family = Family("SsmReads");

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    /// How many calls leave from `from` on for so long, by a caller that always has work and asks when it is told to.
    fn calls(bucket: &mut Bucket, from: Instant, length: Duration) -> u32 {
        let (mut now, mut count) = (from, 0);
        while now < from + length {
            match bucket.take(now) {
                Ok(()) => count += 1,
                Err(there) => now = there,
            }
        }
        count
    }

    #[test]
    fn it_gives_the_ceiling_and_at_most_a_tenth_of_a_second_more() {
        let start = Instant::now();
        for (ceiling, in_the_first_second, later) in [(35.0, 38, 35), (50.0, 54, 50), (500.0, 549, 500), (1.0, 1, 1)] {
            let mut bucket = Bucket::new(ceiling, start);
            assert_eq!(calls(&mut bucket, start, seconds(1.0)), in_the_first_second, "at {ceiling}");
            let in_ten_seconds = calls(&mut bucket, start + seconds(1.0), seconds(10.0));
            assert!((later * 10 - 1..=later * 10 + 1).contains(&in_ten_seconds), "{in_ten_seconds} in ten seconds at {ceiling}");
        }
    }

    #[test]
    fn throttled_answers_that_come_together_halve_the_rate_twice_a_second() {
        let start = Instant::now();
        let mut bucket = Bucket::new(32.0, start);
        let mut rates = Vec::new();
        for millisecond in 0..4_000 {
            bucket.throttled(start + Duration::from_millis(millisecond));
            rates.push(bucket.rate());
        }
        for (millisecond, rate) in [(0, 16.0), (499, 16.0), (500, 8.0), (999, 8.0), (1000, 4.0), (2499, 1.0), (2500, 0.5), (3999, 0.5_f64)] {
            assert_eq!(rates[millisecond].to_bits(), rate.to_bits(), "after {millisecond} ms");
        }
        assert_eq!(calls(&mut bucket, start + seconds(4.0), seconds(1.9)), 0, "the tokens that were there are gone");
        assert_eq!(calls(&mut bucket, start + seconds(5.9), seconds(0.2)), 1, "at the floor there is a call every two seconds");
    }

    #[test]
    fn a_low_ceiling_still_leaves_a_call_every_two_seconds() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1.0, start);
        for second in 0..10 {
            bucket.throttled(start + seconds(f64::from(second)));
        }
        assert_eq!(bucket.rate().to_bits(), 0.5_f64.to_bits());
        let mut lower = Bucket::new(0.25, start);
        lower.throttled(start);
        assert_eq!(lower.rate().to_bits(), 0.25_f64.to_bits(), "a ceiling below the floor is its own floor");
    }

    #[test]
    fn it_is_back_at_the_ceiling_after_half_a_minute_and_at_most_doubles_in_a_second() {
        for ceiling in [1.0, 10.0, 35.0, 50.0, 500.0, 10_000.0] {
            let start = Instant::now();
            let mut bucket = Bucket::new(ceiling, start);
            let mut now = start;
            while bucket.rate() > FLOOR {
                bucket.throttled(now);
                now += HALVING_PAUSE;
            }
            let (throttled, mut before) = (now, bucket.rate());
            while bucket.rate() < ceiling {
                assert!(now < throttled + seconds(60.0), "{ceiling}: {} after {:?}", bucket.rate(), now - throttled);
                now += seconds(1.0);
                let _ = bucket.take(now);
                assert!((before..=2.0 * before + 1e-9).contains(&bucket.rate()), "{ceiling}: from {before} to {}", bucket.rate());
                before = bucket.rate();
            }
            let took = now - throttled;
            assert!(took < seconds(48.0) && (ceiling > 500.0 || took < seconds(38.0)), "{ceiling}: {took:?}");
            assert!(ceiling < 10.0 || took > seconds(25.0), "{ceiling}: {took:?}");
        }
    }

    #[test]
    fn further_pages_are_paid_back_before_the_next_call() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10.0, start);
        assert_eq!(bucket.take(start), Ok(()));
        bucket.owe(4);
        let there = bucket.take(start).expect_err("four calls are owed");
        assert!((there - start).abs_diff(seconds(0.5)) < Duration::from_micros(1), "{:?}", there - start);
    }

    #[test]
    fn a_lower_ceiling_holds_at_once_and_a_higher_one_unless_the_store_throttled_lately() {
        let start = Instant::now();
        let mut bucket = Bucket::new(50.0, start);
        bucket.set_ceiling(10.0, start);
        assert_eq!(calls(&mut bucket, start, seconds(1.0)), 10);
        bucket.set_ceiling(40.0, start + seconds(1.0));
        assert_eq!(bucket.rate().to_bits(), 40.0_f64.to_bits());
        bucket.throttled(start + seconds(2.0));
        bucket.set_ceiling(5.0, start + seconds(3.0));
        bucket.set_ceiling(30.0, start + seconds(3.0));
        assert_eq!(bucket.rate().to_bits(), 5.0_f64.to_bits(), "a throttle a second ago, and the ceiling jumps");
        let _ = bucket.take(start + seconds(4.0));
        assert_eq!(bucket.rate().to_bits(), 6.0_f64.to_bits());
        let _ = bucket.take(start + seconds(60.0));
        bucket.set_ceiling(60.0, start + seconds(62.0));
        assert_eq!(bucket.rate().to_bits(), 60.0_f64.to_bits());
    }

    #[test]
    fn any_ceiling_at_all_gives_a_time_and_no_panic() {
        let start = Instant::now();
        for ceiling in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, f64::MAX] {
            let mut bucket = Bucket::new(ceiling, start);
            bucket.owe(u32::MAX);
            bucket.throttled(start);
            let there = bucket.take(start).expect_err("much is owed");
            assert_eq!(bucket.take(there), Ok(()), "{ceiling}");
        }
    }

    #[test]
    fn a_told_time_is_always_later_however_high_the_rate() {
        let mut now = Instant::now();
        let mut bucket = Bucket::new(700_001.0, now);
        bucket.throttled(now);
        for _ in 0..10_000 {
            let there = bucket.take(now).expect_err("each token is taken at once");
            assert!(there > now);
            assert_eq!(bucket.take(there), Ok(()));
            now = there;
        }
    }

    /// What is done to a bucket, and how long after the last.
    #[derive(Clone, Copy, Debug)]
    enum Deed {
        Take,
        Throttled,
        Owe(u32),
        Ceiling(f64),
    }

    fn deeds() -> impl Strategy<Value = Vec<(Duration, Deed)>> {
        let deed = prop_oneof![
            12 => Just(Deed::Take),
            2 => Just(Deed::Throttled),
            1 => (1..6_u32).prop_map(Deed::Owe),
            1 => (1.0..200.0).prop_map(Deed::Ceiling),
        ];
        let gap = prop_oneof![
            4 => Just(Duration::ZERO),
            4 => (0..1_000_000_u64).prop_map(Duration::from_nanos),
            8 => (0..200_u64).prop_map(Duration::from_millis),
            1 => (0..40_u64).prop_map(Duration::from_secs),
        ];
        proptest::collection::vec((gap, deed), 1..400)
    }

    proptest! {
        #[test]
        fn no_window_sees_more_than_its_rate_and_a_burst(ceiling in 0.6..200.0, deeds in deeds()) {
            let mut now = Instant::now();
            let mut bucket = Bucket::new(ceiling, now);
            // When it was asked, the rate then, and whether a call left. Between two deeds the rate only grows.
            let mut log: Vec<(Instant, f64, bool)> = Vec::new();
            for (gap, deed) in deeds {
                now += gap;
                let left = bucket.take(now).is_ok();
                log.push((now, bucket.rate(), left));
                match deed {
                    Deed::Take => {}
                    Deed::Throttled => bucket.throttled(now),
                    Deed::Owe(calls) => bucket.owe(calls),
                    Deed::Ceiling(ceiling) => bucket.set_ceiling(ceiling, now),
                }
            }
            for first in 0..log.len() {
                let (mut highest, mut calls) = (0.0_f64, 0.0_f64);
                for (at, rate, left) in &log[first..] {
                    highest = highest.max(*rate);
                    calls += f64::from(u8::from(*left));
                    let window = *at - log[first].0;
                    prop_assert!(calls <= highest * window.as_secs_f64() + burst(highest) + 0.001, "{} calls in {:?} at {} a second", calls, window, highest);
                }
            }
        }

        #[test]
        fn the_told_time_is_kept_and_is_not_late(ceiling in 0.6..200.0, deeds in deeds()) {
            let mut now = Instant::now();
            let mut bucket = Bucket::new(ceiling, now);
            for (gap, deed) in deeds {
                now += gap;
                match deed {
                    Deed::Take => if let Err(there) = bucket.take(now) {
                        prop_assert!(there > now);
                        // Whether or not somebody asks in between.
                        let mut other = bucket.clone();
                        let _ = other.take(now + (there - now) / 3);
                        prop_assert_eq!(other.take(there), Ok(()));
                        prop_assert_eq!(bucket.clone().take(there), Ok(()));
                        let early = there.checked_sub(Duration::from_millis(1)).filter(|early| *early > now);
                        prop_assert!(early.is_none_or(|early| bucket.clone().take(early).is_err()), "there is one before {:?}", there - now);
                    },
                    Deed::Throttled => bucket.throttled(now),
                    Deed::Owe(calls) => bucket.owe(calls),
                    Deed::Ceiling(ceiling) => bucket.set_ceiling(ceiling, now),
                }
            }
        }

        #[test]
        fn the_rate_stays_between_floor_and_ceiling_and_is_halved_twice_a_second_at_most(ceiling in 0.6..200.0, deeds in deeds()) {
            let mut now = Instant::now();
            let mut bucket = Bucket::new(ceiling, now);
            let (mut ceiling, mut halvings) = (ceiling, Vec::new());
            for (gap, deed) in deeds {
                now += gap;
                // Brings the rate up to date.
                let _ = bucket.take(now);
                let before = bucket.rate();
                match deed {
                    Deed::Take => {}
                    Deed::Throttled => {
                        bucket.throttled(now);
                        prop_assert!(bucket.take(now).is_err(), "a token is left after a throttle");
                    }
                    Deed::Owe(calls) => bucket.owe(calls),
                    Deed::Ceiling(other) => {
                        bucket.set_ceiling(other, now);
                        ceiling = other;
                    }
                }
                prop_assert!((FLOOR..=ceiling).contains(&bucket.rate()), "{} of {}", bucket.rate(), ceiling);
                if matches!(deed, Deed::Throttled) && bucket.rate() < before {
                    prop_assert!(bucket.rate() >= before / 2.0);
                    halvings.push(now);
                }
            }
            for three in halvings.windows(3) {
                prop_assert!(three[2] - three[0] >= Duration::from_secs(1), "three halvings in {:?}", three[2] - three[0]);
            }
        }

        #[test]
        fn what_is_owed_is_paid(ceiling in 1.0..200.0, owed in 0..50_u32) {
            let start = Instant::now();
            let mut bucket = Bucket::new(ceiling, start);
            let free = calls(&mut bucket.clone(), start, seconds(60.0));
            bucket.owe(owed);
            let paying = calls(&mut bucket, start, seconds(60.0));
            prop_assert!(free.abs_diff(paying + owed) <= 1, "{} without, {} with {} owed", free, paying, owed);
        }
    }

    fn rate(budgets: &mut Budgets, account: &str) -> Option<f64> {
        budgets.bucket(&(account.into(), SSM)).map(|bucket| bucket.rate())
    }

    #[test]
    fn a_shared_bucket_has_the_lowest_ceiling_of_those_who_are_there() {
        let (start, account) = (Instant::now(), Arc::from("1"));
        let mut budgets = Budgets::default();
        budgets.enlist("a", &account, SSM, 35.0, start);
        budgets.enlist("b", &account, SSM, 20.0, start);
        budgets.enlist("c", &account, SSM, 30.0, start);
        budgets.enlist("b", &account, Family("Sts"), 1.0, start);
        assert_eq!(rate(&mut budgets, "1"), Some(20.0));
        budgets.dismiss("b", start);
        assert_eq!(rate(&mut budgets, "1"), Some(30.0));
        budgets.enlist("a", &account, SSM, 10.0, start);
        assert_eq!(rate(&mut budgets, "1"), Some(10.0), "an edited ceiling takes the place of the old");
        budgets.enlist("a", &Arc::from("2"), SSM, 10.0, start);
        assert_eq!((rate(&mut budgets, "1"), rate(&mut budgets, "2")), (Some(30.0), Some(10.0)), "a provider that changed its account");
    }

    #[test]
    fn a_throttle_outlives_an_edit_but_a_bucket_without_provider_goes() {
        let (start, account) = (Instant::now(), Arc::from("1"));
        let mut budgets = Budgets::default();
        budgets.enlist("a", &account, SSM, 32.0, start);
        budgets.bucket(&(account.clone(), SSM)).expect("a bucket").throttled(start);
        budgets.dismiss("a", start + seconds(0.1));
        budgets.enlist("a", &account, SSM, 64.0, start + seconds(0.2));
        assert_eq!(rate(&mut budgets, "1"), Some(16.0));
        let is_there = |budgets: &mut Budgets, second| {
            budgets.dismiss("nobody", start + seconds(second));
            rate(budgets, "1").is_some()
        };
        assert!(is_there(&mut budgets, 100.0), "it has a provider again");
        budgets.dismiss("a", start + seconds(101.0));
        assert!(is_there(&mut budgets, 160.9));
        assert!(!is_there(&mut budgets, 161.0));
    }
}
