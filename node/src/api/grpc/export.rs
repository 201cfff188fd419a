//! A consistent copy of one database as an ordinary SQLite file, streamed from a read transaction.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use halite_proto::v1::{self, ReadLevel};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::status_of;
use crate::cluster::{Cluster, ClusterError};

const PIECE_BYTES: usize = 1 << 20;
const PIECES_QUEUED_MAX: usize = 4;
const FRESH_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn export(
    cluster: &Arc<Cluster>,
    request: v1::ExportRequest,
) -> Result<impl Stream<Item = Result<v1::ExportResponse, Status>> + use<>, Status> {
    let database = cluster.shared().database(&request.database)?;
    if request.level() != ReadLevel::Local {
        let index = cluster.read_index().get().await?;
        cluster
            .wait_applied(index, Instant::now() + FRESH_TIMEOUT)
            .await?;
    }
    let stopping = |_| {
        Status::from(ClusterError::unavailable(
            "the database is being closed".into(),
        ))
    };
    let snapshot = database
        .snapshot()
        .await
        .map_err(stopping)?
        .map_err(|e| status_of(&e))?;
    let (pieces, queue) = mpsc::channel(PIECES_QUEUED_MAX);
    tokio::task::spawn_blocking(move || {
        let txid = snapshot.state().txid;
        let mut out = Pieces {
            pieces: pieces.clone(),
            buffer: Vec::with_capacity(PIECE_BYTES),
        };
        let end = match snapshot
            .write_file(&mut out)
            .and_then(|()| io::Write::flush(&mut out))
        {
            Ok(()) => Ok(v1::ExportResponse {
                data: Bytes::new(),
                txid,
                done: true,
            }),
            Err(error) => Err(Status::unavailable(format!("export broke off: {error}"))),
        };
        // A receiver that went away does not want the end either.
        let _ = pieces.blocking_send(end);
    });
    Ok(ReceiverStream::new(queue))
}

/// Cuts what is written into messages.
struct Pieces {
    pieces: mpsc::Sender<Result<v1::ExportResponse, Status>>,
    buffer: Vec<u8>,
}

impl io::Write for Pieces {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let room = PIECE_BYTES - self.buffer.len();
        let taken = room.min(data.len());
        self.buffer.extend_from_slice(&data[..taken]);
        if self.buffer.len() == PIECE_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let data = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE_BYTES));
        self.pieces
            .blocking_send(Ok(v1::ExportResponse {
                data: data.into(),
                txid: 0,
                done: false,
            }))
            .map_err(|_| io::Error::other("the receiver went away"))
    }
}
