//! AWS: Secrets Manager and Parameter Store behind one identity and one region.
//!
//! Questions to both stores enter, readings leave. ARNs of another region or account are refused here, before the call that would
//! read them; a parameter that stands for a secret is resolved as Secrets Manager reads it.

mod credentials;
mod errors;
mod failover;
mod identity;
pub mod lambda;
pub mod lent;
mod listing;
mod matcher;
mod parameter_store;
mod renewal;
mod routes;
mod secrets_manager;
mod tags;
#[cfg(test)]
mod tests;
mod writing;

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};

use super::{Calls, Family, Listing, Lot, LotAnswer, Provider, Question, ReadError, Reading, Route, mirrored_elsewhere, observed, troubles::Troubles};
use crate::{
    api::{
        Reason,
        aws::{AwsSpec, Limits},
        reference::{Source, Store},
    },
    telemetry::Metrics,
};

pub use credentials::Role;
use failover::Failover;
pub use identity::{Ambient, Caller, Principal};
use identity::{Clients, Stores};
pub use routes::{
    BATCH_GET_SECRET_VALUE, DESCRIBE_PARAMETERS, DESCRIBE_SECRET, GET_SECRET_VALUE, LIST_SECRETS, SECRETS_MANAGER_WRITES, SSM_READS, SSM_TAGS, SSM_WRITES, STS,
};

/// Reads with one identity in one region.
pub struct AwsProvider {
    clients: Clients,
    failover: Failover,
    account: String,
    limits: Mutex<Limits>,
    /// Accounts besides the identity's own that rules name: what lies there may be asked for by ARN.
    accounts: Mutex<BTreeSet<String>>,
    troubles: Troubles,
    metrics: Metrics,
}

impl AwsProvider {
    /// Prepares the clients; nothing is called yet.
    #[must_use]
    pub fn new(spec: &AwsSpec, principal: Principal, ambient: &Ambient, metrics: Metrics) -> Self {
        let account = payer(&principal.payer, spec);
        let limits = Mutex::new(spec.limits.unwrap_or_default());
        let failover = Failover::new(spec.failover_regions.clone());
        Self { clients: Clients::new(spec, principal, ambient), failover, account, limits, accounts: Mutex::default(), troubles: Troubles::default(), metrics }
    }

    /// Lets what lies in these accounts be asked for by ARN, besides the identity's own.
    pub fn reach(&self, accounts: BTreeSet<String>) {
        *self.accounts.lock().unwrap_or_else(PoisonError::into_inner) = accounts;
    }

