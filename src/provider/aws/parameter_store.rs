//! Parameter Store: parameters (`String`, `StringList`, `SecureString`) by name or ARN; one at a version number or label, several at
//! once as they are now; a parameter's tags, whether it is there, and which there are.

use aws_sdk_ssm::{
    Client,
    config::http::HttpResponse,
    error::SdkError,
    operation::get_parameter::GetParameterError,
    types::{Parameter, ParameterStringFilter, ResourceTypeForTagging},
};
use aws_smithy_types::date_time::Format;

use futures::FutureExt;

use super::{
    errors::{self, Cause, Failure},
    listing::{self, Page},
    matcher::{self, Entry, Heard},
    routes, tags,
};
use crate::{
    api::{
        Reason,
        reference::{Name, Source, Version},
    },
    provider::{Calls, Listing, LotAnswer, ReadError, Reading, ServedVersion, Value, observed},
    sensitive::Sensitive,
    telemetry::Metrics,
};

/// What a read of one parameter needs.
const READ: &str = "ssm:GetParameter";
/// What reading several at once needs.
const READ_SEVERAL: &str = "ssm:GetParameters";

/// What a parameter's tags need.
pub(super) const TAGS: &str = "ssm:ListTagsForResource";
/// What reading all below a path needs.
const READ_PATH: &str = "ssm:GetParametersByPath";
/// How many values a page may have.
const VALUES: i32 = 10;
/// What finding parameters needs.
pub(super) const DESCRIBE: &str = "ssm:DescribeParameters";
/// How many names a page may have.
const NAMES: i32 = 50;

/// Reads one parameter with one call; a `StringList` is its text, with commas.
pub(super) async fn read(client: &Client, source: &Source) -> Result<Reading, ReadError> {
    get(client, source).await.unwrap_or_else(|error| Err(errors::classify(READ, &error).error))
}

async fn get(client: &Client, source: &Source) -> Result<Result<Reading, ReadError>, SdkError<GetParameterError, HttpResponse>> {
    let name = match &source.version {
        Some(Version::Number(number)) => format!("{}:{number}", source.id()),
        Some(Version::Label(label)) => format!("{}:{label}", source.id()),
        Some(Version::Stage(_) | Version::Id(_)) | None => source.id(),
    };
    let call = client.get_parameter().name(name).with_decryption(true);
    let answer = call.send().await?;
    Ok(answer.parameter.ok_or_else(errors::incomplete).and_then(reading))
}

/// Whether a parameter is there: its current value; or an error, which says `absent` if there is no such parameter.
pub(super) async fn presence(client: &Client, source: &Source) -> Result<Reading, ReadError> {
    get(client, source).await.unwrap_or_else(|error| {
        let is_gone = errors::said(&error).0 == "ParameterNotFound";
        Err(ReadError { absent: is_gone, ..errors::classify(READ, &error).error })
    })
}

/// The tags of a parameter.
pub(super) async fn tags(client: &Client, source: &Source) -> Result<Reading, ReadError> {
    // A parameter of the own account is tagged by its name, not by its ARN.
    let name = match &source.name {
        Name::Plain(name) => name,
        Name::Arn(arn) => &arn.resource,
    };
    let call = client.list_tags_for_resource().resource_type(ResourceTypeForTagging::Parameter).resource_id(name);
    let answer = call.send().await.map_err(|error| errors::classify(TAGS, &error).error)?;
    let tags = answer.tag_list.unwrap_or_default().into_iter().map(|tag| (Some(tag.key), Some(tag.value)));
    // The answer doesn't tell the ARN: only who asked by it knows it.
    let arn = source.arn().map_or_else(String::new, |_| source.id());
    tags::reading(arn, format!("aws.ps://{name}"), tags)
}

/// The parameters that a listing asks for: with their values if it only names a path, else their names.
pub(super) async fn list(client: &Client, listing: &Listing, calls: &Calls, metrics: &Metrics) -> Result<Reading, ReadError> {
    let path = match listing.path.as_deref().map(|path| (path, path.trim_end_matches('/'))) {
        None => None,
        Some((_, "")) => Some("/"),
        Some((_, path)) if path.starts_with('/') => Some(path),
        Some(_) => return Err(ReadError::new(Reason::InvalidSpec, "a path in Parameter Store starts with a slash, such as /prod/app")),
    };
    match path {
        Some(path) if routes::brings_values(listing) => list_values(client, listing, path, calls, metrics).await,
        path => list_names(client, listing, path, calls, metrics).await,
    }
}

async fn list_values(client: &Client, listing: &Listing, path: &str, calls: &Calls, metrics: &Metrics) -> Result<Reading, ReadError> {
    let page = async |token: Option<String>| {
        let call = client.get_parameters_by_path().path(path).recursive(listing.recursive).with_decryption(true).max_results(VALUES).set_next_token(token);
        let answer = call.send().await.map_err(|error| errors::classify(READ_PATH, &error))?;
        let entry = |parameter: Parameter| {
            let name = parameter.name.clone().ok_or_else(errors::incomplete)?;
            Ok((name, Some(reading(parameter)?)))
        };
        let entries = answer.parameters.unwrap_or_default().into_iter().map(entry).collect::<Result<_, _>>();
        Ok(Page { entries: entries.map_err(Failure::elsewhere)?, next: answer.next_token })
    };
    listing::read(listing, calls, |token| {
        observed(metrics, ("aws.ps", "GetParametersByPath", 1), |failure: &Failure| failure.error.reason, page(token)).boxed()
    })
    .await
}

async fn list_names(client: &Client, listing: &Listing, path: Option<&str>, calls: &Calls, metrics: &Metrics) -> Result<Reading, ReadError> {
    if listing.tags.values().any(String::is_empty) {
        return Err(ReadError::new(Reason::InvalidSpec, "Parameter Store cannot be searched for a tag with an empty value"));
    }
    let filter = |key: &str, option: &str, value: &str| ParameterStringFilter::builder().key(key).option(option).values(value).build();
    let by_path = path.map(|path| filter("Path", if listing.recursive { "Recursive" } else { "OneLevel" }, path));
    let by_tag = listing.tags.iter().map(|(tag, value)| filter(&format!("tag:{tag}"), "Equals", value));
    // The answer doesn't tell the tags: that they hold is the store's word alone.
    let filters = by_path.into_iter().chain(by_tag).collect::<Result<Vec<_>, _>>();
    let filters = filters.map_err(|_| ReadError::new(Reason::InternalError, "a defect of the controller: a filter could not be made"))?;
    let page = async |token: Option<String>| {
        let call = client.describe_parameters().set_parameter_filters(Some(filters.clone())).max_results(NAMES).set_next_token(token);
        let answer = call.send().await.map_err(|error| errors::classify(DESCRIBE, &error))?;
        let entries = answer.parameters.unwrap_or_default().into_iter().map(|parameter| Some((parameter.name?, None))).collect::<Option<_>>();
        Ok(Page { entries: entries.ok_or_else(|| Failure::elsewhere(errors::incomplete()))?, next: answer.next_token })
    };
    listing::read(listing, calls, |token| observed(metrics, ("aws.ps", "DescribeParameters", 1), |failure: &Failure| failure.error.reason, page(token)).boxed())
        .await
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
    match observed(metrics, ("aws.ps", "GetParameters", asked.len()), |failure: &Failure| failure.error.reason, call).await {
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
    Ok(Reading {
        value: Value::Text(Sensitive::from(value)),
        denotes: vec![format!("aws.ps://{resource}")],
        version: ServedVersion { arn, id, created, region: None },
        record: None,
    })
}
