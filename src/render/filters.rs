//! What templates can do with values, besides what the engine brings along.
//!
//! Values enter, text leaves, the same for the same values. Pure: nothing reads a clock, a file or chance. An error tells which
//! filter could not take its value, never a part of it. JSON and YAML keep the digits of numbers, and sort the names of members.

#![allow(clippy::needless_pass_by_value)] // The engine says how arguments come.

use std::{collections::BTreeMap, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use minijinja::{
    Environment, Error, State, Value,
    value::{Kwargs, ValueKind},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{
    decode::decode,
    engine::problem,
    operators::{MAX_NESTING, Number, bytes, pay, text},
    pems,
};
use crate::{api::robotosecret::Decode, sensitive::Sensitive};

/// All but what RFC 3986 leaves unreserved.
const URL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Teaches the engine all of them.
pub(super) fn add_to(environment: &mut Environment<'static>) {
    environment.add_filter("b64encode", b64encode);
    environment.add_filter("b64decode", b64decode);
    environment.add_filter("urlencode", urlencode);
    environment.add_filter("quote", quote);
    environment.add_filter("sha256", sha256);
    environment.add_filter("tojson", to_json);
    environment.add_filter("fromjson", from_json);
    environment.add_filter("toyaml", to_yaml);
    environment.add_filter("fromyaml", from_yaml);
    environment.add_filter("pem_certs", pem_certs);
    environment.add_filter("pem_key", pem_key);
    environment.add_function("dockerconfigjson", docker_config);
}

fn b64encode(value: &Value) -> Result<String, Error> {
    Ok(STANDARD.encode(bytes("b64encode", value)?))
}

fn b64decode(value: &Value) -> Result<String, Error> {
    let text = Sensitive::new(text("b64decode", value)?.into_owned().into_bytes());
    let bytes = decode(text, Decode::Base64).map_err(|_| problem("b64decode: the value is not base64"))?;
    let text = std::str::from_utf8(bytes.expose()).map_err(|_| problem("b64decode: what comes out is not text (UTF-8)"))?;
    Ok(text.to_owned())
}

fn urlencode(value: &Value) -> Result<String, Error> {
    Ok(percent_encoding::percent_encode(&bytes("urlencode", value)?, URL).to_string())
}

/// In double quotes, with backslashes before what can't stand there: a string of JSON, YAML and most configuration files.
fn quote(value: &Value) -> Result<String, Error> {
    Ok(json_string(&text("quote", value)?))
}

fn sha256(value: &Value) -> Result<String, Error> {
    Ok(Sha256::digest(bytes("sha256", value)?).iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat())
}

fn pem_certs(value: &Value) -> Result<String, Error> {
    let blocks = pems::blocks(&bytes("pem_certs", value)?).ok_or_else(|| problem("pem_certs: the value is not PEM, or a block of it is broken"))?;
    let certificates: String = blocks.iter().filter(|block| pems::is_certificate(block.tag())).map(pems::text).collect();
    if certificates.is_empty() { Err(problem("pem_certs: the value holds no block CERTIFICATE")) } else { Ok(certificates) }
}

fn pem_key(value: &Value) -> Result<String, Error> {
    let blocks = pems::blocks(&bytes("pem_key", value)?).ok_or_else(|| problem("pem_key: the value is not PEM, or a block of it is broken"))?;
    let keys: Vec<_> = blocks.iter().filter(|block| pems::is_key(block.tag())).collect();
    match keys.as_slice() {
        [key] => Ok(pems::text(key)),
        keys => Err(problem(format!("pem_key: the value holds {} private keys instead of one", keys.len()))),
    }
}

/// `dockerconfigjson(user, password, server)`.
fn docker_config(user: &Value, password: &Value, server: &Value) -> Result<String, Error> {
    let name = "dockerconfigjson";
    let (user, password, server) = (text(name, user)?, text(name, password)?, text(name, server)?);
    if user.contains(':') {
        return Err(problem("dockerconfigjson: the user holds a colon, where docker takes the password to start"));
    }
    let auth = STANDARD.encode(format!("{user}:{password}"));
    let [user, password, server, auth] = [&*user, &*password, &*server, &*auth].map(json_string);
    Ok(format!(r#"{{"auths":{{{server}:{{"auth":{auth},"password":{password},"username":{user}}}}}}}"#))
}

fn from_json(state: &State<'_, '_>, value: &Value) -> Result<Value, Error> {
    let text = text("fromjson", value)?;
    // It makes far more of a byte than other filters do.
    state.consume_fuel(text.len() as u64 / 4)?;
    let raw: &RawValue = serde_json::from_str(&text).map_err(|_| problem("fromjson: the value is not JSON"))?;
    json_value(raw, MAX_NESTING)
}

fn json_value(raw: &RawValue, depth: usize) -> Result<Value, Error> {
    let text = raw.get();
    let depth = depth.checked_sub(1).ok_or_else(|| problem("fromjson: the value nests too deeply"))?;
    let unreadable = |_| problem("fromjson: the value is JSON that cannot be read");
    match text.as_bytes().first() {
        Some(b'{') => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(unreadable)?;
            let members: BTreeMap<String, Value> = members.into_iter().map(|(name, raw)| Ok((name, json_value(raw, depth)?))).collect::<Result<_, Error>>()?;
            Ok(Value::from(members))
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(unreadable)?;
            Ok(Value::from(items.into_iter().map(|raw| json_value(raw, depth)).collect::<Result<Vec<_>, _>>()?))
        }
        Some(b'"') => serde_json::from_str::<String>(text).map(Value::from).map_err(unreadable),
        Some(b't') => Ok(Value::from(true)),
        Some(b'f') => Ok(Value::from(false)),
        Some(b'n') => Ok(Value::from(())),
        _ => Ok(Number::value(text)),
    }
}

fn from_yaml(state: &State<'_, '_>, value: &Value) -> Result<Value, Error> {
    let text = text("fromyaml", value)?;
    state.consume_fuel(text.len() as u64 / 4)?;
    let Yaml(value) = serde_yaml::from_str(&text).map_err(|_| problem("fromyaml: the value is not YAML, nests too deeply, or names a member twice"))?;
    // An alias takes few bytes and holds many.
    pay(state, &value)?;
    Ok(value)
}

/// A YAML document as a value of the engine's.
struct Yaml(Value);

impl<'de> Deserialize<'de> for Yaml {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(YamlVisitor).map(Self)
    }
}

struct YamlVisitor;

impl<'de> Visitor<'de> for YamlVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::from(()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Yaml(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::from(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some((Yaml(name), Yaml(value))) = members.next_entry()? {
            if map.insert(name, value).is_some() {
                return Err(de::Error::custom("a member stands twice"));
            }
        }
        Ok(Value::from(map))
    }
}

/// `tojson`, or `tojson(indent=2)`.
fn to_json(state: &State<'_, '_>, value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    options.assert_all_used()?;
    if indent.is_some_and(|indent| indent > 16) {
        return Err(problem("tojson: indent is at most 16"));
    }
    let mut out = String::new();
    write_json(&node("tojson", state, value, MAX_NESTING)?, indent, 0, &mut out);
    Ok(out)
}

/// Block style, without a line break at its end.
fn to_yaml(state: &State<'_, '_>, value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    write_yaml(&node("toyaml", state, value, MAX_NESTING)?, 0, &mut out);
    out.truncate(out.trim_end_matches('\n').len());
    Ok(out)
}

/// What JSON and YAML can hold.
enum Node {
    /// A number, a boolean or null, as it is written.
    Word(String),
    Text(String),
    List(Vec<Node>),
    Map(BTreeMap<String, Node>),
}

fn node(filter: &str, state: &State<'_, '_>, value: &Value, depth: usize) -> Result<Node, Error> {
    let depth = depth.checked_sub(1).ok_or_else(|| problem(format!("{filter}: the value nests too deeply")))?;
    state.consume_fuel(1)?;
    match value.kind() {
        ValueKind::None => Ok(Node::Word("null".to_owned())),
        ValueKind::Number if f64::try_from(value.clone()).is_ok_and(|number| !number.is_finite()) => {
            Err(problem(format!("{filter}: the value is a number that is not finite")))
        }
        ValueKind::Seq | ValueKind::Iterable => value.try_iter()?.map(|item| node(filter, state, &item, depth)).collect::<Result<_, _>>().map(Node::List),
        ValueKind::Map => {
            let member = |name: Value| Ok((text(filter, &name)?.into_owned(), node(filter, state, &value.get_item(&name)?, depth)?));
            value.try_iter()?.map(member).collect::<Result<_, Error>>().map(Node::Map)
        }
        ValueKind::String => {
            let text = text(filter, value)?;
            state.consume_fuel(text.len() as u64 / 16)?;
            Ok(Node::Text(text.into_owned()))
        }
        // A number or boolean; what is nothing of all this is refused.
        _ => text(filter, value).map(|word| Node::Word(word.into_owned())),
    }
}

fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn write_json(node: &Node, indent: Option<usize>, level: usize, out: &mut String) {
    let line = |level: usize, out: &mut String| {
        if let Some(indent) = indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent * level));
        }
    };
    match node {
        Node::Word(word) => out.push_str(word),
        Node::Text(text) => out.push_str(&json_string(text)),
        Node::List(items) if items.is_empty() => out.push_str("[]"),
        Node::Map(members) if members.is_empty() => out.push_str("{}"),
        Node::List(items) => {
            for (i, item) in items.iter().enumerate() {
                out.push(if i == 0 { '[' } else { ',' });
                line(level + 1, out);
                write_json(item, indent, level + 1, out);
            }
            line(level, out);
            out.push(']');
        }
        Node::Map(members) => {
            for (i, (name, member)) in members.iter().enumerate() {
                out.push(if i == 0 { '{' } else { ',' });
                line(level + 1, out);
                out.push_str(&json_string(name));
                out.push_str(if indent.is_some() { ": " } else { ":" });
                write_json(member, indent, level + 1, out);
            }
            line(level, out);
            out.push('}');
        }
    }
}

