//! Who may read what, and through which address: a refusal makes no call, and what an administrator changes holds at once.

use std::time::Duration;

use kube::api::DeleteParams;
use serde_json::{Value, json};
use testbed::{
    Front,
    front::{Answer, Fault},
};

use crate::support::{SECONDS, Scene, WITHIN_TTL, apply_object, says, scene, scene_before_controller, until, world};

/// A provider of any name with these addresses and rules.
async fn provide(s: &Scene, name: &str, region: &str, front: &Front, allow: Value) {
    let url = front.url();
    let aws = json!({"region": region, "endpoints": {"secretsManager": url, "ssm": url, "sts": url}, "identity": {"ambient": {}}});
    let provider =
        json!({"apiVersion": "robotosecret.dev/v1alpha1", "kind": "ClusterRobotoProvider", "metadata": {"name": name}, "spec": {"aws": aws, "allow": allow}});
    apply_object(&s.client, &provider).await.unwrap();
}

/// The scene's provider with these rules.
async fn allow(s: &Scene, allow: Value) {
    provide(s, &s.namespace, "eu-west-1", &s.front, allow).await;
}

/// A rule for the scene's namespace.
fn rule(s: &Scene, references: &[&str]) -> Value {
    json!([{"namespaces": {"names": [s.namespace]}, "references": references}])
}

/// Everything that left the controller for a store, as `action id`; a recheck, which may come at any time, is not told from the call before it.
fn calls(front: &Front) -> Vec<String> {
    let reads = front.calls().into_iter().filter(|call| call.service != "sts");
    let mut calls: Vec<String> = reads.map(|call| format!("{} {}", call.action, call.ids.join(" ")).trim().to_owned()).collect();
    calls.dedup();
    calls
}

/// Waits until the controller says that it read a resource because its provider changed, and not because a pause was over.
async fn read_at_once(s: &Scene, name: &str, times: usize) {
    let said = async || {
        let log = s.controller().process.log().unwrap();
        let lines = log.lines().filter(|line| line.contains(" checked ") && line.contains(&format!("name=\"{name}\"")) && line.contains("why=Provider"));
        (lines.count() >= times).then_some(())
    };
    until(&format!("{name} is read because of its provider, {times} times"), SECONDS, said).await;
}

#[tokio::test]
async fn without_its_provider_a_resource_waits_and_is_mirrored_as_soon_as_there_is_one() {
    scene_before_controller("no-provider", async |s| {
        let value = s.value("a");
        s.put_secret("db", &value).await;
        s.start_controller(&[]).await;
        s.apply("db", &format!("uri: aws.sm://{}", s.path("db"))).await;
        let message = s.condition("db", "Ready", "False ProviderNotFound", SECONDS).await;
        says(&message, &format!("the ClusterRobotoProvider {} does not exist; create it, or name another in spec.provider", s.namespace));
        assert_eq!((calls(&s.front), s.data("db").await), (vec![], None));
        s.provide(&["*"]).await;
        s.holds("db", &[("value", &value)], SECONDS).await;
        s.ready("db").await;

        // Without it again, the Secret stays; another of the same name is another provider.
        s.providers().delete(&s.namespace, &DeleteParams::default()).await.unwrap();
        s.condition("db", "Ready", "False ProviderNotFound", SECONDS).await;
        assert_eq!(s.data("db").await.unwrap(), [("value".to_owned(), value)]);
        let before = s.front.calls().len();
        s.refresh("db", "1").await;
        until("the refresh is handled", SECONDS, async || (s.status("db").await.last_handled_refresh.as_deref() == Some("1")).then_some(())).await;
        assert_eq!(s.front.calls().len(), before);
        let rotated = s.value("b");
        s.put_secret("db", &rotated).await;
        s.provide(&["*"]).await;
        s.holds("db", &[("value", &rotated)], SECONDS).await;
        s.ready("db").await;
    })
    .await;
}

