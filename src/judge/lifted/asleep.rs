//! Subjects that the time cannot change for a while, so that a batch costs what it touches and what is due, not what there is.

use std::collections::{BTreeMap, HashMap};

/// How far times may go backwards, in microseconds, before all subjects are looked at again.
pub(super) const MARGIN: i64 = 3_600_000_000;
/// How far ahead the future of a subject is looked at, in microseconds, farthest first: a hundred years, which is as good as for ever,
/// thirty days, a day, an hour, a minute.
pub(super) const HORIZONS: [i64; 5] = [
    100 * 365 * 86_400_000_000,
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
    /// Those that sleep for ever, some of them twice, and how many they were when they were last looked through.
    settled: Vec<u32>,
    settled_once: usize,
    /// The latest time so far; what sleeps does so from a [`MARGIN`] before it.
    latest: Option<i64>,
}

impl Asleep {
    /// Subjects that were judged in a batch, and the latest time of its commits.
    pub(super) fn judged(&mut self, subjects: impl IntoIterator<Item = u32>, latest: i64) {
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

    /// The latest time so far.
    pub(super) fn latest(&self) -> Option<i64> {
        self.latest
    }

    /// Sends a subject to sleep until a time.
    pub(super) fn sleep(&mut self, subject: u32, until: i64) {
        self.until.insert(subject, until);
        self.queue.entry(until).or_default().push(subject);
    }

    /// Sends a subject to sleep for ever.
    pub(super) fn settle(&mut self, subject: u32) {
        self.settled.push(subject);
    }

    /// Wakes the subjects that times from `earliest` to `latest` may change, sorted.
    pub(super) fn wake(&mut self, earliest: i64, latest: i64) -> Vec<u32> {
        let mut awake = Vec::new();
        let back = self
            .latest
            .is_some_and(|seen| earliest < seen.saturating_sub(MARGIN));
        if back {
            awake.append(&mut self.settled);
            awake.extend(self.until.drain().map(|(subject, _)| subject));
            self.queue.clear();
        }
        while let Some(entry) = self.queue.first_entry()
            && *entry.key() <= latest
        {
            let (until, subjects) = entry.remove_entry();
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
        if self.settled.len() <= 2 * self.settled_once + 1024 {
            return;
        }
        self.settled.sort_unstable();
        self.settled.dedup();
        self.settled.retain(|&subject| !is_gone(subject));
        self.until.retain(|&subject, _| !is_gone(subject));
        self.settled_once = self.settled.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_wakes() {
        let mut asleep = Asleep::default();
        asleep.judged([3, 1, 2, 3], 1_000);
        assert_eq!(asleep.take_fresh(), [1, 2, 3]);
        asleep.sleep(1, 5_000);
        asleep.sleep(2, 9_000);
        asleep.settle(3);
        assert!(asleep.wake(1_000, 4_999).is_empty());
        asleep.judged([2], 4_999);
        asleep.sleep(2, 20_000);
        assert_eq!(asleep.wake(4_999, 10_000), [1], "2 was sent to sleep anew");
        assert_eq!(asleep.wake(10_000, i64::MAX), [2]);
        assert!(
            asleep.wake(10_000, i64::MAX).is_empty(),
            "3 sleeps for ever"
        );
    }

    #[test]
    fn all_wake_when_the_times_go_far_back() {
        let mut asleep = Asleep::default();
        asleep.judged([1, 2], 10 * MARGIN);
        asleep.take_fresh();
        asleep.sleep(1, 11 * MARGIN);
        asleep.settle(2);
        asleep.settle(2);
        assert!(asleep.wake(9 * MARGIN, 9 * MARGIN).is_empty());
        assert_eq!(asleep.wake(9 * MARGIN - 1, 9 * MARGIN), [1, 2]);
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut asleep = Asleep::default();
        (0..5_000).for_each(|subject| asleep.settle(subject % 2_000));
        asleep.forget(|subject| subject >= 10);
        assert_eq!(asleep.settled.len(), 10);
    }
}
