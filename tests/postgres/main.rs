//! Postgres on real servers, which the tests start themselves: logging in, encryption, tables, the stream of changes, the watcher.

mod alerts;
mod audit;
mod catchup;
mod connect;
mod decode;
mod doctor;
mod gate;
mod guest;
mod hostile;
mod kills;
mod live;
mod pgbench;
#[path = "../cli/place.rs"]
#[allow(dead_code, reason = "the tests of the command line use the rest")]
mod place;
#[path = "../support/postgres.rs"]
mod postgres;
mod psql;
mod quarantine;
mod repair;
#[path = "../oracle/rng.rs"]
#[allow(dead_code, reason = "the oracle uses the rest")]
mod rng;
mod scripts;
mod snapshots;
mod stand;
mod story;
mod watcher;
mod wire;
#[path = "../support/writes.rs"]
mod writes;

use std::path::PathBuf;

use firstbad::postgres::{Access, Environment, PostgresError, Session, Target};

/// A runtime of a test's own.
pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime can be made");
    runtime.block_on(work)
}

/// Surroundings that say nothing.
pub(crate) fn bare() -> Environment {
    Environment::default().with_user("somebody")
}

/// The target of a URL where nothing else says anything.
pub(crate) fn target(url: &str) -> Target {
    Target::parse_with(url, &bare()).unwrap_or_else(|error| panic!("{error}"))
}

/// A session for everything.
pub(crate) async fn session(url: &str) -> Session {
    let opened = Session::open(&target(url), "firstbad test", Access::ReadWrite).await;
    opened.unwrap_or_else(|error| panic!("{error}"))
}

/// The error that there must be.
pub(crate) fn refused<T>(result: Result<T, PostgresError>) -> PostgresError {
    match result {
        Ok(_) => panic!("this must fail"),
        Err(error) => error,
    }
}

/// A file of the certificates for tests: an authority, a stranger to it, and certificates of both.
pub(crate) fn certificate(name: &str) -> PathBuf {
    let tls = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/tls");
    tls.join(name)
}
