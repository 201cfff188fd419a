//! [`WalIndex`]: reads the wal-index (the `-shm` file) as SQLite lays it out
//! (<https://www.sqlite.org/walformat.html#the_wal_index_file_format>). Writes one number of
//! it, after a failed sync.
//! Called at the end of a write transaction, by capture for pages no frame holds, and by redo.

use std::ffi::c_int;
use std::sync::atomic::{Ordering, fence};

use libsqlite3_sys as ffi;
use parking_lot::Mutex;

use super::LowerFile;

/// Bytes of the WAL file's header.
pub(crate) const WAL_HEADER_BYTES: u64 = 32;
/// Bytes of the header of a frame.
pub(crate) const FRAME_HEADER_BYTES: usize = 24;

const REGION_BYTES: c_int = 32768;
const HEADER_BYTES: usize = 136;
const FRAMES_PER_REGION: u32 = 4096;
const FRAMES_IN_FIRST_REGION: u32 = FRAMES_PER_REGION - (HEADER_BYTES as u32) / 4;
const HEADER_COPY_BYTES: usize = 48;
const MAX_FRAME_AT: usize = 16;
const BACKFILL_AT: usize = 96;

/// How full the write-ahead log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalState {
    /// Committed frames in the log.
    pub frames: u32,
    /// How many of them a checkpoint has copied into the database file.
    pub copied_frames: u32,
    /// Size of the log file in bytes; it keeps its size when it is used again from the start.
    pub file_bytes: u64,
}

/// The mapped wal-index of one database.
#[derive(Debug)]
pub(crate) struct WalIndex {
    file: LowerFile,
    regions: Mutex<Vec<usize>>,
}

impl WalIndex {
    /// # Safety
    /// `file` must be a main database file with mapped shared memory that stays open as long as this value is used: its mapping
    /// keeps the regions alive.
    pub(crate) unsafe fn new(file: LowerFile) -> Self {
        WalIndex {
            file,
            regions: Mutex::new(Vec::new()),
        }
    }

    /// The last committed frame, 0 for none.
    pub(crate) fn max_frame(&self) -> Result<u32, c_int> {
        let base = self.region(0)?;
        loop {
            let first = read_u32(base, MAX_FRAME_AT);
            fence(Ordering::SeqCst);
            // SQLite writes the second copy first: equal numbers mean that the write is complete.
            if first == read_u32(base, HEADER_COPY_BYTES + MAX_FRAME_AT) {
                return Ok(first);
            }
            std::hint::spin_loop();
        }
    }

    /// How many frames have been copied into the database file.
    pub(crate) fn backfilled(&self) -> Result<u32, c_int> {
        Ok(read_u32(self.region(0)?, BACKFILL_AT))
    }

    /// Makes the next checkpoint copy every frame again: what was copied may never reach the disk, since the kernel takes pages
    /// for clean once their sync has failed. Copying twice is harmless, so readers need not be kept out; other checkpoints must be.
    pub(crate) fn forget_backfilled(&self) -> Result<(), c_int> {
        write_u32(self.region(0)?, BACKFILL_AT, 0);
        Ok(())
    }

    /// Calls `visit(frame, page number)` for the frames `from..=to`, in order.
    pub(crate) fn for_each_frame(
        &self,
        from: u32,
        to: u32,
        mut visit: impl FnMut(u32, u32),
    ) -> Result<(), c_int> {
        let mut frame = from.max(1);
        while frame <= to {
            let (region, slot, slots, at) = if frame <= FRAMES_IN_FIRST_REGION {
                (0, frame - 1, FRAMES_IN_FIRST_REGION, HEADER_BYTES)
            } else {
                let past = frame - 1 - FRAMES_IN_FIRST_REGION;
                (
                    1 + past / FRAMES_PER_REGION,
                    past % FRAMES_PER_REGION,
                    FRAMES_PER_REGION,
                    0,
                )
            };
            let base = self.region(region)?;
            for slot in slot..slots {
                if frame > to {
                    break;
                }
                visit(frame, read_u32(base, at + slot as usize * 4));
                frame += 1;
            }
        }
        Ok(())
    }

    fn region(&self, number: u32) -> Result<usize, c_int> {
        let index = number as usize;
        let mut regions = self.regions.lock();
        if let Some(&address) = regions.get(index).filter(|&&address| address != 0) {
            return Ok(address);
        }
        let number = c_int::try_from(number).map_err(|_| ffi::SQLITE_IOERR_SHMMAP)?;
        let address = self.file.shm_map(number, REGION_BYTES)? as usize;
        if address == 0 {
            return Err(ffi::SQLITE_IOERR_SHMMAP);
        }
        if regions.len() <= index {
            regions.resize(index + 1, 0);
        }
        regions[index] = address;
        Ok(address)
    }
}

/// Byte offset of a frame (counted from 1) in the WAL file.
pub(crate) fn frame_offset(frame: u32, frame_bytes: usize) -> i64 {
    let offset = WAL_HEADER_BYTES + u64::from(frame.saturating_sub(1)) * frame_bytes as u64;
    offset.cast_signed()
}

fn write_u32(base: usize, at: usize, value: u32) {
    // SAFETY: as for `read_u32`; the field is one that SQLite itself writes with a plain aligned store.
    unsafe { std::ptr::with_exposed_provenance_mut::<u32>(base + at).write_volatile(value) }
}

fn read_u32(base: usize, at: usize) -> u32 {
    // SAFETY: `base` is the start of a mapped region of 32768 bytes (see `WalIndex::new`), `at` is within it and a multiple of
    // 4; another process may write it at the same moment, hence the volatile read.
    unsafe { std::ptr::with_exposed_provenance::<u32>(base + at).read_volatile() }
}
