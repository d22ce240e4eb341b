//! `firstbad bisect`: each sentence of CONTRACT section 4 about it, and what the command says, refuses and exits with.

use serde_json::{Value, json};

use crate::place::{Place, Ran, run};

/// A history of orders: each transaction is its minute after 10:00 and its changes.
fn orders(snapshot: &str, transactions: &[(u32, &str)], rules: &str) -> Place {
    let line = |(commit, (minute, changes)): (u32, &(u32, &str))| {
        let time = format!("2026-03-12T{:02}:{:02}:00Z", 10 + minute / 60, minute % 60);
        format!(
            "{{\"commit\": {commit}, \"lsn\": \"0/{:X}\", \"xid\": {}, \"time\": \"{time}\", \"context\": {{\"service\": \"s{commit}\"}}, \
             \"changes\": [{changes}]}}\n",
            4096 + commit,
            700 + commit
        )
    };
    let lines: String = (1..).zip(transactions).map(line).collect();
    Place::new()
        .with(
            "d/schema.sql",
            "create table orders (id bigint primary key, total numeric(12,2), note text);\n\
             create table shipments (id bigint primary key, order_id bigint);",
        )
        .with(
            "d/snapshot/orders.csv",
            format!("id,total,note\n{snapshot}"),
        )
        .with("d/changes/1.ndjson", lines)
        .with("d/rules/r.yaml", format!("table: orders\nrules:\n{rules}"))
}

const NOT_NULL: &str = "  - {id: no-total, not_null: [total]}\n";

/// An order's total is set, or with `null` taken away.
fn set(id: u32, total: &str) -> String {
    format!(
        "{{\"table\": \"orders\", \"op\": \"update\", \"key\": {{\"id\": {id}}}, \"after\": {{\"total\": {total}}}}}"
    )
}

fn history(transactions: &[(u32, String)], rules: &str) -> Place {
    let transactions: Vec<(u32, &str)> = transactions
        .iter()
        .map(|(minute, changes)| (*minute, changes.as_str()))
        .collect();
    orders("1,5.00,\n2,5.00,\n3,5.00,\n", &transactions, rules)
}

fn bisect(place: &Place, arguments: &[&str]) -> Ran {
    place.run(&[&["bisect", "d", "--format", "json"], arguments].concat())
}

/// `[key, commit, healed]` of every onset.
fn onsets(rule: &Value) -> Value {
    let onsets = rule["onsets"].as_array().expect("onsets");
    onsets
        .iter()
        .map(|onset| json!([onset["key"]["id"], onset["commit"], onset["healed"]]))
        .collect()
}

#[test]
fn a_stretch_runs_while_any_key_is_bad_and_first_bad_began_the_open_one() {
    let place = history(
        &[
            (1, set(1, "null")),
            (2, set(2, "null")),
            (3, set(1, "6")),
            (4, set(2, "6")),
            (5, set(3, "6")),
            (6, set(2, "null")),
            (7, set(3, "null")),
            (8, set(2, "7")),
        ],
        NOT_NULL,
    );
    let ran = bisect(&place, &[]).exits(1);
    let rule = ran.rule("no-total");
    assert_eq!(rule["verdict"], "violated");
    assert_eq!(rule["certainty"], "exact");
    assert_eq!(rule["earlier"], json!([{"from": 1, "to": 4}]));
    // Key 2 began it and has healed; the stretch goes on with key 3.
    assert_eq!(rule["first_bad"]["commit"], 6);
    assert_eq!(rule["last_good"], json!({"commit": 5}));
    assert_eq!(rule["violations"], 1);
    assert_eq!(rule["pre_existing"], 0);
    assert_eq!(rule["judged_states"], 9);
    assert_eq!(
        onsets(&rule),
        json!([[1, 1, 3], [2, 2, 4], [2, 6, 8], [3, 7, null]])
    );
    let document = ran.json();
    assert_eq!(document["schema"], "firstbad/bisect@1");
    assert_eq!(document["at"]["commit"], 8);
    assert_eq!(
        document["summary"],
        json!({"held": 0, "violated": 1, "unknown": 0})
    );
}

