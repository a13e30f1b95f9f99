//! Writing into a value: one member of a JSON text is put in, and all the rest stays byte for byte.
//!
//! A JSON text, a keypath and the JSON of the member enter; the text with it leaves. No error holds any part of the text. The steps of a keypath mean what
//! they mean for reading, except that a name never stands for the members of all items of a list: which of them is meant could not be told.

use serde_json::value::RawValue;

use super::{
    RenderError,
    keypath::{error, find, index},
};
use crate::{api::reference::pointer, sensitive::Sensitive};

/// The text with this JSON at the keypath. The member may be new; what it is in has to be there.
pub fn replace(text: &str, keypath: &[String], json: &str) -> Result<Sensitive, RenderError> {
    let Some((last, parents)) = keypath.split_last() else { return Ok(Sensitive::from(json.to_owned())) };
    let problem = |depth: usize, problem: String| {
        let place = if depth == 0 { "the value".to_owned() } else { format!("what is at #{}", pointer(&keypath[..depth])) };
        error(keypath, format!("{place} {problem}"))
    };
    let mut parent: &RawValue = serde_json::from_str(text).map_err(|_| error(keypath, "the value is not JSON"))?;
    for (depth, step) in parents.iter().enumerate() {
        parent = enter(parent, step).and_then(|found| found.ok_or_else(|| lacks(parent, step))).map_err(|said| problem(depth, said))?;
    }
    let start = offset(text, parent);
    let (from, to, new) = match enter(parent, last).map_err(|said| problem(parents.len(), said))? {
        Some(member) => {
            let from = offset(text, member);
            (from, from + member.get().len(), json.to_owned())
        }
        None if is_object(parent) => {
            // Right behind the brace: in front of what is there, if anything is.
            let is_empty = parent.get()[1..].trim_start() == "}";
            let name = serde_json::to_string(last).map_err(|_| error(keypath, "the name can't be written"))?;
            (start + 1, start + 1, format!("{name}:{json}{}", if is_empty { "" } else { "," }))
        }
        None => return Err(problem(parents.len(), lacks(parent, last))),
    };
    // In one piece, so that no part of it is left behind where it grew.
    Ok(Sensitive::new([&text.as_bytes()[..from], new.as_bytes(), &text.as_bytes()[to..]].concat()))
}

fn is_object(raw: &RawValue) -> bool {
    raw.get().starts_with('{')
}

/// Where a part of a text begins in it.
fn offset(text: &str, part: &RawValue) -> usize {
    part.get().as_ptr() as usize - text.as_ptr() as usize
}

/// One step, if it leads to something; the error completes a sentence that starts with the place.
fn enter<'v>(raw: &'v RawValue, step: &str) -> Result<Option<&'v RawValue>, String> {
    match raw.get().as_bytes().first() {
        Some(b'{') => find(raw, step),
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(|_| "is a list that cannot be read".to_owned())?;
            let index = index(step).ok_or("is a list; name one of its items by its number")?;
            Ok(items.get(index).copied())
        }
        _ => Err("has no members".to_owned()),
    }
}

fn lacks(raw: &RawValue, step: &str) -> String {
    if is_object(raw) { format!("has no member {step:?}") } else { format!("is a list without an item {step}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(text: &str, keypath: &[&str], json: &str) -> Result<String, String> {
        let keypath: Vec<String> = keypath.iter().map(|&step| step.to_owned()).collect();
        let replaced = replace(text, &keypath, json).map_err(|error| error.to_string())?;
        let text = std::str::from_utf8(replaced.expose()).expect("text").to_owned();
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
        Ok(text)
    }

    #[test]
    fn a_member_is_put_in_and_the_rest_stays_as_it_is() {
        let text = " {\"a\" : {\"b\":1.50,\"c\":[1, {\"d\":\"x\"}]},\n\"e\":\"p\\u00e4\"}\n";
        assert_eq!(replaced(text, &["a", "b"], "2").expect("replaced"), text.replace("1.50", "2"));
        assert_eq!(replaced(text, &["a", "c", "1", "d"], "\"y\"").expect("replaced"), text.replace("\"x\"", "\"y\""));
        assert_eq!(replaced(text, &["a"], "null").expect("replaced"), " {\"a\" : null,\n\"e\":\"p\\u00e4\"}\n");
        assert_eq!(replaced(text, &["a", "new"], "[]").expect("replaced"), text.replace("{\"b\"", "{\"new\":[],\"b\""));
        assert_eq!(replaced("{ }", &["n\"ew"], "1").expect("replaced"), "{\"n\\\"ew\":1 }");
        assert_eq!(replaced("{\"a\":1,\"a\":2}", &["a"], "3").expect("replaced"), "{\"a\":1,\"a\":3}", "the one that is read");
        assert_eq!(replaced("anything", &[], "{}").expect("replaced"), "{}");
    }

    #[test]
    fn what_it_is_in_has_to_be_there() {
        for (text, keypath, expected) in [
            ("cAnArY", &["a"][..], "the value is not JSON"),
            ("{\"a\":\"cAnArY\"}", &["a", "b"], "what is at #/a has no members"),
            ("{\"a\":{}}", &["x", "b"], "the value has no member \"x\""),
            ("[\"cAnArY\"]", &["1"], "the value is a list without an item 1"),
            ("[{\"a\":1}]", &["a"], "the value is a list; name one of its items by its number"),
            ("\"cAnArY\"", &["a"], "the value has no members"),
        ] {
            let said = replaced(text, keypath, "1").expect_err("nothing to put it into");
            assert!(said.ends_with(expected) && !said.contains("cAnArY"), "{said}");
        }
    }
}
