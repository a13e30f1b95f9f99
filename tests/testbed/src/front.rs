//! A server between the controller and moto that counts and misbehaves. AWS calls enter, moto's answers leave, unless a
//! [`Fault`] says otherwise; each call is recorded. It must never record a value, only names.
//!
//! It runs on a thread of its own, so that tests with a runtime each can share it. Nothing here retries or times out: what
//! the client sees is what AWS would have sent.

use std::convert::Infallible;
use std::fmt::{self, Debug};
use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, JoinSet};

use crate::aws;

/// How long connections take to close when the front goes down; they have nothing to finish.
const DOWN_WITHIN: Duration = Duration::from_secs(10);

/// One call that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// `secretsmanager`, `ssm` or `sts`; "" for anything else.
    pub service: &'static str,
    /// The action, for instance `GetSecretValue`; "" if the request named none.
    pub action: String,
    /// The secret ids, parameter names or path that it asks for, as they were sent: an ARN stays an ARN, a selector stays on.
    pub ids: Vec<String>,
    /// The HTTP status of the answer; none yet if the call is under way, hangs or was cut off.
    pub status: Option<u16>,
    /// When it arrived.
    pub at: Instant,
}

/// What happens instead of forwarding a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// An AWS error in the form that the call's protocol has.
    Error {
        /// The HTTP status: 400 for a refusal, 500 and above for trouble at AWS.
        status: u16,
        /// The error code, for instance `ThrottlingException`.
        code: String,
        /// The text for people.
        message: String,
    },
    /// 400 `AccessDeniedException` as IAM words it. `BatchGetSecretValue` answers as AWS does: 200, this id among `Errors`, the
    /// other secrets as they are.
    Denied {
        /// The id that may not be read.
        id: String,
    },
    /// As `Denied`, but it is the key that may not be used.
    KmsDenied {
        /// The id that can't be decrypted.
        id: String,
    },
    /// This status and body, as JSON by its content type.
    Body {
        /// The HTTP status.
        status: u16,
        /// The body, which need not be JSON.
        body: String,
    },
    /// No answer at all; the connection stays open.
    Hang,
    /// Waits until no fault holds calls back any more; then the call is forwarded as if nothing had been.
    Hold,
}

/// A rule that makes matching calls fail.
pub struct Fault {
    matcher: Box<dyn Fn(&Call) -> bool + Send>,
    answer: Answer,
    left: Option<usize>,
}

impl Fault {
    /// Gives `answer` to each call that `matcher` says yes to. The call's `status` is none at that point.
    pub fn new(matcher: impl Fn(&Call) -> bool + Send + 'static, answer: Answer) -> Self {
        Self { matcher: Box::new(matcher), answer, left: None }
    }

    /// Applies to the next `times` matching calls only.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.left = Some(times);
        self
    }
}

impl Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault").field("answer", &self.answer).field("left", &self.left).finish_non_exhaustive()
    }
}

/// Names a fault, to take it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultId(u64);

/// The running server. All methods take `&self`, work with and without a runtime, and hardly block. Ends on drop.
pub struct Front {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: Mutex<Listening>,
    /// None only during drop.
    runtime: Option<Runtime>,
}

struct Shared {
    moto: String,
    client: Client<HttpConnector, Full<Bytes>>,
    record: Mutex<Record>,
}

#[derive(Default)]
struct Record {
    calls: Vec<Call>,
    faults: Vec<(FaultId, Fault)>,
    next_id: u64,
}

enum Listening {
    Up {
        server: JoinHandle<()>,
        /// Disconnected when the last socket is closed.
        closed: Receiver<Infallible>,
    },
    /// Bound without listening: the port stays ours and connections are refused.
    Down(TcpSocket),
    /// Neither: taking the port back failed.
    Lost,
}

impl Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Front {
    /// Listens on a free loopback port and forwards to `moto_url`, for instance `http://127.0.0.1:5000`.
    pub fn start(moto_url: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("front").enable_all().build()?;
        let socket = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let shared =
            Shared { moto: moto_url.trim_end_matches('/').to_owned(), client: Client::builder(TokioExecutor::new()).build_http(), record: Mutex::default() };
        let address = socket.local_addr()?;
        let front = Self { address, shared: Arc::new(shared), listening: Mutex::new(Listening::Down(socket)), runtime: Some(runtime) };
        front.up()?;
        Ok(front)
    }

