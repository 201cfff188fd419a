//! [`MemDestination`]: an archive in a [`MemStore`].

use std::io::Cursor;

use bytes::Bytes;
use futures::future::BoxFuture;
use halite_ltx::Txid;

use super::mem_store::Object;
use crate::{
    Content, Destination, DestinationError, FileInfo, FileKey, FileReader, Level, MemStore,
    StoreAction, StoreRequest, Upload, run_blocking,
};

/// An archive in memory, beside others in the same store.
#[derive(Clone, Debug)]
pub struct MemDestination {
    url: String,
    store: MemStore,
    path: String,
}

impl MemDestination {
    pub(super) fn new(store: MemStore, path: &str) -> Self {
        MemDestination {
            url: format!("mem://{}/{path}", store.bucket()),
            store,
            path: path.to_owned(),
        }
    }

    fn request(&self, action: StoreAction, level: Level, key: Option<FileKey>) -> StoreRequest<'_> {
        StoreRequest {
            action,
            path: &self.path,
            level,
            key,
            bytes: 0,
        }
    }

    fn name(&self, key: FileKey) -> (String, FileKey) {
        (self.path.clone(), key)
    }

    async fn list_objects(
        &self,
        level: Level,
        seek: Txid,
    ) -> Result<Vec<FileInfo>, DestinationError> {
        let request = self.request(StoreAction::List, level, None);
        let first = self.name(FileKey::new(level, seek, Txid::ZERO));
        self.store
            .request(request, |objects| {
                let files = objects
                    .range(first..)
                    .take_while(|((path, key), _)| *path == self.path && key.level == level)
                    .map(|((_, key), object)| info(*key, object));
                Ok(files.collect())
            })
            .await
    }

    async fn open_object(
        &self,
        key: FileKey,
        offset: u64,
        len: Option<u64>,
    ) -> Result<FileReader, DestinationError> {
        let request = self.request(StoreAction::Open, key.level, Some(key));
        let bytes = self
            .store
            .request(request, |objects| match objects.get(&self.name(key)) {
                Some(object) => Ok(object.bytes.clone()),
                None => Err(DestinationError::NotFound {
                    url: self.url.clone(),
                    key,
                }),
            })
            .await?;
        let clamp = |at: u64| usize::try_from(at).map_or(bytes.len(), |at| at.min(bytes.len()));
        let end = len.map_or(bytes.len(), |len| clamp(offset.saturating_add(len)));
        Ok(Box::new(Cursor::new(bytes.slice(clamp(offset)..end))))
    }

    async fn put_object(&self, upload: Upload) -> Result<FileInfo, DestinationError> {
        let Upload {
            key,
            timestamp,
            content,
        } = upload;
        let bytes = self.produce(key, content).await?;
        let mut request = self.request(StoreAction::Put, key.level, Some(key));
        request.bytes = bytes.len() as u64;
        let object = Object { bytes, timestamp };
        self.store
            .request(request, |objects| {
                let stored = objects.entry(self.name(key)).or_insert(object.clone());
                if stored.bytes != object.bytes {
                    return Err(DestinationError::Conflict {
                        url: self.url.clone(),
                        key,
                    });
                }
                Ok(info(key, &object))
            })
            .await
    }

    /// All bytes of the content, before anything is sent: what a failing or killed producer leaves is never seen.
    async fn produce(&self, key: FileKey, content: Content) -> Result<Bytes, DestinationError> {
        let write = match content {
            Content::Bytes(bytes) => return Ok(bytes),
            Content::Writer(write) => write,
        };
        let produced = run_blocking(self.store.blocking(), move || {
            let mut bytes = Vec::new();
            write(&mut bytes).map(|()| Bytes::from(bytes))
        });
        produced
            .await?
            .map_err(|source| DestinationError::Content { key, source })
    }

    async fn delete_objects(&self, keys: Vec<FileKey>) -> Result<(), DestinationError> {
        for key in keys {
            let request = self.request(StoreAction::Delete, key.level, Some(key));
            self.store
                .request(request, |objects| {
                    objects.remove(&self.name(key));
                    Ok(())
                })
                .await?;
        }
        Ok(())
    }
}

impl Destination for MemDestination {
    fn url(&self) -> &str {
        &self.url
    }

    fn list(
        &self,
        level: Level,
        seek: Txid,
    ) -> BoxFuture<'_, Result<Vec<FileInfo>, DestinationError>> {
        Box::pin(self.list_objects(level, seek))
    }

    fn open(
        &self,
        key: FileKey,
        offset: u64,
        len: Option<u64>,
    ) -> BoxFuture<'_, Result<FileReader, DestinationError>> {
        Box::pin(self.open_object(key, offset, len))
    }

    fn put(&self, upload: Upload) -> BoxFuture<'_, Result<FileInfo, DestinationError>> {
        Box::pin(self.put_object(upload))
    }

    fn delete(&self, keys: Vec<FileKey>) -> BoxFuture<'_, Result<(), DestinationError>> {
        Box::pin(self.delete_objects(keys))
    }
}

pub(super) fn info(key: FileKey, object: &Object) -> FileInfo {
    FileInfo {
        key,
        bytes: object.bytes.len() as u64,
        timestamp: object.timestamp,
    }
}
