//! What stands between a provider and its store, as its reads tell it.
//!
//! Outcomes of reads enter; what no read gets past, and since when, leaves. Errors only, which never hold a value.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::ReadError;
use crate::api::Reason;

/// The trouble of one provider, if it has any.
#[derive(Default)]
pub(super) struct Troubles(Mutex<Option<(Instant, ReadError)>>);

impl Troubles {
    fn known(&self) -> MutexGuard<'_, Option<(Instant, ReadError)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What no read gets past since this long: credentials that don't work, or a store that does not answer.
    pub(super) fn lasting(&self) -> Option<(Duration, ReadError)> {
        self.known().as_ref().map(|(since, error)| (since.elapsed(), error.clone()))
    }

    /// Takes note of how a call went.
    pub(super) fn note(&self, error: Option<&ReadError>) {
        let lasting = error.filter(|error| matches!(error.reason, Reason::CredentialsError | Reason::ProviderUnavailable));
        let mut known = self.known();
        *known = match (lasting, known.take()) {
            (Some(error), was) => Some((was.filter(|(_, was)| was.reason == error.reason).map_or_else(Instant::now, |(since, _)| since), error.clone())),
            // A throttle says nothing about either.
            (None, was) if error.is_some_and(|error| error.reason == Reason::Throttled) => was,
            (None, _) => None,
        };
    }

    /// Takes note that the credentials work.
    pub(super) fn let_in(&self) {
        self.known().take_if(|(_, error)| error.reason == Reason::CredentialsError);
    }
}
