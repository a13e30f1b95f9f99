//! The watches: what Kubernetes tells of resources, Secrets and providers, and when all of it is known for the first time.
//!
//! Watch events enter; caches are kept, and the queue learns who is to be looked at. Each watch has pauses of its own. Secrets are watched for
//! their metadata alone. Nothing is written here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        utils::Backoff,
        watcher::{self, Event, watcher},
    },
};

use serde::de::DeserializeOwned;

use super::{
    cache::Key,
    drift::Seen,
    mirror::Context,
    namespaces::NamespaceCache,
    providers::{Provided, ProviderResource},
};
use crate::{
    api::{MANAGED_LABEL, REFRESH_ANNOTATION, RobotoSecret, provider::ProviderId},
    reader::Lane,
    telemetry::Readiness,
};

/// How long a watch that failed rests at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

type Guarded = DeserializeGuard<RobotoSecret>;

/// Where something is watched: in a namespace, or in all.
type Scope = Option<String>;

/// Opens when all caches hold their first complete list.
#[derive(Clone)]
pub(super) struct Gates {
    readiness: Readiness,
    namespaces: Arc<NamespaceCache>,
    /// Where the first list of each kind is missing.
    missing: Arc<tokio::sync::watch::Sender<BTreeMap<&'static str, BTreeSet<Scope>>>>,
}

impl Gates {
    pub(super) fn new(readiness: &Readiness, namespaces: Arc<NamespaceCache>, scopes: &[Scope], confined: bool, fan_out: bool) -> Self {
        let each: BTreeSet<Scope> = scopes.iter().cloned().collect();
        let once = BTreeSet::from([None]);
        let secrets = (!confined).then(|| (SECRETS, each.clone()));
        let parents = fan_out.then(|| (CLUSTER_RESOURCES, once.clone()));
        let always = [(RESOURCES, each.clone()), (NAMESPACES, each.clone()), (PROVIDERS, once), (OWN_PROVIDERS, each)];
        let missing: BTreeMap<_, _> = always.into_iter().chain(secrets).chain(parents).collect();
        for what in missing.keys() {
            readiness.wait_for(what, "the first list");
        }
        Self { readiness: readiness.clone(), namespaces, missing: Arc::new(tokio::sync::watch::Sender::new(missing)) }
    }

    pub(super) fn synced(&self, what: &'static str, scope: Option<&str>) {
        self.missing.send_modify(|missing| {
            let left = missing.entry(what).or_default();
            // Said of each kind by itself, so that what is still waited for does not hide behind what came meanwhile.
            if left.remove(&scope.map(str::to_owned)) && left.is_empty() {
                self.readiness.done(what);
            }
        });
    }

    fn is_missing(&self, what: &str, scope: Option<&str>) -> bool {
        self.missing.borrow().get(what).is_some_and(|left| left.contains(&scope.map(str::to_owned)))
    }

    /// Says in the log and, until its kind is synced, in `/readyz` why a watch does not get on. A namespace that is known to be gone, with the Role in it,
    /// is waited for no more: there is nothing to be listed, and all others have to be served.
    pub(super) fn trouble(&self, what: &'static str, scope: Option<&str>, error: &watcher::Error) {
        let is_gone = scope.is_some_and(|namespace| !self.is_missing(NAMESPACES, scope) && self.namespaces.leaves(namespace));
        if is_gone {
            if self.is_missing(what, scope) {
                tracing::warn!(watch = what, namespace = scope, "the namespace is gone, or going; it is not waited for");
            }
            return self.synced(what, scope);
        }
        let why = explain(error);
        tracing::warn!(watch = what, namespace = scope, why, "watching failed; trying again");
        if self.is_missing(what, scope) {
            let place = scope.map(|namespace| format!(" (namespace {namespace})")).unwrap_or_default();
            self.readiness.wait_for(what, format!("{why}{place}"));
        }
    }

    pub(super) async fn all_synced(&self) {
        // The sender lives as long as the gate, so that waiting can't fail.
        let _ = self.missing.subscribe().wait_for(|missing| missing.values().all(BTreeSet::is_empty)).await;
    }
}

