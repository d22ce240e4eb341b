//! `bisect --quick`: a store's snapshots are searched first; what it finds is what a whole bisect finds.

use serde_json::json;

use crate::place::Place;

const SETTINGS: &str = "segments: {max_changes: 1000}\nsnapshots: {every_changes: 1500}\n";

/// A store of the shop with a dozen snapshots.
fn place() -> Place {
    let place = Place::new().with("firstbad.yaml", SETTINGS);
    let shop = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/shop");
    place.run(&["record", shop, "--store", "s"]).exits(0);
    place
}

#[test]
fn the_first_bad_write_is_that_of_a_whole_search() {
    let place = place();
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/shop/rules");
    for (rule, at) in [
        ("order-total-mismatch", "#4470"),
        ("paid-order-without-shipment", "latest"),
        ("paid-order-without-shipment", "#4000"),
    ] {
        let arguments = ["bisect", "s", "--rules", rules, "--rule", rule, "--at", at];
        let json = ["--format", "json"];
        let whole = place.run(&[&arguments[..], &json].concat());
        let quick = place.run(&[&arguments[..], &json, &["--quick"]].concat());
        let (whole, quick) = (whole.exits(1), quick.exits(1));
        let (whole, quick) = (whole.rule(rule), quick.rule(rule));
        assert_eq!(quick["certainty"], "exact", "{rule} at {at}");
        for same in ["first_bad", "last_good", "violations", "verdict"] {
            assert_eq!(quick[same], whole[same], "{rule} at {at}: {same}");
        }
        let passed_over = quick["states_passed_over"].as_u64().unwrap_or(0);
        assert!(passed_over > 1000, "{rule} at {at}: {passed_over}");
    }
}

#[test]
fn what_holds_and_what_cannot_be_searched_is_said() {
    let place = place();
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/shop/rules");
    let quick = |more: &[&str]| {
        let arguments = ["bisect", "s", "--rules", rules, "--quick"];
        place.run(&[&arguments[..], more].concat())
    };
    let held = quick(&["--rule", "order-total-mismatch"]);
    let held = held.exits(0);
    assert!(
        held.out
            .contains("holds where it was judged; 6,787 states passed over"),
        "{}",
        held.out
    );
    let written = quick(&["--rule", "stock-overwritten", "--format", "json"]);
    let written = written.exits(4);
    let written = written.rule("stock-overwritten");
    assert_eq!(written["verdict"], "unknown");
    let reason = written["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("leave --quick out"), "{reason}");
    let shop = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/shop");
    let ran = place.run(&["bisect", shop, "--quick"]);
    let ran = ran.exits(2);
    assert!(ran.err.contains("is no store"), "{}", ran.err);
}

#[test]
fn what_was_bad_at_the_first_state_has_no_first_bad_write() {
    let place = Place::new()
        .with(
            "schema.sql",
            "create table orders (id bigint primary key, total bigint);",
        )
        .with("now/orders.csv", "id,total\n1,-5\n")
        .with(
            "orders.yaml",
            "rules:\n  - {id: negative, table: orders, range: {column: total, min: 0}}\n",
        );
    place.run(&["snapshot", "now", "--store", "s"]).exits(0);
    place.write("now/orders.csv", "id,total\n1,-5\n2,3\n");
    place.run(&["snapshot", "now", "--store", "s"]).exits(0);
    let arguments = ["bisect", "s", "--rules", "orders.yaml", "--format", "json"];
    let quick = place.run(&[&arguments[..], &["--quick"]].concat());
    let quick = quick.exits(1);
    let rule = quick.rule("negative");
    assert_eq!(rule["certainty"], "pre_existing");
    assert_eq!(rule["first_bad"], json!(null));
    place.write("now/orders.csv", "id,total\n1,5\n2,3\n");
    place.run(&["snapshot", "now", "--store", "s"]).exits(0);
    place.write("now/orders.csv", "id,total\n1,5\n2,-3\n");
    place.run(&["snapshot", "now", "--store", "s"]).exits(0);
    let whole = place.run(&arguments);
    let quick = place.run(&[&arguments[..], &["--quick"]].concat());
    let (whole, quick) = (whole.exits(1), quick.exits(1));
    let (whole, quick) = (whole.rule("negative"), quick.rule("negative"));
    assert_eq!(whole["first_bad"]["commit"], 3);
    assert_eq!(quick["first_bad"], whole["first_bad"]);
    assert_eq!(quick["certainty"], "bounded");
}
