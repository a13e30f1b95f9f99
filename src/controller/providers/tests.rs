//! Who may read what, told from random providers and wishes by an oracle that knows neither globs nor selectors.

use kube::Config;
use proptest::prelude::*;

use super::*;
use crate::{api::RobotoSecretSpec, controller::namespaces::Known};

/// One is the beginning of another, and one is labelled as another's team.
const NAMESPACES: [(&str, Option<&str>); 4] = [("a", Some("x")), ("ab", Some("y")), ("b", Some("x")), ("a-b", None)];
const REGION: &str = "eu-west-1";
const REGIONS: [&str; 2] = [REGION, "eu-central-1"];
const ACCOUNTS: [&str; 2] = ["111111111111", "222222222222"];
const SUFFIX: &str = "-AbCdEf";

/// What a pattern is for, told without looking at it: store, name and namespace.
type Covers = fn(&str, &str, &str) -> bool;

const PATTERNS: [(&str, Covers); 7] = [
    ("*", |_, _, _| true),
    ("aws.sm://${namespace}/**", |store, name, namespace| store == "sm" && name.split_once('/').is_some_and(|(first, _)| first == namespace)),
    ("aws.ps:///${namespace}/*", |store, name, namespace| store == "ps" && name.split('/').collect::<Vec<_>>()[..] == [namespace, "k"]),
    ("aws.sm://a/**", |store, name, _| store == "sm" && name.starts_with("a/")),
    ("aws.sm://a/k", |store, name, _| store == "sm" && name == "a/k"),
    ("aws.sm://ab*/*", |store, name, _| store == "sm" && name.starts_with("ab") && name.matches('/').count() == 1),
    ("aws.ps:///b/**", |store, name, _| store == "ps" && name.starts_with("b/")),
];

#[derive(Clone, Debug)]
enum Whose {
    /// Indices of namespaces.
    Names(Vec<usize>),
    /// Those whose team is `x`.
    Team,
    All,
}

#[derive(Clone, Debug)]
struct Permission {
    whose: Whose,
    pattern: usize,
    region: bool,
    account: bool,
    write_only: bool,
}

#[derive(Clone, Debug)]
struct Given {
    /// The namespace of a `RobotoProvider`.
    own: Option<usize>,
    ambient: bool,
    permissions: Vec<Permission>,
}

#[derive(Clone, Debug)]
struct Wish {
    namespace: usize,
    own: bool,
    provider: usize,
    store: &'static str,
    name: String,
    /// Region and account of an ARN, and whether a secret's has its six characters.
    arn: Option<(usize, usize, bool)>,
}

impl Permission {
    fn yaml(&self, own: bool) -> String {
        let namespaces = match &self.whose {
            Whose::Names(names) => format!("{{names: [{}]}}", names.iter().map(|name| NAMESPACES[*name].0).collect::<Vec<_>>().join(", ")),
            Whose::Team => "{selector: {matchLabels: {team: x}}}".to_owned(),
            Whose::All => "{all: true}".to_owned(),
        };
        let mut fields = vec![format!("references: ['{}']", PATTERNS[self.pattern].0)];
        for (is, field) in [
            (!own, format!("namespaces: {namespaces}")),
            (self.region, format!("regions: [{}]", REGIONS[1])),
            (self.account, format!("accounts: ['{}']", ACCOUNTS[1])),
            (self.write_only, "verbs: [write]".to_owned()),
        ] {
            fields.extend(is.then_some(field));
        }
        format!("{{{}}}", fields.join(", "))
    }

    fn is_for(&self, namespace: usize, own: bool) -> bool {
        let named = match &self.whose {
            Whose::Names(names) => names.contains(&namespace),
            Whose::Team => NAMESPACES[namespace].1 == Some("x"),
            Whose::All => true,
        };
        !self.write_only && (own || named)
    }
}

impl Given {
    fn id(&self, index: usize) -> ProviderId {
        ProviderId { namespace: self.own.map(|own| NAMESPACES[own].0.to_owned()), name: format!("p{index}") }
    }

    fn provided(&self, index: usize) -> Provided {
        let own = self.own.is_some();
        let identity = if self.ambient { "{ambient: {}}" } else { "{serviceAccount: {name: reader}}" };
        let rules: Vec<String> = self.permissions.iter().map(|permission| permission.yaml(own)).collect();
        let spec = format!("{{aws: {{region: {REGION}, identity: {identity}}}, allow: [{}]}}", rules.join(", "));
        let id = self.id(index);
        if own {
            let mut provider = RobotoProvider::new(&id.name, serde_yaml::from_str(&spec).expect("a spec"));
            (provider.metadata.namespace, provider.metadata.uid) = (id.namespace.clone(), Some(id.to_string()));
            Provided::new(&provider).expect("a store")
        } else {
            let mut provider = ClusterRobotoProvider::new(&id.name, serde_yaml::from_str(&spec).expect("a spec"));
            provider.metadata.uid = Some(id.to_string());
            Provided::new(&provider).expect("a store")
        }
    }
}

