//! Whose identity calls AWS, through which HTTP stack, and the clients made from both.
//!
//! A provider's spec and its principal enter, clients leave. Clients are made once for a provider and kept: no set-up happens per read, and all of
//! them ask one cache for credentials. Credentials are never logged and never leave the SDK.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use aws_config::{
    BehaviorVersion, ConfigLoader, Region, SdkConfig,
    environment::EnvironmentVariableRegionProvider,
    identity::IdentityCache,
    meta::region::RegionProviderChain,
    profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider},
    provider_config::ProviderConfig,
    retry::RetryConfig,
    timeout::TimeoutConfig,
};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_http_client::{
    Builder, Connector,
    proxy::ProxyConfig,
    tls::{Provider as TlsProvider, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::{http::SharedHttpClient, runtime_components::RuntimeComponents};
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};
use tokio::sync::OnceCell;

use super::{
    credentials::{Assumed, Granted, Profiled, Role},
    errors, payer,
    renewal::Renewing,
    routes::{STS, ceiling},
};
use crate::{
    api::{
        Reason,
        aws::{AwsSpec, Endpoints, Limits, REGION_PLACE},
        reference::Source,
    },
    limit::{Budgets, Turns, lock},
    provider::{ReadError, aws::errors::Failure, grants::Grants, observed},
    proxy::Proxy,
    telemetry::Metrics,
};

/// How long one call may take. Whoever makes it gives up after 5 s and says so; this is for who does not.
const CALL_TIMEOUT: Duration = Duration::from_secs(6);
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Where AWS is called by `https`.
const PORT: u16 = 443;
/// How long asking for the account may take: less than the call that it goes before, so that its failure is told as its own.
const ACCOUNT_TIMEOUT: Duration = Duration::from_secs(4);

/// Where a role is assumed if neither the environment (EKS sets `AWS_REGION`) nor a profile says so.
const FALLBACK_REGION: Region = Region::from_static("us-east-1");

/// The controller's own identity, the HTTP client that all providers share, and how often the Security Token Service may be asked.
#[derive(Clone)]
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

    /// As [`Ambient::load`], with a profile of AWS's configuration files, if one is named.
    pub async fn of_profile(profile: Option<&str>) -> Self {
        let Some(profile) = profile else { return Self::load().await };
        let loader = aws_config::defaults(BehaviorVersion::v2026_01_12()).profile_name(profile);
        let region = Self::region(Some(profile)).await.map_or(FALLBACK_REGION, Region::new);
        let surroundings = ProviderConfig::without_region().with_region(Some(region)).with_http_client(http_client());
        // What is named goes before what the environment happens to have.
        let credentials = ProfileFileCredentialsProvider::builder().profile_name(profile).configure(&surroundings).build();
        Self::of(loader.credentials_provider(Profiled::new(profile, credentials))).await
    }

    /// The region that the environment or a profile says, if any does.
    pub async fn region(profile: Option<&str>) -> Option<String> {
        let files = ProfileFileRegionProvider::builder();
        let files = profile.into_iter().fold(files, aws_config::profile::region::Builder::profile_name).build();
        let environment = EnvironmentVariableRegionProvider::new();
        let chain = match profile {
            Some(_) => RegionProviderChain::first_try(files).or_else(environment),
            None => RegionProviderChain::first_try(environment).or_else(files),
        };
        chain.region().await.map(|region| region.to_string()).filter(|region| !region.is_empty())
    }

    /// Secrets Manager in a region, with no credentials of its own: each call brings some.
    pub(super) fn secrets_manager(&self, region: &str, endpoint: Option<&str>) -> aws_sdk_secretsmanager::Client {
        // From nothing: what the environment says about endpoints and credentials is not for what somebody else hands out.
        let mut config = aws_sdk_secretsmanager::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new(region.to_owned()))
            .identity_cache(IdentityCache::no_cache())
            .retry_config(RetryConfig::disabled());
        config.set_http_client(self.config.http_client()).set_timeout_config(self.config.timeout_config().cloned());
        config.set_endpoint_url(endpoint.map(|url| placed(url, region)));
        aws_sdk_secretsmanager::Client::from_conf(config.build())
    }

    pub(super) async fn of(loader: ConfigLoader) -> Self {
        let http = http_client();
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
        Self { config: filled(&config.load().await), renewing, sts: Arc::default() }
    }
}

