//! What a session is promised wherever it wanders: it reads its own writes, never sees less than it saw before, and its writes come
//! after what it has read.
//!
//! Everything a session was told counts, whatever the level of the read that told it; reads of level session and linearizable are
//! held to it. Operations of one session that overlap say nothing about each other.

use crate::accesses::{Access, Behind, accesses, behind};
use crate::{FinalState, History, Violation};

/// Name of this property.
pub const NAME: &str = "session_guarantees";

/// Sessions that went back.
pub fn check(history: &History, end: &FinalState) -> Vec<Violation> {
    let accesses = accesses(history, end);
    let session = |access: &Access<'_>| (access.caller.session, access.object);
    let promised = |access: &Access<'_>| access.writes || access.caller.level.keeps_session_order();
    behind(&accesses, session, promised)
        .iter()
        .map(accuse)
        .collect()
}

fn accuse(found: &Behind<'_, '_>) -> Violation {
    let broken = match (found.access.writes, found.earlier.writes) {
        (false, true) => "does not read its own writes",
        (false, false) => "sees less than before",
        (true, false) => "writes before what it had read",
        (true, true) => "writes before what it had written",
    };
    let what = format!("{} {broken}: {}", found.access.caller.session, found.what());
    Violation::new(NAME, what)
        .with(found.earlier)
        .with(found.access)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Inserted, Key, Level, Outcome, RegisterValue, Tag};
    use crate::script::Script;

    #[test]
    fn session_reads_its_own_writes() {
        let mut script = Script::default();
        let write = script.insert(1, 1, 1);
        script.read(2, Level::Session, 0, &[]);
        script.read(1, Level::Local, 0, &[]);
        assert_eq!(script.check(check), []);
        let read = script.read(1, Level::Session, 0, &[]);
        let violations = script.check(check);
        assert_eq!(violations.len(), 1, "{violations:?}");
        assert_eq!(violations[0].operation_ids(), [write, read]);
        assert!(violations[0].what.contains("own writes"));
    }

    #[test]
    fn session_need_not_read_a_write_of_unknown_outcome() {
        let mut script = Script::default();
        script.unknown_insert(1, 1, 1);
        script.read(1, Level::Session, 0, &[]);
        script.end();
        assert_eq!(script.check(check), []);
    }

    #[test]
    fn session_never_sees_less_than_before_at_another_node() {
        for level in [Level::Local, Level::Session, Level::Linearizable] {
            let mut script = Script::default();
            script.insert(1, 1, 1);
            script.insert(1, 2, 1);
            let before = script.read_up_to(2, level, 2);
            script.read_up_to(3, Level::Session, 1);
            assert_eq!(script.check(check), []);
            let read = script.read_up_to(2, Level::Session, 1);
            assert_eq!(script.check(check)[0].operation_ids(), [before, read]);
        }
    }

    #[test]
    fn writes_follow_reads() {
        let mut script = Script::default();
        script.insert(1, 1, 1);
        script.insert(1, 2, 1);
        let read = script.read_up_to(2, Level::Local, 2);
        let write = script.insert(2, 1, 1);
        assert_eq!(script.check(check), []);
        script.history.set.inserts[2].outcome = Outcome::Ok(Inserted { newest: Some(2) });
        let violations = script.check(check);
        assert_eq!(violations[0].operation_ids(), [read, write]);
        assert!(violations[0].what.contains("had read"));
    }

    #[test]
    fn registers_are_held_to_the_same() {
        let mut script = Script::default();
        let written = RegisterValue::INITIAL.next(Tag(7));
        script.increment(1, Key(1), 7, written);
        script.read_register(1, Level::Session, Key(1), written);
        script.read_register(1, Level::Session, Key(2), RegisterValue::INITIAL);
        assert_eq!(script.check(check), []);
        script.read_register(1, Level::Session, Key(1), RegisterValue::INITIAL);
        assert_eq!(script.check(check).len(), 1);
    }
}
