//! Who may write a status that only tells the time of the last check: a few a second over all resources, in the order in which they asked.
//!
//! Keys and times enter, grants leave. Pure: it writes nothing, and the clock is the caller's. It must never queue a resource twice.

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use super::cache::Key;
use crate::limit::Bucket;

/// Grants, at most so many a second, first come first served.
#[derive(Debug)]
pub struct Ration {
    bucket: Bucket,
    /// Who waits, by number, and the number of each who waits.
    queue: BTreeMap<u64, Key>,
    numbers: HashMap<Key, u64>,
    next: u64,
}

impl Ration {
    /// A ration of so many grants a second.
    #[must_use]
    pub fn new(per_second: u32, now: Instant) -> Self {
        Self { bucket: Bucket::new(f64::from(per_second), now), queue: BTreeMap::new(), numbers: HashMap::new(), next: 0 }
    }

    /// Whether the grant is there now. If not, the resource is queued for [`Self::next`], unless it is already.
    pub fn ask(&mut self, key: &Key, now: Instant) -> bool {
        if self.queue.is_empty() && self.bucket.take(now).is_ok() {
            return true;
        }
        if !self.numbers.contains_key(key) {
            self.numbers.insert(key.clone(), self.next);
            self.queue.insert(self.next, key.clone());
            self.next += 1;
        }
        false
    }

    /// Hands out the grant of the first in the queue. The error tells when there will be one; `None`: nobody waits.
    pub fn next(&mut self, now: Instant) -> Result<Key, Option<Instant>> {
        let first = self.queue.first_entry().ok_or(None)?;
        self.bucket.take(now).map_err(Some)?;
        let key = first.remove();
        self.numbers.remove(&key);
        Ok(key)
    }

    /// Lets a resource go that no longer needs its grant: it was deleted, or its status was written for another reason.
    pub fn forget(&mut self, key: &Key) {
        if let Some(number) = self.numbers.remove(key) {
            self.queue.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, time::Duration};

    use proptest::prelude::*;

    use super::*;

    fn key(name: usize) -> Key {
        ("shop".to_owned(), name.to_string())
    }

    #[test]
    fn five_a_second_in_the_order_in_which_they_asked() {
        let start = Instant::now();
        let mut ration = Ration::new(5, start);
        assert!(ration.ask(&key(0), start));
        for name in (1..=20).chain(1..=20) {
            assert!(!ration.ask(&key(name), start));
        }
        let (mut now, mut granted) = (start, Vec::new());
        let left = loop {
            match ration.next(now) {
                Ok(key) => granted.push((key, now)),
                Err(Some(then)) => now = then,
                Err(None) => break now - start,
            }
        };
        assert_eq!(granted.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(), (1..=20).map(key).collect::<Vec<_>>());
        assert!(left.abs_diff(Duration::from_secs(4)) < Duration::from_millis(1), "{left:?}");
        assert!(ration.ask(&key(1), now + Duration::from_millis(200)), "who had its turn may ask again");
    }

    #[test]
    fn who_asks_while_others_wait_waits_behind_them() {
        let start = Instant::now();
        let mut ration = Ration::new(1, start);
        assert!(ration.ask(&key(0), start));
        assert!(!ration.ask(&key(1), start));
        let later = start + Duration::from_secs(10);
        assert!(!ration.ask(&key(2), later));
        assert_eq!(ration.next(later), Ok(key(1)));
        assert!(!ration.ask(&key(1), later), "there is a queue");
        ration.forget(&key(2));
        ration.forget(&key(3));
        assert_eq!(ration.next(later + Duration::from_secs(1)), Ok(key(1)));
        assert_eq!(ration.next(later + Duration::from_secs(2)), Err(None));
    }

    #[derive(Clone, Debug)]
    enum Deed {
        Ask(usize),
        Next,
        Forget(usize),
    }

    proptest! {
        #[test]
        fn nobody_is_lost_doubled_or_overtaken_and_the_ration_holds(
            per_second in 1_u32..20,
            deeds in proptest::collection::vec(
                (0_u64..500, prop_oneof![4 => (0_usize..10).prop_map(Deed::Ask), 3 => Just(Deed::Next), 1 => (0_usize..10).prop_map(Deed::Forget)]),
                1..300,
            ),
        ) {
            let mut now = Instant::now();
            let mut ration = Ration::new(per_second, now);
            let (mut waiting, mut grants): (Vec<Key>, Vec<Instant>) = (Vec::new(), Vec::new());
            for (gap, deed) in deeds {
                now += Duration::from_millis(gap);
                match deed {
                    Deed::Ask(name) => {
                        if ration.ask(&key(name), now) {
                            prop_assert!(waiting.is_empty(), "{:?} were overtaken", waiting);
                            grants.push(now);
                        } else if !waiting.contains(&key(name)) {
                            waiting.push(key(name));
                        }
                    }
                    Deed::Next => match ration.next(now) {
                        Ok(granted) => {
                            prop_assert_eq!(&granted, &waiting.remove(0));
                            grants.push(now);
                        }
                        Err(Some(then)) => prop_assert!(then > now && then <= now + Duration::from_secs(1) + Duration::from_micros(1) && !waiting.is_empty()),
                        Err(None) => prop_assert!(waiting.is_empty(), "{:?} are lost", waiting),
                    },
                    Deed::Forget(name) => {
                        ration.forget(&key(name));
                        waiting.retain(|waiting| *waiting != key(name));
                    }
                }
                let queued: HashSet<&Key> = ration.queue.values().collect();
                prop_assert_eq!(queued.len(), waiting.len());
                prop_assert_eq!(ration.numbers.len(), waiting.len());
            }
            // A full second has room for the ration, and for one that came early by its burst (a tenth of it, at least one).
            for (first, at) in grants.iter().enumerate() {
                let second = grants[first..].iter().take_while(|other| **other - *at < Duration::from_millis(999)).count();
                prop_assert!(second <= per_second as usize + (per_second as usize / 10), "{} in a second", second);
            }
        }
    }
}
