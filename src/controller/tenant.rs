//! Whose ServiceAccount or access key a provider may use, and the only way to either.
//!
//! A provider, who asks and the controller's terms enter; a [`Tenant`] leaves, the proof that a namespace was not chosen by whoever wrote the
//! spec: a `RobotoProvider`'s own, the asking resource's, or the controller's. Only a tenant reads a Secret's data or mints a token, and nobody
//! else can make one. Tokens and keys go to the provider's credentials and nowhere else; no message holds a part of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::{Secret, ServiceAccount},
};
use kube::{Api, Client, ResourceExt, api::PostParams, core::PartialObjectMeta};

use crate::{
    api::{
        ALLOW_TOKEN_ANNOTATION, Reason,
        aws::{AccessKeySecret, AwsSpec, DEFAULT_AUDIENCE, ServiceAccountIdentity},
        http::{SecretKey, origin},
        provider::{Backend, ProviderId},
        vault::{self, VaultKubernetes, VaultSpec},
    },
    provider::{
        ReadError,
        grants::{Grant, Grants},
    },
    sensitive::Sensitive,
};

/// How long a token is good for: the shortest that Kubernetes gives. It is used at once.
const TOKEN_LIFE: i64 = 600;
/// The annotation by which EKS names the role of a ServiceAccount.
const EKS_ROLE_ANNOTATION: &str = "eks.amazonaws.com/role-arn";

/// What the controller lets providers do, whoever writes them.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Whether a `RobotoProvider` may use the controller's own identity.
    pub allow_ambient: bool,
    /// Whom tokens may be minted for.
    pub token_audiences: BTreeSet<String>,
    /// Addresses that tokens, and whatever a `RobotoProvider` sends, may go to besides AWS's own; without a slash at the end.
    pub allowed_endpoints: BTreeSet<String>,
    /// The namespace in which the controller runs, if it is known.
    pub home: Option<String>,
}

impl Terms {
    /// Why a provider is not served at all; `None`: it is.
    #[must_use]
    pub fn refuse(&self, id: &ProviderId, backend: &Backend) -> Option<String> {
        let web = match backend {
            Backend::Roboto(roboto) => roboto.written(),
            Backend::Envase(envase) => envase.written(),
            Backend::Aws(_) | Backend::Vault(_) | Backend::Edge(_) => Vec::new(),
        };
        let aws = backend.aws().and_then(|aws| self.refuse_aws(id, aws));
        aws.or_else(|| backend.vault().and_then(|vault| self.refuse_vault(id, vault))).or_else(|| self.refuse_written(id, web.into_iter()))
    }

    /// Addresses that a `RobotoProvider` writes have to be listed.
    fn refuse_written<'a>(&self, id: &ProviderId, mut written: impl Iterator<Item = (&'a str, &'a str)>) -> Option<String> {
        id.namespace.as_ref()?;
        let (field, url) = written.find(|(_, url)| !self.allowed_endpoints.contains(origin(url)))?;
        let origin = origin(url);
        Some(format!(
            "the {id} may not send to {url} ({field}); leave it out for the store's own address, or add {origin} to the controller's --allowed-endpoints"
        ))
    }

    /// Whom the tokens for Vault are for.
    #[must_use]
    pub fn vault_audiences(kubernetes: &VaultKubernetes) -> Vec<String> {
        if kubernetes.audiences.is_empty() { vec![vault::DEFAULT_AUDIENCE.to_owned()] } else { kubernetes.audiences.clone() }
    }

    fn refuse_vault(&self, id: &ProviderId, vault: &VaultSpec) -> Option<String> {
        // There is no address of Vault's own: whoever gets a token or a secret id, or is asked by a provider of a namespace, has to be listed.
        let is_closed = id.namespace.is_some() || vault.auth.kubernetes.is_some();
        if is_closed && !self.allowed_endpoints.contains(vault.address.trim_end_matches('/')) {
            return Some(format!("the {id} may not send to {} (address); add it to the controller's --allowed-endpoints", vault.address));
        }
        let audiences = vault.auth.kubernetes.iter().flat_map(Self::vault_audiences);
        self.refuse_audiences(id, audiences)
    }

    fn refuse_audiences(&self, id: &ProviderId, mut audiences: impl Iterator<Item = String>) -> Option<String> {
        let foreign = audiences.find(|audience| !self.token_audiences.contains(audience))?;
        Some(format!("the {id} may not have tokens for the audience {foreign}; add it to the controller's --token-audiences"))
    }

    fn refuse_aws(&self, id: &ProviderId, aws: &AwsSpec) -> Option<String> {
        let identity = &aws.identity;
        let is_own = id.namespace.is_some();
        if is_own && identity.ambient.is_some() && !self.allow_ambient {
            let problem =
                "may not use the controller's own identity; give it a serviceAccount or an accessKey, or start the controller with --allow-ambient-providers";
            return Some(format!("the {id} {problem}"));
        }
        let written = aws.endpoints.iter().flat_map(super::super::api::aws::Endpoints::written);
        let sends_token = |field: &str| identity.service_account.is_some() && field == "sts";
        let mut closed = written.filter(|(field, url)| (is_own || sends_token(field)) && !self.allowed_endpoints.contains(url.trim_end_matches('/')));
        if let Some((field, url)) = closed.next() {
            return Some(format!(
                "the {id} may not send to {url} (endpoints.{field}); leave it out for AWS's own address, or add it to the controller's --allowed-endpoints"
            ));
        }
        self.refuse_audiences(id, identity.service_account.iter().flat_map(audiences))
    }
}

