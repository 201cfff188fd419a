//! [`Progress`]: whether requests to a destination come back, or at least move something.
//!
//! Counts only; [`Standstill`] sees from look to look how long nothing has moved. A request that hangs shows to nobody else: no system call gives it
//! an end, and the task that waits for it waits for ever.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use halite_archive::{
    Content, Destination, DestinationError, FileInfo, FileKey, FileReader, Level, Upload,
};
use halite_ltx::Txid;
use tokio::time::Instant;

/// What requests have moved so far.
#[derive(Debug, Default)]
pub(super) struct Progress {
    under_way: AtomicU64,
    /// Requests that came back, and pieces of content.
    moved: AtomicU64,
}

impl Progress {
    fn request(self: &Arc<Self>) -> Request {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        Request(self.clone())
    }

    fn moves(&self) {
        self.moved.fetch_add(1, Ordering::Relaxed);
    }
}

/// Until it is dropped, a request is under way.
struct Request(Arc<Progress>);

impl Drop for Request {
    fn drop(&mut self) {
        self.0.moves();
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long a request has moved nothing, as far as somebody looks.
pub(super) struct Standstill {
    progress: Arc<Progress>,
    moved: u64,
    since: Instant,
}

impl Default for Standstill {
    fn default() -> Self {
        Self {
            progress: Arc::default(),
            moved: 0,
            since: Instant::now(),
        }
    }
}

impl Standstill {
    pub(super) fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// Looks; for how long requests have been under way and nothing moved.
    pub(super) fn lasts(&mut self) -> Duration {
        let moved = self.progress.moved.load(Ordering::Relaxed);
        let idle = self.progress.under_way.load(Ordering::Relaxed) == 0;
        if idle || moved != self.moved {
            (self.moved, self.since) = (moved, Instant::now());
        }
        self.since.elapsed()
    }
}

/// A destination whose requests are counted.
#[derive(Debug)]
pub(super) struct Counted {
    destination: Arc<dyn Destination>,
    progress: Arc<Progress>,
}

impl Counted {
    pub(super) fn new(destination: Arc<dyn Destination>, progress: Arc<Progress>) -> Self {
        Self {
            destination,
            progress,
        }
    }
}

impl Destination for Counted {
    fn url(&self) -> &str {
        self.destination.url()
    }

    fn list(
        &self,
        level: Level,
        seek: Txid,
    ) -> BoxFuture<'_, Result<Vec<FileInfo>, DestinationError>> {
        Box::pin(async move {
            let _request = self.progress.request();
            self.destination.list(level, seek).await
        })
    }

    fn dated(
        &self,
        files: Vec<FileInfo>,
    ) -> BoxFuture<'_, Result<Vec<FileInfo>, DestinationError>> {
        Box::pin(async move {
            let _request = self.progress.request();
            self.destination.dated(files).await
        })
    }

    fn open(
        &self,
        key: FileKey,
        offset: u64,
        len: Option<u64>,
    ) -> BoxFuture<'_, Result<FileReader, DestinationError>> {
        Box::pin(async move {
            let _request = self.progress.request();
            let reader = self.destination.open(key, offset, len).await?;
            let progress = self.progress.clone();
            Ok(Box::new(Moving(reader, progress)) as FileReader)
        })
    }

    fn put(&self, upload: Upload) -> BoxFuture<'_, Result<FileInfo, DestinationError>> {
        Box::pin(async move {
            let _request = self.progress.request();
            let progress = self.progress.clone();
            let content = match upload.content {
                Content::Bytes(bytes) => Content::Bytes(bytes),
                Content::Writer(write) => {
                    Content::Writer(Box::new(move |target| write(&mut Moving(target, progress))))
                }
            };
            self.destination.put(Upload { content, ..upload }).await
        })
    }

    fn delete(&self, keys: Vec<FileKey>) -> BoxFuture<'_, Result<(), DestinationError>> {
        Box::pin(async move {
            let _request = self.progress.request();
            self.destination.delete(keys).await
        })
    }
}

/// Content on its way.
struct Moving<T>(T, Arc<Progress>);

impl<T: Read> Read for Moving<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.0.read(buffer)?;
        self.1.moves();
        Ok(length)
    }
}

impl<T: Write> Write for Moving<T> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let length = self.0.write(buffer)?;
        self.1.moves();
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_stands_still_while_it_moves_nothing() {
        let mut stands = Standstill::default();
        let progress = stands.progress();
        let second = Duration::from_secs(1);
        tokio::time::advance(second).await;
        assert_eq!(stands.lasts(), Duration::ZERO, "nothing is under way");
        let request = progress.request();
        tokio::time::advance(second).await;
        assert_eq!(stands.lasts(), second);
        let mut content = Moving(Vec::new(), progress.clone());
        content.write_all(b"a").unwrap();
        assert_eq!(stands.lasts(), Duration::ZERO, "something has moved");
        tokio::time::advance(second).await;
        let other = progress.request();
        assert_eq!(stands.lasts(), second, "one that begins moves nothing");
        drop(other);
        assert_eq!(stands.lasts(), Duration::ZERO);
        tokio::time::advance(second).await;
        drop(request);
        tokio::time::advance(second).await;
        assert_eq!(stands.lasts(), Duration::ZERO, "it came back");
    }
}
