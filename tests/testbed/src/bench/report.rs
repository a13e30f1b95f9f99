//! What was measured against what was wanted. Phases enter; goals, a table for people and JSON for programs leave. Pure: it must never
//! measure anything itself, and a goal that nobody measured is never called reached.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

const MIB: f64 = 1024.0 * 1024.0;

/// How much of its first interval's memory a controller may gain over [`FLAT_INTERVALS`] and still be called flat.
const FLAT_WITHIN: f64 = 1.05;

/// Over how many intervals memory has to be flat.
const FLAT_INTERVALS: usize = 10;

/// The part of a scenario that a [`Phase`] is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Process start until `/readyz` says yes.
    Ready,
    /// Process start until everything is mirrored.
    Cold,
    /// One refresh interval in which nothing happens.
    Interval,
    /// New values in the store until the Secrets hold them.
    Rotated,
    /// A new resource until its Secret is there, while all others are rechecked all the time.
    New,
    /// The bare writes.
    Floor,
    /// Cold, out of Parameter Store, under its quota.
    SsmCold,
    /// Cold, all resources on a few secrets.
    SharedCold,
    /// One TTL of those.
    SharedInterval,
    /// Cold, through 200 providers with a chain of roles each.
    ProvidersCold,
    /// One TTL of those.
    ProvidersInterval,
}

impl Step {
    fn text(self) -> &'static str {
        match self {
            Self::Ready => "start to ready",
            Self::Cold => "cold",
            Self::Interval => "interval",
            Self::Rotated => "rotated",
            Self::New => "new in a wave",
            Self::Floor => "floor",
            Self::SsmCold => "ssm, cold",
            Self::SharedCold => "shared, cold",
            Self::SharedInterval => "shared, a TTL",
            Self::ProvidersCold => "providers, cold",
            Self::ProvidersInterval => "providers, a TTL",
        }
    }
}

/// What it took: everything that happened between two looks at the controller and the store.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Calls to the store, by action; throttled ones included.
    pub calls: BTreeMap<String, u64>,
    /// How many of them were answered with `ThrottlingException`.
    pub throttled: u64,
    /// Writes to Kubernetes, by kind; failed ones included.
    pub writes: BTreeMap<String, u64>,
    /// How many of them failed.
    pub failed_writes: u64,
    /// CPU time of the controller, user and system.
    pub cpu_seconds: f64,
    /// Its resident memory at the end.
    pub memory_bytes: u64,
    /// The most that it ever had since its start.
    pub peak_bytes: u64,
}

impl Cost {
    fn all_calls(&self) -> f64 {
        number(self.calls.values().sum())
    }
}

/// One thing that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Phase {
    /// What was measured.
    pub step: Step,
    /// How many resources there were.
    pub resources: usize,
    /// How long it took; of several tries the longest.
    pub seconds: f64,
    /// All tries, where there were several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tries: Vec<f64>,
    /// What it cost; none if no controller took part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Unit {
    Seconds,
    Times,
    Count,
    Mebibytes,
}

impl Unit {
    fn text(self, number: f64) -> String {
        match self {
            Self::Seconds => format!("{number:.2} s"),
            Self::Times => format!("{number:.2} x"),
            Self::Count => thousands(number),
            Self::Mebibytes => format!("{number:.1} MiB"),
        }
    }
}

/// A number to reach.
#[derive(Clone, Debug, Serialize)]
pub struct Goal {
    what: String,
    /// Whether the limit itself is still good.
    inclusive: bool,
    limit: f64,
    unit: Unit,
    /// None: not measured in this run.
    measured: Option<f64>,
    reached: Option<bool>,
}

impl Goal {
    fn under(what: &str, limit: f64, unit: Unit, measured: Option<f64>) -> Self {
        Self { what: what.to_owned(), inclusive: false, limit, unit, measured, reached: measured.map(|measured| measured < limit) }
    }

