//! Merging files gives what applying them one after the other gives, whatever the grouping.

use halite_ltx::{Checksum, CompactError, Compactor, Encoder, Header, PageNo, PageSize, Txid};
use proptest::prelude::*;

use crate::samples::{any_page_size, apply, decode, file, page};

/// One transaction: the size afterwards and which pages (by index, taken modulo that size) it rewrites.
type Change = (u32, Vec<u32>, u64);

fn changes() -> impl Strategy<Value = Vec<Change>> {
    proptest::collection::vec(
        (
            1u32..9,
            proptest::collection::vec(0u32..64, 0..4),
            any::<u64>(),
        ),
        1..9,
    )
}

/// The files of transactions `first..`, each with the pages rewritten and all pages by which the database grew.
fn write_files(page_size: PageSize, first: u64, changes: &[Change]) -> Vec<Vec<u8>> {
    let mut size = if first == 1 { 0 } else { 3 };
    let mut files = Vec::new();
    for (txid, (commit, rewritten, seed)) in (first..).zip(changes) {
        let mut pages: Vec<u32> = rewritten
            .iter()
            .map(|at| at % commit + 1)
            .chain(size + 1..=*commit)
            .collect();
        pages.sort_unstable();
        pages.dedup();
        let pages: Vec<_> = pages
            .into_iter()
            .map(|pgno| (pgno, page(page_size, seed.wrapping_add(u64::from(pgno)))))
            .collect();
        let mut header = Header::new(
            page_size,
            *commit,
            Txid::new(txid),
            Txid::new(txid),
            txid as i64,
        );
        (header.wal_offset, header.wal_salt1, header.node_id) = (32, 7, 9);
        files.push(file(header, &pages));
        size = *commit;
    }
    files
}

