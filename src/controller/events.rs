//! Events: published beside the work, never a reason for it to fail.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::{
        core::v1::ObjectReference,
        events::v1::{Event, EventSeries},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::status::Notice;
use crate::telemetry::Metrics;

/// The longest note that the API server takes, in bytes.
const MAX_NOTE: usize = 1000;
/// How many events may wait; more are dropped, since a status says the same.
const WAITING: usize = 1000;
/// For how long an event that comes again is counted up instead of being made anew.
const SERIES: Duration = Duration::from_mins(6);
/// What events name as their source.
const REPORTER: &str = "robotosecret";

type Waiting = (Notice, ObjectReference);

/// Takes events.
pub struct Events {
    sender: mpsc::Sender<Waiting>,
    stop: CancellationToken,
}

impl Events {
    /// Starts publishing.
    #[must_use]
    pub fn start(client: Client, instance: Option<String>, metrics: Metrics) -> (Self, tokio::task::JoinHandle<()>) {
        let (sender, mut receiver) = mpsc::channel::<Waiting>(WAITING);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let mut publisher = Publisher { client, instance: instance.unwrap_or_else(|| REPORTER.to_owned()), told: HashMap::new() };
        let task = tokio::spawn(async move {
            loop {
                let waiting = tokio::select! {
                    biased;
                    waiting = receiver.recv() => waiting,
                    () = stopped.cancelled() => None,
                };
                let Some((notice, about)) = waiting else { return };
                let reason = notice.reason;
                if metrics.kube_write("Event", publisher.publish(notice, about)).await.is_err() {
                    tracing::debug!(reason, "an event could not be published");
                }
            }
        });
        (Self { sender, stop }, task)
    }

    /// Publishes what waits, and ends.
    pub async fn finish(&self, task: tokio::task::JoinHandle<()>) {
        self.stop.cancel();
        // A publisher that panicked has nothing left to publish.
        let _ = task.await;
    }

    /// Publishes an event about a resource or a provider, some time. The log tells it at once, for whoever follows one resource there.
    pub fn publish<K: Resource<DynamicType = ()>>(&self, notice: Notice, about: &K) {
        self.publish_about(notice, about.object_ref(&()));
    }

    /// As [`Events::publish`], where a reference is all that is kept.
    pub fn publish_about(&self, notice: Notice, mut about: ObjectReference) {
        tracing::info!(kind = about.kind, namespace = about.namespace, name = about.name, reason = notice.reason, note = notice.note, "told");
        // With a version in it, equal events would not be counted together.
        about.resource_version = None;
        if self.sender.try_send((notice, about)).is_err() {
            tracing::debug!("too many events are waiting; one was dropped");
        }
    }
}

/// Writes events. Two with the same text count as one that came again; kube's own recorder would also take two with different texts
/// for the same, and go on showing the first text.
struct Publisher {
    client: Client,
    instance: String,
    told: HashMap<Told, (String, i32, Instant)>,
}

/// The uid of whom an event is about, its reason and its text.
type Told = (String, &'static str, String);

impl Publisher {
    async fn publish(&mut self, notice: Notice, about: ObjectReference) -> kube::Result<()> {
        // Events about what belongs to the whole cluster live there.
        let namespace = about.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let (now, note) = (Timestamp::now(), truncated(notice.note));
        self.told.retain(|_, (_, _, last)| last.elapsed() < SERIES);
        let key = (about.uid.clone().unwrap_or_default(), notice.reason, note.clone());
        if let Some((name, count, last)) = self.told.get_mut(&key) {
            let series = EventSeries { count: count.saturating_add(1), last_observed_time: MicroTime(now) };
            match events.patch(name, &PatchParams::default(), &Patch::Merge(json!({"series": series}))).await {
                Err(kube::Error::Api(error)) if error.code == 404 => {}
                result => {
                    (*count, *last) = (series.count, Instant::now());
                    return result.map(|_| ());
                }
            }
        }
        let name = format!("{}.{:x}", about.name.as_deref().unwrap_or(REPORTER), now.as_nanosecond());
        let event = Event {
            metadata: ObjectMeta { name: Some(name.clone()), namespace: Some(namespace), ..ObjectMeta::default() },
            type_: Some(if notice.warning { "Warning" } else { "Normal" }.to_owned()),
            reason: Some(notice.reason.to_owned()),
            action: Some(notice.action.to_owned()),
            note: Some(note),
            event_time: Some(MicroTime(now)),
            regarding: Some(about),
            reporting_controller: Some(REPORTER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            ..Event::default()
        };
        events.create(&PostParams::default(), &event).await?;
        self.told.insert(key, (name, 1, Instant::now()));
        Ok(())
    }
}

fn truncated(mut note: String) -> String {
    if note.len() > MAX_NOTE {
        let end = (0..=MAX_NOTE - 3).rev().find(|&end| note.is_char_boundary(end)).unwrap_or(0);
        note.truncate(end);
        note.push('…');
    }
    note
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_note_ends_on_a_whole_character() {
        let note = truncated("ä".repeat(800));
        assert!(note.len() <= MAX_NOTE && note.ends_with("ä…"));
        assert_eq!(truncated("short".into()), "short");
    }
}
