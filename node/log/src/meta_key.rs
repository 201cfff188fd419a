//! Names of the node's small durable values.

use std::fmt;

/// Longest key in bytes.
const KEY_BYTES_MAX: usize = 1024;

/// The name of a value in the `meta` column family: `db/<name>/<field>` or `node/<field>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MetaKey(String);

/// A name that cannot be part of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid part of a meta key: {reason}, part={part:?}")]
pub struct InvalidMetaKey {
    /// The offending part.
    pub part: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl MetaKey {
    /// A field of one database, for example `database("orders", "checkpoint")`. Names must not hold `/` or be empty.
    pub fn database(name: &str, field: &str) -> Result<Self, InvalidMetaKey> {
        Ok(Self(format!("db/{}/{}", part(name)?, part(field)?)))
    }

    /// A field of this node.
    pub fn node(field: &str) -> Result<Self, InvalidMetaKey> {
        Ok(Self(format!("node/{}", part(field)?)))
    }

    /// The key as it is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts between the slashes: `["db", name, field]` or `["node", field]`.
    pub fn parts(&self) -> Vec<&str> {
        self.0.split('/').collect()
    }

    pub(crate) fn from_stored(key: &str) -> Option<Self> {
        let parts: Vec<_> = key.split('/').collect();
        match parts.as_slice() {
            ["db", name, field] => Self::database(name, field).ok(),
            ["node", field] => Self::node(field).ok(),
            _ => None,
        }
    }
}

impl fmt::Display for MetaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn part(text: &str) -> Result<&str, InvalidMetaKey> {
    let reason = if text.is_empty() {
        "empty"
    } else if text.contains('/') {
        "contains a slash"
    } else if text.len() > KEY_BYTES_MAX {
        "too long"
    } else {
        return Ok(text);
    };
    Err(InvalidMetaKey {
        part: text.chars().take(64).collect(),
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_survives_storage() {
        for key in [
            MetaKey::database("a b", "checkpoint").unwrap(),
            MetaKey::node("id").unwrap(),
        ] {
            assert_eq!(Some(&key), MetaKey::from_stored(key.as_str()).as_ref());
        }
    }

    #[test]
    fn key_refuses_what_would_be_ambiguous() {
        assert_eq!(
            "contains a slash",
            MetaKey::database("a/b", "c").unwrap_err().reason
        );
        assert_eq!("empty", MetaKey::database("", "c").unwrap_err().reason);
        assert_eq!(
            "too long",
            MetaKey::node(&"x".repeat(5000)).unwrap_err().reason
        );
        assert_eq!(None, MetaKey::from_stored("raft/purged"));
    }
}
