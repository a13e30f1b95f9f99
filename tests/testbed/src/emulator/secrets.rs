//! Secrets Manager. Actions enter, answers leave; names and ARNs find a secret without a search.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Answered, Refusal, Stale, Tags, Write, body, list, page, required, tag_list, tags, text, unknown, words};
use crate::aws;

/// How many ids a batch may have.
const MOST_IDS: usize = 20;

/// How many secrets a page of a list may have.
const MOST_LISTED: usize = 100;

/// How many characters AWS adds to a secret's name in its ARN.
const SUFFIX: usize = 6;

/// How many versions a secret keeps.
const MOST_VERSIONS: usize = 100;

const CURRENT: &str = "AWSCURRENT";
const PREVIOUS: &str = "AWSPREVIOUS";

/// A value in the form in which it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    Text(String),
    Base64(String),
}

impl Content {
    pub(super) fn binary(bytes: &[u8]) -> Self {
        Self::Base64(STANDARD.encode(bytes))
    }

    /// The value in a request, which has at most one of the two.
    fn sent(question: &Value) -> Result<Option<Self>, Refusal> {
        match (question["SecretString"].as_str(), question["SecretBinary"].as_str()) {
            (Some(_), Some(_)) => Err(Refusal::new("InvalidParameterException", "You can't specify both SecretString and SecretBinary.")),
            (Some(text), None) => Ok(Some(Self::Text(text.to_owned()))),
            (None, Some(base64)) => Ok(Some(Self::Base64(base64.to_owned()))),
            (None, None) => Ok(None),
        }
    }
}

struct Version {
    id: String,
    created: f64,
    content: Content,
    stages: Vec<String>,
}

impl Version {
    fn is_at(&self, stage: &str) -> bool {
        self.stages.iter().any(|other| other == stage)
    }
}

pub(super) struct Secret {
    pub(super) arn: String,
    created: f64,
    changed: f64,
    /// When it will be deleted, if that is scheduled.
    deletion: Option<f64>,
    /// The oldest first.
    versions: Vec<Version>,
    write: Write<String>,
    tags: Tags,
}

impl Secret {
    /// Whether a filter of a list finds it. Each word is the beginning of something; that of a name in any case, as was seen on AWS.
    fn is_found(&self, name: &str, (key, words): &(&str, Vec<&str>)) -> bool {
        words.iter().any(|word| match *key {
            "tag-key" => self.tags.keys().any(|tag| tag.starts_with(word)),
            "tag-value" => self.tags.values().any(|value| value.starts_with(word)),
            _ => name.to_lowercase().starts_with(&word.to_lowercase()),
        })
    }

    fn at(&self, stage: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.is_at(stage))
    }

    /// Moves a stage to the version `id`, or away from all. What loses `AWSCURRENT` gets `AWSPREVIOUS`.
    fn move_stage(&mut self, stage: &str, id: Option<&str>, now: f64) {
        let before = self.at(stage).map(|version| version.id.clone());
        for version in &mut self.versions {
            version.stages.retain(|other| other != stage);
            if Some(version.id.as_str()) == id {
                version.stages.push(stage.to_owned());
            }
        }
        self.changed = now;
        if stage == CURRENT {
            self.write = Write::new(before.clone());
            self.move_stage(PREVIOUS, before.as_deref(), now);
        }
    }

    fn add(&mut self, id: &str, content: Content, stages: &[&str], now: f64) {
        if self.versions.len() == MOST_VERSIONS
            && let Some(oldest) = self.versions.iter().position(|version| version.stages.is_empty())
        {
            self.versions.remove(oldest);
        }
        self.versions.push(Version { id: id.to_owned(), created: now, content, stages: Vec::new() });
        for stage in stages {
            self.move_stage(stage, Some(id), now);
        }
        self.changed = now;
    }

    /// What a read answers. By default it is the current version.
    fn read<'a>(&'a self, name: &'a str, id: Option<&str>, stage: Option<&str>, lag: Option<Stale>) -> Result<Entry<'a>, Refusal> {
        if self.deletion.is_some() {
            return Err(marked());
        }
        let wanted = stage.unwrap_or(CURRENT);
        if id.is_none() && wanted == CURRENT && !self.versions.is_empty() && self.write.is_unseen(lag) {
            let before = self.versions.iter().find(|version| self.write.before.as_ref() == Some(&version.id));
            return before.map(|version| self.entry(name, version, vec![CURRENT])).ok_or_else(not_found);
        }
        let found = match id {
            Some(id) => self.versions.iter().find(|version| version.id == id && stage.is_none_or(|stage| version.is_at(stage))),
            None => self.at(wanted),
        };
        found.map(|version| self.entry(name, version, version.stages.iter().map(String::as_str).collect())).ok_or_else(|| match id {
            Some(id) => no_value("VersionId", id),
            None => no_value("staging label", wanted),
        })
    }

    fn entry<'a>(&'a self, name: &'a str, version: &'a Version, version_stages: Vec<&'a str>) -> Entry<'a> {
        let (secret_string, secret_binary) = match &version.content {
            Content::Text(text) => (Some(text.as_str()), None),
            Content::Base64(base64) => (None, Some(base64.as_str())),
        };
        Entry { arn: &self.arn, name, version_id: &version.id, secret_string, secret_binary, version_stages, created_date: version.created }
    }
}

