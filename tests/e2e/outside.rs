//! Outside of the namespaces: has everything built, makes the images, starts the second program and looks at what is left of it. A binary
//! enters, a verdict leaves. It must never leave anything on the host but what it says it installed or built; killed with signal 9 it leaves
//! a folder in /tmp and empty cgroups, and nothing that runs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use testbed::binaries::{self, Tool};
use testbed::interrupt::Interrupt;
use testbed::node::Cgroups;
use testbed::{Moto, TempFolder, cache, folder};

use crate::image::{self, Builder};
use crate::leftovers::Host;
use crate::stage::{heading, output, step};
use crate::{Run, Scene, previous};

/// After that long something hangs that has no deadline of its own.
const ENDS_WITHIN: Duration = Duration::from_mins(30);

/// For that long somebody may want to try things.
const HOLDS: Duration = Duration::from_hours(24);

/// How often the inner program is looked at.
const POLL: Duration = Duration::from_millis(100);

/// Goes through the doors of the cgroups, which stand before a "--", and becomes the command after it.
const JOIN: &str = r#"while [ "$1" != -- ]; do echo $$ >"$1"; shift; done; shift; exec "$@""#;

/// Process 1 of the namespace is a shell, since it has to wait for whatever is left without a parent.
const INIT: &str = r#""$@"; exit $?"#;

pub fn run(arguments: &Run) -> Result<()> {
    let started = Instant::now();
    heading("what has to be there");
    for tool in [Tool::Etcd, Tool::KubeApiserver, Tool::KubeControllerManager, Tool::KubeScheduler, Tool::Kubectl, Tool::Kubelet, Tool::KubeProxy, Tool::Helm] {
        binaries::find(tool)?;
    }
    let previous = previous::folder()?;
    let work = TempFolder::new("e2e")?;
    // Its first start installs it, for which the namespaces have no network.
    drop(Moto::start(&work.path().join("outside"))?);
    images(arguments, &previous, work.path())?;

    let host = Host::look()?;
    let cgroups = Cgroups::make(&format!("robotosecret-e2e-{}", folder::random_hex(4)?))?;
    let outcome = inside(arguments, &cgroups, work.path());
    heading("the end");
    if outcome.is_err() {
        keep_logs(work.path());
    }
    let path = work.path().to_owned();
    let clean = step("everything is gone: processes, mounts, interfaces, cgroups, files", || {
        // Else the check of cgroups would look at the wrong ones.
        ensure!(outcome.is_err() || cgroups.were_used(), "the containers had other cgroups than they were told");
        // Its mounts went with the namespaces, so this removes nothing but what is in it.
        std::fs::remove_dir_all(&path).context("removing the work folder")?;
        host.clean_up(&cgroups, &path)
    });
    match (outcome, clean) {
        (Ok(()), Ok(())) => {}
        (Err(error), Ok(())) | (Ok(()), Err(error)) => return Err(error),
        (Err(error), Err(unclean)) => bail!("{error:#}; and {unclean:#}"),
    }
    println!("\n== passed in {} s", started.elapsed().as_secs());
    Ok(())
}

/// The platform that this machine builds for.
pub fn target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

fn images(arguments: &Run, previous: &Path, work: &Path) -> Result<()> {
    ensure!(is_static(&arguments.binary)?, "{} isn't statically linked, and the image holds no library", arguments.binary.display());
    let builder = Builder::new(&work.join("images"))?;
    let size = step("the image: the Dockerfile's final stage over the binary; its user, labels, files and size", || {
        builder.ours(image::CURRENT, &arguments.binary)?;
        builder.check_ours(image::CURRENT, arguments.image_limit)
    })?;
    println!("            it holds {:.1} MB", image::megabytes(size));
    step("the images of the previous version and of the pods that read", || {
        builder.ours(image::PREVIOUS, &previous::binary(previous))?;
        builder.busybox()?;
        Ok(())
    })
}

/// Whether a program asks for no interpreter, and so for no library.
fn is_static(binary: &Path) -> Result<bool> {
    Ok(!output(Command::new("readelf").arg("--program-headers").arg(binary))?.contains("INTERP"))
}

/// Plays the scenes in namespaces of their own, which end with this process.
fn inside(arguments: &Run, cgroups: &Cgroups, work: &Path) -> Result<()> {
    let interrupt = Interrupt::install()?;
    let only: Vec<String> = arguments.only.iter().map(Scene::to_string).collect();
    for folder in ["tmp", "home"] {
        std::fs::create_dir_all(work.join(folder))?;
    }
    let mut child = Command::new("sh")
        .args(["-e", "-c", JOIN, "join"])
        .args(cgroups.doors())
        .args(["--", "unshare", "--net", "--mount", "--cgroup", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", INIT, "init"])
        .arg(std::env::current_exe()?)
        .args(["inside", "--cgroups", &cgroups.to_string(), "--only", &only.join(","), "--work"])
        .arg(work)
        .arg("--host-network")
        .arg(std::fs::read_link("/proc/self/ns/net")?)
        .env("ROBOTOSECRET_TESTBED_CACHE", cache::root()?)
        // Whatever wants to remember something does so in the folder that goes.
        .env("HOME", work.join("home"))
        .env("TMPDIR", work.join("tmp"))
        // Held, never written to: its end is the sign to end.
        .stdin(Stdio::piped())
        .spawn()
        .context("starting unshare")?;
    println!("To look into it meanwhile: nsenter --target {} --net bash", child.id());
    let end = Instant::now() + if arguments.only.contains(&Scene::Hold) { HOLDS } else { ENDS_WITHIN };
    loop {
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "the scenes ended with {status}");
            return Ok(());
        }
        let interrupted = interrupt.wait(POLL);
        if interrupted || Instant::now() > end {
            // Takes all processes of the namespaces along.
            child.kill()?;
            child.wait()?;
            if interrupted {
                bail!("interrupted");
            }
            bail!("not done within {} minutes", ENDS_WITHIN.as_secs() / 60);
        }
    }
}

/// The logs of what ran on the node, not those of pods, which hold values, are kept where cargo keeps what tests make.
fn keep_logs(work: &Path) {
    let kept = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("e2e-{}", std::process::id()));
    let copy = || -> Result<()> {
        std::fs::create_dir_all(&kept)?;
        for entry in std::fs::read_dir(work.join("logs"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                std::fs::copy(&path, kept.join(path.file_name().context("a name")?))?;
            }
        }
        Ok(())
    };
    match copy() {
        Ok(()) => println!("The logs of the node are kept in {}", kept.display()),
        Err(error) => println!("The logs could not be kept: {error:#}"),
    }
}
