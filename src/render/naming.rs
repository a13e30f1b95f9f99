//! Naming: names of members or of sources enter, keys of a Secret leave.
//!
//! Each name is left out, or goes through the steps of the spec in order. Two that become one key are an error, whatever the order
//! they came in. Pure. Names are no secrets and may stand in errors; what they name is only passed on.

use std::{collections::BTreeMap, sync::Arc};

use minijinja::Value;
use regex::{Regex, RegexBuilder};

use super::{
    MAX_DATA, RenderError,
    engine::{Engine, FUEL, Variables},
    is_key,
};
use crate::api::robotosecret::{Conversion, Rewrite};

/// What a compiled expression may take, in bytes.
const MAX_REGEX: usize = 256 * 1024;
/// How long a name may get on its way, in bytes: without an end each step could make it hundreds of times longer.
const MAX_NAME: usize = 4096;

/// How one entry of `dataFrom` makes keys of names.
#[derive(Clone, Debug)]
pub struct Naming {
    exclude: Vec<Regex>,
    steps: Vec<Step>,
    conversion: Conversion,
}

#[derive(Clone, Debug)]
enum Step {
    Regexp {
        regexp: Regex,
        replace: String,
    },
    /// An engine with the one template of this name. Most entries have none, and an engine is not made for nothing.
    Template(Box<Engine>, String),
}

impl Naming {
    /// Reads an entry's rules; the error is the field in it and what is wrong with that.
    pub fn new(exclude: &[String], rewrite: &[Rewrite], conversion: Conversion) -> Result<Self, String> {
        let exclude =
            exclude.iter().enumerate().map(|(i, text)| expression(text).map_err(|problem| format!("exclude[{i}]: {problem}"))).collect::<Result<_, _>>()?;
        let steps = rewrite.iter().enumerate().map(|(i, rewrite)| step(i, rewrite)).collect::<Result<_, _>>()?;
        Ok(Self { exclude, steps, conversion })
    }

    /// Whether a name is left out.
    #[must_use]
    pub fn excludes(&self, name: &str) -> bool {
        self.exclude.iter().any(|regexp| regexp.is_match(name))
    }

    /// Gives each member its key, or leaves it out.
    pub fn name_all<T>(&self, members: impl IntoIterator<Item = (String, T)>) -> Result<BTreeMap<String, T>, RenderError> {
        let mut members: Vec<_> = members.into_iter().filter(|(name, _)| !self.excludes(name)).collect();
        // Which of several errors is told must not hang on the order in which a store lists things.
        members.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut fuel = FUEL;
        let mut named: BTreeMap<String, (String, T)> = BTreeMap::new();
        for (name, member) in members {
            let key = self.key(&name, &mut fuel)?;
            if let Some((first, _)) = named.get(&key) {
                return Err(RenderError::Collision { key, first: format!("{first:?}"), second: format!("{name:?}") });
            }
            named.insert(key, (name, member));
        }
        Ok(named.into_iter().map(|(key, (_, member))| (key, member)).collect())
    }

    fn key(&self, name: &str, fuel: &mut u64) -> Result<String, RenderError> {
        let mut key = name.to_owned();
        for step in &self.steps {
            key = match step {
                Step::Regexp { regexp, replace } => regexp.replace_all(&key, replace).into_owned(),
                Step::Template(engine, template) => rendered(engine, template, key, fuel)?,
            };
            if key.len() > MAX_NAME {
                return Err(RenderError::Name { name: name.to_owned(), key: shortened(&key) });
            }
        }
        if self.conversion == Conversion::Underscore {
            key = key.chars().map(|c| if is_key_char(c) { c } else { '_' }).collect();
        }
        if is_key(&key) { Ok(key) } else { Err(RenderError::Name { name: name.to_owned(), key: shortened(&key) }) }
    }
}

fn rendered(engine: &Engine, template: &str, name: String, fuel: &mut u64) -> Result<String, RenderError> {
    let variables = BTreeMap::from([("name".to_owned(), Value::from(name))]);
    let (key, used) = engine.render(template, &Variables::new(variables, "what a rewrite sees: name", Arc::default()), MAX_DATA)?;
    *fuel = fuel.checked_sub(used).ok_or_else(|| RenderError::Template {
        origin: template.to_owned(),
        line: None,
        problem: "it does too much for so many names".to_owned(),
    })?;
    Ok(String::from_utf8_lossy(key.expose()).into_owned())
}

