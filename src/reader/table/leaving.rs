//! Which call leaves next, and who shares it; and who is told that none will in time.
//!
//! What the table knows and the time enter, calls leave. Whoever somebody waits for goes before what merely comes round; scopes of
//! one account take turns; a call waits for company only as long as nobody notices. No two names of one thing share a call.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{Call, CallId, EntryId, Flight, Line, LineId, Part, Passenger, Place, Purpose, Scope, ScopeId, Table, Todo, Told};
use crate::{
    api::Reason,
    limit::lock,
    provider::{Family, Question, ReadError, silent},
    reader::{Lane, breaker::Admission},
};

/// How long a waiter waits for company at most while a call of its kind is under way.
const COMPANY: Duration = Duration::from_millis(100);
/// Behind a service that fails, what is tried again waits for company for this part of the time that the trouble has lasted.
const RETRIES: u32 = 10;
/// But no longer.
const LONGEST_COMPANY: Duration = Duration::from_secs(30);
/// How long nobody must have asked before a call leaves that is not full: those that ask in one breath share it.
const BREATH: Duration = Duration::from_millis(5);
/// How many calls of a scope may be under way with one service: one that hangs takes nothing from the others.
const CALLS: usize = 32;
/// How many bytes of one scope may be read and not yet used.
pub(super) const SCOPE_BYTES: usize = 4 << 20;
/// How many bytes of all scopes may be.
pub(super) const ALL_BYTES: usize = 32 << 20;
/// A recheck takes along those that are due within this part of its TTL. Of two groups within a TTL, one always follows the other within a
/// half of it: so what fits into one call comes to share one, wherever it began.
const TOGETHER: u32 = 2;
/// Whoever waits takes along what is due within this part of its TTL, and soon: who reads once an hour is not read at every request.
const EARLY: u32 = 10;
/// How soon that is.
const SOON: Duration = Duration::from_mins(1);
/// How many entries that are due later are looked at to fill a call, for each that fits into it.
const LOOKED_AT: usize = 4;
/// How long a waiter waits while the store throttles, before it is told.
const PATIENCE: Duration = Duration::from_secs(10);
/// How late a recheck may be before it gets a share, and, while the store throttles all calls, before its subscribers are told: a TTL,
/// within these bounds.
const LATENESS: [Duration; 2] = [Duration::from_secs(10), Duration::from_mins(1)];
/// How late a recheck may be behind a store that does not answer, before its subscribers are told: a probe had its chance by then.
const PROBED: Duration = Duration::from_secs(5);
/// After how long without any answer a service counts as one that hangs as a whole.
const SILENCE: Duration = Duration::from_secs(15);
/// How many calls of those in quarantine may be under way, while others are answered.
const QUARANTINED_CALLS: usize = 4;
/// How many listings of one kind may be under way: each may take minutes, and what else is read must not wait for them.
const LISTINGS: usize = 4;
/// How much later a recheck may be before its subscribers are told that there are not enough calls for it.
const HOPELESS: Duration = Duration::from_mins(2);
/// One in so many calls is for rechecks that are late.
const SHARE: u64 = 4;
/// For how long after a throttle the store counts as throttling.
const THROTTLING: Duration = Duration::from_secs(10);

/// When a line has a call to make.
enum Readiness {
    Now(Lane),
    At(Instant),
    No,
}

