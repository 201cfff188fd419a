//! [`Position`]: where a database stands. Owns the text form; comparing histories is the business of callers.

use std::fmt;
use std::str::FromStr;

use crate::{Checksum, ParseError, Txid};

/// State of a database after a transaction: the transaction and the checksum of all pages after it.
///
/// Text form: `<txid>/<checksum>`, sixteen lowercase hexadecimal digits each. Two copies with equal positions hold equal pages;
/// the order (by transaction, then checksum) is for maps and says nothing about histories that have parted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The last transaction applied.
    pub txid: Txid,
    /// Checksum of the database after it.
    pub checksum: Checksum,
}

impl Position {
    /// A database before its first transaction.
    pub const ZERO: Position = Position {
        txid: Txid::ZERO,
        checksum: Checksum::EMPTY,
    };

    /// Pairs a transaction with the checksum of the database after it.
    pub const fn new(txid: Txid, checksum: Checksum) -> Self {
        Position { txid, checksum }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.txid, self.checksum)
    }
}

impl FromStr for Position {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (txid, checksum) = text
            .split_once('/')
            .ok_or_else(|| ParseError::Position(ParseError::shorten(text)))?;
        Ok(Position {
            txid: txid.parse()?,
            checksum: checksum.parse()?,
        })
    }
}
