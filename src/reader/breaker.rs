//! Whether a scope may be called at all: a store that doesn't answer is asked by one call at a time, until it does.
//!
//! Calls that left, answers and timeouts enter; whether a call may leave, leaves. Pure: the clock is the caller's (monotonic). It only
//! knows hanging: what failed in time is an answer here, whatever it says, and must never open it.

use std::time::{Duration, Instant};

/// How many timeouts in a row open it.
const IN_A_ROW: u32 = 2;
/// The pause before the first probe.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two probes.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// After how long a probe that nobody told the end of counts as lost. Longer than a call may take.
const LOST: Duration = Duration::from_secs(10);

/// Whether a call may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Yes,
    /// It may, and no other until its end is known.
    Probe,
    /// Not now. Ask again then, or when a call of the scope has ended.
    NotBefore(Instant),
}

/// The breaker of one scope.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    /// Timeouts since the last answer.
    in_a_row: u32,
    /// When it last opened. The timeout of a call that left before tells nothing new: neither while it is open nor once it has closed.
    opened: Option<Instant>,
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    pause: Duration,
    until: Instant,
    /// When the probe left that is under way.
    probe: Option<Instant>,
}

impl Breaker {
    /// Whether a call may leave now. If so and it does, [`Self::left`] follows before anybody else asks.
    #[must_use]
    pub fn admits(&self, now: Instant) -> Admission {
        let Some(open) = self.open else { return Admission::Yes };
        let from = open.probe.map_or(open.until, |left| left + LOST);
        if now < from { Admission::NotBefore(from) } else { Admission::Probe }
    }

    /// Whether the scope is known to hang.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Takes note of a call that leaves.
    pub fn left(&mut self, now: Instant) {
        if let Some(open) = &mut self.open {
            open.probe = Some(now);
        }
    }

    /// Takes note of an answer in time: a value, an error, a refused connection.
    pub fn answered(&mut self) {
        self.in_a_row = 0;
        self.open = None;
    }

