//! As whom a provider reads: chains of roles, tokens of `ServiceAccounts`, access keys; and that nothing crosses from one identity to another.
//! AWS is moto with its accounts, behind a front that records what STS is asked.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use robotosecret::api::{ClusterRobotoProvider, ClusterRobotoSecret, RobotoProvider, provider::ProviderStatus};
use serde_json::{Value, json};
use testbed::{
    chart::documents,
    front::{Answer, Call, Fault},
};

use crate::examples::TENANCY;
use crate::support::{SECONDS, Scene, TTL, WITHIN_TTL, apply_object, emulated_before_controller, root, says, scene_before_controller, until, world};

/// The account that moto has for everybody who is nobody else.
const HOME: &str = testbed::aws::ACCOUNT;
const BLUE: &str = "111111111111";
const GREEN: &str = "222222222222";

/// Where the front is, for all services.
fn endpoints(s: &Scene) -> Value {
    let url = s.front.url();
    json!({"secretsManager": url, "ssm": url, "sts": url})
}

/// A ClusterRobotoProvider for the scene's namespace, with more of `spec.aws`.
async fn provide(s: &Scene, suffix: &str, aws: Value) -> String {
    let name = format!("{}.{suffix}", s.namespace);
    let provider = json!({
        "apiVersion": "robotosecret.dev/v1alpha1", "kind": "ClusterRobotoProvider", "metadata": {"name": name},
        "spec": {"aws": merged(s, aws), "allow": [{"namespaces": {"names": [s.namespace]}, "references": ["*"]}]},
    });
    apply_object(&s.client, &provider).await.unwrap();
    name
}

/// A `RobotoProvider` of a namespace.
async fn provide_own(s: &Scene, namespace: &str, name: &str, aws: Value) {
    let provider = json!({
        "apiVersion": "robotosecret.dev/v1alpha1", "kind": "RobotoProvider", "metadata": {"name": name, "namespace": namespace},
        "spec": {"aws": merged(s, aws)},
    });
    apply_object(&s.client, &provider).await.unwrap();
}

#[allow(clippy::needless_pass_by_value)] // It is written where it is used.
fn merged(s: &Scene, aws: Value) -> Value {
    let mut all = json!({"region": testbed::aws::REGION, "endpoints": endpoints(s)});
    all.as_object_mut().unwrap().extend(aws.as_object().unwrap().clone());
    all
}

/// A spec that reads a secret through a provider.
fn through(s: &Scene, kind: &str, provider: &str, secret: &str, ttl: &str) -> Value {
    json!({"provider": {"kind": kind, "name": provider}, "ttl": ttl, "data": [{"key": "value", "uri": format!("aws.sm://{}", s.path(secret))}]})
}

async fn service_account(s: &Scene, namespace: &str, name: &str, annotations: Value) {
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace, "annotations": annotations}});
    apply_object(&s.client, &account).await.unwrap();
}

/// Starts the controller as an account of its own with the chart's rights under these values, in the scene's namespace.
async fn start(s: &mut Scene, values: &[&str], arguments: &[&str]) {
    let kubeconfig = s.account(values, |_| true).await;
    let endpoint = format!("--allowed-endpoints={}", s.front.url());
    let namespace = format!("--pod-namespace={}", s.namespace);
    let arguments: Vec<&str> = arguments.iter().copied().chain([endpoint.as_str(), &namespace]).collect();
    s.start_controller_as(&kubeconfig, &arguments);
    s.controller_ready().await;
}

/// The values with which the chart lets tokens of the ServiceAccount `reader` be made everywhere.
const READER: [&str; 2] = ["identities.serviceAccounts[0].name=reader", "identities.serviceAccounts[0].everywhere=true"];

fn sts(s: &Scene, action: &str) -> Vec<Call> {
    s.front.calls().into_iter().filter(|call| call.service == "sts" && call.action == action).collect()
}

fn role(account: &str, name: &str) -> String {
    format!("arn:aws:iam::{account}:role/{name}")
}

