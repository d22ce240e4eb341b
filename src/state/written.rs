//! The changes of a table as they are written down: what each named, and nothing that the state before it tells.
//!
//! The image before a change names the key and what the change replaced, for a delete the whole row; the image after names what is new.
//! Cells that an image does not name are marked in its [`StoredRows`] as not known.

use std::ops::RangeInclusive;

use datafusion::arrow::buffer::BooleanBuffer;

use super::column::NO_ROW;
use super::stored::StoredRows;
use super::versions::TableVersions;
use crate::change::{Change, Commit, Image, Op};

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

    /// A change, as a change of the table with this number.
    pub fn change(&self, at: usize, table: usize) -> Change {
        let op = self.ops[at];
        let has = |yes: bool, rows: &StoredRows| yes.then(|| image(rows, at));
        Change {
            table,
            op,
            key: None,
            before: has(matches!(op, Op::Update | Op::Delete), &self.before),
            after: has(matches!(op, Op::Insert | Op::Update), &self.after),
        }
    }
}

fn image(rows: &StoredRows, at: usize) -> Image {
    let known = (0..rows.width()).filter(|&column| rows.is_known(column, at));
    known.map(|column| (column, rows.cell(column, at))).collect()
}

impl TableVersions {
    /// The recorded changes of a range of commits.
    pub fn written(&self, range: &RangeInclusive<Commit>) -> Written {
        let events = self.recorded(range);
        let before: Vec<u32> = events.iter().map(|event| event.before).collect();
        let after: Vec<u32> = events.iter().map(|event| event.after).collect();
        let mut images = [self.stored(&before), self.stored(&after)];
        for column in 0..self.columns.len() {
            let is_key = self.table.primary_key.is_empty() || self.table.primary_key.contains(&column);
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
