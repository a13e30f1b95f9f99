//! A double of a Roboto platform in this process: the records of secrets, whose values are in an [`Emulator`]'s Secrets Manager. The platform's own SDK
//! (0.62) takes it for one. Requests enter over HTTP and through methods, records and credentials leave; no value ever passes through it. It records who
//! asked for what.

use std::collections::{BTreeMap, VecDeque};
use std::sync::MutexGuard;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::double::{Answers, Double, Question, Reply};
use crate::emulator::{Emulator, Keeper};

/// Either may name the organisation: the second when something is made.
const ORG_HEADERS: [&str; 2] = ["x-roboto-resource-owner-id", "x-roboto-org-id"];

/// A request that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The method.
    pub method: String,
    /// The path as it was sent, with its query.
    pub path: String,
    /// The organisation that the headers name, "" for none.
    pub org: String,
    /// The header that names it, "" for none.
    pub org_header: &'static str,
    /// The body as it was sent.
    pub body: String,
    /// The version of the API that it is in.
    pub version: String,
    /// The status of the answer.
    pub status: u16,
}

/// What it knows.
pub struct State {
    keeper: Keeper,
    /// The organisations of an API key; the first is its own.
    keys: BTreeMap<String, Vec<String>>,
    /// In the order in which they were made.
    records: Vec<Value>,
    page: usize,
    /// Answers that are given before any other.
    faults: VecDeque<Reply>,
    /// How many credentials were lent, and what is secret in them.
    lent: u64,
    lent_secret: String,
    asked: Vec<Asked>,
}

/// The running double. Ends on drop.
#[derive(Debug)]
pub struct Roboto(Double<State>);

impl Roboto {
    /// Listens on a free loopback port, without records. `page`: how many records a page has.
    pub fn start(emulator: &Emulator, page: usize) -> Result<Self> {
        let state = State {
            keeper: emulator.keeper(),
            keys: BTreeMap::new(),
            records: Vec::new(),
            page,
            faults: VecDeque::new(),
            lent: 0,
            lent_secret: "lent-secret".to_owned(),
            asked: Vec::new(),
        };
        Ok(Self(Double::start(state)?))
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        self.0.url()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state()
    }

    /// Makes an API key known, of these organisations; the first is its own. None: it is known no more.
    pub fn key(&self, key: &str, orgs: &[&str]) {
        let mut state = self.state();
        state.keys.remove(key);
        if !orgs.is_empty() {
            state.keys.insert(key.to_owned(), orgs.iter().map(|&org| org.to_owned()).collect());
        }
    }

    /// What is secret in the credentials that are lent from now on.
    pub fn lends(&self, secret: &str) {
        secret.clone_into(&mut self.state().lent_secret);
    }

    /// Puts a value, as a new secret or another value of it.
    pub fn put(&self, org: &str, name: &str, value: &str) {
        let mut state = self.state();
        if state.record(org, name).is_none() {
            state.create(org, name);
        }
        state.keeper.put(&format!("roboto/{org}/{name}"), value);
    }

    /// Puts bytes, which the platform's own SDK can't.
    pub fn put_binary(&self, org: &str, name: &str, value: &[u8]) {
        let mut state = self.state();
        state.create(org, name);
        state.keeper.put_binary(&format!("roboto/{org}/{name}"), value);
    }

    /// Makes a record whose value is kept in another kind of store.
    pub fn put_elsewhere(&self, org: &str, name: &str) {
        let mut state = self.state();
        state.create(org, name);
        if let Some(record) = state.records.last_mut() {
            record["store_type"] = json!("gcp");
            record["location"] = json!({"store_type": "gcp", "project": "p"});
        }
    }

    /// Keeps the value of a secret in another place from now on, where it is this; the former place keeps the former value.
    pub fn relocate(&self, org: &str, name: &str, value: &str) {
        let mut state = self.state();
        let place = format!("roboto/{org}/{name}/elsewhere");
        let arn = state.keeper.create(&place);
        state.keeper.put(&place, value);
        for record in state.records.iter_mut().filter(|record| record["org_id"] == org && record["name"] == name) {
            record["location"]["arn"] = json!(arn);
        }
    }

    /// Deletes a secret with its value.
    pub fn delete(&self, org: &str, name: &str) {
        self.state().delete(org, name);
    }

    /// Gives this answer to the next `times` requests.
    pub fn fail(&self, times: usize, status: u16, body: &Value) {
        let mut state = self.state();
        state.faults = (0..times).map(|_| (status, body.clone())).collect();
    }

    /// All requests so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.state().asked.clone()
    }

    /// How many requests there were for paths that end like this.
    #[must_use]
    pub fn count(&self, end: &str) -> usize {
        self.state().asked.iter().filter(|asked| asked.path.ends_with(end)).count()
    }
}

/// A refusal as the platform tells it.
#[must_use]
pub fn refusal(code: &str, message: &str) -> Value {
    json!({"error": {"error_code": code, "message": message}})
}

/// What the platform's gateway says of a key that it doesn't know.
#[must_use]
pub fn explicit_deny() -> Value {
    json!({"message": "User is not authorized to access this resource with an explicit deny"})
}