/// What is said of single services, without settings that are empty: the SDK panics over such an address.
#[derive(Debug)]
struct Filled(SdkConfig);

impl LoadServiceConfig for Filled {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        self.0.service_config()?.load_config(key).filter(|setting| !setting.is_empty())
    }
}

fn filled(config: &SdkConfig) -> SdkConfig {
    let mut filled = config.to_builder().service_config(Filled(config.clone()));
    if config.endpoint_url().is_some_and(str::is_empty) {
        filled.set_endpoint_url(None);
    }
    filled.build()
}

fn http_client() -> SharedHttpClient {
    let proxy = proxy();
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = Connector::builder().tls_provider(TlsProvider::Rustls(CryptoMode::Ring));
        connector.set_proxy_config(proxy.clone());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector.build()
    })
}

/// The proxy that the environment names, for `https` alone. Plain `http` never takes one: beside emulators that is the machine's own credentials (instance
/// metadata, EKS Pod Identity), which no proxy can reach and none should see.
fn proxy() -> Option<ProxyConfig> {
    let proxy = Proxy::of_aws()?;
    let address = proxy.address().inspect_err(|problem| tracing::warn!(%problem, "AWS is called without a proxy")).ok()?;
    let config = ProxyConfig::https(address).ok()?;
    let rules = proxy.rules(PORT);
    Some(if rules.is_empty() { config } else { config.no_proxy(rules) })
}

/// As whom a provider reads.
pub struct Principal {
    /// What its identity stands on; `None`: the controller's own.
    pub grants: Option<Box<dyn Grants>>,
    /// The name of the session that a token is taken for.
    pub session_name: String,
    /// The roles that are assumed from there, in order.
    pub roles: Vec<Role>,
    /// Whose limits its calls count against, as far as that is known: an account, or what stands for one. No secret.
    pub payer: String,
}

impl Principal {
    /// The controller's own identity.
    #[must_use]
    pub fn ambient() -> Self {
        Self { grants: None, session_name: String::new(), roles: Vec::new(), payer: "ambient".to_owned() }
    }
}

/// The clients of one region. Each is made when it is first used: there may be hundreds of providers, and one takes tens of kilobytes.
pub(super) struct Stores {
    base: SdkConfig,
    endpoints: Endpoints,
    renewing: Renewing,
    secrets_manager: OnceLock<aws_sdk_secretsmanager::Client>,
    parameter_store: OnceLock<aws_sdk_ssm::Client>,
    lambda: OnceLock<aws_sdk_lambda::Client>,
}

impl Stores {
    pub(super) fn secrets_manager(&self) -> &aws_sdk_secretsmanager::Client {
        self.secrets_manager.get_or_init(|| {
            let mut config = aws_sdk_secretsmanager::config::Builder::from(&self.base).interceptor(self.renewing.clone());
            if let Some(url) = &self.endpoints.secrets_manager {
                config.set_endpoint_url(Some(url.clone()));
            }
            aws_sdk_secretsmanager::Client::from_conf(config.build())
        })
    }

    pub(super) fn parameter_store(&self) -> &aws_sdk_ssm::Client {
        self.parameter_store.get_or_init(|| {
            let mut config = aws_sdk_ssm::config::Builder::from(&self.base).interceptor(self.renewing.clone());
            if let Some(url) = &self.endpoints.ssm {
                config.set_endpoint_url(Some(url.clone()));
            }
            aws_sdk_ssm::Client::from_conf(config.build())
        })
    }

