//! Facts about rules and writes as JSON, as the database keeps them.

use serde_json::{Map, Value, json};

use super::{RuleFacts, Write};
use crate::change::Commit;
use crate::rule::{Severity, Threshold};

pub(super) fn severity(text: &str) -> Option<Severity> {
    use Severity::{Critical, Error, Info, Warn};
    [Info, Warn, Error, Critical]
        .into_iter()
        .find(|one| one.as_str() == text)
}

fn text(value: &Value, name: &str) -> Option<String> {
    Some(value.get(name)?.as_str()?.to_owned())
}

fn texts(value: &Value, name: &str) -> Vec<String> {
    let items = value.get(name).and_then(Value::as_array);
    let texts = items.into_iter().flatten().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

impl RuleFacts {
    pub(super) fn to_json(&self) -> String {
        let threshold = match &self.threshold {
            None => Value::Null,
            Some(Threshold::Max(max)) => json!({"max": max}),
            Some(Threshold::MaxPercent(percent)) => json!({"max_percent": percent}),
        };
        json!({
            "id": self.id,
            "description": self.description,
            "table": self.table,
            "severity": self.severity.as_str(),
            "owner": self.owner,
            "runbook": self.runbook,
            "within_us": self.within_us,
            "threshold": threshold,
            "event": self.event,
            "key": self.key,
            "redact": self.redact,
            "reads": self.reads,
            "yaml": self.yaml,
            "sql": self.sql,
        })
        .to_string()
    }

    /// None for anything that [`RuleFacts::to_json`] did not write.
    pub(super) fn from_json(json: &str) -> Option<RuleFacts> {
        let value: Value = serde_json::from_str(json).ok()?;
        let threshold = value.get("threshold")?;
        let percent = || Some(Threshold::MaxPercent(text(threshold, "max_percent")?));
        let max = threshold.get("max").and_then(Value::as_u64);
        Some(RuleFacts {
            id: text(&value, "id")?,
            description: text(&value, "description"),
            table: text(&value, "table"),
            severity: severity(value.get("severity")?.as_str()?)?,
            owner: text(&value, "owner"),
            runbook: text(&value, "runbook"),
            within_us: value.get("within_us").and_then(Value::as_i64),
            threshold: max.map(Threshold::Max).or_else(percent),
            event: value.get("event")?.as_bool()?,
            key: texts(&value, "key"),
            redact: texts(&value, "redact"),
            reads: texts(&value, "reads"),
            yaml: text(&value, "yaml"),
            sql: text(&value, "sql"),
        })
    }

    /// How many findings are tolerated.
    pub(super) fn limit(&self, judged: u64) -> u64 {
        match &self.threshold {
            None => 0,
            Some(Threshold::Max(max)) => *max,
            // The most that do not exceed it, by bisection: one arithmetic, that of `exceeds`.
            Some(_) => {
                let (mut low, mut high) = (0, judged);
                while low < high {
                    let middle = low + (high - low).div_ceil(2);
                    match self.exceeds(middle, judged) {
                        true => high = middle - 1,
                        false => low = middle,
                    }
                }
                low
            }
        }
    }

    /// Whether so many findings violate the rule.
    pub(super) fn exceeds(&self, bad: u64, judged: u64) -> bool {
        crate::judge::exceeds(self.threshold.as_ref(), bad, judged)
    }
}

impl Write {
    /// A write with its commit, as the database keeps it.
    pub(super) fn to_json(&self, commit: Commit) -> String {
        json!({
            "commit": commit,
            "lsn": self.lsn,
            "xid": self.xid,
            "time": self.time,
            "context": self.context,
            "last_good": self.last_good,
        })
        .to_string()
    }

    /// None for anything that [`Write::to_json`] did not write.
    pub(super) fn from_json(json: &str) -> Option<(Commit, Write)> {
        let value: Value = serde_json::from_str(json).ok()?;
        let number = |name: &str| value.get(name).and_then(Value::as_u64);
        let write = Write {
            lsn: text(&value, "lsn"),
            xid: number("xid"),
            time: value.get("time").and_then(Value::as_i64),
            context: value.get("context").and_then(Value::as_object).cloned(),
            last_good: number("last_good").and_then(|last| last.try_into().ok()),
        };
        Some((number("commit")?.try_into().ok()?, write))
    }
}

/// An object, as it was written; empty for anything else.
pub(super) fn object(json: &str) -> Map<String, Value> {
    serde_json::from_str(json).unwrap_or_default()
}
