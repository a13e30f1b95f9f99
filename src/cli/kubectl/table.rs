//! Tables, ages and colours: how lines look.
//!
//! Cells enter, text leaves. Pure but for [`Terminal::new`], which looks at standard output and the environment. Nothing that is
//! printed can steer the terminal: control characters go.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
};

use anstyle::{AnsiColor, Style};
use k8s_openapi::jiff::Timestamp;

/// What is between columns.
const GAP: usize = 2;
/// How wide the last column is at least; it is left out where the others leave it less.
const LEAST: usize = 8;
/// How wide any other column is at least, if it is cut.
const LEAST_OTHER: usize = 12;
/// How wide a terminal is of which nothing is known.
const WIDTH: usize = 80;

/// Where it is printed.
#[derive(Clone, Copy, Debug)]
pub struct Terminal {
    /// How wide it is.
    pub width: usize,
    /// Whether it shows colours.
    pub colour: bool,
    /// Whether it shows more than ASCII.
    pub unicode: bool,
}

impl Terminal {
    /// Standard output.
    pub fn new() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        // `watch` and the like say so, since what they run sees no terminal.
        let told = set("COLUMNS").and_then(|columns| columns.parse().ok()).filter(|columns| *columns > 0);
        let width = told.or_else(|| terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0)));
        let colour = io::stdout().is_terminal() && set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb");
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default().to_lowercase();
        Self { width: width.unwrap_or(WIDTH), colour, unicode: locale.contains("utf-8") || locale.contains("utf8") }
    }
}

/// How something is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    #[default]
    Plain,
    Good,
    Bad,
    Doubtful,
}

impl Tone {
    /// Of the status of a condition.
    pub fn of(status: &str) -> Self {
        match status {
            "True" => Self::Good,
            "False" => Self::Bad,
            _ => Self::Doubtful,
        }
    }

    const fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Bad => AnsiColor::Red.on_default(),
            Self::Doubtful => AnsiColor::Yellow.on_default(),
        }
    }
}

/// One cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell that is meant like this.
    pub fn toned(text: &str, tone: Tone) -> Self {
        Self { text: clean(text), tone }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text.as_ref(), Tone::Plain)
    }
}

/// A table with a head. So that a line fits, its last column is cut or left out, then the others are cut, from the right: the first ones name what it is.
pub fn table(head: &[&str], rows: &[Vec<Cell>], terminal: Terminal) -> String {
    let head: Vec<Cell> = head.iter().map(Cell::from).collect();
    let lines = || std::iter::once(&head).chain(rows);
    let widths: Vec<usize> =
        (0..head.len()).map(|column| lines().filter_map(|line| line.get(column)).map(|cell| length(&cell.text)).max().unwrap_or(0)).collect();
    let widths = fitted(widths, terminal.width);
    let mut text = String::new();
    for line in lines() {
        let start = text.len();
        for (cell, width) in line.iter().zip(&widths) {
            let told = cut(&cell.text, *width);
            text += &painted(&told, cell.tone, terminal.colour);
            text.extend(std::iter::repeat_n(' ', width + GAP - length(&told)));
        }
        text.truncate(start + text[start..].trim_end().len());
        text.push('\n');
    }
    text
}

/// How wide the columns are in a line of this width, without those that are left out.
fn fitted(mut widths: Vec<usize>, line: usize) -> Vec<usize> {
    let Some((last, before)) = widths.split_last_mut() else { return widths };
    let taken: usize = before.iter().map(|width| width + GAP).sum();
    if let Some(left) = line.checked_sub(taken).filter(|left| *left >= LEAST.min(*last)) {
        *last = left.min(*last);
        return widths;
    }
    widths.pop();
    let mut over = taken.saturating_sub(GAP + line);
    for width in widths.iter_mut().rev() {
        let cut = over.min(width.saturating_sub(LEAST_OTHER));
        *width -= cut;
        over -= cut;
    }
    widths
}

/// A text in its colour, where there are colours.
pub fn painted(text: &str, tone: Tone, colour: bool) -> String {
    if !colour || tone == Tone::Plain || text.is_empty() {
        return text.to_owned();
    }
    let style = tone.style();
    format!("{style}{text}{style:#}")
}

