//! The way to the API server, as kubectl finds it: a kubeconfig, or a pod's ServiceAccount; and through which proxy.
//!
//! A path, a context and the environment enter, a configuration leaves. A kubeconfig and a proxy's address hold credentials: no error repeats anything of
//! them but names.

use std::path::Path;

use http::Uri;
use kube::{
    Config, Error,
    config::{Cluster, KubeConfigOptions, Kubeconfig, KubeconfigError},
};

use crate::proxy::Proxy;

/// Why there is no way, in our own words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoWay(String);

/// Finds the way: by this kubeconfig, or by `$KUBECONFIG` or `~/.kube/config`, in which this context is chosen or the current one; where there is none, in
/// a pod, its ServiceAccount. What calls fail of is not tried again by itself.
///
/// # Errors
/// There is none, what is there can't be used, or the environment's proxy is none.
pub async fn find(kubeconfig: Option<&Path>, context: Option<String>) -> Result<Config, NoWay> {
    let is_chosen = kubeconfig.is_some() || context.is_some();
    let read = match kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => of_environment(),
    };
    let found = match read {
        Ok(kubeconfig) => load(kubeconfig, context).await,
        Err(error) => Err(error),
    };
    let mut config = match found {
        Ok((mut config, own)) => {
            config.proxy_url = proxy(&config, own)?;
            config
        }
        // What helps is known, and no ServiceAccount does.
        Err(error @ (KubeconfigError::ParseProxyUrl(_) | KubeconfigError::ParseNoProxy(_))) => return Err(unreadable(&error)),
        Err(error) if is_chosen => return Err(unreadable(&error)),
        Err(error) => Config::incluster().map_err(|_| match error {
            KubeconfigError::FindPath | KubeconfigError::ReadConfig(..) => {
                NoWay("no way to an API server: neither a kubeconfig nor a pod's ServiceAccount".to_owned())
            }
            error => unreadable(&error),
        })?,
    };
    // Whoever calls has pauses of its own, or rather knows at once.
    config.default_retry = false;
    Ok(config)
}

/// The files of `$KUBECONFIG` in one, but for those that aren't there, or `~/.kube/config`.
fn of_environment() -> Result<Kubeconfig, KubeconfigError> {
    let named = std::env::var_os("KUBECONFIG").unwrap_or_default();
    let there: Vec<_> = std::env::split_paths(&named).filter(|path| path.exists()).collect();
    if there.is_empty() {
        return Kubeconfig::read();
    }
    there.iter().try_fold(Kubeconfig::default(), |all, path| all.merge(Kubeconfig::read_from(path)?))
}

/// What a kubeconfig says, and the proxy that it names itself.
async fn load(mut kubeconfig: Kubeconfig, context: Option<String>) -> Result<(Config, Option<String>), KubeconfigError> {
    let own = cluster_of(&mut kubeconfig, context.as_deref()).and_then(|cluster| cluster.proxy_url.clone()).filter(|url| !url.is_empty());
    let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
    let mut found = Config::from_custom_kubeconfig(kubeconfig.clone(), &options).await;
    if own.is_none() && matches!(found, Err(KubeconfigError::ParseProxyUrl(_))) {
        // What HTTPS_PROXY holds is no address. It may not be needed, and where the kubeconfig names a proxy kube doesn't look at it.
        if let Some(cluster) = cluster_of(&mut kubeconfig, context.as_deref()) {
            cluster.proxy_url = Some("http://none".to_owned());
        }
        found = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    }
    Ok((found?, own))
}

/// The proxy that leads to the API server. kube's own choice compares `NO_PROXY` with the proxy's address, takes no address without a scheme, and sends to a
/// proxy what is on this machine.
fn proxy(config: &Config, own: Option<String>) -> Result<Option<Uri>, NoWay> {
    if let Some(address) = own {
        return Ok(Some(address.parse().map_err(|error| unreadable(&KubeconfigError::ParseProxyUrl(error)))?));
    }
    let named = Proxy::of_api_server().filter(|proxy| proxy.takes(&config.cluster_url));
    named.map(|proxy| proxy.address().cloned()).transpose().map_err(|error| NoWay(error.to_string()))
}

/// The cluster of a context, or of the current one.
fn cluster_of<'k>(kubeconfig: &'k mut Kubeconfig, context: Option<&str>) -> Option<&'k mut Cluster> {
    let name = context.or(kubeconfig.current_context.as_deref());
    let context = kubeconfig.contexts.iter().find(|context| Some(context.name.as_str()) == name)?.context.as_ref()?;
    kubeconfig.clusters.iter_mut().find(|cluster| cluster.name == context.cluster)?.cluster.as_mut()
}

fn unreadable(error: &KubeconfigError) -> NoWay {
    NoWay(match error {
        KubeconfigError::CurrentContextNotSet => "the kubeconfig has no current context; name one with --context".to_owned(),
        KubeconfigError::LoadContext(name) => format!("the kubeconfig has no context {name}"),
        KubeconfigError::LoadClusterOfContext(name) => format!("the kubeconfig has no cluster {name}"),
        KubeconfigError::ParseProxyUrl(_) => "the kubeconfig's proxy-url is no address: it is to be http://HOST:PORT or https://HOST:PORT".to_owned(),
        KubeconfigError::ParseNoProxy(_) => {
            "NO_PROXY can't be understood: between its commas, and after the last one, there is to be a name, an address or a network".to_owned()
        }
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
