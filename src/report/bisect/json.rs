//! `firstbad/bisect@1`: CONTRACT section 4. Keys are only ever added, behind those the contract names.

use serde_json::{Map, Value, json};

use super::super::{file_of, json::at, safe_json, source_shown};
use crate::bisect::{BisectReport, FirstBad, Found, Onset, RowChange};
use crate::schema::value;
use crate::verdict::{At, Factor};

/// The name of the document's form.
const SCHEMA: &str = "firstbad/bisect@1";

pub(in crate::report) fn render(report: &BisectReport) -> String {
    let mut document = Map::new();
    document.insert("schema".into(), SCHEMA.into());
    document.extend(head(report));
    let rules = report
        .found
        .iter()
        .map(|found| Value::Object(rule(found, true)));
    document.insert("rules".into(), rules.collect());
    document.extend(totals(report));
    let text = serde_json::to_string_pretty(&document).expect("a JSON value can always be written");
    safe_json(&text) + "\n"
}

/// For every rule a line `"type": "rule"` without onsets, then one `"type": "onset"` for each; at the end one `"type": "summary"`.
pub(in crate::report) fn lines(report: &BisectReport) -> String {
    let mut out = String::new();
    let mut push = |kind: &str, body: Map<String, Value>| {
        let mut line = Map::new();
        line.insert("schema".into(), SCHEMA.into());
        line.insert("type".into(), kind.into());
        line.extend(body);
        out.push_str(&safe_json(&Value::Object(line).to_string()));
        out.push('\n');
    };
    for found in &report.found {
        push("rule", rule(found, false));
        for each in &found.onsets {
            let mut line = Map::new();
            line.insert("rule".into(), found.id().into());
            line.extend(onset(each));
            push("onset", line);
        }
    }
    let mut summary = head(report);
    summary.extend(totals(report));
    push("summary", summary);
    out
}

fn head(report: &BisectReport) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("source".into(), source_shown(&report.source).into());
    out.insert("at".into(), at(&report.at));
    if report.good > 0 {
        out.insert("good".into(), json!({"commit": report.good}));
    }
    if let Some(command) = &report.command {
        out.insert("command".into(), command.clone().into());
    }
    out
}

fn totals(report: &BisectReport) -> Map<String, Value> {
    let [held, violated, unknown] = report.counts;
    let mut out = Map::new();
    out.insert(
        "summary".into(),
        json!({"held": held, "violated": violated, "unknown": unknown}),
    );
    out.insert("expired".into(), report.expired.clone().into());
    out
}

fn rule(found: &Found, with_onsets: bool) -> Map<String, Value> {
    let mut out = Map::new();
    let table = found.rule.as_ref().and_then(|rule| rule.table.as_ref());
    out.insert("id".into(), found.id().into());
    out.insert(
        "table".into(),
        table.map(|table| table.value.to_string()).into(),
    );
    out.insert("severity".into(), found.severity().as_str().into());
    out.insert("verdict".into(), found.verdict.as_str().into());
    out.insert(
        "certainty".into(),
        found.certainty.map(|certainty| certainty.as_str()).into(),
    );
    out.insert("reason".into(), found.reason.clone().into());
    out.insert(
        "first_bad".into(),
        found.first_bad.as_ref().map_or(Value::Null, first_bad),
    );
    out.insert(
        "last_good".into(),
        found.last_good.as_ref().map_or(Value::Null, last_good),
    );
    let earlier = found.earlier.iter();
    let earlier =
        earlier.map(|stretch| json!({"from": stretch.from.commit, "to": stretch.to.commit}));
    out.insert("earlier".into(), earlier.collect());
    if with_onsets {
        let onsets = found.onsets.iter().map(|each| Value::Object(onset(each)));
        out.insert("onsets".into(), onsets.collect());
    }
    out.insert("violations".into(), found.violations.into());
    out.insert("pre_existing".into(), found.pre_existing.into());
    out.insert("judged_states".into(), found.judged_states.into());
    out.insert("common".into(), found.common.iter().map(factor).collect());
    out.insert("pending".into(), found.pending.into());
    if let Some(passed_over) = found.sampled {
        out.insert("states_passed_over".into(), passed_over.into());
    }
    if let Some(several) = &found.candidates {
        out.insert(
            "candidates".into(),
            json!({"from": several.from, "to": several.to}),
        );
    }
    if let Some(rule) = &found.rule {
        out.insert("kind".into(), rule.check.kind().into());
        out.insert("description".into(), rule.description.clone().into());
        out.insert("owner".into(), rule.owner.clone().into());
        out.insert("tags".into(), rule.tags.clone().into());
        out.insert("runbook".into(), rule.runbook.clone().into());
        out.insert(
            "location".into(),
            json!({"file": file_of(rule), "line": rule.span.line}),
        );
    }
    out
}

/// A transaction as the contract shows it: its attributes, context, and changes.
fn first_bad(first: &FirstBad) -> Value {
    let mut out = at(&first.at);
    if let Some(map) = out.as_object_mut() {
        map.insert("context".into(), first.at.meta.context.clone().into());
        map.insert("changes".into(), first.changes.iter().map(change).collect());
        if first.left_off > 0 {
            map.insert("changes_left_off".into(), first.left_off.into());
        }
    }
    out
}

pub(in crate::report) fn change(change: &RowChange) -> Value {
    json!({
        "table": change.table,
        "op": change.op,
        "key": change.key,
        "before": change.before,
        "after": change.after,
    })
}

fn last_good(at: &At) -> Value {
    let mut out = json!({"commit": at.commit});
    if let (Some(snapshot), Some(map)) = (&at.meta.snapshot, out.as_object_mut()) {
        map.insert("snapshot".into(), snapshot.clone().into());
    }
    out
}

/// `deadline` stands only with rules that have `within`.
fn onset(onset: &Onset) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("key".into(), onset.key.clone().into());
    out.insert("commit".into(), onset.commit.into());
    out.insert("healed".into(), onset.healed.into());
    if let Some(deadline) = onset.deadline {
        out.insert("deadline".into(), value::format_timestamp(deadline).into());
    }
    out
}

fn factor(factor: &Factor) -> Value {
    json!({
        "factor": factor.factor,
        "bad": factor.bad,
        "bad_total": factor.bad_total,
        "good": factor.good,
        "good_total": factor.good_total,
    })
}
