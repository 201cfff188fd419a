//! Recovery: what a start concludes from what is on the disk. Pure: see the table of tests.
//!
//! Three questions, asked in this order. Up to which index is the log surely committed ([`redo_to`])? Which of its entries are to be redone
//! in a database, and how far had the database been ([`of_database`])? Is what came out of it what the cluster has committed
//! ([`verdict`])? An index counts only together with its term, a TXID only together with its checksum: an index that is kept beside the log may
//! be that of another entry, if this node was replaced as the primary and its own entries there were never committed.
//!
//! Called by `cluster` at start, and by the lane's redo.

use halite_ltx::{Position, Txid};

use super::{Applied, Mark};

/// An entry of the log by term and index. Term 0: written by a version that did not note it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryId {
    pub(crate) term: u64,
    pub(crate) index: u64,
}

/// What lies on the disk beside the entries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    /// What the catalog has seen applied, or what was purged: certain, whatever the log holds.
    pub(crate) known: u64,
    /// The last index of the log.
    pub(crate) last: u64,
    /// Raft's own note of what is committed.
    pub(crate) committed: Option<EntryId>,
    /// The targets of checkpoints (K), and what the catalog has seen committed of each database.
    pub(crate) seen: Vec<EntryId>,
}

/// M: the highest index of which it is certain that the quorum has it. `term_at` tells the term of an entry of the log.
pub(crate) fn redo_to(evidence: &Evidence, term_at: impl Fn(u64) -> Option<u64>) -> u64 {
    let Evidence { known, last, .. } = *evidence;
    let mut to = known;
    if let Some(committed) = evidence.committed {
        // A follower may hear what is committed before it has it. What it has then is a part of it: it was cut to what its primary has
        // before the note was made, and the disk keeps that order.
        if committed.index > last || holds(committed, &term_at) {
            to = to.max(committed.index.min(last));
        }
    }
    for &seen in &evidence.seen {
        // What lies beyond this log came by page diff, and so may what has another term here: the log says nothing of it, and what it does
        // not prove to be committed must not be replayed.
        if seen.index > to && seen.index <= last && holds(seen, &term_at) {
            to = seen.index;
        }
    }
    to
}

fn holds(entry: EntryId, term_at: &impl Fn(u64) -> Option<u64>) -> bool {
    #[cfg(feature = "planted-bugs")]
    if halite_planted::on(halite_planted::Bug::TargetWithoutTerm) {
        return true;
    }
    entry.term == 0 || term_at(entry.index) == Some(entry.term)
}

/// What is to be redone in one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DatabasePlan {
    /// First and last index of the log to look at; nothing if the first is larger.
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// The database had been there: less is not what it was.
    pub(crate) reached: u64,
}

/// `done` is the index of C (or of the database's creation), `target` is K with its TXID, `held` the first index of the log.
pub(crate) fn of_database(
    to: u64,
    held: u64,
    done: u64,
    target: Option<(EntryId, u64)>,
    term_at: impl Fn(u64) -> Option<u64>,
) -> DatabasePlan {
    // A target beyond M, or of another entry than the log has there, is of a page diff that was not finished.
    let counts = |id: EntryId| id.index <= to && (id.index < held || holds(id, &term_at));
    DatabasePlan {
        // What was purged since holds nothing of this database that the checkpoint lacks, unless a snapshot took its place.
        first: held.max(done + 1),
        last: to,
        reached: target.filter(|(id, _)| counts(*id)).map_or(0, |k| k.1),
    }
}

/// What a redo has led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All that is committed.
    Right,
    /// Less than what is committed.
    Short(String),
    /// Something else: another content at the same TXID, or more than was ever committed.
    Forked(String),
}

/// Compares what the redo leads to with what is committed up to `to`.
pub(crate) fn verdict(at: &Applied, reached: Txid, committed: Option<Mark>, to: u64) -> Verdict {
    let here = at.position;
    if here.txid < reached {
        return Verdict::Short(format!(
            "the log does not lead to where a page diff had brought the database: position={here} reached={reached}"
        ));
    }
    #[cfg(feature = "planted-bugs")]
    if halite_planted::on(halite_planted::Bug::UnwellForgottenByRestart) {
        return Verdict::Right;
    }
    let Some(committed) = committed else {
        return Verdict::Right;
    };
    let Position { txid, checksum } = committed.position;
    if here.txid < txid {
        return Verdict::Short(format!(
            "the log does not lead to what is committed: position={here} committed={}",
            committed.position
        ));
    }
    // A page diff may have brought what lies beyond this log.
    let ahead = here.txid > txid && at.raft_index > to;
    if ahead || here.txid == txid && here.checksum == checksum {
        return Verdict::Right;
    }
    Verdict::Forked(format!(
        "the file holds what was never committed: position={here} committed={}",
        committed.position
    ))
}

#[cfg(test)]
mod tests {
    use halite_ltx::Checksum;

    use super::*;

    fn id(term: u64, index: u64) -> EntryId {
        EntryId { term, index }
    }

