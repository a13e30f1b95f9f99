//! hvac 2.3 and `Secrets` on Vault's key-value store, both versions, and on Edge's secrets, whose methods hvac stands in for as their documentation has them:
//! Edge's own client can't be had.

use std::time::Duration;

use robotosecret::{
    Secrets,
    api::vault::KeyValue,
    secrets::{self, Attributes, Recovery},
    sensitive::Sensitive,
};
use serde_json::{Value, json};
use testbed::Vault;

use super::{Comparison, Dice, MEMBERS, SERVE, Theirs, class, done, read};

const NAMES: [&str; 4] = ["one", "two", "dir/three", "none"];

struct Both {
    vault: Vault,
    theirs: Theirs,
    two: Secrets,
    one: Secrets,
    /// Edge's, whose token may do everything.
    edge: Secrets,
    comparison: Comparison,
}

impl Both {
    async fn new(client: &'static str) -> Self {
        let vault = Vault::start().unwrap();
        vault.mount("kv");
        vault.mount("secret");
        vault.put_plain("", "plain/other", &json!({}));
        let all = ["read", "list", "create", "update", "delete"].map(str::to_owned).to_vec();
        vault.token("s.all", "all", ["kv/", "plain/", "secret/"].map(|path| (path.to_owned(), all.clone())).to_vec(), None);
        let theirs = Theirs::start(
            &testbed::moto::python().unwrap(),
            &format!("{SERVE}\n{}", include_str!("hvac.py")),
            &[&vault.url(), "s.all"],
            &[("PYTHONWARNINGS", "ignore")],
        );
        let of = secrets::Vault::new(vault.url(), Sensitive::from("s.all".to_owned()));
        let of_version_one = secrets::Vault { key_value: KeyValue::V1, ..of.clone() };
        let of_edge = secrets::Edge {
            vault: of.clone(),
            mount: None,
            prefix: Some("ours".to_owned()),
            user: Some("ann".to_owned()),
            organization: Some("shop".to_owned()),
        };
        Self {
            theirs,
            two: Secrets::builder().vault(of).no_cache().build().await.unwrap(),
            one: Secrets::builder().vault(of_version_one).no_cache().build().await.unwrap(),
            edge: Secrets::builder().edge(of_edge).no_cache().build().await.unwrap(),
            comparison: Comparison::new(client),
            vault,
        }
    }

    async fn answers(&mut self, step: &Value) -> [Value; 2] {
        let what = step[0].as_str().unwrap();
        let name = step[1].as_str().unwrap();
        let mut asked = step.as_array().unwrap().clone();
        asked[1] = json!(format!("theirs/{name}"));
        let theirs = shown_as_json(self.theirs.ask(Value::Array(asked)));
        let ours = match what.strip_prefix("plain_") {
            Some(what) => on(&self.one, what, &format!("vault://plain/ours/{name}"), step).await,
            None => on(&self.two, what, &format!("vault://kv/ours/{name}"), step).await,
        };
        [theirs, ours]
    }

    async fn step(&mut self, step: Value) {
        let [theirs, ours] = self.answers(&step).await;
        let why = || match (step[0].as_str(), theirs.as_str(), ours.as_str()) {
            (Some("create"), Some("AlreadyExists"), Some("ok")) => Some("create after a deletion"),
            (Some("delete" | "plain_delete"), Some("ok"), Some("NotFound")) => Some("deleting what isn't there"),
            _ => None,
        };
        self.comparison.note(&step, &theirs, &ours, why);
        // What was made anew here and not there is made there, too, so that both go on from the same.
        if step[0] == "create" && theirs == "AlreadyExists" && ours == "ok" {
            assert_eq!(self.theirs.ask(json!(["put", format!("theirs/{}", step[1].as_str().unwrap()), step[2]])), "ok");
        }
    }

