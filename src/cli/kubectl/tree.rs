//! `tree`: providers, their RobotoSecrets and RobotoPushes, the Secrets and who uses them.
//!
//! These enter, and what can be seen around them; a tree leaves. Of a Secret, what the status says is told; none is read.

use std::{collections::BTreeMap, process::ExitCode};

use kube::ResourceExt;
use robotosecret::{
    api::{RobotoPush, RobotoSecret, provider::ProviderId},
    controller::plan::Plan,
};

use super::{
    access::{Chosen, Connection, Failure, Sight},
    consumers::Consumers,
    keys, provider,
    status::Standing,
    table::{self, Terminal, Tone, clean, counted, painted},
    tree_lines::{Node, drawn},
};

/// Does it.
pub async fn run(connection: &Connection, name: Option<&str>) -> Result<ExitCode, Failure> {
    let names: Vec<String> = name.iter().map(|&name| name.to_owned()).collect();
    let Chosen { secrets: resources, pushes, missing } = connection.chosen(&names).await?;
    // The rest is shown.
    if !pushes.is_empty() {
        table::complain(&missing);
    } else if let Some(missing) = missing.into_iter().next() {
        return Err(missing);
    }
    if resources.is_empty() && pushes.is_empty() {
        table::print("no RobotoSecrets\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let terminal = Terminal::new();
    let users = Consumers::find(connection).await;
    let mut groups: BTreeMap<ProviderId, Vec<Node>> = BTreeMap::new();
    for resource in &resources {
        let id = ProviderId::meant(&resource.spec.provider, &resource.namespace().unwrap_or_default());
        groups.entry(id).or_default().push(branch(resource, &users, connection.everywhere, terminal.colour));
    }
    for push in &pushes {
        let id = ProviderId::meant(&push.spec.provider, &push.namespace().unwrap_or_default());
        groups.entry(id).or_default().push(twig(push, connection.everywhere, terminal.colour));
    }
    let mut roots = Vec::new();
    for (id, branches) in groups {
        let (state, tone) = match provider::look(connection, &id).await {
            Sight::Hidden(_) => ("can't be seen".to_owned(), Tone::Doubtful),
            Sight::Seen(None) => ("not there".to_owned(), Tone::Bad),
            Sight::Seen(Some(provided)) => {
                provided.ready().map_or_else(|| ("not looked at yet".to_owned(), Tone::Doubtful), |ready| (clean(&ready.reason), Tone::of(&ready.status)))
            }
        };
        let namespace = id.namespace.as_ref().filter(|_| connection.everywhere).map_or_else(String::new, |namespace| format!("{namespace}/"));
        roots.push(Node { text: format!("{} {namespace}{}: {}", id.kind().as_str(), id.name, painted(&state, tone, terminal.colour)), children: branches });
    }
    table::print(&(drawn(&roots, terminal.unicode) + &table::joined(&users.hidden)))?;
    Ok(ExitCode::SUCCESS)
}

/// A RobotoSecret with what hangs on it.
fn branch(resource: &RobotoSecret, users: &Consumers, with_namespace: bool, colour: bool) -> Node {
    let standing = Standing::of(resource);
    let (namespace, target) = (&standing.namespace, keys::target(resource));
    let written = resource.status.as_ref().and_then(|status| status.target.as_ref()).filter(|written| written.name == target);
    let state = written.map_or_else(|| "not written yet".to_owned(), |written| counted(usize::try_from(written.key_count).unwrap_or_default(), "key"));
    let leaves = users.of(namespace, &target).into_iter().map(|text| Node { text: clean(&text), children: Vec::new() }).collect();
    let name = if with_namespace { format!("{namespace}/{}", standing.name) } else { standing.name.clone() };
    let tone = if standing.well { Tone::Good } else { Tone::Bad };
    let text = format!("RobotoSecret {name}: {}{}", painted(&clean(&standing.reason), tone, colour), also(resource));
    Node { text, children: vec![Node { text: format!("Secret {target}: {state}"), children: leaves }] }
}

/// A RobotoPush with what it is written to.
fn twig(push: &RobotoPush, with_namespace: bool, colour: bool) -> Node {
    let standing = Standing::of(push);
    let name = if with_namespace { format!("{}/{}", standing.namespace, push.name_any()) } else { push.name_any() };
    let tone = if standing.well { Tone::Good } else { Tone::Bad };
    let targets = push.status.iter().flat_map(|status| &status.targets).map(|target| {
        let state = match (&target.reason, &target.version) {
            (Some(reason), _) => reason.clone(),
            (None, Some(version)) => format!("version {version}"),
            (None, None) => "written".to_owned(),
        };
        Node { text: clean(&format!("{}: {state}", target.uri)), children: Vec::new() }
    });
    let source = Node { text: format!("Secret {}", clean(&push.spec.secret_name)), children: targets.collect() };
    Node { text: format!("RobotoPush {name}: {}", painted(&clean(&standing.reason), tone, colour)), children: vec![source] }
}

/// The further providers that its entries name.
fn also(resource: &RobotoSecret) -> String {
    let plan = Plan::new(&resource.spec).ok();
    let mut others: Vec<String> = plan.iter().flat_map(|plan| &plan.questions).filter_map(|planned| planned.foreign(&resource.spec.provider)).collect();
    others.sort();
    others.dedup();
    if others.is_empty() { String::new() } else { format!(", also through {}", others.join(", ")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_branch_names_the_secret_and_every_further_provider() {
        let resource: RobotoSecret = serde_json::from_value(json!({
            "apiVersion": "robotosecret.dev/v1alpha1", "kind": "RobotoSecret", "metadata": {"name": "db", "namespace": "shop", "generation": 1},
            "spec": {"dataFrom": [{"uri": "aws.sm://y", "provider": {"kind": "RobotoProvider", "name": "own"}}], "target": {"name": "other"}},
            "status": {"target": {"name": "other", "uid": "u", "resourceVersion": "1", "keyCount": 3}},
        }))
        .expect("a RobotoSecret");
        let node = branch(&resource, &Consumers::default(), true, false);
        assert_eq!(drawn(&[node], false), "RobotoSecret shop/db: Pending, also through RobotoProvider/own\n`-- Secret other: 3 keys\n");
        let push: RobotoPush = serde_json::from_value(json!({
            "apiVersion": "robotosecret.dev/v1alpha1", "kind": "RobotoPush", "metadata": {"name": "up", "namespace": "shop", "generation": 1},
            "spec": {"secretName": "made", "data": [{"uri": "aws.sm://x"}]},
            "status": {"targets": [{"uri": "aws.sm://x", "provider": {"kind": "RobotoProvider", "name": "p"}, "version": "v1"},
                {"uri": "aws.ps:///y", "provider": {"kind": "RobotoProvider", "name": "p"}, "reason": "TargetNotOwned", "message": "m"}]},
        }))
        .expect("a RobotoPush");
        let shown = drawn(&[twig(&push, false, false)], false);
        assert_eq!(shown, "RobotoPush up: Pending\n`-- Secret made\n    |-- aws.sm://x: version v1\n    `-- aws.ps:///y: TargetNotOwned\n");
    }
}