/// A text without what steers a terminal, in one line.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A text of at most this length, with dots for what is cut off.
pub fn cut(text: &str, width: usize) -> String {
    if length(text) <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(3)).collect();
    kept.trim_end().to_owned() + "..."
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// How long ago something was, as kubectl says it.
pub fn age(since: Option<Timestamp>, now: Timestamp) -> String {
    let Some(since) = since else { return "-".to_owned() };
    let seconds = now.as_second().saturating_sub(since.as_second()).max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let with_rest = |whole: i64, unit: char, rest: i64, small: char| if rest == 0 { format!("{whole}{unit}") } else { format!("{whole}{unit}{rest}{small}") };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => with_rest(minutes, 'm', seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => with_rest(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => with_rest(days, 'd', hours % 24, 'h'),
        _ => format!("{days}d"),
    }
}

/// A count with its noun.
pub fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// Lines as one text.
pub fn joined(lines: &[String]) -> String {
    lines.iter().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Prints a text.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Says what went wrong and ended nothing.
pub fn complain(failures: &[impl Display]) {
    for failure in failures {
        eprintln!("robotosecret: {}", clean(&failure.to_string()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Terminal = Terminal { width: 40, colour: false, unicode: false };

    #[test]
    fn the_last_column_is_cut_to_what_is_left() {
        let rows = [
            vec![Cell::from("a"), Cell::toned("False", Tone::Bad), Cell::from("a message that is longer than there is room for")],
            vec!["longer".into(), "True".into()],
        ];
        let text = table(&["NAME", "READY", "MESSAGE"], &rows, PLAIN);
        assert_eq!(text, "NAME    READY  MESSAGE\na       False  a message that is long...\nlonger  True\n");
        assert!(text.lines().all(|line| line.len() <= 40));
        let narrow = table(&["NAME", "READY", "MESSAGE"], &rows, Terminal { width: 10, ..PLAIN });
        assert_eq!(narrow, "NAME    READY\na       False\nlonger  True\n");
    }

    #[test]
    fn the_first_columns_are_cut_last() {
        assert_eq!(fitted(vec![16, 5, 16, 60], 80), [16, 5, 16, 37]);
        assert_eq!(fitted(vec![16, 5, 16, 60], 51), [16, 5, 16, 8]);
        assert_eq!(fitted(vec![16, 5, 16, 3], 46), [16, 5, 16, 3]);
        assert_eq!(fitted(vec![16, 5, 16, 60], 50), [16, 5, 16]);
        assert_eq!(fitted(vec![16, 5, 19, 60], 41), [16, 5, 16]);
        assert_eq!(fitted(vec![16, 5, 19, 60], 34), [13, 5, 12]);
        assert_eq!(fitted(vec![16, 5, 19, 60], 10), [12, 5, 12]);
        assert_eq!(fitted(Vec::new(), 10), [0; 0]);
    }

    #[test]
    fn colours_change_no_width_and_are_left_out_where_none_are_shown() {
        let rows = [vec![Cell::toned("True", Tone::Good), "x".into()]];
        let text = table(&["READY", "M"], &rows, Terminal { colour: true, ..PLAIN });
        assert_eq!(text, "READY  M\n\u{1b}[32mTrue\u{1b}[0m   x\n");
        assert!(!table(&["READY", "M"], &rows, PLAIN).contains('\u{1b}'));
    }

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(clean("a\u{1b}[31mb\nc\u{9b}d"), "a [31mb c d");
    }

    #[test]
    fn ages_are_kubectls() {
        let now = Timestamp::from_second(100_000_000).expect("a time");
        let told = |seconds: i64| age(Timestamp::from_second(100_000_000 - seconds).ok(), now);
        let ages = [0, 119, 120, 299, 601, 10_800, 10_860, 100_000, 172_800, 180_000, 864_000, -5].map(told);
        assert_eq!(ages, ["0s", "119s", "2m", "4m59s", "10m", "3h", "3h1m", "27h", "2d", "2d2h", "10d", "0s"]);
        assert_eq!(age(None, now), "-");
    }
}
