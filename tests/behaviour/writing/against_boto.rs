//! The same steps through boto3, as scripts on top of it do them, and through the providers, in one moto: what each step answers and what is there in
//! the end are the same.

use std::process::Command;

use robotosecret::provider::{
    ServedVersion, Value as Kept, WriteError,
    aws::AwsProvider,
    writing::{Attributes, ParameterKind, ParameterTier, Recovery},
};
use serde_json::{Value, json};

use super::{binary, moto, provider, read, source, text};
use crate::support::run;

/// Does the steps under the names of its first argument, then prints what came of each and what is there. With no steps it only looks.
const SCRIPT: &str = r#"
import boto3, botocore, json, sys

prefix, url = sys.argv[1:]
keys = dict(region_name="eu-west-1", aws_access_key_id="testbed", aws_secret_access_key="testbed", endpoint_url=url)
sm, ssm = boto3.client("secretsmanager", **keys), boto3.client("ssm", **keys)
LABEL = "ROBOTOSECRET_PENDING"
bases = {}

def content(value, kind="text"):
    return {"SecretString": value} if kind == "text" else {"SecretBinary": value.encode("latin-1")}

def given(**fields):
    return {name: value for name, value in fields.items() if value}

def tagged(tags):
    return [{"Key": key, "Value": value} for key, value in tags.items()]

class sm_steps:
    def create(name, value, kind, description=None, tags={}, key=None):
        sm.create_secret(Name=name, **content(value, kind), **given(Description=description, Tags=tagged(tags), KmsKeyId=key))

    def kept(name, value, kind, stage):
        there = sm.get_secret_value(SecretId=name, **given(VersionStage=stage))
        if "SecretString" in there:
            return there, {"SecretString": value if kind == "text" else value.encode("latin-1").decode()}
        return there, {"SecretBinary": value.encode() if kind == "text" else value.encode("latin-1")}

    def update(name, value, kind, stage=None):
        try:
            _, new = sm_steps.kept(name, value, kind, None)
        except sm.exceptions.ResourceNotFoundException:
            new = content(value, kind)
        sm.put_secret_value(SecretId=name, **new, **given(VersionStages=[stage] if stage else None))

    def look(name):
        bases[name] = sm.get_secret_value(SecretId=name, VersionStage="AWSCURRENT")["VersionId"]

    def compare(name, value, kind):
        there, new = sm_steps.kept(name, value, kind, "AWSCURRENT")
        if there["VersionId"] != bases[name]:
            raise RuntimeError("Conflict")
        id = sm.put_secret_value(SecretId=name, VersionStages=[LABEL], **new)["VersionId"]
        try:
            sm.update_secret_version_stage(SecretId=name, VersionStage="AWSCURRENT", RemoveFromVersionId=bases[name], MoveToVersionId=id)
        finally:
            sm.update_secret_version_stage(SecretId=name, VersionStage=LABEL, RemoveFromVersionId=id)

    def delete(name, days):
        sm.delete_secret(SecretId=name, **({"RecoveryWindowInDays": days} if days else {"ForceDeleteWithoutRecovery": True}))

    def restore(name):
        sm.restore_secret(SecretId=name)

    def state(name):
        there = sm.describe_secret(SecretId=name)
        versions = []
        for id, stages in there["VersionIdsToStages"].items():
            value = sm.get_secret_value(SecretId=name, VersionId=id) if "DeletedDate" not in there else {}
            shown = value.get("SecretString", value.get("SecretBinary", b"").decode("latin-1"))
            versions.append([sorted(stages), "text" if "SecretString" in value else "binary", shown])
        tags = sorted([tag["Key"], tag["Value"]] for tag in there.get("Tags", []))
        return [there.get("Description"), there.get("KmsKeyId"), tags, "DeletedDate" in there, sorted(versions)]

def exactly(name):
    pages = ssm.get_paginator("describe_parameters").paginate(ParameterFilters=[{"Key": "Name", "Option": "Equals", "Values": [name]}])
    found = [one for page in pages for one in page["Parameters"] if one["Name"] == name]
    if not found:
        raise RuntimeError("NotFound")
    return found[0]

