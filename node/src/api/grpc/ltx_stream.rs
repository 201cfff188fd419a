//! The committed LTX of one database from a TXID on, for edge followers, change feeds and tools. Any node serves it, from its own log.

use std::io::Read as _;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use halite_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::cluster::{Cluster, ClusterError, ltx_log};
use crate::database::{CommittedLtx, blocking, queue_len};

/// Largest piece of one transaction.
const PIECE_BYTES: usize = 1 << 20;
/// Pieces read ahead of a slow receiver.
const PIECES_QUEUED_MAX: usize = 4;

pub(super) fn stream(
    cluster: Arc<Cluster>,
    request: v1::StreamLtxRequest,
) -> Result<impl Stream<Item = Result<v1::StreamLtxResponse, Status>>, Status> {
    cluster.check_member()?;
    let database = cluster.shared().database(&request.database)?;
    let applied = database.status().applied;
    let next = applied.position.txid.get() + 1;
    let (wanted, from) = match request.from_txid {
        0 => (next, cluster.applied_index() + 1),
        txid if txid > next => {
            return Err(ClusterError::invalid(format!(
                "the database is at txid {}: cannot start at {txid}",
                next - 1
            ))
            .into());
        }
        txid => (txid, cluster.shared().log.indexes().start),
    };
    let (pieces, queue) = mpsc::channel(queue_len(&**cluster.host(), PIECES_QUEUED_MAX));
    let tail = Tail {
        cluster,
        database_id: database.spec().id.get(),
        wanted,
        from,
        pieces,
    };
    tokio::spawn(tail.run());
    Ok(ReceiverStream::new(queue).boxed())
}

struct Tail {
    cluster: Arc<Cluster>,
    database_id: u64,
    wanted: u64,
    from: u64,
    pieces: mpsc::Sender<Result<v1::StreamLtxResponse, Status>>,
}

impl Tail {
    /// Follows the log until the receiver goes away.
    async fn run(mut self) {
        let mut applied = self.cluster.shared().applied.subscribe();
        loop {
            let to = *applied.borrow_and_update();
            if to >= self.from {
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
        for ltx in ltx_log::transactions(&log, self.database_id, self.from, to) {
            let ltx = ltx.map_err(|e| Status::data_loss(e.to_string()))?;
            let txid = ltx.command.txid;
            if txid < self.wanted {
                continue;
            }
            if txid > self.wanted {
                return Err(ClusterError::invalid(format!(
                    "txid {} is no longer in the log, the first one there is {txid}: restore from the archive first",
                    self.wanted
                ))
                .into());
            }
            self.send(&ltx)?;
            self.wanted = txid + 1;
        }
        self.from = to + 1;
        Ok(())
    }

    fn send(&self, ltx: &CommittedLtx) -> Result<(), Status> {
        let mut reader = ltx.reader();
        let mut next = read_piece(&mut reader)?;
        loop {
            let data = next;
            next = read_piece(&mut reader)?;
            let last = next.is_empty();
            let response = v1::StreamLtxResponse {
                txid: ltx.command.txid,
                data,
                last,
                post_checksum: format!("{:016x}", ltx.command.post_checksum),
                raft_index: ltx.index,
            };
            self.pieces
                .blocking_send(Ok(response))
                .map_err(|_| Status::cancelled("the receiver went away"))?;
            if last {
                return Ok(());
            }
        }
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
