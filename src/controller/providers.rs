//! Which provider serves a resource, and whether it may.
//!
//! A plan and who asks enter; what to ask through whom leaves, or the reason why no call may be made. Clients are made once for each
//! identity of a provider and kept until its addresses, region or identity change. No value and no credential is held here.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::{api::core::v1::ObjectReference, jiff::Timestamp};
use kube::{Client, Resource, ResourceExt};
use tokio::sync::watch;

use super::{
    absence::{Tally, Vanished},
    namespaces::NamespaceCache,
    plan::{Plan, Planned},
    push::breakers::Breakers,
    tenant::{IdentityGrants, KeyGrants, SecretGrants, Tenant, Terms, TokenGrants, UsedVersion},
};
use crate::{
    api::{
        ClusterRobotoProvider, Reason, RobotoProvider,
        allow::{AllowRule, Home, Refusal, Verb, may_find, may_read, permit, readable_prefix},
        aws::{AwsSpec, Placeholder},
        envase::EnvaseSpec,
        http::SecretKey,
        namespaces::{Labels, Place},
        provider::{Backend, CONFIRM_ABSENCE_ANNOTATION, MASS_ABSENCE, OnRevoked, ProviderId, ProviderStatus},
        reference::{Reference, Source, Store},
        robotosecret::ProviderRef,
        vault::VaultSpec,
    },
    provider::{
        Listing, Question, ReadError,
        aws::{ANOTHER_ACCOUNT, Ambient, AwsProvider, Principal, Role},
        edge::EdgeProvider,
        envase::EnvaseProvider,
        grants::Grants,
        opened::Opened,
        roboto::RobotoPlatform,
        vault::VaultProvider,
    },
    reader::{Key, Reader, ScopeId},
    telemetry::Metrics,
};

/// How far a user's clock may be ahead of ours, in seconds.
const CLOCKS_DIFFER: i64 = 60;
/// How soon after a start all that was missing before has been looked for again: what failed is tried again within seconds.
const SEEN_AGAIN: Duration = Duration::from_mins(1);
/// After how long without use the clients of an identity are let go.
const UNUSED: Duration = Duration::from_mins(10);
/// How long the name of a session may be.
const SESSION_NAME: usize = 64;
/// The name of a session where the provider says none.
const DEFAULT_SESSION: &str = "robotosecret";

/// A provider as it was last seen.
#[derive(Clone, Debug)]
pub struct Provided {
    /// Which one.
    pub id: ProviderId,
    /// Its uid.
    pub uid: String,
    /// Its generation.
    pub generation: i64,
    /// What it reads, where, and as whom.
    pub backend: Backend,
    /// Who may use it for what.
    pub rules: Arc<[AllowRule]>,
    /// What becomes of what was mirrored under a permission that was taken back.
    pub on_revoked: OnRevoked,
    /// What its annotation says that confirms absences.
    confirmed: Option<i64>,
    /// Its status.
    pub status: ProviderStatus,
    /// Whom events are about.
    pub about: ObjectReference,
}

/// A kind of provider.
pub trait ProviderResource: Resource<DynamicType = ()> + Clone {
    /// Its spec, as far as both kinds have it in common.
    fn terms(&self) -> (Option<Backend>, Vec<AllowRule>, OnRevoked);

    /// Its status.
    fn said(&self) -> Option<&ProviderStatus>;
}

impl ProviderResource for ClusterRobotoProvider {
    fn terms(&self) -> (Option<Backend>, Vec<AllowRule>, OnRevoked) {
        (self.spec.backend(), self.spec.allow.clone(), self.spec.on_revoked)
    }

    fn said(&self) -> Option<&ProviderStatus> {
        self.status.as_ref()
    }
}

impl ProviderResource for RobotoProvider {
    fn terms(&self) -> (Option<Backend>, Vec<AllowRule>, OnRevoked) {
        (self.spec.backend(), self.spec.rules(), self.spec.on_revoked)
    }

    fn said(&self) -> Option<&ProviderStatus> {
        self.status.as_ref()
    }
}

impl Provided {
    /// A provider as the API server tells it; none if it doesn't say what it reads.
    #[must_use]
    pub fn new(provider: &impl ProviderResource) -> Option<Self> {
        let (backend, rules, on_revoked) = provider.terms();
        Some(Self {
            id: ProviderId { namespace: provider.namespace(), name: provider.name_any() },
            uid: provider.uid().unwrap_or_default(),
            generation: provider.meta().generation.unwrap_or_default(),
            backend: backend?,
            rules: rules.into(),
            on_revoked,
            confirmed: provider.annotations().get(CONFIRM_ABSENCE_ANNOTATION).and_then(|time| time.parse().ok()),
            status: provider.said().cloned().unwrap_or_default(),
            about: provider.object_ref(&()),
        })
    }

