//! `suspend` and `resume`: stops and goes on.
//!
//! Names enter; `spec.suspend` of each is written, by a patch of that field alone, and what happened leaves. What is so already is left alone.

use std::process::ExitCode;

use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{
    MANAGER,
    access::{Chosen, Connection, Failure, failure},
    kinds::Kind,
    table,
};

/// Does it.
pub async fn run(connection: &Connection, names: &[String], suspend: bool) -> Result<ExitCode, Failure> {
    let Chosen { secrets, pushes, missing } = connection.chosen(names).await?;
    set(connection, &secrets, suspend).await?;
    set(connection, &pushes, suspend).await?;
    table::complain(&missing);
    Ok(ExitCode::from(u8::from(!missing.is_empty())))
}

async fn set<K: Kind>(connection: &Connection, resources: &[K], suspend: bool) -> Result<(), Failure> {
    for resource in resources {
        let name = resource.name_any();
        if resource.is_suspended() != suspend {
            // Taken out rather than written as false, as it stands in a spec that never had it.
            let value = suspend.then_some(true);
            let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
            let patched = connection.api::<K>().patch(&name, &parameters, &Patch::Merge(json!({"spec": {"suspend": value}}))).await;
            patched.map_err(|error| failure(&format!("the {} {name} can't be changed", K::kind(&())), &error))?;
        }
        table::print(&format!("{}: {}{}\n", resource.shown(), told(resource.is_suspended(), suspend, K::CHANGES), origin(resource)))?;
    }
    Ok(())
}

fn told(was: bool, suspend: bool, what: &str) -> String {
    match (was, suspend) {
        (false, true) => format!("suspended; nothing is read and nothing is written until it is resumed, and {what} stays as it is"),
        (true, false) => "resumed".to_owned(),
        (true, true) => "is suspended already".to_owned(),
        (false, false) => "is not suspended".to_owned(),
    }
}

/// Who may set it back.
fn origin(resource: &impl ResourceExt) -> String {
    let parent = resource.owner_references().iter().find(|owner| owner.controller == Some(true) && owner.kind == "ClusterRobotoSecret");
    parent.map_or_else(String::new, |parent| format!("; the ClusterRobotoSecret {} made it and sets it back, so change it there", parent.name))
}
