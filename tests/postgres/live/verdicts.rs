//! Verdicts over a live database: those over its dump, those of the server's own SQL, and of one moment while others write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use firstbad::postgres::{Access, Session, Target};
use serde_json::Value;

use super::{read, rows};
use crate::place::Place;
use crate::postgres::Cluster;
use crate::rng::Rng;

const FIRST_SEED: u64 = 20_260_801;

const SCHEMA: &str = "
    create table parents (id integer primary key, name text, total numeric(12,2), since date, at timestamptz, spare text);
    create table items (id bigint primary key, parent integer, amount numeric(12,2), qty smallint, note text, flag boolean, at timestamptz,
        spare integer[], extra jsonb);
    create table pairs (a integer, b text, v integer, unused bytea);
    create table copies (id integer primary key, name text, other text);";

/// Every kind of check of states: with evidence, impact, members of groups, thresholds, names of other tables.
const RULES: &str = r#"
rules:
  - {id: no-quantity, table: items, not_null: [qty, note], impact: amount}
  - {id: empty, table: items, not_empty: [note]}
  - {id: complete, table: items, completeness: {column: qty, min_percent: 99}}
  - {id: twice, table: items, unique: [parent, qty], where: flag}
  - {id: pairs-twice, table: pairs, unique: [a, b]}
  - {id: words, table: items, accepted_values: {column: note, values: [a, b]}, threshold: {max: 3}}
  - {id: words-not, table: items, rejected_values: {column: note, values: [c]}}
  - {id: quantity, table: items, range: {column: qty, min: 0, max: 90}}
  - {id: letters, table: items, length: {column: note, max: 1}}
  - {id: pattern, table: items, matches: {column: note, pattern: '^[a-c]*$'}}
  - {id: expression, table: items, expression: 'amount * 2 < 150 or flag'}
  - {id: orphan, table: items, references: {column: parent, to: parents.id}}
  - {id: childless, table: parents, has: {table: items, match: {parent: id}, where: flag, min: 1, max: 3}}
  - {id: with-child, table: parents, has_no: {table: items, match: {parent: id}, where: 'qty > 95'}}
  - {id: numbers, table: parents, sequence: {column: id, from: 1}}
  - {id: windows, table: items, window_gap: {column: at, every: 1h, min_rows: 2}}
  - {id: total, table: parents, balance: {left: total, right: sum(items.amount), match: {parent: id}}}
  - {id: same, table: parents, same_rows: {as: copies, match: {id: id}, columns: [name]}}
  - {id: rows, table: items, row_count: {min: 1000, per: [parent]}}
  - {id: mean, table: items, aggregate: {sql: avg(amount), max: 1}}
  - {id: old, table: items, fresh: {column: at, max_age: 1h}}
  - {id: shape, table: items, schema: {columns: {id: integer, gone: text}}}
  - {id: many, key: [a], sql: 'select a, count(*) as n from pairs group by a having count(*) > 3'}
  - {id: later, key: [id], sql: 'select id from (select id, row_number() over (partition by parent order by id) as n from items) as s where n > 4'}
  - {id: of-all, sql: 'select * from pairs where v > 7'}
  - {id: grace, table: parents, has: {table: items, match: {parent: id}, where: 'qty = 1'}, within: 5m}
"#;

/// The same questions in SQL, whose answers are keys as JSON.
const ASKED: &[(&str, &str)] = &[
    (
        "no-quantity",
        "select json_build_object('id', id) from items where qty is null or note is null",
    ),
    (
        "twice",
        "select json_build_object('parent', parent, 'qty', qty) from items where flag and parent is not null and qty is not null group by parent, qty having count(*) > 1",
    ),
    (
        "quantity",
        "select json_build_object('id', id) from items where not (qty between 0 and 90)",
    ),
    (
        "expression",
        "select json_build_object('id', id) from items where not (amount * 2 < 150 or flag)",
    ),
    (
        "orphan",
        "select json_build_object('id', id) from items where parent is not null and parent not in (select id from parents)",
    ),
    (
        "childless",
        "select json_build_object('id', id) from parents p where (select count(*) from items i where i.parent = p.id and i.flag) not between 1 and 3",
    ),
    (
        "total",
        "select json_build_object('id', id) from parents p where total <> (select coalesce(sum(amount), 0) from items i where i.parent = p.id)",
    ),
    (
        "many",
        "select json_build_object('a', a) from pairs group by a having count(*) > 3",
    ),
    (
        "later",
        "select json_build_object('id', id) from (select id, row_number() over (partition by parent order by id) as n from items) as s where n > 4",
    ),
];

