//! Cuts a reply whose rows are too many for one message into several, row by row. Pure; a row is never cut.

use halite_proto::v1;
use prost::Message as _;

use super::{CallReply, CallResults};

/// What a row costs in a message beside its values: its tag and length.
const ROW_OVERHEAD: usize = 8;

/// Size of the rows in a message, about.
pub(super) fn bytes(results: &CallResults) -> usize {
    let rows = results.results.iter().flat_map(|result| &result.rows);
    rows.map(row_bytes).sum()
}

fn row_bytes(row: &v1::Row) -> usize {
    row.encoded_len() + ROW_OVERHEAD
}

/// Hands out the parts of `reply` in order, each with the bytes of its rows: at most `bytes_max`, unless a single row is larger.
pub(super) fn cut(reply: CallReply, bytes_max: usize, mut part: impl FnMut(CallReply, usize)) {
    let results = match reply.outcome {
        Ok(results) => results,
        Err(_) => return part(reply, 0),
    };
    #[cfg(feature = "planted-bugs")]
    let bytes_max = match halite_planted::on(halite_planted::Bug::RepliesOfAnySize) {
        true => usize::MAX,
        false => bytes_max,
    };
    let CallReply { token, more, .. } = reply;
    let whole = bytes(&results);
    let whole_reply = |results, more| CallReply {
        token,
        outcome: Ok(results),
        more,
    };
    if whole <= bytes_max {
        return part(whole_reply(results, more), whole);
    }
    let raft_index = results.raft_index;
    let begin = |statement| CallResults {
        first_statement: statement,
        results: Vec::new(),
        raft_index,
    };
    let mut current = begin(results.first_statement);
    let mut current_bytes = 0;
    for (statement, result) in (results.first_statement..).zip(results.results) {
        let v1::StatementResult {
            columns,
            rows,
            rows_affected,
            last_insert_rowid,
        } = result;
        current.results.push(v1::StatementResult {
            columns,
            rows: Vec::new(),
            rows_affected,
            last_insert_rowid,
        });
        for row in rows {
            let row_bytes = row_bytes(&row);
            if current_bytes > 0 && current_bytes + row_bytes > bytes_max {
                let full = std::mem::replace(&mut current, begin(statement));
                part(whole_reply(full, true), current_bytes);
                current_bytes = 0;
                // Whoever joins the parts takes the counts of the last one.
                current.results.push(v1::StatementResult {
                    rows_affected,
                    last_insert_rowid,
                    ..v1::StatementResult::default()
                });
            }
            current_bytes += row_bytes;
            if let Some(open) = current.results.last_mut() {
                open.rows.push(row);
            }
        }
    }
    part(whole_reply(current, more), current_bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(bytes: usize) -> v1::Row {
        v1::Row {
            values: vec![v1::Value {
                kind: Some(v1::value::Kind::Blob(vec![7; bytes].into())),
            }],
        }
    }

    fn result(rows: &[usize]) -> v1::StatementResult {
        v1::StatementResult {
            columns: vec!["b".into()],
            rows: rows.iter().copied().map(row).collect(),
            rows_affected: rows.len() as u64,
            last_insert_rowid: 9,
        }
    }

    fn parts(results: &CallResults, more: bool) -> Vec<CallReply> {
        let reply = CallReply {
            token: 3,
            outcome: Ok(results.clone()),
            more,
        };
        let mut parts = Vec::new();
        cut(reply, 1000, |part, bytes| {
            let rows: usize = part
                .outcome
                .iter()
                .flat_map(|results| &results.results)
                .map(|result| result.rows.len())
                .sum();
            assert!(bytes <= 1000 || rows == 1, "{rows} rows of {bytes} bytes");
            parts.push(part);
        });
        parts
    }

    #[test]
    fn parts_join_to_what_was_cut() {
        let whole = CallResults {
            first_statement: 2,
            results: vec![
                result(&[1]),
                result(&[400, 400, 400, 5000, 1, 1]),
                result(&[]),
                result(&[990, 300]),
            ],
            raft_index: 17,
        };
        for more in [false, true] {
            let parts = parts(&whole, more);
            assert!(parts.len() > 3, "{}", parts.len());
            let (last, before) = parts.split_last().expect("parts");
            assert!(before.iter().all(|part| part.more) && last.more == more);
            let mut joined = CallResults {
                first_statement: 2,
                ..CallResults::default()
            };
            for part in parts {
                assert_eq!(part.token, 3);
                joined.append(part.outcome.expect("results"));
            }
            assert_eq!(joined, whole);
        }
    }

    #[test]
    fn small_reply_stays_whole() {
        let whole = CallResults {
            results: vec![result(&[1, 2, 3])],
            ..CallResults::default()
        };
        assert_eq!(parts(&whole, false).len(), 1);
    }
}
