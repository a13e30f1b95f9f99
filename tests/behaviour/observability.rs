//! What an administrator sees of the controller: traces, the metrics of each resource, the life of one resource in the log.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, body::Bytes, http::StatusCode, response::IntoResponse, routing::post};
use kube::api::DeleteParams;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value},
    trace::v1::{Span, status::StatusCode as SpanStatus},
};
use prost::Message;
use serde_json::{Value, json};

use crate::support::{Controller, SECONDS, Scene, WITHIN_TTL, apply_object, root, scene_before_controller, until, world};

/// Some spans leave within this time: they are gathered for 5 s, on a machine that is busy with other tests.
const DELIVERED: Duration = Duration::from_secs(60);

/// How a collector treats what it is sent.
const TAKES: usize = 0;
const REFUSES: usize = 1;
const HANGS: usize = 2;

/// An OpenTelemetry collector on a thread of its own, which keeps what it is sent. It stays until the process ends.
#[derive(Clone)]
struct Collector {
    address: SocketAddr,
    behaves: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
    bodies: Arc<Mutex<Vec<Bytes>>>,
}

impl Collector {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let collector = Self { address: listener.local_addr().unwrap(), behaves: Arc::default(), asked: Arc::default(), bodies: Arc::default() };
        let at_work = collector.clone();
        std::thread::spawn(move || {
            let take = async move |headers: axum::http::HeaderMap, body: Bytes| {
                at_work.asked.fetch_add(1, Ordering::Relaxed);
                assert_eq!(headers["content-type"], "application/x-protobuf");
                match at_work.behaves.load(Ordering::Relaxed) {
                    TAKES => at_work.bodies.lock().unwrap().push(body),
                    REFUSES => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
                    _ => std::future::pending().await,
                }
                StatusCode::OK.into_response()
            };
            let router = Router::new().route("/v1/traces", post(take));
            tokio::runtime::Runtime::new().unwrap().block_on(async { axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), router).await })
        });
        collector
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn behave(&self, how: usize) {
        self.behaves.store(how, Ordering::Relaxed);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    fn received(&self) -> Vec<ExportTraceServiceRequest> {
        self.bodies.lock().unwrap().iter().map(|body| ExportTraceServiceRequest::decode(body.clone()).unwrap()).collect()
    }

    fn spans(&self) -> Vec<Span> {
        let resources = self.received().into_iter().flat_map(|request| request.resource_spans);
        resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
    }
}

fn attributes(of: &[KeyValue]) -> BTreeMap<&str, String> {
    let text = |value: &KeyValue| match value.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => panic!("{other:?}"),
    };
    of.iter().map(|attribute| (attribute.key.as_str(), text(attribute))).collect()
}

/// The spans of this name with at least these attributes.
fn found<'s>(spans: &'s [Span], name: &str, with: &[(&str, &str)]) -> Vec<&'s Span> {
    let has = |span: &&Span| {
        let attributes = attributes(&span.attributes);
        span.name == name && with.iter().all(|(key, value)| attributes.get(key).is_some_and(|is| is == value))
    };
    spans.iter().filter(has).collect()
}

