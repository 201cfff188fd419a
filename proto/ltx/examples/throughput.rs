//! How fast pages are checksummed, encoded and decoded on this machine:
//! `cargo run --release -p halite-ltx --example throughput`.

#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::hint::black_box;
use std::time::Instant;

use halite_ltx::{Compactor, Decoder, Encoder, Header, PageNo, PageSize, Txid, page_checksum};

const PAGES: u32 = 20_000;

/// A page as tables have it: records of varying text, some binary, some free space.
fn page(size: usize, seed: u32) -> Vec<u8> {
    let mut state = u64::from(seed) << 32 | 0x9e37_79b9;
    let mut data = Vec::with_capacity(size);
    while data.len() < size * 3 / 4 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        data.extend_from_slice(
            format!(
                "row {} note for customer {:08x}\0",
                state >> 44,
                state >> 16
            )
            .as_bytes(),
        );
    }
    data.resize(size, 0);
    data
}

fn report(what: &str, bytes: usize, count: u32, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    let rate = bytes as f64 / seconds / 1e6;
    println!(
        "{what:<28} {rate:>8.0} MB/s {:>9.2} µs each",
        seconds * 1e6 / f64::from(count)
    );
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let size = PageSize::DEFAULT;
    let pages: Vec<Vec<u8>> = (0..64).map(|seed| page(size.as_usize(), seed)).collect();
    let pick = |pgno: u32| &pages[pgno as usize % pages.len()];
    let total = PAGES as usize * size.as_usize();

    let start = Instant::now();
    for pgno in 1..=PAGES {
        black_box(page_checksum(PageNo::new(pgno), pick(pgno)));
    }
    report("page_checksum", total, PAGES, start);

    let start = Instant::now();
    let header = Header::new(size, PAGES, Txid::new(1), Txid::new(1), 0);
    let mut encoder = Encoder::new(Vec::new(), header)?;
    for pgno in 1..=PAGES {
        encoder.encode_page(PageNo::new(pgno), pick(pgno))?;
    }
    let (file, _) = encoder.finish(None)?;
    report("encode, per page", total, PAGES, start);
    println!(
        "{:<28} {:>8.2}",
        "compression ratio",
        total as f64 / file.len() as f64
    );

    let start = Instant::now();
    Decoder::new(&file[..])?.finish()?;
    report("decode and verify, per page", total, PAGES, start);

    let start = Instant::now();
    let (merged, _) = Compactor::new([&file[..]])?.write_to(Vec::new())?;
    black_box(merged);
    report("compact, per page", total, PAGES, start);

    let commits = 20_000;
    let header = Header::new(size, 100, Txid::new(2), Txid::new(2), 0);
    let start = Instant::now();
    for commit in 0..commits {
        let mut encoder = Encoder::new(Vec::new(), header)?;
        for pgno in 1..=3 {
            encoder.encode_page(PageNo::new(pgno), pick(commit + pgno))?;
        }
        black_box(encoder.finish(None)?);
    }
    report(
        "commit of 3 pages",
        commits as usize * 3 * size.as_usize(),
        commits,
        start,
    );
    Ok(())
}
