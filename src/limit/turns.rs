//! Leave for calls that nobody queued: the second and further ones that an answer takes.
//!
//! A call enters, its answer leaves, once its turn has come and unless it takes too long. They are paid like all others, from the
//! bucket of their account and family, and compete for it with all others: nobody is starved for a listing of a thousand pages.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::BoxFuture;

use super::{Bucket, Budget, Budgets};

/// How long one call may take.
pub const CALL_LIMIT: Duration = Duration::from_secs(5);

/// The turns in front of one bucket.
#[derive(Clone, Debug)]
pub struct Turns {
    budgets: Arc<Mutex<Budgets>>,
    budget: Budget,
}

impl Turns {
    /// Turns in front of the bucket of this budget. Where there is none, it is always one's turn.
    #[must_use]
    pub fn new(budgets: Arc<Mutex<Budgets>>, budget: Budget) -> Self {
        Self { budgets, budget }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Bucket) -> T) -> Option<T> {
        lock(&self.budgets).bucket(&self.budget).map(act)
    }

    /// Waits until a call may be made.
    pub async fn next(&self) {
        while let Some(Err(when)) = self.with(|bucket| bucket.take(Instant::now())) {
            tokio::time::sleep_until(when.into()).await;
        }
    }

    /// Takes note of a throttled answer.
    pub fn throttled(&self) {
        self.with(|bucket| bucket.throttled(Instant::now()));
    }
}

/// The budgets, also after a panic of somebody who held them.
pub fn lock(budgets: &Mutex<Budgets>) -> MutexGuard<'_, Budgets> {
    budgets.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The calls that one question takes. The first had its turn before the question was asked; each further one waits for its own.
#[derive(Debug)]
pub struct Calls {
    turns: Turns,
    begun: AtomicBool,
    hung: AtomicBool,
    found: Arc<AtomicUsize>,
}

impl Calls {
    /// The calls of one question.
    #[must_use]
    pub fn new(turns: Turns) -> Self {
        Self { turns, begun: AtomicBool::new(false), hung: AtomicBool::new(false), found: Arc::default() }
    }

    /// The same, with a number that shows how many names a listing has found so far.
    #[must_use]
    pub fn counting(self, found: Arc<AtomicUsize>) -> Self {
        Self { found, ..self }
    }

    /// Takes note of how many names a listing has found so far.
    pub fn found(&self, names: usize) {
        self.found.store(names, Ordering::Relaxed);
    }

    /// Makes a call when it is its turn. `None`: it was not answered within [`CALL_LIMIT`].
    pub async fn make<T>(&self, call: BoxFuture<'_, T>) -> Option<T> {
        if self.begun.swap(true, Ordering::Relaxed) {
            self.turns.next().await;
        }
        let answer = tokio::time::timeout(CALL_LIMIT, call).await.ok();
        self.hung.fetch_or(answer.is_none(), Ordering::Relaxed);
        answer
    }

    /// Takes note of a throttled answer that is not the last word.
    pub fn throttled(&self) {
        self.turns.throttled();
    }

    /// Whether one of them was not answered in time.
    #[must_use]
    pub fn hung(&self) -> bool {
        self.hung.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::limit::Family;

    const FAMILY: Family = Family("family");

    fn calls(ceiling: f64) -> Calls {
        let (budgets, account) = (Arc::new(Mutex::new(Budgets::default())), Arc::from("account"));
        lock(&budgets).enlist("provider", &account, FAMILY, ceiling, Instant::now());
        Calls::new(Turns::new(budgets, (account, FAMILY)))
    }

    #[tokio::test]
    async fn all_but_the_first_wait_for_their_turn() {
        // The bucket holds two at the start, so that of six calls three wait a twentieth of a second each.
        let (calls, started) = (calls(20.0), Instant::now());
        for call in 0..6 {
            assert_eq!(calls.make(async move { call }.boxed()).await, Some(call));
        }
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(145), "five turns at 20 a second in {took:?}");
        calls.throttled();
        assert_eq!(calls.turns.with(|bucket| bucket.rate()), Some(10.0));
        assert!(!calls.hung());
    }

    #[tokio::test]
    async fn a_call_that_hangs_is_given_up_and_remembered() {
        let calls = Calls::new(Turns::new(Arc::default(), ("account".into(), FAMILY)));
        assert_eq!(calls.make(async { 1 }.boxed()).await, Some(1));
        assert_eq!(calls.make(std::future::pending::<()>().boxed()).await, None);
        assert!(calls.hung());
    }
}
