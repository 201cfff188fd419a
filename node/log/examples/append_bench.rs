//! What an append costs: the store against a bare file on the same disk.
//!
//! `cargo run --release -p halite-log --example append_bench -- [dir] [seconds]`
//!
//! Prints operations per second and latencies in microseconds for one entry at a time and for many in flight, and the fsyncs
//! they took. The bare file is appended to with `write` and `fdatasync`, which is the least any log on this disk can do.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use halite_log::{Entry, EntryPayload, LogId, LogOptions, LogStore, Payload, TypeConfig};
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use openraft::vote::RaftLeaderId;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let parent = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = args
        .next()
        .map_or(Ok(3), |text| text.parse())
        .context("seconds")?;
    let home = tempfile::tempdir_in(parent)?;
    let time = Duration::from_secs(seconds);

    println!(
        "{:<34} {:>9} {:>8} {:>8} {:>8} {:>9}",
        "case", "ops/s", "p50 us", "p99 us", "max us", "ops/fsync"
    );
    bare_file(home.path(), time)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    for (bytes, in_flight) in [
        (4096, 1),
        (4096, 8),
        (4096, 64),
        (4096, 512),
        (65_536, 1),
        (65_536, 16),
        (1 << 20, 4),
    ] {
        let dir = home.path().join(format!("{bytes}-{in_flight}"));
        runtime.block_on(store(&dir, time, bytes, in_flight))?;
        std::fs::remove_dir_all(dir)?;
    }
    Ok(())
}

fn bare_file(home: &Path, time: Duration) -> anyhow::Result<()> {
    let mut file = File::create(home.join("bare"))?;
    let block = [7; 4096];
    let mut latencies = Vec::new();
    let start = Instant::now();
    while start.elapsed() < time {
        let begin = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        latencies.push(begin.elapsed());
    }
    report(
        "bare file, 4 KiB, 1 in flight",
        start.elapsed(),
        latencies,
        1.0,
    );
    Ok(())
}

async fn store(dir: &Path, time: Duration, bytes: usize, in_flight: usize) -> anyhow::Result<()> {
    let mut store = LogStore::open(dir, LogOptions::default())?;
    let warm = warm_up(&mut store).await?;
    let payload = Payload(Bytes::from(vec![7; bytes]));
    let mut pending = VecDeque::new();
    let mut latencies = Vec::new();
    let before = store.stats();
    let start = Instant::now();
    for index in warm.. {
        let (done, flushed) = TypeConfig::oneshot();
        let begin = Instant::now();
        store
            .append([entry(index, &payload)], IOFlushed::signal(done))
            .await?;
        pending.push_back((begin, flushed));
        if pending.len() >= in_flight {
            let (begin, flushed) = pending.pop_front().context("nothing is pending")?;
            flushed.await??;
            latencies.push(begin.elapsed());
        }
        if start.elapsed() >= time {
            break;
        }
        if index % 50_000 == 49_999 {
            store.purge(log_id(index - 40_000)).await?;
        }
    }
    for (begin, flushed) in pending {
        flushed.await??;
        latencies.push(begin.elapsed());
    }
    let stats = store.stats();
    let shared = (stats.appends - before.appends) as f64 / (stats.syncs - before.syncs) as f64;
    report(
        &format!("store, {} KiB, {in_flight} in flight", bytes >> 10),
        start.elapsed(),
        latencies,
        shared,
    );
    store.close().await?;
    Ok(())
}

/// Writes enough for write-ahead logs to be recycled, which is the state a node is in nearly all of the time. Answers the next
/// index.
async fn warm_up(store: &mut LogStore) -> anyhow::Result<u64> {
    let payload = Payload(Bytes::from(vec![7; 1 << 20]));
    for index in 0..160 {
        let (done, flushed) = TypeConfig::oneshot();
        store
            .append([entry(index, &payload)], IOFlushed::signal(done))
            .await?;
        flushed.await??;
    }
    store.purge(log_id(150)).await?;
    Ok(160)
}

fn log_id(index: u64) -> LogId {
    let leader = <TypeConfig as openraft::RaftTypeConfig>::LeaderId::new(1, 1);
    LogId::new(leader.to_committed(), index)
}

fn entry(index: u64, payload: &Payload) -> Entry {
    Entry {
        log_id: log_id(index),
        payload: EntryPayload::Normal(payload.clone()),
    }
}

fn report(case: &str, elapsed: Duration, mut latencies: Vec<Duration>, shared: f64) {
    latencies.sort();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize].as_micros();
    let rate = latencies.len() as f64 / elapsed.as_secs_f64();
    println!(
        "{case:<34} {rate:>9.0} {:>8} {:>8} {:>8} {shared:>9.1}",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}
