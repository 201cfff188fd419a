//! One SQLite value as the application sees it.

use bytes::Bytes;
use halite_proto::v1 as wire;

/// A value of one of SQLite's five storage classes.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// `NULL`.
    #[default]
    Null,
    /// A signed 64-bit integer.
    Integer(i64),
    /// An IEEE 754 double.
    Real(f64),
    /// UTF-8 text.
    Text(String),
    /// Bytes as they are.
    Blob(Bytes),
}

impl Value {
    /// True for `NULL`.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// The name SQLite's `typeof()` gives this value.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Integer(_) => "integer",
            Value::Real(_) => "real",
            Value::Text(_) => "text",
            Value::Blob(_) => "blob",
        }
    }

    pub(crate) fn into_wire(self) -> wire::Value {
        use wire::value::Kind;
        let kind = match self {
            Value::Null => Kind::Null(wire::Null {}),
            Value::Integer(integer) => Kind::Integer(integer),
            Value::Real(real) => Kind::Real(real),
            Value::Text(text) => Kind::Text(text),
            Value::Blob(blob) => Kind::Blob(blob),
        };
        wire::Value { kind: Some(kind) }
    }

    /// A value without a kind is one this client is too old to know; it must not pass for `NULL`.
    pub(crate) fn from_wire(value: wire::Value) -> Option<Self> {
        use wire::value::Kind;
        Some(match value.kind? {
            Kind::Null(_) => Value::Null,
            Kind::Integer(integer) => Value::Integer(integer),
            Kind::Real(real) => Value::Real(real),
            Kind::Text(text) => Value::Text(text),
            Kind::Blob(blob) => Value::Blob(blob),
        })
    }
}

macro_rules! integer {
    ($($from:ty),+) => {$(
        impl From<$from> for Value {
            fn from(integer: $from) -> Self {
                Value::Integer(integer.into())
            }
        }
    )+};
}

integer!(i8, i16, i32, i64, u8, u16, u32, bool);

impl From<f64> for Value {
    fn from(real: f64) -> Self {
        Value::Real(real)
    }
}

impl From<f32> for Value {
    fn from(real: f32) -> Self {
        Value::Real(real.into())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text)
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Value::Text(text.clone())
    }
}

impl From<Bytes> for Value {
    fn from(blob: Bytes) -> Self {
        Value::Blob(blob)
    }
}

impl From<Vec<u8>> for Value {
    fn from(blob: Vec<u8>) -> Self {
        Value::Blob(blob.into())
    }
}

impl From<&[u8]> for Value {
    fn from(blob: &[u8]) -> Self {
        Value::Blob(Bytes::copy_from_slice(blob))
    }
}

impl<const N: usize> From<[u8; N]> for Value {
    fn from(blob: [u8; N]) -> Self {
        Value::Blob(Bytes::copy_from_slice(&blob))
    }
}

impl From<&Value> for Value {
    fn from(value: &Value) -> Self {
        value.clone()
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_survives_the_wire() {
        for value in [
            Value::Null,
            Value::Integer(i64::MIN),
            Value::Real(-0.5),
            Value::from("text"),
            Value::from(vec![0, 255]),
        ] {
            assert_eq!(Value::from_wire(value.clone().into_wire()), Some(value));
        }
    }

    #[test]
    fn a_value_of_unknown_kind_is_not_null() {
        assert_eq!(Value::from_wire(wire::Value { kind: None }), None);
    }
}