#[tokio::test]
async fn what_is_not_allowed_makes_no_call_until_it_is_allowed() {
    scene("not-allowed", async |s| {
        let value = s.value("a");
        s.put_secret("db", &value).await;
        let (db, other) = (format!("aws.sm://{}", s.path("db")), format!("aws.sm://{}", s.path("other")));
        allow(s, json!([])).await;
        s.apply("db", &format!("uri: {db}")).await;
        let message = s.condition("db", "Ready", "False NotAllowed", SECONDS).await;
        says(&message, &format!("does not allow the namespace {} to read {db}; add it to the provider's spec.allow", s.namespace));
        // Neither somebody else's permission helps, nor one for something else, nor one that names nothing.
        for rules in [
            json!([{"namespaces": {"names": ["somebody-else"]}, "references": ["*"]}]),
            rule(s, &[&other, "aws.ps://**", &format!("{db}/*")]),
            json!([{"namespaces": {"all": true}}]),
        ] {
            allow(s, rules).await;
            s.refresh("db", "again").await;
            s.condition("db", "Ready", "False NotAllowed", SECONDS).await;
        }
        until("the refresh is handled", SECONDS, async || (s.status("db").await.last_handled_refresh.as_deref() == Some("again")).then_some(())).await;
        assert_eq!((calls(&s.front), s.data("db").await), (vec![], None));
        // One that is allowed and one that isn't: all or nothing.
        allow(s, rule(s, &[&db])).await;
        s.apply("both", &format!("data: [{{key: a, uri: '{db}'}}, {{key: b, uri: '{other}'}}]")).await;
        s.condition("both", "Ready", "False NotAllowed", SECONDS).await;
        s.ready("db").await;
        read_at_once(s, "db", 1).await;
        s.holds("db", &[("value", &value)], SECONDS).await;
        assert_eq!(calls(&s.front), [format!("GetSecretValue {}", s.path("db"))]);

        // Taken back: nothing more is read, and the Secret stays.
        allow(s, rule(s, &[&other])).await;
        s.condition("db", "Ready", "False NotAllowed", SECONDS).await;
        let rotated = s.value("b");
        s.put_secret("db", &rotated).await;
        let before = s.front.count(|call| call.ids == [s.path("db")]);
        s.refresh("db", "taken back").await;
        until("the refresh is handled", SECONDS, async || (s.status("db").await.last_handled_refresh.as_deref() == Some("taken back")).then_some(())).await;
        assert_eq!(s.front.count(|call| call.ids == [s.path("db")]), before);
        assert_eq!(s.data("db").await.unwrap(), [("value".to_owned(), value)]);
        allow(s, json!([{"namespaces": {"all": true}, "references": ["*"]}])).await;
        s.holds("db", &[("value", &rotated)], SECONDS).await;
    })
    .await;
}

#[tokio::test]
async fn a_resource_that_names_no_provider_uses_the_one_called_default() {
    // The only test that makes the ClusterRobotoProvider `default`, since it is there for all of them.
    scene("default-provider", async |s| {
        let value = s.value("a");
        s.put_secret("db", &value).await;
        provide(s, "default", "eu-west-1", &s.front, rule(s, &["*"])).await;
        let mut resource = s.resource("db", &format!("uri: aws.sm://{}", s.path("db")));
        resource["spec"].as_object_mut().unwrap().remove("provider");
        apply_object(&s.client, &resource).await.unwrap();
        s.holds("db", &[("value", &value)], SECONDS).await;
        s.providers().delete("default", &DeleteParams::default()).await.unwrap();
        says(&s.condition("db", "Ready", "False ProviderNotFound", SECONDS).await, "the ClusterRobotoProvider default does not exist");
    })
    .await;
}

#[tokio::test]
async fn patterns_allow_what_they_say_and_nothing_beside_it() {
    scene("patterns", async |s| {
        let ns = s.namespace.clone();
        allow(s, rule(s, &[&format!("aws.sm://{ns}/*/db"), &format!("aws.sm://{ns}/deep/**"), "aws.ps:///${namespace}/**", "aws.sm://team/${namespace}/x"]))
            .await;
        let allowed = ["aws.sm://NS/a/db", "aws.sm://NS/deep/a/b", "aws.ps:///NS/a", "aws.sm://team/NS/x"];
        let denied = [
            "aws.sm://NS/a/b/db",
            "aws.sm://NS/a/dbs",
            "aws.sm://NS/deep",
            "aws.sm://NS/deeper/a",
            "aws.ps:///NSx/a",
            "aws.ps:///other/a",
            "aws.sm://team/other/x",
        ];
        let name = |kind: &str, i: usize| format!("{kind}-{i}");
        for (kind, references) in [("allowed", &allowed[..]), ("denied", &denied[..])] {
            for (i, reference) in references.iter().enumerate() {
                s.apply(&name(kind, i), &format!("uri: {}", reference.replace("NS", &ns))).await;
            }
        }
        // None of them is there, so that what is allowed shows by the store having been asked.
        for i in 0..allowed.len() {
            s.condition(&name("allowed", i), "Ready", "False SourceNotFound", SECONDS).await;
        }
        for i in 0..denied.len() {
            s.condition(&name("denied", i), "Ready", "False NotAllowed", SECONDS).await;
        }
        let asked: std::collections::BTreeSet<String> = s.front.calls().into_iter().flat_map(|call| call.ids).collect();
        let expected = [format!("{ns}/a/db"), format!("{ns}/deep/a/b"), format!("/{ns}/a"), format!("team/{ns}/x")];
        assert_eq!(asked, expected.into_iter().collect());
    })
    .await;
}

