//! What was recorded, in as few bytes as it takes: there is one for each change.

use super::column::NO_ROW;
use crate::change::{Commit, Op};

/// A recorded change: which versions it ended and began. A truncate has neither.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) commit: Commit,
    pub(super) ordinal: u32,
    pub(super) before: u32,
    pub(super) after: u32,
}

impl Event {
    /// What was done.
    pub(super) fn op(&self) -> Op {
        match (self.before, self.after) {
            (NO_ROW, NO_ROW) => Op::Truncate,
            (NO_ROW, _) => Op::Insert,
            (_, NO_ROW) => Op::Delete,
            _ => Op::Update,
        }
    }
}
