//! What a provider shows to be let in (a token, a key), kept until it is to be renewed.
//!
//! Who makes it enters; what was made leaves, shared by all who wait for it. What was refused is not asked for again at once, and what holds is
//! used while no other can be had. Nothing here is logged.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::ReadError;
use crate::api::Reason;

/// How long a refusal is taken for an answer: many resources may wait for the same.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// How soon what could not be renewed is tried again, as long as it holds.
const AGAIN: Duration = Duration::from_secs(10);

/// One thing that was made, and when another is to be.
#[derive(Clone)]
pub(super) struct Made<T> {
    pub(super) value: T,
    /// `None`: never.
    pub(super) renew: Option<Instant>,
}

impl<T> Made<T> {
    /// What lives this many seconds: it is renewed when two thirds of them are over. A life of 0 has no end.
    pub(super) fn living(value: T, seconds: u64) -> Self {
        // Nobody waits for the end of an age.
        let renew = (seconds > 0).then(|| Instant::now() + Duration::from_secs(seconds.min(u64::from(u32::MAX))) * 2 / 3);
        Self { value, renew }
    }
}

struct State<T> {
    made: Option<Made<T>>,
    refused: Option<(Instant, ReadError)>,
}

/// Keeps one.
pub(super) struct Kept<T>(Mutex<State<T>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::new(State { made: None, refused: None }))
    }
}

impl<T: Clone> Kept<T> {
    /// What is kept, or what `make` makes of the former one; who asks at the same time waits for it.
    pub(super) async fn get<F>(&self, make: impl FnOnce(Option<T>) -> F) -> Result<T, ReadError>
    where
        F: Future<Output = Result<Made<T>, ReadError>>,
    {
        let mut state = self.0.lock().await;
        if let Some((_, error)) = state.refused.as_ref().filter(|(when, _)| when.elapsed() < REFUSED_FOR) {
            return Err(error.clone());
        }
        let former = state.made.clone();
        if let Some(made) = former.as_ref().filter(|made| made.renew.is_none_or(|renew| renew > Instant::now())) {
            return Ok(made.value.clone());
        }
        let made = match (make(former.as_ref().map(|made| made.value.clone())).await, former) {
            (Ok(made), _) => made,
            // What is there holds for a while yet; that no other could be had says nothing about it.
            (Err(error), Some(former)) if error.reason != Reason::CredentialsError => Made { renew: Some(Instant::now() + AGAIN), ..former },
            (Err(error), _) => {
                if error.reason == Reason::CredentialsError {
                    *state = State { made: None, refused: Some((Instant::now(), error.clone())) };
                }
                return Err(error);
            }
        };
        let value = made.value.clone();
        *state = State { made: Some(made), refused: None };
        Ok(value)
    }

    /// Lets go of what is kept, if it is this.
    pub(super) async fn discard(&self, is_it: impl FnOnce(&T) -> bool) {
        self.0.lock().await.made.take_if(|made| is_it(&made.value));
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
        let due = Made { value: 6, renew: Some(Instant::now()) };
        assert_eq!(kept.get(|_| async { Ok(due) }).await.ok(), Some(6));
        assert_eq!(fails(Reason::KubernetesError).await, Ok(6), "it holds until it is refused");
        assert_eq!(fails(Reason::Throttled).await, Ok(6), "and is not asked for again at once");
        kept.discard(|_| true).await;
        assert_eq!(fails(Reason::CredentialsError).await, Err(Reason::CredentialsError));
        assert_eq!(made(5, 0).await, None, "refused a moment ago");
    }
}
