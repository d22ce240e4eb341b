//! The report of a bisection: plain data, rendered by the report module.

use serde_json::{Map, Value};

use super::{Certainty, Onset, Pace, Stretch};
use crate::change::{Change, Commit, Image, TransactionMeta};
use crate::rule::{Rule, Severity};
use crate::schema::{Schema, value};
use crate::state::{Gap, History, Origin};
use crate::verdict::{At, Factor, Given, Verdict, redact as hiding};

/// One recorded change with its cells as JSON; what is not known is left out.
#[derive(Clone, Debug, PartialEq)]
pub struct RowChange {
    /// The table as `schema.name`.
    pub table: String,
    /// What was done: insert, update, delete or truncate.
    pub op: &'static str,
    /// The primary key before the change, or after it where the row is new; None without a primary key.
    pub key: Option<Map<String, Value>>,
    /// The row before.
    pub before: Option<Map<String, Value>>,
    /// The row after.
    pub after: Option<Map<String, Value>>,
}

impl RowChange {
    /// A change of a table of the schema.
    pub fn new(schema: &Schema, change: &Change) -> Self {
        let table = &schema.tables[change.table];
        let cells = |image: &Image| {
            let cell = |(at, cell): &(usize, crate::change::Cell)| {
                let column = &table.columns[*at];
                (column.name.clone(), value::to_json(&column.data_type, cell))
            };
            image.iter().map(cell).collect()
        };
        RowChange {
            table: table.name.to_string(),
            op: change.op.as_str(),
            key: change.key.as_ref().map(cells),
            before: change.before.as_ref().map(cells),
            after: change.after.as_ref().map(cells),
        }
    }
}

/// The transaction that began the open stretch.
#[derive(Clone, Debug, PartialEq)]
pub struct FirstBad {
    /// Its position and attributes.
    pub at: At,
    /// Its changes in order.
    pub changes: Vec<RowChange>,
    /// How many more it has.
    pub left_off: u64,
}

/// Positions among which the first bad one is, because they could not be told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidates {
    /// The first of them.
    pub from: Commit,
    /// The last of them, which is bad.
    pub to: Commit,
}

/// What came out for one rule, or for a command that judges in its place.
#[derive(Clone, Debug)]
pub struct Found {
    /// The rule; None where a command judges.
    pub rule: Option<Rule>,
    /// The verdict at the end of the range.
    pub verdict: Verdict,
    /// Why it is unknown.
    pub reason: Option<String>,
    /// How sure `first_bad` is; None for what holds.
    pub certainty: Option<Certainty>,
    /// The transaction that began the open stretch.
    pub first_bad: Option<FirstBad>,
    /// The position before it.
    pub last_good: Option<At>,
    /// Stretches that are over.
    pub earlier: Vec<Stretch>,
    /// How the violations of the open stretch came.
    pub pace: Option<Pace>,
    /// Every key's violations, by commit and key.
    pub onsets: Vec<Onset>,
    /// Different keys that are bad at the end; None where it is not known.
    pub violations: Option<u64>,
    /// Keys that were bad at the start of the range.
    pub pre_existing: u64,
    /// Keys that are bad and still have time to heal.
    pub pending: u64,
    /// How many states were judged.
    pub judged_states: u64,
    /// States that were passed over, where not every one was judged.
    pub sampled: Option<u64>,
    /// Several positions among which the first bad one is.
    pub candidates: Option<Candidates>,
    /// The gap that the first bad commit ends: what happened in it was not seen.
    pub gap: Option<Gap>,
    /// What bad writes have in common that good ones have not.
    pub common: Vec<Factor>,
}

impl Found {
    fn blank(rule: Option<Rule>) -> Self {
        Found {
            rule,
            verdict: Verdict::Unknown,
            reason: None,
            certainty: None,
            first_bad: None,
            last_good: None,
            earlier: Vec::new(),
            pace: None,
            onsets: Vec::new(),
            violations: None,
            pre_existing: 0,
            pending: 0,
            judged_states: 0,
            sampled: None,
            candidates: None,
            gap: None,
            common: Vec::new(),
        }
    }

    /// Nothing found yet.
    pub(crate) fn of(rule: &Rule) -> Self {
        Self::blank(Some(rule.clone()))
    }

    pub(super) fn of_command() -> Self {
        Self::blank(None)
    }

    /// A rule that could not be judged.
    pub fn unknown(rule: &Rule, reason: String) -> Self {
        Found {
            reason: Some(reason),
            ..Self::of(rule)
        }
    }

    /// Whether there is anything to report: it is violated, was, or is not known.
    pub fn speaks(&self) -> bool {
        self.verdict != Verdict::Held || !self.onsets.is_empty() || !self.earlier.is_empty()
    }

    /// The rule's id; `run` for a command.
    pub fn id(&self) -> &str {
        self.rule.as_ref().map_or("run", |rule| rule.id.as_str())
    }

    /// The severity; that of an error for a command.
    pub fn severity(&self) -> Severity {
        self.rule
            .as_ref()
            .map_or(Severity::Error, |rule| rule.severity)
    }
}

/// Everything that one `firstbad bisect` found.
#[derive(Clone, Debug)]
pub struct BisectReport {
    /// The source as the user named it.
    pub source: String,
    /// The position that was judged.
    pub at: At,
    /// The start of the range.
    pub good: Commit,
    /// What was found, in the order of the rule files; rules that hold and always did are counted only.
    pub found: Vec<Found>,
    /// How many rules hold, are violated, are unknown.
    pub counts: [u64; 3],
    /// Ids of rules that were left out because they have expired.
    pub expired: Vec<String>,
    /// The severity from which a violation makes the run fail.
    pub fail_on: Severity,
    /// What else the user gave.
    pub given: Given,
    /// The command that judged, instead of rules.
    pub command: Option<String>,
    /// Wall time of the run in milliseconds.
    pub elapsed_ms: u64,
}

impl BisectReport {
    /// The exit code that CONTRACT section 1 gives this report: 1, 4 or 0.
    pub fn exit_code(&self) -> u8 {
        let fails =
            |found: &Found| found.verdict == Verdict::Violated && found.severity() >= self.fail_on;
        if self.found.iter().any(fails) {
            1
        } else if self.counts[2] > 0 {
            4
        } else {
            0
        }
    }
}

/// A position with what is known of it.
pub fn position(history: &History, commit: Commit) -> At {
    if history.origin == Origin::SingleState {
        // A database has a time all the same.
        return At {
            commit: None,
            meta: history.base.clone(),
        };
    }
    let start = || TransactionMeta {
        snapshot: history.first_snapshot.clone(),
        ..TransactionMeta::default()
    };
    At {
        commit: Some(commit),
        meta: history.meta(commit).cloned().unwrap_or_else(start),
    }
}

/// Hides the values of each rule's `redact:` columns and of `columns` in keys and images.
pub fn redact(report: &mut BisectReport, columns: &[String]) {
    for found in &mut report.found {
        let Some(rule) = found.rule.clone() else {
            continue;
        };
        for onset in &mut found.onsets {
            hiding::hide_maps(&rule, columns, [&mut onset.key]);
        }
        for change in found
            .first_bad
            .iter_mut()
            .flat_map(|first| &mut first.changes)
        {
            let images = [&mut change.key, &mut change.before, &mut change.after];
            hiding::hide_maps(&rule, columns, images.into_iter().flatten());
        }
        for factor in &mut found.common {
            if let Some((name, _)) = factor.factor.split_once(" = ")
                && hiding::hides(&rule, columns, name)
            {
                factor.factor = format!("{name} = redacted");
            }
        }
    }
}
