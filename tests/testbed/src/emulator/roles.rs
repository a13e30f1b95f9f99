//! STS: roles that anybody may assume, and who signs with what it gave. Calls enter, XML leaves. The secret parts are made up and not checked.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_secretsmanager::primitives::{DateTime, DateTimeFormat as Format};

use super::Refusal;
use crate::aws;
use crate::front::Call;

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// Someone who signs.
struct Session {
    arn: String,
    account: String,
    expires: f64,
}

/// Roles and their sessions.
pub(super) struct Roles {
    pub(super) life: Duration,
    /// By access key id.
    sessions: HashMap<String, Session>,
}

impl Default for Roles {
    fn default() -> Self {
        Self { life: Duration::from_secs(3600), sessions: HashMap::new() }
    }
}

impl Roles {
    /// Why a call, whatever it asks for, isn't even looked at: what it is signed with has run out.
    pub(super) fn refuse(&self, call: &Call, now: f64) -> Option<Refusal> {
        let code = if call.service == "sts" { "ExpiredToken" } else { "ExpiredTokenException" };
        let expired = self.sessions.get(&call.access_key_id).is_some_and(|session| session.expires <= now);
        expired.then(|| Refusal::new(code, "The security token included in the request is expired"))
    }

    /// The body of an answer.
    pub(super) fn answer(&mut self, call: &Call, now: f64) -> Result<String, Refusal> {
        match call.action.as_str() {
            "GetCallerIdentity" => Ok(self.caller(&call.access_key_id)),
            "AssumeRole" if call.access_key_id.is_empty() => Err(Refusal::new("MissingAuthenticationToken", "Request is missing Authentication Token")),
            "AssumeRole" | "AssumeRoleWithWebIdentity" => self.assume(call, now),
            action => Err(super::unknown(action)),
        }
    }

    fn assume(&mut self, call: &Call, now: f64) -> Result<String, Refusal> {
        let parameter = |name: &str| call.parameters.get(name).filter(|value| !value.is_empty());
        let missing = |name: &str| Refusal::new("ValidationError", format!("1 validation error detected: Value null at '{name}' failed to satisfy constraint"));
        let role = parameter("RoleArn").ok_or_else(|| missing("roleArn"))?;
        let session = parameter("RoleSessionName").ok_or_else(|| missing("roleSessionName"))?;
        let (Some(account), Some(name)) = (role.split(':').nth(4), role.split_once(":role/").map(|(_, name)| name)) else {
            return Err(Refusal::new("ValidationError", format!("{role} is invalid")));
        };
        let key = format!("ASIAROLE{:012}", self.sessions.len() + 1);
        let (arn, expires) = (format!("arn:aws:sts::{account}:assumed-role/{name}/{session}"), now + self.life.as_secs_f64());
        let until = DateTime::from_secs_f64(expires).fmt(Format::DateTime).unwrap_or_default();
        self.sessions.insert(key.clone(), Session { arn: arn.clone(), account: account.to_owned(), expires });
        let action = &call.action;
        let secret = aws::SECRET_ACCESS_KEY;
        Ok(envelope(
            action,
            &format!(
                "<Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey><SessionToken>token-of-{key}</SessionToken>\
                 <Expiration>{until}</Expiration></Credentials><AssumedRoleUser><AssumedRoleId>AROATESTBED:{session}</AssumedRoleId><Arn>{arn}</Arn></AssumedRoleUser>"
            ),
        ))
    }

    fn caller(&self, key: &str) -> String {
        let (arn, account) = match self.sessions.get(key) {
            Some(session) => (session.arn.clone(), session.account.as_str()),
            None => (format!("arn:aws:iam::{}:user/testbed", aws::ACCOUNT), aws::ACCOUNT),
        };
        envelope("GetCallerIdentity", &format!("<Arn>{arn}</Arn><UserId>AIDATESTBED</UserId><Account>{account}</Account>"))
    }
}

fn envelope(action: &str, result: &str) -> String {
    format!(
        "<{action}Response xmlns=\"{NAMESPACE}\"><{action}Result>{result}</{action}Result>\
         <ResponseMetadata><RequestId>11111111-2222-3333-4444-555555555555</RequestId></ResponseMetadata></{action}Response>"
    )
}
