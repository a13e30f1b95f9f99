//! What Argo CD and Flux make of a RobotoSecret: the rules that docs/operations.md gives them, on statuses that the controller wrote.
//!
//! Argo CD's rule is run by Lua 5.1, as there. Flux's are evaluated by the API server, with the CEL implementation that Flux has. Of
//! kstatus, which Flux takes without them, the rules for kinds that it does not know are restated here.

use kube::api::{Patch, PatchParams};
use mlua::{Lua, Value as LuaValue};
use serde_json::{Value, json};

use crate::support::{SECONDS, Scene, apply_object, root, scene_before_controller, until};

/// The text of the document between these two, with this indent taken off.
fn quoted(after: &str, before: &str, indent: usize) -> String {
    let document = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let text = document.split_once(after).unwrap_or_else(|| panic!("{after:?} is not in the document")).1.split_once(before).unwrap().0;
    text.lines().map(|line| line.get(indent..).unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn to_lua(lua: &Lua, value: &Value) -> LuaValue {
    match value {
        Value::Null => LuaValue::Nil,
        Value::Bool(bool) => LuaValue::Boolean(*bool),
        Value::Number(number) => LuaValue::Number(number.as_f64().unwrap()),
        Value::String(text) => LuaValue::String(lua.create_string(text).unwrap()),
        Value::Array(list) => LuaValue::Table(lua.create_sequence_from(list.iter().map(|item| to_lua(lua, item))).unwrap()),
        Value::Object(map) => LuaValue::Table(lua.create_table_from(map.iter().map(|(key, item)| (key.as_str(), to_lua(lua, item)))).unwrap()),
    }
}

/// The status and message that Argo CD's rule gives.
fn argo(resource: &Value) -> (String, String) {
    let rule = quoted("resource.customizations.health.robotosecret.dev_RobotoSecret: |\n", "```", 4);
    let lua = Lua::new();
    lua.globals().set("obj", to_lua(&lua, resource)).unwrap();
    let health: mlua::Table = lua.load(rule).eval().unwrap();
    (health.get("status").unwrap(), health.get("message").unwrap())
}

/// What kstatus makes of a kind that it does not know.
fn kstatus(resource: &Value) -> &'static str {
    let condition = |type_: &str| {
        let all = resource["status"]["conditions"].as_array().into_iter().flatten();
        all.filter(|condition| condition["type"] == type_).find_map(|condition| condition["status"].as_str())
    };
    let observed = &resource["status"]["observedGeneration"];
    if !resource["metadata"]["deletionTimestamp"].is_null() {
        "Terminating"
    } else if !observed.is_null() && *observed != resource["metadata"]["generation"] || condition("Reconciling") == Some("True") {
        "InProgress"
    } else if condition("Stalled") == Some("True") {
        "Failed"
    } else if condition("Ready").is_some_and(|ready| ready != "True") {
        "InProgress"
    } else {
        "Current"
    }
}

/// What Flux makes of a resource with the document's expressions: they are evaluated in the order that it has, after its own look at the
/// generation.
async fn flux(s: &Scene, name: &str, resource: &Value) -> &'static str {
    if resource["status"]["observedGeneration"] != resource["metadata"]["generation"] {
        return "InProgress";
    }
    // The answer to a change that is tried, and refused with what the expressions say.
    let change = Patch::Merge(json!({"metadata": {"annotations": {"probe": "1"}}}));
    let error = s.resources().patch(name, &PatchParams { dry_run: true, ..PatchParams::default() }, &change).await.unwrap_err().to_string();
    match (error.contains("failed=true"), error.contains("current=true")) {
        _ if !error.contains("failed=") => panic!("{error}"),
        (true, _) => "Failed",
        (false, true) => "Current",
        (false, false) => "InProgress",
    }
}

