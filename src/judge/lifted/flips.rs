//! When verdicts change although no row does: rules that ask for the time.
//!
//! Between two changes of the rows that decide about a subject only the time moves. Where the rule's answer moves one way with it
//! (see [`crate::plan::trend`]), a stretch of commits is judged where it is earliest and where it is latest; if the answers are equal,
//! so are all between them, else both halves are looked at in the same way. All stretches of a rule are searched at once, so that
//! the plan runs about as often as a bisection of the history has steps. Times need not be in order.

use std::sync::Arc;

use crate::change::Commit;

/// How many judgements a search may ask for, whatever it searches, …
const ASKED_MIN: usize = 4 << 20;
/// … and how many more for each stretch.
const ASKED_EACH: usize = 64;

/// The time after every commit of a range.
#[derive(Debug)]
pub(super) struct Times {
    /// The first commit of the range.
    first: Commit,
    at: Arc<[i64]>,
    /// Where in the range the earliest and the latest times are, as binary trees; None where the times are in order.
    trees: Option<(Vec<u32>, Vec<u32>)>,
}

impl Times {
    /// `at` are the times of the commits from the first one on, in microseconds.
    pub(super) fn new(first: Commit, at: Arc<[i64]>) -> Self {
        let trees = (!at.is_sorted()).then(|| {
            let earlier = |a: u32, b: u32| {
                if at[b as usize] < at[a as usize] {
                    b
                } else {
                    a
                }
            };
            let later = |a: u32, b: u32| {
                if at[b as usize] > at[a as usize] {
                    b
                } else {
                    a
                }
            };
            (tree(at.len(), &earlier), tree(at.len(), &later))
        });
        Times { first, at, trees }
    }

    /// The first commit that has a time of its own; those before it have its time.
    pub(super) fn first(&self) -> Commit {
        self.first
    }

    pub(super) fn all(&self) -> &Arc<[i64]> {
        &self.at
    }

    /// The earliest and the latest time.
    pub(super) fn bounds(&self) -> (i64, i64) {
        let last = self.first + u32::try_from(self.at.len() - 1).expect("fewer than 2^32 commits");
        let (earliest, latest) = self.extremes(self.first, last);
        (self.at(earliest), self.at(latest))
    }

    /// The times at which some questions are asked.
    pub(super) fn of(&self, questions: &[Question]) -> Vec<i64> {
        questions
            .iter()
            .map(|&(_, commit)| self.at(commit))
            .collect()
    }

    pub(super) fn at(&self, commit: Commit) -> i64 {
        self.at[commit.saturating_sub(self.first) as usize]
    }

    /// A commit with the earliest and one with the latest time of those from `first` to `last`.
    fn extremes(&self, first: Commit, last: Commit) -> (Commit, Commit) {
        match &self.trees {
            None => (first, last),
            Some((earliest, latest)) => {
                let place = |commit: Commit| commit.saturating_sub(self.first);
                let (low, high) = (place(first), place(last));
                let time = |at: u32| self.at[at as usize];
                let least = best(earliest, low, high, &|a, b| time(b) < time(a));
                let most = best(latest, low, high, &|a, b| time(b) > time(a));
                (least + self.first, most + self.first)
            }
        }
    }
}

/// A tree whose leaves are places in the range and whose inner nodes are the better of two; node `n` has the children `2n` and `2n + 1`.
fn tree(len: usize, better: &dyn Fn(u32, u32) -> u32) -> Vec<u32> {
    let mut tree = vec![0; len];
    tree.extend((0..len).map(|at| u32::try_from(at).expect("fewer than 2^32 commits")));
    for at in (1..len).rev() {
        tree[at] = better(tree[2 * at], tree[2 * at + 1]);
    }
    tree
}

fn best(tree: &[u32], first: u32, last: u32, is_better: &dyn Fn(u32, u32) -> bool) -> u32 {
    let leaves = tree.len() / 2;
    let (mut low, mut high) = (first as usize + leaves, last as usize + leaves + 1);
    let mut found = first;
    let mut meet = |at: u32| {
        if is_better(found, at) {
            found = at;
        }
    };
    while low < high {
        if low % 2 == 1 {
            meet(tree[low]);
            low += 1;
        }
        if high % 2 == 1 {
            high -= 1;
            meet(tree[high]);
        }
        low /= 2;
        high /= 2;
    }
    found
}

/// Commits in which no row changes that decides about a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stretch {
    /// A key or a row version, by its number.
    pub(super) subject: u32,
    /// The first of the commits.
    pub(super) first: Commit,
    /// The last of them.
    pub(super) last: Commit,
}

