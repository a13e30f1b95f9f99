//! `ClusterRobotoSecret`: the same Secret in every selected namespace, whatever happens to namespaces, children, template and controller.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use robotosecret::api::{ClusterRobotoSecret, RobotoSecret};
use serde_json::{Value, json};
use testbed::{ControlPlane, install};

use crate::support::{SECONDS, Scene, TTL, WITHIN_TTL, apply_object, emulated_before_controller, emulated_elsewhere, kubectl, root, says, until, world};

/// How long it may take until something is garbage collected: the collector learns of new kinds every half a minute.
const COLLECTED: Duration = Duration::from_secs(120);

/// A `ClusterRobotoSecret` of a scene, as its user deals with it.
struct Parent {
    name: String,
    client: Client,
}

impl Parent {
    fn new(s: &Scene) -> Self {
        Self { name: format!("{}.db", s.namespace), client: s.client.clone() }
    }

    fn api(&self) -> Api<ClusterRobotoSecret> {
        Api::all(self.client.clone())
    }

    async fn apply(&self, namespaces: Value, metadata: Value, spec: Value) {
        let parent = json!({
            "apiVersion": "robotosecret.dev/v1alpha1", "kind": "ClusterRobotoSecret", "metadata": {"name": self.name},
            "spec": {"namespaces": namespaces, "robotoSecretName": "db", "template": {"metadata": metadata, "spec": spec}},
        });
        apply_object(&self.client, &parent).await.unwrap();
    }

    /// Waits until the status tells these counts of namespaces, those that are Ready and those that failed, about the present spec.
    async fn counts(&self, expected: [i32; 3], limit: Duration) {
        let mut last = None;
        let ask = async || {
            let parent = self.api().get(&self.name).await.unwrap();
            let status = parent.status.unwrap_or_default();
            let counts = [status.namespaces, status.ready, status.failed].map(Option::unwrap_or_default);
            let current = status.observed_generation == parent.metadata.generation && counts == expected;
            last = Some(serde_json::to_string(&status).unwrap());
            current.then_some(())
        };
        let counted = tokio::time::timeout(limit, until(&format!("{} has the counts {expected:?}", self.name), limit * 2, ask)).await;
        assert!(counted.is_ok(), "{} has not the counts {expected:?}: {last:?}", self.name);
    }

    /// The condition Ready as `<status> <reason> <message>`.
    async fn ready(&self) -> String {
        let status = self.api().get(&self.name).await.unwrap().status.unwrap_or_default();
        let ready = status.conditions.into_iter().find(|condition| condition.type_ == "Ready").expect("a condition");
        format!("{} {} {}", ready.status, ready.reason, ready.message)
    }

    fn children(&self, namespace: &str) -> Api<RobotoSecret> {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn child(&self, namespace: &str) -> Option<RobotoSecret> {
        self.children(namespace).get_opt("db").await.unwrap()
    }

    /// Where there are Secrets that a child mirrors.
    async fn mirrored(&self) -> BTreeSet<String> {
        let secrets = Api::<Secret>::all(self.client.clone()).list(&ListParams::default().labels("robotosecret.dev/managed=true")).await.unwrap();
        secrets.into_iter().filter(|secret| secret.name_any() == "db").filter_map(|secret| secret.namespace()).collect()
    }

    async fn holds(&self, namespace: &str, value: &str, limit: Duration) {
        let secrets = Api::<Secret>::namespaced(self.client.clone(), namespace);
        until(&format!("the Secret {namespace}/db holds what it should"), limit, async || {
            let held = secrets.get_opt("db").await.unwrap()?.data?.remove("value")?;
            (held.0 == value.as_bytes()).then_some(())
        })
        .await;
    }

    async fn delete(&self, how: &DeleteParams) {
        self.api().delete(&self.name, how).await.unwrap();
    }
}

async fn namespace(client: &Client, name: &str, labels: Value) {
    apply_object(client, &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})).await.unwrap();
}

