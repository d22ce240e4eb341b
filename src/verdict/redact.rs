//! Taking values out of a report before anything is written: a rule's `redact:` columns and `--redact`.
//!
//! A value becomes `redacted:1a2b3c4d`, a short hash of column and value: equal values stay equal, so keys can still be
//! told apart and followed from run to run. Somebody who can guess a value can check the guess; where that matters, leave
//! the column out of the key and the evidence. NULL stays NULL.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{CheckReport, Violation};
use crate::rule::Rule;

/// What stands for a hidden value begins so.
pub const PREFIX: &str = "redacted:";

/// Hides the values of each rule's `redact:` columns and of `columns`, in keys and evidence, however deep they stand. The
/// names are columns without their table. Text that equals a hidden text of the same violation is hidden under any name.
pub fn apply(report: &mut CheckReport, columns: &[String]) {
    for outcome in &mut report.outcomes {
        let hidden = hidden_columns(&outcome.rule, columns);
        if !hidden.is_empty() {
            outcome
                .sample
                .iter_mut()
                .for_each(|violation| hide(violation, &hidden));
        }
    }
}

/// True when a column of this key is hidden: then the key must not be written down either.
pub fn hides_key(rule: &Rule, columns: &[String], key: &Map<String, Value>) -> bool {
    let hidden = hidden_columns(rule, columns);
    key.keys()
        .any(|name| hidden_column(name, &hidden).is_some())
}

fn hidden_columns<'a>(rule: &'a Rule, columns: &'a [String]) -> BTreeSet<&'a str> {
    rule.redact
        .iter()
        .map(|column| column.value.as_str())
        .chain(columns.iter().map(String::as_str))
        .collect()
}

/// The hidden column that an entry of this name shows: `email`, `before_email`, `email_after`, `customers.email`.
fn hidden_column<'a>(name: &str, hidden: &BTreeSet<&'a str>) -> Option<&'a str> {
    let plain = name.rsplit('.').next().unwrap_or(name);
    let shows = |column: &str| {
        let around = |rest: &str| {
            matches!(
                rest.trim_matches('_'),
                "before" | "after" | "old" | "new" | "a" | "b" | "other"
            )
        };
        plain == column
            || plain
                .strip_suffix(column)
                .is_some_and(|rest| rest.ends_with('_') && around(rest))
            || plain
                .strip_prefix(column)
                .is_some_and(|rest| rest.starts_with('_') && around(rest))
    };
    hidden
        .iter()
        .copied()
        .find(|column| name == *column || shows(column))
}

/// Hides the values of a rule's `redact:` columns and of `columns` in some objects that belong together: a row's images, a key.
pub fn hide_maps<'a>(
    rule: &Rule,
    columns: &[String],
    maps: impl IntoIterator<Item = &'a mut Map<String, Value>>,
) {
    let hidden = hidden_columns(rule, columns);
    if !hidden.is_empty() {
        hide_all(maps.into_iter().collect(), &hidden);
    }
}

/// The same where only the names of the columns are known.
pub fn hide_columns<'a>(
    columns: &[String],
    maps: impl IntoIterator<Item = &'a mut Map<String, Value>>,
) {
    let hidden: BTreeSet<&str> = columns.iter().map(String::as_str).collect();
    if !hidden.is_empty() {
        hide_all(maps.into_iter().collect(), &hidden);
    }
}

/// Whether an entry of this name would be hidden.
pub fn hides(rule: &Rule, columns: &[String], name: &str) -> bool {
    hidden_column(name, &hidden_columns(rule, columns)).is_some()
}

/// The same where only the names of the columns are known.
pub fn hides_name(columns: &[String], name: &str) -> bool {
    hidden_column(name, &columns.iter().map(String::as_str).collect()).is_some()
}

fn hide(violation: &mut Violation, hidden: &BTreeSet<&str>) {
    hide_all(vec![&mut violation.key, &mut violation.evidence], hidden);
}

