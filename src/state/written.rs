//! The changes of a table as they are written down: what each named, and nothing that the state before it tells.
//!
//! The image before a change names the key and what the change replaced, for a delete the whole row; the image after names what is new.
//! What comes from a stream that does not tell the old row has the key before, and after it also what it may have left alone.
//! Cells that an image does not name are marked in its [`StoredRows`] as not known.

use std::ops::RangeInclusive;

use datafusion::arrow::buffer::BooleanBuffer;

use super::History;
use super::column::{ColumnVersions, NO_ROW};
use super::stored::StoredRows;
use super::stored::view::Column;
use super::versions::TableVersions;
use crate::change::{Cell, Change, Commit, Image, Op};
use crate::schema::Table;

/// Changes of one table, in the order in which they were recorded.
#[derive(Clone, Debug)]
pub struct Written {
    /// The commit of each.
    pub commits: Vec<Commit>,
    /// Its place in the commit, from 1, among the changes of all tables.
    pub ordinals: Vec<u32>,
    /// What was done.
    pub ops: Vec<Op>,
    /// The images before; nothing is known where there is none.
    pub before: StoredRows,
    /// The images after; nothing is known where there is none.
    pub after: StoredRows,
}

impl Written {
    /// How many changes there are.
    pub fn len(&self) -> usize {
        self.commits.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.commits.is_empty()
    }

    /// Changes of one table one after the other.
    ///
    /// # Panics
    /// Where there are no parts, or they are not of one table.
    pub fn concat(parts: &[Written]) -> Written {
        let rows = |of: fn(&Written) -> &StoredRows| {
            StoredRows::concat(&parts.iter().map(of).collect::<Vec<_>>())
        };
        Written {
            commits: parts.iter().flat_map(|part| part.commits.clone()).collect(),
            ordinals: parts
                .iter()
                .flat_map(|part| part.ordinals.clone())
                .collect(),
            ops: parts.iter().flat_map(|part| part.ops.clone()).collect(),
            before: rows(|part| &part.before),
            after: rows(|part| &part.after),
        }
    }

    /// The changes of the table, which has this number in its schema: each with its commit and its place in it.
    pub fn changes<'a>(
        &'a self,
        table: &'a Table,
        number: usize,
    ) -> impl Iterator<Item = (Commit, u32, Change)> + 'a {
        let (before, after) = (self.before.columns(table), self.after.columns(table));
        (0..self.len()).map(move |at| {
            let op = self.ops[at];
            let change = Change {
                table: number,
                op,
                key: None,
                before: matches!(op, Op::Update | Op::Delete).then(|| image(&before, at)),
                after: matches!(op, Op::Insert | Op::Update).then(|| image(&after, at)),
            };
            (self.commits[at], self.ordinals[at], change)
        })
    }
}