#[tokio::test]
async fn an_arn_must_be_of_the_providers_region_and_account_and_allowed_under_each_name() {
    scene("arns", async |s| {
        let value = s.value("a");
        s.put_secret("db", &value).await;
        s.put_parameter("p", &value).await;
        let arn = world().moto.secrets_manager().describe_secret().secret_id(s.path("db")).send().await.unwrap().arn.unwrap();
        assert!(arn.starts_with("arn:aws:secretsmanager:eu-west-1:123456789012:secret:"), "{arn}");
        // Another region: told from the reference alone.
        s.apply("region", &format!("uri: '{}'", arn.replace("eu-west-1", "eu-west-2"))).await;
        says(
            &s.condition("region", "Ready", "False NotAllowed", SECONDS).await,
            "the provider reads the region eu-west-1; an ARN of another region is not allowed",
        );
        assert_eq!(calls(&s.front), Vec::<String>::new());
        // Another account: the provider's own is known.
        s.apply("account", &format!("uri: '{}'", arn.replace("123456789012", "210987654321"))).await;
        says(&s.condition("account", "Ready", "False NotAllowed", SECONDS).await, "belongs to another account than the ARN");
        assert_eq!(calls(&s.front), Vec::<String>::new());
        // The end of the ARN may be part of a name: one of the two names alone does not do.
        let plain = format!("aws.sm://{}", s.path("db"));
        for references in [vec![plain.clone()], vec![format!("{plain}-*")]] {
            allow(s, rule(s, &references.iter().map(String::as_str).collect::<Vec<_>>())).await;
            s.apply("db", &format!("uri: '{arn}'")).await;
            s.condition("db", "Ready", "False NotAllowed", SECONDS).await;
        }
        assert_eq!(calls(&s.front), Vec::<String>::new());
        allow(s, rule(s, &[&plain, &format!("{plain}-??????").replace('?', "*"), &format!("aws.ps:///{}", s.path("p"))])).await;
        s.holds("db", &[("value", &value)], SECONDS).await;
        assert_eq!(calls(&s.front), [format!("GetSecretValue {arn}")]);
        // A parameter's ARN has its name in it, and the account is known by now.
        s.apply("p", &format!("uri: 'arn:aws:ssm:eu-west-1:123456789012:parameter/{}'", s.path("p"))).await;
        s.holds("p", &[("value", &value)], SECONDS).await;
        assert_eq!(s.calls("GetCallerIdentity"), 1);
    })
    .await;
}

#[tokio::test]
async fn a_provider_that_moves_to_the_region_of_an_arn_is_asked_at_once() {
    scene("arn-region", async |s| {
        let value = s.value("a");
        s.put_secret("db", &value).await;
        let arn = world().moto.secrets_manager().describe_secret().secret_id(s.path("db")).send().await.unwrap().arn.unwrap();
        provide(s, &s.namespace, "eu-central-1", &s.front, rule(s, &["*"])).await;
        s.apply("db", &format!("uri: '{arn}'")).await;
        s.condition("db", "Ready", "False NotAllowed", SECONDS).await;
        assert_eq!(calls(&s.front), Vec::<String>::new());
        allow(s, rule(s, &["*"])).await;
        read_at_once(s, "db", 1).await;
        s.holds("db", &[("value", &value)], SECONDS).await;
    })
    .await;
}

