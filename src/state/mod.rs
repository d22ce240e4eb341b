//! All tables at every position of a history, and as Arrow.
//!
//! A [`History`] is fed rows of a snapshot and then transactions; it answers for any position with the four relations that
//! rules read: the state of a table, its recorded changes, the net effect of each commit on its rows (`writes`), and the
//! recorded steps within commits. It owns invariants 2, 3 and 4: the state is a function of the snapshot and the
//! changes, positions lie between transactions, and what is not known is never NULL (it is counted, column by column, so that
//! a rule which reads it can be called unknown).

mod column;
mod effects;
mod event;
mod fingerprint;
mod key;
mod lifetimes;
mod live;
mod memory;
mod position;
mod recorded;
mod relation;
mod row;
mod stored;
mod touching;
mod tree;
mod versions;
mod writes;

pub use column::TooWide;
pub use fingerprint::{Fingerprint, of_state};
pub use key::{Keys, sorted};
pub use memory::Memory;
pub use position::{Resolved, parse_lsn};
pub use relation::{Relation, Rows};
pub use stored::{Malformed, StoredRows};
pub use tree::{BITS, LEVELS, Node, Print, heights, node, nodes, table_print};
pub use versions::{Contradiction, TableVersions};
pub use writes::Write;

use std::path::PathBuf;

use crate::change::{Cell, Commit, Transaction, TransactionMeta};
use crate::schema::Schema;

/// Where the transactions of a [`History`] come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Only one state: checks of writes cannot be judged.
    SingleState,
    /// A history directory that holds a snapshot and no changes: position 0 and nothing else.
    SnapshotOnly,
    /// Recorded transactions.
    Changes,
    /// Differences between dated snapshots.
    DatedSnapshots,
}

/// A state at position 0 and what happened since.
#[derive(Debug)]
pub struct History {
    /// The tables.
    pub schema: Schema,
    /// Row versions, in the order of `schema.tables`.
    pub tables: Vec<TableVersions>,
    /// Attributes of commit `i + 1`.
    pub transactions: Vec<TransactionMeta>,
    /// Where the transactions come from.
    pub origin: Origin,
    /// The name of the snapshot at position 0, for dated snapshots.
    pub first_snapshot: Option<String>,
    /// Parquet files of tables that are read in place, in the order of `schema.tables`; empty for tables held as versions.
    pub files: Vec<Vec<PathBuf>>,
}

impl History {
    /// A history without rows. With `partial_start` there is no snapshot: rows may be met that no insert explains.
    pub fn new(schema: Schema, origin: Origin, partial_start: bool) -> Self {
        let tables = schema
            .tables
            .iter()
            .map(|table| TableVersions::new(table.clone(), partial_start))
            .collect();
        let files = vec![Vec::new(); schema.tables.len()];
        History {
            schema,
            tables,
            transactions: Vec::new(),
            origin,
            first_snapshot: None,
            files,
        }
    }

    /// Adds a row of the snapshot at position 0; `cells` in the table's column order.
    pub fn load(&mut self, table: usize, cells: &[Cell]) -> Result<(), TooWide> {
        self.tables[table].load(cells)
    }

    /// Applies the next transaction.
    ///
    /// # Errors
    /// The index of the first change that contradicts the state, and why. The history must not be used further.
    pub fn apply(&mut self, transaction: &Transaction) -> Result<(), (usize, Contradiction)> {
        assert_eq!(
            transaction.commit,
            self.head() + 1,
            "readers see to it that commits are gapless"
        );
        for (at, change) in transaction.changes.iter().enumerate() {
            let ordinal = u32::try_from(at + 1).unwrap_or(u32::MAX);
            self.tables[change.table]
                .apply(transaction.commit, ordinal, change)
                .map_err(|error| (at, error))?;
        }
        self.transactions.push(transaction.meta.clone());
        Ok(())
    }

    /// The last commit; 0 when there is none.
    pub fn head(&self) -> Commit {
        Commit::try_from(self.transactions.len()).expect("fewer than 2^32 commits")
    }

    /// Attributes of a commit; None for position 0.
    pub fn meta(&self, commit: Commit) -> Option<&TransactionMeta> {
        self.transactions.get((commit as usize).checked_sub(1)?)
    }

    /// The time of the last commit at or before a position, in microseconds; None where no such commit has a time.
    pub fn now_at(&self, position: Commit) -> Option<i64> {
        self.transactions
            .iter()
            .take(position as usize)
            .rev()
            .find_map(|meta| meta.time)
    }

    /// When a state after `commit` began: the commit's time, or the first commit's time for position 0.
    pub fn began(&self, commit: Commit) -> Option<i64> {
        self.transactions
            .get((commit as usize).saturating_sub(1))?
            .time
    }
}
