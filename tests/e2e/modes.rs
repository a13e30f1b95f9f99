//! Other ways to install it: each shows that a pod prints a mirrored value, and that a rotation arrives.

use anyhow::{Result, ensure};

use crate::first::mirrored_and_read;
use crate::stage::{ROTATED_WITHIN, SYSTEM, Stage, heading, step};

pub fn play(stage: &mut Stage) -> Result<()> {
    mode(stage, "confined", &["confined=true"])?;
    mode(stage, "namespaces", &["rbac.scope=namespaces", "rbac.namespaces={namespaces}"])?;
    mode(stage, "admission-policy", &["admissionPolicy.enabled=true"])?;
    mode(stage, "network-policy", &["networkPolicy.enabled=true"])?;
    // This network doesn't enforce it.
    let policies = stage.list(&["networkpolicies", "--namespace", SYSTEM])?;
    ensure!(!policies.is_empty(), "there is no NetworkPolicy");
    Ok(())
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
