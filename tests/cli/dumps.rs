//! Dumps of `pg_dump` as sources: the formats, a series of them, and what is wrong with some.

use std::os::unix::fs::PermissionsExt;

use crate::place::Place;
use crate::postgres::Cluster;
use crate::streams::{opened, rows_of};

/// Every type, and the values that are easily read wrongly.
const TYPES: &str = r#"
create type mood as enum ('glad', 'sad');
create domain code as varchar(8);
create table matrix (
    id bigint generated always as identity primary key,
    b boolean, s smallint, i integer, big bigint, r real, d double precision, n numeric, n2 numeric(12,2),
    t text, v varchar(20), c char(5), raw bytea, day date, clock time, at timestamp, tz timestamptz, u uuid, j json, jb jsonb,
    m mood, k code, ints integer[], texts text[], nums numeric(12,2)[], iv interval, ip inet, rng int4range, bits bit(8)
);
insert into matrix (b, s, i, big, r, d, n, n2, t, v, c, raw, day, clock, at, tz, u, j, jb, m, k, ints, texts, nums, iv, ip, rng, bits)
values
 (true, -32768, 2147483647, -9223372036854775808, 1.1, 0.1, 12345678901234567890.123456789, -99.90, 'plain', 'v', 'c', '\x00ff5c',
  '2026-03-12', '23:59:59.999999', '2026-03-12 16:03:51.221456', '2026-03-12 16:03:51.221456+05:30',
  '4bf92f35-0000-4000-8000-000000000001', '{"a": [1,  2]}', '{"a": [1,  2]}', 'glad', 'K1', '{1,NULL,3}', '{a,NULL,"b c","d\"e\\f"}',
  '{1.50,-2.25}', '1 day 02:03:04.5', '10.0.0.1/8', '[1,5)', B'10100101'),
 (false, 0, 0, 0, 'NaN', '-Infinity', 0, 0.00, E'tab\there\nnew line\r\\N \\. \\\\ ''quoted'' "double" größer 😀 ; -- $$', '', '', '',
  '0001-01-01', '00:00', '1969-12-31 23:59:59.999999', 'infinity', '00000000-0000-0000-0000-000000000000', 'null', '"x\ny\\"',
  'sad', '', '{}', '{"","NULL","\\N"}', '{}', '-1 mon', '::1', 'empty', B'00000000'),
 (null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null,
  null, null, null, null, null, null, null),
 (null, 1, 1, 1, 1e30, 1e-300, 0.000000000000000001, 9999999999.99, E'\\N', '\.', E'\\', 'esc\\\000', 'infinity', '24:00',
  '-infinity', '1900-01-01 00:00:00+00', null, '[]', '[]', null, 'null', '{{1,2},{3,4}}', '{{a,b},{c,d}}', '{0}', '0', '0.0.0.0', '(,)', null);
create table calc (id integer primary key, a integer, twice integer generated always as (a * 2) stored);
insert into calc values (1, 21);
create table parts (id integer, region text, primary key (id, region)) partition by list (region);
create table parts_eu partition of parts for values in ('eu');
create table parts_us partition of parts for values in ('us');
insert into parts values (1, 'eu'), (2, 'us'), (3, 'us');
create schema sales;
create table sales."Odd, name" ("a ""b""" text primary key, "order" integer);
insert into sales."Odd, name" values ('x', 1);
create function f() returns integer language sql begin atomic select 1; select case when true then 2 end; end;
create view seen as select id from matrix;
create table empty (id integer primary key);
"#;

/// The tables as another reader has them: CSV files beside the schema that the server prints.
fn as_csv(cluster: &Cluster, database: &str) -> Place {
    let place = Place::new();
    place.write("d/schema.sql", cluster.dump(database, &["--schema-only"]));
    for (file, table) in [
        ("matrix", "matrix"),
        ("parts", "parts"),
        ("empty", "empty"),
        ("sales.Odd, name", "sales.\"Odd, name\""),
    ] {
        let sql = format!("copy (select * from {table}) to stdout with (format csv, header)");
        place.write(&format!("d/{file}.csv"), cluster.sql(database, &sql));
    }
    place.write("d/calc.csv", "id,a,twice\n1,21,42\n");
    place
}

