//! Where a history begins, and what of it was not seen: the numbers of commits.
//!
//! A history may begin after any commit (`first`), as a store does whose older part was dropped. Positions before that are not addressable;
//! inside, rows of the first state are born at 0 all the same, so every position up to `first` shows that state.
//!
//! A [`Gap`] is a stretch of commits that were not seen one by one: only the state after the last of them is known, and what it differs in
//! from the state before the gap stands as that commit's changes. The states inside a gap are not known. (Asked for, they would look like
//! the one before the gap: whoever answers users asks [`History::unseen_at`] first.)

use std::fmt;

use super::{Contradiction, History};
use crate::change::{Cell, Commit, TransactionMeta};

/// Commits that were not seen one by one; the state after the last of them is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first commit that was not seen.
    pub from: Commit,
    /// The last of them. As a commit of the history, its changes are the differences of the whole gap.
    pub to: Commit,
}

impl Gap {
    /// The last position before it whose state is known.
    pub fn before(&self) -> Commit {
        self.from.saturating_sub(1)
    }

    /// Whether the state at a position is not known because of it.
    pub fn hides(&self, position: Commit) -> bool {
        (self.from..self.to).contains(&position)
    }

    /// Why the states inside it are not known.
    pub fn hidden(&self) -> String {
        match self.to.saturating_sub(1) {
            last if last <= self.from => format!("commit #{} was not seen", self.from),
            last => format!("commits #{} to #{last} were not seen", self.from),
        }
    }
}

impl fmt::Display for Gap {
    /// Why its writes are not known: `commits #501 to #800 were not seen one by one`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from == self.to {
            return write!(
                f,
                "the writes of commit #{} were not seen, only the state after it",
                self.to
            );
        }
        write!(
            f,
            "commits #{} to #{} were not seen one by one",
            self.from, self.to
        )
    }
}

impl History {
    /// The commits after the head up to this one were not seen one by one. The state after it has to follow: with [`History::replace`], or
    /// with [`History::apply`] as a transaction of differences. The gap ends at `to` even where that is the very next commit.
    ///
    /// # Panics
    /// When `to` does not lie after the head, or is the last number there is: readers see to it.
    pub fn skip_to(&mut self, to: Commit) {
        let from = self.head() + 1;
        assert!(
            from <= to && to < Commit::MAX,
            "readers see to it that commits ascend"
        );
        self.gaps.push(Gap { from, to });
        let earlier = self.skipped.last().copied().unwrap_or(0);
        self.skipped.push(earlier + (to - from));
    }

    /// Takes over a whole state as the next commit: its changes are the differences from the state before. `rows` are those of each table,
    /// in the order of the schema, the cells in the order of the columns.
    ///
    /// # Errors
    /// The table whose rows do not fit, and why. The history must not be used further.
    pub fn replace(
        &mut self,
        meta: TransactionMeta,
        rows: &[Vec<Vec<Cell>>],
    ) -> Result<(), (usize, Contradiction)> {
        assert_eq!(rows.len(), self.tables.len(), "a state has every table");
        let commit = self.head() + 1;
        for (at, (table, rows)) in self.tables.iter_mut().zip(rows).enumerate() {
            table.replace(commit, rows).map_err(|error| (at, error))?;
        }
        self.transactions.push(meta);
        Ok(())
    }

    /// Takes over a whole state as this commit. The commits that this leaves out, and it, become a [`Gap`]; the commit after the head
    /// becomes none, as a dated snapshot does not ([`History::skip_to`] first makes it one).
    ///
    /// # Errors
    /// As for [`History::replace`].
    ///
    /// # Panics
    /// When `to` does not lie after the head.
    pub fn leap(
        &mut self,
        to: Commit,
        meta: TransactionMeta,
        rows: &[Vec<Vec<Cell>>],
    ) -> Result<(), (usize, Contradiction)> {
        if to != self.head() + 1 {
            self.skip_to(to);
        }
        self.replace(meta, rows)
    }

    /// The commits that were not seen one by one, in order.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// The last position; `first` when there is no commit.
    pub fn head(&self) -> Commit {
        self.commit_at(self.transactions.len()) - 1
    }

    /// The commits that are known, in order, with their attributes: those that were seen, and those that end gaps.
    pub fn commits(
        &self,
    ) -> impl DoubleEndedIterator<Item = (Commit, &TransactionMeta)> + ExactSizeIterator {
        let metas = self.transactions.iter().enumerate();
        metas.map(|(at, meta)| (self.commit_at(at), meta))
    }

    /// How many known commits lie at or before a position.
    pub fn commits_until(&self, position: Commit) -> usize {
        let begun = self.gaps.partition_point(|gap| gap.from <= position);
        let (position, skipped) = match begun.checked_sub(1).map(|last| (last, self.gaps[last])) {
            None => (position, 0),
            Some((last, gap)) if position < gap.to => {
                let earlier = last.checked_sub(1).map_or(0, |at| self.skipped[at]);
                (gap.before(), earlier)
            }
            Some((last, _)) => (position, self.skipped[last]),
        };
        let known = position.saturating_sub(self.first).saturating_sub(skipped);
        (known as usize).min(self.transactions.len())
    }

    /// The number of a known commit, counted from 0.
    pub(super) fn commit_at(&self, at: usize) -> Commit {
        // Where each gap's last commit stands among the known ones.
        let place = |gap: usize| (self.gaps[gap].to - self.first - self.skipped[gap]) as usize;
        let (mut ended, mut end) = (0, self.gaps.len());
        while ended < end {
            let middle = ended + (end - ended) / 2;
            match place(middle) <= at + 1 {
                true => ended = middle + 1,
                false => end = middle,
            }
        }
        let skipped = ended.checked_sub(1).map_or(0, |last| self.skipped[last]);
        let at = Commit::try_from(at).expect("fewer than 2^32 commits");
        self.first + 1 + at + skipped
    }

    /// The gap in which a position lies: the state there is not known.
    pub fn unseen_at(&self, position: Commit) -> Option<Gap> {
        let begun = self.gaps.partition_point(|gap| gap.from <= position);
        let gap = self.gaps[begun.checked_sub(1)?];
        gap.hides(position).then_some(gap)
    }

    /// The first gap with a commit of a range: what was written in the range is not known.
    pub fn unseen_in(&self, range: std::ops::RangeInclusive<Commit>) -> Option<Gap> {
        let over = self.gaps.partition_point(|gap| gap.to < *range.start());
        let gap = self.gaps.get(over).copied()?;
        (gap.from <= *range.end()).then_some(gap)
    }

    /// The gap that a commit ends: what stands as its changes was written somewhere in the gap.
    pub fn gap_ended_by(&self, commit: Commit) -> Option<Gap> {
        let found = self.gaps.binary_search_by_key(&commit, |gap| gap.to);
        found.ok().map(|at| self.gaps[at])
    }

    /// The last position at or before one whose state is known.
    pub fn seen_at_or_before(&self, position: Commit) -> Commit {
        self.unseen_at(position)
            .map_or(position, |gap| gap.before())
    }
}
