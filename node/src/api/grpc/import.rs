//! An ordinary SQLite file becomes a database: uploaded to a staging file, checked, committed as one transaction.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use halite_proto::v1;
use halite_proto::v1::import_request::Kind;
use tokio::time::Instant;
use tonic::{Status, Streaming};

use super::status_of;
use crate::cluster::{Cluster, ClusterError};
use crate::database::{Host, blocking};
use crate::staging_file::{StagingFile, staging_dir};

/// The 16 bytes that every SQLite file starts with.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// How long the lane may take to open on a database that was just created.
const CREATED_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn import(
    cluster: &Arc<Cluster>,
    mut pieces: Streaming<v1::ImportRequest>,
) -> Result<v1::ImportResponse, Status> {
    let first = pieces.message().await?.and_then(|m| m.kind);
    let Some(Kind::Begin(begin)) = first else {
        return Err(ClusterError::invalid("the first message has to be begin".into()).into());
    };
    let path = receive(cluster, &begin, pieces).await?;
    let page_size = page_size_of(cluster.host(), path.to_path_buf())
        .await
        .map_err(Status::from)?;

    let existing = match cluster.shared().database(&begin.database) {
        Ok(database) => Some(database),
        Err(error) if error.code == v1::ErrorCode::NoSuchDatabase => None,
        Err(error) => return Err(error.into()),
    };
    let created = match &existing {
        Some(database) if database.spec().page_size.get() == page_size => false,
        Some(database) => {
            let applied = database.status().applied;
            if applied.page_count > 0 {
                return Err(ClusterError::invalid(format!(
                    "the file has page size {page_size}, database {:?} has {}: drop the database first, or import under another name",
                    begin.database,
                    database.spec().page_size.get()
                ))
                .into());
            }
            cluster.drop_database(&begin.database).await?;
            cluster.create_database(&begin.database, page_size).await?;
            true
        }
        None => {
            cluster.create_database(&begin.database, page_size).await?;
            true
        }
    };
    let database = cluster.shared().database(&begin.database)?;
    let result = commit(&database, &path, begin.overwrite).await;
    if result.is_err() && created {
        // Nothing of a failed import stays behind.
        let _ = cluster.drop_database(&begin.database).await;
    }
    let applied = result.map_err(|e| status_of(&e))?;
    Ok(v1::ImportResponse {
        txid: applied.position.txid.get(),
        page_count: applied.page_count,
        page_size,
        session_index: applied.raft_index,
    })
}

async fn commit(
    database: &crate::database::Database,
    path: &tempfile::TempPath,
    overwrite: bool,
) -> Result<crate::database::Applied, v1::Error> {
    let deadline = Instant::now() + CREATED_TIMEOUT;
    loop {
        let imported = database.import(path.to_path_buf(), overwrite).await;
        let result = imported.unwrap_or_else(|_| {
            Err(ClusterError::unavailable("the database is being closed".into()).to_wire())
        });
        match result {
            // A lane opens a moment after its database was created; nothing was written.
            Err(error)
                if error.code() == v1::ErrorCode::NotPrimary && Instant::now() < deadline =>
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            other => return other,
        }
    }
}

async fn receive(
    cluster: &Cluster,
    begin: &v1::ImportBegin,
    mut pieces: Streaming<v1::ImportRequest>,
) -> Result<tempfile::TempPath, Status> {
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
    Ok(file.into_path())
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
