//! The namespaces and their labels, as far as they are known.
//!
//! Watch events enter; labels leave, and who depends on them is told. Only names and labels are held. Nothing is written here.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use tokio::sync::watch;

use super::{
    mirror::Context,
    watches::{Gates, NAMESPACES, Pauses},
};
use crate::{api::namespaces::Labels, reader::Lane};

/// A namespace as it was last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Its labels.
    pub labels: Arc<Labels>,
    /// Whether it is being deleted.
    pub leaves: bool,
}

/// The namespaces.
#[derive(Debug)]
pub struct NamespaceCache {
    known: Mutex<BTreeMap<String, Known>>,
    changes: watch::Sender<()>,
}

impl Default for NamespaceCache {
    fn default() -> Self {
        Self { known: Mutex::default(), changes: watch::Sender::new(()) }
    }
}

impl NamespaceCache {
    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The labels of a namespace; none of one that isn't known.
    #[must_use]
    pub fn labels(&self, name: &str) -> Arc<Labels> {
        self.known().get(name).map(|known| known.labels.clone()).unwrap_or_default()
    }

    /// All namespaces.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, Known> {
        self.known().clone()
    }

    /// Whether a namespace is being deleted, or gone.
    #[must_use]
    pub fn leaves(&self, name: &str) -> bool {
        self.known().get(name).is_none_or(|known| known.leaves)
    }

    /// Tells of every change from now on.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Takes a namespace in, or lets it go. Returns whether anything changed.
    pub(super) fn put(&self, name: &str, seen: Option<&Known>) -> bool {
        let mut known = self.known();
        let was = match seen {
            Some(seen) => known.insert(name.to_owned(), seen.clone()),
            None => known.remove(name),
        };
        let changed = was.as_ref() != seen;
        drop(known);
        if changed {
            self.changes.send_replace(());
        }
        changed
    }
}

/// Watches all namespaces, or the one that is named: RBAC can allow that for each by itself.
pub(super) async fn watch(client: Client, scope: Option<String>, context: Arc<Context>, gates: Gates) {
    let config = match &scope {
        Some(name) => watcher::Config::default().fields(&format!("metadata.name={name}")),
        None => watcher::Config::default(),
    };
    let mut events = pin!(watcher(Api::<PartialObjectMeta<Namespace>>::all(client), config).backoff(Pauses::default()));
    let mut listed = BTreeSet::new();
    let mut synced = false;
    let tell = |name: &str, seen: Option<Known>| {
        if context.namespaces.put(name, seen.as_ref()) {
            for key in context.resources.keys(Some(name)) {
                context.queue.push(&key, Lane::Event);
            }
        }
    };
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::Apply(namespace)) => tell(&namespace.name_any(), Some(seen(namespace))),
            Ok(Event::InitApply(namespace)) => {
                listed.insert(namespace.name_any());
                tell(&namespace.name_any(), Some(seen(namespace)));
            }
            Ok(Event::Delete(namespace)) => tell(&namespace.name_any(), None),
            Ok(Event::InitDone) => {
                let mine = |name: &String| scope.as_ref().is_none_or(|scope| scope == name);
                let gone: Vec<String> = context.namespaces.known().keys().filter(|name| mine(name) && !listed.contains(*name)).cloned().collect();
                for name in &gone {
                    tell(name, None);
                }
                listed.clear();
                if !std::mem::replace(&mut synced, true) {
                    gates.synced(NAMESPACES, scope.as_deref());
                }
            }
            Err(error) => gates.trouble(NAMESPACES, scope.as_deref(), &error),
        }
    }
}

fn seen(namespace: PartialObjectMeta<Namespace>) -> Known {
    let metadata = namespace.metadata;
    Known { labels: Arc::new(metadata.labels.unwrap_or_default()), leaves: metadata.deletion_timestamp.is_some() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_told_and_what_does_not_is_not() {
        let cache = NamespaceCache::default();
        let mut changes = cache.changes();
        let known = |label: &str| Known { labels: Arc::new(BTreeMap::from([("team".to_owned(), label.to_owned())])), leaves: false };
        assert!(cache.put("a", Some(&known("x"))) && !cache.put("a", Some(&known("x"))) && cache.put("a", Some(&known("y"))));
        assert!(changes.has_changed().expect("a cache"));
        changes.mark_unchanged();
        assert_eq!(cache.labels("a").get("team").map(String::as_str), Some("y"));
        assert!(cache.labels("b").is_empty() && !cache.put("b", None) && !changes.has_changed().expect("a cache"));
        assert!(cache.put("a", None) && cache.labels("a").is_empty() && changes.has_changed().expect("a cache"));
    }
}
