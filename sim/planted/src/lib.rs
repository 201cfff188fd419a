//! Planted bugs: faults put into Halite on purpose, to prove that the simulation finds them.
//!
//! The crates of Halite ask [`on`] at the places in question, behind their feature `planted-bugs`: a build without it holds nothing of this.
//! Which are on in a process, the environment variable [`VARIABLE`] says: one, or several where one of them shows only together with another. What each of them breaks, and which check finds it,
//! stands in `bugs.md` beside this crate's manifest; the simulation's test `planted` reads that table. Decides nothing else.

use std::sync::OnceLock;

/// Names the bugs that are on in this process, with commas between them.
pub const VARIABLE: &str = "HALITE_PLANTED_BUG";

macro_rules! bugs {
    ($($bug:ident = $name:literal,)*) => {
        /// A fault of Halite that is there only when asked for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Bug {
            $($bug,)*
        }

        impl Bug {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$bug,)*];

            /// Its name in [`VARIABLE`] and in the table.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$bug => $name,)*
                }
            }
        }
    };
}

bugs! {
    LogAppendUnsynced = "log-append-unsynced",
    LogTruncateForgotten = "log-truncate-forgotten",
    VoteInMemory = "vote-in-memory",
    VoteUnsynced = "vote-unsynced",
    DamageUnnoticed = "damage-unnoticed",
    NoOpUnconfirmed = "no-op-unconfirmed",
    GateOpenAtProposal = "gate-open-at-proposal",
    GateTakesAnyEntry = "gate-takes-any-entry",
    UnknownToldAsRefused = "unknown-told-as-refused",
    StalePrimaryReads = "stale-primary-reads",
    ReadIndexBeforeBlank = "read-index-before-blank",
    LateAnswerConfirms = "late-answer-confirms",
    RedoSkipped = "redo-skipped",
    RedoKeepsWal = "redo-keeps-wal",
    RedoPastCommitted = "redo-past-committed",
    CheckpointUnsynced = "checkpoint-unsynced",
    CheckpointTargetUnsaved = "checkpoint-target-unsaved",
    CheckpointWithoutSessions = "checkpoint-without-sessions",
    RetryRunsAgain = "retry-runs-again",
    RetryUnderNewKey = "retry-under-new-key",
    SessionTokenIgnored = "session-token-ignored",
    PurgePastCheckpoint = "purge-past-checkpoint",
    CommitFrameBeforeGate = "commit-frame-before-gate",
    AbandonedTransactionCommits = "abandoned-transaction-commits",
    CaptureSkipsPage = "capture-skips-page",
    DiffSkipsPage = "diff-skips-page",
    DiffUnchecked = "diff-unchecked",
    ChunkLeftOut = "chunk-left-out",
    SnapshotInsideTransaction = "snapshot-inside-transaction",
    RepairForgetsEntries = "repair-forgets-entries",
    LaneOpensInTrouble = "lane-opens-in-trouble",
    ArchiveUncommitted = "archive-uncommitted",
    ArchiveHoleUnseen = "archive-hole-unseen",
    CompactionOverGap = "compaction-over-gap",
    RetentionEatsBase = "retention-eats-base",
    AnyInstanceWelcome = "any-instance-welcome",
    UnwellForgottenByRestart = "unwell-forgotten-by-restart",
    TargetWithoutTerm = "target-without-term",
    DiffInstalledBeforeCheckpoint = "diff-installed-before-checkpoint",
    EqualTxidNotCompared = "equal-txid-not-compared",
    OldDiskWelcome = "old-disk-welcome",
    HangingDiskLeads = "hanging-disk-leads",
    HeartbeatsWaitForDisk = "heartbeats-wait-for-disk",
    HeartbeatsGivenUpEarly = "heartbeats-given-up-early",
    CopyWelcome = "copy-welcome",
    DeadStreamsKeepRoom = "dead-streams-keep-room",
    FirstMembersCount = "first-members-count",
    ForwardedStreamKeepsPlace = "forwarded-stream-keeps-place",
    RemovalUnchecked = "removal-unchecked",
    OldRemovalStands = "old-removal-stands",
    FailedDatabaseEndsNode = "failed-database-ends-node",
    SlowReceiverKeepsThread = "slow-receiver-keeps-thread",
    RepliesOfAnySize = "replies-of-any-size",
    DiffStartsOver = "diff-starts-over",
}

/// Whether `bug` is on in this process.
///
/// # Panics
/// The environment asks for a bug that there is not.
pub fn on(bug: Bug) -> bool {
    static CHOSEN: OnceLock<Vec<Bug>> = OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {
        let names = std::env::var(VARIABLE).unwrap_or_default();
        let names = names.split(',').filter(|name| !name.is_empty());
        names.map(named).collect()
    });
    chosen.contains(&bug)
}

fn named(name: &str) -> Bug {
    let found = Bug::ALL.iter().find(|bug| bug.name() == name);
    *found
        .unwrap_or_else(|| panic!("there is no planted bug of that name: {VARIABLE} has {name:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_and_nothing_is_on_unasked() {
        for (n, bug) in Bug::ALL.iter().enumerate() {
            assert!(
                Bug::ALL[n + 1..]
                    .iter()
                    .all(|other| other.name() != bug.name()),
                "{bug:?}"
            );
            assert!(!on(*bug), "{bug:?}");
        }
    }
}
