//! A node to try things on: nothing is played, and everything stays until Ctrl-C. A stage enters, how to use it is printed.

use std::time::Duration;

use anyhow::Result;
use testbed::aws;
use testbed::binaries::{self, Tool};

use crate::stage::{Stage, heading, step};

pub fn play(stage: &Stage) -> Result<()> {
    heading("a node to try things on, until Ctrl-C");
    step("helm install, with default values but the image", || stage.reinstall(&[]))?;
    stage.provide()?;
    let folder = |tool| -> Result<String> { Ok(binaries::find(tool)?.parent().map(|folder| folder.display().to_string()).unwrap_or_default()) };
    println!("Enter it by the command above, then:");
    println!("export KUBECONFIG={}", stage.node.plane().kubeconfig().display());
    println!("export PATH={}:{}:$PATH", folder(Tool::Kubectl)?, folder(Tool::Helm)?);
    // Of the emulated AWS, which takes any.
    let (id, key) = (aws::ACCESS_KEY_ID, aws::SECRET_ACCESS_KEY);
    println!("export AWS_ENDPOINT_URL={} AWS_ACCESS_KEY_ID={id} AWS_SECRET_ACCESS_KEY={key} AWS_REGION={}", stage.front.url(), aws::REGION);
    println!("The ClusterRobotoProvider `default` lets every namespace read what is below prod/ in Secrets Manager.");
    loop {
        std::thread::sleep(Duration::from_mins(60));
    }
}
