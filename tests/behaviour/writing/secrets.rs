//! Secrets Manager: made once, changed without losing anything else, compared and set under somebody else's hands, deleted and had back.

use std::{collections::BTreeMap, sync::Arc};

use aws_sdk_secretsmanager::Client;
use futures::future::join_all;
use robotosecret::provider::{
    ServedVersion, WriteError,
    aws::AwsProvider,
    writing::{Attributes, Described, Recovery},
};
use testbed::{
    Emulator, Front,
    front::{Answer, Cut, Fault},
};

use super::{binary, count, make, moto, ours, provider, read, source, text, told};
use crate::support::{SECONDS, says, until};

const PENDING: &str = "ROBOTOSECRET_PENDING";

fn attributes() -> Attributes {
    let tags = [("team", "shop"), ("empty", "")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    Attributes { description: Some("what it is".to_owned()), tags: tags.into(), kms_key: Some("alias/shop".to_owned()), ..Attributes::default() }
}

/// The labels of all versions.
async fn labels(client: &Client, name: &str) -> BTreeMap<String, Vec<String>> {
    let described = client.describe_secret().secret_id(name).send().await.unwrap();
    let mut labels: BTreeMap<String, Vec<String>> = described.version_ids_to_stages.unwrap_or_default().into_iter().collect();
    for labels in labels.values_mut() {
        labels.sort();
    }
    labels
}

/// Whether a private label was left behind.
async fn pends(client: &Client, name: &str) -> bool {
    labels(client, name).await.values().flatten().any(|label| label == PENDING)
}

#[tokio::test]
async fn a_secret_is_made_once_with_all_that_was_asked_for() {
    let (front, ours) = ours().await;
    let written = ours.create(&source("aws.sm://made/a"), &text("pä$$\n\"日本\""), &attributes()).await.unwrap();
    let (value, version) = read(&ours, "aws.sm://made/a").await;
    assert_eq!((value.as_str(), &version.arn, &version.id), ("text pä$$\n\"日本\"", &written.arn, &written.version));
    assert_eq!(written.version.len(), 36, "a token of the client's own");
    let described = ours.describe(&source("aws.sm://made/a")).await.unwrap();
    let Attributes { description, tags, kms_key, .. } = attributes();
    assert!(described.created.is_some() && described.changed.is_some());
    let expected = Described {
        arn: Some(written.arn),
        version: Some(written.version),
        created: described.created.clone(),
        changed: described.changed.clone(),
        description,
        tags: Some(tags),
        kms_key,
        ..Described::default()
    };
    assert_eq!(described, expected);

    assert_eq!(told(ours.create(&source("aws.sm://made/a"), &text("other"), &Attributes::default()).await), "AlreadyExists");
    assert_eq!(read(&ours, "aws.sm://made/a").await.0, "text pä$$\n\"日本\"");
    make(&ours, "aws.sm://made/b", &binary(b"\x00\xff")).await;
    assert_eq!(read(&ours, "aws.sm://made/b").await.0, "binary \\x00\\xff");
    assert_eq!(ours.describe(&source("aws.sm://made/b")).await.unwrap().tags, Some(BTreeMap::new()));

    // What moto doesn't do as AWS does.
    let marked = "You can't create this secret because a secret with this name is already scheduled for deletion.";
    let answer = Answer::Error { status: 400, code: "InvalidRequestException".to_owned(), message: marked.to_owned() };
    front.add_fault(Fault::new(|call| call.action == "CreateSecret", answer));
    says(&ours.create(&source("aws.sm://made/c"), &text("x"), &Attributes::default()).await.unwrap_err().to_string(), "restore it, or wait until it is gone");
}

#[tokio::test]
async fn what_can_not_be_written_makes_no_call() {
    let (front, ours) = ours().await;
    let (sm, ps) = (source("aws.sm://refused"), source("aws.ps:///refused"));
    let arn = source("arn:aws:secretsmanager:eu-west-1:123456789012:secret:refused");
    let none = Attributes::default();
    for (source, value) in [(&sm, text("")), (&sm, binary(&vec![0; 65_537])), (&ps, binary(b"x")), (&ps, text(&"x".repeat(4097))), (&arn, text("x"))] {
        assert_eq!(told(ours.create(source, &value, &none).await), "Refused", "{source}");
    }
    let kind = Attributes { kind: Some(robotosecret::provider::writing::ParameterKind::String), ..Attributes::default() };
    assert_eq!(told(ours.create(&sm, &text("x"), &kind).await), "Refused");
    let id = source("aws.sm://refused?version-id=11111111-2222-3333-4444-555555555555");
    assert_eq!(told(ours.update(&id, &text("x"), None).await), "Refused");
    assert_eq!(told(ours.update(&source("aws.ps:///aws/reference/secretsmanager/x"), &text("x"), None).await), "Refused");
    assert_eq!(told(ours.update(&ps, &text(&"x".repeat(8193)), None).await), "Refused");
    assert_eq!(told(ours.delete(&source("aws.sm://refused?version-stage=A"), Recovery::default()).await), "Refused");
    assert_eq!(told(ours.delete(&sm, Recovery::Within(90)).await), "Refused");
    assert_eq!(told(ours.restore(&ps).await), "NotSupported");
    assert!(front.calls().is_empty(), "{:?}", front.calls());
    // Whose account it is is asked, and nothing else.
    let other = source("arn:aws:secretsmanager:eu-west-1:210987654321:secret:refused-AbCdEf");
    assert_eq!(told(ours.update(&other, &text("x"), None).await), "NotAllowed");
    assert_eq!(told(ours.delete(&other, Recovery::Force).await), "NotAllowed");
    assert!(front.calls().iter().all(|call| call.action == "GetCallerIdentity"), "{:?}", front.calls());
}

#[tokio::test]
async fn another_value_keeps_key_description_tags_and_kind() {
    let (front, ours) = ours().await;
    let kept = async |uri: &str| {
        let Described { description, tags, kms_key, .. } = ours.describe(&source(uri)).await.unwrap();
        (description, tags, kms_key)
    };
    for (uri, first) in [("aws.sm://kept/text", text("one")), ("aws.sm://kept/binary", binary(b"one"))] {
        ours.create(&source(uri), &first, &attributes()).await.unwrap();
        let before = kept(uri).await;
        let kind = uri.rsplit('/').next().unwrap();
        for (value, becomes) in [(text("zwö"), "zwö"), (binary("drü".as_bytes()), "drü")] {
            let written = ours.update(&source(uri), &value, None).await.unwrap();
            let becomes = if kind == "text" { becomes.to_owned() } else { becomes.as_bytes().escape_ascii().to_string() };
            let (value, version) = read(&ours, uri).await;
            assert_eq!((value, version.id, version.arn), (format!("{kind} {becomes}"), written.version, written.arn));
        }
        assert_eq!(kept(uri).await, before);
    }
    let error = ours.update(&source("aws.sm://kept/text"), &binary(b"\xff"), None).await.unwrap_err();
    says(&error.to_string(), "Refused: the secret holds text, and the value is not UTF-8");
    assert_eq!(read(&ours, "aws.sm://kept/text").await.0, "text drü");
    ours.update(&source("aws.sm://kept/binary"), &binary(b"\xff"), None).await.unwrap();
    assert_eq!(read(&ours, "aws.sm://kept/binary").await.0, "binary \\xff");
    // By its ARN as by its name.
    let arn = read(&ours, "aws.sm://kept/text").await.1.arn;
    ours.update(&source(&arn), &text("by ARN"), None).await.unwrap();
    assert_eq!(read(&ours, "aws.sm://kept/text").await.0, "text by ARN");

    // One without a value takes it as it is given.
    for (name, value, becomes) in [("kept/empty1", text("x"), "text x"), ("kept/empty2", binary(b"x"), "binary x")] {
        moto().secrets_manager().create_secret().name(name).send().await.unwrap();
        ours.update(&source(&format!("aws.sm://{name}")), &value, None).await.unwrap();
        assert_eq!(read(&ours, &format!("aws.sm://{name}")).await.0, becomes);
    }
    assert_eq!(told(ours.update(&source("aws.sm://kept/none"), &text("x"), None).await), "NotFound");
    front.forget_calls();
    assert_eq!(told(ours.update(&source("aws.sm://kept/text"), &text("next"), None).await), "ok");
    assert_eq!((count(&front, "GetSecretValue"), count(&front, "PutSecretValue"), front.calls().len()), (1, 1, 2));
}

#[tokio::test]
async fn a_stage_is_written_to_and_the_current_value_stays() {
    let emulator = Emulator::start().unwrap();
    for (url, client) in [(moto().url().to_owned(), moto().secrets_manager()), (emulator.url(), emulator.secrets_manager())] {
        let ours = provider(&url).await;
        make(&ours, "aws.sm://staged", &binary(b"one")).await;
        let staged = "aws.sm://staged?version-stage=NEXT";
        ours.update(&source(staged), &text("two"), None).await.unwrap();
        assert_eq!(read(&ours, "aws.sm://staged").await.0, "binary one");
        let (value, base) = read(&ours, staged).await;
        assert_eq!(value, "binary two", "a new stage holds what the secret holds");
        ours.update(&source(staged), &text("three"), Some(&base)).await.unwrap();
        assert_eq!((read(&ours, staged).await.0, read(&ours, "aws.sm://staged").await.0), ("binary three".to_owned(), "binary one".to_owned()));
        assert_eq!(told(ours.update(&source(staged), &text("four"), Some(&base)).await), "Conflict");
        let answer = told(ours.update(&source("aws.sm://staged?version-stage=NEW"), &text("x"), Some(&base)).await);
        // moto says of a stage that isn't there that there is no secret.
        assert_eq!(answer, if url == moto().url() { "NotFound" } else { "Conflict" }, "there is none to compare");
        assert_eq!(labels(&client, "staged").await.values().filter(|labels| labels.contains(&"NEW".to_owned())).count(), 0);
        assert!(!pends(&client, "staged").await);
    }
}

/// A secret in a store that calls go to through a front.
struct Compared<'a> {
    front: &'a Front,
    ours: AwsProvider,
    base: ServedVersion,
}

