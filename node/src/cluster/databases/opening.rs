//! One attempt to open a database, and its hand-over from the log to the ordered apply. See the header of [`super`] for who owns what when.

use std::sync::Arc;

use tracing::{debug, warn};

use super::{Attempt, Passed, Placed};
use crate::cluster::ltx_log;
use crate::cluster::state_machine::Shared;
use crate::database::{CommittedLtx, Database, DatabaseId, blocking};

/// Why what passed a database was not taken from the log.
enum Interrupted {
    /// The node is stopping.
    Stopping,
    Failed(String),
}

/// Tries to open a database that is shut. What fails is noted in its slot, and tried again later.
pub(crate) async fn open(shared: &Arc<Shared>, id: u64) {
    let Some(attempt) = shared.databases.begin(id) else {
        return;
    };
    let Attempt {
        database,
        passed,
        held,
    } = attempt;
    if let Some(held) = held {
        close(shared, &held).await;
    }
    // All of this is committed, and on this node's disk.
    let to = shared.applied.borrow().max(passed.index);
    let opened = match shared.opener.open(&database, to, passed.txid).await {
        Ok(opened) => opened,
        // A log that failed is not this database's trouble: Raft stops by itself, and the node starts anew.
        Err(_) if shared.log.failure().is_some() => return,
        Err(error) => {
            return shared.databases.failed(id, error.to_string());
        }
    };
    shared.databases.hold(&opened);
    let mut taken = passed.index.max(opened.status().applied.raft_index);
    loop {
        let placed = shared
            .databases
            .place(&opened, taken, |database| shared.open_lane_of(database));
        let to = match placed {
            Placed::Open => return,
            Placed::Gone => {
                opened.shutdown().await;
                return shared.databases.let_go(id);
            }
            Placed::CatchUp { to } => to,
        };
        debug!(database = %database.name, taken, to, "taking from the log what passed while it was opened");
        match catch_up(shared, &opened, taken, to).await {
            Ok(()) => taken = to,
            Err(why) => {
                opened.shutdown().await;
                return match why {
                    Interrupted::Stopping => {}
                    Interrupted::Failed(reason) => shared.databases.failed(id, reason),
                };
            }
        }
    }
}

/// Closes a database that readers may have used.
pub(super) async fn close(shared: &Arc<Shared>, database: &Arc<Database>) {
    // Whoever waits in it is answered before readers are waited for.
    database.abandon();
    shared.forget_readers(database.spec().id).await;
    database.shutdown().await;
}

/// Takes the transactions in `(taken, to]` from the log, one after the other. `taken` and `to` close transactions of this database, so the
/// chunks of each lie in between.
async fn catch_up(
    shared: &Arc<Shared>,
    database: &Arc<Database>,
    taken: u64,
    to: u64,
) -> Result<(), Interrupted> {
    let id = database.spec().id;
    let mut stopping = shared.databases.stopping();
    let host = &shared.opener.options.host;
    let mut transactions = Transactions::new(shared, id, taken + 1, to);
    let mut last = taken;
    loop {
        let next = blocking(host, move || {
            let next = transactions.0.next();
            (next, transactions)
        });
        let (next, rest) = next.await.map_err(|e| Interrupted::Failed(e.to_string()))?;
        transactions = rest;
        let Some(next) = next else {
            break;
        };
        let transaction = next.map_err(|e| Interrupted::Failed(format!("the log: {e}")))?;
        last = transaction.index;
        let visible = database.apply(transaction);
        let taken = tokio::select! {
            biased;
            taken = visible => taken,
            _ = stopping.wait_for(|stopping| *stopping) => return Err(Interrupted::Stopping),
        };
        match taken {
            Ok(Ok(())) => {}
            // It says so itself, keeps the entry, and is repaired once it has its place.
            Ok(Err(error)) => {
                warn!(database = %database.spec().name, %error, "transaction not applied")
            }
            Err(_) => return Err(Interrupted::Failed("its lane has ended".to_owned())),
        }
    }
    if last == to {
        return Ok(());
    }
    Err(Interrupted::Failed(format!(
        "the log no longer holds what passed while it was opened: from={taken} to={to}"
    )))
}

/// The transactions of one database in a part of the log.
struct Transactions(Box<dyn Iterator<Item = std::io::Result<CommittedLtx>> + Send>);

impl Transactions {
    fn new(shared: &Arc<Shared>, id: DatabaseId, from: u64, to: u64) -> Self {
        let from = from.max(shared.log.indexes().start);
        Self(Box::new(ltx_log::transactions(
            &shared.log,
            id.get(),
            from,
            to,
        )))
    }
}

/// How a transaction is noted that passes a database.
pub(crate) fn passed(transaction: &CommittedLtx) -> Passed {
    Passed {
        index: transaction.index,
        txid: transaction.command.txid,
    }
}
