//! Commands as Raft payloads and back.

use bytes::Bytes;
use halite_log::{EntryPayload, Membership, Payload, Reply};
use halite_proto::v1;
use halite_proto::v1::command::Kind;
use prost::Message as _;

use super::error::ClusterError;

/// What a log entry carries, decoded.
#[derive(Debug)]
pub(crate) enum Content {
    Blank,
    Membership(Membership),
    Command(Kind),
}

impl Content {
    /// Fails as [`decode`] does.
    pub(crate) fn of(payload: EntryPayload) -> Result<Self, ClusterError> {
        Ok(match payload {
            EntryPayload::Blank => Self::Blank,
            EntryPayload::Membership(membership) => Self::Membership(membership),
            EntryPayload::Normal(payload) => Self::Command(decode(payload)?),
        })
    }
}

pub(crate) fn encode(command: &v1::Command) -> Payload {
    Payload(Bytes::from(command.encode_to_vec()))
}

/// The command in a payload. Failure means that this build cannot read its own log: a newer cluster, or a bug.
pub(crate) fn decode(payload: Payload) -> Result<Kind, ClusterError> {
    v1::Command::decode(payload.0)
        .map_err(|e| ClusterError::corrupt(format!("log entry does not parse: {e}")))?
        .kind
        .ok_or_else(|| {
            ClusterError::corrupt(
                "log entry holds a command that this version does not know: upgrade the node"
                    .into(),
            )
        })
}

pub(crate) fn encode_reply(reply: &v1::CommandReply) -> Reply {
    Reply(Bytes::from(reply.encode_to_vec()))
}

pub(crate) fn decode_reply(reply: Reply) -> Result<v1::CommandReply, ClusterError> {
    v1::CommandReply::decode(reply.0)
        .map_err(|e| ClusterError::internal(format!("reply does not parse: {e}")))
}
