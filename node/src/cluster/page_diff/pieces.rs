//! [`Pieces`]: what attempts to pull the pages of one database have brought, until the database holds them.
//!
//! Each attempt writes its own piece: the beginning of an LTX, or all of it. The whole pages of a piece that ends early are as good as those of one
//! that is complete, since nothing goes by what a piece claims: the checksums of its pages are sent as if the database had them, the sender
//! sends what differs from what it has now, and what all of it leads to is proven by the checksum of the database. Of each page the newest
//! piece that has it counts. A piece is never synced: what a power loss leaves of it is read like any other.
//!
//! Pieces are files of the staging directory and outlive the process. All functions block on the disk.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter};
use std::path::{Path, PathBuf};

use halite_ltx::{Decoder, Encoder, Header, PageNo, PageSize};
use halite_pager::masked_page_checksum;

use crate::database::{PageDiff, PageSource, PageSourceError};

/// Pieces that are open at a time. Where there are more, they are made one.
const PIECES_MAX: usize = 32;

/// See the module.
#[derive(Debug)]
pub(super) struct Pieces {
    dir: PathBuf,
    database_id: u64,
    page_size: PageSize,
    /// Ascending: the newest is the last.
    numbers: Vec<u32>,
}

impl Pieces {
    /// Those of a database in `dir`.
    pub(super) fn find(dir: &Path, database_id: u64, page_size: PageSize) -> io::Result<Self> {
        let mut numbers: Vec<u32> = list(dir)?
            .into_iter()
            .filter(|name| name.database_id == database_id)
            .map(|name| name.number)
            .collect();
        numbers.sort_unstable();
        Ok(Self {
            dir: dir.to_owned(),
            database_id,
            page_size,
            numbers,
        })
    }

    /// Puts the checksums of the pages that are here over those of the database, from page 1 on. Pieces without a whole page go; many become
    /// one. How many pages were found.
    pub(super) fn lay_over(&mut self, checksums: &mut Vec<u64>) -> io::Result<u64> {
        if self.numbers.len() > PIECES_MAX {
            self.make_one()?;
        }
        let (mut found, mut page) = (0, Vec::new());
        for number in self.numbers.clone() {
            let mut whole = 0;
            let mut pages = WholePages::open(&self.path(number), self.page_size)?;
            while let Some(pgno) = pages.next(&mut page) {
                whole += 1;
                lay(checksums, pgno, &page);
            }
            found += whole;
            if whole == 0 {
                fs::remove_file(self.path(number))?;
                self.numbers.retain(|kept| *kept != number);
            }
        }
        Ok(found)
    }

    /// Begins the piece of another attempt.
    pub(super) fn begin(&mut self) -> io::Result<File> {
        fs::create_dir_all(&self.dir)?;
        let number = self.numbers.last().map_or(0, |newest| newest + 1);
        let file = File::create(self.path(number))?;
        self.numbers.push(number);
        Ok(file)
    }

    /// The pages of all pieces, of which the newest is complete, for a database that has `page_count` pages afterwards.
    pub(super) fn merged(&self, page_count: u32) -> Result<Merged, PageSourceError> {
        let mut merged = Merged::open(self)?;
        if let Some(newest) = merged.heads.last() {
            // A database without pages comes without a file.
            merged.newest_is_whole = page_count > 0;
            if newest.pages.commit() != Some(page_count) && page_count > 0 {
                return Err(PageSourceError::Mismatch(format!(
                    "a page diff is not what was announced announced_pages={page_count} announced_page_size={} pages={:?}",
                    self.page_size,
                    newest.pages.commit()
                )));
            }
        }
        merged.page_count = page_count;
        Ok(merged)
    }

    /// Removes all.
    pub(super) fn remove(&self) -> io::Result<()> {
        self.numbers
            .iter()
            .try_for_each(|number| remove_file(&self.path(*number)))
    }

    /// Makes one piece of all.
    fn make_one(&mut self) -> io::Result<()> {
        let mut merged = Merged::open(self)?;
        let mut commit = merged.heads.iter().filter_map(|head| head.pages.commit());
        merged.page_count = commit.next_back().unwrap_or(0);
        let newest = self.numbers.last().copied().unwrap_or(0);
        let unfinished = self.path(newest).with_extension("tmp");
        let made = write(&mut merged, self.page_size, &unfinished)
            .and_then(|()| fs::rename(&unfinished, self.path(newest)));
        if let Err(error) = made {
            remove_file(&unfinished)?;
            return Err(error);
        }
        // In this order: older pieces beside the one that has all of them say nothing else.
        for number in self.numbers.drain(..).filter(|number| *number != newest) {
            remove_file(&self.dir.join(file_name(self.database_id, number)))?;
        }
        self.numbers.push(newest);
        Ok(())
    }

    fn path(&self, number: u32) -> PathBuf {
        self.dir.join(file_name(self.database_id, number))
    }
}

/// Databases of which there are pieces in `dir`. Whatever else is there is removed: nobody has a use for it after a start.
pub(crate) fn sweep(dir: &Path) -> io::Result<BTreeSet<u64>> {
    let mut databases = BTreeSet::new();
    for entry in entries(dir)? {
        let entry = entry?;
        match entry.file_name().to_str().and_then(Name::parse) {
            Some(name) => {
                databases.insert(name.database_id);
            }
            None if entry.file_type()?.is_file() => remove_file(&entry.path())?,
            None => {}
        }
    }
    Ok(databases)
}

