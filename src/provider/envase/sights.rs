//! What this client saw of its secrets, so that a 404 can be told from a way that leads nowhere any more.
//!
//! Answers enter; whether one may be taken for the store's word leaves. Pure: the clock comes in as an argument. Nothing here outlives the client: another
//! token, another spec and another process begin anew, since the same address may be another tenant's for them.

use std::{collections::HashMap, time::Instant};

/// What was seen.
#[derive(Default)]
pub(super) struct Sights {
    /// Since when they are missing, of those that were there.
    served: HashMap<String, Option<Instant>>,
    /// When anything was last there: of standard secrets, and of organisations'.
    latest: [Option<Instant>; 2],
}

impl Sights {
    /// It is there.
    pub(super) fn there(&mut self, place: &str, of_organization: bool, now: Instant) {
        self.served.insert(place.to_owned(), None);
        self.latest[usize::from(of_organization)] = Some(now);
    }

    /// It is missing. Whether the way there is known to lead somewhere: it was there before, and something else of its kind was since it isn't.
    pub(super) fn missing(&mut self, place: &str, of_organization: bool, now: Instant) -> Missing {
        match self.served.get_mut(place) {
            None => Missing::NeverSeen,
            Some(since) => {
                let since = *since.get_or_insert(now);
                if self.latest[usize::from(of_organization)].is_some_and(|latest| latest > since) { Missing::Alone } else { Missing::MaybeAll }
            }
        }
    }
}

/// How one is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// This client never had it.
    NeverSeen,
    /// Nothing of its kind was seen since.
    MaybeAll,
    /// Others of its kind are there.
    Alone,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_is_missing_alone_when_others_were_there_since() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut sights = Sights::default();
        assert_eq!(sights.missing("a", false, at(0)), Missing::NeverSeen);
        sights.there("a", false, at(1));
        sights.there("b", false, at(2));
        assert_eq!(sights.missing("a", false, at(3)), Missing::MaybeAll);
        sights.there("o", true, at(4));
        assert_eq!(sights.missing("a", false, at(5)), Missing::MaybeAll, "an organisation's are elsewhere");
        sights.there("b", false, at(6));
        assert_eq!(sights.missing("a", false, at(7)), Missing::Alone);
        sights.there("a", false, at(8));
        assert_eq!(sights.missing("a", false, at(9)), Missing::MaybeAll, "it came back");
    }
}
