//! The SDK's cache of credentials, which is thrown away once AWS says that what is in it has run out.
//!
//! The SDK renews credentials by the time at which they run out. Some have none (keys in a file that somebody else rewrites), and a clock
//! may be wrong. An answer that says so enters, and the next call fetches credentials anew; the call itself fails and is tried again by
//! the reader. Credentials never leave the cache.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aws_config::identity::IdentityCache;
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        identity::{IdentityFuture, ResolveCachedIdentity, SharedIdentityCache, SharedIdentityResolver},
        interceptors::{Intercept, context::AfterDeserializationInterceptorContextRef, dyn_dispatch_hint},
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::config_bag::ConfigBag;

/// What AWS calls credentials that have run out, or begins that name with.
const RUN_OUT: &[u8] = b"ExpiredToken";
/// Credentials are renewed this long before they run out, less up to a half. Instances get new ones five minutes before.
const EARLY: Duration = Duration::from_secs(4 * 60);
/// How many identities are kept; beyond, the SDK forgets one at random, which then is asked for again.
const IDENTITIES: usize = 1024;
/// How often the cache is thrown away at most: if new credentials are refused as well, newer ones are not the remedy.
const PAUSE: Duration = Duration::from_secs(30);

/// The cache of all clients: whoever comes first fetches, the others wait for the same answer.
#[derive(Clone, Debug)]
pub(super) struct Renewing(Arc<Mutex<Renewed>>);

#[derive(Debug)]
struct Renewed {
    cache: SharedIdentityCache,
    last: Option<Instant>,
}

impl Renewing {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Renewed { cache: empty(), last: None })))
    }

    fn renewed(&self) -> MutexGuard<'_, Renewed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn renew(&self, now: Instant) {
        let mut renewed = self.renewed();
        if renewed.last.is_none_or(|last| now.duration_since(last) >= PAUSE) {
            *renewed = Renewed { cache: empty(), last: Some(now) };
        }
    }
}

fn empty() -> SharedIdentityCache {
    IdentityCache::lazy().buffer_time(EARLY).max_partitions(IDENTITIES).build()
}

impl ResolveCachedIdentity for Renewing {
    fn resolve_cached_identity<'a>(&'a self, resolver: SharedIdentityResolver, components: &'a RuntimeComponents, bag: &'a ConfigBag) -> IdentityFuture<'a> {
        let cache = self.renewed().cache.clone();
        IdentityFuture::new(async move { cache.resolve_cached_identity(resolver, components, bag).await })
    }
}

#[dyn_dispatch_hint]
impl Intercept for Renewing {
    fn name(&self) -> &'static str {
        "Renewing"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // What holds a value is not looked at.
        let refused = Some(context.response()).filter(|response| response.status().is_client_error());
        let body = refused.and_then(|response| response.body().bytes()).unwrap_or_default();
        if body.windows(RUN_OUT.len()).any(|part| part == RUN_OUT) {
            self.renew(Instant::now());
        }
        Ok(())
    }
}
