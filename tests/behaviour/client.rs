//! The library as a program uses it: what it reads, what it keeps, and what it says.

use std::{collections::BTreeMap, time::Duration};

use futures::TryStreamExt;
use robotosecret::{
    Secrets,
    api::reference::Store,
    secrets::{self, Error},
    sensitive::Sensitive,
};
use serde_json::{Value, json};
use testbed::Vault;

const CANARY: &str = "cAnArY-9b1d";

fn vault() -> Vault {
    let vault = Vault::start().unwrap();
    let policy = ["kv/data/", "kv/metadata/"].map(|path| (path.to_owned(), vec!["read".to_owned(), "list".to_owned()])).to_vec();
    vault.token("s.token", "root", policy, None);
    vault
}

fn at(vault: &Vault) -> secrets::Builder {
    Secrets::builder().vault(secrets::Vault::new(vault.url(), Sensitive::from("s.token".to_owned())))
}

#[tokio::test]
async fn what_was_read_is_kept_until_somebody_wants_it_fresh() {
    let vault = vault();
    let secrets = at(&vault).build().await.unwrap();
    let reads = || vault.count("kv/data/db");
    vault.put("", "kv/db", &json!({"user": "root", "password": "one"}));
    let text = async |fresh: bool| {
        let reference = "vault://kv/db#/password";
        let secret = if fresh { secrets.get_fresh(reference).await } else { secrets.get(reference).await };
        secret.map(|secret| secret.text().unwrap().to_owned())
    };
    assert_eq!(text(false).await.unwrap(), "one");
    assert_eq!(secrets.get("vault://kv/db#/user").await.unwrap().text().unwrap(), "root");
    assert_eq!(reads(), 1, "all keypaths share what was read");
    vault.put("", "kv/db", &json!({"password": "two"}));
    assert_eq!((text(false).await.unwrap(), reads()), ("one".to_owned(), 1));
    assert_eq!((text(true).await.unwrap(), reads()), ("two".to_owned(), 2));
    assert_eq!((text(false).await.unwrap(), reads()), ("two".to_owned(), 2), "what was read fresh is kept, too");
    assert_eq!(secrets.get("vault://kv/db").await.unwrap().version(), Some("2"));
    // Gone is gone, and an outage says nothing about what is kept.
    vault.fail(Some(503));
    assert!(matches!(at(&vault).retry(1).build().await.unwrap().get("vault://kv/db").await, Err(Error::Unavailable(_))));
    assert_eq!(text(false).await.unwrap(), "two");
    vault.fail(None);
    vault.delete("", "kv/db", true);
    assert!(!secrets.path_exists("vault://kv/db").await.unwrap(), "whether it is there is always asked");
    assert!(matches!(text(false).await, Err(Error::NotFound(_))));
    // Without a cache each read is a call, and one that is short keeps little.
    vault.put("", "kv/db", &json!({"password": "three"}));
    let (without, brief) = (at(&vault).no_cache().build().await.unwrap(), at(&vault).cache(10, Duration::from_millis(1)).build().await.unwrap());
    let before = reads();
    for _ in 0..2 {
        without.get("vault://kv/db").await.unwrap();
        brief.get("vault://kv/db").await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(reads() - before, 4);
}

#[tokio::test]
async fn a_call_is_made_as_often_and_waited_for_as_long_as_is_said() {
    let vault = vault();
    vault.say(Some(("kv", (503, json!({"errors": ["busy"]})))));
    for (builder, tries) in [(at(&vault), 3), (at(&vault).retry(2), 2), (at(&vault).retry(0), 1)] {
        let before = vault.count("kv/data/db");
        assert!(matches!(builder.build().await.unwrap().get("vault://kv/db").await, Err(Error::Unavailable(_))));
        assert_eq!(vault.count("kv/data/db") - before, tries);
    }
    // Nobody takes what comes in here; 5 s is what a call may take otherwise.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = secrets::Vault::new(format!("http://{}", silent.local_addr().unwrap()), Sensitive::from("s.token".to_owned()));
    let secrets = Secrets::builder().vault(silent).retry(1).timeout(Duration::from_millis(200)).build().await.unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(4), secrets.get("vault://kv/db")).await.expect("it is given up in time");
    assert!(matches!(answer, Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn an_address_that_is_none_makes_no_client() {
    let bad = secrets::Vault::new("127.0.0.1:8200", Sensitive::from("s.token".to_owned()));
    let told = "the address of Vault: an address is http://HOST:PORT or https://HOST:PORT".to_owned();
    assert_eq!(Secrets::builder().vault(bad).build().await.err(), Some(Error::InvalidRequest(told)));
}

#[tokio::test]
async fn values_below_a_path_arrive_one_by_one() {
    let vault = vault();
    let secrets = at(&vault).build().await.unwrap();
    for name in ["a", "b/c", "b/d"] {
        vault.put("", &format!("kv/shop/{name}"), &json!({"name": name}));
    }
    let all: Vec<(String, secrets::Secret)> = secrets.get_by_path("vault://kv/shop", true).try_collect().await.unwrap();
    let names: Vec<(&str, Value)> = all.iter().map(|(reference, secret)| (reference.as_str(), secret.json::<Value>().unwrap()["name"].clone())).collect();
    assert_eq!(names, [("vault://kv/shop/a", json!("a")), ("vault://kv/shop/b/c", json!("b/c")), ("vault://kv/shop/b/d", json!("b/d"))]);
    assert_eq!(secrets.list("vault://kv/shop", false).await.unwrap(), ["vault://kv/shop/a"]);
    let failed: Result<Vec<_>, Error> = secrets.get_by_path("vault://none/shop", true).try_collect().await;
    assert!(matches!(failed, Err(Error::AccessDenied(_))), "{failed:?}");
    let failed: Result<Vec<_>, Error> = secrets.get_by_path("vault:", true).try_collect().await;
    assert!(matches!(failed, Err(Error::InvalidName(_))), "{failed:?}");
    // There is no list of all mounts; nothing is called.
    let calls = vault.count("auth/token/lookup-self");
    let secrets = at(&vault).build().await.unwrap();
    let failed = secrets.find(Store::Vault, None, Some("."), BTreeMap::new()).await;
    let told = "a search in Vault has a path, from the mount on, and one in Edge the path user or org";
    assert_eq!(failed, Err(Error::InvalidRequest(told.to_owned())));
    assert_eq!(vault.count("auth/token/lookup-self"), calls);
}

#[tokio::test]
async fn no_error_and_no_debug_text_holds_a_value() {
    let vault = vault();
    let builder = at(&vault);
    assert!(!format!("{builder:?}").contains("s.token"));
    let secrets = builder.build().await.unwrap();
    vault.put("", "kv/db", &json!({"password": CANARY, "list": [CANARY]}));
    let secret = secrets.get("vault://kv/db").await.unwrap();
    let mut said = vec![format!("{secret:?}")];
    said.push(secret.json::<Vec<String>>().unwrap_err().to_string());
    for reference in ["vault://kv/db#/password/x", "vault://kv/db#/none", "vault://kv/db#/list/7", "vault://other/db"] {
        said.push(format!("{:?}", secrets.get(reference).await.unwrap_err()));
    }
    assert!(!said.join("\n").contains(CANARY), "{said:?}");
    let shape: std::collections::BTreeMap<String, Value> = secrets.get_json("vault://kv/db").await.unwrap();
    assert_eq!(shape["password"], CANARY);
}
