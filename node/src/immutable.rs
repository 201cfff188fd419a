//! Files that nobody writes to, as SQLite is told of them. Owns their names and opens nothing. Called by imports (`cli`) and repairs (`database`).

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// A name for SQLite under which it makes no files beside this one.
pub(crate) fn immutable_uri(path: &Path) -> String {
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => uri.push(char::from(*byte)),
            byte => write!(uri, "%{byte:02x}").expect("a string takes everything"),
        }
    }
    uri + "?immutable=1"
}
