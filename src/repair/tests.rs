//! What is put back, what is refused and why; the statements are run on a real server in `tests/postgres/repair.rs`.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::{About, Ask, BadKey, Generated, Repair, Wish, pitr, repair};
use crate::change::Commit;
use crate::incident::Write;
use crate::judge::Limits;
use crate::rule::{Rule, file};
use crate::state::History;

const SCHEMA: &str = "
create table customers (id bigint primary key, email text);
create table orders (id bigint primary key, customer_id bigint references customers (id), status text, total numeric(10, 2), note text);
create table shipments (id bigint primary key, order_id bigint references orders (id), carrier text);
create table order_lines (order_id bigint, line int, amount numeric(10, 2), primary key (order_id, line));
";
const RULES: &str = "
rules:
  - id: order-status-unusual
    table: orders
    accepted_values: {column: status, values: [placed, paid, cancelled]}
  - id: paid-order-without-shipment
    table: orders
    where: status = 'paid'
    has: {table: shipments, match: {order_id: id}}
  - id: order-of-nobody
    table: orders
    references: {column: customer_id, to: customers.id}
  - id: order-total-mismatch
    table: orders
    balance: {left: total, right: sum(order_lines.amount), match: {order_id: id}}
  - id: order-note-missing
    table: orders
    where: status = 'cancelled'
    not_null: note
  - id: order-total-changed
    table: orders
    immutable: total
  - id: line-without-amount
    sql: select order_id, line from order_lines where amount is null
    key: [order_id, line]
  - id: too-few-customers
    table: customers
    row_count: {min: 1}
";

/// Customer 1 has order 10, which is paid, shipped and adds up, and order 11, which is placed.
fn shop(commits: &[Value]) -> (History, Vec<Rule>) {
    let place = tempfile::tempdir().expect("a directory");
    let write = |path: &str, text: &str| {
        let path = place.path().join(path);
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("a directory");
        std::fs::write(path, text).expect("a file");
    };
    write("schema.sql", SCHEMA);
    write("snapshot/customers.csv", "id,email\n1,ann@example.com\n");
    write(
        "snapshot/orders.csv",
        "id,customer_id,status,total,note\n10,1,paid,5.00,gift\n11,1,placed,0.00,\n",
    );
    write(
        "snapshot/shipments.csv",
        "id,order_id,carrier\n100,10,DHL\n",
    );
    write(
        "snapshot/order_lines.csv",
        "order_id,line,amount\n10,1,2.00\n10,2,3.00\n",
    );
    let lines = (1..).zip(commits).map(|(commit, changes)| {
        json!({"commit": commit, "lsn": format!("0/{commit}000"), "changes": changes}).to_string()
    });
    let lines: Vec<String> = lines.collect();
    write("changes/1.ndjson", &(lines.join("\n") + "\n"));
    let opened = crate::source::open(&[place.path().display().to_string()]).expect("a history");
    let (rules, found) = file::parse(RULES, Path::new("rules.yaml"));
    assert!(!crate::diagnostic::any_error(&found), "{found:?}");
    (opened.history, rules)
}

fn update(table: &str, key: Value, after: Value) -> Value {
    json!({"table": table, "op": "update", "key": key, "after": after})
}

fn delete(table: &str, before: Value) -> Value {
    json!({"table": table, "op": "delete", "before": before})
}

fn insert(table: &str, after: Value) -> Value {
    json!({"table": table, "op": "insert", "after": after})
}

fn bad(rule: &str, key: Value, onsets: &[Commit]) -> BadKey {
    BadKey {
        rule: rule.into(),
        key: key.as_object().cloned().expect("an object"),
        onsets: BTreeSet::from_iter(onsets.iter().copied()),
    }
}

struct Asked<'a> {
    wish: Wish,
    redact: &'a [&'a str],
    generated: &'a [(&'a str, &'a str)],
}

