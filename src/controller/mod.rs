//! The controller: watches, hands each resource to [`mirror`], and ends in order.
//!
//! The way to an API server and settings enter; Secrets and statuses leave. Three watches (resources, providers, Secrets; of ConfigMaps only where templates are kept in them), each with its own pauses,
//! and the reader feed one queue: trouble with one of them never slows another. A panic or a hang in one resource never stops the rest.
//! Where several controllers run, one holds the lease and works; the others keep their caches warm and write nothing.

pub mod absence;
mod asking;
mod attendance;
pub mod cache;
pub mod compose;
pub mod decide;
pub mod drift;
pub mod events;
pub mod family;
pub mod fan_out;
mod finalizer;
mod gather;
mod keys;
pub mod lease;
pub mod mirror;
mod missing;
pub mod namespaces;
pub mod plan;
pub mod providers;
pub mod push;
pub mod queue;
pub mod ration;
mod restarts;
mod revoked;
pub mod rollout;
pub mod schedule;
pub mod served;
mod settle;
pub mod status;
pub mod target;
pub mod tellings;
pub mod templates;
pub mod tenant;
mod watches;

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client, Config, core::DeserializeGuard};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use self::{
    cache::{Key, Resources, Secrets, Standings},
    events::Events,
    fan_out::FanOut,
    lease::{Election, Fence, LeaseName, Lost},
    mirror::Context,
    namespaces::NamespaceCache,
    providers::Providers,
    push::Pushes,
    queue::{Next, Queue},
    rollout::Rollouts,
    status::Notice,
    tellings::Tellings,
    templates::ConfigMaps,
    tenant::Terms,
    watches::Gates,
};
use crate::{
    api::{ClusterRobotoProvider, RobotoProvider, RobotoSecret},
    apiserver,
    provider::aws::Ambient,
    reader::{Denied, Lane, Reader},
    telemetry::{Metrics, Readiness, metrics::SERIES, traces},
};

/// How long one look at a resource may take.
const RECONCILE_LIMIT: Duration = Duration::from_mins(2);
/// How long a shutdown waits for what is being written.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(25);

/// How the controller runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The namespaces to serve; empty for all.
    pub namespaces: Vec<String>,
    /// How many resources are written at the same time.
    pub concurrency: u16,
    /// How often the time of the last check alone is written, at most.
    pub status_interval: Duration,
    /// Whether workloads may be restarted after a rotation.
    pub allow_rollout: bool,
    /// Whether `ClusterRobotoSecret`s are served.
    pub fan_out: bool,
    /// The namespaces in which `RobotoPush`es are served, and whose Secrets may be read for that; empty for no pushing at all.
    pub push: Vec<String>,
    /// What providers may do, whoever writes them.
    pub terms: Terms,
    /// Whether Secrets are never read, not even their metadata: what the answers to writes show is all that is known of them.
    pub confined: bool,
    /// The lease that says which of several controllers works; `None`: this one does.
    pub lease: Option<LeaseName>,
    /// The pod's name, for events and the lease.
    pub instance: Option<String>,
}

/// The controller's inside, for the health server.
#[derive(Clone, Default)]
pub struct Insight(Arc<std::sync::OnceLock<(Arc<Context>, Option<Fence>)>>);

impl Insight {
    /// All metrics as text, with the totals of this moment and, where `each` asks for them, those of each resource.
    #[must_use]
    pub fn metrics(&self, metrics: &Metrics, each: bool) -> String {
        let Some((context, fence)) = self.0.get() else { return metrics.render(None) };
        metrics.leads(fence.as_ref().is_none_or(Fence::is_open));
        metrics.totals(context.standings.totals(Timestamp::now(), |key| context.reader.last_check(key)));
        let (pushes, pushed) = context.pushes.totals();
        metrics.pushes(pushes, pushed);
        metrics.render(each.then(|| context.standings.successes(SERIES, |key| context.reader.last_check(key))))
    }
}

