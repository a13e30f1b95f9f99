//! The custom resources as users meet them: what the API server refuses and in which words, defaults, columns, explanations.

use std::collections::{BTreeMap, BTreeSet};

use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use robotosecret::api::{Reason, RobotoSecret};
use serde_json::{Value, json};
use testbed::chart::documents;

use crate::support::{SECONDS, Scene, apply_object, kubectl, root, run, says, scene, scene_before_controller, until, world};

/// The files of a folder with their texts, by name.
fn files(folder: &str) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn the_crds_are_what_the_types_generate_and_the_chart_carries_the_same() {
    let program = || std::process::Command::new(env!("CARGO_BIN_EXE_robotosecret"));
    let printed = run(program().arg("crds"), "");
    assert!(printed.ok, "{}", printed.err);
    let by_name = |objects: Vec<Value>| -> BTreeMap<String, Value> { objects.into_iter().map(|o| (o["metadata"]["name"].to_string(), o)).collect() };
    let generated = by_name(documents(&printed.out).unwrap());
    assert_eq!(generated.len(), 5, "{:?}", generated.keys());
    let kept = files("crds");
    let objects = kept.values().flat_map(|text| documents(text).unwrap()).collect();
    assert!(by_name(objects) == generated, "crds/ is not what the types generate; run `make crds`");
    assert_eq!(files("charts/robotosecret/files/crds"), kept, "the chart's copy is not crds/; run `make crds`");

    let folder = testbed::TempFolder::new("crds").unwrap();
    assert!(run(program().args(["crds", "--dir"]).arg(folder.path()), "").ok);
    for (name, text) in kept {
        assert_eq!(documents(&std::fs::read_to_string(folder.path().join(&name)).unwrap()).unwrap(), documents(&text).unwrap(), "{name}");
    }
}

#[tokio::test]
async fn the_crds_apply_without_a_warning() {
    for folder in ["crds/", "charts/robotosecret/files/crds/"] {
        let said = kubectl(&world().plane, &["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", folder], "");
        assert!(said.ok && said.err.is_empty() && said.out.lines().count() == 5, "{said:?}");
    }
    let conditions = "-o=jsonpath={range .items[*]}{range .status.conditions[*]}{.type}={.status} {end}{end}";
    let said = kubectl(&world().plane, &["get", "crd", conditions], "");
    says(&said.out, "NamesAccepted=True");
    assert!(!said.out.contains("NonStructural") && !said.out.contains("NamesAccepted=False"), "{said:?}");
}

