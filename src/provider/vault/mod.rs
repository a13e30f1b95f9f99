//! Vault and `OpenBao`: values of their key-value stores, with versions or without, one call each; and which there are below a path.
//!
//! Questions enter, readings leave. The name of a source is its mount and its path there. What Vault says about a failure goes to nobody: it may
//! repeat what it was asked; its status goes to the user, with the remedy.

mod session;
mod writing;

pub(super) use writing::object;

use std::{collections::BTreeSet, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use reqwest::{Method, RequestBuilder, header::HeaderName};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::value::RawValue;

use self::session::{Session, Token};
use super::{
    Calls, Family, Listing, Lot, LotAnswer, MOST_NAMES, Provider, Question, ReadError, Reading, Route, ServedVersion, Value,
    grants::Grants,
    http::{Answer, Http, secret_header, segment},
    mirrored_elsewhere, misunderstood, observed, silent,
    standing::{self, Standing},
    too_many_names,
};
use crate::{
    api::{
        Reason,
        reference::{Name, Source, Store, Version},
        vault::{KeyValue, VaultSpec},
    },
    sensitive::Sensitive,
    telemetry::Metrics,
};

/// Reads and lists of Vault.
pub const READS: Family = Family("VaultReads");

/// How old a token is that can't be told from one that Vault doesn't know any more, before it is replaced when something is refused to it.
const LOG_IN_AGAIN: Duration = Duration::from_mins(1);

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const WRAP_TTL: HeaderName = HeaderName::from_static("x-vault-wrap-ttl");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
/// Sent with each request: an agent in between that adds a token of its own takes it as a sign that nobody was tricked into asking.
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

/// One request.
struct Ask<'a> {
    /// What it is called in metrics.
    api: &'static str,
    method: Method,
    place: &'a str,
    query: &'a str,
    body: Option<Sensitive>,
    wrapped_for: Option<Duration>,
}

impl<'a> Ask<'a> {
    const fn new(api: &'static str, method: Method, place: &'a str) -> Self {
        Self { api, method, place, query: "", body: None, wrapped_for: None }
    }
}

/// A token that is good for one look at what it wraps.
#[derive(Clone, Debug)]
pub struct Wrapped {
    /// The token. Whoever has it has what it wraps, once.
    pub token: Sensitive,
    /// Where it is exchanged, by an HTTP POST without a body and with the token in the header `X-Vault-Token`.
    pub unwrap_url: String,
    /// The namespace, for the header `X-Vault-Namespace`, if there is one.
    pub namespace: Option<String>,
    /// How long it is good.
    pub life: Duration,
}

#[derive(Deserialize)]
struct WrapAnswer {
    wrap_info: WrapInfo,
}

#[derive(Deserialize)]
struct WrapInfo {
    token: String,
    ttl: u64,
}

/// The way to a server.
struct Door {
    http: Http,
    address: String,
    namespace: Option<String>,
}

impl Door {
    fn url(&self, place: &str, query: &str) -> String {
        let segments: Vec<String> = place.split('/').map(segment).collect();
        format!("{}/v1/{}{query}", self.address, segments.join("/"))
    }

    fn headed(&self, request: RequestBuilder, token: Option<&Sensitive>) -> Result<RequestBuilder, ReadError> {
        let mut request = request.header(REQUEST, "true");
        if let Some(namespace) = &self.namespace {
            request = request.header(NAMESPACE, namespace);
        }
        if let Some(token) = token {
            request = request.header(TOKEN, secret_header("", token)?);
        }
        Ok(request)
    }

    async fn get(&self, place: &str, query: &str, token: &Sensitive) -> Result<Answer, ReadError> {
        self.send(&Ask { query, ..Ask::new("Read", Method::GET, place) }, token).await
    }

    async fn send(&self, ask: &Ask<'_>, token: &Sensitive) -> Result<Answer, ReadError> {
        let mut request = self.http.client().request(ask.method.clone(), self.url(ask.place, ask.query));
        if let Some(body) = &ask.body {
            request = request.body(body.expose().to_vec());
        }
        if let Some(life) = ask.wrapped_for {
            request = request.header(WRAP_TTL, life.as_secs());
        }
        self.http.send(self.headed(request, Some(token))?).await
    }

