//! What a resource asks of the reader, what it has rechecked, and what comes back.
//!
//! A plan whose providers were found enters; asks and watches leave. Nobody waits here: whoever asked is looked at again when the
//! answers are there. What they come to is [`gather`](super::gather)'s.

use std::collections::BTreeSet;

use kube::Resource;
use tokio::time::Instant;

use super::{
    cache::{FirstRound, Reading, Standing},
    decide::Why,
    drift::Seen,
    gather::Need,
    mirror::{Ground, Known, SOON, Work},
    providers::{Admitted, Through},
    queue::Next,
    served,
    target::Look,
};
use crate::{
    api::{Reason, robotosecret::CreationPolicy},
    reader::{Answer, Expected, Item, Lane, Reader, ScopeId, Since},
    telemetry::traces,
};

impl Work<'_> {
    /// Nothing is asked of the reader any more.
    pub(super) fn stop_reading(&self, standing: &mut Standing) {
        standing.reading = None;
        self.context.reader.forget(&self.key);
    }

    /// Whether what was asked of the reader is still the question.
    pub(super) fn is_for_this(&self, reading: &Reading, admitted: &[Admitted]) -> bool {
        reading.generation == self.resource.meta().generation && reading.refresh.as_deref() == self.refresh() && reading.asked == Admitted::asked(admitted)
    }

    /// Asks the reader all questions. The look at the target comes before, so that an old value can't go over a newer write.
    pub(super) async fn ask(&self, standing: &mut Standing, ground: &Ground, why: Why, attempts: usize) -> Next {
        let Ground { admitted, known, .. } = ground;
        let look = match known {
            // An API server that failed is asked first: without it, the store need not be.
            Known::Intact(seen) | Known::Moved(seen) if attempts == 0 && !kubernetes_failed(standing) => Look::Ours(Box::new(Seen::clone(seen))),
            // If something is there after all, making it anew is refused and the next attempt looks.
            Known::Never if attempts == 0 && standing.failing.is_none() && self.is_probably_new() => Look::Absent,
            _ => match self.target().look(&self.wanted.name).await {
                Ok(look) => look,
                Err(error) => return self.target_failed(standing, &error, known.is_intact()).await,
            },
        };
        let items: Option<Vec<Item>> = items(&self.context.reader, admitted).collect();
        // A provider that changes at this moment wakes the resource again.
        let Some(items) = items else { return Next::In(SOON) };
        standing.reading = Some(Box::new(Reading {
            why,
            generation: self.resource.meta().generation,
            refresh: self.refresh().map(str::to_owned),
            asked: Admitted::asked(admitted),
            since: Instant::now(),
            look,
            attempts,
            first: None,
        }));
        self.context.reader.ask(&self.key, lane(why, known), &items);
        traces::outcome(&tracing::Span::current(), "Asked", false);
        self.next_look(standing)
    }

    /// Whether the Secret is most probably not there yet: the watch would show it, but for a shared one that nobody has merged into so far.
    fn is_probably_new(&self) -> bool {
        self.wanted.policy != CreationPolicy::Merge && self.context.secrets.get(&self.key.0, &self.wanted.name).is_none()
    }

    /// Asks what the first answers left open.
    pub(super) fn ask_further(&self, standing: &mut Standing, ground: &Ground, reading: Reading, first: FirstRound) -> Next {
        let Ground { admitted, known, .. } = ground;
        let items: Option<Vec<Item>> = first.needs.iter().map(|need| self.context.reader.item(admitted[need.of].through.scope, &need.question)).collect();
        let Some(items) = items else { return Next::In(SOON) };
        let lane = lane(reading.why, known);
        standing.reading = Some(Box::new(Reading { first: Some(first), ..reading }));
        self.context.reader.ask(&self.key, lane, &items);
        self.next_look(standing)
    }

    /// Has everything rechecked every TTL from here on: the questions, and the members of listings that were read one by one.
    /// `expected` holds what each question of the first round was answered, `members` what each member was.
    pub(super) fn watch(&self, ground: &Ground, expected: Vec<Expected>, members: Vec<(Need, Expected)>, since: Since) {
        let Ground { plan, admitted, .. } = ground;
        let mut expected = expected.into_iter();
        let mut watched = Vec::with_capacity(admitted.len());
        for admitted in admitted {
            let mut found = false;
            for (question, _) in &admitted.candidates {
                let expected = expected.next().unwrap_or(Expected::Unknown);
                // What a shorter name denotes does not matter while a longer one is there.
                let matters = !found;
                found |= expected != Expected::Absent;
                watched.extend(self.context.reader.item(admitted.through.scope, question).filter(|_| matters).map(|item| (item, expected)));
            }
        }
        for (Need { of, question }, expected) in members {
            watched.extend(self.context.reader.item(admitted[of].through.scope, &question).map(|item| (item, expected)));
        }
        self.context.reader.watch(&self.key, plan.ttl, watched, since);
    }

    /// Has everything rechecked that an earlier process mirrored, as far as its status tells which versions.
    pub(super) fn watch_again(&self, standing: &Standing, ground: &Ground) {
        let Ground { plan, admitted, known, .. } = ground;
        let record = standing.record();
        // A predecessor that wrote the Secret and died before it told has mirrored another version than the status says.
        let told = standing.status.last_check_time.as_ref().map(|time| time.0.as_second());
        let untold = matches!(known, Known::Moved(seen) if !standing.checked && seen.last_written(&self.manager) >= told);
        let expected = plan.questions.iter().zip(admitted).flat_map(|(planned, admitted)| {
            let found = served::find(&record, &planned.question.to_string(), planned.foreign(&self.resource.spec.provider).as_deref());
            let expected = match found.filter(|_| admitted.candidates.len() == 1 && !untold) {
                Some(previous) if previous.gone => Expected::Absent,
                Some(previous) if previous.served.version.lasts() => Expected::Version((&previous.served.version).into()),
                _ => Expected::Unknown,
            };
            std::iter::repeat_n(expected, admitted.candidates.len())
        });
        self.watch(ground, expected.collect(), Vec::new(), Since::Restart { last_check: standing.last_check });
    }
}

