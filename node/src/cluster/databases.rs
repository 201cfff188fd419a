//! The databases of this node: a slot for each database of the catalog.
//!
//! A database is **open**, or **shut**: it could not be opened (descriptors, threads, permissions, a full disk, a lock of a stock program), is
//! being opened, or waits until the files of a dropped database of its name are gone. One that is shut is tried again with growing pauses
//! by [`tend::run`], says why in `halite status`, and stops nothing but itself: not Raft, not the node, not another database.
//!
//! Who hands over what: the ordered apply puts committed transactions into open databases. While a database is shut they **pass** it: its slot
//! notes the newest, and the log keeps them (`purge` asks [`Databases::shut`], up to a cap). Whoever opens the database (the ordered apply at
//! its creation, recovery at the start, the tending task later) brings it to the newest that had passed when it began, by redo; then it
//! takes from the log what passed meanwhile, one transaction after the other, until none is left. The last look and the change to "open" are
//! one step under the lock that the ordered apply takes for each entry: an entry is either noted before it, and read from the log, or
//! put into the open database after it. If the log has lost an entry meanwhile, the database is opened anew: its redo then finds that it
//! does not lead to what had passed, and the pages are pulled from another node (`repair`).
//!
//! A drop removes the slot and is done; closing the connections, waiting for readers and removing the files is the tending task's. Until then
//! the database is **leaving**, and a new one of its name stays shut. What a crash leaves of that is found at the next start.
//!
//! A database may come before its creation is applied here, by page diff: see [`incoming`].
//!
//! Must never: wait for a reader or a retry within the ordered apply; open a lane on a database that is shut.

mod capacity;
mod incoming;
mod opening;
mod recovery;
mod retry;
mod slot;
pub(super) mod tend;

use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{info, warn};

pub use capacity::Capacity;
pub(crate) use incoming::welcome;
pub(crate) use opening::{open, passed};
pub(crate) use recovery::recover;
pub(crate) use slot::Passed;
use slot::{Action, Attempt, Begin, HandOver, Shut, Slot, Slots};

use super::catalog::CatalogDatabase;
use super::error::ClusterError;
use crate::database::Database;
use retry::Retry;

/// A database that is not open, for those who ask.
#[derive(Debug, Clone)]
pub(crate) struct ShutDatabase {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) page_size: u32,
    /// Why it could not be opened; `None` while nothing has failed.
    pub(crate) trouble: Option<String>,
}

/// See the module.
pub(crate) struct Databases {
    slots: RwLock<Slots<Arc<Database>>>,
    /// Counts what [`Databases::version`] does.
    changed: watch::Sender<u64>,
    /// Something may be due.
    wake: Notify,
    /// `None`: as many as there are.
    capacity: Option<Capacity>,
    stopping: watch::Sender<bool>,
}

/// How an opened database got its place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    Open,
    CatchUp {
        to: u64,
    },
    /// It was dropped meanwhile.
    Gone,
}

impl Databases {
    pub(crate) fn new(capacity: Option<Capacity>) -> Self {
        Self {
            slots: RwLock::default(),
            changed: watch::Sender::new(0),
            wake: Notify::new(),
            capacity,
            stopping: watch::Sender::new(false),
        }
    }

    // ---- looking ----

    pub(crate) fn get(&self, id: u64) -> Option<Arc<Database>> {
        match self.slots.read().slots.get(&id)? {
            Slot::Open(open) => Some(open.clone()),
            Slot::Shut(_) => None,
        }
    }

    /// All that are open.
    pub(crate) fn all(&self) -> Vec<Arc<Database>> {
        let slots = self.slots.read();
        let open = slots.slots.values().filter_map(|slot| match slot {
            Slot::Open(open) => Some(open.clone()),
            Slot::Shut(_) => None,
        });
        open.collect()
    }

    /// All whose lanes run, those that nobody may use included.
    pub(crate) fn running(&self) -> Vec<Arc<Database>> {
        let slots = self.slots.read();
        let own = slots.slots.values().filter_map(|slot| match slot {
            Slot::Open(open) => Some(open.clone()),
            Slot::Shut(shut) => shut.held.clone(),
        });
        let leaving = slots.leaving.values().filter_map(|l| l.held.clone());
        own.chain(leaving).collect()
    }

    /// All that are not open.
    pub(crate) fn shut(&self) -> Vec<ShutDatabase> {
        let (now, slots) = (Instant::now(), self.slots.read());
        let shut = slots.slots.iter().filter_map(|(id, slot)| match slot {
            Slot::Open(_) => None,
            Slot::Shut(shut) => Some(told(&slots, *id, shut, now)),
        });
        shut.collect()
    }

