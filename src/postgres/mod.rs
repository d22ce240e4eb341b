//! Postgres, as a good guest: connections, the catalog, snapshots, publications and slots, the stream of changes.
//!
//! Everything runs on a tokio runtime that the caller owns. A [`Target`] says where and as whom; a [`Session`] asks; a
//! [`Replication`] makes slots and becomes a [`Stream`]. Both log in in one way (`wire`), the only place where passwords are sent,
//! and have the same settings, so that a value is the same text wherever it comes from. Nothing is shown that is secret: passwords in no text at
//! all, values of rows in no error.
//!
//! What the server sends for a transaction ([`pgoutput`]) is mapped to the watched tables ([`relations`]) and put together between its
//! begin and its commit ([`assemble`]); what is too large for memory waits in a file ([`spill`]). A backlog is fetched in bulk
//! ([`catchup`]); the payloads are the same messages.

pub mod assemble;
mod backoff;
pub mod catalog;
pub mod catchup;
mod channel;
mod copy;
mod dial;
mod error;
#[cfg(test)]
mod fixture;
mod frame;
mod lsn;
pub mod pgoutput;
pub mod read;
pub mod relations;
mod replication;
mod session;
pub mod slot;
pub mod spill;
mod stream;
mod target;
mod tls;
mod types;
mod visibility;
mod wire;

pub use self::backoff::Backoff;
pub use self::catalog::Catalog;
pub use self::channel::Channel;
pub use self::dial::dial;
pub use self::error::PostgresError;
pub use self::lsn::{Lsn, NoLsn};
pub use self::read::{Moment, Progress, Wanted};
pub use self::replication::Replication;
pub use self::session::{Access, Session};
pub use self::stream::{Event, Stream};
pub use self::target::{Address, Environment, Host, SslMode, Target};
pub use self::visibility::Visibility;
pub use self::wire::TextRows;