/// Rows of all tables. A dump leaves out what Postgres computes: there it is not known.
fn shown(place: &Place, what: &str) -> Vec<String> {
    const COMPUTED: [&str; 2] = ["  public.calc 1|21|∅", "  not known: [0, 0, 1]"];
    let mut lines = rows_of(&opened(place, what), 0);
    if what != "csv" {
        assert_eq!(lines[..2], COMPUTED, "{what}");
    }
    lines.drain(..2);
    lines
}

#[test]
fn every_format_holds_the_same_values() {
    let cluster = Cluster::start();
    cluster.sql("postgres", "create database shop");
    cluster.sql("shop", TYPES);
    let csv = as_csv(&cluster, "shop");
    let expected = shown(&csv, "csv");
    assert!(
        expected
            .iter()
            .filter(|line| line.contains("public.matrix"))
            .count()
            == 4
    );
    assert!(
        expected
            .iter()
            .filter(|line| line.contains("public.parts "))
            .count()
            == 3
    );
    let plain = cluster.dump("shop", &[]);
    let formats: Vec<(&str, Vec<u8>)> = vec![
        ("d.sql", plain.clone()),
        ("d.dump", plain.clone()),
        (
            "d.sql.zst",
            zstd::encode_all(plain.as_slice(), 1).expect("memory takes everything"),
        ),
        ("d.sql", cluster.dump("shop", &["--inserts"])),
        ("d.sql", cluster.dump("shop", &["--column-inserts"])),
        (
            "d.sql",
            cluster.dump("shop", &["--inserts", "--rows-per-insert=2"]),
        ),
        (
            "d.sql",
            cluster.dump(
                "shop",
                &[
                    "--create",
                    "--clean",
                    "--if-exists",
                    "--load-via-partition-root",
                ],
            ),
        ),
        ("d.dump", cluster.dump("shop", &["-Fc"])),
        ("d.anything", cluster.dump("shop", &["-Fc", "-Z0"])),
        ("d.tar", cluster.dump("shop", &["-Ft"])),
    ];
    for (at, (name, content)) in formats.into_iter().enumerate() {
        let place = Place::new().with(&format!("d/{name}"), content);
        assert_eq!(shown(&place, name), expected, "format {at}: {name}");
    }
    let place = Place::new();
    let directory = place.path("d").display().to_string();
    cluster.dump("shop", &["-Fd", "-f", &directory]);
    assert_eq!(shown(&place, "directory format"), expected);
}

#[test]
fn a_series_is_bounded_by_its_nights() {
    let cluster = Cluster::start();
    let rules = "rules:\n  - {id: negative, table: stock, range: {column: on_hand, min: 0}}\n  - {id: kept, table: stock, no_delete: true}\n";
    let place = Place::new().with("d/rules/r.yaml", rules);
    cluster.sql(
        "postgres",
        "create table stock (sku text primary key, on_hand integer); insert into stock values ('a', 1), ('b', 2);
         create table old (id integer); insert into old values (1);",
    );
    let gz = |content: &[u8]| {
        use std::io::Write;
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(content).expect("memory takes everything");
        out.finish().expect("memory takes everything")
    };
    place.write("d/2026-03-11.sql.gz", gz(&cluster.dump("postgres", &[])));
    cluster.sql("postgres", "drop table old; alter table stock add column note text; update stock set on_hand = -1 where sku = 'a';");
    place.write("d/2026-03-12.dump", cluster.dump("postgres", &["-Fc"]));
    cluster.sql("postgres", "delete from stock where sku = 'b'");
    let directory = place.path("d/2026-03-13").display().to_string();
    cluster.dump("postgres", &["-Fd", "-f", &directory]);

    let latest = place.check(&["d"]).exits(1).warns(&[
        "column `note` is missing and read as NULL",
        "table `old` is not in the schema",
    ]);
    assert_eq!(latest.json()["at"]["commit"], 2);
    assert_eq!(latest.rule("negative")["violations"], 1);
    assert_eq!(latest.keys("negative"), serde_json::json!([{"sku": "a"}]));
    assert_eq!(latest.keys("kept"), serde_json::json!([{"sku": "b"}]));
    let first = place.check(&["d", "--at", "2026-03-11"]).exits(0);
    assert_eq!(first.rule("negative")["judged"], 2);
    let second = place.check(&["d", "--at", "2026-03-12"]).exits(1);
    assert_eq!(second.rule("kept")["verdict"], "held");

    let found = place.run(&["bisect", "d", "--format", "json"]).exits(1);
    let negative = found.rule("negative");
    assert_eq!(negative["certainty"], "bounded");
    assert_eq!(negative["first_bad"]["commit"], 1);

    // One night alone is a state without changes.
    let one = place.run(&[
        "check",
        "d/2026-03-13",
        "--rules",
        "d/rules",
        "--format",
        "json",
    ]);
    assert_eq!(one.rule("negative")["violations"], 1);
    assert_eq!(one.rule("kept")["verdict"], "unknown");
}