fn fill(cluster: &Cluster, seed: u64) {
    let rng = &mut Rng::new(seed);
    let mut sql = SCHEMA.to_owned();
    let or_null = |rng: &mut Rng, text: String| {
        if rng.chance(10) {
            "null".to_owned()
        } else {
            text
        }
    };
    for id in 1..40 {
        if rng.chance(90) {
            let total = rng.between(0, 200).to_string();
            sql += &format!(
                "insert into parents values ({id}, 'p{id}', {}, '2026-01-01', '2026-03-01 00:00Z', 'spare');",
                or_null(rng, total)
            );
            sql += &format!(
                "insert into copies values ({id}, 'p{}', 'x');",
                rng.pick(&[id, id, 7])
            );
        }
    }
    for id in 0..300 {
        let parent = rng.between(1, 42).to_string();
        // In every other database some amounts are no numbers.
        let amount = match seed % 2 == 1 && rng.chance(3) {
            true => "'NaN'".to_owned(),
            false => format!("{}.{:02}", rng.between(-20, 99), rng.below(100)),
        };
        let (qty, note) = (
            rng.between(-10, 100).to_string(),
            format!("'{}'", rng.pick(&["a", "b", "c", "", "dd"])),
        );
        sql += &format!(
            "insert into items values ({id}, {}, {}, {}, {}, {}, timestamptz '2026-03-01 00:00Z' + {} * interval '7 minutes', '{{1}}', '{{}}');",
            or_null(rng, parent),
            or_null(rng, amount),
            or_null(rng, qty),
            or_null(rng, note),
            rng.pick(&["true", "false", "null"]),
            rng.below(200)
        );
        sql += &format!(
            "insert into pairs values ({}, '{}', {}, '\\x00');",
            rng.below(90),
            rng.pick(&["x", "y"]),
            rng.below(10)
        );
    }
    cluster.sql("shop", &sql);
}

/// A report without what depends on how it was made.
fn judged(text: &str) -> Vec<Value> {
    let report: Value = serde_json::from_str(text).expect("JSON");
    report["rules"].as_array().expect("rules").clone()
}

fn keys(found: &Value) -> Vec<String> {
    let sample = found["sample"].as_array().expect("a sample");
    let mut keys: Vec<String> = sample.iter().map(|one| one["key"].to_string()).collect();
    keys.sort();
    keys
}

#[test]
fn verdicts_are_those_of_the_dump_and_of_the_server() {
    let cluster = Cluster::start();
    let place = Place::new().with("rules/r.yaml", RULES);
    let seed =
        std::env::var("FIRSTBAD_SEED").map_or(FIRST_SEED, |seed| seed.parse().expect("a number"));
    for seed in seed..seed + 3 {
        println!("FIRSTBAD_SEED={seed}");
        cluster.sql("postgres", "drop database if exists shop");
        cluster.sql("postgres", "create database shop");
        fill(&cluster, seed);
        place.write("dump.sql", cluster.dump("shop", &[]));
        let flags = ["--sample", "all", "--now", "2026-03-02T00:00:00Z"];
        let url = cluster.url("shop");
        let live = place
            .check(&[&[url.as_str()], &flags[..]].concat())
            .exits(1);
        let dump = place.check(&[&["dump.sql"], &flags[..]].concat()).exits(1);
        assert_eq!((live.err.as_str(), dump.err.as_str()), ("", ""));
        let (live, dump) = (judged(&live.out), judged(&dump.out));
        for (one, other) in live.iter().zip(&dump) {
            assert_eq!(one, other);
        }
        // One state does not say since when something is wrong.
        let grace = live.last().expect("a rule");
        assert_eq!(
            (&grace["id"], &grace["verdict"]),
            (&"grace".into(), &"unknown".into())
        );
        assert_eq!(live.len(), dump.len());
        assert!(
            live.iter()
                .filter(|one| one["verdict"] == "violated")
                .count()
                > 15
        );
        for (id, sql) in ASKED {
            let found = live.iter().find(|one| one["id"] == *id).expect("the rule");
            let asked = cluster.sql("shop", sql);
            let parsed = asked.lines().map(|line| {
                serde_json::from_str::<Value>(line)
                    .expect("JSON")
                    .to_string()
            });
            let mut asked: Vec<String> = parsed.collect();
            asked.sort();
            assert_eq!(keys(found), asked, "{id}");
        }
    }
    // Each rule alone: what one needs is not there because of another.
    let all = judged(
        &place
            .check(&["dump.sql", "--now", "2026-03-02T00:00:00Z"])
            .out,
    );
    for rule in &all {
        let id = rule["id"].as_str().expect("an id");
        let url = cluster.url("shop");
        let alone = place.check(&[&url, "--now", "2026-03-02T00:00:00Z", "--rule", id]);
        assert_eq!(judged(&alone.out), vec![rule.clone()], "{id}");
    }
    one_moment(&cluster, &place);
    large(&cluster);
}