/// Why the controller ended before it was stopped. Whoever runs the process starts it anew.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// A part of it that runs for ever has ended. Nothing would be read, seen or written any more while all seems well.
    #[error("a defect of the controller ended a part of it that must not end; please report it with the controller's log")]
    Defect,
    /// What this process knows may be outdated, since another one works.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// No client for the API server could be made.
    #[error("no client for the API server could be made: {0}")]
    Client(&'static str),
}

impl From<kube::Error> for Ended {
    /// The error itself may quote a proxy's address, and with it a password.
    fn from(error: kube::Error) -> Self {
        Self::Client(apiserver::unusable(&error))
    }
}

/// Runs until the token is cancelled; then finishes what is being written.
///
/// # Errors
///
/// When it ends before.
pub async fn run(config: Config, settings: Settings, metrics: Metrics, readiness: Readiness, insight: Insight, stop: CancellationToken) -> Result<(), Ended> {
    let mut election = None;
    let client = match settings.lease {
        Some(name) => {
            let candidate = election.insert(Election::new(Client::try_from(config.clone())?, name, settings.instance.as_deref()));
            lease::fenced(config, &candidate.fence())?
        }
        None => Client::try_from(config)?,
    };
    let (events, publishing) = Events::start(client.clone(), settings.instance, metrics.clone());
    let reader = Arc::new(Reader::new(metrics.clone()));
    let namespaces = Arc::new(NamespaceCache::default());
    let ambient = Ambient::load().await;
    let context = Arc::new(Context {
        client: client.clone(),
        providers: Providers::new(client.clone(), settings.terms, ambient, namespaces.clone(), reader.clone(), metrics.clone()),
        secrets: Secrets::default(),
        resources: Resources::default(),
        fan_out: FanOut::default(),
        pushes: Pushes::new(&settings.push, election.as_ref().map(Election::fence)),
        namespaces,
        standings: Standings::default(),
        queue: Queue::default(),
        reader,
        tellings: Tellings::default(),
        rollouts: Rollouts::default(),
        config_maps: ConfigMaps::default(),
        allow_rollout: settings.allow_rollout,
        confined: settings.confined,
        events,
        metrics,
        status_interval: settings.status_interval,
    });
    let _ = insight.0.set((context.clone(), election.as_ref().map(Election::fence)));
    let everybody = settings.namespaces.is_empty();
    let scopes: Vec<Option<String>> = if settings.namespaces.is_empty() { vec![None] } else { settings.namespaces.into_iter().map(Some).collect() };
    let mut beside = JoinSet::new();
    let gates = Gates::new(&readiness, context.namespaces.clone(), &scopes, settings.confined, settings.fan_out);
    start_watches(&context, scopes, settings.fan_out, &settings.push, &gates, &mut beside);
    if let Some(candidate) = &mut election {
        let win = async {
            // Who knows nothing yet would only keep others from working.
            gates.all_synced().await;
            candidate.win(&readiness).await;
        };
        let stopped = tokio::select! {
            ended = until_stopped(&mut beside, &stop) => Some(ended),
            () = win => None,
        };
        if let Some(ended) = stopped {
            return ended;
        }
    }
    let end = CancellationToken::new();
    let mut leading = tokio::spawn(lead(election, end.clone(), readiness));
    let done = CancellationToken::new();
    let (attending, synced) = (context.clone(), gates.clone());
    beside.spawn(async move {
        synced.all_synced().await;
        attendance::run(attending, everybody).await;
    });
    if settings.fan_out {
        beside.spawn(fan_out::run(context.clone(), gates.clone(), everybody));
    }
    let mut working = start_work(&context, settings.concurrency.into(), gates.clone(), &mut beside, &stop, &done);
    if !settings.push.is_empty() {
        working.spawn(push::run(context.clone(), gates, done.clone()));
    }
    let ended = tokio::select! {
        ended = until_stopped(&mut beside, &stop) => ended,
        ended = until_stopped(&mut working, &stop) => ended,
        // It ends by itself only when the lease is lost, or by a defect.
        lost = &mut leading => return Err(lost.map_or(Ended::Defect, |lost| lost.err().map_or(Ended::Defect, Ended::Lost))),
    };
    if ended.is_err() {
        tracing::error!("a part of the controller ended that must not; stopping, to be started anew");
    }
    tracing::info!("stopping; finishing what is being written");
    done.cancel();
    beside.shutdown().await;
    if tokio::time::timeout(SHUTDOWN_LIMIT, async { while working.join_next().await.is_some() {} }).await.is_err() {
        tracing::warn!("not everything was finished in time");
    }
    // The health server may hold the context for longer; without its sender the publisher would wait for it.
    let _ = tokio::time::timeout(Duration::from_secs(2), context.events.finish(publishing)).await;
    // Only now may another one begin.
    end.cancel();
    let _ = leading.await;
    tracing::info!("stopped");
    ended
}

