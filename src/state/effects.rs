//! The net effect of commits on rows: the states before and after compared, not the steps between.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use hashbrown::HashMap;

use super::column::NO_ROW;
use super::versions::{TableVersions, hash_row, same_identity};
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
        let died: Vec<(Commit, u32)> = self.died_in(range).collect();
        self.effects_of(pairing, range, &self.born_in(range), &died)
    }

    /// The same, of the versions that the range sees begin and end.
    pub(super) fn effects_of(
        &self,
        pairing: &[usize],
        range: &RangeInclusive<Commit>,
        born: &[u32],
        died: &[(Commit, u32)],
    ) -> Vec<NetEffect> {
        let born = born.iter().map(|&row| (self.born[row as usize], true, row));
        let mut ends: Vec<End> = born.filter(|(born, ..)| *born > 0).collect();
        ends.extend(died.iter().map(|&(commit, row)| (commit, false, row)));
        // Commits make differences only, so rows that were there before them are counted.
        let earlier = 0..=range.start().saturating_sub(1);
        let died_before = self.deaths(&(1..=*earlier.end())).len();
        let first_rows = (self.birth_count(&earlier) - died_before) as u64;
        // Both parts mostly are in order: a sort that knows runs.
        ends.sort();
        let mut effects = Vec::new();
        let mut rows = first_rows;
        for group in ends.chunk_by(|a, b| a.0 == b.0) {
            let (gone, come) = group.split_at(group.partition_point(|(_, came, _)| !came));
            self.pair(rows, pairing, gone, come, &mut effects);
            rows = rows + come.len() as u64 - gone.len() as u64;
        }
        effects
    }

    /// The effects of one commit, which ended some rows and began others.
    fn pair(
        &self,
        rows_before: u64,
        pairing: &[usize],
        gone: &[End],
        come: &[End],
        effects: &mut Vec<NetEffect>,
    ) {
        let Some(&(commit, ..)) = gone.first().or(come.first()) else {
            return;
        };
        let effect = |op, before, after| NetEffect {
            commit,
            op,
            before,
            after,
            rows_before,
        };
        if let ([(.., before)], [(.., after)]) = (gone, come)
            && same_identity(&self.columns, pairing, *before, *after)
        {
            if !self.is_equal(*before, *after) {
                effects.push(effect(Op::Update, *before, *after));
            }
            return;
        }
        let (gone, come) = self.without_equal(gone, come);
        let hash = |row: u32| hash_row(&self.columns, pairing, &self.hasher, row);
        let mut old = Gone::new(gone, hash);
        for after in come {
            let same_key = |before: u32| same_identity(&self.columns, pairing, before, after);
            let before = old.take(|| hash(after), same_key);
            // Documents may be written in two ways and mean the same.
            match before {
                Some(before) if self.is_equal(before, after) => {}
                Some(before) => effects.push(effect(Op::Update, before, after)),
                None => effects.push(effect(Op::Insert, NO_ROW, after)),
            }
        }
        let deleted = old.left().into_iter();
        effects.extend(deleted.map(|before| effect(Op::Delete, before, NO_ROW)));
    }

    /// Whether two row versions hold the same in all columns.
    fn is_equal(&self, a: u32, b: u32) -> bool {
        self.columns.iter().all(|column| column.same_rows(a, b))
    }

    /// The rows that went and those that came, without pairs that are equal in all columns: they are no effect at all.
    fn without_equal(&self, gone: &[End], come: &[End]) -> (Vec<u32>, Vec<u32>) {
        let rows = |ends: &[End]| ends.iter().map(|end| end.2).collect();
        let (gone, mut come): (Vec<u32>, Vec<u32>) = (rows(gone), rows(come));
        if gone.is_empty() || come.is_empty() {
            return (gone, come);
        }
        let all: Vec<usize> = (0..self.columns.len()).collect();
        let hash = |row: u32| hash_row(&self.columns, &all, &self.hasher, row);
        let mut old = Gone::new(gone, hash);
        come.retain(|&after| {
            let same = |before: u32| self.is_equal(before, after);
            old.take(|| hash(after), same).is_none()
        });
        (old.left(), come)
    }
}

/// A version that ends (false) or begins (true) at a commit.
type End = (Commit, bool, u32);

/// Rows that a commit ended, each to be taken once by one that it began; those that are alike in the order of their numbers.
enum Gone {
    /// Looked at one by one: most commits change few rows.
    Few(Vec<u32>),
    /// By their hashes.
    Many(HashMap<u64, VecDeque<u32>>),
}

/// So many rows are looked at one by one.
const FEW: usize = 8;

impl Gone {
    fn new(rows: Vec<u32>, hash: impl Fn(u32) -> u64) -> Self {
        if rows.len() <= FEW {
            return Gone::Few(rows);
        }
        let mut by_hash: HashMap<u64, VecDeque<u32>> = HashMap::new();
        for row in rows {
            by_hash.entry(hash(row)).or_default().push_back(row);
        }
        Gone::Many(by_hash)
    }

    /// The first that is the same; `hash` is asked where they are many.
    fn take(&mut self, hash: impl FnOnce() -> u64, same: impl Fn(u32) -> bool) -> Option<u32> {
        let same = |row: &u32| same(*row);
        match self {
            Gone::Few(rows) => {
                let at = rows.iter().position(same)?;
                Some(rows.remove(at))
            }
            Gone::Many(by_hash) => {
                let rows = by_hash.get_mut(&hash())?;
                let at = rows.iter().position(same)?;
                rows.remove(at)
            }
        }
    }

    /// Those that nobody took, sorted.
    fn left(self) -> Vec<u32> {
        let mut left: Vec<u32> = match self {
            Gone::Few(rows) => rows,
            Gone::Many(by_hash) => by_hash.into_values().flatten().collect(),
        };
        left.sort_unstable();
        left
    }
}
