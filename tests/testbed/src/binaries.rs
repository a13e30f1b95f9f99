//! The programs that the testbed runs. A [`Tool`] enters, the path of a program that can be run leaves: taken from
//! `KUBEBUILDER_ASSETS` or `PATH` where that is the custom, else built once a machine from the Go modules beside this
//! package (`kubernetes/`, `helm/`, `prometheus/`), whose `go.sum` pins every source. Only what is asked for is built. Nothing here
//! downloads a ready-made program.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cache;
use crate::process::Spec;

/// A program that [`find`] can find or build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// The Kubernetes API server.
    KubeApiserver,
    /// The controllers of Kubernetes: garbage collection, namespaces, service accounts, deployments.
    KubeControllerManager,
    /// The Kubernetes command line.
    Kubectl,
    /// The API server's database.
    Etcd,
    /// The package manager that renders the chart; version 3 or 4.
    Helm,
    /// What runs pods on a node.
    Kubelet,
    /// What makes the addresses of Services work on a node.
    KubeProxy,
    /// What gives pods to nodes.
    KubeScheduler,
    /// The judge of Prometheus' alerts and queries.
    Promtool,
}

/// What the build of one tool needs to know.
struct Recipe {
    name: &'static str,
    /// The Go package that is built.
    package: &'static str,
    /// The module that gives the version, and the folder with the `go.mod` that names it.
    module: &'static str,
    folder: &'static str,
    /// What is left out or taken in, as Go's build tags say it.
    tags: &'static str,
    /// On two cores with an empty build cache.
    takes: &'static str,
}

impl Tool {
    fn recipe(self) -> Recipe {
        let (name, package, module, folder, takes) = match self {
            Self::KubeApiserver => ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver", "k8s.io/kubernetes", "kubernetes", "5 minutes"),
            Self::KubeControllerManager => {
                ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager", "k8s.io/kubernetes", "kubernetes", "2 minutes")
            }
            Self::Kubectl => ("kubectl", "k8s.io/kubernetes/cmd/kubectl", "k8s.io/kubernetes", "kubernetes", "a minute"),
            Self::Etcd => ("etcd", "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3", "kubernetes", "a minute"),
            Self::Helm => ("helm", "helm.sh/helm/v4/cmd/helm", "helm.sh/helm/v4", "helm", "3 minutes"),
            Self::Kubelet => ("kubelet", "k8s.io/kubernetes/cmd/kubelet", "k8s.io/kubernetes", "kubernetes", "a minute"),
            Self::KubeProxy => ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy", "k8s.io/kubernetes", "kubernetes", "a minute"),
            Self::KubeScheduler => ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler", "k8s.io/kubernetes", "kubernetes", "a minute"),
            Self::Promtool => ("promtool", "github.com/prometheus/prometheus/cmd/promtool", "github.com/prometheus/prometheus", "prometheus", "4 minutes"),
        };
        // Rules are judged without a way to find what to scrape, and the clients of all clouds take minutes to compile.
        let tags = if self == Self::Promtool { "remove_all_sd" } else { "" };
        Recipe { name, package, module, folder, tags, takes }
    }
}

/// The path of a runnable program. May build it, which takes minutes and says so on standard error; blocks the thread.
/// Promtool is always built: versions differ in what they take.
/// Errors: no Go to build it with, a failed build, a `KUBEBUILDER_ASSETS` that lacks one of its three programs.
pub fn find(tool: Tool) -> Result<PathBuf> {
    let name = tool.recipe().name;
    if tool == Tool::Helm && helm_on_path() {
        return Ok(name.into());
    }
    let of_kubernetes = !matches!(tool, Tool::Helm | Tool::Promtool);
    if let Some(assets) = std::env::var_os("KUBEBUILDER_ASSETS").filter(|assets| of_kubernetes && !assets.is_empty()) {
        let path = Path::new(&assets).join(name);
        if path.exists() {
            return Ok(path);
        }
        // The convention promises three programs; the others are often not there.
        if matches!(tool, Tool::KubeApiserver | Tool::Etcd | Tool::Kubectl) {
            bail!("KUBEBUILDER_ASSETS is set, but {} is not there; unset it to have {name} built", path.display());
        }
    }
    build(tool)
}

