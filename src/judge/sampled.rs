//! Rules of the whole over long histories: some states are judged, and between two that differ the middle, and so on by halves.
//!
//! That names the commit at which a key that is bad now broke, in about log2(n) judgements. What broke and healed between two judged
//! states is not seen: the report says how many were passed over.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::catalog::Named;
use super::engine::Read;
use super::lives::{Course, Lives, Looked, State};
use super::{Judge, JudgeError, Options, Prepared, Work};
use crate::change::Commit;

/// States that are judged in any case, so that what came and went has a chance to be seen.
const FIRST: usize = 64;
/// How many rows all full judgements of a rule may read together before some states are passed over: about half a minute's work.
const ROWS_MAX: u64 = 1_000_000_000;
/// What a judgement costs that reads no row, in rows.
const ROWS_EACH: u64 = 50_000;

impl Judge {
    /// How many states of a rule can be judged in full in reasonable time.
    pub(super) fn bearable(&self, prepared: &Prepared) -> usize {
        let head = Options {
            position: self.history.head(),
            now_us: None,
            sample: None,
        };
        let engine = self.engine(&head);
        let rows = |read: &Read| match engine.view().resolve(&read.schema, &read.name) {
            Some(Named::Table(table, _)) => self.history.tables[table].version_count() as u64,
            Some(Named::Transactions) => self.history.transactions.len() as u64,
            None => 0,
        };
        let reads = prepared.planned.iter().flat_map(|planned| &planned.reads);
        let rows: u64 = reads.map(rows).sum();
        usize::try_from(ROWS_MAX / (rows + ROWS_EACH))
            .map_or(usize::MAX, |most| most.max(2 * FIRST))
    }
}

impl Work {
    /// The lives that can be told from judging so many of the states at these positions.
    pub(super) async fn lives_between(
        &self,
        positions: &[Commit],
        most: usize,
    ) -> Result<Lives, JudgeError> {
        let last = positions.len() - 1;
        let mut judged: BTreeMap<usize, State> = BTreeMap::new();
        let parts = FIRST.min(most.saturating_sub(1)).max(1);
        for part in 0..=parts {
            let at = last * part / parts;
            if let Entry::Vacant(entry) = judged.entry(at) {
                entry.insert(self.state_at(positions[at]).await?);
            }
        }
        while judged.len() < most {
            let middles = middles(&judged);
            if middles.is_empty() {
                break;
            }
            for at in middles.into_iter().take(most - judged.len()) {
                judged.insert(at, self.state_at(positions[at]).await?);
            }
        }
        let vague = neighbours(&judged)
            .filter(|(low, high, differ)| *differ && high - low > 1)
            .map(|(low, high, _)| (positions[high], positions[low]))
            .collect();
        let passed_over = (positions.len() - judged.len()) as u64;
        let mut course = Course::default();
        for (at, state) in judged {
            course.add(positions[at], state)?;
        }
        let mut lives = self.finished_course(course);
        lives.looked = Looked::Sampled { passed_over, vague };
        Ok(lives)
    }
}

/// Judged states next to each other, and whether they differ.
fn neighbours(judged: &BTreeMap<usize, State>) -> impl Iterator<Item = (usize, usize, bool)> {
    let later = judged.iter().skip(1);
    judged
        .iter()
        .zip(later)
        .map(|((low, before), (high, after))| {
            (*low, *high, !before.bad.keys().eq(after.bad.keys()))
        })
}

/// The middle of every gap between states that differ, widest gaps first.
fn middles(judged: &BTreeMap<usize, State>) -> Vec<usize> {
    let gaps = neighbours(judged).filter(|(low, high, differ)| *differ && high - low > 1);
    let mut gaps: Vec<(usize, usize)> = gaps.map(|(low, high, _)| (low, high)).collect();
    gaps.sort_by_key(|(low, high)| std::cmp::Reverse(high - low));
    gaps.into_iter()
        .map(|(low, high)| low + (high - low) / 2)
        .collect()
}
