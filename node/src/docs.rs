//! The chapters of the architecture. Nothing here is code.

#[doc = include_str!("docs/architecture.md")]
pub mod architecture {}

#[doc = include_str!("docs/testing.md")]
pub mod testing {}

#[doc = include_str!("docs/sql.md")]
pub mod sql {}
