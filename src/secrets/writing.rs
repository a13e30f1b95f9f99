//! Writing through the client: to every store with the same verbs, and never over somebody else's change unnoticed.
//!
//! References and values enter; what was written leaves, or why nothing was. A call is made again only after a throttle: any other failure may have been
//! one of the answer alone. Whatever is written empties the cache.

use std::{collections::BTreeMap, time::Duration};

use futures::FutureExt;
use serde_json::value::RawValue;

use super::{Error, Secrets, about, jittered};
use crate::{
    api::{
        Reason,
        reference::{Reference, Source, Store, Version},
    },
    provider::{
        Question, Reading, ServedVersion, Value,
        opened::{Opened, unsupported},
        vault::Wrapped,
        writing::{Attributes, Described, Recovery, WriteError, Written},
    },
    render::{
        merge::{Owed, utf8},
        replace::replace,
    },
    sensitive::Sensitive,
};

/// How often a member is put in anew because somebody else wrote meanwhile.
const MERGES: u32 = 30;

impl Secrets {
    /// Makes what a reference names, without version and keypath. What is no UTF-8 becomes binary where the store has such a thing. `attributes`: what it has
    /// besides, as far as its store keeps it.
    ///
    /// # Errors
    ///
    /// See [`Error`]; [`Error::AlreadyExists`] changes nothing.
    pub async fn create(&self, reference: &str, value: &Sensitive, attributes: &Attributes) -> Result<Written, Error> {
        let source = whole(reference)?;
        self.written(&source, async || self.writer(source.store)?.create(&source, value, attributes).await).await
    }

    /// Puts another value in place of the one that is there, and keeps all else: key, description, tags, kind; the last who writes wins. With a keypath it
    /// becomes that member of the JSON that is there, as text, and no change is lost that somebody else makes at the same time; what the member is in has to be
    /// there. Parameter Store can't compare: what this writes over there it does again on top, and its history has all there ever was.
    ///
    /// # Errors
    ///
    /// See [`Error`]; [`Error::NotFound`] makes nothing. A member of what the store can't compare is [`Error::NotSupported`].
    pub async fn update(&self, reference: &str, value: &Sensitive) -> Result<Written, Error> {
        let parsed = writable(reference)?;
        match self.change(&parsed, value).await {
            // Vault's write tells nothing that was deleted from what never was; its read does.
            Err(Error::NotFound(said)) if parsed.source.store == Store::Vault && parsed.keypath.is_empty() => {
                let read = self.ask(&Question::Value(parsed.source)).await;
                Err(read.err().filter(|error| matches!(error, Error::NotFound(_))).unwrap_or(Error::NotFound(said)))
            }
            answer => answer,
        }
    }

    async fn change(&self, parsed: &Reference, value: &Sensitive) -> Result<Written, Error> {
        if parsed.keypath.is_empty() {
            return self.written(&parsed.source, async || self.writer(parsed.source.store)?.update(&parsed.source, value, None, None).await).await;
        }
        let text = std::str::from_utf8(value.expose()).map_err(|_| Error::InvalidRequest("a member of JSON is text, and the value is not UTF-8".to_owned()))?;
        let json = serde_json::value::to_raw_value(text).map_err(|_| Error::InvalidRequest("the value can't be written as JSON".to_owned()))?;
        self.merge(parsed, &json).await
    }