    #[test]
    fn the_log_is_redone_to_what_is_certain_and_no_further() {
        // The log: terms of the entries from index 5 on.
        struct Case {
            name: &'static str,
            known: u64,
            terms: &'static [u64],
            committed: Option<EntryId>,
            seen: Vec<EntryId>,
            to: u64,
        }
        let cases = [
            Case {
                name: "nothing but the catalog",
                known: 6,
                terms: &[1, 1, 1, 1],
                committed: None,
                seen: vec![],
                to: 6,
            },
            Case {
                name: "raft's note",
                known: 6,
                terms: &[1, 1, 1, 1],
                committed: Some(id(1, 7)),
                seen: vec![],
                to: 7,
            },
            Case {
                name: "raft's note of what is not here yet",
                known: 6,
                terms: &[1, 1, 2, 2],
                committed: Some(id(2, 20)),
                seen: vec![],
                to: 8,
            },
            Case {
                name: "raft's note of another entry",
                known: 6,
                terms: &[1, 1, 1, 1],
                committed: Some(id(2, 8)),
                seen: vec![],
                to: 6,
            },
            Case {
                name: "crash before the catalog is saved: the target of a checkpoint",
                known: 4,
                terms: &[1, 1, 1, 1],
                committed: None,
                seen: vec![id(1, 7)],
                to: 7,
            },
            Case {
                name: "target of an older version",
                known: 4,
                terms: &[1, 1, 1, 1],
                committed: None,
                seen: vec![id(0, 7)],
                to: 7,
            },
            Case {
                name: "deposed primary with an uncommitted tail, a page diff with K inside that tail",
                known: 5,
                terms: &[1, 1, 1, 1],
                committed: Some(id(1, 5)),
                seen: vec![id(2, 7)],
                to: 5,
            },
            Case {
                name: "a page diff beyond the log",
                known: 5,
                terms: &[1, 1, 1, 1],
                committed: Some(id(1, 6)),
                seen: vec![id(2, 30)],
                to: 6,
            },
            Case {
                name: "the whole log is purged",
                known: 40,
                terms: &[],
                committed: Some(id(1, 40)),
                seen: vec![id(1, 39)],
                to: 40,
            },
        ];
        for case in cases {
            let last =
                (5 + case.terms.len() as u64 - 1).max(if case.terms.is_empty() { 40 } else { 0 });
            let evidence = Evidence {
                known: case.known,
                last,
                committed: case.committed,
                seen: case.seen,
            };
            let term_at = |index: u64| case.terms.get(index.checked_sub(5)? as usize).copied();
            assert_eq!(redo_to(&evidence, term_at), case.to, "{}", case.name);
        }
    }

    #[test]
    fn what_a_database_had_reached_counts_with_its_term() {
        let term_at = |index: u64| (5..=9).contains(&index).then_some(1);
        let plan = |target| of_database(8, 5, 6, target, term_at);
        let reached = |target| plan(target).reached;
        assert_eq!((plan(None).first, plan(None).last), (7, 8));
        assert_eq!(of_database(8, 5, 2, None, term_at).first, 5);
        assert_eq!(reached(Some((id(1, 7), 70))), 70);
        assert_eq!(reached(Some((id(0, 7), 70))), 70);
        // Of another entry, beyond M, and purged.
        assert_eq!(reached(Some((id(2, 7), 70))), 0);
        assert_eq!(reached(Some((id(1, 9), 90))), 0);
        assert_eq!(reached(Some((id(1, 4), 40))), 40);
    }

    #[test]
    fn a_redo_is_right_only_if_it_leads_to_what_is_committed() {
        let position = |txid, checksum| Position::new(Txid::new(txid), Checksum::new(checksum));
        let at = |txid, checksum, raft_index| Applied {
            position: position(txid, checksum),
            raft_index,
            ..Applied::ZERO
        };
        let committed = |txid, checksum| {
            Some(Mark {
                position: position(txid, checksum),
                term: 1,
                index: txid + 100,
            })
        };
        let is = |at: Applied, reached: u64, committed: Option<Mark>| match verdict(
            &at,
            Txid::new(reached),
            committed,
            110,
        ) {
            Verdict::Right => "right",
            Verdict::Short(_) => "short",
            Verdict::Forked(_) => "forked",
        };
        assert_eq!(is(at(3, 30, 103), 0, committed(3, 30)), "right");
        // The purge took what it lacks: it had been unwell.
        assert_eq!(is(at(2, 20, 102), 0, committed(3, 30)), "short");
        assert_eq!(is(at(3, 31, 103), 0, committed(3, 30)), "forked");
        assert_eq!(is(at(4, 40, 104), 0, committed(3, 30)), "forked");
        // A page diff that is newer than the log.
        assert_eq!(is(at(4, 40, 120), 0, committed(3, 30)), "right");
        assert_eq!(is(at(3, 30, 103), 4, committed(3, 30)), "short");
        // What an older version wrote says nothing.
        assert_eq!(is(at(3, 30, 103), 3, None), "right");
    }
}
