//! `diff`: what a RobotoSecret would make beside what its Secret holds, key by key.
//!
//! Without `--source`, what the controller last wrote is the left side, and of the Secret its metadata alone is read: who wrote which key last
//! stands there. With it, the stores are read and the values compared. A verdict a key leaves; no value, no hash and no part of one does.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
};

use k8s_openapi::{api::core::v1::Secret, jiff::Timestamp};
use robotosecret::{
    api::{
        RobotoSecret,
        robotosecret::{CreationPolicy, MergePolicy},
        status::TargetStatus,
    },
    controller::drift::{DATA_FIELD, Seen},
    render::Data,
    sensitive::Sensitive,
};

use super::{
    access::{Connection, Failure, Sight},
    keys, kinds, source,
    table::{self, Cell, Terminal, Tone, age, table},
};
use crate::cli::Access;

/// How the two sides of a key stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Equal,
    Differs,
    Missing,
    Extra,
    Unknown,
}

impl Verdict {
    const ALL: [Self; 5] = [Self::Equal, Self::Differs, Self::Missing, Self::Extra, Self::Unknown];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Differs => "differs",
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Unknown => "unknown",
        }
    }

    const fn tone(self) -> Tone {
        match self {
            Self::Equal => Tone::Good,
            Self::Unknown => Tone::Doubtful,
            Self::Differs | Self::Missing | Self::Extra => Tone::Bad,
        }
    }
}

/// A verdict a key, and why.
type Verdicts = BTreeMap<String, (Verdict, String)>;

/// Does it.
pub async fn run(connection: &Connection, name: &str, access: Option<Access>) -> Result<ExitCode, Failure> {
    if kinds::push_name(name).is_some() {
        return Err(Failure::Impossible("a RobotoPush has no diff; explain says how each of its targets stands".to_owned()));
    }
    let resource: RobotoSecret = connection.resource(name).await?;
    let target = keys::target(&resource);
    let is_written = resource.status.as_ref().and_then(|status| status.target.as_ref()).is_some_and(|written| written.name == target);
    let (heading, verdicts, notes) = match access {
        None => by_metadata(connection, &resource, &target).await,
        Some(access) => Box::pin(by_value(connection, &resource, &target, access)).await?,
    };
    let notes: Vec<String> = notes.iter().map(|note| table::clean(note)).collect();
    table::print(&(heading + "\n" + &table::joined(&notes) + &lines(&verdicts, Terminal::new())))?;
    let same = is_written && verdicts.values().all(|(verdict, _)| *verdict == Verdict::Equal);
    Ok(ExitCode::from(u8::from(!same)))
}

type Compared = (String, Verdicts, Vec<String>);

async fn by_metadata(connection: &Connection, resource: &RobotoSecret, target: &str) -> Compared {
    let found = connection.api::<Secret>().get_metadata_opt(target).await.map(|found| found.map(|found| Seen::new(&found.metadata)));
    let written = resource.status.as_ref().and_then(|status| status.target.as_ref()).filter(|written| written.name == target);
    let changed = resource.status.as_ref().and_then(|status| status.last_change_time.as_ref()).map(|time| time.0);
    let heading = match written {
        Some(_) => {
            let ago = age(changed, Timestamp::now());
            format!("Secret {target}: beside what the controller last wrote, {ago} ago. The stores were not asked; --source does.")
        }
        None => format!("Secret {target}: the controller has not written it yet."),
    };
    let mut notes = Vec::new();
    let sight = Sight::of(found, &format!("the Secret {target} can't be read"));
    match &sight {
        Sight::Seen(seen) => notes.extend(seen.as_ref().and_then(|seen| keys::foreign(resource, seen))),
        Sight::Hidden(why) => notes.push(why.clone()),
    }
    let verdicts = judge(resource, written, &sight);
    if written.is_some_and(|written| written.generation != resource.metadata.generation) && named(resource).is_none() && !resource.spec.suspend {
        notes.push("The spec was changed since; which keys it makes is known only when it was carried out.".to_owned());
    }
    (heading, verdicts, notes)
}

/// The keys of the Secret, where the spec names each of them.
fn named(resource: &RobotoSecret) -> Option<BTreeSet<&str>> {
    let spec = &resource.spec;
    let read = || spec.data.iter().flatten().map(|entry| entry.key.as_str());
    let by_name = spec.uri.is_none() && spec.data_from.is_none();
    match &spec.target.template {
        Some(template) if !template.data.is_empty() || !template.from.is_empty() => {
            let from = template.from.iter().map(|from| from.as_.as_deref().unwrap_or(&from.config_map.key));
            let made = template.data.keys().map(String::as_str).chain(from);
            match template.merge_policy {
                MergePolicy::Replace => Some(made.collect()),
                MergePolicy::Merge => by_name.then(|| made.chain(read()).collect()),
            }
        }
        _ => by_name.then(|| read().collect()),
    }
}

