//! pgbench's own workload on a real server, with one bad write among its transactions.

use std::time::Instant;

use serde_json::{Value, json};

use crate::capture::Capture;
use crate::place::Place;
use crate::postgres::Cluster;

/// How many transactions pgbench runs.
const TRANSACTIONS: usize = 100_000;
/// How many sessions it runs them in.
const SESSIONS: usize = 2;
const TABLES: [&str; 4] = [
    "pgbench_branches",
    "pgbench_tellers",
    "pgbench_accounts",
    "pgbench_history",
];
/// Somebody corrects a balance by hand, and says so.
const PLANTED: &str = "
    begin;
    select pg_current_xact_id();
    select pg_logical_emit_message(true, 'firstbad', '{\"service\": \"psql\", \"user\": \"night shift\"}') is not null;
    update pgbench_accounts set abalance = abalance + 777 where aid = 4242;
    commit;";
/// The rules that the planted write breaks.
const BROKEN: [&str; 2] = [
    "account-differs-from-history",
    "accounts-differ-from-branches",
];

/// Runs pgbench's transactions without emptying its history first.
fn run(cluster: &Cluster, transactions: usize) {
    let (sessions, each) = (SESSIONS.to_string(), (transactions / SESSIONS).to_string());
    let arguments = [
        "--no-vacuum",
        "--protocol=prepared",
        "-c",
        &sessions,
        "-t",
        &each,
        "postgres",
    ];
    cluster.client("pgbench", &arguments);
}

fn lsn(cluster: &Cluster) -> String {
    let text = cluster.sql("postgres", "select pg_current_wal_insert_lsn()");
    text.trim().to_owned()
}

fn number(lsn: &str) -> u64 {
    let (high, low) = lsn.split_once('/').expect("an LSN");
    let hex = |part| u64::from_str_radix(part, 16).expect("hexadecimal digits");
    hex(high) << 32 | hex(low)
}

/// The ids of a report's rules with a verdict.
fn with_verdict(report: &Value, verdict: &str) -> Vec<String> {
    let rules = report["rules"].as_array().expect("rules").iter();
    let mut ids: Vec<String> = rules
        .filter(|rule| rule["verdict"] == verdict)
        .map(|rule| rule["id"].as_str().expect("an id").to_owned())
        .collect();
    ids.sort();
    ids
}

#[test]
fn one_bad_update_among_a_hundred_thousand_transactions_is_named() {
    let mut clock = Instant::now();
    let mut lap = |what: &str| {
        eprintln!("{what}: {:.1} s", clock.elapsed().as_secs_f64());
        clock = Instant::now();
    };
    let cluster = Cluster::start();
    cluster.sql(
        "postgres",
        "alter database postgres set synchronous_commit = off",
    );
    cluster.client("pgbench", &["-i", "-q", "postgres"]);
    let place = Place::new();
    let mut capture = Capture::begin(&cluster, "postgres", &TABLES, &place.path("bank"));
    lap("a bank");
    run(&cluster, TRANSACTIONS / 2);
    let before = lsn(&cluster);
    let said = cluster.sql("postgres", PLANTED);
    let after = lsn(&cluster);
    let xid: u64 = said
        .lines()
        .next()
        .expect("an xid")
        .parse()
        .expect("a number");
    run(&cluster, TRANSACTIONS / 2);
    lap("pgbench");
    let commits = capture.take();
    assert_eq!(
        commits,
        TRANSACTIONS as u64 + 1,
        "every transaction was captured"
    );
    lap("captured");
    let planted = TRANSACTIONS as u64 / 2 + 1;

    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/rules/pgbench.yaml");
    let last_good = format!("#{}", planted - 1);
    let good = place
        .check(&["bank", "--rules", rules, "--at", &last_good])
        .exits(0);
    lap("checked before the bad update");
    assert_eq!(
        good.json()["summary"],
        json!({"held": 13, "violated": 0, "unknown": 0})
    );
    assert_eq!(good.json()["at"]["commit"], planted - 1);
    let bad = place.check(&["bank", "--rules", rules]).exits(1);
    lap("checked at the end");
    assert_eq!(with_verdict(&bad.json(), "violated"), BROKEN);
    assert_eq!(
        bad.json()["summary"],
        json!({"held": 11, "violated": 2, "unknown": 0})
    );

    let mut arguments = vec!["bisect", "bank", "--rules", rules, "--format", "json"];
    let ids = with_verdict(&good.json(), "held");
    for id in &ids {
        arguments.extend(["--rule", id]);
    }
    let found = place.run(&arguments).exits(1);
    lap("bisected");
    let report = found.json();
    assert_eq!(with_verdict(&report, "violated"), BROKEN);
    let listed = report["rules"].as_array().expect("rules").len();
    assert_eq!(listed, 13, "every rule that was named");
    let never = |rule: &&Value| {
        let empty = |list: &str| rule[list].as_array().is_some_and(Vec::is_empty);
        rule["verdict"] == "held" && empty("onsets") && empty("earlier")
    };
    let held = report["rules"]
        .as_array()
        .expect("rules")
        .iter()
        .filter(never);
    assert_eq!(
        held.count(),
        listed - BROKEN.len(),
        "no other rule was ever broken: {report:#}"
    );
    for id in BROKEN {
        let rule = found.rule(id);
        let first = &rule["first_bad"];
        assert_eq!(rule["certainty"], "exact");
        assert_eq!(first["commit"], planted);
        assert_eq!(first["xid"], xid);
        assert_eq!(
            first["context"],
            json!({"service": "psql", "user": "night shift"})
        );
        let lsn = number(first["lsn"].as_str().expect("an LSN"));
        assert!(
            (number(&before)..number(&after)).contains(&lsn),
            "{lsn:X}: {before} to {after}"
        );
        assert_eq!(rule["last_good"]["commit"], planted - 1);
        let changes = first["changes"].as_array().expect("changes");
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0]["table"], "public.pgbench_accounts");
        assert_eq!(changes[0]["op"], "update");
        assert_eq!(changes[0]["key"], json!({"aid": 4242}));
        let balance = |side: &str| changes[0][side]["abalance"].as_i64().expect("a balance");
        assert_eq!(balance("after") - balance("before"), 777);
        let onsets = rule["onsets"].as_array().expect("onsets");
        assert_eq!(onsets.len(), 1, "{rule:#}");
        assert_eq!(onsets[0]["commit"], planted);
        assert_eq!(onsets[0]["healed"], Value::Null);
    }
    let onset = &found.rule("account-differs-from-history")["onsets"][0];
    assert_eq!(onset["key"], json!({"aid": 4242}));
}
