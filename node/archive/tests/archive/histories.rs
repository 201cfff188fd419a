//! Random histories: whatever way transactions are cut into files, a restore equals applying them one by one.

use std::collections::BTreeMap;

use bytes::Bytes;
use halite_archive::{
    Destination, Level, LevelZeroBatch, SnapshotSpec, Target, ThreadPool, put_snapshot, verify,
};
use halite_ltx::{PageNo, Txid};
use proptest::prelude::*;

use crate::support::{Archive, PAGE_SIZE, page, transaction};

/// What a transaction does: the new size, and pages (by a number taken modulo the size) with their fill bytes.
#[derive(Clone, Debug)]
struct Change {
    commit: u32,
    writes: Vec<(u32, u8)>,
}

fn change() -> impl Strategy<Value = Change> {
    let writes = prop::collection::vec((any::<u32>(), any::<u8>()), 0..6);
    (1..40_u32, writes).prop_map(|(commit, writes)| Change { commit, writes })
}

/// Each state of the database, and the transactions that lead from one to the next.
fn play(changes: &[Change]) -> (Vec<Vec<Vec<u8>>>, Vec<Bytes>) {
    let mut states: Vec<Vec<Vec<u8>>> = vec![Vec::new()];
    let mut transactions = Vec::new();
    for (index, change) in changes.iter().enumerate() {
        let mut state = states[index].clone();
        let size_before = state.len() as u32;
        state.resize(change.commit as usize, page(index as u8));
        let mut dirty = BTreeMap::new();
        let written = change
            .writes
            .iter()
            .map(|&(number, fill)| (number % change.commit + 1, page(fill)));
        // SQLite writes every page that it adds.
        let added = (size_before + 1..=change.commit).map(|pgno| (pgno, page(index as u8)));
        for (pgno, data) in added.chain(written) {
            state[pgno as usize - 1].clone_from(&data);
            dirty.insert(pgno, data);
        }
        transactions.push(transaction(index as u64 + 1, change.commit, &dirty));
        states.push(state);
    }
    (states, transactions)
}

/// Stores the transactions from `first` (counted from 0) on, cut at `borders`; returns the last TXID of each file.
async fn store(
    archive: &Archive,
    level: Level,
    transactions: &[Bytes],
    first: usize,
    borders: &[bool],
) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut batch = LevelZeroBatch::new(Txid::new(first as u64), usize::MAX);
    for (index, ltx) in transactions.iter().enumerate().skip(first) {
        batch.push(ltx.clone()).unwrap();
        if borders[index] || index + 1 == transactions.len() {
            let next = LevelZeroBatch::new(batch.max(), usize::MAX);
            let mut upload = std::mem::replace(&mut batch, next)
                .finish()
                .unwrap()
                .unwrap();
            upload.key.level = level;
            archive.destination.put(upload).await.unwrap();
            ends.push(index + 1);
        }
    }
    ends
}

async fn check(
    changes: Vec<Change>,
    borders: Vec<bool>,
    merged_borders: Vec<bool>,
    snapshot: Option<usize>,
) {
    let (states, transactions) = play(&changes);
    let archive = Archive::empty();
    let snapshot = snapshot.map(|at| at % transactions.len() + 1);
    if let Some(at) = snapshot {
        let state = states[at].clone();
        let commit = state.len() as u32;
        let spec = SnapshotSpec {
            page_size: PAGE_SIZE,
            commit,
            txid: Txid::new(at as u64),
            timestamp_ms: 1000 * at as i64,
        };
        let source = move |pgno: PageNo, page: &mut [u8]| {
            page.copy_from_slice(&state[pgno.get() as usize - 1]);
            Ok(())
        };
        put_snapshot(&archive.destination, spec, source)
            .await
            .unwrap();
    }
    // With a snapshot level 0 may begin after it; level 1 holds everything, cut elsewhere.
    let first = snapshot.unwrap_or(0);
    let mut ends = store(&archive, Level::ZERO, &transactions, first, &borders).await;
    if snapshot.is_none_or(|at| at % 2 == 0) {
        ends.extend(
            store(
                &archive,
                Level::new(1).unwrap(),
                &transactions,
                0,
                &merged_borders,
            )
            .await,
        );
    }
    ends.extend(snapshot);
    ends.sort_unstable();
    ends.dedup();

    let report = verify(&archive.destination, &ThreadPool).await.unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    let points: Vec<usize> = report
        .points
        .iter()
        .map(|point| point.txid.get() as usize)
        .collect();
    assert_eq!(points, ends);
    assert_eq!(
        archive.restored(Target::Latest).await,
        states.last().unwrap().concat()
    );
    for (txid, state) in states.iter().enumerate().skip(1) {
        let target = Target::Txid(Txid::new(txid as u64));
        if ends.contains(&txid) {
            assert_eq!(
                archive.restored(target).await,
                state.concat(),
                "txid {txid}"
            );
        } else {
            archive.restore(target).await.unwrap_err();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn restore_equals_applying_one_by_one(
        changes in prop::collection::vec(change(), 1..16),
        borders in prop::collection::vec(any::<bool>(), 16),
        merged_borders in prop::collection::vec(prop::bool::weighted(0.2), 16),
        snapshot in prop::option::of(any::<usize>()),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check(changes, borders, merged_borders, snapshot));
    }
}

#[tokio::test]
async fn more_files_than_are_merged_at_once_restore() {
    // Sizes go up and down across the borders of groups.
    let changes: Vec<Change> = (0..300_u32)
        .map(|index| Change {
            commit: 5 + index * 7 % 60,
            writes: vec![(index, index as u8), (index * 3, 7)],
        })
        .collect();
    let (states, transactions) = play(&changes);
    let archive = Archive::empty();
    store(&archive, Level::ZERO, &transactions, 0, &[true; 300]).await;
    for txid in [64, 65, 128, 129, 300] {
        let target = Target::Txid(Txid::new(txid as u64));
        assert_eq!(
            archive.restored(target).await,
            states[txid].concat(),
            "txid {txid}"
        );
    }
}
