//! The queue: which resource is looked at next. Whoever somebody waits for goes before what merely comes round.
//!
//! Keys with their lanes enter, one key at a time leaves; none is worked on twice at once. What is pushed while it is worked on comes
//! again afterwards. Each key has at most one timer: the next look, as the last one planned it. The order is pure, the clock the
//! caller's; [`Queue`] shares it and wakes who waits for it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{sync::Notify, time::Instant};

use super::cache::Key;
use crate::reader::Lane;

/// When to look at a resource again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// After this long, or sooner if something happens.
    In(std::time::Duration),
    /// When something happens.
    OnChange,
}

impl Next {
    /// After this long at the latest.
    #[must_use]
    pub fn or_in(self, wait: std::time::Duration) -> Self {
        match self {
            Self::In(sooner) if sooner <= wait => self,
            Self::In(_) | Self::OnChange => Self::In(wait),
        }
    }
}

#[derive(Debug, Default)]
struct Order {
    waiting: BTreeSet<(Lane, u64, Arc<Key>)>,
    places: HashMap<Arc<Key>, Place>,
    timers: BTreeMap<(Instant, u64), Arc<Key>>,
    count: u64,
}

#[derive(Debug, Default)]
struct Place {
    waiting: Option<(Lane, u64)>,
    working: bool,
    timer: Option<(Instant, u64)>,
}

impl Order {
    fn push(&mut self, key: &Arc<Key>, lane: Lane) {
        self.count += 1;
        let number = self.count;
        let place = self.places.entry(key.clone()).or_default();
        let was = place.waiting;
        if was.is_some_and(|(was, _)| was <= lane) {
            return;
        }
        // A higher lane does not cost the place in time.
        let now = (lane, was.map_or(number, |(_, number)| number));
        place.waiting = Some(now);
        if place.working {
            return;
        }
        if let Some((lane, number)) = was {
            self.waiting.remove(&(lane, number, key.clone()));
        }
        self.waiting.insert((now.0, now.1, key.clone()));
    }

    /// The next key and its lane, unless nobody waits; it is worked on until [`Order::done`].
    fn pop(&mut self, now: Instant) -> Option<(Arc<Key>, Lane)> {
        while let Some(entry) = self.timers.first_entry().filter(|entry| entry.key().0 <= now) {
            let key = entry.remove();
            if let Some(place) = self.places.get_mut(&key) {
                place.timer = None;
            }
            self.push(&key, Lane::Drift);
        }
        let (lane, _, key) = self.waiting.pop_first()?;
        let timer = self.places.get_mut(&key).and_then(|place| {
            place.waiting = None;
            place.working = true;
            place.timer.take()
        });
        // It is looked at now, and plans its next look anew.
        if let Some(timer) = timer {
            self.timers.remove(&timer);
        }
        Some((key, lane))
    }

    fn done(&mut self, key: &Key, next: Option<Instant>) {
        self.count += 1;
        let number = self.count;
        let Some((shared, _)) = self.places.get_key_value(key) else { return };
        let shared = shared.clone();
        let Some(place) = self.places.get_mut(key) else { return };
        place.working = false;
        if let Some((lane, number)) = place.waiting {
            self.waiting.insert((lane, number, shared));
        } else if let Some(next) = next {
            place.timer = Some((next, number));
            self.timers.insert((next, number), shared);
        } else {
            self.places.remove(key);
        }
    }
}

/// The queue of all resources. It takes nothing in before it is opened: who follows another controller has nothing to work on.
#[derive(Debug, Default)]
pub struct Queue {
    order: Mutex<Order>,
    changed: Notify,
    open: AtomicBool,
}

impl Queue {
    fn order(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on resources are looked at. Those that are there already have to be pushed.
    pub fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
    }

    /// Has a resource looked at.
    pub fn push(&self, key: &Arc<Key>, lane: Lane) {
        if !self.open.load(Ordering::SeqCst) {
            return;
        }
        self.order().push(key, lane);
        self.changed.notify_one();
    }

    /// The next resource to look at, unless none waits; whoever takes it calls [`Queue::done`].
    #[must_use]
    pub fn pop(&self) -> Option<(Arc<Key>, Lane)> {
        self.order().pop(Instant::now())
    }

