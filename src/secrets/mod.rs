//! A client of all stores, for programs and for the command line: the same references, the same readers as the controller's.
//!
//! References enter, values leave. It knows nothing of Kubernetes. A value is held in [`Sensitive`] and nowhere else.

mod access;
mod cache;
mod disk;
mod error;
mod sealing;
mod writing;

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use serde::de::DeserializeOwned;

pub use crate::provider::{
    vault::Wrapped,
    writing::{Attributes, Described, ParameterKind, ParameterTier, Recovery, Written},
};
pub use access::{Builder, Edge, Envase, EnvaseLogin, Roboto, Vault};
pub use error::Error;
pub use sealing::CacheKey;

use self::cache::Kept;

use crate::{
    api::reference::{Reference, Source, Store},
    limit::{Budgets, Calls, Turns},
    provider::{Found, Question, ReadError, Reading, ServedVersion, Value, opened::Opened, search::Search, silent},
    render::{self, RenderError},
    sensitive::Sensitive,
};

/// How many values of a path are read at the same time.
const AT_ONCE: usize = 8;
/// The first pause before a call is made again; each is twice the one before.
const PAUSE: Duration = Duration::from_millis(250);

/// A client of all stores. It is cheap to share by reference; calls may be made at the same time.
pub struct Secrets {
    aws: Option<Opened>,
    vault: Option<Opened>,
    edge: Option<Opened>,
    roboto: Option<Opened>,
    envase: Option<Opened>,
    tries: u32,
    timeout: Duration,
    cache: Option<Kept>,
    wrong: BTreeMap<Store, Error>,
    budgets: Arc<Mutex<Budgets>>,
    found: Arc<AtomicUsize>,
}

/// A value, or the part of it that a keypath leads to.
#[derive(Clone, Debug)]
pub struct Secret {
    value: Sensitive,
    is_binary: bool,
    version: ServedVersion,
}

impl Secret {
    /// The bytes. Whoever calls this answers for where they go.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.value.expose()
    }

    /// As text.
    ///
    /// # Errors
    ///
    /// It is no UTF-8.
    pub fn text(&self) -> Result<&str, Error> {
        std::str::from_utf8(self.expose()).map_err(|_| Error::InvalidRequest("the value is not UTF-8".to_owned()))
    }

    /// What its JSON says.
    ///
    /// # Errors
    ///
    /// It is no JSON, or of another shape.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        // The parser's own words may repeat a part of the value.
        serde_json::from_slice(self.expose()).map_err(|_| Error::InvalidRequest("the value is no JSON, or not of the shape that was asked for".to_owned()))
    }

    /// Whether the store has it as bytes and not as text.
    #[must_use]
    pub const fn is_binary(&self) -> bool {
        self.is_binary
    }

    /// Which version of it the store has served: a version id of Secrets Manager, a number of Parameter Store and Vault; `None` where there is no such thing.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        Some(self.version.id.as_str()).filter(|_| self.version.lasts())
    }
}

impl Secrets {
    /// What a client is made of.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// As [`Secrets::get_fresh`], or as it was when it was last read, if that isn't longer ago than the cache keeps it (15 minutes, unless the builder says
    /// otherwise).
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn get(&self, reference: &str) -> Result<Secret, Error> {
        self.look_up(reference, true).await
    }

