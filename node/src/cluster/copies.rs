//! Finds processes that run on copies of a data directory: theirs are the ids of the node, and they are not the one at its address.

use std::sync::Arc;

use super::formation::identify;
use super::identity::Lasting;
use super::{Cluster, server_of};

/// Asks at the address of each peer in whose name another process than before has called. Runs until the node stops.
pub(crate) async fn run(cluster: Arc<Cluster>) {
    let mut stopping = cluster.stopping.subscribe();
    let identity = cluster.identity();
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            () = identity.suspicion() => {}
        }
        for suspect in identity.suspects() {
            let node_id = suspect.node_id;
            let members = server_of(&cluster.watch_server()).membership_config;
            let member = members.membership().get_node(&node_id);
            let answer = match member {
                Some(member) => identify(&cluster, node_id, &member.addr).await.ok(),
                None => None,
            };
            let answer = answer.filter(|answer| answer.node_id == node_id);
            let answer = answer.as_ref();
            identity.confirm(
                &suspect,
                answer.map(|answer| (answer.instance_id.as_str(), answer.boot_id.as_str())),
            );
        }
    }
}

impl Cluster {
    /// Whether another process of this data directory answers where the cluster looks for this node. Peers notice a copy that calls them; one
    /// that calls nobody, because it is alone or is called elsewhere, has to look for itself.
    pub(crate) async fn look_for_a_copy(&self) {
        let identity = self.identity();
        let members = server_of(&self.watch_server()).membership_config;
        let membership = members.membership();
        let Some(member) = membership.get_node(&identity.node_id) else {
            return;
        };
        let is_alone = membership.voter_ids().all(|id| id == identity.node_id);
        if !is_alone && member.addr == self.addr() {
            return;
        }
        let Ok(answer) = identify(self, identity.node_id, &member.addr).await else {
            return;
        };
        if answer.node_id == identity.node_id
            && answer.instance_id == identity.instance_id
            && answer.boot_id != identity.boot_id
        {
            identity.stop(
                &format!(
                    "this process runs on a copy of the data directory of node {id}, which answers at {addr}. Never run a copy: stop this process, \
                     and delete its data directory",
                    id = identity.node_id,
                    addr = member.addr
                ),
                Lasting::No,
            );
        }
    }
}
