//! Random writes of every kind on a real server, captured: the replayed state is the server's, and rules find what the same questions,
//! asked in SQL on the server at that moment, find. PostgreSQL is the oracle.
//!
//! `FIRSTBAD_SEED` replays a workload; a failure prints the seed.

use serde_json::{Value, json};

use crate::capture::{Capture, copy};
use crate::place::Place;
use crate::postgres::Cluster;
use crate::rng::Rng;
use crate::writes::{SCHEMA, TABLES, statement, transaction};

const DATABASE: &str = "shop";
const FIRST_SEED: u64 = 20_260_312;
/// Moments at which the server is asked.
const MOMENTS: usize = 8;
/// Transactions between two of them.
const TRANSACTIONS: usize = 60;

/// A rule, and the keys that it finds as the server finds them.
struct Pair {
    id: &'static str,
    rule: &'static str,
    /// Gives one JSON object a violation.
    sql: &'static str,
}

const RULES: [Pair; 16] = [
    Pair {
        id: "no-quantity",
        rule: "table: items, not_null: [qty]",
        sql: "select json_build_object('id', id) from items where qty is null",
    },
    Pair {
        id: "quantity",
        rule: "table: items, range: {column: qty, min: 0, max: 90}",
        sql: "select json_build_object('id', id) from items where not (qty between 0 and 90)",
    },
    Pair {
        id: "orphan",
        rule: "table: items, references: {column: parent, to: parents.id}",
        sql: "select json_build_object('id', id) from items where parent is not null and parent not in (select id from parents)",
    },
    Pair {
        id: "childless",
        rule: "table: parents, has: {table: items, match: {parent: id}, where: 'flag', min: 1, max: 3}",
        sql: "select json_build_object('id', id) from parents p
              where (select count(*) from items i where i.parent = p.id and i.flag) not between 1 and 3",
    },
    Pair {
        id: "total",
        rule: "table: parents, balance: {left: total, right: sum(items.amount), match: {parent: id}}",
        sql: "select json_build_object('id', id) from parents p
              where total <> (select coalesce(sum(amount), 0) from items i where i.parent = p.id)",
    },
    Pair {
        id: "twice",
        rule: "table: items, unique: [parent, qty]",
        sql: "select json_build_object('parent', parent, 'qty', qty) from items where parent is not null and qty is not null
              group by parent, qty having count(*) > 1",
    },
    Pair {
        id: "mood",
        rule: "table: items, accepted_values: {column: m, values: [glad, \"it's \\\"odd\\\"\"]}",
        sql: "select json_build_object('id', id) from items where m not in ('glad', 'it''s \"odd\"')",
    },
    Pair {
        id: "expression",
        rule: "table: items, expression: 'amount * 2 < 150 or flag'",
        sql: "select json_build_object('id', id) from items where not (amount * 2 < 150 or flag)",
    },
    Pair {
        id: "times",
        rule: "table: items, expression: \"tz > timestamptz '2026-01-01 00:00:00Z' and day < date '2026-07-01'\"",
        sql: "select json_build_object('id', id) from items
              where not (tz > timestamptz '2026-01-01 00:00:00Z' and day < date '2026-07-01')",
    },
    Pair {
        id: "many",
        rule: "key: [a], sql: 'select a, count(*) as n from pairs group by a having count(*) > 3'",
        sql: "select json_build_object('a', a) from pairs group by a having count(*) > 3",
    },
    Pair {
        id: "later",
        rule: "key: [id], sql: 'select id from (select id, row_number() over (partition by parent order by id) as n from items) as s where n > 4'",
        sql: "select json_build_object('id', id)
              from (select id, row_number() over (partition by parent order by id) as n from items) as s where n > 4",
    },
    Pair {
        id: "letters",
        rule: "table: items, matches: {column: note, pattern: '^[a-zA-Z ]*$'}",
        sql: "select json_build_object('id', id) from items where note !~ '^[a-zA-Z ]*$'",
    },
    Pair {
        id: "numbers",
        rule: "table: parents, sequence: {column: id, from: 1}",
        sql: "select json_build_object('id', n) from generate_series(1, (select max(id) from parents)) as n
              where n not in (select id from parents)",
    },
    Pair {
        id: "texts",
        rule: "table: pairs, length: {column: b, max: 2}",
        sql: "select json_build_object('a', a, 'b', b) from pairs where length(b) > 2",
    },
    Pair {
        id: "logged",
        rule: "key: [item], sql: 'select item, sum(delta) as delta from logs group by item having sum(delta) < 0'",
        sql: "select json_build_object('item', item) from logs group by item having sum(delta) < 0",
    },
    Pair {
        id: "pages",
        rule: "key: [pages], sql: 'select sum(length(large)) as pages from items having sum(length(large)) > 0'",
        sql: "select json_build_object('pages', sum(length(large))) from items having sum(length(large)) > 0",
    },
];

