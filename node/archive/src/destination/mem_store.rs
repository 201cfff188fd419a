//! [`MemStore`]: an object store in memory for the simulation.
//!
//! Owns the objects of all archives in it, and asks for the fate of every request before it serves it. It outlives the nodes that
//! use it, as a bucket outlives a machine. No threads, no files: time comes from tokio, content is produced through [`Blocking`].

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::Mutex;

use super::mem_destination::info;

pub use counts::StoreCounts;
pub use fate::{StoreAction, StoreFate, StoreRequest};

use crate::{
    Blocking, Destination, DestinationError, DestinationUrl, Destinations, FileInfo, FileKey,
    MemDestination, UrlError,
};

mod counts;
mod fate;

/// The store. Clones are the same store.
#[derive(Clone)]
pub struct MemStore {
    shared: Arc<Shared>,
}

struct Shared {
    bucket: String,
    blocking: Arc<dyn Blocking>,
    state: Mutex<State>,
}

type Faults = Box<dyn FnMut(&StoreRequest<'_>) -> StoreFate + Send>;

#[derive(Default)]
struct State {
    objects: Objects,
    faults: Option<Faults>,
    counts: StoreCounts,
}

/// What is stored, by the archive's path and the file's name in it.
pub(super) type Objects = BTreeMap<(String, FileKey), Object>;

#[derive(Clone)]
pub(super) struct Object {
    pub(super) bytes: Bytes,
    pub(super) timestamp: Timestamp,
}

impl MemStore {
    /// An empty store without faults and delays. What is uploaded gets produced in `blocking`: [`Inline`](crate::Inline) in the
    /// simulation.
    pub fn new(bucket: impl Into<String>, blocking: Arc<dyn Blocking>) -> Self {
        MemStore {
            shared: Arc::new(Shared {
                bucket: bucket.into(),
                blocking,
                state: Mutex::default(),
            }),
        }
    }

    /// The archive `mem://<bucket>/<path>`. Slashes around `path` do not count.
    pub fn destination(&self, path: &str) -> MemDestination {
        MemDestination::new(self.clone(), path.trim_matches('/'))
    }

    /// From now on asks `faults` before each request. It must not call the store. Seed it: the simulation must repeat.
    pub fn set_faults(&self, faults: impl FnMut(&StoreRequest<'_>) -> StoreFate + Send + 'static) {
        self.shared.state.lock().faults = Some(Box::new(faults));
    }

    /// From now on every request succeeds at once. Requests that are under way keep their fate.
    pub fn clear_faults(&self) {
        self.shared.state.lock().faults = None;
    }

    /// Somebody else removes the objects that `goes` picks, by the archive's path and the file's name. How many went.
    pub fn lose(&self, mut goes: impl FnMut(&str, FileKey) -> bool) -> usize {
        let objects = &mut self.shared.state.lock().objects;
        let before = objects.len();
        objects.retain(|(path, key), _| !goes(path, *key));
        before - objects.len()
    }

    /// What is in an archive at this moment, without a request.
    pub fn files(&self, path: &str) -> Vec<FileInfo> {
        let state = self.shared.state.lock();
        let of_it = state.objects.iter().filter(|((at, _), _)| at == path);
        of_it.map(|((_, key), object)| info(*key, object)).collect()
    }

    /// Requests and injected faults so far.
    pub fn counts(&self) -> StoreCounts {
        self.shared.state.lock().counts
    }

    pub(super) fn bucket(&self) -> &str {
        &self.shared.bucket
    }

    pub(super) fn blocking(&self) -> &dyn Blocking {
        &*self.shared.blocking
    }

    /// Sends one request; `effect` is what the store does when it arrives, all at once.
    ///
    /// If the returned future is dropped, the effect has taken place or it never will.
    pub(super) async fn request<T>(
        &self,
        request: StoreRequest<'_>,
        effect: impl FnOnce(&mut Objects) -> Result<T, DestinationError>,
    ) -> Result<T, DestinationError> {
        match self.fate(&request) {
            StoreFate::Done { before, after } => {
                wait(before).await;
                let result = effect(&mut self.shared.state.lock().objects);
                wait(after).await;
                result
            }
            StoreFate::Unavailable => Err(self.unavailable(&request)),
            StoreFate::UnavailableAfterEffect { before, after } => {
                wait(before).await;
                // The caller never learns the result, be it good or bad.
                drop(effect(&mut self.shared.state.lock().objects));
                wait(after).await;
                Err(self.unavailable(&request))
            }
            StoreFate::TimesOut { delay } => {
                wait(delay).await;
                let kind = io::ErrorKind::TimedOut;
                Err(self.fault(&request, kind, "injected fault: request timed out"))
            }
        }
    }

    fn fate(&self, request: &StoreRequest<'_>) -> StoreFate {
        let state = &mut *self.shared.state.lock();
        let fate = match &mut state.faults {
            Some(faults) => faults(request),
            None => StoreFate::DONE,
        };
        state.counts.add(request.action, fate);
        fate
    }

    fn unavailable(&self, request: &StoreRequest<'_>) -> DestinationError {
        let kind = io::ErrorKind::Other;
        self.fault(request, kind, "injected fault: 503 Service Unavailable")
    }

    fn fault(
        &self,
        request: &StoreRequest<'_>,
        kind: io::ErrorKind,
        text: &str,
    ) -> DestinationError {
        let name = match request.key {
            Some(key) => key.to_string(),
            None => request.level.to_string(),
        };
        DestinationError::Io {
            action: request.action.as_str(),
            path: PathBuf::from(format!("mem://{}/{}/{name}", self.bucket(), request.path)),
            source: io::Error::new(kind, text),
        }
    }
}

impl Destinations for MemStore {
    /// Knows only its own addresses, `mem://<bucket>/<path>`.
    fn open(&self, url: &str) -> Result<Arc<dyn Destination>, UrlError> {
        let path = url
            .strip_prefix("mem://")
            .and_then(|rest| rest.strip_prefix(self.bucket()))
            .and_then(|rest| rest.strip_prefix('/'));
        match path {
            Some(path) => Ok(Arc::new(self.destination(path))),
            // A real address, or one that nobody knows: neither leads out of the simulation.
            None => Err(match DestinationUrl::parse(url) {
                Err(error) => error,
                Ok(_) => UrlError::UnsupportedScheme {
                    scheme: url.split("://").next().unwrap_or(url).to_owned(),
                    supported: format!("mem://{}", self.bucket()),
                },
            }),
        }
    }
}

impl fmt::Debug for MemStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemStore")
            .field("bucket", &self.shared.bucket)
            .finish_non_exhaustive()
    }
}

/// A zero delay is none: tokio's shortest sleep is a millisecond.
async fn wait(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}
