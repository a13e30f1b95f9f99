//! The command line as somebody types it: what it prints, what it says on failure, and how it ends, against every store.

use std::process::{Command, Output};

use serde_json::{Value, json};
use testbed::{Emulator, Envase, Roboto, Vault, aws};

use crate::support::says;

/// A value that may stand on standard output alone.
const CANARY: &str = "cAnArY-51c2";

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
    assert_eq!(
        shell.prints(&["get", "aws.sm://object", "-o", "env"]),
        "more=\"{\\\"a\\\":[1,2]}\"\nnote=\"it's \\$5\\n\\\"q\\\"\"\nport=\"3306.50\"\nuser=\"root\"\n"
    );
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
        (&["get"], 2, "<REFERENCE>"),
        (&["get", "aws.sm://denied"], 3, "grant it secretsmanager:GetSecretValue"),
        (&["exists", "aws.sm://denied"], 3, "grant it secretsmanager:GetSecretValue"),
        (&["get", "vault://kv/a"], 5, "VAULT_ADDR"),
        (&["get", "roboto-secret://a"], 5, "ROBOTO_API_KEY"),
        (&["get", "envase://a"], 5, "ENVASE_ENVIRONMENT"),
        (&["list", "envase://a"], 5, "Envase has no list of its secrets"),
        (&["list", "aws.ps://app"], 5, "a path in Parameter Store starts with a slash"),
        (&["list", "aws.sm"], 5, "write at least one of path, name and tags"),
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
    assert_eq!(shell.prints(&["get", "vault://kv/shop/db#/password"]), "of vault");
    assert_eq!(shell.prints(&["list", "vault://kv/shop"]), "vault://kv/shop/db\n");
    assert_eq!(shell.prints(&["get", "edge://org/db#/password"]), "of edge");
    assert_eq!(shell.prints(&["get", "roboto-secret://key"]), "of roboto");
    assert_eq!(shell.prints(&["list", "roboto-secret", "--name", "k"]), "roboto-secret://key\n");
    assert_eq!(shell.prints(&["get", "envase://key#/password"]), "of envase");
    assert_eq!(shell.fails(&["exists", "envase://none"]).0, 1);
}
