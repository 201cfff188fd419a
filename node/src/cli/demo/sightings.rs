//! [`Sightings`]: what one reader has seen, and whether it is still so. Pure.

use std::collections::BTreeMap;

use super::ledger::{WriteId, some};

/// The rows a reader has seen, in the order of their ids.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    rows: Vec<(i64, WriteId)>,
}

impl Sightings {
    /// The largest id seen; 0 before the first row.
    pub(super) fn last_id(&self) -> i64 {
        self.rows.last().map_or(0, |(id, _)| *id)
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The answer of a session that asked how many rows there are up to [`last_id`](Self::last_id): ids only grow, so that it has to
    /// be as many as it saw.
    pub(super) fn confirm(&self, count: i64) -> Result<(), String> {
        let seen = i64::try_from(self.rows.len()).unwrap_or(i64::MAX);
        match seen - count {
            0 => Ok(()),
            gone if gone > 0 => Err(format!(
                "{gone} of {seen} rows that a reader had seen were gone"
            )),
            _ => Err(format!(
                "{count} rows where a reader had seen {seen}: rows appeared in the past"
            )),
        }
    }

    /// Rows after the last one, in the order of their ids.
    pub(super) fn add(
        &mut self,
        rows: impl IntoIterator<Item = (i64, WriteId)>,
    ) -> Result<(), String> {
        for (id, write) in rows {
            if id <= self.last_id() {
                return Err(format!("row {id} came after row {}", self.last_id()));
            }
            self.rows.push((id, write));
        }
        Ok(())
    }

    /// Everything seen has to be there in the end, under the same id.
    pub(super) fn compare(&self, end: &BTreeMap<i64, WriteId>) -> Result<(), String> {
        let gone = self
            .rows
            .iter()
            .filter(|(id, write)| end.get(id) != Some(write));
        let gone: Vec<String> = gone.map(|(id, write)| format!("id={id} {write}")).collect();
        if gone.is_empty() {
            Ok(())
        } else {
            Err(format!(
                "{} rows that a reader saw are not there in the end ({})",
                gone.len(),
                some(&gone)
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: i64) -> (i64, WriteId) {
        (id, WriteId { writer: 1, seq: id })
    }

    #[test]
    fn what_was_seen_has_to_stay() {
        let mut seen = Sightings::default();
        assert_eq!(seen.confirm(0), Ok(()));
        seen.add([row(1), row(2)]).unwrap();
        seen.add([row(5)]).unwrap();
        assert_eq!((seen.last_id(), seen.len()), (5, 3));
        assert_eq!(seen.confirm(3), Ok(()));
        assert!(seen.confirm(2).unwrap_err().contains("1 of 3"));
        assert!(seen.confirm(4).is_err());
        assert!(seen.add([row(5)]).is_err());
    }

    #[test]
    fn another_write_under_a_seen_id_is_a_loss() {
        let mut seen = Sightings::default();
        seen.add([row(1), row(2)]).unwrap();
        let mut end: BTreeMap<i64, WriteId> = [row(1), row(2), row(3)].into();
        assert_eq!(seen.compare(&end), Ok(()));
        end.insert(2, WriteId { writer: 9, seq: 9 });
        assert!(
            seen.compare(&end)
                .unwrap_err()
                .contains("id=2 writer=1 seq=2")
        );
        end.remove(&2);
        assert!(seen.compare(&end).is_err());
    }
}