/// A Secrets Manager client in an account, past the front.
async fn in_account(account: &str) -> aws_sdk_secretsmanager::Client {
    let sts = testbed::aws::sts(world().moto.url());
    let given = sts.assume_role().role_arn(role(account, "filler")).role_session_name("test").send().await.unwrap().credentials.unwrap();
    let credentials = aws_sdk_secretsmanager::config::Credentials::new(given.access_key_id, given.secret_access_key, Some(given.session_token), None, "test");
    let client = testbed::aws::secrets_manager(world().moto.url());
    aws_sdk_secretsmanager::Client::from_conf(client.config().to_builder().credentials_provider(credentials).build())
}

async fn put_in(account: &str, name: &str, value: &str) {
    let client = in_account(account).await;
    if client.put_secret_value().secret_id(name).secret_string(value).send().await.is_err() {
        client.create_secret().name(name).secret_string(value).send().await.unwrap();
    }
}

/// The status of a provider of either kind, once it says `<status> <reason>` of Ready.
async fn provider_says(s: &Scene, namespace: Option<&str>, name: &str, expected: &str, limit: Duration) -> (String, Option<String>) {
    let ask = async || -> Option<ProviderStatus> {
        match namespace {
            None => Api::<ClusterRobotoProvider>::all(s.client.clone()).get(name).await.unwrap().status,
            Some(namespace) => Api::<RobotoProvider>::namespaced(s.client.clone(), namespace).get(name).await.unwrap().status,
        }
    };
    until(&format!("the provider {name} says {expected}"), limit, async || {
        let status = ask().await?;
        let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready")?;
        (format!("{} {}", ready.status, ready.reason) == expected).then(|| (ready.message.clone(), status.identity.clone()))
    })
    .await
}

#[tokio::test]
async fn roles_are_assumed_in_order_with_their_external_ids_and_tags_and_once_for_all_reads() {
    scene_before_controller("chain", async |s| {
        let value = s.value("blue");
        put_in(BLUE, &s.path("db"), &value).await;
        s.put_secret("db", &s.value("home")).await;
        let chain = json!([
            {"arn": role(HOME, "hub"), "externalId": "hub-id"},
            {"arn": role(BLUE, "reader"), "externalId": "blue-id", "sessionName": "rs-${provider}", "tags": {"team": "${namespace}", "by": "robotosecret"}},
        ]);
        let provider = provide(s, "p", json!({"identity": {"ambient": {}}, "assumeRoles": chain})).await;
        s.start_controller(&[]).await;
        for name in ["one", "two", "three"] {
            s.apply(name, &through(s, "ClusterRobotoProvider", &provider, "db", TTL).to_string()).await;
        }
        for name in ["one", "two", "three"] {
            s.holds(name, &[("value", &value)], SECONDS).await;
        }
        let (message, identity) = provider_says(s, None, &provider, "True Identified", SECONDS).await;
        let session = format!("rs-{provider}");
        let identity = identity.expect("an identity");
        assert_eq!(identity, format!("arn:aws:sts::{BLUE}:assumed-role/reader/{}", &session[..session.len().min(64)]));
        says(&message, &identity);
        s.rechecked(&s.path("db"), 2).await;
        let assumed = sts(s, "AssumeRole");
        assert_eq!(assumed.len(), 2, "{assumed:?}");
        let parameter = |call: &Call, name: &str| call.parameters.get(name).cloned().unwrap_or_default();
        let (hub, blue) = (&assumed[0], &assumed[1]);
        assert_eq!(
            [parameter(hub, "RoleArn"), parameter(hub, "ExternalId"), parameter(hub, "RoleSessionName")],
            [role(HOME, "hub"), "hub-id".into(), "robotosecret".into()]
        );
        assert_eq!(parameter(hub, "Tags.member.1.Key"), "");
        assert_eq!([parameter(blue, "RoleArn"), parameter(blue, "ExternalId")], [role(BLUE, "reader"), "blue-id".into()]);
        let tags: BTreeMap<String, String> =
            (1..=2).map(|i| (parameter(blue, &format!("Tags.member.{i}.Key")), parameter(blue, &format!("Tags.member.{i}.Value")))).collect();
        assert_eq!(tags, [("by".into(), "robotosecret".into()), ("team".into(), s.namespace.clone())].into());
        // Each hop signs with what the hop before it was given.
        assert_eq!(hub.access_key_id, testbed::aws::ACCESS_KEY_ID);
        assert!(blue.access_key_id != hub.access_key_id && !blue.access_key_id.is_empty());
        let reads = s.front.calls().into_iter().filter(|call| call.service == "secretsmanager");
        assert!(reads.into_iter().all(|read| read.access_key_id != hub.access_key_id && read.access_key_id != blue.access_key_id));
    })
    .await;
}