const PLAIN: Asked<'_> = Asked {
    wish: Wish {
        delete_inserted: false,
        whole_rows: false,
    },
    redact: &[],
    generated: &[],
};

fn asked(commits: &[Value], keys: &[BadKey], asked: &Asked<'_>) -> Repair {
    let (history, rules) = shop(commits);
    let redact: Vec<String> = asked.redact.iter().map(|&name| name.to_owned()).collect();
    let generated = asked.generated.iter();
    let generated = generated.map(|(table, column)| ((*table).to_owned(), (*column).to_owned()));
    let repaired = repair(&Ask {
        history: &history,
        rules: &rules,
        keys,
        wish: asked.wish,
        redact: &redact,
        generated: &Generated::new(generated),
        limits: &Limits::default(),
    });
    repaired.unwrap_or_else(|error| panic!("{error}"))
}

fn plain(commits: &[Value], keys: &[BadKey]) -> Repair {
    asked(commits, keys, &PLAIN)
}

fn refused(repair: &Repair, key: usize) -> &str {
    repair.keys[key].refused.as_deref().unwrap_or("put right")
}

/// The one statement, without the guard around it.
fn only(repair: &Repair) -> &str {
    let [one] = repair.statements.as_slice() else {
        panic!("{repair:?}");
    };
    &one.sql
}

#[test]
fn a_column_gets_its_good_value_back_and_others_stay() {
    let wrong = update(
        "orders",
        json!({"id": 10}),
        json!({"status": "lsot", "note": "moved"}),
    );
    let keys = [bad("order-status-unusual", json!({"id": 10}), &[1])];
    let found = plain(&[json!([wrong])], &keys);
    assert_eq!(refused(&found, 0), "put right");
    let sql = only(&found);
    assert!(sql.contains("set \"status\" = 'paid'\n"), "{sql}");
    assert!(
        sql.contains("where \"id\" = 10\n     and \"status\" = 'lsot';"),
        "{sql}"
    );
    assert!(!sql.contains("note"), "{sql}");
    // Asked for, the whole change is taken back.
    let whole = Asked {
        wish: Wish {
            whole_rows: true,
            ..Wish::default()
        },
        ..PLAIN
    };
    let found = asked(&[json!([wrong])], &keys, &whole);
    assert!(only(&found).contains("\"note\" = 'gift'"), "{found:?}");
    assert_eq!(found.exit_code(), 0);
}

#[test]
fn what_was_written_again_is_not_put_back() {
    let wrong = json!([update(
        "orders",
        json!({"id": 10}),
        json!({"status": "lsot"})
    )]);
    let again = json!([update(
        "orders",
        json!({"id": 10}),
        json!({"status": "losst"})
    )]);
    let keys = [bad("order-status-unusual", json!({"id": 10}), &[1])];
    let found = plain(&[wrong.clone(), again.clone()], &keys);
    assert!(found.statements.is_empty());
    assert_eq!(
        refused(&found, 0),
        "orders.status was written again since, last by #2"
    );
    assert_eq!(found.exit_code(), 1);
    // Both writes are bad: what was before the first is good.
    let keys = [bad("order-status-unusual", json!({"id": 10}), &[1, 2])];
    let found = plain(&[wrong.clone(), again.clone()], &keys);
    assert!(
        only(&found).contains("set \"status\" = 'paid'"),
        "{found:?}"
    );
    // Between two bad writes there was a good one: that is the last good value.
    let good = json!([update(
        "orders",
        json!({"id": 10}),
        json!({"status": "cancelled"})
    )]);
    let keys = [bad("order-status-unusual", json!({"id": 10}), &[1, 3])];
    let found = plain(&[wrong, good, again], &keys);
    assert!(
        only(&found).contains("set \"status\" = 'cancelled'"),
        "{found:?}"
    );
    let gone = [
        json!([update(
            "orders",
            json!({"id": 11}),
            json!({"status": "lsot"})
        )]),
        json!([delete("orders", json!({"id": 11}))]),
    ];
    let keys = [bad("order-status-unusual", json!({"id": 11}), &[1])];
    let found = plain(&gone, &keys);
    assert_eq!(refused(&found, 0), "the row of orders is gone since");
}

