//! The user's path: `helm install`, `kubectl apply`, and a pod that prints the value; then a rotation, in a volume and as a restart.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::reader::Reader;
use crate::stage::{IN_VOLUME_WITHIN, RELEASE, ROTATED_WITHIN, SOON, SYSTEM, Stage, heading, step, wait};

/// What every way to install it must show first: a resource is applied, a pod prints the value as environment variable and from a file.
pub fn mirrored_and_read(stage: &Stage, namespace: &str) -> Result<()> {
    step("kubectl apply: a provider and a RobotoSecret; the Secret is there", || {
        stage.provide()?;
        stage.mirror(namespace, "bigdb", &json!({}))?;
        stage.wait_newest(namespace, "bigdb", SOON)
    })?;
    let reader = Reader::of(namespace, "bigdb");
    step("a pod starts and prints the value, as environment variable and as file", || {
        reader.deploy(stage)?;
        reader.wait_newest(stage, "env", SOON)?;
        reader.wait_newest(stage, "file", SOON)
    })
}

pub fn play(stage: &mut Stage) -> Result<()> {
    heading("install, apply, read");
    step("helm install, with default values but the image", || stage.reinstall(&[]))?;
    step("helm test", || stage.helm(&["test", RELEASE, "--namespace", SYSTEM, "--timeout=60s"]))?;
    stage.namespace("shop")?;
    mirrored_and_read(stage, "shop")?;

    let reader = Reader::of("shop", "bigdb");
    stage.rotate()?;
    step("a rotation at the source is in the Secret (ttl: 10s)", || stage.wait_newest("shop", "bigdb", ROTATED_WITHIN))?;
    step("and in the pod's volume, which the kubelet brings up to date", || reader.wait_newest(stage, "file", IN_VOLUME_WITHIN))?;
    let read = reader.read(stage)?;
    ensure!(read.iter().filter(|(how, _)| how == "env").count() == 1, "the pod was restarted, which nobody asked for");

    step("helm upgrade --set rollout.enabled=true", || stage.upgrade_current(&["rollout.enabled=true"]))?;
    let web = Reader::of("shop", "web");
    step("a RobotoSecret with `rollout`, and its Deployment", || {
        stage.mirror("shop", "web", &json!({"rollout": [{"kind": "Deployment", "name": "web"}]}))?;
        stage.wait_newest("shop", "web", SOON)?;
        web.deploy(stage)?;
        web.wait_newest(stage, "env", SOON)
    })?;
    let generation = |stage: &Stage| -> Result<i64> {
        let deployment = stage.get("shop", "deployment", "web")?;
        Ok(deployment.and_then(|deployment| deployment["metadata"]["generation"].as_i64()).unwrap_or_default())
    };
    let before = generation(stage)?;
    stage.rotate()?;
    step("a rotation restarts the Deployment, and the new pod prints the new value as environment variable", || {
        wait("a restart", ROTATED_WITHIN, || Ok((generation(stage)? > before).then_some(())))?;
        web.wait_rolled_out(stage)?;
        web.wait_newest(stage, "env", SOON)
    })?;
    ensure!(generation(stage)? == before + 1, "the Deployment was restarted more than once");
    step("no value in logs, events or resources", || stage.check_leaks())?;
    stage.forget("shop")
}
