//! Text in columns for people: plain columns as in `halite status`, and the boxed tables of the SQL prompt.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

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

    /// Columns two spaces apart, without lines.
    pub(crate) fn plain(&self) -> String {
        let widths = self.widths();
        let headings: Vec<String> = self.headings.iter().map(|(text, _)| text.clone()).collect();
        let mut out = String::new();
        for row in std::iter::once(&headings).chain(&self.rows) {
            let cells = row.iter().zip(&self.headings).zip(&widths);
            let line: Vec<String> = cells
                .map(|((cell, (_, align)), width)| padded(cell, *width, *align))
                .collect();
            out.push_str(line.join("  ").trim_end());
            out.push('\n');
        }
        out
    }

    /// With lines around and between.
    pub(crate) fn boxed(&self) -> String {
        let widths = self.widths();
        let rule: String = widths
            .iter()
            .map(|width| format!("+{}", "-".repeat(width + 2)))
            .collect::<String>()
            + "+\n";
        let line = |cells: &[String], align_of: &dyn Fn(usize) -> Align| {
            let cells = cells.iter().zip(&widths).enumerate();
            let cells: String = cells
                .map(|(at, (cell, width))| format!("| {} ", padded(cell, *width, align_of(at))))
                .collect();
            cells + "|\n"
        };
        let headings: Vec<String> = self.headings.iter().map(|(text, _)| text.clone()).collect();
        let mut out = rule.clone() + &line(&headings, &|_| Align::Left) + &rule;
        for row in &self.rows {
            out.push_str(&line(row, &|at| self.headings[at].1));
        }
        out + &rule
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

fn padded(cell: &str, width: usize, align: Align) -> String {
    let room = " ".repeat(width.saturating_sub(cell.width()));
    match align {
        Align::Left => format!("{cell}{room}"),
        Align::Right => format!("{room}{cell}"),
    }
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
        let want = "\
+------+------+----------------+
| id   | name | note           |
+------+------+----------------+
|    1 | grün |                |
| 1000 | 漢字 | a\\nb\\u{1b}[31m |
|    7 |      |                |
+------+------+----------------+
";
        assert_eq!(table().boxed(), want);
    }
}
