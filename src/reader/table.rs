//! The table: every reference that somebody waits for or wants rechecked, and what to call next.
//!
//! Asks, watches and the outcomes of calls enter; calls to make, keys to wake and answers leave. Pure: no I/O, and the clock comes in
//! as an argument. An entry belongs to one scope for good, and an answer goes only to those who asked that entry before its call
//! left: a value read under one scope is never delivered to somebody who asked another. What is read for a recheck alone is compared
//! and dropped at once.

mod landing;
mod leaving;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, atomic::AtomicUsize},
    time::{Duration, Instant},
};

use super::{
    Key, Lane,
    breaker::{Admission, Breaker},
    held::Answer,
};
use crate::{
    api::Reason,
    limit::Budgets,
    provider::{Family, Lot, LotAnswer, Question, ReadError, Reading, Route, ServedVersion},
};

/// How large a value is taken for until one was seen.
const FIRST_GUESS: usize = 4 << 10;

/// One identity in one place: the border that no value crosses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScopeId(pub u64);

/// One entry of the table: a question in one scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct EntryId(u64);

/// A call that the table asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(u64);

/// Tells versions apart in a few bytes; nobody needs to know more of the version that is expected, and there is one for every source
/// of every resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark([u64; 2]);

impl From<&ServedVersion> for Mark {
    fn from(version: &ServedVersion) -> Self {
        let half = |salt: u8| {
            let mut hasher = DefaultHasher::new();
            (salt, &version.arn, &version.id, &version.created, &version.region).hash(&mut hasher);
            hasher.finish()
        };
        Self([half(0), half(1)])
    }
}

/// What a subscriber last saw as the answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// This version.
    Version(Mark),
    /// That it is not there.
    Absent,
    /// Nothing that is known any more.
    Unknown,
}

/// What a recheck found.
#[derive(Clone, Debug)]
pub enum News {
    /// Another version than the subscriber has.
    Changed,
    /// It failed.
    Failed(ReadError),
    /// The store answers again that failed the key before.
    Recovered,
}

/// Something to read.
#[derive(Clone, Debug)]
pub struct Item {
    /// In which scope.
    pub scope: ScopeId,
    /// What.
    pub question: Arc<Question>,
    /// How.
    pub route: Route,
}

/// Something to recheck.
#[derive(Clone, Debug)]
pub struct Recheck {
    /// What.
    pub item: Item,
    /// What was seen of it.
    pub expected: Expected,
    /// When it was seen, if this process saw it.
    pub checked: Option<Instant>,
    /// When it is due, unless others want it sooner.
    pub due: Instant,
}

/// A call to make.
#[derive(Clone, Debug)]
pub struct Call {
    /// To tell its outcome by.
    pub id: CallId,
    /// The scope.
    pub scope: ScopeId,
    /// What it counts against.
    pub family: Family,
    /// For several; else for the one question.
    pub lot: Option<&'static Lot>,
    /// What to read.
    pub questions: Vec<Arc<Question>>,
}

/// What came of a call.
#[derive(Debug)]
pub enum Outcome {
    /// Of a call for one.
    One(Result<Reading, ReadError>),
    /// Of a call for several.
    Lot(LotAnswer),
    /// It took too long.
    TimedOut,
    /// It met a defect of the controller.
    Panicked,
}

/// What to do now, and when to ask again if nothing happens before.
#[derive(Debug, Default)]
pub struct Todo {
    /// Calls to make.
    pub calls: Vec<Call>,
    /// Who has an answer or news.
    pub wake: Vec<(Arc<Key>, Lane)>,
    /// When to ask again.
    pub next: Option<Instant>,
}