    /// A look is over; when the next one is planned.
    pub fn done(&self, key: &Key, next: Next) {
        let next = match next {
            Next::In(wait) => Some(Instant::now() + wait),
            Next::OnChange => None,
        };
        self.order().done(key, next);
        self.changed.notify_one();
    }

    /// Waits until something may have come to the front.
    pub async fn changed(&self) {
        let next = self.order().timers.first_key_value().map(|((next, _), _)| *next);
        woken(&self.changed, next).await;
    }
}

/// Waits until something changed, or until this time.
pub(super) async fn woken(changed: &Notify, time: Option<Instant>) {
    let timer = async {
        match time {
            Some(time) => tokio::time::sleep_until(time).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = changed.notified() => {}
        () = timer => {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn key(name: &str) -> Arc<Key> {
        Arc::new(("shop".to_owned(), name.to_owned()))
    }

    fn popped(order: &mut Order, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| order.pop(now)).map(|(key, _)| key.1.clone()).collect()
    }

    #[test]
    fn lanes_go_before_each_other_and_within_one_the_first_comes_first() {
        let mut order = Order::default();
        for (name, lane) in [("a", Lane::Periodic), ("b", Lane::New), ("c", Lane::Periodic), ("d", Lane::Event), ("e", Lane::New), ("c", Lane::Drift)] {
            order.push(&key(name), lane);
        }
        assert_eq!(order.pop(Instant::now()), Some((key("b"), Lane::New)), "with its lane");
        assert_eq!(popped(&mut order, Instant::now()), ["e", "d", "c", "a"]);
    }

    #[test]
    fn none_is_worked_on_twice_at_once_and_what_came_meanwhile_comes_after() {
        let (mut order, now) = (Order::default(), Instant::now());
        order.push(&key("a"), Lane::New);
        assert_eq!(popped(&mut order, now), ["a"]);
        order.push(&key("a"), Lane::Event);
        assert_eq!(popped(&mut order, now), [""; 0]);
        order.done(&key("a"), Some(now + Duration::from_secs(60)));
        assert_eq!(popped(&mut order, now), ["a"]);
        order.done(&key("a"), None);
        assert!(order.places.is_empty() && order.timers.is_empty());
    }

    #[test]
    fn a_look_is_planned_once_and_an_earlier_look_replaces_the_plan() {
        let (mut order, now) = (Order::default(), Instant::now());
        order.push(&key("a"), Lane::New);
        assert_eq!(popped(&mut order, now), ["a"]);
        order.done(&key("a"), Some(now + Duration::from_secs(60)));
        assert_eq!(popped(&mut order, now + Duration::from_secs(59)), [""; 0]);
        order.push(&key("a"), Lane::Event);
        assert_eq!(popped(&mut order, now), ["a"]);
        order.done(&key("a"), Some(now + Duration::from_secs(90)));
        assert_eq!(popped(&mut order, now + Duration::from_secs(89)), [""; 0]);
        assert_eq!(popped(&mut order, now + Duration::from_secs(90)), ["a"]);
    }

    proptest! {
        #[test]
        fn nothing_that_was_pushed_is_lost(deeds in proptest::collection::vec((0_u8..3, 0_usize..5, 0_usize..4), 1..200)) {
            let lanes = [Lane::New, Lane::Event, Lane::Drift, Lane::Periodic];
            let (mut order, now) = (Order::default(), Instant::now());
            let mut working: Vec<Arc<Key>> = Vec::new();
            let mut owed: BTreeSet<Arc<Key>> = BTreeSet::new();
            for (deed, name, lane) in deeds {
                match deed {
                    0 => {
                        let key = key(&name.to_string());
                        order.push(&key, lanes[lane]);
                        owed.insert(key);
                    }
                    1 => {
                        if let Some((key, _)) = order.pop(now) {
                            prop_assert!(!working.contains(&key), "worked on twice at once");
                            owed.remove(&key);
                            working.push(key);
                        }
                    }
                    _ => {
                        if !working.is_empty() {
                            order.done(&working.remove(0), None);
                        }
                    }
                }
            }
            for key in working {
                order.done(&key, None);
            }
            let rest: BTreeSet<Arc<Key>> = std::iter::from_fn(|| order.pop(now)).map(|(key, _)| key).collect();
            prop_assert_eq!(rest, owed);
        }
    }
}
