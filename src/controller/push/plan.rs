//! What is to be written where: a spec becomes targets, and a target with the Secret's keys becomes a value.
//!
//! A spec, keys of a Secret and perhaps what the store holds enter; targets, and the value that each is to hold, leave. Pure: no call, no clock.
//! Values are in `Sensitive` alone, and no error holds a part of one; names of keys and members may stand there.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    api::{
        Reason, duration,
        reference::{Reference, Source, Store, pointer, without_root},
        robotopush::{PushAttributes, PushEntry, PushParameterTier, PushParameterType, RobotoPushSpec},
    },
    provider::{
        ReadError,
        writing::{Attributes, ParameterKind, ParameterTier, Recovery},
    },
    render::replace::replace,
    sensitive::Sensitive,
};

/// The keys of a Secret.
pub type Data = BTreeMap<String, Sensitive>;

/// The shortest interval between two looks.
const MIN_TTL: std::time::Duration = std::time::Duration::from_secs(10);

/// What a spec asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Each secret or parameter that is written, once.
    pub targets: Vec<Target>,
    /// How often Secret and store are compared.
    pub ttl: std::time::Duration,
    /// How what is pushed no more is deleted.
    pub recovery: Recovery,
}

/// One secret or parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Which one.
    pub source: Source,
    /// What it is to hold.
    pub content: Content,
    /// What it has besides when it is made.
    pub attributes: Attributes,
}

/// What a target is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// All keys, as a JSON object.
    Whole,
    /// The value of one key, as it is.
    Key(String),
    /// These members, each the value of a key, among others that stay.
    Members(Vec<(Vec<String>, String)>),
}

impl Plan {
    /// What a spec asks for. An error says what to write instead.
    pub fn new(spec: &RobotoPushSpec) -> Result<Self, ReadError> {
        let ttl = duration::parse(&spec.ttl).filter(|ttl| *ttl >= MIN_TTL).ok_or_else(|| invalid("spec.ttl: write a duration of at least 10s"))?;
        let recovery = match spec.recovery.map(|recovery| (recovery.days, recovery.force)) {
            None | Some((None, None)) => Recovery::default(),
            Some((Some(days), None)) => {
                let days = u32::try_from(days).ok().and_then(|days| Recovery::within(days).ok());
                days.ok_or_else(|| invalid("spec.recovery.days: write 7 to 30"))?
            }
            Some((None, Some(true))) => Recovery::Force,
            Some(_) => return Err(invalid("spec.recovery: write either days or force: true")),
        };
        let mut targets: Vec<Target> = Vec::new();
        for (i, entry) in spec.data.iter().enumerate() {
            let refuse = |problem: &str| invalid(&format!("spec.data[{i}]: {problem}"));
            let Reference { source, keypath } = entry.uri.parse().map_err(|error: crate::api::reference::ReferenceError| refuse(&error.to_string()))?;
            if source.version.is_some() {
                return Err(refuse("what is written becomes the newest version; leave the version out"));
            }
            if !source.through_secrets_manager().is_empty() {
                return Err(refuse("what begins with /aws/reference/secretsmanager/ is a secret; write it as aws.sm://NAME"));
            }
            let content = match (&entry.key, keypath.is_empty()) {
                (None, true) => Content::Whole,
                (None, false) => return Err(refuse("a keypath takes one key; name it with key")),
                (Some(key), true) => Content::Key(key.clone()),
                (Some(_), false) if matches!(source.store, Store::Roboto | Store::Envase) => {
                    return Err(refuse("this store can't compare, so that a member could be lost that others write; push a whole value there"));
                }
                (Some(key), false) => Content::Members(vec![(keypath, key.clone())]),
            };
            if let Some(what) = unkept(source.store, &attributes(entry)) {
                return Err(refuse(&format!("{} keeps no {what}; leave it out of attributes", source.store.title())));
            }
            match targets.iter_mut().find(|known| overlap(&known.source, &source)) {
                None => targets.push(Target { source, content, attributes: attributes(entry) }),
                Some(known) if known.source == source => join(known, content, entry).map_err(|problem| refuse(&problem))?,
                Some(known) => return Err(refuse(&format!("{} may be the same by another name; write both in one way", known.source))),
            }
        }
        if targets.is_empty() {
            return Err(invalid("spec.data is empty: there is nothing to push"));
        }
        Ok(Self { targets, ttl, recovery })
    }
}

fn invalid(problem: &str) -> ReadError {
    ReadError::new(Reason::InvalidSpec, problem)
}