impl<'a> Compared<'a> {
    const URI: &'static str = "aws.sm://compared";
    /// moto takes a version for the current one also after that label was moved, unless it is asked by it.
    const CURRENT: &'static str = "aws.sm://compared?version-stage=AWSCURRENT";

    async fn new(front: &'a Front) -> Self {
        let ours = provider(&front.url()).await;
        drop(ours.delete(&source(Self::URI), Recovery::Force).await);
        make(&ours, Self::URI, &text("one")).await;
        let base = read(&ours, Self::URI).await.1;
        front.forget_calls();
        Self { front, ours, base }
    }

    async fn update(&self, value: &str) -> Result<robotosecret::provider::writing::Written, WriteError> {
        self.ours.update(&source(Self::URI), &text(value), Some(&self.base)).await
    }

    async fn value(&self) -> String {
        read(&self.ours, Self::CURRENT).await.0
    }

    fn fault(&self, action: &'static str, answer: Answer) {
        self.front.add_fault(Fault::new(move |call| call.action == action, answer).times(1));
    }

    /// Somebody else, who doesn't come through the front's faults.
    fn theirs(&self) -> Client {
        self.front.secrets_manager()
    }
}

async fn compares_and_sets(front: &Front) {
    // Nobody in between: it is there, and the version before is the previous one.
    let it = Compared::new(front).await;
    let written = it.update("two").await.unwrap();
    assert_eq!((it.value().await.as_str(), read(&it.ours, Compared::CURRENT).await.1.id), ("text two", written.version.clone()));
    let expected = BTreeMap::from([(it.base.id.clone(), vec!["AWSPREVIOUS".to_owned()]), (written.version, vec!["AWSCURRENT".to_owned()])]);
    assert_eq!(labels(&it.theirs(), "compared").await, expected);

    // Somebody before: nothing is written at all.
    let it = Compared::new(front).await;
    it.theirs().put_secret_value().secret_id("compared").secret_string("theirs").send().await.unwrap();
    front.forget_calls();
    assert_eq!(told(it.update("two").await), "Conflict");
    assert_eq!((it.value().await.as_str(), count(front, "PutSecretValue")), ("text theirs", 0));

    // Somebody between the look and the write, and between the write and the move.
    for held in ["PutSecretValue", "UpdateSecretVersionStage"] {
        let it = Compared::new(front).await;
        front.add_fault(Fault::new(move |call| call.action == held, Answer::Hold).times(1));
        let theirs = async {
            until("our call waits", SECONDS, async || (count(front, held) == 1).then_some(())).await;
            it.theirs().put_secret_value().secret_id("compared").secret_string("theirs").send().await.unwrap();
            front.clear_faults();
        };
        let (answer, ()) = futures::future::join(it.update("two"), theirs).await;
        assert_eq!(told(answer), "Conflict", "{held}");
        assert_eq!(it.value().await, "text theirs", "{held}");
        assert!(!pends(&it.theirs(), "compared").await, "{held}");
    }

    // It was moved, and the answer got lost.
    let it = Compared::new(front).await;
    it.fault("UpdateSecretVersionStage", Answer::Cut(Cut::Body));
    assert_eq!(told(it.update("two").await), "ok");
    assert_eq!((it.value().await.as_str(), pends(&it.theirs(), "compared").await), ("text two", false));

    // It wasn't moved: the value stays, and why is told.
    for (answer, expected) in [
        (Answer::Denied { id: "compared".to_owned() }, "AccessDenied"),
        (Answer::Error { status: 500, code: "InternalServiceError".to_owned(), message: "x".to_owned() }, "ProviderUnavailable"),
    ] {
        let it = Compared::new(front).await;
        it.fault("UpdateSecretVersionStage", answer);
        let error = it.update("two").await.unwrap_err();
        if expected == "AccessDenied" {
            says(&error.to_string(), "may not do this; grant it secretsmanager:UpdateSecretVersionStage on it");
        }
        assert_eq!((told::<()>(Err(error)).as_str(), it.value().await.as_str()), (expected, "text one"));
        assert!(!pends(&it.theirs(), "compared").await);
        // The next one is as ever.
        assert_eq!((told(it.update("three").await).as_str(), it.value().await.as_str()), ("ok", "text three"));
    }
}

