//! What a RobotoSecret would make now, read with the user's own access to the stores.
//!
//! A RobotoSecret and a way to the stores enter; its keys with their values leave, in memory that is wiped. They are made by the controller's own
//! code. Nothing is written anywhere.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use robotosecret::{
    Secrets,
    api::{
        RobotoSecret,
        allow::may_read,
        namespaces::{Labels, Place},
        provider::ProviderId,
        robotosecret::Template,
    },
    controller::{
        compose::{self, Found},
        plan::{Makes, Plan, Planned},
    },
    provider::{Question, Reading, Value},
    render::{
        Data,
        template::{Provenance, TemplateSource},
    },
};

use super::{
    access::{Connection, Failure, Sight, failure},
    provider::{self, Provided},
};
use crate::cli::Access;

/// What was read for one question: the reading, and what its keypath begins with; or the members of a listing.
enum Heard {
    One(Arc<Reading>, Vec<String>),
    Many(Vec<(robotosecret::api::reference::Source, Arc<Reading>)>),
}

/// Its keys, and what is to be said besides.
pub async fn render(connection: &Connection, resource: &RobotoSecret, access: Access) -> Result<(Data, Vec<String>), Failure> {
    let mut plan = Plan::new(&resource.spec).map_err(|problem| Failure::Impossible(format!("the spec can't be carried out: {problem}")))?;
    // Labels and annotations are not compared.
    if let Some(template) = &mut plan.template {
        template.metadata = None;
    }
    let texts = match plan.template.as_deref() {
        Some(template) => texts(connection, template).await?,
        None => Vec::new(),
    };
    let secrets = access.client().await?;
    let mut notes = Vec::new();
    let mut heard = Vec::new();
    for planned in &plan.questions {
        heard.push(ask(connection, &secrets, planned, &mut notes).await?);
    }
    let found = found(&plan, &heard);
    let failed = |problem: compose::ComposeError| Failure::Impossible(problem.to_string());
    let read = compose::read_keys(&plan, &found).map_err(failed)?;
    let provenance = Provenance { name: resource.name_any(), namespace: connection.namespace.clone(), ..Provenance::default() };
    Ok((compose::finish(&plan, read, texts, &provenance).map_err(failed)?.data, notes))
}

async fn ask(connection: &Connection, secrets: &Secrets, planned: &Planned, notes: &mut Vec<String>) -> Result<Heard, Failure> {
    let (reading, inner) = secrets.reading(&planned.question).await?;
    let Value::List(listed) = &reading.value else { return Ok(Heard::One(reading, inner)) };
    // What the provider doesn't allow is no part of what the controller finds.
    let id = ProviderId::meant(&planned.provider, &connection.namespace);
    let allowed = match provider::look(connection, &id).await {
        Sight::Seen(Some(provided)) => Some(provided),
        Sight::Seen(None) => return Err(Failure::Missing(format!("there is no {id}"))),
        Sight::Hidden(why) => {
            notes.push(format!("{why}; what it doesn't allow is compared as well"));
            None
        }
    };
    let labels = match provider::labels(connection).await {
        Sight::Seen(labels) => labels,
        Sight::Hidden(_) => Labels::new(),
    };
    let place = Place { name: &connection.namespace, labels: &labels };
    let is_allowed = |provided: &Provided, reference: &str| may_read(&provided.rules, place, reference);
    let mut members = Vec::new();
    for member in listed {
        if allowed.as_ref().is_some_and(|provided| !is_allowed(provided, &member.source.to_string())) {
            continue;
        }
        let reading = match &member.reading {
            Some(reading) => Arc::new(reading.clone()),
            None => secrets.reading(&Question::Value(member.source.clone())).await?.0,
        };
        members.push((member.source.clone(), reading));
    }
    Ok(Heard::Many(members))
}

/// In the order of the plan's entries.
fn found<'h>(plan: &Plan, heard: &'h [Heard]) -> Vec<Found<'h>> {
    plan.entries
        .iter()
        .map(|entry| match (&heard[entry.question], &entry.makes) {
            (Heard::One(reading, inner), _) => Found::Value(plan.questions[entry.question].question.to_string(), &reading.value, inner),
            (Heard::Many(members), Makes::Listed { search, naming }) => {
                let named = members.iter().filter_map(|(source, reading)| Some((search.name_of(source)?, source.to_string(), &reading.value)));
                let mut named: Vec<_> = named.filter(|(name, ..)| !naming.excludes(name)).collect();
                named.sort_by(|one, other| one.0.cmp(&other.0));
                Found::Listed(named)
            }
            (Heard::Many(_), Makes::Key(_) | Makes::Members { .. }) => Found::Listed(Vec::new()),
        })
        .collect()
}

/// The templates that are kept in ConfigMaps.
async fn texts(connection: &Connection, template: &Template) -> Result<Vec<TemplateSource>, Failure> {
    let mut texts = Vec::new();
    for from in &template.from {
        let (name, key) = (&from.config_map.name, &from.config_map.key);
        let what = format!("the ConfigMap {name} can't be read");
        let found = connection.api::<ConfigMap>().get(name).await.map_err(|error| failure(&what, &error))?;
        let text = found.data.and_then(|mut data| data.remove(key)).ok_or_else(|| Failure::Missing(format!("the ConfigMap {name} has no key {key}")))?;
        texts.push(TemplateSource { key: from.as_.clone().unwrap_or_else(|| key.clone()), origin: format!("ConfigMap {name}, key {key}"), text });
    }
    Ok(texts)
}
