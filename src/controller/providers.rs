//! Which provider serves a resource, and whether it may.
//!
//! A plan and a namespace enter; the provider of each source leaves, or the reason why no call may be made. Clients are made once a
//! provider and kept until its addresses, region or identity change.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kube::{
    ResourceExt,
    core::DeserializeGuard,
    runtime::reflector::{ObjectRef, Store},
};

use super::plan::{Plan, PlannedSource};
use crate::{
    api::{
        ClusterRobotoProvider, Reason,
        provider::{AllowRule, AwsSpec, allows, allows_reference},
        reference::Source,
        robotosecret::ProviderRef,
    },
    provider::{
        ReadError,
        aws::{Ambient, AwsProvider},
    },
    reader::{Key, Reader, ScopeId},
    telemetry::Metrics,
};

/// All providers of the cluster.
pub struct Providers {
    known: Store<DeserializeGuard<ClusterRobotoProvider>>,
    ambient: Ambient,
    metrics: Metrics,
    reader: Arc<Reader>,
    built: Mutex<HashMap<String, Built>>,
}

struct Built {
    spec: AwsSpec,
    provider: Arc<AwsProvider>,
    rules: Arc<[AllowRule]>,
    scope: ScopeId,
}

/// What a source is read through.
#[derive(Clone, Debug)]
pub struct Through {
    /// Whose identity reads, and where.
    pub scope: ScopeId,
    /// The provider's rules, for the checks of what the store answers.
    pub rules: Arc<[AllowRule]>,
}

/// A provider that lets a namespace read a source. Only [`Providers::admit`] makes one.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// What to read through.
    pub through: Through,
    /// What to read, each with the keypath that its name ends in: the source itself; or the secrets that it may denote and that may be
    /// read, the longest name first, of which the first that exists counts.
    pub candidates: Vec<(Source, Vec<String>)>,
}

impl Providers {
    /// `known` is the cache of all providers.
    #[must_use]
    pub fn new(known: Store<DeserializeGuard<ClusterRobotoProvider>>, ambient: Ambient, reader: Arc<Reader>, metrics: Metrics) -> Self {
        Self { known, ambient, metrics, reader, built: Mutex::default() }
    }

    /// The provider of each source of the plan, in order; or why not. Makes no call.
    pub fn admit(&self, plan: &Plan, namespace: &str) -> Result<Vec<Admitted>, ReadError> {
        plan.sources.iter().map(|planned| self.admit_one(planned, namespace)).collect()
    }

    fn admit_one(&self, planned: &PlannedSource, namespace: &str) -> Result<Admitted, ReadError> {
        let ProviderRef { name, .. } = &planned.provider;
        let missing = |problem: &str| ReadError::new(Reason::ProviderNotFound, format!("the ClusterRobotoProvider {name} {problem}"));
        let found = self.known.get(&ObjectRef::new(name)).ok_or_else(|| missing("does not exist; create it, or name another in spec.provider"))?;
        let found = found.0.as_ref().map_err(|_| missing("cannot be read; it is older than the controller's rules"))?;
        let rules = &found.spec.allow;
        // A parameter that stands for a secret is checked as the secrets that it may denote.
        let mut candidates = planned.source.through_secrets_manager();
        let is_plain = candidates.is_empty();
        if is_plain {
            candidates.push((planned.source.clone(), Vec::new()));
        }
        candidates.retain(|(source, _)| allows(rules, namespace, source));
        if candidates.is_empty() {
            // An ARN may denote two names; the one that is not allowed is what a pattern has to match.
            let denied = planned.source.denotes().into_iter().find(|reference| is_plain && !allows_reference(rules, namespace, reference));
            return Err(not_allowed(name, namespace, &planned.source.to_string(), denied.as_deref()));
        }
        Ok(Admitted { through: self.through(found), candidates })
    }

    fn through(&self, found: &ClusterRobotoProvider) -> Through {
        let uid = found.uid().unwrap_or_default();
        let mut built = self.built();
        if let Some(known) = built.get_mut(&uid) {
            if *known.rules != *found.spec.allow {
                known.rules = found.spec.allow.as_slice().into();
            }
            if known.spec.same_place(&found.spec.aws) {
                if known.spec.limits != found.spec.aws.limits {
                    known.spec.limits = found.spec.aws.limits;
                    known.provider.limit(known.spec.limits);
                    self.reader.reprice(known.scope);
                }
                return Through { scope: known.scope, rules: known.rules.clone() };
            }
            // Who read through it before is woken by the provider's change itself.
            self.reader.close(known.scope);
        }
        let provider = Arc::new(AwsProvider::new(&found.spec.aws, &self.ambient, self.metrics.clone()));
        let scope = self.reader.open(provider.clone());
        let rules: Arc<[AllowRule]> = found.spec.allow.as_slice().into();
        built.insert(uid, Built { spec: found.spec.aws.clone(), provider, rules: rules.clone(), scope });
        Through { scope, rules }
    }

    fn built(&self) -> MutexGuard<'_, HashMap<String, Built>> {
        self.built.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the scopes of providers that are gone. Returns who read through them.
    pub fn forget_gone(&self) -> Vec<Arc<Key>> {
        let uids: Vec<String> = self.known.state().iter().filter_map(|provider| provider.uid()).collect();
        let gone: Vec<ScopeId> = self.built().extract_if(|uid, _| !uids.contains(uid)).map(|(_, built)| built.scope).collect();
        gone.into_iter().flat_map(|scope| self.reader.close(scope)).collect()
    }

    /// The provider whose scope this is.
    #[must_use]
    pub fn of(&self, scope: ScopeId) -> Option<Arc<DeserializeGuard<ClusterRobotoProvider>>> {
        let uid = self.built().iter().find(|(_, built)| built.scope == scope).map(|(uid, _)| uid.clone())?;
        self.known.find(|provider| provider.uid().as_deref() == Some(&uid))
    }
}

impl Through {
    /// Whether the namespace may read this plain reference (`aws.sm://name`).
    #[must_use]
    pub fn may_read(&self, namespace: &str, reference: &str) -> bool {
        allows_reference(&self.rules, namespace, reference)
    }
}

/// The refusal of one reference. `missing`: the name that it denotes and that no pattern matches, where it is another.
fn not_allowed(provider: &str, namespace: &str, reference: &str, missing: Option<&str>) -> ReadError {
    let missing = missing.filter(|missing| *missing != reference).unwrap_or("it");
    ReadError::new(
        Reason::NotAllowed,
        format!(
            "the ClusterRobotoProvider {provider} does not allow the namespace {namespace} to read {reference}; add {missing} to the provider's spec.allow"
        ),
    )
}

/// The refusal of an answer that comes from another secret than the one that was asked for.
#[must_use]
pub fn answered_otherwise(provider: &str, namespace: &str, reference: &str) -> ReadError {
    ReadError::new(
        Reason::NotAllowed,
        format!(
            "{reference}: the store answered with another name, which the ClusterRobotoProvider {provider} does not allow the namespace {namespace} to read; \
             refer to the secret by its full name"
        ),
    )
}
