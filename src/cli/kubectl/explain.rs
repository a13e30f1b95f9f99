//! `explain`: one RobotoSecret from its provider to whoever uses its Secret, what is wrong with it, and what helps.
//!
//! A name enters; a page leaves, with what can't be seen named in a line of its own. No value is on it, only lengths.

pub mod push;
mod references;

use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
};

use k8s_openapi::{api::core::v1::Event, apimachinery::pkg::apis::meta::v1::Condition, jiff::Timestamp};
use kube::{ResourceExt, api::ListParams};
use robotosecret::{
    api::{
        Reason, RobotoSecret,
        provider::ProviderId,
        robotosecret::RefreshPolicy,
        status::{FRESH, READY, STALLED},
    },
    controller::plan::Plan,
};

use self::references::References;
use super::{
    access::{self, Connection, Failure, Sight},
    consumers::Consumers,
    keys::{self, Kept},
    kinds::Kind,
    provider::{self, Provided},
    status::Standing,
    table::{self, Terminal, Tone, age, clean, counted, painted},
};

/// How many events are shown.
const EVENTS: usize = 5;
/// Who reports the events that are shown: a text of somebody else could say anything.
const REPORTER: &str = "robotosecret";
/// What is said of one that is suspended.
const SUSPENDED: &str = "suspended: nothing is read and nothing is written";

/// Does it.
pub async fn run(connection: &Connection, name: &str) -> Result<ExitCode, Failure> {
    let resource: RobotoSecret = connection.resource(name).await?;
    let plan = Plan::new(&resource.spec).map_err(|problem| problem.to_string());
    let target = keys::target(&resource);
    let named = plan.iter().flat_map(|plan| &plan.questions).map(|planned| &planned.provider).chain([&resource.spec.provider]);
    let ids: BTreeSet<ProviderId> = named.map(|one| ProviderId::meant(one, &connection.namespace)).collect();
    let mut providers: BTreeMap<ProviderId, Sight<Option<Provided>>> = BTreeMap::new();
    for id in ids {
        let sight = provider::look(connection, &id).await;
        providers.insert(id, sight);
    }
    let (labels, secret, users, events) =
        tokio::join!(provider::labels(connection), keys::look(connection, &target), Consumers::find(connection), events(connection, &resource));
    let (now, colour) = (Timestamp::now(), Terminal::new().colour);
    let lengths = match &secret {
        Sight::Seen(Some(kept)) => Some(keys::own(&resource, kept)),
        _ => None,
    };
    let mut page = about(&resource, &policy(&resource), now, colour);
    let mut section =
        |title: &str, lines: Vec<String>| page.extend([String::new(), title.to_owned()].into_iter().chain(lines.iter().map(|line| format!("  {line}"))));
    for (id, sight) in &providers {
        section(&id.to_string(), provider_lines(sight, colour));
    }
    let references = match &plan {
        Ok(plan) => References { resource: &resource, plan, providers: &providers, labels: &labels, lengths: lengths.as_ref(), now }.lines(),
        Err(problem) => vec![format!("the spec can't be carried out: {}", clean(problem))],
    };
    section("References", references);
    section(&format!("Secret {target}"), secret_lines(&resource, &secret));
    section("Used by", user_lines(&users, &connection.namespace, &target));
    section("Events", event_lines(&events, now));
    table::print(&table::joined(&page))?;
    Ok(ExitCode::SUCCESS)
}

