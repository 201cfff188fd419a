//! [`Guard`]: what SQL of callers may do on a connection, and for how long.
//!
//! Owns the authorizer and the progress handler of one connection, and limits what SQLite takes of memory. It is armed while a caller's SQL is
//! prepared or runs, and lets everything pass otherwise. Called by the lane and the reader threads, and by whoever asks how long SQL has been going on.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use halite_pager::memory;
use halite_proto::v1;
use parking_lot::Mutex;
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rusqlite::ffi;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization, TransactionOperation};

use super::caller::Caller;
use super::{Host, ReplyTo, failure, pragma};

/// Memory that one statement, or one batch of a caller, may take. Readers and lanes each run one at a time, so a node has a bound.
pub(super) const MEMORY_BYTES_MAX: u32 = 256 << 20;
/// Virtual machine steps between two looks at the clock: some tens of microseconds.
const STEPS_PER_LOOK: i32 = 2_000;
/// What the disk has refused counts for so long: whoever leads has time to make room for a node whose disk does not.
const REFUSED_FOR: Duration = Duration::from_secs(10);
const TEMPORARY: &str = "temporary tables, indexes, triggers and views are refused, since calls share connections: use WITH, or an ordinary table";

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

/// Whom SQL runs for, and until when.
pub(super) struct Terms {
    pub(super) deadline: Instant,
    pub(super) caller: Caller,
}

impl Terms {
    /// Those of a call.
    pub(super) fn of_call(deadline: Instant, reply: &ReplyTo) -> Self {
        Terms {
            deadline,
            caller: Caller::Call(reply.clone()),
        }
    }
}

/// Why SQL of a caller was interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Interruption {
    /// Leadership is lost, or the database closes.
    Stopped = 1,
    Expired = 2,
    CallerGone = 3,
}

/// What the authorizer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    /// The statement does nothing.
    Ignore,
    /// With what the caller is told.
    Deny(Refusal),
}

/// Why the authorizer refused a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Halite does not have it, and says what to do instead.
    NotHere(String),
    /// SQLite has nothing it could do either; these are its own words. They are an error of the code `SQLITE_ERROR`.
    AsSqlite(String),
}

impl Verdict {
    /// Halite does not have it.
    pub(super) fn deny(why: impl Into<String>) -> Self {
        Verdict::Deny(Refusal::NotHere(why.into()))
    }
}

struct State {
    mode: AtomicU8,
    refusal: Mutex<Option<Refusal>>,
    started: Instant,
    /// Nanoseconds after `started`; `u64::MAX` for none.
    deadline: AtomicU64,
    caller: Mutex<Option<Caller>>,
    /// When somebody saw that what runs should be over, in nanoseconds after `started`; 0 for never.
    over_since: AtomicU64,
    /// What runs is done but for its commit, which waits for a quorum.
    at_gate: AtomicBool,
    /// When the disk refused something last, in nanoseconds after `started`, and what SQLite said.
    disk_refusal: Mutex<Option<(u64, String)>>,
    /// Of the last armed run, as a number; 0 if it was not interrupted.
    interruption: AtomicU8,
    host: Arc<dyn Host>,
    stop: Box<dyn Fn() -> bool + Send + Sync>,
}

/// See the module.
#[derive(Clone)]
pub(super) struct Guard {
    state: Arc<State>,
    /// Whose connection it is. It may be gone: nobody waits for a guard to let go of it.
    pager: Weak<halite_pager::Database>,
}

