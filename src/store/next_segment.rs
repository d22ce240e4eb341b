//! Transactions that follow a store's head and are not in a segment yet.

use super::chain::Stretch;
use crate::change::{Change, Commit, TransactionMeta};
use crate::schema::Schema;
use crate::state::Writing;

/// Transactions in commit order, as they are written down: what they take does not grow with the tables.
#[derive(Debug)]
pub struct NextSegment {
    pub(super) schema: Schema,
    /// The commit that they follow.
    pub(super) after: Commit,
    pub(super) metas: Vec<TransactionMeta>,
    pub(super) tables: Vec<Writing>,
    changes: u64,
}

impl NextSegment {
    /// None yet after a commit.
    pub fn after(schema: Schema, after: Commit) -> Self {
        NextSegment {
            tables: schema.tables.iter().map(Writing::new).collect(),
            schema,
            after,
            metas: Vec::new(),
            changes: 0,
        }
    }

    /// The last commit.
    ///
    /// # Panics
    /// Beyond 2^32 commits.
    pub fn head(&self) -> Commit {
        let count = Commit::try_from(self.metas.len()).expect("fewer than 2^32 commits");
        self.after + count
    }

    /// Whether there are no transactions.
    pub fn is_empty(&self) -> bool {
        self.metas.is_empty()
    }

    /// How many changes there are.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Adds a change of the next transaction, with its place in it, from 0.
    ///
    /// # Panics
    /// As [`Writing::push`].
    pub fn change(&mut self, at: usize, change: &Change) {
        let ordinal = u32::try_from(at + 1).unwrap_or(u32::MAX);
        let commit = self.head() + 1;
        self.changes += 1;
        self.tables[change.table].push(commit, ordinal, change);
    }

    /// Ends the next transaction, whose changes were added one by one.
    pub fn commit(&mut self, meta: TransactionMeta) {
        self.metas.push(meta);
    }

    /// The stretch that they are as a segment; None where there are none.
    pub(super) fn stretch(&self) -> Option<Stretch> {
        let lsns = || self.metas.iter().filter_map(|meta| meta.lsn.clone());
        let times = || self.metas.iter().filter_map(|meta| meta.time);
        (!self.is_empty()).then(|| Stretch {
            from: self.after + 1,
            to: self.head(),
            unseen: false,
            changes: self.changes,
            lsn_from: lsns().next(),
            lsn_to: lsns().next_back(),
            time_from: times().next(),
            time_to: times().next_back(),
        })
    }
}
