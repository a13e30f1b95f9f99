//! The cgroups of a node: one of its own in each hierarchy, of version 2 or 1. A name enters; folders that the node and its containers live
//! in leave, and go again when they are told to. It must never touch any other cgroup.
//!
//! Containerd and runc look for cgroups from the root on, and can't be told otherwise. So for the processes in ours it is the root: they are
//! in a cgroup namespace, and in their mount namespace our folders take the place of the hierarchies.

use std::fmt::{self, Display};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::run;

/// Where the processes of the node are in version 2, where a cgroup with others in it may hold none itself.
const LEAF: &str = "node";

/// How long processes that were killed may take to leave.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// One cgroup a hierarchy. As text, and back, it can be handed to another process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroups(Vec<Cgroup>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Cgroup {
    /// Where the hierarchy is mounted.
    hierarchy: PathBuf,
    folder: PathBuf,
}

impl Cgroups {
    /// Makes one of this name in each hierarchy: in version 1 within the cgroup of this process, whose limits so hold for it, in version 2,
    /// where that one can't have limits for parts of it, at the root.
    pub fn make(name: &str) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("looking for cgroups")?;
        let own = fs::read_to_string("/proc/self/cgroup").context("looking for our own cgroups")?;
        let cgroups = Self(places(&mounts, &own, name));
        for Cgroup { folder, .. } in &cgroups.0 {
            let made = || -> Result<()> {
                fs::create_dir(folder)?;
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    // In version 1 these begin empty, and nothing can run before they are set. In version 2 that means: as above.
                    let above = folder.with_file_name(file);
                    if folder.join("cgroup.clone_children").exists() && above.exists() {
                        fs::write(folder.join(file), fs::read(above)?)?;
                    }
                }
                Ok(())
            };
            made().with_context(|| format!("making the cgroup {}", folder.display()))?;
        }
        Ok(cgroups)
    }

    /// The files into which a process writes its id to be in them.
    pub fn doors(&self) -> impl Iterator<Item = PathBuf> {
        self.0.iter().map(|cgroup| cgroup.folder.join("cgroup.procs"))
    }

    /// Whether a container ever was in them.
    #[must_use]
    pub fn were_used(&self) -> bool {
        self.0.iter().any(|cgroup| cgroup.folder.join("k8s.io").is_dir())
    }

    /// Removes them and those in them, and returns when they are gone.
    pub fn remove(&self) -> Result<()> {
        self.0.iter().filter(|cgroup| cgroup.folder.exists()).try_for_each(|cgroup| remove(&cgroup.folder))
    }

    /// Puts them in the place of the hierarchies, in this mount namespace. This process and process 1 must be in them.
    pub(super) fn take_place(&self) -> Result<()> {
        for Cgroup { hierarchy, folder } in &self.0 {
            run(Command::new("mount").arg("--bind").arg(folder).arg(hierarchy))?;
            if !hierarchy.join("cgroup.clone_children").exists() {
                let leaf = hierarchy.join(LEAF);
                fs::create_dir(&leaf)?;
                for process in [1, std::process::id()] {
                    fs::write(leaf.join("cgroup.procs"), process.to_string()).with_context(|| format!("moving into {}", leaf.display()))?;
                }
            }
        }
        Ok(())
    }
}

impl Display for Cgroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each: Vec<String> = self.0.iter().map(|cgroup| format!("{}={}", cgroup.hierarchy.display(), cgroup.folder.display())).collect();
        f.write_str(&each.join(" "))
    }
}

impl FromStr for Cgroups {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let parse = |pair: &str| {
            let (hierarchy, folder) = pair.split_once('=').ok_or_else(|| anyhow!("{pair} is no cgroup"))?;
            Ok(Cgroup { hierarchy: hierarchy.into(), folder: folder.into() })
        };
        text.split_whitespace().map(parse).collect::<Result<_>>().map(Self)
    }
}

/// Where cgroups of this name belong, by what `/proc/self/mountinfo` and `/proc/self/cgroup` say.
fn places(mounts: &str, own: &str, name: &str) -> Vec<Cgroup> {
    let place = |mount: &str| {
        let (place, file_system) = mount.split_once(" - ")?;
        let hierarchy = PathBuf::from(place.split(' ').nth(4)?);
        let mut words = file_system.split(' ');
        let parent = match words.next()? {
            "cgroup2" => "/",
            "cgroup" => version_1(own, words.nth(1)?)?,
            _ => return None,
        };
        Some(Cgroup { folder: hierarchy.join(parent.trim_start_matches('/')).join(name), hierarchy })
    };
    mounts.lines().filter_map(place).collect()
}

/// The path of our own cgroup in the hierarchy of version 1 that is mounted with these options, among which are its controllers.
fn version_1<'o>(own: &'o str, options: &str) -> Option<&'o str> {
    own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let all = controllers.split(',').all(|controller| options.split(',').any(|option| option == controller));
        all.then_some(path)
    })
}

/// The kernel refuses as long as there is a process in one.
fn remove(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    let end = Instant::now() + GONE_WITHIN;
    loop {
        match fs::remove_dir(folder) {
            Err(error) if error.kind() == ErrorKind::ResourceBusy && Instant::now() < end => std::thread::sleep(Duration::from_millis(50)),
            outcome => return outcome.with_context(|| format!("removing the cgroup {}", folder.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(cgroups: Vec<Cgroup>) -> String {
        Cgroups(cgroups).to_string()
    }

    #[test]
    fn version_1_is_within_ours_and_version_2_at_the_root() {
        let mounts = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
                      40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        let own = "9:name=systemd:/\n4:cpu,cpuacct:/user/a:b\n0::/user.slice\n";
        let expected = "/sys/fs/cgroup/cpu,cpuacct=/sys/fs/cgroup/cpu,cpuacct/user/a:b/e2e /sys/fs/cgroup/systemd=/sys/fs/cgroup/systemd/e2e \
                        /sys/fs/cgroup/unified=/sys/fs/cgroup/unified/e2e";
        assert_eq!(text(places(mounts, own, "e2e")), expected);
        let pure = "26 23 0:24 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(text(places(pure, "0::/user.slice\n", "e2e")), "/sys/fs/cgroup=/sys/fs/cgroup/e2e");
    }

    #[test]
    fn text_leads_back() {
        let cgroups = Cgroups(vec![Cgroup { hierarchy: "/a".into(), folder: "/a/b".into() }, Cgroup { hierarchy: "/c".into(), folder: "/c/d".into() }]);
        assert_eq!(cgroups.to_string().parse::<Cgroups>().unwrap(), cgroups);
        assert!("/a".parse::<Cgroups>().is_err());
    }
}
