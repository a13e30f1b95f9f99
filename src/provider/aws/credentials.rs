//! Where a provider's credentials come from: a grant, and the roles that are assumed from it one after the other.
//!
//! A grant (a ServiceAccount's token with its role, or an access key), a profile and roles enter; credentials leave, for the SDK alone, which caches
//! them until shortly before they run out. What AWS refuses is told in words that name the role and the remedy; nothing here is logged.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use super::errors;
use crate::{
    api::Reason,
    limit::Turns,
    provider::{
        ReadError,
        grants::{Grant, Grants},
    },
    sensitive::Sensitive,
};
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, error::CredentialsError, future},
};
use aws_sdk_sts::types::Tag;

/// How long AWS's refusal of a role is taken for an answer: many resources may wait for the same credentials.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// Who the SDK is told that credentials come from.
const NAME: &str = "robotosecret";

/// A role that is assumed, for one who asks: nothing is left to fill in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its ARN.
    pub arn: String,
    /// The external id.
    pub external_id: Option<String>,
    /// The name of the session.
    pub session_name: String,
    /// Tags of the session.
    pub tags: Vec<(String, String)>,
}

/// Refusals that were lately given, so that not everybody who waits asks again.
#[derive(Default)]
struct Lately(Mutex<Option<(Instant, ReadError)>>);

impl Lately {
    fn refused(&self) -> Option<ReadError> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|(when, _)| when.elapsed() < REFUSED_FOR).map(|(_, error)| error.clone())
    }

    /// Takes note of an outcome. An outage is no refusal.
    fn note(&self, error: Option<&ReadError>) {
        let refused = error.filter(|error| error.reason == Reason::CredentialsError).map(|error| (Instant::now(), error.clone()));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = refused;
    }

    async fn or<T>(&self, ask: impl Future<Output = Result<T, ReadError>>) -> Result<T, CredentialsError> {
        if let Some(error) = self.refused() {
            return Err(CredentialsError::provider_error(error));
        }
        let answer = ask.await;
        self.note(answer.as_ref().err());
        answer.map_err(CredentialsError::provider_error)
    }
}

/// Credentials of a grant.
pub(super) struct Granted {
    grants: Box<dyn Grants>,
    /// Calls without credentials: the token is all that is sent.
    sts: aws_sdk_sts::Client,
    turns: Turns,
    session_name: String,
    lately: Lately,
}

impl Granted {
    pub(super) fn new(grants: Box<dyn Grants>, sts: aws_sdk_sts::Client, turns: Turns, session_name: String) -> Self {
        Self { grants, sts, turns, session_name, lately: Lately::default() }
    }

    async fn load(&self) -> Result<Credentials, ReadError> {
        let (token, role_arn) = match self.grants.grant().await? {
            Grant::AccessKey { id, secret, session_token } => {
                let session = session_token.map(|token| text(&token)).transpose()?;
                return Ok(Credentials::new(id, text(&secret)?, session, None, NAME));
            }
            Grant::WebIdentity { token, role_arn } => (token, role_arn),
            Grant::Secret(_) => return Err(ReadError::new(Reason::InternalError, "a defect of the controller: a grant for another store")),
        };
        self.turns.next().await;
        let call = self.sts.assume_role_with_web_identity().role_arn(&role_arn).role_session_name(&self.session_name);
        let answer = call.web_identity_token(text(&token)?).send().await;
        let answer = answer.map_err(|error| {
            let error = errors::of_role(&role_arn, "sts:AssumeRoleWithWebIdentity", &error, said_of_token);
            note_throttle(&self.turns, &error);
            error
        })?;
        credentials(answer.credentials)
    }
}

/// Credentials of a role, assumed with those of another.
pub(super) struct Assumed {
    role: Role,
    sts: aws_sdk_sts::Client,
    turns: Turns,
    lately: Lately,
}

impl Assumed {
    pub(super) fn new(role: Role, sts: aws_sdk_sts::Client, turns: Turns) -> Self {
        Self { role, sts, turns, lately: Lately::default() }
    }

