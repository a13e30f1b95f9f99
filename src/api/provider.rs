//! The kind `ClusterRobotoProvider`: whose identity reads which store, who may use it, and for what.
//!
//! The doc comments below are what `kubectl explain clusterrobotoprovider.spec` prints. The check itself is here too: it is pure,
//! runs before any call leaves the cluster, and knows only names, never values.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::reference::{Source, Store, without_root};

/// Says whose identity reads which store, which namespaces may use it, and for which references.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "robotosecret.dev",
    version = "v1alpha1",
    kind = "ClusterRobotoProvider",
    plural = "clusterrobotoproviders",
    shortname = "crprov",
    category = "roboto",
    status = "ProviderStatus",
    derive = "PartialEq",
    doc = "Says whose identity reads which store, which namespaces may use it, and for which references.",
    printcolumn(name = "Region", type_ = "string", json_path = ".spec.aws.region"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRobotoProviderSpec {
    /// AWS: serves `aws.sm` (Secrets Manager) and `aws.ps` (Parameter Store).
    pub aws: AwsSpec,

    /// Who may use this provider, and for which references. Empty: nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub allow: Vec<AllowRule>,
}

/// How a provider stands, as the controller last saw it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ProviderStatus {
    /// `MassAbsence`: so many of its references vanished from the store that nothing is removed until a person confirms it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Condition of a provider: too much vanished from the store at once to be believed.
pub const MASS_ABSENCE: &str = "MassAbsence";
/// Annotation on a provider: absences that were first seen before this time (seconds since the epoch) are believed, however many.
pub const CONFIRM_ABSENCE_ANNOTATION: &str = "robotosecret.dev/confirm-absence";

/// Region, addresses and identity in AWS.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AwsSpec {
    /// The region that holds the secrets and parameters, such as `eu-west-1`.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z]{2}[a-z-]*-[0-9]+$')").message("a region such as eu-west-1"))]
    pub region: String,

    /// Other addresses than AWS's own, for private endpoints and emulators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Endpoints>,

    /// Whose identity calls AWS.
    pub identity: Identity,

    /// How many calls a second are made at most; fewer while AWS asks to slow down. Providers with the same identity, region and endpoints share one budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
}

impl AwsSpec {
    /// Whether both read the same place as the same identity: clients made for one serve the other.
    #[must_use]
    pub fn same_place(&self, other: &Self) -> bool {
        // Spelled out, so that a new field has to be sorted.
        let Self { region, endpoints, identity, limits: _ } = self;
        (region, endpoints, identity) == (&other.region, &other.endpoints, &other.identity)
    }
}

/// Calls a second, by what AWS limits together. Each is a start and a ceiling.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Reads of Parameter Store: `GetParameter`, `GetParameters` and each page of `GetParametersByPath` together. Default 35: AWS allows 40 an account and region, unless higher throughput was turned on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub ssm_reads: Option<i32>,
    /// Reads of several secrets at once, `BatchGetSecretValue`. Default 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub batch_get_secret_value: Option<i32>,
    /// Reads of single secrets, `GetSecretValue`. Default 500.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub get_secret_value: Option<i32>,
    /// Calls to the Security Token Service. Default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub sts: Option<i32>,
}

/// Addresses of the services; what is left out is AWS's own address for the region.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Endpoints {
    /// The address of Secrets Manager, such as `https://vpce-1.secretsmanager.eu-west-1.vpce.amazonaws.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^/?#@]+/?$')").message("an address such as https://host or https://host:port, without path and credentials"))]
    pub secrets_manager: Option<String>,
    /// The address of Systems Manager, which serves Parameter Store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^/?#@]+/?$')").message("an address such as https://host or https://host:port, without path and credentials"))]
    pub ssm: Option<String>,
    /// The address of the Security Token Service, which tells the account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^/?#@]+/?$')").message("an address such as https://host or https://host:port, without path and credentials"))]
    pub sts: Option<String>,
}

/// Whose identity calls AWS: exactly one of its fields.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct Identity {
    /// The controller's own identity: its environment, IRSA role, pod identity or node role. Written `ambient: {}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ambient: Option<Ambient>,
}

/// The controller's own identity has no settings.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Ambient {}

/// One permission: these namespaces, for these references.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AllowRule {
    /// The namespaces whose resources may use the provider.
    pub namespaces: Namespaces,

    /// The references they may read: `aws.sm://prod/shop/**`, `aws.ps:///prod/${namespace}/**`. `*` stands for anything within a segment, `**` for anything across segments, `${namespace}` fills a whole segment; `"*"` alone is everything. Empty: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)))]
    #[x_kube(
        validation = Rule::new("self.all(r, r == '*' || r.startsWith('aws.sm://') || r.startsWith('aws.ps://'))").message("a pattern starts with aws.sm:// or aws.ps://, or is \"*\" alone"),
        validation = Rule::new("self.all(r, !(r.replace('/${namespace}/', '/') + '/').replace('/${namespace}/', '/').contains('$'))").message("${namespace} fills a whole segment, as in aws.ps:///prod/${namespace}/**")
    )]
    pub references: Vec<String>,
}

