//! What the emulator answers when nothing is wrong.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_secretsmanager::types::{Filter, FilterNameStringType};
use aws_sdk_ssm::types::ParameterType;
use testbed::Emulator;

use crate::error;

#[tokio::test]
async fn secrets_are_read_one_by_one_and_in_batches() {
    let emulator = Emulator::start().unwrap();
    let version = emulator.put_secret("prod/db", "first");
    emulator.put_binary("prod/key", &[0, 159, 146, 150]);
    let client = emulator.secrets_manager();
    let db = client.get_secret_value().secret_id("prod/db").send().await.unwrap();
    assert_eq!((db.name(), db.secret_string(), db.version_id()), (Some("prod/db"), Some("first"), Some(version.as_str())));
    assert_eq!(db.version_stages(), ["AWSCURRENT"]);
    assert!(db.created_date().unwrap().secs() > 1_700_000_000);
    let arn = emulator.secret_arn("prod/db").unwrap();
    assert_eq!(db.arn(), Some(arn.as_str()));

    // An ARN finds it with and without its suffix.
    let partial = arn.rsplit_once('-').unwrap().0;
    assert_eq!(arn.len() - partial.len(), 7);
    for id in [arn.as_str(), partial] {
        assert_eq!(client.get_secret_value().secret_id(id).send().await.unwrap().secret_string(), Some("first"), "{id}");
    }
    let other = format!("{partial}-abcdef");
    assert_eq!(error(client.get_secret_value().secret_id(other).send().await).0, "ResourceNotFoundException");

    let batch = client.batch_get_secret_value().secret_id_list("prod/key").secret_id_list("none").secret_id_list(&arn).send().await.unwrap();
    let values: Vec<_> = batch.secret_values().iter().map(|value| (value.name().unwrap(), value.secret_string(), value.arn())).collect();
    assert_eq!(values, [("prod/db", Some("first"), Some(arn.as_str())), ("prod/key", None, Some(emulator.secret_arn("prod/key").unwrap().as_str()))]);
    assert_eq!(batch.secret_values()[1].secret_binary().unwrap().as_ref(), [0, 159, 146, 150]);
    assert_eq!((batch.secret_values()[0].version_id(), batch.secret_values()[0].created_date()), (Some(version.as_str()), db.created_date()));
    assert_eq!(batch.errors().len(), 1);
    assert_eq!((batch.errors()[0].secret_id(), batch.errors()[0].error_code()), (Some("none"), Some("ResourceNotFoundException")));
    assert_eq!(batch.next_token(), None);
}

#[tokio::test]
async fn a_batch_of_secrets_is_refused_as_a_whole_where_aws_does_so() {
    let emulator = Emulator::start().unwrap();
    emulator.put_secrets((0..21).map(|number| (format!("s{number}"), format!("value {number}"))));
    emulator.put_empty_secret("empty").unwrap();
    assert!(emulator.put_empty_secret("empty").is_err());
    let client = emulator.secrets_manager();
    let batch = |ids: Vec<String>| client.batch_get_secret_value().set_secret_id_list(Some(ids)).send();
    let names = |count| (0..count).map(|number| format!("s{number}")).collect::<Vec<_>>();
    assert_eq!(batch(names(20)).await.unwrap().secret_values().len(), 20);
    assert_eq!(error(batch(names(21)).await).0, "ValidationException");
    assert_eq!(error(batch(vec!["s0".to_owned(), "s0".to_owned()]).await).0, "InvalidParameterException");
    assert_eq!(error(batch(vec!["s0".to_owned(), emulator.secret_arn("s0").unwrap()]).await).0, "InvalidParameterException");
    let (code, message, _) = error(batch(vec!["s0".to_owned(), "empty".to_owned()]).await);
    assert_eq!(
        (code.as_str(), message.as_str()),
        ("ResourceNotFoundException", "Secrets Manager can't find the specified secret value for staging label: AWSCURRENT")
    );
    assert_eq!(error(client.get_secret_value().secret_id("empty").send().await).0, "ResourceNotFoundException");
    // Marked for deletion it is one item's trouble.
    emulator.schedule_deletion("empty").unwrap();
    let answer = batch(vec!["s0".to_owned(), "empty".to_owned()]).await.unwrap();
    assert_eq!((answer.secret_values().len(), answer.errors()[0].error_code()), (1, Some("InvalidRequestException")));
    let (code, ..) = error(client.batch_get_secret_value().secret_id_list("s0").next_token("mine").send().await);
    assert_eq!(code, "InvalidNextTokenException");
}

