//! Which provider serves a resource, and whether it may.
//!
//! A plan and a namespace enter; the provider of each source leaves, or the reason why no call may be made. Clients are made once a
//! provider and kept until its addresses, region or identity change.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::jiff::Timestamp;
use kube::{
    ResourceExt,
    core::DeserializeGuard,
    runtime::reflector::{ObjectRef, Store},
};

use super::{
    absence::{Tally, Vanished},
    plan::{Plan, Planned},
};
use crate::{
    api::{
        ClusterRobotoProvider, Reason,
        provider::{AllowRule, AwsSpec, CONFIRM_ABSENCE_ANNOTATION, MASS_ABSENCE, allows, allows_reference, allows_something},
        reference::Source,
        robotosecret::ProviderRef,
    },
    provider::{
        Question, ReadError,
        aws::{Ambient, AwsProvider},
    },
    reader::{Key, Reader, ScopeId},
    telemetry::Metrics,
};

/// How far a user's clock may be ahead of ours, in seconds.
const CLOCKS_DIFFER: i64 = 60;
/// How soon after a start all that was missing before has been looked for again: what failed is tried again within seconds.
const SEEN_AGAIN: Duration = Duration::from_mins(1);

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
    /// What is not there any more of all that was mirrored through it.
    vanished: Vanished,
    /// Whether that was too much to be believed when it was last told.
    mass: bool,
    /// Since when that is counted.
    since: Instant,
}

impl Built {
    /// Whether nothing vanished from it and nothing is to be taken back.
    fn misses_nothing(&self) -> bool {
        self.vanished.is_empty() && !self.mass
    }
}

/// Too much vanished from the store at once, or no longer.
#[derive(Clone, Debug)]
pub struct MassAbsence {
    /// The provider.
    pub provider: ClusterRobotoProvider,
    /// How much.
    pub tally: Tally,
}

/// What a source is read through.
#[derive(Clone, Debug)]
pub struct Through {
    /// Whose identity reads, and where.
    pub scope: ScopeId,
    /// The provider's rules, for the checks of what the store answers.
    pub rules: Arc<[AllowRule]>,
    /// The provider's generation.
    pub generation: i64,
    /// Absences that were first seen before this time are believed, however many: seconds since the epoch.
    pub confirmed: Option<i64>,
}

/// A provider that lets a namespace read a source. Only [`Providers::admit`] makes one.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// What to read through.
    pub through: Through,
    /// What to ask, each with the keypath that its name ends in: the question itself; or that about the secrets that it may denote and
    /// that may be read, the longest name first, of which the first that exists counts.
    pub candidates: Vec<(Question, Vec<String>)>,
}

impl Admitted {
    /// Tells apart what is asked for a whole plan, and through what. Other rules may leave other candidates, in other places.
    #[must_use]
    pub fn asked(all: &[Self]) -> u64 {
        let mut hasher = DefaultHasher::new();
        for Self { through, candidates } in all {
            (through.scope, candidates).hash(&mut hasher);
        }
        hasher.finish()
    }
}

impl Providers {
    /// `known` is the cache of all providers.
    #[must_use]
    pub fn new(known: Store<DeserializeGuard<ClusterRobotoProvider>>, ambient: Ambient, reader: Arc<Reader>, metrics: Metrics) -> Self {
        Self { known, ambient, metrics, reader, built: Mutex::default() }
    }

    /// The provider of each question of the plan, in order; or why not. Makes no call.
    pub fn admit(&self, plan: &Plan, namespace: &str) -> Result<Vec<Admitted>, ReadError> {
        plan.questions.iter().map(|planned| self.admit_one(planned, namespace)).collect()
    }

    fn admit_one(&self, planned: &Planned, namespace: &str) -> Result<Admitted, ReadError> {
        let ProviderRef { name, .. } = &planned.provider;
        let missing = |problem: &str| ReadError::new(Reason::ProviderNotFound, format!("the ClusterRobotoProvider {name} {problem}"));
        let found = self.known.get(&ObjectRef::new(name)).ok_or_else(|| missing("does not exist; create it, or name another in spec.provider"))?;
        let found = found.0.as_ref().map_err(|_| missing("cannot be read; it is older than the controller's rules"))?;
        let rules = &found.spec.allow;
        let candidates = match &planned.question {
            Question::Value(source) => admit_source(name, rules, namespace, source, Question::Value)?,
            Question::Tags(source) => admit_source(name, rules, namespace, source, Question::Tags)?,
            // Each of its members is checked by itself.
            question if allows_something(rules, namespace, question.store()) => vec![(question.clone(), Vec::new())],
            question => return Err(not_allowed(name, namespace, &question.to_string(), None)),
        };
        Ok(Admitted { through: self.through(found), candidates })
    }

