//! What a write sends, where moto would keep what is left out and AWS may not.

use super::{questions::source, *};
use crate::{
    provider::{
        ServedVersion, WriteError,
        writing::{Attributes, ParameterKind, ParameterTier, Recovery},
    },
    sensitive::Sensitive,
};

fn value() -> Value {
    Value::Text(Sensitive::from(CANARY.to_owned()))
}

fn bodies(wire: &Wire) -> Vec<(String, Json)> {
    wire.calls.lock().unwrap().iter().filter(|(action, _)| action != "GetCallerIdentity").cloned().collect()
}

fn put_secret(version: &str) -> Json {
    json!({"ARN": secret_arn("x"), "Name": "x", "VersionId": version})
}

fn base(id: &str) -> ServedVersion {
    ServedVersion { arn: secret_arn("x"), id: id.to_owned(), created: None, region: None }
}

#[tokio::test]
async fn a_new_secret_is_sent_with_a_token_and_with_nothing_that_was_not_asked_for() {
    let wire = Wire::new([ok("CreateSecret", &put_secret("v-1"))]).await;
    let provider = wire.provider().await;
    let attributes = Attributes { tags: [("a".to_owned(), "b".to_owned())].into(), kms_key: Some("alias/k".to_owned()), ..Attributes::default() };
    let written = provider.create(&source("aws.sm://x"), &value(), &attributes).await.unwrap();
    assert_eq!((written.arn, written.version.as_str()), (secret_arn("x"), "v-1"));
    provider.create(&source("aws.sm://x"), &Value::Binary(Sensitive::new(vec![0xff])), &Attributes::default()).await.unwrap();
    let [(_, first), (_, second)] = bodies(&wire).try_into().unwrap();
    let [one, other] = [&first, &second].map(|body| body["ClientRequestToken"].as_str().unwrap().to_owned());
    assert!(one.len() == 36 && one != other, "{one} {other}");
    let tags = json!([{"Key": "a", "Value": "b"}]);
    assert_eq!(first, json!({"Name": "x", "SecretString": CANARY, "KmsKeyId": "alias/k", "Tags": tags, "ClientRequestToken": one}));
    assert_eq!(second, json!({"Name": "x", "SecretBinary": "/w==", "ClientRequestToken": other}));
}

#[tokio::test]
async fn a_value_that_is_compared_is_never_current_before_aws_compared() {
    let there = json!({"ARN": secret_arn("x"), "Name": "x", "VersionId": "v-1", "SecretString": "one", "CreatedDate": 1.5});
    let wire = Wire::new([ok("GetSecretValue", &there), ok("PutSecretValue", &put_secret("v-2")), ok("UpdateSecretVersionStage", &put_secret("v-2"))]).await;
    let provider = wire.provider().await;
    assert_eq!(provider.update(&source("aws.sm://x"), &value(), Some(&base("v-1"))).await.unwrap().version, "v-2");
    let [(_, look), (_, mut put), (_, moved), (_, cleaned)] = bodies(&wire).try_into().unwrap();
    assert!(put.as_object_mut().unwrap().remove("ClientRequestToken").is_some());
    assert_eq!(look, json!({"SecretId": "x", "VersionStage": "AWSCURRENT"}));
    assert_eq!(put, json!({"SecretId": "x", "SecretString": CANARY, "VersionStages": ["ROBOTOSECRET_PENDING"]}));
    let arn = secret_arn("x");
    assert_eq!(moved, json!({"SecretId": arn, "VersionStage": "AWSCURRENT", "RemoveFromVersionId": "v-1", "MoveToVersionId": "v-2"}));
    assert_eq!(cleaned, json!({"SecretId": arn, "VersionStage": "ROBOTOSECRET_PENDING", "RemoveFromVersionId": "v-2"}));
    // Without a base it is left to AWS which stage that is.
    provider.update(&source("aws.sm://x"), &value(), None).await.unwrap();
    assert_eq!(bodies(&wire)[5].1.get("VersionStages"), None);
    provider.update(&source("aws.sm://x?version-stage=NEXT"), &value(), None).await.unwrap();
    assert_eq!(bodies(&wire)[7].1["VersionStages"], json!(["NEXT"]));
}