#[tokio::test]
async fn what_is_done_for_a_resource_shows_as_traces_without_a_value() {
    scene_before_controller("traces", async |s| {
        let collector = Collector::start();
        s.provide(&["*"]).await;
        s.start_controller(&["--otlp-endpoint", &collector.url()]).await;
        s.put_secret("db", &s.value("one")).await;
        s.put_parameter("p", &s.value("p")).await;
        s.apply("db", &format!("data: [{{key: a, uri: 'aws.sm://{}'}}, {{key: b, uri: 'aws.ps:///{}'}}]", s.path("db"), s.path("p"))).await;
        s.apply("wrong", &format!("uri: 'aws.sm://{}#/nobody'", s.path("db"))).await;
        s.ready("db").await;
        s.condition("wrong", "Ready", "False KeypathNotFound", SECONDS).await;
        s.put_secret("db", &s.value("two")).await;
        s.refresh("db", "1").await;
        s.event("db", "Updated").await;
        // Some leave while it runs, and what is left at its end.
        until("the first spans are delivered", DELIVERED, async || (!collector.spans().is_empty()).then_some(())).await;
        s.put_secret("last", &s.value("last")).await;
        s.apply("last", &format!("uri: aws.sm://{}", s.path("last"))).await;
        s.ready("last").await;
        assert_eq!(s.stop_controller(), 0);

        let spans = collector.spans();
        let of = |name: &'static str, outcome: &'static str| [("namespace", s.namespace.as_str()), ("name", name), ("outcome", outcome)];
        for (name, lane) in [("db", "new"), ("db", "event"), ("last", "new")] {
            let mirrored = found(&spans, "reconcile", &[&of(name, "Mirrored")[..], &[("lane", lane)]].concat());
            assert!(!mirrored.is_empty(), "{name} in lane {lane}: {spans:#?}");
            // What was written for it belongs to its trace.
            let written = |kind: &str| {
                let all = found(&spans, "kube_write", &[("kind", kind), ("outcome", "ok")]);
                all.iter().any(|write| mirrored.iter().any(|look| write.trace_id == look.trace_id && write.parent_span_id == look.span_id))
            };
            assert!(written("Secret") && written("Status"), "{name} in lane {lane}: {spans:#?}");
        }
        assert!(!found(&spans, "reconcile", &of("db", "Asked")).is_empty(), "{spans:#?}");
        let failed = found(&spans, "reconcile", &of("wrong", "KeypathNotFound"));
        let status = failed.first().unwrap_or_else(|| panic!("{spans:#?}")).status.clone().unwrap_or_default();
        assert_eq!((status.code(), status.message.as_str()), (SpanStatus::Error, ""));
        for (store, api) in [("aws.sm", "GetSecretValue"), ("aws.ps", "GetParameter")] {
            assert!(!found(&spans, "store_call", &[("store", store), ("api", api), ("count", "1"), ("outcome", "ok")]).is_empty(), "{api}: {spans:#?}");
        }

        // Nothing else: no span of a library, no attribute that is not listed, no event, and above all no value.
        let names: BTreeSet<&str> = spans.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(names, BTreeSet::from(["reconcile", "store_call", "kube_write"]));
        let said: BTreeSet<&str> = spans.iter().flat_map(|span| attributes(&span.attributes).into_keys()).collect();
        assert_eq!(said, BTreeSet::from(["namespace", "name", "lane", "outcome", "store", "api", "count", "kind"]));
        assert!(spans.iter().all(|span| span.events.is_empty() && span.links.is_empty() && span.end_time_unix_nano >= span.start_time_unix_nano));
        let bodies: Vec<String> = collector.bodies.lock().unwrap().iter().map(|body| String::from_utf8_lossy(body).into_owned()).collect();
        let leaks: Vec<_> = bodies.iter().flat_map(|body| s.canary.scan("traces", body)).collect();
        assert!(leaks.is_empty(), "{leaks:?}");
        let received = collector.received();
        let resource = received[0].resource_spans[0].resource.as_ref().unwrap();
        let resource = attributes(&resource.attributes);
        assert_eq!((resource["service.name"].as_str(), resource["service.version"].as_str()), ("robotosecret", env!("CARGO_PKG_VERSION")));
    })
    .await;
}