const NOT_FOUND: &str = "ResourceNotFoundException";

fn not_found() -> Refusal {
    Refusal::new(NOT_FOUND, "Secrets Manager can't find the specified secret.")
}

fn no_value(kind: &str, which: &str) -> Refusal {
    Refusal::new(NOT_FOUND, format!("Secrets Manager can't find the specified secret value for {kind}: {which}"))
}

fn marked() -> Refusal {
    Refusal::new("InvalidRequestException", "You can't perform this operation on the secret because it was marked for deletion.")
}

/// A secret as reads answer it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Entry<'a> {
    #[serde(rename = "ARN")]
    arn: &'a str,
    name: &'a str,
    version_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_string: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_binary: Option<&'a str>,
    version_stages: Vec<&'a str>,
    created_date: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ItemError<'a> {
    secret_id: &'a str,
    error_code: &'static str,
    message: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Batch<'a> {
    secret_values: Vec<Entry<'a>>,
    errors: Vec<ItemError<'a>>,
}

#[derive(Default)]
pub(super) struct Secrets {
    by_name: BTreeMap<String, Secret>,
    /// How many secrets and versions were made, for suffixes and ids.
    made: u64,
}

impl Secrets {
    pub(super) fn answer(&mut self, action: &str, question: &Value, now: f64, lag: Option<Stale>) -> Answered {
        match action {
            "GetSecretValue" => {
                let name = self.named(question)?;
                body(&self.get(name)?.read(name, text(question, "VersionId"), text(question, "VersionStage"), lag)?)
            }
            "BatchGetSecretValue" => self.batch(question, lag),
            "DescribeSecret" => {
                let name = self.named(question)?;
                body(&describe(name, self.get(name)?))
            }
            "CreateSecret" => {
                let name = required(question, "Name")?;
                let version = Content::sent(question)?.map(|content| (self.version_id(question), content));
                let id = version.as_ref().map(|(id, _)| id.clone());
                let arn = self.create(name, version, now)?;
                self.tag(name, tags(question))?;
                body(&json!({"ARN": arn, "Name": name, "VersionId": id}))
            }
            "PutSecretValue" => self.put_value(question, now),
            "UpdateSecretVersionStage" => {
                let name = self.named(question)?;
                let secret = self.usable(name)?;
                let (stage, to) = (required(question, "VersionStage")?, text(question, "MoveToVersionId"));
                let holder = secret.at(stage).map(|version| version.id.as_str());
                if holder.is_some() && holder != to && holder != text(question, "RemoveFromVersionId") {
                    return Err(Refusal::new(
                        "InvalidParameterException",
                        format!("The parameter RemoveFromVersionId can't be empty. Staging label {stage} is currently attached to another version."),
                    ));
                }
                if to.is_some_and(|to| !secret.versions.iter().any(|version| version.id == to)) {
                    return Err(not_found());
                }
                secret.move_stage(stage, to, now);
                body(&json!({"ARN": secret.arn, "Name": name}))
            }
            "DeleteSecret" => {
                let name = self.named(question)?;
                let arn = self.get(name)?.arn.clone();
                let at = if question["ForceDeleteWithoutRecovery"] == true {
                    self.remove(name)?;
                    now
                } else {
                    self.schedule(name, now, question["RecoveryWindowInDays"].as_u64().unwrap_or(30))?
                };
                body(&json!({"ARN": arn, "Name": name, "DeletionDate": at}))
            }
            "ListSecrets" => self.list(question),
            _ => Err(unknown(action)),
        }
    }

    pub(super) fn get(&self, name: &str) -> Result<&Secret, Refusal> {
        self.by_name.get(name).ok_or_else(not_found)
    }

