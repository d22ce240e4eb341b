//! Random writes of every kind on a real server, captured: the replayed state is the server's, and rules find what the same questions,
//! asked in SQL on the server at that moment, find. PostgreSQL is the oracle.
//!
//! `FIRSTBAD_SEED` replays a workload; a failure prints the seed.

use serde_json::{Value, json};

use crate::capture::{Capture, copy};
use crate::place::Place;
use crate::postgres::Cluster;
use crate::rng::Rng;

const DATABASE: &str = "shop";
const TABLES: [&str; 4] = ["parents", "items", "pairs", "logs"];
const FIRST_SEED: u64 = 20_260_312;
/// Moments at which the server is asked.
const MOMENTS: usize = 8;
/// Transactions between two of them.
const TRANSACTIONS: usize = 60;

/// Every type; one table with a key of two columns, one without a key. Nothing holds by constraint, so that rules find something.
const SCHEMA: &str = "
    create type mood as enum ('glad', 'sad', 'it''s \"odd\"');
    create table parents (id integer primary key, name text, total numeric(12,2), since date);
    create table items (
        id bigint primary key, parent integer, amount numeric(12,2), n numeric, qty smallint, note text, large text, flag boolean,
        day date, at timestamp, tz timestamptz, clock time, u uuid, j json, jb jsonb, ints integer[], texts text[], raw bytea, r real,
        d double precision, c char(5), v varchar(20), iv interval, m mood);
    alter table items alter column large set storage external;
    create table pairs (a integer, b text, v integer, primary key (a, b));
    create table logs (item bigint, delta numeric(12,2), note text);
    alter table logs replica identity full;";

/// Columns of `items` besides the key and `large`.
const COLUMNS: [&str; 22] = [
    "parent", "amount", "n", "qty", "note", "flag", "day", "at", "tz", "clock", "u", "j", "jb",
    "ints", "texts", "raw", "r", "d", "c", "v", "iv", "m",
];

/// Texts that are easily read wrongly.
const TEXTS: [&str; 14] = [
    "''",
    "'plain'",
    "'NULL'",
    "'null'",
    r"'\N'",
    r"'\.'",
    "'it''s'",
    r#"'say "hi"'"#,
    r"'back\slash\'",
    r"E'two\nlines\r\n'",
    r"E'tab\there'",
    "'größer 😀'",
    r"E'\x01\x7f\u2028'",
    "'  blanks  '",
];

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

/// A random value of a column of `items`, in SQL.
fn value(rng: &mut Rng, column: &str) -> String {
    if rng.chance(15) {
        return "null".into();
    }
    let text = |rng: &mut Rng| (*rng.pick(&TEXTS)).to_owned();
    let some = |rng: &mut Rng, values: &[&str]| (*rng.pick(values)).to_owned();
    match column {
        "parent" => rng.between(0, 9).to_string(),
        "amount" => format!("{}.{:02}", rng.between(-20, 99), rng.below(100)),
        "n" => some(
            rng,
            &[
                "0",
                "1.50",
                "-12345678901234567890.123456789",
                "1e20",
                "0.0000000001",
            ],
        ),
        "qty" => rng.between(-10, 100).to_string(),
        "flag" => some(rng, &["true", "false"]),
        "day" => format!("'2026-{:02}-{:02}'", rng.between(1, 12), rng.between(1, 28)),
        "at" => some(
            rng,
            &[
                "'2026-03-12 16:03:51.221456'",
                "'infinity'",
                "'0044-03-15 12:00:00 BC'",
                "'1969-12-31 23:59:59.999999'",
            ],
        ),
        "tz" => format!(
            "'2026-{:02}-29 02:30:00.5+0{}'",
            rng.pick(&[1, 3, 10]),
            rng.below(9)
        ),
        "clock" => some(rng, &["'00:00'", "'24:00'", "'23:59:59.999999'"]),
        "u" => some(
            rng,
            &[
                "'4bf92f35-0000-4000-8000-000000000001'",
                "gen_random_uuid()",
            ],
        ),
        "j" => some(
            rng,
            &[
                "'{\"a\":  [1, 2.50], \"a\": null}'",
                "'\"x\\n\\\"y\\\"\"'",
                "'null'",
                "'[]'",
            ],
        ),
        "jb" => some(
            rng,
            &[
                "'{\"bb\":  [1, 2.50], \"a\": null}'",
                "'\"x\\n\\\"y\\\"\"'",
                "'null'",
                "'{}'",
            ],
        ),
        "ints" => some(rng, &["'{}'", "'{1,NULL,-3}'", "'{7}'"]),
        "texts" => some(
            rng,
            &[
                "'{}'",
                r#"'{"","NULL",NULL,"a,b","c\"d\\e"}'"#,
                "array[E'two\\nlines', '{x}']",
            ],
        ),
        "raw" => some(
            rng,
            &[
                r"'\x'",
                r"'\x00ff5c27'",
                "decode(md5(random()::text), 'hex')",
            ],
        ),
        "r" => some(rng, &["0.1", "'NaN'", "1e30", "-1.5"]),
        "d" => some(
            rng,
            &["0.1", "'-Infinity'", "1e-300", "123456789.123456789"],
        ),
        "c" => some(rng, &["''", "'ab'", "'abcde'", "' x'"]),
        "v" => some(rng, &["''", "'NULL'", "'v  '"]),
        "iv" => some(rng, &["'1 day 02:03:04.5'", "'-1 mon'", "'0'"]),
        "m" => some(rng, &["'glad'", "'sad'", "'it''s \"odd\"'"]),
        _ => text(rng),
    }
}

