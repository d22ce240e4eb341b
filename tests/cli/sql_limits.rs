//! `firstbad sql`: limits, files, pipes, and what has no answer (docs/sql.md).

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::place::Place;
use crate::sql::{ask, history, partial, rows};

#[test]
fn an_answer_of_any_size_needs_little_memory() {
    let long = "x".repeat(1_000);
    let wide = (0..1_000).fold("id,s\n".to_owned(), |text, id| {
        format!("{text}{id},{id}{long}\n")
    });
    let place = Place::new().with("d/t.csv", wide);
    // 120 MB of text beside the 75 MB of the program itself, and a limit that is less.
    let query = "select a.id || b.s as s from t a, t b where a.id < 120";
    for format in ["csv", "json", "parquet"] {
        let file = ["--format", format, "--output", "/dev/null"];
        let limit = ["--memory-limit", "170MiB"];
        ask(&place, query, &[&file[..], &limit].concat()).exits(0);
    }
    ask(
        &place,
        "select array_agg(a.id || b.s) from t a, t b",
        &["--memory-limit", "170MiB"],
    )
    .exits(4)
    .warns(&["--memory-limit"]);
}

#[test]
fn what_has_no_answer_is_4_and_leaves_nothing() {
    let place = history();
    let endless =
        "with recursive r as (select 1 as n union all select n + 1 from r) select count(*) from r";
    let limits = [
        (endless, &["--rule-timeout", "300ms"][..], "--rule-timeout"),
        ("select 1/0", &[], "Divide by zero"),
        ("select wide * wide * wide from orders", &[], "overflow"),
        (
            "select to_timestamp_seconds(9223372036854775807)",
            &[],
            "overflow",
        ),
        (
            "select cast(status as int) from orders",
            &[],
            "query failed",
        ),
    ];
    for (query, arguments, reason) in limits {
        for format in ["text", "json", "csv"] {
            let ran = ask(&place, query, &[&["--format", format], arguments].concat()).exits(4);
            assert_eq!(ran.out, "", "{query}");
            let ran = ran.warns(&["has no answer"]);
            assert!(
                ran.err.to_lowercase().contains(&reason.to_lowercase()),
                "{}",
                ran.err
            );
            assert!(!ran.err.contains("placed") && !ran.err.contains("12345678901234567890"));
        }
        place.write("x.parquet", "as it was");
        let file = ["--format", "parquet", "--output", "x.parquet"];
        ask(&place, query, &[&file[..], arguments].concat()).exits(4);
        assert_eq!(place.read("x.parquet"), "as it was");
    }
    assert_eq!(left_over(&place), ["d", "x.parquet"]);
}

#[test]
fn what_is_not_known_is_no_answer() {
    let place = partial();
    ask(&place, "select * from orders", &[]).exits(4).warns(&[
        "`total` of orders is not known in 1 row;",
        "and 11 more columns",
    ]);
    ask(&place, "select total from \"#1\".orders", &["--at", "#0"])
        .exits(4)
        .warns(&["`total` of #1.orders is not known in 1 row\n"]);
    ask(&place, "select count(id) from stock where on_hand > 1", &[]).refused(&["no column `id`"]);
    ask(&place, "select sku from stock where on_hand > 1", &[])
        .exits(4)
        .warns(&["`on_hand` of stock"]);
    ask(&place, "select before_total from changes.orders", &[]).exits(4);
    assert_eq!(rows(&place, "select count(*) from orders"), "1\n");
    assert_eq!(rows(&place, "select id, status from orders"), "9,x\n");
    assert_eq!(rows(&place, "select op from changes.stock"), "update\n");
    ask(&place, "select now()", &[]).exits(4).warns(&["--now"]);
    let state = Place::new().with("d/t.csv", "id\n1\n");
    for query in [
        "select * from changes.t",
        "select * from firstbad.transactions",
    ] {
        ask(&state, query, &[])
            .exits(4)
            .warns(&["the source has no changes"]);
    }
    assert_eq!(rows(&state, "select id from latest.t"), "1\n");
}

