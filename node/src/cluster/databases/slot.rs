//! [`Slot`]: what this node has of one database of the catalog, and what is to be done about it. Pure: time comes in, decisions come out.
//!
//! `D` is an open database; tests put something smaller in its place.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::capacity::Capacity;
use super::retry::Retry;
use crate::cluster::catalog::CatalogDatabase;

/// The newest committed transaction of a database that went by while nobody could take it. The log keeps it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    /// Raft index of the entry that closes it; 0: none went by.
    pub(crate) index: u64,
    pub(crate) txid: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) enum Slot<D> {
    /// It takes what is committed.
    Open(D),
    /// It does not, for now.
    Shut(Shut<D>),
}

/// A database that is being opened, or waits to be.
#[derive(Debug)]
pub(crate) struct Shut<D> {
    pub(crate) database: CatalogDatabase,
    pub(crate) passed: Passed,
    pub(crate) retry: Retry,
    /// Its file is open: it is being caught up, or has to be closed before it is opened anew.
    pub(crate) held: Option<D>,
}

/// A database that was dropped, and whose files are still there.
#[derive(Debug)]
pub(crate) struct Leaving<D> {
    pub(crate) database: CatalogDatabase,
    pub(crate) retry: Retry,
    pub(crate) held: Option<D>,
}

/// What an opened database has to do before it takes its place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HandOver {
    /// Nothing: it has all that went by.
    Done,
    /// Take what the log holds up to this index.
    CatchUp { to: u64 },
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Open(u64),
    Remove(u64),
}

/// Whether an attempt to open a database may begin.
#[derive(Debug)]
pub(crate) enum Begin<D> {
    Attempt(Attempt<D>),
    /// A database more would take descriptors that the log needs.
    NoRoom(String),
    /// It is not there, is open, is being opened, or a dropped database of its name has to go first.
    NotNow,
}

/// What an attempt begins with.
#[derive(Debug)]
pub(crate) struct Attempt<D> {
    pub(crate) database: CatalogDatabase,
    pub(crate) passed: Passed,
    /// To be closed first.
    pub(crate) held: Option<D>,
}

impl<D> Shut<D> {
    pub(crate) fn new(database: CatalogDatabase, now: Instant) -> Self {
        Self {
            database,
            passed: Passed::default(),
            retry: Retry::new(now),
            held: None,
        }
    }

    /// A committed transaction goes by.
    pub(crate) fn pass(&mut self, passed: Passed) {
        self.passed.index = self.passed.index.max(passed.index);
        self.passed.txid = self.passed.txid.max(passed.txid);
    }

    /// For a database that has what the log holds up to `taken`.
    pub(crate) fn hand_over(&self, taken: u64) -> HandOver {
        if self.passed.index <= taken {
            HandOver::Done
        } else {
            HandOver::CatchUp {
                to: self.passed.index,
            }
        }
    }
}

/// The slots of a node, and the databases that leave it.
#[derive(Debug)]
pub(crate) struct Slots<D> {
    pub(crate) slots: BTreeMap<u64, Slot<D>>,
    pub(crate) leaving: BTreeMap<u64, Leaving<D>>,
    /// Databases whose files are here, and whose creation is not applied here yet: they come, or came, by page diff. Nobody finds them by
    /// their name.
    pub(crate) incoming: BTreeMap<u64, CatalogDatabase>,
}

impl<D> Default for Slots<D> {
    fn default() -> Self {
        Self {
            slots: BTreeMap::new(),
            leaving: BTreeMap::new(),
            incoming: BTreeMap::new(),
        }
    }
}

impl<D> Slots<D> {
    /// A database whose creation is applied. One that came before keeps its slot. Others of its name that came before are given up, and those
    /// of them that are open are returned.
    pub(crate) fn add(&mut self, database: CatalogDatabase, now: Instant) -> Vec<D>
    where
        D: Clone,
    {
        self.incoming.remove(&database.id);
        let (name, id) = (database.name.clone(), database.id);
        let given_up = self.give_up(|other| other.name == name, now);
        let slot = || Slot::Shut(Shut::new(database, now));
        self.slots.entry(id).or_insert_with(slot);
        given_up
    }

    /// Makes a slot for a database whose creation is committed, and not applied here. The caller has seen that the catalog knows neither it nor
    /// its name. False if it has a slot, or if files of another one lie where its files belong.
    pub(crate) fn welcome(&mut self, database: CatalogDatabase, now: Instant) -> bool {
        let mut incoming = self.incoming.values();
        let is_taken = self.leaving_of(&database.name).is_some()
            || incoming.any(|other| other.name == database.name && other.id != database.id);
        if is_taken || self.slots.contains_key(&database.id) {
            return false;
        }
        self.incoming.insert(database.id, database.clone());
        let shut = Shut::new(database, now);
        self.slots.insert(shut.database.id, Slot::Shut(shut));
        true
    }

