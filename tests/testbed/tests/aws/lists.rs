//! What lists and tags answer: the emulator and moto the same, and the emulator what only it can.

use std::collections::BTreeMap;

use aws_sdk_secretsmanager::types::{Filter, FilterNameStringType, Tag};
use aws_sdk_ssm::types::{ParameterStringFilter, ParameterType, ResourceTypeForTagging, Tag as ParameterTag};
use testbed::front::{Answer, Fault};
use testbed::{Emulator, Front, Moto, TempFolder};

use crate::error;

/// The names of all secrets that these filters find.
async fn secrets(sm: &aws_sdk_secretsmanager::Client, filters: &[(FilterNameStringType, &str)]) -> Vec<String> {
    let filters = filters.iter().map(|(key, word)| Filter::builder().key(key.clone()).values(*word).build()).collect();
    let mut pages = sm.list_secrets().set_filters(Some(filters)).max_results(2).into_paginator().send();
    let mut names = Vec::new();
    while let Some(page) = pages.next().await {
        names.extend(page.unwrap().secret_list().iter().map(|secret| secret.name().unwrap().to_owned()));
    }
    names.sort();
    names
}

/// Names and values of all parameters below a path.
async fn by_path(ssm: &aws_sdk_ssm::Client, path: &str, recursive: bool) -> Vec<(String, String)> {
    let mut pages = ssm.get_parameters_by_path().path(path).recursive(recursive).with_decryption(true).into_paginator().send();
    let mut found = Vec::new();
    while let Some(page) = pages.next().await {
        found.extend(page.unwrap().parameters().iter().map(|parameter| (parameter.name().unwrap().to_owned(), parameter.value().unwrap().to_owned())));
    }
    found.sort();
    found
}

/// The names of all parameters that these filters find.
async fn described(ssm: &aws_sdk_ssm::Client, filters: &[(&str, &str, &str)]) -> Vec<String> {
    let filter = |(key, option, word): &(&str, &str, &str)| ParameterStringFilter::builder().key(*key).option(*option).values(*word).build().unwrap();
    let filters: Vec<_> = filters.iter().map(filter).collect();
    let mut pages = ssm.describe_parameters().set_parameter_filters(Some(filters)).into_paginator().send();
    let mut names = Vec::new();
    while let Some(page) = pages.next().await {
        names.extend(page.unwrap().parameters().iter().map(|parameter| parameter.name().unwrap().to_owned()));
    }
    names.sort();
    names
}

/// All that is compared, as text, of what `make` made.
async fn all_of(sm: &aws_sdk_secretsmanager::Client, ssm: &aws_sdk_ssm::Client) -> Vec<String> {
    use FilterNameStringType::{Name, TagKey, TagValue};
    let mut told = Vec::new();
    for filters in [
        &[][..],
        &[(Name, "a/")],
        &[(Name, "a/"), (TagKey, "env")],
        &[(TagKey, "e")],
        &[(TagValue, "pro")],
        &[(TagKey, "env"), (TagValue, "x")],
        &[(Name, "z")],
    ] {
        told.push(format!("{filters:?}: {:?}", secrets(sm, filters).await));
    }
    for name in ["a/1", "a/2", "a/gone"] {
        let described = sm.describe_secret().secret_id(name).send().await.unwrap();
        let tags: BTreeMap<_, _> = described.tags().iter().map(|tag| (tag.key().unwrap(), tag.value().unwrap())).collect();
        told.push(format!("{name} {tags:?} {}", described.deleted_date().is_some()));
    }
    for (path, recursive) in [("/p", true), ("/p", false), ("/p/", true), ("/p/1", true), ("/none", true)] {
        told.push(format!("{path} {recursive}: {:?}", by_path(ssm, path, recursive).await));
    }
    for filters in [
        &[][..],
        &[("Path", "Recursive", "/p")],
        &[("Path", "OneLevel", "/p")],
        &[("tag:env", "Equals", "prod")],
        &[("tag:env", "Equals", "prod"), ("Path", "Recursive", "/p")],
        &[("tag:env", "Equals", "prod"), ("tag:team", "Equals", "x")],
        &[("tag:env", "Equals", "pro")],
    ] {
        told.push(format!("{filters:?}: {:?}", described(ssm, filters).await));
    }
    for name in ["/p/1", "/p/2"] {
        let tags = ssm.list_tags_for_resource().resource_type(ResourceTypeForTagging::Parameter).resource_id(name).send().await.unwrap();
        told.push(format!("{name} {:?}", tags.tag_list().iter().map(|tag| (tag.key(), tag.value())).collect::<BTreeMap<_, _>>()));
    }
    for gone in [sm.get_secret_value().secret_id("a/gone").send().await, sm.get_secret_value().secret_id("none").send().await] {
        told.push(error(gone).0);
    }
    told.push(error(sm.describe_secret().secret_id("none").send().await).1);
    told.push(error(ssm.get_parameter().name("/none").send().await).0);
    told.push(error(ssm.list_tags_for_resource().resource_type(ResourceTypeForTagging::Parameter).resource_id("/none").send().await).0);
    told
}