/// What the server says at a moment: where it is, and the violations of each rule.
struct Moment {
    lsn: String,
    found: Vec<Vec<Value>>,
}

fn sorted(mut keys: Vec<Value>) -> Vec<Value> {
    keys.sort_by_key(Value::to_string);
    keys
}

fn ask(cluster: &Cluster) -> Moment {
    let mut sql = "select pg_current_wal_insert_lsn();\n".to_owned();
    for (at, pair) in RULES.iter().enumerate() {
        sql.push_str(&format!(
            "select '{at} ' || k from ({}) as q(k);\n",
            pair.sql
        ));
    }
    let said = cluster.sql(DATABASE, &sql);
    let mut lines = said.lines();
    let lsn = lines.next().expect("an LSN").to_owned();
    let mut found = vec![Vec::new(); RULES.len()];
    for line in lines {
        let (at, key) = line.split_once(' ').expect("a rule and a key");
        let key = serde_json::from_str(key).expect("a key");
        found[at.parse::<usize>().expect("a number")].push(key);
    }
    Moment {
        lsn,
        found: found.into_iter().map(sorted).collect(),
    }
}

fn rules() -> String {
    let one = |pair: &Pair| format!("  - {{id: {}, {}}}\n", pair.id, pair.rule);
    let rules: String = RULES.iter().map(one).collect();
    format!("rules:\n{rules}")
}

/// A history with its moments; the server's tables at the end stand beside it in `end/`.
fn record(seed: u64, cluster: &Cluster) -> (Place, Vec<Moment>) {
    let mut rng = Rng::new(seed);
    let place = Place::new();
    cluster.sql("postgres", &format!("create database {DATABASE}"));
    cluster.sql(DATABASE, SCHEMA);
    let begin: String = (0..40).map(|_| statement(&mut rng) + "\n").collect();
    cluster.sql(DATABASE, &begin);
    let mut capture = Capture::begin(cluster, DATABASE, &TABLES, &place.path("d"));
    let mut moments = vec![ask(cluster)];
    for _ in 0..MOMENTS {
        let script: String = (0..TRANSACTIONS).map(|_| transaction(&mut rng)).collect();
        cluster.sql(DATABASE, &script);
        moments.push(ask(cluster));
        capture.take();
    }
    place.write("d/rules/r.yaml", rules());
    place.write("end/schema.sql", place.read("d/schema.sql"));
    copy(cluster, DATABASE, &TABLES, &place.path("end"));
    (place, moments)
}

/// Every operation and every awkward image is there, or the comparison says little.
fn is_rich(place: &Place) {
    let changes: String = (1..=MOMENTS)
        .map(|file| place.read(&format!("d/changes/{file:04}.ndjson")))
        .collect();
    for sign in [
        "\"op\":\"insert\"",
        "\"op\":\"update\"",
        "\"op\":\"delete\"",
        "\"op\":\"truncate\"",
        "\"op\":\"update\",\"key\"",
        "\"op\":\"update\",\"before\"",
        "\"op\":\"delete\",\"before\"",
        "größer",
    ] {
        assert!(changes.contains(sign), "no change has {sign}");
    }
    let values = changes.lines().flat_map(|line| {
        let line: Value = serde_json::from_str(line).expect("a transaction");
        line["changes"].as_array().expect("changes").clone()
    });
    let unchanged = values.filter(|change| {
        change["table"] == "public.items"
            && change["op"] == "update"
            && change["after"].get("large").is_none()
    });
    assert!(unchanged.count() > 10, "large values were left alone");
}

