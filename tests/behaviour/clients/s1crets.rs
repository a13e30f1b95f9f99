//! s1crets 0.0.12 (`aws.sm` and `aws.ps`) and `Secrets`: reads with and without keypath, by path, whether something exists, and updates.

use futures::TryStreamExt;
use robotosecret::Secrets;
use serde_json::{Value, json};

use super::{Comparison, Dice, Theirs, class, done, given, in_an_environment_of_aws, read, shown, with_keypath};

const NAMES: [&str; 6] = ["one", "two", "dir/three", "dir/four", "dir/sub/five", "none"];

struct Both {
    theirs: Theirs,
    cached: Secrets,
    fresh: Secrets,
    comparison: Comparison,
}

/// The name of something in a store for one of the two.
fn name(store: &str, whose: &str, name: &str) -> String {
    if store == "sm" { format!("s1crets-{whose}/{name}") } else { format!("/s1crets-{whose}/{name}") }
}

fn reference(store: &str, of: &str) -> String {
    format!("aws.{store}://{}", name(store, "ours", of))
}

impl Both {
    async fn new() -> Self {
        let python = testbed::python::environment("s1crets", "s1crets.txt", "s1crets (once a machine, some seconds)").unwrap();
        let theirs = Theirs::of_aws(&python, include_str!("s1crets.py"));
        let (cached, fresh) = (Secrets::builder().build().await.unwrap(), Secrets::builder().no_cache().build().await.unwrap());
        Self { theirs, cached, fresh, comparison: Comparison::new("s1crets") }
    }

    /// Somebody else does this to both; the steps begin with what is done and the name.
    fn outside(&mut self, store: &str, what: &str, of: &str, rest: &[Value]) -> Value {
        let answers = ["theirs", "ours"].map(|whose| {
            let step = [&[json!(what), json!(name(store, whose, of))][..], rest].concat();
            self.theirs.ask(Value::Array(step))
        });
        assert_eq!(answers[0], answers[1], "{what} {of}");
        answers[0].clone()
    }

    fn put(&mut self, store: &str, of: &str, kind: &str, text: &str) {
        let what = if store == "sm" { "put_secret" } else { "put_parameter" };
        assert_eq!(self.outside(store, what, of, &[json!(kind), json!(text)]), "ok", "{what} {of} {text}");
    }

    /// What a step answers there and here.
    async fn answers(&mut self, step: &Value) -> [Value; 2] {
        let [what, store, of] = [0, 1, 2].map(|index| step[index].as_str().unwrap());
        let from_cache = what.ends_with("_cached");
        let what = what.trim_end_matches("_cached");
        let mut asked = step.as_array().unwrap().clone();
        asked[0] = json!(what);
        asked[2] = json!(name(store, "theirs", of));
        if what != "below" {
            asked.push(json!(from_cache));
        }
        let theirs = self.theirs.ask(Value::Array(asked));
        let ours = if from_cache { &self.cached } else { &self.fresh };
        let keypath: Vec<String> = serde_json::from_value(step[3].clone()).unwrap_or_default();
        let reference = with_keypath(&reference(store, of), &keypath);
        let ours = match what {
            "get" if from_cache => read(ours.get(&reference).await),
            "get" => read(ours.get_fresh(&reference).await),
            "exists" => ours.path_exists(&reference).await.map_or_else(|error| json!(class(&error)), Value::from),
            "update" => done(ours.update(&reference, &given(step[3].as_str().unwrap(), step[4].as_str().unwrap())).await),
            "below" => {
                let found = ours.get_by_path(&reference, true).try_collect::<Vec<_>>().await;
                found.map_or_else(|error| json!(class(&error)), |found| found.iter().map(|(reference, secret)| (reference.clone(), shown(secret))).collect())
            }
            other => panic!("{other}"),
        };
        let theirs = match theirs {
            Value::Object(found) => found.into_iter().map(|(there, value)| (format!("aws.{store}://{}", there.replacen("theirs", "ours", 1)), value)).collect(),
            other => other,
        };
        [theirs, ours]
    }

    /// A step that meets a difference, or none.
    async fn meets(&mut self, difference: Option<&'static str>, step: Value) {
        let [theirs, ours] = self.answers(&step).await;
        self.comparison.meets(&step, &theirs, &ours, difference);
    }