/// Starts all that keeps the caches warm, in these scopes (a namespace, or all).
fn start_watches(context: &Arc<Context>, scopes: Vec<Option<String>>, fans_out: bool, pushed: &[String], gates: &Gates, beside: &mut JoinSet<()>) {
    let client = &context.client;
    for scope in scopes {
        if !pushed.is_empty() {
            beside.spawn(push::watch(client.clone(), scope.clone(), context.clone(), gates.clone()));
        }
        beside.spawn(watches::resources(client.clone(), scope.clone(), context.clone(), gates.clone()));
        if !context.confined {
            beside.spawn(watches::secrets(client.clone(), scope.clone(), context.clone(), gates.clone()));
        }
        beside.spawn(namespaces::watch(client.clone(), scope.clone(), context.clone(), gates.clone()));
        let own = watches::api::<DeserializeGuard<RobotoProvider>>(client, scope.as_deref());
        beside.spawn(watches::providers(own, scope.clone(), watches::OWN_PROVIDERS, context.clone(), gates.clone()));
        beside.spawn(templates::watch(client.clone(), scope.clone(), context.clone()));
    }
    if fans_out {
        beside.spawn(fan_out::watch(context.clone(), gates.clone()));
    }
    for namespace in pushed {
        beside.spawn(push::watch_secrets(client.clone(), namespace.clone(), context.clone(), gates.clone()));
    }
    let everybodys = Api::<DeserializeGuard<ClusterRobotoProvider>>::all(client.clone());
    beside.spawn(watches::providers(everybodys, None, watches::PROVIDERS, context.clone(), gates.clone()));
}

/// Keeps the lease, if there is one, until `end`.
async fn lead(election: Option<Election>, end: CancellationToken, readiness: Readiness) -> Result<(), Lost> {
    if let Some(election) = election {
        return election.lead(end, readiness).await;
    }
    end.cancelled().await;
    Ok(())
}

/// Starts all that reads stores and writes. What is being read at `stop` is dropped; what is being written is finished after `done`.
fn start_work(
    context: &Arc<Context>,
    concurrency: usize,
    gates: Gates,
    beside: &mut JoinSet<()>,
    stop: &CancellationToken,
    done: &CancellationToken,
) -> JoinSet<()> {
    let telling = context.clone();
    beside.spawn(async move { telling.tellings.run(|key| telling.queue.push(&Arc::new(key.clone()), Lane::Periodic)).await });
    beside.spawn(restarts::run(context.clone()));
    beside.spawn(missing::watch_mass_absence(context.clone()));
    beside.spawn(keys::watch(context.clone()));
    let (reading, until) = (context.clone(), stop.clone());
    beside.spawn(async move {
        let reader = reading.reader.clone();
        reader.run(|key, lane| reading.queue.push(key, lane), |denied| tell_denied(&reading, &denied), until).await;
    });
    context.queue.open();
    for key in context.resources.keys(None) {
        if let Some(resource) = context.resources.get(&key) {
            context.queue.push(&key, watches::lane(&resource));
        }
    }
    let mut working = JoinSet::new();
    working.spawn(work(context.clone(), concurrency, gates, done.clone()));
    working
}