async fn make(sm: &aws_sdk_secretsmanager::Client, ssm: &aws_sdk_ssm::Client) {
    let tags = |tags: &[(&str, &str)]| tags.iter().map(|(key, value)| Tag::builder().key(*key).value(*value).build()).collect::<Vec<_>>();
    for (name, of) in
        [("a/1", &[("env", "prod")][..]), ("a/2", &[]), ("a/gone", &[("env", "prod")]), ("ab", &[("envy", "x")]), ("b/1", &[("env", "x"), ("team", "y")])]
    {
        sm.create_secret().name(name).secret_string("value").set_tags(Some(tags(of))).send().await.unwrap();
    }
    sm.delete_secret().secret_id("a/gone").recovery_window_in_days(7).send().await.unwrap();
    let tags = |tags: &[(&str, &str)]| tags.iter().map(|(key, value)| ParameterTag::builder().key(*key).value(*value).build().unwrap()).collect::<Vec<_>>();
    let numbered: Vec<String> = (10..25).map(|number| format!("/q/{number}")).collect();
    for (name, of) in [
        ("/p", &[][..]),
        ("/p/1", &[("env", "prod")]),
        ("/p/2", &[]),
        ("/p/1/x", &[("env", "prod"), ("team", "x")]),
        ("/pq/1", &[("env", "prod")]),
        ("root", &[]),
    ]
    .into_iter()
    .chain(numbered.iter().map(|name| (name.as_str(), &[][..])))
    {
        let put = ssm.put_parameter().name(name).value(format!("of {name}")).r#type(ParameterType::SecureString);
        put.set_tags(Some(tags(of)).filter(|tags| !tags.is_empty())).send().await.unwrap();
    }
}