/// A judgement to make: a subject at a commit.
pub(super) type Question = (u32, Commit);

/// What is known about a judgement: how many rows the rule returned, and the sum of those columns of theirs that move with the time. As
/// long as no row changes, both are the same at two times only if the answers are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) rows: u64,
    pub(super) sum: i128,
}

/// A stretch whose verdicts may differ.
#[derive(Clone, Copy, Debug)]
struct Open {
    stretch: Stretch,
    earliest: (Commit, Option<Verdict>),
    latest: (Commit, Option<Verdict>),
}

/// A search for all commits at which verdicts change with the time alone. It is driven from outside: [`Search::questions`] are to be
/// judged and [answered](Search::answer) until there are none.
pub(super) struct Search<'a> {
    times: &'a Times,
    open: Vec<Open>,
    /// Subject and commit of each change: the verdict differs, or may differ, from that after the commit before.
    flips: Vec<Question>,
    asked: usize,
    asked_max: usize,
}

impl<'a> Search<'a> {
    /// Begins a search.
    pub(super) fn new(times: &'a Times, stretches: impl IntoIterator<Item = Stretch>) -> Self {
        let mut search = Search {
            times,
            open: Vec::new(),
            flips: Vec::new(),
            asked: 0,
            asked_max: 0,
        };
        let mut count = 0usize;
        for stretch in stretches {
            search.open.extend(open(times, stretch, &[]));
            count += 1;
        }
        search.asked_max = ASKED_MIN.saturating_add(count.saturating_mul(ASKED_EACH));
        search
    }

    /// What must be judged next, in order and without repetitions; nothing when the search is over.
    ///
    /// # Errors
    /// Why the search is given up, in words.
    pub(super) fn questions(&mut self) -> Result<Vec<Question>, String> {
        let unknown = |open: &Open| {
            let subject = open.stretch.subject;
            [open.earliest, open.latest]
                .into_iter()
                .filter(|(_, verdict)| verdict.is_none())
                .map(move |(commit, _)| (subject, commit))
        };
        let mut questions: Vec<Question> = self.open.iter().flat_map(unknown).collect();
        questions.sort_unstable();
        questions.dedup();
        self.asked = self.asked.saturating_add(questions.len());
        if self.asked > self.asked_max {
            return Err("it asks for the time, and its verdicts change too often with it".into());
        }
        Ok(questions)
    }

    /// Takes the answers to the last questions, in their order.
    pub(super) fn answer(&mut self, questions: &[Question], verdicts: &[Verdict]) {
        let verdict = |question: Question| {
            let at = questions.binary_search(&question);
            verdicts[at.expect("it was asked")]
        };
        let known = |subject: u32, (commit, known): (Commit, Option<Verdict>)| {
            let verdict = known.unwrap_or_else(|| verdict((subject, commit)));
            (commit, Some(verdict))
        };
        let mut known: Vec<Open> = std::mem::take(&mut self.open)
            .into_iter()
            .map(|open| Open {
                stretch: open.stretch,
                earliest: known(open.stretch.subject, open.earliest),
                latest: known(open.stretch.subject, open.latest),
            })
            .collect();
        // A half may be known from the whole, where times repeat.
        while let Some(open) = known.pop() {
            match (open.earliest, open.latest) {
                ((earliest, Some(a)), (latest, Some(b))) if a != b => {
                    known.extend(self.split(open.stretch, &[(earliest, a), (latest, b)]));
                }
                ((_, Some(_)), (_, Some(_))) => {}
                _ => self.open.push(open),
            }
        }
    }

    /// Halves a stretch; the halves share the commit in the middle, so that every two neighbours are together in one of them.
    fn split(&mut self, stretch: Stretch, known: &[(Commit, Verdict)]) -> Vec<Open> {
        let Stretch {
            subject,
            first,
            last,
        } = stretch;
        if last - first == 1 {
            self.flips.push((subject, last));
            return Vec::new();
        }
        let middle = first + (last - first) / 2;
        let half = |(first, last)| {
            let half = Stretch {
                subject,
                first,
                last,
            };
            open(self.times, half, known)
        };
        let halves = [(first, middle), (middle, last)].into_iter();
        halves.filter_map(half).collect()
    }

    /// The changes that were found, by subject and commit.
    pub(super) fn finish(mut self) -> Vec<Question> {
        self.flips.sort_unstable();
        self.flips
    }
}