    fn at_most(what: &str, limit: f64, unit: Unit, measured: Option<f64>) -> Self {
        Self { what: what.to_owned(), inclusive: true, limit, unit, measured, reached: measured.map(|measured| measured <= limit) }
    }

    fn row(&self) -> Vec<String> {
        let reached = match self.reached {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "-",
        };
        let wanted = format!("{} {}", if self.inclusive { "at most" } else { "under" }, self.unit.text(self.limit));
        let measured = self.measured.map_or_else(|| "not measured".to_owned(), |measured| self.unit.text(measured));
        vec![reached.to_owned(), self.what.clone(), wanted, measured]
    }
}

/// What it ran on.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Machine {
    /// How many cores the bench, the API server, etcd, the emulated AWS and the controller shared.
    pub cores: usize,
    /// The load average of the minute before: what else was going on.
    pub load_before: f64,
}

/// A finished run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// How long the run took in all.
    seconds: f64,
    machine: Machine,
    /// What a store call takes at least.
    latency_milliseconds: u64,
    goals: Vec<Goal>,
    phases: Vec<Phase>,
}

impl Report {
    /// Judges what was measured.
    pub fn new(seconds: f64, machine: Machine, latency_milliseconds: u64, phases: Vec<Phase>) -> Self {
        Self { seconds, machine, latency_milliseconds, goals: goals(&phases), phases }
    }

    /// The report for a terminal.
    pub fn table(&self) -> String {
        let mut goals = vec![["reached", "goal", "wanted", "measured"].map(str::to_owned).to_vec()];
        goals.extend(self.goals.iter().map(Goal::row));
        let header = ["phase", "resources", "time", "CPU", "memory", "peak", "store calls", "Kubernetes writes"];
        let mut phases = vec![header.map(str::to_owned).to_vec()];
        phases.extend(self.phases.iter().map(row));
        let Machine { cores, load_before } = self.machine;
        format!(
            "{}\n{}\n{} ms a store call; {cores} cores for everything, load average before {load_before:.1}; {:.0} s in all\n",
            aligned(&goals),
            aligned(&phases),
            self.latency_milliseconds,
            self.seconds
        )
    }
}

