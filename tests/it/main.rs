//! Black-box tests of Halite with real processes.

#![allow(
    clippy::disallowed_methods,
    reason = "real processes run in real time"
)]

mod crash;
