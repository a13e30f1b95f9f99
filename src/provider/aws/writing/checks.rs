//! What is refused before any call, in words that say what to do. Pure: a source, a value or attributes enter, what is sent or a refusal leaves. No
//! refusal quotes a value.

use crate::{
    api::reference::{Name, Source, Store, Version, without_suffix},
    provider::{
        Value,
        writing::{Attributes, MOST_OF_A_SECRET, ParameterKind, ParameterTier, WriteError, sized, text},
    },
};

/// The tier whose values may be the largest.
pub(super) const LARGEST: ParameterTier = ParameterTier::Advanced;
/// How many tags there may be, and how many characters a key and a value may have.
const TAGS: (usize, usize, usize) = (50, 128, 256);

/// What is written into Secrets Manager. It borrows from the value, which is wiped when its owner drops it.
#[derive(Clone, Copy)]
pub(in crate::provider) enum Content<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

impl Content<'_> {
    /// The same as text or binary, as what is there is. Whoever reads it may be able to read only that.
    pub(super) fn like(self, there: Option<&Value>) -> Result<Self, WriteError> {
        match (self, there) {
            (Self::Binary(bytes), Some(Value::Text(_))) => std::str::from_utf8(bytes).map(Self::Text).map_err(|_| {
                WriteError::refused("the secret holds text, and the value is not UTF-8; encode it, or delete the secret and create it with the binary value")
            }),
            (Self::Text(text), Some(Value::Binary(_))) => Ok(Self::Binary(text.as_bytes())),
            (content, _) => Ok(content),
        }
    }
}

/// A value for Secrets Manager.
pub(super) fn secret(value: &Value) -> Result<Content<'_>, WriteError> {
    match value {
        Value::Text(value) => sized(value, Store::SecretsManager, MOST_OF_A_SECRET).and_then(|()| text(value)).map(Content::Text),
        Value::Binary(value) => sized(value, Store::SecretsManager, MOST_OF_A_SECRET).map(|()| Content::Binary(value.expose())),
        Value::List(_) => Err(list()),
    }
}

/// A value for a parameter of a tier.
pub(super) fn parameter(value: &Value, tier: Option<ParameterTier>) -> Result<&str, WriteError> {
    match value {
        Value::Text(value) => sized(value, Store::ParameterStore, ParameterTier::most(tier)).and_then(|()| text(value)),
        Value::Binary(_) => Err(WriteError::refused("a parameter holds text only; encode the value, with base64 for instance, or put it into Secrets Manager")),
        Value::List(_) => Err(list()),
    }
}

fn list() -> WriteError {
    WriteError::refused("a list is no value; write each of its members by itself")
}

/// Where something is written to. `staged`: a stage of a secret may be.
pub(super) fn place(source: &Source, staged: bool) -> Result<(), WriteError> {
    if !source.through_secrets_manager().is_empty() {
        return Err(WriteError::refused("what begins with /aws/reference/secretsmanager/ is a secret; write to it as aws.sm://NAME"));
    }
    // AWS takes a part of an ARN too, for any secret that it could be the beginning of.
    if source.store == Store::SecretsManager && source.arn().is_some_and(|arn| without_suffix(&arn.resource).is_none()) {
        return Err(WriteError::refused("the ARN lacks the hyphen and six characters that AWS ends it with; write the whole ARN, or the name"));
    }
    match &source.version {
        None => Ok(()),
        Some(Version::Stage(_)) if staged && source.store == Store::SecretsManager => Ok(()),
        Some(_) if staged && source.store == Store::SecretsManager => {
            Err(WriteError::refused("a version can't be changed once it is there; leave it out, or write a stage: ?version-stage=NAME"))
        }
        Some(_) => Err(WriteError::refused("this is not done to one version; leave the version out")),
    }
}

