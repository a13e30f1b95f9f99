//! The target: the Secret that holds the mirrored values. The only room that writes Secrets.
//!
//! Rendered keys enter; a Secret on the API server, and what its metadata says afterwards, leave. Values go up and never come back:
//! every request asks for metadata only. A Secret that isn't ours is never written, and no write goes through whose Secret has
//! changed since it was looked at. Errors are rebuilt from codes and field names: the API server's own text can echo a value.

use std::collections::{BTreeMap, BTreeSet};

use base64::{display::Base64Display, engine::general_purpose::STANDARD};
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    core::{PartialObjectMeta, request::Request, response::Status},
};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::json;

use super::drift::{ADOPT_ANNOTATION, LAST_APPLIED_ANNOTATION, Ownership, Seen, ownership};
use crate::{
    api::{MANAGED_LABEL, OWNER_ANNOTATION, Reason, RobotoSecret},
    render::Data,
    sensitive::Sensitive,
    telemetry::Metrics,
};

/// Asks for metadata instead of the object.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
/// The manager that takes keys out: it ends up owning nothing, so that it leaves no entry in managedFields.
const PRUNE_MANAGER: &str = "robotosecret-prune";

/// Why a Secret could not be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It changed between the look and the write: look and read again.
    #[error("the Secret changed while it was being written")]
    Changed,
    /// The namespace is going away; there is nothing to do any more.
    #[error("the namespace is being deleted")]
    NamespaceTerminating,
    /// It belongs to somebody else.
    #[error("{0}")]
    NotOwned(String),
    /// The API server refuses its content.
    #[error("{0}")]
    Rejected(String),
    /// The API server forbids or fails the request.
    #[error("{0}")]
    Kubernetes(String),
}

impl TargetError {
    /// The reason for the condition; `None` when it is no failure of the resource.
    #[must_use]
    pub const fn reason(&self) -> Option<Reason> {
        match self {
            Self::Changed | Self::NamespaceTerminating => None,
            Self::NotOwned(_) => Some(Reason::TargetNotOwned),
            Self::Rejected(_) => Some(Reason::TargetRejected),
            Self::Kubernetes(_) => Some(Reason::KubernetesError),
        }
    }
}

/// What the Secret shall be, besides its keys.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// Its type.
    pub type_: String,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// The user's annotations.
    pub annotations: BTreeMap<String, String>,
    /// The owner.
    pub owner: OwnerReference,
}

impl Wanted {
    /// With what templates made of labels and annotations.
    #[must_use]
    pub fn rendered(&self, labels: BTreeMap<String, String>, annotations: BTreeMap<String, String>) -> Self {
        let mut wanted = self.clone();
        wanted.labels.extend(labels);
        wanted.annotations.extend(annotations);
        wanted
    }

    /// The names of all labels, our mark included.
    pub fn label_names(&self) -> impl Iterator<Item = &str> {
        self.labels.keys().map(String::as_str).chain([MANAGED_LABEL])
    }

    /// The names of all annotations, our mark included.
    pub fn annotation_names(&self) -> impl Iterator<Item = &str> {
        self.annotations.keys().map(String::as_str).chain([OWNER_ANNOTATION])
    }
}

/// What a look at the target found. Writes need one, so that none goes through to a Secret that nobody looked at.
#[derive(Clone, Debug)]
pub enum Look {
    /// There is none.
    Absent,
    /// Ours, or handed over to us.
    Ours(Box<Seen>),
}

/// The Secrets of one namespace, as one `RobotoSecret` may treat them.
pub struct Target<'t> {
    client: &'t Client,
    api: Api<PartialObjectMeta<Secret>>,
    namespace: &'t str,
    manager: &'t str,
    metrics: &'t Metrics,
}

impl<'t> Target<'t> {
    /// `manager` is the field manager of the `RobotoSecret`.
    #[must_use]
    pub fn new(client: &'t Client, namespace: &'t str, manager: &'t str, metrics: &'t Metrics) -> Self {
        Self { client, api: Api::namespaced(client.clone(), namespace), namespace, manager, metrics }
    }

    /// Looks at a Secret; somebody else's is an error.
    pub async fn look(&self, name: &str, owner: &OwnerReference) -> Result<Look, TargetError> {
        let Some(found) = self.api.get_opt(name).await.map_err(|error| explain(&error))? else { return Ok(Look::Absent) };
        let seen = Seen::new(&found.metadata);
        match ownership(&seen, &owner.name, &owner.uid) {
            Ownership::Ours | Ownership::HandedOver => Ok(Look::Ours(Box::new(seen))),
            Ownership::Foreign(why) => Err(TargetError::NotOwned(why)),
        }
    }

