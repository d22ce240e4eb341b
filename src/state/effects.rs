//! The net effect of commits on rows: the states before and after compared, not the steps between.

use std::ops::RangeInclusive;

use hashbrown::HashTable;

use super::column::NO_ROW;
use super::versions::{TableVersions, hash_row};
use crate::change::{Commit, Op};

/// The net effect of one commit on one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NetEffect {
    pub(super) commit: Commit,
    pub(super) op: Op,
    pub(super) before: u32,
    pub(super) after: u32,
    /// Rows in the table before the commit.
    pub(super) rows_before: u64,
}

impl TableVersions {
    /// The net effects of a range of commits, in commit order. Rows are paired by the given columns; a commit that leaves a row as it
    /// was has no effect on it.
    pub(super) fn net_effects(
        &self,
        pairing: &[usize],
        range: &RangeInclusive<Commit>,
    ) -> Vec<NetEffect> {
        let lived = |row: u32| self.born[row as usize] < self.died[row as usize];
        let born = self.births(range).into_iter().filter(|&row| lived(row));
        let born = born.map(|row| (self.born[row as usize], true, row));
        let mut ends: Vec<(Commit, bool, u32)> = born.filter(|(born, ..)| *born > 0).collect();
        let died = self.deaths(range).iter().filter(|(_, row)| lived(*row));
        ends.extend(died.map(|&(commit, row)| (commit, false, row)));
        // Commits make differences only, so rows that were there before them are counted.
        let earlier = 0..=range.start().saturating_sub(1);
        let died_before = self.deaths(&(1..=*earlier.end())).len();
        let first_rows = (self.birth_count(&earlier) - died_before) as u64;
        ends.sort_unstable();
        let mut effects = Vec::new();
        let mut rows = first_rows;
        for group in ends.chunk_by(|a, b| a.0 == b.0) {
            let (gone, come): (Vec<_>, Vec<_>) = group.iter().partition(|(_, came, _)| !came);
            let commit = group[0].0;
            self.pair(commit, rows, pairing, &gone, &come, &mut effects);
            rows = rows + come.len() as u64 - gone.len() as u64;
        }
        effects
    }

    fn pair(
        &self,
        commit: Commit,
        rows_before: u64,
        pairing: &[usize],
        gone: &[&(Commit, bool, u32)],
        come: &[&(Commit, bool, u32)],
        effects: &mut Vec<NetEffect>,
    ) {
        let hash = |row: u32| hash_row(&self.columns, pairing, &self.hasher, row);
        let mut old: HashTable<u32> = HashTable::with_capacity(gone.len());
        for (_, _, row) in gone {
            old.insert_unique(hash(*row), *row, |&other| hash(other));
        }
        let same_key = |a: u32, b: u32| {
            pairing
                .iter()
                .all(|&column| self.columns[column].same_rows(a, b))
        };
        for (_, _, after) in come {
            let equal = |before: u32| {
                self.columns
                    .iter()
                    .all(|column| column.same_rows(before, *after))
            };
            // Among rows of one key an identical one is no effect at all; only then is it an update.
            let partner = old
                .iter_hash(hash(*after))
                .copied()
                .filter(|&before| same_key(before, *after))
                .min_by_key(|&before| (!equal(before), before));
            let Some(before) = partner else {
                effects.push(NetEffect {
                    commit,
                    op: Op::Insert,
                    before: NO_ROW,
                    after: *after,
                    rows_before,
                });
                continue;
            };
            if let Ok(entry) = old.find_entry(hash(before), |&other| other == before) {
                entry.remove();
            }
            if !equal(before) {
                effects.push(NetEffect {
                    commit,
                    op: Op::Update,
                    before,
                    after: *after,
                    rows_before,
                });
            }
        }
        let mut left: Vec<u32> = old.into_iter().collect();
        left.sort_unstable();
        let delete = |before| NetEffect {
            commit,
            op: Op::Delete,
            before,
            after: NO_ROW,
            rows_before,
        };
        effects.extend(left.into_iter().map(delete));
    }
}
