//! Documents that show what stands elsewhere. Markdown enters; the same leaves, with each example and each table of values as its file is. A line
//! `<!-- examples/9-find.yaml -->` says where one stands: the fenced block below it is the file's, and nobody writes it by hand. A line
//! `<!-- values of charts/robotosecret/values.yaml -->` does so for the table below it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::values;

const FENCE: &str = "```";

/// The README, the pages of `docs/` and the chart's README.
pub fn documents(root: &Path) -> Result<Vec<PathBuf>> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(root.join("docs")).context("reading docs/")?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    all.retain(|file| file.extension().is_some_and(|extension| extension == "md"));
    all.push(root.join("README.md"));
    all.push(root.join("charts/robotosecret/README.md"));
    all.sort();
    Ok(all)
}

/// The document with every example and every table of values as it is now.
pub fn current(document: &str, root: &Path) -> Result<String> {
    let mut out = String::new();
    let mut lines = document.lines().peekable();
    while let Some(line) = lines.next() {
        out.push_str(line);
        out.push('\n');
        if let Some(file) = values_file(line) {
            // What was shown before.
            while lines.next_if(|line| line.starts_with('|')).is_some() {}
            let text = std::fs::read_to_string(root.join(file)).with_context(|| format!("reading {file}"))?;
            out.push_str(&values::table(&text).with_context(|| format!("in {file}"))?);
            continue;
        }
        let Some(example) = example(line) else { continue };
        if lines.next_if(|line| line.starts_with(FENCE)).is_some() {
            // What was shown before.
            lines.by_ref().find(|line| line.starts_with(FENCE)).with_context(|| format!("the block of {example} has no end"))?;
        }
        let text = std::fs::read_to_string(root.join(example)).with_context(|| format!("reading {example}"))?;
        for part in [FENCE, "yaml\n", text.trim_end(), "\n", FENCE, "\n"] {
            out.push_str(part);
        }
    }
    Ok(out)
}

/// The file that a line asks for.
#[must_use]
pub fn example(line: &str) -> Option<&str> {
    line.strip_prefix("<!-- ")?.strip_suffix(" -->").filter(|path| path.starts_with("examples/"))
}

/// The file whose values a line asks for.
fn values_file(line: &str) -> Option<&str> {
    line.strip_prefix("<!-- values of ")?.strip_suffix(" -->")
}

/// Brings all documents up to date. Returns those that were not.
pub fn write(root: &Path) -> Result<Vec<PathBuf>> {
    let mut changed = Vec::new();
    for file in documents(root)? {
        let text = std::fs::read_to_string(&file)?;
        let current = current(&text, root).with_context(|| format!("in {}", file.display()))?;
        if current != text {
            std::fs::write(&file, current)?;
            changed.push(file);
        }
    }
    Ok(changed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_made_or_made_anew_and_the_rest_stays() {
        let folder = crate::TempFolder::new("docs").unwrap();
        std::fs::create_dir(folder.path().join("examples")).unwrap();
        std::fs::write(folder.path().join("examples/a.yaml"), "a: 1\n").unwrap();
        let expected = "x\n\n<!-- examples/a.yaml -->\n```yaml\na: 1\n```\n\n```yaml\nb: 2\n```\n<!-- other -->\n";
        for before in [expected, &expected.replace("a: 1", "a: 0\nold: 1"), &expected.replace("```yaml\na: 1\n```\n", "")] {
            assert_eq!(current(before, folder.path()).unwrap(), expected);
        }
        assert!(current("<!-- examples/b.yaml -->\n", folder.path()).is_err());
        assert!(current("<!-- examples/a.yaml -->\n```yaml\n", folder.path()).is_err());
    }

    #[test]
    fn a_table_of_values_is_made_or_made_anew_and_the_rest_stays() {
        let folder = crate::TempFolder::new("docs").unwrap();
        std::fs::write(folder.path().join("values.yaml"), "# The first.\na: 1\n").unwrap();
        let expected = "x\n\n<!-- values of values.yaml -->\n| value | default | |\n|---|---|---|\n| `a` | `1` | The first. |\n\n| other |\n";
        for before in [expected, &expected.replace("| `1`", "| `2`"), &expected.replace("| `a` | `1` | The first. |\n", "")] {
            assert_eq!(current(before, folder.path()).unwrap(), expected);
        }
        assert!(current("<!-- values of none.yaml -->\n", folder.path()).is_err());
    }
}
