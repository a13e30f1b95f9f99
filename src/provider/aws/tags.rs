//! The tags of a secret or parameter, as the value that a resource mirrors: the text of a JSON object, by key.
//!
//! Tags enter, in any order; a reading leaves. Nothing but the value tells what the tags are: the version is of no use to anybody else.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    sync::LazyLock,
};

use super::errors;
use crate::{
    provider::{ReadError, Reading, ServedVersion, Value},
    sensitive::Sensitive,
};

/// Keys of this process, so that nobody can find out tags by trying which ones make a version.
static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(Default::default);

/// The reading of somebody's tags. Tags have no version of their own: theirs changes with them, and with every start of the process.
pub(super) fn reading(arn: String, denotes: String, tags: impl Iterator<Item = (Option<String>, Option<String>)>) -> Result<Reading, ReadError> {
    let tags = tags.map(|(tag, value)| Some((tag?, value.unwrap_or_default()))).collect::<Option<BTreeMap<_, _>>>().ok_or_else(errors::incomplete)?;
    let text = serde_json::to_string(&tags).map_err(|_| errors::misunderstood())?;
    let [one, other] = KEYS.each_ref().map(|key| key.hash_one(&text));
    let version = ServedVersion { arn, id: format!("{}{one:016x}{other:016x}", ServedVersion::KEYED), created: None, region: None };
    Ok(Reading { value: Value::Text(Sensitive::from(text)), version, denotes: vec![denotes] })
}
