//! The control plane as the suite uses it: real programs, several at once, nothing left behind.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Api;
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use testbed::{ControlPlane, TempFolder};

const DEADLINE: Duration = Duration::from_mins(1);

fn namespace(name: &str) -> Namespace {
    Namespace { metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() }, ..Namespace::default() }
}

fn exists(pid: u32) -> bool {
    Command::new("sh").args(["-c", &format!("kill -s 0 {pid}")]).stderr(Stdio::null()).status().unwrap().success()
}

#[tokio::test]
async fn two_at_once_serve_and_leave_nothing_behind() {
    let dir = TempFolder::new("test").unwrap();
    let (first_dir, second_dir) = (dir.path().join("first"), dir.path().join("second"));
    // One is started from within this runtime, the other from a plain thread.
    let thread = std::thread::spawn(move || ControlPlane::start(&second_dir).unwrap());
    let first = ControlPlane::start(&first_dir).unwrap();
    let second = thread.join().unwrap();
    assert_ne!(first.url(), second.url());

    let client = first.client().await.unwrap();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.create(&PostParams::default(), &namespace("shop")).await.unwrap();
    assert!(Api::<Namespace>::all(second.client().await.unwrap()).get_opt("shop").await.unwrap().is_none());
    let version = client.apiserver_version().await.unwrap();
    assert!(version.git_version.starts_with("v1."), "{version:?}");

    // A ServiceAccount is who it says, and may nothing by itself.
    let kubeconfig = wait_for(|| first.kubeconfig_for("shop", "default").ok()).await;
    assert_eq!(mode(&kubeconfig), 0o600);
    assert_eq!(mode(first.kubeconfig()), 0o600);
    let output = first.kubectl().args(["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}", "--kubeconfig"]).arg(&kubeconfig).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "system:serviceaccount:shop:default", "{output:?}");
    let account = testbed::control_plane::client(&kubeconfig).await.unwrap();
    let refused = Api::<Secret>::namespaced(account, "shop").get("any").await.unwrap_err();
    assert!(refused.to_string().contains("forbidden"), "{refused}");
    assert!(first.kubeconfig_for("shop", "nobody").is_err());

    // The controllers finish a namespace.
    namespaces.delete("shop", &DeleteParams::default()).await.unwrap();
    let end = Instant::now() + DEADLINE;
    while namespaces.get_opt("shop").await.unwrap().is_some() {
        assert!(Instant::now() < end, "the namespace is still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let pids: Vec<u32> = [&first, &second].iter().flat_map(|it| [it.etcd().pid(), it.api_server().pid(), it.controller_manager().pid()]).collect();
    let data = [first.kubeconfig().parent().unwrap().to_owned(), second.kubeconfig().parent().unwrap().to_owned()];
    assert!(pids.iter().all(|pid| exists(*pid)) && data.iter().all(|dir| dir.exists()));
    drop((first, second));
    assert!(!pids.iter().any(|pid| exists(*pid)), "{pids:?}");
    assert!(!data.iter().any(|dir| dir.exists()), "{data:?}");
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

async fn wait_for<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < end, "waited in vain");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
