//! Single decisions; whole histories are tested with [`expired`](crate::expired).

use super::*;

/// `(level, min, max, seconds)`
fn files<const N: usize>(files: [(u8, u64, u64, i64); N]) -> Vec<FileInfo> {
    files
        .into_iter()
        .map(|(level, min, max, second)| file(level, min, max, second))
        .collect()
}

fn file(level: u8, min: u64, max: u64, second: i64) -> FileInfo {
    FileInfo {
        key: FileKey::new(Level::new(level).unwrap(), Txid::new(min), Txid::new(max)),
        bytes: 200,
        timestamp: at(second),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Levels of 30 s, 5 m and 1 h, snapshots each day: the name of the new file and of its sources.
fn next(files: &[FileInfo], now: i64) -> Option<(String, Vec<String>)> {
    match next_work(files, &Schedule::default(), at(now))? {
        Work::Merge(merge) => {
            let sources = merge.sources.iter().map(|file| short(file.key));
            Some((short(merge.key()), sources.collect()))
        }
        Work::Snapshot => Some(("of the database".to_owned(), Vec::new())),
    }
}

fn short(key: FileKey) -> String {
    format!("{}/{}-{}", key.level, key.min.get(), key.max.get())
}

fn merged(key: &str, sources: &[&str]) -> Option<(String, Vec<String>)> {
    let sources = sources.iter().map(|source| (*source).to_owned());
    Some((key.to_owned(), sources.collect()))
}

#[test]
fn the_first_snapshot_comes_with_the_first_window() {
    let files = files([(0, 1, 1, 1), (0, 2, 4, 29), (0, 5, 5, 31)]);
    assert_eq!(next(&files, 29), None, "the window is not over");
    let expected = merged("9/1-4", &["0/1-1", "0/2-4"]);
    assert_eq!(next(&files, 30), expected);
    assert_eq!(next(&files, 1_000), expected, "later it is the same");
}

#[test]
fn a_file_covers_one_window_and_the_base_stays_where_it_is() {
    let mut files = files([
        (9, 1, 2, 2),
        (0, 1, 1, 1),
        (0, 2, 2, 2),
        (0, 3, 3, 35),
        (0, 4, 4, 58),
        (0, 5, 5, 61),
    ]);
    assert_eq!(next(&files, 59), None);
    assert_eq!(next(&files, 95), merged("1/3-4", &["0/3-3", "0/4-4"]));
    files.push(file(1, 3, 4, 58));
    assert_eq!(next(&files, 89), None);
    assert_eq!(next(&files, 95), merged("1/5-5", &["0/5-5"]));
    files.push(file(1, 5, 5, 61));
    assert_eq!(next(&files, 299), None);
    assert_eq!(next(&files, 300), merged("2/3-5", &["1/3-4", "1/5-5"]));
    files.push(file(2, 3, 5, 61));
    assert_eq!(next(&files, 3_600), merged("3/3-5", &["2/3-5"]));
    files.push(file(3, 3, 5, 61));
    assert_eq!(next(&files, 86_399), None);
    assert_eq!(next(&files, 86_400), merged("9/1-5", &["9/1-2", "3/3-5"]));
    files.push(file(9, 1, 5, 61));
    assert_eq!(next(&files, 10_000_000), None, "nobody writes");
}

#[test]
fn a_level_never_merges_over_a_gap_and_goes_on_behind_it() {
    let mut files = files([
        (9, 1, 1, 1),
        (1, 2, 4, 31),
        (0, 5, 5, 61),
        (0, 8, 8, 62),
        (0, 9, 9, 63),
    ]);
    assert_eq!(next(&files, 90), merged("1/5-5", &["0/5-5"]));
    files.push(file(1, 5, 5, 61));
    assert_eq!(next(&files, 90), None, "6 and 7 are missing");
    // Healed.
    files.push(file(9, 1, 8, 64));
    assert_eq!(next(&files, 90), merged("1/9-9", &["0/9-9"]));
}

#[test]
fn files_that_overlap_are_merged_once() {
    // A request that came late has left 3-3 beside 3-5.
    let files = files([(9, 1, 2, 2), (0, 3, 3, 3), (0, 3, 5, 5), (0, 6, 6, 6)]);
    assert_eq!(next(&files, 30), merged("1/3-6", &["0/3-5", "0/6-6"]));
}

#[test]
fn many_files_become_several() {
    let mut files = files([(9, 1, 1, 1)]);
    let most = SOURCES_MAX as u64;
    files.extend((2..=most + 3).map(|txid| file(0, txid, txid, 2)));
    let (first, sources) = next(&files, 30).unwrap();
    assert_eq!(
        (first, sources.len()),
        (format!("1/2-{}", most + 1), SOURCES_MAX)
    );
    files.push(file(1, 2, most + 1, 2));
    let (second, _) = next(&files, 30).unwrap();
    assert_eq!(second, format!("1/{}-{}", most + 2, most + 3));
}

#[test]
fn a_snapshot_of_too_many_files_is_made_of_the_database() {
    let mut files = files([(9, 1, 1, 1)]);
    files.extend((2..=SOURCES_MAX as u64 + 1).map(|txid| file(0, txid, txid, 2)));
    let schedule = Schedule {
        levels: Vec::new(),
        ..Schedule::default()
    };
    assert_eq!(next_work(&files, &schedule, at(86_399)), None);
    assert_eq!(
        next_work(&files, &schedule, at(86_400)),
        Some(Work::Snapshot)
    );
}

#[test]
fn a_clock_that_was_put_back_keeps_nothing_from_being_merged() {
    // It was an hour ahead until the third transaction.
    let files = files([
        (9, 1, 1, 3_601),
        (0, 2, 2, 3_602),
        (0, 3, 3, 4),
        (0, 4, 4, 40),
    ]);
    assert_eq!(next(&files, 30), merged("1/2-3", &["0/2-2", "0/3-3"]));
}
