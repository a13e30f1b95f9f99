//! Parameter Store: made once, changed by exactly its name without losing anything else, and what is said where it can't compare.

use robotosecret::provider::{
    WriteError,
    writing::{Attributes, Described, ParameterKind, ParameterTier, Recovery},
};
use testbed::front::{Answer, Fault};

use super::{binary, count, make, moto, ours, read, source, text, told};
use crate::support::{SECONDS, says, until};

fn attributes() -> Attributes {
    Attributes {
        description: Some("what it is".to_owned()),
        tags: [("team".to_owned(), "shop".to_owned())].into(),
        kms_key: Some("alias/shop".to_owned()),
        kind: None,
        tier: Some(ParameterTier::Advanced),
    }
}

#[tokio::test]
async fn a_parameter_is_made_once_with_all_that_was_asked_for() {
    let (_front, ours) = ours().await;
    let it = source("aws.ps:///made/a");
    let long = "x".repeat(8192);
    let written = ours.create(&it, &text(&long), &attributes()).await.unwrap();
    let (value, version) = read(&ours, "aws.ps:///made/a").await;
    assert_eq!((value, version.arn, version.id.as_str()), (format!("text {long}"), written.arn.clone(), "1"));
    assert_eq!((written.arn.as_str(), written.version.as_str()), ("arn:aws:ssm:eu-west-1:123456789012:parameter/made/a", "1"));
    let described = ours.describe(&it).await.unwrap();
    assert!(described.changed.is_some());
    let Attributes { description, tags, kms_key, tier, .. } = attributes();
    let expected = Described {
        arn: Some(written.arn),
        version: Some("1".to_owned()),
        changed: described.changed.clone(),
        description,
        tags: Some(tags),
        kms_key,
        kind: Some(ParameterKind::SecureString),
        tier,
        ..Described::default()
    };
    assert_eq!(described, expected);
    assert_eq!(told(ours.create(&it, &text("other"), &Attributes::default()).await), "AlreadyExists");
    assert_eq!(read(&ours, "aws.ps:///made/a").await.1.id, "1");
    for kind in ParameterKind::ALL {
        let uri = format!("aws.ps:///made/{}", kind.as_str());
        ours.create(&source(&uri), &text("a,b"), &Attributes { kind: Some(kind), ..Attributes::default() }).await.unwrap();
        assert_eq!((read(&ours, &uri).await.0.as_str(), ours.describe(&source(&uri)).await.unwrap().kind), ("text a,b", Some(kind)));
    }
    // At the root it has the same ARN, with and without a slash in its name.
    assert_eq!(make(&ours, "aws.ps://made-at-the-root", &text("x")).await.arn, "arn:aws:ssm:eu-west-1:123456789012:parameter/made-at-the-root");
}

#[tokio::test]
async fn another_value_keeps_all_else_and_never_goes_to_a_longer_name() {
    let (front, ours) = ours().await;
    let ssm = moto().ssm();
    ours.create(&source("aws.ps:///kept/a"), &text("one"), &attributes()).await.unwrap();
    let plain = ssm.put_parameter().name("/kept/plain").value("1").r#type("String".into()).allowed_pattern("^\\d+$").data_type("text");
    plain.description("a number").send().await.unwrap();
    let all = async |name: &str| {
        let filter = aws_sdk_ssm::types::ParameterStringFilter::builder().key("Name").option("Equals").values(name).build().unwrap();
        let mut found = ssm.describe_parameters().parameter_filters(filter).send().await.unwrap().parameters.unwrap().remove(0);
        (found.last_modified_date, found.version) = (None, 0);
        (found, ours.describe(&source(&format!("aws.ps://{name}"))).await.unwrap().tags)
    };
    for (name, value) in [("/kept/a", "zwö"), ("/kept/plain", "2")] {
        let (uri, before) = (format!("aws.ps://{name}"), all(name).await);
        let written = ours.update(&source(&uri), &text(value), None).await.unwrap();
        let (now, version) = read(&ours, &uri).await;
        assert_eq!((now, version.id.as_str(), version.arn), (format!("text {value}"), "2", written.arn));
        assert_eq!(all(name).await, before);
    }
    // Its tier is kept, and so is how much it holds.
    assert_eq!(told(ours.update(&source("aws.ps:///kept/a"), &text(&"x".repeat(8192)), None).await), "ok");
    says(&ours.update(&source("aws.ps:///kept/plain"), &text(&"1".repeat(4097)), None).await.unwrap_err().to_string(), "longer than the 4096 bytes");
    assert_eq!(told(ours.update(&source("aws.ps:///kept/a"), &binary(b"x"), None).await), "Refused");

    // Only the name itself, wherever in the list it is.
    make(&ours, "aws.ps:///kept/prefixed", &text("theirs")).await;
    for uri in ["aws.ps:///kept/pre", "aws.ps:///kept", "aws.ps:///KEPT/a", "aws.ps:///none"] {
        assert_eq!(told(ours.update(&source(uri), &text("x"), None).await), "NotFound", "{uri}");
        assert_eq!(told(ours.delete(&source(uri), Recovery::default()).await), "NotFound", "{uri}");
        assert_eq!(told(ours.describe(&source(uri)).await), "NotFound", "{uri}");
    }
    assert_eq!(read(&ours, "aws.ps:///kept/prefixed").await.1.id, "1");
    let more = front.add_fault(Fault::new(|call| call.action == "DescribeParameters", page(&["/kept/plain-too"], "0")).times(1));
    let empty = front.add_fault(Fault::new(|call| call.action == "DescribeParameters", page(&[], "0")).times(2));
    front.forget_calls();
    assert_eq!(told(ours.update(&source("aws.ps:///kept/plain"), &text("3"), None).await), "ok");
    assert_eq!(count(&front, "DescribeParameters"), 4, "three pages that don't have it");
    front.remove_fault(more);
    front.remove_fault(empty);
    front.add_fault(Fault::new(|call| call.action == "DescribeParameters", page(&[], "0")));
    assert_eq!(told(ours.update(&source("aws.ps:///kept/plain"), &text("4"), None).await), "ProviderUnavailable", "a list without end");
}