#[tokio::test]
async fn a_collector_that_fails_costs_nothing_but_the_traces_and_is_told_once() {
    scene_before_controller("collector-down", async |s| {
        let collector = Collector::start();
        collector.behave(REFUSES);
        s.provide(&["*"]).await;
        s.start_controller(&["--otlp-endpoint", &collector.url()]).await;
        s.put_secret("db", &s.value("one")).await;
        s.apply("db", &format!("uri: aws.sm://{}", s.path("db"))).await;
        s.ready("db").await;
        // A delivery is tried more than once; between these counts there was more than one delivery.
        until("several deliveries are refused", DELIVERED * 2, async || (collector.asked() >= 9).then_some(())).await;
        let told = |s: &Scene, text: &str| s.controller().process.log().unwrap().lines().filter(|line| line.contains(text)).count();
        assert_eq!(told(s, "traces cannot be delivered"), 1, "{}", s.log_tail());
        assert_eq!(told(s, "the collector answered with HTTP 503"), 1);
        collector.behave(TAKES);
        until("a delivery is taken", DELIVERED, async || (!collector.spans().is_empty()).then_some(())).await;
        until("it is told", SECONDS, async || (told(s, "traces are delivered again") == 1).then_some(())).await;
        // One that hangs delays neither a rotation nor the end.
        collector.behave(HANGS);
        let asked = collector.asked();
        s.rechecked(&s.path("db"), 1).await;
        until("a delivery hangs", DELIVERED, async || (collector.asked() > asked).then_some(())).await;
        s.put_secret("db", &s.value("two")).await;
        s.refresh("db", "1").await;
        s.holds("db", &[("value", &s.value("two"))], SECONDS).await;
        let stopping = Instant::now();
        assert_eq!(s.stop_controller(), 0);
        assert!(stopping.elapsed() < Duration::from_secs(12), "it took {:?} to stop", stopping.elapsed());
    })
    .await;
}

#[tokio::test]
async fn each_resource_has_its_metric_if_that_is_asked_for_and_takes_it_along() {
    scene_before_controller("resource-metrics", async |s| {
        s.provide(&["*"]).await;
        s.start_controller(&["--resource-metrics"]).await;
        s.put_secret("db", &s.value("a")).await;
        let uri = format!("uri: 'aws.sm://{}'", s.path("db"));
        s.apply("db", &uri).await;
        s.apply("gone", &uri).await;
        s.apply("paused", &uri).await;
        s.apply("once", &format!("{{{uri}, refreshPolicy: Once}}")).await;
        s.apply("wrong", &format!("uri: 'aws.sm://{}'", s.path("nobody"))).await;
        for name in ["db", "gone", "paused", "once"] {
            s.ready(name).await;
        }
        s.condition("wrong", "Ready", "False SourceNotFound", SECONDS).await;
        let series = |s: &Scene, name: &str| {
            let start = format!("robotosecret_last_success_timestamp_seconds{{namespace=\"{}\",name=\"{name}\"}} ", s.namespace);
            s.controller().page("/metrics").1.lines().find_map(|line| line.strip_prefix(&start)?.parse::<i64>().ok())
        };
        let now = || i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()).unwrap();
        let first = series(s, "db").unwrap();
        assert!((now() - 120..=now()).contains(&first), "{first}");
        assert_eq!((series(s, "wrong"), series(s, "once")), (Some(0), None), "never, and not rechecked");
        until("a recheck shows", WITHIN_TTL, async || (series(s, "db")? > first).then_some(())).await;
        s.resources().delete("gone", &DeleteParams::default()).await.unwrap();
        s.patch("paused", json!({"spec": {"suspend": true}})).await;
        until("what is not rechecked any more has none", SECONDS, async || (series(s, "gone").or(series(s, "paused")).is_none()).then_some(())).await;

        // All that is served is documented, and the other way round.
        s.put_parameter("p", &s.value("b")).await;
        s.apply("p", &format!("uri: 'aws.ps:///{}'", s.path("p"))).await;
        s.ready("p").await;
        let (_, text) = s.controller().page("/metrics");
        let document = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
        let documented: BTreeSet<String> =
            document.lines().filter_map(|line| Some(format!("robotosecret_{}", line.strip_prefix("| `robotosecret_")?.split(['`', '{']).next()?))).collect();
        let families: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
        let shown = families.iter().map(|(name, kind)| match *kind {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => (*name).to_owned(),
        });
        assert_eq!(shown.collect::<BTreeSet<_>>(), documented, "the documents and /metrics differ\n{text}");
    })
    .await;
}

