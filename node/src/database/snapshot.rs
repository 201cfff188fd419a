//! [`DatabaseSnapshot`]: one database at one position, held by a read transaction. The sender's side of a page diff and the source of
//! an export. Blocking: to be used on a thread that may wait for the disk.

use std::io;
use std::sync::Arc;

use halite_ltx::{Encoder, Header, PageNo, PageSize, Txid};
use halite_pager::PageSnapshot;
use halite_proto::v1;
use parking_lot::Mutex;

use super::failure;

/// A consistent view of one database. Holds a read transaction: checkpoints cannot finish while it lives.
pub struct DatabaseSnapshot {
    state: v1::DatabaseState,
    pages: PageSnapshot,
    timestamp_ms: i64,
}

impl DatabaseSnapshot {
    pub(super) fn new(
        state: v1::DatabaseState,
        pages: PageSnapshot,
        timestamp_ms: i64,
    ) -> Result<Self, v1::Error> {
        if pages.checksum().get() != state.checksum || pages.page_count() != state.page_count {
            return Err(failure::internal(format!(
                "the file is not at its position expected_checksum={:016x} checksum={} expected_pages={} pages={}",
                state.checksum,
                pages.checksum(),
                state.page_count,
                pages.page_count()
            )));
        }
        Ok(DatabaseSnapshot {
            state,
            pages,
            timestamp_ms,
        })
    }

    /// Position, size and idempotency outcomes at this view: what a receiver holds once it has installed the diff.
    pub fn state(&self) -> &v1::DatabaseState {
        &self.state
    }

    /// Writes the pages in which the receiver differs as one LTX. `theirs` gives the receiver's page checksums from page 1 on (0 for a
    /// page it does not hold); pages beyond its end count as differing. Nothing is written if this database has no pages. Returns how many
    /// pages were written.
    ///
    /// # Errors
    /// Those of `theirs` and `out`, and of reading pages.
    pub fn write_diff<W: io::Write>(
        &self,
        theirs: impl IntoIterator<Item = io::Result<u64>>,
        out: W,
    ) -> io::Result<u32> {
        if self.state.page_count == 0 {
            return Ok(0);
        }
        let mut encoder = self.encoder(out, Txid::new(self.state.txid))?;
        let mut theirs = theirs.into_iter();
        let mut page = Vec::new();
        let mut written = 0;
        for number in 1..=self.pages.page_count() {
            let theirs = theirs.next().transpose()?;
            self.encode_if_it_differs(number, theirs, &mut page, &mut encoder, &mut written)?;
        }
        encoder.finish(None).map_err(io::Error::other)?;
        Ok(written)
    }

    /// The same piece by piece, for a receiver that may be slow. One that goes by what comes with the LTX takes an LTX of any pages
    /// (`any_pages`), also of a database of one transaction; others need all of them then.
    pub fn into_diff(self, theirs: Vec<u64>, any_pages: bool) -> PageDiff {
        let mut txid = Txid::new(self.state.txid);
        if any_pages {
            txid = txid.max(PageDiff::TXID_OF_ANY_PAGES);
        }
        PageDiff {
            snapshot: self,
            txid,
            theirs,
            out: Buffer::default(),
            encoder: None,
            next_page: 1,
            page: Vec::new(),
            written: 0,
        }
    }

    fn encoder<W: io::Write>(&self, out: W, txid: Txid) -> io::Result<Encoder<W>> {
        let (pages, at) = (self.state.page_count, self.timestamp_ms);
        let header = Header::new(self.pages.page_size(), pages, txid, txid, at);
        Encoder::new(out, header).map_err(io::Error::other)
    }

