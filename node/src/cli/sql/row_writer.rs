//! [`RowWriter`]: rows become text one by one, in the form of a [`Mode`]. Pure.
//!
//! Only columns that stand below each other need more than one row: their widths are those of the first rows, which are bounded in number and
//! size. What comes later and is wider stands out; on a terminal it is cut, so that a long value does not break the table.

use halite_client::Value;
use unicode_width::UnicodeWidthStr;

use super::mode::{Look, Mode};
use super::pour::{Sink, Stopped};
use super::value_text::{beginning, csv_field, json_text, json_value, shown};
use crate::cli::text_table::{Align, Columns, cut, printable};

/// Rows that widths are measured on.
const FIRST_ROWS: usize = 1_000;
/// Fewer, if these are so large together.
const FIRST_BYTES: usize = 1 << 20;
/// Where columns would have to be narrower than this to fit a terminal, each value gets a line of its own.
const NARROWEST: usize = 8;

pub(super) struct RowWriter {
    look: Look,
    columns: Vec<String>,
    /// Rows so far.
    count: u64,
    /// Rows until it is known how columns stand.
    first: Vec<Vec<Value>>,
    first_bytes: usize,
    /// How columns stand, once it is known.
    layout: Option<Layout>,
}

enum Layout {
    Columns(Columns),
    /// They would not fit the terminal.
    Lines,
}

impl RowWriter {
    /// Writes what comes before all rows.
    pub(super) fn begin(look: Look, columns: Vec<String>, out: &mut String) -> Self {
        match look.mode {
            Mode::Csv if look.headings => {
                out.push_str(&csv_record(columns.iter().map(|name| csv_field(name))));
            }
            Mode::Json => out.push('['),
            _ => {}
        }
        Self {
            look,
            columns,
            count: 0,
            first: Vec::new(),
            first_bytes: 0,
            layout: None,
        }
    }

    pub(super) fn push(&mut self, row: Vec<Value>, out: &mut String) {
        self.count += 1;
        match self.look.mode {
            Mode::Csv => {
                let fields = row.iter().map(|value| match value {
                    Value::Null => String::new(),
                    value => csv_field(&shown(value)),
                });
                out.push_str(&csv_record(fields));
            }
            Mode::Json => self.json(&row, out),
            Mode::Line => self.lines(&row, out),
            Mode::Table | Mode::Column => match &self.layout {
                Some(_) => self.laid_out(&row, out),
                None => {
                    self.first_bytes += row.iter().map(bytes).sum::<usize>();
                    self.first.push(row);
                    if self.first.len() >= FIRST_ROWS || self.first_bytes >= FIRST_BYTES {
                        self.settle(out);
                    }
                }
            },
        }
    }

    /// Writes what is left, and what comes after all rows.
    pub(super) fn finish(mut self, out: &mut String) {
        match self.look.mode {
            Mode::Json => out.push_str("]\n"),
            _ => self.close(out),
        }
    }

    /// Writes what is left where the rest of the rows will not come. JSON is not closed: what is not whole must not read as if it were.
    pub(super) fn break_off(mut self, out: &mut String) {
        match self.look.mode {
            Mode::Json => out.push('\n'),
            _ => self.close(out),
        }
    }

    fn close(&mut self, out: &mut String) {
        if self.layout.is_none() && !self.first.is_empty() {
            self.settle(out);
        }
        if let (Mode::Table, Some(Layout::Columns(columns))) = (self.look.mode, &self.layout) {
            out.push_str(&columns.rule());
        }
    }

    /// Objects written by hand: columns keep their order, and two of one name stay two.
    fn json(&self, row: &[Value], out: &mut String) {
        let fields = self.columns.iter().zip(row);
        let fields =
            fields.map(|(name, value)| format!("{}:{}", json_text(name), json_value(value)));
        let fields: Vec<String> = fields.collect();
        if self.count > 1 {
            out.push_str(",\n");
        }
        out.push_str(&format!("{{{}}}", fields.join(",")));
    }

    fn lines(&self, row: &[Value], out: &mut String) {
        let names = self.columns.iter().map(|name| name.chars().count());
        let width = names.max().unwrap_or(0);
        if self.count > 1 {
            out.push('\n');
        }
        for (name, value) in self.columns.iter().zip(row) {
            let (name, value) = (printable(name), printable(&shown(value)));
            out.push_str(&format!("{name:>width$} = {value}\n"));
        }
    }

