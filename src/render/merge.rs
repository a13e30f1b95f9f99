//! Doing again what somebody did: the changes between two JSON texts, put on top of a third.
//!
//! Three JSON texts enter; a fourth leaves, with what was added and changed from the first to the second also done to the third, member by member. Objects
//! are taken apart, everything else is one piece. No member is ever taken out. No error holds any part of a text.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use serde_json::value::RawValue;

use super::{MAX_NESTING, RenderError, keypath::error, replace::replace};
use crate::sensitive::Sensitive;

type Members<'v> = BTreeMap<String, &'v RawValue>;

/// One change: what is at a keypath now, or that nothing is any more.
struct Change<'v>(Vec<String>, Option<&'v RawValue>);

/// What was written over in a store that can't compare, and has to be done again before anything else is written.
#[derive(Default)]
pub struct Owed(Vec<(Sensitive, Sensitive)>);

/// How many versions before one that was written over are looked through for the one that it was made of.
const DEPTH: usize = 8;

impl Owed {
    /// This was written as one version over those that came after another one: reads them, and some from before. Whether all between could be read.
    pub async fn learn<'r>(&mut self, base: u64, written: u64, read: impl Fn(u64) -> BoxFuture<'r, Option<Sensitive>>) -> bool {
        let mut versions = Vec::new();
        for number in base.saturating_sub(DEPTH as u64 - 1).max(1)..written {
            match read(number).await {
                Some(text) => versions.push(text),
                None if number < base => {}
                None => return false,
            }
        }
        self.add(&versions, usize::try_from(written - 1 - base).unwrap_or(usize::MAX));
        true
    }

    /// The last `theirs` of these versions, oldest first, are somebody else's and were written over. Whoever wrote one may have written over others, too,
    /// so that it is not their work that these are missing in it: it was made of that version before it from which it differs least.
    fn add(&mut self, versions: &[Sensitive], theirs: usize) {
        for at in versions.len().saturating_sub(theirs)..versions.len() {
            let version = &versions[at];
            let before = versions[at.saturating_sub(DEPTH)..at].iter().rev();
            if let Some(from) = before.min_by_key(|from| changes(from, version)) {
                self.0.push((from.clone(), version.clone()));
            }
        }
    }

    /// Whether nothing is owed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is there now, with all that is owed done to it.
    pub fn onto(&self, there: &Sensitive) -> Result<Sensitive, RenderError> {
        self.0.iter().try_fold(there.clone(), |text, (from, to)| redo(utf8(from)?, utf8(to)?, utf8(&text)?))
    }
}

/// How many members differ; of what is no JSON, more than any.
fn changes(from: &Sensitive, to: &Sensitive) -> usize {
    let count = || {
        let (from, to) = (serde_json::from_slice(from.expose()).ok()?, serde_json::from_slice(to.expose()).ok()?);
        let mut changes = Vec::new();
        differences(from, to, &mut Vec::new(), &mut changes);
        Some(changes.len())
    };
    count().unwrap_or(usize::MAX)
}

/// A value as text.
pub fn utf8(value: &Sensitive) -> Result<&str, RenderError> {
    std::str::from_utf8(value.expose()).map_err(|_| error(&[], "the value is not UTF-8"))
}

/// The text `onto` with all that is in `to` and not, or otherwise, in `from`.
pub fn redo(from: &str, to: &str, onto: &str) -> Result<Sensitive, RenderError> {
    let parse = |text| serde_json::from_str::<&RawValue>(text).map_err(|_| error(&[], "the value is not JSON"));
    let mut changes = Vec::new();
    differences(parse(from)?, parse(to)?, &mut Vec::new(), &mut changes);
    let mut text = Sensitive::from(onto.to_owned());
    for Change(keypath, json) in changes {
        let now = std::str::from_utf8(text.expose()).map_err(|_| error(&keypath, "the value is not UTF-8"))?;
        // What is missing may have been written over, and not taken out: rather it comes back.
        if let Some(json) = json {
            text = replace(now, &keypath, json.get())?;
        }
    }
    Ok(text)
}

