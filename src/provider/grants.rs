//! What a provider's identity stands on: tokens and keys, as somebody who knows Kubernetes hands them out.
//!
//! Nothing here is logged or kept; a store's client takes a grant when it needs one.

use futures::future::BoxFuture;

use super::ReadError;
use crate::{api::Reason, sensitive::Sensitive};

/// What a provider's identity stands on, as somebody else hands it out.
pub enum Grant {
    /// A token that AWS takes for a role.
    WebIdentity {
        /// The token.
        token: Sensitive,
        /// The role.
        role_arn: String,
    },
    /// An access key.
    AccessKey {
        /// Its id.
        id: String,
        /// Its secret.
        secret: Sensitive,
        /// The session that it belongs to.
        session_token: Option<Sensitive>,
    },
    /// A token for the store, a token of a ServiceAccount that the store knows, or the secret of a role: the store's own settings say which.
    Secret(Sensitive),
}

impl Grant {
    /// The one secret of a store that takes one.
    pub fn secret(self) -> Result<Sensitive, ReadError> {
        match self {
            Self::Secret(secret) => Ok(secret),
            Self::WebIdentity { .. } | Self::AccessKey { .. } => {
                Err(ReadError::new(Reason::InternalError, "a defect of the controller: a grant for another store"))
            }
        }
    }
}

/// Hands out grants: it knows Kubernetes, and nothing here does.
pub trait Grants: Send + Sync {
    /// A new grant, or why there is none.
    fn grant(&self) -> BoxFuture<'_, Result<Grant, ReadError>>;
}
