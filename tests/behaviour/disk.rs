//! The library's cache on disk as a program meets it: what it finds there when it starts again, who finds nothing, and what anybody else can read.

use std::{
    env,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use robotosecret::{
    Secrets,
    secrets::{self, CacheKey, Error},
    sensitive::Sensitive,
};
use serde_json::json;
use testbed::{Canary, Emulator, TempFolder, Vault, aws};

/// What tells a process of this program what it is to do: that it is another one, and where.
const CHILD: &str = "ROBOTOSECRET_DISK_TEST";

fn vault() -> Vault {
    let vault = Vault::start().unwrap();
    let all = ["read", "list", "create", "update", "delete"].map(str::to_owned).to_vec();
    for token in ["s.one", "s.two"] {
        vault.token(token, "root", vec![("kv/".to_owned(), all.clone())], None);
    }
    vault
}

fn key(byte: u8) -> CacheKey {
    CacheKey::from_bytes(&[byte; 32]).unwrap()
}

fn at(vault: &Vault, token: &str) -> secrets::Builder {
    Secrets::builder().retry(1).vault(secrets::Vault::new(vault.url(), Sensitive::from(token.to_owned())))
}

/// All that is in a folder, with its names.
fn content(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())).collect()
}

/// Nothing in a folder holds any part of it, in any writing.
fn holds_nothing_of(folder: &Path, canary: &Canary) {
    let wide = |little: bool| canary.token().encode_utf16().flat_map(|unit| if little { unit.to_le_bytes() } else { unit.to_be_bytes() }).collect::<Vec<_>>();
    for (name, bytes) in content(folder) {
        let leaks = [canary.scan("a name", &name), canary.scan(&name, &bytes)].concat();
        assert!(leaks.is_empty(), "{leaks:?}");
        for wide in [wide(true), wide(false)] {
            assert!(!bytes.windows(24).any(|window| window == &wide[..24]), "{name}");
        }
    }
}

#[tokio::test]
async fn what_was_read_is_there_after_a_restart_with_the_store_down_and_nobody_else_can_read_it() {
    let (vault, folder) = (vault(), TempFolder::new("disk").unwrap());
    let (value, name) = (Canary::new("value").unwrap(), Canary::new("name").unwrap());
    let place = folder.path().join("cache");
    let open = async |builder: secrets::Builder| builder.disk_cache(&place, key(1)).build().await.unwrap();
    let reference = format!("vault://kv/{}#/password", name.token());
    vault.put("", &format!("kv/{}", name.token()), &json!({"password": value.token()}));
    let count = || vault.count(&format!("kv/data/{}", name.token()));
    assert_eq!(open(at(&vault, "s.one")).await.get(&reference).await.unwrap().text().unwrap(), value.token());

    // The program starts again while the store is away.
    vault.fail(Some(503));
    let secrets = open(at(&vault, "s.one")).await;
    for _ in 0..2 {
        let secret = secrets.get(&reference).await.unwrap();
        assert_eq!((secret.text().unwrap(), secret.version(), secret.is_binary()), (value.token(), Some("1"), false));
    }
    assert_eq!(count(), 1);
    // Whoever wants to know it now is told that nobody does.
    assert!(matches!(secrets.get_fresh(&reference).await, Err(Error::Unavailable(_))));
    assert!(matches!(secrets.path_exists(&reference).await, Err(Error::Unavailable(_))));
    assert!(secrets.get(&reference).await.is_ok(), "an outage says nothing about what is kept");

    holds_nothing_of(&place, &value);
    holds_nothing_of(&place, &name);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let [(file, _)] = &content(&place)[..] else { panic!("one file") };
    assert_eq!((mode(&place), mode(&place.join(file))), (0o700, 0o600));
    // Its time goes on: memory doesn't begin it anew.
    vault.fail(None);
    let brief = open(at(&vault, "s.one").cache(10, Duration::from_millis(1))).await;
    brief.get(&reference).await.unwrap();
    assert_eq!(count(), 2);
}

#[tokio::test]
async fn who_is_another_or_has_another_key_finds_nothing() {
    let (vault, folder) = (vault(), TempFolder::new("disk").unwrap());
    vault.put("", "kv/db", &json!({"password": "one"}));
    vault.put("team", "kv/db", &json!({"password": "of the team"}));
    let text = async |builder: secrets::Builder, byte: u8| {
        let secrets = builder.disk_cache(folder.path(), key(byte)).build().await.unwrap();
        secrets.get("vault://kv/db#/password").await.map(|secret| secret.text().unwrap().to_owned())
    };
    let team =
        || Secrets::builder().vault(secrets::Vault { namespace: Some("team".into()), ..secrets::Vault::new(vault.url(), Sensitive::from("s.one".to_owned())) });
    for (builder, byte, expected) in
        [(at(&vault, "s.one"), 1, "one"), (at(&vault, "s.one"), 2, "one"), (at(&vault, "s.two"), 1, "one"), (team(), 1, "of the team")]
    {
        let before = vault.count("kv/data/db");
        assert_eq!(text(builder.clone(), byte).await.unwrap(), expected);
        assert_eq!(text(builder, byte).await.unwrap(), expected);
        assert_eq!(vault.count("kv/data/db") - before, 1, "the first asks, the second doesn't");
    }
    assert!(matches!(text(at(&vault, "s.three"), 1).await, Err(Error::AccessDenied(_))), "what others may read is not shown to who may not");
    // What can't be meant is told before anything is read.
    let refused = async |builder: secrets::Builder| builder.build().await.err().unwrap().to_string();
    assert!(refused(at(&vault, "s.one").no_cache().disk_cache(folder.path(), key(1))).await.contains("leave no_cache() out"));
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o750)).unwrap();
    assert!(refused(at(&vault, "s.one").disk_cache(folder.path(), key(1))).await.contains("others may enter it"));
    assert!(!format!("{:?}", Secrets::builder().disk_cache(folder.path(), key(77))).contains("77"));
}