#[tokio::test]
async fn a_service_account_reads_as_its_role_with_a_token_for_aws_alone() {
    scene_before_controller("web-identity", async |s| {
        let value = s.value("a");
        put_in(GREEN, &s.path("db"), &value).await;
        let ns = s.namespace.clone();
        service_account(s, &ns, "reader", json!({"eks.amazonaws.com/role-arn": role(GREEN, "irsa"), "robotosecret.dev/allow-token": "team, other"})).await;
        provide_own(s, &ns, "team", json!({"identity": {"serviceAccount": {"name": "reader", "roleArn": role(GREEN, "named")}}})).await;
        provide_own(s, &ns, "eks", json!({"identity": {"serviceAccount": {"name": "reader"}}})).await;
        let cluster = provide(s, "of-each", json!({"identity": {"serviceAccount": {"name": "reader"}}})).await;
        start(s, &READER, &[]).await;
        s.apply("named", &through(s, "RobotoProvider", "team", "db", TTL).to_string()).await;
        s.apply("annotated", &through(s, "RobotoProvider", "eks", "db", TTL).to_string()).await;
        s.apply("of-each", &through(s, "ClusterRobotoProvider", &cluster, "db", TTL).to_string()).await;
        for name in ["named", "annotated", "of-each"] {
            s.holds(name, &[("value", &value)], SECONDS).await;
        }
        let (_, identity) = provider_says(s, Some(&ns), "team", "True Identified", SECONDS).await;
        says(&identity.unwrap(), &format!("arn:aws:sts::{GREEN}:assumed-role/named/robotosecret-{ns}"));
        s.rechecked(&s.path("db"), 2).await;
        let calls = sts(s, "AssumeRoleWithWebIdentity");
        assert_eq!(calls.len(), 3, "one for each provider: {calls:?}");
        let mut roles: Vec<&str> = calls.iter().map(|call| call.parameters["RoleArn"].as_str()).collect();
        roles.sort_unstable();
        assert_eq!(roles, [role(GREEN, "irsa"), role(GREEN, "irsa"), role(GREEN, "named")]);
        for call in &calls {
            assert_eq!(call.access_key_id, "", "the token is all that is sent");
            let claims: Value = serde_json::from_str(&call.parameters["WebIdentityToken"]).unwrap();
            assert_eq!(claims["aud"], json!(["sts.amazonaws.com"]));
            assert_eq!(claims["sub"], json!(format!("system:serviceaccount:{ns}:reader")));
            assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 600);
        }
    })
    .await;
}