/// What a spec is refused for, in the words that the user reads. Specs are YAML.
const REFUSED: &[(&str, &str)] = &[
    ("{}", "write either uri (the short form: the whole value), or data (single keys) and dataFrom (many keys)"),
    ("{uri: aws.sm://x, data: [{key: a, uri: aws.sm://x}]}", "write either uri (the short form"),
    ("{uri: null}", "write either uri (the short form"),
    ("{data: []}", "should have at least 1 items"),
    ("{uri: prod/db}", "a reference starts with aws.sm:// (Secrets Manager), aws.ps:// (Parameter Store; aws.ps:///prod/x for the parameter /prod/x)"),
    ("{uri: 'gcp://x'}", "a reference starts with aws.sm://"),
    ("{uri: 'aws.sm:/x'}", "a reference starts with aws.sm://"),
    ("{uri: 'arn:gcp:x'}", "a reference starts with aws.sm://"),
    ("{data: [{key: a, uri: prod/db}]}", "spec.data[0].uri: Invalid value: \"prod/db\": a reference starts with aws.sm://"),
    ("{uri: aws.sm://x, ttl: 9s}", "a duration of at least 10s, such as 30s, 15m or 1h30m (a day is 24h)"),
    ("{uri: aws.sm://x, ttl: 9999ms}", "a duration of at least 10s"),
    ("{uri: aws.sm://x, ttl: 1d}", "a duration of at least 10s"),
    ("{uri: aws.sm://x, ttl: soon}", "a duration of at least 10s"),
    ("{uri: aws.sm://x, ttl: '60'}", "a duration of at least 10s"),
    ("{uri: aws.sm://x, ttl: -1m}", "a duration of at least 10s"),
    ("{uri: aws.sm://x, ttl: ''}", "a duration of at least 10s"),
    ("{uri: aws.sm://x, ttl: 900}", "spec.ttl"),
    ("{uri: aws.sm://x, ttl: 15m, maxStaleness: 14m}", "maxStaleness is at least ttl"),
    ("{uri: aws.sm://x, maxStaleness: 1d}", "a duration such as 30m or 2h (a day is 24h)"),
    ("{uri: aws.sm://x, maxStaleness: 2h, refreshPolicy: OnChange}", "maxStaleness needs refreshPolicy: TTL; the other policies never recheck"),
    ("{uri: aws.sm://x, maxStaleness: 2h, refreshPolicy: Once}", "maxStaleness needs refreshPolicy: TTL"),
    ("{uri: aws.sm://x, refreshPolicy: Always}", "Unsupported value: \"Always\""),
    ("{data: [{key: a}]}", "write either uri or path (with store)"),
    ("{data: [{key: a, uri: aws.sm://x, store: aws.sm, path: x}]}", "write either uri or path (with store)"),
    (
        "{data: [{key: a, path: x}]}",
        "path and store belong together: store: aws.sm (Secrets Manager), aws.ps (Parameter Store), vault, edge, roboto-secret or envase",
    ),
    ("{data: [{key: a, uri: aws.sm://x, store: aws.sm}]}", "path and store belong together"),
    ("{data: [{key: a, store: aws.s3, path: x}]}", "Unsupported value: \"aws.s3\""),
    ("{data: [{key: a, uri: aws.sm://x, keypath: [a]}]}", "with uri, the keypath is its fragment: uri: aws.sm://name#/member"),
    ("{data: [{key: a, uri: aws.sm://x, version: {stage: A}}]}", "with uri, the version is part of it: ?version-stage= or ?version-id= (aws.sm)"),
    ("{data: [{key: a, store: aws.sm, path: x, version: {}}]}", "should have at least 1 properties"),
    ("{data: [{key: a, store: aws.ps, path: /x, version: {number: 1, label: b}}]}", "Too many: 2: must have at most 1 item"),
    ("{data: [{key: a, store: aws.ps, path: /x, version: {stage: A}}]}", "aws.sm selects a version by stage or id, aws.ps by number or label"),
    ("{data: [{key: a, store: aws.sm, path: x, version: {number: 1}}]}", "aws.sm selects a version by stage or id"),
    ("{data: [{key: a, store: aws.sm, path: x, version: {label: b}}]}", "aws.sm selects a version by stage or id"),
    ("{data: [{key: a, store: aws.ps, path: /x, version: {number: 0}}]}", "should be greater than or equal to 1"),
    ("{data: [{key: a, store: aws.sm, path: x, version: {id: short}}]}", "should be at least 32 chars long"),
    ("{data: [{key: a, store: aws.sm, path: x, keypath: []}]}", "should have at least 1 items"),
    ("{data: [{key: a, store: aws.sm, path: x, keypath: [on, 0]}]}", "keypath"),
    ("{data: [{key: a, uri: aws.sm://x}, {key: a, uri: aws.sm://y}]}", "spec.data[1]: Duplicate value: {\"key\":\"a\"}"),
    ("{data: [{key: a b, uri: aws.sm://x}]}", "a key of a Secret has only letters, digits, - _ and . and does not start with two dots"),
    ("{data: [{key: .., uri: aws.sm://x}]}", "a key of a Secret has only letters"),
    ("{data: [{key: ..a, uri: aws.sm://x}]}", "a key of a Secret has only letters"),
    ("{data: [{key: ., uri: aws.sm://x}]}", "a key of a Secret has only letters"),
    ("{data: [{key: ä, uri: aws.sm://x}]}", "a key of a Secret has only letters"),
    ("{data: [{key: a/b, uri: aws.sm://x}]}", "a key of a Secret has only letters"),
    ("{data: [{key: '', uri: aws.sm://x}]}", "should be at least 1 chars long"),
    ("{uri: aws.sm://x, target: {type: kubernetes.io/service-account-token}}", "this type makes Kubernetes mint credentials"),
    ("{uri: aws.sm://x, target: {type: bootstrap.kubernetes.io/token}}", "this type makes Kubernetes mint credentials"),
    ("{uri: aws.sm://x, target: {labels: {robotosecret.dev/managed: 'false'}}}", "labels under robotosecret.dev/ are the controller's own"),
    ("{uri: aws.sm://x, target: {labels: {a: 0123456789012345678901234567890123456789012345678901234567890123}}}", "may not be more than 63"),
    ("{uri: aws.sm://x, target: {annotations: {robotosecret.dev/owner: x}}}", "annotations under robotosecret.dev/ are the controller's own"),
    ("{uri: aws.sm://x, target: {annotations: {kubernetes.io/service-account.name: default}}}", "these annotations make Kubernetes mint credentials"),
    ("{uri: aws.sm://x, target: {name: Upper}}", "the name of a Secret has lower case letters, digits, - and ."),
    ("{uri: aws.sm://x, target: {name: a..b}}", "the name of a Secret has lower case letters"),
    ("{uri: aws.sm://x, target: {name: -a}}", "the name of a Secret has lower case letters"),
    ("{uri: aws.sm://x, target: {creationPolicy: Merge, deletionPolicy: Delete}}", "deletionPolicy Delete would delete theirs; use DropKeys"),
    ("{uri: aws.sm://x, target: {creationPolicy: Merge, type: Opaque}}", "with creationPolicy Merge the Secret keeps the type that it has"),
    ("{uri: aws.sm://x, target: {template: {from: [{configMap: {name: 'a?b', key: k}}]}}}", "the name of a ConfigMap has lower case letters"),
    ("{uri: aws.sm://x, rollout: [{kind: Deployment, name: 'web?dryRun=All'}]}", "the name of a workload has lower case letters"),
    ("{uri: aws.sm://x, rollout: [{kind: Deployment, name: ../web}]}", "the name of a workload has lower case letters"),
    ("{data: [{key: a, store: edge, path: user/x, version: {number: 1}}]}", "other stores by nothing"),
    ("{data: [{key: a, store: roboto-secret, path: x, version: {label: b}}]}", "other stores by nothing"),
    ("{dataFrom: [{find: {store: envase, name: x}}]}", "Envase has no list of its secrets"),
    ("{dataFrom: [{find: {store: edge, name: x}}]}", "one in Edge the path user or org"),
    ("{dataFrom: [{find: {store: roboto-secret, name: x, tags: {a: b}}}]}", "only AWS finds by tags"),
    ("{dataFrom: [{byPath: {uri: 'roboto-secret://'}}]}", "all that is allowed is found by find: {name: '.*'}"),
    ("{dataFrom: [{byPath: {uri: 'envase://x'}}]}", "a path is aws.ps:///prod/app"),
    ("{data: [{key: a, store: aws.sm, path: x, metadata: tags, version: {stage: A}}]}", "tags belong to all versions; leave the version out"),
    ("{dataFrom: [{find: {store: aws.ps, path: prod}}]}", "a path in Parameter Store starts with a slash: /prod/app"),
    ("{dataFrom: [{byPath: {uri: 'aws.sm://'}}]}", "all that is allowed is found by find: {name: '.*'}"),
    ("{dataFrom: [{uri: aws.sm://x, rewrite: [{regexp: a}]}]}", "regexp and replace belong together"),
    ("{dataFrom: [{uri: aws.sm://x, rewrite: [{template: a, replace: b}]}]}", "regexp and replace belong together"),
    ("{dataFrom: [{uri: aws.sm://x, rewrite: [{regexp: a, replace: b, template: c}]}]}", "write either regexp (with replace) or template"),
    ("{uri: aws.sm://x, provider: {name: team}}", "spec.provider.kind: Required value"),
    ("{uri: aws.sm://x, provider: {kind: ClusterRobotoProvider}}", "spec.provider.name: Required value"),
    ("{uri: aws.sm://x, provider: {name: team, kind: SecretStore}}", "Unsupported value: \"SecretStore\""),
    ("{data: [{key: a, uri: aws.sm://x, provider: {name: team}}]}", "spec.data[0].provider.kind: Required value"),
];

