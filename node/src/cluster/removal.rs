//! [`Removal`]: whether a node that is no member, as far as its log goes, was removed. Pure.
//!
//! One that was added, or added again, reads entries of times when it was no member, and one that starts again has not heard yet. As long as a
//! primary speaks to it, it is none of these two: primaries speak to members. Run by `role`.

use std::time::Duration;

use super::role::Role;

/// A primary speaks to each member many times a second.
pub(super) const ALONE_AFTER: Duration = Duration::from_secs(2);

/// What may tell that a node that is no member was removed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Signs {
    /// How long no primary has spoken to it; `None` if none has since it started.
    pub(super) silence: Option<Duration>,
    /// A peer said so.
    pub(super) told: bool,
    /// Its own catalog says so.
    pub(super) registered: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Removal {
    was_member: bool,
    said: bool,
}

impl Removal {
    /// What a node is that has this role by Raft's state, or none, as it is not among the members there.
    pub(super) fn judge(&mut self, by_raft: Option<Role>, signs: Signs) -> Role {
        if let Some(role) = by_raft {
            self.was_member |= role != Role::Joining;
            return role;
        }
        let alone = signs.silence.is_none_or(|silence| silence > ALONE_AFTER);
        if alone && (self.was_member || signs.told || signs.registered) {
            Role::Removed
        } else {
            Role::Joining
        }
    }

    /// Whether to say now that the node was removed: once.
    pub(super) fn is_news(&mut self, role: Role) -> bool {
        let removed = role == Role::Removed;
        let news = removed && !self.said;
        // Also where it stopped for another reason meanwhile; only a member can be removed again.
        self.said |= removed;
        if !matches!(role, Role::Removed | Role::Joining | Role::Stopped) {
            self.said = false;
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPOKEN_TO: Signs = Signs {
        silence: Some(Duration::from_millis(100)),
        told: false,
        registered: false,
    };
    const ALONE: Signs = Signs {
        silence: Some(Duration::from_secs(3)),
        ..SPOKEN_TO
    };
    const MEMBER: Option<Role> = Some(Role::Learner);

    fn roles(seen: &[(Option<Role>, Signs)]) -> Vec<Role> {
        let mut removal = Removal::default();
        let judge = |&(role, signs)| removal.judge(role, signs);
        seen.iter().map(judge).collect()
    }

    #[test]
    fn a_node_that_catches_up_joins() {
        // As the log of one goes that was removed and added again.
        let registered = Signs {
            registered: true,
            ..SPOKEN_TO
        };
        let seen = [(None, SPOKEN_TO), (MEMBER, SPOKEN_TO), (None, registered)];
        let expected = [Role::Joining, Role::Learner, Role::Joining];
        assert_eq!(roles(&seen), expected);
        // The primary is gone for a moment.
        assert_eq!(roles(&[(None, ALONE)]), [Role::Joining]);
    }

    #[test]
    fn a_node_that_nobody_speaks_to_was_removed_if_anything_says_so() {
        assert_eq!(roles(&[(MEMBER, ALONE), (None, ALONE)])[1], Role::Removed);
        let started_again = Signs {
            silence: None,
            ..ALONE
        };
        assert_eq!(roles(&[(None, started_again)]), [Role::Joining]);
        for (told, registered) in [(true, false), (false, true)] {
            let signs = Signs {
                told,
                registered,
                ..started_again
            };
            assert_eq!(roles(&[(None, signs)]), [Role::Removed]);
        }
    }

    #[test]
    fn a_removal_is_said_once_each_time() {
        let mut removal = Removal::default();
        let mut said = |role| removal.is_news(role);
        assert!(!said(Role::Learner));
        assert!(said(Role::Removed));
        for role in [Role::Removed, Role::Stopped, Role::Joining, Role::Removed] {
            assert!(!said(role));
        }
        assert!(!said(Role::Learner));
        assert!(said(Role::Removed));
    }
}
