//! Whatever a correct system does is allowed.

use halite_checks::*;
use proptest::prelude::*;

use crate::world::run;

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn history_of_a_correct_system_breaks_nothing(seed: u64, steps in 0..2_000_usize) {
        let (history, end) = run(seed, steps);
        let violations = check_all(&history, &end);
        prop_assert!(violations.is_empty(), "seed={} {}", seed, report(&violations).unwrap_or_default());
        // The same without an end, as while it runs.
        let violations = check_all(&history, &FinalState::default());
        prop_assert!(violations.is_empty(), "seed={} {}", seed, report(&violations).unwrap_or_default());
    }

    #[test]
    fn watch_finds_nothing_in_it(seed: u64) {
        let (history, _) = run(seed, 1_500);
        let violations = watch(&history);
        prop_assert!(violations.is_empty(), "seed={} {}", seed, report(&violations).unwrap_or_default());
    }
}

/// In the order in which they returned.
fn watch(history: &History) -> Vec<Violation> {
    enum Returned<'a> {
        Insert(&'a Operation<Insert>),
        Read(&'a Operation<ReadRows>),
    }
    let mut all = Vec::new();
    for insert in &history.set.inserts {
        all.extend(
            insert
                .returned
                .map(|moment| (moment.order, Returned::Insert(insert))),
        );
    }
    for read in &history.set.reads {
        all.extend(
            read.returned
                .map(|moment| (moment.order, Returned::Read(read))),
        );
    }
    all.sort_by_key(|(order, _)| *order);
    let mut watch = Watch::default();
    all.into_iter()
        .flat_map(|(_, operation)| match operation {
            Returned::Insert(insert) => watch.inserted(insert),
            Returned::Read(read) => watch.read(read),
        })
        .collect()
}

/// Twenty thousand operations, as many as one seed of the simulation makes.
#[test]
fn long_history_passes() {
    let (history, end) = run(7, 56_000);
    assert!(history.len() > 20_000, "{}", history.len());
    assert_eq!(check_all(&history, &end), []);
}