fn audiences(account: &ServiceAccountIdentity) -> Vec<String> {
    if account.audiences.is_empty() { vec![DEFAULT_AUDIENCE.to_owned()] } else { account.audiences.clone() }
}

/// A namespace whose `ServiceAccounts` or Secrets a provider may use for one who asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tenant {
    namespace: String,
    provider: ProviderId,
}

impl Tenant {
    /// Whose ServiceAccount: of a `RobotoProvider` its own namespace's, which must be that of who asks; of a ClusterRobotoProvider that of who asks.
    pub fn of_account(provider: &ProviderId, asking: &str) -> Result<Self, ReadError> {
        let namespace = provider.namespace.clone().unwrap_or_else(|| asking.to_owned());
        Self::proven(provider, namespace, asking)
    }

    /// Whose Secret: of a `RobotoProvider` its own namespace's, which must be that of who asks; of a ClusterRobotoProvider the controller's.
    pub fn of_key(provider: &ProviderId, asking: &str, terms: &Terms) -> Result<Self, ReadError> {
        let Some(namespace) = provider.namespace.clone().or_else(|| terms.home.clone()) else {
            let problem = "reads a Secret of the namespace in which the controller runs, and that is not known; set POD_NAMESPACE";
            return Err(ReadError::new(Reason::CredentialsError, format!("the {provider} {problem}")));
        };
        Self::proven(provider, namespace, asking)
    }

