//! Conformance: rows of YAML enter, each with what stands in the stores, a spec, and what has to come of it; one list of those that came
//! out otherwise leaves. The rows of a file share a scene and run at the same time; none hides another.
//!
//! In all texts of a row `$P` is a path of its own, `$N` the same with a dot for the slash, `$C` the scene's canary and `$B` that in base64; of the
//! row's store, `$ARN0` is the ARN of the first item, `$BARE0` the same without its suffix, `$ID0.1` its second version. In an item that
//! stands for many and what is expected of it, `$n` is the number of each, from 0.

mod coverage;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    time::{Duration, Instant},
};

use aws_sdk_secretsmanager::{primitives::Blob, types::Tag};
use aws_sdk_ssm::types::ParameterType;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, api::ListParams};
use robotosecret::api::RobotoSecret;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::{Scene, apply_object, root, scene, world};

/// How long all rows of a file may take together, once they are applied.
const LIMIT: Duration = Duration::from_secs(120);

/// A case.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Row {
    /// The resource's name: lower case letters, digits and `-`, its own within the folder.
    name: String,
    /// Which cases of others it stands for; [`coverage`] tells where they are from.
    #[serde(default)]
    covers: Vec<String>,
    #[serde(default)]
    store: Vec<Item>,
    /// `ConfigMap`s by name.
    #[serde(default)]
    config_maps: BTreeMap<String, Value>,
    spec: Value,

    /// The Secret's keys: these and no other, byte for byte.
    holds: Option<BTreeMap<String, Bytes>>,
    /// Keys by number, besides.
    each: Option<Each>,
    /// The Secret's type, if that matters.
    #[serde(rename = "type")]
    type_: Option<String>,
    /// Labels that the Secret has among others.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// Annotations that the Secret has among others.
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    /// The versions that the status shows, in order.
    versions: Option<Vec<String>>,

    /// Instead of a Secret: the condition that says why there is none.
    fails: Option<Fails>,
    /// Instead of both: what the API server says when it refuses the resource.
    refused: Option<String>,
}

/// A secret or a parameter.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Item {
    secret: Option<String>,
    parameter: Option<String>,
    /// Of a parameter: `String`, `StringList` or (if nothing is said) `SecureString`.
    #[serde(rename = "type")]
    type_: Option<String>,
    /// Its only value; no value at all makes a secret that was never given one.
    text: Option<String>,
    base64: Option<String>,
    /// Its values, one after the other.
    #[serde(default)]
    values: Vec<Put>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    /// Whether it is marked for deletion in the end.
    #[serde(default)]
    scheduled: bool,
    /// How many there are of it.
    count: Option<usize>,
    /// How often the text stands in the value.
    repeat: Option<usize>,
}

/// One version of a value.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Put {
    text: Option<String>,
    base64: Option<String>,
    /// The stages of a secret's version.
    #[serde(default)]
    stages: Vec<String>,
    /// The labels of a parameter's version.
    #[serde(default)]
    labels: Vec<String>,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Bytes {
    Text(String),
    Binary { base64: String },
}

impl Bytes {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.clone().into_bytes(),
            Self::Binary { base64 } => STANDARD.decode(base64).expect("base64"),
        }
    }
}

/// A key for each number.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Each {
    count: usize,
    key: String,
    text: String,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fails {
    /// Of Ready: `False` if nothing is said.
    status: Option<String>,
    reason: String,
    /// What the message says, among other things.
    #[serde(default)]
    says: Vec<String>,
}

