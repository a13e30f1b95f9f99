//! A double of Vault in this process: key-value stores of both versions, tokens with policies, logins by Kubernetes and `AppRole`, namespaces. Requests
//! enter over HTTP and through methods, answers leave as `OpenBao` 2.6 gives them. It records who asked for what, never a value; what it can't do it
//! refuses aloud. It can't be unsealed, wraps nothing, and checks no signature of a token.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// A request that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The method.
    pub method: String,
    /// The path after `/v1/`, with its query.
    pub path: String,
    /// The namespace, "" for the root.
    pub namespace: String,
    /// The display name of the token; "" for none or one that isn't known.
    pub who: String,
    /// The status of the answer.
    pub status: u16,
}

/// What a policy lets do: a prefix of paths (`kv/data/shop/`) and capabilities (`read`, `list`).
pub type Policy = Vec<(String, Vec<&'static str>)>;

struct Version {
    data: Value,
    created: String,
    deleted: bool,
}

#[derive(Clone)]
struct Identity {
    name: String,
    policy: Policy,
    /// When it runs out, and how long it lives.
    expires: Option<(Instant, Duration)>,
    renewable: bool,
}

struct Role {
    /// `namespace:name` of the ServiceAccount, and the audience.
    bound: (String, String),
    identity: Identity,
}

#[derive(Default)]
struct State {
    /// By namespace, mount and path.
    versioned: BTreeMap<(String, String, String), Vec<Version>>,
    plain: BTreeMap<(String, String, String), Value>,
    /// Mounts of version 1; every other one that anything was put into is of version 2.
    plain_mounts: Vec<String>,
    tokens: BTreeMap<String, Identity>,
    roles: BTreeMap<String, Role>,
    app_roles: BTreeMap<(String, String), Identity>,
    issued: u64,
    failing: Option<u16>,
    asked: Vec<Asked>,
}

/// The running double. Ends on drop.
pub struct Vault {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    /// None only during drop.
    runtime: Option<Runtime>,
}

impl Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Vault {
    /// Listens on a free loopback port, empty.
    pub fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("vault").enable_all().build()?;
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let state: Arc<Mutex<State>> = Arc::default();
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

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a value into a store of version 2 (`kv/shop/db`), as its next version; which that is.
    pub fn put(&self, namespace: &str, name: &str, data: &Value) -> usize {
        let (mount, path) = name.split_once('/').unwrap_or((name, ""));
        let created = format!("{}.000000000Z", crate::vault::now());
        let mut state = self.state();
        let versions = state.versioned.entry((namespace.to_owned(), mount.to_owned(), path.to_owned())).or_default();
        versions.push(Version { data: data.clone(), created, deleted: false });
        versions.len()
    }

    /// Puts a value into a store of version 1.
    pub fn put_plain(&self, namespace: &str, name: &str, data: &Value) {
        let (mount, path) = name.split_once('/').unwrap_or((name, ""));
        let mut state = self.state();
        state.plain_mounts.push(mount.to_owned());
        state.plain.insert((namespace.to_owned(), mount.to_owned(), path.to_owned()), data.clone());
    }

    /// Deletes the newest version, softly; or all of it.
    pub fn delete(&self, namespace: &str, name: &str, all: bool) {
        let (mount, path) = name.split_once('/').unwrap_or((name, ""));
        let key = (namespace.to_owned(), mount.to_owned(), path.to_owned());
        let mut state = self.state();
        if all {
            state.versioned.remove(&key);
        } else if let Some(version) = state.versioned.get_mut(&key).and_then(|versions| versions.last_mut()) {
            version.deleted = true;
        }
    }

    /// Makes a token known. `life`: how long it lives; none: for ever.
    pub fn token(&self, token: &str, name: &str, policy: Policy, life: Option<Duration>) {
        let expires = life.map(|life| (Instant::now() + life, life));
        self.state().tokens.insert(token.to_owned(), Identity { name: name.to_owned(), policy, expires, renewable: life.is_some() });
    }

    /// Lets a token be known no more.
    pub fn revoke(&self, token: &str) {
        self.state().tokens.remove(token);
    }

    /// Lets go of all tokens that were given for logins.
    pub fn revoke_logins(&self) {
        self.state().tokens.retain(|token, _| !token.starts_with("s.login-"));
    }

    /// A role of the Kubernetes method, for a ServiceAccount (`namespace:name`) and an audience.
    pub fn role(&self, role: &str, account: &str, audience: &str, policy: Policy, life: Duration) {
        let identity = Identity { name: format!("kubernetes-{account}"), policy, expires: Some((Instant::now(), life)), renewable: true };
        self.state().roles.insert(role.to_owned(), Role { bound: (account.to_owned(), audience.to_owned()), identity });
    }

    /// A role of the `AppRole` method.
    pub fn app_role(&self, role_id: &str, secret_id: &str, policy: Policy, life: Duration) {
        let identity = Identity { name: "approle".to_owned(), policy, expires: Some((Instant::now(), life)), renewable: true };
        self.state().app_roles.insert((role_id.to_owned(), secret_id.to_owned()), identity);
    }

    /// Answers everything with this status from now on; `None`: as it should.
    pub fn fail(&self, status: Option<u16>) {
        self.state().failing = status;
    }

    /// All requests so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.state().asked.clone()
    }

    /// How many requests there were for this path.
    #[must_use]
    pub fn count(&self, path: &str) -> usize {
        self.state().asked.iter().filter(|asked| asked.path.split('?').next() == Some(path)).count()
    }
}

