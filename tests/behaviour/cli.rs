//! The command line as somebody types it: what it prints, what it says on failure, and how it ends, against every store.

use std::process::{Command, Output};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use testbed::{Emulator, Envase, Roboto, Vault, aws};

use crate::{
    proxy::Proxy,
    support::{run, says},
    writing::moto,
};

/// A value that may stand on standard output alone.
const CANARY: &str = "cAnArY-51c2";
/// Something in each store that compares versions.
const SHARED: [&str; 3] = ["aws.sm://cli-shared", "aws.ps:///cli-shared", "vault://kv/shared"];

/// A terminal whose environment knows nothing but these variables.
struct Shell(Vec<(&'static str, String)>);

impl Shell {
    fn of_aws(url: &str) -> Self {
        Self(vec![
            ("AWS_ACCESS_KEY_ID", aws::ACCESS_KEY_ID.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", aws::SECRET_ACCESS_KEY.to_owned()),
            ("AWS_REGION", aws::REGION.to_owned()),
            ("AWS_ENDPOINT_URL", url.to_owned()),
        ])
    }

    /// Runs it. Blocks the thread: the doubles have threads of their own.
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_robotosecret"));
        let output = command.env_clear().envs(self.0.iter().map(|(name, value)| (name, value))).args(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr.clone()).unwrap();
        assert!(!said.contains(CANARY), "{arguments:?}: {said}");
        output
    }

    fn prints(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it says of a write that is done with this on standard input; nothing is printed.
    fn writes(&self, arguments: &[&str], input: &str) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_robotosecret"));
        let said = run(command.env_clear().envs(self.0.iter().map(|(name, value)| (name, value))).args(arguments), input);
        assert!(said.ok && said.out.is_empty() && !said.err.contains(CANARY), "{arguments:?}: {}", said.err);
        said.err
    }

    /// Its exit code, and what it says; nothing is printed.
    fn fails(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        assert!(output.stdout.is_empty(), "{arguments:?}");
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }
}

#[test]
fn a_value_is_printed_as_it_is_asked_for() {
    let emulator = Emulator::start().unwrap();
    let shell = Shell::of_aws(&emulator.url());
    let text = "line one\nline two: pä$`\"'\\";
    emulator.put_secret("text", text);
    emulator
        .put_secret("object", &json!({"user": "root", "port": 3306, "note": "it's $5\n\"q\"", "more": {"a": [1, 2]}}).to_string().replace("3306", "3306.50"));
    emulator.put_binary("binary", &[0, 255, 10]);
    emulator.put_parameter("/app/url", "https://example.com");

    assert_eq!(shell.prints(&["get", "aws.sm://text"]), text, "byte for byte, without a line end of its own");
    assert_eq!(shell.run(&["get", "aws.sm://binary"]).stdout, [0, 255, 10]);
    assert_eq!(shell.prints(&["get", "aws.sm://object#/user"]), "root");
    assert_eq!(shell.prints(&["get", "aws.sm://object#/port"]), "3306.50", "digit for digit");
    assert_eq!(shell.prints(&["get", "aws.ps:///app/url"]), "https://example.com");
    assert_eq!(shell.prints(&["get", "aws.ps:///aws/reference/secretsmanager/object/more/a"]), "[1,2]");
    assert_eq!(shell.prints(&["get", &emulator.secret_arn("text").unwrap()]), text);

    assert_eq!(shell.prints(&["get", "aws.sm://text", "-o", "json"]), format!("{}\n", json!(text)));
    assert!(shell.prints(&["get", "aws.sm://object", "-o", "json"]).contains("3306.50"));
    let yaml: Value = serde_yaml::from_str(&shell.prints(&["get", "aws.sm://object", "-o", "yaml"])).unwrap();
    assert_eq!(yaml["note"], "it's $5\n\"q\"");
    emulator.put_secret("plain", &json!({"user": "ro ot$x", "more": {"a": [1, 2]}}).to_string());
    assert_eq!(shell.prints(&["get", "aws.sm://plain", "-o", "env"]), "more='{\"a\":[1,2]}'\nuser='ro ot$x'\n");
    says(&shell.fails(&["get", "aws.sm://object", "-o", "env"]).1, "the member \"note\" holds something that no variable can hold");
    // A shell reads back what was there.
    let script = format!("eval \"$({} get aws.sm://object -o shell)\"; printf %s \"$note|$port\"", env!("CARGO_BIN_EXE_robotosecret"));
    let output = Command::new("sh").args(["-c", &script]).envs(shell.0.iter().map(|(name, value)| (name, value))).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "it's $5\n\"q\"|3306.50");
    for (arguments, expected) in
        [(["get", "aws.sm://text", "-o", "env"], "no JSON object"), (["get", "aws.sm://binary", "-o", "json"], "the value is binary; print it raw")]
    {
        let (code, said) = shell.fails(&arguments);
        assert_eq!(code, 5);
        says(&said, expected);
    }
}

#[test]
fn what_cannot_be_had_is_told_in_a_line_and_by_the_exit_code() {
    let emulator = Emulator::start().unwrap();
    let shell = Shell::of_aws(&emulator.url());
    emulator.put_secret("object", &json!({"password": CANARY}).to_string());
    emulator.put_secret("denied", CANARY);
    emulator.put_secret("text", CANARY);
    emulator.deny("denied");
    for (arguments, code, expected) in [
        (&["get", "aws.sm://none"][..], 1, "aws.sm://none: Secrets Manager has no such secret in this region"),
        (&["get", "aws.sm://object#/none"], 1, "nothing at #/none"),
        (&["get", "aws.sm://text#/a"], 1, "the value is not JSON"),
        (&["get", "aws.ps://none"], 1, "Parameter Store has no such parameter"),
        (&["get", "nonsense"], 2, "a reference starts with aws.sm://"),
        (&["get", "roboto-secret://key@org-1"], 2, "letters, digits and _"),
        (&["get"], 2, "missing: <REFERENCE>"),
        (&["get", "aws.sm://denied"], 3, "grant it secretsmanager:GetSecretValue"),
        (&["exists", "aws.sm://denied"], 3, "grant it secretsmanager:GetSecretValue"),
        (&["get", "vault://kv/a"], 5, "VAULT_ADDR"),
        (&["get", "roboto-secret://a"], 5, "ROBOTO_API_KEY"),
        (&["get", "envase://a"], 5, "ENVASE_ENVIRONMENT"),
        (&["list", "envase://a"], 5, "Envase has no list of its secrets"),
        (&["list", "aws.ps://app"], 2, "a path in Parameter Store starts with a slash"),
        (&["list", "aws.sm://x#/a"], 2, "the name for aws.sm"),
        (&["list", "aws.sm", "--values", "json"], 2, "a path is aws.ps:///prod/app"),
        (&["list", "aws.sm", "--name", "("], 2, "--name: not a regular expression: unclosed group"),
        (&["list", "aws.sm", "--flat"], 2, "write at least one of path, name and tags"),
        (&["list", "vault", "--name", "."], 2, "a search in Vault has a path, from the mount on, and one in Edge the path user or org"),
        (&["list", "vault://", "--name", "."], 2, "a search in Vault has a path, from the mount on"),
        (&["list", "vault", "--tag", "a=b"], 5, "only AWS finds by tags"),
        (&["get", "aws.sm://object", CANARY], 2, "robotosecret: an argument that is not known here; see --help\n"),
        (&["list", "aws.sm", "--tag", "a=b", "--tag", "a=c"], 2, "one of the tags is given twice"),
        (&["create", "aws.sm://new", "--tag", "a=b", "--tag", "a=c", "--value", "x"], 2, "one of the tags is given twice"),
        (&["list", "aws.sm", "--tag", "=b"], 2, "a tag is NAME=VALUE"),
        (&["get", "aws.sm://object", "--region", "the moon"], 2, "a region is such as eu-west-1"),
        (&["get", "aws.sm://object", "--endpoint", "not a url"], 2, "an address is http://HOST:PORT or https://HOST:PORT"),
        (&["list", "aws.sm"], 2, "write at least one of path, name and tags"),
    ] {
        let (ended, said) = shell.fails(arguments);
        assert_eq!(ended, code, "{arguments:?}: {said}");
        says(&said, expected);
        assert!(code == 2 || said.lines().count() == 1, "{said}");
    }
    for (reference, code) in [("aws.sm://object", 0), ("aws.sm://object#/password", 0), ("aws.sm://object#/none", 1), ("aws.ps:///none", 1)] {
        let output = shell.run(&["exists", reference]);
        assert_eq!((output.status.code(), output.stdout.len(), output.stderr.len()), (Some(code), 0, 0), "{reference}");
    }
    let (code, said) = Shell(shell.0.iter().filter(|(name, _)| *name != "AWS_REGION").cloned().collect()).fails(&["get", "aws.sm://object"]);
    assert_eq!(code, 5);
    says(&said, "no region of AWS is known");
    // What passes by itself is asked for three times in all; what doesn't once.
    let count = || emulator.count(|call| call.action == "GetSecretValue");
    let before = count();
    emulator.throttle_next(2);
    assert_eq!(shell.run(&["get", "aws.sm://text"]).stdout, CANARY.as_bytes());
    assert_eq!(count() - before, 3);
    emulator.throttle_next(3);
    let (code, said) = shell.fails(&["get", "aws.sm://text"]);
    assert_eq!(code, 4);
    says(&said, "the store asks to slow down");
    let before = count();
    shell.fails(&["get", "aws.sm://none"]);
    assert_eq!(count() - before, 1);
}

#[test]
fn a_profile_that_is_named_goes_before_what_the_environment_has() {
    let emulator = Emulator::start().unwrap();
    emulator.put_secret("x", "x");
    let file = std::env::temp_dir().join(format!("robotosecret-profiles-{}", std::process::id()));
    std::fs::write(&file, "[other]\naws_access_key_id = AKIAOTHER\naws_secret_access_key = other\n").unwrap();
    let mut shell = Shell::of_aws(&emulator.url());
    shell.0.push(("AWS_SHARED_CREDENTIALS_FILE", file.display().to_string()));
    let signed = |id: &str| emulator.count(|call| call.action == "GetSecretValue" && call.access_key_id == id);
    shell.prints(&["get", "aws.sm://x"]);
    shell.prints(&["get", "aws.sm://x", "--profile", "other"]);
    assert_eq!((signed(aws::ACCESS_KEY_ID), signed("AKIAOTHER")), (1, 1));
    let (code, said) = shell.fails(&["get", "aws.sm://x", "--profile", "none"]);
    assert_eq!(code, 3, "{said}");
    says(&said, "the profile none gives no credentials; check whether it is in AWS's configuration files");
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn aws_is_called_through_the_proxy_of_the_environment() {
    let proxy = Proxy::start(None);
    let shell = |more: &[(&'static str, String)]| {
        let mut shell = Shell::of_aws("");
        shell.0.retain(|(name, _)| *name != "AWS_ENDPOINT_URL");
        shell.0.extend(more.iter().cloned());
        shell
    };
    let address = &proxy.address;
    let named =
        [("HTTPS_PROXY", format!("http://us%40er:{CANARY}@{address}")), ("https_proxy", format!(" {address}")), ("ALL_PROXY", format!("http://{address}"))];
    for named in named {
        let has_password = named.1.contains(CANARY);
        let (code, said) = shell(&[named]).fails(&["get", "aws.sm://db"]);
        assert_eq!(code, 4, "{said}");
        let asked = proxy.asked();
        assert!(!asked.is_empty() && asked.iter().all(|head| head.starts_with("CONNECT secretsmanager.eu-west-1.amazonaws.com:443 ")), "{asked:?}");
        let login = format!("Basic {}", BASE64_STANDARD.encode(format!("us@er:{CANARY}")));
        assert_eq!(asked[0].contains(&login), has_password, "{asked:?}");
    }
    // What is to be had directly is not asked of it, and neither is plain HTTP: that is what hands out the machine's own credentials.
    for direct in ["localhost, .amazonaws.com,", "*.amazonaws.com", "secretsmanager.eu-west-1.amazonaws.com:443", "*"] {
        shell(&[("HTTPS_PROXY", address.clone()), ("NO_PROXY", direct.to_owned())]).fails(&["get", "aws.sm://db"]);
    }
    let emulator = Emulator::start().unwrap();
    emulator.put_secret("db", "s3cret");
    let endpoint = ("AWS_ENDPOINT_URL", emulator.url());
    let direct = shell(&[("HTTPS_PROXY", address.clone()), ("HTTP_PROXY", address.clone()), ("ALL_PROXY", address.clone()), endpoint.clone()]);
    assert_eq!(direct.prints(&["get", "aws.sm://db"]), "s3cret");
    assert_eq!(proxy.asked(), [""; 0]);
    // One that can't be used is not worth failing for, and is not repeated.
    for unusable in [format!("socks5://{CANARY}@{address}"), format!("http://us:{CANARY}#1@{address}")] {
        let said = shell(&[("HTTPS_PROXY", unusable), endpoint.clone()]).run(&["get", "aws.sm://db"]);
        assert_eq!(said.stdout, b"s3cret");
        let told = String::from_utf8(said.stderr).unwrap();
        says(&told, "HTTPS_PROXY names no proxy that can be used: it is to be http://HOST:PORT or https://HOST:PORT");
        assert!(!told.contains(CANARY), "{told}");
    }
}

#[test]
fn a_role_is_assumed_with_its_external_id() {
    let emulator = Emulator::start().unwrap();
    emulator.put_secret("db", "s3cret");
    let role = "arn:aws:iam::123456789012:role/reader";
    assert_eq!(Shell::of_aws(&emulator.url()).prints(&["get", "aws.sm://db", "--assume-role", role, "--external-id", "ours"]), "s3cret");
    let calls = emulator.calls();
    let assumed = calls.iter().find(|call| call.action == "AssumeRole").unwrap();
    assert_eq!(["RoleArn", "ExternalId"].map(|name| assumed.parameters[name].as_str()), [role, "ours"]);
    let read = calls.iter().find(|call| call.action == "GetSecretValue").unwrap();
    assert!(read.temporary && read.access_key_id != aws::ACCESS_KEY_ID, "read as somebody else");
}

#[test]
fn what_lies_below_a_path_is_listed_and_read() {
    let emulator = Emulator::start().unwrap();
    let shell = Shell::of_aws(&emulator.url());
    for name in ["/app/a", "/app/deep/b", "/application"] {
        emulator.put_parameter(name, &format!("value of {name}"));
    }
    emulator.put_secret("app/x", r#"{"n": 1.50}"#);
    emulator.put_secret("app/y", "plain");
    emulator.tag_secret("app/y", &[("team", "shop")]).unwrap();
    assert_eq!(shell.prints(&["list", "aws.ps:///app"]), "aws.ps:///app/a\naws.ps:///app/deep/b\n");
    assert_eq!(shell.prints(&["list", "aws.ps:///app", "--flat"]), "aws.ps:///app/a\n");
    assert_eq!(shell.prints(&["list", "aws.ps:///none"]), "");
    assert_eq!(shell.prints(&["list", "aws.sm://app/"]), "aws.sm://app/x\naws.sm://app/y\n");
    assert_eq!(shell.prints(&["list", "aws.sm", "--name", "x$"]), "aws.sm://app/x\n");
    assert_eq!(shell.prints(&["list", "aws.sm", "--tag", "team=shop"]), "aws.sm://app/y\n");
    assert_eq!(shell.prints(&["list", "aws.sm://app/", "--values", "json"]), "{\"aws.sm://app/x\":{\"n\": 1.50},\"aws.sm://app/y\":\"plain\"}\n");
    let yaml: Value = serde_yaml::from_str(&shell.prints(&["list", "aws.ps:///app", "--values", "yaml"])).unwrap();
    assert_eq!(yaml, json!({"aws.ps:///app/a": "value of /app/a", "aws.ps:///app/deep/b": "value of /app/deep/b"}));
}

#[test]
fn every_store_is_read_as_its_environment_says() {
    let emulator = Emulator::start().unwrap();
    let (vault, envase) = (Vault::start().unwrap(), Envase::start().unwrap());
    let roboto = Roboto::start(&emulator, 2).unwrap();
    let everything = ["kv/data/", "kv/metadata/", "secret/data/", "secret/metadata/"];
    vault.token("s.token", "root", everything.map(|path| (path.to_owned(), vec!["read".to_owned(), "list".to_owned()])).to_vec(), None);
    vault.put("", "kv/shop/db", &json!({"password": "of vault"}));
    vault.put("", "secret/edge/orgs/shop/db", &json!({"password": "of edge"}));
    roboto.key("robo_key", &["org_1"]);
    roboto.put("org_1", "key", "of roboto");
    envase.client("shop", "client-secret");
    envase.put("", "key", &json!({"password": "of envase"}));
    let mut shell = Shell::of_aws(&emulator.url());
    shell.0.extend([
        ("VAULT_ADDR", vault.url()),
        ("VAULT_TOKEN", "s.token".to_owned()),
        ("EDGE_ORGANIZATION", "shop".to_owned()),
        ("ROBOTO_API_KEY", "robo_key".to_owned()),
        ("ROBOTO_SERVICE_ENDPOINT", roboto.url()),
        ("ENVASE_BASE_URL", envase.base_url()),
        ("ENVASE_CLIENT_ID", "shop".to_owned()),
        ("ENVASE_CLIENT_SECRET", "client-secret".to_owned()),
        ("ENVASE_TOKEN_URL", envase.token_url()),
    ]);
    for store in ["vault", "edge", "vault://", "edge://"] {
        let (code, said) = shell.fails(&["list", store, "--name", "."]);
        assert_eq!(code, 2, "{store}: {said}");
        says(&said, "a search in Vault has a path, from the mount on, and one in Edge the path user or org");
    }
    assert_eq!(vault.count("auth/token/lookup-self"), 0, "it is refused before anything is called");
    assert_eq!(shell.prints(&["get", "vault://kv/shop/db#/password"]), "of vault");
    assert_eq!(shell.prints(&["list", "vault://kv/shop"]), "vault://kv/shop/db\n");
    assert_eq!(shell.prints(&["get", "edge://org/db#/password"]), "of edge");
    assert_eq!(shell.prints(&["get", "roboto-secret://key"]), "of roboto");
    assert_eq!(shell.prints(&["list", "roboto-secret", "--name", "k"]), "roboto-secret://key\n");
    assert_eq!(shell.prints(&["get", "envase://key#/password"]), "of envase");
    assert_eq!(shell.fails(&["exists", "envase://none"]).0, 1);
}

#[test]
fn an_address_that_is_none_is_told_by_the_variable_that_has_it() {
    let shell = Shell(
        [
            ("AWS_REGION", aws::REGION),
            ("VAULT_ADDR", "http://127.0.0.1:1"),
            ("VAULT_TOKEN", CANARY),
            ("ROBOTO_API_KEY", CANARY),
            ("ROBOTO_SERVICE_ENDPOINT", "http://127.0.0.1:1"),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://127.0.0.1:1"),
            ("ENVASE_BASE_URL", "http://127.0.0.1:1/api"),
            ("ENVASE_CLIENT_ID", "shop"),
            ("ENVASE_CLIENT_SECRET", CANARY),
            ("ENVASE_TOKEN_URL", "http://127.0.0.1:1/token"),
        ]
        .map(|(name, value)| (name, value.to_owned()))
        .to_vec(),
    );
    for (variable, reference) in [
        ("VAULT_ADDR", "vault://kv/db"),
        ("VAULT_ADDR", "edge://org/db"),
        ("ROBOTO_SERVICE_ENDPOINT", "roboto-secret://db"),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "roboto-secret://db"),
        ("ENVASE_BASE_URL", "envase://db"),
        ("ENVASE_TOKEN_URL", "envase://db"),
    ] {
        for wrong in [format!("{CANARY}.example.com:28200"), format!("us:{CANARY}@localhost"), "ftp://127.0.0.1:1".to_owned(), "http://".to_owned()] {
            let mut shell = Shell(shell.0.clone());
            shell.0.iter_mut().filter(|(name, _)| *name == variable).for_each(|(_, value)| value.clone_from(&wrong));
            let told = format!("robotosecret: {variable}: an address is http://HOST:PORT or https://HOST:PORT\n");
            assert_eq!(shell.fails(&["get", reference]), (5, told), "{variable} {wrong}");
        }
    }
    // Whoever asks another store is not held up.
    let emulator = Emulator::start().unwrap();
    emulator.put_secret("x", "x");
    let mut shell = Shell::of_aws(&emulator.url());
    shell.0.extend([("VAULT_ADDR", "127.0.0.1:1".to_owned()), ("VAULT_TOKEN", "s.token".to_owned())]);
    assert_eq!(shell.prints(&["get", "aws.sm://x"]), "x");
}

#[test]
fn a_setting_that_is_empty_is_none() {
    let emulator = Emulator::start().unwrap();
    emulator.put_secret("x", "x");
    let mut shell = Shell::of_aws(&emulator.url());
    shell.0.extend(["AWS_ENDPOINT_URL_SECRETS_MANAGER", "AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL_SSM"].map(|name| (name, String::new())));
    assert_eq!(shell.prints(&["get", "aws.sm://x"]), "x");
    shell.0.push(("AWS_ENDPOINT_URL", String::new()));
    assert_eq!(shell.prints(&["get", "aws.sm://x", "--endpoint", &emulator.url()]), "x");
    shell.0.push(("AWS_REGION", String::new()));
    assert_eq!(shell.fails(&["get", "aws.ps:///x"]).0, 5);
}

#[test]
fn values_are_written_in_every_way_and_no_word_of_them_is_said() {
    let shell = Shell::of_aws(moto().url());
    let get = |reference: &str| shell.prints(&["get", reference]);
    // From standard input, byte for byte; a line end behind it is pointed out, or left out.
    assert_eq!(shell.writes(&["create", "aws.sm://cli-db"], CANARY), "aws.sm://cli-db created\n");
    assert_eq!(get("aws.sm://cli-db"), CANARY);
    let said = shell.writes(&["update", "aws.sm://cli-db"], &format!("{CANARY}\n"));
    says(&said, "the value ends in a line end, which is written, too; --trim leaves it out");
    assert_eq!(get("aws.sm://cli-db"), format!("{CANARY}\n"));
    assert_eq!(shell.writes(&["update", "aws.sm://cli-db", "--trim"], &format!("{CANARY}\r\n")), "aws.sm://cli-db updated\n");
    assert_eq!(get("aws.sm://cli-db"), CANARY);
    let file = std::env::temp_dir().join(format!("robotosecret-cli-{}", std::process::id()));
    std::fs::write(&file, json!({"password": CANARY, "n": 1}).to_string()).unwrap();
    assert_eq!(shell.writes(&["put", "aws.sm://cli-db", "--file", file.to_str().unwrap()], ""), "aws.sm://cli-db written\n");
    std::fs::remove_file(&file).unwrap();
    shell.writes(&["put", "aws.sm://cli-dash", "--value", "-----BEGIN-----"], "");
    assert_eq!(get("aws.sm://cli-dash"), "-----BEGIN-----");
    // One member; the rest stays as it is.
    shell.writes(&["update", "aws.sm://cli-db#/password"], "it's \"new\"");
    shell.writes(&["update", "aws.sm://cli-db#/list", "--json", "--value", "[1, 2]"], "");
    // moto answers with the former version where no stage is named.
    assert_eq!(get("aws.sm://cli-db?version-stage=AWSCURRENT"), r#"{"list":[1, 2],"n":1,"password":"it's \"new\""}"#);
    assert_eq!(shell.writes(&["put", "aws.sm://cli-made#/a/b", "--value", "x"], ""), "aws.sm://cli-made#/a/b written\n");
    assert_eq!(get("aws.sm://cli-made"), r#"{"a":{"b":"x"}}"#);
    // Parameters, with what they have besides.
    shell.writes(&["create", "aws.ps:///cli/url", "--type", "String", "--description", "where", "--tag", "team=shop"], "https://example.com");
    let described: Value = serde_json::from_str(&shell.prints(&["describe", "aws.ps:///cli/url", "-o", "json"])).unwrap();
    assert_eq!((&described["type"], &described["description"], &described["version"]), (&json!("String"), &json!("where"), &json!("1")));
    shell.writes(&["update", "aws.ps:///cli/url"], "https://example.org");
    says(&shell.prints(&["describe", "aws.ps:///cli/url"]), "type: \"String\"\n");
    // Deleted, brought back, deleted for good.
    says(&shell.writes(&["delete", "aws.sm://cli-db", "--recovery-days", "7"], ""), "aws.sm://cli-db deleted; it can be restored until 2");
    assert_eq!(shell.fails(&["get", "aws.sm://cli-db"]).0, 1);
    says(&shell.prints(&["describe", "aws.sm://cli-db"]), "deletion: ");
    assert_eq!(shell.writes(&["restore", "aws.sm://cli-db"], ""), "aws.sm://cli-db restored\n");
    assert_eq!(get("aws.sm://cli-db?version-stage=AWSCURRENT#/n"), "1");
    assert_eq!(shell.writes(&["delete", "aws.sm://cli-db", "--force"], ""), "aws.sm://cli-db deleted\n");
    shell.writes(&["delete", "aws.ps:///cli/url"], "");
    assert_eq!(shell.fails(&["exists", "aws.sm://cli-db"]).0, 1);
    for (arguments, code, expected) in [
        (&["create", "aws.sm://cli-made", "--value", CANARY][..], 6, "AlreadyExists"),
        (&["update", "aws.sm://cli-none", "--value", CANARY], 1, "NotFound"),
        (&["update", "aws.sm://cli-made#/x/y", "--value", CANARY], 1, "has no member \"x\""),
        (&["update", "aws.sm://cli-made#/x", "--json", "--value", CANARY], 5, "the value is no JSON"),
        (&["create", "aws.sm://cli-new", "--value", ""], 5, "keeps no empty values"),
        (&["create", "aws.sm://cli-new", "--value", CANARY, "--type", "String"], 5, ""),
        (&["create", "aws.sm://cli-new", "--value", CANARY, "--file", "x"], 2, "can't be used with"),
        (&["create", "aws.sm://cli-new", "--file", "/none"], 5, "/none can't be read"),
        (&["create", "aws.sm://cli-new", "--value", CANARY, "--tier", "none"], 2, "--tier <TIER>: one of Standard, Advanced, Intelligent-Tiering; see"),
        (&["delete", "aws.sm://cli-made", "--recovery-days", "90"], 2, "--recovery-days <DAYS>: a number of days from 7 to 30; see --help"),
        (&["delete", "aws.sm://cli-made", "--recovery-days", "abc"], 2, "--recovery-days <DAYS>: a number of days from 7 to 30; see --help"),
        (&["delete", "aws.ps:///none", "--recovery-days", "7"], 2, "for Secrets Manager alone"),
        (&["put", "aws.sm://cli-made", CANARY], 2, "an argument that is not known here; a value goes to standard input"),
        (&["put", "aws.sm://cli-made", "--tag", CANARY], 2, "a tag is NAME=VALUE"),
        (&[CANARY], 2, "there is no such command"),
        (&["put", "aws.sm://cli-made", "--value", CANARY, "--description", "new"], 5, "it is there with another description"),
        (&["wrap", "aws.sm://cli-made", "--ttl", "0s"], 2, "from 1s to 768h"),
        (&["delete", "aws.sm://cli-made#/a"], 5, "leave the keypath out"),
        (&["delete", "aws.sm://cli-none"], 1, "NotFound"),
        (&["restore", "aws.ps:///none"], 5, "Parameter Store can't restore what was deleted"),
        (&["wrap", "aws.sm://cli-made"], 5, "Secrets Manager can't wrap a value"),
        (&["update", "aws.ps:///aws/reference/secretsmanager/cli-made", "--value", CANARY], 5, "write that by its own reference"),
    ] {
        let (ended, said) = shell.fails(arguments);
        assert_eq!(ended, code, "{arguments:?}: {said}");
        says(&said, expected);
    }
    assert_eq!(shell.fails(&["exists", "aws.sm://cli-new"]).0, 1, "nothing was made");
}

#[test]
fn a_member_is_changed_while_others_change_theirs_and_no_change_is_lost() {
    let moto = moto();
    let vault = Vault::start().unwrap();
    vault.token("s.token", "root", vec![("kv/".to_owned(), ["read", "create", "update"].map(str::to_owned).to_vec())], None);
    vault.mount("kv");
    let mut shell = Shell::of_aws(moto.url());
    shell.0.extend([("VAULT_ADDR", vault.url()), ("VAULT_TOKEN", "s.token".to_owned())]);
    for store in SHARED {
        shell.writes(&["create", store], "{}");
    }
    let names: Vec<String> = (0..4).map(|i| format!("m{i}")).collect();
    let change = |store: &str, name: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_robotosecret"));
        command.env_clear().envs(shell.0.iter().map(|(name, value)| (name, value)));
        command.args(["update", &format!("{store}#/{name}"), "--value", name]).output().unwrap()
    };
    let failed: Vec<String> = std::thread::scope(|threads| {
        let change = &change;
        let pairs = names.iter().flat_map(|name| SHARED.map(|store| (store, name)));
        let running: Vec<_> = pairs.map(|(store, name)| threads.spawn(move || (store, change(store, name)))).collect();
        let ended = running.into_iter().map(|thread| thread.join().unwrap());
        ended.filter(|(_, output)| !output.status.success()).map(|(store, output)| format!("{store} {}", String::from_utf8_lossy(&output.stderr))).collect()
    });
    assert_eq!(failed, Vec::<String>::new());
    let now = |store: &str| if store.starts_with("aws.sm") { format!("{store}?version-stage=AWSCURRENT") } else { store.to_owned() };
    for store in SHARED {
        let all: std::collections::BTreeMap<String, String> = serde_json::from_str(&shell.prints(&["get", &now(store)])).unwrap();
        assert_eq!(all.into_keys().collect::<Vec<_>>(), names, "{store}");
    }
}

#[test]
fn every_store_is_written_as_its_environment_says() {
    let emulator = Emulator::start().unwrap();
    let (vault, envase) = (Vault::start().unwrap(), Envase::start().unwrap());
    let roboto = Roboto::start(&emulator, 2).unwrap();
    let all = ["read", "list", "create", "update", "delete"].map(str::to_owned).to_vec();
    vault.token("s.token", "root", vec![("kv/".to_owned(), all.clone()), ("secret/".to_owned(), all)], None);
    vault.mount("kv");
    vault.mount("secret");
    roboto.key("robo_key", &["org_1"]);
    envase.token("token");
    let mut shell = Shell::of_aws(&emulator.url());
    shell.0.extend([
        ("VAULT_ADDR", vault.url()),
        ("VAULT_TOKEN", "s.token".to_owned()),
        ("EDGE_ORGANIZATION", "shop".to_owned()),
        ("ROBOTO_API_KEY", "robo_key".to_owned()),
        ("ROBOTO_SERVICE_ENDPOINT", roboto.url()),
        ("ENVASE_BASE_URL", envase.base_url()),
        ("ENVASE_TOKEN", "token".to_owned()),
    ]);
    let value = |store: &str, number: u32| if store.starts_with("roboto") { format!("value {number}") } else { json!({"n": number}).to_string() };
    for reference in ["vault://kv/db", "edge://org/db", "roboto-secret://db", "envase://db", "envase://db@org-1"] {
        assert_eq!(shell.fails(&["update", reference, "--value", &value(reference, 1)]).0, 1, "{reference}");
        shell.writes(&["create", reference], &value(reference, 1));
        let (code, said) = shell.fails(&["create", reference, "--value", &value(reference, 2)]);
        assert_eq!(code, 6, "{reference}: {said}");
        assert_eq!(shell.prints(&["get", reference]), value(reference, 1));
        shell.writes(&["put", reference], &value(reference, 3));
        assert_eq!(shell.prints(&["get", reference]), value(reference, 3));
        says(&shell.prints(&["describe", reference]), "arn: ");
        if reference.starts_with("vault") || reference.starts_with("edge") {
            let tagged = format!("{reference}-tagged");
            shell.writes(&["create", &tagged, "--tag", "team=shop"], &value(reference, 1));
            let described: Value = serde_json::from_str(&shell.prints(&["describe", &tagged, "-o", "json"])).unwrap();
            assert_eq!((&described["tags"], &described["version"]), (&json!({"team": "shop"}), &json!("1")));
            shell.writes(&["put", &tagged, "--tag", "team=shop"], &value(reference, 2));
            assert_eq!(shell.fails(&["put", &tagged, "--tag", "team=other", "--value", &value(reference, 3)]).0, 5);
        }
        if reference.starts_with("envase") {
            let described = format!("{reference}-described");
            shell.writes(&["create", &described, "--description", "first"], &value(reference, 1));
            shell.writes(&["update", &described], &value(reference, 2));
            shell.writes(&["put", &described, "--description", "first"], &value(reference, 3));
            let told: Value = serde_json::from_str(&shell.prints(&["describe", &described, "-o", "json"])).unwrap();
            assert_eq!((&told["description"], shell.prints(&["get", &described])), (&json!("first"), value(reference, 3)));
        }
        let (code, said) = shell.fails(&["create", &format!("{reference}x"), "--value", &value(reference, 1), "--kms-key", "k"]);
        assert_eq!(code, 5, "{reference}: {said}");
        assert_eq!(shell.fails(&["update", &format!("{reference}?version=1"), "--value", "{}"]).0, if reference.starts_with("vault") { 5 } else { 2 });
        if !reference.starts_with("roboto") {
            let (code, said) = shell.fails(&["create", &format!("{reference}x"), "--value", "no JSON"]);
            assert_eq!(code, 5, "{reference}: {said}");
            says(&said, "and this is none");
        }
        shell.writes(&["delete", reference], "");
        assert_eq!(shell.fails(&["exists", reference]).0, 1, "{reference}");
    }
    // In Vault a version that was deleted can be had back, or gone for good.
    let deleted = "vault://kv/db: its current version was deleted; restore it (Vault's undelete), or put another";
    for arguments in [&["get", "vault://kv/db"][..], &["update", "vault://kv/db", "--value", "{}"], &["update", "vault://kv/db#/n", "--value", "1"]] {
        assert_eq!(shell.fails(arguments), (1, format!("robotosecret: {deleted}\n")), "{arguments:?}");
    }
    shell.writes(&["restore", "vault://kv/db"], "");
    assert_eq!(shell.prints(&["get", "vault://kv/db"]), value("vault", 3));
    shell.writes(&["delete", "vault://kv/db"], "");
    shell.writes(&["create", "vault://kv/db"], &value("vault", 4));
    assert_eq!(shell.prints(&["get", "vault://kv/db#/n"]), "4", "where something was deleted, something can be made");
    shell.writes(&["delete", "vault://kv/db", "--force"], "");
    assert_eq!(shell.fails(&["restore", "vault://kv/db"]).0, 1);
    // One member, where the store compares versions.
    shell.writes(&["put", "edge://org/m#/a"], "x");
    shell.writes(&["update", "edge://org/m#/b"], "y");
    assert_eq!(shell.prints(&["get", "edge://org/m"]), r#"{"a":"x","b":"y"}"#);
    shell.writes(&["create", "envase://m"], "{}");
    let (code, said) = shell.fails(&["update", "envase://m#/a", "--value", "x"]);
    assert_eq!(code, 5);
    says(&said, "Envase can't compare");
    // A token for one look.
    let wrapped: Value = serde_json::from_str(&shell.prints(&["wrap", "edge://org/m", "--ttl", "1m"])).unwrap();
    assert_eq!((&wrapped["ttl"], &wrapped["unwrap_url"]), (&json!(60), &json!(format!("{}/v1/sys/wrapping/unwrap", vault.url()))));
}
