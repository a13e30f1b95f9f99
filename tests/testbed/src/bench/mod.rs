//! The bench: how long, how many calls, how many writes, how much memory. The controller's release binary enters, a table and a JSON file with
//! every number beside its goal leave. It never fails because a goal is missed, and always when something did not work.

mod floor;
mod meter;
mod report;
mod scenarios;
mod watch;
mod world;

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use report::{Machine, Phase, Report};
use testbed::TempFolder;

#[derive(clap::Args)]
pub struct BenchArguments {
    /// The robotosecret binary, built for release.
    #[arg(long, value_name = "PATH")]
    controller: PathBuf,
    /// How many resources; one run each. Rotation and the scenarios ssm, shared and providers use the smallest number, new ones in a wave the largest.
    #[arg(long, value_delimiter = ',', default_value = "1000,10000")]
    sizes: Vec<NonZero<usize>>,
    /// Only these scenarios. A cold start comes before steady, rotated and new in any case.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Scenario>,
    /// How many steady intervals of a minute [default: 2, above 1,000 resources 1].
    #[arg(long, value_name = "N", conflicts_with = "flat")]
    intervals: Option<usize>,
    /// Ten intervals, which show whether memory stays flat.
    #[arg(long)]
    flat: bool,
    /// Where the numbers go as JSON.
    #[arg(long, value_name = "PATH", default_value = "target/bench.json")]
    json: PathBuf,
}

/// What can be measured by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Scenario {
    /// Process start until /readyz says yes, without resources and with all.
    Ready,
    /// Process start until all are mirrored.
    Cold,
    /// Intervals in which nothing happens.
    Steady,
    /// 50 secrets get a new value at once.
    Rotated,
    /// New resources while all others are rechecked.
    New,
    /// The bare writes, without a controller.
    Floor,
    /// Parameters under a quota of 40 calls a second.
    Ssm,
    /// All resources on ten secrets.
    Shared,
    /// 200 providers, each with a chain of two roles.
    Providers,
}

/// What of all this a run does.
pub struct Plan {
    /// In rising order.
    sizes: Vec<usize>,
    only: Vec<Scenario>,
    intervals: Option<usize>,
}

impl Plan {
    fn new(arguments: &BenchArguments) -> Self {
        let mut sizes: Vec<usize> = arguments.sizes.iter().map(|size| size.get()).collect();
        sizes.sort_unstable();
        sizes.dedup();
        Self { sizes, only: arguments.only.clone(), intervals: if arguments.flat { Some(10) } else { arguments.intervals } }
    }

    fn wants(&self, scenario: Scenario) -> bool {
        self.only.is_empty() || self.only.contains(&scenario)
    }

    /// How many steady intervals at this size.
    fn intervals(&self, size: usize) -> usize {
        self.intervals.unwrap_or(if size > 1000 { 1 } else { 2 })
    }

    /// Once a run: without resources all sizes are the same.
    fn starts_empty(&self, size: usize) -> bool {
        self.wants(Scenario::Ready) && self.sizes.first() == Some(&size)
    }

    fn rotates(&self, size: usize) -> bool {
        self.wants(Scenario::Rotated) && self.sizes.first() == Some(&size)
    }

    fn waves(&self, size: usize) -> bool {
        self.wants(Scenario::New) && self.sizes.last() == Some(&size)
    }
}

/// Measures, prints the table and writes the JSON file. An error says what didn't work; what was measured before is shown all the same, and
/// the logs are kept.
pub fn run(arguments: &BenchArguments) -> Result<()> {
    let binary = std::path::absolute(&arguments.controller)?;
    if !binary.is_file() {
        bail!("there is no controller at {}; `make bench` builds it first", binary.display());
    }
    // Now, not after minutes of measuring.
    if let Some(folder) = arguments.json.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    let machine = Machine { cores: std::thread::available_parallelism().map_or(1, NonZero::get), load_before: load()? };
    let started = Instant::now();
    let logs = TempFolder::new("bench-logs")?;
    let mut phases = Vec::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(measure(&Plan::new(arguments), &binary, logs.path(), &mut phases));
    let report = Report::new(started.elapsed().as_secs_f64(), machine, u64::try_from(world::LATENCY.as_millis())?, phases);
    print!("\n{}", report.table());
    if outcome.is_err() {
        eprintln!("The logs of everything that ran are in {}", logs.keep().display());
        return outcome;
    }
    std::fs::write(&arguments.json, serde_json::to_string_pretty(&report)? + "\n").with_context(|| format!("writing {}", arguments.json.display()))?;
    println!("The same as JSON: {}", arguments.json.display());
    Ok(())
}

async fn measure(plan: &Plan, binary: &Path, logs: &Path, phases: &mut Vec<Phase>) -> Result<()> {
    let alone = [Scenario::Ssm, Scenario::Shared, Scenario::Providers];
    // Everything but what has a world of its own happens to mirrored resources.
    if plan.only.is_empty() || plan.only.iter().any(|scenario| !alone.contains(scenario)) {
        for size in &plan.sizes {
            scenarios::mirrored(plan, binary, &logs.join(size.to_string()), *size, phases).await?;
        }
    }
    let Some(smallest) = plan.sizes.first() else { bail!("--sizes is empty") };
    if plan.wants(Scenario::Ssm) {
        scenarios::ssm(binary, &logs.join("ssm"), *smallest, phases).await?;
    }
    if plan.wants(Scenario::Shared) {
        scenarios::shared(binary, &logs.join("shared"), *smallest, phases).await?;
    }
    if plan.wants(Scenario::Providers) {
        scenarios::providers(binary, &logs.join("providers"), *smallest, phases).await?;
    }
    Ok(())
}

/// How many processes wanted a core in the last minute, on average.
fn load() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").context("reading /proc/loadavg")?;
    text.split(' ').next().and_then(|number| number.parse().ok()).context("/proc/loadavg has no number")
}
