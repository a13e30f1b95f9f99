//! The template engine, bounded.
//!
//! The text of a template and its variables enter; text, or a problem in our own words, leaves. No I/O, no clock, nothing random:
//! the same input renders to the same output. It must never hand on what the engine says of an error at run time: that quotes values.
//!
//! Values in the engine are ordinary strings: they are freed when a template is done, and not overwritten.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    error::Error as _,
    fmt,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
};

use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, Value, escape_formatter,
    machinery::{CompiledTemplate, Instruction, TemplateConfig, eval, make_string_output},
    syntax::SyntaxConfig,
    value::{Enumerator, Object, ObjectRepr, ValueKind},
};

use super::{RenderError, filters, operators};
use crate::sensitive::Sensitive;

/// How much one template may do: one unit an instruction, and one for each 64 bytes that it makes or works on.
pub(super) const FUEL: u64 = 500_000;
/// How deep blocks may nest and loops may call themselves.
const MAX_DEPTH: usize = 64;

/// The engine: strict about what is not defined, without escaping, and with an end.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    environment: Environment<'static>,
    /// The texts of the templates, by origin.
    templates: BTreeMap<String, String>,
}

impl Engine {
    /// An engine without templates. It shares all but them with the others.
    pub(super) fn new() -> Self {
        static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(environment);
        Self { environment: ENVIRONMENT.clone(), templates: BTreeMap::new() }
    }

    /// Reads a template; from then on it is known by its origin.
    pub(super) fn add(&mut self, origin: &str, text: String) -> Result<(), RenderError> {
        self.compile(origin, &text)?;
        self.templates.insert(origin.to_owned(), text);
        Ok(())
    }

    /// Carries a template out; its text, of at most `room` bytes, and what it took of its fuel leave.
    pub(super) fn render(&self, origin: &str, variables: &Variables, room: usize) -> Result<(Sensitive, u64), RenderError> {
        let text = self.templates.get(origin).map_or("", String::as_str);
        let template = self.compile(origin, text)?;
        let broken = |line, problem: String| Err(RenderError::Template { origin: origin.to_owned(), line, problem });
        variables.begin();
        let mut out = String::new();
        let blocks = BTreeMap::new();
        let done = eval(&self.environment, &template.instructions, variables.0.clone(), &blocks, &mut make_string_output(&mut out), AutoEscape::None)
            .map(|(_, state)| state.fuel_levels().map_or(0, |(used, _)| used));
        let out = Sensitive::from(out);
        match done {
            Err(error) => broken(error.line(), explain(&error, text, variables)),
            Ok(_) if variables.printed().is_some() => broken(None, variables.printed().unwrap_or_default()),
            Ok(_) if out.len() > room => broken(None, "more than 1 MiB would come out, which no Secret can hold".to_owned()),
            Ok(fuel) => Ok((out, fuel)),
        }
    }

    /// The bytecode of a template, with the operators in our hands; nothing in it that can't be carried out.
    fn compile<'t>(&self, origin: &'t str, text: &'t str) -> Result<CompiledTemplate<'t>, RenderError> {
        let config = TemplateConfig {
            // Only delimiters of one's own can be refused.
            syntax_config: SyntaxConfig::builder().keep_trailing_newline(true).build().unwrap_or_default(),
            default_auto_escape: Arc::new(|_| AutoEscape::None),
        };
        // It has seen no value yet, so that its own words may stand.
        let mut template = CompiledTemplate::new(origin, text, &config).map_err(|error| {
            let problem = error.detail().map_or_else(|| error.kind().to_string(), |detail| format!("{}: {detail}", error.kind()));
            RenderError::Template { origin: origin.to_owned(), line: error.line(), problem }
        })?;
        for place in 0.. {
            let line = template.instructions.get_line(place);
            let broken = |problem: String| RenderError::Template { origin: origin.to_owned(), line, problem };
            let Some(instruction) = template.instructions.get_mut(place) else { break };
            match instruction {
                Instruction::ApplyFilter(name, ..) if !self.has_filter(name) => return Err(broken(format!("unknown filter `{name}`"))),
                Instruction::PerformTest(name, ..) if !self.has_test(name) => return Err(broken(format!("unknown test `{name}`"))),
                _ => {}
            }
            if let Some(ours) = operators::substitute(instruction).map_err(|problem| broken(problem.to_owned()))? {
                *instruction = ours;
            }
        }
        Ok(template)
    }

    /// Whether a filter is there: one that isn't says so, one that is misses its arguments.
    fn has_filter(&self, name: &str) -> bool {
        self.environment.empty_state().apply_filter(name, &[]).err().is_none_or(|error| error.kind() != ErrorKind::UnknownFilter)
    }

    fn has_test(&self, name: &str) -> bool {
        self.environment.empty_state().perform_test(name, &[]).err().is_none_or(|error| error.kind() != ErrorKind::UnknownTest)
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(MAX_DEPTH);
    environment.set_formatter(write);
    operators::add_to(&mut environment);
    filters::add_to(&mut environment);
    environment
}

/// Writes what stands between braces. The engine writes booleans, null, lists and maps as Python does, which is hardly ever meant.
fn write(out: &mut minijinja::Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Bool => Ok(out.write_str(if value.is_true() { "true" } else { "false" })?),
        ValueKind::None => Err(problem("null has no text; use default('…', true) or tojson")),
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => Err(problem("a list or map has no text; use tojson, toyaml or join")),
        _ => escape_formatter(out, state, value),
    }
}

