//! Seeded histories of failovers: every acknowledged write is there exactly once, and all copies are the same.

use std::collections::BTreeMap;

use halite_proto::v1::{self, ErrorCode};

use super::harness::*;
use crate::database::{CallKey, Leadership};

/// Xorshift: enough to choose what happens next, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// What happens to the entry that waits for its quorum.
enum Fate {
    Committed,
    /// Leadership is lost, and the entry with it.
    Lost,
    /// Leadership is lost, but the entry is committed.
    CommittedAfterAll,
    /// The primary's process ends, and the entry is committed.
    Refused,
}

struct World {
    dice: Dice,
    log: std::sync::Arc<TestLog>,
    nodes: Vec<Node>,
    primary: usize,
    term: u64,
    /// Calls not yet answered with success: how often tried.
    open: BTreeMap<(u8, u64), u32>,
    answered: Vec<(u8, u64)>,
    next_call: u64,
}

impl World {
    fn open_calls(&mut self) {
        while self.open.len() < 12 {
            let client = self.dice.roll(3) as u8;
            self.open.insert((client, self.next_call), 0);
            self.next_call += 1;
        }
    }

    fn jobs(&mut self) -> Vec<((u8, u64), (crate::database::WriteJob, Answer))> {
        self.open
            .iter_mut()
            .map(|(call, tries)| {
                *tries += 1;
                let sql = "INSERT INTO t(client, call, filler) VALUES(?1, ?2, randomblob(300))";
                let args = vec![integer(i64::from(call.0)), integer(call.1 as i64)];
                let (mut write, receiver) = job(vec![v1::Statement {
                    args,
                    ..statement(sql)
                }]);
                write.key = Some(CallKey {
                    client_id: [call.0; 16],
                    call_id: call.1,
                });
                write.retry = *tries > 1;
                (*call, (write, receiver))
            })
            .collect()
    }

    fn step(&mut self) {
        self.open_calls();
        let fate = match self.dice.roll(8) {
            0 => Fate::Lost,
            1 => Fate::CommittedAfterAll,
            2 => Fate::Refused,
            _ => Fate::Committed,
        };
        self.log.set(if matches!(fate, Fate::Refused) {
            Delivery::Refused
        } else {
            Delivery::Held
        });
        let jobs = self.jobs();
        let (writes, receivers): (Vec<_>, Vec<_>) = jobs
            .into_iter()
            .map(|(call, (write, receiver))| (write, (call, receiver)))
            .unzip();
        let database = self.nodes[self.primary].database.clone();
        database.submit(writes);
        database.settle();
        match fate {
            Fate::Committed => {
                self.log.set(Delivery::AtOnce);
                self.log.deliver();
            }
            Fate::Refused => {}
            Fate::Lost => {
                answer(database.close_lane(None));
                self.log.lose();
                self.elect();
            }
            Fate::CommittedAfterAll => {
                answer(database.close_lane(None));
                self.log.deliver();
                self.elect();
            }
        }
        for (call, receiver) in receivers {
            match answer(receiver) {
                Ok(_) => {
                    self.open.remove(&call);
                    self.answered.push(call);
                }
                Err(error) => assert!(
                    matches!(
                        error.code(),
                        ErrorCode::OutcomeUnknown | ErrorCode::NotPrimary | ErrorCode::Unavailable
                    ),
                    "{error:?}"
                ),
            }
        }
    }

    /// Another node, or the same, becomes primary: everything committed is applied first.
    fn elect(&mut self) {
        self.primary = self.dice.roll(self.nodes.len() as u64) as usize;
        self.term += 1;
        let txid = self
            .log
            .committed()
            .last()
            .map_or(0, |entry| entry.command.txid);
        let node = &self.nodes[self.primary];
        let mut applied = node.database.applied();
        wait(applied.wait_for(|applied| applied.position.txid.get() == txid)).expect("alive");
        node.database.open_lane(Leadership {
            term: self.term,
            leader_id: self.primary as u64,
        });
    }
}

#[test]
fn acknowledged_writes_are_kept_exactly_once_over_failovers() {
    for seed in 1..=6u64 {
        let dir = tempfile::tempdir().expect("dir");
        let log = TestLog::new();
        let nodes: Vec<Node> = (0..3)
            .map(|number| Node::start(&log, &dir.path().join(format!("{number}.db"))))
            .collect();
        nodes[0].database.open_lane(LEADERSHIP);
        nodes[0]
            .run("CREATE TABLE t(id INTEGER PRIMARY KEY, client, call, filler)")
            .expect("created");
        let mut world = World {
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            log: log.clone(),
            nodes,
            primary: 0,
            term: 1,
            open: BTreeMap::new(),
            answered: Vec::new(),
            next_call: 0,
        };
        (0..60).for_each(|_| world.step());
        let primary = &world.nodes[world.primary];
        for node in &world.nodes {
            node.assert_same(primary);
        }
        let twice = primary.integer(
            "SELECT count(*) FROM (SELECT 1 FROM t GROUP BY client, call HAVING count(*) > 1)",
        );
        assert_eq!(twice, 0, "seed={seed}");
        assert!(
            world.answered.len() > 300,
            "seed={seed} answered={}",
            world.answered.len()
        );
        for (client, call) in &world.answered {
            let rows = primary.integer(&format!(
                "SELECT count(*) FROM t WHERE client = {client} AND call = {call}"
            ));
            assert_eq!(rows, 1, "seed={seed} client={client} call={call}");
        }
    }
}
