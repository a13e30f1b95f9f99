//! A store's client, whichever store it is: what the controller asks of it besides reading.

mod writing;

pub use writing::unsupported;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    Provider, ReadError, aws::AwsProvider, edge::EdgeProvider, envase::EnvaseProvider, roboto::RobotoPlatform, standing::Standing, vault::VaultProvider,
};
use crate::api::provider::Backend;

/// A client.
#[derive(Clone)]
pub enum Opened {
    /// Of AWS.
    Aws(Arc<AwsProvider>),
    /// Of Vault.
    Vault(Arc<VaultProvider>),
    /// Of Edge's secrets in Vault.
    Edge(Arc<EdgeProvider>),
    /// Of a Roboto platform.
    Roboto(Arc<RobotoPlatform>),
    /// Of Envase Vault.
    Envase(Arc<EnvaseProvider>),
}

impl Opened {
    /// What the reader reads through.
    #[must_use]
    pub fn provider(&self) -> Arc<dyn Provider> {
        match self {
            Self::Aws(provider) => provider.clone(),
            Self::Vault(provider) => provider.clone(),
            Self::Edge(provider) => provider.clone(),
            Self::Roboto(provider) => provider.clone(),
            Self::Envase(provider) => provider.clone(),
        }
    }

    /// Takes the limits of a changed spec.
    pub fn limit(&self, backend: &Backend) {
        match (self, backend) {
            (Self::Aws(provider), Backend::Aws(spec)) => provider.limit(spec.limits),
            (Self::Vault(provider), Backend::Vault(spec)) => provider.standing().limit(spec.limits),
            (Self::Edge(provider), Backend::Edge(spec)) => provider.vault().standing().limit(spec.vault.limits),
            (Self::Roboto(provider), Backend::Roboto(spec)) => provider.standing().limit(spec.limits),
            (Self::Envase(provider), Backend::Envase(spec)) => provider.standing().limit(spec.limits),
            _ => {}
        }
    }

    /// Lets what lies in these accounts be asked for by ARN, besides the identity's own.
    pub fn reach(&self, accounts: BTreeSet<String>) {
        if let Self::Aws(provider) = self {
            provider.reach(accounts);
        }
    }

    /// The account of the identity, where there is such a thing and it is known.
    #[must_use]
    pub fn known_account(&self) -> Option<String> {
        match self {
            Self::Aws(provider) => provider.known_caller().map(|caller| caller.account),
            Self::Vault(_) | Self::Edge(_) | Self::Roboto(_) | Self::Envase(_) => None,
        }
    }

    /// How it stands; AWS's has more than one limit, and is asked itself.
    fn standing(&self) -> Option<&Standing> {
        match self {
            Self::Aws(_) => None,
            Self::Vault(provider) => Some(provider.standing()),
            Self::Edge(provider) => Some(provider.vault().standing()),
            Self::Roboto(provider) => Some(provider.standing()),
            Self::Envase(provider) => Some(provider.standing()),
        }
    }

    /// What no read gets past since this long: credentials that don't work, or a store that does not answer.
    #[must_use]
    pub fn in_trouble(&self) -> Option<(Duration, ReadError)> {
        match self {
            Self::Aws(provider) => provider.in_trouble(),
            Self::Vault(provider) => provider.in_trouble(),
            Self::Edge(provider) => provider.vault().in_trouble(),
            Self::Envase(provider) => provider.in_trouble(),
            Self::Roboto(provider) => provider.standing().in_trouble(),
        }
    }

    /// As whom it reads, if that is known.
    #[must_use]
    pub fn known_identity(&self) -> Option<String> {
        match self {
            Self::Aws(provider) => provider.known_caller().map(|caller| caller.arn),
            Self::Envase(provider) => provider.known_identity(),
            other => other.standing()?.known_identity(),
        }
    }

    /// As whom it reads, asked of the store; once, unless `anew`.
    pub async fn identity(&self, anew: bool) -> Result<String, ReadError> {
        match self {
            Self::Aws(provider) => provider.caller(anew).await.map(|caller| caller.arn),
            Self::Vault(provider) => provider.identity().await,
            Self::Edge(provider) => provider.vault().identity().await,
            Self::Roboto(provider) => provider.identity().await,
            Self::Envase(provider) => provider.identity(anew).await,
        }
    }
}
