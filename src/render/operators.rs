//! The engine's operators and filters, in our own hands where the engine sets no end to them.
//!
//! Values enter, values leave. The engine counts what a template does, but not what a list costs that holds the same text a thousand
//! times over: it is small until somebody makes text of it, or compares it. So whoever puts values together pays for all that they
//! hold, and so does whoever works on them. Lists and maps never become text unasked. No error holds a part of a value.

#![allow(clippy::needless_pass_by_value)] // The engine says how arguments come.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use minijinja::{
    Environment, Error, ErrorKind, State, Value, filters,
    machinery::Instruction,
    tests,
    value::{Object, ObjectRepr, Rest, ValueKind, ValueOrKwargs},
};

use super::engine::{Binary, problem};

/// The arguments of a filter, with names and without: the engine refuses those with names otherwise.
type Arguments = Rest<ValueOrKwargs>;

/// How deep lists and maps may nest.
pub(super) const MAX_NESTING: usize = 64;
/// How wide a text may be indented.
const MAX_INDENT: usize = 64;
/// How many bytes one unit of fuel pays for, as in the engine.
const BYTES: u64 = 64;

/// Gives the engine the filters and tests of its own that templates may use, and the operators.
pub(super) fn add_to(environment: &mut Environment<'static>) {
    for (name, filter) in [
        ("abs", Value::from_function(filters::abs)),
        ("capitalize", Value::from_function(filters::capitalize)),
        ("float", Value::from_function(filters::float)),
        ("indent", Value::from_function(filters::indent)),
        ("int", Value::from_function(filters::int)),
        ("lines", Value::from_function(filters::lines)),
        ("lower", Value::from_function(filters::lower)),
        ("replace", Value::from_function(filters::replace)),
        ("round", Value::from_function(filters::round)),
        ("split", Value::from_function(filters::split)),
        ("title", Value::from_function(filters::title)),
        ("trim", Value::from_function(filters::trim)),
        ("upper", Value::from_function(filters::upper)),
    ] {
        environment.add_filter(name, move |state: &mut State<'_, '_>, args: Arguments| on_text(name, &filter, state, &args.into_values()));
    }
    for (name, filter) in [
        ("attr", Value::from_function(filters::attr)),
        ("bool", Value::from_function(filters::bool)),
        ("default", Value::from_function(filters::default)),
        ("dictsort", Value::from_function(filters::dictsort)),
        ("first", Value::from_function(filters::first)),
        ("items", Value::from_function(filters::items)),
        ("last", Value::from_function(filters::last)),
        ("length", Value::from_function(filters::length)),
        ("list", Value::from_function(filters::list)),
        ("map", Value::from_function(filters::map)),
        ("max", Value::from_function(filters::max)),
        ("min", Value::from_function(filters::min)),
        ("reject", Value::from_function(filters::reject)),
        ("rejectattr", Value::from_function(filters::rejectattr)),
        ("reverse", Value::from_function(filters::reverse)),
        ("select", Value::from_function(filters::select)),
        ("selectattr", Value::from_function(filters::selectattr)),
        ("sort", Value::from_function(filters::sort)),
        ("unique", Value::from_function(filters::unique)),
    ] {
        environment.add_filter(name, move |state: &mut State<'_, '_>, args: Arguments| {
            let args = args.into_values();
            args.iter().try_for_each(|arg| pay(state, arg))?;
            filter.call(state, &args)
        });
    }
    environment.add_filter("join", join);
    environment.add_filter("string", |value: &Value| text("string", value).map(Cow::into_owned));
    environment.add_filter(LIST, list);
    environment.add_filter(MAP, map);
    environment.add_filter(CONCAT, |one: &Value, other: &Value| Ok::<_, Error>([text("~", one)?, text("~", other)?].concat()));
    environment.add_filter(ADD, add);
    environment.add_filter(MULTIPLY, |one: &Value, other: &Value| arithmetic("*", one, other, i128::checked_mul, |one, other| one * other));
    environment.add_filter(IN, contains);
    for (name, compare) in COMPARISONS {
        environment.add_filter(name, move |state: &State<'_, '_>, one: &Value, other: &Value| {
            pay_both(state, one, other)?;
            Ok::<_, Error>(compare(&number(one), &number(other)))
        });
    }
    environment.add_test("boolean", tests::is_boolean);
    environment.add_test("defined", tests::is_defined);
    environment.add_test("divisibleby", tests::is_divisibleby);
    environment.add_test("even", tests::is_even);
    environment.add_test("false", tests::is_false);
    environment.add_test("float", tests::is_float);
    environment.add_test("integer", tests::is_integer);
    environment.add_test("iterable", tests::is_iterable);
    environment.add_test("mapping", tests::is_mapping);
    environment.add_test("none", tests::is_none);
    environment.add_test("number", tests::is_number);
    environment.add_test("odd", tests::is_odd);
    environment.add_test("sequence", tests::is_sequence);
    environment.add_test("string", tests::is_string);
    environment.add_test("true", tests::is_true);
    environment.add_test("undefined", tests::is_undefined);
    environment
        .add_test("startingwith", |value: &Value, start: &Value| Ok::<_, Error>(text("startingwith", value)?.starts_with(&*text("startingwith", start)?)));
    environment.add_test("endingwith", |value: &Value, end: &Value| Ok::<_, Error>(text("endingwith", value)?.ends_with(&*text("endingwith", end)?)));
    environment.add_function("range", minijinja::functions::range);
}

