//! Which cases of other clients the rows stand for, and where those are that no row can tell.
//!
//! `s1crets <n>` are the runs of s1crets 0.0.12 against moto, by number; `S<n>`, `P<n>`, `R<n>`, `E<n>`, `V<n>` the cases made of them and of
//! the clients of Prefect, Roboto, Edge and Envase; `ESO …` are defects and sore points of External Secrets Operator, and what its tests lack.

use std::{collections::BTreeSet, path::Path};

use super::{files, parsed, written};
use crate::support::root;

/// All cases that were made of the clients of the stores: each has a row, a test or a reason.
const ALL: [&str; 6] = ["s1crets 1-185", "R01-R15", "E01-E06", "P01-P06", "V01-V03", "S01-S10"];

/// What the tests of External Secrets Operator lack: each has a row, a test or a reason.
const LACKED: [&str; 20] = [
    "ESO one item of a batch denied",
    "ESO all items of a batch denied",
    "ESO event newer than the first read",
    "ESO throttled for a minute",
    "ESO empty page with a NextToken",
    "ESO unsorted or stale list",
    "ESO two stores and roles of one name",
    "ESO tag pairs",
    "ESO find and prefix",
    "ESO event id locations",
    "ESO burst of events",
    "ESO rewrite collision",
    "ESO too large",
    "ESO non-ASCII key",
    "ESO clock jump",
    "ESO killed between write and status",
    "ESO log canary",
    "ESO duplicate or forged messages",
    "ESO credentials that run out in mid-batch",
    "ESO namespace that goes away",
];

/// The cases about reading that rows have to stand for.
const CASES: [&str; 26] = [
    "s1crets 1-8",
    "s1crets 11-47",
    "s1crets 52-58",
    "s1crets 60-71",
    "s1crets 73-74",
    "s1crets 76-79",
    "s1crets 119-125",
    "s1crets 126-142",
    "s1crets 144-147",
    "s1crets 149-154",
    "s1crets 155-163",
    "S01-S09",
    "P01-P02",
    "R05-R07",
    "ESO find and prefix",
    "ESO tag pairs",
    "ESO rewrite collision",
    "ESO non-ASCII key",
    "ESO unsorted find",
    "ESO empty keys",
    "ESO last wins",
    "ESO dotted keys",
    "ESO guessed base64",
    "ESO stages",
    "ESO five versions",
    "ESO too large",
];