    async fn post(&self, place: &str, token: Option<&Sensitive>, body: &impl Serialize) -> Result<Answer, ReadError> {
        let body = serde_json::to_vec(body).map_err(|_| misunderstood())?;
        self.http.send(self.headed(self.http.client().post(self.url(place, "")).body(body), token)?).await
    }
}

/// A provider that reads Vault.
pub struct VaultProvider {
    door: Door,
    key_value: KeyValue,
    session: Session,
    account: String,
    standing: Standing,
    metrics: Metrics,
}

/// The answer to a read of version 2.
#[derive(Deserialize)]
struct Versioned<'a> {
    #[serde(borrow)]
    data: VersionedData<'a>,
}

#[derive(Deserialize)]
struct VersionedData<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    metadata: Meta,
}

#[derive(Deserialize)]
struct Meta {
    version: u64,
    #[serde(default)]
    created_time: String,
    #[serde(default)]
    deletion_time: String,
    #[serde(default)]
    destroyed: bool,
}

/// The answer to a read of version 1.
#[derive(Deserialize)]
struct Plain<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
}

/// What comes with a 404.
#[derive(Deserialize, Default)]
struct Silence {
    errors: Option<Vec<IgnoredAny>>,
    warnings: Option<Vec<IgnoredAny>>,
}

#[derive(Deserialize)]
struct Listed {
    data: Keys,
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<String>,
}

