//! What is asked besides values: listings, tags and presence, on the wire.

use std::collections::BTreeMap;

use super::*;

pub(super) fn source(uri: &str) -> Source {
    uri.parse::<Reference>().unwrap().source
}

pub(super) fn list(store: Store, path: Option<&str>, recursive: bool, tags: &[(&str, &str)]) -> Question {
    let tags = tags.iter().map(|(tag, value)| ((*tag).to_owned(), (*value).to_owned())).collect();
    Question::List(Listing { store, path: path.map(str::to_owned), recursive, tags })
}

fn presence(uri: &str) -> Question {
    let arn = if uri.starts_with("aws.ps") { parameter_arn("/p/a") } else { secret_arn("a") };
    Question::Presence { source: source(uri), arn }
}

pub(super) async fn ask(provider: &AwsProvider, question: &Question) -> Result<Reading, ReadError> {
    provider.read_one(question, &calls()).await
}

/// The references that a listing found, each with its value where it has one.
pub(super) fn found(reading: &Reading) -> Vec<String> {
    let Value::List(found) = &reading.value else { panic!("no listing") };
    found.iter().map(|found| format!("{}{}", found.source, found.reading.as_ref().map_or(String::new(), |reading| format!(" {}", text(reading))))).collect()
}

/// A wire and the answer to a question.
async fn asked(answers: impl IntoIterator<Item = Answer>, question: &Question) -> (Wire, Result<Reading, ReadError>) {
    let wire = Wire::new(answers).await;
    let answer = ask(&wire.provider().await, question).await;
    (wire, answer)
}

fn bodies(wire: &Wire) -> Vec<Json> {
    wire.calls.lock().unwrap().iter().map(|(_, body)| body.clone()).collect()
}

fn tagged(name: &str, tags: &[(&str, &str)]) -> Json {
    let tags: Vec<Json> = tags.iter().map(|(tag, value)| json!({"Key": tag, "Value": value})).collect();
    json!({"ARN": secret_arn(name), "Name": name, "Tags": tags})
}

fn account() -> Answer {
    Answer("GetCallerIdentity", 200, ACCOUNT.to_owned())
}

#[tokio::test]
async fn secrets_are_found_over_all_pages_and_checked_to_the_letter() {
    let marked = json!({"ARN": secret_arn("prod/gone"), "Name": "prod/gone", "DeletedDate": 1_523_477_145.713});
    let answers = || {
        [
            ok("ListSecrets", &json!({"SecretList": [{"Name": "prod/b"}, {"Name": "Prod/upper"}, marked], "NextToken": "t1"})),
            ok("ListSecrets", &json!({"SecretList": [], "NextToken": "t2"})),
            ok("ListSecrets", &json!({"SecretList": [{"Name": "prod/a/deep"}, {"Name": "prod/b"}, {"Name": "prod/a"}], "NextToken": ""})),
        ]
    };
    let (wire, answer) = asked(answers(), &list(Store::SecretsManager, Some("prod/"), true, &[])).await;
    let reading = answer.unwrap();
    assert_eq!(found(&reading), ["aws.sm://prod/a", "aws.sm://prod/a/deep", "aws.sm://prod/b"]);
    assert_eq!((reading.version.arn.as_str(), reading.version.id.len(), &reading.version.created, &reading.denotes), ("", 32, &None, &Vec::new()));
    let filters = json!([{"Key": "name", "Values": ["prod/"]}]);
    let page = |token: &str| json!({"IncludePlannedDeletion": false, "MaxResults": 100, "Filters": filters, "NextToken": token});
    assert_eq!(bodies(&wire), [json!({"IncludePlannedDeletion": false, "MaxResults": 100, "Filters": filters}), page("t1"), page("t2")]);
    let (_, answer) = asked(answers(), &list(Store::SecretsManager, Some("prod/"), false, &[])).await;
    assert_eq!(found(&answer.unwrap()), ["aws.sm://prod/a", "aws.sm://prod/b"]);
    let (_, none) = asked([ok("ListSecrets", &json!({}))], &list(Store::SecretsManager, Some("prod/"), true, &[])).await;
    assert_eq!(found(&none.unwrap()), Vec::<String>::new());
}

