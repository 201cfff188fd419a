//! An ordinary SQLite file becomes a database: uploaded to a staging file, checked, committed as one transaction.
//!
//! A database that is not there is created. If the import fails, it goes again, unless somebody has written to it: others may know its name.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use halite_proto::v1;
use halite_proto::v1::import_request::Kind;
use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::{Status, Streaming};
use tracing::warn;

use super::status_of;
use crate::cluster::catalog::check_new_name;
use crate::cluster::role::Role;
use crate::cluster::{Cluster, ClusterError};
use crate::database::{Applied, Database, Host, blocking};
use crate::staging_file::{Staged, StagingFile, staging_dir};

/// The 16 bytes that every SQLite file starts with.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// How long a database of the name may take to be created or dropped, and its lane to open.
const SETTLED_TIMEOUT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);

/// One import of a name at a time: two that create and take back would chase each other.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl Turns {
    fn of(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.0.lock();
        turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = turns.get(name).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        turns.insert(name.to_owned(), Arc::downgrade(&turn));
        turn
    }
}

pub(super) async fn import(
    cluster: &Arc<Cluster>,
    turns: &Turns,
    mut pieces: Streaming<v1::ImportRequest>,
) -> Result<v1::ImportResponse, Status> {
    let first = pieces.message().await?.and_then(|m| m.kind);
    let Some(Kind::Begin(begin)) = first else {
        return Err(ClusterError::invalid("the first message has to be begin".into()).into());
    };
    check_new_name(&cluster.shared().catalog.lock(), &begin.database)?;
    let file = receive(cluster, &begin, pieces).await?;
    let page_size = page_size_of(cluster.host(), file.path().to_path_buf())
        .await
        .map_err(Status::from)?;
    let turn = turns.of(&begin.database).lock_owned().await;
    let import = Import {
        cluster: cluster.clone(),
        begin,
        file,
        page_size,
        created: None,
        displaced: None,
    };
    // A caller that leaves ends this call, and must not end what was begun: nobody would take back what was created.
    let imported = tokio::spawn(async move {
        let imported = import.run().await;
        drop(turn);
        imported
    });
    let applied = imported
        .await
        .map_err(|e| Status::from(ClusterError::internal(format!("the import ended: {e}"))))?
        .map_err(|e| status_of(&e))?;
    Ok(v1::ImportResponse {
        txid: applied.position.txid.get(),
        page_count: applied.page_count,
        page_size,
        session_index: applied.raft_index,
    })
}

/// An uploaded file on its way into a database.
struct Import {
    cluster: Arc<Cluster>,
    begin: v1::ImportBegin,
    file: Staged,
    page_size: u32,
    /// The database that was created for it, by its id: nothing else is ever taken back.
    created: Option<u64>,
    /// Page size of a blank database that made way for it.
    displaced: Option<u32>,
}

impl Import {
    async fn run(mut self) -> Result<Applied, v1::Error> {
        let deadline = Instant::now() + SETTLED_TIMEOUT;
        let error = loop {
            match self.attempt().await {
                Ok(applied) => return Ok(applied),
                Err(error) if Instant::now() < deadline && self.may_pass(&error) => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => break error,
            }
        };
        Err(self.take_back(error).await)
    }

    /// Nothing was written, and that may be different in a moment: the lane of a new database opens, or another one of the name goes away.
    fn may_pass(&self, error: &v1::Error) -> bool {
        match error.code() {
            v1::ErrorCode::Unavailable => true,
            v1::ErrorCode::NotPrimary => matches!(self.cluster.role(), Role::Primary { .. }),
            _ => false,
        }
    }

    async fn attempt(&mut self) -> Result<Applied, v1::Error> {
        let database = self.target().await.map_err(|e| e.to_wire())?;
        let imported = database.import(self.file.path().to_path_buf(), self.begin.overwrite);
        imported.await.unwrap_or_else(|_| {
            Err(ClusterError::unavailable("the database is being closed".into()).to_wire())
        })
    }