#[tokio::test]
async fn a_secret_whose_arn_only_begins_with_what_is_written_is_not_written_to() {
    let there = json!({"ARN": secret_arn("x-AbCdEf"), "Name": "x-AbCdEf", "VersionId": "v-1", "SecretString": "one", "CreatedDate": 1.5});
    let caller = Answer("GetCallerIdentity", 200, ACCOUNT.to_owned());
    let wire = Wire::new([caller, ok("GetSecretValue", &there), ok("PutSecretValue", &put_secret("v-2"))]).await;
    let error = wire.provider().await.update(&source(&secret_arn("x")), &value(), None).await.unwrap_err();
    assert!(error.to_string().starts_with("Refused: the ARN is the beginning of another secret's"), "{error}");
    assert_eq!(wire.actions(), ["GetCallerIdentity", "GetSecretValue"]);
}

#[tokio::test]
async fn a_move_that_is_refused_with_any_words_is_a_conflict_only_if_another_version_is_there() {
    let there = |id: &str| ok("GetSecretValue", &json!({"ARN": secret_arn("x"), "Name": "x", "VersionId": id, "SecretString": "one", "CreatedDate": 1.5}));
    let words = "The parameter RemoveFromVersionId can't be empty. Staging label AWSCURRENT is currently attached to version v-9, so you must explicitly \
                 reference that version in RemoveFromVersionId.";
    for (now, expected) in [("v-9", "Conflict"), ("v-2", "ok"), ("v-1", "Refused")] {
        for (code, words) in [("InvalidParameterException", words), ("InvalidRequestException", "x"), ("ResourceNotFoundException", "x")] {
            let refused = fails("UpdateSecretVersionStage", 400, code, words);
            let wire = Wire::new([there("v-1"), there(now), ok("PutSecretValue", &put_secret("v-2")), refused]).await;
            let answer = wire.provider().await.update(&source("aws.sm://x"), &value(), Some(&base("v-1"))).await;
            let told = answer.map_or_else(|error| error.to_string(), |_| "ok".to_owned());
            let expected = if (now, code) == ("v-1", "ResourceNotFoundException") { "NotFound" } else { expected };
            assert_eq!(told.split(':').next(), Some(expected), "{code} {now}");
            assert_eq!(wire.actions().iter().filter(|action| *action == "UpdateSecretVersionStage").count(), 2, "the label is taken away in any case");
        }
    }
}

#[tokio::test]
async fn another_value_of_a_parameter_is_sent_with_all_that_it_has() {
    let all = json!({"Name": "/x", "ARN": "arn:aws:ssm:eu-west-1:123456789012:parameter/x", "Type": "SecureString", "KeyId": "alias/k", "Version": 3,
        "Tier": "Advanced", "Description": "what it is", "AllowedPattern": "^c", "DataType": "text", "Policies": [{"PolicyText": "p", "PolicyType": "Expiration"}]});
    let answers = [ok("DescribeParameters", &json!({"Parameters": [all]})), ok("PutParameter", &json!({"Version": 4, "Tier": "Advanced"}))];
    let wire = Wire::new(answers).await;
    let provider = wire.provider().await;
    let written = provider.update(&source("aws.ps:///x"), &value(), Some(&ServedVersion { id: "3".to_owned(), ..base("") })).await.unwrap();
    assert_eq!((written.arn.as_str(), written.version.as_str()), ("arn:aws:ssm:eu-west-1:123456789012:parameter/x", "4"));
    let [(_, described), (_, put)] = bodies(&wire).try_into().unwrap();
    assert_eq!(described, json!({"ParameterFilters": [{"Key": "Name", "Option": "Equals", "Values": ["/x"]}]}));
    // Policies stay as long as none are sent, and tags can't be.
    let kept = json!({"Name": "/x", "Value": CANARY, "Overwrite": true, "Type": "SecureString", "KeyId": "alias/k", "Tier": "Advanced",
        "Description": "what it is", "AllowedPattern": "^c", "DataType": "text"});
    assert_eq!(put, kept);
    // Two others wrote meanwhile, or somebody deleted it: the write is done, and told of.
    for version in [6, 1] {
        let answers = [ok("DescribeParameters", &json!({"Parameters": [all]})), ok("PutParameter", &json!({"Version": version}))];
        let provider = Wire::new(answers).await.provider().await;
        let error = provider.update(&source("aws.ps:///x"), &value(), Some(&ServedVersion { id: "3".to_owned(), ..base("") })).await.unwrap_err();
        assert!(matches!(error, WriteError::Overtaken { base: 3, written } if written == version), "{error}");
    }
}

