//! [`Guard`]: what SQL of callers may do on a connection, and for how long.
//!
//! Owns the authorizer and the progress handler of one connection. It is armed while a caller's SQL is prepared or runs, and lets everything pass
//! otherwise. Called by the lane and the reader threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rusqlite::ffi;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

use super::Host;

mod pragma;

/// Virtual machine steps between two looks at the clock: some tens of microseconds.
const STEPS_PER_LOOK: i32 = 2_000;

/// Whose SQL a connection is being used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Mode {
    /// The node's own.
    Own = 0,
    /// A caller's, inside a transaction that the node began.
    Caller = 1,
    /// A caller's, in its interactive transaction: savepoints are its own business.
    Interactive = 2,
    /// A caller's VACUUM, which attaches a temporary database.
    Vacuum = 3,
}

/// What the authorizer says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Allow,
    /// The statement does nothing.
    Ignore,
    /// With what the caller is told.
    Deny(String),
}

struct State {
    mode: AtomicU8,
    refusal: Mutex<Option<String>>,
    started: Instant,
    /// Nanoseconds after `started`; `u64::MAX` for none.
    deadline: AtomicU64,
    expired: AtomicBool,
}

/// See the module.
#[derive(Clone)]
pub(super) struct Guard {
    state: Arc<State>,
}

impl Guard {
    /// Puts the guard on a connection. SQL of callers is interrupted when its deadline has passed or `stop` says so.
    pub(super) fn install(
        connection: &mut Connection,
        host: Arc<dyn Host>,
        stop: impl Fn() -> bool + Send + 'static,
    ) -> rusqlite::Result<Guard> {
        let state = Arc::new(State {
            mode: AtomicU8::new(Mode::Own as u8),
            refusal: Mutex::new(None),
            started: host.now(),
            deadline: AtomicU64::new(u64::MAX),
            expired: AtomicBool::new(false),
        });
        // Shadow tables and the schema are not written directly, whatever the authorizer misses.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        let authorizer = state.clone();
        connection.authorizer(Some(move |context: AuthContext<'_>| {
            authorizer.authorize(&context)
        }))?;
        let progress = state.clone();
        connection.progress_handler(
            STEPS_PER_LOOK,
            Some(move || progress.interrupt(&*host, &stop)),
        )?;
        Ok(Guard { state })
    }

    /// Runs `work` with the connection armed for `mode` until `deadline`.
    pub(super) fn armed<T>(&self, mode: Mode, deadline: Instant, work: impl FnOnce() -> T) -> T {
        let nanos = deadline
            .saturating_duration_since(self.state.started)
            .as_nanos();
        self.state
            .deadline
            .store(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.state.expired.store(false, Ordering::Relaxed);
        self.state.refusal.lock().take();
        self.state.mode.store(mode as u8, Ordering::Relaxed);
        let result = work();
        self.disarm();
        result
    }

    /// From here on nothing is refused or interrupted: the quorum has the transaction.
    pub(super) fn disarm(&self) {
        self.state.mode.store(Mode::Own as u8, Ordering::Relaxed);
    }

    /// What the authorizer refused last, and why.
    pub(super) fn take_refusal(&self) -> Option<String> {
        self.state.refusal.lock().take()
    }

    /// The last armed run was interrupted by its deadline.
    pub(super) fn expired(&self) -> bool {
        self.state.expired.load(Ordering::Relaxed)
    }
}

impl State {
    fn authorize(&self, context: &AuthContext<'_>) -> Authorization {
        let mode = match self.mode.load(Ordering::Relaxed) {
            1 => Mode::Caller,
            2 => Mode::Interactive,
            3 => Mode::Vacuum,
            _ => return Authorization::Allow,
        };
        match judge(mode, context) {
            Verdict::Allow => Authorization::Allow,
            Verdict::Ignore => Authorization::Ignore,
            Verdict::Deny(why) => {
                *self.refusal.lock() = Some(why);
                Authorization::Deny
            }
        }
    }

    fn interrupt(&self, host: &dyn Host, stop: &impl Fn() -> bool) -> bool {
        if self.mode.load(Ordering::Relaxed) == Mode::Own as u8 {
            return false;
        }
        if stop() {
            return true;
        }
        let deadline = self.deadline.load(Ordering::Relaxed);
        let now = host
            .now()
            .saturating_duration_since(self.started)
            .as_nanos();
        let expired = deadline != u64::MAX && now >= u128::from(deadline);
        if expired {
            self.expired.store(true, Ordering::Relaxed);
        }
        expired
    }
}

fn judge(mode: Mode, context: &AuthContext<'_>) -> Verdict {
    let deny = |why: &str| Verdict::Deny(why.to_owned());
    match context.action {
        AuthAction::Attach { filename: "" } if mode == Mode::Vacuum => Verdict::Allow,
        AuthAction::Attach { .. } if mode == Mode::Vacuum => {
            deny("VACUUM INTO is refused: it writes a file on the node; use the export call")
        }
        _ if mode == Mode::Vacuum => Verdict::Allow,
        AuthAction::Attach { .. }
        | AuthAction::Unknown {
            code: ffi::SQLITE_ATTACH,
            ..
        } => deny("ATTACH is refused: a transaction is replicated with its own database only"),
        AuthAction::Detach { .. }
        | AuthAction::Unknown {
            code: ffi::SQLITE_DETACH,
            ..
        } => deny("DETACH is refused: no other database can be attached"),
        AuthAction::Transaction { .. } => deny(
            "BEGIN, COMMIT and ROLLBACK are refused as SQL text: send the statements as one batch, or use a transaction",
        ),
        AuthAction::Savepoint { .. } if mode != Mode::Interactive => deny(
            "SAVEPOINT, RELEASE and ROLLBACK TO are refused outside a transaction: use a transaction",
        ),
        AuthAction::CreateTempTable { .. }
        | AuthAction::CreateTempIndex { .. }
        | AuthAction::CreateTempTrigger { .. }
        | AuthAction::CreateTempView { .. } => deny(
            "temporary tables, indexes, triggers and views are refused: calls share connections",
        ),
        AuthAction::Insert { table_name } | AuthAction::Delete { table_name }
            if table_name.eq_ignore_ascii_case("sqlite_dbpage") =>
        {
            deny("writing sqlite_dbpage is refused: it bypasses SQLite's own checks")
        }
        AuthAction::Update { table_name, .. }
            if table_name.eq_ignore_ascii_case("sqlite_dbpage") =>
        {
            deny("writing sqlite_dbpage is refused: it bypasses SQLite's own checks")
        }
        AuthAction::CreateVtable { module_name, .. }
            if module_name.eq_ignore_ascii_case("sqlite_dbpage") =>
        {
            deny("a virtual table over sqlite_dbpage is refused: it bypasses SQLite's own checks")
        }
        AuthAction::Function { function_name }
            if function_name.eq_ignore_ascii_case("load_extension") =>
        {
            deny("load_extension is refused: it runs foreign code in the node")
        }
        AuthAction::Pragma {
            pragma_name,
            pragma_value,
        } => pragma::judge(pragma_name, pragma_value),
        _ => Verdict::Allow,
    }
}
