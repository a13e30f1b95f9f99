//! A Roboto platform: secrets of organisations, which the platform knows and AWS Secrets Manager keeps.
//!
//! Questions enter, readings leave (what is written: `writing.rs`). The platform says where a value is and lends credentials for it; the value itself
//! never passes through its API.
//! Names go into addresses as they are, as its own SDK sends them: the grammar of references lets none through that would mean something else there.

mod wire;
mod writing;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::{FutureExt, future::BoxFuture};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{
    RequestBuilder,
    header::{AUTHORIZATION, HeaderName},
};
use serde::de::DeserializeOwned;

use self::wire::{Access, Page, Record, Refused, data, refused};
use super::{
    Calls, Family, Listing, Lot, LotAnswer, MOST_NAMES, Provider, Question, ReadError, Reading, Route, ServedVersion, Value,
    aws::{
        Ambient,
        lent::{Lender, Lent},
    },
    grants::Grants,
    http::{Answer, Http, secret_header},
    kept::{Kept, Made},
    mirrored_elsewhere, misunderstood, observed, silent,
    standing::{self, Standing},
    too_many_names,
};
use crate::{
    api::{
        Reason,
        reference::{Source, Store},
        roboto::{DEFAULT_ENDPOINT, RobotoSpec},
        status::SourceRecord,
    },
    sensitive::Sensitive,
    telemetry::Metrics,
};

/// Reads and lists of a platform.
pub const READS: Family = Family("RobotoReads");
/// How long credentials that were lent are used. The platform doesn't say how long they live; AWS gives none for less than 15 minutes, of which some
/// may be over when the platform hands them out. When AWS refuses them, others are asked for at once.
const LENT_FOR: Duration = Duration::from_mins(5);
/// The version of the API that is spoken, as SDK 0.62 sends it.
const API_VERSION: &str = "2026-10-06";

const VERSION: HeaderName = HeaderName::from_static("x-roboto-api-version");
const OWNER: HeaderName = HeaderName::from_static("x-roboto-resource-owner-id");
/// What tokens begin with that the platform takes no more.
const DEPRECATED: &[u8] = b"robo_pat";

/// A provider that reads a Roboto platform.
pub struct RobotoPlatform {
    http: Http,
    endpoint: String,
    org: Option<String>,
    grants: Box<dyn Grants>,
    key: Kept<Sensitive>,
    lender: Lender,
    /// Where values are and what they are read with, by name and organisation.
    held: Mutex<HashMap<(String, Option<String>), Held>>,
    account: String,
    standing: Standing,
    metrics: Metrics,
}

/// What the platform said of a secret, for a while.
#[derive(Clone)]
struct Held {
    since: Instant,
    arn: String,
    org: String,
    record: SourceRecord,
    lent: Lent,
}

