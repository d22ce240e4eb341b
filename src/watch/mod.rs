//! Watching a database: what is seen from outside.

pub mod http;
pub mod metrics;

#[cfg(test)]
mod http_tests;
