//! Which versions of a table's rows are there at a position, and which came in a range of commits.

use std::ops::{Range, RangeInclusive};

use datafusion::arrow::datatypes::DataType as ArrowType;

use super::column::ColumnVersions;
use super::versions::TableVersions;
use crate::change::{Cell, Commit};
use crate::schema::DataType;

impl TableVersions {
    /// The cell of a column in a row version.
    pub fn cell(&self, column: usize, row: u32) -> Cell {
        self.columns[column].cell(row)
    }

    /// What the columns of numbers are for the engine. It changes once a value came that has more digits than those before it, or too many.
    pub fn number_types(&self) -> impl Iterator<Item = ArrowType> + '_ {
        let is_number =
            |column: &&ColumnVersions| matches!(column.data_type(), DataType::Numeric { .. });
        self.columns
            .iter()
            .filter(is_number)
            .map(ColumnVersions::arrow_type)
    }

    /// Whether a row version is part of the state at a position.
    pub fn is_visible(&self, row: u32, position: Commit) -> bool {
        let at = row as usize;
        self.born[at] <= position && position < self.died[at]
    }

    /// The versions visible at a position, oldest first.
    pub fn visible(&self, position: Commit) -> Vec<u32> {
        (0u32..)
            .zip(self.born.iter().zip(&self.died))
            .filter(|(_, (born, died))| **born <= position && position < **died)
            .map(|(row, _)| row)
            .collect()
    }

    /// The versions that were born in a range of commits, in ascending order; those of the snapshot in position 0.
    pub(super) fn births(&self, range: &RangeInclusive<Commit>) -> Vec<u32> {
        self.births_in_order(range)
            .map_or_else(|| self.births_anywhere(range).collect(), Iterator::collect)
    }

    pub(super) fn birth_count(&self, range: &RangeInclusive<Commit>) -> usize {
        self.births_in_order(range)
            .map_or_else(|| self.births_anywhere(range).count(), |rows| rows.len())
    }

    /// Versions are numbered as they are born. Without a snapshot, what was there before the first change of its key is found late and
    /// born at 0 all the same: then there is no such order.
    fn births_in_order(&self, range: &RangeInclusive<Commit>) -> Option<Range<u32>> {
        let place = |count: usize| u32::try_from(count).expect("fewer than 2^32 row versions");
        let start = self.born.partition_point(|born| born < range.start());
        let end = self.born.partition_point(|born| born <= range.end());
        self.in_order.then(|| place(start)..place(end.max(start)))
    }

    fn births_anywhere(&self, range: &RangeInclusive<Commit>) -> impl Iterator<Item = u32> {
        let born = |(_, born): &(u32, &Commit)| range.contains(*born);
        (0u32..).zip(&self.born).filter(born).map(|(row, _)| row)
    }
}