    /// Which of its identities reads for whom.
    fn variant(&self, asker: Asker<'_>) -> Variant {
        let (aws, vault) = (self.backend.aws(), self.backend.vault());
        let is_of_namespace = aws.is_some_and(|aws| aws.identity.service_account.is_some() || aws.names(Placeholder::Namespace))
            || vault.is_some_and(|vault| vault.auth.kubernetes.is_some());
        let is_each = aws.is_some_and(|aws| aws.names(Placeholder::Resource));
        let is_theirs = self.id.namespace.is_none() && is_of_namespace;
        Variant { namespace: (is_theirs || is_each).then(|| asker.namespace.to_owned()), resource: is_each.then(|| asker.resource.to_owned()) }
    }

    /// The region that it reads; empty where there are no regions.
    fn region(&self) -> &str {
        self.backend.aws().map_or("", |aws| &aws.region)
    }

    /// Whether it has one identity for all who ask.
    #[must_use]
    pub fn has_one_identity(&self) -> bool {
        self.variant(Asker { namespace: "", resource: "" }) == Variant::default()
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// The resource.
    pub resource: &'a str,
}

/// What tells identities of one provider apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Variant {
    namespace: Option<String>,
    resource: Option<String>,
}

/// A Secret with an access key: namespace and name.
pub type KeySecret = (String, String);

/// An identity of a provider, in its place.
struct Scoped {
    scope: ScopeId,
    provider: Opened,
    used: Instant,
    keys: Vec<UsedKey>,
    /// Those of what is written through it.
    breakers: Arc<Breakers>,
}

/// A Secret that an identity depends on, and the version of it that was read.
type UsedKey = (KeySecret, UsedVersion);

/// What lets a store's client in, who pays for what is done with it, and the Secrets that it depends on.
struct LetIn {
    grants: Box<dyn Grants>,
    payer: String,
    keys: Vec<UsedKey>,
}

/// What was made for a provider.
struct Built {
    uid: String,
    backend: Backend,
    rules: Arc<[AllowRule]>,
    scopes: HashMap<Variant, Scoped>,
    /// What is not there any more of all that was mirrored through it.
    vanished: Vanished,
    /// Whether that was too much to be believed when it was last told.
    mass: bool,
    /// Since when that is counted.
    since: Instant,
    /// How often its identity came to work.
    recovered: u64,
}

impl Built {
    fn new(found: &Provided) -> Self {
        Self {
            uid: found.uid.clone(),
            backend: found.backend.clone(),
            rules: found.rules.clone(),
            scopes: HashMap::new(),
            vanished: Vanished::default(),
            mass: found.status.conditions.iter().any(|condition| condition.type_ == MASS_ABSENCE && condition.status == "True"),
            since: Instant::now(),
            recovered: 0,
        }
    }

    fn scopes(&self) -> Vec<ScopeId> {
        self.scopes.values().map(|scoped| scoped.scope).collect()
    }

    /// Whether nothing vanished from it and nothing is to be taken back.
    fn misses_nothing(&self) -> bool {
        self.vanished.is_empty() && !self.mass
    }
}

/// Too much vanished from the store at once, or no longer.
#[derive(Clone, Debug)]
pub struct MassAbsence {
    /// The provider.
    pub provider: Arc<Provided>,
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
    /// The labels of the namespace that asks.
    pub labels: Arc<Labels>,
    /// The provider's generation.
    pub generation: i64,
    /// Absences that were first seen before this time are believed, however many: seconds since the epoch.
    pub confirmed: Option<i64>,
    /// How often the provider's identity came to work.
    pub recovered: u64,
}

impl Through {
    /// Whether the namespace may read this plain reference (`aws.sm://name`).
    #[must_use]
    pub fn may_read(&self, namespace: &str, reference: &str) -> bool {
        may_read(&self.rules, Place { name: namespace, labels: &self.labels }, reference)
    }
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
        for admitted in all {
            let Self { through, candidates } = admitted;
            (through.scope, candidates).hash(&mut hasher);
            // What a listing finds is allowed or not one by one, whatever is asked.
            if admitted.lists() {
                (&through.rules, &through.labels).hash(&mut hasher);
            }
        }
        hasher.finish()
    }

    /// Whether it asks which there are.
    #[must_use]
    pub fn lists(&self) -> bool {
        self.candidates.iter().any(|(question, _)| matches!(question, Question::List(_)))
    }
}

