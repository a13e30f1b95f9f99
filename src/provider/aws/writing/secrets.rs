//! Writing to Secrets Manager: a new secret, another value, deletion and its undoing, and what is known about a secret.
//!
//! A source and a value that were checked enter, what was written or a refusal leaves. Another value keeps all that the secret has besides. Every call is
//! made once; the SDK gives each that makes a version a token of its own, which becomes the version's id.

use std::collections::BTreeMap;

use aws_sdk_secretsmanager::{Client, config::Builder, operation::put_secret_value::builders::PutSecretValueFluentBuilder, types::Tag};
use aws_smithy_types::{Blob, DateTime, date_time::Format};

use super::{
    super::{
        errors,
        secrets_manager::{DESCRIBE, READ, get},
    },
    checks::Content,
    refusals,
};
use crate::{
    api::{
        Reason,
        reference::{Source, Version},
    },
    provider::{
        Reading, ServedVersion, WriteError, observed,
        writing::{Attributes, Described, Recovery, Written},
    },
    telemetry::Metrics,
};

/// The label of the version that is read when none is asked for.
const CURRENT: &str = "AWSCURRENT";
/// The label under which a value waits until it may become the current one. One for all: what is left over from a write that broke off is taken by the
/// next one, while labels of their own would fill up what AWS allows a secret. A version that loses it can still be moved to by its id.
const PENDING: &str = "ROBOTOSECRET_PENDING";

const CREATE: &str = "secretsmanager:CreateSecret";
const PUT: &str = "secretsmanager:PutSecretValue";
const MOVE: &str = "secretsmanager:UpdateSecretVersionStage";
const DELETE: &str = "secretsmanager:DeleteSecret";
const RESTORE: &str = "secretsmanager:RestoreSecret";
const UPDATE: &str = "secretsmanager:UpdateSecret";
const TAG: &str = "secretsmanager:TagResource";

/// Makes a secret.
pub(super) async fn create(client: &Client, source: &Source, content: Content<'_>, attributes: &Attributes, metrics: &Metrics) -> Result<Written, WriteError> {
    let Attributes { description, tags, kms_key, kind: _, tier: _ } = attributes;
    let tags = tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect::<Vec<_>>();
    let call = client.create_secret().name(source.id()).set_description(description.clone()).set_kms_key_id(kms_key.clone());
    let call = call.set_tags(Some(tags).filter(|tags| !tags.is_empty()));
    let call = match content {
        Content::Text(text) => call.secret_string(text),
        Content::Binary(bytes) => call.secret_binary(Blob::new(bytes)),
    };
    let call = async { call.send().await.map_err(|error| refusals::of(CREATE, &error)) };
    let answer = Box::pin(observed(metrics, ("aws.sm", "CreateSecret", 1), WriteError::reason, call)).await?;
    written(answer.arn, answer.version_id)
}

