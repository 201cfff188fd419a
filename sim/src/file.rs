//! [`File`]: a node's database file as a stock program sees it.

use std::path::Path;

use anyhow::{Context as _, Result};
use halite_checks::{Row, WriteId};
use rusqlite::{Connection, OpenFlags};

use crate::workload::set;

/// See the module. Reads only, past Halite.
pub struct File {
    connection: Connection,
}

impl File {
    /// Opens a file.
    ///
    /// # Errors
    /// SQLite's.
    pub fn open(path: &Path) -> Result<Self> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .with_context(|| format!("open {}", path.display()))?;
        Ok(Self { connection })
    }

    /// What `PRAGMA integrity_check` says.
    ///
    /// # Errors
    /// SQLite's.
    pub fn integrity_check(&self) -> Result<Vec<String>> {
        let mut check = self.connection.prepare("PRAGMA integrity_check")?;
        let lines = check.query_map([], |row| row.get(0))?;
        Ok(lines.collect::<Result<_, _>>()?)
    }

    /// All pages; of the first one without what SQLite rewrites at each apply.
    ///
    /// # Errors
    /// SQLite's.
    pub fn pages(&self) -> Result<Vec<Vec<u8>>> {
        let mut select = self
            .connection
            .prepare("SELECT data FROM sqlite_dbpage ORDER BY pgno")?;
        let pages = select.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
        let mut pages = pages.collect::<Result<Vec<_>, _>>()?;
        if let Some(first) = pages.first_mut() {
            first[24..28].fill(0);
            first[92..100].fill(0);
        }
        Ok(pages)
    }

    /// The rows of the set.
    ///
    /// # Errors
    /// SQLite's.
    pub fn rows(&self) -> Result<Vec<Row>> {
        let mut select = self.connection.prepare(set::SELECT)?;
        let rows = select.query_map([0], |row| {
            Ok(Row {
                id: row.get(0)?,
                write: WriteId {
                    writer: row.get(1)?,
                    seq: row.get(2)?,
                },
                part: row.get(3)?,
                parts: row.get(4)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
