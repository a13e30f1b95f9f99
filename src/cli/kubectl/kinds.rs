//! The kinds that commands work on alike: RobotoSecrets, and RobotoPushes as `push/NAME`.
//!
//! Names as they are typed enter; which of each kind are meant, and what is asked of one of either kind, leave. Pure.

use std::fmt::Debug;

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use kube::{Resource, ResourceExt, core::NamespaceResourceScope};
use robotosecret::api::{Reason, RobotoPush, RobotoSecret};
use serde::de::DeserializeOwned;

/// What the name of a RobotoPush begins with: as kubectl would have it, short, and shorter.
const PUSHES: [&str; 4] = ["push/", "rpush/", "robotopush/", "robotopushes/"];

/// A kind, as far as commands care.
pub trait Kind: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + 'static {
    /// What its names are shown with in front.
    const PREFIX: &'static str;
    /// What changes when it is refreshed.
    const CHANGES: &'static str;

    /// `spec.suspend`.
    fn is_suspended(&self) -> bool;
    /// What its status says; nothing where there is none.
    fn told(&self) -> Told<'_>;
    /// What tells contents apart.
    fn content(&self) -> Content;

    /// What helps against a reason.
    fn cure(reason: Reason) -> &'static str {
        reason.cure()
    }

    /// Its name, as it is typed.
    fn shown(&self) -> String {
        format!("{}{}", Self::PREFIX, self.name_any())
    }
}

/// What the statuses of both kinds say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told<'k> {
    /// Its conditions.
    pub conditions: &'k [Condition],
    /// Which generation it speaks of.
    pub observed: Option<i64>,
    /// When it was last checked with success.
    pub checked: Option<&'k Time>,
    /// The last request to refresh that was carried out.
    pub handled: Option<&'k str>,
}

impl Told<'_> {
    /// The condition of this type.
    pub fn condition(&self, type_: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == type_)
    }
}

/// What tells contents apart: times are in whole seconds, so that versions are compared as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    changed: Option<Time>,
    versions: Vec<(String, String)>,
}

impl Content {
    /// When it last changed.
    pub fn changed(&self) -> Option<Timestamp> {
        self.changed.as_ref().map(|time| time.0)
    }
}

impl Kind for RobotoSecret {
    const PREFIX: &'static str = "";
    const CHANGES: &'static str = "the Secret";

    fn is_suspended(&self) -> bool {
        self.spec.suspend
    }

    fn told(&self) -> Told<'_> {
        self.status.as_ref().map_or_else(Told::default, |status| Told {
            conditions: &status.conditions,
            observed: status.observed_generation,
            checked: status.last_check_time.as_ref(),
            handled: status.last_handled_refresh.as_deref(),
        })
    }

    fn content(&self) -> Content {
        let Some(status) = &self.status else { return Content::default() };
        let versions = status.sources.iter().map(|source| (source.uri.clone(), source.version.clone())).collect();
        Content { changed: status.last_change_time.clone(), versions }
    }
}

impl Kind for RobotoPush {
    const PREFIX: &'static str = "push/";
    const CHANGES: &'static str = "the store";

    fn cure(reason: Reason) -> &'static str {
        match reason {
            Reason::Pending => "does the controller run and serve that namespace (push.enabled, rbac.namespaces)? Is it the leader?",
            Reason::NotAllowed => "as the message says: a rule of the provider with verbs: [write], or the namespace in push.namespaces",
            Reason::SourceNotFound => "put the Secret, or its key, back; or take it out of the spec. The store keeps what it has",
            Reason::KeypathNotFound => "correct the #/pointer, or what is at the store",
            Reason::TargetNotOwned => {
                "as the message says: another name at the store, or what is there given up by whoever has it; adopt: true takes over what is nobody's"
            }
            Reason::TargetConflict => "as the message says; nothing was lost",
            Reason::TargetRejected => "as the message says: another value, another name, or another place",
            other => other.cure(),
        }
    }

    fn is_suspended(&self) -> bool {
        self.spec.suspend
    }

    fn told(&self) -> Told<'_> {
        self.status.as_ref().map_or_else(Told::default, |status| Told {
            conditions: &status.conditions,
            observed: status.observed_generation,
            checked: status.last_check_time.as_ref(),
            handled: status.last_handled_refresh.as_deref(),
        })
    }

    fn content(&self) -> Content {
        let Some(status) = &self.status else { return Content::default() };
        let versions = status.targets.iter().map(|target| (target.uri.clone(), target.version.clone().unwrap_or_default())).collect();
        Content { changed: status.last_write_time.clone(), versions }
    }
}

/// Names as they are typed, by kind.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Of RobotoSecrets.
    pub secrets: Vec<String>,
    /// Of RobotoPushes.
    pub pushes: Vec<String>,
}

impl Names {
    /// Which of each kind are meant.
    pub fn of(names: &[String]) -> Self {
        let mut sorted = Self::default();
        for name in names {
            match push_name(name) {
                Some(push) => sorted.pushes.push(push.to_owned()),
                None => sorted.secrets.push(name.clone()),
            }
        }
        sorted
    }
}

/// The name of a RobotoPush, if one is meant.
pub fn push_name(name: &str) -> Option<&str> {
    PUSHES.iter().find_map(|prefix| name.strip_prefix(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_is_named_with_its_kind() {
        let names = ["db", "push/db", "rpush/a", "robotopush/b", "robotopushes/c"].map(str::to_owned);
        assert_eq!(Names::of(&names), Names { secrets: vec!["db".into()], pushes: ["db", "a", "b", "c"].map(str::to_owned).to_vec() });
    }
}
