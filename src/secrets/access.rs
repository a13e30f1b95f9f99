//! Where each store is and as whom it is read, as a program says it or its environment does.
//!
//! Addresses and credentials enter; a client that is ready leaves. No call is made before it is asked for something. Credentials go to their store alone.

use std::{collections::BTreeMap, env, fs, path::PathBuf, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};

use super::{
    Error, Secrets,
    cache::Kept,
    disk::{self, Disk},
    sealing::{CacheKey, Keys, Scope},
};
use crate::{
    api::{
        aws::{AwsSpec, Endpoints, REGION_PLACE},
        edge::EdgeSpec,
        envase::{EnvaseAuth, EnvaseHttp, EnvaseOauth, EnvaseSpec},
        http::{ADDRESS, FromSecret, is_address},
        reference::Store,
        roboto::RobotoSpec,
        vault::{KeyValue, VaultAuth, VaultSpec},
    },
    provider::{
        ReadError,
        aws::{Ambient, AwsProvider, Principal, Role},
        edge::EdgeProvider,
        envase::EnvaseProvider,
        grants::{Grant, Grants},
        opened::Opened,
        roboto::RobotoPlatform,
        vault::VaultProvider,
    },
    sensitive::Sensitive,
    telemetry::Metrics,
};

/// How often a call is made in all, unless somebody says otherwise.
const TRIES: u32 = 3;
/// How long a call may take, unless somebody says otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How many values are kept, and for how long, unless somebody says otherwise.
const CACHED: u64 = 1000;
const CACHED_FOR: Duration = Duration::from_secs(15 * 60);
/// Where AWS's own clients look in the environment for who they are and whom they ask; what a file or a machine says behind these is known only after a call.
const AWS: [&str; 16] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_SECRETS_MANAGER",
    "AWS_ENDPOINT_URL_SSM",
    "AWS_ENDPOINT_URL_STS",
    "HOME",
];
/// Whose calls they are: there is one identity for each store.
const PAYER: &str = "client";

/// Where Vault or `OpenBao` is, and the token it is read with.
#[derive(Clone, Debug)]
pub struct Vault {
    /// `https://host:port`.
    pub address: String,
    /// The token.
    pub token: Sensitive,
    /// The namespace, such as `teams/shop`.
    pub namespace: Option<String>,
    /// Certificates in PEM of those who may vouch for the server, besides those that the system trusts.
    pub ca_bundle: Option<String>,
    /// The version of its key-value stores.
    pub key_value: KeyValue,
}

impl Vault {
    /// Version 2 of the key-value store at an address.
    #[must_use]
    pub fn new(address: impl Into<String>, token: Sensitive) -> Self {
        Self { address: address.into(), token, namespace: None, ca_bundle: None, key_value: KeyValue::default() }
    }

    fn scope(&self, scope: &mut Scope) {
        let Self { address, token, namespace, ca_bundle, key_value } = self;
        scope.add(Some(token.expose()));
        add(scope, [&Some(address.clone()), &Some(format!("{key_value:?}")), namespace, ca_bundle]);
    }

    fn spec(&self) -> VaultSpec {
        VaultSpec {
            address: self.address.clone(),
            namespace: self.namespace.clone(),
            ca_bundle: self.ca_bundle.clone(),
            key_value: self.key_value,
            auth: VaultAuth { token: Some(FromSecret::default()), ..VaultAuth::default() },
            limits: None,
        }
    }
}

/// Where Edge's secrets are.
#[derive(Clone, Debug)]
pub struct Edge {
    /// The Vault that keeps them.
    pub vault: Vault,
    /// The mount; `secret` if left out.
    pub mount: Option<String>,
    /// What all paths begin with; `edge` if left out.
    pub prefix: Option<String>,
    /// Whose secrets `edge://user/…` are; left out: those of the token's entity.
    pub user: Option<String>,
    /// Whose secrets `edge://org/…` are.
    pub organization: Option<String>,
}

/// Where a Roboto platform is, and the key it is read with.
#[derive(Clone, Debug)]
pub struct Roboto {
    /// The API key.
    pub api_key: Sensitive,
    /// The platform's address; `https://api.roboto.ai` if left out.
    pub endpoint: Option<String>,
    /// The organisation of references that name none.
    pub org: Option<String>,
    /// Another address of Secrets Manager than AWS's own; `{region}` stands for the region.
    pub secrets_manager_endpoint: Option<String>,
}