class ps_steps:
    def create(name, value, kind, description=None, tags={}, key=None, tier=None):
        ssm.put_parameter(Name=name, Value=value, Type=kind, **given(Description=description, Tags=tagged(tags), KeyId=key, Tier=tier))

    def update(name, value, kind):
        there = exactly(name)
        kept = {field: there[field] for field in ("Type", "KeyId", "Tier", "Description", "AllowedPattern", "DataType") if field in there}
        ssm.put_parameter(Name=name, Value=value, Overwrite=True, **kept)

    def look(name):
        bases[name] = exactly(name)["Version"]

    def compare(name, value, kind):
        if exactly(name)["Version"] != bases[name]:
            raise RuntimeError("Conflict")
        ps_steps.update(name, value, kind)

    def delete(name, days):
        ssm.delete_parameter(Name=name)

    def state(name):
        there = exactly(name)
        fields = [there.get(field) for field in ("Type", "KeyId", "Tier", "Description", "AllowedPattern", "DataType", "Version")]
        tags = ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId=name)["TagList"]
        history = ssm.get_parameter_history(Name=name, WithDecryption=True)["Parameters"]
        return [fields, sorted([tag["Key"], tag["Value"]] for tag in tags), [one["Value"] for one in history]]

OUTCOMES = {"ResourceExistsException": "AlreadyExists", "ParameterAlreadyExists": "AlreadyExists", "ResourceNotFoundException": "NotFound",
            "ParameterNotFound": "NotFound", "InvalidRequestException": "Refused", "ValidationException": "Refused"}

def step(store, operation, name, *rest):
    try:
        where = sm_steps if store == "sm" else ps_steps
        return getattr(where, operation)(prefix + name if store == "sm" else "/" + prefix + name, *rest) or "ok"
    except botocore.exceptions.ClientError as error:
        return OUTCOMES[error.response["Error"]["Code"]]
    except (botocore.exceptions.ParamValidationError, UnicodeDecodeError):
        return "Refused"
    except RuntimeError as error:
        return str(error)

for one in json.load(sys.stdin):
    print(json.dumps(step(*one)))
"#;

fn boto(prefix: &str, steps: &Value) -> Vec<Value> {
    let mut command = Command::new(testbed::moto::python().unwrap());
    let said = run(command.args(["-c", SCRIPT, prefix, moto().url()]), &steps.to_string());
    assert!(said.ok, "{}", said.err);
    said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Does one step as the script does.
async fn step(ours: &AwsProvider, bases: &mut std::collections::BTreeMap<String, ServedVersion>, step: &Value) -> Value {
    let word = |index: usize| step[index].as_str();
    let is_secret = word(0) == Some("sm");
    let uri = if is_secret { format!("aws.sm://ours/{}", word(2).unwrap()) } else { format!("aws.ps:///ours/{}", word(2).unwrap()) };
    let of_stage = |stage: Option<&str>| source(&stage.map_or_else(|| uri.clone(), |stage| format!("{uri}?version-stage={stage}")));
    let value = || -> Kept {
        let value = word(3).unwrap();
        if word(4) == Some("binary") { binary(&value.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect::<Vec<u8>>()) } else { text(value) }
    };
    let answer: Result<(), WriteError> = match word(1).unwrap() {
        "create" => {
            let tags = step[6].as_object().into_iter().flatten().map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned()));
            let attributes = Attributes {
                description: word(5).map(str::to_owned),
                tags: tags.collect(),
                kms_key: word(7).map(str::to_owned),
                kind: word(4).and_then(ParameterKind::spelled),
                tier: word(8).and_then(ParameterTier::spelled),
            };
            ours.create(&of_stage(None), &value(), &attributes).await.map(drop)
        }
        "update" => ours.update(&of_stage(word(5)), &value(), None).await.map(drop),
        "look" => {
            let current = if is_secret { format!("{uri}?version-stage=AWSCURRENT") } else { uri.clone() };
            bases.insert(uri.clone(), read(ours, &current).await.1);
            Ok(())
        }
        "compare" => ours.update(&of_stage(None), &value(), bases.get(&uri)).await.map(drop),
        "delete" => {
            let recovery = step[3].as_u64().filter(|days| *days > 0).map_or(Recovery::Force, |days| Recovery::Within(u8::try_from(days).unwrap()));
            ours.delete(&of_stage(None), recovery).await.map(drop)
        }
        "restore" => ours.restore(&of_stage(None)).await,
        other => panic!("{other}"),
    };
    json!(super::told(answer))
}

