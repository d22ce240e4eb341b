//! Rows with values and names of every kind: what is recorded is recognised in the table, value by value.

use super::Shop;

const TABLES: &str = r#"
create role owner login createrole;
create role app login;
grant create on database shop to owner;
alter schema public owner to owner;
create schema sales authorization owner;
set role owner;
create type size as enum ('s', 'it''s', 'L\');
create domain sku as text check (value <> '');
create domain money_amount as numeric(12,2);
create table sales."Or""d'er%s" (
  "it's" sku, "b\x" timestamptz, "ü %s" size, n numeric, primary key ("it's", "b\x", "ü %s", n),
  "$1" text, status text not null, "select" integer
);
create table kinds (
  id uuid primary key, status text not null, b boolean, i2 smallint, i4 integer, i8 bigint, f4 real, f8 double precision, n numeric, n2 numeric(12,2),
  m money_amount, t text, v varchar(5), c char(5), y bytea, d date, ti time, tz timetz, ts timestamp, tstz timestamptz, j json, jb jsonb, e size,
  ia integer[], ta text[], na numeric[], tsa timestamptz[], ea size[], ja jsonb[], iv interval, ip inet, p point, bx box, r int4range, bi bit(3), vb varbit,
  cash money, x xml, o oid, ca char(3)[], ba bytea[], da sku[], tv tsvector, g integer generated always as (i4 / 2) stored
);
"#;

const RULES: &str = "
rules:
  - {id: lost-kind, table: kinds, rejected_values: {column: status, values: [lost]}}
  - {id: lost-order, table: \"sales.Or\\\"d'er%s\", rejected_values: {column: status, values: [lost]}}
";

#[test]
fn every_value_is_recognised() {
    let shop = Shop::of(TABLES, RULES);
    shop.install();
    shop.switch_on("'kinds', freeze => true");
    shop.owner(r#"insert into kinds values
      ('6ba7b810-9dad-11d1-80b4-00c04fd430c8', 'lost', true, -32768, 2147483647, -9223372036854775808, 'NaN', '-0', 123456789012345678.5, 1.10,
       7.5, E'it''s \\ "x"\n\t', 'ab   ', 'ab', '\x00ff', 'infinity', '24:00', '10:00+02', 'infinity', '-infinity', '{"a" : 1.0, "a": 2}',
       '{"b": 1e3, "a": [1.50, null, 123456789012345678901234567890]}', 'it''s', '{1,null,3}', E'{"a b",null,"NULL","q\\"uo","b\\\\s",""}', '{1.50,-2}',
       '{"2026-03-01 10:00:00.123456+02",infinity}', E'{"it''s","L\\\\"}', array['{"a": 1.0}'::jsonb, null], '1 year -2 days 03:04:05.678', '10.0.0.1/8',
       '(1.5,-2)', '(2,2),(0,0)', '[1,5)', '101', '10101', '1234.50', '<a>1</a>', 4294967295, '{ab,c}', array['\x01'::bytea], '{x,"y z"}', 'a fat:2 cat');
      insert into kinds values ('6ba7b811-9dad-11d1-80b4-00c04fd430c8', 'lost', null, null, null, null, 1e-30, 1.7976931348623157e308, 1e20, null,
       null, '', '', '', '\x', '0044-03-15 BC', '00:00:00.000001', null, '0044-03-15 10:00:00 BC', '2026-03-12 16:05:00.1+05:30', 'null',
       'null', null, '{}', '{{a,b},{c,d}}', null, null, null, null, '-00:00:01', '::1', null, null, 'empty', null, '', '-1', null, 0, null, null, null, null);
      insert into kinds values ('6ba7b812-9dad-11d1-80b4-00c04fd430c8', 'lost', false, 0, 0, 0, 0.1, 0.1, 0.10, 0, 0, 'ü', 'ü', 'ü', null, '2026-03-01', null, null, '1999-12-31 23:59:59.999999')"#);
    shop.watch();
    let applied = shop.json("apply", &["I-1"], 0);
    assert_eq!(applied["set_apart"], 3, "{applied}");
    assert_eq!(shop.owner("select count(*) from clean.kinds"), "0\n");
    shop.quarantine("release", &["I-1"]).exits(0);
    every_change_is_seen(&shop);
}

/// Whatever column is changed: the row is not what it was.
fn every_change_is_seen(shop: &Shop) {
    let changes = [
        "b = false",
        "i2 = 1",
        "i8 = 1",
        "f4 = 1",
        "f8 = 1",
        "n = 1",
        "n2 = 1.11",
        "m = 7.51",
        "t = t || ' '",
        "v = 'ab  x'",
        "c = 'abc'",
        "y = '\\x00fe'",
        "d = '2026-01-01'",
        "ti = '23:59'",
        "tz = '09:00+01'",
        "ts = '2026-01-01'",
        "tstz = 'infinity'",
        "j = '{\"a\": 1.0, \"a\": 2}'",
        "jb = '{}'",
        "e = 's'",
        "ia = '{1,3}'",
        "ta = '{}'",
        "na = '{1.5}'",
        "tsa = '{infinity}'",
        "ea = '{s}'",
        "ja = null",
        "iv = '365 days'",
        "ip = '10.0.0.1'",
        "p = '(1.5,-3)'",
        "bx = '(3,3),(1,1)'",
        "r = '[1,6)'",
        "bi = '100'",
        "vb = '1010'",
        "cash = '1234.51'",
        "x = '<a>2</a>'",
        "o = 1",
        "ca = '{ab}'",
        "ba = null",
        "da = '{x}'",
        "tv = 'cat'",
    ];
    let where_first = "where id = '6ba7b810-9dad-11d1-80b4-00c04fd430c8'";
    for change in changes {
        let kept = "create table kept as select * from kinds";
        shop.owner(&format!(
            "{kept} {where_first}; update kinds set {change} {where_first}"
        ));
        let planned = shop.json("plan", &["I-1"], 1);
        assert_eq!(
            planned["passed_over"][0]["reason"], "changed",
            "{change}: {planned}"
        );
        assert_eq!(planned["set_apart"], 2, "{change}: {planned}");
        let column = change.split(' ').next().expect("a column");
        shop.owner(&format!(
            "update kinds set {column} = (select {column} from kept) {where_first}; drop table kept"
        ));
    }
    assert_eq!(
        shop.json("plan", &["I-1"], 0)["set_apart"],
        3,
        "all is as it was"
    );
}

#[test]
fn hostile_names_and_keys() {
    let shop = Shop::of(TABLES, RULES);
    shop.install();
    shop.switch_on(r#"'sales."Or""d''er%s"', freeze => true"#);
    shop.owner(
        r#"insert into sales."Or""d'er%s" values
      ('it''s', '2026-03-01 10:00+02', 'it''s', 1.50, '$body$', 'lost'),
      (E'\\'' ; drop table kinds; --', 'infinity', E'L\\', 2.5, E'\n', 'lost'),
      ('ü "x" {a,b}', '-infinity', 's', 1e10, null, 'lost'),
      ('it''s', '2026-03-01 10:00+02', 's', 1.50, '$body$', 'placed')"#,
    );
    shop.watch();
    let planned = shop.quarantine("plan", &["I-1"]).exits(0);
    planned.says(&["3 rows would be set apart", "sales.Or\"d'er%s"]);
    let sql = shop
        .quarantine("plan", &["I-1", "--format", "sql"])
        .exits(0)
        .out;
    // Also where backslashes in texts mean something.
    let settings = "set standard_conforming_strings = off; set escape_string_warning = off;";
    let said = shop.cluster.sql(
        "shop",
        &format!("set role firstbad_quarantine; {settings} {sql}"),
    );
    assert_eq!(said, "1|set_apart\n2|set_apart\n3|set_apart\n");
    let applied = shop.json("apply", &["I-1"], 0);
    assert_eq!(
        (&applied["set_apart"], &applied["already"]),
        (&0.into(), &3.into())
    );
    let clean = r#"select count(*), min(status) from clean."sales.Or""d'er%s""#;
    assert_eq!(shop.owner(clean), "1|placed\n");
    let write = r#"do $$ begin update sales."Or""d'er%s" set n = 2 where "ü %s" = 'it''s';
                   raise 'written'; exception when sqlstate 'FBQ01' then null; end $$"#;
    shop.owner(write);
    shop.owner(r#"update sales."Or""d'er%s" set "$1" = 'x' where status = 'placed'"#);
    shop.quarantine("release", &["I-1"])
        .exits(0)
        .says(&["3 rows are released"]);
    assert_eq!(shop.held(), 0);
}
