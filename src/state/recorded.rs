//! What one commit recorded, with the rows as they are known from the whole history.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use super::History;
use super::column::NO_ROW;
use super::event::Event;
use super::versions::TableVersions;
use crate::change::{Cell, Change, Commit, Image, Op};

impl History {
    /// How many changes a commit recorded.
    pub fn recorded_count(&self, commit: Commit) -> usize {
        self.tables
            .iter()
            .map(|table| table.recorded(&(commit..=commit)).len())
            .sum()
    }

    /// How many changes a commit recorded of each table that it changed, by the table's index.
    pub fn recorded_of_tables(&self, commit: Commit) -> Vec<(usize, usize)> {
        let counts = self.tables.iter().enumerate();
        counts
            .map(|(at, table)| (at, table.recorded(&(commit..=commit)).len()))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    /// The first `most` changes of a commit in the order in which they were recorded. Images hold every cell that is known, not only
    /// those that the record named; `key` is the row's primary key before the change, or after it where the row is new.
    pub fn recorded(&self, commit: Commit, most: usize) -> Vec<Change> {
        let mut events: Vec<(usize, &Event)> = Vec::new();
        for (index, table) in self.tables.iter().enumerate() {
            let recorded = table.recorded(&(commit..=commit)).iter();
            events.extend(recorded.map(|event| (index, event)));
        }
        // Dated snapshots count the changes of each table by themselves.
        events.sort_by_key(|(index, event)| (event.ordinal, *index));
        let change = |(index, event): (usize, &Event)| {
            let table = &self.tables[index];
            let image =
                |row: u32, columns: &[usize]| (row != NO_ROW).then(|| image(table, row, columns));
            let all: Vec<usize> = (0..table.columns.len()).collect();
            let key = &table.table.primary_key;
            let named = if event.before == NO_ROW {
                event.after
            } else {
                event.before
            };
            Change {
                table: index,
                op: event.op(),
                key: image(named, key).filter(|image| !image.is_empty()),
                before: image(event.before, &all),
                after: image(event.after, &all),
            }
        };
        events.into_iter().take(most).map(change).collect()
    }
}

impl TableVersions {
    /// Whether any cell of any row version is not known.
    pub fn has_unknown(&self) -> bool {
        self.columns.iter().any(|column| column.has_unknown())
    }

    /// For row versions that updates made after one position and up to another: the version that was there before the first of
    /// these updates. What is not known in both of them is the same, for an update leaves alone what it does not name.
    pub fn ancestors(&self, from: Commit, to: Commit) -> HashMap<u32, u32> {
        let mut first: HashMap<u32, u32> = HashMap::new();
        let events = self.recorded(&(from.saturating_add(1)..=to)).iter();
        for event in events.filter(|event| event.op() == Op::Update) {
            let before = first.get(&event.before).copied();
            first.insert(event.after, before.unwrap_or(event.before));
        }
        first
    }

    /// The changes that a range of commits recorded.
    pub(super) fn recorded(&self, range: &RangeInclusive<Commit>) -> &[Event] {
        let before = |event: &Event| event.commit < *range.start();
        let start = self.events.partition_point(before);
        let end = self
            .events
            .partition_point(|event| event.commit <= *range.end());
        &self.events[start..end.max(start)]
    }
}

/// The known cells of a row version.
fn image(table: &TableVersions, row: u32, columns: &[usize]) -> Image {
    let cells = columns
        .iter()
        .map(|&column| (column, table.columns[column].cell(row)));
    cells.filter(|(_, cell)| *cell != Cell::Unknown).collect()
}