    /// What a reference names: `aws.sm://prod/db#/password`, `aws.ps:///prod/url`, `vault://kv/shop/db`, an ARN, …; with a keypath the text of a string, or the
    /// JSON of anything else.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn get_fresh(&self, reference: &str) -> Result<Secret, Error> {
        self.look_up(reference, false).await
    }

    async fn look_up(&self, reference: &str, cached: bool) -> Result<Secret, Error> {
        let reference: Reference = reference.parse()?;
        let (reading, inner) = self.resolve(reference.source.clone(), cached).await?;
        taken(&reference.source, &reading, &[inner, reference.keypath].concat())
    }

    /// What a store answers now to a question as the controller asks it, and the keypath that the name itself ends in (a parameter that stands for a member
    /// of a secret).
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn reading(&self, question: &Question) -> Result<(Arc<Reading>, Vec<String>), Error> {
        match question {
            Question::Value(source) => self.resolve(source.clone(), false).await,
            _ => Ok((Arc::new(self.ask(question).await?), Vec::new())),
        }
    }

    async fn resolve(&self, source: Source, cached: bool) -> Result<(Arc<Reading>, Vec<String>), Error> {
        let through = source.through_secrets_manager();
        if through.is_empty() {
            return Ok((self.read(source, cached).await?, Vec::new()));
        }
        // Of all secrets that the name may denote, the longest that is there.
        for (secret, keypath) in through {
            match self.read(secret, cached).await {
                Err(Error::NotFound(_)) => {}
                answer => return Ok((answer?, keypath)),
            }
        }
        Err(Error::NotFound(format!("{source}: Secrets Manager has none of the secrets that this path may name")))
    }

    async fn read(&self, source: Source, cached: bool) -> Result<Arc<Reading>, Error> {
        let Some(cache) = &self.cache else { return self.ask(&Question::Value(source)).await.map(Arc::new) };
        if cached && let Some(reading) = cache.get(&source).await {
            return Ok(reading);
        }
        let mark = cache.mark();
        match self.ask(&Question::Value(source.clone())).await {
            Ok(reading) => {
                let reading = Arc::new(reading);
                cache.insert(&source, &reading, mark).await;
                Ok(reading)
            }
            Err(error) => {
                // What is gone is not there for the next one either.
                if !error.is_passing() {
                    cache.remove(&source).await;
                }
                Err(error)
            }
        }
    }

    /// As [`Secrets::get`], and what its JSON says.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn get_json<T: DeserializeOwned>(&self, reference: &str) -> Result<T, Error> {
        self.get(reference).await?.json()
    }

    /// Whether there is something now: a value, and something at its keypath if the reference has one.
    ///
    /// # Errors
    ///
    /// See [`Error`]. That something is missing is none; that it may not be read is one.
    pub async fn path_exists(&self, reference: &str) -> Result<bool, Error> {
        match self.get_fresh(reference).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_missing() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The references of all that lies below a path, such as `aws.ps:///prod/app`, `aws.sm://prod/` or `vault://kv/shop`; sorted. `recursive`: also what lies
    /// deeper than one segment.
    ///
    /// # Errors
    ///
    /// See [`Error`]. A path with nothing below it is an empty list, unless the store says otherwise.
    pub async fn list(&self, path: &str, recursive: bool) -> Result<Vec<String>, Error> {
        let (listing, search) = Search::below(path, recursive)?;
        let listed = self.listed(&Question::List(listing), &search).await?;
        Ok(listed.into_iter().map(|found| found.source.to_string()).collect())
    }

    /// The references of all in a store that match: a path that they lie below, an expression for their names, tags (AWS only), at least one of the three.
    ///
    /// # Errors
    ///
    /// See [`Error`]. A search of Vault or Edge without a path is [`Error::InvalidRequest`].
    pub async fn find(&self, store: Store, path: Option<&str>, name: Option<&str>, tags: BTreeMap<String, String>) -> Result<Vec<String>, Error> {
        let (listing, search) = Search::matching(store, path, name, tags)?;
        let listed = self.listed(&Question::List(listing), &search).await?;
        Ok(listed.into_iter().map(|found| found.source.to_string()).collect())
    }

    /// How many names the list or search that runs has found so far, for whoever shows that it goes on; of several at once that of one of them.
    #[must_use]
    pub fn found_so_far(&self) -> usize {
        self.found.load(Ordering::Relaxed)
    }

    /// All that lies below a path, each with its reference, as it arrives.
    ///
    /// ```no_run
    /// # async fn example(secrets: robotosecret::Secrets) -> Result<(), robotosecret::secrets::Error> {
    /// use futures::TryStreamExt;
    ///
    /// let mut values = secrets.get_by_path("aws.ps:///prod/app", true);
    /// while let Some((reference, secret)) = values.try_next().await? {
    ///     println!("{reference} has {} bytes", secret.expose().len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn get_by_path<'a>(&'a self, path: &str, recursive: bool) -> BoxStream<'a, Result<(String, Secret), Error>> {
        let path = path.to_owned();
        let start = async move {
            let (listing, search) = Search::below(&path, recursive)?;
            self.listed(&Question::List(listing), &search).await
        };
        let values = |listed: Result<Vec<Found>, Error>| match listed {
            Ok(found) => self.values(found).left_stream(),
            Err(error) => stream::iter([Err(error)]).right_stream(),
        };
        stream::once(start).flat_map(values).boxed()
    }

    fn values(&self, found: Vec<Found>) -> impl Stream<Item = Result<(String, Secret), Error>> {
        let read = async |Found { source, reading }: Found| {
            let reading = match reading {
                Some(reading) => Arc::new(reading),
                None => self.read(source.clone(), true).await?,
            };
            Ok((source.to_string(), taken(&source, &reading, &[])?))
        };
        stream::iter(found.into_iter().map(read)).buffered(AT_ONCE)
    }

    async fn listed(&self, question: &Question, search: &Search) -> Result<Vec<Found>, Error> {
        self.found.store(0, Ordering::Relaxed);
        match self.ask(question).await?.value {
            Value::List(found) => Ok(found.into_iter().filter(|found| search.name_of(&found.source).is_some()).collect()),
            Value::Text(_) | Value::Binary(_) => Err(Error::Unavailable(format!("{question}: a value was answered where a list was asked for"))),
        }
    }

    fn opened(&self, source: Store) -> Result<&Opened, Error> {
        let (opened, what) = match source {
            Store::SecretsManager | Store::ParameterStore => (&self.aws, "no region of AWS is known; say one (AWS_REGION, or a profile that has one)"),
            Store::Vault => (&self.vault, "Vault is not set up; say where it is and with which token (VAULT_ADDR, VAULT_TOKEN)"),
            Store::Edge => (&self.edge, "the Vault that keeps Edge's secrets is not set up; say where it is and with which token (VAULT_ADDR, VAULT_TOKEN)"),
            Store::Roboto => (&self.roboto, "Roboto is not set up; say with which key (ROBOTO_API_KEY)"),
            Store::Envase => {
                (&self.envase, "Envase is not set up; say where it is and as whom it is read (ENVASE_ENVIRONMENT, ENVASE_TOKEN or ENVASE_CLIENT_ID)")
            }
        };
        opened.as_ref().ok_or_else(|| self.wrong.get(&source).cloned().unwrap_or_else(|| Error::InvalidRequest(what.to_owned())))
    }

    /// Asks one question, again if it fails for a reason that passes.
    async fn ask(&self, question: &Question) -> Result<Reading, Error> {
        let provider = self.opened(question.store())?.provider();
        let turns = Turns::new(self.budgets.clone(), (provider.account().into(), provider.route(question).single));
        let mut pause = PAUSE;
        for _ in 1..self.tries {
            match self.ask_once(&*provider, question, &turns).await {
                Err(error) if error.reason.is_passing() => tokio::time::sleep(jittered(pause)).await,
                answer => return Ok(answer?),
            }
            pause *= 2;
        }
        Ok(self.ask_once(&*provider, question, &turns).await?)
    }

    async fn ask_once(&self, provider: &dyn crate::provider::Provider, question: &Question, turns: &Turns) -> Result<Reading, ReadError> {
        let calls = Calls::new(turns.clone()).counting(self.found.clone());
        let answer = provider.read_one(question, &calls);
        match question {
            // It takes as many calls as it has pages, each with a time of its own.
            Question::List(_) => answer.await,
            _ => tokio::time::timeout(self.timeout, answer).await.unwrap_or_else(|_| Err(silent().about(question))),
        }
    }
}

/// What a keypath leads to in a reading.
fn taken(source: &Source, reading: &Reading, keypath: &[String]) -> Result<Secret, Error> {
    let value = render::part(&reading.value, keypath).map_err(|error| about(source, &error))?;
    Ok(Secret { value, is_binary: matches!(reading.value, Value::Binary(_)), version: reading.version.clone() })
}

/// What is wrong with a value, and with which.
fn about(source: &Source, error: &RenderError) -> Error {
    Error::KeypathNotFound(format!("{source}: {error}"))
}

/// Between two thirds and all of it, so that not all who failed together come back together.
fn jittered(pause: Duration) -> Duration {
    let part = u32::try_from(RandomState::new().hash_one(pause) % 100).unwrap_or_default();
    pause * (200 + part) / 300
}
