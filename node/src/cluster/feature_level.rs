//! Feature levels: which formats a build reads and writes, and which of them its cluster may use.
//!
//! One number is the version of everything that is written or sent: log entries, catalog, checkpoints and the other values of a data
//! directory, messages between nodes. A build reads and writes a range of levels; a cluster stands at one, in its catalog, and nothing is
//! written that needs a higher one. An operator raises it when every member can follow (see `upgrade`), and it never goes back.
//!
//! | level | what came with it |
//! |---|---|
//! | 1 | all that the build f62e19d wrote; no field says so |
//! | 2 | entries that carry the level they were written at, and the number in the data directory that keeps older builds out |
//! | 2 | rows in the outcomes of writes, and the word that they were left out: in entries, and from there in checkpoints and page diffs |
//!
//! What this build writes at level 1 though f62e19d did not know it, because a node that drops it takes nothing from the others:
//!
//! | what | where | why it may be dropped |
//! |---|---|---|
//! | newest committed position of a database | catalog | each node derives it from the log; absent it is unknown, and the next transaction says it anew. An entry that does not follow is passed over by nodes that know it; f62e19d, and a node that does not know it, finds that the entry does not fit and pulls the pages. Where f62e19d has purged on, what an earlier catalog says is out of date: see [`super::catalog::Catalog::purged_beyond`] |
//! | terms of checkpoints and page diffs | `meta`, page diff | 0 is unknown, and proves as little as it did |
//! | what members acknowledged, why the node stopped, which files are its own | `meta` | a node's own knowledge; f62e19d leaves it there. The first only says less than is true; a file that f62e19d made is moved aside once, and comes back from the log |
//! | boot ids, entries by which a member is one and knows the others, what the receiver acknowledged, marks of heartbeats | metadata of calls, `Identify` | each side checks what it is told: copies, disks that were put back and removals that are out of date are found where both ends are new, and elsewhere as they were before. An unmarked heartbeat is answered when the disk has synced |
//!
//! `proto/tests/levels.txt` holds the level of every field of the wire and the disk, and a test refuses those that are not in it.
//!
//! A new level: raise [`Levels::OURS`], add a row here, and give each new command its level in [`needed`]. A field that changes what an entry
//! or a value means is written only when [`FeatureLevel::cluster`] has reached its level, since nodes below would drop it in silence: fields of
//! commands are left out in [`leave_out`].
//!
//! Owns the numbers and every comparison of them. Does no I/O. Called by whoever reads or writes one of the formats.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU32, Ordering};

use halite_log::LogStore;
use halite_proto::v1::command::Kind;
use tokio::sync::watch;
use tonic::metadata::{MetadataMap, MetadataValue};

/// One level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(u32);

impl Level {
    /// Everything that does not say its level.
    pub(crate) const FIRST: Self = Self(1);

    pub(crate) const fn new(level: u32) -> Self {
        Self(if level == 0 { 1 } else { level })
    }

    /// A field that is absent reads as 0, and means the first level.
    pub(crate) const fn from_wire(level: u32) -> Self {
        Self::new(level)
    }

    /// The first level is written as nothing: builds without levels write the same bytes.
    pub(crate) const fn to_wire(self) -> u32 {
        if self.0 == 1 { 0 } else { self.0 }
    }

    /// The number itself.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Default for Level {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The levels that a build can read and write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Levels {
    /// The oldest cluster that it can belong to.
    pub min: Level,
    /// The newest one.
    pub max: Level,
}

impl Levels {
    /// This build's.
    pub const OURS: Self = Self {
        min: Level(1),
        max: Level(2),
    };

    /// Those of the builds that say no level: for tests of upgrades.
    pub const FIRST: Self = Self {
        min: Level::FIRST,
        max: Level::FIRST,
    };

    /// The version's after this one: for tests of upgrades. See `cluster/next_version.rs`.
    pub const NEXT: Self = Self {
        min: Self::OURS.min,
        max: Level(Self::OURS.max.0 + 1),
    };

