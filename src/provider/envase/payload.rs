//! What goes to Envase Vault and comes back: a secret as JSON, under names that a provider may choose.
//!
//! Texts enter, texts leave. What the store says in words about a failure goes to nobody: it may repeat a value. Pure: no I/O.

use std::{borrow::Cow, collections::HashMap};

use serde::Deserialize;
use serde_json::{Map, Value as Json, value::RawValue};

use crate::{
    api::{Reason, envase::EnvaseFields},
    provider::{ReadError, WriteError, http::segment, misunderstood, writing::comparable},
    sensitive::Sensitive,
};

/// What a function is invoked with where the provider doesn't say.
pub(super) const DEFAULT_PAYLOAD: &str = r#"{"key": "${key}", "organization": "${organization}"}"#;

/// What stands in it for the organisation.
const ORGANIZATION: &str = "${organization}";

/// A path with its places filled in, each as one segment.
pub(super) fn path(template: &str, key: &str, organization: Option<&str>) -> String {
    // A key holds no braces, so that nothing is filled in twice.
    template.replace("{key}", &segment(key)).replace("{organization}", &segment(organization.unwrap_or_default()))
}

/// What a function is invoked with to get a secret; an error says what is wrong with the template.
pub(super) fn invocation(template: &str, key: &str, organization: Option<&str>) -> Result<Sensitive, ReadError> {
    let broken = || ReadError::new(Reason::InvalidSpec, "the provider's lambda.payload is not a JSON object");
    let payload = Json::Object(serde_json::from_str(template).map_err(|_| broken())?);
    // It would be taken for the standard secret of that key, which another rule allows.
    if organization.is_some() && !names_organization(&payload) {
        let problem = "the provider's lambda.payload has no ${organization} in its texts, so that no organisation's secret can be asked for";
        return Err(ReadError::new(Reason::InvalidSpec, problem));
    }
    let filled = fill(payload, key, organization).unwrap_or_else(|| Json::Object(Map::new()));
    serde_json::to_vec(&filled).map(Sensitive::new).map_err(|_| broken())
}

fn names_organization(template: &Json) -> bool {
    match template {
        Json::String(text) => text.contains(ORGANIZATION),
        Json::Array(all) => all.iter().any(names_organization),
        Json::Object(all) => all.values().any(names_organization),
        _ => false,
    }
}

/// The template without what names an organisation, if there is none.
fn fill(template: Json, key: &str, organization: Option<&str>) -> Option<Json> {
    Some(match template {
        Json::String(text) => {
            if organization.is_none() && text.contains(ORGANIZATION) {
                return None;
            }
            Json::String(text.replace("${key}", key).replace(ORGANIZATION, organization.unwrap_or_default()))
        }
        Json::Array(all) => Json::Array(all.into_iter().filter_map(|one| fill(one, key, organization)).collect()),
        Json::Object(all) => Json::Object(all.into_iter().filter_map(|(name, one)| Some((name, fill(one, key, organization)?))).collect()),
        other => other,
    })
}

/// What a function answered: a status and a body, or the secret itself.
pub(super) struct Told {
    pub(super) status: u16,
    pub(super) body: Sensitive,
}

#[derive(Deserialize)]
struct Proxied<'a> {
    #[serde(rename = "statusCode")]
    status: u16,
    #[serde(borrow, default)]
    body: Option<&'a RawValue>,
}

/// Takes a function's answer apart: many answer as if they stood behind a gateway.
pub(super) fn told(payload: &Sensitive) -> Result<Told, ReadError> {
    let Ok(Proxied { status, body }) = serde_json::from_slice::<Proxied<'_>>(payload.expose()) else {
        return Ok(Told { status: 200, body: payload.clone() });
    };
    let body = body.map_or("null", RawValue::get);
    // A body is text that holds JSON, or JSON itself.
    let body = serde_json::from_str::<String>(body).map_or_else(|_| Sensitive::from(body.to_owned()), Sensitive::from);
    if (100..1000).contains(&status) { Ok(Told { status, body }) } else { Err(misunderstood()) }
}

/// Where in an answer of success the secret and what is said of it are.
fn record<'a>(body: &'a Sensitive, fields: &EnvaseFields) -> Result<&'a RawValue, ReadError> {
    let mut raw: &RawValue = serde_json::from_slice(body.expose()).map_err(|_| misunderstood())?;
    for token in fields.pointer().split('/').skip(1) {
        raw = member(raw, &token.replace("~1", "/").replace("~0", "~")).ok_or_else(|| missing("pointer"))?;
    }
    Ok(raw)
}

/// The description in an answer of success, if there is one.
pub(super) fn description(body: &Sensitive, fields: &EnvaseFields) -> Result<Option<String>, ReadError> {
    let said = member(record(body, fields)?, fields.description());
    Ok(said.and_then(|said| serde_json::from_str(said.get()).ok()))
}

