//! The floor: what the API server needs for the writes alone. A number of resources enters, the time of one apply of a Secret and one apply of
//! a status each leaves. No controller may run meanwhile, and no store is asked.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use serde_json::{Value, json};
use testbed::install;

use super::world::{CONCURRENCY, Item, KEY, RobotoSecret, World};

const NAMESPACE: &str = "floor";

/// Makes the resources, outside the measured time, and then writes a Secret and a status for each, as large as the controller's own.
pub async fn measure(world: &World, count: usize) -> Result<Duration> {
    install::namespace(&world.client, NAMESPACE).await?;
    let items = (0..count).map(|number| Item { namespace: NAMESPACE.to_owned(), ..Item::new(number, format!("aws.sm://floor/{number}"), String::new()) });
    world.create(items.map(|item| item.resource())).await?;
    let secrets: Api<PartialObjectMeta<Secret>> = Api::namespaced(world.client.clone(), NAMESPACE);
    let resources: Api<RobotoSecret> = Api::namespaced(world.client.clone(), NAMESPACE);
    let made: Api<PartialObjectMeta<RobotoSecret>> = Api::namespaced(world.client.clone(), NAMESPACE);
    let made = made.list(&ListParams::default()).await?.items;
    let names: Vec<(String, String)> = made.into_iter().filter_map(|one| Some((one.metadata.name?, one.metadata.uid?))).collect();
    let started = Instant::now();
    let writes = names.iter().map(|(name, uid)| {
        let (secrets, resources) = (&secrets, &resources);
        async move {
            let parameters = PatchParams::apply(&format!("floor/{name}")).force();
            let written = secrets.patch(name, &parameters, &Patch::Apply(secret(name, uid))).await.with_context(|| format!("writing the Secret {name}"))?;
            let status = status(name, written.metadata.uid.as_deref(), written.metadata.resource_version.as_deref());
            let parameters = PatchParams::apply("floor-status").force();
            resources.patch_status(name, &parameters, &Patch::Apply(status)).await.with_context(|| format!("writing the status of {name}"))?;
            anyhow::Ok(())
        }
    });
    stream::iter(writes).buffer_unordered(CONCURRENCY).try_collect::<()>().await?;
    Ok(started.elapsed())
}

fn secret(name: &str, uid: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            // Not our mark: a controller that is started later shall not take them for its own.
            "labels": {"floor.robotosecret.dev/managed": "true"},
            "annotations": {"floor.robotosecret.dev/owner": name},
            "ownerReferences": [{"apiVersion": "robotosecret.dev/v1alpha1", "kind": "RobotoSecret", "name": name, "uid": uid, "controller": true}],
        },
        "type": "Opaque",
        "data": {KEY: BASE64_STANDARD.encode(format!("value of {name}, as long as the others"))},
    })
}

fn status(name: &str, uid: Option<&str>, resource_version: Option<&str>) -> Value {
    let now = "2026-01-01T00:00:00Z";
    let condition = |type_: &str, status: &str, reason: &str| {
        let message = "1 key from 1 secret";
        json!({"type": type_, "status": status, "reason": reason, "message": message, "observedGeneration": 1, "lastTransitionTime": now})
    };
    json!({
        "apiVersion": "robotosecret.dev/v1alpha1",
        "kind": "RobotoSecret",
        "metadata": {"name": name},
        "status": {
            "observedGeneration": 1,
            "conditions": [condition("Ready", "True", "Mirrored"), condition("Fresh", "True", "Verified")],
            "lastCheckTime": now,
            "lastChangeTime": now,
            "sourceCount": 1,
            "sources": [{
                "uri": format!("aws.sm://floor/{name}"),
                "arn": format!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:floor/{name}-AbCdEf"),
                "version": "01234567-89ab-cdef-0123-456789abcdef",
                "createdTime": now,
                "lastChangedTime": now,
            }],
            "target": {"name": name, "uid": uid, "resourceVersion": resource_version, "keyCount": 1, "keys": [KEY]},
        },
    })
}
