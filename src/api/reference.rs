//! The reference: one grammar for the CRD, the command line and the library.
//!
//! Text enters, a [`Reference`] leaves: which store, which name there, which version, and the keypath into its value.
//! Parsing never panics, never touches the network, and refuses what it does not understand instead of cutting it short.
//!
//! `<store>://<name verbatim>[?<version>][#<JSON pointer>]`, or a bare ARN in place of `<store>://<name>`.
//! The name is everything up to `?` or `#`; it is never split into host and path.

use std::{fmt, str::FromStr};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// The longest name that is accepted, in characters: AWS allows 512 for a secret, 1011 for a parameter and 2048 for an ARN.
const MAX_NAME: usize = 2048;
/// Parameters under this path read a secret from Secrets Manager; what follows is its name, then a keypath.
const SECRETS_MANAGER_PREFIX: &str = "/aws/reference/secretsmanager/";
/// What is percent-encoded when a keypath is printed as a fragment: all that RFC 3986 does not allow there, and `%` itself.
const FRAGMENT: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'[').add(b'\\').add(b']').add(b'^').add(b'`').add(b'{').add(b'|').add(b'}');

/// Where values live, as the scheme of a reference names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Store {
    /// AWS Secrets Manager, `aws.sm`.
    SecretsManager,
    /// AWS Systems Manager Parameter Store, `aws.ps`.
    ParameterStore,
    /// A key-value store of Vault or `OpenBao`, `vault`; a name is its mount and a path.
    Vault,
    /// Edge's secrets, kept in Vault, `edge`; a name is `user/NAME` or `org/NAME`.
    Edge,
    /// The secrets of a Roboto platform, `roboto-secret`; a name is `NAME` or `NAME@ORG`.
    Roboto,
    /// Envase Vault, `envase`; a name is `KEY` or `KEY@ORG`.
    Envase,
}

impl Store {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::SecretsManager, Self::ParameterStore, Self::Vault, Self::Edge, Self::Roboto, Self::Envase];

    /// The scheme, such as `aws.sm`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SecretsManager => "aws.sm",
            Self::ParameterStore => "aws.ps",
            Self::Vault => "vault",
            Self::Edge => "edge",
            Self::Roboto => "roboto-secret",
            Self::Envase => "envase",
        }
    }

    /// The store's name in a sentence.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::SecretsManager => "Secrets Manager",
            Self::ParameterStore => "Parameter Store",
            Self::Vault => "Vault",
            Self::Edge => "Edge",
            Self::Roboto => "Roboto",
            Self::Envase => "Envase",
        }
    }

    /// Whether it is one of AWS's.
    #[must_use]
    pub const fn is_aws(self) -> bool {
        matches!(self, Self::SecretsManager | Self::ParameterStore)
    }

    /// Whether a name may end in `@` and the organisation that it belongs to.
    #[must_use]
    pub const fn has_organizations(self) -> bool {
        matches!(self, Self::Roboto | Self::Envase)
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Store {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|store| store.as_str() == text).ok_or(ReferenceError::Store)
    }
}

/// An Amazon Resource Name of a secret or a parameter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Arn {
    /// `aws`, `aws-cn`, `aws-us-gov`, …
    pub partition: String,
    /// The region that holds it, such as `eu-west-1`.
    pub region: String,
    /// The account that owns it, twelve digits.
    pub account: String,
    /// What follows `secret:` (with the six-character suffix, if it was written) or `parameter` (with its leading slash).
    pub resource: String,
}

/// The name of a secret or parameter, as its owner wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Name {
    /// A plain name, verbatim.
    Plain(String),
    /// A full or partial ARN.
    Arn(Arn),
}

/// Which version is asked for; none means the current one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// Secrets Manager: a staging label such as `AWSPREVIOUS`.
    Stage(String),
    /// Secrets Manager: a version id (a UUID, or a token of 32 to 64 characters).
    Id(String),
    /// Parameter Store and Vault: a version number from 1 up.
    Number(u64),
    /// Parameter Store: a parameter label.
    Label(String),
}

impl Version {
    fn query(&self) -> (&'static str, String) {
        match self {
            Self::Stage(stage) => ("version-stage", stage.clone()),
            Self::Id(id) => ("version-id", id.clone()),
            Self::Number(number) => ("version", number.to_string()),
            Self::Label(label) => ("label", label.clone()),
        }
    }