    /// A step of which it isn't known whether it meets a difference.
    async fn step(&mut self, step: Value) {
        let [theirs, ours] = self.answers(&step).await;
        if theirs == ours {
            return self.comparison.note(&step, &theirs, &ours, || None);
        }
        let why = match step[0].as_str().unwrap() {
            "get" | "exists" => {
                let store = step[1].as_str().unwrap();
                let held = self.theirs.ask(json!([if store == "sm" { "held" } else { "parameter" }, name(store, "theirs", step[2].as_str().unwrap())]));
                why(&step, &held, &theirs, &ours)
            }
            "below" => decoded(&theirs, &ours).then_some(DECODED),
            _ => None,
        };
        self.comparison.note(&step, &theirs, &ours, || why);
    }

    /// What somebody else finds of a name in the end.
    fn same_state(&mut self, store: &str, of: &str) -> Value {
        self.outside(store, if store == "sm" { "secret_state" } else { "parameter_state" }, of, &[])
    }
}

const DECODED: &str = "a whole value";
const SCHEDULED: &str = "a secret that is scheduled for deletion";
const PLAIN: &str = "a keypath into plain text";
const BINARY: &str = "a keypath into binary";
const EMPTY: &str = "an empty value on the way";
const NULL: &str = "null";
const GAP: &str = "a gap in a list";
const INDEX: &str = "an index";
const PYTHON: &str = "Python's own errors";
const PARAMETER: &str = "a keypath into a parameter";

/// Whether what lies below a path differs by nothing but that theirs is decoded.
fn decoded(theirs: &Value, ours: &Value) -> bool {
    let (Some(theirs), Some(ours)) = (theirs.as_object(), ours.as_object()) else { return false };
    theirs.keys().eq(ours.keys()) && theirs.values().zip(ours.values()).all(|(theirs, ours)| theirs == ours || is_decoded(theirs, ours))
}

/// Whether this is what the text of that is, taken for JSON.
fn is_decoded(theirs: &Value, ours: &Value) -> bool {
    let (Some(theirs), Some(Ok(json))) = (theirs[1].as_str(), ours[1].as_str().map(serde_json::from_str::<Value>)) else { return false };
    json.as_str().map_or_else(|| serde_json::from_str::<Value>(theirs).is_ok_and(|theirs| theirs == json), |text| text == theirs)
}

/// Why a read differs, by what is held and the keypath; the answers have to be those that the reason makes.
fn why(step: &Value, held: &Value, theirs: &Value, ours: &Value) -> Option<&'static str> {
    let keypath: Vec<String> = serde_json::from_value(step[3].clone()).ok()?;
    let missing = if step[0] == "exists" { *ours == false } else { ours == "KeypathNotFound" };
    if held == "Refused" {
        return (theirs == "Refused" && (ours == "NotFound" || *ours == false)).then_some(SCHEDULED);
    }
    if step[1] == "ps" {
        return (!keypath.is_empty() && missing || ours != theirs && theirs == held).then_some(PARAMETER);
    }
    if held[0] == "bytes" {
        return (missing && (theirs == held || *theirs == true)).then_some(BINARY);
    }
    let Ok(json) = serde_json::from_str::<Value>(held[1].as_str()?) else { return (missing && (theirs == held || *theirs == true)).then_some(PLAIN) };
    if keypath.is_empty() {
        return (ours == held && is_decoded(theirs, ours)).then_some(DECODED);
    }
    let raised = ["TypeError", "AttributeError", "ValueError"].iter().any(|name| theirs == name);
    match walk(&json, &keypath) {
        // What comes after the first may be anything: Python is on another way then.
        Some(PYTHON) => raised.then_some(PYTHON),
        Some(INDEX) => Some(INDEX),
        // Each item of an empty list has the member.
        Some(EMPTY) => (missing || *ours == true || *ours == json!(["text", "[]"])).then_some(EMPTY),
        Some(GAP) => (missing || ours[1].as_str().is_some_and(|list| list.contains("[]"))).then_some(GAP),
        Some(reason) => missing.then_some(reason),
        None => None,
    }
}