    fn proven(provider: &ProviderId, namespace: String, asking: &str) -> Result<Self, ReadError> {
        if provider.namespace.as_deref().is_some_and(|own| own != asking) {
            return Err(ReadError::new(Reason::NotAllowed, format!("the {provider} serves its own namespace alone")));
        }
        Ok(Self { namespace, provider: provider.clone() })
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// A token of a ServiceAccount that opted in, and the role that it is for.
    async fn role_token(&self, client: &Client, account: &ServiceAccountIdentity) -> Result<Grant, ReadError> {
        let role_of = |annotations: &BTreeMap<String, String>| role_of(annotations, &self.provider, account);
        let (token, role_arn) = self.token(client, &account.name, audiences(account), role_of).await?;
        Ok(Grant::WebIdentity { token, role_arn })
    }

    /// A token of a ServiceAccount that opted in.
    async fn plain_token(&self, client: &Client, account: &str, audiences: Vec<String>) -> Result<Grant, ReadError> {
        let opted_in = |annotations: &BTreeMap<String, String>| {
            let problem = || format!("does not opt in; annotate it {ALLOW_TOKEN_ANNOTATION}={}", self.provider.name);
            opts_in(annotations, &self.provider).then_some(()).ok_or_else(problem)
        };
        self.token(client, account, audiences, opted_in).await.map(|(token, ())| Grant::Secret(token))
    }

    /// A token for these audiences, if the ServiceAccount's annotations let it be made.
    async fn token<T>(
        &self,
        client: &Client,
        account: &str,
        wanted: Vec<String>,
        permit: impl FnOnce(&BTreeMap<String, String>) -> Result<T, String>,
    ) -> Result<(Sensitive, T), ReadError> {
        let place = format!("the ServiceAccount {account} of the namespace {}", self.namespace);
        let refused = |problem: &str| ReadError::new(Reason::CredentialsError, format!("{place} {problem}"));
        let found = Api::<PartialObjectMeta<ServiceAccount>>::namespaced(client.clone(), &self.namespace).get(account).await;
        let found = found.map_err(|error| trouble(&place, "get on serviceaccounts and create on serviceaccounts/token", &error))?;
        let permitted = permit(found.annotations()).map_err(|problem| refused(&problem))?;
        let request = TokenRequest {
            spec: TokenRequestSpec { audiences: wanted.clone(), expiration_seconds: Some(TOKEN_LIFE), ..TokenRequestSpec::default() },
            ..TokenRequest::default()
        };
        let api = Api::<ServiceAccount>::namespaced(client.clone(), &self.namespace);
        let minted = api.create_token_request(account, &PostParams::default(), &request).await;
        let minted = minted.map_err(|error| trouble(&place, "create on serviceaccounts/token", &error))?;
        let token = minted.status.map(|status| Sensitive::from(status.token)).ok_or_else(|| refused("got no token"))?;
        match Claims::of(&token) {
            Some(claims) if claims.audiences.iter().all(|audience| wanted.contains(audience)) && !claims.audiences.contains(&claims.issuer) => {
                Ok((token, permitted))
            }
            // Whoever gets hold of one that the API server takes for its own could use the cluster with it.
            _ => Err(refused("got a token that is not only for the audiences that were asked for; it was thrown away")),
        }
    }

    /// An access key of a Secret, and the Secret's version.
    async fn access_key(&self, client: &Client, secret: &AccessKeySecret) -> Result<(Grant, Option<String>), ReadError> {
        let keys = [Some(&secret.access_key_id), Some(&secret.secret_access_key), secret.session_token.as_ref()];
        let keys: Vec<&str> = keys.into_iter().flatten().map(String::as_str).collect();
        let (values, version) = self.values(client, &secret.name, &keys).await?;
        let mut values = values.into_iter();
        let (Some(id), Some(secret), session_token) = (values.next(), values.next(), values.next()) else {
            return Err(ReadError::new(Reason::InternalError, "a defect of the controller: an access key without its parts"));
        };
        let id = String::from_utf8(id.expose().to_vec()).unwrap_or_default();
        Ok((Grant::AccessKey { id, secret, session_token }, version))
    }

    /// The values of keys of a Secret, without the white space around them, and the Secret's version.
    async fn values(&self, client: &Client, name: &str, keys: &[&str]) -> Result<(Vec<Sensitive>, Option<String>), ReadError> {
        let place = format!("the Secret {name} of the namespace {}", self.namespace);
        let found = Api::<Secret>::namespaced(client.clone(), &self.namespace).get(name).await;
        let mut found = found.map_err(|error| trouble(&place, "get, list and watch on this Secret", &error))?;
        let version = found.resource_version();
        // What else is in it is nobody's business here, and wiped with the rest.
        let data: BTreeMap<String, Sensitive> = found.data.take().unwrap_or_default().into_iter().map(|(key, value)| (key, Sensitive::new(value.0))).collect();
        let value = |key: &&str| {
            let value = data.get(*key).map(|value| Sensitive::new(value.expose().trim_ascii().to_vec())).filter(|value| !value.is_empty());
            value.ok_or_else(|| ReadError::new(Reason::CredentialsError, format!("{place} has no key {key}, or nothing in it")))
        };
        Ok((keys.iter().map(value).collect::<Result<_, _>>()?, version))
    }
}

/// Whether a ServiceAccount lets a provider have its tokens.
fn opts_in(annotations: &BTreeMap<String, String>, provider: &ProviderId) -> bool {
    annotations.get(ALLOW_TOKEN_ANNOTATION).is_some_and(|names| names.split(',').any(|name| name.trim() == provider.name))
}

/// The role that a ServiceAccount's token may be used for by a provider; or why it may not.
fn role_of(annotations: &BTreeMap<String, String>, provider: &ProviderId, account: &ServiceAccountIdentity) -> Result<String, String> {
    let eks = annotations.get(EKS_ROLE_ANNOTATION).map(|role| role.trim()).filter(|role| !role.is_empty());
    let allowed = opts_in(annotations, provider);
    match (account.role_arn.as_deref(), eks) {
        (Some(role), _) if allowed => Ok(role.to_owned()),
        (Some(role), Some(eks)) if role == eks => Ok(role.to_owned()),
        (None, Some(eks)) => Ok(eks.to_owned()),
        (None, None) if allowed => Err(format!("says no role; write roleArn in the provider, or annotate it {EKS_ROLE_ANNOTATION}=<role>")),
        (Some(_), Some(_)) => Err(format!("opts in for another role alone; annotate it {ALLOW_TOKEN_ANNOTATION}={}", provider.name)),
        (_, None) => Err(format!("does not opt in; annotate it {ALLOW_TOKEN_ANNOTATION}={}", provider.name)),
    }
}

/// What a token says about itself, as far as that is looked at.
#[derive(Debug, PartialEq, Eq)]
struct Claims {
    issuer: String,
    audiences: Vec<String>,
}

impl Claims {
    /// Whoever made the token is believed: it came from the API server just now.
    fn of(token: &Sensitive) -> Option<Self> {
        let payload = token.expose().split(|byte| *byte == b'.').nth(1)?;
        let payload = Sensitive::new(URL_SAFE_NO_PAD.decode(payload).ok()?);
        let claims: serde_json::Value = serde_json::from_slice(payload.expose()).ok()?;
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        let audiences = match &claims["aud"] {
            serde_json::Value::Array(all) => all.iter().map(text).collect::<Option<Vec<_>>>()?,
            one => vec![text(one)?],
        };
        Some(Self { issuer: text(&claims["iss"])?, audiences }).filter(|claims| !claims.audiences.is_empty())
    }
}

/// The audiences of a token: those that the API server takes for its own, if the token is the controller's.
#[must_use]
pub fn audiences_of(token: &Sensitive) -> BTreeSet<String> {
    Claims::of(token).map(|claims| claims.audiences.into_iter().chain([claims.issuer]).collect()).unwrap_or_default()
}

/// Why the API server did not give something.
fn trouble(place: &str, rights: &str, error: &kube::Error) -> ReadError {
    let (reason, problem) = match error {
        kube::Error::Api(status) if status.code == 404 => (Reason::CredentialsError, "does not exist".to_owned()),
        kube::Error::Api(status) if matches!(status.code, 401 | 403) => {
            (Reason::CredentialsError, format!("may not be used by the controller; grant its ServiceAccount {rights} (chart: values `identities`)"))
        }
        kube::Error::Api(status) => (Reason::KubernetesError, format!("could not be read: the API server failed with HTTP {}", status.code)),
        _ => (Reason::KubernetesError, "could not be read: the API server could not be reached".to_owned()),
    };
    ReadError::new(reason, format!("{place} {problem}"))
}

/// Tokens of a ServiceAccount.
pub struct TokenGrants {
    /// The API server.
    pub client: Client,
    /// Whose it is.
    pub tenant: Tenant,
    /// Which one, for whom and for what role.
    pub account: ServiceAccountIdentity,
}

impl Grants for TokenGrants {
    fn grant(&self) -> BoxFuture<'_, Result<Grant, ReadError>> {
        self.tenant.role_token(&self.client, &self.account).boxed()
    }
}

