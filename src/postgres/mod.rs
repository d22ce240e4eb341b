//! Postgres, as a good guest.

pub mod catalog;
mod copy;
pub mod read;
mod stub;
mod types;

pub use catalog::Catalog;
pub use read::{Moment, Progress, Wanted};
pub use stub::*;
