use super::*;

fn report(findings: Vec<Finding>) -> Report {
    Report {
        source: "postgres://w@db/shop".into(),
        version: "15.18".into(),
        role: "w".into(),
        tables: vec!["public.orders".into()],
        tables_all: 3,
        rules: Some(vec![
            RuleNeeds {
                rule: "a".into(),
                tables: vec!["public.orders".into()],
                full: Vec::new(),
            },
            RuleNeeds {
                rule: "b".into(),
                tables: vec!["public.log".into()],
                full: vec!["public.log".into()],
            },
        ]),
        findings,
    }
}

#[test]
fn a_report_has_the_worst_first_and_statements_on_lines_of_their_own() {
    let block = Finding::new(
        "wal-level",
        Severity::Blocks,
        "wal_level is replica",
        "no slot",
    )
    .fix("alter system set wal_level = 'logical';")
    .hint("then restart the server");
    let note = Finding::new(
        "x",
        Severity::Note,
        "evil\u{1b}[31m\nname",
        "nothing at all",
    );
    let text = text(&report(vec![block, note]), 60);
    assert_eq!(
        text,
        "postgres://w@db/shop as w: PostgreSQL 15.18, rules read 1 of 3 tables

blocks watching
  ✗ wal_level is replica
      breaks  no slot
      how     then restart the server
      alter system set wal_level = 'logical';

worth knowing
  · evil\\u{1b}[31m\\nname
      breaks  nothing at all

identity   REPLICA IDENTITY DEFAULT is enough for 1 of 2 rules; FULL, or a primary key, is needed by b
watching   cannot begin: 1 finding
reading    works: firstbad check postgres://w@db/shop; without logical replication, firstbad watch postgres://w@db/shop --mode snapshots
"
    );
}

#[test]
fn nothing_blocks_where_there_are_notes_only() {
    let note = Finding::new("x", Severity::Note, "a note", "nothing");
    let report = report(vec![note]);
    assert!(!report.is_blocked() && report.can_read());
    assert!(text(&report, 100).ends_with("watching   can begin\nreading    works\n"));
    let document = json(&report);
    assert_eq!(document["schema"], "firstbad/doctor@1");
    assert_eq!(document["watching"], true);
    assert_eq!(document["findings"][0]["severity"], "note");
}
