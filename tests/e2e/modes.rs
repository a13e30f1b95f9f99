//! Other ways to install it: each shows that a pod prints a mirrored value, and that a rotation arrives.

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use crate::first::mirrored_and_read;
use crate::stage::{RELEASE, ROTATED_WITHIN, SYSTEM, Stage, heading, step};

pub fn play(stage: &mut Stage) -> Result<()> {
    mode(stage, "confined", &["confined=true"])?;
    step("the controller may read no Secret", || {
        for verb in ["get", "list", "watch"] {
            ensure!(!may(stage, verb, "confined")?, "it may {verb} Secrets");
        }
        Ok(())
    })?;

    mode(stage, "namespaces", &["rbac.scope=namespaces", "rbac.namespaces={namespaces}"])?;
    step("the controller may write no Secret elsewhere", || {
        ensure!(may(stage, "patch", "namespaces")? && !may(stage, "patch", "confined")?, "its rights aren't those of one namespace");
        Ok(())
    })?;

    mode(stage, "admission-policy", &["admissionPolicy.enabled=true"])?;
    step("with the controller's account, a Secret that isn't ours can't be patched, which would show it", || {
        let foreign =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "admission-policy", "name": "foreign"}, "stringData": {"key": "theirs"}});
        stage.apply(&foreign)?;
        let patch = ["patch", "secret", "foreign", "--namespace=admission-policy", "--patch={}", "--dry-run=server"];
        let refused = stage.kubectl(&[&patch[..], &["--as", &account()]].concat());
        // An administrator may: the patch itself is right.
        stage.kubectl(&patch)?;
        let error = refused.err().context("it can be patched")?;
        ensure!(format!("{error:#}").contains("robotosecret may change only Secrets"), "it is refused for another reason: {error:#}");
        Ok(())
    })?;

    mode(stage, "network-policy", &["networkPolicy.enabled=true"])?;
    // The node's network doesn't enforce it.
    let policies = stage.list(&["networkpolicies", "--namespace", SYSTEM])?;
    ensure!(!policies.is_empty(), "there is no NetworkPolicy");
    step("no value in logs, events or resources", || stage.check_leaks())
}

/// Installs it like this, and uses it in a namespace of the mode's name.
fn mode(stage: &mut Stage, name: &str, set: &[&str]) -> Result<()> {
    heading(&format!("helm install --set {}", set.join(" --set ")));
    stage.namespace(name)?;
    step("helm install", || stage.reinstall(set))?;
    mirrored_and_read(stage, name)?;
    stage.rotate()?;
    step("a rotation arrives", || stage.wait_newest(name, "bigdb", ROTATED_WITHIN))
}

/// Who the controller is for the API server.
fn account() -> String {
    format!("system:serviceaccount:{SYSTEM}:{RELEASE}")
}

/// Whether the controller has a right on the Secrets of a namespace.
fn may(stage: &Stage, verb: &str, namespace: &str) -> Result<bool> {
    // Says it with its exit status, too.
    let output = stage.node.plane().kubectl().args(["auth", "can-i", verb, "secrets", "--namespace", namespace, "--as", &account()]).output()?;
    match String::from_utf8_lossy(&output.stdout).trim() {
        "yes" => Ok(true),
        "no" => Ok(false),
        other => bail!("can-i answered {other:?}"),
    }
}
