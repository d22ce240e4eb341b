//! Single writes and row versions, for those who ask about rows one by one instead of by SQL.

use std::ops::RangeInclusive;

use super::column::NO_ROW;
use super::versions::TableVersions;
use crate::change::{Cell, Commit, Op};

/// The net effect of one commit on one row of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Write {
    /// The commit.
    pub commit: Commit,
    /// What it did in the end: insert, update or delete (a truncate deletes every row).
    pub op: Op,
    /// The row version before it; None for an insert.
    pub before: Option<u32>,
    /// The row version after it; None for a delete.
    pub after: Option<u32>,
}

impl TableVersions {
    /// The net effects of all commits up to a position on all rows, in commit order. A row is known by its primary key, or by all
    /// of its columns where there is none.
    pub fn writes(&self, position: Commit) -> Vec<Write> {
        self.writes_of(&(0..=position))
    }

    /// The same for a range of commits.
    pub fn writes_of(&self, range: &RangeInclusive<Commit>) -> Vec<Write> {
        let version = |row: u32| (row != NO_ROW).then_some(row);
        let effects = self.net_effects(&self.identity, range);
        effects
            .into_iter()
            .map(|effect| Write {
                commit: effect.commit,
                op: effect.op,
                before: version(effect.before),
                after: version(effect.after),
            })
            .collect()
    }

    /// The commit that made a row version; 0 for what the history begins with.
    pub fn born(&self, row: u32) -> Commit {
        self.born[row as usize]
    }

    /// The version at the head of the row with the primary key of these cells; None where it is gone, or the table has no key.
    pub fn alive(&self, cells: &[Cell]) -> Option<u32> {
        let has_key = !self.table.primary_key.is_empty();
        self.find(cells).next().filter(|_| has_key)
    }

    /// Whether two row versions hold the same value in a column; two that are not known do.
    pub fn same_value(&self, column: usize, a: u32, b: u32) -> bool {
        self.columns[column].same_rows(a, b)
    }
}
