//! What the controller remembers: the Secrets it watches, which resource cares for which Secret and provider, and how each resource stands.
//!
//! Watch events enter, answers leave. Only metadata and names are held here, never a value.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{Resource, ResourceExt};
use tokio::time::Instant;

use super::{
    absence::Absences,
    decide::Why,
    drift::{MANAGER_PREFIX, Manager, Seen, is_older},
    gather::Need,
    plan::Plan,
    providers::Through,
    schedule,
    served::{self, Previous, Served},
    status::Failure,
    target::Look,
};
use crate::{
    api::{
        MERGE_FINALIZER, REFRESH_ANNOTATION, Reason, RobotoSecret, RobotoSecretSpec, RobotoSecretStatus,
        provider::ProviderId,
        status::{FRESH, READY, TargetStatus},
    },
    reader::{Answer, ScopeId, phase},
    telemetry::metrics::Totals,
};

/// Namespace and name.
pub use crate::reader::Key;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The Secrets that carry our label, by namespace and name.
pub struct Secrets(Mutex<Labelled>);

struct Labelled {
    seen: HashMap<Arc<Key>, Arc<Seen>>,
    by_name: Relation<Arc<Key>>,
}

impl Default for Secrets {
    fn default() -> Self {
        Self(Mutex::new(Labelled { seen: HashMap::new(), by_name: Relation(HashMap::new()) }))
    }
}

impl Labelled {
    fn put(&mut self, key: Key, seen: Seen) {
        let key = self.take(&key).unwrap_or_else(|| Arc::new(key));
        for name in named(&seen) {
            let named = if name == key.1 { key.clone() } else { Arc::new((key.0.clone(), name.to_owned())) };
            self.by_name.add(named, &key);
        }
        self.seen.insert(key, Arc::new(seen));
    }

    fn take(&mut self, key: &Key) -> Option<Arc<Key>> {
        let (key, seen) = self.seen.remove_entry(key)?;
        for name in named(&seen) {
            self.by_name.remove(&(key.0.clone(), name.to_owned()), &key);
        }
        Some(key)
    }
}

/// The names of the `RobotoSecret`s that show in a Secret: by our mark, or as managers of what they merged into it.
fn named(seen: &Seen) -> BTreeSet<&str> {
    let managers = seen.managers.iter().filter_map(|manager| manager.name.strip_prefix(MANAGER_PREFIX));
    seen.owner.as_deref().into_iter().chain(managers).collect()
}

impl Secrets {
    /// A Secret as it was last seen.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Seen>> {
        locked(&self.0).seen.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// Takes a Secret in, unless a later state of it is known: the watch lags behind our own writes.
    pub fn put(&self, namespace: &str, seen: Seen) {
        let mut secrets = locked(&self.0);
        let key = (namespace.to_owned(), seen.name.clone());
        if !secrets.seen.get(&key).is_some_and(|known| is_older(&seen.resource_version, &known.resource_version)) {
            secrets.put(key, seen);
        }
    }

    /// Takes a Secret in as a complete list has it. The list is right even if it looks older: an API server that was restored from a
    /// backup counts from there, and a write of ours that the list missed is what the watch brings next.
    pub fn put_listed(&self, namespace: &str, seen: Seen) {
        locked(&self.0).put((namespace.to_owned(), seen.name.clone()), seen);
    }

    /// Lets a deleted Secret go, unless it was made again since.
    pub fn remove(&self, namespace: &str, deleted: &Seen) {
        let mut secrets = locked(&self.0);
        let key = (namespace.to_owned(), deleted.name.clone());
        if !secrets.seen.get(&key).is_some_and(|known| is_older(&deleted.resource_version, &known.resource_version)) {
            secrets.take(&key);
        }
    }

    /// Lets go what is known of a Secret, so that it is looked at anew.
    pub fn forget(&self, namespace: &str, name: &str) {
        locked(&self.0).take(&(namespace.to_owned(), name.to_owned()));
    }

