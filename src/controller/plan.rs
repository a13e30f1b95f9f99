//! The plan: what a spec asks to be read, and what is to become of it.
//!
//! A spec enters; distinct questions by provider, and the entries that make keys of their answers, leave. Pure: no I/O, no clock. What
//! the CRD's validation would have refused is refused here too, since a resource may be older than the rules. How keys are made is
//! [`compose`](super::compose)'s.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use crate::{
    api::{
        GROUP, Reason, RobotoSecretSpec, duration,
        reference::{Reference, ReferenceError, Store, Version},
        robotosecret::{
            ByPath, CreationPolicy, DEFAULT_KEY, DataEntry, DataFromEntry, Decode, DeletionPolicy, Find, Metadata, OnCollision, ProviderRef, StoreName,
            Template, VersionSelector,
        },
    },
    provider::{
        Listing, Question,
        search::{Search, SearchError},
    },
    render::{
        self, RenderError,
        naming::Naming,
        template::{TemplateSource, Templates},
    },
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
    /// The reason for the condition.
    pub reason: Reason,
}

impl InvalidSpec {
    fn new(field: impl Into<String>, problem: impl fmt::Display) -> Self {
        Self { field: field.into(), problem: problem.to_string(), reason: Reason::InvalidSpec }
    }
}

/// What a resource asks for.
#[derive(Debug)]
pub struct Plan {
    /// Each distinct thing to ask, once.
    pub questions: Vec<Planned>,
    /// What makes keys, in the order in which it is carried out.
    pub entries: Vec<Entry>,
    /// What happens when two entries make the same key.
    pub on_collision: OnCollision,
    /// What the keys that were read are made into.
    pub template: Option<Box<Template>>,
    /// The type of the Secret.
    pub type_: String,
    /// What happens when a source is gone.
    pub deletion: DeletionPolicy,
    /// The recheck interval.
    pub ttl: Duration,
    /// After how long without a good recheck Ready turns False.
    pub max_staleness: Option<Duration>,
}

/// A question and the provider to ask it through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The provider.
    pub provider: ProviderRef,
    /// What to ask.
    pub question: Question,
}

/// What makes keys of one answer.
#[derive(Debug)]
pub struct Entry {
    /// Its field in the spec.
    pub field: String,
    /// Which of [`Plan::questions`] it makes them of.
    pub question: usize,
    /// The way into the value.
    pub keypath: Vec<String>,
    /// How values are decoded.
    pub decode: Decode,
    /// What it makes.
    pub makes: Makes,
}

/// What an entry makes of the answer.
#[derive(Debug)]
pub enum Makes {
    /// One key.
    Key(String),
    /// A key for each member of a JSON object; of anything else the one key `as_`.
    Members {
        /// The key of what is no object.
        as_: String,
        /// How members become keys.
        naming: Naming,
    },
    /// A key for each that was listed.
    Listed {
        /// Which of them.
        search: Search,
        /// How names become keys.
        naming: Naming,
    },
}

impl Planned {
    /// How a status names the provider, where it is not the resource's own.
    #[must_use]
    pub fn foreign(&self, own: &ProviderRef) -> Option<String> {
        (self.provider != *own).then(|| self.provider.label())
    }
}

/// The templates that stand in the spec itself.
pub fn own_templates(template: &Template) -> impl Iterator<Item = TemplateSource> {
    template.data.iter().map(|(key, text)| TemplateSource { key: key.clone(), origin: format!("spec.target.template.data[{key}]"), text: text.clone() })
}

fn check_template(template: &Template) -> Result<(), InvalidSpec> {
    let invalid = |problem: RenderError| InvalidSpec { field: "template".to_owned(), reason: problem.reason(), problem: problem.to_string() };
    Templates::new(own_templates(template).collect(), template.metadata.as_ref(), template.merge_policy).map_err(invalid)?;
    Ok(())
}

