//! [`Follow`]: how a database stands to its log. One value per database; pure: events in, answers out.
//!
//! It knows where the database is, the newest transaction that is known to be committed, and what keeps the two apart. It is the one place
//! where "well" is decided, and where an entry is compared with what is here before it is passed over. What it cannot know is derived from
//! the log at each start: see [`recovery`](super::recovery). Never touches a file, a lock or a clock.
//!
//! Owned by the lane; the rest of the node sees the [`Health`] that the lane publishes.

use std::collections::VecDeque;
use std::time::Duration;

use halite_ltx::{Checksum, Position, Txid};
use halite_proto::v1;

use super::{ApplyError, Health, Mark};

/// First and longest pause before something that failed is tried again.
const RETRY_FIRST: Duration = Duration::from_millis(50);
pub(super) const RETRY_LONGEST: Duration = Duration::from_secs(5);
/// Positions remembered, to be compared with entries that come again.
const RECENT_MAX: usize = 1024;

/// What is to be done with an entry.
#[derive(Debug)]
pub(super) enum OnEntry {
    /// It is the next one.
    Apply,
    /// It is here already.
    Skip,
    /// The database cannot take it now: it is read from the log again when it can.
    Later,
    /// It does not fit: nothing is applied any more.
    Stop(ApplyError),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Follow {
    here: Position,
    /// Where it was before: the last one is `here`.
    recent: VecDeque<Position>,
    newest: Option<Mark>,
    health: Health,
    pause: Duration,
}

impl Follow {
    /// A database at `here`, of which the log is known to have committed `newest`.
    pub(super) fn new(here: Position, newest: Option<Mark>, health: Health) -> Self {
        Follow {
            here,
            recent: VecDeque::from([here]),
            newest,
            health,
            pause: RETRY_FIRST,
        }
    }

    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    pub(super) fn is_fine(&self) -> bool {
        self.health == Health::Fine
    }

    /// It can get there by itself, step by step.
    pub(super) fn needs_steps(&self) -> bool {
        matches!(self.health, Health::Behind { .. })
    }

    /// What is committed and not here.
    pub(super) fn lacks(&self) -> Option<Mark> {
        self.newest
            .filter(|newest| newest.position.txid > self.here.txid)
    }

    /// A committed entry was handed over.
    pub(super) fn on_entry(&mut self, entry: Mark, command: &v1::LtxCommand) -> OnEntry {
        let next = self.place(command);
        if !matches!(
            next,
            OnEntry::Skip | OnEntry::Stop(ApplyError::Forked { .. })
        ) {
            self.on_committed(entry);
        }
        match next {
            OnEntry::Apply | OnEntry::Stop(ApplyError::Gap { .. }) if !self.is_fine() => {
                OnEntry::Later
            }
            next => next,
        }
    }

    /// Where an entry belongs, whatever the health is.
    pub(super) fn place(&self, command: &v1::LtxCommand) -> OnEntry {
        let txid = Txid::new(command.txid);
        if txid <= self.here.txid {
            return match self.fork_at(txid, Checksum::new(command.post_checksum)) {
                Some(error) => OnEntry::Stop(error),
                None => OnEntry::Skip,
            };
        }
        if txid != self.here.txid.next() {
            return OnEntry::Stop(ApplyError::Gap {
                applied: self.here.txid,
                found: txid,
            });
        }
        if command.pre_checksum != self.here.checksum.get() {
            return OnEntry::Stop(ApplyError::Diverged {
                txid,
                expected: command.pre_checksum,
                found: self.here.checksum,
            });
        }
        OnEntry::Apply
    }

    /// That much is committed. An error says that what is here is something else.
    pub(super) fn on_told(&mut self, told: Mark) -> Result<(), ApplyError> {
        self.on_committed(told);
        let Position { txid, checksum } = told.position;
        match self.fork_at(txid, checksum) {
            Some(error) if txid <= self.here.txid => Err(error),
            _ => Ok(()),
        }
    }

