//! Whether a change of members, or of who leads, may begin, and what is left of one that was interrupted. Pure: over the configuration, who
//! answers now, and what is asked.

use std::collections::BTreeSet;
use std::fmt;

/// A voter further behind than this many entries is neither promoted nor handed leadership.
pub(super) const BEHIND_MAX: u64 = 1000;

/// The members as the primary knows them, and who of them answers it now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) primary: u64,
    /// Two while the voters change; the last one is where the change leads.
    pub(super) configs: Vec<BTreeSet<u64>>,
    /// Voters and learners.
    pub(super) members: BTreeSet<u64>,
    /// The primary itself is among them, if the disk of its log answers.
    pub(super) answering: BTreeSet<u64>,
}

/// Why something is not begun. What it says is for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("node {0} is not a member")]
    NotAMember(u64),
    #[error("node {0} is not a voter")]
    NotAVoter(u64),
    #[error("the last voter cannot be removed")]
    LastVoter,
    #[error("the primary does not remove itself: run `halite transfer` first")]
    Primary,
    #[error("node {0} does not answer")]
    Silent(u64),
    #[error("node {node_id} is still {entries} entries behind: try again")]
    Behind { node_id: u64, entries: u64 },
    #[error(
        "of the voters {voters} only {answering} answer{s}: {when}, they would be no majority and nothing could be written until more are back; \
         bring back or remove {silent} first, or use --force",
        s = if answering.0.len() == 1 { "s" } else { "" }
    )]
    NoQuorum {
        when: When,
        voters: Ids,
        answering: Ids,
        silent: Ids,
    },
    #[error("no other voter answers and is caught up: leadership stays at node {0}")]
    NoSuccessor(u64),
}

/// Which majority would be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// The change itself could not be committed.
    Now,
    /// The cluster could not go on.
    Afterwards,
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Now => "as it is",
            Self::Afterwards => "after this change",
        })
    }
}

/// Node ids for people: `1, 2 and 4`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ids(pub(super) BTreeSet<u64>);

impl fmt::Display for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.0.len().saturating_sub(1);
        for (at, id) in self.0.iter().enumerate() {
            let before = match at {
                0 => "",
                _ if at == last => " and ",
                _ => ", ",
            };
            write!(f, "{before}{id}")?;
        }
        if self.0.is_empty() {
            f.write_str("none")?;
        }
        Ok(())
    }
}

/// What a removal has left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Removal {
    /// Take its vote.
    pub(super) demote: bool,
    /// Take it out of the members.
    pub(super) forget: bool,
}

/// `known`: the cluster has met a node of this id, though it may be no member any more.
pub(super) fn removal(
    standing: &Standing,
    node_id: u64,
    known: bool,
    force: bool,
) -> Result<Removal, Refusal> {
    let voters = standing.voters();
    let is_voter = standing.configs.iter().any(|c| c.contains(&node_id));
    if !standing.members.contains(&node_id) {
        // It is gone, but whoever removed it may not have come to the end.
        let rest = Removal {
            demote: false,
            forget: false,
        };
        return known.then_some(rest).ok_or(Refusal::NotAMember(node_id));
    }
    if is_voter {
        let mut after = voters.clone();
        after.remove(&node_id);
        if after.is_empty() {
            return Err(Refusal::LastVoter);
        }
        if node_id == standing.primary {
            return Err(Refusal::Primary);
        }
        standing.allow(&after, force)?;
    }
    Ok(Removal {
        demote: is_voter,
        forget: true,
    })
}

/// Whether a learner that is `behind` this many entries may vote from now on; false if it does already.
pub(super) fn promotion(
    standing: &Standing,
    node_id: u64,
    behind: Option<u64>,
    force: bool,
) -> Result<bool, Refusal> {
    if !standing.members.contains(&node_id) {
        return Err(Refusal::NotAMember(node_id));
    }
    let mut after = standing.voters();
    if !after.insert(node_id) {
        return Ok(false);
    }
    is_close(standing, node_id, behind)?;
    standing.allow(&after, force)?;
    Ok(true)
}

/// Who is to lead: `to`, or the other voter with the fewest databases in trouble, and of those the one whose log reaches furthest. `behind` says by
/// how many entries a node is behind, if it is known.
pub(super) fn successor(
    standing: &Standing,
    to: Option<u64>,
    troubles: impl Fn(u64) -> usize,
    behind: impl Fn(u64) -> Option<u64>,
) -> Result<u64, Refusal> {
    let voters = standing.voters();
    if let Some(id) = to {
        if !voters.contains(&id) {
            return Err(Refusal::NotAVoter(id));
        }
        is_close(standing, id, behind(id))?;
        return Ok(id);
    }
    let close = voters
        .iter()
        .copied()
        .filter(|id| *id != standing.primary)
        .filter(|id| is_close(standing, *id, behind(*id)).is_ok());
    close
        .min_by_key(|id| (troubles(*id), behind(*id), *id))
        .ok_or(Refusal::NoSuccessor(standing.primary))
}