#[test]
fn archives_need_pg_restore() {
    let cluster = Cluster::start();
    cluster.sql(
        "postgres",
        "create table t (id integer primary key); insert into t select generate_series(1, 5000)",
    );
    let archive = cluster.dump("postgres", &["-Fc"]);
    let rules = "rules:\n  - {id: r, table: t, not_null: [id]}\n";
    let place = Place::new()
        .with("d/-a.dump", &archive)
        .with("d/rules/r.yaml", rules);
    // Run within the directory: the name begins like an option.
    assert_eq!(place.check(&["d"]).exits(0).rule("r")["judged"], 5000);
    let none = place.path("none").display().to_string();
    let ran = place.run_with(&["check", "d"], &[("PATH", &none)]).exits(3);
    ran.warns(&[
        "-a.dump is an archive of pg_dump",
        "pg_restore",
        "postgresql-client",
    ]);

    place.write("d/-a.dump", &archive[..archive.len() / 2]);
    place
        .run(&["check", "d"])
        .refused(&["-a.dump", "pg_restore cannot read it"]);
    place.write("d/-a.dump", b"PGDMP\x7f\x7f\x7f");
    let ran = place.run(&["check", "d"]);
    assert!(ran.code == 2 || ran.code == 3, "{}", ran.err);

    // An older pg_restore than the pg_dump that wrote the archive is the world's fault.
    let script = "#!/bin/sh\necho 'pg_restore: error: unsupported version (1.99) in file header' >&2\nexit 1\n";
    place.write("bin/pg_restore", script);
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(place.path("bin/pg_restore"), mode).expect("a mode can be set");
    let old = format!("{}:/usr/bin:/bin", place.path("bin").display());
    let ran = place.run_with(&["check", "d"], &[("PATH", &old)]).exits(3);
    ran.warns(&["older than the pg_dump"]);
}

const HEAD: &str = "--\n-- PostgreSQL database dump\n--\nSET client_encoding = 'UTF8';\nCREATE TABLE public.t (\n    id integer NOT NULL,\n    a text\n);\n";
const TAIL: &str = "ALTER TABLE ONLY public.t\n    ADD CONSTRAINT t_pkey PRIMARY KEY (id);\n--\n-- PostgreSQL database dump complete\n--\n";

fn written(rows: &str) -> Place {
    Place::new()
        .with(
            "d/a.sql",
            format!("{HEAD}COPY public.t (id, a) FROM stdin;\n{rows}\\.\n{TAIL}"),
        )
        .with(
            "d/rules/r.yaml",
            "rules:\n  - {id: r, table: t, not_null: [id]}\n",
        )
}