fn now() -> String {
    crate::vault::now() + "+00:00"
}

impl State {
    fn record(&self, org: &str, name: &str) -> Option<&Value> {
        self.records.iter().find(|record| record["org_id"] == org && record["name"] == name)
    }

    fn create(&mut self, org: &str, name: &str) -> Value {
        let arn = self.keeper.create(&format!("roboto/{org}/{name}"));
        let record = json!({
            "created": now(), "created_by": "tester@example.com", "last_used": null, "location": {"store_type": "aws", "arn": arn},
            "modified": now(), "modified_by": "tester@example.com", "name": name, "org_id": org, "store_type": "aws",
        });
        self.records.push(record.clone());
        record
    }

    fn delete(&mut self, org: &str, name: &str) -> bool {
        let before = self.records.len();
        self.records.retain(|record| record["org_id"] != org || record["name"] != name);
        self.keeper.delete(&format!("roboto/{org}/{name}"));
        self.records.len() < before
    }

    fn route(&mut self, question: &Question) -> Reply {
        let token = question.header("authorization");
        let Some(orgs) = token.strip_prefix("Bearer ").and_then(|token| self.keys.get(token)).cloned() else { return (403, explicit_deny()) };
        let org = ORG_HEADERS.into_iter().map(|name| question.header(name)).find(|org| !org.is_empty());
        if org.is_none() && orgs.len() > 1 {
            return (400, json!({"message": "The caller did not provide a org for single-org operation"}));
        }
        let org = org.unwrap_or_else(|| orgs[0].clone());
        if !orgs.contains(&org) {
            return (401, refusal("RobotoUnauthorizedException", &format!("Not a member of {org}")));
        }
        match (question.method.as_str(), question.path.strip_prefix("/v1/secrets")) {
            ("POST", Some("")) => {
                let body = question.json();
                let Some(name) = body["name"].as_str() else { return (400, refusal("RobotoInvalidRequestException", "Malformed body")) };
                if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.+=/-".contains(&b)) {
                    return (400, refusal("RobotoIllegalArgumentException", "Illegal secret name"));
                }
                if self.record(&org, name).is_some() {
                    return (409, refusal("RobotoConflictException", "It exists already"));
                }
                let record = self.create(&org, name);
                (200, json!({"data": record}))
            }
            ("GET", Some("")) => self.list(&org, question.field("page_token").as_deref()),
            (method, Some(rest)) if rest.starts_with("/name/") => self.one(method, &org, rest.trim_start_matches("/name/")),
            (method, _) => (404, refusal("RobotoUnknownOperationException", method)),
        }
    }

    fn list(&self, org: &str, token: Option<&str>) -> Reply {
        let start = token.map(|token| URL_SAFE_NO_PAD.decode(token).ok().and_then(|text| String::from_utf8(text).ok()?.parse::<usize>().ok()));
        let start = match start {
            None => 0,
            Some(Some(start)) => start,
            Some(None) => return (400, refusal("RobotoIllegalArgumentException", "Bad page token")),
        };
        let mine: Vec<&Value> = self.records.iter().filter(|record| record["org_id"] == org).collect();
        let next = (start + self.page < mine.len()).then(|| URL_SAFE_NO_PAD.encode((start + self.page).to_string()));
        let items: Vec<&Value> = mine.into_iter().skip(start).take(self.page).collect();
        (200, json!({"data": {"items": items, "next_token": next}}))
    }

    fn one(&mut self, method: &str, org: &str, rest: &str) -> Reply {
        let (name, creds) = rest.strip_suffix("/creds").map_or((rest, false), |name| (name, true));
        let Some(record) = self.record(org, name).cloned() else { return (404, refusal("RobotoNotFoundException", "No such secret")) };
        match (method, creds) {
            ("GET", true) => {
                self.lent += 1;
                let (region, key) = (crate::aws::REGION, format!("ASIALENT{:012}", self.lent));
                let creds = json!({"store_type": "aws", "region": region, "access_key_id": key, "secret_access_key": self.lent_secret, "session_token": self.lent_secret});
                (200, json!({"data": {"record": record, "creds": creds}}))
            }
            ("GET", false) => (200, json!({"data": record})),
            ("DELETE", false) => {
                self.delete(org, name);
                (204, Value::Null)
            }
            _ => (404, refusal("RobotoUnknownOperationException", method)),
        }
    }
}

impl Answers for State {
    fn answer(&mut self, question: &Question) -> Reply {
        let reply = match self.faults.pop_front() {
            Some(fault) => fault,
            None => self.route(question),
        };
        let (org, org_header) = ORG_HEADERS.iter().map(|name| (question.header(name), *name)).find(|(org, _)| !org.is_empty()).unwrap_or_default();
        let path = if question.query.is_empty() { question.raw_path.clone() } else { format!("{}?{}", question.raw_path, question.query) };
        let (method, version) = (question.method.clone(), question.header("x-roboto-api-version"));
        let body = String::from_utf8_lossy(&question.body).into_owned();
        self.asked.push(Asked { method, path, org, org_header, body, version, status: reply.0 });
        reply
    }
}
