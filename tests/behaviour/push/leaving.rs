//! What becomes of what was pushed when it is pushed no more, and what is made with attributes and by ARN.

use std::path::{Path, PathBuf};

use aws_sdk_ssm::types::ParameterStringFilter;
use k8s_openapi::api::{core::v1::Namespace, rbac::v1::RoleBinding};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use testbed::front::{Answer, Fault};

use super::{
    SECONDS, Scene, WITHIN_TTL, apply_object, held, holds, parameter, push, pushes, pushing, ready, says, scene_before_controller, secret, tags, until, world,
};

/// When a secret is gone for good, if it is to be deleted.
async fn deletion(id: &str) -> Option<aws_sdk_secretsmanager::primitives::DateTime> {
    world().moto.secrets_manager().describe_secret().secret_id(id).send().await.ok()?.deleted_date
}

#[tokio::test]
async fn what_is_taken_out_of_the_spec_goes_only_if_that_is_asked_for_and_it_is_ours() {
    pushing("push-former", &["write"], async |s| {
        let one = s.value("one");
        secret(s, "db", json!({"password": one})).await;
        let [kept, gone, theirs, retained] = ["kept", "gone", "theirs", "retained"].map(|name| s.path(name));
        let entry = |uri: String| json!({"key": "password", "uri": uri});
        let spec = |policy: &str, uris: &[String]| {
            let data: Vec<Value> = uris.iter().cloned().map(entry).collect();
            let mut spec = json!({"secretName": "db", "deletionPolicy": policy, "data": data});
            if policy == "Delete" {
                spec["recovery"] = json!({"days": 7});
            }
            spec
        };
        let [kept_uri, gone_uri, theirs_uri, retained_uri] = [&kept, &gone, &theirs, &retained].map(|id| format!("aws.sm://{id}"));
        let parameter_uri = format!("aws.ps:///{gone}");
        push(s, "db", spec("Retain", &[kept_uri.clone(), retained_uri])).await;
        ready(s, "db", "True Pushed", SECONDS).await;
        push(s, "db", spec("Retain", std::slice::from_ref(&kept_uri))).await;
        ready(s, "db", "True Pushed", SECONDS).await;
        push(s, "db", spec("Delete", &[kept_uri.clone(), gone_uri, parameter_uri, theirs_uri])).await;
        ready(s, "db", "True Pushed", SECONDS).await;
        // Somebody takes one of them over, by the tag.
        world().moto.secrets_manager().untag_resource().secret_id(&theirs).tag_keys(super::OWNER).send().await.unwrap();
        push(s, "db", spec("Delete", &[kept_uri])).await;
        let (_, status) = ready(s, "db", "True Pushed", SECONDS).await;
        assert_eq!(status.targets.len(), 1);
        assert!(deletion(&gone).await.is_some(), "it can be had back for a while");
        assert_eq!(parameter(&format!("/{gone}")).await, None);
        for id in [&kept, &theirs, &retained] {
            assert_eq!((held(id).await.map(|(value, _)| value), deletion(id).await), (Some(one.clone()), None), "{id}");
        }
        s.event("db", &format!("Removed: aws.sm://{gone} was deleted, as deletionPolicy asks for")).await;
    })
    .await;
}

/// A second provider for the same place, and one for another region; both may be written through.
async fn providers(s: &Scene) -> [String; 2] {
    let url = s.front.url();
    let mut names = Vec::new();
    for (suffix, region) in [("same", "eu-west-1"), ("other", "eu-central-1")] {
        let name = format!("{}.{suffix}", s.namespace);
        let spec = json!({
            "aws": {"region": region, "endpoints": {"secretsManager": url, "ssm": url, "sts": url}, "identity": {"ambient": {}}},
            "allow": [{"namespaces": {"names": [s.namespace]}, "references": ["*"], "verbs": ["write"]}],
        });
        let provider = json!({"apiVersion": "robotosecret.dev/v1alpha1", "kind": "ClusterRobotoProvider", "metadata": {"name": name}, "spec": spec});
        apply_object(&s.client, &provider).await.unwrap();
        names.push(name);
    }
    names.try_into().unwrap()
}

