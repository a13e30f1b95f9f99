//! Functions of Lambda, as an identity in AWS invokes them: for a store that is behind one.
//!
//! A function's name and a payload enter; what it answered leaves, or why it didn't. Payloads are for the caller alone: no error repeats them.

use aws_sdk_lambda::types::InvocationType;
use aws_smithy_types::Blob;

use super::{Ambient, Caller, Principal, errors, identity::Clients, payer};
use crate::{
    api::{Reason, aws::AwsSpec},
    provider::{ReadError, observed},
    sensitive::Sensitive,
    telemetry::Metrics,
};

/// What invoking needs.
const INVOKE: &str = "lambda:InvokeFunction";

/// Invokes as one identity in one region.
pub struct Functions {
    clients: Clients,
    account: String,
    metrics: Metrics,
}

impl Functions {
    /// Prepares the clients; nothing is called yet.
    #[must_use]
    pub fn new(spec: &AwsSpec, principal: Principal, ambient: &Ambient, metrics: Metrics) -> Self {
        let account = payer(&principal.payer, spec);
        Self { clients: Clients::new(spec, principal, ambient), account, metrics }
    }

    /// Whose limits its calls count against.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.account
    }

    /// Where a function is, for a name of what it tells.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.clients.region
    }

    /// Who AWS says that the identity is, if it was asked already.
    #[must_use]
    pub fn known_caller(&self) -> Option<Caller> {
        self.clients.known_caller()
    }

    /// Who AWS says that the identity is; asked once, unless `anew`.
    pub async fn caller(&self, anew: bool) -> Result<Caller, ReadError> {
        self.clients.who(anew, &self.metrics).await
    }

    /// Invokes a function and waits for what it answers.
    pub async fn invoke(&self, function: &str, payload: Sensitive) -> Result<Sensitive, ReadError> {
        let stores = self.clients.at(&self.clients.region);
        let call = stores.lambda().invoke().function_name(function).invocation_type(InvocationType::RequestResponse).payload(Blob::new(payload.expose()));
        let call = async { call.send().await.map_err(|error| refused(function, errors::said(&error).0, errors::classify(INVOKE, &error).error)) };
        let answer = Box::pin(observed(&self.metrics, ("aws.lambda", "Invoke", 1), |error: &ReadError| error.reason, call)).await?;
        let told = Sensitive::new(answer.payload.map(Blob::into_inner).unwrap_or_default());
        match answer.function_error {
            None => Ok(told),
            // What it says of its error may hold what it was asked for.
            Some(_) => Err(ReadError::new(Reason::ProviderUnavailable, format!("the function {function} failed"))),
        }
    }
}

/// Why Lambda did not invoke it. That there is no such function says nothing about what it would have told.
fn refused(function: &str, code: &str, error: ReadError) -> ReadError {
    if code == "ResourceNotFoundException" {
        let problem = format!("Lambda has no function {function} in this region; check the provider's environment, function and region ({code})");
        return ReadError { reason: Reason::SourceNotFound, message: problem, absent: false, ..error };
    }
    error
}