/// What came of telling an outcome.
#[derive(Debug, Default)]
pub struct Told {
    /// Who has an answer or news.
    pub wake: Vec<(Arc<Key>, Lane)>,
    /// A scope that must read one by one from now on, told once.
    pub denied: Option<(ScopeId, &'static Lot, ReadError)>,
    /// How many answers needed no call of their own.
    pub shared: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum LineId {
    Single(&'static str, Family),
    Lot(&'static str, &'static Lot),
    /// Of listings, which take long.
    Listing(&'static str, Family),
    /// Of those that must not take others along.
    Quarantine(&'static str, Family),
}

impl LineId {
    const fn family(self) -> Family {
        match self {
            Self::Single(_, family) | Self::Listing(_, family) | Self::Quarantine(_, family) => family,
            Self::Lot(_, lot) => lot.family,
        }
    }

    const fn service(self) -> &'static str {
        match self {
            Self::Single(service, _) | Self::Lot(service, _) | Self::Listing(service, _) | Self::Quarantine(service, _) => service,
        }
    }
}

/// Where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nowhere: nobody waits for it.
    Idle,
    /// In its line.
    Waiting(LineId, Lane, u64),
    /// In a part of a call that was refused.
    Part,
    /// In a call.
    Flying,
}

/// One who waits, and by which ask: a later ask of the same one is not served by an earlier call.
#[derive(Clone, Debug)]
struct Waiter {
    key: Arc<Key>,
    ask: u64,
}

#[derive(Debug)]
struct Entry {
    scope: ScopeId,
    question: Arc<Question>,
    route: Route,
    place: Place,
    waiters: Vec<Waiter>,
    lane: Lane,
    asked: Instant,
    subscribers: Vec<Arc<Key>>,
    /// How many subscribers want which TTL, the shortest first.
    ttls: Vec<(Duration, u32)>,
    due: Option<(LineId, Instant)>,
    /// With whom it shares a phase.
    group: Option<usize>,
    /// For how many references it stands: a listing that brings values, for as many as it brought.
    weight: usize,
    /// Reads alone until that works once: company refused it, left it out, or got no answer with it.
    alone: bool,
    /// When it was last answered in company.
    met: Option<Instant>,
}

impl Entry {
    /// The shortest TTL among those who watch it.
    fn ttl(&self) -> Duration {
        self.ttls.first().map_or(Duration::MAX, |(ttl, _)| *ttl)
    }

    fn is_unused(&self) -> bool {
        self.waiters.is_empty() && self.subscribers.is_empty()
    }

    /// Whether it leaves by itself when it is due: not while it is in a call or in a part of one.
    fn is_free(&self) -> bool {
        matches!(self.place, Place::Idle | Place::Waiting(..))
    }
}

#[derive(Debug)]
struct Asked {
    id: u64,
    lane: Lane,
    answers: Vec<(EntryId, Option<Answer>)>,
    missing: usize,
}

#[derive(Debug)]
struct Watched {
    ttl: Duration,
    seen: Vec<(EntryId, Expected, Option<Instant>)>,
}

#[derive(Debug, Default)]
struct Asker {
    asked: Option<Box<Asked>>,
    watched: Option<Watched>,
    news: Option<Box<News>>,
}

/// A call that leaves as it is, and whoever waits for it goes before all others of its line: it tells why another was refused.
#[derive(Clone, Debug)]
struct Part {
    entries: Vec<EntryId>,
    purpose: Purpose,
    /// Since when it is to leave.
    since: Instant,
}

/// Why a call leaves in just this company.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// They were ready.
    Read,
    /// It is a part of what was refused under this number.
    Half(u64),
    /// The same, and few are left: if all parts of this proof work, none of them alone was why the call was refused.
    Proof(u64),
    /// Whether company is refused for the first of the two, which works alone. The other was well in company, if anybody was.
    Trial,
    /// Whether company is refused to those as well who were well in it.
    Control,
}

/// Calls of one kind of one scope, in the order in which they will be made.
#[derive(Debug)]
struct Line {
    waiting: BTreeSet<(Lane, u64, EntryId)>,
    due: BTreeSet<(Instant, EntryId)>,
    parts: VecDeque<Part>,
    flying: usize,
    last_ask: Instant,
    last_throttle: Option<Instant>,
    /// When a call was last refused as a whole because somebody's encryption key is used too often.
    strained: Option<Instant>,
    last_good: Option<Instant>,
    /// When it last had its turn, in the order of all turns.
    turn: u64,
}

impl Line {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.due.is_empty() && self.parts.is_empty()
    }

    fn new(now: Instant) -> Self {
        Self {
            waiting: BTreeSet::new(),
            due: BTreeSet::new(),
            parts: VecDeque::new(),
            flying: 0,
            last_ask: now,
            last_throttle: None,
            strained: None,
            last_good: None,
            turn: 0,
        }
    }
}

/// Two or three that were refused together, and how many of their parts have yet to work. If all do, either the identity may not read in
/// company or company is refused for one of those who work alone.
#[derive(Debug)]
struct Proof {
    lot: &'static Lot,
    left: usize,
    error: ReadError,
    /// Who works alone.
    alone: Vec<EntryId>,
    /// Under which number the call was refused that these were a part of.
    root: u64,
    /// Nobody else was in that call.
    whole: bool,
}

/// Since when a reference reads alone.
#[derive(Clone, Copy, Debug)]
struct Alone {
    since: Instant,
    /// It works alone and company is refused for it: until then it isn't tried again.
    until: Option<Instant>,
}

#[derive(Debug, Default)]
struct Scope {
    account: Arc<str>,
    lines: BTreeMap<LineId, Line>,
    /// By service: each hangs for itself.
    breakers: BTreeMap<&'static str, Breaker>,
    /// By service: when it last answered anything.
    answered: BTreeMap<&'static str, Instant>,
    flying: usize,
    /// What the calls under way are taken to bring.
    expected: usize,
    largest: usize,
    /// The same for listings, whose answers are of another size.
    largest_listing: usize,
    held: Arc<AtomicUsize>,
    denied: BTreeMap<&'static Lot, Instant>,
    /// When a call in company was last answered.
    company: BTreeMap<&'static Lot, Instant>,
    /// Since when it seems that company is refused, by so few that it may as well be for one of them.
    doubted: BTreeMap<&'static Lot, Instant>,
    /// Who is to be tried with another, as soon as there is one.
    suspects: BTreeSet<EntryId>,
    /// By service: since when it has nothing but failures for an answer.
    failing: BTreeMap<&'static str, Instant>,
    told: BTreeSet<&'static Lot>,
    proofs: HashMap<u64, Proof>,
    /// How many entries of each lot were ever watched.
    watched: BTreeMap<&'static Lot, usize>,
    /// What company refused or left out, and when: it reads alone until that works once, also if nobody asked for it in between.
    quarantine: HashMap<Arc<Question>, Alone>,
    /// By service: who waits for it to answer again.
    stranded: BTreeMap<&'static str, BTreeSet<Arc<Key>>>,
    /// When they were last told so.
    recovered: Option<Instant>,
}

impl Scope {
    /// How many calls of a service are under way.
    fn flying_of(&self, service: &str) -> usize {
        self.lines.iter().filter(|(id, _)| id.service() == service).map(|(_, line)| line.flying).sum()
    }

