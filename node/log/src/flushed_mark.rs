//! Proof of what the log must still hold when it is opened again.
//!
//! RocksDB ends the replay of its write-ahead log at the first record that does not fit. It cannot tell a last write that a crash
//! tore, which was never acknowledged, from flushed writes that were cut off or damaged, which were. Two witnesses can:
//!
//! * **The mark**, a small file with the sequence number of the last flush, written after each flush but not synced,
//!   because that would double a flush's cost. After a crash of the process, or when the files were touched while the machine
//!   lived, it is exact. After a power loss it may be older than the truth.
//! * **The stamps**: every batch carries, in the write-ahead log only, the sequence number that was durable when it was
//!   written. A stamp found anywhere in those files was true then and stays true, so one that lies behind a damaged
//!   record proves what was lost, even when the mark is old.
//!
//! Neither is ever ahead of the truth, so there is no false alarm. What both miss is damage to the very last flushed batch
//! together with a power loss, which no log can tell from a torn write.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: [u8; 4] = *b"HFM1";
const MARK_BYTES: usize = 16;
const STAMP_MAGIC: [u8; 8] = *b"HAflushd";
const STAMP_BYTES: usize = 20;
/// Bytes of a write-ahead log read at once.
const SCAN_BYTES: usize = 1 << 20;

/// What a batch carries: magic, sequence number, CRC-32.
pub(crate) fn stamp(durable: u64) -> [u8; STAMP_BYTES] {
    let mut stamp = [0; STAMP_BYTES];
    stamp[..8].copy_from_slice(&STAMP_MAGIC);
    stamp[8..16].copy_from_slice(&durable.to_le_bytes());
    let crc = crc32fast::hash(&stamp[..16]);
    stamp[16..].copy_from_slice(&crc.to_le_bytes());
    stamp
}

/// The greatest number stamped into the write-ahead logs of a RocksDB directory, damaged parts and recycled remains included.
/// A stamp that a block boundary splits is not seen; the next batch's is.
pub(crate) fn greatest_stamp(rocksdb: &Path) -> io::Result<Option<u64>> {
    let items = match std::fs::read_dir(rocksdb) {
        Ok(items) => items,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut greatest = None;
    for item in items {
        let path = item?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            greatest = greatest.max(greatest_stamp_in(&File::open(path)?)?);
        }
    }
    Ok(greatest)
}

fn greatest_stamp_in(file: &File) -> io::Result<Option<u64>> {
    let mut greatest = None;
    let mut buffer = vec![0; SCAN_BYTES];
    let mut at = 0;
    loop {
        let read = file.read_at(&mut buffer, at)?;
        greatest = greatest.max(greatest_stamp_of(&buffer[..read]));
        if read < STAMP_BYTES {
            return Ok(greatest);
        }
        // Overlap, so that a stamp across two reads is seen.
        at += (read - STAMP_BYTES + 1) as u64;
    }
}

fn greatest_stamp_of(bytes: &[u8]) -> Option<u64> {
    let mut greatest = None;
    let mut rest = bytes;
    while let Some(skip) = rest.iter().position(|byte| *byte == STAMP_MAGIC[0]) {
        rest = &rest[skip..];
        if let Some(found) = rest.first_chunk::<STAMP_BYTES>() {
            let mut sequence = [0; 8];
            sequence.copy_from_slice(&found[8..16]);
            let sequence = u64::from_le_bytes(sequence);
            if found[..8] == STAMP_MAGIC && *found == stamp(sequence) {
                greatest = greatest.max(Some(sequence));
            }
        }
        rest = &rest[1..];
    }
    greatest
}

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

    /// Takes the log for this store, as long as it is open; false if another store has it.
    pub(crate) fn lock(&self) -> io::Result<bool> {
        match self.file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    pub(crate) fn unlock(&self) -> io::Result<()> {
        self.file.unlock()
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

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
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
        assert!(mark.lock().unwrap() && !FlushedMark::open(&path).unwrap().lock().unwrap());
        mark.file.write_all_at(b"x", 6).unwrap();
        assert_eq!(None, mark.read().unwrap());
    }

    #[test]
    fn greatest_stamp_is_found_across_reads_and_garbage() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(None, greatest_stamp(dir.path()).unwrap());
        let mut bytes = vec![b'H'; 3 * SCAN_BYTES];
        for (at, number) in [(7, 5), (SCAN_BYTES - 9, 900), (2 * SCAN_BYTES + 1, 30)] {
            bytes[at..at + STAMP_BYTES].copy_from_slice(&stamp(number));
        }
        let mut torn = stamp(5000);
        torn[9] ^= 1;
        bytes.extend_from_slice(&torn);
        std::fs::write(dir.path().join("000004.log"), &bytes).unwrap();
        std::fs::write(dir.path().join("000005.sst"), stamp(7000)).unwrap();
        assert_eq!(Some(900), greatest_stamp(dir.path()).unwrap());
        std::fs::write(dir.path().join("000006.log"), stamp(901)).unwrap();
        assert_eq!(Some(901), greatest_stamp(dir.path()).unwrap());
    }
}
