//! Writing to Parameter Store: a new parameter, another value, deletion, and what is known about a parameter.
//!
//! A source and a value that were checked enter, what was written or a refusal leaves. Another value keeps all that the parameter has besides. A name
//! is taken as it is, never for the beginning of others.

use std::collections::BTreeMap;

use aws_sdk_ssm::{
    Client,
    types::{ParameterMetadata, ParameterStringFilter, ParameterTier as Tier, ParameterType, ResourceTypeForTagging, Tag},
};
use aws_smithy_types::date_time::Format;

use super::{
    super::{
        errors,
        parameter_store::{DESCRIBE, TAGS},
    },
    checks, refusals,
};
use crate::{
    api::{
        Reason,
        reference::{Name, Source},
    },
    provider::{
        ReadError, ServedVersion, Value, WriteError, observed,
        writing::{Attributes, Described, ParameterKind, ParameterTier},
    },
    telemetry::Metrics,
};

const PUT: &str = "ssm:PutParameter";
const DELETE: &str = "ssm:DeleteParameter";
const TAG: &str = "ssm:AddTagsToResource";
/// How many pages of an answer are looked through for one name: all but one may be empty.
const PAGES: u32 = 25;

/// Makes a parameter; its version.
pub(super) async fn create(client: &Client, source: &Source, text: &str, attributes: &Attributes, metrics: &Metrics) -> Result<String, WriteError> {
    let Attributes { description, tags, kms_key, kind, tier } = attributes;
    let tags = tagged(tags)?;
    let call = client.put_parameter().name(source.id()).value(text).overwrite(false).set_description(description.clone()).set_key_id(kms_key.clone());
    let call = call.r#type(ParameterType::from(kind.unwrap_or_default().as_str())).set_tier(tier.map(|tier| Tier::from(tier.as_str())));
    let call = call.set_tags(Some(tags).filter(|tags| !tags.is_empty()));
    let call = async { call.send().await.map_err(|error| refusals::of(PUT, &error)) };
    let answer = Box::pin(observed(metrics, ("aws.ps", "PutParameter", 1), WriteError::reason, call)).await?;
    number(answer.version).map(|version| version.to_string())
}

/// What is put in place of what is there.
pub(super) struct Put<'v> {
    pub(super) value: &'v Value,
    /// The value as it is sent.
    pub(super) text: &'v str,
    /// `None`: it keeps its own.
    pub(super) description: Option<&'v str>,
}

