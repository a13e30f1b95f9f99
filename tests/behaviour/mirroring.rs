//! Values arrive in Secrets exactly as they are in the store, by every kind of reference.

use aws_sdk_secretsmanager::primitives::Blob;
use aws_sdk_ssm::types::ParameterType;
use robotosecret::api::reference::Reference;
use serde_json::json;

use crate::support::{SECONDS, Scene, says, scene, world};

async fn parameter(s: &Scene, name: &str, kind: ParameterType, value: &str) {
    world().moto.ssm().put_parameter().name(format!("/{}", s.path(name))).value(value).r#type(kind).overwrite(true).send().await.unwrap();
}

#[tokio::test]
async fn a_json_secret_in_short_form_becomes_one_key_a_member() {
    scene("short-form", async |s| {
        let (user, password) = (s.value("user"), s.value("pä$\n\"日本\""));
        s.put_secret("db", &json!({"user": user, "password": password, "port": 3306}).to_string()).await;
        s.apply("db", &format!("uri: aws.sm://{}", s.path("db"))).await;
        assert_eq!(s.ready("db").await, "3 keys from 1 source");
        s.holds("db", &[("password", &password), ("port", "3306"), ("user", &user)], SECONDS).await;
        s.event("db", "Mirrored: 3 keys mirrored into the Secret db").await;
    })
    .await;
}

#[tokio::test]
async fn anything_else_in_short_form_becomes_the_key_value() {
    scene("short-value", async |s| {
        let text = s.value(" not\njson");
        s.put_secret("text", &text).await;
        s.put_parameter("token", &text).await;
        s.apply("text", &format!("uri: aws.sm://{}", s.path("text"))).await;
        s.apply("token", &format!("uri: aws.ps:///{}", s.path("token"))).await;
        s.holds("text", &[("value", &text)], SECONDS).await;
        s.holds("token", &[("value", &text)], SECONDS).await;
    })
    .await;
}

#[tokio::test]
async fn a_binary_secret_is_mirrored_byte_for_byte() {
    scene("binary", async |s| {
        let bytes = [&[0, 255, 10, 13, 128][..], s.value("x").as_bytes(), &[0]].concat();
        world().moto.secrets_manager().create_secret().name(s.path("blob")).secret_binary(Blob::new(bytes.clone())).send().await.unwrap();
        s.apply("blob", &format!("data: [{{key: blob.bin, uri: 'aws.sm://{}'}}]", s.path("blob"))).await;
        s.ready("blob").await;
        let secret = s.secrets().get("blob").await.unwrap();
        assert!(secret.data.unwrap()["blob.bin"].0 == bytes, "the bytes differ");
    })
    .await;
}

#[tokio::test]
async fn every_kind_of_parameter_is_mirrored() {
    scene("parameters", async |s| {
        let value = s.value("p");
        let list = format!("{value},b,c");
        parameter(s, "string", ParameterType::String, &value).await;
        parameter(s, "list", ParameterType::StringList, &list).await;
        s.put_parameter("secure", &value).await;
        world().moto.ssm().put_parameter().name(format!("root-{}", s.namespace)).value(&value).r#type(ParameterType::String).send().await.unwrap();
        let base = s.path("");
        let spec = format!(
            "data: [{{key: string, uri: 'aws.ps:///{base}string'}}, {{key: list, store: aws.ps, path: /{base}list}}, {{key: secure, uri: 'aws.ps:///{base}secure'}}, {{key: root, uri: 'aws.ps://root-{}'}}]",
            s.namespace
        );
        s.apply("all", &spec).await;
        s.holds("all", &[("list", &list), ("root", &value), ("secure", &value), ("string", &value)], SECONDS).await;
        assert_eq!(s.ready("all").await, "4 keys from 4 sources");
    })
    .await;
}

