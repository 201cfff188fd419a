//! A consistent copy of one database as an ordinary SQLite file, streamed from a read transaction.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use halite_ltx::PageNo;
use halite_proto::v1::{self, ReadLevel};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tonic::Status;

use super::status_of;
use crate::cluster::{Cluster, ClusterError};
use crate::database::DatabaseSnapshot;
use crate::piece_stream::{PieceSource, piece_stream};

/// Bytes per message, about.
const PIECE_BYTES: usize = 1 << 20;
/// Where page 1 says how the file is journalled, and the word for a rollback journal (https://www.sqlite.org/fileformat.html, section 1.3.3).
const JOURNAL_MODE: std::ops::Range<usize> = 18..20;
const ROLLBACK: u8 = 1;
const FRESH_TIMEOUT: Duration = Duration::from_secs(5);

/// `place` is given back when the export is done.
pub(super) async fn export(
    cluster: &Arc<Cluster>,
    place: OwnedSemaphorePermit,
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
    let (sender, stream) = piece_stream(place);
    let source = ExportSource {
        snapshot,
        next_page: 1,
        page: Vec::new(),
        ended: false,
    };
    tokio::spawn(sender.send_all(cluster.host().clone(), source));
    Ok(stream)
}

/// The messages of one export; the last one says that it is complete.
struct ExportSource {
    snapshot: DatabaseSnapshot,
    next_page: u32,
    page: Vec<u8>,
    ended: bool,
}

impl PieceSource for ExportSource {
    type Piece = v1::ExportResponse;

    fn next(&mut self) -> Result<Option<v1::ExportResponse>, Status> {
        if self.ended {
            return Ok(None);
        }
        let state = self.snapshot.state();
        let (pages, txid) = (state.page_count, state.txid);
        let mut data = Vec::new();
        while self.next_page <= pages && data.len() < PIECE_BYTES {
            self.snapshot
                .read_page(PageNo::new(self.next_page), &mut self.page)
                .map_err(|error| Status::unavailable(format!("export broke off: {error}")))?;
            if self.next_page == 1 {
                // In WAL mode a file cannot be opened where nothing may be written beside it.
                self.page[JOURNAL_MODE].fill(ROLLBACK);
            }
            data.extend_from_slice(&self.page);
            self.next_page += 1;
        }
        self.ended = data.is_empty();
        Ok(Some(v1::ExportResponse {
            data: Bytes::from(data),
            txid: if self.ended { txid } else { 0 },
            done: self.ended,
        }))
    }
}