/// Tokens of a ServiceAccount that the store itself knows.
pub struct IdentityGrants {
    /// The API server.
    pub client: Client,
    /// Whose it is.
    pub tenant: Tenant,
    /// Which one.
    pub account: String,
    /// For whom.
    pub audiences: Vec<String>,
}

impl Grants for IdentityGrants {
    fn grant(&self) -> BoxFuture<'_, Result<Grant, ReadError>> {
        self.tenant.plain_token(&self.client, &self.account, self.audiences.clone()).boxed()
    }
}

/// One value of a Secret.
pub struct SecretGrants {
    /// The API server.
    pub client: Client,
    /// Whose it is.
    pub tenant: Tenant,
    /// The Secret and its key.
    pub secret: SecretKey,
    /// Where the Secret's version is told.
    pub used: UsedVersion,
}

impl Grants for SecretGrants {
    fn grant(&self) -> BoxFuture<'_, Result<Grant, ReadError>> {
        async {
            let (mut values, version) = self.tenant.values(&self.client, &self.secret.name, &[&self.secret.key]).await?;
            *self.used.lock().unwrap_or_else(PoisonError::into_inner) = version;
            let defect = || ReadError::new(Reason::InternalError, "a defect of the controller: a Secret without the value that was asked for");
            values.pop().map(Grant::Secret).ok_or_else(defect)
        }
        .boxed()
    }
}

