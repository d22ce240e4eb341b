//! Histories: what contradicts itself, what is partial, what changes mean (CONTRACT section 2).

use serde_json::json;

use crate::place::Place;

const SCHEMA: &str = "create table t (id bigint primary key, a text, n integer);
create table m (id bigint primary key, amount numeric(30,10), big bigint, at timestamptz, raw bytea);
create type colour as enum ('red', 'green');
create table e (x integer, y integer, c colour, primary key (x, y));";

/// A history with row 1 of `t` at position 0 and these lines of changes.
fn history(lines: &[&str]) -> Place {
    Place::new()
        .with("d/schema.sql", SCHEMA)
        .with("d/snapshot/t.csv", "id,a,n\n1,x,10\n")
        .with("d/changes/0001.ndjson", format!("{}\n", lines.join("\n")))
        .with(
            "d/rules/t.yaml",
            "table: t\nrules:\n  - {id: bad, not_null: [a]}\n",
        )
}

/// A line with one change.
fn line(commit: u32, change: &str) -> String {
    format!("{{\"commit\": {commit}, \"changes\": [{change}]}}")
}

/// Asserts that commit 2 on line 2 is refused, with its place and all of `texts`.
#[track_caller]
fn contradicts(change: &str, texts: &[&str]) {
    let place = history(&["{\"commit\": 1, \"changes\": []}", &line(2, change)]);
    let ran = place.run(&["check", "d"]).refused(&[
        "d/changes/0001.ndjson:2",
        "commit 2",
        "nothing was judged",
    ]);
    ran.warns(texts);
}

#[test]
fn a_missing_commit() {
    let place = history(&[
        "{\"commit\": 1, \"changes\": []}",
        "{\"commit\": 3, \"changes\": []}",
    ]);
    place.run(&["check", "d"]).refused(&[
        "d/changes/0001.ndjson:2",
        "commit 3",
        "commit 2 is missing",
    ]);
    let place = history(&["{\"commit\": 2, \"changes\": []}"]);
    place
        .run(&["check", "d"])
        .refused(&["d/changes/0001.ndjson:1", "commit 1 is missing"]);
}

#[test]
fn a_repeated_commit() {
    let place = history(&[
        "{\"commit\": 1, \"changes\": []}",
        "{\"commit\": 1, \"changes\": []}",
    ]);
    place
        .run(&["check", "d"])
        .refused(&["d/changes/0001.ndjson:2", "commit 1", "twice"]);
}

#[test]
fn a_backward_commit() {
    let lines: Vec<String> = [1, 2, 3, 1]
        .iter()
        .map(|n| format!("{{\"commit\": {n}, \"changes\": []}}"))
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    history(&lines).run(&["check", "d"]).refused(&[
        "d/changes/0001.ndjson:4",
        "commit 1",
        "after commit 3",
    ]);
}

#[test]
fn commits_go_on_from_file_to_file_in_name_order() {
    let place = history(&["{\"commit\": 1, \"changes\": []}"]).with(
        "d/changes/0002.ndjson",
        "{\"commit\": 3, \"changes\": []}\n",
    );
    place
        .run(&["check", "d"])
        .refused(&["d/changes/0002.ndjson:1", "commit 2 is missing"]);
    place.write(
        "d/changes/0002.ndjson",
        "{\"commit\": 2, \"changes\": []}\n",
    );
    assert_eq!(place.check(&["d"]).exits(0).json()["at"]["commit"], 2);
}

