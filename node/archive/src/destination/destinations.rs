//! [`Destinations`]: where addresses of archives lead to.
//!
//! The seam at which the simulation puts a [`MemStore`](crate::MemStore); everybody else takes [`Backends`].

use std::fmt;
use std::sync::Arc;

use crate::{Blocking, Destination, DestinationUrl, UrlError, open_destination};

/// Opens destinations by their addresses.
pub trait Destinations: Send + Sync + fmt::Debug {
    /// The destination at `url`. Touches nothing yet: what is missing there shows as an empty archive.
    ///
    /// # Errors
    /// [`UrlError`] if the text names none.
    fn open(&self, url: &str) -> Result<Arc<dyn Destination>, UrlError>;
}

/// The backends that this build has, by [`DestinationUrl`].
#[derive(Clone, Debug)]
pub struct Backends {
    blocking: Arc<dyn Blocking>,
}

impl Backends {
    /// Destinations whose file calls run in `blocking`.
    pub fn new(blocking: Arc<dyn Blocking>) -> Self {
        Backends { blocking }
    }
}

impl Destinations for Backends {
    fn open(&self, url: &str) -> Result<Arc<dyn Destination>, UrlError> {
        let url = DestinationUrl::parse(url)?;
        Ok(open_destination(&url, Arc::clone(&self.blocking)))
    }
}
