//! What must hold of a history: pure functions over what was recorded and what a file holds in the end.

use std::collections::BTreeMap;

use crate::history::{Level, Outcome, Reading, Records, Row, Sighting, WriteId};

/// How many violations of a kind are spelled out.
const SHOWN: usize = 10;

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// An acknowledged write is not there.
    Lost(WriteId),
    /// A row of a write is there more than once.
    Twice(WriteId, Vec<i64>),
    /// Some rows of a write are there and others are not.
    Torn(WriteId, Vec<i64>),
    /// A write is there whose writer was told that it is not.
    FailedButKept(WriteId, String),
    /// A row is there that nobody wrote.
    Invented(Row),
    /// Ids have a gap below this row.
    Gap(i64),
    /// A row that was seen is not there, or is another one.
    Vanished(Sighting, Option<Row>),
    /// Two readers saw different rows under one id.
    Contradiction(Sighting, Sighting),
    /// A session saw less than it had seen before.
    WentBack(Reading, i64),
    /// A linearizable read missed a write acknowledged before it began.
    Stale(Reading),
}

/// Everything that is wrong with `table`, the rows a file holds when all writers have ended.
pub fn check(records: &Records, table: &[Row]) -> Vec<Violation> {
    let mut violations = writes(&records.outcomes, table);
    violations.extend(sightings(&records.seen, table));
    violations.extend(
        records
            .contradictions
            .iter()
            .map(|(a, b)| Violation::Contradiction(a.clone(), b.clone())),
    );
    violations.extend(readings(&records.readings));
    violations
}

/// Acknowledged writes are kept, failed ones are not, none is there twice or in part.
pub fn writes(outcomes: &BTreeMap<WriteId, (Outcome, i64)>, table: &[Row]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut found: BTreeMap<WriteId, Vec<Row>> = BTreeMap::new();
    for (n, row) in table.iter().enumerate() {
        if row.id != n as i64 + 1 && violations.is_empty() {
            violations.push(Violation::Gap(row.id));
        }
        found.entry(row.write).or_default().push(*row);
    }
    for (write, rows) in &found {
        let mut parts: Vec<i64> = rows.iter().map(|row| row.part).collect();
        parts.sort_unstable();
        if parts.windows(2).any(|pair| pair[0] == pair[1]) {
            let ids = rows.iter().map(|row| row.id).collect();
            violations.push(Violation::Twice(*write, ids));
        }
        parts.dedup();
        match outcomes.get(write) {
            None => violations.push(Violation::Invented(rows[0])),
            Some((outcome, expected)) => {
                if parts != (0..*expected).collect::<Vec<_>>() {
                    violations.push(Violation::Torn(*write, parts));
                }
                if let Outcome::Failed(why) = outcome {
                    violations.push(Violation::FailedButKept(*write, why.clone()));
                }
            }
        }
    }
    for (write, (outcome, _)) in outcomes {
        if *outcome == Outcome::Acknowledged && !found.contains_key(write) {
            violations.push(Violation::Lost(*write));
        }
    }
    violations
}

/// What anybody saw is still there, unchanged.
pub fn sightings(seen: &BTreeMap<i64, Sighting>, table: &[Row]) -> Vec<Violation> {
    let table: BTreeMap<i64, Row> = table.iter().map(|row| (row.id, *row)).collect();
    seen.values()
        .filter(|sighting| table.get(&sighting.row.id) != Some(&sighting.row))
        .map(|sighting| Violation::Vanished(sighting.clone(), table.get(&sighting.row.id).copied()))
        .collect()
}

/// Sessions never go back, linearizable reads miss nothing acknowledged.
pub fn readings(readings: &[Reading]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut newest: BTreeMap<&str, i64> = BTreeMap::new();
    for reading in readings {
        if reading.level >= Level::Session {
            let before = newest.entry(&reading.reader).or_default();
            if reading.newest < *before {
                violations.push(Violation::WentBack(reading.clone(), *before));
            }
            *before = reading.newest.max(*before);
        }
        if reading.level == Level::Linearizable && reading.newest < reading.acknowledged_before {
            violations.push(Violation::Stale(reading.clone()));
        }
    }
    violations
}