    /// Decides how columns stand, and writes the rows that were waiting for it.
    fn settle(&mut self, out: &mut String) {
        let rows = std::mem::take(&mut self.first);
        let columns = self.natural(&rows);
        let layout = match self.look.screen {
            Some(screen) => fitted(columns, screen.saturating_sub(self.frame())),
            None => Layout::Columns(columns),
        };
        if let Layout::Columns(columns) = &layout {
            let names = self.columns.iter().zip(&columns.widths);
            let names: Vec<String> = names.map(|(name, width)| self.cell(name, *width)).collect();
            out.push_str(&match (self.look.mode, self.look.headings) {
                (Mode::Table, true) => columns.boxed_head(&names),
                (Mode::Table, false) => columns.rule(),
                (_, true) => columns.plain(&names),
                (_, false) => String::new(),
            });
        }
        self.layout = Some(layout);
        let count = std::mem::replace(&mut self.count, 0);
        for row in rows {
            self.count += 1;
            self.laid_out(&row, out);
        }
        self.count = count;
    }

    /// As wide as the widest of these rows.
    fn natural(&self, rows: &[Vec<Value>]) -> Columns {
        let mut columns = Columns {
            widths: self
                .columns
                .iter()
                .map(|name| printable(name).width())
                .collect(),
            aligns: vec![Align::Right; self.columns.len()],
        };
        for row in rows {
            for (at, value) in row.iter().enumerate() {
                let width = &mut columns.widths[at];
                *width = (*width).max(self.text(value).width());
                if !is_number(value) && !value.is_null() {
                    columns.aligns[at] = Align::Left;
                }
            }
        }
        columns
    }

    fn laid_out(&self, row: &[Value], out: &mut String) {
        let Some(Layout::Columns(columns)) = &self.layout else {
            return self.lines(row, out);
        };
        let mut cells: Vec<String> = row.iter().map(|value| self.text(value)).collect();
        let widths = cells.iter().zip(&columns.widths);
        let width: usize = widths.map(|(cell, width)| cell.width().max(*width)).sum();
        if self
            .look
            .screen
            .is_some_and(|screen| width + self.frame() > screen)
        {
            let whole = row.iter().map(is_number);
            for ((cell, width), whole) in cells.iter_mut().zip(&columns.widths).zip(whole) {
                if !whole {
                    *cell = cut(cell, *width);
                }
            }
        }
        out.push_str(&match self.look.mode {
            Mode::Table => columns.boxed(&cells),
            _ => columns.plain(&cells),
        });
    }

    /// A value as it may stand in a table.
    fn text(&self, value: &Value) -> String {
        match self.look.screen {
            // No more than can be seen: a blob may have megabytes.
            Some(screen) => printable(&beginning(value, screen + 1)),
            None => printable(&shown(value)),
        }
    }

    fn cell(&self, name: &str, width: usize) -> String {
        match self.look.screen {
            Some(_) => cut(&printable(name), width),
            None => printable(name),
        }
    }

    /// What stands between and around the cells of a line.
    fn frame(&self) -> usize {
        match self.look.mode {
            Mode::Table => 3 * self.columns.len() + 1,
            _ => 2 * self.columns.len().saturating_sub(1),
        }
    }
}

/// The widest columns of text give way until all columns fit into `room`. A number that is cut would be another number.
fn fitted(mut columns: Columns, room: usize) -> Layout {
    let capped = |cap: usize, width: usize, align: Align| match align {
        Align::Left => cap.min(width),
        Align::Right => width,
    };
    let fits = |cap: usize| {
        let columns = columns.widths.iter().zip(&columns.aligns);
        let widths = columns.map(|(width, align)| capped(cap, *width, *align));
        widths.sum::<usize>() <= room
    };
    let widest = columns.widths.iter().copied().max().unwrap_or(0);
    if fits(widest) {
        return Layout::Columns(columns);
    }
    let Some(cap) = (NARROWEST..widest).rev().find(|cap| fits(*cap)) else {
        return Layout::Lines;
    };
    for (width, align) in columns.widths.iter_mut().zip(&columns.aligns) {
        *width = capped(cap, *width, *align);
    }
    Layout::Columns(columns)
}

impl Sink for RowWriter {
    fn push(&mut self, row: Vec<Value>, out: &mut String) -> Result<(), Stopped> {
        RowWriter::push(self, row, out);
        Ok(())
    }

    fn finish(self, out: &mut String) -> Result<(), Stopped> {
        RowWriter::finish(self, out);
        Ok(())
    }

    fn break_off(self, out: &mut String) {
        RowWriter::break_off(self, out);
    }

    fn count(&self) -> u64 {
        self.count
    }
}

fn csv_record(fields: impl Iterator<Item = String>) -> String {
    fields.collect::<Vec<_>>().join(",") + "\n"
}

fn is_number(value: &Value) -> bool {
    matches!(value, Value::Integer(_) | Value::Real(_))
}

