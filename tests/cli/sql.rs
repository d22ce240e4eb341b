//! `firstbad sql` (CONTRACT sections 1, 3 and 4; docs/sql.md).

use serde_json::{Value, json};

use crate::place::{Place, Ran};

/// Tables of every kind: one with all types, one with a composite key, one without a key, one in another schema, one that is empty at
/// first.
const SCHEMA: &str = "
create type mood as enum ('ok', 'bad');
create schema sales;
create table orders (id bigint primary key, status text, total numeric(12,2), wide numeric, at timestamptz, local timestamp, day date,
    clock time, raw bytea, u uuid, f double precision, r real, tags text[], nums int[], doc jsonb, m mood, flag boolean, small smallint);
create table stock (sku text, warehouse text, on_hand int, primary key (sku, warehouse));
create table log (a int, b text);
create table sales.invoices (id bigint primary key, total numeric(10,2));
create table later (id int primary key, note text);
";
const ORDERS: &str = r#"id,status,total,wide,at,local,day,clock,raw,u,f,r,tags,nums,doc,m,flag,small
1,placed,10.00,12345678901234567890.123456789,2026-03-12T10:00:00.000001Z,2026-03-12 10:00:00.5,2026-03-12,10:00:00.25,\x00ff,a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,0.1,0.1,"{a,""b c"",NULL}","{1,NULL,3}","{""k"": 1.0}",ok,t,7
3,"a,""b""
c",0.10,0.10,1970-01-01T00:00:00Z,0001-01-01 00:00:00,9999-12-31,24:00:00,\x,,NaN,Infinity,{},,null,bad,f,-1
9007199254740993,"",,,,,,,,,,,,,,,,
"#;
const CHANGES: &str = r#"{"commit":1,"lsn":"0/10","xid":701,"time":"2026-03-12T10:10:00Z","context":{"service":"checkout"},"changes":[{"table":"orders","op":"update","key":{"id":1},"after":{"status":"paid","total":"10.50"}},{"table":"stock","op":"update","key":{"sku":"A","warehouse":"W1"},"after":{"on_hand":4}}]}
{"commit":2,"lsn":"0/20","xid":702,"time":"2026-03-12T10:20:00Z","changes":[{"table":"orders","op":"update","key":{"id":3},"after":{"id":4}},{"table":"log","op":"insert","after":{"a":1,"b":"x"}},{"table":"sales.invoices","op":"insert","after":{"id":2,"total":"7.25"}}]}
{"commit":3,"lsn":"0/30","xid":703,"time":"2026-03-12T10:30:00Z","changes":[{"table":"stock","op":"truncate"},{"table":"later","op":"insert","after":{"id":1,"note":"\u001b[31mred\u202e ##x"}},{"table":"log","op":"delete","before":{"a":2,"b":null}}]}
"#;

/// A history of three commits in `d`.
pub(crate) fn history() -> Place {
    Place::new()
        .with("d/schema.sql", SCHEMA)
        .with("d/snapshot/orders.csv", ORDERS)
        .with(
            "d/snapshot/stock.csv",
            "sku,warehouse,on_hand\nA,W1,5\nA,W2,6\nB,W1,7\n",
        )
        .with("d/snapshot/log.csv", "a,b\n1,x\n1,x\n2,\n2,\"\"\n")
        .with("d/snapshot/sales.invoices.csv", "id,total\n1,5.00\n")
        .with("d/changes/1.ndjson", CHANGES)
}

/// A history that began without a snapshot: of the first row only what its changes named is known.
pub(crate) fn partial() -> Place {
    Place::new().with("d/schema.sql", SCHEMA).with(
        "d/changes/1.ndjson",
        r#"{"commit":1,"changes":[{"table":"stock","op":"update","key":{"sku":"A","warehouse":"W1"},"after":{}},{"table":"orders","op":"update","key":{"id":1},"after":{"status":"paid"}},{"table":"log","op":"update","before":{"a":1},"after":{"a":2}}]}
{"commit":2,"changes":[{"table":"orders","op":"update","key":{"id":1},"after":{"status":"paid"}},{"table":"orders","op":"insert","after":{"id":2,"status":"x"}}]}
{"commit":3,"changes":[{"table":"orders","op":"delete","before":{"id":1}},{"table":"orders","op":"update","key":{"id":2},"after":{"id":9}}]}
"#,
    )
}

pub(crate) fn ask(place: &Place, query: &str, arguments: &[&str]) -> Ran {
    place.run(&[&["sql", "d", query], arguments].concat())
}

