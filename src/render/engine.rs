//! The template engine, bounded.
//!
//! The text of a template and its variables enter; text, or a problem in our own words, leaves. No I/O, no clock, nothing random:
//! the same input renders to the same output. It must never hand on what the engine says of an error at run time: that quotes values.

use std::{borrow::Cow, error::Error as _, fmt};

use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value, syntax::SyntaxConfig};

use super::RenderError;

/// How much one template may do: about one unit an instruction, and one for each 64 bytes that are made.
const FUEL: u64 = 500_000;
/// How deep loops may call themselves.
const MAX_RECURSION: usize = 32;
/// What the engine brings along and nobody gets: it looks into the engine, or nests values without end.
const REMOVED: [&str; 2] = ["debug", "namespace"];

/// An engine without templates: strict about what is not defined, without escaping, and with an end.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(MAX_RECURSION);
    // Only delimiters of one's own can be refused.
    environment.set_syntax(SyntaxConfig::builder().keep_trailing_newline(true).build().unwrap_or_default());
    environment.remove_filter("pprint");
    for name in REMOVED {
        environment.remove_global(name);
    }
    environment
}

/// What went wrong in a filter or function of ours, in words that hold no part of a value.
#[derive(Debug)]
struct Problem(Cow<'static, str>);

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Problem {}

/// An error of ours, which [`explain`] hands on as it is. It must hold no part of a value.
#[expect(dead_code, reason = "the filters come with the templates of values")]
pub(super) fn problem(text: impl Into<Cow<'static, str>>) -> Error {
    Error::from(ErrorKind::InvalidOperation).with_source(Problem(text.into()))
}

/// An error while a template is read: the engine has seen no value yet, so that its own words may stand.
pub(super) fn unreadable(origin: &str, error: &Error) -> RenderError {
    let problem = match (error.kind(), error.detail()) {
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    RenderError::Template { origin: origin.to_owned(), line: error.line(), problem }
}

/// An error while a template is carried out: in our own words, since the engine's may quote a value. `missing` are the names that
/// were asked for and are not there, in that order.
pub(super) fn failed(origin: &str, text: &str, missing: &[String], error: &Error) -> RenderError {
    let line = error.line();
    let source = line.and_then(|line| text.lines().nth(line.checked_sub(1)?)).unwrap_or(text);
    let problem = match ours(error) {
        Some(problem) => problem.to_owned(),
        None => explain(error.kind(), source, missing),
    };
    RenderError::Template { origin: origin.to_owned(), line, problem }
}

fn ours(error: &Error) -> Option<&str> {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(Problem(text)) = inner.downcast_ref() {
            return Some(text);
        }
        source = inner.source();
    }
    None
}

fn explain(kind: ErrorKind, line: &str, missing: &[String]) -> String {
    match kind {
        ErrorKind::UndefinedError => match missing.iter().rev().find(|name| line.contains(name.as_str())) {
            Some(name) => format!("undefined: `{name}` is not among the keys"),
            None => "undefined: a member or item that is asked for is not there".to_owned(),
        },
        ErrorKind::OutOfFuel => "the template does too much: it is stopped after about half a million steps or 32 MiB".to_owned(),
        ErrorKind::UnknownFilter => "a filter in this line is not known".to_owned(),
        ErrorKind::UnknownTest => "a test in this line is not known".to_owned(),
        ErrorKind::UnknownFunction => "a function in this line is not known".to_owned(),
        ErrorKind::UnknownMethod => "a method in this line is not known; use a filter".to_owned(),
        ErrorKind::TooManyArguments => "a filter or function gets too many arguments".to_owned(),
        ErrorKind::MissingArgument => "a filter or function lacks an argument".to_owned(),
        ErrorKind::CannotUnpack => "what is looped over has not as many parts as names are written for them".to_owned(),
        ErrorKind::NonPrimitive | ErrorKind::NonKey | ErrorKind::InvalidOperation => {
            "a value in this line is not of the kind that an operation or filter takes".to_owned()
        }
        kind => kind.to_string(),
    }
}

/// Renders one short text: for names, which are no secrets. `variables` is a map.
pub(super) fn render_short(environment: &Environment<'_>, origin: &str, variables: Value) -> Result<String, RenderError> {
    let template = environment.get_template(origin).map_err(|error| unreadable(origin, &error))?;
    template.render(variables).map_err(|error| failed(origin, template.source(), &[], &error))
}
