//! Envase Vault: standard secrets and those of organisations, over HTTP or by its Lambda function.
//!
//! Questions enter, readings leave. It has no list and no versions: a change shows by the value alone. Tokens are kept until two thirds of their life
//! are over. Over HTTP, secrets can also be made, changed and deleted; its function only reads.

mod payload;

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures::{FutureExt, future::BoxFuture};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{
    Method,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderName},
};
use serde::Deserialize;

use self::payload::Told;
use super::{
    Calls, Family, Lot, LotAnswer, Provider, Question, ReadError, Reading, Route, ServedVersion, Value, WriteError,
    aws::{Ambient, Principal, lambda::Functions},
    grants::Grants,
    http::{Http, secret_header},
    kept::{Kept, Made},
    mirrored_elsewhere, misunderstood, observed,
    standing::{self, Standing},
    writing::{Described, Written},
};
use crate::{
    api::{
        Reason,
        envase::{EnvaseFields, EnvaseHttp, EnvaseLambda, EnvaseSpec, Environment},
        reference::Source,
    },
    sensitive::Sensitive,
    telemetry::Metrics,
};

/// Reads of Envase Vault.
pub const READS: Family = Family("EnvaseReads");
/// How a token is shown.
const BEARER: &str = "Bearer ";

/// A provider that reads Envase Vault.
pub struct EnvaseProvider {
    way: Way,
    fields: EnvaseFields,
    /// What a 404 holds that is the store's own.
    not_found: Option<String>,
    /// What this client has read. Another token, another spec and another process begin anew: the same address may be another tenant's for them.
    served: Mutex<HashSet<String>>,
    account: String,
    standing: Standing,
    metrics: Metrics,
}

enum Way {
    Http(Box<Web>),
    Lambda(Box<Cloud>),
}

/// Over HTTP.
struct Web {
    http: Http,
    spec: EnvaseHttp,
    base: String,
    token_url: String,
    /// A token, or a client's secret.
    grants: Box<dyn Grants>,
    token: Kept<Sensitive>,
    api_key: Option<(HeaderName, Box<dyn Grants>, Kept<Sensitive>)>,
}

/// By a function.
struct Cloud {
    functions: Functions,
    function: String,
    payload: String,
}

/// What a token endpoint answers.
#[derive(Deserialize)]
struct Given {
    access_token: String,
    #[serde(default)]
    expires_in: Option<Seconds>,
}

/// A number, which some write as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(u64),
    Text(String),
}

impl EnvaseProvider {
    /// Over HTTP; nothing is called yet. `api_key` hands out the key that is sent besides, where the spec has one; `payer`: whose calls they are.
    pub fn over_http(
        spec: &EnvaseSpec,
        http: &EnvaseHttp,
        grants: Box<dyn Grants>,
        api_key: Option<Box<dyn Grants>>,
        payer: &str,
        metrics: Metrics,
    ) -> Result<Self, ReadError> {
        let unnamed = || ReadError::new(Reason::InvalidSpec, "the provider names neither an environment that is known nor the addresses itself");
        let environment = spec.environment.as_deref().and_then(Environment::named);
        let base = http.base_url.clone().or_else(|| environment.map(Environment::base_url)).ok_or_else(unnamed)?;
        let written = http.auth.oauth.as_ref().and_then(|oauth| oauth.token_url.clone());
        let token_url = match &http.auth.oauth {
            None => String::new(),
            Some(_) => written.or_else(|| environment.map(|environment| environment.token_url().to_owned())).ok_or_else(unnamed)?,
        };
        let header = http.api_key.as_ref().and_then(|key| key.header.as_deref()).unwrap_or("x-api-key");
        let header = HeaderName::try_from(header).map_err(|_| ReadError::new(Reason::InvalidSpec, "the provider's apiKey.header is no header"))?;
        let base = base.trim_end_matches('/').to_owned();
        let way = Way::Http(Box::new(Web {
            http: Http::new(http.ca_bundle.as_deref())?,
            spec: http.clone(),
            token_url,
            grants,
            token: Kept::default(),
            api_key: api_key.map(|grants| (header, grants, Kept::default())),
            base: base.clone(),
        }));
        Ok(Self::by(way, spec, format!("{payer}/{base}"), metrics))
    }