#[test]
fn an_insert_of_a_key_that_is_there() {
    contradicts(
        r#"{"table": "t", "op": "insert", "after": {"id": 1, "a": "y"}}"#,
        &["table t", r#"{"id":1}"#, "already exists"],
    );
}

#[test]
fn an_update_of_a_missing_row() {
    contradicts(
        r#"{"table": "t", "op": "update", "key": {"id": 7}, "after": {"a": "y"}}"#,
        &[
            "table t",
            r#"{"id":7}"#,
            "update of a row that does not exist",
        ],
    );
    contradicts(
        r#"{"table": "public.e", "op": "update", "key": {"x": 1, "y": 2}, "after": {"c": "red"}}"#,
        &["table e", r#"{"x":1,"y":2}"#],
    );
}

#[test]
fn a_delete_of_a_missing_row() {
    contradicts(
        r#"{"table": "t", "op": "delete", "before": {"id": 7}}"#,
        &[
            "table t",
            r#"{"id":7}"#,
            "delete of a row that does not exist",
        ],
    );
}

#[test]
fn a_before_that_contradicts() {
    contradicts(
        r#"{"table": "t", "op": "update", "key": {"id": 1}, "before": {"n": 11}, "after": {"n": 12}}"#,
        &["table t", r#"{"id":1}"#, "`before` contradicts", "`n`"],
    );
    contradicts(
        r#"{"table": "t", "op": "delete", "before": {"id": 1, "a": null}}"#,
        &["table t", "`a`"],
    );
}

#[test]
fn an_unknown_table_or_column() {
    contradicts(
        r#"{"table": "tt", "op": "insert", "after": {"id": 2}}"#,
        &["unknown table `tt`", "did you mean `t`?"],
    );
    contradicts(
        r#"{"table": "other.t", "op": "insert", "after": {"id": 2}}"#,
        &["unknown table `other.t`"],
    );
    contradicts(
        r#"{"table": "t", "op": "insert", "after": {"id": 2, "aa": 1}}"#,
        &["table t", "unknown column `aa`", "did you mean `a`?"],
    );
}

#[test]
fn a_value_of_another_type() {
    let values = [
        (
            r#"{"table": "t", "op": "insert", "after": {"id": 2, "n": "many"}}"#,
            "`n`",
        ),
        (
            r#"{"table": "t", "op": "insert", "after": {"id": 2, "n": 1.5}}"#,
            "`n`",
        ),
        (
            r#"{"table": "t", "op": "insert", "after": {"id": 2, "n": 2147483648}}"#,
            "`n`",
        ),
        (
            r#"{"table": "t", "op": "insert", "after": {"id": "9223372036854775808"}}"#,
            "`id`",
        ),
        (
            r#"{"table": "m", "op": "insert", "after": {"id": 2, "at": "yesterday"}}"#,
            "`at`",
        ),
        (
            r#"{"table": "m", "op": "insert", "after": {"id": 2, "amount": "1,5"}}"#,
            "`amount`",
        ),
        (
            r#"{"table": "m", "op": "insert", "after": {"id": 2, "raw": "\\xzz"}}"#,
            "`raw`",
        ),
    ];
    for (change, column) in values {
        contradicts(change, &["table", column]);
    }
}

#[test]
fn a_change_that_does_not_say_what_it_does() {
    contradicts(
        r#"{"table": "t", "op": "upsert", "after": {"id": 2}}"#,
        &["unknown op `upsert`"],
    );
    contradicts(r#"{"table": "t", "after": {"id": 2}}"#, &["has no `op`"]);
    contradicts(
        r#"{"op": "insert", "after": {"id": 2}}"#,
        &["has no `table`"],
    );
    contradicts(r#"{"table": "t", "op": "insert"}"#, &["needs `after`"]);
    contradicts(
        r#"{"table": "t", "op": "delete"}"#,
        &["needs `key` or `before`"],
    );
    contradicts(
        r#"{"table": "t", "op": "update", "after": {"a": "y"}}"#,
        &["table t"],
    );
}

#[test]
fn a_line_that_is_cut_off() {
    let place = history(&[
        "{\"commit\": 1, \"changes\": []}",
        "{\"commit\": 2, \"changes\": [{\"table\": \"t\"",
    ]);
    place
        .run(&["check", "d"])
        .refused(&["d/changes/0001.ndjson:2", "ends in the middle"]);
}

#[test]
fn lines_that_are_no_transactions() {
    for text in [
        "[]",
        "17",
        "\"x\"",
        "{}",
        "{\"commit\": \"1\", \"changes\": []}",
        "{\"commit\": 1}",
        "{\"commit\": 1, \"changes\": {}}",
        "not json",
    ] {
        history(&[text])
            .run(&["check", "d"])
            .refused(&["d/changes/0001.ndjson:1"]);
    }
}

#[test]
fn messages_have_no_values_of_rows() {
    let place = history(&[&line(
        1,
        r#"{"table": "t", "op": "insert", "after": {"id": 2, "n": "secret-value"}}"#,
    )]);
    let ran = place.run(&["check", "d"]).refused(&["`n`"]);
    assert!(!ran.err.contains("secret-value"), "{}", ran.err);
}

#[test]
fn every_kind_of_change_is_applied() {
    let place = history(&[
        &line(
            1,
            r#"{"table": "t", "op": "insert", "after": {"id": 2, "a": null}}, {"table": "t", "op": "insert", "after": {"id": 3, "a": "z"}}"#,
        ),
        &line(
            2,
            r#"{"table": "t", "op": "update", "before": {"id": 3}, "after": {"id": 4, "a": null}}"#,
        ),
        &line(
            3,
            r#"{"table": "t", "op": "update", "after": {"id": 2, "a": "healed"}}"#,
        ),
        &line(4, r#"{"table": "t", "op": "delete", "key": {"id": 4}}"#),
        &line(
            5,
            r#"{"table": "t", "op": "truncate"}, {"table": "t", "op": "insert", "after": {"id": 1, "a": null}}"#,
        ),
    ]);
    let expected = [
        json!([]),
        json!([{"id": 2}]),
        json!([{"id": 2}, {"id": 4}]),
        json!([{"id": 4}]),
        json!([]),
        json!([{"id": 1}]),
    ];
    let judged = [1, 3, 3, 3, 2, 1];
    for (commit, (keys, judged)) in expected.iter().zip(judged).enumerate() {
        let ran = place.check(&["d", "--at", &format!("#{commit}")]);
        assert_eq!(ran.keys("bad"), *keys, "at #{commit}");
        assert_eq!(ran.rule("bad")["judged"], judged, "at #{commit}");
    }
}

#[test]
fn an_after_without_a_column_leaves_it_unchanged() {
    let place = history(&[&line(1, r#"{"table": "t", "op": "update", "key": {"id": 1}, "after": {"n": 11}}"#)])
        .with("d/rules/t.yaml", "table: t\nrules:\n  - {id: all, rejected_values: {column: n, values: [11]}}\n  - {id: a-gone, not_null: [a]}\n");
    let ran = place.check(&["d"]).exits(1);
    assert_eq!(ran.keys("all"), json!([{"id": 1}]));
    assert_eq!(ran.rule("a-gone")["verdict"], "held");
}

#[test]
fn without_a_snapshot_rows_may_have_been_there() {
    let place = Place::new()
        .with("d/schema.sql", SCHEMA)
        .with(
            "d/changes/1.ndjson",
            [
                line(1, r#"{"table": "t", "op": "update", "key": {"id": 1}, "before": {"n": 1}, "after": {"n": 2}}"#),
                line(2, r#"{"table": "t", "op": "delete", "before": {"id": 9}}"#),
            ]
            .join("\n"),
        )
        .with(
            "d/rules/t.yaml",
            "table: t\nrules:\n  - {id: reads-n, not_null: [n]}\n  - {id: reads-a, not_null: [a]}\n",
        );
    let ran = place.check(&["d"]).exits(4);
    assert_eq!(ran.rule("reads-n")["verdict"], "held");
    let unknown = ran.rule("reads-a");
    assert_eq!(unknown["verdict"], "unknown");
    assert!(
        unknown["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains('a')),
        "{unknown:#}"
    );
    // What was not known and has been said since is known.
    place.write(
        "d/changes/2.ndjson",
        line(
            3,
            r#"{"table": "t", "op": "update", "key": {"id": 1}, "after": {"a": "now known"}}"#,
        ),
    );
    assert_eq!(
        place.check(&["d"]).exits(0).rule("reads-a")["verdict"],
        "held"
    );
    assert_eq!(
        place.check(&["d", "--at", "#2"]).exits(4).rule("reads-a")["verdict"],
        "unknown"
    );
    // The second change of a key is held to what is known.
    place.write(
        "d/changes/3.ndjson",
        line(4, r#"{"table": "t", "op": "delete", "before": {"id": 9}}"#),
    );
    place
        .run(&["check", "d"])
        .refused(&["d/changes/3.ndjson:1", "commit 4", r#"{"id":9}"#]);
}

#[test]
fn what_an_insert_does_not_name_is_not_known() {
    let place = history(&[&line(
        1,
        r#"{"table": "t", "op": "insert", "after": {"id": 2, "n": 1}}"#,
    )]);
    assert_eq!(
        place.check(&["d"]).exits(4).rule("bad")["verdict"],
        "unknown"
    );
    assert_eq!(
        place.check(&["d", "--at", "#0"]).exits(0).rule("bad")["verdict"],
        "held"
    );
}

#[test]
fn numbers_wider_than_a_double_stay_exact() {
    let place = Place::new()
        .with("d/schema.sql", SCHEMA)
        .with("d/snapshot/m.csv", "id,amount,big,at,raw\n9007199254740993,12345678901234567890.0123456789,9007199254740993,,\n")
        .with(
            "d/changes/1.ndjson",
            [
                line(1, r#"{"table": "m", "op": "insert", "after": {"id": "9223372036854775807", "amount": "0.1", "big": "-9223372036854775808", "at": null}}"#),
                line(2, r#"{"table": "m", "op": "insert", "after": {"id": 9007199254740995, "amount": 12345678901234567890.0123456789, "big": 1, "at": null}}"#),
            ]
            .join("\n"),
        )
        .with("d/rules/m.yaml", "table: m\nrules:\n  - {id: all, key: [id, amount, big], not_null: [at]}\n");
    assert_eq!(
        place.check(&["d"]).exits(1).keys("all"),
        json!([
            {"id": "9007199254740993", "amount": "12345678901234567890.0123456789", "big": "9007199254740993"},
            {"id": "9007199254740995", "amount": "12345678901234567890.0123456789", "big": 1},
            {"id": "9223372036854775807", "amount": "0.1000000000", "big": "-9223372036854775808"},
        ])
    );
}

#[test]
fn checks_of_writes_see_every_commit() {
    let place = history(&[
        &line(1, r#"{"table": "t", "op": "update", "key": {"id": 1}, "after": {"n": 9}}"#),
        &line(2, r#"{"table": "t", "op": "update", "key": {"id": 1}, "after": {"n": 10}}"#),
        &line(3, r#"{"table": "t", "op": "delete", "key": {"id": 1}}"#),
    ])
    .with(
        "d/rules/t.yaml",
        "table: t\nrules:\n  - {id: rewritten, append_only: true}\n  - {id: went-back, monotonic: {column: n}}\n  - {id: deleted, no_delete: true}\n",
    );
    for (at, rewritten, went_back, deleted) in [
        ("#0", 0, 0, 0),
        ("#1", 1, 1, 0),
        ("#2", 1, 1, 0),
        ("latest", 1, 1, 1),
    ] {
        let ran = place.check(&["d", "--at", at]);
        let count = |id: &str| ran.rule(id)["violations"].as_i64().expect("a count");
        assert_eq!(
            (count("rewritten"), count("went-back"), count("deleted")),
            (rewritten, went_back, deleted),
            "{at}"
        );
    }
}

#[test]
fn unknown_keys_of_a_transaction_are_warned_of() {
    let place = history(&["{\"commit\": 1, \"contxt\": {}, \"changes\": []}"]);
    place
        .run(&["check", "d"])
        .exits(0)
        .warns(&["`contxt`", "did you mean `context`?"]);
}
