//! The gRPC schemas of Halite as Rust: what clients, nodes and the Raft log speak.
//!
//! Owns the wire types and nothing else: no connection, no policy. `client`, `node` and the tests use it. The schemas are in
//! `proto/halite/v1/*.proto`; the generated code is checked in and a test keeps the two together.

pub mod error_detail;

/// Version 1 of the schemas.
pub mod v1 {
    #![allow(
        missing_docs,
        unreachable_pub,
        unused_qualifications,
        clippy::all,
        reason = "generated code"
    )]
    include!("gen/halite.v1.rs");
}
