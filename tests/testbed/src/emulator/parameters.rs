//! SSM's Parameter Store. Actions enter, answers leave; names and ARNs find a parameter without a search.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Answered, Refusal, Stale, Write, body, list, required, text, unknown};
use crate::aws;

/// How many names a batch may have.
const MOST_NAMES: usize = 10;

/// How many versions a parameter keeps.
const MOST_VERSIONS: usize = 100;

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
                body(&json!({"Version": self.put(name, value, kind, now), "Tier": "Standard"}))
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
