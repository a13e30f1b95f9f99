//! Writing to Vault: values are made, replaced and deleted, and never over somebody else's change.
//!
//! JSON objects enter; whether they are there now leaves. Version 2 of a key-value store compares versions itself; version 1 has none, so that there the
//! last who writes wins. No value is in an error.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Answer, Ask, VaultProvider, refusal};
use crate::{
    api::{Reason, reference::Source, vault::KeyValue},
    provider::{
        ReadError, WriteError, misunderstood,
        writing::{self, Written},
    },
    sensitive::Sensitive,
};

/// What is written into version 2 of a key-value store.
#[derive(Serialize)]
struct Write<'a> {
    options: Options,
    data: &'a RawValue,
}

#[derive(Serialize)]
struct Options {
    /// The version that it comes after; 0: there is none.
    cas: u64,
}

#[derive(Serialize)]
struct Versions {
    versions: [u64; 1],
}

#[derive(Deserialize)]
struct Described {
    data: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    current_version: u64,
    #[serde(default)]
    created_time: String,
    #[serde(default)]
    updated_time: String,
    #[serde(default, rename = "custom_metadata")]
    said: Option<BTreeMap<String, String>>,
    #[serde(default)]
    versions: BTreeMap<String, VersionState>,
}

/// What people and programs say about a secret. Vault takes all of it or nothing.
#[derive(Serialize)]
struct Said {
    #[serde(rename = "custom_metadata")]
    said: BTreeMap<String, String>,
}

/// What version 2 answers to a write.
#[derive(Deserialize)]
struct Versioned {
    data: Version,
}

#[derive(Deserialize)]
struct Version {
    version: u64,
}

#[derive(Deserialize)]
struct VersionState {
    #[serde(default)]
    deletion_time: String,
    #[serde(default)]
    destroyed: bool,
}

/// What came of a write.
enum Put {
    /// It is there. Version 1 tells none.
    Done(Option<u64>),
    /// There is another version than was thought.
    Other,
}

/// What is there before a write.
enum There {
    /// Nothing ever was.
    Nothing,
    /// It was deleted, after this version.
    Deleted(u64),
    /// This version.
    Version(u64),
}

impl VaultProvider {
    /// Makes a value where there is none. `value`: a JSON object. What was deleted and could be brought back gets a new version.
    pub async fn create(&self, source: &Source, value: &Sensitive) -> Result<Written, WriteError> {
        if self.key_value == KeyValue::V1
            && let There::Version(_) = self.there(source).await?
        {
            return Err(WriteError::AlreadyExists);
        }
        if let Put::Done(version) = self.put(source, value, 0).await? {
            return Ok(self.written(source, version));
        }
        match self.there(source).await {
            Ok(There::Deleted(version)) => match self.put(source, value, version).await? {
                Put::Done(version) => Ok(self.written(source, version)),
                Put::Other => Err(WriteError::AlreadyExists),
            },
            // Whoever may not look is told what the first try said.
            _ => Err(WriteError::AlreadyExists),
        }
    }

    /// Puts another value in place of the one that is there. With `base`, only if that is still the version that is there; version 1 has none to compare.
    pub async fn update(&self, source: &Source, value: &Sensitive, base: Option<&str>) -> Result<Written, WriteError> {
        let base = base.filter(|_| self.key_value == KeyValue::V2).map(|base| base.parse::<u64>().map_err(|_| misunderstood())).transpose()?;
        // Once more if somebody else was faster: the newer one counts then.
        for _ in 0..2 {
            let version = match (base, self.there(source).await?) {
                (_, There::Nothing | There::Deleted(_)) => return Err(WriteError::NotFound),
                (Some(base), There::Version(version)) if version != base => return Err(WriteError::Conflict),
                (_, There::Version(version)) => version,
            };
            if let Put::Done(version) = self.put(source, value, version).await? {
                return Ok(self.written(source, version));
            }
        }
        Err(WriteError::Conflict)
    }

