//! An emulated AWS in this process: Secrets Manager, SSM's Parameter Store, STS and Lambda as far as this project uses them, fast enough for
//! a bench, and behind a [`Front`] that counts and misbehaves. Calls enter over HTTP and through methods, values leave. It answers as AWS
//! is documented or was seen to; what it can't do it refuses aloud, and it must never guess.

mod functions;
mod parameters;
mod roles;
mod secrets;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use aws_sdk_secretsmanager::primitives::{DateTime, DateTimeFormat as Format};
use serde_json::{Value, json};

use crate::aws;
use crate::front::wire::{Reply, error_response, json_response, xml_response};
use crate::front::{Answer, Behind, Call, FaultId, Front, Stale};
use functions::Functions;
use parameters::Parameters;
use roles::Roles;
use secrets::{Content, Secrets};

/// The running emulator, empty at the start. It is a [`Front`], with all its counts and faults, and what stands behind it. All methods
/// take `&self` and work with and without a runtime; those that put, take or change something make no call. Ends on drop.
pub struct Emulator {
    front: Front,
    store: Arc<Mutex<Store>>,
}

impl Deref for Emulator {
    type Target = Front;

    fn deref(&self) -> &Front {
        &self.front
    }
}

impl Debug for Emulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emulator").field("front", &self.front).finish_non_exhaustive()
    }
}

impl Emulator {
    /// Listens on a free loopback port. `GET /credentials` on it answers as the credentials endpoint of an ECS container does
    /// (`AWS_CONTAINER_CREDENTIALS_FULL_URI`), with another access key id each time; any credentials are accepted.
    pub fn start() -> Result<Self> {
        let store = Arc::new(Mutex::new(Store::default()));
        Ok(Self { front: Front::before(Behind::Store(Arc::clone(&store)))?, store })
    }

    /// Puts a text, as a new secret or as a new version that becomes the current one; its version id. A scheduled deletion is undone.
    pub fn put_secret(&self, name: &str, value: &str) -> String {
        self.store().put(name, Content::Text(value.to_owned()))
    }

    /// Puts bytes; otherwise as [`Emulator::put_secret`].
    pub fn put_binary(&self, name: &str, value: &[u8]) -> String {
        self.store().put(name, Content::binary(value))
    }

    /// Puts many texts by name.
    pub fn put_secrets(&self, secrets: impl IntoIterator<Item = (String, String)>) {
        let mut store = self.store();
        for (name, value) in secrets {
            store.put(&name, Content::Text(value));
        }
    }

    /// Makes a secret without any value. An error if there is one of that name.
    pub fn put_empty_secret(&self, name: &str) -> Result<()> {
        let mut store = self.store();
        let now = store.now();
        store.secrets.create(name, None, now)?;
        Ok(())
    }

    /// The version before becomes the current one again, as an operator does in an emergency. An error if there is none.
    pub fn rollback(&self, name: &str) -> Result<()> {
        let mut store = self.store();
        let now = store.now();
        Ok(store.secrets.rollback(name, now)?)
    }

    /// The ARN of a secret.
    pub fn secret_arn(&self, name: &str) -> Result<String> {
        Ok(self.store().secrets.get(name)?.arn.clone())
    }

    /// Deletes a secret at once, without a recovery window. An error if it isn't there.
    pub fn delete_secret(&self, name: &str) -> Result<()> {
        Ok(self.store().secrets.remove(name)?)
    }

    /// Marks a secret for deletion in 30 days, which makes every read of it fail. An error if it isn't there.
    pub fn schedule_deletion(&self, name: &str) -> Result<()> {
        let mut store = self.store();
        let now = store.now();
        store.secrets.schedule(name, now, 30)?;
        Ok(())
    }

    /// Gives a secret these tags, in place of all that it has. An error if it isn't there.
    pub fn tag_secret(&self, name: &str, tags: &[(&str, &str)]) -> Result<()> {
        Ok(self.store().secrets.tag(name, owned(tags))?)
    }

