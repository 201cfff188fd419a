//! Raising the cluster's feature level, when every member can follow. On the primary only.
//!
//! [`plan`] decides over what the members say of themselves at that moment; what they said when they were added is of the program that
//! ran then. One that does not answer counts as one that cannot: it may come back as an older build, and could not read its log any more.

use std::collections::BTreeMap;

use halite_proto::v1;
use halite_proto::v1::command::Kind;
use tracing::info;

use super::Cluster;
use super::error::ClusterError;
use super::feature_level::{Level, Levels};
use super::formation::identify;

/// What a member, voter or learner, says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemberLevels {
    pub(crate) node_id: u64,
    pub(crate) addr: String,
    /// Version and levels; `None` if it does not answer.
    pub(crate) answer: Option<(String, Levels)>,
}

/// What can be done about the level.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// No member can do more than the cluster does.
    UpToDate,
    /// Every member can do this level.
    Raise(Level),
    /// Some can do this level, and these words say who cannot.
    Blocked(Level, String),
}

pub(crate) fn plan(current: Level, members: &[MemberLevels]) -> Plan {
    let answers = members.iter().filter_map(|m| m.answer.as_ref());
    let next = answers.map(|(_, levels)| levels.max).max();
    let Some(next) = next.filter(|next| *next > current) else {
        return Plan::UpToDate;
    };
    let blockers: Vec<String> = members
        .iter()
        .filter_map(|m| match &m.answer {
            Some((_, levels)) if levels.hold(next) => None,
            Some((version, levels)) => Some(format!(
                "node {} (halite {version}) supports levels {levels}",
                m.node_id
            )),
            None => Some(format!("node {} at {} does not answer", m.node_id, m.addr)),
        })
        .collect();
    if blockers.is_empty() {
        return Plan::Raise(next);
    }
    let words = format!(
        "level {next} needs every member: {}: upgrade or start it, or remove it",
        blockers.join(", ")
    );
    Plan::Blocked(next, words)
}

/// The level that a new cluster of these members begins at. Of one that does not answer now counts what it said a moment ago (`heard`); one that
/// never answered may be a build without levels.
pub(crate) fn first_level(members: &[MemberLevels], heard: &BTreeMap<u64, Levels>) -> Level {
    let levels = |m: &MemberLevels| {
        let now = m.answer.as_ref().map(|(_, levels)| *levels);
        now.or_else(|| heard.get(&m.node_id).copied())
    };
    let highest = members.iter().map(|m| levels(m).map(|levels| levels.max));
    highest.min().flatten().unwrap_or_default()
}

impl Cluster {
    /// What the members can do and, if `finalize`, the level raised to it. Again it changes nothing.
    pub(crate) async fn upgrade(
        &self,
        finalize: bool,
    ) -> Result<v1::UpgradeResponse, ClusterError> {
        // No member comes between the question and the raise.
        let _turn = match finalize {
            true => Some(self.turn().await?),
            false => None,
        };
        self.require_primary()?;
        let members = self.member_levels().await;
        let level = self.shared().catalog.lock().level;
        let (level, next, blocked) = match plan(level, &members) {
            Plan::UpToDate => (level, level, String::new()),
            Plan::Raise(next) if finalize => {
                let raise = v1::RaiseLevelCommand { level: next.get() };
                self.command(Kind::RaiseLevel(raise)).await?;
                info!(from = %level, to = %next, "the cluster's feature level is raised");
                (next, next, String::new())
            }
            Plan::Raise(next) => (level, next, String::new()),
            Plan::Blocked(_, why) if finalize => return Err(ClusterError::invalid(why)),
            Plan::Blocked(next, why) => (level, next, why),
        };
        let told = |m: MemberLevels| {
            let (version, levels) = m.answer.map_or_else(Default::default, |(version, l)| {
                (version, (l.min.get(), l.max.get()))
            });
            v1::MemberLevels {
                node_id: m.node_id,
                addr: m.addr,
                version,
                level_min: levels.0,
                level_max: levels.1,
            }
        };
        Ok(v1::UpgradeResponse {
            level: level.get(),
            next_level: next.get(),
            blocked,
            members: members.into_iter().map(told).collect(),
        })
    }

