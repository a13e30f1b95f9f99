//! Python environments with packages in them. The name of a file of requirements beside this package enters, the interpreter that has them leaves. They live
//! in the cache, one for each content of the file. It installs nothing anywhere else.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache;
use crate::process::Spec;

/// What moto and the other packages need.
const PYTHON: (u32, u32) = (3, 11);

/// The interpreter of an environment with what `<name>.txt` pins: `<cache>/<name>-<hash of the file>/bin/python`. `what`: its packages in words, for whoever
/// waits while they are installed, which is once a machine and needs the network.
pub fn environment(name: &str, file: &str, what: &str) -> Result<PathBuf> {
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let folder = cache::root()?.join(format!("{name}-{}", cache::key(std::slice::from_ref(&requirements))?));
    let python = folder.join("bin/python");
    // The environment stands on the system's Python; one that was upgraded away leaves a link to nowhere.
    if folder.exists() && !python.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("removing {}, whose Python is gone", folder.display()))?;
    }
    cache::get_or_build(&folder, |temporary| {
        let system = system()?;
        let venv = Spec::new(system).name("venv").args(["-m", "venv"]).arg(temporary).remove_at_end(temporary);
        cache::run(&format!("making a Python environment for {name}"), venv)?;
        let pip = Spec::new(temporary.join("bin/python"))
            .name("pip")
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
            .arg(&requirements)
            .remove_at_end(temporary);
        cache::run(&format!("installing {what}"), pip)
    })?;
    Ok(python)
}

/// The first Python on `PATH` that is new enough and can make environments.
fn system() -> Result<&'static str> {
    let (major, minor) = PYTHON;
    let check = format!("import sys, venv, ensurepip; sys.exit(sys.version_info < ({major}, {minor}))");
    ["python3", "python3.14", "python3.13", "python3.12", "python3.11"]
        .into_iter()
        .find(|name| Command::new(name).args(["-c", &check]).output().is_ok_and(|output| output.status.success()))
        .with_context(|| format!("the tests need Python {major}.{minor} or newer with its venv module on PATH (Debian: apt install python3 python3-venv)"))
}
