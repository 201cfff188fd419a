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
use super::feature_level::Levels;
use super::transport::Purpose;

const ASK_EVERY: Duration = Duration::from_millis(100);
const ASK_TIMEOUT: Duration = Duration::from_millis(500);
/// After how many rounds people are told what is being waited for: nodes that are started together do not wait so long.
const REPORT_FIRST: u32 = 10;
/// How often they are told again.
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
    let named = |id: u64| match members.iter().find(|member| member.id == id) {
        Some(member) => format!("node {id} at {}", member.addr),
        None => format!("node {id}"),
    };
    let mut silent = Vec::new();
    for (id, answer) in answers {
        let Some(answer) = answer else {
            silent.push(named(*id));
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
        #[cfg(feature = "planted-bugs")]
        let registered = if halite_planted::on(halite_planted::Bug::AnyInstanceWelcome) {
            ""
        } else {
            registered
        };
        if !registered.is_empty() && registered != instance_id {
            return Decision::Refuse(format!(
                "the data directory is blank, but the cluster knows node {node_id} with another one: if its disk is lost, run \
                 `halite member remove {node_id}` and add it again with `halite member add` (start it with cluster.join: true)"
            ));
        }
        if answer.initialized {
            return Decision::Wait(format!(
                "{} belongs to a cluster already: waiting to hear from its primary",
                named(*id)
            ));
        }
    }
    if !silent.is_empty() {
        return Decision::Wait(format!(
            "the cluster is formed when all first members answer, still waiting for {}: start them, or correct cluster.initial-members",
            silent.join(", ")
        ));
    }
    match members.iter().map(|m| m.id).min() {
        Some(lowest) if lowest != node_id => Decision::Wait(format!(
            "waiting for {}, which has the lowest id, to form the cluster",
            named(lowest)
        )),
        _ => Decision::Form,
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
                let is_due = round % REPORT_EVERY == REPORT_FIRST;
                // At once when somebody else is waited for.
                let is_news =
                    round > REPORT_FIRST && cluster.waits_for.lock().as_ref() != Some(&reason);
                if is_due || is_news {
                    warn!("{reason}");
                }
                *cluster.waits_for.lock() = Some(reason);
                tokio::time::sleep(ASK_EVERY).await;
            }
        }
        round = round.wrapping_add(1);
    }
    *cluster.waits_for.lock() = None;
    Ok(())
}

/// Says what of a configuration does not fit the cluster that the node belongs to.
pub(crate) fn remark(cluster: &Cluster, first: &[FirstMember]) {
    if let Some(misplaced) = cluster.misplaced() {
        warn!("{misplaced}");
    }
    let known = cluster.topology().members;
    let is_known = |first: &&FirstMember| {
        let mut known = known.iter();
        known.any(|member| member.node_id == first.id && member.addr == first.addr)
    };
    let strange: Vec<String> = first
        .iter()
        .filter(|first| !is_known(first))
        .map(|first| format!("{}@{}", first.id, first.addr))
        .collect();
    if !strange.is_empty() && !known.is_empty() {
        info!(
            "cluster.initial-members counts when a cluster is formed, and this one has other members by now: ignored={}",
            strange.join(",")
        );
    }
}

pub(crate) fn member_of(id: u64, addr: &str) -> Member {
    Member {
        addr: addr.to_owned(),
        name: format!("node-{id}"),
    }
}

async fn ask(cluster: &Cluster, member: &FirstMember) -> Option<v1::IdentifyResponse> {
    let answer = identify(cluster, member.id, &member.addr).await.ok()?;
    // Whoever leads first begins the cluster at what all can do, and one may be slow to answer then.
    let levels = Levels::from_wire(answer.level_min, answer.level_max);
    cluster.heard_levels.lock().insert(member.id, levels);
    Some(answer)
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
