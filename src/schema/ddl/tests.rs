use std::fmt::Write as _;

use super::*;
use crate::schema::{DataType, Table};

fn read(text: &str) -> (Schema, Vec<Diagnostic>) {
    parse(text, Path::new("schema.sql"))
}

/// Tables and columns, one a line, as far as they matter.
fn shown(schema: &Schema) -> String {
    let mut out = String::new();
    for table in &schema.tables {
        let _ = writeln!(out, "{} key {:?}", table.name, table.primary_key_names());
        for column in &table.columns {
            let null = if column.nullable { "" } else { " not null" };
            let _ = writeln!(out, "  {} {}{null}", column.name, column.data_type);
        }
        for key in &table.foreign_keys {
            let _ = writeln!(
                out,
                "  {:?} -> {} {:?}",
                key.columns, key.to_table, key.to_columns
            );
        }
    }
    out
}

fn messages(diagnostics: &[Diagnostic]) -> Vec<String> {
    let short = |d: &Diagnostic| {
        let hint = d
            .hint
            .as_ref()
            .map_or(String::new(), |hint| format!(" ({hint})"));
        format!("{}:{} {:?}: {}{hint}", d.line, d.column, d.level, d.message)
    };
    diagnostics.iter().map(short).collect()
}

#[track_caller]
fn table(text: &str) -> Table {
    let (mut schema, diagnostics) = read(text);
    assert!(
        !crate::diagnostic::any_error(&diagnostics),
        "{:?}",
        messages(&diagnostics)
    );
    schema.tables.pop().expect("a table")
}

#[test]
fn a_real_dump_is_read_whole() {
    let text = include_str!("../../../testdata/schema/shop-pg15.sql");
    let (schema, diagnostics) = read(text);
    assert_eq!(
        shown(&schema).lines().collect::<Vec<_>>(),
        include_str!("../../../testdata/schema/shop-pg15.expected")
            .lines()
            .collect::<Vec<_>>()
    );
    let notes: Vec<String> = messages(&diagnostics);
    assert!(
        diagnostics.iter().all(|d| d.level == Level::Note),
        "{notes:#?}"
    );
    for kind in [
        "skipped 2 × CREATE INDEX",
        "CREATE FUNCTION",
        "skipped 1 × CREATE RULE",
        "psql command",
        "CREATE TRIGGER",
    ] {
        assert!(
            notes.iter().any(|note| note.contains(kind)),
            "{kind} in {notes:#?}"
        );
    }
    let partition = "`public.events_2026` is a partition of `public.events`; its rows belong there";
    assert!(
        notes.iter().any(|note| note.contains(partition)),
        "{notes:#?}"
    );
    let status = schema
        .table(&TableName::new("public", "orders"))
        .and_then(|t| t.column("status"))
        .map(|c| &c.data_type);
    let Some(DataType::Enum { labels, .. }) = status else {
        panic!("{status:?}")
    };
    assert_eq!(labels, &["draft", "placed", "paid", "it's late", "shipped"]);
}

#[test]
fn the_data_of_a_dump_is_passed_over() {
    let text = include_str!("../../../testdata/schema/with-data-pg15.sql");
    let (schema, diagnostics) = read(text);
    let names: Vec<String> = schema
        .tables
        .iter()
        .map(|table| table.name.to_string())
        .collect();
    assert_eq!(names, ["public.orders", "public.scratch"]);
    assert!(
        messages(&diagnostics)
            .iter()
            .any(|note| note.contains("skipped 2 × COPY")),
        "{:#?}",
        messages(&diagnostics)
    );
    assert!(!crate::diagnostic::any_error(&diagnostics));
}

