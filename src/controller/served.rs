//! What was mirrored: each source with the version that the store served, as the status remembers it and beyond.
//!
//! A status and what it had no room for enter; comparisons leave. Pure: no I/O. Versions and names only, never a value.

use k8s_openapi::jiff::Timestamp;

use crate::{
    api::{RobotoSecretStatus, status::SourceRecord},
    provider::ServedVersion,
};

/// A source and the version of it that was served.
#[derive(Clone, Debug)]
pub struct Served {
    /// The reference, without keypath.
    pub uri: String,
    /// The provider that it was read through, where it is not the resource's own.
    pub provider: Option<String>,
    /// The version, wherever it was served.
    pub version: ServedVersion,
    /// The failover region that served it, if one did.
    pub region: Option<String>,
    /// What the store knows about it besides.
    pub record: Option<SourceRecord>,
}

/// The same value is the same from whichever region.
impl PartialEq for Served {
    fn eq(&self, other: &Self) -> bool {
        (&self.uri, &self.provider, &self.version) == (&other.uri, &other.provider, &other.version)
    }
}

impl Eq for Served {}

impl Served {
    /// What a reading comes to for whoever mirrored this before: a replica that has the same version has the very same.
    #[must_use]
    pub fn new(uri: String, provider: Option<String>, version: &ServedVersion, before: Option<&ServedVersion>) -> Self {
        let region = version.region.clone();
        let same = before.filter(|before| region.is_some() && (&before.arn, &before.id) == (&version.arn, &version.id));
        let version = same.cloned().unwrap_or_else(|| ServedVersion { region: None, ..version.clone() });
        Self { uri, provider, version, region, record: None }
    }

    /// Whether a failover region served something older than was mirrored before: it lags behind, and counts for nothing.
    #[must_use]
    pub fn lags_behind(&self, before: Option<&ServedVersion>) -> bool {
        let time = |version: &ServedVersion| version.created.as_deref().and_then(|created| created.parse::<Timestamp>().ok());
        let Some(before) = before.filter(|before| self.region.is_some() && **before != self.version) else { return false };
        // Where either has no time, nothing says that it is newer.
        !matches!((time(before), time(&self.version)), (Some(before), Some(is)) if is > before)
    }

    /// Whether both are of one source.
    #[must_use]
    pub fn is_of(&self, other: &Self) -> bool {
        (&self.uri, &self.provider) == (&other.uri, &other.provider)
    }
}

/// What was mirrored before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Previous {
    /// What it was, and in which version.
    pub served: Served,
    /// It was found to be gone, and its keys were taken out.
    pub gone: bool,
}

/// All that was mirrored before. `beside` is what the status can't tell: what is beyond its list, and versions that only this process
/// can compare.
#[must_use]
pub fn record(status: &RobotoSecretStatus, beside: &[Served]) -> Vec<Previous> {
    let listed = status.sources.iter().map(|source| Previous {
        served: Served {
            uri: source.uri.clone(),
            provider: source.provider.clone(),
            version: ServedVersion { arn: source.arn.clone(), id: source.version.clone(), created: source.created_time.clone(), region: None },
            region: source.region.clone(),
            record: source.record.clone(),
        },
        gone: source.gone_since.is_some(),
    });
    let listed = listed.filter(|previous| !beside.iter().any(|other| other.is_of(&previous.served)));
    listed.chain(beside.iter().map(|served| Previous { served: served.clone(), gone: false })).collect()
}

/// What was mirrored before of a reference, read through the resource's own provider or through this other one.
#[must_use]
pub fn find<'r>(record: &'r [Previous], uri: &str, provider: Option<&str>) -> Option<&'r Previous> {
    record.iter().find(|previous| previous.served.uri == uri && previous.served.provider.as_deref() == provider)
}

/// The version of a source that was mirrored before.
#[must_use]
pub fn version_of<'r>(record: &'r [Previous], served: &Served) -> Option<&'r ServedVersion> {
    find(record, &served.uri, served.provider.as_deref()).filter(|previous| !previous.gone).map(|previous| &previous.served.version)
}