/// The resource and its conditions, with what helps.
fn about<K: Kind>(resource: &K, policy: &str, now: Timestamp, colour: bool) -> Vec<String> {
    let (status, standing) = (resource.told(), Standing::of(resource));
    let verdict = if standing.well { painted("well", Tone::Good, colour) } else { painted("not well", Tone::Bad, colour) };
    let mut lines = vec![format!("{} {}/{}: {verdict}", K::kind(&()), standing.namespace, resource.name_any())];
    let mut told: Option<&Condition> = None;
    for condition in [READY, FRESH, STALLED].iter().filter_map(|type_| status.condition(type_)) {
        // Stalled is bad where it is True.
        let bad = if condition.type_ == STALLED { condition.status == "True" } else { condition.status != "True" };
        let tone = if condition.type_ == STALLED && bad { Tone::Bad } else { Tone::of(&condition.status) };
        let since = Some(condition.last_transition_time.0).filter(|time| time.as_second() > 0);
        let since = since.map_or_else(String::new, |since| format!(", since {}", age(Some(since), now)));
        lines.push(format!("  {} is {}{since}: {}", condition.type_, painted(&clean(&condition.status), tone, colour), clean(&condition.reason)));
        if told.is_some_and(|told| told.reason == condition.reason && told.message == condition.message) {
            continue;
        }
        if !condition.message.is_empty() {
            lines.push(format!("    {}", clean(&condition.message)));
        }
        // What is meant to be so needs no cure.
        if bad && !standing.well {
            lines.extend(Reason::named(&condition.reason).map(|reason| format!("    what helps: {}", K::cure(reason))));
        }
        told = Some(condition);
    }
    if status.conditions.is_empty() || standing.reason == Reason::Pending.as_str() && standing.ready == "True" {
        lines.extend([format!("  {}", clean(&standing.message)), format!("    what helps: {}", K::cure(Reason::Pending))]);
    }
    let ago = |time: Option<Timestamp>| time.map_or_else(|| "never".to_owned(), |time| age(Some(time), now) + " ago");
    lines.push(format!("  checked {}, changed {}, {policy}", ago(standing.checked), ago(resource.content().changed())));
    lines
}

/// How often it is looked at.
fn policy(resource: &RobotoSecret) -> String {
    match (resource.spec.suspend, resource.spec.refresh_policy) {
        (true, _) => SUSPENDED.to_owned(),
        (false, RefreshPolicy::Ttl) => format!("rechecked every {}", clean(&resource.spec.ttl)),
        (false, RefreshPolicy::OnChange) => "read again when the spec changes".to_owned(),
        (false, RefreshPolicy::Once) => "read once".to_owned(),
    }
}

fn provider_lines(sight: &Sight<Option<Provided>>, colour: bool) -> Vec<String> {
    let provided = match sight {
        Sight::Hidden(why) => return vec![why.clone()],
        Sight::Seen(None) => return vec!["it isn't there".to_owned(), format!("what helps: {}", Reason::ProviderNotFound.cure())],
        Sight::Seen(Some(provided)) => provided,
    };
    let mut lines = vec![clean(&provided.reads())];
    for condition in provided.conditions() {
        let good = condition.type_ == READY;
        let tone = if good { Tone::of(&condition.status) } else { Tone::Bad };
        lines.push(format!(
            "{} is {}: {}, {}",
            clean(&condition.type_),
            painted(&clean(&condition.status), tone, colour),
            clean(&condition.reason),
            clean(&condition.message)
        ));
        if let Some(reason) = Reason::named(&condition.reason).filter(|_| good && condition.status != "True") {
            lines.push(format!("  what helps: {}", reason.cure()));
        }
    }
    if provided.ready().is_none() {
        lines.push("the controller hasn't said anything about it yet".to_owned());
    }
    lines
}

fn secret_lines(resource: &RobotoSecret, sight: &Sight<Option<Kept>>) -> Vec<String> {
    let kept = match sight {
        Sight::Hidden(why) => {
            let written = resource.status.as_ref().and_then(|status| status.target.as_ref());
            let keys = written.map(|target| format!("the controller wrote {}: {}", counted(target.keys.len(), "key"), clean(&target.keys.join(", "))));
            return [Some(why.clone()), keys].into_iter().flatten().collect();
        }
        Sight::Seen(None) => return vec!["it isn't there".to_owned()],
        Sight::Seen(Some(kept)) => kept,
    };
    let whose = keys::whose(resource, &kept.seen);
    // What is in somebody else's is none of this one's.
    if keys::foreign(resource, &kept.seen).is_some() {
        return vec![clean(&whose)];
    }
    let own = keys::own(resource, kept);
    let mut lines = vec![clean(&format!("{whose}, type {}", kept.type_))];
    lines.extend(own.iter().map(|(key, length)| format!("{key}: {}", counted(*length, "byte"))));
    if own.len() < kept.lengths.len() {
        lines.push("the keys of others are left out".to_owned());
    }
    lines
}

