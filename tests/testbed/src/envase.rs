//! A double of Envase Vault in this process: secrets over HTTP, and the tokens of its clients. No package of the real one can be had; paths and names are
//! this project's own, which a provider may change. Requests enter over HTTP and through methods, secrets leave. It records who asked for what, never a value.

use std::collections::{BTreeMap, VecDeque};
use std::sync::MutexGuard;

use anyhow::Result;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::double::{Answers, Double, Question, Reply};

/// A request that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The method.
    pub method: String,
    /// The path as it was sent.
    pub path: String,
    /// What the form of a request for a token says, without the client's secret; "" for all else.
    pub form: String,
    /// The status of the answer.
    pub status: u16,
}

/// What it knows.
#[derive(Default)]
pub struct State {
    /// What is before all paths.
    root: String,
    /// Secrets by organisation ("" for none) and key.
    secrets: BTreeMap<(String, String), Value>,
    /// Clients by id, with their secrets.
    clients: BTreeMap<String, String>,
    tokens: Vec<String>,
    /// The key that has to come along, if any has.
    api_key: Option<String>,
    life: u64,
    given: u64,
    faults: VecDeque<Reply>,
    asked: Vec<Asked>,
}

/// The running double. Ends on drop.
#[derive(Debug)]
pub struct Envase(Double<State>);

impl Envase {
    /// Listens on a free loopback port, empty.
    pub fn start() -> Result<Self> {
        Ok(Self(Double::start(State { root: "/vault".to_owned(), life: 3600, ..State::default() })?))
    }

    /// The address of its secrets.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("{}/vault", self.0.url())
    }

    /// The address of its tokens.
    #[must_use]
    pub fn token_url(&self) -> String {
        format!("{}/oauth2/token", self.0.url())
    }

    /// Both are on this host.
    #[must_use]
    pub fn origin(&self) -> String {
        self.0.url()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state()
    }

    /// Makes a client known.
    pub fn client(&self, id: &str, secret: &str) {
        self.state().clients.insert(id.to_owned(), secret.to_owned());
    }

    /// How long the tokens live that are given from now on, in seconds.
    pub fn tokens_live(&self, seconds: u64) {
        self.state().life = seconds;
    }

    /// Makes a token known.
    pub fn token(&self, token: &str) {
        self.state().tokens.push(token.to_owned());
    }

    /// Lets go of all tokens.
    pub fn revoke(&self) {
        self.state().tokens.clear();
    }

    /// Wants this key in `x-api-key`.
    pub fn api_key(&self, key: &str) {
        self.state().api_key = Some(key.to_owned());
    }

    /// Puts a secret; `organization` "" for a standard one.
    pub fn put(&self, organization: &str, key: &str, secret: &Value) {
        let secret = json!({"key": key, "secret": secret, "description": "d"});
        self.state().secrets.insert((organization.to_owned(), key.to_owned()), secret);
    }

    /// What a secret is, with its key and description.
    #[must_use]
    pub fn secret(&self, organization: &str, key: &str) -> Option<Value> {
        self.state().secrets.get(&(organization.to_owned(), key.to_owned())).cloned()
    }

    /// Deletes a secret.
    pub fn delete(&self, organization: &str, key: &str) {
        self.state().secrets.remove(&(organization.to_owned(), key.to_owned()));
    }

    /// Gives this answer to the next `times` requests.
    pub fn fail(&self, times: usize, status: u16, body: &Value) {
        self.state().faults = (0..times).map(|_| (status, body.clone())).collect();
    }

    /// All requests so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.state().asked.clone()
    }

    /// How often a token was asked for.
    #[must_use]
    pub fn tokens_asked(&self) -> usize {
        self.state().asked.iter().filter(|asked| asked.path == "/oauth2/token").count()
    }
}

impl State {
    fn give(&mut self, question: &Question) -> Reply {
        let basic = question.header("authorization");
        let basic = basic.strip_prefix("Basic ").and_then(|text| BASE64_STANDARD.decode(text).ok()).and_then(|text| String::from_utf8(text).ok());
        let (id, secret) = basic.as_deref().and_then(|text| text.split_once(':')).unwrap_or_default();
        if self.clients.get(id).is_none_or(|known| known != secret) || !question.body.starts_with(b"grant_type=client_credentials") {
            return (400, json!({"error": "invalid_client"}));
        }
        self.given += 1;
        let token = format!("token-{}", self.given);
        self.tokens.push(token.clone());
        (200, json!({"access_token": token, "expires_in": self.life, "token_type": "Bearer"}))
    }

    fn route(&mut self, question: &Question) -> Reply {
        if question.raw_path == "/oauth2/token" {
            return self.give(question);
        }
        let Some(path) = question.raw_path.strip_prefix(&format!("{}/", self.root)) else { return (404, json!({"message": "Not Found"})) };
        let token = question.header("authorization");
        if !token.strip_prefix("Bearer ").is_some_and(|token| self.tokens.iter().any(|known| known == token)) {
            return (401, json!({"message": "Unauthorized"}));
        }
        if self.api_key.as_ref().is_some_and(|key| *key != question.header("x-api-key")) {
            return (403, json!({"message": "Forbidden"}));
        }
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        let (organization, item) = match path.split('/').collect::<Vec<_>>()[..] {
            ["secrets"] => (String::new(), None),
            ["secrets", key] => (String::new(), Some(decoded(key))),
            ["organizations", organization, "secrets"] => (decoded(organization), None),
            ["organizations", organization, "secrets", key] => (decoded(organization), Some(decoded(key))),
            _ => return (404, json!({"message": "Not Found"})),
        };
        let missing = (404, json!({"m": 1}));
        match (question.method.as_str(), item) {
            ("POST", None) => {
                let body = question.json();
                let Some(key) = body["key"].as_str().filter(|_| !body["secret"].is_null()) else { return (400, json!({"m": "malformed"})) };
                let place = (organization, key.to_owned());
                if self.secrets.contains_key(&place) {
                    return (409, json!({"m": "exists"}));
                }
                self.secrets.insert(place, body.clone());
                (201, body)
            }
            ("GET", Some(key)) => self.secrets.get(&(organization, key)).map_or(missing, |secret| (200, secret.clone())),
            ("PUT", Some(key)) => match self.secrets.get_mut(&(organization, key)) {
                None => missing,
                Some(secret) => {
                    *secret = question.json();
                    (200, secret.clone())
                }
            },
            ("DELETE", Some(key)) => self.secrets.remove(&(organization, key)).map_or(missing, |_| (204, Value::Null)),
            _ => (405, json!({"m": "not here"})),
        }
    }
}

impl Answers for State {
    fn answer(&mut self, question: &Question) -> Reply {
        let reply = match self.faults.pop_front() {
            Some(fault) => fault,
            None => self.route(question),
        };
        let form = if question.raw_path == "/oauth2/token" { String::from_utf8_lossy(&question.body).into_owned() } else { String::new() };
        self.asked.push(Asked { method: question.method.clone(), path: question.raw_path.clone(), form, status: reply.0 });
        reply
    }
}
