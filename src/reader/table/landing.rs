//! What becomes of a call's outcome: answers for those who waited, news for those who watch, and a new place for everybody else.
//!
//! An outcome enters; who is woken leaves. A call that was refused as a whole is halved until the culprit is alone. If all work alone, the
//! suspects are read with somebody who was well in company, so that neither one reference costs the others their company nor each is
//! tried in vain where company itself is forbidden. A throttled call goes back to where it stood. An answer is matched to whoever asked
//! before the call left, never to a later ask.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Alone, CallId, Entry, EntryId, Expected, Flight, LineId, News, Outcome, Part, Passenger, Place, Proof, Purpose, ScopeId, Table, Told, Waiter};
use crate::{
    api::Reason,
    limit::lock,
    provider::{Lot, LotAnswer, Question, ReadError, Reading, Value, silent},
    reader::{
        Key, Lane,
        held::{Answer, Held},
    },
};

/// How long until calls for several are tried again that the identity may not make, or that are refused for one of them.
const DENIED_FOR: Duration = Duration::from_hours(1);
/// How few must be left of a refused call to tell, once they all work, that none of them was why by itself.
const FEW: usize = 3;
/// How long those few are kept from company who alone tell that it is refused.
const DOUBTED: Duration = Duration::from_mins(1);
/// A call that is refused for the sake of somebody's key is taken apart if one was within this time.
const STRAINED: Duration = Duration::from_secs(10);
/// How often at most those who wait for a store to recover are told that it answers.
const RECOVERY: Duration = Duration::from_secs(10);
/// How long a quarantine is remembered that nobody asks about.
const FORGOTTEN: Duration = Duration::from_hours(6);

impl Entry {
    /// Whether it was well in company lately.
    fn is_met(&self, now: Instant) -> bool {
        self.met.is_some_and(|met| now.duration_since(met) < DENIED_FOR)
    }
}

impl Table {
    /// Takes what came of a call.
    pub fn finish(&mut self, id: CallId, outcome: Outcome, now: Instant) -> Told {
        let mut told = Told::default();
        // A scope that was closed meanwhile left no flight.
        let Some(flight) = self.flights.remove(&id) else { return told };
        let Some(scope) = self.scopes.get_mut(&flight.scope) else { return told };
        scope.flying -= 1;
        scope.expected -= flight.expected;
        let breaker = scope.breakers.entry(flight.line.service()).or_default();
        match &outcome {
            // What hung before and hangs alone says nothing of the others.
            Outcome::TimedOut if matches!(flight.line, LineId::Quarantine(..)) => {}
            Outcome::TimedOut => breaker.timed_out(flight.left, now),
            Outcome::One(_) | Outcome::Lot(_) => {
                breaker.answered();
                scope.answered.insert(flight.line.service(), now);
                match how_well(&outcome) {
                    Some(true) => drop(scope.failing.remove(flight.line.service())),
                    Some(false) => drop(scope.failing.entry(flight.line.service()).or_insert(now)),
                    None => {}
                }
            }
            Outcome::Panicked => {}
        }
        if let Some(line) = scope.lines.get_mut(&flight.line) {
            line.flying -= 1;
            if matches!(outcome, Outcome::One(Ok(_)) | Outcome::Lot(LotAnswer::Each { .. })) {
                line.last_good = Some(now);
            }
        }
        for passenger in &flight.passengers {
            if let Some(entry) = self.entries.get_mut(&passenger.entry) {
                entry.place = Place::Idle;
            }
        }
        match outcome {
            Outcome::One(result) => self.landed_alone(flight, result, now, &mut told),
            Outcome::Lot(LotAnswer::Each { answers, pages }) => self.landed(flight, answers, pages, now, &mut told),
            Outcome::Lot(LotAnswer::Refused(error)) => self.refused(flight, &error, now, &mut told),
            Outcome::Lot(LotAnswer::Denied(error)) => {
                if let LineId::Lot(_, lot) = flight.line {
                    self.deny(flight.scope, lot, &error, now, &mut told);
                }
                self.restore_all(flight.passengers, now);
            }
            Outcome::Lot(LotAnswer::Failed(error)) => self.failed(flight, &error, now, &mut told),
            Outcome::TimedOut => {
                // One of them may be why (a key that is kept elsewhere, say): they don't take others along until they work alone.
                for passenger in &flight.passengers {
                    self.set_alone(passenger.entry, true, now);
                }
                self.failed(flight, &silent(), now, &mut told);
            }
            Outcome::Panicked => {
                let error = ReadError::new(Reason::InternalError, "a defect of the controller met the read; please report it with the controller's log");
                self.failed(flight, &error, now, &mut told);
            }
        }
        told
    }

