use std::path::Path;

use serde_json::{Map, Value, json};

use super::{BadRow, bad_rows};
use crate::change::{Cell, Change, Commit, Op, Transaction, TransactionMeta};
use crate::state::{History, Origin};

const SCHEMA: &str = "create table orders (id bigint primary key, status text, total numeric(10, 2));\n\
                      create table scans (sku text, at bigint);";

fn key(value: Value) -> Map<String, Value> {
    value.as_object().cloned().expect("keys are objects")
}

fn order(id: i64, status: &str) -> Vec<(usize, Cell)> {
    let total = Cell::Decimal(crate::change::Decimal::parse("9.90").expect("it is a number"));
    let status = Cell::Text(status.to_owned());
    vec![(0, Cell::Int(id)), (1, status), (2, total)]
}

fn change(op: Op, before: Option<Vec<(usize, Cell)>>, after: Option<Vec<(usize, Cell)>>) -> Change {
    Change {
        table: 0,
        op,
        key: before.as_ref().map(|before| before[..1].to_vec()),
        before,
        after,
    }
}

/// Orders 1 and 2; #1 pays the first, #2 pays it again, #3 deletes the second.
fn history() -> History {
    let (schema, found) = crate::schema::ddl::parse(SCHEMA, Path::new("schema.sql"));
    assert!(found.is_empty());
    let mut history = History::new(schema, Origin::Changes, false);
    for id in [1, 2] {
        let cells: Vec<Cell> = order(id, "placed").into_iter().map(|(_, c)| c).collect();
        history.load(0, &cells);
    }
    history.settle();
    let steps = [
        change(Op::Update, Some(order(1, "placed")), Some(order(1, "paid"))),
        change(Op::Update, Some(order(1, "paid")), Some(order(1, "lost"))),
        change(Op::Delete, Some(order(2, "placed")), None),
    ];
    for (commit, step) in (1..).zip(steps) {
        let transaction = Transaction {
            commit,
            meta: TransactionMeta::default(),
            changes: vec![step],
        };
        history.apply(&transaction).expect("it follows");
    }
    history
}

fn status(row: &Option<super::Row>) -> Option<&str> {
    match row.as_ref().map(|row| &row[1]) {
        Some(Cell::Text(text)) => Some(text),
        _ => None,
    }
}

fn states(row: &BadRow) -> (Commit, [Option<&str>; 3]) {
    let images = [&row.last_good, &row.bad, &row.now];
    (row.onset, images.map(status))
}

#[test]
fn a_row_is_known_before_at_and_after_its_onset() {
    let history = history();
    let keys = [
        (key(json!({"id": 1})), 1),
        (key(json!({"id": 2})), 3),
        (key(json!({"id": 1})), 0),
        (key(json!({"id": 9})), 1),
        (key(json!({"commit": 1})), 1),
        (Map::new(), 1),
    ];
    let rows = bad_rows(&history, 0, &keys);
    let rows: Vec<_> = rows.iter().map(states).collect();
    assert_eq!(
        rows,
        [
            (1, [Some("placed"), Some("paid"), Some("lost")]),
            (3, [Some("placed"), None, None]),
            (0, [None, Some("placed"), Some("lost")]),
        ]
    );
}

#[test]
fn a_key_that_is_not_the_primary_key_stands_for_all_its_rows() {
    let history = history();
    let rows = bad_rows(&history, 0, &[(key(json!({"status": "placed"})), 1)]);
    let rows: Vec<_> = rows.iter().map(states).collect();
    assert_eq!(
        rows,
        [
            (1, [Some("placed"), Some("paid"), Some("lost")]),
            (1, [Some("placed"), Some("placed"), None]),
        ]
    );
    let decimal = bad_rows(&history, 0, &[(key(json!({"total": "9.90"})), 3)]);
    assert_eq!(decimal.len(), 2);
}