/// Where Envase Vault is, and as whom it is read.
#[derive(Clone, Debug)]
pub struct Envase {
    /// `dev`, `stg` or `prod`; it may be left out where the addresses are given.
    pub environment: Option<String>,
    /// The store's address, where it isn't the environment's.
    pub base_url: Option<String>,
    /// Whom it lets in.
    pub login: EnvaseLogin,
    /// A key that is sent besides, in `x-api-key`.
    pub api_key: Option<Sensitive>,
}

/// Whom Envase Vault lets in.
#[derive(Clone, Debug)]
pub enum EnvaseLogin {
    /// Whoever has this token.
    Token(Sensitive),
    /// A client, for which a token is asked for.
    Client {
        /// Its id.
        id: String,
        /// Its secret.
        secret: Sensitive,
        /// The scopes, with spaces between them.
        scope: Option<String>,
        /// Where tokens are given, where it isn't the environment's.
        token_url: Option<String>,
    },
}

/// What a client is made of. What is left out is AWS's default: its environment variables, profiles, and the identity of the machine.
///
/// ```no_run
/// # async fn example() -> Result<(), robotosecret::secrets::Error> {
/// use robotosecret::Secrets;
///
/// let secrets = Secrets::builder().region("eu-west-1").role("arn:aws:iam::123456789012:role/reader", None).build().await?;
/// let password = secrets.get("aws.sm://prod/db#/password").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    region: Option<String>,
    endpoint: Option<String>,
    profile: Option<String>,
    role: Option<(String, Option<String>)>,
    tries: u32,
    timeout: Duration,
    /// How many values are kept, and for how long.
    cache: Option<(u64, Duration)>,
    disk: Option<(PathBuf, CacheKey)>,
    vault: Option<Vault>,
    edge: Option<Edge>,
    roboto: Option<Roboto>,
    envase: Option<Envase>,
    /// Why a store could not be set up from the environment.
    wrong: BTreeMap<Store, Error>,
}

impl Default for Builder {
    fn default() -> Self {
        let cache = Some((CACHED, CACHED_FOR));
        Self {
            region: None,
            endpoint: None,
            profile: None,
            role: None,
            tries: TRIES,
            timeout: TIMEOUT,
            cache,
            disk: None,
            vault: None,
            edge: None,
            roboto: None,
            envase: None,
            wrong: BTreeMap::new(),
        }
    }
}

impl Builder {
    /// AWS's region.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// One address of all of AWS's services, for emulators.
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// A profile of AWS's configuration files.
    pub fn profile(mut self, profile: impl Into<String>) -> Self {
        self.profile = Some(profile.into());
        self
    }

    /// A role that is assumed in AWS, by its ARN, perhaps with an external id.
    pub fn role(mut self, arn: impl Into<String>, external_id: Option<String>) -> Self {
        self.role = Some((arn.into(), external_id));
        self
    }

    /// How often a call is made that fails for a reason that passes by itself (a throttle, an outage), 3 by default and once at least. The pauses in between
    /// grow from a quarter of a second.
    pub fn retry(mut self, tries: u32) -> Self {
        self.tries = tries.max(1);
        self
    }

