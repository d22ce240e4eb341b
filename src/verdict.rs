//! What judging says: verdicts, violations, and the report of one run. Plain data: no engine, no rendering.

pub mod redact;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::change::{Commit, TransactionMeta};
use crate::rule::{Check, Rule, Severity};

/// The answer to "does this rule hold?". Unknown is never reported as held (invariant 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds, or no more than the threshold are bad.
    Held,
    /// It is violated.
    Violated,
    /// It could not be judged; the reason stands beside it.
    Unknown,
}

impl Verdict {
    /// The word used in files and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Held => "held",
            Verdict::Violated => "violated",
            Verdict::Unknown => "unknown",
        }
    }
}

/// One key that violates one rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    /// Key columns and values in key order, as CONTRACT section 4 writes them in JSON; `{}` for a whole table.
    pub key: Map<String, Value>,
    /// What is wrong with it: the columns the rule looked at and the figures it computed.
    pub evidence: Map<String, Value>,
    /// True when a baseline accepts it.
    pub accepted: bool,
}

/// What came out for one rule.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The rule.
    pub rule: Rule,
    /// The table as `schema.name`; None for `sql:` rules without a table.
    pub table: Option<String>,
    /// The verdict.
    pub verdict: Verdict,
    /// Number of different keys; None when unknown.
    pub violations: Option<u64>,
    /// Subject rows after `where`; None when unknown.
    pub judged: Option<u64>,
    /// Violations that no baseline accepts; None when unknown.
    pub new: Option<u64>,
    /// Why the verdict is unknown.
    pub reason: Option<String>,
    /// Violations in key order, at most as many as were asked for.
    pub sample: Vec<Violation>,
    /// Sum of the rule's `impact` over the violating rows, exact, as text.
    pub impact: Option<String>,
    /// Violations that are still within their grace (`within`) and so do not count yet.
    pub pending: u64,
    /// Wall time spent, in milliseconds.
    pub elapsed_ms: u64,
}

impl Outcome {
    /// True when the rule was judged but its subject matched no row: a holding verdict says nothing then.
    /// `sql` rules are never vacuous: when they hold, their query returns nothing.
    pub fn vacuous(&self) -> bool {
        let has_subject = !matches!(self.rule.check, Check::Sql { .. });
        has_subject && self.verdict == Verdict::Held && self.judged == Some(0)
    }

    /// True when the rule is violated by something that no baseline accepts.
    pub fn fails(&self) -> bool {
        self.verdict == Verdict::Violated && self.new != Some(0)
    }

    /// The rule's severity.
    pub fn severity(&self) -> Severity {
        self.rule.severity
    }
}

/// Something that bad writes have in common, with how often it occurs among them and among good writes of the same kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Factor {
    /// What it is: `context.version = v2.14.0`.
    pub factor: String,
    /// Bad writes that have it.
    pub bad: u64,
    /// All bad writes.
    pub bad_total: u64,
    /// Good writes that have it.
    pub good: u64,
    /// All good writes.
    pub good_total: u64,
}

/// A position with what is known of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct At {
    /// The commit; None where the source has no history.
    pub commit: Option<Commit>,
    /// The attributes of that commit; all absent at position 0.
    pub meta: TransactionMeta,
}

impl At {
    /// The commit's time as RFC 3339 in UTC, with as many digits as it needs; None where it is not known.
    pub fn time_text(&self) -> Option<String> {
        let time = chrono::DateTime::from_timestamp_micros(self.meta.time?)?;
        Some(time.format("%Y-%m-%dT%H:%M:%S%.fZ").to_string())
    }
}

/// JSON text without blanks and with sorted names: equal values have equal text.
pub fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            let one = |(name, value): (&String, &Value)| {
                format!("{}:{}", Value::from(name.as_str()), canonical(value))
            };
            format!(
                "{{{}}}",
                sorted.into_iter().map(one).collect::<Vec<_>>().join(",")
            )
        }
        Value::Array(items) => format!(
            "[{}]",
            items.iter().map(canonical).collect::<Vec<_>>().join(",")
        ),
        other => other.to_string(),
    }
}

/// A stable name for one violation of one rule: 32 hexadecimal digits, equal wherever rule id and key are equal. The order
/// of the key's columns does not count.
pub fn fingerprint(rule_id: &str, key: &Map<String, Value>) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(b"firstbad/violation@1\0")
        .update(rule_id.as_bytes())
        .update(b"\0");
    hasher.update(canonical(&Value::Object(key.clone())).as_bytes());
    let hex = hasher.finalize().to_hex();
    hex.get(..32).unwrap_or(&hex).to_owned()
}

/// What the user gave on the command line, so that the commands that a report tells to run next look at the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// The sources, as the user named them.
    pub source: Vec<String>,
    /// Flags that decide what is judged or shown, with their values, as `("--now", "2026-03-14T09:00:00Z")`.
    pub flags: Vec<(&'static str, String)>,
}

impl Given {
    /// Whether a flag was given.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|(name, _)| *name == flag)
    }
}

/// Everything that one `firstbad check` found.
#[derive(Clone, Debug)]
pub struct CheckReport {
    /// The source as the user named it.
    pub source: String,
    /// What else the user gave.
    pub given: Given,
    /// The position that was judged.
    pub at: At,
    /// One outcome a rule, in the order of the rule files.
    pub outcomes: Vec<Outcome>,
    /// Ids of rules that were left out because they have expired.
    pub expired: Vec<String>,
    /// The severity from which a violation makes the run fail.
    pub fail_on: Severity,
    /// Baseline entries (rule id, count) that are no longer violated.
    pub fixed: Vec<(String, u64)>,
    /// Wall time of the run in milliseconds.
    pub elapsed_ms: u64,
}

impl CheckReport {
    /// How many outcomes have this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.outcomes
            .iter()
            .filter(|outcome| outcome.verdict == verdict)
            .count()
    }

    /// True when a baseline had a say in this report: something was accepted, or something accepted is fixed.
    pub fn baselined(&self) -> bool {
        !self.fixed.is_empty()
            || self
                .outcomes
                .iter()
                .any(|outcome| outcome.new != outcome.violations)
    }

    /// The subjects that all rules judged, each rule counting its own.
    pub fn judged(&self) -> u64 {
        self.outcomes
            .iter()
            .filter_map(|outcome| outcome.judged)
            .fold(0, u64::saturating_add)
    }

    /// True when the outcome makes the run fail: violated by something new, at or above `fail_on`.
    pub fn fails(&self, outcome: &Outcome) -> bool {
        outcome.fails() && outcome.severity() >= self.fail_on
    }

    /// The exit code that CONTRACT section 1 gives this report: 1, 4 or 0.
    pub fn exit_code(&self) -> u8 {
        if self.outcomes.iter().any(|outcome| self.fails(outcome)) {
            1
        } else if self.count(Verdict::Unknown) > 0 {
            4
        } else {
            0
        }
    }
}
