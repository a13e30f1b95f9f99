//! The way to the API server, as kubectl finds it: a kubeconfig, or a pod's ServiceAccount; and through which proxy.
//!
//! A path, a context and the environment enter, a configuration leaves. A kubeconfig and a proxy's address hold credentials: no error repeats anything of
//! them but names.

use std::path::Path;

use kube::{
    Config, Error,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};

use crate::proxy::{Proxy, Unusable};

/// Why there is no way, in our own words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoWay(String);

impl From<Unusable> for NoWay {
    fn from(error: Unusable) -> Self {
        Self(error.to_string())
    }
}

/// Finds the way: by this kubeconfig, or by `$KUBECONFIG` or `~/.kube/config`, in which this context is chosen or the current one; where there is none, in
/// a pod, its ServiceAccount. What calls fail of is not tried again by itself.
///
/// # Errors
/// There is none, what is there can't be used, or the environment's proxy is none.
pub async fn find(kubeconfig: Option<&Path>, context: Option<String>) -> Result<Config, NoWay> {
    let is_chosen = kubeconfig.is_some() || context.is_some();
    let read = match kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let found = match read {
        Ok(kubeconfig) => from(kubeconfig, context).await?,
        Err(error) => Err(error),
    };
    let mut config = match found {
        Ok(config) => config,
        Err(error) if is_chosen => return Err(unreadable(&error)),
        Err(error) => Config::incluster().map_err(|_| match error {
            KubeconfigError::FindPath | KubeconfigError::ReadConfig(..) | KubeconfigError::CurrentContextNotSet => {
                NoWay("no way to an API server: neither a kubeconfig nor a pod's ServiceAccount".to_owned())
            }
            error => unreadable(&error),
        })?,
    };
    // Whoever calls has pauses of its own, or rather knows at once.
    config.default_retry = false;
    Ok(config)
}

/// The outer error: what helps is known, and no ServiceAccount does.
async fn from(kubeconfig: Kubeconfig, context: Option<String>) -> Result<Result<Config, KubeconfigError>, NoWay> {
    let own = own_proxy(&kubeconfig, context.as_deref());
    match Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions { context, ..KubeConfigOptions::default() }).await {
        Ok(mut config) => {
            // kube compares NO_PROXY with the proxy's own address, takes no address without a scheme, and sends to a proxy what is on this machine.
            config.proxy_url = match own {
                Some(address) => Some(address.parse().map_err(|_| no_address())?),
                None => Proxy::of_api_server()?.filter(|proxy| proxy.takes(&config.cluster_url)).map(|proxy| proxy.address().clone()),
            };
            Ok(Ok(config))
        }
        Err(KubeconfigError::ParseProxyUrl(_)) if own.is_some() => Err(no_address()),
        Err(KubeconfigError::ParseProxyUrl(_)) => match Proxy::of_api_server() {
            Err(unusable) => Err(unusable.into()),
            Ok(_) => Err(NoWay("HTTPS_PROXY begins or ends with a blank, or is nothing but blanks; take them out".to_owned())),
        },
        Err(KubeconfigError::ParseNoProxy(_)) => {
            Err(NoWay("NO_PROXY can't be understood: between its commas, and after the last one, there is to be a name, an address or a network".to_owned()))
        }
        Err(error) => Ok(Err(error)),
    }
}

fn no_address() -> NoWay {
    NoWay("the kubeconfig's proxy-url is no address: it is to be http://HOST:PORT or https://HOST:PORT".to_owned())
}

/// The proxy that the kubeconfig itself names for the cluster of a context.
fn own_proxy(kubeconfig: &Kubeconfig, context: Option<&str>) -> Option<String> {
    let name = context.or(kubeconfig.current_context.as_deref());
    let context = kubeconfig.contexts.iter().find(|context| Some(context.name.as_str()) == name).and_then(|context| context.context.as_ref());
    let cluster = context.and_then(|context| kubeconfig.clusters.iter().find(|cluster| cluster.name == context.cluster));
    cluster?.cluster.as_ref()?.proxy_url.clone().filter(|url| !url.is_empty())
}

fn unreadable(error: &KubeconfigError) -> NoWay {
    NoWay(match error {
        KubeconfigError::CurrentContextNotSet => "the kubeconfig has no current context; name one with --context".to_owned(),
        KubeconfigError::LoadContext(name) => format!("the kubeconfig has no context {name}"),
        KubeconfigError::LoadClusterOfContext(name) => format!("the kubeconfig has no cluster {name}"),
        KubeconfigError::FindPath => "there is no kubeconfig".to_owned(),
        KubeconfigError::ReadConfig(error, path) => format!("the kubeconfig {} can't be read: {}", path.display(), error.kind()),
        _ => "the kubeconfig can't be used".to_owned(),
    })
}

/// Why no client can be made of a configuration. The error itself quotes a proxy's address.
#[must_use]
pub const fn unusable(error: &Error) -> &'static str {
    match error {
        Error::ProxyProtocolUnsupported { .. } | Error::ProxyProtocolDisabled { .. } => {
            "the way to the API server leads through a proxy (proxy-url of the kubeconfig, or HTTPS_PROXY), and this program can use those of http and https alone"
        }
        _ => "the certificates or credentials of the kubeconfig or the pod can't be used",
    }
}