    /// How long a call may take, 5 s by default, which is also the longest.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.min(TIMEOUT);
        self
    }

    /// How many values are kept in memory, and for how long, so that they are not read again: 1,000 for 15 minutes by default. What leaves the cache is wiped.
    pub fn cache(mut self, values: u64, life: Duration) -> Self {
        self.cache = Some((values, life));
        self
    }

    /// Keeps what [`Builder::cache`] says in files, too, so that it survives the process: as many values, for as long, encrypted (ChaCha20-Poly1305) with a
    /// key that only you have. Nothing can be read on disk, not even a name; how many values there are, how long and how old is seen.
    ///
    /// One folder and one key for each identity. What is said to this builder and in the environment of who reads (region, endpoint, profile, role, tokens and
    /// keys of the other stores, the id of AWS's access key) is a part of all keys: who says something else finds nothing. What is found out only by a call
    /// is not: the role of the machine, or what a profile says. A token that was renewed is another identity.
    ///
    /// The folder is made if it isn't there; it has to be the user's alone (0700). What is too old, damaged or another key's is as if it weren't there. Whatever
    /// is written with this client empties the folder, where other processes may put what they have read before. [`Secrets::get_fresh`] and
    /// [`Secrets::path_exists`] never read it.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use robotosecret::{Secrets, secrets::CacheKey};
    ///
    /// let key = CacheKey::from_base64(&std::fs::read_to_string("/run/keys/robotosecret-cache")?)?;
    /// let secrets = Secrets::builder().region("eu-west-1").disk_cache("/var/cache/shop/secrets", key).build().await?;
    /// let password = secrets.get("aws.sm://prod/db#/password").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn disk_cache(mut self, folder: impl Into<PathBuf>, key: CacheKey) -> Self {
        self.disk = Some((folder.into(), key));
        self
    }

    /// Reads each time.
    pub fn no_cache(mut self) -> Self {
        self.cache = None;
        self
    }

    /// Vault or `OpenBao`, for `vault://`.
    pub fn vault(mut self, vault: Vault) -> Self {
        self.vault = Some(vault);
        self
    }

    /// Edge's secrets, for `edge://`.
    pub fn edge(mut self, edge: Edge) -> Self {
        self.edge = Some(edge);
        self
    }

    /// A Roboto platform, for `roboto-secret://`.
    pub fn roboto(mut self, roboto: Roboto) -> Self {
        self.roboto = Some(roboto);
        self
    }

    /// Envase Vault, for `envase://`.
    pub fn envase(mut self, envase: Envase) -> Self {
        self.envase = Some(envase);
        self
    }

    /// Takes from the environment what was not said, for the stores that are not AWS's, by the names that their own clients use where they have any:
    ///
    /// | | |
    /// |---|---|
    /// | Vault, Edge | `VAULT_ADDR`, `VAULT_TOKEN` (or the file `~/.vault-token`), `VAULT_NAMESPACE`, `VAULT_CACERT` (a file) |
    /// | Edge | `EDGE_ORGANIZATION`, `EDGE_USER`, `EDGE_MOUNT`, `EDGE_PREFIX` |
    /// | Roboto | `ROBOTO_API_KEY` (or `ROBOTO_BEARER_TOKEN`), `ROBOTO_SERVICE_ENDPOINT`, `ROBOTO_ORG_ID`, `AWS_ENDPOINT_URL_SECRETS_MANAGER` |
    /// | Envase | `ENVASE_ENVIRONMENT`, `ENVASE_BASE_URL`, `ENVASE_TOKEN` or `ENVASE_CLIENT_ID` with `ENVASE_CLIENT_SECRET`, `ENVASE_SCOPE`, `ENVASE_TOKEN_URL`, `ENVASE_API_KEY` |
    ///
    /// # Errors
    ///
    /// A file that `VAULT_CACERT` names and that can't be read. An address that is none is an error of whatever is asked of its store, and of nothing else.
    pub fn from_env(mut self) -> Result<Self, Error> {
        if self.vault.is_none() {
            let address = self.noted(&[Store::Vault, Store::Edge], set_address("VAULT_ADDR"));
            self.vault = vault_of_environment(address)?;
        }
        if let (None, Some(vault)) = (&self.edge, &self.vault) {
            let (mount, prefix, user, organization) = (set("EDGE_MOUNT"), set("EDGE_PREFIX"), set("EDGE_USER"), set("EDGE_ORGANIZATION"));
            self.edge = Some(Edge { vault: vault.clone(), mount, prefix, user, organization });
        }
        if self.roboto.is_none() {
            let key = set("ROBOTO_API_KEY").or_else(|| set("ROBOTO_BEARER_TOKEN"));
            self.roboto = self.noted(&[Store::Roboto], key.map(roboto_of_environment).transpose());
        }
        if self.envase.is_none() {
            self.envase = self.noted(&[Store::Envase], envase_of_environment());
        }
        Ok(self)
    }

    /// What the environment says of a store; what is wrong with it is kept for whoever asks something of that store.
    fn noted<T>(&mut self, stores: &[Store], said: Result<Option<T>, Error>) -> Option<T> {
        said.unwrap_or_else(|error| {
            self.wrong.extend(stores.iter().map(|store| (*store, error.clone())));
            None
        })
    }

    /// The client. Nothing is called yet.
    ///
    /// # Errors
    ///
    /// What was said and can't be meant: an address, a certificate, a folder of the cache that others may enter.
    pub async fn build(self) -> Result<Secrets, Error> {
        let ambient = Ambient::of_profile(self.profile.as_deref()).await;
        let region = match &self.region {
            Some(region) => Some(region.clone()),
            None => Ambient::region(self.profile.as_deref()).await,
        };
        let disk = match (&self.disk, self.cache) {
            (Some((path, key)), Some((values, life))) => Some(Disk::new(disk::folder(path)?, self.keys(key, region.as_deref()), values, life)),
            (Some(_), None) => return Err(Error::InvalidRequest("a cache on disk keeps what the cache keeps; leave no_cache() out".to_owned())),
            (None, _) => None,
        };
        self.check_addresses()?;
        let metrics = Metrics::default();
        let aws = region.map(|region| Opened::Aws(Arc::new(self.aws(&region, &ambient, &metrics))));
        let vault = self.vault.as_ref().map(|vault| VaultProvider::new(&vault.spec(), held(&vault.token), PAYER, metrics.clone())).transpose()?;
        let edge = self.edge.as_ref().map(|edge| EdgeProvider::new(&edge.spec(), held(&edge.vault.token), PAYER, metrics.clone())).transpose()?;
        let roboto =
            self.roboto.as_ref().map(|roboto| RobotoPlatform::new(&roboto.spec(), held(&roboto.api_key), &ambient, PAYER, metrics.clone())).transpose()?;
        let envase = self.envase.as_ref().map(|envase| envase.open(&metrics)).transpose()?;
        Ok(Secrets {
            aws,
            vault: vault.map(|vault| Opened::Vault(Arc::new(vault))),
            edge: edge.map(|edge| Opened::Edge(Arc::new(edge))),
            roboto: roboto.map(|roboto| Opened::Roboto(Arc::new(roboto))),
            envase: envase.map(|envase| Opened::Envase(Arc::new(envase))),
            tries: self.tries,
            timeout: self.timeout,
            cache: self.cache.map(|(values, life)| Kept::new(values, life, disk)),
            wrong: self.wrong,
            budgets: Arc::default(),
            found: Arc::default(),
        })
    }

    /// What is no address would look like a store that is away. Those of the environment were checked when they were taken.
    fn check_addresses(&self) -> Result<(), Error> {
        let roboto = self.roboto.as_ref();
        let envase = self.envase.as_ref();
        let token_url = envase.and_then(|envase| match &envase.login {
            EnvaseLogin::Client { token_url, .. } => token_url.as_ref(),
            EnvaseLogin::Token(_) => None,
        });
        let said = [
            ("the endpoint of AWS", self.endpoint.as_ref()),
            ("the address of Vault", self.vault.as_ref().map(|vault| &vault.address)),
            ("the address of Edge's Vault", self.edge.as_ref().map(|edge| &edge.vault.address)),
            ("the endpoint of Roboto", roboto.and_then(|roboto| roboto.endpoint.as_ref())),
            ("the endpoint of Secrets Manager for Roboto", roboto.and_then(|roboto| roboto.secrets_manager_endpoint.as_ref())),
            ("the base URL of Envase", envase.and_then(|envase| envase.base_url.as_ref())),
            ("the token URL of Envase", token_url),
        ];
        said.into_iter().filter_map(|(what, text)| text.map(|text| (what, text))).try_for_each(|(what, text)| check_address(what, text))
    }

    /// The keys of each store on disk: other ones for whoever reads it from elsewhere or as somebody else, as far as that is known without a call.
    fn keys(&self, key: &CacheKey, region: Option<&str>) -> BTreeMap<Store, Keys> {
        let keys = |store: Store| {
            let mut scope = Scope::new(key);
            scope.add(Some(store.as_str().as_bytes()));
            match store {
                Store::SecretsManager | Store::ParameterStore => self.aws_scope(region, &mut scope),
                Store::Vault => self.vault.iter().for_each(|vault| vault.scope(&mut scope)),
                Store::Edge => self.edge.iter().for_each(|edge| edge.scope(&mut scope)),
                Store::Roboto => {
                    // Its values come from AWS.
                    self.aws_scope(region, &mut scope);
                    self.roboto.iter().for_each(|roboto| roboto.scope(&mut scope));
                }
                Store::Envase => self.envase.iter().for_each(|envase| envase.scope(&mut scope)),
            }
            Some((store, scope.keys(key)?))
        };
        Store::ALL.into_iter().filter_map(keys).collect()
    }

    fn aws_scope(&self, region: Option<&str>, scope: &mut Scope) {
        let (role, external_id) = self.role.clone().map_or((None, None), |(role, external_id)| (Some(role), external_id));
        scope.add(region.map(str::as_bytes));
        add(scope, [&self.endpoint, &self.profile, &role, &external_id]);
        for name in AWS {
            scope.add(env::var_os(name).as_ref().map(|value| value.as_encoded_bytes()));
        }
    }

    fn aws(&self, region: &str, ambient: &Ambient, metrics: &Metrics) -> AwsProvider {
        let everywhere = |url: &String| Endpoints { secrets_manager: Some(url.clone()), ssm: Some(url.clone()), sts: Some(url.clone()), lambda: None };
        let spec = AwsSpec { region: region.to_owned(), endpoints: self.endpoint.as_ref().map(everywhere), ..AwsSpec::default() };
        let role = |(arn, external_id): &(String, Option<String>)| Role {
            arn: arn.clone(),
            external_id: external_id.clone(),
            session_name: "robotosecret".to_owned(),
            tags: Vec::new(),
        };
        let principal = Principal { roles: self.role.iter().map(role).collect(), payer: PAYER.to_owned(), ..Principal::ambient() };
        AwsProvider::new(&spec, principal, ambient, metrics.clone())
    }
}

