//! One row of a result.

use std::sync::Arc;

use crate::{Error, FromValue, Value};

/// One row: values by position or by column name.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    columns: Arc<[String]>,
    values: Vec<Value>,
}

impl Row {
    pub(crate) fn new(columns: Arc<[String]>, values: Vec<Value>) -> Self {
        Self { columns, values }
    }

    /// The value of a column, by position from 0 or by name, as a Rust type.
    ///
    /// Errors with [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if there is no such column or its value is of another type.
    pub fn get<T: FromValue>(&self, column: impl ColumnIndex) -> Result<T, Error> {
        let index = column
            .index(&self.columns)
            .filter(|index| *index < self.values.len());
        let Some(index) = index else {
            return Err(Error::invalid(format!(
                "no such column: column={} columns={}",
                column.describe(),
                self.columns.len()
            )));
        };
        let value = &self.values[index];
        T::from_value(value).ok_or_else(|| {
            Error::invalid(format!(
                "column holds another type or does not fit: column={} expected={} found={}",
                column.describe(),
                T::EXPECTED,
                value.type_name()
            ))
        })
    }

    /// The names of the columns, in order.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The values, in order.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// The values, in order.
    pub fn into_values(self) -> Vec<Value> {
        self.values
    }
}

/// A column by position (`usize`) or by name (`&str`).
pub trait ColumnIndex {
    /// The position of the column among `columns`.
    fn index(&self, columns: &[String]) -> Option<usize>;
    /// The column as an error names it.
    fn describe(&self) -> String;
}

impl ColumnIndex for usize {
    fn index(&self, columns: &[String]) -> Option<usize> {
        (*self < columns.len()).then_some(*self)
    }

    fn describe(&self) -> String {
        self.to_string()
    }
}

impl ColumnIndex for &str {
    fn index(&self, columns: &[String]) -> Option<usize> {
        columns.iter().position(|name| name == self).or_else(|| {
            columns
                .iter()
                .position(|name| name.eq_ignore_ascii_case(self))
        })
    }

    fn describe(&self) -> String {
        (*self).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_position_and_name() {
        let row = Row::new(
            ["id".to_owned(), "Name".to_owned()].into(),
            vec![Value::Integer(7), Value::Null],
        );
        assert_eq!(row.get::<i64>(0).unwrap(), 7);
        assert_eq!(row.get::<Option<String>>("name").unwrap(), None);
        let error = row.get::<String>("id").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("column=id expected=text found=integer")
        );
        assert!(row.get::<i64>(2).is_err());
    }
}