/// The numbers to reach, each for the number of resources that it was stated for.
fn goals(phases: &[Phase]) -> Vec<Goal> {
    use Unit::{Count, Mebibytes, Seconds, Times};
    let of = |step: Step, resources: usize| phases.iter().filter(move |phase| phase.step == step && phase.resources == resources);
    let time = |step, resources| worst(of(step, resources).map(|phase| phase.seconds));
    let cost = |step, resources, part: fn(&Cost) -> f64| worst(of(step, resources).filter_map(|phase| phase.cost.as_ref()).map(part));
    // Of the process that went through all of them.
    let peak = |resources| {
        let steps = [Step::Cold, Step::Interval, Step::Rotated, Step::New];
        worst(steps.into_iter().filter_map(|step| cost(step, resources, |cost| number(cost.peak_bytes) / MIB)))
    };
    let growth = |resources| {
        let ends: Vec<f64> = of(Step::Interval, resources).filter_map(|phase| Some(number(phase.cost.as_ref()?.memory_bytes))).collect();
        (ends.len() >= FLAT_INTERVALS).then(|| ends[ends.len() - 1] / ends[0])
    };
    let assumed = |cost: &Cost| number(cost.calls.get("AssumeRole").copied().unwrap_or_default());
    let providers_peak =
        worst([Step::ProvidersCold, Step::ProvidersInterval].into_iter().filter_map(|step| cost(step, 1000, |cost| number(cost.peak_bytes) / MIB)));
    let ratio = |above: Option<f64>, below: Option<f64>| Some(above? / below?);
    let secrets = |cost: &Cost| number(cost.writes.get("Secret").copied().unwrap_or_default());
    vec![
        Goal::under("1,000 cold", 5.0, Seconds, time(Step::Cold, 1000)),
        Goal::under("1,000 cold against the floor of the bare writes", 1.5, Times, ratio(time(Step::Cold, 1000), time(Step::Floor, 1000))),
        Goal::at_most("1,000 cold: store calls", 53.0, Count, cost(Step::Cold, 1000, Cost::all_calls)),
        Goal::at_most("1,000, an interval of 60 s: store calls", 55.0, Count, cost(Step::Interval, 1000, Cost::all_calls)),
        Goal::at_most("1,000, an interval of 60 s: writes to Secrets", 0.0, Count, cost(Step::Interval, 1000, secrets)),
        Goal::under("1,000, an interval of 60 s: CPU", 0.5, Seconds, cost(Step::Interval, 1000, |cost| cost.cpu_seconds)),
        Goal::under("50 of 1,000 rotated: all carried over", 62.0, Seconds, time(Step::Rotated, 1000)),
        Goal::under("a new resource in a refresh wave of 10,000", 1.0, Seconds, time(Step::New, 10_000)),
        Goal::under("1,000 SSM parameters, 40 calls/s: cold", 6.0, Seconds, time(Step::SsmCold, 1000)),
        Goal::at_most("1,000 SSM parameters, 40 calls/s: calls", 105.0, Count, cost(Step::SsmCold, 1000, Cost::all_calls)),
        Goal::at_most("1,000 SSM parameters, 40 calls/s: throttled", 0.0, Count, cost(Step::SsmCold, 1000, |cost| number(cost.throttled))),
        Goal::at_most("1,000 on 10 secrets: calls cold", 2.0, Count, cost(Step::SharedCold, 1000, Cost::all_calls)),
        Goal::at_most("1,000 on 10 secrets: calls a TTL", 1.0, Count, cost(Step::SharedInterval, 1000, Cost::all_calls)),
        Goal::under("1,000, 200 providers: cold", 12.0, Seconds, time(Step::ProvidersCold, 1000)),
        Goal::at_most("1,000, 200 providers: roles assumed, cold", 400.0, Count, cost(Step::ProvidersCold, 1000, assumed)),
        Goal::at_most("1,000, 200 providers: roles assumed, a TTL", 0.0, Count, cost(Step::ProvidersInterval, 1000, assumed)),
        Goal::under("1,000, 200 providers: peak memory", 60.0, Mebibytes, providers_peak),
        Goal::under("1,000: peak memory", 40.0, Mebibytes, peak(1000)),
        Goal::under("10,000: peak memory", 100.0, Mebibytes, peak(10_000)),
        Goal::at_most("1,000: memory after ten intervals against one", FLAT_WITHIN, Times, growth(1000)),
        Goal::at_most("10,000: memory after ten intervals against one", FLAT_WITHIN, Times, growth(10_000)),
        Goal::under("10,000 cold against 1,000", 12.0, Times, ratio(time(Step::Cold, 10_000), time(Step::Cold, 1000))),
        Goal::at_most("10,000, an interval of 60 s: store calls", 525.0, Count, cost(Step::Interval, 10_000, Cost::all_calls)),
    ]
}

fn row(phase: &Phase) -> Vec<String> {
    let time = match median(&phase.tries) {
        Some(median) => format!("{median:.2} s, worst {:.2} s", phase.seconds),
        None => format!("{:.2} s", phase.seconds),
    };
    let mut row = vec![phase.step.text().to_owned(), thousands(count(phase.resources)), time];
    if let Some(cost) = &phase.cost {
        let memory = |bytes: u64| Unit::Mebibytes.text(number(bytes) / MIB);
        row.extend([format!("{:.2} s", cost.cpu_seconds), memory(cost.memory_bytes), memory(cost.peak_bytes)]);
        row.extend([list(&cost.calls, cost.throttled, "throttled"), list(&cost.writes, cost.failed_writes, "failed")]);
    }
    row
}

