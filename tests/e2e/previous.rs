//! The version before this one: its chart and its binary, out of git. Nothing is released yet, so a commit stands for it. They are built
//! once a machine, into the testbed's cache. It must never touch this checkout nor its build folder.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use testbed::{cache, install, process::Spec};

use crate::outside::target;
use crate::stage::output;

/// What an upgrade starts from: the first commit that has a chart, until there is a release.
const COMMIT: &str = "9a0c67511dfeaf1169f5bb69d5e70b9c538af22c";

/// The folder of the previous version: `robotosecret`, its binary (not optimized: it is built in minutes), and `chart`. Builds it if it isn't
/// in the cache.
pub fn folder() -> Result<PathBuf> {
    let path = cache::root()?.join(format!("robotosecret-{COMMIT}"));
    cache::get_or_build(&path, |temporary| {
        let root = install::root()?;
        let known = Command::new("git").arg("-C").arg(&root).args(["cat-file", "-e", &format!("{COMMIT}^{{commit}}")]).stderr(Stdio::null()).status();
        if !known.context("running git")?.success() {
            bail!("the previous version, {COMMIT}, isn't in this repository: a shallow clone lacks it, and `git fetch --unshallow` brings it");
        }
        let source = temporary.join("source");
        std::fs::create_dir_all(&source)?;
        let archive = temporary.join("source.tar");
        output(Command::new("git").arg("-C").arg(&root).args(["archive", COMMIT, "--output"]).arg(&archive))?;
        output(Command::new("tar").arg("--extract").arg("--file").arg(&archive).arg("--directory").arg(&source))?;
        let build = Spec::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .name("cargo")
            .args(["build", "--locked", "--package", "robotosecret", "--bin", "robotosecret", "--target", &target()])
            .env("CARGO_TARGET_DIR", source.join("target"))
            .env("RUSTFLAGS", "-C target-feature=+crt-static -C strip=symbols")
            .current_dir(&source)
            .remove_at_end(temporary);
        cache::run(&format!("building the previous version of robotosecret, {} (once a machine, about 5 minutes)", &COMMIT[..7]), build)?;
        let built = source.join("target").join(target()).join("debug/robotosecret");
        std::fs::rename(&built, temporary.join("robotosecret")).with_context(|| format!("moving {}", built.display()))?;
        std::fs::rename(source.join("charts/robotosecret"), temporary.join("chart"))?;
        std::fs::remove_dir_all(&source)?;
        std::fs::remove_file(&archive)?;
        Ok(())
    })
}

/// As in [`folder`].
pub fn binary(folder: &Path) -> PathBuf {
    folder.join("robotosecret")
}

/// As in [`folder`].
pub fn chart(folder: &Path) -> Result<PathBuf> {
    let chart = folder.join("chart");
    ensure!(chart.join("Chart.yaml").is_file(), "{} is no chart", chart.display());
    Ok(chart)
}