/// What s1crets does on a way through JSON that this project doesn't.
fn walk(root: &Value, keypath: &[String]) -> Option<&'static str> {
    if !root.is_object() && !root.as_array().is_some_and(Vec::is_empty) {
        return Some(PYTHON);
    }
    let mut at = vec![root];
    let mut in_list = false;
    for (depth, step) in keypath.iter().enumerate() {
        if !in_list
            && let Value::Array(items) = at[0]
            && !items.is_empty()
        {
            if step.parse::<usize>().is_ok() {
                return Some(INDEX);
            }
            (at, in_list) = (items.iter().collect(), true);
        }
        if (depth > 0 || root.is_array()) && !in_list && is_empty(at[0]) {
            return Some(EMPTY);
        }
        if in_list && at.iter().any(|item| !is_empty(item) && !item.is_object()) {
            return Some(PYTHON);
        }
        let next: Vec<Option<&Value>> = at.iter().map(|item| item.get(step)).collect();
        if in_list && next.iter().any(Option::is_none) {
            return Some(GAP);
        }
        at = next.into_iter().collect::<Option<_>>()?;
    }
    (!in_list && at[0].is_null()).then_some(NULL)
}

/// What Python takes for false.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
    }
}

async fn listed_differences_of_secrets(both: &mut Both) {
    let put = |both: &mut Both, text: &str| both.put("sm", "listed", "text", text);
    // S01 to S07.
    for (held, keypath, difference) in [
        (r#"{"a":{"b":{"c":42}},"s":"txt"}"#, &["a", "b", "c"][..], None),
        (r#"{"a":{"b":{"c":42}},"s":"txt"}"#, &["a", "b"], None),
        (r#"{"a":{"b":{"c":42}},"s":"txt"}"#, &["s"], None),
        (r#"{"a":{"b":1}}"#, &["a", "x"], None),
        (r#"{"a":{"b":1},"s":"txt"}"#, &["s", "d"], None),
        (r#"{"a.b":1,"a":{"b":2}}"#, &["a.b"], None),
        (r#"{"a":1,"a":2}"#, &["a"], None),
        (r#"{"a":340282366920938463463374607431768211456}"#, &["a"], None),
        ("hunter2", &[], None),
        ("{\"a\":1} x", &["a"], Some(PLAIN)),
        ("hunter2", &["a"], Some(PLAIN)),
        (r#"{"a":{},"b":1}"#, &["a", "b"], Some(EMPTY)),
        (r#"{"a":0,"b":1}"#, &["a", "b"], Some(EMPTY)),
        (r#"{"a":[],"b":1}"#, &["a", "b"], Some(EMPTY)),
        (r#"{"a":{}}"#, &["a"], None),
        (r#"{"a":null}"#, &["a"], Some(NULL)),
        (r#"{"l":[{"n":1},{"n":2}]}"#, &["l", "n"], None),
        (r#"{"l":[{"m":{"k":5}},{"m":{"k":6}}]}"#, &["l", "m", "k"], None),
        (r#"{"l":[{"n":1},{}]}"#, &["l", "n"], Some(GAP)),
        (r#"{"l":[{"n":1},{"m":2}]}"#, &["l", "n"], Some(GAP)),
        (r#"{"l":[[]]}"#, &["l", "n"], Some(GAP)),
        (r#"{"l":[{"n":1},{"n":2}]}"#, &["l", "0"], Some(INDEX)),
        (r#"{"l":[1,2]}"#, &["l", "n"], Some(PYTHON)),
        ("123", &["a"], Some(PYTHON)),
        (r#"[["a",1]]"#, &["a"], Some("a list of pairs")),
        (r#"{"n":1.50}"#, &["n"], Some("digits")),
        (r#"{"n":NaN}"#, &["n"], Some("what isn't JSON")),
        (r#"{"a":1}"#, &[], None),
        ("123", &[], None),
        (" {\"a\": 1.50}\n", &[], Some(DECODED)),
        ("\"quoted\"", &[], Some(DECODED)),
    ] {
        put(both, held);
        both.meets(difference, json!(["get", "sm", "listed", keypath])).await;
        if difference == Some(PLAIN) {
            both.meets(difference, json!(["exists", "sm", "listed", keypath])).await;
        }
    }
    both.put("sm", "binary", "bytes", "{\"a\":1}");
    both.meets(None, json!(["get", "sm", "binary", []])).await;
    both.meets(Some(BINARY), json!(["get", "sm", "binary", ["a"]])).await;
    // S10, and what it changes besides.
    both.meets(Some("bytes that are text"), json!(["update", "sm", "listed", "bytes", "two"])).await;
    both.meets(None, json!(["update", "sm", "listed", "bytes", "\u{ff}"])).await;
    both.meets(None, json!(["update", "sm", "listed", "text", ""])).await;
    both.meets(None, json!(["update", "sm", "missing", "text", "x"])).await;
    both.outside("sm", "bare_secret", "bare", &[]);
    both.meets(None, json!(["get", "sm", "bare", []])).await;
    both.meets(None, json!(["below", "sm", "bare"])).await;
    both.put("sm", "scheduled", "text", "x");
    both.outside("sm", "drop_secret", "scheduled", &[json!(7)]);
    both.meets(Some(SCHEDULED), json!(["get", "sm", "scheduled", []])).await;
    both.meets(Some(SCHEDULED), json!(["exists", "sm", "scheduled", []])).await;
    both.meets(None, json!(["update", "sm", "scheduled", "text", "y"])).await;
    both.meets(None, json!(["below", "sm", "sched"])).await;

    // What is kept.
    for of in ["kept", "other"] {
        both.put("sm", of, "text", "old");
    }
    both.meets(None, json!(["get_cached", "sm", "kept", []])).await;
    both.put("sm", "kept", "text", "new");
    both.meets(None, json!(["get_cached", "sm", "kept", []])).await;
    both.meets(None, json!(["update_cached", "sm", "kept", "text", "newer"])).await;
    both.meets(None, json!(["get_cached", "sm", "kept", []])).await;
    both.put("sm", "kept", "text", "newest");
    both.meets(None, json!(["update_cached", "sm", "other", "text", "x"])).await;
    both.meets(Some("a write and the cache"), json!(["get_cached", "sm", "kept", []])).await;
    both.outside("sm", "drop_secret", "kept", &[json!(0)]);
    both.meets(Some("whether something exists, and the cache"), json!(["exists_cached", "sm", "kept", []])).await;
}

async fn listed_differences_of_parameters(both: &mut Both) {
    // S08.
    both.put("ps", "json", "String", r#"{"a":1}"#);
    both.meets(None, json!(["get", "ps", "json", []])).await;
    both.meets(Some(PARAMETER), json!(["get", "ps", "json", ["a"]])).await;
    both.meets(Some(PARAMETER), json!(["exists", "ps", "json", ["z"]])).await;
    both.put("ps", "list", "StringList", "a,b,c");
    both.put("ps", "prefixed", "String", "theirs");
    both.put("ps", "several/x", "String", "1");
    both.put("ps", "several/xy", "String", "2");
    for of in ["list", "prefixed", "missing", "several/x"] {
        both.meets(None, json!(["get", "ps", of, []])).await;
        both.meets(None, json!(["exists", "ps", of, []])).await;
    }
    both.meets(Some("the beginning of a name exists"), json!(["exists", "ps", "prefix", []])).await;
    both.meets(Some("the beginning of a name exists"), json!(["exists", "ps", "several", []])).await;
    both.meets(Some("an update of the beginning of a name"), json!(["update", "ps", "prefix", "text", "clobbered"])).await;
    assert_eq!(both.theirs.ask(json!(["parameter", name("ps", "theirs", "prefixed")])), json!(["text", "clobbered"]));
    assert_eq!(both.theirs.ask(json!(["parameter", name("ps", "ours", "prefixed")])), json!(["text", "theirs"]));
    both.meets(Some("an update of a name that others begin with"), json!(["update", "ps", "several/x", "text", "3"])).await;
}

async fn references_to_secrets(both: &mut Both) {
    // S09: one secret for both, since it is only read.
    both.theirs.ask(json!(["put_secret", "s1crets-ref", "text", r#"{"a":{"b":"deep"},"n":0}"#]));
    both.theirs.ask(json!(["put_secret", "s1crets-ref/text", "text", "txt"]));
    for (rest, difference) in [
        ("", None),
        ("/a/b", None),
        ("/n", None),
        ("/text", None),
        ("-none", None),
        ("/zz", Some("a member that a parameter's path names")),
        ("/text/zz", Some(PLAIN)),
    ] {
        let path = format!("/aws/reference/secretsmanager/s1crets-ref{rest}");
        let step = json!(["get", "ps", path, []]);
        let theirs = both.theirs.ask(step.clone());
        let ours = read(both.fresh.get_fresh(&format!("aws.ps://{path}")).await);
        both.comparison.meets(&step, &theirs, &ours, difference);
    }
    // A version, and a label that nothing has.
    both.theirs.ask(json!(["put_parameter", "/s1crets-versions", "String", "one"]));
    both.theirs.ask(json!(["put_parameter", "/s1crets-versions", "String", "two"]));
    for (there, here) in [(":1", "?version=1"), (":2", "?version=2"), (":9", "?version=9"), (":none", "?label=none")] {
        let step = json!(["get", "ps", format!("/s1crets-versions{there}"), []]);
        let theirs = both.theirs.ask(step.clone());
        let ours = read(both.fresh.get_fresh(&format!("aws.ps:///s1crets-versions{here}")).await);
        both.comparison.meets(&step, &theirs, &ours, None);
    }
}

/// One of the values that a store takes.
fn value(dice: &mut Dice) -> (&'static str, String) {
    match dice.below(10) {
        0 => ("text", "hunter2 pä$日".to_owned()),
        1 => ("bytes", "\u{0}\u{ff}\u{80}".to_owned()),
        2 => ("text", "{\"a\": broken".to_owned()),
        3 => ("text", dice.json(1)),
        _ => ("text", dice.object(3)),
    }
}

async fn any_secret(both: &mut Both, dice: &mut Dice) {
    let of = dice.pick(&NAMES);
    match dice.below(20) {
        0..=7 => {
            let keypath = if dice.below(4) == 0 { Vec::new() } else { dice.keypath() };
            both.step(json!(["get", "sm", of, keypath])).await;
        }
        8 | 9 => {
            let keypath = if dice.below(2) == 0 { Vec::new() } else { dice.keypath() };
            both.step(json!(["exists", "sm", of, keypath])).await;
        }
        10 => {
            let path = dice.pick(&["dir/", "dir", "dir/sub/", "o", "nothing/"]);
            both.step(json!(["below", "sm", path])).await;
        }
        11..=14 => {
            // Bytes that are text are a listed difference, which leaves other things behind.
            let (kind, text) = value(dice);
            both.step(json!(["update", "sm", of, kind, text])).await;
        }
        15 if dice.below(3) == 0 => drop(both.outside("sm", "drop_secret", of, &[json!(dice.pick(&[0, 7, 30]))])),
        15 | 16 => drop(both.outside("sm", "restore_secret", of, &[])),
        _ if of == "none" => {}
        _ => {
            let (kind, text) = value(dice);
            both.put("sm", of, kind, &text);
        }
    }
}

async fn any_parameter(both: &mut Both, dice: &mut Dice) {
    let of = dice.pick(&NAMES);
    let text = dice.pick(&["x", "123", "{\"a\":{\"b\":1}}", "pä$日 x", " a,b ", "\"quoted\"", "null"]);
    match dice.below(12) {
        0..=3 => {
            let keypath = if dice.below(4) == 0 { dice.keypath() } else { Vec::new() };
            both.step(json!(["get", "ps", of, keypath])).await;
        }
        4 => both.step(json!(["exists", "ps", of, []])).await,
        5 => {
            let path = dice.pick(&["dir", "dir/sub", "nothing"]);
            both.step(json!(["below", "ps", path])).await;
        }
        6..=8 => both.step(json!(["update", "ps", of, "text", text])).await,
        9 if dice.below(2) == 0 => drop(both.outside("ps", "drop_parameter", of, &[])),
        _ if of == "none" => {}
        _ => {
            let kind = dice.pick(&["String", "StringList", "SecureString"]);
            both.put("ps", of, kind, text);
        }
    }
}

#[test]
fn s1crets_and_the_library_answer_and_leave_behind_the_same_but_for_what_is_listed() {
    in_an_environment_of_aws("clients::s1crets::compared");
}

#[tokio::test]
#[ignore = "run by the test above, in an environment of its own"]
async fn compared() {
    let mut both = Both::new().await;
    listed_differences_of_secrets(&mut both).await;
    listed_differences_of_parameters(&mut both).await;
    references_to_secrets(&mut both).await;
    let mut dice = Dice::new();
    for _ in 0..500 {
        any_secret(&mut both, &mut dice).await;
    }
    for _ in 0..250 {
        any_parameter(&mut both, &mut dice).await;
    }
    let mut there = 0;
    for store in ["sm", "ps"] {
        for of in NAMES {
            there += usize::from(both.same_state(store, of).is_array());
        }
    }
    assert!(there > 4, "only {there} are there in the end");
    both.comparison.end(&[("value", 40), ("ok", 15), ("NotFound", 20), ("KeypathNotFound", 15), ("Refused", 3)]);
}