    /// Lets everything go that a complete list did not have. `scope`: the namespace that was listed, or all.
    pub fn keep_only(&self, scope: Option<&str>, listed: &BTreeSet<Key>) {
        let mut secrets = locked(&self.0);
        let gone: Vec<Arc<Key>> = secrets.seen.keys().filter(|key| scope.is_none_or(|scope| scope == key.0) && !listed.contains(&***key)).cloned().collect();
        for key in &gone {
            secrets.take(key);
        }
    }

    /// The Secrets of a namespace in which a `RobotoSecret` of this name shows, by its mark or by what it merged into them.
    #[must_use]
    pub fn naming(&self, namespace: &str, resource: &str) -> Vec<Arc<Seen>> {
        let secrets = locked(&self.0);
        let keys = secrets.by_name.get(&(namespace.to_owned(), resource.to_owned()));
        keys.into_iter().filter_map(|key| secrets.seen.get(&key).cloned()).collect()
    }
}

/// From one to many. Most have one: the lists are sorted and as small as they can be.
struct Relation<A>(HashMap<A, Vec<Arc<Key>>>);

impl<A: Hash + Eq> Relation<A> {
    fn add(&mut self, to: A, key: &Arc<Key>) {
        let keys = self.0.entry(to).or_insert_with(|| Vec::with_capacity(1));
        if let Err(place) = keys.binary_search(key) {
            keys.insert(place, key.clone());
        }
    }

    fn remove<Q: Hash + Eq + ?Sized>(&mut self, from: &Q, key: &Key)
    where
        A: std::borrow::Borrow<Q>,
    {
        let Some(keys) = self.0.get_mut(from) else { return };
        if let Ok(place) = keys.binary_search_by(|known| (**known).cmp(key)) {
            keys.remove(place);
        }
        if keys.is_empty() {
            self.0.remove(from);
        }
    }

    fn get<Q: Hash + Eq + ?Sized>(&self, from: &Q) -> Vec<Arc<Key>>
    where
        A: std::borrow::Borrow<Q>,
    {
        self.0.get(from).into_iter().flatten().cloned().collect()
    }
}

/// The name of the Secret that a resource mirrors into.
#[must_use]
pub fn target_name(resource: &RobotoSecret) -> String {
    resource.spec.target.name.clone().unwrap_or_else(|| resource.name_any())
}

/// The resources, and which of them care for which Secret and provider.
pub struct Resources(Mutex<Indexes>);

struct Indexes {
    of: HashMap<Arc<Key>, Indexed>,
    by_target: Relation<Arc<Key>>,
    by_provider: Relation<ProviderId>,
}

/// A resource at rest. It is kept as the JSON that it came as: it is looked at rarely, and there are a great many.
struct Indexed {
    resource: Box<[u8]>,
    status: Option<Box<[u8]>>,
    target: Arc<Key>,
    providers: Box<[ProviderId]>,
}

/// What came as JSON always goes into JSON.
fn json(of: &impl serde::Serialize) -> Box<[u8]> {
    serde_json::to_vec(of).unwrap_or_default().into()
}

impl Default for Resources {
    fn default() -> Self {
        Self(Mutex::new(Indexes { of: HashMap::new(), by_target: Relation(HashMap::new()), by_provider: Relation(HashMap::new()) }))
    }
}

