//! The status of a `RobotoPush`: what is written back about it.
//!
//! The former status and what happened enter, the next status leaves. Pure: no call, no clock. A value never comes near this room.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use crate::{
    api::{
        Reason,
        robotopush::{PushTarget, RobotoPushStatus},
        status::{FRESH, READY, STALLED},
    },
    controller::status::stamp,
    provider::ReadError,
};

/// What is said of a change that waits.
const WAITING: &str =
    "a change is not carried out yet, and has waited for its turn for 10 s: the store is slow, or other RobotoPushes of the provider come first";

/// What happened.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Each target was looked at; those that failed say so.
    Looked {
        /// How each stands.
        targets: Vec<PushTarget>,
        /// Whether one that failed holds what the Secret held before.
        behind: bool,
        /// `updatePolicy: IfNotExists`: that they are there is all that was looked at.
        leaves: bool,
    },
    /// Nothing was looked at.
    Failed(ReadError),
    /// A change of the Secret or the spec waits for its turn.
    Waiting,
    /// `suspend: true`.
    Suspended,
}

/// The circumstances.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'c> {
    /// The generation of the spec that was worked on.
    pub generation: i64,
    /// The value of the refresh annotation.
    pub refresh: Option<&'c str>,
    /// Now.
    pub now: Timestamp,
}

/// The next status.
#[must_use]
pub fn next(prior: &RobotoPushStatus, about: Circumstances<'_>, outcome: &Outcome) -> RobotoPushStatus {
    let mut next = prior.clone();
    let stamp = |type_: &str, status: &str, reason: Reason, message: String| {
        stamp(prior.condition(type_), (type_, status), (reason, message), (about.generation, about.now))
    };
    if !matches!(outcome, Outcome::Suspended | Outcome::Waiting) {
        next.observed_generation = Some(about.generation);
        next.last_handled_refresh = about.refresh.map(str::to_owned).or(next.last_handled_refresh);
    }
    if let Outcome::Looked { targets, .. } = outcome {
        next.targets.clone_from(targets);
        next.last_write_time = targets.iter().filter_map(|target| target.last_write_time.clone()).max().max(prior.last_write_time.clone());
    }
    let trouble = match outcome {
        Outcome::Looked { targets, .. } => worst(targets),
        Outcome::Failed(error) => Some((error.reason, error.message.clone())),
        Outcome::Waiting => Some((Reason::Throttled, WAITING.to_owned())),
        Outcome::Suspended => {
            let fresh = stamp(FRESH, "Unknown", Reason::Suspended, "suspend is true: nothing is read and nothing is written".to_owned());
            let ready = match prior.condition(READY) {
                Some(ready) if ready.reason != Reason::Pending.as_str() => ready.clone(),
                _ => stamp(READY, "Unknown", Reason::Suspended, "suspend is true: nothing was pushed yet".to_owned()),
            };
            next.conditions = vec![ready, fresh];
            return next;
        }
    };
    let Some((reason, message)) = trouble else {
        next.last_check_time = Some(Time(about.now));
        let count = next.targets.len();
        let (ready, fresh) = match (outcome, count) {
            (Outcome::Looked { leaves: true, .. }, 1) => ("1 target is there", "what is there stays as it is (updatePolicy: IfNotExists), and is not compared"),
            (Outcome::Looked { leaves: true, .. }, _) => ("targets are there", "what is there stays as it is (updatePolicy: IfNotExists), and is not compared"),
            (_, 1) => ("1 target holds what the Secret holds", "the Secret and the store were compared and agree"),
            _ => ("targets hold what the Secret holds", "the Secret and the store were compared and agree"),
        };
        let ready = if count == 1 { ready.to_owned() } else { format!("{count} {ready}") };
        next.conditions = vec![stamp(READY, "True", Reason::Pushed, ready), stamp(FRESH, "True", Reason::Verified, fresh.to_owned())];
        return next;
    };
    // What passes by itself takes nothing away that was there.
    let passing = (reason.is_passing() || reason == Reason::KubernetesError) && !matches!(outcome, Outcome::Looked { behind: true, .. } | Outcome::Waiting);
    let was_ready = prior.condition(READY).filter(|ready| ready.status == "True" && prior.observed_generation == Some(about.generation));
    let ready = match was_ready {
        Some(ready) if passing => ready.clone(),
        _ => stamp(READY, "False", reason, message.clone()),
    };
    next.conditions = vec![ready, stamp(FRESH, "False", reason, message.clone())];
    if reason == Reason::InvalidSpec {
        next.conditions.push(stamp(STALLED, "True", reason, message));
    }
    next
}

