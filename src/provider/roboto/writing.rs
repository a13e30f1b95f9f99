//! Writing to a Roboto platform, as its own SDK does: the platform keeps the record, and lends what the value is written with where it keeps values.
//!
//! A source and a value enter, what was written or why not leaves. The value goes to Secrets Manager alone, never to the platform. No call is tried twice:
//! a platform that failed may have made the secret all the same.

use reqwest::header::{CONTENT_TYPE, HeaderName};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{OWNER, RobotoPlatform, check, elsewhere, is_success, wire};
use crate::{
    api::{
        Reason,
        reference::{Source, Store},
    },
    provider::{
        ReadError, WriteError,
        http::Answer,
        writing::{Described, MOST_OF_A_SECRET, Written, sized, text},
    },
    sensitive::Sensitive,
};

/// For whom a secret is made. For all else the owner is named, by another header.
const ORG: HeaderName = HeaderName::from_static("x-roboto-org-id");

impl RobotoPlatform {
    /// Makes a secret, and gives it a value if there is one. That there is one already changes nothing: [`WriteError::AlreadyExists`]. If the value can't
    /// be written then, the secret stays without one, and the error says so.
    pub async fn create(&self, source: &Source, initial: Option<&Sensitive>) -> Result<Written, WriteError> {
        let place = self.writable(source)?;
        let initial = initial.map(checked).transpose()?;
        let mut request = self.http.client().post(self.address("secrets"));
        if let Some(org) = &place.1 {
            request = request.header(ORG, org);
        }
        let request = request.header(CONTENT_TYPE, "application/json").body(json!({"name": place.0}).to_string());
        let made: wire::Record = self.call("Create", request, WriteError::reason, told).await.map_err(|error| match error {
            WriteError::Conflict => WriteError::AlreadyExists,
            other => other,
        })?;
        check(&made, &place)?;
        match initial {
            None => Ok(Written { arn: self.address_of(&made.org_id, &place.0), version: String::new() }),
            Some(text) => self.put((place.0, Some(made.org_id)), text).await.map_err(without_value),
        }
    }

    /// Puts another value in place of the one that is there; what isn't there isn't made.
    pub async fn update(&self, source: &Source, value: &Sensitive) -> Result<Written, WriteError> {
        let place = self.writable(source)?;
        self.put(place, checked(value)?).await
    }

    /// Deletes a secret.
    pub async fn delete(&self, source: &Source) -> Result<(), WriteError> {
        let place = self.writable(source)?;
        let mut request = self.http.client().delete(self.address(&format!("secrets/name/{}", place.0)));
        if let Some(org) = &place.1 {
            request = request.header(OWNER, org);
        }
        let told = |answer: &Answer| if is_success(answer) { Ok(()) } else { Err(wire::unwritten(answer.status, &answer.body)) };
        self.call("Delete", request, WriteError::reason, told).await?;
        self.held().remove(&place);
        Ok(())
    }

    /// What the platform knows about a secret; it knows no version.
    pub async fn describe(&self, source: &Source) -> Result<Described, WriteError> {
        let place = self.writable(source)?;
        let record: wire::Record = self.tell("Record", &format!("secrets/name/{}", place.0), place.1.as_deref()).await?;
        check(&record, &place)?;
        let said = record.told();
        Ok(Described { arn: Some(self.address_of(&record.org_id, &place.0)), created: said.created, changed: said.modified, ..Described::default() })
    }

    async fn put(&self, place: (String, Option<String>), text: &str) -> Result<Written, WriteError> {
        let access: wire::Access = self.tell("Creds", &format!("secrets/name/{}/creds", place.0), place.1.as_deref()).await?;
        let (record, lent) = access.lent()?;
        check(&record, &place)?;
        let written = Box::pin(self.lender.write(record.arn()?, &lent, text)).await.map_err(|error| match error {
            WriteError::NotFound => elsewhere(ReadError::new(Reason::SourceNotFound, "there is no such secret")).into(),
            WriteError::Failed(error) => elsewhere(error).into(),
            other => other,
        })?;
        Ok(Written { arn: self.address_of(&record.org_id, &place.0), ..written })
    }

    async fn tell<T: DeserializeOwned>(&self, api: &'static str, place: &str, org: Option<&str>) -> Result<T, WriteError> {
        let mut request = self.http.client().get(self.address(place));
        if let Some(org) = org {
            request = request.header(OWNER, org);
        }
        self.call(api, request, WriteError::reason, told).await
    }

    /// The name and the organisation of what is to be written.
    fn writable(&self, source: &Source) -> Result<(String, Option<String>), WriteError> {
        if source.store != Store::Roboto || source.version.is_some() {
            return Err(WriteError::Refused("a secret of Roboto is written as roboto-secret://NAME or roboto-secret://NAME@ORG".to_owned()));
        }
        Ok(self.organized(source))
    }
}

fn told<T: DeserializeOwned>(answer: &Answer) -> Result<T, WriteError> {
    if is_success(answer) { Ok(wire::data(&answer.body)?) } else { Err(wire::unwritten(answer.status, &answer.body)) }
}

/// A value that the platform can have.
fn checked(value: &Sensitive) -> Result<&str, WriteError> {
    sized(value, Store::Roboto, MOST_OF_A_SECRET)?;
    text(value)
}

/// A secret was made, and has no value.
fn without_value(error: WriteError) -> WriteError {
    const MADE: &str = "the secret was made, and has no value yet; update it";
    match error {
        WriteError::Refused(problem) => WriteError::Refused(format!("{MADE}: {problem}")),
        WriteError::Failed(error) => ReadError { message: format!("{MADE}: {}", error.message), ..error }.into(),
        // Somebody took it away, or is about to.
        other => ReadError::new(Reason::ProviderUnavailable, format!("{MADE}: {other}")).into(),
    }
}