    /// A step on Edge's secrets: who, the name, and what is written.
    async fn edge_step(&mut self, step: Value) {
        let [what, whose, name] = [0, 1, 2].map(|index| step[index].as_str().unwrap_or_default());
        let place = if whose == "user" { "theirs/users/ann" } else { "theirs/orgs/shop" };
        let mut asked = step.as_array().unwrap().clone();
        (asked[0], asked[1]) = (json!(format!("edge_{what}")), json!(place));
        let theirs = shown_as_json(self.theirs.ask(Value::Array(asked)));
        let reference = format!("edge://{whose}/{name}");
        let ours = match what {
            "wrap" => match self.edge.wrap(&reference, Duration::from_secs(300)).await {
                Ok(wrapped) => {
                    let token = std::str::from_utf8(wrapped.token.expose()).unwrap();
                    shown_as_json(self.theirs.ask(json!(["redeem", token, wrapped.unwrap_url])))
                }
                Err(error) => json!(class(&error)),
            },
            "names" => names(&self.edge, &format!("edge://{whose}")).await,
            // Edge's own delete leaves no version.
            _ => on(&self.edge, what, &reference, &json!([what, name, step[3]])).await,
        };
        self.comparison.note(&step, &theirs, &ours, || None);
    }
}

/// JSON in the text of a value as JSON: Vault keeps no order of members.
fn shown_as_json(answer: Value) -> Value {
    match answer[0].as_str().zip(answer[1].as_str()) {
        Some(("text", text)) => json!(["text", serde_json::from_str::<Value>(text).unwrap()]),
        // What is wrapped, and what the second look is told.
        _ if answer[0].is_array() => json!([shown_as_json(answer[0].clone()), answer[1]]),
        _ => answer,
    }
}

async fn names(ours: &Secrets, path: &str) -> Value {
    let start = format!("{path}/");
    ours.list(path, false).await.map_or_else(|error| json!(class(&error)), |all| all.iter().map(|name| name.trim_start_matches(&start)).collect())
}

/// What ours does for a step of hvac's.
async fn on(ours: &Secrets, what: &str, reference: &str, step: &Value) -> Value {
    let none = Attributes::default();
    let value = Sensitive::from(step[2].to_string());
    match what {
        "read" => {
            let version = step[2].as_u64().map(|version| format!("?version={version}")).unwrap_or_default();
            shown_as_json(read(ours.get_fresh(&format!("{reference}{version}")).await))
        }
        "create" => done(ours.create(reference, &value, &none).await),
        "put" => done(ours.put(reference, &value, &none).await),
        "update" => done(ours.update(reference, &value).await),
        "patch" => {
            let member = format!("{reference}#{}", robotosecret::api::reference::pointer(&[step[2].as_str().unwrap().to_owned()]));
            match &step[3] {
                Value::String(text) => done(ours.update(&member, &Sensitive::from(text.clone())).await),
                json => done(ours.update_json(&member, &Sensitive::from(json.to_string())).await),
            }
        }
        "delete" => done(ours.delete(reference, Recovery::default()).await),
        "purge" => done(ours.delete(reference, Recovery::Force).await),
        "undelete" => done(ours.restore(reference).await),
        "names" => names(ours, reference).await,
        other => panic!("{other}"),
    }
}

/// An object as JSON.
fn object(dice: &mut Dice) -> Value {
    serde_json::from_str(&dice.object(2)).unwrap()
}

fn json_of(dice: &mut Dice) -> Value {
    serde_json::from_str(&dice.json(2)).unwrap()
}