/// Cases that take more than a row can tell, and the tests that do: file and name.
const TESTED: [(&str, &[(&str, &str)]); 22] = [
    (
        "ESO one item of a batch denied",
        &[
            ("tests/behaviour/reading/company.rs", "a_secret_that_may_not_be_read_or_decrypted_fails_alone"),
            ("tests/behaviour/reading/company.rs", "a_parameter_that_may_not_be_read_fails_alone_although_aws_refuses_the_whole_call_for_it"),
            FAULTS,
        ],
    ),
    (
        "ESO all items of a batch denied",
        &[("tests/behaviour/reading/company.rs", "a_call_of_which_a_half_or_all_failed_touches_no_secret_and_says_so_of_each"), FAULTS],
    ),
    ("ESO throttled for a minute", &[("tests/behaviour/failure.rs", "a_throttled_store_is_asked_ever_more_slowly_and_told_of_once"), FAULTS]),
    ("ESO empty page with a NextToken", &[("tests/behaviour/reading/company.rs", "an_answer_in_pages_some_of_them_empty_is_read_to_its_end"), FAULTS]),
    ("ESO unsorted or stale list", &[FAULTS]),
    (
        "ESO two stores and roles of one name",
        &[
            ("tests/behaviour/reading/identities.rs", "what_one_provider_may_read_is_not_given_to_those_who_ask_another"),
            ("tests/behaviour/provider.rs", "a_key_may_be_read_through_another_provider"),
        ],
    ),
    ("ESO clock jump", &[("tests/behaviour/lifecycle.rs", "a_clock_that_was_wrong_before_a_restart_delays_no_recheck_and_tells_no_time_to_come")]),
    (
        "ESO killed between write and status",
        &[("tests/behaviour/lifecycle.rs", "a_controller_that_is_killed_before_it_wrote_a_status_writes_it_after_the_restart"), FAULTS],
    ),
    ("ESO log canary", &[("tests/behaviour/leaks.rs", "a_value_in_every_encoding_is_mirrored_and_nowhere_else")]),
    (
        "ESO credentials that run out in mid-batch",
        &[("tests/behaviour/failure.rs", "credentials_that_are_not_accepted_are_told_from_those_that_ran_out"), FAULTS],
    ),
    (
        "ESO namespace that goes away",
        &[
            ("tests/behaviour/lifecycle.rs", "a_namespace_that_is_deleted_goes_without_a_fuss"),
            ("tests/behaviour/policies.rs", "a_namespace_that_is_deleted_does_not_wait_for_a_merge"),
            FAULTS,
        ],
    ),
    ("R04", &[("tests/testbed/tests/roboto.rs", "pages_requests_and_retries_are_as_the_sdk_makes_them"), MIRRORED]),
    ("R08-R09", &[("src/api/reference.rs", "a_roboto_uri_means_what_it_means_to_the_sdk_or_is_refused"), MIRRORED]),
    ("R11", &[("src/api/reference.rs", "a_roboto_uri_means_what_it_means_to_the_sdk_or_is_refused")]),
    ("R13", &[("src/provider/roboto/wire.rs", "refusals_are_told_as_the_sdk_tells_them_and_repeat_nothing"), TOLD]),
    (
        "R14",
        &[
            ("tests/testbed/tests/roboto.rs", "pages_requests_and_retries_are_as_the_sdk_makes_them"),
            ("tests/behaviour/roboto.rs", "a_platform_that_answers_503_three_times_is_asked_a_fourth_time_and_more_slowly_each_time"),
        ],
    ),
    ("R15", &[SDK, ("src/provider/roboto/wire.rs", "a_page_without_its_token_is_not_the_last_one")]),
    ("E01-E06", &[("tests/behaviour/edge.rs", "secrets_are_made_read_changed_wrapped_and_deleted_as_edges_documentation_has_it")]),
    ("V01", &[("tests/behaviour/envase.rs", "secrets_are_made_changed_and_deleted_as_envases_documentation_has_it")]),
    ("V02", &[("tests/behaviour/envase.rs", "what_the_store_refuses_is_told_with_its_status_and_a_gone_secret_goes")]),
    ("V03", &[("src/api/envase.rs", "an_environment_goes_by_several_names")]),
    ("s1crets 80-86", &[("tests/behaviour/freshness.rs", "a_changed_value_arrives_within_the_ttl_and_is_told_once")]),
];

const SDK: (&str, &str) = ("tests/testbed/tests/roboto.rs", "the_platforms_own_sdk_understands_the_double");
const MIRRORED: (&str, &str) = ("tests/behaviour/roboto.rs", "what_the_platforms_own_sdk_writes_is_mirrored_found_and_rechecked");
const TOLD: (&str, &str) = ("tests/behaviour/roboto.rs", "what_is_missing_denied_or_kept_elsewhere_is_told_in_words");
const FAULTS: (&str, &str) = ("tests/faults/main.rs", "whatever_fails_no_good_key_is_lost_and_none_is_kept_that_is_gone");