#[test]
fn hand_written_tables_are_read() {
    let cases = [
        (
            "create table T (ID int PRIMARY KEY, \"Name\" text)",
            "public.t key [\"id\"]\n  id integer not null\n  Name text\n",
        ),
        (
            "create table a.b (x serial, y int default 1 not null, z int default null)",
            "a.b key []\n  x integer not null\n  y integer not null\n  z integer\n",
        ),
        (
            "create table t (a int, b text default 'x;' || ')', primary key (b, a))",
            "public.t key [\"b\", \"a\"]\n  a integer not null\n  b text not null\n",
        ),
        (
            "create domain d as text not null; create domain e as d; create table t (a e, b e[])",
            "public.t key []\n  a text not null\n  b text[]\n",
        ),
        (
            "create table t (a mood, b mood[]); create type mood as enum ('x')",
            "public.t key []\n  a mood\n  b mood[]\n",
        ),
        (
            "create table p (id int primary key); create table t (a int references p on delete set null (a) not null)",
            "public.t key []\n  a integer not null\n  [\"a\"] -> public.p []\n",
        ),
        (
            "create table p (id int primary key, v text); create table t (like p including all, w int)",
            "public.t key [\"id\"]\n  id integer not null\n  v text\n  w integer\n",
        ),
        (
            "set search_path = sales, pg_catalog; create table t (a int)",
            "sales.t key []\n  a integer\n",
        ),
        (
            "create table t (a int); alter table t add b text not null, drop a, alter b type varchar(3), add primary key (b)",
            "public.t key [\"b\"]\n  b character varying(3) not null\n",
        ),
        (
            "create table t (a int primary key); alter table t rename a to b; alter table t rename to u; alter table u alter b set not null",
            "public.u key [\"b\"]\n  b integer not null\n",
        ),
        (
            "create table t (a int constraint k primary key); alter table t drop constraint k",
            "public.t key []\n  a integer\n",
        ),
        (
            "create table t (a int generated by default as identity (start 5), b int generated always as (a + 1) stored)",
            "public.t key []\n  a integer not null\n  b integer\n",
        ),
        (
            "create table t (a int check (a is not null), exclude text, key int, value int)",
            "public.t key []\n  a integer\n  exclude text\n  key integer\n  value integer\n",
        ),
        (
            "create table if not exists t (a int); create table if not exists t (b int)",
            "public.t key []\n  a integer\n",
        ),
        (
            "create table t (a citext, b geometry(Point,4326))",
            "public.t key []\n  a citext\n  b geometry(Point,4326)\n",
        ),
        (
            "create table \"a;b\" (\"c,d\" int, \"e\"\"f\" int) -- end",
            "public.a;b key []\n  c,d integer\n  e\"f integer\n",
        ),
    ];
    for (text, expected) in cases {
        let mut only = Schema::default();
        only.tables.push(table(text));
        assert_eq!(shown(&only), expected, "{text}");
    }
}

#[test]
fn enums_may_grow_and_change() {
    let text = "create type s as enum ('b'); alter type s add value 'a' before 'b'; alter type s add value if not exists 'b';
        alter type s add value 'd'; alter type s rename value 'd' to 'c'; create table t (s s)";
    let Some(DataType::Enum { labels, .. }) =
        table(text).columns.pop().map(|column| column.data_type)
    else {
        panic!()
    };
    assert_eq!(labels, ["a", "b", "c"]);
}

#[test]
fn mistakes_are_named_where_they_stand() {
    let cases = [
        (
            "create table t (\n  id int PRIMRY KEY\n)",
            "2:10 Error: `PRIMRY` is not understood in the declaration of column `id`; the rest of it is skipped (did you mean `PRIMARY`?)",
        ),
        (
            "create table t (id int);\ncreate table T (x int)",
            "2:14 Error: table `public.t` is declared twice",
        ),
        (
            "create table t (id int, primary key (idd))",
            "1:38 Error: the primary key names column `idd`, which table `public.t` does not have (did you mean `id`?)",
        ),
        (
            "create table t (id int, id text)",
            "1:25 Error: table `public.t` has two columns `id`",
        ),
        (
            "create table t (id primary key)",
            "1:20 Error: expected the type of column `id`, found `primary`",
        ),
        (
            "create table t (id int,)",
            "1:20 Error: a comma too many after this",
        ),
        (
            "create table t (id int",
            "1:1 Error: the parenthesis of table `public.t` is never closed",
        ),
        (
            "create table t (id int; create table u (id int)",
            "1:1 Error: the parenthesis of table `public.t` is never closed",
        ),
        (
            "creat table t (id int)",
            "1:1 Error: a statement cannot begin with `creat` (did you mean `CREATE`?)",
        ),
        (
            "create tabel t (id int)",
            "1:8 Error: `CREATE tabel` is no statement of Postgres (did you mean `CREATE TABLE`?)",
        ),
        ("select 'abc", "1:8 Error: this string never ends"),
        (
            "create table t (a text default $x$ y)",
            "1:32 Error: this dollar-quoted string never ends",
        ),
        (
            "/* /* */ create table t (a int)",
            "1:1 Error: this comment never ends",
        ),
        (
            "copy t from stdin;\n1\n",
            "1:1 Error: this COPY data (no line `\\.`) never ends",
        ),
        (
            "alter table ordrs add primary key (id)",
            "1:13 Error: table `public.ordrs` is not declared before this",
        ),
        (
            "create table t (a int references u)",
            "1:34 Note: a foreign key refers to table `public.u`, which is not declared",
        ),
        (
            "create table t (a varchr(3))",
            "1:19 Warning: type `varchr(3)` is not known: its values are kept as text (did you mean `varchar`?)",
        ),
        (
            "create table t (a frobnicator[])",
            "1:19 Note: type `frobnicator[]` is not known: its values are kept as text",
        ),
        (
            "create table t as select 1",
            "1:14 Warning: the columns of `public.t` are not written here, so the table is skipped (declare it with its columns: create table … (column type, …))",
        ),
    ];
    for (text, expected) in cases {
        let (_, diagnostics) = read(text);
        assert_eq!(
            messages(&diagnostics).first().map(String::as_str),
            Some(expected),
            "{text}"
        );
    }
}

