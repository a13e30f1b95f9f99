//! The status: what is written back, and which events go with it.
//!
//! The former status and what happened enter, the next status leaves. Pure: no I/O, no clock. Messages come in our own words; a
//! value never comes near this room.

use std::time::Duration;

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use super::{
    drift::Seen,
    served::{Comparison, Served},
};
use crate::api::{
    Reason, RobotoSecretStatus,
    robotosecret::RefreshPolicy,
    status::{FRESH, LISTED, READY, STALLED, SourceStatus, TargetStatus},
};

/// The circumstances of a status.
#[derive(Clone, Debug)]
pub struct Circumstances<'c> {
    /// The generation of the spec that was worked on.
    pub generation: i64,
    /// The value of the refresh annotation.
    pub refresh: Option<&'c str>,
    /// The refresh policy.
    pub policy: RefreshPolicy,
    /// After how long without a good recheck Ready turns False.
    pub max_staleness: Option<Duration>,
    /// The last good check; more exact than the status, which is written more rarely.
    pub last_check: Option<Timestamp>,
    /// Now.
    pub now: Timestamp,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The Secret holds what the spec asks for.
    Mirrored(Box<Mirrored>),
    /// All sources are gone for certain, and the Secret was deleted, as the spec asks for.
    Removed(Vec<Served>),
    /// Something failed.
    Failed(Failure),
    /// A recheck saw everything as it is mirrored; only the time of it is new.
    Verified,
    /// `suspend: true`.
    Suspended,
    /// The spec changed and the policy `Once` asks for no further read; whether it still names what was mirrored.
    OnceAgain {
        /// Whether target, keys and sources are those that were mirrored.
        same: bool,
    },
}

impl Outcome {
    /// The outcome as it stands in a trace: the reason that the status gives.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Mirrored(_) => Reason::Mirrored.as_str(),
            Self::Removed(_) => Reason::SourceDeleted.as_str(),
            Self::Failed(failure) => failure.reason.as_str(),
            Self::Verified => Reason::Verified.as_str(),
            Self::Suspended => Reason::Suspended.as_str(),
            Self::OnceAgain { .. } => Reason::NotRechecked.as_str(),
        }
    }
}

/// The Secret holds what the spec asks for.
#[derive(Clone, Debug)]
pub struct Mirrored {
    /// The Secret as it is now.
    pub target: Seen,
    /// Its keys.
    pub keys: Vec<String>,
    /// Which templates of ConfigMaps made them.
    pub template_hash: Option<String>,
    /// What was read, in the order of the plan.
    pub sources: Vec<Served>,
    /// What is gone for certain, and has no keys any more.
    pub gone: Vec<Served>,
    /// How that differs from what was mirrored before.
    pub compared: Comparison,
    /// Whether the Secret moved, and not by foreign metadata alone as far as that shows.
    pub moved: bool,
    /// Whether this very write moved it, for certain.
    pub rewritten: bool,
    /// Whether the spec asks for something else than was mirrored before.
    pub respecified: bool,
    /// Whether a repair made the write necessary, and who made that necessary.
    pub repaired: Option<Option<String>>,
}

/// Something failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub reason: Reason,
    /// In our own words, stable from retry to retry.
    pub message: String,
    /// Whether the Secret still holds what was last written.
    pub intact: bool,
    /// Only an edit of the spec can help.
    pub stalled: bool,
    /// What was mirrored went with it.
    pub removed: bool,
}

impl Failure {
    /// A failure that something else than an edit may end.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>, intact: bool) -> Self {
        Self { reason, message: message.into(), intact, stalled: false, removed: false }
    }
}

/// An event to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// A Warning; else Normal.
    pub warning: bool,
    /// The event's reason.
    pub reason: &'static str,
    /// What was being done: the event's action.
    pub action: &'static str,
    /// The text.
    pub note: String,
}

/// A condition as it is now, of this generation; the time of its transition stays while its status does.
#[must_use]
pub fn stamp(before: Option<&Condition>, (type_, status): (&str, &str), (reason, message): (Reason, String), (generation, now): (i64, Timestamp)) -> Condition {
    let since = before.filter(|condition| condition.status == status).map(|condition| condition.last_transition_time.clone());
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.as_str().to_owned(),
        message,
        observed_generation: Some(generation),
        last_transition_time: since.unwrap_or(Time(now)),
    }
}