/// The answer as CSV, without its header.
#[track_caller]
pub(crate) fn rows(place: &Place, query: &str) -> String {
    let ran = ask(place, query, &["--format", "csv"]).exits(0);
    let (_, rows) = ran.out.split_once('\n').expect("a header");
    rows.to_owned()
}

#[test]
fn json_and_csv_hold_every_type_exactly() {
    let place = history();
    let query = "select * from orders order by id";
    let found = ask(&place, query, &["--format", "json"]).exits(0).json();
    assert_eq!(found["schema"], "firstbad/sql@1");
    assert_eq!(found["source"], "d");
    assert_eq!(
        found["at"],
        json!({"commit": 3, "lsn": "0/30", "xid": 703, "time": "2026-03-12T10:30:00Z"})
    );
    assert_eq!(
        found["columns"][2],
        json!({"name": "total", "type": "numeric"})
    );
    let first = json!({"id": 1, "status": "paid", "total": "10.50", "wide": "12345678901234567890.123456789",
        "at": "2026-03-12T10:00:00.000001Z", "local": "2026-03-12T10:00:00.500", "day": "2026-03-12", "clock": "10:00:00.250",
        "raw": "\\x00ff", "u": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "f": 0.1, "r": 0.1, "tags": ["a", "b c", null],
        "nums": [1, null, 3], "doc": "{\"k\":1.0}", "m": "ok", "flag": true, "small": 7});
    assert_eq!(found["rows"][0], first);
    assert_eq!(found["rows"][1]["f"], "NaN");
    assert_eq!(found["rows"][1]["r"], "Infinity");
    assert_eq!(found["rows"][1]["doc"], "null", "a document is its text");
    assert_eq!(
        found["rows"][2]["id"], "9007199254740993",
        "wider than a double"
    );
    assert_eq!(found["rows"][2]["status"], "");
    assert_eq!(found["rows"][2]["total"], Value::Null);
    let lines = ask(&place, query, &["--format", "jsonl"]).exits(0).out;
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("a row is JSON"))
        .collect();
    assert_eq!(Value::from(lines), found["rows"]);
    let csv = r#"1,paid,10.50,12345678901234567890.123456789,2026-03-12 10:00:00.000001+00,2026-03-12 10:00:00.5,2026-03-12,10:00:00.25,\x00ff,a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,0.1,0.1,"{a,""b c"",NULL}","{1,NULL,3}","{""k"":1.0}",ok,t,7
4,"a,""b""
c",0.10,0.100000000,1970-01-01 00:00:00+00,0001-01-01 00:00:00,9999-12-31,24:00:00,\x,,NaN,Infinity,{},,null,bad,f,-1
9007199254740993,"",,,,,,,,,,,,,,,,
"#;
    assert_eq!(rows(&place, query), csv);
}

#[test]
fn parquet_and_csv_are_sources_with_the_same_answer() {
    let place = history();
    let all = "select * from orders order by id";
    let csv = ask(&place, all, &["--format", "csv"]).exits(0).out;
    for (file, format) in [("o.parquet", "parquet"), ("e/orders.csv", "csv")] {
        std::fs::create_dir_all(place.path("e")).expect("a directory can be made");
        ask(&place, all, &["--format", format, "--output", file]).exits(0);
        let (source, table) = match format {
            "csv" => {
                place.write("e/schema.sql", SCHEMA);
                ("e", "orders")
            }
            _ => (file, "o"),
        };
        let query = format!("select * from {table} order by id");
        let again = place.run(&["sql", source, &query, "--format", "csv"]);
        assert_eq!(again.exits(0).out, csv, "{format}");
    }
    let log = "select * from log order by a, b";
    ask(&place, log, &["--format", "csv", "--output", "e/log.csv"]).exits(0);
    assert_eq!(place.read("e/log.csv"), "a,b\n1,x\n1,x\n1,x\n2,\"\"\n");
    let nothing = "select null as a, '' as b, ' ' as c, 'NULL' as d, 'x\ry' as e, 'a\"b' as f";
    assert_eq!(
        rows(&place, nothing),
        ",\"\",\" \",NULL,\"x\ry\",\"a\"\"b\"\n"
    );
}