impl Table {
    /// What to do now.
    pub fn poll(&mut self, now: Instant) -> Todo {
        let mut todo = Todo { wake: std::mem::take(&mut self.answered), ..Todo::default() };
        self.permit_again(now);
        // Lines that have nothing to call, or no budget for it.
        let mut idle: HashSet<(ScopeId, LineId)> = HashSet::new();
        loop {
            let mut best: Option<(bool, Lane, u64, ScopeId, LineId)> = None;
            // Urgent reads without end must not keep rechecks from their turn for ever.
            let for_late = self.sent % SHARE == SHARE - 1;
            let mut at = |when: Instant| todo.next = Some(todo.next.map_or(when, |next: Instant| next.min(when)));
            for (id, scope) in &self.scopes {
                for (line_id, line) in &scope.lines {
                    if idle.contains(&(*id, *line_id)) || scope.flying_of(line_id.service()) >= CALLS {
                        continue;
                    }
                    let readiness = match scope.admits(*line_id, now) {
                        Admission::Yes | Admission::Probe => self.readiness(scope, *line_id, line, now),
                        Admission::NotBefore(_) if line.is_empty() => Readiness::No,
                        Admission::NotBefore(when) => Readiness::At(when),
                    };
                    match readiness {
                        Readiness::Now(lane) => {
                            let candidate = (!(for_late && self.is_late(line, now)), lane, line.turn, *id, *line_id);
                            if best.is_none_or(|best| candidate < best) {
                                best = Some(candidate);
                            }
                        }
                        Readiness::At(when) => at(when),
                        Readiness::No => {}
                    }
                }
            }
            let Some((not_late, _, _, scope, line)) = best else { break };
            let Some(account) = self.scopes.get(&scope).map(|scope| scope.account.clone()) else { break };
            let next = self.next_of(scope, line, !not_late, now);
            let family = self.family(line, &next.entries);
            let turn = lock(&self.budgets).bucket(&(account, family)).map_or(Ok(()), |bucket| bucket.take(now));
            match turn {
                Ok(()) => match self.form(scope, line, family, next, now) {
                    Some(call) => {
                        self.sent += 1;
                        todo.calls.push(call);
                    }
                    None => drop(idle.insert((scope, line))),
                },
                Err(when) => {
                    at(when);
                    idle.insert((scope, line));
                }
            }
        }
        self.give_up(now, &mut todo);
        todo
    }

    /// When the line has a call to make.
    fn readiness(&self, scope: &Scope, id: LineId, line: &Line, now: Instant) -> Readiness {
        let split = line.parts.front().map(|part| part.entries.iter().filter_map(|id| self.entries.get(id)).map(|entry| entry.lane).min());
        let waiting = line.waiting.first();
        let due = line.due.first().map(|(due, _)| *due);
        let lane = match (split, waiting) {
            (Some(lane), _) => lane.unwrap_or(Lane::Periodic),
            (None, Some((lane, ..))) => *lane,
            (None, None) if due.is_some() => Lane::Periodic,
            (None, None) => return Readiness::No,
        };
        if (split.is_some() || waiting.is_some()) && self.is_full(scope, id) {
            // What was read is used first; whoever uses it has us polled again.
            return Readiness::No;
        }
        // Where nothing answers at all, it may not be they that hang.
        let answers = || scope.answered.get(id.service()).is_some_and(|last| now.duration_since(*last) < SILENCE);
        if matches!(id, LineId::Quarantine(..)) && line.flying >= if answers() { QUARANTINED_CALLS } else { 1 } {
            return Readiness::No;
        }
        if matches!(id, LineId::Listing(..)) && line.flying >= LISTINGS {
            return Readiness::No;
        }
        if split.is_some() {
            return Readiness::Now(lane);
        }
        let LineId::Lot(_, lot) = id else {
            return match due {
                _ if waiting.is_some() => Readiness::Now(lane),
                Some(due) if due > now => Readiness::At(due),
                _ => Readiness::Now(lane),
            };
        };
        let ready = line.waiting.len() + line.due.iter().take(lot.size).take_while(|(due, _)| *due <= now).count();
        if ready >= lot.size {
            return Readiness::Now(lane);
        }
        let failing = scope.failing.get(id.service()).copied();
        let urgent = line.waiting.iter().filter(|(lane, ..)| *lane < Lane::Periodic).filter_map(|(lane, _, id)| Some((*lane, self.entries.get(id)?.asked)));
        let company = urgent.map(|(lane, asked)| asked + if lane == Lane::Drift { company_of_retries(failing, asked) } else { COMPANY }).min();
        let leaves = if line.flying > 0 {
            company
        } else if waiting.is_some() && lane == Lane::Drift && failing.is_some() {
            // What comes round anyway takes them along.
            company.into_iter().chain(due).min()
        } else if waiting.is_some() {
            let breath = line.last_ask + BREATH;
            Some(company.map_or(breath, |company| company.min(breath)))
        } else {
            due
        };
        match leaves {
            Some(when) if when > now => Readiness::At(when),
            Some(_) => Readiness::Now(lane),
            None => Readiness::No,
        }
    }

    /// Whether so much was read and not used yet that nothing more is read. One call always leaves while nobody has anything to use.
    fn is_full(&self, scope: &Scope, line: LineId) -> bool {
        let of_scope = scope.held.load(Ordering::Relaxed) + scope.expected;
        let of_all = self.held.load(Ordering::Relaxed) + self.scopes.values().map(|scope| scope.expected).sum::<usize>();
        (of_scope + scope.expects(line) > SCOPE_BYTES || of_all + scope.expects(line) > ALL_BYTES) && (scope.flying > 0 || self.complete > 0)
    }

