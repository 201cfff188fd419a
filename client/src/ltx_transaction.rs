//! One committed transaction.

use std::fmt;

use bytes::Bytes;

/// One committed transaction of one database, as an LTX file (see the crate `halite-ltx` for the format).
#[derive(Clone, PartialEq, Eq)]
pub struct LtxTransaction {
    /// Counts the transactions of the database, from 1.
    pub txid: u64,
    /// Where it stands in the cluster's log: a read in a session that has [observed](crate::Client::observe_token) this sees it.
    pub raft_index: u64,
    /// Checksum of the database before it.
    pub pre_checksum: u64,
    /// Checksum of the database after it.
    pub post_checksum: u64,
    /// The whole LTX file: the pages that the transaction changed. It carries no database checksums of its own.
    pub data: Bytes,
}

impl fmt::Debug for LtxTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LtxTransaction")
            .field("txid", &self.txid)
            .field("raft_index", &self.raft_index)
            .field("bytes", &self.data.len())
            .finish_non_exhaustive()
    }
}
