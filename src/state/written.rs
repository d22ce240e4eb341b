//! The changes of a table as they are written down: what each named, and nothing that the state before it tells.
//!
//! The image before a change names the key and what the change replaced, for a delete the whole row; the image after names what is new.
//! Cells that an image does not name are marked in its [`StoredRows`] as not known.

use std::ops::RangeInclusive;

use datafusion::arrow::buffer::BooleanBuffer;

use super::History;
use super::column::{NO_ROW, TooWide};
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
    /// # Errors
    /// Where decimals do not fit on one scale.
    ///
    /// # Panics
    /// Where there are no parts, or they are not of one table.
    pub fn concat(parts: &[Written]) -> Result<Written, TooWide> {
        let rows = |of: fn(&Written) -> &StoredRows| {
            StoredRows::concat(&parts.iter().map(of).collect::<Vec<_>>())
        };
        Ok(Written {
            commits: parts.iter().flat_map(|part| part.commits.clone()).collect(),
            ordinals: parts
                .iter()
                .flat_map(|part| part.ordinals.clone())
                .collect(),
            ops: parts.iter().flat_map(|part| part.ops.clone()).collect(),
            before: rows(|part| &part.before)?,
            after: rows(|part| &part.after)?,
        })
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
