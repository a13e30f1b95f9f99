//! `suspend` and `resume`: stops and goes on.
//!
//! Names enter; `spec.suspend` of each is written, by a patch of that field alone, and what happened leaves. What is so already is left alone.

use std::process::ExitCode;

use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use robotosecret::api::RobotoSecret;
use serde_json::json;

use super::{
    MANAGER,
    access::{Connection, Failure, failure},
    table,
};

/// Does it.
pub async fn run(connection: &Connection, names: &[String], suspend: bool) -> Result<ExitCode, Failure> {
    let (resources, missing) = connection.resources(names).await?;
    for resource in &resources {
        let name = resource.name_any();
        if resource.spec.suspend != suspend {
            // Taken out rather than written as false, as it stands in a spec that never had it.
            let value = suspend.then_some(true);
            let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
            let patched = connection.api::<RobotoSecret>().patch(&name, &parameters, &Patch::Merge(json!({"spec": {"suspend": value}}))).await;
            patched.map_err(|error| failure(&format!("the RobotoSecret {name} can't be changed"), &error))?;
        }
        table::print(&format!("{name}: {}{}\n", told(resource.spec.suspend, suspend), origin(resource)))?;
    }
    table::complain(&missing);
    Ok(ExitCode::from(u8::from(!missing.is_empty())))
}

const fn told(was: bool, suspend: bool) -> &'static str {
    match (was, suspend) {
        (false, true) => "suspended; nothing is read and nothing is written until it is resumed, and its Secret stays",
        (true, false) => "resumed",
        (true, true) => "is suspended already",
        (false, false) => "is not suspended",
    }
}

/// Who may set it back.
fn origin(resource: &RobotoSecret) -> String {
    let parent = resource.owner_references().iter().find(|owner| owner.controller == Some(true) && owner.kind == "ClusterRobotoSecret");
    parent.map_or_else(String::new, |parent| format!("; the ClusterRobotoSecret {} made it and sets it back, so change it there", parent.name))
}