/// Every name that a source may denote, each in the one way in which it is compared.
#[must_use]
pub fn names(source: &Source) -> BTreeSet<String> {
    source.denotes().iter().map(|name| without_root(name)).collect()
}

/// Whether two sources may be one.
#[must_use]
pub fn overlap(one: &Source, other: &Source) -> bool {
    !names(one).is_disjoint(&names(other))
}

/// Puts one more entry about the same secret or parameter into its target.
fn join(known: &mut Target, content: Content, entry: &PushEntry) -> Result<(), String> {
    let (Content::Members(members), Content::Members(more)) = (&mut known.content, content) else {
        return Err(format!("another entry writes {} as a whole", known.source));
    };
    for (keypath, key) in more {
        if let Some((other, _)) = members.iter().find(|(other, _)| other.starts_with(&keypath) || keypath.starts_with(other)) {
            return Err(format!("another entry writes #{}, and one of the two would be in the other", pointer(other)));
        }
        members.push((keypath, key));
    }
    if entry.attributes.is_some() {
        let said = attributes(entry);
        if known.attributes != Attributes::default() && known.attributes != said {
            return Err(format!("another entry gives {} other attributes; write them once", known.source));
        }
        known.attributes = said;
    }
    Ok(())
}

fn attributes(entry: &PushEntry) -> Attributes {
    let PushAttributes { description, tags, kms_key, parameter_type, parameter_tier } = entry.attributes.clone().unwrap_or_default();
    Attributes {
        description,
        tags,
        kms_key,
        kind: parameter_type.map(|kind| match kind {
            PushParameterType::SecureString => ParameterKind::SecureString,
            PushParameterType::String => ParameterKind::String,
            PushParameterType::StringList => ParameterKind::StringList,
        }),
        tier: parameter_tier.map(|tier| match tier {
            PushParameterTier::Standard => ParameterTier::Standard,
            PushParameterTier::Advanced => ParameterTier::Advanced,
            PushParameterTier::IntelligentTiering => ParameterTier::IntelligentTiering,
        }),
    }
}

/// What of these a store has no place for.
fn unkept(store: Store, attributes: &Attributes) -> Option<&'static str> {
    let Attributes { description, tags, kms_key, kind, tier } = attributes;
    let said = [
        ("kmsKey", kms_key.is_some() && !store.is_aws()),
        ("parameterType", kind.is_some() && store != Store::ParameterStore),
        ("parameterTier", tier.is_some() && store != Store::ParameterStore),
        ("description", description.is_some() && !store.is_aws() && store != Store::Envase),
        ("tags", !tags.is_empty() && matches!(store, Store::Roboto | Store::Envase)),
    ];
    said.into_iter().find(|(_, is_unkept)| *is_unkept).map(|(what, _)| what)
}

impl Target {
    /// Whether it is members that are written, beside what others may keep there.
    #[must_use]
    pub const fn is_members(&self) -> bool {
        matches!(self.content, Content::Members(_))
    }

    /// The keys of the Secret that it takes; of a whole one all that are there.
    #[must_use]
    pub fn keys(&self, data: Option<&Data>) -> Vec<String> {
        match &self.content {
            Content::Whole => data.map(|data| data.keys().cloned().collect()).unwrap_or_default(),
            Content::Key(key) => vec![key.clone()],
            Content::Members(members) => members.iter().map(|(_, key)| key.clone()).collect::<BTreeSet<_>>().into_iter().collect(),
        }
    }

    /// What it is to hold where nothing is yet.
    pub fn fresh(&self, data: &Data) -> Result<Sensitive, ReadError> {
        match &self.content {
            Content::Whole => whole(data),
            Content::Key(key) => value(data, key).cloned(),
            Content::Members(members) => {
                let members: Vec<(&[String], &str)> = members.iter().map(|(keypath, key)| (keypath.as_slice(), key.as_str())).collect();
                object(&members, data)
            }
        }
    }

    /// What it is to hold where this is now.
    pub fn over(&self, data: &Data, there: &Sensitive) -> Result<Sensitive, ReadError> {
        let Content::Members(members) = &self.content else { return self.fresh(data) };
        let mut whole = there.clone();
        for (keypath, key) in members {
            let json = json(key, value(data, key)?)?;
            let problem = |said: String| ReadError::new(Reason::KeypathNotFound, format!("{said}; what the member is in has to be there"));
            let now = std::str::from_utf8(whole.expose()).map_err(|_| problem("what is there is no JSON".to_owned()))?;
            let member = std::str::from_utf8(json.expose()).map_err(|_| unwritable(key))?;
            whole = replace(now, keypath, member).map_err(|error| problem(error.to_string()))?;
        }
        Ok(whole)
    }
}

