//! Histories captured from a PostgreSQL server that the tests start themselves: the program's answers against the server's.

#[path = "../support/capture.rs"]
mod capture;
mod pgbench;
#[path = "../cli/place.rs"]
#[allow(dead_code, reason = "the tests of the command line use the rest")]
mod place;
#[path = "../support/postgres.rs"]
mod postgres;
#[path = "../oracle/rng.rs"]
#[allow(dead_code, reason = "the oracle uses the rest")]
mod rng;
mod workload;
#[path = "../support/writes.rs"]
mod writes;
