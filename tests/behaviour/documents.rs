//! The documents for operators: that they speak of everything that can be met, and that their links lead somewhere.

use std::{collections::BTreeSet, path::Path, process::Command};

use robotosecret::api::{Reason, reference::Store};

use crate::support::root;

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The lines of a document that are no code.
fn prose(text: &str) -> Vec<&str> {
    let mut code = false;
    text.lines()
        .filter(|line| {
            let fence = line.trim_start().starts_with("```");
            code ^= fence;
            !code && !fence
        })
        .collect()
}

/// The anchors that GitHub gives the headings of a document.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).into_iter().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim().to_lowercase());
    let anchor = |heading: String| heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).map(|c| if c == ' ' { '-' } else { c }).collect();
    headings.map(anchor).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let files = |folder: &str| std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path().display().to_string()).collect::<Vec<_>>();
    let documents: Vec<String> = [files("docs"), files("docs/command-line")]
        .into_iter()
        .flatten()
        .filter(|path| Path::new(path).extension().is_some_and(|extension| extension == "md"))
        .chain(["README.md".into(), "CONTRIBUTING.md".into()])
        .collect();
    let mut links = 0;
    for document in &documents {
        let text = read(document);
        for line in prose(&text) {
            for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                if target.starts_with("http") {
                    continue;
                }
                links += 1;
                let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
                let file = if path.is_empty() { root().join(document) } else { root().join(Path::new(document).parent().unwrap()).join(path) };
                assert!(file.exists(), "{document}: {target}");
                if let Some(anchor) = anchor {
                    assert!(anchors(&std::fs::read_to_string(&file).unwrap()).contains(anchor), "{document}: {target}");
                }
            }
        }
    }
    assert!(links > 30, "only {links} links were found");
}

#[test]
fn each_command_for_values_has_a_page_with_its_options_every_store_and_its_exit_codes() {
    let help = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_robotosecret")).args(arguments).arg("--help").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let overview = read("docs/command-line.md");
    let pages = std::fs::read_dir(root().join("docs/command-line")).unwrap().map(|entry| entry.unwrap().path());
    let pages: BTreeSet<String> = pages.map(|page| page.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    // Those of the plugin and of the operator have pages of their own.
    let elsewhere = ["status", "refresh", "suspend", "resume", "explain", "diff", "tree", "controller", "probe", "crds", "help"];
    let all = help(&[]);
    let commands = all.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap().lines();
    let commands = commands.filter(|line| line.starts_with("  ") && !line.starts_with("   ")).map(|line| line.split_whitespace().next().unwrap().to_owned());
    assert_eq!(pages, commands.filter(|command| !elsewhere.contains(&command.as_str())).collect());
    for command in &pages {
        let page = read(&format!("docs/command-line/{command}.md"));
        assert!(overview.contains(&format!("](command-line/{command}.md)")), "{command}");
        assert!(page.starts_with(&format!("# {command}\n\n    robotosecret {command} ")), "{command}");
        let (works, fails) = page.split_once("\n## What goes wrong\n").unwrap_or_else(|| panic!("{command}: it never fails"));
        assert!(
            works.contains("robotosecret ") && fails.contains("\nrobotosecret: ") && (fails.contains("exit code") || fails.contains("$ echo $?")),
            "{command}: no output"
        );
        let text = help(&[command]);
        let options = text.split_whitespace().filter(|word| word.starts_with("--") && word.len() > 2 && *word != "--help");
        for option in options.map(|word| word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric())) {
            let short = if option == "--output" { "-o" } else { option };
            assert!(["`", " "].iter().any(|end| page.contains(&format!("`{short}{end}"))), "{command}: {option}");
        }
        for store in Store::ALL.iter().filter(|_| command != "completion") {
            assert!(page.contains(store.title()), "{command}: {store}");
        }
    }
}

