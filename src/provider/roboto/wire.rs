//! What a Roboto platform answers: records, credentials, pages and refusals, as version 0.62 of its SDK takes them.
//!
//! Bodies enter; what they say leaves, or why it can't be used. What the platform says in words about a failure goes to nobody: it may repeat what it
//! was asked. Pure: no I/O.

use std::borrow::Cow;

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    api::{Reason, status::SourceRecord},
    provider::{ReadError, WriteError, aws::lent::Lent, misunderstood},
    sensitive::Sensitive,
};

/// The only kind of store that is known, here and to the SDK.
const AWS: &str = "aws";

#[derive(Deserialize)]
struct Data<T> {
    data: T,
}

/// What the platform knows about a secret.
#[derive(Debug, Deserialize)]
pub(super) struct Record {
    pub(super) name: String,
    pub(super) org_id: String,
    location: Location,
    store_type: String,
    #[serde(default)]
    created: Option<Time>,
    #[serde(default)]
    modified: Option<Time>,
    #[serde(default)]
    last_used: Option<Time>,
}

#[derive(Debug, Deserialize)]
struct Location {
    store_type: String,
    arn: Option<String>,
}

/// A time: text of ISO 8601, or seconds since 1970.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Time {
    Text(String),
    Seconds(f64),
}

impl Time {
    fn told(&self) -> Option<String> {
        let time: Option<Timestamp> = match self {
            Self::Text(text) => text.parse().ok(),
            Self::Seconds(seconds) => std::time::Duration::try_from_secs_f64(*seconds).ok().and_then(|since| Timestamp::UNIX_EPOCH.checked_add(since).ok()),
        };
        time.map(|time| time.to_string())
    }
}

impl Record {
    /// The ARN of the secret that holds the value.
    pub(super) fn arn(&self) -> Result<&str, ReadError> {
        known_store(&self.store_type)?;
        known_store(&self.location.store_type)?;
        self.location.arn.as_deref().ok_or_else(misunderstood)
    }

    /// What of it a status tells.
    pub(super) fn told(&self) -> SourceRecord {
        let told = |time: &Option<Time>| time.as_ref().and_then(Time::told);
        SourceRecord { created: told(&self.created), modified: told(&self.modified), last_used: told(&self.last_used) }
    }
}

/// A record, and what its value is read with.
#[derive(Deserialize)]
pub(super) struct Access {
    pub(super) record: Record,
    creds: Creds,
}

#[derive(Deserialize)]
struct Creds {
    store_type: String,
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    session_token: Option<String>,
    region: Option<String>,
}

impl Access {
    /// The record, and the credentials.
    pub(super) fn lent(self) -> Result<(Record, Lent), ReadError> {
        let Self { record, creds } = self;
        let secret = creds.secret_access_key.map(Sensitive::from);
        let token = creds.session_token.map(Sensitive::from);
        known_store(&creds.store_type)?;
        let lent = || Some(Lent { region: creds.region?, access_key_id: creds.access_key_id?, secret_access_key: secret?, session_token: token? });
        Ok((record, lent().ok_or_else(misunderstood)?))
    }
}

fn known_store(kind: &str) -> Result<(), ReadError> {
    if kind == AWS {
        Ok(())
    } else {
        Err(ReadError::new(Reason::SourceNotFound, "the platform keeps its value in a store of another kind than aws, which nothing here can read"))
    }
}

/// One page of a list.
#[derive(Deserialize)]
pub(super) struct Page {
    pub(super) items: Vec<Record>,
    /// Where the next one begins. It must be written: an answer without it may have been cut short.
    #[serde(deserialize_with = "Option::deserialize")]
    pub(super) next_token: Option<String>,
}

/// What an answer of success holds.
pub(super) fn data<T: DeserializeOwned>(body: &Sensitive) -> Result<T, ReadError> {
    serde_json::from_slice::<Data<T>>(body.expose()).map(|Data { data }| data).map_err(|_| misunderstood())
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    error: Said<'a>,
}

