//! The plan: what a spec asks to be read, and what becomes of it.
//!
//! A spec enters; distinct sources by provider, and the keys to render from them, leave. Pure: no I/O, no clock. What the CRD's
//! validation would have refused is refused here too, since a resource may be older than the rules.

use std::{collections::BTreeSet, fmt, time::Duration};

use crate::{
    api::{
        GROUP, Reason, RobotoSecretSpec, duration,
        reference::{Reference, Source, Store, Version},
        robotosecret::{DEFAULT_KEY, DataEntry, ProviderRef, StoreName, VersionSelector},
    },
    provider::Value,
    render::{self, Data, RenderError},
};

/// The shortest recheck interval.
const MIN_TTL: Duration = Duration::from_secs(10);
/// Types of Secrets that make Kubernetes mint credentials for whoever may create them.
const MINTING_TYPES: [&str; 2] = ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token"];
/// Annotations that do.
const MINTING_ANNOTATIONS: &str = "kubernetes.io/service-account.";

/// A spec that can't be carried out; only an edit can help. The message holds field names and references, no values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidSpec {
    /// Where in the resource.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl InvalidSpec {
    fn new(field: impl Into<String>, problem: impl fmt::Display) -> Self {
        Self { field: field.into(), problem: problem.to_string() }
    }
}

/// What a resource asks for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Each distinct thing to read, once.
    pub sources: Vec<PlannedSource>,
    keys: Keys,
    /// The recheck interval.
    pub ttl: Duration,
    /// After how long without a good recheck Ready turns False.
    pub max_staleness: Option<Duration>,
}

/// A source and the provider to read it through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedSource {
    /// The provider.
    pub provider: ProviderRef,
    /// What to read.
    pub source: Source,
}

#[derive(Clone, Debug)]
enum Keys {
    Whole { keypath: Vec<String> },
    Single(Vec<PlannedKey>),
}

#[derive(Clone, Debug)]
struct PlannedKey {
    key: String,
    source: usize,
    keypath: Vec<String>,
}

/// Why a plan's keys could not be rendered: the reference at fault, and the problem.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reference}: {problem}")]
pub struct RenderFailure {
    /// The reference, or what the failure is about.
    pub reference: String,
    /// The problem.
    pub problem: RenderError,
}

impl RenderFailure {
    /// The reason for the condition.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.problem.reason()
    }
}

impl Plan {
    /// Reads a spec.
    pub fn new(spec: &RobotoSecretSpec) -> Result<Self, InvalidSpec> {
        check_target(spec)?;
        let ttl = duration::parse(&spec.ttl).filter(|ttl| *ttl >= MIN_TTL).ok_or_else(|| InvalidSpec::new("spec.ttl", "write a duration of at least 10s"))?;
        let max_staleness = spec
            .max_staleness
            .as_deref()
            .map(|text| duration::parse(text).ok_or_else(|| InvalidSpec::new("spec.maxStaleness", "write a duration such as 2h")))
            .transpose()?;
        let mut sources = Vec::new();
        let keys = match (&spec.uri, &spec.data) {
            (Some(uri), None) => {
                let reference: Reference = uri.parse().map_err(|problem| InvalidSpec::new("spec.uri", problem))?;
                intern(&mut sources, &spec.provider, reference.source);
                Keys::Whole { keypath: reference.keypath }
            }
            (None, Some(entries)) if !entries.is_empty() => Keys::Single(plan_keys(spec, entries, &mut sources)?),
            _ => return Err(InvalidSpec::new("spec", "write either uri or data")),
        };
        Ok(Self { sources, keys, ttl, max_staleness })
    }

    /// Renders every key. `values` holds, for each of [`Plan::sources`] in order, its value and the keypath that its name ended in.
    pub fn render(&self, values: &[(&Value, &[String])]) -> Result<Data, RenderFailure> {
        let data = match &self.keys {
            Keys::Whole { keypath } => {
                let (value, inner) = values[0];
                let path = [inner, keypath.as_slice()].concat();
                render::whole(value, &path, DEFAULT_KEY).map_err(|problem| self.failure(0, problem))?
            }
            Keys::Single(keys) => {
                let rendered = keys.iter().map(|planned| {
                    let (value, inner) = values[planned.source];
                    let path = [inner, planned.keypath.as_slice()].concat();
                    let part = render::part(value, &path).map_err(|problem| self.failure(planned.source, problem))?;
                    Ok((planned.key.clone(), part))
                });
                rendered.collect::<Result<_, _>>()?
            }
        };
        render::check_size(&data).map_err(|problem| RenderFailure { reference: "the Secret would be too large".to_owned(), problem })?;
        Ok(data)
    }

