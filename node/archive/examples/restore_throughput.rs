//! Measures a restore beside a plain copy: `cargo run --release -p halite-archive --example restore_throughput -- [MB] [directory]`.
//!
//! The database is one snapshot and a hundred level-0 files that each change one page in a thousand. Pages are half random bytes and
//! half zeros, so that they compress about as well as real ones.

#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use halite_archive::{
    Destination, FileDestination, LevelZeroBatch, RestoreOptions, SnapshotSpec, Target, ThreadPool,
    put_snapshot, restore, verify,
};
use halite_ltx::{Encoder, Header, PageNo, PageSize, Txid};

const LEVEL_ZERO_FILES: u64 = 100;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let megabytes: u32 = args.next().map_or(Ok(500), |text| text.parse())?;
    let dir = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(dir)?;
    let page_size = PageSize::DEFAULT;
    let commit = megabytes * 1_000_000 / page_size.get();
    let destination = FileDestination::new(dir.path().join("replica"), Arc::new(ThreadPool));

    let started = Instant::now();
    let spec = SnapshotSpec {
        page_size,
        commit,
        txid: Txid::new(1),
        timestamp_ms: 0,
    };
    let source = |pgno: PageNo, page: &mut [u8]| {
        fill(u64::from(pgno.get()), page);
        Ok(())
    };
    let snapshot = put_snapshot(&destination, spec, source).await?;
    report("write snapshot", commit, started.elapsed());
    println!(
        "  compressed to {} of {} MB",
        snapshot.bytes / 1_000_000,
        megabytes
    );

    for txid in 2..2 + LEVEL_ZERO_FILES {
        let mut batch = LevelZeroBatch::new(Txid::new(txid - 1), usize::MAX);
        batch.push(transaction(txid, page_size, commit)?.into())?;
        destination
            .put(batch.finish()?.ok_or("the batch has a transaction")?)
            .await?;
    }

    let started = Instant::now();
    let checked = verify(&destination, &ThreadPool).await?;
    report("verify", commit, started.elapsed());
    if !checked.problems.is_empty() {
        return Err(format!("archive is not sound: {:?}", checked.problems).into());
    }

    let output = dir.path().join("restored.db");
    for _ in 0..3 {
        let options = RestoreOptions {
            force: true,
            ..RestoreOptions::default()
        };
        let restored = restore(&destination, Target::Latest, &output, options).await?;
        report(
            &format!("restore of {} files", restored.files),
            commit,
            restored.duration,
        );

        let started = Instant::now();
        let copy = dir.path().join("copy.db");
        let mut to = File::create(&copy)?;
        io::copy(&mut File::open(&output)?, &mut to)?;
        to.sync_all()?;
        report("plain copy and fsync", commit, started.elapsed());
        fs::remove_file(copy)?;
    }
    Ok(())
}

fn transaction(txid: u64, page_size: PageSize, commit: u32) -> Result<Vec<u8>, Box<dyn Error>> {
    let number = Txid::new(txid);
    let mut encoder = Encoder::new(
        Vec::new(),
        Header::new(page_size, commit, number, number, 0),
    )?;
    let mut page = vec![0; page_size.as_usize()];
    for pgno in (1 + txid as u32..=commit).step_by(1000) {
        fill(txid << 32 | u64::from(pgno), &mut page);
        encoder.encode_page(PageNo::new(pgno), &page)?;
    }
    Ok(encoder.finish(None)?.0)
}

/// Random bytes (xorshift) in the first half, zeros in the second.
fn fill(seed: u64, page: &mut [u8]) {
    let (random, zeros) = page.split_at_mut(page.len() / 2);
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for chunk in random.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
    zeros.fill(0);
}

fn report(what: &str, commit: u32, duration: Duration) {
    let megabytes = f64::from(commit) * f64::from(PageSize::DEFAULT.get()) / 1e6;
    println!(
        "{what}: {:.2} s, {:.0} MB/s of database",
        duration.as_secs_f64(),
        megabytes / duration.as_secs_f64()
    );
}
