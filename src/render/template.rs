//! Templates: the rendered keys and what the spec writes about them enter; the keys, labels and annotations of the Secret leave.
//!
//! Templates of keys see every key; templates of labels and annotations see names and provenance and never a value. Pure: the same
//! input makes the same output. While a template is carried out, values are ordinary strings of the engine's, which are freed and
//! not overwritten; none is kept afterwards. No error holds a part of a value.

use std::{collections::BTreeMap, sync::Arc};

use minijinja::Value;

use super::{
    Data, MAX_DATA, RenderError,
    engine::{Binary, Engine, FUEL, Notes, Variables},
    is_key,
};
use crate::{
    api::robotosecret::{MergePolicy, TemplateMetadata},
    sensitive::Sensitive,
};

/// How long all templates of a resource may be together, in bytes.
const MAX_SOURCES: usize = 1024 * 1024;
/// How often all templates together may do what one may.
const ALL: u64 = 2;
/// The name under which all keys stand, also those whose names are no identifiers.
const KEYS: &str = "keys";

/// A template of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateSource {
    /// The key that it makes.
    pub key: String,
    /// Where it stands, as it is told: `spec.target.template.data[dsn]` or `ConfigMap tpl, key app.conf`.
    pub origin: String,
    /// Its text.
    pub text: String,
}

/// What templates of labels and annotations may know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// The resource's name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The name of the Secret.
    pub target: String,
    /// What was read: references and versions.
    pub sources: Vec<(String, String)>,
}

/// What templates made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The keys of the Secret.
    pub data: Data,
    /// Labels from templates.
    pub labels: BTreeMap<String, String>,
    /// Annotations from templates.
    pub annotations: BTreeMap<String, String>,
}

/// The templates of a resource, read and ready.
#[derive(Clone, Debug)]
pub struct Templates {
    engine: Engine,
    /// Keys and where their templates stand.
    data: Vec<(String, String)>,
    labels: Vec<(String, String)>,
    annotations: Vec<(String, String)>,
    merge: MergePolicy,
}

impl Templates {
    /// Reads templates.
    pub fn new(sources: Vec<TemplateSource>, metadata: Option<&TemplateMetadata>, merge: MergePolicy) -> Result<Self, RenderError> {
        let mut templates = Self { engine: Engine::new(), data: Vec::new(), labels: Vec::new(), annotations: Vec::new(), merge };
        let mut room = MAX_SOURCES;
        for source in sources {
            if let Some((_, first)) = templates.data.iter().find(|(key, _)| *key == source.key) {
                return Err(RenderError::Collision { key: source.key, first: first.clone(), second: source.origin });
            }
            if !is_key(&source.key) {
                return Err(broken(&source.origin, "it is no key that a Secret can have (letters, digits, - _ . and at most 253 characters)"));
            }
            templates.add(&source.origin, source.text, &mut room)?;
            templates.data.push((source.key, source.origin));
        }
        for (field, texts) in metadata.into_iter().flat_map(|metadata| [("labels", &metadata.labels), ("annotations", &metadata.annotations)]) {
            for (name, text) in texts {
                let origin = format!("spec.target.template.metadata.{field}[{name}]");
                templates.add(&origin, text.clone(), &mut room)?;
                let list = if field == "labels" { &mut templates.labels } else { &mut templates.annotations };
                list.push((name.clone(), origin));
            }
        }
        Ok(templates)
    }

    fn add(&mut self, origin: &str, text: String, room: &mut usize) -> Result<(), RenderError> {
        *room = room.checked_sub(text.len()).ok_or_else(|| broken(origin, "the templates are longer than 1 MiB together"))?;
        self.engine.add(origin, text)
    }

