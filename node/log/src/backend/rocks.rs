//! The production disk: RocksDB, tuned for a log that is appended to, read near its end, and purged at its start.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRecoveryMode, Direction, ErrorKind, IteratorMode, LogLevel, Options, ReadOptions, WriteBatch,
    WriteOptions,
};

use super::{Backend, Change, Durability, Family};
use crate::error::OpenError;
use crate::flushed_mark::{self, FlushedMark};

/// Memtable of the `log` family: one flushed file and one write-ahead log each, which is also the grain in which purged
/// entries give space back. Small enough that recycling sets in soon after a start, and that a write which has to wait for one to be
/// flushed waits for moments, also on a slow disk.
const LOG_WRITE_BUFFER_BYTES: usize = 16 << 20;
/// Memtables of the `log` family, full ones that are being flushed included.
const LOG_WRITE_BUFFERS: i32 = 8;
/// Memtable of the small families.
const SMALL_WRITE_BUFFER_BYTES: usize = 1 << 20;
/// Upper bound for the write-ahead logs, and so for the replay at start.
const WAL_BYTES_MAX: u64 = 128 << 20;
/// Write-ahead logs kept for reuse. Overwriting blocks that a file already has spares `fdatasync` the journal commit for its
/// new size: 100 instead of 170 microseconds on ext4.
const WAL_RECYCLE_FILES: usize = 2;
/// Blocks of SSTs are read in order, once: the page cache does better than we would.
const BLOCK_CACHE_BYTES: usize = 8 << 20;

/// RocksDB in `<dir>/rocksdb`, with the flushed mark beside it.
pub(crate) struct RocksBackend {
    dir: PathBuf,
    db: RwLock<Option<DB>>,
    mark: FlushedMark,
    /// Sequence number up to which writes are known to be durable; every batch carries it.
    durable: AtomicU64,
}

impl RocksBackend {
    pub(crate) fn open(dir: &Path) -> Result<Self, OpenError> {
        let at = |source| OpenError::Io {
            dir: dir.to_owned(),
            source,
        };
        std::fs::create_dir_all(dir).map_err(at)?;
        let mark = FlushedMark::open(&dir.join("flushed")).map_err(at)?;
        let backend = Self {
            dir: dir.to_owned(),
            db: RwLock::new(None),
            mark,
            durable: AtomicU64::new(0),
        };
        backend.reopen()?;
        Ok(backend)
    }

    /// Compares what RocksDB recovered with what is known to have been flushed.
    fn check_recovered(&self, db: &DB, stamped: Option<u64>) -> Result<(), OpenError> {
        let at = |source| OpenError::Io {
            dir: self.dir.clone(),
            source,
        };
        let found = db.latest_sequence_number();
        let marked = self.mark.read().map_err(at)?;
        if let Some(flushed) = marked.max(stamped)
            && found < flushed
        {
            // RocksDB has just deleted the logs that prove it: the next open must fail as well.
            self.mark
                .store(flushed)
                .and_then(|()| self.mark.sync())
                .map_err(at)?;
            return Err(OpenError::LostWrites {
                dir: self.dir.clone(),
                found,
                flushed,
            });
        }
        // What was replayed is in synced files now.
        self.durable.store(found, Ordering::Relaxed);
        Ok(())
    }

    fn with<T>(&self, f: impl FnOnce(&DB) -> io::Result<T>) -> io::Result<T> {
        match self.db.read().as_ref() {
            Some(db) => f(db),
            None => Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "log database is closed",
            )),
        }
    }

    fn mark_flushed(&self, db: &DB) -> io::Result<()> {
        let sequence = db.latest_sequence_number();
        self.durable.store(sequence, Ordering::Relaxed);
        self.mark.store(sequence)
    }
}

