//! Whose status is written only to tell the time of the last check: at most five a second over all resources, first come first served.
//!
//! Resources with something to tell enter; the one whose turn it is leaves. Nothing is written here.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{cache::Key, ration::Ration};

/// How many such writes there are a second at most.
const PER_SECOND: u32 = 5;
/// How often the queue is looked at while nobody waits in it.
const IDLE: Duration = Duration::from_millis(200);

/// Who may tell.
pub struct Tellings(Mutex<State>);

struct State {
    ration: Ration,
    /// Those whose turn has come.
    called: BTreeSet<Key>,
}

impl Default for Tellings {
    fn default() -> Self {
        Self(Mutex::new(State { ration: Ration::new(PER_SECOND, Instant::now()), called: BTreeSet::new() }))
    }
}

impl Tellings {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a resource may tell now. If not, it is called by [`Tellings::run`] when its turn has come.
    #[must_use]
    pub fn may_tell(&self, key: &Key) -> bool {
        let mut state = self.state();
        state.called.remove(key) || state.ration.ask(key, Instant::now())
    }

    /// Lets a resource go: it is deleted, or its status was written for another reason. What it was granted is not kept for later.
    pub fn forget(&self, key: &Key) {
        let mut state = self.state();
        state.called.remove(key);
        state.ration.forget(key);
    }

    /// Calls everybody whose turn has come, for ever.
    pub async fn run(&self, call: impl Fn(&Key)) {
        loop {
            let next = {
                let mut state = self.state();
                let next = state.ration.next(Instant::now());
                if let Ok(key) = &next {
                    state.called.insert(key.clone());
                }
                next
            };
            match next {
                Ok(key) => call(&key),
                Err(next) => tokio::time::sleep_until(next.unwrap_or_else(|| Instant::now() + IDLE).into()).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_tells_otherwise_what_it_was_called_for_has_no_turn_left() {
        let tellings = Tellings::default();
        let key = |name: &str| ("shop".to_owned(), name.to_owned());
        assert!(tellings.may_tell(&key("first")));
        for name in ["a", "b"] {
            assert!(!tellings.may_tell(&key(name)));
        }
        let (called, mut calls) = tokio::sync::mpsc::unbounded_channel();
        let run = tellings.run(|key| drop(called.send(key.1.clone())));
        let both = async { (calls.recv().await, calls.recv().await) };
        let both = tokio::select! { () = run => (None, None), both = both => both };
        assert_eq!(both, (Some("a".to_owned()), Some("b".to_owned())));
        tellings.forget(&key("a"));
        assert!(!tellings.may_tell(&key("a")) && tellings.may_tell(&key("b")));
    }
}
