//! `firstbad rules lint|test|explain|list`, and messages about wrong rule files (CONTRACT sections 1 and 3).

use serde_json::json;

use crate::place::Place;

const SCHEMA: &str =
    "create table orders (id bigint primary key, status text, total numeric(12,2));";
const RULES: &str = "table: orders
rules:
  - id: negative-total
    description: Nobody is paid for buying.
    owner: finance
    severity: critical
    tags: [money]
    range: {column: total, min: 0}
    cases:
      - name: zero
        given: {orders: [{id: 1, total: 0.00}]}
        expect: held
      - name: below zero
        given: {orders: [{id: 1, total: -0.01}]}
        expect: {violated: [{id: 1}]}
  - not_null: [status, total]
";

fn rules(text: &str) -> Place {
    Place::new()
        .with("schema.sql", SCHEMA)
        .with("rules/orders.yaml", text)
}

#[test]
fn list_names_every_rule() {
    let place = rules(RULES);
    place.run(&["rules", "list"]).exits(0).says(&[
        "negative-total",
        "orders.status.null",
        "orders.total.null",
        "finance",
        "3 rules",
    ]);
    let document = place
        .run(&["rules", "list", "--format", "json"])
        .exits(0)
        .json();
    assert_eq!(document["schema"], "firstbad/rules@1");
    assert_eq!(
        document["rules"][0],
        json!({
            "id": "negative-total", "check": "range", "table": "public.orders", "severity": "critical",
            "description": "Nobody is paid for buying.", "owner": "finance", "tags": ["money"], "runbook": null, "cases": 2,
            "location": {"file": "rules/orders.yaml", "line": 3},
        })
    );
    let document = place
        .run(&["rules", "list", "orders.total.null", "--format", "json"])
        .exits(0)
        .json();
    assert_eq!(document["rules"].as_array().map(Vec::len), Some(1));
}

#[test]
fn lint_is_0_when_all_is_well() {
    rules(RULES)
        .run(&["rules", "lint"])
        .exits(0)
        .says(&["3 rules are well formed"]);
    rules(RULES)
        .run(&["rules", "lint", "--rules", "rules/orders.yaml"])
        .exits(0)
        .says(&["3 rules"]);
    Place::new().run(&["rules", "lint"]).refused(&["no rules"]);
}

#[test]
fn lint_checks_names_against_a_schema() {
    let wrong = "table: orders\nrules:\n  - not_null: [statsu]\n";
    rules(wrong)
        .run(&["rules", "lint"])
        .refused(&["rules/orders.yaml:3", "`statsu`", "`status`"]);
    let place = Place::new().with("rules/orders.yaml", wrong);
    place
        .run(&["rules", "lint"])
        .exits(0)
        .says(&["names not checked"]);
    place.write("s.sql", SCHEMA);
    place
        .run(&["rules", "lint", "--schema", "s.sql"])
        .refused(&["`statsu`"]);
    place.write("d/orders.csv", "id,status,total\n1,paid,1.00\n");
    place
        .run(&["rules", "lint", "--rules", "rules", "--source", "d"])
        .refused(&["`statsu`"]);
}

#[test]
fn lint_shows_the_name_used_here() {
    let place =
        rules("table: orders\nrules:\n  - {id: a, accepted_range: {column: total, min: 0}}\n");
    place.run(&["rules", "lint"]).exits(0).warns(&["range"]);
}

#[test]
fn test_runs_the_cases() {
    let place = rules(RULES);
    place.run(&["rules", "test"]).exits(0).says(&[
        "2 cases of 1 rule: 2 passed, 0 failed",
        "2 rules have no case",
    ]);
    place.write("rules/orders.yaml", RULES.replace("-0.01", "0.01"));
    let ran = place.run(&["rules", "test"]).exits(1);
    ran.says(&[
        "FAILED  negative-total: below zero",
        "rules/orders.yaml:13",
        "expected",
        "found",
        "1 failed",
    ]);
}

#[test]
fn test_refuses_cases_that_make_no_sense() {
    let place = rules(&RULES.replace("expect: held", "expect: hold"));
    place
        .run(&["rules", "test"])
        .refused(&["rules/orders.yaml:12", "`hold`"]);
    let place = rules(&RULES.replace("total: 0.00", "totl: 0.00"));
    place
        .run(&["rules", "test"])
        .refused(&["rules/orders.yaml:11", "`totl`"]);
}

