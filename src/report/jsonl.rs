//! `firstbad/check@1` a line at a time: for every rule a line `"type": "rule"`, then one `"type": "violation"` for each
//! violation of its sample, and at the end one `"type": "summary"`. For `jq`, log shippers and loading into tables.

use serde_json::{Map, Value};

use crate::verdict::CheckReport;

use super::{Options, json};

pub(super) fn render(report: &CheckReport, options: &Options) -> String {
    let mut out = String::new();
    for outcome in &report.outcomes {
        let mut rule = json::head(outcome);
        rule.extend(json::details(outcome));
        push(&mut out, "rule", rule);
        for violation in super::sample(outcome, options) {
            let mut line = Map::new();
            line.insert("rule".into(), outcome.rule.id.clone().into());
            line.extend(json::violation(violation));
            push(&mut out, "violation", line);
        }
    }
    let mut summary = Map::new();
    summary.insert("source".into(), super::source(report).into());
    summary.insert("at".into(), json::at(&report.at));
    summary.extend(json::totals(report));
    push(&mut out, "summary", summary);
    out
}

fn push(out: &mut String, kind: &str, body: Map<String, Value>) {
    let mut line = Map::new();
    line.insert("schema".into(), json::SCHEMA.into());
    line.insert("type".into(), kind.into());
    line.extend(body);
    out.push_str(&super::safe_json(&Value::Object(line).to_string()));
    out.push('\n');
}