    /// Checks that the version can be asked for in this store and is spelled as the store allows.
    fn check(&self, store: Store) -> Result<(), ReferenceError> {
        let fits = match (store, self) {
            // Kubernetes never prints these; AWS allows more characters in a stage than anybody uses.
            (Store::SecretsManager, Self::Stage(text)) => spelled(text, 1..=256, b"_+=.@-/:"),
            (Store::SecretsManager, Self::Id(text)) => spelled(text, 32..=64, b"-"),
            (Store::ParameterStore | Store::Vault, Self::Number(number)) => *number > 0,
            (Store::ParameterStore, Self::Label(text)) => spelled(text, 1..=100, b"_.-") && !text.starts_with(|c: char| c.is_ascii_digit()),
            _ => return Err(ReferenceError::VersionOfOtherStore(store)),
        };
        if fits { Ok(()) } else { Err(ReferenceError::Version(store)) }
    }
}

/// What one read of a store asks for: everything of a reference but the keypath.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source {
    /// The store.
    pub store: Store,
    /// The name there.
    pub name: Name,
    /// The version, if one is asked for.
    pub version: Option<Version>,
}

/// A parsed reference.
///
/// ```
/// use robotosecret::api::reference::Reference;
///
/// let reference: Reference = "aws.sm://prod/databases/mysql/bigdb/root?version-stage=AWSPREVIOUS#/password".parse()?;
/// assert_eq!(reference.keypath, ["password"]);
/// assert_eq!(reference.source.to_string(), "aws.sm://prod/databases/mysql/bigdb/root?version-stage=AWSPREVIOUS");
/// # Ok::<(), robotosecret::api::reference::ReferenceError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// What is read.
    pub source: Source,
    /// The way into its JSON, member by member; empty for the whole value.
    pub keypath: Vec<String>,
}

/// Why a text is no reference. The message says what to write instead; it never repeats the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Neither a known scheme nor an ARN.
    #[error("a reference starts with aws.sm:// (Secrets Manager), aws.ps:// (Parameter Store), vault://, edge://, roboto-secret://, envase:// or arn:")]
    Store,
    /// Nothing between the scheme and the end.
    #[error("the name is missing after {0}://")]
    NoName(Store),
    /// A name that the store cannot hold, or one that another program could read differently.
    #[error("the name for {store} {problem}")]
    Name {
        /// The store.
        store: Store,
        /// What is wrong with it, as the rest of a sentence.
        problem: &'static str,
    },
    /// A path below which nothing can lie.
    #[error("{0}")]
    Path(&'static str),
    /// Text that starts like an ARN and isn't one.
    #[error("an ARN reads arn:aws:secretsmanager:<region>:<account>:secret:<name> or arn:aws:ssm:<region>:<account>:parameter/<name>")]
    Arn,
    /// An ARN of the other store than the scheme says.
    #[error("the ARN does not belong to {0}")]
    ArnOfOtherStore(Store),
    /// An unknown or repeated query parameter.
    #[error("{}", query_rule(*.0))]
    Query(Store),
    /// A version that the store has no notion of.
    #[error("{}", version_rule(*.0))]
    VersionOfOtherStore(Store),
    /// A version that is spelled wrongly.
    #[error("the version is not one that {} can have: {}", .0.title(), version_forms(*.0).unwrap_or("it has none"))]
    Version(Store),
    /// A fragment that is no RFC 6901 JSON pointer.
    #[error(
        "after # stands a JSON pointer that starts with a slash, such as #/password; ~ is written ~0, / is written ~1, and the rest is percent-encoded UTF-8"
    )]
    Fragment,
    /// A version on a parameter that stands for a secret in Secrets Manager.
    #[error("a version cannot be selected through /aws/reference/secretsmanager/; write aws.sm:// with the version")]
    VersionOfSecretsManagerParameter,
}

/// How a version is written; `None`: the store has none to select.
const fn version_forms(store: Store) -> Option<&'static str> {
    match store {
        Store::SecretsManager => Some("?version-stage=<stage> or ?version-id=<32 to 64 characters>"),
        Store::ParameterStore => Some("?version=<number> or ?label=<label>"),
        Store::Vault => Some("?version=<number>"),
        Store::Edge | Store::Roboto | Store::Envase => None,
    }
}

fn query_rule(store: Store) -> String {
    version_forms(store).map_or_else(|| version_rule(store), |forms| format!("after ? stands one of {forms}"))
}

fn version_rule(store: Store) -> String {
    let title = store.title();
    version_forms(store)
        .map_or_else(|| format!("{title} has no versions to select; leave the version out"), |forms| format!("{title} selects a version by {forms}"))
}

fn spelled(text: &str, length: std::ops::RangeInclusive<usize>, besides: &[u8]) -> bool {
    length.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || besides.contains(&b))
}

