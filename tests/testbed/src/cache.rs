//! The folder of this user in which things are kept that take minutes to build. A key and a way to build enter, a finished
//! path leaves. It must never hold anything half built under its final name, also when two test runs start at once or one
//! of them is killed: what is built has a temporary name, under a lock, until it is complete.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ring::digest::{SHA256, digest};

use crate::folder::{hex, random_hex};
use crate::process::Spec;

/// How often a build that goes on says so.
const PROGRESS: Duration = Duration::from_secs(20);

/// `$ROBOTOSECRET_TESTBED_CACHE`, else `$XDG_CACHE_HOME/robotosecret-testbed`, else `~/.cache/robotosecret-testbed`.
pub fn root() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("ROBOTOSECRET_TESTBED_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("robotosecret-testbed")))
        .or_else(|| set("HOME").map(|dir| dir.join(".cache/robotosecret-testbed")))
        .context("none of ROBOTOSECRET_TESTBED_CACHE, XDG_CACHE_HOME and HOME says where to keep what is built")
}

/// The first 12 hex digits of the SHA-256 of the files' contents, one after the other.
pub fn key(files: &[PathBuf]) -> Result<String> {
    let mut contents = Vec::new();
    for file in files {
        contents.extend(std::fs::read(file).with_context(|| format!("reading {}", file.display()))?);
    }
    Ok(hex(&digest(&SHA256, &contents).as_ref()[..6]))
}

/// Returns `path` (within [`root`]); makes it first if it isn't there. `build` gets a temporary path beside it to fill,
/// a file or a folder, that is then renamed. Blocks while another process builds.
pub fn get_or_build(path: &Path, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    if path.exists() {
        return Ok(path.to_owned());
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { bail!("{} is no path to build at", path.display()) };
    std::fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    let _lock = lock()?;
    // Built while we waited for the lock.
    if path.exists() {
        return Ok(path.to_owned());
    }
    let temporary = parent.join(format!(".{}.{}", name.to_string_lossy(), random_hex(4)?));
    let outcome = build(&temporary).and_then(|()| std::fs::rename(&temporary, path).with_context(|| format!("renaming {}", temporary.display())));
    if outcome.is_err() {
        let _ = std::fs::remove_dir_all(&temporary).or_else(|_| std::fs::remove_file(&temporary));
    }
    outcome.map(|()| path.to_owned())
}

/// Runs one step of a build to its end and tells how long it takes on standard error: "building etcd 3.7.0 (once a machine,
/// about a minute)… 40 s". The output is shown if it fails.
pub fn run(what: &str, step: Spec) -> Result<()> {
    let logs = crate::TempFolder::new("build")?;
    let started = Instant::now();
    eprintln!("testbed: {what}…");
    let process = step.start(logs.path())?;
    loop {
        match process.wait_exit(PROGRESS) {
            Ok(0) => break,
            Ok(code) => bail!("{what}: exit code {code}; {}", process.log_tail()),
            Err(error) if !process.is_running() => return Err(error),
            Err(_) => eprintln!("testbed: {what}… {} s", started.elapsed().as_secs()),
        }
    }
    eprintln!("testbed: {what}: done in {} s", started.elapsed().as_secs());
    Ok(())
}

/// One lock for the whole cache: builds use all cores anyway. The system releases it when its holder ends.
fn lock() -> Result<File> {
    let path = root()?.join("lock");
    let file = File::options().create(true).append(true).open(&path).with_context(|| format!("opening {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("testbed: another process is building; waiting for it ({})", path.display());
            file.lock().with_context(|| format!("locking {}", path.display()))?;
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("locking {}", path.display())),
    }
    Ok(file)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn many_ask_at_once_and_one_builds() {
        let path = root().unwrap().join("tests").join(random_hex(8).unwrap());
        let builds = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let built = get_or_build(&path, |temporary| {
                        builds.fetch_add(1, Ordering::SeqCst);
                        std::fs::create_dir(temporary)?;
                        Ok(std::fs::write(temporary.join("file"), "whole")?)
                    });
                    assert_eq!(std::fs::read_to_string(built.unwrap().join("file")).unwrap(), "whole");
                });
            }
        });
        assert_eq!(builds.into_inner(), 1);
        std::fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn a_failed_build_leaves_nothing_and_shows_the_output() {
        let parent = root().unwrap().join("tests").join(random_hex(8).unwrap());
        let error = get_or_build(&parent.join("x"), |temporary| {
            std::fs::write(temporary, "half")?;
            run("building x", Spec::new("sh").args(["-c", "echo the reason; exit 3"]))
        })
        .unwrap_err();
        assert!(error.to_string().contains("exit code 3") && error.to_string().contains("the reason"), "{error:#}");
        assert_eq!(std::fs::read_dir(&parent).unwrap().count(), 0);
        std::fs::remove_dir_all(&parent).unwrap();
    }
}
