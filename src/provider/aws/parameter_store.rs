//! Parameter Store: one parameter (`String`, `StringList`, `SecureString`), by name or ARN, at a version number or label.

use aws_sdk_ssm::Client;
use aws_smithy_types::date_time::Format;

use super::errors;
use crate::{
    api::reference::{Source, Version},
    provider::{ReadError, Reading, ServedVersion, Value},
    sensitive::Sensitive,
};

/// Reads one parameter with one call; a `StringList` is its text, with commas.
pub(super) async fn read(client: &Client, source: &Source) -> Result<Reading, ReadError> {
    let name = match &source.version {
        Some(Version::Number(number)) => format!("{}:{number}", source.id()),
        Some(Version::Label(label)) => format!("{}:{label}", source.id()),
        Some(Version::Stage(_) | Version::Id(_)) | None => source.id(),
    };
    let call = client.get_parameter().name(name).with_decryption(true);
    let answer = call.send().await.map_err(|error| errors::classify(&source.to_string(), "ssm:GetParameter", &error))?;
    let Some(parameter) = answer.parameter else { return Err(errors::incomplete(source)) };
    let (Some(value), Some(arn)) = (parameter.value, parameter.arn) else { return Err(errors::incomplete(source)) };
    let Some((_, resource)) = arn.split_once(":parameter") else { return Err(errors::incomplete(source)) };
    let created = parameter.last_modified_date.and_then(|time| time.fmt(Format::DateTime).ok());
    Ok(Reading {
        value: Value::Text(Sensitive::from(value)),
        denotes: vec![format!("aws.ps://{resource}")],
        version: ServedVersion { arn, id: parameter.version.to_string(), created },
        keypath: Vec::new(),
    })
}
