//! What the controller and the store have spent so far. A running controller and the emulated AWS enter, a [`Reading`] leaves; the
//! difference of two is what a phase cost. It looks from outside only: at `/proc`, `/metrics` and the emulator's counters.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use testbed::{Controller, Emulator};

use super::report::Cost;

/// Counters since the controller's start (the store's: since the emulator's).
#[derive(Clone, Debug, Default)]
pub struct Reading {
    calls: BTreeMap<String, u64>,
    throttled: u64,
    writes: BTreeMap<String, u64>,
    failed_writes: u64,
    cpu_seconds: f64,
    memory_bytes: u64,
    peak_bytes: u64,
}

impl Reading {
    /// Before there is a controller.
    pub fn of_store(emulator: &Emulator) -> Self {
        let totals = emulator.totals();
        let throttled = totals.values().map(|total| total.throttled).sum();
        Self { calls: totals.into_iter().map(|(action, total)| (action, total.calls)).collect(), throttled, ..Self::default() }
    }

    /// Now. Blocks the thread for a moment.
    pub fn take(emulator: &Emulator, controller: &Controller) -> Result<Self> {
        let (status, metrics) = controller.page("/metrics");
        if status != 200 {
            bail!("/metrics answers {status}; {}", controller.process.log_tail());
        }
        let (writes, failed_writes) = kube_writes(&metrics);
        let pid = controller.process.pid();
        let proc = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).with_context(|| format!("reading /proc/{pid}/{file}"));
        let memory = proc("status")?;
        Ok(Self {
            writes,
            failed_writes,
            cpu_seconds: cpu_seconds(&proc("stat")?).context("/proc/PID/stat has no CPU times")?,
            memory_bytes: kibibytes(&memory, "VmRSS:").context("/proc/PID/status has no VmRSS")? * 1024,
            peak_bytes: kibibytes(&memory, "VmHWM:").context("/proc/PID/status has no VmHWM")? * 1024,
            ..Self::of_store(emulator)
        })
    }

    /// What was spent between `before` and this. Memory is that of this.
    pub fn since(&self, before: &Self) -> Cost {
        Cost {
            calls: difference(&self.calls, &before.calls),
            throttled: self.throttled - before.throttled,
            writes: difference(&self.writes, &before.writes),
            failed_writes: self.failed_writes - before.failed_writes,
            cpu_seconds: self.cpu_seconds - before.cpu_seconds,
            memory_bytes: self.memory_bytes,
            peak_bytes: self.peak_bytes,
        }
    }
}

fn difference(now: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    now.iter().map(|(name, count)| (name.clone(), count - before.get(name).copied().unwrap_or_default())).collect()
}

/// Writes by kind, good or not, and how many of all failed.
fn kube_writes(metrics: &str) -> (BTreeMap<String, u64>, u64) {
    let mut writes = BTreeMap::new();
    let mut failed = 0;
    for line in metrics.lines().filter_map(|line| line.strip_prefix("robotosecret_kube_writes_total{")) {
        let Some((labels, count)) = line.rsplit_once("} ") else { continue };
        let label = |name: &str| labels.split(',').find_map(|label| label.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"'));
        let (Some(kind), Some(outcome), Ok(count)) = (label("kind"), label("outcome"), count.parse::<u64>()) else { continue };
        *writes.entry(kind.to_owned()).or_default() += count;
        if outcome != "ok" {
            failed += count;
        }
    }
    (writes, failed)
}

/// User and system time out of `/proc/PID/stat`.
fn cpu_seconds(stat: &str) -> Option<f64> {
    // Linux shows these in hundredths of a second, whatever the kernel's own clock does.
    const TICKS_A_SECOND: f64 = 100.0;
    // The second field is the program's name in brackets, which may hold spaces.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    Some((ticks(14)? + ticks(15)?) / TICKS_A_SECOND)
}

/// A line such as `VmRSS: 20480 kB` of `/proc/PID/status`.
fn kibibytes(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_counted_by_kind() {
        let metrics = "# HELP robotosecret_kube_writes Writes\n\
                       robotosecret_kube_writes_total{kind=\"Secret\",outcome=\"ok\"} 1000\n\
                       robotosecret_kube_writes_total{kind=\"Secret\",outcome=\"error\"} 2\n\
                       robotosecret_kube_writes_total{outcome=\"ok\",kind=\"Status\"} 7\n\
                       robotosecret_provider_calls_total{store=\"aws.sm\",api=\"GetSecretValue\",outcome=\"ok\"} 9\n";
        let expected = BTreeMap::from([("Secret".to_owned(), 1002), ("Status".to_owned(), 7)]);
        assert_eq!(kube_writes(metrics), (expected, 2));
    }

    #[test]
    fn proc_is_read() {
        let stat = "4711 (a b) c) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20 0 4 0 100 1 1";
        assert_eq!(cpu_seconds(stat), Some(1.75));
        assert_eq!(cpu_seconds("4711 (short) S 1"), None);
        let status = "Name:\tx\nVmPeak:\t  90000 kB\nVmHWM:\t  20480 kB\nVmRSS:\t   10240 kB\n";
        assert_eq!(kibibytes(status, "VmHWM:"), Some(20_480));
        assert_eq!(kibibytes(status, "VmRSS:"), Some(10_240));
        assert_eq!(kibibytes(status, "VmNone:"), None);
        // And the real ones.
        assert!(cpu_seconds(&std::fs::read_to_string("/proc/self/stat").unwrap()).is_some());
        assert!(kibibytes(&std::fs::read_to_string("/proc/self/status").unwrap(), "VmHWM:").is_some());
    }

    #[test]
    fn a_phase_costs_what_came_in_it() {
        let counts = |count: u64| BTreeMap::from([("GetSecretValue".to_owned(), count)]);
        let before = Reading { calls: counts(10), throttled: 1, cpu_seconds: 1.0, memory_bytes: 5, peak_bytes: 9, ..Reading::default() };
        let mut after = Reading { calls: counts(15), throttled: 1, cpu_seconds: 1.5, memory_bytes: 4, peak_bytes: 9, ..Reading::default() };
        after.calls.insert("BatchGetSecretValue".to_owned(), 3);
        let cost = after.since(&before);
        assert_eq!(cost.calls, BTreeMap::from([("GetSecretValue".to_owned(), 5), ("BatchGetSecretValue".to_owned(), 3)]));
        assert_eq!((cost.throttled, cost.memory_bytes, cost.peak_bytes), (0, 4, 9));
        assert!((cost.cpu_seconds - 0.5).abs() < 1e-9);
    }
}