fn hide_all(mut maps: Vec<&mut Map<String, Value>>, hidden: &BTreeSet<&str>) {
    let mut texts = BTreeSet::new();
    for map in &mut maps {
        hide_named(map, hidden, &mut texts);
    }
    for map in &mut maps {
        map.values_mut().for_each(|value| hide_equal(value, &texts));
    }
}

/// Hides entries by name and collects the texts they held, each with what stands for it.
fn hide_named(
    map: &mut Map<String, Value>,
    hidden: &BTreeSet<&str>,
    texts: &mut BTreeSet<(String, String)>,
) {
    for (name, value) in map.iter_mut() {
        match hidden_column(name, hidden) {
            Some(column) => hide_value(value, column, texts),
            None => hide_nested(value, hidden, texts),
        }
    }
}

fn hide_nested(value: &mut Value, hidden: &BTreeSet<&str>, texts: &mut BTreeSet<(String, String)>) {
    match value {
        Value::Object(map) => hide_named(map, hidden, texts),
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| hide_nested(item, hidden, texts)),
        _ => {}
    }
}

fn hide_value(value: &mut Value, column: &str, texts: &mut BTreeSet<(String, String)>) {
    if value.is_null() {
        return;
    }
    let mark = mark(column, value);
    if let Value::String(text) = value
        && !text.is_empty()
    {
        texts.insert((std::mem::take(text), mark.clone()));
    }
    *value = mark.into();
}

fn hide_equal(value: &mut Value, texts: &BTreeSet<(String, String)>) {
    match value {
        Value::String(text) => {
            if let Some((_, mark)) = texts.iter().find(|(hidden, _)| hidden == text) {
                text.clone_from(mark);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| hide_equal(item, texts)),
        Value::Object(map) => map.values_mut().for_each(|item| hide_equal(item, texts)),
        _ => {}
    }
}

fn mark(column: &str, value: &Value) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(b"firstbad/redact@1\0")
        .update(column.as_bytes())
        .update(b"\0");
    hasher.update(super::canonical(value).as_bytes());
    let hex = hasher.finalize().to_hex();
    format!("{PREFIX}{}", hex.get(..8).unwrap_or(&hex))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hidden(key: Value, evidence: Value, columns: &[&str]) -> Violation {
        let map = |value: Value| value.as_object().cloned().unwrap_or_default();
        let mut violation = Violation {
            key: map(key),
            evidence: map(evidence),
            accepted: false,
        };
        hide(&mut violation, &columns.iter().copied().collect());
        violation
    }

    #[test]
    fn values_go_wherever_they_stand_and_keys_stay_different() {
        let secret = "ann@example.com";
        let evidence = json!({
            "before_email": secret, "email_after": "bob@example.com", "customers.email": secret, "count": 2, "shown": secret,
            "rows": [{"id": 1, "email": secret, "deep": {"email": [secret]}}, {"id": 2, "email": null}],
        });
        let one = hidden(json!({"email": secret, "id": 7}), evidence, &["email"]);
        let text = format!("{:?}{:?}", one.key, one.evidence);
        assert!(!text.contains("example.com"), "{text}");
        assert_eq!(one.key["id"], json!(7));
        assert_eq!(
            (&one.evidence["count"], &one.evidence["rows"][1]["email"]),
            (&json!(2), &Value::Null)
        );
        assert_eq!(one.evidence["before_email"], one.key["email"]);
        let other = hidden(json!({"email": "bob@example.com"}), json!({}), &["email"]);
        assert_ne!(one.key["email"], other.key["email"]);
        assert!(
            other.key["email"]
                .as_str()
                .is_some_and(|mark| mark.len() == "redacted:1a2b3c4d".len())
        );
    }

    #[test]
    fn other_columns_stay() {
        let one = hidden(
            json!({"email_id": 1, "mail": "m"}),
            json!({"emails": 3, "total": "9.95"}),
            &["email", "al"],
        );
        assert_eq!(
            serde_json::to_string(&one.key).unwrap_or_default(),
            r#"{"email_id":1,"mail":"m"}"#
        );
        assert_eq!(
            serde_json::to_string(&one.evidence).unwrap_or_default(),
            r#"{"emails":3,"total":"9.95"}"#
        );
    }
}
