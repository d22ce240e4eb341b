//! What is said of a first bad write that lies in a gap.

use std::path::Path;

use crate::bisect::{self, BisectReport, Range};
use crate::change::{Transaction, TransactionMeta};
use crate::judge::{Life, Lives, Looked};
use crate::report::{Format, Options, render_bisect};
use crate::rule::{Severity, file};
use crate::schema::Schema;
use crate::state::{History, Origin};
use serde_json::{Map, Value, json};

fn report(onset: u32) -> BisectReport {
    let (rules, _) = file::parse(
        "rules: [{id: r, table: t, not_null: c}]",
        Path::new("r.yaml"),
    );
    let schema = Schema { tables: Vec::new() };
    let mut history = History::beginning_at(schema, Origin::Changes, false, 499);
    for commit in [500, 801] {
        if commit == 801 {
            let meta = TransactionMeta {
                snapshot: Some("later".into()),
                ..TransactionMeta::default()
            };
            history.leap(800, meta, &[]).expect("there is no row");
        }
        let transaction = Transaction {
            commit,
            meta: TransactionMeta::default(),
            changes: Vec::new(),
        };
        history.apply(&transaction).expect("nothing changes");
    }
    let life = Life {
        key: Map::from_iter([("id".to_owned(), json!(7))]),
        order: Box::default(),
        onset,
        healed: None,
    };
    let lives = Lives {
        intervals: vec![life],
        judged_states: 3,
        judged: None,
        looked: Looked::Everywhere,
    };
    let range = Range {
        bad: 801,
        ..Range::default()
    };
    let found = bisect::locate(&rules[0], &lives, &history, &range).expect("no grace");
    BisectReport {
        source: "store".into(),
        at: bisect::position(&history, 801),
        good: history.first,
        found: vec![found],
        counts: [0, 1, 0],
        expired: Vec::new(),
        fail_on: Severity::Error,
        given: Default::default(),
        command: None,
        elapsed_ms: 0,
    }
}

fn text(onset: u32) -> String {
    render_bisect(&report(onset), Format::Text, &Options::default())
}

#[test]
fn a_gap_is_named() {
    let text = text(800);
    for part in [
        "bad at the latest from #800, snapshot later on",
        "last good  #500",
        "it lies between #500 and #800 (commits #501 to #800 were not seen one by one)",
        "certainty  bounded: 3 states judged",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let json = render_bisect(&report(800), Format::Json, &Options::default());
    let json: Value = serde_json::from_str(&json).expect("the report is JSON");
    let rule = &json["rules"][0];
    assert_eq!(rule["certainty"], "bounded");
    assert_eq!(rule["last_good"]["commit"], 500);
    assert_eq!(rule["first_bad"]["commit"], 800);
    assert_eq!(rule["candidates"], json!({"from": 501, "to": 800}));
}

#[test]
fn what_was_bad_in_the_first_state_is_blamed_on_nothing() {
    let text = text(0);
    assert!(
        text.contains("bad before #499, by nothing that is seen here"),
        "{text}"
    );
    let json = render_bisect(&report(0), Format::Json, &Options::default());
    let json: Value = serde_json::from_str(&json).expect("the report is JSON");
    let rule = &json["rules"][0];
    assert_eq!(rule["certainty"], "pre_existing");
    assert_eq!(rule["onsets"][0]["commit"], 0);
    assert_eq!(json["good"]["commit"], 499);
}
