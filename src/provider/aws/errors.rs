//! Why a call to AWS failed, in words that tell what to do, and whether what was asked for may be why.
//!
//! An SDK error enters, a [`Failure`] leaves. Its message holds AWS's error code and the remedy, stable from retry to retry, and names
//! no source: [`ReadError::about`] does, in one place. AWS's own text and the request id go to the log. Neither holds a value.

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_runtime::retries::classifiers::{THROTTLING_ERRORS, TRANSIENT_ERRORS};
use aws_sdk_secretsmanager::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use aws_sdk_sts::operation::RequestId;

pub(super) use crate::provider::{misunderstood, silent};
use crate::{
    api::Reason,
    provider::{ReadError, causes, deepest},
};

/// The credentials were good, or would be with another clock.
const EXPIRED: &[&str] = &["ExpiredToken", "ExpiredTokenException", "RequestExpired", "RequestTimeTooSkewed"];

const MARKED: &str = "the secret is scheduled for deletion; restore it or refer to another";

/// A call that failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// What the user and the log are told.
    pub(super) error: ReadError,
    /// Where its cause lies.
    pub(super) cause: Cause,
}

/// Where the cause of a failed call lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Perhaps in one thing that was asked for: without it the call may work.
    Question,
    /// In a permission that is missing. For one thing or for all of them, that depends on the call.
    Permission,
    /// In neither: a throttle, an outage, credentials. Asking for something else would not help.
    Elsewhere,
}

impl Failure {
    pub(super) fn elsewhere(error: ReadError) -> Self {
        Self { error, cause: Cause::Elsewhere }
    }
}

/// Sorts a failed call. `action` is the IAM action that it needs.
pub(super) fn classify<E>(action: &str, error: &SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    match error {
        // An answer of success that isn't JSON arrives as an error of the service, whose debug text holds the whole answer.
        SdkError::ServiceError(context) if context.raw().status().is_success() => Failure::elsewhere(misunderstood()),
        SdkError::ServiceError(context) => {
            let (status, meta) = (context.raw().status().as_u16(), context.err().meta());
            let code = meta.code().filter(|code| is_name(code)).unwrap_or("unknown error");
            let said = meta.message().unwrap_or_default();
            let error = by_code(action, Some(status), code, said, meta.request_id());
            let cause = cause(action, status, code, said, error.reason);
            Failure { error, cause }
        }
        SdkError::TimeoutError(_) => Failure::elsewhere(silent()),
        SdkError::ResponseError(_) => Failure::elsewhere(misunderstood()),
        other => Failure::elsewhere(unsent(other)),
    }
}

/// Why a role was not given. `explain` says what AWS's code most probably means.
pub(super) fn of_role<E>(role: &str, action: &str, error: &SdkError<E, HttpResponse>, explain: fn(&str) -> &'static str) -> ReadError
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    let failure = classify(action, error).error;
    let (code, _) = said(error);
    let refused = error.raw_response().is_some_and(|response| response.status().is_client_error());
    // The credentials before it told their own trouble, if that was it.
    if carried(error).is_some() {
        return failure;
    }
    if refused && !matches!(failure.reason, Reason::Throttled | Reason::ProviderUnavailable) || code == "ExpiredTokenException" {
        return ReadError { reason: Reason::CredentialsError, message: format!("{role}: {} ({code})", explain(code)), ..failure };
    }
    ReadError { message: format!("{role}: {}", failure.message), ..failure }
}

/// What one of our own sources of credentials said.
fn carried<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e ReadError> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// Why nothing was answered.
fn unsent(error: &(dyn StdError + 'static)) -> ReadError {
    if let Some(said) = carried(error) {
        return said.clone();
    }
    if let Some(reason) = credentials_problem(error) {
        return ReadError::new(
            reason,
            "there are no AWS credentials; the controller gets them by a role of its ServiceAccount or an identity of its pod, the command line by a profile or the environment",
        );
    }
    let cause = deepest(error);
    let refused = if cause.contains("refused") { " (connection refused)" } else { "" };
    let message = format!("the store could not be reached{refused}; check region and endpoints, and the way there: DNS, network, proxy");
    // Nothing was answered, so that the cause (an address, DNS, TLS) holds no value.
    ReadError { reason: Reason::ProviderUnavailable, message, detail: Some(cause), absent: false, own: false }
}

/// One of several that a call was for failed, with a code of its own.
pub(super) fn of_item(action: &str, code: Option<&str>, said: Option<&str>) -> ReadError {
    by_code(action, None, code.unwrap_or("unknown error"), said.unwrap_or_default(), None)
}

/// An answer without what every answer has.
pub(super) fn incomplete() -> ReadError {
    unavailable("the store's answer was incomplete")
}

/// The code and the message of a refusal.
pub(super) fn said<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> (&str, &str) {
    let meta = error.as_service_error().map(ProvideErrorMetadata::meta);
    (meta.and_then(|meta| meta.code()).unwrap_or_default(), meta.and_then(|meta| meta.message()).unwrap_or_default())
}

/// Whether a refusal says that there is no such secret at all. One without a value, or without this version, is there.
pub(super) fn is_no_secret((code, message): (&str, &str)) -> bool {
    code == "ResourceNotFoundException" && message.trim_end_matches('.').ends_with("can't find the specified secret")
}

/// Whether a refusal says that the secret is to be deleted.
pub(super) fn is_marked_for_deletion((code, message): (&str, &str)) -> bool {
    code == "InvalidRequestException" && (message.contains("deletion") || message.contains("deleted"))
}

/// Scheduled for deletion: it is there, and can't be used.
pub(super) fn marked_for_deletion() -> ReadError {
    ReadError::new(Reason::SourceNotFound, MARKED)
}

/// What to grant an action on.
pub(super) fn granted_on(action: &str) -> &'static str {
    match action {
        "secretsmanager:ListSecrets" | "ssm:DescribeParameters" => "*",
        "ssm:GetParametersByPath" => "the path and on all below it",
        _ => "it",
    }
}

