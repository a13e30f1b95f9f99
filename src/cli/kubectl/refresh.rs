//! `refresh`: has the stores asked again now, and waits for what comes of it.
//!
//! Names enter; the annotation `robotosecret.dev/refresh` is set on each, and what the status then says leaves. A request was carried out once
//! the status names it as `lastHandledRefresh`, or a later one of somebody else. Nothing but that annotation is written.

use std::{collections::BTreeMap, pin::pin, process::ExitCode, time::Duration};

use futures::{StreamExt, TryStreamExt, future::join_all};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
    runtime::watcher::{self, Error as WatchError, Event, watcher},
};
use robotosecret::api::{REFRESH_ANNOTATION, RobotoSecret};
use serde_json::json;

use super::{
    MANAGER,
    access::{Connection, Failure, failure},
    status::{self, Standing},
    table,
};

/// How many annotations are written at the same time.
const AT_ONCE: usize = 16;
/// The exit code of a wait that took too long.
const TIMEOUT: u8 = 4;

/// A request that was made.
struct Request {
    /// The annotation's value.
    id: String,
    /// What it was before.
    before: Option<String>,
    /// What was mirrored when it was made.
    content: Content,
}

/// What tells contents apart: times are in whole seconds, so that versions are compared as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Content {
    changed: Option<Time>,
    versions: Vec<(String, String)>,
}

