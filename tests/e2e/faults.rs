//! What fails under the pods' feet: controllers, kubelet, API server, database, store. The pods and a watch must never see a value that is
//! missing or wrong, and afterwards a rotation must still arrive.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use testbed::process::Signal;

use crate::reader::Reader;
use crate::stage::{IN_VOLUME_WITHIN, RELEASE, ROTATED_WITHIN, SOON, SYSTEM, Stage, heading, step, wait};
use crate::watch::Watch;

const NAMESPACE: &str = "faults";

/// How long the database stands still.
const ETCD_PAUSE: Duration = Duration::from_secs(10);
/// How long the store is away.
const STORE_AWAY: Duration = Duration::from_secs(60);

/// After a leader was killed, due work goes on within this time.
const KILLED_LEADER: Duration = Duration::from_secs(20);
/// After a leader was asked to go, well before its lease would have run out (10 s).
const STOPPED_LEADER: Duration = Duration::from_secs(8);

pub fn play(stage: &mut Stage) -> Result<()> {
    heading("what fails under the pods' feet");
    step("helm install", || stage.reinstall(&[]))?;
    stage.namespace(NAMESPACE)?;
    stage.provide()?;
    let reader = Reader::of(NAMESPACE, "bigdb");
    step("a Secret, a pod that reads it all the time, and a watch", || {
        stage.mirror(NAMESPACE, "bigdb", &json!({}))?;
        stage.wait_newest(NAMESPACE, "bigdb", SOON)?;
        reader.deploy(stage)?;
        reader.wait_newest(stage, "file", SOON)
    })?;
    let watch = Watch::start(stage, NAMESPACE, "bigdb")?;

    step("the controller's pod is deleted by force", || {
        let pod = only_controller(stage)?;
        stage.check_leaks()?;
        stage.kubectl(&["delete", "pod", &pod, "--namespace", SYSTEM, "--force", "--grace-period=0"])?;
        stage.wait_controller()
    })?;
    still_works(stage, &watch)?;

    step("the controller's process is killed with signal 9", || {
        let pod = only_controller(stage)?;
        kill(&pod)?;
        wait("a container in its place", SOON, || {
            let status = stage.get(SYSTEM, "pod", &pod)?.context("the pod is gone")?["status"]["containerStatuses"][0].clone();
            Ok((status["restartCount"] == 1 && status["ready"] == true).then_some(()))
        })
    })?;
    still_works(stage, &watch)?;

    step("the kubelet is killed and started again", || stage.node.restart_kubelet())?;
    still_works(stage, &watch)?;

    step("the API server is killed and started again", || stage.node.restart_api_server())?;
    still_works(stage, &watch)?;

    step("etcd stands still for 10 s", || {
        stage.node.plane().etcd().signal(Signal::Stop)?;
        std::thread::sleep(ETCD_PAUSE);
        stage.node.plane().etcd().signal(Signal::Cont)
    })?;
    still_works(stage, &watch)?;

    let late = Reader { secret: "bigdb", ..Reader::of(NAMESPACE, "late") };
    step("the store is away for a minute, in which a new pod starts and reads", || {
        stage.front.down()?;
        let end = Instant::now() + STORE_AWAY;
        late.deploy(stage)?;
        late.wait_newest(stage, "env", SOON)?;
        late.wait_newest(stage, "file", SOON)?;
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
        stage.front.up()
    })?;
    still_works(stage, &watch)?;

    step("the last rotation is in the volumes, and nothing was ever missing or wrong in them", || {
        reader.wait_newest(stage, "file", IN_VOLUME_WITHIN)?;
        late.wait_newest(stage, "file", IN_VOLUME_WITHIN)
    })?;
    leaders(stage)?;
    watch.check(stage)?;
    step("no value in logs, events or resources", || stage.check_leaks())?;
    stage.forget(NAMESPACE)
}

/// A rotation arrives, and up to it nothing wrong was seen.
fn still_works(stage: &mut Stage, watch: &Watch) -> Result<()> {
    stage.rotate()?;
    step("  then a rotation arrives", || {
        stage.wait_newest(NAMESPACE, "bigdb", ROTATED_WITHIN)?;
        wait("the watch", SOON, || watch.check(stage).map(Some))?;
        Reader::of(NAMESPACE, "bigdb").read(stage)?;
        Ok(())
    })
}

/// Of two controllers the one that works is killed, and asked to go; a new resource shows when the other one works.
fn leaders(stage: &Stage) -> Result<()> {
    step("helm upgrade --set replicas=2", || {
        stage.upgrade_current(&["replicas=2"])?;
        ensure!(stage.controllers()?.len() == 2, "there aren't two controllers");
        Ok(())
    })?;
    let leader = leader(stage)?;
    kill(&leader)?;
    let took = mirrored_anew(stage, "after-kill", KILLED_LEADER)?;
    println!("  {took:>6.1} s  until a new resource is mirrored after the leader was killed with signal 9");
    stage.wait_controller()?;

    let leader = self::leader(stage)?;
    stage.check_leaks()?;
    stage.kubectl(&["delete", "pod", &leader, "--namespace", SYSTEM, "--wait=false"])?;
    let took = mirrored_anew(stage, "after-stop", STOPPED_LEADER)?;
    println!("  {took:>6.1} s  until a new resource is mirrored after the leader was asked to go");
    stage.wait_controller()
}

/// The pod that holds the lease.
fn leader(stage: &Stage) -> Result<String> {
    wait("a leader", SOON, || {
        let leases = stage.list(&["leases", "--namespace", SYSTEM])?;
        let holders: Vec<&str> = leases.iter().filter_map(|lease| lease["spec"]["holderIdentity"].as_str()).collect();
        Ok(stage.controllers()?.into_iter().find(|pod| holders.iter().any(|holder| holder.starts_with(pod.as_str()))))
    })
}

/// Makes a resource; how long it takes until its Secret is there, in seconds.
fn mirrored_anew(stage: &Stage, name: &str, within: Duration) -> Result<f32> {
    let started = Instant::now();
    stage.mirror(NAMESPACE, name, &json!({}))?;
    stage.wait_newest(NAMESPACE, name, within)?;
    Ok(started.elapsed().as_secs_f32())
}

fn only_controller(stage: &Stage) -> Result<String> {
    let pods = stage.controllers()?;
    ensure!(pods.len() == 1, "one controller is expected, not {pods:?}");
    pods.into_iter().next().context("a pod")
}

/// Kills the process of a controller's pod, which says in its environment whose it is.
fn kill(pod: &str) -> Result<()> {
    let named = format!("POD_NAME={pod}");
    for entry in fs::read_dir("/proc")? {
        let folder = entry?.path();
        let (Ok(arguments), Ok(environment)) = (fs::read(folder.join("cmdline")), fs::read(folder.join("environ"))) else { continue };
        if arguments.starts_with(b"/robotosecret\0") && environment.split(|byte| *byte == 0).any(|variable| variable == named.as_bytes()) {
            let pid = folder.file_name().context("a pid")?.to_string_lossy().into_owned();
            crate::stage::output(std::process::Command::new("kill").args(["-s", "KILL", &pid]))?;
            return Ok(());
        }
    }
    anyhow::bail!("there is no process of the pod {pod} of {RELEASE}")
}
