//! Listings: which names belong to one, and how its pages become one answer.
//!
//! Pages enter, in any order and with more than was asked for; one reading leaves, by name, each name once. What the store was asked to
//! filter is checked here again, to the letter: its filters only narrow. A part of a listing never passes for the whole.

use std::{collections::BTreeMap, time::Duration};

use futures::future::BoxFuture;

use super::errors::{self, Failure};
use crate::{
    api::{Reason, reference::Store},
    provider::{Calls, Listing, MOST_NAMES, ReadError, Reading, too_many_names},
};

/// How many bytes the values of a listing may have: many times what one Secret holds.
const MOST_BYTES: usize = 16 << 20;
/// How long to wait after each throttled answer to a page, before the listing is given up.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// One page of a listing.
pub(super) struct Page {
    /// Names, with their values where the store tells them.
    pub(super) entries: Vec<(String, Option<Reading>)>,
    /// What to ask the next one by. The last page has none.
    pub(super) next: Option<String>,
}

/// Whether a name belongs to a listing, as far as the name tells.
fn holds(listing: &Listing, name: &str) -> bool {
    let rest = match (listing.store, &listing.path) {
        (Store::SecretsManager, None) => Some(name),
        (Store::SecretsManager, Some(path)) => name.strip_prefix(path.as_str()).map(|rest| rest.strip_prefix('/').unwrap_or(rest)),
        // What stands at the root may be named without its slash.
        (Store::ParameterStore, None) => Some(name.strip_prefix('/').unwrap_or(name)),
        (Store::ParameterStore, Some(path)) => match path.trim_end_matches('/') {
            "" => Some(name.strip_prefix('/').unwrap_or(name)),
            path => name.strip_prefix(path).and_then(|rest| rest.strip_prefix('/')).filter(|rest| !rest.is_empty()),
        },
        // No other store's listing comes here.
        (_, _) => None,
    };
    rest.is_some_and(|rest| listing.recursive || !rest.contains('/'))
}

/// Whether somebody has all the tags of a listing, each with its very value.
pub(super) fn is_tagged<'t>(listing: &Listing, tags: &(impl Iterator<Item = (Option<&'t str>, Option<&'t str>)> + Clone)) -> bool {
    listing.tags.iter().all(|(tag, value)| tags.clone().any(|has| has == (Some(tag), Some(value))))
}

/// Asks for one page after the other until the last, also over empty ones. `page` asks for the first or for the one of this token.
pub(super) async fn read<'c>(
    listing: &Listing,
    calls: &Calls,
    page: impl Fn(Option<String>) -> BoxFuture<'c, Result<Page, Failure>>,
) -> Result<Reading, ReadError> {
    let (mut found, mut bytes, mut token) = (BTreeMap::new(), 0, None);
    loop {
        let Page { entries, next } = patiently(calls, || page(token.clone())).await?;
        for (name, reading) in entries.into_iter().filter(|(name, _)| holds(listing, name)) {
            bytes += reading.as_ref().map_or(0, Reading::size);
            // What moved while it was listed may come twice; the later answer is the newer one.
            found.insert(name, reading);
        }
        calls.found(found.len());
        if found.len() > MOST_NAMES {
            return Err(too_many_names());
        }
        if bytes > MOST_BYTES {
            return Err(ReadError::new(Reason::TargetRejected, "its values are more than a Secret can ever hold; narrow it by path, or remove some"));
        }
        match next.filter(|next| !next.is_empty()) {
            None => return Ok(Reading::list(listing.store, found)),
            // It would never end.
            next if next == token => return Err(errors::misunderstood()),
            next => token = next,
        }
    }
}

/// One call, and again after each pause as long as it is throttled.
async fn patiently<'c>(calls: &Calls, page: impl Fn() -> BoxFuture<'c, Result<Page, Failure>>) -> Result<Page, ReadError> {
    let mut pauses = PAUSES.iter();
    loop {
        let Some(answer) = calls.make(page()).await else { return Err(errors::silent()) };
        let error = match answer {
            Ok(page) => return Ok(page),
            Err(Failure { error, .. }) => error,
        };
        match pauses.next().filter(|_| error.reason == Reason::Throttled) {
            Some(pause) => {
                if !error.own {
                    calls.throttled();
                }
                tokio::time::sleep(*pause).await;
            }
            None => return Err(refused(error)),
        }
    }
}