    /// How large an answer is taken for. No listing waits until nothing else is read.
    fn expects(&self, line: LineId) -> usize {
        if matches!(line, LineId::Listing(..)) { self.largest_listing.min(leaving::SCOPE_BYTES / 2) } else { self.largest }
    }

    fn admits(&self, line: LineId, now: Instant) -> Admission {
        match line {
            // What is in quarantine would be a probe that fails for reasons of its own.
            LineId::Quarantine(..) => Admission::Yes,
            LineId::Single(service, _) | LineId::Lot(service, _) | LineId::Listing(service, _) => {
                self.breakers.get(service).map_or(Admission::Yes, |breaker| breaker.admits(now))
            }
        }
    }
}

/// A call that is under way.
#[derive(Debug)]
struct Flight {
    scope: ScopeId,
    line: LineId,
    family: Family,
    passengers: Vec<Passenger>,
    purpose: Purpose,
    since: Instant,
    expected: usize,
    left: Instant,
}

#[derive(Debug)]
struct Passenger {
    entry: EntryId,
    waiters: Vec<Waiter>,
    /// When the recheck was due that the call is made for, too.
    due: Option<Instant>,
    asked: Instant,
    lane: Lane,
}

/// The table.
#[derive(Debug, Default)]
pub struct Table {
    budgets: Arc<Mutex<Budgets>>,
    scopes: BTreeMap<ScopeId, Scope>,
    /// Boxed: a map is up to half empty.
    entries: HashMap<EntryId, Box<Entry>>,
    by_question: HashMap<(ScopeId, Arc<Question>), EntryId>,
    askers: HashMap<Arc<Key>, Asker>,
    flights: HashMap<CallId, Flight>,
    held: Arc<AtomicUsize>,
    /// How many who asked have all their answers and did not take them yet.
    complete: usize,
    /// How many calls there were.
    sent: u64,
    /// Who was answered without a call.
    answered: Vec<(Arc<Key>, Lane)>,
    count: u64,
}

impl Table {
    fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// The budgets of all accounts, which further calls for an answer count against as well.
    #[must_use]
    pub fn budgets(&self) -> &Arc<Mutex<Budgets>> {
        &self.budgets
    }