#[test]
fn every_file_of_the_corpus_has_its_message() {
    let cases = [
        ("unterminated-string", "1:32 Error: this string never ends"),
        ("unterminated-comment", "1:1 Error: this comment never ends"),
        (
            "unterminated-dollar-quote",
            "1:49 Error: this dollar-quoted string never ends",
        ),
        (
            "unterminated-copy",
            "1:1 Error: this COPY data (no line `\\.`) never ends",
        ),
        (
            "unclosed-parenthesis",
            "1:1 Error: the parenthesis of table `public.t` is never closed",
        ),
        (
            "misspelt-keyword",
            "2:13 Error: `primery` is not understood in the declaration of column `id`; the rest of it is skipped (did you mean `PRIMARY`?)",
        ),
        (
            "column-without-type",
            "1:20 Error: expected the type of column `id`, found `primary`",
        ),
        (
            "key-of-unknown-column",
            "2:55 Error: the primary key names column `idd`, which table `public.t` does not have (did you mean `id`?)",
        ),
        (
            "declared-twice",
            "2:14 Error: table `public.t` is declared twice",
        ),
        ("binary", "2:24 Error: this quoted name never ends"),
    ];
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/corpus/ddl");
    for (name, expected) in cases {
        let text = std::fs::read_to_string(dir.join(format!("{name}.sql"))).expect(name);
        let errors: Vec<String> = messages(&read(&text).1)
            .into_iter()
            .filter(|m| m.contains(" Error: "))
            .collect();
        assert_eq!(
            errors.last().map(String::as_str),
            Some(expected),
            "{name}: {errors:?}"
        );
    }
    let deep = std::fs::read_to_string(dir.join("deep-parentheses.sql")).expect("a file");
    assert_eq!(table(&deep).columns.len(), 1);
}

#[test]
fn one_mistake_does_not_hide_the_others() {
    let (schema, diagnostics) = read(
        "create table a (x int PRIMRY KEY);\ncreate table b (y int, y int);\ncreate table c (z int);",
    );
    assert_eq!(schema.tables.len(), 3);
    assert_eq!(
        diagnostics.iter().map(|d| d.line).collect::<Vec<_>>(),
        [1, 2]
    );
}

#[test]
fn hostile_text_costs_a_message_and_no_more() {
    let nested = format!(
        "create table t (a int default {}1{} not null)",
        "(".repeat(10_000),
        ")".repeat(10_000)
    );
    assert_eq!(
        shown(&Schema {
            tables: vec![table(&nested)]
        }),
        "public.t key []\n  a integer not null\n"
    );
    let chain = format!(
        "create table t (a int check ({}))",
        "1+".repeat(400_000) + "1"
    );
    assert_eq!(table(&chain).columns.len(), 1);
    let open = format!("create table t (a int default {}", "(".repeat(100_000));
    assert!(crate::diagnostic::any_error(&read(&open).1));
    let comments = "/*".repeat(100_000);
    assert_eq!(read(&comments).1.len(), 1);
    let garbage = ")(;'a'; 1 2 3; ".repeat(5_000);
    let (_, diagnostics) = read(&garbage);
    assert!(diagnostics.len() <= 201 && crate::diagnostic::any_error(&diagnostics));
    let circle = read("create domain a as b; create domain b as a; create table t (x a)").0;
    assert_eq!(circle.tables.len(), 1);
    let many = format!(
        "create table t ({})",
        (0..20_000)
            .map(|n| format!("c{n} int"))
            .collect::<Vec<_>>()
            .join(",")
    );
    assert_eq!(table(&many).columns.len(), 20_000);
}

/// Cuts, doubles and swaps pieces of real dumps: whatever comes out, there is an answer.
#[test]
fn mutated_dumps_never_panic() {
    let seeds: [&str; 2] = [
        include_str!("../../../testdata/schema/shop-pg15.sql"),
        include_str!("../../../testdata/schema/with-data-pg15.sql"),
    ];
    let mut state = 0x5eed_0001_u64;
    println!("seed {state:#x}");
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap_or(0) % below.max(1)
    };
    const SPICE: [&str; 14] = [
        "'",
        "\"",
        "(",
        ")",
        ";",
        "$$",
        "/*",
        "--",
        ",",
        "\\.",
        "\n\\x",
        "é",
        "[",
        "CREATE TABLE ",
    ];
    for _ in 0..400 {
        let seed = seeds[random(2)];
        let start = random(seed.len());
        let mut text: String = seed.chars().skip(start).take(3_000).collect();
        for _ in 0..=random(6) {
            let at = text
                .char_indices()
                .nth(random(text.chars().count().max(1)))
                .map_or(0, |(at, _)| at);
            match random(3) {
                0 => text.insert_str(at, SPICE[random(SPICE.len())]),
                1 => text.truncate(at),
                _ => {
                    text.pop();
                    text.insert_str(at, "\u{0}int ");
                }
            }
        }
        let (_, diagnostics) = read(&text);
        assert!(
            diagnostics
                .iter()
                .all(|d| d.line > 0 || d.message.ends_with("not shown"))
        );
    }
}