    /// What a caller is told of a database that is not open; `None` if it is open, or not there.
    pub(crate) fn refusal(&self, id: u64) -> Option<ClusterError> {
        let shut = self.shut().into_iter().find(|shut| shut.id == id)?;
        Some(ClusterError::unavailable(match shut.trouble {
            Some(trouble) => format!(
                "database {:?} cannot be opened on this node, it is tried again: {trouble}",
                shut.name
            ),
            None => format!("database {:?} is being opened on this node", shut.name),
        }))
    }

    /// Grows whenever a database appears, opens or goes.
    pub(crate) fn version(&self) -> u64 {
        *self.changed.borrow()
    }

    /// Why no database more may be created here; `None` if one may.
    pub(crate) fn no_room(&self) -> Option<String> {
        let held = self.slots.read().slots.len();
        self.capacity?.refusal(held)
    }

    /// Resolves when the database is open, or an attempt has failed, or it is gone.
    pub(crate) async fn attempted(&self, id: u64) {
        let mut changes = self.changed.subscribe();
        loop {
            let waits = match self.slots.read().slots.get(&id) {
                Some(Slot::Shut(shut)) => shut.retry.reason().is_none(),
                Some(Slot::Open(_)) | None => false,
            };
            if !waits || changes.changed().await.is_err() {
                return;
            }
        }
    }

    // ---- the ordered apply ----

    /// The database that a committed transaction goes to. One that is shut lets it pass, and one that is not there is `None` as well.
    pub(crate) fn take_or_pass(&self, id: u64, transaction: Passed) -> Option<Arc<Database>> {
        if let Some(open) = self.get(id) {
            return Some(open);
        }
        // It may have opened since.
        match self.slots.write().slots.get_mut(&id)? {
            Slot::Open(open) => Some(open.clone()),
            Slot::Shut(shut) => {
                shut.pass(transaction);
                None
            }
        }
    }

    /// A database whose creation is applied: to be opened, unless it came before ([`incoming`]) and is open.
    pub(crate) fn add(&self, database: CatalogDatabase) {
        let given_up = self.slots.write().add(database, Instant::now());
        self.given_up(given_up);
    }

    /// A database was dropped: nobody gets it any more, and it is closed and deleted later.
    pub(crate) fn drop_later(&self, database: CatalogDatabase) {
        let left = self.slots.write().leave(database, Instant::now());
        self.given_up(left);
    }

    /// Whoever waits in them is answered now, and not when the last reader has gone.
    fn given_up(&self, open: impl IntoIterator<Item = Arc<Database>>) {
        for database in open {
            database.abandon();
        }
        self.note_change();
    }

    /// A database is not where it has to be, and the log does not lead there: it is closed if it is open, opened anew, and then known to lack
    /// what is `owed`. `reason`: what failed.
    pub(crate) fn reopen(&self, database: CatalogDatabase, owed: Passed, reason: Option<String>) {
        let now = Instant::now();
        let mut slots = self.slots.write();
        let mut shut = match slots.slots.remove(&database.id) {
            Some(Slot::Shut(shut)) => shut,
            Some(Slot::Open(open)) => Shut {
                held: Some(open),
                ..Shut::new(database, now)
            },
            None => Shut::new(database, now),
        };
        shut.pass(owed);
        if let Some(reason) = reason {
            say(&shut.database.name, &mut shut.retry, reason, now);
        }
        slots.slots.insert(shut.database.id, Slot::Shut(shut));
        drop(slots);
        self.note_change();
    }

    // ---- databases that come before their creation is applied ----

    /// See [`Slots::welcome`].
    fn welcome(&self, database: CatalogDatabase) -> bool {
        let welcome = self.slots.write().welcome(database, Instant::now());
        if welcome {
            self.note_change();
        }
        welcome
    }

    /// Files of these are here from an earlier run.
    fn note_incoming(&self, databases: Vec<CatalogDatabase>) {
        let with_ids = databases
            .into_iter()
            .map(|database| (database.id, database));
        self.slots.write().incoming.extend(with_ids);
    }

    /// The catalog is that of a snapshot now: what has come and is not `known` to it goes again.
    pub(crate) fn settle_incoming(&self, known: impl Fn(u64) -> bool) {
        let given_up = self.slots.write().settle_incoming(known, Instant::now());
        self.given_up(given_up);
    }

    // ---- opening ----

    /// Begins an attempt; `None` if the database cannot be opened now.
    pub(crate) fn begin(&self, id: u64) -> Option<Attempt<Arc<Database>>> {
        let begun = self.slots.write().begin(id, self.capacity);
        match begun {
            Begin::Attempt(attempt) => return Some(attempt),
            Begin::NoRoom(full) => self.failed(id, full),
            Begin::NotNow => {}
        }
        None
    }

    /// Its file is open; nobody may use it yet.
    pub(crate) fn hold(&self, database: &Arc<Database>) {
        let id = database.spec().id.get();
        if let Some(Slot::Shut(shut)) = self.slots.write().slots.get_mut(&id) {
            shut.held = Some(database.clone());
        }
    }