impl Reference {
    /// Builds a reference from its parts, under the same rules as parsing.
    pub fn new(store: Store, name: &str, version: Option<Version>, keypath: Vec<String>) -> Result<Self, ReferenceError> {
        let name = parse_name(store, name)?;
        if let Some(version) = &version {
            version.check(store)?;
            if store == Store::ParameterStore && matches!(&name, Name::Plain(name) if name.starts_with(SECRETS_MANAGER_PREFIX)) {
                return Err(ReferenceError::VersionOfSecretsManagerParameter);
            }
        }
        Ok(Self { source: Source { store, name, version }, keypath })
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (rest, fragment) = match text.split_once('#') {
            Some((rest, fragment)) => (rest, Some(fragment)),
            None => (text, None),
        };
        let (named, query) = match rest.split_once('?') {
            Some((named, query)) => (named, Some(query)),
            None => (rest, None),
        };
        let (store, name) = if named.starts_with("arn:") {
            (store_of_arn(named)?, named)
        } else {
            let (scheme, name) = named.split_once("://").ok_or(ReferenceError::Store)?;
            (scheme.parse()?, name)
        };
        let version = query.map(|query| parse_version(store, query)).transpose()?;
        let keypath = fragment.map(parse_pointer).transpose()?.unwrap_or_default();
        Self::new(store, name, version, keypath)
    }
}

fn store_of_arn(arn: &str) -> Result<Store, ReferenceError> {
    match arn.split(':').nth(2) {
        Some("secretsmanager") => Ok(Store::SecretsManager),
        Some("ssm") => Ok(Store::ParameterStore),
        _ => Err(ReferenceError::Arn),
    }
}

fn parse_name(store: Store, text: &str) -> Result<Name, ReferenceError> {
    if text.is_empty() {
        return Err(ReferenceError::NoName(store));
    }
    if text.len() > MAX_NAME {
        return Err(ReferenceError::Name { store, problem: "is longer than 2048 characters" });
    }
    if text.starts_with("arn:") {
        return parse_arn(store, text).map(Name::Arn);
    }
    check_name(store, text)?;
    Ok(Name::Plain(text.to_owned()))
}

fn parse_arn(store: Store, text: &str) -> Result<Arn, ReferenceError> {
    let mut parts = text.splitn(6, ':');
    let mut next = || parts.next().ok_or(ReferenceError::Arn);
    let (_, partition, service, region, account, resource) = (next()?, next()?, next()?, next()?, next()?, next()?);
    let expected = match store {
        Store::SecretsManager => "secretsmanager",
        Store::ParameterStore => "ssm",
        Store::Vault | Store::Edge | Store::Roboto | Store::Envase => return Err(ReferenceError::ArnOfOtherStore(store)),
    };
    if service != expected {
        return Err(if matches!(service, "secretsmanager" | "ssm") { ReferenceError::ArnOfOtherStore(store) } else { ReferenceError::Arn });
    }
    let lower = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !partition.starts_with("aws") || !lower(partition) || !lower(region) || account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ReferenceError::Arn);
    }
    let resource = match store {
        Store::SecretsManager => resource.strip_prefix("secret:"),
        Store::ParameterStore => resource.strip_prefix("parameter").filter(|name| name.starts_with('/') && name.len() > 1),
        Store::Vault | Store::Edge | Store::Roboto | Store::Envase => None,
    }
    .ok_or(ReferenceError::Arn)?;
    check_name(store, resource)?;
    if store == Store::SecretsManager
        && let Some(short) = without_suffix(resource)
    {
        // The ARN may denote this name just as well, so it is held to the same rules.
        check_name(store, short)?;
    }
    Ok(Arn { partition: partition.to_owned(), region: region.to_owned(), account: account.to_owned(), resource: resource.to_owned() })
}

