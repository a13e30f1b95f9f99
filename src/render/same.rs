//! Whether two JSON texts say the same, however they are spelled: spaces, the order of members, escapes of characters and of numbers don't count. Numbers are
//! the same that are the same in 64 bits with a point: some stores keep no others.
//!
//! Two values enter, yes or no leaves. What is no JSON is the same only byte for byte, except that a JSON string and its bare text are the same: some stores
//! are given the one and give back the other. What nests deeper than the JSON library goes is the same only byte for byte, too.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::MAX_NESTING;
use crate::sensitive::Sensitive;

/// Whether a value that is held is the one that was wanted.
#[must_use]
pub fn same(wanted: &Sensitive, held: &Sensitive) -> bool {
    if wanted == held {
        return true;
    }
    let Some(one) = parse(wanted) else { return false };
    match parse(held) {
        Some(other) => alike(one, other, MAX_NESTING) || text(one).is_some_and(|text| text.as_bytes() == held.expose()),
        None => text(one).is_some_and(|text| text.as_bytes() == held.expose()),
    }
}

fn parse(value: &Sensitive) -> Option<&RawValue> {
    serde_json::from_slice(value.expose()).ok()
}

fn text(raw: &RawValue) -> Option<Zeroizing<String>> {
    serde_json::from_str::<String>(raw.get()).ok().map(Zeroizing::new)
}

/// Whether objects and lists nest deeper than is compared.
#[must_use]
pub fn nests_too_deeply(json: &str) -> bool {
    let (mut depth, mut is_text, mut is_escaped) = (0_usize, false, false);
    json.bytes().any(|byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_text,
            b'"' => is_text = !is_text,
            b'{' | b'[' if !is_text => depth += 1,
            b'}' | b']' if !is_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > MAX_NESTING
    })
}

/// `depth`: how much deeper it goes.
fn alike(one: &RawValue, other: &RawValue, depth: usize) -> bool {
    let (a, b) = (one.get(), other.get());
    let Some(depth) = depth.checked_sub(1) else { return a == b };
    match (a.as_bytes().first(), b.as_bytes().first()) {
        (Some(b'{'), Some(b'{')) => {
            let members = |text| serde_json::from_str::<BTreeMap<String, &RawValue>>(text).ok();
            let (Some(a), Some(b)) = (members(a), members(b)) else { return false };
            a.len() == b.len() && a.iter().zip(&b).all(|((name, one), (other_name, other))| name == other_name && alike(one, other, depth))
        }
        (Some(b'['), Some(b'[')) => {
            let items = |text| serde_json::from_str::<Vec<&RawValue>>(text).ok();
            let (Some(a), Some(b)) = (items(a), items(b)) else { return false };
            a.len() == b.len() && a.iter().zip(&b).all(|(one, other)| alike(one, other, depth))
        }
        (Some(b'"'), Some(b'"')) => text(one).is_some_and(|text_of_one| text(other).is_some_and(|other| text_of_one == other)),
        (Some(b'-' | b'0'..=b'9'), Some(b'-' | b'0'..=b'9')) => a == b || number(a).is_some_and(|a| number(b).is_some_and(|b| a.total_cmp(&b).is_eq())),
        _ => a == b,
    }
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_does_not_count_and_content_does() {
        let same = |one: &str, other: &str| same(&Sensitive::from(one.to_owned()), &Sensitive::from(other.to_owned()));
        for (one, other) in [
            (r#"{"a":"1","b":[1,{"c":null}]}"#, "{ \"b\": [1, {\"c\":null}], \"a\":\"1\" }\n"),
            (r#"{"a":"<&é"}"#, r#"{"a":"\u003c\u0026\u00e9"}"#),
            (r#""p\"w""#, "p\"w"),
            (r#""12""#, "12"),
            ("no JSON", "no JSON"),
            ("18446744073709551616.0", "18446744073709551616.0"),
            (r#"{"a":1.00,"b":[100]}"#, r#"{"a":1,"b":[1e2]}"#),
            ("12345678901234567890", "12345678901234567000"),
        ] {
            assert!(same(one, other), "{one} {other}");
        }
        for (one, other) in [
            (r#"{"a":1}"#, r#"{"a":1,"b":2}"#),
            (r#"{"a":1,"c":2}"#, r#"{"a":1,"b":2}"#),
            (r#"{"a":1}"#, r#"{"a":"1"}"#),
            (r#"{"a":1.0}"#, r#"{"a":1.01}"#),
            ("1", r#""1.0""#),
            ("[1,2]", "[2,1]"),
            ("[1]", "[1,1]"),
            (r#"{"a":{}}"#, r#"{"a":[]}"#),
            ("no JSON", "no json"),
            ("null", ""),
            ("{}", "null"),
        ] {
            assert!(!same(one, other), "{one} {other}");
        }
    }

    #[test]
    fn what_nests_without_end_ends_nothing() {
        let nested = |depth: usize, space: &str| Sensitive::from([&"[".repeat(depth), space, &"]".repeat(depth)].concat());
        assert!(same(&nested(100, ""), &nested(100, " ")));
        assert!(same(&nested(100_000, ""), &nested(100_000, "")));
        assert!(!same(&nested(100_000, ""), &nested(100_000, " ")));
        let is_deep = |json: &Sensitive| nests_too_deeply(std::str::from_utf8(json.expose()).expect("text"));
        assert!(!is_deep(&nested(MAX_NESTING, "")) && is_deep(&nested(MAX_NESTING + 1, "")));
        assert!(!nests_too_deeply(&format!("[{}{}]", r#""[\"[","#.repeat(200), "{},".repeat(200))));
    }
}
