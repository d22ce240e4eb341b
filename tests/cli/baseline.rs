//! Accepted violations: what a baseline forgives, for how long, and what it does not.

use serde_json::json;

use crate::place::Place;

const RULES: &str = "table: t\nrules:\n  - {id: bad, not_null: [a]}\n";

fn tables(rows: &str) -> Place {
    let place = Place::new()
        .with(
            "d/schema.sql",
            "create table t (id bigint primary key, a text);",
        )
        .with("d/rules/t.yaml", RULES);
    rewrite(&place, rows);
    place
}

fn rewrite(place: &Place, rows: &str) {
    place.write("d/t.csv", format!("id,a\n{rows}"));
}

#[test]
fn a_life_cycle() {
    let place = tables("1,\n2,\n3,x\n");
    place.run(&["check", "d"]).exits(1);
    place
        .run(&["check", "d", "--baseline", "b.json"])
        .refused(&["b.json", "--update-baseline"]);
    place
        .run(&["check", "d", "--baseline", "b.json", "--update-baseline"])
        .exits(0)
        .warns(&["b.json: 2 violations accepted"]);

    let green = place.check(&["d", "--baseline", "b.json"]).exits(0);
    let rule = green.rule("bad");
    assert_eq!(
        (&rule["verdict"], &rule["violations"], &rule["new"]),
        (&json!("violated"), &json!(2), &json!(0))
    );
    assert!(
        rule["sample"]
            .as_array()
            .expect("a sample")
            .iter()
            .all(|violation| violation["accepted"] == true)
    );
    place.run(&["check", "d"]).exits(1);

    rewrite(&place, "1,\n2,\n3,\n");
    let red = place.check(&["d", "--baseline", "b.json"]).exits(1);
    assert_eq!(
        (&red.rule("bad")["violations"], &red.rule("bad")["new"]),
        (&json!(3), &json!(1))
    );

    rewrite(&place, "1,\n2,fixed\n3,x\n");
    let fixed = place.check(&["d", "--baseline", "b.json"]).exits(0);
    assert_eq!(fixed.json()["fixed"], json!({"bad": 1}));
    place
        .run(&["check", "d", "--baseline", "b.json", "--update-baseline"])
        .exits(0)
        .warns(&["1 violation accepted"]);

    rewrite(&place, "1,\n2,\n3,x\n");
    let back = place.check(&["d", "--baseline", "b.json"]).exits(1);
    assert_eq!(
        back.rule("bad")["new"],
        1,
        "what was fixed and came back is new"
    );
}

#[test]
fn acceptance_expires() {
    let place = tables("1,\n");
    let accept = [
        "check",
        "d",
        "--baseline",
        "b.json",
        "--update-baseline",
        "--baseline-expires",
        "2026-06-30",
        "--now",
        "2026-03-14T09:00:00Z",
    ];
    place.run(&accept).exits(0);
    assert!(
        place.read("b.json").contains("\"expires\":\"2026-06-30\""),
        "{}",
        place.read("b.json")
    );
    place
        .run(&[
            "check",
            "d",
            "--baseline",
            "b.json",
            "--now",
            "2026-06-30T23:59:59Z",
        ])
        .exits(0);
    place
        .run(&[
            "check",
            "d",
            "--baseline",
            "b.json",
            "--now",
            "2026-07-01T00:00:00Z",
        ])
        .exits(1);
}

#[test]
fn the_file_is_one_sorted_entry_a_line_and_stays_as_it_is() {
    let place = tables("10,\n9,\n2,\n");
    let accept = [
        "check",
        "d",
        "--baseline",
        "b.json",
        "--update-baseline",
        "--now",
        "2026-03-14T09:00:00Z",
    ];
    place.run(&accept).exits(0);
    let text = place.read("b.json");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 5, "{text}");
    for (line, id) in lines[1..4].iter().zip([2, 9, 10]) {
        assert!(line.contains(&format!("\"id\":{id}}}")), "{line}");
    }
    let document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(document["schema"], "firstbad/baseline@1");
    assert_eq!(document["entries"][0]["accepted_on"], "2026-03-14");
    place
        .run(&[
            "check",
            "d",
            "--baseline",
            "b.json",
            "--update-baseline",
            "--now",
            "2026-04-01T00:00:00Z",
        ])
        .exits(0);
    assert_eq!(
        place.read("b.json"),
        text,
        "what is still accepted keeps its day"
    );
}

