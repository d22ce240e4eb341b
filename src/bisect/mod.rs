//! From the lives of violations to the first bad write: stretches, onsets, deadlines, what was bad before.
//!
//! Plain functions over [`Lives`] and a [`History`]; nothing is judged here. The words are those of CONTRACT section 4: a *stretch* is an
//! unbroken run of commits after each of which the rule is violated with a share of keys that broke within the range; `first_bad` is the
//! transaction that began the stretch that is still open at its end.

mod common;
mod grace;
mod report;
pub mod run;
mod stretch;

#[cfg(test)]
mod tests;

pub use common::{common, common_of_keys};
pub use report::{BisectReport, Candidates, FirstBad, Found, RowChange, position, redact};
pub use stretch::{Certainty, Onset, Pace, Stretch};

use std::collections::BTreeSet;

use crate::change::Commit;
use crate::judge::{Lives, Looked, exceeds};
use crate::rule::Rule;
use crate::state::{History, Origin};
use crate::verdict::Verdict;
use serde_json::{Map, Value};
use stretch::Finding;

/// Which part of a history is looked at, and which keys.
#[derive(Clone, Debug, Default)]
pub struct Range {
    /// What is bad at this position was bad before: it is never blamed on a transaction. 0 without `--good`, which is the first state
    /// also of a history that begins later.
    pub good: Commit,
    /// The position that is judged.
    pub bad: Commit,
    /// Only violations that begin with this commit or later count (the later of the rule's `since` and `--since`); 0 for all.
    pub since: Commit,
    /// Only these keys count; each names some key columns and their values. All when empty.
    pub keys: Vec<Map<String, Value>>,
    /// The time that stands for *now* instead of the timeline's, in microseconds.
    pub now_us: Option<i64>,
}

impl Range {
    /// The first position whose state has to be judged, so that every onset that matters is known.
    pub fn first_judged(&self, rule: &Rule) -> Commit {
        match (self.since.checked_sub(1), rule.within_us) {
            (Some(before), _) => before.min(self.good),
            // The age of what was bad before decides whether it is overdue.
            (None, Some(_)) => 0,
            (None, None) => self.good,
        }
    }

    /// Whether a key is among those that count.
    fn wants(&self, key: &Map<String, Value>) -> bool {
        self.keys.is_empty() || self.keys.iter().any(|wanted| names(wanted, key))
    }

    /// Whether a rule with these key columns has any of the keys that count.
    pub fn fits(&self, columns: &[String]) -> bool {
        let has_all =
            |wanted: &Map<String, Value>| wanted.keys().all(|name| columns.contains(name));
        self.keys.is_empty() || self.keys.iter().any(has_all)
    }
}

/// Whether a key has all the values that some columns are wanted with; numbers and their text are the same.
fn names(wanted: &Map<String, Value>, key: &Map<String, Value>) -> bool {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let same =
        |a: &Value, b: &Value| a == b || (!a.is_null() && !b.is_null() && text(a) == text(b));
    wanted
        .iter()
        .all(|(name, value)| key.get(name).is_some_and(|have| same(value, have)))
}

/// What the lives of a rule's violations come to. The error says why the rule is unknown.
///
/// # Errors
/// When a time that `within` needs is missing.
pub fn locate(
    rule: &Rule,
    lives: &Lives,
    history: &History,
    range: &Range,
) -> Result<Found, String> {
    let findings = stretch::findings(rule, lives, history, range)?;
    let tolerated = rule
        .threshold
        .as_ref()
        .map(|threshold| &threshold.value)
        // Who asks for keys wants to know of them, however few they are.
        .filter(|_| range.keys.is_empty());
    let too_many = |bad: u64, judged: u64| exceeds(tolerated, bad, judged);
    let sweep = stretch::sweep(&findings.counted, lives.judged.as_deref(), range, &too_many);
    let verdict = if sweep.violated {
        Verdict::Violated
    } else {
        Verdict::Held
    };
    let gap = sweep.open.and_then(|open| history.gap_ended_by(open));
    let (sampled, vague) = match &lives.looked {
        Looked::Everywhere => (None, None),
        Looked::Sampled { passed_over, vague } => {
            let before = sweep.open.and_then(|open| vague.get(&open).copied());
            (Some(*passed_over), before)
        }
    };
    let before = vague.or(gap.map(|gap| gap.before()));
    let certainty = match (verdict, sweep.open, history.origin) {
        (Verdict::Violated, None, _) => Some(Certainty::PreExisting),
        (Verdict::Violated, Some(_), _) if before.is_some() => Some(Certainty::Bounded),
        (Verdict::Violated, Some(_), Origin::DatedSnapshots) => Some(Certainty::Bounded),
        (Verdict::Violated, Some(_), _) => Some(Certainty::Exact),
        _ => None,
    };
    Ok(Found {
        verdict,
        certainty,
        first_bad: sweep.open.map(|commit| first_bad(history, commit)),
        last_good: sweep
            .open
            .map(|commit| position(history, before.unwrap_or(commit.saturating_sub(1)))),
        earlier: sweep
            .closed
            .iter()
            .map(|&(from, to)| closed(&findings.counted, history, from, to))
            .collect(),
        pace: sweep
            .open
            .and_then(|from| stretch::pace(&findings.counted, history, from)),
        onsets: findings.counted.iter().map(Finding::onset).collect(),
        violations: Some(sweep.bad),
        pre_existing: sweep.pre_existing,
        pending: findings.pending,
        judged_states: lives.judged_states,
        candidates: before.zip(sweep.open).map(|(before, to)| Candidates {
            from: before + 1,
            to,
        }),
        gap,
        sampled,
        ..Found::of(rule)
    })
}

fn closed(findings: &[Finding<'_>], history: &History, from: Commit, to: Commit) -> Stretch {
    let running = findings.iter().filter(|finding| finding.runs(from, to));
    let keys: BTreeSet<&[u8]> = running.map(Finding::order).collect();
    Stretch {
        from: position(history, from),
        to: position(history, to),
        keys: keys.len() as u64,
    }
}

/// The most changes of one transaction that a report holds.
const CHANGES_MAX: usize = 10_000;

/// A transaction with its changes.
pub fn first_bad(history: &History, commit: Commit) -> FirstBad {
    let changes = history.recorded(commit, CHANGES_MAX);
    let all = history.recorded_count(commit);
    FirstBad {
        at: position(history, commit),
        changes: changes
            .iter()
            .map(|change| RowChange::new(&history.schema, change))
            .collect(),
        left_off: all.saturating_sub(CHANGES_MAX) as u64,
    }
}
