//! Why AWS didn't do what was asked, in words of our own.
//!
//! An SDK error enters, a [`WriteError`] leaves. AWS's text is looked at and goes nowhere, also not to the log: it quotes the value that was sent
//! ("Value '…' at 'value' failed to satisfy constraint"). What is kept is the code, the status and the request's id.

use std::error::Error as StdError;

use aws_sdk_secretsmanager::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use aws_sdk_sts::operation::RequestId;

use super::super::errors;
use crate::{
    api::Reason,
    provider::{ReadError, WriteError, causes},
};

/// What a call may need besides what it is called after. AWS says which one was refused.
const BESIDES: [&str; 2] = ["secretsmanager:TagResource", "ssm:AddTagsToResource"];

/// Sorts a call that failed. `action` is the IAM action that it needs.
pub(super) fn of<E>(action: &str, error: &SdkError<E, HttpResponse>) -> WriteError
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    match error {
        SdkError::ServiceError(context) if !context.raw().status().is_success() => {
            let meta = context.err().meta();
            let (code, said) = (meta.code().unwrap_or_default(), meta.message().unwrap_or_default());
            refused(action, context.raw().status().as_u16(), (code, said), meta.request_id())
        }
        SdkError::TimeoutError(_) | SdkError::ResponseError(_) | SdkError::ServiceError(_) if !only_reads(action) => maybe_done(),
        SdkError::DispatchFailure(_) if !only_reads(action) && had_left(error) => maybe_done(),
        // Nothing was answered, so that none of the store's words are in it.
        other => errors::classify(action, other).error.into(),
    }
}

fn maybe_done() -> WriteError {
    errors::unavailable("the store took the call and gave no answer that could be understood; it may have done it: look before you try again").into()
}