impl Backend for RocksBackend {
    fn write(&self, changes: &[Change], durability: Durability) -> io::Result<()> {
        self.with(|db| {
            let mut batch = batch_of(db, changes)?;
            batch.put_log_data(flushed_mark::stamp(self.durable.load(Ordering::Relaxed)));
            let mut options = WriteOptions::default();
            options.set_sync(durability == Durability::Now);
            db.write_opt(batch, &options).map_err(io_error)?;
            if durability == Durability::Now {
                self.mark_flushed(db)
            } else {
                Ok(())
            }
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|db| {
            db.flush_wal(true).map_err(io_error)?;
            self.mark_flushed(db)
        })
    }

    fn get(&self, family: Family, key: &[u8]) -> io::Result<Option<Bytes>> {
        self.with(|db| {
            let value = db
                .get_pinned_cf(handle(db, family)?, key)
                .map_err(io_error)?;
            Ok(value.map(|value| Bytes::copy_from_slice(&value)))
        })
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> io::Result<()> {
        self.with(|db| {
            let mut options = ReadOptions::default();
            options.set_iterate_upper_bound(to);
            options.set_verify_checksums(true);
            let mode = IteratorMode::From(from, Direction::Forward);
            for pair in db.iterator_cf_opt(handle(db, family)?, options, mode) {
                let (key, value) = pair.map_err(io_error)?;
                if !visit(&key, &value) {
                    break;
                }
            }
            Ok(())
        })
    }

    fn last_key(&self, family: Family) -> io::Result<Option<Vec<u8>>> {
        self.with(|db| {
            let mut iterator = db.iterator_cf(handle(db, family)?, IteratorMode::End);
            match iterator.next() {
                Some(pair) => Ok(Some(pair.map_err(io_error)?.0.into_vec())),
                None => Ok(None),
            }
        })
    }

    fn reclaim(&self, last: &[u8]) -> io::Result<()> {
        // Whole files only, and no tombstones: entries are written in key order, so files do not overlap, move down the
        // levels without being rewritten, and leave as they came. A range tombstone would span old and new files and force
        // compactions that copy payloads. The range includes its end.
        self.with(|db| {
            db.delete_file_in_range_cf(handle(db, Family::Log)?, &[][..], last)
                .map_err(io_error)
        })
    }

    fn reclaim_step_bytes(&self) -> u64 {
        LOG_WRITE_BUFFER_BYTES as u64
    }

    fn log_bytes(&self) -> io::Result<u64> {
        self.with(|db| {
            let log = handle(db, Family::Log)?;
            let mut bytes = 0;
            for property in [
                "rocksdb.live-sst-files-size",
                "rocksdb.cur-size-all-mem-tables",
            ] {
                bytes += db
                    .property_int_value_cf(log, property)
                    .map_err(io_error)?
                    .unwrap_or(0);
            }
            Ok(bytes)
        })
    }

    fn reopen(&self) -> Result<(), OpenError> {
        let mut slot = self.db.write();
        *slot = None;
        let at = |source| OpenError::Io {
            dir: self.dir.clone(),
            source,
        };
        // Before anything is read: files come and go under whoever reads the log of another store.
        if !self.mark.lock().map_err(at)? {
            let dir = self.dir.clone();
            return Err(OpenError::InUse { dir });
        }
        let stamped = flushed_mark::greatest_stamp(&self.dir.join("rocksdb")).map_err(at)?;
        let db = open_db(&self.dir)?;
        self.check_recovered(&db, stamped)?;
        *slot = Some(db);
        Ok(())
    }

    fn close(&self) {
        *self.db.write() = None;
        // If that fails, others have it when this store is dropped.
        let _ = self.mark.unlock();
    }
}

fn open_db(dir: &Path) -> Result<DB, OpenError> {
    let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
    let families = Family::ALL
        .map(|family| ColumnFamilyDescriptor::new(family.name(), family_options(family, &cache)));
    DB::open_cf_descriptors(&db_options(), dir.join("rocksdb"), families).map_err(|error| {
        let detail = error.to_string();
        let dir = dir.to_owned();
        match error.kind() {
            // RocksDB has no kind of its own for this.
            ErrorKind::IOError
                if detail.contains("While lock file")
                    || detail.contains("lock hold by current process") =>
            {
                OpenError::InUse { dir }
            }
            ErrorKind::Corruption => OpenError::Corrupt { dir, detail },
            _ => OpenError::Io {
                dir,
                source: io_error(error),
            },
        }
    })
}

fn db_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // Replay ends at the first record that does not fit, which is right for the torn end that a crash leaves, and the only mode
    // that recycled files allow besides ignoring damage. That it did not end before a flushed write is not RocksDB's to know:
    // `check_recovered` does, by the flushed mark and the stamps.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_recycle_log_file_num(WAL_RECYCLE_FILES);
    options.set_track_and_verify_wals_in_manifest(true);
    // All families at once, so that a flushed memtable sets its write-ahead log free.
    options.set_atomic_flush(true);
    options.set_max_total_wal_size(WAL_BYTES_MAX);
    // The writer syncs every batch itself.
    options.set_wal_bytes_per_sync(0);
    options.set_manual_wal_flush(false);
    options.set_use_fsync(false);
    // One thread writes.
    options.set_allow_concurrent_memtable_write(false);
    options.set_enable_write_thread_adaptive_yield(false);
    options.set_max_background_jobs(2);
    options.set_bytes_per_sync(1 << 20);
    options.set_avoid_unnecessary_blocking_io(true);
    options.set_paranoid_checks(true);
    options.set_keep_log_file_num(4);
    options.set_max_log_file_size(1 << 20);
    options.set_log_level(LogLevel::Warn);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}

fn family_options(family: Family, cache: &Cache) -> Options {
    let mut options = Options::default();
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    // Payloads are compressed before they come here.
    options.set_compression_type(DBCompressionType::None);
    if family == Family::Log {
        table.set_block_size(64 << 10);
        options.set_write_buffer_size(LOG_WRITE_BUFFER_BYTES);
        options.set_max_write_buffer_number(LOG_WRITE_BUFFERS);
        options.set_target_file_size_base(LOG_WRITE_BUFFER_BYTES as u64);
        options.set_max_bytes_for_level_base(16 * LOG_WRITE_BUFFER_BYTES as u64);
        // Flushed files do not overlap: "compaction" out of level 0 only moves them, and makes them reclaimable.
        options.set_level_zero_file_num_compaction_trigger(1);
    } else {
        options.set_write_buffer_size(SMALL_WRITE_BUFFER_BYTES);
    }
    options.set_block_based_table_factory(&table);
    options
}

fn batch_of(db: &DB, changes: &[Change]) -> io::Result<WriteBatch> {
    let mut batch = WriteBatch::default();
    let mut value = Vec::new();
    for change in changes {
        match change {
            Change::Put {
                family,
                key,
                head,
                body,
            } => {
                value.clear();
                value.extend_from_slice(head);
                value.extend_from_slice(body);
                batch.put_cf(handle(db, *family)?, key, &value);
            }
            Change::Delete { family, key } => batch.delete_cf(handle(db, *family)?, key),
            Change::DeleteRange { family, from, to } => {
                batch.delete_range_cf(handle(db, *family)?, from, to)
            }
        }
    }
    Ok(batch)
}

fn handle(db: &DB, family: Family) -> io::Result<&ColumnFamily> {
    db.cf_handle(family.name()).ok_or_else(|| {
        io::Error::other(format!("column family is missing, name={}", family.name()))
    })
}

fn io_error(error: rocksdb::Error) -> io::Error {
    let text = error.to_string();
    let kind = if text.contains("No space left") || text.contains("NoSpace") {
        io::ErrorKind::StorageFull
    } else if error.kind() == ErrorKind::Corruption {
        io::ErrorKind::InvalidData
    } else {
        io::ErrorKind::Other
    };
    io::Error::new(kind, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry_record::key;

    #[test]
    fn reclaim_keeps_the_file_that_ends_with_the_first_kept_entry() {
        let dir = tempfile::tempdir().unwrap();
        let backend = RocksBackend::open(dir.path()).unwrap();
        let put = |index| Change::Put {
            family: Family::Log,
            key: key(index).to_vec(),
            head: vec![1; 100],
            body: Bytes::new(),
        };
        let flush = || {
            backend
                .with(|db| {
                    let log = handle(db, Family::Log)?;
                    db.flush_cf(log).map_err(io_error)?;
                    db.compact_range_cf(log, None::<&[u8]>, None::<&[u8]>);
                    Ok(())
                })
                .unwrap();
        };
        backend
            .write(&(0..10).map(put).collect::<Vec<_>>(), Durability::Now)
            .unwrap();
        flush();
        backend.reclaim(&key(8)).unwrap();
        assert!(
            backend.get(Family::Log, &key(9)).unwrap().is_some(),
            "an entry that was not purged is gone"
        );
        backend.reclaim(&key(9)).unwrap();
        assert!(
            backend.get(Family::Log, &key(9)).unwrap().is_none(),
            "files are not given back at all"
        );
    }
}