    /// Whether more is kept about a value than the value itself.
    #[must_use]
    pub fn keeps_metadata(&self) -> bool {
        self.key_value == KeyValue::V2
    }

    /// What version 2 knows about a value; its custom metadata are the tags. Without a version: the value was deleted, and only this is left.
    pub async fn describe(&self, source: &Source) -> Result<writing::Described, WriteError> {
        let metadata = self.metadata(source).await?.ok_or(WriteError::NotFound)?;
        let version = match there(&metadata) {
            There::Version(version) => Some(version.to_string()),
            There::Nothing | There::Deleted(_) => None,
        };
        let time = |time: String| Some(time).filter(|time| !time.is_empty());
        Ok(writing::Described {
            arn: Some(self.address_of(&source.id())),
            version,
            created: time(metadata.created_time),
            changed: time(metadata.updated_time),
            tags: Some(metadata.said.unwrap_or_default()),
            ..writing::Described::default()
        })
    }

    /// Says more about a value of version 2, besides what is said already.
    pub async fn tag(&self, source: &Source, tags: &BTreeMap<String, String>) -> Result<(), WriteError> {
        let metadata = self.metadata(source).await?.ok_or(WriteError::NotFound)?;
        let mut said = metadata.said.unwrap_or_default();
        said.extend(tags.clone());
        let place = self.place_of(source, "metadata")?;
        match self.post("WriteMetadata", &place, &Said { said }).await?.status {
            200..=299 => Ok(()),
            403 => Err(unlabelled("create and update").into()),
            status => Err(refusal("update", status).into()),
        }
    }

    /// Deletes the current version of a value, which can be brought back; of version 1 the value.
    pub async fn delete(&self, source: &Source) -> Result<(), WriteError> {
        if let There::Nothing | There::Deleted(_) = self.there(source).await? {
            return Err(WriteError::NotFound);
        }
        let place = self.place_of(source, "data")?;
        match self.ask(&Ask::new("Delete", Method::DELETE, &place)).await?.status {
            200..=299 => Ok(()),
            status => Err(refusal("delete", status).into()),
        }
    }

    /// Deletes a value with all its versions; that it isn't there is no error.
    pub async fn delete_for_good(&self, source: &Source) -> Result<(), WriteError> {
        let place = self.place_of(source, "metadata")?;
        match self.ask(&Ask::new("Delete", Method::DELETE, &place)).await?.status {
            200..=299 | 404 => Ok(()),
            status => Err(refusal("delete", status).into()),
        }
    }

    /// Brings back the current version of a value that was deleted.
    pub async fn restore(&self, source: &Source) -> Result<(), WriteError> {
        if self.key_value == KeyValue::V1 {
            return Err(WriteError::NotSupported { store: source.store, operation: "bring back what was deleted from version 1 of a key-value store" });
        }
        let version = match self.there(source).await? {
            There::Nothing => return Err(WriteError::NotFound),
            There::Version(_) => return Ok(()),
            There::Deleted(version) => version,
        };
        let place = self.place_of(source, "undelete")?;
        match self.post("Restore", &place, &Versions { versions: [version] }).await?.status {
            200..=299 => Ok(()),
            status => Err(refusal("update", status).into()),
        }
    }

    async fn post(&self, api: &'static str, place: &str, body: &(impl Serialize + ?Sized)) -> Result<Answer, ReadError> {
        let body = Sensitive::new(serde_json::to_vec(body).map_err(|_| misunderstood())?);
        self.ask(&Ask { body: Some(body), ..Ask::new(api, Method::POST, place) }).await
    }

    fn written(&self, source: &Source, version: Option<u64>) -> Written {
        Written { arn: self.address_of(&source.id()), version: version.map(|version| version.to_string()).unwrap_or_default() }
    }

    /// What is there. Of version 1 the value is all that is known.
    async fn there(&self, source: &Source) -> Result<There, WriteError> {
        if self.key_value == KeyValue::V2 {
            return Ok(self.metadata(source).await?.as_ref().map_or(There::Nothing, there));
        }
        match self.ask(&Ask::new("Read", Method::GET, &self.place_of(source, "")?)).await?.status {
            200 => Ok(There::Version(1)),
            404 => Ok(There::Nothing),
            status => Err(refusal("read", status).into()),
        }
    }

