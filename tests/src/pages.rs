//! Database files, page by page, as a stock reader sees them.

use std::path::Path;

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, OpenFlags};

/// Bytes of page 1 that SQLite itself rewrites at each apply.
const MASKED: [std::ops::Range<usize>; 2] = [24..28, 92..100];

/// One database at one moment.
#[derive(Clone, PartialEq, Eq)]
pub struct Pages(Vec<Vec<u8>>);

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pages({})", self.0.len())
    }
}

impl Pages {
    /// All pages of the database in one read transaction, WAL included, with the change counters masked.
    ///
    /// # Errors
    /// SQLite's.
    pub fn read(file: &Path) -> Result<Self> {
        let connection = Connection::open_with_flags(
            file,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        connection.busy_timeout(std::time::Duration::from_secs(2))?;
        let mut statement = connection.prepare("SELECT data FROM sqlite_dbpage ORDER BY pgno")?;
        let pages = statement
            .query_map((), |row| row.get::<_, Vec<u8>>(0))?
            .collect::<Result<_, _>>()
            .with_context(|| format!("pages of {}", file.display()))?;
        Ok(Self::masked(pages))
    }

    fn masked(mut pages: Vec<Vec<u8>>) -> Self {
        if let Some(first) = pages.first_mut() {
            for range in MASKED {
                first[range].fill(0);
            }
        }
        Self(pages)
    }

    /// How many pages.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// No page at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The restored `file` is the database that the nodes hold.
    ///
    /// # Errors
    /// It is not, or cannot be read.
    pub fn check_restored(&self, file: &Path) -> Result<()> {
        Self::read(file)?
            .check_same(self)
            .context("the restored database is not the one the nodes hold")
    }

    /// Says in what two databases differ.
    ///
    /// # Errors
    /// They do.
    pub fn check_same(&self, other: &Self) -> Result<()> {
        if self.len() != other.len() {
            bail!("{} pages against {}", self.len(), other.len());
        }
        let differing: Vec<usize> = (0..self.len())
            .filter(|&n| self.0[n] != other.0[n])
            .map(|n| n + 1)
            .collect();
        if let Some(first) = differing.first() {
            let (a, b) = (&self.0[first - 1], &other.0[first - 1]);
            let at = a.iter().zip(b).position(|(a, b)| a != b);
            bail!(
                "{} of {} pages differ: {:?}, page {first} first at byte {at:?}",
                differing.len(),
                self.len(),
                &differing[..differing.len().min(20)]
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|n| vec![n as u8; 512]).collect()
    }

    #[test]
    fn only_the_counters_of_page_one_are_masked() {
        let same = Pages::masked(pages(3));
        for offset in [24, 27, 92, 99] {
            let mut other = pages(3);
            other[0][offset] ^= 1;
            assert_eq!(same.check_same(&Pages::masked(other)).ok(), Some(()));
        }
        for (page, offset) in [(0, 23), (0, 28), (0, 100), (1, 24), (2, 511)] {
            let mut other = pages(3);
            other[page][offset] ^= 1;
            assert!(same.check_same(&Pages::masked(other)).is_err());
        }
        assert!(same.check_same(&Pages::masked(pages(2))).is_err());
    }
}