impl Resources {
    /// Takes a resource in, or takes note of its change. It is cut down to what is used of it. Returns its key, for all to share.
    pub fn put(&self, key: &Key, mut resource: RobotoSecret) -> Arc<Key> {
        let target = (key.0.clone(), target_name(&resource));
        let single = resource.spec.data.iter().flatten().filter_map(|entry| entry.provider.as_ref());
        let many = resource.spec.data_from.iter().flatten().filter_map(|entry| entry.provider.as_ref());
        let providers = single.chain(many).chain([&resource.spec.provider]);
        let providers: BTreeSet<ProviderId> = providers.map(|provider| ProviderId::meant(provider, &key.0)).collect();
        let meta = resource.meta_mut();
        (meta.managed_fields, meta.labels, meta.owner_references) = (None, None, None);
        if let Some(finalizers) = &mut meta.finalizers {
            finalizers.retain(|name| name == MERGE_FINALIZER);
        }
        meta.finalizers.take_if(|finalizers| finalizers.is_empty());
        if let Some(annotations) = &mut meta.annotations {
            annotations.retain(|name, _| name == REFRESH_ANNOTATION);
        }
        meta.annotations.take_if(|annotations| annotations.is_empty());
        let mut indexes = locked(&self.0);
        let key = Self::take(&mut indexes, key).unwrap_or_else(|| Arc::new(key.clone()));
        let target = if target == *key { key.clone() } else { Arc::new(target) };
        let status = resource.status.take().map(|status| json(&status));
        indexes.by_target.add(target.clone(), &key);
        for provider in &providers {
            indexes.by_provider.add(provider.clone(), &key);
        }
        let providers = providers.into_iter().collect();
        indexes.of.insert(key.clone(), Indexed { resource: json(&resource), status, target, providers });
        key
    }

    /// A resource as the watch last told it.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<RobotoSecret> {
        let indexes = locked(&self.0);
        let indexed = indexes.of.get(key)?;
        let mut resource: RobotoSecret = serde_json::from_slice(&indexed.resource).ok()?;
        resource.status = indexed.status.as_deref().and_then(|status| serde_json::from_slice(status).ok());
        Some(resource)
    }

    /// Lets a status go that is kept elsewhere by now.
    pub fn drop_status(&self, key: &Key) {
        if let Some(indexed) = locked(&self.0).of.get_mut(key) {
            indexed.status = None;
        }
    }

    /// Lets a resource go.
    pub fn remove(&self, key: &Key) {
        Self::take(&mut locked(&self.0), key);
    }

    fn take(indexes: &mut Indexes, key: &Key) -> Option<Arc<Key>> {
        let (key, indexed) = indexes.of.remove_entry(key)?;
        indexes.by_target.remove(&*indexed.target, &key);
        for provider in &indexed.providers {
            indexes.by_provider.remove(provider, &key);
        }
        Some(key)
    }

    /// The resources that mirror into this Secret.
    #[must_use]
    pub fn with_target(&self, namespace: &str, secret: &str) -> Vec<Arc<Key>> {
        locked(&self.0).by_target.get(&(namespace.to_owned(), secret.to_owned()))
    }

    /// The resources that read through this provider.
    #[must_use]
    pub fn with_provider(&self, provider: &ProviderId) -> Vec<Arc<Key>> {
        locked(&self.0).by_provider.get(provider)
    }

    /// All resources of the scope.
    #[must_use]
    pub fn keys(&self, scope: Option<&str>) -> Vec<Arc<Key>> {
        locked(&self.0).of.keys().filter(|key| scope.is_none_or(|scope| scope == key.0)).cloned().collect()
    }
}

