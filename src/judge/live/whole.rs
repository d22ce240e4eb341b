//! Rules that are judged as a whole, on a cadence.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use super::{Followed, Heal, Live, Onset, Road, Turn, WHOLE_EVERY, WHOLE_STATES};
use crate::change::Commit;
use crate::judge::lifted::Span;
use crate::judge::lives::Looked;
use crate::judge::{JudgeError, Options};
use crate::rule::Threshold;

impl Live {
    /// Judges a rule of the whole when it is time.
    pub(super) fn whole(&mut self, at: usize, head: Commit, now_us: Option<i64>, turn: &mut Turn) {
        let Road::Whole { next } = self.rules[at].road else {
            return;
        };
        let begun = Instant::now();
        if begun < next {
            return;
        }
        let (first, last) = (self.history().first, self.rules[at].until);
        let found = self.lives_of_the_whole(at, last.max(first), head, now_us);
        turn.took = begun.elapsed();
        let pause = (turn.took * self.rest.1).max(self.rest.0);
        let followed = &mut self.rules[at];
        followed.road = Road::Whole {
            next: Instant::now() + pause,
        };
        match found {
            Ok(spans) => {
                followed.until = head;
                let writes = followed.rule.check.judges_writes();
                followed.take_whole(spans, (last, first, head), writes, turn);
            }
            Err(error) => {
                // Judged again from where it was judged last.
                followed.road = Road::Whole {
                    next: Instant::now() + pause * 12,
                };
                turn.unknown = Some(error.to_string());
            }
        }
    }

    /// The lives of a rule's violations between two positions, each with the position after which it began where that is not exact.
    fn lives_of_the_whole(
        &self,
        at: usize,
        from: Commit,
        head: Commit,
        now_us: Option<i64>,
    ) -> Result<Vec<(Span, Option<Commit>)>, JudgeError> {
        let rule = &self.rules[at].rule;
        let prepared = self.prepared(rule).map_err(JudgeError::Unknown)?;
        let clock = prepared.asks_for_the_time();
        let options = Options {
            now_us: now_us.filter(|_| clock),
            ..self.at_the_head()
        };
        // What is bad only now may be so by the time alone: some time after the judgement before.
        let by_time = (clock && self.judged.is_some()).then_some(from);
        // The clock has moved on since: what was bad then is not asked again.
        let from = if clock { head } else { from };
        let lives =
            self.judge
                .lives_sampled(&prepared, from, head, &options, Some(WHOLE_STATES))?;
        let vague = match &lives.looked {
            Looked::Everywhere => BTreeMap::new(),
            Looked::Sampled { vague, .. } => vague.clone(),
        };
        let span = |life: crate::judge::Life| {
            let after = vague.get(&life.onset).copied().or(by_time);
            let span = Span {
                order: life.order,
                key: life.key,
                onset: life.onset,
                healed: life.healed,
            };
            (span, after)
        };
        Ok(lives.intervals.into_iter().map(span).collect())
    }

    /// Counts what a rule is about, where its threshold is a share of that.
    pub(super) fn count(&mut self, at: usize, head: Commit, turn: &mut Turn) {
        let followed = &self.rules[at];
        let threshold = followed.rule.threshold.as_ref().map(|t| &t.value);
        let due = followed
            .counted
            .is_none_or(|counted| counted.elapsed() >= WHOLE_EVERY);
        let asked = matches!(threshold, Some(Threshold::MaxPercent(_))) && due;
        if !asked || (followed.open.is_empty() && turn.began.is_empty()) {
            return;
        }
        let rule = followed.rule.clone();
        let options = Options {
            position: head,
            now_us: None,
            sample: Some(0),
        };
        if let Ok(prepared) = self.prepared(&rule) {
            let outcome = self.judge.check(vec![prepared], &options, &|_| ());
            turn.judged = outcome.first().and_then(|outcome| outcome.judged);
        }
        self.rules[at].counted = Some(Instant::now());
    }
}

impl Followed {
    /// Takes in all that was bad since the rule was judged last.
    fn take_whole(
        &mut self,
        spans: Vec<(Span, Option<Commit>)>,
        (last, first, head): (Commit, Commit, Commit),
        writes: bool,
        turn: &mut Turn,
    ) {
        if writes {
            for (span, _) in spans {
                if span.onset > last {
                    turn.began.push(Onset::new(&span, span.onset, None));
                }
            }
            return;
        }
        let mut still: HashMap<Box<[u8]>, Commit> = HashMap::new();
        for (span, after) in spans {
            let known = self.open.get(&span.order).copied();
            if known.is_none() && !still.contains_key(&span.order) {
                // Judged at the position itself only: it began somewhere after the judgement before.
                let onset = span.onset.max(first);
                let after = after.or((onset > last).then_some(last).filter(|&at| at + 1 < onset));
                turn.began.push(Onset::new(&span, onset, after));
            }
            match span.healed {
                Some(commit) => {
                    still.remove(&span.order);
                    self.open.remove(&span.order);
                    turn.healed.push(Heal {
                        order: span.order,
                        commit,
                    });
                }
                None => {
                    still.insert(span.order, known.unwrap_or(span.onset));
                }
            }
        }
        for order in self.open.keys().filter(|order| !still.contains_key(*order)) {
            turn.healed.push(Heal {
                order: order.clone(),
                commit: head,
            });
        }
        self.open = still;
        turn.healed.sort_by_key(|heal| heal.commit);
    }
}
