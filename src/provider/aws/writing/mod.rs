//! Writing to AWS's stores, with the identity that also reads there.
//!
//! What to write enters, what became of it leaves. What can be known to be refused is refused before any call; what lies in another account or region
//! is held to the rules for reading it. Writes go to the provider's own region (or that of the ARN), never to a failover region, and are never tried
//! twice: whoever asked for one decides that. No value leaves but in the call that writes it, and no error has a word of AWS's in it: these quote values.

mod checks;
mod parameters;
mod refusals;
pub(super) mod secrets;

use std::collections::BTreeMap;

use super::{AwsProvider, misrouted};
use crate::{
    api::reference::{Source, Store},
    provider::{
        ServedVersion, Value,
        writing::{Attributes, Described, Recovery, WriteError, Written},
    },
};

impl AwsProvider {
    /// Makes a secret or a parameter. That there is one already changes nothing: [`WriteError::AlreadyExists`].
    pub async fn create(&self, source: &Source, value: &Value, attributes: &Attributes) -> Result<Written, WriteError> {
        checks::new(source, attributes)?;
        match source.store {
            Store::SecretsManager => {
                let content = checks::secret(value)?;
                secrets::create(self.clients.of(source).secrets_manager(), source, content, attributes, &self.metrics).await
            }
            Store::ParameterStore => {
                let text = checks::parameter(value, attributes.tier)?;
                let version = parameters::create(self.clients.of(source).parameter_store(), source, text, attributes, &self.metrics).await?;
                Ok(Written { arn: self.parameter_arn(source).await, version })
            }
            _ => Err(misrouted().into()),
        }
    }

    /// Puts another value in place of the one that is there, and keeps all else: the key, the description, the tags, whether it is text or binary, the
    /// kind of a parameter. What isn't there isn't made: [`WriteError::NotFound`]. A stage in the source of a secret is where the value goes, instead
    /// of `AWSCURRENT`.
    ///
    /// With `base`, only if that is the version that is there; otherwise [`WriteError::Conflict`], and nothing was changed. For a secret this holds
    /// whatever others do at the same time: the value waits under a label of its own until Secrets Manager itself compares and moves the stage.
    /// Parameter Store can't compare. Its version is looked at before; should somebody write between the look and the write, the write is done and
    /// [`WriteError::Overtaken`] says so: the versions between are theirs, and a caller that must not lose them reads and merges them. Putting theirs
    /// back from here would only be the next write that nobody compares.
    pub async fn update(&self, source: &Source, value: &Value, base: Option<&ServedVersion>) -> Result<Written, WriteError> {
        self.update_as(source, value, base, None).await
    }

    /// As [`AwsProvider::update`], and a parameter is described like this from then on. A secret is described by [`AwsProvider::set_description`].
    pub async fn update_as(&self, source: &Source, value: &Value, base: Option<&ServedVersion>, description: Option<&str>) -> Result<Written, WriteError> {
        checks::place(source, true)?;
        match source.store {
            Store::SecretsManager => {
                let content = checks::secret(value)?;
                self.check(source).await?;
                secrets::update(self.clients.of(source).secrets_manager(), source, content, base, &self.metrics).await
            }
            Store::ParameterStore => {
                // How much it may hold is known when its tier is.
                let text = checks::parameter(value, Some(checks::LARGEST))?;
                self.check_own(source).await?;
                let stores = self.clients.of(source);
                let put = parameters::Put { value, text, description };
                let (arn, version) = parameters::update(stores.parameter_store(), source, put, base, &self.metrics).await?;
                let arn = match arn {
                    Some(arn) => arn,
                    None => self.parameter_arn(source).await,
                };
                Ok(Written { arn, version })
            }
            _ => Err(misrouted().into()),
        }
    }