/// How a resource stands, between two looks at it.
#[allow(clippy::struct_excessive_bools)] // Each is a fact of its own.
pub struct Standing {
    /// The resource's uid: another one is another resource.
    pub uid: String,
    /// The status as we last wrote it, which the watch may not have brought back yet.
    pub status: RobotoSecretStatus,
    /// The resource's version after our last write of its status.
    pub resource_version: String,
    /// How often in a row the resource was met in an older version than that.
    pub lagging: u32,
    /// How often in a row the status could not be written.
    pub unwritten: u32,
    /// A write of the Secret was begun and no status tells of it yet: where the Secret moved, it may be our own doing.
    pub untold: bool,
    /// What the spec asked for when it was last mirrored (see [`fingerprint`]), if that is known.
    pub asked: Option<Asked>,
    /// Whether this process has checked it with success and written that down.
    pub checked: bool,
    /// The last good check, to the moment.
    pub last_check: Option<Timestamp>,
    /// A recheck found another version than is mirrored.
    pub changed: bool,
    /// Versions that were replaced lately, and when.
    pub replaced: Vec<(Served, Instant)>,
    /// The store answered with a version that was just replaced: no read that was asked for before this time is believed that says so.
    pub doubt: Option<Instant>,
    /// When to look again at what is mirrored and its listing does not have any more.
    pub relook: Option<Instant>,
    /// What the status can't tell of what was mirrored: what is beyond its list, and versions that only this process can compare.
    pub beside: Vec<Served>,
    /// What the store shows no more, until that is proven.
    pub absences: Absences,
    /// The services that its sources are read from.
    pub services: Vec<(ScopeId, &'static str)>,
    /// What was asked of the reader.
    pub reading: Option<Box<Reading>>,
    /// The failure that the last try ended in.
    pub failing: Option<Box<Failing>>,
    /// Whether the last look ended before any call: no provider, or not allowed.
    pub refused: bool,
    /// The target's version, where it moved without our doing and without touching what is ours.
    pub unmoved: Option<String>,
    /// Managers that owned keys beside us right after our last write.
    pub tolerated: Vec<Manager>,
    /// What we merged into a shared Secret: its uid, and the fields that were ours right after the write. The status lists only keys,
    /// and not all.
    pub merged: Option<Box<(String, Vec<String>)>>,
    /// When the target was last seen, where nothing watches it.
    pub looked: Option<Instant>,
    /// The target before it was renamed, until it is dealt with.
    pub former: Option<Box<TargetStatus>>,
    /// Repairs of the target.
    pub repairs: Repairs,
    /// What the last try to read went through, whatever came of it.
    pub tried_through: Vec<Through>,
    /// Which templates of ConfigMaps it was made with (see [`Texts::hash`](super::templates::Texts)).
    pub tried_with: Option<String>,
}

/// What was asked of the reader, and for what.
pub struct Reading {
    /// Why.
    pub why: Why,
    /// The generation of the spec.
    pub generation: Option<i64>,
    /// The value of the refresh annotation.
    pub refresh: Option<String>,
    /// What was asked of whom (see [`Admitted::asked`](super::providers::Admitted::asked)): the answers are told apart by their places alone.
    pub asked: u64,
    /// When. What is told of answers that came later is told of this moment.
    pub since: Instant,
    /// The target as it was before the store was read, so that an old value can't go over a newer write.
    pub look: Look,
    /// How often the target changed meanwhile.
    pub attempts: usize,
    /// What the first round came to, while the second is under way.
    pub first: Option<FirstRound>,
}

/// The answers of the first round, and what they left open.
#[derive(Debug)]
pub struct FirstRound {
    /// In the order of the questions.
    pub answers: Vec<Answer>,
    /// What is asked in the second round.
    pub needs: Vec<Need>,
}

/// What a spec asks for, to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What is searched for, and through which providers.
    pub searches: u64,
    /// All that is to be in the Secret.
    pub all: u64,
}

fn hash(asked: &impl serde::Serialize) -> u64 {
    let mut hasher = DefaultHasher::new();
    json(asked).hash(&mut hasher);
    hasher.finish()
}

/// Tells apart what specs ask to be in the Secret; how often it is checked is left out.
#[must_use]
pub fn fingerprint(spec: &RobotoSecretSpec) -> Asked {
    let searches = spec.data_from.iter().flatten().filter(|entry| entry.uri.is_none());
    let searches: Vec<_> = searches.map(|entry| (&entry.by_path, &entry.find, entry.provider.as_ref().unwrap_or(&spec.provider))).collect();
    Asked { searches: hash(&searches), all: hash(&(&spec.uri, &spec.data, &spec.data_from, &spec.on_collision, &spec.provider, &spec.target)) }
}

/// A failure in a row.
#[derive(Clone, Debug)]
pub struct Failing {
    /// The last one.
    pub failure: Failure,
    /// How many there were in a row.
    pub count: u32,
    /// When to try again; `None`: not before something changes.
    pub retry: Option<Instant>,
}

/// Repairs of the target, so that two managers that fight over it don't fight at full speed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Repairs {
    last: Option<Instant>,
    in_a_row: u32,
}