#[test]
fn a_file_comes_to_be_whole_or_not_at_all() {
    let place = history();
    let query = "select id from orders order by id";
    ask(&place, query, &["--format", "csv", "-o", "x.csv"]).exits(0);
    assert_eq!(place.read("x.csv"), "id\n1\n4\n9007199254740993\n");
    for unwritable in ["nowhere/x.csv", "d", "x.csv/y", "new/"] {
        let ran = ask(&place, query, &["-o", unwritable]).exits(3);
        assert!(
            ran.out.is_empty() && ran.err.contains("cannot write"),
            "{ran:?}"
        );
    }
    for format in ["text", "json", "jsonl", "csv", "parquet"] {
        ask(&place, query, &["--format", format, "-o", "/dev/full"])
            .exits(3)
            .warns(&["cannot write /dev/full: No space left"]);
    }
    ask(&place, query, &["--format", "parquet"]).refused(&["not written to stdout", "--output"]);
    ask(&place, query, &["--format", "xml"]).refused(&["text, json, jsonl, csv and parquet"]);
    ask(&place, "select nope", &["-o", "y.csv"]).refused(&["nope"]);
    assert_eq!(left_over(&place), ["d", "x.csv"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(place.path("x.csv"), private).expect("own file");
        std::os::unix::fs::symlink("x.csv", place.path("link.csv")).expect("a link can be made");
        ask(
            &place,
            "select 7 as n",
            &["--format", "csv", "-o", "link.csv"],
        )
        .exits(0);
        assert_eq!(place.read("x.csv"), "n\n7\n");
        let now = std::fs::metadata(place.path("x.csv")).expect("it is there");
        assert_eq!(now.permissions().mode() & 0o777, 0o600, "still private");
    }
}

/// What lies in the test's directory.
fn left_over(place: &Place) -> Vec<String> {
    let entries = std::fs::read_dir(place.path(".")).expect("the directory is there");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().into_string())
        .collect::<Result<_, _>>()
        .expect("plain names");
    names.sort();
    names
}

/// Starts the program in a place.
fn start(place: &Place, arguments: &[&str]) -> std::process::Child {
    Command::new(env!("CARGO_BIN_EXE_firstbad"))
        .current_dir(place.path("."))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program can be started")
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let rows = (0..2_000).fold("id\n".to_owned(), |text, id| format!("{text}{id}\n"));
    let place = Place::new().with("d/t.csv", rows);
    let query = "select a.id, b.id from t a, t b";
    for format in ["csv", "json", "jsonl"] {
        let mut child = start(&place, &["sql", "d", query, "--format", format]);
        let mut first = [0; 4];
        let mut out = child.stdout.take().expect("a pipe");
        out.read_exact(&mut first).expect("the answer begins");
        drop(out);
        let done = child.wait_with_output().expect("the program ends");
        let err = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(0), "{err}");
        assert!(!err.contains("error") && !err.contains("panicked"), "{err}");
    }
    // What was to become a file and did not is a failure, and no panic.
    for format in ["csv", "parquet"] {
        let file = ["--format", format, "--output", "/dev/stdout"];
        let mut child = start(&place, &[&["sql", "d", query][..], &file].concat());
        drop(child.stdout.take());
        let done = child.wait_with_output().expect("the program ends");
        let err = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(3), "{err}");
        assert!(
            err.contains("Broken pipe") && !err.contains("panicked"),
            "{err}"
        );
    }
}

#[test]
fn a_query_may_come_from_stdin() {
    let place = history();
    let from_stdin = |text: &[u8]| -> (Option<i32>, String, String) {
        let mut child = start(&place, &["sql", "d", "-", "--format", "csv"]);
        let mut input = child.stdin.take().expect("a pipe");
        // A program that has read enough closes its end.
        let _ = input.write_all(text);
        drop(input);
        let done = child.wait_with_output().expect("the program ends");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (done.status.code(), text(done.stdout), text(done.stderr))
    };
    let (code, out, _) =
        from_stdin("-- ä\r\nselect id\n  from \"#0\".orders where id = 3\n".as_bytes());
    assert_eq!((code, out.as_str()), (Some(0), "id\n3\n"));
    let (code, _, err) = from_stdin(b"select 1,\n  nope\n from orders");
    assert_eq!(code, Some(2));
    assert!(
        err.contains("query:2:3") && err.contains("2 |   nope"),
        "{err}"
    );
    let long = format!("select 1 -- a{}", "ä".repeat(20_000));
    for (text, message) in [
        (&b"select 1 as \xff"[..], "not UTF-8"),
        (b"", "empty"),
        (b"-- only words", "only a comment"),
        (long.as_bytes(), "the limit is 16384"),
    ] {
        let (code, out, err) = from_stdin(text);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
        assert!(err.contains(message), "{err}");
    }
}