    /// Those that a log was opened with: they are its formats.
    pub(crate) fn of(log: &LogStore) -> Self {
        let level = |format: &u64| Level::new(u32::try_from(*format).unwrap_or(u32::MAX));
        let formats = log.formats();
        Self {
            min: level(formats.start()),
            max: level(formats.end()),
        }
    }

    /// The formats of the log of a node with these levels.
    pub(crate) fn formats(self) -> RangeInclusive<u64> {
        u64::from(self.min.get())..=u64::from(self.max.get())
    }

    /// What a peer says of itself. One that says nothing was built before there were levels.
    pub(crate) const fn from_wire(min: u32, max: u32) -> Self {
        Self {
            min: Level::from_wire(min),
            max: Level::from_wire(max),
        }
    }

    pub(crate) fn hold(self, level: Level) -> bool {
        (self.min..=self.max).contains(&level)
    }

    /// Whether this build may be where `what` is of level `found`.
    ///
    /// # Errors
    /// It may not.
    pub(crate) fn check(self, what: impl fmt::Display, found: Level) -> Result<(), Unfit> {
        if found > self.max {
            return Err(self.too_old(format!("{what} needs level {found}")));
        }
        if found < self.min {
            return Err(Unfit::TooNew(format!(
                "{what} is of level {found}, {}",
                self.of_build()
            )));
        }
        Ok(())
    }

    /// Whether this build understands an entry. Older ones always: the level only ever grew since.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn check_entry(self, level: Level, kind: Option<Kind>) -> Result<Kind, Unfit> {
        if level > self.max {
            return Err(self.too_old(format!("a log entry needs level {level}")));
        }
        match kind {
            None => Err(self.too_old("a log entry holds an unknown command".to_owned())),
            // What comes behind it may be of that level.
            Some(Kind::RaiseLevel(raise)) if Level::from_wire(raise.level) > self.max => {
                Err(self.too_old(format!("the cluster was raised to level {}", raise.level)))
            }
            Some(kind) => Ok(kind),
        }
    }

    fn too_old(self, why: String) -> Unfit {
        Unfit::TooOld(format!("{why}, {}", self.of_build()))
    }

    fn of_build(self) -> String {
        let version = env!("CARGO_PKG_VERSION");
        format!("this is halite {version}, for levels {self}")
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.min, self.max)
    }
}

/// The level that a command needs: it is not written into the log of a cluster below.
pub(crate) fn needed(kind: &Kind) -> Level {
    match kind {
        Kind::Ltx(_)
        | Kind::Chunk(_)
        | Kind::CreateDatabase(_)
        | Kind::DropDatabase(_)
        | Kind::RegisterNode(_)
        | Kind::FormCluster(_)
        | Kind::ArchiveProgress(_) => Level::FIRST,
        // Written only when all members have said that they can do more than the first level.
        Kind::RaiseLevel(_) => Level::FIRST,
    }
}

/// Rows in the outcomes of writes.
const OUTCOME_ROWS: Level = Level(2);

/// Takes out of a command what the log of a cluster at `level` does not hold. Nodes would keep different outcomes otherwise, and tell a
/// retry different things.
pub(crate) fn leave_out(level: Level, kind: &mut Kind) {
    match kind {
        Kind::Ltx(ltx) if level < OUTCOME_ROWS => {
            let sessions = ltx.outcomes.iter_mut();
            for outcome in sessions.flat_map(|session| &mut session.calls) {
                outcome.returned = Vec::new();
                outcome.rows_left_out = false;
            }
        }
        Kind::Ltx(_)
        | Kind::Chunk(_)
        | Kind::CreateDatabase(_)
        | Kind::DropDatabase(_)
        | Kind::RegisterNode(_)
        | Kind::FormCluster(_)
        | Kind::ArchiveProgress(_)
        | Kind::RaiseLevel(_) => {}
    }
}

/// This build cannot take part in its cluster: it would have to guess what it reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It does not know what others write.
    #[error("this node is too old for its cluster: upgrade it ({0})")]
    TooOld(String),
    /// It has forgotten what others write.
    #[error(
        "this version is too new for its cluster: run the one before it on every node and `halite upgrade finalize` first ({0})"
    )]
    TooNew(String),
}