impl Plan {
    /// Reads a spec.
    pub fn new(spec: &RobotoSecretSpec) -> Result<Self, InvalidSpec> {
        check_target(spec)?;
        spec.target.template.as_deref().map_or(Ok(()), check_template)?;
        let ttl = duration::parse(&spec.ttl).filter(|ttl| *ttl >= MIN_TTL).ok_or_else(|| InvalidSpec::new("spec.ttl", "write a duration of at least 10s"))?;
        let max_staleness = spec
            .max_staleness
            .as_deref()
            .map(|text| duration::parse(text).ok_or_else(|| InvalidSpec::new("spec.maxStaleness", "write a duration such as 2h")))
            .transpose()?;
        let mut questions = Vec::new();
        let entries = match (&spec.uri, &spec.data, &spec.data_from) {
            (Some(uri), None, None) => vec![plan_whole(&mut questions, "spec.uri", uri, &spec.provider, None)?],
            (None, data, data_from) if data.is_some() || data_from.is_some() => {
                let many = data_from.iter().flatten().enumerate().map(|(i, entry)| plan_many(spec, i, entry, &mut questions)).collect::<Result<Vec<_>, _>>()?;
                let single = plan_keys(spec, data.as_deref().unwrap_or_default(), &mut questions)?;
                many.into_iter().chain(single).collect()
            }
            _ => return Err(InvalidSpec::new("spec", "write either uri, or data and dataFrom")),
        };
        if entries.is_empty() {
            return Err(InvalidSpec::new("spec", "data and dataFrom are empty: there is nothing to mirror"));
        }
        Ok(Self {
            questions,
            entries,
            on_collision: spec.on_collision,
            template: spec.target.template.clone(),
            type_: spec.target.type_.clone().unwrap_or_else(|| "Opaque".to_owned()),
            deletion: spec.target.deletion_policy,
            ttl,
            max_staleness,
        })
    }
}

impl Plan {
    /// Whether it mirrors what a path or a search finds.
    #[must_use]
    pub fn searches(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry.makes, Makes::Listed { .. }))
    }
}

fn plan_whole(questions: &mut Vec<Planned>, field: &str, uri: &str, provider: &ProviderRef, entry: Option<&DataFromEntry>) -> Result<Entry, InvalidSpec> {
    let reference: Reference = uri.parse().map_err(|problem| InvalidSpec::new(field, problem))?;
    let as_ = entry.and_then(|entry| entry.as_.clone()).unwrap_or_else(|| DEFAULT_KEY.to_owned());
    if !render::is_key(&as_) {
        return Err(InvalidSpec::new(field, "as is not a key that a Secret can have"));
    }
    Ok(Entry {
        field: field.to_owned(),
        question: intern(questions, provider, Question::Value(reference.source)),
        keypath: reference.keypath,
        decode: entry.map(|entry| entry.decode).unwrap_or_default(),
        makes: Makes::Members { as_, naming: naming(field, entry)? },
    })
}

fn naming(field: &str, entry: Option<&DataFromEntry>) -> Result<Naming, InvalidSpec> {
    let none = DataFromEntry::default();
    let DataFromEntry { exclude, rewrite, conversion, .. } = entry.unwrap_or(&none);
    Naming::new(exclude, rewrite, *conversion).map_err(|problem| InvalidSpec::new(field, problem))
}

fn plan_many(spec: &RobotoSecretSpec, i: usize, entry: &DataFromEntry, questions: &mut Vec<Planned>) -> Result<Entry, InvalidSpec> {
    let field = format!("spec.dataFrom[{i}]");
    let provider = entry.provider.as_ref().unwrap_or(&spec.provider);
    let (listing, search) = match (&entry.uri, &entry.by_path, &entry.find) {
        (Some(uri), None, None) => return plan_whole(questions, &field, uri, provider, Some(entry)),
        (None, Some(by_path), None) => search_path(&field, by_path)?,
        (None, None, Some(find)) => search_all(&field, find)?,
        _ => return Err(InvalidSpec::new(field, "write exactly one of uri, byPath and find")),
    };
    if entry.as_.is_some() {
        return Err(InvalidSpec::new(field, "as goes with uri"));
    }
    let makes = Makes::Listed { search, naming: naming(&field, Some(entry))? };
    Ok(Entry { field, question: intern(questions, provider, Question::List(listing)), keypath: Vec::new(), decode: entry.decode, makes })
}

