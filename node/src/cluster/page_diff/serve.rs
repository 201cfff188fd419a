//! The sender's side of a page diff.

use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use halite_proto::v1;
use tokio::sync::OwnedSemaphorePermit;
use tonic::{Request, Status, Streaming};

use super::takes_any_pages;
use crate::cluster::Cluster;
use crate::database::PageDiff;
use crate::piece_stream::{PieceSource, piece_stream};

/// Reads what the receiver holds and streams what it lacks. `place` is given back when that is done.
pub(crate) async fn serve(
    cluster: &Arc<Cluster>,
    place: OwnedSemaphorePermit,
    request: Request<Streaming<v1::PageDiffRequest>>,
) -> Result<impl Stream<Item = Result<v1::PageDiffResponse, Status>> + use<>, Status> {
    let any_pages = takes_any_pages(request.metadata());
    let mut requests = request.into_inner();
    let mut theirs: Vec<u64> = Vec::new();
    let database = loop {
        let request = requests.message().await?.ok_or_else(|| {
            Status::invalid_argument("the page checksums ended before they were complete")
        })?;
        if request.first_page as usize != theirs.len() + 1 {
            return Err(Status::invalid_argument(format!(
                "page checksums out of order: expected first_page={}, found first_page={}",
                theirs.len() + 1,
                request.first_page
            )));
        }
        theirs.extend_from_slice(&request.page_checksums);
        if request.last {
            let id = request.database_id;
            break cluster.shared().database_or_why(id, &format!("#{id}"))?;
        }
    };
    let stopping = |_| Status::unavailable("the database is being closed");
    let snapshot = database.snapshot().await.map_err(stopping)?;
    let snapshot = snapshot.map_err(|e| halite_proto::error_detail::to_status(&e))?;
    let (sender, stream) = piece_stream(place);
    let source = DiffSource {
        diff: snapshot.into_diff(theirs, any_pages),
        ended: false,
        piece_bytes: cluster.options.database.entry_bytes_max,
    };
    tokio::spawn(sender.send_all(cluster.host().clone(), source));
    Ok(stream)
}

/// The messages of one page diff; the last one carries the state that they lead to.
struct DiffSource {
    diff: PageDiff,
    ended: bool,
    /// Bytes per message, about.
    piece_bytes: usize,
}

impl PieceSource for DiffSource {
    type Piece = v1::PageDiffResponse;

    fn next(&mut self) -> Result<Option<v1::PageDiffResponse>, Status> {
        if self.ended {
            return Ok(None);
        }
        let piece = self
            .diff
            .next_piece(self.piece_bytes)
            .map_err(|error| Status::unavailable(format!("page diff failed: {error}")))?;
        self.ended = piece.is_none();
        Ok(Some(match piece {
            Some(data) => v1::PageDiffResponse {
                data: data.into(),
                state: None,
            },
            None => v1::PageDiffResponse {
                data: Bytes::new(),
                state: Some(self.diff.state().clone()),
            },
        }))
    }
}