fn seed() -> u64 {
    match std::env::var("FIRSTBAD_SEED") {
        Ok(seed) => seed.parse().expect("FIRSTBAD_SEED is a number"),
        Err(_) => FIRST_SEED,
    }
}

#[test]
fn the_replayed_state_and_the_rules_are_the_servers() {
    let seed = seed();
    eprintln!("FIRSTBAD_SEED={seed}");
    let cluster = Cluster::start();
    let (place, moments) = record(seed, &cluster);
    is_rich(&place);
    let differences = place.run(&["diff", "d", "end", "--exit-code"]);
    assert_eq!(
        differences.code, 0,
        "{}{}",
        differences.out, differences.err
    );
    for table in TABLES {
        let query = format!("select * from {table} order by 1, 2, 3");
        let answer = |source| {
            place
                .run(&["sql", source, &query, "--format", "csv"])
                .exits(0)
                .out
        };
        assert_eq!(answer("d"), answer("end"), "{table}");
    }
    same_values(&cluster, &place);
    one_fingerprint(&cluster, &place);
    let mut violated = vec![0; RULES.len()];
    for moment in &moments {
        let ran = place.check(&["d", "--at", &moment.lsn, "--sample", "all"]);
        for ((pair, expected), count) in RULES.iter().zip(&moment.found).zip(&mut violated) {
            let keys = ran.keys(pair.id).as_array().expect("keys").clone();
            assert_eq!(
                &sorted(keys),
                expected,
                "seed {seed}: {} at {}",
                pair.id,
                moment.lsn
            );
            let rule = ran.rule(pair.id);
            assert_eq!(rule["violations"], json!(expected.len()), "{rule:#}");
            *count += expected.len();
        }
    }
    for (pair, count) in RULES.iter().zip(violated) {
        assert!(count > 0, "seed {seed}: {} never found anything", pair.id);
    }
}

/// Values as the server prints them, without a CSV file between.
fn same_values(cluster: &Cluster, place: &Place) {
    let columns = "id, parent, amount, qty, note, flag, u, j, v, iv, m, large";
    let query = format!("select {columns} from items order by id");
    let ours = place
        .run(&["sql", "d", &query, "--format", "jsonl"])
        .exits(0)
        .out;
    let theirs = "id, parent, amount::text, qty, note, flag, u, j::text, v, iv::text, m, large";
    let theirs = cluster.sql(
        DATABASE,
        &format!("select row_to_json(r) from (select {theirs} from items order by id) as r"),
    );
    let rows = |text: &str| -> Vec<Value> {
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).expect("a row"))
            .collect()
    };
    let (ours, theirs) = (rows(&ours), rows(&theirs));
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs);
    }
}

/// The state has one fingerprint, whether it was replayed, exported as CSV or Parquet, or dumped; and it is another than before.
fn one_fingerprint(cluster: &Cluster, place: &Place) {
    const SIGN: &str = "fingerprint of both: ";
    place.write("end.sql", cluster.dump(DATABASE, &[]));
    place.write("parquet/schema.sql", place.read("d/schema.sql"));
    for table in TABLES {
        let query = format!("select * from {table}");
        let file = format!("parquet/{table}.parquet");
        place
            .run(&["sql", "end", &query, "--format", "parquet", "-o", &file])
            .exits(0);
    }
    let fingerprint = |other| {
        let ran = place.run(&["diff", "d", other, "--exit-code"]).exits(0);
        let line = ran.out.lines().last().expect("a line").to_owned();
        let found = line.strip_prefix(SIGN).map(str::to_owned);
        found.unwrap_or_else(|| panic!("{other}: no fingerprint\n{}", ran.out))
    };
    let replayed = fingerprint("end");
    assert_eq!(replayed.len(), 64);
    assert_eq!(fingerprint("end.sql"), replayed, "the dump");
    assert_eq!(fingerprint("parquet"), replayed, "Parquet");
    let checked = |arguments: &[&str]| {
        let ran = place.run(&[&["check", "-v", "d", "--rule", "no-quantity"], arguments].concat());
        let line = ran.err.lines().find(|line| line.contains("fingerprint"));
        line.expect("a fingerprint").to_owned()
    };
    assert!(checked(&[]).ends_with(&replayed));
    assert!(!checked(&["--at", "#1"]).ends_with(&replayed));
}
