//! The references of a RobotoSecret: whether each may be read, what was read of it, and which keys it makes.
//!
//! What was seen enters; lines leave. Pure. Of keys, names and lengths are told.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use robotosecret::{
    api::{RobotoSecret, namespaces::Labels, provider::ProviderId, reference::Reference, robotosecret::MergePolicy, status::SourceStatus},
    controller::plan::{Makes, Plan, Planned},
};

use crate::cli::kubectl::{
    access::Sight,
    provider::Provided,
    table::{age, clean, counted},
};

/// What is known of them.
pub struct References<'r> {
    pub resource: &'r RobotoSecret,
    pub plan: &'r Plan,
    pub providers: &'r BTreeMap<ProviderId, Sight<Option<Provided>>>,
    pub labels: &'r Sight<Labels>,
    /// The keys of the Secret, if the user may read it.
    pub lengths: Option<&'r BTreeMap<String, usize>>,
    pub now: Timestamp,
}

impl References<'_> {
    /// Each, with what is said of it.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (index, planned) in self.plan.questions.iter().enumerate() {
            let provider = planned.foreign(&self.resource.spec.provider).map_or_else(String::new, |provider| format!(" (through {provider})"));
            lines.push(format!("{}{provider}", clean(&planned.question.to_string())));
            lines.push(format!("  {}", self.verdict(planned)));
            lines.extend(self.served(index, planned).iter().map(|served| format!("  {served}")));
            lines.push(format!("  {}", self.keys(index)));
        }
        if let Some(template) = &self.plan.template {
            let made: Vec<String> =
                template.data.keys().cloned().chain(template.from.iter().map(|from| from.as_.clone().unwrap_or_else(|| from.config_map.key.clone()))).collect();
            let rest = if template.merge_policy == MergePolicy::Merge { ", beside the keys that were read" } else { "" };
            if !made.is_empty() {
                lines.push(format!("templates make {}{rest}", self.listed(made.iter().map(String::as_str))));
            }
        }
        lines
    }

    fn verdict(&self, planned: &Planned) -> String {
        let namespace = self.resource.metadata.namespace.clone().unwrap_or_default();
        let id = ProviderId::meant(&planned.provider, &namespace);
        let provided = match self.providers.get(&id) {
            Some(Sight::Seen(Some(provided))) => provided,
            Some(Sight::Seen(None)) => return "can't be read: the provider isn't there".to_owned(),
            _ => return "whether it is allowed is not known: the provider can't be seen".to_owned(),
        };
        let none = Labels::new();
        let (labels, hidden) = match self.labels {
            Sight::Seen(labels) => (labels, None),
            Sight::Hidden(why) => (&none, Some(why)),
        };
        let verdict = provided.verdict(&planned.question, &namespace, labels);
        // A label that can't be seen may be what a rule asks for.
        let selects = provided.rules.iter().any(|rule| rule.namespaces.selector.is_some());
        match hidden.filter(|_| selects && !verdict.allowed) {
            Some(why) => format!("whether it is allowed is not known: {why}"),
            None => clean(&verdict.why),
        }
    }

    /// What the status says was read.
    fn served(&self, index: usize, planned: &Planned) -> Vec<String> {
        let through = planned.foreign(&self.resource.spec.provider);
        let asked = planned.question.to_string();
        let searches: Vec<_> = self
            .plan
            .entries
            .iter()
            .filter(|entry| entry.question == index)
            .filter_map(|entry| match &entry.makes {
                Makes::Listed { search, .. } => Some(search),
                Makes::Key(_) | Makes::Members { .. } => None,
            })
            .collect();
        let is_found = |uri: &str| uri.parse::<Reference>().is_ok_and(|reference| searches.iter().any(|search| search.name_of(&reference.source).is_some()));
        let sources = self.resource.status.iter().flat_map(|status| &status.sources).filter(|source| source.provider == through);
        let told: Vec<String> = sources
            .filter_map(|source| match () {
                () if source.uri == asked => Some(self.version(source)),
                () if is_found(&source.uri) => Some(format!("found {}: {}", clean(&source.uri), self.version(source))),
                () => None,
            })
            .collect();
        if told.is_empty() { vec!["was never read".to_owned()] } else { told }
    }

    fn version(&self, source: &SourceStatus) -> String {
        if let Some(gone) = &source.gone_since {
            return format!("gone from the store since {}", age(Some(gone.0), self.now));
        }
        let version = if source.version.is_empty() { "it has no version".to_owned() } else { format!("version {}", clean(&source.version)) };
        let since = source.last_changed_time.as_ref().map_or_else(String::new, |time| format!(", first seen {} ago", age(Some(time.0), self.now)));
        let region = source.region.as_ref().map_or_else(String::new, |region| format!(", served by {}", clean(region)));
        version + &since + &region
    }

    /// Which keys it makes.
    fn keys(&self, index: usize) -> String {
        let entries = || self.plan.entries.iter();
        let named: BTreeSet<&str> = entries().filter_map(|entry| if let Makes::Key(key) = &entry.makes { Some(key.as_str()) } else { None }).collect();
        let own =
            entries().filter(|entry| entry.question == index).filter_map(|entry| if let Makes::Key(key) = &entry.makes { Some(key.as_str()) } else { None });
        let own: Vec<&str> = own.collect();
        let verb = if self.plan.template.is_some() { "reads" } else { "makes" };
        if entries().all(|entry| entry.question != index || matches!(entry.makes, Makes::Key(_))) {
            return format!("{verb} {}", self.listed(own.into_iter()));
        }
        // What its members are is known only where no other entry makes as many.
        let alone = entries().filter(|entry| !matches!(entry.makes, Makes::Key(_))).count() == 1 && self.plan.template.is_none();
        let target = self.resource.status.as_ref().and_then(|status| status.target.as_ref()).filter(|_| alone);
        match target {
            Some(target) => {
                let rest = target.keys.iter().map(String::as_str).filter(|key| !named.contains(key) || own.contains(key));
                let more = usize::try_from(target.key_count).unwrap_or_default().saturating_sub(target.keys.len());
                let more = if more == 0 { String::new() } else { format!(" and {} that the status doesn't list", counted(more, "key")) };
                format!("{verb} {}{more}", self.listed(rest))
            }
            None => format!("{verb} a key for each member that it has"),
        }
    }

    fn listed<'k>(&self, keys: impl Iterator<Item = &'k str>) -> String {
        let key = |key: &str| match self.lengths.and_then(|lengths| lengths.get(key)) {
            Some(length) if self.plan.template.is_none() => format!("{key} ({})", counted(*length, "byte")),
            _ => key.to_owned(),
        };
        clean(&keys.map(key).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_reference_says_what_was_read_and_which_keys_it_makes() {
        let resource: RobotoSecret = serde_json::from_value(json!({
            "apiVersion": "robotosecret.dev/v1alpha1", "kind": "RobotoSecret", "metadata": {"name": "db", "namespace": "shop"},
            "spec": {
                "data": [{"key": "a", "uri": "aws.sm://x#/a"}, {"key": "b", "uri": "aws.sm://x#/b"}],
                "dataFrom": [{"uri": "aws.sm://y", "provider": {"kind": "RobotoProvider", "name": "own"}}],
            },
            "status": {
                "target": {"name": "db", "uid": "u", "resourceVersion": "1", "keyCount": 3, "keys": ["a", "b", "c"]},
                "sources": [{"uri": "aws.sm://x", "arn": "arn", "version": "v1", "lastChangedTime": "2026-01-01T00:00:00Z"}],
            },
        }))
        .expect("a RobotoSecret");
        let plan = Plan::new(&resource.spec).expect("a plan");
        let lengths = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 20)]);
        let own = ProviderId { namespace: Some("shop".into()), name: "own".into() };
        let providers = BTreeMap::from([(own, Sight::Seen(None))]);
        let labels = Sight::Seen(Labels::new());
        let now = "2026-01-01T00:01:00Z".parse().expect("a time");
        let references = References { resource: &resource, plan: &plan, providers: &providers, labels: &labels, lengths: Some(&lengths), now };
        assert_eq!(
            references.lines(),
            [
                "aws.sm://y (through RobotoProvider/own)",
                "  can't be read: the provider isn't there",
                "  was never read",
                "  makes c",
                "aws.sm://x",
                "  whether it is allowed is not known: the provider can't be seen",
                "  version v1, first seen 60s ago",
                "  makes a (1 byte), b (20 bytes)",
            ]
        );
    }
}