/// The shortest pause between two repairs.
const REPAIR_PAUSE: Duration = Duration::from_secs(10);
/// How long after a repair its second is over for certain.
const SETTLES: Duration = Duration::from_secs(3);
/// After how many repairs in a row it counts as a fight.
const FIGHT: u32 = 4;

impl Repairs {
    fn pause(self) -> Duration {
        REPAIR_PAUSE.saturating_mul(2_u32.saturating_pow(self.in_a_row.saturating_sub(FIGHT - 1))).min(schedule::LONGEST_RETRY)
    }

    /// When the next repair may be made; `None`: now.
    #[must_use]
    pub fn next(&self, now: Instant) -> Option<Instant> {
        self.last.map(|last| last + self.pause()).filter(|next| *next > now)
    }

    /// When what others did around the last repair can be told from what they do after it (see [`Seen::tolerable`]); `None`: already.
    #[must_use]
    pub fn settles(&self, now: Instant) -> Option<Instant> {
        self.last.map(|last| last + SETTLES).filter(|settles| *settles > now)
    }

    /// Whether the last repairs look like a fight.
    #[must_use]
    pub fn is_fight(&self) -> bool {
        self.in_a_row >= FIGHT
    }

    /// Takes note of a repair. Returns whether it looks like a fight.
    pub fn made(&mut self, now: Instant) -> bool {
        let soon = self.last.is_some_and(|last| now.duration_since(last) < self.pause() * 3);
        self.in_a_row = if soon { self.in_a_row.saturating_add(1) } else { 1 };
        self.last = Some(now);
        self.in_a_row == FIGHT
    }
}

impl Standing {
    /// All that was mirrored before.
    #[must_use]
    pub fn record(&self) -> Vec<Previous> {
        served::record(&self.status, &self.beside)
    }

    /// How a resource stands when it is met for the first time, or after a restart: what its status says.
    #[must_use]
    pub fn new(resource: &RobotoSecret, uid: &str, plan: Option<&Plan>, now: Timestamp) -> Self {
        let mut status = resource.status.clone().unwrap_or_default();
        // A time to come was told by a clock that was wrong: the check was now at the latest.
        status.last_check_time = status.last_check_time.map(|time| Time(time.0.min(now)));
        let last_check = status.last_check_time.as_ref().map(|time| time.0);
        let since_epoch = |time: Timestamp| Duration::from_secs(u64::try_from(time.as_second()).unwrap_or_default());
        let wait = || {
            plan.map_or(Duration::ZERO, |plan| phase::until_first_recheck(uid, plan.ttl, since_epoch(now), last_check.map(since_epoch), now.as_nanosecond()))
        };
        // What failed before the restart is tried again soon, but not all of it in one moment.
        let failing = status.condition(FRESH).filter(|fresh| fresh.status == "False").map(|fresh| {
            Box::new(Failing {
                failure: Failure::new(Reason::named(&fresh.reason).unwrap_or(Reason::InternalError), &*fresh.message, true),
                count: 1,
                retry: Some(Instant::now() + wait().min(REPAIR_PAUSE)),
            })
        });
        Self {
            uid: uid.to_owned(),
            resource_version: String::new(),
            lagging: 0,
            unwritten: 0,
            untold: false,
            // Ready speaks of the observed spec. What was written for another one is not known any more.
            asked: (status.is_true(READY) && status.observed_generation == resource.meta().generation).then(|| fingerprint(&resource.spec)),
            checked: false,
            last_check,
            changed: false,
            replaced: Vec::new(),
            doubt: None,
            relook: None,
            beside: Vec::new(),
            absences: Absences::default(),
            services: Vec::new(),
            reading: None,
            failing,
            refused: false,
            unmoved: None,
            tolerated: Vec::new(),
            merged: None,
            looked: None,
            former: None,
            repairs: Repairs::default(),
            tried_through: Vec::new(),
            tried_with: status.target.as_ref().and_then(|target| target.template_hash.clone()),
            status,
        }
    }
}

