//! A real Kubernetes control plane: etcd, kube-apiserver with RBAC, and, as long as there is no [`crate::Node`], only the controllers that
//! collect garbage, finish namespaces and make service accounts. A folder for logs enters, a cluster that is ready leaves. Its data, keys
//! and kubeconfigs live in a private temporary folder that goes with it. It must never be reachable from outside this machine.
//!
//! Everything that blocks here runs on a thread of its own, so that it works from async code and without a runtime.

use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

use crate::audit;
use crate::binaries::{self, Tool};
use crate::folder::random_hex;
use crate::process::{Process, Signal, Spec};
use crate::{TempFolder, port};

/// Three to four seconds on an idle machine; tests start it while two cores compile.
const READY_WITHIN: Duration = Duration::from_secs(90);

const SERVICE_ACCOUNT_TOKEN_SECONDS: i64 = 24 * 60 * 60;

const AUDIT_LOG: &str = "audit.jsonl";

const CONTROLLERS: &str = "garbage-collector-controller,namespace-controller,serviceaccount-controller,\
                           serviceaccount-token-controller,clusterrole-aggregation-controller,\
                           validatingadmissionpolicy-status-controller,deployment-controller,replicaset-controller,resourcequota-controller";

/// A running control plane; ends on drop. Share it by reference: all methods take `&self`.
#[derive(Debug)]
pub struct ControlPlane {
    url: String,
    ca_path: PathBuf,
    kubeconfig: PathBuf,
    kubectl: PathBuf,
    // Dropped in this order: clients before their server, the folder last.
    controller_manager: Process,
    api_server: Process,
    etcd: Process,
    /// How the API server was started.
    serving: Serving,
    data: TempFolder,
}

impl ControlPlane {
    /// Starts a control plane and returns when it serves, has its namespace `default` and its controllers work. Builds what is
    /// missing first (see [`binaries`]). Logs go to `<dir>/{etcd,kube-apiserver,kube-controller-manager}.log`. Blocks the thread;
    /// may be called from anywhere, several may run at once.
    pub fn start(dir: &Path) -> Result<Self> {
        let programs = Programs::find()?;
        port::retry(|| Self::start_once(dir, &programs, None))
    }

    /// As [`ControlPlane::start`], for a cluster that has nodes: with all controllers, and served on all addresses of this machine, of
    /// which nodes and pods use `address`. Only for a network namespace of its own, or the whole network could reach it.
    pub fn start_at(address: Ipv4Addr, dir: &Path) -> Result<Self> {
        let programs = Programs::find()?;
        port::retry(|| Self::start_once(dir, &programs, Some(address)))
    }

