//! What a resource asks of the reader, what it has rechecked, and what comes back.
//!
//! A plan whose providers were found enters; asks and watches leave, and readings for the sources in their order. Nobody waits here:
//! whoever asked is looked at again when the answers are there. What a store answered under a name that the provider does not allow
//! goes no further.

use std::{collections::BTreeSet, sync::Arc};

use kube::Resource;

use super::{
    cache::{Reading, Standing},
    decide::Why,
    drift::Seen,
    mirror::{Known, SOON, Work},
    plan::Plan,
    providers::{Admitted, Through, answered_otherwise},
    queue::Next,
    status,
    target::Look,
};
use crate::{
    api::Reason,
    provider::{Question, ReadError},
    reader::{Answer, Expected, Held, Item, Lane, Reader, ScopeId, Since},
};

/// What was read for a source, and the keypath that its name ends in.
pub(super) type Found<'a> = (Arc<Held>, &'a [String]);

impl Work<'_> {
    /// Nothing is asked of the reader any more.
    pub(super) fn stop_reading(&self, standing: &mut Standing) {
        standing.reading = None;
        self.context.reader.forget(&self.key);
    }

    /// Whether what was asked of the reader is still the question.
    pub(super) fn is_for_this(&self, reading: &Reading, admitted: &[Admitted]) -> bool {
        reading.generation == self.resource.meta().generation
            && reading.refresh.as_deref() == self.refresh()
            && reading.scopes.iter().eq(admitted.iter().map(|admitted| &admitted.through.scope))
    }

    /// Asks the reader for all sources. The look at the target comes before, so that an old value can't go over a newer write.
    pub(super) async fn ask(&self, standing: &mut Standing, admitted: &[Admitted], known: &Known, why: Why, attempts: usize) -> Next {
        let look = match known {
            // An API server that failed is asked first: without it, the store need not be.
            Known::Intact(seen) | Known::Moved(seen) if attempts == 0 && !kubernetes_failed(standing) => Look::Ours(Box::new(Seen::clone(seen))),
            // If something is there after all, making it anew is refused and the next attempt looks.
            Known::Never if attempts == 0 && standing.failing.is_none() && self.context.secrets.get(&self.key.0, &self.wanted.name).is_none() => Look::Absent,
            _ => match self.target().look(&self.wanted.name, &self.wanted.owner).await {
                Ok(look) => look,
                Err(error) => return self.target_failed(standing, &error, known.is_intact()).await,
            },
        };
        let items: Option<Vec<Item>> = items(&self.context.reader, admitted).collect();
        // A provider that changes at this moment wakes the resource again.
        let Some(items) = items else { return Next::In(SOON) };
        standing.reading = Some(Reading {
            why,
            generation: self.resource.meta().generation,
            refresh: self.refresh().map(str::to_owned),
            scopes: admitted.iter().map(|admitted| admitted.through.scope).collect(),
            look,
            attempts,
        });
        self.context.reader.ask(&self.key, lane(why, known), &items);
        self.next_look(standing)
    }

    /// What was read for each source, in order, with the keypath that its name ends in. Any failure fails the whole; a lasting one is
    /// told before a passing one.
    pub(super) fn readings<'a>(&self, plan: &Plan, admitted: &'a [Admitted], answers: &[Answer]) -> Result<Vec<Found<'a>>, ReadError> {
        let namespace = self.key.0.as_str();
        let mut rest = answers;
        let mut readings = Vec::with_capacity(admitted.len());
        let mut errors = Vec::new();
        for (planned, admitted) in plan.sources.iter().zip(admitted) {
            let (mine, others) = rest.split_at(admitted.candidates.len().min(rest.len()));
            rest = others;
            let is_absent = |answer: &&Answer| answer.as_ref().is_err_and(|error| error.reason == Reason::SourceNotFound);
            let found = mine.iter().zip(&admitted.candidates).find(|(answer, _)| !is_absent(answer));
            match found.or_else(|| mine.iter().zip(&admitted.candidates).next()) {
                Some((Ok(held), (_, keypath))) => {
                    if held.reading().denotes.iter().all(|reference| admitted.through.may_read(namespace, reference)) {
                        readings.push((held.clone(), keypath.as_slice()));
                    } else {
                        // That name is not told: what the provider doesn't allow is not the reader's to know.
                        errors.push(answered_otherwise(&planned.provider.name, namespace, &planned.source.to_string()));
                    }
                }
                Some((Err(_), _)) if found.is_none() && mine.len() > 1 => {
                    let message = format!("{}: Secrets Manager has none of the secrets that this path may name", planned.source);
                    errors.push(ReadError::new(Reason::SourceNotFound, message));
                }
                Some((Err(error), _)) => errors.push(error.clone()),
                None => errors.push(ReadError::new(Reason::InternalError, format!("{}: the reader gave no answer", planned.source))),
            }
        }
        errors.into_iter().min_by_key(|error| error.reason.is_passing()).map_or(Ok(readings), Err)
    }

    /// Has the sources rechecked every TTL from here on.
    pub(super) fn watch(&self, plan: &Plan, admitted: &[Admitted], expected: Vec<Expected>, since: Since) {
        let mut expected = expected.into_iter();
        let mut watched = Vec::with_capacity(admitted.len());
        for admitted in admitted {
            let mut found = false;
            for (source, _) in &admitted.candidates {
                let expected = expected.next().unwrap_or(Expected::Unknown);
                // What a shorter name denotes does not matter while a longer one is there.
                let matters = !found;
                found |= expected != Expected::Absent;
                watched.extend(
                    self.context.reader.item(admitted.through.scope, &Question::Value(source.clone())).filter(|_| matters).map(|item| (item, expected)),
                );
            }
        }
        self.context.reader.watch(&self.key, plan.ttl, watched, since);
    }

    /// Has the sources rechecked that an earlier process mirrored, as far as its status tells which versions.
    pub(super) fn watch_again(&self, standing: &Standing, plan: &Plan, admitted: &[Admitted]) {
        let expected = plan.sources.iter().zip(admitted).flat_map(|(planned, admitted)| {
            let version = status::version_of(&standing.status, &planned.source.to_string()).filter(|_| admitted.candidates.len() == 1);
            let expected = version.map_or(Expected::Unknown, |version| Expected::Version((&version).into()));
            std::iter::repeat_n(expected, admitted.candidates.len())
        });
        self.watch(plan, admitted, expected.collect(), Since::Restart { last_check: standing.last_check });
    }
}