    fn landed_alone(&mut self, flight: Flight, result: Result<Reading, ReadError>, now: Instant, told: &mut Told) {
        let throttle = result.as_ref().err().filter(|error| error.reason == Reason::Throttled);
        if throttle.is_some_and(|error| !error.own) {
            self.throttled(flight, now);
            return;
        }
        let its_own = throttle.is_some();
        let Flight { scope, mut passengers, purpose, .. } = flight;
        let Some(passenger) = passengers.pop() else { return };
        let (id, worked) = (passenger.entry, result.is_ok());
        if its_own {
            self.set_alone(id, true, now);
        }
        let suspect = worked && self.worked_alone(id, now);
        self.deliver(passenger, result, now, told);
        match purpose {
            Purpose::Proof(proof) if worked => self.bear_out(scope, proof, Some(id), now, told),
            Purpose::Proof(proof) => self.explained(scope, proof),
            _ if suspect => self.put_on_trial(id, now),
            _ => {}
        }
    }

    fn landed(&mut self, flight: Flight, answers: Vec<Option<Result<Reading, ReadError>>>, pages: u32, now: Instant, told: &mut Told) {
        let mut lifted = None;
        if let Some(scope) = self.scopes.get_mut(&flight.scope) {
            if let LineId::Lot(_, lot) = flight.line {
                scope.told.remove(&lot);
                scope.company.insert(lot, now);
                scope.doubted.remove(lot);
                // It was only thought to be forbidden.
                lifted = scope.denied.remove(lot).map(|_| lot);
            }
            if let Some(bucket) = lock(&self.budgets).bucket(&(scope.account.clone(), flight.family)) {
                bucket.owe(pages.saturating_sub(1));
            }
        }
        if let Some(lot) = lifted {
            self.relocate(flight.scope, lot, now);
        }
        told.shared += flight.passengers.len().saturating_sub(1);
        let mut answers = answers.into_iter();
        for passenger in flight.passengers {
            match answers.next().flatten() {
                // What is said in an answer that is good besides concerns this one alone (its key, most probably), not the calls; and what the
                // store says nothing about is asked once more.
                None | Some(Err(ReadError { reason: Reason::Throttled, .. })) => {
                    self.set_alone(passenger.entry, true, now);
                    self.restore(passenger, now);
                }
                Some(result) => {
                    let asked = self.entries.get_mut(&passenger.entry).map(|entry| {
                        entry.met = result.is_ok().then_some(now).or(entry.met);
                        entry.question.clone()
                    });
                    let result = result.map_err(|error| asked.map_or(error.clone(), |asked| error.about(&asked)));
                    self.deliver(passenger, result, now, told);
                }
            }
        }
        if let Purpose::Proof(proof) = flight.purpose {
            self.bear_out(flight.scope, proof, None, now, told);
        }
        for suspect in self.scopes.get_mut(&flight.scope).map(|scope| std::mem::take(&mut scope.suspects)).unwrap_or_default() {
            self.put_on_trial(suspect, now);
        }
    }

    /// A call failed for a reason that lies with none of its passengers.
    fn failed(&mut self, flight: Flight, error: &ReadError, now: Instant, told: &mut Told) {
        if error.reason == Reason::Throttled {
            self.throttled(flight, now);
            return;
        }
        if let Purpose::Proof(proof) = flight.purpose {
            self.explained(flight.scope, proof);
        }
        for passenger in flight.passengers {
            let about = self.entries.get(&passenger.entry).map(|entry| error.about(&entry.question));
            self.deliver(passenger, Err(about.unwrap_or_else(|| error.clone())), now, told);
        }
    }