    /// Whether the `RobotoSecret` is still there and not about to go.
    pub async fn owner_stays(&self, owner: &OwnerReference) -> Result<bool, TargetError> {
        let api = Api::<PartialObjectMeta<RobotoSecret>>::namespaced(self.client.clone(), self.namespace);
        let found = api.get_opt(&owner.name).await.map_err(|error| explain(&error))?;
        Ok(found.is_some_and(|found| found.metadata.uid.as_ref() == Some(&owner.uid) && found.metadata.deletion_timestamp.is_none()))
    }

    /// Makes the Secret hold exactly these keys. Returns its metadata afterwards.
    pub async fn put(&self, wanted: &Wanted, data: &Data, look: &Look) -> Result<Seen, TargetError> {
        let Look::Ours(seen) = look else { return self.create(wanted, data, false).await };
        match self.apply(wanted, data, seen).await {
            Ok(after) => self.prune(wanted, data, after).await,
            Err(Refused { changes_type: true, .. }) => self.recreate(wanted, data, seen).await,
            Err(Refused { error, .. }) => Err(error),
        }
    }

    /// Deletes a Secret of ours, if it is still the one that was seen.
    pub async fn delete(&self, seen: &Seen) -> Result<(), TargetError> {
        let preconditions = Preconditions { uid: Some(seen.uid.clone()), resource_version: Some(seen.resource_version.clone()) };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let result = self.api.delete(&seen.name, &parameters).await;
        match self.counted(result) {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == Some(404) => Ok(()),
            Err(error) => Err(explain(&error)),
        }
    }

    async fn create(&self, wanted: &Wanted, data: &Data, dry_run: bool) -> Result<Seen, TargetError> {
        let manifest = Manifest::new(wanted, data, None);
        // The typed API would send the metadata only, since that is the type it answers with.
        let body = serde_json::to_vec(&manifest).map_err(|_| TargetError::Kubernetes("the Secret could not be put into JSON".into()))?;
        let parameters = PostParams { dry_run, field_manager: Some(self.manager.to_owned()) };
        let url = Secret::url_path(&(), Some(self.namespace));
        let mut request = Request::new(url).create(&parameters, body).map_err(|_| TargetError::Kubernetes("the request could not be built".into()))?;
        request.headers_mut().insert(http::header::ACCEPT, http::HeaderValue::from_static(METADATA_ONLY));
        let result = self.client.request::<PartialObjectMeta<Secret>>(request).await;
        let result = if dry_run { result } else { self.counted(result) };
        match result {
            Ok(made) => Ok(Seen::new(&made.metadata)),
            Err(error) if code(&error) == Some(409) => Err(TargetError::Changed),
            Err(error) => Err(explain(&error)),
        }
    }

    async fn apply(&self, wanted: &Wanted, data: &Data, seen: &Seen) -> Result<Seen, Refused> {
        let manifest = Manifest::new(wanted, data, Some(seen));
        let result = self.api.patch(&wanted.name, &PatchParams::apply(self.manager).force(), &Patch::Apply(&manifest)).await;
        self.counted(result)
            .map(|after| Seen::new(&after.metadata))
            .map_err(|error| Refused { changes_type: names_field(&error, "type"), error: explain(&error) })
    }

    /// Takes out the keys that others put in, the labels and annotations of ours that are no longer wanted, and what came with a
    /// Secret that was handed over. Needs no value, so it reads none. (An apply alone leaves what the Secret was created with: the
    /// creation goes on owning it beside the apply.)
    async fn prune(&self, wanted: &Wanted, data: &Data, after: Seen) -> Result<Seen, TargetError> {
        let surplus: BTreeSet<&str> = after.keys().filter(|key| !data.contains_key(*key)).collect();
        let (mut labels, mut annotations) = after.owned_metadata(self.manager);
        wanted.label_names().for_each(|name| _ = labels.remove(name));
        wanted.annotation_names().for_each(|name| _ = annotations.remove(name));
        if after.adopt.is_some() {
            annotations.extend([Some(ADOPT_ANNOTATION), after.last_applied.then_some(LAST_APPLIED_ANNOTATION)].into_iter().flatten());
        }
        if surplus.is_empty() && labels.is_empty() && annotations.is_empty() {
            return Ok(after);
        }
        let nulls = |names: BTreeSet<&str>| names.into_iter().map(|name| (name.to_owned(), serde_json::Value::Null)).collect::<serde_json::Map<_, _>>();
        let patch = json!({
            "metadata": {"uid": after.uid, "resourceVersion": after.resource_version, "labels": nulls(labels), "annotations": nulls(annotations)},
            "data": nulls(surplus),
        });
        let parameters = PatchParams { field_manager: Some(PRUNE_MANAGER.to_owned()), ..PatchParams::default() };
        let result = self.api.patch(&after.name, &parameters, &Patch::Merge(&patch)).await;
        self.counted(result).map(|pruned| Seen::new(&pruned.metadata)).map_err(|error| explain(&error))
    }

