//! A Kubernetes node on this machine: containerd, kubelet, kube-proxy, a bridge network and names, with a control plane of their own. Images enter, a
//! cluster that runs pods leaves. It must never be started outside of namespaces of its own (network, mounts, processes): it takes over
//! addresses, mounts and packet filters, and only the end of the namespaces takes all of that away again. The cgroups that it is told to
//! use are the host's; who gave them removes them.

mod cgroups;
mod names;

use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::Api;
use serde_json::{Value, json};

use crate::binaries::{self, Tool};
use crate::control_plane::{ControlPlane, block_on, client};
use crate::http;
use crate::process::{Process, Signal, Spec};
pub use cgroups::Cgroups;
use names::Names;

/// The bridge's own address: the node's, the API server's, and where pods reach what runs beside the cluster.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);

/// The image of the pod sandboxes, which must be among those that are given: a program that waits.
pub const PAUSE: &str = "localhost/pause:1";

const NAME: &str = "node-1";
/// The kubelet's port for this, when it isn't told otherwise.
const KUBELET_HEALTH: u16 = 10248;
const PODS: &str = "10.88.0.0/16";

/// The folders outside of its own into which these programs write. The mount namespace gets an empty one in memory in place of each.
const WRITTEN_TO: [&str; 3] = ["/run", "/var/log", "/var/lib"];

/// What a kubelet sets for the whole machine; in the mount namespace it finds files of ours in their place.
const SETTINGS: [&str; 6] =
    ["vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes"];

/// Seconds on an idle machine.
const READY_WITHIN: Duration = Duration::from_secs(90);

/// A running node and its control plane; ends on drop. What it mounted goes with the namespaces.
#[derive(Debug)]
pub struct Node {
    // Dropped in this order: clients before their servers.
    kube_proxy: Process,
    kubelet: Process,
    _names: Names,
    scheduler: Process,
    containerd: Process,
    plane: ControlPlane,
    /// How the kubelet was started.
    serving: Spec,
    logs: PathBuf,
}

impl Node {
    /// Starts a control plane and a node, and returns when pods can run. `images` are OCI archives, [`PAUSE`] among them. Data go to
    /// `<dir>/node`, logs to `<dir>/*.log`. The process must be in these cgroups and in namespaces of its own (network, mounts, processes,
    /// cgroups), whose network isn't `host_network`, what `/proc/self/ns/net` linked to outside. Blocks the thread.
    pub fn start(host_network: &str, images: &[PathBuf], cgroups: &Cgroups, dir: &Path) -> Result<Self> {
        let network = std::fs::read_link("/proc/self/ns/net").context("looking at the network namespace")?;
        if network == Path::new(host_network) {
            bail!("this is the host's network namespace, in which no node may be started");
        }
        for folder in WRITTEN_TO {
            run(Command::new("mount").args(["-t", "tmpfs", "tmpfs", folder]))?;
        }
        shield_settings(&dir.join("node/settings"))?;
        cgroups.take_place()?;
        bridge()?;

        let plane = ControlPlane::start_at(ADDRESS, dir)?;
        let data = dir.join("node");
        for folder in ["cni", "ipam", "kubelet", "pod-logs"] {
            std::fs::create_dir_all(data.join(folder))?;
        }
        let scheduler = Spec::new(binaries::find(Tool::KubeScheduler)?)
            .arg(flag("kubeconfig", plane.kubeconfig()))
            .args(["--leader-elect=false", "--secure-port=0"])
            .grace(Duration::ZERO)
            .start(dir)?;

        let socket = data.join("containerd.sock");
        let configuration = data.join("containerd.toml");
        std::fs::write(&configuration, containerd_configuration(&data, &socket))?;
        std::fs::write(data.join("cni/10-pods.conflist"), network_configuration(&data).to_string())?;
        let containerd = Spec::new("containerd").arg("--config").arg(configuration).grace(Duration::ZERO).start(dir)?;
        until("containerd", &[&containerd], || Ok(UnixStream::connect(&socket).map(|_| ())?))?;
        for image in images {
            run(Command::new("ctr").arg("--address").arg(&socket).args(["--namespace", "k8s.io", "images", "import"]).arg(image))?;
        }

        let names = Names::start(ADDRESS, plane.kubeconfig())?;
        let configuration = data.join("kubelet.json");
        std::fs::write(&configuration, kubelet_configuration(&data, &socket).to_string())?;
        let serving = Spec::new(binaries::find(Tool::Kubelet)?)
            .args([flag("config", &configuration), flag("kubeconfig", plane.kubeconfig())])
            .args([flag("root-dir", &data.join("kubelet")), flag("cert-dir", &data.join("kubelet/pki"))])
            .args([format!("--hostname-override={NAME}"), format!("--node-ip={ADDRESS}")])
            .grace(Duration::ZERO);
        let kubelet = serving.clone().start(dir)?;
        let kube_proxy = Spec::new(binaries::find(Tool::KubeProxy)?)
            .arg(flag("kubeconfig", plane.kubeconfig()))
            .args([format!("--hostname-override={NAME}"), format!("--cluster-cidr={PODS}")])
            // The limit on connections is the host's.
            .args(["--proxy-mode=iptables", "--conntrack-max-per-core=0"])
            .grace(Duration::ZERO)
            .start(dir)?;
        let node = Self { kube_proxy, kubelet, _names: names, scheduler, containerd, plane, serving, logs: dir.to_owned() };
        node.wait_ready()?;
        Ok(node)
    }

