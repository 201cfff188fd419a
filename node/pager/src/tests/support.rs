//! What the tests share: directories, gates that record, a follower that applies, and the stock program.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use halite_ltx::{Checksum, PageNo, PageSize};
use parking_lot::Mutex;
use tempfile::TempDir;

use crate::page_mask::mask;
use crate::{
    Applier, ApplyError, ApplyTarget, CaptureError, CapturedTransaction, Database, GateVerdict,
    OpenOptions, Writer,
};

/// A transaction as it went through a gate.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    pub(super) page_count: u32,
    pub(super) previous: u32,
    pub(super) pre: Checksum,
    pub(super) post: Checksum,
    pub(super) pages: Vec<(PageNo, Vec<u8>)>,
}

impl Recorded {
    pub(super) fn of(transaction: &CapturedTransaction<'_>) -> Self {
        let mut pages = Vec::new();
        transaction
            .for_each_page(|pgno, page| {
                pages.push((pgno, page.to_vec()));
                Ok::<(), CaptureError>(())
            })
            .expect("read captured pages");
        Recorded {
            page_count: transaction.page_count(),
            previous: transaction.previous_page_count(),
            pre: transaction.pre_checksum(),
            post: transaction.post_checksum(),
            pages,
        }
    }

    pub(super) fn target(&self) -> ApplyTarget {
        ApplyTarget {
            page_count: self.page_count,
            expected_pre: Some(self.pre),
            expected_post: Some(self.post),
        }
    }

    pub(super) fn apply_to(&self, applier: &mut Applier) -> Result<Checksum, ApplyError> {
        applier.apply(self.target(), |sink| {
            for (pgno, page) in &self.pages {
                sink.page(*pgno, page)?;
            }
            Ok(())
        })
    }
}

pub(super) type Log = Arc<Mutex<Vec<Recorded>>>;

/// A gate that opens and keeps what it saw.
pub(super) fn recording(log: &Log) -> Box<dyn crate::Gate> {
    let log = Arc::clone(log);
    Box::new(move |transaction: &CapturedTransaction<'_>| {
        log.lock().push(Recorded::of(transaction));
        GateVerdict::Open
    })
}

pub(super) fn options(page_size: u32) -> OpenOptions {
    OpenOptions {
        page_size: PageSize::try_from(page_size).expect("page size"),
        ..OpenOptions::default()
    }
}

/// A primary whose transactions are recorded, and a follower that they are applied to.
pub(super) struct Pair {
    pub(super) directory: TempDir,
    pub(super) log: Log,
    pub(super) applied: usize,
    pub(super) writer: Writer,
    pub(super) applier: Applier,
}

impl Pair {
    pub(super) fn new(options: &OpenOptions) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let log = Log::default();
        let primary =
            Database::open(directory.path().join("primary.db"), options).expect("primary");
        let follower =
            Database::open(directory.path().join("follower.db"), options).expect("follower");
        let writer = primary.writer(recording(&log)).expect("writer");
        let applier = follower.applier().expect("applier");
        Pair {
            directory,
            log,
            applied: 0,
            writer,
            applier,
        }
    }

    pub(super) fn sql(&self, sql: &str) {
        self.writer
            .connection()
            .execute_batch(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// Applies what is new to the follower and compares both files, page by page.
    pub(super) fn sync(&mut self) {
        let new: Vec<Recorded> = self.log.lock()[self.applied..].to_vec();
        self.applied += new.len();
        for transaction in &new {
            let post = transaction.apply_to(&mut self.applier).expect("apply");
            assert_eq!(post, transaction.post);
        }
        assert_same(self.writer.database(), self.applier.database());
    }
}

/// Pages of the committed state, page 1 masked.
pub(super) fn pages(database: &Arc<Database>) -> Vec<Vec<u8>> {
    let snapshot = database.snapshot().expect("snapshot");
    let mut all = Vec::new();
    for number in 1..=snapshot.page_count() {
        let mut page = Vec::new();
        snapshot
            .read_page(PageNo::new(number), &mut page)
            .expect("page");
        if number == 1 {
            mask(&mut page);
        }
        all.push(page);
    }
    all
}

pub(super) fn assert_same(one: &Arc<Database>, other: &Arc<Database>) {
    assert_eq!(one.page_count(), other.page_count());
    assert_eq!(one.checksum(), other.checksum());
    let (left, right) = (pages(one), pages(other));
    for (number, (left, right)) in left.iter().zip(&right).enumerate() {
        assert!(left == right, "page {} differs", number + 1);
    }
    for database in [one, other] {
        let report = database.scrub().expect("scrub");
        assert_eq!(report.damaged, [], "the table does not match the file");
    }
}

/// Runs the stock program in another process.
pub(super) fn stock(path: &Path, sql: &str) -> Output {
    Command::new("/usr/bin/sqlite3")
        .arg("-bail")
        .arg(path)
        .arg(sql)
        .output()
        .expect("run sqlite3")
}

/// What the stock program reads.
pub(super) fn stock_reads(path: &Path, sql: &str) -> String {
    let output = stock(path, sql);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Asserts that the stock program finds the database locked.
pub(super) fn assert_fenced(path: &Path, sql: &str) {
    let output = stock(path, sql);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && error.contains("database is locked"),
        "{sql}: {error}"
    );
}

/// Copies a database and its WAL as a crash would leave them.
pub(super) fn crash_copy(path: &Path, to: &Path) {
    for suffix in ["", "-wal"] {
        let (from, to) = (with_suffix(path, suffix), with_suffix(to, suffix));
        match Command::new("cp").arg("--").arg(&from).arg(&to).status() {
            Ok(status) if status.success() => {}
            _ => assert!(!from.exists(), "cannot copy {}", from.display()),
        }
    }
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    crate::os::beside(path, suffix)
}