/// The rows of a file as they are written.
fn written(file: &str) -> Vec<Value> {
    let path = root().join("tests/behaviour/conformance").join(format!("{file}.yaml"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn parsed(row: &Value) -> Row {
    serde_json::from_value(row.clone()).unwrap_or_else(|error| panic!("{error}\n{row:#}"))
}

/// Replaces these names in all texts, also those that are keys.
fn replaced(value: &Value, names: &BTreeMap<String, String>) -> Value {
    // The longest name first, so that `$ID0.10` is not read as `$ID0.1`.
    let mut longest: Vec<_> = names.iter().collect();
    longest.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    let text = |text: &String| longest.iter().fold(text.clone(), |text, (name, by)| text.replace(name.as_str(), by));
    match value {
        Value::String(it) => Value::String(text(it)),
        Value::Array(items) => items.iter().map(|item| replaced(item, names)).collect(),
        Value::Object(fields) => fields.iter().map(|(key, field)| (text(key), replaced(field, names))).collect(),
        other => other.clone(),
    }
}

/// Carries out all rows of a file in a scene of its own.
async fn conform(file: &str) {
    // One row alone, to look into it: ROW=<a part of its name>.
    let wanted = std::env::var("ROW").unwrap_or_default();
    let written: Vec<Value> = written(file).into_iter().filter(|row| row["name"].as_str().is_some_and(|name| name.contains(&wanted))).collect();
    scene(&format!("conform-{file}"), async |s| {
        // The emulated AWS answers one call after the other; more at once only wait longer.
        let mut applied: Vec<(Row, Result<(), String>)> = stream::iter(&written).map(async |row| begin(s, row).await).buffer_unordered(4).collect().await;
        applied.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
        let started = Instant::now();
        loop {
            let wrong = wrong(s, &applied).await;
            if wrong.is_empty() {
                break;
            }
            if started.elapsed() > LIMIT {
                let mut report = String::new();
                for (row, problem) in &wrong {
                    write!(report, "\n- {file}.yaml, {}: {problem}\n  events: {:?}", row.name, s.events(&row.name).await).unwrap();
                }
                panic!("{} of {} rows came out otherwise:{report}", wrong.len(), applied.len());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await;
}

/// Puts a row's values into the stores and applies its resource; the error is what the API server says of it.
async fn begin(s: &Scene, written: &Value) -> (Row, Result<(), String>) {
    let name = written["name"].as_str().unwrap().to_owned();
    let mut names = BTreeMap::from([
        ("$P".to_owned(), s.path(&name)),
        ("$N".to_owned(), format!("{}.{name}", s.namespace)),
        ("$C".to_owned(), s.value("")),
        ("$B".to_owned(), STANDARD.encode(s.value(""))),
    ]);
    let row = parsed(&replaced(written, &names));
    for (i, item) in row.store.iter().enumerate() {
        for n in 0..item.count.unwrap_or(1) {
            let (arn, ids) = put(item, &n.to_string()).await;
            let bare = if item.secret.is_some() { arn.rsplit_once('-').unwrap().0.to_owned() } else { arn.clone() };
            names.extend([(format!("$ARN{i}"), arn), (format!("$BARE{i}"), bare)]);
            names.extend(ids.into_iter().enumerate().map(|(v, id)| (format!("$ID{i}.{v}"), id)));
        }
    }
    let row = parsed(&replaced(written, &names));
    for (map, data) in &row.config_maps {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": map, "namespace": s.namespace}, "data": data});
        apply_object(&s.client, &object).await.unwrap();
    }
    let applied = apply_object(&s.client, &s.resource(&name, &row.spec.to_string())).await;
    let said = |error| if let kube::Error::Api(status) = error { status.message } else { panic!("{error}") };
    (row, applied.map(|_| ()).map_err(said))
}

/// Makes one secret or parameter. Returns its ARN and the ids of its versions.
async fn put(item: &Item, n: &str) -> (String, Vec<String>) {
    let values: Vec<Put> = if item.values.is_empty() && (item.text.is_some() || item.base64.is_some()) {
        vec![Put { text: item.text.clone(), base64: item.base64.clone(), stages: Vec::new(), labels: Vec::new() }]
    } else {
        item.values.clone()
    };
    let text = |put: &Put| put.text.as_ref().map(|text| text.replace("$n", n).repeat(item.repeat.unwrap_or(1)));
    match (&item.secret, &item.parameter) {
        (Some(name), None) => {
            let client = world().moto.secrets_manager();
            let name = name.replace("$n", n);
            let tags = item.tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect();
            let made = client.create_secret().name(&name).set_tags(Some(tags)).send().await.unwrap();
            let mut ids = Vec::new();
            for put in &values {
                let binary = put.base64.as_ref().map(|text| Blob::new(STANDARD.decode(text).unwrap()));
                let stages = (!put.stages.is_empty()).then(|| put.stages.clone());
                let call = client.put_secret_value().secret_id(&name).set_secret_string(text(put)).set_secret_binary(binary).set_version_stages(stages);
                ids.push(call.send().await.unwrap().version_id.unwrap());
            }
            if item.scheduled {
                client.delete_secret().secret_id(&name).recovery_window_in_days(30).send().await.unwrap();
            }
            (made.arn.unwrap(), ids)
        }
        (None, Some(name)) => {
            let client = world().moto.ssm();
            let name = name.replace("$n", n);
            let kind = ParameterType::from(item.type_.as_deref().unwrap_or("SecureString"));
            let mut ids = Vec::new();
            for (i, put) in values.iter().enumerate() {
                let call = client.put_parameter().name(&name).r#type(kind.clone()).set_value(text(put));
                // The store takes tags with the first version only.
                let tags = item.tags.iter().map(|(key, value)| aws_sdk_ssm::types::Tag::builder().key(key).value(value).build().unwrap()).collect();
                let call = if i == 0 { call.set_tags(Some(tags)) } else { call.overwrite(true) };
                let version = call.send().await.unwrap().version;
                if !put.labels.is_empty() {
                    let call = client.label_parameter_version().name(&name).parameter_version(version).set_labels(Some(put.labels.clone()));
                    call.send().await.unwrap();
                }
                ids.push(version.to_string());
            }
            let arn = client.get_parameter().name(&name).send().await.unwrap().parameter.unwrap().arn.unwrap();
            (arn, ids)
        }
        _ => panic!("an item is a secret or a parameter"),
    }
}

/// The rows that are not (yet) as they should be, and how.
async fn wrong<'r>(s: &Scene, applied: &'r [(Row, Result<(), String>)]) -> Vec<(&'r Row, String)> {
    let resources = s.resources().list(&ListParams::default()).await.unwrap().items;
    let secrets = s.secrets().list(&ListParams::default()).await.unwrap().items;
    let check = |(row, applied): &'r (Row, Result<(), String>)| {
        let resource = resources.iter().find(|resource| resource.name_any() == row.name);
        let target = resource.and_then(|resource| resource.spec.target.name.clone()).unwrap_or_else(|| row.name.clone());
        let secret = secrets.iter().find(|secret| secret.name_any() == target);
        Some((row, judge(row, applied, resource, secret).err()?))
    };
    applied.iter().filter_map(check).collect()
}

fn judge(row: &Row, applied: &Result<(), String>, resource: Option<&RobotoSecret>, secret: Option<&Secret>) -> Result<(), String> {
    let Some(expected) = &row.refused else {
        applied.clone().map_err(|said| format!("expected to be accepted, but the API server says {said}"))?;
        let resource = resource.ok_or("there is no such resource")?;
        return match &row.fails {
            Some(fails) => judge_failure(fails, resource, secret),
            None => judge_secret(row, resource, secret),
        };
    };
    match applied {
        Err(said) if said.contains(expected) => Ok(()),
        other => Err(format!("expected to be refused with {expected:?}, found {other:?}")),
    }
}

fn judge_failure(fails: &Fails, resource: &RobotoSecret, secret: Option<&Secret>) -> Result<(), String> {
    let (ready, message) = ready(resource);
    let expected = format!("{} {}", fails.status.as_deref().unwrap_or("False"), fails.reason);
    let unsaid: Vec<_> = fails.says.iter().filter(|part| !message.contains(part.as_str())).collect();
    if ready != expected || !unsaid.is_empty() {
        return Err(format!("expected Ready={expected} that says {:?}\n  found Ready={ready}: {message}", fails.says));
    }
    if let Some(secret) = secret {
        return Err(format!("expected no Secret\n  found {}", shown(secret)));
    }
    Ok(())
}

fn judge_secret(row: &Row, resource: &RobotoSecret, secret: Option<&Secret>) -> Result<(), String> {
    let (ready, message) = ready(resource);
    let found = || format!("{}\n  Ready={ready}: {message}", secret.map_or_else(|| "no Secret".to_owned(), shown));
    let mut expected: BTreeMap<String, Vec<u8>> = row.holds.iter().flatten().map(|(key, value)| (key.clone(), value.bytes())).collect();
    for n in 0..row.each.as_ref().map_or(0, |each| each.count) {
        let number = |text: &str| text.replace("$n", &n.to_string());
        expected.extend(row.each.iter().map(|each| (number(&each.key), number(&each.text).into_bytes())));
    }
    let data: Option<BTreeMap<String, Vec<u8>>> =
        secret.map(|secret| secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect());
    if data.as_ref() != Some(&expected) || ready != "True Mirrored" {
        let expected: Vec<_> = expected.iter().map(|(key, value)| format!("{key}={:?}", String::from_utf8_lossy(value))).collect();
        return Err(format!("expected a Secret with {}\n  found {}", expected.join(", "), found()));
    }
    let secret = secret.ok_or("no Secret")?;
    if row.type_.is_some() && row.type_ != secret.type_ {
        return Err(format!("expected the type {:?}\n  found {:?}", row.type_, secret.type_));
    }
    for (expected, found) in [(&row.labels, secret.labels()), (&row.annotations, secret.annotations())] {
        if let Some((key, value)) = expected.iter().find(|(key, value)| found.get(*key) != Some(value)) {
            return Err(format!("expected {key}={value:?} in the metadata\n  found {found:?}"));
        }
    }
    let versions: Vec<String> = resource.status.iter().flat_map(|status| &status.sources).map(|source| source.version.clone()).collect();
    if row.versions.as_ref().is_some_and(|expected| *expected != versions) {
        return Err(format!("expected the versions {:?} in the status\n  found {versions:?}", row.versions));
    }
    Ok(())
}

/// `<status> <reason>` of Ready, for the current generation, and its message.
fn ready(resource: &RobotoSecret) -> (String, String) {
    let status = resource.status.as_ref().filter(|status| status.observed_generation == resource.metadata.generation);
    let ready = status.and_then(|status| status.condition("Ready"));
    ready.map_or_else(Default::default, |ready| (format!("{} {}", ready.status, ready.reason), ready.message.clone()))
}

/// The values of a test are made up, so they may be shown.
fn shown(secret: &Secret) -> String {
    let data = secret.data.iter().flatten().map(|(key, value)| format!("{key}={:?}", String::from_utf8_lossy(&value.0)));
    format!("a Secret with {}", data.collect::<Vec<_>>().join(", "))
}

#[tokio::test]
async fn values_and_keypaths() {
    conform("values").await;
}

#[tokio::test]
async fn parameters() {
    conform("parameters").await;
}

#[tokio::test]
async fn listings() {
    conform("listings").await;
}

#[tokio::test]
async fn names_and_keys() {
    conform("keys").await;
}

#[tokio::test]
async fn decoding_tags_and_types() {
    conform("forms").await;
}

#[tokio::test]
async fn templates() {
    conform("templates").await;
}

#[test]
fn each_row_says_one_thing_and_each_file_runs() {
    let own = include_str!("mod.rs");
    let mut names = BTreeSet::new();
    for file in files() {
        assert!(own.contains(&format!("conform(\"{file}\")")), "no test runs {file}.yaml");
        for row in written(&file).iter().map(parsed) {
            let secret = row.holds.is_some() || row.each.is_some();
            let outcomes = [secret, row.fails.is_some(), row.refused.is_some()];
            assert_eq!(outcomes.iter().filter(|it| **it).count(), 1, "{file}.yaml, {}: holds (and each), fails or refused", row.name);
            assert!(names.insert(row.name.clone()), "{file}.yaml, {}: the name stands twice", row.name);
        }
    }
}

/// The files of rows, without their ending.
fn files() -> Vec<String> {
    let all = std::fs::read_dir(root().join("tests/behaviour/conformance")).unwrap();
    let stem = |path: std::path::PathBuf| (path.extension()? == "yaml").then(|| path.file_stem().unwrap().to_str().unwrap().to_owned());
    all.filter_map(|entry| stem(entry.unwrap().path())).collect()
}