    pub(super) fn lambda(&self) -> &aws_sdk_lambda::Client {
        self.lambda.get_or_init(|| {
            let mut config = aws_sdk_lambda::config::Builder::from(&self.base).interceptor(self.renewing.clone());
            if let Some(url) = &self.endpoints.lambda {
                config.set_endpoint_url(Some(url.clone()));
            }
            aws_sdk_lambda::Client::from_conf(config.build())
        })
    }
}

/// Who AWS says that somebody is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The account.
    pub account: String,
    /// The ARN of the user or role session.
    pub arn: String,
}

/// The clients of one provider.
pub(super) struct Clients {
    pub(super) region: String,
    base: SdkConfig,
    endpoints: Endpoints,
    renewing: Renewing,
    stores: Mutex<HashMap<String, Arc<Stores>>>,
    sts: Sts,
    caller: OnceCell<Caller>,
    /// When AWS was last asked in vain who the caller is, and why.
    in_vain: Mutex<Option<(Instant, ReadError)>>,
}

impl Clients {
    pub(super) fn new(spec: &AwsSpec, principal: Principal, ambient: &Ambient) -> Self {
        let region = Region::new(spec.region.clone());
        // What is left out stays as the environment says (AWS_ENDPOINT_URL and the like), or AWS's own.
        let endpoints = spec.endpoints.clone().unwrap_or_default();
        let own = ambient.config.to_builder().region(region.clone()).build();
        let turns = Turns::new(ambient.sts.clone(), (payer(&principal.payer, spec).into(), STS));
        // One tenant's credentials that AWS calls outdated are no reason to ask for everybody else's anew.
        let is_ambient = principal.grants.is_none() && principal.roles.is_empty();
        let renewing = if is_ambient { ambient.renewing.clone() } else { Renewing::new() };
        let mut base = own.clone();
        let mut cache = &ambient.renewing;
        if let Some(grants) = principal.grants {
            // From nothing: what the environment says about endpoints and credentials is not for tokens.
            let mut sts = aws_sdk_sts::Config::builder().behavior_version(BehaviorVersion::v2026_01_12()).region(region).retry_config(RetryConfig::disabled());
            sts.set_http_client(own.http_client()).set_timeout_config(own.timeout_config().cloned());
            sts.set_endpoint_url(endpoints.sts.as_deref().map(|url| placed(url, &spec.region)));
            let granted = Granted::new(grants, aws_sdk_sts::Client::from_conf(sts.build()), turns.clone(), principal.session_name);
            base = with_credentials(&own, granted, &renewing);
            cache = &renewing;
        }
        for role in principal.roles {
            let sts = sts_client(&base, &endpoints, &spec.region, cache);
            base = with_credentials(&own, Assumed::new(role, sts, turns.clone()), &renewing);
            cache = &renewing;
        }
        let sts = Sts::new(sts_client(&base, &endpoints, &spec.region, &renewing), ambient, turns, &payer(&principal.payer, spec), spec);
        Self { region: spec.region.clone(), base, endpoints, renewing, stores: Mutex::default(), sts, caller: OnceCell::new(), in_vain: Mutex::default() }
    }

    /// The clients of the region that a source lies in.
    pub(super) fn of(&self, source: &Source) -> Arc<Stores> {
        self.at(source.arn().map_or(&self.region, |arn| &arn.region))
    }

    /// The clients of a region.
    pub(super) fn at(&self, region: &str) -> Arc<Stores> {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        stores.entry(region.to_owned()).or_insert_with(|| Arc::new(self.stores_at(region))).clone()
    }

    fn stores_at(&self, region: &str) -> Stores {
        let here = |url: &Option<String>| url.as_deref().map(|url| placed(url, region));
        let Endpoints { secrets_manager, ssm, lambda, sts: _ } = &self.endpoints;
        Stores {
            base: self.base.to_builder().region(Region::new(region.to_owned())).build(),
            endpoints: Endpoints { secrets_manager: here(secrets_manager), ssm: here(ssm), lambda: here(lambda), sts: None },
            renewing: self.renewing.clone(),
            secrets_manager: OnceLock::new(),
            parameter_store: OnceLock::new(),
            lambda: OnceLock::new(),
        }
    }