    /// By its function; nothing is called yet.
    pub fn by_lambda(spec: &EnvaseSpec, lambda: &EnvaseLambda, principal: Principal, ambient: &Ambient, metrics: Metrics) -> Result<Self, ReadError> {
        let environment = spec.environment.as_deref().and_then(Environment::named);
        let function = lambda.function.clone().or_else(|| environment.map(|environment| format!("{}-get-secret", environment.prefix())));
        let function = function.ok_or_else(|| ReadError::new(Reason::InvalidSpec, "the provider names neither an environment that is known nor a function"))?;
        let functions = Functions::new(&lambda.aws, principal, ambient, metrics.clone());
        let account = format!("{}/{function}", functions.account());
        let payload = lambda.payload.clone().unwrap_or_else(|| payload::DEFAULT_PAYLOAD.to_owned());
        Ok(Self::by(Way::Lambda(Box::new(Cloud { functions, function, payload })), spec, account, metrics))
    }

    fn by(way: Way, spec: &EnvaseSpec, account: String, metrics: Metrics) -> Self {
        Self {
            way,
            fields: spec.fields.clone(),
            not_found: spec.not_found.clone(),
            served: Mutex::default(),
            account,
            standing: Standing::new(spec.limits),
            metrics,
        }
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// What no read gets past since this long, or soon won't: no other token is given.
    #[must_use]
    pub fn in_trouble(&self) -> Option<(Duration, ReadError)> {
        self.standing.in_trouble().or_else(|| self.token_trouble())
    }

    fn token_trouble(&self) -> Option<(Duration, ReadError)> {
        match &self.way {
            Way::Http(web) => web.token.refused(),
            Way::Lambda(_) => None,
        }
    }

    /// As whom it reads, if that is known: a client by its id, a token by nothing that could be told.
    #[must_use]
    pub fn known_identity(&self) -> Option<String> {
        match &self.way {
            Way::Http(web) => Some(web.spec.auth.oauth.as_ref().map_or_else(|| "the holder of the token".to_owned(), |oauth| oauth.client_id.clone())),
            Way::Lambda(cloud) => cloud.functions.known_caller().map(|caller| caller.arn),
        }
    }

    /// As whom it reads; a client's secret is tried.
    pub async fn identity(&self, anew: bool) -> Result<String, ReadError> {
        match &self.way {
            Way::Http(web) => {
                web.token(&self.metrics).await?;
                if let Some((_, error)) = self.token_trouble() {
                    return Err(error);
                }
                let refused = self.standing.in_trouble().filter(|(_, error)| error.reason == Reason::CredentialsError);
                // Whether a token of a Secret is good shows when it is used.
                if let (None, Some((_, error))) = (&web.spec.auth.oauth, refused) {
                    return Err(error);
                }
                let identity = self.known_identity().unwrap_or_default();
                self.standing.let_in(&identity);
                Ok(identity)
            }
            Way::Lambda(cloud) => {
                let caller = cloud.functions.caller(anew).await?;
                self.standing.let_in(&caller.arn);
                Ok(caller.arn)
            }
        }
    }

    async fn ask(&self, api: &'static str, method: Method, place: &str, body: Option<&Sensitive>) -> Result<Told, ReadError> {
        let web = self.web()?;
        observed(&self.metrics, ("envase", api, 1), |error: &ReadError| error.reason, web.ask(method, place, body, &self.metrics)).await
    }

    /// Where a source is, as an address that tells it from all others.
    fn address_of(&self, source: &Source) -> String {
        match &self.way {
            Way::Http(web) => format!("envase:{}/{}", web.base, web.place(source)),
            Way::Lambda(cloud) => format!("envase:{}/{}/{}", cloud.functions.region(), cloud.function, source.id()),
        }
    }

    async fn read(&self, source: &Source) -> Result<Reading, ReadError> {
        let (key, _) = source.organized();
        let value = payload::secret(&self.fetch(source).await?, &self.fields, &key)?;
        self.served.lock().unwrap_or_else(PoisonError::into_inner).insert(source.id());
        let id = std::str::from_utf8(value.expose()).map(ServedVersion::keyed).map_err(|_| misunderstood())?;
        let version = ServedVersion { arn: self.address_of(source), id, created: None, region: None };
        Ok(Reading { value: Value::Text(value), version, denotes: source.denotes(), record: None })
    }

    /// What the store answers about a secret, the value and what is said of it.
    async fn fetch(&self, source: &Source) -> Result<Sensitive, ReadError> {
        let (key, organization) = source.organized();
        let told = match &self.way {
            Way::Http(web) => self.ask("Read", Method::GET, &web.place(source), None).await?,
            Way::Lambda(cloud) => {
                let payload = payload::invocation(&cloud.payload, &key, organization.as_deref())?;
                payload::told(&cloud.functions.invoke(&cloud.function, payload).await?)?
            }
        };
        if told.status == 404 {
            return Err(self.missing(source, &told.body));
        }
        if !(200..=203).contains(&told.status) {
            return Err(payload::client_error(told.status));
        }
        Ok(told.body)
    }

    /// Why there is nothing. Whatever stands in between may say so as well, of a way that is wrong: only the words that the provider's spec names are the
    /// store's, and only about what this client has read.
    fn missing(&self, source: &Source, body: &Sensitive) -> ReadError {
        let is_stores = self.not_found.as_ref().is_some_and(|text| payload::holds(body, text));
        let absent = is_stores && self.served.lock().unwrap_or_else(PoisonError::into_inner).contains(&source.id());
        ReadError { absent, ..payload::client_error(404) }
    }

    async fn presence(&self, source: &Source, arn: &str) -> Result<Reading, ReadError> {
        if arn != self.address_of(source) {
            return Err(mirrored_elsewhere("address"));
        }
        self.read(source).await
    }

    async fn read_alone(&self, question: &Question) -> Result<Reading, ReadError> {
        let answer = match question {
            // Only an answer to a question about its presence says that something is gone.
            Question::Value(source) => self.read(source).await.map_err(|error| ReadError { absent: false, ..error }),
            Question::Presence { source, arn } => self.presence(source, arn).await,
            Question::Tags(_) | Question::List(_) => Err(ReadError::new(Reason::InvalidSpec, "Envase has neither tags nor a list of its secrets")),
        };
        answer.map_err(|error| error.about(question))
    }

    /// Makes a secret. `value`: JSON.
    pub async fn create(&self, source: &Source, value: &Sensitive, description: Option<&str>) -> Result<Written, WriteError> {
        let (key, organization) = source.organized();
        let place = payload::path(self.web()?.spec.paths.collection(organization.is_some()), &key, organization.as_deref());
        let body = payload::sent(&self.fields, &key, value, description)?;
        let told = self.ask("Create", Method::POST, &place, Some(&body)).await?;
        match told.status {
            200..=299 => Ok(self.written(source)),
            409 => Err(WriteError::AlreadyExists),
            status => Err(payload::write_error(status)),
        }
    }

    fn written(&self, source: &Source) -> Written {
        Written { arn: self.address_of(source), version: String::new() }
    }

    /// What is known besides the value, which comes along.
    pub async fn describe(&self, source: &Source) -> Result<Described, WriteError> {
        let body = self.fetch(source).await?;
        Ok(Described { arn: Some(self.address_of(source)), description: payload::description(&body, &self.fields)?, ..Described::default() })
    }

    /// Puts another value in place of the one that is there. `description`: `None` keeps the one that is there, if that may be read.
    pub async fn update(&self, source: &Source, value: &Sensitive, description: Option<&str>) -> Result<Written, WriteError> {
        let (key, _) = source.organized();
        // A secret is put as a whole: what isn't sent would be gone.
        let known = match description {
            Some(_) => None,
            None => match self.describe(source).await {
                // Who may write and not read can't know of one; where nothing is, the write says so.
                Err(WriteError::Failed(error)) if matches!(error.reason, Reason::AccessDenied | Reason::SourceNotFound) => None,
                known => known?.description,
            },
        };
        let body = payload::sent(&self.fields, &key, value, description.or(known.as_deref()))?;
        let told = self.ask("Update", Method::PUT, &self.web()?.place(source), Some(&body)).await?;
        match told.status {
            200..=299 => Ok(self.written(source)),
            404 => Err(WriteError::NotFound),
            status => Err(payload::write_error(status)),
        }
    }

    /// Deletes a secret; whether it was there.
    pub async fn delete(&self, source: &Source) -> Result<bool, WriteError> {
        let told = self.ask("Delete", Method::DELETE, &self.web()?.place(source), None).await?;
        match told.status {
            200..=299 => Ok(true),
            404 => Ok(false),
            status => Err(payload::write_error(status)),
        }
    }

    fn web(&self) -> Result<&Web, ReadError> {
        match &self.way {
            Way::Http(web) => Ok(web),
            Way::Lambda(_) => Err(ReadError::new(Reason::InvalidSpec, "the provider reads by a function, which does not write")),
        }
    }
}

impl Web {
    /// Where a source is, below the address.
    fn place(&self, source: &Source) -> String {
        let (key, organization) = source.organized();
        payload::path(self.spec.paths.item(organization.is_some()), &key, organization.as_deref())
    }