    /// Everybody goes back to where they stood, and the budget shrinks.
    fn throttled(&mut self, flight: Flight, now: Instant) {
        if let Some(scope) = self.scopes.get_mut(&flight.scope) {
            if let Some(line) = scope.lines.get_mut(&flight.line) {
                line.last_throttle = Some(now);
            }
            if let Some(bucket) = lock(&self.budgets).bucket(&(scope.account.clone(), flight.family)) {
                bucket.throttled(now);
            }
        }
        self.again(flight, now);
    }

    /// Everybody goes back to where they stood. A part of a refused call stays one.
    fn again(&mut self, flight: Flight, now: Instant) {
        let Flight { scope, line, passengers, purpose, since, .. } = flight;
        if purpose == Purpose::Read {
            self.restore_all(passengers, now);
            return;
        }
        let entries: Vec<EntryId> = passengers.iter().map(|passenger| passenger.entry).collect();
        for passenger in passengers {
            self.rejoin(passenger, now);
        }
        self.put_part(scope, line, Part { entries, purpose, since }, now);
    }

    fn restore_all(&mut self, passengers: Vec<Passenger>, now: Instant) {
        for passenger in passengers {
            self.restore(passenger, now);
        }
    }

    /// Gives an entry back who waited for it and when it was due.
    fn rejoin(&mut self, passenger: Passenger, now: Instant) {
        let Some(entry) = self.entries.get_mut(&passenger.entry) else { return };
        if !passenger.waiters.is_empty() {
            entry.asked = if entry.waiters.is_empty() { passenger.asked } else { entry.asked.min(passenger.asked) };
            entry.lane = entry.lane.min(passenger.lane);
            entry.waiters.splice(0..0, passenger.waiters);
        }
        let due = if entry.subscribers.is_empty() { None } else { passenger.due.or(Some(now)) };
        self.set_due(passenger.entry, due, now);
    }

    fn restore(&mut self, passenger: Passenger, now: Instant) {
        let id = passenger.entry;
        self.rejoin(passenger, now);
        self.resume(id, now);
    }

    /// Puts an entry whose call is over where it belongs.
    fn resume(&mut self, id: EntryId, now: Instant) {
        let Some(entry) = self.entries.get(&id) else { return };
        if !entry.waiters.is_empty() && entry.place == Place::Idle {
            self.queue(id, now);
        }
        self.drop_unused(id);
    }

    fn put_part(&mut self, scope: ScopeId, line: LineId, part: Part, now: Instant) {
        for id in &part.entries {
            if let Some(entry) = self.entries.get_mut(id) {
                entry.place = Place::Part;
            }
            // It leaves with its part, not when it is due.
            self.set_due(*id, None, now);
        }
        if let Some(line) = self.line(scope, line, now) {
            line.parts.push_back(part);
        }
    }