    /// Takes other limits.
    pub(super) fn limit(&self, limits: Limits) {
        self.sts.limit(limits);
    }

    /// Who AWS says that the identity is, if it was asked already.
    pub(super) fn known_caller(&self) -> Option<Caller> {
        self.caller.get().cloned()
    }

    /// Who AWS says that the identity is; asked once, unless `anew`.
    pub(super) async fn who(&self, anew: bool, metrics: &Metrics) -> Result<Caller, ReadError> {
        if anew { self.ask_caller(metrics).await } else { self.caller(metrics).await }
    }

    /// Who AWS says that the identity is, asked once. Those who ask at the same time share the answer, also a failure.
    pub(super) async fn caller(&self, metrics: &Metrics) -> Result<Caller, ReadError> {
        let asked = Instant::now();
        let ask = async || {
            let in_vain = self.in_vain.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some((_, error)) = in_vain.filter(|(when, _)| *when >= asked) {
                return Err(error);
            }
            self.ask_caller(metrics).await.inspect_err(|error| {
                *self.in_vain.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), error.clone()));
            })
        };
        self.caller.get_or_try_init(ask).await.cloned()
    }

    /// Asks AWS now who the identity is, which takes credentials that work.
    pub(super) async fn ask_caller(&self, metrics: &Metrics) -> Result<Caller, ReadError> {
        let ask = async {
            self.sts.turns.next().await;
            self.sts.client.get_caller_identity().send().await
        };
        let ask = async {
            let Ok(answer) = tokio::time::timeout(ACCOUNT_TIMEOUT, Box::pin(ask)).await else {
                return Err(Failure::elsewhere(errors::unavailable("the store did not answer within 4 s")));
            };
            let answer = answer.map_err(|error| errors::classify("sts:GetCallerIdentity", &error));
            if answer.as_ref().is_err_and(|failure| failure.error.reason == Reason::Throttled) {
                self.sts.turns.throttled();
            }
            let answer = answer?;
            let caller = answer.account.zip(answer.arn).map(|(account, arn)| Caller { account, arn });
            caller.ok_or_else(|| Failure::elsewhere(errors::incomplete()))
        };
        let answer = observed(metrics, ("aws.sts", "GetCallerIdentity", 1), |failure: &Failure| failure.error.reason, Box::pin(ask)).await;
        answer.map_err(|Failure { error, .. }| match error.reason {
            // They name what was refused already.
            Reason::CredentialsError => error,
            _ => ReadError { message: format!("the account of the identity: {}", error.message), ..error },
        })
    }
}

/// An address for a region.
fn placed(url: &str, region: &str) -> String {
    url.replace(REGION_PLACE, region)
}

fn with_credentials(own: &SdkConfig, provider: impl ProvideCredentials + 'static, renewing: &Renewing) -> SdkConfig {
    own.to_builder().credentials_provider(SharedCredentialsProvider::new(provider)).identity_cache(renewing.clone()).build()
}

fn sts_client(base: &SdkConfig, endpoints: &Endpoints, region: &str, renewing: &Renewing) -> aws_sdk_sts::Client {
    let mut sts = aws_sdk_sts::config::Builder::from(base).interceptor(renewing.clone());
    if let Some(url) = &endpoints.sts {
        sts.set_endpoint_url(Some(placed(url, region)));
    }
    aws_sdk_sts::Client::from_conf(sts.build())
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
    fn new(client: aws_sdk_sts::Client, ambient: &Ambient, turns: Turns, payer: &str, spec: &AwsSpec) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let id = COUNT.fetch_add(1, Ordering::Relaxed).to_string();
        let sts = Self { client, budgets: ambient.sts.clone(), account: payer.into(), turns, id };
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
