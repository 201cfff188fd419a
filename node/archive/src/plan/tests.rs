//! Plans that no archive of the vectors needs.

use super::*;
use crate::FileKey;

/// `(level, min, max, seconds)`
fn files<const N: usize>(files: [(u8, u64, u64, i64); N]) -> Vec<FileInfo> {
    files
        .into_iter()
        .map(|(level, min, max, second)| FileInfo {
            key: FileKey::new(Level::new(level).unwrap(), Txid::new(min), Txid::new(max)),
            bytes: 10,
            timestamp: at(second),
        })
        .collect()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn chosen(files: &[FileInfo], target: Target) -> Vec<(u8, u64, u64)> {
    let plan = plan(files, target).unwrap();
    plan.files()
        .iter()
        .map(|file| (file.key.level.get(), file.key.min.get(), file.key.max.get()))
        .collect()
}

fn txid(txid: u64) -> Target {
    Target::Txid(Txid::new(txid))
}

#[test]
fn order_of_the_listing_does_not_matter() {
    let mut files = files([
        (0, 1, 1, 1),
        (0, 2, 4, 4),
        (1, 1, 4, 4),
        (0, 5, 5, 5),
        (9, 1, 2, 2),
        (9, 1, 3, 3),
    ]);
    let expected = [(9, 1, 3), (1, 1, 4), (0, 5, 5)];
    for _ in 0..files.len() {
        files.rotate_left(1);
        assert_eq!(chosen(&files, Target::Latest), expected);
    }
}

#[test]
fn equal_ends_prefer_early_beginnings_then_high_levels() {
    let files = files([(0, 1, 2, 2), (0, 2, 5, 5), (1, 2, 5, 5), (2, 3, 5, 5)]);
    assert_eq!(chosen(&files, Target::Latest), [(0, 1, 2), (1, 2, 5)]);
}

#[test]
fn restore_points_end_at_a_gap() {
    let files = files([(0, 1, 1, 1), (0, 3, 3, 3), (0, 4, 4, 4)]);
    let point = RestorePoint {
        txid: Txid::new(1),
        timestamp: at(1),
    };
    assert_eq!(restore_points(&files), [point]);
}

#[test]
fn file_that_reaches_too_far_gives_way_to_smaller_ones() {
    let files = files([(0, 1, 2, 2), (0, 3, 3, 3), (0, 4, 6, 6), (1, 1, 6, 6)]);
    assert_eq!(chosen(&files, txid(3)), [(0, 1, 2), (0, 3, 3)]);
    assert_eq!(chosen(&files, txid(6)), [(1, 1, 6)]);
    let near = PlanError::NotRestorePoint {
        txid: Txid::new(5),
        before: Some(Txid::new(3)),
        after: Some(Txid::new(6)),
    };
    assert_eq!(plan(&files, txid(5)), Err(near));
}

#[test]
fn end_of_a_file_whose_predecessors_are_gone_is_no_restore_point() {
    // 5 to 7 were merged into 5..12 and deleted; 8..10 is still there.
    let files = files([(9, 1, 4, 4), (0, 8, 10, 10), (1, 5, 12, 12)]);
    let near = PlanError::NotRestorePoint {
        txid: Txid::new(10),
        before: Some(Txid::new(4)),
        after: Some(Txid::new(12)),
    };
    assert_eq!(plan(&files, txid(10)), Err(near));
    let points: Vec<u64> = restore_points(&files)
        .iter()
        .map(|point| point.txid.get())
        .collect();
    assert_eq!(points, [4, 12]);
}

#[test]
fn what_retention_has_taken_is_refused_with_what_is_there() {
    let files = files([(1, 3, 6, 60), (9, 1, 8, 80), (0, 9, 9, 90)]);
    let oldest = PlanError::BeforeOldest {
        txid: Txid::new(6),
        oldest: Txid::new(8),
        timestamp: at(80),
    };
    assert_eq!(plan(&files, txid(6)), Err(oldest));
}

#[test]
fn clock_that_steps_back_is_no_gap() {
    let files = files([
        (0, 1, 1, 100),
        (0, 2, 2, 200),
        (0, 3, 3, 150),
        (0, 4, 4, 300),
    ]);
    assert_eq!(chosen(&files, Target::Timestamp(at(180))), [(0, 1, 1)]);
    assert_eq!(
        chosen(&files, Target::Timestamp(at(250))),
        [(0, 1, 1), (0, 2, 2), (0, 3, 3)]
    );
}

#[test]
fn timestamp_before_the_first_base_is_out_of_range() {
    // Retention left an old merged file without its base.
    let files = files([(1, 3, 6, 60), (9, 1, 8, 80), (0, 9, 9, 90)]);
    let range = PlanError::TimestampOutOfRange {
        timestamp: at(70),
        oldest: at(80),
        newest: at(90),
    };
    assert_eq!(plan(&files, Target::Timestamp(at(70))), Err(range));
    assert_eq!(chosen(&files, Target::Timestamp(at(81))), [(9, 1, 8)]);
}

#[test]
fn archive_without_a_base_names_what_is_missing() {
    let files = files([(0, 3, 4, 4), (0, 5, 5, 5)]);
    for target in [Target::Latest, txid(4), Target::Timestamp(at(5))] {
        let Err(PlanError::Gap {
            first,
            last,
            reached,
            ..
        }) = plan(&files, target)
        else {
            panic!("{target} needs a base");
        };
        assert_eq!(
            (first.get(), last.get(), reached.get()),
            (1, 2, 0),
            "{target}"
        );
    }
}
