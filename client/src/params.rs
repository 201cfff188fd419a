//! Values for the parameters of one statement.

use halite_proto::v1 as wire;

use crate::Value;

/// The values bound to a statement: by position (`?1`, `?2`, ...), by name (`:a`, `@a`, `$a`), or both.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Params {
    positional: Vec<Value>,
    named: Vec<(String, Value)>,
}

impl Params {
    /// No values.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the value of the next positional parameter.
    pub fn push(&mut self, value: impl Into<Value>) -> &mut Self {
        self.positional.push(value.into());
        self
    }

    /// Sets the value of a named parameter; the name carries its prefix, as in `":a"`.
    pub fn push_named(&mut self, name: impl Into<String>, value: impl Into<Value>) -> &mut Self {
        self.named.push((name.into(), value.into()));
        self
    }

    pub(crate) fn into_wire(self, sql: String) -> wire::Statement {
        wire::Statement {
            sql,
            args: self.positional.into_iter().map(Value::into_wire).collect(),
            named_args: self
                .named
                .into_iter()
                .map(|(name, value)| wire::NamedValue {
                    name,
                    value: Some(value.into_wire()),
                })
                .collect(),
        }
    }
}

impl From<()> for Params {
    fn from((): ()) -> Self {
        Self::default()
    }
}

impl From<Vec<Value>> for Params {
    fn from(positional: Vec<Value>) -> Self {
        Self {
            positional,
            named: Vec::new(),
        }
    }
}

impl<T: Into<Value>, const N: usize> From<[T; N]> for Params {
    fn from(values: [T; N]) -> Self {
        values.into_iter().collect()
    }
}

impl<T: Into<Value> + Clone> From<&[T]> for Params {
    fn from(values: &[T]) -> Self {
        values.iter().cloned().collect()
    }
}

impl<T: Into<Value>> FromIterator<T> for Params {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        values
            .into_iter()
            .map(Into::into)
            .collect::<Vec<Value>>()
            .into()
    }
}

/// [`Params`] by position, of mixed types: `params![1, "a", None::<i64>]`.
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        $crate::Params::from(<[_]>::into_vec(::std::boxed::Box::new([$($crate::Value::from($value)),*]) as ::std::boxed::Box<[$crate::Value]>))
    };
}

/// [`Params`] by name: `named_params! { ":a": 1, "@b": "x" }`.
#[macro_export]
macro_rules! named_params {
    ($($name:literal : $value:expr),* $(,)?) => {{
        #[allow(unused_mut)]
        let mut params = $crate::Params::new();
        $(params.push_named($name, $value);)*
        params
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macros_mix_types_and_allow_none() {
        assert_eq!(params![], Params::new());
        let mut params = params![1, "a", None::<i64>, 2.5];
        params.push_named(":b", vec![7u8]);
        let statement = params.into_wire("SELECT 1".into());
        assert_eq!(statement.args.len(), 4);
        assert_eq!(statement.named_args[0].name, ":b");
        let named = named_params! { ":a": 1, "$b": "x" };
        assert_eq!(named.into_wire(String::new()).named_args.len(), 2);
    }
}