fn search_path(field: &str, by_path: &ByPath) -> Result<(Listing, Search), InvalidSpec> {
    Search::below(&by_path.uri, by_path.recursive).map_err(|problem| InvalidSpec::new(format!("{field}.byPath.uri"), problem.to_string()))
}

fn search_all(field: &str, find: &Find) -> Result<(Listing, Search), InvalidSpec> {
    let tags = find.tags.clone().unwrap_or_default();
    let found = Search::matching(store_of(find.store), find.path.as_deref(), find.name.as_deref(), tags);
    found.map_err(|problem| {
        let part = match problem {
            SearchError::Path(_) => ".path",
            SearchError::Name(_) => ".name",
            SearchError::Missing(_) | SearchError::Unsupported(_) => "",
        };
        InvalidSpec::new(format!("{field}.find{part}"), problem.to_string())
    })
}

fn plan_keys(spec: &RobotoSecretSpec, entries: &[DataEntry], questions: &mut Vec<Planned>) -> Result<Vec<Entry>, InvalidSpec> {
    let mut seen = BTreeSet::new();
    let plan_key = |entry: &DataEntry| {
        let field = format!("spec.data[{}]", entry.key);
        if !render::is_key(&entry.key) {
            return Err(InvalidSpec::new(field, "not a key that a Secret can have"));
        }
        if !seen.insert(entry.key.clone()) {
            return Err(InvalidSpec::new(field, "the key stands twice"));
        }
        let reference = reference_of(entry).map_err(|problem| InvalidSpec::new(&field, problem))?;
        let provider = entry.provider.as_ref().unwrap_or(&spec.provider);
        let question = match entry.metadata {
            None => Question::Value(reference.source),
            Some(Metadata::Tags) if reference.source.version.is_some() => {
                return Err(InvalidSpec::new(field, "tags belong to all versions; leave the version out"));
            }
            Some(Metadata::Tags) if !reference.source.store.is_aws() => return Err(InvalidSpec::new(field, "only secrets and parameters of AWS have tags")),
            Some(Metadata::Tags) => Question::Tags(reference.source),
        };
        let question = intern(questions, provider, question);
        Ok(Entry { field, question, keypath: reference.keypath, decode: entry.decode, makes: Makes::Key(entry.key.clone()) })
    };
    entries.iter().map(plan_key).collect()
}

fn reference_of(entry: &DataEntry) -> Result<Reference, String> {
    match (&entry.uri, entry.store, &entry.path) {
        (Some(uri), None, None) if entry.keypath.is_none() && entry.version.is_none() => uri.parse().map_err(|problem: ReferenceError| problem.to_string()),
        (None, Some(store), Some(path)) => {
            let version = entry.version.as_ref().map(version_of).transpose()?;
            Reference::new(store_of(store), path, version, entry.keypath.clone().unwrap_or_default()).map_err(|problem| problem.to_string())
        }
        _ => Err("write either uri, or store and path (with keypath and version)".to_owned()),
    }
}

