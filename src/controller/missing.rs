//! What the store shows no more: how it is judged for a resource, and how a provider tells that too much is missing.
//!
//! Looks at sources enter; verdicts leave, and the provider's condition `MassAbsence` with its event. The rules themselves are
//! [`absence`](super::absence)'s. Nothing is removed here.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use kube::Resource;
use serde_json::json;

use super::{
    absence::{Kind, Lens},
    attendance::write_status,
    cache::Standing,
    gather::{Gathered, Gathering, Sight, Verdict},
    mirror::{Context, Rounds, Work},
    plan::Plan,
    providers::{Admitted, MassAbsence, Through},
    served::{self, Previous},
    status::Notice,
};
use crate::{
    api::{
        Reason,
        provider::{CONFIRM_ABSENCE_ANNOTATION, MASS_ABSENCE, ProviderId},
        reference::Source,
    },
    provider::ReadError,
    reader::ScopeId,
};

/// By what it is remembered that something is missing of which no name is known.
const FORGOTTEN: &str = "forgotten";

impl Work<'_> {
    pub(super) fn gathering<'g>(&'g self, standing: &Standing, plan: &'g Plan, admitted: &'g [Admitted], previous: &'g [Previous]) -> Gathering<'g> {
        // Where nobody knows what was searched for, it may have been the same.
        let searched = standing.asked.is_none_or(|asked| asked.searches == self.asked.searches);
        Gathering { plan, admitted, namespace: &self.key.0, previous, searched, provider: &self.resource.spec.provider }
    }

    /// Whether it may have been mirrored from the same sources as are asked for now. Where only the status tells, an edit of another
    /// generation may have been one of the TTL; without a search, it is at worst one that takes out what is named.
    fn may_be_same(&self, standing: &Standing, plan: &Plan) -> bool {
        match standing.asked {
            Some(asked) => asked == self.asked,
            None => self.resource.meta().generation == standing.status.observed_generation || plan.searches(),
        }
    }

    /// What every entry found. What is missing is judged by how long it has been.
    pub(super) fn gather<'g>(
        &'g self,
        standing: &mut Standing,
        plan: &'g Plan,
        admitted: &'g [Admitted],
        previous: &'g [Previous],
        rounds: &'g Rounds,
    ) -> Result<Gathered<'g>, ReadError> {
        let now = Instant::now();
        let gathering = self.gathering(standing, plan, admitted, previous);
        let mut missing: BTreeSet<String> = BTreeSet::new();
        let absences = &mut standing.absences;
        let judge = |of: usize, source: &Source, sight: Sight| {
            let Through { scope, generation, confirmed, .. } = admitted[of].through;
            let (uri, provider) = (source.to_string(), ProviderId::meant(&plan.questions[of].provider, &self.key.0));
            let lens = Lens { scope, generation };
            let id = format!("{provider} {uri}");
            let kind = match sight {
                Sight::There => {
                    self.context.providers.sighted(scope, &uri, true);
                    return Verdict::Proven;
                }
                Sight::Gone => Kind::Gone,
                Sight::Unlisted => Kind::Unlisted,
            };
            let proven = absences.see(&id, kind, lens, now);
            let since = absences.since(&id).unwrap_or(now);
            missing.insert(id);
            if kind == Kind::Unlisted {
                return if proven { Verdict::Proven } else { Verdict::Waiting(String::new()) };
            }
            let is_confirmed = confirmed.is_some_and(|before| epoch(since) < before);
            // What a person confirmed is no accident any more.
            let mass = self.context.providers.sighted(scope, &uri, is_confirmed).is_some_and(|tally| tally.is_mass());
            if mass && !is_confirmed {
                return Verdict::Waiting(format!(
                    "nothing is removed while the {provider} says {MASS_ABSENCE}; if all that is really gone: {}",
                    confirmation(&provider)
                ));
            }
            if proven { Verdict::Proven } else { Verdict::Waiting("before anything is removed, a look at least a minute later has to agree".to_owned()) }
        };
        let mut gathered = gathering.gather(&rounds.first, &rounds.second, judge);
        if let Ok(found) = &gathered
            && let Some(lens) = admitted.first().map(|admitted| Lens { scope: admitted.through.scope, generation: admitted.through.generation })
            && self.may_be_same(standing, plan)
            && let lost = served::forgotten(previous, standing.status.source_count, &found.sources)
            && lost > 0
        {
            missing.insert(FORGOTTEN.to_owned());
            if !standing.absences.see(FORGOTTEN, Kind::Unlisted, lens, now) {
                let message = format!(
                    "{lost} fewer sources are found than were mirrored, more than a status lists, so that after a restart they can't be asked for by name; \
                     before their keys are taken out, the stores have to say so for more than five minutes"
                );
                gathered = Err(ReadError::new(Reason::SourceNotFound, message));
            }
        }
        standing.absences.keep_only(|id| missing.contains(id));
        gathered
    }

    /// Has a provider say that too much of it vanished.
    pub(super) async fn tell_mass_absence(&self, admitted: &[Admitted]) {
        let scopes: BTreeSet<_> = admitted.iter().map(|admitted| admitted.through.scope).collect();
        for scope in scopes {
            if let Some(mass) = self.context.providers.mass_absence(scope, false) {
                tell(self.context, scope, mass).await;
            }
        }
    }
}

/// Has providers say that no more is missing than can be believed: that comes with time, and while nobody looks at a resource.
pub(super) async fn watch_mass_absence(context: Arc<Context>) {
    loop {
        tokio::time::sleep(Duration::from_mins(1)).await;
        context.providers.sweep();
        for scope in context.providers.scopes() {
            if let Some(mass) = context.providers.mass_absence(scope, true) {
                tell(&context, scope, mass).await;
            }
        }
    }
}

/// What a person types who knows that all is really gone.
fn confirmation(id: &ProviderId) -> String {
    let namespace = id.namespace.as_ref().map(|namespace| format!(" --namespace {namespace}")).unwrap_or_default();
    let kind = id.kind().as_str().to_lowercase();
    format!("kubectl annotate {kind} {}{namespace} --overwrite {CONFIRM_ABSENCE_ANNOTATION}=$(date +%s)", id.name)
}

async fn tell(context: &Context, scope: ScopeId, MassAbsence { provider, tally }: MassAbsence) {
    let id = &provider.id;
    let (status, reason, message) = if tally.is_mass() {
        let message = format!(
            "so much vanished from the store that it is taken for an accident ({} references and more; up to {} are believed), and nothing is removed. If all of it is really gone: {}",
            tally.limit,
            tally.limit - 1,
            confirmation(id)
        );
        ("True", "TooManyAtOnce", message)
    } else {
        ("False", "Few", "few references vanished from the store within the last hour".to_owned())
    };
    tracing::warn!(provider = %id, vanished = tally.vanished, limit = tally.limit, mass = tally.is_mass(), "references vanished from the store");
    let condition = Condition {
        type_: MASS_ABSENCE.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.clone(),
        observed_generation: Some(provider.generation),
        last_transition_time: Time(Timestamp::now()),
    };
    if !write_status(context, id, "robotosecret", &json!({"conditions": [condition]})).await {
        context.providers.untold(scope);
    }
    if tally.is_mass() {
        context.events.publish_about(Notice { warning: true, reason: "MassAbsence", action: "Check", note: message }, provider.about.clone());
    }
}

/// A moment in seconds since the epoch.
fn epoch(moment: Instant) -> i64 {
    let then = SystemTime::now().checked_sub(moment.elapsed()).unwrap_or(SystemTime::UNIX_EPOCH);
    then.duration_since(SystemTime::UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or_default()
}
