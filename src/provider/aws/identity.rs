//! Whose identity calls AWS, through which HTTP stack, and the clients made from both.
//!
//! A provider's spec enters, clients leave. Clients are made once for a provider and kept: no set-up happens per read.
//! Credentials are never logged and never leave the SDK.

use std::time::Duration;

use aws_config::{
    BehaviorVersion, Region, SdkConfig, environment::EnvironmentVariableRegionProvider, meta::region::RegionProviderChain, profile::ProfileFileRegionProvider,
    retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider as TlsProvider, rustls_provider::CryptoMode},
};
use tokio::sync::OnceCell;

use super::errors;
use crate::{
    api::{Reason, provider::AwsSpec},
    provider::ReadError,
};

/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Where a role is assumed if neither the environment (EKS sets `AWS_REGION`) nor a profile says so.
const FALLBACK_REGION: Region = Region::from_static("us-east-1");

/// The controller's own identity and the HTTP client that all providers share.
pub struct Ambient(SdkConfig);

impl Ambient {
    /// Looks at the environment, once; credentials are fetched when they are first needed, and renewed by themselves.
    pub async fn load() -> Self {
        let http = Builder::new().tls_provider(TlsProvider::Rustls(CryptoMode::Ring)).build_https();
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_timeout(CALL_TIMEOUT).build();
        // Each provider has a region of its own; this one only tells where a role is assumed. The default would ask the instance metadata
        // service for it, and where there is none, nothing would be watched for as long as that takes to give up.
        let region =
            RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new()).or_else(ProfileFileRegionProvider::new()).or_else(FALLBACK_REGION);
        let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .region(region)
            .http_client(http)
            .timeout_config(timeouts)
            // A failed call goes back to the queue, where its resource backs off; a second layer of retries would hide throttling.
            .retry_config(RetryConfig::disabled());
        Self(config.load().await)
    }
}

/// The clients of one provider.
pub(super) struct Clients {
    pub(super) region: String,
    pub(super) secrets_manager: aws_sdk_secretsmanager::Client,
    pub(super) parameter_store: aws_sdk_ssm::Client,
    sts: aws_sdk_sts::Client,
    account: OnceCell<String>,
}

impl Clients {
    pub(super) fn new(spec: &AwsSpec, ambient: &Ambient) -> Self {
        let base = ambient.0.to_builder().region(Region::new(spec.region.clone())).build();
        // What is left out stays as the environment says (AWS_ENDPOINT_URL and the like), or AWS's own.
        let endpoints = spec.endpoints.clone().unwrap_or_default();
        let mut secrets_manager = aws_sdk_secretsmanager::config::Builder::from(&base);
        let mut parameter_store = aws_sdk_ssm::config::Builder::from(&base);
        let mut sts = aws_sdk_sts::config::Builder::from(&base);
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
            sts: aws_sdk_sts::Client::from_conf(sts.build()),
            account: OnceCell::new(),
        }
    }

    /// The account that the identity belongs to, asked once.
    pub(super) async fn account(&self) -> Result<String, ReadError> {
        let ask = async || {
            let answer = self
                .sts
                .get_caller_identity()
                .send()
                .await
                .map_err(|error| errors::classify("the account of the provider's identity", "sts:GetCallerIdentity", &error))?;
            answer.account.ok_or_else(|| ReadError::new(Reason::ProviderUnavailable, "sts:GetCallerIdentity answered without an account"))
        };
        self.account.get_or_try_init(ask).await.cloned()
    }
}