#[tokio::test]
async fn what_may_not_be_used_is_refused_in_words_and_nothing_is_sent_for_it() {
    scene_before_controller("refused-identity", async |s| {
        let ns = s.namespace.clone();
        let allow = |name: &str| json!({"robotosecret.dev/allow-token": name});
        service_account(s, &ns, "reader", json!({"robotosecret.dev/allow-token": "audience,api-server,endpoint,plain-http"})).await;
        service_account(s, &ns, "unlisted", allow("rbac")).await;
        let account = |name: &str| json!({"identity": {"serviceAccount": {"name": name, "roleArn": role(GREEN, "r")}}});
        let with = |audience: &str| json!({"identity": {"serviceAccount": {"name": "reader", "roleArn": role(GREEN, "r"), "audiences": [audience]}}});
        let at = |url: &str| json!({"endpoints": {"sts": url}, "identity": {"serviceAccount": {"name": "reader", "roleArn": role(GREEN, "r")}}});
        let key = |name: &str| json!({"identity": {"accessKey": {"secretRef": {"name": name}}}});
        apply_object(
            &s.client,
            &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "half", "namespace": ns}, "stringData": {"accessKeyId": "AKIAHALF"}}),
        )
        .await
        .unwrap();
        let cases = [
            ("ambient", json!({"identity": {"ambient": {}}}), "NotAllowed", "--allow-ambient-providers"),
            ("audience", with("vault"), "NotAllowed", "--token-audiences"),
            ("api-server", with("https://kubernetes.default.svc"), "NotAllowed", "--token-audiences"),
            ("endpoint", at("https://sts.example"), "NotAllowed", "--allowed-endpoints"),
            ("plain-http", at("http://10.0.0.1"), "NotAllowed", "--allowed-endpoints"),
            ("opt-in", account("reader"), "CredentialsError", "does not opt in; annotate it robotosecret.dev/allow-token=opt-in"),
            ("nobody", account("nobody"), "CredentialsError", "the ServiceAccount nobody of the namespace"),
            ("nobody-there", account("nobody"), "CredentialsError", "does not exist"),
            ("rbac", account("unlisted"), "CredentialsError", "may not be used by the controller; grant its ServiceAccount get on serviceaccounts"),
            ("no-secret", key("none"), "CredentialsError", "the Secret none of the namespace"),
            ("half-secret", key("half"), "CredentialsError", "has no key secretAccessKey, or nothing in it"),
        ];
        for (name, aws, ..) in &cases {
            provide_own(s, &ns, name, aws.clone()).await;
        }
        let nobody = ["identities.serviceAccounts[1].name=nobody", "identities.serviceAccounts[1].everywhere=true"];
        start(s, &[READER, nobody].concat(), &[]).await;
        for (name, ..) in &cases {
            s.apply(name, &through(s, "RobotoProvider", name, "db", TTL).to_string()).await;
        }
        for (name, _, reason, part) in &cases {
            says(&s.condition(name, "Ready", &format!("False {reason}"), SECONDS).await, part);
            says(&provider_says(s, Some(&ns), name, &format!("False {reason}"), SECONDS).await.0, part);
        }
        let sent = s.front.calls();
        assert!(sent.is_empty(), "{sent:?}");
        // Another namespace's provider can't even be named.
        s.apply("elsewhere", &through(s, "RobotoProvider", "elsewhere", "db", TTL).to_string()).await;
        says(&s.condition("elsewhere", "Ready", "False ProviderNotFound", SECONDS).await, "the RobotoProvider elsewhere does not exist");
        // Opting in helps by itself.
        service_account(s, &ns, "reader", allow("opt-in")).await;
        put_in(GREEN, &s.path("db"), &s.value("late")).await;
        s.holds("opt-in", &[("value", &s.value("late"))], WITHIN_TTL * 2).await;
    })
    .await;
}