/// A provider whose identity is looked after.
pub struct Attended {
    /// The provider.
    pub provider: Arc<Provided>,
    /// Why it isn't served at all.
    pub refused: Option<String>,
    /// Its identities, as far as somebody asked, each by the scope that it reads in.
    pub identities: BTreeMap<ScopeId, Opened>,
}

type Found = Result<Arc<Provided>, ()>;

/// All providers of the cluster.
pub struct Providers {
    known: Mutex<HashMap<ProviderId, Found>>,
    namespaces: Arc<NamespaceCache>,
    terms: Terms,
    client: Client,
    ambient: Ambient,
    metrics: Metrics,
    reader: Arc<Reader>,
    built: Mutex<HashMap<ProviderId, Built>>,
    changes: watch::Sender<()>,
}

impl Providers {
    /// No provider is known yet.
    #[must_use]
    pub fn new(client: Client, terms: Terms, ambient: Ambient, namespaces: Arc<NamespaceCache>, reader: Arc<Reader>, metrics: Metrics) -> Self {
        let (known, built) = (Mutex::default(), Mutex::default());
        Self { known, namespaces, terms, client, ambient, metrics, reader, built, changes: watch::Sender::new(()) }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<ProviderId, Found>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn built(&self) -> MutexGuard<'_, HashMap<ProviderId, Built>> {
        self.built.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a provider in; an error: one that can't be read. Returns whether anything changed but its status, and who has to look again
    /// because what they read through was closed.
    pub fn put(&self, id: &ProviderId, found: Result<Provided, ()>) -> (bool, Vec<Arc<Key>>) {
        let of = |found: &Found| found.as_ref().ok().map(|found| (found.uid.clone(), found.generation, found.confirmed));
        let found = found.map(Arc::new);
        let is = of(&found);
        let was = self.known().insert(id.clone(), found);
        self.changes.send_replace(());
        (was.as_ref().map(of) != Some(is), self.forget_gone())
    }

    /// Lets a provider go. Returns who read through it.
    pub fn remove(&self, id: &ProviderId) -> Vec<Arc<Key>> {
        self.known().remove(id);
        self.changes.send_replace(());
        self.forget_gone()
    }

    /// Which providers are known.
    #[must_use]
    pub fn ids(&self) -> Vec<ProviderId> {
        self.known().keys().cloned().collect()
    }

    /// Tells of every change of a provider or its identities from now on.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Closes the scopes of providers that are gone. Returns who read through them.
    fn forget_gone(&self) -> Vec<Arc<Key>> {
        let gone: Vec<ScopeId> = {
            let known = self.known();
            let stays = |id: &ProviderId, built: &Built| match known.get(id) {
                Some(Ok(found)) => found.uid == built.uid,
                // It can't be read: it may come to be again.
                Some(Err(())) => true,
                None => false,
            };
            self.built().extract_if(|id, built| !stays(id, built)).flat_map(|(_, built)| built.scopes()).collect()
        };
        gone.into_iter().flat_map(|scope| self.reader.close(scope)).collect()
    }

    /// What each question of the plan is read through, in order; or why it may not be. Makes no call.
    pub fn admit(&self, plan: &Plan, key: &Key) -> Result<Vec<Admitted>, ReadError> {
        plan.questions.iter().map(|planned| self.admit_one(planned, Asker { namespace: &key.0, resource: &key.1 })).collect()
    }

    fn find(&self, id: &ProviderId) -> Result<Arc<Provided>, ReadError> {
        let missing = |problem: &str| ReadError::new(Reason::ProviderNotFound, format!("the {id} {problem}"));
        let found = self.known().get(id).cloned().ok_or_else(|| missing("does not exist; create it, or name another in spec.provider"))?;
        found.map_err(|()| missing("cannot be read; it is older than the controller's rules"))
    }

    fn admit_one(&self, planned: &Planned, asker: Asker<'_>) -> Result<Admitted, ReadError> {
        let id = ProviderId::meant(&planned.provider, asker.namespace);
        let found = self.find(&id)?;
        if let Some(problem) = self.terms.refuse(&id, &found.backend) {
            return Err(ReadError::new(Reason::NotAllowed, problem));
        }
        if !found.backend.serves(planned.question.store()) {
            let (question, field) = (&planned.question, found.backend.field());
            let problem = format!("{question}: the {id} reads {field}; name another provider in spec.provider");
            return Err(ReadError::new(Reason::InvalidSpec, problem));
        }
        let labels = self.namespaces.labels(asker.namespace);
        let place = Place { name: asker.namespace, labels: &labels };
        let mut account = None;
        // Whose account an ARN belongs to is known once the identity is; before, what may be wrong is refused.
        if matches!(&planned.question, Question::Value(source) | Question::Tags(source) if source.arn().is_some()) {
            account = self.known_account(&found, asker);
        }
        let admission = Admission { id: &id, rules: &found.rules, place, home: Home { region: found.region(), account: account.as_deref() } };
        let candidates = match &planned.question {
            Question::Value(source) => admission.source(source, Question::Value)?,
            Question::Tags(source) => admission.source(source, Question::Tags)?,
            // Each of its members is checked by itself.
            question if may_find(&found.rules, place, question.store(), question.path()) => vec![(narrowed(question, &found.rules, place), Vec::new())],
            question => return Err(not_allowed(&planned.provider, asker.namespace, &question.to_string(), None)),
        };
        Ok(Admitted { through: self.through(&found, asker, &labels)?, candidates })
    }

    /// The account of the identity that reads for somebody, if it is known.
    fn known_account(&self, found: &Provided, asker: Asker<'_>) -> Option<String> {
        let built = self.built();
        let known = built.get(&found.id).filter(|known| known.uid == found.uid && known.backend.same_place(&found.backend))?;
        known.scopes.get(&found.variant(asker))?.provider.known_account()
    }

    fn through(&self, found: &Arc<Provided>, asker: Asker<'_>, labels: &Arc<Labels>) -> Result<Through, ReadError> {
        // A time to come would confirm what nobody has seen yet; it is most probably in milliseconds.
        let now = Timestamp::now().as_second();
        let confirmed = found.confirmed.filter(|time| *time <= now + CLOCKS_DIFFER);
        let through = |scope, known: &Built| Through {
            scope,
            rules: known.rules.clone(),
            labels: labels.clone(),
            generation: found.generation,
            confirmed,
            recovered: known.recovered,
        };
        let mut built = self.built();
        let known = built.entry(found.id.clone()).or_insert_with(|| Built::new(found));
        self.renew(known, found);
        let variant = found.variant(asker);
        if let Some(scoped) = known.scopes.get_mut(&variant) {
            scoped.used = Instant::now();
            let scope = scoped.scope;
            return Ok(through(scope, known));
        }
        let (provider, keys) = self.open(found, asker)?;
        provider.reach(accounts(&known.rules));
        let scope = self.reader.open(provider.provider());
        known.scopes.insert(variant, Scoped { scope, provider, used: Instant::now(), keys, breakers: Arc::default() });
        self.changes.send_replace(());
        Ok(through(scope, known))
    }

    /// Takes up what changed of a provider. Who read through what is closed here is woken by the provider's change itself.
    fn renew(&self, known: &mut Built, found: &Provided) {
        if known.uid != found.uid || !known.backend.same_place(&found.backend) {
            known.scopes.drain().for_each(|(_, scoped)| drop(self.reader.close(scoped.scope)));
            if known.uid != found.uid {
                *known = Built::new(found);
            }
            known.backend = found.backend.clone();
        }
        if known.rules != found.rules {
            known.rules = found.rules.clone();
            known.scopes.values().for_each(|scoped| scoped.provider.reach(accounts(&known.rules)));
        }
        // In the same place, by the same identity: all that may differ are the limits.
        if known.backend != found.backend {
            known.backend = found.backend.clone();
            for scoped in known.scopes.values() {
                scoped.provider.limit(&known.backend);
                self.reader.reprice(scoped.scope);
            }
        }
    }

    /// A client for somebody, and which Secrets its identity depends on.
    fn open(&self, found: &Provided, asker: Asker<'_>) -> Result<(Opened, Vec<UsedKey>), ReadError> {
        let metrics = self.metrics.clone();
        match &found.backend {
            Backend::Aws(aws) => {
                let (principal, keys) = self.principal(found, aws, asker)?;
                Ok((Opened::Aws(Arc::new(AwsProvider::new(aws, principal, &self.ambient, metrics))), keys))
            }
            Backend::Vault(vault) => {
                let LetIn { grants, payer, keys } = self.vault_grants(found, vault, asker)?;
                Ok((Opened::Vault(Arc::new(VaultProvider::new(vault, grants, &payer, metrics)?)), keys))
            }
            Backend::Edge(edge) => {
                let LetIn { grants, payer, keys } = self.vault_grants(found, &edge.vault, asker)?;
                Ok((Opened::Edge(Arc::new(EdgeProvider::new(edge, grants, &payer, metrics)?)), keys))
            }
            Backend::Roboto(roboto) => {
                let LetIn { grants, payer, keys } = self.secret_grants(found, &roboto.api_key.secret_ref, asker)?;
                Ok((Opened::Roboto(Arc::new(RobotoPlatform::new(roboto, grants, &self.ambient, &payer, metrics)?)), keys))
            }
            Backend::Envase(envase) => {
                let (provider, keys) = self.open_envase(found, envase, asker)?;
                Ok((Opened::Envase(Arc::new(provider)), keys))
            }
        }
    }

    fn open_envase(&self, found: &Provided, envase: &EnvaseSpec, asker: Asker<'_>) -> Result<(EnvaseProvider, Vec<UsedKey>), ReadError> {
        if let Some(lambda) = &envase.lambda {
            let (principal, keys) = self.principal(found, &lambda.aws, asker)?;
            return Ok((EnvaseProvider::by_lambda(envase, lambda, principal, &self.ambient, self.metrics.clone())?, keys));
        }
        let unsaid = || ReadError::new(Reason::InvalidSpec, "the provider says not as whom it reads");
        let http = envase.http.as_ref().ok_or_else(unsaid)?;
        let LetIn { grants, payer, mut keys } = self.secret_grants(found, http.auth.secret().ok_or_else(unsaid)?, asker)?;
        let mut api_key = None;
        if let Some(key) = &http.api_key {
            let LetIn { grants, keys: more, .. } = self.secret_grants(found, &key.secret_ref, asker)?;
            keys.extend(more);
            api_key = Some(grants);
        }
        Ok((EnvaseProvider::over_http(envase, http, grants, api_key, &payer, self.metrics.clone())?, keys))
    }

    /// By a value of a Secret.
    fn secret_grants(&self, found: &Provided, secret: &SecretKey, asker: Asker<'_>) -> Result<LetIn, ReadError> {
        let tenant = Tenant::of_key(&found.id, asker.namespace, &self.terms)?;
        let payer = format!("{}/{}", tenant.namespace(), secret.name);
        let used = UsedVersion::default();
        let keys = vec![((tenant.namespace().to_owned(), secret.name.clone()), used.clone())];
        Ok(LetIn { grants: Box::new(SecretGrants { client: self.client.clone(), tenant, secret: secret.clone(), used }), payer, keys })
    }

    fn vault_grants(&self, found: &Provided, vault: &VaultSpec, asker: Asker<'_>) -> Result<LetIn, ReadError> {
        if let Some(kubernetes) = &vault.auth.kubernetes {
            let tenant = Tenant::of_account(&found.id, asker.namespace)?;
            let payer = format!("{}/{}", tenant.namespace(), kubernetes.service_account);
            let audiences = Terms::vault_audiences(kubernetes);
            let grants = IdentityGrants { client: self.client.clone(), tenant, account: kubernetes.service_account.clone(), audiences };
            return Ok(LetIn { grants: Box::new(grants), payer, keys: Vec::new() });
        }
        let secret = vault.auth.secret().ok_or_else(|| ReadError::new(Reason::InvalidSpec, "the provider says not as whom it reads"))?;
        self.secret_grants(found, secret, asker)
    }

    /// As whom a provider calls AWS for somebody, and which Secrets that depends on.
    fn principal(&self, found: &Provided, aws: &AwsSpec, asker: Asker<'_>) -> Result<(Principal, Vec<UsedKey>), ReadError> {
        let fill = |text: &str| {
            let filled = text.replace(Placeholder::Namespace.as_str(), asker.namespace).replace(Placeholder::Resource.as_str(), asker.resource);
            filled.replace(Placeholder::Provider.as_str(), &found.id.name)
        };
        let session = |text: &str| fill(text).chars().take(SESSION_NAME).collect::<String>();
        let roles: Vec<Role> = aws
            .assume_roles
            .iter()
            .map(|role| Role {
                arn: role.arn.clone(),
                external_id: role.external_id.clone(),
                session_name: session(role.session_name.as_deref().unwrap_or(DEFAULT_SESSION)),
                tags: role.tags.iter().map(|(key, value)| (key.clone(), fill(value))).collect(),
            })
            .collect();
        let mut payer = "ambient".to_owned();
        let (mut grants, mut keys): (Option<Box<dyn Grants>>, _) = (None, Vec::new());
        if let Some(account) = &aws.identity.service_account {
            let tenant = Tenant::of_account(&found.id, asker.namespace)?;
            payer = account.role_arn.as_deref().and_then(account_of).unwrap_or_else(|| format!("{}/{}", tenant.namespace(), account.name));
            grants = Some(Box::new(TokenGrants { client: self.client.clone(), tenant, account: account.clone() }));
        } else if let Some(access_key) = &aws.identity.access_key {
            let tenant = Tenant::of_key(&found.id, asker.namespace, &self.terms)?;
            let secret = access_key.secret_ref.clone();
            payer = format!("{}/{}", tenant.namespace(), secret.name);
            let used = UsedVersion::default();
            keys.push(((tenant.namespace().to_owned(), secret.name.clone()), used.clone()));
            grants = Some(Box::new(KeyGrants { client: self.client.clone(), tenant, secret, used }));
        }
        if let Some(account) = roles.last().and_then(|role| account_of(&role.arn)) {
            payer = account;
        }
        let session_name = session(&format!("{DEFAULT_SESSION}-{}", asker.namespace));
        Ok((Principal { grants, session_name, roles, payer }, keys))
    }

    /// All providers of those who are served, each with its identities; one that has only one gets it made if nobody asked yet. `everybody`:
    /// whether every namespace is served; else those that let none of the served ones in are another controller's to look after.
    #[must_use]
    pub fn attended(&self, everybody: bool) -> Vec<Attended> {
        let served = self.namespaces.all();
        let serves = |rule: &AllowRule| served.iter().any(|(name, known)| rule.namespaces.contain(Place { name, labels: &known.labels }));
        let is_ours = |provider: &Arc<Provided>| everybody || provider.id.namespace.is_some() || provider.rules.iter().any(serves);
        let all: Vec<Arc<Provided>> = self.known().values().filter_map(|found| found.clone().ok()).filter(is_ours).collect();
        let attend = |provider: Arc<Provided>| {
            let refused = self.terms.refuse(&provider.id, &provider.backend);
            if refused.is_none() && provider.has_one_identity() {
                let asker = Asker { namespace: provider.id.namespace.as_deref().unwrap_or_default(), resource: "" };
                if let Err(error) = self.through(&provider, asker, &Arc::default()) {
                    return Attended { provider, refused: Some(error.message), identities: BTreeMap::new() };
                }
            }
            let built = self.built();
            let identities =
                built.get(&provider.id).into_iter().flat_map(|built| built.scopes.values().map(|scoped| (scoped.scope, scoped.provider.clone()))).collect();
            drop(built);
            Attended { provider, refused, identities }
        };
        all.into_iter().map(attend).collect()
    }

    /// Takes note that a provider's identity came to work.
    pub fn recovered(&self, id: &ProviderId) {
        if let Some(built) = self.built().get_mut(id) {
            built.recovered += 1;
        }
    }

    /// The Secrets with access keys that are in use.
    #[must_use]
    pub fn key_secrets(&self) -> BTreeSet<KeySecret> {
        self.built().values().flat_map(|built| built.scopes.values()).flat_map(|scoped| scoped.keys.iter().map(|(secret, _)| secret.clone())).collect()
    }

    /// A Secret with an access key was seen in this version (`None`: it is gone), in a list or because it changed. Lets go of all that was made
    /// with another. Returns the providers that this concerns.
    pub fn key_seen(&self, secret: &KeySecret, version: Option<&str>, listed: bool) -> Vec<ProviderId> {
        let is_outdated = |scoped: &Scoped| {
            let used = scoped.keys.iter().filter(|(known, _)| known == secret).map(|(_, used)| used.lock().unwrap_or_else(PoisonError::into_inner).clone());
            // What was not read yet when it was listed will be read as it is by then.
            used.into_iter().any(|used| used.as_deref() != version && !(listed && used.is_none()))
        };
        let mut concerned = Vec::new();
        let mut closed = Vec::new();
        for (id, built) in self.built().iter_mut() {
            let outdated: Vec<ScopeId> = built.scopes.extract_if(|_, scoped| is_outdated(scoped)).map(|(_, scoped)| scoped.scope).collect();
            let reads = !outdated.is_empty() || built.scopes.values().any(|scoped| scoped.keys.iter().any(|(known, _)| known == secret));
            if reads {
                concerned.push(id.clone());
            }
            closed.extend(outdated);
        }
        for scope in closed {
            drop(self.reader.close(scope));
        }
        self.changes.send_replace(());
        concerned
    }

    /// Lets go of identities that nobody uses any more.
    pub fn sweep(&self) {
        let unused: Vec<ScopeId> = {
            let mut built = self.built();
            let is_unused = |scoped: &Scoped| scoped.used.elapsed() > UNUSED && self.reader.references(scoped.scope) == 0;
            let unused = built.values_mut().flat_map(|built| built.scopes.extract_if(|variant, scoped| *variant != Variant::default() && is_unused(scoped)));
            unused.map(|(_, scoped)| scoped.scope).collect()
        };
        for scope in unused {
            drop(self.reader.close(scope));
        }
    }

    /// Whether a permission under which something was mirrored was taken back, and the provider wants that removed. `sources` are the
    /// references that were mirrored through it.
    #[must_use]
    pub fn takes_back(&self, provider: &ProviderRef, namespace: &str, sources: &[&str]) -> bool {
        let id = ProviderId::meant(provider, namespace);
        let Ok(found) = self.find(&id) else { return false };
        if found.on_revoked != OnRevoked::Delete || self.terms.refuse(&id, &found.backend).is_some() {
            return false;
        }
        let labels = self.namespaces.labels(namespace);
        let place = Place { name: namespace, labels: &labels };
        // Accounts and regions are not looked at: which of them is the provider's own may have changed, and a permission only with that.
        let is_denied = |uri: &&str| {
            let plain = uri.strip_prefix("tags of ").unwrap_or(uri);
            let Ok(reference) = plain.parse::<Reference>() else { return false };
            reference.source.denotes().iter().any(|reference| !may_read(&found.rules, place, reference))
        };
        sources.iter().any(is_denied)
    }

    /// Takes note of whether a reference that was mirrored is there, and tells how many of the provider vanished lately.
    pub fn sighted(&self, scope: ScopeId, reference: &str, there: bool) -> Option<Tally> {
        let references = if there { 0 } else { self.references(scope) };
        let mut built = self.built();
        let vanished = &mut built.values_mut().find(|built| built.scopes().contains(&scope))?.vanished;
        // Another identity may mean another thing by the same name.
        let reference = format!("{} {reference}", scope.0);
        if there {
            vanished.remove(&reference);
            return None;
        }
        vanished.add(&reference, Instant::now());
        Some(vanished.tally(references, Instant::now()))
    }

    /// How many references the provider of this scope serves in all.
    fn references(&self, scope: ScopeId) -> usize {
        let scopes = self.built().values().map(Built::scopes).find(|scopes| scopes.contains(&scope)).unwrap_or_default();
        scopes.into_iter().map(|scope| self.reader.references(scope)).sum()
    }

    /// Whether it changed that too much vanished from the provider of a scope; told once. Whether it is over is told only to who asks for
    /// that: what was told before a restart holds until what is missing can have been seen again.
    pub fn mass_absence(&self, scope: ScopeId, or_over: bool) -> Option<MassAbsence> {
        // Asked after every mirroring: what is missing from nobody is not worth counting all references for.
        if self.built().values().find(|built| built.scopes().contains(&scope))?.misses_nothing() {
            return None;
        }
        let references = self.references(scope);
        let tally = {
            let mut built = self.built();
            let known = built.values_mut().find(|built| built.scopes().contains(&scope))?;
            let tally = known.vanished.tally(references, Instant::now());
            if known.mass == tally.is_mass() || known.mass && !(or_over && known.since.elapsed() >= SEEN_AGAIN) {
                return None;
            }
            known.mass = tally.is_mass();
            tally
        };
        Some(MassAbsence { provider: self.of(scope)?, tally })
    }

    /// What [`Providers::mass_absence`] said could not be told.
    pub fn untold(&self, scope: ScopeId) {
        if let Some(known) = self.built().values_mut().find(|built| built.scopes().contains(&scope)) {
            known.mass = !known.mass;
        }
    }

    /// One scope of each provider that is read through.
    #[must_use]
    pub fn scopes(&self) -> Vec<ScopeId> {
        self.built().values().filter_map(|built| built.scopes().first().copied()).collect()
    }

    /// The provider whose scope this is.
    #[must_use]
    pub fn of(&self, scope: ScopeId) -> Option<Arc<Provided>> {
        let id = self.built().iter().find(|(_, built)| built.scopes().contains(&scope)).map(|(id, _)| id.clone())?;
        self.find(&id).ok()
    }
}

/// All accounts that rules name.
fn accounts(rules: &[AllowRule]) -> BTreeSet<String> {
    rules.iter().flat_map(|rule| rule.accounts.iter().cloned()).collect()
}

/// The account of a role.
fn account_of(role: &str) -> Option<String> {
    role.split(':').nth(4).filter(|account| !account.is_empty()).map(str::to_owned)
}

/// A search that asks the store for no more than may be read, where what it finds is the same.
fn narrowed(question: &Question, rules: &[AllowRule], place: Place<'_>) -> Question {
    let Question::List(listing) = question else { return question.clone() };
    let prefix = readable_prefix(rules, place, listing.store);
    let path = listing.path.as_deref().unwrap_or_default();
    let prefix = match listing.store {
        Store::SecretsManager => prefix.as_str(),
        // A path there ends with a segment. Where none is written, another call with another permission would be made than without.
        Store::ParameterStore if listing.path.is_some() => prefix.rsplit_once('/').map_or("", |(path, _)| path),
        // There a path ends with a segment too, and a search without one would not know which mount is meant.
        Store::Vault => prefix.rsplit_once('/').map_or("", |(path, _)| path),
        // The others tell all names at once.
        Store::ParameterStore | Store::Edge | Store::Roboto | Store::Envase => "",
    };
    if !listing.recursive || prefix.len() <= path.len() || !prefix.starts_with(path) {
        return question.clone();
    }
    Question::List(Listing { path: Some(prefix.to_owned()), ..listing.clone() })
}

/// The circumstances under which a reference is admitted or not.
struct Admission<'a> {
    id: &'a ProviderId,
    rules: &'a [AllowRule],
    place: Place<'a>,
    home: Home<'a>,
}