/// Removes the pieces of a database.
pub(crate) fn remove_of(dir: &Path, database_id: u64) -> io::Result<()> {
    let names = list(dir)?;
    let of_database = names.iter().filter(|name| name.database_id == database_id);
    of_database
        .map(|name| dir.join(file_name(name.database_id, name.number)))
        .try_for_each(|path| remove_file(&path))
}

/// The pages of several pieces: of each the newest.
pub(super) struct Merged {
    /// Oldest first.
    heads: Vec<Head>,
    page_count: u32,
    /// The last of the heads has to be complete, and proves it.
    newest_is_whole: bool,
}

struct Head {
    pages: WholePages,
    page: Vec<u8>,
    /// Of the page that was read last.
    pgno: Option<PageNo>,
}

impl Merged {
    fn open(pieces: &Pieces) -> io::Result<Self> {
        let mut heads = Vec::new();
        for number in &pieces.numbers {
            let pages = WholePages::open(&pieces.path(*number), pieces.page_size)?;
            heads.push(Head {
                pages,
                page: Vec::new(),
                pgno: None,
            });
        }
        let mut merged = Merged {
            heads,
            page_count: 0,
            newest_is_whole: false,
        };
        merged.heads.iter_mut().for_each(Head::advance);
        Ok(merged)
    }

    fn finish(&mut self) -> Result<(), PageSourceError> {
        let newest = self.heads.pop();
        self.heads.clear();
        match newest {
            Some(newest) if self.newest_is_whole => newest.pages.finish(),
            _ => Ok(()),
        }
    }
}

impl Head {
    fn advance(&mut self) {
        self.pgno = self.pages.next(&mut self.page);
    }
}

impl PageSource for Merged {
    fn next_page(&mut self, page: &mut Vec<u8>) -> Result<Option<PageNo>, PageSourceError> {
        let heads = self.heads.iter().enumerate();
        let next = heads.filter_map(|(at, head)| Some((head.pgno?, Reverse(at))));
        let next = next.min().filter(|(pgno, _)| pgno.get() <= self.page_count);
        let Some((pgno, Reverse(newest))) = next else {
            self.finish()?;
            return Ok(None);
        };
        std::mem::swap(page, &mut self.heads[newest].page);
        let same = self.heads.iter_mut().filter(|head| head.pgno == Some(pgno));
        same.for_each(Head::advance);
        Ok(Some(pgno))
    }
}

/// The pages of one piece, up to where it ends or makes no sense any more.
struct WholePages(Option<Decoder<BufReader<File>>>);

impl WholePages {
    fn open(path: &Path, page_size: PageSize) -> io::Result<Self> {
        let file = BufReader::new(File::open(path)?);
        let decoder = Decoder::new(file).ok();
        Ok(Self(
            decoder.filter(|decoder| decoder.header().page_size == page_size),
        ))
    }

    /// How many pages the database is said to have.
    fn commit(&self) -> Option<u32> {
        Some(self.0.as_ref()?.header().commit)
    }

    fn next(&mut self, page: &mut Vec<u8>) -> Option<PageNo> {
        self.0.as_mut()?.next_page(page).ok().flatten()
    }

    /// Proves that it is complete and undamaged.
    fn finish(self) -> Result<(), PageSourceError> {
        match self.0 {
            Some(decoder) => Ok(decoder.finish().map(drop)?),
            None => Err(PageSourceError::Mismatch(
                "a page diff has no header".into(),
            )),
        }
    }
}

/// Pages beyond the end come in order, without a gap but for the lock page. What leaves more of a gap is not laid over.
fn lay(checksums: &mut Vec<u64>, pgno: PageNo, page: &[u8]) {
    let at = pgno.get() as usize - 1;
    if at > checksums.len() + 1 {
        return;
    }
    if at >= checksums.len() {
        checksums.resize(at + 1, 0);
    }
    checksums[at] = masked_page_checksum(pgno, page).get();
}

fn write(merged: &mut Merged, page_size: PageSize, to: &Path) -> io::Result<()> {
    let any = PageDiff::TXID_OF_ANY_PAGES;
    let header = Header::new(page_size, merged.page_count, any, any, 0);
    let file = BufWriter::new(File::create(to)?);
    let mut encoder = Encoder::new(file, header).map_err(io::Error::other)?;
    let mut page = Vec::new();
    while let Some(pgno) = merged.next_page(&mut page).map_err(io::Error::other)? {
        encoder.encode_page(pgno, &page).map_err(io::Error::other)?;
    }
    encoder.finish(None).map_err(io::Error::other)?;
    Ok(())
}

/// `diff-<database id>-<number>.ltx`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Name {
    database_id: u64,
    number: u32,
}

impl Name {
    fn parse(name: &str) -> Option<Self> {
        let (database_id, number) = name
            .strip_prefix("diff-")?
            .strip_suffix(".ltx")?
            .split_once('-')?;
        Some(Self {
            database_id: database_id.parse().ok()?,
            number: number.parse().ok()?,
        })
    }
}

fn file_name(database_id: u64, number: u32) -> String {
    format!("diff-{database_id}-{number}.ltx")
}

fn list(dir: &Path) -> io::Result<Vec<Name>> {
    let mut names = Vec::new();
    for entry in entries(dir)? {
        names.extend(entry?.file_name().to_str().and_then(Name::parse));
    }
    Ok(names)
}

/// A directory that is not there has none.
fn entries(dir: &Path) -> io::Result<impl Iterator<Item = io::Result<fs::DirEntry>>> {
    match fs::read_dir(dir) {
        Ok(entries) => Ok(Some(entries).into_iter().flatten()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None.into_iter().flatten()),
        Err(error) => Err(error),
    }
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
