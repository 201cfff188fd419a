//! One log entry as it is stored: `crc32 | kind | term | index | body`, little-endian.
//!
//! | bytes | field |
//! |-------|-------|
//! | 0..4  | CRC-32 (IEEE) of everything behind it |
//! | 4     | kind: 0 blank, 1 normal, 2 membership |
//! | 5..13 | term |
//! | 13..21| index; must equal the key |
//! | 21..  | body: nothing, the payload, or the membership as JSON |

use bytes::Bytes;
use openraft::vote::RaftLeaderId;

use crate::error::LogError;
use crate::raft_types::{Entry, EntryPayload, LogId, Payload, TypeConfig};

/// Bytes before the body.
pub(crate) const HEAD_BYTES: usize = 21;

const KIND_BLANK: u8 = 0;
const KIND_NORMAL: u8 = 1;
const KIND_MEMBERSHIP: u8 = 2;

/// A log id from its two numbers.
pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    let leader = <TypeConfig as openraft::RaftTypeConfig>::LeaderId::new(term, 0);
    LogId::new(leader.to_committed(), index)
}

/// Key of an entry: big-endian, so that keys sort by index.
pub(crate) fn key(index: u64) -> [u8; 8] {
    index.to_be_bytes()
}

/// The index in a key, if it is one.
pub(crate) fn index_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.try_into().ok()?))
}

/// Splits an entry into the record's head and its body. The payload is shared, not copied.
pub(crate) fn encode(entry: &Entry) -> Result<([u8; HEAD_BYTES], Bytes), LogError> {
    let (kind, body) = match &entry.payload {
        EntryPayload::Blank => (KIND_BLANK, Bytes::new()),
        EntryPayload::Normal(payload) => (KIND_NORMAL, payload.0.clone()),
        EntryPayload::Membership(membership) => {
            let json = serde_json::to_vec(membership).map_err(|e| {
                corrupt(
                    entry.log_id.index,
                    format!("membership cannot be written: {e}"),
                )
            })?;
            (KIND_MEMBERSHIP, Bytes::from(json))
        }
    };
    let mut head = [0; HEAD_BYTES];
    head[4] = kind;
    head[5..13].copy_from_slice(&entry.log_id.leader_id.term.to_le_bytes());
    head[13..21].copy_from_slice(&entry.log_id.index.to_le_bytes());
    let crc = checksum(&head, &body);
    head[0..4].copy_from_slice(&crc.to_le_bytes());
    Ok((head, body))
}

/// Reads the record stored under `index`, and refuses it unless checksum, place and shape are right.
pub(crate) fn decode(index: u64, record: Bytes) -> Result<Entry, LogError> {
    let Some((head, body)) = record.split_first_chunk::<HEAD_BYTES>() else {
        return Err(corrupt(
            index,
            format!("record is too short, bytes={}", record.len()),
        ));
    };
    let (stored, found) = (u32::from_le_bytes(array(head, 0)), checksum(head, body));
    if stored != found {
        return Err(corrupt(
            index,
            format!("checksum mismatch, stored={stored:08x}, found={found:08x}"),
        ));
    }
    let (term, own_index) = (
        u64::from_le_bytes(array(head, 5)),
        u64::from_le_bytes(array(head, 13)),
    );
    if own_index != index {
        return Err(corrupt(
            index,
            format!("record belongs elsewhere, index={own_index}"),
        ));
    }
    let body = record.slice(HEAD_BYTES..);
    let payload = match head[4] {
        KIND_BLANK if body.is_empty() => EntryPayload::Blank,
        KIND_NORMAL => EntryPayload::Normal(Payload(body)),
        KIND_MEMBERSHIP => EntryPayload::Membership(
            serde_json::from_slice(&body)
                .map_err(|e| corrupt(index, format!("membership cannot be read: {e}")))?,
        ),
        kind => return Err(corrupt(index, format!("unknown kind={kind}"))),
    };
    Ok(Entry {
        log_id: log_id(term, index),
        payload,
    })
}

/// Bytes that an entry takes in the log and, near enough, in memory.
pub(crate) fn stored_bytes(entry: &Entry) -> usize {
    let body = match &entry.payload {
        EntryPayload::Blank => 0,
        EntryPayload::Normal(payload) => payload.0.len(),
        // Rare and small: an estimate is enough.
        EntryPayload::Membership(membership) => 128 * (1 + membership.nodes().count()),
    };
    8 + HEAD_BYTES + body
}

/// An error about the record of `index`.
pub(crate) fn corrupt(index: u64, reason: String) -> LogError {
    LogError::Corrupt {
        family: "log",
        key: index.to_string(),
        reason,
    }
}

fn checksum(head: &[u8; HEAD_BYTES], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&head[4..]);
    hasher.update(body);
    hasher.finalize()
}

fn array<const N: usize>(head: &[u8; HEAD_BYTES], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&head[at..at + N]);
    out
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::raft_types::{Member, Membership};

    fn record(entry: &Entry) -> Vec<u8> {
        let (head, body) = encode(entry).unwrap();
        [head.as_slice(), &body].concat()
    }

    fn entries() -> Vec<Entry> {
        let member = Member {
            addr: "10.0.0.1:7420".into(),
            name: "a".into(),
        };
        let membership =
            Membership::new(vec![BTreeSet::from([1])], BTreeMap::from([(1, member)])).unwrap();
        [
            EntryPayload::Blank,
            EntryPayload::Normal(Payload(Bytes::from_static(b""))),
            EntryPayload::Normal(Payload(Bytes::from(vec![7; 5000]))),
            EntryPayload::Membership(membership),
        ]
        .into_iter()
        .map(|payload| Entry {
            log_id: log_id(3, 42),
            payload,
        })
        .collect()
    }

    #[test]
    fn record_reads_back() {
        for entry in entries() {
            assert_eq!(entry, decode(42, record(&entry).into()).unwrap());
        }
    }

    #[test]
    fn any_flipped_bit_is_found() {
        for entry in entries() {
            let good = record(&entry);
            for at in (0..good.len()).step_by(7).chain([good.len() - 1]) {
                let mut bad = good.clone();
                bad[at] ^= 0x10;
                let error = decode(42, bad.into()).unwrap_err().to_string();
                assert!(
                    error.contains("checksum mismatch") && error.contains("key=42"),
                    "{error}"
                );
            }
        }
    }

    #[test]
    fn record_in_the_wrong_place_is_refused() {
        let error = decode(43, record(&entries()[2]).into())
            .unwrap_err()
            .to_string();
        assert!(error.contains("belongs elsewhere, index=42"), "{error}");
    }

    #[test]
    fn cut_record_is_refused() {
        let good = record(&entries()[2]);
        for keep in [0, 3, 20, 21, 100] {
            assert!(
                decode(42, good[..keep].to_vec().into()).is_err(),
                "kept {keep}"
            );
        }
    }
}
