//! Postgres on real servers, which the tests start themselves.

mod live;
#[path = "../cli/place.rs"]
#[allow(dead_code, reason = "the tests of the command line use the rest")]
mod place;
#[path = "../support/postgres.rs"]
mod postgres;
#[path = "../oracle/rng.rs"]
#[allow(dead_code, reason = "the oracle uses the rest")]
mod rng;
