//! A server between AWS's clients and an emulated AWS that counts and misbehaves. Calls enter, the answers of moto or of the
//! [`crate::Emulator`]'s store leave, unless a [`Fault`] says otherwise; each call is recorded. It must never record a value, only names.
//!
//! It runs on a thread of its own, so that tests with a runtime each can share it. Nothing here retries or times out: what
//! the client sees is what AWS would have sent.

mod behind;
mod fault;
mod record;
pub(crate) mod wire;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::{self, Debug};
use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, JoinSet};

use crate::aws;
use fault::{Faults, Verdict};
use record::Record;
use wire::{Question, Reply, Scissors, Socket, error_response, json_response, not_authorized, refusal};

pub(crate) use behind::Behind;
pub use fault::{Answer, Cut, Fault, FaultId, SSM_READS};
pub use record::{Call, Total};

/// How long connections take to close when the front goes down; they have nothing to finish.
const DOWN_WITHIN: Duration = Duration::from_secs(10);

/// For how long after a write reads answer what was there before: as long as either limit says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stale {
    pub(crate) reads: u32,
    pub(crate) within: Duration,
}

/// The running server. All methods take `&self`, work with and without a runtime, and hardly block. Ends on drop.
pub struct Front {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: Mutex<Listening>,
    /// None only during drop.
    runtime: Option<Runtime>,
}

struct Shared {
    behind: Behind,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    record: Record,
    faults: Faults,
    connections: u64,
}

