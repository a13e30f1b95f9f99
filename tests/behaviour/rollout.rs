//! Restarts of workloads after a rotation: when one is made, when none is, and what the controller's account may change in a workload.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use robotosecret::api::status::RolloutStatus;
use serde_json::{Value, json};

use crate::support::{SECONDS, Scene, WITHIN_TTL, apply_object, no_status, says, scene, scene_before_controller, until, world};

const ENABLED: &[&str] = &["rollout.enabled=true"];
const ALLOWED: &[&str] = &["--allow-rollout"];
/// A rotation is noticed, the burst is over, and the restart is made.
const RESTARTED: Duration = Duration::from_secs(90);
const ANNOTATION: &str = "robotosecret.dev/restarted-for";

/// Runs a test with a controller that may restart workloads.
async fn granted(name: &str, test: impl AsyncFnOnce(&mut Scene)) {
    scene_before_controller(name, async |s| {
        s.provide(&["*"]).await;
        start(s).await;
        test(s).await;
    })
    .await;
}

async fn start(s: &mut Scene) {
    let kubeconfig = s.account(ENABLED, |_| true).await;
    s.start_controller_as(&kubeconfig, ALLOWED);
    s.controller_ready().await;
}

fn workload(kind: &str, name: &str, namespace: &str) -> Value {
    let labels = json!({"app": name});
    let mut spec = json!({
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels, "annotations": {"note": "theirs"}},
            "spec": {"containers": [{"name": "app", "image": "registry.example.com/app:1", "env": [{"name": "A", "value": "b"}]}]},
        },
    });
    if kind == "StatefulSet" {
        spec["serviceName"] = json!(name);
    }
    json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": namespace, "labels": labels}, "spec": spec})
}

async fn deploy(s: &Scene, name: &str) {
    apply_object(&s.client, &workload("Deployment", name, &s.namespace)).await.unwrap();
}

fn deployments(s: &Scene) -> Api<Deployment> {
    Api::namespaced(s.client.clone(), &s.namespace)
}

/// How often a Deployment's pods were restarted, and what for the last time. Kubernetes counts each change of its spec.
async fn restarts(s: &Scene, name: &str) -> (i64, Option<String>) {
    let found = deployments(s).get(name).await.unwrap();
    let annotations = found.spec.unwrap().template.metadata.unwrap().annotations.unwrap_or_default();
    assert_eq!(annotations.get("note").map(String::as_str), Some("theirs"));
    (found.metadata.generation.unwrap() - 1, annotations.get(ANNOTATION).cloned())
}

async fn mirror(s: &Scene, name: &str, more: &str) {
    s.apply(name, &format!("{{uri: 'aws.sm://{}', rollout: [{{kind: Deployment, name: web}}]{more}}}", s.path("db"))).await;
    s.ready(name).await;
}

/// Waits until the restarts that a resource asked for were made, for another version of the Secret than before. Returns which.
async fn rolled_out(s: &Scene, name: &str, before: &str) -> String {
    let done = async || match s.status(name).await.rollout {
        Some(RolloutStatus { pending_since: None, pending_for: None, done_for: Some(version) }) => Some(version).filter(|version| version != before),
        _ => None,
    };
    until(&format!("the rollout of {name} is done; see {}", s.controller().process.log_path().display()), RESTARTED, done).await
}

/// Waits until a resource's status says that a restart is to come.
async fn pending(s: &Scene, name: &str) -> String {
    let pending = async || s.status(name).await.rollout.filter(|rollout| rollout.pending_since.is_some())?.pending_for;
    until(&format!("a restart for {name} is to come"), WITHIN_TTL, pending).await
}

async fn version(s: &Scene, secret: &str) -> String {
    s.meta(secret).await.resource_version.unwrap()
}

