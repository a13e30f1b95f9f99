//! Providers: what they are, how they stand, and whether they let a namespace read a reference.
//!
//! A provider's name enters; what its object and its status say leaves. It is the controller's own check of `allow`, made with what the user can
//! see. No store is asked.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{Api, ResourceExt};
use robotosecret::{
    api::{
        ClusterRobotoProvider, RobotoProvider,
        allow::{AllowRule, Home, Refusal, Verb, grants, may_find},
        namespaces::{Labels, Place},
        provider::{Backend, ProviderId, ProviderStatus},
        reference::Source,
    },
    provider::Question,
};

use super::access::{Connection, Sight, failure};

/// A provider as the user sees it.
pub struct Provided {
    /// What it reads.
    backend: Option<Backend>,
    /// Who may read what.
    pub rules: Vec<AllowRule>,
    /// Whether its `allow` is left out, so that its identity alone decides.
    open: bool,
    /// What the controller says of it.
    status: ProviderStatus,
}

/// Whether something may be read, in words.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it may.
    pub allowed: bool,
    /// Which rule says so, or what is missing.
    pub why: String,
}

/// Looks at a provider.
pub async fn look(connection: &Connection, id: &ProviderId) -> Sight<Option<Provided>> {
    let what = format!("the {id} can't be read");
    match &id.namespace {
        None => {
            let found = Api::<ClusterRobotoProvider>::all(connection.client.clone()).get_opt(&id.name).await;
            let provided = |provider: ClusterRobotoProvider| Provided {
                backend: provider.spec.backend(),
                rules: provider.spec.allow,
                open: false,
                status: provider.status.unwrap_or_default(),
            };
            Sight::of(found.map(|found| found.map(provided)), &what)
        }
        Some(namespace) => {
            let found = Api::<RobotoProvider>::namespaced(connection.client.clone(), namespace).get_opt(&id.name).await;
            let provided = |provider: RobotoProvider| Provided {
                backend: provider.spec.backend(),
                rules: provider.spec.rules(),
                open: provider.spec.allow.is_none(),
                status: provider.status.unwrap_or_default(),
            };
            Sight::of(found.map(|found| found.map(provided)), &what)
        }
    }
}

/// The labels of the namespace, by which rules may select it.
pub async fn labels(connection: &Connection) -> Sight<Labels> {
    let namespaces: Api<Namespace> = Api::all(connection.client.clone());
    match namespaces.get_metadata(&connection.namespace).await {
        Ok(namespace) => Sight::Seen(namespace.labels().clone()),
        Err(error) => Sight::Hidden(failure("the namespace's labels can't be read", &error).to_string()),
    }
}