#[tokio::test]
async fn what_cannot_be_carried_out_is_refused_with_what_to_write_instead() {
    scene_before_controller("refused", async |s| {
        let mut wrong = Vec::new();
        for (spec, message) in REFUSED {
            let outcome = create(s, "x", spec).await;
            if !outcome.as_ref().is_err_and(|said| said.contains(message)) {
                wrong.push(format!("{spec}\n  should be refused with {message:?}, but: {outcome:?}"));
            }
        }
        let many = json!({"data": (0..501).map(|i| json!({"key": format!("k{i}"), "uri": "aws.sm://x"})).collect::<Vec<_>>()});
        says(&create(s, "x", &many.to_string()).await.unwrap_err(), "must have at most 500 items");
        says(&create(s, &"n".repeat(116), "{uri: aws.sm://x}").await.unwrap_err(), "the name of a RobotoSecret has at most 115 characters");
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    })
    .await;
}

/// Creates a resource as `kubectl create` does; the spec stands as it is. The error is the API server's text.
async fn create(s: &Scene, name: &str, spec: &str) -> Result<RobotoSecret, String> {
    let spec: Value = serde_yaml::from_str(spec).unwrap();
    let object = json!({"apiVersion": "robotosecret.dev/v1alpha1", "kind": "RobotoSecret", "metadata": {"name": name}, "spec": spec});
    // As a dynamic object, so that what the types can't hold reaches the API server.
    let api: Api<kube::api::DynamicObject> = Api::namespaced_with(s.client.clone(), &s.namespace, &kube::api::ApiResource::erase::<RobotoSecret>(&()));
    match api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await {
        Ok(made) => {
            let made = serde_json::from_value(serde_json::to_value(made).unwrap()).unwrap();
            api.delete(name, &DeleteParams::default()).await.unwrap();
            Ok(made)
        }
        Err(kube::Error::Api(status)) => Err(status.message),
        Err(error) => panic!("{spec}: {error}"),
    }
}

