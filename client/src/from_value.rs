//! Rust types out of [`Value`]s.

use bytes::Bytes;

use crate::Value;

/// A Rust type that a [`Value`] can be turned into.
///
/// Nothing is converted silently: text is not parsed, a real is not rounded, an integer that does not fit is refused. The one
/// widening is an integer read as `f64`, which SQLite itself does for columns of real affinity.
pub trait FromValue: Sized {
    /// What the caller asked for, as the error names it.
    const EXPECTED: &'static str;

    /// The value as `Self`, `None` if it is of another kind or out of range.
    fn from_value(value: &Value) -> Option<Self>;
}

macro_rules! integer {
    ($($into:ty),+) => {$(
        impl FromValue for $into {
            const EXPECTED: &'static str = stringify!($into);

            fn from_value(value: &Value) -> Option<Self> {
                match value {
                    Value::Integer(integer) => Self::try_from(*integer).ok(),
                    _ => None,
                }
            }
        }
    )+};
}

integer!(i8, i16, i32, i64, u8, u16, u32, u64, usize);

impl FromValue for bool {
    const EXPECTED: &'static str = "bool";

    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Integer(integer) => Some(*integer != 0),
            _ => None,
        }
    }
}

impl FromValue for f64 {
    const EXPECTED: &'static str = "f64";

    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Real(real) => Some(*real),
            Value::Integer(integer) => Some(*integer as f64),
            _ => None,
        }
    }
}

impl FromValue for String {
    const EXPECTED: &'static str = "text";

    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }
}

impl FromValue for Bytes {
    const EXPECTED: &'static str = "blob";

    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Blob(blob) => Some(blob.clone()),
            _ => None,
        }
    }
}

impl FromValue for Vec<u8> {
    const EXPECTED: &'static str = "blob";

    fn from_value(value: &Value) -> Option<Self> {
        Bytes::from_value(value).map(Into::into)
    }
}

impl FromValue for Value {
    const EXPECTED: &'static str = "value";

    fn from_value(value: &Value) -> Option<Self> {
        Some(value.clone())
    }
}

impl<T: FromValue> FromValue for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            value => T::from_value(value).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_checked_for_range() {
        assert_eq!(u8::from_value(&Value::Integer(255)), Some(255));
        assert_eq!(u8::from_value(&Value::Integer(256)), None);
        assert_eq!(u64::from_value(&Value::Integer(-1)), None);
    }

    #[test]
    fn null_is_only_an_option() {
        assert_eq!(i64::from_value(&Value::Null), None);
        assert_eq!(Option::<i64>::from_value(&Value::Null), Some(None));
        assert_eq!(Option::<i64>::from_value(&Value::from("1")), None);
    }
}