// The filters that stand for operators. No template can name them with `|`.
const LIST: &str = "[]";
const MAP: &str = "{}";
const CONCAT: &str = "~";
const ADD: &str = "+";
const MULTIPLY: &str = "*";
const IN: &str = "in";
type Compare = fn(&Value, &Value) -> bool;
const COMPARISONS: [(&str, Compare); 6] = [
    ("==", |one, other| one == other),
    ("!=", |one, other| one != other),
    ("<", |one, other| one < other),
    ("<=", |one, other| one <= other),
    (">", |one, other| one > other),
    (">=", |one, other| one >= other),
];

/// What is carried out in place of an instruction of the engine's, if something else is; the error says what can't be written.
pub(super) fn substitute(instruction: &Instruction<'_>) -> Result<Option<Instruction<'static>>, &'static str> {
    let (name, arguments) = match instruction {
        Instruction::BuildList(Some(count)) | Instruction::BuildTuple(Some(count)) if *count > 0 => (LIST, *count),
        Instruction::BuildMap(count) if *count > 0 => (MAP, 2 * count),
        Instruction::StringConcat => (CONCAT, 2),
        Instruction::Add => (ADD, 2),
        Instruction::Mul => (MULTIPLY, 2),
        Instruction::In => (IN, 2),
        Instruction::Eq => ("==", 2),
        Instruction::Ne => ("!=", 2),
        Instruction::Lt => ("<", 2),
        Instruction::Lte => ("<=", 2),
        Instruction::Gt => (">", 2),
        Instruction::Gte => (">=", 2),
        Instruction::CompareAndPreserve(_) => return Err("comparisons can't be chained; join them with and"),
        Instruction::CallMethod(..) | Instruction::CallObject(_) => return Err("values have no methods; use a filter"),
        Instruction::UnpackLists(_) | Instruction::MergeKwargs(_) | Instruction::BuildTuple(None) => return Err("arguments can't be unpacked with * or **"),
        Instruction::PushAutoEscape => return Err("there is no autoescape here; nothing is escaped but by filters"),
        _ => return Ok(None),
    };
    let arguments = u16::try_from(arguments).map_err(|_| "a list or map has too many members")?;
    // The last number would be the place where the engine keeps the filter for the next time; this one stands for none.
    Ok(Some(Instruction::ApplyFilter(name, Some(arguments), !0)))
}

/// Pays for all that a value holds, as often as it is held. The error is the engine's when there is nothing left to pay with.
pub(super) fn pay(state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    pay_nested(state, value, MAX_NESTING)
}

fn pay_nested(state: &State<'_, '_>, value: &Value, depth: usize) -> Result<(), Error> {
    let depth = depth.checked_sub(1).ok_or_else(|| problem("lists and maps nest too deeply"))?;
    let bytes = value.as_str().map_or(0, str::len);
    state.consume_fuel(1 + bytes as u64 / BYTES)?;
    if matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map) && !value.is_kwargs() {
        for item in value.try_iter()? {
            pay_nested(state, &item, depth)?;
            if value.kind() == ValueKind::Map {
                pay_nested(state, &value.get_item(&item)?, depth)?;
            }
        }
    }
    Ok(())
}

fn pay_both(state: &State<'_, '_>, one: &Value, other: &Value) -> Result<(), Error> {
    if one.is_undefined() || other.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    pay(state, one)?;
    pay(state, other)
}

fn on_text(name: &'static str, filter: &Value, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
    for arg in args {
        pay(state, arg)?;
        // The engine itself tells what is undefined, and what arguments there are.
        if !arg.is_undefined() && !arg.is_kwargs() && !arg.is_none() {
            text(name, arg)?;
        }
    }
    if let ("indent", [value, width, ..]) = (name, args) {
        let width = width.as_usize().filter(|width| *width <= MAX_INDENT).ok_or_else(|| problem("indent: the width is a number up to 64"))?;
        state.consume_fuel((text(name, value)?.lines().count() * width) as u64 / BYTES)?;
    }
    filter.call(state, &args.iter().map(number).collect::<Vec<_>>())
}

fn list(state: &State<'_, '_>, items: Rest<Value>) -> Result<Value, Error> {
    let list = Value::from(items.0);
    pay(state, &list)?;
    Ok(list)
}

fn map(state: &State<'_, '_>, members: Rest<Value>) -> Result<Value, Error> {
    let map = Value::from(members.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect::<BTreeMap<_, _>>());
    pay(state, &map)?;
    Ok(map)
}

