//! Fixed-width hexadecimal, as file names and position strings use it.
//!
//! Owns the one parser of "exactly sixteen lowercase digits"; called by the newtypes' `FromStr` only.

/// Parses exactly sixteen lowercase hexadecimal digits; `None` for anything else (signs, spaces, capitals).
pub(crate) fn parse_u64(text: &str) -> Option<u64> {
    if text.len() != 16 {
        return None;
    }
    text.bytes().try_fold(0u64, |value, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}