/// A report for people; `None` if all is well.
pub fn report(violations: &[Violation]) -> Option<String> {
    if violations.is_empty() {
        return None;
    }
    let mut lines: Vec<String> = violations
        .iter()
        .take(SHOWN)
        .map(|violation| format!("  {violation:?}"))
        .collect();
    if violations.len() > SHOWN {
        lines.push(format!("  and {} more", violations.len() - SHOWN));
    }
    Some(format!(
        "{} broken promises:\n{}",
        violations.len(),
        lines.join("\n")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const W1: WriteId = WriteId { writer: 1, seq: 1 };
    const W2: WriteId = WriteId { writer: 1, seq: 2 };

    fn row(id: i64, write: WriteId, part: i64, parts: i64) -> Row {
        Row {
            id,
            write,
            part,
            parts,
        }
    }

    fn outcomes(list: &[(WriteId, Outcome, i64)]) -> BTreeMap<WriteId, (Outcome, i64)> {
        list.iter()
            .map(|(write, outcome, parts)| (*write, (outcome.clone(), *parts)))
            .collect()
    }

    fn acknowledged() -> BTreeMap<WriteId, (Outcome, i64)> {
        outcomes(&[
            (W1, Outcome::Acknowledged, 1),
            (W2, Outcome::Acknowledged, 2),
        ])
    }

    fn good() -> Vec<Row> {
        vec![row(1, W1, 0, 1), row(2, W2, 0, 2), row(3, W2, 1, 2)]
    }

    #[test]
    fn good_history_passes() {
        assert_eq!(writes(&acknowledged(), &good()), []);
    }

    #[test]
    fn lost_write_is_found() {
        assert_eq!(writes(&acknowledged(), &good()[..1]), [Violation::Lost(W2)]);
    }

    #[test]
    fn write_that_is_there_twice_is_found() {
        let mut table = good();
        table.push(row(4, W1, 0, 1));
        assert_eq!(
            writes(&acknowledged(), &table),
            [Violation::Twice(W1, vec![1, 4])]
        );
    }

    #[test]
    fn torn_write_is_found() {
        assert_eq!(
            writes(&acknowledged(), &good()[..2]),
            [Violation::Torn(W2, vec![0])]
        );
    }

    #[test]
    fn failed_write_that_is_kept_is_found_and_an_unknown_one_may_be_either() {
        let failed = outcomes(&[
            (W1, Outcome::Failed("full".into()), 1),
            (W2, Outcome::Unknown("lost".into()), 2),
        ]);
        assert_eq!(
            writes(&failed, &good()),
            [Violation::FailedButKept(W1, "full".into())]
        );
        assert_eq!(writes(&failed, &[]), []);
    }

    #[test]
    fn invented_row_and_gap_are_found() {
        assert_eq!(
            writes(&BTreeMap::new(), &good()[1..2]),
            [Violation::Gap(2), Violation::Invented(row(2, W2, 0, 2))]
        );
    }

    #[test]
    fn vanished_row_is_found() {
        let sighting = Sighting {
            row: row(3, W2, 1, 2),
            reader: "r".into(),
        };
        let seen = BTreeMap::from([(3, sighting.clone())]);
        assert_eq!(sightings(&seen, &good()), []);
        assert_eq!(
            sightings(&seen, &good()[..2]),
            [Violation::Vanished(sighting.clone(), None)]
        );
        let other = row(3, W1, 0, 1);
        assert_eq!(
            sightings(&seen, &[other]),
            [Violation::Vanished(sighting, Some(other))]
        );
    }

    #[test]
    fn session_that_goes_back_and_stale_read_are_found() {
        let reading = |level, acknowledged_before, newest| Reading {
            reader: "r".into(),
            level,
            acknowledged_before,
            newest,
        };
        let back = reading(Level::Session, 9, 4);
        assert_eq!(
            readings(&[reading(Level::Session, 0, 5), back.clone()]),
            [Violation::WentBack(back, 5)]
        );
        let stale = reading(Level::Linearizable, 6, 5);
        assert_eq!(
            readings(std::slice::from_ref(&stale)),
            [Violation::Stale(stale)]
        );
        let local = [reading(Level::Local, 9, 5), reading(Level::Local, 9, 4)];
        assert_eq!(readings(&local), []);
    }

    #[test]
    fn report_names_what_is_wrong() {
        assert_eq!(report(&[]), None);
        let text = report(&vec![Violation::Gap(7); 12]).expect("violations");
        assert!(text.contains("12 broken") && text.contains("Gap(7)") && text.contains("2 more"));
    }
}
