//! The controller: watches, hands each resource to [`mirror`], and ends in order.
//!
//! A client and settings enter; Secrets and statuses leave. Three watches (resources, providers, Secrets), each with its own pauses,
//! feed one queue: trouble with one of them never slows another. A panic or a hang in one resource never stops the rest.

pub mod cache;
pub mod decide;
pub mod drift;
pub mod events;
pub mod mirror;
pub mod plan;
pub mod providers;
pub mod ration;
pub mod schedule;
mod settle;
pub mod status;
pub mod target;

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::{Stream, StreamExt, TryStreamExt, channel::mpsc, future::BoxFuture};
use k8s_openapi::{api::core::v1::Secret, jiff::Timestamp};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        Config, WatchStreamExt, applier,
        controller::Action,
        reflector::{self, ObjectRef, Store, store::Writer},
        watcher::{self, Event, watcher},
    },
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::{
    cache::{Key, Resources, Secrets, Standings},
    drift::Seen,
    events::Events,
    mirror::Context,
    providers::Providers,
};
use crate::{
    api::{ClusterRobotoProvider, MANAGED_LABEL, RobotoSecret},
    provider::aws::Ambient,
    telemetry::{Metrics, Readiness},
};

/// How long one look at a resource may take.
const RECONCILE_LIMIT: Duration = Duration::from_mins(2);
/// How long a shutdown waits for what is being written.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(25);

type Guarded = DeserializeGuard<RobotoSecret>;
type Providing = DeserializeGuard<ClusterRobotoProvider>;
type Queue = mpsc::UnboundedSender<ObjectRef<Guarded>>;

/// How the controller runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The namespaces to serve; empty for all.
    pub namespaces: Vec<String>,
    /// How many resources are worked on at the same time, in each namespace that is watched by itself.
    pub concurrency: u16,
    /// How often the time of the last check alone is written, at most.
    pub status_interval: Duration,
    /// The pod's name, for events.
    pub instance: Option<String>,
}

/// The controller's inside, for the health server.
#[derive(Clone, Default)]
pub struct Insight(Arc<std::sync::OnceLock<Arc<Context>>>);

impl Insight {
    /// All metrics as text, with the totals of this moment.
    #[must_use]
    pub fn metrics(&self, metrics: &Metrics) -> String {
        if let Some(context) = self.0.get() {
            metrics.totals(context.standings.totals(Timestamp::now()));
        }
        metrics.render()
    }
}

/// Runs until the token is cancelled; then finishes what is being written.
pub async fn run(client: Client, settings: Settings, metrics: Metrics, readiness: Readiness, insight: Insight, stop: CancellationToken) {
    let (known_providers, provider_writer) = reflector::store();
    let (events, publishing) = Events::start(client.clone(), settings.instance.clone(), metrics.clone());
    let context = Arc::new(Context {
        client: client.clone(),
        providers: Providers::new(known_providers.clone(), Ambient::load().await, metrics.clone()),
        secrets: Secrets::default(),
        resources: Resources::default(),
        standings: Standings::default(),
        events,
        metrics,
        status_interval: settings.status_interval,
    });
    let _ = insight.0.set(context.clone());
    let scopes: Vec<Option<String>> = if settings.namespaces.is_empty() { vec![None] } else { settings.namespaces.iter().cloned().map(Some).collect() };
    let mut watches = JoinSet::new();
    let mut working = JoinSet::new();
    let mut queues = Vec::new();
    let gates = Gates::new(&readiness, scopes.len());
    for scope in scopes {
        let (queue, waiting) = mpsc::unbounded();
        let (resources, resource_writer) = reflector::store();
        watches.spawn(watch_resources(client.clone(), scope.clone(), resource_writer, context.clone(), queue.clone(), gates.clone()));
        watches.spawn(watch_secrets(client.clone(), scope.clone(), context.clone(), queue.clone(), gates.clone()));
        queues.push(queue);
        working.spawn(work(resources, waiting, context.clone(), settings.concurrency, gates.clone(), stop.clone()));
    }
    watches.spawn(watch_providers(client, provider_writer, context.clone(), queues, gates));
    stop.cancelled().await;
    tracing::info!("stopping; finishing what is being written");
    watches.shutdown().await;
    if tokio::time::timeout(SHUTDOWN_LIMIT, working.join_all()).await.is_err() {
        tracing::warn!("not everything was finished in time");
    }
    // The health server may hold the context for longer; without its sender the publisher would wait for it.
    let _ = tokio::time::timeout(Duration::from_secs(2), context.events.finish(publishing)).await;
    tracing::info!("stopped");
}

/// Opens when all caches hold their first complete list.
#[derive(Clone)]
struct Gates {
    readiness: Readiness,
    /// How many first lists of each kind are missing.
    missing: Arc<tokio::sync::watch::Sender<BTreeMap<&'static str, usize>>>,
}

