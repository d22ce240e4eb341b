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

fn settings(pairs: &[(&str, &str)]) -> std::collections::HashMap<String, facts::Setting> {
    let setting = |raw: &str| facts::Setting {
        raw: raw.to_owned(),
        shown: raw.to_owned(),
    };
    let pairs = pairs.iter();
    pairs
        .map(|(name, raw)| ((*name).to_owned(), setting(raw)))
        .collect()
}

/// A server of which nothing blocks watching, but that no table is there.
fn facts() -> Facts {
    Facts {
        version: 150_018,
        version_text: "15.18".into(),
        database: "shop".into(),
        role: "w".into(),
        may_replicate: true,
        may_create: true,
        sees_others: true,
        has_context: true,
        settings: settings(&[
            ("wal_level", "logical"),
            ("max_replication_slots", "10"),
            ("max_wal_senders", "10"),
            ("max_slot_wal_keep_size", "51200"),
            ("wal_sender_timeout", "60000"),
            ("logical_decoding_work_mem", "65536"),
            ("hot_standby_feedback", "on"),
            ("server_encoding", "UTF8"),
        ]),
        slot: Some(state(None)),
        ..Facts::default()
    }
}

fn state(wal_status: Option<&str>) -> crate::postgres::slot::SlotState {
    crate::postgres::slot::SlotState {
        plugin: Some("pgoutput".into()),
        database: Some("shop".into()),
        active_pid: None,
        restart_lsn: None,
        confirmed_flush: None,
        wal_status: wal_status.map(str::to_owned),
        safe_wal_size: None,
        two_phase: false,
    }
}

/// Severities and ids, without that of an empty database.
fn found(facts: &Facts) -> Vec<(&'static str, &'static str)> {
    let report = examine("s", facts, None, "firstbad", "firstbad");
    let all = report.findings.iter();
    all.map(|one| (one.severity.word(), one.id))
        .filter(|(_, id)| !["nothing-to-watch", "slot-idle"].contains(id))
        .collect()
}

#[test]
fn each_of_these_is_found_and_nothing_else() {
    assert_eq!(found(&facts()), []);
    type Change = fn(&mut Facts);
    let set = |name: &'static str, raw: &'static str| (name, raw);
    let changes: [(Change, (&str, &str)); 14] = [
        (|f| f.may_replicate = false, ("blocks", "no-replication")),
        (|f| f.senders_used = 10, ("blocks", "senders-full")),
        (|f| f.oldest_s = Some(61.0), ("weakens", "long-transaction")),
        (
            |f| f.oldest_prepared_s = Some(3_600.0),
            ("weakens", "long-transaction"),
        ),
        (|f| f.sequences = 2, ("note", "not-covered")),
        (|f| f.large_objects = true, ("note", "not-covered")),
        (|f| f.sees_others = false, ("note", "sees-little")),
        (|f| f.has_context = false, ("note", "no-context")),
        (
            |f| f.slot = Some(state(Some("lost"))),
            ("weakens", "slot-lost"),
        ),
        (
            |f| f.slot = Some(state(Some("unreserved"))),
            ("weakens", "slot-at-risk"),
        ),
        (|f| f.slot = None, ("note", "no-slot")),
        (|f| f.version = 130_000, ("weakens", "no-messages")),
        (|f| f.in_recovery = true, ("blocks", "standby")),
        (
            |f| (f.in_recovery, f.version) = (true, 160_000),
            ("note", "standby"),
        ),
    ];
    for (change, expected) in changes {
        let mut facts = facts();
        change(&mut facts);
        assert_eq!(found(&facts), [expected], "{expected:?}");
    }
    let values = [
        (set("wal_level", "minimal"), ("blocks", "wal-level")),
        (
            set("max_slot_wal_keep_size", "-1"),
            ("note", "unbounded-log"),
        ),
        (
            set("max_slot_wal_keep_size", "100"),
            ("weakens", "little-log"),
        ),
        (
            set("wal_sender_timeout", "0"),
            ("note", "no-sender-timeout"),
        ),
        (
            set("wal_sender_timeout", "999"),
            ("weakens", "short-sender-timeout"),
        ),
        (
            set("logical_decoding_work_mem", "64"),
            ("note", "decoding-memory"),
        ),
        (
            set("idle_replication_slot_timeout", "60"),
            ("weakens", "idle-slot-timeout"),
        ),
        (set("server_encoding", "SQL_ASCII"), ("weakens", "encoding")),
    ];
    for (pair, expected) in values {
        let mut facts = facts();
        facts.settings.extend(settings(&[pair]));
        assert_eq!(found(&facts), [expected], "{pair:?}");
    }
    let mut feedback = facts();
    (feedback.in_recovery, feedback.version) = (true, 170_000);
    feedback
        .settings
        .extend(settings(&[("hot_standby_feedback", "off")]));
    assert_eq!(
        found(&feedback),
        [("weakens", "standby-feedback"), ("note", "standby")]
    );
}

#[test]
fn a_server_of_somebody_elses_is_set_in_its_console() {
    use facts::Host;
    for (host, word) in [
        (Host::Amazon, "rds.logical_replication = 1"),
        (Host::Google, "cloudsql.logical_decoding = on"),
        (Host::AlloyDb, "alloydb.logical_decoding = on"),
        (Host::Azure, "wal_level = logical"),
    ] {
        let mut facts = facts();
        facts.host = host;
        facts.settings.extend(settings(&[("wal_level", "replica")]));
        facts.may_replicate = false;
        let report = examine("s", &facts, None, "firstbad", "firstbad");
        let of = |id: &str| {
            report
                .findings
                .iter()
                .find(|one| one.id == id)
                .expect("it is found")
        };
        let hint = of("wal-level").hint.as_deref().unwrap_or("");
        assert!(
            hint.contains(word) && of("wal-level").fix.is_empty(),
            "{hint}"
        );
        let grant = match host {
            Host::Amazon => "grant rds_replication to \"w\";",
            _ => "alter role \"w\" replication;",
        };
        assert_eq!(of("no-replication").fix, [grant]);
    }
}