/// Seconds since 1970, as the date of RFC 3339 without its end.
fn now() -> String {
    let seconds = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs_f64();
    let date = aws_sdk_ssm::primitives::DateTime::from_secs_f64(seconds);
    date.fmt(aws_sdk_ssm::primitives::DateTimeFormat::DateTime).unwrap_or_default().split(['.', 'Z']).next().unwrap_or_default().to_owned()
}

type Reply = (u16, Value);

fn errors(status: u16, messages: &[&str]) -> Reply {
    (status, json!({"errors": messages}))
}

fn denied() -> Reply {
    errors(403, &["permission denied"])
}

async fn answer(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let (token, namespace) = (header("x-vault-token"), header("x-vault-namespace"));
    let path = parts.uri.path().trim_start_matches("/v1/").to_owned();
    let path = percent_encoding::percent_decode_str(&path).decode_utf8_lossy().into_owned();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let list = parts.method.as_str() == "LIST" || query.split('&').any(|part| part == "list=true");
    let (status, value) = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let who = state.tokens.get(&token).filter(|identity| identity.expires.is_none_or(|(end, _)| end > Instant::now())).cloned();
        let reply = match state.failing {
            Some(status) => errors(status, &["failing on purpose"]),
            None if parts.method == Method::POST => {
                let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                state.post(&path, &token, who.as_ref(), &body)
            }
            None => match &who {
                None => denied(),
                Some(who) => state.get(&namespace, &path, &query, list, who),
            },
        };
        let path = if query.is_empty() { path } else { format!("{path}?{query}") };
        let who = who.map(|who| who.name).unwrap_or_default();
        state.asked.push(Asked { method: parts.method.to_string(), path, namespace, who, status: reply.0 });
        reply
    };
    Ok(Response::builder().status(status).header("content-type", "application/json").body(Full::new(value.to_string().into()))?)
}

impl State {
    fn issue(&mut self, identity: &Identity) -> Value {
        self.issued += 1;
        let token = format!("s.login-{}", self.issued);
        let life = identity.expires.map_or(Duration::ZERO, |(_, life)| life);
        self.tokens.insert(token.clone(), Identity { expires: Some((Instant::now() + life, life)), ..identity.clone() });
        json!({"auth": {"client_token": token, "lease_duration": life.as_secs(), "renewable": true, "policies": ["default"]}})
    }