impl Edge {
    fn scope(&self, scope: &mut Scope) {
        let Self { vault, mount, prefix, user, organization } = self;
        vault.scope(scope);
        add(scope, [mount, prefix, user, organization]);
    }

    fn spec(&self) -> EdgeSpec {
        let Self { vault, mount, prefix, user, organization } = self;
        EdgeSpec { vault: vault.spec(), mount: mount.clone(), prefix: prefix.clone(), user: user.clone(), organization: organization.clone() }
    }
}

impl Roboto {
    fn scope(&self, scope: &mut Scope) {
        let Self { api_key, endpoint, org, secrets_manager_endpoint } = self;
        scope.add(Some(api_key.expose()));
        add(scope, [endpoint, org, secrets_manager_endpoint]);
    }

    fn spec(&self) -> RobotoSpec {
        let Self { api_key: _, endpoint, org, secrets_manager_endpoint } = self;
        RobotoSpec { endpoint: endpoint.clone(), org_id: org.clone(), secrets_manager_endpoint: secrets_manager_endpoint.clone(), ..RobotoSpec::default() }
    }
}

impl Envase {
    fn scope(&self, scope: &mut Scope) {
        let Self { environment, base_url, login, api_key } = self;
        add(scope, [environment, base_url]);
        scope.add(api_key.as_ref().map(Sensitive::expose));
        match login {
            EnvaseLogin::Token(token) => scope.add(Some(token.expose())),
            EnvaseLogin::Client { id, secret, scope: wanted, token_url } => {
                scope.add(Some(id.as_bytes()));
                scope.add(Some(secret.expose()));
                add(scope, [wanted, token_url]);
            }
        }
    }

