//! What is written into stores: what may be said besides a value, what comes of a write, and why there was none.
//!
//! Types and the checks that need no store; no call is made here. Nothing in here ever holds a value, and no error quotes one.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::ReadError;
use crate::{
    api::{Reason, reference::Store},
    render::{MAX_NESTING, same::nests_too_deeply},
    sensitive::Sensitive,
};

/// The largest value that Secrets Manager takes, in bytes.
pub const MOST_OF_A_SECRET: usize = 65_536;
/// How long a deleted secret can be had back, in days.
const RECOVERABLE: std::ops::RangeInclusive<u32> = 7..=30;

/// Why a write was not done. After a [`WriteError::Failed`] whose reason is `ProviderUnavailable` it may have been done all the same.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// There is one of that name already.
    #[error("AlreadyExists: there is one of that name")]
    AlreadyExists,
    /// There is none of that name.
    #[error("NotFound: there is none of that name")]
    NotFound,
    /// Another version is there than the one that this was to take the place of. Nothing was changed.
    #[error("Conflict: somebody else wrote meanwhile, and nothing was changed; read it again")]
    Conflict,
    /// This was written, over what somebody else wrote between the look and the write, in a store that can't compare. The store's history has both.
    #[error("Conflict: this was written as version {written}, over what somebody else wrote after version {base}; the versions between have it")]
    Overtaken {
        /// The version that this was to take the place of.
        base: u64,
        /// The version that it became. All between the two are somebody else's. A lower number: it was deleted meanwhile, and this made it anew.
        written: u64,
    },
    /// It can't be written as it is: the store says so, or it is known before. Says what to do.
    #[error("Refused: {0}")]
    Refused(String),
    /// The store can't do this at all.
    #[error("NotSupported: {} can't {operation}", store.title())]
    NotSupported {
        /// The store.
        store: Store,
        /// What it can't do, as a verb.
        operation: &'static str,
    },
    /// The store could not be asked, may not be asked, or failed.
    #[error(transparent)]
    Failed(#[from] ReadError),
}

impl WriteError {
    /// The reason for a condition or a count.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::AlreadyExists | Self::Conflict | Self::Overtaken { .. } => Reason::TargetConflict,
            Self::NotFound => Reason::SourceNotFound,
            Self::Refused(_) | Self::NotSupported { .. } => Reason::InvalidSpec,
            Self::Failed(error) => error.reason,
        }
    }

    pub(super) fn refused(problem: impl Into<String>) -> Self {
        Self::Refused(problem.into())
    }
}

/// What a new secret or parameter has besides its value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// What people are told about it.
    pub description: Option<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// The key that it is encrypted with: an id, an ARN or an alias; `None`: the account's own for the store.
    pub kms_key: Option<String>,
    /// The kind of a parameter; `None`: `SecureString`. Nothing else has one.
    pub kind: Option<ParameterKind>,
    /// The tier of a parameter; `None`: the account's default. Nothing else has one.
    pub tier: Option<ParameterTier>,
}

/// The kind of a parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ParameterKind {
    /// Text.
    String,
    /// Text with commas.
    StringList,
    /// Text that is encrypted.
    #[default]
    SecureString,
}

impl ParameterKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::String, Self::StringList, Self::SecureString];

    /// As AWS spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::String => "String",
            Self::StringList => "StringList",
            Self::SecureString => "SecureString",
        }
    }

    /// The one that AWS spells like this.
    #[must_use]
    pub fn spelled(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// The tier of a parameter: how large it may be, and what it costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterTier {
    /// Up to 4,096 bytes.
    Standard,
    /// Up to 8,192 bytes, and paid for.
    Advanced,
    /// `Standard`, or `Advanced` where that is needed.
    IntelligentTiering,
}

impl ParameterTier {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Standard, Self::Advanced, Self::IntelligentTiering];

    /// As AWS spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "Standard",
            Self::Advanced => "Advanced",
            Self::IntelligentTiering => "Intelligent-Tiering",
        }
    }

    /// The one that AWS spells like this.
    #[must_use]
    pub fn spelled(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| tier.as_str() == text)
    }

    /// The largest value that a parameter of a tier may have, in bytes.
    #[must_use]
    pub fn most(tier: Option<Self>) -> usize {
        if matches!(tier, None | Some(Self::Standard)) { 4096 } else { 8192 }
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// As [`super::ServedVersion::arn`] has it when this is read; empty where neither the store nor the identity's account could tell.
    pub arn: String,
    /// The id of the version (a secret) or its number (a parameter); empty if no value was written.
    pub version: String,
}

/// Whether a deleted secret can be had back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// For so many days, 7 to 30; [`Recovery::within`] checks them.
    Within(u8),
    /// Not at all: it is gone at once.
    Force,
}

impl Default for Recovery {
    fn default() -> Self {
        Self::Within(30)
    }
}