fn members(raw: &RawValue) -> Option<Members<'_>> {
    serde_json::from_str(raw.get()).ok()
}

fn differences<'v>(from: &'v RawValue, to: &'v RawValue, path: &mut Vec<String>, changes: &mut Vec<Change<'v>>) {
    if from.get() == to.get() {
        return;
    }
    // What nests deeper is one piece.
    let is_deep = path.len() >= MAX_NESTING;
    let (false, Some(before), Some(after)) = (is_deep, members(from), members(to)) else {
        return changes.push(Change(path.clone(), Some(to)));
    };
    for (name, now) in &after {
        path.push(name.clone());
        match before.get(name) {
            Some(was) => differences(was, now, path, changes),
            None => changes.push(Change(path.clone(), Some(now))),
        }
        path.pop();
    }
    for name in before.into_keys().filter(|name| !after.contains_key(name)) {
        changes.push(Change([path.as_slice(), &[name]].concat(), None));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redone(from: &str, to: &str, onto: &str) -> String {
        String::from_utf8(redo(from, to, onto).expect("redone").expose().to_vec()).expect("text")
    }

    #[test]
    fn what_somebody_changed_is_done_to_another_text_and_nothing_else() {
        assert_eq!(redone("{}", r#"{"a":1.50}"#, r#"{"b":2}"#), r#"{"a":1.50,"b":2}"#);
        assert_eq!(redone(r#"{"a":1,"b":{"c":1}}"#, r#"{"a":1,"b":{"c":2,"d":3}}"#, r#"{"a":9,"b":{"c":1,"e":4}}"#), r#"{"a":9,"b":{"d":3,"c":2,"e":4}}"#);
        assert_eq!(redone(r#"{"a":1,"b":2}"#, r#"{"b":3}"#, r#"{"a":1,"b":2,"c":3}"#), r#"{"a":1,"b":3,"c":3}"#, "nothing is taken out");
        assert_eq!(redone(r#"{"a":[1]}"#, r#"{"a":[1,2]}"#, r#"{"a":[0]}"#), r#"{"a":[1,2]}"#, "a list is one piece");
        assert_eq!(redone("{}", "{}", "{ }"), "{ }");
        let deep = |leaf: &str| [&r#"{"a":"#.repeat(10_000), leaf, &"}".repeat(10_000)].concat();
        assert_eq!(redone(&deep("1"), &deep("2"), &deep("1")), deep("2"), "what nests without end");
    }

    #[test]
    fn what_somebody_wrote_over_is_not_taken_for_their_work() {
        let versions = [r#"{"p":1}"#, r#"{"p":1,"b":1}"#, r#"{"p":2}"#].map(|text| Sensitive::from(text.to_owned()));
        let onto = |theirs: usize, text: &str| {
            let mut owed = Owed::default();
            owed.add(&versions, theirs);
            String::from_utf8(owed.onto(&Sensitive::from(text.to_owned())).expect("done").expose().to_vec()).expect("text")
        };
        // The third was made of the first: that it lacks b is nobody's wish.
        assert_eq!(onto(1, r#"{"p":1,"b":1,"c":1}"#), r#"{"p":2,"b":1,"c":1}"#);
        assert_eq!(onto(2, r#"{"p":1,"c":1}"#), r#"{"b":1,"p":2,"c":1}"#);
        assert_eq!(onto(0, "{}"), "{}");
    }

    #[test]
    fn what_can_not_be_done_again_is_said_without_a_value() {
        for (from, to, onto) in [("cAnArY", "{}", "{}"), ("{}", r#"{"a":"cAnArY"}"#, "[]"), (r#"{"a":{}}"#, r#"{"a":{"b":"cAnArY"}}"#, "{}")] {
            let error = redo(from, to, onto).expect_err("not to be done");
            assert!(!error.to_string().contains("cAnArY"), "{error}");
        }
    }
}