/// The services that are asked.
pub(super) fn services(admitted: &[Admitted]) -> Vec<(ScopeId, &'static str)> {
    let all = admitted.iter().flat_map(|admitted| admitted.candidates.iter().map(|(source, _)| (admitted.through.scope, source.store.as_str())));
    let distinct: BTreeSet<_> = all.collect();
    distinct.into_iter().collect()
}

/// All that is asked for the sources of a plan, in order; `None` for what can't be asked any more.
fn items<'a>(reader: &'a Reader, admitted: &'a [Admitted]) -> impl Iterator<Item = Option<Item>> + 'a {
    admitted.iter().flat_map(|admitted| admitted.candidates.iter().map(|(source, _)| reader.item(admitted.through.scope, &Question::Value(source.clone()))))
}

/// What a recheck of each has to find for nothing to be done.
pub(super) fn expected(answers: &[Answer]) -> Vec<Expected> {
    let expected = |answer: &Answer| match answer {
        Ok(held) => Expected::Version((&held.reading().version).into()),
        Err(error) if error.reason == Reason::SourceNotFound => Expected::Absent,
        Err(_) => Expected::Unknown,
    };
    answers.iter().map(expected).collect()
}

fn kubernetes_failed(standing: &Standing) -> bool {
    standing.failing.as_ref().is_some_and(|failing| failing.failure.reason == Reason::KubernetesError)
}

/// In which lane a resource waits for what it reads.
fn lane(why: Why, known: &Known) -> Lane {
    match (why, known) {
        (Why::Spec, _) | (_, Known::Missing) => Lane::New,
        (Why::Forced | Why::Provider | Why::Changed, _) => Lane::Event,
        (Why::Drift | Why::Retry, _) => Lane::Drift,
    }
}

/// Whether the providers changed since the last try in a way that can make a difference: their addresses, region or identity, or,
/// after they did not allow what the store answered, their rules.
pub(super) fn reads_otherwise(standing: &Standing, admitted: &[Admitted]) -> bool {
    let denied = standing.failing.as_ref().is_some_and(|failing| failing.failure.reason == Reason::NotAllowed);
    let differs = |was: &Through, is: &Admitted| was.scope != is.through.scope || (denied && was.rules != is.through.rules);
    let was = &standing.tried_through;
    !was.is_empty() && (was.len() != admitted.len() || was.iter().zip(admitted).any(|(was, is)| differs(was, is)))
}