const fn store_of(name: StoreName) -> Store {
    match name {
        StoreName::SecretsManager => Store::SecretsManager,
        StoreName::ParameterStore => Store::ParameterStore,
        StoreName::Vault => Store::Vault,
        StoreName::Edge => Store::Edge,
        StoreName::Roboto => Store::Roboto,
        StoreName::Envase => Store::Envase,
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

fn intern(questions: &mut Vec<Planned>, provider: &ProviderRef, question: Question) -> usize {
    let planned = Planned { provider: provider.clone(), question };
    questions.iter().position(|known| *known == planned).unwrap_or_else(|| {
        questions.push(planned);
        questions.len() - 1
    })
}

/// Whether Kubernetes accepts this as the name of an object: nothing else may get into the address of a request.
fn is_object_name(name: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let is_part =
        |part: &str| part.bytes().all(|b| is_inner(b) || b == b'-') && [part.bytes().next(), part.bytes().last()].iter().all(|end| end.is_some_and(is_inner));
    name.len() <= 253 && name.split('.').all(is_part)
}

fn check_names(spec: &RobotoSecretSpec) -> Result<(), InvalidSpec> {
    let target = spec.target.name.iter().map(|name| ("spec.target.name", name));
    let workloads = spec.rollout.iter().map(|workload| ("spec.rollout", &workload.name));
    let from = spec.target.template.iter().flat_map(|template| &template.from);
    let config_maps = from.map(|from| ("spec.target.template.from", &from.config_map.name));
    match target.chain(workloads).chain(config_maps).find(|(_, name)| !is_object_name(name)) {
        Some((field, name)) => Err(InvalidSpec::new(field, format!("{name:?} is not a name that an object can have"))),
        None => Ok(()),
    }
}

fn check_target(spec: &RobotoSecretSpec) -> Result<(), InvalidSpec> {
    let target = &spec.target;
    check_names(spec)?;
    if let Some(type_) = target.type_.as_deref().filter(|type_| MINTING_TYPES.contains(type_)) {
        return Err(InvalidSpec::new("spec.target.type", format!("{type_} makes Kubernetes mint credentials and is refused")));
    }
    if target.creation_policy == CreationPolicy::Merge && target.deletion_policy == DeletionPolicy::Delete {
        return Err(InvalidSpec::new("spec.target.deletionPolicy", "creationPolicy Merge shares the Secret with others; use DropKeys"));
    }
    if let Some(key) = target.template.iter().flat_map(|template| template.data.keys()).find(|key| !render::is_key(key)) {
        return Err(InvalidSpec::new("spec.target.template.data", format!("{key:?} is not a key that a Secret can have")));
    }
    let templated = target.template.as_ref().and_then(|template| template.metadata.as_ref());
    let none = BTreeMap::new();
    let (labels, annotations) = templated.map_or((&none, &none), |metadata| (&metadata.labels, &metadata.annotations));
    for (field, annotations) in [("spec.target.annotations", &target.annotations), ("spec.target.template.metadata.annotations", annotations)] {
        if annotations.keys().any(|key| key.starts_with(MINTING_ANNOTATIONS)) {
            return Err(InvalidSpec::new(field, format!("{MINTING_ANNOTATIONS}* make Kubernetes mint credentials and are refused")));
        }
    }
    let own = format!("{GROUP}/");
    for (field, keys) in [
        ("spec.target.labels", &target.labels),
        ("spec.target.annotations", &target.annotations),
        ("spec.target.template.metadata.labels", labels),
        ("spec.target.template.metadata.annotations", annotations),
    ] {
        if keys.keys().any(|key| key.starts_with(&own)) {
            return Err(InvalidSpec::new(field, format!("{own}* are the controller's own")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::reference::{Name, Source};

    fn spec(yaml: &str) -> RobotoSecretSpec {
        serde_yaml::from_str(yaml).expect("a spec")
    }

    fn refused(yaml: &str) -> String {
        Plan::new(&spec(yaml)).expect_err("an invalid spec").to_string()
    }

    fn questions(yaml: &str) -> Vec<String> {
        let plan = Plan::new(&spec(yaml)).expect("a plan");
        plan.questions.iter().map(|planned| format!("{} {}", planned.provider.name, planned.question)).collect()
    }

    #[test]
    fn each_distinct_question_is_planned_once() {
        let asked = questions(
            "{dataFrom: [{uri: 'aws.sm://x'}, {find: {store: aws.sm, path: p/, name: a}}, {find: {store: aws.sm, path: p/, name: b}}], data: [
              {key: a, uri: 'aws.sm://x#/a'},
              {key: b, store: aws.sm, path: x, keypath: [b]},
              {key: c, uri: 'aws.sm://x?version-stage=AWSPREVIOUS#/a'},
              {key: t, uri: 'aws.sm://x', metadata: tags},
              {key: d, uri: 'aws.sm://x#/a', provider: {kind: ClusterRobotoProvider, name: other}}]}",
        );
        let expected =
            ["default aws.sm://x", "default aws.sm://p/**", "default aws.sm://x?version-stage=AWSPREVIOUS", "default tags of aws.sm://x", "other aws.sm://x"];
        assert_eq!(asked, expected);
    }

    fn found(yaml: &str, names: &[&str]) -> Vec<String> {
        let plan = Plan::new(&spec(&format!("dataFrom: [{yaml}]"))).expect("a plan");
        let Makes::Listed { search, .. } = &plan.entries[0].makes else { panic!("a search") };
        let source = |name: &str| name.parse::<Reference>().expect("a reference").source;
        names.iter().filter_map(|name| search.name_of(&source(name))).collect()
    }

    #[test]
    fn what_lies_below_a_path_goes_by_the_rest_of_its_name() {
        let names = ["aws.ps:///prod/app/db/host", "aws.ps:///prod/app/a", "aws.ps:///prod/apple", "aws.ps:///prod/app", "aws.sm://prod/app/a"];
        for path in ["aws.ps:///prod/app", "aws.ps:///prod/app/"] {
            assert_eq!(found(&format!("{{byPath: {{uri: '{path}'}}}}"), &names), ["db/host", "a"]);
        }
        assert_eq!(found("{byPath: {uri: 'aws.ps:///prod/app', recursive: false}}", &names), ["a"]);
        assert_eq!(found("{byPath: {uri: 'aws.ps:///'}}", &["aws.ps:///a", "aws.ps:///b/c"]), ["a", "b/c"]);
    }

    #[test]
    fn a_prefix_of_secrets_may_end_within_a_segment() {
        let names = ["aws.sm://prod/app/a", "aws.sm://prod/apple/b", "aws.sm://prod/app", "aws.sm://other", "aws.sm://prod/app/a?version-stage=OLD"];
        assert_eq!(found("{byPath: {uri: 'aws.sm://prod/app'}}", &names), ["a", "apple/b", "app"]);
        assert_eq!(found("{byPath: {uri: 'aws.sm://prod/app/'}}", &names), ["a"]);
        assert_eq!(found("{byPath: {uri: 'aws.sm://prod/app', recursive: false}}", &names), ["a", "app"]);
    }

    #[test]
    fn a_name_that_no_reference_could_have_is_not_found() {
        let plan = Plan::new(&spec("dataFrom: [{find: {store: aws.sm, name: x}}]")).expect("a plan");
        let Makes::Listed { search, .. } = &plan.entries[0].makes else { panic!("a search") };
        let found = |name: &str| search.name_of(&Source { store: Store::SecretsManager, name: Name::Plain(name.to_owned()), version: None });
        for name in ["a//x", "a/../x", "x/", "äx"] {
            assert_eq!(found(name), None, "{name}");
        }
        assert_eq!(found("a/x").as_deref(), Some("a/x"));
    }

    #[test]
    fn a_search_is_not_over_other_organisations() {
        let names = ["roboto-secret://shop/a", "roboto-secret://shop/a@org_2"];
        assert_eq!(found("{byPath: {uri: 'roboto-secret://shop'}}", &names), ["a"]);
        assert_eq!(found("{find: {store: roboto-secret, name: '.*'}}", &names), ["shop/a"]);
        assert_eq!(found("{byPath: {uri: 'vault://kv/shop'}}", &["vault://kv/shop/a@b"]), ["a@b"]);
    }

    #[test]
    fn a_search_goes_by_whole_names() {
        let names = ["aws.sm://prod/app/a", "aws.sm://prod/app/b", "aws.sm://x/prod/app/a"];
        assert_eq!(found("{find: {store: aws.sm, path: prod/app, name: 'a$'}}", &names), ["prod/app/a"]);
        assert_eq!(found("{find: {store: aws.sm, name: 'a$'}}", &names), ["prod/app/a", "x/prod/app/a"]);
        assert_eq!(found("{find: {store: aws.ps, path: /p, tags: {a: b}}}", &["aws.ps:///p/x", "aws.ps:///q/x"]), ["/p/x"]);
    }

    #[test]
    fn what_cannot_be_carried_out_is_refused_with_its_place() {
        for (yaml, expected) in [
            ("dataFrom: [{byPath: {uri: 'aws.ps://prod/app'}}]", "spec.dataFrom[0].byPath.uri: a path in Parameter Store starts with a slash"),
            ("dataFrom: [{byPath: {uri: 'aws.sm://'}}]", "spec.dataFrom[0].byPath.uri: it names no path"),
            ("{uri: 'aws.sm://x', rollout: [{kind: Deployment, name: 'web?dryRun=All'}]}", "spec.rollout: \"web?dryRun=All\" is not a name"),
            ("{uri: 'aws.sm://x', rollout: [{kind: Deployment, name: ../x}]}", "spec.rollout: "),
            ("{uri: 'aws.sm://x', target: {name: a/b}}", "spec.target.name: "),
            ("{uri: 'aws.sm://x', target: {template: {from: [{configMap: {name: 'a?b', key: k}}]}}}", "spec.target.template.from: "),
            ("dataFrom: [{byPath: {uri: 'aws.sm://a//b'}}]", "spec.dataFrom[0].byPath.uri: the name for aws.sm holds two slashes"),
            ("dataFrom: [{byPath: {uri: 'aws.sm://a?version-stage=x'}}]", "spec.dataFrom[0].byPath.uri: the name for aws.sm holds a character"),
            ("dataFrom: [{find: {store: aws.sm, name: '('}}]", "spec.dataFrom[0].find.name: "),
            ("dataFrom: [{find: {store: aws.sm}}]", "spec.dataFrom[0].find: write at least one"),
            ("dataFrom: [{find: {store: aws.ps, path: prod}}]", "spec.dataFrom[0].find.path: a path in Parameter Store"),
            ("dataFrom: [{uri: 'aws.sm://x', exclude: ['(']}]", "spec.dataFrom[0]: exclude[0]: "),
            ("dataFrom: [{uri: 'aws.sm://x', as: 'a b'}]", "spec.dataFrom[0]: as is not"),
            ("dataFrom: [{}]", "spec.dataFrom[0]: write exactly one"),
            ("data: [{key: a, uri: 'aws.sm://x?version-stage=S', metadata: tags}]", "spec.data[a]: tags belong to all versions"),
            ("{uri: 'aws.sm://x', target: {creationPolicy: Merge, deletionPolicy: Delete}}", "spec.target.deletionPolicy"),
            ("{uri: 'aws.sm://x', target: {template: {data: {'a b': x}}}}", "spec.target.template.data: \"a b\" is not a key"),
            ("{uri: 'aws.sm://x', target: {template: {metadata: {labels: {robotosecret.dev/managed: x}}}}}", "spec.target.template.metadata.labels"),
            (
                "{uri: 'aws.sm://x', target: {template: {metadata: {annotations: {kubernetes.io/service-account.name: x}}}}}",
                "spec.target.template.metadata.ann",
            ),
        ] {
            let said = refused(yaml);
            assert!(said.starts_with(expected), "{yaml}: {said}");
        }
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
}