    /// A Secret's type can't be changed: delete and make anew, with the value in hand, once the API server would accept the new one.
    async fn recreate(&self, wanted: &Wanted, data: &Data, seen: &Seen) -> Result<Seen, TargetError> {
        match self.create(wanted, data, true).await {
            // The name is taken, by the old one: everything else about the new one was found right.
            Ok(_) | Err(TargetError::Changed) => {}
            Err(error) => return Err(error),
        }
        self.delete(seen).await?;
        self.create(wanted, data, false).await
    }

    fn counted<T>(&self, result: Result<T, kube::Error>) -> Result<T, kube::Error> {
        self.metrics.kube_write("Secret", result.is_ok());
        result
    }
}

struct Refused {
    changes_type: bool,
    error: TargetError,
}

/// The Secret as it goes up. It borrows the values and encodes them straight into the request.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'m> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata<'m>,
    #[serde(rename = "type")]
    type_: &'m str,
    #[serde(serialize_with = "encode")]
    data: &'m Data,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'m> {
    name: &'m str,
    labels: BTreeMap<&'m str, &'m str>,
    annotations: BTreeMap<&'m str, &'m str>,
    owner_references: [&'m OwnerReference; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'m str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_version: Option<&'m str>,
}

impl<'m> Manifest<'m> {
    fn new(wanted: &'m Wanted, data: &'m Data, seen: Option<&'m Seen>) -> Self {
        fn with<'b>(map: &'b BTreeMap<String, String>, name: &'static str, value: &'b str) -> BTreeMap<&'b str, &'b str> {
            map.iter().map(|(key, value)| (key.as_str(), value.as_str())).chain([(name, value)]).collect()
        }
        let metadata = Metadata {
            name: &wanted.name,
            labels: with(&wanted.labels, MANAGED_LABEL, "true"),
            annotations: with(&wanted.annotations, OWNER_ANNOTATION, &wanted.owner.name),
            owner_references: [&wanted.owner],
            uid: seen.map(|seen| seen.uid.as_str()),
            resource_version: seen.map(|seen| seen.resource_version.as_str()),
        };
        Self { api_version: "v1", kind: "Secret", metadata, type_: &wanted.type_, data }
    }
}

fn encode<S: Serializer>(data: &Data, serializer: S) -> Result<S::Ok, S::Error> {
    struct Base64<'b>(&'b Sensitive);
    impl Serialize for Base64<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(&Base64Display::new(self.0.expose(), &STANDARD))
        }
    }
    let mut map = serializer.serialize_map(Some(data.len()))?;
    for (key, value) in data {
        map.serialize_entry(key, &Base64(value))?;
    }
    map.end()
}

fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

fn causes(status: &Status) -> impl Iterator<Item = (&str, &str)> {
    status.details.iter().flat_map(|details| &details.causes).map(|cause| (cause.field.as_str(), cause.reason.as_str()))
}

fn names_field(error: &kube::Error, field: &str) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 422 && causes(status).any(|(named, _)| named == field))
}

/// Rebuilds an error from its code and the names of its fields; the text of the API server is only looked at, never passed on.
fn explain(error: &kube::Error) -> TargetError {
    let kube::Error::Api(status) = error else {
        return TargetError::Kubernetes("the API server could not be reached, or its answer could not be understood".into());
    };
    let fields: Vec<&str> = causes(status).map(|(field, _)| field).filter(|field| !field.is_empty()).collect();
    match status.code {
        409 => TargetError::Changed,
        422 if fields.contains(&"metadata.uid") => TargetError::Changed,
        403 if causes(status).any(|(_, reason)| reason == "NamespaceTerminating") => TargetError::NamespaceTerminating,
        403 if ["exceeded quota", "unknown for quota"].iter().any(|said| status.message.contains(said)) => {
            TargetError::Rejected("a ResourceQuota of the namespace does not allow the Secret; raise it, or make room".into())
        }
        403 if status.message.contains("User \"") => {
            TargetError::Kubernetes("the controller may not read or write Secrets in this namespace; check the roles of its ServiceAccount".into())
        }
        404 => TargetError::Kubernetes("the namespace or the Secret disappeared; trying again".into()),
        422 if fields.contains(&"immutable") || (fields.contains(&"data") && status.message.contains("immutable")) => {
            TargetError::Rejected("somebody made the Secret immutable; delete it, and it is made again".into())
        }
        400 | 403 | 413 | 422 => TargetError::Rejected(refusal(status.code, &fields)),
        code => TargetError::Kubernetes(format!("the API server failed with HTTP {code}")),
    }
}

