//! Who sees everything that a Secret ever holds: a watch that leaves out no version. A Secret's name enters, verdicts leave. It changes
//! nothing, and it goes on by itself after the API server was away.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    runtime::{WatchStreamExt, watcher},
};
use tokio::runtime::Runtime;

use crate::stage::{SOON, Stage, wait};

/// What the Secret's key `password` held from a moment on; none: Secret or key weren't there.
type Held = Arc<Mutex<Vec<Option<Vec<u8>>>>>;

/// Watches from its start until it is dropped.
pub struct Watch {
    held: Held,
    what: String,
    runtime: Option<Runtime>,
}

impl Watch {
    /// Returns when it sees what is there now.
    pub fn start(stage: &Stage, namespace: &str, name: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let held = Held::default();
        let client = runtime.block_on(stage.node.plane().client())?;
        let events = watcher(Api::<Secret>::namespaced(client, namespace), watcher::Config::default().fields(&format!("metadata.name={name}")));
        runtime.spawn(follow(events.default_backoff().boxed(), Arc::clone(&held)));
        let watch = Self { held, what: format!("the Secret {namespace}/{name}"), runtime: Some(runtime) };
        wait("a watch", SOON, || Ok((!lock(&watch.held).is_empty()).then_some(())))?;
        Ok(watch)
    }

    /// An error if the Secret ever was gone, or held something else than a value of its time.
    pub fn check(&self, stage: &Stage) -> Result<()> {
        let mut last = 0;
        for held in lock(&self.held).iter() {
            let held = held.as_deref().with_context(|| format!("{} was gone, or its key was, after rotation {last}", self.what))?;
            let rotation = stage.rotation_of(&String::from_utf8_lossy(held));
            let rotation = rotation.with_context(|| format!("{} held a wrong value after rotation {last}", self.what))?;
            ensure!(rotation >= last, "{} held rotation {rotation} after {last}", self.what);
            last = rotation;
        }
        ensure!(last == stage.rotations(), "the watch of {} saw rotation {last} last of {}", self.what, stage.rotations());
        Ok(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

async fn follow(mut events: impl StreamExt<Item = watcher::Result<watcher::Event<Secret>>> + Unpin, held: Held) {
    let mut listed = None;
    while let Some(event) = events.next().await {
        let now = match event {
            Ok(watcher::Event::Init) => {
                listed = None;
                continue;
            }
            Ok(watcher::Event::InitApply(secret)) => {
                listed = password(secret);
                continue;
            }
            Ok(watcher::Event::InitDone) => listed.take(),
            Ok(watcher::Event::Apply(secret)) => password(secret),
            Ok(watcher::Event::Delete(_)) => None,
            // The API server is away; the watcher comes back.
            Err(_) => continue,
        };
        lock(&held).push(now);
    }
}

fn password(secret: Secret) -> Option<Vec<u8>> {
    secret.data.and_then(|mut data| data.remove("password")).map(|bytes| bytes.0)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