    /// Opens a scope, whose calls count against the account's budgets.
    pub fn open(&mut self, scope: ScopeId, account: Arc<str>) {
        self.scopes.insert(scope, Scope { account, largest: FIRST_GUESS, largest_listing: FIRST_GUESS, ..Scope::default() });
    }

    /// Closes a scope. Returns who asked it or watched it: all of these ask and watch nothing more.
    pub fn close(&mut self, scope: ScopeId, now: Instant) -> Vec<Arc<Key>> {
        self.scopes.remove(&scope);
        let gone: HashSet<EntryId> = self.entries.iter().filter(|(_, entry)| entry.scope == scope).map(|(id, _)| *id).collect();
        self.flights.retain(|_, flight| flight.scope != scope);
        let touched: Vec<Arc<Key>> = self
            .askers
            .iter()
            .filter(|(_, asker)| {
                asker.asked.iter().flat_map(|asked| &asked.answers).any(|(entry, _)| gone.contains(entry))
                    || asker.watched.iter().flat_map(|watched| &watched.seen).any(|(entry, ..)| gone.contains(entry))
            })
            .map(|(key, _)| key.clone())
            .collect();
        for id in &gone {
            if let Some(entry) = self.entries.remove(id) {
                self.by_question.remove(&(scope, entry.question));
            }
        }
        for key in &touched {
            self.forget(key, now);
        }
        touched
    }

    fn entry(&mut self, item: &Item, now: Instant) -> EntryId {
        let place = (item.scope, item.question.clone());
        if let Some(id) = self.by_question.get(&place) {
            return *id;
        }
        let id = EntryId(self.next());
        let alone = self.scopes.get(&item.scope).is_some_and(|scope| scope.quarantine.contains_key(&item.question));
        self.entries.insert(
            id,
            Box::new(Entry {
                scope: item.scope,
                question: item.question.clone(),
                route: item.route.clone(),
                place: Place::Idle,
                waiters: Vec::new(),
                lane: Lane::Periodic,
                asked: now,
                subscribers: Vec::new(),
                ttls: Vec::new(),
                due: None,
                group: None,
                weight: 1,
                alone,
                met: None,
            }),
        );
        self.by_question.insert(place, id);
        id
    }

    /// What is known of a key, and the key as everybody shares it.
    fn asker(&mut self, key: &Arc<Key>) -> (Arc<Key>, &mut Asker) {
        let shared = self.askers.get_key_value(key).map_or_else(|| key.clone(), |(shared, _)| shared.clone());
        let asker = self.askers.entry(shared.clone()).or_default();
        (shared, asker)
    }

    /// Asks for items, in place of what the same one asked for before. No call that has left already serves it.
    pub fn ask(&mut self, key: &Arc<Key>, lane: Lane, items: &[Item], now: Instant) {
        self.unask(key);
        self.unstrand(key);
        let id = self.next();
        let mut answers = Vec::with_capacity(items.len());
        for item in items {
            if self.scopes.contains_key(&item.scope) {
                answers.push((self.entry(item, now), None));
            } else {
                let error = ReadError::new(Reason::ProviderUnavailable, "the provider changed while it was asked; trying again");
                answers.push((EntryId(0), Some(Err(error.about(&item.question)))));
            }
        }
        let distinct: BTreeSet<EntryId> = answers.iter().filter(|(_, answer)| answer.is_none()).map(|(entry, _)| *entry).collect();
        let missing = answers.iter().filter(|(_, answer)| answer.is_none()).count();
        let (key, asker) = self.asker(key);
        asker.news = None;
        asker.asked = Some(Box::new(Asked { id, lane, answers, missing }));
        if missing == 0 {
            self.complete += 1;
            self.answered.push((key.clone(), lane));
        }
        for entry in distinct {
            self.wait(entry, Waiter { key: key.clone(), ask: id }, lane, now);
        }
    }