    fn reaches(&self, account: &str) -> bool {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner).contains(account)
    }

    /// Who AWS says that the identity is, if it was asked already.
    #[must_use]
    pub fn known_caller(&self) -> Option<Caller> {
        self.clients.known_caller()
    }

    /// Who AWS says that the identity is; asked once, unless `anew`.
    pub async fn caller(&self, anew: bool) -> Result<Caller, ReadError> {
        let answer = self.clients.who(anew, &self.metrics).await;
        if answer.is_ok() {
            self.troubles.let_in();
        }
        answer
    }

    /// What no read gets past since this long: credentials that don't work, or a store that does not answer.
    #[must_use]
    pub fn in_trouble(&self) -> Option<(Duration, ReadError)> {
        self.troubles.lasting()
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
        if !self.failover.covers(source) {
            return Box::pin(self.call(&self.clients.of(source), source)).await;
        }
        let stores = self.clients.of(source);
        let primary = self.failover.primary(source.store, Box::pin(self.call(&stores, source)), |answer| answer.as_ref().err().cloned()).await;
        let error = match primary {
            Ok(answer) => return answer,
            Err(error) => error,
        };
        for region in self.failover.regions() {
            let (stores, there) = (self.clients.at(region), failover::moved(source, region));
            if let Some(Ok(reading)) = self.failover.replica(Box::pin(self.call(&stores, &there))).await {
                return Ok(failover::served(reading, region, &self.clients.region));
            }
        }
        Err(self.failover.exhausted(error))
    }

    async fn read_tags(&self, source: &Source) -> Result<Reading, ReadError> {
        self.check(source).await?;
        let (stores, reason) = (self.clients.of(source), |error: &ReadError| error.reason);
        match source.store {
            Store::SecretsManager => {
                observed(&self.metrics, ("aws.sm", "DescribeSecret", 1), reason, secrets_manager::tags(stores.secrets_manager(), source)).await
            }
            Store::ParameterStore => {
                observed(&self.metrics, ("aws.ps", "ListTagsForResource", 1), reason, parameter_store::tags(stores.parameter_store(), source)).await
            }
            _ => Err(misrouted()),
        }
    }

    async fn read_presence(&self, source: &Source, arn: &str, calls: &Calls) -> Result<Reading, ReadError> {
        // Elsewhere it may be missing for ever without being gone.
        self.check_home(source, arn).await?;
        self.check(source).await?;
        let source = &Source { version: None, ..source.clone() };
        let (stores, reason) = (self.clients.of(source), |error: &ReadError| error.reason);
        match source.store {
            Store::SecretsManager => secrets_manager::presence(stores.secrets_manager(), source, calls, &self.metrics).await,
            Store::ParameterStore => {
                observed(&self.metrics, ("aws.ps", "GetParameter", 1), reason, parameter_store::presence(stores.parameter_store(), source)).await
            }
            _ => Err(misrouted()),
        }
    }

    async fn list(&self, listing: &Listing, calls: &Calls) -> Result<Reading, ReadError> {
        let stores = self.clients.at(&self.clients.region);
        match listing.store {
            Store::SecretsManager => secrets_manager::list(stores.secrets_manager(), listing, calls, &self.metrics).await,
            Store::ParameterStore => parameter_store::list(stores.parameter_store(), listing, calls, &self.metrics).await,
            _ => Err(misrouted()),
        }
    }

    /// Whether a source may be asked for as it is written.
    async fn check(&self, source: &Source) -> Result<(), ReadError> {
        self.check_arns(&[source]).await.into_iter().collect::<Result<(), _>>()?;
        if source.through_secrets_manager().is_empty() { Ok(()) } else { Err(misrouted()) }
    }

    /// Whether what has this ARN would be found where the provider reads the source now.
    async fn check_home(&self, source: &Source, arn: &str) -> Result<(), ReadError> {
        let mut parts = arn.split(':').skip(3);
        let (region, account) = source.arn().map_or((&self.clients.region, None), |arn| (&arn.region, Some(&arn.account)));
        if parts.next() != Some(region) {
            return Err(mirrored_elsewhere("region"));
        }
        let account = match account {
            Some(account) => account.clone(),
            None => self.clients.caller(&self.metrics).await?.account,
        };
        if parts.next() == Some(&account) { Ok(()) } else { Err(mirrored_elsewhere("account")) }
    }

    /// An ARN must be of the identity's account, which costs one call once to tell, or of one that rules name. Whether whoever asks may read
    /// there was decided before.
    async fn check_arns(&self, sources: &[&Source]) -> Vec<Result<(), ReadError>> {
        let is_open = |source: &Source| source.arn().is_none_or(|arn| self.reaches(&arn.account));
        let caller = if sources.iter().all(|source| is_open(source)) { None } else { Some(self.clients.caller(&self.metrics).await) };
        let check = |source: &&Source| {
            let Some(arn) = source.arn().filter(|_| !is_open(source)) else { return Ok(()) };
            match &caller {
                Some(Ok(caller)) if caller.account == arn.account => Ok(()),
                Some(Err(error)) => Err(error.clone()),
                _ => Err(ReadError::new(Reason::NotAllowed, ANOTHER_ACCOUNT)),
            }
        };
        sources.iter().map(check).collect()
    }

    /// Reads those that may be read with one call, and gives each its answer.
    async fn read_together(&self, lot: &'static Lot, questions: &[Question]) -> LotAnswer {
        // A version that a shared call can't ask for would be answered with another one.
        let mut answers: Vec<Option<Result<Reading, ReadError>>> = questions.iter().map(|_| Some(Err(misrouted()))).collect();
        let fitting = questions.iter().enumerate().filter(|(_, question)| routes::route(question, &self.clients.region).lot == Some(lot));
        let fitting: Vec<(usize, &Source)> =
            fitting.filter_map(|(i, question)| if let Question::Value(source) = question { Some((i, source)) } else { None }).collect();
        let sources: Vec<&Source> = fitting.iter().map(|(_, source)| *source).collect();
        for ((i, _), check) in fitting.iter().zip(self.check_arns(&sources).await) {
            answers[*i] = check.err().map(Err);
        }
        let is_open = |(i, source): &(usize, &Source)| answers[*i].is_none() && !source.arn().is_some_and(|arn| self.reaches(&arn.account));
        // What may lie in another account is read by itself: whether it may share a call is not documented.
        let (open, asked): (Vec<usize>, Vec<&Source>) = fitting.into_iter().filter(is_open).unzip();
        let Some(first) = asked.first() else { return LotAnswer::Each { answers, pages: 0 } };
        let stores = self.clients.of(first);
        let heard = if asked.iter().all(|source| self.failover.covers(source)) {
            let failed = |answer: &LotAnswer| if let LotAnswer::Failed(error) = answer { Some(error.clone()) } else { None };
            match self.failover.primary(first.store, Box::pin(self.call_lot(&stores, &asked)), failed).await {
                Ok(heard) => heard,
                Err(error) => Box::pin(self.read_replicas(&asked, error)).await,
            }
        } else {
            Box::pin(self.call_lot(&stores, &asked)).await
        };
        let LotAnswer::Each { answers: heard, pages } = heard else { return heard };
        for (i, answer) in open.into_iter().zip(heard) {
            answers[i] = answer;
        }
        LotAnswer::Each { answers, pages }
    }

    async fn call_lot(&self, stores: &Stores, asked: &[&Source]) -> LotAnswer {
        let Some(first) = asked.first() else { return LotAnswer::Each { answers: Vec::new(), pages: 0 } };
        match first.store {
            Store::SecretsManager => secrets_manager::read_lot(stores.secrets_manager(), asked, &self.metrics).await,
            Store::ParameterStore => parameter_store::read_lot(stores.parameter_store(), asked, &self.metrics).await,
            _ => LotAnswer::Failed(misrouted()),
        }
    }

    /// Asks the failover regions for what the primary did not answer. What they don't have says nothing: they are copies.
    async fn read_replicas(&self, asked: &[&Source], error: ReadError) -> LotAnswer {
        for region in self.failover.regions() {
            let there: Vec<Source> = asked.iter().map(|source| failover::moved(source, region)).collect();
            let (stores, there) = (self.clients.at(region), there.iter().collect::<Vec<_>>());
            let Some(LotAnswer::Each { answers, pages }) = self.failover.replica(Box::pin(self.call_lot(&stores, &there))).await else { continue };
            let served = |answer| match answer {
                Some(Ok(reading)) => Some(Ok(failover::served(reading, region, &self.clients.region))),
                _ => Some(Err(self.failover.exhausted(error.clone()))),
            };
            return LotAnswer::Each { answers: answers.into_iter().map(served).collect(), pages };
        }
        LotAnswer::Failed(self.failover.exhausted(error))
    }

    async fn call(&self, stores: &Stores, source: &Source) -> Result<Reading, ReadError> {
        let reason = |error: &ReadError| error.reason;
        match source.store {
            Store::SecretsManager => {
                observed(&self.metrics, ("aws.sm", "GetSecretValue", 1), reason, secrets_manager::read(stores.secrets_manager(), source)).await
            }
            Store::ParameterStore => {
                observed(&self.metrics, ("aws.ps", "GetParameter", 1), reason, parameter_store::read(stores.parameter_store(), source)).await
            }
            _ => Err(misrouted()),
        }
    }
}

