//! Postgres, as a good guest: connections, the catalog, snapshots, the stream of changes.
//!
//! What the server sends for a transaction ([`pgoutput`]) is mapped to the watched tables ([`relations`]) and put together between its
//! begin and its commit ([`assemble`]); what is too large for memory waits in a file ([`spill`]). A backlog is fetched in bulk
//! ([`catchup`]); the payloads are the same messages.

pub mod assemble;
pub mod catchup;
#[cfg(test)]
mod fixture;
mod lsn;
pub mod pgoutput;
pub mod relations;
pub mod spill;

pub use lsn::Lsn;