fn is_close(standing: &Standing, node_id: u64, behind: Option<u64>) -> Result<(), Refusal> {
    if !standing.answering.contains(&node_id) {
        return Err(Refusal::Silent(node_id));
    }
    match behind {
        None => Err(Refusal::Silent(node_id)),
        Some(entries) if entries > BEHIND_MAX => Err(Refusal::Behind { node_id, entries }),
        Some(_) => Ok(()),
    }
}

impl Standing {
    /// Where the configuration leads.
    pub(super) fn voters(&self) -> BTreeSet<u64> {
        self.configs.last().cloned().unwrap_or_default()
    }

    fn allow(&self, after: &BTreeSet<u64>, force: bool) -> Result<(), Refusal> {
        #[cfg(feature = "planted-bugs")]
        let force = force || halite_planted::on(halite_planted::Bug::RemovalUnchecked);
        if force {
            return Ok(());
        }
        for config in &self.configs {
            self.is_quorum(config, When::Now)?;
        }
        self.is_quorum(after, When::Afterwards)
    }

    fn is_quorum(&self, voters: &BTreeSet<u64>, when: When) -> Result<(), Refusal> {
        let answering: BTreeSet<u64> = voters.intersection(&self.answering).copied().collect();
        if answering.len() * 2 > voters.len() {
            return Ok(());
        }
        Err(Refusal::NoQuorum {
            when,
            silent: Ids(voters.difference(&answering).copied().collect()),
            voters: Ids(voters.clone()),
            answering: Ids(answering),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[u64]) -> BTreeSet<u64> {
        ids.iter().copied().collect()
    }

    /// Node 1 leads.
    fn standing(configs: &[&[u64]], learners: &[u64], answering: &[u64]) -> Standing {
        let configs: Vec<BTreeSet<u64>> = configs.iter().map(|c| set(c)).collect();
        let mut members: BTreeSet<u64> = configs.iter().flatten().copied().collect();
        members.extend(learners);
        Standing {
            primary: 1,
            configs,
            members,
            answering: set(answering),
        }
    }

    const ALL: Removal = Removal {
        demote: true,
        forget: true,
    };

    #[test]
    fn a_voter_is_removed_only_if_those_that_answer_are_a_majority_afterwards() {
        let three: &[u64] = &[1, 2, 3];
        let four: &[u64] = &[1, 2, 3, 4];
        let five: &[u64] = &[1, 2, 3, 4, 5];
        for (voters, answering, node, allowed) in [
            (three, three, 3, true),
            // The dead one goes, the live ones stay.
            (three, &[1, 2][..], 3, true),
            // A live one goes while another is dead: one of two is left.
            (three, &[1, 2], 2, false),
            (four, &[1, 2, 3], 4, true),
            // Two of the three that stay.
            (four, &[1, 2, 3], 3, true),
            (five, &[1, 2, 3], 4, true),
            (five, &[1, 2, 3], 3, false),
            (five, &[1, 2, 3, 4], 4, true),
            (&[1, 2], &[1, 2], 2, true),
            // There is no majority to decide it.
            (&[1, 2], &[1], 2, false),
            (four, &[1, 2], 4, false),
        ] {
            let standing = standing(&[voters], &[], answering);
            let plain = removal(&standing, node, true, false);
            assert_eq!(
                plain.is_ok(),
                allowed,
                "{voters:?} {answering:?} {node}: {plain:?}"
            );
            assert_eq!(removal(&standing, node, true, true), Ok(ALL));
        }
    }

    #[test]
    fn a_refusal_names_who_is_missing() {
        let refusal = removal(&standing(&[&[1, 2, 3]], &[], &[1, 2]), 2, true, false);
        let said = refusal.expect_err("one of two is no majority").to_string();
        assert!(
            said.contains("of the voters 1 and 3 only 1 answers")
                && said.contains("bring back or remove 3 first")
                && said.contains("--force"),
            "{said}"
        );
    }

    #[test]
    fn a_removal_goes_on_where_an_interrupted_one_ended() {
        // Its vote was taken, or is being taken.
        let learner = standing(&[&[1, 2]], &[3], &[1, 2]);
        let rest = Removal {
            demote: false,
            forget: true,
        };
        assert_eq!(removal(&learner, 3, true, false), Ok(rest));
        let joint = standing(&[&[1, 2, 3], &[1, 2]], &[], &[1, 2]);
        assert_eq!(removal(&joint, 3, true, false), Ok(ALL));
        // It was taken out, and nobody wrote that down.
        let gone = standing(&[&[1, 2]], &[], &[1, 2]);
        let nothing = Removal {
            demote: false,
            forget: false,
        };
        assert_eq!(removal(&gone, 3, true, false), Ok(nothing));
        assert_eq!(removal(&gone, 9, false, false), Err(Refusal::NotAMember(9)));
    }

    #[test]
    fn neither_the_primary_nor_the_last_voter_is_removed_by_force_either() {
        for force in [false, true] {
            let alone = standing(&[&[1]], &[], &[1]);
            assert_eq!(removal(&alone, 1, true, force), Err(Refusal::LastVoter));
            let three = standing(&[&[1, 2, 3]], &[], &[1, 2, 3]);
            assert_eq!(removal(&three, 1, true, force), Err(Refusal::Primary));
        }
    }

    #[test]
    fn a_learner_is_removed_whoever_answers() {
        let standing = standing(&[&[1, 2, 3]], &[4], &[1, 2]);
        assert!(removal(&standing, 4, true, false).is_ok());
    }

    #[test]
    fn a_learner_votes_when_it_answers_is_close_and_leaves_a_majority() {
        let healthy = standing(&[&[1, 2, 3]], &[4], &[1, 2, 3, 4]);
        assert_eq!(promotion(&healthy, 4, Some(0), false), Ok(true));
        assert_eq!(promotion(&healthy, 3, None, false), Ok(false));
        assert_eq!(
            promotion(&healthy, 4, Some(BEHIND_MAX + 1), false),
            Err(Refusal::Behind {
                node_id: 4,
                entries: BEHIND_MAX + 1
            })
        );
        assert_eq!(promotion(&healthy, 4, None, false), Err(Refusal::Silent(4)));
        assert_eq!(
            promotion(&healthy, 9, Some(0), false),
            Err(Refusal::NotAMember(9))
        );
        // Dead, though it was caught up when it died: two of four would be left.
        let dead = standing(&[&[1, 2, 3]], &[4], &[1, 2]);
        assert_eq!(promotion(&dead, 4, Some(0), true), Err(Refusal::Silent(4)));
        // It answers, and three of four are there.
        let one_dead = standing(&[&[1, 2, 3]], &[4], &[1, 2, 4]);
        assert_eq!(promotion(&one_dead, 4, Some(0), false), Ok(true));
        // Only one of the two that would vote answers... with it, one of two is not enough before.
        let minority = standing(&[&[1, 2]], &[4], &[1, 4]);
        assert!(matches!(
            promotion(&minority, 4, Some(0), false),
            Err(Refusal::NoQuorum {
                when: When::Now,
                ..
            })
        ));
        assert_eq!(promotion(&minority, 4, Some(0), true), Ok(true));
    }

    #[test]
    fn leadership_goes_to_a_voter_that_answers_and_is_close() {
        let all = standing(&[&[1, 2, 3]], &[4], &[1, 2, 3, 4]);
        let behind = |id| match id {
            2 => Some(7),
            3 => Some(2),
            _ => None,
        };
        let none = |_| 0;
        assert_eq!(successor(&all, None, none, behind), Ok(3));
        // Further behind, but with all its databases.
        let troubled = |id| usize::from(id == 3);
        assert_eq!(successor(&all, None, troubled, behind), Ok(2));
        assert_eq!(successor(&all, Some(2), none, behind), Ok(2));
        assert_eq!(
            successor(&all, Some(4), none, behind),
            Err(Refusal::NotAVoter(4))
        );
        let one_dead = standing(&[&[1, 2, 3]], &[], &[1, 2]);
        assert_eq!(successor(&one_dead, None, none, behind), Ok(2));
        assert_eq!(
            successor(&one_dead, Some(3), none, behind),
            Err(Refusal::Silent(3))
        );
        let alone = standing(&[&[1, 2, 3]], &[], &[1]);
        assert_eq!(
            successor(&alone, None, none, behind),
            Err(Refusal::NoSuccessor(1))
        );
        let far = |_| Some(BEHIND_MAX + 1);
        assert_eq!(
            successor(&all, None, none, far),
            Err(Refusal::NoSuccessor(1))
        );
    }
}