async fn label(client: &Client, name: &str, labels: Value) {
    let patch = json!({"metadata": {"labels": labels}});
    Api::<Namespace>::all(client.clone()).patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

fn spec(s: &Scene, ttl: &str) -> Value {
    json!({"provider": {"kind": "ClusterRobotoProvider", "name": s.namespace}, "ttl": ttl, "data": [{"key": "value", "uri": format!("aws.sm://{}", s.path("db"))}]})
}

/// Lets the scene's provider be used by other namespaces too.
async fn permit(s: &Scene, namespaces: Value) {
    s.provide(&["*"]).await;
    let patch = json!({"spec": {"allow": [{"namespaces": namespaces, "references": ["*"]}]}});
    s.providers().patch(&s.namespace, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

/// The chart's account, roles and policies under these values, in another cluster.
async fn account(plane: &ControlPlane, client: &Client, values: &[&str]) -> PathBuf {
    namespace(client, "robotosecret", json!({})).await;
    let rbac = testbed::chart::rbac(&root().join("charts/robotosecret"), "robotosecret", values).unwrap();
    for object in &rbac.objects {
        apply_object(client, object).await.unwrap();
    }
    plane.kubeconfig_for("robotosecret", &rbac.service_account).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_namespaces_have_one_value_at_one_call_a_ttl_and_keep_it_whatever_happens() {
    let dir = world().dir.join("fan-out-cluster");
    std::fs::create_dir_all(&dir).unwrap();
    let plane = ControlPlane::start(&dir).unwrap();
    let client = plane.client().await.unwrap();
    install::crds(&client, &root().join("crds")).await.unwrap();
    let kubeconfig = account(&plane, &client, &[]).await;
    emulated_elsewhere(client.clone(), "fan-out", async |s| {
        let (one, two) = (s.value("one"), s.value("two"));
        s.put_secret("db", &one).await;
        permit(s, json!({"selector": {"matchLabels": {"db": "yes"}}})).await;
        let name = |i: usize| format!("team-{i:02}");
        let teams: Vec<String> = (0..50).map(name).collect();
        join_all(teams.iter().map(|team| namespace(&client, team, json!({"db": "yes"})))).await;
        namespace(&client, "other", json!({"db": "no"})).await;
        let parent = Parent::new(s);
        let selector = json!({"selector": {"matchLabels": {"db": "yes"}}});
        s.start_controller_everywhere(&kubeconfig, &["--cluster-robotosecrets"]).await;
        // Killed in the middle of it; the next one finishes it.
        parent.apply(selector.clone(), json!({"labels": {"a": "1", "b": "1"}}), spec(s, TTL)).await;
        until("some are made", SECONDS, async || (parent.mirrored().await.len() > 3).then_some(())).await;
        s.kill_controller();
        s.start_controller_everywhere(&kubeconfig, &["--cluster-robotosecrets"]).await;
        parent.counts([50, 50, 0], SECONDS * 2).await;
        let everywhere: BTreeSet<String> = (0..50).map(name).collect();
        assert_eq!(parent.mirrored().await, everywhere);
        says(&parent.ready().await, "True Mirrored mirrored in 50 namespaces");
        for i in [0, 49] {
            parent.holds(&name(i), &one, SECONDS).await;
            let namespace = Api::<Namespace>::all(client.clone()).get(&name(i)).await.unwrap();
            assert!(namespace.metadata.finalizers.is_none(), "a namespace is never held");
        }
        // At rest nothing is written, and one call a TTL reads it for all.
        let writes = |s: &Scene, kind: &str| s.controller().metric("robotosecret_kube_writes_total", &format!("kind=\"{kind}\",outcome=\"ok\""));
        let (before, reads) = (writes(s, "RobotoSecret"), s.reads(&s.path("db")));
        s.rechecked(&s.path("db"), 3).await;
        let calls = s.reads(&s.path("db")) - reads;
        assert!((3..=4).contains(&calls), "{calls} calls for three TTLs of fifty");
        let written = writes(s, "RobotoSecret") - before;
        assert!(written < 1.0, "{written} writes where nothing is wrong");
        s.put_secret("db", &two).await;
        for i in 0..50 {
            parent.holds(&name(i), &two, WITHIN_TTL).await;
        }

        // What is done to one child is put right, and the others are left alone.
        let before = writes(s, "RobotoSecret");
        let edit = json!({"metadata": {"labels": {"a": "edited", "theirs": "x"}}, "spec": {"ttl": "1h"}});
        parent.children(&name(1)).patch("db", &PatchParams::default(), &Patch::Merge(&edit)).await.unwrap();
        until("the edit is put right", SECONDS, async || {
            let child = parent.child(&name(1)).await?;
            let labels: Vec<_> = child.labels().iter().map(|(key, value)| format!("{key}={value}")).collect();
            (labels == ["a=1", "b=1", "theirs=x"] && child.spec.ttl == TTL).then_some(())
        })
        .await;
        parent.children(&name(2)).delete("db", &DeleteParams::default()).await.unwrap();
        let gone = parent.child(&name(2)).await.and_then(|child| child.uid());
        until("the deleted one is made anew", SECONDS, async || (parent.child(&name(2)).await?.uid() != gone).then_some(())).await;
        parent.counts([50, 50, 0], SECONDS).await;
        let made = writes(s, "RobotoSecret") - before;
        assert!((2.0..=4.0).contains(&made), "{made} writes for two that were wrong");

        // A label that the template has no more goes, theirs stays.
        parent.apply(selector.clone(), json!({"labels": {"b": "2"}}), spec(s, TTL)).await;
        until("all have the new labels", SECONDS, async || {
            let all = Api::<RobotoSecret>::all(client.clone()).list(&ListParams::default()).await.unwrap();
            let right = |child: &RobotoSecret| {
                let labels: Vec<_> = child.labels().iter().map(|(key, value)| format!("{key}={value}")).collect();
                labels == ["b=2"] || labels == ["b=2", "theirs=x"] && child.namespace() == Some(name(1))
            };
            all.iter().all(right).then_some(())
        })
        .await;

        // Namespaces come, lose the label, and go.
        label(&client, "other", json!({"db": "yes"})).await;
        parent.holds("other", &two, SECONDS).await;
        label(&client, &name(3), json!({"db": null})).await;
        until("who isn't selected any more has no child", SECONDS, async || parent.child(&name(3)).await.is_none().then_some(())).await;
        Api::<Namespace>::all(client.clone()).delete(&name(4), &DeleteParams::background()).await.unwrap();
        parent.counts([49, 49, 0], SECONDS * 2).await;
        until("the namespace is gone", SECONDS * 2, async || Api::<Namespace>::all(client.clone()).get_opt(&name(4)).await.unwrap().is_none().then_some(()))
            .await;
        until("the Secret went with the child", COLLECTED, async || (!parent.mirrored().await.contains(&name(3))).then_some(())).await;

        // A refresh of the parent is one of all.
        let before = s.reads(&s.path("db"));
        let refresh = json!({"metadata": {"annotations": {"robotosecret.dev/refresh": "now"}}});
        parent.api().patch(&parent.name, &PatchParams::default(), &Patch::Merge(&refresh)).await.unwrap();
        until("all were refreshed", SECONDS, async || {
            let all = Api::<RobotoSecret>::all(client.clone()).list(&ListParams::default()).await.unwrap();
            all.iter().all(|child| child.status.as_ref().and_then(|status| status.last_handled_refresh.as_deref()) == Some("now")).then_some(())
        })
        .await;
        let calls = s.reads(&s.path("db")) - before;
        // How many come together depends on how fast the API server takes the annotations; one each would be 49.
        assert!(calls < 40, "{calls} calls for one refresh of 49, of which those that come together share one");

        // Deleted, with all that it made.
        parent.delete(&DeleteParams::background()).await;
        until("all Secrets are gone", COLLECTED, async || parent.mirrored().await.is_empty().then_some(())).await;
        assert!(Api::<RobotoSecret>::all(client.clone()).list(&ListParams::default()).await.unwrap().items.is_empty());
    })
    .await;
}

/// Starts the controller with Roles in the scene's namespace and these alone.
async fn start_in(s: &mut Scene, others: &[&str]) {
    let mine = s.namespace.clone();
    let listed: Vec<String> =
        std::iter::once(mine.as_str()).chain(others.iter().copied()).enumerate().map(|(i, name)| format!("rbac.namespaces[{i}]={name}")).collect();
    let values: Vec<&str> = std::iter::once("rbac.scope=namespaces").chain(listed.iter().map(String::as_str)).collect();
    let kubeconfig = s.account(&values, |_| true).await;
    s.start_controller_as(&kubeconfig, &["--cluster-robotosecrets", "--namespaces", &others.join(",")]);
    s.controller_ready().await;
}

#[tokio::test]
async fn a_namespace_that_refuses_or_has_one_already_is_told_of_and_holds_nothing_up() {
    emulated_before_controller("fan-out-refused", async |s| {
        let names = ["full", "taken", "forbidden", "fine"].map(|name| format!("{}-{name}", s.namespace));
        let [full, taken, forbidden, fine] = &names;
        for name in &names {
            namespace(&s.client, name, json!({})).await;
        }
        s.put_secret("db", &s.value("a")).await;
        permit(s, json!({"names": [full, taken, fine]})).await;
        let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": full}, "spec": {"hard": {"count/robotosecrets.robotosecret.dev": "0"}}});
        apply_object(&s.client, &quota).await.unwrap();
        until("the quota holds", SECONDS, async || {
            let quota = Api::<k8s_openapi::api::core::v1::ResourceQuota>::namespaced(s.client.clone(), full).get("none").await.unwrap();
            quota.status.and_then(|status| status.hard).filter(|hard| !hard.is_empty())
        })
        .await;
        let mut theirs = s.resource("db", &json!({"uri": "aws.sm://not/this/one"}).to_string());
        theirs["metadata"]["namespace"] = json!(taken);
        apply_object(&s.client, &theirs).await.unwrap();
        start_in(s, &names.each_ref().map(String::as_str)).await;
        let parent = Parent::new(s);
        parent.apply(json!({"names": names}), json!({}), spec(s, "1h")).await;

        parent.holds(fine, &s.value("a"), SECONDS).await;
        parent.counts([4, 1, 3], SECONDS).await;
        let failures = parent.api().get(&parent.name).await.unwrap().status.unwrap().failures;
        let failure = |namespace: &str| failures.iter().find(|failure| failure.namespace == *namespace).map(|failure| (failure.reason.as_str(), failure.message.as_str())).unwrap();
        assert_eq!(failure(full).0, "KubernetesError");
        says(failure(full).1, "a quota");
        assert_eq!(failure(taken).0, "ChildNotOwned");
        says(failure(taken).1, "delete it, or choose another spec.robotoSecretName");
        assert_eq!(failure(forbidden).0, "NotAllowed");
        says(&parent.ready().await, "False ChildrenFailed");
        assert_eq!(parent.child(taken).await.unwrap().spec.uri.as_deref(), Some("aws.sm://not/this/one"), "somebody else's is left alone");
        let told = kubectl(&world().plane, &["get", "events", "--namespace=default", "--output=jsonpath={range .items[*]}{.message}{\"\\n\"}{end}"], "").out;
        for name in [full, taken, forbidden] {
            says(&told, &format!("namespace {name}: "));
        }

        // What stood in the way goes, and each comes without a hand.
        Api::<k8s_openapi::api::core::v1::ResourceQuota>::namespaced(s.client.clone(), full).delete("none", &DeleteParams::default()).await.unwrap();
        parent.children(taken).delete("db", &DeleteParams::default()).await.unwrap();
        permit(s, json!({"names": names})).await;
        parent.counts([4, 4, 0], Duration::from_secs(90)).await;

        // Under another name: the former ones go, each when the new one is there, and not while it fails.
        permit(s, json!({"names": [full, taken, forbidden]})).await;
        let rename = json!({"spec": {"robotoSecretName": "renamed"}});
        parent.api().patch(&parent.name, &PatchParams::default(), &Patch::Merge(&rename)).await.unwrap();
        parent.counts([4, 3, 1], SECONDS).await;
        until("the former one is gone", SECONDS, async || parent.child(full).await.is_none().then_some(())).await;
        parent.holds(fine, &s.value("a"), SECONDS).await;
        assert!(parent.child(fine).await.is_some_and(|child| child.metadata.deletion_timestamp.is_none()), "nothing is there yet to replace it");
        let rename = json!({"spec": {"robotoSecretName": "db"}});
        parent.api().patch(&parent.name, &PatchParams::default(), &Patch::Merge(&rename)).await.unwrap();
        permit(s, json!({"names": names})).await;
        parent.counts([4, 4, 0], SECONDS * 2).await;

        // Orphaned: everything stays as it is, and works on.
        parent.delete(&DeleteParams::orphan()).await;
        until("it is gone", COLLECTED, async || parent.api().get_opt(&parent.name).await.unwrap().is_none().then_some(())).await;
        let orphan = parent.child(fine).await.unwrap();
        assert!(orphan.owner_references().is_empty() && orphan.metadata.deletion_timestamp.is_none());
        parent.holds(fine, &s.value("a"), SECONDS).await;
        for name in &names {
            Api::<Namespace>::all(s.client.clone()).delete(name, &DeleteParams::background()).await.unwrap();
        }
    })
    .await;
}
