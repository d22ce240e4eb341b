//! What each kind of receiver is sent.

use serde_json::{Map, Value, json};

use super::message::{Course, Message};
use super::text::cut;
use crate::config::Secret;
use crate::rule::Severity;
use crate::schema::value::format_timestamp;

/// The longest summary that PagerDuty takes, in bytes, and the longest block of text that Slack takes.
const SUMMARY_MAX: usize = 1_024;
const BLOCK_MAX: usize = 2_900;
/// An alert that Alertmanager is not told of again is over after minutes, unless it says when: so long, in microseconds.
const YEAR: i64 = 365 * 24 * 3_600 * 1_000_000;

/// A message for Slack: a block that turns nothing into links by itself, and the same as plain text for what knows no blocks.
pub(super) fn slack(text: &str) -> Value {
    let block = cut(text, BLOCK_MAX);
    json!({
        "text": text,
        "unfurl_links": false,
        "unfurl_media": false,
        "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": block, "verbatim": true}}],
    })
}

/// PagerDuty's word for a severity.
fn pagerduty_severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "critical",
        Severity::Error => "error",
        Severity::Warn => "warning",
        Severity::Info => "info",
    }
}

/// Events for PagerDuty, in order: somebody who takes care of an incident that nobody was paged for is told after the page.
pub(super) fn pagerduty(message: &Message, text: &str, routing_key: &Secret) -> Vec<Value> {
    let event = |action: &str| {
        json!({
            "routing_key": routing_key.value(),
            "event_action": action,
            "dedup_key": message.thread,
        })
    };
    let trigger = || {
        let mut out = event("trigger");
        let waiting = &message.waiting;
        out["client"] = "firstbad".into();
        out["payload"] = json!({
            "summary": cut(&message.title(), SUMMARY_MAX),
            "source": message.text_of("table").unwrap_or("firstbad"),
            "severity": pagerduty_severity(waiting.severity),
            "timestamp": waiting.time.map(format_timestamp),
            "class": message.rule(),
            "custom_details": message.document(text),
        });
        if let Some(runbook) = message.runbook() {
            out["links"] = json!([{"href": runbook, "text": "runbook"}]);
        }
        out
    };
    match message.course() {
        Course::On => vec![trigger()],
        Course::Cared { known: true } => vec![event("acknowledge")],
        Course::Cared { known: false } => vec![trigger(), event("acknowledge")],
        Course::Over => vec![event("resolve")],
    }
}

/// An alert for Alertmanager, and its labels: alerts with other labels are other alerts, so those that were sent before end those.
pub(super) fn alertmanager(message: &Message, text: &str) -> (Value, String) {
    let waiting = &message.waiting;
    let mut labels = Map::new();
    let mut label = |name: &str, value: &str| {
        if !value.is_empty() {
            labels.insert(name.to_owned(), value.into());
        }
    };
    label("alertname", message.rule());
    label("job", "firstbad");
    label("severity", waiting.severity.as_str());
    label("incident", &message.thread);
    label("table", message.text_of("table").unwrap_or_default());
    label("owner", message.text_of("owner").unwrap_or_default());
    let mut annotations = Map::new();
    annotations.insert("summary".into(), message.title().into());
    annotations.insert("description".into(), text.into());
    if let Some(runbook) = message.runbook() {
        annotations.insert("runbook_url".into(), runbook.into());
    }
    let now = waiting.time.unwrap_or(message.now);
    let begin = message.text_of("opened").map(str::to_owned);
    let begin = begin.unwrap_or_else(|| format_timestamp(now));
    let end = match message.course() {
        Course::Over => format_timestamp(now),
        _ => format_timestamp(now.saturating_add(YEAR)),
    };
    let mut alerts = Vec::new();
    let memory = Value::Object(labels.clone()).to_string();
    let before = waiting.memory.as_ref().filter(|before| **before != memory);
    if let Some(Value::Object(before)) = before.and_then(|text| serde_json::from_str(text).ok()) {
        let over = format_timestamp(now);
        alerts
            .push(json!({"labels": before, "annotations": {}, "startsAt": begin, "endsAt": over}));
    }
    alerts.push(
        json!({"labels": labels, "annotations": annotations, "startsAt": begin, "endsAt": end}),
    );
    (Value::Array(alerts), memory)
}
