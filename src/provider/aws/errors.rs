//! Why a call to AWS failed, in words that tell what to do.
//!
//! An SDK error enters, a [`ReadError`] leaves. The message holds the reference, AWS's error code and the remedy, all of it stable
//! from retry to retry; AWS's own text and the request id go to the log. Neither holds a value.

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_runtime::retries::classifiers::THROTTLING_ERRORS;
use aws_sdk_secretsmanager::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use aws_sdk_sts::operation::RequestId;
use aws_smithy_types::error::metadata::ErrorMetadata;

use crate::{
    api::{Reason, reference::Source},
    provider::ReadError,
};

/// Sorts a failed call. `subject` is what was read, `action` the IAM action that it needs.
pub(super) fn classify<E>(subject: &str, action: &str, error: &SdkError<E, HttpResponse>) -> ReadError
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    match error {
        // An answer of success that isn't JSON arrives as an error of the service, whose debug text holds the whole answer.
        SdkError::ServiceError(context) if context.raw().status().is_success() => unavailable(subject, "the store's answer could not be understood"),
        SdkError::ServiceError(context) => {
            let status = context.raw().status().as_u16();
            by_code(subject, action, status, context.err().meta())
        }
        SdkError::TimeoutError(_) => unavailable(subject, "the store did not answer within 5 s"),
        SdkError::ResponseError(_) => unavailable(subject, "the store's answer could not be understood"),
        other => {
            if let Some(reason) = credentials_problem(other) {
                return ReadError::new(
                    reason,
                    format!("{subject}: the controller has no AWS credentials; give its ServiceAccount a role, or its pod an identity"),
                );
            }
            let cause = deepest(other);
            let refused = if cause.contains("refused") { " (connection refused)" } else { "" };
            let message = format!("{subject}: the store could not be reached{refused}; check the provider's region and endpoints, and the way there");
            // Nothing was answered, so that the cause (an address, DNS, TLS) holds no value.
            ReadError { reason: Reason::ProviderUnavailable, message, detail: Some(cause) }
        }
    }
}

/// The innermost cause, in words.
fn deepest(error: &(dyn StdError + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// An answer without what every answer has.
pub(super) fn incomplete(source: &Source) -> ReadError {
    unavailable(&source.to_string(), "the store's answer was incomplete")
}

fn unavailable(subject: &str, problem: &str) -> ReadError {
    ReadError::new(Reason::ProviderUnavailable, format!("{subject}: {problem}"))
}

/// Tells whether no call was made because there are no credentials.
fn credentials_problem(error: &(dyn StdError + 'static)) -> Option<Reason> {
    let mut cause = Some(error);
    while let Some(current) = cause {
        if let Some(problem) = current.downcast_ref::<CredentialsError>() {
            return Some(if matches!(problem, CredentialsError::ProviderTimedOut(_)) { Reason::ProviderUnavailable } else { Reason::CredentialsError });
        }
        cause = current.source();
    }
    None
}

fn by_code(subject: &str, action: &str, status: u16, meta: &ErrorMetadata) -> ReadError {
    let code = meta.code().unwrap_or("unknown error");
    let said = meta.message().unwrap_or_default();
    let (reason, explanation) = explain(action, status, code, said);
    let detail = format!("{code} (HTTP {status}): {said} [request {}]", meta.request_id().unwrap_or("unknown"));
    ReadError { reason, message: format!("{subject}: {explanation} ({code})"), detail: Some(detail) }
}

fn explain(action: &str, status: u16, code: &str, said: &str) -> (Reason, String) {
    // A name may hold "kms" too; the action and the service are spelled like this.
    let about_kms = ["kms:", "KMS", "ciphertext"].iter().any(|mark| said.contains(mark));
    match code {
        "ResourceNotFoundException" => {
            (Reason::SourceNotFound, "Secrets Manager has no such secret in this region, or no value of it with this version or stage; check the name".into())
        }
        "ParameterNotFound" => {
            (Reason::SourceNotFound, "Parameter Store has no such parameter in this region; check the name (most start with a slash: aws.ps:///name)".into())
        }
        "ParameterVersionNotFound" => (Reason::SourceNotFound, "the parameter has no such version or label".into()),
        "InvalidRequestException" if said.contains("deletion") || said.contains("deleted") => {
            (Reason::SourceNotFound, "the secret is scheduled for deletion; restore it or refer to another".into())
        }
        "InvalidRequestException" | "InvalidParameterException" | "ValidationException" => {
            (Reason::SourceNotFound, "the store refuses to look this up; check name, version and stage".into())
        }
        "KMSThrottlingException" => (Reason::Throttled, "the encryption key is used too often; retrying more slowly".into()),
        "AccessDeniedException" if !about_kms => (Reason::AccessDenied, format!("the identity may not read this; grant it {action} on it")),
        "AccessDeniedException" | "DecryptionFailure" | "DecryptionFailureException" | "KMSAccessDeniedException" => {
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
        | "OptInRequired" => (Reason::CredentialsError, "AWS does not accept the controller's credentials; check the identity it runs with".into()),
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" | "RequestTimeTooSkewed" => {
            (Reason::ProviderUnavailable, "the credentials have run out or the clock is wrong; retrying with new ones".into())
        }
        _ if THROTTLING_ERRORS.contains(&code) || status == 429 => (Reason::Throttled, "the store asks to slow down; retrying more slowly".into()),
        _ => (Reason::ProviderUnavailable, format!("the store failed with HTTP {status}")),
    }
}