    /// Deletes a secret or a parameter; the time when a secret is gone for good, if AWS says one. A parameter is gone at once, whatever `recovery` says.
    /// What isn't there is [`WriteError::NotFound`], but a secret that is deleted by force: Secrets Manager doesn't tell whether there was one.
    pub async fn delete(&self, source: &Source, recovery: Recovery) -> Result<Option<String>, WriteError> {
        checks::place(source, false)?;
        match source.store {
            Store::SecretsManager => {
                recovery.check()?;
                self.check(source).await?;
                secrets::delete(self.clients.of(source).secrets_manager(), source, recovery, &self.metrics).await
            }
            Store::ParameterStore => {
                self.check_own(source).await?;
                parameters::delete(self.clients.of(source).parameter_store(), source, &self.metrics).await.map(|()| None)
            }
            _ => Err(misrouted().into()),
        }
    }

    /// Takes back that a secret is to be deleted.
    pub async fn restore(&self, source: &Source) -> Result<(), WriteError> {
        checks::place(source, false)?;
        match source.store {
            Store::SecretsManager => {
                self.check(source).await?;
                secrets::restore(self.clients.of(source).secrets_manager(), source, &self.metrics).await
            }
            store => Err(WriteError::NotSupported { store, operation: "restore what was deleted" }),
        }
    }

    /// Describes a secret otherwise. Parameter Store takes a description with a value alone: [`AwsProvider::update_as`].
    pub async fn set_description(&self, source: &Source, description: &str) -> Result<(), WriteError> {
        checks::place(source, false)?;
        match source.store {
            Store::SecretsManager => {
                self.check(source).await?;
                secrets::set_description(self.clients.of(source).secrets_manager(), source, description, &self.metrics).await
            }
            _ => Err(misrouted().into()),
        }
    }

    /// Gives a secret or a parameter these tags, and leaves all else as it is.
    pub async fn tag(&self, source: &Source, tags: &BTreeMap<String, String>) -> Result<(), WriteError> {
        checks::place(source, false)?;
        match source.store {
            Store::SecretsManager => {
                self.check(source).await?;
                secrets::tag(self.clients.of(source).secrets_manager(), source, tags, &self.metrics).await
            }
            Store::ParameterStore => {
                self.check_own(source).await?;
                parameters::tag(self.clients.of(source).parameter_store(), source, tags, &self.metrics).await
            }
            _ => Err(misrouted().into()),
        }
    }

    /// What is known about a secret or a parameter, without its value; also about a secret that is to be deleted.
    pub async fn describe(&self, source: &Source) -> Result<Described, WriteError> {
        checks::place(source, false)?;
        match source.store {
            Store::SecretsManager => {
                self.check(source).await?;
                secrets::describe(self.clients.of(source).secrets_manager(), source, &self.metrics).await
            }
            Store::ParameterStore => {
                self.check_own(source).await?;
                let described = parameters::describe(self.clients.of(source).parameter_store(), source, &self.metrics).await?;
                let arn = match described.arn {
                    Some(arn) => Some(arn),
                    None => Some(self.parameter_arn(source).await).filter(|arn| !arn.is_empty()),
                };
                Ok(Described { arn, ..described })
            }
            _ => Err(misrouted().into()),
        }
    }

    /// A parameter is written by its name, which would be another one in another account: there, those that are shared can only be read.
    async fn check_own(&self, source: &Source) -> Result<(), WriteError> {
        self.check(source).await?;
        let Some(arn) = source.arn() else { return Ok(()) };
        if self.clients.caller(&self.metrics).await?.account == arn.account {
            return Ok(());
        }
        Err(WriteError::refused(
            "the parameter belongs to another account, and those that are shared can only be read; write it with an identity of that account",
        ))
    }

    /// The ARN of a parameter, which Parameter Store doesn't tell when it is written; empty if the identity's account can't be told either.
    async fn parameter_arn(&self, source: &Source) -> String {
        if source.arn().is_some() {
            return source.id();
        }
        let Ok(caller) = self.clients.caller(&self.metrics).await else { return String::new() };
        let partition = caller.arn.split(':').nth(1).unwrap_or("aws");
        format!("arn:{partition}:ssm:{}:{}:parameter/{}", self.clients.region, caller.account, source.id().trim_start_matches('/'))
    }
}
