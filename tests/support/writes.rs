//! Random writes of every kind to tables with every type, in SQL.

use crate::rng::Rng;

pub(crate) const TABLES: [&str; 4] = ["parents", "items", "pairs", "logs"];
/// Every type; one table with a key of two columns, one without a key. Nothing holds by constraint, so that rules find something.
pub(crate) const SCHEMA: &str = "
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
pub(crate) fn statement(rng: &mut Rng) -> String {
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

pub(crate) fn transaction(rng: &mut Rng) -> String {
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
