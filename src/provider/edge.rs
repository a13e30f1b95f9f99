//! Edge's secrets of users and organisations, which are JSON objects in Vault.
//!
//! Questions enter, readings leave; names are checked before any call. What Edge's own service does with them besides (create, update, delete, wrap)
//! is done here as its documentation has it: a name that is there isn't made again, one that isn't isn't updated. No value and no wrapping token is logged.

use std::{collections::BTreeMap, time::Duration};

use futures::{FutureExt, future::BoxFuture};

use super::{
    Calls, Family, Listing, Lot, LotAnswer, Provider, Question, ReadError, Reading, Route, Value, WriteError,
    grants::Grants,
    standing,
    vault::{self, READS, VaultProvider, Wrapped},
    writing::{Described, Written},
};
use crate::{
    api::{
        Reason,
        edge::EdgeSpec,
        reference::{Name, Source, Store},
    },
    sensitive::Sensitive,
    telemetry::Metrics,
};

/// How long a wrapped secret can be had, unless somebody says otherwise.
pub const WRAPPED_FOR: Duration = Duration::from_secs(300);

/// A provider that reads Edge's secrets.
pub struct EdgeProvider {
    vault: VaultProvider,
    spec: EdgeSpec,
}

impl EdgeProvider {
    /// Prepares the client; nothing is called yet. `payer`: whose calls they are, so that limits are shared.
    pub fn new(spec: &EdgeSpec, grants: Box<dyn Grants>, payer: &str, metrics: Metrics) -> Result<Self, ReadError> {
        Ok(Self { vault: VaultProvider::new(&spec.vault, grants, payer, metrics)?, spec: spec.clone() })
    }

    /// The Vault that keeps them.
    #[must_use]
    pub fn vault(&self) -> &VaultProvider {
        &self.vault
    }

    /// Where in Vault the secrets of a user or of the organisation are: mount and path.
    async fn folder(&self, whose: &str) -> Result<String, ReadError> {
        let (mount, prefix) = (self.spec.mount(), self.spec.prefix());
        match (whose, &self.spec.user, &self.spec.organization) {
            ("user", Some(user), _) => Ok(format!("{mount}/{prefix}/users/{user}")),
            ("user", None, _) => {
                let entity = self.vault.entity().await?;
                if entity.is_empty() {
                    let problem = "Vault says no entity for the identity that reads; name the user (the provider's user, on the command line EDGE_USER), or let it log in by a method that makes entities";
                    // It may have one the next time that it logs in.
                    return Err(ReadError::new(Reason::AccessDenied, problem));
                }
                Ok(format!("{mount}/{prefix}/users/{entity}"))
            }
            (_, _, Some(organization)) => Ok(format!("{mount}/{prefix}/orgs/{organization}")),
            (_, _, None) => Err(ReadError::new(
                Reason::InvalidSpec,
                "no organization is named, whose secrets edge://org would be (the provider's organization, on the command line EDGE_ORGANIZATION)",
            )),
        }
    }

    /// What a source is in Vault.
    async fn place(&self, source: &Source) -> Result<Source, ReadError> {
        let (whose, name) = split(source)?;
        Ok(Source { store: Store::Vault, name: Name::Plain(format!("{}/{name}", self.folder(whose).await?)), version: None })
    }

    async fn read_alone(&self, question: &Question, calls: &Calls) -> Result<Reading, ReadError> {
        let there = match question {
            Question::Value(source) => Question::Value(self.place(source).await?),
            Question::Presence { source, arn } => Question::Presence { source: self.place(source).await?, arn: arn.clone() },
            Question::Tags(_) => return Err(ReadError::new(Reason::InvalidSpec, "secrets of Edge have no tags")),
            Question::List(listing) => return self.list(listing, calls).await,
        };
        let reading = self.vault.answer(&there, calls).await?;
        let (Question::Value(source) | Question::Presence { source, .. }) = question else { return Ok(reading) };
        match &reading.value {
            Value::Text(text) => check_object(text)?,
            Value::Binary(_) | Value::List(_) => return Err(no_object()),
        }
        Ok(Reading { denotes: source.denotes(), ..reading })
    }

