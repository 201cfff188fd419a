//! Whatever attempts bring, and wherever they break off: the pages that come out are the sender's.

use std::collections::BTreeMap;
use std::io::Write as _;

use proptest::prelude::*;

use super::*;

const SIZE: PageSize = PageSize::MIN;

/// Page `number` in a version: the same version is the same content.
fn content(number: u32, version: u8) -> Vec<u8> {
    let mut page = vec![version; SIZE.as_usize()];
    // Not all of it compresses away, so that a file can break off within a page.
    let mut state = u64::from(number) << 8 | u64::from(version);
    for byte in &mut page[100..] {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        *byte = (state >> 56) as u8;
    }
    page
}

/// A database: the version of each page.
type Versions = Vec<u8>;

fn checksums(database: &Versions) -> Vec<u64> {
    (1..)
        .zip(database)
        .map(|(number, version)| {
            masked_page_checksum(PageNo::new(number), &content(number, *version)).get()
        })
        .collect()
}

/// What a sender that has `database` answers to these checksums: an LTX, and how many pages are in it.
fn answer(database: &Versions, theirs: &[u64]) -> (Vec<u8>, usize) {
    let any = PageDiff::TXID_OF_ANY_PAGES;
    let header = Header::new(SIZE, database.len() as u32, any, any, 0);
    let mut encoder = Encoder::new(Vec::new(), header).unwrap();
    let mut sent = 0;
    for (at, ours) in checksums(database).into_iter().enumerate() {
        if theirs.get(at) != Some(&ours) {
            let number = at as u32 + 1;
            let page = content(number, database[at]);
            encoder.encode_page(PageNo::new(number), &page).unwrap();
            sent += 1;
        }
    }
    (encoder.finish(None).unwrap().0, sent)
}

/// A receiver: its file, and the pieces in its directory.
struct Receiver {
    dir: tempfile::TempDir,
    file: Versions,
}

impl Receiver {
    fn new(file: Versions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, file }
    }

    fn pieces(&self) -> Pieces {
        Pieces::find(self.dir.path(), 7, SIZE).unwrap()
    }

    /// An attempt that ends after this part of the answer, in 256ths. How many pages were sent.
    fn attempt(&self, sender: &Versions, part: u8) -> usize {
        let mut pieces = self.pieces();
        let mut theirs = checksums(&self.file);
        pieces.lay_over(&mut theirs).unwrap();
        let (ltx, sent) = answer(sender, &theirs);
        let len = ltx.len() * usize::from(part) / 256;
        pieces.begin().unwrap().write_all(&ltx[..len]).unwrap();
        sent
    }

    /// An attempt that comes to its end: the pages of the file afterwards.
    fn complete(&self, sender: &Versions) -> (BTreeMap<u32, Vec<u8>>, usize) {
        let mut pieces = self.pieces();
        let mut theirs = checksums(&self.file);
        pieces.lay_over(&mut theirs).unwrap();
        let (ltx, sent) = answer(sender, &theirs);
        pieces.begin().unwrap().write_all(&ltx).unwrap();
        let mut merged = pieces.merged(sender.len() as u32).unwrap();
        let file = (1..).zip(&self.file);
        let mut pages: BTreeMap<u32, Vec<u8>> = file
            .map(|(number, version)| (number, content(number, *version)))
            .take(sender.len())
            .collect();
        let (mut page, mut last) = (Vec::new(), 0);
        while let Some(pgno) = merged.next_page(&mut page).unwrap() {
            assert!(last < pgno.get() && pgno.get() as usize <= sender.len());
            last = pgno.get();
            pages.insert(pgno.get(), page.clone());
        }
        pieces.remove().unwrap();
        (pages, sent)
    }
}

fn pages_of(database: &Versions) -> BTreeMap<u32, Vec<u8>> {
    (1..)
        .zip(database)
        .map(|(number, version)| (number, content(number, *version)))
        .collect()
}

