//! The keypath: into a JSON text, member by member, without taking it apart more than asked.
//!
//! A JSON text and a keypath enter; the text of a string, or the JSON text of anything else exactly as it stood there, leaves.
//! Numbers are never parsed, so that they stay digit for digit. No error holds any part of the text.
//!
//! A step into an object takes the member of that name (the last, if it stands twice); a step into a list takes the item of that
//! index, or, when it is no index, that member of each of its objects: `[items, id]` on `{"items":[{"id":1},{"id":2}]}` is `[1,2]`.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Data, MAX_NESTING, RenderError};
use crate::sensitive::Sensitive;

/// What a keypath leads to: JSON texts inside the value.
enum Found<'v> {
    One(&'v RawValue),
    /// A member of each object of a list, in order; lists within lists stay lists.
    Each(Vec<Found<'v>>),
}

/// What the keypath leads to: the text of a string, the JSON text of anything else. `null` counts as not there.
pub(super) fn extract(text: &str, keypath: &[String]) -> Result<Sensitive, RenderError> {
    let found = walk(text, keypath)?;
    content(&found).map_err(|problem| error(keypath, problem))
}

/// The members of the object that the keypath leads to, each rendered like a single key; `None` if it is no object, or no JSON at all.
/// What is skipped need not be anything that could be rendered.
pub(super) fn members(text: &str, keypath: &[String], skip: impl Fn(&str) -> bool) -> Result<Option<Data>, RenderError> {
    if keypath.is_empty() && !text.trim_start().starts_with('{') {
        return Ok(None);
    }
    let found = walk(text, keypath).map_err(|error| if keypath.is_empty() { RenderError::BrokenObject } else { error })?;
    let Found::One(object) = found else { return Ok(None) };
    let Ok(members) = serde_json::from_str::<Members<'_>>(object.get()) else { return Ok(None) };
    if members.0.is_empty() {
        return Err(RenderError::Empty);
    }
    let rendered = members.0.into_iter().filter(|(name, _)| !skip(name)).map(|(name, raw)| {
        let value = content(&Found::One(raw)).map_err(|problem| {
            let mut path = keypath.to_vec();
            path.push(name.clone().into_owned());
            error(&path, problem)
        })?;
        Ok((name.into_owned(), value))
    });
    rendered.collect::<Result<_, _>>().map(Some)
}

pub(super) fn error(keypath: &[String], problem: impl Into<String>) -> RenderError {
    RenderError::Keypath { keypath: keypath.to_vec(), problem: problem.into() }
}

fn walk<'v>(text: &'v str, keypath: &[String]) -> Result<Found<'v>, RenderError> {
    let root: &RawValue = serde_json::from_str(text).map_err(|_| error(keypath, "the value is not JSON"))?;
    let mut found = Found::One(root);
    for (depth, step) in keypath.iter().enumerate() {
        found = enter(found, step, 0).map_err(|problem| {
            let place = if depth == 0 { "the value".to_owned() } else { format!("what is at #{}", crate::api::reference::pointer(&keypath[..depth])) };
            error(keypath, format!("{place} {problem}"))
        })?;
    }
    Ok(found)
}

/// One step; the error completes a sentence that starts with the place.
fn enter<'v>(found: Found<'v>, step: &str, nesting: usize) -> Result<Found<'v>, String> {
    if nesting > MAX_NESTING {
        return Err("is nested too deeply".to_owned());
    }
    let items: Vec<Found<'v>> = match found {
        Found::Each(items) => items,
        Found::One(raw) => match raw.get().as_bytes().first() {
            Some(b'{') => return member(raw, step).map(Found::One),
            Some(b'[') => {
                serde_json::from_str::<Vec<&RawValue>>(raw.get()).map_err(|_| "is a list that cannot be read".to_owned())?.into_iter().map(Found::One).collect()
            }
            _ => return Err(format!("is {}, which has no members", kind(raw))),
        },
    };
    let length = items.len();
    if let Some(index) = index(step) {
        return items.into_iter().nth(index).ok_or_else(|| format!("is a list of {length}, so that it has no item {index}"));
    }
    items
        .into_iter()
        .map(|item| enter(item, step, nesting + 1))
        .collect::<Result<_, _>>()
        .map(Found::Each)
        .map_err(|problem| format!("is a list with an item that {problem}"))
}

