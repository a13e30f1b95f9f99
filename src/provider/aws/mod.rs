//! AWS: Secrets Manager and Parameter Store behind one identity and one region.
//!
//! Sources of both stores enter, readings leave. ARNs of another region or account are refused here, before the call that would
//! read them; a parameter that stands for a secret is resolved as Secrets Manager reads it.

mod errors;
mod identity;
mod parameter_store;
mod secrets_manager;

use std::{sync::OnceLock, time::Instant};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream};

use super::{MayRead, ReadError, Reading, WholeReads};
use crate::{
    api::{
        Reason,
        reference::{Source, Store},
    },
    telemetry::Metrics,
};

pub use identity::Ambient;
use identity::Clients;

/// How many calls one set of sources may have in flight.
const CONCURRENT_CALLS: usize = 4;

/// Reads with one identity in one region.
pub struct AwsProvider {
    clients: Clients,
    metrics: Metrics,
}

impl AwsProvider {
    /// Prepares the clients; nothing is called yet.
    #[must_use]
    pub fn new(spec: &crate::api::provider::AwsSpec, ambient: &Ambient, metrics: Metrics) -> Self {
        Self { clients: Clients::new(spec, ambient), metrics }
    }

    /// A store that is down or asks to slow down is not asked for the rest: nothing is written anyway unless everything was read.
    async fn read_unless(&self, unavailable: &OnceLock<ReadError>, source: &Source, may_read: &MayRead<'_>) -> Result<Reading, ReadError> {
        if let Some(error) = unavailable.get() {
            return Err(error.clone());
        }
        let result = self.read_one(source, may_read).await;
        if let Err(error) = &result
            && matches!(error.reason, Reason::ProviderUnavailable | Reason::Throttled)
        {
            // Another call may have failed first; either error will do.
            let _ = unavailable.set(error.clone());
        }
        result
    }

    async fn read_one(&self, source: &Source, may_read: &MayRead<'_>) -> Result<Reading, ReadError> {
        self.check_arn(source).await?;
        let candidates = source.through_secrets_manager();
        if candidates.is_empty() { self.call(source).await } else { self.read_longest(source, candidates, may_read).await }
    }

    /// An ARN must be of this provider's region, which costs nothing to tell, and account, which costs one call once.
    async fn check_arn(&self, source: &Source) -> Result<(), ReadError> {
        let Some(arn) = source.arn() else { return Ok(()) };
        if arn.region != self.clients.region {
            return Err(ReadError::new(
                Reason::NotAllowed,
                format!("{source}: the provider reads the region {}; an ARN of another region is not allowed", self.clients.region),
            ));
        }
        let account = self.observed("aws.sts", "GetCallerIdentity", self.clients.account()).await?;
        if arn.account == account {
            return Ok(());
        }
        Err(ReadError::new(Reason::NotAllowed, format!("{source}: the provider's identity belongs to another account than the ARN; that is not allowed")))
    }

    /// Tries the secrets that `/aws/reference/secretsmanager/NAME/a/b` may denote, the longest name first, and only those that may be read.
    async fn read_longest(&self, source: &Source, candidates: Vec<(Source, Vec<String>)>, may_read: &MayRead<'_>) -> Result<Reading, ReadError> {
        let mut tried = false;
        for (secret, keypath) in candidates {
            if !secret.denotes().iter().all(|reference| may_read(reference)) {
                continue;
            }
            tried = true;
            match self.call(&secret).await {
                Ok(reading) => return Ok(Reading { keypath, ..reading }),
                Err(error) if error.reason == Reason::SourceNotFound => {}
                Err(error) => return Err(error),
            }
        }
        Err(if tried {
            ReadError::new(Reason::SourceNotFound, format!("{source}: Secrets Manager has none of the secrets that this path may name"))
        } else {
            ReadError::new(
                Reason::NotAllowed,
                format!("{source}: the provider allows none of the secrets that this path may name; they are checked as aws.sm://"),
            )
        })
    }

    async fn call(&self, source: &Source) -> Result<Reading, ReadError> {
        match source.store {
            Store::SecretsManager => self.observed("aws.sm", "GetSecretValue", secrets_manager::read(&self.clients.secrets_manager, source)).await,
            Store::ParameterStore => self.observed("aws.ps", "GetParameter", parameter_store::read(&self.clients.parameter_store, source)).await,
        }
    }

    async fn observed<T>(&self, store: &'static str, api: &'static str, call: impl Future<Output = Result<T, ReadError>>) -> Result<T, ReadError> {
        let started = Instant::now();
        let result = call.await;
        let outcome = result.as_ref().map_or_else(|error| error.reason.as_str(), |_| "ok");
        self.metrics.provider_call(store, api, outcome, started.elapsed());
        result
    }
}

impl WholeReads for AwsProvider {
    fn read<'a>(&'a self, sources: &'a [Source], may_read: &'a MayRead<'a>) -> BoxFuture<'a, Vec<Result<Reading, ReadError>>> {
        let read = async move {
            let unavailable = OnceLock::new();
            let reads: Vec<_> = sources.iter().map(|source| self.read_unless(&unavailable, source, may_read)).collect();
            stream::iter(reads).buffered(CONCURRENT_CALLS).collect().await
        };
        read.boxed()
    }
}
