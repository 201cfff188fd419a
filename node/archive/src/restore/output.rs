//! [`Output`]: the database file that a restore builds.
//!
//! Owns the temporary file, the rules for what may be in its way, and its publication. All calls block.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use halite_ltx::{CompactError, Compactor, PageSize};

use crate::ltx_reader::{LtxReader, LtxReaderError};
use crate::output_place::{companions, remove};
use crate::restore::page_writer::PageWriter;
use crate::tmp_file::{OF_OUTPUT, TmpFile};
use crate::{CheckHook, FileKey, FileReader, OutputPlace, Progress, RestoreError, RestorePlan};

/// A file to be merged.
pub(crate) struct Input {
    pub(crate) key: FileKey,
    pub(crate) reader: FileReader,
}

/// A database file under construction.
pub(crate) struct Output {
    place: OutputPlace,
    tmp: TmpFile,
    page_size: Option<PageSize>,
    pages: u32,
    pages_written: u64,
    read_bytes_total: u64,
}

impl Output {
    /// Creates the temporary file; refuses a target that is in use, unless `force`.
    pub(crate) fn create(path: &Path, force: bool) -> Result<Self, RestoreError> {
        let place = OutputPlace::look(path, force)?;
        let path = place.path();
        let tmp = TmpFile::create(path, OF_OUTPUT).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => RestoreError::OutputBusy(path.to_owned()),
            _ => failed("create temporary file for", path, error),
        })?;
        Ok(Output {
            place,
            tmp,
            page_size: None,
            pages: 0,
            pages_written: 0,
            read_bytes_total: 0,
        })
    }

    /// Prepares for a (new) plan. What is in the file does not matter: a plan's first file holds every page of the database.
    pub(crate) fn start_over(&mut self, plan: &RestorePlan) {
        self.page_size = None;
        self.pages = 0;
        self.pages_written = 0;
        self.read_bytes_total = plan.bytes();
    }

    /// Size of the database in pages, as of the last merge.
    pub(crate) fn pages(&self) -> u32 {
        self.pages
    }

    /// Size of its pages.
    pub(crate) fn page_size(&self) -> PageSize {
        self.page_size.unwrap_or(PageSize::DEFAULT)
    }

    /// Merges files and writes their pages over what earlier calls wrote. All checksums of the files are verified.
    pub(crate) fn merge(
        &mut self,
        inputs: Vec<Input>,
        read_bytes: &Arc<AtomicU64>,
        progress: Option<&(dyn Fn(Progress) + Send + Sync)>,
        cancelled: &AtomicBool,
    ) -> Result<(), RestoreError> {
        let keys: Vec<FileKey> = inputs.iter().map(|input| input.key).collect();
        let readers = self.read_headers(inputs, read_bytes)?;
        let file_error = |error| merge_error(&keys, error);
        let mut merged = Compactor::new(readers).map_err(file_error)?;
        let (page_size, commit) = (merged.header().page_size, merged.header().commit);
        let mut writer = PageWriter::new(self.tmp.file(), page_size);
        let report = |pages| {
            if let Some(progress) = progress {
                progress(Progress {
                    read_bytes: read_bytes.load(Ordering::Relaxed),
                    read_bytes_total: self.read_bytes_total,
                    pages: self.pages_written + pages,
                });
            }
        };
        let write_error = |error| failed("write database", self.tmp.tmp_path(), error);
        let mut page = Vec::new();
        while let Some(pgno) = merged.next_page(&mut page).map_err(file_error)? {
            if writer.write(pgno, &page).map_err(write_error)? {
                if cancelled.load(Ordering::Relaxed) {
                    return Err(RestoreError::Stopped);
                }
                report(writer.pages());
            }
        }
        let pages = writer.pages();
        writer.finish(commit).map_err(write_error)?;
        report(pages);
        self.pages_written += pages;
        self.pages = commit;
        Ok(())
    }

    fn read_headers(
        &mut self,
        inputs: Vec<Input>,
        read_bytes: &Arc<AtomicU64>,
    ) -> Result<Vec<LtxReader>, RestoreError> {
        let mut readers = Vec::with_capacity(inputs.len());
        for Input { key, reader } in inputs {
            let reader =
                LtxReader::open(key, reader, Arc::clone(read_bytes)).map_err(
                    |error| match error {
                        LtxReaderError::Decode(source) => RestoreError::File { key, source },
                        LtxReaderError::Name { min, max } => {
                            RestoreError::FileName { key, min, max }
                        }
                    },
                )?;
            let found = reader.header().page_size;
            let expected = *self.page_size.get_or_insert(found);
            if expected != found {
                return Err(RestoreError::PageSize {
                    key,
                    expected,
                    found,
                });
            }
            readers.push(reader);
        }
        Ok(readers)
    }

    /// Lets the caller check the database, makes it durable and gives it its name.
    pub(crate) fn publish(mut self, check: Option<CheckHook>) -> Result<(), RestoreError> {
        if let Some(check) = check {
            let checked = check(self.tmp.tmp_path());
            for path in companions(self.tmp.tmp_path()) {
                remove(&path).map_err(|error| failed("remove", &path, error))?;
            }
            checked.map_err(RestoreError::Check)?;
        }
        let path = self.place.path();
        self.place
            .dress(self.tmp.file())
            .map_err(|error| failed("replace", path, error))?;
        self.tmp
            .sync()
            .map_err(|error| failed("sync database", self.tmp.tmp_path(), error))?;
        if self.place.force() {
            self.place
                .remove_companions()
                .map_err(|error| failed("remove what is beside", path, error))?;
            return self
                .tmp
                .publish_over()
                .map_err(|error| failed("publish database", path, error));
        }
        self.tmp.publish_new().map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => RestoreError::OutputExists(path.to_owned()),
            _ => failed("publish database", path, error),
        })
    }
}

fn merge_error(keys: &[FileKey], error: CompactError) -> RestoreError {
    match error {
        CompactError::Decode { input, source } => RestoreError::File {
            key: keys[input],
            source,
        },
        error => RestoreError::Merge(error),
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> RestoreError {
    RestoreError::Output {
        action,
        path: path.to_owned(),
        source,
    }
}
