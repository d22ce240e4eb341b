//! Histories that are made, not recorded: the same seed gives the same bytes on every machine.
//!
//! They serve fixtures, examples and benchmarks. Nothing here is used to judge.

mod rng;
pub mod shop;
