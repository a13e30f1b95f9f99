//! Whose identity calls AWS, through which HTTP stack, and the clients made from both.
//!
//! A provider's spec enters, clients leave. Clients are made once for a provider and kept: no set-up happens per read, and all of
//! them ask one cache for credentials. Credentials are never logged and never leave the SDK.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use aws_config::{
    BehaviorVersion, ConfigLoader, Region, SdkConfig, environment::EnvironmentVariableRegionProvider, meta::region::RegionProviderChain,
    profile::ProfileFileRegionProvider, retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider as TlsProvider, rustls_provider::CryptoMode},
};
use tokio::sync::OnceCell;

use super::{
    account, errors, observed,
    renewal::Renewing,
    routes::{STS, ceiling},
};
use crate::{
    api::{
        Reason,
        provider::{AwsSpec, Limits},
    },
    limit::{Budgets, Turns, lock},
    provider::{ReadError, aws::errors::Failure},
    telemetry::Metrics,
};

/// How long one call may take. Whoever makes it gives up after 5 s and says so; this is for who does not.
const CALL_TIMEOUT: Duration = Duration::from_secs(6);
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long asking for the account may take: less than the call that it goes before, so that its failure is told as its own.
const ACCOUNT_TIMEOUT: Duration = Duration::from_secs(4);

/// Where a role is assumed if neither the environment (EKS sets `AWS_REGION`) nor a profile says so.
const FALLBACK_REGION: Region = Region::from_static("us-east-1");

/// The controller's own identity, the HTTP client that all providers share, and how often the Security Token Service may be asked.
pub struct Ambient {
    config: SdkConfig,
    renewing: Renewing,
    sts: Arc<Mutex<Budgets>>,
}

impl Ambient {
    /// Looks at the environment, once; credentials are fetched when they are first needed, and renewed by themselves.
    pub async fn load() -> Self {
        Self::of(aws_config::defaults(BehaviorVersion::v2026_01_12())).await
    }

    pub(super) async fn of(loader: ConfigLoader) -> Self {
        let http = Builder::new().tls_provider(TlsProvider::Rustls(CryptoMode::Ring)).build_https();
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_timeout(CALL_TIMEOUT).build();
        // Each provider has a region of its own; this one only tells where a role is assumed. The default would ask the instance metadata
        // service for it, and where there is none, nothing would be watched for as long as that takes to give up.
        let region =
            RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new()).or_else(ProfileFileRegionProvider::new()).or_else(FALLBACK_REGION);
        let renewing = Renewing::new();
        let config = loader
            .region(region)
            .http_client(http)
            .timeout_config(timeouts)
            .identity_cache(renewing.clone())
            // A failed call goes back to the queue, where its resource backs off; a second layer of retries would hide throttling.
            .retry_config(RetryConfig::disabled());
        Self { config: config.load().await, renewing, sts: Arc::default() }
    }
}

/// The clients of one provider.
pub(super) struct Clients {
    pub(super) region: String,
    pub(super) secrets_manager: aws_sdk_secretsmanager::Client,
    pub(super) parameter_store: aws_sdk_ssm::Client,
    sts: Sts,
    account: OnceCell<String>,
    /// When the account was last asked in vain, and why.
    in_vain: Mutex<Option<(Instant, ReadError)>>,
}

impl Clients {
    pub(super) fn new(spec: &AwsSpec, ambient: &Ambient) -> Self {
        let base = ambient.config.to_builder().region(Region::new(spec.region.clone())).build();
        // What is left out stays as the environment says (AWS_ENDPOINT_URL and the like), or AWS's own.
        let endpoints = spec.endpoints.clone().unwrap_or_default();
        let renewing = || ambient.renewing.clone();
        let mut secrets_manager = aws_sdk_secretsmanager::config::Builder::from(&base).interceptor(renewing());
        let mut parameter_store = aws_sdk_ssm::config::Builder::from(&base).interceptor(renewing());
        let mut sts = aws_sdk_sts::config::Builder::from(&base).interceptor(renewing());
        if let Some(url) = endpoints.secrets_manager {
            secrets_manager.set_endpoint_url(Some(url));
        }
        if let Some(url) = endpoints.ssm {
            parameter_store.set_endpoint_url(Some(url));
        }
        if let Some(url) = endpoints.sts {
            sts.set_endpoint_url(Some(url));
        }
        Self {
            region: spec.region.clone(),
            secrets_manager: aws_sdk_secretsmanager::Client::from_conf(secrets_manager.build()),
            parameter_store: aws_sdk_ssm::Client::from_conf(parameter_store.build()),
            sts: Sts::new(aws_sdk_sts::Client::from_conf(sts.build()), ambient, spec),
            account: OnceCell::new(),
            in_vain: Mutex::default(),
        }
    }

    /// Takes other limits.
    pub(super) fn limit(&self, limits: Limits) {
        self.sts.limit(limits);
    }

    /// The account that the identity belongs to, asked once. Those who ask at the same time share the answer, also a failure.
    pub(super) async fn account(&self, metrics: &Metrics) -> Result<String, ReadError> {
        let asked = Instant::now();
        let ask = async || {
            let in_vain = self.in_vain.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some((_, error)) = in_vain.filter(|(when, _)| *when >= asked) {
                return Err(error);
            }
            let answer = observed(metrics, ("aws.sts", "GetCallerIdentity", 1), |failure: &Failure| failure.error.reason, self.ask_account()).await;
            answer.map_err(|Failure { error, .. }| {
                let error = ReadError { message: format!("the account of the provider's identity: {}", error.message), ..error };
                *self.in_vain.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), error.clone()));
                error
            })
        };
        self.account.get_or_try_init(ask).await.cloned()
    }

    async fn ask_account(&self) -> Result<String, Failure> {
        let ask = async {
            self.sts.turns.next().await;
            self.sts.client.get_caller_identity().send().await
        };
        let Ok(answer) = tokio::time::timeout(ACCOUNT_TIMEOUT, ask).await else {
            return Err(Failure::elsewhere(errors::unavailable("the store did not answer within 4 s")));
        };
        let answer = answer.map_err(|error| errors::classify("sts:GetCallerIdentity", &error));
        if answer.as_ref().is_err_and(|failure| failure.error.reason == Reason::Throttled) {
            self.sts.turns.throttled();
        }
        let answer = answer?;
        answer.account.ok_or_else(|| Failure::elsewhere(errors::incomplete()))
    }
}

/// The Security Token Service, within its limit.
struct Sts {
    client: aws_sdk_sts::Client,
    budgets: Arc<Mutex<Budgets>>,
    account: Arc<str>,
    turns: Turns,
    id: String,
}

impl Sts {
    fn new(client: aws_sdk_sts::Client, ambient: &Ambient, spec: &AwsSpec) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let id = COUNT.fetch_add(1, Ordering::Relaxed).to_string();
        let (budgets, account) = (ambient.sts.clone(), Arc::from(account(spec)));
        let turns = Turns::new(budgets.clone(), (Arc::clone(&account), STS));
        let sts = Self { client, budgets, account, turns, id };
        sts.limit(spec.limits.unwrap_or_default());
        sts
    }

    fn limit(&self, limits: Limits) {
        lock(&self.budgets).enlist(&self.id, &self.account, STS, ceiling(limits, STS), Instant::now());
    }
}

impl Drop for Sts {
    fn drop(&mut self) {
        lock(&self.budgets).dismiss(&self.id, Instant::now());
    }
}
