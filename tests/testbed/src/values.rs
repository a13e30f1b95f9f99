//! The table of a chart's values. The text of a `values.yaml` enters; a Markdown table leaves, with a row for each value: its name, what it is by
//! default, and the comment that stands above it. Nothing is made up: a value without a comment is an error.

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A value as it stands in the file.
struct Entry {
    path: Vec<String>,
    comment: String,
    default: Value,
}

/// The table, in the order of the file. A map whose members have no comments of their own is one value.
pub fn table(text: &str) -> Result<String> {
    let entries = entries(text)?;
    let below = |path: &[String], entry: &Entry| entry.path.len() > path.len() && entry.path.starts_with(path);
    let group = |entry: &Entry| entries.iter().any(|other| below(&entry.path, other) && other.path.len() == entry.path.len() + 1 && !other.comment.is_empty());
    let part_of_one = |entry: &Entry| entries.iter().any(|other| below(&other.path, entry) && !group(other));
    let mut out = "| value | default | |\n|---|---|---|\n".to_owned();
    for entry in entries.iter().filter(|entry| !part_of_one(entry)) {
        let name = entry.path.join(".");
        let default = match (group(entry), entry.comment.is_empty()) {
            (true, true) => continue,
            (true, false) => String::new(),
            (false, true) => bail!("{name} has no comment that says what it is"),
            (false, false) => format!("`{}`", entry.default),
        };
        let cells = [format!("`{name}`"), default, entry.comment.clone()].map(|cell| cell.replace('|', "\\|"));
        out.push_str(&format!("| {} |\n", cells.join(" | ")).replace("|  |", "| |"));
    }
    Ok(out)
}

/// All keys of maps that aren't in lists, each with the comment right above it.
fn entries(text: &str) -> Result<Vec<Entry>> {
    let values: Value = serde_yaml::from_str(text).context("reading values")?;
    let mut entries = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    let mut around: Vec<(usize, String)> = Vec::new();
    for line in text.lines() {
        let content = line.trim_start();
        let indent = line.len() - content.len();
        if let Some(words) = content.strip_prefix('#') {
            comment.push(words.trim());
            continue;
        }
        let comment = std::mem::take(&mut comment).join(" ");
        let Some((key, rest)) = content.split_once(':') else { continue };
        if !key.chars().all(char::is_alphanumeric) || !(rest.is_empty() || rest.starts_with(' ')) {
            continue;
        }
        around.retain(|(outer, _)| *outer < indent);
        around.push((indent, key.to_owned()));
        let path: Vec<String> = around.iter().map(|(_, key)| key.clone()).collect();
        // What isn't found stands in a list.
        if let Some(default) = path.iter().try_fold(&values, |value, key| value.get(key)) {
            entries.push(Entry { path, comment, default: default.clone() });
        }
    }
    Ok(entries)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_a_row_with_its_comment() {
        let text = "# Of the file.\n\n# Over\n# two lines.\na: x\n\n# A group.\nb:\n  # A number | of things.\n  c: 1\n  # A map.\n  d:\n    e: {f: true}\n\
                    g:\n  # A list.\n  h:\n  - to: 1\n    from: 2\n";
        let rows: Vec<String> = table(text).unwrap().lines().skip(2).map(str::to_owned).collect();
        assert_eq!(
            rows,
            [
                "| `a` | `\"x\"` | Over two lines. |",
                "| `b` | | A group. |",
                "| `b.c` | `1` | A number \\| of things. |",
                "| `b.d` | `{\"e\":{\"f\":true}}` | A map. |",
                "| `g.h` | `[{\"from\":2,\"to\":1}]` | A list. |",
            ]
        );
    }

    #[test]
    fn a_value_that_nothing_explains_is_an_error() {
        for text in ["a: 1\n", "# A.\n\na: 1\n", "b:\n  # C.\n  c: 1\n  d: 2\n", "b:\n  d: 2\n"] {
            assert!(table(text).is_err(), "{text}");
        }
    }
}