    fn failure(&self, source: usize, problem: RenderError) -> RenderFailure {
        RenderFailure { reference: self.sources[source].source.to_string(), problem }
    }
}

fn plan_keys(spec: &RobotoSecretSpec, entries: &[DataEntry], sources: &mut Vec<PlannedSource>) -> Result<Vec<PlannedKey>, InvalidSpec> {
    let mut seen = BTreeSet::new();
    let plan_key = |entry: &DataEntry| {
        let field = format!("spec.data[{}]", entry.key);
        if !render::is_key(&entry.key) {
            return Err(InvalidSpec::new(field, "not a key that a Secret can have"));
        }
        if !seen.insert(entry.key.clone()) {
            return Err(InvalidSpec::new(field, "the key stands twice"));
        }
        let reference = reference_of(entry).map_err(|problem| InvalidSpec::new(field, problem))?;
        let provider = entry.provider.as_ref().unwrap_or(&spec.provider);
        Ok(PlannedKey { key: entry.key.clone(), source: intern(sources, provider, reference.source), keypath: reference.keypath })
    };
    entries.iter().map(plan_key).collect()
}

fn reference_of(entry: &DataEntry) -> Result<Reference, String> {
    match (&entry.uri, entry.store, &entry.path) {
        (Some(uri), None, None) if entry.keypath.is_none() && entry.version.is_none() => {
            uri.parse().map_err(|problem: crate::api::reference::ReferenceError| problem.to_string())
        }
        (None, Some(store), Some(path)) => {
            let store = match store {
                StoreName::SecretsManager => Store::SecretsManager,
                StoreName::ParameterStore => Store::ParameterStore,
            };
            let version = entry.version.as_ref().map(version_of).transpose()?;
            Reference::new(store, path, version, entry.keypath.clone().unwrap_or_default()).map_err(|problem| problem.to_string())
        }
        _ => Err("write either uri, or store and path (with keypath and version)".to_owned()),
    }
}

fn version_of(selector: &VersionSelector) -> Result<Version, String> {
    match (&selector.stage, &selector.id, selector.number, &selector.label) {
        (Some(stage), None, None, None) => Ok(Version::Stage(stage.clone())),
        (None, Some(id), None, None) => Ok(Version::Id(id.clone())),
        (None, None, Some(number), None) => u64::try_from(number).map(Version::Number).map_err(|_| "a version number starts at 1".to_owned()),
        (None, None, None, Some(label)) => Ok(Version::Label(label.clone())),
        _ => Err("version takes exactly one of stage, id, number and label".to_owned()),
    }
}

fn intern(sources: &mut Vec<PlannedSource>, provider: &ProviderRef, source: Source) -> usize {
    let planned = PlannedSource { provider: provider.clone(), source };
    sources.iter().position(|known| *known == planned).unwrap_or_else(|| {
        sources.push(planned);
        sources.len() - 1
    })
}

