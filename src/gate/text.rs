//! What a gate says, for people.

use super::{Answer, Gate, RuleState, TableGate, UpTo};
use crate::diagnostic::grouped;
use crate::escape::terminal;
use crate::schema::TableName;
use crate::schema::value::format_timestamp;
use crate::verdict::Verdict;

impl Gate {
    /// One line for all tables, and one for each that is not clean, with why.
    pub fn text(&self) -> String {
        let mut out = self.answer.words().to_owned();
        if let Some(up_to) = self.up_to.text() {
            out += &format!(" up to {up_to}");
        }
        if let Some(reason) = &self.reason {
            out += &format!(": {}", terminal(reason));
        }
        out.push('\n');
        let width = self
            .tables
            .iter()
            .map(|table| table.shown().chars().count());
        let width = width.max().unwrap_or(0);
        for table in &self.tables {
            let (name, answer) = (table.shown(), table.answer.words());
            let line = format!("  {name:width$}  {answer:9}  {}", table.why());
            out += line.trim_end();
            out.push('\n');
        }
        out
    }
}

impl UpTo {
    /// `0/2A00F10 (#1934, 2026-03-12 16:03:51Z)`; None where nothing is known.
    fn text(&self) -> Option<String> {
        let commit = self.commit.map(|commit| format!("#{commit}"));
        let time = self
            .time
            .map(|time| format_timestamp(time).replace('T', " "));
        let parts: Vec<String> = commit.into_iter().chain(time).collect();
        match (self.lsn, parts.is_empty()) {
            (Some(lsn), true) => Some(lsn.to_string()),
            (Some(lsn), false) => Some(format!("{lsn} ({})", parts.join(", "))),
            (None, true) => None,
            (None, false) => Some(parts.join(", ")),
        }
    }
}

impl TableGate {
    fn shown(&self) -> String {
        terminal(&TableName::parse(&self.table).short())
    }

    fn why(&self) -> String {
        let violated = |rule: &&RuleState| rule.verdict == Verdict::Violated;
        let mut parts: Vec<String> = self.rules.iter().filter(violated).map(said).collect();
        if self.answer == Answer::Unknown || parts.is_empty() {
            parts.extend(self.reasons.iter().map(|reason| terminal(reason)));
        }
        parts.join("; ")
    }
}

/// `paid-order-without-shipment (critical): 2 bad, I-3`
fn said(rule: &RuleState) -> String {
    let severity = rule.severity.as_str();
    let mut out = format!("{} ({severity})", terminal(&rule.id));
    let bad = (rule.bad > 0).then(|| format!("{} bad", grouped(rule.bad)));
    let parts: Vec<String> = bad
        .into_iter()
        .chain(rule.incidents.iter().cloned())
        .collect();
    if !parts.is_empty() {
        out += &format!(": {}", parts.join(", "));
    }
    out
}
