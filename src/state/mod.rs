//! All tables at every position of a history, and as Arrow.
//!
//! A [`History`] is fed rows of a snapshot and then transactions; it answers for any position with the four relations that
//! rules read: the state of a table, its recorded changes, the net effect of each commit on its rows (`writes`), and the
//! recorded steps within commits. It owns invariants 2, 3 and 4: the state is a function of the snapshot and the
//! changes, positions lie between transactions, and what is not known is never NULL (it is counted, column by column, so that
//! a rule which reads it can be called unknown).
//!
//! A history may begin after any commit, and commits may be missing from it: see [`Gap`]. Wherever commits have numbers, they are the
//! real ones.

mod column;
mod delta;
mod effects;
mod event;
mod fingerprint;
mod gaps;
mod in_place;
mod key;
mod lifetimes;
mod live;
mod memory;
mod position;
mod recorded;
mod relation;
mod row;
mod shaped;
mod stored;
mod touching;
mod tree;
mod versions;
mod visible;
mod writes;
mod written;

pub use column::{WIDE, scale_of, with_scale};
pub use delta::{Delta, Noticed};
pub use fingerprint::{Fingerprint, of_state};
pub use gaps::Gap;
pub use in_place::{Bounds, Chunks, InPlace, NotRead, arrow_schema, engine_order};
pub use key::{Keys, sorted};
pub use memory::Memory;
pub use position::{Resolved, parse_lsn};
pub use relation::{COMMIT_OF_RECORDED, COMMIT_OF_TRANSACTIONS, Relation, Rows};
pub use stored::{Malformed, StoredRows};
pub use tree::{BITS, LEVELS, Node, Print, heights, node, nodes, table_print};
pub use versions::{Contradiction, TableVersions};
pub use writes::Write;
pub use written::{Writing, Written};

use crate::change::{Cell, Change, Commit, Transaction, TransactionMeta};
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

/// A first state and what happened since.
#[derive(Debug)]
pub struct History {
    /// The tables.
    pub schema: Schema,
    /// Row versions, in the order of `schema.tables`.
    pub tables: Vec<TableVersions>,
    /// The position of the state that it begins with; 0 for files.
    pub first: Commit,
    /// Attributes of that position as far as they are known; none for position 0.
    pub base: TransactionMeta,
    /// Attributes of the known commits: of `first + i + 1` where there are no gaps, else see [`History::commits`].
    pub transactions: Vec<TransactionMeta>,
    /// Commits that were not seen one by one, in order.
    gaps: Vec<Gap>,
    /// How many commits are missing from `transactions` because of each gap and those before it.
    skipped: Vec<Commit>,
    /// Where the transactions come from.
    pub origin: Origin,
    /// The name of the snapshot at position 0, for dated snapshots.
    pub first_snapshot: Option<String>,
    /// The tables that are read in place, in the order of `schema.tables`; None for those that are held as versions.
    pub in_place: Vec<Option<InPlace>>,
}

impl History {
    /// A history without rows. With `partial_start` there is no snapshot: rows may be met that no insert explains.
    pub fn new(schema: Schema, origin: Origin, partial_start: bool) -> Self {
        Self::beginning_at(schema, origin, partial_start, 0)
    }

    /// A history without rows that begins with the state after a commit; what is known of that commit goes into `base`.
    ///
    /// # Panics
    /// When `first` is the last number there is: readers see to it.
    pub fn beginning_at(
        schema: Schema,
        origin: Origin,
        partial_start: bool,
        first: Commit,
    ) -> Self {
        assert!(
            first < Commit::MAX,
            "readers see to it that a commit can follow"
        );
        let tables = schema
            .tables
            .iter()
            .map(|table| TableVersions::new(table.clone(), partial_start))
            .collect();
        let in_place = vec![None; schema.tables.len()];
        History {
            schema,
            tables,
            first,
            base: TransactionMeta::default(),
            transactions: Vec::new(),
            gaps: Vec::new(),
            skipped: Vec::new(),
            origin,
            first_snapshot: None,
            in_place,
        }
    }

    /// Adds a row of the first state; `cells` in the table's column order.
    pub fn load(&mut self, table: usize, cells: &[Cell]) {
        self.tables[table].load(cells);
    }

    /// Shows the numbers of a table to the engine as those of any size are shown, which changes no verdict; for tests.
    #[doc(hidden)]
    pub fn widen(&mut self, table: usize) {
        let columns = self.tables[table].columns.iter_mut();
        columns.for_each(column::ColumnVersions::widen);
    }

