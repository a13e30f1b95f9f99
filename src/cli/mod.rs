//! The command line for values: reading, listing, describing and writing them. Arguments enter; values leave on standard output, and on nothing else.
//!
//! Errors go to standard error in one line and never hold a value. How it went is the exit code:
//! 0 done, 1 it isn't there, 2 the arguments are wrong, 3 it is denied, 4 the store doesn't answer, 5 it can't be done as it is, 6 somebody else was faster.

#![allow(clippy::doc_markdown)] // `--help` prints them, where backticks and brackets are noise.

pub mod kubectl;
mod output;
mod progress;
mod writing;

use std::{
    cell::Cell,
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use clap::{
    Args, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};
use clap_complete::Shell;
use futures::TryStreamExt;
use robotosecret::{
    Secrets,
    api::{
        http::{ADDRESS, is_address},
        reference::Store,
    },
    provider::search::{Search, SearchError},
    proxy::Proxy,
    secrets::{Error, Secret},
};

use self::output::{Format, Unprintable};

/// What can be done with values.
#[derive(Subcommand)]
pub enum Command {
    /// Print the value that a reference names.
    ///
    /// A reference is STORE://NAME[?VERSION][#/MEMBER], such as aws.sm://prod/db#/password, aws.ps:///prod/url, vault://kv/shop/db, or an ARN. Raw,
    /// the value is printed byte for byte, with a line end only if standard output is a terminal.
    Get {
        /// What to read.
        reference: String,
        /// How it is printed.
        #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "raw")]
        output: Format,
        #[command(flatten)]
        access: Access,
    },
    /// Tell by the exit code whether there is something: 0 if so, 1 if not.
    Exists {
        /// What to look for; with a member, whether the value has it.
        reference: String,
        #[command(flatten)]
        access: Access,
    },
    /// Print the references of what lies below a path, or of what a search finds.
    List {
        /// A path, such as aws.ps:///prod/app, aws.sm://prod/ or vault://kv/shop; or a store alone (aws.sm), to be searched by name or tags.
        path: String,
        /// Only those whose names match this regular expression.
        #[arg(long, value_name = "EXPRESSION")]
        name: Option<String>,
        /// Only those that have this tag (AWS only); as often as needed.
        #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = tag)]
        tags: Vec<(String, String)>,
        /// Only what lies directly below the path.
        #[arg(long, conflicts_with_all = ["name", "tags"])]
        flat: bool,
        /// Read the values, too, and print all as one object, by reference.
        #[arg(long, value_enum, value_name = "FORMAT", conflicts_with_all = ["name", "tags"])]
        values: Option<Structured>,
        #[command(flatten)]
        access: Access,
    },
    /// Print what is known about something, without its value: version, times, description, tags, key.
    Describe {
        /// What to describe.
        reference: String,
        /// How it is printed.
        #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "yaml")]
        output: Structured,
        #[command(flatten)]
        access: Access,
    },
    #[command(flatten)]
    Write(writing::Write),
}

/// How several values are printed.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Structured {
    Json,
    Yaml,
}

impl Structured {
    const fn format(self) -> Format {
        match self {
            Self::Json => Format::Json,
            Self::Yaml => Format::Yaml,
        }
    }
}

/// Where the stores are and as whom they are read. Vault, Edge, Roboto and Envase are set up by environment variables alone.
#[derive(Args)]
#[command(next_help_heading = "AWS")]
pub struct Access {
    /// The profile of AWS's configuration files.
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// AWS's region.
    #[arg(long, value_parser = region)]
    region: Option<String>,
    /// One address of all of AWS's services, for emulators.
    #[arg(long, value_name = "URL", value_parser = endpoint)]
    endpoint: Option<String>,
    /// The ARN of a role to assume.
    #[arg(long, value_name = "ARN")]
    assume_role: Option<String>,
    /// The external id that the role asks for.
    #[arg(long, value_name = "ID", requires = "assume_role")]
    external_id: Option<String>,
}