impl Gates {
    fn new(readiness: &Readiness, scopes: usize) -> Self {
        let missing = BTreeMap::from([(RESOURCES, scopes), (PROVIDERS, 1), (SECRETS, scopes)]);
        for what in missing.keys() {
            readiness.wait_for(what, "the first list");
        }
        Self { readiness: readiness.clone(), missing: Arc::new(tokio::sync::watch::Sender::new(missing)) }
    }

    fn synced(&self, what: &'static str) {
        self.missing.send_modify(|missing| {
            let left = missing.entry(what).or_default();
            *left = left.saturating_sub(1);
            // Said of each kind by itself, so that what is still waited for does not hide behind what came meanwhile.
            if *left == 0 {
                self.readiness.done(what);
            }
        });
    }

    /// Says in the log and, until its kind is synced, in `/readyz` why a watch does not get on.
    fn trouble(&self, what: &'static str, scope: Option<&str>, error: &watcher::Error) {
        let why = explain(error);
        tracing::warn!(watch = what, namespace = scope, why, "watching failed; trying again");
        if self.missing.borrow().get(what).is_some_and(|left| *left > 0) {
            let place = scope.map(|namespace| format!(" (namespace {namespace})")).unwrap_or_default();
            self.readiness.wait_for(what, format!("{why}{place}"));
        }
    }

    async fn all_synced(&self) {
        // The sender lives as long as the gate, so that waiting can't fail.
        let _ = self.missing.subscribe().wait_for(|missing| missing.values().all(|left| *left == 0)).await;
    }
}

const RESOURCES: &str = "robotosecrets.robotosecret.dev";
const PROVIDERS: &str = "clusterrobotoproviders.robotosecret.dev";
const SECRETS: &str = "secrets";

fn explain(error: &watcher::Error) -> String {
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

fn api<K>(client: &Client, scope: Option<&str>) -> Api<K>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    K::DynamicType: Default,
{
    scope.map_or_else(|| Api::all(client.clone()), |namespace| Api::namespaced(client.clone(), namespace))
}

fn enqueue(queue: &Queue, key: &Key) {
    // The receiver is gone only when the controller stops.
    let _ = queue.unbounded_send(ObjectRef::new(&key.1).within(&key.0));
}

/// Watches resources: keeps their cache, the index of who cares for what, and the queue.
async fn watch_resources(client: Client, scope: Option<String>, writer: Writer<Guarded>, context: Arc<Context>, queue: Queue, gates: Gates) {
    let resources = writer.as_reader();
    // Who manages which field of a resource is of no use here, and much of its size.
    let events = watcher(api::<Guarded>(&client, scope.as_deref()), watcher::Config::default())
        .map_ok(|event| event.modify(|resource| resource.meta_mut().managed_fields = None));
    let mut events = pin!(reflector(writer, events.default_backoff()));
    let mut synced = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(resource) | Event::InitApply(resource)) => {
                let key = (resource.namespace().unwrap_or_default(), resource.name_any());
                index(&context, &key, &resource);
                enqueue(&queue, &key);
            }
            Ok(Event::Delete(resource)) => forget(&context, &(resource.namespace().unwrap_or_default(), resource.name_any())),
            Ok(Event::Init) => {}
            Ok(Event::InitDone) => {
                let gone = context.resources.keys(scope.as_deref()).into_iter().filter(|key| resources.get(&ObjectRef::new(&key.1).within(&key.0)).is_none());
                gone.for_each(|key| forget(&context, &key));
                if !std::mem::replace(&mut synced, true) {
                    gates.synced(RESOURCES);
                }
            }
            Err(error) => gates.trouble(RESOURCES, scope.as_deref(), &error),
        }
    }
}

fn index(context: &Context, key: &Key, resource: &Guarded) {
    let Ok(resource) = &resource.0 else { return context.resources.remove(key) };
    let entries = resource.spec.data.iter().flatten().filter_map(|entry| entry.provider.as_ref());
    let providers: BTreeSet<String> = entries.chain([&resource.spec.provider]).map(|provider| provider.name.clone()).collect();
    context.resources.put(key, &mirror::target_name(resource), providers);
}

fn forget(context: &Context, key: &Key) {
    context.resources.remove(key);
    context.standings.remove(key);
}

