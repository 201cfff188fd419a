//! How a cluster comes to be, once.
//!
//! A blank node with a list of first members asks each who it is. Only when all of them answer, and all are blank, does the one with
//! the lowest id form the cluster; the others wait to hear from it. A node that finds a cluster which already knows another data
//! directory under its id stops: it lost its disk, and must be removed and added again, because the votes and entries it has
//! forgotten may have been counted.

use std::sync::Arc;
use std::time::Duration;

use halite_log::Member;
use halite_proto::v1;
use tracing::{info, warn};

use super::Cluster;
use super::error::ClusterError;
use super::transport::Purpose;

const ASK_EVERY: Duration = Duration::from_millis(100);
const ASK_TIMEOUT: Duration = Duration::from_millis(500);
/// How often people are told what is being waited for.
const REPORT_EVERY: u32 = 50;

/// A first member as the configuration names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstMember {
    /// Node id.
    pub id: u64,
    /// `host:port`.
    pub addr: String,
}

/// What the answers of the first members allow.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// All are blank and this node has the lowest id.
    Form,
    /// Someone has not answered, or the cluster is there and will call.
    Wait(String),
    /// This node must not take part.
    Refuse(String),
}

/// `answers` holds one entry per other first member, `None` for those that did not answer.
pub(crate) fn decide(
    node_id: u64,
    instance_id: &str,
    cluster_name: &str,
    members: &[FirstMember],
    answers: &[(u64, Option<v1::IdentifyResponse>)],
) -> Decision {
    let mut silent = Vec::new();
    for (id, answer) in answers {
        let Some(answer) = answer else {
            silent.push(id.to_string());
            continue;
        };
        if answer.cluster_name != cluster_name {
            return Decision::Refuse(format!(
                "node {id} belongs to cluster {:?}, this node is configured for {cluster_name:?}",
                answer.cluster_name
            ));
        }
        if answer.node_id != *id {
            return Decision::Refuse(format!(
                "the address of first member {id} belongs to node {}: check cluster.initial-members",
                answer.node_id
            ));
        }
        let registered = &answer.your_registered_instance_id;
        if !registered.is_empty() && registered != instance_id {
            return Decision::Refuse(format!(
                "the data directory is blank, but the cluster knows node {node_id} with another one: if its disk is lost, run \
                 `halite member remove {node_id}` and add it again with `halite member add` (start it with cluster.join: true)"
            ));
        }
        if answer.initialized {
            return Decision::Wait(format!(
                "node {id} belongs to a cluster already: waiting to be called"
            ));
        }
    }
    if !silent.is_empty() {
        return Decision::Wait(format!("waiting for first members: {}", silent.join(", ")));
    }
    if members.iter().map(|m| m.id).min() == Some(node_id) {
        Decision::Form
    } else {
        Decision::Wait("waiting for the first member with the lowest id to form the cluster".into())
    }
}

/// Runs until this node is part of a cluster.
pub(crate) async fn form(
    cluster: &Arc<Cluster>,
    members: &[FirstMember],
) -> Result<(), ClusterError> {
    let identity = cluster.identity();
    let mut round = 0_u32;
    while !cluster.is_initialized().await? {
        let mut answers = Vec::new();
        for member in members.iter().filter(|m| m.id != identity.node_id) {
            answers.push((member.id, ask(cluster, member).await));
        }
        match decide(
            identity.node_id,
            &identity.instance_id,
            &identity.cluster_name,
            members,
            &answers,
        ) {
            Decision::Form => {
                info!(members = members.len(), "forming the cluster");
                let nodes = members.iter().map(|m| (m.id, member_of(m.id, &m.addr)));
                cluster.initialize(nodes.collect()).await?;
            }
            Decision::Refuse(reason) => return Err(ClusterError::fenced(reason)),
            Decision::Wait(reason) => {
                if round.is_multiple_of(REPORT_EVERY) && round > 0 {
                    warn!("{reason}");
                }
                tokio::time::sleep(ASK_EVERY).await;
            }
        }
        round = round.wrapping_add(1);
    }
    Ok(())
}

pub(crate) fn member_of(id: u64, addr: &str) -> Member {
    Member {
        addr: addr.to_owned(),
        name: format!("node-{id}"),
    }
}

async fn ask(cluster: &Cluster, member: &FirstMember) -> Option<v1::IdentifyResponse> {
    identify(cluster, member.id, &member.addr).await.ok()
}

/// Asks the node at `addr` who it is.
pub(crate) async fn identify(
    cluster: &Cluster,
    id: u64,
    addr: &str,
) -> Result<v1::IdentifyResponse, tonic::Status> {
    let identity = cluster.identity();
    let mut peer = cluster.transport().peer(id, addr, Purpose::Control)?;
    let request = v1::IdentifyRequest {
        cluster_name: identity.cluster_name.clone(),
        cluster_id: identity
            .cluster_id()
            .as_deref()
            .unwrap_or_default()
            .to_owned(),
        node_id: identity.node_id,
        instance_id: identity.instance_id.clone(),
        boot_id: identity.boot_id.clone(),
    };
    match tokio::time::timeout(ASK_TIMEOUT, peer.identify(request)).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(tonic::Status::deadline_exceeded(format!(
            "no answer from {addr} within 500 ms"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Vec<FirstMember> {
        (1..=3)
            .map(|id| FirstMember {
                id,
                addr: format!("h:{id}"),
            })
            .collect()
    }

    fn blank(id: u64) -> (u64, Option<v1::IdentifyResponse>) {
        let answer = v1::IdentifyResponse {
            cluster_name: "c".into(),
            node_id: id,
            ..Default::default()
        };
        (id, Some(answer))
    }

    #[test]
    fn lowest_id_forms_when_all_are_blank_and_the_others_wait() {
        assert_eq!(
            decide(1, "i", "c", &members(), &[blank(2), blank(3)]),
            Decision::Form
        );
        assert!(matches!(
            decide(2, "i", "c", &members(), &[blank(1), blank(3)]),
            Decision::Wait(_)
        ));
    }

    #[test]
    fn silent_member_holds_formation_back() {
        assert!(matches!(
            decide(1, "i", "c", &members(), &[blank(2), (3, None)]),
            Decision::Wait(_)
        ));
    }

    #[test]
    fn wiped_node_never_forms_a_second_cluster() {
        let mut knows = blank(2);
        let answer = knows.1.as_mut().expect("answered");
        answer.initialized = true;
        answer.your_registered_instance_id = "old".into();
        assert!(matches!(
            decide(1, "i", "c", &members(), &[knows.clone(), (3, None)]),
            Decision::Refuse(_)
        ));
        knows
            .1
            .as_mut()
            .expect("answered")
            .your_registered_instance_id = "i".into();
        assert!(matches!(
            decide(1, "i", "c", &members(), &[knows, blank(3)]),
            Decision::Wait(_)
        ));
    }

    #[test]
    fn foreign_cluster_is_refused() {
        let mut foreign = blank(2);
        foreign.1.as_mut().expect("answered").cluster_name = "other".into();
        assert!(matches!(
            decide(1, "i", "c", &members(), &[foreign, blank(3)]),
            Decision::Refuse(_)
        ));
    }
}
