//! moto, the emulated AWS. A folder for its log enters, a server that answers on a loopback port leaves. Its Python packages
//! live in the cache, as `requirements.txt` beside this package pins them. It must never see a real credential: it gets made-up ones.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use aws_sdk_secretsmanager::config::retry::RetryConfig;

use crate::process::{Process, Spec};
use crate::{aws, http, port, python};

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

/// The interpreter of an environment with moto, hvac and the Roboto SDK in it.
pub fn python() -> Result<PathBuf> {
    python::environment("moto", "requirements.txt", "moto, the emulated AWS (once a machine, about a minute)")
}