fn list(counts: &BTreeMap<String, u64>, bad: u64, how: &str) -> String {
    let mut parts: Vec<String> = counts.iter().filter(|(_, count)| **count > 0).map(|(name, count)| format!("{name} {}", thousands(number(*count)))).collect();
    if parts.is_empty() {
        return "none".to_owned();
    }
    if bad > 0 {
        parts.push(format!("{} of them {how}", thousands(number(bad))));
    }
    parts.join(", ")
}

/// Columns as wide as their widest cell; the first line is underlined.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    let mut line = |cells: &[String]| {
        let padded: String = cells.iter().zip(&widths).fold(String::new(), |mut line, (cell, width)| {
            let _ = write!(line, "{cell:<width$}  ");
            line
        });
        text.push_str(padded.trim_end());
        text.push('\n');
    };
    for (index, row) in rows.iter().enumerate() {
        line(row);
        if index == 0 {
            line(&widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>());
        }
    }
    text
}

/// The middle one, of an even number the mean of the two in the middle; none of nothing.
pub fn median(numbers: &[f64]) -> Option<f64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    Some(if sorted.len() % 2 == 1 { upper } else { f64::midpoint(sorted[sorted.len() / 2 - 1], upper) })
}

/// The largest; none of nothing.
pub fn worst(numbers: impl IntoIterator<Item = f64>) -> Option<f64> {
    numbers.into_iter().reduce(f64::max)
}

/// A whole number with a comma after each three digits.
pub fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Counts and bytes stay far below the 53 bits that an f64 holds exactly.
#[allow(clippy::cast_precision_loss)]
fn number(count: u64) -> f64 {
    count as f64
}