pub(super) fn unavailable(problem: &str) -> ReadError {
    ReadError::new(Reason::ProviderUnavailable, problem)
}

/// Tells whether no call was made because there are no credentials.
fn credentials_problem(error: &(dyn StdError + 'static)) -> Option<Reason> {
    let problem: &CredentialsError = causes(error).find_map(|cause| cause.downcast_ref())?;
    Some(if matches!(problem, CredentialsError::ProviderTimedOut(_)) { Reason::ProviderUnavailable } else { Reason::CredentialsError })
}

/// `status`: of the whole call; an item has none.
fn by_code(action: &str, status: Option<u16>, code: &str, said: &str, request: Option<&str>) -> ReadError {
    let (reason, explanation) = explain(action, status, code, said);
    let status = status.map(|status| format!(" (HTTP {status})")).unwrap_or_default();
    let request = request.unwrap_or("unknown");
    let detail = Some(format!("{code}{status}: {said} [request {request}]"));
    let own = reason == Reason::Throttled && is_of_key(code, said);
    ReadError { reason, message: format!("{explanation} ({code})"), detail, absent: false, own }
}

fn cause(action: &str, status: u16, code: &str, said: &str, reason: Reason) -> Cause {
    let transient = EXPIRED.contains(&code) || TRANSIENT_ERRORS.contains(&code);
    let elsewhere = matches!(reason, Reason::Throttled | Reason::CredentialsError) && !is_of_key(code, said);
    if !(400..500).contains(&status) || transient || elsewhere {
        return Cause::Elsewhere;
    }
    // AWS names the action that it refuses; it may be another one that this call needs for one of its items.
    let refused = said.split_once("is not authorized to perform: ").and_then(|(_, rest)| rest.split_whitespace().next());
    if is_denied(code) && !about_kms(said) && refused.is_none_or(|refused| refused == action) { Cause::Permission } else { Cause::Question }
}

/// Whether a code is a name, as AWS's are: what stands in between may put anything there, also of the request.
fn is_name(code: &str) -> bool {
    (1..=80).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

pub(super) fn is_denied(code: &str) -> bool {
    matches!(code, "AccessDeniedException" | "AccessDenied")
}

/// Whether it is the encryption key that is used too often, not the store.
fn is_of_key(code: &str, said: &str) -> bool {
    code == "KMSThrottlingException" || (THROTTLING_ERRORS.contains(&code) && about_kms(said))
}

/// A name may hold "kms" too; the action and the service are spelled like this.
pub(super) fn about_kms(said: &str) -> bool {
    ["kms:", "KMS", "ciphertext"].iter().any(|mark| said.contains(mark))
}

pub(super) fn explain(action: &str, status: Option<u16>, code: &str, said: &str) -> (Reason, String) {
    match code {
        "ResourceNotFoundException" => {
            (Reason::SourceNotFound, "Secrets Manager has no such secret in this region, or no value of it with this version or stage; check the name".into())
        }
        "ParameterNotFound" | "InvalidResourceId" => {
            (Reason::SourceNotFound, "Parameter Store has no such parameter in this region; check the name (most start with a slash: aws.ps:///name)".into())
        }
        "ParameterVersionNotFound" => (Reason::SourceNotFound, "the parameter has no such version or label".into()),
        "InvalidRequestException" if is_marked_for_deletion((code, said)) => (Reason::SourceNotFound, MARKED.into()),
        "InvalidRequestException" | "InvalidParameterException" | "ValidationException" => {
            (Reason::SourceNotFound, "the store refuses to look this up; check name, version and stage".into())
        }
        _ if is_of_key(code, said) => (Reason::Throttled, "the encryption key is used too often; retrying more slowly".into()),
        _ if is_denied(code) && !about_kms(said) => {
            (Reason::AccessDenied, format!("the identity may not read this; grant it {action} on {}", granted_on(action)))
        }
        "AccessDeniedException" | "AccessDenied" | "DecryptionFailure" | "DecryptionFailureException" | "KMSAccessDeniedException" => {
            (Reason::AccessDenied, "the encryption key refuses the identity; grant it kms:Decrypt on the key".into())
        }
        "InvalidKeyId" | "KMSDisabledException" | "KMSInvalidStateException" | "KMSNotFoundException" => {
            (Reason::AccessDenied, "the encryption key is disabled, scheduled for deletion or gone; enable it, or encrypt the value with another".into())
        }
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "OptInRequired" => (
            Reason::CredentialsError,
            "AWS does not accept the credentials; check the provider's identity, on the command line the profile or the environment".into(),
        ),
        _ if EXPIRED.contains(&code) => (
            Reason::ProviderUnavailable,
            "the credentials have run out, or the clock of the machine that reads is wrong, by which they are renewed; retrying with new ones".into(),
        ),
        _ if THROTTLING_ERRORS.contains(&code) || status == Some(429) => (Reason::Throttled, "the store asks to slow down; retrying more slowly".into()),
        _ => (Reason::ProviderUnavailable, status.map_or_else(|| "the store failed".into(), |status| format!("the store failed with HTTP {status}"))),
    }
}