/// The next status.
#[must_use]
pub fn next(prior: &RobotoSecretStatus, circumstances: &Circumstances<'_>, outcome: &Outcome) -> RobotoSecretStatus {
    let mut next = prior.clone();
    let stamp = |type_: &str, status: &str, reason: Reason, message: String| {
        stamp(prior.condition(type_), (type_, status), (reason, message), (circumstances.generation, circumstances.now))
    };
    next.last_check_time = circumstances.last_check.map(Time);
    if !matches!(outcome, Outcome::Suspended) {
        next.observed_generation = Some(circumstances.generation);
        next.last_handled_refresh = circumstances.refresh.map(str::to_owned).or_else(|| prior.last_handled_refresh.clone());
    }
    next.conditions = match outcome {
        Outcome::Mirrored(mirrored) => {
            next.target = Some(target_status(mirrored, circumstances.generation));
            next.sources = sources_status(prior, &mirrored.sources, &mirrored.gone, circumstances.now);
            next.source_count = Some(count(mirrored.sources.len()));
            if changed(prior, mirrored) {
                next.last_change_time = Some(Time(circumstances.now));
            }
            let ready = if mirrored.sources.is_empty() && !mirrored.gone.is_empty() {
                stamp(READY, "False", Reason::SourceDeleted, gone(&mirrored.gone, "the keys that came from there were taken out"))
            } else {
                let rest = if mirrored.gone.is_empty() { String::new() } else { format!("; {}", gone(&mirrored.gone, "its keys were taken out")) };
                stamp(READY, "True", Reason::Mirrored, holds(count(mirrored.keys.len()), count(mirrored.sources.len())) + &rest)
            };
            let fresh = match circumstances.policy {
                RefreshPolicy::Ttl => stamp(FRESH, "True", Reason::Verified, "the store was asked and the Secret agrees with it".to_owned()),
                RefreshPolicy::OnChange | RefreshPolicy::Once => stamp(FRESH, "Unknown", Reason::NotRechecked, not_rechecked(circumstances.policy)),
            };
            vec![ready, fresh]
        }
        Outcome::Removed(sources) => {
            next.target = None;
            next.sources = sources_status(prior, &[], sources, circumstances.now);
            next.source_count = Some(0);
            if prior.target.is_some() {
                next.last_change_time = Some(Time(circumstances.now));
            }
            let ready = gone(sources, "the Secret was deleted, as deletionPolicy asks for; it is made again when the source is back");
            vec![stamp(READY, "False", Reason::SourceDeleted, ready), stamp(FRESH, "True", Reason::Verified, "the store was asked".to_owned())]
        }
        Outcome::Failed(failure) => {
            let (status, reason, message) = ready_after(prior, circumstances, failure);
            let mut conditions = vec![stamp(READY, &status, reason, message), stamp(FRESH, "False", failure.reason, failure.message.clone())];
            if failure.removed {
                next.target = None;
                next.sources = Vec::new();
                next.source_count = Some(0);
                next.last_change_time = Some(Time(circumstances.now));
            }
            if failure.stalled {
                conditions.push(stamp(STALLED, "True", failure.reason, failure.message.clone()));
            }
            keep_unchanged_ready(prior, &mut conditions);
            conditions
        }
        Outcome::Verified => prior.conditions.clone(),
        Outcome::Suspended => {
            let fresh = stamp(FRESH, "Unknown", Reason::Suspended, "suspend is true: nothing is read and nothing is written".to_owned());
            let ready = match prior.condition(READY) {
                Some(ready) if ready.reason != Reason::Pending.as_str() => ready.clone(),
                _ => stamp(READY, "Unknown", Reason::Suspended, "suspend is true: nothing was mirrored yet".to_owned()),
            };
            vec![ready, fresh]
        }
        Outcome::OnceAgain { same } => {
            let fresh = stamp(FRESH, "Unknown", Reason::NotRechecked, not_rechecked(circumstances.policy));
            let ready = match &prior.target {
                Some(target) if *same => stamp(READY, "True", Reason::Mirrored, holds(target.key_count, prior.source_count.unwrap_or_default())),
                _ => stamp(READY, "False", Reason::NotRechecked, "the spec changed after it was mirrored, and refreshPolicy Once mirrors only once; change the annotation robotosecret.dev/refresh to mirror again".to_owned()),
            };
            vec![ready, fresh]
        }
    };
    next
}

