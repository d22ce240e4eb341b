//! A multi-version table: every version of every row that ever was, and the recorded changes that made them.
//!
//! A row version lives in `[born, died)`. The state at a position is the versions visible there; the net effect of a commit
//! is what separates the versions visible before it from those after it. Nothing is ever overwritten, so any position of
//! the history can be asked for at any time.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher};
use std::ops::Range;

use hashbrown::DefaultHashBuilder;

use super::column::{ColumnVersions, NO_ROW};
use super::delta::LastDelta;
use super::event::Event;
use super::live::Live;
use crate::change::{Cell, Change, Commit, Image, Op};
use crate::schema::Table;

/// The `died` of a version that is still alive.
const ALIVE: Commit = Commit::MAX;

/// Why a change cannot be applied: the history contradicts itself.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Contradiction {
    /// An insert of a key that is there.
    #[error("insert of a key that already exists")]
    DuplicateKey,
    /// An update or delete of a row that is not there.
    #[error("{0} of a row that does not exist")]
    MissingRow(&'static str),
    /// `before` says something else than the state.
    #[error("`before` contradicts the state in column `{0}`")]
    Before(String),
    /// The record does not say which row is meant.
    #[error("the change does not name its row: {0}")]
    NoKey(String),
    /// More than one row has the key, so which one is meant cannot be known.
    #[error("more than one row has this key")]
    AmbiguousKey,
}

/// All versions of one table's rows.
#[derive(Debug)]
pub struct TableVersions {
    /// The table.
    pub table: Table,
    pub(super) columns: Vec<ColumnVersions>,
    pub(super) born: Vec<Commit>,
    pub(super) died: Vec<Commit>,
    pub(super) events: Vec<Event>,
    /// Every version that died, in the order of its commit.
    pub(super) deaths: Vec<(Commit, u32)>,
    /// Identity of rows: the primary key, or all columns where there is none.
    pub(super) identity: Vec<usize>,
    pub(super) live: Live,
    /// Rows of a snapshot that are alive and not among `live` yet, the last ones of all: who only reads states needs no index.
    pub(super) waiting: Range<u32>,
    pub(super) hasher: DefaultHashBuilder,
    /// True when the history began without a snapshot: rows may exist that were not seen yet.
    pub(super) partial_start: bool,
    /// Whether versions are numbered in the order of their births.
    pub(super) in_order: bool,
    pub(super) seen: HashSet<u64>,
    pub(super) last_delta: LastDelta,
}

impl TableVersions {
    /// An empty table. With `partial_start`, the first change of a key may be an update or a delete.
    pub fn new(table: Table, partial_start: bool) -> Self {
        let identity = if table.primary_key.is_empty() {
            (0..table.columns.len()).collect()
        } else {
            table.primary_key.clone()
        };
        TableVersions {
            columns: table
                .columns
                .iter()
                .map(|column| ColumnVersions::new(column.data_type.clone()))
                .collect(),
            born: Vec::new(),
            died: Vec::new(),
            events: Vec::new(),
            deaths: Vec::new(),
            identity,
            live: Live::default(),
            waiting: 0..0,
            hasher: DefaultHashBuilder::default(),
            partial_start,
            in_order: true,
            seen: HashSet::new(),
            last_delta: LastDelta::default(),
            table,
        }
    }

    /// Keeps nothing of these columns any more, of what is to come neither: their cells are not known and take no memory. Columns of the
    /// primary key are kept; where there is none, all are.
    pub fn leave_out(&mut self, columns: &[usize]) {
        self.forget_the_last_delta();
        for &column in columns {
            if !self.identity.contains(&column) {
                self.columns[column].leave_out();
            }
        }
    }

    /// Takes over the rows that are alive in another version of this table, and what it leaves out.
    ///
    /// # Panics
    /// Where this one is not empty.
    pub(super) fn take_living(&mut self, other: &TableVersions) {
        assert_eq!(self.version_count(), 0, "only an empty table is filled");
        let left_out = |at: &usize| other.columns[*at].is_left_out();
        let left_out: Vec<usize> = (0..other.columns.len()).filter(left_out).collect();
        self.leave_out(&left_out);
        for row in other.visible(ALIVE - 1) {
            for (to, from) in self.columns.iter_mut().zip(&other.columns) {
                to.push(&from.cell(row));
            }
            self.append_lives(1);
        }
        self.settle();
    }

    /// How many row versions are kept.
    pub fn version_count(&self) -> usize {
        self.born.len()
    }

    /// Whether rows may have been there before the first change of their key, because there was no snapshot.
    pub fn begins_partial(&self) -> bool {
        self.partial_start
    }

    /// Whether a row with the primary key of these cells is alive; false in a table without one.
    pub fn holds_key(&self, cells: &[Cell]) -> bool {
        !self.table.primary_key.is_empty() && self.find(cells).next().is_some()
    }

