//! Rendering: values and what the spec asks of them enter, the keys of the Secret leave.
//!
//! Pure: no I/O, no clock. It must never put a part of a value into an error; names of members and keys may stand there.

pub mod decode;
mod engine;
mod filters;
pub mod keypath;
pub mod kinds;
pub mod merge;
pub mod naming;
mod operators;
mod pems;
pub mod replace;
pub mod same;
pub mod template;

pub use filters::quoted;

use std::collections::BTreeMap;

use crate::{
    api::{Reason, reference::pointer},
    provider::Value,
    sensitive::Sensitive,
};

/// The keys of a Secret, rendered.
pub type Data = BTreeMap<String, Sensitive>;

/// How deep lists and objects are followed where it isn't a keypath that leads; the same depth at which the JSON library gives up.
pub const MAX_NESTING: usize = 128;

/// What Kubernetes allows for the data of a Secret in all, in bytes.
pub const MAX_DATA: usize = 1024 * 1024;

/// Why a value could not be rendered. No variant holds any part of a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A keypath into something that has no members, or not this one.
    #[error("nothing at #{pointer}: {problem}", pointer = pointer(.keypath))]
    Keypath {
        /// The whole keypath that was asked for.
        keypath: Vec<String>,
        /// What stood in the way, as a sentence without the value.
        problem: String,
    },
    /// An object without members would make an empty Secret.
    #[error("the value is an empty JSON object: it has no member to mirror")]
    Empty,
    /// `exclude` left nothing of it, which would make an empty Secret too.
    #[error("exclude leaves out every member: there is none to mirror")]
    Excluded,
    /// A text that starts like an object: mirroring it as one key would take the keys of yesterday's object away.
    #[error("the value starts like a JSON object and is not JSON; put it right, or mirror it as it is with data: [{{key: …, uri: …}}]")]
    BrokenObject,
    /// A name that makes no key of a Secret.
    #[error(
        "{name:?} would become the key {key:?}, which a Secret cannot have (letters, digits, - _ . and at most 253 characters); choose keys with data, or exclude, rewrite or convert it with dataFrom"
    )]
    Name {
        /// The name in the store, or of the member.
        name: String,
        /// What it became.
        key: String,
    },
    /// Two that make one key: neither may win silently.
    #[error("{first} and {second} both make the key {key:?}; nothing is written until it is clear which one is meant")]
    Collision {
        /// The key.
        key: String,
        /// One of them: a quoted name, or where it stands.
        first: String,
        /// The other.
        second: String,
    },
    /// A value that is not of the form that `decode` names.
    #[error("the value is not {form}{place}", place = .at.map(|at| format!(": see byte {at}")).unwrap_or_default())]
    Decode {
        /// The form.
        form: &'static str,
        /// The place of the first byte that doesn't fit, from 0.
        at: Option<usize>,
    },
    /// A template that can't be read or carried out.
    #[error("{origin}{line}: {problem}", line = .line.map(|line| format!(" line {line}")).unwrap_or_default())]
    Template {
        /// Where the template stands.
        origin: String,
        /// The line in it, from 1.
        line: Option<usize>,
        /// What is wrong, in our words.
        problem: String,
    },
    /// Data that the Secret's type doesn't allow.
    #[error("the type {type_} {problem}")]
    Type {
        /// The type.
        type_: String,
        /// What it demands, and what is not there.
        problem: String,
    },
    /// More than Kubernetes stores.
    #[error("the keys hold {0} bytes; a Secret holds at most 1048576")]
    TooLarge(usize),
}

impl RenderError {
    /// The reason for the condition.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Keypath { .. } | Self::Empty | Self::Excluded | Self::BrokenObject => Reason::KeypathNotFound,
            Self::Name { .. } => Reason::InvalidKey,
            Self::Collision { .. } => Reason::KeyCollision,
            Self::Decode { .. } => Reason::DecodeError,
            Self::Template { .. } => Reason::TemplateError,
            Self::TooLarge(_) | Self::Type { .. } => Reason::TargetRejected,
        }
    }
}

/// One key: the whole value byte for byte, or the part of its JSON that the keypath leads to.
pub fn part(value: &Value, keypath: &[String]) -> Result<Sensitive, RenderError> {
    match value {
        Value::Text(bytes) | Value::Binary(bytes) if keypath.is_empty() => Ok(bytes.clone()),
        _ => keypath::extract(text(value, keypath)?, keypath),
    }
}

/// A JSON object (at the keypath, if there is one) becomes its members, anything else the one member `as_key`. Names are as they are: they
/// need not be keys of a Secret yet. Sorted, each once, but for members that are skipped.
pub fn members(value: &Value, keypath: &[String], as_key: &str, skip: impl Fn(&str) -> bool) -> Result<Vec<(String, Sensitive)>, RenderError> {
    let members = match value {
        Value::Text(_) => keypath::members(text(value, keypath)?, keypath, skip)?,
        Value::Binary(_) | Value::List(_) => None,
    };
    match members {
        Some(members) => Ok(members.into_iter().collect()),
        None => Ok(vec![(as_key.to_owned(), part(value, keypath)?)]),
    }
}

/// Refuses what Kubernetes would refuse for its size.
pub fn check_size(data: &Data) -> Result<(), RenderError> {
    let size = data.values().map(Sensitive::len).sum();
    if size > MAX_DATA { Err(RenderError::TooLarge(size)) } else { Ok(()) }
}

