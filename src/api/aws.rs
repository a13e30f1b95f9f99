//! Where in AWS, and as whom: region, addresses, identity and limits of a provider.
//!
//! The doc comments below are what `kubectl explain clusterrobotoprovider.spec.aws` prints. Pure types; what they hold is named, never a secret.

#![allow(clippy::doc_markdown)] // `kubectl explain` prints them, where backticks are noise.

use std::collections::BTreeMap;

use kube::{KubeSchema, core::Rule};
use serde::{Deserialize, Serialize};

/// What a token is for if a provider doesn't say: AWS's Security Token Service.
pub const DEFAULT_AUDIENCE: &str = "sts.amazonaws.com";
/// In an address: the region that is asked.
pub const REGION_PLACE: &str = "{region}";

/// What a session name or tag may name of whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// `${namespace}`: the resource's namespace.
    Namespace,
    /// `${resource}`: the resource's name.
    Resource,
    /// `${provider}`: the provider's name.
    Provider,
}

impl Placeholder {
    /// How it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "${namespace}",
            Self::Resource => "${resource}",
            Self::Provider => "${provider}",
        }
    }
}

fn region_rule() -> Rule {
    Rule::new("self.matches('^[a-z]{2}[a-z-]*-[0-9]+$')").message("a region such as eu-west-1")
}

fn regions_rule() -> Rule {
    Rule::new("self.all(r, r.matches('^[a-z]{2}[a-z-]*-[0-9]+$'))").message("regions such as eu-west-1")
}

fn endpoint_rule() -> Rule {
    Rule::new("self.matches('^https?://[^/?#@]+/?$')").message("an address such as https://host or https://host:port, without path and credentials")
}

fn role_rule() -> Rule {
    Rule::new("self.matches('^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$')").message("a role such as arn:aws:iam::111122223333:role/shop-reader")
}

/// Region, addresses and identity in AWS.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AwsSpec {
    /// The region that holds the secrets and parameters, such as `eu-west-1`.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = region_rule())]
    pub region: String,

    /// Regions with replicas, asked in order for single values while the first is unavailable; never because something is missing there or denied. What such a region has older than what is mirrored is not mirrored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 64)))]
    #[x_kube(validation = regions_rule())]
    pub failover_regions: Vec<String>,

    /// Other addresses than AWS's own, for private endpoints and emulators. `{region}` in one stands for the region that is asked; without it one address serves all regions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Endpoints>,

    /// Whose identity calls AWS.
    pub identity: Identity,

    /// Roles that are assumed one after the other, starting from `identity`; the last one reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub assume_roles: Vec<AssumeRole>,

    /// How many calls a second are made at most; fewer while AWS asks to slow down. Providers that read in the same account, region and at the same endpoints share one budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
}

impl AwsSpec {
    /// Whether both read the same place as the same identity: clients made for one serve the other.
    #[must_use]
    pub fn same_place(&self, other: &Self) -> bool {
        // Spelled out, so that a new field has to be sorted.
        let Self { region, failover_regions, endpoints, identity, assume_roles, limits: _ } = self;
        (region, failover_regions, endpoints, identity, assume_roles)
            == (&other.region, &other.failover_regions, &other.endpoints, &other.identity, &other.assume_roles)
    }

    /// Whether what it does depends on this about the resource that asks.
    #[must_use]
    pub fn names(&self, placeholder: Placeholder) -> bool {
        let texts = self.assume_roles.iter().flat_map(|role| role.tags.values().chain(&role.session_name));
        texts.into_iter().any(|text| text.contains(placeholder.as_str()))
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
    /// Secrets that a RobotoPush writes, each of which takes up to three calls. Default 15: AWS allows 50 calls an account and region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub secrets_manager_writes: Option<i32>,
    /// Parameters that a RobotoPush writes, `PutParameter`. Default 3: what AWS allows an account and region, unless higher throughput was turned on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub ssm_writes: Option<i32>,
    /// Calls to the Security Token Service. Default 100: AWS allows 600 an account and region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub sts: Option<i32>,
}

/// Addresses of the services; what is left out is AWS's own address for the region. Those of a RobotoProvider must be among the controller's `--allowed-endpoints`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Endpoints {
    /// The address of Secrets Manager, such as `https://vpce-1.secretsmanager.eu-west-1.vpce.amazonaws.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = endpoint_rule())]
    pub secrets_manager: Option<String>,
    /// The address of Systems Manager, which serves Parameter Store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = endpoint_rule())]
    pub ssm: Option<String>,
    /// The address of the Security Token Service, which tells the account and gives credentials. A ServiceAccount's token is sent only to AWS's own address or to one of the controller's `--allowed-endpoints`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = endpoint_rule())]
    pub sts: Option<String>,
    /// The address of Lambda, for stores that are behind a function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    #[x_kube(validation = endpoint_rule())]
    pub lambda: Option<String>,
}

impl Endpoints {
    /// All addresses that are written, each with its field.
    pub fn written(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let Self { secrets_manager, ssm, sts, lambda } = self;
        [("secretsManager", secrets_manager), ("ssm", ssm), ("sts", sts), ("lambda", lambda)]
            .into_iter()
            .filter_map(|(field, url)| Some((field, url.as_deref()?)))
    }
}

