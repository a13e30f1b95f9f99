//! The finalizer of resources that merge: what was merged into a Secret of others has no owner that garbage collection knows of, so the
//! resource waits with going until its keys are taken out.
//!
//! A resource enters; its finalizer is set or taken off, and the Secrets that it merged into are left. Never asks the store, and never
//! holds up a namespace that goes away: there is nothing to put in order in it any more.

use std::collections::BTreeSet;

use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
    core::PartialObjectMeta,
};
use serde_json::json;

use super::{
    cache::Standing,
    mirror::{SOON, Work},
    queue::Next,
    schedule,
    status::{Failure, Notice},
    target::TargetError,
};
use crate::api::{MERGE_FINALIZER, Reason, RobotoSecret, robotosecret::CreationPolicy};

/// Whether a resource has our finalizer: it may have keys in Secrets of others.
pub(super) fn is_held(resource: &RobotoSecret) -> bool {
    resource.finalizers().iter().any(|name| name == MERGE_FINALIZER)
}

/// Why a finalizer was not changed.
enum Unchanged {
    /// The resource is gone, or about to go.
    Gone,
    /// The resource changed meanwhile.
    Outdated,
    /// The API server forbids or fails it.
    Failed,
}

impl Work<'_> {
    /// Sets the finalizer if the resource needs one, before anything is written. `None`: it has what it needs.
    pub(super) async fn hold(&self, plans: bool, standing: &mut Standing) -> Option<Next> {
        if self.wanted.policy != CreationPolicy::Merge || self.resource.spec.suspend || !plans || is_held(self.resource) {
            return None;
        }
        self.stop_reading(standing);
        Some(match self.set_finalizer(true).await {
            Ok(version) => {
                // The watch brings it back with its finalizer.
                standing.resource_version = version;
                Next::In(SOON)
            }
            Err(Unchanged::Gone) => Next::OnChange,
            Err(Unchanged::Outdated) => Next::In(SOON),
            Err(Unchanged::Failed) => {
                let message = format!(
                    "the finalizer {MERGE_FINALIZER} could not be set, without which nothing is merged; check the roles of the controller's ServiceAccount"
                );
                self.fail(standing, Failure::new(Reason::KubernetesError, message, true), None).await
            }
        })
    }

    /// Takes the finalizer off.
    pub(super) async fn let_go(&self, standing: &mut Standing) {
        match self.set_finalizer(false).await {
            Ok(version) => standing.resource_version = version,
            Err(Unchanged::Gone) => {}
            // The next look tries again; until then it does no harm.
            Err(Unchanged::Outdated | Unchanged::Failed) => {
                tracing::debug!(namespace = self.key.0, name = self.key.1, "the finalizer could not be taken off yet");
            }
        }
    }

    /// The resource is being deleted: its keys are taken out of what it merged into, and then it may go.
    pub(super) async fn leave(&self, standing: &mut Standing) -> Next {
        self.stop_reading(standing);
        match self.take_out(standing).await {
            Ok(()) => match self.set_finalizer(false).await {
                Ok(_) | Err(Unchanged::Gone) => Next::OnChange,
                Err(Unchanged::Outdated) => Next::In(SOON),
                Err(Unchanged::Failed) => {
                    let message = format!("the finalizer {MERGE_FINALIZER} could not be taken off; check the roles of the controller's ServiceAccount");
                    self.stay(standing, Failure::new(Reason::KubernetesError, message, true)).await
                }
            },
            Err((secret, error)) => match error.reason() {
                Some(reason) => {
                    let message = format!("the mirrored keys can't be taken out of the Secret {secret}, so that this RobotoSecret can't go: {error}");
                    self.stay(standing, Failure::new(reason, message, true)).await
                }
                None => Next::In(SOON),
            },
        }
    }

    /// Takes out of every Secret what only this resource put there. An error comes with the Secret's name.
    async fn take_out(&self, standing: &Standing) -> Result<(), (String, TargetError)> {
        let claim = self.claim();
        let target = self.target();
        if target.namespace_is_terminating().await {
            return Ok(());
        }
        let watched = self.context.secrets.naming(&self.key.0, &self.key.1);
        // What has lost its label is not watched.
        let known = standing.status.target.iter().chain(standing.former.as_deref()).map(|target| target.name.clone());
        let names: BTreeSet<String> = watched.iter().map(|seen| seen.name.clone()).chain(known).chain([self.wanted.name.clone()]).collect();
        for name in names {
            let result = async {
                let Some(seen) = target.find(&name).await? else { return Ok(None) };
                if seen.belongs_to(claim.name, claim.uid) || seen.owned_alone(claim.manager).is_empty() {
                    return Ok(None);
                }
                target.release(&seen).await
            };
            match result.await {
                Ok(None) => {}
                Ok(Some(keys)) => {
                    let keys = if keys == 1 { "1 key was".to_owned() } else { format!("{keys} keys were") };
                    let note = format!("{keys} taken out of the Secret {name}: the RobotoSecret is being deleted");
                    self.context.events.publish(Notice { warning: false, reason: "Removed", action: "Remove", note }, self.resource);
                }
                Err(TargetError::NamespaceTerminating) => return Ok(()),
                Err(error) => return Err((name, error)),
            }
        }
        Ok(())
    }

    /// Says why the resource can't go yet, and when that is tried again.
    async fn stay(&self, standing: &mut Standing, failure: Failure) -> Next {
        let reason = failure.reason;
        let _ = self.fail(standing, failure, None).await;
        let count = standing.failing.as_ref().map_or(1, |failing| failing.count);
        schedule::until_retry(reason, count, schedule::LONGEST_RETRY, &standing.uid).map_or(Next::In(schedule::LONGEST_RETRY), Next::In)
    }

    /// Sets or takes off our finalizer and no other. Returns the resource's version afterwards.
    async fn set_finalizer(&self, present: bool) -> Result<String, Unchanged> {
        let api = Api::<PartialObjectMeta<RobotoSecret>>::namespaced(self.context.client.clone(), &self.key.0);
        let found = api.get_opt(&self.key.1).await.map_err(|_| Unchanged::Failed)?.ok_or(Unchanged::Gone)?;
        let uid = self.resource.uid();
        if found.metadata.uid != uid || (present && found.metadata.deletion_timestamp.is_some()) {
            return Err(Unchanged::Gone);
        }
        let version = found.resource_version().unwrap_or_default();
        let mut finalizers = found.metadata.finalizers.unwrap_or_default();
        let had = finalizers.len();
        finalizers.retain(|name| name != MERGE_FINALIZER);
        if present {
            finalizers.push(MERGE_FINALIZER.to_owned());
        }
        if finalizers.len() == had {
            return Ok(version);
        }
        // With the version that was looked at, so that nobody else's finalizer is lost.
        let patch = json!({"metadata": {"uid": uid, "resourceVersion": version, "finalizers": finalizers}});
        let (parameters, patch) = (PatchParams::default(), Patch::Merge(&patch));
        match self.context.metrics.kube_write("Finalizer", api.patch(&self.key.1, &parameters, &patch)).await {
            Ok(patched) => Ok(patched.resource_version().unwrap_or_default()),
            Err(kube::Error::Api(status)) if status.code == 404 => Err(Unchanged::Gone),
            Err(kube::Error::Api(status)) if status.code == 409 => Err(Unchanged::Outdated),
            Err(_) => Err(Unchanged::Failed),
        }
    }
}
