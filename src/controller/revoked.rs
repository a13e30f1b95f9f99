//! What becomes of a Secret that was mirrored under a permission that was taken back.
//!
//! A resource that its provider refuses enters; where the provider says `onRevoked: Delete`, its Secret goes, or its keys go out of a shared one.
//! Nothing goes because a provider is missing, can't be read or is refused itself, nor because the resource asks for something else now.

use std::collections::BTreeSet;

use kube::Resource;

use super::{
    cache::Standing,
    mirror::Work,
    plan::Plan,
    queue::Next,
    status::{Failure, Notice},
    target::{Look, TargetError},
};
use crate::{
    api::robotosecret::{CreationPolicy, ProviderRef},
    provider::ReadError,
};

impl Work<'_> {
    /// Whether something of what the Secret holds was mirrored under a permission that was taken back, and is to go.
    pub(super) fn is_taken_back(&self, standing: &Standing, plan: &Plan) -> bool {
        let Some(target) = &standing.status.target else { return false };
        // What was mirrored for another spec was perhaps never refused.
        let is_for_this = !self.respecified(standing) || target.generation.is_some() && target.generation == self.resource.meta().generation;
        if !is_for_this {
            return false;
        }
        let own = &self.resource.spec.provider;
        let providers: BTreeSet<&ProviderRef> = plan.questions.iter().map(|planned| &planned.provider).collect();
        let record = standing.record();
        providers.into_iter().any(|provider| {
            let label = (provider != own).then(|| provider.label());
            let mine = record.iter().filter(|previous| !previous.gone && previous.served.provider == label);
            let uris: Vec<&str> = mine.map(|previous| previous.served.uri.as_str()).collect();
            self.context.providers.takes_back(provider, &self.key.0, &uris)
        })
    }

    /// Removes what was mirrored, and says so with the refusal.
    pub(super) async fn take_back(&self, standing: &mut Standing, refusal: &ReadError) -> Next {
        let (removed, what) = match self.remove_mirrored(standing).await {
            Ok(done) => done,
            Err(error) => return self.target_failed(standing, &error, true).await,
        };
        if removed {
            let note = format!("{what}: the permission under which it was mirrored was taken back (onRevoked: Delete)");
            self.context.events.publish(Notice { warning: true, reason: "Removed", action: "Remove", note }, self.resource);
        }
        standing.merged = None;
        let message = format!("{}; {what}, as the provider's onRevoked asks for", refusal.message);
        self.fail(standing, Failure { removed: true, ..Failure::new(refusal.reason, message, true) }, None).await
    }

    async fn remove_mirrored(&self, standing: &Standing) -> Result<(bool, String), TargetError> {
        let Some(was) = &standing.status.target else { return Ok((false, String::new())) };
        let name = &was.name;
        let nothing = Ok((false, format!("the Secret {name} was gone already")));
        let Look::Ours(seen) = self.target().look(name).await? else { return nothing };
        if seen.uid != was.uid {
            return nothing;
        }
        if self.wanted.policy == CreationPolicy::Merge || !seen.belongs_to(self.claim().name, self.claim().uid) {
            self.target().release(&seen).await?;
            return Ok((true, format!("the mirrored keys were taken out of the Secret {name}")));
        }
        self.target().delete(&seen).await?;
        self.context.secrets.remove(&self.key.0, &seen);
        Ok((true, format!("the Secret {name} was deleted")))
    }
}
