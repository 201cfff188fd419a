// What the fuzz target and the mutation test do with arbitrary bytes. Reading must never panic, an error must point into the input,
// and whatever is accepted must mean the same when it is written and read again.

use std::collections::BTreeMap;
use std::io::Cursor;

use halite_ltx::{
    Compactor, DecodeError, DecodeFault, Decoder, Encoder, HEADER_LEN, Header, PageIndex, PageNo,
    PageSize, Position, Trailer, decode_page_frame, parse_file_name,
};

type Content = (Header, Vec<(PageNo, Vec<u8>)>, Trailer);

/// Runs every reader of the crate over `data`.
pub(crate) fn check(data: &[u8]) {
    check_file(data);
    check_index(data);
    check_pair(data);
    check_text(data);
    let mut page = Vec::new();
    if let Some((pick, frame)) = data.split_first() {
        let page_size = PageSize::try_from(512 << (pick % 8)).expect("a power of two in range");
        if decode_page_frame(page_size, frame, &mut page).is_ok() {
            assert_eq!(page.len(), page_size.as_usize());
        }
    }
}

fn check_file(data: &[u8]) {
    match decode(data) {
        Ok(content) => check_accepted(data, content),
        Err(error) => {
            assert!(
                error.offset <= data.len() as u64,
                "{error} len={}",
                data.len()
            );
            // Past a wrong checksum with the right one: else hardly anything would be accepted.
            if let DecodeFault::FileChecksum { computed, .. } = error.fault {
                let mut sealed = data.to_vec();
                let at = error.offset as usize;
                sealed[at..at + 8].copy_from_slice(&computed.get().to_be_bytes());
                if let Ok(content) = decode(&sealed) {
                    check_accepted(&sealed, content);
                }
            }
        }
    }
}

fn decode(data: &[u8]) -> Result<Content, DecodeError> {
    let mut decoder = Decoder::new(data)?;
    let header = *decoder.header();
    let mut pages = Vec::new();
    let mut page = Vec::new();
    while let Some(pgno) = decoder.next_page(&mut page)? {
        assert_eq!(page.len(), header.page_size.as_usize());
        pages.push((pgno, page.clone()));
    }
    Ok((header, pages, decoder.finish()?))
}

fn check_accepted(data: &[u8], content: Content) {
    let (header, pages, trailer) = &content;
    let mut encoder = Encoder::new(Vec::new(), *header).expect("an accepted header is valid");
    for (pgno, page) in pages {
        encoder
            .encode_page(*pgno, page)
            .expect("accepted pages are in order");
    }
    let (bytes, written) = encoder
        .finish(trailer.post_apply_checksum)
        .expect("an accepted trailer is valid");
    let (header_again, pages_again, trailer_again) =
        decode(&bytes).expect("what was written is valid");
    assert!(header_again == *header && pages_again == *pages && trailer_again == written);

    let mut reader = Cursor::new(data);
    let index = PageIndex::read(&mut reader).expect("the index of an accepted file is valid");
    assert_eq!(index.len(), pages.len());
    let mut page = Vec::new();
    for (pgno, expected) in pages {
        assert!(
            index
                .read_page(&mut reader, *pgno, &mut page)
                .expect("an accepted page")
        );
        assert!(page == *expected);
    }

    if header.commit > 0 {
        let compactor = Compactor::new([data]).expect("one accepted file");
        let (merged, _) = compactor.write_to(Vec::new()).expect("one accepted file");
        assert!(decode(&merged).expect("what was merged is valid").1 == *pages);
    }
}

/// Two files one after the other: merged, they hold the newest version of each page that is left.
fn check_pair(data: &[u8]) {
    let Some(at) = data.windows(4).skip(1).position(|magic| magic == b"LTX1") else {
        return;
    };
    let (older, newer) = data.split_at(at + 1);
    let Ok(compactor) = Compactor::new([older, newer]) else {
        return;
    };
    let Ok((merged, _)) = compactor.write_to(Vec::new()) else {
        return;
    };
    let (older, newer) = (
        decode(older).expect("an input that was merged"),
        decode(newer).expect("an input that was merged"),
    );
    let mut expected: BTreeMap<PageNo, Vec<u8>> = older.1.into_iter().collect();
    expected.extend(newer.1);
    expected.retain(|pgno, _| pgno.get() <= newer.0.commit);
    let (header, pages, _) = decode(&merged).expect("what was merged is valid");
    assert!(pages.into_iter().eq(expected));
    assert_eq!(
        (header.min_txid, header.max_txid),
        (older.0.min_txid, newer.0.max_txid)
    );
    assert_eq!(
        (header.commit, header.timestamp_ms),
        (newer.0.commit, newer.0.timestamp_ms)
    );
}

fn check_index(data: &[u8]) {
    let mut reader = Cursor::new(data);
    let mut page = Vec::new();
    match PageIndex::read(&mut reader) {
        Ok(index) => {
            for entry in index.entries().iter().take(64) {
                // The frame may be anything; the index is all that has been checked.
                let _ = index.read_page(&mut reader, entry.pgno, &mut page);
            }
        }
        Err(error) => assert!(
            error.offset <= data.len() as u64,
            "{error} len={}",
            data.len()
        ),
    }
    if let Some((bytes, tail)) = data.split_first_chunk::<HEADER_LEN>()
        && let Ok(header) = Header::decode(bytes)
    {
        for len in [0, 23, 24, 40, tail.len()] {
            let tail = &tail[tail.len().saturating_sub(len)..];
            if let Ok(Err(needed)) = PageIndex::from_tail(header, tail, data.len() as u64) {
                assert!(needed > tail.len() as u64 && needed <= data.len() as u64);
            }
        }
    }
}

fn check_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(position) = text.parse::<Position>() {
        assert_eq!(position.to_string(), text);
    }
    if let Ok((min, max)) = parse_file_name(text) {
        assert_eq!(halite_ltx::file_name(min, max), text);
    }
}