/// Writes lines that are indented to the level, but for the first: whoever calls has written up to there.
fn write_yaml(node: &Node, level: usize, out: &mut String) {
    let start = |i: usize, out: &mut String| out.extend(std::iter::repeat_n(' ', if i == 0 { 0 } else { 2 * level }));
    match node {
        Node::Word(word) => out.push_str(word),
        Node::Text(text) => out.push_str(&yaml_string(text)),
        Node::List(items) if items.is_empty() => out.push_str("[]"),
        Node::Map(members) if members.is_empty() => out.push_str("{}"),
        Node::List(items) => {
            for (i, item) in items.iter().enumerate() {
                start(i, out);
                out.push_str("- ");
                write_yaml(item, level + 1, out);
                end_line(out);
            }
        }
        Node::Map(members) => {
            for (i, (name, member)) in members.iter().enumerate() {
                start(i, out);
                out.push_str(&yaml_string(name));
                out.push(':');
                let block = matches!(member, Node::List(items) if !items.is_empty()) || matches!(member, Node::Map(members) if !members.is_empty());
                if block {
                    out.push('\n');
                    out.extend(std::iter::repeat_n(' ', 2 * (level + 1)));
                } else {
                    out.push(' ');
                }
                write_yaml(member, level + 1, out);
                end_line(out);
            }
        }
    }
}

fn end_line(out: &mut String) {
    if !out.ends_with('\n') {
        out.push('\n');
    }
}

/// Bare where every YAML reads it as text, otherwise as JSON writes it, which YAML takes too.
fn yaml_string(text: &str) -> String {
    const WORDS: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "y", "n", "null"];
    let bare = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '/')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_./-".contains(&b))
        && !WORDS.iter().any(|word| text.eq_ignore_ascii_case(word));
    if bare {
        return text.to_owned();
    }
    quoted(text)
}

/// A text in quotes, as JSON and every version of YAML read it.
#[must_use]
pub fn quoted(text: &str) -> String {
    // Line breaks to some, and what may not stand in YAML at all.
    let odd = |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
    let escaped = |c: char| if odd(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    json_string(text).chars().map(escaped).collect::<Vec<_>>().concat()
}