    /// Gives a parameter these tags, in place of all that it has. An error if it isn't there.
    pub fn tag_parameter(&self, name: &str, tags: &[(&str, &str)]) -> Result<()> {
        Ok(self.store().parameters.tag(name, owned(tags))?)
    }

    /// Puts a parameter, as a new `SecureString` or as the next version of what is there; its version.
    pub fn put_parameter(&self, name: &str, value: &str) -> u64 {
        self.store().put_parameter(name, value)
    }

    /// Puts many parameters by name.
    pub fn put_parameters(&self, parameters: impl IntoIterator<Item = (String, String)>) {
        let mut store = self.store();
        for (name, value) in parameters {
            store.put_parameter(&name, &value);
        }
    }

    /// Moves a label to a version of a parameter. An error if either isn't there.
    pub fn label_parameter(&self, name: &str, version: u64, label: &str) -> Result<()> {
        Ok(self.store().parameters.label(name, version, label)?)
    }

    /// Deletes a parameter. An error if it isn't there.
    pub fn delete_parameter(&self, name: &str) -> Result<()> {
        Ok(self.store().parameters.remove(name)?)
    }

    /// Lets a Lambda function tell a secret under a key; `organization` "" for none. The function is made if it isn't there.
    pub fn put_function_secret(&self, function: &str, organization: &str, key: &str, secret: &Value) {
        let place = (organization.to_owned(), key.to_owned());
        self.store().functions.0.entry(function.to_owned()).or_default().secrets.insert(place, secret.clone());
    }

    /// Lets a Lambda function tell nothing under a key any more.
    pub fn take_function_secret(&self, function: &str, organization: &str, key: &str) {
        let place = (organization.to_owned(), key.to_owned());
        self.store().functions.0.entry(function.to_owned()).or_default().secrets.remove(&place);
    }

    /// Lets a Lambda function break off with an error, or no longer.
    pub fn break_function(&self, function: &str, broken: bool) {
        self.store().functions.0.entry(function.to_owned()).or_default().broken = broken;
    }

    /// What keeps values in its Secrets Manager, for a double that stands on it.
    #[must_use]
    pub fn keeper(&self) -> Keeper {
        Keeper(Arc::clone(&self.store))
    }

    /// The next `reads` reads of a secret or parameter after each write answer what was there before; see [`Answer::Stale`].
    pub fn stale_reads(&self, reads: u32) -> FaultId {
        self.always(Answer::Stale { reads, within: Duration::ZERO })
    }

    /// Reads within `within` of a write answer what was there before; see [`Answer::Stale`].
    pub fn stale_for(&self, within: Duration) -> FaultId {
        self.always(Answer::Stale { reads: 0, within })
    }

    /// How long the credentials that `/credentials` gives from now on are valid (at the start 6 h).
    pub fn credentials_live(&self, life: Duration) {
        self.store().credentials_life = life;
    }

    /// How long the credentials of roles that are assumed from now on are valid (at the start 1 h); what is signed with them afterwards is refused.
    pub fn roles_live(&self, life: Duration) {
        self.store().roles.life = life;
    }

