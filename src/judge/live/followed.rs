//! One rule of many that are judged while their history grows.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use super::{AGAIN_AFTER, AGAIN_MAX, Heal, NOT_SELDOM, Onset, Road, Turn};
use crate::change::Commit;
use crate::judge::lifted::Span;
use crate::rule::Rule;

/// A rule that took too long for a batch may do so once in so long: that may be the machine's doing.
const SLOW_AGAIN: Duration = Duration::from_secs(3600);

/// One rule.
pub(super) struct Followed {
    pub(super) rule: Rule,
    pub(super) road: Road,
    /// Why it can never be judged again, where that is so.
    pub(super) lost: Option<String>,
    /// Whether its plan has judged nothing yet: then all that is there is judged, which may take longer than a batch.
    pub(super) fresh: bool,
    /// How many times it failed since it was judged last.
    pub(super) failures: u32,
    /// When it took too long for a batch last.
    pub(super) struck: Option<Instant>,
    /// Whether it was given up at every commit, and nobody was told so yet.
    pub(super) slowed: bool,
    /// Up to where it was judged.
    pub(super) until: Commit,
    /// The keys that are bad, by their form that sorts, and since when.
    pub(super) open: HashMap<Box<[u8]>, Commit>,
    /// Those of them that an earlier run has told, and that were not looked at yet.
    pub(super) remembered: HashSet<Box<[u8]>>,
    pub(super) counted: Option<Instant>,
    /// Keys that began to be bad and were not looked at closely yet, and when they may be.
    pub(super) vague: BTreeSet<Box<[u8]>>,
    pub(super) looked: Instant,
}

impl Followed {
    /// It took too long for a batch: it is judged from the start, and goes on from there. Where it did so not long ago, or the start
    /// itself takes too long, it takes too long for every commit.
    pub(super) fn slow_down(&mut self) {
        if self.rule.check.judges_writes() {
            return self.give_up(NOT_SELDOM);
        }
        let now = Instant::now();
        let struck = self.struck.replace(now);
        if !self.fresh && struck.is_none_or(|at| now - at > SLOW_AGAIN) {
            self.road = Road::Unknown {
                reason: "it took too long for a batch".into(),
                again: now,
            };
            return;
        }
        self.slowed = true;
        self.road = Road::Whole {
            next: Instant::now(),
        };
    }

    /// It could not be judged, and is tried again later.
    pub(super) fn wait(&mut self, reason: String) {
        let doubled = AGAIN_AFTER * 2u32.pow(self.failures.min(6));
        self.failures += 1;
        self.road = Road::Unknown {
            reason,
            again: Instant::now() + doubled.min(AGAIN_MAX),
        };
    }

    /// It is unknown from now on, whatever comes.
    pub(super) fn give_up(&mut self, reason: &str) {
        self.lost.get_or_insert_with(|| reason.to_owned());
        self.road = Road::Unknown {
            reason: reason.to_owned(),
            again: Instant::now() + AGAIN_MAX,
        };
    }

    /// Takes in the intervals that changed.
    pub(super) fn take(
        &mut self,
        spans: Vec<Span>,
        (first, head): (Commit, Commit),
        turn: &mut Turn,
    ) {
        let writes = self.rule.check.judges_writes();
        self.fresh = false;
        self.failures = 0;
        let told = std::mem::replace(&mut self.until, head);
        let mut gone = std::mem::take(&mut self.remembered);
        if told < first {
            // What was there when it was judged last is cut off: what is still bad is found again.
            gone.extend(self.open.keys().cloned());
        }
        for span in spans {
            // A plan that is made anew finds again what was told.
            if span.healed.is_some_and(|healed| healed <= told) {
                continue;
            }
            gone.remove(&span.order);
            let onset = span.onset.max(first);
            // It was bad where the history begins, which is not where the rule was judged last.
            let after = (onset == first && told < first).then_some(told);
            if writes {
                if onset > told {
                    turn.began.push(Onset::new(&span, onset, None));
                }
                continue;
            }
            if !self.open.contains_key(&span.order) {
                turn.began.push(Onset::new(&span, onset, after));
                self.open.insert(span.order.clone(), onset);
            }
            if let Some(commit) = span.healed {
                self.open.remove(&span.order);
                turn.healed.push(Heal {
                    order: span.order,
                    commit,
                });
            }
        }
        for order in gone {
            self.open.remove(&order);
            turn.healed.push(Heal {
                order,
                commit: head,
            });
        }
        turn.healed.sort_by_key(|heal| heal.commit);
    }
}

impl Onset {
    pub(super) fn new(span: &Span, commit: Commit, after: Option<Commit>) -> Self {
        Onset {
            key: span.key.clone(),
            order: span.order.clone(),
            commit,
            after,
        }
    }
}
