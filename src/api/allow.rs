//! Permissions: who may use a provider for which references. Empty means nobody.
//!
//! Rules, a namespace and names enter; yes, or what is missing, leaves. Pure: it runs before any call leaves the cluster and knows only
//! names, never values. What can't be read in a rule allows nothing.

#![allow(clippy::doc_markdown)] // `kubectl explain` prints them, where backticks are noise.

use kube::{KubeSchema, core::Rule};
use serde::{Deserialize, Serialize};

use super::{
    namespaces::{Namespaces, Place},
    reference::{Arn, Source, Store, without_root},
};

/// What may be done.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Values may be read.
    Read,
    /// Values may be written.
    Write,
}

fn read_only() -> Vec<Verb> {
    vec![Verb::Read]
}

fn references_rules() -> [Rule; 2] {
    [
        // A regular expression would cost the API server more than it grants.
        Rule::new("self.all(r, r == '*' || r.startsWith('aws.sm://') || r.startsWith('aws.ps://') || r.startsWith('vault://') || r.startsWith('edge://') || r.startsWith('roboto-secret://') || r.startsWith('envase://'))")
            .message("a pattern starts with aws.sm://, aws.ps://, vault://, edge://, roboto-secret:// or envase://, or is \"*\" alone"),
        Rule::new("self.all(r, !(r.replace('/${namespace}/', '/') + '/').replace('/${namespace}/', '/').contains('$'))")
            .message("${namespace} fills a whole segment, as in aws.ps:///prod/${namespace}/**"),
    ]
}

fn accounts_rule() -> Rule {
    Rule::new("self.all(a, a.matches('^[0-9]{12}$'))").message("an account has 12 digits")
}

fn regions_rule() -> Rule {
    Rule::new("self.all(r, r.matches('^[a-z]{2}[a-z-]*-[0-9]+$'))").message("regions such as eu-west-1")
}

/// One permission: these namespaces, for these references.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct AllowRule {
    /// The namespaces whose resources may use the provider.
    pub namespaces: Namespaces,

    /// The references they may use: `aws.sm://prod/shop/**`, `aws.ps:///prod/${namespace}/**`. `*` stands for anything within a segment, `**` for anything across segments, `${namespace}` fills a whole segment; `"*"` alone is everything. Empty: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)))]
    #[x_kube(validation = references_rules()[0].clone(), validation = references_rules()[1].clone())]
    pub references: Vec<String>,

    /// Accounts besides the provider's own, 12 digits each, whose secrets and parameters these references may name by ARN.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 12)))]
    #[x_kube(validation = accounts_rule())]
    pub accounts: Vec<String>,

    /// Regions besides the provider's own, whose secrets and parameters these references may name by ARN.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 64)))]
    #[x_kube(validation = regions_rule())]
    pub regions: Vec<String>,

    /// What they may do: `read` (default) and `write`.
    #[serde(default = "read_only")]
    #[schemars(length(max = 2))]
    pub verbs: Vec<Verb>,
}

/// One permission of a RobotoProvider, for the RobotoSecrets of its namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct OwnAllowRule {
    /// The references they may use: `aws.sm://prod/shop/**`, `aws.ps:///prod/shop/**`. `*` stands for anything within a segment, `**` for anything across segments, `${namespace}` fills a whole segment; `"*"` alone is everything. Empty: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)))]
    #[x_kube(validation = references_rules()[0].clone(), validation = references_rules()[1].clone())]
    pub references: Vec<String>,

    /// Accounts besides the provider's own, 12 digits each, whose secrets and parameters these references may name by ARN.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 12)))]
    #[x_kube(validation = accounts_rule())]
    pub accounts: Vec<String>,

    /// Regions besides the provider's own, whose secrets and parameters these references may name by ARN.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 64)))]
    #[x_kube(validation = regions_rule())]
    pub regions: Vec<String>,

    /// What they may do: `read` (default) and `write`.
    #[serde(default = "read_only")]
    #[schemars(length(max = 2))]
    pub verbs: Vec<Verb>,
}