/// The version of a Secret that an access key was last read from.
pub type UsedVersion = Arc<Mutex<Option<String>>>;

/// The access key of a Secret.
pub struct KeyGrants {
    /// The API server.
    pub client: Client,
    /// Whose it is.
    pub tenant: Tenant,
    /// The Secret.
    pub secret: AccessKeySecret,
    /// Where the Secret's version is told.
    pub used: UsedVersion,
}

impl Grants for KeyGrants {
    fn grant(&self) -> BoxFuture<'_, Result<Grant, ReadError>> {
        async {
            let (grant, version) = self.tenant.access_key(&self.client, &self.secret).await?;
            *self.used.lock().unwrap_or_else(PoisonError::into_inner) = version;
            Ok(grant)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> ProviderId {
        ProviderId { namespace: None, name: "aws".into() }
    }

    fn own() -> ProviderId {
        ProviderId { namespace: Some("shop".into()), name: "aws".into() }
    }

    fn aws(yaml: &str) -> AwsSpec {
        serde_yaml::from_str(&format!("{{region: eu-west-1, {yaml}}}")).expect("a spec")
    }

    fn terms() -> Terms {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        Terms {
            token_audiences: owned(&["sts.amazonaws.com", "other"]),
            allowed_endpoints: owned(&["https://vpce"]),
            home: Some("system".into()),
            ..Terms::default()
        }
    }

    #[test]
    fn a_tenant_is_the_providers_namespace_or_that_of_who_asks_and_no_other() {
        let namespace = |tenant: Result<Tenant, ReadError>| tenant.map(|tenant| tenant.namespace).map_err(|error| error.reason);
        assert_eq!(namespace(Tenant::of_account(&own(), "shop")), Ok("shop".into()));
        assert_eq!(namespace(Tenant::of_account(&cluster(), "web")), Ok("web".into()));
        assert_eq!(namespace(Tenant::of_key(&own(), "shop", &terms())), Ok("shop".into()));
        assert_eq!(namespace(Tenant::of_key(&cluster(), "web", &terms())), Ok("system".into()));
        for asking in ["web", "shopping", "sho", ""] {
            assert_eq!(namespace(Tenant::of_account(&own(), asking)), Err(Reason::NotAllowed));
            assert_eq!(namespace(Tenant::of_key(&own(), asking, &terms())), Err(Reason::NotAllowed));
        }
        assert_eq!(namespace(Tenant::of_key(&cluster(), "web", &Terms::default())), Err(Reason::CredentialsError));
    }

    #[test]
    fn what_the_controller_does_not_allow_is_refused_with_the_name_of_the_flag() {
        let account = "identity: {serviceAccount: {name: reader}}";
        for (id, spec, flag) in [
            (own(), "identity: {ambient: {}}", Some("--allow-ambient-providers")),
            (cluster(), "identity: {ambient: {}}", None),
            (own(), account, None),
            (own(), "identity: {serviceAccount: {name: reader, audiences: [other, vault]}}", Some("--token-audiences")),
            (cluster(), "identity: {serviceAccount: {name: reader, audiences: [vault]}}", Some("--token-audiences")),
            (own(), "identity: {accessKey: {secretRef: {name: k}}}, endpoints: {ssm: 'https://elsewhere'}", Some("--allowed-endpoints")),
            (own(), "identity: {accessKey: {secretRef: {name: k}}}, endpoints: {ssm: 'https://vpce/'}", None),
            (cluster(), "identity: {accessKey: {secretRef: {name: k}}}, endpoints: {ssm: 'https://elsewhere', sts: 'https://elsewhere'}", None),
            (cluster(), "identity: {serviceAccount: {name: reader}}, endpoints: {ssm: 'https://elsewhere'}", None),
            (cluster(), "identity: {serviceAccount: {name: reader}}, endpoints: {sts: 'https://elsewhere'}", Some("--allowed-endpoints")),
            (cluster(), "identity: {serviceAccount: {name: reader}}, endpoints: {sts: 'http://vpce'}", Some("--allowed-endpoints")),
            (cluster(), "identity: {serviceAccount: {name: reader}}, endpoints: {sts: 'https://vpce.evil'}", Some("--allowed-endpoints")),
        ] {
            let said = terms().refuse(&id, &Backend::Aws(aws(spec)));
            match flag {
                Some(flag) => assert!(said.as_deref().is_some_and(|said| said.contains(flag)), "{id} {spec}: {said:?}"),
                None => assert_eq!(said, None, "{id} {spec}"),
            }
        }
        let lenient = Terms { allow_ambient: true, ..terms() };
        assert_eq!(lenient.refuse(&own(), &Backend::Aws(aws("identity: {ambient: {}}"))), None);
    }

    #[test]
    fn a_service_account_opts_in_for_a_provider_or_for_one_role() {
        let role = |annotations: &[(&str, &str)], role: Option<&str>| {
            let annotations = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            let account = ServiceAccountIdentity { name: "reader".into(), role_arn: role.map(str::to_owned), ..ServiceAccountIdentity::default() };
            role_of(&annotations, &own(), &account)
        };
        let (allow, eks) = (ALLOW_TOKEN_ANNOTATION, EKS_ROLE_ANNOTATION);
        assert_eq!(role(&[(allow, "x, aws")], Some("r")), Ok("r".into()));
        assert_eq!(role(&[(eks, "r")], Some("r")), Ok("r".into()));
        assert_eq!(role(&[(eks, "r")], None), Ok("r".into()));
        assert_eq!(role(&[(eks, "r"), (allow, "aws")], Some("other")), Ok("other".into()));
        for (annotations, of) in [
            (&[][..], Some("r")),
            (&[], None),
            (&[(allow, "aws2,xaws,")], Some("r")),
            (&[(allow, "*")], Some("r")),
            (&[(eks, "r")], Some("other")),
            (&[(allow, "aws")], None),
            (&[(eks, " ")], None),
        ] {
            assert!(role(annotations, of).is_err(), "{annotations:?} {of:?}");
        }
    }

    #[test]
    fn a_tokens_claims_are_read_and_what_is_no_token_has_none() {
        let token = |claims: &str| Sensitive::from(format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims)));
        let claims = |claims: &str| Claims::of(&token(claims)).map(|claims| (claims.issuer, claims.audiences));
        assert_eq!(claims(r#"{"iss":"i","aud":["a","b"]}"#), Some(("i".into(), vec!["a".into(), "b".into()])));
        assert_eq!(claims(r#"{"iss":"i","aud":"a"}"#), Some(("i".into(), vec!["a".into()])));
        for none in [r#"{"iss":"i"}"#, r#"{"iss":"i","aud":[]}"#, r#"{"aud":["a"]}"#, r#"{"iss":"i","aud":["a",1]}"#, "x"] {
            assert_eq!(claims(none), None, "{none}");
        }
        assert_eq!(Claims::of(&Sensitive::from("x".to_owned())), None);
        assert_eq!(audiences_of(&token(r#"{"iss":"i","aud":["a"]}"#)), BTreeSet::from(["a".into(), "i".into()]));
    }
}