pub(super) fn index(step: &str) -> Option<usize> {
    let canonical = step == "0" || (!step.starts_with('0') && !step.is_empty() && step.bytes().all(|b| b.is_ascii_digit()));
    if canonical { step.parse().ok() } else { None }
}

fn member<'v>(object: &'v RawValue, name: &str) -> Result<&'v RawValue, String> {
    find(object, name)?.ok_or_else(|| format!("has no member {name:?}"))
}

/// The last member of this name, if there is any; the error completes a sentence that starts with the place.
pub(super) fn find<'v>(object: &'v RawValue, name: &str) -> Result<Option<&'v RawValue>, String> {
    let mut deserializer = serde_json::Deserializer::from_str(object.get());
    Member(name).deserialize(&mut deserializer).map_err(|_| "is an object that cannot be read".to_owned())
}

fn kind(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        _ => "a number",
    }
}

fn content(found: &Found<'_>) -> Result<Sensitive, &'static str> {
    if let Found::One(raw) = found {
        match kind(raw) {
            "null" => return Err("the member is null"),
            "a string" => return serde_json::from_str::<String>(raw.get()).map(Sensitive::from).map_err(|_| "the string is not Unicode"),
            _ => {}
        }
    }
    let mut json = Vec::with_capacity(size(found));
    write(found, &mut json);
    Ok(Sensitive::new(json))
}

/// The length of the JSON text, so that the buffer never grows: a grown buffer would leave a copy behind that nobody wipes.
fn size(found: &Found<'_>) -> usize {
    match found {
        Found::One(raw) => raw.get().len(),
        Found::Each(items) => 2 + items.iter().map(|item| size(item) + 1).sum::<usize>(),
    }
}

fn write(found: &Found<'_>, json: &mut Vec<u8>) {
    match found {
        Found::One(raw) => json.extend_from_slice(raw.get().as_bytes()),
        Found::Each(items) => {
            json.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    json.push(b',');
                }
                write(item, json);
            }
            json.push(b']');
        }
    }
}

/// Finds one member of an object without keeping the others.
struct Member<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(MemberName(name)) = map.next_key()? {
            if name == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// All members of an object, by name; of a repeated one the last.
struct Members<'v>(BTreeMap<Cow<'v, str>, &'v RawValue>);

impl<'de> serde::Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let members: BTreeMap<MemberName<'de>, &'de RawValue> = serde::Deserialize::deserialize(deserializer)?;
        Ok(Self(members.into_iter().map(|(name, raw)| (name.0, raw)).collect()))
    }
}

