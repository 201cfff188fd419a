//! Commands as Raft payloads and back. What this build does not know is refused here, before anybody applies it.

use std::io;

use bytes::Bytes;
use halite_log::{EntryPayload, Membership, Payload, Reply};
use halite_proto::v1;
use halite_proto::v1::command::Kind;
use prost::Message as _;

use super::error::ClusterError;
use super::feature_level::{Level, Levels, Unfit, leave_out, needed};
use super::next_version;

/// What a log entry carries, decoded.
#[derive(Debug)]
pub(crate) enum Content {
    Blank,
    Membership(Membership),
    Command(Kind),
}

impl Content {
    /// Fails as [`decode`] does.
    pub(crate) fn of(payload: EntryPayload, ours: Levels) -> Result<Self, Undecoded> {
        Ok(match payload {
            EntryPayload::Blank => Self::Blank,
            EntryPayload::Membership(membership) => Self::Membership(membership),
            EntryPayload::Normal(payload) => Self::Command(decode(payload, ours)?),
        })
    }
}

/// Why an entry cannot be applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Undecoded {
    /// A newer build wrote it.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    #[error("log entry does not parse: {0}")]
    Damaged(#[from] prost::DecodeError),
}

impl From<Undecoded> for io::Error {
    fn from(error: Undecoded) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// A command as a cluster at `level` writes it: without fields that came later.
///
/// # Errors
/// The cluster is not there yet.
pub(crate) fn encode(level: Level, mut kind: Kind) -> Result<Payload, ClusterError> {
    let needed = needed(&kind);
    if needed > level {
        return Err(ClusterError::invalid(format!(
            "this needs feature level {needed}, the cluster is at level {level}: upgrade every node, then run `halite upgrade finalize`"
        )));
    }
    leave_out(level, &mut kind);
    let command = v1::Command {
        level: level.to_wire(),
        kind: Some(kind),
    };
    Ok(Payload(Bytes::from(command.encode_to_vec())))
}

/// The command in a payload, for a node that reads and writes `ours`.
///
/// # Errors
/// It does not know it, or not all it may say; or the bytes are none of Halite's.
pub(crate) fn decode(payload: Payload, ours: Levels) -> Result<Kind, Undecoded> {
    if let Some(kind) = next_version::decode(&payload.0, ours) {
        return Ok(kind);
    }
    let command = v1::Command::decode(payload.0)?;
    Ok(ours.check_entry(Level::from_wire(command.level), command.kind)?)
}

pub(crate) fn encode_reply(reply: &v1::CommandReply) -> Reply {
    Reply(Bytes::from(reply.encode_to_vec()))
}

pub(crate) fn decode_reply(reply: Reply) -> Result<v1::CommandReply, ClusterError> {
    v1::CommandReply::decode(reply.0)
        .map_err(|e| ClusterError::internal(format!("reply does not parse: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drop_database() -> Kind {
        Kind::DropDatabase(v1::DropDatabaseCommand { database_id: 7 })
    }

    #[test]
    fn first_level_writes_the_bytes_that_were_written_before_levels() {
        let payload = encode(Level::FIRST, drop_database()).expect("fits");
        // Field 4 of Command: { field 1: 7 }.
        assert_eq!(&payload.0[..], [0x22, 2, 0x08, 7]);
        let later = encode(Level::new(2), drop_database()).expect("fits");
        assert_ne!(payload.0, later.0);
        assert!(matches!(
            decode(later, Levels::OURS),
            Ok(Kind::DropDatabase(_))
        ));
    }

    #[test]
    fn rows_travel_with_outcomes_from_the_second_level_on() {
        let outcome = |returned, rows_left_out| v1::CallOutcome {
            call_id: 3,
            rows_affected: vec![1],
            returned,
            rows_left_out,
            ..v1::CallOutcome::default()
        };
        let rows = v1::ReturnedRows {
            columns: vec!["id".into()],
            rows: vec![v1::Row::default()],
        };
        let session = v1::SessionOutcomes {
            calls: vec![
                outcome(vec![rows], false),
                outcome(Vec::new(), true),
                outcome(Vec::new(), false),
            ],
            ..v1::SessionOutcomes::default()
        };
        let with_rows = v1::LtxCommand {
            outcomes: vec![session],
            ..v1::LtxCommand::default()
        };
        let mut without = with_rows.clone();
        without.outcomes[0].calls = vec![outcome(Vec::new(), false); 3];
        for (level, expected) in [(Level::FIRST, without), (Level::new(2), with_rows.clone())] {
            let payload = encode(level, Kind::Ltx(with_rows.clone())).expect("fits");
            let read = decode(payload, Levels::OURS).expect("parses");
            assert_eq!(read, Kind::Ltx(expected), "level {level}");
        }
    }

    #[test]
    fn what_a_newer_build_wrote_is_refused_and_not_called_damage() {
        let level_99 = encode(Level::new(99), drop_database()).expect("fits");
        // A kind that nobody has: field 5000, a number.
        let unknown = Payload(Bytes::from_static(&[0xc0, 0xb8, 0x02, 1]));
        for newer in [level_99, unknown] {
            let read = decode(newer, Levels::OURS);
            assert!(matches!(read, Err(Undecoded::Unfit(_))), "{read:?}");
        }
        let damaged = decode(Payload(Bytes::from_static(&[0x22, 0xff])), Levels::OURS);
        assert!(matches!(damaged, Err(Undecoded::Damaged(_))), "{damaged:?}");
    }
}