    /// Gives an opened database its place if it has all that passed up to now; what the log holds up to `taken` it has. `open_lane` is called
    /// with it, in the same step: whoever loses leadership afterwards finds it among those whose lanes it closes.
    pub(crate) fn place(
        &self,
        database: &Arc<Database>,
        taken: u64,
        open_lane: impl FnOnce(&Database),
    ) -> Placed {
        let id = database.spec().id.get();
        let mut slots = self.slots.write();
        let Some(Slot::Shut(shut)) = slots.slots.get(&id) else {
            return Placed::Gone;
        };
        if let HandOver::CatchUp { to } = shut.hand_over(taken) {
            return Placed::CatchUp { to };
        }
        if shut.retry.reason().is_some() {
            info!(database = %shut.database.name, "opened");
        }
        slots.slots.insert(id, Slot::Open(database.clone()));
        open_lane(database);
        drop(slots);
        self.note_change();
        Placed::Open
    }

    /// An attempt failed. If the database was dropped meanwhile, its files may be removed now.
    pub(crate) fn failed(&self, id: u64, reason: String) {
        let now = Instant::now();
        let mut slots = self.slots.write();
        let Some(Slot::Shut(shut)) = slots.slots.get_mut(&id) else {
            drop(slots);
            return self.let_go(id);
        };
        let is_first = shut.retry.reason().is_none();
        shut.held = None;
        say(&shut.database.name, &mut shut.retry, reason, now);
        drop(slots);
        if is_first {
            self.note_change();
        }
    }

    /// An attempt is over whose database was dropped meanwhile: its files may be removed now.
    pub(crate) fn let_go(&self, id: u64) {
        if let Some(leaving) = self.slots.write().leaving.get_mut(&id) {
            leaving.held = None;
            leaving.retry = Retry::new(Instant::now());
        }
        self.note_change();
    }

    // ---- the tending task ----

    fn due(&self) -> Vec<Action> {
        self.slots.read().due(Instant::now())
    }

    fn next_due(&self) -> Option<Instant> {
        self.slots.read().next_due()
    }

    /// Begins to remove a dropped database.
    fn begin_removal(&self, id: u64) -> Option<(CatalogDatabase, Option<Arc<Database>>)> {
        let mut slots = self.slots.write();
        let leaving = slots.leaving.get_mut(&id)?;
        leaving.retry.due_at()?;
        leaving.retry.begin();
        Some((leaving.database.clone(), leaving.held.clone()))
    }

    /// It is closed; its files are still there.
    fn closed(&self, id: u64) {
        if let Some(leaving) = self.slots.write().leaving.get_mut(&id) {
            leaving.held = None;
        }
    }

    fn removed(&self, id: u64) {
        let now = Instant::now();
        let mut slots = self.slots.write();
        slots.leaving.remove(&id);
        // There may be room now, and one of its name may be waiting.
        for slot in slots.slots.values_mut() {
            if let Slot::Shut(shut) = slot {
                shut.retry.hurry(now);
            }
        }
        drop(slots);
        self.note_change();
    }

    fn removal_failed(&self, id: u64, reason: String) {
        let now = Instant::now();
        if let Some(leaving) = self.slots.write().leaving.get_mut(&id)
            && leaving.retry.failed(reason.clone(), now)
        {
            warn!(database = %leaving.database.name, id, reason, "a dropped database cannot be removed yet");
        }
    }

    // ---- life ----

    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Takes out all that run, to be closed.
    pub(crate) fn take_running(&self) -> Vec<Arc<Database>> {
        let running = self.running();
        *self.slots.write() = Slots::default();
        running
    }

    fn note_change(&self) {
        self.changed.send_modify(|n| *n += 1);
        self.wake.notify_one();
    }
}

/// Notes a failure, and says it once.
fn say(name: &str, retry: &mut Retry, reason: String, now: Instant) {
    #[cfg(feature = "planted-bugs")]
    if halite_planted::on(halite_planted::Bug::FailedDatabaseEndsNode) {
        std::process::exit(1);
    }
    if retry.failed(reason.clone(), now) {
        warn!(
            database = name,
            reason, "database in trouble: it is tried again"
        );
    }
}

fn told(
    slots: &Slots<Arc<Database>>,
    id: u64,
    shut: &Shut<Arc<Database>>,
    now: Instant,
) -> ShutDatabase {
    let before = slots.leaving_of(&shut.database.name).and_then(|leaving| {
        let why = leaving.retry.told(now)?;
        Some(format!(
            "the dropped database of this name is not removed yet: {why}"
        ))
    });
    ShutDatabase {
        id,
        name: shut.database.name.clone(),
        page_size: shut.database.page_size,
        trouble: before.or_else(|| shut.retry.told(now)),
    }
}
