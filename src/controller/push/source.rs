//! The Secret that is pushed: the one place, besides the tenants', in which a Secret's values are read from Kubernetes.
//!
//! The namespaces in which that is allowed and a Secret's name enter; its version, and its keys when somebody needs them, leave. What isn't allowed is
//! not asked for. Values are moved into `Sensitive` at once; no message holds a part of them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt, core::PartialObjectMeta};
use tokio::sync::OnceCell;

use super::plan::Data;
use crate::{api::Reason, provider::ReadError, sensitive::Sensitive};

/// The namespaces whose Secrets may be read, as the controller's flags say.
#[derive(Clone, Debug, Default)]
pub struct Sources(BTreeSet<String>);

impl Sources {
    /// These and no others.
    #[must_use]
    pub fn new(namespaces: &[String]) -> Self {
        Self(namespaces.iter().cloned().collect())
    }

    /// Whether Secrets of a namespace may be read.
    pub fn admit(&self, namespace: &str) -> Result<(), ReadError> {
        if self.0.contains(namespace) {
            return Ok(());
        }
        let problem = format!("Secrets of the namespace {namespace} may not be pushed; add it to the controller's --push-namespaces (chart: push.namespaces)");
        Err(ReadError::new(Reason::NotAllowed, problem))
    }

    /// A Secret as it is now, by its metadata alone.
    pub async fn find(&self, client: &Client, namespace: &str, name: &str) -> Result<Pushed, ReadError> {
        self.admit(namespace)?;
        let api = Api::<PartialObjectMeta<Secret>>::namespaced(client.clone(), namespace);
        let found = api.get(name).await.map_err(|error| trouble(namespace, name, &error))?;
        let seen = seen(&found);
        Ok(Pushed { client: client.clone(), namespace: namespace.to_owned(), name: name.to_owned(), seen, data: OnceCell::new() })
    }
}

/// Tells one content of a Secret from another: uid and version.
pub type Seen = (String, String);

pub(super) fn seen(secret: &impl ResourceExt) -> Seen {
    (secret.uid().unwrap_or_default(), secret.resource_version().unwrap_or_default())
}

/// A Secret that may be read. Only [`Sources::find`] makes one.
pub struct Pushed {
    client: Client,
    namespace: String,
    name: String,
    seen: Seen,
    /// What was read, and as which content.
    data: OnceCell<(Seen, Data)>,
}

impl Pushed {
    /// Which content it is.
    #[must_use]
    pub fn seen(&self) -> &Seen {
        self.data.get().map_or(&self.seen, |(seen, _)| seen)
    }

    /// Its keys, if they were read.
    #[must_use]
    pub fn known(&self) -> Option<&Data> {
        self.data.get().map(|(_, data)| data)
    }

    /// Its keys, read once.
    pub async fn data(&self) -> Result<&Data, ReadError> {
        let read = async || {
            let found = Api::<Secret>::namespaced(self.client.clone(), &self.namespace).get(&self.name).await;
            let mut found = found.map_err(|error| trouble(&self.namespace, &self.name, &error))?;
            let data = found.data.take().unwrap_or_default().into_iter().map(|(key, value)| (key, Sensitive::new(value.0)));
            Ok((seen(&found), data.collect::<BTreeMap<_, _>>()))
        };
        self.data.get_or_try_init(read).await.map(|(_, data)| data)
    }
}

fn trouble(namespace: &str, name: &str, error: &kube::Error) -> ReadError {
    let (reason, problem) = match error {
        kube::Error::Api(status) if status.code == 404 => (Reason::SourceNotFound, "does not exist; nothing was changed at the store".to_owned()),
        kube::Error::Api(status) if matches!(status.code, 401 | 403) => {
            (Reason::KubernetesError, "may not be read by the controller; grant its ServiceAccount get on secrets there (chart: push.namespaces)".to_owned())
        }
        kube::Error::Api(status) => (Reason::KubernetesError, format!("could not be read: the API server failed with HTTP {}", status.code)),
        _ => (Reason::KubernetesError, "could not be read: the API server could not be reached".to_owned()),
    };
    ReadError::new(reason, format!("the Secret {name} of the namespace {namespace} {problem}"))
}
