//! Secrets Manager: one secret, string or binary, by name or ARN, at a stage or version id.

use aws_sdk_secretsmanager::Client;
use aws_smithy_types::date_time::Format;

use super::errors;
use crate::{
    api::{
        Reason,
        reference::{Source, Version},
    },
    provider::{ReadError, Reading, ServedVersion, Value},
    sensitive::Sensitive,
};

/// Reads one secret with one call.
pub(super) async fn read(client: &Client, source: &Source) -> Result<Reading, ReadError> {
    let mut call = client.get_secret_value().secret_id(source.id());
    match &source.version {
        Some(Version::Stage(stage)) => call = call.version_stage(stage),
        Some(Version::Id(id)) => call = call.version_id(id),
        Some(Version::Number(_) | Version::Label(_)) | None => {}
    }
    let answer = call.send().await.map_err(|error| errors::classify(&source.to_string(), "secretsmanager:GetSecretValue", &error))?;
    let (Some(name), Some(arn), Some(id)) = (answer.name, answer.arn, answer.version_id) else {
        return Err(errors::incomplete(source));
    };
    let value = match (answer.secret_string, answer.secret_binary) {
        (Some(text), _) => Value::Text(Sensitive::from(text)),
        (None, Some(bytes)) => Value::Binary(Sensitive::new(bytes.into_inner())),
        (None, None) => return Err(ReadError::new(Reason::SourceNotFound, format!("{source}: the secret has no value"))),
    };
    let created = answer.created_date.and_then(|time| time.fmt(Format::DateTime).ok());
    Ok(Reading { value, denotes: vec![format!("aws.sm://{name}")], version: ServedVersion { arn, id, created }, keypath: Vec::new() })
}
