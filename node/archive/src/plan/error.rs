//! [`PlanError`]: why a state of the database cannot be restored.

use halite_ltx::Txid;
use jiff::Timestamp;

use crate::FileKey;

/// Why a state cannot be restored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// There are no files at all: no backup, as far as the listing shows.
    #[error("no backup found: the archive is empty")]
    Empty,
    /// Transactions between the base and the target are in no file.
    #[error(
        "transactions are missing first_missing_txid={first} last_missing_txid={last} restorable_up_to={reached} next_file={next}"
    )]
    Gap {
        /// First missing transaction.
        first: Txid,
        /// Last missing transaction.
        last: Txid,
        /// The newest transaction before the gap; zero if there is no base.
        reached: Txid,
        /// The first file after the gap.
        next: FileKey,
    },
    /// Files hold ranges of transactions, and only the end of a file can be restored. This transaction is no such end.
    #[error(
        "transaction is inside a file; only the ends of files can be restored txid={txid} nearest_before={} nearest_after={}",
        display(before),
        display(after)
    )]
    NotRestorePoint {
        /// The transaction asked for.
        txid: Txid,
        /// The nearest one before that can be restored.
        before: Option<Txid>,
        /// The nearest one after that can be restored.
        after: Option<Txid>,
    },
    /// The archive does not go back that far, or not any more.
    #[error(
        "transaction is older than what the archive can give back txid={txid} oldest_txid={oldest} oldest_timestamp={timestamp}"
    )]
    BeforeOldest {
        /// The transaction asked for.
        txid: Txid,
        /// The oldest one that can be restored.
        oldest: Txid,
        /// When that was written.
        timestamp: Timestamp,
    },
    /// The archive does not go that far (yet).
    #[error("transaction is newer than the archive txid={txid} newest_txid={newest}")]
    AfterNewest {
        /// The transaction asked for.
        txid: Txid,
        /// The newest transaction in the archive.
        newest: Txid,
    },
    /// The timestamp lies outside of what the archive holds.
    #[error(
        "timestamp is outside of the archive timestamp={timestamp} must_be_after={oldest} and_not_after={newest}"
    )]
    TimestampOutOfRange {
        /// The timestamp asked for.
        timestamp: Timestamp,
        /// The oldest state; the timestamp must be later.
        oldest: Timestamp,
        /// The newest state; the timestamp must not be later.
        newest: Timestamp,
    },
}

fn display(txid: &Option<Txid>) -> String {
    txid.map_or_else(|| "none".to_owned(), |txid| txid.to_string())
}