    async fn ask(&self, method: Method, place: &str, body: Option<&Sensitive>, metrics: &Metrics) -> Result<Told, ReadError> {
        for last in [false, true] {
            let token = self.token(metrics).await?;
            let mut request = self.http.client().request(method.clone(), format!("{}/{place}", self.base));
            request = request.header(AUTHORIZATION, secret_header(BEARER, &token)?);
            if let Some((header, grants, kept)) = &self.api_key {
                let key = kept.get(async |_| Ok(Made::lasting(grants.grant().await?.secret()?))).await?;
                request = request.header(header, secret_header("", &key)?);
            }
            if let Some(body) = body {
                request = request.header(CONTENT_TYPE, "application/json").body(body.expose().to_vec());
            }
            let answer = self.http.send(request).await?;
            // A token that was given for a client may have been taken back; another is given once.
            if answer.status != 401 || last || self.spec.auth.oauth.is_none() {
                return Ok(Told { status: answer.status, body: answer.body });
            }
            self.token.discard(|known| known.expose() == token.expose()).await;
        }
        Err(misunderstood())
    }

    /// A token that works, as far as is known.
    async fn token(&self, metrics: &Metrics) -> Result<Sensitive, ReadError> {
        self.token.get(|_| observed(metrics, ("envase", "Token", 1), |error: &ReadError| error.reason, self.make_token())).await
    }