impl Admission<'_> {
    /// The question about each secret or parameter that a source may denote and that may be read, the longest name first; or why about none.
    fn source(&self, source: &Source, ask: fn(Source) -> Question) -> Result<Vec<(Question, Vec<String>)>, ReadError> {
        // A parameter that stands for a secret is checked as the secrets that it may denote.
        let mut candidates = source.through_secrets_manager();
        if candidates.is_empty() {
            candidates.push((source.clone(), Vec::new()));
        }
        let mut refusal = None;
        candidates.retain(|(source, _)| {
            let permitted = permit(self.rules, Verb::Read, self.place, source, self.home);
            refusal = permitted.as_ref().err().cloned().or(refusal.take());
            permitted.is_ok()
        });
        if candidates.is_empty() {
            return Err(self.refused(source, refusal));
        }
        Ok(candidates.into_iter().map(|(source, rest)| (ask(source), rest)).collect())
    }

    fn refused(&self, source: &Source, refusal: Option<Refusal>) -> ReadError {
        let elsewhere = |problem: String| ReadError::new(Reason::NotAllowed, format!("{source}: {problem} of a rule in the spec.allow of the {}", self.id));
        match refusal {
            Some(Refusal::Region(region)) => elsewhere(format!(
                "the provider reads the region {}; an ARN of another region is not allowed, unless {region} is among the regions",
                self.home.region
            )),
            Some(Refusal::Account(account)) => elsewhere(format!("{ANOTHER_ACCOUNT}, unless {account} is among the accounts")),
            // An ARN may denote two names; the one that is not allowed is what a pattern has to match.
            Some(Refusal::Reference(name)) if source.through_secrets_manager().is_empty() => {
                refused(self.id, self.place.name, &source.to_string(), Some(&name))
            }
            _ => refused(self.id, self.place.name, &source.to_string(), None),
        }
    }
}

/// The refusal of one reference. `missing`: the name that it denotes and that no pattern matches, where it is another.
fn refused(id: &ProviderId, namespace: &str, reference: &str, missing: Option<&str>) -> ReadError {
    let missing = missing.filter(|missing| *missing != reference).unwrap_or("it");
    ReadError::new(
        Reason::NotAllowed,
        format!("the {id} does not allow the namespace {namespace} to read {reference}; add {missing} to the provider's spec.allow"),
    )
}

/// The refusal of one reference of a resource.
#[must_use]
pub fn not_allowed(provider: &ProviderRef, namespace: &str, reference: &str, missing: Option<&str>) -> ReadError {
    refused(&ProviderId::meant(provider, namespace), namespace, reference, missing)
}

/// The refusal of an answer that comes from another secret than the one that was asked for.
#[must_use]
pub fn answered_otherwise(provider: &ProviderRef, namespace: &str, reference: &str) -> ReadError {
    let id = ProviderId::meant(provider, namespace);
    ReadError::new(
        Reason::NotAllowed,
        format!(
            "{reference}: the store answered with another name, which the {id} does not allow the namespace {namespace} to read; \
             refer to the secret by its full name"
        ),
    )
}

pub mod writing;

#[cfg(test)]
mod tests;
