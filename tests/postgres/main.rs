//! Postgres servers that the tests start themselves: connections, the catalog, snapshots, the stream of changes.

mod decode;
#[path = "../support/postgres.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod postgres;
#[path = "../oracle/rng.rs"]
#[allow(dead_code, reason = "the oracle uses the rest")]
mod rng;
mod stand;
#[path = "../support/writes.rs"]
mod writes;