/// Whether `helm` is on `PATH` and of a version whose `template` works as the testbed uses it.
fn helm_on_path() -> bool {
    let output = Command::new("helm").args(["version", "--short"]).stderr(Stdio::null()).output();
    output.is_ok_and(|output| output.status.success() && [&b"v3."[..], b"v4."].iter().any(|version| output.stdout.starts_with(version)))
}

/// Builds a tool from its Go module, unless the cache has it: `<cache>/<name>-<version>-<hash of go.mod and go.sum>/<name>`.
fn build(tool: Tool) -> Result<PathBuf> {
    let Recipe { name, package, module, folder, tags, takes } = tool.recipe();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let go_mod = source.join("go.mod");
    let text = std::fs::read_to_string(&go_mod).with_context(|| format!("reading {}", go_mod.display()))?;
    let version = version_of(&text, module)?;
    let key = cache::key(&[go_mod, source.join("go.sum")])?;
    let path = cache::root()?.join(format!("{name}-{version}-{key}")).join(name);
    cache::get_or_build(&path, |temporary| {
        if !Command::new("go").arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
            bail!(
                "{name} has to be built once, and there is no `go` on PATH: install Go 1.26 or newer (https://go.dev/dl/), \
                 or set KUBEBUILDER_ASSETS to a folder with kube-apiserver, etcd and kubectl"
            );
        }
        let step = Spec::new("go")
            .name(name)
            .args(["build", "-trimpath", "-tags", tags, "-ldflags", &ldflags(tool, &version)?, "-o"])
            // By full name: Go would name etcd's program after its folder.
            .arg(temporary)
            .arg(package)
            .current_dir(&source)
            .remove_at_end(temporary)
            .env("CGO_ENABLED", "0")
            .env("GOWORK", "off");
        cache::run(&format!("building {name} {version} (once a machine, about {takes})"), step)
    })
}

/// Kubernetes' programs learn their version from the linker; without it the API server calls itself v0.0.0.
fn ldflags(tool: Tool, version: &str) -> Result<String> {
    if matches!(tool, Tool::Etcd | Tool::Helm | Tool::Promtool) {
        return Ok("-s -w".to_owned());
    }
    let mut numbers = version.split('.');
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else { bail!("{version} is no Kubernetes version") };
    let set = "-X k8s.io/component-base/version";
    Ok(format!("-s -w {set}.gitVersion=v{version} {set}.gitMajor={major} {set}.gitMinor={minor}"))
}

/// The version, without its `v`, that a `go.mod` requires of a module.
fn version_of(go_mod: &str, module: &str) -> Result<String> {
    go_mod
        .lines()
        .map(|line| line.trim_start().trim_start_matches("require "))
        .find_map(|line| line.strip_prefix(module)?.strip_prefix(" v")?.split(' ').next())
        .map(str::to_owned)
        .with_context(|| format!("the go.mod requires no {module}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_go_mod() {
        let text = "require a.io/b v0.1.0\nrequire (\n\ta.io/bb v1.2.3 // indirect\n\ta.io/b/c v4.5.6\n)\n";
        assert_eq!(version_of(text, "a.io/b").unwrap(), "0.1.0");
        assert_eq!(version_of(text, "a.io/bb").unwrap(), "1.2.3");
        assert!(version_of(text, "a.io").is_err());
    }

    #[test]
    fn the_version_reaches_the_linker() {
        let flags = ldflags(Tool::Kubectl, "1.37.2").unwrap();
        assert!(flags.contains("gitVersion=v1.37.2 ") && flags.contains("gitMajor=1 ") && flags.ends_with("gitMinor=37"), "{flags}");
    }

    #[test]
    fn every_recipe_has_its_module() {
        let control_plane = [Tool::KubeApiserver, Tool::KubeControllerManager, Tool::KubeScheduler, Tool::Kubectl, Tool::Etcd];
        for tool in control_plane.into_iter().chain([Tool::Helm, Tool::Promtool, Tool::Kubelet, Tool::KubeProxy]) {
            let recipe = tool.recipe();
            let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(recipe.folder).join("go.mod")).unwrap();
            assert!(version_of(&text, recipe.module).is_ok(), "{}", recipe.name);
            assert!(text.contains(recipe.package), "{}", recipe.name);
        }
    }
}