    /// As [`Secrets::update`] with a keypath, with JSON of any kind as the member.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn update_json(&self, reference: &str, json: &Sensitive) -> Result<Written, Error> {
        let parsed = writable(reference)?;
        let raw: &RawValue = serde_json::from_slice(json.expose()).map_err(|_| Error::InvalidRequest("the value is no JSON".to_owned()))?;
        if parsed.keypath.is_empty() { self.update(reference, json).await } else { self.merge(&parsed, raw).await }
    }

    /// As [`Secrets::update`], or [`Secrets::create`] where there is nothing; a member then becomes an object with it. Where what is there has other
    /// `attributes` than are asked for, nothing is written: it would keep its own.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn put(&self, reference: &str, value: &Sensitive, attributes: &Attributes) -> Result<Written, Error> {
        let parsed = writable(reference)?;
        if *attributes != Attributes::default() {
            self.compare(&parsed.source, attributes).await?;
        }
        let answer = self.change(&parsed, value).await;
        if !matches!(answer, Err(Error::NotFound(_))) {
            return answer;
        }
        let made = self.create(&parsed.source.to_string(), &object(&parsed.keypath, value)?, attributes).await;
        // Somebody else made it a moment ago.
        if let Err(Error::AlreadyExists(_)) = made { self.update(reference, value).await } else { made }
    }

    /// Deletes what a reference names; the time when it is gone for good, if the store says one. [`Recovery::Within`]: Secrets Manager keeps it for so long,
    /// Vault its former versions; the others can't bring anything back.
    ///
    /// # Errors
    ///
    /// See [`Error`]; what isn't there is [`Error::NotFound`], unless it goes by force.
    pub async fn delete(&self, reference: &str, recovery: Recovery) -> Result<Option<String>, Error> {
        let source = whole(reference)?;
        self.written(&source, async || self.writer(source.store)?.delete(&source, recovery).await).await
    }

    /// Brings back what was deleted: in Secrets Manager before its time is over, in Vault the newest version.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn restore(&self, reference: &str) -> Result<(), Error> {
        let source = whole(reference)?;
        self.written(&source, async || self.writer(source.store)?.restore(&source).await).await
    }

    /// A token for one look at what a reference names, by whoever has it, within this time: Vault and Edge.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn wrap(&self, reference: &str, life: Duration) -> Result<Wrapped, Error> {
        let source = whole(reference)?;
        let answer = match self.opened(source.store)? {
            Opened::Vault(provider) => provider.wrap(&source, life).await,
            Opened::Edge(provider) => provider.wrap(&source, life).await,
            Opened::Aws(_) | Opened::Roboto(_) | Opened::Envase(_) => return Err(Error::written(&source, unsupported(source.store, "wrap a value"))),
        };
        answer.map_err(|error| error.about(&source).into())
    }

    /// What is known about something, without its value.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn describe(&self, reference: &str) -> Result<Described, Error> {
        let source = whole(reference)?;
        let described = match self.opened(source.store)? {
            opened @ (Opened::Vault(_) | Opened::Edge(_)) => match opened.describe(&source).await {
                // That takes a right of its own; the version comes with the value, too.
                Some(Err(WriteError::Failed(error))) if error.reason == Reason::AccessDenied => None,
                Some(Ok(Described { version: None, .. })) => Some(Err(WriteError::NotFound)),
                described => described,
            },
            Opened::Envase(provider) => Some(provider.describe(&source).await),
            opened => opened.describe(&source).await,
        };
        let Some(described) = described else {
            let ServedVersion { arn, id, created, .. } = self.ask(&Question::Value(source)).await?.version;
            let version = Some(id).filter(|id| !id.starts_with(ServedVersion::KEYED));
            return Ok(Described { arn: Some(arn), version, created, ..Described::default() });
        };
        described.map_err(|error| Error::written(&source, error))
    }

    /// Whether what is there, if anything is, has these attributes.
    async fn compare(&self, source: &Source, attributes: &Attributes) -> Result<(), Error> {
        let described = match self.describe(&source.to_string()).await {
            Err(Error::NotFound(_)) => return Ok(()),
            described => described?,
        };
        let Attributes { description, tags, kms_key, kind, tier } = attributes;
        let has = described.tags.unwrap_or_default();
        let other = [
            ("another description", description.is_some() && *description != described.description),
            ("other tags", tags.iter().any(|(name, value)| has.get(name) != Some(value))),
            ("another encryption key", kms_key.is_some() && *kms_key != described.kms_key),
            ("another type", kind.is_some() && *kind != described.kind),
            ("another tier", tier.is_some() && *tier != described.tier),
        ];
        match other.into_iter().find(|(_, differs)| *differs) {
            Some((what, _)) => {
                Err(Error::InvalidRequest(format!("{source}: it is there with {what}, which it would keep; leave that out, or delete it first")))
            }
            None => Ok(()),
        }
    }

    fn writer(&self, store: Store) -> Result<&Opened, WriteError> {
        self.opened(store).map_err(|error| WriteError::Refused(error.to_string()))
    }

    /// Puts a member into the JSON that is there, anew for each change that somebody else makes meanwhile. Where the store can't compare and this was written
    /// over somebody's change, that is done again, too, however often it takes.
    async fn merge(&self, Reference { source, keypath }: &Reference, json: &RawValue) -> Result<Written, Error> {
        if matches!(source.store, Store::Roboto | Store::Envase) {
            return Err(incomparable(source));
        }
        let start = source.staged();
        // What others made of what, and this wrote over: done again before anything else.
        let mut owed = Owed::default();
        let mut said = None;
        for _ in 0..MERGES {
            let reading = self.ask(&Question::Value(start.clone())).await?;
            if !reading.version.lasts() {
                return Err(incomparable(source));
            }
            let there = json_text(source, &reading)?;
            let value = match owed.onto(&there).and_then(|text| replace(utf8(&text)?, keypath, json.get())) {
                Ok(value) => value,
                // That something is owed is worse than that it can't be done again.
                Err(error) => return Err(said.unwrap_or_else(|| about(source, &error))),
            };
            let answer = self.written(source, async || self.writer(source.store)?.update(source, &value, Some(&reading.version), None).await).await;
            match answer {
                Err(Error::Conflict { over: None, .. }) => {}
                Err(Error::Conflict { message, over: Some((from, written)) }) if written > from + 1 => {
                    let told = Error::Conflict { message, over: Some((from, written)) };
                    let read = |number| {
                        let version = Question::Value(Source { version: Some(Version::Number(number)), ..source.clone() });
                        async move { self.ask(&version).await.and_then(|reading| json_text(source, &reading)).ok() }.boxed()
                    };
                    if !owed.learn(from, written, read).await {
                        return Err(told);
                    }
                    said = Some(told);
                }
                answer => return answer,
            }
            tokio::time::sleep(jittered(super::PAUSE)).await;
        }
        Err(said.unwrap_or_else(|| Error::Conflict { message: format!("{source}: others write this all the time; try again"), over: None }))
    }

    /// Does a write, again while the store only asks to slow down.
    async fn written<T>(&self, source: &Source, mut write: impl AsyncFnMut() -> Result<T, WriteError>) -> Result<T, Error> {
        let mut pause = super::PAUSE;
        let mut left = self.tries;
        let answer = loop {
            left = left.saturating_sub(1);
            match write().await {
                Err(WriteError::Failed(error)) if left > 0 && error.reason == Reason::Throttled => tokio::time::sleep(jittered(pause)).await,
                answer => break answer,
            }
            pause *= 2;
        };
        // Also after a failure: it may have been written all the same.
        if let Some(cache) = &self.cache {
            cache.empty().await;
        }
        answer.map_err(|error| Error::written(source, error))
    }
}

