//! [`Sessions`]: which writes of which clients are in the database already, so that a retry is answered instead of being run again.
//!
//! Pure. The outcomes travel in the entries themselves and are recorded when an entry is applied, on every node alike: a new primary knows
//! what the old one has answered or was about to answer. Time is that of the entries. Called by lanes, redo and page diffs.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use bytes::Bytes;
use halite_proto::v1;

use super::CallKey;
pub(super) use recorded::{ENTRY_ROWS_BYTES_MAX, Recorded, outcome};

mod recorded;

/// A session that wrote nothing for this long is forgotten, in milliseconds of entry timestamps.
const UNUSED_MAX_MS: i64 = 10 * 60 * 1000;
/// How often sessions are looked through for unused ones, in milliseconds of entry timestamps.
const SWEEP_EVERY_MS: i64 = 10_000;
/// What one entry ages sessions by at most. The clock of a new primary may be hours ahead of the old one's, and it must not forget, with
/// its first entry, the clients whose calls are under way: they will retry them.
const STEP_MAX_MS: i64 = 30_000;
/// Sessions kept; beyond it the ones unused for longest are forgotten.
const SESSIONS_MAX: usize = 65_536;
/// Outcomes kept per session. A client that lets more pile up can no longer retry the oldest ones.
const CALLS_MAX: usize = 4_096;
/// Bytes of rows kept in all outcomes together; beyond it, those of the oldest ones are left out, down to half of it. They are in each checkpoint.
const ROWS_BYTES_MAX: usize = 8 << 20;

/// What is known of a call.
#[derive(Debug, PartialEq)]
pub(super) enum Lookup<'a> {
    /// It is not in the database: to be run.
    Unknown,
    /// It is: to be answered with this.
    Recorded(&'a Recorded),
    /// Its client said that it had the answer: what became of it is forgotten.
    Answered,
}

#[derive(Clone, Debug, Default)]
struct Client {
    answered_below: u64,
    calls: BTreeMap<u64, Recorded>,
    last_used_ms: i64,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Sessions {
    clients: BTreeMap<[u8; 16], Client>,
    next_sweep_ms: i64,
    /// Timestamp of the entry before.
    newest_ms: i64,
    /// Bytes of rows kept, at most: what was forgotten is noticed when they are counted again.
    rows_bytes: usize,
}

impl Sessions {
    /// What became of a call.
    pub(super) fn lookup(&self, key: &CallKey) -> Lookup<'_> {
        let Some(client) = self.clients.get(&key.client_id) else {
            return Lookup::Unknown;
        };
        match client.calls.get(&key.call_id) {
            Some(recorded) => Lookup::Recorded(recorded),
            None if key.call_id < client.answered_below => Lookup::Answered,
            None => Lookup::Unknown,
        }
    }

    /// Takes over the outcomes of one entry.
    pub(super) fn record(
        &mut self,
        raft_index: u64,
        timestamp_ms: i64,
        outcomes: &[v1::SessionOutcomes],
    ) {
        self.pass_over_jump(timestamp_ms);
        for session in outcomes {
            // An id of another length cannot come from a node; there is nobody to tell.
            let Ok(client_id) = <[u8; 16]>::try_from(session.client_id.as_ref()) else {
                continue;
            };
            let client = self.clients.entry(client_id).or_default();
            client.last_used_ms = client.last_used_ms.max(timestamp_ms);
            for call in &session.calls {
                let recorded = Recorded::new(call, raft_index);
                self.rows_bytes += recorded.rows_bytes();
                client.calls.insert(call.call_id, recorded);
            }
            client.forget_below(session.answered_below);
            while client.calls.len() > CALLS_MAX
                && let Some((call_id, _)) = client.calls.pop_first()
            {
                client.answered_below = client.answered_below.max(call_id.saturating_add(1));
            }
        }
        if timestamp_ms >= self.next_sweep_ms {
            self.next_sweep_ms = timestamp_ms.saturating_add(SWEEP_EVERY_MS);
            self.clients.retain(|_, client| {
                timestamp_ms.saturating_sub(client.last_used_ms) < UNUSED_MAX_MS
            });
        }
        self.limit();
        self.limit_rows();
    }

