//! [`Crc64`]: CRC-64/GO-ISO, the one checksum algorithm of the format.
//!
//! Owns the choice of the implementation (carry-less multiplication where the processor has it). Called for every page
//! that is written or read.

use crc_fast::{CrcAlgorithm, Digest};

use crate::Checksum;

/// A running CRC-64/GO-ISO (reflected polynomial 0xd800000000000000, initial value and final xor all ones).
#[derive(Clone, Debug)]
pub(crate) struct Crc64(Digest);

impl Crc64 {
    pub(crate) fn new() -> Self {
        Crc64(Digest::new(CrcAlgorithm::Crc64GoIso))
    }

    pub(crate) fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// The checksum so far, bit 63 set.
    pub(crate) fn checksum(&self) -> Checksum {
        Checksum::new(self.0.finalize())
    }
}