    /// Carries the templates out. Without a template of a key, the keys are those that were read, whatever the merge policy.
    pub fn render(&self, data: &Data, provenance: &Provenance) -> Result<Rendered, RenderError> {
        let mut rendering = Rendering { engine: &self.engine, room: MAX_DATA, fuel: ALL * FUEL };
        let mut rendered = Rendered::default();
        if self.data.is_empty() || self.merge == MergePolicy::Merge {
            rendered.data.clone_from(data);
        }
        if !self.data.is_empty() {
            let variables = keys(data);
            for (key, origin) in &self.data {
                rendered.data.insert(key.clone(), rendering.one(origin, &variables)?);
            }
        }
        let known = known(&rendered.data, provenance);
        for (name, origin) in &self.labels {
            let label = rendering.text(origin, &known)?;
            if !is_label(&label) {
                return Err(broken(
                    origin,
                    "what comes out is no value of a label (at most 63 letters, digits, - _ and ., with a letter or digit at both ends)",
                ));
            }
            rendered.labels.insert(name.clone(), label);
        }
        for (name, origin) in &self.annotations {
            rendered.annotations.insert(name.clone(), rendering.text(origin, &known)?);
        }
        Ok(rendered)
    }
}

/// What is left for the templates of a resource.
struct Rendering<'t> {
    engine: &'t Engine,
    room: usize,
    fuel: u64,
}

impl Rendering<'_> {
    fn one(&mut self, origin: &str, variables: &Variables) -> Result<Sensitive, RenderError> {
        let (text, fuel) = self.engine.render(origin, variables, self.room)?;
        self.room -= text.len();
        self.fuel = self.fuel.checked_sub(fuel).ok_or_else(|| broken(origin, "the templates do too much together"))?;
        Ok(text)
    }

    fn text(&mut self, origin: &str, variables: &Variables) -> Result<String, RenderError> {
        Ok(String::from_utf8_lossy(self.one(origin, variables)?.expose()).into_owned())
    }
}

fn broken(origin: &str, problem: &str) -> RenderError {
    RenderError::Template { origin: origin.to_owned(), line: None, problem: problem.to_owned() }
}

/// What templates of keys see.
fn keys(data: &Data) -> Variables {
    let notes = Arc::<Notes>::default();
    let value = |name: &str, value: &Sensitive| match std::str::from_utf8(value.expose()) {
        Ok(text) => Value::from(text),
        Err(_) => Binary::value(name, value, &notes),
    };
    let mut variables: BTreeMap<String, Value> = data.iter().map(|(name, bytes)| (name.clone(), value(name, bytes))).collect();
    variables.insert(KEYS.to_owned(), Value::from(variables.clone()));
    Variables::new(variables, "the keys", notes)
}

/// What templates of labels and annotations see.
fn known(data: &Data, provenance: &Provenance) -> Variables {
    let source = |(uri, version): &(String, String)| Value::from(BTreeMap::from([("uri", uri.clone()), ("version", version.clone())]));
    let sources: Vec<Value> = provenance.sources.iter().map(source).collect();
    let variables = BTreeMap::from([
        ("name".to_owned(), Value::from(provenance.name.as_str())),
        ("namespace".to_owned(), Value::from(provenance.namespace.as_str())),
        ("target".to_owned(), Value::from(provenance.target.as_str())),
        (KEYS.to_owned(), Value::from(data.keys().cloned().collect::<Vec<_>>())),
        ("sources".to_owned(), Value::from(sources)),
    ]);
    Variables::new(variables, "what metadata sees: name, namespace, target, keys, sources", Arc::default())
}