fn merge<'a>(files: impl IntoIterator<Item = &'a Vec<u8>>) -> Result<Vec<u8>, CompactError> {
    let compactor = Compactor::new(files.into_iter().map(|bytes| &bytes[..]))?;
    let header = *compactor.header();
    let (bytes, trailer) = compactor.write_to(Vec::new())?;
    assert_eq!(trailer.post_apply_checksum, None);
    assert_eq!(decode(&bytes).unwrap().0, header);
    Ok(bytes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn merging_equals_applying_in_order(
        page_size in any_page_size(),
        first in prop_oneof![Just(1u64), 2u64..u64::MAX / 2],
        changes in changes(),
        cuts in proptest::collection::vec((0usize..9, 0usize..3), 0..4),
    ) {
        let files = write_files(page_size, first, &changes);
        let start = if first == 1 { Vec::new() } else { vec![0xAB; 3 * page_size.as_usize()] };
        let mut expected = start.clone();
        files.iter().for_each(|bytes| apply(&mut expected, bytes));

        // All at once.
        let merged = merge(&files).unwrap();
        let mut image = start.clone();
        apply(&mut image, &merged);
        prop_assert!(image == expected);
        let (header, _) = decode(&merged).unwrap();
        let last = first + changes.len() as u64 - 1;
        prop_assert_eq!(header, Header::new(page_size, changes.last().unwrap().0, Txid::new(first), Txid::new(last), last as i64));

        // In groups that may overlap, then the groups.
        let mut ends: Vec<(usize, usize)> = cuts.into_iter().map(|(end, overlap)| (end % files.len() + 1, overlap)).collect();
        ends.push((files.len(), 0));
        ends.sort_unstable();
        ends.dedup_by_key(|(end, _)| *end);
        let mut groups = Vec::new();
        let mut from: usize = 0;
        for (end, overlap) in ends {
            groups.push(merge(&files[from..end]).unwrap());
            from = end.saturating_sub(overlap).max(from);
        }
        let mut image = start;
        apply(&mut image, &merge(&groups).unwrap());
        prop_assert!(image == expected);
    }
}

fn range(page_size: PageSize, min: u64, max: u64) -> Vec<u8> {
    let header = Header::new(page_size, 1, Txid::new(min), Txid::new(max), 0);
    file(header, &[(1, page(page_size, max))])
}

#[test]
fn neighbours_must_touch_and_advance() {
    let size = PageSize::MIN;
    let allowed = [
        ((2, 4), (5, 5)),
        ((2, 4), (3, 5)),
        ((2, 4), (2, 5)),
        ((1, 4), (1, 9)),
        ((5, 6), (4, 7)),
    ];
    let refused = [
        ((2, 4), (6, 7)),
        ((2, 4), (3, 4)),
        ((2, 4), (2, 3)),
        ((3, 4), (3, 4)),
        ((3, 4), (1, 2)),
    ];
    for ((a, b), (c, d)) in allowed {
        let merged = merge(&[range(size, a, b), range(size, c, d)]).unwrap();
        assert_eq!(
            decode(&merged).unwrap().1,
            [(1, page(size, d))],
            "newest wins: {a}-{b} {c}-{d}"
        );
    }
    for ((a, b), (c, d)) in refused {
        let error = merge(&[range(size, a, b), range(size, c, d)]).unwrap_err();
        assert!(
            matches!(error, CompactError::NotContiguous { input: 1, .. }),
            "{a}-{b} {c}-{d}: {error}"
        );
    }
    let end = range(size, u64::MAX, u64::MAX);
    assert!(matches!(
        merge(&[end.clone(), end]),
        Err(CompactError::NotContiguous { .. })
    ));
}

#[test]
fn no_inputs_and_mixed_page_sizes_are_refused() {
    assert!(matches!(merge(&[]), Err(CompactError::NoInputs)));
    let files = [range(PageSize::MIN, 2, 2), range(PageSize::DEFAULT, 3, 3)];
    assert!(matches!(
        merge(&files),
        Err(CompactError::PageSize { input: 1, .. })
    ));
}

#[test]
fn pages_beyond_the_final_size_are_dropped() {
    let size = PageSize::MIN;
    let header = |txid, commit| Header::new(size, commit, Txid::new(txid), Txid::new(txid), 0);
    let grown = file(
        header(2, 5),
        &[(1, page(size, 1)), (4, page(size, 4)), (5, page(size, 5))],
    );
    let shrunk = file(header(3, 2), &[(2, page(size, 8))]);
    let merged = merge(&[grown, shrunk]).unwrap();
    let (header, pages) = decode(&merged).unwrap();
    assert_eq!(header.commit, 2);
    assert_eq!(pages, [(1, page(size, 1)), (2, page(size, 8))]);
}

#[test]
fn checksummed_inputs_merge_into_a_file_without_checksums() {
    let size = PageSize::MIN;
    let mut header = Header::new(size, 1, Txid::new(2), Txid::new(2), 0);
    header.no_checksum = false;
    header.pre_apply_checksum = Some(Checksum::new(3));
    let mut encoder = Encoder::new(Vec::new(), header).unwrap();
    encoder.encode_page(PageNo::FIRST, &page(size, 1)).unwrap();
    let (tracked, _) = encoder.finish(Some(Checksum::new(4))).unwrap();
    let (header, _) = decode(&merge(&[tracked, range(size, 3, 3)]).unwrap()).unwrap();
    assert!(header.no_checksum && header.pre_apply_checksum.is_none());
}

#[test]
fn damage_in_a_page_that_is_not_used_is_found_too() {
    let size = PageSize::MIN;
    let mut old = range(size, 2, 2);
    let newest = range(size, 3, 3);
    let last = old.len() - 1;
    old[last] ^= 1;
    let error = merge(&[old, newest]).unwrap_err();
    assert!(
        matches!(error, CompactError::Decode { input: 0, .. }),
        "{error}"
    );
}

#[test]
fn merged_pages_can_be_read_without_writing_a_file() {
    let size = PageSize::MIN;
    let files = [range(size, 1, 2), range(size, 3, 3)];
    let mut compactor = Compactor::new(files.iter().map(|bytes| &bytes[..])).unwrap();
    let mut data = Vec::new();
    assert_eq!(compactor.next_page(&mut data).unwrap(), Some(PageNo::FIRST));
    assert_eq!(data, page(size, 3));
    assert_eq!(compactor.next_page(&mut data).unwrap(), None);
    assert_eq!(compactor.next_page(&mut data).unwrap(), None);
    assert!(matches!(
        compactor.write_to(Vec::new()),
        Err(CompactError::PagesTaken)
    ));
}

#[test]
fn an_unreadable_input_is_named_and_final() {
    let size = PageSize::MIN;
    let (old, newest) = (range(size, 2, 2), range(size, 3, 3));
    let mut compactor = Compactor::new([&old[..], &newest[..120]]).unwrap();
    let mut data = Vec::new();
    let error = compactor.next_page(&mut data).unwrap_err();
    assert!(
        matches!(error, CompactError::Decode { input: 1, .. }),
        "{error}"
    );
    assert!(matches!(
        compactor.next_page(&mut data),
        Err(CompactError::Failed)
    ));
}