#[tokio::test]
async fn what_others_share_or_what_is_still_written_is_never_deleted() {
    pushing("push-kept", &["write"], async |s| {
        let one = s.value("one");
        secret(s, "db", json!({"password": one})).await;
        let [same, _] = providers(s).await;
        let [shared, own, place] = ["shared", "own", "place"].map(|name| s.path(name));
        s.put_secret("shared", r#"{"others":"theirs","mine":"x"}"#).await;
        let entry = |uri: String| json!({"key": "password", "uri": uri});
        // A member that is written among others; then, in one edit, something else, and Delete.
        push(s, "db", json!({"secretName": "db", "adopt": true, "data": [entry(format!("aws.sm://{shared}#/mine"))]})).await;
        ready(s, "db", "True Pushed", SECONDS).await;
        let forced = |data: Value| json!({"secretName": "db", "deletionPolicy": "Delete", "recovery": {"force": true}, "data": data});
        push(s, "db", forced(json!([entry(format!("aws.sm://{own}")), entry(format!("aws.ps:///{place}"))]))).await;
        ready(s, "db", "True Pushed", SECONDS).await;
        let there = held(&shared).await.expect("what others share is there").0;
        assert_eq!(serde_json::from_str::<Value>(&there).unwrap(), json!({"others": "theirs", "mine": one}));

        // Nor is it written over as a whole, unless that is asked for.
        push(s, "db", forced(json!([entry(format!("aws.sm://{shared}"))]))).await;
        says(&ready(s, "db", "False TargetNotOwned", SECONDS).await.0, "members were pushed into it");
        assert_eq!(held(&shared).await.expect("what others share is there").0, there);
        push(s, "db", forced(json!([entry(format!("aws.sm://{own}")), entry(format!("aws.ps:///{place}"))]))).await;
        ready(s, "db", "True Pushed", SECONDS).await;

        // The same place through another provider, and by another name.
        let version = held(&own).await.unwrap().1;
        let mut spec = forced(json!([entry(format!("aws.sm://{own}")), entry(format!("aws.ps:///{place}"))]));
        spec["provider"] = json!({"kind": "ClusterRobotoProvider", "name": same});
        push(s, "db", spec.clone()).await;
        ready(s, "db", "True Pushed", SECONDS).await;
        let arn = world().moto.secrets_manager().describe_secret().secret_id(&own).send().await.unwrap().arn.unwrap();
        spec["data"] = json!([entry(arn), entry(format!("aws.ps:///{place}"))]);
        push(s, "db", spec.clone()).await;
        let (_, status) = ready(s, "db", "True Pushed", SECONDS).await;
        assert_eq!((held(&own).await, parameter(&format!("/{place}")).await, status.targets.len()), (Some((one.clone(), version)), Some(one.clone()), 2));

        // What is to take its place can't be written: what was there stays until it can.
        spec["data"] = json!([entry(format!("aws.sm://{own}")), entry(format!("aws.ps:///{place}2"))]);
        let denied = s.front.deny_action("ssm", "PutParameter");
        push(s, "db", spec).await;
        let (_, status) = ready(s, "db", "False AccessDenied", SECONDS).await;
        assert_eq!(parameter(&format!("/{place}")).await.as_ref(), Some(&one));
        says(status.targets[2].message.as_deref().unwrap(), "deleted once all that is there is written");
        s.front.remove_fault(denied);
        ready(s, "db", "True Pushed", WITHIN_TTL).await;
        assert_eq!((parameter(&format!("/{place}")).await, parameter(&format!("/{place}2")).await), (None, Some(one)));
        // What is taken over as a whole is its own.
        s.put_secret("whole", "{}").await;
        let whole = s.path("whole");
        push(s, "whole", json!({"secretName": "db", "adopt": true, "data": [entry(format!("aws.sm://{whole}#/mine"))]})).await;
        ready(s, "whole", "True Pushed", SECONDS).await;
        push(s, "whole", json!({"secretName": "db", "adopt": true, "data": [entry(format!("aws.sm://{whole}"))]})).await;
        ready(s, "whole", "True Pushed", SECONDS).await;
        push(s, "whole", forced(json!([entry(format!("aws.sm://{whole}"))]))).await;
        ready(s, "whole", "True Pushed", SECONDS).await;
        pushes(s).delete("whole", &DeleteParams::default()).await.unwrap();
        until("whole goes", WITHIN_TTL, async || pushes(s).get_opt("whole").await.unwrap().is_none().then_some(())).await;
        assert!(held(&whole).await.is_none());
        // What the store refuses stays whose it was, whatever was to take its place.
        secret(s, "empty", json!({"password": ""})).await;
        let refused = |id: &str| json!({"secretName": "empty", "adopt": true, "deletionPolicy": "Delete", "recovery": {"force": true}, "data": [entry(format!("aws.sm://{id}"))]});
        let [theirs, joint] = ["theirs", "joint"].map(|name| s.path(name));
        s.put_secret("theirs", "theirs").await;
        s.put_secret("joint", r#"{"others":"theirs"}"#).await;
        push(s, "joint", json!({"secretName": "db", "adopt": true, "data": [entry(format!("aws.sm://{joint}#/mine"))]})).await;
        ready(s, "joint", "True Pushed", SECONDS).await;
        for (name, id) in [("theirs", &theirs), ("joint", &joint)] {
            push(s, name, refused(id)).await;
            ready(s, name, "False TargetRejected", SECONDS).await;
        }
        assert_eq!((tags(&theirs).await.len(), tags(&joint).await["robotosecret.dev/shared"].as_str()), (0, "true"));
        for name in ["theirs", "joint"] {
            pushes(s).delete(name, &DeleteParams::default()).await.unwrap();
            until(&format!("{name} goes"), WITHIN_TTL, async || pushes(s).get_opt(name).await.unwrap().is_none().then_some(())).await;
        }
        assert!(held(&theirs).await.is_some() && held(&joint).await.is_some());
        // With the RobotoPush goes what is its own.
        pushes(s).delete("db", &DeleteParams::default()).await.unwrap();
        until("it goes", WITHIN_TTL, async || pushes(s).get_opt("db").await.unwrap().is_none().then_some(())).await;
        assert!(held(&own).await.is_none() && held(&shared).await.is_some());
    })
    .await;
}

#[tokio::test]
async fn what_is_still_to_be_deleted_is_not_forgotten_however_much_it_is() {
    pushing("push-many", &["write"], async |s| {
        secret(s, "db", json!({"password": s.value("one")})).await;
        let spec = |round: usize| {
            let data: Vec<Value> = (0..100).map(|i| json!({"key": "password", "uri": format!("aws.sm://{}", s.path(&format!("{round}-{i}")))})).collect();
            json!({"secretName": "db", "deletionPolicy": "Delete", "recovery": {"force": true}, "data": data})
        };
        s.limit(json!({"secretsManagerWrites": 1000})).await;
        push(s, "db", spec(1)).await;
        ready(s, "db", "True Pushed", SECONDS * 2).await;
        let denied = s.front.deny_action("secretsmanager", "DeleteSecret");
        push(s, "db", spec(2)).await;
        ready(s, "db", "False AccessDenied", SECONDS * 2).await;
        push(s, "db", spec(3)).await;
        let (message, status) = ready(s, "db", "False TargetConflict", SECONDS * 2).await;
        says(&message, "200 targets are still to be deleted, and nothing is written before some of them are gone");
        assert_eq!(status.targets.len(), 200);
        s.front.remove_fault(denied);
        let (_, status) = ready(s, "db", "True Pushed", SECONDS * 4).await;
        assert_eq!(status.targets.len(), 100);
        assert!(held(&s.path("1-0")).await.is_none() && held(&s.path("2-99")).await.is_none() && held(&s.path("3-99")).await.is_some());
    })
    .await;
}

#[tokio::test]
async fn a_namespace_without_its_role_holds_up_no_other_and_what_is_known_to_be_old_is_not_ready() {
    pushing("push-gone", &["read", "write"], async |s| {
        let (id, one) = (s.path("db"), s.value("one"));
        secret(s, "db", json!({"password": one})).await;
        let entry = json!({"key": "password", "uri": format!("aws.sm://{id}")});
        push(s, "db", json!({"secretName": "db", "data": [entry]})).await;
        ready(s, "db", "True Pushed", SECONDS).await;
        // An outage takes nothing away while the Secret is what it was.
        let outage = s.front.fail(503);
        let fresh = async |reason: &str| {
            let status = pushes(s).get("db").await.unwrap().status?;
            status.condition("Fresh").filter(|fresh| fresh.reason == reason).map(|_| status.condition("Ready").unwrap().status.clone())
        };
        assert_eq!(until("the outage is told", WITHIN_TTL, async || fresh("ProviderUnavailable").await).await, "True");
        secret(s, "db", json!({"password": s.value("two")})).await;
        ready(s, "db", "False ProviderUnavailable", WITHIN_TTL).await;
        s.front.remove_fault(outage);
        holds(&id, &s.value("two"), WITHIN_TTL * 3).await;
        ready(s, "db", "True Pushed", SECONDS).await;
        // What is only looked at for being there is not said to agree.
        let left = json!({"secretName": "db", "updatePolicy": "IfNotExists", "data": [{"key": "none", "uri": format!("aws.sm://{id}")}]});
        push(s, "left", left).await;
        assert_eq!(ready(s, "left", "True Pushed", SECONDS).await.0, "1 target is there");

        // Without the right to see RobotoPushes the controller does all else, and says so.
        s.kill_controller();
        super::start_as(s, |rule| !rule["resources"].as_array().unwrap().contains(&json!("robotopushes")), &[]).await;
        s.apply("mirror", &json!({"uri": format!("aws.sm://{id}")}).to_string()).await;
        s.ready("mirror").await;
        says(&std::fs::read_to_string(s.controller().process.log_path()).unwrap(), "watch=\"robotopushes.robotosecret.dev\"");
    })
    .await;
}

/// The rights of pushing from these namespaces, for a release in a namespace that isn't among them.
async fn operator(s: &Scene, serves: &[&str]) -> PathBuf {
    let release = format!("{}-operator", s.namespace);
    if namespaces(s).get_opt(&release).await.unwrap().is_none() {
        create(s, &release).await;
    }
    let served = format!("push.namespaces={{{}}}", serves.join(","));
    s.account_of(&release, &["confined=true", "push.enabled=true", &served], |_| true).await
}

fn namespaces(s: &Scene) -> Api<Namespace> {
    Api::all(s.client.clone())
}

async fn create(s: &Scene, namespace: &str) {
    namespaces(s).create(&PostParams::default(), &serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap()).await.unwrap();
}

/// Takes the Role of pushing from the scene's namespace, as the deletion of a namespace does at some moment.
async fn unbind(s: &Scene) {
    let bindings: Api<RoleBinding> = Api::namespaced(s.client.clone(), &s.namespace);
    bindings.delete("robotosecret-push", &DeleteParams::default()).await.unwrap();
}

/// A namespace with a RobotoPush whose target can't be deleted goes; before that happens to it what is given here.
async fn goes(name: &str, before: impl AsyncFnOnce(&mut Scene, &Path)) {
    scene_before_controller(name, async |s| {
        s.provide(&["*"]).await;
        super::allow(s, &["write"]).await;
        let account = operator(s, &[&s.namespace]).await;
        let pushing = ["--confined", "--push-namespaces", &s.namespace.clone()];
        s.start_controller_as(&account, &pushing);
        s.controller_ready().await;
        let (id, one) = (s.path("db"), s.value("one"));
        secret(s, "db", json!({"password": one})).await;
        push(s, "db", json!({"secretName": "db", "deletionPolicy": "Delete", "data": [{"key": "password", "uri": format!("aws.sm://{id}")}]})).await;
        ready(s, "db", "True Pushed", SECONDS).await;
        s.front.deny_action("secretsmanager", "DeleteSecret");
        before(s, &account).await;
        let all = namespaces(s);
        all.delete(&s.namespace, &DeleteParams::background()).await.unwrap();
        // Sooner than the next try would be.
        until("the RobotoPush goes", SECONDS, async || pushes(s).get_opt("db").await.unwrap().is_none().then_some(())).await;
        let gone = async || all.get_opt(&s.namespace).await.unwrap().is_none().then_some(());
        until(&format!("the namespace goes; see {}", s.controller().process.log_path().display()), WITHIN_TTL * 2, gone).await;
        assert_eq!(held(&id).await.unwrap().0, one);
        says(&std::fs::read_to_string(s.controller().process.log_path()).unwrap(), "the namespace goes, and what was pushed stays at the store");
        all.delete(&format!("{}-operator", s.namespace), &DeleteParams::background()).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_namespace_that_is_deleted_waits_for_no_store() {
    goes("push-namespace", async |_, _| {}).await;
}

#[tokio::test]
async fn a_namespace_waits_no_longer_once_it_is_deleted_itself() {
    goes("push-namespace-late", async |s, _| {
        pushes(s).delete("db", &DeleteParams::default()).await.unwrap();
        // By now the next try is a while away.
        let tried = async || (s.calls("DeleteSecret") >= 3).then_some(());
        until("its deletion fails", WITHIN_TTL * 2, tried).await;
    })
    .await;
}

#[tokio::test]
async fn a_namespace_does_not_wait_for_a_store_that_hangs_however_much_is_there() {
    goes("push-namespace-hangs", async |s, _| {
        s.limit(json!({"secretsManagerWrites": 1000})).await;
        let data: Vec<Value> = (0..30).map(|i| json!({"key": "password", "uri": format!("aws.sm://{}", s.path(&format!("many-{i}")))})).collect();
        push(s, "many", json!({"secretName": "db", "deletionPolicy": "Delete", "data": data})).await;
        ready(s, "many", "True Pushed", SECONDS).await;
        s.front.add_fault(Fault::new(|call| call.service == "secretsmanager", Answer::Hang));
    })
    .await;
}

#[tokio::test]
async fn a_namespace_that_lost_the_role_while_the_controller_was_away_goes_too() {
    goes("push-namespace-role", async |s, account| {
        s.kill_controller();
        unbind(s).await;
        let pushing = ["--confined", "--push-namespaces", &s.namespace.clone()];
        s.start_controller_as(account, &pushing);
        s.controller_ready().await;
    })
    .await;
}

#[tokio::test]
async fn a_namespace_that_is_served_no_more_is_told_so_and_its_pushes_go_with_what_they_made() {
    scene_before_controller("push-unserved", async |s| {
        s.provide(&["*"]).await;
        super::allow(s, &["write"]).await;
        let other = format!("{}-other", s.namespace);
        create(s, &other).await;
        let account = operator(s, &[&s.namespace]).await;
        let both = ["--confined", "--namespaces", &other];
        s.start_controller_as(&account, &[&both[..], &["--push-namespaces", &s.namespace.clone()]].concat());
        s.controller_ready().await;
        let (id, one) = (s.path("db"), s.value("one"));
        secret(s, "db", json!({"password": one})).await;
        let spec = |id: &str| json!({"secretName": "db", "deletionPolicy": "Delete", "data": [{"key": "password", "uri": format!("aws.sm://{id}")}]});
        push(s, "db", spec(&id)).await;
        push(s, "kept", spec(&s.path("kept"))).await;
        for name in ["db", "kept"] {
            ready(s, name, "True Pushed", SECONDS).await;
        }
        s.stop_controller();
        unbind(s).await;
        let account = operator(s, &[&other]).await;
        s.start_controller_as(&account, &[&both[..], &["--push-namespaces", &other]].concat());
        s.controller_ready().await;
        let written = super::writes(s);
        // What was pushed stays, and what is new isn't begun.
        push(s, "new", spec(&s.path("new"))).await;
        // Whoever may write a RobotoPush anywhere makes no alert.
        until("only what is served is counted", SECONDS, async || (s.controller().metric("robotosecret_pushes", "") == 0.0).then_some(())).await;
        for name in ["db", "new"] {
            let (message, _) = ready(s, name, "False NotAllowed", SECONDS).await;
            says(&message, &format!("Secrets of the namespace {} may not be pushed; add it to", s.namespace));
        }
        assert_eq!((super::writes(s), held(&id).await.unwrap().0), (written, one));
        // Who leaves behind what was pushed has nothing to wait for.
        let finalizers = async |name: &str| pushes(s).get(name).await.unwrap().metadata.finalizers.unwrap_or_default();
        assert_eq!(finalizers("kept").await.len(), 1);
        pushes(s).patch("kept", &PatchParams::default(), &Patch::Merge(&json!({"spec": {"deletionPolicy": "Retain"}}))).await.unwrap();
        until("it is held by nothing", SECONDS, async || finalizers("kept").await.is_empty().then_some(())).await;
        for name in ["db", "new"] {
            pushes(s).delete(name, &DeleteParams::default()).await.unwrap();
            until(&format!("{name} goes"), SECONDS, async || pushes(s).get_opt(name).await.unwrap().is_none().then_some(())).await;
        }
        assert!(deletion(&id).await.is_some());
        for namespace in [other, format!("{}-operator", s.namespace)] {
            namespaces(s).delete(&namespace, &DeleteParams::background()).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_target_is_made_with_its_attributes_and_what_is_there_may_be_named_by_its_arn() {
    pushing("push-attributes-made", &["write"], async |s| {
        let (id, name, one) = (s.path("db"), format!("/{}", s.path("list")), s.value("one"));
        secret(s, "db", json!({"password": one, "list": "a,b"})).await;
        let data = json!([
            {"key": "password", "uri": format!("aws.sm://{id}"), "attributes": {"kmsKey": "alias/shop"}},
            {"key": "list", "uri": format!("aws.ps://{name}"), "attributes": {"parameterType": "StringList", "parameterTier": "Advanced"}},
        ]);
        push(s, "db", json!({"secretName": "db", "data": data})).await;
        ready(s, "db", "True Pushed", SECONDS).await;
        let made = world().moto.secrets_manager().describe_secret().secret_id(&id).send().await.unwrap();
        assert_eq!(made.kms_key_id(), Some("alias/shop"));
        let filter = ParameterStringFilter::builder().key("Name").values(&name).build().unwrap();
        let listed = world().moto.ssm().describe_parameters().parameter_filters(filter).send().await.unwrap().parameters()[0].clone();
        assert_eq!(format!("{:?} {:?}", listed.r#type.unwrap(), listed.tier.unwrap()), "StringList Advanced");
        // By its ARN, what somebody else made.
        s.put_secret("theirs", "theirs").await;
        let arn = world().moto.secrets_manager().describe_secret().secret_id(s.path("theirs")).send().await.unwrap().arn.unwrap();
        push(s, "arn", json!({"secretName": "db", "adopt": true, "data": [{"key": "password", "uri": arn}]})).await;
        let (_, status) = ready(s, "arn", "True Pushed", SECONDS).await;
        assert_eq!(status.targets[0].arn.as_deref(), Some(arn.as_str()));
        holds(&s.path("theirs"), &one, SECONDS).await;
        // One that isn't there can't be made under an ARN.
        let other = format!("{}-AbCdEf", arn.rsplit_once('-').unwrap().0.replace("theirs", "none"));
        push(s, "none", json!({"secretName": "db", "data": [{"key": "password", "uri": other}]})).await;
        says(&ready(s, "none", "False TargetRejected", SECONDS).await.0, "an ARN is given by AWS when something is made");
        assert!(pushes(s).get("none").await.unwrap().status.unwrap().last_write_time.is_none());
    })
    .await;
}
