//! Single pages found through the index.

use std::io::Cursor;

use halite_ltx::{DecodeFault, Header, PageIndex, PageNo, PageSize, Txid, decode_page_frame};

use crate::samples::{all_vectors, decode, file, page};

#[test]
fn every_page_of_every_stock_file_is_found() {
    for vector in all_vectors() {
        let (header, pages) = decode(&vector.bytes).unwrap();
        let mut reader = Cursor::new(&vector.bytes);
        let index = PageIndex::read(&mut reader).unwrap();
        assert_eq!(*index.header(), header);
        assert_eq!(index.len(), pages.len());
        let mut data = Vec::new();
        for (pgno, expected) in &pages {
            let pgno = PageNo::new(*pgno);
            assert!(index.read_page(&mut reader, pgno, &mut data).unwrap());
            assert!(data == *expected);
            let entry = index.get(pgno).unwrap();
            let at = entry.frame_offset as usize;
            let frame = &vector.bytes[at..at + entry.frame_len as usize];
            assert_eq!(
                decode_page_frame(header.page_size, frame, &mut data).unwrap(),
                pgno
            );
            assert!(data == *expected);
        }
        assert!(
            !index
                .read_page(&mut reader, PageNo::new(header.commit + 1), &mut data)
                .unwrap()
        );
    }
}

#[test]
fn a_tail_that_is_too_short_says_how_much_is_needed() {
    for vector in all_vectors() {
        let bytes = &vector.bytes;
        let (header, pages) = decode(bytes).unwrap();
        let mut needed = 0;
        let mut rounds = 0;
        let index = loop {
            let tail = &bytes[bytes.len() - needed..];
            match PageIndex::from_tail(header, tail, bytes.len() as u64).unwrap() {
                Ok(index) => break index,
                Err(more) => {
                    assert!(more as usize > needed && more as usize <= bytes.len());
                    needed = more as usize;
                }
            }
            rounds += 1;
        };
        assert_eq!(rounds, 2);
        assert_eq!(index.len(), pages.len());
        // More than needed is fine.
        assert!(
            PageIndex::from_tail(header, bytes, bytes.len() as u64)
                .unwrap()
                .is_ok()
        );
    }
}

#[test]
fn an_index_that_lies_is_found() {
    let size = PageSize::MIN;
    let header = Header::new(size, 3, Txid::new(2), Txid::new(2), 0);
    let bytes = file(header, &[(1, page(size, 0)), (2, page(size, 4))]);
    let index = PageIndex::read(&mut Cursor::new(&bytes)).unwrap();
    let (one, two) = (index.entries()[0], index.entries()[1]);
    assert_eq!(one.frame_len, two.frame_len);
    let index_at = (two.frame_offset as usize + two.frame_len as usize) + 6;

    // The first page is called page 3: the order breaks at the second entry.
    let mut renamed = bytes.clone();
    renamed[index_at] = 3;
    let error = PageIndex::read(&mut Cursor::new(&renamed)).unwrap_err();
    assert!(matches!(error.fault, DecodeFault::PageOrder(_)), "{error}");

    // The second page is called page 3: only its frame shows the lie.
    let mut renamed = bytes.clone();
    let second = index_at + 3;
    assert_eq!(renamed[second], 2);
    renamed[second] = 3;
    let index = PageIndex::read(&mut Cursor::new(&renamed)).unwrap();
    let error = index
        .read_page(&mut Cursor::new(&renamed), PageNo::new(3), &mut Vec::new())
        .unwrap_err();
    assert!(
        matches!(error.fault, DecodeFault::IndexFrame { .. }),
        "{error}"
    );
    assert_eq!(error.offset, two.frame_offset);

    // Both lies are found by a decoder, at the byte.
    let error = decode(&renamed).unwrap_err();
    assert_eq!(error.offset, second as u64);
    assert!(matches!(error.fault, DecodeFault::IndexMismatch), "{error}");

    // An index longer than the file.
    let mut endless = bytes;
    let len_at = endless.len() - 24;
    endless[len_at] = 0xff;
    let error = PageIndex::read(&mut Cursor::new(&endless)).unwrap_err();
    assert!(
        matches!(error.fault, DecodeFault::IndexMalformed),
        "{error}"
    );
    assert_eq!(error.offset, len_at as u64);
}