    fn on_committed(&mut self, mark: Mark) {
        let newer = |newest: &Mark| newest.position.txid >= mark.position.txid;
        if !self.newest.as_ref().is_some_and(newer) {
            self.newest = Some(mark);
        }
    }

    /// The transaction `txid` is here, and is not the one that was committed.
    fn fork_at(&self, txid: Txid, committed: Checksum) -> Option<ApplyError> {
        #[cfg(feature = "planted-bugs")]
        if halite_planted::on(halite_planted::Bug::EqualTxidNotCompared) {
            return None;
        }
        let here = self.recent.iter().rev().find(|here| here.txid == txid)?;
        (here.checksum != committed).then_some(ApplyError::Forked {
            txid,
            committed,
            found: here.checksum,
        })
    }

    /// The database is at `here` now, by the entry that followed.
    pub(super) fn on_applied(&mut self, here: Position) {
        self.here = here;
        self.recent.push_back(here);
        if self.recent.len() > RECENT_MAX {
            self.recent.pop_front();
        }
        self.pause = RETRY_FIRST;
    }

    /// The database is at `here` now, by a page diff: what was before counts no more.
    pub(super) fn on_installed(&mut self, here: Position) {
        self.recent.clear();
        self.on_applied(here);
    }

    /// Something failed that may work later: the pause until it is tried again.
    pub(super) fn on_refused(&mut self, why: String, readable: bool) -> Duration {
        self.health = Health::Behind { why, readable };
        let pause = self.pause;
        self.pause = (pause * 2).min(RETRY_LONGEST);
        pause
    }

    /// It goes on from here, and is not well before it has all.
    pub(super) fn on_resumed(&mut self, why: String, readable: bool) {
        self.health = Health::Behind { why, readable };
        self.pause = RETRY_FIRST;
    }

    /// Nothing can be applied before the pages are pulled from another node.
    pub(super) fn on_broken(&mut self, why: String, readable: bool) {
        self.health = Health::NeedsRepair { why, readable };
    }

    /// An entry made the lane panic: it is not tried again by itself.
    pub(super) fn on_panic(&mut self, why: String, readable: bool) {
        self.health = Health::Parked { why, readable };
    }

