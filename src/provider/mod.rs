//! Where values live: the trait that every store is read through, what an answer is, and why a read fails.
//!
//! Questions enter, readings leave. A provider knows one protocol and nothing of Kubernetes; it never logs a value, and the text of
//! its errors is our own: what a store says about a failure goes to the log, its codes to the user.

pub mod aws;
pub mod edge;
pub mod envase;
pub mod grants;
mod http;
mod kept;
pub mod opened;
pub mod roboto;
pub mod search;
pub mod standing;
mod troubles;
pub mod vault;
pub mod writing;

use std::{
    collections::BTreeMap,
    error::Error as StdError,
    fmt,
    hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState},
    sync::LazyLock,
    time::Instant,
};

use futures::future::BoxFuture;

pub use self::writing::WriteError;
pub use crate::limit::{Calls, Family};
use crate::{
    api::{
        Reason,
        reference::{Name, Source, Store},
        status::SourceRecord,
    },
    sensitive::Sensitive,
    telemetry::{Metrics, traces},
};

/// What one read asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Question {
    /// A value.
    Value(Source),
    /// Whether it is there: its value, or an error with `absent` set if it is gone for certain. Asked without company.
    Presence {
        /// What; its current version is asked for, whatever stands here.
        source: Source,
        /// What it was when it was mirrored: a provider that reads another region or account now can't tell.
        arn: String,
    },
    /// Its tags, as the text of a JSON object.
    Tags(Source),
    /// Which there are.
    List(Listing),
}

impl Question {
    /// The store that it is asked of.
    #[must_use]
    pub const fn store(&self) -> Store {
        match self {
            Self::Value(source) | Self::Presence { source, .. } | Self::Tags(source) => source.store,
            Self::List(listing) => listing.store,
        }
    }

    /// What the names of those that it looks for start with; empty if it looks for none, or for all.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::List(listing) => listing.path.as_deref().unwrap_or_default(),
            Self::Value(_) | Self::Presence { .. } | Self::Tags(_) => "",
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(source) | Self::Presence { source, .. } => source.fmt(f),
            Self::Tags(source) => write!(f, "tags of {source}"),
            Self::List(listing) => listing.fmt(f),
        }
    }
}

/// Names in a store. All that is written must hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Listing {
    /// The store.
    pub store: Store,
    /// What the name starts with (Secrets Manager), or the path that it lies below (Parameter Store, with a leading slash; Vault, from the mount on).
    pub path: Option<String>,
    /// Whether what lies deeper than one segment below the path belongs to it.
    pub recursive: bool,
    /// Tags that it has, each with exactly this value.
    pub tags: BTreeMap<String, String>,
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.as_deref().unwrap_or_default();
        // A secret's name only starts with the path; a parameter lies below it.
        let (path, slash) = match self.store {
            Store::SecretsManager => (path, ""),
            _ if self.path.is_some() => (path.trim_end_matches('/'), "/"),
            _ => (path, ""),
        };
        write!(f, "{}://{path}{slash}{}", self.store, if self.recursive { "**" } else { "*" })?;
        for (number, (tag, value)) in self.tags.iter().enumerate() {
            write!(f, "{}{tag}={value}", if number == 0 { " with the tags " } else { ", " })?;
        }
        Ok(())
    }
}

/// One that a listing found.
#[derive(Clone, Debug)]
pub struct Found {
    /// By its plain name, without version.
    pub source: Source,
    /// Its value, where the listing brings it.
    pub reading: Option<Reading>,
}

/// What a store answered to one question.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The value.
    pub value: Value,
    /// Which version of what it is.
    pub version: ServedVersion,
    /// Every plain reference (`aws.sm://name`) that the answer says it comes from, for the second check of a provider's `allow`; none for
    /// a listing, each of whose members is checked by itself.
    pub denotes: Vec<String>,
    /// What the store knows about it besides, where it tells.
    pub record: Option<SourceRecord>,
}

/// How many names a listing may have.
pub const MOST_NAMES: usize = 10_000;

impl Reading {
    /// The answer to a listing. Its version tells the names apart and, where they have values, the versions of these.
    #[must_use]
    pub fn list(store: Store, found: BTreeMap<String, Option<Self>>) -> Self {
        let half = |salt: u8| {
            let mut hasher = DefaultHasher::new();
            salt.hash(&mut hasher);
            for (name, reading) in &found {
                let version = reading.as_ref().map(|reading| &reading.version);
                (name, version.map(|version| (&version.arn, &version.id, &version.created))).hash(&mut hasher);
            }
            hasher.finish()
        };
        let id = format!("{:016x}{:016x}", half(0), half(1));
        let found = found.into_iter().map(|(name, reading)| Found { source: Source { store, name: Name::Plain(name), version: None }, reading });
        Self {
            value: Value::List(found.collect()),
            version: ServedVersion { arn: String::new(), id, created: None, region: None },
            denotes: Vec::new(),
            record: None,
        }
    }