/// A listing is never absent: what the store can't look up is mostly wrong in the question, and may yet be put right in the store.
fn refused(error: ReadError) -> ReadError {
    if error.reason == Reason::SourceNotFound {
        return ReadError { absent: false, message: "the store refuses to list this; check path and tags".to_owned(), ..error };
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{ServedVersion, Value};

    fn listing(store: Store, path: Option<&str>, recursive: bool) -> Listing {
        Listing { store, path: path.map(str::to_owned), recursive, tags: BTreeMap::new() }
    }

    #[test]
    fn a_secret_belongs_to_what_its_name_starts_with() {
        let holds = |path, recursive, name| holds(&listing(Store::SecretsManager, path, recursive), name);
        for name in ["prod/app", "prod/app/x", "prod/app-x", "prod/apple/x"] {
            assert!(holds(Some("prod/app"), true, name) && holds(None, true, name), "{name}");
        }
        for name in ["prod/ap", "Prod/app/x", "PROD/APP", "x/prod/app", "/prod/app"] {
            assert!(!holds(Some("prod/app"), true, name) && holds(None, true, name), "{name}");
        }
        for (path, name, expected) in [
            (Some("prod/app"), "prod/app", true),
            (Some("prod/app"), "prod/app/x", true),
            (Some("prod/app"), "prod/app-x", true),
            (Some("prod/app"), "prod/app/x/y", false),
            (Some("prod/app"), "prod/apple/x", false),
            (Some("prod/app/"), "prod/app/x", true),
            (Some("prod/app/"), "prod/app/x/y", false),
            (None, "x", true),
            (None, "x/y", false),
        ] {
            assert_eq!(holds(path, false, name), expected, "{path:?} {name}");
        }
    }

    #[test]
    fn a_parameter_belongs_to_the_path_that_it_lies_below() {
        let holds = |path, recursive, name| holds(&listing(Store::ParameterStore, path, recursive), name);
        for path in ["/prod/app", "/prod/app/"] {
            for (name, recursive, expected) in [
                ("/prod/app/x", true, true),
                ("/prod/app/x", false, true),
                ("/prod/app/x/y", true, true),
                ("/prod/app/x/y", false, false),
                ("/prod/app", true, false),
                ("/prod/app/", true, false),
                ("/prod/apple/x", true, false),
                ("/Prod/app/x", true, false),
                ("prod/app/x", true, false),
            ] {
                assert_eq!(holds(Some(path), recursive, name), expected, "{path} {name} {recursive}");
            }
        }
        for path in [None, Some("/"), Some("")] {
            assert!(holds(path, true, "/x/y") && holds(path, false, "/x") && holds(path, false, "x") && !holds(path, false, "/x/y"), "{path:?}");
        }
    }

    #[test]
    fn tags_are_pairs() {
        let mut listing = listing(Store::SecretsManager, None, true);
        listing.tags.insert("foo".to_owned(), "bar".to_owned());
        let tagged = |listing: &Listing, tags: &[(&str, &str)]| is_tagged(listing, &tags.iter().map(|(tag, value)| (Some(*tag), Some(*value))));
        assert!(tagged(&listing, &[("a", "b"), ("foo", "bar")]));
        for tags in [&[("foo2", "barbaz")][..], &[("foo", "x"), ("y", "bar")], &[("Foo", "bar")], &[("foo", "Bar")], &[("bar", "foo")], &[]] {
            assert!(!tagged(&listing, tags), "{tags:?}");
        }
        listing.tags.insert("empty".to_owned(), String::new());
        assert!(tagged(&listing, &[("foo", "bar"), ("empty", "")]) && !tagged(&listing, &[("foo", "bar")]));
        assert!(!is_tagged(&listing, &[(Some("foo"), Some("bar")), (Some("empty"), None)].into_iter()));
    }

    #[test]
    fn the_version_of_a_listing_tells_its_members_and_their_versions() {
        let member = |name: &str, id: Option<&str>| {
            let version = id.map(|id| ServedVersion { arn: "arn".to_owned(), id: id.to_owned(), created: None, region: None });
            (name.to_owned(), version.map(|version| Reading { value: Value::List(Vec::new()), version, denotes: Vec::new(), record: None }))
        };
        let version = |members: &[(&str, Option<&str>)]| {
            let found = members.iter().map(|(name, id)| member(name, *id)).collect();
            Reading::list(Store::ParameterStore, found).version.id
        };
        let versions = [
            version(&[]),
            version(&[("/a", None)]),
            version(&[("/a", Some("1"))]),
            version(&[("/a", Some("2"))]),
            version(&[("/a", None), ("/b", None)]),
            version(&[("/a/b", None)]),
            version(&[("/b", None)]),
        ];
        for (number, one) in versions.iter().enumerate() {
            assert_eq!(one.len(), 32);
            assert!(versions.iter().skip(number + 1).all(|other| other != one), "{versions:?}");
        }
        assert_eq!(version(&[("/b", None), ("/a", None)]), versions[4]);
    }
}