impl VaultProvider {
    /// Prepares the client; nothing is called yet. `payer`: whose calls they are, so that limits are shared.
    pub fn new(spec: &VaultSpec, grants: Box<dyn Grants>, payer: &str, metrics: Metrics) -> Result<Self, ReadError> {
        let address = spec.address.trim_end_matches('/').to_owned();
        let namespace = spec.namespace.as_deref().map(|namespace| namespace.trim_end_matches('/').to_owned());
        let account = format!("{payer}/{address}/{}", namespace.as_deref().unwrap_or_default());
        Ok(Self {
            door: Door { http: Http::new(spec.ca_bundle.as_deref())?, address, namespace },
            key_value: spec.key_value,
            session: Session::new(spec.auth.clone(), grants),
            account,
            standing: Standing::new(spec.limits),
            metrics,
        })
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// As whom it reads: Vault's display name of the token.
    pub async fn identity(&self) -> Result<String, ReadError> {
        let token = self.session.token(&self.door).await?;
        if let Some((_, error)) = self.session.trouble() {
            return Err(error);
        }
        self.standing.let_in(&token.identity);
        Ok(token.identity)
    }

    /// What no read gets past since this long, or soon won't: no other token is given.
    #[must_use]
    pub fn in_trouble(&self) -> Option<(Duration, ReadError)> {
        self.standing.in_trouble().or_else(|| self.session.trouble())
    }

    /// Asks with a token that works; one that was refused meanwhile is replaced once.
    async fn ask(&self, ask: &Ask<'_>) -> Result<Answer, ReadError> {
        for last in [false, true] {
            let token: Token = self.session.token(&self.door).await?;
            let call = observed(&self.metrics, ("vault", ask.api, 1), |error: &ReadError| error.reason, self.door.send(ask, &token.secret));
            let answer = call.await?;
            if answer.status != 403 {
                return Ok(answer);
            }
            // Vault says the same of a token that it doesn't know and of a path that a known one may not read.
            let is_known = if token.looks {
                match self.door.get("auth/token/lookup-self", "", &token.secret).await?.status {
                    200 => true,
                    401 | 403 => false,
                    // It says nothing about the token now.
                    status => return Err(by_status(status)),
                }
            } else {
                token.since.elapsed() < LOG_IN_AGAIN
            };
            if is_known || last {
                return Ok(answer);
            }
            self.session.refused(&token).await;
        }
        Err(misunderstood())
    }

    /// The answer to a question; an error names it not yet.
    pub(super) async fn answer(&self, question: &Question, calls: &Calls) -> Result<Reading, ReadError> {
        match question {
            Question::Value(source) => self.read(source).await,
            Question::Presence { source, arn } => self.presence(source, arn).await,
            Question::Tags(_) => Err(ReadError::new(Reason::InvalidSpec, "values in Vault have no tags")),
            Question::List(listing) => {
                let names = self.names(listing, calls).await?;
                Ok(Reading::list(Store::Vault, names.into_iter().map(|name| (name, None)).collect()))
            }
        }
    }

    /// Vault's id of whoever reads; empty where it has none.
    pub(super) async fn entity(&self) -> Result<String, ReadError> {
        self.session.token(&self.door).await.map(|token| token.entity)
    }

    /// A token for one look at a source, within this time.
    pub async fn wrap(&self, source: &Source, life: Duration) -> Result<Wrapped, ReadError> {
        let place = self.place_of(source, "data")?;
        let answer = self.ask(&Ask { wrapped_for: Some(life), ..Ask::new("Wrap", Method::GET, &place) }).await?;
        match answer.status {
            200 => {
                let WrapAnswer { wrap_info } = serde_json::from_slice(answer.body.expose()).map_err(|_| misunderstood())?;
                Ok(Wrapped {
                    token: Sensitive::from(wrap_info.token),
                    unwrap_url: self.door.url("sys/wrapping/unwrap", ""),
                    namespace: self.door.namespace.clone(),
                    life: Duration::from_secs(wrap_info.ttl),
                })
            }
            404 => Err(missing(&answer.body, false)),
            status => Err(refusal("read", status)),
        }
    }

    /// Where a source is. `kind`: the part of a store of version 2.
    fn place_of(&self, source: &Source, kind: &str) -> Result<String, ReadError> {
        let (mount, path) = split(source)?;
        Ok(match self.key_value {
            KeyValue::V1 => format!("{mount}/{path}"),
            KeyValue::V2 => format!("{mount}/{kind}/{path}"),
        })
    }

    /// Where a source is, as an address that tells it from all others.
    fn address_of(&self, name: &str) -> String {
        let namespace = self.door.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
        // The other version of the store has another thing by the same name, or nothing.
        let store = if self.key_value == KeyValue::V1 { "vault.v1" } else { "vault" };
        format!("{store}:{}/{namespace}{name}", self.door.address)
    }

    async fn read(&self, source: &Source) -> Result<Reading, ReadError> {
        let place = self.place_of(source, "data")?;
        let query = match (&source.version, self.key_value) {
            (None, _) => String::new(),
            (Some(Version::Number(number)), KeyValue::V2) => format!("?version={number}"),
            _ => return Err(ReadError::new(Reason::InvalidSpec, "version 1 of the key-value store has no versions; leave the version out")),
        };
        let answer = self.ask(&Ask { query: &query, ..Ask::new("Read", Method::GET, &place) }).await?;
        match answer.status {
            200 => self.reading(&source.id(), &answer.body),
            404 => Err(missing(&answer.body, source.version.is_some())),
            status => Err(refusal("read", status)),
        }
    }

    fn reading(&self, name: &str, body: &Sensitive) -> Result<Reading, ReadError> {
        let (text, id, created) = match self.key_value {
            KeyValue::V1 => {
                let Plain { data } = serde_json::from_slice(body.expose()).map_err(|_| misunderstood())?;
                (data.get(), ServedVersion::keyed(data.get()), None)
            }
            KeyValue::V2 => {
                let Versioned { data } = serde_json::from_slice(body.expose()).map_err(|_| misunderstood())?;
                let value = data.data.ok_or_else(misunderstood)?;
                (value.get(), data.metadata.version.to_string(), Some(data.metadata.created_time).filter(|time| !time.is_empty()))
            }
        };
        // It keeps nothing else; what a proxy or a wrapped answer has there would replace what is good.
        if !text.starts_with('{') {
            return Err(misunderstood());
        }
        let version = ServedVersion { arn: self.address_of(name), id, created, region: None };
        let value = Value::Text(Sensitive::from(text.to_owned()));
        Ok(Reading { value, version, denotes: vec![format!("vault://{name}")], record: None })
    }

    async fn presence(&self, source: &Source, arn: &str) -> Result<Reading, ReadError> {
        let Name::Plain(name) = &source.name else { return Err(misunderstood()) };
        if self.address_of(name) != arn {
            return Err(mirrored_elsewhere("address"));
        }
        self.read(&Source { version: None, ..source.clone() }).await
    }

    /// All names below a path: a folder a call.
    pub(super) async fn names(&self, listing: &Listing, calls: &Calls) -> Result<BTreeSet<String>, ReadError> {
        let start = listing.path.as_deref().unwrap_or_default().trim_end_matches('/');
        let (mount, path) = start.split_once('/').unwrap_or((start, ""));
        let top = if path.is_empty() { String::new() } else { format!("{path}/") };
        let mut folders = vec![top.clone()];
        let mut found = BTreeSet::new();
        while let Some(folder) = folders.pop() {
            let place = match self.key_value {
                KeyValue::V1 => format!("{mount}/{folder}"),
                KeyValue::V2 => format!("{mount}/metadata/{folder}"),
            };
            let call = calls.make(self.ask(&Ask { query: "?list=true", ..Ask::new("List", Method::GET, place.trim_end_matches('/')) }).boxed()).await;
            let answer = call.ok_or_else(silent)??;
            match answer.status {
                200 => {
                    let Listed { data } = serde_json::from_slice(answer.body.expose()).map_err(|_| misunderstood())?;
                    for key in data.keys {
                        let name = key.strip_suffix('/').unwrap_or(&key);
                        // No reference could name it, and an address could lead out of the folder.
                        if name.is_empty() || name == "." || name == ".." || name.contains('/') {
                            continue;
                        }
                        match key.strip_suffix('/') {
                            Some(inner) if listing.recursive => folders.push(format!("{folder}{inner}/")),
                            Some(_) => {}
                            None => drop(found.insert(format!("{mount}/{folder}{key}"))),
                        }
                    }
                }
                // An empty folder is none; but one that was listed a moment ago, or that somebody else than the store says nothing of, has something.
                404 if folder == top && said_plainly(&answer.body) => {}
                404 => return Err(ReadError::new(Reason::ProviderUnavailable, format!("a part of the list is missing: {mount}/{folder} (HTTP 404)"))),
                status => return Err(refusal("list", status)),
            }
            calls.found(found.len());
            if found.len() + folders.len() > MOST_NAMES {
                return Err(too_many_names());
            }
        }
        Ok(found)
    }
}

/// Why there is nothing. Only Vault's plain word that there is no such value, or that it was deleted, is proof that it is gone: a mount that is
/// missing, or is of the other version than the provider says, has everything still.
fn missing(body: &Sensitive, versioned: bool) -> ReadError {
    let there = serde_json::from_slice::<Versioned<'_>>(body.expose()).ok().map(|Versioned { data }| data.metadata);
    let destroyed = there.as_ref().is_some_and(|meta| meta.destroyed);
    let deleted = destroyed || there.is_some_and(|meta| !meta.deletion_time.is_empty());
    let silent = said_plainly(body);
    let problem = match (versioned, deleted, silent) {
        (true, ..) => "Vault has no such value, or not in this version; check path and version",
        (_, true, _) if destroyed => "its current version was destroyed; put another",
        (_, true, _) => "its current version was deleted; restore it (Vault's undelete), or put another",
        (_, _, true) => {
            "Vault has no such value; check the path, and the version of this key-value store (the provider's keyValue; the command line reads version 2)"
        }
        _ => {
            "Vault has no such mount, or its key-value store is of another version (the provider's keyValue; the command line reads version 2); check both, and the namespace"
        }
    };
    ReadError { absent: !versioned && (deleted || silent), ..ReadError::new(Reason::SourceNotFound, problem) }
}

/// Whether Vault itself says with a 404 that there is nothing.
fn said_plainly(body: &Sensitive) -> bool {
    let said: Silence = serde_json::from_slice(body.expose()).unwrap_or_default();
    said.errors.is_some_and(|errors| errors.is_empty()) && said.warnings.unwrap_or_default().is_empty()
}

/// Mount and path of a source.
fn split(source: &Source) -> Result<(&str, &str), ReadError> {
    match &source.name {
        Name::Plain(name) => name.split_once('/').ok_or_else(misunderstood),
        Name::Arn(_) => Err(misunderstood()),
    }
}

fn denied(capability: &str) -> ReadError {
    ReadError::new(Reason::AccessDenied, format!("the identity may not {capability} this; give it a policy with {capability} on the path (HTTP 403)"))
}

/// Why there is no answer.
pub(super) fn refusal(capability: &str, status: u16) -> ReadError {
    if status == 403 { denied(capability) } else { by_status(status) }
}

/// What a status says of which nothing else is known.
fn by_status(status: u16) -> ReadError {
    let (reason, problem) = match status {
        429 => (Reason::Throttled, "Vault asks for fewer calls"),
        503 => (Reason::ProviderUnavailable, "Vault is sealed or in maintenance"),
        501 => (Reason::ProviderUnavailable, "Vault is not initialized"),
        412 | 472 | 473 => (Reason::ProviderUnavailable, "this node of Vault can't answer yet"),
        300..=399 => (Reason::ProviderUnavailable, "Vault redirects to another address, which is not followed; name that one instead"),
        500..=599 => (Reason::ProviderUnavailable, "Vault failed"),
        _ => (Reason::ProviderUnavailable, "Vault refused the call"),
    };
    ReadError::new(reason, format!("{problem} (HTTP {status})"))
}

impl Provider for VaultProvider {
    fn route(&self, question: &Question) -> Route {
        standing::route("vault", READS, question)
    }

