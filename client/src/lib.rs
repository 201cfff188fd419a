//! The client of a Halite cluster.
//!
//! [`Client`] follows the topology and keeps a connection to every member; [`Database`] executes SQL over them; [`Admin`] operates the
//! cluster. Calls of many tasks share one stream per node. Writes go to the primary and are retried over a failover under an
//! idempotency key, so that each is applied once; reads spread over all members at the level they ask for ([`ReadLevel`]).
//!
//! This crate owns routing, sessions and retries. It never looks into SQL, and it keeps nothing on disk. Used by the `halite` command
//! line, the tests, the simulation and applications.
//!
//! ```no_run
//! # async fn example() -> Result<(), halite_client::Error> {
//! use halite_client::{Client, params};
//!
//! let client = Client::connect(["127.0.0.1:7001", "127.0.0.1:7002"]).await?;
//! let app = client.database("app");
//! app.execute("INSERT INTO user (name) VALUES (?1)", params!["Ada"]).await?;
//! for row in app.query("SELECT id, name FROM user", ()).await? {
//!     println!("{} {}", row.get::<i64>(0)?, row.get::<String>("name")?);
//! }
//! # Ok(())
//! # }
//! ```

mod admin;
mod backoff;
mod call;
mod call_ledger;
mod client;
mod client_builder;
mod cluster;
mod connector;
mod database;
mod error;
mod execute_result;
mod failure;
mod from_value;
mod link;
mod ltx_stream;
mod ltx_transaction;
mod operation;
mod options;
mod params;
mod random;
mod read_level;
mod route;
mod row;
mod row_stream;
mod rows;
mod session_token;
mod statement;
mod stats;
mod topology_watch;
mod transaction;
mod value;

pub use admin::{Admin, Exported};
pub use client::Client;
pub use client_builder::ClientBuilder;
pub use database::Database;
pub use error::{Error, ErrorKind};
pub use execute_result::ExecuteResult;
pub use from_value::FromValue;
pub use ltx_stream::LtxStream;
pub use ltx_transaction::LtxTransaction;
pub use params::Params;
pub use read_level::ReadLevel;
pub use row::{ColumnIndex, Row};
pub use row_stream::RowStream;
pub use rows::Rows;
pub use statement::Statement;
pub use stats::ClientStats;
pub use topology_watch::TopologyWatch;
pub use transaction::Transaction;
pub use value::Value;

/// What status and admin calls answer with, as it comes over the wire.
pub use halite_proto::v1::repair_database_request::Keep;
pub use halite_proto::v1::{
    DatabaseStatus, ImportResponse, MemberInfo, MemberLevels, NodeStatus, Role, StatusResponse,
    Topology, UpgradeResponse,
};
