//! What the bucket does in a minute of throttling: a store, a client that always has work, and a clock that jumps from millisecond to
//! millisecond. The table in docs/operations.md is this one's.

use std::{
    collections::VecDeque,
    fmt::Write,
    ops::Range,
    time::{Duration, Instant},
};

use super::Bucket;

const CEILING: f64 = 35.0;
/// How many calls the store admits in any second, when all is well.
const QUOTA: usize = 40;
/// From a call until its answer is here, in milliseconds.
const ROUND_TRIP: u32 = 50;
/// All in seconds.
const TROUBLE: Range<u32> = 10..70;
const TABLE: Range<u32> = 5..105;
const ROW: u32 = 5;

#[derive(Clone, Copy)]
enum Trouble {
    /// The store admits only so many in any second.
    Quota(usize),
    /// Another client calls once in so many milliseconds.
    ForeignClient(u32),
}

/// One millisecond.
struct Tick {
    rate: f64,
    admitted: u32,
    throttled: u32,
}

struct Run(Vec<Tick>);

impl Run {
    fn of(trouble: Trouble) -> Self {
        let start = Instant::now();
        let mut bucket = Bucket::new(CEILING, start);
        // When calls of the last second were admitted, and when the answers to refused ones arrive.
        let (mut admitted, mut refusals) = (VecDeque::new(), VecDeque::new());
        let ticks = (0..TABLE.end * 1_000).map(|millisecond| {
            let now = start + Duration::from_millis(millisecond.into());
            let in_trouble = TROUBLE.contains(&(millisecond / 1_000));
            while refusals.pop_front_if(|answer| *answer <= millisecond).is_some() {
                bucket.throttled(now);
            }
            while admitted.pop_front_if(|then| *then + 1_000 <= millisecond).is_some() {}
            let quota = match trouble {
                Trouble::Quota(quota) if in_trouble => quota,
                _ => QUOTA,
            };
            if matches!(trouble, Trouble::ForeignClient(every) if in_trouble && millisecond % every == 0) && admitted.len() < quota {
                admitted.push_back(millisecond);
            }
            let mut tick = Tick { rate: 0.0, admitted: 0, throttled: 0 };
            while bucket.take(now).is_ok() {
                if admitted.len() < quota {
                    admitted.push_back(millisecond);
                    tick.admitted += 1;
                } else {
                    refusals.push_back(millisecond + ROUND_TRIP);
                    tick.throttled += 1;
                }
            }
            Tick { rate: bucket.rate(), ..tick }
        });
        Self(ticks.collect())
    }

    fn during(&self, seconds: Range<u32>) -> &[Tick] {
        &self.0[seconds.start as usize * 1_000..seconds.end as usize * 1_000]
    }

    fn admitted(&self, seconds: Range<u32>) -> u32 {
        self.during(seconds).iter().map(|tick| tick.admitted).sum()
    }

    fn throttled(&self, seconds: Range<u32>) -> u32 {
        self.during(seconds).iter().map(|tick| tick.throttled).sum()
    }

    /// The lowest and the highest rate.
    fn rates(&self, seconds: Range<u32>) -> (f64, f64) {
        self.during(seconds).iter().fold((f64::MAX, 0.0), |(low, high), tick| (tick.rate.min(low), tick.rate.max(high)))
    }

    /// How many seconds after the trouble the rate is at the ceiling again.
    fn recovery(&self) -> u32 {
        let full = (TROUBLE.end..TABLE.end).find(|second| self.rates(*second..*second + 1).0 >= CEILING);
        full.expect("it recovers before the table ends") - TROUBLE.end
    }
}

fn less() -> Run {
    Run::of(Trouble::Quota(10))
}

fn nothing() -> Run {
    Run::of(Trouble::Quota(0))
}

fn half() -> Run {
    Run::of(Trouble::ForeignClient(50))
}

/// What holds in any trouble: none before and after it, and back at the ceiling in about half a minute.
fn holds_around_the_trouble(run: &Run) {
    assert_eq!((run.throttled(0..TROUBLE.start), run.throttled(TROUBLE.end + 2..TABLE.end)), (0, 0));
    assert!(run.admitted(0..TROUBLE.start) >= 350, "{}", run.admitted(0..TROUBLE.start));
    assert!(run.recovery() <= 34, "{}", run.recovery());
}

#[test]
fn a_smaller_quota_is_mostly_used_and_rarely_overdrawn() {
    let run = less();
    holds_around_the_trouble(&run);
    assert!(run.admitted(TROUBLE) >= 60 * 10 * 7 / 10, "{} of 600", run.admitted(TROUBLE));
    // Getting there costs some; then it is one in forty.
    assert!(run.throttled(10..15) <= 10, "{}", run.throttled(10..15));
    assert!(run.throttled(15..70) * 35 <= run.admitted(15..70), "{} beside {}", run.throttled(15..70), run.admitted(15..70));
    let (low, high) = run.rates(15..70);
    assert!(low >= 4.9 && high <= 10.0 + CEILING / 30.0, "between {low} and {high}");
}

#[test]
fn a_store_that_admits_nothing_is_asked_once_in_two_seconds() {
    let run = nothing();
    holds_around_the_trouble(&run);
    assert_eq!(run.admitted(TROUBLE), 0);
    assert!(run.throttled(10..15) <= 16, "{}", run.throttled(10..15));
    assert!((27..=28).contains(&run.throttled(15..70)), "{}", run.throttled(15..70));
    assert!(run.rates(16..70).1 <= 0.5, "{}", run.rates(16..70).1);
    assert!(run.admitted(70..75) > 0);
}

#[test]
fn what_another_client_leaves_over_is_mostly_used_and_rarely_overdrawn() {
    let run = half();
    holds_around_the_trouble(&run);
    assert!(run.admitted(TROUBLE) >= 60 * 20 * 7 / 10, "{} of 1200", run.admitted(TROUBLE));
    assert!(run.throttled(15..70) * 100 <= run.admitted(15..70), "{} beside {}", run.throttled(15..70), run.admitted(15..70));
    let (low, high) = run.rates(15..70);
    assert!(low >= 9.9 && high <= 20.0 + CEILING / 30.0, "between {low} and {high}");
}

#[test]
fn the_table_in_the_documents_is_what_happens() {
    let mut table = String::from("| second | 10/s: rate | admitted | throttled | nothing: rate | admitted | throttled | half: rate | admitted | throttled |\n");
    writeln!(table, "{}|", "|---".repeat(10)).unwrap();
    let runs = [less(), nothing(), half()];
    for from in TABLE.step_by(ROW as usize) {
        let row = from..from + ROW;
        write!(table, "| {from} to {} |", row.end).unwrap();
        for run in &runs {
            let (low, high) = run.rates(row.clone());
            let rate = if high - low < 0.05 { format!("{high:.1}") } else { format!("{low:.1} to {high:.1}") };
            write!(table, " {rate} | {} | {} |", run.admitted(row.clone()), run.throttled(row.clone())).unwrap();
        }
        table.push('\n');
    }
    let document = include_str!("../../docs/operations.md");
    assert!(document.contains(&table), "docs/operations.md should have this table:\n{table}");
}