impl Wish {
    fn spec(&self) -> RobotoSecretSpec {
        let (name, slash) = (&self.name, if self.store == "ps" { "/" } else { "" });
        let uri = match self.arn {
            None => format!("aws.{}://{slash}{name}", self.store),
            Some((region, account, suffix)) => {
                let (kind, suffix) = if self.store == "sm" { ("secretsmanager", if suffix { SUFFIX } else { "" }) } else { ("ssm", "") };
                let what = if self.store == "sm" { "secret:" } else { "parameter/" };
                format!("arn:aws:{kind}:{}:{}:{what}{name}{suffix}", REGIONS[region], ACCOUNTS[account])
            }
        };
        let kind = if self.own { "RobotoProvider" } else { "ClusterRobotoProvider" };
        serde_yaml::from_str(&format!("{{provider: {{kind: {kind}, name: p{}}}, uri: '{uri}'}}", self.provider)).expect("a spec")
    }

    /// Whether it may be read, told from what was given alone.
    fn is_granted(&self, given: &[Given]) -> bool {
        let Some(provider) = given.get(self.provider) else { return false };
        // A RobotoProvider is its own namespace's, and never reads as the controller.
        if provider.own.is_some() != self.own || provider.own.is_some_and(|own| own != self.namespace || provider.ambient) {
            return false;
        }
        // Nobody knows yet whose account it reads, and none is anybody's that a rule doesn't name.
        let named = provider.permissions.iter().any(|permission| permission.account);
        let suffixed = matches!(self.arn, Some((_, _, true))) && self.store == "sm";
        let names = std::iter::once(self.name.clone()).chain(suffixed.then(|| format!("{}{SUFFIX}", self.name)));
        names.into_iter().all(|name| {
            provider.permissions.iter().any(|permission| {
                let abroad = self.arn.is_none_or(|(region, account, _)| (region == 0 || permission.region) && (account == 0 || permission.account || !named));
                permission.is_for(self.namespace, self.own) && (PATTERNS[permission.pattern].1)(self.store, &name, NAMESPACES[self.namespace].0) && abroad
            })
        })
    }
}

fn permission() -> impl Strategy<Value = Permission> {
    let names = prop::collection::vec(0..NAMESPACES.len(), 1..3).prop_map(Whose::Names);
    let whose = prop_oneof![2 => names, 1 => Just(Whose::Team), 1 => Just(Whose::All)];
    (whose, 0..PATTERNS.len(), any::<bool>(), any::<bool>(), prop::bool::weighted(0.2)).prop_map(|(whose, pattern, region, account, write_only)| Permission {
        whose,
        pattern,
        region,
        account,
        write_only,
    })
}

fn given() -> impl Strategy<Value = Given> {
    (prop::option::of(0..NAMESPACES.len()), prop::bool::weighted(0.2), prop::collection::vec(permission(), 0..4))
        .prop_map(|(own, ambient, permissions)| Given { own, ambient, permissions })
}

fn wish() -> impl Strategy<Value = Wish> {
    let name = (0..NAMESPACES.len(), prop::sample::select(vec!["/k", "/x/k", "", "b/k"])).prop_map(|(first, rest)| format!("{}{rest}", NAMESPACES[first].0));
    let arn = prop::option::weighted(0.3, (0..2_usize, 0..2_usize, any::<bool>()));
    (0..NAMESPACES.len(), any::<bool>(), 0..4_usize, prop::sample::select(vec!["sm", "ps"]), name, arn)
        .prop_map(|(namespace, own, provider, store, name, arn)| Wish { namespace, own, provider, store, name, arn })
}

fn providers(ambient: Ambient) -> Providers {
    let client = Client::try_from(Config::new("http://127.0.0.1:1".parse().expect("an address"))).expect("a client");
    let terms = Terms { token_audiences: ["sts.amazonaws.com".to_owned()].into(), ..Terms::default() };
    let namespaces = Arc::new(NamespaceCache::default());
    for (name, team) in NAMESPACES {
        let labels = team.map(|team| ("team".to_owned(), team.to_owned())).into_iter().collect();
        namespaces.put(name, Some(&Known { labels: Arc::new(labels), leaves: false }));
    }
    let metrics = Metrics::default();
    Providers::new(client, terms, ambient, namespaces, Arc::new(Reader::new(metrics.clone())), metrics)
}

proptest! {
    #[test]
    fn who_may_read_what_is_what_the_rules_say_and_no_scope_is_shared_across_identities(
        given in prop::collection::vec(given(), 1..4), wishes in prop::collection::vec(wish(), 1..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let _entered = runtime.enter();
        let providers = providers(runtime.block_on(Ambient::load()));
        for (index, given) in given.iter().enumerate() {
            providers.put(&given.id(index), Ok(given.provided(index)));
        }
        let mut scopes: HashMap<ScopeId, (ProviderId, Option<&str>)> = HashMap::new();
        for wish in &wishes {
            let (namespace, spec) = (NAMESPACES[wish.namespace].0, wish.spec());
            let admitted = providers.admit(&Plan::new(&spec).expect("a plan"), &(namespace.to_owned(), "r".to_owned()));
            prop_assert_eq!(admitted.is_ok(), wish.is_granted(&given), "{:?}: {:?}", wish, admitted.err().map(|error| error.message));
            for admitted in admitted.into_iter().flatten() {
                let provider = &given[wish.provider];
                // Who reads with a ServiceAccount of its own never shares a scope, nor what is cached in it, with another namespace.
                let whose = (provider.id(wish.provider), (!provider.ambient && provider.own.is_none()).then_some(namespace));
                let known = scopes.entry(admitted.through.scope).or_insert_with(|| whose.clone());
                prop_assert_eq!(&*known, &whose);
            }
        }
    }
}
