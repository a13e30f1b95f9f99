//! SSM's Parameter Store. Actions enter, answers leave; names and ARNs find a parameter without a search.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Answered, Refusal, Stale, Tags, Write, body, list, page, required, tag_list, tags, text, unknown, words};
use crate::aws;

/// How many names a batch may have.
const MOST_NAMES: usize = 10;

/// How many versions a parameter keeps.
const MOST_VERSIONS: usize = 100;

/// How many values, and how many names, a page of a list may have.
const MOST_BY_PATH: usize = 10;
const MOST_DESCRIBED: usize = 50;

const SECURE: &str = "SecureString";

struct Version {
    number: u64,
    modified: f64,
    value: String,
    labels: Vec<String>,
}

struct Parameter {
    arn: String,
    kind: String,
    /// The oldest first; never empty.
    versions: Vec<Version>,
    write: Write<u64>,
    tags: Tags,
}

/// A parameter as reads answer it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Entry<'a> {
    #[serde(rename = "ARN")]
    arn: &'a str,
    name: &'a str,
    #[serde(rename = "Type")]
    kind: &'a str,
    value: &'a str,
    version: u64,
    last_modified_date: f64,
    data_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    selector: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ByPath<'a> {
    parameters: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Single<'a> {
    parameter: Entry<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Batch<'a> {
    parameters: Vec<Entry<'a>>,
    invalid_parameters: Vec<&'a str>,
}

#[derive(Default)]
pub(super) struct Parameters {
    by_name: BTreeMap<String, Parameter>,
}

impl Parameters {
    pub(super) fn answer(&mut self, action: &str, question: &Value, now: f64, lag: Option<Stale>) -> Answered {
        let decrypt = question["WithDecryption"] == true;
        match action {
            "GetParameter" => body(&Single { parameter: self.read(required(question, "Name")?, decrypt, lag)? }),
            "GetParameters" => self.batch(&list(question, "Names", MOST_NAMES)?, decrypt, lag),
            "PutParameter" => {
                let (name, value) = (required(question, "Name")?, required(question, "Value")?);
                let kind = text(question, "Type");
                if self.by_name.contains_key(name) && question["Overwrite"] != true {
                    let message = "The parameter already exists. To overwrite this value, set the overwrite option in the request to true.";
                    return Err(Refusal::new("ParameterAlreadyExists", message));
                }
                if kind.is_none() && !self.by_name.contains_key(name) {
                    return Err(Refusal::validation("A parameter type is required when you create a parameter."));
                }
                let (tags, is_new) = (tags(question), !self.by_name.contains_key(name));
                if !tags.is_empty() && !is_new {
                    return Err(Refusal::validation("Invalid request: tags and overwrite can't be used together."));
                }
                let version = self.put(name, value, kind, now);
                if is_new {
                    self.tag(name, tags)?;
                }
                body(&json!({"Version": version, "Tier": "Standard"}))
            }
            "GetParametersByPath" => self.by_path(question, decrypt, lag),
            "DescribeParameters" => self.describe(question),
            "ListTagsForResource" => {
                if question["ResourceType"] != "Parameter" {
                    return Err(Refusal::new("InvalidResourceType", "the emulator has parameters only"));
                }
                let parameter = self.by_name.get(required(question, "ResourceId")?);
                let parameter = parameter.ok_or_else(|| Refusal::new("InvalidResourceId", "Invalid Resource Id"))?;
                body(&json!({"TagList": tag_list(&parameter.tags)}))
            }
            "DeleteParameter" => self.remove(required(question, "Name")?).and_then(|()| body(&json!({}))),
            _ => Err(unknown(action)),
        }
    }

