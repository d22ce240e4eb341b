//! `firstbad bisect STORE --quick`: a store's snapshots are bisected, so that few states are judged, and then every commit between two
//! of them. What began and healed, or healed and came back, elsewhere is not seen, and the report says so.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::bisect::{Asked, empty_report, enter, one_rule, prepared};
use super::check::{not_expired, today};
use super::{Stop, inputs, output};
use crate::bisect::{self, BisectReport, Found, Range};
use crate::change::Commit;
use crate::judge::{Judge, Options, Prepared, takes_the_past};
use crate::rule::Rule;
use crate::source;
use crate::state::History;
use crate::store::{Kept, Store, StoreError};
use crate::verdict::{Outcome, Verdict};

/// States of a store that were judged, and how many.
struct Search<'a> {
    asked: &'a Asked<'a>,
    store: &'a Store,
    directory: &'a Path,
    /// Judges over stretches of the history, by their first and last positions.
    judges: BTreeMap<(Commit, Commit), Judge>,
}

/// Between which states of a rule the first bad write lies: the last one that held, the first one that did not.
struct Window {
    good: Commit,
    bad: Commit,
    judged: u64,
}

pub(super) fn by_snapshots(asked: &Asked<'_>, verbose: u8) -> Result<BisectReport, Stop> {
    let arguments = asked.arguments;
    let Some(directory) = source::store_of(&asked.source.arguments) else {
        return Err(output::wrong_argument(
            &format!("--quick: `{}` is no store", asked.source.shown),
            Some("only a store has snapshots to search among: leave --quick out"),
        ));
    };
    let failed = |error: StoreError| inputs::store_error(&error, &directory);
    let store = Store::open(&directory).map_err(failed)?;
    let (rules, mut found) = arguments.which.load(asked.source, asked.config)?;
    let (rules, expired) = not_expired(rules, today(arguments.place.now), &mut found);
    let place = &arguments.place;
    let near = store.history_around(&[&place.at], place.now);
    let history = Arc::new(near.map_err(failed)?);
    let at = place.resolve(&history)?.position;
    inputs::seen(&history, &place.at, at)?;
    let judge = arguments.limits.judge(&history, asked.config)?;
    let prepared = prepared(&judge, &rules, &asked.options(at), found, verbose)?;
    let range = Range {
        bad: at,
        now_us: place.now,
        ..Range::default()
    };
    let mut report = BisectReport {
        expired,
        good: store.ledger().first,
        ..empty_report(asked, &history, &range)
    };
    let mut search = Search {
        asked,
        store: &store,
        directory: &directory,
        judges: BTreeMap::from([((history.first, at), judge)]),
    };
    let bar = output::progress(prepared.len());
    for rule in prepared {
        bar.set_message(rule.rule.id.clone());
        let found = search.rule(&rule, at)?;
        enter(
            &mut report,
            found,
            arguments.which.rule.contains(&rule.rule.id),
        );
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(report)
}

impl Search<'_> {
    fn rule(&mut self, prepared: &Prepared, at: Commit) -> Result<Found, Stop> {
        let rule = &prepared.rule;
        let is_state = Rule {
            within_us: None,
            ..rule.clone()
        };
        if takes_the_past(&is_state) || prepared.reads_what_was_recorded() {
            let reason = "--quick judges states; this rule is about what was written, or since when: leave --quick out";
            return Ok(Found::unknown(rule, reason.into()));
        }
        let outcome = self.state(rule, at)?;
        match outcome.verdict {
            Verdict::Unknown => {
                let reason = outcome.reason.unwrap_or_default();
                return Ok(Found::unknown(rule, reason));
            }
            Verdict::Held => {
                return Ok(Found {
                    verdict: Verdict::Held,
                    violations: outcome.violations,
                    judged_states: 1,
                    sampled: Some(self.commits(self.store.ledger().first, at)),
                    ..Found::of(rule)
                });
            }
            Verdict::Violated => {}
        }
        let window = match self.window(rule, at)? {
            Ok(window) => window,
            Err(reason) => return Ok(Found::unknown(rule, reason)),
        };
        let mut found = self.between(rule, &window)?;
        found.violations = outcome.violations;
        found.judged_states += window.judged;
        let looked = self.commits(window.good, window.bad);
        let all = self.commits(self.store.ledger().first, at);
        found.sampled = Some((all + 1).saturating_sub(looked + window.judged));
        Ok(found)
    }

    /// How many commits there are after one position up to another.
    fn commits(&self, after: Commit, to: Commit) -> u64 {
        u64::from(to.saturating_sub(after))
    }

    /// Bisects the snapshots before a position at which a rule is violated. The inner error says why the rule is unknown.
    fn window(&mut self, rule: &Rule, at: Commit) -> Result<Result<Window, String>, Stop> {
        let positions: Vec<Commit> = self
            .store
            .ledger()
            .snapshots
            .range(..at)
            .map(|(&at, _)| at)
            .collect();
        // Steps back from the end, each twice as long, to a state that held: the stretch that is still open began after it.
        let (mut low, mut high, mut judged) = (0, positions.len(), 1);
        let mut step = 1;
        while low < high {
            let middle = match low {
                0 => high.saturating_sub(step),
                _ => low + (high - low) / 2,
            };
            step *= 2;
            if middle == 0 && rule.within_us.is_some() {
                // Nothing can be overdue yet; what is bad there is known to be so when the commits are judged.
                low = 1;
                continue;
            }
            let outcome = self.state(rule, positions[middle])?;
            judged += 1;
            match outcome.verdict {
                Verdict::Held => low = middle + 1,
                Verdict::Violated => high = middle,
                Verdict::Unknown => {
                    let reason = outcome.reason.unwrap_or_default();
                    return Ok(Err(format!("at #{}: {reason}", positions[middle])));
                }
            }
        }
        let bad = positions.get(high).copied().unwrap_or(at);
        let good = low.checked_sub(1).map_or(bad, |last| positions[last]);
        Ok(Ok(Window { good, bad, judged }))
    }

    /// The verdict at a position.
    fn state(&mut self, rule: &Rule, at: Commit) -> Result<Outcome, Stop> {
        let range = (self.base(rule, at), at);
        if !self.judges.contains_key(&range) {
            let judge = self.judge(range.0, at)?;
            self.judges.insert(range, judge);
        }
        let judge = &self.judges[&range];
        let prepared = self.prepared(judge, rule, at)?;
        Ok(self.outcome(judge, prepared, at))
    }

    /// The snapshot from which on the history decides about a position: with `within`, what was bad at that snapshot and is so still is
    /// overdue.
    fn base(&self, rule: &Rule, at: Commit) -> Commit {
        let ledger = self.store.ledger();
        let near = ledger.snapshots.range(..=at).next_back();
        let Some(within) = rule.within_us else {
            return near.map_or(ledger.first, |(&near, _)| near);
        };
        let now = near.and_then(|(_, kept)| kept.time);
        let old = |kept: &&Kept| match (kept.time, now) {
            (Some(time), Some(now)) => time <= now.saturating_sub(within),
            _ => false,
        };
        let before = ledger.snapshots.range(..=at).map(|(_, kept)| kept);
        before
            .filter(old)
            .map(|kept| kept.at)
            .next_back()
            .unwrap_or(ledger.first)
    }

    fn outcome(&self, judge: &Judge, rule: Prepared, at: Commit) -> Outcome {
        let options = Options {
            sample: Some(0),
            ..self.asked.options(at)
        };
        let mut outcomes = judge.check(vec![rule], &options, &|_| {});
        outcomes.pop().expect("one rule, one outcome")
    }

    fn judge(&self, from: Commit, to: Commit) -> Result<Judge, Stop> {
        let is_snapshot = from == to && self.store.ledger().snapshots.contains_key(&to);
        let history = match is_snapshot {
            true => self.store.history_in_place(to),
            false => self.store.history_of(from..=to),
        };
        let history = history.map_err(|error| inputs::store_error(&error, self.directory))?;
        self.asked
            .arguments
            .limits
            .judge(&Arc::new(history), self.asked.config)
    }

    fn prepared(&self, judge: &Judge, rule: &Rule, at: Commit) -> Result<Prepared, Stop> {
        let prepared = judge.prepare(std::slice::from_ref(rule), &self.asked.options(at));
        let prepared = prepared.map_err(|found| output::wrong_input(&found, 0))?;
        Ok(prepared.into_iter().next().expect("one rule was prepared"))
    }

    /// Judges every commit between two states.
    fn between(&self, rule: &Rule, window: &Window) -> Result<Found, Stop> {
        let first = self.base(rule, window.good);
        let judge = self.judge(first, window.bad)?;
        let history: &History = judge.history();
        let range = Range {
            // What is bad there and was not overdue at the good state has healed by then.
            good: first,
            bad: window.bad,
            now_us: self.asked.arguments.place.now,
            ..Range::default()
        };
        let prepared = self.prepared(&judge, rule, window.bad)?;
        let found = one_rule(
            &judge,
            &prepared,
            history,
            &range,
            &self.asked.options(window.bad),
        );
        let mut found = found.unwrap_or_else(|error| Found::unknown(rule, error.to_string()));
        let redact = &self.asked.arguments.report.redact;
        found.common = bisect::common(&found, history, window.bad, redact);
        Ok(found)
    }
}
