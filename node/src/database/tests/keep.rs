//! An operator says what counts where the file is not what the log says, and nobody else has its pages.

use std::path::{Path, PathBuf};

use halite_proto::v1;

use super::harness::*;
use crate::database::*;

/// A copy of a primary's file after a checkpoint, edited by a program that knows nothing of the log, beside the log that led there.
struct Edited {
    dir: tempfile::TempDir,
    log: Arc<TestLog>,
    primary: Node,
    node: Node,
}

fn edited(purged: u64) -> Edited {
    let (dir, log, primary, _follower) = pair(&[
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v)",
        "CREATE TABLE u(id INTEGER PRIMARY KEY, v)",
        "INSERT INTO t(v) VALUES('kept')",
        "INSERT INTO u(v) VALUES('kept')",
    ]);
    answer(primary.database.checkpoint())
        .map_err(|e| e.message)
        .expect("checkpoint");
    let path = dir.path().join("edited.db");
    std::fs::copy(&primary.path, &path).expect("copied");
    let stranger = rusqlite::Connection::open(&path).expect("opened");
    stranger
        .execute("INSERT INTO t(v) VALUES('stranger')", ())
        .expect("written");
    drop(stranger);
    log.purge(purged);
    let redo = Redo {
        checkpoint: primary.checkpoints.done.lock().clone(),
        committed: Some(log.committed().last().expect("written").mark()),
        to: u64::MAX,
        ..Redo::nothing()
    };
    let node = Node::restart(&log, &path, redo, Arc::default());
    let health = node.database.health().borrow().clone();
    assert!(matches!(health, Health::NeedsRepair { .. }), "{health:?}");
    Edited {
        dir,
        log,
        primary,
        node,
    }
}

fn file(force: bool) -> Keep {
    Keep::File {
        leadership: LEADERSHIP,
        force,
    }
}

impl Edited {
    fn keep(&self, keep: Keep) -> Result<Kept, v1::Error> {
        answer(self.node.database.keep(keep))
    }

    fn orphans(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.dir.path()).expect("listed");
        let paths = files.map(|file| file.expect("listed").path());
        paths
            .filter(|path| path.display().to_string().contains(".orphan-"))
            .collect()
    }

    /// It follows the log, and so do those that were sound all the time.
    fn goes_on(&self, rows: i64) {
        assert!(self.node.database.is_fine());
        self.primary.assert_same(&self.node);
        assert_eq!(self.node.integer("SELECT count(*) FROM t"), rows);
        assert_eq!(self.primary.integer("SELECT count(*) FROM t"), rows);
        self.node.database.open_lane(LEADERSHIP);
        self.node
            .run("INSERT INTO u(v) VALUES('more')")
            .expect("written");
        self.primary.assert_same(&self.node);
    }
}

fn rows(path: &Path) -> i64 {
    let file = rusqlite::Connection::open(path).expect("opened");
    file.query_row("SELECT count(*) FROM t", (), |row| row.get(0))
        .expect("read")
}

#[test]
fn the_log_counts_if_it_reaches_back_to_what_was_edited() {
    // The newest entry that has the page of `t` is the third.
    for purged in [0, 2] {
        let edited = edited(purged);
        let kept = edited.keep(Keep::Log).map_err(|e| e.message).expect("kept");
        assert_eq!(kept.applied, edited.primary.applied());
        assert_eq!(rows(&kept.other.expect("copied")), 2);
        edited.goes_on(1);
    }
}

#[test]
fn a_log_that_does_not_reach_back_changes_nothing() {
    for purged in [3, 4] {
        let edited = edited(purged);
        let refused = edited.keep(Keep::Log).expect_err("refused");
        assert!(
            refused.message.contains("cannot be brought back"),
            "{refused:?}"
        );
        assert!(!edited.node.database.is_fine());
        assert_eq!(edited.orphans(), Vec::<PathBuf>::new());
        assert_eq!(edited.node.integer("SELECT count(*) FROM t"), 2);
    }
}

#[test]
fn the_file_counts_from_anywhere_and_everybody_follows() {
    // With the log's version to be kept, and without.
    for (purged, copies) in [(0, 1), (4, 0)] {
        let edited = edited(purged);
        if copies == 0 {
            let refused = edited.keep(file(false)).expect_err("refused").message;
            assert!(refused.contains("--force"), "{refused}");
            assert!(!edited.node.database.is_fine());
        }
        let kept = edited
            .keep(file(true))
            .map_err(|e| e.message)
            .expect("kept");
        assert_eq!(kept.applied.position.txid.get(), 5);
        assert!(edited.orphans().len() >= copies);
        match kept.other {
            Ok(of_log) => assert_eq!(rows(&of_log), 1),
            Err(why) => assert!(copies == 0 && why.contains("does not reach back"), "{why}"),
        }
        edited.goes_on(2);
        assert_eq!(edited.log.committed().len(), 6);
    }
}

#[test]
fn a_file_that_no_quorum_takes_is_not_lost() {
    let edited = edited(4);
    edited.log.set(Delivery::Refused);
    assert!(edited.keep(file(true)).is_err());
    assert!(!edited.node.database.is_fine());
    edited.log.set(Delivery::AtOnce);
    assert!(edited.keep(file(true)).is_ok());
    edited.goes_on(2);
}

#[test]
fn a_database_that_is_well_is_left_alone() {
    let (_dir, _log, primary, _follower) = pair(&["CREATE TABLE t(v)"]);
    for keep in [Keep::Log, file(false)] {
        let refused = answer(primary.database.keep(keep)).expect_err("refused");
        assert_eq!(refused.code(), v1::ErrorCode::Invalid);
    }
}

#[test]
fn a_file_that_was_to_count_is_taken_in_by_the_next_try_unless_something_came_in_between() {
    for writes in [0, 1] {
        let edited = edited(0);
        edited.log.set(Delivery::Refused);
        assert!(edited.keep(file(true)).is_err());
        // The log's version is in place, and the file's is kept.
        assert!(edited.node.database.is_fine());
        assert_eq!(edited.node.integer("SELECT count(*) FROM t"), 1);
        edited.log.set(Delivery::AtOnce);
        edited.node.database.open_lane(LEADERSHIP);
        for _ in 0..writes {
            edited
                .node
                .run("INSERT INTO u(v) VALUES('between')")
                .expect("written");
        }
        let kept = edited.keep(file(true));
        match writes {
            0 => {
                let kept = kept.map_err(|e| e.message).expect("kept");
                assert_eq!(rows(&kept.other.expect("copied")), 1);
                edited.goes_on(2);
            }
            _ => {
                let refused = kept.expect_err("refused").message;
                let copy = refused.rsplit(' ').next().expect("a path");
                assert_eq!(rows(Path::new(copy)), 2, "{refused}");
                edited.goes_on(1);
            }
        }
    }
}
