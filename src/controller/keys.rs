//! The Secrets that hold providers' access keys: watched, so that another key is used at once.
//!
//! Which Secrets are in use enters; who read with a former key is woken. Each is watched by its name, for its metadata alone; what is in it
//! is read by the [`tenant`](super::tenant) that needs it. Nothing is written here.

use std::{collections::HashMap, pin::pin, sync::Arc};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use tokio::task::{AbortHandle, JoinSet};

use super::{
    mirror::Context,
    providers::KeySecret,
    watches::{Pauses, explain},
};
use crate::reader::Lane;

/// Watches whatever is in use, for ever.
pub(super) async fn watch(context: Arc<Context>) {
    let mut changes = context.providers.changes();
    let mut watched: HashMap<KeySecret, AbortHandle> = HashMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let wanted = context.providers.key_secrets();
        watched.retain(|secret, task| {
            let stays = wanted.contains(secret) && !task.is_finished();
            if !stays {
                task.abort();
            }
            stays
        });
        for secret in wanted {
            watched.entry(secret.clone()).or_insert_with(|| tasks.spawn(follow(context.clone(), secret)));
        }
        tokio::select! {
            _ = changes.changed() => {}
            _ = tasks.join_next(), if !tasks.is_empty() => {}
        }
    }
}

async fn follow(context: Arc<Context>, secret: KeySecret) {
    let api = Api::<PartialObjectMeta<Secret>>::namespaced(context.client.clone(), &secret.0);
    let config = watcher::Config::default().fields(&format!("metadata.name={}", secret.1));
    let mut events = pin!(watcher(api, config).backoff(Pauses::default()));
    let tell = |version: Option<&str>, listed: bool| {
        for id in context.providers.key_seen(&secret, version, listed) {
            for key in context.resources.with_provider(&id) {
                context.queue.push(&key, Lane::Event);
            }
        }
    };
    let mut listed = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed = false,
            Ok(Event::InitApply(seen)) => {
                listed = true;
                tell(seen.resource_version().as_deref(), true);
            }
            Ok(Event::InitDone) if !listed => tell(None, true),
            Ok(Event::InitDone) => {}
            Ok(Event::Apply(seen)) => tell(seen.resource_version().as_deref(), false),
            Ok(Event::Delete(_)) => tell(None, false),
            Err(error) => {
                let why = explain(&error);
                tracing::warn!(namespace = secret.0, secret = secret.1, why, "a Secret with an access key can't be watched; a changed key is not seen");
            }
        }
    }
}