#[tokio::test]
async fn an_answer_under_a_name_that_is_not_allowed_is_not_mirrored() {
    scene("answered-name", async |s| {
        let value = s.value("a");
        s.put_secret("db", &value).await;
        let (ns, db) = (s.namespace.clone(), s.path("db"));
        allow(s, rule(s, &[&format!("aws.sm://{db}")])).await;
        // What AWS does with a partial ARN: it answers with the secret that it takes for the one that is meant.
        let answer = json!({
            "ARN": format!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:{ns}/private-AbCdEf"), "Name": format!("{ns}/private"),
            "VersionId": "11111111-2222-3333-4444-555555555555", "SecretString": value, "CreatedDate": 1_800_000_000,
        });
        s.front.add_fault(Fault::new(|call| call.action == "GetSecretValue", Answer::Body { status: 200, body: answer.to_string() }));
        s.apply("db", &format!("uri: 'arn:aws:secretsmanager:eu-west-1:123456789012:secret:{db}'")).await;
        let message = s.condition("db", "Ready", "False NotAllowed", SECONDS).await;
        says(&message, "the store answered with another name");
        assert!(!message.contains("private"), "what is not allowed is not told either: {message}");
        assert_eq!((s.data("db").await, s.status("db").await.sources), (None, vec![]));
        allow(s, rule(s, &[&format!("aws.sm://{db}"), &format!("aws.sm://{ns}/private")])).await;
        read_at_once(s, "db", 1).await;
        s.holds("db", &[("value", &value)], SECONDS).await;
    })
    .await;
}

#[tokio::test]
async fn a_secret_through_parameter_store_is_checked_as_the_secret_that_it_is() {
    scene("sm-path", async |s| {
        let (value, ns) = (s.value("a"), s.namespace.clone());
        s.put_secret("db", &json!({"user": {"name": value}}).to_string()).await;
        let uri = format!("aws.ps:///aws/reference/secretsmanager/{ns}/db/user/name");
        // The name that is written allows nothing.
        allow(s, rule(s, &["aws.ps://**"])).await;
        s.apply("db", &format!("uri: {uri}")).await;
        s.condition("db", "Ready", "False NotAllowed", SECONDS).await;
        assert_eq!(calls(&s.front), Vec::<String>::new());
        allow(s, rule(s, &[&format!("aws.sm://{ns}/db"), &format!("aws.sm://{ns}/db/user")])).await;
        s.holds("db", &[("value", &value)], SECONDS).await;
        // What is not allowed is never asked for.
        assert_eq!(calls(&s.front)[..1], [format!("BatchGetSecretValue {ns}/db/user {ns}/db")]);
        assert!(calls(&s.front).iter().all(|call| call.ends_with("/db") || call.ends_with("/db/user")), "{:?}", calls(&s.front));
        // The longest name counts as soon as it exists.
        let longer = s.value("b");
        s.put_secret("db/user", &json!({"name": longer}).to_string()).await;
        s.holds("db", &[("value", &longer)], WITHIN_TTL).await;
    })
    .await;
}

