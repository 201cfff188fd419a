//! [`verify`]: reads an archive from end to end and says what is wrong with it.
//!
//! Writes nothing and stops at nothing: every problem is collected. Called by the CLI, by drills and by tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use halite_ltx::{DecodeError, Decoder, PageSize, Txid};
use jiff::Timestamp;

use crate::destination::header_timestamp;
use crate::ltx_reader::{LtxReader, LtxReaderError};
use crate::{
    Blocking, Destination, DestinationError, FileInfo, FileKey, FileReader, Level, PlanError,
    RestorePoint, Target, list_all, plan, restore_points, run_blocking,
};

/// Something that is wrong with an archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The newest state cannot be restored: transactions are missing.
    #[error(transparent)]
    Plan(PlanError),
    /// A level leaves transactions out that no snapshot has: what was merged into it is not whole.
    #[error("transactions are missing in a level after={after} next={next}")]
    LevelGap {
        /// The file before the gap.
        after: FileKey,
        /// The file behind it.
        next: FileKey,
    },
    /// A file is damaged, cut off or not readable.
    #[error("archive file is not readable: {source} file={key}")]
    File {
        /// The file.
        key: FileKey,
        /// What is wrong, and where.
        source: DecodeError,
    },
    /// A file holds other transactions than its name says.
    #[error(
        "archive file holds other transactions than its name says file={key} min_txid={min} max_txid={max}"
    )]
    FileName {
        /// The name.
        key: FileKey,
        /// First transaction in the file.
        min: Txid,
        /// Last transaction in the file.
        max: Txid,
    },
    /// The destination shows another timestamp than the file; restores to a point in time go by the former.
    #[error("timestamp differs from the file's file={key} listed={listed} found={found}")]
    Timestamp {
        /// The file.
        key: FileKey,
        /// What the destination shows.
        listed: Timestamp,
        /// What the file's header says.
        found: Timestamp,
    },
    /// A file has another page size than the first one read.
    #[error("page size differs file={key} expected={expected} found={found}")]
    PageSize {
        /// The file.
        key: FileKey,
        /// Page size of the first file.
        expected: PageSize,
        /// Its page size.
        found: PageSize,
    },
    /// The destination could not give the file.
    #[error(transparent)]
    Destination(DestinationError),
}

/// What [`verify`] found.
#[derive(Debug, Default)]
pub struct VerifyReport {
    /// Files read to their end.
    pub files: usize,
    /// Archive bytes read.
    pub bytes: u64,
    /// Pages decoded.
    pub pages: u64,
    /// Every state that can be restored, by the names of the files.
    pub points: Vec<RestorePoint>,
    /// What is wrong. Empty: the archive is sound.
    pub problems: Vec<Problem>,
}

/// Reads every file of the archive, checks checksums, names and timestamps, whether files of a level follow each other, and whether the newest
/// state can be restored.
///
/// Files that are deleted while it runs (retention) are left out. An empty archive is a problem: there is nothing to restore.
///
/// # Errors
/// [`DestinationError`] if the archive cannot be listed at all, or the process is stopping.
pub async fn verify(
    destination: &dyn Destination,
    blocking: &dyn Blocking,
) -> Result<VerifyReport, DestinationError> {
    let files = list_all(destination).await?;
    let mut report = VerifyReport {
        points: restore_points(&files),
        ..VerifyReport::default()
    };
    if let Err(error) = plan(&files, Target::Latest) {
        report.problems.push(Problem::Plan(error));
    }
    report.problems.extend(level_gaps(&files));
    let bytes_read = Arc::new(AtomicU64::new(0));
    let mut page_size = None;
    for file in files {
        let reader = match destination.open(file.key, 0, None).await {
            Ok(reader) => reader,
            Err(DestinationError::NotFound { .. }) => continue,
            Err(error) => {
                report.problems.push(Problem::Destination(error));
                continue;
            }
        };
        let counter = Arc::clone(&bytes_read);
        match run_blocking(blocking, move || read_file(&file, reader, counter)).await? {
            Ok((pages, found)) => {
                report.files += 1;
                report.pages += pages;
                let expected = *page_size.get_or_insert(found);
                if expected != found {
                    report.problems.push(Problem::PageSize {
                        key: file.key,
                        expected,
                        found,
                    });
                }
            }
            Err(problem) => report.problems.push(problem),
        }
    }
    report.bytes = bytes_read.load(Ordering::Relaxed);
    Ok(report)
}

/// Level 0 may leave out what is in the levels above, and every level what is in a snapshot.
fn level_gaps(files: &[FileInfo]) -> impl Iterator<Item = Problem> {
    let is_bridged = |after: FileKey, next: FileKey| {
        let snapshots = files
            .iter()
            .filter(|file| file.key.level == Level::SNAPSHOT);
        let mut ends = snapshots.map(|file| file.key.max);
        ends.any(|end| end > after.max && end.next() >= next.min)
    };
    let merged = |level: &Level| *level != Level::ZERO && *level != Level::SNAPSHOT;
    Level::all().filter(merged).flat_map(move |level| {
        let of_level = files.iter().filter(|file| file.key.level == level);
        let mut keys: Vec<FileKey> = of_level.map(|file| file.key).collect();
        keys.sort_unstable_by_key(|key| key.max);
        let pairs: Vec<_> = keys.windows(2).map(|pair| (pair[0], pair[1])).collect();
        let gaps = pairs
            .into_iter()
            .filter(move |(after, next)| next.min > after.max.next() && !is_bridged(*after, *next));
        gaps.map(|(after, next)| Problem::LevelGap { after, next })
    })
}

fn read_file(
    file: &FileInfo,
    reader: FileReader,
    bytes_read: Arc<AtomicU64>,
) -> Result<(u64, PageSize), Problem> {
    let key = file.key;
    let reader = LtxReader::open(key, reader, bytes_read).map_err(|error| match error {
        LtxReaderError::Decode(source) => Problem::File { key, source },
        LtxReaderError::Name { min, max } => Problem::FileName { key, min, max },
    })?;
    let header = *reader.header();
    let unreadable = |source| Problem::File { key, source };
    let mut decoder = Decoder::new(reader).map_err(unreadable)?;
    let mut pages = 0;
    let mut page = Vec::new();
    while decoder.next_page(&mut page).map_err(unreadable)?.is_some() {
        pages += 1;
    }
    decoder.finish().map_err(unreadable)?;
    let (listed, found) = (file.timestamp, header_timestamp(&header));
    // Destinations may keep finer or coarser clocks than the milliseconds of a header.
    if listed.as_millisecond() != found.as_millisecond() {
        return Err(Problem::Timestamp { key, listed, found });
    }
    Ok((pages, header.page_size))
}