/// Judges by who wrote what.
fn judge(resource: &RobotoSecret, written: Option<&TargetStatus>, sight: &Sight<Option<Seen>>) -> Verdicts {
    let manager = keys::manager(resource);
    let listed: BTreeSet<&str> = written.iter().flat_map(|written| &written.keys).map(String::as_str).collect();
    let all_listed = written.is_none_or(|written| usize::try_from(written.key_count) == Ok(written.keys.len()));
    let expected = named(resource).unwrap_or_else(|| listed.clone());
    let all = |verdict: Verdict, why: &str| expected.iter().map(|key| ((*key).to_owned(), (verdict, why.to_owned()))).collect();
    let seen = match sight {
        Sight::Hidden(_) => return all(Verdict::Unknown, ""),
        Sight::Seen(None) => return all(Verdict::Missing, "there is no such Secret"),
        // Whatever stands in somebody else's says nothing about ours.
        Sight::Seen(Some(seen)) if keys::foreign(resource, seen).is_some() => return all(Verdict::Unknown, ""),
        Sight::Seen(Some(seen)) => seen,
    };
    let mut verdicts = Verdicts::new();
    let mut say = |key: &str, verdict: Verdict, why: String| _ = verdicts.insert(key.to_owned(), (verdict, why));
    let present: BTreeSet<&str> = seen.keys().collect();
    let ours = seen.owned(&manager).keys;
    let untouched = written.is_some_and(|written| written.uid == seen.uid && written.resource_version == seen.resource_version);
    let others = |key: &str| {
        let field = format!("{DATA_FIELD}{key}");
        seen.other_owners(&manager, &field).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
    };
    for key in &expected {
        match (present.contains(key), ours.contains(key)) {
            (false, _) if listed.contains(key) || !all_listed => say(key, Verdict::Missing, "it was taken out".to_owned()),
            (false, _) => say(key, Verdict::Missing, "it was not mirrored yet".to_owned()),
            (true, true) if untouched || !seen.came_as_text(&manager, key) => say(key, Verdict::Equal, String::new()),
            // Who applies stringData leaves no trace of what it changed.
            (true, true) => say(key, Verdict::Unknown, format!("{} may have written it as well", others(key))),
            (true, false) if listed.contains(key) || !all_listed => say(key, Verdict::Differs, format!("it was last written by {}", others(key))),
            (true, false) => say(key, Verdict::Unknown, format!("it is there, put in by {}, and was not mirrored yet", others(key))),
        }
    }
    for key in present.difference(&expected) {
        let shared = resource.spec.target.creation_policy == CreationPolicy::Merge;
        match ours.contains(key) {
            true if !all_listed && named(resource).is_none() => say(key, Verdict::Equal, "more keys than the status lists".to_owned()),
            true => say(key, Verdict::Extra, "the spec makes it no more".to_owned()),
            // A shared Secret may have what others put there.
            false if shared => {}
            false => say(key, Verdict::Extra, format!("it was put in by {}", others(key))),
        }
    }
    verdicts
}

async fn by_value(connection: &Connection, resource: &RobotoSecret, target: &str, access: Access) -> Result<Compared, Failure> {
    let (made, mut notes) = source::render(connection, resource, access).await?;
    let found = connection.api::<Secret>().get_opt(target).await;
    let found = found.map(|found| found.map(values));
    let heading = format!("Secret {target}: beside what the stores hold now, as you may read them.");
    let verdicts = match Sight::of(found, &format!("the Secret {target} can't be read")) {
        Sight::Seen(held) => compare(&made, &held.unwrap_or_default(), resource.spec.target.creation_policy == CreationPolicy::Merge),
        Sight::Hidden(why) => {
            notes.push(why);
            made.keys().map(|key| (key.clone(), (Verdict::Unknown, String::new()))).collect()
        }
    };
    Ok((heading, verdicts, notes))
}

/// The values of a Secret, to be wiped when they were compared.
fn values(mut secret: Secret) -> Data {
    secret.metadata.annotations.take().into_iter().flatten().for_each(|(_, text)| drop(Sensitive::from(text)));
    secret.data.take().into_iter().flatten().map(|(key, value)| (key, Sensitive::new(value.0))).collect()
}

fn compare(made: &Data, held: &Data, shared: bool) -> Verdicts {
    let both = made.iter().map(|(key, value)| {
        let verdict = match held.get(key) {
            None => Verdict::Missing,
            Some(held) if held == value => Verdict::Equal,
            Some(_) => Verdict::Differs,
        };
        (key.clone(), (verdict, String::new()))
    });
    let extra = held.keys().filter(|key| !shared && !made.contains_key(*key)).map(|key| (key.clone(), (Verdict::Extra, String::new())));
    both.chain(extra).collect()
}