fn step(i: usize, rewrite: &Rewrite) -> Result<Step, String> {
    match (&rewrite.regexp, &rewrite.replace, &rewrite.template) {
        (Some(regexp), Some(replace), None) => {
            let regexp = expression(regexp).map_err(|problem| format!("rewrite[{i}].regexp: {problem}"))?;
            check_groups(&regexp, replace).map_err(|group| {
                format!("rewrite[{i}].replace: the expression has no group {group:?}; write ${{1}}x for group 1 and an x, and $$ for a dollar")
            })?;
            Ok(Step::Regexp { regexp, replace: replace.clone() })
        }
        (None, None, Some(text)) => {
            let field = format!("rewrite[{i}].template");
            let mut engine = Box::new(Engine::new());
            engine.add(&field, text.clone()).map_err(|error| error.to_string())?;
            Ok(Step::Template(engine, field))
        }
        _ => Err(format!("rewrite[{i}]: write either regexp and replace, or template")),
    }
}

/// Refuses groups that the expression does not have: they would silently stand for nothing. The error is the group.
fn check_groups(regexp: &Regex, replace: &str) -> Result<(), String> {
    let mut rest = replace;
    while let Some((_, after)) = rest.split_once('$') {
        if let Some(literal) = after.strip_prefix('$') {
            rest = literal;
            continue;
        }
        let end = |text: &str| text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
        let group = match after.strip_prefix('{').and_then(|braced| braced.split_once('}')) {
            Some((group, _)) => group,
            None => &after[..end(after)],
        };
        let known = group.parse().map_or_else(|_| regexp.capture_names().flatten().any(|name| name == group), |number: usize| number < regexp.captures_len());
        // A dollar sign that no name follows stands for itself.
        if !group.is_empty() && !known {
            return Err(group.to_owned());
        }
        rest = after;
    }
    Ok(())
}

/// Reads a regular expression. The error is one line; it may quote the expression.
pub fn expression(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text).size_limit(MAX_REGEX).build().map_err(|error| {
        let problem = match &error {
            regex::Error::CompiledTooBig(_) => "too large".to_owned(),
            // The last line says what is wrong; those before draw the expression with a mark under it.
            error => error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
        };
        format!("not a regular expression: {problem}")
    })
}

fn is_key_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._".contains(c)
}