/// Waits for the token, as long as nothing ends that runs for ever.
async fn until_stopped(parts: &mut JoinSet<()>, stop: &CancellationToken) -> Result<(), Ended> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        _ = parts.join_next() => Err(Ended::Defect),
    }
}

/// Tells that a provider's identity may not read in company.
fn tell_denied(context: &Context, denied: &Denied) {
    let Some(provider) = context.providers.of(denied.scope) else { return };
    let Denied { lot, error, .. } = denied;
    let note =
        format!("the identity may not call {}; grant it. Until then everything is read one by one, which costs up to {} times the calls", lot.action, lot.size);
    tracing::warn!(provider = %provider.id, action = lot.action, problem = error.message, detail = error.detail, "batch reads are denied");
    context.events.publish_about(Notice { warning: true, reason: "BatchDenied", action: "Read", note }, provider.about.clone());
}

/// Works the queue until the controller stops; then finishes what it has begun.
async fn work(context: Arc<Context>, concurrency: usize, gates: Gates, stop: CancellationToken) {
    tokio::select! {
        () = gates.all_synced() => {}
        () = stop.cancelled() => return,
    }
    tracing::info!("caches are synced; mirroring");
    let mut at_work = JoinSet::new();
    while !stop.is_cancelled() {
        while at_work.len() < concurrency
            && let Some((key, lane)) = context.queue.pop()
        {
            at_work.spawn(look(key, lane, context.clone()));
        }
        tokio::select! {
            () = stop.cancelled() => {}
            Some(_) = at_work.join_next() => {}
            () = context.queue.changed(), if at_work.len() < concurrency => {}
        }
    }
    while at_work.join_next().await.is_some() {}
}

/// Hands a resource on. A panic or a hang stays here.
async fn look(key: Arc<Key>, lane: Lane, context: Arc<Context>) {
    let next = match context.resources.get(&key) {
        Some(resource) => {
            let started = std::time::Instant::now();
            let span = traces::reconcile(&key.0, &key.1, lane.as_str());
            let next = reconcile(&key, &resource, &context).instrument(span).await;
            context.metrics.reconciled(started.elapsed());
            next
        }
        // It was deleted meanwhile.
        None => Next::OnChange,
    };
    context.queue.done(&key, next);
}

async fn reconcile(key: &Arc<Key>, resource: &RobotoSecret, context: &Context) -> Next {
    let work = tokio::time::timeout(RECONCILE_LIMIT, mirror::reconcile(key, resource, context));
    let defect = match AssertUnwindSafe(work).catch_unwind().await {
        Ok(Ok(next)) => return next,
        Ok(Err(_)) => "working on the resource took longer than two minutes and was given up; it is tried again",
        Err(_) => "a defect of the controller met this resource; it is tried again. Please report it with the controller's log",
    };
    let recorded = AssertUnwindSafe(mirror::record_defect(key, resource, context, defect)).catch_unwind().await;
    recorded.unwrap_or(Next::In(RECONCILE_LIMIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_ends_ends_the_controller_and_a_stop_is_none() {
        let stop = CancellationToken::new();
        let mut parts = JoinSet::new();
        parts.spawn(std::future::pending());
        parts.spawn(async { panic!("a defect") });
        assert!(until_stopped(&mut parts, &stop).await.is_err());
        // What ends because of the stop is no defect.
        let mut parts = JoinSet::new();
        parts.spawn(stop.clone().cancelled_owned());
        stop.cancel();
        assert!(until_stopped(&mut parts, &stop).await.is_ok());
    }
}