#[tokio::test]
async fn a_value_takes_the_place_of_the_one_that_it_was_made_from_or_of_none() {
    Box::pin(compares_and_sets(&Emulator::start().unwrap())).await;
    Box::pin(compares_and_sets(&Front::start(moto().url()).unwrap())).await;
}

#[tokio::test]
async fn of_several_at_once_one_is_written_and_none_is_lost() {
    let emulator = Emulator::start().unwrap();
    let it = Arc::new(Compared::new(&emulator).await);
    let answers = join_all((0..6).map(|number| {
        let it = Arc::clone(&it);
        async move { told(it.update(&format!("of {number}")).await) }
    }))
    .await;
    let winner = answers.iter().position(|answer| answer == "ok").expect("one is written");
    assert_eq!((answers.iter().filter(|answer| *answer == "Conflict").count(), it.value().await), (5, format!("text of {winner}")));
    assert!(!pends(&it.theirs(), "compared").await);
}

#[tokio::test]
async fn what_is_deleted_is_had_back_within_its_days_or_gone() {
    let (_front, ours) = ours().await;
    let it = source("aws.sm://deleted");
    make(&ours, "aws.sm://deleted", &text("x")).await;
    let at = ours.delete(&it, Recovery::within(7).unwrap()).await.unwrap().expect("a time");
    let described = ours.describe(&it).await.unwrap();
    assert!(at.ends_with('Z') && described.deletion.is_some() && described.version.is_some(), "{at} {described:?}");
    says(&ours.delete(&it, Recovery::default()).await.unwrap_err().to_string(), "Refused: the secret is scheduled for deletion; restore it");
    assert_eq!(told(ours.update(&it, &text("y"), None).await), "Refused");
    ours.restore(&it).await.unwrap();
    assert_eq!((read(&ours, "aws.sm://deleted").await.0.as_str(), ours.describe(&it).await.unwrap().deletion), ("text x", None));
    ours.delete(&it, Recovery::Force).await.unwrap();
    assert_eq!(told(ours.delete(&it, Recovery::default()).await), "NotFound");
    assert_eq!(told(ours.delete(&it, Recovery::Force).await), "ok", "AWS doesn't tell");
    assert_eq!((told(ours.restore(&it).await), told(ours.describe(&it).await)), ("NotFound".to_owned(), "NotFound".to_owned()));
    make(&ours, "aws.sm://deleted", &text("anew")).await;
}