impl Recovery {
    /// For so many days.
    pub fn within(days: u32) -> Result<Self, WriteError> {
        match u8::try_from(days) {
            Ok(short) if RECOVERABLE.contains(&days) => Ok(Self::Within(short)),
            _ => Err(WriteError::refused(format!("a secret can be had back for 7 to 30 days, not {days}"))),
        }
    }

    /// Whoever wrote the days themselves is checked too.
    pub(super) fn check(self) -> Result<(), WriteError> {
        match self {
            Self::Within(days) => Self::within(days.into()).map(|_| ()),
            Self::Force => Ok(()),
        }
    }
}

/// What a store says about a secret or parameter: all but its value. What it doesn't say is `None`; times are RFC 3339.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Described {
    /// As [`super::ServedVersion::arn`] has it when this is read.
    pub arn: Option<String>,
    /// The version that is there now: an id (a secret) or a number (a parameter).
    pub version: Option<String>,
    /// When it was made.
    pub created: Option<String>,
    /// When it was last changed.
    pub changed: Option<String>,
    /// What people are told about it.
    pub description: Option<String>,
    /// Its tags; `None` also where the identity may not see them.
    pub tags: Option<BTreeMap<String, String>>,
    /// The key that it is encrypted with, if it is not the account's own for the store.
    pub kms_key: Option<String>,
    /// The kind of a parameter.
    pub kind: Option<ParameterKind>,
    /// The tier of a parameter.
    pub tier: Option<ParameterTier>,
    /// It is to be deleted: when.
    pub deletion: Option<String>,
}

/// Checks the size of a value for a store that takes so many bytes at most.
pub(super) fn sized(value: &Sensitive, store: Store, most: usize) -> Result<(), WriteError> {
    if value.is_empty() {
        return Err(WriteError::refused(format!("{} keeps no empty values; write what it is to hold, or delete it", store.title())));
    }
    if value.len() > most {
        let remedy =
            if store == Store::ParameterStore && most < ParameterTier::most(Some(ParameterTier::Advanced)) { ", or choose the tier Advanced" } else { "" };
        let problem = format!("the value is longer than the {most} bytes that {} takes here; make it shorter{remedy}", store.title());
        return Err(WriteError::Refused(problem));
    }
    Ok(())
}

/// Checks that what is written can be compared with what comes back, by a store that spells JSON in its own way.
pub(super) fn comparable(json: &RawValue) -> Result<(), WriteError> {
    if nests_too_deeply(json.get()) { Err(WriteError::Refused(format!("the value nests deeper than {MAX_NESTING} levels; make it flatter"))) } else { Ok(()) }
}

/// A value as text.
pub(super) fn text(value: &Sensitive) -> Result<&str, WriteError> {
    std::str::from_utf8(value.expose())
        .map_err(|_| WriteError::refused("what is kept here is text, and the value is not UTF-8; encode it, with base64 for instance"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_window_is_of_7_to_30_days() {
        assert_eq!(Recovery::default(), Recovery::Within(30));
        for days in [7, 8, 30] {
            assert!(Recovery::within(days).is_ok_and(|recovery| recovery.check().is_ok()), "{days}");
        }
        for days in [0, 6, 31, 90, 263, u32::MAX] {
            let error = Recovery::within(days).expect_err("refused").to_string();
            assert!(error.contains("7 to 30 days") && error.contains(&days.to_string()), "{error}");
        }
        assert!(Recovery::Within(90).check().is_err() && Recovery::Force.check().is_ok());
    }

    #[test]
    fn sizes_are_in_bytes_and_no_refusal_shows_the_value() {
        let value = |text: &str| Sensitive::from(text.to_owned());
        assert!(sized(&value(&"x".repeat(4096)), Store::ParameterStore, ParameterTier::most(None)).is_ok());
        let long = sized(&value(&"ä".repeat(2049)), Store::ParameterStore, ParameterTier::most(Some(ParameterTier::Standard))).expect_err("too long");
        assert_eq!(
            long.to_string(),
            "Refused: the value is longer than the 4096 bytes that Parameter Store takes here; make it shorter, or choose the tier Advanced"
        );
        assert!(sized(&value(""), Store::SecretsManager, MOST_OF_A_SECRET).is_err_and(|error| error.reason() == Reason::InvalidSpec));
        let binary = text(&Sensitive::new(b"canary\xff".to_vec())).expect_err("no text");
        assert!(!format!("{binary} {binary:?}").contains("canary"));
        assert_eq!(text(&value("pä")).expect("text"), "pä");
    }

    #[test]
    fn kinds_and_tiers_are_spelled_as_aws_does() {
        assert_eq!(ParameterKind::default().as_str(), "SecureString");
        assert!(ParameterKind::ALL.into_iter().all(|kind| ParameterKind::spelled(kind.as_str()) == Some(kind)));
        assert!(ParameterTier::ALL.into_iter().all(|tier| ParameterTier::spelled(tier.as_str()) == Some(tier)));
        assert_eq!((ParameterKind::spelled("secureString"), ParameterTier::spelled("IntelligentTiering")), (None, None));
    }
}