    /// The database of this name with the page size of the file; it is created if need be.
    async fn target(&mut self) -> Result<Arc<Database>, ClusterError> {
        let name = &self.begin.database;
        match self.cluster.shared().database(name) {
            Ok(database) if database.spec().page_size.get() == self.page_size => {
                return Ok(database);
            }
            Ok(database) => self.displaced = Some(self.make_way(&database).await?),
            Err(error) if error.code == v1::ErrorCode::NoSuchDatabase => {}
            Err(error) => return Err(error),
        }
        let id = match self.cluster.create_database(name, self.page_size).await {
            Ok(id) => id,
            Err(error) if error.code == v1::ErrorCode::AlreadyExists => {
                return Err(ClusterError::unavailable(format!(
                    "database {name:?} was created by somebody else at this moment"
                )));
            }
            Err(error) => return Err(error),
        };
        self.created = Some(id);
        self.cluster.shared().database_or_why(id, name)
    }

    /// Drops a blank database of another page size; which one it has.
    async fn make_way(&self, database: &Database) -> Result<u32, ClusterError> {
        let (name, page_size) = (&self.begin.database, database.spec().page_size.get());
        if database.status().applied.page_count > 0 {
            return Err(ClusterError::invalid(format!(
                "the file has page size {}, database {name:?} has {page_size}: drop the database first, or import under another name",
                self.page_size
            )));
        }
        if !self.cluster.drop_blank(database).await? {
            return Err(ClusterError::unavailable(format!(
                "database {name:?} has page size {page_size}, the file has {}, and somebody is using it",
                self.page_size
            )));
        }
        Ok(page_size)
    }

    /// After a failure: what was created for this import goes, if nobody has used it. Says so where it stays.
    async fn take_back(&self, error: v1::Error) -> v1::Error {
        let Some(id) = self.created else {
            return error;
        };
        let dropped = match self.cluster.shared().database_by_id(id) {
            Some(database) => self.cluster.drop_blank(&database).await,
            None => Ok(false),
        };
        let name = &self.begin.database;
        match (dropped, self.displaced) {
            (Ok(true), Some(page_size)) => {
                let put_back = self.cluster.create_database(name, page_size).await;
                if let Err(why) = put_back {
                    warn!(database = %name, %why, "a blank database is gone that made way for an import which failed");
                }
                error
            }
            (Ok(true), None) => error,
            (Ok(false) | Err(_), _) => v1::Error {
                message: format!(
                    "{}. Database {name:?} was created for this import and is left there: somebody may have written to it",
                    error.message
                ),
                ..error
            },
        }
    }
}

async fn receive(
    cluster: &Cluster,
    begin: &v1::ImportBegin,
    mut pieces: Streaming<v1::ImportRequest>,
) -> Result<Staged, Status> {
    let dir = staging_dir(cluster.data_dir());
    let failed = |error: io::Error| {
        Status::from(ClusterError::internal(format!(
            "upload not stored: {error}"
        )))
    };
    let mut file = StagingFile::create(dir, "import-", ".db", cluster.host())
        .await
        .map_err(failed)?;
    let mut received = 0_u64;
    while let Some(piece) = pieces.message().await? {
        let Some(Kind::Data(data)) = piece.kind else {
            return Err(ClusterError::invalid("begin may come only once".into()).into());
        };
        received += data.len() as u64;
        file.write(data).await.map_err(failed)?;
    }
    if received != begin.size_bytes {
        return Err(ClusterError::invalid(format!(
            "the upload is not complete: expected bytes={}, received bytes={received}",
            begin.size_bytes
        ))
        .into());
    }
    Ok(file.into_staged())
}

/// Page size from the header of a SQLite file.
async fn page_size_of(host: &Arc<dyn Host>, path: std::path::PathBuf) -> Result<u32, ClusterError> {
    let read = blocking(host, move || {
        let mut header = [0_u8; 18];
        io::Read::read_exact(&mut std::fs::File::open(path)?, &mut header)?;
        Ok::<_, io::Error>(header)
    });
    let not_sqlite = || ClusterError::invalid("the file is not a SQLite database".into());
    let header = read
        .await
        .map_err(|e| ClusterError::internal(e.to_string()))?
        .map_err(|_| not_sqlite())?;
    if &header[..16] != MAGIC {
        return Err(not_sqlite());
    }
    Ok(match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        size => size.into(),
    })
}
