//! [`Level`]: the tiers of the archive. Owns their numbers; when files move between them is decided elsewhere.

use std::fmt;

/// A tier of the archive: 0 holds what each sync uploaded, 1 to 8 hold merged files, 9 holds snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(u8);

impl Level {
    /// Files as they were synced.
    pub const ZERO: Level = Level(0);
    /// Whole databases, each as one file that starts at TXID 1.
    pub const SNAPSHOT: Level = Level(9);

    /// A level from its number; `None` above 9.
    pub const fn new(number: u8) -> Option<Self> {
        if number <= Self::SNAPSHOT.0 {
            Some(Level(number))
        } else {
            None
        }
    }

    /// The number, 0 to 9.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// All levels, lowest first.
    pub fn all() -> impl DoubleEndedIterator<Item = Level> + ExactSizeIterator {
        const COUNT: u8 = Level::SNAPSHOT.0 + 1;
        (0..usize::from(COUNT)).map(|number| Level(number as u8))
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