    /// The size of the value in bytes; of a listing, of all its names and values.
    #[must_use]
    pub fn size(&self) -> usize {
        match &self.value {
            Value::Text(value) | Value::Binary(value) => value.len(),
            Value::List(found) => found.iter().map(|found| found.source.id().len() + found.reading.as_ref().map_or(0, Self::size)).sum(),
        }
    }
}

/// A value as the store holds it. Nothing is decoded by guessing.
#[derive(Clone, Debug)]
pub enum Value {
    /// Text: a secret string or a parameter.
    Text(Sensitive),
    /// Bytes: a secret binary.
    Binary(Sensitive),
    /// What a listing found, by name, each once.
    List(Vec<Found>),
}

impl Value {
    /// What is to be written: text where it is UTF-8.
    #[must_use]
    pub fn of(bytes: Sensitive) -> Self {
        if std::str::from_utf8(bytes.expose()).is_ok() { Self::Text(bytes) } else { Self::Binary(bytes) }
    }
}

/// Identifies a version across deletion and re-creation. Two readings are of the same value if all three are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedVersion {
    /// The ARN of the secret or parameter; in Vault its address.
    pub arn: String,
    /// The version id (a secret) or the number (a parameter).
    pub id: String,
    /// When the store says it was made, RFC 3339 with fractions of a second.
    pub created: Option<String>,
    /// The failover region that served it; `None`: the provider's own, or where its ARN says. The ARN is the primary's in either case.
    pub region: Option<String>,
}

impl ServedVersion {
    /// What the id of a version begins with that is a keyed hash: its key lives in this process alone.
    pub const KEYED: &'static str = "keyed:";

    /// The id of a value that has no version: it changes with the value, and with every start of the process.
    #[must_use]
    pub fn keyed(value: &str) -> String {
        // So that nobody can find out a value by trying which ones make the id.
        static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(Default::default);
        let [one, other] = KEYS.each_ref().map(|key| key.hash_one(value));
        format!("{}{one:016x}{other:016x}", Self::KEYED)
    }

    /// Whether another process could compare it.
    #[must_use]
    pub fn lasts(&self) -> bool {
        !self.id.starts_with(Self::KEYED)
    }
}

/// Why a read failed: what the user is told, what the log is told besides, and how soon it is worth trying again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct ReadError {
    /// The reason for the condition.
    pub reason: Reason,
    /// In our own words: the reference, the store's error code, what to do. Stable from retry to retry.
    pub message: String,
    /// The store's message and request id, for the log only.
    pub detail: Option<String>,
    /// What was asked for is gone for certain. Only an answer to [`Question::Presence`] says so.
    pub absent: bool,
    /// A throttle of what was asked for by itself (its encryption key is used too often), not of the calls.
    pub own: bool,
}

impl ReadError {
    /// An error with nothing more for the log.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), detail: None, absent: false, own: false }
    }
}

impl ReadError {
    /// The same error about what was asked: its message begins with the reference.
    #[must_use]
    pub fn about(&self, asked: &impl fmt::Display) -> Self {
        Self { message: format!("{asked}: {}", self.message), ..self.clone() }
    }
}

/// No answer in time.
pub(crate) fn silent() -> ReadError {
    ReadError::new(Reason::ProviderUnavailable, "the store did not answer within 5 s")
}

/// An answer that isn't what was agreed upon, or contradicts itself.
pub(crate) fn misunderstood() -> ReadError {
    ReadError::new(Reason::ProviderUnavailable, "the store's answer could not be understood")
}

/// A listing of more than [`MOST_NAMES`].
fn too_many_names() -> ReadError {
    ReadError::new(Reason::TargetRejected, format!("it has more than {MOST_NAMES} names; narrow it by path, or remove some"))
}

/// Where the provider reads now, the source may be missing for ever without being gone. `what` is another: region, account, address, place.
fn mirrored_elsewhere(what: &str) -> ReadError {
    let problem = format!("the provider now reads another {what} than the one where this was mirrored from; that it is not found there does not count as gone");
    ReadError::new(Reason::SourceNotFound, problem)
}

/// An error and its causes, from the outside in.
fn causes<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&cause| cause.source())
}

/// The innermost cause of an error, in words.
fn deepest(error: &(dyn StdError + 'static)) -> String {
    causes(error).last().unwrap_or(error).to_string()
}

/// Questions that may share a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lot {
    /// Its name. Only questions of the same lot share a call.
    pub name: &'static str,
    /// How many may share one.
    pub size: usize,
    /// What its calls count against.
    pub family: Family,
    /// The permission that such a call needs.
    pub action: &'static str,
}

/// How a question may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Which service is called: each of a provider's hangs or answers for itself.
    pub service: &'static str,
    /// What a call for it alone counts against.
    pub single: Family,
    /// With whom it may share a call; `None`: with nobody.
    pub lot: Option<&'static Lot>,
    /// All that it may denote. Two questions that have one of these in common never share a call.
    pub aliases: Box<[String]>,
}

