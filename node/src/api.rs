//! What the outside speaks with a node. Owns the protocols, nothing behind them: calls go to `database` and `cluster`.

pub(crate) mod grpc;
pub(crate) mod router;