#[tokio::test]
async fn versions_of_a_secret_move_through_their_stages() {
    let emulator = Emulator::start().unwrap();
    let client = emulator.secrets_manager();
    let created = client.create_secret().name("db").secret_string("one").send().await.unwrap();
    let again = client.create_secret().name("db").secret_string("other").send().await;
    assert_eq!(error(again).0, "ResourceExistsException");
    let one = created.version_id().unwrap();
    let put = client.put_secret_value().secret_id("db").secret_string("two").send().await.unwrap();
    let two = put.version_id().unwrap();
    assert_eq!(put.version_stages(), ["AWSCURRENT"]);
    let pending = client.put_secret_value().secret_id("db").secret_string("three").version_stages("AWSPENDING").send().await.unwrap();
    let three = pending.version_id().unwrap();
    let at = async |stage: &str| {
        let read = client.get_secret_value().secret_id("db").version_stage(stage).send().await.unwrap();
        read.secret_string().unwrap().to_owned()
    };
    assert_eq!([at("AWSCURRENT").await, at("AWSPREVIOUS").await, at("AWSPENDING").await], ["two", "one", "three"]);
    assert_eq!(client.get_secret_value().secret_id("db").version_id(one).send().await.unwrap().secret_string(), Some("one"));
    assert_eq!(error(client.get_secret_value().secret_id("db").version_stage("NONE").send().await).0, "ResourceNotFoundException");

    // The same request once more changes nothing, another under its token is refused.
    let same = client.put_secret_value().secret_id("db").client_request_token(two).secret_string("two").send().await.unwrap();
    assert_eq!(same.version_id(), Some(two));
    let clash = client.put_secret_value().secret_id("db").client_request_token(two).secret_string("else").send().await;
    assert_eq!(error(clash).0, "ResourceExistsException");

    // A rotation's last step, and an operator's way back.
    let promote = client.update_secret_version_stage().secret_id("db").version_stage("AWSCURRENT").move_to_version_id(three);
    assert_eq!(error(promote.clone().send().await).0, "InvalidParameterException");
    promote.remove_from_version_id(two).send().await.unwrap();
    assert_eq!([at("AWSCURRENT").await, at("AWSPREVIOUS").await], ["three", "two"]);
    emulator.rollback("db").unwrap();
    assert_eq!([at("AWSCURRENT").await, at("AWSPREVIOUS").await], ["two", "three"]);
    let described = client.describe_secret().secret_id("db").send().await.unwrap();
    let stages = described.version_ids_to_stages().unwrap();
    assert_eq!(stages.len(), 2);
    assert_eq!(
        (stages[two].as_slice(), BTreeSet::from_iter(&stages[three])),
        (["AWSCURRENT".to_owned()].as_slice(), BTreeSet::from_iter(&["AWSPENDING".to_owned(), "AWSPREVIOUS".to_owned()]))
    );
    emulator.put_secret("single", "only");
    assert!(emulator.rollback("single").is_err() && emulator.rollback("none").is_err());
}