/// Refuses names that the store cannot hold, and those that a policy could read differently from the store.
fn check_name(store: Store, name: &str) -> Result<(), ReferenceError> {
    let refuse = |problem| Err(ReferenceError::Name { store, problem });
    let (besides, longest): (&[u8], usize) = match store {
        Store::SecretsManager => (b"/_+=.@-!", 512),
        Store::ParameterStore => (b"/_.-", 1011),
        Store::Vault => (b"/_+=.@-", 1024),
        Store::Edge => (b"/_-", 256),
        Store::Roboto | Store::Envase => (b"/_+=.@-", 512),
    };
    if name.is_empty() {
        return Err(ReferenceError::NoName(store));
    }
    if name.len() > longest {
        return refuse("is longer than the store allows");
    }
    if !spelled(name, 1..=longest, besides) {
        return refuse(match store {
            Store::SecretsManager => "holds a character other than ASCII letters, digits and /_+=.@-!",
            Store::ParameterStore => "holds a character other than ASCII letters, digits and /_.- (a version is written ?version= or ?label=)",
            Store::Vault => "holds a character other than ASCII letters, digits and /_+=.@- (a version is written ?version=)",
            Store::Edge => EDGE_NAME,
            Store::Roboto | Store::Envase => "holds a character other than ASCII letters, digits and /_+=.- (and one @ before an organisation)",
        });
    }
    let segments = name.strip_prefix('/').unwrap_or(name);
    if segments.is_empty() || segments.ends_with('/') {
        return refuse("ends with a slash");
    }
    if segments.split('/').any(str::is_empty) {
        return refuse("holds two slashes in a row");
    }
    if segments.split('/').any(|segment| matches!(segment, "." | "..")) {
        return refuse("holds a segment that is only . or ..");
    }
    if store == Store::ParameterStore && segments.contains('/') && !name.starts_with('/') {
        return refuse("has several segments and so starts with a slash: aws.ps:///…, three slashes");
    }
    match store {
        Store::Vault if name.starts_with('/') || !name.contains('/') => refuse("is a mount and a path, such as kv/shop/db, without a slash before it"),
        Store::Edge if name.split_once('/').is_none_or(|(whose, name)| !matches!(whose, "user" | "org") || name.contains('/')) => refuse(EDGE_NAME),
        Store::Roboto | Store::Envase => organized(store, name).map_or_else(refuse, |()| Ok(())),
        _ => Ok(()),
    }
}

/// What Edge calls a `BadEntry`.
const EDGE_NAME: &str = "is user/NAME or org/NAME, where NAME has ASCII letters, digits, - and _ only (BadEntry)";

/// Checks a name that may belong to an organisation. Their own clients cut what they don't understand of one: it is refused.
fn organized(store: Store, name: &str) -> Result<(), &'static str> {
    let (name, organization) = name.split_once('@').map_or((name, None), |(name, organization)| (name, Some(organization)));
    if name.is_empty() || name.starts_with('/') || name.ends_with('/') {
        return Err("begins or ends with a slash, or is missing before the @");
    }
    // Behind such a name a request for what the platform tells about it would be one for its credentials.
    if store == Store::Roboto && name.rsplit('/').next() == Some("creds") {
        return Err("ends in creds, which the platform takes for a question of its own");
    }
    let besides: &[u8] = if store == Store::Roboto { b"_" } else { b"_-" };
    match (store, organization) {
        (_, Some(organization)) if !spelled(organization, 1..=128, besides) => Err(if store == Store::Roboto {
            "is followed by @ and an organisation of ASCII letters, digits and _ only, or by no @ at all"
        } else {
            "is followed by @ and an organisation of ASCII letters, digits, _ and - only, or by no @ at all"
        }),
        _ => Ok(()),
    }
}

fn parse_version(store: Store, query: &str) -> Result<Version, ReferenceError> {
    let (key, value) = query.split_once('=').ok_or(ReferenceError::Query(store))?;
    Ok(match key {
        "version-stage" => Version::Stage(value.to_owned()),
        "version-id" => Version::Id(value.to_owned()),
        // Leading zeros and signs would not survive printing.
        "version" if value.bytes().all(|b| b.is_ascii_digit()) && !value.starts_with('0') => {
            Version::Number(value.parse().map_err(|_| ReferenceError::Version(store))?)
        }
        "version" => return Err(ReferenceError::Version(store)),
        "label" => Version::Label(value.to_owned()),
        _ => return Err(ReferenceError::Query(store)),
    })
}

fn parse_pointer(fragment: &str) -> Result<Vec<String>, ReferenceError> {
    let decoded = percent_decoded(fragment).ok_or(ReferenceError::Fragment)?;
    let tokens = decoded.strip_prefix('/').ok_or(ReferenceError::Fragment)?;
    tokens.split('/').map(unescape_token).collect::<Option<_>>().ok_or(ReferenceError::Fragment)
}

/// Decodes `%XX`, refusing a `%` that isn't followed by two hex digits (the library would let it stand).
fn percent_decoded(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let broken =
        bytes.iter().enumerate().filter(|(_, b)| **b == b'%').any(|(i, _)| !bytes.get(i + 1..i + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)));
    if broken { None } else { percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned) }
}

fn unescape_token(token: &str) -> Option<String> {
    let mut out = String::with_capacity(token.len());
    let mut chars = token.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '~' => match chars.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            other => other,
        });
    }
    Some(out)
}

