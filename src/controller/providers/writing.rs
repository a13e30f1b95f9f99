//! Which provider a reference is written through, and whether it may.
//!
//! A reference and who asks enter; a client leaves, or the reason why nothing may be written. Makes no call. What may be read may not be
//! written by that: a rule has to name the verb.

use std::sync::Arc;

use super::{Asker, Providers};
use crate::{
    api::{
        Reason,
        allow::{Home, Refusal, Verb, permit},
        namespaces::Place,
        provider::ProviderId,
        reference::Source,
        robotosecret::ProviderRef,
    },
    controller::push::breakers::Breakers,
    provider::{ReadError, opened::Opened},
};

/// What something may be written through.
#[derive(Clone)]
pub struct Writable {
    /// The client.
    pub store: Opened,
    /// Whether it is asked at all.
    pub breakers: Arc<Breakers>,
}

impl Providers {
    /// A client to write a source with, if the provider's rules let the namespace write it under every name that it denotes.
    pub fn admit_write(&self, provider: &ProviderRef, source: &Source, asker: Asker<'_>) -> Result<Writable, ReadError> {
        let id = ProviderId::meant(provider, asker.namespace);
        let found = self.find(&id)?;
        if let Some(problem) = self.terms.refuse(&id, &found.backend) {
            return Err(ReadError::new(Reason::NotAllowed, problem));
        }
        if !found.backend.serves(source.store) {
            let problem = format!("{source}: the {id} is for {}; name another provider in spec.provider", found.backend.field());
            return Err(ReadError::new(Reason::InvalidSpec, problem));
        }
        let labels = self.namespaces.labels(asker.namespace);
        let place = Place { name: asker.namespace, labels: &labels };
        // Whose account an ARN belongs to is known once the identity is.
        let account = source.arn().and_then(|_| self.known_account(&found, asker));
        let home = Home { region: found.region(), account: account.as_deref() };
        permit(&found.rules, Verb::Write, place, source, home).map_err(|refusal| refused(&id, asker.namespace, source, &refusal))?;
        self.through(&found, asker, &labels)?;
        let opened = self
            .built()
            .get(&id)
            .and_then(|built| built.scopes.get(&found.variant(asker)))
            .map(|scoped| Writable { store: scoped.provider.clone(), breakers: scoped.breakers.clone() });
        opened.ok_or_else(|| ReadError::new(Reason::InternalError, "a defect of the controller: a provider that was just opened is gone"))
    }

    /// Whether what two providers call by one name may be one thing. Where that is not known, it may.
    #[must_use]
    pub fn may_be_one_place(&self, one: &ProviderRef, other: &ProviderRef, namespace: &str) -> bool {
        let (one, other) = (ProviderId::meant(one, namespace), ProviderId::meant(other, namespace));
        match (self.find(&one), self.find(&other)) {
            (Ok(one), Ok(other)) => one.backend.field() == other.backend.field() && one.region() == other.region(),
            _ => true,
        }
    }
}

fn refused(id: &ProviderId, namespace: &str, source: &Source, refusal: &Refusal) -> ReadError {
    let (what, rest) = match refusal {
        Refusal::Reference(name) if *name == source.to_string() => (source.to_string(), "it".to_owned()),
        Refusal::Reference(name) => (source.to_string(), name.clone()),
        Refusal::Region(region) => (source.to_string(), format!("the region {region}")),
        Refusal::Account(account) => (source.to_string(), format!("the account {account}")),
    };
    let problem = format!("the {id} does not allow the namespace {namespace} to write {what}; add {rest} to a rule in its spec.allow with verbs: [write]");
    ReadError::new(Reason::NotAllowed, problem)
}