/// Starts a controller as an administrator does: JSON lines at the usual level.
fn start_at_info(s: &mut Scene, kubeconfig: &Path, arguments: &[&str]) -> PathBuf {
    let credentials = [("AWS_ACCESS_KEY_ID", testbed::aws::ACCESS_KEY_ID), ("AWS_SECRET_ACCESS_KEY", testbed::aws::SECRET_ACCESS_KEY)];
    let arguments = [&["--namespaces", s.namespace.as_str()][..], arguments].concat();
    let dir = world().dir.join(&s.namespace);
    let controller = Controller::start_with(Path::new(env!("CARGO_BIN_EXE_robotosecret")), kubeconfig, &arguments, &credentials, &dir).unwrap();
    let log = controller.process.log_path().to_owned();
    s.controller = Some(controller);
    log
}

#[tokio::test]
async fn the_log_tells_the_life_of_a_resource_in_lines_that_name_it() {
    scene_before_controller("log-life", async |s| {
        s.provide(&["*"]).await;
        let kubeconfig = s.account(&["rollout.enabled=true"], |_| true).await;
        let log = start_at_info(s, &kubeconfig, &["--allow-rollout"]);
        s.controller_ready().await;
        let labels = json!({"app": "web"});
        let pods = json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "registry.example.com/app:1"}]}});
        let web = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": s.namespace},
            "spec": {"selector": {"matchLabels": labels}, "template": pods},
        });
        apply_object(&s.client, &web).await.unwrap();
        // What is told of a resource so far, other than by its neighbours.
        let lines = || -> Vec<Value> {
            let all = std::fs::read_to_string(&log).unwrap();
            let all = all.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            all.filter(|line| line["name"] == "db" && line["namespace"] == s.namespace.as_str()).collect()
        };
        let says = |message: &str, reason: &str, part: &str| {
            let is = |line: &Value| {
                let text = format!("{} {}", line["note"].as_str().unwrap_or_default(), line["problem"].as_str().unwrap_or_default());
                line["message"] == message && (reason.is_empty() || line["reason"] == reason) && text.contains(part)
            };
            lines().iter().any(is)
        };
        let told = async |message: &str, reason: &str, part: &str| {
            until(&format!("the log says {message:?} {reason} {part:?}: {:#?}", lines()), WITHIN_TTL * 2, async || says(message, reason, part).then_some(()))
                .await;
        };
        s.put_secret("db", &s.value("one")).await;
        s.apply("neighbour", &format!("uri: aws.sm://{}", s.path("db"))).await;
        s.apply("db", &format!("{{uri: 'aws.sm://{}', rollout: [{{kind: Deployment, name: web}}]}}", s.path("db"))).await;
        told("told", "Mirrored", "1 key mirrored into the Secret db").await;
        s.put_secret("db", &s.value("two")).await;
        s.refresh("db", "1").await;
        told("told", "Updated", "has a new version").await;
        told("told", "RolledOut", "the Deployment web is restarted").await;
        s.tamper("db", "kubectl-edit", json!({"data": {"value": "eA=="}})).await;
        told("told", "Mirrored", "changed by kubectl-edit and put right again").await;
        let down = s.front.fail(503);
        s.refresh("db", "2").await;
        told("check failed", "ProviderUnavailable", "").await;
        told("told", "CheckFailed", "ProviderUnavailable").await;
        s.front.remove_fault(down);
        told("recovered", "ProviderUnavailable", "").await;
        s.patch("db", json!({"spec": {"target": {"name": "database"}}})).await;
        told("told", "Removed", "the Secret db was removed").await;
        s.resources().delete("db", &DeleteParams::default()).await.unwrap();
        told("the RobotoSecret was deleted", "", "").await;
        // At this level it is a life and no diary.
        assert!(lines().len() < 30, "{:#?}", lines());
    })
    .await;
}