impl Source {
    /// Every plain reference (`aws.sm://name`, without version) that this source may denote, for the check of a provider's `allow`.
    ///
    /// An ARN of a secret may end in the six random characters that Secrets Manager appends, or may be partial and end in a name
    /// that only looks like that: it denotes both names. The name of the answer is checked as well.
    #[must_use]
    pub fn denotes(&self) -> Vec<String> {
        let names: Vec<&str> = match &self.name {
            Name::Plain(name) => vec![name],
            Name::Arn(arn) => match without_suffix(&arn.resource) {
                Some(short) if self.store == Store::SecretsManager => vec![&arn.resource, short],
                _ => vec![&arn.resource],
            },
        };
        names.into_iter().map(|name| format!("{}://{name}", self.store)).collect()
    }

    /// The same, with the stage named that Secrets Manager means by none: a write compares by its name, and so has to be read by it.
    #[must_use]
    pub fn staged(&self) -> Self {
        let current = (self.store == Store::SecretsManager).then(|| Version::Stage("AWSCURRENT".to_owned()));
        Self { version: self.version.clone().or(current), ..self.clone() }
    }

    /// For `/aws/reference/secretsmanager/NAME/a/b`: the secrets that it may denote, the longest name first, each with the rest as keypath.
    /// Empty for every other source.
    #[must_use]
    pub fn through_secrets_manager(&self) -> Vec<(Self, Vec<String>)> {
        let (Store::ParameterStore, Name::Plain(name)) = (self.store, &self.name) else { return Vec::new() };
        let Some(rest) = name.strip_prefix(SECRETS_MANAGER_PREFIX) else { return Vec::new() };
        let segments: Vec<&str> = rest.split('/').collect();
        (1..=segments.len())
            .rev()
            .map(|length| {
                let secret = Name::Plain(segments[..length].join("/"));
                let keypath = segments[length..].iter().map(|&segment| segment.to_owned()).collect();
                (Self { store: Store::SecretsManager, name: secret, version: None }, keypath)
            })
            .collect()
    }

    /// The ARN, if the source was written as one.
    #[must_use]
    pub fn arn(&self) -> Option<&Arn> {
        match &self.name {
            Name::Arn(arn) => Some(arn),
            Name::Plain(_) => None,
        }
    }

    /// The name and the organisation that it belongs to, if one is written; only stores with organisations have any.
    #[must_use]
    pub fn organized(&self) -> (String, Option<String>) {
        let id = self.id();
        match id.split_once('@') {
            Some((name, organization)) if self.store.has_organizations() => (name.to_owned(), Some(organization.to_owned())),
            _ => (id, None),
        }
    }

    /// What the store's API takes as the id or name: the plain name or the whole ARN, without version.
    #[must_use]
    pub fn id(&self) -> String {
        match &self.name {
            Name::Plain(name) => name.clone(),
            Name::Arn(arn) => match self.store {
                Store::SecretsManager => format!("arn:{}:secretsmanager:{}:{}:secret:{}", arn.partition, arn.region, arn.account, arn.resource),
                Store::ParameterStore => format!("arn:{}:ssm:{}:{}:parameter{}", arn.partition, arn.region, arn.account, arn.resource),
                // There are no ARNs of these.
                Store::Vault | Store::Edge | Store::Roboto | Store::Envase => arn.resource.clone(),
            },
        }
    }
}

/// The name of a secret without the hyphen and six characters that Secrets Manager appends in an ARN, if it ends like that.
#[must_use]
pub fn without_suffix(resource: &str) -> Option<&str> {
    let (short, suffix) = resource.rsplit_once('-')?;
    (suffix.len() == 6 && suffix.bytes().all(|b| b.is_ascii_alphanumeric()) && !short.is_empty()).then_some(short)
}

/// A plain reference by the one name that it shares with all its spellings: Parameter Store knows a root parameter as `x` and as `/x`.
#[must_use]
pub fn without_root(reference: &str) -> String {
    reference.replacen("aws.ps:///", "aws.ps://", 1)
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Name::Plain(name) => write!(f, "{}://{name}", self.store)?,
            Name::Arn(_) => f.write_str(&self.id())?,
        }
        if let Some(version) = &self.version {
            let (key, value) = version.query();
            write!(f, "?{key}={value}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source)?;
        if !self.keypath.is_empty() {
            write!(f, "#{}", pointer(&self.keypath))?;
        }
        Ok(())
    }
}

