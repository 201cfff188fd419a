//! What the version after this one is taken to write: a command that this one does not know.
//!
//! Only nodes that are told to read and write [`Levels::NEXT`] do it: in the simulation, and in `halite-next` of the tests.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use halite_log::Payload;
use halite_proto::v1;
use halite_proto::v1::command::Kind;
use prost::Message;

use super::Cluster;
use super::error::ClusterError;
use super::feature_level::Levels;

/// `Command` with one more kind.
#[derive(Clone, PartialEq, Message)]
struct NextCommand {
    #[prost(uint32, tag = "20")]
    level: u32,
    #[prost(string, optional, tag = "1000")]
    pretend: Option<String>,
}

/// The further command, if that is what the entry holds and the node is of the next version. It changes nothing: the same as a raise to a
/// level that is reached.
pub(crate) fn decode(payload: &Bytes, ours: Levels) -> Option<Kind> {
    if ours != Levels::NEXT {
        return None;
    }
    let said = NextCommand::decode(payload.clone()).ok()?.pretend?;
    tracing::info!(said, "read a command of the next version");
    Some(Kind::RaiseLevel(v1::RaiseLevelCommand { level: 0 }))
}

impl Cluster {
    /// Commits the further command once in the life of a node of the next version, when the cluster may write it.
    pub(crate) async fn pretend(&self) -> Result<(), ClusterError> {
        let level = self.identity().level.cluster();
        if level < Levels::NEXT.max || self.pretended.load(Ordering::Relaxed) {
            return Ok(());
        }
        let command = NextCommand {
            level: level.to_wire(),
            pretend: Some("as the next version does".to_owned()),
        };
        self.commit(Payload(command.encode_to_vec().into())).await?;
        self.pretended.store(true, Ordering::Relaxed);
        Ok(())
    }
}
