//! Whether each provider's identity works: asked of AWS, told in the provider's status, and those that wait for it are woken.
//!
//! Providers and the troubles of their reads enter; conditions and events leave. It asks AWS who the caller is, once for each identity and
//! again while one does not work. No credential comes here, only names and what AWS refuses.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{
    mirror::Context,
    providers::{Attended, Provided},
    status::Notice,
};
use crate::{
    api::{
        ClusterRobotoProvider, GROUP, Reason, RobotoProvider,
        provider::ProviderId,
        status::{IDENTIFIED, READY},
    },
    provider::{ReadError, opened::Opened},
    reader::{Lane, ScopeId},
};

/// How often all are looked at where nothing changes.
const ROUND: Duration = Duration::from_secs(5);
/// What changes together is looked at together.
const DEBOUNCE: Duration = Duration::from_millis(250);
/// How many are asked at the same time.
const AT_ONCE: usize = 16;
/// After how long without an answer a store counts as out of reach for the provider's status.
const OUT_OF_REACH: Duration = Duration::from_secs(30);
/// The first pause after an identity did not work; it doubles, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// The field manager of the condition. The provider's other conditions are written by others, each with a manager of its own.
const MANAGER: &str = "robotosecret-provider";

/// How one provider was found last.
#[derive(Default)]
struct Record {
    generation: i64,
    uid: String,
    failures: u32,
    due: Option<Instant>,
    /// What was said of it, and of which of its generations.
    told: Option<(i64, Verdict)>,
    /// How many of its identities are known.
    known: usize,
    /// What its identities read in: one that is made anew, since its Secret changed or is back, is asked at once.
    scopes: BTreeSet<ScopeId>,
}

/// What is said of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Verdict {
    status: &'static str,
    reason: &'static str,
    message: String,
    identity: Option<String>,
}

impl Verdict {
    fn new(status: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { status, reason, message: message.into(), identity: None }
    }

    /// What its identities come to.
    fn of(answers: &[Result<String, ReadError>]) -> Self {
        let errors: Vec<&ReadError> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
        if let Some(first) = errors.iter().max_by_key(|error| error.reason == Reason::CredentialsError) {
            let message =
                if answers.len() == 1 { first.message.clone() } else { format!("{} of {} identities: {}", errors.len(), answers.len(), first.message) };
            return Self::new("False", first.reason.as_str(), message);
        }
        let mut names: Vec<&str> = answers.iter().flatten().map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        match names[..] {
            [] => Self::new("Unknown", Reason::Pending.as_str(), "who asks is read for with an identity of its own, and nobody has asked yet"),
            // A token of Vault needs no name.
            [""] => Self::new("True", IDENTIFIED, "the store lets it in, and has no name for it"),
            [one] => Self { identity: Some(one.to_owned()), ..Self::new("True", IDENTIFIED, format!("reads as {one}")) },
            _ => Self::new("True", IDENTIFIED, format!("reads as {} identities, each for those it belongs to", names.len())),
        }
    }
}

/// Attends to all providers of those who are served (`everybody`: of every namespace), for ever.
pub(super) async fn run(context: Arc<Context>, everybody: bool) {
    let mut records: HashMap<ProviderId, Record> = HashMap::new();
    let mut changes = context.providers.changes();
    loop {
        let all = context.providers.attended(everybody);
        records.retain(|id, _| all.iter().any(|attended| attended.provider.id == *id));
        let looks = all.into_iter().map(|attended| {
            let record = records.remove(&attended.provider.id).filter(|record| record.uid == attended.provider.uid).unwrap_or_default();
            look(&context, attended, record)
        });
        let looks: Vec<_> = looks.collect();
        records = stream::iter(looks).buffer_unordered(AT_ONCE).collect().await;
        tokio::select! {
            _ = changes.changed() => tokio::time::sleep(DEBOUNCE).await,
            () = tokio::time::sleep(ROUND) => {}
        }
    }
}

async fn look(context: &Context, attended: Attended, mut record: Record) -> (ProviderId, Record) {
    let Attended { provider, refused, identities } = attended;
    let id = provider.id.clone();
    let scopes: BTreeSet<ScopeId> = identities.keys().copied().collect();
    if record.generation != provider.generation || !scopes.is_subset(&record.scopes) {
        (record.failures, record.due) = (0, None);
    }
    record.scopes = scopes;
    (record.generation, record.uid) = (provider.generation, provider.uid.clone());
    let may_ask = record.due.is_none_or(|due| due <= Instant::now());
    let verdict = if let Some(problem) = refused {
        Verdict::new("False", Reason::NotAllowed.as_str(), problem)
    } else {
        let answers: Vec<Option<Result<String, ReadError>>> =
            stream::iter(identities.into_values()).map(|identity| ask(identity, may_ask)).buffer_unordered(AT_ONCE).collect().await;
        let known = answers.iter().filter(|answer| matches!(answer, Some(Ok(_)))).count();
        if known > record.known && provider.rules.iter().any(|rule| !rule.accounts.is_empty()) {
            // Which account is the identity's own decides who may name what by ARN.
            wake(context, &id);
        }
        record.known = known;
        match answers.into_iter().collect::<Option<Vec<_>>>() {
            Some(answers) => Verdict::of(&answers),
            // It is asked again when its pause is over.
            None => return (id, record),
        }
    };
    let works = verdict.status != "False";
    if works {
        if record.failures > 0 {
            tracing::info!(provider = %id, "the provider's identity works again");
            context.providers.recovered(&id);
            wake(context, &id);
        }
        (record.failures, record.due) = (0, None);
    } else if may_ask {
        record.failures = record.failures.saturating_add(1);
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(record.failures - 1)).min(LONGEST_PAUSE);
        record.due = Some(Instant::now() + pause);
    }
    if record.told.as_ref().is_none_or(|(_, told)| *told != verdict) || !says(&provider, &verdict) {
        tell(context, &provider, &verdict, &mut record).await;
    }
    (id, record)
}

