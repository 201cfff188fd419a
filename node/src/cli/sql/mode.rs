//! How rows are shown.

use clap::ValueEnum;
use halite_client::Value;

use crate::cli::text_table::{Align, TextTable, printable};

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
}

/// What one statement gave.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Answer {
    /// Empty for statements that give no rows.
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<Value>>,
    pub(crate) rows_affected: u64,
    pub(crate) last_insert_rowid: i64,
}

impl Mode {
    /// The answer as text with a line break at its end, or nothing where there is nothing to show.
    pub(crate) fn render(self, answer: &Answer) -> String {
        match self {
            Self::Json if answer.columns.is_empty() => {
                let (affected, rowid) = (answer.rows_affected, answer.last_insert_rowid);
                format!("{{\"rows_affected\":{affected},\"last_insert_rowid\":{rowid}}}\n")
            }
            Self::Json => json(answer),
            _ if answer.columns.is_empty() => String::new(),
            Self::Csv => csv(answer),
            Self::Table if answer.rows.is_empty() => String::new(),
            Self::Table => table(answer),
            Self::Line => line(answer),
        }
    }
}

fn table(answer: &Answer) -> String {
    let numbers = |at: usize| {
        answer.rows.iter().all(|row| {
            matches!(
                row.get(at),
                Some(Value::Integer(_) | Value::Real(_) | Value::Null)
            )
        })
    };
    let headings = answer.columns.iter().enumerate().map(|(at, name)| {
        let align = if numbers(at) {
            Align::Right
        } else {
            Align::Left
        };
        (name.as_str(), align)
    });
    let mut table = TextTable::new(headings);
    answer
        .rows
        .iter()
        .for_each(|row| table.row(row.iter().map(shown)));
    table.boxed()
}

fn line(answer: &Answer) -> String {
    let width = answer
        .columns
        .iter()
        .map(|name| name.chars().count())
        .max()
        .unwrap_or(0);
    let row = |row: &Vec<Value>| {
        let values = answer.columns.iter().zip(row);
        values
            .map(|(name, value)| {
                format!(
                    "{:>width$} = {}\n",
                    printable(name),
                    printable(&shown(value))
                )
            })
            .collect::<String>()
    };
    answer.rows.iter().map(row).collect::<Vec<_>>().join("\n")
}

fn csv(answer: &Answer) -> String {
    let record = |fields: Vec<String>| {
        fields
            .iter()
            .map(|field| csv_field(field))
            .collect::<Vec<_>>()
            .join(",")
            + "\n"
    };
    let mut out = record(answer.columns.clone());
    for row in &answer.rows {
        let field = |value: &Value| {
            if value.is_null() {
                String::new()
            } else {
                shown(value)
            }
        };
        out.push_str(&record(row.iter().map(field).collect()));
    }
    out
}

fn csv_field(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

/// Objects written by hand: columns keep their order, and two of one name stay two.
fn json(answer: &Answer) -> String {
    let keys: Vec<String> = answer.columns.iter().map(|name| json_text(name)).collect();
    let object = |row: &Vec<Value>| {
        let fields = keys
            .iter()
            .zip(row)
            .map(|(key, value)| format!("{key}:{}", json_value(value)));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
    };
    format!(
        "[{}]\n",
        answer
            .rows
            .iter()
            .map(object)
            .collect::<Vec<_>>()
            .join(",\n")
    )
}

fn json_value(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Integer(integer) => integer.to_string(),
        // JSON has no infinities: a number too large for a double says the same.
        Value::Real(real) if real.is_infinite() => {
            if *real > 0.0 { "9e999" } else { "-9e999" }.to_owned()
        }
        Value::Real(real) if real.is_nan() => "null".to_owned(),
        Value::Real(real) => real_text(*real),
        Value::Text(text) => json_text(text),
        Value::Blob(blob) => json_text(&hex(blob)),
    }
}

fn json_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The value for people: `NULL`, numbers and text as they are, blobs as SQL literals.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Integer(integer) => integer.to_string(),
        Value::Real(real) if real.is_infinite() => {
            if *real > 0.0 { "Inf" } else { "-Inf" }.to_owned()
        }
        Value::Real(real) => real_text(*real),
        Value::Text(text) => text.clone(),
        Value::Blob(blob) => format!("x'{}'", hex(blob)),
    }
}

/// The shortest text that reads back as the same double, always with a point or an exponent.
fn real_text(real: f64) -> String {
    format!("{real:?}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(Mode::Table.render(&answer()), want);
    }

    #[test]
    fn csv_is_quoted_where_it_has_to_be() {
        assert_eq!(
            Mode::Csv.render(&answer()),
            "id,note\n1,plain\n20,\"say \"\"hi\"\", you\"\n,\n1.0,x'00ff'\n"
        );
    }

    #[test]
    fn json_keeps_types_and_the_order_of_columns() {
        let text = Mode::Json.render(&answer());
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
        assert_eq!(Mode::Json.render(&odd), "[{\"z\":-9e999}]\n");
    }

    #[test]
    fn lines_name_each_value() {
        let text = Mode::Line.render(&answer());
        assert!(
            text.starts_with("  id = 1\nnote = plain\n\n  id = 20\n"),
            "{text}"
        );
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
            assert_eq!(mode.render(&none), "");
            assert_eq!(mode.render(&no_rows), "");
        }
        assert_eq!(Mode::Csv.render(&none), "");
        assert_eq!(Mode::Csv.render(&no_rows), "id,note\n");
        assert_eq!(Mode::Json.render(&no_rows), "[]\n");
        assert_eq!(
            Mode::Json.render(&none),
            "{\"rows_affected\":2,\"last_insert_rowid\":7}\n"
        );
    }
}