    /// Moves all sessions along with a clock that jumped ahead.
    fn pass_over_jump(&mut self, timestamp_ms: i64) {
        let step = timestamp_ms.saturating_sub(self.newest_ms);
        let jump = step.saturating_sub(STEP_MAX_MS);
        if jump > 0 {
            for client in self.clients.values_mut() {
                client.last_used_ms = client.last_used_ms.saturating_add(jump);
            }
        }
        self.newest_ms = self.newest_ms.max(timestamp_ms);
    }

    fn limit(&mut self) {
        if self.clients.len() <= SESSIONS_MAX {
            return;
        }
        // Down to nine tenths, so that this is not done for each new session.
        let mut ages: Vec<(i64, [u8; 16])> = self
            .clients
            .iter()
            .map(|(id, client)| (client.last_used_ms, *id))
            .collect();
        ages.sort_unstable();
        for (_, id) in &ages[..ages.len() - SESSIONS_MAX * 9 / 10] {
            self.clients.remove(id);
        }
    }

    /// Leaves the rows of the oldest outcomes out, if all together are too large.
    fn limit_rows(&mut self) {
        if self.rows_bytes <= ROWS_BYTES_MAX {
            return;
        }
        let all = self
            .clients
            .values_mut()
            .flat_map(|client| client.calls.values_mut());
        let mut with_rows: Vec<&mut Recorded> =
            all.filter(|recorded| recorded.rows_bytes() > 0).collect();
        with_rows.sort_by_key(|recorded| Reverse(recorded.raft_index));
        self.rows_bytes = 0;
        for recorded in with_rows {
            let bytes = recorded.rows_bytes();
            if self.rows_bytes + bytes > ROWS_BYTES_MAX / 2 {
                recorded.leave_rows_out();
            } else {
                self.rows_bytes += bytes;
            }
        }
    }

    /// The latest time of any entry that named a session, in milliseconds since 1970; 0 if there is none.
    pub(super) fn last_used_ms(&self) -> i64 {
        self.clients
            .values()
            .map(|client| client.last_used_ms)
            .max()
            .unwrap_or(0)
    }

    /// The form that checkpoints and page diffs carry; sessions in order of their ids.
    pub(super) fn to_proto(&self) -> v1::Sessions {
        let session = self
            .clients
            .iter()
            .map(|(client_id, client)| v1::Session {
                client_id: Bytes::copy_from_slice(client_id),
                answered_below: client.answered_below,
                calls: client.calls.values().map(Recorded::to_proto).collect(),
                last_used_ms: client.last_used_ms,
            })
            .collect();
        v1::Sessions { session }
    }

    /// Back from [`to_proto`](Self::to_proto). Sessions with an impossible id are left out.
    pub(super) fn from_proto(sessions: &v1::Sessions) -> Self {
        let clients = sessions
            .session
            .iter()
            .filter_map(|session| {
                let client_id = <[u8; 16]>::try_from(session.client_id.as_ref()).ok()?;
                let calls = session
                    .calls
                    .iter()
                    .filter_map(Recorded::from_proto)
                    .collect();
                let client = Client {
                    answered_below: session.answered_below,
                    calls,
                    last_used_ms: session.last_used_ms,
                };
                Some((client_id, client))
            })
            .collect();
        let mut back = Sessions {
            clients,
            next_sweep_ms: 0,
            newest_ms: 0,
            rows_bytes: 0,
        };
        back.newest_ms = back.last_used_ms();
        let calls = back
            .clients
            .values()
            .flat_map(|client| client.calls.values());
        back.rows_bytes = calls.map(Recorded::rows_bytes).sum();
        back
    }
}