#[tokio::test]
async fn a_keypath_takes_what_stands_there_digit_for_digit() {
    scene("keypath", async |s| {
        let (plain, odd) = (s.value("plain"), s.value("\u{e4}\"\\\n"));
        let document = format!(
            r#"{{"a":{{"b":[{{"c":{plain:?}}},{{"c":"second"}}]}},"a.b":1.50,"big":123456789012345678901234567890.10,"s/l~h":{odd},"t":true,"o":{{"z":1, "y":[ ]}},"items":[{{"id":1}},{{"id":2}}]}}"#,
            odd = json!(odd)
        );
        s.put_secret("doc", &document).await;
        let uri = format!("aws.sm://{}", s.path("doc"));
        let data = json!([
            {"key": "deep", "uri": format!("{uri}#/a/b/0/c")},
            {"key": "fields", "store": "aws.sm", "path": s.path("doc"), "keypath": ["a", "b", "1", "c"]},
            {"key": "dot", "uri": format!("{uri}#/a.b")},
            {"key": "big", "uri": format!("{uri}#/big")},
            {"key": "escaped", "uri": format!("{uri}#/s~1l~0h")},
            {"key": "bool", "uri": format!("{uri}#/t")},
            {"key": "object", "uri": format!("{uri}#/o")},
            {"key": "each", "uri": format!("{uri}#/items/id")},
            {"key": "whole", "uri": uri},
        ]);
        s.apply("doc", &json!({"data": data}).to_string()).await;
        let expected = [
            ("big", "123456789012345678901234567890.10"),
            ("bool", "true"),
            ("deep", &plain),
            ("dot", "1.50"),
            ("each", "[1,2]"),
            ("escaped", &odd),
            ("fields", "second"),
            ("object", r#"{"z":1, "y":[ ]}"#),
            ("whole", &document),
        ];
        s.holds("doc", &expected, SECONDS).await;
        assert_eq!(s.ready("doc").await, "9 keys from 1 source");
        assert_eq!(s.calls("GetSecretValue"), 1, "each distinct reference is read once");
    })
    .await;
}

#[tokio::test]
async fn the_short_form_takes_a_keypath_too() {
    scene("short-keypath", async |s| {
        let value = s.value("in");
        s.put_secret("doc", &json!({"db": {"user": value, "port": 1}, "list": [value]}).to_string()).await;
        s.apply("object", &format!("uri: aws.sm://{}#/db", s.path("doc"))).await;
        s.apply("list", &format!("uri: aws.sm://{}#/list", s.path("doc"))).await;
        s.holds("object", &[("port", "1"), ("user", &value)], SECONDS).await;
        s.holds("list", &[("value", &json!([value]).to_string())], SECONDS).await;
    })
    .await;
}

#[tokio::test]
async fn versions_of_a_secret_are_read_by_stage_and_by_id() {
    scene("stages", async |s| {
        let (old, new) = (s.value("old"), s.value("new"));
        s.put_secret("db", &old).await;
        let first = world().moto.secrets_manager().describe_secret().secret_id(s.path("db")).send().await.unwrap();
        let first = first.version_ids_to_stages.unwrap().into_keys().next().unwrap();
        s.put_secret("db", &new).await;
        let path = s.path("db");
        let data = json!([
            {"key": "current", "uri": format!("aws.sm://{path}")},
            {"key": "previous", "store": "aws.sm", "path": path, "version": {"stage": "AWSPREVIOUS"}},
            {"key": "previous-uri", "uri": format!("aws.sm://{path}?version-stage=AWSPREVIOUS")},
            {"key": "id", "store": "aws.sm", "path": path, "version": {"id": first}},
        ]);
        s.apply("db", &json!({"data": data}).to_string()).await;
        s.holds("db", &[("current", &new), ("id", &old), ("previous", &old), ("previous-uri", &old)], SECONDS).await;
        assert_eq!(s.ready("db").await, "4 keys from 3 sources");
        let status = s.status("db").await;
        assert_eq!(status.sources[1].uri, format!("aws.sm://{path}?version-stage=AWSPREVIOUS"));
        assert_eq!(status.sources[1].version, first, "the status shows the version served");
        assert_eq!(status.source_count, Some(3));
    })
    .await;
}

#[tokio::test]
async fn versions_of_a_parameter_are_read_by_number_and_by_label() {
    scene("numbers", async |s| {
        let values: Vec<String> = (1..=3).map(|n| s.value(&n.to_string())).collect();
        for value in &values {
            s.put_parameter("p", value).await;
        }
        let name = format!("/{}", s.path("p"));
        world().moto.ssm().label_parameter_version().name(&name).parameter_version(2).labels("blue").send().await.unwrap();
        let data = json!([
            {"key": "current", "store": "aws.ps", "path": name},
            {"key": "one", "uri": format!("aws.ps://{name}?version=1")},
            {"key": "two", "store": "aws.ps", "path": name, "version": {"label": "blue"}},
        ]);
        s.apply("p", &json!({"data": data}).to_string()).await;
        s.holds("p", &[("current", &values[2]), ("one", &values[0]), ("two", &values[1])], SECONDS).await;
        s.ready("p").await;
        let versions: Vec<String> = s.status("p").await.sources.into_iter().map(|source| source.version).collect();
        assert_eq!(versions, ["3", "1", "2"]);
    })
    .await;
}

#[tokio::test]
async fn arns_work_bare_and_behind_their_scheme() {
    scene("arns", async |s| {
        let value = s.value("arn");
        s.put_secret("db", &json!({"k": value}).to_string()).await;
        s.put_parameter("p", &value).await;
        let secret = world().moto.secrets_manager().describe_secret().secret_id(s.path("db")).send().await.unwrap().arn.unwrap();
        let parameter = world().moto.ssm().get_parameter().name(format!("/{}", s.path("p"))).send().await.unwrap().parameter.unwrap().arn.unwrap();
        let partial = secret.rsplit_once('-').unwrap().0;
        let data = json!([
            {"key": "bare", "uri": format!("{secret}#/k")},
            {"key": "scheme", "uri": format!("aws.sm://{secret}#/k")},
            {"key": "partial", "store": "aws.sm", "path": partial, "keypath": ["k"]},
            {"key": "parameter", "uri": parameter},
        ]);
        s.apply("arns", &json!({"data": data}).to_string()).await;
        s.holds("arns", &[("bare", &value), ("parameter", &value), ("partial", &value), ("scheme", &value)], SECONDS).await;
        assert_eq!(s.calls("GetCallerIdentity"), 1, "the account is asked once");
    })
    .await;
}

#[tokio::test]
async fn a_parameter_that_stands_for_a_secret_reads_the_longest_name_that_exists() {
    scene("through-sm", async |s| {
        let value = s.value("deep");
        s.put_secret("app", &json!({"a": {"b": value}}).to_string()).await;
        let base = format!("/aws/reference/secretsmanager/{}", s.path("app"));
        let data = json!([
            {"key": "deep", "uri": format!("aws.ps://{base}/a/b")},
            {"key": "part", "uri": format!("aws.ps://{base}/a#/b")},
            {"key": "whole", "store": "aws.ps", "path": base},
        ]);
        s.apply("app", &json!({"data": data}).to_string()).await;
        s.holds("app", &[("deep", &value), ("part", &value), ("whole", &json!({"a": {"b": value}}).to_string())], SECONDS).await;
        assert_eq!(s.calls("GetParameter"), 0, "it is resolved as Secrets Manager reads");
    })
    .await;
}

#[tokio::test]
async fn the_secret_carries_what_the_target_asks_for_and_our_marks() {
    scene("target", async |s| {
        let value = s.value("t");
        s.put_secret("db", &json!({"username": "u", "password": value}).to_string()).await;
        let target = json!({"name": "other-name", "type": "kubernetes.io/basic-auth", "labels": {"team": "shop"}, "annotations": {"note": "hello"}});
        s.apply("db", &json!({"uri": format!("aws.sm://{}", s.path("db")), "target": target}).to_string()).await;
        s.ready("db").await;
        let secret = s.secrets().get("other-name").await.unwrap();
        assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/basic-auth"));
        let labels = secret.metadata.labels.unwrap();
        assert_eq!((labels["team"].as_str(), labels["robotosecret.dev/managed"].as_str()), ("shop", "true"));
        let annotations = secret.metadata.annotations.unwrap();
        assert_eq!((annotations["note"].as_str(), annotations["robotosecret.dev/owner"].as_str()), ("hello", "db"));
        let owner = &secret.metadata.owner_references.unwrap()[0];
        assert_eq!((owner.kind.as_str(), owner.name.as_str(), owner.controller), ("RobotoSecret", "db", Some(true)));
        let target = s.status("db").await.target.unwrap();
        assert_eq!((target.name.as_str(), target.key_count, target.keys), ("other-name", 2, vec!["password".to_owned(), "username".to_owned()]));
        assert!(s.data("db").await.is_none());
    })
    .await;
}

#[tokio::test]
async fn the_status_tells_where_each_value_came_from() {
    scene("sources", async |s| {
        s.put_secret("db", &s.value("x")).await;
        s.apply("db", &format!("uri: aws.sm://{}", s.path("db"))).await;
        s.ready("db").await;
        let status = s.status("db").await;
        let source = &status.sources[0];
        let uri: Reference = source.uri.parse().unwrap();
        assert_eq!(uri.source.id(), s.path("db"));
        says(&source.arn, "arn:aws:secretsmanager:eu-west-1:123456789012:secret:");
        let described = world().moto.secrets_manager().describe_secret().secret_id(s.path("db")).send().await.unwrap();
        assert_eq!(described.version_ids_to_stages.unwrap().keys().collect::<Vec<_>>(), [&source.version]);
        assert!(source.created_time.is_some() && source.last_changed_time.is_some());
        assert!(status.last_check_time.is_some() && status.last_change_time.is_some());
        assert_eq!(status.observed_generation, Some(1));
    })
    .await;
}

#[tokio::test]
async fn two_hundred_keys_of_one_secret_cost_one_call_and_one_write() {
    scene("many-keys", async |s| {
        s.put_secret("db", &json!({"k": s.value("v")}).to_string()).await;
        let data: Vec<_> = (0..200).map(|n| json!({"key": format!("k{n}"), "uri": format!("aws.sm://{}#/k", s.path("db"))})).collect();
        s.apply("db", &json!({"data": data, "ttl": "1000h"}).to_string()).await;
        assert_eq!(s.ready("db").await, "200 keys from 1 source");
        assert_eq!(s.data("db").await.unwrap().len(), 200);
        let target = s.status("db").await.target.unwrap();
        assert_eq!((target.key_count, target.keys.len()), (200, 100), "the status lists the first hundred");
        assert_eq!(s.calls("GetSecretValue"), 1);
        assert!((s.controller().metric("robotosecret_kube_writes_total", r#"kind="Secret""#) - 1.0).abs() < f64::EPSILON);
    })
    .await;
}