/// What came of a call for several questions. The messages of its errors name none of them; see [`ReadError::about`].
#[derive(Debug)]
pub enum LotAnswer {
    /// Every question has its own answer, in their order; `None`: the store said nothing about it. `pages`: how many calls it took.
    Each {
        /// The answers.
        answers: Vec<Option<Result<Reading, ReadError>>>,
        /// How many calls were made.
        pages: u32,
    },
    /// The call was refused as a whole, and one of the questions may be why.
    Refused(ReadError),
    /// The identity may not make such calls at all, whatever they ask for.
    Denied(ReadError),
    /// The call failed for a reason that lies with none of the questions: a throttle, an outage, credentials.
    Failed(ReadError),
}

impl LotAnswer {
    /// For a store that has no shared calls, which nobody should have asked for one.
    fn never(questions: &[Question]) -> Self {
        let problem = "a defect of the controller: this store has no shared calls";
        Self::Each { answers: questions.iter().map(|_| Some(Err(ReadError::new(Reason::InternalError, problem)))).collect(), pages: 0 }
    }
}

/// A store, or several behind one identity in one place. It makes calls; when, in which company and how often is the reader's.
pub trait Provider: Send + Sync {
    /// How a question may be asked. Makes no call.
    fn route(&self, question: &Question) -> Route;

    /// Whose limits its calls count against: providers that answer the same share one budget. Holds no secret.
    fn account(&self) -> &str;

    /// How many calls a second of each family there may be at most.
    fn ceilings(&self) -> Vec<(Family, f64)>;

    /// Asks one question: with one call, which has had its turn; a listing and what needs to be confirmed with a few, made by `calls`.
    fn read_one<'a>(&'a self, question: &'a Question, calls: &'a Calls) -> BoxFuture<'a, Result<Reading, ReadError>>;

    /// Asks several questions of one lot with one call (and its further pages).
    fn read_lot<'a>(&'a self, lot: &'static Lot, questions: &'a [Question]) -> BoxFuture<'a, LotAnswer>;
}

/// Counts and traces a call for this many secrets or parameters (a page counts as one), also a call that nobody waits for any more because it
/// takes too long.
pub(crate) async fn observed<T, E>(
    metrics: &Metrics,
    (store, api, count): (&'static str, &'static str, usize),
    reason: impl Fn(&E) -> Reason,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let span = traces::store_call(store, api, count);
    let mut observation = Observation { metrics, store, api, started: Instant::now(), outcome: Reason::ProviderUnavailable.as_str(), span };
    let result = call.await;
    observation.outcome = result.as_ref().map_or_else(|error| reason(error).as_str(), |_| "ok");
    result
}

/// Counts and traces what it observed when it is dropped.
struct Observation<'a> {
    metrics: &'a Metrics,
    store: &'static str,
    api: &'static str,
    started: Instant,
    outcome: &'static str,
    span: tracing::Span,
}

impl Drop for Observation<'_> {
    fn drop(&mut self) {
        traces::outcome(&self.span, self.outcome, self.outcome != "ok");
        self.metrics.provider_call(self.store, self.api, self.outcome, self.started.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::reference::Reference;

    #[test]
    fn a_question_is_told_by_its_reference() {
        let source = "aws.sm://x?version-stage=AWSPREVIOUS".parse::<Reference>().expect("a reference").source;
        let presence = Question::Presence { source: source.clone(), arn: "arn".to_owned() };
        let told = [Question::Value(source.clone()), presence, Question::Tags(source)].map(|question| question.to_string());
        assert_eq!(told, ["aws.sm://x?version-stage=AWSPREVIOUS", "aws.sm://x?version-stage=AWSPREVIOUS", "tags of aws.sm://x?version-stage=AWSPREVIOUS"]);
        let list = |store, path: Option<&str>, recursive, tags: &[(&str, &str)]| {
            let tags = tags.iter().map(|(tag, value)| ((*tag).to_owned(), (*value).to_owned())).collect();
            Question::List(Listing { store, path: path.map(str::to_owned), recursive, tags }).to_string()
        };
        let (sm, ps) = (Store::SecretsManager, Store::ParameterStore);
        assert_eq!(list(ps, Some("/prod/app"), true, &[]), "aws.ps:///prod/app/**");
        assert_eq!(list(ps, Some("/prod/app/"), false, &[]), "aws.ps:///prod/app/*");
        assert_eq!(list(ps, Some("/"), true, &[]), "aws.ps:///**");
        assert_eq!(list(sm, Some("prod/app"), true, &[]), "aws.sm://prod/app**");
        assert_eq!(list(sm, Some("prod/app/"), false, &[]), "aws.sm://prod/app/*");
        assert_eq!(list(sm, None, true, &[("team", "shop"), ("env", "prod")]), "aws.sm://** with the tags env=prod, team=shop");
    }
}