fn join(state: &State<'_, '_>, list: &Value, separator: Option<Cow<'_, str>>) -> Result<String, Error> {
    if list.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    pay(state, list)?;
    let mut joined = String::new();
    for (i, item) in list.try_iter()?.enumerate() {
        if i > 0 {
            joined.push_str(separator.as_deref().unwrap_or_default());
            state.consume_fuel(1 + separator.as_deref().map_or(0, str::len) as u64 / BYTES)?;
        }
        joined.push_str(&text("join", &item)?);
    }
    Ok(joined)
}

fn add(state: &State<'_, '_>, one: &Value, other: &Value) -> Result<Value, Error> {
    match (one.kind(), other.kind()) {
        (ValueKind::String, ValueKind::String) => Ok(Value::from([text("+", one)?, text("+", other)?].concat())),
        (ValueKind::Seq | ValueKind::Iterable, ValueKind::Seq | ValueKind::Iterable) => {
            pay_both(state, one, other)?;
            Ok(Value::from(one.try_iter()?.chain(other.try_iter()?).collect::<Vec<_>>()))
        }
        _ => arithmetic("+", one, other, i128::checked_add, |one, other| one + other),
    }
}

fn arithmetic(name: &str, one: &Value, other: &Value, whole: fn(i128, i128) -> Option<i128>, broken: fn(f64, f64) -> f64) -> Result<Value, Error> {
    if one.is_undefined() || other.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    let (one, other) = (number(one), number(other));
    let refused = || problem(format!("{name} takes two numbers, not too large{}", if name == "+" { ", or two texts, or two lists" } else { "" }));
    if !one.is_number() || !other.is_number() {
        return Err(refused());
    }
    match (i128::try_from(one.clone()), i128::try_from(other.clone())) {
        (Ok(one_whole), Ok(other_whole)) if one.is_integer() && other.is_integer() => whole(one_whole, other_whole).map(Value::from).ok_or_else(refused),
        _ => match (f64::try_from(one), f64::try_from(other)) {
            (Ok(one), Ok(other)) => Ok(Value::from(broken(one, other))),
            _ => Err(refused()),
        },
    }
}

/// `value in container`.
fn contains(state: &State<'_, '_>, value: &Value, container: &Value) -> Result<bool, Error> {
    pay_both(state, value, container)?;
    match container.kind() {
        ValueKind::String => Ok(text("in", container)?.contains(&*text("in", value)?)),
        ValueKind::Map => Ok(!container.get_item(value)?.is_undefined()),
        ValueKind::Seq | ValueKind::Iterable => Ok(container.try_iter()?.any(|item| item == *value)),
        _ => Err(problem("in takes a text, a list or a map on its right")),
    }
}

/// A value's text; numbers and booleans have one too.
pub(super) fn text<'v>(filter: &str, value: &'v Value) -> Result<Cow<'v, str>, Error> {
    let what = match value.kind() {
        ValueKind::String => return Ok(Cow::Borrowed(value.as_str().unwrap_or_default())),
        ValueKind::Bool => return Ok(Cow::Borrowed(if value.is_true() { "true" } else { "false" })),
        ValueKind::Number => return Ok(Cow::Owned(value.to_string())),
        ValueKind::Undefined => return Err(ErrorKind::UndefinedError.into()),
        ValueKind::None => "null",
        ValueKind::Seq | ValueKind::Iterable => "a list",
        ValueKind::Map => "a map",
        _ => {
            if let Some(Number(text)) = value.downcast_object_ref() {
                return Ok(Cow::Borrowed(text));
            }
            if let Some(binary) = value.downcast_object_ref::<Binary>() {
                return Err(problem(binary.no_text()));
            }
            "something else"
        }
    };
    Err(problem(format!("{filter}: takes text, and the value is {what}")))
}

/// A value's bytes; binary values have them too.
pub(super) fn bytes<'v>(filter: &str, value: &'v Value) -> Result<Cow<'v, [u8]>, Error> {
    if let Some(binary) = value.downcast_object_ref::<Binary>() {
        return Ok(Cow::Borrowed(binary.bytes()));
    }
    text(filter, value).map(|text| match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    })
}

/// A number that would lose digits as a number of the engine's: it stays the text that it is until somebody reckons with it.
pub(super) struct Number(String);

impl Number {
    /// A number as JSON writes it.
    pub(super) fn value(text: &str) -> Value {
        let number = text.parse::<i128>().map(Value::from).or_else(|_| text.parse::<f64>().map(Value::from));
        number.ok().filter(|number| number.to_string() == text).unwrap_or_else(|| Value::from_object(Self(text.to_owned())))
    }
}

/// The engine's number for one that is kept as text; any other value as it is.
fn number(value: &Value) -> Value {
    let parsed = value.downcast_object_ref::<Number>().and_then(|Number(text)| text.parse::<f64>().ok());
    parsed.map_or_else(|| value.clone(), Value::from)
}

impl Object for Number {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
