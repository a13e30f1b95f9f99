//! What a `RobotoPush` gets written in Kubernetes: its status and its finalizer.
//!
//! A status, or whether the finalizer is to be there, enters; the object as it then is becomes known. Nothing else of a resource is ever changed.

use std::time::Duration;

use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
    core::PartialObjectMeta,
};
use serde_json::json;

use super::work::Work;
use crate::api::{
    GROUP, RobotoPush,
    robotopush::{PUSH_FINALIZER, RobotoPushStatus},
};

/// The field manager of a status.
const MANAGER: &str = "robotosecret-push";
/// How soon to try a status again that could not be written.
const STATUS_RETRY: Duration = Duration::from_secs(10);

impl Work<'_> {
    /// Writes a status. An error: after how long to try again.
    pub(super) async fn write(&self, status: &RobotoPushStatus) -> Result<(), Duration> {
        let (namespace, name) = &self.key;
        let metadata = json!({"name": name, "namespace": namespace, "uid": self.push.uid()});
        let body = json!({"apiVersion": format!("{GROUP}/v1alpha1"), "kind": "RobotoPush", "metadata": metadata, "status": status});
        let api = Api::<RobotoPush>::namespaced(self.context.client.clone(), namespace);
        let (parameters, patch) = (PatchParams::apply(MANAGER).force(), Patch::Apply(&body));
        match self.context.metrics.kube_write("Status", api.patch_status(name, &parameters, &patch)).await {
            Ok(written) => {
                // The watch brings it back later; until then the former one would count.
                self.context.pushes.written(written);
                Ok(())
            }
            // It is gone, or another one of its name is there; the watch tells.
            Err(kube::Error::Api(error)) if matches!(error.code, 404 | 409) => Ok(()),
            Err(_) => {
                tracing::warn!(namespace, name, "the status of the RobotoPush could not be written");
                Err(STATUS_RETRY)
            }
        }
    }

    /// Sets or takes off our finalizer and no other.
    pub(super) async fn set_finalizer(&self, present: bool) -> Result<(), ()> {
        let (namespace, name) = &self.key;
        let api = Api::<PartialObjectMeta<RobotoPush>>::namespaced(self.context.client.clone(), namespace);
        let Some(found) = api.get_opt(name).await.map_err(drop)? else { return Ok(()) };
        if found.uid() != self.push.uid() || (present && found.metadata.deletion_timestamp.is_some()) {
            return Ok(());
        }
        let mut finalizers = found.metadata.finalizers.clone().unwrap_or_default();
        let had = finalizers.contains(&PUSH_FINALIZER.to_owned());
        if had == present {
            return Ok(());
        }
        finalizers.retain(|name| name != PUSH_FINALIZER);
        if present {
            finalizers.push(PUSH_FINALIZER.to_owned());
        }
        // With the version that was looked at, so that nobody else's finalizer is lost.
        let patch = json!({"metadata": {"uid": found.uid(), "resourceVersion": found.resource_version(), "finalizers": finalizers}});
        let (parameters, patch) = (PatchParams::default(), Patch::Merge(&patch));
        match self.context.metrics.kube_write("Finalizer", api.patch(name, &parameters, &patch)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(_) => Err(()),
        }
    }
}
