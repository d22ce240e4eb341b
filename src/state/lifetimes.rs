//! Row versions by number: which were born in a range of commits, which died, and what they hold.
//!
//! Who judges commits batch by batch asks for what a batch brings, and for the rows behind the numbers where it needs them: the cost
//! follows the batch, not the table.

use std::ops::RangeInclusive;

use super::versions::TableVersions;
use crate::change::Commit;

impl TableVersions {
    /// The versions that died in a range of commits, in the order of their commits.
    pub(super) fn deaths(&self, range: &RangeInclusive<Commit>) -> &[(Commit, u32)] {
        let start = self
            .deaths
            .partition_point(|(died, _)| died < range.start());
        let end = self.deaths.partition_point(|(died, _)| died <= range.end());
        &self.deaths[start..end.max(start)]
    }

    /// The versions that some position in a range of commits sees begin, in ascending order; those of the snapshot at position 0.
    pub(super) fn born_in(&self, range: &RangeInclusive<Commit>) -> Vec<u32> {
        let mut rows = self.births(range);
        rows.retain(|&row| self.born[row as usize] < self.died[row as usize]);
        rows
    }

    /// The versions that some position in a range of commits sees end, with the first position at which they are gone, in its order.
    pub(super) fn died_in(
        &self,
        range: &RangeInclusive<Commit>,
    ) -> impl Iterator<Item = (Commit, u32)> {
        let seen = |(died, row): &(Commit, u32)| self.born[*row as usize] < *died;
        self.deaths(range).iter().copied().filter(seen)
    }

    /// What separates two states, the earlier one first: the versions that went, and those that came.
    pub fn difference(&self, from: Commit, to: Commit) -> (Vec<u32>, Vec<u32>) {
        let range = from + 1..=to;
        let gone = self.deaths(&range).iter().map(|(_, row)| *row);
        let gone = gone
            .filter(|&row| self.born[row as usize] <= from)
            .collect();
        let mut come = self.births(&range);
        come.retain(|&row| self.died[row as usize] > to);
        (gone, come)
    }

    /// The first of some columns that is not known in one of these versions.
    pub fn not_known_in(&self, columns: &[usize], rows: &[u32]) -> Option<usize> {
        let unknown = |&column: &usize| {
            let cells = &self.columns[column];
            cells.has_unknown() && rows.iter().any(|&row| cells.is_unknown(row))
        };
        columns.iter().copied().find(unknown)
    }

    /// From which position to before which one a version is visible; [`Commit::MAX`] while it is alive.
    pub fn lifetime(&self, row: u32) -> (Commit, Commit) {
        (self.born[row as usize], self.died[row as usize])
    }
}
