//! `firstbad gate` (docs/gate.md): the exit codes that pipelines rely on. A watcher's store of a real server is asked in
//! `tests/postgres/gate.rs`.

use serde_json::json;

use crate::place::Place;

const SCHEMA: &str = "create table customers (id bigint primary key, email text);
create table orders (id bigint primary key, customer_id bigint, status text);
create table shipments (id bigint primary key, order_id bigint);
create table carts (id bigint primary key);";
const RULES: &str = "
rules:
  - id: customer-without-email
    table: customers
    not_null: email
  - id: paid-order-without-shipment
    table: orders
    severity: critical
    where: status = 'paid'
    has: {table: shipments, match: {order_id: id}}
  - id: order-status-unusual
    table: orders
    severity: warn
    accepted_values: {column: status, values: [paid]}
  - id: customers-only-grow
    table: customers
    append_only: true
";

/// One order that was paid and never shipped, and one of an unusual status.
fn shop() -> Place {
    let line = r#"{"commit":1,"lsn":"0/1000","time":"2026-03-12T16:00:00Z","changes":[{"table":"orders","op":"insert","after":{"id":4410,"customer_id":1,"status":"paid"}},{"table":"orders","op":"insert","after":{"id":4411,"customer_id":1,"status":"lost"}},{"table":"customers","op":"insert","after":{"id":2,"email":"b@example.com"}}]}"#;
    Place::new()
        .with("shop/schema.sql", SCHEMA)
        .with("shop/snapshot/customers.csv", "id,email\n1,a@example.com\n")
        .with("shop/changes/1.ndjson", format!("{line}\n"))
        .with("shop/rules/shop.yaml", RULES)
}

#[test]
fn only_clean_tables_let_pass() {
    let shop = shop();
    for (tables, code) in [
        (&["--table", "customers"][..], 0),
        (&["--table", "public.customers"], 0),
        (&["--table", "orders"], 1),
        // The rule looks its shipments up.
        (&["--table", "shipments"], 1),
        (&["--table", "customers", "--table", "orders"], 1),
        (&[], 1),
        (&["--table", "carts"], 4),
        (&["--table", "customer"], 4),
        (&["--table", "customers", "--table", "carts"], 4),
        (&["--table", "carts", "--table", "orders"], 1),
        (&["--table", "customers", "--fail-on", "all"], 2),
    ] {
        shop.run(&[&["gate", "shop"], tables].concat()).exits(code);
    }
    let ran = shop.run(&["gate", "shop", "--table", "orders"]).exits(1);
    assert_eq!(
        ran.out,
        "not clean up to 0/1000 (#1, 2026-03-12 16:00:00Z)\n  orders  not clean  paid-order-without-shipment (critical): 1 bad\n"
    );
    let ran = shop.run(&["gate", "shop", "--table", "customer"]).exits(4);
    assert!(ran.out.contains("did you mean customers?"), "{}", ran.out);
}

#[test]
fn the_document_says_what_decides() {
    let shop = shop();
    let document = shop
        .run(&["gate", "shop", "--format", "json"])
        .exits(1)
        .json();
    assert_eq!(document["schema"], "firstbad/gate@1");
    assert_eq!(document["verdict"], "not_clean");
    let up_to = json!({"commit": 1, "lsn": "0/1000", "time": "2026-03-12T16:00:00Z"});
    assert_eq!(document["up_to"], up_to);
    let verdicts = document["tables"].as_array().expect("tables").iter();
    let verdicts: Vec<(&str, &str)> = verdicts
        .filter_map(|table| Some((table["table"].as_str()?, table["verdict"].as_str()?)))
        .collect();
    assert_eq!(
        verdicts,
        [
            ("public.customers", "clean"),
            ("public.orders", "not_clean"),
            ("public.shipments", "not_clean"),
        ]
    );
    // What is below the severity decides nothing.
    let rules = document["tables"][1]["rules"].as_array().expect("rules");
    assert_eq!(rules.len(), 1);
    let all = [
        "gate",
        "shop",
        "--table",
        "orders",
        "--fail-on",
        "warn",
        "--format",
        "json",
    ];
    let document = shop.run(&all).exits(1).json();
    assert_eq!(
        document["tables"][0]["rules"].as_array().map(Vec::len),
        Some(2)
    );
}

#[test]
fn what_is_not_judged_far_enough_is_not_known() {
    let shop = shop();
    let gate =
        |more: &[&str]| shop.run(&[&["gate", "shop", "--table", "customers"], more].concat());
    gate(&["--lsn", "0/1000"]).exits(0);
    gate(&["--lsn", "0/FFF"]).exits(0);
    gate(&["--lsn", "0/1001"]).exits(4);
    gate(&["--max-age", "5m"]).exits(4);
    gate(&["--lsn", "1001"]).exits(2);
    gate(&["--rule", "customer-without-email"]).exits(0);
    // Without the other rules nobody has looked at the orders.
    let orders = [
        "gate",
        "shop",
        "--table",
        "orders",
        "--rule",
        "customer-without-email",
    ];
    shop.run(&orders).exits(4);
    let ran = gate(&["--wait", "1s"]).exits(2);
    assert!(ran.err.contains("watcher's store"), "{}", ran.err);
}

#[test]
fn a_rule_that_cannot_be_judged_closes_the_gate() {
    let shop = shop();
    let unknown = "
rules:
  - id: customers-fresh
    table: customers
    sql: select id from customers where 1 / (id - 1) = 7
    key: [id]
";
    shop.write("shop/rules/more.yaml", unknown);
    let ran = shop.run(&["gate", "shop", "--table", "customers"]).exits(4);
    assert!(ran.out.contains("customers-fresh"), "{}", ran.out);
    shop.run(&["gate", "shop", "--table", "orders"]).exits(1);
    shop.write(
        "shop/rules/more.yaml",
        "rules: [{id: x, table: nowhere, not_null: id}]",
    );
    shop.run(&["gate", "shop", "--table", "customers"]).exits(2);
}

#[test]
fn a_store_that_nobody_watched_is_judged_now() {
    let shop = shop();
    shop.run(&["record", "shop", "--store", "store"]).exits(0);
    let rules = ["gate", "store", "--rules", "shop/rules", "--table"];
    shop.run(&[&rules[..], &["orders"]].concat()).exits(1);
    shop.run(&[&rules[..], &["customers"]].concat()).exits(0);
    // Where nothing is named, it is the store of the directory.
    shop.run(&["record", "shop"]).exits(0);
    shop.run(&["gate", "--rules", "shop/rules", "--table", "orders"])
        .exits(1);
    shop.run(&["gate", "nowhere"]).exits(2);
}
