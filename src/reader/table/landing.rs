//! What becomes of a call's outcome: answers for those who waited, news for those who watch, and a new place for everybody else.
//!
//! An outcome enters; who is woken leaves. A call that was refused as a whole is halved until the culprit is alone; a throttled one
//! goes back to where it stood. An answer is matched to whoever asked before the call left, never to a later ask.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{CallId, EntryId, Expected, Flight, LineId, News, Outcome, Part, Passenger, Place, Proof, ScopeId, Table, Told, Waiter, silent};
use crate::{
    api::Reason,
    limit::lock,
    provider::{Lot, LotAnswer, Question, ReadError, Reading, Value},
    reader::{
        Key, Lane,
        held::{Answer, Held},
    },
};

/// How long until calls for several are tried again that the identity may not make.
const DENIED_FOR: Duration = Duration::from_hours(1);
/// How often at most those who wait for a store to recover are told that it answers.
const RECOVERY: Duration = Duration::from_secs(10);
/// How long a quarantine is remembered that nobody asks about.
const FORGOTTEN: Duration = Duration::from_hours(6);

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
            Outcome::Lot(LotAnswer::Refused(error)) => self.split(flight, &error, now),
            Outcome::Lot(LotAnswer::Denied(error)) => {
                if let LineId::Lot(_, lot) = flight.line {
                    self.deny(flight.scope, lot, &error, now, &mut told);
                }
                self.again(flight, now);
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
        if result.as_ref().is_err_and(|error| error.reason == Reason::Throttled) {
            self.throttled(flight, now);
            return;
        }
        let Flight { scope, mut passengers, proof, .. } = flight;
        let Some(passenger) = passengers.pop() else { return };
        let worked = result.is_ok();
        if worked {
            self.set_alone(passenger.entry, false, now);
        }
        self.deliver(passenger, result, now, told);
        let Some(state) = self.scopes.get_mut(&scope) else { return };
        if let Some(id) = proof
            && let Some(mut proof) = state.proofs.remove(&id)
            && worked
        {
            proof.left -= 1;
            if proof.left == 0 {
                self.deny(scope, proof.lot, &proof.error, now, told);
            } else {
                state.proofs.insert(id, proof);
            }
        }
    }

    fn landed(&mut self, flight: Flight, answers: Vec<Option<Result<Reading, ReadError>>>, pages: u32, now: Instant, told: &mut Told) {
        if let Some(scope) = self.scopes.get_mut(&flight.scope) {
            if let LineId::Lot(_, lot) = flight.line {
                scope.told.remove(&lot);
            }
            if let Some(bucket) = lock(&self.budgets).bucket(&(scope.account.clone(), flight.family)) {
                bucket.owe(pages.saturating_sub(1));
            }
        }
        told.shared += flight.passengers.len().saturating_sub(1);
        let mut answers = answers.into_iter();
        let mut back = Vec::new();
        for passenger in flight.passengers {
            match answers.next().flatten() {
                Some(Err(error)) if error.reason == Reason::Throttled => back.push(passenger),
                Some(result) => {
                    let asked = self.entries.get(&passenger.entry).map(|entry| entry.question.clone());
                    let result = result.map_err(|error| asked.map_or(error.clone(), |asked| error.about(&asked)));
                    self.deliver(passenger, result, now, told);
                }
                None => {
                    self.set_alone(passenger.entry, true, now);
                    self.restore(passenger, now);
                }
            }
        }
        if !back.is_empty() {
            self.throttled(Flight { passengers: back, ..flight }, now);
        }
    }

    /// A call failed for a reason that lies with none of its passengers.
    fn failed(&mut self, flight: Flight, error: &ReadError, now: Instant, told: &mut Told) {
        if error.reason == Reason::Throttled {
            self.throttled(flight, now);
            return;
        }
        if let (Some(id), Some(scope)) = (flight.proof, self.scopes.get_mut(&flight.scope)) {
            scope.proofs.remove(&id);
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
        if flight.proof.is_some() {
            let entries: Vec<EntryId> = flight.passengers.iter().map(|passenger| passenger.entry).collect();
            for passenger in flight.passengers {
                self.rejoin(passenger, now);
            }
            self.put_part(flight.scope, flight.line, Part { entries, proof: flight.proof }, now);
        } else {
            for passenger in flight.passengers {
                self.restore(passenger, now);
            }
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
            scope.quarantine.retain(|_, since| now.duration_since(*since) < FORGOTTEN);
            scope.quarantine.insert(entry.question.clone(), now);
        } else {
            scope.quarantine.remove(&entry.question);
        }
    }

    /// A call was refused as a whole: each half is tried by itself, and the last one alone.
    fn split(&mut self, flight: Flight, error: &ReadError, now: Instant) {
        let LineId::Lot(_, lot) = flight.line else { return };
        let entries: Vec<EntryId> = flight.passengers.iter().map(|passenger| passenger.entry).collect();
        for passenger in flight.passengers {
            self.rejoin(passenger, now);
        }
        let proof = (entries.len() <= 2 && error.reason == Reason::AccessDenied).then(|| self.next());
        if let (Some(id), Some(scope)) = (proof, self.scopes.get_mut(&flight.scope)) {
            scope.proofs.insert(id, Proof { lot, left: entries.len(), error: error.clone() });
        }
        let (left, right) = entries.split_at(entries.len().div_ceil(2));
        for half in [left, right] {
            match half {
                [] => {}
                [id] => {
                    self.set_alone(*id, true, now);
                    let Some(entry) = self.entries.get(id) else { continue };
                    let line = self.line_of(entry);
                    self.put_part(flight.scope, line, Part { entries: vec![*id], proof }, now);
                }
                several => self.put_part(flight.scope, flight.line, Part { entries: several.to_vec(), proof: None }, now),
            }
        }
    }

    /// The identity may not read in company: from here on one by one, for an hour.
    fn deny(&mut self, scope_id: ScopeId, lot: &'static Lot, error: &ReadError, now: Instant, told: &mut Told) {
        let Some(scope) = self.scopes.get_mut(&scope_id) else { return };
        scope.denied.insert(lot, now + DENIED_FOR);
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
            let Some(entry) = self.entries.get(&id) else { continue };
            let due = entry.due.map(|(_, due)| due);
            if due.is_some() {
                self.set_due(id, due, now);
            }
            if matches!(self.entries.get(&id).map(|entry| entry.place), Some(Place::Waiting(..))) {
                self.leave_line(id);
                self.queue(id, now);
            }
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
            self.asker(&key).1.news = Some(News::Recovered);
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
        asker.news = Some(error.map_or(News::Changed, |error| News::Failed(error.clone())));
        if first {
            told.wake.push((key.clone(), lane));
        }
    }
}