    fn start_once(dir: &Path, programs: &Programs, address: Option<Ipv4Addr>) -> Result<Self> {
        let data = TempFolder::new("cluster")?;
        let [etcd_port, peer_port, api_port] = port::free()?;
        let etcd_url = format!("http://127.0.0.1:{etcd_port}");
        let url = format!("https://{}:{api_port}", address.unwrap_or(Ipv4Addr::LOCALHOST));
        let path = |name: &str| data.path().join(name);
        let flag = |name: &str, value: &Path| format!("--{name}={}", value.display());

        let etcd = Spec::new(&programs.etcd)
            .name("etcd")
            .arg(flag("data-dir", &path("etcd")))
            .args(["--listen-client-urls", &etcd_url, "--advertise-client-urls", &etcd_url])
            .args(["--listen-peer-urls", &format!("http://127.0.0.1:{peer_port}"), "--unsafe-no-fsync", "--log-level=warn"])
            // What it would save is thrown away.
            .grace(Duration::ZERO)
            .remove_at_end(data.path())
            .start(dir)?;

        let token = random_hex(32)?;
        write_private(&path("tokens.csv"), &format!("{token},admin,1,\"system:masters\"\n"))?;
        let keys = signing_keys()?;
        write_private(&path("service-accounts.key"), &keys.private)?;
        write_private(&path("service-accounts.pub"), &keys.public)?;
        write_private(&path("audit-policy.json"), &audit::policy().to_string())?;
        let ca_path = path("certs/apiserver.crt");
        let serving = Spec::new(&programs.api_server)
            .name("kube-apiserver")
            .args(["--etcd-servers", &etcd_url, "--secure-port", &api_port.to_string()])
            .args(match address {
                // A documentation address: without one the server looks for a network interface, and offline there is none.
                None => ["--bind-address=127.0.0.1", "--advertise-address=192.0.2.1", "--endpoint-reconciler-type=none"].map(str::to_owned),
                // By its name, the server would look for a node in the DNS when it fetches a log.
                Some(address) => {
                    ["--bind-address=0.0.0.0".into(), format!("--advertise-address={address}"), "--kubelet-preferred-address-types=InternalIP".into()]
                }
            })
            .args(["--service-account-issuer=https://kubernetes.default.svc", "--service-cluster-ip-range=10.0.0.0/24", "--authorization-mode=RBAC"])
            .args([flag("cert-dir", &path("certs")), flag("token-auth-file", &path("tokens.csv"))])
            .args([flag("audit-policy-file", &path("audit-policy.json")), flag("audit-log-path", &path(AUDIT_LOG))])
            .args([flag("service-account-key-file", &path("service-accounts.pub")), flag("service-account-signing-key-file", &path("service-accounts.key"))])
            .grace(Duration::ZERO);
        let serving = Serving { spec: serving, logs: dir.to_owned() };
        let api_server = serving.start()?;

        let kubeconfig = path("admin.kubeconfig");
        write_kubeconfig(&kubeconfig, &json!({"server": url, "certificate-authority": ca_path}), &token, "default")?;
        wait_ready(&kubeconfig, &ca_path, &[&etcd, &api_server], "the API server", api_server_ready)?;

        let controller_manager = Spec::new(&programs.controller_manager)
            .name("kube-controller-manager")
            .arg(flag("kubeconfig", &kubeconfig))
            .arg(flag("service-account-private-key-file", &path("service-accounts.key")))
            .args(["--use-service-account-credentials=false", "--leader-elect=false", "--secure-port=0"])
            // It makes this folder, by default one of the machine's.
            .arg(flag("flex-volume-plugin-dir", &path("volume-plugins")))
            .args(match address {
                None => vec![format!("--controllers={CONTROLLERS}")],
                // The certificate is what pods verify the API server with. It is no CA's, which the controller that is left out complains of for ever.
                Some(_) => vec![flag("root-ca-file", &ca_path), "--controllers=*,-kube-apiserver-serving-clustertrustbundle-publisher-controller".to_owned()],
            })
            .grace(Duration::ZERO)
            .start(dir)?;
        wait_ready(&kubeconfig, &ca_path, &[&etcd, &api_server, &controller_manager], "the controller-manager", controllers_ready)?;

        Ok(Self { url, ca_path, kubeconfig, kubectl: programs.kubectl.clone(), controller_manager, api_server, etcd, serving, data })
    }

    /// Ends the API server with signal 9, if it still runs, and starts it again: same address and keys, same database. Returns when it serves.
    /// Blocks the thread; may be called from async code.
    pub fn restart_api_server(&mut self) -> Result<()> {
        if self.api_server.is_running() {
            self.api_server.signal(Signal::Kill)?;
            self.api_server.wait_exit(READY_WITHIN)?;
        }
        self.api_server = self.serving.start()?;
        wait_ready(&self.kubeconfig, &self.ca_path, &[&self.etcd, &self.api_server], "the API server", api_server_ready)
    }

    /// The API server's address, for instance `https://127.0.0.1:43123`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The PEM file that the API server's certificate is verified with.
    #[must_use]
    pub fn ca_path(&self) -> &Path {
        &self.ca_path
    }

    /// A kubeconfig of group `system:masters` (mode 0600), which may do everything. Gone when the control plane ends.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Mints a token for a `ServiceAccount` through `TokenRequest`, good for 24 h, and writes a kubeconfig with it (mode 0600, its
    /// namespace as the default). An error if the `ServiceAccount` isn't there. Blocks the thread; may be called from async code.
    pub fn kubeconfig_for(&self, namespace: &str, service_account: &str) -> Result<PathBuf> {
        let path = self.data.path().join(format!("{namespace}.{service_account}.{}.kubeconfig", random_hex(4)?));
        service_account_kubeconfig(&self.kubeconfig, namespace, service_account, &path)?;
        Ok(path)
    }