    fn open(&self, metrics: &Metrics) -> Result<EnvaseProvider, ReadError> {
        let (auth, secret) = match &self.login {
            EnvaseLogin::Token(token) => (EnvaseAuth { bearer: Some(FromSecret::default()), oauth: None }, token),
            EnvaseLogin::Client { id, secret, scope, token_url } => {
                let oauth = EnvaseOauth { client_id: id.clone(), scope: scope.clone(), token_url: token_url.clone(), ..EnvaseOauth::default() };
                (EnvaseAuth { bearer: None, oauth: Some(oauth) }, secret)
            }
        };
        let http = EnvaseHttp { base_url: self.base_url.clone(), auth, ..EnvaseHttp::default() };
        let spec = EnvaseSpec { environment: self.environment.clone(), ..EnvaseSpec::default() };
        EnvaseProvider::over_http(&spec, &http, held(secret), self.api_key.as_ref().map(held), PAYER, metrics.clone())
    }
}

fn vault_of_environment(address: Option<String>) -> Result<Option<Vault>, Error> {
    let from_file = || env::home_dir().and_then(|home| fs::read(home.join(".vault-token")).ok()).map(Sensitive::new);
    let token = set("VAULT_TOKEN").map(Sensitive::from).or_else(from_file);
    let Some((address, token)) = address.zip(token) else { return Ok(None) };
    let unreadable = |error: std::io::Error| Error::InvalidRequest(format!("the file that VAULT_CACERT names can't be read: {}", error.kind()));
    let ca_bundle = set("VAULT_CACERT").map(fs::read_to_string).transpose().map_err(unreadable)?;
    Ok(Some(Vault { namespace: set("VAULT_NAMESPACE"), ca_bundle, ..Vault::new(address, token) }))
}

