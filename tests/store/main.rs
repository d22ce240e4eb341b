//! Stores: what goes in comes out, on disks that fail and after crashes.

mod in_place;
mod routes;