/// How what is served now differs from what was mirrored before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Whether all is as it was: the same sources, the same versions, the same gone.
    pub same: bool,
    /// The references whose version is another, or new.
    pub moved: Vec<String>,
    /// The references that are not there any more.
    pub lost: Vec<String>,
    /// Whether one that was there before has another version, for certain.
    pub replaced: bool,
    /// Whether something is not remembered that was there before, so that nothing follows from its being new.
    pub forgotten: bool,
}

impl Comparison {
    /// Whether the data changed at its source: a source has another version, or, although the spec did not change, there are other
    /// sources. `None`: what is remembered does not tell.
    #[must_use]
    pub fn rotated(&self, respecified: bool) -> Option<bool> {
        if self.replaced {
            return Some(true);
        }
        (!self.forgotten).then_some(!respecified && !self.same)
    }
}

/// Compares. `count`: how many sources there were, of which the record may have fewer.
#[must_use]
pub fn compare(record: &[Previous], count: Option<i32>, sources: &[Served], gone: &[Served]) -> Comparison {
    let there: Vec<&Served> = record.iter().filter(|previous| !previous.gone).map(|previous| &previous.served).collect();
    let moved: Vec<String> = sources.iter().filter(|served| !there.contains(served)).map(|served| served.uri.clone()).collect();
    let was_gone = |served: &Served| record.iter().any(|previous| previous.gone && previous.served.is_of(served));
    let same = moved.is_empty() && record.len() == sources.len() + gone.len() && gone.iter().all(was_gone);
    let is_told = |was: &Served| !was.version.id.is_empty();
    let replaced = there.iter().any(|was| is_told(was) && sources.iter().any(|served| served.is_of(was) && served.version != was.version));
    let forgotten = count.is_some_and(|count| usize::try_from(count).is_ok_and(|count| count > there.len())) || !there.iter().all(|was| is_told(was));
    let lost = there.iter().filter(|was| !sources.iter().chain(gone).any(|served| served.is_of(was))).map(|was| was.uri.clone()).collect();
    Comparison { same, moved, lost, replaced, forgotten }
}