impl OwnAllowRule {
    /// The same for all who may name the provider: only the resources of its own namespace can.
    #[must_use]
    pub fn for_all(&self) -> AllowRule {
        let Self { references, accounts, regions, verbs } = self.clone();
        AllowRule { namespaces: Namespaces { all: Some(true), ..Namespaces::default() }, references, accounts, regions, verbs }
    }
}

/// Where a provider is at home, as far as that is known.
#[derive(Clone, Copy, Debug)]
pub struct Home<'h> {
    /// Its region.
    pub region: &'h str,
    /// The account of its identity; `None` before AWS has told it.
    pub account: Option<&'h str>,
}

/// Why a reference may not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No rule covers this plain reference, which it denotes.
    Reference(String),
    /// It is an ARN of a region that no rule for it names.
    Region(String),
    /// It is an ARN of an account that no rule for it names.
    Account(String),
}

/// What a rule has to name besides the reference.
#[derive(Clone, Copy, Default)]
struct Abroad<'s> {
    region: Option<&'s str>,
    account: Option<&'s str>,
}

impl<'s> Abroad<'s> {
    fn new(rules: &[AllowRule], arn: &'s Arn, home: Home<'_>) -> Self {
        // Whose account it is can be left to the provider, which reads in no other than its own, as long as no rule says otherwise.
        let may_be_home = match home.account {
            Some(account) => account == arn.account,
            None => !rules.iter().any(|rule| rule.accounts.contains(&arn.account)),
        };
        Self { region: (arn.region != home.region).then_some(arn.region.as_str()), account: (!may_be_home).then_some(arn.account.as_str()) }
    }
}

impl AllowRule {
    fn is_for(&self, place: Place<'_>, verb: Verb) -> bool {
        self.verbs.contains(&verb) && self.namespaces.contain(place)
    }

    fn covers(&self, place: Place<'_>, reference: &str) -> bool {
        self.pattern_for(place, reference).is_some()
    }

    fn pattern_for(&self, place: Place<'_>, reference: &str) -> Option<&str> {
        self.references.iter().map(String::as_str).find(|pattern| pattern_matches(pattern, place.name, reference))
    }
}

/// The rule that lets a namespace do something with a reference, and its pattern for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant<'r> {
    /// Which of the rules, from 0.
    pub rule: usize,
    /// Its pattern.
    pub pattern: &'r str,
}

/// Whether rules let the namespace do this with the source, under every name that the source may denote; else what is missing.
pub fn permit(rules: &[AllowRule], verb: Verb, place: Place<'_>, source: &Source, home: Home<'_>) -> Result<(), Refusal> {
    grants(rules, verb, place, source, home).map(drop)
}

/// As [`permit`], and what lets it: a grant for each name that the source may denote.
pub fn grants<'r>(rules: &'r [AllowRule], verb: Verb, place: Place<'_>, source: &Source, home: Home<'_>) -> Result<Vec<Grant<'r>>, Refusal> {
    let abroad = source.arn().map(|arn| Abroad::new(rules, arn, home)).unwrap_or_default();
    let grant = |reference: String| {
        let covering: Vec<(usize, &AllowRule)> =
            rules.iter().enumerate().filter(|(_, rule)| rule.is_for(place, verb) && rule.covers(place, &reference)).collect();
        if covering.is_empty() {
            return Err(Refusal::Reference(reference));
        }
        let in_region = |(_, rule): &&(usize, &AllowRule)| abroad.region.is_none_or(|region| rule.regions.iter().any(|named| named == region));
        let in_account = |(_, rule): &&(usize, &AllowRule)| abroad.account.is_none_or(|account| rule.accounts.iter().any(|named| named == account));
        let in_region: Vec<(usize, &'r AllowRule)> = covering.iter().filter(in_region).copied().collect();
        if in_region.is_empty() {
            return Err(Refusal::Region(abroad.region.unwrap_or_default().to_owned()));
        }
        let Some((index, rule)) = in_region.iter().find(in_account) else {
            return Err(Refusal::Account(abroad.account.unwrap_or_default().to_owned()));
        };
        Ok(Grant { rule: *index, pattern: rule.pattern_for(place, &reference).unwrap_or_default() })
    };
    source.denotes().into_iter().map(grant).collect()
}