/// Puts another value in place of the one that is there; the ARN, if the store told it, and the version.
pub(super) async fn update(
    client: &Client,
    source: &Source,
    Put { value, text, description }: Put<'_>,
    base: Option<&ServedVersion>,
    metrics: &Metrics,
) -> Result<(Option<String>, String), WriteError> {
    let there = find(client, source, metrics).await?;
    let before = number(there.version)?;
    if base.is_some_and(|base| base.id != before.to_string()) {
        return Err(WriteError::Conflict);
    }
    // It keeps its tier too: another one may cost something, and none leads back.
    checks::parameter(value, there.tier.as_ref().and_then(|tier| ParameterTier::spelled(tier.as_str())))?;
    let call = client.put_parameter().set_name(there.name).value(text).overwrite(true);
    let call = call.set_type(there.r#type).set_key_id(there.key_id).set_tier(there.tier).set_description(description.map(str::to_owned).or(there.description));
    // Its policies and tags stay as they are as long as none are sent.
    let call = call.set_allowed_pattern(there.allowed_pattern).set_data_type(there.data_type);
    let call = async { call.send().await.map_err(|error| refusals::of(PUT, &error)) };
    let answer = Box::pin(observed(metrics, ("aws.ps", "PutParameter", 1), WriteError::reason, call)).await?;
    let written = number(answer.version)?;
    if base.is_some() && written != before + 1 {
        return Err(WriteError::Overtaken { base: before, written });
    }
    Ok((there.arn, written.to_string()))
}

/// Deletes a parameter.
pub(super) async fn delete(client: &Client, source: &Source, metrics: &Metrics) -> Result<(), WriteError> {
    for name in names(source) {
        let call = async { client.delete_parameter().name(name).send().await.map(|_| ()).map_err(|error| refusals::of(DELETE, &error)) };
        match observed(metrics, ("aws.ps", "DeleteParameter", 1), WriteError::reason, call).await {
            Err(WriteError::NotFound) => {}
            answer => return answer,
        }
    }
    Err(WriteError::NotFound)
}

/// Gives a parameter tags.
pub(super) async fn tag(client: &Client, source: &Source, tags: &BTreeMap<String, String>, metrics: &Metrics) -> Result<(), WriteError> {
    let tags = tagged(tags)?;
    for name in names(source) {
        let call = client.add_tags_to_resource().resource_type(ResourceTypeForTagging::Parameter).resource_id(name).set_tags(Some(tags.clone()));
        let call = async { call.send().await.map(|_| ()).map_err(|error| refusals::of(TAG, &error)) };
        match Box::pin(observed(metrics, ("aws.ps", "AddTagsToResource", 1), WriteError::reason, call)).await {
            Err(WriteError::NotFound) => {}
            answer => return answer,
        }
    }
    Err(WriteError::NotFound)
}

fn tagged(tags: &BTreeMap<String, String>) -> Result<Vec<Tag>, WriteError> {
    tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect::<Result<_, _>>().map_err(|_| defect("a tag"))
}

/// What is known about a parameter.
pub(super) async fn describe(client: &Client, source: &Source, metrics: &Metrics) -> Result<Described, WriteError> {
    let there = find(client, source, metrics).await?;
    let name = there.name.unwrap_or_default();
    let call = client.list_tags_for_resource().resource_type(ResourceTypeForTagging::Parameter).resource_id(name);
    let call = async { call.send().await.map_err(|error| refusals::of(TAGS, &error)) };
    let tags = match observed(metrics, ("aws.ps", "ListTagsForResource", 1), WriteError::reason, call).await {
        Ok(answer) => Some(answer.tag_list.unwrap_or_default().into_iter().map(|tag| (tag.key, tag.value)).collect()),
        // The rest is worth something without them.
        Err(error) if error.reason() == Reason::AccessDenied => None,
        Err(error) => return Err(error),
    };
    Ok(Described {
        arn: there.arn,
        version: Some(number(there.version)?.to_string()),
        created: None,
        changed: there.last_modified_date.and_then(|time| time.fmt(Format::DateTime).ok()),
        description: there.description,
        tags,
        kms_key: there.key_id,
        kind: there.r#type.and_then(|kind| ParameterKind::spelled(kind.as_str())),
        tier: there.tier.and_then(|tier| ParameterTier::spelled(tier.as_str())),
        deletion: None,
    })
}

/// What is known about the parameter of exactly this name.
async fn find(client: &Client, source: &Source, metrics: &Metrics) -> Result<ParameterMetadata, WriteError> {
    let names = names(source);
    let filter = ParameterStringFilter::builder().key("Name").option("Equals").set_values(Some(names.clone())).build();
    let filter = filter.map_err(|_| defect("a filter"))?;
    let mut token = None;
    for _ in 0..PAGES {
        let call = client.describe_parameters().parameter_filters(filter.clone()).set_next_token(token);
        let call = async { call.send().await.map_err(|error| refusals::of(DESCRIBE, &error)) };
        let answer = Box::pin(observed(metrics, ("aws.ps", "DescribeParameters", 1), WriteError::reason, call)).await?;
        let mut found = answer.parameters.unwrap_or_default().into_iter();
        if let Some(found) = found.find(|found| found.name.as_ref().is_some_and(|name| names.contains(name))) {
            return Ok(found);
        }
        token = answer.next_token.filter(|token| !token.is_empty());
        if token.is_none() {
            return Err(WriteError::NotFound);
        }
    }
    Err(errors::misunderstood().into())
}

/// The names of a parameter, which Parameter Store wants and not the ARN. That of one at the root doesn't tell whether its name has a slash.
fn names(source: &Source) -> Vec<String> {
    match &source.name {
        Name::Plain(name) => vec![name.clone()],
        Name::Arn(arn) => match arn.resource.strip_prefix('/') {
            Some(root) if !root.contains('/') => vec![root.to_owned(), arn.resource.clone()],
            _ => vec![arn.resource.clone()],
        },
    }
}

/// What isn't a number in the answer arrives as 0, which no version of a parameter has.
fn number(version: i64) -> Result<u64, WriteError> {
    u64::try_from(version).ok().filter(|version| *version > 0).ok_or_else(|| errors::incomplete().into())
}

fn defect(what: &str) -> WriteError {
    ReadError::new(Reason::InternalError, format!("a defect of the controller: {what} could not be made")).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::reference::Reference;

    #[test]
    fn an_arn_at_the_root_has_two_names() {
        let names = |uri: &str| names(&uri.parse::<Reference>().expect("a reference").source);
        assert_eq!(names("aws.ps:///a"), ["/a"]);
        assert_eq!(names("aws.ps://a"), ["a"]);
        assert_eq!(names("arn:aws:ssm:eu-west-1:123456789012:parameter/a/b"), ["/a/b"]);
        assert_eq!(names("arn:aws:ssm:eu-west-1:123456789012:parameter/a"), ["a", "/a"]);
    }
}
