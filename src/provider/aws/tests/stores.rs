//! Listings, tags and presence as the emulated stores answer them: the emulator, and moto, which knows nothing of us.

use aws_sdk_secretsmanager::types::Tag;
use aws_sdk_ssm::types::{ParameterType, Tag as ParameterTag};
use testbed::{Emulator, Moto, TempFolder, front::Answer};

use super::{
    questions::{ask, found, list, source},
    *,
};

async fn provider(url: &str) -> AwsProvider {
    let spec = json!({"region": "eu-west-1", "endpoints": {"secretsManager": url, "ssm": url, "sts": url}, "identity": {"ambient": {}}});
    AwsProvider::new(&serde_json::from_value(spec).unwrap(), Principal::ambient(), &Keys::lasting(3600).ambient().await, Metrics::default())
}

async fn make(url: &str) {
    let (sm, ssm) = (testbed::aws::secrets_manager(url), testbed::aws::ssm(url));
    for (name, tags) in [("p/a", &[("foo", "bar"), ("env", "prod")][..]), ("p/a/b", &[("foo2", "barbaz")]), ("pq", &[("foo", "x"), ("y", "bar")]), ("z", &[])] {
        let tags = tags.iter().map(|(key, value)| Tag::builder().key(*key).value(*value).build()).collect();
        sm.create_secret().name(name).secret_string(format!("of {name}")).set_tags(Some(tags)).send().await.unwrap();
    }
    for (name, tags) in [("/p", &[][..]), ("/p/a", &[("foo", "bar")]), ("/p/a/b", &[("foo", "barbaz")]), ("/pq/a", &[("foo", "bar")])] {
        let tags: Vec<_> = tags.iter().map(|(key, value)| ParameterTag::builder().key(*key).value(*value).build().unwrap()).collect();
        let put = ssm.put_parameter().name(name).value(format!("of {name}")).r#type(ParameterType::SecureString);
        put.set_tags(Some(tags).filter(|tags| !tags.is_empty())).send().await.unwrap();
    }
    let many = (0..25).map(|number| ssm.put_parameter().name(format!("/many/{number:02}")).value("v").r#type(ParameterType::String).send());
    join_all(many).await.into_iter().for_each(|put| drop(put.unwrap()));
}

/// What a listing finds.
async fn finds(provider: &AwsProvider, question: &Question) -> Vec<String> {
    found(&ask(provider, question).await.unwrap())
}

/// Whether something is gone, for all that is known.
async fn is_gone(provider: &AwsProvider, uri: &str, arn: &str) -> Option<bool> {
    ask(provider, &Question::Presence { source: source(uri), arn: arn.to_owned() }).await.err().map(|error| error.absent)
}

async fn answers_by_the_book(url: &str) {
    make(url).await;
    let (sm, ssm, provider) = (testbed::aws::secrets_manager(url), testbed::aws::ssm(url), provider(url).await);
    let (secrets, parameters) = (Store::SecretsManager, Store::ParameterStore);
    for (question, expected) in [
        (list(secrets, None, true, &[]), &["aws.sm://p/a", "aws.sm://p/a/b", "aws.sm://pq", "aws.sm://z"][..]),
        (list(secrets, Some("p/"), true, &[]), &["aws.sm://p/a", "aws.sm://p/a/b"]),
        (list(secrets, Some("p/"), false, &[]), &["aws.sm://p/a"]),
        (list(secrets, Some("P/"), true, &[]), &[]),
        (list(secrets, None, true, &[("foo", "bar")]), &["aws.sm://p/a"]),
        (list(secrets, Some("p"), true, &[("env", "prod"), ("foo", "bar")]), &["aws.sm://p/a"]),
        (list(secrets, Some("pq"), true, &[("foo", "bar")]), &[]),
        (list(parameters, Some("/p"), true, &[]), &["aws.ps:///p/a of /p/a", "aws.ps:///p/a/b of /p/a/b"]),
        (list(parameters, Some("/p/"), false, &[]), &["aws.ps:///p/a of /p/a"]),
        (list(parameters, Some("/p"), true, &[("foo", "bar")]), &["aws.ps:///p/a"]),
        (list(parameters, None, true, &[("foo", "bar")]), &["aws.ps:///p/a", "aws.ps:///pq/a"]),
        (list(parameters, Some("/none"), true, &[]), &[]),
    ] {
        assert_eq!(finds(&provider, &question).await, expected, "{question} at {url}");
    }
    assert_eq!(finds(&provider, &list(parameters, Some("/many"), true, &[])).await.len(), 25);
    assert_eq!(finds(&provider, &list(parameters, None, true, &[])).await.len(), 29);

    // A recheck sees what came, changed and went; a change of a value only where the listing brings it.
    let version = async |question: &Question| ask(&provider, question).await.unwrap().version.id;
    let (below, named) = (list(parameters, Some("/p"), true, &[]), list(secrets, Some("p"), true, &[]));
    let before = (version(&below).await, version(&named).await);
    assert_eq!((version(&below).await, version(&named).await), before);
    ssm.put_parameter().name("/p/a").value("other").overwrite(true).send().await.unwrap();
    sm.put_secret_value().secret_id("p/a").secret_string("other").send().await.unwrap();
    let changed = version(&below).await;
    assert!(changed != before.0 && version(&named).await == before.1);
    let alone = ask(&provider, &Question::Value(source("aws.ps:///p/a"))).await.unwrap();
    let Value::List(members) = ask(&provider, &below).await.unwrap().value else { panic!("no listing") };
    assert_eq!(members[0].reading.as_ref().map(|reading| (text(reading), reading.version.clone())), Some((text(&alone), alone.version.clone())));

    let tags = async |uri: &str| ask(&provider, &Question::Tags(source(uri))).await.map(|reading| text(&reading)).map_err(|error| error.reason);
    assert_eq!(tags("aws.sm://p/a").await, Ok(r#"{"env":"prod","foo":"bar"}"#.to_owned()));
    assert_eq!((tags("aws.sm://z").await, tags("aws.ps:///p").await), (Ok("{}".to_owned()), Ok("{}".to_owned())));
    assert_eq!(tags("aws.ps:///p/a").await, Ok(r#"{"foo":"bar"}"#.to_owned()));
    assert_eq!((tags("aws.sm://none").await, tags("aws.ps:///none").await), (Err(Reason::SourceNotFound), Err(Reason::SourceNotFound)));

    let (secret, parameter) = (secret_arn("p/a"), alone.version.arn);
    assert_eq!((is_gone(&provider, "aws.sm://p/a", &secret).await, is_gone(&provider, "aws.ps:///p/a", &parameter).await), (None, None));
    sm.create_secret().name("empty").send().await.unwrap();
    assert_eq!(is_gone(&provider, "aws.sm://empty", &secret).await, Some(false), "it is there, without a value");
    sm.delete_secret().secret_id("p/a").recovery_window_in_days(7).send().await.unwrap();
    sm.delete_secret().secret_id("z").force_delete_without_recovery(true).send().await.unwrap();
    ssm.delete_parameter().name("/p/a").send().await.unwrap();
    for (uri, arn) in [("aws.sm://p/a", &secret), ("aws.sm://z", &secret), ("aws.sm://never", &secret), ("aws.ps:///p/a", &parameter)] {
        assert_eq!(is_gone(&provider, uri, arn).await, Some(true), "{uri} at {url}");
        let elsewhere = arn.replace("123456789012", "210987654321");
        assert_eq!(is_gone(&provider, uri, &elsewhere).await, Some(false), "{uri} at {url}");
    }
    assert_eq!(tags("aws.sm://p/a").await, Err(Reason::SourceNotFound), "it is to be deleted");
    assert_eq!(finds(&provider, &list(secrets, Some("p"), true, &[])).await, ["aws.sm://p/a/b", "aws.sm://pq"]);
    assert!(version(&named).await != before.1 && version(&below).await != changed);
}

#[tokio::test]
async fn the_emulator_and_moto_are_understood_alike() {
    let (emulator, dir) = (Emulator::start().unwrap(), TempFolder::new("test").unwrap());
    answers_by_the_book(&emulator.url()).await;
    let moto = Moto::start(dir.path()).unwrap();
    answers_by_the_book(moto.url()).await;
}

#[tokio::test]
async fn whatever_the_pages_are_like_a_listing_is_whole_or_fails() {
    let emulator = Emulator::start().unwrap();
    make(&emulator.url()).await;
    let provider = provider(&emulator.url()).await;
    let questions =
        [list(Store::SecretsManager, None, true, &[]), list(Store::ParameterStore, Some("/"), true, &[]), list(Store::ParameterStore, None, true, &[])];
    for question in &questions {
        let whole = finds(&provider, question).await;
        let pages = emulator.always(Answer::Pages { size: 2, empty_between: true });
        assert_eq!(finds(&provider, question).await, whole, "{question}");
        let id = whole[0].split_once("://").unwrap().1.split(' ').next().unwrap().to_owned();
        let stale = emulator.leave_out(&id);
        assert_eq!(finds(&provider, question).await, whole[1..], "{question} without {id}");
        emulator.remove_fault(pages);
        emulator.remove_fault(stale);
        for (fault, reason) in [(emulator.malformed(), Reason::ProviderUnavailable), (emulator.fail(500), Reason::ProviderUnavailable)] {
            let error = ask(&provider, question).await.unwrap_err();
            assert_eq!((error.reason, error.absent), (reason, false), "{question}");
            emulator.remove_fault(fault);
        }
        emulator.clear_faults();
    }
}
