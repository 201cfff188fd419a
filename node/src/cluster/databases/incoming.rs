//! Databases that come by page diff before their creation is applied here: a node that is below the log takes a snapshot in database by
//! database, and keeps what it has when that breaks off.
//!
//! Such a database has a slot and its files at their place like any other, and the catalog of this node does not know it: nobody finds it by its
//! name, so nobody reads a state that the applied index contradicts. That its file is its own is noted, with its name, before the file is made;
//! so a crash leaves no file of which nothing is known. Later one of these happens:
//!
//! * the snapshot is taken, or the entry that creates the database is applied after all: it keeps its slot, and skips what it has;
//! * another snapshot is taken that does not know it, or another database of its name is created (both are older in the log, and dropped there):
//!   it is given up, and its files are removed;
//! * the node starts again: the files stay, closed, and are opened when the next snapshot is offered.
//!
//! Where files of another database lie at its place, it cannot come before that one is dropped here, too.

use std::io;
use std::sync::Arc;

use super::opening::open;
use crate::cluster::catalog::CatalogDatabase;
use crate::cluster::state_machine::Shared;
use crate::database::Database;

/// The database of an offered snapshot, open, so that its pages can be put in. `None` if it cannot be open now: it is tried again by itself, or
/// its place is taken.
pub(crate) async fn welcome(
    shared: &Arc<Shared>,
    database: &CatalogDatabase,
) -> Option<Arc<Database>> {
    let id = database.id;
    if let Some(open) = shared.databases.get(id) {
        return Some(open);
    }
    {
        // Held, so that no entry creates it, or another one of its name, in between.
        let catalog = shared.catalog.lock();
        if catalog.knows(id) || catalog.by_name(&database.name).is_some() {
            return None;
        }
        // If it has a slot already, it is tried now.
        shared.databases.welcome(database.clone());
    }
    open(shared, id).await;
    shared.databases.get(id)
}

/// Files that an earlier run of this node has made for databases that the catalog does not know.
pub(super) fn left_by_earlier_runs(shared: &Shared) -> io::Result<Vec<CatalogDatabase>> {
    let made = shared.opener.made()?;
    let catalog = shared.catalog.lock();
    let strangers = made.into_iter().filter(|(id, _)| !catalog.knows(*id));
    let incoming = strangers.map(|(id, name)| CatalogDatabase {
        id,
        name,
        page_size: 0,
        dropped: false,
        newest: None,
    });
    Ok(incoming.collect())
}
