//! SARIF 2.1.0 (OASIS): rules as reporting descriptors, one result a violation, at the place of the rule in its file.
//!
//! Row values stand in messages, which have a syntax of their own (sections 3.11.5 and 3.11.6): braces are doubled and
//! links are broken, so that a value can be neither a placeholder nor a link; `properties` hold the values as they are. `partialFingerprints` make a result the
//! same one in every run, whatever else was found.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::rule::Severity;
use crate::verdict::{CheckReport, Outcome, Verdict, Violation, fingerprint};

use super::{Options, shown_cut};

/// A message or description is cut after so many characters.
const TEXT_MAX: usize = 1_000;
/// The results of one run; code scanning services refuse files with more than 25,000.
const RESULTS_MAX: usize = 25_000;

pub(super) fn render(report: &CheckReport, options: &Options) -> String {
    let rules: Vec<Value> = report.outcomes.iter().map(descriptor).collect();
    let mut results = Vec::new();
    for (index, outcome) in report
        .outcomes
        .iter()
        .enumerate()
        .filter(|(_, o)| o.verdict == Verdict::Violated)
    {
        let listed = super::sample(outcome, options);
        let room = RESULTS_MAX.saturating_sub(results.len());
        results.extend(
            listed
                .iter()
                .take(room)
                .map(|violation| result(report, index, outcome, Some(violation))),
        );
        if listed.is_empty() && room > 0 {
            results.push(result(report, index, outcome, None));
        }
    }
    let document = json!({
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "firstbad",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "invocations": [{
                "executionSuccessful": report.count(Verdict::Unknown) == 0,
                "toolExecutionNotifications": notifications(report, options),
            }],
            "columnKind": "unicodeCodePoints",
            "results": results,
            "properties": {"source": super::source(report), "at": super::json::at(&report.at)},
        }],
    });
    let text = serde_json::to_string_pretty(&document).expect("a JSON value can always be written");
    super::safe_json(&text) + "\n"
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::Error => "error",
        Severity::Warn => "warning",
        Severity::Info => "note",
    }
}

/// Foreign text as a message: one line, without the syntax of placeholders and links.
fn message(text: &str) -> Value {
    json!({ "text": text.replace('{', "{{").replace('}', "}}").replace("](", "] (") })
}

/// What a rule says about itself.
fn descriptor(outcome: &Outcome) -> Value {
    let rule = &outcome.rule;
    let kind = rule.check.kind();
    let subject = super::table_name(outcome).map_or(String::new(), |table| {
        format!(" on {}", shown_cut(table, TEXT_MAX))
    });
    let short = format!("{}: {kind}{subject}", shown_cut(&rule.id, TEXT_MAX));
    let full = rule
        .description
        .as_deref()
        .map_or(short.clone(), |text| shown_cut(text, TEXT_MAX));
    let mut out = json!({
        "id": rule.id,
        "shortDescription": message(&short),
        "fullDescription": message(&full),
        "defaultConfiguration": {"level": level(rule.severity)},
    });
    let mut properties = Map::new();
    if !rule.tags.is_empty() {
        let different: std::collections::BTreeSet<&String> = rule.tags.iter().collect();
        properties.insert("tags".into(), json!(different));
    }
    properties.extend(
        rule.owner
            .as_ref()
            .map(|owner| ("owner".to_owned(), json!(owner))),
    );
    properties.insert("severity".into(), rule.severity.as_str().into());
    properties.insert("kind".into(), kind.into());
    if let Some(map) = out.as_object_mut() {
        map.extend(
            rule.runbook
                .as_deref()
                .and_then(help_uri)
                .map(|uri| ("helpUri".to_owned(), uri.into())),
        );
        map.insert("properties".into(), properties.into());
    }
    out
}

/// The runbook as a URI, when it is one that a browser opens.
fn help_uri(runbook: &str) -> Option<String> {
    let opens = ["https://", "http://"]
        .iter()
        .any(|scheme| runbook.starts_with(scheme));
    opens.then(|| percent_encoded(runbook, "-._~/:?#[]@!$&'()*+,;=%"))
}