/// Puts another value in place of the one at the source's stage, `AWSCURRENT` if it names none; with `base`, only if that is the version there.
pub(super) async fn update(
    client: &Client,
    source: &Source,
    content: Content<'_>,
    base: Option<&ServedVersion>,
    metrics: &Metrics,
) -> Result<Written, WriteError> {
    let stage = if let Some(Version::Stage(stage)) = &source.version { stage } else { CURRENT };
    let at = match look(client, source, stage, metrics).await {
        // The write itself tells better whether there is a secret.
        Err(WriteError::NotFound) if base.is_none() => None,
        at => at?,
    };
    if base.is_some_and(|base| at.as_ref().is_none_or(|at| at.version.id != base.id)) {
        return Err(WriteError::Conflict);
    }
    // What looks like a whole ARN may be the beginning of another one.
    if source.arn().is_some() && at.as_ref().is_some_and(|at| at.version.arn != source.id()) {
        return Err(WriteError::refused("the ARN is the beginning of another secret's; write that one, or the name"));
    }
    let like = match at {
        // What a new stage is to hold is told by the current value.
        None if stage != CURRENT => match look(client, source, CURRENT, metrics).await {
            Err(WriteError::NotFound) => None,
            at => at?,
        },
        at => at,
    };
    let content = content.like(like.as_ref().map(|reading| &reading.value))?;
    let Some(base) = base else {
        // Left out, it is AWSCURRENT, and so is what AWS gives a first version.
        let stages = source.version.is_some().then(|| vec![stage.to_owned()]);
        return put(asked(client, &source.id(), content).set_version_stages(stages), metrics).await;
    };
    let pending = put(asked(client, &source.id(), content).version_stages(PENDING), metrics).await?;
    let moved = relabel(client, &pending.arn, stage, &base.id, Some(&pending.version), metrics).await;
    let answer = match moved {
        Ok(()) => Ok(pending.clone()),
        // Whatever it is that AWS says, what stands there now tells which it was.
        Err(error) => match look(client, source, stage, metrics).await {
            Ok(Some(now)) if now.version.id == pending.version => Ok(pending.clone()),
            Ok(Some(now)) if now.version.id == base.id => Err(error),
            Ok(_) => Err(WriteError::Conflict),
            Err(_) => Err(error),
        },
    };
    // A version without any label is removed by AWS in time. If this fails, the next write takes the label.
    drop(relabel(client, &pending.arn, PENDING, &pending.version, None, metrics).await);
    answer
}

/// As an update without a look, with what this call alone brings along.
pub(in crate::provider::aws) async fn put_as(client: &Client, id: &str, text: &str, overridden: Builder, metrics: &Metrics) -> Result<Written, WriteError> {
    let call = asked(client, id, Content::Text(text)).customize().config_override(overridden);
    let call = async { call.send().await.map_err(|error| refusals::of(PUT, &error)) };
    let answer = Box::pin(observed(metrics, ("aws.sm", "PutSecretValue", 1), WriteError::reason, call)).await?;
    written(answer.arn, answer.version_id)
}

/// The value at a stage; `None`: the secret has none there.
async fn look(client: &Client, source: &Source, stage: &str, metrics: &Metrics) -> Result<Option<Reading>, WriteError> {
    let source = Source { version: Some(Version::Stage(stage.to_owned())), ..source.clone() };
    let call = async {
        match get(client, &source).await {
            Ok(Ok(reading)) => Ok(Some(reading)),
            Ok(Err(error)) if error.reason == Reason::SourceNotFound => Ok(None),
            Ok(Err(error)) => Err(error.into()),
            Err(error) => {
                let said = errors::said(&error);
                if said.0 == "ResourceNotFoundException" && !errors::is_no_secret(said) { Ok(None) } else { Err(refusals::of(READ, &error)) }
            }
        }
    };
    Box::pin(observed(metrics, ("aws.sm", "GetSecretValue", 1), WriteError::reason, call)).await
}

fn asked(client: &Client, id: &str, content: Content<'_>) -> PutSecretValueFluentBuilder {
    let call = client.put_secret_value().secret_id(id);
    match content {
        Content::Text(text) => call.secret_string(text),
        Content::Binary(bytes) => call.secret_binary(Blob::new(bytes)),
    }
}

async fn put(call: PutSecretValueFluentBuilder, metrics: &Metrics) -> Result<Written, WriteError> {
    let call = async { call.send().await.map_err(|error| refusals::of(PUT, &error)) };
    let answer = Box::pin(observed(metrics, ("aws.sm", "PutSecretValue", 1), WriteError::reason, call)).await?;
    written(answer.arn, answer.version_id)
}

