//! [`Txid`]: the number of a transaction. Owns its text form; never decides whether a number is contiguous.

use std::fmt;
use std::str::FromStr;

use crate::ParseError;
use crate::hex;

/// Transaction id of one database: 1 for the first transaction, then one more for each LTX.
///
/// Zero stands for "before the first transaction" and never appears in a valid file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Txid(u64);

impl Txid {
    /// The position before the first transaction.
    pub const ZERO: Txid = Txid(0);

    /// Wraps a number; zero is allowed and means "before the first transaction".
    pub const fn new(value: u64) -> Self {
        Txid(value)
    }

    /// The bare number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// True for [`Txid::ZERO`].
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The id after this one; stays at the largest id (which no database reaches) instead of wrapping to zero.
    #[must_use]
    pub const fn next(self) -> Self {
        Txid(self.0.saturating_add(1))
    }

    /// The id before this one; `None` for [`Txid::ZERO`].
    pub const fn previous(self) -> Option<Self> {
        match self.0.checked_sub(1) {
            Some(value) => Some(Txid(value)),
            None => None,
        }
    }
}

impl fmt::Display for Txid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Txid {
    type Err = ParseError;

    /// Accepts exactly sixteen lowercase hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        hex::parse_u64(text)
            .map(Txid)
            .ok_or_else(|| ParseError::Txid(ParseError::shorten(text)))
    }
}
