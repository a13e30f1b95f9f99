//! Templates that are kept in ConfigMaps: a change carries over at once, what is missing or wrong leaves the Secret as it is and heals
//! as soon as it is mended, and ConfigMaps of others cost nothing.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::support::{SECONDS, Scene, apply_object, emulated, emulated_before_controller, says, until};

/// Long enough that nothing is rechecked while a test runs.
const CALM: &str = "ttl: 1h";

async fn config_map(s: &Scene, name: &str, data: Value) {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": s.namespace}, "data": data});
    apply_object(&s.client, &map).await.unwrap();
}

fn config_maps(s: &Scene) -> Api<ConfigMap> {
    Api::namespaced(s.client.clone(), &s.namespace)
}

/// A RobotoSecret of the store's secret `db`, which the key `app.conf` of the ConfigMap `tpl` makes the key `app.conf` of.
async fn mirror(s: &Scene, name: &str) {
    let from = "target: {template: {from: [{configMap: {name: tpl, key: app.conf}}]}}";
    s.apply(name, &format!("{{data: [{{key: password, uri: 'aws.sm://{}'}}], {CALM}, {from}}}", s.path("db"))).await;
}

fn reads(s: &Scene) -> usize {
    s.reads(&s.path("db"))
}

#[tokio::test]
async fn a_change_of_the_config_map_carries_over_with_one_read_and_nothing_else_does() {
    emulated("templates", async |s| {
        let value = s.value("one");
        s.put_secret("db", &value).await;
        config_map(s, "tpl", json!({"app.conf": "pw={{ password }}\n", "other": "{{ nothing"})).await;
        mirror(s, "db").await;
        s.holds("db", &[("app.conf", &format!("pw={value}\n"))], SECONDS).await;
        s.ready("db").await;
        let (before, version) = (reads(s), s.versions().await);
        // Another key, a label, and a ConfigMap that nobody refers to.
        config_map(s, "tpl", json!({"app.conf": "pw={{ password }}\n", "other": "changed"})).await;
        let label = json!({"metadata": {"labels": {"touched": "yes"}}});
        config_maps(s).patch("tpl", &PatchParams::default(), &Patch::Merge(&label)).await.unwrap();
        for text in ["one", "two"] {
            config_map(s, "foreign", json!({"app.conf": text})).await;
        }
        // The watch tells in order: once this has come, all that went before is done with.
        mirror(s, "barrier").await;
        s.ready("barrier").await;
        assert_eq!((reads(s), s.versions().await.get("db").cloned()), (before + 1, version.get("db").cloned()), "only the second resource read");
        config_map(s, "tpl", json!({"app.conf": "password: {{ password | quote }}"})).await;
        for name in ["db", "barrier"] {
            s.holds(name, &[("app.conf", &format!("password: \"{value}\""))], SECONDS).await;
        }
        s.event("db", "a template in a ConfigMap changed").await;
        s.ready("db").await;
        assert!((before + 2..=before + 3).contains(&reads(s)), "{} reads after {before}: at most one more for each of the two", reads(s));
    })
    .await;
}

#[tokio::test]
async fn what_is_missing_is_named_and_heals_at_once() {
    emulated("templates-missing", async |s| {
        let value = s.value("one");
        s.put_secret("db", &value).await;
        mirror(s, "db").await;
        let failed = async |part: &str| {
            let what = format!("Ready says {part:?}");
            let says =
                async || s.status("db").await.condition("Ready").filter(|ready| ready.reason == "TemplateError" && ready.message.contains(part)).cloned();
            until(&what, SECONDS, says).await;
        };
        failed("there is no ConfigMap tpl in this namespace").await;
        assert_eq!((s.data("db").await, reads(s)), (None, 0), "without its template nothing need be read");
        config_map(s, "tpl", json!({"wrong": "x"})).await;
        failed("the ConfigMap tpl has no key app.conf").await;
        config_map(s, "tpl", json!({"app.conf": "{{ password }}"})).await;
        s.holds("db", &[("app.conf", &value)], SECONDS).await;
        s.ready("db").await;
        config_maps(s).delete("tpl", &DeleteParams::default()).await.unwrap();
        failed("there is no ConfigMap tpl").await;
        s.holds("db", &[("app.conf", &value)], SECONDS).await;
        config_map(s, "tpl", json!({"app.conf": "again {{ password }}"})).await;
        s.holds("db", &[("app.conf", &format!("again {value}"))], SECONDS).await;
        s.ready("db").await;
    })
    .await;
}