    /// The commits that recorded a change of the table, in order.
    pub fn commits(&self) -> impl Iterator<Item = Commit> {
        self.events
            .chunk_by(|a, b| a.commit == b.commit)
            .map(|group| group[0].commit)
    }

    /// How many rows are alive at the head.
    pub fn row_count(&self) -> usize {
        self.live.len() + self.waiting.len()
    }

    /// Adds a row of the snapshot (position 0). Rows with equal keys are kept: finding them is a rule's business.
    pub fn load(&mut self, cells: &[Cell]) {
        self.settle();
        let row = self.append(cells, 0);
        self.enter(row);
    }

    /// Applies one recorded change. Fails without effect when it contradicts what is known.
    pub fn apply(
        &mut self,
        commit: Commit,
        ordinal: u32,
        change: &Change,
    ) -> Result<(), Contradiction> {
        self.settle();
        let (before, after) = match change.op {
            Op::Insert => (NO_ROW, self.insert(commit, change.after.as_ref())?),
            Op::Update => self.update(commit, change)?,
            Op::Delete => (self.delete(commit, change)?, NO_ROW),
            Op::Truncate => {
                for row in self.live.drain() {
                    self.died[row as usize] = commit;
                    self.deaths.push((commit, row));
                }
                self.partial_start = false;
                (NO_ROW, NO_ROW)
            }
        };
        self.events.push(Event {
            commit,
            ordinal,
            before,
            after,
        });
        Ok(())
    }

    fn insert(&mut self, commit: Commit, after: Option<&Image>) -> Result<u32, Contradiction> {
        let mut cells = vec![&Cell::Unknown; self.columns.len()];
        for (column, cell) in after.into_iter().flatten() {
            cells[*column] = cell;
        }
        self.named_key(&cells, "`after` must hold the primary key")?;
        if !self.table.primary_key.is_empty() && self.find(&cells).next().is_some() {
            return Err(Contradiction::DuplicateKey);
        }
        let row = self.append(&cells, commit);
        self.enter(row);
        Ok(row)
    }

    fn update(&mut self, commit: Commit, change: &Change) -> Result<(u32, u32), Contradiction> {
        let old = self.locate(change)?;
        let mut after: Vec<Option<&Cell>> = vec![None; self.columns.len()];
        for (column, cell) in change.after.iter().flatten() {
            if *cell != Cell::Unknown {
                after[*column] = Some(cell);
            }
        }
        let is_moved = |&column: &usize| {
            after[column].is_some_and(|cell| self.columns[column].cell(old) != *cell)
        };
        if !self.identity.iter().any(is_moved) {
            let new = self.append_after(old, &after, commit);
            self.take_the_place(old, new, commit);
            return Ok((old, new));
        }
        let key_changed = self
            .identity
            .iter()
            .any(|&column| after[column].is_some_and(|cell| !self.columns[column].same(old, cell)));
        if key_changed && !self.table.primary_key.is_empty() {
            let olds = self.columns.iter().map(|column| column.cell(old));
            let olds: Vec<Cell> = olds.collect();
            let new = olds.iter().zip(&after).map(|(old, new)| new.unwrap_or(old));
            let key: Vec<&Cell> = new.collect();
            if self.find(&key).next().is_some() {
                return Err(Contradiction::DuplicateKey);
            }
        }
        let new = self.append_after(old, &after, commit);
        self.leave(old, commit);
        self.enter(new);
        Ok((old, new))
    }

    fn delete(&mut self, commit: Commit, change: &Change) -> Result<u32, Contradiction> {
        let old = self.locate(change)?;
        self.leave(old, commit);
        Ok(old)
    }

    /// Finds the row that an update or delete means, and checks (and learns from) its `before`.
    fn locate(&mut self, change: &Change) -> Result<u32, Contradiction> {
        let mut known = vec![&Cell::Unknown; self.columns.len()];
        let no_key = self.table.primary_key.is_empty();
        // The old key stands in `key`, else in `before`; `after` holds it only while the key does not change.
        for image in [
            if no_key { &None } else { &change.after },
            &change.before,
            &change.key,
        ] {
            for (column, cell) in image.iter().flatten() {
                if (self.identity.contains(column) || no_key) && *cell != Cell::Unknown {
                    known[*column] = cell;
                }
            }
        }
        self.named_key(&known, "`key` or `before` must hold the old primary key")?;
        let row = match self.the_row(&known)? {
            Some(row) => row,
            None => self
                .first_seen(&known, change)?
                .ok_or(Contradiction::MissingRow(change.op.as_str()))?,
        };
        for (column, cell) in change.before.iter().flatten() {
            if *cell == Cell::Unknown {
                continue;
            }
            if self.columns[*column].is_missing(row) {
                self.columns[*column].learn(row, cell);
            } else if !self.columns[*column].same(row, cell) {
                return Err(Contradiction::Before(
                    self.table.columns[*column].name.clone(),
                ));
            }
        }
        Ok(row)
    }