impl RobotoPlatform {
    /// Prepares the client; nothing is called yet. `payer`: whose calls they are, so that limits are shared.
    pub fn new(spec: &RobotoSpec, grants: Box<dyn Grants>, ambient: &Ambient, payer: &str, metrics: Metrics) -> Result<Self, ReadError> {
        let endpoint = spec.endpoint.as_deref().unwrap_or(DEFAULT_ENDPOINT).trim_end_matches('/').to_owned();
        Ok(Self {
            http: Http::new(spec.ca_bundle.as_deref())?,
            account: format!("{payer}/{endpoint}"),
            endpoint,
            org: spec.org_id.clone(),
            grants,
            key: Kept::default(),
            lender: Lender::new(ambient, spec.secrets_manager_endpoint.clone(), metrics.clone()),
            held: Mutex::default(),
            standing: Standing::new(spec.limits),
            metrics,
        })
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// As whom it reads: the organisation. The platform is asked for a list, which every key of one may have.
    pub async fn identity(&self) -> Result<String, ReadError> {
        let identity = match self.get::<Page>("List", "secrets", self.org.as_deref()).await {
            Ok(page) => {
                let org = page.items.first().map(|record| record.org_id.clone()).or_else(|| self.org.clone());
                org.unwrap_or_else(|| "the organisation of the API key".to_owned())
            }
            // The key is good; each reference has to say which.
            Err(refused) if refused.for_want_of_org => "several organisations".to_owned(),
            Err(refused) => return Err(refused.into()),
        };
        self.standing.let_in(&identity);
        Ok(identity)
    }

    async fn key(&self) -> Result<Sensitive, ReadError> {
        let make = async |_| {
            let key = self.grants.grant().await?.secret()?;
            if key.expose().starts_with(DEPRECATED) {
                let problem = "the API key is a personal access token of the old kind, which the platform takes no more; put another one into the provider's Secret, or on the command line into ROBOTO_API_KEY";
                return Err(ReadError::new(Reason::CredentialsError, problem));
            }
            Ok(Made::lasting(key))
        };
        self.key.get(make).await
    }

    /// What the platform tells about this.
    async fn get<T: DeserializeOwned>(&self, api: &'static str, place: &str, org: Option<&str>) -> Result<T, Refused> {
        let mut request = self.http.client().get(self.address(place));
        if let Some(org) = org {
            request = request.header(OWNER, org);
        }
        let told = |answer: &Answer| if is_success(answer) { Ok(data(&answer.body)?) } else { Err(refused(answer.status, &answer.body)) };
        self.call(api, request, |refused: &Refused| refused.error.reason, told).await
    }

    fn address(&self, place: &str) -> String {
        format!("{}/v1/{place}", self.endpoint)
    }

    /// Sends a request as whoever has the key; what its answer tells.
    async fn call<T, E: From<ReadError>>(
        &self,
        api: &'static str,
        request: RequestBuilder,
        reason: impl Fn(&E) -> Reason,
        told: impl FnOnce(&Answer) -> Result<T, E>,
    ) -> Result<T, E> {
        let key = self.key().await?;
        let request = request.header(AUTHORIZATION, secret_header("Bearer ", &key)?).header(VERSION, API_VERSION);
        observed(&self.metrics, ("roboto", api, 1), reason, async { told(&self.http.send(request).await?) }).await
    }

    /// The organisation that a source belongs to, as far as that is written.
    fn organized(&self, source: &Source) -> (String, Option<String>) {
        let (name, org) = source.organized();
        (name, org.or_else(|| self.org.clone()))
    }

    /// Where a secret is, as an address that tells it from all others.
    fn address_of(&self, org: &str, name: &str) -> String {
        format!("roboto:{}/{org}/{name}", self.endpoint)
    }

    fn held(&self) -> MutexGuard<'_, HashMap<(String, Option<String>), Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self, source: &Source, (name, org): (String, Option<String>)) -> Result<Reading, ReadError> {
        let place = (name, org);
        let held = self.held().get(&place).filter(|held| held.since.elapsed() < LENT_FOR).cloned();
        if let Some(held) = held {
            // The platform is asked beside: it may have made another by that name, or may let the key in no more.
            let whole = format!("secrets/name/{}", place.0);
            let record = self.get::<Record>("Record", &whole, place.1.as_deref());
            let (record, answer) = Box::pin(futures::future::join(record, self.lender.read(&held.arn, &held.lent))).await;
            let record = record?;
            check(&record, &place)?;
            let is_same = record.arn()? == held.arn && record.org_id == held.org;
            match answer {
                Ok(answer) if is_same => return self.reading(source, &place.0, &Held { record: record.told(), ..held }, answer),
                Err(error) if is_same && error.reason == Reason::Throttled => return Err(error),
                // It may be that what was lent is good no more, or that the value has moved.
                _ => drop(self.held().remove(&place)),
            }
        }
        let access: Access = self.get("Creds", &format!("secrets/name/{}/creds", place.0), place.1.as_deref()).await?;
        let (record, lent) = access.lent()?;
        check(&record, &place)?;
        let held = Held { since: Instant::now(), arn: record.arn()?.to_owned(), org: record.org_id.clone(), record: record.told(), lent };
        let answer = self.lender.read(&held.arn, &held.lent).await.map_err(elsewhere)?;
        {
            let mut all = self.held();
            // As many as were looked up lately, and no more.
            if all.len() == all.capacity() {
                all.retain(|_, held| held.since.elapsed() < LENT_FOR);
            }
            all.insert(place.clone(), held.clone());
        }
        self.reading(source, &place.0, &held, answer)
    }

    /// The reading of a secret from what Secrets Manager has.
    fn reading(&self, source: &Source, name: &str, held: &Held, there: Reading) -> Result<Reading, ReadError> {
        if matches!(there.value, Value::Binary(_)) {
            return Err(ReadError::new(Reason::DecodeError, "the value is binary, and secrets of Roboto are text"));
        }
        let version = ServedVersion { arn: self.address_of(&held.org, name), ..there.version };
        Ok(Reading { version, denotes: source.denotes(), record: Some(held.record.clone()), ..there })
    }

