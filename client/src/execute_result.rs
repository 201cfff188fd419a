//! What one executed statement gave.

use halite_proto::v1 as wire;

use crate::{Error, Rows};

/// What one executed statement gave.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ExecuteResult {
    /// Rows inserted, updated or deleted.
    pub rows_affected: u64,
    /// The rowid of the last row the statement inserted.
    pub last_insert_rowid: i64,
    /// What `RETURNING` (or a `SELECT`) gave. Never left out: if the rows are lost with the answer of a first try, the call fails with
    /// [`ErrorKind::RowsNotKept`](crate::ErrorKind::RowsNotKept).
    pub rows: Rows,
}

impl ExecuteResult {
    pub(crate) fn from_wire(result: wire::StatementResult) -> Result<Self, Error> {
        Ok(Self {
            rows_affected: result.rows_affected,
            last_insert_rowid: result.last_insert_rowid,
            rows: Rows::from_wire(result.columns, result.rows)?,
        })
    }
}