const RESOURCES: &str = "robotosecrets.robotosecret.dev";
pub(super) const PROVIDERS: &str = "clusterrobotoproviders.robotosecret.dev";
pub(super) const OWN_PROVIDERS: &str = "robotoproviders.robotosecret.dev";
pub(super) const NAMESPACES: &str = "namespaces";
pub(super) const CLUSTER_RESOURCES: &str = "clusterrobotosecrets.robotosecret.dev";
pub(super) const PUSHES: &str = "robotopushes.robotosecret.dev";
pub(super) const PUSHED_SECRETS: &str = "secrets that are pushed";
const SECRETS: &str = "secrets";

/// The pauses of a watch that fails. kube's own grow to a minute: for that long after an outage of the API server nothing that is new or
/// changed would be seen.
#[derive(Default)]
pub(super) struct Pauses(watcher::DefaultBackoff);

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next().map(|pause| pause.min(LONGEST_PAUSE))
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {
        self.0.reset();
    }
}

pub(super) fn explain(error: &watcher::Error) -> String {
    let code = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status.code,
        _ => 0,
    };
    match code {
        404 => "the API server does not know it; install the CRDs (kubectl apply -f crds/)".to_owned(),
        401 | 403 => "the controller's ServiceAccount may not list and watch it; check its roles".to_owned(),
        0 => "the API server could not be reached".to_owned(),
        code => format!("the API server failed with HTTP {code}"),
    }
}

pub(super) fn api<K>(client: &Client, scope: Option<&str>) -> Api<K>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    K::DynamicType: Default,
{
    scope.map_or_else(|| Api::all(client.clone()), |namespace| Api::namespaced(client.clone(), namespace))
}

/// Watches resources: keeps their cache, the index of who cares for what, and the queue.
pub(super) async fn resources(client: Client, scope: Option<String>, context: Arc<Context>, gates: Gates) {
    let mut events = pin!(watcher(api::<Guarded>(&client, scope.as_deref()), watcher::Config::default()).backoff(Pauses::default()));
    let mut listed = BTreeSet::new();
    let mut synced = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(resource)) => drop(take_in(&context, resource)),
            Ok(Event::InitApply(resource)) => drop(listed.insert(take_in(&context, resource))),
            Ok(Event::Delete(resource)) => {
                let key = key_of(&resource);
                tracing::info!(namespace = key.0, name = key.1, "the RobotoSecret was deleted");
                forget(&context, &key);
            }
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitDone) => {
                context.resources.keys(scope.as_deref()).iter().filter(|key| !listed.contains(*key)).for_each(|key| forget(&context, key));
                context.fan_out.keep_only(scope.as_deref(), &listed);
                listed.clear();
                if !std::mem::replace(&mut synced, true) {
                    gates.synced(RESOURCES, scope.as_deref());
                }
            }
            Err(error) => gates.trouble(RESOURCES, scope.as_deref(), &error),
        }
    }
}

pub(super) fn key_of<K: ResourceExt>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

fn take_in(context: &Context, resource: Guarded) -> Key {
    let key = key_of(&resource);
    if let Ok(resource) = resource.0 {
        let lane = lane(&resource);
        context.fan_out.see(&resource);
        context.config_maps.refer(&Arc::new(key.clone()), &resource);
        context.queue.push(&context.resources.put(&key, resource), lane);
        if lane == Lane::New {
            context.pushes.release();
        }
    } else {
        tracing::warn!(namespace = key.0, name = key.1, "the resource cannot be read; it is older than the CRD's rules");
        forget(context, &key);
    }
    key
}

/// How urgent a resource is, as its status shows.
pub(super) fn lane(resource: &RobotoSecret) -> Lane {
    let status = resource.status.as_ref();
    if status.and_then(|status| status.observed_generation) != resource.metadata.generation {
        return Lane::New;
    }
    let requested = resource.annotations().get(REFRESH_ANNOTATION);
    let handled = status.and_then(|status| status.last_handled_refresh.as_ref());
    if requested.is_some() && requested != handled { Lane::Event } else { Lane::Periodic }
}

fn forget(context: &Context, key: &Key) {
    context.resources.remove(key);
    context.standings.remove(key);
    context.reader.forget(key);
    context.tellings.forget(key);
    context.rollouts.forget(key);
    context.config_maps.forget(key);
    context.fan_out.forget(key);
    context.pushes.release();
}

