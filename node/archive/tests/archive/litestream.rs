//! Stock Litestream restores what Halite archives.
//!
//! Real databases are archived by our batches and snapshots in several ways, then restored by the program itself and by us, at every
//! transaction and between: both must give the bytes that SQLite wrote, or both must refuse.

mod history;
mod levels;
mod program;

use std::fs;

use bytes::Bytes;
use halite_archive::{
    Destination, Level, LevelZeroBatch, PlanError, RestoreError, SnapshotSpec, Target, put_snapshot,
};
use halite_ltx::{PageNo, Txid};
use jiff::ToSpan;

use crate::support::{Archive, key};
use history::History;
use program::{Litestream, Restored};

/// How a history is cut into files. The last cut of a level is where it ends.
struct Shape {
    name: &'static str,
    snapshots: &'static [u64],
    /// Per level: its number, the transaction that it begins after, and the last transactions of its files.
    levels: &'static [(u8, u64, &'static [u64])],
    /// Transactions that can be restored.
    ends: &'static [u64],
}

const LAST: u64 = History::TRANSACTIONS;

const SHAPES: [Shape; 4] = [
    Shape {
        name: "file of each transaction",
        snapshots: &[],
        levels: &[(
            0,
            0,
            &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, LAST],
        )],
        ends: &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, LAST],
    },
    Shape {
        name: "files of several transactions",
        snapshots: &[],
        levels: &[(0, 0, &[3, 4, 9, 12, LAST])],
        ends: &[3, 4, 9, 12, LAST],
    },
    Shape {
        name: "levels, the lowest cut off",
        snapshots: &[],
        levels: &[
            (3, 0, &[6]),
            (2, 0, &[6, 12]),
            (1, 0, &[3, 6, 9, 12]),
            (0, 10, &[11, 12, 13, 14, 15, LAST]),
        ],
        ends: &[3, 6, 9, 12, 13, 14, 15, LAST],
    },
    Shape {
        name: "snapshots, the second inside of a file",
        snapshots: &[5, 11],
        levels: &[(1, 5, &[10]), (0, 5, &[7, 10, 13, LAST])],
        ends: &[5, 7, 10, 11, 13, LAST],
    },
];

impl Shape {
    async fn archive(&self, history: &History) -> Archive {
        let archive = Archive::empty();
        for &txid in self.snapshots {
            put_state(&archive, history, Txid::new(txid)).await;
        }
        for &(level, after, cuts) in self.levels {
            let mut after = after;
            for &end in cuts {
                put_batch(&archive, level, history, after, end).await;
                after = end;
            }
        }
        archive
    }
}

/// Stores the transactions after `after` up to `end` as one file.
async fn put_batch(archive: &Archive, level: u8, history: &History, after: u64, end: u64) {
    let mut batch = LevelZeroBatch::new(Txid::new(after), usize::MAX);
    for txid in after + 1..=end {
        batch.push(history.transaction(txid)).unwrap();
    }
    let mut upload = batch.finish().unwrap().unwrap();
    upload.key.level = Level::new(level).unwrap();
    archive.destination.put(upload).await.unwrap();
}

async fn put_state(archive: &Archive, history: &History, txid: Txid) {
    let state = history.state(txid).to_vec();
    let page_bytes = history.page_size.as_usize();
    let spec = SnapshotSpec {
        page_size: history.page_size,
        commit: (state.len() / page_bytes) as u32,
        txid,
        timestamp_ms: History::timestamp(txid.get()).as_millisecond(),
    };
    let source = move |pgno: PageNo, page: &mut [u8]| {
        let at = (pgno.get() as usize - 1) * page_bytes;
        page.copy_from_slice(&state[at..at + page_bytes]);
        Ok(())
    };
    put_snapshot(&archive.destination, spec, source)
        .await
        .unwrap();
}

