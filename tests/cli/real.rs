//! The shop and the flights: what is really wrong in them is found, and nothing else.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::place::{Ran, run};

fn check(arguments: &[&str]) -> Ran {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    run(
        root,
        &[&["check", "--format", "json", "--sample", "all"], arguments].concat(),
        &[],
    )
}

/// The rules that do not hold, with their numbers of violations.
fn violated(ran: &Ran) -> BTreeMap<String, i64> {
    let document = ran.json();
    let rules = document["rules"].as_array().expect("rules").clone();
    assert!(
        rules.iter().all(|rule| rule["verdict"] != "unknown"),
        "{}",
        ran.out
    );
    let bad = rules.iter().filter(|rule| rule["verdict"] == "violated");
    bad.map(|rule| {
        (
            rule["id"].as_str().expect("an id").to_owned(),
            rule["violations"].as_i64().expect("a count"),
        )
    })
    .collect()
}

fn counts<const N: usize>(expected: [(&str, i64); N]) -> BTreeMap<String, i64> {
    expected
        .into_iter()
        .map(|(id, count)| (id.to_owned(), count))
        .collect()
}

#[test]
fn the_shop_at_its_end() {
    let ran = check(&["testdata/shop"]).exits(1);
    assert_eq!(
        violated(&ran),
        counts([
            ("paid-order-without-shipment", 18),
            ("stock-overwritten", 1)
        ])
    );
    assert_eq!(ran.rule("paid-order-without-shipment")["pending"], 5);
    assert_eq!(
        ran.keys("stock-overwritten"),
        serde_json::json!([{"sku": "TEA-0050", "warehouse": "BER"}])
    );
    let lost = [
        1962, 2015, 2033, 2111, 2157, 2160, 2197, 2226, 2317, 2357, 2387, 2404, 2429, 2519, 2552,
        2562, 2601, 2650,
    ];
    let keys: Vec<Value> = lost
        .iter()
        .map(|id| serde_json::json!({"id": id}))
        .collect();
    assert_eq!(ran.keys("paid-order-without-shipment"), Value::Array(keys));
}

#[test]
fn the_shop_before_anything_went_wrong() {
    for (at, now) in [
        ("#0", "2026-03-10T00:02:00Z"),
        ("#2650", "2026-03-12T15:53:01Z"),
    ] {
        assert_eq!(
            violated(&check(&["testdata/shop", "--at", at, "--now", now]).exits(0)),
            counts([]),
            "at {at}"
        );
    }
    // There is no time before the first commit.
    let ran = check(&["testdata/shop", "--at", "#0"]).exits(4);
    assert_eq!(ran.json()["summary"]["unknown"], 2);
}

#[test]
fn the_shop_during_the_flash() {
    for (at, wrong) in [
        ("#4468", 0),
        ("#4469", 23),
        ("#4470", 23),
        ("#4472", 23),
        ("#4473", 0),
    ] {
        let ran = check(&[
            "testdata/shop",
            "--at",
            at,
            "--rule",
            "order-total-mismatch",
        ]);
        assert_eq!(
            ran.rule("order-total-mismatch")["violations"],
            wrong,
            "at {at}"
        );
    }
}

#[test]
fn the_shop_around_the_lost_update() {
    for (at, wrong) in [("#3383", 0), ("#3384", 1)] {
        let ran = check(&["testdata/shop", "--at", at, "--rule", "stock-overwritten"]);
        assert_eq!(
            ran.rule("stock-overwritten")["violations"],
            wrong,
            "at {at}"
        );
    }
}

#[test]
fn the_flights_are_as_counted_by_others() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/flights/expected.json");
    let expected: Value =
        serde_json::from_str(&std::fs::read_to_string(path).expect("expected.json")).expect("JSON");
    let now = expected["now"].as_str().expect("now");
    let ran = check(&["testdata/flights", "--now", now]).exits(1);
    let rules = expected["rules"].as_object().expect("rules");
    assert_eq!(
        ran.json()["rules"].as_array().map(Vec::len),
        Some(rules.len())
    );
    for (id, expected) in rules {
        let found = ran.rule(id);
        for part in ["verdict", "violations", "judged"] {
            assert_eq!(found[part], expected[part], "{part} of {id}");
        }
        if let Some(keys) = expected["keys"].as_array() {
            let sorted = |keys: &[Value]| {
                let mut texts: Vec<String> = keys.iter().map(Value::to_string).collect();
                texts.sort();
                texts
            };
            let found = ran.keys(id);
            assert_eq!(
                sorted(found.as_array().expect("keys")),
                sorted(keys),
                "keys of {id}"
            );
        }
    }
}

#[test]
fn the_commands_that_a_report_suggests_can_be_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let report = run(root, &["check", "testdata/shop"], &[]).exits(1);
    let commands: Vec<&str> = report
        .out
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("→ firstbad "))
        .collect();
    assert!(commands.len() >= 3, "{}", report.out);
    for command in commands {
        let ran = run(root, &command.split(' ').collect::<Vec<_>>(), &[]);
        assert!(ran.code < 2, "{command}: {ran:?}");
    }
}
