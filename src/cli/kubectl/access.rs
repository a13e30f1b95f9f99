//! The way to the cluster, as kubectl finds it, and what is said when something there can't be seen.
//!
//! Flags and a kubeconfig enter; a client and a namespace leave. An error is told in our own words and by codes: what an API server or a
//! kubeconfig says is never passed on, since it may hold a value or a credential.

use std::{fmt::Debug, path::PathBuf};

use clap::Args;
use kube::{Api, Client, Error, Resource, api::ListParams, core::NamespaceResourceScope};
use robotosecret::{
    api::{RobotoPush, RobotoSecret, reference::ReferenceError},
    apiserver, proxy, secrets,
};
use serde::de::DeserializeOwned;

use super::kinds::{Kind, Names};

/// How many objects are asked for at once.
const PAGE: u32 = 500;

/// Which cluster, and where in it.
#[derive(Args)]
#[command(next_help_heading = "Kubernetes")]
pub struct Cluster {
    /// The namespace; that of the context when left out.
    #[arg(short, long)]
    namespace: Option<String>,
    /// The context of the kubeconfig; the current one when left out.
    #[arg(long)]
    context: Option<String>,
    /// The kubeconfig; $KUBECONFIG or ~/.kube/config when left out.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
}

/// A cluster, and the namespace that is meant.
pub struct Connection {
    /// Speaks to it.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
    /// Whether all of them are meant.
    pub everywhere: bool,
    /// Host and port of the proxy that leads there.
    proxy: Option<String>,
}

/// Why a command ended without doing what it was told.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Something isn't there.
    #[error("{0}")]
    Missing(String),
    /// The user may not.
    #[error("{0}")]
    Forbidden(String),
    /// No answer, or not in time.
    #[error("{0}")]
    Silent(String),
    /// It can't be done as it is.
    #[error("{0}")]
    Impossible(String),
    /// A store could not be read.
    #[error(transparent)]
    Store(#[from] secrets::Error),
    /// Nobody reads any more what is printed, or the disk is full.
    #[error("standard output: {0}")]
    Write(#[from] std::io::Error),
}

impl From<ReferenceError> for Failure {
    fn from(error: ReferenceError) -> Self {
        Self::Impossible(error.to_string())
    }
}

impl Failure {
    /// The exit code.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Missing(_) => 1,
            Self::Forbidden(_) => 3,
            Self::Silent(_) => 4,
            Self::Impossible(_) | Self::Write(_) => 5,
            Self::Store(error) => crate::cli::store_code(error),
        }
    }
}

impl Cluster {
    /// Finds the way. `everywhere`: all namespaces are meant.
    pub async fn connect(self, everywhere: bool) -> Result<Connection, Failure> {
        let config = apiserver::find(self.kubeconfig.as_deref(), self.context).await.map_err(|error| Failure::Impossible(error.to_string()))?;
        let namespace = self.namespace.unwrap_or_else(|| config.default_namespace.clone());
        let proxy = config.proxy_url.as_ref().map(proxy::place);
        let client = Client::try_from(config).map_err(|error| Failure::Impossible(apiserver::unusable(&error).to_owned()))?;
        Ok(Connection { client, namespace, everywhere, proxy })
    }
}