    fn encode_if_it_differs<W: io::Write>(
        &self,
        number: u32,
        theirs: Option<u64>,
        page: &mut Vec<u8>,
        encoder: &mut Encoder<W>,
        written: &mut u32,
    ) -> io::Result<()> {
        let pgno = PageNo::new(number);
        // The format calls a file from transaction 1 on a snapshot, and wants every page in it.
        let every_page = encoder.header().is_snapshot();
        let ours = self.pages.page_checksum(pgno);
        let same = !every_page && theirs.is_some() && theirs == ours.map(|ours| ours.get());
        if pgno == self.pages.page_size().lock_page() || same {
            return Ok(());
        }
        *written += 1;
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::DiffSkipsPage) && *written == 2 && !every_page {
            return Ok(());
        }
        self.pages.read_page(pgno, page).map_err(io::Error::other)?;
        encoder.encode_page(pgno, page).map_err(io::Error::other)
    }

    /// Writes the whole database as an ordinary SQLite file (in WAL mode, without a WAL).
    ///
    /// # Errors
    /// Those of `out`, and of reading pages. A database without any transaction is written as an empty file.
    pub fn write_file<W: io::Write>(&self, mut out: W) -> io::Result<()> {
        let mut page = Vec::new();
        for number in 1..=self.pages.page_count() {
            self.pages
                .read_page(PageNo::new(number), &mut page)
                .map_err(io::Error::other)?;
            out.write_all(&page)?;
        }
        out.flush()
    }

    /// When the last transaction of this view was made, in milliseconds since 1970.
    pub fn timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }

    /// One page of this view, a whole page long.
    ///
    /// # Errors
    /// Those of reading the file.
    pub fn read_page(&self, pgno: PageNo, page: &mut Vec<u8>) -> io::Result<()> {
        self.pages.read_page(pgno, page).map_err(io::Error::other)
    }

    /// Page size of the database.
    pub fn page_size(&self) -> PageSize {
        self.pages.page_size()
    }
}

/// The pages in which a receiver differs, as one LTX that is made piece by piece.
pub struct PageDiff {
    snapshot: DatabaseSnapshot,
    /// What the header of the LTX says.
    txid: Txid,
    theirs: Vec<u64>,
    out: Buffer,
    /// `None` before the first piece.
    encoder: Option<Encoder<Buffer>>,
    next_page: u32,
    page: Vec<u8>,
    written: u32,
}

impl PageDiff {
    /// The format takes a file of transaction 1 for a whole database. One of any later transaction may hold any pages.
    pub(crate) const TXID_OF_ANY_PAGES: Txid = Txid::new(2);

    /// Position, size and idempotency outcomes that the diff leads to.
    pub fn state(&self) -> &v1::DatabaseState {
        &self.snapshot.state
    }

    /// The next bytes, about as many as are wanted; `None` at the end.
    ///
    /// # Errors
    /// Those of reading pages.
    pub fn next_piece(&mut self, bytes: usize) -> io::Result<Option<Vec<u8>>> {
        let pages = self.snapshot.pages.page_count();
        while self.next_page <= pages && self.out.len() < bytes {
            let number = self.next_page;
            self.next_page += 1;
            let theirs = self.theirs.get(number as usize - 1).copied();
            let encoder = match &mut self.encoder {
                Some(encoder) => encoder,
                None => self
                    .encoder
                    .insert(self.snapshot.encoder(self.out.clone(), self.txid)?),
            };
            let (page, written) = (&mut self.page, &mut self.written);
            self.snapshot
                .encode_if_it_differs(number, theirs, page, encoder, written)?;
        }
        if self.next_page > pages
            && let Some(encoder) = self.encoder.take()
        {
            encoder.finish(None).map_err(io::Error::other)?;
        }
        Ok(self.out.take())
    }
}

/// What the encoder has written and nobody has taken yet.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn len(&self) -> usize {
        self.0.lock().len()
    }

    fn take(&self) -> Option<Vec<u8>> {
        let taken = std::mem::take(&mut *self.0.lock());
        (!taken.is_empty()).then_some(taken)
    }
}

impl io::Write for Buffer {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