/// What is gone, and what was done about it.
fn gone(sources: &[Served], done: &str) -> String {
    let uris: Vec<&str> = sources.iter().map(|served| served.uri.as_str()).collect();
    said_of(&uris, "is gone from the store", "are gone from the store").map_or_else(|| done.to_owned(), |gone| format!("{gone}: {done}"))
}

/// A sentence about references, of which it names the first; `None` without any.
fn said_of(uris: &[impl AsRef<str>], one: &str, several: &str) -> Option<String> {
    let (first, rest) = uris.split_first()?;
    let first = first.as_ref();
    Some(if rest.is_empty() { format!("{first} {one}") } else { format!("{first} and {} {several}", counted(count(rest.len()), "other")) })
}

fn holds(keys: i32, sources: i32) -> String {
    format!("{} from {}", counted(keys, "key"), counted(sources, "source"))
}

fn not_rechecked(policy: RefreshPolicy) -> String {
    let when = if policy == RefreshPolicy::Once { "only once" } else { "only when the spec changes" };
    format!("the refresh policy asks the store {when}")
}

/// The reason of a condition that we wrote ourselves, read back.
fn reason_of(condition: &Condition) -> Reason {
    Reason::named(&condition.reason).unwrap_or(Reason::Mirrored)
}

/// What becomes of Ready when something failed: (status, reason, message).
fn ready_after(prior: &RobotoSecretStatus, circumstances: &Circumstances<'_>, failure: &Failure) -> (String, Reason, String) {
    let (reason, message) = (failure.reason, failure.message.clone());
    let was = prior.condition(READY);
    let was_ready = was.is_some_and(|ready| ready.status == "True");
    let was_stale = was.is_some_and(|ready| ready.reason == Reason::Stale.as_str());
    let observed = prior.observed_generation == Some(circumstances.generation);
    let passing = matches!(reason, Reason::Throttled | Reason::ProviderUnavailable | Reason::KubernetesError | Reason::InternalError);
    let answer = |status: &str, reason, message| (status.to_owned(), reason, message);
    if !passing {
        return answer("False", reason, message);
    }
    if prior.target.is_none() {
        return answer("Unknown", reason, message);
    }
    if !failure.intact {
        return answer("False", Reason::TargetDrifted, format!("the Secret was changed by hand and can't be put right: {message}"));
    }
    if (was_ready || was_stale)
        && let Some(since) = stale_since(circumstances)
    {
        return answer("False", Reason::Stale, format!("no good recheck since {since:.0}: {message}"));
    }
    match was {
        Some(ready) if was_ready && observed => answer("True", reason_of(ready), ready.message.clone()),
        _ => answer("False", reason, message),
    }
}

/// When the last good check was, if that is longer ago than `maxStaleness`.
#[must_use]
pub fn stale_since(circumstances: &Circumstances<'_>) -> Option<Timestamp> {
    let last = circumstances.last_check?;
    let age = Duration::try_from(circumstances.now.duration_since(last)).unwrap_or_default();
    circumstances.max_staleness.filter(|limit| age >= *limit).map(|_| last)
}

/// A Ready that stays True also keeps the generation it was found for, so that the resource need not be written again.
fn keep_unchanged_ready(prior: &RobotoSecretStatus, conditions: &mut [Condition]) {
    if let (Some(was), Some(is)) = (prior.condition(READY), conditions.first_mut())
        && was.status == is.status
        && was.status == "True"
    {
        *is = was.clone();
    }
}

