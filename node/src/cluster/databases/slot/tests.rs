//! The decisions of [`Slots`] as tables.

use std::sync::OnceLock;
use std::time::Duration;

use super::*;

/// Milliseconds after a base that all share.
fn at(ms: u64) -> Instant {
    static BASE: OnceLock<Instant> = OnceLock::new();
    *BASE.get_or_init(Instant::now) + Duration::from_millis(ms)
}

fn database(id: u64, name: &str) -> CatalogDatabase {
    CatalogDatabase {
        id,
        name: name.to_owned(),
        page_size: 4096,
        dropped: false,
        newest: None,
    }
}

/// What a slot of the test is in.
enum Is {
    Open,
    /// Due at once.
    Due,
    /// It failed at 1 s, and is due 100 ms later.
    Failed,
    UnderWay,
    /// Its file is open, and it is due.
    Held,
}

fn slots(of: &[(u64, &str, Is)], leaving: &[(u64, &str)]) -> Slots<&'static str> {
    let mut slots = Slots::default();
    for (id, name, is) in of {
        let mut shut = Shut::new(database(*id, name), at(0));
        let slot = match is {
            Is::Open => Slot::Open("open"),
            Is::Due => Slot::Shut(shut),
            Is::Failed => {
                shut.retry.begin();
                shut.retry.failed("locked".into(), at(1_000));
                Slot::Shut(shut)
            }
            Is::UnderWay => {
                shut.retry.begin();
                Slot::Shut(shut)
            }
            Is::Held => {
                shut.held = Some("held");
                Slot::Shut(shut)
            }
        };
        slots.slots.insert(*id, slot);
    }
    for (id, name) in leaving {
        let leaving = Leaving {
            database: database(*id, name),
            retry: Retry::new(at(0)),
            held: Some("leaving"),
        };
        slots.leaving.insert(*id, leaving);
    }
    slots
}

#[test]
fn what_is_due_is_opened_or_removed_and_nothing_else() {
    use Action::{Open, Remove};
    let all = slots(
        &[
            (1, "a", Is::Open),
            (2, "b", Is::Due),
            (3, "c", Is::Failed),
            (4, "d", Is::UnderWay),
            (7, "e", Is::Due),
        ],
        &[(5, "e"), (6, "f")],
    );
    // `e` waits until the files of the one before are gone.
    assert_eq!(all.due(at(1_000)), [Remove(5), Remove(6), Open(2)]);
    assert_eq!(all.due(at(1_100)), [Remove(5), Remove(6), Open(2), Open(3)]);
    assert_eq!(all.next_due(), Some(at(0)));
    let failed = slots(&[(1, "a", Is::Open), (3, "c", Is::Failed)], &[]);
    assert_eq!(failed.next_due(), Some(at(1_100)));
    assert_eq!(slots(&[(1, "a", Is::Open)], &[]).next_due(), None);
}

#[test]
fn an_attempt_begins_once_and_only_where_there_is_room() {
    // One reader thread: ten descriptors a database.
    let two = Some(Capacity {
        open_files: 276,
        reader_threads: 1,
    });
    for (of, leaving, id, capacity, expected) in [
        (Is::Due, vec![], 2, None, "attempt"),
        (Is::Failed, vec![], 2, None, "attempt"),
        (Is::UnderWay, vec![], 2, None, "not now"),
        (Is::Open, vec![], 2, None, "not now"),
        (Is::Due, vec![], 3, None, "not now"),
        (Is::Due, vec![(9, "b")], 2, None, "not now"),
        (Is::Due, vec![], 2, two, "attempt"),
        (Is::Due, vec![(9, "z")], 2, two, "no room"),
        // It has its descriptors already.
        (Is::Held, vec![], 2, two, "attempt"),
    ] {
        let mut all = slots(&[(1, "a", Is::Open), (2, "b", of)], &leaving);
        let found = match all.begin(id, capacity) {
            Begin::Attempt(_) => "attempt",
            Begin::NoRoom(_) => "no room",
            Begin::NotNow => "not now",
        };
        assert_eq!(found, expected, "{leaving:?} {id} {capacity:?}");
        if found == "attempt" {
            assert!(matches!(all.begin(id, capacity), Begin::NotNow));
        }
    }
}

#[test]
fn a_database_takes_its_place_only_with_everything_that_passed_it() {
    for (passed, taken, expected) in [
        (vec![], 0, HandOver::Done),
        (vec![], 40, HandOver::Done),
        (vec![(41, 7)], 40, HandOver::CatchUp { to: 41 }),
        (vec![(41, 7), (45, 8)], 41, HandOver::CatchUp { to: 45 }),
        (vec![(41, 7), (45, 8)], 45, HandOver::Done),
        // The second is of a snapshot that could not be installed.
        (vec![(60, 9), (50, 9)], 50, HandOver::CatchUp { to: 60 }),
    ] {
        let mut shut: Shut<&str> = Shut::new(database(1, "a"), at(0));
        for (index, txid) in &passed {
            shut.pass(Passed {
                index: *index,
                txid: *txid,
            });
        }
        assert_eq!(shut.hand_over(taken), expected, "{passed:?} {taken}");
    }
}

#[test]
fn a_database_that_comes_before_its_creation_keeps_its_slot_when_it_is_created() {
    let mut all = slots(&[(1, "a", Is::Open)], &[(5, "e")]);
    assert!(all.welcome(database(9, "b"), at(0)));
    // Once; and not where the files of another one are.
    assert!(!all.welcome(database(9, "b"), at(0)));
    assert!(!all.welcome(database(10, "b"), at(0)));
    assert!(!all.welcome(database(11, "e"), at(0)));
    all.slots.insert(9, Slot::Open("came"));
    assert!(all.add(database(9, "b"), at(1)).is_empty());
    assert!(matches!(all.slots[&9], Slot::Open("came")));
    assert!(all.incoming.is_empty());
    // One that is new gets a slot.
    assert!(all.add(database(12, "c"), at(1)).is_empty());
    assert!(matches!(all.slots[&12], Slot::Shut(_)));
}

#[test]
fn a_database_that_came_and_is_not_created_goes_with_its_files() {
    let welcome = || {
        let mut all = slots(&[(1, "a", Is::Open)], &[]);
        for (id, name) in [(9, "b"), (10, "c"), (11, "d")] {
            assert!(all.welcome(database(id, name), at(0)));
        }
        all.slots.insert(9, Slot::Open("came"));
        // Of an earlier run: it has files, and no slot.
        all.slots.remove(&11);
        all
    };
    let gone = |all: &Slots<&'static str>| all.leaving.keys().copied().collect::<Vec<_>>();
    // Another one of its name comes: it waits until the files of the first are gone.
    let mut all = welcome();
    assert_eq!(all.add(database(6, "b"), at(0)), ["came"]);
    assert_eq!(gone(&all), [9]);
    assert!(matches!(all.begin(6, None), Begin::NotNow));
    // A snapshot knows one of them.
    let mut all = welcome();
    assert!(all.settle_incoming(|id| id == 9, at(0)).is_empty());
    assert_eq!(gone(&all), [10, 11]);
    assert!(all.incoming.is_empty());
    let mut all = welcome();
    assert_eq!(all.settle_incoming(|id| id == 10, at(0)), ["came"]);
    assert_eq!(gone(&all), [9, 11]);
    assert!(all.slots.contains_key(&10));
}