/// Watches our Secrets: keeps what is used of their metadata, and wakes the resources that care.
pub(super) async fn secrets(client: Client, scope: Option<String>, context: Arc<Context>, gates: Gates) {
    let config = watcher::Config::default().labels(&format!("{MANAGED_LABEL}=true"));
    let mut events = pin!(watcher(api::<PartialObjectMeta<Secret>>(&client, scope.as_deref()), config).backoff(Pauses::default()));
    let mut listed = BTreeSet::new();
    let mut synced = false;
    let wake = |namespace: &str, seen: &Seen, lane: Lane| {
        let owner = seen.owner.iter().map(|owner| Arc::new((namespace.to_owned(), owner.clone())));
        let interested: BTreeSet<Arc<Key>> = context.resources.with_target(namespace, &seen.name).into_iter().chain(owner).collect();
        for key in &interested {
            context.queue.push(key, lane);
        }
    };
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(secret)) => {
                let (namespace, seen) = (secret.namespace().unwrap_or_default(), Seen::new(&secret.metadata));
                context.secrets.put(&namespace, seen.clone());
                wake(&namespace, &seen, Lane::Drift);
            }
            Ok(Event::Delete(secret)) => {
                let (namespace, seen) = (secret.namespace().unwrap_or_default(), Seen::new(&secret.metadata));
                context.secrets.remove(&namespace, &seen);
                wake(&namespace, &seen, Lane::New);
            }
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(secret)) => {
                let (namespace, seen) = (secret.namespace().unwrap_or_default(), Seen::new(&secret.metadata));
                listed.insert((namespace.clone(), seen.name.clone()));
                context.secrets.put_listed(&namespace, seen);
            }
            Ok(Event::InitDone) => {
                context.secrets.keep_only(scope.as_deref(), &listed);
                listed.clear();
                // After an interruption anything may have happened; a resource whose Secret is right makes no request.
                if std::mem::replace(&mut synced, true) {
                    context.resources.keys(scope.as_deref()).iter().for_each(|key| context.queue.push(key, Lane::Periodic));
                } else {
                    gates.synced(SECRETS, scope.as_deref());
                }
            }
            Err(error) => gates.trouble(SECRETS, scope.as_deref(), &error),
        }
    }
}

/// Watches one kind of providers: keeps their cache, and wakes the resources that read through a changed one. `scope`: the namespace, or all.
pub(super) async fn providers<K>(api: Api<DeserializeGuard<K>>, scope: Option<String>, what: &'static str, context: Arc<Context>, gates: Gates)
where
    K: ProviderResource + DeserializeOwned + Debug + Send + 'static,
{
    let mut events = pin!(watcher(api, watcher::Config::default()).backoff(Pauses::default()));
    let mut listed = BTreeSet::new();
    let mut synced = false;
    let take_in = |provider: DeserializeGuard<K>| {
        let id = ProviderId { namespace: provider.namespace(), name: provider.name_any() };
        let (changed, closed) = context.providers.put(&id, provider.0.map_err(drop).and_then(|provider| Provided::new(&provider).ok_or(())));
        let readers = if changed { context.resources.with_provider(&id) } else { Vec::new() };
        closed.iter().chain(&readers).for_each(|key| context.queue.push(key, Lane::Event));
        id
    };
    let let_go = |id: &ProviderId| {
        let (closed, readers) = (context.providers.remove(id), context.resources.with_provider(id));
        closed.iter().chain(&readers).for_each(|key| context.queue.push(key, Lane::Event));
    };
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(provider)) => drop(take_in(provider)),
            Ok(Event::InitApply(provider)) => drop(listed.insert(take_in(provider))),
            Ok(Event::Delete(provider)) => let_go(&ProviderId { namespace: provider.namespace(), name: provider.name_any() }),
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitDone) => {
                let is_mine = |id: &ProviderId| match (&id.namespace, what == PROVIDERS) {
                    (None, is_cluster) => is_cluster,
                    (Some(namespace), is_cluster) => !is_cluster && scope.as_ref().is_none_or(|scope| scope == namespace),
                };
                context.providers.ids().iter().filter(|id| is_mine(id) && !listed.contains(*id)).for_each(&let_go);
                listed.clear();
                if !std::mem::replace(&mut synced, true) {
                    gates.synced(what, scope.as_deref());
                }
            }
            Err(error) => gates.trouble(what, scope.as_deref(), &error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_that_fails_is_taken_up_again_within_seconds_for_ever() {
        let pauses: Vec<Duration> = Pauses::default().take(1000).collect();
        assert!(pauses.len() == 1000 && pauses.iter().all(|pause| *pause <= LONGEST_PAUSE), "{pauses:?}");
        assert!(pauses[0] < pauses[4], "they grow");
    }
}
