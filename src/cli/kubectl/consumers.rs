//! Consumers: who uses a Secret.
//!
//! Pods, ServiceAccounts and Ingresses enter; for each Secret the workloads that use it, and how, leave. Only names are looked at.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{
    core::v1::{Pod, PodSpec, ServiceAccount},
    networking::v1::Ingress,
};
use kube::ResourceExt;

use super::{
    access::{Connection, Sight},
    table::counted,
};

/// Who uses the Secrets of some namespaces, and what of it could not be seen.
#[derive(Default)]
pub struct Consumers {
    /// By namespace and name of the Secret: by workload.
    by_secret: BTreeMap<(String, String), BTreeMap<String, Use>>,
    /// Why something isn't known, a line each.
    pub hidden: Vec<String>,
}

/// How one workload uses a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Use {
    how: BTreeSet<String>,
    pods: BTreeSet<String>,
}

impl Consumers {
    /// Looks for them in the namespace, or in all.
    pub async fn find(connection: &Connection) -> Self {
        let (pods, accounts, ingresses) = tokio::join!(connection.list::<Pod>(), connection.list::<ServiceAccount>(), connection.list::<Ingress>());
        let mut found = Self::default();
        found.take(Sight::of(pods, "pods can't be listed"), Self::pod);
        found.take(Sight::of(accounts, "serviceaccounts can't be listed"), Self::account);
        found.take(Sight::of(ingresses, "ingresses can't be listed"), Self::ingress);
        found
    }

    fn take<T>(&mut self, sight: Sight<Vec<T>>, note: impl Fn(&mut Self, &T)) {
        match sight {
            Sight::Seen(all) => all.iter().for_each(|one| note(self, one)),
            Sight::Hidden(why) => self.hidden.push(why),
        }
    }

    /// Who uses this Secret, a line each.
    pub fn of(&self, namespace: &str, secret: &str) -> Vec<String> {
        let users = self.by_secret.get(&(namespace.to_owned(), secret.to_owned()));
        users.into_iter().flatten().map(|(workload, used)| used.told(workload)).collect()
    }

    fn note(&mut self, namespace: Option<String>, secret: &str, workload: &str, how: &str, pod: Option<&str>) {
        let key = (namespace.unwrap_or_default(), secret.to_owned());
        let used = self.by_secret.entry(key).or_default().entry(workload.to_owned()).or_default();
        used.how.insert(how.to_owned());
        used.pods.extend(pod.map(str::to_owned));
    }

    fn pod(&mut self, pod: &Pod) {
        // What has run to its end uses nothing any more.
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let Some(spec) = pod.spec.as_ref().filter(|_| !matches!(phase, Some("Succeeded" | "Failed"))) else { return };
        let (workload, name) = (workload(pod), pod.name_any());
        for (secret, how) in uses(spec) {
            self.note(pod.namespace(), secret, &workload, &how, (workload != format!("Pod {name}")).then_some(&name));
        }
    }

    fn account(&mut self, account: &ServiceAccount) {
        let workload = format!("ServiceAccount {}", account.name_any());
        for pull in account.image_pull_secrets.iter().flatten() {
            self.note(account.namespace(), &pull.name, &workload, "imagePullSecrets", None);
        }
        for secret in account.secrets.iter().flatten().filter_map(|secret| secret.name.as_deref()) {
            self.note(account.namespace(), secret, &workload, "secrets", None);
        }
    }

    fn ingress(&mut self, ingress: &Ingress) {
        let workload = format!("Ingress {}", ingress.name_any());
        for secret in ingress.spec.iter().flat_map(|spec| spec.tls.iter().flatten()).filter_map(|tls| tls.secret_name.as_deref()) {
            self.note(ingress.namespace(), secret, &workload, "tls", None);
        }
    }
}

impl Use {
    fn told(&self, workload: &str) -> String {
        let how = self.how.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let pods = if self.pods.is_empty() { String::new() } else { format!(", {}", counted(self.pods.len(), "pod")) };
        format!("{workload} ({how}{pods})")
    }
}

