//! The doctor: what it finds is so, and its statements mend it.

use firstbad::postgres::{Lsn, Replication};
use serde_json::Value;

use crate::place::{Place, Ran};
use crate::postgres::{Cluster, Setup};
use crate::psql::url;
use crate::{run, target};

const RULES: &str = "
rules:
  - {id: total, table: orders, expression: total >= 0}
  - {id: net, table: orders, expression: net >= 0}
  - {id: word, table: odd.loose, not_null: [word]}
  - {id: name, table: hidden, not_null: [name]}
  - {id: place, table: fast, not_null: [place]}
  - {id: kind, table: events, accepted_values: {column: kind, values: [login, logout]}}
  - {id: jumps, table: by_index, transitions: {column: state, allowed: {a: [b], b: []}}}
";

const TABLES: &str = "
create schema odd;
create table orders (id bigint primary key, total numeric, net numeric generated always as (total / 2) stored, at interval);
create table odd.loose (word text);
create table hidden (id bigint primary key, name text);
alter table hidden enable row level security;
create unlogged table fast (id bigint primary key, place text);
create table events (id bigint, day date, kind text, primary key (id, day)) partition by range (day);
create table events_1 partition of events for values from ('2026-01-01') to ('2026-07-01');
create table events_2 partition of events for values from ('2026-07-01') to ('2027-01-01');
alter table events_2 replica identity nothing;
create table by_index (id bigint primary key, code text not null unique, state text);
alter table by_index replica identity using index by_index_code_key;
create table unread (word text);
insert into orders values (1, 10, default), (2, -10, default);
insert into events values (1, '2026-03-01', 'login');
create role plain login;
create role plain_bypass;
";

fn examined(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {}{}", ran.out, ran.err))
}

/// Ids of findings of a severity, in order.
fn ids(report: &Value, severity: &str) -> Vec<String> {
    let all = report["findings"].as_array().expect("a list");
    let matching = all.iter().filter(|one| one["severity"] == severity);
    let mut ids: Vec<String> = matching
        .map(|one| one["id"].as_str().expect("an id").to_owned())
        .collect();
    ids.sort();
    ids
}

/// The statements that mend what blocks, but for some.
fn fixes(report: &Value, without: &[&str]) -> String {
    let all = report["findings"].as_array().expect("a list");
    let blocks = all
        .iter()
        .filter(|one| one["severity"] == "blocks" && without.iter().all(|id| one["id"] != *id));
    let statements = blocks.flat_map(|one| one["fix"].as_array().expect("a list"));
    let statements: Vec<&str> = statements.map(|one| one.as_str().expect("SQL")).collect();
    statements.join("\n")
}

#[test]
fn its_statements_mend_what_it_finds() {
    let cluster = Cluster::start();
    cluster.sql("postgres", "create database shop");
    cluster.sql("shop", TABLES);
    let place = Place::new().with("r.yaml", RULES);
    let plain = url(&cluster, "plain", "shop");
    let doctor = ["doctor", &plain, "--rules", "r.yaml", "--format", "json"];

    let report = examined(&place.run(&doctor).exits(1));
    assert_eq!(report["schema"], "firstbad/doctor@1");
    assert_eq!(
        (&report["watching"], &report["reading"]),
        (&false.into(), &false.into())
    );
    assert_eq!(
        ids(&report, "blocks"),
        [
            "identity-index",
            "identity-nothing",
            "no-key",
            "no-publication",
            "no-replication",
            "no-select",
            "row-security",
            "unlogged"
        ]
    );
    assert_eq!(ids(&report, "weakens"), ["generated"]);
    let full: Vec<&str> = report["rules"]
        .as_array()
        .expect("rules")
        .iter()
        .filter(|rule| rule["identity_full"] != serde_json::json!([]))
        .map(|rule| rule["rule"].as_str().expect("an id"))
        .collect();
    assert_eq!(full, ["word"], "an identity is needed beyond the key's");
    let generated = report["findings"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|one| one["id"] == "generated");
    let breaks = generated.expect("it is there")["breaks"]
        .as_str()
        .expect("a text");
    assert!(breaks.starts_with("rule net is unknown"), "{breaks}");

    cluster.sql("shop", &fixes(&report, &[]));
    let report = examined(&place.run(&doctor).exits(0));
    assert_eq!(ids(&report, "blocks"), [""; 0]);
    assert_eq!(
        (&report["watching"], &report["reading"]),
        (&true.into(), &true.into())
    );
    let watch = [
        "watch",
        &plain,
        "--store",
        "store",
        "--rules",
        "r.yaml",
        "--until-now",
    ];
    place.run(&watch).exits(0);
    cluster.sql("shop", "update odd.loose set word = 'x'; update events set kind = 'logout'; update orders set total = 1 where id = 1");
    place.run(&watch).exits(0);

    a_slot_that_is_there(&cluster, &place, &doctor);
    a_publication_that_hides(&cluster, &place);
    what_is_wrong_with_the_question(&cluster, &place, &plain);
}

fn a_slot_that_is_there(cluster: &Cluster, place: &Place, doctor: &[&str]) {
    let report = examined(&place.run(doctor).exits(0));
    assert!(
        ids(&report, "note").contains(&"slot-idle".to_owned()),
        "{report}"
    );
    run(async {
        let replication = Replication::open(&target(&cluster.url("shop")), "test").await;
        let replication = replication.unwrap_or_else(|error| panic!("{error}"));
        let stream = replication.start("firstbad", &["firstbad"], Lsn(0)).await;
        let stream = stream.unwrap_or_else(|error| panic!("{error}"));
        let report = examined(&place.run(doctor).exits(1));
        assert_eq!(ids(&report, "blocks"), ["slot-in-use"]);
        assert_eq!(report["reading"], true);
        drop(stream);
    });
    cluster.sql(
        "shop",
        "select pg_create_physical_replication_slot('standby')",
    );
    let other = [doctor, &["--slot", "standby"]].concat();
    assert_eq!(
        ids(&examined(&place.run(&other).exits(1)), "blocks"),
        ["other-slot"]
    );
    cluster.sql("shop", "select pg_drop_replication_slot('standby')");
}

