//! Page diff over the wire: bootstrap of a blank node, catch-up below the log and repair of a diverged file.
//!
//! The receiver sends the checksums of the pages it holds; the sender, holding a read transaction, answers with the pages that
//! differ, as one LTX. Always pulled.

use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use halite_ltx::PageNo;
use halite_proto::v1;
use tokio::sync::OwnedSemaphorePermit;
use tonic::{Status, Streaming};
use tracing::info;

use super::Cluster;
use super::snapshot::Staged;
use super::transport::Purpose;
use crate::database::{Database, PageDiff};
use crate::piece_stream::{PieceSource, piece_stream};
use crate::staging_file::{StagingFile, staging_dir};

/// Checksums per message: 512 KiB.
const CHECKSUMS_PER_MESSAGE: usize = 65_536;
/// Bytes per message of the answer, about.
const PIECE_BYTES: usize = 1 << 20;

/// Pulls every database of `catalog` from the node at `addr`.
pub(crate) async fn pull_all(
    cluster: &Arc<Cluster>,
    from: u64,
    addr: &str,
    catalog: &v1::Catalog,
) -> Result<Vec<Staged>, Status> {
    let mut staged = Vec::new();
    for database in catalog.databases.iter().filter(|d| !d.dropped) {
        let ours = cluster.shared().database_by_id(database.database_id);
        staged.push(pull(cluster, from, addr, database.database_id, ours).await?);
    }
    Ok(staged)
}

/// Pulls one database into a staging file. `ours` is what this node holds of it, if anything.
pub(crate) async fn pull(
    cluster: &Arc<Cluster>,
    from: u64,
    addr: &str,
    database_id: u64,
    ours: Option<Arc<Database>>,
) -> Result<Staged, Status> {
    let checksums = match ours {
        Some(database) => all_checksums(&database),
        None => Vec::new(),
    };
    let pages = checksums.len();
    let requests = futures::stream::iter(checksum_messages(database_id, checksums));
    let mut peer = cluster.transport().peer(from, addr, Purpose::Bulk)?;
    let mut responses = peer.page_diff(requests).await?.into_inner();

    let dir = staging_dir(cluster.data_dir());
    let mut file = StagingFile::create(dir, "pull-", ".ltx", cluster.host())
        .await
        .map_err(internal)?;
    let mut bytes = 0_usize;
    while let Some(piece) = responses.message().await? {
        bytes += piece.data.len();
        file.write(piece.data).await.map_err(internal)?;
        if let Some(state) = piece.state {
            info!(
                database_id,
                txid = state.txid,
                bytes,
                had_pages = pages,
                "pulled page diff"
            );
            return Ok(Staged {
                database_id,
                ltx: file.into_path(),
                state,
            });
        }
    }
    Err(Status::unavailable(format!(
        "the page diff ended before it was complete: database_id={database_id}"
    )))
}

/// In pieces, so that the lane is never held up for long.
fn all_checksums(database: &Database) -> Vec<u64> {
    let mut all = Vec::new();
    loop {
        let first = PageNo::new(u32::try_from(all.len() + 1).unwrap_or(u32::MAX));
        let piece = database.page_checksums(first, CHECKSUMS_PER_MESSAGE);
        if piece.is_empty() {
            return all;
        }
        all.extend(piece);
    }
}

fn checksum_messages(database_id: u64, checksums: Vec<u64>) -> Vec<v1::PageDiffRequest> {
    if checksums.is_empty() {
        return vec![v1::PageDiffRequest {
            database_id,
            page_checksums: Vec::new(),
            first_page: 1,
            last: true,
        }];
    }
    let mut first_page = 1_u32;
    let mut messages: Vec<_> = checksums
        .chunks(CHECKSUMS_PER_MESSAGE)
        .map(|piece| {
            let message = v1::PageDiffRequest {
                database_id,
                page_checksums: piece.to_vec(),
                first_page,
                last: false,
            };
            first_page +=
                u32::try_from(piece.len()).expect("a message holds at most 65,536 checksums");
            message
        })
        .collect();
    if let Some(last) = messages.last_mut() {
        last.last = true;
    }
    messages
}

/// Reads what the receiver holds and streams what it lacks. `place` is given back when that is done.
pub(crate) async fn serve(
    cluster: &Arc<Cluster>,
    place: OwnedSemaphorePermit,
    mut requests: Streaming<v1::PageDiffRequest>,
) -> Result<impl Stream<Item = Result<v1::PageDiffResponse, Status>> + use<>, Status> {
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
        diff: snapshot.into_diff(theirs),
        ended: false,
    };
    tokio::spawn(sender.send_all(cluster.host().clone(), source));
    Ok(stream)
}

/// The messages of one page diff; the last one carries the state that they lead to.
struct DiffSource {
    diff: PageDiff,
    ended: bool,
}

impl PieceSource for DiffSource {
    type Piece = v1::PageDiffResponse;

    fn next(&mut self) -> Result<Option<v1::PageDiffResponse>, Status> {
        if self.ended {
            return Ok(None);
        }
        let piece = self
            .diff
            .next_piece(PIECE_BYTES)
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

fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_cut_into_consecutive_messages() {
        let total = CHECKSUMS_PER_MESSAGE * 2 + 5;
        let messages = checksum_messages(1, (0..total as u64).collect());
        assert_eq!(messages.len(), 3);
        let mut next = 1;
        for message in &messages {
            assert_eq!(message.first_page, next);
            next += message.page_checksums.len() as u32;
        }
        assert_eq!(
            messages.iter().map(|m| m.last).collect::<Vec<_>>(),
            [false, false, true]
        );
        assert!(checksum_messages(1, Vec::new())[0].last);
    }
}
