//! What is written is read back, for all page sizes, with and without checksums.

use halite_ltx::{
    Checksum, DatabaseChecksum, DecodeFault, Decoder, EncodeError, Encoder, Header, PageNo,
    PageOrderError, PageSize, TrailerError, Txid,
};
use proptest::prelude::*;

use crate::samples::{any_page_size, decode, file, page, page_sizes};

fn snapshot_header(page_size: PageSize, commit: u32) -> Header {
    Header::new(
        page_size,
        commit,
        Txid::new(1),
        Txid::new(1),
        1_700_000_000_123,
    )
}

fn checksum_of(page_size: PageSize, pages: &[(u32, Vec<u8>)]) -> Checksum {
    let mut fold = DatabaseChecksum::new(page_size);
    for (pgno, data) in pages {
        fold.add_page(PageNo::new(*pgno), data);
    }
    fold.value()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_file_is_read_back_as_written(
        page_size in any_page_size(),
        seeds in proptest::collection::btree_map(1u32..2_000_000, any::<u64>(), 0..6),
        (min, span) in (2u64..u64::MAX / 2, 0u64..1000),
        wal in (1i64..i64::MAX, 0i64..i64::MAX, any::<u32>(), any::<u32>()),
        (timestamp_ms, node_id, checksums) in (any::<i64>(), any::<u64>(), any::<bool>()),
        (pre, post) in (any::<u64>(), any::<u64>()),
    ) {
        let lock_page = page_size.lock_page().get();
        let pages: Vec<_> =
            seeds.iter().filter(|(pgno, _)| **pgno != lock_page).map(|(pgno, seed)| (*pgno, page(page_size, *seed))).collect();
        let mut header = Header::new(page_size, 2_000_000, Txid::new(min), Txid::new(min + span), timestamp_ms);
        (header.wal_offset, header.wal_size, header.wal_salt1, header.wal_salt2) = wal;
        header.node_id = node_id;
        let mut post_checksum = None;
        if checksums {
            header.no_checksum = false;
            header.pre_apply_checksum = Some(Checksum::new(pre));
            post_checksum = Some(Checksum::new(post));
        }
        let mut encoder = Encoder::new(Vec::new(), header).unwrap();
        for (pgno, data) in &pages {
            encoder.encode_page(PageNo::new(*pgno), data).unwrap();
        }
        let (bytes, written) = encoder.finish(post_checksum).unwrap();
        prop_assert_eq!(Decoder::new(&bytes[..]).unwrap().finish().unwrap(), written);
        prop_assert_eq!(written.post_apply_checksum, post_checksum);
        let (read_header, read_pages) = decode(&bytes).unwrap();
        prop_assert_eq!(read_header, header);
        prop_assert!(read_pages == pages);
    }
}

#[test]
fn snapshots_of_all_page_sizes_are_read_back() {
    for page_size in page_sizes() {
        let pages: Vec<_> = (1..=9)
            .map(|pgno| (pgno, page(page_size, u64::from(pgno) * 7)))
            .collect();
        let (header, read) = decode(&file(snapshot_header(page_size, 9), &pages)).unwrap();
        assert!(header.is_snapshot());
        assert!(read == pages);
    }
}

#[test]
fn checksummed_snapshot_is_compared_with_its_pages_on_both_sides() {
    let page_size = PageSize::DEFAULT;
    let pages: Vec<_> = (1..=3)
        .map(|pgno| (pgno, page(page_size, u64::from(pgno))))
        .collect();
    let header = Header {
        no_checksum: false,
        ..snapshot_header(page_size, 3)
    };
    let encode = |post| {
        let mut encoder = Encoder::new(Vec::new(), header).unwrap();
        for (pgno, data) in &pages {
            encoder.encode_page(PageNo::new(*pgno), data).unwrap();
        }
        encoder.finish(post)
    };
    let right = checksum_of(page_size, &pages);
    let (mut bytes, trailer) = encode(Some(right)).unwrap();
    assert_eq!(trailer.post_apply_checksum, Some(right));
    assert!(decode(&bytes).unwrap().1 == pages);

    let wrong = Checksum::new(right.get() ^ 1);
    let error = encode(Some(wrong)).unwrap_err();
    assert!(
        matches!(
            error,
            EncodeError::Trailer(TrailerError::PostApplyMismatch { .. })
        ),
        "{error}"
    );
    let error = encode(None).unwrap_err();
    assert!(
        matches!(
            error,
            EncodeError::Trailer(TrailerError::PostApplyMissing(0))
        ),
        "{error}"
    );

    // The same lie with a file checksum that fits it must be found by the decoder.
    let post_at = bytes.len() - 16;
    bytes[post_at + 7] ^= 1;
    reseal(&mut bytes);
    let error = decode(&bytes).unwrap_err();
    assert_eq!(error.offset, post_at as u64);
    assert!(
        matches!(
            error.fault,
            DecodeFault::Trailer(TrailerError::PostApplyMismatch { .. })
        ),
        "{error}"
    );
}

/// Makes the file checksum right again after a change.
fn reseal(bytes: &mut [u8]) {
    let error = decode(bytes).unwrap_err();
    let DecodeFault::FileChecksum { computed, .. } = error.fault else {
        panic!("{error}")
    };
    let at = error.offset as usize;
    bytes[at..at + 8].copy_from_slice(&computed.get().to_be_bytes());
}

