//! What the tests share: transactions as a gate sees them, pages to compare, and the stock program.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use halite_ltx::{Checksum, PageNo, PageSize};
use halite_pager::{
    Applier, ApplyError, ApplyTarget, CaptureError, CapturedTransaction, Database, Gate,
    GateVerdict, OpenOptions,
};
use parking_lot::Mutex;
use rand::Rng as _;
use rand::rngs::StdRng;

/// A transaction as it went through a gate.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    pub(super) page_count: u32,
    pre: Checksum,
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
pub(super) fn recording(log: &Log) -> Box<dyn Gate> {
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

/// Takes out of page 1 what SQLite rewrites at each apply.
pub(super) fn mask(page: &mut [u8]) {
    page[24..28].fill(0);
    page[92..100].fill(0);
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

/// Statements that touch old pages, grow and shrink.
pub(super) fn statement(random: &mut StdRng) -> String {
    let row = random.random_range(0..60);
    let bytes = random.random_range(1..6000);
    match random.random_range(0..8) {
        0..=3 => format!("INSERT OR REPLACE INTO t VALUES ({row}, randomblob({bytes}))"),
        4 => format!("UPDATE t SET b = randomblob({bytes}) WHERE a < {}", row / 4),
        5 => format!("DELETE FROM t WHERE a BETWEEN {row} AND {}", row + 15),
        6 => "VACUUM".to_owned(),
        _ => format!(
            "CREATE TABLE IF NOT EXISTS t{row}(a); INSERT INTO t{row} VALUES (randomblob({bytes}))"
        ),
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

/// A path with something appended to the file name.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