enum Listening {
    Up {
        server: JoinHandle<()>,
        /// Disconnected when the last socket is closed.
        closed: Receiver<Infallible>,
    },
    /// Bound without listening: the port stays ours and connections are refused.
    Down(TcpSocket),
    /// Neither: coming up failed.
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
        Self::start_at(Ipv4Addr::LOCALHOST, moto_url)
    }

    /// As [`Front::start`], on a free port of this address, for clients that aren't on this machine's loopback.
    pub fn start_at(address: Ipv4Addr, moto_url: &str) -> Result<Self> {
        Self::before_at(address, Behind::moto(moto_url))
    }

    /// Listens on a free loopback port and hands calls to `behind`.
    pub(crate) fn before(behind: Behind) -> Result<Self> {
        Self::before_at(Ipv4Addr::LOCALHOST, behind)
    }

    fn before_at(address: Ipv4Addr, behind: Behind) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("front").enable_all().build()?;
        let socket = bind(SocketAddr::from((address, 0)))?;
        let address = socket.local_addr()?;
        let front = Self {
            address,
            shared: Arc::new(Shared { behind, state: Mutex::default() }),
            listening: Mutex::new(Listening::Down(socket)),
            runtime: Some(runtime),
        };
        front.up()?;
        Ok(front)
    }

    /// The endpoint to give to AWS clients, for instance `http://127.0.0.1:43123`. It stays the same over [`Front::down`] and [`Front::up`].
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
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
        self.shared.state().record.calls.clone()
    }

    /// How many of the calls so far `matcher` says yes to.
    #[must_use]
    pub fn count(&self, matcher: impl Fn(&Call) -> bool) -> usize {
        self.shared.state().record.calls.iter().filter(|call| matcher(call)).count()
    }

    /// The calls so far by action; counted also while the list is off.
    #[must_use]
    pub fn totals(&self) -> BTreeMap<String, Total> {
        self.shared.state().record.totals.clone()
    }

    /// Whether calls are listed from now on (at the start they are). Without it [`Front::calls`] and [`Front::count`] see no new ones.
    pub fn list_calls(&self, on: bool) {
        self.shared.state().record.listing = on;
    }

    /// How many TCP connections were accepted so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.state().connections
    }

    /// The highest number of calls that were in flight at once.
    #[must_use]
    pub fn most_in_flight(&self) -> usize {
        self.shared.state().record.most_in_flight
    }

    /// Starts the list, the totals and the highest number in flight anew. Calls under way stay in flight and count no more.
    pub fn forget_calls(&self) {
        self.shared.state().record.forget();
    }

    /// Adds a fault. Where several match a call, the one added last decides; a call is only used up on the fault that decides.
    /// A fault that answers the whole call wins over those that concern an item or the form of the answer, which all apply (each
    /// denied id in a `BatchGetSecretValue` counts for its own). A delay applies to whatever is answered.
    pub fn add_fault(&self, fault: Fault) -> FaultId {
        self.shared.state().faults.add(fault)
    }

    /// Takes one fault back; nothing happens if it is gone. A call that hangs goes on hanging.
    pub fn remove_fault(&self, id: FaultId) {
        self.shared.state().faults.remove(id);
    }

    /// Takes all faults back. A call that hangs goes on hanging.
    pub fn clear_faults(&self) {
        self.shared.state().faults.clear();
    }

    /// Gives `answer` to every call until it is taken back.
    pub fn always(&self, answer: Answer) -> FaultId {
        self.add_fault(Fault::new(|_| true, answer))
    }

    /// IAM denies every call that names `id` (exactly as it is sent).
    pub fn deny(&self, id: &str) -> FaultId {
        self.add_fault(naming(id, Answer::Denied { id: id.to_owned() }))
    }

    /// KMS denies the decryption of `id` (exactly as it is sent).
    pub fn kms_denied(&self, id: &str) -> FaultId {
        self.add_fault(naming(id, Answer::KmsDenied { id: id.to_owned() }))
    }

    /// Every read of `id` (exactly as it is sent) fails with this error: among the `Errors` of a `BatchGetSecretValue`, else the call.
    pub fn fail_item(&self, id: &str, code: &str) -> FaultId {
        self.add_fault(naming(id, Answer::ItemError { id: id.to_owned(), code: code.to_owned(), message: String::new() }))
    }

    /// Batches say nothing about `id` (exactly as it is sent), and lists haven't got it.
    pub fn leave_out(&self, id: &str) -> FaultId {
        let (id, answer) = (id.to_owned(), Answer::LeftOut { id: id.to_owned() });
        self.add_fault(Fault::new(move |call| call.lists().is_some() || call.ids.contains(&id), answer))
    }

    /// Refuses every call of `action` that names `id` (exactly as it is sent) as a whole, with this error and status 400.
    pub fn refuse(&self, action: &str, id: &str, code: &str) -> FaultId {
        let (action, id) = (action.to_owned(), id.to_owned());
        let answer = Answer::Error { status: 400, code: code.to_owned(), message: String::new() };
        self.add_fault(Fault::new(move |call| call.action == action && call.ids.contains(&id), answer))
    }

    /// IAM allows nobody to call `action` at all; `service` as in [`Call`].
    pub fn deny_action(&self, service: &str, action: &str) -> FaultId {
        let message = not_authorized(&format!("{service}:{action}"), "*");
        let (service, action) = (service.to_owned(), action.to_owned());
        let answer = Answer::Error { status: 400, code: "AccessDeniedException".to_owned(), message };
        self.add_fault(Fault::new(move |call| call.service == service && call.action == action, answer))
    }

    /// Throttles every call until the fault is taken back.
    pub fn throttle(&self) -> FaultId {
        self.always(Answer::throttled())
    }

    /// Throttles the next `calls` calls.
    pub fn throttle_next(&self, calls: usize) -> FaultId {
        self.add_fault(Fault::new(|_| true, Answer::throttled()).times(calls))
    }

    /// Throttles what exceeds `per_second` calls of these actions together, with as many at once after a pause; a smaller burst with
    /// [`Answer::Quota`]. SSM's reads are [`SSM_READS`].
    pub fn quota(&self, actions: &'static [&'static str], per_second: u32) -> FaultId {
        self.add_fault(Fault::new(|call| actions.contains(&call.action.as_str()), Answer::Quota { per_second, burst: per_second }))
    }

    /// Delays every answer by `latency` and up to `jitter` more.
    pub fn delay(&self, latency: Duration, jitter: Duration) -> FaultId {
        self.always(Answer::Delay { latency, jitter })
    }

    /// Answers every call with this status: 503 is `ServiceUnavailable`, any other `InternalFailure`.
    pub fn fail(&self, status: u16) -> FaultId {
        let code = if status == 503 { "ServiceUnavailable" } else { "InternalFailure" };
        let message = "The request processing has failed because of an unknown error.";
        self.always(Answer::Error { status, code: code.to_owned(), message: message.to_owned() })
    }

    /// Accepts every call and never answers.
    pub fn hang(&self) -> FaultId {
        self.always(Answer::Hang)
    }

    /// Holds every call back until the fault is taken back.
    pub fn hold(&self) -> FaultId {
        self.always(Answer::Hold)
    }

    /// Makes every answer at once and holds it back until the fault is taken back.
    pub fn hold_answers(&self) -> FaultId {
        self.always(Answer::HoldAnswer)
    }

    /// Answers every call with 200 and a body that isn't JSON.
    pub fn malformed(&self) -> FaultId {
        self.always(Answer::Body { status: 200, body: "{\"SecretString\": <html>".to_owned() })
    }

    /// Cuts the connection of every call.
    pub fn cut(&self, cut: Cut) -> FaultId {
        self.always(Answer::Cut(cut))
    }

    /// Goes down: open connections are cut, new ones refused, until [`Front::up`]. Nothing happens if it is down. When this
    /// returns, all sockets are closed.
    pub fn down(&self) -> Result<()> {
        let mut listening = self.listening();
        if let Listening::Up { server, closed } = &*listening {
            // Before the other lets go of it: somebody's outgoing connection could take the port in between.
            let held = bind(self.address)?;
            server.abort();
            if closed.recv_timeout(DOWN_WITHIN) == Err(RecvTimeoutError::Timeout) {
                bail!("the front's connections didn't close within {DOWN_WITHIN:?}");
            }
            *listening = Listening::Down(held);
        }
        Ok(())
    }

    /// Comes up again on the same port. Nothing happens if it is up.
    pub fn up(&self) -> Result<()> {
        let mut listening = self.listening();
        if matches!(*listening, Listening::Up { .. }) {
            return Ok(());
        }
        let Listening::Down(socket) = std::mem::replace(&mut *listening, Listening::Lost) else { bail!("the front could not come up before") };
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
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until no fault holds calls back.
    async fn released(&self) {
        while self.state().faults.hold() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// A fault for the calls that name `id`.
fn naming(id: &str, answer: Answer) -> Fault {
    let id = id.to_owned();
    Fault::new(move |call| call.ids.contains(&id), answer)
}

/// A socket that holds an address without listening on it.
fn bind(address: SocketAddr) -> Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // Connections that were just cut must not keep the port from us, nor may who listens there until we take over.
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
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
        shared.state().connections += 1;
        let (shared, alive) = (Arc::clone(&shared), alive.clone());
        connections.spawn(async move {
            // Declared first, so dropped last.
            let _alive = alive;
            // An answer leaves when it is made; an error here would only make it later.
            let _ = stream.set_nodelay(true);
            let scissors = Scissors::default();
            let socket = Socket::new(stream, scissors.clone());
            let service = service_fn(move |request| answer(Arc::clone(&shared), scissors.clone(), request));
            // An error here is a client that went away, or one that was cut off.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

/// A call in flight, for as long as it lives.
struct InFlight(Arc<Shared>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.state().record.ended();
    }
}

async fn answer(shared: Arc<Shared>, scissors: Scissors, request: Request<Incoming>) -> Result<Reply> {
    let (parts, body) = request.into_parts();
    let question = Question::read(parts, body.collect().await?.to_bytes());
    let call = &question.call;
    let (place, verdict) = {
        let mut state = shared.state();
        (state.record.arrived(call), state.faults.judge(call, call.at))
    };
    let _in_flight = InFlight(Arc::clone(&shared));
    let (mut cut, mut throttled) = (None, false);
    let reply = match &verdict.whole {
        None => changed(&shared.behind, &question, &verdict).await,
        Some(Answer::Hang) => pending().await,
        Some(Answer::Hold) => {
            shared.released().await;
            shared.behind.answer(&question, None).await
        }
        Some(Answer::HoldAnswer) => {
            let reply = changed(&shared.behind, &question, &verdict).await;
            shared.released().await;
            reply
        }
        Some(Answer::Cut(place)) => {
            cut = Some(*place);
            changed(&shared.behind, &question, &verdict).await
        }
        Some(Answer::Body { status, body }) => json_response(*status, body.clone().into()),
        Some(Answer::Error { status, code, message }) => {
            throttled = code == "ThrottlingException";
            error_response(call.service, *status, code, message)
        }
        Some(other) => {
            let (_, code, message) = refusal(call, other).with_context(|| format!("{other:?} answers no whole call"))?;
            error_response(call.service, 400, code, &message)
        }
    };
    if !verdict.delay.is_zero() {
        tokio::time::sleep(verdict.delay).await;
    }
    if let Some(cut) = cut {
        scissors.cut(cut);
    } else {
        shared.state().record.answered(place, &call.action, reply.status().as_u16(), throttled);
    }
    Ok(reply)
}

/// The ordinary answer, changed by the parts of the verdict.
async fn changed(behind: &Behind, question: &Question, verdict: &Verdict) -> Reply {
    let stale =
        verdict.parts.iter().find_map(|part| if let Answer::Stale { reads, within } = part { Some(Stale { reads: *reads, within: *within }) } else { None });
    if let Some(field) = question.call.lists() {
        return list(behind, question, verdict, stale, field).await;
    }
    let batch = question.call.action == "BatchGetSecretValue";
    let page = batch.then(|| Page::asked(&question.json).or_else(|| verdict.parts.iter().find_map(Page::first))).flatten();
    let refused: Vec<_> = verdict.parts.iter().filter_map(|part| refusal(&question.call, part)).collect();
    let gone = |id: &str| {
        refused.iter().any(|(other, ..)| *other == id) || verdict.parts.iter().any(|part| matches!(part, Answer::LeftOut { id: other } if other == id))
    };
    let rest: Vec<&str> = question.call.ids.iter().map(String::as_str).filter(|id| !gone(id)).collect();
    if page.is_none() && rest.len() == question.call.ids.len() {
        return behind.answer(question, stale).await;
    }
    let mut answer = if batch { json!({"SecretValues": [], "Errors": []}) } else { json!({"Parameters": [], "InvalidParameters": []}) };
    if !rest.is_empty() {
        let shorter = question.with_ids(if batch { "SecretIdList" } else { "Names" }, &rest);
        let reply = behind.answer(&shorter, stale).await;
        if reply.status() != StatusCode::OK {
            return reply;
        }
        let Ok(body) = reply.into_body().collect().await;
        answer = serde_json::from_slice(&body.to_bytes()).unwrap_or(answer);
    }
    if let Value::Array(errors) = &mut answer["Errors"] {
        errors.extend(refused.into_iter().map(|(id, code, message)| json!({"SecretId": id, "ErrorCode": code, "Message": message})));
    }
    json_response(200, page.map_or(answer.to_string(), |page| page.cut_out(&["SecretValues", "Errors"], &answer).to_string()).into())
}

/// The ordinary answer to a call that lists, changed by the parts of the verdict: `field` is what holds the items.
async fn list(behind: &Behind, question: &Question, verdict: &Verdict, stale: Option<Stale>, field: &str) -> Reply {
    let page = Page::asked(&question.json).or_else(|| verdict.parts.iter().find_map(Page::first));
    let left_out = |item: &Value| verdict.parts.iter().any(|part| matches!(part, Answer::LeftOut { id } if item["Name"] == **id || item["ARN"] == **id));
    let changes = page.is_some() || verdict.parts.iter().any(|part| matches!(part, Answer::LeftOut { .. }));
    let (mut all, mut token) = (Vec::new(), None);
    loop {
        let reply = if page.is_some() { behind.answer(&question.with_token(token.as_deref()), stale).await } else { behind.answer(question, stale).await };
        if !changes || reply.status() != StatusCode::OK {
            return reply;
        }
        let Ok(body) = reply.into_body().collect().await;
        let mut answer: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
        if let Value::Array(items) = answer[field].take() {
            all.extend(items.into_iter().filter(|item| !left_out(item)));
        }
        let Some(page) = page else {
            answer[field] = json!(all);
            return json_response(200, answer.to_string().into());
        };
        token = answer["NextToken"].as_str().map(str::to_owned);
        if token.is_none() {
            return json_response(200, page.cut_out(&[field], &json!({field: all})).to_string().into());
        }
    }
}

/// A page of the answer to a batch or a list. Its `NextToken` holds all of it, so that nothing need be remembered.
#[derive(Debug, Clone, Copy)]
struct Page {
    /// How many values and errors came before.
    before: usize,
    size: usize,
    empty_between: bool,
    /// Whether it is one of the empty ones.
    empty: bool,
}

impl Page {
    fn first(part: &Answer) -> Option<Self> {
        let Answer::Pages { size, empty_between } = part else { return None };
        Some(Self { before: 0, size: (*size).max(1), empty_between: *empty_between, empty: false })
    }

    /// The page that a request's `NextToken` names.
    fn asked(question: &Value) -> Option<Self> {
        let fields: Vec<usize> = question["NextToken"].as_str()?.strip_prefix("page-")?.split('-').map(|field| field.parse().ok()).collect::<Option<_>>()?;
        let [before, size, empty_between, empty] = *fields.as_slice() else { return None };
        Some(Self { before, size: size.max(1), empty_between: empty_between == 1, empty: empty == 1 })
    }

    fn token(self) -> String {
        format!("page-{}-{}-{}-{}", self.before, self.size, u8::from(self.empty_between), u8::from(self.empty))
    }

    /// This page of the whole answer, whose items are in these fields, one after the other.
    fn cut_out(self, fields: &[&str], answer: &Value) -> Value {
        let size = if self.empty { 0 } else { self.size };
        let next = Self { before: self.before + size, empty: self.empty_between && !self.empty, ..self };
        let mut page = json!({});
        let mut all = 0;
        for field in fields.iter().copied() {
            let items = answer[field].as_array().map(Vec::as_slice).unwrap_or_default();
            page[field] =
                items.iter().enumerate().filter(|(index, _)| (self.before..next.before).contains(&(all + index))).map(|(_, item)| item.clone()).collect();
            all += items.len();
        }
        if next.before < all {
            page["NextToken"] = json!(next.token());
        }
        page
    }
}
