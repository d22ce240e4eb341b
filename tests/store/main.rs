//! Stores: what goes in comes out, on disks that fail and after crashes; what is damaged is found.
//!
//! `FIRSTBAD_SEED` replays a campaign with another seed; `FIRSTBAD_THOROUGH` does all of each, which takes minutes.

mod derived;
mod faults;
mod fixture;
mod flips;
mod golden;
mod in_place;
mod incidents;
mod kill;
mod learned;
mod readers;
#[allow(dead_code)]
#[path = "../oracle/rng.rs"]
mod rng;
mod routes;
mod story;
mod structure;
