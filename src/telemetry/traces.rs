//! Traces: what was done for a resource and when, as spans for an OpenTelemetry collector. Off unless an endpoint is given.
//!
//! The spans of this room enter, and leave as OTLP over HTTP. Nobody else's span or event ever does: those of the Kubernetes client and
//! the AWS SDK can hold values. Nor does any attribute that [`ATTRIBUTES`] does not list, or the text of an error. What cannot be delivered
//! is dropped; nobody waits for a collector.

use std::{
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use aws_smithy_http_client::{
    Connector,
    tls::{Provider as TlsProvider, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::{http::HttpConnector, orchestrator::HttpRequest};
use aws_smithy_types::body::SdkBody;
use opentelemetry::{KeyValue, trace::Status, trace::TracerProvider};
use opentelemetry_http::{Bytes, HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData, SpanEvents, SpanExporter, SpanLinks},
};
use tokio::runtime::Handle;
use tracing::{Span, Subscriber, field::Empty, info_span};
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

/// Whose spans are exported, and are kept out of the log.
pub const TARGET: &str = "robotosecret::trace";
/// All that a span may say, in the words of the log and the metrics.
const ATTRIBUTES: [&str; 8] = ["namespace", "name", "lane", "outcome", "store", "api", "count", "kind"];
/// How long one delivery may take.
const DELIVERY_LIMIT: Duration = Duration::from_secs(5);
/// How long what is left may take at the end.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);

/// A look at a resource.
#[must_use]
pub fn reconcile(namespace: &str, name: &str, lane: &'static str) -> Span {
    info_span!(target: TARGET, "reconcile", namespace, name, lane, outcome = Empty, otel.status_code = Empty)
}

/// A call to a store that asks for this many secrets or parameters.
#[must_use]
pub fn store_call(store: &'static str, api: &'static str, count: usize) -> Span {
    info_span!(target: TARGET, "store_call", otel.kind = "client", store, api, count, outcome = Empty, otel.status_code = Empty)
}

/// A write to the API server.
#[must_use]
pub fn kube_write(kind: &'static str) -> Span {
    info_span!(target: TARGET, "kube_write", otel.kind = "client", kind, outcome = Empty, otel.status_code = Empty)
}

/// Says of a span how it ended: in one word of ours.
pub fn outcome(span: &Span, outcome: &'static str, failed: bool) {
    span.record("outcome", outcome);
    if failed {
        span.record("otel.status_code", "ERROR");
    }
}

/// Checks a collector's address. One with a name and password in it would be shown wherever it is told.
///
/// # Errors
/// What to write instead.
pub fn endpoint(text: &str) -> Result<String, &'static str> {
    let advice = "a URL of http or https, without user, query or fragment: http://collector.monitoring:4318";
    let url: http::Uri = text.parse().map_err(|_| advice)?;
    let understood = matches!(url.scheme_str(), Some("http" | "https")) && url.authority().is_some_and(|host| !host.as_str().contains('@'));
    if understood && url.query().is_none() && !text.contains('#') { Ok(text.trim_end_matches('/').to_owned()) } else { Err(advice) }
}

/// The way to the collector.
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Opens the way. `endpoint` is the collector's base address; `instance` names this process among others. To be called within a runtime,
    /// which makes the deliveries.
    ///
    /// # Errors
    /// When the exporter cannot be made with it. Its own words are not told: they may hold what stands in the environment's `OTEL_*`.
    pub fn start(endpoint: &str, instance: Option<&str>) -> Result<Self, Unusable> {
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(Courier::new())
            .with_endpoint(format!("{endpoint}/v1/traces"))
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(DELIVERY_LIMIT)
            .build()
            .map_err(|_| Unusable)?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let pod = instance.map(|pod| KeyValue::new("k8s.pod.name", pod.to_owned()));
        let mut resource = Resource::builder().with_attributes([version].into_iter().chain(pod));
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("robotosecret");
        }
        Ok(Self(SdkTracerProvider::builder().with_batch_exporter(Guarded(exporter)).with_resource(resource.build()).build()))
    }

    /// What takes the spans of this room, and nothing else.
    #[must_use]
    pub fn layer<S: Subscriber + for<'s> LookupSpan<'s> + Send + Sync>(&self) -> Box<dyn Layer<S> + Send + Sync> {
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("robotosecret"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false)
            .with_filter(filter_fn(|about| about.is_span() && about.target() == TARGET))
            .boxed()
    }

    /// Delivers what is left, for a moment at most.
    pub async fn finish(self) {
        // It blocks, and what it waits for needs the runtime. What is not delivered by then is lost.
        let _ = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(FLUSH_LIMIT)).await;
    }
}