/// The JSON that was read.
fn json_text(source: &Source, reading: &Reading) -> Result<Sensitive, Error> {
    match &reading.value {
        Value::Text(text) => Ok(text.clone()),
        Value::Binary(_) | Value::List(_) => Err(Error::KeypathNotFound(format!("{source}: the value is binary and has no members"))),
    }
}

fn incomparable(source: &Source) -> Error {
    Error::written(source, unsupported(source.store, "compare; write the whole value, which takes the place of whatever others write meanwhile"))
}

/// A reference that may be written to.
fn writable(reference: &str) -> Result<Reference, Error> {
    let parsed: Reference = reference.parse()?;
    if !parsed.source.through_secrets_manager().is_empty() {
        return Err(Error::InvalidRequest(format!("{}: it stands for a secret; write that by its own reference, aws.sm://NAME", parsed.source)));
    }
    // AWS's own rules are its provider's.
    if parsed.source.version.is_some() && !parsed.source.store.is_aws() {
        return Err(Error::InvalidRequest(format!("{}: what is written becomes the newest version; leave the version out", parsed.source)));
    }
    Ok(parsed)
}

/// One that means all of a value.
fn whole(reference: &str) -> Result<Source, Error> {
    let Reference { source, keypath } = writable(reference)?;
    if keypath.is_empty() { Ok(source) } else { Err(Error::InvalidRequest(format!("{source}: this is done to a whole value; leave the keypath out"))) }
}

/// A value, or an object with it at this keypath.
fn object(keypath: &[String], value: &Sensitive) -> Result<Sensitive, Error> {
    let Some((first, rest)) = keypath.split_first() else { return Ok(value.clone()) };
    let broken = || Error::InvalidRequest("a member of JSON is text, and the value is not UTF-8".to_owned());
    let inner = if rest.is_empty() {
        let text = std::str::from_utf8(value.expose()).map_err(|_| broken())?;
        Sensitive::from(serde_json::to_string(text).map_err(|_| broken())?)
    } else {
        object(rest, value)?
    };
    let raw: &RawValue = serde_json::from_slice(inner.expose()).map_err(|_| broken())?;
    serde_json::to_string(&BTreeMap::from([(first, raw)])).map(Sensitive::from).map_err(|_| broken())
}