/// As whom an identity reads, or what is wrong with it; `None`: something is, and it is too early to ask again.
async fn ask(identity: Opened, may_ask: bool) -> Option<Result<String, ReadError>> {
    let trouble = identity.in_trouble().filter(|(since, error)| error.reason == Reason::CredentialsError || *since >= OUT_OF_REACH);
    let known = identity.known_identity();
    match (trouble, known) {
        (None, Some(known)) => Some(Ok(known)),
        (trouble, known) => {
            if !may_ask {
                return None;
            }
            let answer = identity.identity(known.is_some()).await;
            match (answer, trouble) {
                (Err(error), _) => Some(Err(error)),
                // That it has credentials does not bring back the store.
                (Ok(_), Some((_, error))) if error.reason != Reason::CredentialsError => Some(Err(error)),
                (Ok(identity), _) => Some(Ok(identity)),
            }
        }
    }
}

fn wake(context: &Context, id: &ProviderId) {
    for key in context.resources.with_provider(id) {
        context.queue.push(&key, Lane::Event);
    }
}

fn ready(provider: &Provided) -> Option<&Condition> {
    provider.status.conditions.iter().find(|condition| condition.type_ == READY)
}

/// Whether the provider's status says this already.
fn says(provider: &Provided, verdict: &Verdict) -> bool {
    let status = &provider.status;
    ready(provider).is_some_and(|ready| {
        (ready.status.as_str(), ready.reason.as_str(), &ready.message) == (verdict.status, verdict.reason, &verdict.message)
            && status.identity == verdict.identity
            && status.observed_generation == Some(provider.generation)
    })
}

async fn tell(context: &Context, provider: &Provided, verdict: &Verdict, record: &mut Record) {
    if !says(provider, verdict) {
        let was = ready(provider).filter(|ready| ready.status == verdict.status);
        let condition = Condition {
            type_: READY.to_owned(),
            status: verdict.status.to_owned(),
            reason: verdict.reason.to_owned(),
            message: verdict.message.clone(),
            observed_generation: Some(provider.generation),
            last_transition_time: was.map_or_else(|| Time(Timestamp::now()), |was| was.last_transition_time.clone()),
        };
        let mut status = json!({"observedGeneration": provider.generation, "conditions": [condition]});
        if let Some(identity) = &verdict.identity {
            status["identity"] = json!(identity);
        }
        let is_told = record.told.as_ref().is_some_and(|(generation, told)| *generation == provider.generation && told == verdict);
        if !is_told && !write_status(context, &provider.id, MANAGER, &status).await {
            return;
        }
    }
    let is_new = record.told.as_ref().is_none_or(|(_, told)| (told.reason, &told.message) != (verdict.reason, &verdict.message));
    if verdict.status == "False" && is_new {
        tracing::warn!(provider = %provider.id, reason = verdict.reason, problem = verdict.message, "the provider does not work");
        context.events.publish_about(Notice { warning: true, reason: "CheckFailed", action: "Check", note: verdict.message.clone() }, provider.about.clone());
    }
    record.told = Some((provider.generation, verdict.clone()));
}

/// Writes a part of a provider's status. Returns whether it is written, or nobody is there any more to tell.
pub(super) async fn write_status(context: &Context, id: &ProviderId, manager: &str, status: &Value) -> bool {
    let body = json!({
        "apiVersion": format!("{GROUP}/v1alpha1"),
        "kind": id.kind().as_str(),
        "metadata": {"name": id.name},
        "status": status,
    });
    let (parameters, patch) = (PatchParams::apply(manager).force(), Patch::Apply(&body));
    let write = async {
        match &id.namespace {
            None => Api::<ClusterRobotoProvider>::all(context.client.clone()).patch_status(&id.name, &parameters, &patch).await.map(drop),
            Some(namespace) => Api::<RobotoProvider>::namespaced(context.client.clone(), namespace).patch_status(&id.name, &parameters, &patch).await.map(drop),
        }
    };
    match context.metrics.kube_write("Status", write).await {
        Ok(()) => true,
        Err(kube::Error::Api(error)) if error.code == 404 => true,
        Err(_) => {
            tracing::warn!(provider = %id, "the provider's status could not be written");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_identities_come_to_is_said_in_one_sentence() {
        let said = |answers: &[Result<&str, Reason>]| {
            let answers: Vec<_> = answers.iter().map(|answer| answer.map(str::to_owned).map_err(|reason| ReadError::new(reason, "because"))).collect();
            let Verdict { status, reason, message, identity } = Verdict::of(&answers);
            format!("{status} {reason} {message} ({})", identity.unwrap_or_default())
        };
        assert_eq!(said(&[Ok("a"), Ok("a")]), "True Identified reads as a (a)");
        assert_eq!(said(&[Ok("")]), "True Identified the store lets it in, and has no name for it ()");
        assert_eq!(said(&[Ok("a"), Ok("b")]), "True Identified reads as 2 identities, each for those it belongs to ()");
        assert_eq!(said(&[Err(Reason::CredentialsError)]), "False CredentialsError because ()");
        assert_eq!(said(&[Err(Reason::ProviderUnavailable), Err(Reason::CredentialsError), Ok("a")]), "False CredentialsError 2 of 3 identities: because ()");
        assert!(said(&[]).starts_with("Unknown Pending"));
    }
}
