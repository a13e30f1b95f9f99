//! How values are printed: as they are, as JSON or YAML, or as lines that a shell or an env file takes.
//!
//! A value enters, the bytes to print leave. Pure. What can't be printed so that it is read back as it was is refused, never changed.

use std::collections::BTreeMap;

use robotosecret::{
    render::{MAX_NESTING, quoted},
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
    /// The members of an object as lines NAME='value'.
    Env,
    /// The members of an object as lines export NAME='value'.
    Shell,
}

/// Why a value can't be printed in this way.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unprintable {
    #[error("the value is binary; print it raw")]
    Binary,
    #[error("{0}: the value is binary; get it by itself, raw")]
    BinaryOf(String),
    #[error("the value is no JSON object, so that it has no members to name; print it raw")]
    NoObject,
    #[error("the member {0:?} is no name of a variable (letters, digits and _); print it as json")]
    Name(String),
    #[error("the member {0:?} holds something that no variable can hold; print it as json")]
    Content(String),
    #[error("the value nests too deeply for YAML; print it as json")]
    Yaml,
}

/// One value.
pub fn one(secret: &Secret, format: Format) -> Result<Sensitive, Unprintable> {
    match format {
        Format::Raw => Ok(Sensitive::new(secret.expose().to_vec())),
        Format::Json => Ok(Sensitive::from(document(secret)?.get().to_owned() + "\n")),
        Format::Yaml => yaml(&document(secret)?),
        Format::Env => variables(secret, |name, value| Ok(format!("{name}='{}'\n", literal(name, value)?))),
        Format::Shell => variables(secret, |name, value| Ok(format!("export {name}='{}'\n", value.replace('\'', r"'\''")))),
    }
}

/// Several, by reference.
pub fn many(all: &BTreeMap<String, Secret>, format: Format) -> Result<Sensitive, Unprintable> {
    let one = |(reference, secret)| Ok((reference, document(secret).map_err(|_| Unprintable::BinaryOf(String::clone(reference)))?));
    let all = all.iter().map(one).collect::<Result<BTreeMap<_, _>, Unprintable>>()?;
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

/// As YAML that every version of it reads as the same: texts in quotes, numbers digit for digit.
fn yaml(document: &RawValue) -> Result<Sensitive, Unprintable> {
    let mut lines = String::new();
    block(document, 0, &mut lines)?;
    Ok(Sensitive::from(lines))
}

/// A value and the line end behind it, where a name or a dash stands before it.
fn block(raw: &RawValue, depth: usize, lines: &mut String) -> Result<(), Unprintable> {
    if depth > MAX_NESTING {
        return Err(Unprintable::Yaml);
    }
    let indent = "  ".repeat(depth);
    match raw.get().as_bytes().first() {
        Some(b'{') => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(raw.get()).map_err(|_| Unprintable::Yaml)?;
            if members.is_empty() {
                lines.push_str("{}\n");
            }
            for (name, value) in members {
                lines.push_str(&[indent.as_str(), &plain(&name), ":"].concat());
                nested(value, depth, lines)?;
            }
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(|_| Unprintable::Yaml)?;
            if items.is_empty() {
                lines.push_str("[]\n");
            }
            for item in items {
                lines.push_str(&[indent.as_str(), "-"].concat());
                nested(item, depth, lines)?;
            }
        }
        Some(b'"') => {
            let text: String = serde_json::from_str(raw.get()).map_err(|_| Unprintable::Yaml)?;
            lines.push_str(&(quoted(&text) + "\n"));
        }
        _ => lines.push_str(&[raw.get(), "\n"].concat()),
    }
    Ok(())
}

/// What stands behind a name or a dash: in the same line, or below it.
fn nested(raw: &RawValue, depth: usize, lines: &mut String) -> Result<(), Unprintable> {
    let is_inline = !raw.get().starts_with(['{', '[']) || raw.get()[1..].trim_start().len() == 1;
    lines.push(if is_inline { ' ' } else { '\n' });
    block(raw, depth + 1, lines)
}

/// A name, in quotes unless it is nothing but a name in every version.
fn plain(name: &str) -> String {
    let is_word = name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let is_other = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"].contains(&name.to_ascii_lowercase().as_str());
    if is_word && !is_other { name.to_owned() } else { quoted(name) }
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
        // A string that is none, and null, which would be read back as a word.
        let is_odd = value.get() == "null" || value.get().starts_with('"') && serde_json::from_str::<String>(value.get()).is_err();
        let text = serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_owned());
        if is_odd || text.contains('\0') {
            return Err(Unprintable::Content(name));
        }
        lines += &line(&name, &text)?;
    }
    Ok(Sensitive::from(lines))
}

/// Between single quotes, where those who read env files agree on nothing but what needs no escape.
fn literal<'v>(name: &str, value: &'v str) -> Result<&'v str, Unprintable> {
    if value.contains(['\'', '\\', '\n', '\r']) || value.contains("${") { Err(Unprintable::Content(name.to_owned())) } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(document: &str) -> String {
        let raw: Box<RawValue> = serde_json::from_str(document).expect("JSON");
        String::from_utf8(yaml(&raw).expect("YAML").expose().to_vec()).expect("text")
    }

    #[test]
    fn yaml_is_read_back_as_it_was_by_whatever_reads_it() {
        let document = r#"{"on":"yes","n":1.10,"big":12345678901234567890123,"a":[],"o":{},"l":[{"x":[1,[2]]},"- z"],"t":"1:30\n\u00e4\u0001","$serde_json::private::RawValue":"[1]"}"#;
        let text = printed(document);
        assert_eq!(
            text,
            "\"$serde_json::private::RawValue\": \"[1]\"\na: []\nbig: 12345678901234567890123\nl:\n  -\n    x:\n      - 1\n      -\n        - 2\n  - \"- z\"\n\"n\": 1.10\no: {}\n\"on\": \"yes\"\nt: \"1:30\\nä\\u0001\"\n"
        );
        let back: Value = serde_yaml::from_str(&text.split_once('\n').expect("lines").1.replace("12345678901234567890123", "1")).expect("YAML");
        assert_eq!((&back["on"], &back["t"], &back["l"][0]["x"][1][0]), (&json!("yes"), &json!("1:30\nä\u{1}"), &json!(2)));
        assert_eq!(printed("{\"\u{85}\":\"a \u{2028} b\"}"), "\"\\u0085\": \"a \\u2028 b\"\n", "what some take for the end of a line");
        let deep: Box<RawValue> = serde_json::from_str(&["[".repeat(10_000), "]".repeat(10_000)].concat()).expect("JSON");
        assert_eq!(yaml(&deep).err(), Some(Unprintable::Yaml));
        assert_eq!((printed("\"x\"").as_str(), printed("[1]").as_str(), printed("{ }").as_str()), ("\"x\"\n", "- 1\n", "{}\n"));
    }
}
