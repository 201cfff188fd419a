//! Files that stock Litestream 0.5.15 and 0.5.18 wrote: read, restored and written again.

use halite_ltx::{Compactor, Decoder, Encoder, PageNo, Txid};

use crate::samples::{VECTORS, Vector, all_vectors, apply, decode, vector_dir, vector_level};

fn expected(name: &str) -> Vec<u8> {
    std::fs::read(vector_dir(name).join("expected.db")).unwrap()
}

/// A snapshot and the files of the lower levels that continue it, coarsest first.
fn chain(name: &str, snapshot: Vector) -> Vec<Vector> {
    let mut chain = vec![snapshot];
    for level in (0..=2).rev() {
        for file in vector_level(name, level) {
            let reached = chain.last().unwrap().max;
            if file.max > reached && file.min <= reached.next() {
                chain.push(file);
            }
        }
    }
    chain
}

#[test]
fn every_stock_file_decodes_and_verifies() {
    for file in all_vectors() {
        let mut decoder = Decoder::new(&file.bytes[..]).unwrap();
        assert_eq!(
            (decoder.header().min_txid, decoder.header().max_txid),
            (file.min, file.max)
        );
        assert!(decoder.header().no_checksum);
        let mut page = Vec::new();
        while decoder.next_page(&mut page).unwrap().is_some() {}
        let trailer = decoder
            .finish()
            .unwrap_or_else(|error| panic!("{error} path={:?}", file.path));
        assert_eq!(trailer.post_apply_checksum, None);
    }
}

#[test]
fn every_chain_from_a_snapshot_restores_the_expected_database() {
    for name in VECTORS {
        let last = vector_level(name, 0).last().unwrap().max;
        let snapshots = (0..=9)
            .flat_map(|level| vector_level(name, level))
            .filter(|file| file.min == Txid::new(1));
        let mut restored = 0;
        for snapshot in snapshots {
            let chain = chain(name, snapshot);
            if chain.last().unwrap().max != last {
                continue;
            }
            let mut image = Vec::new();
            chain.iter().for_each(|file| apply(&mut image, &file.bytes));
            assert!(
                image == expected(name),
                "sequential name={name} files={}",
                chain.len()
            );

            let (merged, _) = Compactor::new(chain.iter().map(|file| &file.bytes[..]))
                .unwrap()
                .write_to(Vec::new())
                .unwrap();
            let mut image = Vec::new();
            apply(&mut image, &merged);
            assert!(
                image == expected(name),
                "merged name={name} files={}",
                chain.len()
            );
            restored += 1;
        }
        assert!(restored >= 3, "name={name} restored={restored}");
    }
}

/// Level 1 and up are merges of level 0, so our merge must give the same header and pages. (The bytes of compressed pages depend on
/// the compressor.)
#[test]
fn merging_level_0_gives_what_stock_compaction_gave() {
    let mut compared = 0;
    for name in VECTORS {
        let sources = vector_level(name, 0);
        for target in (1..=2).flat_map(|level| vector_level(name, level)) {
            let inputs: Vec<&[u8]> = sources
                .iter()
                .filter(|file| file.min >= target.min && file.max <= target.max)
                .map(|file| &file.bytes[..])
                .collect();
            let (merged, _) = Compactor::new(inputs)
                .unwrap()
                .write_to(Vec::new())
                .unwrap();
            assert!(
                decode(&merged).unwrap() == decode(&target.bytes).unwrap(),
                "path={:?}",
                target.path
            );
            compared += 1;
        }
    }
    assert!(compared >= 20, "compared={compared}");
}

#[test]
fn stock_files_survive_being_written_again() {
    for file in all_vectors() {
        let (header, pages) = decode(&file.bytes).unwrap();
        let mut encoder = Encoder::new(Vec::new(), header).unwrap();
        for (pgno, data) in &pages {
            encoder.encode_page(PageNo::new(*pgno), data).unwrap();
        }
        let (bytes, _) = encoder.finish(None).unwrap();
        assert!(
            decode(&bytes).unwrap() == (header, pages),
            "path={:?}",
            file.path
        );
    }
}