#[tokio::test]
async fn a_secret_is_deleted_at_once_or_in_a_while() {
    let emulator = Emulator::start().unwrap();
    let client = emulator.secrets_manager();
    emulator.put_secret("db", "one");
    let (arn, version) = (emulator.secret_arn("db").unwrap(), client.get_secret_value().secret_id("db").send().await.unwrap());
    client.delete_secret().secret_id("db").recovery_window_in_days(7).send().await.unwrap();
    assert_eq!(error(client.get_secret_value().secret_id("db").send().await).0, "InvalidRequestException");
    assert_eq!(error(client.put_secret_value().secret_id("db").secret_string("two").send().await).0, "InvalidRequestException");
    assert_eq!(error(client.create_secret().name("db").secret_string("two").send().await).0, "InvalidRequestException");
    let described = client.describe_secret().secret_id("db").send().await.unwrap();
    let days = (described.deleted_date().unwrap().secs() - described.created_date().unwrap().secs()) / 86400;
    assert_eq!((days, described.arn()), (7, Some(arn.as_str())));
    emulator.put_secret("db", "two");
    assert_eq!(client.get_secret_value().secret_id("db").send().await.unwrap().secret_string(), Some("two"));
    assert_eq!(error(client.delete_secret().secret_id("db").recovery_window_in_days(6).send().await).0, "InvalidParameterException");

    client.delete_secret().secret_id("db").force_delete_without_recovery(true).send().await.unwrap();
    assert_eq!(error(client.describe_secret().secret_id("db").send().await).0, "ResourceNotFoundException");
    assert!(emulator.delete_secret("db").is_err() && emulator.schedule_deletion("db").is_err() && emulator.secret_arn("db").is_err());
    // Made again it is another secret, whatever its value is.
    emulator.put_secret("db", "one");
    let again = client.get_secret_value().secret_id("db").send().await.unwrap();
    assert_ne!(again.arn(), Some(arn.as_str()));
    assert_ne!(again.version_id(), version.version_id());
    assert!(again.created_date() > version.created_date());
    assert_eq!(error(client.get_secret_value().secret_id(arn).send().await).0, "ResourceNotFoundException");
    emulator.delete_secret("db").unwrap();
    assert_eq!(error(client.get_secret_value().secret_id("db").send().await).0, "ResourceNotFoundException");
}

#[tokio::test]
async fn secrets_are_listed_in_pages() {
    let emulator = Emulator::start().unwrap();
    emulator.put_secrets(["a/1", "a/2", "a/3", "b/1"].map(|name| (name.to_owned(), "value".to_owned())));
    emulator.schedule_deletion("a/2").unwrap();
    let client = emulator.secrets_manager();
    let by_name = Filter::builder().key(FilterNameStringType::Name).values("a/").build();
    let mut pages = client.list_secrets().filters(by_name).max_results(1).into_paginator().send();
    let mut names = Vec::new();
    while let Some(page) = pages.next().await {
        names.extend(page.unwrap().secret_list().iter().map(|secret| secret.name().unwrap().to_owned()));
    }
    assert_eq!(names, ["a/1", "a/3"]);
    assert_eq!(emulator.count(|call| call.action == "ListSecrets"), 2);
    assert_eq!(client.list_secrets().include_planned_deletion(true).send().await.unwrap().secret_list().len(), 4);
}

