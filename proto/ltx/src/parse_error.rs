//! [`ParseError`]: why a text is no transaction id, checksum, position or file name.

/// A text that is not what it should be; each variant holds (the beginning of) the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Not sixteen lowercase hexadecimal digits.
    #[error("invalid transaction id: must be 16 lowercase hex digits text={0:?}")]
    Txid(String),
    /// Not sixteen lowercase hexadecimal digits, or bit 63 is not set.
    #[error("invalid checksum: must be 16 lowercase hex digits with bit 63 set text={0:?}")]
    Checksum(String),
    /// Not two parts separated by a slash.
    #[error("invalid position: must be txid/checksum text={0:?}")]
    Position(String),
    /// Not `<min>-<max>.ltx` with `0 < min <= max`.
    #[error("invalid file name: must be min-max.ltx with 0 < min <= max text={0:?}")]
    FileName(String),
}

impl ParseError {
    /// What an error keeps of a foreign text: at most 80 characters.
    pub(crate) fn shorten(text: &str) -> String {
        text.chars().take(80).collect()
    }
}