impl Guard {
    /// Puts the guard on a connection. SQL of callers is interrupted when its deadline has passed, its caller is gone, or `stop` says so.
    pub(super) fn install(
        connection: &mut Connection,
        pager: &Arc<halite_pager::Database>,
        host: Arc<dyn Host>,
        stop: impl Fn() -> bool + Send + Sync + 'static,
    ) -> rusqlite::Result<Guard> {
        let state = Arc::new(State {
            mode: AtomicU8::new(Mode::Own as u8),
            refusal: Mutex::new(None),
            started: host.now(),
            deadline: AtomicU64::new(u64::MAX),
            caller: Mutex::new(None),
            over_since: AtomicU64::new(0),
            at_gate: AtomicBool::new(false),
            disk_refusal: Mutex::default(),
            interruption: AtomicU8::new(0),
            host,
            stop: Box::new(stop),
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
            Some(move || progress.interruption().is_some()),
        )?;
        let pager = Arc::downgrade(pager);
        Ok(Guard { state, pager })
    }

    /// Frames in the write-ahead log, and those of them that are in the file.
    pub(super) fn wal(&self) -> (u32, u32) {
        let state = self.pager.upgrade().and_then(|pager| pager.wal().ok());
        state.map_or((0, 0), |state| (state.frames, state.copied_frames))
    }

    /// SQLite could make nothing of what it read.
    pub(super) fn suspect(&self) {
        if let Some(pager) = self.pager.upgrade() {
            pager.suspect();
        }
    }

    /// Runs `work` with the connection armed for `mode`, on these terms.
    pub(super) fn armed<T>(&self, mode: Mode, terms: &Terms, work: impl FnOnce() -> T) -> T {
        let nanos = terms
            .deadline
            .saturating_duration_since(self.state.started)
            .as_nanos();
        self.state
            .deadline
            .store(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.state.interruption.store(0, Ordering::Relaxed);
        self.state.over_since.store(0, Ordering::Relaxed);
        self.state.at_gate.store(false, Ordering::Relaxed);
        *self.state.caller.lock() = Some(terms.caller.clone());
        self.state.refusal.lock().take();
        self.state.mode.store(mode as u8, Ordering::Relaxed);
        memory::limit(MEMORY_BYTES_MAX);
        let result = work();
        self.disarm();
        // What it leads to is let go of, not under the lock.
        let caller = self.state.caller.lock().take();
        drop(caller);
        result
    }

    /// From here on nothing is refused or interrupted: the quorum has the transaction.
    pub(super) fn disarm(&self) {
        memory::unlimit();
        self.state.mode.store(Mode::Own as u8, Ordering::Relaxed);
    }

    /// The disk refused what a statement needs.
    pub(super) fn note_disk_refusal(&self, why: &str) {
        *self.state.disk_refusal.lock() = Some((self.state.nanos(), why.to_owned()));
    }

    /// A transaction is committed.
    pub(super) fn forget_disk_refusal(&self) {
        *self.state.disk_refusal.lock() = None;
    }

    /// What the disk refused, unless that was long ago or something was committed since.
    pub(super) fn disk_refusal(&self) -> Option<String> {
        let refused = self.state.disk_refusal.lock();
        let (at, why) = refused.as_ref()?;
        let ago = self.state.nanos().saturating_sub(*at);
        (Duration::from_nanos(ago) < REFUSED_FOR).then(|| why.clone())
    }

    /// A commit begins to wait for the quorum, or is decided.
    pub(super) fn waits_at_gate(&self, waits: bool) {
        self.state.at_gate.store(waits, Ordering::Relaxed);
    }

    /// For how long a statement has been going on that should be over, as far as this was asked: it cannot be interrupted. Called by other threads.
    pub(super) fn overdue(&self) -> Duration {
        let state = &self.state;
        let runs = state.mode.load(Ordering::Relaxed) != Mode::Own as u8
            && !state.at_gate.load(Ordering::Relaxed);
        if !runs || state.over().is_none() {
            return Duration::ZERO;
        }
        let now = state.nanos();
        match state.over_since.load(Ordering::Relaxed) {
            0 => {
                state.over_since.store(now.max(1), Ordering::Relaxed);
                Duration::ZERO
            }
            since => Duration::from_nanos(now.saturating_sub(since)),
        }
    }

    /// What the authorizer refused last, and why.
    pub(super) fn take_refusal(&self) -> Option<Refusal> {
        self.state.refusal.lock().take()
    }

    /// Asked before each statement of an armed run: short ones, one after the other, are never interrupted within.
    ///
    /// # Errors
    /// What the caller is told if nothing more may run for it.
    pub(super) fn check(&self) -> Result<(), v1::Error> {
        match self.state.over() {
            None => Ok(()),
            Some(why) => Err(why.told()),
        }
    }

    /// What the caller is told of a statement that was interrupted.
    pub(super) fn interrupted(&self) -> v1::Error {
        match self.state.interruption.load(Ordering::Relaxed) {
            2 => Interruption::Expired,
            3 => Interruption::CallerGone,
            _ => Interruption::Stopped,
        }
        .told()
    }
}

impl State {
    /// Since the guard is there.
    fn nanos(&self) -> u64 {
        let since = self.host.now().saturating_duration_since(self.started);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

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

    /// Whether what runs has to end now, and why.
    fn interruption(&self) -> Option<Interruption> {
        if self.mode.load(Ordering::Relaxed) == Mode::Own as u8 {
            return None;
        }
        let why = match (self.stop)() {
            true => Some(Interruption::Stopped),
            false => self.over(),
        };
        self.interruption
            .store(why.map_or(0, |why| why as u8), Ordering::Relaxed);
        why
    }

    /// Whether the caller wants nothing more, and why. The one place that says so.
    fn over(&self) -> Option<Interruption> {
        let deadline = self.deadline.load(Ordering::Relaxed);
        if deadline != u64::MAX && self.nanos() >= deadline {
            return Some(Interruption::Expired);
        }
        let caller = self.caller.lock();
        let is_gone = caller.as_ref().is_some_and(Caller::is_gone);
        is_gone.then_some(Interruption::CallerGone)
    }
}

impl Interruption {
    fn told(self) -> v1::Error {
        match self {
            Interruption::Stopped => failure::not_primary(None),
            Interruption::Expired => failure::ran_too_long("statement"),
            Interruption::CallerGone => failure::caller_gone(),
        }
    }
}

fn judge(mode: Mode, context: &AuthContext<'_>) -> Verdict {
    let deny = |why: &str| Verdict::deny(why);
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
        AuthAction::Transaction { operation } => transaction_word(mode, operation),
        AuthAction::Savepoint {
            operation,
            savepoint_name,
        } if mode != Mode::Interactive => savepoint_word(operation, savepoint_name),
        AuthAction::CreateTempTable { .. }
        | AuthAction::CreateTempIndex { .. }
        | AuthAction::CreateTempTrigger { .. }
        | AuthAction::CreateTempView { .. } => deny(TEMPORARY),
        // `CREATE TABLE temp.t` is no temporary table to the authorizer, and adds to the schema of `temp` as the others do.
        AuthAction::Insert { .. } if context.database_name == Some("temp") => deny(TEMPORARY),
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

/// What is said of a word that begins or ends a transaction. The transaction around a call is the node's: to the caller none is open, unless it has
/// an interactive one.
fn transaction_word(mode: Mode, operation: TransactionOperation) -> Verdict {
    let as_sqlite = |words: &str| Verdict::Deny(Refusal::AsSqlite(words.to_owned()));
    match (operation, mode) {
        (TransactionOperation::Begin, Mode::Interactive) => {
            as_sqlite("cannot start a transaction within a transaction")
        }
        (TransactionOperation::Begin, _) => Verdict::deny(
            "BEGIN is refused as SQL text: send the statements as one batch, or use a transaction",
        ),
        (_, Mode::Interactive) => Verdict::deny(
            "COMMIT and ROLLBACK are refused as SQL text: end the transaction by a call of its own",
        ),
        (TransactionOperation::Rollback, _) => {
            as_sqlite("cannot rollback - no transaction is active")
        }
        _ => as_sqlite("cannot commit - no transaction is active"),
    }
}

/// The same for savepoints outside of an interactive transaction: there are none.
fn savepoint_word(operation: TransactionOperation, name: &str) -> Verdict {
    match operation {
        TransactionOperation::Begin => {
            Verdict::deny("SAVEPOINT is refused outside a transaction: use a transaction")
        }
        _ => Verdict::Deny(Refusal::AsSqlite(format!("no such savepoint: {name}"))),
    }
}