#[test]
fn mistakes_have_their_place_and_no_value() {
    let cases = [
        (
            "1\tx\nSECRET\ty\n",
            "d/a.sql:11",
            "the value of column `id` is not a valid integer",
        ),
        ("1\n", "d/a.sql:10", "1 value for 2 columns"),
        ("1\tx\\\n", "d/a.sql:10", "ends with a backslash"),
        ("1\t\\377\n", "d/a.sql:10", "UTF-8"),
    ];
    for (rows, place, message) in cases {
        let ran = written(rows)
            .run(&["check", "d"])
            .refused(&[place, message]);
        assert!(!ran.err.contains("SECRET"), "{}", ran.err);
    }
    let whole = written("1\tx\n");
    assert_eq!(whole.check(&["d"]).exits(0).rule("r")["judged"], 1);
    let text = whole.read("d/a.sql");
    whole.write(
        "d/a.sql",
        text.split("--\n-- PostgreSQL database dump complete")
            .next()
            .expect("a beginning"),
    );
    whole
        .run(&["check", "d"])
        .refused(&["d/a.sql", "ends before it is complete"]);
    whole.write("d/a.sql", text.split("\\.\n").next().expect("a beginning"));
    whole
        .run(&["check", "d"])
        .refused(&["d/a.sql", "COPY data ends without"]);
    whole.write("d/a.sql", text.replace("'UTF8'", "'LATIN1'"));
    whole
        .run(&["check", "d"])
        .refused(&["d/a.sql:4", "not written in UTF-8", "--encoding=UTF8"]);
    whole.write("d/a.sql", text.replace("    a text\n", "    a text,\n"));
    whole.run(&["check", "d"]).refused(&["d/a.sql:7", "comma"]);
    whole.write("d/a.sql", format!("\\connect a\n{text}\\connect b\n{text}"));
    whole
        .run(&["check", "d"])
        .refused(&["more than one database", "pg_dumpall"]);
    whole.write("d/a.sql", "SELECT 1;\n");
    whole
        .run(&["check", "d"])
        .refused(&["declares no table", "schema.sql"]);
}

#[test]
fn a_schema_beside_dumps_comes_first() {
    let place = written("1\tx\n").with(
        "d/schema.sql",
        "create table t (id bigint primary key, a varchar(9), extra date);",
    );
    let ran = place.check(&["d"]).exits(0);
    ran.warns(&["column `extra` is missing and read as NULL"]);
    let both = place
        .run(&["check", "d/a.sql", "--rules", "d/rules"])
        .exits(0);
    both.warns(&["column `extra`"]);
    place.write("d/a.dump", "SELECT 1;");
    place
        .run(&["check", "d"])
        .refused(&["two dumps of one name"]);
}

#[test]
fn tables_beside_sql_are_tables() {
    let place = Place::new()
        .with("d/t.csv", "id\n1\n2\n")
        .with("d/queries.sql", "SELECT 1;")
        .with(
            "d/rules/r.yaml",
            "rules:\n  - {id: r, table: t, not_null: [id]}\n",
        );
    assert_eq!(place.check(&["d"]).exits(0).rule("r")["judged"], 2);
}

#[test]
fn spoiled_dumps_never_panic() {
    let only = std::env::var("FIRSTBAD_SEED")
        .ok()
        .map(|text| text.parse::<u64>().expect("FIRSTBAD_SEED is a number"));
    let text = written("1\tx\n2\t\\N\n").read("d/a.sql")
        + "INSERT INTO public.t (id, a) VALUES (3, 'it''s'), (4, E'a\\nb');\nSELECT $$a$$;\n/* c */\n";
    let place = Place::new();
    for seed in only.map_or(0..1500, |seed| seed..seed + 1) {
        let mut rng = crate::stream_forms::Rng::new(seed);
        let mut bytes = text.clone().into_bytes();
        for _ in 0..=rng.below(3) {
            let at = rng.below(bytes.len().max(1));
            let end = (at + rng.below(30)).min(bytes.len());
            match rng.below(4) {
                0 => bytes.truncate(at),
                1 if at < bytes.len() => bytes[at] = *rng.pick(b"\0'\"$\\;(\n\t\xff-"),
                2 => drop(bytes.drain(at..end)),
                _ => {
                    let again: Vec<u8> = bytes[at..end].to_vec();
                    bytes.splice(at..at, again);
                }
            }
        }
        bytes.push(b'\n');
        place.write("d/a.sql", &bytes);
        let path = place.path("d").display().to_string();
        let outcome = std::panic::catch_unwind(|| drop(firstbad::source::open(&[path])));
        assert!(outcome.is_ok(), "FIRSTBAD_SEED={seed} panics");
    }
}