    fn post(&mut self, path: &str, token: &str, who: Option<&Identity>, body: &Value) -> Reply {
        match path {
            "auth/kubernetes/login" => {
                let claims = body["jwt"].as_str().and_then(|jwt| URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1)?).ok());
                let claims: Value = claims.and_then(|claims| serde_json::from_slice(&claims).ok()).unwrap_or_default();
                let subject = claims["sub"].as_str().unwrap_or_default().trim_start_matches("system:serviceaccount:").to_owned();
                let has = |audience: &str| claims["aud"].as_array().is_some_and(|all| all.iter().any(|one| one == audience));
                let role = body["role"].as_str().and_then(|role| self.roles.get(role));
                match role.map(|role| (role.bound.0 == subject && has(&role.bound.1), role.identity.clone())) {
                    Some((true, identity)) => (200, self.issue(&identity)),
                    Some((false, _)) => denied(),
                    None => errors(400, &["invalid role name"]),
                }
            }
            "auth/approle/login" => {
                let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
                match self.app_roles.get(&(text("role_id"), text("secret_id"))).cloned() {
                    Some(identity) => (200, self.issue(&identity)),
                    None => errors(400, &["invalid role or secret ID"]),
                }
            }
            "auth/token/renew-self" => match who.and_then(|who| who.expires.filter(|_| who.renewable)) {
                Some((_, life)) => {
                    if let Some(known) = self.tokens.get_mut(token) {
                        known.expires = Some((Instant::now() + life, life));
                    }
                    (200, json!({"auth": {"client_token": token, "lease_duration": life.as_secs(), "renewable": true}}))
                }
                None => denied(),
            },
            _ => errors(405, &["the double does not know this"]),
        }
    }

    fn get(&self, namespace: &str, path: &str, query: &str, list: bool, who: &Identity) -> Reply {
        if path == "auth/token/lookup-self" {
            let ttl = who.expires.map_or(0, |(end, _)| end.saturating_duration_since(Instant::now()).as_secs().max(1));
            return (200, json!({"data": {"display_name": who.name, "ttl": ttl, "renewable": who.renewable, "policies": ["default"]}}));
        }
        let capability = if list { "list" } else { "read" };
        let asked = if list && !path.ends_with('/') { format!("{path}/") } else { path.to_owned() };
        if !who.policy.iter().any(|(prefix, capabilities)| asked.starts_with(prefix.as_str()) && capabilities.contains(&capability)) {
            return errors(403, &["1 error occurred:\n\t* permission denied\n\n"]);
        }
        let (mount, rest) = path.split_once('/').unwrap_or((path, ""));
        let here = |key: &&(String, String, String)| key.0 == namespace && key.1 == mount;
        if self.plain_mounts.iter().any(|plain| plain == mount) {
            if list {
                return listed(self.plain.keys().filter(here).map(|key| key.2.as_str()), rest);
            }
            return match self.plain.get(&(namespace.to_owned(), mount.to_owned(), rest.to_owned())) {
                Some(data) => (200, json!({"data": data, "lease_duration": 2_764_800})),
                None => errors(404, &[]),
            };
        }
        if !self.versioned.keys().any(|key| here(&key)) {
            return errors(404, &[&format!("no handler for route \"{path}\". route entry not found.")]);
        }
        match rest.split_once('/').unwrap_or((rest, "")) {
            ("metadata", folder) if list => listed(self.versioned.keys().filter(here).map(|key| key.2.as_str()), folder),
            ("data", name) => {
                let Some(versions) = self.versioned.get(&(namespace.to_owned(), mount.to_owned(), name.to_owned())) else { return errors(404, &[]) };
                let number = query.split('&').find_map(|part| part.strip_prefix("version=")).and_then(|number| number.parse().ok()).unwrap_or(versions.len());
                let Some(version) = number.checked_sub(1).and_then(|index| versions.get(index)) else { return errors(404, &[]) };
                let deleted = if version.deleted { "2026-01-01T00:00:00.000000000Z" } else { "" };
                let metadata =
                    json!({"version": number, "created_time": version.created, "deletion_time": deleted, "destroyed": false, "custom_metadata": null});
                let data = if version.deleted { Value::Null } else { version.data.clone() };
                (if version.deleted { 404 } else { 200 }, json!({"data": {"data": data, "metadata": metadata}}))
            }
            _ => (
                404,
                json!({"errors": [], "warnings": ["Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate API endpoints to use."]}),
            ),
        }
    }
}

/// The names in a folder, those of folders with a slash.
fn listed<'a>(names: impl Iterator<Item = &'a str>, folder: &str) -> Reply {
    let folder = if folder.is_empty() || folder.ends_with('/') { folder.to_owned() } else { format!("{folder}/") };
    let inner = |name: &'a str| {
        let rest = name.strip_prefix(&folder)?;
        Some(rest.split_once('/').map_or_else(|| rest.to_owned(), |(first, _)| format!("{first}/")))
    };
    let mut keys: Vec<String> = names.filter_map(inner).collect();
    keys.sort();
    keys.dedup();
    if keys.is_empty() { errors(404, &[]) } else { (200, json!({"data": {"keys": keys}})) }
}