#[tokio::test]
async fn hvac_and_the_library_answer_and_leave_behind_the_same_in_vault_but_for_what_is_listed() {
    let mut both = Both::new("hvac").await;
    for step in [
        json!(["delete", "none"]),
        json!(["plain_delete", "none"]),
        json!(["create", "one", {"a": 1}]),
        json!(["create", "one", {"a": 2}]),
        json!(["read", "one"]),
        json!(["delete", "one"]),
        json!(["update", "one", {"a": 3}]),
        json!(["patch", "one", "a", "4"]),
        json!(["create", "one", {"a": 5}]),
        json!(["read", "one", 2]),
        json!(["patch", "one", "b", "6"]),
        json!(["read", "one"]),
        json!(["purge", "none"]),
        json!(["update", "none", {"a": 1}]),
        json!(["patch", "none", "a", "1"]),
        json!(["undelete", "none"]),
    ] {
        both.step(step).await;
    }
    let mut dice = Dice::new();
    for _ in 0..300 {
        let name = dice.pick(&NAMES);
        let step = match dice.below(24) {
            0..=3 => json!(["read", name]),
            4 => json!(["read", name, dice.below(6) + 1]),
            _ if name == "none" => json!([dice.pick(&["read", "delete", "purge", "undelete", "plain_read", "plain_delete"]), name]),
            5..=7 => json!(["create", name, object(&mut dice)]),
            8 | 9 => json!(["put", name, object(&mut dice)]),
            10 | 11 => json!(["update", name, object(&mut dice)]),
            12 | 13 => {
                let member = dice.pick(&MEMBERS);
                json!(["patch", name, member, json_of(&mut dice)])
            }
            14 | 15 => json!(["delete", name]),
            16 => json!(["purge", name]),
            17 | 18 => json!(["undelete", name]),
            19 => json!(["plain_read", name]),
            20 | 21 => json!(["plain_put", name, object(&mut dice)]),
            22 => json!(["plain_delete", name]),
            _ => json!([dice.pick(&["names", "plain_names"]), "dir"]),
        };
        if step[0].as_str().unwrap().ends_with("names") {
            // Nothing below a path is an error of hvac's, and an empty list of ours.
            let [theirs, ours] = both.answers(&step).await;
            let why = || (theirs == "NotFound" && ours == json!([])).then_some("a path with nothing below it");
            both.comparison.note(&step, &theirs, &ours, why);
            continue;
        }
        both.step(step).await;
    }
    both.step(json!(["purge", "dir/three"])).await;
    let [theirs, ours] = both.answers(&json!(["names", "dir"])).await;
    both.comparison.meets(&json!("names of an empty folder"), &theirs, &ours, Some("a path with nothing below it"));
    for name in NAMES {
        assert_eq!(both.vault.value("", &format!("kv/theirs/{name}")), both.vault.value("", &format!("kv/ours/{name}")), "{name}");
    }
    both.comparison.end(&[("value", 25), ("ok", 40), ("NotFound", 20), ("AlreadyExists", 3)]);
}

#[tokio::test]
async fn edges_secrets_are_as_their_documentation_has_them_whatever_is_done_in_which_order() {
    let mut both = Both::new("EdgeSecrets").await;
    // E01 to E06.
    for step in [
        json!(["create", "user", "my-secret", {"secret": "value"}]),
        json!(["names", "user"]),
        json!(["read", "user", "my-secret"]),
        json!(["create", "user", "my-secret", {}]),
        json!(["read", "user", "my-secret"]),
        json!(["create", "org", "bad/name", {}]),
        json!(["update", "user", "nope", {"a": 1}]),
        json!(["read", "user", "nope"]),
        json!(["create", "org", "s", {"a": 1}]),
        json!(["wrap", "org", "s"]),
        json!(["wrap", "org", "nope"]),
        json!(["delete", "org", "s"]),
        json!(["delete", "org", "s"]),
        json!(["create", "org", "s", {"a": 2}]),
        json!(["read", "org", "s"]),
    ] {
        both.edge_step(step).await;
    }
    let mut dice = Dice::new();
    for _ in 0..200 {
        let (whose, name) = (dice.pick(&["user", "org"]), dice.pick(&["s", "my-secret", "A_1", "bad.name"]));
        let what = dice.pick(&["create", "create", "update", "read", "read", "delete", "wrap", "names"]);
        let step = match what {
            "names" => json!([what, whose]),
            "create" | "update" => json!([what, whose, name, object(&mut dice)]),
            // Edge's documentation lists no error of a deletion.
            "delete" if name.contains('.') => continue,
            _ => json!([what, whose, name]),
        };
        both.edge_step(step).await;
    }
    for (there, here) in [("theirs/users/ann", "ours/users/ann"), ("theirs/orgs/shop", "ours/orgs/shop")] {
        for name in ["s", "my-secret", "A_1"] {
            let [theirs, ours] = [there, here].map(|place| both.vault.value("", &format!("secret/{place}/{name}")));
            assert_eq!(theirs, ours, "{here}/{name}");
        }
    }
    both.comparison.end(&[("value", 25), ("ok", 20), ("NotFound", 5), ("AlreadyExists", 3), ("Refused", 3)]);
}
