//! The databases of a node: one [`Database`] per SQLite file, one [`ReaderPool`] for all of them.
//!
//! A database owns one OS thread, the **lane**, and nothing else touches its writer. On the primary the lane runs write jobs with group commit
//! and waits at the gate for the quorum; on every node it applies committed LTX in log order, and makes checkpoints. What it needs from
//! the cluster and the log comes in through [`Proposer`] and [`CheckpointStore`].
//!
//! Must never: decide who leads, look into the log, apply an entry that is not yet on this node's own disk (its caller sees to that), answer
//! a write before the ordered apply has brought its entry, or tell what it found out without writing before a quorum has confirmed its leadership.
//!
//! Called by `cluster` (open, apply, lanes, page diff) and `api` (jobs, transactions, reads).

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use halite_ltx::PageNo;
use halite_proto::v1;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

mod applied;
mod caller;
mod committed_ltx;
mod error;
mod failure;
mod follow;
mod guard;
mod host;
mod keep;
mod lane;
mod on_confirmed;
mod page_source;
pub(crate) mod pragma;
mod proposer;
mod reader_pool;
pub(crate) mod recovery;
mod reply;
mod sessions;
mod snapshot;
mod spec;
mod statement;
mod transaction;
mod window;
mod write_job;

pub use applied::{Applied, Health, Mark, Status};
pub use committed_ltx::{ChunkSource, CommittedLtx, LtxReader};
pub use error::{ApplyError, InstallError, OpenError};
pub(crate) use host::HostThreads;
pub use host::{Host, SystemHost, blocking};
pub(crate) use keep::Unfinished;
pub use keep::{Keep, Kept};
pub use lane::inbox::Sealed;
pub use on_confirmed::OnConfirmed;
pub use page_source::{PageSource, PageSourceError};
pub use proposer::{
    CheckpointStore, CommittedLog, Leadership, NotProposed, Proposer, Transactions,
};
pub use reader_pool::{ReadJob, ReaderPool, is_not_read_only};
pub use reply::{
    CallReply, CallResults, ReplyReceiver, ReplySink, ReplyTo, Room, RoomWaiter, replies,
};
pub use snapshot::{DatabaseSnapshot, PageDiff};
pub use spec::{DatabaseId, DatabaseOptions, DatabaseSpec, Redo};
pub use transaction::{Committed, Transaction, TransactionFailure, TransactionOptions};
pub use window::{Permit, Window};
pub use write_job::{CallKey, WriteJob};

use lane::inbox::Inbox;
use lane::message::{Install, Job, Ordered, PendingApply, Task, Told};
use lane::shared::Shared;
use page_source::LtxPages;

/// A statement that should be over is interrupted within milliseconds where it can be, and within a second or two where it sorts.
const HELD_UP_AFTER: Duration = Duration::from_secs(3);
const HELD_UP: &str = "writes wait here for a statement whose time is over and that cannot be interrupted: a function of SQL that takes long, or \
                       a disk that does not answer";

const DISK_HANGS: &str =
    "the disk does not answer: a call to the database's files has not come back";

