//! The committed LTX of one database from a TXID on, for edge followers, change feeds and tools. Any node serves it, from its own log.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use halite_proto::v1;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::cluster::{Cluster, ClusterError, ltx_log};
use crate::database::{CommittedLtx, Database, blocking, queue_len};

/// Largest piece of one transaction.
const PIECE_BYTES: usize = 1 << 20;
/// Pieces read ahead of a slow receiver.
const PIECES_QUEUED_MAX: usize = 4;
/// How long a node that is behind may take to have what is asked for.
const FRESH_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn stream(
    cluster: Arc<Cluster>,
    request: v1::StreamLtxRequest,
) -> Result<impl Stream<Item = Result<v1::StreamLtxResponse, Status>> + use<>, Status> {
    cluster.check_member()?;
    let database = cluster.shared().database(&request.database)?;
    if request.from_txid > next_txid(&database) {
        // It may be this node that is behind.
        let committed = cluster.read_index().get().await?;
        let deadline = Instant::now() + FRESH_TIMEOUT;
        cluster.wait_applied(committed, deadline).await?;
    }
    let next = next_txid(&database);
    if request.from_txid > next {
        return Err(ClusterError::invalid(format!(
            "the database has not come so far: txid={} from_txid={}",
            next - 1,
            request.from_txid
        ))
        .into());
    }
    let (pieces, queue) = mpsc::channel(queue_len(&**cluster.host(), PIECES_QUEUED_MAX));
    let tail = Tail {
        cluster,
        name: request.database,
        database_id: database.spec().id.get(),
        wanted: if request.from_txid == 0 {
            next
        } else {
            request.from_txid
        },
        from: None,
        announced: false,
        pieces,
    };
    tokio::spawn(tail.run());
    Ok(ReceiverStream::new(queue).boxed())
}

fn next_txid(database: &Database) -> u64 {
    database.status().applied.position.txid.get() + 1
}

struct Tail {
    cluster: Arc<Cluster>,
    name: String,
    database_id: u64,
    /// The transaction to be sent next.
    wanted: u64,
    /// The entry to be read next; `None` before the first look into the log.
    from: Option<u64>,
    announced: bool,
    pieces: mpsc::Sender<Result<v1::StreamLtxResponse, Status>>,
}

impl Tail {
    /// Follows the log until the receiver goes away.
    async fn run(mut self) {
        let mut applied = self.cluster.shared().applied.subscribe();
        loop {
            let to = *applied.borrow_and_update();
            if self.from.is_none_or(|from| to >= from) {
                let host = self.cluster.host().clone();
                let read = blocking(&host, move || {
                    let result = self.send_up_to(to);
                    (self, result)
                });
                let Ok((tail, result)) = read.await else {
                    return;
                };
                self = tail;
                if let Err(status) = result {
                    // The receiver may be the one that is gone.
                    let _ = self.pieces.send(Err(status)).await;
                    return;
                }
            }
            tokio::select! {
                () = self.pieces.closed() => return,
                changed = applied.changed() => if changed.is_err() { return },
            }
        }
    }

    fn send_up_to(&mut self, to: u64) -> Result<(), Status> {
        let log = self.cluster.shared().log.clone();
        let from = match self.from {
            Some(from) => from.max(log.indexes().start),
            None => ltx_log::start_of(&log, self.database_id, self.wanted, to)
                .map_err(|error| Status::data_loss(error.to_string()))?,
        };
        for ltx in ltx_log::transactions(&log, self.database_id, from, to) {
            let ltx = match ltx {
                Ok(ltx) => ltx,
                Err(_) if log.indexes().start > from => return Err(self.purged()),
                Err(error) => return Err(Status::data_loss(error.to_string())),
            };
            let txid = ltx.command.txid;
            if txid < self.wanted {
                continue;
            }
            if txid > self.wanted {
                return Err(self.purged());
            }
            self.announce()?;
            self.send(&ltx)?;
            self.wanted = txid + 1;
        }
        self.from = Some(to + 1);
        self.check_complete(to)?;
        self.announce()
    }

    /// Tells the receiver where the stream begins, once it is certain that it can.
    fn announce(&mut self) -> Result<(), Status> {
        if self.announced {
            return Ok(());
        }
        self.announced = true;
        self.send_piece(v1::StreamLtxResponse {
            txid: self.wanted,
            ..v1::StreamLtxResponse::default()
        })
    }

    /// All of this database that the node has applied up to `to` was in the log, and has been sent.
    fn check_complete(&self, to: u64) -> Result<(), Status> {
        let shared = self.cluster.shared();
        let database = shared.database_or_why(self.database_id, &self.name)?;
        let applied = database.status().applied;
        if applied.raft_index <= to && self.wanted <= applied.position.txid.get() {
            return Err(self.purged());
        }
        Ok(())
    }

    fn purged(&self) -> Status {
        let node_id = self.cluster.identity().node_id;
        ClusterError::purged(format!(
            "the transaction is no longer in the log, the archive has it: txid={} node_id={node_id}",
            self.wanted
        ))
        .into()
    }

    fn send(&self, ltx: &CommittedLtx) -> Result<(), Status> {
        let mut reader = ltx.reader();
        let mut next = read_piece(&mut reader)?;
        loop {
            let data = next;
            next = read_piece(&mut reader)?;
            let last = next.is_empty();
            self.send_piece(v1::StreamLtxResponse {
                txid: ltx.command.txid,
                data,
                last,
                pre_checksum: format!("{:016x}", ltx.command.pre_checksum),
                post_checksum: format!("{:016x}", ltx.command.post_checksum),
                raft_index: ltx.index,
            })?;
            if last {
                return Ok(());
            }
        }
    }

    fn send_piece(&self, piece: v1::StreamLtxResponse) -> Result<(), Status> {
        self.pieces
            .blocking_send(Ok(piece))
            .map_err(|_| Status::cancelled("the receiver went away"))
    }
}

fn read_piece(reader: &mut impl std::io::Read) -> Result<Bytes, Status> {
    let mut piece = Vec::new();
    reader
        .take(PIECE_BYTES as u64)
        .read_to_end(&mut piece)
        .map_err(|e| Status::data_loss(format!("transaction is not readable from the log: {e}")))?;
    Ok(piece.into())
}