/// Whether a call that failed had a connection, by which it may have arrived.
fn had_left(error: &(dyn StdError + 'static)) -> bool {
    let failed = causes(error).find_map(|cause| cause.downcast_ref::<hyper_util::client::legacy::Error>());
    failed.is_some_and(|failed| !failed.is_connect())
}

/// Whether a call changes nothing, by the IAM action that it needs.
fn only_reads(action: &str) -> bool {
    let verb = action.split_once(':').map_or(action, |(_, verb)| verb);
    ["Describe", "Get", "List"].iter().any(|reading| verb.starts_with(reading))
}

fn refused(action: &str, status: u16, (code, said): (&str, &str), request: Option<&str>) -> WriteError {
    // What stands in a code's place may be anything, once something that isn't AWS answers.
    let shown = if plain(code) { code } else { "unknown error" };
    let request = request.filter(|id| plain(id)).unwrap_or("unknown");
    let refuse = |problem: &str| WriteError::Refused(format!("{problem} ({shown})"));
    let fail = |reason, problem: String| {
        let detail = Some(format!("{shown} (HTTP {status}) [request {request}]"));
        WriteError::Failed(ReadError { detail, ..ReadError::new(reason, format!("{problem} ({shown})")) })
    };
    match code {
        "ResourceExistsException" | "ParameterAlreadyExists" => WriteError::AlreadyExists,
        "ResourceNotFoundException" | "ParameterNotFound" | "InvalidResourceId" => WriteError::NotFound,
        // Another write to the same parameter was under way.
        "TooManyUpdates" => WriteError::Conflict,
        "InvalidRequestException" if errors::is_marked_for_deletion((code, said)) => {
            refuse("the secret is scheduled for deletion; restore it, or wait until it is gone")
        }
        "LimitExceededException" | "ParameterLimitExceeded" | "ResourceLimitExceededException" | "PoliciesLimitExceededException" | "TooManyTagsError" => {
            refuse("AWS keeps no more of these in this account and region; delete some, or have the quota raised")
        }
        "ParameterMaxVersionLimitExceeded" => refuse("the parameter's oldest version has a label, so that no other can follow; move the label to a newer one"),
        "ParameterPatternMismatchException" => refuse("the value does not match the parameter's allowed pattern; write one that does"),
        "HierarchyLevelLimitExceededException" => refuse("the name has more than 15 levels; choose a shorter one"),
        "HierarchyTypeMismatchException" | "UnsupportedParameterType" | "IncompatiblePolicyException" => {
            refuse("the parameter can't have this kind or tier; choose another, or delete it and create it anew")
        }
        "InvalidRequestException" | "InvalidParameterException" | "ValidationException" | "TagPolicyException" | "PreconditionNotMetException" => refuse(
            "the store refuses this as it is; check the name, the value (a parameter's holds no {{ }}), key and tags, and whether a service of AWS owns it",
        ),
        "EncryptionFailure" | "EncryptionFailureException" => fail(Reason::AccessDenied, KEY.to_owned()),
        _ if errors::is_denied(code) && errors::about_kms(said) => fail(Reason::AccessDenied, KEY.to_owned()),
        _ if errors::is_denied(code) && said.contains("reserved parameter name") => refuse("names that begin with aws or ssm are AWS's own; choose another"),
        _ if errors::is_denied(code) => {
            let action = BESIDES.into_iter().find(|besides| said.contains(&format!("to perform: {besides} "))).unwrap_or(action);
            fail(Reason::AccessDenied, format!("the identity may not do this; grant it {action} on {}", errors::granted_on(action)))
        }
        _ => {
            let (reason, explanation) = errors::explain(action, Some(status), code, said);
            fail(reason, explanation)
        }
    }
}

const KEY: &str = "the encryption key refuses the identity; grant it kms:Encrypt, kms:Decrypt and kms:GenerateDataKey on the key";

/// Whether a text is spelled as AWS spells codes and ids.
fn plain(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANARY: &str = "cAnArY-7f3a";

    fn of(code: &str, said: &str) -> WriteError {
        refused("secretsmanager:PutSecretValue", 400, (code, said), Some("r-1"))
    }

    #[test]
    fn no_refusal_repeats_what_aws_says() {
        let quoted = format!("1 validation error detected: Value '{CANARY}' at 'value' failed to satisfy constraint");
        for code in [
            "ValidationException",
            "InvalidRequestException",
            "ParameterPatternMismatchException",
            "AccessDeniedException",
            "ThrottlingException",
            "InternalServiceError",
            "EncryptionFailure",
            "ExpiredTokenException",
            "KMSThrottlingException",
            "TooManyUpdates",
            CANARY,
            "cAnArY-7f3a {}",
            "",
        ] {
            let error = of(code, &quoted);
            let detail = if let WriteError::Failed(error) = &error { error.detail.clone().expect("a detail") } else { String::new() };
            let shown = format!("{error} {error:?} {detail}");
            assert!(code == CANARY || !shown.contains(CANARY), "{shown}");
            assert!(!shown.contains("failed to satisfy"), "{shown}");
        }
        let WriteError::Failed(error) = of("InternalServiceError", &quoted) else { panic!("failed") };
        assert_eq!(error.detail.as_deref(), Some("InternalServiceError (HTTP 400) [request r-1]"));
    }

    #[test]
    fn a_denial_names_the_action_to_grant() {
        let denied = |said: &str| of("AccessDeniedException", said).to_string();
        let words = "User: arn:aws:iam::1:role/r is not authorized to perform: secretsmanager:PutSecretValue on resource: x";
        assert_eq!(denied(words), "AccessDenied: the identity may not do this; grant it secretsmanager:PutSecretValue on it (AccessDeniedException)");
        assert!(denied(&words.replace("PutSecretValue", "TagResource")).contains("grant it secretsmanager:TagResource on it"));
        assert!(denied("is not authorized to perform: kms:GenerateDataKey on resource: x").contains("kms:GenerateDataKey on the key"));
        assert!(denied("No access to reserved parameter name: /aws/x.").starts_with("Refused: names that begin with aws"));
    }

    #[test]
    fn only_what_may_have_been_done_is_said_to_be() {
        let hung = |action: &str| super::of(action, &SdkError::<aws_sdk_secretsmanager::error::ErrorMetadata>::timeout_error("late")).to_string();
        assert_eq!(hung("secretsmanager:DescribeSecret"), "ProviderUnavailable: the store did not answer within 5 s");
        assert!(hung("secretsmanager:PutSecretValue").contains("it may have done it: look before you try again"));
    }

    #[test]
    fn refusals_are_told_apart() {
        let marked = "You can't create this secret because a secret with this name is already scheduled for deletion.";
        assert!(of("InvalidRequestException", marked).to_string().contains("restore it, or wait"));
        assert!(matches!(of("ResourceExistsException", ""), WriteError::AlreadyExists));
        assert!(matches!(of("ParameterNotFound", ""), WriteError::NotFound));
        assert!(matches!(of("TooManyUpdates", ""), WriteError::Conflict));
        assert_eq!(of("ThrottlingException", "").reason(), Reason::Throttled);
        assert_eq!(of("KMSDisabledException", "").reason(), Reason::AccessDenied);
        assert_eq!(of("UnrecognizedClientException", "").reason(), Reason::CredentialsError);
    }
}
