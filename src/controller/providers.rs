//! Which provider serves a resource, and whether it may.
//!
//! A plan and a namespace enter; the provider of each source leaves, or the reason why no call may be made. Clients are made once a
//! provider and kept until its addresses, region or identity change.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
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
        robotosecret::ProviderRef,
    },
    provider::{
        ReadError, WholeReads,
        aws::{Ambient, AwsProvider},
    },
    telemetry::Metrics,
};

/// All providers of the cluster.
pub struct Providers {
    known: Store<DeserializeGuard<ClusterRobotoProvider>>,
    ambient: Ambient,
    metrics: Metrics,
    built: Mutex<HashMap<String, Built>>,
}

struct Built {
    spec: AwsSpec,
    provider: Arc<dyn WholeReads>,
}

/// A provider that lets a namespace read a source. Only [`Providers::admit`] makes one.
#[derive(Clone)]
pub struct Admitted {
    /// What to read through.
    pub provider: Arc<dyn WholeReads>,
    /// The provider's rules, for the checks of what the store answers.
    pub rules: Arc<[AllowRule]>,
}

impl Providers {
    /// `known` is the cache of all providers.
    #[must_use]
    pub fn new(known: Store<DeserializeGuard<ClusterRobotoProvider>>, ambient: Ambient, metrics: Metrics) -> Self {
        Self { known, ambient, metrics, built: Mutex::default() }
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
        // A parameter that stands for a secret is checked as the secrets it may denote, each right before it is tried.
        let candidates = planned.source.through_secrets_manager();
        let allowed = if candidates.is_empty() {
            allows(rules, namespace, &planned.source)
        } else {
            candidates.iter().any(|(secret, _)| allows(rules, namespace, secret))
        };
        if !allowed {
            // An ARN may denote two names; the one that is not allowed is what a pattern has to match.
            let denied = planned.source.denotes().into_iter().find(|reference| candidates.is_empty() && !allows_reference(rules, namespace, reference));
            return Err(not_allowed(name, namespace, &planned.source.to_string(), denied.as_deref()));
        }
        Ok(Admitted { provider: self.built(found), rules: rules.as_slice().into() })
    }

    fn built(&self, found: &ClusterRobotoProvider) -> Arc<dyn WholeReads> {
        let uid = found.uid().unwrap_or_default();
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        let known = built.get(&uid).filter(|known| known.spec == found.spec.aws);
        if let Some(known) = known {
            return known.provider.clone();
        }
        let provider: Arc<dyn WholeReads> = Arc::new(AwsProvider::new(&found.spec.aws, &self.ambient, self.metrics.clone()));
        built.insert(uid, Built { spec: found.spec.aws.clone(), provider: provider.clone() });
        provider
    }

    /// Drops the clients of providers that are gone.
    pub fn forget_gone(&self) {
        let uids: Vec<String> = self.known.state().iter().filter_map(|provider| provider.uid()).collect();
        self.built.lock().unwrap_or_else(PoisonError::into_inner).retain(|uid, _| uids.contains(uid));
    }
}

impl Admitted {
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
