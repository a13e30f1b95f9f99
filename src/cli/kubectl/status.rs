//! `status`: how RobotoSecrets and RobotoPushes stand, those that are not well first.
//!
//! These enter; a table or JSON, and whether all are well, leave. Only what their status says is told.

use std::process::ExitCode;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Condition, jiff::Timestamp};
use kube::ResourceExt;
use robotosecret::api::{
    Reason,
    status::{FRESH, READY},
};
use serde::Serialize;

use super::{
    Output,
    access::{Chosen, Connection, Failure},
    kinds::Kind,
    table::{self, Cell, Terminal, Tone, age, table},
};

/// What is said of a condition that isn't there.
const NONE: &str = "-";

/// How one stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    pub namespace: String,
    pub name: String,
    /// Whether the Secret holds what the spec asks for, and no recheck failed.
    pub well: bool,
    pub ready: String,
    pub fresh: String,
    /// Of Ready unless that is True; else of Fresh unless that is True, too.
    pub reason: String,
    /// Since when the condition that the reason is of is as it is.
    pub since: Option<Timestamp>,
    /// When the stores were last asked with success.
    pub checked: Option<Timestamp>,
    pub message: String,
}

impl Standing {
    /// How this one stands.
    pub fn of<K: Kind>(resource: &K) -> Self {
        let status = resource.told();
        let (ready, fresh) = (status.condition(READY), status.condition(FRESH));
        let is = |condition: Option<&Condition>| condition.map_or_else(|| NONE.to_owned(), |condition| condition.status.clone());
        // While it is suspended the controller doesn't look at the spec.
        let seen = resource.is_suspended() || status.observed == resource.meta().generation;
        let well = seen && ready.is_some_and(|ready| ready.status == "True") && fresh.is_none_or(|fresh| fresh.status != "False");
        let told = ready.filter(|ready| ready.status != "True").or_else(|| fresh.filter(|fresh| fresh.status != "True")).or(ready);
        let (reason, message) = match told {
            Some(told) if seen || told.status != "True" => (told.reason.clone(), told.message.clone()),
            Some(_) => (Reason::Pending.to_string(), "the spec was changed, and the controller hasn't looked at it yet".to_owned()),
            None => (Reason::Pending.to_string(), "waiting for the controller".to_owned()),
        };
        // The API server stamps the first status of all with the epoch.
        let since = told.map(|told| told.last_transition_time.0).filter(|time| time.as_second() > 0);
        Self {
            namespace: resource.namespace().unwrap_or_default(),
            name: resource.shown(),
            well,
            ready: is(ready),
            fresh: is(fresh),
            reason,
            since: since.or_else(|| resource.creation_timestamp().map(|time| time.0)),
            checked: status.checked.map(|time| time.0),
            message,
        }
    }
}

/// Does it.
pub async fn run(connection: &Connection, names: &[String], output: Option<Output>) -> Result<ExitCode, Failure> {
    let Chosen { secrets, pushes, missing } = connection.chosen(names).await?;
    let standings = sorted(secrets.iter().map(Standing::of).chain(pushes.iter().map(Standing::of)).collect());
    let text = match output {
        Some(Output::Json) => json(&standings),
        None if standings.is_empty() && names.is_empty() && connection.everywhere => "no RobotoSecrets\n".to_owned(),
        None if standings.is_empty() && names.is_empty() => format!("no RobotoSecrets in the namespace {}\n", connection.namespace),
        None if standings.is_empty() => String::new(),
        None => lines(&standings, connection.everywhere, Timestamp::now(), Terminal::new()),
    };
    table::print(&text)?;
    table::complain(&missing);
    let well = missing.is_empty() && standings.iter().all(|standing| standing.well);
    Ok(ExitCode::from(u8::from(!well)))
}

/// Those that are not well first, each by namespace and name.
fn sorted(mut standings: Vec<Standing>) -> Vec<Standing> {
    standings.sort_by(|a, b| (a.well, &a.namespace, &a.name).cmp(&(b.well, &b.namespace, &b.name)));
    standings
}

fn json(standings: &[Standing]) -> String {
    let well = standings.iter().filter(|standing| standing.well).count();
    format!("{:#}\n", serde_json::json!({"items": standings, "well": well, "notWell": standings.len() - well}))
}

fn lines(standings: &[Standing], with_namespace: bool, now: Timestamp, terminal: Terminal) -> String {
    let head = ["NAMESPACE", "NAME", "READY", "FRESH", "REASON", "SINCE", "CHECKED", "MESSAGE"];
    let row = |standing: &Standing| -> Vec<Cell> {
        let condition = |status: &str| Cell::toned(status, Tone::of(status));
        vec![
            standing.namespace.as_str().into(),
            standing.name.as_str().into(),
            condition(&standing.ready),
            condition(&standing.fresh),
            standing.reason.as_str().into(),
            age(standing.since, now).into(),
            age(standing.checked, now).into(),
            standing.message.as_str().into(),
        ]
    };
    let skip = usize::from(!with_namespace);
    let rows: Vec<Vec<Cell>> = standings.iter().map(|standing| row(standing).split_off(skip)).collect();
    let well = standings.iter().filter(|standing| standing.well).count();
    let not = standings.len() - well;
    let tone = if not == 0 { Tone::Good } else { Tone::Bad };
    let count = if not == 0 { format!("{well} well") } else { format!("{well} well, {not} not") };
    table(&head[skip..], &rows, terminal) + &table::painted(&count, tone, terminal.colour) + "\n"
}