    fn wait(&mut self, id: EntryId, waiter: Waiter, lane: Lane, now: Instant) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if entry.waiters.is_empty() {
            entry.lane = lane;
            entry.asked = now;
        }
        entry.waiters.push(waiter);
        let rises = lane < entry.lane;
        entry.lane = entry.lane.min(lane);
        match entry.place {
            Place::Idle => self.queue(id, now),
            Place::Waiting(..) if rises => {
                self.leave_line(id);
                self.queue(id, now);
            }
            Place::Waiting(line, ..) => {
                let scope = entry.scope;
                if let Some(line) = self.line(scope, line, now) {
                    line.last_ask = now;
                }
            }
            Place::Part | Place::Flying => {}
        }
    }

    fn line(&mut self, scope: ScopeId, line: LineId, now: Instant) -> Option<&mut Line> {
        Some(self.scopes.get_mut(&scope)?.lines.entry(line).or_insert_with(|| Line::new(now)))
    }

    fn line_of(&self, entry: &Entry) -> LineId {
        let denied = |lot: &'static Lot| self.scopes.get(&entry.scope).is_some_and(|scope| scope.denied.contains_key(lot));
        match entry.route.lot {
            _ if entry.alone => LineId::Quarantine(entry.route.service, entry.route.single),
            Some(lot) if !denied(lot) => LineId::Lot(entry.route.service, lot),
            _ if matches!(*entry.question, Question::List(_)) => LineId::Listing(entry.route.service, entry.route.single),
            _ => LineId::Single(entry.route.service, entry.route.single),
        }
    }