impl Content {
    fn of(resource: &RobotoSecret) -> Self {
        let Some(status) = &resource.status else { return Self::default() };
        let versions = status.sources.iter().map(|source| (source.uri.clone(), source.version.clone())).collect();
        Self { changed: status.last_change_time.clone(), versions }
    }
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// All is well; whether the content changed.
    Well { changed: bool, says: String },
    /// It was asked, and something isn't well.
    Bad(String),
    /// It will not be carried out.
    Never(&'static str),
}

type Key = (String, String);

/// Does it.
pub async fn run(connection: &Connection, names: &[String], wait: Option<Duration>) -> Result<ExitCode, Failure> {
    let (resources, missing) = connection.resources(names).await?;
    table::complain(&missing);
    let id = Timestamp::now().to_string();
    let mut waiting = BTreeMap::new();
    for some in resources.chunks(AT_ONCE) {
        for (resource, patched) in some.iter().zip(join_all(some.iter().map(|resource| request(connection, resource, &id))).await) {
            let patched = patched.map_err(|error| failure(&format!("the RobotoSecret {} can't be annotated", resource.name_any()), &error))?;
            waiting.insert(
                key(&patched),
                Request { id: id.clone(), before: resource.annotations().get(REFRESH_ANNOTATION).cloned(), content: Content::of(resource) },
            );
            if wait.is_none() {
                let rest = if patched.spec.suspend { "; it is suspended, so nothing is read before it is resumed" } else { "" };
                say(connection, &key(&patched), &format!("refresh requested{rest}"))?;
            }
        }
    }
    let failed = !missing.is_empty();
    let Some(limit) = wait else { return Ok(ExitCode::from(u8::from(failed))) };
    if let Ok(bad) = tokio::time::timeout(limit, watched(connection, names, &mut waiting)).await {
        return Ok(ExitCode::from(u8::from(bad? || failed)));
    }
    for key in waiting.keys() {
        say(connection, key, &format!("not carried out within {}s; does the controller run, and serve this namespace?", limit.as_secs_f64()))?;
    }
    Ok(ExitCode::from(TIMEOUT))
}

async fn request(connection: &Connection, resource: &RobotoSecret, id: &str) -> Result<RobotoSecret, kube::Error> {
    let api: Api<RobotoSecret> = Api::namespaced(connection.client.clone(), &resource.namespace().unwrap_or_default());
    let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    api.patch(&resource.name_any(), &parameters, &Patch::Merge(json!({"metadata": {"annotations": {REFRESH_ANNOTATION: id}}}))).await
}

fn key(resource: &RobotoSecret) -> Key {
    (resource.namespace().unwrap_or_default(), resource.name_any())
}

fn say(connection: &Connection, (namespace, name): &Key, what: &str) -> std::io::Result<()> {
    let name = if connection.everywhere { format!("{namespace}/{name}") } else { name.clone() };
    table::print(&format!("{name}: {what}\n"))
}

/// Watches until every request was carried out. Whether one ended badly.
async fn watched(connection: &Connection, names: &[String], waiting: &mut BTreeMap<Key, Request>) -> Result<bool, Failure> {
    let api: Api<RobotoSecret> = if connection.everywhere { Api::all(connection.client.clone()) } else { connection.api() };
    let config = match names {
        // Whoever may see this one alone can watch it, too.
        [name] => watcher::Config::default().fields(&format!("metadata.name={name}")),
        _ => watcher::Config::default(),
    };
    let mut events = pin!(watcher(api, config).map(|event| event.map_err(|error| watch_failure(&error))).boxed());
    let mut bad = false;
    while !waiting.is_empty() {
        let event = match events.try_next().await {
            Ok(Some(event)) => event,
            Ok(None) => return Err(Failure::Silent("robotosecrets can't be watched: the watch ended".to_owned())),
            // What passes is tried again by the watch itself.
            Err(None) => {
                tokio::time::sleep(Duration::from_millis(500)).await;
                continue;
            }
            Err(Some(failure)) => return Err(failure),
        };
        let (resource, result) = match event {
            Event::Apply(resource) | Event::InitApply(resource) => {
                let Some(request) = waiting.get(&key(&resource)) else { continue };
                let result = result(&resource, request);
                (resource, result)
            }
            Event::Delete(resource) => (resource, Some(Outcome::Never("it was deleted"))),
            Event::Init | Event::InitDone => continue,
        };
        let Some(result) = result.filter(|_| waiting.remove(&key(&resource)).is_some()) else { continue };
        bad |= !matches!(result, Outcome::Well { .. });
        say(connection, &key(&resource), &told(&result))?;
    }
    Ok(bad)
}

/// Why a watch can't go on; `None` if it can.
fn watch_failure(error: &WatchError) -> Option<Failure> {
    let (WatchError::InitialListFailed(error) | WatchError::WatchStartFailed(error) | WatchError::WatchFailed(error)) = error else { return None };
    match failure("robotosecrets can't be watched", error) {
        failure @ (Failure::Forbidden(_) | Failure::Missing(_)) => Some(failure),
        _ => None,
    }
}

/// What came of the request, if it was carried out.
fn result(resource: &RobotoSecret, request: &Request) -> Option<Outcome> {
    if resource.spec.suspend {
        return Some(Outcome::Never("it is suspended; resume it"));
    }
    let status = resource.status.as_ref()?;
    let handled = status.last_handled_refresh.as_ref()?;
    let asked = resource.annotations().get(REFRESH_ANNOTATION);
    // Somebody may have asked once more meanwhile; a list may be older than the request.
    let later = asked.is_some_and(|asked| *asked != request.id && Some(asked) != request.before.as_ref() && asked == handled);
    if *handled != request.id && !later {
        return None;
    }
    let standing = Standing::of(resource);
    let says = status::line(&standing);
    Some(if standing.well { Outcome::Well { changed: Content::of(resource) != request.content, says } } else { Outcome::Bad(says) })
}

fn told(result: &Outcome) -> String {
    match result {
        Outcome::Well { changed: true, says } => format!("refreshed, the Secret changed: {says}"),
        Outcome::Well { changed: false, says } => format!("refreshed, nothing changed: {says}"),
        Outcome::Bad(says) => format!("asked, and not well: {says}"),
        Outcome::Never(why) => format!("not refreshed: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(annotation: &str, handled: &str, ready: &str, changed: &str) -> RobotoSecret {
        serde_json::from_value(json!({
            "apiVersion": "robotosecret.dev/v1alpha1", "kind": "RobotoSecret",
            "metadata": {"name": "a", "namespace": "shop", "generation": 1, "annotations": {REFRESH_ANNOTATION: annotation}},
            "spec": {"uri": "aws.sm://x"},
            "status": {
                "observedGeneration": 1, "lastHandledRefresh": handled, "lastChangeTime": changed,
                "conditions": [{"type": "Ready", "status": ready, "reason": "Mirrored", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            },
        }))
        .expect("a RobotoSecret")
    }

    #[test]
    fn a_request_was_carried_out_once_the_status_names_it_or_a_later_one() {
        let changed = "2026-01-01T00:00:00Z";
        let request = Request { id: "2".into(), before: Some("1".into()), content: Content::of(&resource("1", "1", "True", changed)) };
        let well = |changed| Some(Outcome::Well { changed, says: "Mirrored: m".into() });
        assert_eq!(result(&resource("1", "1", "True", changed), &request), None, "a list that is older than the request");
        assert_eq!(result(&resource("2", "1", "True", changed), &request), None);
        assert_eq!(result(&resource("2", "2", "True", changed), &request), well(false));
        assert_eq!(result(&resource("3", "1", "True", changed), &request), None);
        assert_eq!(result(&resource("3", "3", "True", changed), &request), well(false), "somebody asked after us");
        assert_eq!(result(&resource("2", "2", "True", "2026-01-01T00:00:09Z"), &request), well(true));
        assert_eq!(result(&resource("2", "2", "False", changed), &request), Some(Outcome::Bad("Mirrored: m".into())));
        let mut suspended = resource("2", "1", "True", changed);
        suspended.spec.suspend = true;
        assert_eq!(result(&suspended, &request).map(|result| told(&result)).as_deref(), Some("not refreshed: it is suspended; resume it"));
    }
}