fn target_status(mirrored: &Mirrored, generation: i64) -> TargetStatus {
    TargetStatus {
        name: mirrored.target.name.clone(),
        uid: mirrored.target.uid.clone(),
        resource_version: mirrored.target.resource_version.clone(),
        key_count: count(mirrored.keys.len()),
        keys: mirrored.keys.iter().take(LISTED).cloned().collect(),
        template_hash: mirrored.template_hash.clone(),
        generation: Some(generation),
    }
}

fn sources_status(prior: &RobotoSecretStatus, sources: &[Served], gone: &[Served], now: Timestamp) -> Vec<SourceStatus> {
    let was = |served: &Served| prior.sources.iter().find(|source| source.uri == served.uri && source.provider == served.provider);
    let entry = |served: &Served| {
        let version = &served.version;
        // What only this process can compare tells nobody else anything.
        let id = if version.lasts() { version.id.clone() } else { String::new() };
        let unchanged = was(served).filter(|source| source.arn == version.arn && source.version == id && source.created_time == version.created);
        SourceStatus {
            uri: served.uri.clone(),
            provider: served.provider.clone(),
            arn: version.arn.clone(),
            version: id,
            created_time: version.created.clone(),
            region: served.region.clone(),
            record: served.record.clone(),
            last_changed_time: Some(unchanged.and_then(|source| source.last_changed_time.clone()).unwrap_or(Time(now))),
            gone_since: None,
        }
    };
    let absent =
        |served: &Served| SourceStatus { gone_since: Some(was(served).and_then(|source| source.gone_since.clone()).unwrap_or(Time(now))), ..entry(served) };
    gone.iter().map(absent).chain(sources.iter().map(entry)).take(LISTED).collect()
}

/// Whether the content of the Secret changed because of its sources, its spec or its templates: not by a repair, nor when a new version has the old value.
fn changed(prior: &RobotoSecretStatus, mirrored: &Mirrored) -> bool {
    prior.target.is_none() || (mirrored.moved && (mirrored.respecified || !mirrored.compared.same || retemplated(prior, mirrored)))
}

/// Whether other templates of ConfigMaps made it than before.
fn retemplated(prior: &RobotoSecretStatus, mirrored: &Mirrored) -> bool {
    prior.target.as_ref().is_some_and(|was| was.template_hash != mirrored.template_hash)
}

/// Whether the status differs in anything but the times of the last check and of the last use.
#[must_use]
pub fn differs(prior: &RobotoSecretStatus, next: &RobotoSecretStatus) -> bool {
    let plain = |status: &RobotoSecretStatus| {
        let mut status = RobotoSecretStatus { last_check_time: None, ..status.clone() };
        status.sources.iter_mut().filter_map(|source| source.record.as_mut()).for_each(|record| record.last_used = None);
        status
    };
    plain(prior) != plain(next)
}

/// The event that goes with a status, if one does: once a change and once a cause, not once a try.
#[must_use]
pub fn notice(prior: &RobotoSecretStatus, outcome: &Outcome) -> Option<Notice> {
    match outcome {
        Outcome::Mirrored(mirrored) => {
            let name = &mirrored.target.name;
            let keys = counted(count(mirrored.keys.len()), "key");
            let normal = |reason, action, note| Some(Notice { warning: false, reason, action, note });
            if prior.target.as_ref().is_none_or(|was| was.name != *name) {
                return normal("Mirrored", "Mirror", format!("{keys} mirrored into the Secret {name}"));
            }
            if changed(prior, mirrored) {
                let cause = if !mirrored.compared.same {
                    changed_sources(mirrored)
                } else if mirrored.respecified {
                    "the spec changed".to_owned()
                } else {
                    "a template in a ConfigMap changed".to_owned()
                };
                return normal("Updated", "Mirror", format!("the Secret {name} was updated: {cause}"));
            }
            mirrored.repaired.as_ref().and_then(|culprit| {
                let by = culprit.as_ref().map(|manager| format!(" by {manager}")).unwrap_or_default();
                let was = prior.target.as_ref().is_some_and(|was| was.uid == mirrored.target.uid);
                let what = if was { format!("changed{by} and put right") } else { "deleted and made".to_owned() };
                normal("Mirrored", "Repair", format!("the Secret {name} was {what} again"))
            })
        }
        Outcome::Failed(failure) => {
            let known = prior
                .condition(FRESH)
                .is_some_and(|fresh| fresh.status == "False" && fresh.reason == failure.reason.as_str() && fresh.message == failure.message);
            (!known).then(|| Notice { warning: true, reason: "CheckFailed", action: "Check", note: format!("{}: {}", failure.reason, failure.message) })
        }
        Outcome::Removed(sources) => prior.target.as_ref().map(|target| Notice {
            warning: true,
            reason: "Removed",
            action: "Remove",
            note: gone(sources, &format!("the Secret {} was deleted, as deletionPolicy asks for", target.name)),
        }),
        Outcome::Verified | Outcome::Suspended | Outcome::OnceAgain { .. } => None,
    }
}

