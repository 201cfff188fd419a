//! Page diff over the wire: bootstrap of a blank node, catch-up below the log and repair of a diverged file.
//!
//! The receiver sends the checksums of the pages it holds; the sender, holding a read transaction, answers with the pages that
//! differ, as one LTX. Always pulled.
//!
//! An attempt that breaks off (the link, the sender, this process) keeps the pages that came whole, as [`pieces`]; the next one asks for what is
//! missing or has changed since. An attempt is over when nothing has come or gone for a while ([`STALL_MAX`]), however long it has taken.

mod pieces;
mod progress;
mod pulls;
mod serve;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use halite_ltx::PageNo;
use halite_proto::v1;
use tonic::Status;
use tonic::metadata::{MetadataMap, MetadataValue};
use tracing::{info, warn};

use super::transport::Purpose;
use super::{Cluster, repair};
use crate::database::{Database, InstallError, PageSourceError, blocking};
use crate::staging_file::{Appender, staging_dir};
use pieces::{Merged, Pieces};
use progress::Progress;
use pulls::UnderWay;

pub(crate) use pieces::{remove_of, sweep};
pub(crate) use pulls::Pulls;
pub(crate) use serve::serve;

/// Checksums per message: 512 KiB.
const CHECKSUMS_PER_MESSAGE: usize = 65_536;
/// An attempt in which no byte has come or gone for this long is over.
const STALL_MAX: Duration = Duration::from_secs(60);
/// Says of a call that its caller goes by the state that comes last, and not by the header of the LTX.
const ANY_PAGES: &str = "halite-any-pages";

/// Brings `database` to what the node at `addr` has of it. When this returns without an error, its file holds that.
///
/// # Errors
/// The other node cannot be reached or has nothing to give, the disk of this one refuses, readers keep the pages from the file, or somebody
/// else is bringing it. What has come is kept for the next attempt, unless it proved to be of no use or the disk is almost full.
pub(crate) async fn bring(
    cluster: &Arc<Cluster>,
    from: u64,
    addr: &str,
    database: &Arc<Database>,
) -> Result<(), Status> {
    let id = database.spec().id.get();
    let Some(mut under_way) = cluster.pulls().begin(id) else {
        return Err(Status::unavailable(format!(
            "its pages are being pulled already: database_id={id}"
        )));
    };
    let brought = bring_once(cluster, from, addr, database, &mut under_way).await;
    match &brought {
        Ok(()) => under_way.done(),
        // The log needs the room more.
        Err(_) if repair::no_room(cluster).is_some() => drop_pieces(cluster, id).await,
        #[cfg(feature = "planted-bugs")]
        Err(_) if halite_planted::on(halite_planted::Bug::DiffStartsOver) => {
            drop_pieces(cluster, id).await;
        }
        Err(_) => {}
    }
    brought
}

async fn bring_once(
    cluster: &Arc<Cluster>,
    from: u64,
    addr: &str,
    database: &Arc<Database>,
    under_way: &mut UnderWay<'_>,
) -> Result<(), Status> {
    let start = start(cluster, database).await?;
    let Start {
        mut pieces,
        checksums,
        had_pages,
        kept_pages,
    } = start;
    let begun = blocking(cluster.host(), move || {
        pieces.begin().map(|file| (file, pieces))
    });
    let (file, pieces) = begun.await.map_err(internal)?.map_err(internal)?;
    let piece = Appender::new(file, cluster.host());
    let database_id = database.spec().id.get();
    let requests = checksum_messages(database_id, checksums);
    let state = pull(cluster, from, addr, requests, piece, under_way).await?;
    under_way.pulled();
    info!(
        database_id,
        txid = state.txid,
        bytes = under_way.bytes(),
        had_pages,
        kept_pages,
        "pulled page diff"
    );
    let page_count = state.page_count;
    let merged = blocking(cluster.host(), move || {
        let merged = pieces.merged(page_count);
        (pieces, merged)
    });
    let (pieces, merged) = merged.await.map_err(internal)?;
    let installed = install(database, merged, state).await;
    let keeps = matches!(installed, Err(Refused::ForNow(_)));
    if !keeps {
        // A database that has them needs them no more. Pages that do not lead to where they should are of no use, whichever of them it is.
        let removed = blocking(cluster.host(), move || pieces.remove());
        removed.await.map_err(internal)?.map_err(internal)?;
    }
    if installed.is_ok() && kept_pages > 0 {
        under_way.resumed();
    }
    installed.map_err(|(Refused::ForNow(why) | Refused::ForGood(why))| Status::unavailable(why))
}

