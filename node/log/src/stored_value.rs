//! The small values of the `vote` and `meta` families: `crc32 | value`, the checksum covering key and value.

use bytes::Bytes;
use openraft::vote::RaftLeaderId;

use crate::entry_record::log_id;
use crate::error::LogError;
use crate::raft_types::{LogId, Vote};

/// Adds the checksum.
pub(crate) fn seal(key: &str, value: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(4 + value.len());
    sealed.extend_from_slice(&checksum(key, value).to_le_bytes());
    sealed.extend_from_slice(value);
    sealed
}

/// Takes the checksum off again, and refuses the value if it does not fit.
pub(crate) fn unseal(family: &'static str, key: &str, sealed: Bytes) -> Result<Bytes, LogError> {
    let corrupt = |reason: String| LogError::Corrupt {
        family,
        key: key.to_owned(),
        reason,
    };
    let Some((crc, value)) = sealed.split_first_chunk::<4>() else {
        return Err(corrupt(format!(
            "value is too short, bytes={}",
            sealed.len()
        )));
    };
    let (stored, found) = (u32::from_le_bytes(*crc), checksum(key, value));
    if stored != found {
        return Err(corrupt(format!(
            "checksum mismatch, stored={stored:08x}, found={found:08x}"
        )));
    }
    Ok(sealed.slice(4..))
}

/// A vote as `term | voted_for | committed`, little-endian.
pub(crate) fn encode_vote(vote: &Vote) -> [u8; 17] {
    let mut out = [0; 17];
    out[0..8].copy_from_slice(&vote.leader_id().term().to_le_bytes());
    out[8..16].copy_from_slice(&vote.leader_id().node_id().to_le_bytes());
    out[16] = u8::from(vote.is_committed());
    out
}

/// The reverse of [`encode_vote`]; `None` if the shape is wrong.
pub(crate) fn decode_vote(value: &[u8]) -> Option<Vote> {
    let value: &[u8; 17] = value.try_into().ok()?;
    let (term, node) = (number(&value[0..8])?, number(&value[8..16])?);
    match value[16] {
        0 => Some(Vote::new(term, node)),
        1 => Some(Vote::new_committed(term, node)),
        _ => None,
    }
}

/// A log id as `term | index`, little-endian.
pub(crate) fn encode_log_id(id: &LogId) -> [u8; 16] {
    let mut out = [0; 16];
    out[0..8].copy_from_slice(&id.leader_id.term.to_le_bytes());
    out[8..16].copy_from_slice(&id.index.to_le_bytes());
    out
}

/// The reverse of [`encode_log_id`]; `None` if the shape is wrong.
pub(crate) fn decode_log_id(value: &[u8]) -> Option<LogId> {
    let value: &[u8; 16] = value.try_into().ok()?;
    Some(log_id(number(&value[0..8])?, number(&value[8..16])?))
}

fn number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

fn checksum(key: &str, value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key.as_bytes());
    hasher.update(value);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn votes_and_log_ids_read_back() {
        for vote in [Vote::new(5, 2), Vote::new_committed(u64::MAX, 0)] {
            assert_eq!(Some(vote), decode_vote(&encode_vote(&vote)));
        }
        assert_eq!(
            Some(log_id(3, 9)),
            decode_log_id(&encode_log_id(&log_id(3, 9)))
        );
        assert_eq!(None, decode_vote(&[0; 16]));
        assert_eq!(None, decode_log_id(&[0; 17]));
    }

    #[test]
    fn sealed_value_is_bound_to_its_key() {
        let sealed = Bytes::from(seal("db/a/checkpoint", b"value"));
        assert_eq!(
            "value",
            unseal("meta", "db/a/checkpoint", sealed.clone()).unwrap()
        );
        let error = unseal("meta", "db/b/checkpoint", sealed)
            .unwrap_err()
            .to_string();
        assert!(error.contains("key=db/b/checkpoint"), "{error}");
        assert!(unseal("meta", "k", Bytes::from_static(b"abc")).is_err());
    }
}
