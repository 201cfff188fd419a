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
use crate::database::queue_len;
use crate::piece_writer::PieceWriter;

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
    let (pieces, queue) = mpsc::channel(queue_len(&**cluster.host(), PIECES_QUEUED_MAX));
    cluster.host().spawn_blocking(Box::new(move || {
        let txid = snapshot.state().txid;
        let mut out = PieceWriter::new(pieces.clone(), |data| v1::ExportResponse {
            data,
            txid: 0,
            done: false,
        });
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
    }));
    Ok(ReceiverStream::new(queue))
}