#[tokio::test]
async fn tags_are_asked_for_as_far_as_that_only_narrows() {
    let secrets = [
        tagged("both", &[("env", "prod"), ("foo", "bar")]),
        tagged("other", &[("foo2", "barbaz"), ("env", "prod")]),
        tagged("crossed", &[("foo", "prod"), ("env", "bar")]),
        tagged("one", &[("foo", "bar")]),
        json!({"Name": "untagged"}),
    ];
    let answer = ok("ListSecrets", &json!({"SecretList": secrets}));
    let (wire, answer) = asked([answer], &list(Store::SecretsManager, None, true, &[("foo", "bar"), ("env", "prod")])).await;
    assert_eq!(found(&answer.unwrap()), ["aws.sm://both"]);
    assert_eq!(bodies(&wire)[0]["Filters"], json!([{"Key": "tag-key", "Values": ["env"]}]));
    // With an exclamation mark the store would find all others; some characters it does not take at all.
    for (path, tag) in [("!a", "!t"), ("ä", "naïve,tag")] {
        let answer = ok("ListSecrets", &json!({"SecretList": [tagged(path, &[(tag, "v")]), tagged("b", &[])]}));
        let (wire, answer) = asked([answer], &list(Store::SecretsManager, Some(path), true, &[(tag, "v")])).await;
        assert_eq!((found(&answer.unwrap()), &bodies(&wire)[0]["Filters"]), (vec![format!("aws.sm://{path}")], &json!([])));
    }
}