#[tokio::test]
async fn boto3_and_the_providers_answer_and_leave_behind_the_same() {
    let steps = json!([
        ["sm", "create", "text", "one", "text", "what it is", {"team": "shop", "env": "prod"}, "alias/shop"],
        ["sm", "create", "text", "again", "text"],
        ["sm", "create", "empty", "", "text"],
        ["sm", "create", "binary", "\u{0}\u{ff}", "binary"],
        ["sm", "update", "text", "zwö", "text"],
        ["sm", "update", "text", "three", "binary"],
        ["sm", "update", "text", "\u{ff}", "binary"],
        ["sm", "update", "text", "", "text"],
        ["sm", "update", "binary", "text for bytes: ä", "text"],
        ["sm", "update", "none", "x", "text"],
        ["sm", "update", "text", "staged", "text", "NEXT"],
        ["sm", "create", "compared", "one", "text", "compared", {"a": "b"}, "alias/shop"],
        ["sm", "look", "compared"],
        ["sm", "compare", "compared", "two", "text"],
        ["sm", "compare", "compared", "three", "text"],
        ["sm", "create", "overwritten", "one", "binary"],
        ["sm", "look", "overwritten"],
        ["sm", "update", "overwritten", "theirs", "binary"],
        ["sm", "compare", "overwritten", "ours", "binary"],
        ["sm", "create", "scheduled", "x", "text"],
        ["sm", "delete", "scheduled", 7],
        ["sm", "delete", "scheduled", 7],
        ["sm", "create", "restored", "x", "text"],
        ["sm", "delete", "restored", 30],
        ["sm", "restore", "restored"],
        ["sm", "update", "restored", "y", "text"],
        ["sm", "create", "gone", "x", "text"],
        ["sm", "delete", "gone", 0],
        ["sm", "delete", "gone", 0],
        ["sm", "delete", "gone", 30],
        ["sm", "restore", "gone"],
        ["ps", "create", "plain", "one", "String", "what it is", {"team": "shop"}],
        ["ps", "create", "plain", "again", "String"],
        ["ps", "create", "list", "a,b", "StringList"],
        ["ps", "create", "secure", "one", "SecureString", null, {}, "alias/shop", "Advanced"],
        ["ps", "create", "empty", "", "String"],
        ["ps", "update", "plain", "zwö", "String"],
        ["ps", "update", "list", "a,b,c", "StringList"],
        ["ps", "update", "secure", "two", "SecureString"],
        ["ps", "create", "prefixed", "theirs", "String"],
        ["ps", "update", "prefix", "x", "String"],
        ["ps", "delete", "prefix", 0],
        ["ps", "look", "plain"],
        ["ps", "compare", "plain", "three", "String"],
        ["ps", "compare", "plain", "four", "String"],
        ["ps", "create", "gone", "x", "String"],
        ["ps", "delete", "gone", 0],
        ["ps", "delete", "gone", 0],
    ]);
    let theirs = boto("theirs/", &steps);
    let ours = provider(moto().url()).await;
    let (mut answers, mut bases) = (Vec::new(), std::collections::BTreeMap::new());
    for one in steps.as_array().unwrap() {
        answers.push(step(&ours, &mut bases, one).await);
    }
    for ((step, theirs), ours) in steps.as_array().unwrap().iter().zip(&theirs).zip(&answers) {
        assert_eq!(ours, theirs, "{step}");
    }
    let count = |outcome: &str| answers.iter().filter(|answer| *answer == outcome).count();
    assert_eq!([count("AlreadyExists"), count("NotFound"), count("Refused"), count("Conflict")], [2, 6, 5, 3]);

    let names = [
        ("sm", &["text", "binary", "compared", "overwritten", "scheduled", "restored", "gone", "empty", "none"][..]),
        ("ps", &["plain", "list", "secure", "prefixed", "gone", "empty", "prefix"]),
    ];
    let looks: Vec<Value> = names.iter().flat_map(|(store, names)| names.iter().map(move |name| json!([store, "state", name]))).collect();
    let looks = Value::Array(looks);
    let (theirs, ours) = (boto("theirs/", &looks), boto("ours/", &looks));
    for ((look, theirs), ours) in looks.as_array().unwrap().iter().zip(&theirs).zip(&ours) {
        assert_eq!(ours, theirs, "{look}");
    }
    assert_eq!(ours.iter().filter(|state| *state == "NotFound").count(), 6, "{ours:?}");
    assert_eq!(ours[0][1], "alias/shop");
    // The private label is nowhere.
    assert!(!json!(ours).to_string().contains("PENDING"), "{ours:?}");
}