/// Whether a rule lets the namespace read this plain reference (`aws.sm://name`).
#[must_use]
pub fn may_read(rules: &[AllowRule], place: Place<'_>, reference: &str) -> bool {
    rules.iter().any(|rule| rule.is_for(place, Verb::Read) && rule.covers(place, reference))
}

/// Whether a rule may let the namespace read something in this store whose name starts with this path.
#[must_use]
pub fn may_find(rules: &[AllowRule], place: Place<'_>, store: Store, path: &str) -> bool {
    // A root parameter has two spellings; and what lies below a path there has its slash.
    let bare = |name: &str| if store == Store::ParameterStore { name.trim_start_matches('/').to_owned() } else { name.to_owned() };
    let mut path = bare(path);
    if store != Store::SecretsManager && !path.is_empty() && !path.ends_with('/') {
        path.push('/');
    }
    let scheme = format!("{store}://");
    let below = |pattern: &String| {
        let Some(named) = pattern.strip_prefix(&scheme) else { return pattern == "*" };
        let filled = filled(named, place.name);
        let literal = bare(filled.split('*').next().unwrap_or_default());
        literal.starts_with(&path) || filled.contains('*') && path.starts_with(&literal)
    };
    rules.iter().any(|rule| rule.is_for(place, Verb::Read) && rule.references.iter().any(below))
}