    /// Makes a parameter (`SecureString` unless `kind` says otherwise) or its next version; the version.
    pub(super) fn put(&mut self, name: &str, value: &str, kind: Option<&str>, now: f64) -> u64 {
        let parameter = self.by_name.entry(name.to_owned()).or_insert_with(|| Parameter {
            arn: format!("{}{}", prefix(), name.trim_start_matches('/')),
            kind: SECURE.to_owned(),
            versions: Vec::new(),
            write: Write::new(None),
            tags: Tags::new(),
        });
        let before = parameter.versions.last().map(|version| version.number);
        let number = before.unwrap_or(0) + 1;
        if let Some(kind) = kind {
            kind.clone_into(&mut parameter.kind);
        }
        if parameter.versions.len() == MOST_VERSIONS {
            parameter.versions.remove(0);
        }
        parameter.versions.push(Version { number, modified: now, value: value.to_owned(), labels: Vec::new() });
        parameter.write = Write::new(before);
        number
    }

    pub(super) fn label(&mut self, name: &str, number: u64, label: &str) -> Result<(), Refusal> {
        let parameter = self.by_name.get_mut(name).ok_or_else(not_found)?;
        if !parameter.versions.iter().any(|version| version.number == number) {
            return Err(no_version(name, &number.to_string()));
        }
        for version in &mut parameter.versions {
            version.labels.retain(|other| other != label);
            if version.number == number {
                version.labels.push(label.to_owned());
            }
        }
        Ok(())
    }

    pub(super) fn tag(&mut self, name: &str, tags: Tags) -> Result<(), Refusal> {
        self.by_name.get_mut(name).ok_or_else(not_found)?.tags = tags;
        Ok(())
    }

    fn by_path(&self, question: &Value, decrypt: bool, lag: Option<Stale>) -> Answered {
        if !question["ParameterFilters"].is_null() {
            return Err(Refusal::validation("the emulator doesn't filter what it has below a path"));
        }
        let (path, recursive) = (hierarchy(required(question, "Path")?)?, question["Recursive"] == true);
        let (page, next_token) = page(question, MOST_BY_PATH, self.by_name.iter().filter(|(name, _)| is_below(name, path, recursive)))?;
        // What was made a moment ago and isn't seen yet is left out.
        let parameters = page.iter().filter_map(|(name, _)| self.read(name, decrypt, lag).ok()).collect();
        body(&ByPath { parameters, next_token })
    }

    fn describe(&self, question: &Value) -> Answered {
        let mut found: Vec<(&String, &Parameter)> = self.by_name.iter().collect();
        for filter in question["ParameterFilters"].as_array().into_iter().flatten() {
            let (key, option, words) = (required(filter, "Key")?, text(filter, "Option"), words(filter, "Values"));
            match (key.strip_prefix("tag:"), option, words.as_slice()) {
                (Some(tag), None | Some("Equals"), [_, ..]) => {
                    found.retain(|(_, parameter)| parameter.tags.get(tag).is_some_and(|value| words.contains(&value.as_str())));
                }
                (None, Some(option @ ("Recursive" | "OneLevel")), [path]) if key == "Path" => {
                    let path = hierarchy(path)?;
                    found.retain(|(name, _)| is_below(name, path, option == "Recursive"));
                }
                _ => return Err(Refusal::new("InvalidFilterKey", "the emulator filters by Path and tags only")),
            }
        }
        let (page, next) = page(question, MOST_DESCRIBED, found.into_iter())?;
        let describe = |(name, parameter): &(&str, &Parameter)| {
            let version = parameter.versions.last();
            let (number, modified) = (version.map(|version| version.number), version.map(|version| version.modified));
            json!({"Name": name, "ARN": parameter.arn, "Type": parameter.kind, "Version": number, "LastModifiedDate": modified, "DataType": "text"})
        };
        let mut answer = json!({"Parameters": page.iter().map(describe).collect::<Vec<_>>()});
        if let Some(next) = next {
            answer["NextToken"] = json!(next);
        }
        body(&answer)
    }

    pub(super) fn remove(&mut self, name: &str) -> Result<(), Refusal> {
        self.by_name.remove(name).map(|_| ()).ok_or_else(not_found)
    }