#[test]
fn a_query_reads_and_nothing_else() {
    let place = history().with("x.csv", "a\nFILESECRET\n");
    let absolute = format!("select * from \"{}\"", place.path("x.csv").display());
    let refused = [
        "create table x (a int)",
        "create external table x stored as csv location 'x.csv'",
        "create view v as select 1",
        "insert into orders values (1)",
        "update orders set id = 1",
        "delete from orders",
        "truncate orders",
        "drop table orders",
        "alter table orders add x int",
        "copy orders to 'y.csv'",
        "copy (select 1) to 'y.csv'",
        "set datafusion.execution.batch_size = 1",
        "show all",
        "describe orders",
        "explain select 1",
        "prepare x as select 1",
        "begin",
        "vacuum",
        "do $$ begin end $$",
        "table orders",
        "select 1; select 2",
        "select 1; drop table orders",
        "(select 1); set x = 1",
        "with d as (delete from orders returning *) select * from d",
        "with d as (insert into orders values (9) returning id) select * from d",
        "select * into y from orders",
        "select * from orders for update",
        "select $1",
        "select * from 'x.csv'",
        "select * from \"x.csv\"",
        &absolute,
        "select * from \"file:///etc/passwd\"",
        "select * from 'http://localhost/x.parquet'",
        "select * from \"s3://b/x.csv\"",
        "select * from \"..\".orders",
        "select * from \"#0\".\"x.csv\"",
        "select * from read_csv('x.csv')",
        "select * from generate_series(1, 10)",
        "select * from information_schema.tables",
        "select * from pg_catalog.pg_class",
        "select getenv('HOME')",
        "select current_setting('x')",
        "select pg_read_file('/etc/passwd')",
        "select random()",
        "select uuid()",
        "select version()",
        "select repeat('x', 1000000000)",
        "select a.b.c.d.e from orders",
        "select * from a.b.c.d",
        "select * from orders, lateral (select orders.id) x",
        "select",
        "select (1",
        "select 'x",
        "\"",
        ";",
    ];
    for query in refused {
        let ran = ask(&place, query, &[]).refused(&["error"]);
        assert!(
            !ran.err.contains("FILESECRET") && !ran.err.contains("root:"),
            "{query}"
        );
        assert!(!ran.err.contains("rule"), "{query}: {}", ran.err);
    }
    assert_eq!(left_over(&place), ["d", "x.csv"]);
    place.run(&["sql", "d"]).refused(&["<QUERY>"]);
    place
        .run(&["sql", "nope", "select 1"])
        .refused(&["there is no `nope`"]);
}

#[test]
fn queries_that_would_never_end_cost_their_limit() {
    let rows = (0..5_000).fold("id,s\n".to_owned(), |text, id| format!("{text}{id},v\n"));
    let place = Place::new().with("d/t.csv", rows);
    let double = |depth: usize| {
        let start = "select 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' as x".to_owned();
        (0..depth).fold(start, |sql, _| format!("select x||x as x from ({sql}) t"))
    };
    let bombs = [
        (
            "with recursive r as (select 1 as n union all select n + 1 from r) select * from r"
                .to_owned(),
            4,
        ),
        (
            "select count(*) from t a, t b, t c where a.id + b.id + c.id = 1".into(),
            4,
        ),
        (
            "select a.id, row_number() over (order by a.id, b.id, c.id) from t a, t b, t c".into(),
            4,
        ),
        (double(30), 4),
        (
            format!("select {}1{}", "(".repeat(5_000), ")".repeat(5_000)),
            2,
        ),
        (format!("select 1{}", "+1".repeat(6_000)), 2),
        (format!("select '{}'", "x".repeat(100_000)), 2),
    ];
    let limits = [
        "--rule-timeout",
        "1s",
        "--memory-limit",
        "400MiB",
        "-o",
        "x.csv",
        "--format",
        "csv",
    ];
    for (query, code) in bombs {
        let ran = ask(&place, &query, &limits).exits(code);
        assert!(!ran.err.contains("panicked"), "{}", ran.err);
    }
    assert_eq!(left_over(&place), ["d"]);
}

#[test]
fn intervals_and_fine_times_are_shown_whole() {
    let place = history();
    let query = "select at - local as d, interval '1 day' as i, interval '14 months' - interval '3 days' as j, \
                 to_timestamp_nanos(1234567890123456789) as t, null as z from orders where id = 1";
    let csv = "-00:00:00.499999,1 day,1 year 2 mons -3 days,2009-02-13 23:31:30.123457+00,\n";
    assert_eq!(rows(&place, query), csv);
    ask(&place, query, &["--format", "parquet", "-o", "i.parquet"]).exits(0);
    let again = place.run(&["sql", "i.parquet", "select * from i", "--format", "csv"]);
    assert_eq!(again.exits(0).out.lines().last(), Some(csv.trim_end()));
    let fine = "select cast(t as text) from i";
    let exact = place
        .run(&["sql", "i.parquet", fine, "--format", "csv"])
        .exits(0)
        .out;
    assert!(exact.contains("123456789"), "{exact}");
    let found = ask(&place, query, &["--format", "json"]).exits(0).json();
    assert_eq!(found["columns"][0]["type"], "interval");
    let counted = "select row_number() over (order by id) as n, cardinality(tags) as c, arrow_cast('18446744073709551615', 'UInt64') as w \
                   from orders order by 1";
    let found = ask(&place, counted, &["--format", "json"]).exits(0).json();
    assert_eq!(
        found["rows"][0],
        json!({"n": 1, "c": 3, "w": "18446744073709551615"})
    );
}
