//! [`File`]: a node's database file as a stock program sees it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use halite_checks::{
    AccountId, Bank, Contents, Element, Holder, Key, LedgerRow, RegisterValue, Row, Tag,
    TransferId, WriteId,
};
use rusqlite::{Connection, OpenFlags, Params};

use crate::workload::{bank, list, lock, register, set};

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
        self.all("PRAGMA integrity_check", [], |row| row.get(0))
    }

    /// All pages; of the first one without what SQLite rewrites at each apply.
    ///
    /// # Errors
    /// SQLite's.
    pub fn pages(&self) -> Result<Vec<Vec<u8>>> {
        let select = "SELECT data FROM sqlite_dbpage ORDER BY pgno";
        let mut pages: Vec<Vec<u8>> = self.all(select, [], |row| row.get(0))?;
        if let Some(first) = pages.first_mut() {
            first[24..28].fill(0);
            first[92..100].fill(0);
        }
        Ok(pages)
    }

    /// What all workloads left there. The tables of those that were not used are empty; without accounts there is no bank.
    ///
    /// # Errors
    /// SQLite's.
    pub fn contents(&self) -> Result<Contents> {
        let mut contents = Contents {
            rows: Some(Vec::new()),
            bank: None,
            lists: Some(BTreeMap::new()),
            registers: Some(BTreeMap::new()),
            locks: Some(BTreeMap::new()),
        };
        if self.has("log")? {
            contents.rows = Some(self.rows_after(0)?);
        }
        if self.has("accounts")? {
            contents.bank = Some(self.bank()?);
        }
        if self.has("lists")? {
            contents.lists = Some(self.lists()?);
        }
        if self.has("registers")? {
            contents.registers = Some(self.registers()?);
        }
        if self.has("locks")? {
            contents.locks = Some(self.locks()?);
        }
        Ok(contents)
    }

    /// The rows of the set with greater ids.
    ///
    /// # Errors
    /// SQLite's; also when there is no such table.
    pub fn rows_after(&self, after: i64) -> Result<Vec<Row>> {
        self.all(set::SELECT, [after], |row| {
            Ok(Row {
                id: row.get(0)?,
                write: WriteId {
                    writer: row.get(1)?,
                    seq: row.get(2)?,
                },
                part: row.get(3)?,
                parts: row.get(4)?,
            })
        })
    }

    fn bank(&self) -> Result<Bank> {
        let balances = self.all(bank::SELECT, [], |row| {
            Ok((AccountId(number(row, 0)?), row.get(1)?))
        })?;
        let ledger = self.all(bank::SELECT_LEDGER, [], |row| {
            Ok(LedgerRow {
                id: TransferId(number(row, 0)?),
                from: AccountId(number(row, 1)?),
                to: AccountId(number(row, 2)?),
                amount: row.get(3)?,
            })
        })?;
        Ok(Bank {
            balances: balances.into_iter().collect(),
            ledger,
        })
    }

    fn lists(&self) -> Result<BTreeMap<Key, Vec<Element>>> {
        let lists = self.all(list::SELECT_ALL, [], |row| {
            let elements: String = row.get(1)?;
            Ok((Key(number(row, 0)?), list::parse(&elements)))
        })?;
        Ok(lists.into_iter().collect())
    }

    fn registers(&self) -> Result<BTreeMap<Key, RegisterValue>> {
        let registers = self.all(register::SELECT_ALL, [], |row| {
            let value = RegisterValue {
                value: row.get(0)?,
                tag: Tag(number(row, 1)?),
                replaced: Tag(number(row, 2)?),
            };
            Ok((Key(number(row, 3)?), value))
        })?;
        Ok(registers.into_iter().collect())
    }

    fn locks(&self) -> Result<BTreeMap<Key, Holder>> {
        let locks = self.all(lock::SELECT_ALL, [], |row| {
            Ok((Key(number(row, 0)?), Holder(number(row, 1)?)))
        })?;
        Ok(locks.into_iter().collect())
    }

    fn has(&self, table: &str) -> Result<bool> {
        let select = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1";
        let found = self.all(select, [table], |row| row.get::<_, i64>(0))?;
        Ok(!found.is_empty())
    }

    fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        row: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let mut select = self.connection.prepare(sql)?;
        let rows = select.query_map(params, row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// A number that was written from a `u64`.
fn number(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.cast_unsigned())
}