    /// `kubectl` as the administrator of this cluster; add arguments. It doesn't touch `~/.kube`.
    #[must_use]
    pub fn kubectl(&self) -> Command {
        let mut command = Command::new(&self.kubectl);
        // kubectl remembers what a server offers under its address, and another run may get the same port.
        command.env("KUBECONFIG", &self.kubeconfig).env("KUBECACHEDIR", self.data.path().join("kubectl"));
        command
    }

    /// A new client of the administrator. It belongs to the calling tokio runtime: make one in each.
    pub async fn client(&self) -> Result<Client> {
        client(&self.kubeconfig).await
    }

    /// The writes that `ServiceAccounts` have asked for so far.
    pub fn writes(&self) -> Result<Vec<audit::Write>> {
        audit::writes(&self.data.path().join(AUDIT_LOG))
    }

    /// The API server's process, to stop it for a while ([`Signal::Stop`]), to kill it, or to read its log.
    #[must_use]
    pub fn api_server(&self) -> &Process {
        &self.api_server
    }

    /// The process with the garbage collector and the namespace controller.
    #[must_use]
    pub fn controller_manager(&self) -> &Process {
        &self.controller_manager
    }

    /// The API server's database.
    #[must_use]
    pub fn etcd(&self) -> &Process {
        &self.etcd
    }
}

/// A program and where its logs go.
#[derive(Debug)]
struct Serving {
    spec: Spec,
    logs: PathBuf,
}

impl Serving {
    fn start(&self) -> Result<Process> {
        self.spec.clone().start(&self.logs)
    }
}

struct Programs {
    etcd: PathBuf,
    api_server: PathBuf,
    controller_manager: PathBuf,
    kubectl: PathBuf,
}

impl Programs {
    fn find() -> Result<Self> {
        Ok(Self {
            etcd: binaries::find(Tool::Etcd)?,
            api_server: binaries::find(Tool::KubeApiserver)?,
            controller_manager: binaries::find(Tool::KubeControllerManager)?,
            kubectl: binaries::find(Tool::Kubectl)?,
        })
    }
}

/// A new client from a kubeconfig file's current context. It belongs to the calling tokio runtime.
pub async fn client(kubeconfig: &Path) -> Result<Client> {
    let content = Kubeconfig::read_from(kubeconfig).with_context(|| format!("reading {}", kubeconfig.display()))?;
    let config = Config::from_custom_kubeconfig(content, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// Mints a `ServiceAccount`'s token (24 h) with the rights of `admin`, a kubeconfig file, and writes a kubeconfig for the same
/// server to `path`. For any cluster, not only a [`ControlPlane`]. Blocks the thread; may be called from async code.
pub fn service_account_kubeconfig(admin: &Path, namespace: &str, service_account: &str, path: &Path) -> Result<()> {
    let token = block_on(async {
        let accounts: Api<ServiceAccount> = Api::namespaced(client(admin).await?, namespace);
        let spec = TokenRequestSpec { expiration_seconds: Some(SERVICE_ACCOUNT_TOKEN_SECONDS), ..TokenRequestSpec::default() };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let answer = accounts
            .create_token_request(service_account, &PostParams::default(), &request)
            .await
            .with_context(|| format!("asking for a token of ServiceAccount {namespace}/{service_account}"))?;
        answer.status.map(|status| status.token).context("the TokenRequest was answered without a token")
    })?;
    let admin = Kubeconfig::read_from(admin)?;
    let current = admin.current_context.context("the kubeconfig has no current context")?;
    let context = admin.contexts.into_iter().find(|named| named.name == current).and_then(|named| named.context);
    let wanted = context.with_context(|| format!("the kubeconfig lacks its context {current}"))?.cluster;
    let cluster = admin.clusters.into_iter().find(|named| named.name == wanted).and_then(|named| named.cluster);
    write_kubeconfig(path, &json!(cluster.with_context(|| format!("the kubeconfig lacks its cluster {wanted}"))?), &token, namespace)
}

/// Runs a future to its end on a thread and runtime of its own, since the caller may be inside another runtime.
pub(crate) fn block_on<T: Send>(future: impl Future<Output = Result<T>> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future));
        thread.join().map_err(|_| anyhow!("a helper thread panicked"))?
    })
}

