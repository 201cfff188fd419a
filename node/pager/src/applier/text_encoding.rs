//! [`TextEncoding`]: how a database stores its text. A connection takes it from the first schema that it reads, and keeps to it.
//!
//! Owns the names and numbers. Pure; used by the applier, to know when its connection is outdated.

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextEncoding {
    Utf8,
    Utf16Le,
    Utf16Be,
}

/// Where page 1 names it (https://www.sqlite.org/fileformat.html, section 1.3.13).
const OFFSET: usize = 56;

impl TextEncoding {
    /// As SQLite itself does, takes what is not known for the default.
    pub(super) fn of_page_one(page: &[u8]) -> Self {
        match page.get(OFFSET..OFFSET + 4) {
            Some([0, 0, 0, 2]) => Self::Utf16Le,
            Some([0, 0, 0, 3]) => Self::Utf16Be,
            _ => Self::Utf8,
        }
    }

    /// What `PRAGMA encoding` says.
    pub(super) fn of_name(name: &str) -> Self {
        match name {
            "UTF-16le" => Self::Utf16Le,
            "UTF-16be" => Self::Utf16Be,
            _ => Self::Utf8,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Utf8 => "UTF-8",
            Self::Utf16Le => "UTF-16le",
            Self::Utf16Be => "UTF-16be",
        }
    }
}