/// The failures: why, and in what words.
pub fn failed(targets: &[PushTarget]) -> impl Iterator<Item = (Reason, String)> {
    targets.iter().filter_map(|target| Some((Reason::named(target.reason.as_deref()?)?, target.message.clone().unwrap_or_default())))
}

/// The failure that counts for the whole: the first that doesn't pass by itself, or the first.
#[must_use]
pub fn worst(targets: &[PushTarget]) -> Option<(Reason, String)> {
    failed(targets).min_by_key(|(reason, _)| reason.is_passing())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(failed: Option<Reason>) -> PushTarget {
        PushTarget {
            uri: "aws.sm://x".to_owned(),
            reason: failed.map(|reason| reason.as_str().to_owned()),
            message: failed.map(|_| "m".to_owned()),
            ..PushTarget::default()
        }
    }

    fn said(status: &RobotoPushStatus) -> Vec<String> {
        status.conditions.iter().map(|condition| format!("{} {} {}", condition.type_, condition.status, condition.reason)).collect()
    }

    fn after(prior: &RobotoPushStatus, outcome: &Outcome) -> RobotoPushStatus {
        next(prior, Circumstances { generation: 1, refresh: None, now: Timestamp::from_second(1_000_000).expect("a time") }, outcome)
    }

    fn looked(targets: Vec<PushTarget>) -> Outcome {
        Outcome::Looked { targets, behind: false, leaves: false }
    }

    #[test]
    fn what_passes_leaves_ready_and_what_does_not_takes_it() {
        let good = after(&RobotoPushStatus::default(), &looked(vec![target(None)]));
        assert_eq!(said(&good), ["Ready True Pushed", "Fresh True Verified"]);
        let throttled = after(&good, &looked(vec![target(Some(Reason::Throttled))]));
        assert_eq!(said(&throttled), ["Ready True Pushed", "Fresh False Throttled"]);
        assert_eq!(throttled.last_check_time, good.last_check_time);
        let both = after(&good, &looked(vec![target(Some(Reason::Throttled)), target(Some(Reason::TargetNotOwned))]));
        assert_eq!(said(&both), ["Ready False TargetNotOwned", "Fresh False TargetNotOwned"]);
        let invalid = after(&good, &Outcome::Failed(ReadError::new(Reason::InvalidSpec, "m")));
        assert_eq!(said(&invalid), ["Ready False InvalidSpec", "Fresh False InvalidSpec", "Stalled True InvalidSpec"]);
        let new = after(&RobotoPushStatus::default(), &Outcome::Failed(ReadError::new(Reason::ProviderUnavailable, "m")));
        assert_eq!(said(&new), ["Ready False ProviderUnavailable", "Fresh False ProviderUnavailable"]);
        let outcome = Outcome::Looked { targets: vec![target(Some(Reason::Throttled))], behind: true, leaves: false };
        assert_eq!(said(&after(&good, &outcome)), ["Ready False Throttled", "Fresh False Throttled"], "the Secret has changed since");
        let left = after(&good, &Outcome::Looked { targets: vec![target(None), target(None)], behind: false, leaves: true });
        assert_eq!(left.condition(READY).expect("Ready").message, "2 targets are there");
        let waiting = after(&good, &Outcome::Waiting);
        assert_eq!((said(&waiting), waiting.targets.len()), (vec!["Ready False Throttled".to_owned(), "Fresh False Throttled".to_owned()], 1));
        assert_eq!(after(&RobotoPushStatus::default(), &Outcome::Waiting).observed_generation, None, "nothing was looked at");
        let suspended = after(&good, &Outcome::Suspended);
        assert_eq!((said(&suspended), suspended.targets), (vec!["Ready True Pushed".to_owned(), "Fresh Unknown Suspended".to_owned()], good.targets));
    }
}
