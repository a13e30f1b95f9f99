//! moto, the emulated AWS. A folder for its log enters, a server that answers on a loopback port leaves. Its Python packages
//! live in the cache, as `requirements.txt` beside this package pins them. It must never see a real credential: it gets made-up ones.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use aws_sdk_secretsmanager::config::retry::RetryConfig;

use crate::process::{Process, Spec};
use crate::{aws, cache, http, port};

/// What moto and its packages need.
const PYTHON: (u32, u32) = (3, 11);

/// moto imports its services when they are first asked for, so a cold start on a busy machine takes its time.
const READY_WITHIN: Duration = Duration::from_mins(1);

/// How often something is asked at most. moto fails with HTTP 500 where it looks something up while something else is made.
pub(crate) const STUMBLES: u32 = 10;

fn patience() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(STUMBLES).with_initial_backoff(Duration::from_millis(50))
}

/// A running moto server: Secrets Manager, SSM, STS, KMS and more on one port, empty at the start. Ends on drop.
#[derive(Debug)]
pub struct Moto {
    url: String,
    process: Process,
}

impl Moto {
    /// Starts moto on a free loopback port and returns when it answers; the first time on a machine it installs moto, which takes
    /// a minute and needs the network. Its log goes to `<dir>/moto.log`. Blocks the thread.
    pub fn start(dir: &Path) -> Result<Self> {
        let python = python()?;
        port::retry(|| {
            let [port] = port::free()?;
            // `-m` instead of the script `moto_server`, whose first line holds the environment's path before it was renamed.
            let process = Spec::new(&python)
                .name("moto")
                .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
                .env("AWS_ACCESS_KEY_ID", aws::ACCESS_KEY_ID)
                .env("AWS_SECRET_ACCESS_KEY", aws::SECRET_ACCESS_KEY)
                .env("AWS_DEFAULT_REGION", aws::REGION)
                .env("PYTHONUNBUFFERED", "1")
                // Its state dies with it.
                .grace(Duration::ZERO)
                .start(dir)?;
            let end = Instant::now() + READY_WITHIN;
            while !http::get(port, "/moto-api/").is_ok_and(|(status, _)| status == 200) {
                if !process.is_running() {
                    bail!("moto ended at its start; {}", process.log_tail());
                }
                if Instant::now() > end {
                    bail!("moto doesn't answer within {READY_WITHIN:?}; {}", process.log_tail());
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            Ok(Self { url: format!("http://127.0.0.1:{port}"), process })
        })
    }

    /// The endpoint of all its services, for instance `http://127.0.0.1:43123`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The server's process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// A new Secrets Manager client for this server, which asks again where moto stumbles (see [`STUMBLES`]).
    #[must_use]
    pub fn secrets_manager(&self) -> aws_sdk_secretsmanager::Client {
        let client = aws::secrets_manager(&self.url);
        aws_sdk_secretsmanager::Client::from_conf(client.config().to_builder().retry_config(patience()).build())
    }

    /// A new Parameter Store client for this server.
    #[must_use]
    pub fn ssm(&self) -> aws_sdk_ssm::Client {
        let client = aws::ssm(&self.url);
        aws_sdk_ssm::Client::from_conf(client.config().to_builder().retry_config(patience()).build())
    }
}

/// The interpreter of a virtual environment with moto and hvac in it: `<cache>/moto-<hash of requirements.txt>/bin/python`.
pub fn python() -> Result<PathBuf> {
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("requirements.txt");
    let folder = cache::root()?.join(format!("moto-{}", cache::key(std::slice::from_ref(&requirements))?));
    let python = folder.join("bin/python");
    // The environment stands on the system's Python; one that was upgraded away leaves a link to nowhere.
    if folder.exists() && !python.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("removing {}, whose Python is gone", folder.display()))?;
    }
    cache::get_or_build(&folder, |temporary| {
        let system = system_python()?;
        let venv = Spec::new(system).name("venv").args(["-m", "venv"]).arg(temporary).remove_at_end(temporary);
        cache::run("making a Python environment for moto", venv)?;
        let pip = Spec::new(temporary.join("bin/python"))
            .name("pip")
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
            .arg(&requirements)
            .remove_at_end(temporary);
        cache::run("installing moto, the emulated AWS (once a machine, about a minute)", pip)
    })?;
    Ok(python)
}

/// The first Python on `PATH` that is new enough and can make environments.
fn system_python() -> Result<&'static str> {
    let (major, minor) = PYTHON;
    let check = format!("import sys, venv, ensurepip; sys.exit(sys.version_info < ({major}, {minor}))");
    ["python3", "python3.14", "python3.13", "python3.12", "python3.11"]
        .into_iter()
        .find(|name| Command::new(name).args(["-c", &check]).output().is_ok_and(|output| output.status.success()))
        .with_context(|| {
            format!("moto, the emulated AWS, needs Python {major}.{minor} or newer with its venv module on PATH (Debian: apt install python3 python3-venv)")
        })
}