/// The keypath as a percent-encoded JSON pointer, as it stands after `#`.
#[must_use]
pub fn pointer(keypath: &[String]) -> String {
    keypath.iter().fold(String::new(), |mut out, member| {
        out.push('/');
        let escaped = member.replace('~', "~0").replace('/', "~1");
        out.extend(utf8_percent_encode(&escaped, FRAGMENT));
        out
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SM_ARN: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-AbCdEf";

    fn parse(text: &str) -> Reference {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    fn plain(store: Store, name: &str) -> Source {
        Source { store, name: Name::Plain(name.to_owned()), version: None }
    }

    #[test]
    fn the_forms_of_the_documentation_parse() {
        assert_eq!(parse("aws.sm://prod/db").source, plain(Store::SecretsManager, "prod/db"));
        assert_eq!(parse("aws.ps:///prod/db").source, plain(Store::ParameterStore, "/prod/db"));
        assert_eq!(parse("aws.ps://root").source, plain(Store::ParameterStore, "root"));
        assert_eq!(parse("aws.sm://a?version-stage=AWSPREVIOUS").source.version, Some(Version::Stage("AWSPREVIOUS".into())));
        assert_eq!(
            parse("aws.sm://a?version-id=11111111-2222-3333-4444-555555555555").source.version,
            Some(Version::Id("11111111-2222-3333-4444-555555555555".into()))
        );
        assert_eq!(parse("aws.ps:///a?version=3#/x").source.version, Some(Version::Number(3)));
        assert_eq!(parse("aws.ps:///a?label=blue").source.version, Some(Version::Label("blue".into())));
        assert_eq!(parse("aws.sm://rds!cluster-1/x").source, plain(Store::SecretsManager, "rds!cluster-1/x"));
    }

    #[test]
    fn an_arn_parses_bare_and_behind_its_scheme_and_prints_bare() {
        for text in [SM_ARN.to_owned(), format!("aws.sm://{SM_ARN}")] {
            let reference = parse(&text);
            assert_eq!(reference.source.store, Store::SecretsManager);
            assert_eq!(reference.to_string(), SM_ARN);
        }
        let parameter = "arn:aws-us-gov:ssm:us-gov-west-1:123456789012:parameter/prod/x?version=2#/a";
        assert_eq!(parse(parameter).to_string(), parameter);
        assert_eq!(parse(parameter).source.id(), "arn:aws-us-gov:ssm:us-gov-west-1:123456789012:parameter/prod/x");
    }

    #[test]
    fn a_fragment_is_a_percent_decoded_json_pointer() {
        assert_eq!(parse("aws.sm://x#/a/0/b~1c").keypath, ["a", "0", "b/c"]);
        assert_eq!(parse("aws.sm://x#/a.b/m~0n/%70%C3%A4/").keypath, ["a.b", "m~n", "pä", ""]);
        assert_eq!(parse("aws.sm://x#/a?b").keypath, ["a?b"]);
    }

    #[test]
    fn what_could_be_read_two_ways_is_refused() {
        for text in [
            "",
            "x",
            "prod/db",
            "aws.sm:/x",
            "AWS.SM://x",
            "aws.sm://",
            "aws.ps:///",
            "aws.sm://a//b",
            "aws.sm://a/./b",
            "aws.sm://../b",
            "aws.sm://a/",
            "aws.sm://pä",
            "aws.sm://a b",
            "aws.sm://a%20b",
            "aws.ps:///a:3",
            "aws.ps://a/b",
            "aws.sm://a?",
            "aws.sm://a?version=3",
            "aws.ps:///a?version-stage=X",
            "aws.ps:///a?version=0",
            "aws.ps:///a?version=03",
            "aws.ps:///a?version=+3",
            "aws.ps:///a?version=99999999999999999999",
            "aws.ps:///a?label=3a",
            "aws.sm://a?version-id=short",
            "aws.sm://a?version-stage=A&version-id=B",
            "aws.sm://a#",
            "aws.sm://a#x",
            "aws.sm://a#/~2",
            "aws.sm://a#/%zz",
            "aws.sm://a#/%ff",
            "arn:aws:secretsmanager:eu-west-1:123456789012:secret:",
            "arn:aws:secretsmanager:eu-west-1:12345:secret:x",
            "arn:aws:s3:eu-west-1:123456789012:secret:x",
            "aws.ps://arn:aws:secretsmanager:eu-west-1:123456789012:secret:x",
            "arn:aws:ssm:eu-west-1:123456789012:parameter",
            "arn:aws:ssm:eu-west-1:123456789012:parameterx",
            "arn:aws:secretsmanager:eu-west-1:123456789012:secret:a/../b",
            "arn:aws:secretsmanager:eu-west-1:123456789012:secret:a/-AbCdEf",
            "arn:aws:secretsmanager:eu-west-1:123456789012:secret:a/..-AbCdEf",
            "roboto-secret:/x",
            "aws.ps:///aws/reference/secretsmanager/x?version=1",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn an_arn_with_what_may_be_a_suffix_denotes_both_names() {
        assert_eq!(parse(SM_ARN).source.denotes(), ["aws.sm://prod/db-AbCdEf", "aws.sm://prod/db"]);
        assert_eq!(parse("arn:aws:ssm:eu-west-1:123456789012:parameter/prod/db-AbCdEf").source.denotes(), ["aws.ps:///prod/db-AbCdEf"]);
        assert_eq!(parse("aws.sm://prod/db-AbCdEf").source.denotes(), ["aws.sm://prod/db-AbCdEf"]);
    }

    #[test]
    fn a_name_in_vault_is_a_mount_and_a_path() {
        let reference = parse("vault://kv/shop/db?version=2#/password");
        assert_eq!((reference.source.id().as_str(), &reference.source.version), ("kv/shop/db", &Some(Version::Number(2))));
        assert_eq!(reference.source.denotes(), ["vault://kv/shop/db"]);
        for wrong in [
            "vault://kv",
            "vault://",
            "vault:///kv/db",
            "vault://kv/",
            "vault://kv//db",
            "vault://kv/../db",
            "vault://kv/a b",
            "vault://kv/%2e/db",
            "vault://kv/db?version=0",
            "vault://kv/db?version-stage=x",
            "vault://kv/db?label=x",
            "vault://arn:aws:ssm:eu-west-1:123456789012:parameter/x",
        ] {
            assert!(wrong.parse::<Reference>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_roboto_uri_means_what_it_means_to_the_sdk_or_is_refused() {
        // The SDK matches `(roboto-secret://)([^@]+)(@(\w+))?` at the start of the text and ignores the rest.
        for (text, name, organization) in [
            ("roboto-secret://api_key@org_123", "api_key", Some("org_123")),
            ("roboto-secret://api_key", "api_key", None),
            ("roboto-secret://a/b.c-d@org_1", "a/b.c-d", Some("org_1")),
            ("roboto-secret://a+b=c", "a+b=c", None),
        ] {
            let source = parse(text).source;
            assert_eq!(source.organized(), (name.to_owned(), organization.map(str::to_owned)), "{text}");
            assert_eq!(source.denotes(), [text], "{text}");
        }
        assert_eq!(parse("roboto-secret://api_key@org_1#/password").keypath, ["password"], "for the SDK # is a part of the name, which it can't send");
        for cut_or_unsendable in [
            "roboto-secret://api_key@",
            "roboto-secret://api_key@!",
            "roboto-secret://api_key@org-123",
            "roboto-secret://a@b@c",
            "roboto-secret://x@org_1/trailing",
            "roboto-secret://x@org_1 junk",
            "roboto-secret://x?y=1",
            "roboto-secret://a/b.c-d e@org_1",
            "roboto-secret://x\ny@org_1",
            "roboto-secret://ключ@org_1",
            "roboto-secret://x@орг",
        ] {
            assert!(cut_or_unsendable.parse::<Reference>().is_err(), "{cut_or_unsendable}");
        }
        for no_uri in ["roboto-secret://", "roboto-secret://@org_123", "ROBOTO-SECRET://x", " roboto-secret://x", "roboto-secret:/x", ""] {
            assert!(no_uri.parse::<Reference>().is_err(), "{no_uri:?}");
        }
        for ours in ["roboto-secret://x/creds", "roboto-secret://creds@org_1", "roboto-secret:///x", "roboto-secret://x/@org", "roboto-secret://a/../b"] {
            assert!(ours.parse::<Reference>().is_err(), "{ours}");
        }
    }

    #[test]
    fn names_of_edge_and_envase_are_held_to_their_rules() {
        assert_eq!(parse("edge://user/my-secret#/password").source, plain(Store::Edge, "user/my-secret"));
        assert_eq!(parse("edge://org/My_Secret2").source.organized(), ("org/My_Secret2".to_owned(), None));
        for wrong in [
            "edge://user",
            "edge://user/",
            "edge://team/x",
            "edge://user/a/b",
            "edge://org/bad.name",
            "edge://org/ä",
            "edge:///user/x",
            "edge://org/x?version=1",
        ] {
            let error = wrong.parse::<Reference>().expect_err(wrong).to_string();
            assert!(error.contains("BadEntry") || error.contains("slash") || error.contains("no versions"), "{wrong}: {error}");
        }
        assert_eq!(parse("envase://shop/db@org-1").source.organized(), ("shop/db".to_owned(), Some("org-1".to_owned())));
        for wrong in ["envase://", "envase://@org", "envase://k@", "envase://k@a/b", "envase://k@a@b", "envase:///k", "envase://k?version=1", "envase://k k"] {
            assert!(wrong.parse::<Reference>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_parameter_that_stands_for_a_secret_tries_the_longest_name_first() {
        let candidates = parse("aws.ps:///aws/reference/secretsmanager/app/db/password").source.through_secrets_manager();
        let shown: Vec<_> = candidates.iter().map(|(source, rest)| format!("{source} {rest:?}")).collect();
        assert_eq!(shown, ["aws.sm://app/db/password []", r#"aws.sm://app/db ["password"]"#, r#"aws.sm://app ["db", "password"]"#]);
        assert!(parse("aws.ps:///aws/other").source.through_secrets_manager().is_empty());
    }

    fn version(store: Store) -> BoxedStrategy<Option<Version>> {
        match store {
            Store::SecretsManager => prop_oneof![
                Just(None),
                "[A-Za-z0-9_+=.@/:-]{1,40}".prop_map(|stage| Some(Version::Stage(stage))),
                "[A-Za-z0-9-]{32,64}".prop_map(|id| Some(Version::Id(id))),
            ]
            .boxed(),
            Store::ParameterStore => prop_oneof![
                Just(None),
                (1..u64::MAX).prop_map(|number| Some(Version::Number(number))),
                "[A-Za-z_.-][A-Za-z0-9_.-]{0,40}".prop_map(|label| Some(Version::Label(label))),
            ]
            .boxed(),
            Store::Vault => prop_oneof![Just(None), (1..u64::MAX).prop_map(|number| Some(Version::Number(number)))].boxed(),
            Store::Edge | Store::Roboto | Store::Envase => Just(None).boxed(),
        }
    }

    fn name(store: Store) -> BoxedStrategy<String> {
        match store {
            Store::SecretsManager => prop_oneof![
                "[A-Za-z0-9_+=@!-]{1,20}(/[A-Za-z0-9_+=@!-]{1,20}){0,3}",
                "arn:aws:secretsmanager:[a-z0-9-]{1,12}:[0-9]{12}:secret:[a-z/]{0}[A-Za-z0-9_+=@!-]{1,20}(/[A-Za-z0-9_-]{1,9}){0,2}",
            ]
            .boxed(),
            Store::ParameterStore => prop_oneof![
                "[A-Za-z0-9_-]{1,20}",
                "(/[A-Za-z0-9_-]{1,20}){1,4}",
                "arn:aws-cn:ssm:[a-z0-9-]{1,12}:[0-9]{12}:parameter(/[A-Za-z0-9_-]{1,20}){1,4}"
            ]
            .boxed(),
            Store::Vault => "[A-Za-z0-9_+=.@-]{1,20}(/[A-Za-z0-9_+=.@-]{1,20}){1,4}".boxed(),
            Store::Edge => "(user|org)/[A-Za-z0-9_-]{1,20}".boxed(),
            Store::Roboto => "[A-Za-z0-9_+=.-]{1,20}(/[A-Za-z0-9_+=.-]{1,20}){0,3}(@[A-Za-z0-9_]{1,9})?".boxed(),
            Store::Envase => "[A-Za-z0-9_+=.-]{1,20}(/[A-Za-z0-9_+=.-]{1,20}){0,3}(@[A-Za-z0-9_-]{1,9})?".boxed(),
        }
    }

    fn reference() -> impl Strategy<Value = Reference> {
        proptest::sample::select(&Store::ALL[..]).prop_flat_map(|store| {
            (name(store), version(store), proptest::collection::vec(any::<String>(), 0..4))
                .prop_filter_map("not a legal reference", move |(name, version, keypath)| Reference::new(store, &name, version, keypath).ok())
        })
    }

    proptest! {
        #[test]
        fn printing_and_parsing_round_trip(reference in reference()) {
            let text = reference.to_string();
            prop_assert_eq!(text.parse::<Reference>(), Ok(reference), "printed as {}", text);
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = text.parse::<Reference>();
        }

        #[test]
        fn no_text_that_looks_like_a_reference_panics_and_what_parses_round_trips(text in "(aws[.](sm|ps)://|(vault|edge|roboto-secret|envase)://|arn:aws:(secretsmanager|ssm):r:123456789012:(secret:|parameter/))[a-zA-Z0-9/._~%?#=&é:-]{0,40}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse::<Reference>(), Ok(reference));
            }
        }

        #[test]
        fn what_a_reference_denotes_is_never_empty_and_always_parses(reference in reference()) {
            let names = reference.source.denotes();
            prop_assert!(!names.is_empty());
            for name in names {
                prop_assert!(name.parse::<Reference>().is_ok(), "{} does not parse", name);
            }
        }
    }
}