/// All keys as a JSON object.
pub fn whole(data: &Data) -> Result<Sensitive, ReadError> {
    if data.is_empty() {
        return Err(ReadError::new(Reason::SourceNotFound, "the Secret has no key, and an empty one is not pushed"));
    }
    let texts = data.iter().map(|(key, value)| Ok((key.as_str(), text(key, value)?))).collect::<Result<BTreeMap<_, _>, ReadError>>()?;
    serde_json::to_string(&texts).map(Sensitive::from).map_err(|_| unwritable("the Secret"))
}

fn value<'d>(data: &'d Data, key: &str) -> Result<&'d Sensitive, ReadError> {
    data.get(key).ok_or_else(|| ReadError::new(Reason::SourceNotFound, format!("the Secret has no key {key}; nothing was changed at the store")))
}

fn unwritable(what: &str) -> ReadError {
    ReadError::new(Reason::TargetRejected, format!("{what} is not UTF-8, which a member of JSON has to be; push that key alone and whole, or encode it"))
}

fn text<'v>(key: &str, value: &'v Sensitive) -> Result<&'v str, ReadError> {
    std::str::from_utf8(value.expose()).map_err(|_| unwritable(&format!("the key {key}")))
}

/// A value as a JSON text.
fn json(key: &str, value: &Sensitive) -> Result<Sensitive, ReadError> {
    serde_json::to_string(text(key, value)?).map(Sensitive::from).map_err(|_| unwritable(&format!("the key {key}")))
}

