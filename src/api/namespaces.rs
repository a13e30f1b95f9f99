//! Which namespaces are meant: by name, by their labels, or all.
//!
//! Pure: a namespace and its labels enter, yes or no leaves. What can't be read selects nothing.

#![allow(clippy::doc_markdown)] // `kubectl explain` prints them, where backticks are noise.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::{
    KubeSchema,
    core::{Selector, SelectorExt},
};
use serde::{Deserialize, Serialize};

/// The labels of an object.
pub type Labels = BTreeMap<String, String>;

/// A namespace as far as it matters who may do what in it.
#[derive(Clone, Copy, Debug)]
pub struct Place<'p> {
    /// Its name.
    pub name: &'p str,
    /// Its labels; none where it isn't known.
    pub labels: &'p Labels,
}

/// Namespaces: exactly one of its fields.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct Namespaces {
    /// Namespaces by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 63)))]
    pub names: Option<Vec<String>>,
    /// Namespaces by their labels. All that is written must hold; an empty selector is refused, write `all: true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<NamespaceSelector>,
    /// `true`: every namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self").message("write all: true, or name the namespaces"))]
    pub all: Option<bool>,
}

/// Labels that a namespace has to have. Whoever may label namespaces decides which are meant.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1))]
pub struct NamespaceSelector {
    /// Labels with exactly these values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[schemars(extend("minProperties" = 1, "maxProperties" = 32))]
    pub match_labels: Option<Labels>,
    /// Further conditions on labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub match_expressions: Option<Vec<LabelCondition>>,
}

/// A condition on one label.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)").message("In and NotIn take values; Exists and DoesNotExist take none"))]
pub struct LabelCondition {
    /// The label.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// How it is compared.
    pub operator: LabelOperator,
    /// With what, for `In` and `NotIn`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    pub values: Vec<String>,
}

/// How a label is compared.
#[derive(Serialize, Deserialize, schemars::JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LabelOperator {
    /// It has one of the values.
    #[default]
    In,
    /// It has none of the values, or isn't there.
    NotIn,
    /// It is there.
    Exists,
    /// It isn't there.
    DoesNotExist,
}

impl LabelOperator {
    const fn as_str(self) -> &'static str {
        match self {
            Self::In => "In",
            Self::NotIn => "NotIn",
            Self::Exists => "Exists",
            Self::DoesNotExist => "DoesNotExist",
        }
    }
}

impl NamespaceSelector {
    fn matches(&self, labels: &Labels) -> bool {
        let expression = |condition: &LabelCondition| LabelSelectorRequirement {
            key: condition.key.clone(),
            operator: condition.operator.as_str().to_owned(),
            values: (!condition.values.is_empty()).then(|| condition.values.clone()),
        };
        let selector = LabelSelector {
            match_labels: self.match_labels.clone(),
            match_expressions: self.match_expressions.as_ref().map(|all| all.iter().map(expression).collect()),
        };
        // An empty selector would match everything, which is `all: true` and nothing less outspoken.
        Selector::try_from(selector).is_ok_and(|selector| !selector.selects_all() && selector.matches(labels))
    }
}

impl Namespaces {
    /// Whether this namespace is meant.
    #[must_use]
    pub fn contain(&self, place: Place<'_>) -> bool {
        self.all == Some(true)
            || self.names.iter().flatten().any(|name| name == place.name)
            || self.selector.as_ref().is_some_and(|selector| selector.matches(place.labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn means(yaml: &str, name: &str, labels: &[(&str, &str)]) -> bool {
        let namespaces: Namespaces = serde_yaml::from_str(yaml).expect("namespaces");
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        namespaces.contain(Place { name, labels: &labels })
    }

    #[test]
    fn namespaces_are_meant_by_name_label_or_all() {
        assert!(means("names: [shop]", "shop", &[]) && !means("names: [shop]", "shopping", &[]) && !means("names: [shop]", "sho", &[]));
        assert!(means("all: true", "anything", &[]) && !means("all: false", "anything", &[]) && !means("{}", "anything", &[]));
        let team = "selector: {matchLabels: {team: shop}}";
        assert!(means(team, "x", &[("team", "shop"), ("a", "b")]) && !means(team, "x", &[("team", "shops")]) && !means(team, "shop", &[]));
    }

    #[test]
    fn all_conditions_of_a_selector_hold() {
        let both = "selector: {matchLabels: {team: shop}, matchExpressions: [{key: env, operator: NotIn, values: [dev]}, {key: x, operator: DoesNotExist}]}";
        assert!(means(both, "n", &[("team", "shop")]) && means(both, "n", &[("team", "shop"), ("env", "prod")]));
        assert!(!means(both, "n", &[("team", "shop"), ("env", "dev")]) && !means(both, "n", &[("team", "shop"), ("x", "")]));
    }

    #[test]
    fn what_says_nothing_selects_nothing() {
        for yaml in
            ["selector: {}", "selector: {matchLabels: {}}", "selector: {matchExpressions: []}", "selector: {matchExpressions: [{key: a, operator: In}]}"]
        {
            assert!(!means(yaml, "n", &[]) && !means(yaml, "n", &[("a", "b")]), "{yaml}");
        }
    }
}