fn bytes(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::Blob(blob) => blob.len(),
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn written(look: Look, columns: &[&str], rows: &[Vec<Value>]) -> String {
        let columns = columns.iter().map(|name| (*name).to_owned()).collect();
        let mut out = String::new();
        let mut writer = RowWriter::begin(look, columns, &mut out);
        rows.iter()
            .for_each(|row| writer.push(row.clone(), &mut out));
        writer.finish(&mut out);
        out
    }

    fn look(mode: Mode, screen: Option<usize>) -> Look {
        Look {
            mode,
            headings: true,
            screen,
            counts: false,
        }
    }

    #[test]
    fn rows_are_written_as_they_come() {
        for (mode, begin, first, second, end) in [
            (Mode::Csv, "a\n", "1\n", "2\n", ""),
            (Mode::Json, "[", "{\"a\":1}", ",\n{\"a\":2}", "]\n"),
            (Mode::Line, "", "a = 1\n", "\na = 2\n", ""),
        ] {
            let mut piece = String::new();
            let mut writer = RowWriter::begin(look(mode, None), vec!["a".into()], &mut piece);
            assert_eq!(std::mem::take(&mut piece), begin);
            writer.push(vec![Value::Integer(1)], &mut piece);
            assert_eq!(std::mem::take(&mut piece), first);
            writer.push(vec![Value::Integer(2)], &mut piece);
            assert_eq!(std::mem::take(&mut piece), second);
            writer.finish(&mut piece);
            assert_eq!(piece, end);
        }
    }

    #[test]
    fn a_table_holds_its_first_rows_only() {
        let (mut out, look) = (String::new(), look(Mode::Table, None));
        let mut writer = RowWriter::begin(look, vec!["a".into()], &mut out);
        for row in 0..FIRST_ROWS - 1 {
            writer.push(vec![Value::Integer(row as i64 % 10)], &mut out);
        }
        assert_eq!(out, "");
        writer.push(vec![Value::Integer(0)], &mut out);
        assert_eq!(out.lines().count(), FIRST_ROWS + 3);
        out.clear();
        writer.push(vec![text("wider")], &mut out);
        assert_eq!((out.as_str(), writer.first.len()), ("| wider |\n", 0));
        out.clear();
        writer.finish(&mut out);
        assert_eq!(out, "+---+\n");
        // Large rows do not wait for as many others.
        let mut writer = RowWriter::begin(look, vec!["a".into()], &mut out);
        writer.push(vec![text(&"x".repeat(FIRST_BYTES))], &mut out);
        assert!(out.len() > FIRST_BYTES && writer.first.is_empty());
    }

    #[test]
    fn what_is_not_whole_does_not_read_as_if_it_were() {
        for (mode, want) in [
            (Mode::Json, "[{\"a\":1}\n"),
            (Mode::Csv, "a\n1\n"),
            (Mode::Table, "+---+\n| a |\n+---+\n| 1 |\n+---+\n"),
        ] {
            let mut out = String::new();
            let mut writer = RowWriter::begin(look(mode, None), vec!["a".into()], &mut out);
            writer.push(vec![Value::Integer(1)], &mut out);
            writer.break_off(&mut out);
            assert_eq!(out, want);
        }
    }

    #[test]
    fn long_values_do_not_break_a_table_on_a_terminal() {
        let blob = Value::Blob(vec![0xab; 1 << 19].into());
        let rows = [
            vec![Value::Integer(1), text(&"word ".repeat(30)), blob],
            vec![Value::Integer(i64::MAX), text("short"), Value::Null],
        ];
        let columns = ["id", "text", "blob"];
        let shown = written(look(Mode::Table, Some(60)), &columns, &rows);
        assert!(shown.lines().all(|line| line.width() == 59), "{shown}");
        assert!(
            shown.contains("…") && shown.contains("| 9223372036854775807 | short "),
            "{shown}"
        );
        let whole = written(look(Mode::Table, None), &columns, &rows);
        assert!(whole.len() > 5 << 20 && !whole.contains('…'));
    }

    #[test]
    fn what_cannot_stand_side_by_side_stands_line_by_line() {
        let names: Vec<String> = (0..12).map(|at| format!("column_{at}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let row: Vec<Value> = (0..12).map(|_| text("a longer value")).collect();
        let shown = written(look(Mode::Table, Some(80)), &names, &[row.clone(), row]);
        assert_eq!(shown.lines().count(), 25, "{shown}");
        assert!(shown.starts_with(" column_0 = a longer value\n"), "{shown}");
        assert!(shown.contains("\n\n column_0"), "{shown}");
    }

    #[test]
    fn later_rows_of_a_terminal_are_whole_where_there_is_room() {
        let mut rows: Vec<Vec<Value>> = (0..FIRST_ROWS)
            .map(|_| vec![text("x"), text("y")])
            .collect();
        rows.push(vec![text("longer"), text("y")]);
        rows.push(vec![text(&"z".repeat(90)), text("y")]);
        let shown = written(look(Mode::Column, Some(20)), &["a", "b"], &rows);
        assert!(shown.ends_with("x  y\nlonger  y\n…  y\n"), "{shown}");
    }
}
