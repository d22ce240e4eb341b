//! What decides whether violations are findings: `within`, `since`, `threshold`, `expires`; and what is said about them: impact, vacuity.

use serde_json::json;

use crate::place::Place;

/// Orders that need a shipment within ten minutes. At 10:00 order 1 is placed, at 10:05 order 2, at 10:08 the first is
/// shipped, at 10:30 something else happens; the shipment is removed at 11:00.
fn shop() -> Place {
    let changes = [
        (
            "10:00",
            "orders",
            r#""op": "insert", "after": {"id": 1, "total": "10.50"}"#,
        ),
        (
            "10:05",
            "orders",
            r#""op": "insert", "after": {"id": 2, "total": "0.25"}"#,
        ),
        (
            "10:08",
            "shipments",
            r#""op": "insert", "after": {"id": 91, "order_id": 1}"#,
        ),
        ("10:30", "other", r#""op": "insert", "after": {"id": 1}"#),
        ("11:00", "shipments", r#""op": "delete", "key": {"id": 91}"#),
    ];
    let lines: String = changes
        .iter()
        .zip(1..)
        .map(|((time, table, change), commit)| {
            format!("{{\"commit\": {commit}, \"time\": \"2026-03-12T{time}:00Z\", \"changes\": [{{\"table\": \"{table}\", {change}}}]}}\n")
        })
        .collect();
    Place::new()
        .with(
            "d/schema.sql",
            "create table orders (id bigint primary key, total numeric(12,2)); create table other (id bigint primary key);\n\
             create table shipments (id bigint primary key, order_id bigint);",
        )
        .with("d/snapshot/other.csv", "id\n")
        .with("d/changes/1.ndjson", lines)
        .with(
            "d/rules/r.yaml",
            "table: orders\nrules:\n  - {id: unshipped, within: 10m, impact: total, has: {table: shipments, match: {order_id: id}}}\n",
        )
}

/// Keys that are findings, and how many are pending.
fn found(place: &Place, arguments: &[&str]) -> (serde_json::Value, serde_json::Value) {
    let ran = place.check(&[&["d"], arguments].concat());
    (
        ran.keys("unshipped"),
        ran.rule("unshipped")["pending"].clone(),
    )
}

#[test]
fn within_gives_time_to_heal() {
    let place = shop();
    let one = || json!([{"id": 1}]);
    let two = || json!([{"id": 2}]);
    let expected = [
        (&["--at", "#1"][..], json!([]), 1),
        (&["--at", "#2"], json!([]), 2),
        (&["--at", "#3"], json!([]), 1),
        (&["--at", "#4"], two(), 0),
        (&["--at", "#5"], two(), 1),
        (
            &["--at", "#3", "--now", "2026-03-12T10:15:00Z"],
            json!([]),
            1,
        ),
        (
            &["--at", "#3", "--now", "2026-03-12T10:15:00.000001Z"],
            two(),
            0,
        ),
        (&["--at", "#1", "--now", "2026-03-12T10:11:00Z"], one(), 0),
        (&["--now", "2026-03-12T11:10:00Z"], two(), 1),
        (
            &["--now", "2026-03-12T11:10:01Z"],
            json!([{"id": 1}, {"id": 2}]),
            0,
        ),
    ];
    for (arguments, keys, pending) in expected {
        assert_eq!(
            found(&place, arguments),
            (keys, json!(pending)),
            "{arguments:?}"
        );
    }
}

#[test]
fn a_pending_violation_fails_nothing() {
    let ran = shop().check(&["d", "--at", "#1"]).exits(0);
    let rule = ran.rule("unshipped");
    assert_eq!(
        (&rule["verdict"], &rule["violations"], &rule["new"]),
        (&json!("held"), &json!(0), &json!(0))
    );
}

#[test]
fn impact_is_exact() {
    let ran = shop()
        .check(&["d", "--now", "2026-03-12T12:00:00Z"])
        .exits(1);
    assert_eq!(ran.rule("unshipped")["impact"], "10.75");
}

#[test]
fn impact_is_that_of_findings_only() {
    let ran = shop().check(&["d"]).exits(1);
    assert_eq!(
        (
            &ran.rule("unshipped")["impact"],
            &ran.rule("unshipped")["pending"]
        ),
        (&json!("0.25"), &json!(1))
    );
}

#[test]
fn without_times_within_is_unknown_unless_now_is_given() {
    let place = Place::new()
        .with("d/schema.sql", "create table orders (id bigint primary key); create table shipments (id bigint primary key, order_id bigint);")
        .with("d/orders.csv", "id\n1\n")
        .with("d/rules/r.yaml", "table: orders\nrules:\n  - {id: unshipped, within: 10m, has: {table: shipments, match: {order_id: id}}}\n");
    let ran = place.check(&["d"]).exits(4);
    assert!(
        ran.rule("unshipped")["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("--now")),
        "{}",
        ran.out
    );
}

#[test]
fn fresh_needs_a_now_and_holds_at_exactly_its_age() {
    let place = Place::new()
        .with(
            "d/schema.sql",
            "create table t (id bigint primary key, at timestamptz);",
        )
        .with("d/t.csv", "id,at\n1,2026-03-12T10:00:00Z\n")
        .with(
            "d/rules/r.yaml",
            "table: t\nrules:\n  - {id: stale, fresh: {column: at, max_age: 1h}}\n",
        );
    place.check(&["d"]).exits(4);
    place
        .check(&["d", "--now", "2026-03-12T11:00:00Z"])
        .exits(0);
    place
        .check(&["d", "--now", "2026-03-12T11:00:00.000001Z"])
        .exits(1);
}

#[test]
fn since_leaves_out_what_began_earlier() {
    let place = shop();
    for (since, expected) in [
        ("'#2'", json!([{"id": 1}, {"id": 2}])),
        ("'#3'", json!([{"id": 1}])),
        ("2026-03-12T10:06:00Z", json!([{"id": 1}])),
    ] {
        place.write(
            "d/rules/r.yaml",
            format!("table: orders\nrules:\n  - {{id: unshipped, since: {since}, has: {{table: shipments, match: {{order_id: id}}}}}}\n"),
        );
        assert_eq!(
            place.check(&["d"]).exits(1).keys("unshipped"),
            expected,
            "since {since}"
        );
    }
}

fn hundred(rules: &str) -> Place {
    let rows: String = (1..=100)
        .map(|id| format!("{id},{}\n", if id <= 3 { "" } else { "x" }))
        .collect();
    Place::new()
        .with(
            "d/schema.sql",
            "create table t (id bigint primary key, a text);",
        )
        .with("d/t.csv", format!("id,a\n{rows}"))
        .with("d/rules/r.yaml", format!("table: t\nrules:\n{rules}"))
}

#[test]
fn a_threshold_tolerates_and_still_lists() {
    for (threshold, code) in [
        ("max: 3", 0),
        ("max: 2", 1),
        ("max_percent: 3", 0),
        ("max_percent: 2.9", 1),
        ("max: 0", 1),
    ] {
        let ran = hundred(&format!(
            "  - {{id: bad, threshold: {{{threshold}}}, not_null: [a]}}\n"
        ))
        .check(&["d"])
        .exits(code);
        let rule = ran.rule("bad");
        assert_eq!(
            rule["verdict"],
            if code == 0 { "held" } else { "violated" },
            "{threshold}"
        );
        assert_eq!(rule["violations"], 3, "{threshold}");
        assert_eq!(
            ran.keys("bad"),
            json!([{"id": 1}, {"id": 2}, {"id": 3}]),
            "{threshold}"
        );
    }
}

#[test]
fn a_rule_that_judged_nothing_says_so() {
    let place = hundred(
        "  - {id: misspelt, where: a = 'y', not_null: [a]}\n  - {id: real, not_null: [id]}\n",
    );
    let ran = place.check(&["d"]).exits(0);
    assert_eq!(
        (
            &ran.rule("misspelt")["verdict"],
            &ran.rule("misspelt")["vacuous"]
        ),
        (&json!("held"), &json!(true))
    );
    assert_eq!(ran.rule("real")["vacuous"], false);
    place
        .run(&["check", "d"])
        .exits(0)
        .says(&["misspelt matched no row", "1 vacuous"]);
}

#[test]
fn a_query_that_returns_nothing_is_not_vacuous() {
    let ran = hundred("  - {id: query, key: [id], sql: 'select id from t where id > 1000'}\n")
        .check(&["d"])
        .exits(0);
    assert_eq!(ran.rule("query")["vacuous"], false);
}

#[test]
fn an_expired_rule_is_left_out_and_named() {
    let place = hundred(
        "  - {id: old, expires: 2026-03-14, not_null: [a]}\n  - {id: real, not_null: [id]}\n",
    );
    place
        .check(&["d", "--now", "2026-03-14T12:00:00Z"])
        .exits(1);
    let ran = place
        .check(&["d", "--now", "2026-03-15T00:00:00Z"])
        .exits(0)
        .warns(&["`old`", "expired"]);
    let document = ran.json();
    assert_eq!(document["expired"], json!(["old"]));
    assert_eq!(document["rules"].as_array().map(Vec::len), Some(1));
}