#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow)]
    error_code: Cow<'a, str>,
}

/// A call that was refused.
pub(super) struct Refused {
    pub(super) error: ReadError,
    /// Only because the key belongs to several organisations and none was named.
    pub(super) for_want_of_org: bool,
}

impl From<ReadError> for Refused {
    fn from(error: ReadError) -> Self {
        Self { error, for_want_of_org: false }
    }
}

impl From<Refused> for ReadError {
    fn from(refused: Refused) -> Self {
        refused.error
    }
}

/// Why a call was refused. Only the platform's own word that there is no such secret is proof that it is gone; an address that is wrong answers 404 too.
pub(super) fn refused(status: u16, body: &Sensitive) -> Refused {
    let (code, by_status) = class(status, body);
    let (code, class) = (code.as_deref(), code.as_deref().unwrap_or(by_status));
    let (reason, problem) = match class {
        "RobotoNotFoundException" if code.is_some() => {
            (Reason::SourceNotFound, "the platform has no such secret in this organisation; check the name and the organisation")
        }
        "RobotoNotFoundException" => (Reason::SourceNotFound, "nothing is there; check the platform's address"),
        "RobotoUnauthorizedException" => (Reason::AccessDenied, "the API key may not read this; check its organisation, or let it in there"),
        "RobotoAuthenticationFailureException" | "RobotoDeprecatedException" => (
            Reason::CredentialsError,
            "the platform does not know the API key, or takes it no more; put another one into the provider's Secret, or on the command line into ROBOTO_API_KEY",
        ),
        "RobotoNoOrgProvidedException" => (
            Reason::SourceNotFound,
            "the API key belongs to several organisations; name one: roboto-secret://NAME@ORG, or the provider's orgId (on the command line ROBOTO_ORG_ID)",
        ),
        "RobotoIllegalArgumentException" | "RobotoInvalidRequestException" => (Reason::SourceNotFound, "the platform refuses to look this up; check the name"),
        "RobotoConflictException" => (Reason::ProviderUnavailable, "the platform is about to change this"),
        "RobotoLimitExceededException" => (Reason::Throttled, "the platform asks for fewer calls"),
        _ if status == 429 => (Reason::Throttled, "the platform asks for fewer calls"),
        _ if (300..400).contains(&status) => {
            (Reason::ProviderUnavailable, "the platform redirects to another address, which is not followed; name that one instead")
        }
        _ => (Reason::ProviderUnavailable, "the platform failed"),
    };
    let name = code.map(|code| format!("{code}, ")).unwrap_or_default();
    let absent = code == Some("RobotoNotFoundException");
    let error = ReadError { absent, ..ReadError::new(reason, format!("{problem} ({name}HTTP {status})")) };
    Refused { error, for_want_of_org: class == "RobotoNoOrgProvidedException" }
}

/// Why something was not written.
pub(super) fn unwritten(status: u16, body: &Sensitive) -> WriteError {
    let (code, by_status) = class(status, body);
    let refuse = |problem: &str| WriteError::Refused(format!("{problem} (HTTP {status})"));
    match code.as_deref().unwrap_or(by_status) {
        // A wrong address answers 404 too.
        "RobotoNotFoundException" if code.is_some() => WriteError::NotFound,
        "RobotoConflictException" => WriteError::Conflict,
        "RobotoIllegalArgumentException" | "RobotoInvalidRequestException" => refuse("the platform refuses this as it is; check the name"),
        "RobotoLimitExceededException" => refuse("the organisation has as many secrets as the platform lets it have; delete some, or ask for more"),
        "RobotoUnauthorizedException" => {
            let problem = format!("the API key may not do this; check its organisation, or let it in there (HTTP {status})");
            ReadError::new(Reason::AccessDenied, problem).into()
        }
        _ => refused(status, body).error.into(),
    }
}

