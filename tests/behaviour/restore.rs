//! What a backup brings back: resources and Secrets that were made anew by another hand, as backup tools restore them.

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use robotosecret::api::RobotoSecret;
use serde_json::{Value, json};

use crate::support::{SECONDS, Scene, WITHIN_TTL, scene, until};

/// Objects as a backup has them, and as they come back from it: without what the API server gives out.
struct Backup {
    resource: Value,
    secret: Value,
}

fn restorable(mut object: Value, also: &[&str]) -> Value {
    let metadata = object["metadata"].as_object_mut().unwrap();
    for field in ["uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"].iter().chain(also) {
        metadata.remove(*field);
    }
    object
}

impl Backup {
    /// Takes the backup, stops the controller, and deletes both for good.
    async fn then_lose_it(s: &mut Scene, name: &str) -> Self {
        let resource = serde_json::to_value(s.resources().get(name).await.unwrap()).unwrap();
        let secret = serde_json::to_value(s.secrets().get(name).await.unwrap()).unwrap();
        s.resources().delete(name, &DeleteParams::background()).await.unwrap();
        // Garbage collection may be quicker.
        let _ = s.secrets().delete(name, &DeleteParams::default()).await;
        let gone = async || (s.resources().get_opt(name).await.unwrap().is_none() && s.secrets().get_opt(name).await.unwrap().is_none()).then_some(());
        until(&format!("{name} is gone"), WITHIN_TTL * 2, gone).await;
        Self { resource, secret }
    }
}

async fn restore<K>(api: &Api<K>, object: Value)
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let parameters = PostParams { field_manager: Some("velero-server".into()), ..PostParams::default() };
    api.create(&parameters, &serde_json::from_value(object).unwrap()).await.unwrap();
}

/// A status is no part of what is created.
async fn restore_status(s: &Scene, name: &str, status: &Value) {
    let patch = Patch::Merge(json!({"status": status}));
    s.resources().patch_status(name, &PatchParams { field_manager: Some("velero-server".into()), ..PatchParams::default() }, &patch).await.unwrap();
}

#[tokio::test]
async fn a_restored_secret_is_taken_up_and_gets_the_present_value() {
    scene("restored", async |s| {
        // With its status and without, each in another order.
        for (name, with_status) in [("secret-first", false), ("resource-first", true)] {
            s.put_secret(name, &s.value("old")).await;
            s.apply(name, &format!("{{uri: 'aws.sm://{}', ttl: 1h}}", s.path(name))).await;
            s.ready(name).await;
            s.stop_controller();
            let Backup { resource, secret } = Backup::then_lose_it(s, name).await;
            s.put_secret(name, &s.value("new")).await;
            let (status, resource) = (resource["status"].clone(), restorable(resource, &[]));
            // As Velero does it: without owners.
            let secret = restorable(secret, &["ownerReferences"]);
            if with_status {
                restore(&s.resources(), resource).await;
                restore_status(s, name, &status).await;
                restore::<Secret>(&s.secrets(), secret).await;
                s.start_controller(&[]).await;
            } else {
                // While the controller runs: the Secret is nobody's at first.
                s.start_controller(&[]).await;
                restore::<Secret>(&s.secrets(), secret).await;
                restore(&s.resources(), resource).await;
            }
            let uid = s.meta(name).await.uid;
            s.holds(name, &[("value", &s.value("new"))], SECONDS).await;
            s.ready(name).await;
            let (meta, owner) = (s.meta(name).await, s.resources().get(name).await.unwrap());
            assert_eq!(meta.uid, uid, "{name} was made anew");
            assert_eq!(meta.owner_references.unwrap_or_default().iter().map(|owner| &owner.uid).collect::<Vec<_>>(), [&owner.uid().unwrap()]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_restored_secret_of_a_dead_owner_gives_way_to_a_new_one() {
    scene("restored-owned", async |s| {
        s.put_secret("db", &s.value("old")).await;
        s.apply("db", &format!("uri: aws.sm://{}", s.path("db"))).await;
        s.ready("db").await;
        let Backup { resource, secret } = Backup::then_lose_it(s, "db").await;
        s.put_secret("db", &s.value("new")).await;
        restore::<Secret>(&s.secrets(), restorable(secret, &[])).await;
        restore::<RobotoSecret>(&s.resources(), restorable(resource, &[])).await;
        // The garbage collector's turn, and then the controller's.
        s.holds("db", &[("value", &s.value("new"))], WITHIN_TTL * 3).await;
        s.ready("db").await;
        let owner = s.resources().get("db").await.unwrap().uid();
        assert_eq!(s.meta("db").await.owner_references.unwrap()[0].uid, owner.unwrap());
    })
    .await;
}

#[tokio::test]
async fn a_restored_shared_secret_keeps_the_keys_of_others_and_gets_ours_when_they_are_free() {
    scene("restored-merged", async |s| {
        s.put_secret("db", &s.value("old")).await;
        let shared = json!({"metadata": {"name": "db"}, "stringData": {"theirs": "kept"}});
        s.secrets().create(&PostParams::default(), &serde_json::from_value(shared).unwrap()).await.unwrap();
        s.apply("db", &format!("{{data: [{{key: ours, uri: 'aws.sm://{}'}}], target: {{creationPolicy: Merge}}}}", s.path("db"))).await;
        s.ready("db").await;
        let Backup { resource, secret } = Backup::then_lose_it(s, "db").await;
        s.put_secret("db", &s.value("new")).await;
        restore::<Secret>(&s.secrets(), restorable(secret, &[])).await;
        restore::<RobotoSecret>(&s.resources(), restorable(resource, &["finalizers"])).await;
        // The tool that restored the key has it now.
        let message = s.condition("db", "Ready", "False TargetConflict", SECONDS).await;
        assert!(message.contains("velero-server") && message.contains("ours"), "{message}");
        s.tamper("db", "kubectl-edit", json!({"data": {"ours": null}})).await;
        s.holds("db", &[("ours", &s.value("new")), ("theirs", "kept")], WITHIN_TTL * 2).await;
        s.ready("db").await;
    })
    .await;
}
