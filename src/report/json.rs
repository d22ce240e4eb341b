//! `firstbad/check@1`: CONTRACT section 4. Keys are only ever added, behind those the contract names.

use serde_json::{Map, Value, json};

use crate::verdict::{At, CheckReport, Outcome, Verdict, Violation};

use super::Options;

/// The name of the document's form.
pub(super) const SCHEMA: &str = "firstbad/check@1";

pub(super) fn render(report: &CheckReport, options: &Options) -> String {
    let rules: Vec<Value> = report
        .outcomes
        .iter()
        .map(|outcome| rule(outcome, options))
        .collect();
    let mut document = Map::new();
    document.insert("schema".into(), SCHEMA.into());
    document.insert("source".into(), super::source(report).into());
    document.insert("at".into(), at(&report.at));
    document.insert("rules".into(), rules.into());
    document.extend(totals(report));
    let text = serde_json::to_string_pretty(&document).expect("a JSON value can always be written");
    super::safe_json(&text) + "\n"
}

/// What is said once for all rules: `summary`, `expired`, `fixed`.
pub(super) fn totals(report: &CheckReport) -> Map<String, Value> {
    let fixed: Map<String, Value> = report
        .fixed
        .iter()
        .map(|(id, count)| (id.clone(), (*count).into()))
        .collect();
    let mut totals = Map::new();
    let count = |verdict: Verdict| report.count(verdict);
    totals.insert(
        "summary".into(),
        json!({"held": count(Verdict::Held), "violated": count(Verdict::Violated), "unknown": count(Verdict::Unknown)}),
    );
    totals.insert("expired".into(), report.expired.clone().into());
    totals.insert("fixed".into(), fixed.into());
    totals
}

/// A position; attributes that are not known are null.
pub(crate) fn at(at: &At) -> Value {
    let mut out = json!({
        "commit": at.commit,
        "lsn": at.meta.lsn,
        "xid": at.meta.xid,
        "time": at.time_text(),
    });
    if let (Some(snapshot), Some(map)) = (&at.meta.snapshot, out.as_object_mut()) {
        map.insert("snapshot".into(), snapshot.clone().into());
    }
    out
}

fn rule(outcome: &Outcome, options: &Options) -> Value {
    let mut out = head(outcome);
    let sample: Vec<Value> = super::sample(outcome, options)
        .iter()
        .map(|v| violation(v).into())
        .collect();
    out.insert("sample".into(), sample.into());
    out.extend(details(outcome));
    out.into()
}

/// The contract's keys of a rule, without its sample.
pub(super) fn head(outcome: &Outcome) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("id".into(), outcome.rule.id.clone().into());
    out.insert("table".into(), outcome.table.clone().into());
    out.insert("severity".into(), outcome.severity().as_str().into());
    out.insert("verdict".into(), outcome.verdict.as_str().into());
    out.insert("violations".into(), outcome.violations.into());
    out.insert("judged".into(), outcome.judged.into());
    out.insert("new".into(), outcome.new.into());
    out.insert("reason".into(), outcome.reason.clone().into());
    out
}

/// What a rule says about itself and what else came out, behind the contract's keys.
pub(super) fn details(outcome: &Outcome) -> Map<String, Value> {
    let rule = &outcome.rule;
    let mut out = Map::new();
    out.insert("kind".into(), rule.check.kind().into());
    out.insert("description".into(), rule.description.clone().into());
    out.insert("owner".into(), rule.owner.clone().into());
    out.insert("tags".into(), rule.tags.clone().into());
    out.insert("runbook".into(), rule.runbook.clone().into());
    out.insert("impact".into(), outcome.impact.clone().into());
    out.insert("pending".into(), outcome.pending.into());
    out.insert("vacuous".into(), outcome.vacuous().into());
    out.insert(
        "location".into(),
        json!({"file": super::rule_file(outcome), "line": rule.span.line}),
    );
    out
}

/// One violation; `accepted` stands only where a baseline accepts it.
pub(super) fn violation(violation: &Violation) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("key".into(), violation.key.clone().into());
    out.insert("evidence".into(), violation.evidence.clone().into());
    if violation.accepted {
        out.insert("accepted".into(), true.into());
    }
    out
}