#[test]
fn a_position_may_stand_before_a_name_in_every_form() {
    let place = history();
    let counts = [
        ("\"#0\".stock", "3"),
        ("\"#3\".stock", "0"),
        ("\"0/10\".stock", "3"),
        ("\"0/2F\".stock", "3"),
        ("\"1/0\".stock", "0"),
        ("\"-10m\".stock", "3"),
        ("\"-0s\".stock", "0"),
        ("\"2026-03-12T10:29:59.999999Z\".stock", "3"),
        ("\"2026-03-12 11:30:00+01\".stock", "0"),
        ("latest.stock", "0"),
        ("\"latest\".public.stock", "0"),
        ("firstbad.public.stock", "0"),
        ("\"#1\".public.stock", "3"),
        ("sales.invoices", "2"),
        ("\"#1\".sales.invoices", "1"),
        ("\"0/20\".sales.invoices", "2"),
        ("firstbad.sales.invoices", "2"),
        ("firstbad.transactions", "3"),
        ("\"#2\".firstbad.transactions", "2"),
        ("changes.stock", "2"),
        ("\"#2\".changes.stock", "1"),
        ("changes.\"sales.invoices\"", "1"),
        ("\"#1\".changes.\"sales.invoices\"", "0"),
        ("writes.stock", "4"),
        ("\"#1\".writes.stock", "1"),
    ];
    for (name, count) in counts {
        let found = rows(&place, &format!("select count(*) from {name}"));
        assert_eq!(found.trim_end(), count, "{name}");
    }
    let found = ask(
        &place,
        "select count(*) as n from stock",
        &["--at", "#1", "--format", "jsonl"],
    );
    assert_eq!(found.exits(0).out, "{\"n\":3}\n");
    let ago = [
        "--now",
        "2026-03-12T10:25:00Z",
        "--format",
        "csv",
        "--at",
        "#1",
    ];
    let found = ask(
        &place,
        "select count(*), now() from \"-10m\".changes.orders",
        &ago,
    );
    assert_eq!(
        found.exits(0).out.lines().last(),
        Some("1,2026-03-12 10:25:00+00")
    );
}

#[test]
fn one_query_reads_several_positions() {
    let place = history();
    let query = "select o.id, was.status, o.status, first.total from orders o join \"#0\".orders was on was.id = o.id \
                 join \"#1\".public.orders first on first.id = o.id order by 1";
    let ran = ask(&place, query, &["--format", "csv"]).exits(0);
    assert_eq!(
        ran.out,
        "id,status,status_2,total\n1,placed,paid,10.50\n9007199254740993,\"\",\"\",\n"
    );
    assert_eq!(
        rows(
            &place,
            "select sku from \"#0\".stock except select sku from stock order by 1"
        ),
        "A\nB\n"
    );
    assert_eq!(
        rows(
            &place,
            "with orders as (select 1 as x) select x, o.id from orders, \"#0\".orders o where o.id = 3"
        ),
        "1,3\n"
    );
}

#[test]
fn changes_and_transactions_are_tables() {
    let place = history();
    assert_eq!(
        rows(
            &place,
            "select op, commit, ordinal, xid, before_id, after_id, after_status from changes.orders order by commit"
        ),
        "update,1,1,701,1,1,paid\nupdate,2,1,702,3,4,\"a,\"\"b\"\"\nc\"\n"
    );
    assert_eq!(
        rows(
            &place,
            "select * from firstbad.transactions where commit < 3"
        ),
        "1,0/10,701,2026-03-12 10:10:00+00,checkout,,\"{\"\"service\"\":\"\"checkout\"\"}\"\n2,0/20,702,2026-03-12 10:20:00+00,,,\n"
    );
    assert_eq!(
        rows(
            &place,
            "select c.op, t.time from changes.stock c join firstbad.transactions t on t.commit = c.commit order by 2"
        ),
        "update,2026-03-12 10:10:00+00\ntruncate,2026-03-12 10:30:00+00\n"
    );
}