impl Access {
    /// The stores, as these arguments and the environment say.
    pub async fn client(self) -> Result<Secrets, Error> {
        if let Some(Err(problem)) = Proxy::of_aws().as_ref().map(Proxy::address) {
            say(&format!("robotosecret: {problem}. AWS is called without it"));
        }
        let builder = Secrets::builder().no_cache();
        let builder = self.profile.into_iter().fold(builder, robotosecret::secrets::Builder::profile);
        let builder = self.region.into_iter().fold(builder, robotosecret::secrets::Builder::region);
        let builder = self.endpoint.into_iter().fold(builder, robotosecret::secrets::Builder::endpoint);
        let external_id = self.external_id;
        let builder = self.assume_role.into_iter().fold(builder, |builder, role| builder.role(role, external_id.clone()));
        builder.from_env()?.build().await
    }
}

/// Why a command ended without doing what it was told.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Store(#[from] Error),
    #[error(transparent)]
    Output(#[from] Unprintable),
    /// Nobody reads any more what is printed, or the disk is full.
    #[error("standard output: {0}")]
    Write(#[from] io::Error),
    #[error("{0} can't be read: {1}")]
    Read(String, io::ErrorKind),
    #[error("the value is read from standard input, and that is a terminal, which would show it; pipe the value in, or name a --file")]
    NoValue,
    #[error("{0} is longer than a store keeps")]
    TooLong(String),
    #[error("{0}")]
    Arguments(String),
}

/// The exit code for what a store said.
const fn store_code(error: &Error) -> u8 {
    match error {
        Error::NotFound(_) | Error::KeypathNotFound(_) => 1,
        Error::InvalidName(_) => 2,
        Error::AccessDenied(_) => 3,
        Error::Throttled(_) | Error::Unavailable(_) => 4,
        Error::AlreadyExists(_) | Error::Conflict { .. } => 6,
        _ => 5,
    }
}

impl Failure {
    const fn code(&self) -> u8 {
        match self {
            Self::Store(error) => store_code(error),
            Self::NoValue | Self::Arguments(_) => 2,
            Self::Output(_) | Self::Write(_) | Self::Read(..) | Self::TooLong(_) => 5,
        }
    }
}

/// Says what is wrong with the arguments, without repeating any of them.
pub fn misunderstood(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand) {
        let _ = error.print();
        return ExitCode::from(u8::from(error.use_stderr()) * 2);
    }
    let named = |kind: ContextKind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(all)) => all.join(", "),
        _ => String::new(),
    };
    // The names of our own arguments, never what was typed.
    let ours = |kind| Some(named(kind)).filter(|name| !name.is_empty());
    let problem = match error.kind() {
        ErrorKind::UnknownArgument => {
            let takes_value = std::env::args().nth(1).is_some_and(|command| ["create", "update", "put"].contains(&command.as_str()));
            let value = if takes_value { "; a value goes to standard input, into a --file or behind --value" } else { "" };
            format!("an argument that is not known here{value}")
        }
        ErrorKind::InvalidSubcommand => "there is no such command".to_owned(),
        ErrorKind::MissingRequiredArgument => format!("missing: {}", named(ContextKind::InvalidArg)),
        ErrorKind::ArgumentConflict => format!("{} can't be used with {}", named(ContextKind::InvalidArg), named(ContextKind::PriorArg)),
        ErrorKind::InvalidValue => match ours(ContextKind::ValidValue) {
            Some(valid) => format!("{}: one of {valid}", named(ContextKind::InvalidArg)),
            None => format!("{} takes something", named(ContextKind::InvalidArg)),
        },
        ErrorKind::ValueValidation => {
            let wanted = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            format!("{}: {wanted}", named(ContextKind::InvalidArg))
        }
        _ => "the arguments can't be understood".to_owned(),
    };
    say(&format!("robotosecret: {problem}; see --help"));
    ExitCode::from(2)
}

/// A line for people. That nobody can read it changes nothing.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Prints what makes a shell complete a command: static, so that pressing the key calls no store.
pub fn complete(mut command: clap::Command, name: &str, shell: Shell) -> ExitCode {
    // Its script for bash takes a hyphen in the name of a program for one between its commands.
    let plain = if shell == Shell::Bash { name.replace('-', "_") } else { name.to_owned() };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, &plain, &mut script);
    let script = String::from_utf8_lossy(&script).replace(&format!("default {plain}\n"), &format!("default {name}\n"));
    ended(print(script.as_bytes()).map(|()| ExitCode::SUCCESS))
}

