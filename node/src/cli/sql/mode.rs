//! How rows are shown.

use clap::ValueEnum;
use halite_client::Value;

use super::row_writer::RowWriter;

/// How rows are shown. The names are those of the sqlite3 shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Boxes
    Table,
    /// Comma-separated values with a line of headings (RFC 4180); NULL is an empty field
    Csv,
    /// An array of one object per row
    Json,
    /// One line per value
    Line,
    /// Columns side by side, without boxes
    Column,
}

/// What one statement gave.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Answer {
    /// Empty for statements that give no rows.
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<Value>>,
    pub(crate) rows_affected: u64,
    pub(crate) last_insert_rowid: i64,
    /// The statement is one that writes rows: how many is of interest.
    pub(crate) counts: bool,
}

/// How an answer is to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) mode: Mode,
    /// Whether the names of columns are shown where that is a line of its own.
    pub(crate) headings: bool,
    /// Columns of the terminal that the answer is for; `None`: it goes to a file or a program, and is whole.
    pub(crate) screen: Option<usize>,
    /// Somebody wants to know how many rows a statement wrote.
    pub(crate) counts: bool,
}

/// `1 row`, `2 rows`.
fn rows_text(rows: u64) -> String {
    match rows {
        1 => "1 row".to_owned(),
        rows => format!("{rows} rows"),
    }
}

impl Look {
    /// The answer as text with a line break at its end, or nothing where there is nothing to show.
    pub(crate) fn render(self, answer: Answer) -> String {
        let mut out = String::new();
        if answer.columns.is_empty() {
            if self.mode == Mode::Json {
                let (affected, rowid) = (answer.rows_affected, answer.last_insert_rowid);
                out = format!("{{\"rows_affected\":{affected},\"last_insert_rowid\":{rowid}}}\n");
            } else if answer.counts && self.counts {
                out = format!("{}\n", rows_text(answer.rows_affected));
            }
            return out;
        }
        let mut writer = RowWriter::begin(self, answer.columns, &mut out);
        for row in answer.rows {
            writer.push(row, &mut out);
        }
        writer.finish(&mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(mode: Mode, answer: &Answer, headings: bool) -> String {
        let look = Look {
            mode,
            headings,
            screen: None,
            counts: false,
        };
        look.render(answer.clone())
    }

    fn answer() -> Answer {
        Answer {
            columns: vec!["id".to_owned(), "note".to_owned()],
            rows: vec![
                vec![Value::Integer(1), Value::Text("plain".to_owned())],
                vec![
                    Value::Integer(20),
                    Value::Text("say \"hi\", you".to_owned()),
                ],
                vec![Value::Null, Value::Null],
                vec![Value::Real(1.0), Value::Blob(vec![0, 255].into())],
            ],
            ..Answer::default()
        }
    }

    #[test]
    fn tables_line_up() {
        let want = "\
+------+---------------+
| id   | note          |
+------+---------------+
|    1 | plain         |
|   20 | say \"hi\", you |
| NULL | NULL          |
|  1.0 | x'00ff'       |
+------+---------------+
";
        assert_eq!(render(Mode::Table, &answer(), true), want);
    }

    #[test]
    fn headings_can_be_left_out() {
        assert_eq!(
            render(Mode::Column, &answer(), true),
            "  id  note\n   1  plain\n  20  say \"hi\", you\nNULL  NULL\n 1.0  x'00ff'\n"
        );
        for mode in [Mode::Column, Mode::Csv, Mode::Table] {
            let text = render(mode, &answer(), false);
            assert!(!text.contains("note") && text.contains("plain"), "{text}");
        }
    }

    #[test]
    fn csv_is_quoted_where_it_has_to_be() {
        assert_eq!(
            render(Mode::Csv, &answer(), true),
            "id,note\n1,plain\n20,\"say \"\"hi\"\", you\"\n,\n1.0,x'00ff'\n"
        );
    }

    #[test]
    fn json_keeps_types_and_the_order_of_columns() {
        let text = render(Mode::Json, &answer(), true);
        assert!(
            text.starts_with("[{\"id\":1,\"note\":\"plain\"},\n{\"id\":20,"),
            "{text}"
        );
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(parsed[2]["id"].is_null());
        assert_eq!(parsed[3]["note"], "00ff");
        let odd = Answer {
            columns: vec!["z".to_owned()],
            rows: vec![vec![Value::Real(f64::NEG_INFINITY)]],
            ..Answer::default()
        };
        assert_eq!(render(Mode::Json, &odd, true), "[{\"z\":-9e999}]\n");
    }

    #[test]
    fn lines_name_each_value() {
        let text = render(Mode::Line, &answer(), true);
        assert!(
            text.starts_with("  id = 1\nnote = plain\n\n  id = 20\n"),
            "{text}"
        );
    }

    #[test]
    fn somebody_who_waits_is_told_how_many_rows_were_written() {
        let look = |mode, counts| Look {
            mode,
            headings: true,
            screen: Some(80),
            counts,
        };
        let wrote = |rows_affected| Answer {
            rows_affected,
            counts: true,
            ..Answer::default()
        };
        assert_eq!(look(Mode::Table, true).render(wrote(1)), "1 row\n");
        assert_eq!(look(Mode::Csv, true).render(wrote(0)), "0 rows\n");
        assert_eq!(look(Mode::Table, false).render(wrote(1)), "");
        // CREATE TABLE has none.
        assert_eq!(look(Mode::Table, true).render(Answer::default()), "");
        let json = look(Mode::Json, true).render(wrote(1));
        assert!(json.starts_with("{\"rows_affected\":1,"), "{json}");
    }

    #[test]
    fn nothing_to_show_shows_nothing() {
        let (none, no_rows) = (
            Answer {
                rows_affected: 2,
                last_insert_rowid: 7,
                ..Answer::default()
            },
            Answer {
                rows: vec![],
                ..answer()
            },
        );
        for mode in [Mode::Table, Mode::Line] {
            assert_eq!(render(mode, &none, true), "");
            assert_eq!(render(mode, &no_rows, true), "");
        }
        assert_eq!(render(Mode::Csv, &none, true), "");
        assert_eq!(render(Mode::Csv, &no_rows, true), "id,note\n");
        assert_eq!(render(Mode::Json, &no_rows, true), "[]\n");
        assert_eq!(
            render(Mode::Json, &none, true),
            "{\"rows_affected\":2,\"last_insert_rowid\":7}\n"
        );
    }
}
