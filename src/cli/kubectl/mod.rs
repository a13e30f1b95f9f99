//! The kubectl plugin: `kubectl robotosecret status|refresh|suspend|resume|explain|diff|tree`, the same commands under `robotosecret`.
//!
//! Arguments enter; what RobotoSecrets are about leaves on standard output, in words. It works with the rights of whoever types it. It never
//! prints a value, or anything made from one but its length. How it went is the exit code: 0 done and all is well, 1 something isn't well or
//! isn't there, 2 the arguments are wrong, 3 it is forbidden, 4 no answer in time, 5 it can't be done as it is.

mod access;
mod consumers;
mod diff;
mod explain;
mod keys;
mod kinds;
mod provider;
mod refresh;
mod source;
mod status;
mod suspend;
mod table;
mod tree;
mod tree_lines;

use std::{io, process::ExitCode, time::Duration};

use clap::{ArgGroup, Args, Subcommand};

use self::access::{Cluster, Failure};
use super::Access;

/// What whoever writes through this calls itself to the API server.
const MANAGER: &str = "kubectl-robotosecret";

/// What can be done with RobotoSecrets.
#[derive(Subcommand)]
pub enum Command {
    /// Show RobotoSecrets and RobotoPushes, those that are not well first. Exits with 1 unless all are well.
    Status {
        /// Which, RobotoPushes as push/NAME; all of the namespace when left out.
        #[arg(value_parser = name)]
        names: Vec<String>,
        /// Of all namespaces.
        #[arg(short = 'A', long, conflicts_with = "names")]
        all_namespaces: bool,
        /// How it is printed; as a table when left out.
        #[arg(short, long, value_enum)]
        output: Option<Output>,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Have the stores asked again now.
    Refresh {
        #[command(flatten)]
        which: Which,
        /// Wait until it was done, and say what came of it: for 60s at most, or as long as is written here (--wait=2m).
        #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "60s", value_parser = duration)]
        wait: Option<Duration>,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Stop reading and writing for these; what is mirrored or pushed stays.
    Suspend {
        /// Which, RobotoPushes as push/NAME.
        #[arg(required = true, value_parser = name)]
        names: Vec<String>,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Go on after suspend.
    Resume {
        /// Which, RobotoPushes as push/NAME.
        #[arg(required = true, value_parser = name)]
        names: Vec<String>,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Walk from a RobotoSecret to its provider, its references, its Secret and who uses that, and say what is wrong and what helps.
    Explain {
        /// Which; a RobotoPush, with what it is written to, as push/NAME.
        #[arg(value_parser = name)]
        name: String,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Compare, key by key, what a RobotoSecret would make with what its Secret holds. Exits with 1 if they are not the same.
    Diff {
        /// Which.
        #[arg(value_parser = name)]
        name: String,
        /// Read the stores, too, as whoever you are there, and compare the values; they are not printed.
        #[arg(long)]
        source: bool,
        #[command(flatten)]
        cluster: Cluster,
        #[command(flatten)]
        access: Access,
    },
    /// Show providers, their RobotoSecrets and RobotoPushes, the Secrets and who uses them, as a tree.
    Tree {
        /// Which, a RobotoPush as push/NAME; all of the namespace when left out.
        #[arg(value_parser = name)]
        name: Option<String>,
        /// Of all namespaces.
        #[arg(short = 'A', long, conflicts_with = "name")]
        all_namespaces: bool,
        #[command(flatten)]
        cluster: Cluster,
    },
}

/// How a status is printed.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Output {
    Json,
}

/// Which RobotoSecrets.
#[derive(Args)]
#[command(group = ArgGroup::new("which").required(true).args(["names", "all"]))]
pub struct Which {
    /// Which, RobotoPushes as push/NAME.
    #[arg(value_parser = name)]
    names: Vec<String>,
    /// All of the namespace.
    #[arg(long)]
    all: bool,
    /// With --all: of all namespaces.
    #[arg(short = 'A', long, requires = "all")]
    all_namespaces: bool,
}

/// A name as Kubernetes takes it, or one of a RobotoPush.
fn name(text: &str) -> Result<String, &'static str> {
    let plain = kinds::push_name(text).unwrap_or(text);
    let is_name = !plain.is_empty() && plain.len() <= 253 && plain.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'));
    if is_name { Ok(text.to_owned()) } else { Err("a name has lower case letters, digits, - and ., or is push/NAME") }
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    robotosecret::api::duration::parse(text).ok_or("a duration such as 10s, 5m or 1h")
}

/// Does it.
pub async fn run(command: Command) -> ExitCode {
    match Box::pin(carry_out(command)).await {
        Ok(code) => code,
        // Whoever read it has seen enough.
        Err(Failure::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            table::complain(&[&failure]);
            ExitCode::from(failure.code())
        }
    }
}

async fn carry_out(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Status { names, all_namespaces, output, cluster } => status::run(&cluster.connect(all_namespaces).await?, &names, output).await,
        Command::Refresh { which, wait, cluster } => refresh::run(&cluster.connect(which.all_namespaces).await?, &which.names, wait).await,
        Command::Suspend { names, cluster } => suspend::run(&cluster.connect(false).await?, &names, true).await,
        Command::Resume { names, cluster } => suspend::run(&cluster.connect(false).await?, &names, false).await,
        Command::Explain { name, cluster } => {
            let connection = cluster.connect(false).await?;
            match kinds::push_name(&name) {
                Some(push) => explain::push::run(&connection, push).await,
                None => explain::run(&connection, &name).await,
            }
        }
        Command::Diff { name, source, cluster, access } => Box::pin(diff::run(&cluster.connect(false).await?, &name, source.then_some(access))).await,
        Command::Tree { name, all_namespaces, cluster } => tree::run(&cluster.connect(all_namespaces).await?, name.as_deref()).await,
    }
}
