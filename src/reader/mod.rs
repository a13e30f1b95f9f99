//! The reader: stands between many resources and few stores.
//!
//! Resources ask for values and have references rechecked; the reader decides when, in which company and how often the store is
//! called, and tells who has an answer. The decisions are pure and in rooms of their own: [`table`] (who waits, what is due, who
//! shares a call), [`limit`](crate::limit) (how often), [`breaker`] (whether at all), [`phase`] (when first). Here are the calls. A value never
//! crosses from one scope to another, is never logged, and is wiped with the last who holds it.

pub mod breaker;
mod held;
pub mod phase;
pub mod table;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;

use self::table::{Call, Outcome, Recheck, Table};
pub use self::{
    held::{Answer, Held},
    table::{Expected, Item, News, ScopeId},
};
use crate::{
    api::Reason,
    limit::{CALL_LIMIT, Calls, Family, Turns, lock},
    provider::{Lot, Provider, Question, ReadError},
    telemetry::Metrics,
};

/// Who asks: namespace and name of a resource.
pub type Key = (String, String);

/// How long all calls of a listing may take together.
const LISTING_LIMIT: Duration = Duration::from_mins(2);
/// How soon after a change a reference is looked at again: the store may still answer with either version for a while.
const SECOND_LOOK: Duration = Duration::from_secs(30);

/// The part of a TTL that passes at least between a read and the first recheck.
const SOONEST: u32 = 6;

/// Whose turn it is: a lane goes before all those after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// A resource that is new, whose spec changed, or whose Secret is gone.
    New,
    /// Somebody asked, or something happened: the refresh annotation, a changed provider, a changed value.
    Event,
    /// Damage, and failures that are tried again.
    Drift,
    /// All that merely comes round.
    Periodic,
}

impl Lane {
    /// The lane as it stands in a trace.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Event => "event",
            Self::Drift => "drift",
            Self::Periodic => "periodic",
        }
    }
}

/// Since when a reference is known as it is.
#[derive(Clone, Copy, Debug)]
pub enum Since {
    /// It was just read; whether as something new.
    Now {
        /// Another version than before was read.
        changed: bool,
    },
    /// An earlier process read it, last at this time.
    Restart {
        /// The last good check that was written down.
        last_check: Option<Timestamp>,
    },
}

/// A scope whose identity may not read in company: told once, for an event.
#[derive(Clone, Debug)]
pub struct Denied {
    /// The scope.
    pub scope: ScopeId,
    /// What it reads one by one from now on.
    pub lot: &'static Lot,
    /// Why, in words that tell what to grant.
    pub error: ReadError,
}

/// The reader.
pub struct Reader {
    table: Mutex<Table>,
    providers: Mutex<HashMap<ScopeId, Arc<dyn Provider>>>,
    scopes: AtomicU64,
    changed: Notify,
    metrics: Metrics,
    /// Tells this process's ramp of what is overdue from another's.
    salt: i128,
}

