//! SQL text with the values for its parameters.

use halite_proto::v1 as wire;

use crate::Params;

/// One SQL statement of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statement {
    sql: String,
    params: Params,
}

impl Statement {
    /// `sql` with `params`; `()` where it has none.
    pub fn new(sql: impl Into<String>, params: impl Into<Params>) -> Self {
        Self {
            sql: sql.into(),
            params: params.into(),
        }
    }

    pub(crate) fn into_wire(self) -> wire::Statement {
        self.params.into_wire(self.sql)
    }
}

impl From<&str> for Statement {
    fn from(sql: &str) -> Self {
        Self::new(sql, ())
    }
}

impl From<String> for Statement {
    fn from(sql: String) -> Self {
        Self::new(sql, ())
    }
}

impl<S: Into<String>, P: Into<Params>> From<(S, P)> for Statement {
    fn from((sql, params): (S, P)) -> Self {
        Self::new(sql, params)
    }
}