/// One violation; None stands for a rule of which no violation is listed.
fn result(
    report: &CheckReport,
    index: usize,
    outcome: &Outcome,
    violation: Option<&Violation>,
) -> Value {
    let rule = &outcome.rule;
    let said = match violation {
        Some(violation) => shown_cut(&super::violation_line(violation), TEXT_MAX),
        None => super::figures(report, outcome),
    };
    let what = rule.description.as_deref().map_or(String::new(), |text| {
        format!(". {}", shown_cut(text, TEXT_MAX))
    });
    let key = violation
        .map(|violation| violation.key.clone())
        .unwrap_or_default();
    let mut out = json!({
        "ruleId": rule.id,
        "ruleIndex": index,
        "level": level(rule.severity),
        "message": message(&format!("{}: {said}{what}", shown_cut(&rule.id, TEXT_MAX))),
        "locations": [location(outcome)],
        "partialFingerprints": {"firstbadRuleKey/v1": fingerprint(&rule.id, &key)},
    });
    let (Some(map), Some(violation)) = (out.as_object_mut(), violation) else {
        return out;
    };
    if report.baselined() {
        map.insert(
            "baselineState".into(),
            if violation.accepted {
                "unchanged"
            } else {
                "new"
            }
            .into(),
        );
    }
    if violation.accepted {
        map.insert(
            "suppressions".into(),
            json!([{"kind": "external", "justification": "accepted by the baseline"}]),
        );
    }
    map.insert(
        "properties".into(),
        json!({"key": violation.key, "evidence": violation.evidence}),
    );
    out
}

fn location(outcome: &Outcome) -> Value {
    let span = &outcome.rule.span;
    let mut physical =
        json!({"artifactLocation": {"uri": artifact_uri(&super::rule_file(outcome))}});
    if span.line > 0
        && let Some(map) = physical.as_object_mut()
    {
        let mut region = json!({"startLine": span.line});
        if span.column > 0 {
            region = json!({"startLine": span.line, "startColumn": span.column, "endColumn": span.column + span.length.max(1)});
        }
        map.insert("region".into(), region);
    }
    json!({ "physicalLocation": physical })
}

/// A path as a URI reference: relative where the path is.
fn artifact_uri(path: &str) -> String {
    let encoded = percent_encoded(path, "-._~/!$&'()*+,;=@");
    if path.starts_with('/') {
        format!("file://{encoded}")
    } else {
        encoded
    }
}

/// Every byte that is neither a letter, a digit, nor among `kept`, as `%XX`.
fn percent_encoded(text: &str, kept: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || kept.as_bytes().contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Rules that could not be judged, and how much of the violated ones is not listed.
fn notifications(report: &CheckReport, options: &Options) -> Vec<Value> {
    let mut out = Vec::new();
    for (index, outcome) in report.outcomes.iter().enumerate() {
        let id = shown_cut(&outcome.rule.id, TEXT_MAX);
        let (level, text) = match outcome.verdict {
            Verdict::Unknown => {
                let reason = outcome.reason.as_deref().unwrap_or("no reason was given");
                (
                    "error",
                    format!("{id} could not be judged: {}", shown_cut(reason, TEXT_MAX)),
                )
            }
            Verdict::Violated => {
                let listed =
                    u64::try_from(super::sample(outcome, options).len()).unwrap_or(u64::MAX);
                let all = outcome.violations.unwrap_or(listed);
                if all <= listed {
                    continue;
                }
                (
                    "note",
                    format!(
                        "{id}: {} of {} listed; --sample all lists them all",
                        super::grouped(listed),
                        super::counted(all, "violation")
                    ),
                )
            }
            Verdict::Held if outcome.vacuous() => ("note", format!("{id} matched no row")),
            Verdict::Held => continue,
        };
        out.push(json!({
            "level": level,
            "message": message(&text),
            "associatedRule": {"id": outcome.rule.id, "index": index},
            "locations": [location(outcome)],
        }));
    }
    out
}
