//! `explain push/NAME`: one RobotoPush from its Secret by its provider to what it is written to, what is wrong with it, and what helps.
//!
//! A name enters; a page leaves. Of the Secret only its keys and lengths are told, of the store what the status says.

use std::process::ExitCode;

use k8s_openapi::jiff::Timestamp;
use robotosecret::api::{Reason, RobotoPush, provider::ProviderId, robotopush::PushTarget};

use super::{SUSPENDED, about, event_lines, events, provider_lines};
use crate::cli::kubectl::{
    access::{Connection, Failure, Sight},
    keys::{self, Kept},
    kinds::Kind,
    provider,
    table::{self, Terminal, age, clean, counted},
};

/// Does it.
pub async fn run(connection: &Connection, name: &str) -> Result<ExitCode, Failure> {
    let push: RobotoPush = connection.resource(name).await?;
    let id = ProviderId::meant(&push.spec.provider, &connection.namespace);
    let (provided, secret, events) = tokio::join!(provider::look(connection, &id), keys::look(connection, &push.spec.secret_name), events(connection, &push));
    let (now, colour) = (Timestamp::now(), Terminal::new().colour);
    let policy = if push.spec.suspend { SUSPENDED.to_owned() } else { format!("compared every {}", clean(&push.spec.ttl)) };
    let mut page = about(&push, &policy, now, colour);
    let mut section =
        |title: &str, lines: Vec<String>| page.extend([String::new(), title.to_owned()].into_iter().chain(lines.iter().map(|line| format!("  {line}"))));
    section(&format!("Secret {}", clean(&push.spec.secret_name)), secret_lines(&secret));
    section(&id.to_string(), provider_lines(&provided, colour));
    section("Written to", target_lines(&push, now));
    section("Events", event_lines(&events, now));
    table::print(&table::joined(&page))?;
    Ok(ExitCode::SUCCESS)
}

fn secret_lines(sight: &Sight<Option<Kept>>) -> Vec<String> {
    match sight {
        Sight::Hidden(why) => vec![why.clone()],
        Sight::Seen(None) => vec!["it isn't there".to_owned()],
        Sight::Seen(Some(kept)) => kept.lengths.iter().map(|(key, length)| format!("{key}: {}", counted(*length, "byte"))).collect(),
    }
}

/// What it is written to; before the controller looked, what the spec names.
fn target_lines(push: &RobotoPush, now: Timestamp) -> Vec<String> {
    let targets: &[PushTarget] = push.status.as_ref().map_or(&[], |status| &status.targets);
    if targets.is_empty() {
        return push.spec.data.iter().map(|entry| format!("{}: not looked at yet", clean(&entry.uri))).collect();
    }
    let lines = |target: &PushTarget| {
        let keys = if target.keys.is_empty() { String::new() } else { format!(" (keys {})", clean(&target.keys.join(", "))) };
        let version = target.version.as_ref().map_or_else(String::new, |version| format!(", version {}", clean(version)));
        let written = target.last_write_time.as_ref().map_or_else(String::new, |time| format!(", written {} ago", age(Some(time.0), now)));
        let mut lines = vec![format!("{}{keys}{version}{written}", clean(&target.uri))];
        if let Some(reason) = &target.reason {
            lines.push(format!("  {}: {}", clean(reason), clean(target.message.as_deref().unwrap_or_default())));
            lines.extend(Reason::named(reason).map(|reason| format!("  what helps: {}", RobotoPush::cure(reason))));
        }
        lines
    };
    targets.iter().flat_map(lines).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_target_that_failed_comes_with_what_helps() {
        let push = |status: serde_json::Value| -> RobotoPush {
            serde_json::from_value(json!({
                "apiVersion": "robotosecret.dev/v1alpha1", "kind": "RobotoPush", "metadata": {"name": "up", "namespace": "shop"},
                "spec": {"secretName": "made", "data": [{"uri": "aws.sm://x"}]}, "status": status,
            }))
            .expect("a RobotoPush")
        };
        let now = "2026-01-01T00:01:00Z".parse().expect("a time");
        assert_eq!(target_lines(&push(json!({})), now), ["aws.sm://x: not looked at yet"]);
        let target = json!({"uri": "aws.sm://x", "provider": {"kind": "RobotoProvider", "name": "p"}, "keys": ["a", "b"], "version": "v1", "lastWriteTime": "2026-01-01T00:00:00Z",
            "reason": "Throttled", "message": "AWS asks for fewer calls"});
        let lines = target_lines(&push(json!({"targets": [target]})), now);
        assert_eq!(lines[..2], ["aws.sm://x (keys a, b), version v1, written 60s ago", "  Throttled: AWS asks for fewer calls"]);
        assert!(lines[2].starts_with("  what helps: "), "{lines:?}");
    }
}
