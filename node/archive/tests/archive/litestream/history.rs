//! [`History`]: what SQLite does to a database, one LTX file per transaction.

use std::collections::BTreeMap;

use bytes::Bytes;
use halite_ltx::{Decoder, Encoder, Header, PageNo, PageSize, Txid};
use jiff::Timestamp;
use rusqlite::{Connection, params};
use tempfile::TempDir;

/// A database after each of its transactions. Made by SQLite in WAL mode; a transaction is what differs in the file.
pub(super) struct History {
    pub(super) page_size: PageSize,
    /// From the empty file on.
    states: Vec<Vec<u8>>,
    transactions: Vec<Bytes>,
}

/// A change of the database; large values are counted in pages, so that every page size has overflow chains.
enum Step {
    Sql(&'static str),
    /// Inserts rows whose value does not compress.
    Noise(u32),
    /// Inserts rows whose value does.
    Zeros(u32),
}

const STEPS: [Step; History::TRANSACTIONS as usize] = [
    Step::Sql("CREATE TABLE t(id INTEGER PRIMARY KEY, k TEXT, v BLOB); CREATE INDEX i ON t(k)"),
    Step::Noise(8),
    Step::Zeros(12),
    Step::Sql("UPDATE t SET k = k || 'x' WHERE id % 3 = 0"),
    Step::Sql("DELETE FROM t WHERE id % 4 > 0"),
    Step::Sql("VACUUM"),
    Step::Noise(4),
    Step::Sql("CREATE TABLE u AS SELECT * FROM t"),
    Step::Sql("PRAGMA auto_vacuum = FULL; VACUUM"),
    Step::Zeros(6),
    // With auto_vacuum this cuts the file off by itself.
    Step::Sql("DELETE FROM t WHERE id > 4"),
    Step::Noise(5),
    Step::Sql("DROP TABLE u"),
    Step::Sql("DELETE FROM t WHERE id > 1; VACUUM"),
    Step::Sql("INSERT INTO t(k) VALUES ('one row')"),
    Step::Noise(3),
];

impl History {
    pub(super) const TRANSACTIONS: u64 = 16;

    pub(super) fn play(page_bytes: u32) -> Self {
        let page_size = PageSize::try_from(page_bytes).expect("page size");
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("source.db");
        let sqlite = Connection::open(&path).unwrap();
        sqlite
            .pragma_update(None, "page_size", page_bytes)
            .and_then(|()| sqlite.pragma_update(None, "journal_mode", "wal"))
            .unwrap();
        let mut history = History {
            page_size,
            states: vec![Vec::new()],
            transactions: Vec::new(),
        };
        let mut noise = 0x9e37_79b9_7f4a_7c15;
        for step in &STEPS {
            match step {
                Step::Sql(sql) => sqlite.execute_batch(sql).unwrap(),
                Step::Noise(rows) => insert(&sqlite, *rows, page_size, || next(&mut noise)),
                Step::Zeros(rows) => insert(&sqlite, *rows, page_size, || 0),
            }
            sqlite
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
                .unwrap();
            history.push(std::fs::read(&path).unwrap());
        }
        history.check();
        history
    }

    /// When a transaction was written. Transactions 4 and 5 share a moment; none is at a whole second.
    pub(super) fn timestamp(txid: u64) -> Timestamp {
        let step = if txid == 5 { 4 } else { txid };
        Timestamp::from_millisecond(1_700_000_000_007 + 1_003 * step as i64).unwrap()
    }

    pub(super) fn state(&self, txid: Txid) -> &[u8] {
        &self.states[txid.get() as usize]
    }

    pub(super) fn transaction(&self, txid: u64) -> Bytes {
        self.transactions[txid as usize - 1].clone()
    }

    /// Fails with the first page that is not that of the state after `txid`.
    pub(super) fn same_pages(&self, whose: &str, found: &[u8], txid: Txid) -> Result<(), String> {
        let expected = self.state(txid);
        let (found_bytes, expected_bytes) = (found.len(), expected.len());
        if found_bytes != expected_bytes {
            return Err(format!(
                "{whose} size differs bytes={found_bytes} expected={expected_bytes} txid={txid}"
            ));
        }
        let page_bytes = self.page_size.as_usize();
        let pages = found.chunks(page_bytes).zip(expected.chunks(page_bytes));
        match pages
            .enumerate()
            .find(|(_, (found, expected))| found != expected)
        {
            Some((index, _)) => Err(format!(
                "{whose} page differs pgno={} txid={txid}",
                index + 1
            )),
            None => Ok(()),
        }
    }

    /// The same file with one byte of its last page changed and all checksums right.
    pub(super) fn with_wrong_page(&self, file: &[u8]) -> Vec<u8> {
        let mut decoder = Decoder::new(file).unwrap();
        let header = *decoder.header();
        let mut pages = BTreeMap::new();
        let mut page = Vec::new();
        while let Some(pgno) = decoder.next_page(&mut page).unwrap() {
            pages.insert(pgno, page.clone());
        }
        *pages.last_entry().unwrap().get_mut().last_mut().unwrap() ^= 1;
        encode(header, &pages)
    }

    /// Appends the transaction that leads from the last state to this one.
    fn push(&mut self, state: Vec<u8>) {
        let page_bytes = self.page_size.as_usize();
        let before = self.states.last().expect("the empty file");
        let mut changed = BTreeMap::new();
        for (index, page) in state.chunks(page_bytes).enumerate() {
            let at = index * page_bytes;
            if before.get(at..at + page_bytes) != Some(page) {
                changed.insert(PageNo::new(index as u32 + 1), page.to_vec());
            }
        }
        assert!(!changed.is_empty(), "every step changes a page");
        let txid = self.states.len() as u64;
        let commit = (state.len() / page_bytes) as u32;
        let timestamp_ms = History::timestamp(txid).as_millisecond();
        let txid = Txid::new(txid);
        let header = Header::new(self.page_size, commit, txid, txid, timestamp_ms);
        self.transactions.push(encode(header, &changed).into());
        self.states.push(state);
    }

    /// The history is what the tests take it for.
    fn check(&self) {
        let shrinks = |at: usize| self.states[at].len() < self.states[at - 1].len();
        assert!(shrinks(6), "VACUUM makes the file smaller");
        assert!(shrinks(11), "auto_vacuum makes the file smaller");
        assert!(shrinks(14), "VACUUM of a database with auto_vacuum does");
        let page_bytes = self.page_size.get() as usize;
        let pages = self.states.iter().map(|state| state.len() / page_bytes);
        assert!(pages.max() > Some(40), "the database has pages to speak of");
    }
}

fn encode(header: Header, pages: &BTreeMap<PageNo, Vec<u8>>) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new(), header).unwrap();
    for (&pgno, page) in pages {
        encoder.encode_page(pgno, page).unwrap();
    }
    encoder.finish(None).unwrap().0
}

/// Inserts rows with values of about two and a half pages, in one transaction.
fn insert(sqlite: &Connection, rows: u32, page_size: PageSize, mut byte: impl FnMut() -> u8) {
    let tx = sqlite.unchecked_transaction().unwrap();
    for row in 0..rows {
        let value: Vec<u8> = (0..page_size.as_usize() * 5 / 2).map(|_| byte()).collect();
        let name = format!("row {row}");
        tx.execute("INSERT INTO t(k, v) VALUES (?, ?)", params![name, value])
            .unwrap();
    }
    tx.commit().unwrap();
}

/// The next byte of a xorshift generator.
fn next(state: &mut u64) -> u8 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 32) as u8
}
