//! Values of every type: a live database gives what its dump gives, whatever its settings are, and never a wrong one.

use super::{dumped, opened, read, rows, same};
use crate::place::Place;
use crate::postgres::Cluster;
use crate::rng::Rng;

const FIRST_SEED: u64 = 20_260_312;
const ROWS: usize = 400;

/// Columns, their types, and values that are easily read wrongly.
const COLUMNS: &[(&str, &[&str])] = &[
    ("boolean", &["true", "false"]),
    ("smallint", &["-32768", "32767", "0"]),
    ("integer", &["-2147483648", "2147483647", "0"]),
    (
        "bigint",
        &["-9223372036854775808", "9223372036854775807", "0"],
    ),
    ("oid", &["0", "4294967295"]),
    (
        "real",
        &[
            "'NaN'",
            "'-Infinity'",
            "'-0'",
            "1.1",
            "1e-45",
            "3.4028235e38",
            "16777217",
        ],
    ),
    (
        "double precision",
        &[
            "'NaN'",
            "'Infinity'",
            "'-0'",
            "0.1",
            "5e-324",
            "1.7976931348623157e308",
            "1e15",
            "123456789012345680",
        ],
    ),
    (
        "numeric",
        &[
            "0",
            "1.50",
            "-12345678901234567890.123456789",
            "1e20",
            "0.0000000001",
            "10000",
            "0.0001",
            "99999999",
            "-0.00",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "1e60",
            "-1e-60",
            "1e131071",
            "-1e-16383",
            "123456789012345678901234567890123456789012345678901234567890.1234567890123456789000",
            "99999999999999999999999999999999999999",
            "0.00000000000000000000000000000000000001",
        ],
    ),
    (
        "numeric(12,2)",
        &["9999999999.99", "-0.01", "0", "10000.10", "'NaN'"],
    ),
    (
        "numeric(78,0)",
        &[
            "115792089237316195423570985008687907853269984665640564039457584007913129639935",
            "-1",
            "0",
        ],
    ),
    ("numeric(1000,500)", &["1e400", "-1e-500", "0.1"]),
    ("numeric(4,-2)", &["123400", "-100", "0"]),
    (
        "numeric(30,20)",
        &["1234567890.12345678901234567890", "-0.00000000000000000001"],
    ),
    (
        "text",
        &[
            "''",
            "'NULL'",
            "'it''s'",
            r"'back\slash\'",
            r"E'two\nlines\r\n'",
            "'größer 😀'",
            r"E'\x01\x7f\u2028'",
            "'  blanks  '",
            "repeat('long ', 5000)",
        ],
    ),
    ("varchar(20)", &["''", "'v  '", "'ÄÖÜäöüß'"]),
    ("char(5)", &["''", "'c'", "'  d'", "'12345'"]),
    ("bpchar", &["'x  '", "''"]),
    ("\"char\"", &["'x'", "''"]),
    ("name", &["'a name'", "'public'"]),
    ("bytea", &[r"'\x'", r"'\x00ff5c0a'", r"'\xdeadbeef'"]),
    (
        "date",
        &[
            "'infinity'",
            "'-infinity'",
            "'0044-03-15 BC'",
            "'2000-01-01'",
            "'9999-12-31'",
            "'1969-12-31'",
            "'4713-01-01 BC'",
        ],
    ),
    ("time", &["'00:00'", "'24:00'", "'23:59:59.999999'"]),
    (
        "timetz",
        &["'00:00+14'", "'24:00-15:59:59'", "'12:34:56.5+05:30'"],
    ),
    (
        "timestamp",
        &[
            "'infinity'",
            "'-infinity'",
            "'0044-03-15 12:00 BC'",
            "'2000-01-01'",
            "'1969-12-31 23:59:59.999999'",
            "'2026-03-12 16:03:51.221456'",
        ],
    ),
    (
        "timestamptz",
        &[
            "'infinity'",
            "'-infinity'",
            "'1900-01-01 00:00:00+00'",
            "'2026-03-29 02:30:00.5+01'",
            "'1880-01-01 00:00:00Z'",
            "'9999-12-31 23:59:59Z'",
        ],
    ),
    (
        "interval",
        &[
            "'1 day 02:03:04.5'",
            "'-1 mon'",
            "'0'",
            "'1 year -2 mons +3 days -04:05:06.000001'",
            "'-178000000 years'",
        ],
    ),
    (
        "uuid",
        &[
            "'4bf92f35-0000-4000-8000-000000000001'",
            "'00000000-0000-0000-0000-000000000000'",
        ],
    ),
    (
        "json",
        &[
            r#"'{"b": 1,  "a": [1, 2], "b": 1.50}'"#,
            "'null'",
            r#"'"\u00e4\n"'"#,
            "'1e400'",
        ],
    ),
    (
        "jsonb",
        &[
            r#"'{"b": 1,  "a": [1, 2.50], "b": 2}'"#,
            "'null'",
            r#"'"ä\n\" "'"#,
            "'123456789012345678901234567890'",
        ],
    ),
    ("xml", &["'<a b=\"c\">d</a>'"]),
    ("mood", &["'glad'", "'sad'", "'it''s \"odd\"'"]),
    ("code", &["'K1'", "''"]),
    (
        "pair",
        &[
            "row(1, 'a')",
            "row(null, E'x,\"y\" \\n')",
            "row(null, null)",
        ],
    ),
    ("int4range", &["'[1,5)'", "'empty'", "'(,)'"]),
    ("tstzrange", &["'[2026-03-12 00:00+01, infinity)'"]),
    ("numrange", &["'(1.50,2]'"]),
    ("int4multirange", &["'{[1,3),[5,9)}'", "'{}'"]),
    ("inet", &["'10.0.0.1/8'", "'::1'", "'10.0.0.1'"]),
    ("cidr", &["'10.0.0.0/8'"]),
    ("macaddr", &["'08:00:2b:01:02:03'"]),
    ("macaddr8", &["'08:00:2b:01:02:03:04:05'"]),
    ("bit(8)", &["B'10100101'"]),
    ("bit varying(12)", &["B'1'", "B''"]),
    ("money", &["'1234.5'", "'-0.01'"]),
    ("point", &["'(0.1,-2)'"]),
    ("box", &["'(1,2),(3,4.5)'"]),
    ("path", &["'[(1,2),(3,4)]'", "'((1,2))'"]),
    ("circle", &["'<(1,2),0.3>'"]),
    ("tsvector", &["to_tsvector('simple', 'a fat cat''s')"]),
    ("tsquery", &["'fat & !cat'"]),
    ("pg_lsn", &["'16/B374D848'"]),
    ("regclass", &["'matrix'", "'pg_class'"]),
    ("jsonpath", &["'$.a[*] ? (@ > 1)'"]),
    ("boolean[]", &["'{t,f,NULL}'"]),
    ("smallint[]", &["'{}'", "'{1,-2}'"]),
    (
        "integer[]",
        &[
            "'{1,NULL,3}'",
            "'{{1,2},{3,NULL}}'",
            "'[0:2]={1,2,3}'",
            "'[-1:0][2:3]={{1,2},{3,4}}'",
            "'{}'",
        ],
    ),
    ("bigint[]", &["'{{{1},{2}},{{3},{4}}}'"]),
    ("real[]", &["'{NaN,-0,1.1}'"]),
    ("double precision[]", &["'{0.1,-Infinity,1e-300}'"]),
    (
        "numeric[]",
        &[
            "'{1.50,0.000,-12345678901234567890.5}'",
            "'{NaN,Infinity,1e50,-0.00000000000000000000000000000000000000000010}'",
        ],
    ),
    ("numeric(12,2)[]", &["'{1.5,-2.25,NULL}'", "'{NaN}'"]),
    (
        "text[]",
        &[
            r#"'{"",NULL,"NULL","a b","d\"e\\f","{x}",ä}'"#,
            "'{}'",
            "array[E'\\n\\t']",
        ],
    ),
    ("varchar(20)[]", &["'{a,\"b c\"}'"]),
    ("char(3)[]", &["'{a,\"b \"}'"]),
    ("bytea[]", &[r#"'{"\\x00ff","\\x"}'"#]),
    ("date[]", &["'{infinity,2026-03-12,0001-01-01 BC}'"]),
    ("time[]", &["'{24:00,00:00:00.5}'"]),
    ("timestamp[]", &["'{\"2026-03-12 16:03:51.2\",-infinity}'"]),
    (
        "timestamptz[]",
        &["'{\"2026-03-12 16:03:51.2+05:30\",infinity}'"],
    ),
    ("uuid[]", &["'{4bf92f35-0000-4000-8000-000000000001}'"]),
    ("json[]", &[r#"array['{"a": 1}'::json, '[ ]']"#]),
    (
        "jsonb[]",
        &[r#"array['{"a": [1, 2]}'::jsonb, 'null', null]"#],
    ),
    ("mood[]", &[r#"array['glad', 'it''s "odd"', null]::mood[]"#]),
    ("code[]", &["'{K1,\"\"}'"]),
    ("interval[]", &["'{1 day,-00:00:01}'"]),
    ("inet[]", &["'{10.0.0.1/8,::1}'"]),
    ("pair[]", &["array[row(1, 'a')::pair, null]"]),
    ("tags", &["'{a,NULL,\"b c\"}'"]),
];

/// A random value of a type in SQL; None for one of those that are written down.
fn random(rng: &mut Rng, data_type: &str) -> Option<String> {
    let digits = |rng: &mut Rng, most: usize| -> String {
        let count = 1 + rng.below(most);
        (0..count)
            .map(|_| char::from(b'0' + rng.below(10) as u8))
            .collect()
    };
    Some(match data_type {
        "integer" => (rng.next() as i32).to_string(),
        "bigint" => (rng.next() as i64).to_string(),
        // Nine and sixteen digits do not say every number: bits do.
        "real" => format!(
            "'{:e}'",
            Some(f32::from_bits(rng.next() as u32))
                .filter(|f| f.is_normal())
                .unwrap_or(0.5)
        ),
        "double precision" => format!(
            "'{:e}'",
            Some(f64::from_bits(rng.next()))
                .filter(|f| f.is_normal())
                .unwrap_or(0.5)
        ),
        "numeric" if rng.chance(5) => format!("-{}.{}", digits(rng, 40), digits(rng, 40)),
        "numeric" => format!(
            "{}{}.{}",
            rng.pick(&["", "-"]),
            digits(rng, 17),
            digits(rng, 16)
        ),
        "numeric(12,2)" => format!("-{}.{}", digits(rng, 10), digits(rng, 2)),
        "date" => format!("date '2000-01-01' + {}", rng.between(-2_000_000, 2_000_000)),
        "timestamp" => format!(
            "timestamp '2000-01-01' + {} * interval '1 microsecond'",
            (rng.next() >> 2) as i64 - (1 << 57)
        ),
        "timestamptz" => format!(
            "timestamptz '2000-01-01Z' + {} * interval '1 microsecond'",
            (rng.next() >> 2) as i64 - (1 << 57)
        ),
        "time" => format!(
            "time '00:00' + {} * interval '1 microsecond'",
            rng.next() % 86_400_000_000
        ),
        "interval" => format!(
            "interval '{} mons {} days {} microseconds'",
            rng.between(-99, 99),
            rng.between(-99, 99),
            rng.next() as i32
        ),
        "bytea" => format!("'\\x{:016x}'", rng.next()),
        "uuid" => format!("'{:016x}{:016x}'", rng.next(), rng.next()),
        _ => return None,
    })
}

pub(super) fn seeds() -> Vec<u64> {
    match std::env::var("FIRSTBAD_SEED") {
        Ok(seed) => vec![seed.parse().expect("FIRSTBAD_SEED is a number")],
        Err(_) => vec![FIRST_SEED],
    }
}

/// The matrix with random rows.
pub(super) fn fill(cluster: &Cluster, database: &str, seed: u64) {
    let columns: Vec<String> = (0..COLUMNS.len())
        .map(|at| format!("c{at} {}", COLUMNS[at].0))
        .collect();
    let mut sql = format!(
        "create type mood as enum ('glad', 'sad', 'it''s \"odd\"'); create type pair as (a integer, b text);
         create domain code as varchar(8) check (length(value) < 9); create domain tags as text[];
         create table matrix (id integer primary key, {});
         set datestyle = iso; set intervalstyle = postgres; set timezone = 'Europe/Berlin'; set lc_monetary = 'C';\n",
        columns.join(", ")
    );
    let rng = &mut Rng::new(seed);
    for id in 0..ROWS {
        let values = COLUMNS.iter().map(|(data_type, known)| {
            let value = match rng.chance(15) {
                true => None,
                false => random(rng, data_type).filter(|_| rng.chance(60)),
            };
            let value = value.unwrap_or_else(|| (*rng.pick(known)).to_owned());
            if rng.chance(10) {
                "null".to_owned()
            } else {
                format!("({value})::{data_type}")
            }
        });
        let values: Vec<String> = values.collect();
        sql.push_str(&format!(
            "insert into matrix values ({id}, {});\n",
            values.join(", ")
        ));
    }
    cluster.sql(database, &sql);
}

#[test]
fn every_type_is_what_the_dump_says_under_any_settings() {
    let cluster = Cluster::start();
    for seed in seeds() {
        println!("FIRSTBAD_SEED={seed}");
        cluster.sql("postgres", "create database matrix");
        fill(&cluster, "matrix", seed);
        // The texts of some types depend on it, and a dump has them as they are.
        cluster.sql("postgres", "alter database matrix set timezone = 'UTC'");
        let dump = dumped(&cluster, "matrix", &[]);
        let (live, found) = read(&cluster.url("matrix"));
        assert_eq!(found, Vec::<String>::new());
        same(&live, &dump);

        let place = Place::new();
        place.write("d/schema.sql", cluster.dump("matrix", &["--schema-only"]));
        let sql = "set datestyle = iso; set lc_monetary = 'C'; set search_path = pg_catalog; copy (select * from public.matrix) to stdout with (format csv, header)";
        place.write("d/matrix.csv", cluster.sql("matrix", sql));
        same(&live, &opened(&place.path("d")));

        cluster.sql(
            "matrix",
            "alter database matrix set datestyle = 'German'; alter database matrix set intervalstyle = 'sql_standard';
             alter database matrix set extra_float_digits = -3; alter database matrix set timezone = 'Asia/Kathmandu';
             alter database matrix set bytea_output = 'escape'; alter database matrix set xmlbinary = 'hex';
             alter role postgres set datestyle = 'SQL, DMY'; alter role postgres set search_path = 'public, pg_catalog';
             alter database matrix set default_transaction_isolation = 'serializable';
             alter database matrix set row_security = on;",
        );
        let (odd, found) = read(&cluster.url("matrix"));
        assert_eq!(found, Vec::<String>::new());
        same(&odd, &live);
        cluster.sql(
            "postgres",
            "alter role postgres reset all; drop database matrix",
        );
    }

    not_held(&cluster);
}

/// What firstbad has no place for is not known, and said to be so; everything else is judged.
fn not_held(cluster: &Cluster) {
    cluster.sql("postgres", "create database odd");
    cluster.sql(
        "odd",
        "create table t (id integer primary key, n numeric, wide numeric, day date, at timestamp, ns numeric[], j jsonb, ok text);
         insert into t values (1, 'NaN', 1e37, '5874897-12-31', '294276-12-31', '{1,NaN}', '1', 'a'),
           (2, 'Infinity', 0.01, '2026-01-01', '2026-01-01', '{1}', (repeat('[', 300) || repeat(']', 300))::jsonb, 'b'),
           (3, 1e60, 2, null, null, null, null, 'c'), (4, 1e-60, 3, null, null, null, null, 'd'), (5, 1.5, 4, null, null, null, null, 'e');",
    );
    let (history, found) = read(&cluster.url("odd"));
    let rows = rows(&history, "t");
    let column = |at: usize| -> Vec<&str> { rows.iter().map(|row| row[at].as_str()).collect() };
    let tiny = format!("'0.{}1'", "0".repeat(59));
    let huge = format!("'1{}'", "0".repeat(60));
    assert_eq!(column(1), ["'NaN'", "'Infinity'", &huge, &tiny, "'1.5'"]);
    let wide = format!("'1{}'", "0".repeat(37));
    assert_eq!(column(2), [&wide, "'0.01'", "'2'", "'3'", "'4'"]);
    assert_eq!(column(3)[1..3], ["'2026-01-01'", "NULL"]);
    assert_eq!(
        column(4),
        ["?", "'2026-01-01 00:00:00'", "NULL", "NULL", "NULL"]
    );
    assert_eq!(column(5), ["'{1,NaN}'", "'{1}'", "NULL", "NULL", "NULL"]);
    assert_eq!(column(6)[1].len(), 602);
    assert_eq!(column(7), ["'a'", "'b'", "'c'", "'d'", "'e'"]);
    let told = found.join("\n");
    assert!(
        told.contains("`at` of table t is not known in 1 row"),
        "{told}"
    );
    assert!(
        !told.contains("294276") && !told.contains("`ok`") && !told.contains("`n`"),
        "{told}"
    );

    let place = Place::new().with(
        "rules/t.yaml",
        "table: t\nrules:\n  - {id: at, range: {column: at, min: 2000-01-01}}\n  - {id: ok, not_null: [ok]}\n",
    );
    let url = cluster.url("odd");
    let ran = place
        .check(&[&url])
        .exits(4)
        .warns(&["`at` of table t is not known in 1 row"]);
    let report: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(report["rules"][0]["verdict"], "unknown");
    assert_eq!(report["rules"][1]["verdict"], "held");
    // Nobody asks for the column: nothing is said about it.
    let ran = place.check(&[&url, "--rule", "ok"]).exits(0);
    assert_eq!(ran.err, "");
}
