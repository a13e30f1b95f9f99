//! How values are printed: as they are, as JSON or YAML, or as lines that a shell or an env file takes.
//!
//! A value enters, the bytes to print leave. Pure. What can't be printed so that it is read back as it was is refused, never changed.

use std::collections::BTreeMap;

use robotosecret::{
    secrets::{Described, ParameterKind, ParameterTier, Secret, Wrapped},
    sensitive::Sensitive,
};
use serde_json::{Value, json, value::RawValue};

/// How a value is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Byte for byte.
    Raw,
    /// As JSON: what is JSON as it is, any other text as a string.
    Json,
    /// The same as YAML.
    Yaml,
    /// The members of an object as lines `NAME="value"`.
    Env,
    /// The members of an object as lines `export NAME='value'`.
    Shell,
}

/// Why a value can't be printed in this way.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unprintable {
    #[error("the value is binary; print it raw")]
    Binary,
    #[error("the value is no JSON object, so that it has no members to name; print it raw")]
    NoObject,
    #[error("the member {0:?} is no name of a variable (letters, digits and _); print it as json")]
    Name(String),
    #[error("the member {0:?} holds something that no variable can hold; print it as json")]
    Content(String),
    #[error("the value can't be written as YAML; print it as json")]
    Yaml,
}

/// One value.
pub fn one(secret: &Secret, format: Format) -> Result<Sensitive, Unprintable> {
    match format {
        Format::Raw => Ok(Sensitive::new(secret.expose().to_vec())),
        Format::Json => Ok(Sensitive::from(document(secret)?.get().to_owned() + "\n")),
        Format::Yaml => yaml(&document(secret)?),
        Format::Env => variables(secret, |name, value| Ok(format!("{name}=\"{}\"\n", quoted(name, value)?))),
        Format::Shell => variables(secret, |name, value| Ok(format!("export {name}='{}'\n", value.replace('\'', r"'\''")))),
    }
}

/// Several, by reference.
pub fn many(all: &BTreeMap<String, Secret>, format: Format) -> Result<Sensitive, Unprintable> {
    let all = all.iter().map(|(reference, secret)| Ok((reference, document(secret)?))).collect::<Result<BTreeMap<_, _>, Unprintable>>()?;
    let text = serde_json::value::to_raw_value(&all).map_err(|_| Unprintable::Yaml)?;
    if format == Format::Yaml { yaml(&text) } else { Ok(Sensitive::from(text.get().to_owned() + "\n")) }
}

/// What is known about something.
pub fn described(described: &Described, format: Format) -> Result<Sensitive, Unprintable> {
    let Described { arn, version, created, changed, description, tags, kms_key, kind, tier, deletion } = described;
    let (kind, tier) = (kind.map(ParameterKind::as_str), tier.map(ParameterTier::as_str));
    let all = json!({
        "arn": arn, "version": version, "created": created, "changed": changed, "description": description, "tags": tags, "kmsKey": kms_key,
        "type": kind, "tier": tier, "deletion": deletion,
    });
    let Value::Object(all) = all else { return Err(Unprintable::NoObject) };
    structured(&Value::Object(all.into_iter().filter(|(_, value)| !value.is_null()).collect()), format)
}

/// A token for one look.
pub fn wrapped(wrapped: &Wrapped) -> Result<Sensitive, Unprintable> {
    let Wrapped { token, unwrap_url, namespace, life } = wrapped;
    let token = std::str::from_utf8(token.expose()).map_err(|_| Unprintable::Binary)?;
    let mut all = json!({"token": token, "unwrap_url": unwrap_url, "ttl": life.as_secs()});
    if let Some(namespace) = namespace {
        all["namespace"] = json!(namespace);
    }
    structured(&all, Format::Json)
}

fn structured(value: &Value, format: Format) -> Result<Sensitive, Unprintable> {
    let text = serde_json::value::to_raw_value(value).map_err(|_| Unprintable::Yaml)?;
    if format == Format::Yaml { yaml(&text) } else { Ok(Sensitive::from(text.get().to_owned() + "\n")) }
}

/// A value as JSON: numbers stay digit for digit.
fn document(secret: &Secret) -> Result<Box<RawValue>, Unprintable> {
    let text = secret.text().ok().filter(|_| !secret.is_binary()).ok_or(Unprintable::Binary)?;
    serde_json::from_str(text).or_else(|_| serde_json::value::to_raw_value(text)).map_err(|_| Unprintable::Binary)
}

fn yaml(document: &RawValue) -> Result<Sensitive, Unprintable> {
    let value: Value = serde_json::from_str(document.get()).map_err(|_| Unprintable::Yaml)?;
    serde_yaml::to_string(&value).map(Sensitive::from).map_err(|_| Unprintable::Yaml)
}

fn variables(secret: &Secret, line: impl Fn(&str, &str) -> Result<String, Unprintable>) -> Result<Sensitive, Unprintable> {
    let document = document(secret)?;
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(document.get()).map_err(|_| Unprintable::NoObject)?;
    let mut lines = String::new();
    for (name, value) in members {
        let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !name.starts_with(|c: char| c.is_ascii_digit()) && !name.is_empty();
        if !is_name {
            return Err(Unprintable::Name(name));
        }
        let text = serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_owned());
        if text.contains('\0') {
            return Err(Unprintable::Content(name));
        }
        lines += &line(&name, &text)?;
    }
    Ok(Sensitive::from(lines))
}

/// Between double quotes, as env files have it: what those who read them unescape is escaped.
fn quoted(name: &str, value: &str) -> Result<String, Unprintable> {
    if value.contains('\r') {
        return Err(Unprintable::Content(name.to_owned()));
    }
    Ok(value.replace('\\', r"\\").replace('"', "\\\"").replace('$', r"\$").replace('`', r"\`").replace('\n', r"\n"))
}