    fn account(&self) -> &str {
        &self.account
    }

    fn ceilings(&self) -> Vec<(Family, f64)> {
        self.standing.ceilings(READS)
    }

    fn read_one<'a>(&'a self, question: &'a Question, calls: &'a Calls) -> BoxFuture<'a, Result<Reading, ReadError>> {
        let read = self.answer(question, calls).map(|answer| answer.map_err(|error| error.about(question)));
        read.inspect(|answer| self.standing.note(answer)).boxed()
    }

    fn read_lot<'a>(&'a self, _: &'static Lot, questions: &'a [Question]) -> BoxFuture<'a, LotAnswer> {
        std::future::ready(LotAnswer::never(questions)).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_word_is_proof_that_a_value_is_gone() {
        let deleted = r#"{"data":{"data":null,"metadata":{"version":2,"created_time":"t","deletion_time":"2026-01-01T00:00:00Z","destroyed":false}}}"#;
        let destroyed = r#"{"data":{"data":null,"metadata":{"version":2,"created_time":"t","deletion_time":"","destroyed":true}}}"#;
        for (body, versioned, absent) in [
            (r#"{"errors":[]}"#, false, true),
            (deleted, false, true),
            (destroyed, false, true),
            (r#"{"errors":[]}"#, true, false),
            (deleted, true, false),
            (r#"{"errors":["no handler for route \"kv/data/x\". route entry not found."]}"#, false, false),
            (r#"{"errors":[],"warnings":["Invalid path for a versioned K/V secrets engine"]}"#, false, false),
            (r#"{"data":null,"warnings":["Invalid path for a versioned K/V secrets engine"]}"#, false, false),
            (r#"{"data":{"data":null,"metadata":{"version":2,"created_time":"t"}}}"#, false, false),
            ("", false, false),
            ("<html>", false, false),
            ("[]", false, false),
        ] {
            let error = missing(&Sensitive::from(body.to_owned()), versioned);
            assert_eq!((error.absent, error.reason), (absent, Reason::SourceNotFound), "{body} {versioned}");
        }
    }
}
