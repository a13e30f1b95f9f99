//! A Roboto platform by its own SDK and by `Secrets`, and Envase Vault by `Secrets` as its documentation has its client, which can't be had.

use robotosecret::{
    Secrets,
    secrets::{self, Attributes, EnvaseLogin, Error, Recovery},
    sensitive::Sensitive,
};
use serde_json::{Value, json};
use testbed::{Emulator, Envase, Roboto};

use super::{Comparison, Dice, SERVE, Theirs, class, done, read};

const NAMES: [&str; 4] = ["one", "two", "dir/three", "none"];

/// A name of one of the two.
fn name(whose: &str, name: &str) -> String {
    format!("{whose}/{name}")
}

struct Both {
    emulator: Emulator,
    roboto: Roboto,
    theirs: Theirs,
    ours: Secrets,
    comparison: Comparison,
}

impl Both {
    async fn new() -> Self {
        let emulator = Emulator::start().unwrap();
        let roboto = Roboto::start(&emulator, 2).unwrap();
        roboto.key("robo_key", &["org_1"]);
        let script = format!("{SERVE}\n{}", include_str!("roboto.py"));
        let environment = [("ROBOTO_API_KEY", "robo_key"), ("ROBOTO_SERVICE_ENDPOINT", &roboto.url()), ("AWS_ENDPOINT_URL_SECRETS_MANAGER", &emulator.url())];
        let theirs = Theirs::start(&testbed::moto::python().unwrap(), &script, &[], &environment);
        let of = secrets::Roboto {
            api_key: Sensitive::from("robo_key".to_owned()),
            endpoint: Some(roboto.url()),
            org: Some("org_1".to_owned()),
            secrets_manager_endpoint: Some(emulator.url()),
        };
        let ours = Secrets::builder().roboto(of).no_cache().build().await.unwrap();
        Self { emulator, roboto, theirs, ours, comparison: Comparison::new("The Roboto SDK") }
    }

    async fn answers(&mut self, step: &Value) -> [Value; 2] {
        let (what, of) = (step[0].as_str().unwrap(), step[1].as_str().unwrap_or_default());
        let mut asked = step.as_array().unwrap().clone();
        if asked.len() > 1 {
            asked[1] = json!(name("theirs", of));
        }
        let theirs = self.theirs.ask(Value::Array(asked));
        let reference = format!("roboto-secret://{}", name("ours", of));
        let value = Sensitive::from(step[2].as_str().unwrap_or_default().to_owned());
        let ours = match what {
            "create" => done(self.ours.create(&reference, &value, &Attributes::default()).await),
            "read" => read(self.ours.get_fresh(&reference).await),
            "update" => done(self.ours.update(&reference, &value).await),
            "delete" => done(self.ours.delete(&reference, Recovery::default()).await),
            "names" => self
                .ours
                .find(robotosecret::api::reference::Store::Roboto, None, Some("."), std::collections::BTreeMap::new())
                .await
                .map_or_else(|error| json!(class(&error)), |all| all.iter().filter_map(|one| one.strip_prefix("roboto-secret://ours/")).collect()),
            other => panic!("{other}"),
        };
        // The SDK lists in the order in which they were made.
        let theirs = match theirs {
            Value::Array(all) if what == "names" => {
                let mut all: Vec<&str> = all.iter().filter_map(|one| one.as_str()?.strip_prefix("theirs/")).collect();
                all.sort_unstable();
                json!(all)
            }
            other => other,
        };
        [theirs, ours]
    }

    async fn meets(&mut self, difference: Option<&'static str>, step: Value) {
        let [theirs, ours] = self.answers(&step).await;
        self.comparison.meets(&step, &theirs, &ours, difference);
    }

    /// Both read by a URI, the same.
    async fn uri(&mut self, difference: Option<&'static str>, uri: &str) {
        let step = json!(["read_uri", uri]);
        let (theirs, ours) = (self.theirs.ask(step.clone()), read(self.ours.get_fresh(uri).await));
        self.comparison.meets(&step, &theirs, &ours, difference);
    }
}

