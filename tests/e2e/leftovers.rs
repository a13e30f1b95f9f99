//! What the end of the namespaces doesn't take away. A look at the host before and one after enter; the cgroups are removed, and whatever is
//! still different is an error. It must never remove anything that wasn't made under its own name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Result, bail};
use testbed::node::Cgroups;

/// What a kubelet would set for the whole machine.
const SETTINGS: [&str; 6] =
    ["vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes"];

/// Where the programs of a node are known to write when they aren't told otherwise.
const FOLDERS: [&str; 12] = [
    "/etc/cni",
    "/opt/cni",
    "/opt/containerd",
    "/opt/nri",
    "/run/containerd",
    "/run/flannel",
    "/run/xtables.lock",
    "/usr/libexec/kubernetes",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
];

/// The host before anything was made.
pub struct Host {
    interfaces: BTreeSet<String>,
    folders: BTreeSet<&'static str>,
    settings: BTreeMap<&'static str, String>,
}

impl Host {
    pub fn look() -> Result<Self> {
        let settings = SETTINGS.into_iter().filter_map(|name| Some((name, fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?))).collect();
        Ok(Self { interfaces: interfaces()?, folders: FOLDERS.into_iter().filter(|folder| Path::new(folder).exists()).collect(), settings })
    }

    /// Removes the cgroups, and fails with all that is left of a run in the folder `work`.
    pub fn clean_up(&self, cgroups: &Cgroups, work: &Path) -> Result<()> {
        let mut left = Vec::new();
        if let Err(error) = cgroups.remove() {
            left.push(format!("{error:#}"));
        }
        let after = Self::look()?;
        left.extend(after.interfaces.difference(&self.interfaces).map(|name| format!("the network interface {name}")));
        left.extend(after.folders.difference(&self.folders).map(|folder| format!("the folder {folder}")));
        left.extend(after.settings.iter().filter(|(name, value)| self.settings.get(*name) != Some(*value)).map(|(name, _)| format!("the setting {name}")));
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let work = work.display().to_string();
        left.extend(mounts.lines().filter(|line| line.contains(&work)).map(|line| format!("the mount {line}")));
        left.extend(processes(&work)?.into_iter().map(|process| format!("the process {process}")));
        if !left.is_empty() {
            bail!("something is left behind: {}", left.join(", "));
        }
        Ok(())
    }
}

fn interfaces() -> Result<BTreeSet<String>> {
    fs::read_dir("/sys/class/net")?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// The processes besides this one that have `word` among their arguments.
fn processes(word: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == std::process::id().to_string() || !name.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        // One that has ended meanwhile is none.
        let Ok(arguments) = fs::read(entry.path().join("cmdline")) else { continue };
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        if arguments.contains(word) {
            found.push(format!("{name} ({})", arguments.trim()));
        }
    }
    Ok(found)
}