    async fn presence(&self, source: &Source, arn: &str) -> Result<Reading, ReadError> {
        let (name, org) = self.organized(source);
        // Where it was mirrored from: asked of another organisation, it may be missing for ever without being gone.
        let before = arn.strip_prefix(&format!("roboto:{}/", self.endpoint)).and_then(|rest| rest.strip_suffix(&format!("/{name}")));
        let Some(before) = before.filter(|before| org.as_deref().is_none_or(|org| org == *before)) else {
            return Err(mirrored_elsewhere("place"));
        };
        let record: Record = self.get("Record", &format!("secrets/name/{name}"), Some(before)).await?;
        check(&record, &(name.clone(), Some(before.to_owned())))?;
        // It is there: whatever its value says, it is not gone.
        self.read(source, (name, org)).await.map_err(|error| ReadError { absent: false, ..error })
    }

    /// All names below a path, of one organisation. A part of the list never passes for the whole.
    async fn list(&self, listing: &Listing, calls: &Calls) -> Result<Reading, ReadError> {
        let path = listing.path.as_deref().map(|path| path.trim_end_matches('/'));
        let is_in = |name: &str| {
            let rest = path.map_or(Some(name), |path| name.strip_prefix(path)?.strip_prefix('/'));
            // One with an @ could be taken for another's of another organisation.
            !name.contains('@') && rest.is_some_and(|rest| !rest.is_empty() && (listing.recursive || !rest.contains('/')))
        };
        let (mut found, mut token) = (BTreeMap::new(), None::<String>);
        loop {
            let query = token.as_ref().map(|token| format!("?page_token={}", utf8_percent_encode(token, NON_ALPHANUMERIC))).unwrap_or_default();
            let page = calls.make(self.get::<Page>("List", &format!("secrets{query}"), self.org.as_deref()).boxed()).await;
            let Page { items, next_token } = page.ok_or_else(silent)??;
            for record in items {
                if self.org.as_ref().is_some_and(|org| *org != record.org_id) {
                    return Err(misunderstood());
                }
                if is_in(&record.name) {
                    found.insert(record.name, None);
                }
            }
            calls.found(found.len());
            if found.len() > MOST_NAMES {
                return Err(too_many_names());
            }
            match next_token.filter(|next| !next.is_empty()) {
                None => return Ok(Reading::list(Store::Roboto, found)),
                // It would never end.
                next if next == token => return Err(misunderstood()),
                next => token = next,
            }
        }
    }

    async fn read_alone(&self, question: &Question, calls: &Calls) -> Result<Reading, ReadError> {
        let answer = match question {
            // Only an answer to a question about its presence says that something is gone.
            Question::Value(source) => self.read(source, self.organized(source)).await.map_err(|error| ReadError { absent: false, ..error }),
            Question::Presence { source, arn } => self.presence(source, arn).await,
            Question::Tags(_) => Err(ReadError::new(Reason::InvalidSpec, "secrets of Roboto have no tags")),
            Question::List(listing) => self.list(listing, calls).await.map_err(|error| ReadError { absent: false, ..error }),
        };
        answer.map_err(|error| error.about(question))
    }
}

fn is_success(answer: &Answer) -> bool {
    (200..300).contains(&answer.status)
}

/// Whether a record is of what was asked for.
fn check(record: &Record, (name, org): &(String, Option<String>)) -> Result<(), ReadError> {
    let same = record.name == *name && org.as_ref().is_none_or(|org| *org == record.org_id);
    if same { Ok(()) } else { Err(misunderstood()) }
}

/// What Secrets Manager refuses is told with whose credentials it was asked.
fn elsewhere(error: ReadError) -> ReadError {
    let problem = match error.reason {
        Reason::SourceNotFound => "the platform knows it, and Secrets Manager, where the platform keeps its value, has none yet or none any more",
        Reason::AccessDenied | Reason::CredentialsError => "Secrets Manager refuses the credentials that the platform lends for it",
        _ => return error,
    };
    // They are the platform's: the provider's own are good.
    let reason = if error.reason == Reason::SourceNotFound { Reason::SourceNotFound } else { Reason::AccessDenied };
    ReadError { reason, message: format!("{problem}: {}", error.message), absent: false, ..error }
}

impl Provider for RobotoPlatform {
    fn route(&self, question: &Question) -> Route {
        standing::route("roboto", READS, question)
    }

    fn account(&self) -> &str {
        &self.account
    }

    fn ceilings(&self) -> Vec<(Family, f64)> {
        self.standing.ceilings(READS)
    }

    fn read_one<'a>(&'a self, question: &'a Question, calls: &'a Calls) -> BoxFuture<'a, Result<Reading, ReadError>> {
        self.read_alone(question, calls).inspect(|answer| self.standing.note(answer)).boxed()
    }

    fn read_lot<'a>(&'a self, _: &'static Lot, questions: &'a [Question]) -> BoxFuture<'a, LotAnswer> {
        std::future::ready(LotAnswer::never(questions)).boxed()
    }
}