#[tokio::test]
async fn a_rotation_restarts_every_kind_of_workload_once_and_nothing_else_does() {
    granted("rollout", async |s| {
        s.put_secret("db", &s.value("one")).await;
        for (kind, name) in [("Deployment", "web"), ("StatefulSet", "store"), ("DaemonSet", "agent"), ("Deployment", "other")] {
            apply_object(&s.client, &workload(kind, name, &s.namespace)).await.unwrap();
        }
        mirror(s, "db", ", ttl: 10s").await;
        s.patch(
            "db",
            json!({"spec": {"rollout": [{"kind": "Deployment", "name": "web"}, {"kind": "StatefulSet", "name": "store"}, {"kind": "DaemonSet", "name": "agent"}]}}),
        )
        .await;
        s.ready("db").await;
        // The first mirroring, an edit, drift and a foreign label ask for nothing: that would stand in the status.
        let calm = async || assert_eq!((s.status("db").await.rollout, restarts(s, "web").await), (None, (0, None)));
        calm().await;
        let first = version(s, "db").await;
        s.patch("db", json!({"spec": {"target": {"labels": {"team": "shop"}, "annotations": {"note": "new"}}}})).await;
        s.ready("db").await;
        assert_ne!(version(s, "db").await, first);
        calm().await;
        s.tamper("db", "somebody", json!({"data": {"value": "dGhlaXJz"}})).await;
        s.event("db", "changed by somebody and put right again").await;
        calm().await;
        s.tamper("db", "somebody", json!({"metadata": {"labels": {"foreign": "yes"}}})).await;
        s.refresh("db", "1").await;
        let handled = async || (s.status("db").await.last_handled_refresh.as_deref() == Some("1")).then_some(());
        until("the refresh is handled", SECONDS, handled).await;
        calm().await;
        // Nor does a restart of the controller, or a pause.
        s.stop_controller();
        s.tamper("db", "somebody", json!({"metadata": {"labels": {"foreign": "no"}}})).await;
        start(s).await;
        s.rechecked(&s.path("db"), 1).await;
        s.refresh("db", "2").await;
        let handled = async || (s.status("db").await.last_handled_refresh.as_deref() == Some("2")).then_some(());
        until("the refresh is handled", SECONDS, handled).await;
        s.patch("db", json!({"spec": {"suspend": true}})).await;
        s.condition("db", "Fresh", "Unknown Suspended", SECONDS).await;
        s.patch("db", json!({"spec": {"suspend": false}})).await;
        s.condition("db", "Fresh", "True Verified", SECONDS).await;
        assert_eq!((s.status("db").await.rollout, restarts(s, "web").await), (None, (0, None)));

        s.put_secret("db", &s.value("two")).await;
        s.holds("db", &[("value", &s.value("two"))], WITHIN_TTL).await;
        let written = version(s, "db").await;
        assert_eq!(rolled_out(s, "db", "").await, written);
        assert_eq!((restarts(s, "web").await, restarts(s, "other").await), ((1, Some(written.clone())), (0, None)));
        let stores: Api<StatefulSet> = Api::namespaced(s.client.clone(), &s.namespace);
        let agents: Api<DaemonSet> = Api::namespaced(s.client.clone(), &s.namespace);
        let template = |template: k8s_openapi::api::core::v1::PodTemplateSpec| template.metadata.unwrap().annotations.unwrap()[ANNOTATION].clone();
        assert_eq!(template(stores.get("store").await.unwrap().spec.unwrap().template), written);
        assert_eq!(template(agents.get("agent").await.unwrap().spec.unwrap().template), written);
        for told in ["the Deployment web is restarted: the Secret db changed", "the StatefulSet store is restarted", "the DaemonSet agent is restarted"] {
            says(&s.event("db", told).await, "RolledOut");
        }
        assert!(s.controller().metric("robotosecret_kube_writes_total", r#"kind="Workload",outcome="ok""#) >= 3.0);
        assert!(s.status("db").await.is_true("Ready"));
        // And only once.
        s.rechecked(&s.path("db"), 2).await;
        assert_eq!(restarts(s, "web").await, (1, Some(written)));
    })
    .await;
}

#[tokio::test]
async fn a_burst_of_rotations_of_what_two_resources_mirror_makes_one_restart() {
    granted("rollout-burst", async |s| {
        s.put_secret("db", &s.value("0")).await;
        deploy(s, "web").await;
        for name in ["one", "two"] {
            mirror(s, name, ", ttl: 1h").await;
        }
        for number in 1..=3 {
            let value = s.value(&number.to_string());
            s.put_secret("db", &value).await;
            for name in ["one", "two"] {
                s.refresh(name, &number.to_string()).await;
            }
            for name in ["one", "two"] {
                s.holds(name, &[("value", &value)], SECONDS).await;
                pending(s, name).await;
            }
        }
        assert_eq!(restarts(s, "web").await.0, 0, "restarted in the middle of the burst");
        let (one, two) = (rolled_out(s, "one", "").await, rolled_out(s, "two", "").await);
        let (count, last) = restarts(s, "web").await;
        assert_eq!(count, 1);
        assert!(last.as_ref() == Some(&one) || last.as_ref() == Some(&two), "{last:?} is neither {one} nor {two}");
        assert_eq!(s.told("one", "RolledOut").await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_restart_is_made_once_although_the_controller_is_killed_at_any_moment() {
    scene_before_controller("rollout-killed", async |s| {
        s.provide(&["*"]).await;
        let whole = s.account(ENABLED, |_| true).await;
        s.start_controller_as(&whole, ALLOWED);
        s.put_secret("db", &s.value("one")).await;
        deploy(s, "web").await;
        mirror(s, "db", "").await;

        // Between the status and the restart.
        s.put_secret("db", &s.value("two")).await;
        let need = pending(s, "db").await;
        s.kill_controller();
        assert_eq!(restarts(s, "web").await, (0, None), "killed too late");
        s.start_controller_as(&whole, ALLOWED);
        assert_eq!(rolled_out(s, "db", "").await, need);
        assert_eq!(restarts(s, "web").await, (1, Some(need.clone())));
        s.kill_controller();

        // Between the Secret and the status.
        let crippled = s.account(ENABLED, no_status).await;
        s.put_secret("db", &s.value("three")).await;
        s.start_controller_as(&crippled, ALLOWED);
        s.holds("db", &[("value", &s.value("three"))], WITHIN_TTL).await;
        let written = version(s, "db").await;
        s.kill_controller();
        assert_eq!(s.status("db").await.rollout.and_then(|rollout| rollout.pending_for), None, "the status was written after all");
        let whole = s.account(ENABLED, |_| true).await;
        s.start_controller_as(&whole, ALLOWED);
        assert_eq!(rolled_out(s, "db", &need).await, written);
        assert_eq!(restarts(s, "web").await, (2, Some(written.clone())));

        // Nobody dies, and the status can't be written for a while. Of tags only a living process knows whether they are others.
        deploy(s, "tagged").await;
        let tag = async |value: &str| {
            let tag = aws_sdk_secretsmanager::types::Tag::builder().key("team").value(value).build();
            world().moto.secrets_manager().tag_resource().secret_id(s.path("db")).tags(tag).send().await.unwrap();
        };
        tag("shop").await;
        let entry = format!("{{key: tags, uri: 'aws.sm://{}', metadata: tags}}", s.path("db"));
        s.apply("tags", &format!("{{data: [{entry}], rollout: [{{kind: Deployment, name: tagged}}]}}")).await;
        s.ready("tags").await;
        s.account(ENABLED, no_status).await;
        s.put_secret("db", &s.value("four")).await;
        tag("sales").await;
        s.holds("tags", &[("tags", r#"{"team":"sales"}"#)], WITHIN_TTL).await;
        s.holds("db", &[("value", &s.value("four"))], WITHIN_TTL).await;
        let failures = async || (s.controller().metric("robotosecret_kube_writes_total", r#"kind="Status",outcome="error""#) >= 3.0).then_some(());
        until("the status can't be written", SECONDS, failures).await;
        s.account(ENABLED, |_| true).await;
        let last = version(s, "db").await;
        assert_eq!(rolled_out(s, "db", &written).await, last);
        assert_eq!(restarts(s, "web").await, (3, Some(last)));
        let last = version(s, "tags").await;
        assert_eq!(rolled_out(s, "tags", "").await, last);
        assert_eq!(restarts(s, "tagged").await, (1, Some(last)));
    })
    .await;
}

#[tokio::test]
async fn a_missing_workload_is_told_once_holds_nothing_up_and_is_restarted_when_it_is_there() {
    granted("rollout-missing", async |s| {
        s.put_secret("db", &s.value("one")).await;
        deploy(s, "there").await;
        mirror(s, "db", "").await;
        s.patch("db", json!({"spec": {"rollout": [{"kind": "Deployment", "name": "web"}, {"kind": "Deployment", "name": "there"}]}})).await;
        s.ready("db").await;
        s.put_secret("db", &s.value("two")).await;
        let note = s.event("db", "RolloutFailed").await;
        says(&note, "the Deployment web could not be restarted for the changed Secret db: there is none of that name");
        // Not an event a try, and the other one does not wait.
        let tries = async || (s.controller().metric("robotosecret_kube_writes_total", r#"kind="Workload",outcome="error""#) >= 3.0).then_some(());
        until("it is tried again", SECONDS, tries).await;
        assert_eq!(s.told("db", "RolloutFailed").await, 1);
        until("the other is restarted", SECONDS, async || (restarts(s, "there").await.0 == 1).then_some(())).await;
        let status = s.status("db").await;
        assert!(status.is_true("Ready") && status.is_true("Fresh") && status.rollout.unwrap().pending_since.is_some());
        // Mirroring goes on.
        s.put_secret("db", &s.value("three")).await;
        s.holds("db", &[("value", &s.value("three"))], WITHIN_TTL).await;
        deploy(s, "web").await;
        let written = version(s, "db").await;
        assert_eq!(rolled_out(s, "db", "").await, written);
        assert_eq!(restarts(s, "web").await, (1, Some(written)));
        s.event("db", "the Deployment web is restarted").await;
    })
    .await;
}

#[tokio::test]
async fn a_rollout_that_is_not_granted_is_refused_in_words_and_the_secret_is_mirrored_all_the_same() {
    scene("rollout-refused", async |s| {
        s.put_secret("db", &s.value("one")).await;
        deploy(s, "web").await;
        mirror(s, "db", "").await;
        let refused = "nothing is restarted, since the controller runs without --allow-rollout (chart: rollout.enabled)";
        says(&s.ready("db").await, &format!("1 key from 1 source; {refused}"));
        says(&s.event("db", "RolloutRefused").await, "in the chart that is rollout.enabled");
        s.put_secret("db", &s.value("two")).await;
        s.holds("db", &[("value", &s.value("two"))], WITHIN_TTL).await;
        s.rechecked(&s.path("db"), 1).await;
        says(&s.ready("db").await, refused);
        assert_eq!((s.told("db", "RolloutRefused").await, s.told("db", "Roll").await), (1, 1));
        // With the permission it is no longer said, and what was refused is not made up for.
        s.stop_controller();
        start(s).await;
        let unsaid = async || (!s.ready("db").await.contains("restarted")).then_some(());
        until("the refusal is taken back", SECONDS, unsaid).await;
        assert_eq!((restarts(s, "web").await, s.status("db").await.rollout), ((0, None), None));
        s.put_secret("db", &s.value("three")).await;
        rolled_out(s, "db", "").await;
        assert_eq!(restarts(s, "web").await.0, 1);
    })
    .await;
}

#[tokio::test]
async fn the_controllers_account_can_change_nothing_in_a_workload_but_its_annotation() {
    scene_before_controller("rollout-guard", async |s| {
        let kubeconfig = s.account(ENABLED, |_| true).await;
        deploy(s, "web").await;
        let bare = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "bare", "namespace": s.namespace}, "spec": {
            "selector": {"matchLabels": {"app": "bare"}},
            "template": {"metadata": {"labels": {"app": "bare"}}, "spec": {"containers": [{"name": "app", "image": "registry.example.com/app:1"}]}},
        }});
        apply_object(&s.client, &bare).await.unwrap();
        let config = Config::from_custom_kubeconfig(Kubeconfig::read_from(&kubeconfig).unwrap(), &KubeConfigOptions::default()).await.unwrap();
        let theirs = deployments(s);
        let ours: Api<Deployment> = Api::namespaced(Client::try_from(config).unwrap(), &s.namespace);
        let patch = async |name: &str, patch: &Value| ours.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        let template = |template: Value| json!({"spec": {"template": template}});
        let spec = |spec: Value| template(json!({"spec": spec}));
        let annotations = |annotations: Value| template(json!({"metadata": {"annotations": annotations}}));
        // The API server learns of a policy, and of a role, a moment after it was made.
        let image = spec(json!({"containers": [{"name": "app", "image": "registry.example.com/evil:1"}]}));
        let guarded = async || {
            let refused = ours.patch("web", &PatchParams::default().dry_run(), &Patch::Merge(&image)).await;
            refused.is_err_and(|error| error.to_string().contains("and this changes the pod template")).then_some(())
        };
        until("the role and the policy hold", SECONDS, guarded).await;
        let before = theirs.get("web").await.unwrap();

        let forbidden = [
            (image, "the pod template"),
            (spec(json!({"serviceAccountName": "default"})), "the pod template"),
            (spec(json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]})), "the pod template"),
            (spec(json!({"terminationGracePeriodSeconds": 7})), "the pod template"),
            (annotations(json!({"other": "x"})), "the pod template's annotations"),
            (annotations(json!({ANNOTATION: "8", "other": "x"})), "the pod template's annotations"),
            (annotations(json!({"note": "ours"})), "the pod template's annotations"),
            (annotations(json!({"note": null})), "the pod template's annotations"),
            (annotations(Value::Null), "the pod template's annotations"),
            (template(json!({"metadata": {"labels": {"more": "x"}}})), "the pod template's metadata"),
            (json!({"spec": {"replicas": 7}}), "the spec"),
            (json!({"spec": {"paused": true}}), "the spec"),
            (json!({"spec": {"minReadySeconds": 7}}), "the spec"),
            (json!({"metadata": {"annotations": {ANNOTATION: "8"}}}), "the annotations"),
            (json!({"metadata": {"labels": {"more": "x"}}}), "the metadata"),
            (json!({"metadata": {"labels": null}}), "the metadata"),
            (json!({"metadata": {"finalizers": ["example.com/stay"]}}), "the metadata"),
            (json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "y"}]}}), "the metadata"),
        ];
        for (change, what) in &forbidden {
            let Err(kube::Error::Api(refused)) = patch("web", change).await else { panic!("{change} went through") };
            assert_eq!((refused.code, refused.reason.as_str()), (403, "Forbidden"), "{change}: {}", refused.message);
            says(&refused.message, &format!("and this changes {what}"));
        }
        // Neither is there a right to look, to make, or to remove.
        let code = |error: kube::Error| if let kube::Error::Api(status) = error { status.code } else { 0 };
        assert_eq!(ours.get("web").await.map_err(code).unwrap_err(), 403);
        let another = serde_json::from_value(workload("Deployment", "another", &s.namespace)).unwrap();
        assert_eq!(ours.create(&PostParams::default(), &another).await.map_err(code).unwrap_err(), 403);
        assert_eq!(ours.delete("web", &DeleteParams::default()).await.map_err(code).unwrap_err(), 403);
        let apply = workload("Deployment", "another", &s.namespace);
        assert_eq!(ours.patch("another", &PatchParams::apply("robotosecret"), &Patch::Apply(&apply)).await.map_err(code).unwrap_err(), 403);
        let scale = Patch::Merge(json!({"spec": {"replicas": 7}}));
        assert_eq!(ours.patch_scale("web", &PatchParams::default(), &scale).await.map_err(code).unwrap_err(), 403);
        // Kubernetes itself still writes its status, and its revision into the annotations.
        let untouched = theirs.get("web").await.unwrap();
        let kept = |of: &Deployment| (of.spec.clone(), of.metadata.labels.clone(), of.metadata.finalizers.clone(), of.metadata.owner_references.clone());
        assert_eq!(kept(&untouched), kept(&before));
        assert_eq!(untouched.annotations().get(ANNOTATION), None);

        // Ours can be set, changed and taken away, also where there was no annotation yet.
        for name in ["web", "bare"] {
            for value in [json!("8"), json!("9"), Value::Null] {
                let changed = patch(name, &annotations(json!({ANNOTATION: value}))).await.unwrap_or_else(|error| panic!("{name}: {value}: {error}"));
                let found = changed.spec.unwrap().template.metadata.unwrap().annotations.unwrap_or_default();
                assert_eq!(found.get(ANNOTATION).map(String::as_str), value.as_str());
            }
        }
        // The other kinds are guarded alike; that their annotation can be set, a rotation shows.
        for kind in ["StatefulSet", "DaemonSet"] {
            apply_object(&s.client, &workload(kind, "other", &s.namespace)).await.unwrap();
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", kind));
            let others: Api<DynamicObject> = Api::namespaced_with(ours.clone().into_client(), &s.namespace, &resource);
            for (change, _) in forbidden.iter().filter(|(_, what)| *what != "the spec") {
                let refused = others.patch("other", &PatchParams::default(), &Patch::Merge(change)).await;
                assert_eq!(refused.map_err(code).map(|_| ()), Err(403), "{kind}: {change}");
            }
        }
        // And everybody else changes what they like.
        let mine = annotations(json!({"note": "changed"}));
        theirs.patch("web", &PatchParams::default(), &Patch::Merge(&mine)).await.unwrap();
    })
    .await;
}