#[tokio::test]
async fn the_emulator_and_moto_agree_on_lists_and_tags() {
    let dir = TempFolder::new("test").unwrap();
    let moto = Moto::start(dir.path()).unwrap();
    let (front, emulator) = (Front::start(moto.url()).unwrap(), Emulator::start().unwrap());
    make(&moto.secrets_manager(), &moto.ssm()).await;
    make(&emulator.secrets_manager(), &emulator.ssm()).await;
    let expected = all_of(&emulator.secrets_manager(), &emulator.ssm()).await;
    assert!(expected.iter().any(|line| line.contains("(Name, \"a/\"), (TagKey, \"env\")]: [\"a/1\"]")), "{expected:#?}");
    for (number, (line, moto)) in expected.iter().zip(all_of(&front.secrets_manager(), &front.ssm()).await).enumerate() {
        assert_eq!(*line, moto, "line {number}: the emulator and moto");
    }
    // Whatever its pages are like, a list is the same; and one that is stale has a member less.
    for (pages, sm, ssm) in [(&front, front.secrets_manager(), front.ssm()), (&*emulator, emulator.secrets_manager(), emulator.ssm())] {
        let fault = pages.always(Answer::Pages { size: 3, empty_between: true });
        assert_eq!(all_of(&sm, &ssm).await, expected);
        pages.forget_calls();
        assert_eq!(by_path(&ssm, "/q", true).await.len(), 15);
        assert_eq!(pages.count(|call| call.action == "GetParametersByPath" && call.ids == ["/q"]), 9, "five pages and four empty ones");
        pages.remove_fault(fault);
        let fault = pages.leave_out("/q/12");
        assert_eq!((by_path(&ssm, "/q", true).await.len(), described(&ssm, &[("Path", "Recursive", "/q")]).await.len()), (14, 14));
        pages.remove_fault(fault);
        pages.leave_out("ab");
        assert_eq!(secrets(&sm, &[]).await, ["a/1", "a/2", "b/1"]);
    }
}

#[tokio::test]
async fn lists_are_refused_throttled_and_denied() {
    let emulator = Emulator::start().unwrap();
    let (sm, ssm) = (emulator.secrets_manager(), emulator.ssm());
    emulator.put_secret("Ab", "value");
    emulator.put_parameter("/p/a", "value");
    // A name is found in any case.
    assert_eq!(secrets(&sm, &[(FilterNameStringType::Name, "aB")]).await, ["Ab"]);
    assert!(emulator.tag_secret("none", &[]).is_err() && emulator.tag_parameter("none", &[]).is_err());
    emulator.tag_secret("Ab", &[("k", "1")]).unwrap();
    emulator.tag_parameter("/p/a", &[("k", "1")]).unwrap();
    assert_eq!(secrets(&sm, &[(FilterNameStringType::TagKey, "k")]).await, ["Ab"]);
    assert_eq!(described(&ssm, &[("tag:k", "Equals", "1")]).await, ["/p/a"]);
    emulator.tag_secret("Ab", &[]).unwrap();
    assert_eq!(secrets(&sm, &[(FilterNameStringType::TagKey, "k")]).await, Vec::<String>::new());

    let negated = Filter::builder().key(FilterNameStringType::Name).values("!a").build();
    assert_eq!(error(sm.list_secrets().filters(negated).send().await).0, "InvalidParameterException");
    assert_eq!(error(sm.list_secrets().max_results(101).send().await).0, "ValidationException");
    assert_eq!(error(ssm.get_parameters_by_path().path("p").send().await).0, "ValidationException");
    assert_eq!(error(ssm.get_parameters_by_path().path("/p").max_results(11).send().await).0, "ValidationException");
    assert_ne!(ssm.get_parameters_by_path().path("/p").send().await.unwrap().parameters()[0].value(), Some("value"), "not decrypted");

    emulator.add_fault(
        Fault::new(|call| call.action == "ListSecrets", Answer::Error { status: 400, code: "ThrottlingException".into(), message: "Rate exceeded".into() })
            .times(1),
    );
    assert_eq!(error(sm.list_secrets().send().await).0, "ThrottlingException");
    sm.list_secrets().send().await.unwrap();
    emulator.deny_action("secretsmanager", "ListSecrets");
    emulator.deny("/p");
    assert_eq!(error(sm.list_secrets().send().await).0, "AccessDeniedException");
    assert_eq!(error(ssm.get_parameters_by_path().path("/p").send().await).0, "AccessDeniedException");
    // What was put a moment ago is not seen yet.
    emulator.clear_faults();
    emulator.put_parameter("/p/b", "value");
    emulator.stale_reads(1);
    assert_eq!([by_path(&ssm, "/p", true).await.len(), by_path(&ssm, "/p", true).await.len()], [0, 2]);
}