/// The secret in an answer of success: the text of a JSON string, the JSON of anything else. Where the answer says which key it is of, that is `key`.
pub(super) fn secret(body: &Sensitive, fields: &EnvaseFields, key: &str) -> Result<Sensitive, ReadError> {
    let raw = record(body, fields)?;
    let is_of = member(raw, fields.key()).and_then(|key| serde_json::from_str::<String>(key.get()).ok());
    if is_of.is_some_and(|is_of| is_of != key) {
        let problem = "the store answered with the secret of another key; if the member that fields.key names is not its key, write another name there";
        return Err(ReadError::new(Reason::ProviderUnavailable, problem));
    }
    let value = member(raw, fields.secret()).ok_or_else(|| missing("secret"))?;
    if value.get() == "null" {
        return Err(ReadError::new(Reason::SourceNotFound, "the secret holds nothing"));
    }
    Ok(Sensitive::from(serde_json::from_str::<String>(value.get()).unwrap_or_else(|_| value.get().to_owned())))
}

/// A member of an object, as it is written.
fn member<'a>(object: &'a RawValue, name: &str) -> Option<&'a RawValue> {
    let mut members: HashMap<Cow<'a, str>, &'a RawValue> = serde_json::from_str(object.get()).ok()?;
    members.remove(name)
}

fn missing(field: &str) -> ReadError {
    ReadError::new(Reason::KeypathNotFound, format!("the store's answer has no such member as the provider's fields.{field} names"))
}

/// A secret as it is sent.
pub(super) fn sent(fields: &EnvaseFields, key: &str, secret: &Sensitive, description: Option<&str>) -> Result<Sensitive, WriteError> {
    let value: &RawValue = serde_json::from_slice(secret.expose()).map_err(|_| WriteError::Refused("Envase keeps JSON, and this is none".to_owned()))?;
    comparable(value)?;
    let text = |text: &str| serde_json::to_string(text).map_err(|_| WriteError::from(misunderstood()));
    let before = format!("{{{}:{},{}:", text(fields.key())?, text(key)?, text(fields.secret())?);
    let after =
        description.map(|description| Ok::<_, WriteError>(format!(",{}:{}", text(fields.description())?, text(description)?))).transpose()?.unwrap_or_default();
    // In one piece, so that no part of it is left behind where it grew.
    Ok(Sensitive::new([before.as_bytes(), value.get().as_bytes(), after.as_bytes(), b"}"].concat()))
}

/// Why a secret is not told: Envase's `VaultClientError`.
pub(super) fn client_error(status: u16) -> ReadError {
    let (reason, problem) = match status {
        401 => (Reason::CredentialsError, "the store does not take the token; check it, or the client that gets one"),
        403 => (Reason::AccessDenied, "the identity may not read this"),
        404 => (Reason::SourceNotFound, "the store has no such secret; check key and organisation, and the address and paths of the store"),
        429 => (Reason::Throttled, "the store asks for fewer calls"),
        300..=399 => (Reason::ProviderUnavailable, "the store redirects to another address, which is not followed; name that one instead"),
        407..=409 | 423 | 425 => (Reason::ProviderUnavailable, "the store, or something on the way there, does not answer this now"),
        400..=499 => (Reason::SourceNotFound, "the store refuses to look this up; check key and organisation"),
        _ => (Reason::ProviderUnavailable, "the store failed"),
    };
    ReadError::new(reason, format!("{problem} (VaultClientError, status {status})"))
}

/// Why a secret is not written. That the store refuses what it is sent doesn't say that there is no such secret: whoever believed that would make one.
pub(super) fn write_error(status: u16) -> WriteError {
    match (status, client_error(status)) {
        (403, error) => ReadError::new(error.reason, "the identity may not write this (VaultClientError, status 403)").into(),
        (_, error) if status != 404 && error.reason == Reason::SourceNotFound => {
            WriteError::Refused(format!("the store refuses to write this; check key, organisation and value (VaultClientError, status {status})"))
        }
        (_, error) => error.into(),
    }
}

