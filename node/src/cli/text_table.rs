//! Text in columns for people: plain columns as in `halite status`, and the boxed tables of `halite sql`.

use std::collections::BTreeMap;

use anstyle::Style;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::output::styled;

/// How the cells of a column stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows under headings. Rows shorter than the headings end with empty cells.
#[derive(Debug, Clone)]
pub(crate) struct TextTable {
    headings: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
    /// Cells, by row and column, that have a style.
    marks: BTreeMap<(usize, usize), Style>,
}

impl TextTable {
    pub(crate) fn new<'a>(headings: impl IntoIterator<Item = (&'a str, Align)>) -> Self {
        let headings = headings
            .into_iter()
            .map(|(text, align)| (printable(text), align))
            .collect();
        Self {
            headings,
            rows: Vec::new(),
            marks: BTreeMap::new(),
        }
    }

    /// Adds a row. Control characters in its cells are shown as escapes: a cell can neither break the table nor steer a terminal.
    pub(crate) fn row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let mut row: Vec<String> = cells
            .into_iter()
            .map(|cell| printable(cell.as_ref()))
            .collect();
        row.resize(self.headings.len(), String::new());
        self.rows.push(row);
    }

    /// Gives a cell of the last row a style.
    pub(crate) fn mark(&mut self, column: usize, style: Style) {
        let row = self.rows.len().saturating_sub(1);
        self.marks.insert((row, column), style);
    }

    /// Columns two spaces apart, without lines.
    pub(crate) fn plain(&self) -> String {
        let columns = Columns {
            widths: self.widths(),
            aligns: self.headings.iter().map(|(_, align)| *align).collect(),
        };
        let headings: Vec<String> = self.headings.iter().map(|(text, _)| text.clone()).collect();
        let mut out = columns.plain(&headings);
        for (at, row) in self.rows.iter().enumerate() {
            let line = columns.padded(row, &columns.aligns).enumerate();
            let cells = line.map(|(column, cell)| match self.marks.get(&(at, column)) {
                Some(style) => cell.replacen(&row[column], &styled(*style, &row[column]), 1),
                None => cell,
            });
            out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            out.push('\n');
        }
        out
    }

    fn widths(&self) -> Vec<usize> {
        let width = |at: usize, heading: &str| {
            let cells = self.rows.iter().map(|row| row[at].width());
            cells.fold(heading.width(), usize::max)
        };
        self.headings
            .iter()
            .enumerate()
            .map(|(at, (heading, _))| width(at, heading))
            .collect()
    }
}

/// Columns whose widths are known: rows are laid out one by one. Cells hold no control characters; one that is wider than its column stands out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Columns {
    pub(crate) widths: Vec<usize>,
    pub(crate) aligns: Vec<Align>,
}

impl Columns {
    /// One line with cells two spaces apart.
    pub(crate) fn plain<T: AsRef<str>>(&self, cells: &[T]) -> String {
        let cells: Vec<String> = self.padded(cells, &self.aligns).collect();
        format!("{}\n", cells.join("  ").trim_end())
    }

    /// One line with lines between its cells.
    pub(crate) fn boxed<T: AsRef<str>>(&self, cells: &[T]) -> String {
        let cells: Vec<String> = self.padded(cells, &self.aligns).collect();
        format!("| {} |\n", cells.join(" | "))
    }

    /// The line of headings of a boxed table, with a rule above and below.
    pub(crate) fn boxed_head<T: AsRef<str>>(&self, headings: &[T]) -> String {
        let left = vec![Align::Left; self.aligns.len()];
        let cells: Vec<String> = self.padded(headings, &left).collect();
        let rule = self.rule();
        format!("{rule}| {} |\n{rule}", cells.join(" | "))
    }

    /// The line above and below a boxed table.
    pub(crate) fn rule(&self) -> String {
        let parts = self.widths.iter().map(|width| "-".repeat(width + 2));
        format!("+{}+\n", parts.collect::<Vec<_>>().join("+"))
    }

    fn padded<'a, T: AsRef<str>>(
        &'a self,
        cells: &'a [T],
        aligns: &'a [Align],
    ) -> impl Iterator<Item = String> + 'a {
        let cells = cells.iter().zip(&self.widths).zip(aligns);
        cells.map(|((cell, width), align)| padded(cell.as_ref(), *width, *align))
    }
}

fn padded(cell: &str, width: usize, align: Align) -> String {
    let room = " ".repeat(width.saturating_sub(cell.width()));
    match align {
        Align::Left => format!("{cell}{room}"),
        Align::Right => format!("{room}{cell}"),
    }
}

/// The beginning of the text that is at most `width` wide, with an ellipsis where something was left out.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let (mut kept, mut used) = (String::new(), 0);
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used + 1 > width {
            break;
        }
        kept.push(c);
    }
    kept.push('…');
    kept
}

/// The text with control characters as escapes.
pub(crate) fn printable(text: &str) -> String {
    if !text.chars().any(is_unprintable) {
        return text.to_owned();
    }
    text.chars()
        .map(|c| {
            if is_unprintable(c) {
                c.escape_default().to_string()
            } else {
                c.to_string()
            }
        })
        .collect()
}

/// Control characters, and those that only change the direction of text.
fn is_unprintable(c: char) -> bool {
    c.width().is_none() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> TextTable {
        let mut table = TextTable::new([
            ("id", Align::Right),
            ("name", Align::Left),
            ("note", Align::Left),
        ]);
        table.row(["1", "grün", ""]);
        table.row(["1000", "漢字", "a\nb\u{1b}[31m"]);
        table.row(["7"]);
        table
    }

    #[test]
    fn plain_columns_are_aligned_by_what_is_seen() {
        let want = "  id  name  note\n   1  grün\n1000  漢字  a\\nb\\u{1b}[31m\n   7\n";
        assert_eq!(table().plain(), want);
    }

    #[test]
    fn boxes_are_closed_on_every_line() {
        let table = table();
        let columns = Columns {
            widths: table.widths(),
            aligns: vec![Align::Right, Align::Left, Align::Left],
        };
        let rows = table.rows.iter().map(|row| columns.boxed(row));
        let boxed = columns.boxed_head(&["id", "name", "note"])
            + &rows.collect::<String>()
            + &columns.rule();
        let want = "\
+------+------+----------------+
| id   | name | note           |
+------+------+----------------+
|    1 | grün |                |
| 1000 | 漢字 | a\\nb\\u{1b}[31m |
|    7 |      |                |
+------+------+----------------+
";
        assert_eq!(boxed, want);
    }

    #[test]
    fn long_text_is_cut_to_what_is_seen() {
        for (text, width, want) in [
            ("short", 5, "short"),
            ("longer", 5, "long…"),
            ("漢字漢字", 6, "漢字…"),
            ("漢字漢字", 5, "漢字…"),
            ("漢字漢字", 4, "漢…"),
        ] {
            assert_eq!(cut(text, width), want);
        }
    }
}
