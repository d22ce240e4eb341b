//! Which row of one state is which row of the other.
//!
//! Rows are brought together by a hash of their key, never by all pairs, so that many rows of one key cost no more than others.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use super::cells::Found;
use super::{Change, TableDiff};
use crate::change::Commit;
use crate::state::TableVersions;

/// The rows that may differ.
pub(super) struct Rows {
    a: Vec<u32>,
    b: Vec<u32>,
}

/// The rows of both states; for two positions of one table only the versions that one of them has and the other has not.
pub(super) fn rows(
    a: &TableVersions,
    b: &TableVersions,
    same: bool,
    (at_a, at_b): (Commit, Commit),
) -> Rows {
    let (mut left, mut right) = (a.visible(at_a), b.visible(at_b));
    if same {
        left.retain(|&row| !a.is_visible(row, at_b));
        right.retain(|&row| !a.is_visible(row, at_a));
    }
    Rows { a: left, b: right }
}

type Hashed = (u64, u32);

impl TableDiff<'_> {
    /// Matches rows by key and enters what differs.
    pub(super) fn match_rows(&mut self, rows: Rows) {
        let hasher = RandomState::new();
        let key = self.key.clone();
        let hashed = |diff: &Self, rows: Vec<u32>, first: bool| -> Vec<Hashed> {
            let mut hashed: Vec<Hashed> = rows
                .into_iter()
                .map(|row| (diff.hash(&hasher, &key, first, row), row))
                .collect();
            hashed.sort_unstable();
            hashed
        };
        let (a, b) = (hashed(self, rows.a, true), hashed(self, rows.b, false));
        let all: Vec<usize> = (0..self.pairs.len()).collect();
        let content = |diff: &Self, first: bool, row: u32| diff.hash(&hasher, &all, first, row);
        for (left, right) in groups(&a, &b) {
            self.match_group(left, right, &content);
        }
    }

    fn hash(&self, hasher: &RandomState, columns: &[usize], first: bool, row: u32) -> u64 {
        let mut state = hasher.build_hasher();
        for &at in columns {
            let pair = &self.pairs[at];
            let data_type = if first { &pair.type_a } else { &pair.type_b };
            let cell = self.cell(pair, first, row);
            pair.manner.plain(data_type, &cell).hash(&mut state);
        }
        state.finish()
    }

    /// Rows whose keys have one hash: nearly always one key.
    fn match_group(
        &mut self,
        left: &[Hashed],
        right: &[Hashed],
        content: &impl Fn(&Self, bool, u32) -> u64,
    ) {
        match (left, right) {
            (left, []) => left
                .iter()
                .for_each(|&(_, row)| self.enter(Change::Removed, row, row)),
            ([], right) => right
                .iter()
                .for_each(|&(_, row)| self.enter(Change::Added, row, row)),
            ([(_, a)], [(_, b)]) if self.same_key(*a, *b) => self.judge(*a, *b),
            _ => {
                let mut left: Vec<u32> = left.iter().map(|(_, row)| *row).collect();
                let mut right: Vec<u32> = right.iter().map(|(_, row)| *row).collect();
                while let Some(&first) = left.first() {
                    // Two rows of one state are compared through a row of the other, else each is a key of its own.
                    let come: Vec<u32> = take(&mut right, |&row| self.same_key(first, row));
                    let Some(&other) = come.first() else {
                        left.remove(0);
                        self.enter(Change::Removed, first, first);
                        continue;
                    };
                    let gone = take(&mut left, |&row| self.same_key(row, other));
                    self.match_key(gone, come, content);
                }
                right
                    .into_iter()
                    .for_each(|row| self.enter(Change::Added, row, row));
            }
        }
    }

    /// Rows of one key: equal ones first, whatever their order; then one by one.
    fn match_key(
        &mut self,
        gone: Vec<u32>,
        come: Vec<u32>,
        content: &impl Fn(&Self, bool, u32) -> u64,
    ) {
        let hashed = |diff: &Self, rows: Vec<u32>, first: bool| -> Vec<Hashed> {
            let mut hashed: Vec<Hashed> = rows
                .into_iter()
                .map(|row| (content(diff, first, row), row))
                .collect();
            hashed.sort_unstable();
            hashed
        };
        let (gone, come) = (hashed(self, gone, true), hashed(self, come, false));
        let (mut old, mut new) = (Vec::new(), Vec::new());
        for (left, right) in groups(&gone, &come) {
            let both = left.len().min(right.len());
            for (&(_, a), &(_, b)) in left.iter().zip(right) {
                if self.compare(a, b) != Found::Same {
                    old.push(a);
                    new.push(b);
                }
            }
            old.extend(left[both..].iter().map(|(_, row)| *row));
            new.extend(right[both..].iter().map(|(_, row)| *row));
        }
        old.sort_unstable();
        new.sort_unstable();
        let both = old.len().min(new.len());
        for (&a, &b) in old.iter().zip(&new) {
            self.judge(a, b);
        }
        for &row in &old[both..] {
            self.enter(Change::Removed, row, row);
        }
        for &row in &new[both..] {
            self.enter(Change::Added, row, row);
        }
    }

    fn same_key(&self, a: u32, b: u32) -> bool {
        self.key.iter().all(|&at| {
            let pair = &self.pairs[at];
            match self.compare_column(pair, a, b) {
                Found::Same => true,
                Found::Different => false,
                // Of rows without a key nothing else may be known: they belong together, undecided.
                Found::NotKnown => self.cell(pair, true, a) == self.cell(pair, false, b),
            }
        })
    }

    fn judge(&mut self, a: u32, b: u32) {
        match self.compare(a, b) {
            Found::Same => {}
            Found::Different => self.enter(Change::Changed, a, b),
            Found::NotKnown => self.unknown += 1,
        }
    }
}

/// Takes the members for which `wanted` is true.
fn take(rows: &mut Vec<u32>, wanted: impl Fn(&u32) -> bool) -> Vec<u32> {
    let (taken, left) = std::mem::take(rows).into_iter().partition(wanted);
    *rows = left;
    taken
}

/// Runs of equal hashes of two sorted lists, side by side.
fn groups<'l>(
    mut a: &'l [Hashed],
    mut b: &'l [Hashed],
) -> impl Iterator<Item = (&'l [Hashed], &'l [Hashed])> {
    std::iter::from_fn(move || {
        let next = match (a.first(), b.first()) {
            (None, None) => return None,
            (Some(one), None) | (None, Some(one)) => one.0,
            (Some(left), Some(right)) => left.0.min(right.0),
        };
        let run = |list: &[Hashed]| list.iter().take_while(|(hash, _)| *hash == next).count();
        let (left, rest_a) = a.split_at(run(a));
        let (right, rest_b) = b.split_at(run(b));
        (a, b) = (rest_a, rest_b);
        Some((left, right))
    })
}
