//! The double of Vault, driven by hvac, the client that everybody uses with Python: what it understands and which exceptions it raises.

use std::process::Command;
use std::time::Duration;

use serde_json::json;
use testbed::{Vault, vault::hcl};

/// Prints one line for each thing that is tried: its name, and what came or the exception's.
const SCRIPT: &str = r#"
import base64, json, sys
import hvac

url = sys.argv[1]
kv = {"mount_point": "kv"}

def client(token=None, **more):
    return hvac.Client(url=url, token=token, **more)

def attempt(name, what):
    try:
        print(name, json.dumps(what(), sort_keys=True))
    except hvac.exceptions.VaultError as error:
        print(name, type(error).__name__)

root = client("s.root")
v2 = root.secrets.kv.v2
read = lambda path, **more: v2.read_secret_version(path=path, raise_on_deleted_version=True, **kv, **more)["data"]
attempt("newest", lambda: read("shop/db")["data"])
attempt("number", lambda: read("shop/db")["metadata"]["version"])
attempt("first", lambda: read("shop/db", version=1)["data"])
attempt("no-version", lambda: read("shop/db", version=9))
attempt("missing", lambda: read("shop/none"))
attempt("deleted", lambda: read("shop/deleted"))
attempt("list", lambda: v2.list_secrets(path="shop", **kv)["data"]["keys"])
attempt("empty", lambda: v2.list_secrets(path="shop/none", **kv))
attempt("no-mount", lambda: v2.read_secret_version(path="x", mount_point="nothing", raise_on_deleted_version=True))
attempt("v1", lambda: root.secrets.kv.v1.read_secret(path="shop/db", mount_point="old")["data"])
attempt("space", lambda: client("s.root", namespace="teams").secrets.kv.v2.read_secret_version(path="db", raise_on_deleted_version=True, **kv)["data"]["data"])
attempt("denied", lambda: client("s.narrow").secrets.kv.v2.read_secret_version(path="shop/db", raise_on_deleted_version=True, **kv))
attempt("bad-token", lambda: client("s.none").lookup_token())
attempt("self", lambda: root.auth.token.lookup_self()["data"]["display_name"])
attempt("renewed", lambda: client("s.narrow").auth.token.renew_self()["auth"]["lease_duration"])
role = client()
attempt("approle", lambda: role.auth.approle.login(role_id="r", secret_id="s")["auth"]["lease_duration"])
attempt("as-approle", lambda: role.auth.token.lookup_self()["data"]["display_name"])
attempt("wrong-secret", lambda: client().auth.approle.login(role_id="r", secret_id="x"))
claims = base64.urlsafe_b64encode(json.dumps({"sub": "system:serviceaccount:shop:reader", "aud": ["vault"]}).encode()).decode().rstrip("=")
pod = client()
attempt("kubernetes", lambda: hvac.api.auth_methods.Kubernetes(pod.adapter).login(role="shop", jwt=f"h.{claims}.s")["auth"]["lease_duration"])
attempt("no-role", lambda: hvac.api.auth_methods.Kubernetes(client().adapter).login(role="none", jwt=f"h.{claims}.s"))
"#;

#[test]
fn hvac_understands_the_double() {
    let vault = Vault::start().unwrap();
    let hour = Duration::from_secs(3600);
    let all =
        || hcl(r#"path "kv/*" { capabilities = ["read", "list"] } path "old/*" { capabilities = ["read"] } path "nothing/*" { capabilities = ["read"] }"#, "");
    vault.token("s.root", "root", all(), None);
    vault.token("s.narrow", "narrow", hcl(r#"path "kv/data/other/*" { capabilities = ["read"] }"#, ""), Some(hour));
    vault.app_role("r", "s", all(), hour);
    vault.role("shop", "shop:reader", "vault", all(), hour);
    vault.put("", "kv/shop/db", &json!({"a": "one"}));
    vault.put("", "kv/shop/db", &json!({"a": "two"}));
    vault.put("", "kv/shop/deep/er", &json!({}));
    vault.put("", "kv/shop/deleted", &json!({}));
    vault.delete("", "kv/shop/deleted", false);
    vault.put("teams", "kv/db", &json!({"a": "theirs"}));
    vault.put_plain("", "old/shop/db", &json!({"a": "old"}));
    let python = testbed::moto::python().unwrap();
    let output = Command::new(python).args(["-c", SCRIPT, &vault.url()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let expected = r#"newest {"a": "two"}
number 2
first {"a": "one"}
no-version InvalidPath
missing InvalidPath
deleted InvalidPath
list ["db", "deep/", "deleted"]
empty InvalidPath
no-mount InvalidPath
v1 {"a": "old"}
space {"a": "theirs"}
denied Forbidden
bad-token Forbidden
self "root"
renewed 3600
approle 3600
as-approle "approle"
wrong-secret InvalidRequest
kubernetes 3600
no-role InvalidRequest
"#;
    assert_eq!(said, expected);
    assert!(vault.asked().iter().any(|asked| asked.namespace == "teams"));
    vault.fail(Some(503));
    assert_eq!(vault.asked().iter().filter(|asked| asked.who == "kubernetes-shop:reader").count(), 0, "nothing was read as that one");
}
