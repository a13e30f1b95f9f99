//! Who sees everything that the Secrets of a scene ever hold, and everything that its resources ever say: a watch of each, which leaves
//! out no version.
//!
//! A scene's objects enter, verdicts on their way leave. It changes nothing.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use futures::StreamExt;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Time};
use kube::{
    Api, Resource, ResourceExt,
    api::{ListParams, WatchEvent, WatchParams},
};
use robotosecret::api::RobotoSecret;
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;

use super::combinations::Data;
use crate::support::Scene;

/// What a Secret held from a moment on; no data: it was gone.
#[derive(Clone, Debug)]
struct Held {
    at: Instant,
    uid: String,
    data: Option<Data>,
}

/// What a resource said from a moment on.
#[derive(Clone, Debug)]
pub struct Said {
    at: Instant,
    /// Status and reason of Ready and Fresh.
    pub conditions: [String; 2],
    /// The message of Ready.
    pub message: String,
    /// The message of Fresh.
    fresh: String,
    /// When it last said that the content changed.
    pub changed: Option<Time>,
    /// The refresh that it had handled.
    pub refreshed: Option<String>,
}

/// By name, the oldest first.
type Seen<T> = Arc<Mutex<BTreeMap<String, Vec<T>>>>;

/// Watches from its start until it is dropped.
pub struct Witness {
    held: Seen<Held>,
    said: Seen<Said>,
    watches: [JoinHandle<()>; 2],
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.watches.iter().for_each(JoinHandle::abort);
    }
}

impl Witness {
    pub async fn start(s: &Scene) -> Self {
        let (held, said) = (Seen::default(), Seen::default());
        let watches = [watch(s.secrets(), Arc::clone(&held), hold).await, watch(s.resources(), Arc::clone(&said), say).await];
        Self { held, said, watches }
    }

    /// What a Secret holds now.
    pub fn holds(&self, name: &str) -> Option<Data> {
        lock(&self.held).get(name).and_then(|all| all.last()?.data.clone())
    }

    /// What a resource says now.
    pub fn says(&self, name: &str) -> Said {
        lock(&self.said)[name].last().cloned().unwrap()
    }

    /// Asserts that a Secret went through these states in order, never back and to no other, came to each not before its moment, and was never
    /// made anew.
    #[track_caller]
    pub fn went_through(&self, name: &str, states: &[(Option<Data>, Instant)]) {
        assert!(self.watches.iter().all(|watch| !watch.is_finished()), "a watch ended");
        let held = lock(&self.held);
        let all = held.get(name).unwrap_or_else(|| panic!("{name} was never there"));
        let mut place = 0;
        for held in all {
            let since = || format!("{:.1} s after the first look", held.at.duration_since(all[0].at).as_secs_f64());
            let further = states[place..].iter().position(|(state, _)| *state == held.data);
            place += further.unwrap_or_else(|| panic!("{name} holds {:?} {}, which is none of {:?}", held.data, since(), &states[place..]));
            assert!(held.at >= states[place].1, "{name} holds {:?} {}, which is too early", held.data, since());
            assert_eq!(held.uid, all[0].uid, "{name} was made anew {}", since());
        }
    }

    /// Asserts that between two moments a resource said one thing, then the other, and nothing else, but for what a machine is to blame for that
    /// was too busy to hear an answer in time.
    #[track_caller]
    pub fn said_only(&self, name: &str, first: [&str; 2], then: [&str; 2], between: [Instant; 2]) {
        let said = lock(&self.said);
        let mut turned = false;
        let late = |said: &&Said| said.conditions == ["True Mirrored", "False ProviderUnavailable"] && said.fresh.contains("the store did not answer within");
        for said in said[name].iter().filter(|said| (between[0]..between[1]).contains(&said.at) && !late(said)) {
            turned |= said.conditions == then;
            assert_eq!(said.conditions, if turned { then } else { first }, "{name} said so: {}", said.message);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

/// Takes note of all that is there, and has a task take note of all that happens, for as long as it lives.
async fn watch<K, T>(api: Api<K>, seen: Seen<T>, look: fn(&K, bool) -> T) -> JoinHandle<()>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    T: Send + 'static,
{
    let note = move |object: &K, gone: bool| lock(&seen).entry(object.name_any()).or_default().push(look(object, gone));
    let all = api.list(&ListParams::default()).await.unwrap();
    all.items.iter().for_each(|object| note(object, false));
    let mut version = all.metadata.resource_version.unwrap();
    tokio::spawn(async move {
        loop {
            // A server that is busy with other tests may refuse it for a moment; nothing is missed by that.
            let Ok(events) = api.watch(&WatchParams::default(), &version).await else {
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            };
            let mut events = events.boxed();
            while let Some(Ok(event)) = events.next().await {
                let (object, gone) = match event {
                    WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
                    WatchEvent::Deleted(object) => (object, true),
                    WatchEvent::Bookmark(_) => continue,
                    WatchEvent::Error(status) => panic!("a watch failed: {status:?}"),
                };
                version = object.resource_version().unwrap();
                note(&object, gone);
            }
        }
    })
}

fn hold(secret: &Secret, gone: bool) -> Held {
    let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
    let data = secret.data.iter().flatten().map(|(key, value)| (key.clone(), text(&value.0))).collect();
    Held { at: Instant::now(), uid: secret.uid().unwrap(), data: (!gone).then_some(data) }
}

fn say(resource: &RobotoSecret, _: bool) -> Said {
    let status = resource.status.clone().unwrap_or_default();
    let condition = |type_: &str| status.condition(type_).map(|condition| format!("{} {}", condition.status, condition.reason)).unwrap_or_default();
    let message = |type_: &str| status.condition(type_).map(|condition| condition.message.clone()).unwrap_or_default();
    Said {
        at: Instant::now(),
        conditions: ["Ready", "Fresh"].map(condition),
        message: message("Ready"),
        fresh: message("Fresh"),
        changed: status.last_change_time.clone(),
        refreshed: status.last_handled_refresh.clone(),
    }
}
