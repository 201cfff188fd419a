//! [`WriteTransaction`]: the write transaction under way, from the lock to the unlock of SQLite's write lock. It watches each
//! write to the WAL, captures frames, asks the gate when the commit frame comes, and keeps the checksum table in step.
//! Called by the shim's methods only, on the thread of the connection that holds the write lock.
//!
//! The commit frame is held back: neither its header nor its page reaches the WAL before the gate has opened, so that no crash
//! leaves a commit frame that recovery would publish without the quorum knowing.

use std::ffi::c_int;
use std::sync::Arc;

use halite_ltx::{Checksum, PageNo};
use libsqlite3_sys as ffi;

use crate::blank_page::is_blank;
use crate::capture::Capture;
use crate::captured_transaction::{CapturedTransaction, Files};
use crate::connection_state::{ApplyCheck, ConnectionState, Role};
use crate::error::{ApplyError, CaptureError};
use crate::file_state::FileState;
use crate::gate::{CommitOutcome, GateVerdict};
use crate::os::{FRAME_HEADER_BYTES, LowerFile, WAL_HEADER_BYTES, frame_offset};
use crate::page_mask::masked_page_checksum;

/// What SQLite gets when a gate refuses: COMMIT fails and the transaction is rolled back, whatever statement it was.
const REFUSED: c_int = ffi::SQLITE_ABORT_ROLLBACK;

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Idle,
    /// Frames come in.
    Collecting,
    /// The gate refused.
    Refused,
    /// The gate opened, the frames from now on are those of the commit.
    Opened(Commit),
}

/// What becomes of the checksum table once the commit is visible.
#[derive(Debug)]
struct Commit {
    frame: u32,
    page_count: u32,
    changed: Vec<(PageNo, Checksum)>,
    post_checksum: Checksum,
    /// False for a transaction that changes nothing, which no gate was asked about.
    counts: bool,
}

/// The state of the write transaction of one database.
#[derive(Default)]
pub(crate) struct WriteTransaction {
    connection: Option<Arc<ConnectionState>>,
    main: Option<LowerFile>,
    capture: Capture,
    /// A frame header whose page has not come yet.
    header: Option<(u32, [u8; FRAME_HEADER_BYTES])>,
    phase: Phase,
}

impl WriteTransaction {
    /// A connection has got the write lock.
    pub(crate) fn begin(&mut self, connection: &Arc<ConnectionState>, main: LowerFile) {
        *connection.outcome.lock() = CommitOutcome::NotReached;
        self.connection = Some(Arc::clone(connection));
        self.main = Some(main);
        self.capture.clear();
        self.header = None;
        self.phase = Phase::Collecting;
    }

    /// The connection is about to give the write lock back: the transaction is published, or it never will be.
    pub(crate) fn end(&mut self, file: &FileState) {
        let phase = std::mem::take(&mut self.phase);
        let connection = self.connection.take();
        self.main = None;
        self.capture.clear();
        let outcome = match phase {
            Phase::Idle | Phase::Collecting => CommitOutcome::NotReached,
            Phase::Refused => CommitOutcome::Refused,
            Phase::Opened(commit) => finish(file, &commit),
        };
        if let Some(connection) = connection {
            *connection.outcome.lock() = outcome;
        }
    }