#[test]
fn a_lost_record_is_written_again_and_one_that_never_was_is_not() {
    let lost = json!([delete("shipments", json!({"id": 100}))]);
    let keys = [bad("paid-order-without-shipment", json!({"id": 10}), &[1])];
    let found = plain(std::slice::from_ref(&lost), &keys);
    let sql = only(&found);
    assert!(
        sql.contains("insert into \"public\".\"shipments\" (\"id\", \"order_id\", \"carrier\")\n  overriding system value\n  values (100, 10, 'DHL');"),
        "{sql}"
    );
    // The order was paid, and nobody wrote a shipment.
    let unpaid = json!([update(
        "orders",
        json!({"id": 11}),
        json!({"status": "paid"})
    )]);
    let keys = [bad("paid-order-without-shipment", json!({"id": 11}), &[1])];
    let found = plain(&[unpaid], &keys);
    assert!(refused(&found, 0).contains("never written"), "{found:?}");
    assert!(found.statements.is_empty());
    // Somebody has written it anew meanwhile.
    let anew = json!([insert(
        "shipments",
        json!({"id": 100, "order_id": 11, "carrier": "UPS"})
    )]);
    let keys = [bad("paid-order-without-shipment", json!({"id": 10}), &[1])];
    let found = plain(&[lost, anew], &keys);
    assert!(
        refused(&found, 0).contains("written again since, last by #2"),
        "{found:?}"
    );
    // A truncate loses every row.
    let truncated = json!([{"table": "shipments", "op": "truncate"}]);
    let keys = [bad("paid-order-without-shipment", json!({"id": 10}), &[1])];
    assert!(only(&plain(&[truncated], &keys)).contains("(100, 10, 'DHL')"));
}

#[test]
fn rows_come_back_before_those_that_refer_to_them() {
    let lost = json!([
        delete("shipments", json!({"id": 100})),
        delete("orders", json!({"id": 10})),
        delete("orders", json!({"id": 11})),
        delete("customers", json!({"id": 1})),
        insert("customers", json!({"id": 2, "email": "bob@example.com"})),
        insert(
            "orders",
            json!({"id": 12, "customer_id": 1, "status": "placed", "total": "0.00"})
        ),
    ]);
    let keys = [bad("order-of-nobody", json!({"id": 12}), &[1])];
    let found = plain(&[lost], &keys);
    // The customer that the order refers to is there again; the order itself was inserted, and stays.
    assert_eq!(found.statements.len(), 1, "{found:?}");
    assert_eq!(found.statements[0].table, "public.customers");
    assert_eq!(refused(&found, 0), "put right");
    assert!(
        found.keys[0].notes[0].contains("--delete-inserted"),
        "{found:?}"
    );
}

#[test]
fn composite_keys_of_queries_name_rows() {
    let wrong = json!([update(
        "order_lines",
        json!({"order_id": 10, "line": 2}),
        json!({"amount": null})
    )]);
    let keys = [bad(
        "line-without-amount",
        json!({"order_id": 10, "line": 2}),
        &[1],
    )];
    let found = plain(&[wrong], &keys);
    let sql = only(&found);
    assert!(sql.contains("set \"amount\" = '3.00'"), "{sql}");
    assert!(
        sql.contains(
            "where \"order_id\" = 10\n     and \"line\" = 2\n     and \"amount\" is null;"
        ),
        "{sql}"
    );
}

#[test]
fn parts_of_a_sum_come_back() {
    let lost = json!([delete("order_lines", json!({"order_id": 10, "line": 1}))]);
    let keys = [bad("order-total-mismatch", json!({"id": 10}), &[1])];
    let found = plain(&[lost], &keys);
    assert!(only(&found).contains("values (10, 1, '2.00')"), "{found:?}");
}

