//! The kind `ClusterRobotoSecret`: one `RobotoSecret` in each of several namespaces.
//!
//! The doc comments below are what `kubectl explain crsec.spec` prints. The template is shaped like a workload's: `metadata` and `spec`.

#![allow(clippy::doc_markdown)] // `kubectl explain` prints them, where backticks are noise.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{
    namespaces::{Labels, Namespaces},
    robotosecret::RobotoSecretSpec,
};

/// How many failures a status lists; the rest is only counted.
pub const LISTED_FAILURES: usize = 20;

/// Makes the same RobotoSecret in every selected namespace and keeps it there as it is written here.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "robotosecret.dev",
    version = "v1alpha1",
    kind = "ClusterRobotoSecret",
    plural = "clusterrobotosecrets",
    shortname = "crsec",
    category = "roboto",
    status = "ClusterRobotoSecretStatus",
    derive = "PartialEq",
    doc = "Makes the same RobotoSecret in every selected namespace and keeps it there as it is written here.",
    validation = Rule::new("size(self.metadata.name) <= 115").message("the name of a ClusterRobotoSecret has at most 115 characters"),
    printcolumn(name = "Namespaces", type_ = "integer", json_path = ".status.namespaces"),
    printcolumn(name = "Mirrored", type_ = "integer", json_path = ".status.ready"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.failed"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRobotoSecretSpec {
    /// The namespaces that get a RobotoSecret. One that is no longer selected loses it, and with it the Secret, as the template's policies say.
    pub namespaces: Namespaces,

    /// The name of the RobotoSecrets. Left out: this resource's own. Changed: those of the former name are removed, each once the new one of its namespace is Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 115))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')").message("the name of a RobotoSecret"))]
    pub roboto_secret_name: Option<String>,

    /// The RobotoSecret.
    pub template: RobotoSecretTemplate,
}

/// A RobotoSecret that is made in several namespaces.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RobotoSecretTemplate {
    /// Labels and annotations of the RobotoSecrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMeta>,
    /// Their spec. What it refers to in Kubernetes is looked for in each namespace, and what it reads has to be allowed to each.
    pub spec: RobotoSecretSpec,
}

/// Labels and annotations.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TemplateMeta {
    /// Labels; the prefix `robotosecret.dev/` is the controller's own.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('robotosecret.dev/'))").message("robotosecret.dev/* are the controller's own"))]
    pub labels: Labels,
    /// Annotations; the prefix `robotosecret.dev/` is the controller's own.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('robotosecret.dev/'))").message("robotosecret.dev/* are the controller's own"))]
    pub annotations: Labels,
}

/// How the RobotoSecrets stand, as the controller last saw them.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRobotoSecretStatus {
    /// The generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: the RobotoSecret of every selected namespace is Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// How many namespaces are selected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<i32>,
    /// In how many of them the RobotoSecret is Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<i32>,
    /// In how many of them it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<i32>,
    /// Where it failed and why: the first 20 by namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub failures: Vec<NamespaceFailure>,
}

/// Why it failed in a namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceFailure {
    /// The namespace.
    pub namespace: String,
    /// The reason of the RobotoSecret's condition Ready, or `ChildNotOwned`: one of that name is somebody else's.
    pub reason: String,
    /// In words.
    #[schemars(length(max = 4096))]
    pub message: String,
}
