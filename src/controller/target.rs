//! The target: the Secret that holds the mirrored values. The only room that writes Secrets.
//!
//! Rendered keys enter; a Secret on the API server, and what its metadata says afterwards, leave. Values go up and never come back:
//! every request asks for metadata only. A Secret that isn't ours is never written, of a shared one no key that is somebody else's, and
//! no write goes through whose Secret has changed since it was looked at. Errors are rebuilt from codes and field names: the API server's own text can echo a value.

use std::collections::{BTreeMap, BTreeSet};

use base64::{display::Base64Display, engine::general_purpose::STANDARD};
use k8s_openapi::{
    api::core::v1::{Namespace, Secret},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    core::{PartialObjectMeta, request::Request, response::Status},
};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::json;

use super::drift::{ADOPT_ANNOTATION, ANNOTATION_FIELD, Claim, DATA_FIELD, LABEL_FIELD, LAST_APPLIED_ANNOTATION, Ownership, Seen, ownership};
use crate::{
    api::{GROUP, MANAGED_LABEL, OWNER_ANNOTATION, Reason, RobotoSecret, robotosecret::CreationPolicy},
    render::Data,
    sensitive::Sensitive,
    telemetry::Metrics,
};

/// Asks for metadata instead of the object.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
/// The manager that takes keys out: it ends up owning nothing, so that it leaves no entry in managedFields.
const PRUNE_MANAGER: &str = "robotosecret-prune";
/// How many fields that others manage a message names.
const NAMED: usize = 10;

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
    /// Somebody else manages what would be merged into it.
    #[error("{0}")]
    Conflict(String),
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
            Self::Conflict(_) => Some(Reason::TargetConflict),
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
    /// Whose it is.
    pub policy: CreationPolicy,
    /// Its type; not asked for where it is shared.
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
        self.annotations.keys().map(String::as_str).chain(self.has_mark().then_some(OWNER_ANNOTATION))
    }

    /// Whether the Secret is marked with its owner's name; one that is shared has none.
    fn has_mark(&self) -> bool {
        self.policy != CreationPolicy::Merge
    }
}

/// What a look at the target found. Writes need one, so that none goes through to a Secret that nobody looked at.
#[derive(Clone, Debug)]
pub enum Look {
    /// There is none.
    Absent,
    /// Ours, or handed over to us, or one that we may merge into.
    Ours(Box<Seen>),
}

/// The Secrets of one namespace, as one `RobotoSecret` may treat them.
pub struct Target<'t> {
    client: &'t Client,
    api: Api<PartialObjectMeta<Secret>>,
    namespace: &'t str,
    claim: Claim<'t>,
    confined: bool,
    metrics: &'t Metrics,
}

impl<'t> Target<'t> {
    /// `claim` is the `RobotoSecret`'s; `confined`: Secrets may be written, and not read.
    #[must_use]
    pub fn new(client: &'t Client, namespace: &'t str, claim: Claim<'t>, confined: bool, metrics: &'t Metrics) -> Self {
        Self { client, api: Api::namespaced(client.clone(), namespace), namespace, claim, confined, metrics }
    }

    /// Looks at a Secret, whosever it is; where it is confined, somebody else's is an error.
    pub async fn find(&self, name: &str) -> Result<Option<Seen>, TargetError> {
        let found = if self.confined { self.feel(name).await? } else { self.api.get_opt(name).await.map_err(|error| explain(&error))? };
        Ok(found.map(|found| Seen::new(&found.metadata)))
    }