/// The start of a key that is too long to be told.
fn shortened(key: &str) -> String {
    if key.chars().count() <= 253 { key.to_owned() } else { key.chars().take(253).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::Reason;

    fn regexp(regexp: &str, replace: &str) -> Rewrite {
        Rewrite { regexp: Some(regexp.to_owned()), replace: Some(replace.to_owned()), template: None }
    }

    fn template(text: &str) -> Rewrite {
        Rewrite { template: Some(text.to_owned()), ..Rewrite::default() }
    }

    fn named(exclude: &[&str], rewrite: &[Rewrite], conversion: Conversion, names: &[&str]) -> Result<Vec<String>, RenderError> {
        let exclude: Vec<_> = exclude.iter().map(|&text| text.to_owned()).collect();
        let naming = Naming::new(&exclude, rewrite, conversion).expect("a naming");
        let members = names.iter().map(|&name| (name.to_owned(), name.to_owned()));
        Ok(naming.name_all(members)?.into_iter().map(|(key, name)| format!("{key}={name}")).collect())
    }

    fn invalid(exclude: &[&str], rewrite: &[Rewrite]) -> String {
        let exclude: Vec<_> = exclude.iter().map(|&text| text.to_owned()).collect();
        Naming::new(&exclude, rewrite, Conversion::Error).expect_err("an invalid spec")
    }

    #[test]
    fn steps_are_taken_in_order_after_the_exclusion_of_raw_names() {
        let steps = [regexp("^prod/app/(.*)$", "$1"), template("{{ name | upper }}"), regexp("A", "${0}_$$")];
        let names = ["prod/app/data", "prod/app/tmp", "prod/other"];
        assert_eq!(
            named(&["tmp$", "^DATA"], &steps[..2], Conversion::Underscore, &names),
            Ok(vec!["DATA=prod/app/data".into(), "PROD_OTHER=prod/other".into()])
        );
        assert_eq!(named(&["tmp", "other"], &steps, Conversion::Underscore, &names), Ok(vec!["DA__TA__=prod/app/data".into()]));
    }

    #[test]
    fn a_group_that_the_expression_does_not_have_is_refused() {
        for (expression, replace, group) in [("^(.*)$", "db-$1_name", Some("1_name")), ("x", "${nosuch}k", Some("nosuch")), ("(a)(b)", "$3", Some("3"))] {
            assert_eq!(check_groups(&Regex::new(expression).expect("an expression"), replace), group.map_or(Ok(()), |group| Err(group.to_owned())));
        }
        let one = Regex::new("(?<n>.)").expect("an expression");
        for replace in ["db-${1}_name", "$1$n${n}", "$0", "costs $$5 or $", "$-"] {
            assert_eq!(check_groups(&one, replace), Ok(()), "{replace}");
        }
        assert!(invalid(&[], &[regexp("^(.*)$", "db-$1_name")]).starts_with("rewrite[0].replace: the expression has no group \"1_name\""));
    }

    #[test]
    fn every_match_is_replaced_and_nothing_else() {
        assert_eq!(named(&[], &[regexp("/", ".")], Conversion::Error, &["a/b/c", "d"]), Ok(vec!["a.b.c=a/b/c".into(), "d=d".into()]));
    }

    #[test]
    fn what_a_secret_cannot_have_is_an_error_or_an_underscore_a_character() {
        for name in ["a b", "naïve", "a/b", ""] {
            let error = named(&[], &[], Conversion::Error, &["ok", name]).expect_err("an error");
            assert_eq!(error.reason(), Reason::InvalidKey);
            assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
        }
        assert_eq!(named(&[], &[], Conversion::Underscore, &["a b", "naïve€"]), Ok(vec!["a_b=a b".into(), "na_ve_=naïve€".into()]));
        for name in ["", ".", "..", "..a", &"x".repeat(254)] {
            assert!(matches!(named(&[], &[], Conversion::Underscore, &[name]), Err(RenderError::Name { .. })), "{name}");
        }
    }

    #[test]
    fn two_that_get_one_key_are_an_error_in_any_order() {
        for names in [["b", "x/a", "y/a"], ["y/a", "x/a", "b"]] {
            let error = named(&[], &[regexp("^./", "")], Conversion::Error, &names).expect_err("a collision");
            assert_eq!(error.to_string(), r#""x/a" and "y/a" both make the key "a"; nothing is written until it is clear which one is meant"#);
            assert_eq!(error.reason(), Reason::KeyCollision);
        }
        assert!(matches!(named(&[], &[], Conversion::Underscore, &["a b", "a_b"]), Err(RenderError::Collision { .. })));
    }

    #[test]
    fn rules_that_cannot_be_read_are_refused_with_their_place() {
        assert_eq!(invalid(&["ok", "(a"], &[]), "exclude[1]: not a regular expression: unclosed group");
        assert_eq!(invalid(&[], &[regexp(r"(\w{200}){200}", "")]), "rewrite[0].regexp: not a regular expression: too large");
        assert!(invalid(&[], &[regexp("a", "b"), template("{{ name")]).starts_with("rewrite[1].template line 1: syntax error"));
        assert!(invalid(&[], &[Rewrite::default()]).starts_with("rewrite[0]: write either"));
        assert!(invalid(&[], &[template("{% include 'x' %}")]).contains("unknown statement include"));
    }

    #[test]
    fn a_template_sees_the_name_only_and_comes_to_an_end() {
        let error = |text: &str| named(&[], &[template(text)], Conversion::Error, &["a"]).expect_err("an error").to_string();
        assert!(error("{{ nme }}").contains("undefined"), "{}", error("{{ nme }}"));
        assert!(error("{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}").contains("too much"));
        assert!(error("{% for i in range(5000) %}x{% endfor %}").contains("would become the key \"xxx"));
        let doubled: Vec<_> = (0..16).map(|_| regexp("", &"x".repeat(512))).collect();
        assert!(matches!(named(&[], &doubled, Conversion::Error, &["a"]), Err(RenderError::Name { key, .. }) if key.len() < 300));
    }

    proptest! {
        #[test]
        fn with_underscores_a_key_comes_out_or_an_error(names in proptest::collection::vec(any::<String>(), 0..5)) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            if let Ok(named) = named(&[], &[], Conversion::Underscore, &names) {
                prop_assert_eq!(named.len(), names.len());
                prop_assert!(named.iter().all(|named| named.split_once('=').is_some_and(|(key, _)| is_key(key))));
            }
        }
    }
}
