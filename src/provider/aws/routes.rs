//! Which questions may share a call, and how many calls there may be.
//!
//! A question enters, its route leaves; a family enters, its ceiling leaves. Nothing is called here.

use crate::{
    api::{
        aws::Limits,
        reference::{Name, Source, Store, without_root, without_suffix},
    },
    provider::{Family, Listing, Lot, Question, Route},
};

/// `GetSecretValue`: 10,000 a second in AWS, which everybody in the account shares.
pub const GET_SECRET_VALUE: Family = Family("GetSecretValue");
/// `BatchGetSecretValue`.
pub const BATCH_GET_SECRET_VALUE: Family = Family("BatchGetSecretValue");
/// `DescribeSecret`, which shares the limit of `GetSecretValue`.
pub const DESCRIBE_SECRET: Family = Family("DescribeSecret");
/// `ListSecrets`: 100 a second in AWS.
pub const LIST_SECRETS: Family = Family("ListSecrets");
/// `DescribeParameters`, which AWS meant for people: its limit is low and not told.
pub const DESCRIBE_PARAMETERS: Family = Family("DescribeParameters");
/// `ListTagsForResource`, whose limit is not told either.
pub const SSM_TAGS: Family = Family("SsmTags");
/// `GetParameter`, `GetParameters` and `GetParametersByPath`, which share one limit: 40 a second unless the account pays for more.
pub const SSM_READS: Family = Family("SsmReads");
/// The Security Token Service.
pub const STS: Family = Family("Sts");
/// Calls that change secrets.
pub const SECRETS_MANAGER_WRITES: Family = Family("SecretsManagerWrites");
/// Calls that change parameters.
pub const SSM_WRITES: Family = Family("SsmWrites");

const SECRETS: Lot = Lot { name: "aws.sm", size: 20, family: BATCH_GET_SECRET_VALUE, action: "secretsmanager:BatchGetSecretValue" };
const PARAMETERS: Lot = Lot { name: "aws.ps", size: 10, family: SSM_READS, action: "ssm:GetParameters" };
/// ARNs wait for the account of the identity; what needs no account must not wait with them.
const SECRETS_BY_ARN: Lot = Lot { name: "aws.sm by ARN", ..SECRETS };
const PARAMETERS_BY_ARN: Lot = Lot { name: "aws.ps by ARN", ..PARAMETERS };

/// How a question may be asked of a provider of this region.
pub(super) fn route(question: &Question, region: &str) -> Route {
    let single = match (question.store(), question) {
        (Store::SecretsManager, Question::Tags(_)) => DESCRIBE_SECRET,
        (Store::SecretsManager, Question::List(_)) => LIST_SECRETS,
        (Store::ParameterStore, Question::Value(_) | Question::Presence { .. }) => SSM_READS,
        (Store::ParameterStore, Question::Tags(_)) => SSM_TAGS,
        (Store::ParameterStore, Question::List(listing)) if brings_values(listing) => SSM_READS,
        (Store::ParameterStore, Question::List(_)) => DESCRIBE_PARAMETERS,
        // The values of Secrets Manager: no other store's question comes here.
        (_, _) => GET_SECRET_VALUE,
    };
    let (lot, denoted) = match question {
        Question::Value(source) => (lot(source, region), source.denotes()),
        Question::Presence { .. } | Question::Tags(_) | Question::List(_) => (None, Vec::new()),
    };
    Route { service: question.store().as_str(), single, lot, aliases: denoted.iter().map(|reference| without_root(reference)).collect() }
}

fn lot(source: &Source, region: &str) -> Option<&'static Lot> {
    // One call goes to one region.
    if source.arn().is_some_and(|arn| arn.region != region) {
        return None;
    }
    // A shared call asks for current versions only (a parameter's could be named, but answers would have to be told apart by it),
    // and a parameter that stands for a secret is read as that secret.
    if source.version.is_some() || !source.through_secrets_manager().is_empty() {
        return None;
    }
    match (source.store, &source.name) {
        (Store::SecretsManager, Name::Plain(_)) => Some(&SECRETS),
        // Without the six characters it is certainly partial, and may come to denote another secret.
        (Store::SecretsManager, Name::Arn(arn)) => without_suffix(&arn.resource).map(|_| &SECRETS_BY_ARN),
        (Store::ParameterStore, Name::Plain(_)) => Some(&PARAMETERS),
        (Store::ParameterStore, Name::Arn(_)) => Some(&PARAMETERS_BY_ARN),
        (_, _) => None,
    }
}

/// Whether the store tells the values with the names: only where nothing but a path is asked for.
pub(super) fn brings_values(listing: &Listing) -> bool {
    listing.store == Store::ParameterStore && listing.path.is_some() && listing.tags.is_empty()
}