/// A value that the server stores apart from its row, so that an update which leaves it alone does not log it.
fn large(rng: &mut Rng) -> String {
    format!(
        "repeat({}, {})",
        rng.pick(&["'größer '", "'x'"]),
        rng.between(2_500, 9_000)
    )
}

/// Assignments of some columns of `items`.
fn assignments(rng: &mut Rng) -> String {
    let columns = rng.some(&COLUMNS, 1, 4);
    let mut set: Vec<String> = columns
        .iter()
        .map(|column| format!("{column} = {}", value(rng, column)))
        .collect();
    if rng.chance(10) {
        set.push(format!("large = {}", large(rng)));
    }
    set.join(", ")
}

fn insert(rng: &mut Rng) -> String {
    let columns = rng.some(&COLUMNS, 3, COLUMNS.len());
    let values: Vec<String> = columns.iter().map(|column| value(rng, column)).collect();
    let id = rng.between(1, 60);
    let text = if rng.chance(50) {
        large(rng)
    } else {
        "null".into()
    };
    format!(
        "insert into items (id, large, {}) values ({id}, {text}, {}) on conflict (id) do update set qty = excluded.qty;",
        columns.join(", "),
        values.join(", ")
    )
}

/// A statement; none of them can fail, whatever the rows are.
fn statement(rng: &mut Rng) -> String {
    let id = rng.between(1, 60);
    let parent = rng.between(1, 9);
    match rng.below(24) {
        0..=4 => insert(rng),
        5..=8 => format!("update items set {} where id = {id};", assignments(rng)),
        9 => format!("update items set {} where id % 7 = {};", assignments(rng), rng.below(7)),
        10 => format!("delete from items where id = {id};"),
        // A new key, and two rows that change places.
        11 => format!("update items set id = id + 100 where id = {id} and not exists (select from items where id = {});", id + 100),
        12 => format!(
            "update items set id = -1 where id = {id}; update items set id = {id} where id = {0}; update items set id = {0} where id = -1;",
            id % 60 + 1
        ),
        13 | 14 => format!(
            "insert into parents values ({parent}, {}, {}, {}) on conflict (id) do update set name = excluded.name;",
            value(rng, "note"), value(rng, "amount"), value(rng, "day")
        ),
        15 => format!(
            "update parents set total = (select coalesce(sum(amount), 0) from items where parent = {parent}) where id = {parent};"
        ),
        16 => format!("delete from parents where id = {parent};"),
        17 | 18 => format!(
            "insert into pairs select {}, {}, n from generate_series(1, {}) as n on conflict do nothing; update pairs set v = v + 1 where v = 2;",
            rng.between(1, 4), rng.pick(&["n::text", "'key ' || n", "'it''s'"]), rng.between(1, 6)
        ),
        19 => "update pairs set b = b || 'x' where a = 2 and not exists (select from pairs p where p.a = 2 and p.b = pairs.b || 'x');".into(),
        20 => format!("delete from pairs where a = {};", rng.between(1, 4)),
        21 | 22 => format!(
            "insert into logs values ({0}, {1}, {2}), ({0}, {1}, {2});",
            rng.between(1, 9), value(rng, "amount"), value(rng, "note")
        ),
        // Rows without a key: all that are equal, one of them, a truncate.
        _ => match rng.below(5) {
            0 => "truncate logs;".into(),
            1 => "truncate pairs, logs;".into(),
            2 => "delete from logs where ctid = (select min(ctid) from logs);".into(),
            3 => "update logs set delta = delta + 0.01 where item = 3;".into(),
            _ => "update logs set note = note || '+' where ctid = (select max(ctid) from logs);".into(),
        },
    }
}

fn transaction(rng: &mut Rng) -> String {
    let mut out = "begin;\n".to_owned();
    for _ in 0..1 + rng.below(4) {
        let statement = statement(rng);
        match rng.below(10) {
            0 => out.push_str(&format!("savepoint s;\n{statement}\nrollback to s;\n")),
            1 => out.push_str(&format!("savepoint s;\n{statement}\nrelease s;\n")),
            _ => out.push_str(&format!("{statement}\n")),
        }
    }
    let end = if rng.chance(8) {
        "rollback;\n"
    } else {
        "commit;\n"
    };
    out + end
}

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