/// A page of names with a token to another.
fn page(names: &[&str], token: &str) -> Answer {
    let parameters: Vec<_> = names.iter().map(|name| serde_json::json!({"Name": name, "Type": "String", "Version": 1, "Tier": "Standard"})).collect();
    Answer::Body { status: 200, body: serde_json::json!({"Parameters": parameters, "NextToken": token}).to_string() }
}

#[tokio::test]
async fn a_base_is_compared_before_and_whoever_slips_in_between_is_told_of() {
    let (front, ours) = ours().await;
    let (uri, it) = ("aws.ps:///compared", source("aws.ps:///compared"));
    make(&ours, uri, &text("one")).await;
    let one = read(&ours, uri).await.1;
    assert_eq!(ours.update(&it, &text("two"), Some(&one)).await.unwrap().version, "2");
    front.forget_calls();
    assert_eq!(told(ours.update(&it, &text("three"), Some(&one)).await), "Conflict");
    assert_eq!((count(&front, "PutParameter"), read(&ours, uri).await.0.as_str()), (0, "text two"));

    let two = read(&ours, uri).await.1;
    front.add_fault(Fault::new(|call| call.action == "PutParameter", Answer::Hold).times(1));
    let theirs = async {
        until("our call waits", SECONDS, async || (count(&front, "PutParameter") == 1).then_some(())).await;
        moto().ssm().put_parameter().name("/compared").value("theirs").overwrite(true).send().await.unwrap();
        front.clear_faults();
    };
    let (answer, ()) = futures::future::join(ours.update(&it, &text("ours"), Some(&two)), theirs).await;
    let error = answer.unwrap_err();
    assert!(matches!(error, WriteError::Overtaken { base: 2, written: 4 }), "{error}");
    says(&error.to_string(), "written as version 4, over what somebody else wrote after version 2");
    assert_eq!((read(&ours, uri).await.0, read(&ours, "aws.ps:///compared?version=3").await.0), ("text ours".to_owned(), "text theirs".to_owned()));
    // Without a base, the last one counts.
    assert_eq!(ours.update(&it, &text("last"), None).await.unwrap().version, "5");
}

#[tokio::test]
async fn a_parameter_is_deleted_at_once_and_is_known_by_its_arn() {
    let (front, ours) = ours().await;
    for name in ["/deleted/a", "/deleted-root", "deleted-plain-root"] {
        let uri = format!("aws.ps://{name}");
        let arn = make(&ours, &uri, &text("x")).await.arn;
        let written = ours.update(&source(&arn), &text("by ARN"), None).await.unwrap();
        assert_eq!((written.arn, read(&ours, &uri).await.0.as_str()), (arn.clone(), "text by ARN"));
        assert_eq!(ours.describe(&source(&arn)).await.unwrap().arn.as_deref(), Some(arn.as_str()));
        assert_eq!(ours.delete(&source(&arn), Recovery::default()).await.unwrap(), None);
        assert_eq!(told(ours.delete(&source(&uri), Recovery::Force).await), "NotFound");
        assert_eq!(told(ours.delete(&source(&arn), Recovery::Force).await), "NotFound");
    }
    assert_eq!(told(ours.restore(&source("aws.ps:///deleted/a")).await), "NotSupported");
    // Where rules let another account's be read, they still can't be written.
    let other = source("arn:aws:ssm:eu-west-1:210987654321:parameter/deleted/a");
    assert_eq!(told(ours.update(&other, &text("x"), None).await), "NotAllowed");
    ours.reach(["210987654321".to_owned()].into());
    front.forget_calls();
    says(&ours.update(&other, &text("x"), None).await.unwrap_err().to_string(), "Refused: the parameter belongs to another account");
    assert_eq!(told(ours.delete(&other, Recovery::Force).await), "Refused");
    assert!(front.calls().is_empty());
}

#[tokio::test]
async fn a_denial_names_what_to_grant_and_tags_are_no_reason_to_tell_nothing() {
    let (front, ours) = ours().await;
    let it = source("aws.ps:///denied");
    make(&ours, "aws.ps:///denied", &text("x")).await;
    for (action, on) in [("PutParameter", "it"), ("DescribeParameters", "*"), ("DeleteParameter", "it")] {
        let fault = front.deny_action("ssm", action);
        let answer =
            if action == "DeleteParameter" { ours.delete(&it, Recovery::Force).await.map(drop) } else { ours.update(&it, &text("y"), None).await.map(drop) };
        says(&answer.unwrap_err().to_string(), &format!("AccessDenied: the identity may not do this; grant it ssm:{action} on {on} ("));
        front.remove_fault(fault);
    }
    let fault = front.deny_action("ssm", "ListTagsForResource");
    let described = ours.describe(&it).await.unwrap();
    assert_eq!((described.tags, described.kind), (None, Some(ParameterKind::SecureString)));
    front.remove_fault(fault);
    assert_eq!(read(&ours, "aws.ps:///denied").await.0, "text x");
}