    /// The cluster's control plane.
    #[must_use]
    pub fn plane(&self) -> &ControlPlane {
        &self.plane
    }

    /// Ends the API server with signal 9 and starts it again; see [`ControlPlane::restart_api_server`].
    pub fn restart_api_server(&mut self) -> Result<()> {
        self.plane.restart_api_server()
    }

    /// Ends the kubelet with signal 9 and starts it again; its pods go on. Returns when the node is ready. Blocks the thread.
    pub fn restart_kubelet(&mut self) -> Result<()> {
        self.kubelet.signal(Signal::Kill)?;
        self.kubelet.wait_exit(READY_WITHIN)?;
        self.kubelet = self.serving.clone().start(&self.logs)?;
        self.wait_ready()
    }

    /// All processes of the node and its control plane.
    #[must_use]
    pub fn processes(&self) -> [&Process; 7] {
        let plane = &self.plane;
        [plane.etcd(), plane.api_server(), plane.controller_manager(), &self.scheduler, &self.containerd, &self.kubelet, &self.kube_proxy]
    }

    fn wait_ready(&self) -> Result<()> {
        let kubeconfig = self.plane.kubeconfig();
        until("the node", &self.processes(), || {
            // What the node last said stays when its kubelet is gone.
            let (status, text) = http::get(KUBELET_HEALTH, "/healthz")?;
            if status != 200 {
                bail!("the kubelet says {text}");
            }
            block_on(async {
                let node = Api::<NodeObject>::all(client(kubeconfig).await?).get(NAME).await?;
                let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
                let ready = conditions.iter().find(|condition| condition.type_ == "Ready").context("it has no condition Ready")?;
                if ready.status != "True" {
                    bail!("{}", ready.message.as_deref().unwrap_or_default());
                }
                Ok(())
            })
        })
    }
}

/// Puts copies of the [`SETTINGS`] in their place.
fn shield_settings(folder: &Path) -> Result<()> {
    for name in SETTINGS {
        let setting = Path::new("/proc/sys").join(name);
        if setting.exists() {
            let copy = folder.join(name);
            std::fs::create_dir_all(copy.parent().context("a folder")?)?;
            std::fs::write(&copy, std::fs::read(&setting)?)?;
            run(Command::new("mount").arg("--bind").arg(copy).arg(setting))?;
        }
    }
    Ok(())
}

/// The bridge that pods are connected with, and a way out that leads nowhere, without which the API server finds no address of its own.
fn bridge() -> Result<()> {
    let address = format!("{ADDRESS}/16");
    let commands: [&[&str]; 5] = [
        &["link", "set", "lo", "up"],
        &["link", "add", "cni0", "type", "bridge"],
        &["address", "add", &address, "dev", "cni0"],
        &["link", "set", "cni0", "up"],
        &["route", "add", "default", "dev", "cni0"],
    ];
    for arguments in commands {
        run(Command::new("ip").args(arguments))?;
    }
    // This one belongs to the network namespace, too.
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("forwarding packets")
}

fn containerd_configuration(data: &Path, socket: &Path) -> String {
    let data = data.display();
    let socket = socket.display();
    // restrict_oom_score_adj: where root may not lower the score (CAP_SYS_RESOURCE), runc would die with "can't get final child's PID".
    format!(
        r#"version = 2
root = "{data}/containerd"
state = "{data}/containerd-state"
[grpc]
  address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{data}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{data}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
"#
    )
}

fn network_configuration(data: &Path) -> Value {
    let addresses = json!({"type": "host-local", "ranges": [[{"subnet": PODS}]], "routes": [{"dst": "0.0.0.0/0"}], "dataDir": data.join("ipam")});
    json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [
        {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true, "ipam": addresses},
        {"type": "portmap", "capabilities": {"portMappings": true}},
    ]})
}

fn kubelet_configuration(data: &Path, socket: &Path) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": format!("unix://{}", socket.display()),
        "clusterDNS": [ADDRESS],
        "clusterDomain": names::DOMAIN,
        "cgroupDriver": "cgroupfs",
        // Hosts differ in what they let root do with cgroups; the pods don't need it.
        "cgroupsPerQOS": false,
        "enforceNodeAllocatable": [],
        "failCgroupV1": false,
        "failSwapOn": false,
        "localStorageCapacityIsolation": false,
        "volumePluginDir": data.join("volume-plugins"),
        // How full the host's disk is must not decide what happens here.
        "evictionHard": {"memory.available": "1Mi"},
        "imageGCHighThresholdPercent": 100,
        "podLogsDir": data.join("pod-logs"),
    })
}

fn flag(name: &str, value: &Path) -> String {
    format!("--{name}={}", value.display())
}

/// Runs a command to its end; its output is shown in the error if it fails.
fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("running {}", command.get_program().display()))?;
    if !output.status.success() {
        bail!("{command:?} failed with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Asks `ready` until it says yes. Fails at once when one of the processes ends, or after [`READY_WITHIN`].
fn until(what: &str, processes: &[&Process], ready: impl Fn() -> Result<()>) -> Result<()> {
    let end = Instant::now() + READY_WITHIN;
    loop {
        let Err(error) = ready() else { return Ok(()) };
        if let Some(ended) = processes.iter().find(|process| !process.is_running()) {
            bail!("a process of the node ended at its start; {}", ended.log_tail());
        }
        if Instant::now() > end {
            let logs: Vec<String> = processes.iter().map(|process| process.log_tail()).collect();
            bail!("{what} isn't ready within {READY_WITHIN:?} ({error:#}); {}", logs.join("\n"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
