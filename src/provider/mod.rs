//! Where values live: the trait that every store is read through, what an answer is, and why a read fails.
//!
//! Sources enter, readings leave. A provider knows one protocol and nothing of Kubernetes; it never logs a value, and the text of
//! its errors is our own: what a store says about a failure goes to the log, its codes to the user.

pub mod aws;

use futures::future::BoxFuture;

pub use crate::limit::Family;
use crate::{
    api::{Reason, reference::Source},
    sensitive::Sensitive,
};

/// What a store answered for one source.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The value.
    pub value: Value,
    /// Which version of what it is.
    pub version: ServedVersion,
    /// Every plain reference (`aws.sm://name`) that the answer says it comes from, for the second check of a provider's `allow`.
    pub denotes: Vec<String>,
}

/// A value as the store holds it. Nothing is decoded by guessing.
#[derive(Clone, Debug)]
pub enum Value {
    /// Text: a secret string or a parameter.
    Text(Sensitive),
    /// Bytes: a secret binary.
    Binary(Sensitive),
}

/// Identifies a version across deletion and re-creation. Two readings are of the same value if all three are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedVersion {
    /// The ARN of the secret or parameter.
    pub arn: String,
    /// The version id (a secret) or the number (a parameter).
    pub id: String,
    /// When the store says it was made, RFC 3339 with fractions of a second.
    pub created: Option<String>,
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
}

impl ReadError {
    /// An error with nothing more for the log.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), detail: None }
    }
}

impl ReadError {
    /// The same error about a source: its message begins with the reference.
    #[must_use]
    pub fn about(&self, source: &Source) -> Self {
        Self { message: format!("{source}: {}", self.message), ..self.clone() }
    }
}

/// Sources that may share a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lot {
    /// Its name. Only sources of the same lot share a call.
    pub name: &'static str,
    /// How many may share one.
    pub size: usize,
    /// What its calls count against.
    pub family: Family,
    /// The permission that such a call needs.
    pub action: &'static str,
}

/// How a source may be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Which service is called: each of a provider's hangs or answers for itself.
    pub service: &'static str,
    /// What a call for it alone counts against.
    pub single: Family,
    /// With whom it may share a call; `None`: with nobody.
    pub lot: Option<&'static Lot>,
    /// All that it may denote. Two sources that have one of these in common never share a call.
    pub aliases: Box<[String]>,
}

/// What came of a call for several sources. The messages of its errors name no source; see [`ReadError::about`].
#[derive(Debug)]
pub enum LotAnswer {
    /// Every source has its own answer, in their order; `None`: the store said nothing about it. `pages`: how many calls it took.
    Each {
        /// The answers.
        answers: Vec<Option<Result<Reading, ReadError>>>,
        /// How many calls were made.
        pages: u32,
    },
    /// The call was refused as a whole, and one of the sources may be why.
    Refused(ReadError),
    /// The identity may not make such calls at all, whatever they ask for.
    Denied(ReadError),
    /// The call failed for a reason that lies with none of the sources: a throttle, an outage, credentials.
    Failed(ReadError),
}

/// A store, or several behind one identity in one place. It makes calls; when, in which company and how often is the reader's.
pub trait Provider: Send + Sync {
    /// How a source may be read. Makes no call.
    fn route(&self, source: &Source) -> Route;

    /// Whose limits its calls count against: providers that answer the same share one budget. Holds no secret.
    fn account(&self) -> &str;

    /// How many calls a second of each family there may be at most.
    fn ceilings(&self) -> Vec<(Family, f64)>;

    /// Reads one source with one call.
    fn read_one<'a>(&'a self, source: &'a Source) -> BoxFuture<'a, Result<Reading, ReadError>>;

    /// Reads several sources of one lot with one call (and its further pages).
    fn read_lot<'a>(&'a self, lot: &'static Lot, sources: &'a [Source]) -> BoxFuture<'a, LotAnswer>;
}