/// Why pages were not installed.
enum Refused {
    /// The same pages may be installed later.
    ForNow(String),
    /// These pages never will be.
    ForGood(String),
}

async fn install(
    database: &Database,
    merged: Result<Merged, PageSourceError>,
    state: v1::DatabaseState,
) -> Result<(), Refused> {
    let merged = merged.map_err(|error| Refused::ForGood(error.to_string()))?;
    match database.install_pages(Box::new(merged), state).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error @ InstallError::Io(_))) => Err(Refused::ForNow(error.to_string())),
        Ok(Err(error)) => Err(Refused::ForGood(error.to_string())),
        Err(_) => Err(Refused::ForNow("the database is being closed".to_owned())),
    }
}

/// What an attempt begins with.
struct Start {
    pieces: Pieces,
    /// Of the pages that need not be sent, by page.
    checksums: Vec<u64>,
    had_pages: usize,
    kept_pages: u64,
}

async fn start(cluster: &Arc<Cluster>, database: &Arc<Database>) -> Result<Start, Status> {
    let dir = staging_dir(cluster.data_dir());
    let database = database.clone();
    let started = blocking(cluster.host(), move || {
        let spec = database.spec();
        let mut pieces = Pieces::find(&dir, spec.id.get(), spec.page_size)?;
        let mut checksums = all_checksums(&database);
        let had_pages = checksums.len();
        let kept_pages = pieces.lay_over(&mut checksums)?;
        Ok(Start {
            pieces,
            checksums,
            had_pages,
            kept_pages,
        })
    });
    let started: std::io::Result<Start> = started.await.map_err(internal)?;
    started.map_err(internal)
}

/// Sends what is here, and writes what comes into `piece`. The state that it leads to.
async fn pull(
    cluster: &Arc<Cluster>,
    from: u64,
    addr: &str,
    requests: Vec<v1::PageDiffRequest>,
    mut piece: Appender,
    under_way: &mut UnderWay<'_>,
) -> Result<v1::DatabaseState, Status> {
    let progress = Progress::new();
    let sent = progress.clone();
    let requests = futures::stream::iter(requests).inspect(move |_| sent.made());
    let exchange = async {
        let mut peer = cluster.transport().peer(from, addr, Purpose::Bulk)?;
        let mut request = tonic::Request::new(requests);
        let mark = MetadataValue::from_static("1");
        request.metadata_mut().insert(ANY_PAGES, mark);
        let mut responses = peer.page_diff(request).await?.into_inner();
        while let Some(message) = responses.message().await? {
            progress.made();
            under_way.received(message.data.len());
            piece.write(message.data).await.map_err(internal)?;
            if let Some(state) = message.state {
                return Ok(state);
            }
        }
        Err(Status::unavailable(
            "the page diff ended before it was complete",
        ))
    };
    tokio::select! {
        biased;
        state = exchange => state,
        () = progress.stalled(STALL_MAX) => Err(Status::unavailable(format!(
            "nothing of the page diff has come for {} s",
            STALL_MAX.as_secs()
        ))),
    }
}

/// Whether the caller takes an LTX of any pages.
pub(crate) fn takes_any_pages(metadata: &MetadataMap) -> bool {
    metadata.contains_key(ANY_PAGES)
}

/// Removes what attempts have brought of a database that is well by other means.
pub(crate) async fn forget(cluster: &Cluster, database_id: u64) {
    if cluster.pulls().forget(database_id) {
        drop_pieces(cluster, database_id).await;
    }
}

/// Removes what attempts have brought that nobody has gone on with for long: the database is well by other means, or gone.
pub(crate) async fn drop_unasked(cluster: &Cluster) {
    for database_id in cluster.pulls().take_unasked() {
        drop_pieces(cluster, database_id).await;
    }
}

async fn drop_pieces(cluster: &Cluster, database_id: u64) {
    let dir: PathBuf = staging_dir(cluster.data_dir());
    let removed = blocking(cluster.host(), move || remove_of(&dir, database_id)).await;
    if let Err(error) = removed.and_then(|removed| removed) {
        warn!(database_id, %error, "pages that nobody needs are not removed");
    }
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