/// What is to be made.
pub(super) fn new(source: &Source, attributes: &Attributes) -> Result<(), WriteError> {
    if let Name::Arn(_) = &source.name {
        return Err(WriteError::refused("an ARN is given by AWS when something is made; write the name: aws.sm://NAME or aws.ps:///NAME"));
    }
    place(source, false)?;
    let Attributes { description, tags, kms_key, kind, tier } = attributes;
    let is_parameter = source.store == Store::ParameterStore;
    if !is_parameter && (kind.is_some() || tier.is_some()) {
        return Err(WriteError::refused("a secret has neither kind nor tier; leave them out"));
    }
    if is_parameter && kms_key.is_some() && !matches!(kind, None | Some(ParameterKind::SecureString)) {
        return Err(WriteError::refused("only a SecureString is encrypted with a key; leave the key out, or choose that kind"));
    }
    let most = if is_parameter { 1024 } else { 2048 };
    if description.as_ref().is_some_and(|text| text.chars().count() > most) {
        return Err(WriteError::Refused(format!("the description has more than {most} characters; make it shorter")));
    }
    let (most, key, value) = TAGS;
    if tags.len() > most {
        return Err(WriteError::Refused(format!("there are more than {most} tags; leave some out")));
    }
    for (tag, content) in tags {
        if tag.is_empty() || tag.chars().count() > key || content.chars().count() > value {
            return Err(WriteError::Refused(format!("a tag has a key of 1 to {key} characters and a value of {value} at most")));
        }
        if tag.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:")) {
            return Err(WriteError::refused("tags that begin with aws: are AWS's own; choose other keys"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::reference::Reference, sensitive::Sensitive};

    fn source(uri: &str) -> Source {
        uri.parse::<Reference>().expect("a reference").source
    }

    fn bytes(bytes: &[u8]) -> Value {
        Value::Binary(Sensitive::new(bytes.to_vec()))
    }

    fn words(text: &str) -> Value {
        Value::Text(Sensitive::from(text.to_owned()))
    }

    fn says(answer: Result<(), WriteError>, part: &str) {
        let error = answer.expect_err(part).to_string();
        assert!(error.starts_with("Refused: ") && error.contains(part), "{part:?} is not in {error:?}");
    }

    #[test]
    fn values_that_no_store_takes_are_refused() {
        for value in [words(""), bytes(b"")] {
            says(secret(&value).map(|_| ()), "keeps no empty values");
        }
        says(secret(&words(&"x".repeat(65_537))).map(|_| ()), "longer than the 65536 bytes");
        says(secret(&bytes(&vec![0; 65_537])).map(|_| ()), "longer than the 65536 bytes");
        assert!(secret(&words(&"x".repeat(65_536))).is_ok() && secret(&bytes(&vec![0; 65_536])).is_ok());
        says(secret(&Value::List(Vec::new())).map(|_| ()), "a list is no value");
        says(secret(&Value::Text(Sensitive::new(vec![0xff]))).map(|_| ()), "not UTF-8");
        says(parameter(&words(""), None).map(|_| ()), "keeps no empty values");
        says(parameter(&bytes(b"x"), None).map(|_| ()), "a parameter holds text only");
        says(parameter(&Value::List(Vec::new()), None).map(|_| ()), "a list is no value");
        for (tier, most) in
            [(None, 4096), (Some(ParameterTier::Standard), 4096), (Some(ParameterTier::Advanced), 8192), (Some(ParameterTier::IntelligentTiering), 8192)]
        {
            assert!(parameter(&words(&"x".repeat(most)), tier).is_ok(), "{tier:?}");
            says(parameter(&words(&"x".repeat(most + 1)), tier).map(|_| ()), &format!("longer than the {most} bytes"));
        }
    }

    #[test]
    fn what_is_written_stays_text_or_binary() {
        let of = |content: Result<Content<'_>, WriteError>| match content.expect("content") {
            Content::Text(text) => format!("text {text}"),
            Content::Binary(bytes) => format!("binary {bytes:?}"),
        };
        assert_eq!(of(Content::Binary(b"two").like(Some(&words("one")))), "text two");
        assert_eq!(of(Content::Text("two").like(Some(&bytes(b"one")))), "binary [116, 119, 111]");
        assert_eq!(of(Content::Binary(b"\xff").like(Some(&bytes(b"one")))), "binary [255]");
        assert_eq!((of(Content::Binary(b"\xff").like(None)), of(Content::Text("x").like(None))), ("binary [255]".to_owned(), "text x".to_owned()));
        says(Content::Binary(b"\xff").like(Some(&words("one"))).map(|_| ()), "the secret holds text");
    }

    #[test]
    fn a_version_is_not_written_to_but_a_stage_of_a_secret_is() {
        let id = "aws.sm://x?version-id=11111111-2222-3333-4444-555555555555";
        assert!(place(&source("aws.sm://x?version-stage=A"), true).is_ok());
        says(place(&source("aws.sm://x?version-stage=A"), false), "leave the version out");
        says(place(&source(id), true), "write a stage");
        says(place(&source("aws.ps:///x?version=1"), true), "leave the version out");
        says(place(&source("aws.ps:///x?label=a"), false), "leave the version out");
        let arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:x";
        says(place(&source(arn), true), "write the whole ARN");
        assert!(place(&source(&format!("{arn}-AbCdEf")), true).is_ok());
        says(place(&source("aws.ps:///aws/reference/secretsmanager/x"), true), "write to it as aws.sm://NAME");
    }

    #[test]
    fn attributes_that_it_can_not_have_are_refused() {
        let (secret, parameter) = (source("aws.sm://x"), source("aws.ps:///x"));
        let of = |change: fn(&mut Attributes)| {
            let mut attributes = Attributes::default();
            change(&mut attributes);
            attributes
        };
        says(new(&source("arn:aws:secretsmanager:eu-west-1:123456789012:secret:x"), &Attributes::default()), "write the name");
        says(new(&source("arn:aws:ssm:eu-west-1:123456789012:parameter/x"), &Attributes::default()), "write the name");
        says(new(&source("aws.sm://x?version-stage=A"), &Attributes::default()), "leave the version out");
        says(new(&secret, &of(|a| a.kind = Some(ParameterKind::String))), "neither kind nor tier");
        says(new(&secret, &of(|a| a.tier = Some(ParameterTier::Standard))), "neither kind nor tier");
        let keyed = of(|a| (a.kind, a.kms_key) = (Some(ParameterKind::String), Some("alias/k".to_owned())));
        says(new(&parameter, &keyed), "only a SecureString");
        assert!(new(&parameter, &Attributes { kind: None, ..keyed }).is_ok());
        for both in [&secret, &parameter] {
            says(new(both, &of(|a| drop(a.tags.insert("AWS:x".to_owned(), String::new())))), "are AWS's own");
            says(new(both, &of(|a| drop(a.tags.insert(String::new(), String::new())))), "a key of 1 to 128");
            says(new(both, &of(|a| drop(a.tags.insert("x".to_owned(), "x".repeat(257))))), "256 at most");
            says(new(both, &of(|a| a.tags = (0..51).map(|i| (i.to_string(), String::new())).collect())), "more than 50 tags");
            assert!(new(both, &of(|a| a.tags = (0..50).map(|i| (i.to_string(), String::new())).collect())).is_ok());
            says(new(both, &of(|a| a.description = Some("x".repeat(2049)))), "the description");
        }
    }
}