/// What a template sees. A name that is not there is remembered, so that it can be told.
#[derive(Clone)]
pub(super) struct Variables(Value);

impl Variables {
    /// `whose` completes "is not among".
    pub(super) fn new(values: BTreeMap<String, Value>, whose: &'static str, notes: Arc<Notes>) -> Self {
        Self(Value::from_object(Scope { values, whose, notes }))
    }

    fn scope(&self) -> Option<&Scope> {
        self.0.downcast_object_ref()
    }

    /// A name that stands in this line of a template and is not there, and whose it would be. Only words of the template are told:
    /// in `keys[password]` the name that is asked for is a value.
    fn missing_in<'t>(&self, line: &'t str) -> Option<(&'t str, &'static str)> {
        let scope = self.scope()?;
        let missing = scope.notes.missing();
        let names = |name: &&str| missing.iter().any(|missing| missing == name);
        let mut words = line.split(|c: char| !"_.'\"".contains(c) && !c.is_alphanumeric()).filter_map(|word| word.split('.').next());
        let quoted = line.split("keys[").skip(1).filter_map(|rest| {
            let quote = rest.chars().next().filter(|c| "'\"".contains(*c))?;
            rest[1..].split_once(quote).map(|(name, _)| name)
        });
        let absent = |name: &&str| scope.values.get("keys").is_some_and(|keys| keys.get_attr(name).is_ok_and(|key| key.is_undefined()));
        words.rfind(names).or_else(|| quoted.filter(absent).last()).map(|name| (name, scope.whose))
    }

    fn begin(&self) {
        if let Some(scope) = self.scope() {
            *scope.notes.missing() = Vec::new();
            *scope.notes.printed() = None;
        }
    }

    fn printed(&self) -> Option<String> {
        self.scope()?.notes.printed().clone()
    }
}

/// What happened while a template was carried out, besides its output.
#[derive(Default)]
pub(super) struct Notes {
    /// Variables that were asked for and are not there: words of the template, never of a value.
    missing: Mutex<Vec<String>>,
    /// A binary value that was made text.
    printed: Mutex<Option<String>>,
}

impl Notes {
    fn missing(&self) -> MutexGuard<'_, Vec<String>> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn printed(&self) -> MutexGuard<'_, Option<String>> {
        self.printed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Scope {
    values: BTreeMap<String, Value>,
    whose: &'static str,
    notes: Arc<Notes>,
}

impl Object for Scope {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        let found = self.values.get(key).cloned();
        if found.is_none() {
            self.notes.missing().push(key.to_owned());
        }
        found
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.values.keys().map(|name| Value::from(name.as_str())).collect())
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("variables")
    }
}

/// A value that is no text. Whoever makes text of it, in whatever way, is noted, and what comes out then is thrown away.
pub(super) struct Binary {
    name: String,
    bytes: Sensitive,
    notes: Arc<Notes>,
}

impl Binary {
    pub(super) fn value(name: &str, bytes: &Sensitive, notes: &Arc<Notes>) -> Value {
        Value::from_object(Self { name: name.to_owned(), bytes: bytes.clone(), notes: Arc::clone(notes) })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.expose()
    }

    /// What is told to whoever wants text of it.
    pub(super) fn no_text(&self) -> String {
        format!("{0} is binary and can't be part of a text; use {0} | b64encode", self.name)
    }
}

impl Object for Binary {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.bytes.len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Debug for Binary {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.notes.printed().get_or_insert_with(|| self.no_text());
        Ok(())
    }
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

/// An error of ours, which is told as it is. It must hold no part of a value.
pub(super) fn problem(text: impl Into<Cow<'static, str>>) -> Error {
    Error::from(ErrorKind::InvalidOperation).with_source(Problem(text.into()))
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

/// What went wrong, by its kind and by the words of the template; never what the engine says.
fn explain(error: &Error, text: &str, variables: &Variables) -> String {
    if let Some(problem) = ours(error) {
        return problem.to_owned();
    }
    let line = error.line().and_then(|line| text.lines().nth(line.checked_sub(1)?)).unwrap_or(text);
    match error.kind() {
        ErrorKind::UndefinedError => match variables.missing_in(line) {
            Some((name, whose)) => format!("undefined: `{name}` is not among {whose}"),
            None => "undefined: a member or item that is asked for is not there".to_owned(),
        },
        ErrorKind::UnknownFunction => match variables.missing_in(line) {
            Some((name, _)) => format!("unknown function `{name}`"),
            None => "what is called is no function".to_owned(),
        },
        ErrorKind::UnknownFilter | ErrorKind::UnknownTest => "a filter or test whose name is made by the template is not known".to_owned(),
        ErrorKind::OutOfFuel => "the template does too much; it is stopped after about half a million steps or 32 MiB".to_owned(),
        ErrorKind::TooManyArguments => "a filter or function gets too many arguments".to_owned(),
        ErrorKind::MissingArgument => "a filter or function lacks an argument".to_owned(),
        ErrorKind::CannotUnpack => "what is unpacked has not as many parts as there are names for them".to_owned(),
        ErrorKind::NonPrimitive | ErrorKind::NonKey | ErrorKind::InvalidOperation => {
            "a value is not of the kind that an operation, filter or function takes, or blocks nest too deeply".to_owned()
        }
        kind => kind.to_string(),
    }
}