#[tokio::test]
async fn parameters_are_read_by_name_arn_version_and_label() {
    let emulator = Emulator::start().unwrap();
    let client = emulator.ssm();
    assert_eq!([emulator.put_parameter("/prod/token", "one"), emulator.put_parameter("/prod/token", "two")], [1, 2]);
    emulator.label_parameter("/prod/token", 1, "stable").unwrap();
    assert!(emulator.label_parameter("/prod/token", 3, "stable").is_err());
    let read = async |name: &str| client.get_parameter().name(name).with_decryption(true).send().await;
    let two = read("/prod/token").await.unwrap().parameter.unwrap();
    assert_eq!((two.name(), two.value(), two.version(), two.r#type()), (Some("/prod/token"), Some("two"), 2, Some(&ParameterType::SecureString)));
    assert!(two.last_modified_date().unwrap().secs() > 1_700_000_000);
    let arn = two.arn().unwrap();
    assert_eq!(arn, "arn:aws:ssm:eu-west-1:123456789012:parameter/prod/token");
    for (name, value, selector) in
        [(arn.to_owned(), "two", None), (format!("{arn}:1"), "one", Some(":1")), ("/prod/token:stable".to_owned(), "one", Some(":stable"))]
    {
        let found = read(&name).await.unwrap().parameter.unwrap();
        assert_eq!((found.name(), found.value(), found.selector()), (Some("/prod/token"), Some(value), selector), "{name}");
    }
    let plain = client.get_parameter().name("/prod/token").send().await.unwrap();
    assert_ne!(plain.parameter().unwrap().value(), Some("two"));
    for (name, code) in [("/none", "ParameterNotFound"), ("/prod/token:9", "ParameterVersionNotFound"), ("/prod/token:none", "ParameterVersionNotFound")] {
        assert_eq!(error(read(name).await).0, code, "{name}");
    }

    // Deleted and put again it starts anew, at another time.
    emulator.delete_parameter("/prod/token").unwrap();
    assert!(emulator.delete_parameter("/prod/token").is_err());
    assert_eq!(emulator.put_parameter("/prod/token", "one"), 1);
    let again = read("/prod/token").await.unwrap().parameter.unwrap();
    assert_eq!((again.version(), again.arn()), (1, Some(arn)));
    assert!(again.last_modified_date() > two.last_modified_date());
    client.delete_parameter().name("/prod/token").send().await.unwrap();
    assert_eq!(error(client.delete_parameter().name("/prod/token").send().await).0, "ParameterNotFound");
}

#[tokio::test]
async fn parameters_are_put_and_read_in_batches() {
    let emulator = Emulator::start().unwrap();
    let client = emulator.ssm();
    let put = client.put_parameter().name("list").value("a,b").r#type(ParameterType::StringList);
    assert_eq!(put.clone().send().await.unwrap().version(), 1);
    assert_eq!(error(put.clone().send().await).0, "ParameterAlreadyExists");
    assert_eq!(put.overwrite(true).send().await.unwrap().version(), 2);
    assert_eq!(error(client.put_parameter().name("untyped").value("a").send().await).0, "ValidationException");
    emulator.put_parameters((0..10).map(|number| (format!("/p/{number}"), format!("value {number}"))));
    let batch = |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        client.get_parameters().set_names(Some(names)).with_decryption(true).send()
    };
    let answer = batch(&["list", "/p/3", "/none", "/p/1:1", "/p/2:7"]).await.unwrap();
    let found: Vec<_> = answer.parameters().iter().map(|parameter| (parameter.name().unwrap(), parameter.value().unwrap(), parameter.selector())).collect();
    assert_eq!(found, [("/p/1", "value 1", Some(":1")), ("/p/3", "value 3", None), ("list", "a,b", None)]);
    assert_eq!(BTreeSet::from_iter(answer.invalid_parameters()), BTreeSet::from_iter(&["/none".to_owned(), "/p/2:7".to_owned()]));
    let ten: Vec<_> = (0..10).map(|number| format!("/p/{number}")).collect();
    let mut names: Vec<&str> = ten.iter().map(String::as_str).collect();
    assert_eq!(batch(&names).await.unwrap().parameters().len(), 10);
    names.push("list");
    assert_eq!(error(batch(&names).await).0, "ValidationException");
    assert_eq!(error(batch(&["/p/1", "/p/1"]).await).0, "ValidationException");
    assert_eq!(error(batch(&["/p/1", "arn:aws:ssm:eu-west-1:123456789012:parameter/p/1"]).await).0, "ValidationException");
}

#[tokio::test]
async fn the_identity_is_known_and_unknown_actions_are_refused() {
    let emulator = Emulator::start().unwrap();
    let identity = testbed::aws::sts(&emulator.url()).get_caller_identity().send().await.unwrap();
    assert_eq!((identity.account(), identity.arn()), (Some("123456789012"), Some("arn:aws:iam::123456789012:user/testbed")));
    let unknown = testbed::aws::sts(&emulator.url()).get_session_token().send().await;
    assert_eq!(error(unknown).0, "UnknownOperationException");
    let unknown = emulator.secrets_manager().get_random_password().send().await;
    assert_eq!(error(unknown).0, "UnknownOperationException");
    let unknown = emulator.ssm().get_parameter_history().name("/p").send().await;
    assert_eq!(error(unknown).0, "UnknownOperationException");
}

#[tokio::test]
async fn calls_are_counted_listed_and_forgotten() {
    let emulator = Emulator::start().unwrap();
    emulator.put_secret("db", "one");
    assert_eq!((emulator.connections(), emulator.calls().len(), emulator.most_in_flight()), (0, 0, 0));
    let client = emulator.secrets_manager();
    for _ in 0..3 {
        client.get_secret_value().secret_id("db").send().await.unwrap();
    }
    assert_eq!((emulator.connections(), emulator.most_in_flight()), (1, 1));
    let call = emulator.calls().pop().unwrap();
    assert_eq!((call.service, call.action.as_str(), call.access_key_id.as_str()), ("secretsmanager", "GetSecretValue", testbed::aws::ACCESS_KEY_ID));
    assert_eq!((call.ids, call.status), (vec!["db".to_owned()], Some(200)));

    // Four at once, held until all are there; what arrived before a forgetting must not be mixed up with what comes after.
    let hold = emulator.hold();
    let reads: Vec<_> = (0..4).map(|_| tokio::spawn(client.get_secret_value().secret_id("none").send())).collect();
    crate::wait_until("four calls are in flight", || emulator.most_in_flight() == 4).await;
    emulator.forget_calls();
    assert_eq!((emulator.calls().len(), emulator.totals().len(), emulator.most_in_flight()), (0, 0, 4));
    emulator.list_calls(false);
    emulator.remove_fault(hold);
    for read in reads {
        assert_eq!(error(read.await.unwrap()).0, "ResourceNotFoundException");
    }
    client.get_secret_value().secret_id("db").send().await.unwrap();
    assert_eq!(emulator.calls().len(), 0);
    assert_eq!((emulator.totals()["GetSecretValue"].calls, emulator.totals()["GetSecretValue"].refused), (1, 4));
    emulator.list_calls(true);
    client.get_secret_value().secret_id("db").send().await.unwrap();
    assert_eq!(emulator.count(|call| call.status == Some(200)), 1);
    let url = emulator.url();
    drop(emulator);
    assert!(testbed::aws::secrets_manager(&url).get_secret_value().secret_id("db").send().await.is_err());
}

#[tokio::test]
async fn credentials_are_given_as_an_ecs_container_gets_them() {
    let emulator = Emulator::start().unwrap();
    let port = emulator.url().rsplit(':').next().unwrap().parse().unwrap();
    let ask = async || tokio::task::spawn_blocking(move || testbed::http::get(port, "/credentials")).await.unwrap().unwrap();
    emulator.credentials_live(Duration::from_secs(900));
    let before = std::time::SystemTime::now();
    let mut keys = BTreeSet::new();
    for asked in 1..=2 {
        let (status, body) = ask().await;
        assert_eq!((status, emulator.credentials_asked()), (200, asked));
        let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert!(["AccessKeyId", "SecretAccessKey", "Token"].iter().all(|field| answer[field].is_string()), "{body}");
        let expiration = answer["Expiration"].as_str().unwrap();
        let date = aws_sdk_ssm::primitives::DateTime::from_str(expiration, aws_sdk_ssm::primitives::DateTimeFormat::DateTime).unwrap();
        let life = std::time::SystemTime::try_from(date).unwrap().duration_since(before).unwrap();
        assert!((899..960).contains(&life.as_secs()), "{life:?}");
        keys.insert(answer["AccessKeyId"].as_str().unwrap().to_owned());
    }
    assert_eq!(keys.len(), 2);
    assert_eq!(emulator.count(|call| call.service == "credentials"), 2);
    emulator.fail(500);
    assert_eq!((ask().await.0, emulator.credentials_asked()), (500, 3));
}

#[tokio::test]
async fn a_role_is_assumed_tells_who_it_is_and_runs_out() {
    let emulator = Emulator::start().unwrap();
    emulator.put_secret("db", "one");
    emulator.roles_live(Duration::from_secs(2));
    let role = "arn:aws:iam::210987654321:role/reader";
    let sts = testbed::aws::sts(&emulator.url());
    let given = sts.assume_role().role_arn(role).role_session_name("me").external_id("x").send().await.unwrap().credentials.unwrap();
    let credentials = aws_sdk_ssm::config::Credentials::new(given.access_key_id, given.secret_access_key, Some(given.session_token), None, "test");
    let own = aws_sdk_sts::Client::from_conf(sts.config().to_builder().credentials_provider(credentials.clone()).build());
    let caller = own.get_caller_identity().send().await.unwrap();
    assert_eq!((caller.account.as_deref(), caller.arn.as_deref()), (Some("210987654321"), Some("arn:aws:sts::210987654321:assumed-role/reader/me")));
    let secrets = emulator.secrets_manager();
    let secrets = aws_sdk_secretsmanager::Client::from_conf(secrets.config().to_builder().credentials_provider(credentials).build());
    assert!(secrets.get_secret_value().secret_id("db").send().await.is_ok());
    let call = emulator.calls().into_iter().find(|call| call.action == "AssumeRole").unwrap();
    assert_eq!((call.ids, call.parameters["ExternalId"].as_str()), (vec![role.to_owned()], "x"));
    // Of a token only what it claims is kept: with the rest of it, whoever sees a record of calls could use it.
    let web = sts.assume_role_with_web_identity().role_arn(role).role_session_name("me").web_identity_token("e30.eyJzdWIiOiJ4In0.signature");
    web.send().await.unwrap();
    let calls = emulator.calls();
    assert_eq!(calls.last().unwrap().parameters["WebIdentityToken"], r#"{"sub":"x"}"#);
    assert!(!format!("{calls:?}").contains("signature") && !format!("{calls:?}").contains("eyJ"));
    let began = std::time::Instant::now();
    let code = loop {
        match secrets.get_secret_value().secret_id("db").send().await {
            Ok(_) => assert!(began.elapsed() < Duration::from_secs(10), "it does not run out"),
            Err(error) => break error.into_service_error().meta().code().unwrap_or_default().to_owned(),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(code, "ExpiredTokenException");
    assert!(sts.assume_role().role_arn("reader").role_session_name("me").send().await.is_err(), "no ARN of a role");
    assert!(sts.assume_role_with_saml().role_arn(role).principal_arn("x").saml_assertion("abcd").send().await.is_err(), "what it can't do is refused");
}

/// Not a check: the container of `a_client_signs_with_the_credentials_that_it_is_given`, whose environment can't be this process's.
#[tokio::test]
#[ignore = "run by a_client_signs_with_the_credentials_that_it_is_given"]
async fn container() {
    let http = aws_smithy_http_client::Builder::new().build_http();
    let settings = aws_config::provider_config::ProviderConfig::default().with_http_client(http.clone());
    let credentials = aws_config::ecs::EcsCredentialsProvider::builder().configure(&settings).build();
    let config = aws_sdk_secretsmanager::Config::builder()
        .behavior_version(aws_config::BehaviorVersion::latest())
        .region(aws_config::Region::from_static(testbed::aws::REGION))
        .credentials_provider(credentials)
        .http_client(http)
        .endpoint_url(std::env::var("EMULATOR").unwrap())
        .build();
    let client = aws_sdk_secretsmanager::Client::from_conf(config);
    for _ in 0..2 {
        assert_eq!(client.get_secret_value().secret_id("db").send().await.unwrap().secret_string(), Some("one"));
    }
}

#[tokio::test]
async fn a_client_signs_with_the_credentials_that_it_is_given() {
    let emulator = Emulator::start().unwrap();
    emulator.put_secret("db", "one");
    // Within the 10 s before the end in which the SDK renews: new ones for each call.
    for (life, asked, keys) in [(3600, 1, [1, 1]), (5, 2, [2, 3])] {
        emulator.forget_calls();
        emulator.credentials_live(Duration::from_secs(life));
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "emulator::container"])
            .env("EMULATOR", emulator.url())
            .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/credentials", emulator.url()))
            .env_remove("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let signed: Vec<_> = emulator.calls().into_iter().filter(|call| call.service == "secretsmanager").map(|call| call.access_key_id).collect();
        assert_eq!(signed, keys.map(|number| format!("ASIATESTBED{number:09}")));
        assert_eq!(emulator.credentials_asked(), asked);
    }
}
