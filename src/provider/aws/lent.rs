//! Secrets Manager with credentials that somebody else hands out: for a platform that keeps its values there.
//!
//! Credentials, a region and an ARN enter, and a value that is to be written; a reading leaves, or what was written. Credentials and values go into the
//! one call that they are for, and are not kept here.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
};

use aws_credential_types::Credentials;
use aws_sdk_secretsmanager::{Client, config::Builder};

use super::{Ambient, errors, secrets_manager, writing};
use crate::{
    api::reference::{Reference, Source, Store},
    provider::{ReadError, Reading, WriteError, observed, writing::Written},
    sensitive::Sensitive,
    telemetry::Metrics,
};

/// Temporary credentials, and where they are good.
#[derive(Clone)]
pub struct Lent {
    /// The region.
    pub region: String,
    /// The access key's id.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: Sensitive,
    /// The session that it belongs to.
    pub session_token: Sensitive,
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lent({})", self.region)
    }
}

/// Where values are read and written with what is lent: a client for each region, made when it is first needed.
pub struct Lender {
    ambient: Ambient,
    endpoint: Option<String>,
    clients: Mutex<HashMap<String, Client>>,
    metrics: Metrics,
}

impl Lender {
    /// Reads at AWS's own addresses, or at this one. The HTTP stack is the ambient one; its credentials are not used.
    #[must_use]
    pub fn new(ambient: &Ambient, endpoint: Option<String>, metrics: Metrics) -> Self {
        Self { ambient: ambient.clone(), endpoint, clients: Mutex::default(), metrics }
    }

    fn client(&self, region: &str) -> Client {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.entry(region.to_owned()).or_insert_with(|| self.ambient.secrets_manager(region, self.endpoint.as_deref())).clone()
    }

    /// Reads a secret by its ARN, as it is now.
    pub async fn read(&self, arn: &str, lent: &Lent) -> Result<Reading, ReadError> {
        let source = secret(arn, &lent.region).ok_or_else(errors::misunderstood)?;
        let client = self.client(&lent.region);
        let call = secrets_manager::read_as(&client, &source, overridden(lent)?);
        Box::pin(observed(&self.metrics, ("aws.sm", "GetSecretValue", 1), |error: &ReadError| error.reason, call)).await
    }

    /// Puts a text in place of what the secret of this ARN holds.
    pub(in crate::provider) async fn write(&self, arn: &str, lent: &Lent, text: &str) -> Result<Written, WriteError> {
        let source = secret(arn, &lent.region).ok_or_else(errors::misunderstood)?;
        writing::secrets::put_as(&self.client(&lent.region), &source.id(), text, overridden(lent)?, &self.metrics).await
    }
}

/// The settings of a call with these credentials.
fn overridden(lent: &Lent) -> Result<Builder, ReadError> {
    let text = |value: &Sensitive| std::str::from_utf8(value.expose()).map(str::to_owned).map_err(|_| errors::misunderstood());
    let credentials = Credentials::new(&lent.access_key_id, text(&lent.secret_access_key)?, Some(text(&lent.session_token)?), None, "lent");
    Ok(Builder::new().credentials_provider(credentials))
}

/// What an ARN and a region name that somebody else said; nothing if they aren't what they are taken for: the region becomes a part of an address.
fn secret(arn: &str, region: &str) -> Option<Source> {
    let is_region = !region.is_empty() && region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let reference: Reference = arn.parse().ok()?;
    let source = reference.source;
    (is_region && source.arn().is_some() && source.store == Store::SecretsManager && source.version.is_none() && reference.keypath.is_empty()).then_some(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_secret_in_a_region_is_read() {
        let arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:roboto/org/x-AbCdEf";
        assert!(secret(arn, "eu-west-1").is_some());
        for (arn, region) in [
            (arn, ""),
            (arn, "eu-west-1.evil.example/"),
            (arn, "EU"),
            ("aws.sm://roboto/org/x", "eu-west-1"),
            ("arn:aws:ssm:eu-west-1:123456789012:parameter/x", "eu-west-1"),
            ("arn:aws:secretsmanager:eu-west-1:123456789012:secret:x-AbCdEf#/a", "eu-west-1"),
            ("arn:aws:secretsmanager:eu-west-1:123456789012:secret:x-AbCdEf?version-stage=A", "eu-west-1"),
        ] {
            assert!(secret(arn, region).is_none(), "{arn} {region}");
        }
    }
}