/// What every name in this store begins with that the namespace may read. Empty: nothing that is known.
#[must_use]
pub fn readable_prefix(rules: &[AllowRule], place: Place<'_>, store: Store) -> String {
    let scheme = format!("{store}://");
    let mut common: Option<String> = None;
    for pattern in rules.iter().filter(|rule| rule.is_for(place, Verb::Read)).flat_map(|rule| &rule.references) {
        if pattern == "*" {
            return String::new();
        }
        let Some(named) = pattern.strip_prefix(&scheme) else { continue };
        let filled = filled(named, place.name);
        let literal = filled.split('*').next().unwrap_or_default();
        common = Some(match common {
            None => literal.to_owned(),
            Some(known) => known.chars().zip(literal.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect(),
        });
    }
    common.unwrap_or_default()
}

/// The pattern with the namespace filled in where it fills a segment.
fn filled(pattern: &str, namespace: &str) -> String {
    let segments: Vec<&str> = pattern.split('/').map(|segment| if segment == "${namespace}" { namespace } else { segment }).collect();
    segments.join("/")
}

fn pattern_matches(pattern: &str, namespace: &str, reference: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    let filled = filled(pattern, namespace);
    // An organisation is another place: no star stands for the @ before it.
    let store = reference.split_once("://").and_then(|(scheme, _)| scheme.parse::<Store>().ok());
    let is_organized = store.is_some_and(Store::has_organizations);
    !filled.contains('$') && glob(without_root(&filled).as_bytes(), without_root(reference).as_bytes(), if is_organized { b"@" } else { b"" })
}

/// `*` is any run of bytes but `/`, `**` any run at all, both without what is `apart`; everything else stands for itself.
fn glob(pattern: &[u8], text: &[u8], apart: &[u8]) -> bool {
    // reached[j]: the pattern so far can match the first j bytes of the text.
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    let mut rest = pattern;
    while let [first, tail @ ..] = rest {
        let mut next = vec![false; text.len() + 1];
        if *first == b'*' {
            let across = tail.first() == Some(&b'*');
            rest = if across { &tail[1..] } else { tail };
            for j in 0..=text.len() {
                next[j] = reached[j] || (j > 0 && next[j - 1] && (across || text[j - 1] != b'/') && !apart.contains(&text[j - 1]));
            }
        } else {
            rest = tail;
            for (j, byte) in text.iter().enumerate() {
                next[j + 1] = reached[j] && byte == first;
            }
        }
        reached = next;
    }
    reached[text.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(namespaces: &[&str], references: &[&str]) -> AllowRule {
        AllowRule {
            namespaces: Namespaces { names: Some(namespaces.iter().map(|&n| n.to_owned()).collect()), ..Namespaces::default() },
            references: references.iter().map(|&r| r.to_owned()).collect(),
            verbs: read_only(),
            ..AllowRule::default()
        }
    }

    const HOME: &str = "123456789012";

    fn permitted(rules: &[AllowRule], namespace: &str, uri: &str, account: Option<&str>) -> Result<(), Refusal> {
        let reference: crate::api::reference::Reference = uri.parse().expect("a reference");
        let place = Place { name: namespace, labels: &std::collections::BTreeMap::new() };
        permit(rules, Verb::Read, place, &reference.source, Home { region: "eu-west-1", account })
    }

    fn allowed(rules: &[AllowRule], namespace: &str, uri: &str) -> bool {
        permitted(rules, namespace, uri, None).is_ok()
    }

    #[test]
    fn nothing_written_allows_nothing() {
        assert!(!allowed(&[], "shop", "aws.sm://prod/db"));
        assert!(!allowed(&[rule(&["shop"], &[])], "shop", "aws.sm://prod/db"));
        assert!(!allowed(&[rule(&[], &["*"])], "shop", "aws.sm://prod/db"));
    }

    #[test]
    fn what_lets_it_is_told() {
        let rules = [rule(&["other"], &["*"]), rule(&["shop"], &["aws.sm://dev/**", "aws.sm://prod/*"])];
        let reference: crate::api::reference::Reference = "aws.sm://prod/db".parse().expect("a reference");
        let place = Place { name: "shop", labels: &std::collections::BTreeMap::new() };
        let told = grants(&rules, Verb::Read, place, &reference.source, Home { region: "eu-west-1", account: None });
        assert_eq!(told, Ok(vec![Grant { rule: 1, pattern: "aws.sm://prod/*" }]));
    }

    #[test]
    fn namespaces_are_named_or_all() {
        assert!(allowed(&[rule(&["shop"], &["*"])], "shop", "aws.sm://prod/db"));
        assert!(!allowed(&[rule(&["shop"], &["*"])], "shopping", "aws.sm://prod/db"));
        let all = OwnAllowRule { references: vec!["*".into()], verbs: read_only(), ..OwnAllowRule::default() }.for_all();
        assert!(allowed(&[all], "anything", "aws.ps:///x"));
    }

    #[test]
    fn globs_stay_in_their_segments() {
        let rules = [rule(&["shop"], &["aws.sm://prod/*/db", "aws.sm://app/**", "aws.ps:///team/${namespace}/**"])];
        for uri in ["aws.sm://prod/x/db", "aws.sm://app/a", "aws.sm://app/a/b/c", "aws.ps:///team/shop/a/b"] {
            assert!(allowed(&rules, "shop", uri), "{uri}");
        }
        for uri in [
            "aws.sm://prod/x/y/db",
            "aws.sm://prod/db",
            "aws.sm://app",
            "aws.sm://apple/a",
            "aws.ps:///team/other/a",
            "aws.ps:///team/shopping/a",
            "aws.ps:///app/a",
            "aws.sm://x/app/a",
        ] {
            assert!(!allowed(&rules, "shop", uri), "{uri}");
        }
    }

    #[test]
    fn an_arn_must_be_allowed_under_both_names_that_it_may_denote() {
        let arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-AbCdEf";
        assert!(!allowed(&[rule(&["shop"], &["aws.sm://prod/db"])], "shop", arn));
        assert!(!allowed(&[rule(&["shop"], &["aws.sm://prod/db-*"])], "shop", arn));
        assert!(allowed(&[rule(&["shop"], &["aws.sm://prod/db*"])], "shop", arn));
    }

    #[test]
    fn a_root_parameter_is_the_same_with_and_without_its_slash() {
        assert!(allowed(&[rule(&["shop"], &["aws.ps://token"])], "shop", "aws.ps:///token"));
        assert!(allowed(&[rule(&["shop"], &["aws.ps:///token"])], "shop", "aws.ps://token"));
    }

    #[test]
    fn an_organisation_has_to_be_named_or_starred() {
        let allows = |pattern: &str, uri: &str| allowed(&[rule(&["shop"], &[pattern])], "shop", uri);
        for scheme in ["roboto-secret", "envase"] {
            for (pattern, name, expected) in [
                ("**", "a/b", true),
                ("**", "a/b@org_1", false),
                ("a/**", "a/b@org_1", false),
                ("**@org_1", "a/b@org_1", true),
                ("**@org_1", "a/b@org_2", false),
                ("**@org_1", "a/b", false),
                ("a/*@*", "a/b@org_2", true),
                ("*@*", "a/b@org_2", false),
                ("${namespace}/*@org_1", "shop/x@org_1", true),
            ] {
                assert_eq!(allows(&format!("{scheme}://{pattern}"), &format!("{scheme}://{name}")), expected, "{scheme} {pattern} {name}");
            }
            assert!(allows("*", &format!("{scheme}://a@org_1")));
        }
        assert!(allows("vault://kv/**", "vault://kv/a@b") && allows("aws.sm://**", "aws.sm://a@b"), "elsewhere @ is a character like any other");
    }

    #[test]
    fn a_placeholder_in_a_part_of_a_segment_matches_nothing() {
        assert!(!allowed(&[rule(&["shop"], &["aws.sm://x-${namespace}"])], "shop", "aws.sm://x-shop"));
    }

    #[test]
    fn who_may_only_write_may_not_read() {
        let rules = [AllowRule { verbs: vec![Verb::Write], ..rule(&["shop"], &["*"]) }];
        assert!(!allowed(&rules, "shop", "aws.sm://a") && !allowed(&[AllowRule { verbs: vec![], ..rules[0].clone() }], "shop", "aws.sm://a"));
        let place = Place { name: "shop", labels: &std::collections::BTreeMap::new() };
        assert!(!may_read(&rules, place, "aws.sm://a") && !may_find(&rules, place, Store::SecretsManager, ""));
        assert!(readable_prefix(&rules, place, Store::SecretsManager).is_empty());
    }

    #[test]
    fn an_arn_from_abroad_needs_a_rule_that_names_reference_region_and_account() {
        let arn = |region: &str, account: &str| format!("arn:aws:ssm:{region}:{account}:parameter/prod/a");
        let (far, foreign) = ("eu-central-1", "210987654321");
        let plain = rule(&["shop"], &["aws.ps:///prod/*"]);
        let rules = |accounts: &[&str], regions: &[&str]| {
            let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
            [AllowRule { accounts: owned(accounts), regions: owned(regions), ..plain.clone() }]
        };
        let home = Some(HOME);
        assert_eq!(permitted(&rules(&[], &[]), "shop", &arn("eu-west-1", HOME), home), Ok(()));
        assert_eq!(permitted(&rules(&[], &[]), "shop", &arn(far, HOME), home), Err(Refusal::Region(far.into())));
        assert_eq!(permitted(&rules(&[], &[far]), "shop", &arn(far, HOME), home), Ok(()));
        assert_eq!(permitted(&rules(&[], &[]), "shop", &arn("eu-west-1", foreign), home), Err(Refusal::Account(foreign.into())));
        assert_eq!(permitted(&rules(&[foreign], &[]), "shop", &arn("eu-west-1", foreign), home), Ok(()));
        assert_eq!(permitted(&rules(&[foreign], &[]), "shop", &arn(far, foreign), home), Err(Refusal::Region(far.into())));
        // Two rules that each name one of both are not one that names both.
        let split = [rules(&[foreign], &[])[0].clone(), rules(&[], &[far])[0].clone()];
        assert_eq!(permitted(&split, "shop", &arn(far, foreign), home), Err(Refusal::Account(foreign.into())));
        // Somebody else's rule for an account does not help, whether or not it is known whose that account is.
        let others = [plain.clone(), AllowRule { accounts: vec![foreign.into()], ..rule(&["other"], &["*"]) }];
        for account in [home, None] {
            assert_eq!(permitted(&others, "shop", &arn("eu-west-1", foreign), account), Err(Refusal::Account(foreign.into())));
        }
        // As long as nobody names the account, the provider itself reads in its own alone.
        assert_eq!(permitted(&rules(&[], &[]), "shop", &arn("eu-west-1", foreign), None), Ok(()));
    }

    #[test]
    fn what_all_readable_names_begin_with_is_found() {
        let prefix = |references: &[&str], store| {
            readable_prefix(&[rule(&["shop"], references), rule(&["other"], &["*"])], Place { name: "shop", labels: &std::collections::BTreeMap::new() }, store)
        };
        assert_eq!(prefix(&["aws.sm://prod/shop/**", "aws.ps:///x/**"], Store::SecretsManager), "prod/shop/");
        assert_eq!(prefix(&["aws.sm://prod/shop/**", "aws.sm://prod/sh*"], Store::SecretsManager), "prod/sh");
        assert_eq!(prefix(&["aws.ps:///team/${namespace}/**"], Store::ParameterStore), "/team/shop/");
        assert_eq!(prefix(&["aws.sm://prod/shop/**", "*"], Store::SecretsManager), "");
        assert_eq!(prefix(&["aws.sm://a", "aws.sm://b"], Store::SecretsManager), "");
        assert_eq!(prefix(&["aws.sm://a"], Store::SecretsManager), "a");
    }

    #[test]
    fn only_what_may_be_read_somewhere_below_is_looked_for() {
        let place = Place { name: "shop", labels: &std::collections::BTreeMap::new() };
        let rules =
            [rule(&["shop"], &["aws.sm://prod/${namespace}/**", "aws.sm://one", "aws.ps:///team/${namespace}/*", "aws.ps://root"]), rule(&["other"], &["*"])];
        let find = |store, path| may_find(&rules, place, store, path);
        for path in ["", "prod/", "prod/shop/", "prod/sh", "prod/shop/a/b", "one", "o"] {
            assert!(find(Store::SecretsManager, path), "{path}");
        }
        for path in ["other/", "prod/shopping/", "prod/x", "one/", "one/a", "/prod/"] {
            assert!(!find(Store::SecretsManager, path), "{path}");
        }
        for path in ["", "/", "/team", "/team/", "/team/shop"] {
            assert!(find(Store::ParameterStore, path), "{path}");
        }
        for path in ["/other", "/team/other", "/team/shopping", "/root", "/roots"] {
            assert!(!find(Store::ParameterStore, path), "{path}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_without_stars_matches_only_itself(pattern in "[a-c/]{0,6}", text in "[a-c/]{0,6}") {
            prop_assert_eq!(glob(pattern.as_bytes(), text.as_bytes(), b""), pattern == text);
        }

        #[test]
        fn one_star_never_crosses_a_slash(prefix in "[a-c]{0,3}", text in "[a-c/]{0,8}") {
            let pattern = format!("{prefix}*");
            prop_assert_eq!(glob(pattern.as_bytes(), text.as_bytes(), b""), text.starts_with(&prefix) && !text.contains('/'));
        }

        #[test]
        fn two_stars_match_every_rest(prefix in "[a-c/]{0,3}", text in "[a-c/]{0,8}") {
            let pattern = format!("{prefix}**");
            prop_assert_eq!(glob(pattern.as_bytes(), text.as_bytes(), b""), text.starts_with(&prefix));
        }
    }
}
