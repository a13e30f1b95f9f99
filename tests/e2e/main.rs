//! `make e2e`: the user's path on a real node. A statically linked binary enters; our image, our chart and pods that read Secrets run in a
//! cluster of their own, and a verdict leaves. It must never be part of `cargo test --workspace`: it needs root and Debian's packages.
//!
//! The program runs twice: [`outside`] builds images and starts the second one in namespaces of its own, [`inside`] makes the cluster in
//! them and plays the scenes. When the namespaces end, everything in them is gone; [`leftovers`] takes care of the rest and looks again.

mod faults;
mod first;
mod hold;
mod image;
mod inside;
mod leftovers;
mod modes;
mod outside;
mod previous;
mod reader;
mod stage;
mod upgrade;
mod watch;

use std::fmt::{self, Display};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use testbed::node::Cgroups;

/// Runs image and chart on a real node, with pods that read the Secrets.
#[derive(Parser)]
#[command(name = "e2e")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds the images, makes the namespaces and plays the scenes in them.
    Run(Run),
    /// Plays the scenes: what `run` starts in namespaces of its own.
    Inside(Inside),
}

#[derive(clap::Args)]
struct Run {
    /// The robotosecret binary, statically linked.
    #[arg(long, value_name = "PATH")]
    binary: PathBuf,
    /// What the image may hold, in megabytes. Only a binary for release fits into the default.
    #[arg(long, value_name = "MB", default_value_t = 32)]
    image_limit: u64,
    /// Plays these alone.
    #[arg(long, value_delimiter = ',', default_values_t = Scene::USUAL)]
    only: Vec<Scene>,
}

#[derive(clap::Args)]
struct Inside {
    /// The folder for everything.
    #[arg(long)]
    work: PathBuf,
    /// The cgroups for everything.
    #[arg(long)]
    cgroups: Cgroups,
    /// The network namespace that must not be touched.
    #[arg(long)]
    host_network: String,
    #[arg(long, value_delimiter = ',')]
    only: Vec<Scene>,
}

/// What can be shown.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scene {
    /// A pod prints a mirrored value, sees a rotation, is restarted by one.
    First,
    /// What fails under the pods' feet.
    Faults,
    /// From the previous version to this one and back.
    Upgrade,
    /// Other ways to install it.
    Modes,
    /// Nothing, until Ctrl-C: a node to try things on.
    Hold,
}

impl Scene {
    /// What is played unless something else is asked for.
    const USUAL: [Self; 4] = [Self::First, Self::Faults, Self::Upgrade, Self::Modes];
}

impl Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(arguments) => outside::run(&arguments),
        Command::Inside(arguments) => inside::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("e2e: {error:#}");
            ExitCode::FAILURE
        }
    }
}
