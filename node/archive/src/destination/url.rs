//! [`DestinationUrl`]: the text that names a destination, taken apart.

use std::path::PathBuf;

/// Backends that this build has.
const SUPPORTED: &[&str] = &["file"];
/// Backends that Litestream configurations may name, too.
const UNSUPPORTED: &[&str] = &[
    "s3", "gs", "abs", "oss", "nats", "sftp", "webdav", "webdavs",
];

/// A destination's address.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DestinationUrl {
    /// A directory: `file:///absolute/path`, or a plain path.
    File(PathBuf),
}

/// A text that names no destination.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Nothing is given.
    #[error("destination is empty")]
    Empty,
    /// Nobody knows this scheme.
    #[error("unknown destination scheme scheme={scheme:?} known={known}")]
    UnknownScheme {
        /// The scheme.
        scheme: String,
        /// The schemes there are.
        known: String,
    },
    /// The scheme is known, but this build has no backend for it.
    #[error(
        "destination scheme is not supported yet by this build scheme={scheme:?} supported={supported}"
    )]
    UnsupportedScheme {
        /// The scheme.
        scheme: String,
        /// The schemes that this build has.
        supported: String,
    },
    /// A `file` URL without an absolute path, such as `file://host/path`.
    #[error("file destination must be file:///absolute/path or a plain path url={url:?}")]
    FilePath {
        /// The text.
        url: String,
    },
    /// A percent sign is not followed by two hex digits, or the result is no UTF-8 text or holds a zero byte.
    #[error("invalid percent encoding in destination url={url:?}")]
    PercentEncoding {
        /// The text.
        url: String,
    },
}

impl DestinationUrl {
    /// Takes the text apart. Touches no file and no network.
    ///
    /// # Errors
    /// [`UrlError`].
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if text.is_empty() {
            return Err(UrlError::Empty);
        }
        let Some((scheme, rest)) = text
            .split_once("://")
            .filter(|(scheme, _)| is_scheme(scheme))
        else {
            return Ok(DestinationUrl::File(PathBuf::from(text)));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "file" => parse_file(text, rest),
            scheme if UNSUPPORTED.contains(&scheme) => Err(UrlError::UnsupportedScheme {
                scheme: scheme.to_owned(),
                supported: SUPPORTED.join(", "),
            }),
            scheme => Err(UrlError::UnknownScheme {
                scheme: scheme.to_owned(),
                known: [SUPPORTED, UNSUPPORTED].concat().join(", "),
            }),
        }
    }
}

fn parse_file(text: &str, rest: &str) -> Result<DestinationUrl, UrlError> {
    let path = rest
        .strip_prefix("localhost")
        .filter(|path| path.starts_with('/'))
        .unwrap_or(rest);
    if !path.starts_with('/') {
        return Err(UrlError::FilePath {
            url: text.to_owned(),
        });
    }
    let path = percent_decode(path).ok_or_else(|| UrlError::PercentEncoding {
        url: text.to_owned(),
    })?;
    Ok(DestinationUrl::File(PathBuf::from(path)))
}

/// A letter, then letters, digits, `+`, `-` or `.` (RFC 3986, section 3.1).
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, tail) = rest.split_first_chunk::<2>()?;
        rest = tail;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push((digit(digits[0])? * 16 + digit(digits[1])?) as u8);
    }
    String::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_urls_and_plain_paths_name_directories() {
        for (text, path) in [
            ("file:///var/backup/app.db", "/var/backup/app.db"),
            ("FILE:///a", "/a"),
            ("file://localhost/a", "/a"),
            ("file:///with%20space/%C3%A9", "/with space/é"),
            ("/plain/100%", "/plain/100%"),
            ("relative/dir", "relative/dir"),
            ("C3://", "C3://"),
        ] {
            let parsed = DestinationUrl::parse(text);
            if text == "C3://" {
                assert!(matches!(parsed, Err(UrlError::UnknownScheme { .. })));
            } else {
                assert_eq!(parsed, Ok(DestinationUrl::File(path.into())), "{text}");
            }
        }
    }

    #[test]
    fn bad_urls_say_what_is_wrong() {
        let error = |text: &str| DestinationUrl::parse(text).unwrap_err().to_string();
        assert_eq!(error(""), "destination is empty");
        assert_eq!(
            error("s3://bucket/db"),
            "destination scheme is not supported yet by this build scheme=\"s3\" supported=file"
        );
        let unknown = error("ftp://host/db");
        assert!(
            unknown.starts_with("unknown destination scheme scheme=\"ftp\" known=file, s3, gs"),
            "{unknown}"
        );
        for text in [
            "file://",
            "file://host/a",
            "file://relative",
            "file://localhosta/b",
        ] {
            assert!(
                error(text).starts_with("file destination must be"),
                "{text}"
            );
        }
        for text in [
            "file:///a%2",
            "file:///a%zz",
            "file:///a%ff",
            "file:///a%00",
        ] {
            assert!(
                error(text).starts_with("invalid percent encoding"),
                "{text}"
            );
        }
    }
}