fn lines(verdicts: &Verdicts, terminal: Terminal) -> String {
    if verdicts.is_empty() {
        return "no keys\n".to_owned();
    }
    let row =
        |(key, (verdict, why)): (&String, &(Verdict, String))| -> Vec<Cell> { vec![key.into(), Cell::toned(verdict.as_str(), verdict.tone()), why.into()] };
    let rows: Vec<Vec<Cell>> = verdicts.iter().map(row).collect();
    let count = |verdict: Verdict| verdicts.values().filter(|(is, _)| *is == verdict).count();
    let counts = Verdict::ALL.into_iter().map(|verdict| (count(verdict), verdict.as_str())).filter(|(count, _)| *count > 0);
    let counts: Vec<String> = counts.map(|(count, verdict)| format!("{count} {verdict}")).collect();
    table(&["KEY", "VERDICT", "WHY"], &rows, terminal) + &counts.join(", ") + "\n"
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn resource(spec: &Value, keys: &[&str]) -> RobotoSecret {
        let target = json!({"name": "db", "uid": "s", "resourceVersion": "1", "keyCount": keys.len(), "keys": keys});
        serde_json::from_value(json!({
            "apiVersion": "robotosecret.dev/v1alpha1", "kind": "RobotoSecret", "metadata": {"name": "db", "namespace": "shop", "uid": "r"},
            "spec": spec, "status": {"target": target},
        }))
        .expect("a RobotoSecret")
    }

    fn seen(managers: &[(&str, &str, Value)]) -> Seen {
        let entry = |(manager, operation, fields): &(&str, &str, Value)| json!({"manager": manager, "operation": operation, "time": "2026-01-01T00:00:09Z", "fieldsV1": fields});
        let managers: Vec<Value> = managers.iter().map(entry).collect();
        let meta = json!({"name": "db", "uid": "s", "resourceVersion": "2", "labels": {"robotosecret.dev/managed": "true"}, "annotations": {"robotosecret.dev/owner": "db"}, "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": managers});
        Seen::new(&serde_json::from_value(meta).expect("metadata"))
    }

    fn judged(resource: &RobotoSecret, sight: &Sight<Option<Seen>>) -> Vec<String> {
        let verdicts = judge(resource, resource.status.as_ref().and_then(|status| status.target.as_ref()), sight);
        verdicts.iter().map(|(key, (verdict, why))| format!("{key} {} {why}", verdict.as_str()).trim_end().to_owned()).collect()
    }

    #[test]
    fn who_wrote_a_key_last_tells_whether_it_is_the_controllers() {
        let whole = resource(&json!({"uri": "aws.sm://x"}), &["a", "b", "c"]);
        let managers = [
            ("robotosecret/db", "Apply", json!({"f:data": {"f:a": {}, "f:old": {}}})),
            ("kubectl-edit", "Update", json!({"f:data": {"f:b": {}, "f:more": {}}})),
        ];
        let now = Sight::Seen(Some(seen(&managers)));
        assert_eq!(
            judged(&whole, &now),
            [
                "a equal",
                "b differs it was last written by kubectl-edit",
                "c missing it was taken out",
                "more extra it was put in by kubectl-edit",
                "old extra the spec makes it no more"
            ]
        );
        assert_eq!(judged(&whole, &Sight::Seen(None)), ["a", "b", "c"].map(|key| format!("{key} missing there is no such Secret")));
        assert_eq!(judged(&whole, &Sight::Hidden(String::new())), ["a unknown", "b unknown", "c unknown"]);
        let entry = |key: &str| json!({"key": key, "uri": "aws.sm://x"});
        let named = resource(&json!({"data": [entry("a"), entry("new")], "target": {"creationPolicy": "Merge"}}), &["a", "old"]);
        let taken = resource(&json!({"data": [entry("b")]}), &[]);
        assert!(judged(&taken, &now).contains(&"b unknown it is there, put in by kubectl-edit, and was not mirrored yet".to_owned()));
        assert_eq!(judged(&named, &now), ["a equal", "new missing it was not mirrored yet", "old extra the spec makes it no more"]);
        let text = Sight::Seen(Some(seen(&[managers[0].clone(), ("app", "Apply", json!({"f:stringData": {"f:a": {}}}))])));
        assert_eq!(judged(&whole, &text)[0], "a unknown app may have written it as well");
    }

    #[test]
    fn values_are_compared_and_not_told() {
        let data = |pairs: &[(&str, &str)]| -> Data { pairs.iter().map(|(key, value)| ((*key).to_owned(), Sensitive::from((*value).to_owned()))).collect() };
        let (made, held) = (data(&[("a", "1"), ("b", "CANARY"), ("c", "3")]), data(&[("a", "1"), ("b", "CANARX"), ("d", "4")]));
        let text = lines(&compare(&made, &held, false), Terminal { width: 80, colour: false, unicode: false });
        assert_eq!(text, "KEY  VERDICT  WHY\na    equal\nb    differs\nc    missing\nd    extra\n1 equal, 1 differs, 1 missing, 1 extra\n");
        assert_eq!(compare(&made, &held, true).len(), 3);
    }
}