/// A number of resources for the table.
pub fn count(resources: usize) -> f64 {
    number(resources as u64)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn counts(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
        pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    fn phase(step: Step, resources: usize, seconds: f64, cost: Option<Cost>) -> Phase {
        Phase { step, resources, seconds, tries: Vec::new(), cost }
    }

    fn reached(phases: &[Phase], goal: &str) -> Option<bool> {
        let goals = goals(phases);
        goals.iter().find(|candidate| candidate.what == goal).unwrap_or_else(|| panic!("no goal {goal:?}")).reached
    }

    #[test]
    fn median_and_worst() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(worst([]), None);
        assert_eq!(worst([1.0, 3.0, 2.0]), Some(3.0));
    }

    #[test]
    fn whole_numbers_have_commas() {
        assert_eq!([0.0, 999.0, 1000.0, 10_000.0, 1_234_567.0].map(thousands), ["0", "999", "1,000", "10,000", "1,234,567"]);
    }

    #[test]
    fn what_was_not_measured_is_neither_reached_nor_missed() {
        assert!(goals(&[]).iter().all(|goal| goal.reached.is_none() && goal.measured.is_none()));
        // Another size says nothing about the goal, and a ratio needs both.
        let others = [phase(Step::Cold, 2000, 1.0, None), phase(Step::Cold, 1000, 4.0, None)];
        assert_eq!(reached(&others, "1,000 cold"), Some(true));
        assert_eq!(reached(&others, "1,000 cold against the floor of the bare writes"), None);
        assert_eq!(reached(&others, "10,000 cold against 1,000"), None);
    }

    #[test]
    fn a_limit_that_is_met_exactly_counts_where_the_goal_says_at_most() {
        let calls = |count| Some(Cost { calls: counts(&[("BatchGetSecretValue", count)]), ..Cost::default() });
        assert_eq!(reached(&[phase(Step::Cold, 1000, 5.0, calls(53))], "1,000 cold: store calls"), Some(true));
        assert_eq!(reached(&[phase(Step::Cold, 1000, 5.0, calls(54))], "1,000 cold: store calls"), Some(false));
        assert_eq!(reached(&[phase(Step::Cold, 1000, 5.0, calls(53))], "1,000 cold"), Some(false));
    }

    #[test]
    fn the_worst_interval_is_judged() {
        let interval = |calls, secrets| {
            let cost = Cost { calls: counts(&[("BatchGetSecretValue", calls)]), writes: counts(&[("Secret", secrets), ("Status", 7)]), ..Cost::default() };
            phase(Step::Interval, 1000, 60.0, Some(cost))
        };
        let good = [interval(50, 0), interval(52, 0)];
        assert_eq!(reached(&good, "1,000, an interval of 60 s: store calls"), Some(true));
        assert_eq!(reached(&good, "1,000, an interval of 60 s: writes to Secrets"), Some(true));
        let bad = [interval(50, 0), interval(56, 1), interval(50, 0)];
        assert_eq!(reached(&bad, "1,000, an interval of 60 s: store calls"), Some(false));
        assert_eq!(reached(&bad, "1,000, an interval of 60 s: writes to Secrets"), Some(false));
    }

    #[test]
    fn memory_is_flat_only_over_ten_intervals() {
        let goal = "1,000: memory after ten intervals against one";
        let intervals = |last: u64, count: usize| -> Vec<Phase> {
            let memory = |index| if index + 1 == count { last } else { 100 };
            (0..count).map(|index| phase(Step::Interval, 1000, 60.0, Some(Cost { memory_bytes: memory(index), ..Cost::default() }))).collect()
        };
        assert_eq!(reached(&intervals(100, 9), goal), None);
        assert_eq!(reached(&intervals(105, 10), goal), Some(true));
        assert_eq!(reached(&intervals(106, 10), goal), Some(false));
    }

    #[test]
    fn the_peak_is_that_of_all_phases_of_the_process() {
        let peak = |step, mebibytes: u64| phase(step, 1000, 1.0, Some(Cost { peak_bytes: mebibytes << 20, ..Cost::default() }));
        assert_eq!(reached(&[peak(Step::Cold, 30), peak(Step::Interval, 39)], "1,000: peak memory"), Some(true));
        assert_eq!(reached(&[peak(Step::Cold, 30), peak(Step::Rotated, 41)], "1,000: peak memory"), Some(false));
        assert_eq!(reached(&[peak(Step::SsmCold, 41)], "1,000: peak memory"), None);
    }

    #[test]
    fn the_table_shows_every_goal_and_every_phase() {
        let cost = Cost {
            calls: counts(&[("GetParameters", 1100), ("PutParameter", 0)]),
            throttled: 12,
            writes: counts(&[("Secret", 1000), ("Status", 1003)]),
            failed_writes: 3,
            cpu_seconds: 1.5,
            memory_bytes: 20 << 20,
            peak_bytes: 25 << 20,
        };
        let new = Phase { tries: vec![0.1, 0.3, 0.2], ..phase(Step::New, 10_000, 0.3, None) };
        let report = Report::new(9.6, Machine { cores: 2, load_before: 0.3 }, 15, vec![phase(Step::SsmCold, 1000, 7.25, Some(cost)), new]);
        let table = report.table();
        for line in [
            "reached  goal                                             wanted           measured",
            "NO       1,000 SSM parameters, 40 calls/s: cold           under 6.00 s     7.25 s",
            "NO       1,000 SSM parameters, 40 calls/s: throttled      at most 0        12",
            "yes      a new resource in a refresh wave of 10,000       under 1.00 s     0.30 s",
            "-        1,000: peak memory                               under 40.0 MiB   not measured",
            "ssm, cold      1,000      7.25 s                1.50 s  20.0 MiB  25.0 MiB  GetParameters 1,100, 12 of them throttled  Secret 1,000, Status 1,003, 3 of them failed",
            "new in a wave  10,000     0.20 s, worst 0.30 s",
            "15 ms a store call; 2 cores for everything, load average before 0.3; 10 s in all",
        ] {
            assert!(table.lines().any(|shown| shown == line), "{line:?} is not in\n{table}");
        }
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["phases"][0]["step"], "ssm-cold");
        assert_eq!(json["phases"][0]["cost"]["calls"]["GetParameters"], 1100);
        assert_eq!(json["phases"][1]["tries"][1], 0.3);
        assert_eq!(json["goals"].as_array().unwrap().len(), goals(&[]).len());
    }
}