    async fn load(&self) -> Result<Credentials, ReadError> {
        let Role { arn, external_id, session_name, tags } = &self.role;
        let mut call = self.sts.assume_role().role_arn(arn).role_session_name(session_name).set_external_id(external_id.clone());
        for (key, value) in tags {
            let tag = Tag::builder().key(key).value(value).build();
            call = call.tags(tag.map_err(|_| ReadError::new(Reason::InternalError, "a defect of the controller: a session tag without key or value"))?);
        }
        self.turns.next().await;
        let answer = call.send().await.map_err(|error| {
            let error = errors::of_role(arn, "sts:AssumeRole", &error, said_of_role);
            note_throttle(&self.turns, &error);
            error
        })?;
        credentials(answer.credentials)
    }
}

/// Credentials of a profile that somebody named.
#[derive(Debug)]
pub(super) struct Profiled {
    name: String,
    files: ProfileFileCredentialsProvider,
}

impl Profiled {
    pub(super) fn new(name: &str, files: ProfileFileCredentialsProvider) -> Self {
        Self { name: name.to_owned(), files }
    }

    async fn load(&self) -> Result<Credentials, CredentialsError> {
        self.files.provide_credentials().await.map_err(|error| match error {
            CredentialsError::ProviderTimedOut(_) => error,
            _ => CredentialsError::provider_error(ReadError::new(
                Reason::CredentialsError,
                format!(
                    "the profile {} gives no credentials; check whether it is in AWS's configuration files (~/.aws/config, ~/.aws/credentials), and what it refers to: a role, a login (aws sso login), a program",
                    self.name
                ),
            )),
        })
    }
}

fn note_throttle(turns: &Turns, error: &ReadError) {
    if error.reason == Reason::Throttled {
        turns.throttled();
    }
}

/// What AWS's refusal of a token most probably means.
fn said_of_token(code: &str) -> &'static str {
    match code {
        "AccessDenied" => "the role's trust policy does not let this ServiceAccount in; let it name the cluster's OIDC provider, the subject and the audience",
        "InvalidIdentityToken" | "IDPRejectedClaim" => {
            "AWS does not accept the ServiceAccount's token; check the cluster's OIDC provider in IAM and the provider's audiences"
        }
        "ExpiredTokenException" => "AWS takes the ServiceAccount's token for one that ran out; check the clocks",
        _ => "AWS does not give the role for the ServiceAccount's token",
    }
}

fn said_of_role(code: &str) -> &'static str {
    match code {
        "AccessDenied" => {
            "the role may not be assumed; let its trust policy name the identity that assumes it (with the external id, and sts:TagSession where tags are sent), \
             and grant that identity sts:AssumeRole on it"
        }
        "PackedPolicyTooLarge" => "the session's tags are too long",
        "RegionDisabledException" => "AWS's Security Token Service is switched off for this region in the role's account",
        _ => "AWS does not give the role",
    }
}

fn text(value: &Sensitive) -> Result<String, ReadError> {
    std::str::from_utf8(value.expose()).map(str::to_owned).map_err(|_| ReadError::new(Reason::CredentialsError, "the credentials are no text"))
}

fn credentials(given: Option<aws_sdk_sts::types::Credentials>) -> Result<Credentials, ReadError> {
    let given = given.ok_or_else(errors::incomplete)?;
    let expires = SystemTime::try_from(given.expiration).map_err(|_| errors::incomplete())?;
    Ok(Credentials::new(given.access_key_id, given.secret_access_key, Some(given.session_token), Some(expires), NAME))
}

impl fmt::Debug for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Granted")
    }
}

impl fmt::Debug for Assumed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Assumed({})", self.role.arn)
    }
}

impl ProvideCredentials for Granted {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.lately.or(self.load()))
    }
}

impl ProvideCredentials for Assumed {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.lately.or(self.load()))
    }
}

impl ProvideCredentials for Profiled {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.load())
    }
}
