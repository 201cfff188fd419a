//! Random SQL on a primary; the follower must match after each step.

use proptest::prelude::*;

use super::support::{Pair, options};
use crate::{AutoVacuum, CheckpointMode, OpenOptions};

#[derive(Clone, Debug)]
enum Step {
    Insert { rows: u16, bytes: u16 },
    Update { modulus: u8, bytes: u16 },
    Delete { modulus: u8 },
    Mixed { inner: Vec<(bool, u16)>, keep: bool },
    Clash,
    Text { words: u8 },
    Table { number: u8, drop: bool },
    Vacuum,
    Shrink,
    Checkpoint { primary: bool, mode: u8 },
    Cache { pages: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u16..200, 0u16..3000).prop_map(|(rows, bytes)| Step::Insert { rows, bytes }),
        3 => (1u8..9, 0u16..5000).prop_map(|(modulus, bytes)| Step::Update { modulus, bytes }),
        2 => (1u8..5).prop_map(|modulus| Step::Delete { modulus }),
        4 => (proptest::collection::vec((any::<bool>(), 0u16..4000), 1..6), any::<bool>())
            .prop_map(|(inner, keep)| Step::Mixed { inner, keep }),
        1 => Just(Step::Clash),
        2 => (1u8..60).prop_map(|words| Step::Text { words }),
        2 => (0u8..4, any::<bool>()).prop_map(|(number, drop)| Step::Table { number, drop }),
        1 => Just(Step::Vacuum),
        1 => Just(Step::Shrink),
        2 => (any::<bool>(), 0u8..3).prop_map(|(primary, mode)| Step::Checkpoint { primary, mode }),
        1 => (10u8..60).prop_map(|pages| Step::Cache { pages }),
    ]
}

fn run(pair: &Pair, step: &Step) {
    const N: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i <";
    match step {
        Step::Insert { rows, bytes } => {
            pair.sql(&format!("{N} {rows}) INSERT INTO t(b) SELECT randomblob({bytes}) FROM n"));
        }
        Step::Update { modulus, bytes } => {
            pair.sql(&format!("UPDATE t SET b = randomblob({bytes}) WHERE a % {modulus} = 0"));
        }
        Step::Delete { modulus } => pair.sql(&format!("DELETE FROM t WHERE a % {modulus} = 0")),
        Step::Mixed { inner, keep } => {
            pair.sql("BEGIN IMMEDIATE");
            for &(rollback, bytes) in inner {
                pair.sql("SAVEPOINT s");
                pair.sql(&format!("UPDATE t SET b = randomblob({bytes}) WHERE a % 3 = {bytes} % 3"));
                pair.sql(&format!("INSERT INTO t(b) VALUES (zeroblob({bytes} * 5))"));
                if rollback {
                    pair.sql("ROLLBACK TO s");
                }
                pair.sql("RELEASE s");
            }
            pair.sql(if *keep { "COMMIT" } else { "ROLLBACK" });
        }
        Step::Clash => {
            let clash = "INSERT INTO t(a, b) SELECT 100000, randomblob(2000) UNION ALL SELECT 100000, 1";
            assert!(pair.writer.connection().execute_batch(clash).is_err());
        }
        Step::Text { words } => {
            pair.sql(&format!("{N} {words}) INSERT INTO f SELECT 'w' || i || ' ' || hex(randomblob(20)) FROM n"));
        }
        Step::Table { number, drop: true } => pair.sql(&format!("DROP TABLE IF EXISTS x{number}")),
        Step::Table { number, drop: false } => pair.sql(&format!(
            "CREATE TABLE IF NOT EXISTS x{number} AS SELECT * FROM t; CREATE INDEX IF NOT EXISTS i{number} ON x{number}(b)"
        )),
        Step::Vacuum => pair.sql("VACUUM"),
        Step::Shrink => pair.sql("PRAGMA incremental_vacuum(5)"),
        Step::Checkpoint { primary, mode } => {
            let database = if *primary { pair.writer.database() } else { pair.applier.database() };
            let modes = [CheckpointMode::Passive, CheckpointMode::Restart, CheckpointMode::Truncate];
            assert!(database.checkpoint(modes[usize::from(*mode)]).expect("checkpoint").complete);
        }
        Step::Cache { pages } => pair.sql(&format!("PRAGMA cache_size = {pages}")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn follower_matches_after_any_workload(
        steps in proptest::collection::vec(step(), 1..30),
        shift in 9u32..14,
        vacuum in 0usize..3,
    ) {
        let options = OpenOptions { auto_vacuum: AutoVacuum::ALL[vacuum], ..options(1 << shift) };
        let mut pair = Pair::new(&options);
        pair.sql("CREATE TABLE t(a INTEGER PRIMARY KEY, b); CREATE VIRTUAL TABLE f USING fts5(w)");
        for step in &steps {
            run(&pair, step);
            pair.sync();
        }
        let check: String = pair.applier.database().reader().expect("reader")
            .query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("check");
        prop_assert_eq!(check, "ok");
    }
}