/// Has the API server refuse every tried change of the scene's resources, with what Flux's expressions make of them.
async fn evaluate_in_cluster(s: &Scene) {
    let expression = |which: &str| {
        let text = quoted(&format!("      {which}: \""), "\"\n", 0);
        // Flux has the fields of an object as variables, the API server the object.
        text.replace("status.conditions", "object.status.conditions")
    };
    let said = format!("'failed=' + string({}) + ' current=' + string({})", expression("failed"), expression("current"));
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": s.namespace},
        "spec": {
            "matchConstraints": {"resourceRules": [{
                "apiGroups": ["robotosecret.dev"], "apiVersions": ["v1alpha1"], "operations": ["UPDATE"], "resources": ["robotosecrets"],
            }]},
            "matchConditions": [{"name": "probe", "expression": "has(object.metadata.annotations) && 'probe' in object.metadata.annotations"}],
            "validations": [{"expression": "false", "messageExpression": said}],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": s.namespace},
        "spec": {
            "policyName": s.namespace, "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": s.namespace}}},
        },
    });
    apply_object(&s.client, &policy).await.unwrap();
    apply_object(&s.client, &binding).await.unwrap();
}

#[tokio::test]
async fn argo_cd_and_flux_judge_a_resource_as_the_document_has_them() {
    scene_before_controller("gitops", async |s| {
        s.provide(&["*"]).await;
        s.put_secret("db", &s.value("a")).await;
        let uri = format!("uri: 'aws.sm://{}'", s.path("db"));
        let resources = s.resources();
        let resource = async |name: &str| serde_json::to_value(resources.get(name).await.unwrap()).unwrap();
        evaluate_in_cluster(s).await;
        // Before any controller has seen it.
        s.apply("early", &uri).await;
        let early = resource("early").await;
        assert_eq!(argo(&early), ("Progressing".to_owned(), "the controller has not seen it yet".to_owned()));
        assert_eq!((kstatus(&early), flux(s, "early", &early).await), ("InProgress", "InProgress"));
        s.start_controller(&[]).await;
        s.apply("db", &uri).await;
        s.apply("wrong", &format!("uri: 'aws.sm://{}'", s.path("nobody"))).await;
        s.apply("invalid", "data: [{key: a, uri: 'aws.sm://x#/~9'}]").await;
        s.apply("suspended", &format!("{{{uri}, suspend: true}}")).await;
        let down = s.front.fail(503);
        s.apply("down", &format!("uri: 'aws.ps:///{}'", s.path("p"))).await;
        s.condition("down", "Ready", "Unknown ProviderUnavailable", SECONDS).await;
        let waits = resource("down").await;
        s.front.remove_fault(down);
        s.ready("db").await;
        s.condition("wrong", "Ready", "False SourceNotFound", SECONDS * 2).await;
        s.condition("invalid", "Stalled", "True InvalidSpec", SECONDS).await;
        s.condition("suspended", "Fresh", "Unknown Suspended", SECONDS).await;
        // The policy holds only a while after it was made.
        let change = Patch::Merge(json!({"metadata": {"annotations": {"probe": "1"}}}));
        let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
        until("the policy holds", SECONDS, async || s.resources().patch("db", &dry_run, &change).await.err().map(drop)).await;
        assert_eq!((argo(&waits).0.as_str(), kstatus(&waits)), ("Progressing", "InProgress"));
        for (name, by_argo, by_kstatus, by_flux) in [
            ("db", "Healthy", "Current", "Current"),
            ("wrong", "Degraded", "InProgress", "Failed"),
            ("invalid", "Degraded", "Failed", "Failed"),
            ("suspended", "Suspended", "InProgress", "InProgress"),
        ] {
            let judged = resource(name).await;
            let (status, message) = argo(&judged);
            assert_eq!((status.as_str(), kstatus(&judged), flux(s, name, &judged).await), (by_argo, by_kstatus, by_flux), "{name}: {judged:#}");
            if name == "wrong" {
                assert!(message.starts_with("SourceNotFound: "), "{message}");
            }
        }
        for kind in ["validatingadmissionpolicies", "validatingadmissionpolicybindings"] {
            let url = format!("/apis/admissionregistration.k8s.io/v1/{kind}/{}", s.namespace);
            s.client.request_text(http::Request::delete(url).body(Vec::new()).unwrap()).await.unwrap();
        }
    })
    .await;
}
