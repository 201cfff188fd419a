//! The committed LTX of one database from a TXID on, for edge followers, change feeds and tools. Any node serves it, from its own log.
//!
//! A receiver that is slow holds no thread, and one that takes nothing for long is told to come again: it knows from where.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use halite_proto::v1;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tonic::Status;

use crate::cluster::ltx_log::OpenChunks;
use crate::cluster::{Cluster, ClusterError, ltx_log};
use crate::database::{CommittedLtx, Database, LtxReader, blocking};
use crate::piece_stream::{PieceSender, piece_stream};

/// Largest piece of one transaction, and about what is read at a time.
const PIECE_BYTES: usize = 512 << 10;
/// How long a node that is behind may take to have what is asked for.
const FRESH_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn stream(
    cluster: Arc<Cluster>,
    place: OwnedSemaphorePermit,
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
    let (sender, stream) = piece_stream(place);
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
        open: Arc::default(),
        reading: None,
        sending: None,
        announced: false,
    };
    tokio::spawn(tail.run(sender));
    Ok(stream.boxed())
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
    /// Chunks before that entry whose transaction is not closed yet.
    open: Arc<OpenChunks>,
    /// The part of the log that is being read.
    reading: Option<Reading>,
    /// The transaction that is being sent.
    sending: Option<Sending>,
    announced: bool,
}

struct Reading {
    transactions: Box<dyn Iterator<Item = std::io::Result<CommittedLtx>> + Send>,
    from: u64,
    to: u64,
}

struct Sending {
    head: v1::StreamLtxResponse,
    reader: LtxReader,
    /// What is sent next: whether it is the last piece is known when the one after it has been read.
    next: Bytes,
}

/// Some messages, and whether there may be more at once.
type Step = Result<(Vec<v1::StreamLtxResponse>, bool), Status>;

impl Tail {
    /// Follows the log until the receiver goes away.
    async fn run(mut self, sender: PieceSender<v1::StreamLtxResponse>) {
        let mut applied = self.cluster.shared().applied.subscribe();
        let host = self.cluster.host().clone();
        loop {
            let to = *applied.borrow_and_update();
            let mut more = self.from.is_none_or(|from| to >= from);
            while more {
                let read = blocking(&host, move || {
                    let step = self.step(to);
                    (self, step)
                });
                let Ok((tail, step)) = read.await else {
                    return;
                };
                self = tail;
                let pieces = match step {
                    Ok((pieces, go_on)) => {
                        more = go_on;
                        pieces
                    }
                    Err(status) => return sender.fail(status),
                };
                for piece in pieces {
                    if !sender.send(piece).await {
                        return;
                    }
                }
            }
            tokio::select! {
                biased;
                () = sender.closed() => return,
                changed = applied.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Reads on, up to `to`. Blocks on the disk.
    fn step(&mut self, to: u64) -> Step {
        let mut pieces = Vec::new();
        let mut bytes = 0;
        while bytes < PIECE_BYTES {
            if let Some(sending) = &mut self.sending {
                let (piece, last) = sending.piece()?;
                bytes += piece.data.len();
                pieces.push(piece);
                if last {
                    self.sending = None;
                    self.wanted += 1;
                }
                continue;
            }
            let Some(ltx) = self.next_transaction(to)? else {
                self.check_complete(to)?;
                pieces.extend(self.announce());
                return Ok((pieces, false));
            };
            pieces.extend(self.announce());
            self.sending = Some(Sending::begin(&ltx)?);
        }
        Ok((pieces, true))
    }

    /// The transaction that is wanted; `None` if the log has none up to `to`.
    fn next_transaction(&mut self, to: u64) -> Result<Option<CommittedLtx>, Status> {
        let lost = |error: std::io::Error| Status::data_loss(error.to_string());
        let log = self.cluster.shared().log.clone();
        if self.reading.is_none() {
            let from = match self.from {
                Some(from) => from.max(log.indexes().start),
                None => ltx_log::start_of(&log, self.database_id, self.wanted, to).map_err(lost)?,
            };
            let (id, open) = (self.database_id, self.open.clone());
            let transactions = ltx_log::transactions_after(&log, id, open, from, to);
            self.reading = Some(Reading {
                transactions: Box::new(transactions),
                from,
                to,
            });
        }
        while let Some(reading) = &mut self.reading {
            match reading.transactions.next() {
                None => {
                    self.from = Some(reading.to + 1);
                    self.reading = None;
                }
                Some(Err(_)) if log.indexes().start > reading.from => return Err(self.purged()),
                Some(Err(error)) => return Err(lost(error)),
                Some(Ok(ltx)) if ltx.command.txid < self.wanted => {}
                Some(Ok(ltx)) if ltx.command.txid > self.wanted => return Err(self.purged()),
                Some(Ok(ltx)) => return Ok(Some(ltx)),
            }
        }
        Ok(None)
    }

    /// Tells the receiver where the stream begins, once it is certain that it can.
    fn announce(&mut self) -> Option<v1::StreamLtxResponse> {
        let first = !std::mem::replace(&mut self.announced, true);
        first.then(|| v1::StreamLtxResponse {
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
}

impl Sending {
    fn begin(ltx: &CommittedLtx) -> Result<Self, Status> {
        let mut reader = ltx.reader();
        Ok(Self {
            head: v1::StreamLtxResponse {
                txid: ltx.command.txid,
                data: Bytes::new(),
                last: false,
                pre_checksum: format!("{:016x}", ltx.command.pre_checksum),
                post_checksum: format!("{:016x}", ltx.command.post_checksum),
                raft_index: ltx.index,
            },
            next: read_piece(&mut reader)?,
            reader,
        })
    }

    /// The next piece, and whether it is the last one.
    fn piece(&mut self) -> Result<(v1::StreamLtxResponse, bool), Status> {
        let next = read_piece(&mut self.reader)?;
        let last = next.is_empty();
        let data = std::mem::replace(&mut self.next, next);
        let piece = v1::StreamLtxResponse {
            data,
            last,
            ..self.head.clone()
        };
        Ok((piece, last))
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