    /// The endpoint to give to AWS clients, for instance `http://127.0.0.1:43123`. It stays the same over [`Front::down`] and [`Front::up`].
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A new Secrets Manager client that goes through this server.
    #[must_use]
    pub fn secrets_manager(&self) -> aws_sdk_secretsmanager::Client {
        aws::secrets_manager(&self.url())
    }

    /// A new Parameter Store client that goes through this server.
    #[must_use]
    pub fn ssm(&self) -> aws_sdk_ssm::Client {
        aws::ssm(&self.url())
    }

    /// All calls so far, in the order in which they arrived.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.shared.record().calls.clone()
    }

    /// How many of the calls so far `matcher` says yes to.
    #[must_use]
    pub fn count(&self, matcher: impl Fn(&Call) -> bool) -> usize {
        self.shared.record().calls.iter().filter(|call| matcher(call)).count()
    }

    /// Adds a fault. Where several match a call, the one added last decides; a call is only used up on the fault that decides
    /// (each denied id in a `BatchGetSecretValue` counts for its own).
    pub fn add_fault(&self, fault: Fault) -> FaultId {
        let mut record = self.shared.record();
        record.next_id += 1;
        let id = FaultId(record.next_id);
        // The newest comes first.
        record.faults.insert(0, (id, fault));
        id
    }

    /// Takes one fault back; nothing happens if it is gone. A call that hangs goes on hanging.
    pub fn remove_fault(&self, id: FaultId) {
        self.shared.record().faults.retain(|(other, _)| *other != id);
    }

    /// Takes all faults back. A call that hangs goes on hanging.
    pub fn clear_faults(&self) {
        self.shared.record().faults.clear();
    }

    /// IAM denies every call that names `id` (exactly as it is sent).
    pub fn deny(&self, id: &str) -> FaultId {
        let name = id.to_owned();
        self.add_fault(Fault::new(move |call| call.ids.contains(&name), Answer::Denied { id: id.to_owned() }))
    }

    /// KMS denies the decryption of `id` (exactly as it is sent).
    pub fn kms_denied(&self, id: &str) -> FaultId {
        let name = id.to_owned();
        self.add_fault(Fault::new(move |call| call.ids.contains(&name), Answer::KmsDenied { id: id.to_owned() }))
    }

    /// Throttles every call until the fault is taken back.
    pub fn throttle(&self) -> FaultId {
        self.add_fault(Fault::new(|_| true, throttled()))
    }

    /// Throttles the next `calls` calls.
    pub fn throttle_next(&self, calls: usize) -> FaultId {
        self.add_fault(Fault::new(|_| true, throttled()).times(calls))
    }

    /// Answers every call with this status: 503 is `ServiceUnavailable`, any other `InternalFailure`.
    pub fn fail(&self, status: u16) -> FaultId {
        let code = if status == 503 { "ServiceUnavailable" } else { "InternalFailure" };
        let message = "The request processing has failed because of an unknown error.";
        self.add_fault(Fault::new(|_| true, Answer::Error { status, code: code.to_owned(), message: message.to_owned() }))
    }

    /// Accepts every call and never answers.
    pub fn hang(&self) -> FaultId {
        self.add_fault(Fault::new(|_| true, Answer::Hang))
    }

    /// Holds every call back until the fault is taken back.
    pub fn hold(&self) -> FaultId {
        self.add_fault(Fault::new(|_| true, Answer::Hold))
    }

    /// Answers every call with 200 and a body that isn't JSON.
    pub fn malformed(&self) -> FaultId {
        self.add_fault(Fault::new(|_| true, Answer::Body { status: 200, body: "{\"SecretString\": <html>".to_owned() }))
    }

    /// Goes down: open connections are cut, new ones refused, until [`Front::up`]. Nothing happens if it is down. When this
    /// returns, all sockets are closed.
    pub fn down(&self) -> Result<()> {
        let mut listening = self.listening();
        if let Listening::Up { server, closed } = &*listening {
            server.abort();
            if closed.recv_timeout(DOWN_WITHIN) == Err(RecvTimeoutError::Timeout) {
                bail!("the front's connections didn't close within {DOWN_WITHIN:?}");
            }
            *listening = Listening::Lost;
        }
        if matches!(*listening, Listening::Lost) {
            *listening = Listening::Down(bind(self.address)?);
        }
        Ok(())
    }

    /// Comes up again on the same port. Nothing happens if it is up.
    pub fn up(&self) -> Result<()> {
        let mut listening = self.listening();
        if matches!(*listening, Listening::Up { .. }) {
            return Ok(());
        }
        let socket = match std::mem::replace(&mut *listening, Listening::Lost) {
            Listening::Down(socket) => socket,
            _ => bind(self.address)?,
        };
        let runtime = self.runtime.as_ref().context("the front has ended")?;
        // The listener registers with the runtime that it is made in.
        let _inside = runtime.enter();
        let listener = socket.listen(1024).context("listening")?;
        let (alive, closed) = channel();
        let server = runtime.spawn(serve(listener, Arc::clone(&self.shared), alive));
        *listening = Listening::Up { server, closed };
        Ok(())
    }

    fn listening(&self) -> MutexGuard<'_, Listening> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // An ordinary drop of a runtime waits, which panics inside another one.
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    fn holds(&self) -> bool {
        self.faults.iter().any(|(_, fault)| fault.answer == Answer::Hold)
    }

    /// The answers that faults give to this call: none, one, or all the denied items of a batch.
    fn answers(&mut self, call: &Call) -> Vec<Answer> {
        let mut answers = Vec::new();
        for (_, fault) in &mut self.faults {
            if fault.left == Some(0) || !(fault.matcher)(call) {
                continue;
            }
            let of_an_item = call.action == "BatchGetSecretValue" && matches!(fault.answer, Answer::Denied { .. } | Answer::KmsDenied { .. });
            if !of_an_item && !answers.is_empty() {
                continue;
            }
            fault.left = fault.left.map(|left| left - 1);
            answers.push(fault.answer.clone());
            if !of_an_item {
                break;
            }
        }
        answers
    }
}