/// Restores by both. The transaction whose state both gave, `None` if both say that there is nothing for this target, or what is wrong.
async fn compare(
    litestream: &Litestream,
    archive: &Archive,
    history: &History,
    target: Target,
) -> Result<Option<Txid>, String> {
    let stock = litestream.restore(archive, target).await?;
    let ours = archive.restore(target).await;
    let (stock, report) = match (stock, ours) {
        (
            Restored::Nothing,
            Err(RestoreError::Plan(
                PlanError::BeforeOldest { .. }
                | PlanError::NotRestorePoint { .. }
                | PlanError::AfterNewest { .. }
                | PlanError::TimestampOutOfRange { .. },
            )),
        ) => return Ok(None),
        (Restored::Database(stock), Ok(report)) => (stock, report),
        (Restored::Nothing, ours) => return Err(format!("litestream has nothing, we: {ours:?}")),
        (Restored::Database(_), Err(error)) => return Err(format!("only we refuse: {error}")),
    };
    let ours = fs::read(archive.output()).map_err(|error| error.to_string())?;
    fs::remove_file(archive.output()).map_err(|error| error.to_string())?;
    history.same_pages("litestream's", &stock, report.txid)?;
    history.same_pages("ours", &ours, report.txid)?;
    Ok(Some(report.txid))
}

/// The newest state, every transaction and the next, and every other point in time: at a transaction, and right after it.
fn targets() -> Vec<(Target, u64)> {
    let mut targets = vec![(Target::Latest, LAST)];
    for txid in 1..=LAST + 1 {
        targets.push((Target::Txid(Txid::new(txid)), txid));
        let at = History::timestamp(txid);
        // What is stamped with the very moment is not part of it.
        targets.push(match txid % 2 {
            0 => (Target::Timestamp(at), txid - 1),
            _ => (Target::Timestamp(at + 1.millisecond()), txid),
        });
    }
    targets
}

async fn restore_everything(page_bytes: u32) {
    let litestream = Litestream::find().await;
    let history = History::play(page_bytes);
    for shape in &SHAPES {
        let archive = shape.archive(&history).await;
        let mut restored = 0;
        for (target, txid) in targets() {
            let found = compare(&litestream, &archive, &history, target).await;
            let context = format!(
                "page_bytes={page_bytes} shape={} target={target}",
                shape.name
            );
            let found = found.unwrap_or_else(|fault| panic!("{fault} {context}"));
            restored += u32::from(found.is_some());
            // Later than everything is as unknown as earlier than everything.
            let expected = match target {
                Target::Latest => Some(LAST),
                Target::Txid(_) => shape.ends.contains(&txid).then_some(txid),
                Target::Timestamp(_) if txid >= LAST => None,
                _ => shape.ends.iter().copied().rfind(|end| *end <= txid),
            };
            assert_eq!(found.map(Txid::get), expected, "{context}");
        }
        assert!(restored > shape.ends.len() as u32, "{}", shape.name);
    }
}

#[tokio::test]
async fn pages_of_512_bytes_are_restored_alike() {
    restore_everything(512).await;
}

#[tokio::test]
async fn pages_of_4096_bytes_are_restored_alike() {
    restore_everything(4096).await;
}

#[tokio::test]
async fn pages_of_16384_bytes_are_restored_alike() {
    restore_everything(16384).await;
}

#[tokio::test]
async fn pages_of_65536_bytes_are_restored_alike() {
    restore_everything(65536).await;
}

/// The comparison itself: a wrong page, a damaged file and a missing file do not pass.
#[tokio::test]
async fn faults_in_an_archive_do_not_pass_the_comparison() {
    let litestream = Litestream::find().await;
    let history = History::play(4096);
    // Nothing after it writes its pages again.
    let last = key(0, LAST, LAST);
    let lost = key(0, 8, 8);
    for (fault, expected) in [
        ("none", Ok(Some(Txid::new(LAST)))),
        ("wrong page", Err("page differs")),
        ("wrong checksum", Err("litestream fails")),
        ("gap", Err("litestream fails")),
    ] {
        let archive = SHAPES[0].archive(&history).await;
        let path = archive.path(last);
        let file: Bytes = fs::read(&path).unwrap().into();
        match fault {
            "wrong page" => fs::write(&path, history.with_wrong_page(&file)).unwrap(),
            "wrong checksum" => {
                let mut bytes = file.to_vec();
                *bytes.last_mut().unwrap() ^= 1;
                fs::write(&path, bytes).unwrap();
            }
            "gap" => archive.destination.delete(vec![lost]).await.unwrap(),
            _ => {}
        }
        let found = compare(&litestream, &archive, &history, Target::Latest).await;
        match (&found, expected) {
            (Ok(found), Ok(expected)) if *found == expected => {}
            (Err(found), Err(expected)) if found.contains(expected) => {}
            _ => panic!("fault={fault} found={found:?}"),
        }
    }
}
