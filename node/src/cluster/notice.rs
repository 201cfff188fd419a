//! What a node says of itself beside its role: whom it waits for, where the members look for it, why it takes no part. Decides nothing by it.
//! Asked by `api` for the status, and by `formation` for the log.

use super::role::{self, Role};
use super::{Cluster, repair, server_of};

impl Cluster {
    /// Why this node takes no part, if it does not.
    pub(crate) fn takes_no_part(&self) -> Option<String> {
        match self.identity().stopped().as_deref() {
            Some(why) => Some(why.to_owned()),
            None if self.role() == Role::Removed => Some(role::REMOVED.to_owned()),
            None => self.says_failed(),
        }
    }

    /// What people should know of a node that takes part, or would.
    pub(crate) fn notice(&self) -> Option<String> {
        match self.role() {
            Role::Joining => self.waits_for.lock().clone(),
            _ => self
                .misplaced()
                .or_else(|| self.almost_full())
                .or_else(|| self.tells_of_orphans()),
        }
    }

    fn almost_full(&self) -> Option<String> {
        repair::no_room(self).map(|free| {
            format!("the disk of this node is almost full: make room free_bytes={free}")
        })
    }

    /// The members look for this node where it says that it is not.
    pub(crate) fn misplaced(&self) -> Option<String> {
        let server = server_of(&self.raft.server_metrics());
        let node_id = self.identity().node_id;
        let known = server.membership_config.membership().get_node(&node_id)?;
        (known.addr != self.addr).then(|| {
            format!(
                "the members reach this node at {}, and it advertises {}: give it its address back, or run `halite member remove {node_id}` \
                 and add it again",
                known.addr, self.addr
            )
        })
    }
}