fn check_target(spec: &RobotoSecretSpec) -> Result<(), InvalidSpec> {
    let target = &spec.target;
    if let Some(type_) = target.type_.as_deref().filter(|type_| MINTING_TYPES.contains(type_)) {
        return Err(InvalidSpec::new("spec.target.type", format!("{type_} makes Kubernetes mint credentials and is refused")));
    }
    if target.annotations.keys().any(|key| key.starts_with(MINTING_ANNOTATIONS)) {
        return Err(InvalidSpec::new("spec.target.annotations", format!("{MINTING_ANNOTATIONS}* make Kubernetes mint credentials and are refused")));
    }
    let own = format!("{GROUP}/");
    for (field, keys) in [("spec.target.labels", &target.labels), ("spec.target.annotations", &target.annotations)] {
        if keys.keys().any(|key| key.starts_with(&own)) {
            return Err(InvalidSpec::new(field, format!("{own}* are the controller's own")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensitive::Sensitive;

    fn spec(yaml: &str) -> RobotoSecretSpec {
        serde_yaml::from_str(yaml).expect("a spec")
    }

    fn refused(yaml: &str) -> String {
        Plan::new(&spec(yaml)).expect_err("an invalid spec").to_string()
    }

    fn text(value: &str) -> Value {
        Value::Text(Sensitive::from(value.to_owned()))
    }

    #[test]
    fn each_distinct_source_is_planned_once() {
        let plan = Plan::new(&spec(
            "data:
              - {key: a, uri: 'aws.sm://x#/a'}
              - {key: b, store: aws.sm, path: x, keypath: [b]}
              - {key: c, uri: 'aws.sm://x?version-stage=AWSPREVIOUS#/a'}
              - {key: d, uri: 'aws.sm://x#/a', provider: {kind: ClusterRobotoProvider, name: other}}",
        ))
        .expect("a plan");
        let shown: Vec<_> = plan.sources.iter().map(|planned| format!("{} {}", planned.provider.name, planned.source)).collect();
        assert_eq!(shown, ["default aws.sm://x", "default aws.sm://x?version-stage=AWSPREVIOUS", "other aws.sm://x"]);
        let values = [text(r#"{"a":1,"b":"two"}"#), text(r#"{"a":"old"}"#), text(r#"{"a":"other"}"#)];
        let values: Vec<(&Value, &[String])> = values.iter().map(|value| (value, &[][..])).collect();
        let data = plan.render(&values).expect("data");
        let shown: Vec<_> = data.iter().map(|(key, value)| format!("{key}={}", String::from_utf8_lossy(value.expose()))).collect();
        assert_eq!(shown, ["a=1", "b=two", "c=old", "d=other"]);
    }

    #[test]
    fn the_rest_of_a_name_goes_before_the_keypath() {
        let plan = Plan::new(&spec("data: [{key: a, uri: 'aws.ps:///aws/reference/secretsmanager/x/a#/b'}]")).expect("a plan");
        let (value, inner) = (text(r#"{"a":{"b":"deep"}}"#), ["a".to_owned()]);
        assert_eq!(plan.render(&[(&value, &inner)]).expect("data")["a"].expose(), b"deep");
    }

    #[test]
    fn what_cannot_be_carried_out_is_refused_with_its_place() {
        assert!(refused("{}").starts_with("spec: write either"));
        assert!(refused("{uri: 'aws.sm://x', data: [{key: a, uri: 'aws.sm://x'}]}").starts_with("spec: write either"));
        assert!(refused("uri: x").starts_with("spec.uri: a reference starts with"));
        assert!(refused("{uri: 'aws.sm://x', ttl: 9s}").starts_with("spec.ttl"));
        assert!(refused("{uri: 'aws.sm://x', maxStaleness: 1d}").starts_with("spec.maxStaleness"));
        assert!(refused("data: [{key: 'a b', uri: 'aws.sm://x'}]").starts_with("spec.data[a b]"));
        assert!(refused("data: [{key: a, uri: 'aws.sm://x'}, {key: a, uri: 'aws.sm://y'}]").contains("stands twice"));
        assert!(refused("data: [{key: a, store: aws.ps, path: /x, version: {stage: A}}]").contains("?version="));
        assert!(refused("data: [{key: a, store: aws.ps, path: /x, version: {number: -1}}]").contains("starts at 1"));
        assert!(refused("{uri: 'aws.sm://x', target: {type: kubernetes.io/service-account-token}}").starts_with("spec.target.type"));
        assert!(refused("{uri: 'aws.sm://x', target: {annotations: {kubernetes.io/service-account.name: x}}}").starts_with("spec.target.annotations"));
        assert!(refused("{uri: 'aws.sm://x', target: {labels: {robotosecret.dev/managed: 'false'}}}").starts_with("spec.target.labels"));
    }

    #[test]
    fn a_failure_names_the_reference_and_nothing_of_the_value() {
        let plan = Plan::new(&spec("data: [{key: a, uri: 'aws.sm://x#/a'}]")).expect("a plan");
        let value = text("topsecret");
        let failure = plan.render(&[(&value, &[])]).expect_err("not JSON");
        assert_eq!(failure.to_string(), "aws.sm://x: nothing at #/a: the value is not JSON");
        assert_eq!(failure.reason(), Reason::KeypathNotFound);
    }
}
