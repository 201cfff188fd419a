//! Names of LTX files: `<min>-<max>.ltx`, both transaction ids as sixteen lowercase hexadecimal digits.
//!
//! Folders and levels belong to the archive; here is only the last part of the path.

use crate::{ParseError, Txid};

/// Name of the file that holds the transactions `min..=max`.
pub fn file_name(min: Txid, max: Txid) -> String {
    format!("{min}-{max}.ltx")
}

/// Takes a file name apart into its first and last transaction.
///
/// # Errors
/// [`ParseError::FileName`] for anything but a name that [`file_name`] gives for `0 < min <= max`.
pub fn parse_file_name(name: &str) -> Result<(Txid, Txid), ParseError> {
    let parse = || {
        let (min, max) = name.strip_suffix(".ltx")?.split_once('-')?;
        let (min, max): (Txid, Txid) = (min.parse().ok()?, max.parse().ok()?);
        (!min.is_zero() && min <= max).then_some((min, max))
    };
    parse().ok_or_else(|| ParseError::FileName(ParseError::shorten(name)))
}
