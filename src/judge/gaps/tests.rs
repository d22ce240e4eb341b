//! What a check says of violations that a gap may have interrupted.

use std::path::Path;
use std::sync::Arc;

use crate::change::{Cell, Change, Op, Transaction, TransactionMeta};
use crate::judge::{Judge, Limits, Options};
use crate::rule::file;
use crate::schema::{Column, DataType, Schema, Table, TableName};
use crate::state::{History, Origin};

const MINUTE: i64 = 60_000_000;

/// One row, bad since #1202; commits #1201 to #1220, one a minute, of which #1206 to #1210 were not seen one by one.
fn history() -> History {
    let column = |name: &str| Column {
        name: name.into(),
        data_type: DataType::Int64,
        nullable: name != "id",
    };
    let table = Table {
        name: TableName::parse("t"),
        columns: vec![column("id"), column("c")],
        primary_key: vec![0],
        foreign_keys: Vec::new(),
    };
    let schema = Schema {
        tables: vec![table],
    };
    let mut history = History::beginning_at(schema, Origin::Changes, false, 1200);
    let meta = |commit: u32| TransactionMeta {
        time: Some(i64::from(commit) * MINUTE),
        ..TransactionMeta::default()
    };
    history.base = meta(1200);
    let good = [Cell::Int(1), Cell::Int(5)];
    history.load(0, &good);
    for commit in (1201..=1205).chain(1210..=1220) {
        if commit == 1210 {
            history.skip_to(commit);
        }
        let change = Change {
            table: 0,
            op: Op::Update,
            key: Some(vec![(0, Cell::Int(1))]),
            before: None,
            after: Some(vec![(1, Cell::Null)]),
        };
        let transaction = Transaction {
            commit,
            meta: meta(commit),
            changes: (commit == 1202).then_some(change).into_iter().collect(),
        };
        history.apply(&transaction).expect("the row is there");
    }
    history
}

fn verdict(header: &str, position: u32) -> String {
    let text = format!("rules: [{{id: r, table: t, {header}}}]");
    let (rules, found) = file::parse(&text, Path::new("r.yaml"));
    assert!(found.is_empty(), "{found:?}");
    let judge = Judge::new(Arc::new(history()), Limits::default()).expect("the engine starts");
    let options = Options {
        position,
        now_us: None,
        sample: None,
    };
    let prepared = judge.prepare(&rules, &options).expect("the rule fits");
    let outcome = judge.check(prepared, &options, &|_| {}).remove(0);
    match outcome.reason {
        Some(reason) => format!("unknown: {reason}"),
        None if outcome.pending > 0 => "pending".to_owned(),
        None => outcome.verdict.as_str().to_owned(),
    }
}

#[test]
fn a_violation_that_a_gap_may_have_interrupted_is_overdue_only_for_sure() {
    let at =
        |minutes: u32, position| verdict(&format!("not_null: c, within: {minutes}m"), position);
    assert_eq!(at(2, 1205), "violated");
    assert_eq!(at(3, 1205), "pending");
    let undecided = at(7, 1210);
    assert!(
        undecided.contains("commits #1206 to #1210 were not seen one by one"),
        "{undecided}"
    );
    assert_eq!(at(8, 1210), "pending");
    assert_eq!(at(9, 1220), "violated");
    assert!(at(10, 1220).starts_with("unknown"));
    assert_eq!(at(18, 1220), "pending");
}

#[test]
fn what_a_gap_hides_is_not_held() {
    assert_eq!(verdict("not_null: c", 1220), "violated");
    assert_eq!(
        verdict("not_null: c", 1207),
        "unknown: commits #1206 to #1209 were not seen"
    );
    assert_eq!(verdict("no_delete: true", 1205), "held");
    let unseen = "unknown: commits #1206 to #1210 were not seen one by one";
    assert_eq!(verdict("no_delete: true", 1210), unseen);
    assert_eq!(verdict("no_delete: true, since: '#1211'", 1220), "held");
    assert_eq!(verdict("no_delete: true, since: '#1210'", 1220), unseen);
    assert_eq!(
        verdict("no_resurrection: true, since: '#1211'", 1220),
        unseen
    );
    let reads = "sql: select commit from changes.t where op = 'delete', key: [commit]";
    assert_eq!(verdict(reads, 1205), "held");
    assert_eq!(verdict(reads, 1220), unseen);
    assert_eq!(verdict("not_null: c, since: '#1203'", 1205), "held");
    assert!(verdict("not_null: c, since: '#1203'", 1220).starts_with("unknown"));
    assert_eq!(verdict("not_null: c, since: '#1211'", 1220), "held");
    assert_eq!(verdict("not_null: c, since: '#7'", 1220), "violated");
}