#[tokio::test]
async fn what_is_written_gone_or_too_much_leaves_the_disk() {
    let (vault, folder) = (vault(), TempFolder::new("disk").unwrap());
    let open = async |values: u64| at(&vault, "s.one").cache(values, Duration::from_secs(60)).disk_cache(folder.path(), key(1)).build().await.unwrap();
    let files = || content(folder.path()).len();
    let secrets = open(3).await;
    for number in 0..5 {
        vault.put("", &format!("kv/{number}"), &json!({"n": number}));
        secrets.get(&format!("vault://kv/{number}")).await.unwrap();
    }
    assert_eq!(files(), 3);
    // A restart sees what this client has written, and nothing from before.
    secrets.put("vault://kv/4", &Sensitive::from(json!({"n": 40}).to_string()), &secrets::Attributes::default()).await.unwrap();
    assert_eq!(files(), 0);
    assert_eq!(open(3).await.get("vault://kv/4#/n").await.unwrap().text().unwrap(), "40");
    assert_eq!(files(), 1);
    vault.delete("", "kv/4", true);
    assert!(open(3).await.get("vault://kv/4").await.is_ok(), "it is kept as long as memory would");
    assert!(matches!(open(3).await.get_fresh("vault://kv/4").await, Err(Error::NotFound(_))));
    assert_eq!(files(), 0, "what is gone is not there for the next one either");
}

/// This test in another process, with these variables. What it prints follows a line with a mark.
fn child(test: &str, folder: &Path, variables: &[(&str, &str)]) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.env_clear().env(CHILD, folder).envs(variables.iter().copied());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

#[tokio::test]
async fn another_process_finds_what_one_has_read_unless_it_is_somebody_else() {
    let test = "disk::another_process_finds_what_one_has_read_unless_it_is_somebody_else";
    if let Some(folder) = env::var_os(CHILD) {
        let secrets = Secrets::builder().disk_cache(folder, key(1)).build().await.unwrap();
        println!("<{}>", secrets.get("aws.sm://db").await.unwrap().text().unwrap());
        return;
    }
    let (emulator, folder) = (Emulator::start().unwrap(), TempFolder::new("disk").unwrap());
    emulator.put_secret("db", "of all");
    let url = emulator.url();
    let read = |region: &str, id: &str| {
        let variables =
            [("AWS_REGION", region), ("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", aws::SECRET_ACCESS_KEY), ("AWS_ENDPOINT_URL", url.as_str())];
        let output = child(test, folder.path(), &variables).wait_with_output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && said.contains("<of all>"), "{said}");
        emulator.count(|call| call.action == "GetSecretValue")
    };
    assert_eq!([read(aws::REGION, "AKIAONE"), read(aws::REGION, "AKIAONE")], [1, 1]);
    assert_eq!([read(aws::REGION, "AKIATWO"), read(aws::REGION, "AKIATWO")], [2, 2], "as somebody else");
    assert_eq!([read(aws::REGION, "AKIAONE"), content(folder.path()).len()], [2, 2]);
}

#[tokio::test]
async fn processes_that_write_at_once_or_are_killed_meanwhile_leave_nothing_broken() {
    let test = "disk::processes_that_write_at_once_or_are_killed_meanwhile_leave_nothing_broken";
    if let Some(folder) = env::var_os(CHILD) {
        let vault = secrets::Vault::new(env::var("VAULT_ADDR").unwrap(), Sensitive::from("s.one".to_owned()));
        let secrets = Secrets::builder().cache(4, Duration::from_secs(60)).vault(vault).disk_cache(folder, key(1)).build().await.unwrap();
        // Until it is killed.
        loop {
            for number in 0..8 {
                let value = secrets.get_fresh(&format!("vault://kv/{number}#/value")).await.unwrap();
                assert_eq!(value.expose().len(), 20_000);
            }
        }
    }
    let (vault, folder, canary) = (vault(), TempFolder::new("disk").unwrap(), Canary::new("killed").unwrap());
    let value = canary.token().repeat(500);
    for number in 0..8 {
        vault.put("", &format!("kv/{number}"), &json!({"value": value}));
    }
    let url = vault.url();
    let asked = || vault.asked().len();
    for _ in 0..3 {
        let mut children = [0, 1].map(|_| child(test, folder.path(), &[("VAULT_ADDR", url.as_str())]));
        let (before, started) = (asked(), Instant::now());
        while asked() < before + 100 {
            assert!(started.elapsed() < Duration::from_secs(60), "they write nothing");
            for child in &mut children {
                assert!(child.try_wait().unwrap().is_none(), "one ended by itself");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
    holds_nothing_of(folder.path(), &canary);
    vault.fail(Some(503));
    let secrets = at(&vault, "s.one").cache(4, Duration::from_secs(60)).disk_cache(folder.path(), key(1)).build().await.unwrap();
    let mut found = 0;
    for number in 0..8 {
        match secrets.get(&format!("vault://kv/{number}#/value")).await {
            Ok(secret) => {
                assert!(secret.text().unwrap() == value, "a part of it");
                found += 1;
            }
            Err(error) => assert!(matches!(error, Error::Unavailable(_)), "{error}"),
        }
    }
    assert!((1..=6).contains(&found), "{found}");
}