fn image(columns: &[Column<'_>], at: usize) -> Image {
    let cells = columns.iter().map(|column| column.cell(at));
    let known = cells.enumerate().filter(|(_, cell)| *cell != Cell::Unknown);
    known.collect()
}

/// Changes of one table that are put together as they come, without a state that they would apply to: of a row, no more is written down
/// than its change itself says.
#[derive(Debug)]
pub struct Writing {
    has_key: bool,
    /// Whether a column tells which row is meant: those of the primary key, or all.
    is_key: Vec<bool>,
    commits: Vec<Commit>,
    ordinals: Vec<u32>,
    ops: Vec<Op>,
    before: Vec<ColumnVersions>,
    after: Vec<ColumnVersions>,
}

impl Writing {
    /// No change of a table yet.
    pub fn new(table: &Table) -> Self {
        let is_key = |at| table.primary_key.is_empty() || table.primary_key.contains(&at);
        let columns = || {
            let types = table.columns.iter().map(|column| column.data_type.clone());
            types.map(ColumnVersions::new).collect()
        };
        Writing {
            has_key: !table.primary_key.is_empty(),
            is_key: (0..table.columns.len()).map(is_key).collect(),
            commits: Vec::new(),
            ordinals: Vec::new(),
            ops: Vec::new(),
            before: columns(),
            after: columns(),
        }
    }

    /// Adds the next change, and its place in its commit.
    ///
    /// # Panics
    /// Where a cell is of another type than its column.
    pub fn push(&mut self, commit: Commit, ordinal: u32, change: &Change) {
        for at in 0..self.is_key.len() {
            let (before, after) = cells(change, at, self.is_key[at], self.has_key);
            self.before[at].push(before);
            self.after[at].push(after);
        }
        self.commits.push(commit);
        self.ordinals.push(ordinal);
        self.ops.push(change.op);
    }

    /// How many changes there are.
    pub fn len(&self) -> usize {
        self.commits.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.commits.is_empty()
    }

    /// All of them.
    ///
    /// # Panics
    /// Where the texts of a column are more than 2 GiB together.
    pub fn finish(self) -> Written {
        let rows: Vec<u32> = (0..).take(self.len()).collect();
        Written {
            before: StoredRows::of_columns(&self.before, &rows),
            after: StoredRows::of_columns(&self.after, &rows),
            commits: self.commits,
            ordinals: self.ordinals,
            ops: self.ops,
        }
    }
}

/// What is written down of a column before and after a change.
fn cells(change: &Change, column: usize, is_key: bool, has_key: bool) -> (&Cell, &Cell) {
    let of = |image| cell_of(image, column);
    match change.op {
        Op::Truncate => (&Cell::Unknown, &Cell::Unknown),
        Op::Insert => (&Cell::Unknown, of(&change.after)),
        Op::Delete => (
            first_known([of(&change.key), of(&change.before)]),
            &Cell::Unknown,
        ),
        Op::Update => {
            let after = of(&change.after);
            let before = match (is_key, has_key) {
                // The new row tells the old key where nothing else does: then it did not change.
                (true, true) => first_known([of(&change.key), of(&change.before), after]),
                (true, false) => first_known([of(&change.key), of(&change.before)]),
                (false, _) => of(&change.before),
            };
            let is_changed = *after != Cell::Unknown && !identical(before, after);
            match (is_key, is_changed) {
                (_, true) => (before, after),
                (true, false) => (before, &Cell::Unknown),
                (false, false) => (&Cell::Unknown, &Cell::Unknown),
            }
        }
    }
}

/// The cell of a column in an image.
fn cell_of(image: &Option<Image>, column: usize) -> &Cell {
    let Some(cells) = image else {
        return &Cell::Unknown;
    };
    // Most images have all columns in their order.
    let named = match cells.get(column) {
        Some(named) if named.0 == column => Some(named),
        _ => cells.iter().rev().find(|(at, _)| *at == column),
    };
    named.map_or(&Cell::Unknown, |(_, cell)| cell)
}

fn first_known<const N: usize>(cells: [&Cell; N]) -> &Cell {
    let known = cells.into_iter().find(|cell| **cell != Cell::Unknown);
    known.unwrap_or(&Cell::Unknown)
}

/// Whether two cells hold the same to the last digit and letter.
fn identical(a: &Cell, b: &Cell) -> bool {
    match (a, b) {
        (Cell::Float(a), Cell::Float(b)) => a.to_bits() == b.to_bits(),
        (a, b) => a == b,
    }
}

impl TableVersions {
    /// The recorded changes of a range of commits.
    pub fn written(&self, range: &RangeInclusive<Commit>) -> Written {
        let events = self.recorded(range);
        let before: Vec<u32> = events.iter().map(|event| event.before).collect();
        let after: Vec<u32> = events.iter().map(|event| event.after).collect();
        let mut images = [self.stored(&before), self.stored(&after)];
        for column in 0..self.columns.len() {
            let is_key =
                self.table.primary_key.is_empty() || self.table.primary_key.contains(&column);
            // An update names a column where it changed it.
            let kept = |at: usize| {
                let both = before[at] != NO_ROW && after[at] != NO_ROW;
                !both || !self.columns[column].identical(before[at], after[at])
            };
            let before_hidden = |at: usize| before[at] == NO_ROW || !(is_key || kept(at));
            let after_hidden = |at: usize| after[at] == NO_ROW || !kept(at);
            let count = events.len();
            images[0].hide(column, &BooleanBuffer::collect_bool(count, before_hidden));
            images[1].hide(column, &BooleanBuffer::collect_bool(count, after_hidden));
        }
        let [before, after] = images;
        Written {
            commits: events.iter().map(|event| event.commit).collect(),
            ordinals: events.iter().map(|event| event.ordinal).collect(),
            ops: events.iter().map(|event| event.op()).collect(),
            before,
            after,
        }
    }
}

impl History {
    /// The changes of a commit as they are written down, in the order in which they were recorded.
    pub fn written_changes(&self, commit: Commit) -> Vec<Change> {
        let mut found: Vec<(u32, Change)> = Vec::new();
        for (number, versions) in self.tables.iter().enumerate() {
            let written = versions.written(&(commit..=commit));
            let changes = written.changes(&versions.table, number);
            found.extend(changes.map(|(_, ordinal, change)| (ordinal, change)));
        }
        found.sort_by_key(|(ordinal, change)| (*ordinal, change.table));
        found.into_iter().map(|(_, change)| change).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::stored::tests::table;

    #[test]
    fn only_a_primary_key_is_told_by_the_new_row() {
        for (key, told) in [(&[0][..], Cell::Int(7)), (&[], Cell::Unknown)] {
            let table = table(&["integer", "integer"], key);
            let mut writing = Writing::new(&table);
            let change = Change {
                table: 0,
                op: Op::Update,
                key: None,
                before: None,
                after: Some(vec![(0, Cell::Int(7)), (1, Cell::Int(8))]),
            };
            writing.push(1, 1, &change);
            let written = writing.finish();
            assert_eq!(written.before.cell(&table, 0, 0), told);
            assert_eq!(written.after.cell(&table, 1, 0), Cell::Int(8));
        }
    }
}