    /// SQLite writes to the WAL.
    pub(crate) fn write(
        &mut self,
        file: &FileState,
        wal: LowerFile,
        bytes: &[u8],
        offset: i64,
    ) -> c_int {
        if !self
            .connection
            .as_ref()
            .is_some_and(|connection| connection.writes())
        {
            return ffi::SQLITE_READONLY;
        }
        match self.phase {
            Phase::Collecting => {}
            // The checksums of rewritten frames, computed anew once the commit frame is in place.
            Phase::Opened(_) => return write_opened(file, wal, bytes, offset),
            Phase::Idle | Phase::Refused => return ffi::SQLITE_READONLY,
        }
        if offset == 0 {
            // A new header: the WAL starts again, whatever was captured is void.
            self.capture.clear();
            self.header = None;
            return wal.write(bytes, offset);
        }
        let page_bytes = file.page_size().as_usize();
        let frame_bytes = (FRAME_HEADER_BYTES + page_bytes) as u64;
        let Some(position) = offset.unsigned_abs().checked_sub(WAL_HEADER_BYTES) else {
            return unexpected(offset, bytes.len());
        };
        let Ok(frame) = u32::try_from(position / frame_bytes + 1) else {
            return ffi::SQLITE_FULL;
        };
        let within = usize::try_from(position % frame_bytes).unwrap_or(usize::MAX);
        if let (0, Ok(header)) = (within, <[u8; FRAME_HEADER_BYTES]>::try_from(bytes)) {
            // Held until the page comes, so that both go out in one write, or for a commit frame not at all.
            self.header = Some((frame, header));
            return ffi::SQLITE_OK;
        }
        if within != FRAME_HEADER_BYTES || bytes.len() != page_bytes {
            return unexpected(offset, bytes.len());
        }
        match self.header.take() {
            Some((at, header)) if at == frame => self.append(file, wal, frame, &header, bytes),
            Some(_) => unexpected(offset, bytes.len()),
            None => match self.capture.rewrite(frame, bytes) {
                Ok(()) => wal.write(bytes, offset),
                Err(_) => unexpected(offset, bytes.len()),
            },
        }
    }

    fn append(
        &mut self,
        file: &FileState,
        wal: LowerFile,
        frame: u32,
        header: &[u8; FRAME_HEADER_BYTES],
        page: &[u8],
    ) -> c_int {
        #[cfg(test)]
        if let Some(code) = take_fault(&file.faults.frame) {
            return code;
        }
        let [p0, p1, p2, p3, s0, s1, s2, s3, ..] = *header;
        let pgno = u32::from_be_bytes([p0, p1, p2, p3]);
        let page_count = u32::from_be_bytes([s0, s1, s2, s3]);
        let offset = frame_offset(frame, header.len() + page.len());
        let Ok(bytes) = self.capture.append(frame, pgno, header, page) else {
            return unexpected(offset, page.len());
        };
        if page_count == 0 {
            return wal.write(bytes, offset);
        }
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::CommitFrameBeforeGate) {
            let _ = wal.write(bytes, offset);
        }
        match self.decide(file, wal, frame, page_count) {
            Ok(commit) => {
                if let Some(state) = file.committed.lock().as_mut() {
                    state.publishing = true;
                }
                self.phase = Phase::Opened(commit);
                write_opened(file, wal, self.capture.last_frame(), offset)
            }
            Err(code) => code,
        }
    }

    /// Asks the gate, or checks what is applied.
    fn decide(
        &mut self,
        file: &FileState,
        wal: LowerFile,
        frame: u32,
        page_count: u32,
    ) -> Result<Commit, c_int> {
        let connection = self.connection.clone().ok_or(ffi::SQLITE_MISUSE)?;
        let main = self.main.ok_or(ffi::SQLITE_MISUSE)?;
        let index = file.index.get().ok_or(ffi::SQLITE_MISUSE)?;
        let files = Files { wal, main };
        let (pre_checksum, previous) = match file.committed.lock().as_ref() {
            Some(state) => (state.table.checksum(), state.table.page_count()),
            None => return Err(ffi::SQLITE_MISUSE),
        };
        let mut role = connection.role.lock();
        if let Role::Applier(check) = &mut *role {
            check_size(
                check,
                previous,
                page_count,
                self.capture.page_numbers(),
                file,
            )?;
        }
        let page_size = file.page_size();
        let mut transaction =
            CapturedTransaction::new(&self.capture, files, index, page_size, previous, page_count)?;
        let mut changed = Vec::with_capacity(transaction.len());
        let mut blank = false;
        transaction
            .for_each_page(|pgno, page| {
                blank |= pgno == PageNo::FIRST && page_count == 1 && is_blank(page_size, page);
                changed.push((pgno, masked_page_checksum(pgno, page)));
                Ok::<(), CaptureError>(())
            })
            .map_err(|error| error.code)?;
        transaction.pre_checksum = pre_checksum;
        let (post_checksum, same) = match file.committed.lock().as_ref() {
            Some(state) => (
                state.table.checksum_after(page_count, &changed),
                page_count == previous
                    && changed
                        .iter()
                        .all(|&(pgno, checksum)| state.table.get(pgno) == Some(checksum)),
            ),
            None => return Err(ffi::SQLITE_MISUSE),
        };
        transaction.post_checksum = post_checksum;
        let mut commit = Commit {
            frame,
            page_count,
            changed,
            post_checksum,
            counts: true,
        };
        match &mut *role {
            // SQLite writes pages even if all changes were rolled back to a savepoint. Nothing is published by that.
            Role::Writer(_) if same || (blank && previous == 0) => commit.counts = false,
            Role::Writer(gate) => {
                if gate.commit(&transaction) == GateVerdict::Refuse {
                    self.phase = Phase::Refused;
                    return Err(REFUSED);
                }
            }
            Role::Applier(check) => {
                if check.blank {
                    commit.page_count = 0;
                    commit.changed.clear();
                    commit.post_checksum = Checksum::EMPTY;
                }
                if let Some(expected) = check
                    .post_checksum
                    .filter(|&expected| expected != commit.post_checksum)
                {
                    check.error = Some(ApplyError::PostChecksum {
                        expected,
                        found: commit.post_checksum,
                    });
                    self.phase = Phase::Refused;
                    return Err(REFUSED);
                }
            }
            Role::Reader | Role::Keeper => return Err(ffi::SQLITE_READONLY),
        }
        Ok(commit)
    }
}