#[tokio::test]
async fn what_is_legal_is_accepted() {
    scene_before_controller("accepted", async |s| {
        for spec in [
            "{uri: aws.sm://x}",
            "{uri: 'aws.ps:///prod/x?version=3#/a'}",
            "{uri: 'arn:aws-cn:secretsmanager:cn-north-1:123456789012:secret:x'}",
            // A field without a value, as templates leave them, is one that isn't there.
            "{uri: aws.sm://x, data: null, provider: null, ttl: null, maxStaleness: null, target: {name: null, labels: null}}",
            "{uri: aws.sm://x, ttl: 10s, maxStaleness: 10s}",
            "{uri: aws.sm://x, ttl: 1h30m, maxStaleness: 48h}",
            "{uri: aws.sm://x, ttl: 10000ms}",
            "{uri: aws.sm://x, refreshPolicy: Once, suspend: true}",
            "{data: [{key: .dockerconfigjson, uri: aws.sm://x}, {key: a_B-1.c, uri: aws.ps://y}]}",
            "{data: [{key: a, store: aws.sm, path: x, keypath: [a.b, '0', 'on'], version: {stage: AWSPREVIOUS}}]}",
            "{data: [{key: a, store: aws.sm, path: x, version: {id: 11111111-2222-3333-4444-555555555555}}]}",
            "{data: [{key: a, store: aws.ps, path: /x, version: {number: 9007199254740993}}, {key: b, store: aws.ps, path: /x, version: {label: blue}}]}",
            "{data: [{key: a, uri: aws.sm://x, provider: {name: other, kind: ClusterRobotoProvider}}]}",
            "{uri: aws.sm://x, target: {name: a.b-c, type: kubernetes.io/tls, labels: {a: b}, annotations: {a.b/c: d}}}",
        ] {
            create(s, "x", spec).await.unwrap_or_else(|said| panic!("{spec} is refused: {said}"));
        }
        let many = json!({"data": (0..500).map(|i| json!({"key": format!("k{i}"), "uri": format!("aws.sm://x/{i}#/member")})).collect::<Vec<_>>()});
        create(s, &"n".repeat(115), &many.to_string()).await.unwrap();
    })
    .await;
}