/// How all resources stand.
#[derive(Default)]
pub struct Standings(Mutex<HashMap<Arc<Key>, Entry>>);

#[derive(Default)]
struct Entry {
    standing: Arc<tokio::sync::Mutex<Option<Standing>>>,
    summary: Summary,
}

#[derive(Clone, Copy, Default)]
#[allow(clippy::struct_excessive_bools)] // Each is a fact of its own.
struct Summary {
    ready: bool,
    fresh: bool,
    retained: bool,
    rechecked: bool,
    /// The last good check; `None` also where nothing is rechecked.
    last_check: Option<Timestamp>,
}

impl Summary {
    /// The last good check of a resource that is rechecked. `rechecked` tells when the reader last saw all of it unchanged.
    fn last_success(&self, rechecked: impl FnOnce() -> Option<Timestamp>) -> Option<Timestamp> {
        self.last_check.max(self.last_check.and_then(|_| rechecked()))
    }
}

impl Standings {
    /// The standing of one resource; whoever holds its lock works on it.
    #[must_use]
    pub fn of(&self, key: &Arc<Key>) -> Arc<tokio::sync::Mutex<Option<Standing>>> {
        locked(&self.0).entry(key.clone()).or_default().standing.clone()
    }

    /// Forgets a resource.
    pub fn remove(&self, key: &Key) {
        locked(&self.0).remove(key);
    }

    /// Takes note of what the totals need.
    pub fn summarize(&self, key: &Key, rechecked: bool, standing: &Standing) {
        if let Some(entry) = locked(&self.0).get_mut(key) {
            let status = &standing.status;
            let sourceless = status.condition(FRESH).is_some_and(|fresh| fresh.reason == Reason::SourceNotFound.as_str());
            entry.summary = Summary {
                ready: status.is_true(READY),
                fresh: status.is_true(FRESH),
                retained: sourceless && status.target.is_some(),
                rechecked,
                last_check: standing.last_check.filter(|_| rechecked),
            };
        }
    }

    /// When each resource that is rechecked was last checked with success, the longest ago first; `None`: never yet. At most this many.
    #[must_use]
    pub fn successes(&self, most: usize, rechecked: impl Fn(&Key) -> Option<Timestamp>) -> Vec<(Arc<Key>, Option<Timestamp>)> {
        let all = locked(&self.0);
        let all = all.iter().filter(|(_, entry)| entry.summary.rechecked);
        let mut all: Vec<_> = all.map(|(key, entry)| (entry.summary.last_success(|| rechecked(key)), key.clone())).collect();
        all.sort_unstable();
        all.truncate(most);
        all.into_iter().map(|(success, key)| (key, success)).collect()
    }