fn user_lines(users: &Consumers, namespace: &str, target: &str) -> Vec<String> {
    let mut lines: Vec<String> = users.of(namespace, target).iter().map(|user| clean(user)).collect();
    if lines.is_empty() && users.hidden.is_empty() {
        lines.push("nobody that was found".to_owned());
    }
    lines.extend(users.hidden.iter().cloned());
    lines
}

async fn events(connection: &Connection, resource: &impl Kind) -> Sight<Vec<Event>> {
    let about = format!("involvedObject.uid={}", resource.uid().unwrap_or_default());
    let found = access::list(&connection.api::<Event>(), ListParams::default().fields(&about)).await;
    Sight::of(found, "events can't be listed")
}

fn event_lines(events: &Sight<Vec<Event>>, now: Timestamp) -> Vec<String> {
    let events = match events {
        Sight::Hidden(why) => return vec![why.clone()],
        Sight::Seen(events) => events,
    };
    let mut ours: Vec<(Timestamp, &Event)> =
        events.iter().filter(|event| event.reporting_component.as_deref() == Some(REPORTER)).map(|event| (last_seen(event), event)).collect();
    ours.sort_by_key(|(time, _)| *time);
    let line = |(time, event): &(Timestamp, &Event)| {
        let text = |part: &Option<String>| clean(part.as_deref().unwrap_or_default());
        let count =
            event.series.as_ref().and_then(|series| series.count).filter(|count| *count > 1).map_or_else(String::new, |count| format!(" ({count} times)"));
        format!("{} ago{count} {} {}: {}", age(Some(*time), now), text(&event.type_), text(&event.reason), text(&event.message))
    };
    let lines: Vec<String> = ours[ours.len().saturating_sub(EVENTS)..].iter().map(line).collect();
    if lines.is_empty() { vec!["none".to_owned()] } else { lines }
}

fn last_seen(event: &Event) -> Timestamp {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
    let single = || event.last_timestamp.as_ref().map(|time| time.0).or_else(|| event.event_time.as_ref().map(|time| time.0));
    series.or_else(single).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_comes_with_what_helps_and_once() {
        let condition = |type_: &str, status: &str| json!({"type": type_, "status": status, "reason": "SourceNotFound", "message": "aws.sm://x: none", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let resource: RobotoSecret = serde_json::from_value(json!({
            "apiVersion": "robotosecret.dev/v1alpha1", "kind": "RobotoSecret", "metadata": {"name": "db", "namespace": "shop", "generation": 1},
            "spec": {"uri": "aws.sm://x", "ttl": "10s"},
            "status": {"observedGeneration": 1, "conditions": [condition("Ready", "False"), condition("Fresh", "False")]},
        }))
        .expect("a RobotoSecret");
        let text = about(&resource, &policy(&resource), "2026-01-01T00:01:00Z".parse().expect("a time"), false);
        assert_eq!(
            text,
            [
                "RobotoSecret shop/db: not well",
                "  Ready is False, since 60s: SourceNotFound",
                "    aws.sm://x: none",
                "    what helps: check the name, and where it is looked for (region, account, mount, organisation); put it back; or delete the resource",
                "  Fresh is False, since 60s: SourceNotFound",
                "  checked never, changed never, rechecked every 10s",
            ]
        );
    }

    #[test]
    fn events_of_others_are_left_out() {
        let event = |reporter: &str, count: i32| -> Event {
            serde_json::from_value(json!({
                "metadata": {}, "involvedObject": {}, "reportingComponent": reporter, "type": "Warning", "reason": "CheckFailed", "message": "text",
                "eventTime": "2026-01-01T00:00:00.000000Z", "series": {"count": count, "lastObservedTime": "2026-01-01T00:00:30.000000Z"},
            }))
            .expect("an event")
        };
        let lines = event_lines(&Sight::Seen(vec![event("somebody", 1), event("robotosecret", 3)]), "2026-01-01T00:01:00Z".parse().expect("a time"));
        assert_eq!(lines, ["30s ago (3 times) Warning CheckFailed: text"]);
        assert_eq!(event_lines(&Sight::Hidden("events can't be listed: forbidden".into()), Timestamp::now()), ["events can't be listed: forbidden"]);
    }
}
