//! Makes the restarts that rollouts ask for. The only room that writes workloads.
//!
//! Restarts that are due enter; one annotation on a pod template, events, and the status that says so, leave. Nothing but that
//! annotation is written, a workload is never made, and its answer is metadata only. What fails here never keeps a Secret from being
//! mirrored.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    NamespaceResourceScope,
    api::apps::v1::{DaemonSet, Deployment, StatefulSet},
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
    core::PartialObjectMeta,
};
use serde_json::json;

use super::{
    cache::{Key, Standing, target_name},
    drift::is_older,
    mirror::{Context, SOON, STATUS_RETRY, Work},
    queue::Next,
    rollout::{self, Job, Wish, Workload},
    settle::StatusError,
    status::Notice,
};
use crate::{
    api::{
        RESTARTED_FOR_ANNOTATION, RobotoSecretStatus,
        robotosecret::{RolloutTarget, WorkloadKind},
    },
    reader::Lane,
};

/// How long one restart may take.
const PATCH_LIMIT: Duration = Duration::from_secs(10);
/// The field manager of the annotation.
const MANAGER: &str = "robotosecret";

/// Makes restarts as they become due, one at a time, for ever.
pub async fn run(context: Arc<Context>) {
    loop {
        let job = context.rollouts.next().await;
        match context.metrics.kube_write("Workload", restart(&context.client, &job.workload, job.token())).await {
            Ok(()) => {
                tracing::info!(namespace = job.workload.namespace, workload = %job.workload, "restarted");
                context.rollouts.made(&job);
                for (key, _) in &job.askers {
                    tell(&context, key, &job, None);
                    context.queue.push(key, Lane::Event);
                }
            }
            Err(cause) => {
                tracing::debug!(namespace = job.workload.namespace, workload = %job.workload, cause, "could not be restarted");
                for key in context.rollouts.failed(&job, cause) {
                    tell(&context, &key, &job, Some(cause));
                }
            }
        }
    }
}

fn tell(context: &Context, key: &Key, job: &Job, failed: Option<&str>) {
    // It was deleted meanwhile.
    let Some(resource) = context.resources.get(key) else { return };
    let (workload, secret) = (&job.workload, target_name(&resource));
    let notice = match failed {
        None => Notice { warning: false, reason: "RolledOut", action: "Rollout", note: format!("the {workload} is restarted: the Secret {secret} changed") },
        Some(cause) => {
            let note = format!("the {workload} could not be restarted for the changed Secret {secret}: {cause}. It is tried again");
            Notice { warning: true, reason: "RolloutFailed", action: "Rollout", note }
        }
    };
    context.events.publish(notice, &resource);
}

/// Restarts a workload, unless it was restarted for this already. The error says why not, in our own words.
async fn restart(client: &Client, workload: &Workload, token: &str) -> Result<(), &'static str> {
    let patch = async {
        match workload.target.kind {
            WorkloadKind::Deployment => annotate::<Deployment>(client, workload, token).await,
            WorkloadKind::StatefulSet => annotate::<StatefulSet>(client, workload, token).await,
            WorkloadKind::DaemonSet => annotate::<DaemonSet>(client, workload, token).await,
        }
    };
    match tokio::time::timeout(PATCH_LIMIT, patch).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(kube::Error::Api(status))) => Err(match status.code {
            404 => "there is none of that name",
            401 | 403 => "the controller may not change it; check its role and the admission policies (chart: rollout.enabled)",
            400 | 422 => "the API server refuses the change; check that the workload is valid",
            _ => "the API server failed",
        }),
        Ok(Err(_)) | Err(_) => Err("the API server did not answer"),
    }
}

/// Sets the annotation on the pod template, by a merge patch: an apply would make a workload that isn't there.
async fn annotate<K>(client: &Client, workload: &Workload, token: &str) -> kube::Result<()>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + std::fmt::Debug,
{
    let api = Api::<PartialObjectMeta<K>>::namespaced(client.clone(), &workload.namespace);
    let patch = json!({"spec": {"template": {"metadata": {"annotations": {RESTARTED_FOR_ANNOTATION: token}}}}});
    let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    api.patch(&workload.target.name, &parameters, &Patch::Merge(&patch)).await.map(|_| ())
}

impl Work<'_> {
    /// What the spec asks for of rollouts, and whether that may be done.
    pub(super) fn wish(&self) -> Wish {
        match (self.resource.spec.rollout.is_empty(), self.context.allow_rollout) {
            (true, _) => Wish::Nothing,
            (false, true) => Wish::Granted,
            (false, false) => Wish::Refused,
        }
    }

    /// Tells that a rollout is refused, when the status begins to say so.
    pub(super) fn tell_refusal(&self, prior: &RobotoSecretStatus, next: &RobotoSecretStatus) {
        if rollout::is_refused(next) && !rollout::is_refused(prior) {
            let note = "the spec asks for a rollout, and the controller runs without --allow-rollout; in the chart that is rollout.enabled".to_owned();
            self.context.events.publish(Notice { warning: true, reason: "RolloutRefused", action: "Rollout", note }, self.resource);
        }
    }

    /// Asks for the restarts that the status waits for, and writes down that they were made. `next`: when the resource is looked at anyway.
    pub(super) async fn roll_out(&self, standing: &mut Standing, next: Next) -> Next {
        let (rollouts, wish) = (&self.context.rollouts, self.wish());
        let pending = standing.status.rollout.as_ref().and_then(|rollout| rollout.pending_for.as_deref()).filter(|_| wish == Wish::Granted);
        match pending.filter(|_| !self.resource.spec.suspend) {
            Some(token) => {
                let workload = |target: &RolloutTarget| Workload { namespace: self.key.0.clone(), target: target.clone() };
                rollouts.ask(&self.key, token, self.resource.spec.rollout.iter().map(workload).collect());
            }
            None => rollouts.forget(&self.key),
        }
        let made = pending.is_some_and(|token| rollouts.is_finished(&self.key, token));
        let mut after = standing.status.clone();
        rollout::amend(&mut after, &standing.status, wish, None, Timestamp::now());
        if made {
            rollout::mark_made(&mut after);
        }
        if after == standing.status {
            return next;
        }
        // What this look wrote must come back by the watch first: a status is written against the version that was looked at.
        if is_older(&self.resource.resource_version().unwrap_or_default(), &standing.resource_version) {
            return next.or_in(SOON);
        }
        match self.write_status(&after).await {
            Ok(resource_version) => {
                self.tell_refusal(&standing.status, &after);
                (standing.status, standing.resource_version) = (after, resource_version);
                if made {
                    rollouts.forget(&self.key);
                }
                next
            }
            Err(StatusError::Gone) => next,
            Err(StatusError::Outdated) => next.or_in(SOON),
            Err(StatusError::Failed) => next.or_in(STATUS_RETRY),
        }
    }
}