#[test]
fn notes_are_kept() {
    let place = tables("1,\n2,\n").with(
        "b.json",
        "{\"schema\": \"firstbad/baseline@1\", \"entries\": [\n{\"rule\": \"bad\", \"key\": {\"id\": 1}, \"accepted_on\": \"2026-01-02\", \"note\": \"old\"}\n]}\n",
    );
    assert_eq!(
        place
            .check(&["d", "--baseline", "b.json"])
            .exits(1)
            .rule("bad")["new"],
        1
    );
    place
        .run(&["check", "d", "--baseline", "b.json", "--update-baseline"])
        .exits(0);
    let text = place.read("b.json");
    assert!(
        text.contains("\"note\":\"old\"")
            && text.contains("2026-01-02")
            && text.contains("\"id\":2"),
        "{text}"
    );
}

#[test]
fn a_baseline_forgives_its_own_rule_only() {
    let place = tables("1,\n");
    place
        .run(&["check", "d", "--baseline", "b.json", "--update-baseline"])
        .exits(0);
    place.write(
        "d/rules/t.yaml",
        "table: t\nrules:\n  - {id: renamed, not_null: [a]}\n",
    );
    assert_eq!(
        place
            .check(&["d", "--baseline", "b.json"])
            .exits(1)
            .rule("renamed")["new"],
        1
    );
}

#[test]
fn more_than_the_sample_can_be_accepted() {
    let rows: String = (1..=40).map(|id| format!("{id},\n")).collect();
    let place = tables(&rows);
    place
        .run(&[
            "check",
            "d",
            "--baseline",
            "b.json",
            "--update-baseline",
            "--sample",
            "1",
        ])
        .exits(0)
        .warns(&["40 violations"]);
    assert_eq!(
        place
            .check(&["d", "--baseline", "b.json", "--sample", "1"])
            .exits(0)
            .rule("bad")["new"],
        0
    );
}

#[test]
fn unknown_stays_unknown() {
    let place = tables("1,\n").with(
        "d/rules/u.yaml",
        "table: t\nrules:\n  - {id: unjudged, append_only: true}\n",
    );
    place
        .run(&["check", "d", "--baseline", "b.json", "--update-baseline"])
        .exits(4);
    place.run(&["check", "d", "--baseline", "b.json"]).exits(4);
}

#[test]
fn malformed_baselines_are_refused() {
    let place = tables("1,\n");
    let wrong = [
        ("", "b.json"),
        ("[]", "schema"),
        (
            "{\"schema\": \"firstbad/baseline@9\", \"entries\": []}",
            "baseline@1",
        ),
        (
            "{\"schema\": \"firstbad/baseline@1\", \"entries\": [{\"rule\": \"bad\"}]}",
            "b.json",
        ),
        (
            "{\"schema\": \"firstbad/baseline@1\", \"entries\": [{\"rule\": \"bad\", \"key\": {\"id\": 1}, \"accepted_on\": \"soon\"}]}",
            "2026-03-14",
        ),
        (
            "{\"schema\": \"firstbad/baseline@1\", \"entries\": [\n<<<<<<< HEAD\n",
            "merge conflict",
        ),
    ];
    for (text, message) in wrong {
        place.write("b.json", text);
        place
            .run(&["check", "d", "--baseline", "b.json"])
            .refused(&["b.json", message]);
        assert_eq!(
            place.read("b.json"),
            text,
            "a file that is wrong is not touched"
        );
    }
}

/// Row 1 is bad from commit 1, healed by 2, bad again from 3.
fn relapse() -> Place {
    let lines: String = [(1, "null"), (2, "\"x\""), (3, "null")]
        .map(|(commit, a)| {
            format!("{{\"commit\": {commit}, \"changes\": [{{\"table\": \"t\", \"op\": \"update\", \"key\": {{\"id\": 1}}, \"after\": {{\"a\": {a}}}}}]}}\n")
        })
        .concat();
    Place::new()
        .with(
            "d/schema.sql",
            "create table t (id bigint primary key, a text);",
        )
        .with("d/rules/t.yaml", RULES)
        .with("d/snapshot/t.csv", "id,a\n1,x\n")
        .with("d/changes/1.ndjson", lines)
}

#[test]
fn a_violation_that_healed_in_the_history_and_came_back_is_new() {
    let place = relapse();
    place
        .run(&[
            "check",
            "d",
            "--at",
            "#1",
            "--baseline",
            "b.json",
            "--update-baseline",
        ])
        .exits(0);
    assert!(
        place.read("b.json").contains("\"commit\":1"),
        "{}",
        place.read("b.json")
    );
    place
        .run(&["check", "d", "--at", "#1", "--baseline", "b.json"])
        .exits(0);
    assert_eq!(
        place
            .check(&["d", "--baseline", "b.json"])
            .exits(1)
            .rule("bad")["new"],
        1
    );
    // Accepted at the end, it is accepted.
    place
        .run(&["check", "d", "--baseline", "c.json", "--update-baseline"])
        .exits(0);
    place.run(&["check", "d", "--baseline", "c.json"]).exits(0);
}