    /// Looks at a Secret without the right to read any: by a patch that changes nothing and is not carried out, whose answer is metadata.
    async fn feel(&self, name: &str) -> Result<Option<PartialObjectMeta<Secret>>, TargetError> {
        let parameters = PatchParams { dry_run: true, ..PatchParams::default() };
        match self.api.patch(name, &parameters, &Patch::Merge(json!({}))).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if code(&error) == Some(404) => Ok(None),
            Err(error) => Err(match explain(&error) {
                TargetError::Rejected(_) if code(&error) == Some(403) => TargetError::NotOwned(format!(
                    "the Secret {name} is there and does not carry the label {MANAGED_LABEL}=true, and this controller is confined to those that do; \
                     choose another target.name, or hand it over: kubectl annotate secret {name} {ADOPT_ANNOTATION}={}",
                    self.claim.name
                )),
                error => error,
            }),
        }
    }

    /// Looks at a Secret; somebody else's is an error.
    pub async fn look(&self, name: &str) -> Result<Look, TargetError> {
        let Some(seen) = self.find(name).await? else { return Ok(Look::Absent) };
        match ownership(&seen, &self.claim) {
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

    /// Makes the Secret hold exactly these keys or, where it is shared, these keys among others. `were_ours` are the fields of a shared
    /// Secret (as the API server names them) that we had before, so that who took one since has it taken back. Returns its metadata
    /// afterwards.
    pub async fn put(&self, wanted: &Wanted, data: &Data, look: &Look, were_ours: &BTreeSet<String>) -> Result<Seen, TargetError> {
        let Look::Ours(seen) = look else { return self.create(wanted, data, false).await };
        let applied = match wanted.policy {
            CreationPolicy::Owner | CreationPolicy::Orphan => self.apply(wanted, data, seen, true).await,
            CreationPolicy::Merge => self.merge(wanted, data, seen, were_ours).await,
        };
        match applied {
            Ok(after) => self.prune(wanted, data, after).await,
            Err(Refused { changes_type: true, .. }) => self.recreate(wanted, data, seen).await,
            Err(Refused { error, .. }) => Err(error),
        }
    }

    /// Takes out of a shared Secret what we own there alone. Returns how many keys that were; `None`: there was nothing of ours.
    pub async fn release(&self, seen: &Seen) -> Result<Option<usize>, TargetError> {
        let owned = seen.owned_alone(self.claim.manager);
        if owned.is_empty() {
            return Ok(None);
        }
        let count = owned.keys.len();
        self.remove(seen, owned.keys, owned.labels, owned.annotations, None).await.map(|_| Some(count))
    }

    /// Whether the namespace is going away. It is asked itself: with it, the roles in it go, and nothing else there may be asked any more.
    pub async fn namespace_is_terminating(&self) -> bool {
        let api = Api::<PartialObjectMeta<Namespace>>::all(self.client.clone());
        api.get_opt(self.namespace).await.is_ok_and(|found| found.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some()))
    }

    /// Deletes a Secret of ours, if it is still the one that was seen.
    pub async fn delete(&self, seen: &Seen) -> Result<(), TargetError> {
        let preconditions = Preconditions { uid: Some(seen.uid.clone()), resource_version: Some(seen.resource_version.clone()) };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match self.counted(self.api.delete(&seen.name, &parameters)).await {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == Some(404) => Ok(()),
            Err(error) => Err(explain(&error)),
        }
    }

    async fn create(&self, wanted: &Wanted, data: &Data, dry_run: bool) -> Result<Seen, TargetError> {
        let manifest = Manifest::new(wanted, data, None);
        // The typed API would send the metadata only, since that is the type it answers with.
        let body = serde_json::to_vec(&manifest).map_err(|_| TargetError::Kubernetes("the Secret could not be put into JSON".into()))?;
        let parameters = PostParams { dry_run, field_manager: Some(self.claim.manager.to_owned()) };
        let url = Secret::url_path(&(), Some(self.namespace));
        let mut request = Request::new(url).create(&parameters, body).map_err(|_| TargetError::Kubernetes("the request could not be built".into()))?;
        request.headers_mut().insert(http::header::ACCEPT, http::HeaderValue::from_static(METADATA_ONLY));
        let request = self.client.request::<PartialObjectMeta<Secret>>(request);
        let result = if dry_run { request.await } else { self.counted(request).await };
        match result {
            Ok(made) => Ok(Seen::new(&made.metadata)),
            Err(error) if code(&error) == Some(409) => Err(TargetError::Changed),
            Err(error) => Err(explain(&error)),
        }
    }

    async fn apply(&self, wanted: &Wanted, data: &Data, seen: &Seen, force: bool) -> Result<Seen, Refused> {
        let manifest = Manifest::new(wanted, data, Some(seen));
        let parameters = PatchParams { force, ..PatchParams::apply(self.claim.manager) };
        let patch = Patch::Apply(&manifest);
        let result = self.counted(self.api.patch(&wanted.name, &parameters, &patch)).await;
        result.map(|after| Seen::new(&after.metadata)).map_err(|error| Refused {
            changes_type: wanted.policy != CreationPolicy::Merge && names_field(&error, "type"),
            conflicts: conflicts(&error),
            error: explain(&error),
        })
    }

    /// Applies without taking anything from others; what was ours and was taken from us is taken back. The resourceVersion makes sure
    /// that the second request meets what the first was refused for, and nothing else.
    async fn merge(&self, wanted: &Wanted, data: &Data, seen: &Seen, were_ours: &BTreeSet<String>) -> Result<Seen, Refused> {
        // The API server does not count keys that came as stringData: it would let us overwrite them.
        let hidden = data.keys().filter(|key| seen.came_as_text(self.claim.manager, key)).map(|key| format!("{DATA_FIELD}{key}"));
        let hidden: Vec<String> = hidden.filter(|field| !were_ours.contains(field)).collect();
        if !hidden.is_empty() {
            let error = TargetError::Conflict(conflict(seen, self.claim.manager, &hidden));
            return Err(Refused { changes_type: false, conflicts: Vec::new(), error });
        }
        let refused = match self.apply(wanted, data, seen, false).await {
            Err(refused) if !refused.conflicts.is_empty() => refused,
            result => return result,
        };
        let is_mark = |field: &str| field.strip_prefix(LABEL_FIELD).is_some_and(|label| label.starts_with(GROUP));
        let foreign: Vec<String> = refused.conflicts.iter().filter(|field| !were_ours.contains(*field) && !is_mark(field)).cloned().collect();
        if foreign.is_empty() {
            return self.apply(wanted, data, seen, true).await;
        }
        let error = TargetError::Conflict(conflict(seen, self.claim.manager, &foreign));
        Err(Refused { error, ..refused })
    }

    /// Takes out the keys that others put in (where the Secret is ours alone), the keys, labels and annotations of ours that are no
    /// longer wanted, what marks it as ours where it no longer is, and what came with a Secret that was handed over. Needs no value, so
    /// it reads none. (An apply alone leaves what the Secret was created with: the creation goes on owning it beside the apply.)
    async fn prune(&self, wanted: &Wanted, data: &Data, after: Seen) -> Result<Seen, TargetError> {
        let shared = wanted.policy == CreationPolicy::Merge;
        let owned = if shared { after.owned_alone(self.claim.manager) } else { after.owned(self.claim.manager) };
        let keys: BTreeSet<&str> = if shared { owned.keys } else { after.keys().collect() };
        let surplus: BTreeSet<&str> = keys.into_iter().filter(|key| !data.contains_key(*key)).collect();
        let (mut labels, mut annotations) = (owned.labels, owned.annotations);
        wanted.label_names().for_each(|name| _ = labels.remove(name));
        wanted.annotation_names().for_each(|name| _ = annotations.remove(name));
        if after.adopt.is_some() && !shared {
            annotations.extend([Some(ADOPT_ANNOTATION), after.last_applied.then_some(LAST_APPLIED_ANNOTATION)].into_iter().flatten());
        }
        if shared && after.owner.as_deref() == Some(self.claim.name) {
            annotations.insert(OWNER_ANNOTATION);
        }
        let controlled = after.controller.as_ref().is_some_and(|controller| controller.uid == self.claim.uid);
        let reference = (wanted.policy != CreationPolicy::Owner && controlled).then_some(self.claim.uid);
        if surplus.is_empty() && labels.is_empty() && annotations.is_empty() && reference.is_none() {
            return Ok(after);
        }
        self.remove(&after, surplus, labels, annotations, reference).await
    }

    /// Takes names out of a Secret as it was seen, whoever owns them; `reference` is the uid of an ownerReference that goes as well.
    async fn remove(
        &self,
        seen: &Seen,
        keys: BTreeSet<&str>,
        labels: BTreeSet<&str>,
        annotations: BTreeSet<&str>,
        reference: Option<&str>,
    ) -> Result<Seen, TargetError> {
        let nulls = |names: BTreeSet<&str>| names.into_iter().map(|name| (name.to_owned(), serde_json::Value::Null)).collect::<serde_json::Map<_, _>>();
        let mut patch = json!({
            "metadata": {"uid": seen.uid, "resourceVersion": seen.resource_version, "labels": nulls(labels), "annotations": nulls(annotations)},
            "data": nulls(keys),
        });
        if let Some(uid) = reference {
            patch["metadata"]["ownerReferences"] = json!([{"$patch": "delete", "uid": uid}]);
        }
        let parameters = PatchParams { field_manager: Some(PRUNE_MANAGER.to_owned()), ..PatchParams::default() };
        // A strategic patch leaves the references of others alone.
        let patch = Patch::Strategic(&patch);
        let result = self.counted(self.api.patch(&seen.name, &parameters, &patch)).await;
        result.map(|pruned| Seen::new(&pruned.metadata)).map_err(|error| explain(&error))
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

    async fn counted<T>(&self, write: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
        self.metrics.kube_write("Secret", write).await
    }
}

struct Refused {
    changes_type: bool,
    /// The fields that others manage, as the API server names them.
    conflicts: Vec<String>,
    error: TargetError,
}

/// The Secret as it goes up. It borrows the values and encodes them straight into the request.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'m> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata<'m>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    type_: Option<&'m str>,
    #[serde(serialize_with = "encode", skip_serializing_if = "BTreeMap::is_empty")]
    data: &'m Data,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'m> {
    name: &'m str,
    labels: BTreeMap<&'m str, &'m str>,
    // Who applies an empty map takes it from all who have something in it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'m str, &'m str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_references: Option<[&'m OwnerReference; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'m str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_version: Option<&'m str>,
}

impl<'m> Manifest<'m> {
    fn new(wanted: &'m Wanted, data: &'m Data, seen: Option<&'m Seen>) -> Self {
        fn with<'b>(map: &'b BTreeMap<String, String>, mark: Option<(&'static str, &'b str)>) -> BTreeMap<&'b str, &'b str> {
            map.iter().map(|(key, value)| (key.as_str(), value.as_str())).chain(mark).collect()
        }
        let owned = wanted.policy == CreationPolicy::Owner;
        let shared = wanted.policy == CreationPolicy::Merge;
        let metadata = Metadata {
            name: &wanted.name,
            labels: with(&wanted.labels, Some((MANAGED_LABEL, "true"))),
            annotations: with(&wanted.annotations, wanted.has_mark().then_some((OWNER_ANNOTATION, wanted.owner.name.as_str()))),
            owner_references: owned.then_some([&wanted.owner]),
            uid: seen.map(|seen| seen.uid.as_str()),
            resource_version: seen.map(|seen| seen.resource_version.as_str()),
        };
        Self { api_version: "v1", kind: "Secret", metadata, type_: (!shared).then_some(wanted.type_.as_str()), data }
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

pub(super) fn causes(status: &Status) -> impl Iterator<Item = (&str, &str)> {
    status.details.iter().flat_map(|details| &details.causes).map(|cause| (cause.field.as_str(), cause.reason.as_str()))
}

fn names_field(error: &kube::Error, field: &str) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 422 && causes(status).any(|(named, _)| named == field))
}

