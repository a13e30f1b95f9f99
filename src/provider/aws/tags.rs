//! The tags of a secret or parameter, as the value that a resource mirrors: the text of a JSON object, by key.
//!
//! Tags enter, in any order; a reading leaves. Nothing but the value tells what the tags are: the version is of no use to anybody else.

use std::collections::BTreeMap;

use super::errors;
use crate::{
    provider::{ReadError, Reading, ServedVersion, Value},
    sensitive::Sensitive,
};

/// The reading of somebody's tags. Tags have no version of their own: theirs changes with them, and with every start of the process.
pub(super) fn reading(arn: String, denotes: String, tags: impl Iterator<Item = (Option<String>, Option<String>)>) -> Result<Reading, ReadError> {
    let tags = tags.map(|(tag, value)| Some((tag?, value.unwrap_or_default()))).collect::<Option<BTreeMap<_, _>>>().ok_or_else(errors::incomplete)?;
    let text = serde_json::to_string(&tags).map_err(|_| errors::misunderstood())?;
    let version = ServedVersion { arn, id: ServedVersion::keyed(&text), created: None, region: None };
    Ok(Reading { value: Value::Text(Sensitive::from(text)), version, denotes: vec![denotes], record: None })
}
