//! A double of Vault in this process: key-value stores of both versions, tokens with policies, logins by Kubernetes and `AppRole`, namespaces. Requests
//! enter over HTTP and through methods, answers leave as `OpenBao` 2.6 gives them. It records who asked for what, never a value; what it can't do it
//! refuses aloud. It can't be unsealed, wraps only what is read, and checks no signature of a token.

use std::collections::BTreeMap;
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::double::{Answers, Double, Question, Reply};

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

/// What a policy lets do: a prefix of paths (`kv/data/shop/`) and capabilities (`read`, `list`, `create`, `update`, `delete`).
pub type Policy = Vec<(String, Vec<String>)>;

/// The policy that a text in HCL says, as far as its paths are prefixes (`path "kv/data/shop/*" { capabilities = ["read"] }`), with
/// `{{identity.entity.id}}` filled in.
///
/// # Panics
///
/// At what it can't read.
#[must_use]
pub fn hcl(text: &str, entity: &str) -> Policy {
    let text: String = text.lines().map(|line| line.split('#').next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let rules = text.split("path ").skip(1).map(|rule| {
        let quoted: Vec<&str> = rule.split('"').collect();
        assert!(quoted.len() >= 5 && quoted[2].contains("capabilities"), "not a rule: {rule}");
        let path = quoted[1].replace("{{identity.entity.id}}", entity);
        assert!(path.ends_with("/*") && !path.contains("{{"), "only prefixes are understood: {path}");
        (path.trim_end_matches('*').to_owned(), quoted[3..].iter().step_by(2).map(|&capability| capability.to_owned()).collect())
    });
    rules.collect()
}

struct Version {
    data: Value,
    created: String,
    deleted: bool,
}

#[derive(Clone)]
struct Identity {
    name: String,
    /// Its id, "" for nobody's.
    entity: String,
    policy: Policy,
    /// When it runs out, and how long it lives.
    expires: Option<(Instant, Duration)>,
    renewable: bool,
    /// Whether it may look itself up.
    looks: bool,
}

struct Role {
    /// `namespace:name` of the ServiceAccount, and the audience.
    bound: (String, String),
    identity: Identity,
}

/// What it knows.
#[derive(Default)]
pub struct State {
    /// By namespace, mount and path.
    versioned: BTreeMap<(String, String, String), Vec<Version>>,
    /// What is said of them besides: their custom metadata.
    said: BTreeMap<(String, String, String), Value>,
    plain: BTreeMap<(String, String, String), Value>,
    /// Mounts of version 1; every other one that anything was put into is of version 2.
    plain_mounts: Vec<String>,
    /// Mounts of version 2 that are there although nothing was put into them.
    empty_mounts: Vec<String>,
    tokens: BTreeMap<String, Identity>,
    roles: BTreeMap<String, Role>,
    app_roles: BTreeMap<(String, String), Identity>,
    /// What is wrapped, by token, and until when.
    wrapped: BTreeMap<String, (Value, Instant)>,
    issued: u64,
    failing: Option<u16>,
    lost_folder: Option<String>,
    /// What every read of a value of a mount is answered.
    saying: Option<(String, Reply)>,
    asked: Vec<Asked>,
}

/// The running double. Ends on drop.
#[derive(Debug)]
pub struct Vault(Double<State>);

impl Vault {
    /// Listens on a free loopback port, empty.
    pub fn start() -> Result<Self> {
        Ok(Self(Double::start(State::default())?))
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        self.0.url()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state()
    }

    /// Puts a value into a store of version 2 (`kv/shop/db`), as its next version; which that is.
    pub fn put(&self, namespace: &str, name: &str, data: &Value) -> usize {
        let (mount, path) = name.split_once('/').unwrap_or((name, ""));
        self.state().put((namespace.to_owned(), mount.to_owned(), path.to_owned()), data.clone())
    }

    /// The newest value of a store of version 2, if it is there.
    #[must_use]
    pub fn value(&self, namespace: &str, name: &str) -> Option<Value> {
        let (mount, path) = name.split_once('/').unwrap_or((name, ""));
        let state = self.state();
        let versions = state.versioned.get(&(namespace.to_owned(), mount.to_owned(), path.to_owned()))?;
        versions.last().filter(|version| !version.deleted).map(|version| version.data.clone())
    }

    /// The custom metadata of a value of a store of version 2, null if it has none.
    #[must_use]
    pub fn said(&self, namespace: &str, name: &str) -> Value {
        let (mount, path) = name.split_once('/').unwrap_or((name, ""));
        self.state().said.get(&(namespace.to_owned(), mount.to_owned(), path.to_owned())).cloned().unwrap_or_default()
    }

    /// Says this of a value of a store of version 2, as its custom metadata.
    pub fn say_of(&self, namespace: &str, name: &str, said: &Value) {
        let (mount, path) = name.split_once('/').unwrap_or((name, ""));
        self.state().said.insert((namespace.to_owned(), mount.to_owned(), path.to_owned()), said.clone());
    }

    /// The value of a store of version 1, if it is there.
    #[must_use]
    pub fn plain(&self, namespace: &str, name: &str) -> Option<Value> {
        let (mount, path) = name.split_once('/').unwrap_or((name, ""));
        self.state().plain.get(&(namespace.to_owned(), mount.to_owned(), path.to_owned())).cloned()
    }

    /// Gives a token another policy.
    pub fn allow(&self, token: &str, policy: Policy) {
        if let Some(identity) = self.state().tokens.get_mut(token) {
            identity.policy = policy;
        }
    }

    /// Makes a mount of version 2, empty.
    pub fn mount(&self, name: &str) {
        self.state().empty_mounts.push(name.to_owned());
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
        self.state()
            .tokens
            .insert(token.to_owned(), Identity { name: name.to_owned(), entity: String::new(), policy, expires, renewable: life.is_some(), looks: true });
    }

    /// Makes a token of an entity known, which lives for ever.
    pub fn entity_token(&self, token: &str, entity: &str, policy: Policy) {
        let identity = Identity { name: format!("token-{entity}"), entity: entity.to_owned(), policy, expires: None, renewable: false, looks: true };
        self.state().tokens.insert(token.to_owned(), identity);
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
        let identity = Identity {
            name: format!("kubernetes-{account}"),
            entity: format!("entity-{role}"),
            policy,
            expires: Some((Instant::now(), life)),
            renewable: true,
            looks: true,
        };
        self.state().roles.insert(role.to_owned(), Role { bound: (account.to_owned(), audience.to_owned()), identity });
    }

    /// A role of the `AppRole` method.
    pub fn app_role(&self, role_id: &str, secret_id: &str, policy: Policy, life: Duration) {
        let identity =
            Identity { name: "approle".to_owned(), entity: String::new(), policy, expires: Some((Instant::now(), life)), renewable: true, looks: true };
        self.state().app_roles.insert((role_id.to_owned(), secret_id.to_owned()), identity);
    }

    /// Whether tokens that are given from now on to whoever logs in as this role of the `AppRole` method may look themselves up, and whose they are.
    pub fn app_role_looks(&self, role_id: &str, looks: bool, entity: &str) {
        for (_, identity) in self.state().app_roles.iter_mut().filter(|((id, _), _)| id == role_id) {
            identity.looks = looks;
            entity.clone_into(&mut identity.entity);
        }
    }

    /// Lets go of a role of the `AppRole` method.
    pub fn remove_app_role(&self, role_id: &str) {
        self.state().app_roles.retain(|(id, _), _| id != role_id);
    }

    /// Answers lists of this folder (`kv/shop/team`) as somebody would who knows no such way; `None`: as it should.
    pub fn lose_folder(&self, folder: Option<&str>) {
        self.state().lost_folder = folder.and_then(|folder| folder.split_once('/')).map(|(mount, path)| format!("{mount}/metadata/{path}"));
    }

    /// Answers everything with this status from now on; `None`: as it should.
    pub fn fail(&self, status: Option<u16>) {
        self.state().failing = status;
    }

    /// Answers every read of a value of a mount with this from now on, and nothing else; `None`: as it should.
    pub fn say(&self, reply: Option<(&str, Reply)>) {
        self.state().saying = reply.map(|(mount, reply)| (mount.to_owned(), reply));
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
pub(crate) fn now() -> String {
    let seconds = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs_f64();
    let date = aws_sdk_ssm::primitives::DateTime::from_secs_f64(seconds);
    date.fmt(aws_sdk_ssm::primitives::DateTimeFormat::DateTime).unwrap_or_default().split(['.', 'Z']).next().unwrap_or_default().to_owned()
}

fn errors(status: u16, messages: &[&str]) -> Reply {
    (status, json!({"errors": messages}))
}

fn denied() -> Reply {
    errors(403, &["permission denied"])
}

impl Answers for State {
    fn answer(&mut self, question: &Question) -> Reply {
        let (token, namespace) = (question.header("x-vault-token"), question.header("x-vault-namespace"));
        let path = question.path.trim_start_matches("/v1/").to_owned();
        let query = question.query.clone();
        let list = question.method == "LIST" || query.split('&').any(|part| part == "list=true");
        let who = self.tokens.get(&token).filter(|identity| identity.expires.is_none_or(|(end, _)| end > Instant::now())).cloned();
        let mut reply = match self.failing {
            Some(status) => errors(status, &["failing on purpose"]),
            None if path == "sys/wrapping/unwrap" => self.unwrap(&token),
            None if question.method == "POST" && path.starts_with("auth/") => self.post(&path, &token, who.as_ref(), &question.json()),
            None => match (&who, question.method.as_str()) {
                (None, _) => denied(),
                (Some(who), "POST" | "PUT") => self.write((&namespace, &path), &question.json(), who),
                (Some(who), "DELETE") => self.remove((&namespace, &path), who),
                (Some(who), _) => self.get(&namespace, &path, &query, list, who),
            },
        };
        let ttl = question.header("x-vault-wrap-ttl").trim_end_matches('s').parse().unwrap_or(0);
        if reply.0 == 200 && ttl > 0 {
            reply = self.wrap(&path, reply.1, ttl);
        }
        let path = if query.is_empty() { path } else { format!("{path}?{query}") };
        let who = who.map(|who| who.name).unwrap_or_default();
        self.asked.push(Asked { method: question.method.clone(), path, namespace, who, status: reply.0 });
        reply
    }
}

fn may(who: &Identity, path: &str, capability: &str) -> bool {
    who.policy.iter().any(|(prefix, capabilities)| path.starts_with(prefix.as_str()) && capabilities.iter().any(|one| one == capability))
}

fn forbidden() -> Reply {
    errors(403, &["1 error occurred:\n\t* permission denied\n\n"])
}

impl State {
    fn put(&mut self, key: (String, String, String), data: Value) -> usize {
        let created = format!("{}.000000000Z", now());
        let versions = self.versioned.entry(key).or_default();
        versions.push(Version { data, created, deleted: false });
        versions.len()
    }

    fn wrap(&mut self, path: &str, answer: Value, ttl: u64) -> Reply {
        self.issued += 1;
        let token = format!("s.wrap-{}", self.issued);
        self.wrapped.insert(token.clone(), (answer, Instant::now() + Duration::from_secs(ttl)));
        let info = json!({"token": token, "accessor": "a", "ttl": ttl, "creation_time": now(), "creation_path": path});
        (200, json!({"request_id": "", "data": null, "wrap_info": info}))
    }

    fn unwrap(&mut self, token: &str) -> Reply {
        match self.wrapped.remove(token).filter(|(_, end)| *end > Instant::now()) {
            Some((answer, _)) => (200, answer),
            None => errors(400, &["wrapping token is not valid or does not exist"]),
        }
    }

    fn write(&mut self, (namespace, path): (&str, &str), body: &Value, who: &Identity) -> Reply {
        let (mount, rest) = path.split_once('/').unwrap_or((path, ""));
        let plain = self.plain_mounts.iter().any(|plain| plain == mount);
        if let (false, Some(name)) = (plain, rest.strip_prefix("undelete/")) {
            if !may(who, path, "update") {
                return forbidden();
            }
            let versions = self.versioned.get_mut(&(namespace.to_owned(), mount.to_owned(), name.to_owned())).into_iter().flatten();
            let named = |number: usize| body["versions"].as_array().is_some_and(|all| all.iter().any(|one| *one == number));
            (1..).zip(versions).filter(|(number, _)| named(*number)).for_each(|(_, version)| version.deleted = false);
            return (204, Value::Null);
        }
        if let (false, Some(name)) = (plain, rest.strip_prefix("metadata/")) {
            let key = (namespace.to_owned(), mount.to_owned(), name.to_owned());
            if !may(who, path, if self.versioned.contains_key(&key) { "update" } else { "create" }) {
                return forbidden();
            }
            // All of it is replaced by what is sent.
            if body["custom_metadata"].is_object() {
                self.said.insert(key.clone(), body["custom_metadata"].clone());
            }
            self.versioned.entry(key).or_default();
            return (204, Value::Null);
        }
        let name = if plain { Some(rest) } else { rest.strip_prefix("data/") };
        let Some(name) = name else { return errors(405, &["the double does not know this"]) };
        let key = (namespace.to_owned(), mount.to_owned(), name.to_owned());
        let there = if plain { usize::from(self.plain.contains_key(&key)) } else { self.versioned.get(&key).map_or(0, Vec::len) };
        if !may(who, path, if there == 0 { "create" } else { "update" }) {
            return forbidden();
        }
        if plain {
            self.plain.insert(key, body.clone());
            return (204, Value::Null);
        }
        if body["options"]["cas"].as_u64().is_some_and(|cas| cas != there as u64) {
            return errors(400, &["check-and-set parameter did not match the current version"]);
        }
        if !body["data"].is_object() {
            return errors(400, &["no data provided"]);
        }
        let version = self.put(key, body["data"].clone());
        (200, json!({"data": {"version": version, "created_time": now(), "deletion_time": "", "destroyed": false}}))
    }

    fn remove(&mut self, (namespace, path): (&str, &str), who: &Identity) -> Reply {
        if !may(who, path, "delete") {
            return forbidden();
        }
        let (mount, rest) = path.split_once('/').unwrap_or((path, ""));
        let key = |name: &str| (namespace.to_owned(), mount.to_owned(), name.to_owned());
        match rest.split_once('/').unwrap_or((rest, "")) {
            _ if self.plain_mounts.iter().any(|plain| plain == mount) => drop(self.plain.remove(&key(rest))),
            ("metadata", name) => {
                self.versioned.remove(&key(name));
                self.said.remove(&key(name));
            }
            ("data", name) => {
                if let Some(version) = self.versioned.get_mut(&key(name)).and_then(|versions| versions.last_mut()) {
                    version.deleted = true;
                }
            }
            _ => return errors(405, &["the double does not know this"]),
        }
        (204, Value::Null)
    }

    fn issue(&mut self, identity: &Identity) -> Value {
        self.issued += 1;
        let token = format!("s.login-{}", self.issued);
        let life = identity.expires.map_or(Duration::ZERO, |(_, life)| life);
        self.tokens.insert(token.clone(), Identity { expires: Some((Instant::now() + life, life)), ..identity.clone() });
        json!({"auth": {"client_token": token, "lease_duration": life.as_secs(), "renewable": true, "entity_id": identity.entity, "policies": ["default"]}})
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
        if path == "auth/token/lookup-self" && !who.looks {
            return denied();
        }
        if path == "auth/token/lookup-self" {
            let ttl = who.expires.map_or(0, |(end, _)| end.saturating_duration_since(Instant::now()).as_secs().max(1));
            return (
                200,
                json!({"data": {"display_name": who.name, "ttl": ttl, "renewable": who.renewable, "entity_id": who.entity, "policies": ["default"]}}),
            );
        }
        let capability = if list { "list" } else { "read" };
        if list && self.lost_folder.as_deref() == Some(path.trim_end_matches('/')) {
            return (404, json!({"message": "no Route matched with those values"}));
        }
        let asked = if list && !path.ends_with('/') { format!("{path}/") } else { path.to_owned() };
        if !may(who, &asked, capability) {
            return forbidden();
        }
        let (mount, rest) = path.split_once('/').unwrap_or((path, ""));
        if let (Some((_, reply)), false) = (self.saying.as_ref().filter(|(of, _)| of == mount), list) {
            return reply.clone();
        }
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
        if !self.versioned.keys().any(|key| here(&key)) && !self.empty_mounts.iter().any(|empty| empty == mount) {
            return errors(404, &[&format!("no handler for route \"{path}\". route entry not found.")]);
        }
        match rest.split_once('/').unwrap_or((rest, "")) {
            ("metadata", name) if !list => {
                let key = (namespace.to_owned(), mount.to_owned(), name.to_owned());
                let Some(versions) = self.versioned.get(&key) else { return errors(404, &[]) };
                let said = self.said.get(&key).cloned().unwrap_or_default();
                let changed = versions.last().map(|version| version.created.clone()).unwrap_or_default();
                let state = |version: &Version| {
                    let deleted = if version.deleted { "2026-01-01T00:00:00.000000000Z" } else { "" };
                    json!({"created_time": version.created, "deletion_time": deleted, "destroyed": false})
                };
                let all: serde_json::Map<String, Value> = (1..).zip(versions).map(|(number, version)| (number.to_string(), state(version))).collect();
                (
                    200,
                    json!({"data": {"current_version": versions.len(), "oldest_version": 1, "versions": all, "updated_time": changed, "custom_metadata": said}}),
                )
            }
            ("metadata", folder) => listed(self.versioned.keys().filter(here).map(|key| key.2.as_str()), folder),
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