fn refusal(code: u16, fields: &[&str]) -> String {
    let hint = |field: &&str| match *field {
        field if field.starts_with("metadata.labels") => Some("check target.labels"),
        field if field.starts_with("metadata.annotations") => Some("check target.annotations"),
        field if field.starts_with("metadata.name") => Some("check target.name"),
        field if field.starts_with("data") => Some("check that the keys are those that target.type asks for"),
        _ => None,
    };
    let named = if fields.is_empty() { "an admission policy or webhook may be the cause".to_owned() } else { format!("because of {}", fields.join(", ")) };
    let hint = fields.iter().find_map(hint).map(|hint| format!("; {hint}")).unwrap_or_default();
    format!("the API server refuses the Secret (HTTP {code}): {named}{hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: serde_json::Value) -> TargetError {
        explain(&kube::Error::Api(Box::new(serde_json::from_value(status).expect("a status"))))
    }

    #[test]
    fn no_error_repeats_the_text_of_the_api_server() {
        use Reason::{KubernetesError, TargetRejected};
        let errors = [
            refused(json!({"code": 422, "message": "CANARY", "reason": "Invalid", "details": {"causes": [{"field": "metadata.labels", "message": "CANARY"}]}})),
            refused(json!({"code": 403, "message": "exceeded quota: CANARY", "reason": "Forbidden"})),
            refused(json!({"code": 403, "message": "User \"CANARY\" cannot", "reason": "Forbidden"})),
            refused(json!({"code": 403, "message": "admission webhook said CANARY", "reason": "Forbidden"})),
            refused(json!({"code": 500, "message": "CANARY", "reason": "InternalError"})),
        ];
        for error in &errors {
            assert!(!format!("{error} {error:?}").contains("CANARY"), "{error}");
        }
        assert_eq!(errors[0].to_string(), "the API server refuses the Secret (HTTP 422): because of metadata.labels; check target.labels");
        let reasons: Vec<_> = errors.iter().map(TargetError::reason).collect();
        assert_eq!(reasons, [TargetRejected, TargetRejected, KubernetesError, TargetRejected, KubernetesError].map(Some));
    }

    #[test]
    fn a_secret_that_moved_is_looked_at_again() {
        assert_eq!(refused(json!({"code": 409, "message": "", "reason": "Conflict"})), TargetError::Changed);
        assert_eq!(refused(json!({"code": 422, "message": "", "details": {"causes": [{"field": "metadata.uid"}]}})), TargetError::Changed);
        assert_eq!(
            refused(json!({"code": 403, "message": "", "details": {"causes": [{"reason": "NamespaceTerminating"}]}})),
            TargetError::NamespaceTerminating
        );
    }

    #[test]
    fn what_goes_up_is_the_manifest_with_encoded_values() {
        let wanted = Wanted {
            name: "db".into(),
            type_: "Opaque".into(),
            labels: BTreeMap::from([("team".into(), "shop".into())]),
            annotations: BTreeMap::new(),
            owner: OwnerReference {
                api_version: "robotosecret.dev/v1alpha1".into(),
                kind: "RobotoSecret".into(),
                name: "db-rs".into(),
                uid: "u".into(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            },
        };
        let data = Data::from([("a".to_owned(), Sensitive::new(vec![0, 255, 10]))]);
        let seen = Seen { uid: "s1".into(), resource_version: "7".into(), ..Seen::default() };
        assert_eq!(
            serde_json::to_value(Manifest::new(&wanted, &data, Some(&seen))).expect("JSON"),
            json!({
                "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": {"a": "AP8K"},
                "metadata": {
                    "name": "db", "uid": "s1", "resourceVersion": "7", "labels": {"team": "shop", MANAGED_LABEL: "true"}, "annotations": {OWNER_ANNOTATION: "db-rs"},
                    "ownerReferences": [{"apiVersion": "robotosecret.dev/v1alpha1", "kind": "RobotoSecret", "name": "db-rs", "uid": "u", "controller": true, "blockOwnerDeletion": true}],
                },
            })
        );
    }
}
