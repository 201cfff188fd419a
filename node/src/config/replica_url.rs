//! The URL of an archive: put together, checked and printed.

use halite_archive::{DestinationUrl, UrlError};

use super::nearest::nearest;

/// The folder `database` below `url`, before any `?options`.
pub(crate) fn below(url: &str, database: &str) -> String {
    let (place, options) = url
        .split_once('?')
        .map_or((url, None), |(place, options)| (place, Some(options)));
    let place = place.trim_end_matches('/');
    match options {
        Some(options) => format!("{place}/{database}?{options}"),
        None => format!("{place}/{database}"),
    }
}

/// What is wrong with `url`, if anything.
pub(crate) fn fault(url: &str) -> Option<String> {
    let Some((scheme, place)) = url.split_once("://") else {
        let example = if url.starts_with('/') {
            format!("file://{url}")
        } else {
            "file:///backup".to_owned()
        };
        return Some(format!(
            "`{}` has no scheme (did you mean `{example}`?)",
            shown(url)
        ));
    };
    if place.trim_matches('/').is_empty() {
        return Some(format!("`{}` names no place", shown(url)));
    }
    match DestinationUrl::parse(url).err()? {
        UrlError::FilePath { .. } => Some(format!(
            "`{url}` is not an absolute path (did you mean `file:///{place}`?)"
        )),
        UrlError::UnknownScheme { known, .. } => {
            let mut message = format!("`{scheme}` is not a kind of archive ({known})");
            if let Some(meant) = nearest(scheme, known.split(", ")) {
                message.push_str(&format!("; did you mean `{meant}`?"));
            }
            Some(message)
        }
        UrlError::UnsupportedScheme { supported, .. } => Some(format!(
            "archives of the kind `{scheme}` are not supported by this version (supported: {supported})"
        )),
        other => Some(other.to_string()),
    }
}

/// The URL without what must not be shown: a password before the host, and options that carry keys.
pub(crate) fn shown(url: &str) -> String {
    let (rest, options) = url
        .split_once('?')
        .map_or((url, None), |(rest, options)| (rest, Some(options)));
    let mut out = match rest.split_once("://") {
        Some((scheme, place)) => {
            let (host, path) = place.split_at(place.find('/').unwrap_or(place.len()));
            match host
                .rsplit_once('@')
                .map(|(user, host)| (user.split_once(':'), host))
            {
                Some((Some((user, _)), host)) => format!("{scheme}://{user}:***@{host}{path}"),
                _ => rest.to_owned(),
            }
        }
        None => rest.to_owned(),
    };
    if let Some(options) = options {
        out.push('?');
        out.push_str(
            &options
                .split('&')
                .map(shown_option)
                .collect::<Vec<_>>()
                .join("&"),
        );
    }
    out
}

fn shown_option(option: &str) -> String {
    let secret = |name: &str| {
        ["key", "secret", "token", "password"]
            .iter()
            .any(|word| name.to_lowercase().contains(word))
    };
    match option.split_once('=') {
        Some((name, _)) if secret(name) => format!("{name}=***"),
        _ => option.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_database_has_its_folder() {
        assert_eq!(below("file:///backup", "app"), "file:///backup/app");
        assert_eq!(below("file:///backup/", "app"), "file:///backup/app");
        assert_eq!(below("s3://b/x?region=eu", "app"), "s3://b/x/app?region=eu");
    }

    #[test]
    fn faults_say_what_was_probably_meant() {
        for (url, words) in [
            ("/backup", "did you mean `file:///backup`?"),
            ("backup", "has no scheme"),
            ("fil:///backup", "did you mean `file`?"),
            ("file://backup", "did you mean `file:///backup`?"),
            ("s3://bucket/path", "not supported by this version"),
            ("file:///back%zzup", "percent"),
            ("file://", "names no place"),
            ("file:///", "names no place"),
        ] {
            let fault = fault(url).unwrap_or_default();
            assert!(fault.contains(words), "{url}: {fault}");
        }
        assert_eq!(fault("file:///backup"), None);
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(shown("sftp://me:pw@host/x"), "sftp://me:***@host/x");
        assert_eq!(shown("sftp://me@host/x"), "sftp://me@host/x");
        assert_eq!(
            shown("s3://b/x?sseCustomerKey=abc&region=eu"),
            "s3://b/x?sseCustomerKey=***&region=eu"
        );
        assert_eq!(shown("file:///a@b:c"), "file:///a@b:c");
    }
}