/// How many sources were mirrored before, are not found any more, and are not remembered by name. `count`: how many there were.
#[must_use]
pub fn forgotten(record: &[Previous], count: Option<i32>, sources: &[Served]) -> usize {
    let known = |served: &Served| record.iter().any(|previous| previous.served.is_of(served));
    let there = record.iter().filter(|previous| !previous.gone).count();
    let unknown = count.and_then(|count| usize::try_from(count).ok()).unwrap_or_default().saturating_sub(there);
    unknown.saturating_sub(sources.iter().filter(|served| !known(served)).count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::status::SourceStatus;

    fn served(uri: &str, provider: Option<&str>, id: &str) -> Served {
        let version = ServedVersion { arn: "arn".into(), id: id.into(), created: None, region: None };
        Served { uri: uri.into(), provider: provider.map(str::to_owned), version, region: None, record: None }
    }

    fn status() -> RobotoSecretStatus {
        let source = |uri: &str, provider: Option<&str>, version: &str| SourceStatus {
            uri: uri.into(),
            provider: provider.map(str::to_owned),
            arn: "arn".into(),
            version: version.into(),
            ..SourceStatus::default()
        };
        RobotoSecretStatus { sources: vec![source("x", None, "1"), source("x", Some("b"), "2"), source("tags", None, "")], ..RobotoSecretStatus::default() }
    }

    #[test]
    fn a_replica_counts_if_it_has_the_same_version_or_a_newer_one() {
        let version = |id: &str, created: Option<&str>, region: Option<&str>| ServedVersion {
            arn: "arn".into(),
            id: id.into(),
            created: created.map(str::to_owned),
            region: region.map(str::to_owned),
        };
        let (before, far) = (version("2", Some("2026-01-02T00:00:00Z"), None), Some("eu-central-1"));
        let seen = |version: ServedVersion| {
            let served = Served::new("x".into(), None, &version, Some(&before));
            let lags = served.lags_behind(Some(&before));
            (served.version == before, served.region.is_some(), lags)
        };
        assert_eq!(seen(before.clone()), (true, false, false));
        assert_eq!(seen(version("2", Some("2026-01-02T00:00:09Z"), far)), (true, true, false), "the same, replicated a moment later");
        assert_eq!(seen(version("3", Some("2026-01-03T00:00:00Z"), far)), (false, true, false));
        for old in [version("1", Some("2026-01-01T00:00:00Z"), far), version("1", None, far), version("1", before.created.as_deref(), far)] {
            assert_eq!(seen(old), (false, true, true));
        }
        assert_eq!(seen(version("1", Some("2026-01-01T00:00:00Z"), None)), (false, false, false), "the primary always counts");
        assert!(!Served::new("x".into(), None, &version("1", None, far), None).lags_behind(None), "nothing was mirrored before");
    }

    #[test]
    fn one_reference_of_two_providers_is_two_sources() {
        let record = record(&status(), &[]);
        assert_eq!(version_of(&record, &served("x", None, "any")).map(|version| version.id.as_str()), Some("1"));
        assert_eq!(version_of(&record, &served("x", Some("b"), "any")).map(|version| version.id.as_str()), Some("2"));
        assert_eq!(version_of(&record, &served("x", Some("c"), "any")), None);
    }

    #[test]
    fn what_the_status_cannot_tell_stands_beside_it() {
        let beside = [served("tags", None, "9"), served("far", None, "1")];
        let record = record(&status(), &beside);
        assert_eq!(record.len(), 4);
        assert_eq!(version_of(&record, &served("tags", None, "any")).map(|version| version.id.as_str()), Some("9"));
        let now = [served("x", None, "1"), served("x", Some("b"), "2"), served("tags", None, "9"), served("far", None, "1")];
        assert_eq!(compare(&record, Some(4), &now, &[]), Comparison { same: true, ..Comparison::default() });
        let fewer = compare(&record, Some(4), &now[1..], &[]);
        assert_eq!((fewer.same, fewer.lost), (false, vec!["x".to_owned()]));
    }

    #[test]
    fn what_is_gone_is_remembered_and_is_not_served() {
        let mut status = status();
        status.sources.truncate(2);
        status.sources[1].gone_since = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH));
        let record = record(&status, &[]);
        assert_eq!(version_of(&record, &served("x", Some("b"), "any")), None);
        let here = [served("x", None, "1")];
        assert!(compare(&record, None, &here, &[served("x", Some("b"), "2")]).same);
        assert!(!compare(&record, None, &here, &[]).same);
        let back = [served("x", None, "1"), served("x", Some("b"), "2")];
        assert_eq!(compare(&record, None, &back, &[]), Comparison { moved: vec!["x".to_owned()], ..Comparison::default() });
    }

    #[test]
    fn what_is_missing_and_not_remembered_is_counted() {
        let record = record(&status(), &[]);
        let now = |number: usize| -> Vec<Served> {
            let others = (0..number).map(|i| served(&i.to_string(), None, "1"));
            [served("x", None, "1"), served("x", Some("b"), "2"), served("tags", None, "9")].into_iter().chain(others).collect()
        };
        assert_eq!(forgotten(&record, Some(3), &now(0)), 0);
        assert_eq!(forgotten(&record, Some(5), &now(2)), 0, "those may be the ones");
        assert_eq!(forgotten(&record, Some(5), &now(1)), 1);
        assert_eq!(forgotten(&record, Some(5), &now(9)), 0);
        assert_eq!(forgotten(&record, None, &now(0)), 0);
    }

    #[test]
    fn a_rotation_is_told_from_what_was_forgotten() {
        let rotated =
            |sources: &[Served], count, respecified| compare(&record(&status(), &[served("tags", None, "9")]), count, sources, &[]).rotated(respecified);
        let now = |id: &str| [served("x", None, id), served("x", Some("b"), "2"), served("tags", None, "9")];
        let more = |id: &str| [now(id).as_slice(), &[served("new", None, "1")]].concat();
        assert_eq!(rotated(&now("1"), Some(3), false), Some(false));
        assert_eq!(rotated(&now("2"), Some(3), true), Some(true), "a rotation together with an edit");
        assert_eq!(rotated(&more("1"), Some(3), false), Some(true), "a member came");
        assert_eq!(rotated(&more("1"), Some(3), true), Some(false), "an edit that names more");
        assert_eq!(rotated(&more("1"), Some(4), false), None, "one of four was not remembered");
        assert_eq!(rotated(&more("2"), Some(4), false), Some(true));
        assert_eq!(compare(&record(&status(), &[]), Some(3), &now("1"), &[]).rotated(false), None, "tags have no version that outlives the process");
    }
}