/// No exporter can be made for the collector's address.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("traces cannot be sent to the address of --otlp-endpoint, with what the environment's OTEL_* variables say besides")]
pub struct Unusable;

/// Lets nothing through but what is listed, whatever the layers before it took in.
#[derive(Debug)]
struct Guarded<E>(E);

impl<E: SpanExporter> SpanExporter for Guarded<E> {
    fn export(&self, mut batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        batch.iter_mut().for_each(strip);
        self.0.export(batch)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

fn strip(span: &mut SpanData) {
    span.attributes.retain(|attribute| ATTRIBUTES.contains(&attribute.key.as_str()));
    (span.events, span.links) = (SpanEvents::default(), SpanLinks::default());
    if matches!(span.status, Status::Error { .. }) {
        span.status = Status::error("");
    }
}

/// Delivers over the HTTP stack that the stores are asked with, on the controller's runtime: the exporter's own thread has none.
#[derive(Debug)]
struct Courier {
    connector: std::sync::Arc<Connector>,
    runtime: Handle,
    failing: AtomicBool,
}

impl Courier {
    fn new() -> Self {
        let connector = Connector::builder().tls_provider(TlsProvider::Rustls(CryptoMode::Ring)).build();
        Self { connector: connector.into(), runtime: Handle::current(), failing: AtomicBool::new(false) }
    }

    async fn deliver(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, Undelivered> {
        let request = HttpRequest::try_from(request.map(SdkBody::from)).map_err(|_| Undelivered::Unreachable)?;
        let connector = self.connector.clone();
        let delivery = async move { tokio::time::timeout(DELIVERY_LIMIT, connector.call(request)).await };
        let answer = self.runtime.spawn(delivery).await.map_err(|_| Undelivered::Unreachable)?;
        let answer = answer.map_err(|_| Undelivered::TimedOut)?.map_err(|_| Undelivered::Unreachable)?;
        let status = answer.status();
        if !status.is_success() {
            return Err(Undelivered::Refused(status.as_u16()));
        }
        // What the collector has to say besides is nobody's concern here.
        let mut delivered = http::Response::new(Bytes::new());
        *delivered.status_mut() = http::StatusCode::from_u16(status.as_u16()).unwrap_or_default();
        Ok(delivered)
    }
}

/// Why spans were not delivered.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum Undelivered {
    #[error("the collector could not be reached")]
    Unreachable,
    #[error("the collector did not answer in time")]
    TimedOut,
    #[error("the collector answered with HTTP {0}")]
    Refused(u16),
}

impl HttpClient for Courier {
    // As `async_trait` writes it.
    fn send_bytes<'life0, 'async_trait>(
        &'life0 self,
        request: http::Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<http::Response<Bytes>, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let delivered = self.deliver(request).await;
            // Once for an outage, not once for each delivery in it.
            let failed_before = self.failing.swap(delivered.is_err(), Ordering::Relaxed);
            match &delivered {
                Err(why) if !failed_before => tracing::warn!(%why, "traces cannot be delivered and are dropped; nothing else is affected"),
                Ok(_) if failed_before => tracing::info!("traces are delivered again"),
                _ => {}
            }
            delivered.map_err(Into::into)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        borrow::Cow,
        sync::{Arc, Mutex},
    };

    use opentelemetry::{InstrumentationScope, SpanId, trace::SpanContext, trace::SpanKind};
    use opentelemetry_sdk::trace::SimpleSpanProcessor;
    use tracing::Instrument;
    use tracing_subscriber::prelude::*;

    use super::*;

    #[derive(Clone, Debug, Default)]
    struct Kept(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Kept {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(batch);
            Ok(())
        }
    }

    fn said(span: &SpanData) -> Vec<(String, String)> {
        span.attributes.iter().map(|attribute| (attribute.key.to_string(), attribute.value.to_string())).collect()
    }

    #[tokio::test]
    async fn our_spans_alone_leave_with_what_is_listed_and_no_event() {
        let kept = Kept::default();
        let traces = Traces(SdkTracerProvider::builder().with_span_processor(SimpleSpanProcessor::new(Guarded(kept.clone()))).build());
        let _default = tracing::subscriber::set_default(tracing_subscriber::registry().with(traces.layer()));
        let work = async {
            tracing::error!(target: TARGET, password = "hunter2", "an event");
            tracing::error!(secret = "hunter2", "of another target");
            let foreign = info_span!("HTTP", body = "hunter2");
            let write = kube_write("Secret");
            outcome(&write, "error", true);
            drop(write);
            drop(foreign);
            outcome(&Span::current(), "Mirrored", false);
        };
        work.instrument(reconcile("shop", "db", "new")).await;
        drop(store_call("aws.sm", "GetSecretValue", 1));
        drop(info_span!(target: TARGET, "unlisted", value = "hunter2", name = "db"));
        let spans = kept.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let names: Vec<&str> = spans.iter().map(|span| &*span.name).collect();
        assert_eq!(names, ["kube_write", "reconcile", "store_call", "unlisted"]);
        assert!(!format!("{spans:?}").contains("hunter2"), "{spans:?}");
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(said(&spans[0]), [pair("kind", "Secret"), pair("outcome", "error")]);
        assert_eq!(said(&spans[1]), [pair("namespace", "shop"), pair("name", "db"), pair("lane", "new"), pair("outcome", "Mirrored")]);
        assert_eq!(said(&spans[2]), [pair("store", "aws.sm"), pair("api", "GetSecretValue"), pair("count", "1")]);
        assert_eq!((spans[0].parent_span_id, spans[0].status.clone()), (spans[1].span_context.span_id(), Status::error("")));
        assert!(spans.iter().all(|span| span.events.is_empty()), "{spans:?}");
    }

    #[test]
    fn an_errors_text_and_an_event_are_cut_from_whatever_comes() {
        let mut span = SpanData {
            span_context: SpanContext::empty_context(),
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: Cow::Borrowed("reconcile"),
            start_time: std::time::SystemTime::UNIX_EPOCH,
            end_time: std::time::SystemTime::UNIX_EPOCH,
            attributes: vec![KeyValue::new("name", "db"), KeyValue::new("exception.message", "hunter2")],
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::error("hunter2"),
            instrumentation_scope: InstrumentationScope::default(),
        };
        strip(&mut span);
        assert_eq!((said(&span), span.status), (vec![("name".to_owned(), "db".to_owned())], Status::error("")));
    }

    #[test]
    fn an_address_is_a_plain_url() {
        assert_eq!(endpoint("http://collector:4318/").as_deref(), Ok("http://collector:4318"));
        assert_eq!(endpoint("https://otlp.example.com/tenant").as_deref(), Ok("https://otlp.example.com/tenant"));
        for wrong in ["", "collector:4318", "grpc://collector:4317", "https://user:password@collector", "http://collector?x=1", "http://collector/#x"] {
            assert!(endpoint(wrong).is_err(), "{wrong}");
        }
    }
}