/// The fields that others manage, if that is why an apply was refused.
fn conflicts(error: &kube::Error) -> Vec<String> {
    match error {
        kube::Error::Api(status) if status.code == 409 => {
            causes(status).filter(|(_, reason)| *reason == "FieldManagerConflict").map(|(field, _)| field.to_owned()).collect()
        }
        _ => Vec::new(),
    }
}

/// Says who manages what.
fn conflict(seen: &Seen, ours: &str, fields: &[impl AsRef<str>]) -> String {
    let named = |field: &str| {
        let kinds = [(DATA_FIELD, "key "), (LABEL_FIELD, "label "), (ANNOTATION_FIELD, "annotation ")];
        let found = kinds.into_iter().find_map(|(prefix, kind)| field.strip_prefix(prefix).map(|name| format!("the {kind}{name}")));
        let who: BTreeSet<&str> = seen.other_owners(ours, field).collect();
        let who = if who.is_empty() { "somebody else".to_owned() } else { who.into_iter().collect::<Vec<_>>().join(" and ") };
        format!("{} is managed by {who}", found.unwrap_or_else(|| field.to_owned()))
    };
    let mut told: Vec<String> = fields.iter().take(NAMED).map(|field| named(field.as_ref())).collect();
    if fields.len() > NAMED {
        told.push(format!("{} more", fields.len() - NAMED));
    }
    format!("in the Secret {} {}; choose another name, or take it out there; nothing was merged", seen.name, told.join(", "))
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
        422 if fields.contains(&"immutable") || (fields.contains(&"data") && status.message.contains("immutable")) => TargetError::Rejected(
            "somebody made the Secret immutable, so that nothing in it can be changed; delete it, and it is made again with what is mirrored and nothing else"
                .into(),
        ),
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
    use super::{super::drift::Manager, *};

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
            policy: CreationPolicy::Owner,
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
        let manifest = |policy| serde_json::to_value(Manifest::new(&Wanted { policy, ..wanted.clone() }, &data, None)).expect("JSON");
        assert_eq!(
            manifest(CreationPolicy::Orphan),
            json!({
                "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": {"a": "AP8K"},
                "metadata": {"name": "db", "labels": {"team": "shop", MANAGED_LABEL: "true"}, "annotations": {OWNER_ANNOTATION: "db-rs"}},
            })
        );
        assert_eq!(
            manifest(CreationPolicy::Merge),
            json!({
                "apiVersion": "v1", "kind": "Secret", "data": {"a": "AP8K"},
                "metadata": {"name": "db", "labels": {"team": "shop", MANAGED_LABEL: "true"}},
            })
        );
    }

    #[test]
    fn a_conflict_names_field_and_manager_and_nothing_that_the_api_server_says() {
        let cause = |field: &str| json!({"reason": "FieldManagerConflict", "message": "conflict with CANARY", "field": field});
        let causes = [cause(".data.tls.crt"), cause(".metadata.labels.example.com/team")];
        let error =
            kube::Error::Api(Box::new(serde_json::from_value(json!({"code": 409, "message": "CANARY", "details": {"causes": causes}})).expect("a status")));
        let fields = conflicts(&error);
        assert_eq!(fields, [".data.tls.crt", ".metadata.labels.example.com/team"]);
        let cert = Manager { name: "cert-manager".into(), apply: true, data: ["tls.crt".to_owned()].into_iter().collect(), ..Manager::default() };
        let seen = Seen { name: "db".into(), managers: vec![cert], ..Seen::default() };
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        assert_eq!(
            conflict(&seen, "robotosecret/x", &fields),
            "in the Secret db the key tls.crt is managed by cert-manager, the label example.com/team is managed by somebody else; choose another name, or take it out there; nothing was merged"
        );
        assert_eq!(refused(json!({"code": 409, "message": "", "details": {"causes": causes}})), TargetError::Changed);
        assert!(conflicts(&kube::Error::Api(Box::new(serde_json::from_value(json!({"code": 409, "message": ""})).expect("a status")))).is_empty());
    }
}