    /// Forms the next call of a line, whose turn it is.
    fn form(&mut self, scope_id: ScopeId, line_id: LineId, family: Family, next: Part, now: Instant) -> Option<Call> {
        let turn = self.next();
        let scope = self.scopes.get_mut(&scope_id)?;
        let line = scope.lines.get_mut(&line_id)?;
        line.turn = turn;
        line.parts.pop_front();
        let mut passengers = Vec::with_capacity(next.entries.len());
        let Part { entries, purpose, since } = next;
        for id in entries {
            self.leave_line(id);
            let due = self.entries.get(&id).and_then(|entry| entry.due).map(|(_, due)| due);
            self.set_due(id, None, now);
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            entry.place = Place::Flying;
            passengers.push(Passenger { entry: id, waiters: std::mem::take(&mut entry.waiters), due, asked: entry.asked, lane: entry.lane });
            entry.lane = Lane::Periodic;
        }
        let questions: Vec<Arc<Question>> = passengers.iter().filter_map(|passenger| Some(self.entries.get(&passenger.entry)?.question.clone())).collect();
        if questions.is_empty() {
            return None;
        }
        let scope = self.scopes.get_mut(&scope_id)?;
        let expected = passengers.iter().filter(|passenger| !passenger.waiters.is_empty()).count() * scope.expects(line_id);
        scope.expected += expected;
        scope.flying += 1;
        if !matches!(line_id, LineId::Quarantine(..)) {
            scope.breakers.entry(line_id.service()).or_default().left(now);
        }
        scope.lines.get_mut(&line_id)?.flying += 1;
        let id = CallId(turn);
        self.flights.insert(id, Flight { scope: scope_id, line: line_id, family, passengers, purpose, since, expected, left: now });
        let lot = if let LineId::Lot(_, lot) = line_id { Some(lot).filter(|_| questions.len() > 1) } else { None };
        Some(Call { id, scope: scope_id, family, lot, questions })
    }

    /// The next call of a line: the part of a refused one, or whoever shares the next.
    fn next_of(&self, scope: ScopeId, line_id: LineId, late_first: bool, now: Instant) -> Part {
        let part = self.scopes.get(&scope).and_then(|scope| scope.lines.get(&line_id)).and_then(|line| line.parts.front());
        part.cloned().unwrap_or_else(|| Part { entries: self.choose(scope, line_id, late_first, now), purpose: Purpose::Read, since: now })
    }

    /// What a call counts against. One that nobody shares is made as a single read: it needs no further permission.
    fn family(&self, line: LineId, entries: &[EntryId]) -> Family {
        match entries {
            [only] => self.entries.get(only).map_or(line.family(), |entry| entry.route.single),
            _ => line.family(),
        }
    }

    /// Who shares the next call: those who wait, by lane; then what is due; then, to fill it, what is due soon. Or what is late first.
    fn choose(&self, scope: ScopeId, line_id: LineId, late_first: bool, now: Instant) -> Vec<EntryId> {
        let Some(line) = self.scopes.get(&scope).and_then(|scope| scope.lines.get(&line_id)) else { return Vec::new() };
        let size = if let LineId::Lot(_, lot) = line_id { lot.size } else { 1 };
        let ttl = |id: &EntryId| self.entries.get(id).map_or(Duration::ZERO, |entry| entry.ttl());
        let first = line.due.first().filter(|(due, _)| *due <= now).map(|(_, id)| ttl(id));
        let soon = |(due, id): &(Instant, EntryId)| {
            let early = first.map_or((ttl(id) / EARLY).min(SOON), |first| ttl(id).min(first) / TOGETHER);
            *due <= now || (size > 1 && due.saturating_duration_since(now) <= early)
        };
        let late = line.due.iter().take(if late_first { size } else { 0 }).filter(|(due, _)| *due <= now).map(|(_, id)| *id);
        let waiting = line.waiting.iter().map(|(_, _, id)| *id);
        let due = line.due.iter().take(size * LOOKED_AT).filter(|entry| soon(entry)).map(|(_, id)| *id);
        let mut aliases: HashSet<&str> = HashSet::new();
        let mut chosen: Vec<EntryId> = Vec::with_capacity(size);
        for id in late.chain(waiting).chain(due) {
            if chosen.len() == size {
                break;
            }
            let Some(entry) = self.entries.get(&id) else { continue };
            if entry.place == Place::Flying || chosen.contains(&id) || entry.route.aliases.iter().any(|alias| aliases.contains(alias.as_str())) {
                continue;
            }
            aliases.extend(entry.route.aliases.iter().map(String::as_str));
            chosen.push(id);
        }
        chosen
    }

