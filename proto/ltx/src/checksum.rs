//! [`Checksum`]: a stored 64-bit checksum. Owns the bit-63 rule; computing one is the business of `crc64` and
//! `database_checksum`.

use std::fmt;
use std::str::FromStr;

use crate::ParseError;
use crate::hex;

/// A checksum as the format stores it: bit 63 is always set, so that it differs from the zero of "none".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Checksum(u64);

impl Checksum {
    /// The bit that every stored checksum carries.
    pub const FLAG: u64 = 1 << 63;

    /// Checksum of a database without pages: the bare flag bit.
    pub const EMPTY: Checksum = Checksum(Self::FLAG);

    /// Makes a checksum of any 64 bits (such as a bare CRC) by setting bit 63.
    pub const fn new(value: u64) -> Self {
        Checksum(value | Self::FLAG)
    }

    /// Takes a stored value; `None` if bit 63 is not set, which no stored checksum can have.
    pub const fn from_stored(value: u64) -> Option<Self> {
        if value & Self::FLAG == 0 {
            None
        } else {
            Some(Checksum(value))
        }
    }

    /// The stored value, bit 63 included.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Checksum {
    type Err = ParseError;

    /// Accepts exactly sixteen lowercase hexadecimal digits with bit 63 set.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        hex::parse_u64(text)
            .and_then(Checksum::from_stored)
            .ok_or_else(|| ParseError::Checksum(ParseError::shorten(text)))
    }
}
