//! The double of a Roboto platform, driven by the platform's own SDK: what it understands, which exceptions it raises, and which requests it makes.

use std::process::Command;

use serde_json::Value;
use testbed::{Emulator, Roboto, roboto};

/// Prints one line for each thing that is tried: its name, and what came or the exception's.
const SCRIPT: &str = r#"
import json

from roboto.domain.secrets import Secret

def attempt(name, what):
    try:
        print(name, json.dumps(what()))
    except Exception as error:
        print(name, type(error).__name__)

value = lambda secret: secret.read_value().get_secret_value()
attempt("create", lambda: Secret.create("api_key", caller_org_id="org_123").uri)
attempt("no-org", lambda: Secret.create("noorg").uri)
attempt("no-value", lambda: value(Secret.from_name("api_key")))
key = Secret.from_name("api_key", org_id="org_123")
attempt("update", lambda: value(key.update_value("v1")))
attempt("text", lambda: value(key.update_value('pä$$\n"日本"')))
attempt("json", lambda: value(key.update_value('{"k": 1}')))
attempt("initial", lambda: value(Secret.create("initial", caller_org_id="org_123", initial_value="super_secret")))
attempt("again", lambda: Secret.create("api_key", caller_org_id="org_123"))
attempt("bad-name", lambda: Secret.create("bad name!", caller_org_id="org_123"))
attempt("last", lambda: Secret.create("last", caller_org_id="org_123").uri)
attempt("list", lambda: [secret.name for secret in Secret.for_org("org_123")])
attempt("foreign", lambda: [secret.name for secret in Secret.for_org("org_456")])
attempt("uri", lambda: value(Secret.from_uri("roboto-secret://initial@org_123")))
attempt("fallback", lambda: value(Secret.from_uri("roboto-secret://initial", fallback_org_id="org_123")))
attempt("missing", lambda: Secret.from_name("missing", org_id="org_123"))
attempt("no-uri", lambda: Secret.from_uri("https://x/api_key"))
attempt("binary", lambda: value(Secret.from_name("binary", org_id="org_123")))
attempt("elsewhere", lambda: Secret.from_name("elsewhere", org_id="org_123"))
attempt("delete", lambda: Secret.from_name("last", org_id="org_123").delete())
attempt("deleted", lambda: Secret.from_name("last", org_id="org_123"))
"#;

#[test]
fn the_platforms_own_sdk_understands_the_double() {
    let emulator = Emulator::start().unwrap();
    let roboto = Roboto::start(&emulator, 2).unwrap();
    roboto.key("tok-org123", &["org_123"]);
    roboto.put_binary("org_123", "binary", &[0, 255]);
    roboto.put_elsewhere("org_123", "elsewhere");
    let python = testbed::moto::python().unwrap();
    let sdk = |script: &str, key: &str| {
        let output = Command::new(&python)
            .args(["-c", script])
            .env("ROBOTO_API_KEY", key)
            .env("ROBOTO_SERVICE_ENDPOINT", roboto.url())
            .env("AWS_ENDPOINT_URL_SECRETS_MANAGER", emulator.url())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let expected = r#"create "roboto-secret://api_key@org_123"
no-org "roboto-secret://noorg@org_123"
no-value ResourceNotFoundException
update "v1"
text "p\u00e4$$\n\"\u65e5\u672c\""
json "{\"k\": 1}"
initial "super_secret"
again RobotoConflictException
bad-name RobotoIllegalArgumentException
last "roboto-secret://last@org_123"
list ValidationError
foreign RobotoUnauthorizedException
uri "super_secret"
fallback "super_secret"
missing RobotoNotFoundException
no-uri ValueError
binary KeyError
elsewhere ValidationError
delete null
deleted RobotoNotFoundException
"#;
    assert_eq!(sdk(SCRIPT, "tok-org123"), expected);
}

#[test]
fn pages_requests_and_retries_are_as_the_sdk_makes_them() {
    let emulator = Emulator::start().unwrap();
    let roboto = Roboto::start(&emulator, 2).unwrap();
    roboto.key("tok", &["org_1"]);
    for name in ["d", "a", "c", "b"] {
        roboto.put("org_1", name, "value");
    }
    let python = testbed::moto::python().unwrap();
    let sdk = |script: &str, key: &str| {
        let script = format!("from roboto.domain.secrets import Secret\n{script}");
        let mut command = Command::new(&python);
        command.args(["-c", &script]).env("ROBOTO_API_KEY", key).env("ROBOTO_SERVICE_ENDPOINT", roboto.url());
        let output = command.env("AWS_ENDPOINT_URL_SECRETS_MANAGER", emulator.url()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().split(':').next().unwrap_or_default().to_owned();
        if output.status.success() { String::from_utf8(output.stdout).unwrap() } else { error }
    };
    assert_eq!(sdk("print([s.name for s in Secret.for_org('org_1')])", "tok"), "['d', 'a', 'c', 'b']\n");
    let asked = roboto.asked();
    assert_eq!(asked.iter().map(|asked| asked.path.as_str()).collect::<Vec<_>>(), ["/v1/secrets", "/v1/secrets?page_token=Mg"]);
    assert!(asked.iter().all(|asked| asked.org == "org_1" && asked.version == "2026-10-06"), "{asked:?}");
    let deny = sdk("Secret.from_name('a', org_id='org_1')", "unknown");
    assert!(deny.ends_with("RobotoAuthenticationFailureException"), "{deny}");
    let before = roboto.asked().len();
    roboto.fail(3, 503, &Value::Null);
    assert_eq!(sdk("print(Secret.from_name('a', org_id='org_1').name)", "tok"), "a\n");
    assert_eq!(roboto.asked().len() - before, 4);
    roboto.fail(1, 501, &roboto::refusal("RobotoInternalException", "m"));
    let once = sdk("Secret.from_name('a', org_id='org_1')", "tok");
    assert!(once.ends_with("RobotoInternalException"), "{once}");
    assert_eq!(roboto.asked().len() - before, 5, "501 is asked once");
}
