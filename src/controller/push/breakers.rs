//! Whether a store is asked at all on behalf of a `RobotoPush`: one that doesn't answer is asked by one call at a time, until it does.
//!
//! Calls and how they ended enter, whether a call may leave leaves. Each identity of a provider has its own, and in it each family of calls: who may
//! read but hangs at writing is still read. What is read for mirroring has breakers of its own: nothing that a push meets may keep a Secret from
//! being fresh. No value comes near this room.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    api::Reason,
    limit::Family,
    provider::writing::WriteError,
    reader::breaker::{Admission, Breaker},
};

/// What failed no sooner than this was not answered. Shorter than the time in which a connection has to be made.
const HANGS: Duration = Duration::from_millis(2500);

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With an answer, whatever it says.
    Answered,
    /// With the first one after some that weren't answered.
    CameBack,
    /// Without one.
    Hung,
}

/// The breakers of one identity.
#[derive(Debug, Default)]
pub struct Breakers(Mutex<BTreeMap<Family, Breaker>>);

impl Breakers {
    fn all(&self) -> MutexGuard<'_, BTreeMap<Family, Breaker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a call of this family may be made.
    #[must_use]
    pub fn admit(&self, family: Family, now: Instant) -> bool {
        let admission = self.all().get(&family).map_or(Admission::Yes, |breaker| breaker.admits(now));
        !matches!(admission, Admission::NotBefore(_))
    }

    /// Takes note of a call that leaves. Returns whether it may.
    #[must_use]
    pub fn leave(&self, family: Family, now: Instant) -> bool {
        let mut all = self.all();
        let breaker = all.entry(family).or_default();
        let may = !matches!(breaker.admits(now), Admission::NotBefore(_));
        if may {
            breaker.left(now);
        }
        may
    }

    /// Takes note of how a call ended that left at `left`, and tells what that was.
    pub fn ended<T>(&self, family: Family, left: Instant, answer: &Result<T, WriteError>, now: Instant) -> Ended {
        let hung = now.saturating_duration_since(left) >= HANGS && answer.as_ref().is_err_and(|error| error.reason() == Reason::ProviderUnavailable);
        let mut all = self.all();
        let breaker = all.entry(family).or_default();
        if hung {
            breaker.timed_out(left, now);
            return Ended::Hung;
        }
        let was_open = breaker.is_open();
        breaker.answered();
        if was_open { Ended::CameBack } else { Ended::Answered }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::silent;

    const LOOKS: Family = Family("looks");
    const WRITES: Family = Family("writes");

    #[test]
    fn only_what_hangs_closes_a_family_and_a_quick_failure_is_an_answer() {
        let (breakers, start) = (Breakers::default(), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let hung = || -> Result<(), WriteError> { Err(silent().into()) };
        for (left, ended) in [(0, 5), (5, 10)] {
            assert!(breakers.leave(LOOKS, at(left)), "one that hangs is none");
            assert_eq!(breakers.ended(LOOKS, at(left), &hung(), at(ended)), Ended::Hung);
        }
        assert!(!breakers.admit(LOOKS, at(10)) && !breakers.leave(LOOKS, at(10)));
        assert!(breakers.admit(WRITES, at(10)), "another family");
        assert!(breakers.leave(LOOKS, at(11)), "a probe");
        assert!(!breakers.leave(LOOKS, at(11)), "a second probe");
        assert_eq!(breakers.ended(LOOKS, at(11), &hung(), at(12)), Ended::CameBack);
        assert!(breakers.admit(LOOKS, at(12)), "it failed in time");
        // What is slow and isn't the store's fault.
        for left in [12, 17, 22] {
            let denied: Result<(), WriteError> = Err(WriteError::NotFound);
            assert!(breakers.leave(LOOKS, at(left)));
            assert_eq!(breakers.ended(LOOKS, at(left), &denied, at(left + 5)), Ended::Answered);
        }
        assert!(breakers.admit(LOOKS, at(27)));
    }
}
