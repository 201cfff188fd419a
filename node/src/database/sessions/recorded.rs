//! [`Recorded`]: what a write that is in the database gave its caller, for whoever asks again.
//!
//! Pure. Small results travel with the outcome, so that a retry gets what the first try would have got. What is left out is told as such: a retry
//! never hears of no rows where there were some.

use bytes::Bytes;
use halite_proto::v1;
use prost::Message as _;

use crate::database::failure;
use crate::database::reply::CallResults;

/// Rows of one call that are recorded, in bytes: a claimed job, some new ids. More are left out.
const CALL_ROWS_BYTES_MAX: usize = 8 << 10;
/// Rows that travel with one entry, in bytes: a batch of a thousand calls stays a small entry.
pub(in crate::database) const ENTRY_ROWS_BYTES_MAX: usize = 256 << 10;

/// The outcome of a call, with its rows if they are few and there is `room` in the entry (bytes, counted down).
pub(in crate::database) fn outcome(
    call_id: u64,
    results: &[v1::StatementResult],
    room: &mut usize,
) -> v1::CallOutcome {
    let mut outcome = v1::CallOutcome {
        call_id,
        rows_affected: results.iter().map(|result| result.rows_affected).collect(),
        last_insert_rowid: results
            .iter()
            .map(|result| result.last_insert_rowid)
            .collect(),
        ..v1::CallOutcome::default()
    };
    if results.iter().all(|result| result.columns.is_empty()) {
        return outcome;
    }
    let bytes: usize = results.iter().map(result_bytes).sum();
    if bytes > CALL_ROWS_BYTES_MAX.min(*room) {
        outcome.rows_left_out = true;
        return outcome;
    }
    *room -= bytes;
    let returned = |result: &v1::StatementResult| v1::ReturnedRows {
        columns: result.columns.clone(),
        rows: result.rows.clone(),
    };
    outcome.returned = results.iter().map(returned).collect();
    outcome
}

fn result_bytes(result: &v1::StatementResult) -> usize {
    let columns = result.columns.iter().map(String::len);
    let rows = result.rows.iter().map(v1::Row::encoded_len);
    columns.chain(rows).map(|bytes| bytes + 2).sum()
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::database) struct Recorded {
    outcome: v1::CallOutcome,
    pub(in crate::database) raft_index: u64,
}

impl Recorded {
    pub(super) fn new(outcome: &v1::CallOutcome, raft_index: u64) -> Self {
        let mut outcome = outcome.clone();
        let rows = outcome.returned.iter_mut().flat_map(|of| &mut of.rows);
        for value in rows.flat_map(|row| &mut row.values) {
            // What was decoded is a part of its whole entry, and would keep it in memory.
            if let Some(v1::value::Kind::Blob(blob)) = &mut value.kind {
                *blob = Bytes::copy_from_slice(blob);
            }
        }
        Recorded {
            outcome,
            raft_index,
        }
    }

    /// What a retry is told.
    ///
    /// # Errors
    /// It is kept, and its rows are not.
    pub(in crate::database) fn answer(&self) -> Result<CallResults, v1::Error> {
        if self.outcome.rows_left_out {
            return Err(failure::rows_not_kept(self.raft_index));
        }
        let counts = self.outcome.rows_affected.iter();
        let counts = counts.zip(&self.outcome.last_insert_rowid);
        let mut results: Vec<v1::StatementResult> = counts
            .map(|(rows_affected, last_insert_rowid)| v1::StatementResult {
                rows_affected: *rows_affected,
                last_insert_rowid: *last_insert_rowid,
                ..v1::StatementResult::default()
            })
            .collect();
        for (result, returned) in results.iter_mut().zip(&self.outcome.returned) {
            result.columns.clone_from(&returned.columns);
            result.rows.clone_from(&returned.rows);
        }
        Ok(CallResults {
            first_statement: 0,
            results,
            raft_index: self.raft_index,
        })
    }

    /// What its rows take, about.
    pub(super) fn rows_bytes(&self) -> usize {
        let returned = self.outcome.returned.iter();
        returned.map(v1::ReturnedRows::encoded_len).sum()
    }

    pub(super) fn leave_rows_out(&mut self) {
        self.outcome.returned = Vec::new();
        self.outcome.rows_left_out = true;
    }

    pub(super) fn to_proto(&self) -> v1::CallOutcomeAt {
        v1::CallOutcomeAt {
            outcome: Some(self.outcome.clone()),
            raft_index: self.raft_index,
        }
    }

    pub(super) fn from_proto(at: &v1::CallOutcomeAt) -> Option<(u64, Self)> {
        let outcome = at.outcome.as_ref()?;
        Some((outcome.call_id, Self::new(outcome, at.raft_index)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(rows: usize, bytes: usize) -> v1::StatementResult {
        let row = v1::Row {
            values: vec![v1::Value {
                kind: Some(v1::value::Kind::Blob(vec![7; bytes].into())),
            }],
        };
        v1::StatementResult {
            columns: vec!["a".into()],
            rows: vec![row; rows],
            rows_affected: rows as u64,
            last_insert_rowid: 3,
        }
    }

    fn without_rows() -> v1::StatementResult {
        v1::StatementResult {
            rows_affected: 2,
            ..v1::StatementResult::default()
        }
    }

    #[test]
    fn retry_is_told_what_the_first_try_would_have_been() {
        for results in [
            vec![without_rows()],
            vec![result(2, 100)],
            vec![without_rows(), result(0, 0), result(3, 1)],
        ] {
            let mut room = ENTRY_ROWS_BYTES_MAX;
            let recorded = Recorded::new(&outcome(4, &results, &mut room), 9);
            let answer = recorded.answer().expect("kept");
            assert_eq!((answer.results, answer.raft_index), (results, 9));
        }
    }

    #[test]
    fn rows_that_are_left_out_are_not_told_as_none() {
        let mut room = ENTRY_ROWS_BYTES_MAX;
        let large = outcome(4, &[result(1, CALL_ROWS_BYTES_MAX)], &mut room);
        assert_eq!(room, ENTRY_ROWS_BYTES_MAX);
        let mut room = 99;
        let no_room = outcome(4, &[result(1, 100)], &mut room);
        for outcome in [large, no_room] {
            let recorded = Recorded::new(&outcome, 9);
            let told = recorded.answer().expect_err("left out");
            assert_eq!(told.code(), v1::ErrorCode::RowsNotKept);
            assert_eq!(recorded.rows_bytes(), 0);
        }
    }

    #[test]
    fn rows_of_one_entry_are_bounded() {
        let mut room = ENTRY_ROWS_BYTES_MAX;
        let outcomes: Vec<_> = (0..1024)
            .map(|id| outcome(id, &[result(1, 7000)], &mut room))
            .collect();
        let bytes: usize = outcomes.iter().map(v1::CallOutcome::encoded_len).sum();
        assert!(bytes < ENTRY_ROWS_BYTES_MAX * 3 / 2, "{bytes}");
        assert!(outcomes[0].returned.len() == 1 && outcomes[1023].rows_left_out);
    }
}
