//! Loops: a Secret that is mirrored from a reference is not pushed to that reference.
//!
//! The targets of a RobotoPush and the RobotoSecrets that mirror into its Secret enter; for each target a loop leaves, in words, if there is one. Pure but for
//! asking which providers may be one place. Only loops of one RobotoSecret and one RobotoPush are seen, not longer ones.

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

/// Of each target, why what is pushed there would come back to its own Secret; `None`: it doesn't.
pub fn find(
    targets: &[Target],
    provider: &ProviderRef,
    mirrors: &[(String, RobotoSecret)],
    may_be_one: impl Fn(&ProviderRef, &ProviderRef) -> bool,
) -> Vec<Option<ReadError>> {
    // One that can't be carried out mirrors nothing.
    let plans: Vec<_> = mirrors.iter().filter_map(|(name, mirror)| Some((name, Plan::new(&mirror.spec).ok()?))).collect();
    let read = plans.iter().flat_map(|(name, plan)| plan.questions.iter().map(move |planned| (name, planned)));
    let read: Vec<_> = read.filter(|(_, planned)| may_be_one(&planned.provider, provider)).collect();
    let looped = |target: &Target| {
        let (name, _) = read.iter().find(|(_, planned)| reads(&planned.question, &target.source))?;
        let problem = format!(
            "{}: the RobotoSecret {name} mirrors it into the Secret that is pushed there, and neither would ever come to rest; push another Secret, or to another reference",
            target.source
        );
        Some(ReadError::new(Reason::TargetConflict, problem))
    };
    targets.iter().map(looped).collect()
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

    fn told(mirror: &str, push: &str) -> Vec<Option<String>> {
        let spec = serde_yaml::from_str(push).expect("a spec");
        let targets = super::super::plan::Plan::new(&spec).expect("a plan").targets;
        let mirror = RobotoSecret::new("m", serde_yaml::from_str(mirror).expect("a spec"));
        find(&targets, &spec.provider, &[("m".to_owned(), mirror)], |one, other| one == other)
            .into_iter()
            .map(|found| found.map(|error| error.message))
            .collect()
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
            let told = told(mirror, push);
            assert!(told.iter().flatten().all(|told| told.contains("the RobotoSecret m mirrors it")), "{told:?}");
            let reads_the_parameter = mirror.contains("byPath");
            assert_eq!(told.iter().map(Option::is_some).collect::<Vec<_>>(), [!reads_the_parameter, reads_the_parameter], "{mirror}");
        }
        for mirror in [
            "{uri: 'aws.sm://x2'}",
            "{uri: 'aws.sm://x', provider: {kind: RobotoProvider, name: other}}",
            "{dataFrom: [{byPath: {uri: 'aws.ps:///q'}}]}",
            "{data: [{key: a, store: aws.sm, path: x, metadata: tags}]}",
        ] {
            assert_eq!(told(mirror, push), [None, None], "{mirror}");
        }
    }
}