#[tokio::test]
async fn a_wrong_template_leaves_the_secret_and_is_told_with_its_line() {
    emulated("templates-wrong", async |s| {
        let value = s.value("one");
        s.put_secret("db", &value).await;
        config_map(s, "tpl", json!({"app.conf": "{{ password }}"})).await;
        mirror(s, "db").await;
        s.holds("db", &[("app.conf", &value)], SECONDS).await;
        for (text, expected) in [
            ("ok\n{{ pasword }}", "ConfigMap tpl, key app.conf line 2: undefined: `pasword` is not among the keys"),
            ("{{ password | fromjson }}", "ConfigMap tpl, key app.conf line 1: fromjson: the value is not JSON"),
            ("{{ password", "ConfigMap tpl, key app.conf line 1: syntax error"),
        ] {
            config_map(s, "tpl", json!({"app.conf": text})).await;
            let told = async || s.status("db").await.condition("Ready").filter(|ready| ready.message.contains(expected)).cloned();
            let ready = until(expected, SECONDS, told).await;
            assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "TemplateError"));
            s.holds("db", &[("app.conf", &value)], SECONDS).await;
        }
        config_map(s, "tpl", json!({"app.conf": "{{ password }}!"})).await;
        s.holds("db", &[("app.conf", &format!("{value}!"))], SECONDS).await;
        s.ready("db").await;
    })
    .await;
}

#[tokio::test]
async fn a_restart_reads_only_what_changed_meanwhile() {
    emulated("templates-restart", async |s| {
        let value = s.value("one");
        s.put_secret("db", &value).await;
        config_map(s, "tpl", json!({"app.conf": "{{ password }}"})).await;
        mirror(s, "db").await;
        s.ready("db").await;
        s.stop_controller();
        let before = reads(s);
        s.start_controller(&[]).await;
        // A resource that is mirrored after it was met shows that the other was, too.
        mirror(s, "later").await;
        s.ready("later").await;
        assert_eq!(reads(s), before + 1, "only the new one");
        s.stop_controller();
        config_map(s, "tpl", json!({"app.conf": "{{ password }}!"})).await;
        s.start_controller(&[]).await;
        for name in ["db", "later"] {
            s.holds(name, &[("app.conf", &format!("{value}!"))], SECONDS).await;
        }
    })
    .await;
}

#[tokio::test]
async fn without_the_right_to_read_config_maps_only_those_who_need_it_say_so() {
    emulated_before_controller("templates-rights", async |s| {
        s.provide(&["*"]).await;
        s.put_secret("db", &s.value("one")).await;
        config_map(s, "tpl", json!({"app.conf": "{{ password }}"})).await;
        let kubeconfig = s.account(&[], |rule| !rule["resources"].as_array().unwrap().contains(&json!("configmaps"))).await;
        s.start_controller_as(&kubeconfig, &[]);
        s.controller_ready().await;
        s.apply("plain", &format!("{{uri: 'aws.sm://{}', {CALM}}}", s.path("db"))).await;
        s.ready("plain").await;
        assert!(!s.log_tail().contains("configmaps"), "nothing is watched before somebody refers to it");
        mirror(s, "db").await;
        let message = s.condition("db", "Fresh", "False KubernetesError", SECONDS).await;
        says(&message, "the ConfigMap tpl could not be read: the controller's ServiceAccount may not get it; check its roles");
    })
    .await;
}