/// What the pod belongs to, as far as the pod itself tells.
fn workload(pod: &Pod) -> String {
    let Some(owner) = pod.owner_references().iter().find(|owner| owner.controller == Some(true)) else { return format!("Pod {}", pod.name_any()) };
    // A Deployment's ReplicaSet is called like it, with the hash that its pods are labelled with.
    let hash = pod.labels().get("pod-template-hash").map(|hash| format!("-{hash}"));
    match hash.as_deref().and_then(|hash| owner.name.strip_suffix(hash)) {
        Some(deployment) if owner.kind == "ReplicaSet" => format!("Deployment {deployment}"),
        _ => format!("{} {}", owner.kind, owner.name),
    }
}

/// The Secrets that a pod names, each with how.
fn uses(spec: &PodSpec) -> Vec<(&str, String)> {
    let mut found: Vec<(&str, String)> = spec.image_pull_secrets.iter().flatten().map(|pull| (pull.name.as_str(), "imagePullSecrets".to_owned())).collect();
    for volume in spec.volumes.iter().flatten() {
        let how = format!("volume {}", volume.name);
        found.extend(volume.secret.iter().filter_map(|secret| Some((secret.secret_name.as_deref()?, how.clone()))));
        let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
        found.extend(sources.filter_map(|source| source.secret.as_ref()).map(|secret| (secret.name.as_str(), how.clone())));
    }
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten()).map(|container| (&container.env, &container.env_from));
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|container| (&container.env, &container.env_from));
    for (env, env_from) in containers.chain(ephemeral) {
        for variable in env.iter().flatten() {
            let key = variable.value_from.as_ref().and_then(|from| from.secret_key_ref.as_ref());
            found.extend(key.map(|key| (key.name.as_str(), format!("env {}", variable.name))));
        }
        found.extend(env_from.iter().flatten().filter_map(|from| from.secret_ref.as_ref()).map(|secret| (secret.name.as_str(), "envFrom".to_owned())));
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_way_to_use_a_secret_is_found() {
        let mut found = Consumers::default();
        let pod = |name: &str, owner: serde_json::Value, phase: &str| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "shop", "labels": {"pod-template-hash": "abc"}, "ownerReferences": owner},
                "spec": {
                    "imagePullSecrets": [{"name": "pull"}],
                    "volumes": [{"name": "v", "secret": {"secretName": "a"}}, {"name": "p", "projected": {"sources": [{"secret": {"name": "b"}}]}}],
                    "initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "a"}}]}],
                    "containers": [{"name": "c", "env": [{"name": "PW", "valueFrom": {"secretKeyRef": {"name": "a", "key": "k"}}}, {"name": "X", "value": "a"}]}],
                },
                "status": {"phase": phase},
            }))
            .expect("a pod")
        };
        let owner = |kind: &str, name: &str| json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "u", "controller": true}]);
        found.pod(&pod("web-abc-1", owner("ReplicaSet", "web-abc"), "Running"));
        found.pod(&pod("web-abc-2", owner("ReplicaSet", "web-abc"), "Pending"));
        found.pod(&pod("db-0", owner("StatefulSet", "db"), "Running"));
        found.pod(&pod("alone", json!(null), "Running"));
        found.pod(&pod("done", json!(null), "Succeeded"));
        found.account(
            &serde_json::from_value(json!({"metadata": {"name": "robot", "namespace": "shop"}, "imagePullSecrets": [{"name": "pull"}]})).expect("one"),
        );
        found.ingress(
            &serde_json::from_value(json!({"metadata": {"name": "front", "namespace": "shop"}, "spec": {"tls": [{"secretName": "tls"}]}})).expect("one"),
        );
        assert_eq!(
            found.of("shop", "a"),
            [
                "Deployment web (env PW, envFrom, volume v, 2 pods)",
                "Pod alone (env PW, envFrom, volume v)",
                "StatefulSet db (env PW, envFrom, volume v, 1 pod)"
            ]
        );
        assert_eq!(found.of("shop", "b"), ["Deployment web (volume p, 2 pods)", "Pod alone (volume p)", "StatefulSet db (volume p, 1 pod)"]);
        assert_eq!(found.of("shop", "pull").last().map(String::as_str), Some("StatefulSet db (imagePullSecrets, 1 pod)"));
        assert!(found.of("shop", "pull").contains(&"ServiceAccount robot (imagePullSecrets)".to_owned()));
        assert_eq!(found.of("shop", "tls"), ["Ingress front (tls)"]);
        assert!(found.of("other", "a").is_empty());
    }
}