impl Client {
    fn forget_below(&mut self, answered_below: u64) {
        if answered_below > self.answered_below {
            self.answered_below = answered_below;
            self.calls = self.calls.split_off(&answered_below);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(client: u8, call_id: u64) -> CallKey {
        CallKey {
            client_id: [client; 16],
            call_id,
        }
    }

    fn outcomes(client: u8, answered_below: u64, calls: &[u64]) -> v1::SessionOutcomes {
        v1::SessionOutcomes {
            client_id: Bytes::copy_from_slice(&[client; 16]),
            answered_below,
            calls: calls
                .iter()
                .map(|call_id| v1::CallOutcome {
                    call_id: *call_id,
                    rows_affected: vec![*call_id],
                    last_insert_rowid: vec![7],
                    ..v1::CallOutcome::default()
                })
                .collect(),
        }
    }

    #[test]
    fn recorded_call_is_found_until_its_client_has_the_answer() {
        let mut sessions = Sessions::default();
        sessions.record(10, 1_000, &[outcomes(1, 0, &[3, 4])]);
        let Lookup::Recorded(recorded) = sessions.lookup(&key(1, 3)) else {
            panic!("not recorded")
        };
        let answer = recorded.answer().expect("kept");
        assert_eq!(
            (answer.raft_index, answer.results[0].rows_affected),
            (10, 3)
        );
        assert_eq!(sessions.lookup(&key(1, 5)), Lookup::Unknown);
        assert_eq!(sessions.lookup(&key(2, 3)), Lookup::Unknown);

        sessions.record(11, 1_001, &[outcomes(1, 4, &[5])]);
        assert_eq!(sessions.lookup(&key(1, 3)), Lookup::Answered);
        assert!(matches!(sessions.lookup(&key(1, 4)), Lookup::Recorded(r) if r.raft_index == 10));
        assert!(matches!(sessions.lookup(&key(1, 5)), Lookup::Recorded(r) if r.raft_index == 11));

        // A late entry with a lower mark forgets nothing anew and brings nothing back.
        sessions.record(12, 1_002, &[outcomes(1, 2, &[])]);
        assert_eq!(sessions.lookup(&key(1, 3)), Lookup::Answered);
    }

    #[test]
    fn unused_session_is_forgotten_by_the_time_of_entries() {
        let mut sessions = Sessions::default();
        sessions.record(1, 0, &[outcomes(1, 0, &[1])]);
        for now in (0..UNUSED_MAX_MS).step_by(STEP_MAX_MS as usize) {
            sessions.record(2, now, &[outcomes(2, 0, &[1])]);
            assert!(matches!(sessions.lookup(&key(1, 1)), Lookup::Recorded(_)));
        }
        sessions.record(3, UNUSED_MAX_MS, &[]);
        assert_eq!(sessions.lookup(&key(1, 1)), Lookup::Unknown);
        assert!(matches!(sessions.lookup(&key(2, 1)), Lookup::Recorded(_)));
    }

    #[test]
    fn clock_that_jumps_ahead_forgets_nobody() {
        let day = 24 * 60 * 60 * 1000;
        let mut sessions = Sessions::default();
        sessions.record(1, day, &[outcomes(1, 0, &[1])]);
        // The next primary lives a day later, and so does the one that starts from a checkpoint.
        for mut sessions in [sessions.clone(), Sessions::from_proto(&sessions.to_proto())] {
            sessions.record(2, 2 * day, &[outcomes(2, 0, &[1])]);
            assert!(matches!(sessions.lookup(&key(1, 1)), Lookup::Recorded(_)));
            // Its own time ages everybody.
            for step in 1..=UNUSED_MAX_MS / STEP_MAX_MS {
                sessions.record(3, 2 * day + step * STEP_MAX_MS, &[]);
            }
            assert_eq!(sessions.lookup(&key(1, 1)), Lookup::Unknown);
        }
    }

    #[test]
    fn outcomes_of_a_client_that_never_confirms_are_bounded_and_not_run_twice() {
        let mut sessions = Sessions::default();
        let calls: Vec<u64> = (0..CALLS_MAX as u64 + 10).collect();
        sessions.record(1, 0, &[outcomes(1, 0, &calls)]);
        assert_eq!(sessions.lookup(&key(1, 9)), Lookup::Answered);
        assert!(matches!(sessions.lookup(&key(1, 10)), Lookup::Recorded(_)));
    }

    #[test]
    fn sessions_are_bounded_and_the_oldest_go_first() {
        let mut sessions = Sessions::default();
        for client in 0..=SESSIONS_MAX as u64 {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&client.to_be_bytes());
            let session = v1::SessionOutcomes {
                client_id: Bytes::copy_from_slice(&id),
                ..outcomes(0, 0, &[1])
            };
            sessions.record(client + 1, client as i64, &[session]);
        }
        assert_eq!(sessions.clients.len(), SESSIONS_MAX * 9 / 10);
        assert_eq!(
            sessions.lookup(&CallKey {
                client_id: [0; 16],
                call_id: 1
            }),
            Lookup::Unknown
        );
        let mut newest = [0; 16];
        newest[..8].copy_from_slice(&(SESSIONS_MAX as u64).to_be_bytes());
        assert!(matches!(
            sessions.lookup(&CallKey {
                client_id: newest,
                call_id: 1
            }),
            Lookup::Recorded(_)
        ));
    }

    /// One call of `client` whose row has about 8,000 bytes.
    fn with_row(client: u8, call_id: u64) -> v1::SessionOutcomes {
        let row = v1::Row {
            values: vec![v1::Value {
                kind: Some(v1::value::Kind::Text("x".repeat(8_000))),
            }],
        };
        let result = v1::StatementResult {
            columns: vec!["v".into()],
            rows: vec![row],
            ..v1::StatementResult::default()
        };
        let mut room = ENTRY_ROWS_BYTES_MAX;
        v1::SessionOutcomes {
            calls: vec![outcome(call_id, &[result], &mut room)],
            ..outcomes(client, 0, &[])
        }
    }

    #[test]
    fn rows_are_bounded_and_those_of_the_oldest_writes_are_left_out_first() {
        let mut sessions = Sessions::default();
        let calls = ROWS_BYTES_MAX as u64 / 8_000 * 2;
        for call_id in 1..=calls {
            sessions.record(call_id, 0, &[with_row(1, call_id)]);
            assert!(sessions.rows_bytes <= ROWS_BYTES_MAX);
        }
        let answer = |sessions: &Sessions, call_id| match sessions.lookup(&key(1, call_id)) {
            Lookup::Recorded(recorded) => recorded.answer(),
            other => panic!("{other:?}"),
        };
        for sessions in [&sessions, &Sessions::from_proto(&sessions.to_proto())] {
            let oldest = answer(sessions, 1).expect_err("left out");
            assert_eq!(oldest.code(), v1::ErrorCode::RowsNotKept);
            let newest = answer(sessions, calls).expect("kept");
            assert_eq!(newest.results[0].rows.len(), 1);
        }
        // What clients have answers to is not counted.
        sessions.record(
            calls + 1,
            0,
            &[outcomes(1, calls, &[]), with_row(1, calls + 1)],
        );
        let back = Sessions::from_proto(&sessions.to_proto());
        assert!(back.rows_bytes < 20_000, "{}", back.rows_bytes);
    }

    #[test]
    fn sessions_survive_the_trip_through_a_checkpoint() {
        let mut sessions = Sessions::default();
        sessions.record(10, 1_000, &[outcomes(1, 2, &[3, 4]), outcomes(9, 0, &[1])]);
        let proto = sessions.to_proto();
        let back = Sessions::from_proto(&proto);
        assert_eq!(back.to_proto(), proto);
        assert_eq!(back.lookup(&key(1, 3)), sessions.lookup(&key(1, 3)));
        assert_eq!(back.lookup(&key(1, 1)), Lookup::Answered);
    }

    #[test]
    fn impossible_client_id_is_passed_over() {
        let mut sessions = Sessions::default();
        let short = v1::SessionOutcomes {
            client_id: Bytes::from_static(b"short"),
            ..outcomes(1, 0, &[1])
        };
        sessions.record(1, 0, &[short]);
        assert!(sessions.clients.is_empty());
    }
}