impl Provided {
    /// Its `Ready`, if it has one.
    pub fn ready(&self) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| condition.type_ == "Ready")
    }

    /// Every condition that is told: `Ready`, and others while they are True.
    pub fn conditions(&self) -> impl Iterator<Item = &Condition> {
        self.status.conditions.iter().filter(|condition| condition.type_ == "Ready" || condition.status == "True")
    }

    /// As whom it reads what, in words.
    pub fn reads(&self) -> String {
        let field = self.backend.as_ref().map_or("nothing", Backend::field);
        let region = self.backend.as_ref().and_then(Backend::aws).map_or_else(String::new, |aws| format!(" in {}", aws.region));
        let identity = self.status.identity.as_ref().filter(|identity| !identity.is_empty()).map_or_else(String::new, |identity| format!(" as {identity}"));
        format!("reads {field}{region}{identity}")
    }

    /// The account of its identity, where AWS has told it: `arn:aws:sts::123456789012:…`.
    fn account(&self) -> Option<&str> {
        self.status.identity.as_deref().filter(|identity| identity.starts_with("arn:"))?.split(':').nth(4).filter(|account| !account.is_empty())
    }

    /// Whether it lets the namespace read what is asked.
    pub fn verdict(&self, question: &Question, namespace: &str, labels: &Labels) -> Verdict {
        let refused = |why: String| Verdict { allowed: false, why };
        let Some(backend) = self.backend.as_ref() else { return refused("the provider names no store, or several".to_owned()) };
        if !backend.serves(question.store()) {
            return refused(format!("the provider reads {} and not {}; name another one", backend.field(), question.store()));
        }
        let place = Place { name: namespace, labels };
        let source = match question {
            Question::Value(source) | Question::Tags(source) | Question::Presence { source, .. } => source,
            Question::List(_) if may_find(&self.rules, place, question.store(), question.path()) => {
                return Verdict { allowed: true, why: "may be searched; each name that it finds is compared with allow".to_owned() };
            }
            Question::List(_) => return refused(format!("no rule in its allow lets the namespace {namespace} read anything there")),
        };
        let home = Home { region: backend.aws().map_or("", |aws| &aws.region), account: self.account() };
        // A parameter may stand for a secret: of all that it may denote, one that is allowed is enough.
        let through: Vec<Source> = source.through_secrets_manager().into_iter().map(|(source, _)| source).collect();
        let candidates = if through.is_empty() { vec![source.clone()] } else { through };
        let mut refusal = None;
        for candidate in &candidates {
            match grants(&self.rules, Verb::Read, place, candidate, home) {
                Ok(_) if self.open => return Verdict { allowed: true, why: "allowed: the provider has no allow, so that its identity decides".to_owned() },
                Ok(granted) => {
                    let rules: BTreeMap<usize, &str> = granted.iter().map(|grant| (grant.rule, grant.pattern)).collect();
                    let rules: Vec<String> = rules.into_iter().map(|(rule, pattern)| format!("allow[{rule}], {pattern}")).collect();
                    return Verdict { allowed: true, why: format!("allowed by {}", rules.join(" and ")) };
                }
                Err(why) => refusal = Some(why),
            }
        }
        refused(match refusal {
            Some(Refusal::Region(region)) => format!("not allowed: no rule for it has {region} among its regions"),
            Some(Refusal::Account(account)) => format!("not allowed: no rule for it has {account} among its accounts"),
            Some(Refusal::Reference(reference)) => format!("not allowed: no rule in its allow lets the namespace {namespace} read {reference}"),
            None => "not allowed".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn provided(allow: &serde_json::Value) -> Provided {
        let spec = json!({"aws": {"region": "eu-west-1", "identity": {"ambient": {}}}, "allow": allow});
        let spec: robotosecret::api::ClusterRobotoProviderSpec = serde_json::from_value(spec).expect("a spec");
        let status = ProviderStatus { identity: Some("arn:aws:sts::123456789012:assumed-role/x/y".into()), ..ProviderStatus::default() };
        Provided { backend: spec.backend(), rules: spec.allow, open: false, status }
    }

    fn verdict(provided: &Provided, reference: &str) -> (bool, String) {
        let reference: robotosecret::api::reference::Reference = reference.parse().expect("a reference");
        let Verdict { allowed, why } = provided.verdict(&Question::Value(reference.source), "shop", &Labels::new());
        (allowed, why)
    }

    #[test]
    fn the_rule_that_allows_or_what_is_missing_is_named() {
        let other = json!({"namespaces": {"names": ["other"]}, "references": ["*"]});
        let provided = provided(&json!([other, {"namespaces": {"names": ["shop"]}, "references": ["aws.ps:///x", "aws.sm://prod/**"]}]));
        assert_eq!(verdict(&provided, "aws.sm://prod/db"), (true, "allowed by allow[1], aws.sm://prod/**".to_owned()));
        let missing = "not allowed: no rule in its allow lets the namespace shop read aws.sm://dev/db".to_owned();
        assert_eq!(verdict(&provided, "aws.sm://dev/db"), (false, missing));
        assert_eq!(verdict(&provided, "vault://kv/a"), (false, "the provider reads aws and not vault; name another one".to_owned()));
        let abroad = "arn:aws:secretsmanager:eu-west-1:999999999999:secret:prod/db";
        assert_eq!(verdict(&provided, abroad), (false, "not allowed: no rule for it has 999999999999 among its accounts".to_owned()));
        assert!(verdict(&provided, "aws.ps:///aws/reference/secretsmanager/prod/db").0);
        assert_eq!(provided.reads(), "reads aws in eu-west-1 as arn:aws:sts::123456789012:assumed-role/x/y");
        let nameless = Provided { status: ProviderStatus { identity: Some(String::new()), ..ProviderStatus::default() }, ..provided };
        assert_eq!(nameless.reads(), "reads aws in eu-west-1");
    }
}