#[test]
fn deletion_needs_the_checksum_of_an_empty_database() {
    let mut header = snapshot_header(PageSize::DEFAULT, 0);
    let error = Encoder::new(Vec::new(), header)
        .unwrap()
        .finish(None)
        .unwrap_err();
    assert!(
        matches!(error, EncodeError::Trailer(TrailerError::PostApplyNotEmpty)),
        "{error}"
    );
    header.no_checksum = false;
    let (bytes, _) = Encoder::new(Vec::new(), header)
        .unwrap()
        .finish(Some(Checksum::EMPTY))
        .unwrap();
    assert_eq!(decode(&bytes).unwrap(), (header, Vec::new()));
}

#[test]
fn post_apply_checksum_is_refused_without_checksums() {
    let header = Header::new(PageSize::MIN, 1, Txid::new(2), Txid::new(2), 0);
    let error = Encoder::new(Vec::new(), header)
        .unwrap()
        .finish(Some(Checksum::EMPTY))
        .unwrap_err();
    assert!(
        matches!(
            error,
            EncodeError::Trailer(TrailerError::PostApplyForbidden(_))
        ),
        "{error}"
    );
}

#[test]
fn encoder_refuses_pages_out_of_order_and_stays_usable() {
    let size = PageSize::MIN;
    let lock = size.lock_page();
    let data = page(size, 1);
    let header = Header::new(size, lock.get() + 5, Txid::new(2), Txid::new(2), 0);
    let mut encoder = Encoder::new(Vec::new(), header).unwrap();
    let mut refused = |pgno: PageNo, data: &[u8]| encoder.encode_page(pgno, data).unwrap_err();
    assert!(matches!(
        refused(PageNo::new(0), &data),
        EncodeError::PageOrder(PageOrderError::Zero)
    ));
    assert!(matches!(
        refused(lock, &data),
        EncodeError::PageOrder(PageOrderError::LockPage(_))
    ));
    let beyond = refused(PageNo::new(lock.get() + 6), &data);
    assert!(matches!(
        beyond,
        EncodeError::PageOrder(PageOrderError::BeyondCommit { .. })
    ));
    assert!(matches!(
        refused(PageNo::FIRST, &data[1..]),
        EncodeError::PageLength { found: 511, .. }
    ));
    for pgno in [lock.get() - 1, lock.get() + 1] {
        encoder.encode_page(PageNo::new(pgno), &data).unwrap();
    }
    let again = encoder
        .encode_page(PageNo::new(lock.get() + 1), &data)
        .unwrap_err();
    assert!(matches!(
        again,
        EncodeError::PageOrder(PageOrderError::NotAscending { .. })
    ));
    let (bytes, _) = encoder.finish(None).unwrap();
    assert_eq!(decode(&bytes).unwrap().1.len(), 2);
}

#[test]
fn snapshot_must_hold_every_page() {
    let size = PageSize::MIN;
    let data = page(size, 1);
    let mut encoder = Encoder::new(Vec::new(), snapshot_header(size, 3)).unwrap();
    let error = encoder.encode_page(PageNo::new(2), &data).unwrap_err();
    assert!(
        matches!(
            error,
            EncodeError::PageOrder(PageOrderError::SnapshotGap { .. })
        ),
        "{error}"
    );
    encoder.encode_page(PageNo::new(1), &data).unwrap();
    encoder.encode_page(PageNo::new(2), &data).unwrap();
    let error = encoder.finish(None).unwrap_err();
    assert!(
        matches!(
            error,
            EncodeError::PageOrder(PageOrderError::SnapshotIncomplete { .. })
        ),
        "{error}"
    );
}

/// Accepts a number of bytes, then fails once and is well again.
struct FailsOnce(usize, Vec<u8>);

impl std::io::Write for FailsOnce {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        if self.1.len() + buf.len() > self.0 {
            self.0 = usize::MAX;
            return Err(std::io::Error::other("disk full"));
        }
        self.1.extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_failed_write_is_final() {
    let size = PageSize::MIN;
    let header = Header::new(size, 9, Txid::new(2), Txid::new(2), 0);
    let mut encoder = Encoder::new(FailsOnce(120, Vec::new()), header).unwrap();
    let random = page(size, 1);
    assert!(matches!(
        encoder.encode_page(PageNo::new(1), &random),
        Err(EncodeError::Io(_))
    ));
    assert!(matches!(
        encoder.encode_page(PageNo::new(2), &random),
        Err(EncodeError::Failed)
    ));
    assert!(matches!(encoder.finish(None), Err(EncodeError::Failed)));
}

/// Gives one byte at a time and is interrupted before each.
struct Trickle<'a>(&'a [u8], bool);

impl std::io::Read for Trickle<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        let count = buf.len().min(1);
        std::io::Read::read(&mut self.0, &mut buf[..count])
    }
}

#[test]
fn decoder_does_not_depend_on_how_reads_are_cut() {
    for vector in crate::samples::vector_level("frame-4096", 0) {
        Decoder::new(Trickle(&vector.bytes, false))
            .unwrap()
            .finish()
            .unwrap();
    }
}
