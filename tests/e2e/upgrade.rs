//! From the previous version to this one, back, again, away and anew. No Secret may be touched by any of it, no burst of calls may reach the
//! store, and what helm takes away must leave resources and Secrets where they are.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::stage::{SOON, Stage, chart, heading, step, wait};
use crate::{image, previous};

const NAMESPACE: &str = "upgrade";

/// How many resources there are.
const RESOURCES: usize = 50;

/// How many calls a new controller may make. It needs none before something is due (docs/operating.md); these are for the resource that is
/// made to see that it works, for a look again after a change, and for reading everything once in batches of 20, but not one by one.
const CALLS: u64 = RESOURCES as u64 / 20 + 4;

/// How long nothing may happen after a new controller works.
const WATCHED_FOR: Duration = Duration::from_secs(15);

pub fn play(stage: &mut Stage) -> Result<()> {
    heading("upgrade, rollback, uninstall, reinstall");
    let previous = previous::folder()?;
    let previous_chart = previous::chart(&previous)?;
    step("everything of other scenes goes: release, CRDs, and resources and Secrets with them", || {
        stage.remove_release()?;
        remove_crds(stage)
    })?;
    step("helm install of the previous version", || stage.install(&previous_chart, image::PREVIOUS, &[]))?;
    stage.namespace(NAMESPACE)?;
    stage.provide()?;
    step(&format!("{RESOURCES} resources are mirrored"), || {
        let mut resources = Vec::new();
        for number in 0..RESOURCES {
            let source = format!("prod/upgrade/{number}");
            stage.put(&source, &format!("value of {number}"))?;
            resources.push(resource(&format!("r{number}"), &source));
        }
        stage.apply(&json!({"apiVersion": "v1", "kind": "List", "items": resources}))?;
        wait("all Secrets", SOON, || Ok((secrets(stage)?.len() == RESOURCES).then_some(())))?;
        wait("all resources to be Ready", SOON, || Ok((ready(stage)? == RESOURCES).then_some(())))
    })?;
    let before = secrets(stage)?;

    let mut probes = Probes { stage, before, made: 0 };
    probes.untouched("helm upgrade to this version", || stage.upgrade_current(&[]))?;
    probes.untouched("helm rollback", || stage.rollback())?;
    probes.untouched("helm upgrade again", || stage.upgrade_current(&[]))?;
    step("helm uninstall: CRDs, resources and Secrets stay", || {
        stage.uninstall()?;
        ensure!(stage.controllers()?.is_empty(), "a controller is still there");
        let names = stage.crds()?;
        ensure!(names.len() >= 2, "CRDs went with the release: {names:?}");
        ensure!(stage.list(&["rsec", "--namespace", NAMESPACE])?.len() >= RESOURCES, "resources went with the release");
        probes.check()
    })?;
    let resources = versions(stage, "rsec")?;
    probes.untouched("helm install again, which takes everything up as it is", || stage.install(&chart()?, image::CURRENT, &[]))?;
    // Not even a status was written.
    let now = versions(stage, "rsec")?;
    ensure!(resources.iter().all(|(name, version)| now.get(name) == Some(version)), "resources were written to after the reinstall");
    step("a rotation arrives", || {
        stage.put("prod/upgrade/7", "another value")?;
        stage.kubectl(&["annotate", "rsec", "r7", "--namespace", NAMESPACE, "--overwrite", "robotosecret.dev/refresh=now"])?;
        wait("the Secret r7 with another value", SOON, || Ok((secrets(stage)?.get("r7") != probes.before.get("r7")).then_some(())))
    })
}

fn resource(name: &str, source: &str) -> Value {
    json!({
        "apiVersion": "robotosecret.dev/v1alpha1", "kind": "RobotoSecret", "metadata": {"namespace": NAMESPACE, "name": name},
        "spec": {"uri": format!("aws.sm://{source}")},
    })
}

/// Looks after each step whether the Secrets are what they were.
struct Probes<'s> {
    stage: &'s Stage,
    before: BTreeMap<String, String>,
    /// How many resources were made to see that a controller works.
    made: usize,
}

impl Probes<'_> {
    /// Puts another controller in place; then a new resource shows that it works, and no Secret has changed and hardly a call was made.
    fn untouched(&mut self, what: &str, change: impl FnOnce() -> Result<()>) -> Result<()> {
        let calls = self.stage.calls();
        step(what, change)?;
        self.made += 1;
        let name = format!("probe-{}", self.made);
        step("  then a new resource is mirrored, no other Secret is touched, and the store is left alone", || {
            self.stage.apply(&resource(&name, "prod/upgrade/0"))?;
            wait("the new resource's Secret", SOON, || Ok(versions(self.stage, "secrets")?.contains_key(&name).then_some(())))?;
            // What must not happen has no sign that it didn't.
            std::thread::sleep(WATCHED_FOR);
            self.check()?;
            Ok(())
        })?;
        let made = self.stage.calls() - calls;
        println!("            calls to the store: {made}");
        ensure!(made <= CALLS, "{made} calls were made, and {CALLS} are the limit");
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let now = secrets(self.stage)?;
        let touched: Vec<&String> = self.before.iter().filter(|(name, version)| now.get(*name) != Some(*version)).map(|(name, _)| name).collect();
        ensure!(touched.is_empty(), "{} Secrets were touched, {:?} among them", touched.len(), touched.first());
        let ready = ready(self.stage)?;
        ensure!(ready >= RESOURCES, "only {ready} resources are Ready");
        Ok(())
    }
}

/// uid and resourceVersion of each mirrored Secret, but those of probes.
fn secrets(stage: &Stage) -> Result<BTreeMap<String, String>> {
    let mut all = versions(stage, "secrets")?;
    all.retain(|name, _| !name.starts_with("probe-"));
    Ok(all)
}

/// uid and resourceVersion of each object of a kind.
fn versions(stage: &Stage, kind: &str) -> Result<BTreeMap<String, String>> {
    let objects = stage.list(&[kind, "--namespace", NAMESPACE])?;
    let version = |metadata: &Value| Some((metadata["name"].as_str()?.to_owned(), format!("{} {}", metadata["uid"], metadata["resourceVersion"])));
    objects.iter().map(|object| version(&object["metadata"]).context("an object without a name")).collect()
}

/// How many resources are Ready.
fn ready(stage: &Stage) -> Result<usize> {
    let resources = stage.list(&["rsec", "--namespace", NAMESPACE])?;
    let is_ready = |resource: &&Value| {
        let conditions = resource["status"]["conditions"].as_array();
        conditions.is_some_and(|conditions| conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True"))
    };
    Ok(resources.iter().filter(is_ready).count())
}

fn remove_crds(stage: &Stage) -> Result<()> {
    let names = stage.crds()?;
    if names.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    stage.kubectl(&[&["delete", "crd", "--timeout=120s"], &names[..]].concat())?;
    Ok(())
}
