//! Whether what the store shows no more is gone for certain.
//!
//! Sightings of an absence enter, verdicts leave. Pure: the clock comes in as an argument. One look never counts as proof: a second
//! one must agree, long enough after the first and through the same provider as it was then. Nothing here outlives the process, so
//! that after a restart the proof begins anew.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use crate::reader::ScopeId;

/// How long after the first look a second one proves that a source is gone.
pub const PROOF: Duration = Duration::from_secs(60);
/// How long a source that exists and is listed no more is kept: listings may lag behind for minutes.
pub const STALE_LISTING: Duration = Duration::from_secs(5 * 60 + 1);
/// For how long an absence counts among those that came together, after it was last seen: what is still missing never grows old.
const TOGETHER: Duration = Duration::from_hours(1);
/// So many references of a provider may always vanish within that time.
const FEW: usize = 5;

/// How a source is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The store says that there is no such thing.
    Gone,
    /// It is there, and what is searched for does not list it any more.
    Unlisted,
}

/// The provider that an absence was seen through: after an edit of it, the proof begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lens {
    /// The identity and place.
    pub scope: ScopeId,
    /// The generation of the provider.
    pub generation: i64,
}

#[derive(Clone, Copy, Debug)]
struct Sighting {
    kind: Kind,
    lens: Lens,
    since: Instant,
}

/// What one resource misses, by reference.
#[derive(Debug, Default)]
pub struct Absences(BTreeMap<String, Sighting>);

impl Absences {
    /// Takes note of an absence. Returns whether it is proven by now.
    pub fn see(&mut self, reference: &str, kind: Kind, lens: Lens, now: Instant) -> bool {
        let sighting = self.0.entry(reference.to_owned()).or_insert(Sighting { kind, lens, since: now });
        if (sighting.kind, sighting.lens) != (kind, lens) {
            *sighting = Sighting { kind, lens, since: now };
        }
        let proof = match kind {
            Kind::Gone => PROOF,
            Kind::Unlisted => STALE_LISTING,
        };
        now.duration_since(sighting.since) >= proof
    }

    /// When the absence was first seen.
    #[must_use]
    pub fn since(&self, reference: &str) -> Option<Instant> {
        self.0.get(reference).map(|sighting| sighting.since)
    }

    /// Forgets all but these: the others are there again, or nobody asks for them any more.
    pub fn keep_only(&mut self, still: impl Fn(&str) -> bool) {
        self.0.retain(|reference, _| still(reference));
    }
}

/// What vanished from one provider lately, whoever asked for it.
#[derive(Debug, Default)]
pub struct Vanished(HashMap<String, Instant>);

/// Whether so much vanished that a person has to confirm it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// How many references are missing, or were within the last hour.
    pub vanished: usize,
    /// From how many on nothing is removed.
    pub limit: usize,
}

impl Tally {
    /// Whether it is too much to be believed.
    #[must_use]
    pub const fn is_mass(&self) -> bool {
        self.vanished >= self.limit
    }
}

impl Vanished {
    /// Whether nothing is missing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes note of a reference that is not there.
    pub fn add(&mut self, reference: &str, now: Instant) {
        self.0.insert(reference.to_owned(), now);
    }

    /// Takes note of one that is there again.
    pub fn remove(&mut self, reference: &str) {
        self.0.remove(reference);
    }

    /// How much vanished, of a provider with so many references.
    pub fn tally(&mut self, references: usize, now: Instant) -> Tally {
        self.0.retain(|_, since| now.duration_since(*since) < TOGETHER);
        Tally { vanished: self.0.len(), limit: FEW.max(references / 10) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENS: Lens = Lens { scope: ScopeId(1), generation: 1 };

    fn at(seconds: u64) -> Instant {
        use std::sync::LazyLock;
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        *START + Duration::from_secs(seconds)
    }

    #[test]
    fn a_second_look_a_minute_later_proves_it() {
        let mut absences = Absences::default();
        assert!(!absences.see("x", Kind::Gone, LENS, at(0)));
        assert!(!absences.see("x", Kind::Gone, LENS, at(59)));
        assert!(absences.see("x", Kind::Gone, LENS, at(60)));
        assert!(!absences.see("y", Kind::Gone, LENS, at(60)), "each for itself");
        assert_eq!(absences.since("x"), Some(at(0)));
    }

    #[test]
    fn a_listing_is_believed_after_more_than_five_minutes() {
        let mut absences = Absences::default();
        assert!(!absences.see("x", Kind::Unlisted, LENS, at(0)));
        assert!(!absences.see("x", Kind::Unlisted, LENS, at(300)));
        assert!(absences.see("x", Kind::Unlisted, LENS, at(301)));
    }

    #[test]
    fn what_was_there_in_between_or_is_seen_otherwise_begins_anew() {
        let mut absences = Absences::default();
        for lens in [Lens { generation: 2, ..LENS }, Lens { scope: ScopeId(2), ..LENS }] {
            assert!(!absences.see("x", Kind::Gone, LENS, at(0)));
            assert!(!absences.see("x", Kind::Gone, lens, at(100)));
        }
        assert!(!absences.see("x", Kind::Unlisted, LENS, at(1000)));
        assert!(!absences.see("x", Kind::Gone, LENS, at(2000)));
        absences.keep_only(|reference| reference == "y");
        assert!(!absences.see("x", Kind::Gone, LENS, at(3000)));
    }

    #[test]
    fn five_or_a_tenth_may_vanish_in_an_hour() {
        let tally = |vanished: usize, references| {
            let mut all = Vanished::default();
            (0..vanished).for_each(|i| all.add(&i.to_string(), at(i as u64)));
            all.tally(references, at(1800))
        };
        for (vanished, references, mass) in [(4, 0, false), (4, 40, false), (5, 0, true), (5, 59, true), (5, 60, false), (99, 1000, false), (100, 1000, true)] {
            assert_eq!(tally(vanished, references).is_mass(), mass, "{vanished} of {references}");
        }
    }

    #[test]
    fn what_came_back_or_is_long_ago_does_not_count() {
        let mut all = Vanished::default();
        (0..6).for_each(|i: u64| all.add(&i.to_string(), at(i)));
        assert_eq!(all.tally(10, at(3599)).vanished, 6);
        all.remove("5");
        assert_eq!(all.tally(10, at(3602)).vanished, 2, "the first three are over an hour old, and one came back");
    }

    #[test]
    fn what_is_still_missing_counts_until_somebody_confirms_it() {
        let mut all = Vanished::default();
        for hour in 0..5 {
            (0..6).for_each(|i: u64| all.add(&i.to_string(), at(hour * 3600 + i * 600)));
            assert!(all.tally(10, at(hour * 3600 + 3599)).is_mass(), "in hour {hour}");
        }
    }
}
