//! How a tree is drawn.
//!
//! Nodes enter, lines leave. Pure. With box-drawing characters or, where only ASCII is sure to be shown, with what `tree` takes there.

use super::table;

/// A line and what hangs on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// The line.
    pub text: String,
    /// What hangs on it.
    pub children: Vec<Node>,
}

/// What stands before a child, before the last one, and below each.
struct Strokes {
    child: &'static str,
    last: &'static str,
    below: &'static str,
    below_last: &'static str,
}

const BOXES: Strokes = Strokes { child: "├── ", last: "└── ", below: "│   ", below_last: "    " };
const ASCII: Strokes = Strokes { child: "|-- ", last: "`-- ", below: "|   ", below_last: "    " };

/// The lines of these trees.
pub fn drawn(roots: &[Node], unicode: bool) -> String {
    let strokes = if unicode { BOXES } else { ASCII };
    let mut lines = Vec::new();
    for root in roots {
        lines.push(root.text.clone());
        draw(&root.children, "", &strokes, &mut lines);
    }
    table::joined(&lines)
}

fn draw(children: &[Node], before: &str, strokes: &Strokes, lines: &mut Vec<String>) {
    let Some((last, others)) = children.split_last() else { return };
    for child in others {
        lines.push(format!("{before}{}{}", strokes.child, child.text));
        draw(&child.children, &format!("{before}{}", strokes.below), strokes, lines);
    }
    lines.push(format!("{before}{}{}", strokes.last, last.text));
    draw(&last.children, &format!("{before}{}", strokes.below_last), strokes, lines);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_lead_from_each_to_its_children() {
        let leaf = |text: &str| Node { text: text.into(), children: Vec::new() };
        let tree = Node {
            text: "a".into(),
            children: vec![Node { text: "b".into(), children: vec![leaf("c"), leaf("d")] }, Node { text: "e".into(), children: vec![leaf("f")] }],
        };
        assert_eq!(drawn(std::slice::from_ref(&tree), true), "a\n├── b\n│   ├── c\n│   └── d\n└── e\n    └── f\n");
        assert_eq!(drawn(&[tree], false), "a\n|-- b\n|   |-- c\n|   `-- d\n`-- e\n    `-- f\n");
    }
}
