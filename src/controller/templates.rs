//! Templates that are kept in ConfigMaps: who refers to which, their texts, and the watch that tells when they change.
//!
//! References and watch events enter; texts leave, and whoever refers to what changed is woken. Nothing is kept of a ConfigMap that
//! nobody refers to, and of the others only the keys that are referred to. Nothing is watched before the first reference. A text is
//! fetched when it is needed and not known; a store is never asked here.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use super::{
    cache::Key,
    mirror::Context,
    watches::{Pauses, api, explain, key_of},
};
use crate::{
    api::{Reason, RobotoSecret, robotosecret::TemplateFrom},
    provider::ReadError,
    reader::Lane,
    render::template::TemplateSource,
};

/// The ConfigMaps that resources refer to.
#[derive(Default)]
pub struct ConfigMaps {
    known: Mutex<Known>,
    referred: Notify,
}

#[derive(Default)]
struct Known {
    /// What each resource refers to; only resources that refer to something stand here.
    references: HashMap<Arc<Key>, References>,
    maps: HashMap<Key, Entry>,
}

/// The keys that are referred to, by ConfigMap.
type References = BTreeMap<Key, BTreeSet<String>>;

#[derive(Default)]
struct Entry {
    referrers: BTreeSet<Arc<Key>>,
    /// Counts what the watch told, so that an answer that was on its way meanwhile is not taken for the present state.
    moved: u64,
    held: Option<Held>,
}

#[derive(Clone)]
struct Held {
    /// The resourceVersion; `None`: there is no such ConfigMap.
    version: Option<String>,
    /// The keys that are referred to, as far as they are there.
    texts: Arc<BTreeMap<String, String>>,
}

/// The templates of a resource that are kept in ConfigMaps.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    /// In the order of the spec.
    pub sources: Vec<TemplateSource>,
    /// Tells other texts apart; `None` without any. Templates are no secrets, so that this may stand in a status.
    pub hash: Option<String>,
}

impl ConfigMaps {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what a resource refers to, or no longer does.
    pub fn refer(&self, key: &Arc<Key>, resource: &RobotoSecret) {
        let mut wanted = References::new();
        for TemplateFrom { config_map, .. } in resource.spec.target.template.iter().flat_map(|template| &template.from) {
            wanted.entry((key.0.clone(), config_map.name.clone())).or_default().insert(config_map.key.clone());
        }
        let mut known = self.lock();
        if known.references.get(key).unwrap_or(&References::new()) == &wanted {
            return;
        }
        known.forget(key);
        if wanted.is_empty() {
            return;
        }
        for map in wanted.keys() {
            let entry = known.maps.entry(map.clone()).or_default();
            entry.referrers.insert(key.clone());
            // It may lack a key that nobody referred to so far.
            entry.held = None;
        }
        known.references.insert(key.clone(), wanted);
        drop(known);
        self.referred.notify_waiters();
    }

    /// Forgets a resource.
    pub fn forget(&self, key: &Key) {
        self.lock().forget(key);
    }

    /// Waits until somebody in the scope refers to a ConfigMap.
    async fn referred(&self, scope: Option<&str>) {
        loop {
            let referred = self.referred.notified();
            let mut referred = pin!(referred);
            // From here on nobody is missed.
            referred.as_mut().enable();
            if self.lock().maps.keys().any(|map| scope.is_none_or(|scope| scope == map.0)) {
                return;
            }
            referred.await;
        }
    }

    /// The texts that a resource of this namespace refers to.
    pub async fn texts(&self, client: &Client, namespace: &str, from: &[TemplateFrom]) -> Result<Texts, ReadError> {
        let mut sources = Vec::with_capacity(from.len());
        let mut hash = Sha256::new();
        for TemplateFrom { config_map, as_ } in from {
            let held = self.held(client, &(namespace.to_owned(), config_map.name.clone())).await?;
            let missing = |what: String| ReadError::new(Reason::TemplateError, format!("spec.target.template.from: {what}"));
            if held.version.is_none() {
                return Err(missing(format!("there is no ConfigMap {} in this namespace", config_map.name)));
            }
            let text = held.texts.get(&config_map.key).ok_or_else(|| missing(format!("the ConfigMap {} has no key {}", config_map.name, config_map.key)))?;
            // The length goes before the text, so that nothing can move from one text into the next unseen.
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
            sources.push(TemplateSource {
                key: as_.clone().unwrap_or_else(|| config_map.key.clone()),
                origin: format!("ConfigMap {}, key {}", config_map.name, config_map.key),
                text: text.clone(),
            });
        }
        let hash = (!from.is_empty()).then(|| hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat());
        Ok(Texts { sources, hash })
    }