#[test]
fn the_first_bad_write_is_the_whole_transaction() {
    let changes = format!(
        "{}, {{\"table\": \"shipments\", \"op\": \"insert\", \"after\": {{\"id\": 9, \"order_id\": 1}}}}, \
         {{\"table\": \"shipments\", \"op\": \"delete\", \"key\": {{\"id\": 9}}}}, {{\"table\": \"shipments\", \"op\": \"truncate\"}}",
        set(1, "null")
    );
    let place = history(&[(1, changes)], NOT_NULL);
    let rule = bisect(&place, &[]).exits(1).rule("no-total");
    let shipment = json!({"id": 9, "order_id": 1});
    assert_eq!(
        rule["first_bad"],
        json!({
            "commit": 1, "lsn": "0/1001", "xid": 701, "time": "2026-03-12T10:01:00Z", "context": {"service": "s1"},
            "changes": [
                {"table": "public.orders", "op": "update", "key": {"id": 1},
                 "before": {"id": 1, "total": "5.00", "note": null}, "after": {"id": 1, "total": null, "note": null}},
                {"table": "public.shipments", "op": "insert", "key": {"id": 9}, "before": null, "after": shipment},
                {"table": "public.shipments", "op": "delete", "key": {"id": 9}, "before": shipment, "after": null},
                {"table": "public.shipments", "op": "truncate", "key": null, "before": null, "after": null},
            ],
        })
    );
}