fn versions() -> impl Strategy<Value = Versions> {
    prop::collection::vec(0..3_u8, 1..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_mix_of_attempts_that_broke_off_leads_to_the_senders_pages(
        file in prop::collection::vec(0..3_u8, 0..24),
        attempts in prop::collection::vec((versions(), any::<u8>()), 0..6),
        last in versions(),
    ) {
        let receiver = Receiver::new(file);
        for (sender, part) in &attempts {
            receiver.attempt(sender, *part);
        }
        let (pages, _) = receiver.complete(&last);
        prop_assert_eq!(pages, pages_of(&last));
        prop_assert!(receiver.pieces().numbers.is_empty());
    }

    #[test]
    fn a_piece_of_which_bytes_are_lost_costs_pages_and_nothing_else(
        sender in versions(),
        at in any::<prop::sample::Index>(),
        zeros in 1..600_usize,
    ) {
        let receiver = Receiver::new(Vec::new());
        receiver.attempt(&sender, 255);
        let path = receiver.pieces().path(0);
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        let end = bytes.len().min(at + zeros);
        bytes[at..end].fill(0);
        fs::write(&path, bytes).unwrap();
        let (pages, _) = receiver.complete(&sender);
        prop_assert_eq!(pages, pages_of(&sender));
    }
}

#[test]
fn what_came_whole_is_not_sent_again_and_what_has_changed_since_is() {
    let receiver = Receiver::new(vec![0; 4]);
    let mut sender: Versions = vec![1; 200];
    assert_eq!(receiver.attempt(&sender, 128), 200);
    let mut theirs = checksums(&receiver.file);
    let kept = receiver.pieces().lay_over(&mut theirs).unwrap() as usize;
    assert!((90..110).contains(&kept), "{kept}");
    let half = receiver.attempt(&sender, 128);
    assert_eq!(half, 200 - kept);
    sender[0] = 2;
    let (pages, sent) = receiver.complete(&sender);
    assert_eq!(pages, pages_of(&sender));
    assert!((40..60).contains(&sent), "{sent}");
}

#[test]
fn many_pieces_become_one_and_empty_ones_go() {
    let receiver = Receiver::new(Vec::new());
    let sender: Versions = vec![1; 400];
    for _ in 0..PIECES_MAX * 2 {
        // Some bring a few pages, some none.
        receiver.attempt(&sender, 12);
        receiver.attempt(&sender, 0);
        assert!(receiver.pieces().numbers.len() <= PIECES_MAX + 2);
    }
    let mut theirs = Vec::new();
    let kept = receiver.pieces().lay_over(&mut theirs).unwrap();
    let (pages, sent) = receiver.complete(&sender);
    assert_eq!((pages, sent as u64), (pages_of(&sender), 400 - kept));
    assert!(kept > 300, "{kept}");
}

#[test]
fn a_damaged_newest_piece_is_refused() {
    let receiver = Receiver::new(Vec::new());
    let sender: Versions = vec![1; 20];
    let (mut ltx, _) = answer(&sender, &[]);
    let read = |ltx: &[u8], page_count| {
        receiver.pieces().remove().unwrap();
        let mut pieces = receiver.pieces();
        pieces.begin().unwrap().write_all(ltx).unwrap();
        let mut merged = pieces.merged(page_count)?;
        let mut page = Vec::new();
        while merged.next_page(&mut page)?.is_some() {}
        Ok::<(), PageSourceError>(())
    };
    read(&ltx, 20).unwrap();
    assert!(matches!(read(&ltx, 19), Err(PageSourceError::Mismatch(_))));
    assert!(read(&ltx[..ltx.len() - 1], 20).is_err());
    let checksum = ltx.len() - 1;
    ltx[checksum] ^= 1;
    assert!(matches!(read(&ltx, 20), Err(PageSourceError::Decode(_))));
    read(&[], 0).unwrap();
}

#[test]
fn a_start_keeps_pieces_and_nothing_else() {
    let receiver = Receiver::new(Vec::new());
    receiver.attempt(&vec![1; 5], 200);
    receiver.pieces().begin().unwrap();
    let other = receiver.dir.path().join("import-abc.db");
    fs::write(&other, b"x").unwrap();
    fs::write(receiver.dir.path().join("diff-7-1.tmp"), b"x").unwrap();
    assert_eq!(sweep(receiver.dir.path()).unwrap(), BTreeSet::from([7]));
    assert_eq!(receiver.pieces().numbers, [0, 1]);
    assert_eq!(fs::read_dir(receiver.dir.path()).unwrap().count(), 2);
    remove_of(receiver.dir.path(), 8).unwrap();
    assert_eq!(receiver.pieces().numbers, [0, 1]);
    remove_of(receiver.dir.path(), 7).unwrap();
    assert!(receiver.pieces().numbers.is_empty());
    assert!(
        sweep(&receiver.dir.path().join("nothing"))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn pages_beyond_the_end_leave_no_gap_but_for_the_lock_page() {
    let page = content(1, 1);
    let mut checksums = Vec::new();
    lay(&mut checksums, PageNo::new(u32::MAX), &page);
    assert!(checksums.is_empty());
    lay(&mut checksums, PageNo::new(1), &page);
    lay(&mut checksums, PageNo::new(3), &page);
    assert_eq!((checksums.len(), checksums[1]), (3, 0));
}