    /// Makes a secret, with or without a first version; its ARN.
    pub(super) fn create(&mut self, name: &str, version: Option<(String, Content)>, now: f64) -> Result<String, Refusal> {
        match self.by_name.get(name) {
            Some(Secret { deletion: Some(_), .. }) => {
                let message = "You can't create this secret because a secret with this name is already scheduled for deletion.";
                return Err(Refusal::new("InvalidRequestException", message));
            }
            Some(_) => return Err(Refusal::new("ResourceExistsException", format!("The operation failed because the secret {name} already exists."))),
            None => {}
        }
        self.made += 1;
        let arn = format!("{}{name}-{}", prefix(), suffix(name, self.made));
        let mut secret =
            Secret { arn: arn.clone(), created: now, changed: now, deletion: None, versions: Vec::new(), write: Write::new(None), tags: Tags::new() };
        if let Some((id, content)) = version {
            secret.add(&id, content, &[CURRENT], now);
        }
        self.by_name.insert(name.to_owned(), secret);
        Ok(arn)
    }

    /// Makes a secret or a new current version; the version's id.
    pub(super) fn put(&mut self, name: &str, content: Content, now: f64) -> String {
        let id = self.version_id(&Value::Null);
        match self.by_name.get_mut(name) {
            Some(secret) => {
                secret.deletion = None;
                secret.add(&id, content, &[CURRENT], now);
            }
            None => {
                // There is none of that name, the only reason to refuse.
                let _ = self.create(name, Some((id.clone(), content)), now);
            }
        }
        id
    }

    pub(super) fn rollback(&mut self, name: &str, now: f64) -> Result<(), Refusal> {
        let secret = self.usable(name)?;
        let previous = secret.at(PREVIOUS).map(|version| version.id.clone()).ok_or_else(not_found)?;
        secret.move_stage(CURRENT, Some(&previous), now);
        Ok(())
    }

    pub(super) fn tag(&mut self, name: &str, tags: Tags) -> Result<(), Refusal> {
        self.by_name.get_mut(name).ok_or_else(not_found)?.tags = tags;
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &str) -> Result<(), Refusal> {
        self.by_name.remove(name).map(|_| ()).ok_or_else(not_found)
    }

    /// Schedules the deletion; its date.
    pub(super) fn schedule(&mut self, name: &str, now: f64, days: u64) -> Result<f64, Refusal> {
        let secret = self.usable(name)?;
        let days = u32::try_from(days).ok().filter(|days| (7..=30).contains(days));
        let days =
            days.ok_or_else(|| Refusal::new("InvalidParameterException", "The RecoveryWindowInDays value must be between 7 and 30 days (inclusive)."))?;
        let at = now + f64::from(days) * 86400.0;
        secret.deletion = Some(at);
        Ok(at)
    }