/// Asks `ready` until it says yes. Fails at once when one of the processes ends, or after [`READY_WITHIN`].
fn wait_ready<F: Future<Output = Result<()>> + Send>(
    kubeconfig: &Path,
    ca_path: &Path,
    processes: &[&Process],
    what: &str,
    ready: fn(Client) -> F,
) -> Result<()> {
    let end = Instant::now() + READY_WITHIN;
    block_on(async {
        loop {
            let attempt = async {
                // The API server writes its certificate at the start; before that there is nothing to verify it with.
                if !ca_path.exists() {
                    bail!("its certificate isn't there yet");
                }
                ready(client(kubeconfig).await?).await
            };
            let outcome = tokio::time::timeout(Duration::from_secs(10), attempt).await.map_err(|_| anyhow!("no answer")).flatten();
            let Err(error) = outcome else { return Ok(()) };
            if let Some(ended) = processes.iter().find(|process| !process.is_running()) {
                bail!("a process of the control plane ended at its start; {}", ended.log_tail());
            }
            if Instant::now() > end {
                let logs: Vec<String> = processes.iter().map(|process| process.log_tail()).collect();
                bail!("{what} isn't ready within {READY_WITHIN:?} ({error:#}); {}", logs.join("\n"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
}

async fn api_server_ready(client: Client) -> Result<()> {
    let answer = client.request_text(http_get("/readyz")?).await?;
    if answer != "ok" {
        bail!("/readyz says {answer}");
    }
    Api::<Namespace>::all(client).get("default").await?;
    Ok(())
}

/// The account that one of its controllers makes in every namespace shows that they run.
async fn controllers_ready(client: Client) -> Result<()> {
    Api::<ServiceAccount>::namespaced(client, "default").get("default").await?;
    Ok(())
}

fn http_get(path: &str) -> Result<hyper::Request<Vec<u8>>> {
    Ok(hyper::Request::get(path).body(Vec::new())?)
}

/// A key pair as PEM, which the API server signs `ServiceAccount` tokens with and verifies them.
struct SigningKeys {
    private: String,
    public: String,
}

/// A new ECDSA P-256 key pair.
fn signing_keys() -> Result<SigningKeys> {
    // Everything before the point in the DER form of such a public key (RFC 5480).
    const PUBLIC_PREFIX: [u8; 26] = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42,
        0x00,
    ];
    let random = SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
    let private = EcdsaKeyPair::generate_pkcs8(algorithm, &random).map_err(|_| anyhow!("making a signing key"))?;
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, private.as_ref(), &random).map_err(|_| anyhow!("reading the signing key"))?;
    let public = [&PUBLIC_PREFIX, pair.public_key().as_ref()].concat();
    let pem = |label: &str, der: &[u8]| format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64_STANDARD.encode(der));
    Ok(SigningKeys { private: pem("PRIVATE KEY", private.as_ref()), public: pem("PUBLIC KEY", &public) })
}

fn write_kubeconfig(path: &Path, cluster: &Value, token: &str, namespace: &str) -> Result<()> {
    // JSON is YAML, and the tools read it as such.
    let content = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "testbed", "cluster": cluster}],
        "users": [{"name": "testbed", "user": {"token": token}}],
        "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": "testbed", "namespace": namespace}}],
        "current-context": "testbed",
    });
    write_private(path, &serde_json::to_string_pretty(&content)?)
}

/// Writes a file that only this user can read. It must not exist.
fn write_private(path: &Path, content: &str) -> Result<()> {
    let open = || -> std::io::Result<File> { OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) };
    open().and_then(|mut file| file.write_all(content.as_bytes())).with_context(|| format!("writing {}", path.display()))
}