    fn batch(&self, names: &[&str], decrypt: bool, lag: Option<Stale>) -> Answered {
        let mut denoted: Vec<(&str, &str)> = names.iter().map(|name| (self.find(name).map_or(*name, |(name, ..)| name), *name)).collect();
        denoted.sort_unstable();
        if let Some(twice) = denoted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(Refusal::validation(format!("Duplicate parameter names aren't allowed: {}", twice[0].1)));
        }
        let mut batch = Batch { parameters: Vec::with_capacity(names.len()), invalid_parameters: Vec::new() };
        for (_, name) in denoted {
            match self.read(name, decrypt, lag) {
                Ok(entry) => batch.parameters.push(entry),
                Err(_) => batch.invalid_parameters.push(name),
            }
        }
        body(&batch)
    }

    fn read<'a>(&'a self, asked: &'a str, decrypt: bool, lag: Option<Stale>) -> Result<Entry<'a>, Refusal> {
        let (name, parameter, selector) = self.find(asked).ok_or_else(not_found)?;
        let version = match selector {
            None if parameter.write.is_unseen(lag) => parameter.numbered(parameter.write.before.unwrap_or(0)).ok_or_else(not_found)?,
            None => parameter.versions.last().ok_or_else(not_found)?,
            Some(selector) => {
                let which = &selector[1..];
                let found = match which.parse() {
                    Ok(number) => parameter.numbered(number),
                    Err(_) => parameter.versions.iter().find(|version| version.labels.iter().any(|label| label == which)),
                };
                found.ok_or_else(|| no_version(name, which))?
            }
        };
        // Not the value, nor anything that tells its length.
        let value = if parameter.kind == SECURE && !decrypt { "AQICAHencrypted" } else { version.value.as_str() };
        Ok(Entry {
            arn: &parameter.arn,
            name,
            kind: &parameter.kind,
            value,
            version: version.number,
            last_modified_date: version.modified,
            data_type: "text",
            selector,
        })
    }

    /// The parameter that is asked for by name or ARN, its name, and the selector with its colon.
    fn find<'a>(&'a self, asked: &'a str) -> Option<(&'a str, &'a Parameter, Option<&'a str>)> {
        let Some(rest) = asked.strip_prefix(prefix().as_str()) else {
            let (name, selector) = split(asked);
            return self.by_name.get_key_value(name).map(|(name, parameter)| (name.as_str(), parameter, selector));
        };
        let (bare, selector) = split(rest);
        // The ARN of `/a` and of `a` is the same.
        let found = self.by_name.get_key_value(bare).or_else(|| self.by_name.get_key_value(&format!("/{bare}")));
        found.map(|(name, parameter)| (name.as_str(), parameter, selector))
    }
}

impl Parameter {
    fn numbered(&self, number: u64) -> Option<&Version> {
        self.versions.iter().find(|version| version.number == number)
    }
}

/// A path without its slash at the end.
fn hierarchy(path: &str) -> Result<&str, Refusal> {
    if !path.starts_with('/') {
        return Err(Refusal::validation("The parameter path must be prefixed with \"/\"."));
    }
    Ok(path.strip_suffix('/').unwrap_or(path))
}

/// Whether a parameter is below a path, directly or at all. At the root a name needs no slash.
fn is_below(name: &str, path: &str, recursive: bool) -> bool {
    let rest = if path.is_empty() { Some(name.strip_prefix('/').unwrap_or(name)) } else { name.strip_prefix(path).and_then(|rest| rest.strip_prefix('/')) };
    rest.is_some_and(|rest| recursive || !rest.contains('/'))
}

/// A name and its selector with the colon.
fn split(asked: &str) -> (&str, Option<&str>) {
    asked.find(':').map_or((asked, None), |colon| (&asked[..colon], Some(&asked[colon..])))
}

fn prefix() -> String {
    format!("arn:aws:ssm:{}:{}:parameter/", aws::REGION, aws::ACCOUNT)
}

fn not_found() -> Refusal {
    Refusal::new("ParameterNotFound", "")
}

fn no_version(name: &str, which: &str) -> Refusal {
    Refusal::new("ParameterVersionNotFound", format!("Systems Manager could not find version {which} of {name}."))
}