/// Whether a body holds a text.
pub(super) fn holds(body: &Sensitive, text: &str) -> bool {
    !text.is_empty() && body.expose().windows(text.len()).any(|part| part == text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> Sensitive {
        Sensitive::from(text.to_owned())
    }

    fn shown(value: &Sensitive) -> &str {
        std::str::from_utf8(value.expose()).expect("text")
    }

    #[test]
    fn a_path_holds_key_and_organisation_as_one_segment_each() {
        assert_eq!(path("secrets/{key}", "shop/db", None), "secrets/shop%2Fdb");
        assert_eq!(path("organizations/{organization}/secrets/{key}", "a+b=c", Some("org-1")), "organizations/org-1/secrets/a%2Bb%3Dc");
    }

    #[test]
    fn a_function_is_invoked_with_what_the_reference_names() {
        let invoked = |template: &str, organization| invocation(template, "k\"", organization).map(|payload| shown(&payload).to_owned());
        assert_eq!(invoked(DEFAULT_PAYLOAD, None).expect("a payload"), r#"{"key":"k\""}"#);
        assert_eq!(invoked(DEFAULT_PAYLOAD, Some("o")).expect("a payload"), r#"{"key":"k\"","organization":"o"}"#);
        let nested = r#"{"pathParameters": {"key": "${key}", "org": "${organization}"}, "version": 2, "list": ["${organization}", true]}"#;
        assert_eq!(invoked(nested, None).expect("a payload"), r#"{"list":[true],"pathParameters":{"key":"k\""},"version":2}"#);
        assert!(invoked("[]", None).is_err() && invoked("{", None).is_err());
        // A name is no place that is filled in.
        for without in [r#"{"key": "${key}"}"#, r#"{"key": "${key}", "${organization}": 1}"#] {
            assert!(invoked(without, None).is_ok());
            assert_eq!(invoked(without, Some("o")).expect_err("another secret").reason, Reason::InvalidSpec, "{without}");
        }
    }

    #[test]
    fn an_answer_is_a_secret_or_a_status_with_one() {
        let told = |text: &str| told(&body(text)).map(|told| (told.status, shown(&told.body).to_owned()));
        assert_eq!(told(r#"{"secret":1}"#).expect("told"), (200, r#"{"secret":1}"#.to_owned()));
        assert_eq!(told(r#"{"statusCode":200,"body":"{\"secret\":1}"}"#).expect("told"), (200, r#"{"secret":1}"#.to_owned()));
        assert_eq!(told(r#"{"statusCode":404,"body":{"m":1}}"#).expect("told"), (404, r#"{"m":1}"#.to_owned()));
        assert_eq!(told(r#"{"statusCode":500}"#).expect("told"), (500, "null".to_owned()));
        assert!(told(r#"{"statusCode":7}"#).is_err());
    }

    #[test]
    fn a_secret_is_found_under_the_providers_names() {
        let plain = EnvaseFields::default();
        let secret = |text: &str, fields: &EnvaseFields| secret(&body(text), fields, "k").map(|secret| shown(&secret).to_owned()).map_err(|error| error.reason);
        assert_eq!(secret(r#"{"key":"k","secret":{"u":"x","n":1.50},"description":"d"}"#, &plain).as_deref(), Ok(r#"{"u":"x","n":1.50}"#));
        assert_eq!(secret(r#"{"secret":"a\"b"}"#, &plain).as_deref(), Ok("a\"b"));
        assert_eq!(secret(r#"{"secret":12}"#, &plain).as_deref(), Ok("12"));
        assert_eq!(secret(r#"{"secret":null}"#, &plain), Err(Reason::SourceNotFound));
        assert_eq!(secret(r#"{"key":"other","secret":1}"#, &plain), Err(Reason::ProviderUnavailable));
        assert_eq!(secret(r#"{"key":{"of":"something"},"secret":1}"#, &plain).as_deref(), Ok("1"));
        let other = EnvaseFields { secret: Some("data".to_owned()), pointer: Some("/result/a~1b".to_owned()), ..plain.clone() };
        assert_eq!(secret(r#"{"result":{"a/b":{"data":[1]}}}"#, &other).as_deref(), Ok("[1]"));
        for wrong in ["[]", "{}", r#"{"secrets":1}"#] {
            assert_eq!(secret(wrong, &plain), Err(Reason::KeypathNotFound), "{wrong}");
        }
        for wrong in ["", "<html>"] {
            assert_eq!(secret(wrong, &plain), Err(Reason::ProviderUnavailable), "{wrong}");
        }
    }

    #[test]
    fn a_secret_is_sent_as_it_is_written() {
        let fields = EnvaseFields::default();
        assert_eq!(
            shown(&sent(&fields, "k\"", &body(r#"{ "u": 1.50 }"#), Some("d")).expect("a body")),
            r#"{"key":"k\"","secret":{ "u": 1.50 },"description":"d"}"#
        );
        assert!(sent(&fields, "k", &body("no json"), None).is_err());
    }

    #[test]
    fn a_client_error_names_its_status_and_nothing_of_its_data() {
        for (status, reason) in [
            (404, Reason::SourceNotFound),
            (401, Reason::CredentialsError),
            (403, Reason::AccessDenied),
            (400, Reason::SourceNotFound),
            (407, Reason::ProviderUnavailable),
            (408, Reason::ProviderUnavailable),
            (409, Reason::ProviderUnavailable),
            (429, Reason::Throttled),
            (302, Reason::ProviderUnavailable),
            (500, Reason::ProviderUnavailable),
        ] {
            let error = client_error(status);
            assert_eq!((error.reason, error.absent), (reason, false), "{status}");
            assert!(error.message.contains(&format!("(VaultClientError, status {status})")) && error.detail.is_none());
        }
    }

    #[test]
    fn a_body_holds_the_words_that_are_the_stores() {
        assert!(holds(&body(r#"{"code":"SECRET_NOT_FOUND"}"#), "SECRET_NOT_FOUND") && !holds(&body("NOT"), "NOT_FOUND") && !holds(&body("x"), ""));
    }
}