    fn batch(&mut self, question: &Value, lag: Option<Stale>) -> Answered {
        if !question["Filters"].is_null() {
            return Err(Refusal::new("InvalidParameterException", "the emulator doesn't filter"));
        }
        if !question["NextToken"].is_null() {
            return Err(Refusal::new("InvalidNextTokenException", "The NextToken value is invalid."));
        }
        let ids = list(question, "SecretIdList", MOST_IDS)?;
        let mut named: Vec<(&str, &str)> = ids.iter().map(|id| (self.name(id), *id)).collect();
        // In an order that isn't the question's, which AWS doesn't promise.
        named.sort_unstable();
        if let Some(twice) = named.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(Refusal::new("InvalidParameterException", format!("The parameter SecretIdList has duplicates: {}", twice[0].1)));
        }
        let mut batch = Batch { secret_values: Vec::with_capacity(ids.len()), errors: Vec::new() };
        for (name, secret_id) in named {
            match self.get(name) {
                // Seen on AWS: one secret without a value fails the whole batch.
                Ok(Secret { deletion: None, versions, .. }) if versions.is_empty() => return Err(no_value("staging label", CURRENT)),
                found => match found.and_then(|secret| secret.read(name, None, None, lag)) {
                    Ok(entry) => batch.secret_values.push(entry),
                    Err(refusal) => batch.errors.push(ItemError { secret_id, error_code: refusal.code, message: refusal.message }),
                },
            }
        }
        body(&batch)
    }

    fn put_value(&mut self, question: &Value, now: f64) -> Answered {
        let name = self.named(question)?;
        let id = self.version_id(question);
        let content =
            Content::sent(question)?.ok_or_else(|| Refusal::new("InvalidRequestException", "You must provide either SecretString or SecretBinary."))?;
        let secret = self.usable(name)?;
        let stages: Vec<&str> = question["VersionStages"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        match secret.versions.iter().find(|version| version.id == id) {
            // The same once more changes nothing.
            Some(version) if version.content == content => {}
            Some(_) => {
                let message = format!("A resource with the ID you requested already exists: {id}");
                return Err(Refusal::new("ResourceExistsException", message));
            }
            // The first version is the current one, whatever is asked for.
            None if stages.is_empty() || secret.versions.is_empty() => secret.add(&id, content, &[CURRENT], now),
            None => secret.add(&id, content, &stages, now),
        }
        let stages = secret.versions.iter().find(|version| version.id == id).map(|version| &version.stages);
        body(&json!({"ARN": secret.arn, "Name": name, "VersionId": id, "VersionStages": stages}))
    }

    fn list(&self, question: &Value) -> Answered {
        let mut filters = Vec::new();
        for filter in question["Filters"].as_array().into_iter().flatten() {
            let (key, words) = (filter["Key"].as_str().unwrap_or_default(), words(filter, "Values"));
            if !matches!(key, "name" | "tag-key" | "tag-value") {
                return Err(Refusal::new("InvalidParameterException", "the emulator filters by name, tag-key and tag-value only"));
            }
            if words.is_empty() || words.iter().any(|word| word.starts_with('!')) {
                return Err(Refusal::new("InvalidParameterException", "the emulator can't negate a filter, and has no use for an empty one"));
            }
            filters.push((key, words));
        }
        let with_deleted = question["IncludePlannedDeletion"] == true;
        let found = self
            .by_name
            .iter()
            .filter(|(name, secret)| (with_deleted || secret.deletion.is_none()) && filters.iter().all(|filter| secret.is_found(name, filter)));
        let (page, next) = page(question, MOST_LISTED, found)?;
        let secrets: Vec<Value> = page.iter().map(|(name, secret)| listed(name, secret)).collect();
        let mut answer = json!({"SecretList": secrets});
        if let Some(next) = next {
            answer["NextToken"] = json!(next);
        }
        body(&answer)
    }

    /// The name that the request's `SecretId` stands for.
    fn named<'a>(&self, question: &'a Value) -> Result<&'a str, Refusal> {
        Ok(self.name(required(question, "SecretId")?))
    }

    /// The name that an id stands for: itself, or what is in an ARN, with or without the suffix. There may be no such secret.
    fn name<'a>(&self, id: &'a str) -> &'a str {
        let Some(rest) = id.strip_prefix(prefix().as_str()) else { return id };
        match rest.len().checked_sub(SUFFIX + 1).and_then(|end| rest.get(..end)) {
            Some(name) if self.by_name.get(name).is_some_and(|secret| secret.arn == id) => name,
            _ => rest,
        }
    }

    /// A secret that isn't marked for deletion.
    fn usable(&mut self, name: &str) -> Result<&mut Secret, Refusal> {
        let secret = self.by_name.get_mut(name).ok_or_else(not_found)?;
        if secret.deletion.is_some() { Err(marked()) } else { Ok(secret) }
    }

    /// The request's own token, or a new id of the same form.
    fn version_id(&mut self, question: &Value) -> String {
        self.made += 1;
        text(question, "ClientRequestToken").map_or_else(|| format!("00000000-0000-4000-8000-{:012x}", self.made), str::to_owned)
    }
}

fn prefix() -> String {
    format!("arn:aws:secretsmanager:{}:{}:secret:", aws::REGION, aws::ACCOUNT)
}

/// Six characters that are others each time a secret of that name is made.
fn suffix(name: &str, made: u64) -> String {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut hasher = DefaultHasher::new();
    (name, made).hash(&mut hasher);
    let hash = hasher.finish();
    (0..SUFFIX).map(|place| char::from(LETTERS[usize::from(u8::try_from((hash >> (8 * place)) & 0xff).unwrap_or_default()) % LETTERS.len()])).collect()
}

/// As a list has it: the same under another name for the versions.
fn listed(name: &str, secret: &Secret) -> Value {
    let mut answer = describe(name, secret);
    answer["SecretVersionsToStages"] = answer["VersionIdsToStages"].take();
    if let Some(fields) = answer.as_object_mut() {
        fields.remove("VersionIdsToStages");
    }
    answer
}

fn describe(name: &str, secret: &Secret) -> Value {
    let stages: Map<String, Value> =
        secret.versions.iter().filter(|version| !version.stages.is_empty()).map(|version| (version.id.clone(), json!(version.stages))).collect();
    let mut answer = json!({
        "ARN": secret.arn, "Name": name, "CreatedDate": secret.created, "LastChangedDate": secret.changed,
        "Tags": tag_list(&secret.tags), "VersionIdsToStages": stages,
    });
    if let Some(deletion) = secret.deletion {
        answer["DeletedDate"] = json!(deletion);
    }
    answer
}