/// A stretch as a part of the search, unless it is at one time; `known` are verdicts of the same rows.
fn open(times: &Times, stretch: Stretch, known: &[(Commit, Verdict)]) -> Option<Open> {
    let (earliest, latest) = times.extremes(stretch.first, stretch.last);
    if times.at(earliest) == times.at(latest) {
        return None;
    }
    let verdict = |commit: Commit| {
        let same_time = |(at, _): &&(Commit, Verdict)| times.at(*at) == times.at(commit);
        known.iter().find(same_time).map(|(_, verdict)| *verdict)
    };
    Some(Open {
        stretch,
        earliest: (earliest, verdict(earliest)),
        latest: (latest, verdict(latest)),
    })
}

/// All commits of some stretches at which the time is another than before: for rules whose answers go up and down. None where they are
/// too many.
pub(super) fn every_time(
    times: &Times,
    stretches: impl IntoIterator<Item = Stretch>,
    most: usize,
) -> Option<Vec<Question>> {
    let mut found = Vec::new();
    for stretch in stretches {
        let commits = stretch.first + 1..=stretch.last;
        let turns = commits.filter(|&commit| times.at(commit) != times.at(commit - 1));
        found.extend(turns.map(|commit| (stretch.subject, commit)));
        if found.len() > most {
            return None;
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches where a subject is bad from a time on; the answer must be what looking at every commit says.
    fn check(times: Vec<i64>, thresholds: &[i64], rises: bool) -> usize {
        let times = Times::new(0, times.into());
        let last = Commit::try_from(times.all().len() - 1).expect("few");
        let verdict = |subject: u32, commit: Commit| {
            let mine = thresholds.iter().skip(subject as usize % 2);
            let over = mine.filter(|&&from| times.at(commit) >= from).count();
            let rows = if rises { over } else { thresholds.len() - over };
            Verdict {
                rows: rows as u64,
                sum: 0,
            }
        };
        let stretches = [
            (7, 0, last / 2),
            (7, last / 2 + 1, last),
            (8, 0, last),
            (9, last, last),
        ];
        let stretches: Vec<Stretch> = stretches
            .into_iter()
            .filter(|(_, first, last)| first <= last)
            .map(|(subject, first, last)| Stretch {
                subject,
                first,
                last,
            })
            .collect();
        let mut search = Search::new(&times, stretches.iter().copied());
        let mut rounds = 0;
        loop {
            let questions = search.questions().expect("few questions");
            if questions.is_empty() {
                break;
            }
            rounds += 1;
            let verdicts: Vec<Verdict> = questions.iter().map(|&(s, c)| verdict(s, c)).collect();
            search.answer(&questions, &verdicts);
        }
        let differs = |s: &Stretch| {
            let subject = s.subject;
            (s.first + 1..=s.last)
                .filter(move |&commit| verdict(subject, commit) != verdict(subject, commit - 1))
                .map(move |commit| (subject, commit))
        };
        let want: Vec<Question> = stretches.iter().flat_map(differs).collect();
        assert_eq!(search.finish(), want, "{times:?} {thresholds:?}");
        rounds
    }

    #[test]
    fn changes_are_found_in_few_rounds() {
        let rounds = check((0..1000).collect(), &[300, 301, 777], true);
        assert!(rounds <= 12, "{rounds} rounds for a thousand commits");
        check((0..1000).map(|at| at / 40).collect(), &[3, 4, 20], false);
        check(vec![5], &[5], true);
        check(vec![5, 5, 5], &[5], true);
    }

    #[test]
    fn times_may_go_backwards() {
        let mut seed = 20_260_312u64;
        let mut next = move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            i64::try_from(seed >> 40).expect("24 bits")
        };
        for _ in 0..300 {
            let len = 1 + next() % 60;
            let jitter = 1 + next() % 40;
            let times: Vec<i64> = (0..len).map(|at| at * 3 + next() % jitter).collect();
            let thresholds: Vec<i64> = (0..next() % 4).map(|_| next() % 200).collect();
            check(times, &thresholds, next() % 2 == 0);
        }
    }

    #[test]
    fn every_time_is_a_turn_unless_there_are_too_many() {
        let times = Times::new(0, vec![0, 0, 1, 1, 0].into());
        let whole = [Stretch {
            subject: 3,
            first: 0,
            last: 4,
        }];
        assert_eq!(every_time(&times, whole, 2), Some(vec![(3, 2), (3, 4)]));
        assert_eq!(every_time(&times, whole, 1), None);
    }
}
