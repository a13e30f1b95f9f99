//! A store's client, whichever store it is: what the controller asks of it besides reading.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{Provider, ReadError, aws::AwsProvider, vault::VaultProvider};
use crate::api::provider::Backend;

/// A client.
#[derive(Clone)]
pub enum Opened {
    /// Of AWS.
    Aws(Arc<AwsProvider>),
    /// Of Vault.
    Vault(Arc<VaultProvider>),
}

impl Opened {
    /// What the reader reads through.
    #[must_use]
    pub fn provider(&self) -> Arc<dyn Provider> {
        match self {
            Self::Aws(provider) => provider.clone(),
            Self::Vault(provider) => provider.clone(),
        }
    }

    /// Takes the limits of a changed spec.
    pub fn limit(&self, backend: &Backend) {
        match (self, backend) {
            (Self::Aws(provider), Backend::Aws(spec)) => provider.limit(spec.limits),
            (Self::Vault(provider), Backend::Vault(spec)) => provider.limit(spec.limits),
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
            Self::Vault(_) => None,
        }
    }

    /// What no read gets past since this long: credentials that don't work, or a store that does not answer.
    #[must_use]
    pub fn in_trouble(&self) -> Option<(Duration, ReadError)> {
        match self {
            Self::Aws(provider) => provider.in_trouble(),
            Self::Vault(provider) => provider.in_trouble(),
        }
    }

    /// As whom it reads, if that is known.
    #[must_use]
    pub fn known_identity(&self) -> Option<String> {
        match self {
            Self::Aws(provider) => provider.known_caller().map(|caller| caller.arn),
            Self::Vault(provider) => provider.known_identity(),
        }
    }

    /// As whom it reads, asked of the store; once, unless `anew`.
    pub async fn identity(&self, anew: bool) -> Result<String, ReadError> {
        match self {
            Self::Aws(provider) => provider.caller(anew).await.map(|caller| caller.arn),
            Self::Vault(provider) => provider.identity().await,
        }
    }
}