/// Level that the sender's cluster stands at.
const LEVEL: &str = "halite-level";
/// Highest level that the sender can do.
const LEVEL_MAX: &str = "halite-level-max";

/// A call between nodes of which one is too old for the other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LevelMismatch {
    #[error("{0}")]
    Callee(Unfit),
    #[error("node {from} is too old for its cluster, which is at level {level}: upgrade it")]
    Caller { from: u64, level: Level },
}

/// Set on the refusal of a caller that is too old, so that it knows: the cluster's level.
pub(crate) const TOO_OLD_KEY: &str = "halite-too-old";

/// This build's levels, the cluster's, and whether they go together. Shared by all that read or write.
#[derive(Debug)]
pub(crate) struct FeatureLevel {
    ours: Levels,
    cluster: AtomicU32,
    unfit: watch::Sender<Option<Unfit>>,
}

impl FeatureLevel {
    pub(crate) fn new(ours: Levels) -> Self {
        Self {
            ours,
            cluster: AtomicU32::new(Level::FIRST.get()),
            unfit: watch::Sender::new(None),
        }
    }

    pub(crate) fn ours(&self) -> Levels {
        self.ours
    }

    /// The level up to which may be written: the catalog's.
    pub(crate) fn cluster(&self) -> Level {
        Level(self.cluster.load(Ordering::Acquire))
    }

    /// Takes over what the catalog says.
    pub(crate) fn learn(&self, cluster: Level) {
        self.cluster.store(cluster.get(), Ordering::Release);
    }

    /// This node ends: it met what it does not know. The first reason is the one that is told.
    pub(crate) fn stop(&self, why: Unfit) {
        self.unfit.send_if_modified(|told| {
            let news = told.is_none();
            told.get_or_insert(why);
            news
        });
    }

    pub(crate) fn unfit(&self) -> Option<Unfit> {
        self.unfit.borrow().clone()
    }

    /// Resolves when this node must end.
    pub(crate) async fn unfit_found(&self) -> Unfit {
        let mut unfit = self.unfit.subscribe();
        let found = unfit.wait_for(Option::is_some).await;
        match found.map(|unfit| unfit.clone()) {
            Ok(Some(unfit)) => unfit,
            // The sender is ours, and lives as long as we wait.
            _ => std::future::pending().await,
        }
    }

    /// Says in an outgoing call what this node writes and can read.
    pub(crate) fn sign(&self, metadata: &mut MetadataMap) {
        metadata.insert(LEVEL, MetadataValue::from(self.cluster().get()));
        metadata.insert(LEVEL_MAX, MetadataValue::from(self.ours.max.get()));
    }

    /// Checks an incoming call of a node whose identity is known.
    pub(crate) fn verify(&self, from: u64, metadata: &MetadataMap) -> Result<(), LevelMismatch> {
        let level = |key: &str| {
            let text = metadata.get(key).and_then(|value| value.to_str().ok());
            Level::from_wire(text.and_then(|text| text.parse().ok()).unwrap_or(0))
        };
        let ours = self.ours;
        if let Err(unfit) = ours.check(format!("what node {from} writes"), level(LEVEL))
            && matches!(unfit, Unfit::TooOld(_))
        {
            self.stop(unfit.clone());
            return Err(LevelMismatch::Callee(unfit));
        }
        let cluster = self.cluster();
        if level(LEVEL_MAX) < cluster {
            return Err(LevelMismatch::Caller {
                from,
                level: cluster,
            });
        }
        Ok(())
    }

    /// Learns from a peer's refusal that this node is too old.
    pub(crate) fn note_refusal(&self, metadata: &MetadataMap) {
        let level = metadata
            .get(TOO_OLD_KEY)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        if let Some(level) = level
            && let Err(unfit) = self.ours.check("the cluster", Level::from_wire(level))
        {
            self.stop(unfit);
        }
    }
}

#[cfg(test)]
mod refusal_tests;
#[cfg(test)]
mod tests;