/// Moves a label from one version to another, or to none. AWS refuses if it isn't at the one.
async fn relabel(client: &Client, id: &str, label: &str, from: &str, to: Option<&str>, metrics: &Metrics) -> Result<(), WriteError> {
    let call = client.update_secret_version_stage().secret_id(id).version_stage(label).remove_from_version_id(from);
    let call = call.set_move_to_version_id(to.map(str::to_owned));
    let call = async { call.send().await.map(|_| ()).map_err(|error| refusals::of(MOVE, &error)) };
    Box::pin(observed(metrics, ("aws.sm", "UpdateSecretVersionStage", 1), WriteError::reason, call)).await
}

/// Deletes a secret; the time when it is gone.
pub(super) async fn delete(client: &Client, source: &Source, recovery: Recovery, metrics: &Metrics) -> Result<Option<String>, WriteError> {
    let call = client.delete_secret().secret_id(source.id());
    let call = match recovery {
        Recovery::Within(days) => call.recovery_window_in_days(days.into()),
        Recovery::Force => call.force_delete_without_recovery(true),
    };
    let call = async { call.send().await.map_err(|error| refusals::of(DELETE, &error)) };
    let answer = observed(metrics, ("aws.sm", "DeleteSecret", 1), WriteError::reason, call).await?;
    Ok(time(answer.deletion_date))
}

/// Takes back that a secret is to be deleted.
pub(super) async fn restore(client: &Client, source: &Source, metrics: &Metrics) -> Result<(), WriteError> {
    let call = async { client.restore_secret().secret_id(source.id()).send().await.map_err(|error| refusals::of(RESTORE, &error)) };
    observed(metrics, ("aws.sm", "RestoreSecret", 1), WriteError::reason, call).await.map(|_| ())
}

/// Describes a secret otherwise.
pub(super) async fn set_description(client: &Client, source: &Source, description: &str, metrics: &Metrics) -> Result<(), WriteError> {
    let call = client.update_secret().secret_id(source.id()).description(description);
    let call = async { call.send().await.map(|_| ()).map_err(|error| refusals::of(UPDATE, &error)) };
    Box::pin(observed(metrics, ("aws.sm", "UpdateSecret", 1), WriteError::reason, call)).await
}

/// Gives a secret tags.
pub(super) async fn tag(client: &Client, source: &Source, tags: &BTreeMap<String, String>, metrics: &Metrics) -> Result<(), WriteError> {
    let tags = tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect();
    let call = client.tag_resource().secret_id(source.id()).set_tags(Some(tags));
    let call = async { call.send().await.map(|_| ()).map_err(|error| refusals::of(TAG, &error)) };
    Box::pin(observed(metrics, ("aws.sm", "TagResource", 1), WriteError::reason, call)).await
}

/// What is known about a secret.
pub(super) async fn describe(client: &Client, source: &Source, metrics: &Metrics) -> Result<Described, WriteError> {
    let call = async { client.describe_secret().secret_id(source.id()).send().await.map_err(|error| refusals::of(DESCRIBE, &error)) };
    let said = observed(metrics, ("aws.sm", "DescribeSecret", 1), WriteError::reason, call).await?;
    let versions = said.version_ids_to_stages.unwrap_or_default();
    let tags = said.tags.unwrap_or_default().into_iter();
    Ok(Described {
        arn: said.arn,
        version: versions.into_iter().find(|(_, stages)| stages.iter().any(|stage| stage == CURRENT)).map(|(id, _)| id),
        created: time(said.created_date),
        changed: time(said.last_changed_date),
        description: said.description,
        tags: Some(tags.filter_map(|tag| Some((tag.key?, tag.value.unwrap_or_default()))).collect()),
        kms_key: said.kms_key_id,
        kind: None,
        tier: None,
        deletion: time(said.deleted_date),
    })
}

fn time(time: Option<DateTime>) -> Option<String> {
    time.and_then(|time| time.fmt(Format::DateTime).ok())
}

fn written(arn: Option<String>, version: Option<String>) -> Result<Written, WriteError> {
    let (Some(arn), Some(version)) = (arn, version) else { return Err(errors::incomplete().into()) };
    Ok(Written { arn, version })
}
