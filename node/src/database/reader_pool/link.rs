//! [`Link`]: a read-only connection of the pool to one database, [`Control`], the hold that the pool has on it while SQL of callers runs, and
//! [`Links`], those that nobody uses at the moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use halite_proto::v1;
use parking_lot::Mutex;
use rusqlite::Connection;
use rusqlite::limits::Limit;

use crate::database::guard::Guard;
use crate::database::reply::Deliveries;
use crate::database::statement::VALUE_BYTES_MAX;
use crate::database::{Database, DatabaseId, Host, failure};

/// Statements kept prepared per connection.
const STATEMENT_CACHE: usize = 128;
/// Connections kept while nobody uses them; beyond it the one unused for longest is closed.
const IDLE_MAX: usize = 128;
/// And for how long. Each holds up to 2 MiB of its file, and its statements.
const IDLE_FOR: Duration = Duration::from_secs(30);

/// One connection.
pub(super) struct Link {
    pub(super) connection: Box<Connection>,
    pub(super) guard: Guard,
    pub(super) control: Arc<Control>,
    /// Of the database's content; see `Shared::generation`.
    pub(super) generation: u64,
    /// When it was put among the idle ones, as a number that grows.
    used: u64,
    idle_since: Option<Instant>,
}

/// Connections that wait for the next read.
#[derive(Default)]
pub(super) struct Links {
    idle: BTreeMap<DatabaseId, Vec<Link>>,
    count: usize,
    used: u64,
}

impl Links {
    pub(super) fn take(&mut self, database: DatabaseId) -> Option<Link> {
        let link = self.idle.get_mut(&database)?.pop()?;
        self.count -= 1;
        Some(link)
    }

    /// Keeps a connection; another one may have to be closed for it.
    pub(super) fn keep(
        &mut self,
        database: DatabaseId,
        mut link: Link,
        now: Instant,
    ) -> Option<Link> {
        self.used += 1;
        link.used = self.used;
        link.idle_since = Some(now);
        self.idle.entry(database).or_default().push(link);
        self.count += 1;
        if self.count <= IDLE_MAX {
            return None;
        }
        let oldest = |links: &Vec<Link>| links.first().map(|link| link.used);
        let (database, _) = self
            .idle
            .iter()
            .filter_map(|(id, links)| Some((*id, oldest(links)?)))
            .min_by_key(|(_, used)| *used)?;
        self.count -= 1;
        Some(self.idle.get_mut(&database)?.remove(0))
    }

    /// Takes out those that nobody has used for long. The last used is taken first, so the others are what was needed at once at some time.
    pub(super) fn unused(&mut self, now: Instant) -> Vec<Link> {
        let mut unused = Vec::new();
        self.idle.retain(|_, links| {
            let old = links
                .iter()
                .take_while(|link| link.unused_at() <= Some(now));
            let old = old.count();
            unused.extend(links.drain(..old));
            !links.is_empty()
        });
        self.count -= unused.len();
        unused
    }

    /// When the next one is to be taken out.
    pub(super) fn next_unused(&self) -> Option<Instant> {
        let first = |links: &Vec<Link>| links.first()?.unused_at();
        self.idle.values().filter_map(first).min()
    }

    /// Those of one database, or all.
    pub(super) fn take_all(&mut self, database: Option<DatabaseId>) -> Vec<Link> {
        let taken: Vec<Link> = match database {
            Some(database) => self.idle.remove(&database).unwrap_or_default(),
            None => std::mem::take(&mut self.idle)
                .into_values()
                .flatten()
                .collect(),
        };
        self.count -= taken.len();
        taken
    }
}

/// What reaches into a statement that runs.
#[derive(Default)]
pub(super) struct Control {
    stop: AtomicBool,
    /// Answers of earlier reads that wait for company. They do not wait for a read that takes long: it sends them when it is looked at.
    pub(super) gathered: Mutex<Deliveries>,
}

impl Control {
    /// What runs on the connection ends soon, and nothing is begun on it any more.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Called while a statement runs, every some tens of microseconds; whether it has to end.
    fn look(&self, lockstep: bool) -> bool {
        if !lockstep && let Some(mut gathered) = self.gathered.try_lock() {
            gathered.send();
        }
        self.stopped()
    }
}

impl Link {
    fn unused_at(&self) -> Option<Instant> {
        self.idle_since.map(|since| since + IDLE_FOR)
    }

    pub(super) fn open(
        database: &Database,
        host: &Arc<dyn Host>,
        generation: u64,
    ) -> Result<Link, v1::Error> {
        let pager = database.shared.pager().ok_or_else(closing)?;
        let mut connection = pager
            .reader()
            // Another node may have no such trouble.
            .map_err(|error| failure::not_readable(&error))?;
        connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
        let unguarded = |error| failure::internal(format!("reader cannot be guarded: {error}"));
        connection
            .set_limit(Limit::SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX)
            .map_err(unguarded)?;
        // For nothing but the answer to those who ask: they are enforced where writes are made.
        connection
            .pragma_update(None, "foreign_keys", true)
            .map_err(unguarded)?;
        let control = Arc::new(Control::default());
        let (looked_at, lockstep) = (control.clone(), host.lockstep());
        let guard = Guard::install(&mut connection, &pager, host.clone(), move || {
            looked_at.look(lockstep)
        })
        .map_err(unguarded)?;
        let connection = Box::new(connection);
        Ok(Link::again(connection, guard, control, generation))
    }

    /// The parts of a connection that a read has had, together again.
    pub(super) fn again(
        connection: Box<Connection>,
        guard: Guard,
        control: Arc<Control>,
        generation: u64,
    ) -> Link {
        Link {
            connection,
            guard,
            control,
            generation,
            used: 0,
            idle_since: None,
        }
    }
}

/// What a read is told whose database goes away.
pub(super) fn closing() -> v1::Error {
    failure::unavailable(
        "the database is being closed on this node",
        Duration::from_millis(200),
    )
}