    /// The live row with the known cells; None when there is none.
    fn the_row(&self, known: &[&Cell]) -> Result<Option<u32>, Contradiction> {
        if self
            .identity
            .iter()
            .all(|&column| *known[column] != Cell::Unknown)
        {
            let mut found = self.find(known);
            let first = found.next();
            // Without a primary key equal rows are interchangeable; with one, two of them are a contradiction.
            if !self.table.primary_key.is_empty() && found.next().is_some() {
                return Err(Contradiction::AmbiguousKey);
            }
            return Ok(first);
        }
        let matches = |row: u32| {
            known
                .iter()
                .zip(&self.columns)
                .all(|(cell, column)| **cell == Cell::Unknown || column.same(row, cell))
        };
        Ok(self.live.iter().filter(|&row| matches(row)).min())
    }

    /// In a history without a snapshot, a row that was there before the first change of its key.
    fn first_seen(
        &mut self,
        known: &[&Cell],
        change: &Change,
    ) -> Result<Option<u32>, Contradiction> {
        if !self.partial_start || self.seen.contains(&self.hash_cells(known)) {
            return Ok(None);
        }
        let mut cells = known.to_vec();
        for (column, cell) in change.before.iter().flatten() {
            cells[*column] = cell;
        }
        let row = self.append(&cells, 0);
        self.in_order = false;
        self.enter(row);
        Ok(Some(row))
    }

    fn named_key(&self, cells: &[&Cell], advice: &str) -> Result<(), Contradiction> {
        let missing = |&&column: &&usize| *cells[column] == Cell::Unknown;
        if self.table.primary_key.is_empty() {
            return if cells.iter().all(|cell| **cell == Cell::Unknown) {
                Err(Contradiction::NoKey(
                    "the table has no primary key, so `before` must hold the old row".into(),
                ))
            } else {
                Ok(())
            };
        }
        match self.table.primary_key.iter().find(missing) {
            Some(&column) => Err(Contradiction::NoKey(format!(
                "{advice} (`{}` is missing)",
                self.table.columns[column].name
            ))),
            None => Ok(()),
        }
    }

    /// Takes over a whole dated snapshot as one commit: rows that are new, gone or different become changes.
    pub fn replace(&mut self, commit: Commit, rows: &[Vec<Cell>]) -> Result<(), Contradiction> {
        self.settle();
        let mut matched: HashSet<u32> = HashSet::new();
        let mut unmatched: Vec<&Vec<Cell>> = Vec::new();
        // Without a key, rows of one identity are equal: each is taken once, in the order of their chain.
        let whole = self.table.primary_key.is_empty();
        let mut next: HashMap<u32, Option<u32>> = HashMap::new();
        for cells in rows {
            let mut found = self.find(cells);
            let equal = if whole {
                found.next().and_then(|newest| {
                    let next = next.entry(newest).or_insert(Some(newest));
                    let row = (*next)?;
                    *next = self.live.before(row);
                    Some(row)
                })
            } else {
                found.find(|row| !matched.contains(row) && self.is_row(*row, cells))
            };
            match equal {
                Some(row) => _ = matched.insert(row),
                None => unmatched.push(cells),
            }
        }
        let mut ordinal = 0;
        let mut event = |before, after| {
            ordinal += 1;
            Event {
                commit,
                ordinal,
                before,
                after,
            }
        };
        let mut events = Vec::new();
        for cells in unmatched {
            let is_old = |row: &u32| !matched.contains(row) && self.born[*row as usize] < commit;
            let old = if whole {
                None
            } else {
                self.find(cells).find(is_old)
            };
            let new = self.append(cells, commit);
            if let Some(old) = old {
                self.leave(old, commit);
                events.push(event(old, new));
            } else {
                events.push(event(NO_ROW, new));
            }
            matched.insert(new);
            self.enter(new);
        }
        let mut gone: Vec<u32> = self.live.iter().collect();
        gone.retain(|row| !matched.contains(row));
        gone.sort_unstable();
        self.live.retain(|row| matched.contains(&row));
        for row in gone {
            self.died[row as usize] = commit;
            self.deaths.push((commit, row));
            events.push(event(row, NO_ROW));
        }
        self.events.extend(events);
        // Now all rows are known.
        self.partial_start = false;
        Ok(())
    }

    fn is_row(&self, row: u32, cells: &[Cell]) -> bool {
        cells
            .iter()
            .zip(&self.columns)
            .all(|(cell, column)| column.same(row, cell))
    }