#[test]
fn what_a_bad_write_inserted_is_deleted_only_where_asked() {
    let wrong = json!([insert(
        "orders",
        json!({"id": 12, "customer_id": 7, "status": "placed", "total": "0.00", "note": null})
    )]);
    let keys = [bad("order-of-nobody", json!({"id": 12}), &[1])];
    let found = plain(std::slice::from_ref(&wrong), &keys);
    assert!(
        refused(&found, 0).contains("--delete-inserted"),
        "{found:?}"
    );
    let allowed = Asked {
        wish: Wish {
            delete_inserted: true,
            ..Wish::default()
        },
        ..PLAIN
    };
    let found = asked(std::slice::from_ref(&wrong), &keys, &allowed);
    let sql = only(&found);
    assert!(sql.contains("delete from \"public\".\"orders\"\n   where \"id\" = 12\n     and \"customer_id\" = 7\n     and \"status\" = 'placed'"), "{sql}");
    assert!(sql.contains("confdeltype"), "{sql}");
    let again = json!([update("orders", json!({"id": 12}), json!({"note": "call"}))]);
    let found = asked(&[wrong, again], &keys, &allowed);
    assert!(
        refused(&found, 0).contains("written again since"),
        "{found:?}"
    );
}

#[test]
fn what_would_violate_another_rule_is_refused() {
    // The status was cancelled with a note; the note is gone, and then the status became nonsense.
    let commits = [
        json!([update(
            "orders",
            json!({"id": 11}),
            json!({"status": "cancelled", "note": "late"})
        )]),
        json!([update(
            "orders",
            json!({"id": 11}),
            json!({"status": "lsot"})
        )]),
        json!([update("orders", json!({"id": 11}), json!({"note": null}))]),
        json!([update(
            "orders",
            json!({"id": 10}),
            json!({"status": "lsot"})
        )]),
    ];
    let keys = [
        bad("order-status-unusual", json!({"id": 11}), &[2]),
        bad("order-status-unusual", json!({"id": 10}), &[4]),
    ];
    let found = plain(&commits, &keys);
    assert_eq!(refused(&found, 0), "it would violate order-note-missing");
    // The other one is put right all the same.
    assert_eq!(refused(&found, 1), "put right");
    assert!(only(&found).contains("where \"id\" = 10"), "{found:?}");
    assert_eq!(found.exit_code(), 1);
}

#[test]
fn a_repair_says_which_rules_of_writes_will_report_it() {
    let wrong = json!([update(
        "orders",
        json!({"id": 10}),
        json!({"total": "50.00"})
    )]);
    let keys = [
        bad("order-total-changed", json!({"id": 10}), &[1]),
        bad("order-total-mismatch", json!({"id": 10}), &[1]),
    ];
    let found = plain(&[wrong], &keys);
    assert!(only(&found).contains("set \"total\" = '5.00'"), "{found:?}");
    assert_eq!(found.statements[0].keys, [0, 1]);
    assert_eq!(found.events, [("order-total-changed".to_owned(), 1)]);
}

#[test]
fn what_is_not_known_is_refused() {
    let keys = [
        bad("order-status-unusual", json!({"id": 10}), &[]),
        bad("order-status-unusual", json!({"id": 11}), &[7]),
        bad("too-few-customers", json!({}), &[1]),
        bad("order-status-unusual", json!({"id": 99}), &[1]),
    ];
    let found = plain(&[json!([delete("customers", json!({"id": 1}))])], &keys);
    assert!(
        refused(&found, 0).contains("before anybody watched"),
        "{found:?}"
    );
    assert!(
        refused(&found, 1).contains("not in the store yet"),
        "{found:?}"
    );
    assert!(
        refused(&found, 2).contains("a table as a whole"),
        "{found:?}"
    );
    assert!(
        refused(&found, 3).contains("nothing to put back"),
        "{found:?}"
    );
    assert!(found.statements.is_empty());
}