/// What it says, in a line.
pub fn line(standing: &Standing) -> String {
    format!("{}: {}", table::clean(&standing.reason), table::clean(&standing.message))
}

#[cfg(test)]
mod tests {
    use robotosecret::api::RobotoSecret;
    use serde_json::json;

    use super::*;

    fn standing(name: &str, suspend: bool, generation: i64, conditions: &serde_json::Value) -> Standing {
        let resource = json!({
            "apiVersion": "robotosecret.dev/v1alpha1", "kind": "RobotoSecret",
            "metadata": {"name": name, "namespace": "shop", "generation": 2, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"uri": "aws.sm://x", "suspend": suspend},
            "status": {"observedGeneration": generation, "lastCheckTime": "2026-01-01T00:01:00Z", "conditions": conditions},
        });
        Standing::of(&serde_json::from_value::<RobotoSecret>(resource).expect("a RobotoSecret"))
    }

    fn condition(type_: &str, status: &str, reason: &str) -> serde_json::Value {
        json!({"type": type_, "status": status, "reason": reason, "message": format!("about {reason}"), "lastTransitionTime": "2026-01-01T00:00:30Z"})
    }

    #[test]
    fn well_is_what_is_ready_and_did_not_fail() {
        let (mirrored, verified) = (condition("Ready", "True", "Mirrored"), condition("Fresh", "True", "Verified"));
        for (suspend, generation, conditions, expected) in [
            (false, 2, json!([mirrored, verified]), (true, "Mirrored")),
            (false, 2, json!([mirrored, condition("Fresh", "Unknown", "NotRechecked")]), (true, "NotRechecked")),
            (true, 1, json!([mirrored, condition("Fresh", "Unknown", "Suspended")]), (true, "Suspended")),
            (false, 2, json!([mirrored, condition("Fresh", "False", "Throttled")]), (false, "Throttled")),
            (false, 2, json!([condition("Ready", "False", "Stale"), condition("Fresh", "False", "Throttled")]), (false, "Stale")),
            (false, 1, json!([mirrored, verified]), (false, "Pending")),
            (false, 2, json!([]), (false, "Pending")),
            (true, 2, json!([condition("Ready", "Unknown", "Suspended")]), (false, "Suspended")),
        ] {
            let standing = standing("a", suspend, generation, &conditions);
            assert_eq!((standing.well, standing.reason.as_str()), expected, "{conditions}");
        }
    }

    #[test]
    fn since_is_no_epoch() {
        let pending = json!([{"type": "Ready", "status": "Unknown", "reason": "Pending", "message": "", "lastTransitionTime": "1970-01-01T00:00:00Z"}]);
        let created: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        assert_eq!(standing("a", false, 2, &pending).since, Some(created));
    }

    #[test]
    fn those_that_are_not_well_come_first_and_are_counted() {
        let well = json!([condition("Ready", "True", "Mirrored"), condition("Fresh", "True", "Verified")]);
        let all = sorted(vec![
            standing("b", false, 2, &well),
            standing("c", false, 2, &json!([condition("Ready", "False", "NotAllowed")])),
            standing("a", false, 2, &well),
        ]);
        let now = "2026-01-01T00:02:00Z".parse().expect("a time");
        let text = lines(&all, false, now, Terminal { width: 64, colour: false, unicode: false });
        assert_eq!(
            text,
            "NAME  READY  FRESH  REASON      SINCE  CHECKED  MESSAGE\n\
             c     False  -      NotAllowed  90s    60s      about NotAllowed\n\
             a     True   True   Mirrored    90s    60s      about Mirrored\n\
             b     True   True   Mirrored    90s    60s      about Mirrored\n\
             2 well, 1 not\n"
        );
        assert!(lines(&all, true, now, Terminal { width: 80, colour: true, unicode: false }).starts_with("NAMESPACE  NAME  READY"));
        let named = |name: &str| Standing {
            namespace: "a-namespace-of16".into(),
            name: name.into(),
            reason: Reason::ProviderUnavailable.to_string(),
            message: "m".repeat(90),
            ..all[0].clone()
        };
        let text = lines(&[named("of-16-characters"), named("short")], true, now, Terminal { width: 80, colour: false, unicode: false });
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
        assert!(text.contains("a-namespace-of16  of-16-characters  False  -      ProviderUna..."), "{text}");
        let told: serde_json::Value = serde_json::from_str(&json(&all)).expect("JSON");
        assert_eq!((&told["items"][0]["reason"], &told["well"], &told["notWell"]), (&json!("NotAllowed"), &json!(2), &json!(1)));
        assert_eq!(told["items"][0]["since"], "2026-01-01T00:00:30Z");
    }
}
