//! How a provider of a store that is reached over HTTP stands: its limits, its troubles, and as whom it reads, as far as that is known.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::{Family, Question, ReadError, Route, troubles::Troubles};
use crate::api::http::ReadLimits;

/// How one provider stands.
#[derive(Default)]
pub struct Standing {
    limits: Mutex<ReadLimits>,
    troubles: Troubles,
    identity: Mutex<Option<String>>,
}

impl Standing {
    /// At the start.
    pub(super) fn new(limits: Option<ReadLimits>) -> Self {
        Self { limits: Mutex::new(limits.unwrap_or_default()), ..Self::default() }
    }

    /// Takes other limits; the client stays.
    pub fn limit(&self, limits: Option<ReadLimits>) {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = limits.unwrap_or_default();
    }

    /// How many calls of its one family a second there may be at most.
    pub(super) fn ceilings(&self, family: Family) -> Vec<(Family, f64)> {
        vec![(family, self.limits.lock().unwrap_or_else(PoisonError::into_inner).reads())]
    }

    /// What no read gets past since this long: credentials that don't work, or a store that does not answer.
    #[must_use]
    pub fn in_trouble(&self) -> Option<(Duration, ReadError)> {
        self.troubles.lasting()
    }

    /// Takes note of how a read went.
    pub(super) fn note<T>(&self, answer: &Result<T, ReadError>) {
        self.troubles.note(answer.as_ref().err());
    }

    /// As whom it reads, if the store said so.
    #[must_use]
    pub fn known_identity(&self) -> Option<String> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The store lets it in, as this one.
    pub(super) fn let_in(&self, identity: &str) {
        self.troubles.let_in();
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = Some(identity.to_owned());
    }
}

/// How a question is asked of a store that has no shared calls.
pub(super) fn route(service: &'static str, family: Family, question: &Question) -> Route {
    let aliases = match question {
        Question::Value(source) => source.denotes(),
        Question::Presence { .. } | Question::Tags(_) | Question::List(_) => Vec::new(),
    };
    Route { service, single: family, lot: None, aliases: aliases.into() }
}
