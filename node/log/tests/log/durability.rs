//! A real process is killed while it appends: what it reported as flushed is there afterwards.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use halite_log::{LogOptions, LogStore, OpenError, Vote};
use openraft::storage::RaftLogStorage;

use crate::support::{begin_append, entries, entry, read, run};

const CHILD_DIR: &str = "HALITE_LOG_TEST_CHILD_DIR";

/// The child: appends without end, up to 64 at a time, and prints each index once it is reported as flushed. Run as a test it
/// does nothing.
#[test]
fn child_appends_until_killed() {
    let Ok(dir) = std::env::var(CHILD_DIR) else {
        return;
    };
    run(async {
        let mut store = LogStore::open(Path::new(&dir), LogOptions::default()).unwrap();
        let mut index = store.indexes().end;
        store.save_vote(&Vote::new(index + 1, 1)).await.unwrap();
        println!("vote {}", index + 1);
        let mut pending = std::collections::VecDeque::new();
        loop {
            let size = 1 + (index as usize * 7919) % 20_000;
            pending.push_back((
                index,
                begin_append(&store, vec![entry(1, index, size)])
                    .await
                    .unwrap(),
            ));
            index += 1;
            if pending.len() == 64 {
                let (index, flushed) = pending.pop_front().unwrap();
                flushed.await.unwrap().unwrap();
                println!("flushed {index}");
            }
        }
    });
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn_child(dir: &Path) -> (Killed, impl Iterator<Item = (String, u64)> + use<>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "durability::child_appends_until_killed",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let reports = lines.map_while(Result::ok).filter_map(|line| {
        // The first report shares its line with the test runner's own words.
        let mut words = line.rsplit(' ');
        let number = words.next()?.parse().ok()?;
        let word = words.next()?;
        let known = ["vote", "flushed"]
            .into_iter()
            .find(|known| *known == word)?;
        Some((known.to_owned(), number))
    });
    (Killed(child), reports)
}

#[test]
fn kill_loses_nothing_that_was_reported_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut flushed, mut vote) = (None, 0);
    for round in 0..4_u64 {
        let (child, mut reports) = spawn_child(dir.path());
        // The last round goes on until write-ahead logs are recycled.
        let reports_awaited = if round == 3 {
            12_000
        } else {
            200 + round * 137
        };
        for _ in 0..reports_awaited {
            match reports.next().expect("the child ended by itself") {
                (kind, number) if kind == "vote" => vote = number,
                (_, index) => flushed = flushed.max(Some(index)),
            }
        }
        let busy = LogStore::open(dir.path(), LogOptions::default())
            .err()
            .unwrap();
        assert!(matches!(busy, OpenError::InUse { .. }), "{busy}");
        drop(child);
        // What it still managed to print was reported as well.
        flushed = flushed.max(reports.map(|(_, index)| Some(index)).max().flatten());

        run(async {
            let store = LogStore::open(dir.path(), LogOptions::default()).unwrap();
            let range = store.indexes();
            let expected = flushed.unwrap();
            assert!(
                range.start == 0 && range.end > expected,
                "round {round}: range={range:?}, flushed={expected}"
            );
            for got in read(&store, range).await {
                let index = got.log_id.index;
                assert_eq!(entry(1, index, 1 + (index as usize * 7919) % 20_000), got);
            }
            assert_eq!(Some(Vote::new(vote, 1)), store.vote());
            store.close().await.unwrap();
        });
    }
}

#[test]
fn dropped_store_has_written_everything() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let store = LogStore::open(dir.path(), LogOptions::default()).unwrap();
        let pending = begin_append(&store, entries(1, 0..2000, 100))
            .await
            .unwrap();
        tokio::task::spawn_blocking(move || drop(store))
            .await
            .unwrap();
        pending.await.unwrap().unwrap();
        let store = LogStore::open(dir.path(), LogOptions::default()).unwrap();
        assert_eq!(0..2000, store.indexes());
    });
}
