//! A store becomes a history: the rows of a snapshot, and the changes after it.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::mpsc::sync_channel;

use super::Store;
use super::chain::{Sealed, Stretch};
use super::error::StoreError;
use super::format::{Kind, segment_directory};
use super::ledger::commits;
use super::manifest::{Manifest, TableManifest};
use super::segment::{TRANSACTIONS, Unreadable, decode_changes, decode_transactions};
use super::snapshot::parallel;
use crate::change::{Change, Commit, Transaction};
use crate::state::{History, Origin, Written};

/// How many chunks are decoded before their rows are taken over.
const CHUNKS_AT_ONCE: usize = 16;
/// How many segments may wait to be applied.
const WAITING: usize = 2;

/// A segment, read.
pub(super) struct Parts {
    /// Its transactions, without their changes.
    pub(super) transactions: Vec<Transaction>,
    /// For each table that it has changes of: its number, its file, and the changes.
    pub(super) tables: Vec<(usize, Sealed, Vec<Written>)>,
}

impl Store {
    /// All that the store holds, from its first position to its head.
    ///
    /// # Errors
    /// [`StoreError::Damaged`]; [`StoreError::Refused`] when nothing was recorded yet.
    pub fn history(&self) -> Result<History, StoreError> {
        self.history_of(self.ledger().first..=self.ledger().head())
    }

    /// The history of a range of positions: of the last snapshot at or before its start, and the changes from there to its end.
    ///
    /// # Errors
    /// As [`Store::history`].
    pub fn history_of(&self, range: RangeInclusive<Commit>) -> Result<History, StoreError> {
        let base = self.ledger().snapshots.range(..=*range.start()).next_back();
        let base = base.or_else(|| self.ledger().snapshots.first_key_value());
        let Some((&base, _)) = base else {
            return Err(StoreError::refused(
                "the store is empty: nothing was recorded yet",
                "fill it with `firstbad record SOURCE --store DIR`",
            ));
        };
        let mut history = self.base(base)?;
        if base < *range.end() {
            history.settle();
        }
        self.replay_of(&mut history, (base, *range.end()), None)?;
        history.shrink();
        Ok(history)
    }

    /// The state of one table at a position, in a history of that state alone; the other tables have no rows.
    ///
    /// # Errors
    /// As [`Store::history`].
    pub fn table_at(&self, table: usize, at: Commit) -> Result<History, StoreError> {
        let base = self.ledger().snapshots.range(..=at).next_back();
        let base = base.map(|(&base, _)| base).ok_or_else(|| {
            let begins = format!("the store does not hold #{at}");
            StoreError::refused(begins, "name a later position")
        })?;
        let manifest = self.manifest(base)?;
        let mut history = self.beginning(base, &manifest);
        self.load(&mut history, table, &manifest.tables[table])?;
        self.replay_of(&mut history, (base, at), Some(table))?;
        Ok(history.from_the_head())
    }

    /// A history that begins with a snapshot, without its rows.
    pub(super) fn beginning(&self, at: Commit, manifest: &Manifest) -> History {
        let format = self.format();
        let origin = match format.kind {
            Kind::Snapshots => Origin::DatedSnapshots,
            Kind::Changes if self.ledger().segments.is_empty() => Origin::SnapshotOnly,
            Kind::Changes => Origin::Changes,
        };
        let schema = format.schema.clone();
        let mut history = History::beginning_at(schema, origin, format.partial_start, at);
        history.first_snapshot = manifest.name.clone();
        history.base = manifest.meta();
        // A commit without a time comes after one that may have one: now is the same, however much is read.
        let kept = self.ledger().snapshots.get(&at);
        history.base.time = history.base.time.or(kept.and_then(|kept| kept.time));
        history
    }

    /// The state of a snapshot, as the beginning of a history.
    fn base(&self, at: Commit) -> Result<History, StoreError> {
        let manifest = self.manifest(at)?;
        let mut history = self.beginning(at, &manifest);
        for (number, table) in manifest.tables.iter().enumerate() {
            self.load(&mut history, number, table)?;
        }
        Ok(history)
    }

    /// Loads the rows of a table.
    pub(super) fn load(
        &self,
        history: &mut History,
        number: usize,
        table: &TableManifest,
    ) -> Result<(), StoreError> {
        let declared = &self.format().schema.tables[number];
        for chunks in table.chunks.chunks(CHUNKS_AT_ONCE) {
            let parts = parallel(chunks.len(), |at| self.rows(declared, &chunks[at]))?;
            for rows in &parts {
                history.tables[number].load_stored(rows);
            }
        }
        Ok(())
    }