/// Namespaces: exactly one of its fields.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct Namespaces {
    /// Namespaces by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 63)))]
    pub names: Option<Vec<String>>,
    /// `true`: every namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self").message("write all: true, or name the namespaces"))]
    pub all: Option<bool>,
}

impl Namespaces {
    fn contain(&self, namespace: &str) -> bool {
        self.all == Some(true) || self.names.iter().flatten().any(|name| name == namespace)
    }
}

/// Whether a rule lets the namespace read the source, under every name that the source may denote.
#[must_use]
pub fn allows(rules: &[AllowRule], namespace: &str, source: &Source) -> bool {
    source.denotes().iter().all(|reference| allows_reference(rules, namespace, reference))
}

/// Whether a rule lets the namespace read this plain reference (`aws.sm://name`).
#[must_use]
pub fn allows_reference(rules: &[AllowRule], namespace: &str, reference: &str) -> bool {
    rules
        .iter()
        .filter(|rule| rule.namespaces.contain(namespace))
        .any(|rule| rule.references.iter().any(|pattern| pattern_matches(pattern, namespace, reference)))
}

/// Whether a rule lets the namespace read anything at all in this store.
#[must_use]
pub fn allows_something(rules: &[AllowRule], namespace: &str, store: Store) -> bool {
    let in_store = |pattern: &String| pattern == "*" || pattern.starts_with(&format!("{store}://"));
    rules.iter().any(|rule| rule.namespaces.contain(namespace) && rule.references.iter().any(in_store))
}

fn pattern_matches(pattern: &str, namespace: &str, reference: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    let filled: Vec<&str> = pattern.split('/').map(|segment| if segment == "${namespace}" { namespace } else { segment }).collect();
    if filled.iter().any(|segment| segment.contains('$')) {
        return false;
    }
    glob(without_root(&filled.join("/")).as_bytes(), without_root(reference).as_bytes())
}

/// `*` is any run of bytes but `/`, `**` any run at all; everything else stands for itself.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
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
                next[j] = reached[j] || (j > 0 && next[j - 1] && (across || text[j - 1] != b'/'));
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
            namespaces: Namespaces { names: Some(namespaces.iter().map(|&n| n.to_owned()).collect()), all: None },
            references: references.iter().map(|&r| r.to_owned()).collect(),
        }
    }

    fn allowed(rules: &[AllowRule], namespace: &str, uri: &str) -> bool {
        let reference: crate::api::reference::Reference = uri.parse().expect("a reference");
        allows(rules, namespace, &reference.source)
    }

    #[test]
    fn nothing_written_allows_nothing() {
        assert!(!allowed(&[], "shop", "aws.sm://prod/db"));
        assert!(!allowed(&[rule(&["shop"], &[])], "shop", "aws.sm://prod/db"));
        assert!(!allowed(&[rule(&[], &["*"])], "shop", "aws.sm://prod/db"));
    }

    #[test]
    fn namespaces_are_named_or_all() {
        assert!(allowed(&[rule(&["shop"], &["*"])], "shop", "aws.sm://prod/db"));
        assert!(!allowed(&[rule(&["shop"], &["*"])], "shopping", "aws.sm://prod/db"));
        let all = AllowRule { namespaces: Namespaces { names: None, all: Some(true) }, references: vec!["*".into()] };
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
    fn a_placeholder_in_a_part_of_a_segment_matches_nothing() {
        assert!(!allowed(&[rule(&["shop"], &["aws.sm://x-${namespace}"])], "shop", "aws.sm://x-shop"));
    }

    #[test]
    fn other_limits_are_no_other_place() {
        let spec = |json| serde_json::from_value::<AwsSpec>(json).expect("a spec");
        let plain = spec(serde_json::json!({"region": "eu-west-1", "identity": {"ambient": {}}}));
        let limited = spec(serde_json::json!({"region": "eu-west-1", "identity": {"ambient": {}}, "limits": {"ssmReads": 900}}));
        assert_eq!(limited.limits, Some(Limits { ssm_reads: Some(900), ..Limits::default() }));
        assert!(plain.same_place(&limited) && plain != limited);
        assert!(!plain.same_place(&AwsSpec { region: "eu-west-2".into(), ..plain.clone() }));
        assert!(!plain.same_place(&AwsSpec { endpoints: Some(Endpoints::default()), ..plain.clone() }));
        assert!(!plain.same_place(&AwsSpec { identity: Identity::default(), ..plain.clone() }));
    }

    proptest! {
        #[test]
        fn a_pattern_without_stars_matches_only_itself(pattern in "[a-c/]{0,6}", text in "[a-c/]{0,6}") {
            prop_assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), pattern == text);
        }

        #[test]
        fn one_star_never_crosses_a_slash(prefix in "[a-c]{0,3}", text in "[a-c/]{0,8}") {
            let pattern = format!("{prefix}*");
            prop_assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), text.starts_with(&prefix) && !text.contains('/'));
        }

        #[test]
        fn two_stars_match_every_rest(prefix in "[a-c/]{0,3}", text in "[a-c/]{0,8}") {
            let pattern = format!("{prefix}**");
            prop_assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), text.starts_with(&prefix));
        }
    }
}