    /// Takes note of a call that left at `left` and was not answered in time.
    pub fn timed_out(&mut self, left: Instant, now: Instant) {
        if self.opened.is_some_and(|opened| left <= opened) {
            return;
        }
        match &mut self.open {
            Some(open) if open.probe == Some(left) => {
                let pause = (open.pause * 2).min(LONGEST_PAUSE);
                *open = Open { pause, until: now + pause, probe: None };
            }
            // A probe that was given up for lost.
            Some(_) => {}
            None => {
                self.in_a_row += 1;
                if self.in_a_row >= IN_A_ROW {
                    self.opened = Some(now);
                    self.open = Some(Open { pause: FIRST_PAUSE, until: now + FIRST_PAUSE, probe: None });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after(start: Instant, seconds: f64) -> Instant {
        start + Duration::from_secs_f64(seconds)
    }

    /// A breaker that two calls of `start` opened five seconds later.
    fn opened(start: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..2 {
            assert_eq!(breaker.admits(start), Admission::Yes);
            breaker.left(start);
        }
        breaker.timed_out(start, after(start, 5.0));
        assert_eq!(breaker.admits(after(start, 5.0)), Admission::Yes, "one timeout is none");
        breaker.timed_out(start, after(start, 5.0));
        breaker
    }

    #[test]
    fn two_timeouts_in_a_row_open_it_and_an_answer_between_them_does_not() {
        let start = Instant::now();
        let mut breaker = opened(start);
        assert!(breaker.is_open());
        assert_eq!(breaker.admits(after(start, 5.0)), Admission::NotBefore(after(start, 6.0)));
        breaker.answered();
        assert_eq!(breaker.admits(after(start, 5.0)), Admission::Yes);
        for second in 0..20 {
            let left = after(start, 10.0 + f64::from(second));
            breaker.left(left);
            breaker.timed_out(left, after(left, 5.0));
            breaker.answered();
            assert!(!breaker.is_open());
        }
    }

    #[test]
    fn probes_leave_one_at_a_time_after_pauses_that_double_to_half_a_minute() {
        let start = Instant::now();
        let mut breaker = opened(start);
        let mut now = after(start, 5.0);
        for pause in [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
            let probe = after(now, pause);
            assert_eq!(breaker.admits(now), Admission::NotBefore(probe));
            assert_eq!(breaker.admits(probe.checked_sub(Duration::from_millis(1)).expect("a time")), Admission::NotBefore(probe));
            assert_eq!(breaker.admits(probe), Admission::Probe);
            breaker.left(probe);
            assert!(matches!(breaker.admits(probe), Admission::NotBefore(_)), "a second probe");
            now = after(probe, 5.0);
            assert!(matches!(breaker.admits(now), Admission::NotBefore(_)), "a second probe");
            breaker.timed_out(probe, now);
        }
        breaker.left(after(now, 30.0));
        breaker.answered();
        assert_eq!(breaker.admits(after(now, 30.0)), Admission::Yes);
        let left = after(now, 40.0);
        breaker.timed_out(left, after(left, 5.0));
        breaker.timed_out(left, after(left, 5.0));
        assert_eq!(breaker.admits(after(left, 5.0)), Admission::NotBefore(after(left, 6.0)), "the pauses begin anew");
    }

    #[test]
    fn late_timeouts_change_nothing_and_a_late_answer_closes_it() {
        let start = Instant::now();
        let mut breaker = opened(start);
        breaker.timed_out(after(start, 0.5), after(start, 5.5));
        breaker.timed_out(after(start, 4.9), after(start, 9.9));
        assert_eq!(breaker.admits(after(start, 5.5)), Admission::NotBefore(after(start, 6.0)));
        breaker.left(after(start, 6.0));
        breaker.timed_out(after(start, 4.9), after(start, 9.9));
        assert!(matches!(breaker.admits(after(start, 9.9)), Admission::NotBefore(_)), "another call's timeout was taken for the probe's");
        breaker.answered();
        assert_eq!(breaker.admits(after(start, 10.0)), Admission::Yes);
        // What left before it opened tells nothing of the time after it closed.
        breaker.timed_out(after(start, 4.9), after(start, 10.0));
        breaker.timed_out(after(start, 5.0), after(start, 10.0));
        assert_eq!(breaker.admits(after(start, 10.0)), Admission::Yes);
    }

    #[test]
    fn a_probe_that_nobody_told_the_end_of_does_not_keep_it_open() {
        let start = Instant::now();
        let mut breaker = opened(start);
        let first = after(start, 6.0);
        breaker.left(first);
        assert_eq!(breaker.admits(first), Admission::NotBefore(first + LOST));
        let second = first + LOST;
        assert_eq!(breaker.admits(second), Admission::Probe);
        breaker.left(second);
        breaker.timed_out(first, after(second, 1.0));
        assert_eq!(breaker.admits(after(second, 1.0)), Admission::NotBefore(second + LOST), "the lost probe's end is the second's");
    }

    /// What happens to one of the calls that are under way.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Asked,
        Answered(prop::sample::Index),
        TimedOut(prop::sample::Index),
    }

    proptest! {
        #[test]
        fn it_admits_one_probe_while_open_and_everything_while_closed(events in proptest::collection::vec(
            (0..3_000_u64, prop_oneof![3 => Just(Event::Asked), 1 => any::<prop::sample::Index>().prop_map(Event::Answered), 3 => any::<prop::sample::Index>().prop_map(Event::TimedOut)]),
            1..200,
        )) {
            let mut now = Instant::now();
            let mut breaker = Breaker::default();
            let mut under_way: Vec<Instant> = Vec::new();
            let (mut in_a_row, mut last_opened) = (0, None);
            for (gap, event) in events {
                now += Duration::from_millis(gap);
                let before = breaker.admits(now);
                match event {
                    Event::Asked => match before {
                        Admission::NotBefore(then) => {
                            prop_assert!(then > now && then <= now + LONGEST_PAUSE);
                            prop_assert_eq!(breaker.admits(then), Admission::Probe);
                        }
                        admission => {
                            let probes = under_way.iter().filter(|left| last_opened.is_some_and(|opened| **left > opened) && now < **left + LOST).count();
                            prop_assert!(admission == Admission::Yes || probes == 0, "{} probes are under way", probes);
                            breaker.left(now);
                            under_way.push(now);
                        }
                    },
                    Event::Answered(index) if !under_way.is_empty() => {
                        under_way.remove(index.index(under_way.len()));
                        breaker.answered();
                        in_a_row = 0;
                        prop_assert_eq!(breaker.admits(now), Admission::Yes);
                    }
                    Event::TimedOut(index) if !under_way.is_empty() => {
                        let left = under_way.remove(index.index(under_way.len()));
                        let was_open = breaker.is_open();
                        breaker.timed_out(left, now);
                        let late = last_opened.is_some_and(|opened| left <= opened);
                        if late {
                            prop_assert_eq!(breaker.admits(now), before, "a late timeout changed something");
                        } else if !was_open {
                            in_a_row += 1;
                            prop_assert_eq!(breaker.is_open(), in_a_row >= 2);
                            if breaker.is_open() {
                                last_opened = Some(now);
                                in_a_row = 0;
                            }
                        } else {
                            prop_assert!(breaker.is_open(), "a timeout closed it");
                        }
                    }
                    Event::Answered(_) | Event::TimedOut(_) => {}
                }
            }
        }
    }
}