    /// How late a recheck may be before it gets a share of the calls, and, while the store throttles, before it is told.
    fn patience(&self, id: EntryId) -> Duration {
        let [least, most] = LATENESS;
        self.entries.get(&id).map_or(most, |entry| entry.ttl().clamp(least, most))
    }

    fn is_late(&self, line: &Line, now: Instant) -> bool {
        line.due.first().is_some_and(|(due, id)| now.saturating_duration_since(*due) > self.patience(*id))
    }

    /// Tells those who would wait in vain: behind a store that does not answer, or for too long behind one that throttles.
    fn give_up(&mut self, now: Instant, todo: &mut Todo) {
        let mut hopeless: Vec<(EntryId, ReadError)> = Vec::new();
        for scope in self.scopes.values() {
            for (id, line) in &scope.lines {
                // Before a probe leaves, it may still wait for company.
                let open = matches!(scope.admits(*id, now), Admission::NotBefore(_));
                let due = line.due.iter().map(|(due, id)| (*due, *id));
                if open {
                    let parts = line.parts.iter().flat_map(|part| part.entries.iter().copied());
                    let waiting = line.waiting.iter().map(|(_, _, id)| *id);
                    let late = due.take_while(|(due, _)| *due + PROBED <= now).map(|(_, id)| id);
                    hopeless.extend(waiting.chain(late).chain(parts).map(|id| (id, silent())));
                    continue;
                }
                let throttling = line.last_throttle.is_some_and(|last| now.duration_since(last) < THROTTLING);
                if throttling {
                    let patient = |id: &EntryId| self.entries.get(id).is_some_and(|entry| now.duration_since(entry.asked) < PATIENCE);
                    hopeless.extend(line.waiting.iter().map(|(_, _, id)| *id).filter(|id| !patient(id)).map(|id| (id, slow_down())));
                }
                // As long as some get through, each has its turn, if late; told of each, they would only change their words for ever.
                let in_vain = throttling && line.last_good.is_none_or(|last| now.duration_since(last) > THROTTLING);
                let least = if in_vain { LATENESS[0] } else { HOPELESS };
                let limit = |id: EntryId| if in_vain { self.patience(id) } else { self.patience(id) * 3 + HOPELESS };
                let late = due.take_while(|(due, _)| *due + least < now).filter(|(due, id)| now.duration_since(*due) > limit(*id));
                let why = || if throttling { slow_down() } else { too_much() };
                hopeless.extend(late.map(|(_, id)| (id, why())));
                for part in &line.parts {
                    let vain = |id: &EntryId| match self.entries.get(id) {
                        Some(entry) if !entry.waiters.is_empty() => throttling && now.duration_since(entry.asked) >= PATIENCE,
                        _ => now.duration_since(part.since) > limit(*id),
                    };
                    hopeless.extend(part.entries.iter().filter(|id| vain(id)).map(|id| (*id, why())));
                }
            }
        }
        let mut told = Told::default();
        for (id, error) in hopeless {
            self.abandon(id, &error, now, &mut told);
        }
        todo.wake.append(&mut told.wake);
    }

    fn abandon(&mut self, id: EntryId, error: &ReadError, now: Instant, told: &mut Told) {
        self.leave_line(id);
        self.leave_part(id);
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.place = Place::Idle;
        let about = error.about(&entry.question);
        let passenger = Passenger { entry: id, waiters: std::mem::take(&mut entry.waiters), due: None, asked: entry.asked, lane: entry.lane };
        entry.lane = Lane::Periodic;
        self.deliver(passenger, Err(about), now, told);
    }
}

/// How long what failed and is tried again waits for company. Behind a service that fails, its pauses are about as long as the trouble has
/// lasted, and spread by a fifth: where each left at once, an outage would cost more calls than health.
fn company_of_retries(failing: Option<Instant>, asked: Instant) -> Duration {
    failing.map_or(COMPANY, |since| (asked.saturating_duration_since(since) / RETRIES).clamp(COMPANY, LONGEST_COMPANY))
}

fn slow_down() -> ReadError {
    ReadError::new(Reason::Throttled, "the store asks to slow down; retrying more slowly")
}

fn too_much() -> ReadError {
    let problem =
        "the recheck is late: the provider's limits do not suffice for all that is read through it; raise them with AWS's quota, or choose longer TTLs";
    ReadError::new(Reason::Throttled, problem)
}