#[test]
fn what_is_no_position_or_table_is_refused_at_its_place() {
    let place = history();
    let wrong = [
        ("select * from \"#9\".stock", "ends at #3", "query:1:15"),
        (
            "select 1,\n  2 from \"#9\".sales.invoices",
            "ends at #3",
            "query:2:10",
        ),
        ("select * from \"#x\".stock", "no commit", "query:1:15"),
        ("select * from \"-10\".stock", "no position", "query:1:15"),
        (
            "select * from \"LATEST\".stock",
            "no schema `LATEST`",
            "query:1:15",
        ),
        (
            "select * from \"#1\".nope.stock",
            "no schema `nope`",
            "query:1:20",
        ),
        (
            "select * from \"#1\".sales.nope",
            "no table `sales.nope`",
            "query:1:26",
        ),
        ("select * from \"#1\".nope", "no table `nope`", "query:1:20"),
        ("select * from stok", "did you mean `stock`?", "query:1:15"),
        (
            "select * from invoices",
            "did you mean `sales.invoices`?",
            "query:1:15",
        ),
        (
            "select * from changes.stok",
            "did you mean `stock`?",
            "query:1:23",
        ),
        (
            "select * from firstbad.rules",
            "no table `firstbad.rules`",
            "query:1:24",
        ),
        (
            "select statu from orders",
            "did you mean `status`?",
            "query:1:8",
        ),
        (
            "select * from \"a\"\"b\".orders",
            "no schema `a\"b`",
            "query:1:15",
        ),
        (
            "select x.id from \"#0\".orders, orders",
            "`x` is none of the tables read here",
            "query:1:8",
        ),
        ("select id", "no column `id`", "query:1:8"),
    ];
    let quoted = [
        (
            "select * from changes.invoices",
            "did you mean `\"sales.invoices\"`?",
        ),
        ("select * from changes.stok", "did you mean `stock`?"),
    ];
    for (query, message) in quoted {
        ask(&place, query, &[]).refused(&[message]);
    }
    for (query, message, at) in wrong {
        ask(&place, query, &[]).refused(&[message, at]);
    }
    for at in ["#4", "nope", "", "-1x"] {
        ask(&place, "select 1", &["--at", at]).refused(&["--at: "]);
    }
    let place = Place::new()
        .with("d/snapshots/2026-03-11/t.csv", "id\n1\n")
        .with("d/snapshots/2026-03-12/t.csv", "id\n1\n2\n");
    let query = "select count(*) from \"2026-03-11\".t union all select count(*) from \"2026-03-12\".public.t order by 1";
    assert_eq!(rows(&place, query), "1\n2\n");
    ask(&place, "select * from \"2026-03-13\".t", &[])
        .refused(&["the snapshots are 2026-03-11, 2026-03-12"]);
}

#[test]
fn one_name_for_two_tables_is_refused_where_it_is_used() {
    let place = history();
    for query in [
        "select orders.status from \"#0\".orders join orders using (id)",
        "select 1 from orders, \"#0\".orders where orders.id = 1",
        "select orders.* from \"#0\".orders, (stock join orders on true)",
        "select 1 from \"#0\".orders join \"#1\".orders on orders.id = 1",
        "select 1 as x from \"#0\".orders, orders order by orders.id",
        "select 1 union all select orders.id from \"#0\".orders, orders",
        "select orders.id from \"#0\".stock as orders, orders",
        "with orders as (select 1 as id) select orders.id from orders, \"#0\".orders",
    ] {
        ask(&place, query, &[]).refused(&["`orders` stands for two tables here", "as earlier"]);
    }
    for (query, answer) in [
        (
            "select count(*) from \"#0\".orders join orders using (id)",
            "2\n",
        ),
        (
            "select \"#0\".orders.status from \"#0\".orders, public.orders where public.orders.id = 4 and \"#0\".orders.id = 1",
            "placed\n",
        ),
        (
            "select orders.status from \"#0\".orders where id = 1",
            "placed\n",
        ),
        (
            "select o.status from \"#0\".orders o join orders using (id) where orders.total > 1",
            "placed\n",
        ),
        (
            "select count(*) from orders where orders.id in (select orders.id from \"#0\".orders)",
            "2\n",
        ),
    ] {
        assert_eq!(rows(&place, query), answer, "{query}");
    }
}

#[test]
fn texts_and_comments_are_no_positions() {
    let place = history();
    let queries = [
        (
            "select '\"#9\".orders' as x -- from \"#9\".orders",
            "\"\"\"#9\"\".orders\"\n",
        ),
        ("/* \"#9\".orders */ select 1", "1\n"),
        (
            "select 'it''s \"#9\".x' from \"#0\".stock where sku = 'B'",
            "\"it's \"\"#9\"\".x\"\n",
        ),
        ("with \"#9\" as (select 7 as x) select * from \"#9\"", "7\n"),
        (
            "select \"#9\".sku from stock as s right join \"#0\".stock as \"#9\" on true where \"#9\".sku = 'B'",
            "B\n",
        ),
        ("select 1; -- select * from \"#9\".orders", "1\n"),
        ("select $$\"#9\".orders$$", "\"\"\"#9\"\".orders\"\n"),
    ];
    for (query, expected) in queries {
        assert_eq!(rows(&place, query), expected, "{query}");
    }
}