#[tokio::test]
async fn an_access_key_that_is_rotated_is_used_at_once_and_stays_in_its_secret() {
    scene_before_controller("access-key", async |s| {
        let ns = s.namespace.clone();
        let value = s.value("a");
        s.put_secret("db", &value).await;
        let (client, canary) = (s.client.clone(), s.canary.clone());
        let put = async |name: &str, id: &str| {
            // The canary would show it anywhere else.
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": ns},
                "stringData": {"id": format!("{id}\n"), "key": canary.value(id)}});
            apply_object(&client, &secret).await.unwrap();
        };
        put("own-key", "AKIAOWNONE").await;
        put("home-key", "AKIAHOMEONE").await;
        let key = |name: &str| json!({"identity": {"accessKey": {"secretRef": {"name": name, "accessKeyId": "id", "secretAccessKey": "key"}}}});
        provide_own(s, &ns, "own", key("own-key")).await;
        // That of a ClusterRobotoProvider lies where the controller runs, which is here.
        let cluster = provide(s, "home", key("home-key")).await;
        start(s, &["confined=true", "identities.accessKeys[0].name=own-key", "identities.accessKeys[1].name=home-key"], &["--confined"]).await;
        s.apply("own", &through(s, "RobotoProvider", "own", "db", "1h").to_string()).await;
        s.apply("home", &through(s, "ClusterRobotoProvider", &cluster, "db", "1h").to_string()).await;
        for name in ["own", "home"] {
            s.holds(name, &[("value", &value)], SECONDS).await;
        }
        let used = |id: &str| s.front.count(|call| call.service == "secretsmanager" && call.access_key_id == id);
        assert!(used("AKIAOWNONE") == 1 && used("AKIAHOMEONE") == 1, "{:?}", s.front.calls());
        provider_says(s, Some(&ns), "own", "True Identified", SECONDS).await;
        // Rotated, and used at once although nothing is due for an hour.
        put("own-key", "AKIAOWNTWO").await;
        until("the new key reads", SECONDS, async || (used("AKIAOWNTWO") > 0).then_some(())).await;
        s.ready("own").await;
        assert_eq!(used("AKIAHOMEONE"), 1, "the other one is another's");
        // Taken away, and told; what is mirrored stays.
        s.secrets().delete("own-key", &DeleteParams::default()).await.unwrap();
        until("the provider says so", SECONDS, async || {
            let status = Api::<RobotoProvider>::namespaced(s.client.clone(), &ns).get("own").await.unwrap().status?;
            status.conditions.iter().any(|condition| condition.reason == "CredentialsError" && condition.message.contains("does not exist")).then_some(())
        })
        .await;
        s.refresh("own", "now").await;
        s.condition("own", "Ready", "False CredentialsError", SECONDS).await;
        assert_eq!(s.data("own").await.unwrap(), [("value".to_owned(), value.clone())]);
        // Temporary credentials have a session token, which is sent along.
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "own-key", "namespace": ns},
            "stringData": {"id": "ASIAOWNTHREE", "key": canary.value("three"), "token": canary.value("session")}});
        apply_object(&client, &secret).await.unwrap();
        let reference = json!({"name": "own-key", "accessKeyId": "id", "secretAccessKey": "key", "sessionToken": "token"});
        provide_own(s, &ns, "own", json!({"identity": {"accessKey": {"secretRef": reference}}})).await;
        // The Secret was there a moment before the provider that names its token.
        let is_temporary = |call: &Call| call.temporary && call.service == "secretsmanager" && call.access_key_id == "ASIAOWNTHREE";
        until("the temporary key reads", SECONDS, async || (s.front.count(is_temporary) > 0).then_some(())).await;
        assert!(s.front.calls().iter().all(|call| !call.temporary || call.access_key_id == "ASIAOWNTHREE"), "{:?}", s.front.calls());
        s.ready("own").await;
    })
    .await;
}

