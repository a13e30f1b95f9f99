//! The session with Vault: a token, how it is come by, and how it stays.
//!
//! A grant enters; a token leaves, for the calls of this store alone. It is renewed, or another is asked for, when two thirds of its life are over; who
//! waits for it shares it. What Vault refuses is told in words, and not asked for again at once.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::Door;
use crate::{
    api::{Reason, vault::VaultAuth},
    provider::{
        ReadError,
        grants::{Grant, Grants},
    },
    sensitive::Sensitive,
};

/// How long a refusal is taken for an answer: many resources may wait for the same token.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// How soon a login or a renewal that failed is tried again, as long as the token holds.
const AGAIN: Duration = Duration::from_secs(10);
/// Where the methods are mounted unless the provider says otherwise.
const KUBERNETES: &str = "kubernetes";
const APP_ROLE: &str = "approle";

/// A token, and as whom it reads.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) secret: Sensitive,
    pub(super) identity: String,
    /// When it is to be renewed or replaced.
    renew: Option<Instant>,
    /// Whether Vault would renew it.
    renewable: bool,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    refused: Option<(Instant, ReadError)>,
}

/// The session of one provider.
pub(super) struct Session {
    auth: VaultAuth,
    grants: Box<dyn Grants>,
    state: Mutex<State>,
}

#[derive(Serialize)]
struct ByKubernetes<'a> {
    role: &'a str,
    jwt: &'a str,
}

#[derive(Serialize)]
struct ByAppRole<'a> {
    role_id: &'a str,
    secret_id: &'a str,
}

#[derive(Deserialize)]
struct LoggedIn {
    auth: Auth,
}

#[derive(Deserialize)]
struct Auth {
    client_token: String,
    #[serde(default)]
    lease_duration: u64,
}

#[derive(Deserialize)]
struct Looked {
    data: Looks,
}

#[derive(Deserialize)]
struct Looks {
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    ttl: u64,
    #[serde(default)]
    renewable: bool,
}

impl Session {
    pub(super) fn new(auth: VaultAuth, grants: Box<dyn Grants>) -> Self {
        Self { auth, grants, state: Mutex::default() }
    }

    /// A token that works, as far as is known.
    pub(super) async fn token(&self, door: &Door) -> Result<Token, ReadError> {
        let mut state = self.state.lock().await;
        if let Some((_, error)) = state.refused.as_ref().filter(|(when, _)| when.elapsed() < REFUSED_FOR) {
            return Err(error.clone());
        }
        let former = state.token.clone();
        if let Some(token) = &former {
            if token.renew.is_none_or(|renew| renew > Instant::now()) {
                return Ok(token.clone());
            }
            // One of a Secret can only be renewed; for the others a new one is as good, and holds beyond the longest life of the former.
            if self.auth.token.is_some()
                && token.renewable
                && let Some(token) = renewed(door, token).await
            {
                state.token = Some(token.clone());
                return Ok(token);
            }
        }
        let token = match (self.log_in(door).await, former) {
            (Ok(token), _) => token,
            // What is there holds for a while yet.
            (Err(error), Some(token)) if error.reason == Reason::ProviderUnavailable => Token { renew: Some(Instant::now() + AGAIN), ..token },
            (Err(error), _) => {
                if error.reason == Reason::CredentialsError {
                    *state = State { token: None, refused: Some((Instant::now(), error.clone())) };
                }
                return Err(error);
            }
        };
        *state = State { token: Some(token.clone()), refused: None };
        Ok(token)
    }

    /// Vault refused this token. Lets it go, unless another one came meanwhile.
    pub(super) async fn refused(&self, token: &Token) {
        let mut state = self.state.lock().await;
        if state.token.as_ref().is_some_and(|known| known.secret.expose() == token.secret.expose()) {
            state.token = None;
        }
    }

    async fn log_in(&self, door: &Door) -> Result<Token, ReadError> {
        let Grant::Secret(secret) = self.grants.grant().await? else {
            return Err(ReadError::new(Reason::InternalError, "a defect of the controller: a grant for another store"));
        };
        let text = || std::str::from_utf8(secret.expose()).map_err(|_| ReadError::new(Reason::CredentialsError, "the credentials are no text"));
        let (place, answer) = match (&self.auth.kubernetes, &self.auth.app_role) {
            (Some(kubernetes), _) => {
                let place = format!("auth/{}/login", kubernetes.mount.as_deref().unwrap_or(KUBERNETES));
                let answer = door.post(&place, None, &ByKubernetes { role: &kubernetes.role, jwt: text()? }).await?;
                (place, answer)
            }
            (None, Some(role)) => {
                let place = format!("auth/{}/login", role.mount.as_deref().unwrap_or(APP_ROLE));
                let answer = door.post(&place, None, &ByAppRole { role_id: &role.role_id, secret_id: text()? }).await?;
                (place, answer)
            }
            (None, None) => return self.look(door, secret).await,
        };
        match answer.status {
            200 => {
                let LoggedIn { auth } = serde_json::from_slice(answer.body.expose()).map_err(|_| super::misunderstood())?;
                let token = self.look(door, Sensitive::from(auth.client_token)).await?;
                Ok(Token { renew: renewal(auth.lease_duration), ..token })
            }
            status @ (400 | 401 | 403 | 404) => {
                let problem = "Vault does not let the provider in; check the role, the mount and what the role binds";
                Err(ReadError::new(Reason::CredentialsError, format!("{problem} ({place}, HTTP {status})")))
            }
            status => Err(super::by_status(status)),
        }
    }

    /// Who a token belongs to and how long it holds.
    async fn look(&self, door: &Door, token: Sensitive) -> Result<Token, ReadError> {
        let answer = door.get("auth/token/lookup-self", "", &token).await?;
        match answer.status {
            200 => {
                let Looked { data } = serde_json::from_slice(answer.body.expose()).map_err(|_| super::misunderstood())?;
                Ok(Token { secret: token, identity: data.display_name, renew: renewal(data.ttl), renewable: data.renewable })
            }
            // A policy may forbid a token to look at itself; a bad token is told by what it is used for.
            403 if self.auth.token.is_none() => Ok(Token { secret: token, identity: String::new(), renew: None, renewable: false }),
            status @ (400 | 401 | 403) => {
                let problem = "Vault does not know the provider's token, or it has run out; put another one into its Secret";
                Err(ReadError::new(Reason::CredentialsError, format!("{problem} (HTTP {status})")))
            }
            status => Err(super::by_status(status)),
        }
    }
}

/// The token with a new life, if Vault gives it one.
async fn renewed(door: &Door, token: &Token) -> Option<Token> {
    let answer = door.post("auth/token/renew-self", Some(&token.secret), &serde_json::Map::new()).await.ok().filter(|answer| answer.status == 200)?;
    let LoggedIn { auth } = serde_json::from_slice(answer.body.expose()).ok()?;
    // It is the same one.
    drop(Sensitive::from(auth.client_token));
    Some(Token { renew: renewal(auth.lease_duration), ..token.clone() })
}

/// When what lives this many seconds is renewed; a life of 0 has no end.
fn renewal(seconds: u64) -> Option<Instant> {
    (seconds > 0).then(|| Instant::now() + Duration::from_secs(seconds) * 2 / 3)
}
