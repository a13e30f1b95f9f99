//! Loops: a Secret that is mirrored from a reference is not pushed to that reference.
//!
//! The targets of a RobotoPush and the RobotoSecrets that mirror into its Secret enter; the first loop leaves, in words. Pure but for asking which
//! providers may be one place. Only loops of one RobotoSecret and one RobotoPush are seen, not longer ones.

use super::plan::{Target, names};
use crate::{
    api::{
        Reason, RobotoSecret,
        reference::{Source, without_root},
        robotosecret::ProviderRef,
    },
    controller::plan::Plan,
    provider::{Listing, Question, ReadError},
};

/// Why a push would come back to its own Secret; `None`: it doesn't.
pub fn find(
    targets: &[Target],
    provider: &ProviderRef,
    mirrors: &[(String, RobotoSecret)],
    may_be_one: impl Fn(&ProviderRef, &ProviderRef) -> bool,
) -> Option<ReadError> {
    for (name, mirror) in mirrors {
        // One that can't be carried out mirrors nothing.
        let Ok(plan) = Plan::new(&mirror.spec) else { continue };
        for planned in plan.questions.iter().filter(|planned| may_be_one(&planned.provider, provider)) {
            if let Some(target) = targets.iter().find(|target| reads(&planned.question, &target.source)) {
                let problem = format!(
                    "{}: the RobotoSecret {name} mirrors it into the Secret that is pushed there, and neither would ever come to rest; push another Secret, or to another reference",
                    target.source
                );
                return Some(ReadError::new(Reason::TargetConflict, problem));
            }
        }
    }
    None
}

/// Whether a question may be answered with the value of a source.
fn reads(question: &Question, source: &Source) -> bool {
    match question {
        Question::Value(read) | Question::Presence { source: read, .. } => {
            let through = read.through_secrets_manager();
            let same = |read: &Source| !names(read).is_disjoint(&names(source));
            same(read) || through.iter().any(|(read, _)| same(read))
        }
        // Tags are no value.
        Question::Tags(_) => false,
        Question::List(Listing { store, path, .. }) => {
            let below = without_root(&format!("{store}://{}", path.as_deref().unwrap_or_default()));
            *store == source.store && names(source).iter().any(|name| name.starts_with(&below))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(mirror: &str, push: &str) -> Option<String> {
        let spec = serde_yaml::from_str(push).expect("a spec");
        let targets = super::super::plan::Plan::new(&spec).expect("a plan").targets;
        let mirror = RobotoSecret::new("m", serde_yaml::from_str(mirror).expect("a spec"));
        find(&targets, &spec.provider, &[("m".to_owned(), mirror)], |one, other| one == other).map(|error| error.message)
    }

    #[test]
    fn a_reference_that_is_mirrored_into_the_secret_is_a_loop_by_any_name() {
        let push = "{secretName: m, data: [{uri: 'aws.sm://x'}, {key: a, uri: 'aws.ps:///p/y'}]}";
        for mirror in [
            "{uri: 'aws.sm://x'}",
            "{data: [{key: a, uri: 'aws.sm://x?version-stage=AWSPREVIOUS#/a'}]}",
            "{uri: 'arn:aws:secretsmanager:eu-west-1:123456789012:secret:x-AbCdEf'}",
            "{data: [{key: a, uri: 'aws.ps:///aws/reference/secretsmanager/x/a'}]}",
            "{dataFrom: [{byPath: {uri: 'aws.ps:///p'}}]}",
            "{dataFrom: [{find: {store: aws.sm, name: '.*'}}]}",
        ] {
            let told = told(mirror, push).unwrap_or_else(|| panic!("{mirror}"));
            assert!(told.contains("the RobotoSecret m mirrors it"), "{told}");
        }
        for mirror in [
            "{uri: 'aws.sm://x2'}",
            "{uri: 'aws.sm://x', provider: {kind: RobotoProvider, name: other}}",
            "{dataFrom: [{byPath: {uri: 'aws.ps:///q'}}]}",
            "{data: [{key: a, store: aws.sm, path: x, metadata: tags}]}",
        ] {
            assert_eq!(told(mirror, push), None, "{mirror}");
        }
    }
}
