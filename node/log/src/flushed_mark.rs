//! A lower bound for what the log must still hold when it is opened again, kept outside RocksDB.
//!
//! RocksDB cannot tell a write-ahead log that was cut off from one whose last write was torn by a crash: both end early. A
//! torn write was never acknowledged, a cut-off one may have been. So after each flush the store writes RocksDB's sequence
//! number into this file. The file itself is not synced, because that would double the cost of each flush. After a crash of
//! the process (or a cut made by anything else while the machine lives) it is exact; after a power loss it may be older than the
//! truth, but never newer, so it never raises a false alarm.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: [u8; 4] = *b"HFM1";
const MARK_BYTES: usize = 16;

/// The open file.
pub(crate) struct FlushedMark {
    file: File,
}

impl FlushedMark {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        Ok(Self { file })
    }

    /// The number last stored; `None` if there is none, or if a crash tore it.
    pub(crate) fn read(&self) -> io::Result<Option<u64>> {
        let mut mark = [0; MARK_BYTES];
        match self.file.read_exact_at(&mut mark, 0) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(e) => return Err(e),
        }
        let (body, crc) = mark.split_at(12);
        if body[..4] != MAGIC || crc != crc32fast::hash(body).to_le_bytes() {
            return Ok(None);
        }
        let mut sequence = [0; 8];
        sequence.copy_from_slice(&body[4..]);
        Ok(Some(u64::from_le_bytes(sequence)))
    }

    pub(crate) fn store(&self, sequence: u64) -> io::Result<()> {
        let mut mark = [0; MARK_BYTES];
        mark[..4].copy_from_slice(&MAGIC);
        mark[4..12].copy_from_slice(&sequence.to_le_bytes());
        let crc = crc32fast::hash(&mark[..12]);
        mark[12..].copy_from_slice(&crc.to_le_bytes());
        self.file.write_all_at(&mark, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mark_reads_back_and_a_torn_one_counts_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flushed");
        let mark = FlushedMark::open(&path).unwrap();
        assert_eq!(None, mark.read().unwrap());
        mark.store(77).unwrap();
        assert_eq!(Some(77), FlushedMark::open(&path).unwrap().read().unwrap());
        mark.file.write_all_at(b"x", 6).unwrap();
        assert_eq!(None, mark.read().unwrap());
    }
}