    /// Puts an entry that somebody waits for into its line.
    fn queue(&mut self, id: EntryId, now: Instant) {
        let turn = self.next();
        let Some(entry) = self.entries.get(&id) else { return };
        let (scope, lane, line_id) = (entry.scope, entry.lane, self.line_of(entry));
        let Some(line) = self.line(scope, line_id, now) else { return };
        line.waiting.insert((lane, turn, id));
        line.last_ask = now;
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.place = Place::Waiting(line_id, lane, turn);
        }
    }

    fn leave_line(&mut self, id: EntryId) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if let Place::Waiting(line, lane, turn) = entry.place {
            entry.place = Place::Idle;
            if let Some(line) = self.scopes.get_mut(&entry.scope).and_then(|scope| scope.lines.get_mut(&line)) {
                line.waiting.remove(&(lane, turn, id));
            }
        }
    }

    /// Sets when an entry is due, or that it is not.
    fn set_due(&mut self, id: EntryId, due: Option<Instant>, now: Instant) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let scope = entry.scope;
        if let Some((line, was)) = entry.due.take()
            && let Some(line) = self.scopes.get_mut(&scope).and_then(|scope| scope.lines.get_mut(&line))
        {
            line.due.remove(&(was, id));
        }
        let Some(due) = due else { return };
        let Some(entry) = self.entries.get(&id) else { return };
        let line_id = self.line_of(entry);
        if let Some(line) = self.line(scope, line_id, now) {
            line.due.insert((due, id));
        }
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.due = Some((line_id, due));
        }
    }

    /// Takes back what was asked.
    pub fn unask(&mut self, key: &Key) {
        let Some(asked) = self.askers.get_mut(key).and_then(|asker| asker.asked.take()) else { return };
        if asked.missing == 0 {
            self.complete -= 1;
        }
        for (id, _) in &asked.answers {
            if let Some(entry) = self.entries.get_mut(id) {
                entry.waiters.retain(|waiter| waiter.ask != asked.id);
                if entry.waiters.is_empty() {
                    self.leave_line(*id);
                }
                self.drop_unused(*id);
            }
        }
        self.drop_idle(key);
    }

    fn drop_unused(&mut self, id: EntryId) {
        if !self.entries.get(&id).is_some_and(|entry| entry.is_unused()) {
            return;
        }
        // A part that nobody wants would take a turn and a token for nothing.
        self.leave_part(id);
        if let Some(entry) = self.entries.get(&id).filter(|entry| entry.place == Place::Idle) {
            if let Some(scope) = self.scopes.get_mut(&entry.scope) {
                scope.suspects.remove(&id);
            }
            self.by_question.remove(&(entry.scope, entry.question.clone()));
            self.entries.remove(&id);
        }
    }

    /// Takes an entry out of its part, if it is in one.
    fn leave_part(&mut self, id: EntryId) {
        let Some(entry) = self.entries.get_mut(&id).filter(|entry| entry.place == Place::Part) else { return };
        entry.place = Place::Idle;
        let Some(scope) = self.scopes.get_mut(&entry.scope) else { return };
        for line in scope.lines.values_mut() {
            for part in line.parts.iter_mut().filter(|part| part.entries.contains(&id)) {
                part.entries.retain(|entry| *entry != id);
                if let Purpose::Proof(proof) = part.purpose {
                    // Nobody will know any more.
                    scope.proofs.remove(&proof);
                }
            }
            line.parts.retain(|part| !part.entries.is_empty());
        }
    }

    fn drop_idle(&mut self, key: &Key) {
        if self.askers.get(key).is_some_and(|asker| asker.asked.is_none() && asker.watched.is_none() && asker.news.is_none()) {
            self.askers.remove(key);
        }
    }

    /// How many distinct references of a scope are asked or rechecked, those that a listing brought included.
    #[must_use]
    pub fn references(&self, scope: ScopeId) -> usize {
        self.entries.values().filter(|entry| entry.scope == scope).map(|entry| entry.weight).sum()
    }

    /// Whether the key asked and has not all answers yet.
    #[must_use]
    pub fn waits(&self, key: &Key) -> bool {
        self.askers.get(key).and_then(|asker| asker.asked.as_ref()).is_some_and(|asked| asked.missing > 0)
    }

    /// The answers to what the key asked, in order, once all are there; then it asks no more.
    pub fn take(&mut self, key: &Key) -> Option<Vec<Answer>> {
        let asker = self.askers.get_mut(key)?;
        let asked = asker.asked.take_if(|asked| asked.missing == 0)?;
        self.complete -= 1;
        self.drop_idle(key);
        Some(asked.answers.into_iter().filter_map(|(_, answer)| answer).collect())
    }

    /// By what an item's phase is told from others': as many as one call takes share one, so that they come due together.
    pub fn phase(&mut self, item: &Item, now: Instant) -> String {
        let Some(lot) = item.route.lot.filter(|_| self.scopes.contains_key(&item.scope)) else { return item.question.to_string() };
        let id = self.entry(item, now);
        let group = self.entries.get(&id).and_then(|entry| entry.group).or_else(|| {
            let watched = self.scopes.get_mut(&item.scope)?.watched.entry(lot).or_default();
            *watched += 1;
            Some((*watched - 1) / lot.size)
        });
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.group = group;
        }
        format!("{} {} {}", item.scope.0, lot.name, group.unwrap_or_default())
    }

    /// Has items rechecked every TTL, in place of what the same key watched before.
    pub fn watch(&mut self, key: &Arc<Key>, ttl: Duration, rechecks: Vec<Recheck>, now: Instant) {
        let rechecks: Vec<Recheck> = rechecks.into_iter().filter(|recheck| self.scopes.contains_key(&recheck.item.scope)).collect();
        let mut entries = Vec::with_capacity(rechecks.len());
        for recheck in &rechecks {
            entries.push(self.entry(&recheck.item, now));
        }
        let (shared, asker) = self.asker(key);
        asker.news = None;
        let seen = entries.iter().zip(&rechecks).map(|(entry, recheck)| (*entry, recheck.expected.clone(), recheck.checked)).collect();
        let before = asker.watched.replace(Watched { ttl, seen });
        let ttl_before = before.as_ref().map(|watched| watched.ttl);
        let before: BTreeSet<EntryId> = before.iter().flat_map(|watched| &watched.seen).map(|(entry, ..)| *entry).collect();
        let distinct: BTreeSet<EntryId> = entries.iter().copied().collect();
        for id in before.difference(&distinct) {
            self.unsubscribe(*id, &shared, ttl_before.unwrap_or(ttl), now);
        }
        for id in &distinct {
            let Some(entry) = self.entries.get_mut(id) else { continue };
            if before.contains(id) {
                release(&mut entry.ttls, ttl_before.unwrap_or(ttl));
            } else {
                entry.subscribers.push(shared.clone());
            }
            retain(&mut entry.ttls, ttl);
        }
        for (id, recheck) in entries.iter().zip(&rechecks) {
            let Some(entry) = self.entries.get(id) else { continue };
            let due = entry.due.map_or(recheck.due, |(_, due)| due.min(recheck.due));
            if entry.is_free() {
                self.set_due(*id, Some(due), now);
            }
        }
    }

    /// Watches nothing any more.
    pub fn unwatch(&mut self, key: &Key, now: Instant) {
        let Some((shared, _)) = self.askers.get_key_value(key) else { return };
        let shared = shared.clone();
        let Some(asker) = self.askers.get_mut(key) else { return };
        asker.news = None;
        if let Some(watched) = asker.watched.take() {
            let distinct: BTreeSet<EntryId> = watched.seen.iter().map(|(entry, ..)| *entry).collect();
            for id in distinct {
                self.unsubscribe(id, &shared, watched.ttl, now);
            }
        }
        self.drop_idle(key);
    }

    /// Asks for nothing and watches nothing any more.
    pub fn forget(&mut self, key: &Key, now: Instant) {
        self.unask(key);
        self.unwatch(key, now);
        self.unstrand(key);
    }

    /// Has a key told when one of these services answers again: its trouble was theirs. It lasts until the key asks or is forgotten.
    pub fn strand(&mut self, key: &Arc<Key>, services: &[(ScopeId, &'static str)]) {
        for (scope, service) in services {
            if let Some(scope) = self.scopes.get_mut(scope) {
                scope.stranded.entry(service).or_default().insert(key.clone());
            }
        }
    }

    fn unstrand(&mut self, key: &Key) {
        for stranded in self.scopes.values_mut().flat_map(|scope| scope.stranded.values_mut()) {
            stranded.remove(key);
        }
    }

    fn unsubscribe(&mut self, id: EntryId, key: &Arc<Key>, ttl: Duration, now: Instant) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.subscribers.retain(|subscriber| !Arc::ptr_eq(subscriber, key));
        release(&mut entry.ttls, ttl);
        if entry.subscribers.is_empty() {
            self.set_due(id, None, now);
            self.drop_unused(id);
        }
    }

    /// Whether the key has anything rechecked.
    #[must_use]
    pub fn watches(&self, key: &Key) -> bool {
        self.askers.get(key).is_some_and(|asker| asker.watched.is_some())
    }

    /// What a recheck found, until the key asks or watches anew.
    #[must_use]
    pub fn news(&self, key: &Key) -> Option<News> {
        self.askers.get(key)?.news.as_deref().cloned()
    }

    /// When all that the key watches was seen as expected: the oldest of these moments. `None`: not all of it by this process.
    #[must_use]
    pub fn checked(&self, key: &Key) -> Option<Instant> {
        let watched = self.askers.get(key)?.watched.as_ref()?;
        watched.seen.iter().map(|(_, _, checked)| *checked).min().flatten()
    }
}

/// Takes one subscriber's TTL in.
fn retain(ttls: &mut Vec<(Duration, u32)>, ttl: Duration) {
    match ttls.binary_search_by_key(&ttl, |(ttl, _)| *ttl) {
        Ok(place) => ttls[place].1 += 1,
        Err(place) => {
            // Nearly all have one.
            ttls.reserve_exact(1);
            ttls.insert(place, (ttl, 1));
        }
    }
}

/// Takes one subscriber's TTL away.
fn release(ttls: &mut Vec<(Duration, u32)>, ttl: Duration) {
    if let Ok(place) = ttls.binary_search_by_key(&ttl, |(ttl, _)| *ttl) {
        ttls[place].1 -= 1;
        if ttls[place].1 == 0 {
            ttls.remove(place);
        }
    }
}
