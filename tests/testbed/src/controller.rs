//! The controller as a process of its own, the way a pod would start it. A binary and a kubeconfig enter, a running controller and its
//! pages leave. Nothing of the starter's environment goes in: neither a cluster nor an AWS account of the user.

use std::path::Path;

use anyhow::Result;

use crate::process::{Process, Spec};
use crate::{aws, http, port};

/// A running controller. Dropping it ends the process in order.
#[derive(Debug)]
pub struct Controller {
    /// Its process.
    pub process: Process,
    /// Where its health server listens, on loopback.
    pub port: u16,
}

impl Controller {
    /// Starts `robotosecret controller` with these arguments besides `--listen`, and with the emulated AWS's credentials as the ambient
    /// ones. Its log goes to `<dir>/controller.log`. Doesn't wait.
    pub fn start(binary: &Path, kubeconfig: &Path, arguments: &[&str], dir: &Path) -> Result<Self> {
        let environment = [
            ("AWS_ACCESS_KEY_ID", aws::ACCESS_KEY_ID),
            ("AWS_SECRET_ACCESS_KEY", aws::SECRET_ACCESS_KEY),
            // There is no metadata service on this machine, and asking it takes seconds.
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ];
        Self::start_with(binary, kubeconfig, arguments, &environment, dir)
    }

    /// As [`Controller::start`], with this environment (and `KUBECONFIG`) alone.
    pub fn start_with(binary: &Path, kubeconfig: &Path, arguments: &[&str], environment: &[(&str, &str)], dir: &Path) -> Result<Self> {
        let [port] = port::free()?;
        let spec = Spec::new(binary)
            .name("controller")
            .args(["controller", "--listen", &format!("127.0.0.1:{port}")])
            .args(arguments.iter().copied())
            .env_clear()
            .env("KUBECONFIG", kubeconfig);
        let process = environment.iter().fold(spec, |spec, (name, value)| spec.env(name, value)).start(dir)?;
        Ok(Self { process, port })
    }

    /// A page of the health server: status and text; 0 and nothing if it doesn't answer. Blocks the thread.
    #[must_use]
    pub fn page(&self, path: &str) -> (u16, String) {
        http::get(self.port, path).unwrap_or((0, String::new()))
    }

    /// The sum of a metric over all label sets that contain `labels`. Blocks the thread.
    #[must_use]
    pub fn metric(&self, name: &str, labels: &str) -> f64 {
        let (_, text) = self.page("/metrics");
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(labels));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}