impl Reader {
    /// A reader without scopes; nothing is called before [`Reader::run`].
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self {
            table: Mutex::default(),
            providers: Mutex::default(),
            scopes: AtomicU64::new(1),
            changed: Notify::new(),
            metrics,
            salt: Timestamp::now().as_nanosecond(),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn providers(&self) -> MutexGuard<'_, HashMap<ScopeId, Arc<dyn Provider>>> {
        self.providers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a scope: one identity in one place. What it reads is never given to those who ask another.
    pub fn open(&self, provider: Arc<dyn Provider>) -> ScopeId {
        let scope = ScopeId(self.scopes.fetch_add(1, Ordering::Relaxed));
        self.table().open(scope, provider.account().into());
        self.providers().insert(scope, provider);
        self.reprice(scope);
        scope
    }

    /// Takes up a provider's changed limits.
    pub fn reprice(&self, scope: ScopeId) {
        let Some(provider) = self.providers().get(&scope).cloned() else { return };
        let (account, now) = (Arc::from(provider.account()), Instant::now());
        let table = self.table();
        for (family, ceiling) in provider.ceilings() {
            lock(table.budgets()).enlist(&scope.0.to_string(), &account, family, ceiling, now);
        }
    }

    /// Turns for calls that are no questions, such as writes: they count against the same limits.
    #[must_use]
    pub fn turns(&self, provider: &dyn Provider, family: Family) -> Turns {
        Turns::new(self.table().budgets().clone(), (provider.account().into(), family))
    }

    /// Closes a scope. Returns who asked it or watched it, and has to look again.
    pub fn close(&self, scope: ScopeId) -> Vec<Arc<Key>> {
        self.providers().remove(&scope);
        let mut table = self.table();
        lock(table.budgets()).dismiss(&scope.0.to_string(), Instant::now());
        let asked = table.close(scope, Instant::now());
        drop(table);
        self.changed.notify_one();
        asked
    }

    /// Something to ask in a scope; `None` if the scope is closed.
    #[must_use]
    pub fn item(&self, scope: ScopeId, question: &Question) -> Option<Item> {
        let provider = self.providers().get(&scope).cloned()?;
        Some(Item { scope, question: Arc::new(question.clone()), route: provider.route(question) })
    }

    /// Asks for items, in place of what the same one asked for before. No call that has left already serves it.
    pub fn ask(&self, key: &Arc<Key>, lane: Lane, items: &[Item]) {
        self.table().ask(key, lane, items, Instant::now());
        self.changed.notify_one();
    }

    /// Takes back what was asked.
    pub fn unask(&self, key: &Key) {
        self.table().unask(key);
        self.changed.notify_one();
    }

    /// The answers to what the key asked, in order, once all are there.
    #[must_use]
    pub fn take(&self, key: &Key) -> Option<Vec<Answer>> {
        self.table().take(key)
    }

    /// Whether the key asked and has not all answers yet.
    #[must_use]
    pub fn waits(&self, key: &Key) -> bool {
        self.table().waits(key)
    }

    /// Has items rechecked every TTL, in place of what the same one watched before.
    pub fn watch(&self, key: &Arc<Key>, ttl: Duration, items: Vec<(Item, Expected)>, since: Since) {
        let (now, clock) = (Instant::now(), Timestamp::now());
        let mut table = self.table();
        let rechecks = items.into_iter().map(|(item, expected)| {
            let (wait, checked) = first_recheck(&table.phase(&item, now), ttl, since, clock, self.salt);
            Recheck { item, expected, checked: checked.then_some(now), due: now + wait }
        });
        let rechecks = rechecks.collect();
        table.watch(key, ttl, rechecks, now);
        drop(table);
        self.changed.notify_one();
    }

    /// Watches nothing any more.
    pub fn unwatch(&self, key: &Key) {
        self.table().unwatch(key, Instant::now());
        self.changed.notify_one();
    }

    /// Asks for nothing and watches nothing any more. What was read for it and not used makes room for others.
    pub fn forget(&self, key: &Key) {
        self.table().forget(key, Instant::now());
        self.changed.notify_one();
    }

    /// Has a key told when one of these services answers again: its trouble was theirs.
    pub fn strand(&self, key: &Arc<Key>, services: &[(ScopeId, &'static str)]) {
        self.table().strand(key, services);
    }

    /// Whether the key has anything rechecked.
    #[must_use]
    pub fn watches(&self, key: &Key) -> bool {
        self.table().watches(key)
    }

    /// What a recheck found, until the key asks or watches anew.
    #[must_use]
    pub fn news(&self, key: &Key) -> Option<News> {
        self.table().news(key)
    }

    /// When this process last saw all that the key watches as it is mirrored.
    #[must_use]
    pub fn last_check(&self, key: &Key) -> Option<Timestamp> {
        let checked = self.table().checked(key)?;
        let age = SignedDuration::try_from(checked.elapsed()).ok()?;
        Timestamp::now().checked_sub(age).ok()
    }

    /// How many distinct references of a scope are asked or rechecked, those that a listing brought included.
    #[must_use]
    pub fn references(&self, scope: ScopeId) -> usize {
        self.table().references(scope)
    }

    /// Looks anew: values that were read are used by now.
    pub fn poke(&self) {
        self.changed.notify_one();
    }

    /// Calls the stores until the token is cancelled; what is under way then is dropped. `wake` is called with whoever has an answer
    /// or news.
    pub async fn run(&self, wake: impl Fn(&Arc<Key>, Lane), denied: impl Fn(Denied), stop: CancellationToken) {
        let mut calls = JoinSet::new();
        let mut under_way = HashMap::new();
        loop {
            let todo = self.table().poll(Instant::now());
            todo.wake.iter().for_each(|(key, lane)| wake(key, *lane));
            for call in todo.calls {
                let Some(provider) = self.providers().get(&call.scope).cloned() else { continue };
                let id = call.id;
                let turns = Turns::new(self.table().budgets().clone(), (provider.account().into(), call.family));
                under_way.insert(calls.spawn(make(provider, call, Calls::new(turns))).id(), id);
            }
            let pause = async {
                match todo.next {
                    Some(next) => tokio::time::sleep_until(next.into()).await,
                    None => std::future::pending().await,
                }
            };
            let ended = tokio::select! {
                () = stop.cancelled() => return,
                Some(ended) = calls.join_next_with_id() => ended,
                () = self.changed.notified() => continue,
                () = pause => continue,
            };
            let (task, outcome) = match ended {
                Ok((task, outcome)) => (task, outcome),
                Err(defect) => (defect.id(), Outcome::Panicked),
            };
            let Some(id) = under_way.remove(&task) else { continue };
            let told = self.table().finish(id, outcome, Instant::now());
            self.metrics.coalesced(told.shared);
            told.wake.iter().for_each(|(key, lane)| wake(key, *lane));
            if let Some((scope, lot, error)) = told.denied {
                self.metrics.batch_denied();
                denied(Denied { scope, lot, error });
            }
        }
    }
}

async fn make(provider: Arc<dyn Provider>, call: Call, calls: Calls) -> Outcome {
    let questions: Vec<Question> = call.questions.iter().map(|question| Question::clone(question)).collect();
    let first = &questions[0];
    let is_listing = matches!(first, Question::List(_));
    let read = async {
        match call.lot {
            Some(lot) => Outcome::Lot(provider.read_lot(lot, &questions).await),
            None => Outcome::One(provider.read_one(first, &calls).await),
        }
    };
    match tokio::time::timeout(if is_listing { LISTING_LIMIT } else { CALL_LIMIT }, read).await {
        // Whatever it made of it: the store did not answer.
        _ if calls.hung() => Outcome::TimedOut,
        Ok(outcome) => outcome,
        // Each page came in time.
        Err(_) if is_listing => Outcome::One(Err(endless().about(first))),
        Err(_) => Outcome::TimedOut,
    }
}

fn endless() -> ReadError {
    ReadError::new(Reason::ProviderUnavailable, "the listing took longer than 2 minutes; narrow it by path")
}

/// How long until a reference is rechecked for the first time, and whether it counts as checked until then.
fn first_recheck(id: &str, ttl: Duration, since: Since, now: Timestamp, salt: i128) -> (Duration, bool) {
    let since_epoch = |time: Timestamp| Duration::try_from(time.duration_since(Timestamp::UNIX_EPOCH)).unwrap_or_default();
    match since {
        Since::Now { changed } => {
            // Not right after it was read: a cold start is over before its rechecks begin.
            let wait = phase::until_recheck(id, ttl, since_epoch(now)).max(ttl / SOONEST);
            (if changed { wait.min(SECOND_LOOK) } else { wait }, true)
        }
        Since::Restart { last_check } => (phase::until_first_recheck(id, ttl, since_epoch(now), last_check.map(since_epoch), salt), false),
    }
}
