//! What comes of a look at a resource: its status is written, events tell it, leftovers go, and the next look is planned.
//!
//! An outcome and how the resource stands enter; a status on the API server and when to look again leave. The status itself is
//! computed in [`status`](super::status); nothing here reads the store.

use std::{sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::time::Instant;

use super::{
    cache::{Failing, Standing},
    drift::Seen,
    finalizer::is_held,
    mirror::{Ground, SOON, Work},
    queue::Next,
    rollout, schedule,
    served::Served,
    status::{self, Circumstances, Failure, Mirrored, Notice, Outcome},
    target::TargetError,
};
use crate::{
    api::{
        GROUP, Reason, RobotoSecret, RobotoSecretStatus,
        robotosecret::{CreationPolicy, RefreshPolicy},
        status::{LISTED, READY, TargetStatus},
    },
    provider::ReadError,
    telemetry::traces,
};

/// The longest pause between two tries to write a status over a resource that moved and is not seen to have moved.
const OVERTAKEN: Duration = Duration::from_secs(10);
/// How much later than `maxStaleness` allows a recheck may be that did not fail: it is always due a little before, and takes its time.
const LATE: Duration = Duration::from_secs(10);
/// How soon to look for the first recheck of this process.
const FIRST_TELLING: Duration = Duration::from_secs(30);
/// How long until somebody who waits for the reader looks whether it still knows.
const LOST_ANSWERS: Duration = Duration::from_mins(1);
/// The field manager of every status.
const STATUS_MANAGER: &str = "robotosecret";

impl Work<'_> {
    pub(super) async fn read_failed(&self, standing: &mut Standing, error: &ReadError, intact: bool) -> Next {
        let failure = Failure { stalled: error.reason == Reason::InvalidSpec, ..Failure::new(error.reason, &*error.message, intact) };
        self.fail(standing, failure, error.detail.as_deref()).await
    }

    pub(super) async fn target_failed(&self, standing: &mut Standing, error: &TargetError, intact: bool) -> Next {
        match error.reason() {
            Some(reason) => self.fail(standing, Failure::new(reason, error.to_string(), intact), None).await,
            None if *error == TargetError::NamespaceTerminating => Next::OnChange,
            None => Next::In(SOON),
        }
    }

    /// Takes note of a failure and writes it down. `detail` is for the log alone.
    pub(super) async fn fail(&self, standing: &mut Standing, failure: Failure, detail: Option<&str>) -> Next {
        // A Secret that was damaged since is another trouble than the one that was waited out, and more urgent.
        let in_a_row = standing.failing.as_ref().filter(|failing| failing.failure.intact == failure.intact);
        let count = in_a_row.map_or(1, |failing| failing.count.saturating_add(1));
        let ttl = self.ttl();
        // A missing value is as periodic as a present one only while nothing is to be put right.
        let ttl = if failure.intact { ttl } else { ttl.min(schedule::LONGEST_RETRY) };
        let retry = schedule::until_retry(failure.reason, count, ttl, &standing.uid).map(|wait| Instant::now() + wait);
        let (namespace, name) = (self.key.0.as_str(), self.key.1.as_str());
        let repeated = standing.failing.as_ref().is_some_and(|failing| failing.failure == failure);
        if repeated {
            tracing::debug!(namespace, name, reason = failure.reason.as_str(), problem = failure.message, detail, count, "still failing");
        } else {
            tracing::warn!(namespace, name, reason = failure.reason.as_str(), problem = failure.message, detail, "check failed");
        }
        standing.failing = Some(Box::new(Failing { failure: failure.clone(), count, retry }));
        // From here on the pauses tell when to read, and the next good read what is left open.
        standing.doubt = None;
        standing.relook = None;
        self.stop_reading(standing);
        if failure.reason.is_passing() {
            self.context.reader.strand(&self.key, &standing.services);
        }
        self.settle(standing, &Outcome::Failed(failure)).await
    }

    /// Writes the status if it has something to say, publishes what goes with it, and tells when to look again.
    pub(super) async fn settle(&self, standing: &mut Standing, outcome: &Outcome) -> Next {
        traces::outcome(&tracing::Span::current(), outcome.as_str(), matches!(outcome, Outcome::Failed(_)));
        let circumstances = self.circumstances(standing);
        let mut next = status::next(&standing.status, &circumstances, outcome);
        let mirrored = if let Outcome::Mirrored(mirrored) = outcome { Some(&**mirrored) } else { None };
        rollout::amend(&mut next, &standing.status, self.wish(), mirrored, circumstances.now);
        let notice = status::notice(&standing.status, outcome);
        // The time alone is told when it is one's turn, whatever came of the look. Who only wants to tell it has asked.
        let is_turn = || matches!(outcome, Outcome::Verified) || self.context.tellings.may_tell(&self.key);
        let may_tell = || self.until_telling(standing).is_some_and(|wait| wait.is_zero()) && is_turn();
        if status::differs(&standing.status, &next) || may_tell() {
            match self.write_status(&next).await {
                Ok(resource_version) => {
                    let renamed = |was: &TargetStatus| next.target.as_ref().is_some_and(|is| is.name != was.name);
                    standing.former = standing.status.target.take_if(|was| renamed(was)).map(Box::new).or(standing.former.take());
                    self.tell_refusal(&standing.status, &next);
                    standing.status = next;
                    standing.resource_version = resource_version;
                    standing.unwritten = 0;
                    // With the rest, the time was told as well.
                    self.context.tellings.forget(&self.key);
                }
                Err(StatusError::Gone) => return Next::OnChange,
                // What was done and could not be written down is done again; it changes nothing the second time.
                Err(error) => {
                    standing.unwritten = standing.unwritten.saturating_add(1);
                    let again = match error {
                        // The watch mostly tells at once what overtook it. While the watch is down, each try in vain costs a read of the store.
                        StatusError::Outdated => SOON.saturating_mul(2_u32.saturating_pow(standing.unwritten - 1)).min(OVERTAKEN),
                        StatusError::Failed | StatusError::Gone => {
                            schedule::until_retry(Reason::KubernetesError, standing.unwritten, schedule::LONGEST_RETRY, &standing.uid).unwrap_or(SOON)
                        }
                    };
                    if matches!(outcome, Outcome::Mirrored(_) | Outcome::Removed(_)) {
                        let failure = Failure::new(Reason::KubernetesError, "the status could not be written", true);
                        standing.failing = Some(Box::new(Failing { failure, count: 1, retry: Some(Instant::now() + again) }));
                        self.stop_reading(standing);
                    }
                    return Next::In(again);
                }
            }
        }
        if let Some(mirrored) = mirrored {
            // Not before the status tells the rest of it: what could not be written down has yet to be found to differ.
            standing.beside = beside(mirrored);
            standing.asked = Some(self.asked);
            standing.checked = true;
            standing.untold = false;
        }
        if let Some(notice) = notice {
            self.context.events.publish(notice, self.resource);
        }
        self.remove_leftovers(standing).await;
        self.next_look(standing)
    }

    fn circumstances(&self, standing: &Standing) -> Circumstances<'_> {
        let spec = &self.resource.spec;
        Circumstances {
            generation: self.resource.meta().generation.unwrap_or_default(),
            refresh: self.refresh(),
            policy: spec.refresh_policy,
            max_staleness: spec.max_staleness.as_deref().and_then(crate::api::duration::parse),
            last_check: standing.last_check,
            now: Timestamp::now(),
        }
    }

    /// How long until Ready has to turn False because the last good check is too long ago; `None`: as things are, never.
    fn until_stale(&self, standing: &Standing) -> Option<Duration> {
        let fails = standing.failing.is_some();
        // A predecessor's last check may be later than its status tells.
        if self.resource.spec.refresh_policy != RefreshPolicy::Ttl || !standing.status.is_true(READY) || !(standing.checked || fails) {
            return None;
        }
        let Circumstances { max_staleness, last_check, now, .. } = self.circumstances(standing);
        let (limit, last) = max_staleness.zip(last_check)?;
        let age = Duration::try_from(now.duration_since(last)).unwrap_or_default();
        Some((limit + if fails { Duration::ZERO } else { LATE }).saturating_sub(age))
    }

    fn turns_stale(&self, standing: &Standing) -> bool {
        self.until_stale(standing).is_some_and(|wait| wait.is_zero())
    }

    /// The answers that are waited for do not come. That is told in time, however many wait before it for a store that hangs.
    pub(super) async fn wait_on(&self, standing: &mut Standing, intact: bool) -> Next {
        if !self.turns_stale(standing) {
            return self.next_look(standing);
        }
        let failure = standing.failing.as_ref().map_or_else(|| late(intact), |failing| failing.failure.clone());
        self.settle(standing, &Outcome::Failed(failure)).await
    }

    /// Nothing is due. What the mere passing of time changes is written all the same.
    pub(super) async fn rest(&self, standing: &mut Standing, ground: &Ground) -> Next {
        let Ground { plan, known, .. } = ground;
        if standing.failing.is_none() && known.is_intact() && self.turns_stale(standing) {
            return self.fail(standing, late(true), None).await;
        }
        let overdue = standing.failing.is_some() && plan.max_staleness.is_some() && status::stale_since(&self.circumstances(standing)).is_some();
        // Damage that is done during a pause must not wait for its end to be told.
        let damaged = standing.status.target.is_some() && !known.is_intact();
        if let Some(failing) = &mut standing.failing
            && (overdue || damaged && failing.failure.intact)
        {
            failing.failure.intact = known.is_intact();
            let failure = failing.failure.clone();
            return self.settle(standing, &Outcome::Failed(failure)).await;
        }
        if damaged && standing.failing.is_none() && standing.repairs.is_fight() {
            // Until the next repair, nobody may believe that the Secret is right.
            let message = format!("the Secret {} is changed again and again; it is put right ever more slowly until that ends", self.wanted.name);
            self.settle(standing, &Outcome::Failed(Failure::new(Reason::TargetDrifted, message, false))).await;
        } else if standing.failing.is_none() && self.until_telling(standing).is_some_and(|wait| wait.is_zero()) && self.context.tellings.may_tell(&self.key) {
            return self.settle(standing, &Outcome::Verified).await;
        }
        self.remove_leftovers(standing).await;
        match standing.repairs.next(Instant::now()) {
            Some(repair) if !known.is_intact() => Next::In(repair.saturating_duration_since(Instant::now()) + SOON),
            _ => self.next_look(standing),
        }
    }

    /// When to look again if nothing happens. What is read or rechecked meanwhile is told by the reader.
    pub(super) fn next_look(&self, standing: &Standing) -> Next {
        if self.resource.spec.suspend {
            return Next::OnChange;
        }
        let now = Instant::now();
        let failing = standing.failing.as_ref().filter(|_| standing.reading.is_none());
        let retry = failing.and_then(|failing| failing.retry);
        let stale = self.until_stale(standing).map(|wait| now + wait);
        // Whose turn to tell has come waits for it in another queue.
        let telling = self.until_telling(standing).filter(|wait| failing.is_none() && !wait.is_zero()).map(|wait| now + wait);
        let doubt = standing.doubt.into_iter().chain(standing.relook).filter(|_| standing.reading.is_none());
        // The reader tells when it has the answers; should that ever get lost, this finds it.
        let answers = standing.reading.as_ref().map(|_| now + LOST_ANSWERS);
        let next = retry.into_iter().chain(stale).chain(telling).chain(doubt).chain(answers).chain(standing.repairs.settles(now));
        let unwatched = self.until_look(standing).map(|wait| now + wait);
        let next = next.chain(unwatched).min();
        next.map_or(Next::OnChange, |next| Next::In(schedule::until_look(next.saturating_duration_since(now))))
    }

    /// How long until the time of the last check is worth writing although nothing else changed. `None`: there is none to tell.
    fn until_telling(&self, standing: &Standing) -> Option<Duration> {
        let last = standing.last_check?;
        if self.resource.spec.refresh_policy != RefreshPolicy::Ttl {
            return None;
        }
        let told = standing.status.last_check_time.as_ref().map(|time| time.0);
        let wait = schedule::until_telling(last, told, Timestamp::now(), self.context.status_interval);
        // A predecessor may have told long ago. What this process finds out first is told soon, however short its life will be; there is nothing to
        // find before the first recheck.
        Some(if standing.checked { wait } else { wait.min(self.ttl().max(FIRST_TELLING)) })
    }

    pub(super) async fn write_status(&self, status: &RobotoSecretStatus) -> Result<String, StatusError> {
        let api = Api::<RobotoSecret>::namespaced(self.context.client.clone(), &self.key.0);
        let body = json!({
            "apiVersion": format!("{GROUP}/v1alpha1"),
            "kind": "RobotoSecret",
            "metadata": {"name": self.key.1, "resourceVersion": self.resource.resource_version()},
            "status": status,
        });
        let (parameters, patch) = (PatchParams::apply(STATUS_MANAGER).force(), Patch::Apply(&body));
        match self.context.metrics.kube_write("Status", api.patch_status(&self.key.1, &parameters, &patch)).await {
            Ok(written) => Ok(written.resource_version().unwrap_or_default()),
            Err(kube::Error::Api(error)) if error.code == 404 => Err(StatusError::Gone),
            Err(kube::Error::Api(error)) if error.code == 409 => Err(StatusError::Outdated),
            Err(error) => {
                let code = if let kube::Error::Api(error) = &error { error.code } else { 0 };
                tracing::warn!(namespace = self.key.0, name = self.key.1, code, "the status could not be written");
                Err(StatusError::Failed)
            }
        }
    }

    /// Deals with what is left of the time before the target was renamed or its policy changed, once the new one is as it should be:
    /// Secrets that were the resource's alone are deleted, its keys are taken out of shared ones, and the finalizer goes when there
    /// are none left.
    async fn remove_leftovers(&self, standing: &mut Standing) {
        let settled = standing.status.is_true(READY) && standing.status.target.as_ref().is_some_and(|target| target.name == self.wanted.name);
        if !settled || self.resource.spec.suspend || self.resource.meta().deletion_timestamp.is_some() {
            return;
        }
        let mut done = true;
        for seen in self.context.secrets.naming(&self.key.0, &self.key.1) {
            if seen.name != self.wanted.name {
                done &= match self.as_it_is(seen).await {
                    Ok(Some(seen)) => self.remove_leftover(standing.former.as_deref(), &seen).await,
                    Ok(None) => true,
                    Err(_) => false,
                };
            }
        }
        if done {
            done = self.remove_unlabelled(standing).await;
        }
        if done && is_held(self.resource) && self.wanted.policy != CreationPolicy::Merge && !self.respecified(standing) {
            self.let_go(standing).await;
        }
    }

    /// A Secret at this moment. What is watched is known; what isn't may have changed since, or be gone.
    async fn as_it_is(&self, seen: Arc<Seen>) -> Result<Option<Arc<Seen>>, TargetError> {
        if !self.context.confined {
            return Ok(Some(seen));
        }
        let found = self.target().find(&seen.name).await?;
        if found.is_none() {
            self.context.secrets.forget(&self.key.0, &seen.name);
        }
        Ok(found.map(Arc::new))
    }

    /// The Secret of the former name, if its label was taken off, so that the watch does not see it.
    async fn remove_unlabelled(&self, standing: &mut Standing) -> bool {
        let Some(former) = standing.former.take_if(|former| former.name != self.wanted.name) else { return true };
        let done = match self.target().find(&former.name).await {
            Ok(Some(seen)) if seen.uid == former.uid => self.remove_leftover(Some(&former), &seen).await,
            Ok(_) => true,
            Err(_) => false,
        };
        if !done {
            standing.former = Some(former);
        }
        done
    }

    /// Returns whether nothing remains to be done about this one.
    async fn remove_leftover(&self, former: Option<&TargetStatus>, seen: &Seen) -> bool {
        let claim = self.claim();
        // A copy that somebody made bears our reference, too; what we never wrote is not ours to delete.
        let written = seen.last_written(claim.manager).is_some();
        let controlled = written && seen.controller.as_ref().is_some_and(|controller| controller.uid == claim.uid);
        // An unowned one that bears our name may also be what a predecessor left to stay.
        let left = seen.controller.is_none() && seen.managed && seen.belongs_to(claim.name, claim.uid) && former.is_some_and(|former| former.uid == seen.uid);
        let (result, what) = if controlled || left {
            (self.target().delete(seen).await.map(|()| true), format!("the Secret {} was removed", seen.name))
        } else if claim.merged && !seen.belongs_to(claim.name, claim.uid) {
            let released = self.target().release(seen).await.map(|keys| keys.is_some());
            (released, format!("the mirrored keys were taken out of the Secret {}", seen.name))
        } else {
            return true;
        };
        match result {
            Ok(true) => {
                if controlled || left {
                    self.context.secrets.remove(&self.key.0, seen);
                }
                let note = format!("{what}: the target is now {}", self.wanted.name);
                self.context.events.publish(Notice { warning: false, reason: "Removed", action: "Remove", note }, self.resource);
                true
            }
            Ok(false) => true,
            Err(error) => {
                tracing::debug!(namespace = self.key.0, name = self.key.1, secret = seen.name, %error, "a former target could not be removed yet");
                false
            }
        }
    }
}

/// The sources whose versions the status has no room for, or that only this process can compare.
fn beside(mirrored: &Mirrored) -> Vec<Served> {
    let listed = LISTED.saturating_sub(mirrored.gone.len());
    let untold = |(place, served): (usize, &Served)| (place >= listed || !served.version.lasts()).then(|| served.clone());
    mirrored.sources.iter().enumerate().filter_map(untold).collect()
}

/// No recheck came through in time, and none failed either.
fn late(intact: bool) -> Failure {
    Failure::new(Reason::ProviderUnavailable, "the recheck is late: the store answers too slowly, or not at all", intact)
}

#[derive(PartialEq, Eq)]
pub(super) enum StatusError {
    /// The resource is gone.
    Gone,
    /// The resource changed since it was looked at.
    Outdated,
    /// The API server does not take it.
    Failed,
}