const PROVIDERS_REFUSED: &[(&str, &str)] = &[
    ("{}", "write exactly one of aws, vault, edge, roboto and envase"),
    (
        "{aws: {region: eu-west-1, identity: {ambient: {}}}, vault: {address: 'https://v', auth: {token: {secretRef: {name: a, key: b}}}}}",
        "write exactly one of aws, vault, edge, roboto and envase",
    ),
    ("{vault: {address: 'https://v'}}", "spec.vault.auth: Required value"),
    ("{vault: {address: 'https://v', auth: {}}}", "spec.vault.auth in body should have at least 1 properties"),
    ("{vault: {address: 'https://v/path', auth: {token: {secretRef: {name: a, key: b}}}}}", "an address such as https://vault.example.com:8200"),
    ("{vault: {address: 'https://u:p@v', auth: {token: {secretRef: {name: a, key: b}}}}}", "an address such as https://vault.example.com:8200"),
    ("{vault: {address: 'https://v', auth: {token: {secretRef: {name: ../a, key: b}}}}}", "the name of a Secret, without namespace"),
    ("{roboto: {}}", "spec.roboto.apiKey: Required value"),
    ("{roboto: {apiKey: {secretRef: {name: a, key: b}}, endpoint: 'https://u@h'}}", "an address such as https://host/path"),
    ("{roboto: {apiKey: {secretRef: {name: a, key: b}}, orgId: org-1}}", "an organisation has letters, digits and _"),
    ("{roboto: {apiKey: {secretRef: {name: a, key: b}}, secretsManagerEndpoint: 'https://h/path'}}", "an address such as https://host or https://host:port"),
    ("{edge: {organization: shop}}", "spec.edge.vault: Required value"),
    ("{edge: {vault: {address: 'https://v', auth: {token: {secretRef: {name: a, key: b}}}}, organization: ../shop}}", "letters, digits, - and _"),
    ("{edge: {vault: {address: 'https://v', auth: {token: {secretRef: {name: a, key: b}}}}, prefix: /edge}}", "segments of letters, digits, - and _"),
    ("{envase: {environment: dev}}", "write exactly one of http and lambda"),
    ("{envase: {environment: qa, http: {auth: {bearer: {secretRef: {name: a, key: b}}}}}}", "dev, development or test"),
    ("{envase: {http: {auth: {bearer: {secretRef: {name: a, key: b}}}}}}", "write environment, or else http.baseUrl or lambda.function"),
    (
        "{envase: {http: {baseUrl: 'https://h', auth: {oauth: {clientId: a, clientSecretRef: {name: a, key: b}}}}}}",
        "without environment, write http.auth.oauth.tokenUrl",
    ),
    ("{envase: {environment: dev, http: {auth: {}}}}", "spec.envase.http.auth in body should have at least 1 properties"),
    ("{envase: {environment: dev, http: {auth: {bearer: {secretRef: {name: a, key: b}}}, paths: {secret: secrets}}}}", "a path with {key}"),
    ("{envase: {environment: dev, http: {auth: {bearer: {secretRef: {name: a, key: b}}}, paths: {secret: '/{key}?a=b'}}}}", "a path such as secrets/{key}"),
    (
        "{envase: {environment: dev, http: {auth: {bearer: {secretRef: {name: a, key: b}}}, apiKey: {secretRef: {name: a, key: b}, header: Authorization}}}}",
        "none that HTTP itself needs",
    ),
    ("{envase: {environment: dev, lambda: {aws: {region: us-east-1, identity: {ambient: {}}}, payload: '[]'}}}", "a JSON object in which ${key} stands"),
    ("{aws: {region: eu-west-1}}", "spec.aws.identity: Required value"),
    ("{aws: {region: eu-west-1, identity: {}}}", "should have at least 1 properties"),
    ("{aws: {region: eu-west-1, identity: {ambient: null}}}", "spec.aws.identity in body should have at least 1 properties"),
    ("{aws: {identity: {ambient: {}}}}", "spec.aws.region: Required value"),
    ("{aws: {region: europe, identity: {ambient: {}}}}", "a region such as eu-west-1"),
    ("{aws: {region: EU-WEST-1, identity: {ambient: {}}}}", "a region such as eu-west-1"),
    ("{aws: {region: eu-west-1a, identity: {ambient: {}}}}", "a region such as eu-west-1"),
    ("{aws: {region: eu-west-1, identity: {ambient: {}}, endpoints: {ssm: 'https://host/path'}}}", "an address such as https://host or https://host:port"),
    ("{aws: {region: eu-west-1, identity: {ambient: {}}, endpoints: {sts: 'ftp://host'}}}", "an address such as https://host"),
    ("{aws: {region: eu-west-1, identity: {ambient: {}}, endpoints: {secretsManager: 'host:443'}}}", "an address such as https://host"),
    ("{aws: {region: eu-west-1, identity: {ambient: {}}, endpoints: {secretsManager: 'https://user:word@host'}}}", "without path and credentials"),
    ("{aws: {region: eu-west-1, identity: {ambient: {}}, endpoints: {secretsManager: 'https://host?a=b'}}}", "an address such as https://host"),
    ("{aws: {region: eu-west-1, identity: {ambient: {}}, limits: {ssmReads: 0}}}", "should be greater than or equal to 1"),
    ("{aws: {region: eu-west-1, identity: {ambient: {}}, limits: {sts: 10001}}}", "should be less than or equal to 10000"),
    ("{aws: {region: eu-west-1, identity: {ambient: {}}, limits: {getSecretValue: 1.5}}}", "spec.aws.limits.getSecretValue"),
    ("{allow: [{references: ['*']}]}", "spec.allow[0].namespaces: Required value"),
    ("{allow: [{namespaces: {}, references: ['*']}]}", "should have at least 1 properties"),
    ("{allow: [{namespaces: {all: true, names: [a]}, references: ['*']}]}", "Too many: 2: must have at most 1 item"),
    ("{allow: [{namespaces: {all: false}, references: ['*']}]}", "write all: true, or name the namespaces"),
    ("{allow: [{namespaces: {all: null}, references: ['*']}]}", "should have at least 1 properties"),
    ("{allow: [{namespaces: {names: []}, references: ['*']}]}", "should have at least 1 items"),
    (
        "{allow: [{namespaces: {all: true}, references: ['prod/**']}]}",
        "a pattern starts with aws.sm://, aws.ps://, vault://, edge://, roboto-secret:// or envase://, or is \"*\" alone",
    ),
    ("{allow: [{namespaces: {all: true}, references: ['**']}]}", "a pattern starts with aws.sm://"),
    ("{allow: [{namespaces: {all: true}, references: ['gcp://x']}]}", "a pattern starts with aws.sm://"),
    ("{allow: [{namespaces: {all: true}, references: ['']}]}", "should be at least 1 chars long"),
    (
        "{allow: [{namespaces: {all: true}, references: ['aws.sm://x-${namespace}']}]}",
        "${namespace} fills a whole segment, as in aws.ps:///prod/${namespace}/**",
    ),
    ("{allow: [{namespaces: {all: true}, references: ['aws.sm://${namespace}-x/y']}]}", "${namespace} fills a whole segment"),
    ("{allow: [{namespaces: {all: true}, references: ['aws.sm://a/${namespaces}/b']}]}", "${namespace} fills a whole segment"),
    ("{allow: [{namespaces: {all: true}, references: ['aws.sm://a/$namespace/b']}]}", "${namespace} fills a whole segment"),
    ("{allow: [{namespaces: {all: true}, references: ['aws.sm://${namespace}/x', 'aws.sm://a/${namespace}*']}]}", "${namespace} fills a whole segment"),
];