    /// How often `/credentials` was asked since the start or [`Front::forget_calls`].
    #[must_use]
    pub fn credentials_asked(&self) -> u64 {
        self.totals().get("GetCredentials").map_or(0, |total| total.calls)
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps values in an emulator's Secrets Manager.
#[derive(Clone)]
pub struct Keeper(Arc<Mutex<Store>>);

impl Keeper {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a secret without a value; its ARN.
    #[must_use]
    pub fn create(&self, name: &str) -> String {
        let mut store = self.store();
        let now = store.now();
        let _ = store.secrets.create(name, None, now);
        store.secrets.get(name).map(|secret| secret.arn.clone()).unwrap_or_default()
    }

    /// Puts a text.
    pub fn put(&self, name: &str, value: &str) {
        self.store().put(name, Content::Text(value.to_owned()));
    }

    /// Puts bytes.
    pub fn put_binary(&self, name: &str, value: &[u8]) {
        self.store().put(name, Content::binary(value));
    }

    /// Deletes a secret.
    pub fn delete(&self, name: &str) {
        let _ = self.store().secrets.remove(name);
    }
}

/// Why a call is refused, as AWS words it; always with status 400. It names no value.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refusal {
    code: &'static str,
    message: String,
}

impl Refusal {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    fn validation(message: impl Into<String>) -> Self {
        Self::new("ValidationException", message)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Refusal {}

/// The body of an answer, or why there is none.
type Answered = Result<Vec<u8>, Refusal>;

/// The last change of what reads answer, for stale reads.
#[derive(Debug)]
struct Write<V> {
    at: Instant,
    /// The version that was read before; none if there was nothing.
    before: Option<V>,
    /// How many reads answered it since.
    stale_reads: Cell<u32>,
}

impl<V> Write<V> {
    fn new(before: Option<V>) -> Self {
        Self { at: Instant::now(), before, stale_reads: Cell::new(0) }
    }

    /// Whether a read made now doesn't see it yet.
    fn is_unseen(&self, lag: Option<Stale>) -> bool {
        let Some(Stale { reads, within }) = lag else { return false };
        let unseen = self.stale_reads.get() < reads || self.at.elapsed() < within;
        self.stale_reads.set(self.stale_reads.get() + u32::from(unseen));
        unseen
    }
}

/// All that the emulated AWS holds.
pub(crate) struct Store {
    secrets: Secrets,
    parameters: Parameters,
    roles: Roles,
    functions: Functions,
    credentials_life: Duration,
    credentials_given: u64,
    last_microsecond: u64,
}

impl Default for Store {
    fn default() -> Self {
        let (secrets, parameters, roles, functions) = (Secrets::default(), Parameters::default(), Roles::default(), Functions::default());
        Self { secrets, parameters, roles, functions, credentials_life: Duration::from_secs(6 * 3600), credentials_given: 0, last_microsecond: 0 }
    }
}

impl Store {
    /// Answers a call, whoever makes it.
    pub(crate) fn answer(&mut self, call: &Call, question: &Value, lag: Option<Stale>) -> Reply {
        let now = self.now();
        if let Some(Refusal { code, message }) = self.roles.refuse(call, now) {
            return error_response(call.service, if call.service == "sts" { 403 } else { 400 }, code, &message);
        }
        let answered = match call.service {
            "secretsmanager" => self.secrets.answer(&call.action, question, now, lag),
            "ssm" => self.parameters.answer(&call.action, question, now, lag),
            "sts" => match self.roles.answer(call, now) {
                Ok(body) => return xml_response(200, body),
                Err(refusal) => Err(refusal),
            },
            "lambda" => return self.functions.answer(call.ids.first().map_or("", String::as_str), question),
            "credentials" => Ok(self.credentials(now)),
            _ => Err(unknown(&call.action)),
        };
        match answered {
            Ok(body) => json_response(200, body.into()),
            Err(Refusal { code, message }) => error_response(call.service, 400, code, &message),
        }
    }

    fn put(&mut self, name: &str, content: Content) -> String {
        let now = self.now();
        self.secrets.put(name, content, now)
    }

    fn put_parameter(&mut self, name: &str, value: &str) -> u64 {
        let now = self.now();
        self.parameters.put(name, value, None, now)
    }

    /// Seconds since 1970. Never the same twice, so that what is deleted and made again at once has another date; AWS's dates have
    /// milliseconds, but nobody is that fast there. Whole microseconds: JSON keeps these as they are however often it is read and written.
    fn now(&mut self) -> f64 {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        self.last_microsecond = u64::try_from(now.as_micros()).unwrap_or(u64::MAX).max(self.last_microsecond + 1);
        Duration::from_micros(self.last_microsecond).as_secs_f64()
    }