/// A publication that somebody made, with everything that can be wrong with one.
fn a_publication_that_hides(cluster: &Cluster, place: &Place) {
    cluster.sql(
        "shop",
        "create publication partial for table unread, orders where (id > 5), hidden (id) with (publish = 'insert, update, delete')",
    );
    let url = cluster.url("shop");
    let failed = cluster.sql(
        "shop",
        "insert into unread values ('a');
         do $$ begin update unread set word = 'b'; raise exception 'it must fail';
         exception when object_not_in_prerequisite_state then null; end $$",
    );
    assert_eq!(failed, "", "published without an identity, an update fails");
    let doctor = [
        "doctor",
        &url,
        "--rules",
        "r.yaml",
        "--slot",
        "another",
        "--publication",
        "partial",
        "--format",
        "json",
    ];
    let report = examined(&place.run(&doctor).exits(1));
    assert_eq!(
        ids(&report, "blocks"),
        [
            "hidden-rows",
            "not-all-operations",
            "not-via-root",
            "published-without-identity"
        ]
    );
    assert!(
        ids(&report, "note").contains(&"not-published".to_owned()),
        "{report}"
    );
    assert!(
        ids(&report, "note").contains(&"more-published".to_owned()),
        "{report}"
    );
    cluster.sql("shop", &fixes(&report, &[]));
    cluster.sql("shop", "update unread set word = 'b'");
    assert_eq!(
        ids(&examined(&place.run(&doctor).exits(0)), "blocks"),
        [""; 0]
    );
    let plain = crate::psql::url(cluster, "plain", "shop");
    let as_plain = [
        "doctor",
        &plain,
        "--rules",
        "r.yaml",
        "--publication",
        "partial",
        "--format",
        "json",
    ];
    let report = examined(&place.run(&as_plain).exits(1));
    assert_eq!(
        ids(&report, "blocks"),
        ["not-published"],
        "it may not add what is missing"
    );
    cluster.sql("shop", &fixes(&report, &[]));
    place.run(&as_plain).exits(0);
    // Without rules, every table is looked at.
    let all = examined(&place.run(&["doctor", &url, "--format", "json"]).exits(0));
    assert_eq!(
        (&all["rules"], all["tables"].as_array().map(Vec::len)),
        (&Value::Null, Some(7))
    );
}

fn what_is_wrong_with_the_question(cluster: &Cluster, place: &Place, plain: &str) {
    place
        .run(&["doctor", plain, "--slot", "No"])
        .refused(&["`No` is no name of a replication slot"]);
    place.run(&["doctor", "orders.csv"]).exits(2);
    place.write(
        "wrong.yaml",
        "rules:\n  - {id: a, table: nowhere, not_null: [x]}\n",
    );
    place
        .run(&["doctor", plain, "--rules", "wrong.yaml"])
        .refused(&["wrong.yaml:2", "nowhere"]);
    let nobody = plain.replace("plain@", "nobody_at_all@");
    place
        .run(&["doctor", &nobody])
        .exits(3)
        .warns(&["cannot examine", "nobody_at_all"]);
    let ran = place
        .run(&["doctor", plain, "--rules", "r.yaml", "--slot", "s"])
        .exits(0);
    let ran = ran.says(&[
        "as plain: PostgreSQL",
        "worth knowing",
        "watching   can begin",
    ]);
    assert!(!ran.out.contains("CREATE ROLE"));
    assert_eq!(
        cluster.sql("shop", "select count(*) from pg_replication_slots"),
        "1\n",
        "it made nothing"
    );
}

#[test]
fn a_server_without_logical_replication_can_be_read() {
    let settings = [
        "wal_level=replica",
        "max_replication_slots=1",
        "max_wal_senders=0",
        "wal_sender_timeout=2s",
        "max_slot_wal_keep_size=64MB",
        "logical_decoding_work_mem=1MB",
        "max_prepared_transactions=2",
    ];
    let cluster = Cluster::start_with(&Setup {
        settings: &settings,
        ..Setup::default()
    });
    cluster.sql(
        "postgres",
        "create table t (id int primary key); select pg_create_physical_replication_slot('one')",
    );
    let place = Place::new().with("r.yaml", "rules:\n  - {id: r, table: t, not_null: [id]}\n");
    let url = cluster.url("postgres");
    let report = examined(
        &place
            .run(&["doctor", &url, "--rules", "r.yaml", "--format", "json"])
            .exits(1),
    );
    assert_eq!(
        ids(&report, "blocks"),
        ["senders-full", "slots-full", "wal-level"]
    );
    assert_eq!(
        ids(&report, "weakens"),
        ["little-log", "short-sender-timeout"]
    );
    assert!(ids(&report, "note").contains(&"decoding-memory".to_owned()));
    assert_eq!(report["reading"], true);
    place
        .run(&["doctor", &url, "--rules", "r.yaml"])
        .exits(1)
        .says(&[
            "✗ wal_level is replica, not logical",
            "      alter system set wal_level = 'logical';\n",
            "then restart the server",
            "firstbad check",
            "--mode snapshots",
        ]);
    place.run(&["check", &url, "--rules", "r.yaml"]).exits(0);
}