/// Whose identity calls AWS: exactly one of its fields.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct Identity {
    /// The controller's own identity: its environment, IRSA role, pod identity or node role. Written `ambient: {}`. A RobotoProvider may use it only if the controller runs with `--allow-ambient-providers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ambient: Option<Ambient>,
    /// A ServiceAccount whose token AWS takes for a role (IRSA), of the RobotoProvider's own namespace. For a ClusterRobotoProvider it is the one of this name in the namespace of each resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ServiceAccountIdentity>,
    /// An access key in a Secret of the RobotoProvider's own namespace. For a ClusterRobotoProvider it is a Secret of the namespace in which the controller runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key: Option<AccessKeyIdentity>,
}

/// The controller's own identity has no settings.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Ambient {}

/// A ServiceAccount and the role that AWS gives for its token.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountIdentity {
    /// The ServiceAccount's name. It opts in with the annotation `robotosecret.dev/allow-token: <provider>`, or with `eks.amazonaws.com/role-arn` for the role that stands there.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')").message("the name of a ServiceAccount, without namespace"))]
    pub name: String,
    /// Whom the token is for; default `sts.amazonaws.com`. Each must be among the controller's `--token-audiences`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 253)))]
    pub audiences: Vec<String>,
    /// The role that AWS gives for the token. Left out: the one in the ServiceAccount's annotation `eks.amazonaws.com/role-arn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    #[x_kube(validation = role_rule())]
    pub role_arn: Option<String>,
}

/// An access key in a Secret.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AccessKeyIdentity {
    /// The Secret, and which of its keys hold what. It is watched: a changed access key is used at once.
    pub secret_ref: AccessKeySecret,
}

/// A Secret with an access key.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AccessKeySecret {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')").message("the name of a Secret, without namespace"))]
    pub name: String,
    /// The key of the Secret that holds the access key id. Default `accessKeyId`.
    #[serde(default = "default_access_key_id")]
    #[schemars(length(min = 1, max = 253))]
    pub access_key_id: String,
    /// The key of the Secret that holds the secret access key. Default `secretAccessKey`.
    #[serde(default = "default_secret_access_key")]
    #[schemars(length(min = 1, max = 253))]
    pub secret_access_key: String,
    /// The key of the Secret that holds the session token, for temporary credentials. Left out: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub session_token: Option<String>,
}

fn default_access_key_id() -> String {
    "accessKeyId".to_owned()
}

fn default_secret_access_key() -> String {
    "secretAccessKey".to_owned()
}

/// What a tag's value may be, as a pattern: a rule for each would cost the API server more than it grants.
fn tag_value() -> serde_json::Value {
    serde_json::json!({"type": "string", "maxLength": 256, "pattern": "^([^$]|\\$\\{(namespace|resource|provider)\\})*$"})
}

/// A role that is assumed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AssumeRole {
    /// The role.
    #[schemars(length(max = 2048))]
    #[x_kube(validation = role_rule())]
    pub arn: String,
    /// The external id that the role's trust policy asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 1224))]
    pub external_id: Option<String>,
    /// The name of the session, which CloudTrail shows; default `robotosecret`. `${namespace}`, `${resource}` and `${provider}` stand for the names of who asks; what AWS doesn't take is cut off after 64 characters. With `${resource}` every RobotoSecret is a session of its own and shares no call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 64))]
    #[x_kube(validation = Rule::new("self.replace('${namespace}', '').replace('${resource}', '').replace('${provider}', '').matches('^[A-Za-z0-9_+=,.@-]*$')").message("letters, digits and _+=,.@- besides ${namespace}, ${resource} and ${provider}"))]
    pub session_name: Option<String>,
    /// Tags of the session, for policies on `aws:PrincipalTag`. In their values `${namespace}`, `${resource}` and `${provider}` stand for the names of who asks. They need sts:TagSession in the role's trust policy.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 50, "additionalProperties" = tag_value()))]
    #[x_kube(validation = Rule::new("self.all(k, size(k) <= 128)").message("the name of a tag has at most 128 characters"))]
    pub tags: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(yaml: &str) -> AwsSpec {
        serde_yaml::from_str(&format!("{{region: eu-west-1, identity: {{ambient: {{}}}}, {yaml}}}")).expect("a spec")
    }

    #[test]
    fn other_limits_are_no_other_place() {
        let (plain, limited) = (spec(""), spec("limits: {ssmReads: 900}"));
        assert_eq!(limited.limits, Some(Limits { ssm_reads: Some(900), ..Limits::default() }));
        assert!(plain.same_place(&limited) && plain != limited);
        for other in ["failoverRegions: [eu-west-2]", "endpoints: {}", "assumeRoles: [{arn: a}]"] {
            assert!(!plain.same_place(&spec(other)), "{other}");
        }
        assert!(!plain.same_place(&AwsSpec { region: "eu-west-2".into(), ..plain.clone() }));
    }

    #[test]
    fn what_depends_on_who_asks_shows() {
        let named = spec("assumeRoles: [{arn: a, sessionName: 'x-${provider}', tags: {ns: '${namespace}'}}]");
        assert_eq!([Placeholder::Namespace, Placeholder::Resource, Placeholder::Provider].map(|what| named.names(what)), [true, false, true]);
        assert!(![Placeholder::Namespace, Placeholder::Resource, Placeholder::Provider].iter().any(|what| spec("").names(*what)));
    }
}