/// One SQLite file of this node. See the module.
pub struct Database {
    spec: DatabaseSpec,
    inbox: Arc<Inbox>,
    shared: Arc<Shared>,
    stopped: watch::Receiver<bool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Database {
    /// Opens the file, brings it to M (every committed entry that the log holds) and starts the lane, shut. Blocking.
    ///
    /// A file that does not have the content the log says is opened all the same, with [`Health::NeedsRepair`].
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn open(
        spec: DatabaseSpec,
        redo: Redo,
        proposer: Arc<dyn Proposer>,
        checkpoints: Arc<dyn CheckpointStore>,
        options: DatabaseOptions,
    ) -> Result<Arc<Database>, OpenError> {
        lane::open(spec, redo, proposer, checkpoints, options)
    }

    fn new(
        spec: DatabaseSpec,
        inbox: Arc<Inbox>,
        shared: Arc<Shared>,
        stopped: watch::Receiver<bool>,
        thread: JoinHandle<()>,
    ) -> Self {
        Database {
            spec,
            inbox,
            shared,
            stopped,
            thread: Mutex::new(Some(thread)),
        }
    }

    /// Which database this is.
    pub fn spec(&self) -> &DatabaseSpec {
        &self.spec
    }

    // ---- the log ----

    /// Hands over a committed entry that is on this node's own disk. One caller, in log order; the next may be handed over before the
    /// answer has come. Resolves when the entry is visible here, or was already (then it is skipped). A database that is not well answers
    /// an error: it reads the entry from the log again when it can take it.
    ///
    /// # Errors
    /// [`ApplyError`]. The channel closes if the database is shut down first, or could not take the entry.
    pub fn apply(&self, ltx: CommittedLtx) -> oneshot::Receiver<Result<(), ApplyError>> {
        let (reply, receiver) = oneshot::channel();
        self.inbox
            .push_ordered(Ordered::Apply(PendingApply { ltx, reply }));
        receiver
    }

    /// Says that all of its log up to `mark` is committed. A database that has less reads it from the log; one that has something else stops.
    /// Answers as [`apply`](Self::apply) does.
    pub fn told(&self, mark: Mark) -> oneshot::Receiver<Result<(), ApplyError>> {
        let (reply, receiver) = oneshot::channel();
        let replies = vec![reply];
        self.inbox
            .push_ordered(Ordered::Told(Told { mark, replies }));
        receiver
    }

    /// The entry with this `proposal_id` never enters the history: Raft turned it away, or one of its chunks. A gate that waits for it is
    /// refused, and its callers are told that nothing was written.
    pub fn refuse(&self, proposal_id: u64) {
        self.inbox.push_ordered(Ordered::Refuse { proposal_id });
    }

    /// Takes writes from now on, under `leadership`. To be called when every entry up to and with the term's first is applied.
    pub fn open_lane(&self, leadership: Leadership) {
        self.inbox.push_ordered(Ordered::Open(leadership));
    }

    /// Takes no more writes: refuses a shut gate (its callers get "outcome unknown"), interrupts and rolls back an interactive transaction, and
    /// answers queued jobs that they were not written, `primary` being where to turn to. Resolves when nothing of the lane is left.
    pub fn close_lane(&self, primary: Option<v1::NodeAddress>) -> oneshot::Receiver<()> {
        self.inbox.push_close(failure::not_primary(primary))
    }

    // ---- writes ----

    /// Hands over write jobs. Never blocks; every job is answered exactly once.
    pub fn submit(&self, jobs: Vec<WriteJob>) {
        let jobs = jobs
            .into_iter()
            .map(|job| match job.statements.as_slice() {
                [only] if statement::is_vacuum(&only.sql) => Job::Alone(job),
                several if pragma::without_foreign_keys(several) => Job::Alone(job),
                _ => Job::Write(job),
            })
            .collect();
        self.inbox.submit(jobs);
    }

    /// Begins an interactive transaction: waits for the lane, then has it alone.
    ///
    /// # Errors
    /// Not the primary, unavailable, or the deadline; nothing was begun.
    pub async fn begin(&self, options: TransactionOptions) -> Result<Transaction, v1::Error> {
        Transaction::begin(self.inbox.clone(), options).await
    }

    /// Commits the content of an ordinary SQLite file of the same page size as one transaction. Unless `overwrite`, the database has to be
    /// empty. The file is only read.
    pub fn import(
        &self,
        path: PathBuf,
        overwrite: bool,
    ) -> oneshot::Receiver<Result<Applied, v1::Error>> {
        let (reply, receiver) = oneshot::channel();
        self.inbox.submit(vec![Job::Import {
            path,
            overwrite,
            reply,
        }]);
        receiver
    }

    /// Takes no more writes as long as the answer is kept; `None`, and nothing is changed, unless it is certain here that no transaction was
    /// ever committed and none is asked for. What is proposed under the leadership that the answer names finds the database blank.
    pub fn seal_if_blank(&self) -> oneshot::Receiver<Option<Sealed>> {
        let (reply, receiver) = oneshot::channel();
        self.inbox.push_task(Task::SealIfBlank { reply });
        receiver
    }

    // ---- state ----

    /// What readers of this node see; changes with every transaction.
    pub fn applied(&self) -> watch::Receiver<Applied> {
        self.shared.applied.subscribe()
    }

    /// It follows its log: what is applied on this node is visible in it.
    pub fn is_fine(&self) -> bool {
        *self.shared.health.borrow() == Health::Fine
    }

    /// It has shut its lane by itself when it could not write what was committed, and could take writes again: a node that is still
    /// primary opens the lane anew.
    pub fn wants_lane(&self) -> bool {
        self.is_fine() && self.inbox.given_up()
    }

    /// Whether the database can follow its log.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }

    /// Everything about it at this moment.
    pub fn status(&self) -> Status {
        Status {
            applied: *self.shared.applied.borrow(),
            health: self.health_now(),
            wal_bytes: self.shared.wal_bytes.load(Ordering::Relaxed),
            queued_jobs: self.inbox.queued_jobs(),
            batches: self.shared.batches.load(Ordering::Relaxed),
            batched_jobs: self.shared.batched_jobs.load(Ordering::Relaxed),
        }
    }

    /// What the lane says, as long as it says anything: one that is held up cannot, and one whose statements fail has nothing to apply.
    fn health_now(&self) -> Health {
        let told = self.shared.health.borrow().clone();
        let why = match told {
            Health::Fine => self.held_up(),
            _ => None,
        };
        why.map_or(told, |why| Health::Behind {
            why,
            readable: true,
        })
    }

    /// Why a lane that has not said anything does nothing, or nothing that lasts.
    fn held_up(&self) -> Option<String> {
        if self.shared.disk_hangs() {
            return Some(DISK_HANGS.to_owned());
        }
        let guard = self.shared.guard.lock().clone()?;
        match guard.disk_refusal() {
            Some(refused) => Some(format!("writes fail here: {refused}")),
            None => (guard.overdue() >= HELD_UP_AFTER).then(|| HELD_UP.to_owned()),
        }
    }

    /// Makes a checkpoint now; resolves when the file holds everything applied (or why not).
    pub fn checkpoint(&self) -> oneshot::Receiver<Result<(), v1::Error>> {
        let (reply, receiver) = oneshot::channel();
        self.inbox.push_task(Task::Checkpoint { reply });
        receiver
    }

    /// Tries again now whatever keeps the database from its log: after a new version was installed, or a disk was mended.
    ///
    /// # Errors
    /// What still keeps it. The channel closes if it panics again.
    pub fn resume(&self) -> oneshot::Receiver<Result<(), v1::Error>> {
        let (reply, receiver) = oneshot::channel();
        self.inbox.push_task(Task::Resume { reply });
        receiver
    }

    /// Brings back a database that needs repair, by what an operator says counts where no other node has its pages. What does not count is
    /// kept in a file beside it, as far as it can be had.
    ///
    /// # Errors
    /// It needs no repair, or what is to count cannot be had; then it is as before, or the message says what it holds.
    pub fn keep(&self, keep: Keep) -> oneshot::Receiver<Result<Kept, v1::Error>> {
        let (reply, receiver) = oneshot::channel();
        self.inbox.push_task(Task::Keep { keep, reply });
        receiver
    }

    /// The first entry of the log that this database still needs because it is not well; `None` while it is.
    pub fn oldest_needed(&self) -> Option<u64> {
        let well = self.is_fine();
        (!well).then(|| self.shared.applied.borrow().raft_index + 1)
    }

    // ---- page diff ----

    /// A consistent view for a page diff or an export. Waits for the transaction that is being committed.
    pub fn snapshot(&self) -> oneshot::Receiver<Result<DatabaseSnapshot, v1::Error>> {
        let (reply, receiver) = oneshot::channel();
        self.inbox.push_task(Task::Snapshot { reply });
        receiver
    }

    /// Checksums of the pages this node holds, from `first` on, at most `count`; fewer (or none) at the end of the database. What a receiver sends
    /// to ask for a page diff.
    pub fn page_checksums(&self, first: PageNo, count: usize) -> Vec<u64> {
        let Some(pager) = self.shared.pager() else {
            return Vec::new();
        };
        let start = first.get().saturating_sub(1) as usize;
        pager
            .page_checksums()
            .iter()
            .skip(start)
            .take(count)
            .map(|checksum| checksum.get())
            .collect()
    }

    /// Installs the answer to a page diff in one transaction: afterwards the database is at `state`, whatever it was before.
    ///
    /// # Errors
    /// [`InstallError`]; the database is as before, and the diff may be asked for again.
    pub fn install(
        &self,
        ltx: Box<dyn Read + Send>,
        state: v1::DatabaseState,
    ) -> oneshot::Receiver<Result<Applied, InstallError>> {
        let pages = LtxPages::new(ltx, self.spec.page_size, state.page_count);
        self.install_pages(Box::new(pages), state)
    }

    /// The same for pages that lie elsewhere than in one LTX.
    pub fn install_pages(
        &self,
        pages: Box<dyn PageSource>,
        state: v1::DatabaseState,
    ) -> oneshot::Receiver<Result<Applied, InstallError>> {
        let (reply, receiver) = oneshot::channel();
        let install = Install {
            pages,
            state,
            reply,
        };
        self.inbox.push_ordered(Ordered::Install(install));
        receiver
    }

    // ---- life ----

    /// Ends the lane and closes the file. Connections of a [`ReaderPool`] have to be closed before ([`ReaderPool::forget`]).
    pub async fn shutdown(&self) {
        self.inbox.shut_down();
        let mut stopped = self.stopped.clone();
        // An error means that the thread is gone as well.
        let _ = stopped.wait_for(|stopped| *stopped).await;
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!(database = %self.spec.name, "the lane has panicked");
        }
        self.shared.close();
    }

    /// The same for a process that ends: one that a statement holds up is left behind after this time. What it had not committed never was.
    pub async fn shutdown_within(&self, most: Duration) {
        if tokio::time::timeout(most, self.shutdown()).await.is_err() {
            tracing::error!(database = %self.spec.name, "left behind, since its lane does not end: {HELD_UP}");
        }
    }

    /// Ends the lane without waiting for its end.
    pub fn abandon(&self) {
        self.inbox.shut_down();
    }

    /// Blocks until the lane waits: for work, for a step of an interactive transaction, or at the gate.
    pub fn settle(&self) {
        self.inbox.settle();
    }

    /// Makes the lane look at its deadlines again: for hosts whose clock is not the real one.
    pub fn tick(&self) {
        self.inbox.wake();
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Its thread holds what it needs and ends by itself.
        self.inbox.shut_down();
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
