//! Events: published beside the work, never a reason for it to fail.

use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::status::Notice;
use crate::{api::RobotoSecret, telemetry::Metrics};

/// The longest note that the API server takes, in bytes.
const MAX_NOTE: usize = 1000;
/// How many events may wait; more are dropped, since a status says the same.
const WAITING: usize = 1000;

type Waiting = (Notice, k8s_openapi::api::core::v1::ObjectReference);

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
        let recorder = Recorder::new(client, Reporter { controller: "robotosecret".into(), instance });
        let task = tokio::spawn(async move {
            loop {
                let waiting = tokio::select! {
                    biased;
                    waiting = receiver.recv() => waiting,
                    () = stopped.cancelled() => None,
                };
                let Some((notice, about)) = waiting else { return };
                let event = Event {
                    type_: if notice.warning { EventType::Warning } else { EventType::Normal },
                    reason: notice.reason.to_owned(),
                    note: Some(truncated(notice.note)),
                    action: notice.action.to_owned(),
                    secondary: None,
                };
                let result = recorder.publish(&event, &about).await;
                metrics.kube_write("Event", result.is_ok());
                if result.is_err() {
                    tracing::debug!(reason = notice.reason, "an event could not be published");
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

    /// Publishes an event about a resource, some time.
    pub fn publish(&self, notice: Notice, about: &RobotoSecret) {
        let mut about = about.object_ref(&());
        // With a version in it, equal events would not be counted together.
        about.resource_version = None;
        if self.sender.try_send((notice, about)).is_err() {
            tracing::debug!("too many events are waiting; one was dropped");
        }
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
