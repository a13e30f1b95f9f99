//! `RobotoPush`: keys of a Secret arrive in the store and are kept there; what is not allowed, not ours or not possible is told and not written.
//!
//! Each controller here runs as the chart's account of a confined release: that it reads a Secret at all is the Role for pushing alone.

mod faults;
mod hangs;
mod leaving;
mod stores;

use std::{collections::BTreeMap, time::Duration};

use aws_sdk_ssm::types::ResourceTypeForTagging;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use robotosecret::api::{RobotoPush, robotopush::RobotoPushStatus};
use serde_json::{Value, json};
use testbed::front::{Answer, Fault};

use crate::support::{SECONDS, Scene, TTL, WITHIN_TTL, apply_object, root, says, scene_before_controller, until, world};

/// The tag by which what was pushed is known.
const OWNER: &str = "robotosecret.dev/owner";

/// Runs a test in a scene whose controller may push, through a provider that lets the scene do this with everything.
pub async fn pushing(name: &str, verbs: &[&str], test: impl AsyncFnOnce(&mut Scene)) {
    scene_before_controller(name, async |s| {
        s.provide(&["*"]).await;
        allow(s, verbs).await;
        start(s).await;
        test(s).await;
    })
    .await;
}

async fn allow(s: &Scene, verbs: &[&str]) {
    let patch = json!({"spec": {"allow": [{"namespaces": {"names": [s.namespace]}, "references": ["*"], "verbs": verbs}]}});
    s.providers().patch(&s.namespace, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

async fn start(s: &mut Scene) {
    start_with(s, &[]).await;
}

async fn start_with(s: &mut Scene, more: &[&str]) {
    start_as(s, |_| true, more).await;
}

/// Starts a controller whose account has only those rules that are to be kept.
async fn start_as(s: &mut Scene, keep: impl Fn(&Value) -> bool, more: &[&str]) {
    start_valued(s, &[], keep, more).await;
}

/// As [`start_as`], under further values of the chart.
async fn start_valued(s: &mut Scene, values: &[&str], keep: impl Fn(&Value) -> bool, more: &[&str]) {
    let namespaces = format!("push.namespaces={{{}}}", s.namespace);
    let kubeconfig = s.account(&[&["confined=true", "push.enabled=true", &namespaces], values].concat(), keep).await;
    let namespace = s.namespace.clone();
    s.start_controller_as(&kubeconfig, &[&["--confined", "--push-namespaces", &namespace], more].concat());
    s.controller_ready().await;
}

fn pushes(s: &Scene) -> Api<RobotoPush> {
    Api::namespaced(s.client.clone(), &s.namespace)
}

pub async fn secret(s: &Scene, name: &str, data: Value) {
    apply_object(&s.client, &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": s.namespace}, "stringData": data}))
        .await
        .unwrap();
}

pub async fn push(s: &Scene, name: &str, mut spec: Value) {
    let fields = spec.as_object_mut().unwrap();
    fields.entry("provider").or_insert(json!({"kind": "ClusterRobotoProvider", "name": s.namespace}));
    fields.entry("ttl").or_insert(json!(TTL));
    let metadata = json!({"name": name, "namespace": s.namespace});
    apply_object(&s.client, &json!({"apiVersion": "robotosecret.dev/v1alpha1", "kind": "RobotoPush", "metadata": metadata, "spec": spec})).await.unwrap();
}

/// Waits until Ready reads `<status> <reason>` for the present spec. Returns its message and the status.
pub async fn ready(s: &Scene, name: &str, expected: &str, limit: Duration) -> (String, RobotoPushStatus) {
    let what = format!("{name} is {expected}; see {}", s.controller().process.log_path().display());
    until(&what, limit, async || {
        let push = pushes(s).get(name).await.unwrap();
        let status = push.status.filter(|status| status.observed_generation == push.metadata.generation)?;
        let ready = status.condition("Ready").filter(|ready| format!("{} {}", ready.status, ready.reason) == expected)?.clone();
        Some((ready.message, status))
    })
    .await
}

/// The value of a secret at the store, and its version.
async fn held(id: &str) -> Option<(String, String)> {
    // By the stage: moto may answer with another version where none is named.
    let answer = world().moto.secrets_manager().get_secret_value().secret_id(id).version_stage("AWSCURRENT").send().await.ok()?;
    Some((answer.secret_string?, answer.version_id?))
}

async fn parameter(name: &str) -> Option<String> {
    world().moto.ssm().get_parameter().name(name).with_decryption(true).send().await.ok()?.parameter?.value
}

async fn holds(id: &str, expected: &str, limit: Duration) {
    until(&format!("{id} holds what was pushed"), limit, async || held(id).await.filter(|(value, _)| value == expected).map(drop)).await;
}

async fn tags(id: &str) -> BTreeMap<String, String> {
    let described = world().moto.secrets_manager().describe_secret().secret_id(id).send().await.unwrap();
    described.tags().iter().map(|tag| (tag.key().unwrap().to_owned(), tag.value().unwrap().to_owned())).collect()
}

/// How many calls wrote anything.
fn writes(s: &Scene) -> usize {
    ["CreateSecret", "PutSecretValue", "UpdateSecretVersionStage", "TagResource", "PutParameter", "AddTagsToResource", "DeleteSecret", "DeleteParameter"]
        .iter()
        .map(|action| s.calls(action))
        .sum()
}

async fn event(s: &Scene, name: &str, text: &str) {
    s.event(name, text).await;
}

#[tokio::test]
async fn keys_arrive_at_the_store_and_are_kept_there() {
    pushing("push", &["read"], async |s| {
        let (one, two) = (s.value("one"), s.value("two"));
        secret(s, "db", json!({"user": "root", "password": one})).await;
        let [whole, member, token] = ["whole", "member", "token"].map(|name| s.path(name));
        let attributes = json!({"description": "pushed", "tags": {"team": "shop"}});
        let data = json!([
            {"uri": format!("aws.sm://{whole}"), "attributes": attributes},
            {"key": "password", "uri": format!("aws.sm://{member}#/db/password")},
            {"key": "user", "uri": format!("aws.sm://{member}#/db/user")},
            {"key": "password", "uri": format!("aws.ps:///{token}")},
        ]);
        push(s, "db", json!({"secretName": "db", "data": data})).await;
        // Who may read may not write; and nothing is asked.
        let (message, status) = ready(s, "db", "False NotAllowed", SECONDS).await;
        says(
            &message,
            &format!("does not allow the namespace {} to write aws.sm://{whole}; add it to a rule in its spec.allow with verbs: [write]", s.namespace),
        );
        assert!(status.targets.len() == 3 && status.targets.iter().all(|target| target.version.is_none() && target.reason.as_deref() == Some("NotAllowed")));
        assert_eq!(s.front.count(|call| call.ids.iter().any(|id| id.contains(&s.namespace))) + writes(s), 0);
        event(s, "db", "CheckFailed: NotAllowed").await;
        let counted = || (s.controller().metric("robotosecret_pushes", ""), s.controller().metric("robotosecret_pushed", ""));
        // The status is there a moment before the answer to its write.
        let counts = async |expected| until(&format!("it is counted as {expected:?}"), SECONDS, async || (counted() == expected).then_some(())).await;
        counts((1.0, 0.0)).await;

        allow(s, &["write"]).await;
        let (message, status) = ready(s, "db", "True Pushed", SECONDS).await;
        assert_eq!(message, "3 targets hold what the Secret holds");
        counts((1.0, 1.0)).await;
        let (value, version) = held(&whole).await.unwrap();
        assert_eq!(serde_json::from_str::<Value>(&value).unwrap(), json!({"user": "root", "password": one}));
        assert_eq!(held(&member).await.unwrap().0, format!(r#"{{"db":{{"password":"{one}","user":"root"}}}}"#));
        assert_eq!(parameter(&format!("/{token}")).await.as_ref(), Some(&one));
        let target = &status.targets[0];
        assert_eq!((target.uri.as_str(), target.version.as_deref()), (format!("aws.sm://{whole}").as_str(), Some(version.as_str())));
        assert!(target.keys == ["password", "user"] && target.last_write_time.is_some() && status.last_write_time.is_some());
        assert_eq!((status.targets[2].version.as_deref(), status.targets[2].keys.as_slice()), (Some("1"), ["password".to_owned()].as_slice()));
        let tags = tags(&whole).await;
        assert!(tags["team"] == "shop" && tags[OWNER].ends_with(&format!("/{}/db", s.namespace)), "{tags:?}");
        let listed = world().moto.ssm().list_tags_for_resource().resource_type(ResourceTypeForTagging::Parameter).resource_id(format!("/{token}"));
        assert!(listed.send().await.unwrap().tag_list().iter().any(|tag| tag.key() == OWNER && tag.value() == tags[OWNER]));
        event(s, "db", &format!("Pushed: aws.sm://{whole} was made: version {version}")).await;

        // Nothing changes, and nothing is written.
        let (before, looked) = (writes(s), s.calls("DescribeSecret"));
        until("it was looked at twice more", WITHIN_TTL * 2, async || (s.calls("DescribeSecret") >= looked + 4).then_some(())).await;
        assert_eq!(writes(s), before);
        // What was found to agree is known by its version, and not read again.
        let read = s.calls("GetSecretValue");
        until("it was looked at once more", WITHIN_TTL, async || (s.calls("DescribeSecret") >= looked + 6).then_some(())).await;
        assert_eq!((writes(s), s.calls("GetSecretValue")), (before, read));

        // What somebody changes at the store is put back.
        world().moto.secrets_manager().put_secret_value().secret_id(&whole).secret_string("theirs").send().await.unwrap();
        holds(&whole, &format!(r#"{{"password":"{one}","user":"root"}}"#), WITHIN_TTL).await;
        event(s, "db", &format!("Repaired: aws.sm://{whole} was changed at the store, and was put back")).await;

        // Another value arrives, and what others keep beside a member stays.
        let beside = format!(r#"{{"port":5,"db":{{"password":"{one}","user":"root","more":[1]}}}}"#);
        world().moto.secrets_manager().put_secret_value().secret_id(&member).secret_string(beside).send().await.unwrap();
        secret(s, "db", json!({"user": "root", "password": two})).await;
        holds(&whole, &format!(r#"{{"password":"{two}","user":"root"}}"#), WITHIN_TTL).await;
        holds(&member, &format!(r#"{{"port":5,"db":{{"password":"{two}","user":"root","more":[1]}}}}"#), WITHIN_TTL).await;
        until("the parameter too", WITHIN_TTL, async || (parameter(&format!("/{token}")).await.as_ref() == Some(&two)).then_some(())).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_denied_or_another_s_is_told_and_stays() {
    pushing("push-denied", &["read", "write"], async |s| {
        let (one, two, theirs) = (s.value("one"), s.value("two"), s.value("theirs"));
        secret(s, "db", json!({"password": one})).await;
        let [ours, foreign] = ["ours", "foreign"].map(|name| s.path(name));
        push(s, "db", json!({"secretName": "db", "data": [{"key": "password", "uri": format!("aws.sm://{ours}")}]})).await;
        ready(s, "db", "True Pushed", SECONDS).await;
        s.front.deny_action("secretsmanager", "PutSecretValue");
        secret(s, "db", json!({"password": two})).await;
        let (message, _) = ready(s, "db", "False AccessDenied", WITHIN_TTL).await;
        says(&message, &format!("aws.sm://{ours}: the identity may not do this; grant it secretsmanager:PutSecretValue"));
        assert_eq!(held(&ours).await.unwrap().0, one);
        s.front.clear_faults();
        holds(&ours, &two, WITHIN_TTL).await;
        ready(s, "db", "True Pushed", SECONDS).await;
        s.front.throttle();
        let fresh = async || pushes(s).get("db").await.unwrap().status?.condition("Fresh").filter(|fresh| fresh.reason == "Throttled").map(drop);
        until("the throttle is told", WITHIN_TTL, fresh).await;
        ready(s, "db", "True Pushed", SECONDS).await;
        s.front.clear_faults();

        // What has nobody's mark is taken over only if that is asked for; what has another's, not even then.
        s.put_secret("foreign", &theirs).await;
        let spec = |adopt: bool| json!({"secretName": "db", "adopt": adopt, "data": [{"key": "password", "uri": format!("aws.sm://{foreign}")}]});
        push(s, "taken", spec(false)).await;
        says(&ready(s, "taken", "False TargetNotOwned", SECONDS).await.0, "it is there and has nobody's mark");
        assert_eq!((held(&foreign).await.unwrap().0, tags(&foreign).await), (theirs, BTreeMap::new()));
        push(s, "taken", spec(true)).await;
        ready(s, "taken", "True Pushed", SECONDS).await;
        holds(&foreign, &two, SECONDS).await;
        push(s, "other", spec(true)).await;
        says(&ready(s, "other", "False TargetNotOwned", SECONDS).await.0, "it is another RobotoPush's");
        // IfNotExists leaves what is there as it is, whosever it is.
        let kept = json!({"secretName": "db", "updatePolicy": "IfNotExists", "data": [{"uri": format!("aws.sm://{foreign}")}]});
        push(s, "other", kept).await;
        ready(s, "other", "True Pushed", SECONDS).await;
        assert_eq!(held(&foreign).await.unwrap().0, two);

        // Round and round it would go.
        s.apply("loop", &json!({"uri": format!("aws.sm://{foreign}")}).to_string()).await;
        s.ready("loop").await;
        let data = json!([{"uri": format!("aws.sm://{foreign}")}, {"uri": format!("aws.sm://{}", s.path("beside"))}]);
        push(s, "loop", json!({"secretName": "loop", "adopt": true, "ttl": "15m", "data": data})).await;
        let (message, status) = ready(s, "loop", "False TargetConflict", SECONDS).await;
        says(&message, "the RobotoSecret loop mirrors it into the Secret that is pushed there");
        let told: Vec<_> = status.targets.iter().map(|target| target.reason.as_deref()).collect();
        assert_eq!((told, held(&s.path("beside")).await.is_some()), (vec![Some("TargetConflict"), None], true), "the other one is written");
        // That it is none any more is seen although the Secret stays as it is.
        s.put_secret("same", &two).await;
        s.apply("loop", &json!({"uri": format!("aws.sm://{}", s.path("same"))}).to_string()).await;
        ready(s, "loop", "False TargetNotOwned", SECONDS).await;

        // Without the Secret nothing is written and nothing taken away.
        s.secrets().delete("db", &DeleteParams::default()).await.unwrap();
        says(&ready(s, "db", "False SourceNotFound", WITHIN_TTL).await.0, "does not exist; nothing was changed at the store");
        assert_eq!(held(&ours).await.unwrap().0, two);
    })
    .await;
}

#[tokio::test]
async fn what_was_written_before_a_crash_is_not_written_twice_and_goes_with_its_push() {
    pushing("push-crash", &["write"], async |s| {
        let one = s.value("one");
        secret(s, "db", json!({"password": one})).await;
        let id = s.path("db");
        // The store makes it, and the controller dies before it hears of that.
        s.front.add_fault(Fault::new(|call| call.action == "CreateSecret", Answer::HoldAnswer));
        let entry = json!({"key": "password", "uri": format!("aws.sm://{id}")});
        push(s, "db", json!({"secretName": "db", "deletionPolicy": "Delete", "recovery": {"force": true}, "data": [entry]})).await;
        holds(&id, &one, SECONDS).await;
        let listed = pushes(s).get("db").await.unwrap();
        assert!(listed.finalizers() == ["robotosecret.dev/push"] && listed.status.unwrap().targets[0].version.is_none(), "what is about to be made is known");
        s.kill_controller();
        s.front.clear_faults();
        start(s).await;
        let (_, status) = ready(s, "db", "True Pushed", SECONDS).await;
        assert_eq!(status.targets[0].version.as_ref(), Some(&held(&id).await.unwrap().1));
        assert_eq!((s.calls("CreateSecret"), s.calls("PutSecretValue")), (1, 0));

        // A deletion that fails is tried again, and the resource says why it stays.
        let denied = s.front.deny_action("secretsmanager", "DeleteSecret");
        pushes(s).delete("db", &DeleteParams::default()).await.unwrap();
        let stays = async || pushes(s).get("db").await.unwrap().status?.condition("Ready").filter(|ready| ready.reason == "AccessDenied").map(drop);
        until("it says why it stays", SECONDS, stays).await;
        assert!(held(&id).await.is_some());
        s.front.remove_fault(denied);
        until("it goes", WITHIN_TTL, async || pushes(s).get_opt("db").await.unwrap().is_none().then_some(())).await;
        assert_eq!(held(&id).await, None);
        event(s, "db", &format!("Removed: aws.sm://{id} was deleted")).await;
    })
    .await;
}

#[tokio::test]
async fn what_somebody_else_writes_at_the_same_moment_is_not_lost() {
    pushing("push-race", &["write"], async |s| {
        let (one, two) = (s.value("one"), s.value("two"));
        secret(s, "db", json!({"password": one})).await;
        let id = s.path("db");
        push(s, "db", json!({"secretName": "db", "data": [{"key": "password", "uri": format!("aws.sm://{id}#/password")}]})).await;
        ready(s, "db", "True Pushed", SECONDS).await;
        // The controller reads what is there, and before it writes somebody puts a member beside its own.
        let read = s.calls("GetSecretValue");
        let held_back = s.front.add_fault(Fault::new(|call| call.action == "GetSecretValue", Answer::HoldAnswer).times(1));
        secret(s, "db", json!({"password": two})).await;
        until("the store is read", WITHIN_TTL, async || (s.calls("GetSecretValue") > read).then_some(())).await;
        let theirs = format!(r#"{{"password":"{one}","theirs":1}}"#);
        world().moto.secrets_manager().put_secret_value().secret_id(&id).secret_string(theirs).send().await.unwrap();
        s.front.remove_fault(held_back);
        holds(&id, &format!(r#"{{"password":"{two}","theirs":1}}"#), WITHIN_TTL).await;
        ready(s, "db", "True Pushed", SECONDS).await;
    })
    .await;
}

#[tokio::test]
async fn who_lost_the_lease_writes_nothing_to_a_store() {
    scene_before_controller("push-lease", async |s| {
        s.provide(&["*"]).await;
        allow(s, &["write"]).await;
        let lease = format!("{}/robotosecret", s.namespace);
        start_with(s, &["--lease", &lease]).await;
        let one = s.value("one");
        secret(s, "db", json!({"password": one})).await;
        let name = format!("/{}", s.path("db"));
        push(s, "db", json!({"secretName": "db", "data": [{"key": "password", "uri": format!("aws.ps://{name}")}]})).await;
        ready(s, "db", "True Pushed", SECONDS).await;
        // It may read as before, and can't renew.
        let bindings: Api<RoleBinding> = Api::namespaced(s.client.clone(), &s.namespace);
        let binding = bindings.get("robotosecret-lease").await.unwrap();
        bindings.delete("robotosecret-lease", &DeleteParams::default()).await.unwrap();
        until("its term is over", SECONDS, async || (s.controller().metric("robotosecret_leader", "") < 1.0).then_some(())).await;
        let written = writes(s);
        let drifted = world().moto.ssm().put_parameter().name(&name).value("theirs").overwrite(true);
        drifted.r#type(aws_sdk_ssm::types::ParameterType::SecureString).send().await.unwrap();
        let log = s.controller().process.log_path().to_owned();
        let refused = async || std::fs::read_to_string(&log).unwrap().contains("does not hold the lease").then_some(());
        until("it would write, and does not", WITHIN_TTL, refused).await;
        assert_eq!((writes(s), parameter(&name).await.as_deref()), (written, Some("theirs")));
        let again = RoleBinding { metadata: ObjectMeta { name: binding.metadata.name, ..ObjectMeta::default() }, ..binding };
        bindings.create(&PostParams::default(), &again).await.unwrap();
        until("it is put back", WITHIN_TTL, async || (parameter(&name).await.as_ref() == Some(&one)).then_some(())).await;
    })
    .await;
}

/// What a spec is refused for, in the words that the user reads.
const REFUSED: &[(&str, &str)] = &[
    ("{data: [{uri: 'aws.sm://x'}]}", "spec.secretName: Required value"),
    ("{secretName: Upper, data: [{uri: 'aws.sm://x'}]}", "the name of a Secret has lower case letters"),
    ("{secretName: s}", "spec.data: Required value"),
    ("{secretName: s, data: []}", "should have at least 1 items"),
    ("{secretName: s, data: [{key: a}]}", "omits all key fields [\"uri\"]"),
    ("{secretName: s, data: [{uri: 'https://kv/x'}]}", "a reference starts with aws.sm:// (Secrets Manager), aws.ps:// (Parameter Store"),
    ("{secretName: s, data: [{uri: 'aws.ps:///x?version=1'}]}", "what is written becomes the newest version; leave the version out"),
    ("{secretName: s, data: [{uri: 'aws.sm://x#/a'}]}", "a keypath takes one key; name it with key"),
    ("{secretName: s, data: [{key: a, uri: 'aws.sm://x'}, {key: b, uri: 'aws.sm://x'}]}", "duplicate entries for key [uri=\"aws.sm://x\"]"),
    ("{secretName: s, data: [{key: 'a b', uri: 'aws.sm://x'}]}", "a key of a Secret has only letters"),
    ("{secretName: s, deletionPolicy: Delete, data: [{key: a, uri: 'aws.sm://x#/a'}]}", "with a keypath others may keep something beside it; use Retain"),
    ("{secretName: s, recovery: {days: 7}, data: [{uri: 'aws.sm://x'}]}", "recovery says how deletionPolicy: Delete deletes"),
    ("{secretName: s, deletionPolicy: Delete, recovery: {days: 6}, data: [{uri: 'aws.sm://x'}]}", "should be greater than or equal to 7"),
    ("{secretName: s, deletionPolicy: Delete, recovery: {days: 7, force: true}, data: [{uri: 'aws.sm://x'}]}", "write either days or force"),
    ("{secretName: s, deletionPolicy: Delete, recovery: {}, data: [{uri: 'aws.sm://x'}]}", "write either days or force"),
    ("{secretName: s, deletionPolicy: Delete, recovery: {force: false}, data: [{uri: 'aws.sm://x'}]}", "write force: true, or leave it out"),
    ("{secretName: s, ttl: 9s, data: [{uri: 'aws.sm://x'}]}", "a duration of at least 10s"),
    ("{secretName: s, updatePolicy: Merge, data: [{uri: 'aws.sm://x'}]}", "Unsupported value: \"Merge\""),
    ("{secretName: s, data: [{uri: 'aws.sm://x', attributes: {tags: {robotosecret.dev/owner: x}}}]}", "tags under robotosecret.dev/ are the controller's own"),
    ("{secretName: s, data: [{uri: 'aws.ps:///x', attributes: {parameterTier: Huge}}]}", "Unsupported value: \"Huge\""),
];

#[tokio::test]
async fn what_cannot_be_pushed_is_refused_with_what_to_write_instead() {
    scene_before_controller("push-refused", async |s| {
        let create = async |spec: &str| {
            let spec: Value = serde_yaml::from_str(spec).unwrap();
            let object = json!({"apiVersion": "robotosecret.dev/v1alpha1", "kind": "RobotoPush", "metadata": {"name": "x", "namespace": s.namespace}, "spec": spec});
            apply_object(&s.client, &object).await.map_err(|error| error.to_string())
        };
        let mut wrong = Vec::new();
        for (spec, message) in REFUSED {
            let said = create(spec).await.err();
            if !said.as_ref().is_some_and(|said| said.contains(message)) {
                wrong.push(format!("{spec}\n  should be refused with {message:?}, but: {said:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        let all = "{secretName: s, adopt: true, ttl: 1h, updatePolicy: IfNotExists, deletionPolicy: Delete, recovery: {force: true}, data: [{uri: 'aws.sm://x'}, \
                   {key: a, uri: 'aws.ps:///x', attributes: {description: d, tags: {a: b}, kmsKey: alias/k, parameterType: StringList, parameterTier: Intelligent-Tiering}}]}";
        create(all).await.unwrap();
        let made = pushes(s).get("x").await.unwrap();
        let status = made.status.unwrap();
        assert!(status.observed_generation == Some(-1) && status.condition("Ready").unwrap().reason == "Pending");
    })
    .await;
}

#[tokio::test]
async fn the_example_becomes_what_it_says() {
    scene_before_controller("push-example-aws", async |s| {
        let (ns, url) = (s.namespace.clone(), s.front.url());
        let text = std::fs::read_to_string(root().join("examples/31-push.yaml")).unwrap();
        let text = text.replace("name: writes", &format!("name: {ns}.writes")).replace("namespace: shop", &format!("namespace: {ns}"));
        let text = text.replace("[shop]", &format!("[{ns}]")).replace("made/shop/", &format!("made/{ns}/"));
        for mut object in testbed::chart::documents(&text).unwrap() {
            if object["kind"] == "ClusterRobotoProvider" {
                object["spec"]["aws"]["endpoints"] = json!({"secretsManager": url, "ssm": url, "sts": url});
            }
            apply_object(&s.client, &object).await.unwrap();
        }
        start(s).await;
        ready(s, "made-here", "True Pushed", SECONDS).await;
        let password = "made by another tool";
        let database = format!("made/{ns}/database");
        assert_eq!(serde_json::from_str::<Value>(&held(&database).await.unwrap().0).unwrap(), json!({"user": "shop", "password": password}));
        assert_eq!(tags(&database).await["team"], "shop");
        assert_eq!(parameter(&format!("/made/{ns}/password")).await.as_deref(), Some(password));
        assert_eq!(held(&format!("made/{ns}/app")).await.unwrap().0, json!({"database": {"password": password}}).to_string());
        s.providers().delete(&format!("{ns}.writes"), &DeleteParams::default()).await.unwrap();
    })
    .await;
}
