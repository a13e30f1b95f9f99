//! Writing through a store's client, whichever store it is: each verb becomes what that store has for it.
//!
//! A source, a value and what it has besides enter; what was written or why not leaves. What a store hasn't got is refused, never left out. Nothing is
//! tried twice here.

use std::collections::BTreeMap;

use super::Opened;
use crate::{
    api::reference::{Source, Store},
    provider::{
        Family, ServedVersion, Value, WriteError,
        aws::{DESCRIBE_PARAMETERS, DESCRIBE_SECRET, SECRETS_MANAGER_WRITES, SSM_WRITES},
        envase, roboto, vault,
        writing::{Attributes, Described, Recovery, Written},
    },
    render::same::same,
    sensitive::Sensitive,
};

impl Opened {
    /// Whether tags are kept beside a value: custom metadata in Vault.
    #[must_use]
    pub fn keeps_tags(&self) -> bool {
        match self {
            Self::Aws(_) | Self::Edge(_) => true,
            Self::Vault(provider) => provider.keeps_metadata(),
            Self::Roboto(_) | Self::Envase(_) => false,
        }
    }

    /// Whether a write can be made to depend on the version that is there, or what it went over can be found.
    #[must_use]
    pub fn compares(&self) -> bool {
        // Those that keep tags keep versions, too, and the others neither.
        self.keeps_tags()
    }

    /// Which limit a look at what is there besides the value counts against.
    #[must_use]
    pub fn family_of_looks(&self, store: Store) -> Family {
        self.family(match store {
            Store::ParameterStore => DESCRIBE_PARAMETERS,
            _ => DESCRIBE_SECRET,
        })
    }

    /// Which limit a write counts against.
    #[must_use]
    pub fn family_of_writes(&self, store: Store) -> Family {
        self.family(match store {
            Store::ParameterStore => SSM_WRITES,
            _ => SECRETS_MANAGER_WRITES,
        })
    }

    /// The others have one limit for all.
    fn family(&self, of_aws: Family) -> Family {
        match self {
            Self::Aws(_) => of_aws,
            Self::Vault(_) | Self::Edge(_) => vault::READS,
            Self::Roboto(_) => roboto::READS,
            Self::Envase(_) => envase::READS,
        }
    }

    /// Whether a value that is held is the one that was wanted, as this store gives it back: where JSON is kept, not its spaces and the order of its members.
    #[must_use]
    pub fn agrees(&self, wanted: &Sensitive, held: &Sensitive) -> bool {
        match self {
            Self::Aws(_) | Self::Roboto(_) => wanted == held,
            Self::Vault(_) | Self::Edge(_) | Self::Envase(_) => same(wanted, held),
        }
    }

    /// Makes what isn't there; that there is one already changes nothing. Attributes that the store doesn't keep are [`WriteError::NotSupported`]. Where tags
    /// are a second call (Vault, Edge), they may be missing after a failure.
    pub async fn create(&self, source: &Source, value: &Sensitive, attributes: &Attributes) -> Result<Written, WriteError> {
        let Attributes { description, tags, kms_key, kind, tier } = attributes;
        let of_aws = kms_key.is_some() || kind.is_some() || tier.is_some();
        match self {
            Self::Aws(provider) => provider.create(source, &Value::of(value.clone()), attributes).await,
            Self::Envase(_) if of_aws || !tags.is_empty() => Err(attributes_unsupported(source)),
            Self::Envase(provider) => provider.create(source, value, description.as_deref()).await,
            _ if of_aws || description.is_some() || !tags.is_empty() && !self.keeps_tags() => Err(attributes_unsupported(source)),
            Self::Roboto(provider) => provider.create(source, Some(value)).await,
            Self::Vault(provider) => self.tagged(source, provider.create(source, value).await?, tags).await,
            Self::Edge(provider) => self.tagged(source, provider.create(source, value).await?, tags).await,
        }
    }

    /// What was made, once it has its tags.
    async fn tagged(&self, source: &Source, written: Written, tags: &BTreeMap<String, String>) -> Result<Written, WriteError> {
        if !tags.is_empty() {
            self.tag(source, tags).await?;
        }
        Ok(written)
    }

    /// Puts another value in place of the one that is there. `base`: only if that is the version that is there, where the store can tell (see each
    /// provider). `description`: for Parameter Store, and for Envase, which keeps none that it isn't told; the others take none with a value.
    pub async fn update(&self, source: &Source, value: &Sensitive, base: Option<&ServedVersion>, description: Option<&str>) -> Result<Written, WriteError> {
        let known = base.map(|base| base.id.as_str());
        match self {
            Self::Aws(provider) => provider.update_as(source, &Value::of(value.clone()), base, description).await,
            Self::Roboto(provider) => provider.update(source, value).await,
            Self::Vault(provider) => provider.update(source, value, known).await,
            Self::Edge(provider) => provider.update(source, value, known).await,
            Self::Envase(provider) => provider.update(source, value, description).await,
        }
    }

    /// Deletes it; the time when it is gone for good, if the store says one.
    pub async fn delete(&self, source: &Source, recovery: Recovery) -> Result<Option<String>, WriteError> {
        match (self, recovery) {
            (Self::Aws(provider), _) => return provider.delete(source, recovery).await,
            (Self::Vault(provider), Recovery::Within(_)) => provider.delete(source).await?,
            (Self::Vault(provider), Recovery::Force) => provider.delete_for_good(source).await?,
            (Self::Edge(provider), _) => provider.delete(source).await?,
            (Self::Roboto(provider), _) => provider.delete(source).await?,
            (Self::Envase(provider), _) => {
                if !provider.delete(source).await? {
                    return Err(WriteError::NotFound);
                }
            }
        }
        Ok(None)
    }

    /// Brings back what was deleted.
    pub async fn restore(&self, source: &Source) -> Result<(), WriteError> {
        match self {
            Self::Aws(provider) => provider.restore(source).await,
            Self::Vault(provider) => provider.restore(source).await,
            Self::Edge(_) | Self::Roboto(_) | Self::Envase(_) => Err(unsupported(source.store, "bring back what was deleted")),
        }
    }

    /// What is known besides the value. `None`: it comes with the value alone.
    pub async fn describe(&self, source: &Source) -> Option<Result<Described, WriteError>> {
        match self {
            Self::Aws(provider) => Some(provider.describe(source).await),
            Self::Roboto(provider) => Some(provider.describe(source).await),
            Self::Edge(provider) => Some(provider.describe(source).await),
            Self::Vault(provider) if provider.keeps_metadata() => Some(provider.describe(source).await),
            Self::Vault(_) | Self::Envase(_) => None,
        }
    }

    /// Gives it these tags, and leaves its others.
    pub async fn tag(&self, source: &Source, tags: &BTreeMap<String, String>) -> Result<(), WriteError> {
        match self {
            Self::Aws(provider) => provider.tag(source, tags).await,
            Self::Vault(provider) if provider.keeps_metadata() => provider.tag(source, tags).await,
            Self::Edge(provider) => provider.tag(source, tags).await,
            Self::Vault(_) | Self::Roboto(_) | Self::Envase(_) => Err(attributes_unsupported(source)),
        }
    }
}

/// That a store can't do something.
#[must_use]
pub fn unsupported(store: Store, operation: &'static str) -> WriteError {
    WriteError::NotSupported { store, operation }
}

fn attributes_unsupported(source: &Source) -> WriteError {
    unsupported(source.store, "keep such attributes")
}
