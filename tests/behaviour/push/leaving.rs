//! What becomes of what was pushed when it is pushed no more, and what is made with attributes and by ARN.

use aws_sdk_ssm::types::ParameterStringFilter;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, api::DeleteParams};
use serde_json::{Value, json};

use super::{SECONDS, WITHIN_TTL, held, holds, parameter, push, pushes, pushing, ready, says, secret, until, world};

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

#[tokio::test]
async fn a_namespace_that_is_deleted_waits_for_no_store() {
    pushing("push-namespace", &["write"], async |s| {
        let (id, one) = (s.path("db"), s.value("one"));
        secret(s, "db", json!({"password": one})).await;
        push(s, "db", json!({"secretName": "db", "deletionPolicy": "Delete", "data": [{"key": "password", "uri": format!("aws.sm://{id}")}]})).await;
        ready(s, "db", "True Pushed", SECONDS).await;
        s.front.deny_action("secretsmanager", "DeleteSecret");
        let namespaces: Api<Namespace> = Api::all(s.client.clone());
        namespaces.delete(&s.namespace, &DeleteParams::background()).await.unwrap();
        let log = s.controller().process.log_path().to_owned();
        until(&format!("the namespace goes; see {}", log.display()), WITHIN_TTL * 2, async || {
            namespaces.get_opt(&s.namespace).await.unwrap().is_none().then_some(())
        })
        .await;
        assert_eq!(held(&id).await.unwrap().0, one);
        says(&std::fs::read_to_string(&log).unwrap(), "the namespace goes, and what was pushed stays at the store");
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
