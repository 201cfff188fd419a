//! [`Keep`] and [`Kept`]: what an operator says counts of a database that needs repair, and what came of it.

mod unfinished;

use std::path::PathBuf;

use super::{Applied, Leadership};
pub(crate) use unfinished::Unfinished;

/// Which of the two counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// What is in the file: it enters the log as one transaction.
    File {
        /// Under this leadership.
        leadership: Leadership,
        /// Also where the log's version cannot be had: what was committed and is not in the file is lost then.
        force: bool,
    },
    /// What the log and the catalog say.
    Log,
}

/// A database that is well again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Where it is now.
    pub applied: Applied,
    /// A copy of what does not count, or why there is none.
    pub other: Result<PathBuf, String>,
}
