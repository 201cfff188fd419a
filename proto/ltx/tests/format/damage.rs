//! Damaged files: cut off, flipped, mutated. Never a panic, never other content, never more memory than the file warrants.

use halite_ltx::{DecodeFault, Decoder, Header, PageNo, PageSize, Txid};
use proptest::prelude::*;

use crate::entry;
use crate::samples::{all_vectors, any_page_size, decode, file, page, vector_level};

fn small_vectors() -> Vec<Vec<u8>> {
    ["block-512", "frame-4096"]
        .iter()
        .flat_map(|name| vector_level(name, 0))
        .map(|vector| vector.bytes)
        .filter(|bytes| bytes.len() < 900)
        .collect()
}

#[test]
fn every_truncation_of_every_stock_file_is_an_error() {
    for vector in all_vectors() {
        for len in 0..vector.bytes.len() {
            let error = decode(&vector.bytes[..len]).expect_err("a cut file");
            assert!(
                matches!(error.fault, DecodeFault::Truncated),
                "{error} len={len} path={:?}",
                vector.path
            );
            assert!(error.offset <= len as u64);
        }
    }
}

#[test]
fn bytes_after_the_trailer_are_an_error() {
    for mut bytes in small_vectors() {
        let len = bytes.len() as u64;
        bytes.push(0);
        let error = decode(&bytes).unwrap_err();
        assert!(matches!(error.fault, DecodeFault::TrailingBytes), "{error}");
        assert_eq!(error.offset, len);
    }
}

#[test]
fn every_bit_flip_of_small_stock_files_is_an_error_or_harmless() {
    let mut harmless = 0;
    let mut flips = 0;
    for bytes in small_vectors() {
        let content = decode(&bytes).unwrap();
        let mut flipped = bytes.clone();
        for bit in 0..bytes.len() * 8 {
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(found) = decode(&flipped) {
                assert!(found == content, "bit={bit}");
                harmless += 1;
            }
            flips += 1;
            flipped[bit / 8] = bytes[bit / 8];
        }
    }
    // A match copied from elsewhere with the same bytes is the only flip that can be harmless: rare.
    assert!(
        flips > 50_000 && harmless * 20 < flips,
        "flips={flips} harmless={harmless}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn damage_anywhere_is_an_error_or_harmless(
        page_size in any_page_size(),
        seeds in proptest::collection::vec(any::<u64>(), 1..4),
        snapshot in any::<bool>(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let txid = Txid::new(if snapshot { 1 } else { 8 });
        let header = Header::new(page_size, seeds.len() as u32, txid, txid, 5);
        let pages: Vec<_> = (1..).zip(&seeds).map(|(pgno, seed)| (pgno, page(page_size, *seed))).collect();
        let bytes = file(header, &pages);
        prop_assert!(decode(&bytes[..cut.index(bytes.len())]).is_err());
        let mut damaged = bytes.clone();
        for (at, flip) in &damage {
            damaged[at.index(bytes.len())] ^= flip;
        }
        match decode(&damaged) {
            Ok(found) => prop_assert!(found == (header, pages)),
            Err(error) => prop_assert!(error.offset <= bytes.len() as u64),
        }
    }
}

#[test]
fn a_block_size_beyond_any_page_is_refused_before_reading_it() {
    let size = PageSize::MIN;
    let header = Header::new(size, 1, Txid::new(2), Txid::new(2), 0);
    let mut bytes = file(header, &[(1, page(size, 1))]);
    bytes[106..110].copy_from_slice(&u32::MAX.to_be_bytes());
    // Nothing after the size field: reading the block would say "cut off".
    let error = decode(&bytes[..110]).unwrap_err();
    assert!(
        matches!(error.fault, DecodeFault::BlockSize { size: u32::MAX, .. }),
        "{error}"
    );
    assert_eq!(error.offset, 106);
}

#[test]
fn unknown_page_flags_are_refused() {
    let size = PageSize::MIN;
    let header = Header::new(size, 1, Txid::new(2), Txid::new(2), 0);
    let mut bytes = file(header, &[(1, page(size, 1))]);
    bytes[104] = 0x80;
    let error = decode(&bytes).unwrap_err();
    assert!(
        matches!(error.fault, DecodeFault::PageFlags { flags: 0x8001, .. }),
        "{error}"
    );
    assert_eq!(error.offset, 100);
}

#[test]
fn decoder_stays_failed() {
    let size = PageSize::MIN;
    let header = Header::new(size, 2, Txid::new(2), Txid::new(2), 0);
    let bytes = file(header, &[(1, page(size, 1)), (2, page(size, 2))]);
    let mut decoder = Decoder::new(&bytes[..150]).unwrap();
    let mut data = Vec::new();
    assert!(matches!(
        decoder.next_page(&mut data).unwrap_err().fault,
        DecodeFault::Truncated
    ));
    assert!(matches!(
        decoder.next_page(&mut data).unwrap_err().fault,
        DecodeFault::Failed
    ));
    assert!(matches!(
        decoder.finish().unwrap_err().fault,
        DecodeFault::Failed
    ));
}

#[test]
fn legacy_frames_with_other_block_sizes_are_refused() {
    let vector = &vector_level("frame-4096", 0)[0];
    let mut bytes = vector.bytes.clone();
    assert_eq!(bytes[106..112], [0x04, 0x22, 0x4d, 0x18, 0x64, 0x40]);
    bytes[111] = 0x70;
    let error = decode(&bytes).unwrap_err();
    assert!(
        matches!(
            error.fault,
            DecodeFault::Compression {
                pgno: PageNo::FIRST,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(error.offset, 106);
}

/// The fuzz target's entry on mutated stock files: a fixed number of rounds from a fixed seed, so that a failure repeats.
#[test]
fn mutated_stock_files_never_panic() {
    let mut seeds: Vec<Vec<u8>> = all_vectors()
        .into_iter()
        .map(|vector| vector.bytes)
        .filter(|bytes| bytes.len() < 1300)
        .collect();
    // Pairs of neighbours, for the merge.
    for name in ["block-512", "frame-4096"] {
        let files = vector_level(name, 0);
        seeds.extend(
            files
                .windows(2)
                .take(8)
                .map(|pair| [&pair[0].bytes[..], &pair[1].bytes].concat()),
        );
    }
    seeds.iter().for_each(|seed| entry::check(seed));
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) as usize % bound
    };
    for round in 0..6_000 {
        let mut bytes = seeds[round % seeds.len()].clone();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            match random(6) {
                0 => bytes[at] ^= 1 << random(8),
                1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random(5)],
                2 => bytes.truncate(at.max(1)),
                3 => bytes.insert(at, random(256) as u8),
                4 => drop(bytes.remove(at.min(bytes.len() - 2))),
                _ => {
                    let other = &seeds[random(seeds.len())];
                    let len = random(32).min(other.len()).min(bytes.len() - at);
                    let from = random(other.len() - len + 1);
                    bytes[at..at + len].copy_from_slice(&other[from..from + len]);
                }
            }
            if bytes.len() < 2 {
                break;
            }
        }
        entry::check(&bytes);
    }
}
