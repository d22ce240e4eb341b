use serde_json::{Map, Value, json};

use super::report::{self, Told};
use super::{Passed, Plan, Planned, Reason};
use crate::incident::State;
use crate::schema::TableName;

fn map(value: Value) -> Map<String, Value> {
    value.as_object().cloned().expect("an object")
}

fn order(id: &str, note: &str) -> Planned {
    Planned {
        table: TableName::new("public", "orders"),
        rules: vec!["odd-order".into()],
        onset: 7,
        shown_key: map(json!({"id": id})),
        shown: map(json!({"email": "redacted:00000000", "note": note})),
        hidden: vec!["email".into()],
        already: false,
        key: map(json!({"id": id})),
        image: map(json!({"id": id, "email": "ann@example.com", "note": note})),
    }
}

fn plan(rows: Vec<Planned>) -> Plan {
    let reasons = [Reason::Healed, Reason::Changed];
    let passed = reasons.map(|reason| Passed {
        rule: "odd-order".into(),
        table: Some(TableName::new("public", "orders")),
        key: map(json!({"id": "9"})),
        reason,
    });
    Plan {
        incident: "I-3".into(),
        state: State::Open,
        store: "abc".into(),
        head: 12,
        rows,
        passed: passed.into(),
        compared: true,
        incomplete: false,
    }
}

#[test]
fn sql_holds_texts_of_any_kind_and_nothing_that_is_hidden() {
    let hostile = "it's \\ \"x\"\n\u{202e}; drop table orders";
    let sql = report::sql(&plan(vec![order(hostile, "n")]));
    let expected = "-- I-3: 1 row to be set apart\nbegin;\n\
        select place, outcome from firstbad.quarantine_rows('abc', 'I-3', 'public', 'orders', \
        E'[{\"key\":{\"id\":\"it''s \\\\\\\\ \\\\\"x\\\\\"\\\\n\\\\u202e; drop table orders\"},\
        \"image\":{\"id\":\"it''s \\\\\\\\ \\\\\"x\\\\\"\\\\n\\\\u202e; drop table orders\",\"note\":\"n\"}}]', true);\ncommit;\n";
    assert_eq!(sql, expected);
    let mut keyed = order("ann@example.com", "n");
    keyed.hidden.push("id".into());
    let sql = report::sql(&plan(vec![keyed]));
    assert!(!sql.contains("ann@example.com"), "{sql}");
    assert!(
        sql.contains("-- 1 row left out: the rule hides the key"),
        "{sql}"
    );
    // The same text under another name is hidden with it.
    let mut copied = order("4", "redacted:00000000");
    copied.image.insert("note".into(), "ann@example.com".into());
    let sql = report::sql(&plan(vec![copied]));
    assert!(!sql.contains("ann@example.com"), "{sql}");
}

#[test]
fn people_see_what_is_set_apart_and_what_is_not() {
    let mut again = order("5", "n");
    again.already = true;
    again.rules.push("other".into());
    let text = report::text(&plan(vec![order("4", "a\u{1b}[2J"), again]), Told::Applied);
    let expected = "I-3: 1 row is set apart, 1 already, 1 passed over, 1 good again (rows as of #12)\n\n\
        orders\n\
        \x20 id = 4  since #7  email = redacted:00000000, note = a\\u{1b}[2J\n\
        \x20 id = 5  since #7  odd-order, other  email = redacted:00000000, note = n  (already)\n\n\
        passed over\n\
        \x20 orders id = 9: it has changed since\n";
    assert_eq!(text, expected);
    let many = (0..60).map(|id| order(&id.to_string(), "n")).collect();
    let text = report::text(&plan(many), Told::Plan);
    assert!(
        text.contains("\n  and 10 more\n") && text.ends_with("\nNothing was changed.\n"),
        "{text}"
    );
}