/// Money moves between two tables all the time; at every moment all of it is there.
fn one_moment(cluster: &Cluster, place: &Place) {
    cluster.sql("postgres", "create database bank");
    cluster.sql(
        "bank",
        "create table branches (id integer primary key, total bigint not null);
         create table accounts (id integer primary key, branch integer not null, balance bigint not null, filler text);
         insert into branches select i, 100000 from generate_series(0, 9) i;
         insert into accounts select i, i % 10, 100, repeat('x', 100) from generate_series(0, 9999) i;",
    );
    let url = cluster.url("bank");
    let stop = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (stop, url) = (Arc::clone(&stop), url.clone());
        move || moves(&url, &stop)
    });
    for _ in 0..50 {
        let (history, _) = read(&url);
        let number = |text: &str| text.trim_matches('\'').parse::<i64>().expect("a number");
        let mut sums = [0i64; 10];
        for row in rows(&history, "accounts") {
            sums[usize::try_from(number(&row[1])).expect("a branch")] += number(&row[2]);
        }
        for row in rows(&history, "branches") {
            let at = usize::try_from(number(&row[0])).expect("a branch");
            assert_eq!(number(&row[1]), sums[at], "branch {at}");
        }
    }
    place.write(
        "bank/r.yaml",
        "rules:\n  - {id: b, table: branches, balance: {left: total, right: sum(accounts.balance), match: {branch: id}}}\n",
    );
    for _ in 0..3 {
        place.check(&[&url, "--rules", "bank"]).exits(0);
    }
    stop.store(true, Ordering::SeqCst);
    let moved = writer.join().expect("the writer ends");
    assert!(moved > 50, "{moved} transactions ran beside the checks");
}

/// Moves money until it is stopped; gives how often.
fn moves(url: &str, stop: &AtomicBool) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    runtime.block_on(async {
        let target = Target::parse(url).unwrap_or_else(|error| panic!("{error}"));
        let session = Session::open(&target, "writer", Access::ReadWrite).await;
        let session = session.unwrap_or_else(|error| panic!("{error}"));
        let (rng, mut moved) = (&mut Rng::new(1), 0);
        while !stop.load(Ordering::SeqCst) {
            let (from, to, amount) = (rng.below(10_000), rng.below(10_000), rng.below(50));
            let sql = format!(
                "begin; update accounts set balance = balance - {amount} where id = {from};
                 update branches set total = total - {amount} where id = {from} % 10;
                 update accounts set balance = balance + {amount} where id = {to};
                 update branches set total = total + {amount} where id = {to} % 10; commit"
            );
            let done = session.client().batch_execute(&sql).await;
            done.unwrap_or_else(|error| panic!("{error}"));
            moved += 1;
        }
        moved
    })
}

/// A table that is read in ranges of its pages.
fn large(cluster: &Cluster) {
    cluster.sql("postgres", "create database large");
    cluster.sql(
        "large",
        "create table wide (id integer primary key, filler text); alter table wide alter column filler set storage plain;
         insert into wide select i, repeat(chr(97 + i % 26), 7900) from generate_series(1, 18000) i;
         delete from wide where id % 1000 = 7; analyze wide;",
    );
    let (history, _) = read(&cluster.url("large"));
    let versions = &history.tables[0];
    let mut ids: Vec<i64> = Vec::new();
    for row in versions.visible(0) {
        if let firstbad::change::Cell::Int(id) = versions.cell(0, row) {
            ids.push(id);
        }
    }
    ids.sort_unstable();
    let expected: Vec<i64> = (1..=18_000).filter(|id| id % 1000 != 7).collect();
    assert!(ids == expected, "{} of {} rows", ids.len(), expected.len());
}
