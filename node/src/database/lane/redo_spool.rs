//! [`RedoSpool`]: holds the entries to be redone, the first of them in memory and what is more in an unnamed file beside the database.
//! Called by redo only.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use halite_ltx::Txid;

use crate::database::CommittedLtx;

/// LTX bytes kept in memory.
const MEMORY_MAX: usize = 32 << 20;

/// Where one entry's bytes are.
enum Source {
    /// In the entry, or to be read from the log in chunks.
    Entry(CommittedLtx),
    File {
        offset: u64,
        len: u64,
    },
}

/// See the module.
pub(super) struct RedoSpool {
    directory: PathBuf,
    memory_max: usize,
    entries: Vec<Spooled>,
    in_memory: usize,
    file: Option<File>,
    file_len: u64,
    /// Index and TXID of the entry that was shown last.
    shown: Cell<(u64, Txid)>,
}

struct Spooled {
    index: u64,
    txid: Txid,
    commit_pages: u32,
    source: Source,
}

impl RedoSpool {
    pub(super) fn new(database: &Path) -> Self {
        let directory = database.parent().map_or_else(PathBuf::new, Path::to_owned);
        RedoSpool {
            directory,
            memory_max: MEMORY_MAX,
            entries: Vec::new(),
            in_memory: 0,
            file: None,
            file_len: 0,
            shown: Cell::new((0, Txid::ZERO)),
        }
    }

    /// Says that an entry of it made whoever read it panic.
    pub(super) fn parked(&self, reason: &str) -> String {
        let (index, txid) = self.shown.get();
        format!(
            "parked: an entry of the log made the redo panic: index={index} txid={txid} panic={reason:?}"
        )
    }

    pub(super) fn push(&mut self, entry: CommittedLtx) -> io::Result<()> {
        let index = entry.index;
        let (txid, commit_pages) = (Txid::new(entry.command.txid), entry.command.commit_pages);
        let data = &entry.command.data;
        let source = if self.in_memory + data.len() <= self.memory_max {
            self.in_memory += data.len();
            Source::Entry(entry)
        } else {
            if self.file.is_none() {
                self.file = Some(tempfile::tempfile_in(&self.directory)?);
            }
            let Some(file) = &mut self.file else {
                return Err(io::ErrorKind::NotFound.into());
            };
            file.write_all(data)?;
            let offset = self.file_len;
            self.file_len += data.len() as u64;
            Source::File {
                offset,
                len: data.len() as u64,
            }
        };
        self.entries.push(Spooled {
            index,
            txid,
            commit_pages,
            source,
        });
        Ok(())
    }

    /// Shows every entry in the order it came, with a reader of its LTX bytes; stops at the first error.
    pub(super) fn for_each<E>(
        &self,
        mut visit: impl FnMut(Txid, u32, &mut dyn Read) -> Result<(), E>,
    ) -> Result<(), E> {
        for Spooled {
            index,
            txid,
            commit_pages,
            source,
        } in &self.entries
        {
            self.shown.set((*index, *txid));
            match source {
                Source::Entry(entry) => visit(*txid, *commit_pages, &mut entry.reader())?,
                Source::File { offset, len } => {
                    let mut slice = Slice {
                        file: self.file.as_ref(),
                        offset: *offset,
                        left: *len,
                    };
                    visit(*txid, *commit_pages, &mut slice)?;
                }
            }
        }
        Ok(())
    }
}

/// A range of the file.
struct Slice<'a> {
    file: Option<&'a File>,
    offset: u64,
    left: u64,
}

impl Read for Slice<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(file) = self.file else { return Ok(0) };
        let len = buf
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = file.read_at(&mut buf[..len], self.offset)?;
        self.offset += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use halite_proto::v1;

    use super::*;

    #[test]
    fn entries_come_back_in_order_from_memory_and_file() {
        let dir = tempfile::tempdir().expect("dir");
        let mut spool = RedoSpool {
            memory_max: 10,
            ..RedoSpool::new(&dir.path().join("a.db"))
        };
        for txid in 1..=6u64 {
            let command = v1::LtxCommand {
                txid,
                commit_pages: txid as u32 * 10,
                data: Bytes::from(vec![txid as u8; 4 + txid as usize]),
                ..v1::LtxCommand::default()
            };
            spool
                .push(CommittedLtx {
                    index: txid,
                    term: 1,
                    command,
                    chunks: None,
                })
                .expect("pushed");
        }
        assert!(spool.file_len > 0 && spool.in_memory <= 10);
        let mut seen = Vec::new();
        spool
            .for_each(|txid, commit_pages, reader| {
                let mut bytes = Vec::new();
                reader.read_to_end(&mut bytes)?;
                assert_eq!(bytes, vec![txid.get() as u8; 4 + txid.get() as usize]);
                seen.push((txid.get(), commit_pages));
                Ok::<_, io::Error>(())
            })
            .expect("read");
        assert_eq!(
            seen,
            (1..=6)
                .map(|txid| (txid, txid as u32 * 10))
                .collect::<Vec<_>>()
        );
        assert_eq!(
            std::fs::read_dir(dir.path()).expect("listed").count(),
            0,
            "the file has no name"
        );
    }
}