#[test]
fn redacted_and_computed_values_are_left_out() {
    let lost = json!([delete("customers", json!({"id": 1}))]);
    let keys = [bad("order-of-nobody", json!({"id": 10}), &[1])];
    let hidden = Asked {
        redact: &["email"],
        ..PLAIN
    };
    let found = asked(std::slice::from_ref(&lost), &keys, &hidden);
    assert!(
        refused(&found, 0).contains("customers.email is redacted"),
        "{found:?}"
    );
    assert!(!format!("{found:?}").contains("ann@example.com"));
    let computed = Asked {
        generated: &[("public.customers", "email")],
        ..PLAIN
    };
    let found = asked(&[lost], &keys, &computed);
    assert!(
        only(&found).contains("(\"id\")\n  overriding system value\n  values (1);"),
        "{found:?}"
    );
}

#[test]
fn comments_and_blocks_cannot_be_left() {
    let evil = "x'; $firstbad$; drop table orders; --\n*/ \u{202e}";
    let commits = [
        json!([update("orders", json!({"id": 10}), json!({"note": evil}))]),
        json!([update(
            "orders",
            json!({"id": 10}),
            json!({"status": "lsot", "note": "ok"})
        )]),
    ];
    let whole = Asked {
        wish: Wish {
            whole_rows: true,
            ..Wish::default()
        },
        ..PLAIN
    };
    let mut key = bad("order-status-unusual", json!({"id": 10}), &[2]);
    let found = asked(&commits, std::slice::from_ref(&key), &whole);
    let sql = only(&found);
    assert!(sql.starts_with("do $firstbad1$\n"), "{sql}");
    key.key.insert("x\n; drop table orders".into(), evil.into());
    let mut shown = found.clone();
    shown.keys[0].key = key;
    shown.keys[0].notes = vec![evil.into()];
    let about = About {
        incident: "I-1\n; drop".into(),
        rules: vec![evil.into()],
        first_bad: Some((
            2,
            Write {
                lsn: Some(evil.into()),
                context: json!({"service": evil}).as_object().cloned(),
                ..Write::default()
            },
        )),
        at: 2,
        redact: Vec::new(),
    };
    let script = shown.script(&about);
    let outside = script.replace(sql, "");
    let is_ours = |line: &str| {
        line.is_empty()
            || line.starts_with("--")
            || line.starts_with("set local ")
            || ["begin;", "commit;"].contains(&line)
    };
    for line in outside.lines() {
        assert!(is_ours(line), "{line:?}");
    }
    assert!(!script.contains('\u{202e}'));
    assert!(pitr(&about).is_err());
    let json: Value = serde_json::from_str(&shown.json(&about)).expect("JSON");
    assert_eq!(json["schema"], "firstbad/repair@1");
}

#[test]
fn a_recovery_stops_before_the_first_bad_write() {
    let about = |write: Option<(Commit, Write)>| About {
        incident: "I-3".into(),
        rules: vec!["order-total-mismatch".into()],
        first_bad: write,
        at: 9,
        redact: Vec::new(),
    };
    let write = |lsn: Option<&str>, last_good: Option<Commit>| Write {
        lsn: lsn.map(str::to_owned),
        last_good,
        ..Write::default()
    };
    let settings = pitr(&about(Some((7, write(Some("0/1A2B3C8"), None))))).expect("settings");
    assert!(
        settings.contains("recovery_target_lsn = '0/1A2B3C8'\n"),
        "{settings}"
    );
    assert!(
        settings.contains("recovery_target_inclusive = off"),
        "{settings}"
    );
    for unknown in [
        about(None),
        about(Some((7, write(None, None)))),
        about(Some((7, write(Some("0/1A2B3C8"), Some(5))))),
        about(Some((7, write(Some("'; drop"), None)))),
    ] {
        assert!(pitr(&unknown).is_err(), "{unknown:?}");
    }
}
