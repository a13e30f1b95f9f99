//! Secrets Manager: one secret, string or binary, by name or ARN, at a stage or version id; several at once as they are now; a secret's
//! tags, whether it is there, and which there are.

use aws_sdk_secretsmanager::{
    Client,
    config::{Builder, http::HttpResponse},
    error::SdkError,
    operation::get_secret_value::{GetSecretValueError, GetSecretValueOutput, builders::GetSecretValueFluentBuilder},
    types::{ApiErrorType, Filter, FilterNameStringType, SecretValueEntry},
};
use aws_smithy_types::{Blob, DateTime, date_time::Format};

use futures::FutureExt;

use super::{
    errors::{self, Cause, Failure},
    listing::{self, Page},
    matcher::{self, Entry, Heard},
    tags,
};
use crate::{
    api::{
        Reason,
        reference::{Source, Version},
    },
    provider::{Calls, Listing, LotAnswer, ReadError, Reading, ServedVersion, Value, observed},
    sensitive::Sensitive,
    telemetry::Metrics,
};

/// What a read of a secret needs, alone or in company.
pub(super) const READ: &str = "secretsmanager:GetSecretValue";
/// What a secret's tags need, and being sure that it is to be deleted.
pub(super) const DESCRIBE: &str = "secretsmanager:DescribeSecret";
/// What finding secrets needs.
const LIST: &str = "secretsmanager:ListSecrets";
/// How many names a page may have.
const NAMES: i32 = 100;
/// How long a word to filter by may be, and the characters it may have besides letters and digits.
const FILTER: (usize, &[u8]) = (512, b" :_@/+=.-");
/// What reading several at once needs besides.
const READ_SEVERAL: &str = "secretsmanager:BatchGetSecretValue";
/// How many pages of an answer are fetched: one a secret would do, and a few may be empty.
const PAGES: u32 = 25;

/// Reads one secret with one call.
pub(super) async fn read(client: &Client, source: &Source) -> Result<Reading, ReadError> {
    get(client, source).await.unwrap_or_else(|error| Err(errors::classify(READ, &error).error))
}

/// As [`read`], with what this call alone brings along.
pub(super) async fn read_as(client: &Client, source: &Source, overridden: Builder) -> Result<Reading, ReadError> {
    let answer = asked(client, source).customize().config_override(overridden).send().await;
    answer.map_err(|error| errors::classify(READ, &error).error).and_then(told)
}

/// As [`read`], with what was refused as it was said.
pub(super) async fn get(client: &Client, source: &Source) -> Result<Result<Reading, ReadError>, SdkError<GetSecretValueError, HttpResponse>> {
    asked(client, source).send().await.map(told)
}

fn asked(client: &Client, source: &Source) -> GetSecretValueFluentBuilder {
    let mut call = client.get_secret_value().secret_id(source.id());
    match &source.version {
        Some(Version::Stage(stage)) => call = call.version_stage(stage),
        Some(Version::Id(id)) => call = call.version_id(id),
        Some(Version::Number(_) | Version::Label(_)) | None => {}
    }
    call
}

fn told(answer: GetSecretValueOutput) -> Result<Reading, ReadError> {
    let content = (answer.secret_string, answer.secret_binary);
    reading((answer.arn, answer.name, answer.version_id), content, answer.created_date)
}