/// What is refused for the identity's account.
pub const ANOTHER_ACCOUNT: &str = "the identity belongs to another account than the ARN; that is not allowed";

/// Whose limits the calls count against: those of one payer in one region at the same addresses.
fn payer(payer: &str, spec: &AwsSpec) -> String {
    let endpoints = spec.endpoints.clone().unwrap_or_default();
    let named = [("secretsManager", endpoints.secrets_manager), ("ssm", endpoints.ssm), ("sts", endpoints.sts), ("lambda", endpoints.lambda)];
    let named = named.into_iter().filter_map(|(service, url)| url.map(|url| format!("{service}={}", url.trim_end_matches('/'))));
    format!("{payer}/{}/{}", spec.region, named.collect::<Vec<_>>().join(","))
}

/// A source that was to be read in a way that its route does not have.
fn misrouted() -> ReadError {
    ReadError::new(Reason::InternalError, "a defect of the controller: it was to be read in another way than it can be")
}

impl Provider for AwsProvider {
    fn route(&self, question: &Question) -> Route {
        routes::route(question, &self.clients.region)
    }

    fn account(&self) -> &str {
        &self.account
    }

    fn ceilings(&self) -> Vec<(Family, f64)> {
        let limits = *self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        [GET_SECRET_VALUE, BATCH_GET_SECRET_VALUE, DESCRIBE_SECRET, LIST_SECRETS, SSM_READS, DESCRIBE_PARAMETERS, SSM_TAGS, SECRETS_MANAGER_WRITES, SSM_WRITES]
            .map(|family| (family, routes::ceiling(limits, family)))
            .into()
    }

    fn read_one<'a>(&'a self, question: &'a Question, calls: &'a Calls) -> BoxFuture<'a, Result<Reading, ReadError>> {
        self.read_alone(question, calls).inspect(|answer| self.troubles.note(answer.as_ref().err())).boxed()
    }

    fn read_lot<'a>(&'a self, lot: &'static Lot, questions: &'a [Question]) -> BoxFuture<'a, LotAnswer> {
        let noted = |answer: &LotAnswer| match answer {
            LotAnswer::Failed(error) => self.troubles.note(Some(error)),
            LotAnswer::Each { pages: 0, .. } => {}
            LotAnswer::Each { .. } | LotAnswer::Refused(_) | LotAnswer::Denied(_) => self.troubles.note(None),
        };
        self.read_together(lot, questions).inspect(noted).boxed()
    }
}