/// The code of a refusal, if it has one of the platform's, and what the SDK takes one without for.
fn class(status: u16, body: &Sensitive) -> (Option<String>, &'static str) {
    let text = String::from_utf8_lossy(body.expose());
    let said = serde_json::from_str::<Envelope<'_>>(&text).ok().map(|said| said.error.error_code.into_owned());
    let code = said.filter(|code| code.starts_with("Roboto") && code.len() < 64 && code.bytes().all(|b| b.is_ascii_alphanumeric()));
    (code, by_status(status, &text))
}

/// What the SDK makes of a refusal without a usable envelope.
fn by_status(status: u16, text: &str) -> &'static str {
    match status {
        400 if text.contains("did not provide a org for single-org operation") => "RobotoNoOrgProvidedException",
        400 => "RobotoInvalidRequestException",
        401 | 403 if text.contains("User is not authorized to access this resource with an explicit deny") => "RobotoAuthenticationFailureException",
        401 | 403 => "RobotoUnauthorizedException",
        404 => "RobotoNotFoundException",
        409 => "RobotoConflictException",
        _ => "RobotoServiceException",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> Sensitive {
        Sensitive::from(text.to_owned())
    }

    fn envelope(code: &str) -> String {
        format!(r#"{{"error":{{"error_code":"{code}","message":"canary","stack_trace":["x"]}}}}"#)
    }

    #[test]
    fn refusals_are_told_as_the_sdk_tells_them_and_repeat_nothing() {
        use Reason::{AccessDenied, CredentialsError, ProviderUnavailable, SourceNotFound, Throttled};
        for (status, text, reason, absent) in [
            (404, envelope("RobotoNotFoundException"), SourceNotFound, true),
            (500, envelope("RobotoNotFoundException"), SourceNotFound, true),
            (404, r#"{"message":"Not Found"}"#.to_owned(), SourceNotFound, false),
            (404, String::new(), SourceNotFound, false),
            (401, envelope("RobotoUnauthorizedException"), AccessDenied, false),
            (403, "canary".to_owned(), AccessDenied, false),
            (403, r#"{"message":"User is not authorized to access this resource with an explicit deny"}"#.to_owned(), CredentialsError, false),
            (403, r#"{"Message":"User is not authorized to access this resource with an explicit deny"}"#.to_owned(), CredentialsError, false),
            (400, envelope("RobotoIllegalArgumentException"), SourceNotFound, false),
            (400, envelope("RobotoInvalidRequestException"), SourceNotFound, false),
            (400, "canary".to_owned(), SourceNotFound, false),
            (400, r#"{"message":"did not provide a org for single-org operation"}"#.to_owned(), SourceNotFound, false),
            (409, envelope("RobotoConflictException"), ProviderUnavailable, false),
            (403, envelope("RobotoLimitExceededException"), Throttled, false),
            (429, String::new(), Throttled, false),
            (503, String::new(), ProviderUnavailable, false),
            (501, envelope("RobotoInternalException"), ProviderUnavailable, false),
            (302, "canary".to_owned(), ProviderUnavailable, false),
            (410, envelope("canary canary"), ProviderUnavailable, false),
        ] {
            let Refused { error, for_want_of_org } = refused(status, &body(&text));
            assert_eq!(for_want_of_org, text.contains("single-org"), "{text}");
            assert_eq!((error.reason, error.absent), (reason, absent), "{status} {text}");
            assert!(!error.message.contains("canary") && error.detail.is_none(), "{}", error.message);
            assert!(error.message.contains(&format!("HTTP {status}")), "{}", error.message);
        }
    }

    #[test]
    fn what_is_not_written_is_told_apart_and_repeats_nothing() {
        let of = |status, text: &str| unwritten(status, &body(text));
        assert!(matches!(of(409, &envelope("RobotoConflictException")), WriteError::Conflict));
        assert!(matches!(of(409, "canary"), WriteError::Conflict));
        assert!(matches!(of(404, &envelope("RobotoNotFoundException")), WriteError::NotFound));
        for (status, text, reason) in [
            (404, "canary".to_owned(), Reason::SourceNotFound),
            (401, envelope("RobotoUnauthorizedException"), Reason::AccessDenied),
            (403, "canary".to_owned(), Reason::AccessDenied),
            (400, envelope("RobotoIllegalArgumentException"), Reason::InvalidSpec),
            (400, "canary".to_owned(), Reason::InvalidSpec),
            (400, envelope("RobotoLimitExceededException"), Reason::InvalidSpec),
            (429, String::new(), Reason::Throttled),
            (503, envelope("canary canary"), Reason::ProviderUnavailable),
        ] {
            let error = of(status, &text);
            assert!(!matches!(error, WriteError::NotFound | WriteError::Conflict), "{status} {text}");
            assert_eq!(error.reason(), reason, "{status} {text}");
            assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
        }
    }

    const RECORD: &str = r#"{"created":"2026-10-06T08:00:00+00:00","created_by":"a","last_used":1760000000.5,"location":{"store_type":"aws","arn":"arn"},
        "modified":"nonsense","modified_by":"b","name":"x","org_id":"org_1","store_type":"aws","new_field":{}}"#;

    #[test]
    fn a_record_is_read_with_times_of_both_kinds() {
        let record: Record = data(&body(&format!(r#"{{"data":{RECORD}}}"#))).expect("a record");
        assert_eq!(record.arn().expect("an ARN"), "arn");
        let told = record.told();
        assert_eq!((told.created.as_deref(), told.modified.as_deref()), (Some("2026-10-06T08:00:00Z"), None));
        assert_eq!(told.last_used.as_deref(), Some("2025-10-09T08:53:20.5Z"));
        for broken in [RECORD.replace("org_id", "org"), RECORD.replace(r#""location":"#, r#""place":"#), "[]".to_owned()] {
            assert!(data::<Record>(&body(&format!(r#"{{"data":{broken}}}"#))).is_err());
        }
    }

    #[test]
    fn what_lies_in_an_unknown_store_is_said_so() {
        let creds = r#"{"store_type":"aws","access_key_id":"a","secret_access_key":"b","session_token":"c","region":"r","more":1}"#;
        let access = |record: &str, creds: &str| data::<Access>(&body(&format!(r#"{{"data":{{"record":{record},"creds":{creds}}}}}"#)));
        let (record, lent) = access(RECORD, creds).and_then(Access::lent).expect("both");
        assert_eq!((record.name.as_str(), lent.region.as_str()), ("x", "r"));
        let elsewhere = access(RECORD, r#"{"store_type":"gcp","project":"p"}"#).and_then(Access::lent).expect_err("another store");
        assert_eq!(elsewhere.reason, Reason::SourceNotFound);
        let record = RECORD.replace(r#"{"store_type":"aws","arn":"arn"}"#, r#"{"store_type":"gcp","project":"p"}"#);
        assert_eq!(
            access(&record, creds).and_then(Access::lent).expect("readable").0.arn().map(str::to_owned).expect_err("another store").reason,
            Reason::SourceNotFound
        );
        let cut = access(RECORD, &creds.replace("session_token", "token")).and_then(Access::lent).expect_err("incomplete");
        assert_eq!(cut.reason, Reason::ProviderUnavailable);
    }

    #[test]
    fn a_page_without_its_token_is_not_the_last_one() {
        let page = |rest: &str| data::<Page>(&body(&format!(r#"{{"data":{{"items":[{RECORD}]{rest}}}}}"#))).map(|page| page.next_token);
        assert_eq!(page(r#","next_token":null"#).expect("a page"), None);
        assert_eq!(page(r#","next_token":"t""#).expect("a page").as_deref(), Some("t"));
        assert!(page("").is_err());
        assert!(data::<Page>(&body(r#"{"data":{"next_token":null}}"#)).is_err());
    }
}