    async fn make_token(&self) -> Result<Made<Sensitive>, ReadError> {
        let secret = self.grants.grant().await?.secret()?;
        let Some(oauth) = &self.spec.auth.oauth else { return Ok(Made::lasting(secret)) };
        let basic = Sensitive::new([oauth.client_id.as_bytes(), b":", secret.expose()].concat());
        let basic = Sensitive::from(BASE64_STANDARD.encode(basic.expose()));
        let scope = oauth.scope.as_deref().map(|scope| format!("&scope={}", utf8_percent_encode(scope, NON_ALPHANUMERIC))).unwrap_or_default();
        let request = self.http.client().post(&self.token_url).header(AUTHORIZATION, secret_header("Basic ", &basic)?);
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(format!("grant_type=client_credentials{scope}"));
        let answer = self.http.send(request).await?;
        match answer.status {
            200 => {
                let unusable = || {
                    ReadError::new(
                        Reason::ProviderUnavailable,
                        "what is given for a token can't be used; check the address of tokens (the provider's tokenUrl, on the command line ENVASE_TOKEN_URL)",
                    )
                };
                let Given { access_token, expires_in } = serde_json::from_slice(answer.body.expose()).map_err(|_| unusable())?;
                let token = Sensitive::from(access_token);
                secret_header(BEARER, &token).map_err(|_| unusable())?;
                let seconds = match expires_in {
                    Some(Seconds::Number(seconds)) => Some(seconds),
                    Some(Seconds::Text(text)) => text.parse().ok(),
                    None => None,
                };
                // One that doesn't say how long it lives is taken for as short as they come.
                Ok(Made::living(token, seconds.filter(|seconds| *seconds > 0).unwrap_or(300)))
            }
            status @ (400 | 401 | 403) => {
                let problem = "no token is given for the client; check its id, its secret and the scope";
                Err(ReadError::new(Reason::CredentialsError, format!("{problem} (HTTP {status})")))
            }
            429 => Err(ReadError::new(Reason::Throttled, "tokens are given more slowly (HTTP 429)")),
            status => Err(ReadError::new(Reason::ProviderUnavailable, format!("no token could be had (HTTP {status})"))),
        }
    }
}

impl Provider for EnvaseProvider {
    fn route(&self, question: &Question) -> Route {
        standing::route("envase", READS, question)
    }

    fn account(&self) -> &str {
        &self.account
    }

    fn ceilings(&self) -> Vec<(Family, f64)> {
        self.standing.ceilings(READS)
    }

    fn read_one<'a>(&'a self, question: &'a Question, _: &'a Calls) -> BoxFuture<'a, Result<Reading, ReadError>> {
        self.read_alone(question).inspect(|answer| self.standing.note(answer)).boxed()
    }

    fn read_lot<'a>(&'a self, _: &'static Lot, questions: &'a [Question]) -> BoxFuture<'a, LotAnswer> {
        std::future::ready(LotAnswer::never(questions)).boxed()
    }
}