    /// A ConfigMap as it is known, or else as it is fetched now.
    async fn held(&self, client: &Client, map: &Key) -> Result<Held, ReadError> {
        let moved = match self.lock().maps.get(map) {
            Some(Entry { held: Some(held), .. }) => return Ok(held.clone()),
            entry => entry.map(|entry| entry.moved),
        };
        let found = Api::<ConfigMap>::namespaced(client.clone(), &map.0).get_opt(&map.1).await.map_err(|error| unread(&map.1, &error))?;
        let mut known = self.lock();
        let keys = known.keys_of(map);
        let held = Held {
            version: found.as_ref().map(|found| found.resource_version().unwrap_or_default()),
            texts: Arc::new(found.and_then(|found| found.data).into_iter().flatten().filter(|(key, _)| keys.contains(key)).collect()),
        };
        if let Some(entry) = known.maps.get_mut(map).filter(|entry| Some(entry.moved) == moved) {
            entry.held = Some(held.clone());
        }
        Ok(held)
    }

    /// Takes in what the watch says about a ConfigMap: its resourceVersion, or that it is gone. Returns who is to be woken.
    fn told(&self, map: &Key, version: Option<&str>) -> Vec<Arc<Key>> {
        let mut known = self.lock();
        let Some(entry) = known.maps.get_mut(map) else { return Vec::new() };
        if entry.held.as_ref().is_some_and(|held| held.version.as_deref() == version) {
            return Vec::new();
        }
        entry.moved += 1;
        entry.held = None;
        entry.referrers.iter().cloned().collect()
    }

    /// The ConfigMaps of the scope that somebody refers to and that a complete list did not have.
    fn unlisted(&self, scope: Option<&str>, listed: &BTreeSet<Key>) -> Vec<Key> {
        let of_scope = |map: &&Key| scope.is_none_or(|scope| scope == map.0) && !listed.contains(*map);
        self.lock().maps.keys().filter(of_scope).cloned().collect()
    }

    fn is_referred(&self, map: &Key) -> bool {
        self.lock().maps.contains_key(map)
    }
}

impl Known {
    fn forget(&mut self, key: &Key) {
        for map in self.references.remove(key).into_iter().flat_map(BTreeMap::into_keys) {
            if let Some(entry) = self.maps.get_mut(&map) {
                entry.referrers.remove(key);
                if entry.referrers.is_empty() {
                    self.maps.remove(&map);
                }
            }
        }
    }

    fn keys_of(&self, map: &Key) -> BTreeSet<String> {
        let referrers = self.maps.get(map).into_iter().flat_map(|entry| &entry.referrers);
        referrers.filter_map(|key| self.references.get(key)?.get(map)).flatten().cloned().collect()
    }
}

fn unread(name: &str, error: &kube::Error) -> ReadError {
    let why = match error {
        kube::Error::Api(status) if status.code == 403 => "the controller's ServiceAccount may not get it; check its roles".to_owned(),
        kube::Error::Api(status) => format!("the API server failed with HTTP {}", status.code),
        _ => "the API server could not be reached".to_owned(),
    };
    ReadError::new(Reason::KubernetesError, format!("the ConfigMap {name} could not be read: {why}"))
}

