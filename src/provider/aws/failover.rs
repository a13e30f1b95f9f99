//! Regions with replicas, asked while a provider's own does not answer.
//!
//! A call to the primary and the calls to its replicas enter; the first answer that counts leaves. A replica is never asked because something
//! is missing or denied in the primary, and what a replica does not have says nothing. While the primary is out of reach it is asked again
//! only now and then, so that the replicas' answers come at once.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::errors;
use crate::{
    api::{
        Reason,
        reference::{Arn, Name, Source, Store, Version},
    },
    provider::{ReadError, Reading, ServedVersion},
};

/// How long each region may take: a call in all may take 5 s.
const EACH: Duration = Duration::from_secs(2);
/// For how long a region that did not answer is passed over.
const PASSED_OVER: Duration = Duration::from_secs(30);

/// The failover regions of a provider.
pub(super) struct Failover {
    regions: Vec<String>,
    /// Until when the primary is passed over, by store, and why.
    down: Mutex<HashMap<Store, (Instant, ReadError)>>,
}

impl Failover {
    pub(super) fn new(regions: Vec<String>) -> Self {
        Self { regions, down: Mutex::default() }
    }

    /// The regions, in order.
    pub(super) fn regions(&self) -> &[String] {
        &self.regions
    }

    /// Whether a replica could stand in for this: a parameter's version numbers are each region's own.
    pub(super) fn covers(&self, source: &Source) -> bool {
        !self.regions.is_empty() && !matches!(source.version, Some(Version::Number(_) | Version::Label(_)))
    }

    fn down(&self) -> MutexGuard<'_, HashMap<Store, (Instant, ReadError)>> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The primary's answer; an error: it is unavailable, and a replica may stand in. `failed` tells why an answer is none.
    pub(super) async fn primary<T>(&self, store: Store, call: impl Future<Output = T>, failed: impl Fn(&T) -> Option<ReadError>) -> Result<T, ReadError> {
        if let Some((until, error)) = self.down().get(&store).cloned()
            && until > Instant::now()
        {
            return Err(error);
        }
        let answer = tokio::time::timeout(EACH, call).await;
        let error = match &answer {
            Ok(answer) => failed(answer).filter(|error| error.reason == Reason::ProviderUnavailable),
            Err(_) => Some(errors::unavailable("the store did not answer within 2 s")),
        };
        match (error, answer) {
            (None, Ok(answer)) => {
                self.down().remove(&store);
                Ok(answer)
            }
            (error, _) => {
                let error = error.unwrap_or_else(errors::silent);
                self.down().insert(store, (Instant::now() + PASSED_OVER, error.clone()));
                Err(error)
            }
        }
    }

    /// A replica's answer, if it comes in time.
    pub(super) async fn replica<T>(&self, call: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(EACH, call).await.ok()
    }

    /// What is said when no region answered.
    pub(super) fn exhausted(&self, error: ReadError) -> ReadError {
        // Without the replicas the primary is all there is.
        ReadError { message: format!("{}; no failover region ({}) has it", error.message, self.regions.join(", ")), ..error }
    }
}

/// The same source as it is named in another region.
pub(super) fn moved(source: &Source, region: &str) -> Source {
    let name = match &source.name {
        Name::Arn(arn) => Name::Arn(Arn { region: region.to_owned(), ..arn.clone() }),
        Name::Plain(name) => Name::Plain(name.clone()),
    };
    Source { name, ..source.clone() }
}

/// What a replica served, as the primary's.
pub(super) fn served(reading: Reading, region: &str, primary: &str) -> Reading {
    let arn = reading.version.arn.replacen(&format!(":{region}:"), &format!(":{primary}:"), 1);
    Reading { version: ServedVersion { arn, region: Some(region.to_owned()), ..reading.version }, ..reading }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(reason: Reason) -> Result<u8, ReadError> {
        Err(ReadError::new(reason, "because"))
    }

    #[tokio::test]
    async fn the_primary_is_passed_over_after_it_did_not_answer_and_never_for_what_it_answered() {
        let failover = Failover::new(vec!["eu-central-1".into()]);
        let ask = async |answer: Result<u8, ReadError>| {
            let answer = failover.primary(Store::SecretsManager, async { answer }, |answer| answer.as_ref().err().cloned()).await;
            answer.map_err(|error| error.reason)
        };
        for reason in [Reason::SourceNotFound, Reason::AccessDenied, Reason::Throttled, Reason::CredentialsError] {
            assert!(matches!(ask(error(reason)).await, Ok(Err(_))), "{reason:?}");
        }
        assert!(matches!(ask(Ok(1)).await, Ok(Ok(1))));
        assert_eq!(ask(error(Reason::ProviderUnavailable)).await.unwrap_err(), Reason::ProviderUnavailable);
        assert!(ask(Ok(1)).await.is_err(), "it is not asked again at once");
        let other = failover.primary(Store::ParameterStore, async { 1 }, |_| None).await;
        assert!(other.is_ok(), "each store for itself");
        let hangs = failover.primary(Store::ParameterStore, std::future::pending::<u8>(), |_| None).await;
        assert_eq!(hangs.map_err(|error| error.reason), Err(Reason::ProviderUnavailable));
    }

    #[test]
    fn a_replica_is_named_in_its_region_and_told_as_the_primarys() {
        let arn = |region: &str| format!("arn:aws:secretsmanager:{region}:123456789012:secret:a-AbCdEf");
        let source: Source = arn("eu-west-1").parse::<crate::api::reference::Reference>().unwrap().source;
        assert_eq!(moved(&source, "eu-central-1").id(), arn("eu-central-1"));
        let version = ServedVersion { arn: arn("eu-central-1"), id: "1".into(), created: None, region: None };
        let reading = Reading { value: crate::provider::Value::List(Vec::new()), denotes: Vec::new(), version, record: None };
        let told = served(reading, "eu-central-1", "eu-west-1").version;
        assert_eq!((told.arn, told.region.as_deref()), (arn("eu-west-1"), Some("eu-central-1")));
    }
}
