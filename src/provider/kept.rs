//! What a provider shows to be let in (a token, a key), kept until it is to be renewed.
//!
//! Who makes it enters; what was made leaves, shared by all who wait for it. What was refused is not asked for again at once, and what holds is
//! used while no other can be had. Nothing here is logged.

use std::{
    sync::{Mutex as Sync, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Mutex;

use super::ReadError;
use crate::api::Reason;

/// How long a refusal is taken for an answer: many resources may wait for the same.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// How soon what could not be renewed is tried again, as long as it holds.
const AGAIN: Duration = Duration::from_secs(10);

/// One thing that was made, when another is to be, and until when it holds.
#[derive(Clone)]
pub(super) struct Made<T> {
    pub(super) value: T,
    /// `None`: never.
    renew: Option<Instant>,
    /// `None`: nobody said so.
    until: Option<Instant>,
}

impl<T> Made<T> {
    /// What holds until it is refused.
    pub(super) const fn lasting(value: T) -> Self {
        Self { value, renew: None, until: None }
    }

    /// What lives this many seconds: it is renewed when two thirds of them are over. A life of 0 has no end.
    pub(super) fn living(value: T, seconds: u64) -> Self {
        // Nobody waits for the end of an age.
        let life = Duration::from_secs(seconds.min(u64::from(u32::MAX)));
        let after = |life: Duration| (seconds > 0).then(|| Instant::now() + life);
        Self { value, renew: after(life * 2 / 3), until: after(life) }
    }

    fn is_due(&self) -> bool {
        self.renew.is_some_and(|renew| renew <= Instant::now())
    }

    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }
}

/// Keeps one.
pub(super) struct Kept<T> {
    made: Mutex<Option<Made<T>>>,
    /// Why none or no other is made, and since when.
    refused: Sync<Option<Refusal>>,
}

#[derive(Clone)]
struct Refusal {
    since: Instant,
    last: Instant,
    error: ReadError,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { made: Mutex::new(None), refused: Sync::new(None) }
    }
}

impl<T: Clone> Kept<T> {
    /// What is kept, or what `make` makes of the former one; who asks at the same time waits for it.
    pub(super) async fn get<F>(&self, make: impl FnOnce(Option<T>) -> F) -> Result<T, ReadError>
    where
        F: Future<Output = Result<Made<T>, ReadError>>,
    {
        let mut kept = self.made.lock().await;
        if let Some(made) = kept.as_ref().filter(|made| !made.is_due()) {
            return Ok(made.value.clone());
        }
        let former = kept.clone();
        let made = match self.refusal().filter(|refusal| refusal.last.elapsed() < REFUSED_FOR) {
            Some(Refusal { error, .. }) => Err(error),
            None => make(former.as_ref().map(|made| made.value.clone())).await.inspect_err(|error| self.note(error)),
        };
        let made = match (made, former) {
            (Ok(made), _) => {
                *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = None;
                made
            }
            // What is there holds for a while yet; that no other could be had says nothing about it.
            (Err(_), Some(former)) if !former.is_over() => Made { renew: Some(Instant::now() + AGAIN), ..former },
            (Err(error), _) => {
                if error.reason == Reason::CredentialsError {
                    *kept = None;
                }
                return Err(error);
            }
        };
        let value = made.value.clone();
        *kept = Some(made);
        Ok(value)
    }

    /// Lets go of what is kept, if it is this.
    pub(super) async fn discard(&self, is_it: impl FnOnce(&T) -> bool) {
        self.made.lock().await.take_if(|made| is_it(&made.value));
    }
}

impl<T> Kept<T> {
    /// Why no other is made since this long, although what is kept may hold yet.
    pub(super) fn refused(&self) -> Option<(Duration, ReadError)> {
        self.refusal().map(|Refusal { since, error, .. }| (since.elapsed(), error))
    }

    fn refusal(&self) -> Option<Refusal> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, error: &ReadError) {
        if error.reason == Reason::CredentialsError {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            let since = refused.as_ref().map_or_else(Instant::now, |refusal| refusal.since);
            *refused = Some(Refusal { since, last: Instant::now(), error: error.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_holds_is_kept_and_what_is_refused_is_not_asked_for_at_once() {
        let kept = Kept::default();
        let made = async |value: u32, seconds| kept.get(|former| async move { Ok(Made::living(value + former.unwrap_or_default(), seconds)) }).await.ok();
        assert_eq!(made(1, 0).await, Some(1));
        assert_eq!(made(2, 0).await, Some(1), "it is there");
        kept.discard(|value| *value == 7).await;
        assert_eq!(made(3, 0).await, Some(1), "it was another that was refused");
        kept.discard(|value| *value == 1).await;
        let fails = async |reason| kept.get(|_| async move { Err(ReadError::new(reason, "because")) }).await.map_err(|error| error.reason);
        assert_eq!(fails(Reason::ProviderUnavailable).await, Err(Reason::ProviderUnavailable));
        assert_eq!(made(4, 0).await, Some(4), "an outage is no refusal");
        kept.discard(|_| true).await;
        let due = Made { renew: Some(Instant::now()), ..Made::lasting(6) };
        assert_eq!(kept.get(|_| async { Ok(due) }).await.ok(), Some(6));
        assert_eq!(fails(Reason::KubernetesError).await, Ok(6), "it holds until it is refused");
        assert_eq!(fails(Reason::Throttled).await, Ok(6), "and is not asked for again at once");
        kept.discard(|_| true).await;
        let until = Instant::now() + Duration::from_millis(300);
        let due = || Made { renew: Some(Instant::now()), until: Some(until), ..Made::lasting(8) };
        assert_eq!(kept.get(|_| async { Ok(due()) }).await.ok(), Some(8));
        assert!(kept.refused().is_none());
        assert_eq!(fails(Reason::CredentialsError).await, Ok(8), "it holds yet");
        assert!(kept.refused().is_some(), "and somebody can say what comes");
        *kept.made.lock().await = Some(due());
        tokio::time::sleep_until(until.into()).await;
        assert_eq!(fails(Reason::Throttled).await, Err(Reason::CredentialsError), "its time is over, and it was refused a moment ago");
        *kept.refused.lock().expect("no panic") = None;
        assert_eq!(fails(Reason::CredentialsError).await, Err(Reason::CredentialsError));
        assert_eq!(made(5, 0).await, None, "refused a moment ago");
    }
}