/// Watches the metadata of ConfigMaps from the first reference on, and wakes who refers to a changed one.
pub(super) async fn watch(client: Client, scope: Option<String>, context: Arc<Context>) {
    let scope = scope.as_deref();
    context.config_maps.referred(scope).await;
    let mut events = pin!(watcher(api::<PartialObjectMeta<ConfigMap>>(&client, scope), watcher::Config::default()).backoff(Pauses::default()));
    let mut listed = BTreeSet::new();
    let told = |map: &Key, version: Option<&str>| {
        for key in context.config_maps.told(map, version) {
            context.queue.push(&key, Lane::Event);
        }
    };
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(map)) => told(&key_of(&map), map.metadata.resource_version.as_deref()),
            Ok(Event::Delete(map)) => told(&key_of(&map), None),
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(map)) => {
                let key = key_of(&map);
                told(&key, map.metadata.resource_version.as_deref());
                if context.config_maps.is_referred(&key) {
                    listed.insert(key);
                }
            }
            Ok(Event::InitDone) => {
                context.config_maps.unlisted(scope, &listed).iter().for_each(|map| told(map, None));
                listed.clear();
            }
            Err(error) => tracing::warn!(watch = "configmaps", namespace = scope, why = explain(&error), "watching failed; trying again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Arc<Key> {
        Arc::new(("shop".to_owned(), name.to_owned()))
    }

    fn resource(from: &[(&str, &str)]) -> RobotoSecret {
        let from: Vec<_> = from.iter().map(|(name, key)| serde_json::json!({"configMap": {"name": name, "key": key}})).collect();
        let spec = serde_json::json!({"uri": "aws.sm://x", "target": {"template": {"from": from, "data": {"a": ""}}}});
        RobotoSecret::new("rs", serde_json::from_value(spec).expect("a spec"))
    }

    /// As if the ConfigMap had been fetched in this version.
    fn fetched(maps: &ConfigMaps, name: &str, version: Option<&str>) {
        let held = Held { version: version.map(str::to_owned), texts: Arc::default() };
        maps.lock().maps.get_mut(&*key(name)).expect("a reference").held = Some(held);
    }

    #[test]
    fn who_refers_to_a_config_map_is_woken_by_its_changes_alone() {
        let maps = ConfigMaps::default();
        maps.refer(&key("a"), &resource(&[("tpl", "x"), ("tpl", "y")]));
        maps.refer(&key("b"), &resource(&[("tpl", "x"), ("more", "z")]));
        maps.refer(&key("c"), &resource(&[]));
        assert_eq!(maps.lock().keys_of(&key("tpl")), BTreeSet::from(["x".to_owned(), "y".to_owned()]));
        fetched(&maps, "tpl", Some("1"));
        assert_eq!(maps.told(&key("tpl"), Some("1")), [], "it is known already");
        assert_eq!(maps.told(&key("tpl"), Some("2")), [key("a"), key("b")]);
        assert_eq!(maps.told(&key("foreign"), Some("2")), []);
        fetched(&maps, "more", None);
        assert_eq!(maps.told(&key("more"), None), [], "it is known to be gone");
        assert_eq!(maps.told(&key("more"), Some("3")), [key("b")]);
    }

    #[test]
    fn nothing_is_kept_that_nobody_refers_to() {
        let maps = ConfigMaps::default();
        maps.refer(&key("a"), &resource(&[("tpl", "x")]));
        fetched(&maps, "tpl", Some("1"));
        maps.refer(&key("a"), &resource(&[("tpl", "x")]));
        assert!(maps.lock().maps[&*key("tpl")].held.is_some(), "the same reference again");
        maps.refer(&key("b"), &resource(&[("tpl", "y")]));
        assert!(maps.lock().maps[&*key("tpl")].held.is_none(), "it may lack the new key");
        maps.refer(&key("a"), &resource(&[("other", "x")]));
        maps.forget(&key("b"));
        assert!(!maps.is_referred(&key("tpl")) && maps.is_referred(&key("other")));
        maps.forget(&key("a"));
        assert!(maps.lock().maps.is_empty() && maps.lock().references.is_empty());
    }

    #[test]
    fn what_a_complete_list_did_not_have_is_gone_in_its_own_scope() {
        let maps = ConfigMaps::default();
        maps.refer(&key("a"), &resource(&[("tpl", "x"), ("gone", "x")]));
        let listed = BTreeSet::from([Key::clone(&key("tpl"))]);
        assert_eq!(maps.unlisted(None, &listed), [Key::clone(&key("gone"))]);
        assert_eq!(maps.unlisted(Some("elsewhere"), &listed), []);
    }
}