/// Whether Kubernetes accepts this as a key of a Secret.
#[must_use]
pub fn is_key(name: &str) -> bool {
    (1..=253).contains(&name.len()) && name != "." && !name.starts_with("..") && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
}

fn text<'v>(value: &'v Value, keypath: &[String]) -> Result<&'v str, RenderError> {
    let problem = match value {
        Value::Text(text) => match std::str::from_utf8(text.expose()) {
            Ok(text) => return Ok(text),
            Err(_) => "the value is not UTF-8",
        },
        Value::Binary(_) => "the value is binary and has no members",
        Value::List(_) => "a listing has no value of its own",
    };
    Err(RenderError::Keypath { keypath: keypath.to_vec(), problem: problem.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::robotosecret::{Conversion, DEFAULT_KEY};

    fn value(text: &str) -> Value {
        Value::Text(Sensitive::from(text.to_owned()))
    }

    fn rendered(data: &Data) -> Vec<(&str, &str)> {
        data.iter().map(|(key, value)| (key.as_str(), std::str::from_utf8(value.expose()).expect("text"))).collect()
    }

    /// The short form: every member becomes a key.
    fn whole(value: &Value, keypath: &[String]) -> Result<Data, RenderError> {
        naming::Naming::new(&[], &[], Conversion::Error).expect("a naming").name_all(members(value, keypath, DEFAULT_KEY, |_| false)?)
    }

    fn name(name: &str) -> RenderError {
        RenderError::Name { name: name.to_owned(), key: name.to_owned() }
    }

    #[test]
    fn without_keypath_a_value_is_mirrored_byte_for_byte() {
        for text in ["hunter2", "", " {\"a\": 1}\n", "null", "pä\u{0}"] {
            assert_eq!(part(&value(text), &[]).expect("a part").expose(), text.as_bytes());
        }
        let bytes = vec![0, 255, 10];
        assert_eq!(part(&Value::Binary(Sensitive::new(bytes.clone())), &[]).expect("a part").expose(), bytes);
    }

    #[test]
    fn the_short_form_makes_a_key_of_each_member() {
        let data = whole(&value(r#"{"user":"root","port":3306,"tls":true,"opts":{"a" : [1, 2.50]}}"#), &[]).expect("data");
        assert_eq!(rendered(&data), [("opts", r#"{"a" : [1, 2.50]}"#), ("port", "3306"), ("tls", "true"), ("user", "root")]);
        let inner = whole(&value(r#"{"db":{"user":"root"}}"#), &["db".to_owned()]).expect("data");
        assert_eq!(rendered(&inner), [("user", "root")]);
    }

    #[test]
    fn the_short_form_keeps_everything_else_under_one_key() {
        for text in ["hunter2", "[1]", "42", "\"quoted\"", "null"] {
            assert_eq!(rendered(&whole(&value(text), &[]).expect("data")), [("value", text)]);
        }
        let binary = whole(&Value::Binary(Sensitive::new(vec![0, 255])), &[]).expect("data");
        assert_eq!(binary["value"].expose(), [0, 255]);
    }

    #[test]
    fn members_keep_their_names_and_what_has_none_gets_the_given_one() {
        let named = |text: &str| members(&value(text), &[], "as.it", |_| false).map(|members| members.into_iter().map(|(name, _)| name).collect::<Vec<_>>());
        assert_eq!(named(r#"{"b/c":1,"a b":2,"":3}"#), Ok(vec![String::new(), "a b".to_owned(), "b/c".to_owned()]));
        assert_eq!(named("hunter2"), Ok(vec!["as.it".to_owned()]));
        assert_eq!(named("{}"), Err(RenderError::Empty));
        assert_eq!(named(" {broken"), Err(RenderError::BrokenObject));
        assert!(matches!(named(r#"{"a":1,"b":null}"#), Err(RenderError::Keypath { .. })));
    }

    #[test]
    fn the_short_form_never_loses_a_member() {
        assert_eq!(whole(&value("{}"), &[]), Err(RenderError::Empty));
        assert_eq!(whole(&value(" {broken"), &[]), Err(RenderError::BrokenObject));
        assert_eq!(whole(&value(r#"{"a b":1}"#), &[]), Err(name("a b")));
        assert_eq!(whole(&value(r#"{"naïve":1}"#), &[]), Err(name("naïve")));
        assert!(matches!(whole(&value(r#"{"a":1,"b":null}"#), &[]), Err(RenderError::Keypath { .. })));
        assert_eq!(members(&value(r#"{"a":1,"b":null}"#), &[], "x", |name| name == "b").map(|members| members.len()), Ok(1), "what is skipped may be anything");
    }

    #[test]
    fn binary_has_no_members_and_no_error_holds_a_value() {
        let error = part(&Value::Binary(Sensitive::new(b"{\"a\":1}".to_vec())), &["a".to_owned()]).expect_err("binary");
        assert_eq!(error.to_string(), "nothing at #/a: the value is binary and has no members");
    }

    #[test]
    fn what_kubernetes_cannot_hold_is_refused() {
        let data = Data::from([("a".to_owned(), Sensitive::new(vec![b'x'; MAX_DATA])), ("b".to_owned(), Sensitive::new(vec![b'x']))]);
        assert_eq!(check_size(&data), Err(RenderError::TooLarge(MAX_DATA + 1)));
        for name in ["", ".", "..", "..a", "a b", "ä", &"x".repeat(254)] {
            assert!(!is_key(name), "{name}");
        }
        assert!(is_key(".a") && is_key("a-b_c.D9"));
    }
}