/// Does it.
pub async fn run(command: Command) -> ExitCode {
    ended(Box::pin(carry_out(command)).await)
}

fn ended(how: Result<ExitCode, Failure>) -> ExitCode {
    match how {
        Ok(code) => code,
        // Whoever read it has seen enough.
        Err(Failure::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            say(&format!("robotosecret: {failure}"));
            ExitCode::from(failure.code())
        }
    }
}

async fn carry_out(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Get { reference, output, access } => {
            let secret = access.client().await?.get(&reference).await?;
            print(output::one(&secret, output)?.expose())?;
        }
        Command::Exists { reference, access } => {
            let is_there = access.client().await?.path_exists(&reference).await?;
            return Ok(if is_there { ExitCode::SUCCESS } else { ExitCode::from(1) });
        }
        Command::Describe { reference, output, access } => {
            let described = access.client().await?.describe(&reference).await?;
            print(output::described(&described, output.format())?.expose())?;
        }
        Command::Write(write) => Box::pin(writing::carry_out(write)).await?,
        Command::List { path, name, tags, flat, values, access } => {
            let (name, tags) = (name.as_deref(), distinct(tags)?);
            let searched = if values.is_some() { None } else { searched(&path, name, &tags)? };
            let secrets = access.client().await?;
            if let Some(form) = values {
                let read = Cell::new(0_usize);
                let all = secrets.get_by_path(&path, !flat).inspect_ok(|_| read.set(read.get() + 1)).try_collect();
                let line = || format!("{} found, {} read", secrets.found_so_far(), read.get());
                let all: BTreeMap<String, Secret> = progress::shown(line, all).await?;
                print(output::many(&all, form.format())?.expose())?;
            } else {
                let found = async {
                    match searched {
                        Some((store, path)) => secrets.find(store, path, name, tags).await,
                        None => secrets.list(&path, !flat).await,
                    }
                };
                let found = progress::shown(|| format!("{} found", secrets.found_so_far()), found).await?;
                print(found.iter().fold(String::new(), |lines, reference| lines + reference + "\n").as_bytes())?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The store that is searched, and the path there; `None`: what lies below the path is listed.
fn searched<'p>(path: &'p str, name: Option<&str>, tags: &BTreeMap<String, String>) -> Result<Option<(Store, Option<&'p str>)>, Failure> {
    if name.is_none() && tags.is_empty() && path.contains("://") {
        return Ok(None);
    }
    let (store, path) = path.split_once("://").map_or((path, None), |(store, path)| (store, Some(path)));
    let store: Store = store.parse().map_err(Error::from)?;
    match Search::matching(store, path, name, tags.clone()) {
        Ok(_) => Ok(Some((store, path))),
        Err(SearchError::Name(problem)) => Err(Failure::Arguments(format!("--name: {problem}"))),
        Err(SearchError::Missing(problem)) => Err(Failure::Arguments(problem.to_owned())),
        Err(problem) => Err(Error::from(problem).into()),
    }
}

fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    // A prompt right behind a value would be taken for a part of it; a pipe gets what is there.
    if out.is_terminal() && !bytes.is_empty() && !bytes.ends_with(b"\n") {
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// Tags by their names, of which none may come twice.
fn distinct(tags: Vec<(String, String)>) -> Result<BTreeMap<String, String>, Failure> {
    let mut distinct = BTreeMap::new();
    for (name, value) in tags {
        if distinct.contains_key(&name) {
            return Err(Failure::Arguments("--tag: one of the tags is given twice; each has one value".to_owned()));
        }
        distinct.insert(name, value);
    }
    Ok(distinct)
}

fn region(text: &str) -> Result<String, &'static str> {
    let legal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if legal { Ok(text.to_owned()) } else { Err("a region is such as eu-west-1") }
}

fn endpoint(text: &str) -> Result<String, &'static str> {
    if is_address(text) { Ok(text.to_owned()) } else { Err(ADDRESS) }
}

fn tag(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("a tag is NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
