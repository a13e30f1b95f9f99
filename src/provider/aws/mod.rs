//! AWS: Secrets Manager and Parameter Store behind one identity and one region.
//!
//! Questions to both stores enter, readings leave. ARNs of another region or account are refused here, before the call that would
//! read them; a parameter that stands for a secret is resolved as Secrets Manager reads it.

mod errors;
mod identity;
mod listing;
mod matcher;
mod parameter_store;
mod renewal;
mod routes;
mod secrets_manager;
mod tags;
#[cfg(test)]
mod tests;

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use futures::{FutureExt, future::BoxFuture};

use super::{Calls, Family, Listing, Lot, LotAnswer, Provider, Question, ReadError, Reading, Route};
use crate::{
    api::{
        Reason,
        provider::{AwsSpec, Limits},
        reference::{Source, Store},
    },
    telemetry::{Metrics, traces},
};

pub use identity::Ambient;
use identity::Clients;
pub use routes::{BATCH_GET_SECRET_VALUE, DESCRIBE_PARAMETERS, DESCRIBE_SECRET, GET_SECRET_VALUE, LIST_SECRETS, SSM_READS, SSM_TAGS, STS};

/// Reads with one identity in one region.
pub struct AwsProvider {
    clients: Clients,
    account: String,
    limits: Mutex<Limits>,
    metrics: Metrics,
}

impl AwsProvider {
    /// Prepares the clients; nothing is called yet.
    #[must_use]
    pub fn new(spec: &AwsSpec, ambient: &Ambient, metrics: Metrics) -> Self {
        Self { clients: Clients::new(spec, ambient), account: account(spec), limits: Mutex::new(spec.limits.unwrap_or_default()), metrics }
    }

    /// Takes other limits; the clients stay.
    pub fn limit(&self, limits: Option<Limits>) {
        let limits = limits.unwrap_or_default();
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = limits;
        self.clients.limit(limits);
    }

    /// Asks one question. Its error names the question.
    async fn read_alone(&self, question: &Question, calls: &Calls) -> Result<Reading, ReadError> {
        let answer = match question {
            Question::Value(source) => self.read_value(source).await,
            Question::Presence { source, arn } => self.read_presence(source, arn, calls).await,
            Question::Tags(source) => self.read_tags(source).await,
            Question::List(listing) => self.list(listing, calls).await,
        };
        answer.map_err(|error| error.about(question))
    }

    async fn read_value(&self, source: &Source) -> Result<Reading, ReadError> {
        self.check(source).await?;
        self.call(source).await
    }

    async fn read_tags(&self, source: &Source) -> Result<Reading, ReadError> {
        self.check(source).await?;
        let (Clients { secrets_manager, parameter_store, .. }, reason) = (&self.clients, |error: &ReadError| error.reason);
        match source.store {
            Store::SecretsManager => observed(&self.metrics, ("aws.sm", "DescribeSecret", 1), reason, secrets_manager::tags(secrets_manager, source)).await,
            Store::ParameterStore => {
                observed(&self.metrics, ("aws.ps", "ListTagsForResource", 1), reason, parameter_store::tags(parameter_store, source)).await
            }
        }
    }

    async fn read_presence(&self, source: &Source, arn: &str, calls: &Calls) -> Result<Reading, ReadError> {
        // Elsewhere it may be missing for ever without being gone.
        self.check_home(arn).await?;
        self.check(source).await?;
        let source = &Source { version: None, ..source.clone() };
        let (Clients { secrets_manager, parameter_store, .. }, reason) = (&self.clients, |error: &ReadError| error.reason);
        match source.store {
            Store::SecretsManager => secrets_manager::presence(secrets_manager, source, calls, &self.metrics).await,
            Store::ParameterStore => observed(&self.metrics, ("aws.ps", "GetParameter", 1), reason, parameter_store::presence(parameter_store, source)).await,
        }
    }

    async fn list(&self, listing: &Listing, calls: &Calls) -> Result<Reading, ReadError> {
        match listing.store {
            Store::SecretsManager => secrets_manager::list(&self.clients.secrets_manager, listing, calls, &self.metrics).await,
            Store::ParameterStore => parameter_store::list(&self.clients.parameter_store, listing, calls, &self.metrics).await,
        }
    }

    /// Whether a source may be asked for as it is written.
    async fn check(&self, source: &Source) -> Result<(), ReadError> {
        self.check_arns(&[source]).await.into_iter().collect::<Result<(), _>>()?;
        if source.through_secrets_manager().is_empty() { Ok(()) } else { Err(misrouted()) }
    }

    /// Whether what has this ARN would be found where the provider reads now.
    async fn check_home(&self, arn: &str) -> Result<(), ReadError> {
        let mut parts = arn.split(':').skip(3);
        let elsewhere = |what: &str| {
            let problem =
                format!("the provider now reads another {what} than the one where this was mirrored from; that it is not found there does not count as gone");
            Err(ReadError::new(Reason::SourceNotFound, problem))
        };
        if parts.next() != Some(&self.clients.region) {
            return elsewhere("region");
        }
        let account = self.clients.account(&self.metrics).await?;
        if parts.next() == Some(&account) { Ok(()) } else { elsewhere("account") }
    }

