//! What a statement was answered with, by whomever, and how two answers differ.

use halite_client::{ErrorKind, Value};

/// What a statement gave, or why it was refused.
#[derive(Debug, Clone)]
pub(super) enum Said {
    Answer(Answer),
    Refusal(Refusal),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Answer {
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<Value>>,
    /// `None` where it was asked for rows only.
    pub(super) counts: Option<Counts>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub(super) changes: u64,
    pub(super) rowid: Rowid,
}

/// `last_insert_rowid`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rowid {
    /// The statement left it at this.
    Moved(i64),
    /// It is as it was before: of another statement, or the same again.
    Stood(i64),
}

#[derive(Debug, Clone)]
pub(super) struct Refusal {
    /// SQLite's extended result code; 0 where it was not SQLite who refused.
    pub(super) code: i32,
    pub(super) message: String,
}

impl Said {
    pub(super) fn is_answer(&self) -> bool {
        matches!(self, Said::Answer(_))
    }

    /// How what was told differs from this.
    pub(super) fn difference(&self, told: &Said) -> Option<String> {
        match (self, told) {
            (Said::Answer(expected), Said::Answer(told)) => expected.difference(told),
            (Said::Refusal(expected), Said::Refusal(told)) => {
                let same = expected.code == told.code && expected.message == told.message;
                (!same).then(|| format!("refused as {told:?}, expected {expected:?}"))
            }
            (Said::Answer(expected), Said::Refusal(told)) => {
                Some(format!("refused as {told:?}, expected {:?}", expected.rows))
            }
            (Said::Refusal(expected), Said::Answer(told)) => Some(format!(
                "answered with {:?}, expected {expected:?}",
                told.rows
            )),
        }
    }
}

impl Answer {
    fn difference(&self, told: &Answer) -> Option<String> {
        if self.columns != told.columns {
            return Some(format!(
                "columns {:?}, expected {:?}",
                told.columns, self.columns
            ));
        }
        if self.rows != told.rows {
            return Some(format!("rows {:?}, expected {:?}", told.rows, self.rows));
        }
        match (self.counts, told.counts) {
            (Some(expected), Some(told)) => expected.difference(told),
            _ => None,
        }
    }
}

impl Rowid {
    pub(super) fn value(self) -> i64 {
        match self {
            Rowid::Moved(rowid) | Rowid::Stood(rowid) => rowid,
        }
    }
}

impl Counts {
    pub(super) const NONE: Counts = Counts {
        changes: 0,
        rowid: Rowid::Stood(0),
    };

    fn difference(self, told: Counts) -> Option<String> {
        let rowid = told.rowid.value();
        let same = match self.rowid {
            Rowid::Moved(expected) => rowid == expected,
            // A call knows nothing of the one before it.
            Rowid::Stood(expected) => rowid == expected || rowid == 0,
        };
        let same = same && self.changes == told.changes;
        (!same).then(|| format!("changes={} rowid={rowid}, expected {self:?}", told.changes))
    }
}

impl From<halite_client::Rows> for Answer {
    fn from(rows: halite_client::Rows) -> Self {
        Self {
            columns: rows.columns().to_vec(),
            rows: rows
                .into_iter()
                .map(halite_client::Row::into_values)
                .collect(),
            counts: None,
        }
    }
}

impl From<halite_client::ExecuteResult> for Answer {
    fn from(result: halite_client::ExecuteResult) -> Self {
        let counts = Counts {
            changes: result.rows_affected,
            rowid: Rowid::Moved(result.last_insert_rowid),
        };
        Self {
            counts: Some(counts),
            ..Self::from(result.rows)
        }
    }
}

impl From<halite_client::Error> for Refusal {
    fn from(error: halite_client::Error) -> Self {
        let text = error.to_string();
        let message = match error.kind() {
            ErrorKind::Sql { .. } => text.rfind(": code=").map_or(&*text, |at| &text[..at]),
            _ => &*text,
        };
        Self {
            code: error.sqlite_code().unwrap_or(0),
            message: message.to_owned(),
        }
    }
}

impl<A: Into<Answer>> From<Result<A, halite_client::Error>> for Said {
    fn from(told: Result<A, halite_client::Error>) -> Self {
        match told {
            Ok(answer) => Said::Answer(answer.into()),
            Err(error) => Said::Refusal(error.into()),
        }
    }
}