fn changed_sources(mirrored: &Mirrored) -> String {
    let Comparison { moved, lost, .. } = &mirrored.compared;
    let moved = || said_of(moved, "has a new version", "have new versions");
    let lost = || said_of(lost, "is not found any more, and its key was taken out", "are not found any more, and their keys were taken out");
    let gone = || (!mirrored.gone.is_empty()).then(|| gone(&mirrored.gone, "the keys that came from there were taken out"));
    moved().or_else(lost).or_else(gone).unwrap_or_else(|| "other sources than before are found".to_owned())
}

fn counted(number: i32, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::ServedVersion;

    const NOW: i64 = 1_800_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn circumstances(generation: i64, now: i64) -> Circumstances<'static> {
        Circumstances { generation, refresh: None, policy: RefreshPolicy::Ttl, max_staleness: None, last_check: Some(at(now)), now: at(now) }
    }

    /// What was mirrored, against a Secret that stood at the version 7.
    fn mirrored(version: &str, resource_version: &str) -> Outcome {
        Outcome::Mirrored(Box::new(mirrored_parts(version, resource_version)))
    }

    fn mirrored_parts(version: &str, resource_version: &str) -> Mirrored {
        Mirrored {
            target: Seen { name: "db".into(), uid: "s1".into(), resource_version: resource_version.into(), ..Seen::default() },
            keys: vec!["a".into()],
            sources: vec![Served {
                uri: "aws.sm://x".into(),
                provider: None,
                version: ServedVersion { arn: "arn".into(), id: version.into(), created: None, region: None },
                region: None,
                record: None,
            }],
            gone: Vec::new(),
            compared: if version == "v1" {
                Comparison { same: true, ..Comparison::default() }
            } else {
                Comparison { moved: vec!["aws.sm://x".into()], ..Comparison::default() }
            },
            moved: resource_version != "7",
            rewritten: resource_version != "7",
            respecified: false,
            template_hash: None,
            repaired: None,
        }
    }

    fn failed(reason: Reason, intact: bool) -> Outcome {
        Outcome::Failed(Failure { stalled: reason == Reason::InvalidSpec, ..Failure::new(reason, "because", intact) })
    }

    fn ready() -> RobotoSecretStatus {
        next(&RobotoSecretStatus::default(), &circumstances(1, NOW), &mirrored("v1", "7"))
    }

    fn shown(status: &RobotoSecretStatus) -> Vec<String> {
        status.conditions.iter().map(|c| format!("{}={} {}", c.type_, c.status, c.reason)).collect()
    }

    #[test]
    fn a_mirrored_secret_is_ready_and_fresh() {
        let status = ready();
        assert_eq!(shown(&status), ["Ready=True Mirrored", "Fresh=True Verified"]);
        assert_eq!(status.condition(READY).map(|c| c.message.as_str()), Some("1 key from 1 source"));
        assert_eq!(status.target.as_ref().map(|t| (t.resource_version.as_str(), t.key_count)), Some(("7", 1)));
        assert_eq!(status.last_change_time, Some(Time(at(NOW))));
    }

    #[test]
    fn an_unchanged_recheck_moves_only_the_time_of_the_check() {
        let again = next(&ready(), &circumstances(1, NOW + 60), &mirrored("v1", "7"));
        assert!(!differs(&ready(), &again));
        assert_eq!(again.last_check_time, Some(Time(at(NOW + 60))));
        assert_eq!(notice(&ready(), &mirrored("v1", "7")), None);
    }

    #[test]
    fn a_repair_is_told_as_what_it_was() {
        let repaired = |uid: &str| {
            let Outcome::Mirrored(again) = mirrored("v1", "9") else { return None };
            let again = Mirrored { target: Seen { uid: uid.into(), ..again.target }, repaired: Some(Some("kubectl-edit".into())), ..*again };
            notice(&ready(), &Outcome::Mirrored(Box::new(again))).map(|notice| notice.note)
        };
        assert_eq!(repaired("s1").as_deref(), Some("the Secret db was changed by kubectl-edit and put right again"));
        assert_eq!(repaired("s2").as_deref(), Some("the Secret db was deleted and made again"));
    }

    #[test]
    fn a_new_version_counts_as_a_change_only_if_the_secret_moved() {
        let moved = next(&ready(), &circumstances(1, NOW + 60), &mirrored("v2", "8"));
        assert_eq!(moved.last_change_time, Some(Time(at(NOW + 60))));
        assert_eq!(moved.sources[0].last_changed_time, Some(Time(at(NOW + 60))));
        let notice = notice(&ready(), &mirrored("v2", "8")).expect("an event");
        assert_eq!((notice.reason, notice.note.as_str()), ("Updated", "the Secret db was updated: aws.sm://x has a new version"));
        let same_value = next(&ready(), &circumstances(1, NOW + 60), &mirrored("v2", "7"));
        assert_eq!(same_value.last_change_time, Some(Time(at(NOW))));
        let repaired = next(&ready(), &circumstances(1, NOW + 60), &mirrored("v1", "9"));
        assert_eq!(repaired.last_change_time, Some(Time(at(NOW))));
    }

    #[test]
    fn a_new_spec_counts_as_a_change_if_the_secret_moved_also_after_a_failure_was_observed_for_it() {
        let failing = next(&ready(), &circumstances(2, NOW), &failed(Reason::ProviderUnavailable, true));
        for (prior, moved) in [(ready(), true), (ready(), false), (failing.clone(), true), (failing, false)] {
            let outcome = Outcome::Mirrored(Box::new(Mirrored { moved, respecified: true, ..mirrored_parts("v1", "8") }));
            let told = notice(&prior, &outcome).map(|n| (n.reason, n.note));
            assert_eq!(told, moved.then(|| ("Updated", "the Secret db was updated: the spec changed".to_owned())));
            assert_eq!(next(&prior, &circumstances(2, NOW + 60), &outcome).last_change_time, Some(Time(at(if moved { NOW + 60 } else { NOW }))));
        }
    }

    #[test]
    fn a_passing_failure_leaves_an_intact_secret_ready() {
        for reason in [Reason::Throttled, Reason::ProviderUnavailable, Reason::KubernetesError, Reason::InternalError] {
            let status = next(&ready(), &circumstances(1, NOW + 60), &failed(reason, true));
            assert_eq!(shown(&status), ["Ready=True Mirrored".to_owned(), format!("Fresh=False {reason}")]);
            assert_eq!(status.condition(READY), ready().condition(READY));
        }
    }

    #[test]
    fn a_passing_failure_is_honest_about_what_it_could_not_do() {
        let never = next(&RobotoSecretStatus::default(), &circumstances(1, NOW), &failed(Reason::ProviderUnavailable, false));
        assert_eq!(shown(&never), ["Ready=Unknown ProviderUnavailable", "Fresh=False ProviderUnavailable"]);
        let changed_spec = next(&ready(), &circumstances(2, NOW), &failed(Reason::ProviderUnavailable, true));
        assert_eq!(shown(&changed_spec), ["Ready=False ProviderUnavailable", "Fresh=False ProviderUnavailable"]);
        let still = next(&changed_spec, &circumstances(2, NOW), &failed(Reason::ProviderUnavailable, true));
        assert!(!differs(&changed_spec, &still));
        let damaged = next(&ready(), &circumstances(1, NOW), &failed(Reason::ProviderUnavailable, false));
        assert_eq!(shown(&damaged), ["Ready=False TargetDrifted", "Fresh=False ProviderUnavailable"]);
    }

    #[test]
    fn a_certain_failure_is_not_ready_and_keeps_what_is_known_of_the_secret() {
        for reason in [
            Reason::AccessDenied,
            Reason::SourceNotFound,
            Reason::KeypathNotFound,
            Reason::NotAllowed,
            Reason::ProviderNotFound,
            Reason::TargetNotOwned,
            Reason::TargetRejected,
        ] {
            let status = next(&ready(), &circumstances(1, NOW), &failed(reason, true));
            assert_eq!(shown(&status), [format!("Ready=False {reason}"), format!("Fresh=False {reason}")]);
            assert_eq!(status.target, ready().target);
        }
        let invalid = next(&ready(), &circumstances(2, NOW), &failed(Reason::InvalidSpec, true));
        assert_eq!(shown(&invalid), ["Ready=False InvalidSpec", "Fresh=False InvalidSpec", "Stalled=True InvalidSpec"]);
        assert_eq!(shown(&next(&invalid, &circumstances(3, NOW), &mirrored("v1", "7"))), ["Ready=True Mirrored", "Fresh=True Verified"]);
    }

    #[test]
    fn ready_turns_false_when_no_recheck_worked_for_too_long() {
        let late = |age| Circumstances { max_staleness: Some(Duration::from_secs(7200)), last_check: Some(at(NOW)), ..circumstances(1, NOW + age) };
        assert_eq!(shown(&next(&ready(), &late(7199), &failed(Reason::Throttled, true)))[0], "Ready=True Mirrored");
        let stale = next(&ready(), &late(7200), &failed(Reason::Throttled, true));
        assert_eq!(shown(&stale)[0], "Ready=False Stale");
        assert!(!differs(&stale, &next(&stale, &late(9000), &failed(Reason::Throttled, true))));
    }

    #[test]
    fn a_cause_is_told_once() {
        let circumstances = circumstances(1, NOW);
        let first = notice(&ready(), &failed(Reason::Throttled, true));
        assert_eq!(first.map(|n| (n.warning, n.reason)), Some((true, "CheckFailed")));
        let failing = next(&ready(), &circumstances, &failed(Reason::Throttled, true));
        assert_eq!(notice(&failing, &failed(Reason::Throttled, true)), None);
        assert!(notice(&failing, &failed(Reason::AccessDenied, true)).is_some());
    }

    #[test]
    fn suspension_says_so_and_speaks_of_the_spec_that_it_knows() {
        let status = next(&ready(), &circumstances(2, NOW), &Outcome::Suspended);
        assert_eq!(shown(&status), ["Ready=True Mirrored", "Fresh=Unknown Suspended"]);
        assert_eq!(status.observed_generation, Some(1));
        let fresh = next(&RobotoSecretStatus::default(), &circumstances(1, NOW), &Outcome::Suspended);
        assert_eq!(shown(&fresh), ["Ready=Unknown Suspended", "Fresh=Unknown Suspended"]);
    }

    #[test]
    fn the_policy_once_says_whether_the_secret_is_still_what_is_asked_for() {
        let once = |generation| Circumstances { policy: RefreshPolicy::Once, ..circumstances(generation, NOW) };
        let status = next(&ready(), &once(1), &mirrored("v1", "7"));
        assert_eq!(shown(&status), ["Ready=True Mirrored", "Fresh=Unknown NotRechecked"]);
        assert_eq!(shown(&next(&status, &once(2), &Outcome::OnceAgain { same: true })), ["Ready=True Mirrored", "Fresh=Unknown NotRechecked"]);
        let other = next(&status, &once(2), &Outcome::OnceAgain { same: false });
        assert_eq!(shown(&other), ["Ready=False NotRechecked", "Fresh=Unknown NotRechecked"]);
        let back = next(&other, &once(3), &Outcome::OnceAgain { same: true });
        assert_eq!(shown(&back), ["Ready=True Mirrored", "Fresh=Unknown NotRechecked"]);
        assert_eq!(back.condition(READY).map(|c| c.message.as_str()), Some("1 key from 1 source"));
    }
}
