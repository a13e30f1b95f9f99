//! Composition: what was found for each entry of a plan becomes the keys of the Secret.
//!
//! A plan and what its entries found enter; keys, labels and annotations leave. Pure: no I/O, no clock. Entries are carried out in
//! their order, and two of them never make the same key unless the spec says which wins. No failure holds a part of a value.

use std::collections::BTreeMap;

use super::plan::{self, Entry, Makes, Plan};
use crate::{
    api::{Reason, robotosecret::OnCollision},
    provider::Value,
    render::{
        self, Data, RenderError, decode, kinds,
        template::{Provenance, Rendered, TemplateSource, Templates},
    },
    sensitive::Sensitive,
};

/// What an entry found.
#[derive(Debug)]
pub enum Found<'a> {
    /// One value: its reference, and the keypath that its name ends in.
    Value(String, &'a Value, &'a [String]),
    /// Several: the name that each goes by, its reference and its value.
    Listed(Vec<(String, String, &'a Value)>),
    /// What it had found is gone for certain, and so are its keys.
    Gone,
}

/// Why keys could not be composed: what the failure is about, and the problem.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{subject}: {problem}")]
pub struct ComposeError {
    /// A reference, or a field of the spec.
    pub subject: String,
    /// The problem.
    pub problem: RenderError,
}

impl ComposeError {
    fn new(subject: impl Into<String>, problem: RenderError) -> Self {
        Self { subject: subject.into(), problem }
    }

    /// The reason for the condition.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.problem.reason()
    }
}

/// The keys that the entries make. `found` is in the order of [`Plan::entries`].
pub fn read_keys(plan: &Plan, found: &[Found<'_>]) -> Result<Data, ComposeError> {
    let mut data = Data::new();
    let mut made_by: BTreeMap<String, &str> = BTreeMap::new();
    for (entry, found) in plan.entries.iter().zip(found) {
        for (key, value) in keys_of(entry, found)? {
            let first = made_by.insert(key.clone(), &entry.field);
            if let (Some(first), OnCollision::Error) = (first, plan.on_collision) {
                let (first, second) = (first.to_owned(), entry.field.clone());
                return Err(ComposeError::new("onCollision: Error", RenderError::Collision { key, first, second }));
            }
            data.insert(key, value);
        }
    }
    Ok(data)
}

fn keys_of(entry: &Entry, found: &Found<'_>) -> Result<Data, ComposeError> {
    let decoded = |value: Sensitive| decode::decode(value, entry.decode);
    match (&entry.makes, found) {
        (_, Found::Gone) => Ok(Data::new()),
        (Makes::Key(key), Found::Value(reference, value, inner)) => {
            let path = [*inner, entry.keypath.as_slice()].concat();
            let value = render::part(value, &path).and_then(decoded).map_err(|problem| ComposeError::new(reference, problem))?;
            Ok(Data::from([(key.clone(), value)]))
        }
        (Makes::Members { as_, naming }, Found::Value(reference, value, inner)) => {
            let path = [*inner, entry.keypath.as_slice()].concat();
            let failed = |problem| ComposeError::new(reference, problem);
            let members = render::members(value, &path, as_, |name| naming.excludes(name)).map_err(failed)?;
            let named = naming.name_all(members).map_err(failed)?;
            if named.is_empty() {
                return Err(failed(RenderError::Excluded));
            }
            named.into_iter().map(|(key, value)| Ok((key, decoded(value).map_err(failed)?))).collect()
        }
        (Makes::Listed { naming, .. }, Found::Listed(members)) => {
            let members = members.iter().map(|(name, reference, value)| (name.clone(), (reference, *value)));
            let named = naming.name_all(members).map_err(|problem| ComposeError::new(&entry.field, problem))?;
            let whole = |(key, (reference, value)): (String, (&String, &Value))| {
                let value = render::part(value, &[]).and_then(decoded).map_err(|problem| ComposeError::new(reference, problem))?;
                Ok((key, value))
            };
            named.into_iter().map(whole).collect()
        }
        (Makes::Key(_) | Makes::Members { .. }, Found::Listed(_)) | (Makes::Listed { .. }, Found::Value(..)) => {
            let problem = "what was found is not what was asked for".to_owned();
            Err(ComposeError::new(&entry.field, RenderError::Keypath { keypath: Vec::new(), problem }))
        }
    }
}

/// Puts the keys that were read through the templates, if there are any, and checks that Kubernetes would take them. `texts` are the
/// templates that are kept elsewhere, in the order of the spec.
pub fn finish(plan: &Plan, data: Data, texts: Vec<TemplateSource>, provenance: &Provenance) -> Result<Rendered, ComposeError> {
    let failed = |problem| ComposeError::new("template", problem);
    let rendered = match &plan.template {
        None => Rendered { data, ..Rendered::default() },
        Some(template) => {
            let sources = texts.into_iter().chain(plan::own_templates(template)).collect();
            let templates = Templates::new(sources, template.metadata.as_ref(), template.merge_policy).map_err(failed)?;
            templates.render(&data, provenance).map_err(failed)?
        }
    };
    let about = |problem| ComposeError::new("the Secret", problem);
    render::check_size(&rendered.data).map_err(about)?;
    kinds::check(&plan.type_, &rendered.data).map_err(about)?;
    Ok(rendered)
}
