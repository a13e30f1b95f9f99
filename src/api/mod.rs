//! What users write, and what they read back: one file a kind, the reference grammar, and the status with its reasons.
//!
//! Nothing here talks to anything: these are the types of the API group `robotosecret.dev/v1alpha1` and their validation.

pub mod allow;
pub mod aws;
pub mod clusterrobotosecret;
mod cure;
pub mod duration;
pub mod edge;
pub mod envase;
pub mod http;
pub mod namespaces;
pub mod provider;
pub mod reference;
pub mod roboto;
pub mod robotopush;
pub mod robotosecret;
pub mod status;
pub mod vault;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use serde_json::json;

pub use clusterrobotosecret::{ClusterRobotoSecret, ClusterRobotoSecretSpec};
pub use provider::{ClusterRobotoProvider, ClusterRobotoProviderSpec, RobotoProvider, RobotoProviderSpec};
pub use robotopush::{RobotoPush, RobotoPushSpec};
pub use robotosecret::{RobotoSecret, RobotoSecretSpec};
pub use status::{Reason, RobotoSecretStatus};

/// The group of every kind, and the prefix of every label and annotation that belongs to this project.
pub const GROUP: &str = "robotosecret.dev";
/// Label on every mirrored Secret: `"true"`. The controller watches only Secrets that carry it.
pub const MANAGED_LABEL: &str = "robotosecret.dev/managed";
/// Finalizer of a `RobotoSecret` that merges into a Secret: when it goes, its keys are taken out first.
pub const MERGE_FINALIZER: &str = "robotosecret.dev/merge";
/// Annotation on a ServiceAccount: the names of the providers that may have its tokens, separated by commas.
pub const ALLOW_TOKEN_ANNOTATION: &str = "robotosecret.dev/allow-token";
/// Annotation on every Secret that belongs to one `RobotoSecret` alone: its name.
pub const OWNER_ANNOTATION: &str = "robotosecret.dev/owner";
/// Annotation that a user changes on a `RobotoSecret` to have it rechecked at once.
pub const REFRESH_ANNOTATION: &str = "robotosecret.dev/refresh";
/// Annotation on the pod template of a workload: the resourceVersion of the Secret that it was last restarted for.
pub const RESTARTED_FOR_ANNOTATION: &str = "robotosecret.dev/restarted-for";

/// The custom resource definitions, as they are installed.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![RobotoSecret::crd(), ClusterRobotoSecret::crd(), ClusterRobotoProvider::crd(), RobotoProvider::crd(), RobotoPush::crd()];
    // GitOps tools and `kubectl wait` take a resource without status for a finished one, so it starts with an honest one.
    let honest = |message: &str| {
        json!({
            "observedGeneration": -1,
            "conditions": [{
                "type": status::READY, "status": "Unknown", "reason": Reason::Pending.as_str(),
                "message": message, "lastTransitionTime": "1970-01-01T00:00:00Z",
            }],
        })
    };
    for crd in &mut crds {
        let message = match crd.spec.names.kind.as_str() {
            // Elsewhere no controller may write why nothing happens.
            "RobotoPush" => "waiting for the controller; it serves RobotoPushes only in the namespaces of --push-namespaces (chart: push.namespaces)",
            _ => "waiting for the controller",
        };
        set_default_status(crd, &honest(message));
    }
    crds.iter_mut().flat_map(schemas).for_each(refuse_null);
    crds
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn schemas(crd: &mut CustomResourceDefinition) -> impl Iterator<Item = &mut JSONSchemaProps> {
    crd.spec.versions.iter_mut().filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut())
}

fn set_default_status(crd: &mut CustomResourceDefinition, default: &serde_json::Value) {
    for status in schemas(crd).filter_map(|schema| schema.properties.as_mut()?.get_mut("status")) {
        status.default = Some(JSON(default.clone()));
    }
}

/// Takes out `nullable`, which stands for every `Option`: `identity: {ambient: }` would count as a choice that was made, though it says nothing.
fn refuse_null(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.properties.iter_mut().flatten().for_each(|(_, property)| refuse_null(property));
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        refuse_null(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        refuse_null(values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn undocumented(path: &str, schema: &JSONSchemaProps, found: &mut Vec<String>) {
        for (name, property) in schema.properties.iter().flatten() {
            let path = format!("{path}.{name}");
            if property.description.as_deref().unwrap_or_default().is_empty() && path != ".metadata" {
                found.push(path.clone());
            }
            undocumented(&path, property, found);
        }
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
            undocumented(&format!("{path}[]"), items, found);
        }
    }

    #[test]
    fn no_field_takes_null() {
        let text = serde_json::to_string(&crds()).expect("JSON");
        assert!(!text.contains("nullable"));
    }

    #[test]
    fn every_field_is_documented() {
        let mut found = Vec::new();
        for crd in crds() {
            for version in &crd.spec.versions {
                let schema = version.schema.as_ref().and_then(|v| v.open_api_v3_schema.as_ref()).expect("a schema");
                undocumented("", schema, &mut found);
            }
        }
        assert!(found.is_empty(), "fields without description: {found:?}");
    }
}