/// Whether Kubernetes accepts this as the value of a label.
fn is_label(value: &str) -> bool {
    let ends = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    value.len() <= 63
        && ends(value.chars().next())
        && ends(value.chars().next_back())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::api::Reason;

    fn data(keys: &[(&str, &str)]) -> Data {
        keys.iter().map(|(key, value)| ((*key).to_owned(), Sensitive::from((*value).to_owned()))).collect()
    }

    fn source(key: &str, text: &str) -> TemplateSource {
        TemplateSource { key: key.to_owned(), origin: format!("data[{key}]"), text: text.to_owned() }
    }

    fn made(data: &Data, text: &str) -> Result<String, RenderError> {
        let templates = Templates::new(vec![source("out", text)], None, MergePolicy::Replace)?;
        let mut rendered = templates.render(data, &Provenance::default())?;
        let out = rendered.data.remove("out").expect("the key");
        assert!(rendered.data.is_empty());
        Ok(String::from_utf8(out.expose().to_vec()).expect("text"))
    }

    fn good(keys: &[(&str, &str)], text: &str) -> String {
        made(&data(keys), text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn wrong(keys: &[(&str, &str)], text: &str) -> String {
        let error = made(&data(keys), text).expect_err(text);
        assert_eq!(error.reason(), Reason::TemplateError);
        assert!(!format!("{error} {error:?}").contains("CANARY"), "{error:?}");
        error.to_string().trim_start_matches("data[out]").to_owned()
    }

    #[test]
    fn keys_are_variables_and_stand_in_keys() {
        let keys = [("user", "root"), ("pass.word", "p/ä&"), ("keys", "own")];
        assert_eq!(good(&keys, "mysql://{{ user }}:{{ keys['pass.word'] | urlencode }}@db\n"), "mysql://root:p%2F%C3%A4%26@db\n");
        assert_eq!(good(&keys, "{% for k, v in keys | items %}{{ k }}={{ v }};{% endfor %}{{ keys.keys }}"), "keys=own;pass.word=p/ä&;user=root;own");
        assert_eq!(good(&[("a", "<b>&\"'")], "{{ a }}"), "<b>&\"'");
        assert_eq!(good(&[], "{{ x | default('y') }}{% if x is defined %}z{% endif %}\n\n"), "y\n\n");
    }

    #[test]
    fn filters_make_what_they_say() {
        let json = r#"{"b":1.50,"a":[12345678901234567890,"x",null,true,{}],"big":123456789012345678901234567890123456789012,"f":1.0,"e":1e5}"#;
        for (text, expected) in [
            ("{{ v | b64encode }} {{ 'aGk=' | b64decode }}", "aGkgInlvdSI= hi"),
            ("{{ v | sha256 }}", "0f1a236867501e7656ab080322ac07990c7985e7fac638dc29c9ee10d63471b7"),
            ("{{ v | quote }}", r#""hi \"you\"""#),
            ("{{ v | tojson }}", r#""hi \"you\"""#),
            (
                "{{ v | upper | replace('HI', 'ho') | length }}{{ 1 + 1 }}{{ 'a' + 'b' ~ 1 ~ (v == v) }}{{ 2 * 3 }}{{ 'i' in v }}{{ 'k' not in keys }}{{ [v, 'x'] | join('-') }}{{ ([3, 1] + [2]) | sort | join }}{{ 'a' < 'b' }}",
                "82ab1true6truetruehi \"you\"-x123true",
            ),
            ("{{ v | split(' ') | last | trim('\"') }}", "you"),
            ("{{ [{'k': 'b'}, {'k': 'a'}] | sort(attribute='k', reverse=true) | map(attribute='k') | join('-') }}{{ '' | default('x', true) }}", "b-ax"),
            (
                "{{ j | fromjson | tojson }}",
                r#"{"a":[12345678901234567890,"x",null,true,{}],"b":1.50,"big":123456789012345678901234567890123456789012,"e":1e5,"f":1.0}"#,
            ),
            (
                "{% set c = j | fromjson %}{{ c.b }} {{ c.big }} {{ c.a[0] }} {{ c.f }} {{ c.e }} {{ c.a[0] + 1 }}",
                "1.50 123456789012345678901234567890123456789012 12345678901234567890 1.0 1e5 12345678901234567891",
            ),
            ("{{ {'b': [1, {'c': 'd e'}], 'a': {}} | tojson(indent=1) }}", "{\n \"a\": {},\n \"b\": [\n  1,\n  {\n   \"c\": \"d e\"\n  }\n ]\n}"),
            ("{{ dockerconfigjson('u', 'p\"', 'r.example') }}", r#"{"auths":{"r.example":{"auth":"dTpwIg==","password":"p\"","username":"u"}}}"#),
            ("a:\n{{ y | fromyaml | toyaml | indent(2, true) }}", "a:\n  k:\n    - 1\n    - x: \"yes\"\n      z: []\n  \"n\": 12345678901234567890123"),
            (
                "{{ {'a': 'b c', 'd': ['no', '1', 'x.y/z', '', 'a\u{85}b'], 'e': none, 'true': -1.5} | toyaml }}",
                "a: \"b c\"\nd:\n  - \"no\"\n  - \"1\"\n  - x.y/z\n  - \"\"\n  - \"a\\u0085b\"\ne: null\n\"true\": -1.5",
            ),
        ] {
            let keys = [("v", "hi \"you\""), ("j", json), ("y", "n: 12345678901234567890123\nk: [1, {x: 'yes', z: []}]")];
            assert_eq!(good(&keys, text), expected, "{text}");
        }
    }

    #[test]
    fn blocks_of_a_pem_text_are_taken_out() {
        let block = |tag: &str, text: &str| format!("-----BEGIN {tag}-----\n{text}\n-----END {tag}-----\n");
        let (one, two, key) = (block("CERTIFICATE", "b25l"), block("CERTIFICATE", "dHdv"), block("RSA PRIVATE KEY", "a2V5"));
        let bundle = format!("Bag Attributes\r\n{one}{key}{}", two.replace('\n', "\r\n"));
        assert_eq!(good(&[("p", &bundle)], "{{ p | pem_certs }}"), format!("{one}{two}"));
        assert_eq!(good(&[("p", &bundle)], "{{ p | pem_key }}"), key);
        assert_eq!(wrong(&[("p", &one)], "{{ p | pem_key }}"), " line 1: pem_key: the value holds 0 private keys instead of one");
        assert_eq!(wrong(&[("p", &key)], "{{ p | pem_certs }}"), " line 1: pem_certs: the value holds no block CERTIFICATE");
        assert_eq!(
            wrong(&[("p", &format!("{one}{}", &two[..40]))], "{{ p | pem_certs }}"),
            " line 1: pem_certs: the value is not PEM, or a block of it is broken"
        );
    }

    #[test]
    fn errors_say_what_to_mend_and_nothing_of_a_value() {
        let keys = [("password", "CANARY"), ("x.y", "CANARY"), ("upper", "password"), ("json", r#"{"CANARY":["CANARY"]}"#)];
        for (text, expected) in [
            ("a\n{{ usernme }}", " line 2: undefined: `usernme` is not among the keys"),
            ("{% if x is defined %}{% endif %}\n{{ keys['x.z'] }}", " line 2: undefined: `x.z` is not among the keys"),
            ("{{ keys[password] }}", " line 1: undefined: a member or item that is asked for is not there"),
            ("{{ keys[upper ~ 's'] }} password passwords", " line 1: undefined: a member or item that is asked for is not there"),
            ("{{ password.CANARi }}", " line 1: undefined: a member or item that is asked for is not there"),
            ("{{ nope | b64encode }}", " line 1: undefined: `nope` is not among the keys"),
            ("{{ password | upper | nope(1) }}", " line 1: unknown filter `nope`"),
            ("{{ [password] | map(password) | list }}", " line 1: a filter or test whose name is made by the template is not known"),
            ("{{ password is not nope }}", " line 1: unknown test `nope`"),
            ("{{ nope(password) }}", " line 1: unknown function `nope`"),
            ("{{ password.lower() }}", " line 1: values have no methods; use a filter"),
            ("{{ password | fromjson }}", " line 1: fromjson: the value is not JSON"),
            ("{{ ('{' ~ password) | fromyaml }}", " line 1: fromyaml: the value is not YAML, nests too deeply, or names a member twice"),
            ("{{ (password ~ '!') | b64decode }}", " line 1: b64decode: the value is not base64"),
            ("{{ '//8=' | b64decode }}", " line 1: b64decode: what comes out is not text (UTF-8)"),
            ("{{ (json | fromjson) | quote }}", " line 1: quote: takes text, and the value is a map"),
            ("{{ (json | fromjson) | sha256 }}", " line 1: sha256: takes text, and the value is a map"),
            ("{{ dockerconfigjson(password ~ ':', '', '') }}", " line 1: dockerconfigjson: the user holds a colon, where docker takes the password to start"),
            ("{{ dockerconfigjson(password) }}", " line 1: a filter or function lacks an argument"),
            ("{{ password | quote(1) }}", " line 1: a filter or function gets too many arguments"),
            (
                "{{ password | tojson(indent=password) }}",
                " line 1: a value is not of the kind that an operation, filter or function takes, or blocks nest too deeply",
            ),
            ("{{ password + 1 }}", " line 1: + takes two numbers, not too large, or two texts, or two lists"),
            ("{{ password | int }}", " line 1: a value is not of the kind that an operation, filter or function takes, or blocks nest too deeply"),
            ("{% for a, b in json | fromjson %}{% endfor %}", " line 1: what is unpacked has not as many parts as there are names for them"),
            ("{{ debug() }}", " line 1: unknown function `debug`"),
            ("{{ namespace() }}", " line 1: unknown function `namespace`"),
            ("{{ none }}", " line 1: null has no text; use default('…', true) or tojson"),
            ("{{ keys }}", " line 1: a list or map has no text; use tojson, toyaml or join"),
            ("{{ [password] }}", " line 1: a list or map has no text; use tojson, toyaml or join"),
            ("{{ now() }}", " line 1: unknown function `now`"),
        ] {
            assert_eq!(wrong(&keys, text), expected, "{text}");
        }
        for (text, expected) in [
            ("x\n{{ a", "line 2: syntax error"),
            ("{% include 'a' %}", "unknown statement include"),
            ("{% import 'a' as a %}", "unknown statement import"),
            ("{% extends 'a' %}", "unknown statement extends"),
            ("{% macro a() %}{% endmacro %}", "unknown statement macro"),
        ] {
            assert!(wrong(&keys, text).contains(expected), "{text}: {}", wrong(&keys, text));
        }
    }

    #[test]
    fn binary_has_filters_and_never_becomes_text_by_accident() {
        let mut keys = data(&[("t", "CANARY")]);
        keys.insert("b".to_owned(), Sensitive::new(vec![0xff, 0xfe, b'x']));
        assert_eq!(made(&keys, "{{ b | b64encode }} {{ b | length }} {{ (b | sha256)[:4] }} {{ b | urlencode }}").expect("text"), "//54 3 91ec %FF%FEx");
        for text in [
            "{{ b }}",
            "{{ b ~ t }}",
            "{{ b | upper }}",
            "{{ b | string }}",
            "{{ b | indent(2) }}",
            "{{ [b] | sort | join }}",
            "{{ [b] | join }}",
            "{{ (b ~ t) | b64encode }}",
        ] {
            let error = made(&keys, text).expect_err(text).to_string();
            assert!(error.ends_with(": b is binary and can't be part of a text; use b | b64encode"), "{text}: {error}");
        }
        assert!(made(&keys, "{{ b | tojson }}").expect_err("an error").to_string().contains("b is binary and can't be part of a text"));
        assert!(made(&keys, "{{ b | b64decode }}").expect_err("an error").to_string().contains("b is binary and can't be part of a text"));
    }

    #[test]
    fn what_comes_out_is_what_the_merge_policy_says() {
        let keys = data(&[("a", "1"), ("b", "2")]);
        let rendered = |sources: Vec<TemplateSource>, merge| {
            let rendered = Templates::new(sources, None, merge).expect("templates").render(&keys, &Provenance::default()).expect("keys");
            rendered.data.iter().map(|(key, value)| format!("{key}={}", String::from_utf8_lossy(value.expose()))).collect::<Vec<_>>()
        };
        let sources = vec![source("b", "{{ a }}{{ b }}"), source("c", "{{ b }}")];
        assert_eq!(rendered(sources.clone(), MergePolicy::Replace), ["b=12", "c=2"]);
        assert_eq!(rendered(sources, MergePolicy::Merge), ["a=1", "b=12", "c=2"]);
        assert_eq!(rendered(Vec::new(), MergePolicy::Replace), ["a=1", "b=2"]);
        let twice =
            Templates::new(vec![source("a", ""), TemplateSource { origin: "ConfigMap tpl, key a".to_owned(), ..source("a", "") }], None, MergePolicy::Replace);
        assert_eq!(
            twice.expect_err("a collision").to_string(),
            "data[a] and ConfigMap tpl, key a both make the key \"a\"; nothing is written until it is clear which one is meant"
        );
    }

    #[test]
    fn metadata_sees_provenance_and_never_a_value() {
        let metadata = |label: &str, annotation: &str| TemplateMetadata {
            labels: BTreeMap::from([("l".to_owned(), label.to_owned())]),
            annotations: BTreeMap::from([("a".to_owned(), annotation.to_owned())]),
        };
        let provenance = Provenance {
            name: "db".to_owned(),
            namespace: "shop".to_owned(),
            target: "db-secret".to_owned(),
            sources: vec![("aws.sm://x".to_owned(), "v1".to_owned())],
        };
        let rendered = |label: &str, annotation: &str| {
            let templates = Templates::new(vec![source("out", "{{ password }}")], Some(&metadata(label, annotation)), MergePolicy::Merge).expect("templates");
            templates.render(&data(&[("password", "CANARY")]), &provenance).map_err(|error| error.to_string())
        };
        let good = rendered("{{ namespace }}.{{ name }}", "{{ target }} {{ keys | join(',') }} {% for s in sources %}{{ s.uri }}@{{ s.version }}{% endfor %}")
            .expect("metadata");
        assert_eq!(good.labels["l"], "shop.db");
        assert_eq!(good.annotations["a"], "db-secret out,password aws.sm://x@v1");
        for text in ["{{ password }}", "{{ out }}", "{{ keys.password }}", "{{ keys['password'] }}"] {
            let error = rendered("", text).expect_err(text);
            assert!(error.starts_with("spec.target.template.metadata.annotations[a] line 1: undefined: ") && !error.contains("CANARY"), "{error}");
        }
        assert_eq!(
            rendered("", "{{ password }}").expect_err("an error"),
            "spec.target.template.metadata.annotations[a] line 1: undefined: `password` is not among what metadata sees: name, namespace, target, keys, sources"
        );
        for label in ["a b", "-a", "{{ name }}\n", &"x".repeat(64)] {
            assert!(rendered(label, "").expect_err(label).contains("no value of a label"), "{label}");
        }
    }

    #[test]
    fn every_template_comes_to_an_end() {
        let nested = format!("{}x{}", "[".repeat(100_000), "]".repeat(100_000));
        let deep = format!("{{% set x = [] %}}{}{{{{ x | length }}}}", "{% set x = [x] %}".repeat(50_000));
        let wide = format!("{{% set x = ['x'] %}}{}{{{{ x }}}}", "{% set x = [x, x] %}".repeat(60)).replace("{{ x }}", "{{ x ~ '' }}");
        let wide_json = wide.replace("{{ x ~ '' }}", "{{ x | tojson }}");
        let joined = format!("{{% set x = [big] %}}{}{{{{ x | join | length }}}}", "{% set x = x + x %}".repeat(60));
        let compared =
            format!("{}{{% for i in range(99999) %}}{{% if x == y %}}{{% endif %}}{{% endfor %}}", "{% set x = [big, big] %}{% set y = [big, big] %}");
        let repeated = "{% set x = [big, big, big] %}{% for i in range(99999) %}{% if x | sort | first in big %}{% endif %}{% endfor %}".to_owned();
        let long = "x".repeat(MAX_SOURCES + 1);
        for (text, expected) in [
            ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "does too much"),
            ("{% for i in range(99999) %}0123456789abcdef{% endfor %}", "more than 1 MiB"),
            ("{% set x = '0123456789abcdef' %}{% for i in range(70000) %}{{ x }}{% endfor %}", "more than 1 MiB"),
            ("{{ 'x' * 1000000000000 }}", "* takes two numbers"),
            ("{{ big | replace('1', big) }}", "does too much"),
            ("{{ big | indent(1000000000) }}", "indent: the width is a number up to 64"),
            ("{% for i in range(1000) %}{% set j = (big | fromjson) %}{% endfor %}", "does too much"),
            ("{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}", "nest too deeply"),
            (&wide, "does too much"),
            (&wide_json, "does too much"),
            ("{% set x = ['x'] %}{% for i in [1,2] %}{% set x = x + x %}{% endfor %}{{ ([('x' * 1000)] * 5) | join }}", "* takes two numbers"),
            (&joined, "does too much"),
            (&compared, "does too much"),
            (&repeated, "does too much"),
            (&deep, "nest too deeply"),
            (&nested, ""),
            (&long, "longer than 1 MiB"),
        ] {
            let big = format!("[{}1]", "1,".repeat(30_000));
            let keys = data(&[("big", &big)]);
            let started = Instant::now();
            let out = made(&keys, text);
            let took = started.elapsed();
            let start = &text[..text.len().min(60)];
            eprintln!("{start}: {took:?}");
            if !expected.is_empty() {
                let error = out.expect_err(start).to_string();
                assert!(error.contains(expected), "{start}: {error}");
            }
            assert!(took < Duration::from_secs(10), "{start}: {took:?} (a debug build)");
        }
    }

    #[test]
    fn the_same_values_make_the_same_bytes() {
        let keys = data(&[("j", r#"{"z":1,"a":{"y":2,"b":[3]}}"#), ("u", "x")]);
        let text =
            "{{ j | fromjson | tojson }}{{ j | fromjson | toyaml }}{{ keys | tojson }}{{ dockerconfigjson(u, u, u) }}{{ j | fromjson | unique | join(',') }}";
        let first = made(&keys, text).expect("text");
        assert!((0..20).all(|_| made(&keys, text).as_ref() == Ok(&first)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]
        #[test]
        fn no_error_quotes_a_value(
            values in proptest::collection::vec("[ -~]{0,12}", 3),
            fragments in proptest::collection::vec(
                prop_oneof![
                    "(a|b|c|bin|keys|j|keys\\[a\\]|1|'x'|nope|\\[a, b\\]|\\(a ~ b\\)|\\{'k': a\\})( (\\+|-|~|\\*|/|==|in|<|\\|\\||and) (a|b|1|j))?( \\| (fromjson|fromyaml|b64decode|b64encode|tojson|toyaml|int|float|bool|list|items|first|last|sort|sum|join|pem_certs|pem_key|quote|sha256|length|upper|title|indent\\(a\\)|replace\\(a, b\\)|split\\(a\\)|map\\(a\\)|map\\(attribute=a\\)|select\\(a\\)|attr\\(a\\)|batch\\(a\\)|format\\(a\\)|round|abs|min|groupby\\(a\\)|dictsort|zip\\(a\\)|nope)){0,3}",
                    // Where the engine's own words quote what it works on.
                    "\\[(a|b), 'x'\\] \\| (map|select|reject)\\((a|b)\\) \\| list",
                    "\\(n \\| int\\) (/|//|%|\\*\\*|-|\\*|\\+) (0|99999|a|\\(n \\| int\\) \\* \\(n \\| int\\))",
                    "dockerconfigjson\\((a|j), b, c\\)|range\\(a\\)|dict\\(a\\)|a\\(b\\)|a\\.b\\(c\\)|a\\[b\\]|j\\[a:b\\]|a is (divisibleby\\(b\\)|nope|in\\(1\\))",
                ],
                1..2
            ),
        ) {
            let mut keys = Data::new();
            for (name, value) in ["a", "b", "c"].iter().zip(&values) {
                keys.insert((*name).to_owned(), Sensitive::from(format!("CANARY{value}")));
            }
            keys.insert("j".to_owned(), Sensitive::from(r#"{"CANARY":["CANARY",1],"CANARY2":{"CANARY":2}}"#.to_owned()));
            keys.insert("n".to_owned(), Sensitive::from("8675309867530986753098675309".to_owned()));
            keys.insert("bin".to_owned(), Sensitive::new(b"CANARY\xff".to_vec()));
            let text = format!("{{{{ {} }}}}", fragments.join(" }}{{ "));
            if let Err(error) = made(&keys, &text) {
                let shown = format!("{error} {error:?}");
                prop_assert!(!shown.to_ascii_lowercase().contains("canary") && !shown.contains("8675309"), "{}: {}", text, shown);
            }
        }
    }
}