#[tokio::test]
async fn a_key_may_be_read_through_another_provider() {
    scene("two-providers", async |s| {
        let (value, other) = (s.value("a"), format!("{}-other", s.namespace));
        s.put_secret("db", &value).await;
        s.put_parameter("p", &value).await;
        let front = Front::start(world().moto.url()).unwrap();
        let (db, p) = (format!("aws.sm://{}", s.path("db")), format!("aws.ps:///{}", s.path("p")));
        let spec = format!("{{ttl: 24h, data: [{{key: a, uri: '{db}'}}, {{key: b, uri: '{p}', provider: {{kind: ClusterRobotoProvider, name: {other}}}}}]}}");
        s.apply("db", &spec).await;
        says(&s.condition("db", "Ready", "False ProviderNotFound", SECONDS).await, &format!("the ClusterRobotoProvider {other} does not exist"));
        assert_eq!(calls(&s.front), Vec::<String>::new());
        provide(s, &other, "eu-west-1", &front, rule(s, &[&p])).await;
        s.holds("db", &[("a", &value), ("b", &value)], SECONDS).await;
        assert_eq!(calls(&s.front), [format!("GetSecretValue {}", s.path("db"))]);
        assert_eq!(calls(&front), [format!("GetParameter /{}", s.path("p"))]);
        // Each provider is asked for its own permission.
        s.apply("swapped", &spec.replace(&p, &db)).await;
        says(&s.condition("swapped", "Ready", "False NotAllowed", SECONDS).await, &format!("the ClusterRobotoProvider {other} does not allow"));
        s.providers().delete(&other, &DeleteParams::default()).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn another_address_or_region_of_a_provider_holds_at_once() {
    scene("moved-provider", async |s| {
        let value = s.value("a");
        s.put_secret("db", &value).await;
        s.apply("db", &format!("{{uri: 'aws.sm://{}', ttl: 24h}}", s.path("db"))).await;
        s.ready("db").await;
        let front = Front::start(world().moto.url()).unwrap();
        let rotated = s.value("b");
        s.put_secret("db", &rotated).await;
        provide(s, &s.namespace, "eu-west-1", &front, rule(s, &["*"])).await;
        s.holds("db", &[("value", &rotated)], SECONDS).await;
        let reads = |front: &Front| front.count(|call| call.service != "sts");
        assert_eq!((reads(&s.front), reads(&front)), (1, 1), "{:?}", s.front.totals());
        // The other region has no such secret; what is mirrored stays.
        provide(s, &s.namespace, "eu-central-1", &front, rule(s, &["*"])).await;
        s.condition("db", "Ready", "False SourceNotFound", SECONDS).await;
        assert_eq!(s.data("db").await.unwrap(), [("value".to_owned(), rotated)]);
        provide(s, &s.namespace, "eu-west-1", &front, rule(s, &["*"])).await;
        s.ready("db").await;
        read_at_once(s, "db", 2).await;
        assert_eq!(reads(&s.front), 1);
    })
    .await;
}

#[tokio::test]
async fn a_mended_provider_is_asked_at_once_also_by_what_was_never_mirrored() {
    scene("mended-provider", async |s| {
        let value = s.value("a");
        s.put_secret("db", &value).await;
        s.front.deny(&s.path("db"));
        s.apply("db", &format!("{{uri: 'aws.sm://{}', ttl: 24h}}", s.path("db"))).await;
        s.condition("db", "Ready", "False AccessDenied", SECONDS).await;
        let front = Front::start(world().moto.url()).unwrap();
        provide(s, &s.namespace, "eu-west-1", &front, rule(s, &["*"])).await;
        read_at_once(s, "db", 1).await;
        s.holds("db", &[("value", &value)], SECONDS).await;
    })
    .await;
}

#[tokio::test]
async fn what_was_refused_once_keeps_its_pauses_when_the_store_denies_it_then() {
    scene("pauses", async |s| {
        s.put_secret("free", &s.value("a")).await;
        let db = s.path("db");
        s.front.deny(&db);
        allow(s, rule(s, &[&format!("aws.sm://{}", s.path("free"))])).await;
        s.apply("db", &format!("{{uri: 'aws.sm://{db}', ttl: 24h}}")).await;
        s.condition("db", "Ready", "False NotAllowed", SECONDS).await;
        allow(s, rule(s, &["*"])).await;
        s.condition("db", "Ready", "False AccessDenied", SECONDS).await;
        // What makes the controller look at the resource again, but is no reason to read.
        for note in ["1", "2", "3"] {
            s.patch("db", json!({"metadata": {"annotations": {"note": note}}})).await;
        }
        // Its events come after those in the same watch.
        s.apply("free", &format!("uri: aws.sm://{}", s.path("free"))).await;
        s.ready("free").await;
        let of_db: Vec<_> = s.front.calls().into_iter().filter(|call| call.ids.contains(&db)).map(|call| call.at).collect();
        let soon = of_db.iter().filter(|at| at.duration_since(of_db[0]) < Duration::from_secs(7)).count();
        assert_eq!(soon, 1, "the pause after a denial is eight seconds at least");
    })
    .await;
}

#[tokio::test]
async fn a_permission_for_others_is_no_reason_to_ask_the_store() {
    scene("others", async |s| {
        s.put_secret("db", &s.value("a")).await;
        let db = format!("aws.sm://{}", s.path("db"));
        for name in ["db", "sign"] {
            s.apply(name, &format!("{{uri: '{db}', ttl: 24h}}")).await;
            s.ready(name).await;
        }
        s.apply("sign", &format!("{{uri: '{db}-sign', ttl: 24h}}")).await;
        s.condition("sign", "Ready", "False SourceNotFound", SECONDS).await;
        let before = s.front.count(|call| call.ids == [s.path("db")]);
        for others in ["a", "b", "c"] {
            let mut rules = rule(s, &[&db, &format!("{db}-sign")]);
            rules.as_array_mut().unwrap().push(json!({"namespaces": {"names": [others]}, "references": ["*"]}));
            allow(s, rules).await;
        }
        // Shows that the changes have arrived: it is not allowed any more.
        allow(s, rule(s, &[&db])).await;
        s.condition("sign", "Ready", "False NotAllowed", SECONDS).await;
        s.ready("db").await;
        assert_eq!(s.front.count(|call| call.ids == [s.path("db")]), before);
    })
    .await;
}