    /// Nothing is left to be done: well, unless something of the log is not here.
    pub(super) fn on_caught_up(&mut self) {
        if self.lacks().is_none() && matches!(self.health, Health::Behind { .. }) {
            self.health = Health::Fine;
            self.pause = RETRY_FIRST;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(txid: u64, checksum: u64) -> Position {
        Position::new(Txid::new(txid), Checksum::new(checksum))
    }

    fn mark(txid: u64, checksum: u64) -> Mark {
        Mark {
            position: position(txid, checksum),
            term: 1,
            index: txid + 100,
        }
    }

    /// Transaction `txid`, from a content of checksum `pre` to one of `post`.
    fn command(txid: u64, pre: u64, post: u64) -> v1::LtxCommand {
        v1::LtxCommand {
            txid,
            pre_checksum: Checksum::new(pre).get(),
            post_checksum: Checksum::new(post).get(),
            ..v1::LtxCommand::default()
        }
    }

    fn told(on: &OnEntry) -> &'static str {
        match on {
            OnEntry::Apply => "apply",
            OnEntry::Skip => "skip",
            OnEntry::Later => "later",
            OnEntry::Stop(ApplyError::Gap { .. }) => "gap",
            OnEntry::Stop(ApplyError::Diverged { .. }) => "diverged",
            OnEntry::Stop(ApplyError::Forked { .. }) => "forked",
            OnEntry::Stop(_) => "other",
        }
    }

    fn healths() -> [(&'static str, Health); 4] {
        let why = || "x".to_owned();
        let readable = true;
        [
            ("fine", Health::Fine),
            (
                "behind",
                Health::Behind {
                    why: why(),
                    readable,
                },
            ),
            (
                "broken",
                Health::NeedsRepair {
                    why: why(),
                    readable,
                },
            ),
            (
                "parked",
                Health::Parked {
                    why: why(),
                    readable,
                },
            ),
        ]
    }

    #[test]
    fn every_entry_meets_every_health() {
        // The database has applied 1 to 3, with checksums 10, 20 and 30.
        let entries = [
            (command(4, 30, 40), ["apply", "later", "later", "later"]),
            (command(4, 31, 40), ["diverged"; 4]),
            (command(6, 50, 60), ["gap", "later", "later", "later"]),
            (command(3, 20, 30), ["skip"; 4]),
            (command(3, 20, 31), ["forked"; 4]),
            (command(2, 10, 20), ["skip"; 4]),
            (command(2, 10, 21), ["forked"; 4]),
        ];
        for (entry, expected) in entries {
            for ((name, health), expected) in healths().into_iter().zip(expected) {
                let mut follow = Follow::new(position(1, 10), None, Health::Fine);
                follow.on_applied(position(2, 20));
                follow.on_applied(position(3, 30));
                follow.health = health;
                let on = follow.on_entry(mark(entry.txid, entry.post_checksum), &entry);
                assert_eq!(told(&on), expected, "{name} {entry:?}");
                let lacks = follow.lacks().map(|mark| mark.position.txid.get());
                assert_eq!(lacks, (entry.txid > 3).then_some(entry.txid), "{name}");
            }
        }
    }

    #[test]
    fn positions_are_remembered_for_a_while_only() {
        let mut follow = Follow::new(position(0, 0), None, Health::Fine);
        let last = RECENT_MAX as u64 + 10;
        (1..=last).for_each(|txid| follow.on_applied(position(txid, txid)));
        assert_eq!(told(&follow.place(&command(11, 10, 99))), "forked");
        assert_eq!(told(&follow.place(&command(10, 9, 99))), "skip");
        follow.on_installed(position(last, 7));
        assert_eq!(told(&follow.place(&command(last - 1, 0, 99))), "skip");
        assert_eq!(told(&follow.place(&command(last, 0, 99))), "forked");
    }

    #[test]
    fn well_is_only_who_has_all_that_is_committed() {
        let mut follow = Follow::new(position(3, 30), Some(mark(5, 50)), Health::Fine);
        follow.on_resumed("x".into(), true);
        follow.on_caught_up();
        assert!(!follow.is_fine());
        follow.on_applied(position(4, 40));
        follow.on_applied(position(5, 50));
        follow.on_caught_up();
        assert!(follow.is_fine());
        // What needs repair or is parked is not well by having nothing left to do.
        for (_, health) in healths().into_iter().skip(2) {
            follow.health = health.clone();
            follow.on_caught_up();
            assert_eq!(follow.health, health);
        }
    }

    #[test]
    fn what_was_told_is_compared_with_what_is_here() {
        let mut follow = Follow::new(position(3, 30), None, Health::Fine);
        assert!(follow.on_told(mark(3, 30)).is_ok());
        assert!(follow.on_told(mark(5, 50)).is_ok());
        assert_eq!(follow.lacks(), Some(mark(5, 50)));
        assert!(matches!(
            follow.on_told(mark(3, 31)),
            Err(ApplyError::Forked { .. })
        ));
    }

    #[test]
    fn pauses_grow_and_begin_anew_after_success() {
        let mut follow = Follow::new(position(3, 30), None, Health::Fine);
        let first = follow.on_refused("x".into(), true);
        assert_eq!(follow.on_refused("x".into(), true), first * 2);
        for _ in 0..20 {
            follow.on_refused("x".into(), true);
        }
        assert_eq!(follow.on_refused("x".into(), true), RETRY_LONGEST);
        follow.on_applied(position(4, 40));
        assert_eq!(follow.on_refused("x".into(), true), first);
    }
}
