//! Which node a call goes to: a pure choice over what is known.

/// Where a call wants to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// To the primary if it can be reached, else to any node, which hands the call on: writes, transactions, linearizable reads.
    Primary,
    /// To any member, spread by load: the other reads.
    Any,
    /// To a member whose address the application has named if one can be reached, else to any.
    Given,
    /// To the member with this id if it can be reached, else to any.
    Member(u64),
}

/// What is known of one node at the moment of the choice.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Candidate {
    /// A connection is open.
    pub(crate) up: bool,
    /// A member of the cluster, as far as is known.
    pub(crate) member: bool,
    pub(crate) primary: bool,
    /// The member that the call names.
    pub(crate) named: bool,
    /// The application has named its address.
    pub(crate) given: bool,
    /// Another node said that this one is the primary.
    pub(crate) hinted: bool,
    /// This call has been there since it last paused.
    pub(crate) tried: bool,
    /// Calls of this client that it has not answered.
    pub(crate) outstanding: usize,
}

/// The node for the next try among `count` candidates, `None` if there is nobody left to ask. `random` is any random number.
pub(crate) fn route(
    need: Need,
    count: usize,
    random: u64,
    candidate: impl Fn(usize) -> Candidate,
) -> Option<usize> {
    let usable = |index: &usize| {
        let candidate = candidate(*index);
        candidate.up && candidate.member && !candidate.tried
    };
    let direct = |wanted: fn(&Candidate) -> bool| {
        (0..count)
            .filter(usable)
            .find(|index| wanted(&candidate(*index)))
    };
    let chosen = match need {
        Need::Primary => direct(|c| c.hinted).or_else(|| direct(|c| c.primary)),
        Need::Member(_) => direct(|c| c.named),
        Need::Any | Need::Given => None,
    };
    if chosen.is_some() {
        return chosen;
    }
    let is_given = |index: &usize| candidate(*index).given;
    let given_only = need == Need::Given && (0..count).filter(usable).any(|index| is_given(&index));
    let usable = |index: &usize| usable(index) && (!given_only || is_given(index));
    let usable_count = (0..count).filter(usable).count();
    if usable_count == 0 {
        return None;
    }
    // Two choices at random, the less loaded wins: close to the best spread without a herd running to one node.
    let nth = |n: u64| {
        (0..count)
            .filter(usable)
            .nth((n % usable_count as u64) as usize)
    };
    let first = nth(random >> 32)?;
    let second =
        nth((random >> 32) + 1 + (random & 0xffff_ffff) % (usable_count as u64 - 1).max(1))?;
    if candidate(second).outstanding < candidate(first).outstanding {
        Some(second)
    } else {
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    const UP: Candidate = Candidate {
        up: true,
        member: true,
        primary: false,
        named: false,
        given: false,
        hinted: false,
        tried: false,
        outstanding: 0,
    };
    const PRIMARY: Candidate = Candidate {
        primary: true,
        ..UP
    };
    const TRIED: Candidate = Candidate { tried: true, ..UP };
    const DOWN: Candidate = Candidate { up: false, ..UP };

    fn choices(need: Need, nodes: &[Candidate]) -> Vec<usize> {
        let random = Random::from_seed(1);
        let mut hits = vec![0; nodes.len()];
        for _ in 0..3000 {
            if let Some(index) = route(need, nodes.len(), random.next(), |index| nodes[index]) {
                hits[index] += 1;
            }
        }
        hits
    }

    #[test]
    fn writes_go_to_the_primary() {
        assert_eq!(choices(Need::Primary, &[UP, PRIMARY, UP]), [0, 3000, 0]);
    }

    #[test]
    fn a_hint_beats_the_known_primary() {
        let hinted = Candidate { hinted: true, ..UP };
        assert_eq!(choices(Need::Primary, &[PRIMARY, UP, hinted]), [0, 0, 3000]);
    }

    #[test]
    fn without_a_reachable_primary_writes_go_to_any_other() {
        let dead = Candidate {
            up: false,
            ..PRIMARY
        };
        let hits = choices(Need::Primary, &[dead, UP, UP]);
        assert_eq!(hits[0], 0);
        assert!(hits[1] > 1000 && hits[2] > 1000, "{hits:?}");
    }

    #[test]
    fn reads_spread_evenly_over_equal_members() {
        let stranger = Candidate {
            member: false,
            ..UP
        };
        let hits = choices(Need::Any, &[PRIMARY, UP, stranger, UP, DOWN]);
        assert_eq!((hits[2], hits[4]), (0, 0));
        for index in [0, 1, 3] {
            assert!(hits[index] > 850, "{hits:?}");
        }
    }

    #[test]
    fn reads_of_who_points_at_nodes_go_to_these_while_they_can() {
        let given = Candidate { given: true, ..UP };
        let hits = choices(Need::Given, &[PRIMARY, given, UP, given]);
        assert_eq!((hits[0], hits[2]), (0, 0), "{hits:?}");
        assert!(hits[1] > 1000 && hits[3] > 1000, "{hits:?}");
        for gone in [false, true] {
            let gone = Candidate {
                up: gone,
                tried: true,
                ..given
            };
            let hits = choices(Need::Given, &[UP, gone, UP]);
            assert!(hits[0] > 1000 && hits[2] > 1000, "{hits:?}");
        }
    }

    #[test]
    fn reads_avoid_the_loaded_node() {
        let loaded = Candidate {
            outstanding: 9,
            ..UP
        };
        let hits = choices(Need::Any, &[loaded, UP, UP]);
        assert_eq!(hits[0], 0, "{hits:?}");
        assert_eq!(choices(Need::Any, &[loaded, TRIED]), [3000, 0]);
    }

    #[test]
    fn a_named_member_is_asked_first_and_others_when_it_cannot_be() {
        let named = Candidate { named: true, ..UP };
        let need = Need::Member(3);
        assert_eq!(choices(need, &[PRIMARY, UP, named]), [0, 0, 3000]);
        for unusable in [
            Candidate { up: false, ..named },
            Candidate {
                tried: true,
                ..named
            },
        ] {
            let hits = choices(need, &[PRIMARY, UP, unusable]);
            assert!(hits[0] > 1000 && hits[1] > 1000, "{hits:?}");
        }
    }

    #[test]
    fn nobody_left_is_none() {
        assert_eq!(route(Need::Any, 2, 0, |_| TRIED), None);
        assert_eq!(route(Need::Primary, 2, 0, |_| DOWN), None);
        assert_eq!(route(Need::Any, 0, 0, |_| UP), None);
    }
}