/// Each of these was planned, and its answer was another than Postgres'.
#[test]
fn what_the_engine_would_answer_wrongly_is_refused() {
    let place = history();
    for (query, message) in [
        (
            "select a from log except all select 1",
            "`except all` is not allowed: equal rows would not be counted",
        ),
        (
            "select 1 union all (select a from log intersect all select 1)",
            "`intersect all` is not allowed",
        ),
        (
            "select a from log where a in (select 1 except all select 2)",
            "`except all` is not allowed",
        ),
        (
            "select 1 where 1 not in (select a from log)",
            "`in` is not allowed with a constant before a query",
        ),
        (
            "select flag from orders where flag is distinct from true and id = 1",
            "`is distinct from` is not allowed before `and` or `or` without parentheses",
        ),
        (
            "select a from log where b is not distinct from 'x' or a = 1",
            "`is not distinct from` is not allowed",
        ),
        (
            "select a from log where (select 1) not in (select a from log)",
            "`in` is not allowed",
        ),
        (
            "select a from log where not (1 + 1 in (select a from log))",
            "`in` is not allowed",
        ),
    ] {
        ask(&place, query, &[]).refused(&[message]);
    }
    for (query, answer) in [
        ("select a from \"#0\".log except select 1", "2\n"),
        ("select a from \"#0\".log intersect select 1", "1\n"),
        (
            "select count(*) from (select a from log union all select 1) x",
            "5\n",
        ),
        (
            "select a from log where b not in (select b from \"#0\".log where a = 2)",
            "",
        ),
        ("select count(*) from log where a in (1, 3)", "3\n"),
    ] {
        assert_eq!(rows(&place, query), answer, "{query}");
    }
}

#[test]
fn names_of_tables_may_be_anything_in_quotes() {
    let place = Place::new()
        .with(
            "d/schema.sql",
            "create table \"we ird\"\"name\" (id int primary key, \"co l\"\"umn\" text, \"select\" int); \
             create table \"#1\" (id int primary key); create schema \"latest\"; create table latest.t (id int primary key); \
             create table t (id int primary key); create table \"Orders\" (id int primary key);",
        )
        .with("d/snapshot/we ird\"name.csv", "id,\"co l\"\"umn\",select\n1,x,2\n")
        .with("d/snapshot/#1.csv", "id\n5\n")
        .with("d/snapshot/latest.t.csv", "id\n6\n")
        .with("d/snapshot/Orders.csv", "id\n7\n")
        .with(
            "d/changes/1.ndjson",
            "{\"commit\":1,\"changes\":[{\"table\":\"t\",\"op\":\"insert\",\"after\":{\"id\":3}},\
             {\"table\":\"Orders\",\"op\":\"delete\",\"key\":{\"id\":7}}]}\n",
        );
    for (query, answer) in [
        (
            "select \"co l\"\"umn\", \"select\" from \"we ird\"\"name\"",
            "x,2\n",
        ),
        (
            "select * from \"#0\".\"we ird\"\"name\" where \"co l\"\"umn\" = 'x'",
            "1,x,2\n",
        ),
        ("select * from changes.\"we ird\"\"name\"", ""),
        ("select * from \"#1\"", "5\n"),
        ("select * from \"#0\".\"#1\"", "5\n"),
        ("select * from latest.t", "6\n"),
        ("select * from \"#1\".latest.t", "6\n"),
        ("select * from latest.public.t", "3\n"),
        ("select * from \"#0\".\"Orders\"", "7\n"),
        ("select op, before_id from changes.\"Orders\"", "delete,7\n"),
    ] {
        assert_eq!(rows(&place, query), answer, "{query}");
    }
    ask(&place, "select * from Orders", &[]).refused(&["did you mean `\"Orders\"`?"]);
}

#[test]
fn names_of_columns_are_whatever_the_query_says() {
    let place = history();
    let query = "select 1 as \"a\"\"b\", 2 as \"x,y\", 3 as \"\u{1b}[31m\", 4 as \" \", s.sku, t.sku, u.sku as sku_2 \
                 from \"#0\".stock s, \"#0\".stock t, \"#0\".stock u limit 1";
    let ran = ask(&place, query, &["--format", "csv"]).exits(0);
    assert!(
        ran.out
            .starts_with("\"a\"\"b\",\"x,y\",\u{1b}[31m,\" \",sku,sku_3,sku_2\n"),
        "{}",
        ran.out
    );
    ask(&place, query, &[])
        .exits(0)
        .says(&["a\"b", "\\u{1b}[31m"]);
    let found = ask(&place, query, &["--format", "json"]).exits(0);
    assert!(!found.out.contains('\u{1b}'), "{}", found.out);
    assert_eq!(found.json()["columns"][2]["name"], "\u{1b}[31m");
    ask(&place, "select 1 as a, 2 as a", &[]).refused(&["unique expression names"]);
}