/// A `ClusterRobotoProvider` of this spec; `aws` is filled in where nothing is said about it.
fn provider(name: &str, spec: &str) -> Value {
    let mut spec: Value = serde_yaml::from_str(spec).unwrap();
    let allow_only = spec.get("allow").is_some();
    if allow_only {
        spec.as_object_mut().unwrap().entry("aws").or_insert(json!({"region": "eu-west-1", "identity": {"ambient": {}}}));
    }
    json!({"apiVersion": "robotosecret.dev/v1alpha1", "kind": "ClusterRobotoProvider", "metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn a_provider_that_cannot_be_meant_is_refused_with_what_to_write_instead() {
    let mut wrong = Vec::new();
    for (spec, message) in PROVIDERS_REFUSED {
        // As a file that kubectl creates: an apply would take nulls out before they are judged.
        let said = kubectl(&world().plane, &["create", "--dry-run=server", "-f", "-"], &provider("refused", spec).to_string());
        if said.ok || !said.err.contains(message) {
            wrong.push(format!("{spec}\n  should be refused with {message:?}, but: {said:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_provider_takes_regions_addresses_and_patterns_of_every_legal_form() {
    scene_before_controller("provider-legal", async |s| {
        let patterns = "['*', 'aws.sm://prod/**', 'aws.ps:///prod/${namespace}/**', 'aws.sm://${namespace}', 'aws.sm://${namespace}/x', \
                        'aws.sm://${namespace}/${namespace}', 'aws.ps:///a/${namespace}/b/${namespace}/c', 'aws.sm://a*b/*']";
        for spec in [
            "{aws: {region: us-gov-west-1, identity: {ambient: {}}}}".to_owned(),
            "{aws: {region: cn-north-1, identity: {ambient: {}}, endpoints: {}}}".to_owned(),
            "{aws: {region: eu-west-1, identity: {ambient: {}}, limits: {}}}".to_owned(),
            "{aws: {region: eu-west-1, identity: {ambient: {}}, limits: {ssmReads: 1, batchGetSecretValue: 10000, getSecretValue: 2, sts: 3}}}".to_owned(),
            "{aws: {region: eu-west-1, identity: {ambient: {}}, endpoints: {secretsManager: 'https://a.b:8443', ssm: 'http://[::1]:4566/'}}}".to_owned(),
            "{allow: []}".to_owned(),
            "{roboto: {apiKey: {secretRef: {name: a, key: b}}, endpoint: 'https://h:1/base', secretsManagerEndpoint: 'https://sm.{region}.h'}}".to_owned(),
            "{edge: {vault: {address: 'https://v', auth: {kubernetes: {role: r, serviceAccount: a}}}, mount: kv, prefix: apps/edge}}".to_owned(),
            "{envase: {environment: Sandbox, http: {auth: {oauth: {clientId: a, clientSecretRef: {name: a, key: b}}}, paths: {secret: 'v2/{key}'}}}}"
                .to_owned(),
            "{envase: {lambda: {aws: {region: us-east-1, identity: {ambient: {}}}, function: f}, fields: {pointer: /data}}}".to_owned(),
            "{allow: [{namespaces: {names: [a]}}]}".to_owned(),
            format!("{{allow: [{{namespaces: {{all: true}}, references: {patterns}}}]}}"),
        ] {
            apply_object(&s.client, &provider(&format!("{}-legal", s.namespace), &spec)).await.unwrap_or_else(|error| panic!("{spec}: {error}"));
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_left_out_has_its_default_and_the_status_starts_pending() {
    scene_before_controller("defaults", async |s| {
        let written = json!({"apiVersion": "robotosecret.dev/v1alpha1", "kind": "RobotoSecret", "metadata": {"name": "db"}, "spec": {"uri": "aws.sm://x"}});
        let said = kubectl(&world().plane, &["apply", "-n", &s.namespace, "-f", "-"], &written.to_string());
        assert!(said.ok && said.err.is_empty(), "{said:?}");
        let stored = serde_json::to_value(s.resources().get("db").await.unwrap()).unwrap();
        let spec = json!({"uri": "aws.sm://x", "provider": {"kind": "ClusterRobotoProvider", "name": "default"}, "ttl": "15m", "refreshPolicy": "TTL"});
        assert_eq!(stored["spec"], spec);
        assert_eq!(stored["status"]["observedGeneration"], -1);
        let ready = &stored["status"]["conditions"][0];
        assert_eq!((&ready["type"], &ready["status"], &ready["reason"]), (&json!("Ready"), &json!("Unknown"), &json!("Pending")));
        // What GitOps tools do with a resource that nobody works on yet: they wait.
        let said = kubectl(&world().plane, &["wait", "--for=condition=Ready", "--timeout=1s", "-n", &s.namespace, "rsec/db"], "");
        assert!(!said.ok && said.err.contains("timed out"), "{said:?}");
        // The controller meets the default status and replaces it.
        s.provide(&["*"]).await;
        s.put_secret("db", &s.value("a")).await;
        s.start_controller(&[]).await;
        s.patch("db", json!({"spec": {"uri": format!("aws.sm://{}", s.path("db")), "provider": {"name": s.namespace}}})).await;
        let said = kubectl(&world().plane, &["wait", "--for=condition=Ready", "--timeout=30s", "-n", &s.namespace, "rsec/db"], "");
        assert!(said.ok, "{said:?}");
        s.ready("db").await;
        let misspelt =
            json!({"apiVersion": "robotosecret.dev/v1alpha1", "kind": "RobotoSecret", "metadata": {"name": "x"}, "spec": {"uri": "aws.sm://x", "ttll": "5m"}});
        let said = kubectl(&world().plane, &["apply", "-n", &s.namespace, "-f", "-"], &misspelt.to_string());
        assert!(!said.ok && said.err.contains("unknown field \"spec.ttll\""), "{said:?}");
    })
    .await;
}

#[tokio::test]
async fn kubectl_shows_how_each_resource_stands() {
    scene("columns", async |s| {
        s.put_secret("db", &s.value("a")).await;
        s.apply("db", &format!("{{uri: 'aws.sm://{}', ttl: 15m, target: {{name: db-secret}}}}", s.path("db"))).await;
        s.apply("wrong", &format!("uri: aws.sm://{}", s.path("nobody"))).await;
        s.ready("db").await;
        s.condition("wrong", "Ready", "False SourceNotFound", SECONDS).await;
        let get = |arguments: &[&str]| {
            let said = kubectl(&world().plane, &[&["get", "-n", &s.namespace], arguments].concat(), "");
            assert!(said.ok && said.err.is_empty(), "{said:?}");
            said.out.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect::<Vec<_>>()
        };
        let provider = s.namespace.as_str();
        let shown = get(&["rsec"]);
        assert_eq!(shown[0], ["NAME", "PROVIDER", "READY", "REASON", "CHECKED", "CHANGED", "AGE"]);
        assert_eq!(shown[1][..4], ["db", provider, "True", "Mirrored"]);
        assert!(shown[1].len() == 7 && shown[1][4..].iter().all(|age| age.ends_with('s')), "{shown:?}");
        // A resource that never worked has no times yet.
        assert_eq!(shown[2][..4], ["wrong", provider, "False", "SourceNotFound"]);
        let wide = get(&["robotosecrets", "-o", "wide"]);
        assert_eq!(wide[0], ["NAME", "PROVIDER", "READY", "REASON", "CHECKED", "CHANGED", "TARGET", "TTL", "AGE"]);
        assert_eq!(wide[1][6..8], ["db-secret", "15m"]);
        assert!(get(&["crprov"]).iter().any(|line| line[..2] == [provider, "eu-west-1"]));
        let all = get(&["roboto", "-o", "name"]).concat();
        for name in ["robotosecret.robotosecret.dev/db".to_owned(), format!("clusterrobotoprovider.robotosecret.dev/{provider}")] {
            assert!(all.contains(&name), "{name} is not in {all:?}");
        }
        let described = kubectl(&world().plane, &["describe", "rsec", "wrong", "-n", provider], "").out;
        says(&described, "Secrets Manager has no such secret in this region");
        says(&described, "CheckFailed");
    })
    .await;
}

/// The paths of all fields of a schema, as `kubectl explain` takes them.
fn fields(path: &str, schema: &Value, found: &mut Vec<String>) {
    let schema = if schema["items"].is_object() { &schema["items"] } else { schema };
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        fields(&path, field, found);
        found.push(path);
    }
}

#[tokio::test]
async fn kubectl_explains_every_field_that_users_write() {
    // The API server publishes what there is to explain a moment after it serves the kind.
    for kind in ["robotosecrets", "clusterrobotoproviders"] {
        let published = async || kubectl(&world().plane, &["explain", kind], "").ok.then_some(());
        until(&format!("{kind} can be explained"), SECONDS, published).await;
    }
    for text in files("crds").values() {
        let crd = &documents(text).unwrap()[0];
        let plural = crd["spec"]["names"]["plural"].as_str().unwrap();
        let mut paths = vec![plural.to_owned(), format!("{plural}.spec")];
        fields(&format!("{plural}.spec"), &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"], &mut paths);
        assert!(paths.len() > 10, "{paths:?}");
        for path in paths {
            let said = kubectl(&world().plane, &["explain", &path], "");
            let description = said.out.split_once("DESCRIPTION:").map(|(_, rest)| rest.lines().nth(1).unwrap_or_default().trim().to_owned());
            assert!(said.ok && description.is_some_and(|text| text.len() > 5 && text != "<empty>"), "{path}: {said:?}");
        }
    }
    says(&kubectl(&world().plane, &["explain", "rsec.spec.data"], "").out, "Single keys of the Secret");
}

#[test]
fn the_examples_and_the_yaml_of_the_documents_are_accepted() {
    let plane = &world().plane;
    // Only the namespace is really made, since a namespace that isn't there refuses everything.
    assert!(kubectl(plane, &["apply", "-f", "examples/0-shop.yaml"], "").ok);
    let said = kubectl(plane, &["apply", "--dry-run=server", "-f", "examples/"], "");
    let objects: usize = files("examples").values().map(|text| documents(text).unwrap().len()).sum();
    assert!(said.ok && said.err.is_empty() && said.out.lines().count() == objects, "{said:?}");
    let mut blocks = 0;
    for document in testbed::docs::documents(root()).unwrap() {
        let text = std::fs::read_to_string(&document).unwrap();
        let document = document.display();
        for block in text.split("```yaml\n").skip(1) {
            let block = block.split_once("```").unwrap().0;
            for mut object in documents(block).unwrap_or_else(|error| panic!("{document}: {error}\n{block}")) {
                // A fragment of a spec stands for the resource that it is a part of.
                let fragment =
                    |kind: &str, spec: &Value| json!({"apiVersion": "robotosecret.dev/v1alpha1", "kind": kind, "metadata": {"name": "x"}, "spec": spec});
                let has = |fields: &[&str]| object.get("kind").is_none() && fields.iter().any(|field| object.get(field).is_some());
                if has(&["uri", "data", "dataFrom"]) {
                    object = fragment("RobotoSecret", &object);
                } else if has(&["allow"]) {
                    object["aws"] = json!({"region": "eu-west-1", "identity": {"ambient": {}}});
                    object = fragment("ClusterRobotoProvider", &object);
                }
                let said = kubectl(plane, &["apply", "--dry-run=server", "-f", "-"], &object.to_string());
                assert!(said.ok && said.err.is_empty(), "{document}: {said:?}\n{block}");
                blocks += 1;
            }
        }
    }
    assert!(blocks >= 3, "{blocks}");
}

#[test]
fn the_documents_show_the_examples_as_they_are_and_each_capability_is_shown() {
    let mut shown = BTreeSet::new();
    for document in testbed::docs::documents(root()).unwrap() {
        let text = std::fs::read_to_string(&document).unwrap();
        let current = testbed::docs::current(&text, root()).unwrap();
        assert!(text == current, "{} shows an example or a value as it was; `make docs` puts it right", document.display());
        shown.extend(text.lines().filter_map(testbed::docs::example).map(|path| path.trim_start_matches("examples/").to_owned()));
    }
    // Those before need no page of their own.
    let capabilities = files("examples").into_keys().filter(|name| name.split('-').next().unwrap().parse::<u32>().unwrap() >= 5);
    let unseen: Vec<String> = capabilities.filter(|name| name != "6-wrong-name.yaml" && !shown.contains(name)).collect();
    assert!(unseen.is_empty(), "no document shows {unseen:?}");
}

#[test]
fn the_readme_explains_every_reason_and_no_other() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let table = readme.split_once("| reason | what happened").unwrap().1.split("\n\n").next().unwrap();
    let explained: BTreeSet<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(" | ").next())
        .flat_map(|cell| cell.split(", "))
        .map(|name| name.trim_matches('`'))
        .collect();
    assert_eq!(explained, Reason::ALL.iter().map(|reason| reason.as_str()).collect());
}
