//! `refresh`: has the stores asked again now, and waits for what comes of it.
//!
//! Names enter; the annotation `robotosecret.dev/refresh` is set on each, and what the status then says leaves. A request was carried out once
//! the status names it as `lastHandledRefresh`, or a later one of somebody else. Nothing but that annotation is written.

use std::{collections::BTreeMap, pin::pin, process::ExitCode, time::Duration};

use futures::{StreamExt, TryStreamExt, future::join_all};
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
    runtime::watcher::{self, Error as WatchError, Event, watcher},
};
use robotosecret::api::{REFRESH_ANNOTATION, RobotoPush, RobotoSecret};
use serde_json::json;

use super::{
    MANAGER,
    access::{Chosen, Connection, Failure, failure},
    kinds::{Content, Kind, Names},
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

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// All is well; what changed.
    Well { changed: Option<&'static str>, says: String },
    /// It was asked, and something isn't well.
    Bad(String),
    /// It will not be carried out.
    Never(&'static str),
}

type Key = (String, String);

/// Does it.
pub async fn run(connection: &Connection, names: &[String], wait: Option<Duration>) -> Result<ExitCode, Failure> {
    let Chosen { secrets, pushes, missing } = connection.chosen(names).await?;
    table::complain(&missing);
    if secrets.is_empty() && pushes.is_empty() && missing.is_empty() {
        // As kubectl says it.
        let place = if connection.everywhere { String::new() } else { format!(" in namespace {}", table::clean(&connection.namespace)) };
        eprintln!("No RobotoSecrets found{place}.");
        return Ok(ExitCode::SUCCESS);
    }
    let id = Timestamp::now().to_string();
    let mut secrets = ask(connection, &secrets, &id, wait.is_none()).await?;
    let mut pushes = ask(connection, &pushes, &id, wait.is_none()).await?;
    let failed = !missing.is_empty();
    let Some(limit) = wait else { return Ok(ExitCode::from(u8::from(failed))) };
    let names = Names::of(names);
    let both = futures::future::try_join(
        watched::<RobotoSecret>(connection, &names.secrets, &mut secrets),
        watched::<RobotoPush>(connection, &names.pushes, &mut pushes),
    );
    if let Ok(bad) = tokio::time::timeout(limit, both).await {
        let (one, other) = bad?;
        return Ok(ExitCode::from(u8::from(one || other || failed)));
    }
    for key in secrets.keys().chain(pushes.keys()) {
        say(connection, key, &format!("not carried out within {}s; does the controller run, and serve this namespace?", limit.as_secs_f64()))?;
    }
    Ok(ExitCode::from(TIMEOUT))
}

/// Makes the request of each.
async fn ask<K: Kind>(connection: &Connection, resources: &[K], id: &str, tells: bool) -> Result<BTreeMap<Key, Request>, Failure> {
    let mut waiting = BTreeMap::new();
    for some in resources.chunks(AT_ONCE) {
        for (resource, patched) in some.iter().zip(join_all(some.iter().map(|resource| request(connection, resource, id))).await) {
            let what = || format!("the {} {} can't be annotated", K::kind(&()), resource.name_any());
            let patched = patched.map_err(|error| failure(&what(), &error))?;
            let before = resource.annotations().get(REFRESH_ANNOTATION).cloned();
            waiting.insert(key(&patched), Request { id: id.to_owned(), before, content: resource.content() });
            if tells {
                let rest = if patched.is_suspended() { "; it is suspended, so nothing is read before it is resumed" } else { "" };
                say(connection, &key(&patched), &format!("refresh requested{rest}"))?;
            }
        }
    }
    Ok(waiting)
}

async fn request<K: Kind>(connection: &Connection, resource: &K, id: &str) -> Result<K, kube::Error> {
    let api: Api<K> = Api::namespaced(connection.client.clone(), &resource.namespace().unwrap_or_default());
    let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    api.patch(&resource.name_any(), &parameters, &Patch::Merge(json!({"metadata": {"annotations": {REFRESH_ANNOTATION: id}}}))).await
}

fn key(resource: &impl Kind) -> Key {
    (resource.namespace().unwrap_or_default(), resource.shown())
}

fn say(connection: &Connection, (namespace, name): &Key, what: &str) -> std::io::Result<()> {
    let name = if connection.everywhere { format!("{namespace}/{name}") } else { name.clone() };
    table::print(&format!("{name}: {what}\n"))
}

/// Watches until every request was carried out. Whether one ended badly.
async fn watched<K: Kind>(connection: &Connection, names: &[String], waiting: &mut BTreeMap<Key, Request>) -> Result<bool, Failure> {
    let api: Api<K> = if connection.everywhere { Api::all(connection.client.clone()) } else { connection.api() };
    let config = match names {
        // Whoever may see this one alone can watch it, too.
        [name] => watcher::Config::default().fields(&format!("metadata.name={name}")),
        _ => watcher::Config::default(),
    };
    let mut events = pin!(watcher(api, config).map(|event| event.map_err(|error| watch_failure::<K>(&error))).boxed());
    let mut bad = false;
    while !waiting.is_empty() {
        let event = match events.try_next().await {
            Ok(Some(event)) => event,
            Ok(None) => return Err(Failure::Silent(format!("{} can't be watched: the watch ended", K::plural(&())))),
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
fn watch_failure<K: Kind>(error: &WatchError) -> Option<Failure> {
    let (WatchError::InitialListFailed(error) | WatchError::WatchStartFailed(error) | WatchError::WatchFailed(error)) = error else { return None };
    match failure(&format!("{} can't be watched", K::plural(&())), error) {
        failure @ (Failure::Forbidden(_) | Failure::Missing(_)) => Some(failure),
        _ => None,
    }
}

/// What came of the request, if it was carried out.
fn result<K: Kind>(resource: &K, request: &Request) -> Option<Outcome> {
    if resource.is_suspended() {
        return Some(Outcome::Never("it is suspended; resume it"));
    }
    let handled = resource.told().handled?;
    let asked = resource.annotations().get(REFRESH_ANNOTATION);
    // Somebody may have asked once more meanwhile; a list may be older than the request.
    let later = asked.is_some_and(|asked| *asked != request.id && Some(asked) != request.before.as_ref() && asked == handled);
    if handled != request.id && !later {
        return None;
    }
    let standing = Standing::of(resource);
    let says = status::line(&standing);
    Some(if standing.well { Outcome::Well { changed: (resource.content() != request.content).then_some(K::CHANGES), says } } else { Outcome::Bad(says) })
}

fn told(result: &Outcome) -> String {
    match result {
        Outcome::Well { changed: Some(what), says } => format!("refreshed, {what} changed: {says}"),
        Outcome::Well { changed: None, says } => format!("refreshed, nothing changed: {says}"),
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
        let request = Request { id: "2".into(), before: Some("1".into()), content: resource("1", "1", "True", changed).content() };
        let well = |changed| Some(Outcome::Well { changed, says: "Mirrored: m".into() });
        assert_eq!(result(&resource("1", "1", "True", changed), &request), None, "a list that is older than the request");
        assert_eq!(result(&resource("2", "1", "True", changed), &request), None);
        assert_eq!(result(&resource("2", "2", "True", changed), &request), well(None));
        assert_eq!(result(&resource("3", "1", "True", changed), &request), None);
        assert_eq!(result(&resource("3", "3", "True", changed), &request), well(None), "somebody asked after us");
        assert_eq!(result(&resource("2", "2", "True", "2026-01-01T00:00:09Z"), &request), well(Some("the Secret")));
        assert_eq!(result(&resource("2", "2", "False", changed), &request), Some(Outcome::Bad("Mirrored: m".into())));
        let mut suspended = resource("2", "1", "True", changed);
        suspended.spec.suspend = true;
        assert_eq!(result(&suspended, &request).map(|result| told(&result)).as_deref(), Some("not refreshed: it is suspended; resume it"));
    }
}
