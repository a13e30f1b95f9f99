//! The command `testbed`: arguments to subcommand. Nothing is decided here.

mod bench;
mod demo;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use testbed::interrupt::Interrupt;
use testbed::{ControlPlane, Moto, TempFolder};

/// A real Kubernetes control plane and an emulated AWS on this machine, and the demo and the bench that run on them.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts the control plane and the emulated AWS and keeps them until Ctrl-C.
    Up,
    /// Shows robotosecret at work: secrets mirrored, rotated, and one that fails.
    Demo(DemoArguments),
    /// Puts the examples and the chart's values into the documents that show them.
    Docs,
    /// Measures the controller's time, calls, writes and memory, beside the numbers to reach. Takes about nine minutes.
    Bench(bench::BenchArguments),
}

#[derive(clap::Args)]
struct DemoArguments {
    /// The robotosecret binary.
    #[arg(long, value_name = "PATH")]
    controller: PathBuf,
    /// Leaves everything running until Enter or Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Which cluster to use.
    #[arg(long, value_enum, default_value_t = Where::New)]
    cluster: Where,
    /// Doesn't ask before it uses the current cluster.
    #[arg(long)]
    yes: bool,
}

/// The cluster that the demo runs on.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Where {
    /// A control plane of its own, gone afterwards.
    New,
    /// The cluster that kubectl's current context points at.
    Current,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Up => up(),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Docs => docs(),
        Command::Bench(arguments) => bench::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("testbed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn docs() -> Result<()> {
    for file in testbed::docs::write(&testbed::install::root()?)? {
        println!("{}", file.display());
    }
    Ok(())
}

fn up() -> Result<()> {
    let started = Instant::now();
    let logs = TempFolder::new("logs")?;
    let control_plane = ControlPlane::start(logs.path())?;
    let moto = Moto::start(logs.path())?;
    eprintln!("testbed: ready after {:.1} s, logs in {}; Ctrl-C ends it", started.elapsed().as_secs_f32(), logs.path().display());
    println!("export KUBECONFIG={}", control_plane.kubeconfig().display());
    println!("export AWS_ENDPOINT_URL={} AWS_REGION={}", moto.url(), testbed::aws::REGION);
    println!("export AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={}", testbed::aws::ACCESS_KEY_ID, testbed::aws::SECRET_ACCESS_KEY);
    let interrupt = Interrupt::install()?;
    let processes = [control_plane.etcd(), control_plane.api_server(), control_plane.controller_manager(), moto.process()];
    while !interrupt.wait(Duration::from_secs(1)) {
        if let Some(ended) = processes.iter().find(|process| !process.is_running()) {
            anyhow::bail!("a process ended by itself; {}", ended.log_tail());
        }
    }
    Ok(())
}
