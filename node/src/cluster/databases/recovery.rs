//! What a start makes of the databases that the last run has left: opens those of the catalog, removes what is left of dropped ones.
//!
//! Only the log can make it fail.

use std::io;
use std::sync::Arc;

use halite_log::{LogStore, MetaKey};
use tracing::info;

use super::incoming::left_by_earlier_runs;
use super::opening::open;
use crate::cluster::catalog::CatalogDatabase;
use crate::cluster::state_machine::Shared;

/// Brings every database of the catalog to the applied index, or leaves it to the tending task.
pub(crate) async fn recover(shared: &Arc<Shared>) -> io::Result<()> {
    shared.opener.remove_left_over_imports();
    let (present, dropped): (Vec<CatalogDatabase>, Vec<CatalogDatabase>) = {
        let catalog = shared.catalog.lock();
        let dropped = catalog.dropped().cloned().collect();
        (catalog.databases().cloned().collect(), dropped)
    };
    note_made_before(shared, &present).await?;
    let incoming = left_by_earlier_runs(shared)?;
    let here: Vec<_> = present.iter().chain(&incoming).cloned().collect();
    shared.databases.note_incoming(incoming);
    for database in dropped {
        if shared.opener.is_made(database.id)? {
            left_over(shared, &here, database).await?;
        }
    }
    for database in present {
        let id = database.id;
        shared.databases.add(database);
        open(shared, id).await;
    }
    Ok(())
}

/// A crash has come between a drop and the removal of the files.
async fn left_over(
    shared: &Arc<Shared>,
    here: &[CatalogDatabase],
    dropped: CatalogDatabase,
) -> io::Result<()> {
    let successor = here.iter().find(|d| d.name == dropped.name);
    if let Some(successor) = successor
        && shared.opener.is_made(successor.id)?
    {
        // The files are of the new one.
        return shared.opener.forget(dropped.id).await;
    }
    info!(database = %dropped.name, id = dropped.id, "files of a dropped database are left over");
    let id = dropped.id;
    shared.databases.drop_later(dropped);
    super::tend::remove(shared, id).await;
    Ok(())
}

/// Files are noted as made since this key is there; those that were there before are taken to be.
async fn note_made_before(shared: &Arc<Shared>, present: &[CatalogDatabase]) -> io::Result<()> {
    let key = MetaKey::node("databases-noted").expect("a constant key without slashes");
    if shared
        .log
        .meta_get(&key)
        .map_err(io::Error::other)?
        .is_some()
    {
        return Ok(());
    }
    shared.opener.note_made(present).await?;
    note(&shared.log, key).await
}

async fn note(log: &LogStore, key: MetaKey) -> io::Result<()> {
    let noted = log.meta_put(vec![(key, Some(b"1".as_slice().into()))], true);
    noted.await.map_err(io::Error::other)
}