fn roboto_of_environment(key: String) -> Result<Roboto, Error> {
    let secrets_manager_endpoint = match set_address("AWS_ENDPOINT_URL_SECRETS_MANAGER")? {
        Some(own) => Some(own),
        None => set_address("AWS_ENDPOINT_URL")?,
    };
    Ok(Roboto { api_key: Sensitive::from(key), endpoint: set_address("ROBOTO_SERVICE_ENDPOINT")?, org: set("ROBOTO_ORG_ID"), secrets_manager_endpoint })
}

fn envase_of_environment() -> Result<Option<Envase>, Error> {
    let login = match (set("ENVASE_TOKEN"), set("ENVASE_CLIENT_ID").zip(set("ENVASE_CLIENT_SECRET"))) {
        (Some(token), _) => EnvaseLogin::Token(Sensitive::from(token)),
        (None, Some((id, secret))) => {
            EnvaseLogin::Client { id, secret: Sensitive::from(secret), scope: set("ENVASE_SCOPE"), token_url: set_address("ENVASE_TOKEN_URL")? }
        }
        (None, None) => return Ok(None),
    };
    let (environment, base_url) = (set("ENVASE_ENVIRONMENT"), set_address("ENVASE_BASE_URL")?);
    Ok(Some(Envase { environment, base_url, login, api_key: set("ENVASE_API_KEY").map(Sensitive::from) }))
}

/// What may have been left out.
fn add<const N: usize>(scope: &mut Scope, parts: [&Option<String>; N]) {
    for part in parts {
        scope.add(part.as_ref().map(String::as_bytes));
    }
}

/// A variable that says something.
fn set(name: &str) -> Option<String> {
    env::var(name).ok().filter(|text| !text.is_empty())
}

/// A variable that says an address.
fn set_address(name: &str) -> Result<Option<String>, Error> {
    let text = set(name);
    text.iter().try_for_each(|text| check_address(name, text))?;
    Ok(text)
}

/// `what`: where it was said. The text is not repeated: a password may be in it.
fn check_address(what: &str, text: &str) -> Result<(), Error> {
    // `{region}` stands for a part of a name.
    if is_address(&text.replace(REGION_PLACE, "region")) { Ok(()) } else { Err(Error::InvalidRequest(format!("{what}: {ADDRESS}"))) }
}

/// A secret that is handed out whenever it is asked for.
struct Held(Sensitive);

fn held(secret: &Sensitive) -> Box<dyn Grants> {
    Box::new(Held(secret.clone()))
}

impl Grants for Held {
    fn grant(&self) -> BoxFuture<'_, Result<Grant, ReadError>> {
        std::future::ready(Ok(Grant::Secret(self.0.clone()))).boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::api::reference::Reference;

    fn sensitive(text: &str) -> Sensitive {
        Sensitive::from(text.to_owned())
    }