#[tokio::test]
async fn the_roboto_sdk_and_the_library_answer_and_leave_behind_the_same_but_for_what_is_listed() {
    let mut both = Both::new().await;
    let (after, characters) = (Some("what stands after the organisation"), Some("characters of a name"));
    // R08 to R11.
    both.roboto.put("org_1", "key", "of key");
    for (uri, difference) in [
        ("roboto-secret://key@org_1", None),
        ("roboto-secret://key", None),
        ("roboto-secret://key@org_1/trailing", after),
        ("roboto-secret://key@org_1-2", after),
        ("roboto-secret://key@", after),
        ("roboto-secret://@org_1", None),
        ("roboto-secret://none@org_1", None),
        ("roboto-secret://bad name", None),
        ("roboto-secret://ключ", None),
        ("https://x/key", None),
    ] {
        both.uri(difference, uri).await;
    }
    both.uri(characters, "roboto-secret://key#trailing").await;
    // R05 to R07, and what isn't kept.
    both.roboto.put("org_1", "theirs/json", r#"{"k":1}"#);
    both.roboto.put("org_1", "ours/json", r#"{"k":1}"#);
    both.meets(None, json!(["read", "json"])).await;
    both.roboto.put_binary("org_1", "theirs/binary", &[0, 255]);
    both.roboto.put_binary("org_1", "ours/binary", &[0, 255]);
    both.meets(Some("a binary value"), json!(["read", "binary"])).await;
    both.meets(None, json!(["create", "empty", ""])).await;
    both.meets(Some("an empty value"), json!(["create", "empty", "x"])).await;
    both.meets(None, json!(["update", "empty", ""])).await;

    let mut dice = Dice::new();
    for _ in 0..220 {
        let of = dice.pick(&NAMES);
        let value = dice.pick(&["x", "pä$$\n\"日本\"", r#"{"k":340282366920938463463374607431768211456}"#, " x ", "null"]);
        let step = match dice.below(12) {
            0..=3 => json!(["read", of]),
            4 => json!(["names"]),
            _ if of == "none" => json!([dice.pick(&["update", "delete"]), of, value]),
            5..=7 => json!(["create", of, value]),
            8 | 9 => json!(["update", of, value]),
            _ => json!(["delete", of]),
        };
        let step = if step[0] == "delete" { json!(["delete", of]) } else { step };
        let [theirs, ours] = both.answers(&step).await;
        both.comparison.note(&step, &theirs, &ours, || None);
    }
    // What is there in the end, by each of the two clients of the other's.
    for of in NAMES {
        let theirs = read(both.ours.get_fresh(&format!("roboto-secret://{}", name("theirs", of))).await);
        let ours = both.theirs.ask(json!(["read", name("ours", of)]));
        assert_eq!(theirs, ours, "{of}");
    }
    assert!(both.emulator.count(|call| call.action == "PutSecretValue") > 20);
    both.comparison.end(&[("value", 25), ("ok", 20), ("NotFound", 20), ("AlreadyExists", 5), ("Refused", 5)]);
}

#[tokio::test]
async fn envases_secrets_are_made_read_changed_and_deleted_as_its_client_is_documented() {
    let envase = Envase::start().unwrap();
    envase.token("token");
    let of = |environment: Option<&str>, base_url: Option<String>| secrets::Envase {
        environment: environment.map(str::to_owned),
        base_url,
        login: EnvaseLogin::Token(Sensitive::from("token".to_owned())),
        api_key: None,
    };
    // V03: in whatever case; what is no environment is refused before any call.
    for environment in ["DEV", "Sandbox", "prod"] {
        assert!(Secrets::builder().envase(of(Some(environment), None)).build().await.is_ok(), "{environment}");
    }
    let refused = Secrets::builder().envase(of(Some("nowhere"), None)).build().await;
    assert!(matches!(refused, Err(Error::InvalidRequest(_))), "{:?}", refused.err());

    let ours = Secrets::builder().envase(of(None, Some(envase.base_url()))).no_cache().build().await.unwrap();
    let described = Attributes { description: Some("d".to_owned()), ..Attributes::default() };
    let json = |text: &str| Sensitive::from(text.to_owned());
    for (reference, organization, collection) in [("envase://k", "", "/vault/secrets"), ("envase://k@org-1", "org-1", "/vault/organizations/org-1/secrets")] {
        let before = envase.asked().len();
        // V01.
        assert_eq!(done(ours.create(reference, &json(r#"{"u":"x"}"#), &described).await), "ok");
        assert_eq!(envase.secret(organization, "k").unwrap(), json!({"key": "k", "secret": {"u": "x"}, "description": "d"}));
        assert_eq!(done(ours.create(reference, &json("{}"), &described).await), "AlreadyExists");
        assert_eq!(read(ours.get_fresh(reference).await), json!(["text", r#"{"u":"x"}"#]));
        assert_eq!(read(ours.get_fresh(&format!("{reference}#/u")).await), json!(["text", "x"]));
        assert_eq!(done(ours.update(reference, &json(r#"{"u":"y"}"#)).await), "ok");
        assert_eq!(read(ours.get_fresh(&format!("{reference}#/u")).await), json!(["text", "y"]));
        assert_eq!(done(ours.delete(reference, Recovery::default()).await), "ok");
        assert_eq!(done(ours.delete(reference, Recovery::default()).await), "NotFound", "deleted twice: False there");
        // V02.
        assert_eq!(read(ours.get_fresh(reference).await), "NotFound");
        assert_eq!(done(ours.update(reference, &json("{}")).await), "NotFound");
        let asked: Vec<(String, String, u16)> =
            envase.asked().into_iter().skip(before).map(|asked| (asked.method, asked.path.replacen(collection, "", 1), asked.status)).collect();
        let expected = [("POST", "", 201), ("POST", "", 409), ("GET", "/k", 200), ("GET", "/k", 200)];
        // Before it is put as a whole it is asked for its description.
        let updates = |status| [("GET", "/k", status), ("PUT", "/k", status)];
        let expected = expected.into_iter().chain(updates(200)).chain([("GET", "/k", 200)]);
        let expected = expected.chain([("DELETE", "/k", 204), ("DELETE", "/k", 404), ("GET", "/k", 404)]).chain(updates(404));
        assert_eq!(asked, expected.map(|(method, path, status)| (method.to_owned(), path.to_owned(), status)).collect::<Vec<_>>());
    }
    // What else is documented of it and isn't so here.
    assert_eq!(done(ours.list("envase://x", true).await), "Refused");
    assert_eq!(done(ours.restore("envase://k").await), "NotSupported");
    for (status, expected) in [(400, "Refused"), (403, "AccessDenied")] {
        envase.fail(1, status, &json!({"m": 1}));
        let error = ours.create("envase://k", &json("{}"), &Attributes::default()).await.unwrap_err();
        assert_eq!(class(&error), expected, "{error}");
        assert!(error.to_string().contains(&status.to_string()), "{error}");
    }
}
