//! What is searched for in a store: below a path, or by name and tags.
//!
//! A path or words enter; the question to the store leaves, and which of its answers belong to it, by which name. Pure: no I/O. What no reference could name
//! is never found.

use std::collections::BTreeMap;

use regex::Regex;

use super::Listing;
use crate::{
    api::reference::{Name, Reference, ReferenceError, Source, Store},
    render::naming::expression,
};

/// What a search in Vault or Edge is told that has none: there is no list of all mounts, or of all that Edge keeps.
const NO_PATH: &str = "a search in Vault has a path, from the mount on, and one in Edge the path user or org";

/// What is wrong with a search. The message says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SearchError {
    /// Nothing could lie below its path.
    #[error(transparent)]
    Path(#[from] ReferenceError),
    /// The expression for names is none.
    #[error("{0}")]
    Name(String),
    /// It leaves out what it can't do without.
    #[error("{0}")]
    Missing(&'static str),
    /// The store answers none of this kind.
    #[error("{0}")]
    Unsupported(&'static str),
}

/// Which of those that a store lists belong to a search, and by which name.
#[derive(Debug)]
pub struct Search {
    store: Store,
    path: Option<String>,
    recursive: bool,
    /// Whether the name goes without the path.
    relative: bool,
    name: Option<Regex>,
}

impl Search {
    /// All below a path (`aws.ps:///prod/app`, `vault://kv/shop`), by the rest of their names. An error says what to write instead.
    pub fn below(uri: &str, recursive: bool) -> Result<(Listing, Self), SearchError> {
        let (scheme, path) = uri.split_once("://").ok_or(ReferenceError::Path("a path is aws.ps:///prod/app or aws.sm://prod/app"))?;
        let store: Store = scheme.parse()?;
        check_listed(store, false)?;
        let path = checked_path(store, path)?;
        let listing = Listing { store, path: Some(path.clone()), recursive, tags: BTreeMap::new() };
        Ok((listing, Self { store, path: Some(path), recursive, relative: true, name: None }))
    }

    /// Those below a path, if one is given, whose names match an expression and that have these tags, by their whole names. An error says
    /// what to write instead.
    pub fn matching(store: Store, path: Option<&str>, name: Option<&str>, tags: BTreeMap<String, String>) -> Result<(Listing, Self), SearchError> {
        check_listed(store, !tags.is_empty())?;
        if path.is_none() && matches!(store, Store::Vault | Store::Edge) {
            return Err(SearchError::Missing(NO_PATH));
        }
        let path = path.map(|path| checked_path(store, path)).transpose()?;
        let name = name.map(expression).transpose().map_err(SearchError::Name)?;
        if path.is_none() && name.is_none() && tags.is_empty() {
            return Err(SearchError::Missing("write at least one of path, name and tags"));
        }
        let listing = Listing { store, path: path.clone(), recursive: true, tags };
        Ok((listing, Self { store, path, recursive: true, relative: false, name }))
    }

    /// The name that this source goes by, if the search would find it. Tags don't show here.
    #[must_use]
    pub fn name_of(&self, source: &Source) -> Option<String> {
        let (Name::Plain(name), None) = (&source.name, &source.version) else { return None };
        // What no reference could name, a policy could read differently from the store.
        if source.store != self.store || Reference::new(self.store, name, None, Vec::new()).is_err() {
            return None;
        }
        // A search is over the provider's own organisation: what names another was never found by it.
        if self.store.has_organizations() && name.contains('@') {
            return None;
        }
        let short = match &self.path {
            Some(path) => self.rest(path, name)?,
            None => name,
        };
        let found = self.name.as_ref().is_none_or(|regexp| regexp.is_match(name));
        found.then(|| if self.relative { short } else { name }.to_owned())
    }

    /// The part of the name that lies below the path.
    fn rest<'n>(&self, path: &str, name: &'n str) -> Option<&'n str> {
        let rest = name.strip_prefix(path)?;
        let short = match self.store {
            Store::ParameterStore | Store::Vault | Store::Edge | Store::Roboto | Store::Envase => {
                rest.strip_prefix('/').or_else(|| path.ends_with('/').then_some(rest))?
            }
            // A prefix may end within a segment: that segment then belongs to the name.
            Store::SecretsManager if path.ends_with('/') || rest.starts_with('/') => rest.strip_prefix('/').unwrap_or(rest),
            Store::SecretsManager => &name[path.rfind('/').map_or(0, |slash| slash + 1)..],
        };
        (!short.is_empty() && (self.recursive || !short.contains('/'))).then_some(short)
    }
}

/// Whether a store can be asked which values it has.
fn check_listed(store: Store, by_tags: bool) -> Result<(), SearchError> {
    match store {
        Store::Envase => Err(SearchError::Unsupported("Envase has no list of its secrets; name each")),
        _ if by_tags && !store.is_aws() => Err(SearchError::Unsupported("only AWS finds by tags")),
        _ => Ok(()),
    }
}

/// A path, held to the rules of names, but for the slash that it may end in.
fn checked_path(store: Store, path: &str) -> Result<String, ReferenceError> {
    if store == Store::ParameterStore && !path.starts_with('/') {
        return Err(ReferenceError::Path("a path in Parameter Store starts with a slash: /prod/app (aws.ps:///prod/app)"));
    }
    if path.is_empty() && matches!(store, Store::Vault | Store::Edge) {
        return Err(ReferenceError::Path(NO_PATH));
    }
    if path.is_empty() {
        return Err(ReferenceError::Path("it names no path; name one, or have all found by the name '.*' (find with name, on the command line --name)"));
    }
    if path == "/" && store.is_aws() {
        return Ok(path.to_owned());
    }
    let bare = path.strip_suffix('/').unwrap_or(path);
    if store == Store::Vault && path == "/" {
        return Err(ReferenceError::Path("a path in Vault begins with a mount: kv/shop (vault://kv/shop)"));
    }
    // A name that would be below it stands for all of them.
    let below = format!("{bare}/x");
    Reference::new(store, &below, None, Vec::new())?;
    if below.starts_with("arn:") {
        return Err(ReferenceError::Path("a path is no ARN"));
    }
    // For a parameter the slash says nothing; for a secret it ends the last segment.
    Ok(if store == Store::SecretsManager { path } else { bare }.to_owned())
}
