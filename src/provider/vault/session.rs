//! The session with Vault: a token, how it is come by, and how it stays.
//!
//! A grant enters; a token leaves, for the calls of this store alone. It is renewed, or another is asked for, when two thirds of its life are over; who
//! waits for it shares it. What Vault refuses is told in words, and not asked for again at once.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize, de::IgnoredAny};

use super::Door;
use crate::{
    api::{Reason, vault::VaultAuth},
    provider::{
        ReadError,
        grants::Grants,
        kept::{Kept, Made},
        misunderstood,
    },
    sensitive::Sensitive,
};

/// Where the methods are mounted unless the provider says otherwise.
const KUBERNETES: &str = "kubernetes";
const APP_ROLE: &str = "approle";

/// A token, and as whom it reads.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) secret: Sensitive,
    pub(super) identity: String,
    /// Vault's id of whoever it belongs to; empty for a token that is nobody's.
    pub(super) entity: String,
    /// Whether it may look itself up. If not, nothing tells a refusal of what it asks for from one of itself.
    pub(super) looks: bool,
    /// When it was come by.
    pub(super) since: Instant,
    /// Whether Vault would renew it.
    renewable: bool,
}

/// The session of one provider.
pub(super) struct Session {
    auth: VaultAuth,
    grants: Box<dyn Grants>,
    kept: Kept<Token>,
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
    #[serde(default)]
    entity_id: String,
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
    entity_id: String,
    #[serde(default)]
    ttl: u64,
    #[serde(default)]
    renewable: bool,
}

impl Session {
    pub(super) fn new(auth: VaultAuth, grants: Box<dyn Grants>) -> Self {
        Self { auth, grants, kept: Kept::default() }
    }

    /// A token that works, as far as is known.
    pub(super) async fn token(&self, door: &Door) -> Result<Token, ReadError> {
        self.kept.get(|former| self.make(door, former)).await
    }

    /// Why Vault gives no other token since this long, although the one that is there may hold yet.
    pub(super) fn trouble(&self) -> Option<(Duration, ReadError)> {
        self.kept.refused()
    }

    /// Vault refused this token. Lets it go, unless another one came meanwhile.
    pub(super) async fn refused(&self, token: &Token) {
        self.kept.discard(|known| known.secret.expose() == token.secret.expose()).await;
    }

    async fn make(&self, door: &Door, former: Option<Token>) -> Result<Made<Token>, ReadError> {
        // One of a Secret can only be renewed; for the others a new one is as good, and holds beyond the longest life of the former.
        if let Some(token) = former.filter(|token| self.auth.token.is_some() && token.renewable)
            && let Some(made) = renewed(door, token).await
        {
            return Ok(made);
        }
        self.log_in(door).await
    }

    async fn log_in(&self, door: &Door) -> Result<Made<Token>, ReadError> {
        let secret = self.grants.grant().await?.secret()?;
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
            (None, None) => return self.look(door, secret, String::new()).await,
        };
        match answer.status {
            200 => {
                let LoggedIn { auth } = serde_json::from_slice(answer.body.expose()).map_err(|_| misunderstood())?;
                let made = self.look(door, Sensitive::from(auth.client_token), auth.entity_id).await?;
                Ok(Made::living(made.value, auth.lease_duration))
            }
            status @ (400 | 401 | 403 | 404) if is_vaults(&answer.body) => {
                let problem = "Vault does not let the provider in; check the role, the mount and what the role binds";
                Err(ReadError::new(Reason::CredentialsError, format!("{problem} ({place}, HTTP {status})")))
            }
            status => Err(super::by_status(status)),
        }
    }

    /// Who a token belongs to and how long it holds. `entity`: as the login said.
    async fn look(&self, door: &Door, token: Sensitive, entity: String) -> Result<Made<Token>, ReadError> {
        let since = Instant::now();
        let answer = door.get("auth/token/lookup-self", "", &token).await?;
        match answer.status {
            200 => {
                let Looked { data } = serde_json::from_slice(answer.body.expose()).map_err(|_| misunderstood())?;
                let entity = if data.entity_id.is_empty() { entity } else { data.entity_id };
                let token = Token { secret: token, identity: data.display_name, entity, looks: true, since, renewable: data.renewable };
                Ok(Made::living(token, data.ttl))
            }
            // A policy may forbid a token to look at itself; a bad token is told by what it is used for.
            403 if self.auth.token.is_none() => {
                let token = Token { secret: token, identity: String::new(), entity, looks: false, since, renewable: false };
                Ok(Made::lasting(token))
            }
            status @ (400 | 401 | 403) => {
                let problem =
                    "Vault does not know the token, or it has run out; put another one into the provider's Secret, or on the command line into VAULT_TOKEN";
                Err(ReadError::new(Reason::CredentialsError, format!("{problem} (HTTP {status})")))
            }
            status => Err(super::by_status(status)),
        }
    }
}

/// Whether a refusal is Vault's, and not of something in between.
fn is_vaults(body: &Sensitive) -> bool {
    #[derive(Deserialize)]
    struct Errors {
        #[serde(rename = "errors")]
        _errors: Vec<IgnoredAny>,
    }
    serde_json::from_slice::<Errors>(body.expose()).is_ok()
}

/// The token with a new life, if Vault gives it one.
async fn renewed(door: &Door, token: Token) -> Option<Made<Token>> {
    let answer = door.post("auth/token/renew-self", Some(&token.secret), &serde_json::Map::new()).await.ok().filter(|answer| answer.status == 200)?;
    let LoggedIn { auth } = serde_json::from_slice(answer.body.expose()).ok()?;
    // It is the same one.
    drop(Sensitive::from(auth.client_token));
    Some(Made::living(token, auth.lease_duration))
}