#[tokio::test]
async fn parameters_below_a_path_come_with_their_values_as_single_reads_have_them() {
    let answers = [
        ok("GetParametersByPath", &json!({"Parameters": [parameter("/p/b", "two"), parameter("/pq/x", CANARY)], "NextToken": "t1"})),
        ok("GetParametersByPath", &json!({"Parameters": [], "NextToken": "t2"})),
        ok("GetParametersByPath", &json!({"Parameters": [parameter("/p/a/deep", "three"), parameter("/p/a", "one"), parameter("/p", CANARY)]})),
        ok("GetParameter", &json!({"Parameter": parameter("/p/a", "one")})),
    ];
    let wire = Wire::new(answers).await;
    let provider = wire.provider().await;
    let reading = ask(&provider, &list(Store::ParameterStore, Some("/p/"), true, &[])).await.unwrap();
    assert_eq!(found(&reading), ["aws.ps:///p/a one", "aws.ps:///p/a/deep three", "aws.ps:///p/b two"]);
    let page = |token: &str| json!({"Path": "/p", "Recursive": true, "WithDecryption": true, "MaxResults": 10, "NextToken": token});
    assert_eq!(bodies(&wire)[1..], [page("t1"), page("t2")]);
    let alone = ask(&provider, &Question::Value(source("aws.ps:///p/a"))).await.unwrap();
    let Value::List(members) = &reading.value else { panic!("no listing") };
    let member = members[0].reading.as_ref().unwrap();
    assert_eq!((text(member), &member.version, &member.denotes), (text(&alone), &alone.version, &alone.denotes));
    assert!(provider.metrics.render(None).contains(r#"provider_calls_total{store="aws.ps",api="GetParametersByPath",outcome="ok"} 3"#));
    let (wire, answer) = asked([ok("GetParametersByPath", &json!({"Parameters": []}))], &list(Store::ParameterStore, Some("/"), false, &[])).await;
    assert_eq!(found(&answer.unwrap()), Vec::<String>::new());
    assert_eq!(bodies(&wire), [json!({"Path": "/", "Recursive": false, "WithDecryption": true, "MaxResults": 10})]);
}

#[tokio::test]
async fn parameters_are_found_by_tag_or_anywhere_by_name_alone() {
    let answer = ok("DescribeParameters", &json!({"Parameters": [{"Name": "/p/b/c"}, {"Name": "/p/a"}, {"Name": "/pq/x"}]}));
    let (wire, answer) = asked([answer], &list(Store::ParameterStore, Some("/p"), false, &[("foo", "bar"), ("env", "prod")])).await;
    assert_eq!(found(&answer.unwrap()), ["aws.ps:///p/a"]);
    let tag = |tag: &str, value: &str| json!({"Key": format!("tag:{tag}"), "Option": "Equals", "Values": [value]});
    let filters = json!([{"Key": "Path", "Option": "OneLevel", "Values": ["/p"]}, tag("env", "prod"), tag("foo", "bar")]);
    assert_eq!(bodies(&wire), [json!({"ParameterFilters": filters, "MaxResults": 50})]);
    let answer = ok("DescribeParameters", &json!({"Parameters": [{"Name": "/p/b/c"}, {"Name": "root"}]}));
    let (wire, answer) = asked([answer], &list(Store::ParameterStore, None, true, &[])).await;
    assert_eq!(
        (found(&answer.unwrap()), bodies(&wire)),
        (vec!["aws.ps:///p/b/c".into(), "aws.ps://root".into()], vec![json!({"ParameterFilters": [], "MaxResults": 50})])
    );
    for (question, problem) in [
        (list(Store::ParameterStore, Some("p/a"), true, &[]), "aws.ps://p/a/**: a path in Parameter Store starts with a slash, such as /prod/app"),
        (
            list(Store::ParameterStore, None, true, &[("t", "")]),
            "aws.ps://** with the tags t=: Parameter Store cannot be searched for a tag with an empty value",
        ),
    ] {
        let (wire, answer) = asked([], &question).await;
        let error = answer.unwrap_err();
        assert_eq!((error.reason, error.message.as_str(), wire.actions().len()), (Reason::InvalidSpec, problem, 0));
    }
}

#[tokio::test]
async fn a_part_of_a_listing_never_passes_for_the_whole() {
    let (sm, ps) = (list(Store::SecretsManager, Some("a"), true, &[]), list(Store::ParameterStore, Some("/p"), true, &[]));
    let first = || ok("ListSecrets", &json!({"SecretList": [{"Name": "a"}], "NextToken": "again"}));
    let many: Vec<Json> = (0..10_001).map(|number| json!({"Name": format!("a{number}")})).collect();
    let denied = "User: u is not authorized to perform";
    for (question, answers, reason, message) in [
        (&sm, vec![first()], Reason::ProviderUnavailable, "aws.sm://a**: the store's answer could not be understood"),
        (
            &sm,
            vec![first(), Answer("ListSecrets", 500, "{}".into())],
            Reason::ProviderUnavailable,
            "aws.sm://a**: the store failed with HTTP 500 (unknown error)",
        ),
        (
            &sm,
            vec![ok("ListSecrets", &json!({"SecretList": [{"Name": "a"}, {"ARN": secret_arn("b")}]}))],
            Reason::ProviderUnavailable,
            "aws.sm://a**: the store's answer was incomplete",
        ),
        (
            &sm,
            vec![ok("ListSecrets", &json!({"SecretList": many}))],
            Reason::TargetRejected,
            "aws.sm://a**: it has more than 10000 names; narrow it by path, or remove some",
        ),
        (
            &sm,
            vec![fails("ListSecrets", 400, "AccessDeniedException", &format!("{denied}: secretsmanager:ListSecrets because no policy allows it"))],
            Reason::AccessDenied,
            "aws.sm://a**: the identity may not read this; grant it secretsmanager:ListSecrets on * (AccessDeniedException)",
        ),
        (
            &ps,
            vec![fails("GetParametersByPath", 400, "AccessDeniedException", &format!("{denied}: ssm:GetParametersByPath on resource: r"))],
            Reason::AccessDenied,
            "aws.ps:///p/**: the identity may not read this; grant it ssm:GetParametersByPath on the path and on all below it (AccessDeniedException)",
        ),
        (
            &ps,
            vec![fails("GetParametersByPath", 400, "ValidationException", "no")],
            Reason::SourceNotFound,
            "aws.ps:///p/**: the store refuses to list this; check path and tags",
        ),
        (
            &ps,
            vec![ok("GetParametersByPath", &json!({"Parameters": [parameter("/p/a", "1"), without(parameter("/p/b", CANARY), "Version")]}))],
            Reason::ProviderUnavailable,
            "aws.ps:///p/**: the store's answer was incomplete",
        ),
        (
            &ps,
            vec![Answer("GetParametersByPath", 200, format!("{{\"Parameters\": [{{\"Value\": \"{CANARY}\"}}, {CANARY}]}}"))],
            Reason::ProviderUnavailable,
            "aws.ps:///p/**: the store's answer could not be understood",
        ),
        (
            &list(Store::ParameterStore, None, true, &[]),
            vec![fails("DescribeParameters", 400, "AccessDeniedException", &format!("{denied}: ssm:DescribeParameters"))],
            Reason::AccessDenied,
            "aws.ps://**: the identity may not read this; grant it ssm:DescribeParameters on * (AccessDeniedException)",
        ),
    ] {
        let (_, answer) = asked(answers, question).await;
        let error = answer.unwrap_err();
        assert_eq!((error.reason, error.message.as_str(), error.absent), (reason, message, false));
        assert!(!format!("{error:?}").contains(CANARY), "{error:?}");
    }
}

#[tokio::test]
async fn a_throttled_page_is_asked_for_again_and_a_hanging_one_given_up() {
    let question = list(Store::SecretsManager, Some("a"), true, &[]);
    let throttle = || fails("ListSecrets", 400, "ThrottlingException", "Rate exceeded");
    let recovering = async {
        let first = ok("ListSecrets", &json!({"SecretList": [{"Name": "a"}], "NextToken": "t"}));
        let (wire, answer) = asked([first, throttle(), throttle(), ok("ListSecrets", &json!({"SecretList": [{"Name": "ab"}]}))], &question).await;
        assert_eq!(found(&answer.unwrap()), ["aws.sm://a", "aws.sm://ab"]);
        let tokens: Vec<Json> = bodies(&wire).iter().map(|body| body["NextToken"].clone()).collect();
        assert_eq!(tokens, [Json::Null, json!("t"), json!("t"), json!("t")]);
    };
    let lasting = async {
        let (wire, answer) = asked([throttle()], &question).await;
        assert_eq!((answer.unwrap_err().reason, wire.actions().len()), (Reason::Throttled, 4));
    };
    let hanging = async {
        let wire = Wire::new([Answer("ListSecrets", 0, String::new())]).await;
        let (provider, calls) = (wire.provider().await, calls());
        let error = provider.read_one(&question, &calls).await.unwrap_err();
        assert_eq!((error.message.as_str(), calls.hung()), ("aws.sm://a**: the store did not answer within 5 s", true));
    };
    tokio::join!(recovering, lasting, hanging);
}

#[tokio::test]
async fn tags_are_read_as_a_json_object() {
    let described = |tags: &[(&str, &str)]| ok("DescribeSecret", &tagged("a", tags));
    let parameter_tags = |tags: &Json| ok("ListTagsForResource", &json!({"TagList": tags}));
    let wire = Wire::new([
        described(&[("b", "2"), ("a", "q\"uote")]),
        described(&[("a", "q\"uote"), ("b", "2")]),
        described(&[]),
        parameter_tags(&json!([{"Key": "b", "Value": "2"}, {"Key": "a", "Value": "q\"uote"}])),
        parameter_tags(&json!([])),
        account(),
    ])
    .await;
    let provider = wire.provider().await;
    let of = async |uri: &str| ask(&provider, &Question::Tags(source(uri))).await.unwrap();
    let (one, same, none) = (of("aws.sm://a").await, of("aws.sm://a").await, of("aws.sm://a").await);
    assert_eq!([&one, &same, &none].map(text), [r#"{"a":"q\"uote","b":"2"}"#, r#"{"a":"q\"uote","b":"2"}"#, "{}"]);
    assert_eq!((one.version.arn.as_str(), &one.version.created, one.denotes.as_slice()), (secret_arn("a").as_str(), &None, &["aws.sm://a".to_owned()][..]));
    assert!(one.version == same.version && one.version != none.version);
    let parameter = of("aws.ps:///p/a").await;
    assert_eq!(
        (text(&parameter).as_str(), parameter.version.arn.as_str(), parameter.denotes),
        (r#"{"a":"q\"uote","b":"2"}"#, "", vec!["aws.ps:///p/a".to_owned()])
    );
    let by_arn = of(&parameter_arn("/p/a")).await;
    assert_eq!((text(&by_arn).as_str(), by_arn.version.arn.as_str()), ("{}", parameter_arn("/p/a").as_str()));
    let asked = json!({"ResourceType": "Parameter", "ResourceId": "/p/a"});
    assert_eq!(bodies(&wire).iter().filter(|body| **body == asked).count(), 2);
}

#[tokio::test]
async fn tags_of_what_is_not_there_are_not_there_either() {
    for (uri, answer, reason, end) in [
        (
            "aws.sm://a",
            fails("DescribeSecret", 400, "ResourceNotFoundException", "Secrets Manager can't find the specified secret."),
            Reason::SourceNotFound,
            "(ResourceNotFoundException)",
        ),
        (
            "aws.sm://a",
            ok("DescribeSecret", &json!({"ARN": secret_arn("a"), "Name": "a", "DeletedDate": 1.0})),
            Reason::SourceNotFound,
            "restore it or refer to another",
        ),
        (
            "aws.sm://a",
            fails("DescribeSecret", 400, "AccessDeniedException", "no"),
            Reason::AccessDenied,
            "grant it secretsmanager:DescribeSecret on it (AccessDeniedException)",
        ),
        ("aws.sm://a", ok("DescribeSecret", &json!({"Name": "a"})), Reason::ProviderUnavailable, "the store's answer was incomplete"),
        ("aws.ps:///a", fails("ListTagsForResource", 400, "InvalidResourceId", ""), Reason::SourceNotFound, "(InvalidResourceId)"),
        (
            "aws.ps:///a",
            fails("ListTagsForResource", 400, "AccessDeniedException", "no"),
            Reason::AccessDenied,
            "grant it ssm:ListTagsForResource on it (AccessDeniedException)",
        ),
    ] {
        let (_, answer) = asked([answer], &Question::Tags(source(uri))).await;
        let error = answer.unwrap_err();
        assert_eq!((error.reason, error.absent), (reason, false), "{error:?}");
        assert!(error.message.starts_with(&format!("tags of {uri}: ")) && error.message.ends_with(end), "{error:?}");
    }
    let (wire, answer) = asked([], &Question::Tags(source("aws.ps:///aws/reference/secretsmanager/a"))).await;
    assert_eq!((answer.unwrap_err().reason, wire.actions().len()), (Reason::InternalError, 0));
}

#[tokio::test]
async fn only_the_stores_own_word_makes_something_absent() {
    const MARKED: &str = "You can't perform this operation on the secret because it was marked for deletion.";
    let get = |code: &str, message: &str| fails("GetSecretValue", 400, code, message);
    let gone = || get("ResourceNotFoundException", "Secrets Manager can't find the specified secret.");
    let marked = || get("InvalidRequestException", MARKED);
    let described = |deleted: bool| {
        let mut described = tagged("a", &[]);
        if deleted {
            described["DeletedDate"] = json!(1_523_477_145.713);
        }
        ok("DescribeSecret", &described)
    };
    let (secret, parameter) = (presence("aws.sm://a?version-stage=X"), presence("aws.ps:///p/a?version=3"));
    for (question, answers, reason, absent) in [
        (&secret, vec![gone()], Reason::SourceNotFound, true),
        (
            &secret,
            vec![get("ResourceNotFoundException", "Secrets Manager can't find the specified secret value for staging label: AWSCURRENT")],
            Reason::SourceNotFound,
            false,
        ),
        (
            &secret,
            vec![get("ResourceNotFoundException", "Secrets Manager can't find the specified secret value for VersionId: 1")],
            Reason::SourceNotFound,
            false,
        ),
        (&secret, vec![get("ResourceNotFoundException", "Nothing here")], Reason::SourceNotFound, false),
        (&secret, vec![get("ResourceNotFoundException", "")], Reason::SourceNotFound, false),
        (&secret, vec![marked(), described(true)], Reason::SourceNotFound, true),
        (&secret, vec![marked(), described(false)], Reason::SourceNotFound, false),
        (
            &secret,
            vec![marked(), fails("DescribeSecret", 400, "ResourceNotFoundException", "Secrets Manager can't find the specified secret.")],
            Reason::SourceNotFound,
            true,
        ),
        (&secret, vec![marked(), fails("DescribeSecret", 400, "AccessDeniedException", "no")], Reason::AccessDenied, false),
        (&secret, vec![marked(), Answer("DescribeSecret", 500, "{}".into())], Reason::ProviderUnavailable, false),
        (
            &secret,
            vec![get("InvalidRequestException", "You provided a VersionStage that is not associated to the provided VersionId.")],
            Reason::SourceNotFound,
            false,
        ),
        (&secret, vec![get("AccessDeniedException", "Secrets Manager can't find the specified secret.")], Reason::AccessDenied, false),
        (&secret, vec![get("ThrottlingException", "Rate exceeded")], Reason::Throttled, false),
        (&secret, vec![Answer("GetSecretValue", 503, "Secrets Manager can't find the specified secret.".into())], Reason::ProviderUnavailable, false),
        (&secret, vec![ok("GetSecretValue", &without(super::secret("a", ""), "SecretString"))], Reason::SourceNotFound, false),
        (&parameter, vec![fails("GetParameter", 400, "ParameterNotFound", "")], Reason::SourceNotFound, true),
        (&parameter, vec![fails("GetParameter", 400, "ParameterVersionNotFound", "")], Reason::SourceNotFound, false),
        (&parameter, vec![fails("GetParameter", 400, "ValidationException", "")], Reason::SourceNotFound, false),
        (&parameter, vec![fails("GetParameter", 400, "AccessDeniedException", "ParameterNotFound")], Reason::AccessDenied, false),
    ] {
        let (wire, answer) = asked(answers.into_iter().chain([account()]), question).await;
        let error = answer.unwrap_err();
        assert_eq!((error.reason, error.absent), (reason, absent), "{error:?} after {:?}", wire.actions());
        assert!(error.message.starts_with(&format!("{question}: ")), "{error:?}");
    }
    // The current version is asked for.
    let answers = || [account(), ok("GetSecretValue", &super::secret("a", "one")), ok("GetParameter", &json!({"Parameter": super::parameter("/p/a", "two")}))];
    for (question, value, body) in [(&secret, "one", json!({"SecretId": "a"})), (&parameter, "two", json!({"Name": "/p/a", "WithDecryption": true}))] {
        let (wire, answer) = asked(answers(), question).await;
        assert_eq!((text(&answer.unwrap()).as_str(), &bodies(&wire)[1]), (value, &body));
    }
}

#[tokio::test]
async fn what_was_mirrored_from_elsewhere_is_never_gone() {
    let gone = || fails("GetSecretValue", 400, "ResourceNotFoundException", "Secrets Manager can't find the specified secret.");
    let of = |arn: String| Question::Presence { source: source("aws.sm://a"), arn };
    let elsewhere = |what: &str| {
        format!(
            "aws.sm://a: the provider now reads another {what} than the one where this was mirrored from; that it is not found there does not count as gone"
        )
    };
    for (arn, what, calls) in [
        (secret_arn("a").replace("eu-west-1", "eu-west-2"), "region", 0),
        (secret_arn("a").replace("123456789012", "210987654321"), "account", 1),
        (String::new(), "region", 0),
    ] {
        let (wire, answer) = asked([account(), gone()], &of(arn)).await;
        let error = answer.unwrap_err();
        assert_eq!((error.reason, error.absent, error.message), (Reason::SourceNotFound, false, elsewhere(what)));
        assert_eq!(wire.actions().len(), calls);
    }
    // Whoever can't tell the account can't tell either.
    let refusal = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>";
    let (_, answer) = asked([Answer("GetCallerIdentity", 403, refusal.to_owned()), gone()], &of(secret_arn("a"))).await;
    let error = answer.unwrap_err();
    assert_eq!((error.reason, error.absent), (Reason::AccessDenied, false), "{error:?}");
}

#[tokio::test]
async fn each_question_has_its_family_and_goes_alone() {
    let wire = Wire::new([]).await;
    let provider = wire.provider().await;
    let ceilings: BTreeMap<Family, f64> = provider.ceilings().into_iter().collect();
    for (question, family, ceiling) in [
        (Question::Tags(source("aws.sm://a")), DESCRIBE_SECRET, 500.0),
        (Question::Tags(source("aws.ps:///a")), SSM_TAGS, 5.0),
        (presence("aws.sm://a"), GET_SECRET_VALUE, 500.0),
        (presence("aws.ps:///a"), SSM_READS, 35.0),
        (list(Store::SecretsManager, Some("a"), true, &[]), LIST_SECRETS, 50.0),
        (list(Store::ParameterStore, Some("/a"), true, &[]), SSM_READS, 35.0),
        (list(Store::ParameterStore, Some("/a"), true, &[("t", "v")]), DESCRIBE_PARAMETERS, 3.0),
        (list(Store::ParameterStore, None, true, &[]), DESCRIBE_PARAMETERS, 3.0),
    ] {
        let route = provider.route(&question);
        assert_eq!((route.single, route.lot, route.aliases.len(), ceilings.get(&family)), (family, None, 0, Some(&ceiling)), "{question}");
    }
}