#[tokio::test]
async fn the_same_name_in_two_accounts_is_two_secrets_whoever_asks_and_whatever_changes() {
    scene_before_controller("accounts", async |s| {
        let (blue, green) = (s.namespace.clone(), format!("{}-green", s.namespace));
        let namespaces: Api<Namespace> = Api::all(s.client.clone());
        namespaces.create(&PostParams::default(), &serde_json::from_value(json!({"metadata": {"name": green}})).unwrap()).await.unwrap();
        let canary = s.canary.clone();
        let value = |account: &str, version: usize| canary.value(&format!("{account}-{version}"));
        let tenants = [(blue.clone(), BLUE), (green.clone(), GREEN)];
        for (_, account) in &tenants {
            put_in(account, &s.path("db"), &value(account, 0)).await;
        }
        // One provider for both by the token of each namespace's own ServiceAccount, and one in each.
        let shared = format!("{blue}.shared");
        let spec = json!({"aws": merged(s, json!({"identity": {"serviceAccount": {"name": "reader"}}})),
            "allow": [{"namespaces": {"names": [blue, green]}, "references": ["*"]}]});
        apply_object(
            &s.client,
            &json!({"apiVersion": "robotosecret.dev/v1alpha1", "kind": "ClusterRobotoProvider", "metadata": {"name": shared}, "spec": spec}),
        )
        .await
        .unwrap();
        for (namespace, account) in &tenants {
            service_account(s, namespace, "reader", json!({"eks.amazonaws.com/role-arn": role(account, "reader")})).await;
            provide_own(s, namespace, "own", json!({"identity": {"serviceAccount": {"name": "reader"}}})).await;
        }
        start(s, &READER, &["--namespaces", &green]).await;
        let apply = async |namespace: &str, name: &str, spec: Value| {
            let mut resource = s.resource(name, &spec.to_string());
            resource["metadata"]["namespace"] = json!(namespace);
            apply_object(&s.client, &resource).await.unwrap();
        };
        let names: Vec<String> = (0..6).map(|i| format!("r{i}")).collect();
        let spec = |i: usize| {
            if i.is_multiple_of(2) { through(s, "RobotoProvider", "own", "db", TTL) } else { through(s, "ClusterRobotoProvider", &shared, "db", TTL) }
        };
        for (namespace, _) in &tenants {
            for (i, name) in names.iter().enumerate() {
                apply(namespace, name, spec(i)).await;
            }
        }
        for version in 0..4 {
            for (namespace, account) in &tenants {
                if version > 0 {
                    put_in(account, &s.path("db"), &value(account, version)).await;
                }
                let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(s.client.clone(), namespace);
                let other = if *account == BLUE { GREEN } else { BLUE };
                for name in &names {
                    until(&format!("{namespace}/{name} holds version {version}"), WITHIN_TTL * 2, async || {
                        let held = secrets.get_opt(name).await.unwrap()?.data?.remove("value").map(|value| String::from_utf8(value.0).unwrap())?;
                        assert!(!held.contains(other), "{namespace}/{name} holds a value of the account {other}");
                        (held == value(account, version)).then_some(())
                    })
                    .await;
                }
            }
            // Churn: another resource of each, and who read through one reads through the other.
            for (namespace, _) in &tenants {
                for (i, name) in names.iter().enumerate() {
                    apply(namespace, name, spec(i + version)).await;
                }
                provide_own(s, namespace, "own", json!({"identity": {"serviceAccount": {"name": "reader"}}, "limits": {"sts": 40 + version}})).await;
            }
        }
        namespaces.delete(&green, &DeleteParams::background()).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_role_that_may_not_be_assumed_is_told_and_all_come_back_by_themselves_when_it_may() {
    scene_before_controller("role-denied", async |s| {
        let value = s.value("a");
        put_in(BLUE, &s.path("db"), &value).await;
        let arn = role(BLUE, "reader");
        let denied = s.front.add_fault(Fault::new(
            |call| call.action == "AssumeRole",
            Answer::Error { status: 403, code: "AccessDenied".into(), message: "not authorized to perform: sts:AssumeRole".into() },
        ));
        let provider = provide(s, "p", json!({"identity": {"ambient": {}}, "assumeRoles": [{"arn": arn}]})).await;
        s.start_controller(&[]).await;
        let names: Vec<String> = (0..10).map(|i| format!("r{i}")).collect();
        s.apply_all(&names, |_| through(s, "ClusterRobotoProvider", &provider, "db", "1h")).await;
        s.all("Ready", "False CredentialsError", SECONDS).await;
        let (message, _) = provider_says(s, None, &provider, "False CredentialsError", SECONDS).await;
        says(&message, &format!("{arn}: the role may not be assumed; let its trust policy name the identity"));
        says(&s.condition("r0", "Ready", "False CredentialsError", SECONDS).await, &arn);
        // Ten that wait ask no more often than one.
        assert!(sts(s, "AssumeRole").len() <= 5, "{:?}", s.front.totals());
        s.front.remove_fault(denied);
        provider_says(s, None, &provider, "True Identified", Duration::from_secs(90)).await;
        s.all("Ready", "True Mirrored", SECONDS).await;
        let reads = s.front.count(|call| call.service == "secretsmanager");
        assert!(reads <= 6, "ten that come back share their calls, as far as they come together: {:?}", s.front.totals());
        // Deleted: what is mirrored stays, and those who read through it say so.
        s.providers().delete(&provider, &DeleteParams::default()).await.unwrap();
        s.all("Ready", "False ProviderNotFound", SECONDS).await;
        assert_eq!(s.data("r0").await.unwrap(), [("value".to_owned(), value)]);
    })
    .await;
}

#[tokio::test]
async fn two_hundred_roles_are_assumed_once_each() {
    scene_before_controller("many-roles", async |s| {
        let value = s.value("a");
        s.put_secret("db", &value).await;
        let names: Vec<String> = (0..200).map(|i| format!("r{i:03}")).collect();
        let mut providers = BTreeMap::new();
        for name in &names {
            let aws = json!({"identity": {"ambient": {}}, "assumeRoles": [{"arn": role(HOME, name)}]});
            providers.insert(name.clone(), provide(s, name, aws).await);
        }
        s.apply_all(&names, |name| through(s, "ClusterRobotoProvider", &providers[name], "db", "1h")).await;
        s.start_controller(&[]).await;
        s.all("Ready", "True Mirrored", SECONDS * 4).await;
        let roles = |action: &str| sts(s, action).into_iter().map(|call| call.parameters.get("RoleArn").cloned().unwrap_or_default()).collect::<Vec<_>>();
        let mut assumed = roles("AssumeRole");
        let all = assumed.len();
        assumed.sort();
        assumed.dedup();
        assert_eq!((assumed.len(), all), (200, 200), "each once: {:?}", s.front.totals());
        until("each provider knows who it is", SECONDS * 2, async || (roles("GetCallerIdentity").len() >= 200).then_some(())).await;
        // Who got no answer in time, since this machine is busy, asks once more.
        let asked = sts(s, "GetCallerIdentity");
        let askers: std::collections::BTreeSet<&str> = asked.iter().map(|call| call.access_key_id.as_str()).collect();
        assert!(askers.len() == 200 && asked.len() <= 210, "{} of {}: {:?}", asked.len(), askers.len(), s.front.totals());
        // Each reads with its own.
        let keys: std::collections::BTreeSet<String> =
            s.front.calls().into_iter().filter(|call| call.service == "secretsmanager").map(|call| call.access_key_id).collect();
        assert_eq!(keys.len(), 200);
    })
    .await;
}

#[tokio::test]
async fn accounts_of_the_scene_are_none_of_the_other() {
    // The test's own footing: without it the others would prove nothing.
    scene_before_controller("footing", async |s| {
        put_in(BLUE, &s.path("db"), "blue").await;
        put_in(GREEN, &s.path("db"), "green").await;
        for (account, expected) in [(BLUE, "blue"), (GREEN, "green")] {
            let read = in_account(account).await.get_secret_value().secret_id(s.path("db")).send().await.unwrap();
            assert_eq!(read.secret_string(), Some(expected));
            assert!(read.arn().unwrap().contains(account));
        }
        let at_home = world().moto.secrets_manager().get_secret_value().secret_id(s.path("db")).send().await.unwrap_err().into_service_error();
        assert!(at_home.is_resource_not_found_exception(), "nor does the home account have it: {at_home:?}");
        let accounts: Api<ServiceAccount> = Api::namespaced(s.client.clone(), &s.namespace);
        assert!(accounts.list(&ListParams::default()).await.unwrap().items.iter().all(|account| account.name_any() != "reader"));
    })
    .await;
}

#[tokio::test]
async fn roles_are_assumed_anew_before_they_run_out_and_no_more_often() {
    emulated_before_controller("renewal", async |s| {
        s.put_secret("db", &s.value("a")).await;
        // Credentials are renewed two to four minutes before they run out.
        s.emulator().roles_live(Duration::from_secs(250));
        let chain = json!([{"arn": role(HOME, "hub")}, {"arn": role(HOME, "reader")}]);
        let provider = provide(s, "p", json!({"identity": {"ambient": {}}, "assumeRoles": chain})).await;
        s.start_controller(&[]).await;
        s.apply("db", &through(s, "ClusterRobotoProvider", &provider, "db", TTL).to_string()).await;
        s.condition("db", "Ready", "True Mirrored", SECONDS).await;
        let assumed = |s: &Scene, name: &str| s.front.count(|call| call.action == "AssumeRole" && call.parameters["RoleArn"].ends_with(name));
        assert_eq!((assumed(s, "/hub"), assumed(s, "/reader")), (1, 1));
        s.rechecked(&s.path("db"), 1).await;
        assert_eq!((assumed(s, "/hub"), assumed(s, "/reader")), (1, 1), "a recheck needs no other credentials");
        until("the last role is assumed anew", Duration::from_secs(170), async || (assumed(s, "/reader") > 1).then_some(())).await;
        s.rechecked(&s.path("db"), 1).await;
        let refused = s.front.calls().into_iter().filter(|call| call.status.is_some_and(|status| status != 200));
        assert_eq!(refused.count(), 0, "nothing was asked for with credentials that had run out");
        assert!(assumed(s, "/hub") <= 2 && assumed(s, "/reader") == 2, "{:?}", s.front.totals());
        assert!(s.told("db", "CheckFailed").await == 0);
    })
    .await;
}

#[tokio::test]
async fn the_examples_with_identities_of_their_own_become_what_they_say() {
    scene_before_controller("tenants", async |s| {
        let (ns, front) = (s.namespace.clone(), s.front.url());
        let mut objects = Vec::new();
        for file in std::fs::read_dir(root().join("examples")).unwrap().map(|entry| entry.unwrap().path()) {
            let number: u32 = file.file_name().unwrap().to_str().unwrap().split('-').next().unwrap().parse().unwrap();
            if !TENANCY.contains(&number) {
                continue;
            }
            let text = std::fs::read_to_string(&file).unwrap();
            // The namespace, and the names of what belongs to the whole cluster, are the scene's.
            let mut text = text.replace("namespace: shop", &format!("namespace: {ns}")).replace("names: [shop]", &format!("names: [{ns}]"));
            text = text.replace("/shop/", &format!("/{ns}/"));
            for name in ["shared", "by-roles", "everywhere"] {
                text = text.replace(&format!("name: {name}"), &format!("name: {ns}.{name}"));
            }
            for mut object in documents(&text).unwrap() {
                if object.pointer("/spec/aws").is_some() {
                    object["spec"]["aws"]["endpoints"] = json!({"secretsManager": front, "ssm": front, "sts": front});
                }
                objects.push(object);
            }
        }
        let values = ["database", "license", "payments", "legacy", "audited"].map(|name| s.value(name));
        let [database, license, payments, legacy, audited] = &values;
        let team = "111122223333";
        let put_here = async |name: &str, value: &str| {
            let client = world().moto.secrets_manager();
            client.delete_secret().secret_id(name).force_delete_without_recovery(true).send().await.ok();
            client.create_secret().name(name).secret_string(value).send().await.unwrap();
        };
        put_here(&format!("teams/{ns}/database"), &json!({"password": database}).to_string()).await;
        put_here("everybody/license", license).await;
        put_in(team, "payments/token", payments).await;
        put_in(team, "audited/token", audited).await;
        let parameter = world().moto.ssm().put_parameter().name("/legacy/token").value(legacy.as_str()).overwrite(true);
        parameter.r#type(aws_sdk_ssm::types::ParameterType::SecureString).send().await.unwrap();
        let key = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "aws-key", "namespace": ns},
            "stringData": {"accessKeyId": "AKIALEGACY", "secretAccessKey": s.value("key")}});
        apply_object(&s.client, &key).await.unwrap();
        let labelled = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ns, "labels": {"secrets.example.com/teams": "true"}}});
        apply_object(&s.client, &labelled).await.unwrap();
        for object in &objects {
            apply_object(&s.client, object).await.unwrap();
        }
        let account = format!("identities.serviceAccounts[0].namespaces[0]={ns}");
        start(s, &["identities.serviceAccounts[0].name=secrets-reader", &account], &["--cluster-robotosecrets"]).await;
        let everywhere = format!("{ns}.everywhere");
        s.holds("team-database", &[("license", license), ("password", database)], SECONDS).await;
        s.holds(&everywhere, &[("license", license)], SECONDS).await;
        for (name, value) in [("payments", payments), ("legacy", legacy), ("audited", audited)] {
            s.holds(name, &[("token", value)], SECONDS).await;
        }
        s.all("Ready", "True Mirrored", SECONDS).await;
        let session = sts(s, "AssumeRole").into_iter().find(|call| call.parameters["RoleArn"].ends_with("/mirror")).unwrap().parameters;
        assert_eq!((session["RoleSessionName"].as_str(), session["ExternalId"].as_str()), (ns.as_str(), "robotosecret-prod"));
        // The label goes, and with it what was mirrored under it.
        let unlabelled = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ns}});
        apply_object(&s.client, &unlabelled).await.unwrap();
        until("what the label allowed is gone", SECONDS, async || s.data("team-database").await.is_none().then_some(())).await;
        until("and what was made because of it", SECONDS, async || s.resources().get_opt(&everywhere).await.unwrap().is_none().then_some(())).await;
        assert!(s.data("payments").await.is_some());
        Api::<ClusterRobotoSecret>::all(s.client.clone()).delete(&everywhere, &DeleteParams::default()).await.unwrap();
    })
    .await;
}
