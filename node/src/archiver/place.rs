//! Where one of several databases of a name is archived: the first at the place of the name, later ones beside it, by their number in the catalog.
//!
//! Owns this rule of names, and what is opened by it. Followed by the archiver, and read back by `halite restore` and `halite status`.

use std::sync::Arc;

use halite_archive::Destination;

use super::progress::{Counted, Progress};

/// Where one database is archived.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) url: String,
    pub(super) destination: Arc<dyn Destination>,
}

impl Place {
    /// The same, with requests that are counted.
    pub(super) fn counted(&self, progress: Arc<Progress>) -> Self {
        Self {
            url: self.url.clone(),
            destination: Arc::new(Counted::new(self.destination.clone(), progress)),
        }
    }
}

/// No database name holds it.
const NUMBER: char = '~';

/// Beside `place`, an address or a path.
pub fn beside(place: &str, database_id: u64) -> String {
    format!("{}{NUMBER}{database_id}", place.trim_end_matches('/'))
}

/// The name of the database that is archived in a directory of this name.
pub(crate) fn database_of(directory: &str) -> &str {
    directory.split(NUMBER).next().unwrap_or(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_beside_another_is_of_the_same_name() {
        assert_eq!(beside("file:///a/app/", 17), "file:///a/app~17");
        assert_eq!(database_of("app~17"), "app");
        assert_eq!(database_of("app"), "app");
    }
}