#[test]
fn what_was_bad_at_the_start_never_makes_a_first_bad() {
    let old = orders("1,,\n2,5.00,\n", &[(1, &set(2, "6"))], NOT_NULL);
    let rule = bisect(&old, &[]).exits(1).rule("no-total");
    assert_eq!(
        (&rule["certainty"], &rule["first_bad"], &rule["last_good"]),
        (&json!("pre_existing"), &Value::Null, &Value::Null)
    );
    assert_eq!(rule["pre_existing"], 1);
    assert_eq!(onsets(&rule), json!([[1, 0, null]]));

    // Beside it, a key broke within the history; the old one heals, and comes back as a new one.
    let changes = [set(2, "null"), set(1, "1"), set(2, "1"), set(1, "null")];
    let changes: Vec<(u32, &str)> = (1..).zip(changes.iter().map(String::as_str)).collect();
    let both = orders("1,,\n2,5.00,\n", &changes, NOT_NULL);
    let rule = bisect(&both, &[]).exits(1).rule("no-total");
    assert_eq!(rule["earlier"], json!([{"from": 1, "to": 3}]));
    assert_eq!(rule["first_bad"]["commit"], 4);
    assert_eq!(
        (&rule["pre_existing"], &rule["violations"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(onsets(&rule), json!([[1, 0, 2], [2, 1, 3], [1, 4, null]]));
}

#[test]
fn a_rule_that_holds_has_no_first_bad_and_is_listed_when_it_was_violated_or_is_named() {
    let place = history(
        &[(1, set(1, "null")), (2, set(1, "1"))],
        &format!("{NOT_NULL}  - {{id: always, not_null: [id]}}\n"),
    );
    let ran = bisect(&place, &[]).exits(0);
    let rule = ran.rule("no-total");
    assert_eq!(
        (&rule["verdict"], &rule["certainty"], &rule["first_bad"]),
        (&json!("held"), &Value::Null, &Value::Null)
    );
    assert_eq!(rule["earlier"], json!([{"from": 1, "to": 2}]));
    assert_eq!(ran.json()["rules"].as_array().map(Vec::len), Some(1));
    assert_eq!(ran.json()["summary"]["held"], 2);
    let named = bisect(&place, &["--rule", "always"])
        .exits(0)
        .rule("always");
    assert_eq!(
        (&named["earlier"], &named["onsets"]),
        (&json!([]), &json!([]))
    );
    // At an earlier position it is violated.
    let rule = bisect(&place, &["--at", "#1"]).exits(1).rule("no-total");
    assert_eq!(rule["first_bad"]["commit"], 1);
    assert_eq!(onsets(&rule), json!([[1, 1, null]]));
}

/// Orders that need a shipment within ten minutes.
fn shipping() -> Place {
    let insert = |table: &str, row: &str| {
        format!("{{\"table\": \"{table}\", \"op\": \"insert\", \"after\": {row}}}")
    };
    let transactions = [
        (0, insert("orders", r#"{"id": 1, "total": "1"}"#)),
        (1, insert("orders", r#"{"id": 2, "total": "1"}"#)),
        (2, insert("orders", r#"{"id": 3, "total": "1"}"#)),
        // In time, to the second.
        (10, insert("shipments", r#"{"id": 91, "order_id": 1}"#)),
        // Late.
        (12, insert("shipments", r#"{"id": 92, "order_id": 2}"#)),
        // A new violation with a grace of its own.
        (
            40,
            r#"{"table": "shipments", "op": "delete", "key": {"id": 91}}"#.to_owned(),
        ),
        (49, insert("orders", r#"{"id": 4, "total": "1"}"#)),
    ];
    let transactions: Vec<(u32, &str)> = transactions
        .iter()
        .map(|(minute, change)| (*minute, change.as_str()))
        .collect();
    let rule = "  - {id: unshipped, within: 10m, has: {table: shipments, match: {order_id: id}}}\n";
    orders("", &transactions, rule)
}

#[test]
fn within_counts_what_did_not_heal_in_time_from_the_write_that_began_it() {
    let place = shipping();
    let rule = bisect(&place, &[]).exits(1).rule("unshipped");
    assert_eq!(
        rule["onsets"],
        json!([
            {"key": {"id": 2}, "commit": 2, "healed": 5, "deadline": "2026-03-12T10:11:00Z"},
            {"key": {"id": 3}, "commit": 3, "healed": null, "deadline": "2026-03-12T10:12:00Z"},
        ])
    );
    // One stretch: a key counts from its onset.
    assert_eq!(
        (&rule["first_bad"]["commit"], &rule["earlier"]),
        (&json!(2), &json!([]))
    );
    assert_eq!(
        (&rule["violations"], &rule["pending"]),
        (&json!(1), &json!(2))
    );
    // Later, the removed shipment and the last order are overdue as well.
    let rule = bisect(&place, &["--now", "2026-03-12T11:00:00Z"])
        .exits(1)
        .rule("unshipped");
    assert_eq!(
        onsets(&rule),
        json!([[2, 2, 5], [3, 3, null], [1, 6, null], [4, 7, null]])
    );
    // At the deadline itself there is still time.
    let still = |now: &str| {
        let rule =
            bisect(&place, &["--rule", "unshipped", "--at", "#3", "--now", now]).rule("unshipped");
        (rule["violations"].clone(), rule["pending"].clone())
    };
    assert_eq!(still("2026-03-12T10:12:00Z"), (json!(2), json!(1)));
    assert_eq!(still("2026-03-12T10:12:00.000001Z"), (json!(3), json!(0)));
}

#[test]
fn illegal_writes_are_events_that_never_heal() {
    let place = history(
        &[
            (1, set(1, "4")),
            (2, set(2, "9")),
            (3, set(1, "3")),
            (4, set(1, "9")),
        ],
        "  - {id: went-down, monotonic: {column: total}}\n",
    );
    let rule = bisect(&place, &[]).exits(1).rule("went-down");
    assert_eq!(onsets(&rule), json!([[1, 1, null], [1, 3, null]]));
    assert_eq!(
        (&rule["violations"], &rule["first_bad"]["commit"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(
        (&rule["earlier"], &rule["pre_existing"]),
        (&json!([]), &json!(0))
    );
    // In a range that begins later, the first one lies before it.
    let rule = bisect(&place, &["--good", "#2"]).exits(1).rule("went-down");
    assert_eq!(onsets(&rule), json!([[1, 2, null], [1, 3, null]]));
    assert_eq!(
        (&rule["pre_existing"], &rule["first_bad"]["commit"]),
        (&json!(1), &json!(3))
    );
    assert_eq!(rule["violations"], 1);
}

#[test]
fn a_stretch_with_a_threshold_runs_while_more_than_the_limit_are_bad() {
    let changes = [
        (1, set(1, "null")),
        (2, set(2, "null")),
        (3, set(1, "1")),
        (4, set(3, "null")),
    ];
    let one = "  - {id: no-total, threshold: {max: 1}, not_null: [total]}\n";
    let rule = bisect(&history(&changes, one), &[])
        .exits(1)
        .rule("no-total");
    assert_eq!(rule["earlier"], json!([{"from": 2, "to": 3}]));
    assert_eq!(rule["first_bad"]["commit"], 4);
    assert_eq!(
        onsets(&rule),
        json!([[1, 1, 3], [2, 2, null], [3, 4, null]])
    );
    // A third of three is not more than 40 %, until there are only two.
    let percent = "  - {id: no-total, threshold: {max_percent: 40}, not_null: [total]}\n";
    let gone = r#"{"table": "orders", "op": "delete", "key": {"id": 3}}"#.to_owned();
    let changes = [(1, set(1, "null")), (2, set(2, "6")), (3, gone)];
    let place = history(&changes, percent);
    let rule = bisect(&place, &[]).exits(1).rule("no-total");
    assert_eq!(rule["first_bad"]["commit"], 3);
    assert_eq!(onsets(&rule), json!([[1, 1, null]]));
    // Who asks for a key wants to know of it.
    let rule = bisect(&place, &["--key", "id=1"]).rule("no-total");
    assert_eq!(rule["first_bad"]["commit"], 1);
}

#[test]
fn dated_snapshots_bound_the_first_bad_write() {
    let place = Place::new()
        .with(
            "d/schema.sql",
            "create table orders (id bigint primary key, total bigint);",
        )
        .with("d/snapshots/mon/orders.csv", "id,total\n1,5\n2,5\n")
        .with("d/snapshots/tue/orders.csv", "id,total\n1,5\n2,6\n")
        .with("d/snapshots/wed/orders.csv", "id,total\n1,\n2,6\n")
        .with(
            "d/rules/r.yaml",
            format!("table: orders\nrules:\n{NOT_NULL}"),
        );
    let rule = bisect(&place, &[]).exits(1).rule("no-total");
    assert_eq!(rule["certainty"], "bounded");
    assert_eq!(rule["last_good"], json!({"commit": 1, "snapshot": "tue"}));
    assert_eq!(rule["first_bad"]["snapshot"], "wed");
    assert_eq!(
        rule["first_bad"]["changes"],
        json!([{"table": "public.orders", "op": "update", "key": {"id": 1},
                "before": {"id": 1, "total": 5}, "after": {"id": 1, "total": null}}])
    );
    place.run(&["bisect", "d"]).exits(1).says(&[
        "first bad snapshot #2, snapshot wed",
        "nothing is known of what lies between these two snapshots",
    ]);
}

#[test]
fn good_bad_since_and_key_narrow_the_search() {
    let changes = [
        (1, set(1, "null")),
        (2, set(2, "null")),
        (3, set(3, "null")),
        (4, set(1, "1")),
    ];
    let place = history(&changes, NOT_NULL);
    let asked = |arguments: &[&str]| {
        let rule = bisect(&place, arguments).rule("no-total");
        (rule["first_bad"]["commit"].clone(), onsets(&rule))
    };
    assert_eq!(
        asked(&["--good", "#1"]),
        (json!(2), json!([[1, 1, 4], [2, 2, null], [3, 3, null]]))
    );
    assert_eq!(
        asked(&["--good", "#2", "--bad", "#3"]),
        (json!(3), json!([[1, 2, null], [2, 2, null], [3, 3, null]]))
    );
    assert_eq!(asked(&["--since", "#3"]), (json!(3), json!([[3, 3, null]])));
    assert_eq!(
        asked(&["--since", "2026-03-12T10:02:30Z"]),
        (json!(3), json!([[3, 3, null]]))
    );
    assert_eq!(asked(&["--key", "id=2"]), (json!(2), json!([[2, 2, null]])));
    assert_eq!(
        asked(&["--key", "{\"id\": 3}", "--key", "id=1", "--bad", "#3"]),
        (json!(1), json!([[1, 1, null], [3, 3, null]]))
    );
}

#[test]
fn wrong_arguments_are_refused() {
    let place = history(&[(1, set(1, "null"))], NOT_NULL);
    let refused = |arguments: &[&str], texts: &[&str]| {
        let ran = place.run(&[&["bisect", "d"], arguments].concat());
        ran.refused(texts);
    };
    refused(
        &["--rule", "no-totl"],
        &["there is no rule `no-totl`", "did you mean `no-total`?"],
    );
    refused(&["--good", "#1"], &["--good: #1 does not lie before #1"]);
    refused(&["--bad", "#7"], &["--bad: there is no commit #7"]);
    refused(
        &["--key", "sku=4"],
        &["no rule has a key with these columns", "key columns are id"],
    );
    refused(&["--key", "4410"], &["write e.g. id=4410"]);
    refused(
        &["--format", "sarif"],
        &["bisect writes text, json and jsonl"],
    );
    refused(
        &["--run", "true", "--rule", "no-total"],
        &["cannot be used with"],
    );
}

#[test]
fn what_cannot_be_judged_is_unknown_and_says_where() {
    // The total of order 1 is not known in the snapshot's place: the history begins without one.
    let place = Place::new()
        .with("d/schema.sql", "create table orders (id bigint primary key, total bigint);")
        .with(
            "d/changes/1.ndjson",
            "{\"commit\": 1, \"changes\": [{\"table\": \"orders\", \"op\": \"update\", \"key\": {\"id\": 1}, \"after\": {\"total\": 4}}]}\n",
        )
        .with("d/rules/r.yaml", format!("table: orders\nrules:\n{NOT_NULL}"));
    let rule = bisect(&place, &[]).exits(4).rule("no-total");
    assert_eq!(rule["verdict"], "unknown");
    let reason = rule["reason"].as_str().expect("a reason");
    assert!(
        reason.contains("at #0: `total` of orders is not known"),
        "{reason}"
    );
    // From where it is known on, it can be judged.
    bisect(
        &place,
        &["--rule", "no-total", "--good", "#0", "--since", "#1"],
    )
    .exits(4);
    let timeless = "  - {id: late, within: 5m, not_null: [total]}\n";
    let line = format!("{{\"commit\": 1, \"changes\": [{}]}}\n", set(1, "null"));
    let place = history(&[], timeless);
    place.write("d/changes/1.ndjson", line);
    let rule = bisect(&place, &[]).exits(4).rule("late");
    assert!(
        rule["reason"]
            .as_str()
            .is_some_and(|text| text.contains("--now"))
    );
}

#[test]
fn hidden_columns_stay_hidden_everywhere() {
    let place = history(
        &[(1, "{\"table\": \"orders\", \"op\": \"update\", \"key\": {\"id\": 1}, \"after\": {\"total\": null, \"note\": \"secret\"}}".to_owned())],
        "  - {id: no-total, key: [id], redact: [note, id], not_null: [total]}\n",
    );
    for format in ["text", "json", "jsonl"] {
        let ran = place.run(&["bisect", "d", "--format", format]).exits(1);
        assert!(!ran.out.contains("secret"), "{}", ran.out);
        assert!(ran.out.contains("redacted:"), "{}", ran.out);
    }
}

#[test]
fn the_text_tells_the_story() {
    let place = history(
        &[
            (1, set(3, "6")),
            (2, set(1, "null")),
            (9, set(2, "null")),
            (30, set(1, "6")),
        ],
        NOT_NULL,
    );
    place.run(&["bisect", "d"]).exits(1).says(&[
        "no-total: first bad write #2, 2026-03-12 10:02:00Z",
        "who        service = s2",
        "when       #2, 2026-03-12 10:02:00Z · lsn 0/1002 · xid 702",
        "update orders id = 1: total 5.00 → NULL",
        "last good  #1",
        "2 violations began, 1 healed; 1 bad now",
        "the last began with #3, 2026-03-12 10:09:00Z, 1 commit, 21 min before the end",
        "→ firstbad check d --rule no-total --at '#2'",
        "→ firstbad diff d '#1' '#2'",
        "→ firstbad sql d 'select * from changes.orders where commit = 2'",
        "1 rule: 1 violated, 0 held (#0 to #4",
    ]);
    // What it says to run next can be run.
    place
        .run(&["check", "d", "--rule", "no-total", "--at", "#2"])
        .exits(1);
    place.run(&["diff", "d", "#1", "#2"]).exits(0);
    place
        .run(&["sql", "d", "select * from changes.orders where commit = 2"])
        .exits(0);
    // And `check` says to run this.
    place
        .run(&["check", "d"])
        .exits(1)
        .says(&["→ firstbad bisect d --rule no-total"]);
}

#[test]
fn the_three_faults_of_the_shop_are_named() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let rules = [
        "paid-order-without-shipment",
        "order-total-mismatch",
        "stock-overwritten",
    ];
    let mut arguments = vec!["bisect", "testdata/shop", "--format", "json"];
    arguments.extend(rules.iter().flat_map(|id| ["--rule", *id]));
    let ran = run(root, &arguments, &[]).exits(1);
    let lost = ran.rule("paid-order-without-shipment");
    assert_eq!(
        (&lost["first_bad"]["commit"], &lost["certainty"]),
        (&json!(2651), &json!("exact"))
    );
    assert_eq!(lost["first_bad"]["context"]["version"], "v2.14.0");
    assert_eq!(
        (&lost["earlier"], &lost["violations"], &lost["pending"]),
        (&json!([]), &json!(18), &json!(5))
    );
    let all = onsets(&lost);
    let all = all.as_array().expect("onsets");
    assert_eq!((all.len(), &all[0]), (21, &json!([1962, 2651, null])));
    let healed: Vec<&Value> = all
        .iter()
        .map(|onset| &onset[2])
        .filter(|at| !at.is_null())
        .collect();
    assert_eq!(healed, [4575, 5681, 6709]);
    let flash = ran.rule("order-total-mismatch");
    assert_eq!(flash["earlier"], json!([{"from": 4469, "to": 4473}]));
    assert_eq!(flash["onsets"].as_array().map(Vec::len), Some(23));
    assert_eq!(
        (&flash["verdict"], &flash["first_bad"]),
        (&json!("held"), &Value::Null)
    );
    let stock = ran.rule("stock-overwritten");
    assert_eq!(stock["first_bad"]["commit"], 3384);
    assert_eq!(
        stock["onsets"],
        json!([{"key": {"sku": "TEA-0050", "warehouse": "BER"}, "commit": 3384, "healed": null}])
    );
}
