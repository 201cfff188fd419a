//! A whole result in memory.

use std::sync::Arc;

use halite_proto::v1 as wire;

use crate::{Error, Row, Value};

/// All rows of one statement, buffered. For large results see [`Database::query_stream`](crate::Database::query_stream).
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    columns: Arc<[String]>,
    rows: Vec<Row>,
}

impl Rows {
    pub(crate) fn from_wire(columns: Vec<String>, rows: Vec<wire::Row>) -> Result<Self, Error> {
        let columns: Arc<[String]> = columns.into();
        let rows = rows
            .into_iter()
            .map(|row| row_from_wire(&columns, row))
            .collect::<Result<_, _>>()?;
        Ok(Self { columns, rows })
    }

    /// The names of the columns, in order.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True without any row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The first row, if there is one.
    pub fn first(&self) -> Option<&Row> {
        self.rows.first()
    }

    /// The rows in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Row> {
        self.rows.iter()
    }
}

/// A row whose width is not that of its columns is refused: a value must never be taken for its neighbour.
pub(crate) fn row_from_wire(columns: &Arc<[String]>, row: wire::Row) -> Result<Row, Error> {
    if row.values.len() != columns.len() {
        return Err(Error::internal(format!(
            "node sent a row of another width: values={} columns={}",
            row.values.len(),
            columns.len()
        )));
    }
    let values = row
        .values
        .into_iter()
        .map(|value| {
            Value::from_wire(value)
                .ok_or_else(|| Error::internal("node sent a value of unknown kind"))
        })
        .collect::<Result<_, _>>()?;
    Ok(Row::new(Arc::clone(columns), values))
}

impl IntoIterator for Rows {
    type Item = Row;
    type IntoIter = std::vec::IntoIter<Row>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.into_iter()
    }
}

impl<'a> IntoIterator for &'a Rows {
    type Item = &'a Row;
    type IntoIter = std::slice::Iter<'a, Row>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.iter()
    }
}

impl std::ops::Index<usize> for Rows {
    type Output = Row;

    fn index(&self, index: usize) -> &Row {
        &self.rows[index]
    }
}
