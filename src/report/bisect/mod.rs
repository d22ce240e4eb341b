//! What `firstbad bisect` found, for people and for programs.

pub(super) mod json;
pub(super) mod text;

#[cfg(test)]
mod tests;
