//! Which cases of other clients the rows stand for, and where those are that no row can tell.
//!
//! `s1crets <n>` are the runs of s1crets 0.0.12 against moto, by number; `S<n>`, `P<n>`, `R<n>` the cases made of them and of the clients
//! of Prefect and Roboto; `ESO …` are defects and sore points of External Secrets Operator.

use std::collections::BTreeSet;

use super::{files, parsed, written};

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

/// Cases that no row stands for, and why.
const ELSEWHERE: [(&str, &str); 8] = [
    ("s1crets 9-10", "there are no defaults: what is missing is an error"),
    ("s1crets 48-51", "the run printed no case of these numbers"),
    ("s1crets 72", "there are no defaults"),
    ("s1crets 75", "path_exists is not a question that a resource asks"),
    ("s1crets 80-86", "how long a value is remembered: freshness.rs"),
    ("s1crets 104-118", "writing"),
    ("s1crets 148", "there are no defaults"),
    ("s1crets 165-185", "writing, and path_exists"),
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
fn every_case_has_a_row_or_a_reason_and_every_row_names_cases_that_exist() {
    let claimed: BTreeSet<String> = files().iter().flat_map(|file| written(file)).flat_map(|row| parsed(&row).covers).flat_map(|case| cases(&case)).collect();
    let expected: BTreeSet<String> = CASES.iter().flat_map(|case| cases(case)).collect();
    assert_eq!(claimed.difference(&expected).collect::<Vec<_>>(), Vec::<&String>::new(), "rows claim what is no case");
    assert_eq!(expected.difference(&claimed).collect::<Vec<_>>(), Vec::<&String>::new(), "cases without a row");
    let elsewhere: BTreeSet<String> = ELSEWHERE.iter().flat_map(|(case, _)| cases(case)).collect();
    assert_eq!(elsewhere.intersection(&claimed).collect::<Vec<_>>(), Vec::<&String>::new(), "said to be elsewhere and still a row");
}
