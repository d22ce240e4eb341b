//! How much of a store has to be read for the states at some positions: from the last snapshot before them on.

use std::ops::RangeInclusive;

use super::Store;
use super::error::StoreError;
use crate::change::Commit;
use crate::rule::parse_duration;
use crate::schema::value::parse_timestamp;
use crate::state::{History, parse_lsn};

impl Store {
    /// A history in which positions that are named like this mean the same as in [`Store::history`], with the same states; it may begin
    /// later and end earlier, and the rows of a snapshot may be left in their files.
    ///
    /// # Errors
    /// As [`Store::history`].
    pub fn history_around(
        &self,
        positions: &[&str],
        now_us: Option<i64>,
    ) -> Result<History, StoreError> {
        let ledger = self.ledger();
        let ranges: Option<Vec<_>> = positions
            .iter()
            .map(|text| self.around(text, now_us))
            .collect();
        let whole = ledger.first..=ledger.head();
        let range = match ranges.as_deref() {
            None | Some([]) => whole,
            Some(ranges) => {
                let start = ranges.iter().map(|range| *range.start()).min();
                let end = ranges.iter().map(|range| *range.end()).max();
                start.unwrap_or(ledger.first)..=self.beyond_gap(end.unwrap_or(ledger.head()))
            }
        };
        match range.start() == range.end() && ledger.snapshots.contains_key(range.start()) {
            true => self.history_in_place(*range.start()),
            false => self.history_of(range),
        }
    }

    /// A position, or the end of the gap in which it lies or after which it comes: what lies in a gap is told by its end.
    fn beyond_gap(&self, position: Commit) -> Commit {
        let mut segments = self.ledger().segments.values();
        let gap = segments.find(|one| one.unseen && (one.from..=one.to).contains(&(position + 1)));
        gap.map_or(position, |gap| gap.to)
    }

    /// Positions among which the one is that a text names; None where that takes the whole history to say.
    fn around(&self, text: &str, now_us: Option<i64>) -> Option<RangeInclusive<Commit>> {
        let ledger = self.ledger();
        let text = text.trim();
        let head = ledger.head();
        if text == "latest" {
            return Some(head..=head);
        }
        if let Some(number) = text.strip_prefix('#') {
            let at: Commit = number.parse().ok()?;
            return (ledger.first..=head).contains(&at).then_some(at..=at);
        }
        let last = |is_before: &dyn Fn(&super::Stretch) -> Option<bool>| {
            let mut found = None;
            for stretch in ledger.segments.values() {
                // Where one does not say, the order of all is not known.
                if is_before(stretch)? {
                    found = Some(stretch.from.saturating_sub(1)..=stretch.to);
                }
            }
            found
        };
        if let Some(lsn) = parse_lsn(text) {
            return last(&|stretch| Some(parse_lsn(stretch.lsn_from.as_deref()?)? <= lsn));
        }
        let age = text
            .strip_prefix('-')
            .and_then(|age| parse_duration(age).ok());
        let time = match age {
            Some(age) => {
                let newest = ledger.segments.values().rev().find_map(|one| one.time_to);
                now_us.or(newest)?.checked_sub(age)?
            }
            None => parse_timestamp(text)?,
        };
        // Times may go back a little from one commit to the next: a segment is told from its neighbours only where they are apart.
        let mut highest = i64::MIN;
        for stretch in ledger.segments.values() {
            let (from, to) = (stretch.time_from?, stretch.time_to?);
            if from < highest || to < from {
                return None;
            }
            highest = to;
        }
        let found = last(&|stretch| Some(stretch.time_from? <= time))?;
        // An age counts back from the last commit: it has to be there.
        Some(match age.is_some() && now_us.is_none() {
            true => *found.start()..=head,
            false => found,
        })
    }
}