    /// The names of a user or of the organisation. What lies deeper is none of Edge's.
    async fn list(&self, listing: &Listing, calls: &Calls) -> Result<Reading, ReadError> {
        let whose = listing.path.as_deref().unwrap_or_default();
        let folder = self.folder(whose).await?;
        let there = Listing { store: Store::Vault, path: Some(folder.clone()), recursive: false, tags: listing.tags.clone() };
        let names = self.vault.names(&there, calls).await?;
        let short = names.iter().filter_map(|name| name.strip_prefix(&folder)?.strip_prefix('/')).filter(|name| is_name(name));
        Ok(Reading::list(Store::Edge, short.map(|name| (format!("{whose}/{name}"), None)).collect()))
    }

    /// Makes a secret. `value`: a JSON object.
    pub async fn create(&self, source: &Source, value: &Sensitive) -> Result<Written, WriteError> {
        vault::object(value)?;
        self.vault.create(&self.place(source).await?, value).await
    }

    /// Puts another value in place of the one that is there; with `base`, only if that is still the version that is there.
    pub async fn update(&self, source: &Source, value: &Sensitive, base: Option<&str>) -> Result<Written, WriteError> {
        vault::object(value)?;
        self.vault.update(&self.place(source).await?, value, base).await
    }

    /// What Vault knows about a secret besides its value.
    pub async fn describe(&self, source: &Source) -> Result<Described, WriteError> {
        self.vault.describe(&self.place(source).await?).await
    }

    /// Says more about a secret, besides what is said already.
    pub async fn tag(&self, source: &Source, tags: &BTreeMap<String, String>) -> Result<(), WriteError> {
        self.vault.tag(&self.place(source).await?, tags).await
    }

    /// Deletes a secret with all its versions; that it isn't there is no error.
    pub async fn delete(&self, source: &Source) -> Result<(), WriteError> {
        self.vault.delete_for_good(&self.place(source).await?).await
    }

    /// A token that is good for one look at a secret, by whoever has it, within this time.
    pub async fn wrap(&self, source: &Source, life: Duration) -> Result<Wrapped, ReadError> {
        self.vault.wrap(&self.place(source).await?, life).await
    }
}

/// Whose secret, and its name.
fn split(source: &Source) -> Result<(&str, &str), ReadError> {
    let bad = || ReadError::new(Reason::InvalidSpec, "BadEntry: a secret of Edge is user/NAME or org/NAME");
    let Name::Plain(name) = &source.name else { return Err(bad()) };
    name.split_once('/').filter(|(_, name)| is_name(name)).ok_or_else(bad)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn check_object(value: &Sensitive) -> Result<(), ReadError> {
    if value.expose().trim_ascii_start().starts_with(b"{") { Ok(()) } else { Err(no_object()) }
}

fn no_object() -> ReadError {
    ReadError::new(Reason::DecodeError, "a secret of Edge is a JSON object, and this is none")
}

impl Provider for EdgeProvider {
    fn route(&self, question: &Question) -> Route {
        standing::route("edge", READS, question)
    }

    fn account(&self) -> &str {
        self.vault.account()
    }

    fn ceilings(&self) -> Vec<(Family, f64)> {
        self.vault.ceilings()
    }

    fn read_one<'a>(&'a self, question: &'a Question, calls: &'a Calls) -> BoxFuture<'a, Result<Reading, ReadError>> {
        let read = self.read_alone(question, calls).map(|answer| answer.map_err(|error| error.about(question)));
        read.inspect(|answer| self.vault.standing().note(answer)).boxed()
    }

    fn read_lot<'a>(&'a self, _: &'static Lot, questions: &'a [Question]) -> BoxFuture<'a, LotAnswer> {
        std::future::ready(LotAnswer::never(questions)).boxed()
    }
}