#[test]
fn explain_shows_how_a_rule_is_judged() {
    let place = rules(RULES);
    let ran = place.run(&["rules", "explain", "negative-total"]).exits(0);
    ran.says(&[
        "negative-total",
        "Nobody is paid",
        "rules/orders.yaml:3",
        "key       id",
        "query",
        "SELECT",
        "reads",
        "public.orders (",
        "in full",
    ]);
    place
        .run(&["rules", "explain", "negative-totl"])
        .refused(&["did you mean `negative-total`?"]);
    let all = place.run(&["rules", "explain"]).exits(0);
    all.says(&["negative-total", "orders.status.null", "orders.total.null"]);
}

#[test]
fn all_mistakes_of_all_files_are_told_in_one_run() {
    let place = Place::new()
        .with("d/schema.sql", SCHEMA)
        .with("d/orders.csv", "id,status,total\n1,paid,1.00\n")
        .with("d/rules/a.yaml", "table: orders\nrules:\n  - id: Not_Kebab\n    not_null: [status]\n  - {id: two, not_null: [status], unique: [id]}\n")
        .with("d/rules/b.yaml", "table: orders\nrules:\n  - {id: three, not_nul: [status]}\n  - {id: four, not_null: [status], sevrity: warn}\n")
        .with("d/rules/c.yaml", "table: orders\nrules:\n  - {id: five, within: soon, not_null: [status]}\n");
    for command in [
        &["check", "d"][..],
        &["rules", "lint", "--rules", "d/rules"],
    ] {
        place.run(command).refused(&[
            "d/rules/a.yaml:3",
            "d/rules/a.yaml:5",
            "d/rules/b.yaml:3",
            "`not_null`",
            "d/rules/b.yaml:4",
            "`severity`",
            "d/rules/c.yaml:3",
            "5 errors; nothing was judged",
        ]);
    }
}

#[test]
fn mistakes_against_the_schema_come_together_too() {
    let place = Place::new()
        .with("d/schema.sql", SCHEMA)
        .with("d/orders.csv", "id,status,total\n1,paid,1.00\n")
        .with(
            "d/rules/a.yaml",
            "table: orders\nrules:\n  - {id: one, not_null: [statsu]}\n  - {id: two, table: order, not_null: [status]}\n  \
             - {id: three, key: [id], sql: select id from orders where nothing = 1}\n  - {id: four, where: totl > 0, not_null: [status]}\n",
        );
    place.run(&["check", "d"]).refused(&[
        "a.yaml:3",
        "`status`",
        "a.yaml:4",
        "`orders`",
        "a.yaml:5",
        "nothing",
        "a.yaml:6",
        "totl",
        "4 errors; nothing was judged",
    ]);
}

#[test]
fn an_id_may_be_there_once() {
    let place = rules(
        "table: orders\nrules:\n  - {id: a, not_null: [status]}\n  - {id: a, not_null: [total]}\n",
    );
    place
        .run(&["rules", "lint"])
        .refused(&["rules/orders.yaml:4", "`a`"]);
}

#[test]
fn the_packs_are_well_formed_and_their_cases_pass() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    crate::place::run(root, &["rules", "lint", "--rules", "rules"], &[]).exits(0);
    crate::place::run(root, &["rules", "test", "--rules", "rules"], &[])
        .exits(0)
        .says(&[" 0 failed"]);
    crate::place::run(
        root,
        &["rules", "test", "--rules", "testdata/shop/rules"],
        &[],
    )
    .exits(0)
    .says(&[" 0 failed"]);
}

#[test]
fn a_path_is_no_rule_id() {
    for verb in ["lint", "test", "explain", "list"] {
        rules(RULES)
            .run(&["rules", verb, "rules/"])
            .refused(&["there is no rule `rules/`", "--rules rules/"]);
    }
    rules(RULES)
        .run(&["rules", "lint", "negative-total"])
        .exits(0)
        .says(&["1 rule is well formed"]);
}

#[test]
fn mistakes_in_rules_and_in_data_are_told_together() {
    let place = Place::new()
        .with("d/schema.sql", SCHEMA)
        .with("d/orders.csv", "id,status,total\none,paid,1.00\n")
        .with(
            "d/rules/a.yaml",
            "table: orders\nrules:\n  - {id: one, not_nul: [status]}\n",
        );
    place.run(&["check", "d"]).refused(&[
        "d/orders.csv:2",
        "d/rules/a.yaml:3",
        "2 errors; nothing was judged",
    ]);
}