    /// Applies the changes after one position up to another; those of one table, or of all.
    fn replay_of(
        &self,
        history: &mut History,
        (from, to): (Commit, Commit),
        table: Option<usize>,
    ) -> Result<(), StoreError> {
        let segments: Vec<&Stretch> = self
            .ledger()
            .segments
            .values()
            .filter(|stretch| from < to && stretch.to > from && stretch.from <= to)
            .collect();
        std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(WAITING);
            let segments = &segments;
            scope.spawn(move || {
                for stretch in segments {
                    let read = self.transactions(stretch);
                    let failed = read.is_err();
                    // Who applies has stopped, and says why.
                    if sender.send((*stretch, read)).is_err() || failed {
                        return;
                    }
                }
            });
            for (stretch, transactions) in receiver {
                for mut transaction in transactions? {
                    if transaction.commit <= from || transaction.commit > to {
                        continue;
                    }
                    let is_wanted = |change: &Change| table.is_none_or(|at| change.table == at);
                    transaction.changes.retain(is_wanted);
                    self.apply(history, stretch, &transaction)?;
                }
            }
            Ok(())
        })
    }

    fn apply(
        &self,
        history: &mut History,
        stretch: &Stretch,
        transaction: &Transaction,
    ) -> Result<(), StoreError> {
        let commit = transaction.commit;
        let odd = |problem: String| {
            let directory = segment_directory(stretch.from, stretch.to);
            let affects = commits(stretch.from, stretch.to);
            StoreError::damaged(directory, (0, 0), problem, affects)
        };
        if stretch.unseen && commit > history.head() {
            history.skip_to(commit);
        }
        if commit != history.head() + 1 {
            return Err(odd(format!("commit #{commit} is out of order")));
        }
        history.apply(transaction).map_err(|(at, contradiction)| {
            let table = &history.schema.tables[transaction.changes[at].table];
            let name = table.name.short();
            odd(format!("commit #{commit}, table {name}: {contradiction}"))
        })
    }

    /// The transactions of a segment.
    ///
    /// # Errors
    /// When a file of it is damaged.
    pub fn transactions(&self, stretch: &Stretch) -> Result<Vec<Transaction>, StoreError> {
        let parts = self.segment(stretch)?;
        let mut transactions = parts.transactions;
        let places: HashMap<Commit, usize> = transactions
            .iter()
            .enumerate()
            .map(|(at, transaction)| (transaction.commit, at))
            .collect();
        let mut ordinals: Vec<Vec<(u32, Change)>> = vec![Vec::new(); transactions.len()];
        for (number, sealed, written) in &parts.tables {
            let table = &self.format().schema.tables[*number];
            for part in written {
                for (commit, ordinal, change) in part.changes(table, *number) {
                    let Some(&at) = places.get(&commit) else {
                        let problem = format!("commit #{commit} is not among its transactions");
                        return Err(self.unreadable(sealed, Unreadable(problem)));
                    };
                    ordinals[at].push((ordinal, change));
                }
            }
        }
        for (transaction, mut changes) in transactions.iter_mut().zip(ordinals) {
            changes.sort_by_key(|(ordinal, change)| (*ordinal, change.table));
            transaction.changes = changes.into_iter().map(|(_, change)| change).collect();
        }
        Ok(transactions)
    }

    /// What the files of a segment hold.
    pub(super) fn segment(&self, stretch: &Stretch) -> Result<Parts, StoreError> {
        let mut tables: Vec<(usize, &Sealed)> = Vec::new();
        let mut metas = None;
        for (name, sealed) in self.ledger().segment_files(stretch) {
            if name == TRANSACTIONS {
                metas = Some(sealed);
                continue;
            }
            let number = name
                .split_once('-')
                .and_then(|(number, _)| number.parse().ok());
            match number.filter(|&number: &usize| number < self.format().schema.tables.len()) {
                Some(number) => tables.push((number, sealed)),
                None => return Err(self.unreadable(sealed, Unreadable("no such table".into()))),
            }
        }
        let Some(metas) = metas else {
            let directory = segment_directory(stretch.from, stretch.to);
            let affects = commits(stretch.from, stretch.to);
            let problem = "the segment has no transactions";
            return Err(StoreError::damaged(directory, (0, 0), problem, affects));
        };
        let transactions = decode_transactions(self.fetch(metas)?);
        let tables = tables.into_iter().map(|(number, sealed)| {
            let table = &self.format().schema.tables[number];
            let written = decode_changes(table, self.fetch(sealed)?);
            let written = written.map_err(|error| self.unreadable(sealed, error))?;
            Ok((number, sealed.clone(), written))
        });
        Ok(Parts {
            transactions: transactions.map_err(|error| self.unreadable(metas, error))?,
            tables: tables.collect::<Result<_, StoreError>>()?,
        })
    }

    pub(super) fn unreadable(&self, sealed: &Sealed, error: Unreadable) -> StoreError {
        let affects = self.ledger().affects(&sealed.path);
        StoreError::damaged(
            sealed.path.as_str(),
            (0, sealed.bytes),
            error.to_string(),
            affects,
        )
    }
}
