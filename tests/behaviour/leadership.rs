//! Several controllers: one works, the others are ready to; whatever becomes of it, another one goes on, and never do two write.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::api::{coordination::v1::Lease, rbac::v1::RoleBinding};
use kube::{
    Api,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use testbed::{Controller, audit, process::Signal};

use crate::support::{SECONDS, Scene, WITHIN_TTL, apply_object, emulated_before_controller, says, until, world};

/// How soon somebody else leads after a leader is gone without a word: "in under 20 s".
const REPLACED: Duration = Duration::from_secs(20);

fn leads(controller: &Controller) -> bool {
    controller.metric("robotosecret_leader", "") > 0.0
}

async fn leading(controller: &Controller, limit: Duration) {
    let log = controller.process.log_path().display();
    until(&format!("it leads; see {log}"), limit, async || leads(controller).then_some(())).await;
}

async fn following(controller: &Controller) {
    let log = controller.process.log_path().display();
    until(&format!("it is ready; see {log}"), SECONDS, async || (controller.page("/readyz").0 == 200).then_some(())).await;
    says(&controller.process.log().unwrap(), "following");
    assert!(!leads(controller), "two lead");
}

/// A leader and a follower of the scene's lease, with the chart's rights.
async fn pair(s: &Scene) -> (Controller, Controller) {
    let kubeconfig = s.account(&[], |_| true).await;
    pair_as(s, &kubeconfig, &kubeconfig).await
}

/// The same, each with an account of its own.
async fn pair_as(s: &Scene, leader: &Path, follower: &Path) -> (Controller, Controller) {
    let first = s.candidate(leader, "first");
    leading(&first, SECONDS).await;
    let second = s.candidate(follower, "second");
    let told = async || second.process.log().unwrap().contains("following").then_some(());
    until("the second follows", SECONDS, told).await;
    following(&second).await;
    (first, second)
}

async fn mirror(s: &Scene, name: &str, value: &str) {
    s.put_secret(name, value).await;
    s.apply(name, &json!({"uri": format!("aws.sm://{}", s.path(name))}).to_string()).await;
}

fn leases(s: &Scene) -> Api<Lease> {
    Api::namespaced(s.client.clone(), &s.namespace)
}

async fn scene(name: &str, test: impl AsyncFnOnce(&mut Scene)) {
    emulated_before_controller(name, async |s| {
        s.provide(&["*"]).await;
        test(s).await;
    })
    .await;
}

#[tokio::test]
async fn a_killed_leader_is_replaced_and_the_work_goes_on_without_a_write_or_a_burst() {
    scene("killed-leader", async |s| {
        let (first, second) = pair(s).await;
        for name in ["a", "b", "c"] {
            mirror(s, name, &s.value(name)).await;
        }
        s.all("Ready", "True Mirrored", SECONDS).await;
        let before = s.versions().await;
        s.front.forget_calls();
        s.retire(first, Signal::Kill);
        // What is new is not there before somebody works again.
        let new = s.value("new");
        mirror(s, "new", &new).await;
        s.holds("new", &[("value", &new)], REPLACED).await;
        assert!(leads(&second));
        let mut after = s.versions().await;
        after.remove("new");
        assert_eq!(after, before, "the new leader wrote what was right");
        // The new one, a recheck of the others in one call, and perhaps one more for a TTL that went by.
        let calls = s.front.count(|call| call.action.ends_with("GetSecretValue"));
        assert!(calls <= 4, "{calls} calls after the change of the leader");
        let rotated = s.value("rotated");
        s.put_secret("a", &rotated).await;
        s.holds("a", &[("value", &rotated)], WITHIN_TTL).await;
        s.retire(second, Signal::Term);
    })
    .await;
}

#[tokio::test]
async fn a_leader_that_is_stopped_in_order_hands_over_at_once() {
    scene("stopped-leader", async |s| {
        let (first, second) = pair(s).await;
        mirror(s, "db", &s.value("one")).await;
        s.ready("db").await;
        assert_eq!(s.retire(first, Signal::Term), 0);
        let holder = leases(s).get("robotosecret").await.unwrap().spec.unwrap().holder_identity.unwrap();
        assert!(holder.is_empty() || holder.starts_with("second_"), "the lease was not given back: {holder}");
        // Half of what it takes to wait for the end of a lease, on a machine that is busy.
        leading(&second, Duration::from_secs(5)).await;
        let two = s.value("two");
        mirror(s, "more", &two).await;
        s.holds("more", &[("value", &two)], SECONDS).await;
        let lease = leases(s).get("robotosecret").await.unwrap().spec.unwrap();
        assert!(lease.holder_identity.is_some_and(|holder| holder.starts_with("second_")));
        assert_eq!(lease.lease_transitions, Some(2));
        s.retire(second, Signal::Term);
    })
    .await;
}

/// The rights of the chart once more, for an account of its own, which so loses its lease alone. Returns its kubeconfig.
async fn second_account(s: &Scene, name: &str) -> PathBuf {
    let (namespace, group) = (&s.namespace, "rbac.authorization.k8s.io");
    let metadata = json!({"name": name, "namespace": namespace});
    let subjects = json!([{"kind": "ServiceAccount", "name": name, "namespace": namespace}]);
    let binding = |kind: &str, metadata: Value, role: Value| json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": metadata, "roleRef": role, "subjects": subjects});
    let role = |kind: &str, name: String| json!({"apiGroup": group, "kind": kind, "name": name});
    for object in [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
        binding("ClusterRoleBinding", json!({"name": format!("{namespace}:{name}")}), role("ClusterRole", format!("{namespace}:robotosecret"))),
        binding("RoleBinding", metadata, role("Role", "robotosecret-lease".into())),
    ] {
        apply_object(&s.client, &object).await.unwrap();
    }
    world().plane.kubeconfig_for(namespace, name).unwrap()
}

#[tokio::test]
async fn a_leader_that_stood_still_for_longer_than_its_lease_writes_nothing_any_more() {
    scene("frozen-leader", async |s| {
        let other = s.account(&[], |_| true).await;
        let kubeconfig = second_account(s, "first").await;
        let (first, second) = pair_as(s, &kubeconfig, &other).await;
        let values = ["one", "two", "three"].map(|value| s.value(value));
        mirror(s, "db", &values[0]).await;
        s.holds("db", &[("value", &values[0])], SECONDS).await;
        s.ready("db").await;

        // It stands still with a value on its way to it, which it would write as soon as it goes on.
        let held = s.front.hold_answers();
        s.put_secret("db", &values[1]).await;
        s.front.forget_calls();
        s.refresh("db", "1").await;
        until("the first reads", SECONDS, async || (s.reads(&s.path("db")) > 0).then_some(())).await;
        first.process.signal(Signal::Stop).unwrap();
        s.put_secret("db", &values[2]).await;
        s.front.remove_fault(held);

        leading(&second, REPLACED).await;
        s.holds("db", &[("value", &values[2])], WITHIN_TTL).await;
        s.ready("db").await;
        let credential = audit::credential(&kubeconfig).unwrap();
        let by_first = || world().plane.writes().unwrap().into_iter().filter(|write| write.credential == credential).collect::<Vec<_>>();
        let before = by_first();
        assert!(before.iter().any(|write| write.resource == "secrets" && write.name == "db"), "the record does not show who wrote: {before:?}");

        // It can't even learn that it was replaced: only its own clock tells.
        let bindings: Api<RoleBinding> = Api::namespaced(s.client.clone(), &s.namespace);
        let binding = bindings.get("first").await.unwrap();
        bindings.delete("first", &DeleteParams::default()).await.unwrap();
        let theirs: Api<Lease> = Api::namespaced(testbed::control_plane::client(&kubeconfig).await.unwrap(), &s.namespace);
        until("the rights on the lease are gone", SECONDS, async || theirs.get("robotosecret").await.is_err().then_some(())).await;
        first.process.signal(Signal::Cont).unwrap();
        let refused = async || first.process.log().unwrap().contains("reason=\"KubernetesError\"").then_some(());
        until("it tries to write, and fails", WITHIN_TTL, refused).await;
        assert!(!leads(&first));
        let (code, text) = first.page("/readyz");
        assert!(code == 503 && text.contains("may not get, create and update the lease"), "{code} {text}");
        assert_eq!(by_first(), before, "it wrote after another one had taken over");
        assert!(s.data("db").await.unwrap().contains(&("value".to_owned(), values[2].clone())));

        let again = RoleBinding { metadata: ObjectMeta { name: binding.metadata.name, ..ObjectMeta::default() }, ..binding };
        bindings.create(&PostParams::default(), &again).await.unwrap();
        assert_ne!(first.process.wait_exit(SECONDS).unwrap(), 0, "it is to be started anew");
        says(&first.process.log().unwrap(), "another controller has taken the lease");
        assert_eq!(by_first(), before, "it wrote after another one had taken over");
        s.retire(first, Signal::Kill);
        s.retire(second, Signal::Term);
    })
    .await;
}

#[tokio::test]
async fn an_outage_of_the_api_server_that_is_longer_than_the_lease_ends_no_leader() {
    scene("leader-outage", async |s| {
        let (door, kubeconfig) = s.door(&s.account(&[], |_| true).await);
        let only = s.candidate(&kubeconfig, "only");
        leading(&only, SECONDS).await;
        mirror(s, "db", &s.value("one")).await;
        s.ready("db").await;
        door.shut();
        until("its term is over", SECONDS, async || (!leads(&only)).then_some(())).await;
        let two = s.value("two");
        s.put_secret("db", &two).await;
        door.open();
        s.holds("db", &[("value", &two)], WITHIN_TTL).await;
        assert!(leads(&only) && only.process.is_running());
        assert_eq!(leases(s).get("robotosecret").await.unwrap().spec.unwrap().lease_transitions, Some(1));
        s.retire(only, Signal::Term);
    })
    .await;
}

#[tokio::test]
async fn a_lease_that_somebody_deletes_or_edits_stays_with_its_leader() {
    scene("meddled-lease", async |s| {
        let (first, second) = pair(s).await;
        let holder = async || leases(s).get_opt("robotosecret").await.unwrap().and_then(|lease| lease.spec?.holder_identity);
        let before = holder().await.unwrap();
        leases(s).patch("robotosecret", &PatchParams::default(), &Patch::Merge(json!({"metadata": {"labels": {"team": "a"}}}))).await.unwrap();
        leases(s).delete("robotosecret", &DeleteParams::default()).await.unwrap();
        until("the lease is made again", SECONDS, async || holder().await).await;
        assert_eq!(holder().await.as_ref(), Some(&before));
        assert!(leads(&first) && !leads(&second));
        // Given away by hand, it is lost.
        leases(s).patch("robotosecret", &PatchParams::default(), &Patch::Merge(json!({"spec": {"holderIdentity": ""}}))).await.unwrap();
        assert_ne!(first.process.wait_exit(SECONDS).unwrap(), 0);
        leading(&second, SECONDS).await;
        s.retire(first, Signal::Kill);
        s.retire(second, Signal::Term);
    })
    .await;
}

#[tokio::test]
async fn who_may_not_use_the_lease_says_so_and_does_not_work() {
    scene("no-lease", async |s| {
        let no_lease = |rule: &Value| !rule["resources"].as_array().unwrap().contains(&json!("leases"));
        let kubeconfig: &Path = &s.account(&[], no_lease).await;
        let controller = s.candidate(kubeconfig, "one");
        let page = async || Some(controller.page("/readyz")).filter(|(code, text)| *code == 503 && text.contains("lease"));
        let (_, text) = until("it says what is missing", SECONDS, page).await;
        says(&text, "may not get, create and update the lease; check its roles");
        assert!(!leads(&controller));
        s.retire(controller, Signal::Term);
    })
    .await;
}