    async fn metadata(&self, source: &Source) -> Result<Option<Metadata>, ReadError> {
        let place = self.place_of(source, "metadata")?;
        let answer = self.ask(&Ask::new("ReadMetadata", Method::GET, &place)).await?;
        match answer.status {
            200 => serde_json::from_slice::<Described>(answer.body.expose()).map(|said| Some(said.data)).map_err(|_| misunderstood()),
            404 => Ok(None),
            403 => Err(unlabelled("read")),
            status => Err(refusal("read", status)),
        }
    }

    async fn put(&self, source: &Source, value: &Sensitive, after: u64) -> Result<Put, WriteError> {
        let data = object(value)?;
        let place = self.place_of(source, "data")?;
        let answer = match self.key_value {
            KeyValue::V2 => self.post("Write", &place, &Write { options: Options { cas: after }, data }).await?,
            KeyValue::V1 => self.post("Write", &place, data).await?,
        };
        match answer.status {
            200..=299 => Ok(Put::Done(serde_json::from_slice::<Versioned>(answer.body.expose()).ok().map(|said| said.data.version))),
            400 if says_version(&answer.body) => Ok(Put::Other),
            status => Err(refusal("create and update", status).into()),
        }
    }
}

/// What is known of a value besides may not be seen, or written.
fn unlabelled(capability: &str) -> ReadError {
    let problem = format!("the identity may not {capability} its metadata; give it a policy with {capability} on the path below metadata/ (HTTP 403)");
    ReadError::new(Reason::AccessDenied, problem)
}

/// A value as Vault takes it.
pub fn object(value: &Sensitive) -> Result<&RawValue, WriteError> {
    let object = serde_json::from_slice::<&RawValue>(value.expose()).ok().filter(|value| value.get().starts_with('{'));
    let object = object.ok_or_else(|| WriteError::Refused("Vault keeps JSON objects, and this is none".to_owned()))?;
    writing::comparable(object)?;
    Ok(object)
}

/// Whether Vault says that another version is there.
fn says_version(body: &Sensitive) -> bool {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<String>,
    }
    serde_json::from_slice::<Errors>(body.expose()).is_ok_and(|said| said.errors.iter().any(|error| error.contains("check-and-set parameter did not match")))
}

/// What the metadata say of the current version.
fn there(data: &Metadata) -> There {
    let state = data.versions.get(&data.current_version.to_string());
    // Where a store lets versions live for a while only, the time is known before it comes.
    let is_past = |time: &str| !time.is_empty() && time.parse::<Timestamp>().map_or(true, |time| time <= Timestamp::now());
    let deleted = state.is_some_and(|state| state.destroyed || is_past(&state.deletion_time));
    match data.current_version {
        0 => There::Nothing,
        version if deleted => There::Deleted(version),
        version => There::Version(version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_that_is_there_is_told_from_one_that_was_deleted() {
        let current = |text: &str| match there(&serde_json::from_str::<Described>(text).expect("metadata").data) {
            There::Version(version) => Some(version),
            There::Nothing | There::Deleted(_) => None,
        };
        assert_eq!(current(r#"{"data":{"current_version":3,"versions":{"3":{"deletion_time":"","destroyed":false}}}}"#), Some(3));
        assert_eq!(current(r#"{"data":{"current_version":3,"versions":{"3":{"deletion_time":"2026-01-01T00:00:00Z"}}}}"#), None);
        assert_eq!(current(r#"{"data":{"current_version":3,"versions":{"3":{"deletion_time":"2999-01-01T00:00:00Z"}}}}"#), Some(3));
        assert_eq!(current(r#"{"data":{"current_version":3,"versions":{"3":{"destroyed":true}}}}"#), None);
        assert_eq!(current(r#"{"data":{"current_version":0,"versions":{}}}"#), None);
    }
}
