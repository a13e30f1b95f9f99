//! Secrets Manager: one secret, string or binary, by name or ARN, at a stage or version id; or several at once as they are now.

use aws_sdk_secretsmanager::{
    Client,
    types::{ApiErrorType, SecretValueEntry},
};
use aws_smithy_types::{Blob, DateTime, date_time::Format};

use super::{
    errors::{self, Cause, Failure},
    matcher::{self, Entry, Heard},
    observed,
};
use crate::{
    api::{
        Reason,
        reference::{Source, Version},
    },
    provider::{LotAnswer, ReadError, Reading, ServedVersion, Value},
    sensitive::Sensitive,
    telemetry::Metrics,
};

/// What a read of a secret needs, alone or in company.
const READ: &str = "secretsmanager:GetSecretValue";
/// What reading several at once needs besides.
const READ_SEVERAL: &str = "secretsmanager:BatchGetSecretValue";
/// How many pages of an answer are fetched: one a secret would do, and a few may be empty.
const PAGES: u32 = 25;

/// Reads one secret with one call.
pub(super) async fn read(client: &Client, source: &Source) -> Result<Reading, ReadError> {
    let mut call = client.get_secret_value().secret_id(source.id());
    match &source.version {
        Some(Version::Stage(stage)) => call = call.version_stage(stage),
        Some(Version::Id(id)) => call = call.version_id(id),
        Some(Version::Number(_) | Version::Label(_)) | None => {}
    }
    let answer = call.send().await.map_err(|error| errors::classify(READ, &error).error)?;
    let content = (answer.secret_string, answer.secret_binary);
    reading((answer.arn, answer.name, answer.version_id), content, answer.created_date)
}

/// What is said about one secret of several.
#[derive(PartialEq)]
enum Said {
    Value(SecretValueEntry),
    Problem(ApiErrorType),
}

/// Reads several secrets with one call and its further pages.
pub(super) async fn read_lot(client: &Client, asked: &[&Source], metrics: &Metrics) -> LotAnswer {
    match read_pages(client, asked, metrics).await {
        Ok((entries, pages)) => {
            let answers = matcher::assign(asked, entries).into_iter().map(|heard| match heard {
                Heard::Nothing => None,
                Heard::Conflict => Some(Err(errors::misunderstood())),
                Heard::This(Said::Problem(problem)) => Some(Err(errors::of_item(READ, problem.error_code(), problem.message()))),
                Heard::This(Said::Value(entry)) => {
                    let content = (entry.secret_string, entry.secret_binary);
                    Some(reading((entry.arn, entry.name, entry.version_id), content, entry.created_date))
                }
            });
            LotAnswer::Each { answers: answers.collect(), pages }
        }
        Err(Failure { error, cause: Cause::Elsewhere }) => LotAnswer::Failed(error),
        Err(Failure { error, cause: Cause::Question }) => LotAnswer::Refused(error),
        // A secret that may not be read is refused by itself; this is about the call.
        Err(Failure { error, cause: Cause::Permission }) => {
            LotAnswer::Denied(ReadError { message: format!("the identity may not read several secrets at once; grant it {READ_SEVERAL} on *"), ..error })
        }
    }
}

async fn read_pages(client: &Client, asked: &[&Source], metrics: &Metrics) -> Result<(Vec<Entry<Said>>, u32), Failure> {
    let ids: Vec<String> = asked.iter().map(|source| source.id()).collect();
    let (mut entries, mut pages, mut token) = (Vec::new(), 0, None);
    loop {
        let call = client.batch_get_secret_value().set_secret_id_list(Some(ids.clone())).set_next_token(token);
        let call = async { call.send().await.map_err(|error| errors::classify(READ_SEVERAL, &error)) };
        let answer = observed(metrics, "aws.sm", "BatchGetSecretValue", |failure: &Failure| failure.error.reason, call).await?;
        pages += 1;
        for value in answer.secret_values.unwrap_or_default() {
            entries.push(Entry { arn: value.arn.clone(), name: value.name.clone(), said: Said::Value(value) });
        }
        for problem in answer.errors.unwrap_or_default() {
            entries.push(Entry::about(problem.secret_id.clone(), Said::Problem(problem)));
        }
        token = answer.next_token.filter(|token| !token.is_empty());
        // What an endless answer leaves out counts as not answered.
        if token.is_none() || pages == PAGES {
            return Ok((entries, pages));
        }
    }
}

/// The same reading, whichever call it comes from: a difference would look like a change.
fn reading(
    (arn, name, id): (Option<String>, Option<String>, Option<String>),
    content: (Option<String>, Option<Blob>),
    created: Option<DateTime>,
) -> Result<Reading, ReadError> {
    let (Some(arn), Some(name), Some(id)) = (arn, name, id) else {
        return Err(errors::incomplete());
    };
    let value = match content {
        (Some(text), _) => Value::Text(Sensitive::from(text)),
        (None, Some(bytes)) => Value::Binary(Sensitive::new(bytes.into_inner())),
        (None, None) => return Err(ReadError::new(Reason::SourceNotFound, "the secret has no value")),
    };
    let created = created.and_then(|time| time.fmt(Format::DateTime).ok());
    Ok(Reading { value, denotes: vec![format!("aws.sm://{name}")], version: ServedVersion { arn, id, created } })
}