    /// The totals at this moment. `rechecked` tells when the reader last saw all of a resource unchanged, which no look tells here.
    #[must_use]
    pub fn totals(&self, now: Timestamp, rechecked: impl Fn(&Key) -> Option<Timestamp>) -> Totals {
        let all = locked(&self.0);
        let count = |of: fn(&Summary) -> bool| all.values().filter(|entry| of(&entry.summary)).count();
        let oldest = all.iter().filter_map(|(key, entry)| entry.summary.last_success(|| rechecked(key))).min();
        let age = oldest.and_then(|oldest| Duration::try_from(now.duration_since(oldest)).ok()).unwrap_or_default();
        Totals {
            resources: all.len(),
            ready: count(|summary| summary.ready),
            fresh: count(|summary| summary.fresh),
            retained: count(|summary| summary.retained),
            oldest: age,
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn key(name: &str) -> Arc<Key> {
        Arc::new(("shop".to_owned(), name.to_owned()))
    }

    fn provider(name: &str) -> ProviderId {
        ProviderId { namespace: None, name: name.to_owned() }
    }

    fn resource(name: &str, spec: &str) -> RobotoSecret {
        let mut resource = RobotoSecret::new(name, serde_yaml::from_str(spec).expect("a spec"));
        resource.meta_mut().labels = Some([("app".to_owned(), "shop".to_owned())].into());
        resource.meta_mut().annotations = Some([("note".to_owned(), "long".to_owned()), (REFRESH_ANNOTATION.to_owned(), "1".to_owned())].into());
        resource.meta_mut().finalizers = Some(vec!["somebody.example/slow".to_owned(), MERGE_FINALIZER.to_owned()]);
        resource.status = Some(RobotoSecretStatus::default());
        resource
    }

    #[test]
    fn a_resource_is_found_by_its_target_and_its_providers_until_it_changes() {
        let resources = Resources::default();
        let two = "data: [{key: k, uri: 'aws.sm://k', provider: {kind: ClusterRobotoProvider, name: y}}]";
        resources.put(&key("a"), resource("a", &format!("{{provider: {{kind: ClusterRobotoProvider, name: x}}, target: {{name: db}}, {two}}}")));
        resources.put(&key("b"), resource("b", "{provider: {kind: ClusterRobotoProvider, name: x}, target: {name: db}, uri: 'aws.sm://k'}"));
        assert_eq!(resources.with_target("shop", "db"), [key("a"), key("b")]);
        assert_eq!(resources.with_provider(&provider("x")), [key("a"), key("b")]);
        assert_eq!(resources.with_provider(&provider("y")), [key("a")]);
        resources.put(&key("a"), resource("a", "{provider: {kind: ClusterRobotoProvider, name: y}, uri: 'aws.sm://k'}"));
        assert_eq!(resources.with_target("shop", "db"), [key("b")]);
        assert_eq!(resources.with_target("shop", "a"), [key("a")]);
        assert_eq!(resources.with_provider(&provider("x")), [key("b")]);
        resources.remove(&key("b"));
        assert_eq!(resources.with_target("shop", "db"), Vec::<Arc<Key>>::new());
        assert_eq!(resources.keys(None), [key("a")]);
        assert_eq!(resources.keys(Some("elsewhere")), Vec::<Arc<Key>>::new());
    }

    #[test]
    fn only_what_is_used_of_a_resource_is_kept() {
        let resources = Resources::default();
        resources.put(&key("a"), resource("a", "{provider: {kind: ClusterRobotoProvider, name: x}, uri: 'aws.sm://k'}"));
        let kept = resources.get(&key("a")).expect("the resource");
        assert_eq!(kept.annotations().keys().collect::<Vec<_>>(), [REFRESH_ANNOTATION]);
        assert!(kept.labels().is_empty() && kept.status.is_some());
        assert_eq!(kept.finalizers(), [MERGE_FINALIZER]);
        resources.drop_status(&key("a"));
        assert!(resources.get(&key("a")).is_some_and(|kept| kept.status.is_none()));
    }

    #[test]
    fn a_new_list_lets_go_what_it_did_not_have_in_its_own_scope() {
        let secrets = Secrets::default();
        for (namespace, name) in [("shop", "a"), ("shop", "b"), ("other", "c")] {
            secrets.put(namespace, Seen { name: name.into(), owner: Some("rs".into()), ..Seen::default() });
        }
        secrets.keep_only(Some("shop"), &BTreeSet::from([Key::clone(&key("a"))]));
        assert!(secrets.get("shop", "a").is_some() && secrets.get("shop", "b").is_none() && secrets.get("other", "c").is_some());
        secrets.keep_only(None, &BTreeSet::from([Key::clone(&key("a"))]));
        assert!(secrets.get("other", "c").is_none());
        assert_eq!(secrets.naming("shop", "rs").len(), 1);
    }

    #[test]
    fn a_secret_is_found_by_its_mark_and_by_who_merged_into_it_until_that_is_taken_out() {
        let secrets = Secrets::default();
        let manager = |name: &str| Manager { name: name.into(), ..Manager::default() };
        let shared = Seen { name: "shared".into(), managers: vec![manager("robotosecret/x"), manager("robotosecret/y"), manager("helm")], ..Seen::default() };
        secrets.put("shop", shared.clone());
        secrets.put("shop", Seen { name: "own".into(), owner: Some("x".into()), managers: vec![manager("robotosecret/x")], ..Seen::default() });
        let names = |resource: &str| secrets.naming("shop", resource).iter().map(|seen| seen.name.clone()).collect::<Vec<_>>();
        assert_eq!((names("x"), names("y")), (vec!["own".to_owned(), "shared".to_owned()], vec!["shared".to_owned()]));
        secrets.put("shop", Seen { managers: vec![manager("robotosecret/y")], ..shared });
        assert_eq!((names("x"), names("y")), (vec!["own".to_owned()], vec!["shared".to_owned()]));
    }

    #[test]
    fn the_watch_does_not_bring_back_what_is_older_than_our_own_write() {
        let secrets = Secrets::default();
        let at = |version: &str| Seen { name: "a".into(), resource_version: version.into(), ..Seen::default() };
        secrets.put("shop", at("20"));
        secrets.put("shop", at("10"));
        assert_eq!(secrets.get("shop", "a").map(|seen| seen.resource_version.clone()).as_deref(), Some("20"));
        secrets.put_listed("shop", at("12"));
        assert_eq!(secrets.get("shop", "a").map(|seen| seen.resource_version.clone()).as_deref(), Some("12"));
        secrets.put("shop", at("20"));
        secrets.remove("shop", &at("15"));
        assert!(secrets.get("shop", "a").is_some());
        secrets.remove("shop", &at("21"));
        assert!(secrets.get("shop", "a").is_none());
    }

    #[test]
    fn an_edit_of_a_search_or_of_its_provider_is_told_from_other_edits() {
        let asked = |spec: &str| fingerprint(&serde_yaml::from_str(spec).expect("a spec"));
        let search = |more: &str, rest: &str| asked(&format!("{{dataFrom: [{{find: {{store: aws.sm, tags: {{env: prod}}}}{more}}}], {rest}}}"));
        let plain = search("", "ttl: 15m");
        assert_eq!(search("", "ttl: 1h"), plain);
        for other in [search("", "target: {name: x}"), search("", "data: [{key: a, uri: aws.sm://a}]"), search(", exclude: [a]", "ttl: 15m")] {
            assert!(other.searches == plain.searches && other != plain);
        }
        let elsewhere = "{kind: ClusterRobotoProvider, name: x}";
        for other in [search("", &format!("provider: {elsewhere}")), search(&format!(", provider: {elsewhere}"), "ttl: 15m")] {
            assert_ne!(other.searches, plain.searches);
        }
        assert_ne!(asked("{dataFrom: [{find: {store: aws.sm, tags: {env: staging}}}]}").searches, plain.searches);
    }

    #[test]
    fn a_last_check_that_a_wrong_clock_put_into_the_future_was_now_at_the_latest() {
        let (now, day) = (Timestamp::now(), k8s_openapi::jiff::SignedDuration::from_hours(24));
        let met = |time: Timestamp| {
            let mut resource = resource("a", "uri: 'aws.sm://k'");
            resource.status = Some(RobotoSecretStatus { last_check_time: Some(Time(time)), ..RobotoSecretStatus::default() });
            Standing::new(&resource, "u", None, now).last_check
        };
        assert_eq!((met(now + day), met(now - day)), (Some(now), Some(now - day)));
    }

    #[test]
    fn repairs_slow_down_when_somebody_fights() {
        let mut repairs = Repairs::default();
        let mut now = Instant::now();
        assert_eq!(repairs.next(now), None);
        let mut fights = 0;
        let mut pauses = Vec::new();
        for _ in 0..7 {
            fights += u32::from(repairs.made(now));
            let next = repairs.next(now).expect("a pause");
            pauses.push(next.duration_since(now).as_secs());
            now = next;
        }
        assert_eq!(pauses, [10, 10, 10, 20, 40, 80, 160]);
        assert_eq!(fights, 1);
        assert!(!repairs.made(now + Duration::from_hours(1)));
        assert_eq!(repairs.in_a_row, 1);
    }
}