#[tokio::test]
async fn a_denial_names_what_to_grant() {
    let (front, ours) = ours().await;
    let it = source("aws.sm://denied");
    make(&ours, "aws.sm://denied", &text("x")).await;
    for action in ["CreateSecret", "GetSecretValue", "PutSecretValue", "DeleteSecret", "RestoreSecret", "DescribeSecret"] {
        let fault = front.deny_action("secretsmanager", action);
        let error = match action {
            "CreateSecret" => ours.create(&source("aws.sm://denied/new"), &text("x"), &Attributes::default()).await.map(drop),
            "GetSecretValue" | "PutSecretValue" => ours.update(&it, &text("y"), None).await.map(drop),
            "DeleteSecret" => ours.delete(&it, Recovery::default()).await.map(drop),
            "RestoreSecret" => ours.restore(&it).await,
            _ => ours.describe(&it).await.map(drop),
        };
        let error = error.unwrap_err().to_string();
        says(&error, &format!("AccessDenied: the identity may not do this; grant it secretsmanager:{action} on it"));
        front.remove_fault(fault);
    }
    front.throttle_next(1);
    assert_eq!(told(ours.update(&it, &text("y"), None).await), "Throttled");
    assert_eq!(read(&ours, "aws.sm://denied").await.0, "text x");
}

#[tokio::test]
async fn a_write_whose_connection_breaks_is_said_to_have_been_done_perhaps() {
    let (front, ours) = ours().await;
    for (name, cut) in [("reset", Cut::Reset), ("close", Cut::Close), ("head", Cut::Head)] {
        let it = source(&format!("aws.sm://broken/{name}"));
        let fault = front.cut(cut);
        let error = ours.create(&it, &text("x"), &Attributes::default()).await.unwrap_err().to_string();
        says(&error, "it may have done it: look before you try again");
        assert!(!ours.describe(&it).await.unwrap_err().to_string().contains("may have done it"), "a look changes nothing");
        front.remove_fault(fault);
        assert_eq!(read(&ours, &format!("aws.sm://broken/{name}")).await.0, "text x", "it was done");
    }
    // One that has no connection yet.
    let ours = provider(&front.url()).await;
    front.down().unwrap();
    says(&ours.create(&source("aws.sm://broken/down"), &text("x"), &Attributes::default()).await.unwrap_err().to_string(), "could not be reached");
}
