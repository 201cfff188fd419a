//! [`Sometimes`]: states that are rare and have broken systems like this one. A search that never went there proves nothing of them, so
//! it fails when it was long enough and has not.
//!
//! The table says of each state within how many seeds a search has to reach it. What is seen by looking at the nodes is decided in
//! [`watcher`], what clients were told in [`answers`]; the rest the driver reports. Never changes a run.

pub mod answers;
pub mod watcher;

use std::collections::BTreeMap;

macro_rules! states {
    ($($(#[$doc:meta])* $state:ident = $name:literal, within $seeds:expr;)*) => {
        /// See the module.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Sometimes {
            $($(#[$doc])* $state,)*
        }

        impl Sometimes {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$state,)*];

            /// Its name in figures.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$state => $name,)*
                }
            }

            /// A search over as many seeds has to reach it.
            pub fn within(self) -> u64 {
                match self {
                    $(Self::$state => $seeds,)*
                }
            }
        }
    };
}

/// Seeds that run in CI's ten minutes, on a machine that is not the fastest.
const CI: u64 = 200;
/// Seeds of a long search.
const LONG: u64 = 2_000;
/// Counted, and not demanded: the black-box tests go there, and no search is known to.
const COUNTED: u64 = u64::MAX;

states! {
    /// Readers and writers under nothing but load.
    NoFault = "no fault", within CI;
    /// A log let go of a transaction that a database had not taken.
    PurgedWhileUnwell = "purged past what an unwell database lacks", within LONG;
    /// A node was started again while one of its databases was unwell.
    RestartedWhileUnwell = "restarted while unwell", within LONG;
    /// A node was elected while one of its databases was unwell.
    ElectedWhileUnwell = "elected while unwell", within LONG;
    /// A database that needed repair was well again.
    Repaired = "repaired", within LONG;
    /// A transaction of a database was committed while that database was repaired.
    CommittedDuringRepair = "committed during a repair", within LONG;
    /// Pages were installed, and the checkpoint that makes them durable was not finished.
    DiffNotCheckpointed = "page diff without its checkpoint", within LONG;
    /// Some pages of a page diff had come when it broke off.
    DiffBrokenOff = "page diff cut in the middle", within COUNTED;
    /// A page diff was installed that had broken off before, and went on from there.
    DiffResumed = "page diff that went on where it broke off", within COUNTED;
    /// A node was started again that had aimed a checkpoint beyond its log.
    RestartedWithTargetBeyondLog = "restarted with a checkpoint beyond the log", within LONG;
    /// A node was started again that had aimed a checkpoint into a part of its log that it did not know as committed.
    RestartedWithTargetInTail = "restarted with a checkpoint in an uncommitted tail", within LONG;
    /// The pages and the log of a node came from a snapshot.
    SnapshotInstalled = "snapshot installed", within CI;
    /// A leader had not noticed that there was a primary of a newer term.
    DeposedUnnoticed = "deposed and not noticed", within CI;
    /// Entries of a primary that was deposed were replaced.
    TailReplaced = "uncommitted tail replaced", within CI;
    /// Two primaries proposed a transaction of the same number.
    SameTxidTwice = "one txid proposed twice", within CI;
    /// A new primary's first entry came between the chunks of a transaction and the entry that closes it.
    ChunksAcrossPrimaries = "chunks across a change of primary", within LONG;
    /// The network or a process failed while leadership was handed over.
    TransferCut = "transfer of leadership cut", within CI;
    /// A strong read was answered as soon as there was a new primary.
    ReadAfterFailover = "read right after a failover", within CI;
    /// An operator made a mistake, or two of them worked at once.
    OperatorsMistake = "an operator's mistake", within LONG;
    /// Members ran programs of different versions.
    VersionsBesideEachOther = "versions beside each other", within CI;
    /// A cluster stood at a level that only the next version writes.
    NextVersionFinalized = "next version finalized", within LONG;
    /// A sync of the log did not end, and nobody else took writes.
    HangingSync = "hanging sync", within LONG;
    /// A sync of the log did not end, and another node took writes.
    HangingSyncHoldsNobodyUp = "hanging sync beside a primary", within LONG;
    /// The disks of a node were put back to an older copy of them.
    DiskPutBack = "disk put back", within LONG;
    /// Another machine ran on a copy of a node's disks.
    CopyStarted = "copy of a node started", within LONG;
    /// A machine came back with empty disks, under the id that it had.
    IdUsedAgain = "id used again", within LONG;
    /// Files of the archive were merged twice.
    ArchiveMerged = "archive files merged", within CI;
    /// Files of the archive were lost.
    ArchiveLost = "archive files lost", within LONG;
    /// The disk under one database failed, and the others went on.
    OneDatabaseFailed = "disk of one database failed", within CI;
}

/// In how many runs each state was reached, by its name.
pub type Reached = BTreeMap<String, u64>;

/// States that a search over `seeds` seeds should have reached and did not.
pub fn missing(reached: &Reached, seeds: u64) -> Vec<Sometimes> {
    let is_missing = |state: &&Sometimes| {
        seeds >= state.within() && reached.get(state.name()).is_none_or(|runs| *runs == 0)
    };
    Sometimes::ALL.iter().filter(is_missing).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_missed_only_by_a_search_that_is_long_enough() {
        let none = Reached::new();
        assert!(missing(&none, CI - 1).is_empty());
        assert!(missing(&none, CI).contains(&Sometimes::NoFault));
        assert!(!missing(&none, CI).contains(&Sometimes::ElectedWhileUnwell));
        let demanded = Sometimes::ALL.iter().filter(|s| s.within() <= LONG);
        assert_eq!(missing(&none, LONG), demanded.copied().collect::<Vec<_>>());
        let all = |state: &Sometimes| (state.name().to_owned(), 1);
        let reached: Reached = Sometimes::ALL.iter().map(all).collect();
        assert!(missing(&reached, LONG).is_empty());
        assert_eq!(reached.len(), Sometimes::ALL.len(), "two of one name");
    }
}