impl Connection {
    /// The objects of a kind in the namespace.
    pub fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// All objects of a kind, of the namespace or of all of them.
    pub async fn list<K>(&self) -> Result<Vec<K>, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let api: Api<K> = if self.everywhere { Api::all(self.client.clone()) } else { self.api() };
        list(&api, ListParams::default()).await
    }

    /// The one of this name.
    pub async fn resource<K: Kind>(&self, name: &str) -> Result<K, Failure> {
        let kind = K::kind(&());
        let found = self.api::<K>().get_opt(name).await.map_err(|error| self.failure(&format!("the {kind} {name} can't be read"), &error))?;
        found.ok_or_else(|| Failure::Missing(format!("there is no {kind} {name} in the namespace {}", self.namespace)))
    }

    /// As [`failure`], with the proxy that may be why nothing is reached.
    fn failure(&self, what: &str, error: &Error) -> Failure {
        match (failure(what, error), &self.proxy) {
            (Failure::Silent(said), Some(proxy)) if !matches!(error, Error::Api(_)) => {
                Failure::Silent(format!("{said} through the proxy {proxy} (proxy-url of the kubeconfig, or HTTPS_PROXY without this host in NO_PROXY)"))
            }
            (failure, _) => failure,
        }
    }

    /// Those of these names, or all; and what is to be said of those that aren't there.
    pub async fn chosen(&self, names: &[String]) -> Result<Chosen, Failure> {
        let mut chosen = Chosen::default();
        if names.is_empty() {
            let secrets = self.list().await.map_err(|error| match error {
                Error::Api(status) if status.code == 404 => {
                    Failure::Missing("the cluster knows no RobotoSecrets: the definitions of robotosecret.dev are not installed".to_owned())
                }
                Error::Api(status) if status.code == 403 => self.unlisted("robotosecrets"),
                error => self.failure("robotosecrets can't be listed", &error),
            });
            let (secrets, forbidden) = match secrets {
                Ok(secrets) => (secrets, None),
                Err(forbidden @ Failure::Forbidden(_)) => (Vec::new(), Some(forbidden)),
                Err(failure) => return Err(failure),
            };
            chosen.secrets = secrets;
            match (self.list().await, forbidden) {
                // The rest is shown.
                (Ok(pushes), forbidden) => {
                    chosen.pushes = pushes;
                    chosen.missing.extend(forbidden);
                }
                (Err(_), Some(forbidden)) => return Err(forbidden),
                // Pushing is off in most clusters, and whoever may not see a RobotoPush has none.
                (Err(Error::Api(status)), None) if matches!(status.code, 403 | 404) => {}
                (Err(error), None) => return Err(self.failure("robotopushes can't be listed", &error)),
            }
            return Ok(chosen);
        }
        let names = Names::of(names);
        self.named(&names.secrets, &mut chosen.secrets, &mut chosen.missing).await?;
        self.named(&names.pushes, &mut chosen.pushes, &mut chosen.missing).await?;
        Ok(chosen)
    }

    /// What is said of a kind that may not be listed here; the way out is a namespace where it may be.
    fn unlisted(&self, kinds: &str) -> Failure {
        let place = if self.everywhere { "all namespaces".to_owned() } else { format!("the namespace {}", self.namespace) };
        Failure::Forbidden(format!("{kinds} can't be listed in {place}: forbidden; name a namespace that you may see, with -n NAMESPACE"))
    }

    async fn named<K: Kind>(&self, names: &[String], found: &mut Vec<K>, missing: &mut Vec<Failure>) -> Result<(), Failure> {
        for name in names {
            match self.resource(name).await {
                Ok(resource) => found.push(resource),
                Err(failure @ Failure::Missing(_)) => missing.push(failure),
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }
}

/// What a command is about.
#[derive(Default)]
pub struct Chosen {
    /// RobotoSecrets.
    pub secrets: Vec<RobotoSecret>,
    /// RobotoPushes.
    pub pushes: Vec<RobotoPush>,
    /// What is to be said of those that aren't there.
    pub missing: Vec<Failure>,
}

/// All objects, page by page.
pub async fn list<K: Clone + DeserializeOwned + Debug>(api: &Api<K>, parameters: ListParams) -> Result<Vec<K>, Error> {
    let mut parameters = parameters.limit(PAGE);
    let mut all = Vec::new();
    loop {
        let page = api.list(&parameters).await?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(all),
        }
    }
}

/// Something that the user's own rights may hide.
pub enum Sight<T> {
    /// It was seen.
    Seen(T),
    /// Why not, in a line.
    Hidden(String),
}

impl<T> Sight<T> {
    /// What came of a question. `what` begins the line: "pods can't be listed".
    pub fn of(answer: Result<T, Error>, what: &str) -> Self {
        answer.map_or_else(|error| Self::Hidden(failure(what, &error).to_string()), Self::Seen)
    }
}

/// Why a request failed. `what` begins the line.
pub fn failure(what: &str, error: &Error) -> Failure {
    match error {
        Error::Api(status) => match status.code {
            401 => Failure::Forbidden(format!("{what}: the API server doesn't accept the credentials")),
            403 => Failure::Forbidden(format!("{what}: forbidden")),
            404 => Failure::Missing(format!("{what}: there is none")),
            code @ (429 | 500..) => Failure::Silent(format!("{what}: the API server answers {code}")),
            code => Failure::Impossible(format!("{what}: the API server refuses it ({code} {})", status.reason)),
        },
        Error::SerdeError(_) => Failure::Impossible(format!("{what}: the API server's answer can't be understood")),
        Error::Auth(_) => Failure::Impossible(format!("{what}: the kubeconfig's way to credentials fails")),
        _ => Failure::Silent(format!("{what}: the API server can't be reached")),
    }
}
