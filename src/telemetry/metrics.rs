//! Metrics in the Prometheus text format. Counts enter, the text of a scrape leaves. Labels have few values and never name a secret; a
//! resource is named in one metric only, which has to be asked for.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;
use prometheus_client::{
    encoding::{
        EncodeLabelSet,
        text::{encode_eof, encode_registry},
    },
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};
use tracing::Instrument;

use super::traces;
use crate::reader::Key;

const PREFIX: &str = "robotosecret";
/// How many resources are named at most, those that were checked longest ago first: what a scrape may cost has an end.
pub const SERIES: usize = 10_000;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProviderCall {
    store: &'static str,
    api: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProviderApi {
    store: &'static str,
    api: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KubeWrite {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Named {
    namespace: String,
    name: String,
}

#[derive(Clone)]
struct Seconds;

impl MetricConstructor<Histogram> for Seconds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(exponential_buckets(0.005, 2.0, 13))
    }
}

/// Totals over all resources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// All resources.
    pub resources: usize,
    /// Those that are Ready.
    pub ready: usize,
    /// Those that are Fresh.
    pub fresh: usize,
    /// Those whose Secret is kept although a source is not there.
    pub retained: usize,
    /// The age of the oldest good check among those that are rechecked.
    pub oldest: Duration,
}

/// All metrics; a clone counts into the same ones.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    calls: Family<ProviderCall, Counter>,
    call_seconds: Family<ProviderApi, Histogram, Seconds>,
    reconcile_seconds: Histogram,
    kube_writes: Family<KubeWrite, Counter>,
    mirrored: Gauge,
    fresh: Gauge,
    retained: Gauge,
    resources: Gauge,
    pushes: Gauge,
    pushed: Gauge,
    leader: Gauge,
    oldest_check: Gauge<f64, AtomicU64>,
    panics: Counter,
    coalesced: Counter,
    batch_denied: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register("build", "The version that runs", Info::new(Build { version: env!("CARGO_PKG_VERSION") }));
        let calls = Family::<ProviderCall, Counter>::default();
        let call_seconds = Family::<ProviderApi, Histogram, Seconds>::new_with_constructor(Seconds);
        let reconcile_seconds = Seconds.new_metric();
        let kube_writes = Family::<KubeWrite, Counter>::default();
        let (resources, mirrored, fresh, retained) = (Gauge::default(), Gauge::default(), Gauge::default(), Gauge::default());
        let oldest_check = Gauge::<f64, AtomicU64>::default();
        let panics = Counter::default();
        let leader = Gauge::default();
        registry.register("leader", "Whether this controller works (1) or follows another one (0)", leader.clone());
        registry.register("provider_calls", "Calls to a store, by API and outcome: ok or the reason of the failure", calls.clone());
        registry.register_with_unit("provider_call", "How long calls to a store took", Unit::Seconds, call_seconds.clone());
        registry.register_with_unit("reconcile", "How long the controller worked on a resource at a time", Unit::Seconds, reconcile_seconds.clone());
        registry.register("kube_writes", "Writes to the API server, by kind and outcome", kube_writes.clone());
        registry.register("resources", "RobotoSecrets that the controller knows", resources.clone());
        registry.register("mirrored", "RobotoSecrets that are Ready", mirrored.clone());
        registry.register("fresh", "RobotoSecrets whose last recheck worked", fresh.clone());
        registry.register("retained", "RobotoSecrets whose Secret is kept although a source is not in the store", retained.clone());
        let (pushes, pushed) = (Gauge::default(), Gauge::default());
        registry.register("pushes", "RobotoPushes that the controller serves and that are not suspended", pushes.clone());
        registry.register("pushed", "Those of them that are Ready and Fresh", pushed.clone());
        registry.register_with_unit(
            "oldest_check_age",
            "Age of the oldest good check among the RobotoSecrets that are rechecked",
            Unit::Seconds,
            oldest_check.clone(),
        );
        registry.register("reconcile_panics", "Defects that were caught while working on a resource", panics.clone());
        let coalesced = Counter::default();
        registry.register("references_coalesced", "References that were read by a call made for another one, too", coalesced.clone());
        let batch_denied = Counter::default();
        registry.register("batch_denied", "How often a provider was found to be denied an API that reads several at once", batch_denied.clone());
        Self {
            registry: Arc::new(registry),
            calls,
            call_seconds,
            reconcile_seconds,
            kube_writes,
            mirrored,
            fresh,
            retained,
            resources,
            pushes,
            pushed,
            leader,
            oldest_check,
            panics,
            coalesced,
            batch_denied,
        }
    }
}