/// Watches our Secrets: keeps what is used of their metadata, and wakes the resources that care.
async fn watch_secrets(client: Client, scope: Option<String>, context: Arc<Context>, queue: Queue, gates: Gates) {
    let config = watcher::Config::default().labels(&format!("{MANAGED_LABEL}=true"));
    let mut events = pin!(watcher(api::<PartialObjectMeta<Secret>>(&client, scope.as_deref()), config).default_backoff());
    let mut listed = BTreeSet::new();
    let mut synced = false;
    let wake = |namespace: &str, seen: &Seen| {
        let owner = seen.owner.iter().map(|owner| (namespace.to_owned(), owner.clone()));
        let interested: BTreeSet<Key> = context.resources.with_target(namespace, &seen.name).into_iter().chain(owner).collect();
        for key in &interested {
            enqueue(&queue, key);
        }
    };
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(secret)) => {
                let (namespace, seen) = (secret.namespace().unwrap_or_default(), Seen::new(&secret.metadata));
                context.secrets.put(&namespace, seen.clone());
                wake(&namespace, &seen);
            }
            Ok(Event::Delete(secret)) => {
                let (namespace, seen) = (secret.namespace().unwrap_or_default(), Seen::new(&secret.metadata));
                context.secrets.remove(&namespace, &seen);
                wake(&namespace, &seen);
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
                    context.resources.keys(scope.as_deref()).iter().for_each(|key| enqueue(&queue, key));
                } else {
                    gates.synced(SECRETS);
                }
            }
            Err(error) => gates.trouble(SECRETS, scope.as_deref(), &error),
        }
    }
}

/// Watches providers: keeps their cache, and wakes the resources that read through a changed one.
async fn watch_providers(client: Client, writer: Writer<Providing>, context: Arc<Context>, queues: Vec<Queue>, gates: Gates) {
    let events =
        watcher(Api::<Providing>::all(client), watcher::Config::default()).map_ok(|event| event.modify(|provider| provider.meta_mut().managed_fields = None));
    let mut events = pin!(reflector(writer, events.default_backoff()));
    let mut synced = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(provider) | Event::InitApply(provider) | Event::Delete(provider)) => {
                context.providers.forget_gone();
                for key in context.resources.with_provider(&provider.name_any()) {
                    // Each queue knows only the resources of its own namespaces and passes over the others.
                    for queue in &queues {
                        enqueue(queue, &key);
                    }
                }
            }
            Ok(Event::Init) => {}
            Ok(Event::InitDone) => {
                if !std::mem::replace(&mut synced, true) {
                    gates.synced(PROVIDERS);
                }
            }
            Err(error) => gates.trouble(PROVIDERS, None, &error),
        }
    }
}

fn reflector<K>(writer: Writer<K>, events: impl Stream<Item = watcher::Result<Event<K>>>) -> impl Stream<Item = watcher::Result<Event<K>>>
where
    K: Resource<DynamicType = ()> + Clone,
{
    kube::runtime::reflector(writer, events)
}

/// Works the queue of one scope until the controller stops; then finishes what it has begun.
async fn work(
    resources: Store<Guarded>,
    waiting: mpsc::UnboundedReceiver<ObjectRef<Guarded>>,
    context: Arc<Context>,
    concurrency: u16,
    gates: Gates,
    stop: CancellationToken,
) {
    tokio::select! {
        () = gates.all_synced() => {}
        () = stop.cancelled() => return,
    }
    tracing::info!("caches are synced; mirroring");
    let queue = waiting.map(Ok::<_, Infallible>).take_until(stop.cancelled_owned());
    let config = Config::default().concurrency(concurrency);
    applier(reconcile, |_, never: &Infallible, _| match *never {}, context, resources, queue, config)
        .for_each(async |result| {
            if let Err(error) = result {
                // A resource that was deleted meanwhile.
                tracing::trace!(%error, "passed over");
            }
        })
        .await;
}

/// Hands a resource on, in a task of its own, so that a panic or a hang stays there.
fn reconcile(guarded: Arc<Guarded>, context: Arc<Context>) -> BoxFuture<'static, Result<Action, Infallible>> {
    Box::pin(async move {
        let Ok(resource) = &guarded.0 else {
            tracing::warn!(namespace = guarded.namespace(), name = guarded.name_any(), "the resource cannot be read; it is older than the CRD's rules");
            return Ok(Action::await_change());
        };
        let started = std::time::Instant::now();
        let (worked_on, at_work) = (guarded.clone(), context.clone());
        let task = tokio::spawn(async move {
            match &worked_on.0 {
                Ok(resource) => tokio::time::timeout(RECONCILE_LIMIT, mirror::reconcile(resource, &at_work)).await,
                Err(_) => Ok(Action::await_change()),
            }
        });
        let defect = match task.await {
            Ok(Ok(action)) => Ok(action),
            Ok(Err(_)) => Err("working on the resource took longer than two minutes and was given up; it is tried again"),
            Err(_) => Err("a defect of the controller met this resource; it is tried again. Please report it with the controller's log"),
        };
        let action = match defect {
            Ok(action) => action,
            Err(message) => mirror::record_defect(resource, &context, message).await,
        };
        context.metrics.reconciled(started.elapsed());
        Ok(action)
    })
}