    /// The catalog is that of a snapshot now. What came before its creation and is not `known` to it is given up; those that are open are returned.
    pub(crate) fn settle_incoming(&mut self, known: impl Fn(u64) -> bool, now: Instant) -> Vec<D>
    where
        D: Clone,
    {
        self.incoming.retain(|id, _| !known(*id));
        self.give_up(|_| true, now)
    }

    fn give_up(&mut self, which: impl Fn(&CatalogDatabase) -> bool, now: Instant) -> Vec<D>
    where
        D: Clone,
    {
        let strangers = self.incoming.extract_if(.., |_, database| which(database));
        let strangers: Vec<_> = strangers.map(|(_, database)| database).collect();
        let given_up = strangers.into_iter();
        given_up
            .filter_map(|database| self.leave(database, now))
            .collect()
    }

    /// A database goes: nobody gets it any more. It is returned if it is open.
    pub(crate) fn leave(&mut self, database: CatalogDatabase, now: Instant) -> Option<D>
    where
        D: Clone,
    {
        let mut retry = Retry::new(now);
        let held = match self.slots.remove(&database.id) {
            Some(Slot::Open(open)) => Some(open),
            Some(Slot::Shut(shut)) => {
                if shut.retry.due_at().is_none() {
                    // Whoever opens it lets go of it first.
                    retry.begin();
                }
                shut.held
            }
            None => None,
        };
        let leaving = Leaving {
            retry,
            held: held.clone(),
            database,
        };
        self.leaving.insert(leaving.database.id, leaving);
        held
    }

    /// Databases whose files are open, or are being opened.
    pub(crate) fn in_use(&self) -> usize {
        let slots = self.slots.values().filter(|slot| match slot {
            Slot::Open(_) => true,
            Slot::Shut(shut) => shut.held.is_some() || shut.retry.due_at().is_none(),
        });
        let leaving = self.leaving.values().filter(|l| l.held.is_some());
        slots.count() + leaving.count()
    }

    /// The dropped database whose files lie where those of a database of this name belong.
    pub(crate) fn leaving_of(&self, name: &str) -> Option<&Leaving<D>> {
        self.leaving.values().find(|l| l.database.name == name)
    }

    /// Everything that is due at `now`.
    ///
    /// A database does not open before the files of one that had its name are gone.
    pub(crate) fn due(&self, now: Instant) -> Vec<Action> {
        let leaving = self.leaving.iter();
        let leaving = leaving.filter(|(_, leaving)| is_due(&leaving.retry, now));
        let shut = self.slots.iter().filter(|(_, slot)| match slot {
            Slot::Shut(shut) => is_due(&shut.retry, now) && !self.has_to_wait(shut),
            Slot::Open(_) => false,
        });
        leaving
            .map(|(id, _)| Action::Remove(*id))
            .chain(shut.map(|(id, _)| Action::Open(*id)))
            .collect()
    }

    /// Begins an attempt to open a database, if it may be opened.
    pub(crate) fn begin(&mut self, id: u64, capacity: Option<Capacity>) -> Begin<D> {
        let in_use = self.in_use();
        let Some(Slot::Shut(shut)) = self.slots.get(&id) else {
            return Begin::NotNow;
        };
        if shut.retry.due_at().is_none() || self.has_to_wait(shut) {
            return Begin::NotNow;
        }
        // What is held has its descriptors already.
        let full = match &shut.held {
            Some(_) => None,
            None => capacity.and_then(|capacity| capacity.refusal(in_use)),
        };
        if let Some(full) = full {
            return Begin::NoRoom(full);
        }
        let Some(Slot::Shut(shut)) = self.slots.get_mut(&id) else {
            return Begin::NotNow;
        };
        shut.retry.begin();
        Begin::Attempt(Attempt {
            database: shut.database.clone(),
            passed: shut.passed,
            held: shut.held.take(),
        })
    }

    fn has_to_wait(&self, shut: &Shut<D>) -> bool {
        self.leaving_of(&shut.database.name).is_some()
    }

    /// When something is due next; `None` if nothing is.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let leaving = self.leaving.values().filter_map(|l| l.retry.due_at());
        let shut = self.slots.values().filter_map(|slot| match slot {
            Slot::Shut(shut) if !self.has_to_wait(shut) => shut.retry.due_at(),
            _ => None,
        });
        leaving.chain(shut).min()
    }
}

fn is_due(retry: &Retry, now: Instant) -> bool {
    retry.due_at().is_some_and(|at| at <= now)
}

#[cfg(test)]
mod tests;