/// A socket that holds an address without listening on it.
fn bind(address: SocketAddr) -> Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // Connections that were just cut must not keep the port from us.
    socket.set_reuseaddr(true)?;
    socket.bind(address).with_context(|| format!("binding {address}"))?;
    Ok(socket)
}

/// Serves until it is aborted; then its connections go with it. Each task holds a clone of `alive` for as long as its socket.
async fn serve(listener: TcpListener, shared: Arc<Shared>, alive: Sender<Infallible>) {
    let alive = alive;
    let listener = listener;
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        // Ended connections would otherwise be kept for their results.
        while connections.try_join_next().is_some() {}
        let (shared, alive) = (Arc::clone(&shared), alive.clone());
        connections.spawn(async move {
            // Declared first, so dropped last.
            let _alive = alive;
            let service = service_fn(move |request| answer(Arc::clone(&shared), request));
            // An error here is a client that went away.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let call = read_call(&parts.headers, &body);
    let (index, answers) = {
        let mut record = shared.record();
        let answers = record.answers(&call);
        record.calls.push(call.clone());
        (record.calls.len() - 1, answers)
    };
    let response = match answers.as_slice() {
        [] => forward(&shared, parts, body).await,
        [Answer::Hang] => pending().await,
        [Answer::Hold] => {
            while shared.record().holds() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            forward(&shared, parts, body).await
        }
        [Answer::Body { status, body }] => json_response(*status, body.clone().into()),
        [Answer::Error { status, code, message }] => error_response(call.service, *status, code, message),
        items if call.action == "BatchGetSecretValue" => batch_without(&shared, &call, parts, &body, items).await,
        [denied, ..] => {
            let (code, message) = refusal(&call, denied);
            error_response(call.service, 400, code, &message)
        }
    };
    if let Some(call) = shared.record().calls.get_mut(index) {
        call.status = Some(response.status().as_u16());
    }
    Ok(response)
}

/// What a request asks for, without any value in it.
fn read_call(headers: &HeaderMap, body: &Bytes) -> Call {
    let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut call = Call { service: "", action: String::new(), ids: Vec::new(), status: None, at: Instant::now() };
    if let Some((service, action)) = target.rsplit_once('.') {
        call.service = match service {
            "secretsmanager" => "secretsmanager",
            "AmazonSSM" => "ssm",
            _ => "",
        };
        action.clone_into(&mut call.action);
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        for field in ["SecretId", "SecretIdList", "Name", "Names", "Path"] {
            match &json[field] {
                Value::String(id) => call.ids.push(id.clone()),
                Value::Array(ids) => call.ids.extend(ids.iter().filter_map(Value::as_str).map(str::to_owned)),
                _ => {}
            }
        }
    } else if let Some(action) = String::from_utf8_lossy(body).split('&').find_map(|field| field.strip_prefix("Action=")) {
        // STS is the only service with the query protocol here.
        call.service = "sts";
        action.clone_into(&mut call.action);
    }
    call
}

/// Code and message as IAM or KMS words them.
fn refusal(call: &Call, answer: &Answer) -> (&'static str, String) {
    const USER: &str = "User: arn:aws:iam::123456789012:user/testbed is not authorized to perform:";
    let message = match answer {
        Answer::KmsDenied { .. } if call.service == "secretsmanager" => "Access to KMS is not allowed".to_owned(),
        Answer::KmsDenied { .. } => format!(
            "{USER} kms:Decrypt on resource: arn:aws:kms:{}:123456789012:key/11111111-2222-3333-4444-555555555555 because no \
             identity-based policy allows the kms:Decrypt action",
            aws::REGION
        ),
        Answer::Denied { id } => {
            // The items of a batch are read under the permission for single reads.
            let action = if call.action == "BatchGetSecretValue" { "GetSecretValue" } else { &call.action };
            let action = format!("{}:{action}", call.service);
            format!("{USER} {action} on resource: {id} because no identity-based policy allows the {action} action")
        }
        _ => String::new(),
    };
    ("AccessDeniedException", message)
}

fn throttled() -> Answer {
    Answer::Error { status: 400, code: "ThrottlingException".to_owned(), message: "Rate exceeded".to_owned() }
}

/// Forwards a batch without the denied ids and adds them to the `Errors` of the answer.
async fn batch_without(shared: &Shared, call: &Call, parts: Parts, body: &Bytes, items: &[Answer]) -> Response<Full<Bytes>> {
    let denied: Vec<(&str, Value)> = items
        .iter()
        .filter_map(|item| match item {
            Answer::Denied { id } | Answer::KmsDenied { id } => {
                let (code, message) = refusal(call, item);
                Some((id.as_str(), json!({"SecretId": id, "ErrorCode": code, "Message": message})))
            }
            _ => None,
        })
        .collect();
    let mut question: Value = serde_json::from_slice(body).unwrap_or_default();
    let mut rest = call.ids.clone();
    rest.retain(|id| !denied.iter().any(|(other, _)| other == id));
    let mut answer = json!({"SecretValues": [], "Errors": []});
    if !rest.is_empty() {
        question["SecretIdList"] = json!(rest);
        let response = forward(shared, parts, question.to_string().into()).await;
        if response.status() != StatusCode::OK {
            return response;
        }
        let Ok(body) = response.into_body().collect().await;
        answer = serde_json::from_slice(&body.to_bytes()).unwrap_or(answer);
    }
    let mut errors = answer["Errors"].as_array().cloned().unwrap_or_default();
    errors.extend(denied.into_iter().map(|(_, error)| error));
    answer["Errors"] = json!(errors);
    json_response(200, answer.to_string().into())
}

/// Sends the request to moto and hands back its answer; 502 with the reason if moto doesn't answer.
async fn forward(shared: &Shared, parts: Parts, body: Bytes) -> Response<Full<Bytes>> {
    let attempt = async {
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = parts.method;
        *request.uri_mut() = format!("{}{path}", shared.moto).parse::<Uri>()?;
        *request.headers_mut() = parts.headers;
        strip(request.headers_mut());
        let (mut head, body) = shared.client.request(request).await?.into_parts();
        strip(&mut head.headers);
        anyhow::Ok(Response::from_parts(head, Full::new(body.collect().await?.to_bytes())))
    };
    attempt.await.unwrap_or_else(|error| json_response(502, format!("the testbed's front can't reach moto: {error:#}").into()))
}

/// Takes out what belongs to one connection or is computed anew.
fn strip(headers: &mut HeaderMap) {
    for name in [HOST, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT] {
        headers.remove(name);
    }
}

fn json_response(status: u16, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"));
    response.headers_mut().insert("x-amzn-requestid", HeaderValue::from_static("11111111-2222-3333-4444-555555555555"));
    response
}

/// An error in awsJson1.1, or in XML for STS.
fn error_response(service: &str, status: u16, code: &str, message: &str) -> Response<Full<Bytes>> {
    if service == "sts" {
        let kind = if status < 500 { "Sender" } else { "Receiver" };
        let xml = format!(
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>{kind}</Type><Code>{code}</Code>\
             <Message>{message}</Message></Error><RequestId>11111111-2222-3333-4444-555555555555</RequestId></ErrorResponse>"
        );
        let mut response = json_response(status, xml.into());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/xml"));
        return response;
    }
    json_response(status, json!({"__type": code, "Message": message}).to_string().into())
}
