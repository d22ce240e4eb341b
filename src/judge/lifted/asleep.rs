//! Subjects that the time cannot change for a while, so that a batch costs what it touches and what is due, not what there is.

use std::collections::{BTreeMap, HashMap};

/// How far times may go backwards, in microseconds, before all subjects are looked at again.
const MARGIN: i64 = 3_600_000_000;
/// How far ahead the future of a subject is looked at, in microseconds, farthest first: ten years (what is farther away may be too
/// far for the engine's arithmetic), thirty days, a day, an hour, a minute.
pub(super) const HORIZONS: [i64; 5] = [
    10 * 365 * 86_400_000_000,
    30 * 86_400_000_000,
    86_400_000_000,
    3_600_000_000,
    60_000_000,
];

/// Keys or row versions by the time until which their verdicts stay as they are if no row changes.
#[derive(Debug, Default)]
pub(super) struct Asleep {
    /// Subjects of whose future nothing is known yet.
    fresh: Vec<u32>,
    /// Those that sleep, until when; and by that time, with entries that are no longer true.
    until: HashMap<u32, i64>,
    queue: BTreeMap<i64, Vec<u32>>,
    /// How many entries the queue has, and how many it had when they were last looked through.
    queued: usize,
    queued_once: usize,
    /// The latest time so far; what sleeps does so from a [`MARGIN`] before it.
    latest: Option<i64>,
    /// The time of the last commit.
    last: i64,
}

impl Asleep {
    /// Subjects that were judged in a batch, the latest time of its commits and that of the last of them.
    pub(super) fn judged(
        &mut self,
        subjects: impl IntoIterator<Item = u32>,
        latest: i64,
        last: i64,
    ) {
        self.last = last;
        self.fresh.extend(subjects);
        self.fresh.sort_unstable();
        self.fresh.dedup();
        for subject in &self.fresh {
            self.until.remove(subject);
        }
        self.latest = self.latest.max(Some(latest));
    }

    /// The subjects of whose future nothing is known yet, sorted; from now on their future is the caller's business.
    pub(super) fn take_fresh(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.fresh)
    }

    /// The latest time so far, and that from which on a verdict has to stay as it is for a subject to sleep.
    pub(super) fn latest(&self) -> Option<(i64, i64)> {
        let latest = self.latest?;
        Some((latest, latest.saturating_sub(MARGIN).min(self.last)))
    }

    /// Sends a subject to sleep until a time.
    pub(super) fn sleep(&mut self, subject: u32, until: i64) {
        self.until.insert(subject, until);
        self.queue.entry(until).or_default().push(subject);
        self.queued += 1;
    }

    /// Wakes the subjects that times from `earliest` to `latest` may change, sorted.
    pub(super) fn wake(&mut self, earliest: i64, latest: i64) -> Vec<u32> {
        let mut awake = Vec::new();
        let back = self
            .latest
            .is_some_and(|seen| earliest < seen.saturating_sub(MARGIN));
        if back {
            awake.extend(self.until.drain().map(|(subject, _)| subject));
            self.queue.clear();
            self.queued = 0;
        }
        while let Some(entry) = self.queue.first_entry()
            && *entry.key() <= latest
        {
            let (until, subjects) = entry.remove_entry();
            self.queued -= subjects.len();
            let due = |subject: &u32| self.until.get(subject) == Some(&until);
            let due: Vec<u32> = subjects.into_iter().filter(due).collect();
            for subject in due {
                self.until.remove(&subject);
                awake.push(subject);
            }
        }
        awake.sort_unstable();
        awake.dedup();
        awake
    }

    /// Drops what is gone for good, now and then.
    pub(super) fn forget(&mut self, is_gone: impl Fn(u32) -> bool) {
        if self.queued <= 2 * self.queued_once + 1024 {
            return;
        }
        self.until.retain(|&subject, _| !is_gone(subject));
        self.queue.clear();
        self.queued = 0;
        for (subject, until) in std::mem::take(&mut self.until) {
            self.sleep(subject, until);
        }
        self.queued_once = self.queued;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_wakes() {
        let mut asleep = Asleep::default();
        asleep.judged([3, 1, 2, 3], 1_000, 1_000);
        assert_eq!(asleep.take_fresh(), [1, 2, 3]);
        asleep.sleep(1, 5_000);
        asleep.sleep(2, 9_000);
        asleep.sleep(3, i64::MAX);
        assert!(asleep.wake(1_000, 4_999).is_empty());
        asleep.judged([2], 4_999, 4_999);
        asleep.sleep(2, 20_000);
        assert_eq!(asleep.wake(4_999, 10_000), [1], "2 was sent to sleep anew");
        assert_eq!(asleep.wake(10_000, 20_000), [2]);
        assert_eq!(asleep.wake(10_000, i64::MAX), [3]);
        assert!(asleep.wake(10_000, i64::MAX).is_empty());
    }

    #[test]
    fn all_wake_when_the_times_go_far_back() {
        let mut asleep = Asleep::default();
        asleep.judged([1, 2], 10 * MARGIN, MARGIN);
        assert_eq!(asleep.latest(), Some((10 * MARGIN, MARGIN)));
        asleep.take_fresh();
        asleep.sleep(1, 11 * MARGIN);
        asleep.sleep(2, 90 * MARGIN);
        assert!(asleep.wake(9 * MARGIN, 9 * MARGIN).is_empty());
        assert_eq!(asleep.wake(9 * MARGIN - 1, 9 * MARGIN), [1, 2]);
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut asleep = Asleep::default();
        (0..5_000).for_each(|at| asleep.sleep(at % 2_000, i64::from(at)));
        asleep.forget(|subject| subject >= 10);
        assert_eq!((asleep.queued, asleep.until.len()), (10, 10));
        assert_eq!(asleep.wake(0, 4_008), (0..9).collect::<Vec<u32>>());
    }
}