/// A member's name, borrowed where it holds no escapes.
#[derive(serde::Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct MemberName<'v>(#[serde(borrow)] Cow<'v, str>);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(steps: &[&str]) -> Vec<String> {
        steps.iter().map(|&step| step.to_owned()).collect()
    }

    fn get(text: &str, steps: &[&str]) -> Result<String, String> {
        match extract(text, &path(steps)) {
            Ok(found) => Ok(String::from_utf8(found.expose().to_vec()).expect("text")),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_string_is_its_text_and_everything_else_the_text_that_stood_there() {
        let text = r#"{"s":"p\u00e4\n\"q\"","n":1.50,"big":123456789012345678901234567890.10e2,"t":true,"o":{"z":1, "a":[ 1,2 ]},"l":[1 , "x"]}"#;
        for (step, expected) in [
            ("s", "pä\n\"q\""),
            ("n", "1.50"),
            ("big", "123456789012345678901234567890.10e2"),
            ("t", "true"),
            ("o", r#"{"z":1, "a":[ 1,2 ]}"#),
            ("l", r#"[1 , "x"]"#),
        ] {
            assert_eq!(get(text, &[step]).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn steps_go_through_objects_and_lists() {
        assert_eq!(get(r#"{"a":{"b":{"c":42}}}"#, &["a", "b", "c"]).as_deref(), Ok("42"));
        assert_eq!(get(r#"{"a":[{"b":"x"},{"b":"y"}]}"#, &["a", "1", "b"]).as_deref(), Ok("y"));
        assert_eq!(get(r#"{"a.b":1,"a":{"b":2}}"#, &["a.b"]).as_deref(), Ok("1"));
        assert_eq!(get(r#"{"b/c":{"":7}}"#, &["b/c", ""]).as_deref(), Ok("7"));
        assert_eq!(get(r#"{"a":1,"a":2}"#, &["a"]).as_deref(), Ok("2"));
        assert_eq!(get(r#"{"\u0061":1}"#, &["a"]).as_deref(), Ok("1"));
    }

    #[test]
    fn a_name_takes_that_member_of_each_object_of_a_list() {
        assert_eq!(get(r#"{"items":[{"id":1},{"id":2}]}"#, &["items", "id"]).as_deref(), Ok("[1,2]"));
        assert_eq!(get(r#"{"l":[{"m":{"k":5}},{"m":{"k":"s"}}]}"#, &["l", "m", "k"]).as_deref(), Ok(r#"[5,"s"]"#));
        assert_eq!(get(r#"{"l":[{"m":{"k":5}},{"m":{"k":6}}]}"#, &["l", "m", "1", "k"]).as_deref(), Ok("6"));
        assert_eq!(get(r#"[[{"a":1}],[{"a":2},{"a":3}]]"#, &["a"]).as_deref(), Ok("[[1],[2,3]]"));
        assert_eq!(get("{\"l\":[]}", &["l", "n"]).as_deref(), Ok("[]"));
    }

    #[test]
    fn what_is_not_there_is_an_error_that_names_the_place() {
        for (text, steps, expected) in [
            (r#"{"a":{"b":1}}"#, &["a", "x"][..], r#"nothing at #/a/x: what is at #/a has no member "x""#),
            (r#"{"a":{},"b":1}"#, &["a", "b"], r#"nothing at #/a/b: what is at #/a has no member "b""#),
            (r#"{"a":"topsecret"}"#, &["a", "b"], "nothing at #/a/b: what is at #/a is a string, which has no members"),
            (r#"{"a":null}"#, &["a"], "nothing at #/a: the member is null"),
            ("topsecret", &["a"], "nothing at #/a: the value is not JSON"),
            ("{\"a\":topsecret}", &["a"], "nothing at #/a: the value is not JSON"),
            ("42", &["a"], "nothing at #/a: the value is a number, which has no members"),
            ("[1,2]", &["7"], "nothing at #/7: the value is a list of 2, so that it has no item 7"),
            (r#"[{"n":1},{}]"#, &["n"], r#"nothing at #/n: the value is a list with an item that has no member "n""#),
            ("[1]", &["01"], "nothing at #/01: the value is a list with an item that is a number, which has no members"),
        ] {
            assert_eq!(get(text, steps), Err(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn lists_nested_without_end_are_refused() {
        let text = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
        assert!(get(&text, &["a"]).is_err_and(|error| error.contains("nested too deeply")));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_no_error_quotes_it(text in any::<String>(), steps in proptest::collection::vec("[a-z0-9]{0,3}", 1..4)) {
            let marked = format!("{{\"k\":[\"CANARY{}", text.escape_default());
            for text in [&text, &marked] {
                if let Err(error) = extract(text, &steps) {
                    prop_assert!(!error.to_string().contains("CANARY"));
                }
            }
        }

        #[test]
        fn a_member_that_was_put_in_is_found_again(name in any::<String>(), value in any::<String>(), other in "[a-z]{1,4}") {
            let text = serde_json::json!({ &name: &value, format!("{name}{other}"): 1 }).to_string();
            prop_assert_eq!(extract(&text, &[name]).map(|v| v.expose().to_vec()), Ok(value.into_bytes()));
        }
    }
}
