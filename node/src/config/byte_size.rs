//! Sizes as people write them: `4096`, `64KiB`, `10MB`.

use std::fmt;
use std::str::FromStr;

/// A number of bytes.
///
/// Written as a whole number with an optional unit: `B`, SI (`kB` `MB` `GB` `TB`, powers of 1000) or IEC (`KiB` `MiB` `GiB`
/// `TiB`, powers of 1024). Case does not matter. Printed with the largest unit that divides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

/// Largest units first, and IEC before SI, so that printing finds the shortest exact form.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

/// The text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ByteSizeError {
    #[error("`{0}` is not a size (examples: 64MiB, 10MB, 4096)")]
    Malformed(String),
    #[error("`{0}` is larger than this machine can count")]
    TooLarge(String),
}

impl ByteSize {
    /// A size of exactly `bytes`.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// A size of `count` times 1024 × 1024 bytes.
    pub const fn from_mib(count: u32) -> Self {
        Self((count as u64) << 20)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || ByteSizeError::Malformed(text.to_owned());
        let split = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        if digits.is_empty() {
            return Err(malformed());
        }
        let unit = unit.trim_start();
        let factor = match unit {
            "" => 1,
            unit => {
                UNITS
                    .iter()
                    .find(|(name, _)| name.eq_ignore_ascii_case(unit))
                    .ok_or_else(malformed)?
                    .1
            }
        };
        let count: u64 = digits
            .parse()
            .map_err(|_| ByteSizeError::TooLarge(text.to_owned()))?;
        count
            .checked_mul(factor)
            .map(Self)
            .ok_or_else(|| ByteSizeError::TooLarge(text.to_owned()))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0");
        }
        match UNITS
            .iter()
            .find(|(_, factor)| self.0.is_multiple_of(*factor))
        {
            Some((unit, factor)) if *factor > 1 => write!(f, "{}{unit}", self.0 / factor),
            _ => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_both_systems_of_units() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("512B", 512),
            ("1kB", 1000),
            ("1KiB", 1024),
            ("64MiB", 64 << 20),
            ("64 MiB", 64 << 20),
            ("64mib", 64 << 20),
            ("10MB", 10_000_000),
            ("2GiB", 2 << 30),
            ("1TiB", 1 << 40),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize::from_bytes(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "MiB",
            "-1",
            "1.5MiB",
            "16Mi",
            "10 bananas",
            "0x10",
            "1MiB2",
        ] {
            assert_eq!(
                text.parse::<ByteSize>(),
                Err(ByteSizeError::Malformed(text.to_owned()))
            );
        }
        for text in ["99999999999999999999", "99999999TiB"] {
            assert_eq!(
                text.parse::<ByteSize>(),
                Err(ByteSizeError::TooLarge(text.to_owned()))
            );
        }
    }

    #[test]
    fn a_printed_size_reads_back_as_itself() {
        for bytes in [
            0,
            1,
            1000,
            1024,
            1500,
            4096,
            16 << 20,
            10_000_000,
            1 << 40,
            u64::MAX,
        ] {
            let size = ByteSize::from_bytes(bytes);
            assert_eq!(size.to_string().parse(), Ok(size), "{size}");
        }
        assert_eq!(ByteSize::from_mib(16).to_string(), "16MiB");
        assert_eq!(ByteSize::from_bytes(10_000_000).to_string(), "10MB");
    }
}