/// So that it can be read where a terminal is no wider.
#[test]
fn every_help_text_fits_into_80_columns() {
    let binary = env!("CARGO_BIN_EXE_robotosecret");
    let all = Command::new(binary).arg("--help").output().unwrap();
    let all = String::from_utf8(all.stdout).unwrap();
    let commands = all.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap().lines();
    let commands: Vec<&str> = commands.filter(|line| !line.starts_with("   ")).map(|line| line.split_whitespace().next().unwrap()).collect();
    assert!(commands.len() > 20, "{commands:?}");
    for command in commands.into_iter().filter(|command| *command != "help").chain([""]) {
        for how in ["-h", "--help"] {
            let arguments = [command, how].into_iter().filter(|argument| !argument.is_empty());
            let output = Command::new(binary).args(arguments).env("COLUMNS", "80").output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(text.contains("Usage:"), "{command} {how}");
            for line in text.lines() {
                assert!(line.chars().count() <= 80, "{command} {how}: {line}");
                assert!(!line.contains('`') && !line.contains("<http"), "{command} {how}: marks of a document: {line}");
            }
        }
    }
}

#[test]
fn operations_explain_every_alert_and_every_reason_and_no_other() {
    let text = read("docs/operations.md");
    for alert in ["RobotoSecretStale", "RobotoSecretFailing", "RobotoPushFailing", "RobotoSecretThrottled", "RobotoSecretNoLeader", "RobotoSecretPanicked"] {
        let (_, section) = text.split_once(&format!("\n### {alert}\n")).unwrap_or_else(|| panic!("{alert} has no heading"));
        let section = section.split("\n#").next().unwrap();
        assert!(section.contains("robotosecret_") && section.contains("\n1. "), "{alert}: neither what it looks at nor what to do");
    }
    let (_, section) = text.split_once("\n## Reasons\n").unwrap();
    let rows = section.split("\n## ").next().unwrap().lines().filter_map(|line| line.strip_prefix("| `"));
    let rows: Vec<Vec<&str>> = rows.map(|row| row.trim_end_matches(" |").split(" | ").collect()).collect();
    assert!(rows.iter().all(|row| row.len() == 3 && row.iter().all(|cell| !cell.is_empty())), "{rows:?}");
    let explained: BTreeSet<&str> = rows.iter().map(|row| row[0].trim_end_matches('`')).collect();
    assert_eq!(explained, Reason::ALL.iter().map(|reason| reason.as_str()).collect());
    assert_eq!(explained.len(), rows.len(), "one is explained twice");
    // What the command line says to whoever meets a reason.
    for row in rows {
        let reason = Reason::named(row[0].trim_end_matches('`')).unwrap();
        assert_eq!(reason.cure(), spoken(row[2]), "{reason}");
    }
}

/// A cell of a table without its marks: a link in brackets of its own goes, of any other its text stays.
fn spoken(cell: &str) -> String {
    let mut text = String::new();
    let mut rest = cell;
    while let Some((before, link)) = rest.split_once('[') {
        let (name, link) = link.split_once("](").unwrap();
        let (_, after) = link.split_once(')').unwrap();
        (text, rest) = before
            .strip_suffix(" (")
            .map_or_else(|| (format!("{text}{before}{name}"), after), |before| (format!("{text}{before}"), after.trim_start_matches(')')));
    }
    (text + rest).replace('`', "")
}

#[test]
fn each_test_that_proves_a_control_is_there() {
    let text = read("docs/security.md");
    let table = text.split_once("## Threats").unwrap().1.split("\n## ").next().unwrap();
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() >= 12, "{}", rows.len());
    for row in rows {
        let proofs: Vec<&str> = row.rsplit('|').nth(1).unwrap().split('`').skip(1).step_by(2).collect();
        assert!(!proofs.is_empty(), "nothing proves {row}");
        for proof in proofs.into_iter().filter(|proof| *proof != "make deny") {
            let (module, test) = proof.rsplit_once("::").unwrap_or_else(|| panic!("{proof}"));
            let places = [
                format!("tests/behaviour/{module}.rs"),
                format!("tests/behaviour/reading/{module}.rs"),
                format!("tests/behaviour/writing/{module}.rs"),
                format!("tests/behaviour/{module}/mod.rs"),
                format!("tests/behaviour/{}.rs", module.replace("::", "/")),
                format!("src/controller/{module}/tests.rs"),
                format!("src/render/{module}.rs"),
            ];
            let found = places.iter().filter_map(|place| std::fs::read_to_string(root().join(place)).ok()).any(|text| text.contains(&format!("fn {test}(")));
            assert!(found, "there is no test {proof}");
        }
    }
}