#[tokio::test]
async fn a_new_parameter_is_a_secure_string_unless_another_kind_is_asked_for() {
    let wire = Wire::new([ok("PutParameter", &json!({"Version": 1}))]).await;
    let provider = wire.provider().await;
    provider.create(&source("aws.ps:///x"), &value(), &Attributes::default()).await.unwrap();
    let attributes = Attributes { kind: Some(ParameterKind::String), tier: Some(ParameterTier::IntelligentTiering), ..Attributes::default() };
    provider.create(&source("aws.ps:///x"), &value(), &attributes).await.unwrap();
    let [(_, first), (_, second)] = bodies(&wire).try_into().unwrap();
    assert_eq!(first, json!({"Name": "/x", "Value": CANARY, "Overwrite": false, "Type": "SecureString"}));
    assert_eq!(second, json!({"Name": "/x", "Value": CANARY, "Overwrite": false, "Type": "String", "Tier": "Intelligent-Tiering"}));
}

#[tokio::test]
async fn the_arn_of_a_new_parameter_is_of_the_identitys_account_or_not_told() {
    for (caller, arn) in [
        (Answer("GetCallerIdentity", 200, ACCOUNT.to_owned()), "arn:aws:ssm:eu-west-1:123456789012:parameter/x"),
        (Answer("GetCallerIdentity", 500, String::new()), ""),
    ] {
        let provider = Wire::new([ok("PutParameter", &json!({"Version": 1})), caller]).await.provider().await;
        let written = provider.create(&source("aws.ps://x"), &value(), &Attributes::default()).await.unwrap();
        assert_eq!((written.arn.as_str(), written.version.as_str()), (arn, "1"), "it was written in either case");
    }
}

#[tokio::test]
async fn a_deletion_says_how_long_or_that_it_is_forced_and_never_both() {
    let wire = Wire::new([ok("DeleteSecret", &json!({"ARN": secret_arn("x"), "Name": "x", "DeletionDate": 1_800_000_000.5}))]).await;
    let provider = wire.provider().await;
    let at = provider.delete(&source("aws.sm://x"), Recovery::default()).await.unwrap();
    assert_eq!(at.as_deref(), Some("2027-01-15T08:00:00.5Z"));
    provider.delete(&source("aws.sm://x"), Recovery::Force).await.unwrap();
    let sent: Vec<Json> = bodies(&wire).into_iter().map(|(_, body)| body).collect();
    assert_eq!(sent, [json!({"SecretId": "x", "RecoveryWindowInDays": 30}), json!({"SecretId": "x", "ForceDeleteWithoutRecovery": true})]);
}

#[tokio::test]
async fn an_answer_that_never_comes_says_that_it_may_be_written() {
    let wire = Wire::new([Answer("PutParameter", 0, String::new())]).await;
    let error = wire.provider().await.create(&source("aws.ps:///x"), &value(), &Attributes::default()).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ProviderUnavailable);
    assert!(error.to_string().contains("it may have done it: look before you try again"), "{error}");
}
