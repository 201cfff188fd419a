//! [`open_destination`]: from an address to a backend.

use std::sync::Arc;

use crate::{Blocking, Destination, DestinationUrl, FileDestination};

/// The backend for an address. Touches nothing yet: a missing directory shows as an empty archive.
pub fn open_destination(url: &DestinationUrl, blocking: Arc<dyn Blocking>) -> Arc<dyn Destination> {
    match url {
        DestinationUrl::File(path) => Arc::new(FileDestination::new(path, blocking)),
    }
}