/// Checks what an apply commits before its content is looked at.
fn check_size(
    check: &mut ApplyCheck,
    previous: u32,
    page_count: u32,
    written: &[u32],
    file: &FileState,
) -> Result<(), c_int> {
    let Some(expected) = check.page_count else {
        return Err(ffi::SQLITE_READONLY);
    };
    if expected != page_count {
        check.error = Some(ApplyError::Size {
            expected,
            found: page_count,
        });
        return Err(REFUSED);
    }
    if previous < page_count {
        let mut written: Vec<u32> = written
            .iter()
            .copied()
            .filter(|&pgno| pgno > previous)
            .collect();
        written.push(file.page_size().lock_page().get());
        written.sort_unstable();
        let mut written = written.into_iter().peekable();
        for pgno in previous + 1..=page_count {
            while written.next_if(|&other| other < pgno).is_some() {}
            if written.peek() != Some(&pgno) {
                check.error = Some(ApplyError::MissingPage {
                    pgno: PageNo::new(pgno),
                });
                return Err(REFUSED);
            }
        }
    }
    Ok(())
}

/// Looks whether an opened transaction has become visible, and brings the table up to date if so.
fn finish(file: &FileState, commit: &Commit) -> CommitOutcome {
    let visible = file
        .index
        .get()
        .is_some_and(|index| index.max_frame() == Ok(commit.frame));
    let mut committed = file.committed.lock();
    if let Some(state) = committed.as_mut() {
        if visible && commit.counts {
            state.table.update(commit.page_count, &commit.changed);
        }
        state.publishing = false;
    }
    drop(committed);
    file.published.notify_all();
    match (commit.counts, visible) {
        (false, _) => CommitOutcome::NotReached,
        (true, true) => CommitOutcome::Published {
            post_checksum: commit.post_checksum,
        },
        (true, false) => CommitOutcome::FailedAfterOpen,
    }
}

fn write_opened(file: &FileState, wal: LowerFile, bytes: &[u8], offset: i64) -> c_int {
    #[cfg(test)]
    if file
        .faults
        .after_open_skip
        .fetch_sub(1, std::sync::atomic::Ordering::SeqCst)
        <= 0
        && let Some(code) = take_fault(&file.faults.after_open)
    {
        return code;
    }
    #[cfg(not(test))]
    let _ = file;
    wal.write(bytes, offset)
}

fn unexpected(offset: i64, bytes: usize) -> c_int {
    tracing::error!(
        offset,
        bytes,
        "unexpected write to the write-ahead log refused"
    );
    ffi::SQLITE_IOERR_WRITE
}

#[cfg(test)]
pub(crate) fn take_fault(fault: &std::sync::atomic::AtomicI32) -> Option<c_int> {
    Some(fault.swap(0, std::sync::atomic::Ordering::SeqCst)).filter(|&code| code != 0)
}