/// The services that are asked.
pub(super) fn services(admitted: &[Admitted]) -> Vec<(ScopeId, &'static str)> {
    let all = admitted.iter().flat_map(|admitted| admitted.candidates.iter().map(|(question, _)| (admitted.through.scope, question.store().as_str())));
    let distinct: BTreeSet<_> = all.collect();
    distinct.into_iter().collect()
}

/// All that is asked for the questions of a plan, in order; `None` for what can't be asked any more.
fn items<'a>(reader: &'a Reader, admitted: &'a [Admitted]) -> impl Iterator<Item = Option<Item>> + 'a {
    admitted.iter().flat_map(|admitted| admitted.candidates.iter().map(|(question, _)| reader.item(admitted.through.scope, question)))
}

/// What a recheck has to find for nothing to be done.
pub(super) fn expected(answer: &Answer) -> Expected {
    match answer {
        Ok(held) => Expected::Version((&held.reading().version).into()),
        Err(error) if error.reason == Reason::SourceNotFound => Expected::Absent,
        Err(_) => Expected::Unknown,
    }
}

fn kubernetes_failed(standing: &Standing) -> bool {
    standing.failing.as_ref().is_some_and(|failing| failing.failure.reason == Reason::KubernetesError)
}

/// In which lane a resource waits for what it reads.
fn lane(why: Why, known: &Known) -> Lane {
    match (why, known) {
        (Why::Spec, _) | (_, Known::Missing) => Lane::New,
        (Why::Forced | Why::Provider | Why::Template | Why::Changed, _) => Lane::Event,
        (Why::Drift | Why::Retry, _) => Lane::Drift,
    }
}

/// Whether the providers changed since the last try in a way that can make a difference: their addresses, region or identity; after
/// they did not allow what the store answered, their rules or the namespace's labels; after their identity did not work, whether it does; and after something vanished, whether that is confirmed.
pub(super) fn reads_otherwise(standing: &Standing, admitted: &[Admitted]) -> bool {
    let failed = |reason: Reason| standing.failing.as_ref().is_some_and(|failing| failing.failure.reason == reason);
    let (denied, missing, unidentified) = (failed(Reason::NotAllowed), failed(Reason::SourceNotFound), failed(Reason::CredentialsError));
    let differs = |was: &Through, is: &Admitted| {
        was.scope != is.through.scope
            // What a listing finds is allowed or not one by one, whatever is asked.
            || ((denied || is.lists()) && (&was.rules, &was.labels) != (&is.through.rules, &is.through.labels))
            || (missing && was.confirmed != is.through.confirmed)
            || (unidentified && was.recovered != is.through.recovered)
    };
    let was = &standing.tried_through;
    !was.is_empty() && (was.len() != admitted.len() || was.iter().zip(admitted).any(|(was, is)| differs(was, is)))
}
