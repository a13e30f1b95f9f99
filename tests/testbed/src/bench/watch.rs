//! How the bench learns that something has happened without asking for it again and again: it shares its cores with what it measures.
//! Watch events enter, objects and the moment at which the last one waited for was there leave. No value ever comes through here.

use std::collections::HashSet;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use testbed::Controller;
use tokio::time::timeout;

use super::world::{MANAGED, RobotoSecret};

/// How often it is checked that what is waited for can still come.
const LOOK: Duration = Duration::from_secs(1);

/// The first list is a page of 500 after the other.
const LISTED_WITHIN: Duration = Duration::from_mins(2);

/// The end of waiting, and who has to be alive until then.
#[derive(Clone, Copy)]
pub struct Patience<'a> {
    pub controller: &'a Controller,
    pub end: Instant,
}

impl<'a> Patience<'a> {
    /// From now on.
    pub fn new(controller: &'a Controller, limit: Duration) -> Self {
        Self { controller, end: Instant::now() + limit }
    }
}

/// A watch whose first list has come and is forgotten.
pub struct Watch<K> {
    events: BoxStream<'static, watcher::Result<Event<K>>>,
}

impl<K: Clone + Debug + Send + 'static> Watch<K> {
    async fn open(events: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static) -> Result<Self> {
        let mut events = events.boxed();
        let listed = async {
            while let Some(event) = events.next().await {
                if matches!(event.context("the first list of a watch")?, Event::InitDone) {
                    return Ok(());
                }
            }
            bail!("a watch ended in its first list")
        };
        timeout(LISTED_WITHIN, listed).await.with_context(|| format!("no first list of a watch within {LISTED_WITHIN:?}"))??;
        Ok(Self { events })
    }

    /// The next object that was made or changed, or one of a new list after an interruption. `what` is named when it doesn't come.
    async fn next(&mut self, what: &str, patience: Patience<'_>) -> Result<K> {
        loop {
            match timeout(LOOK, self.events.next()).await {
                Ok(Some(Ok(Event::Apply(object) | Event::InitApply(object)))) => return Ok(object),
                Ok(None) => bail!("waiting for {what}: the watch ended"),
                Err(_) if !patience.controller.process.is_running() => bail!("waiting for {what}: the controller has ended"),
                // After an error the watch begins again by itself, after a pause.
                Ok(Some(_)) | Err(_) => {}
            }
            if Instant::now() > patience.end {
                bail!("waiting for {what}: it took too long");
            }
        }
    }
}

impl Watch<RobotoSecret> {
    /// All resources.
    pub async fn resources(client: &Client) -> Result<Self> {
        Self::open(watcher(Api::all(client.clone()), watcher::Config::default()).default_backoff()).await
    }

    /// Waits until `count` resources became ready at this generation of their spec. Returns when that was.
    pub async fn until_ready(&mut self, count: usize, generation: i64, patience: Patience<'_>) -> Result<Instant> {
        let mut ready = HashSet::new();
        while ready.len() < count {
            let what = format!("{count} resources to be ready, {} are", ready.len());
            let resource = self.next(&what, patience).await?;
            let key = (resource.namespace(), resource.name_any());
            if resource.is_ready(generation) {
                ready.insert(key)
            } else {
                ready.remove(&key)
            };
        }
        Ok(Instant::now())
    }
}

impl Watch<PartialObjectMeta<Secret>> {
    /// The metadata of all mirrored Secrets.
    pub async fn secrets(client: &Client) -> Result<Self> {
        let config = watcher::Config::default().labels(MANAGED);
        Self::open(watcher(Api::all(client.clone()), config).default_backoff()).await
    }

    /// The metadata of one Secret, which need not be there.
    pub async fn secret(client: &Client, namespace: &str, name: &str) -> Result<Self> {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        Self::open(watcher(Api::namespaced(client.clone(), namespace), config).default_backoff()).await
    }

    /// Namespace and name of the next Secret that was made or changed.
    pub async fn next_name(&mut self, what: &str, patience: Patience<'_>) -> Result<(String, String)> {
        let secret = self.next(what, patience).await?;
        Ok((secret.namespace().unwrap_or_default(), secret.name_any()))
    }
}