/// An object with these members, and the objects that they are in.
fn object(members: &[(&[String], &str)], data: &Data) -> Result<Sensitive, ReadError> {
    let mut below: BTreeMap<&str, Vec<(&[String], &str)>> = BTreeMap::new();
    for (keypath, key) in members {
        match keypath {
            [] => return json(key, value(data, key)?),
            [first, rest @ ..] => below.entry(first).or_default().push((rest, *key)),
        }
    }
    let inner = |(name, members): (&str, Vec<(&[String], &str)>)| {
        let name = serde_json::to_string(name).map_err(|_| unwritable("the keypath"))?;
        Ok((name, object(&members, data)?))
    };
    let parts = below.into_iter().map(inner).collect::<Result<Vec<(String, Sensitive)>, ReadError>>()?;
    // Of its size from the beginning, so that no part of it is left behind where it grew.
    let mut text = Vec::with_capacity(parts.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>() + 2);
    for (i, (name, value)) in parts.iter().enumerate() {
        text.push(if i == 0 { b'{' } else { b',' });
        text.extend_from_slice(name.as_bytes());
        text.push(b':');
        text.extend_from_slice(value.expose());
    }
    text.push(b'}');
    Ok(Sensitive::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(yaml: &str) -> Result<Plan, String> {
        Plan::new(&serde_yaml::from_str(yaml).expect("a spec")).map_err(|error| error.to_string())
    }

    fn target(data: &str) -> Target {
        plan(&format!("{{secretName: s, data: {data}}}")).expect("a plan").targets.remove(0)
    }

    fn data(pairs: &[(&str, &[u8])]) -> Data {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), Sensitive::new(value.to_vec()))).collect()
    }

    fn said(value: Result<Sensitive, ReadError>) -> String {
        value.map_or_else(|error| error.to_string(), |value| String::from_utf8_lossy(value.expose()).into_owned())
    }

    #[test]
    fn a_whole_secret_a_key_and_members_become_values() {
        let held = data(&[("a", b"1"), ("b", "p\"ä".as_bytes()), ("bin", b"cAnArY\xff")]);
        let text = data(&[("a", b"1"), ("b", "p\"ä".as_bytes())]);
        let whole = target("[{uri: 'aws.sm://x'}]");
        assert_eq!(said(whole.fresh(&text)), r#"{"a":"1","b":"p\"ä"}"#);
        assert_eq!(whole.keys(Some(&text)), ["a", "b"]);
        assert!(said(whole.fresh(&held)).contains("key bin is not UTF-8") && !said(whole.fresh(&held)).contains("cAnArY"));
        assert!(said(whole.fresh(&Data::new())).contains("has no key"));
        let key = target("[{key: bin, uri: 'aws.sm://x'}]");
        assert_eq!(key.fresh(&held).expect("a value").expose(), b"cAnArY\xff");
        assert!(said(key.fresh(&text)).contains("no key bin"));
        let members = target("[{key: a, uri: 'aws.sm://x#/db/user'}, {key: b, uri: 'aws.sm://x#/db/pass'}, {key: a, uri: 'aws.sm://x#/n~1m'}]");
        assert_eq!(said(members.fresh(&held)), r#"{"db":{"pass":"p\"ä","user":"1"},"n/m":"1"}"#);
        assert_eq!(members.keys(None), ["a", "b"]);
        let there = Sensitive::from(r#"{"db":{"user":"0","port":5},"n/m":"1"}"#.to_owned());
        assert_eq!(said(members.over(&held, &there)), r#"{"db":{"pass":"p\"ä","user":"1","port":5},"n/m":"1"}"#);
        let same = members.over(&held, &there).expect("a value");
        assert!(members.over(&held, &same).expect("a value") == same, "what is right stays byte for byte");
        let problem = said(members.over(&held, &Sensitive::from("cAnArY".to_owned())));
        assert!(problem.starts_with("KeypathNotFound") && !problem.contains("cAnArY"), "{problem}");
    }

    #[test]
    fn what_cannot_be_carried_out_is_refused_in_words() {
        for (spec, expected) in [
            ("{secretName: s, data: []}", "nothing to push"),
            ("{secretName: s, ttl: 1s, data: [{uri: 'aws.sm://x'}]}", "spec.ttl"),
            ("{secretName: s, data: [{uri: 'vault://kv/x?version=1'}]}", "leave the version out"),
            ("{secretName: s, data: [{key: a, uri: 'envase://x#/a'}]}", "push a whole value there"),
            ("{secretName: s, data: [{uri: 'roboto-secret://x', attributes: {tags: {a: b}}}]}", "Roboto keeps no tags"),
            ("{secretName: s, data: [{uri: 'vault://kv/x', attributes: {description: d}}]}", "Vault keeps no description"),
            ("{secretName: s, data: [{uri: 'aws.sm://x', attributes: {parameterTier: Advanced}}]}", "Secrets Manager keeps no parameterTier"),
            ("{secretName: s, data: [{uri: 'aws.ps:///x?version=1'}]}", "leave the version out"),
            ("{secretName: s, data: [{uri: 'aws.ps:///aws/reference/secretsmanager/x'}]}", "write it as aws.sm://NAME"),
            ("{secretName: s, data: [{uri: 'aws.sm://x#/a'}]}", "name it with key"),
            ("{secretName: s, data: [{uri: 'aws.sm://x'}, {key: a, uri: 'aws.sm://x#/a'}]}", "writes aws.sm://x as a whole"),
            ("{secretName: s, data: [{key: a, uri: 'aws.sm://x#/a'}, {key: a, uri: 'aws.sm://x#/a/b'}]}", "one of the two would be in the other"),
            ("{secretName: s, data: [{uri: 'aws.ps:///x'}, {uri: 'aws.ps://x'}]}", "may be the same by another name"),
            (
                "{secretName: s, data: [{uri: 'aws.sm://x'}, {uri: 'arn:aws:secretsmanager:eu-west-1:123456789012:secret:x-AbCdEf'}]}",
                "may be the same by another name",
            ),
            ("{secretName: s, deletionPolicy: Delete, recovery: {days: 3}, data: [{uri: 'aws.sm://x'}]}", "7 to 30"),
        ] {
            let problem = plan(spec).expect_err(spec);
            assert!(problem.starts_with("InvalidSpec") && problem.contains(expected), "{spec}: {problem}");
        }
    }

    #[test]
    fn what_it_has_besides_is_taken_from_the_spec() {
        let target = target(
            "[{key: a, uri: 'aws.ps:///x', attributes: {description: d, tags: {t: v}, kmsKey: alias/k, parameterType: SecureString, parameterTier: Intelligent-Tiering}}]",
        );
        let attributes = target.attributes;
        assert_eq!(attributes.tags, BTreeMap::from([("t".to_owned(), "v".to_owned())]));
        assert_eq!((attributes.kind, attributes.tier), (Some(ParameterKind::SecureString), Some(ParameterTier::IntelligentTiering)));
        assert_eq!((attributes.description.as_deref(), attributes.kms_key.as_deref()), (Some("d"), Some("alias/k")));
        let forced = plan("{secretName: s, deletionPolicy: Delete, recovery: {force: true}, data: [{uri: 'aws.sm://x'}]}").expect("a plan");
        assert_eq!(forced.recovery, Recovery::Force);
    }
}
