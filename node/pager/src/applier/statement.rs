//! [`Statement`]: the one prepared statement of an applier, which binds a page without copying it.

use std::ffi::CStr;

use libsqlite3_sys::{self as ffi, sqlite3_stmt};
use rusqlite::Connection;

use crate::connection;

/// `INSERT` with a page number and a page. It must be dropped before its connection is closed.
pub(super) struct Statement(*mut sqlite3_stmt);

impl Statement {
    pub(super) fn prepare(connection: &Connection, sql: &CStr) -> Result<Self, rusqlite::Error> {
        let mut statement = std::ptr::null_mut();
        // SAFETY: the handle is valid while `connection` is borrowed, `sql` is a C string, `statement` outlives the call.
        let code = unsafe {
            ffi::sqlite3_prepare_v3(
                connection.handle(),
                sql.as_ptr(),
                -1,
                ffi::SQLITE_PREPARE_PERSISTENT,
                &raw mut statement,
                std::ptr::null_mut(),
            )
        };
        connection::check(connection, code)?;
        Ok(Statement(statement))
    }

    /// Runs the statement once; `None` binds NULL.
    pub(super) fn run(
        &mut self,
        connection: &Connection,
        pgno: u32,
        page: Option<&[u8]>,
    ) -> Result<(), rusqlite::Error> {
        // SAFETY: the statement is valid (see the type). The page is bound without a destructor (SQLITE_STATIC), and unbound
        // again before this returns.
        let code = unsafe {
            let mut code = ffi::sqlite3_bind_int64(self.0, 1, i64::from(pgno));
            if code == ffi::SQLITE_OK {
                code = match page {
                    Some(page) => ffi::sqlite3_bind_blob64(
                        self.0,
                        2,
                        page.as_ptr().cast(),
                        page.len() as u64,
                        ffi::SQLITE_STATIC(),
                    ),
                    None => ffi::sqlite3_bind_null(self.0, 2),
                };
            }
            if code == ffi::SQLITE_OK {
                let step = ffi::sqlite3_step(self.0);
                let reset = ffi::sqlite3_reset(self.0);
                code = match step {
                    ffi::SQLITE_DONE | ffi::SQLITE_ROW => reset,
                    _ if reset != ffi::SQLITE_OK => reset,
                    step => step,
                };
            }
            ffi::sqlite3_bind_null(self.0, 2);
            code
        };
        connection::check(connection, code)
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        // SAFETY: the statement is valid and not used again.
        unsafe { ffi::sqlite3_finalize(self.0) };
    }
}