    /// Has an entry read alone from here on, or in company again.
    fn set_alone(&mut self, id: EntryId, alone: bool, now: Instant) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if std::mem::replace(&mut entry.alone, alone) == alone {
            return;
        }
        let Some(scope) = self.scopes.get_mut(&entry.scope) else { return };
        if alone {
            scope.quarantine.retain(|_, alone| now.duration_since(alone.since) < FORGOTTEN);
            scope.quarantine.insert(entry.question.clone(), Alone { since: now, until: None });
        } else {
            scope.quarantine.remove(&entry.question);
        }
    }

    /// Has an entry read alone for some time although that works.
    fn keep_alone(&mut self, id: EntryId, time: Duration, now: Instant) {
        self.set_alone(id, true, now);
        let Some(entry) = self.entries.get(&id) else { return };
        if let Some(alone) = self.scopes.get_mut(&entry.scope).and_then(|scope| scope.quarantine.get_mut(&entry.question)) {
            *alone = Alone { since: now, until: Some(now + time) };
        }
        self.relocate_one(id, now);
    }

    /// An entry that read alone worked: it joins company again, unless company was refused for it. Whether it is time to try that anew.
    fn worked_alone(&mut self, id: EntryId, now: Instant) -> bool {
        let Some(entry) = self.entries.get(&id).filter(|entry| entry.alone) else { return false };
        let until = self.scopes.get(&entry.scope).and_then(|scope| scope.quarantine.get(&entry.question)).and_then(|alone| alone.until);
        // Where nobody was there for so long to try it with, it does no harm.
        if until.is_none_or(|until| now.saturating_duration_since(until) >= DENIED_FOR) {
            self.set_alone(id, false, now);
            return false;
        }
        until.is_some_and(|until| until <= now)
    }

    /// A call was refused as a whole.
    fn refused(&mut self, flight: Flight, error: &ReadError, now: Instant, told: &mut Told) {
        let LineId::Lot(_, lot) = flight.line else { return };
        let throttle = error.reason == Reason::Throttled;
        match flight.purpose {
            // The store's limits come first: only what keeps being refused is taken apart.
            Purpose::Read if throttle && self.strains(&flight, now) => self.throttled(flight, now),
            // That tells nothing.
            Purpose::Trial | Purpose::Control if throttle => self.restore_all(flight.passengers, now),
            Purpose::Trial => self.convict(flight, lot, error, now, told),
            Purpose::Control => {
                self.deny(flight.scope, lot, error, now, told);
                self.restore_all(flight.passengers, now);
            }
            Purpose::Read | Purpose::Half(_) | Purpose::Proof(_) => self.split(flight, lot, error, now),
        }
    }

    /// Takes note of a call that was refused for the sake of somebody's key. Whether it is the first one lately.
    fn strains(&mut self, flight: &Flight, now: Instant) -> bool {
        let Some(line) = self.scopes.get_mut(&flight.scope).and_then(|scope| scope.lines.get_mut(&flight.line)) else { return false };
        line.strained.replace(now).is_none_or(|last| now.duration_since(last) >= STRAINED)
    }

    /// Each half of a refused call is tried by itself, and the last one alone.
    fn split(&mut self, flight: Flight, lot: &'static Lot, error: &ReadError, now: Instant) {
        let Flight { scope: scope_id, line, passengers, purpose, .. } = flight;
        let entries: Vec<EntryId> = passengers.iter().map(|passenger| passenger.entry).collect();
        for passenger in passengers {
            self.rejoin(passenger, now);
        }
        let (number, few) = (self.next(), entries.len() <= FEW && error.reason != Reason::Throttled);
        let Some(scope) = self.scopes.get_mut(&scope_id) else { return };
        let (root, whole) = match purpose {
            Purpose::Half(root) => (root, false),
            Purpose::Proof(proof) => scope.proofs.remove(&proof).map_or((number, true), |proof| (proof.root, proof.whole)),
            Purpose::Read | Purpose::Trial | Purpose::Control => (number, true),
        };
        let purpose = if few { Purpose::Proof(number) } else { Purpose::Half(root) };
        let (left, right) = entries.split_at(entries.len().div_ceil(2));
        if few {
            scope.proofs.insert(number, Proof { lot, left: 2, error: error.clone(), alone: Vec::new(), root, whole });
        }
        for half in [left, right] {
            let line = match half {
                [id] => {
                    self.set_alone(*id, true, now);
                    self.entries.get(id).map_or(line, |entry| self.line_of(entry))
                }
                _ => line,
            };
            self.put_part(scope_id, line, Part { entries: half.to_vec(), purpose, since: now }, now);
        }
    }

    /// A part of a refused call worked. Once all of a few did, none of them is why by itself.
    fn bear_out(&mut self, scope_id: ScopeId, id: u64, alone: Option<EntryId>, now: Instant, told: &mut Told) {
        let Some(scope) = self.scopes.get_mut(&scope_id) else { return };
        let Some(proof) = scope.proofs.get_mut(&id) else { return };
        proof.left -= 1;
        proof.alone.extend(alone);
        if proof.left > 0 {
            return;
        }
        let Some(Proof { lot, error, alone, root, whole, .. }) = scope.proofs.remove(&id) else { return };
        if scope.company.get(lot).is_some_and(|last| now.duration_since(*last) < DENIED_FOR) {
            // Others read in company: it is refused for one of these.
            for id in alone {
                self.put_on_trial(id, now);
            }
        } else if error.reason == Reason::AccessDenied && !self.is_under_way(scope_id, root) {
            let doubted = self.scopes.get_mut(&scope_id).is_some_and(|scope| *scope.doubted.entry(lot).or_insert(now) < now);
            if !whole || doubted {
                self.deny(scope_id, lot, &error, now, told);
            } else {
                // Others will show which it is.
                for id in alone {
                    self.keep_alone(id, DOUBTED, now);
                }
            }
        }
    }

    /// A part of a refused call failed by itself: that is why.
    fn explained(&mut self, scope: ScopeId, proof: u64) {
        if let Some(scope) = self.scopes.get_mut(&scope) {
            scope.proofs.remove(&proof);
        }
    }

    /// Whether several that were refused under this number have yet to be answered in company.
    fn is_under_way(&self, scope_id: ScopeId, root: u64) -> bool {
        let Some(scope) = self.scopes.get(&scope_id) else { return false };
        let is_of = |purpose: Purpose| match purpose {
            Purpose::Half(of) => of == root,
            Purpose::Proof(id) => scope.proofs.get(&id).is_some_and(|proof| proof.root == root),
            Purpose::Read | Purpose::Trial | Purpose::Control => false,
        };
        let mut parts = scope.lines.values().flat_map(|line| &line.parts);
        let mut flights = self.flights.values().filter(|flight| flight.scope == scope_id);
        parts.any(|part| part.entries.len() > 1 && is_of(part.purpose)) || flights.any(|flight| flight.passengers.len() > 1 && is_of(flight.purpose))
    }

    /// Has one that works alone, and may be why company was refused, read once with another that was well in company. If there is none at
    /// the moment, it reads alone until there is.
    fn put_on_trial(&mut self, id: EntryId, now: Instant) {
        let Some(entry) = self.entries.get(&id) else { return };
        let Some(lot) = entry.route.lot else { return };
        let (scope_id, line) = (entry.scope, LineId::Lot(entry.route.service, lot));
        if let Some(mate) = self.mate(id, lot, now) {
            self.set_alone(id, false, now);
            self.put_together(scope_id, line, [id, mate], Purpose::Trial, now);
            return;
        }
        if !entry.alone {
            self.keep_alone(id, Duration::ZERO, now);
        }
        if let Some(scope) = self.scopes.get_mut(&scope_id) {
            scope.suspects.insert(id);
        }
    }

    /// Company was refused for the sake of one that works alone, or it is refused to all. Two who were well in company tell. If nobody was,
    /// it takes longer.
    fn convict(&mut self, flight: Flight, lot: &'static Lot, error: &ReadError, now: Instant, told: &mut Told) {
        let Flight { scope: scope_id, line, passengers, .. } = flight;
        let ids: Vec<EntryId> = passengers.iter().map(|passenger| passenger.entry).collect();
        let [suspect, mate] = ids[..] else { return self.restore_all(passengers, now) };
        let is_met = self.entries.get(&mate).is_some_and(|mate| mate.is_met(now));
        self.keep_alone(suspect, if is_met { DENIED_FOR } else { DOUBTED }, now);
        self.restore_all(passengers, now);
        let doubted = self.scopes.get(&scope_id).and_then(|scope| scope.doubted.get(lot)).is_some_and(|since| now.duration_since(*since) >= DOUBTED * 5);
        let other = self.mate(mate, lot, now).filter(|other| is_met && self.entries.get(other).is_some_and(|other| other.is_met(now)));
        match other {
            Some(other) => self.put_together(scope_id, line, [mate, other], Purpose::Control, now),
            None if doubted && error.reason == Reason::AccessDenied => self.deny(scope_id, lot, error, now, told),
            None => {}
        }
    }

    /// Another of a lot that could be in a call with this one now, and was well in company, if possible.
    fn mate(&self, of: EntryId, lot: &'static Lot, now: Instant) -> Option<EntryId> {
        let entry = self.entries.get(&of).filter(|entry| entry.is_free())?;
        let fits = |id: EntryId, other: &Entry| {
            id != of
                && other.scope == entry.scope
                && other.route.lot == Some(lot)
                && other.is_free()
                && !other.alone
                && !other.route.aliases.iter().any(|alias| entry.route.aliases.contains(alias))
        };
        // Nobody waits for it, if possible.
        let others = self.entries.iter().filter(|(id, other)| fits(**id, other));
        others.min_by_key(|(id, other)| (!other.is_met(now), other.place != Place::Idle, **id)).map(|(id, _)| *id)
    }

    fn put_together(&mut self, scope: ScopeId, line: LineId, entries: [EntryId; 2], purpose: Purpose, now: Instant) {
        for id in entries {
            self.leave_line(id);
        }
        self.put_part(scope, line, Part { entries: entries.to_vec(), purpose, since: now }, now);
    }

    /// The identity may not read in company: from here on one by one, for an hour.
    fn deny(&mut self, scope_id: ScopeId, lot: &'static Lot, error: &ReadError, now: Instant, told: &mut Told) {
        let Some(scope) = self.scopes.get_mut(&scope_id) else { return };
        scope.denied.insert(lot, now + DENIED_FOR);
        scope.proofs.retain(|_, proof| proof.lot != lot);
        if scope.told.insert(lot) {
            told.denied = Some((scope_id, lot, error.clone()));
        }
        self.relocate(scope_id, lot, now);
    }

    /// Tries in company again what was denied an hour ago.
    pub(super) fn permit_again(&mut self, now: Instant) {
        let over: Vec<(ScopeId, &'static Lot)> =
            self.scopes.iter().flat_map(|(id, scope)| scope.denied.iter().filter(|(_, until)| **until <= now).map(|(lot, _)| (*id, *lot))).collect();
        for (scope_id, lot) in over {
            if let Some(scope) = self.scopes.get_mut(&scope_id) {
                scope.denied.remove(&lot);
            }
            self.relocate(scope_id, lot, now);
        }
    }

    /// Moves all entries of a lot to the line that they belong to now.
    fn relocate(&mut self, scope: ScopeId, lot: &'static Lot, now: Instant) {
        let moved: Vec<EntryId> = self.entries.iter().filter(|(_, entry)| entry.scope == scope && entry.route.lot == Some(lot)).map(|(id, _)| *id).collect();
        let lines = self.scopes.get_mut(&scope).map(|scope| scope.lines.iter_mut());
        let lines = lines.into_iter().flatten().filter(|(id, _)| matches!(id, LineId::Lot(_, of) if *of == lot));
        let parts: Vec<Part> = lines.flat_map(|(_, line)| line.parts.drain(..)).collect();
        for id in parts.into_iter().flat_map(|part| part.entries) {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.place = Place::Idle;
                let due = (!entry.subscribers.is_empty()).then_some(now);
                self.set_due(id, due, now);
                self.resume(id, now);
            }
        }
        for id in moved {
            self.relocate_one(id, now);
        }
    }

    /// Moves an entry to the line that it belongs to now.
    fn relocate_one(&mut self, id: EntryId, now: Instant) {
        let Some(entry) = self.entries.get(&id) else { return };
        let due = entry.due.map(|(_, due)| due);
        if due.is_some() {
            self.set_due(id, due, now);
        }
        if matches!(self.entries.get(&id).map(|entry| entry.place), Some(Place::Waiting(..))) {
            self.leave_line(id);
            self.queue(id, now);
        }
    }

    /// Hands an answer to those who waited for it, and tells those who watch what they need to know.
    pub(super) fn deliver(&mut self, passenger: Passenger, result: Result<Reading, ReadError>, now: Instant, told: &mut Told) {
        let id = passenger.entry;
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let Some(scope) = self.scopes.get_mut(&entry.scope) else { return };
        let (found, error) = match &result {
            Ok(reading) => {
                if let Value::List(found) = &reading.value {
                    entry.weight = found.iter().filter(|found| found.reading.is_some()).count().max(1);
                }
                let largest = if matches!(*entry.question, Question::List(_)) { &mut scope.largest_listing } else { &mut scope.largest };
                *largest = (*largest).max(reading.size());
                (Some(Expected::Version((&reading.version).into())), None)
            }
            Err(error) => ((error.reason == Reason::SourceNotFound).then_some(Expected::Absent), Some(error.clone())),
        };
        told.shared += passenger.waiters.len().saturating_sub(1);
        let mut recovered = BTreeSet::new();
        if error.is_none() {
            // A store that answers now and then is not asked by all of them each time.
            let service = entry.route.service;
            if scope.recovered.is_none_or(|last| now.duration_since(last) >= RECOVERY)
                && let Some(stranded) = scope.stranded.remove(service).filter(|stranded| !stranded.is_empty())
            {
                scope.recovered = Some(now);
                recovered = stranded;
            }
        }
        let counters = [self.held.clone(), scope.held.clone()];
        let subscribers = entry.subscribers.clone();
        // Without a waiter the value ends here.
        let answer: Option<Answer> = (!passenger.waiters.is_empty()).then(|| result.map(|reading| Arc::new(Held::new(reading, counters))));
        if let Some(answer) = answer {
            for waiter in passenger.waiters {
                self.answer(&waiter, id, &answer, told);
            }
        }
        for key in subscribers {
            self.compare(&key, id, found.as_ref(), error.as_ref(), now, told);
        }
        for key in recovered {
            self.asker(&key).1.news = Some(Box::new(News::Recovered));
            told.wake.push((key, Lane::Drift));
        }
        let Some(entry) = self.entries.get(&id) else { return };
        let due = (!entry.subscribers.is_empty()).then(|| now + entry.ttl());
        if entry.is_free() {
            self.set_due(id, due, now);
        }
        self.resume(id, now);
    }

    fn answer(&mut self, waiter: &Waiter, id: EntryId, answer: &Answer, told: &mut Told) {
        let Some(asked) = self.askers.get_mut(&waiter.key).and_then(|asker| asker.asked.as_mut()).filter(|asked| asked.id == waiter.ask) else { return };
        for (entry, slot) in &mut asked.answers {
            if *entry == id && slot.is_none() {
                *slot = Some(answer.clone());
                asked.missing -= 1;
            }
        }
        if asked.missing == 0 {
            self.complete += 1;
            told.wake.push((waiter.key.clone(), asked.lane));
        }
    }

    /// Compares what was found of an entry, if anything is known for certain, with what somebody who watches it expects.
    fn compare(&mut self, key: &Arc<Key>, id: EntryId, found: Option<&Expected>, error: Option<&ReadError>, now: Instant, told: &mut Told) {
        let Some(asker) = self.askers.get_mut(key) else { return };
        let Some(watched) = asker.watched.as_mut() else { return };
        let mut differs = false;
        for (_, expected, checked) in watched.seen.iter_mut().filter(|(entry, ..)| *entry == id) {
            if found == Some(expected) {
                *checked = Some(now);
            } else {
                differs = true;
            }
        }
        // Who asked meanwhile finds out by the answer.
        if !differs || asker.asked.is_some() {
            return;
        }
        let first = asker.news.is_none();
        let lane = if error.is_some() { Lane::Drift } else { Lane::Event };
        asker.news = Some(Box::new(error.map_or(News::Changed, |error| News::Failed(error.clone()))));
        if first {
            told.wake.push((key.clone(), lane));
        }
    }
}

/// Whether a service works, if its answer tells.
fn how_well(outcome: &Outcome) -> Option<bool> {
    match outcome {
        Outcome::One(Err(error)) | Outcome::Lot(LotAnswer::Failed(error)) => (error.reason == Reason::ProviderUnavailable).then_some(false),
        Outcome::One(Ok(_)) => Some(true),
        Outcome::Lot(LotAnswer::Each { answers, .. }) => answers.iter().flatten().any(Result::is_ok).then_some(true),
        Outcome::Lot(_) | Outcome::TimedOut | Outcome::Panicked => None,
    }
}