    /// Keeps nothing of some columns of a table: see [`TableVersions::leave_out`].
    pub fn leave_out(&mut self, table: usize, columns: &[usize]) {
        self.tables[table].leave_out(columns);
    }

    /// The history of some of its tables, by their indexes, in the given order.
    pub fn only(mut self, tables: &[usize]) -> History {
        let schema = std::mem::take(&mut self.schema.tables);
        let mut all: Vec<_> = schema
            .into_iter()
            .zip(self.tables)
            .zip(self.in_place)
            .map(Some)
            .collect();
        self.tables = Vec::new();
        self.in_place = Vec::new();
        for &at in tables {
            if let Some(((table, versions), place)) = all[at].take() {
                self.schema.tables.push(table);
                self.tables.push(versions);
                self.in_place.push(place);
            }
        }
        self
    }

    /// The same tables as they are at the head and without what was before, as a history that begins there. Its memory is that of the
    /// rows that are alive.
    ///
    /// # Panics
    /// When the head is the last number there is, or rows do not fit where they were.
    pub fn from_the_head(&self) -> History {
        let head = self.head();
        let mut next = Self::beginning_at(self.schema.clone(), self.origin, false, head);
        next.base = self
            .meta(head)
            .cloned()
            .unwrap_or_else(|| self.base.clone());
        next.base.time = next.base.time.or_else(|| self.now_at(head));
        next.first_snapshot = self.first_snapshot.clone();
        for (to, from) in next.tables.iter_mut().zip(&self.tables) {
            to.take_living(from);
        }
        next
    }

    /// Gets ready for changes after rows were loaded by the batch: on all cores, which the first changes would do on one.
    pub fn settle(&mut self) {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let mut tables: Vec<&mut TableVersions> = self.tables.iter_mut().collect();
        tables.sort_by_key(|table| table.version_count());
        let tables = std::sync::Mutex::new(tables);
        let next = || tables.lock().expect("no holder panics").pop();
        std::thread::scope(|scope| {
            for _ in 0..cores {
                scope.spawn(|| {
                    while let Some(table) = next() {
                        table.settle();
                    }
                });
            }
        });
    }

    /// Lets go of what the last ranges of commits did to the rows: all who look at them together have asked.
    pub fn let_deltas_go(&self) {
        self.tables
            .iter()
            .for_each(TableVersions::let_the_last_delta_go);
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
            self.change(at, change).map_err(|error| (at, error))?;
        }
        self.commit(transaction.meta.clone());
        Ok(())
    }

    /// Applies one change of the next transaction, the `at`-th from 0. It counts once the transaction is committed.
    ///
    /// # Errors
    /// Why it contradicts the state. The history must not be used further.
    pub fn change(&mut self, at: usize, change: &Change) -> Result<(), Contradiction> {
        let ordinal = u32::try_from(at + 1).unwrap_or(u32::MAX);
        let commit = self.head() + 1;
        self.tables[change.table].apply(commit, ordinal, change)
    }

    /// Ends the next transaction, whose changes were applied one by one.
    pub fn commit(&mut self, meta: TransactionMeta) {
        self.transactions.push(meta);
    }

    /// Attributes of a commit; None for the first position where nothing is known of it, and for commits that were not seen.
    pub fn meta(&self, commit: Commit) -> Option<&TransactionMeta> {
        if commit <= self.first {
            let known = commit == self.first && self.base != TransactionMeta::default();
            return known.then_some(&self.base);
        }
        let hidden = self.unseen_at(commit).is_some();
        let at = self.commits_until(commit).checked_sub(1)?;
        // Beyond the head, the last commit would be found.
        let found = !hidden && commit <= self.head();
        self.transactions.get(at).filter(|_| found)
    }

    /// The time of the last commit at or before a position, in microseconds; None where no such commit has a time.
    pub fn now_at(&self, position: Commit) -> Option<i64> {
        let known = &self.transactions[..self.commits_until(position)];
        let time = known.iter().rev().find_map(|meta| meta.time);
        time.or(self.base.time)
    }

    /// When a state after `commit` began: the commit's time; for the first position, if it has none, the first commit's, if that was
    /// seen.
    ///
    /// The only state of a source may have a time, which is when it was looked at.
    pub fn began(&self, commit: Commit) -> Option<i64> {
        if self.origin == Origin::SingleState {
            return None;
        }
        if commit <= self.first {
            let first = self.transactions.first();
            let first = first.filter(|_| self.unseen_in(self.first + 1..=self.first + 1).is_none());
            return self.base.time.or_else(|| first?.time);
        }
        self.meta(commit)?.time
    }
}

#[cfg(test)]
mod tests;
