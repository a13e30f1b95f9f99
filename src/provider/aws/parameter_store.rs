//! Parameter Store: parameters (`String`, `StringList`, `SecureString`) by name or ARN; one at a version number or label, or several
//! at once as they are now.

use aws_sdk_ssm::{Client, types::Parameter};
use aws_smithy_types::date_time::Format;

use super::{
    errors::{self, Cause, Failure},
    matcher::{self, Entry, Heard},
    observed,
};
use crate::{
    api::reference::{Source, Version},
    provider::{LotAnswer, ReadError, Reading, ServedVersion, Value},
    sensitive::Sensitive,
    telemetry::Metrics,
};

/// What a read of one parameter needs.
const READ: &str = "ssm:GetParameter";
/// What reading several at once needs.
const READ_SEVERAL: &str = "ssm:GetParameters";

/// Reads one parameter with one call; a `StringList` is its text, with commas.
pub(super) async fn read(client: &Client, source: &Source) -> Result<Reading, ReadError> {
    let name = match &source.version {
        Some(Version::Number(number)) => format!("{}:{number}", source.id()),
        Some(Version::Label(label)) => format!("{}:{label}", source.id()),
        Some(Version::Stage(_) | Version::Id(_)) | None => source.id(),
    };
    let call = client.get_parameter().name(name).with_decryption(true);
    let answer = call.send().await.map_err(|error| errors::classify(READ, &error).error)?;
    answer.parameter.ok_or_else(errors::incomplete).and_then(reading)
}

/// What is said about one parameter of several.
#[derive(PartialEq)]
enum Said {
    Value(Parameter),
    Unknown,
}

/// Reads several parameters with one call.
pub(super) async fn read_lot(client: &Client, asked: &[&Source], metrics: &Metrics) -> LotAnswer {
    let names = asked.iter().map(|source| source.id()).collect();
    let call = client.get_parameters().set_names(Some(names)).with_decryption(true);
    let call = async { call.send().await.map_err(|error| errors::classify(READ_SEVERAL, &error)) };
    match observed(metrics, "aws.ps", "GetParameters", |failure: &Failure| failure.error.reason, call).await {
        Ok(answer) => {
            let values = answer.parameters.unwrap_or_default().into_iter();
            let values = values.map(|value| Entry { arn: value.arn.clone(), name: value.name.clone(), said: Said::Value(value) });
            let unknown = answer.invalid_parameters.unwrap_or_default().into_iter().map(|id| Entry::about(Some(id), Said::Unknown));
            let answers = matcher::assign(asked, values.chain(unknown)).into_iter().map(|heard| match heard {
                Heard::Nothing => None,
                Heard::Conflict => Some(Err(errors::misunderstood())),
                Heard::This(Said::Unknown) => Some(Err(errors::of_item(READ, Some("ParameterNotFound"), Some("named in InvalidParameters")))),
                Heard::This(Said::Value(parameter)) => Some(reading(parameter)),
            });
            LotAnswer::Each { answers: answers.collect(), pages: 1 }
        }
        Err(Failure { error, cause: Cause::Elsewhere }) => LotAnswer::Failed(error),
        // One parameter that may not be read fails the whole call, so that a denial says nothing about the rest.
        Err(Failure { error, cause: Cause::Question | Cause::Permission }) => LotAnswer::Refused(error),
    }
}

/// The same reading, whichever call it comes from: a difference would look like a change.
fn reading(parameter: Parameter) -> Result<Reading, ReadError> {
    // What isn't a number in the answer arrives as 0, which no version of a parameter has.
    let id = Some(parameter.version).filter(|version| *version > 0).map(|version| version.to_string());
    let (Some(value), Some(arn), Some(id)) = (parameter.value, parameter.arn, id) else { return Err(errors::incomplete()) };
    let Some((_, resource)) = arn.split_once(":parameter") else { return Err(errors::incomplete()) };
    let created = parameter.last_modified_date.and_then(|time| time.fmt(Format::DateTime).ok());
    Ok(Reading { value: Value::Text(Sensitive::from(value)), denotes: vec![format!("aws.ps://{resource}")], version: ServedVersion { arn, id, created } })
}