    #[test]
    fn each_thing_that_is_said_of_an_identity_names_other_files_on_disk() {
        let key = CacheKey::from_bytes(&[1; 32]).unwrap();
        let name = |builder: &Builder, region: &str, reference: &str| {
            let source = reference.parse::<Reference>().unwrap().source;
            builder.keys(&key, Some(region))[&source.store].name(&source)
        };
        let differ = |reference: &str, builders: &[Builder]| {
            let names: BTreeSet<String> = builders.iter().map(|builder| name(builder, "eu-west-1", reference)).collect();
            assert_eq!(names.len(), builders.len(), "{reference}");
            assert_eq!(name(&builders[0].clone(), "eu-west-1", reference), name(&builders[0], "eu-west-1", reference));
        };
        let aws = [
            Builder::default(),
            Builder::default().endpoint("a"),
            Builder::default().profile("a"),
            Builder::default().role("a", None),
            Builder::default().role("a", Some("b".into())),
        ];
        let roboto = Roboto { api_key: sensitive("k"), endpoint: None, org: None, secrets_manager_endpoint: None };
        for reference in ["aws.sm://a", "aws.ps:///a", "roboto-secret://a"] {
            differ(reference, &aws.clone().map(|builder| builder.roboto(roboto.clone())));
            assert_ne!(name(&aws[0], "eu-west-1", reference), name(&aws[0], "eu-west-2", reference));
        }
        let of = |roboto: Roboto| Builder::default().roboto(roboto);
        differ(
            "roboto-secret://a",
            &[
                of(roboto.clone()),
                of(Roboto { api_key: sensitive("l"), ..roboto.clone() }),
                of(Roboto { endpoint: Some("a".into()), ..roboto.clone() }),
                of(Roboto { org: Some("a".into()), ..roboto.clone() }),
                of(Roboto { secrets_manager_endpoint: Some("a".into()), ..roboto }),
            ],
        );
        let vault = Vault::new("http://a", sensitive("t"));
        let vaults = [
            vault.clone(),
            Vault::new("http://b", sensitive("t")),
            Vault::new("http://a", sensitive("u")),
            Vault { namespace: Some("a".into()), ..vault.clone() },
            Vault { ca_bundle: Some("a".into()), ..vault.clone() },
            Vault { key_value: KeyValue::V1, ..vault.clone() },
        ];
        differ("vault://kv/a", &vaults.clone().map(|vault| Builder::default().vault(vault)));
        let edge = |vault: Vault| Edge { vault, mount: None, prefix: None, user: None, organization: None };
        let said = Some("a".to_owned());
        let edges = [
            Edge { mount: said.clone(), ..edge(vault.clone()) },
            Edge { prefix: said.clone(), ..edge(vault.clone()) },
            Edge { user: said.clone(), ..edge(vault.clone()) },
            Edge { organization: said.clone(), ..edge(vault) },
        ];
        let edges: Vec<Builder> = vaults.into_iter().map(edge).chain(edges).map(|edge| Builder::default().edge(edge)).collect();
        differ("edge://org/a", &edges);
        let client = |id: &str, secret: &str, scope: Option<&str>, token_url: Option<&str>| EnvaseLogin::Client {
            id: id.to_owned(),
            secret: sensitive(secret),
            scope: scope.map(str::to_owned),
            token_url: token_url.map(str::to_owned),
        };
        let envase = Envase { environment: None, base_url: None, login: EnvaseLogin::Token(sensitive("t")), api_key: None };
        let logins = [
            EnvaseLogin::Token(sensitive("u")),
            client("a", "b", None, None),
            client("b", "b", None, None),
            client("a", "c", None, None),
            client("a", "b", Some("d"), None),
            client("a", "b", None, Some("d")),
        ];
        let envases = [
            envase.clone(),
            Envase { environment: said.clone(), ..envase.clone() },
            Envase { base_url: said, ..envase.clone() },
            Envase { api_key: Some(sensitive("a")), ..envase.clone() },
        ];
        let envases = envases.into_iter().chain(logins.map(|login| Envase { login, ..envase.clone() }));
        differ("envase://a", &envases.map(|envase| Builder::default().envase(envase)).collect::<Vec<_>>());
    }
}