impl Metrics {
    /// Counts one call to a store. `outcome` is `ok` or a reason.
    pub fn provider_call(&self, store: &'static str, api: &'static str, outcome: &'static str, took: Duration) {
        self.calls.get_or_create(&ProviderCall { store, api, outcome }).inc();
        self.call_seconds.get_or_create(&ProviderApi { store, api }).observe(took.as_secs_f64());
    }

    /// Counts references that were read by a call made for another one, too.
    pub fn coalesced(&self, references: usize) {
        self.coalesced.inc_by(u64::try_from(references).unwrap_or(u64::MAX));
    }

    /// Counts a provider that was found to be denied an API that reads several at once.
    pub fn batch_denied(&self) {
        self.batch_denied.inc();
    }

    /// Makes one write to the API server, counted and traced. `kind` is `Secret`, `Status`, `Event`, `Finalizer` or `Workload`.
    pub async fn kube_write<T, E>(&self, kind: &'static str, write: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let span = traces::kube_write(kind);
        let result = write.instrument(span.clone()).await;
        let outcome = if result.is_ok() { "ok" } else { "error" };
        traces::outcome(&span, outcome, result.is_err());
        self.kube_writes.get_or_create(&KubeWrite { kind, outcome }).inc();
        result
    }

    /// Records how long a reconcile took.
    pub fn reconciled(&self, took: Duration) {
        self.reconcile_seconds.observe(took.as_secs_f64());
    }

    /// Counts a caught panic or a reconcile that hung.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// Sets whether this controller works.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Sets the totals over all resources.
    pub fn totals(&self, totals: Totals) {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.resources.set(count(totals.resources));
        self.mirrored.set(count(totals.ready));
        self.fresh.set(count(totals.fresh));
        self.retained.set(count(totals.retained));
        self.oldest_check.set(totals.oldest.as_secs_f64());
    }

    /// Sets how many `RobotoPush`es there are, and how many of them are well.
    pub fn pushes(&self, all: usize, well: usize) {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.pushes.set(count(all));
        self.pushed.set(count(well));
    }

    /// All metrics as text, for a scrape; also those of each resource (when it was last checked with success), if they are given.
    #[must_use]
    pub fn render(&self, successes: Option<Vec<(Arc<Key>, Option<Timestamp>)>>) -> String {
        // Made anew for each scrape, so that a resource takes its own with it.
        let mut each = Registry::with_prefix(PREFIX);
        if let Some(successes) = successes {
            let family = Family::<Named, Gauge>::default();
            for (key, success) in successes {
                let named = Named { namespace: key.0.clone(), name: key.1.clone() };
                family.get_or_create(&named).set(success.map_or(0, Timestamp::as_second));
            }
            each.register_with_unit("last_success_timestamp", "When the RobotoSecret was last checked with success; 0: never yet", Unit::Seconds, family);
        }
        let mut text = String::new();
        let encoded = encode_registry(&mut text, &self.registry).and_then(|()| encode_registry(&mut text, &each)).and_then(|()| encode_eof(&mut text));
        // Writing into a String fails only if a metric's own encoder does; an empty answer then shows as a failed scrape.
        if encoded.is_err() {
            text.clear();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn metrics_carry_the_documented_names() {
        let metrics = Metrics::default();
        metrics.provider_call("aws.sm", "GetSecretValue", "ok", Duration::from_millis(12));
        assert_eq!(metrics.kube_write("Secret", async { Ok::<_, ()>(7) }).await, Ok(7));
        metrics.totals(Totals { resources: 2, ready: 1, fresh: 1, retained: 1, oldest: Duration::from_secs(90) });
        let key = |name: &str| Arc::new(("shop".to_owned(), name.to_owned()));
        let text = metrics.render(Some(vec![(key("never"), None), (key("db"), Timestamp::from_second(1_800_000_000).ok())]));
        assert!(!metrics.render(None).contains("shop"), "a resource is named although nobody asked for it");
        for line in [
            concat!("robotosecret_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
            r#"robotosecret_last_success_timestamp_seconds{namespace="shop",name="db"} 1800000000"#,
            r#"robotosecret_last_success_timestamp_seconds{namespace="shop",name="never"} 0"#,
            "# EOF",
            r#"robotosecret_provider_calls_total{store="aws.sm",api="GetSecretValue",outcome="ok"} 1"#,
            r#"robotosecret_kube_writes_total{kind="Secret",outcome="ok"} 1"#,
            "robotosecret_mirrored 1",
            "robotosecret_fresh 1",
            "robotosecret_retained 1",
            "robotosecret_oldest_check_age_seconds 90",
            "robotosecret_reconcile_seconds_count 0",
            "robotosecret_provider_call_seconds_count",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