/// Whether a secret is there: its current value; or an error, which says `absent` if there is no such secret or it is to be deleted.
pub(super) async fn presence(client: &Client, source: &Source, calls: &Calls, metrics: &Metrics) -> Result<Reading, ReadError> {
    let read = async {
        get(client, source).await.map_err(|error| {
            let said = errors::said(&error);
            let (is_gone, is_marked) = (errors::is_no_secret(said), errors::is_marked_for_deletion(said));
            (ReadError { absent: is_gone, ..errors::classify(READ, &error).error }, is_marked)
        })
    };
    let read = observed(metrics, ("aws.sm", "GetSecretValue", 1), |(error, _): &(ReadError, bool)| error.reason, read);
    let (error, is_marked) = match calls.make(read.boxed()).await {
        None => return Err(errors::silent()),
        Some(Ok(reading)) => return reading,
        Some(Err(failed)) => failed,
    };
    if !is_marked {
        return Err(error);
    }
    // The words of a refusal are not enough to take something away.
    let describe = async {
        client.describe_secret().secret_id(source.id()).send().await.map_err(|error| {
            let is_gone = errors::is_no_secret(errors::said(&error));
            ReadError { absent: is_gone, ..errors::classify(DESCRIBE, &error).error }
        })
    };
    match calls.make(observed(metrics, ("aws.sm", "DescribeSecret", 1), |error: &ReadError| error.reason, describe).boxed()).await {
        None => Err(errors::silent()),
        Some(Ok(described)) => Err(ReadError { absent: described.deleted_date.is_some(), ..error }),
        Some(Err(error)) => Err(error),
    }
}

/// The tags of a secret.
pub(super) async fn tags(client: &Client, source: &Source) -> Result<Reading, ReadError> {
    let described = client.describe_secret().secret_id(source.id()).send().await.map_err(|error| errors::classify(DESCRIBE, &error).error)?;
    let (Some(arn), Some(name)) = (described.arn, described.name) else { return Err(errors::incomplete()) };
    if described.deleted_date.is_some() {
        return Err(errors::marked_for_deletion());
    }
    let tags = described.tags.unwrap_or_default().into_iter().map(|tag| (tag.key, tag.value));
    tags::reading(arn, format!("aws.sm://{name}"), tags)
}

/// The names of the secrets that a listing asks for. Those that are to be deleted are not among them.
pub(super) async fn list(client: &Client, listing: &Listing, calls: &Calls, metrics: &Metrics) -> Result<Reading, ReadError> {
    let filter = |key, word: &str| can_filter(word).then(|| Filter::builder().key(key).values(word).build());
    let by_name = listing.path.as_deref().and_then(|path| filter(FilterNameStringType::Name, path));
    // All of the tags are checked below; one of them makes the answer short.
    let by_tag = listing.tags.keys().find_map(|tag| filter(FilterNameStringType::TagKey, tag));
    let filters: Vec<Filter> = by_name.into_iter().chain(by_tag).collect();
    let page = async |token: Option<String>| {
        let call = client.list_secrets().include_planned_deletion(false).max_results(NAMES).set_filters(Some(filters.clone())).set_next_token(token);
        let answer = call.send().await.map_err(|error| errors::classify(LIST, &error))?;
        let secrets = answer.secret_list.unwrap_or_default().into_iter();
        let secrets = secrets.filter(|secret| secret.deleted_date.is_none());
        let fitting = secrets.filter(|secret| {
            let tags = secret.tags.as_deref().unwrap_or_default();
            listing::is_tagged(listing, &tags.iter().map(|tag| (tag.key.as_deref(), tag.value.as_deref())))
        });
        let entries = fitting.map(|secret| Some((secret.name?, None))).collect::<Option<_>>();
        Ok(Page { entries: entries.ok_or_else(|| Failure::elsewhere(errors::incomplete()))?, next: answer.next_token })
    };
    listing::read(listing, calls, |token| observed(metrics, ("aws.sm", "ListSecrets", 1), |failure: &Failure| failure.error.reason, page(token)).boxed()).await
}

/// Whether the store can be asked to filter by a word. One that begins with an exclamation mark would be the opposite.
fn can_filter(word: &str) -> bool {
    let (longest, besides) = FILTER;
    (1..=longest).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_alphanumeric() || besides.contains(&b))
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
        let answer = observed(metrics, ("aws.sm", "BatchGetSecretValue", asked.len()), |failure: &Failure| failure.error.reason, call).await?;
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
    Ok(Reading { value, denotes: vec![format!("aws.sm://{name}")], version: ServedVersion { arn, id, created, region: None }, record: None })
}
