//! The verbs that write: where the value comes from, and what is said afterwards.
//!
//! Arguments and standard input enter; a line on standard error leaves, which never holds the value. Nothing is asked back: a script would wait for ever.

use std::{
    fs,
    io::{self, IsTerminal, Read},
    path::PathBuf,
    time::Duration,
};

use clap::{
    Args, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use robotosecret::{
    Secrets,
    api::{
        self,
        reference::{Reference, Store},
    },
    secrets::{Attributes, ParameterKind, ParameterTier, Recovery},
    sensitive::Sensitive,
};

use super::{Access, Failure, output, print, say};

/// More than any store keeps, in bytes.
const MOST: u64 = 1 << 20;

/// What changes a store.
#[derive(Subcommand)]
pub enum Write {
    /// Make what a reference names; what is there already is left alone.
    Create {
        /// What to make.
        reference: String,
        #[command(flatten)]
        content: Content,
        #[command(flatten)]
        besides: Besides,
        #[command(flatten)]
        access: Access,
    },
    /// Put another value in place of the one that is there.
    ///
    /// With a member (aws.sm://prod/db#/password) only that is changed in the JSON that is there, and no change is lost that somebody else makes at the
    /// same time. It needs the right to read, too. Encryption key, description, tags and kind stay.
    Update {
        /// What to change.
        reference: String,
        /// Take the value as JSON of any kind, not as a text.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        content: Content,
        #[command(flatten)]
        access: Access,
    },
    /// Update what is there, or create it.
    ///
    /// What is there keeps its encryption key, description, tags, type and tier. Where others are asked for than it has, nothing is written.
    Put {
        /// What to write.
        reference: String,
        #[command(flatten)]
        content: Content,
        #[command(flatten)]
        besides: Besides,
        #[command(flatten)]
        access: Access,
    },
    /// Delete what a reference names.
    ///
    /// Secrets Manager keeps it for 30 days unless something else is said, Vault its versions; with --force nothing can be brought back, and nobody
    /// tells whether there was anything.
    Delete {
        /// What to delete.
        reference: String,
        /// For how many days Secrets Manager keeps it, 7 to 30.
        #[arg(long, value_name = "DAYS", conflicts_with = "force", value_parser = days)]
        recovery_days: Option<Recovery>,
        /// Delete it for good.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        access: Access,
    },
    /// Bring back what was deleted, from Secrets Manager or Vault.
    Restore {
        /// What to bring back.
        reference: String,
        #[command(flatten)]
        access: Access,
    },
    /// Print a token that is good for one look at a value, by whoever has it, as JSON (Vault and Edge).
    ///
    /// It is exchanged by an HTTP POST without a body to unwrap_url, with the token in the header X-Vault-Token.
    Wrap {
        /// What to wrap.
        reference: String,
        /// How long the token is good: 30s, 5m, 1h.
        #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
        ttl: Duration,
        #[command(flatten)]
        access: Access,
    },
}

/// Where the value comes from: standard input, unless something else is said.
#[derive(Args)]
pub struct Content {
    /// The file that holds the value; - is standard input.
    #[arg(long, conflicts_with = "value")]
    file: Option<PathBuf>,
    /// The value itself. It can be seen by whoever lists the machine's processes, and stays in the shell's history.
    #[arg(long, allow_hyphen_values = true)]
    value: Option<String>,
    /// Leave out the line end that the value ends in.
    #[arg(long)]
    trim: bool,
}

/// What it has besides its value, once it is made.
#[derive(Args)]
pub struct Besides {
    /// What people are told about it.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// A tag (AWS, Vault, Edge); as often as needed.
    #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = super::tag)]
    tags: Vec<(String, String)>,
    /// The key that it is encrypted with (AWS): an id, an ARN or an alias.
    #[arg(long, value_name = "KEY")]
    kms_key: Option<String>,
    /// The type of a parameter; SecureString when left out.
    #[arg(long = "type", value_name = "TYPE", value_parser = kinds())]
    kind: Option<ParameterKind>,
    /// The tier of a parameter.
    #[arg(long, value_parser = tiers())]
    tier: Option<ParameterTier>,
}

impl Besides {
    fn attributes(self) -> Result<Attributes, Failure> {
        let Self { description, tags, kms_key, kind, tier } = self;
        Ok(Attributes { description, tags: super::distinct(tags)?, kms_key, kind, tier })
    }
}

impl Content {
    fn read(self) -> Result<Sensitive, Failure> {
        let file = self.file.filter(|file| file.as_os_str() != "-");
        let (value, by_pipe) = match (self.value, file) {
            (Some(value), _) => (Sensitive::from(value), false),
            (None, Some(file)) => {
                let name = file.display().to_string();
                let opened = fs::File::open(&file).map_err(|error| Failure::Read(name.clone(), error.kind()))?;
                (bounded(opened, name)?, false)
            }
            (None, None) => {
                let mut input = io::stdin().lock();
                // What is typed there would be seen.
                if input.is_terminal() {
                    return Err(Failure::NoValue);
                }
                (bounded(&mut input, "standard input".to_owned())?, true)
            }
        };
        let bytes = value.expose();
        let bare = bytes.strip_suffix(b"\n").map(|bytes| bytes.strip_suffix(b"\r").unwrap_or(bytes));
        Ok(match bare {
            Some(bare) if self.trim => Sensitive::new(bare.to_vec()),
            Some(bare) if by_pipe && !bare.contains(&b'\n') => {
                say("robotosecret: note: the value ends in a line end, which is written, too; --trim leaves it out");
                value
            }
            _ => value,
        })
    }
}

/// What can be read there, as long as a store could keep it.
fn bounded(input: impl Read, name: String) -> Result<Sensitive, Failure> {
    let mut bytes = Vec::new();
    let read = input.take(MOST + 1).read_to_end(&mut bytes);
    let value = Sensitive::new(bytes);
    read.map_err(|error| Failure::Read(name.clone(), error.kind()))?;
    if value.len() as u64 > MOST { Err(Failure::TooLong(name)) } else { Ok(value) }
}

/// Does it.
pub async fn carry_out(write: Write) -> Result<(), Failure> {
    match write {
        Write::Create { reference, content, besides, access } => {
            let value = content.read()?;
            access.client().await?.create(&reference, &value, &besides.attributes()?).await?;
            say(&format!("{reference} created"));
        }
        Write::Update { reference, json, content, access } => {
            // Spaces around JSON are none of it.
            let content = Content { trim: json || content.trim, ..content };
            let (secrets, value) = (access.client().await?, content.read()?);
            if json {
                secrets.update_json(&reference, &value).await?
            } else {
                secrets.update(&reference, &value).await?
            };
            say(&format!("{reference} updated"));
        }
        Write::Put { reference, content, besides, access } => {
            let value = content.read()?;
            access.client().await?.put(&reference, &value, &besides.attributes()?).await?;
            say(&format!("{reference} written"));
        }
        Write::Delete { reference, recovery_days, force, access } => {
            let recovery = if force { Recovery::Force } else { recovery_days.unwrap_or_default() };
            if recovery_days.is_some() && reference.parse::<Reference>().is_ok_and(|parsed| parsed.source.store != Store::SecretsManager) {
                return Err(Failure::Arguments("--recovery-days is for Secrets Manager alone".to_owned()));
            }
            let secrets: Secrets = access.client().await?;
            match secrets.delete(&reference, recovery).await? {
                Some(when) if !force => say(&format!("{reference} deleted; it can be restored until {when}")),
                _ => say(&format!("{reference} deleted")),
            }
        }
        Write::Restore { reference, access } => {
            access.client().await?.restore(&reference).await?;
            say(&format!("{reference} restored"));
        }
        Write::Wrap { reference, ttl, access } => print(output::wrapped(&access.client().await?.wrap(&reference, ttl).await?)?.expose())?,
    }
    Ok(())
}

fn days(text: &str) -> Result<Recovery, &'static str> {
    text.parse().ok().and_then(|days| Recovery::within(days).ok()).ok_or("a number of days from 7 to 30")
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    let is_sensible = |ttl: &Duration| (Duration::from_secs(1)..=Duration::from_secs(32 * 24 * 3600)).contains(ttl);
    api::duration::parse(text).filter(is_sensible).ok_or("a duration from 1s to 768h, such as 30s, 5m or 1h")
}

fn kinds() -> impl TypedValueParser<Value = ParameterKind> {
    let named = |name: String| ParameterKind::spelled(&name).ok_or("no type of a parameter");
    PossibleValuesParser::new(ParameterKind::ALL.map(ParameterKind::as_str)).try_map(named)
}

fn tiers() -> impl TypedValueParser<Value = ParameterTier> {
    let named = |name: String| ParameterTier::spelled(&name).ok_or("no tier of a parameter");
    PossibleValuesParser::new(ParameterTier::ALL.map(ParameterTier::as_str)).try_map(named)
}