#[test]
fn nothing_in_a_row_reaches_a_terminal_as_it_is() {
    let place = history();
    let query = "select note from later";
    let text = ask(&place, query, &[]).exits(0).out;
    assert_eq!(text, "note\n\\u{1b}[31mred\\u{202e} #\\u{23}x\n(1 row)\n");
    for format in ["json", "jsonl"] {
        let ran = ask(&place, query, &["--format", format]).exits(0);
        assert!(!ran.out.contains(['\u{1b}', '\u{202e}']) && !ran.out.contains("##"));
        assert!(ran.out.contains("\\u001b[31mred\\u202e"), "{}", ran.out);
    }
    assert_eq!(
        rows(&place, query),
        "\u{1b}[31mred\u{202e} ##x\n",
        "CSV is for programs"
    );
}

#[test]
fn an_answer_without_rows_has_its_columns() {
    let place = history();
    let query = "select id, total from orders where false";
    assert_eq!(
        ask(&place, query, &[]).exits(0).out,
        "id  total\n(0 rows)\n"
    );
    let found = ask(&place, query, &["--format", "json"]).exits(0).json();
    assert_eq!(found["rows"], json!([]));
    assert_eq!(found["columns"][0], json!({"name": "id", "type": "bigint"}));
    assert_eq!(ask(&place, query, &["--format", "jsonl"]).exits(0).out, "");
    assert_eq!(
        ask(&place, query, &["--format", "csv"]).exits(0).out,
        "id,total\n"
    );
    ask(
        &place,
        query,
        &["--format", "parquet", "--output", "e.parquet"],
    )
    .exits(0);
    let again = place.run(&["sql", "e.parquet", "select * from e", "--format", "csv"]);
    assert_eq!(again.exits(0).out, "id,total\n");
}

#[test]
fn a_wide_answer_is_shown_as_records_and_no_number_is_cut() {
    let place = history();
    let text = ask(&place, "select * from orders where id = 1", &[])
        .exits(0)
        .out;
    for line in [
        "row 1",
        "  id      1",
        "  wide    12345678901234567890.123456789",
        "  at      2026-03-12T10:00:00.000001Z",
        "(1 row)",
    ] {
        assert!(
            text.lines().any(|have| have == line),
            "no `{line}`:\n{text}"
        );
    }
    let long = "x".repeat(300);
    let query = format!("select 9007199254740993 as n, '{long}' as t, '{long}' as u");
    let text = ask(&place, &query, &[]).exits(0).out;
    assert!(
        text.lines().all(|line| line.chars().count() <= 100),
        "{text}"
    );
    assert!(text.contains("9007199254740993") && text.contains('…'));
    let narrow = place.run_with(
        &["sql", "d", "select * from \"#0\".stock"],
        &[("COLUMNS", "40")],
    );
    assert_eq!(
        narrow.exits(0).out.lines().next(),
        Some("sku  warehouse  on_hand")
    );
}

#[test]
fn text_shows_the_first_rows_and_counts_all() {
    let place = Place::new().with(
        "d/t.csv",
        (0..1_234).fold("id\n".to_owned(), |text, id| format!("{text}{id}\n")),
    );
    let query = "select id from t order by id";
    let text = ask(&place, query, &[]).exits(0).out;
    assert_eq!(text.lines().count(), 102);
    assert!(
        text.ends_with("(100 of 1,234 rows: --limit all shows the others)\n"),
        "{text}"
    );
    let text = ask(&place, query, &["--limit", "all"]).exits(0).out;
    assert!(text.ends_with("1233\n(1,234 rows)\n"));
    let text = ask(&place, query, &["--limit", "0"]).exits(0).out;
    assert!(text.ends_with("(0 of 1,234 rows: --limit all shows the others)\n"));
    for format in ["json", "jsonl", "csv"] {
        ask(&place, query, &["--limit", "5", "--format", format]).refused(&["--limit is for text"]);
        let out = ask(&place, query, &["--format", format]).exits(0).out;
        assert_eq!(out.matches("1233").count(), 1);
    }
    ask(&place, query, &["--limit", "x"]).refused(&["not a number"]);
}