    fn credentials(&mut self, now: f64) -> Vec<u8> {
        self.credentials_given += 1;
        let expiration = DateTime::from_secs_f64(now + self.credentials_life.as_secs_f64()).fmt(Format::DateTime).unwrap_or_default();
        json!({
            "AccessKeyId": format!("ASIATESTBED{:09}", self.credentials_given),
            "SecretAccessKey": aws::SECRET_ACCESS_KEY,
            "Token": format!("token-{}", self.credentials_given),
            "Expiration": expiration,
        })
        .to_string()
        .into_bytes()
    }
}

fn unknown(action: &str) -> Refusal {
    Refusal::new("UnknownOperationException", format!("the emulator doesn't know {action}"))
}

/// The text field `field` of a request, "" not counting.
fn text<'a>(question: &'a Value, field: &str) -> Option<&'a str> {
    question[field].as_str().filter(|text| !text.is_empty())
}

fn required<'a>(question: &'a Value, field: &str) -> Result<&'a str, Refusal> {
    text(question, field)
        .ok_or_else(|| Refusal::validation(format!("1 validation error detected: Value at '{field}' failed to satisfy constraint: Member must not be null")))
}

/// Tags by key.
type Tags = BTreeMap<String, String>;

fn owned(tags: &[(&str, &str)]) -> Tags {
    tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// The tags of a request that makes something.
fn tags(question: &Value) -> Tags {
    let pair = |tag: &Value| Some((tag["Key"].as_str()?.to_owned(), tag["Value"].as_str().unwrap_or_default().to_owned()));
    question["Tags"].as_array().into_iter().flatten().filter_map(pair).collect()
}

/// Tags as answers have them.
fn tag_list(tags: &Tags) -> Value {
    tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect()
}

/// The texts in the list `field` of a filter.
fn words<'a>(filter: &'a Value, field: &str) -> Vec<&'a str> {
    filter[field].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Items of a list with their names, and the `NextToken`.
type Page<'a, T> = (Vec<(&'a str, &'a T)>, Option<&'a str>);

/// The page of a list by name that a request asks for, of at most `most` items, and its `NextToken`. A token is the last name before.
fn page<'a, T>(question: &Value, most: usize, found: impl Iterator<Item = (&'a String, &'a T)>) -> Result<Page<'a, T>, Refusal> {
    let size = match question["MaxResults"].as_u64().map(usize::try_from) {
        None => most,
        Some(Ok(size)) if (1..=most).contains(&size) => size,
        Some(_) => {
            let message =
                format!("1 validation error detected: Value at 'maxResults' failed to satisfy constraint: Member must have value less than or equal to {most}");
            return Err(Refusal::validation(message));
        }
    };
    let after = text(question, "NextToken");
    let mut rest = found.skip_while(|(name, _)| after.is_some_and(|after| name.as_str() <= after));
    let page: Vec<_> = rest.by_ref().take(size).map(|(name, item)| (name.as_str(), item)).collect();
    let next = page.last().map(|(name, _)| *name).filter(|_| rest.next().is_some());
    Ok((page, next))
}

/// The list `field` of a batch, of 1 to `most` texts.
fn list<'a>(question: &'a Value, field: &str, most: usize) -> Result<Vec<&'a str>, Refusal> {
    let items: Vec<&str> = question[field].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if (1..=most).contains(&items.len()) {
        return Ok(items);
    }
    Err(Refusal::validation(format!(
        "1 validation error detected: Value at '{field}' failed to satisfy constraint: Member must have length less than or equal to {most} and greater than or equal to 1"
    )))
}

fn body(answer: &impl serde::Serialize) -> Answered {
    serde_json::to_vec(answer).map_err(|_| Refusal::new("InternalServiceError", "an answer can't be written"))
}