/// How many calls of a family a second there may be: what the provider says, else the default.
pub(super) fn ceiling(limits: Limits, family: Family) -> f64 {
    let calls = match family {
        GET_SECRET_VALUE => limits.get_secret_value.unwrap_or(500),
        BATCH_GET_SECRET_VALUE => limits.batch_get_secret_value.unwrap_or(50),
        SSM_READS => limits.ssm_reads.unwrap_or(35),
        // A write takes up to three calls, and AWS allows 50.
        SECRETS_MANAGER_WRITES => limits.secrets_manager_writes.unwrap_or(15),
        SSM_WRITES => limits.ssm_writes.unwrap_or(3),
        DESCRIBE_SECRET => 500,
        LIST_SECRETS => 50,
        DESCRIBE_PARAMETERS => 3,
        SSM_TAGS => 5,
        // No other family comes out of a route.
        _ => limits.sts.unwrap_or(100),
    };
    calls.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::reference::Reference;

    const SECRET_ARN: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-AbCdEf";

    fn of(uri: &str) -> Route {
        route(&Question::Value(uri.parse::<Reference>().expect("a reference").source), "eu-west-1")
    }

    #[test]
    fn what_needs_the_account_never_shares_a_call_with_what_does_not() {
        for (uri, name, size, family, single) in [
            ("aws.sm://prod/db", "aws.sm", 20, "BatchGetSecretValue", "GetSecretValue"),
            (SECRET_ARN, "aws.sm by ARN", 20, "BatchGetSecretValue", "GetSecretValue"),
            ("aws.ps:///prod/token", "aws.ps", 10, "SsmReads", "SsmReads"),
            ("arn:aws:ssm:eu-west-1:123456789012:parameter/prod/token", "aws.ps by ARN", 10, "SsmReads", "SsmReads"),
        ] {
            let route = of(uri);
            let lot = route.lot.map(|lot| (lot.name, lot.size, lot.family));
            assert_eq!((lot, route.single), (Some((name, size, Family(family))), Family(single)), "{uri}");
        }
    }

    #[test]
    fn what_a_shared_call_cannot_say_is_read_alone() {
        for uri in [
            "aws.sm://prod/db?version-stage=AWSPREVIOUS",
            "aws.sm://prod/db?version-id=11111111-2222-3333-4444-555555555555",
            &format!("{SECRET_ARN}?version-stage=AWSPREVIOUS"),
            "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db",
            &SECRET_ARN.replace("eu-west-1", "eu-west-2"),
            "arn:aws:ssm:eu-central-1:123456789012:parameter/prod/token",
            "aws.ps:///prod/token?version=3",
            "aws.ps:///prod/token?label=blue",
            "aws.ps:///aws/reference/secretsmanager/prod/db",
        ] {
            assert_eq!(of(uri).lot, None, "{uri}");
        }
    }

    #[test]
    fn two_names_of_one_thing_have_an_alias_in_common() {
        let common = |a: &str, b: &str| of(a).aliases.iter().any(|alias| of(b).aliases.contains(alias));
        for (a, b) in [
            ("aws.sm://prod/db", SECRET_ARN),
            ("aws.sm://prod/db-AbCdEf", SECRET_ARN),
            ("aws.sm://prod/db", "aws.sm://prod/db?version-stage=AWSPREVIOUS"),
            ("aws.ps://token", "aws.ps:///token"),
            ("aws.ps://token", "arn:aws:ssm:eu-west-1:123456789012:parameter/token"),
            ("aws.ps:///prod/token", "arn:aws:ssm:eu-west-1:123456789012:parameter/prod/token"),
        ] {
            assert!(common(a, b), "{a} and {b}");
        }
        for (a, b) in [("aws.sm://prod/db", "aws.sm://prod/dbs"), ("aws.sm://token", "aws.ps://token"), ("aws.sm:///token", "aws.sm://token")] {
            assert!(!common(a, b), "{a} and {b}");
        }
    }

    #[test]
    fn the_provider_may_set_each_ceiling() {
        let all = [GET_SECRET_VALUE, BATCH_GET_SECRET_VALUE, SSM_READS, STS, SECRETS_MANAGER_WRITES, SSM_WRITES];
        let ceilings = |limits| all.map(|family| ceiling(limits, family).to_string());
        assert_eq!(ceilings(Limits::default()), ["500", "50", "35", "100", "15", "3"]);
        let (secrets_manager_writes, ssm_writes) = (Some(5), Some(6));
        let limits =
            Limits { get_secret_value: Some(1), batch_get_secret_value: Some(2), ssm_reads: Some(3), sts: Some(4), secrets_manager_writes, ssm_writes };
        assert_eq!(ceilings(limits), ["1", "2", "3", "4", "5", "6"]);
        assert_eq!(ceilings(Limits { ssm_reads: Some(9000), ..Limits::default() }), ["500", "50", "9000", "100", "15", "3"]);
    }
}
