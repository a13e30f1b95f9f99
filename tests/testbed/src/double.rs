//! What the doubles of HTTP stores stand on: a server in this process, on a loopback port, that answers from a state behind a lock. Requests enter,
//! answers leave; what is recorded of them is the double's.

use std::fmt::{self, Debug};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderMap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// One request.
pub struct Question {
    /// The method.
    pub method: String,
    /// The path, percent-decoded, with the slash before it.
    pub path: String,
    /// The path as it was sent.
    pub raw_path: String,
    /// What follows the `?`, as it was sent.
    pub query: String,
    headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Question {
    /// A header; "" if it isn't there.
    #[must_use]
    pub fn header(&self, name: &str) -> String {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    }

    /// The body as JSON; null if it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A field of the query, decoded as forms are.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<String> {
        let decode = |text: &str| percent_encoding::percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        self.query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| decode(value))
    }
}

/// An answer: a status, and a body unless it is null.
pub type Reply = (u16, Value);

/// What a double knows.
pub trait Answers: Send + 'static {
    /// Answers one request.
    fn answer(&mut self, question: &Question) -> Reply;
}

/// A running server. Ends on drop.
pub struct Double<S> {
    address: SocketAddr,
    state: Arc<Mutex<S>>,
    /// None only during drop.
    runtime: Option<Runtime>,
}

impl<S> Debug for Double<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Double").field("address", &self.address).finish_non_exhaustive()
    }
}

impl<S> Drop for Double<S> {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl<S: Answers> Double<S> {
    /// Listens on a free loopback port.
    pub fn start(state: S) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("double").enable_all().build()?;
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        runtime.spawn(async move {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(Arc::clone(&shared), request));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(Self { address, state, runtime: Some(runtime) })
    }
}

impl<S> Double<S> {
    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it knows.
    pub fn state(&self) -> MutexGuard<'_, S> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer<S: Answers>(state: Arc<Mutex<S>>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
    let (parts, body) = request.into_parts();
    let raw_path = parts.uri.path().to_owned();
    let question = Question {
        method: parts.method.to_string(),
        path: percent_encoding::percent_decode_str(&raw_path).decode_utf8_lossy().into_owned(),
        raw_path,
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers,
        body: body.collect().await?.to_bytes(),
    };
    let (status, value) = state.lock().unwrap_or_else(PoisonError::into_inner).answer(&question);
    let body = if value.is_null() { Bytes::new() } else { value.to_string().into() };
    Ok(Response::builder().status(status).header("content-type", "application/json").body(Full::new(body))?)
}
