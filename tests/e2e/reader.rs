//! Pods that consume a Secret, as environment variable and as volume, and say what they read. A Secret's name enters; which of the values
//! they saw, and every moment at which there was none, leaves. They look ten times a second and know nothing of any of this.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::image;
use crate::stage::{Stage, wait};

/// Says what it reads whenever that changes.
const SCRIPT: &str = r#"
echo "env $PASSWORD"
last=
while :; do
  now=$(/bin/busybox cat /secret/password) || now=missing
  if [ "$now" != "$last" ]; then
    echo "file $now"
    last=$now
  fi
  /bin/busybox usleep 100000
done
"#;

/// A Deployment of one pod that reads the key `password` of a Secret.
pub struct Reader<'r> {
    pub namespace: &'r str,
    pub name: &'r str,
    pub secret: &'r str,
}

impl<'r> Reader<'r> {
    /// One for a Secret of the same name.
    pub fn of(namespace: &'r str, name: &'r str) -> Self {
        Self { namespace, name, secret: name }
    }

    /// Applies it and returns when its pod runs.
    pub fn deploy(&self, stage: &Stage) -> Result<()> {
        stage.apply(&self.deployment())?;
        self.wait_rolled_out(stage)
    }

    fn deployment(&self) -> Value {
        let Self { namespace, name, secret } = self;
        let labels = json!({"app": name});
        let container = json!({
            "name": "reader",
            "image": image::READER,
            "imagePullPolicy": "Never",
            "command": ["/bin/busybox", "sh", "-c", SCRIPT],
            "env": [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": secret, "key": "password"}}}],
            "volumeMounts": [{"name": "secret", "mountPath": "/secret", "readOnly": true}],
            "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
        });
        let pod = json!({
            // A shell as process 1 doesn't hear that it should end.
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
            "volumes": [{"name": "secret", "secret": {"secretName": secret}}],
        });
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": namespace, "name": name},
            "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
        })
    }

    /// Returns when the Deployment's newest pod runs and no other does.
    pub fn wait_rolled_out(&self, stage: &Stage) -> Result<()> {
        stage.kubectl(&["rollout", "status", &format!("deployment/{}", self.name), "--namespace", self.namespace, "--timeout=90s"])?;
        Ok(())
    }

    /// The newest value that a running pod has read as `how`: "env" or "file".
    fn newest(&self, stage: &Stage, how: &str) -> Result<Option<usize>> {
        Ok(self.read(stage)?.into_iter().rfind(|(read, _)| read == how).map(|(_, rotation)| rotation))
    }

    /// Waits until the pod has read the newest value as `how`: "env" or "file".
    pub fn wait_newest(&self, stage: &Stage, how: &str, within: Duration) -> Result<()> {
        wait(&format!("{}/{} reads the newest value as {how}", self.namespace, self.name), within, || {
            Ok(self.newest(stage, how)?.filter(|rotation| *rotation == stage.rotations()))
        })?;
        Ok(())
    }

    /// All that the running pod has read, in order. An error if a value was ever missing, wrong, or older than the one before.
    pub fn read(&self, stage: &Stage) -> Result<Vec<(String, usize)>> {
        let log = stage.kubectl(&["logs", &format!("deployment/{}", self.name), "--namespace", self.namespace])?;
        let mut read: Vec<(String, usize)> = Vec::new();
        for line in log.lines() {
            let (how, value) = line.split_once(' ').context("a line of the reader has two words")?;
            let rotation = stage.rotation_of(value).with_context(|| {
                // The value isn't shown: it might be somebody's.
                let what = if value == "missing" { "found the file missing" } else { "read a wrong value" };
                format!("{}/{} {what} ({how}) after rotation {}", self.namespace, self.name, read.last().map_or(0, |(_, last)| *last))
            })?;
            let before = read.iter().filter(|(read, _)| read == how).map(|(_, rotation)| *rotation).max().unwrap_or(0);
            ensure!(rotation >= before, "{}/{} read rotation {rotation} after {before} ({how})", self.namespace, self.name);
            read.push((how.to_owned(), rotation));
        }
        Ok(read)
    }
}
