//! Why a client's wish was not fulfilled: one kind each, so that a program can tell them apart, and words for people.
//!
//! Errors of the stores enter; they leave without a value, and without what a store said in its own words.

use crate::{
    api::{
        Reason,
        reference::{ReferenceError, Source, Store},
    },
    provider::{ReadError, search::SearchError, writing::WriteError},
    render::RenderError,
};

/// Why something could not be done. The text says what to do; it names references and never holds a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store has no such thing, or not in this version.
    #[error("{0}")]
    NotFound(String),
    /// There is one of that name already; nothing was changed.
    #[error("{0}")]
    AlreadyExists(String),
    /// Somebody else wrote meanwhile.
    #[error("{message}")]
    Conflict {
        /// What came of it.
        message: String,
        /// This was written all the same, in a store that can't compare: the version that it was to take the place of, and the one that it became. Those
        /// between are somebody else's. `None`: nothing was changed.
        over: Option<(u64, u64)>,
    },
    /// The identity may not, or the store doesn't let it in.
    #[error("{0}")]
    AccessDenied(String),
    /// The value has nothing at the keypath, or is no JSON.
    #[error("{0}")]
    KeypathNotFound(String),
    /// A text that is no reference or no path, or a name that the store can't have.
    #[error("{0}")]
    InvalidName(#[from] ReferenceError),
    /// What was asked for can't be done as it is: something isn't set up, or contradicts itself.
    #[error("{0}")]
    InvalidRequest(String),
    /// The store asks to slow down, also after all retries.
    #[error("{0}")]
    Throttled(String),
    /// The store did not answer, or not in a way that could be understood, also after all retries.
    #[error("{0}")]
    Unavailable(String),
    /// The store can't do this.
    #[error("{} can't {operation}", .store.title())]
    NotSupported {
        /// The store.
        store: Store,
        /// What it can't do, as a verb.
        operation: &'static str,
    },
}

impl Error {
    /// Whether it may go away by itself.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Throttled(_) | Self::Unavailable(_))
    }

    /// Whether what was asked for is not there.
    #[must_use]
    pub const fn is_missing(&self) -> bool {
        matches!(self, Self::NotFound(_) | Self::KeypathNotFound(_))
    }
}

impl Error {
    /// Why something was not written.
    pub(super) fn written(source: &Source, error: WriteError) -> Self {
        let message = format!("{source}: {error}");
        match error {
            WriteError::AlreadyExists => Self::AlreadyExists(message),
            WriteError::NotFound => Self::NotFound(message),
            WriteError::Conflict => Self::Conflict { message, over: None },
            WriteError::Overtaken { base, written } => Self::Conflict { message, over: Some((base, written)) },
            WriteError::Refused(problem) => Self::InvalidRequest(format!("{source}: {problem}")),
            WriteError::NotSupported { store, operation } => Self::NotSupported { store, operation },
            WriteError::Failed(error) => Self::from(error.about(source)),
        }
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        let kind = match error.reason {
            Reason::SourceNotFound => Self::NotFound,
            Reason::AccessDenied | Reason::CredentialsError | Reason::NotAllowed => Self::AccessDenied,
            Reason::KeypathNotFound | Reason::DecodeError => Self::KeypathNotFound,
            Reason::Throttled => Self::Throttled,
            Reason::ProviderUnavailable => Self::Unavailable,
            _ => Self::InvalidRequest,
        };
        kind(error.message)
    }
}

impl From<SearchError> for Error {
    fn from(error: SearchError) -> Self {
        match error {
            SearchError::Path(problem) => Self::InvalidName(problem),
            SearchError::Name(problem) => Self::InvalidRequest(format!("name: {problem}")),
            SearchError::Missing(problem) | SearchError::Unsupported(problem) => Self::InvalidRequest(problem.to_owned()),
        }
    }
}

impl From<RenderError> for Error {
    fn from(error: RenderError) -> Self {
        Self::KeypathNotFound(error.to_string())
    }
}
