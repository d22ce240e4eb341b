//! Single writes and row versions, for those who ask about rows one by one instead of by SQL.

use super::column::NO_ROW;
use super::versions::TableVersions;
use crate::change::{Commit, Op};

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
        let version = |row: u32| (row != NO_ROW).then_some(row);
        let effects = self.net_effects(&self.identity, &(0..=position));
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

    /// Whether two row versions hold the same value in a column; two that are not known do.
    pub fn same_value(&self, column: usize, a: u32, b: u32) -> bool {
        self.columns[column].same_rows(a, b)
    }
}