    fn through(&self, found: &ClusterRobotoProvider) -> Through {
        let uid = found.uid().unwrap_or_default();
        let generation = found.metadata.generation.unwrap_or_default();
        // A time to come would confirm what nobody has seen yet; it is most probably in milliseconds.
        let now = Timestamp::now().as_second();
        let confirmed = found.annotations().get(CONFIRM_ABSENCE_ANNOTATION).and_then(|time| time.parse().ok()).filter(|time| *time <= now + CLOCKS_DIFFER);
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
                return Through { scope: known.scope, rules: known.rules.clone(), generation, confirmed };
            }
            // Who read through it before is woken by the provider's change itself.
            self.reader.close(known.scope);
        }
        let provider = Arc::new(AwsProvider::new(&found.spec.aws, &self.ambient, self.metrics.clone()));
        let scope = self.reader.open(provider.clone());
        let rules: Arc<[AllowRule]> = found.spec.allow.as_slice().into();
        let spec = found.spec.aws.clone();
        built.insert(
            uid,
            Built { spec, provider, rules: rules.clone(), scope, vanished: Vanished::default(), mass: says_mass_absence(found), since: Instant::now() },
        );
        Through { scope, rules, generation, confirmed }
    }

    /// Takes note of whether a reference that was mirrored is there, and tells how many of the scope vanished lately.
    pub fn sighted(&self, scope: ScopeId, reference: &str, there: bool) -> Option<Tally> {
        let references = if there { 0 } else { self.reader.references(scope) };
        let mut built = self.built();
        let vanished = &mut built.values_mut().find(|built| built.scope == scope)?.vanished;
        if there {
            vanished.remove(reference);
            return None;
        }
        vanished.add(reference, Instant::now());
        Some(vanished.tally(references, Instant::now()))
    }

    /// Whether it changed that too much vanished from a scope; told once. Whether it is over is told only to who asks for that: what
    /// was told before a restart holds until what is missing can have been seen again.
    pub fn mass_absence(&self, scope: ScopeId, or_over: bool) -> Option<MassAbsence> {
        // Asked after every mirroring: what is missing from nobody is not worth counting all references for.
        if self.built().values().find(|built| built.scope == scope)?.misses_nothing() {
            return None;
        }
        let references = self.reader.references(scope);
        let tally = {
            let mut built = self.built();
            let known = built.values_mut().find(|built| built.scope == scope)?;
            let tally = known.vanished.tally(references, Instant::now());
            if known.mass == tally.is_mass() || known.mass && !(or_over && known.since.elapsed() >= SEEN_AGAIN) {
                return None;
            }
            known.mass = tally.is_mass();
            tally
        };
        let provider = self.of(scope)?.0.as_ref().ok()?.clone();
        Some(MassAbsence { provider, tally })
    }

    /// What [`Providers::mass_absence`] said could not be told.
    pub fn untold(&self, scope: ScopeId) {
        if let Some(known) = self.built().values_mut().find(|built| built.scope == scope) {
            known.mass = !known.mass;
        }
    }

    /// All scopes that are read through.
    #[must_use]
    pub fn scopes(&self) -> Vec<ScopeId> {
        self.built().values().map(|built| built.scope).collect()
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

fn says_mass_absence(provider: &ClusterRobotoProvider) -> bool {
    let conditions = provider.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|condition| condition.type_ == MASS_ABSENCE && condition.status == "True")
}

/// The question about each secret or parameter that a source may denote and that may be read, the longest name first; or why about none.
fn admit_source(
    provider: &str,
    rules: &[AllowRule],
    namespace: &str,
    source: &Source,
    ask: fn(Source) -> Question,
) -> Result<Vec<(Question, Vec<String>)>, ReadError> {
    // A parameter that stands for a secret is checked as the secrets that it may denote.
    let mut candidates = source.through_secrets_manager();
    let is_plain = candidates.is_empty();
    if is_plain {
        candidates.push((source.clone(), Vec::new()));
    }
    candidates.retain(|(source, _)| allows(rules, namespace, source));
    if candidates.is_empty() {
        // An ARN may denote two names; the one that is not allowed is what a pattern has to match.
        let denied = source.denotes().into_iter().find(|reference| is_plain && !allows_reference(rules, namespace, reference));
        return Err(not_allowed(provider, namespace, &source.to_string(), denied.as_deref()));
    }
    Ok(candidates.into_iter().map(|(source, rest)| (ask(source), rest)).collect())
}

impl Through {
    /// Whether the namespace may read this plain reference (`aws.sm://name`).
    #[must_use]
    pub fn may_read(&self, namespace: &str, reference: &str) -> bool {
        allows_reference(&self.rules, namespace, reference)
    }
}

/// The refusal of one reference. `missing`: the name that it denotes and that no pattern matches, where it is another.
#[must_use]
pub fn not_allowed(provider: &str, namespace: &str, reference: &str, missing: Option<&str>) -> ReadError {
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