    fn append(&mut self, cells: &[impl Borrow<Cell>], born: Commit) -> u32 {
        self.append_row(born, |at, column| column.push(cells[at].borrow()))
    }

    /// Appends what a version holds, but for the columns that an update names.
    fn append_after(&mut self, old: u32, after: &[Option<&Cell>], born: Commit) -> u32 {
        self.append_row(born, |at, column| match after[at] {
            Some(cell) => column.push_after(old, cell),
            None => column.push_copy(old),
        })
    }

    fn append_row(&mut self, born: Commit, push: impl Fn(usize, &mut ColumnVersions)) -> u32 {
        let row = u32::try_from(self.born.len())
            .ok()
            .filter(|row| *row < NO_ROW)
            .expect("fewer than 2^32 row versions");
        for (at, column) in self.columns.iter_mut().enumerate() {
            push(at, column);
        }
        self.born.push(born);
        self.died.push(ALIVE);
        row
    }

    /// Makes rows of the snapshot out of values that every column got.
    ///
    /// # Panics
    /// Where there are 2^32 of them.
    pub(super) fn append_lives(&mut self, count: usize) {
        self.forget_the_last_delta();
        let first = self.born.len();
        let number = |row: usize| {
            let row = u32::try_from(row).ok().filter(|row| *row < NO_ROW);
            row.expect("fewer than 2^32 row versions")
        };
        self.in_order &= self.born.last().is_none_or(|&born| born == 0);
        self.born.resize(first + count, 0);
        self.died.resize(first + count, ALIVE);
        let start = match self.waiting.is_empty() {
            true => number(first),
            false => self.waiting.start,
        };
        self.waiting = start..number(first + count);
    }

    fn forget_the_last_delta(&mut self) {
        *self.last_delta.get_mut().expect("no holder panics") = None;
    }

    /// Enters the rows that wait for it: before any change.
    pub(super) fn settle(&mut self) {
        self.forget_the_last_delta();
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() {
            return;
        }
        self.live.reserve(waiting.len());
        waiting.for_each(|row| self.enter(row));
    }

    /// A version ends and one of the same identity begins.
    fn take_the_place(&mut self, old: u32, new: u32, commit: Commit) {
        let hash = self.hash_row(new);
        let (columns, identity) = (&self.columns, &self.identity);
        let same = |other| same_identity(columns, identity, new, other);
        self.live.replace(old, new, hash, same);
        self.died[old as usize] = commit;
        self.deaths.push((commit, old));
    }

    fn enter(&mut self, row: u32) {
        let hash = self.hash_row(row);
        let (columns, identity) = (&self.columns, &self.identity);
        let same = |other| same_identity(columns, identity, row, other);
        self.live.insert(row, hash, same);
        if self.partial_start {
            self.seen.insert(hash);
        }
    }

    fn leave(&mut self, row: u32, commit: Commit) {
        let hash = self.hash_row(row);
        let (columns, identity) = (&self.columns, &self.identity);
        let same = |other| same_identity(columns, identity, row, other);
        self.live.remove(row, hash, same);
        self.died[row as usize] = commit;
        self.deaths.push((commit, row));
    }

    /// Live rows whose identity is that of the cells, newest first. Rows that wait are looked at one by one.
    pub(super) fn find<'a, C: Borrow<Cell>>(
        &'a self,
        cells: &'a [C],
    ) -> impl Iterator<Item = u32> + 'a {
        let same = move |row: u32| {
            self.identity
                .iter()
                .all(|&column| self.columns[column].same(row, cells[column].borrow()))
        };
        let waiting = self.waiting.clone().rev().filter(move |&row| same(row));
        waiting.chain(self.live.of(self.hash_cells(cells), same))
    }

    fn hash_cells(&self, cells: &[impl Borrow<Cell>]) -> u64 {
        let mut state = self.hasher.build_hasher();
        self.identity
            .iter()
            .for_each(|&column| self.columns[column].hash_cell(cells[column].borrow(), &mut state));
        state.finish()
    }

    fn hash_row(&self, row: u32) -> u64 {
        hash_row(&self.columns, &self.identity, &self.hasher, row)
    }
}

/// Whether two row versions hold the same in these columns.
pub(super) fn same_identity(
    columns: &[ColumnVersions],
    identity: &[usize],
    a: u32,
    b: u32,
) -> bool {
    identity.iter().all(|&at| columns[at].same_rows(a, b))
}

pub(super) fn hash_row(
    columns: &[ColumnVersions],
    identity: &[usize],
    hasher: &DefaultHashBuilder,
    row: u32,
) -> u64 {
    let mut state = hasher.build_hasher();
    identity
        .iter()
        .for_each(|&column| columns[column].hash(row, &mut state));
    state.finish()
}