    /// What every member says of itself now.
    pub(crate) async fn member_levels(&self) -> Vec<MemberLevels> {
        let identity = self.identity();
        let asked = self.topology().members.into_iter().map(async |member| {
            let answer = if member.node_id == identity.node_id {
                let version = env!("CARGO_PKG_VERSION").to_owned();
                Some((version, identity.level.ours()))
            } else {
                let answer = identify(self, member.node_id, &member.addr).await;
                let known = identity.instance_of(member.node_id);
                let is_member = |answer: &v1::IdentifyResponse| {
                    answer.node_id == member.node_id
                        && known.is_none_or(|known| known == answer.instance_id)
                };
                answer.ok().filter(is_member).map(|answer| {
                    let levels = Levels::from_wire(answer.level_min, answer.level_max);
                    (answer.version, levels)
                })
            };
            MemberLevels {
                node_id: member.node_id,
                addr: member.addr,
                answer,
            }
        });
        futures::future::join_all(asked).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node_id: u64, max: Option<u32>) -> MemberLevels {
        MemberLevels {
            node_id,
            addr: format!("h:{node_id}"),
            answer: max.map(|max| ("0.1.0".to_owned(), Levels::from_wire(1, max))),
        }
    }

    fn members(highest: &[Option<u32>]) -> Vec<MemberLevels> {
        (1..)
            .zip(highest)
            .map(|(id, max)| member(id, *max))
            .collect()
    }

    #[test]
    fn level_is_raised_only_when_every_member_can_follow() {
        let blocked = |plan: &Plan, words: &str| match plan {
            Plan::Blocked(_, why) => why.contains(words),
            _ => false,
        };
        for (current, highest, expected) in [
            (2, &[Some(2), Some(2), Some(2)][..], Some(Plan::UpToDate)),
            (
                1,
                &[Some(2), Some(2), Some(2)],
                Some(Plan::Raise(Level::new(2))),
            ),
            (1, &[Some(3), Some(3)], Some(Plan::Raise(Level::new(3)))),
            // Nobody that answers could follow.
            (2, &[Some(2), None, Some(2)], Some(Plan::UpToDate)),
            (2, &[Some(3), Some(2), Some(3)], None),
            // Built before there were levels.
            (1, &[Some(2), Some(0), Some(2)], None),
            // The primary itself is the older one.
            (2, &[Some(2), Some(3), Some(3)], None),
            (2, &[Some(3), Some(3), None], None),
        ] {
            let found = plan(Level::new(current), &members(highest));
            match expected {
                Some(expected) => assert_eq!(found, expected, "{highest:?}"),
                None => assert!(blocked(&found, "node "), "{highest:?}: {found:?}"),
            }
        }
        let found = plan(Level::new(2), &members(&[Some(3), Some(3), None]));
        assert!(
            blocked(&found, "node 3 at h:3 does not answer"),
            "{found:?}"
        );
    }

    #[test]
    fn new_cluster_begins_where_its_oldest_member_ends() {
        let heard = BTreeMap::from([(1, Levels::from_wire(1, 3)), (3, Levels::from_wire(1, 2))]);
        for (highest, level) in [
            (&[Some(2), Some(2), Some(2)][..], 2),
            (&[Some(3), Some(2), Some(3)], 2),
            (&[None, Some(3), Some(3)], 3),
            (&[Some(3), Some(3), None], 2),
            (&[Some(2), None, Some(2)], 1),
            (&[Some(2), Some(0)], 1),
            (&[], 1),
        ] {
            let found = first_level(&members(highest), &heard);
            assert_eq!(found, Level::new(level), "{highest:?}");
        }
    }
}
