//! The checks against histories that a correct system makes, and against the same with one thing wrong.

mod mutation;
mod passes;
mod rng;
mod world;
