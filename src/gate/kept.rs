//! What a watcher keeps for gates beside its incidents: which rules it judges and what they read, and up to where it has judged.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::ask::severity;
use super::{Known, RuleState, UpTo};
use crate::incident::{IncidentError, Incidents, Judged, Reading, RuleFacts};
use crate::rule::Severity;
use crate::verdict::Verdict;

/// The rules that are watched.
const RULES: &str = "gate.rules";
/// Up to where they were judged.
const POSITION: &str = "gate.position";

/// What a watched rule reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reads {
    /// The rule's id.
    pub rule: String,
    /// How bad a violation is.
    pub severity: Severity,
    /// Tables as `schema.name`, its subject among them.
    pub tables: BTreeSet<String>,
    /// Whether it judges writes.
    pub event: bool,
}

impl Reads {
    /// Of a rule that is watched.
    pub fn of(rule: &RuleFacts) -> Reads {
        let tables = rule.reads.iter().chain(&rule.table);
        Reads {
            rule: rule.id.clone(),
            severity: rule.severity,
            tables: tables.cloned().collect(),
            event: rule.event,
        }
    }
}

/// Keeps which rules are judged from now on.
///
/// # Errors
/// When the incidents' database cannot be written.
pub fn keep_rules(incidents: &mut Incidents, rules: &[Reads]) -> Result<(), IncidentError> {
    let rule = |rule: &Reads| {
        json!({
            "id": rule.rule,
            "severity": rule.severity.as_str(),
            "tables": rule.tables,
            "event": rule.event,
        })
    };
    let rules: Value = rules.iter().map(rule).collect();
    incidents.set_setting(RULES, &rules.to_string())
}

/// Keeps up to where everything was judged.
///
/// # Errors
/// When the incidents' database cannot be written.
pub fn keep_position(incidents: &mut Incidents, at: &UpTo) -> Result<(), IncidentError> {
    let at = json!({"commit": at.commit, "lsn": at.lsn, "time": at.time});
    incidents.set_setting(POSITION, &at.to_string())
}

/// What a watcher knows; None where none has judged into the store.
///
/// # Errors
/// When the incidents' database cannot be read.
pub fn watched(reading: &Reading) -> Result<Option<Known>, IncidentError> {
    let judged = reading.judged(&[RULES, POSITION])?;
    let [rules, position] = judged.settings.as_slice() else {
        return Ok(None);
    };
    let Some(rules) = rules.as_deref().and_then(read_rules) else {
        return Ok(None);
    };
    // A watcher that has only just begun has kept no position yet.
    let position = position.as_deref().and_then(read_position);
    let position = position.unwrap_or_default();
    Ok(Some(known(&judged, &rules, position)))
}

fn known(judged: &Judged, rules: &[Reads], position: UpTo) -> Known {
    let mut open: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (rule, incident) in &judged.open {
        open.entry(rule).or_default().push(incident.clone());
    }
    let mut out = Known {
        up_to: position,
        gaps: judged
            .gaps
            .iter()
            .map(|(first, last, _)| (*first, *last))
            .collect(),
        ..Known::default()
    };
    for rule in rules {
        let found = judged.rules.iter().find(|one| one.id == rule.rule);
        let (verdict, reason) = match found.map(|one| one.verdict.as_str()) {
            Some("held") => (Verdict::Held, None),
            Some("violated") => (Verdict::Violated, None),
            Some(_) => (Verdict::Unknown, found.and_then(|one| one.reason.clone())),
            None => (Verdict::Unknown, Some("it was not judged yet".to_owned())),
        };
        out.rules.push(RuleState {
            id: rule.rule.clone(),
            severity: rule.severity,
            verdict,
            reason,
            bad: found.map_or(0, |one| one.bad),
            pending: found.map_or(0, |one| one.pending),
            tables: rule.tables.clone(),
            incidents: open.remove(rule.rule.as_str()).unwrap_or_default(),
            event: rule.event,
        });
    }
    out.rules.sort_by(|a, b| a.id.cmp(&b.id));
    for (rule, incidents) in open {
        let Some(found) = judged.rules.iter().find(|one| one.id == rule) else {
            continue;
        };
        let tables = found.table.iter().cloned().collect();
        let said = format!(
            "{rule} is not judged any more, and {} is not closed: `firstbad incident close` it when that is over",
            incidents.join(", ")
        );
        out.left.push((tables, said));
    }
    out
}

/// None for anything that [`keep_rules`] did not write.
fn read_rules(text: &str) -> Option<Vec<Reads>> {
    let value: Value = serde_json::from_str(text).ok()?;
    let rule = |value: &Value| {
        let tables = value.get("tables")?.as_array()?.iter();
        let tables = tables.map(|table| Some(table.as_str()?.to_owned()));
        Some(Reads {
            rule: value.get("id")?.as_str()?.to_owned(),
            severity: severity(value.get("severity")?.as_str()?)?,
            tables: tables.collect::<Option<_>>()?,
            event: value.get("event")?.as_bool()?,
        })
    };
    value.as_array()?.iter().map(rule).collect()
}

/// None for anything that [`keep_position`] did not write.
fn read_position(text: &str) -> Option<UpTo> {
    let value: Value = serde_json::from_str(text).ok()?;
    let lsn = value.get("lsn")?.as_str();
    Some(UpTo {
        commit: Some(value.get("commit")?.as_u64()?.try_into().ok()?),
        lsn: lsn.map(str::parse).transpose().ok()?,
        time: value.get("time")?.as_i64(),
    })
}