    /// An ARN must be of this provider's region, which costs nothing to tell, and account, which costs one call once.
    async fn check_arns(&self, sources: &[&Source]) -> Vec<Result<(), ReadError>> {
        let region = &self.clients.region;
        let at_home = |source: &Source| source.arn().is_some_and(|arn| arn.region == *region);
        let account = if sources.iter().any(|source| at_home(source)) { Some(self.clients.account(&self.metrics).await) } else { None };
        let refuse = |problem: String| Err(ReadError::new(Reason::NotAllowed, problem));
        let check = |source: &&Source| {
            let Some(arn) = source.arn() else { return Ok(()) };
            if arn.region != *region {
                return refuse(format!("the provider reads the region {region}; an ARN of another region is not allowed"));
            }
            match &account {
                Some(Ok(account)) if *account == arn.account => Ok(()),
                Some(Err(error)) => Err(error.clone()),
                _ => refuse("the provider's identity belongs to another account than the ARN; that is not allowed".to_owned()),
            }
        };
        sources.iter().map(check).collect()
    }

    /// Reads those that may be read with one call, and gives each its answer.
    async fn read_together(&self, lot: &'static Lot, questions: &[Question]) -> LotAnswer {
        // A version that a shared call can't ask for would be answered with another one.
        let mut answers: Vec<Option<Result<Reading, ReadError>>> = questions.iter().map(|_| Some(Err(misrouted()))).collect();
        let fitting = questions.iter().enumerate().filter(|(_, question)| routes::route(question).lot == Some(lot));
        let fitting: Vec<(usize, &Source)> =
            fitting.filter_map(|(i, question)| if let Question::Value(source) = question { Some((i, source)) } else { None }).collect();
        let sources: Vec<&Source> = fitting.iter().map(|(_, source)| *source).collect();
        for ((i, _), check) in fitting.iter().zip(self.check_arns(&sources).await) {
            answers[*i] = check.err().map(Err);
        }
        let (open, asked): (Vec<usize>, Vec<&Source>) = fitting.into_iter().filter(|(i, _)| answers[*i].is_none()).unzip();
        let Some(first) = asked.first() else { return LotAnswer::Each { answers, pages: 0 } };
        let heard = match first.store {
            Store::SecretsManager => secrets_manager::read_lot(&self.clients.secrets_manager, &asked, &self.metrics).await,
            Store::ParameterStore => parameter_store::read_lot(&self.clients.parameter_store, &asked, &self.metrics).await,
        };
        let LotAnswer::Each { answers: heard, pages } = heard else { return heard };
        for (i, answer) in open.into_iter().zip(heard) {
            answers[i] = answer;
        }
        LotAnswer::Each { answers, pages }
    }

    async fn call(&self, source: &Source) -> Result<Reading, ReadError> {
        let reason = |error: &ReadError| error.reason;
        match source.store {
            Store::SecretsManager => {
                observed(&self.metrics, ("aws.sm", "GetSecretValue", 1), reason, secrets_manager::read(&self.clients.secrets_manager, source)).await
            }
            Store::ParameterStore => {
                observed(&self.metrics, ("aws.ps", "GetParameter", 1), reason, parameter_store::read(&self.clients.parameter_store, source)).await
            }
        }
    }
}

/// Whose limits the calls count against: those of one identity in one region at the same addresses.
fn account(spec: &AwsSpec) -> String {
    let endpoints = spec.endpoints.clone().unwrap_or_default();
    let named = [("secretsManager", endpoints.secrets_manager), ("ssm", endpoints.ssm), ("sts", endpoints.sts)];
    let named = named.into_iter().filter_map(|(service, url)| url.map(|url| format!("{service}={}", url.trim_end_matches('/'))));
    format!("ambient/{}/{}", spec.region, named.collect::<Vec<_>>().join(","))
}

/// A source that was to be read in a way that its route does not have.
fn misrouted() -> ReadError {
    ReadError::new(Reason::InternalError, "a defect of the controller: it was to be read in another way than it can be")
}

/// Counts and traces a call for this many secrets or parameters (a page counts as one), also a call that nobody waits for any more because it
/// takes too long.
async fn observed<T, E>(
    metrics: &Metrics,
    (store, api, count): (&'static str, &'static str, usize),
    reason: impl Fn(&E) -> Reason,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let span = traces::store_call(store, api, count);
    let mut observation = Observation { metrics, store, api, started: Instant::now(), outcome: Reason::ProviderUnavailable.as_str(), span };
    let result = call.await;
    observation.outcome = result.as_ref().map_or_else(|error| reason(error).as_str(), |_| "ok");
    result
}

/// Counts and traces what it observed when it is dropped.
struct Observation<'a> {
    metrics: &'a Metrics,
    store: &'static str,
    api: &'static str,
    started: Instant,
    outcome: &'static str,
    span: tracing::Span,
}

impl Drop for Observation<'_> {
    fn drop(&mut self) {
        traces::outcome(&self.span, self.outcome, self.outcome != "ok");
        self.metrics.provider_call(self.store, self.api, self.outcome, self.started.elapsed());
    }
}

impl Provider for AwsProvider {
    fn route(&self, question: &Question) -> Route {
        routes::route(question)
    }

    fn account(&self) -> &str {
        &self.account
    }

    fn ceilings(&self) -> Vec<(Family, f64)> {
        let limits = *self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        [GET_SECRET_VALUE, BATCH_GET_SECRET_VALUE, DESCRIBE_SECRET, LIST_SECRETS, SSM_READS, DESCRIBE_PARAMETERS, SSM_TAGS]
            .map(|family| (family, routes::ceiling(limits, family)))
            .into()
    }

    fn read_one<'a>(&'a self, question: &'a Question, calls: &'a Calls) -> BoxFuture<'a, Result<Reading, ReadError>> {
        self.read_alone(question, calls).boxed()
    }

    fn read_lot<'a>(&'a self, lot: &'static Lot, questions: &'a [Question]) -> BoxFuture<'a, LotAnswer> {
        self.read_together(lot, questions).boxed()
    }
}