/// Cases that no row and no test stands for, and why.
const ELSEWHERE: [(&str, &str); 20] = [
    ("s1crets 9-10", "there are no defaults: what is missing is an error"),
    ("s1crets 48-51", "the record of the runs has no such case"),
    ("s1crets 59", "the record of the runs has no such case"),
    ("s1crets 87-103", "the record of the runs has no such case"),
    ("s1crets 143", "the record of the runs has no such case"),
    ("s1crets 164", "the record of the runs has no such case"),
    ("s1crets 72", "there are no defaults"),
    ("s1crets 75", "path_exists is not a question that a resource asks"),
    ("s1crets 104-118", "writing"),
    ("s1crets 148", "there are no defaults"),
    ("s1crets 165-185", "writing, and path_exists"),
    ("R01-R03", "writing; the platform's own SDK does it against the double (tests/testbed/tests/roboto.rs)"),
    ("R12", "writing; the platform's own SDK does it against the double (tests/testbed/tests/roboto.rs)"),
    ("R10", "the SDK cuts the organisation short; here the reference is refused (src/api/reference.rs)"),
    ("P03-P06", "writing"),
    ("S10", "writing"),
    ("ESO event newer than the first read", "no events of a store are received yet"),
    ("ESO event id locations", "no events of a store are received yet"),
    ("ESO burst of events", "no events of a store are received yet"),
    ("ESO duplicate or forged messages", "no events of a store are received yet"),
];

/// `a 1-3` and `S01-S03` are three cases each; all else is one.
fn cases(text: &str) -> Vec<String> {
    let split = || {
        let (first, last) = text.rsplit_once('-')?;
        let digits = |text: &str| text.len() - text.chars().rev().take_while(char::is_ascii_digit).count();
        let (head, from) = first.split_at(digits(first));
        let to = &last[digits(last)..];
        let (from, to): (usize, usize) = (from.parse().ok()?, to.parse().ok()?);
        Some((from..=to).map(|n| format!("{head}{n}")).collect())
    };
    split().unwrap_or_else(|| {
        let (head, number) = text.split_at(text.len() - text.chars().rev().take_while(char::is_ascii_digit).count());
        vec![format!("{head}{}", number.trim_start_matches('0'))]
    })
}

#[test]
fn every_case_has_a_row_a_test_or_a_reason_and_every_row_names_cases_that_exist() {
    let all = |texts: &[&str]| -> BTreeSet<String> { texts.iter().flat_map(|case| cases(case)).collect() };
    let none: Vec<&String> = Vec::new();
    let claimed: BTreeSet<String> = files().iter().flat_map(|file| written(file)).flat_map(|row| parsed(&row).covers).flat_map(|case| cases(&case)).collect();
    let expected = all(&CASES);
    assert_eq!(claimed.difference(&expected).collect::<Vec<_>>(), none, "rows claim what is no case");
    assert_eq!(expected.difference(&claimed).collect::<Vec<_>>(), none, "cases without a row");
    let tested = all(&TESTED.map(|(case, _)| case));
    let elsewhere = all(&ELSEWHERE.map(|(case, _)| case));
    assert_eq!(elsewhere.intersection(&claimed).collect::<Vec<_>>(), none, "said to be elsewhere and still a row");
    assert_eq!(elsewhere.intersection(&tested).collect::<Vec<_>>(), none, "said to be elsewhere and still tested");
    let known: BTreeSet<String> = [&claimed, &tested, &elsewhere].into_iter().flatten().cloned().collect();
    let demanded: BTreeSet<String> = all(&ALL).into_iter().chain(all(&LACKED)).collect();
    assert_eq!(demanded.difference(&known).collect::<Vec<_>>(), none, "cases without a row, a test or a reason");
}

#[test]
fn every_test_that_stands_for_a_case_is_one() {
    for (case, tests) in TESTED {
        assert!(!tests.is_empty(), "{case}: no test");
        for (file, name) in tests {
            let text = std::fs::read_to_string(root().join(Path::new(file))).unwrap_or_else(|error| panic!("{case}: {file}: {error}"));
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            let is_it = |pair: &[&str]| {
                let marked = pair[0] == "#[test]" || pair[0].starts_with("#[tokio::test");
                marked && [format!("fn {name}() {{"), format!("async fn {name}() {{")].contains(&pair[1].to_owned())
            };
            assert!(lines.windows(2).any(is_it), "{case}: {file} has no test {name}");
        }
    }
}
