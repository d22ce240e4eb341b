//! `firstbad diff` (CONTRACT sections 1 and 4; docs/sql.md).

use serde_json::{Value, json};

use crate::place::{Place, Ran};
use crate::sql::{history, partial};

/// `firstbad diff ARGUMENTS --format json`.
#[track_caller]
fn diff(place: &Place, arguments: &[&str]) -> Value {
    let ran = place.run(&[&["diff", "--format", "json"], arguments].concat());
    ran.exits(0).json()
}

/// A table of the document.
#[track_caller]
fn table(document: &Value, name: &str) -> Value {
    let tables = document["tables"].as_array().expect("tables");
    let found = tables.iter().find(|table| table["table"] == name);
    found
        .unwrap_or_else(|| panic!("no {name} in {document:#}"))
        .clone()
}

/// Added, removed, changed and not known rows of a table.
#[track_caller]
fn counts(document: &Value, name: &str) -> [u64; 4] {
    let table = table(document, name);
    ["added", "removed", "changed", "unknown"].map(|key| table[key].as_u64().expect("a count"))
}

/// The text without the lines that name the sides.
fn body(ran: Ran) -> String {
    let (_, body) = ran.out.split_once("\n\n").expect("a head");
    body.to_owned()
}

#[test]
fn the_document_has_the_contracts_keys() {
    let place = history();
    let found = diff(&place, &["d", "#0", "latest"]);
    assert_eq!(found["schema"], "firstbad/diff@1");
    assert_eq!(
        found["a"],
        json!({"source": "d", "at": {"commit": 0, "lsn": null, "xid": null, "time": null}})
    );
    assert_eq!(found["b"]["at"]["commit"], 3);
    assert_eq!(
        found["summary"],
        json!({"tables": 5, "differ": 5, "unknown": 0, "fingerprint": null})
    );
    let orders = table(&found, "public.orders");
    assert_eq!(orders["key"], json!(["id"]));
    assert_eq!(
        orders["rows"][0],
        json!({"key": {"id": 1}, "change": "changed", "a": {"status": "placed", "total": "10.00"},
               "b": {"status": "paid", "total": "10.50"}}),
        "only what differs"
    );
    let (gone, come) = (&orders["rows"][1], &orders["rows"][2]);
    assert_eq!(
        (&gone["key"], &gone["change"], &gone["b"]),
        (&json!({"id": 3}), &json!("removed"), &Value::Null)
    );
    assert_eq!(
        (&come["key"], &come["change"], &come["a"]),
        (&json!({"id": 4}), &json!("added"), &Value::Null),
        "another key is another row"
    );
    assert_eq!(gone["a"]["f"], "NaN");
    assert_eq!(gone["a"]["at"], "1970-01-01T00:00:00Z");
    assert_eq!(come["b"]["raw"], "\\x");
    assert_eq!(counts(&found, "public.stock"), [0, 3, 0, 0], "a truncate");
    assert_eq!(counts(&found, "sales.invoices"), [1, 0, 0, 0]);
    assert_eq!(counts(&found, "public.log"), [1, 1, 0, 0]);
    let lines = place
        .run(&["diff", "d", "#0", "latest", "--format", "jsonl"])
        .exits(0)
        .out;
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("a row is JSON"))
        .collect();
    assert_eq!(lines.len(), 10);
    assert_eq!(lines[0]["table"], "public.orders");
    assert_eq!(lines[0]["b"], orders["rows"][0]["b"]);
}

#[test]
fn text_shows_what_became_of_which_row() {
    let place = history();
    let ran = place.run(&["diff", "d", "#0", "#2"]).exits(0);
    assert_eq!(
        ran.out.lines().take(2).collect::<Vec<_>>(),
        ["a  d at #0", "b  d at #2, 2026-03-12 10:20:00Z"]
    );
    assert_eq!(
        body(ran),
        "  table           added  removed  changed
  orders              1        1        1
  stock               0        0        1
  log                 1        0        0  no key: whole rows
  sales.invoices      1        0        0

orders
  ~ id = 1: status placed → paid, total 10.00 → 10.50
  - id = 3: status = a,\"b\"\\nc, total = 0.10, wide = 0.100000000, at = 1970-01-01T00:00:00Z,
      local = 0001-01-01T00:00:00, day = 9999-12-31, clock = 24:00:00, raw = \\x, u = NULL, f = NaN,
      r = Infinity, tags = [], nums = NULL, doc = null, m = bad, flag = false, small = -1
  + id = 4: status = a,\"b\"\\nc, total = 0.10, wide = 0.100000000, at = 1970-01-01T00:00:00Z,
      local = 0001-01-01T00:00:00, day = 9999-12-31, clock = 24:00:00, raw = \\x, u = NULL, f = NaN,
      r = Infinity, tags = [], nums = NULL, doc = null, m = bad, flag = false, small = -1

stock
  ~ sku = A, warehouse = W1: on_hand 5 → 4

log
  + a = 1, b = x

sales.invoices
  + id = 2: total = 7.25

4 of 5 tables differ
"
    );
    let ran = place
        .run(&["diff", "d", "#0", "latest", "--table", "later"])
        .exits(0);
    assert!(ran.out.contains("+ id = 1: note = \\u{1b}[31mred\\u{202e}"));
    assert!(!ran.out.contains('\u{1b}'));
    let ran = place
        .run(&["diff", "d", "#0", "latest", "--format", "json"])
        .exits(0);
    assert!(!ran.out.contains(['\u{1b}', '\u{202e}']));
}

#[test]
fn long_values_are_shown_where_they_differ() {
    let common = "x".repeat(200);
    let place = Place::new()
        .with(
            "a/schema.sql",
            "create table t (id int primary key, s text, n int);",
        )
        .with(
            "b/schema.sql",
            "create table t (id int primary key, s text, n int);",
        )
        .with("a/t.csv", format!("id,s,n\n1,{common}old,1\n"))
        .with("b/t.csv", format!("id,s,n\n1,{common}new,2\n"));
    let ran = place.run(&["diff", "a", "b"]).exits(0);
    ran.says(&["~ id = 1: s …xxxxxxxxold → …xxxxxxxxnew, n 1 → 2"]);
    let ran = place.run_with(&["diff", "a", "b"], &[("COLUMNS", "48")]);
    let out = ran.exits(0).out;
    assert!(
        out.contains("  ~ id = 1:\n      s …xxxxxxxxold → …xxxxxxxxnew\n      n 1 → 2\n"),
        "{out}"
    );
}

#[test]
fn positions_have_every_form() {
    let place = history();
    let stock = |a: &str, b: &str, more: &[&str]| {
        let found = diff(&place, &[&["d", a, b, "--table", "stock"], more].concat());
        counts(&found, "public.stock")
    };
    assert_eq!(stock("#0", "#1", &[]), [0, 0, 1, 0]);
    assert_eq!(stock("#1", "#0", &[]), [0, 0, 1, 0], "backwards");
    assert_eq!(stock("latest", "#0", &[]), [3, 0, 0, 0]);
    assert_eq!(stock("0/10", "0/2F", &[]), [0, 0, 0, 0]);
    assert_eq!(stock("-20m", "-0s", &[]), [0, 3, 0, 0]);
    assert_eq!(
        stock("2026-03-12T10:00:00Z", "2026-03-12 11:10:00+01", &[]),
        [0, 0, 1, 0]
    );
    assert_eq!(
        stock("-1h", "-10m", &["--now", "2026-03-12T10:22:00Z"]),
        [0, 0, 1, 0]
    );
    assert_eq!(stock("#2", "#2", &[]), [0, 0, 0, 0]);
    let dated = Place::new()
        .with(
            "d/schema.sql",
            "create table t (id int primary key, a text);",
        )
        .with("d/snapshots/2026-03-11/t.csv", "id,a\n1,x\n")
        .with("d/snapshots/2026-03-12/t.csv", "id,a\n1,y\n2,z\n");
    let ran = dated
        .run(&["diff", "d", "2026-03-11", "2026-03-12"])
        .exits(0);
    ran.says(&[
        "a  d at #0, snapshot 2026-03-11\n",
        "b  d at #1, snapshot 2026-03-12\n",
        "~ id = 1: a x → y",
    ]);
    dated
        .run(&["diff", "d", "2026-03-11", "2026-03-13"])
        .refused(&["B: `2026-03-13` is no position", "2026-03-11, 2026-03-12"]);
    dated.run(&["diff", "d", "2026-03-11"]).refused(&[
        "no source `2026-03-11`",
        "firstbad diff d 2026-03-11 latest",
    ]);
}

#[test]
fn exit_code_says_whether_anything_differs() {
    let place = history();
    let code = |arguments: &[&str], code: i32| {
        place.run(&[&["diff"], arguments].concat()).exits(code);
    };
    code(&["d", "#0", "#1"], 0);
    code(&["d", "#0", "#1", "--exit-code"], 1);
    code(&["d", "#0", "#1", "--exit-code", "--table", "log"], 0);
    code(
        &[
            "d",
            "#0",
            "#1",
            "--exit-code",
            "--sample",
            "0",
            "--format",
            "jsonl",
        ],
        1,
    );
    code(&["d", "d", "--exit-code"], 0);
    let place = partial();
    let differ = ["diff", "d", "#0", "#1", "--exit-code", "--table"];
    place.run(&[&differ[..], &["log"]].concat()).exits(1);
    // Whether the status was another is not known.
    place.run(&[&differ[..], &["orders"]].concat()).exits(4);
    place
        .run(&["diff", "d", "#0", "#1", "--table", "orders"])
        .exits(0);
}

#[test]
fn what_does_not_fit_is_refused() {
    let place = history().with("a/t.csv", "id\n1\n");
    let wrong: [(&[&str], &str); 16] = [
        (
            &["d", "#0", "#9"],
            "B: there is no commit #9: the history ends at #3",
        ),
        (&["d", "nope", "#0"], "A: `nope` is no position"),
        (&["d", "#0", ""], "B: `` is no position"),
        (&["d", "#1"], "firstbad diff d '#1' latest"),
        (&["d", "-10m"], "firstbad diff d -10m latest"),
        (&["d", "0/10"], "firstbad diff d 0/10 latest"),
        (&["d", "nope"], "there is no `nope`"),
        (&["nope", "#0", "#1"], "there is no `nope`"),
        (&["d"], "<A>"),
        (&["a", "#0", "#0"], "holds one state"),
        (
            &["d", "#0", "#1", "--table", "ordrs"],
            "did you mean `orders`?",
        ),
        (
            &["d", "#0", "#1", "--table", "invoices"],
            "no table `invoices`",
        ),
        (
            &["d", "#0", "#1", "--key", "sku"],
            "`orders` has not all columns of --key",
        ),
        (
            &["d", "#0", "#1", "--key", "", "--table", "stock"],
            "`stock` has not all columns of --key",
        ),
        (&["d", "#0", "#1", "--format", "csv"], "text, json, jsonl"),
        (&["d", "#0", "#1", "--sample", "few"], "not a number"),
    ];
    for (arguments, message) in wrong {
        place
            .run(&[&["diff"], arguments].concat())
            .refused(&[message]);
    }
    let ran = place.run(&["diff", "d", "#0", "#2", "--table", "sales.invoices"]);
    ran.exits(0)
        .says(&["+ id = 2: total = 7.25", "1 of 1 table differs"]);
}

#[test]
fn two_sources_are_compared_table_by_table() {
    let place = Place::new()
        .with("a/schema.sql", "create table t (id int primary key, n int, old text); create table gone (id int primary key);")
        .with("a/t.csv", "id,n,old\n1,1,x\n2,2,x\n3,,x\n")
        .with("a/gone.csv", "id\n7\n8\n")
        .with("b/schema.sql", "create table t (new text, n numeric(5,2), id bigint primary key); create table come (id int primary key);")
        .with("b/t.csv", "new,n,id\ny,1.00,1\ny,2.50,2\ny,,3\ny,4,4\n")
        .with("b/come.csv", "id\n9\n");
    let found = diff(&place, &["a", "b"]);
    assert_eq!(
        found["a"],
        json!({"source": "a", "at": {"commit": null, "lsn": null, "xid": null, "time": null}})
    );
    let t = table(&found, "public.t");
    assert_eq!(t["columns_only"], json!({"a": ["old"], "b": ["new"]}));
    assert_eq!(
        t["rows"],
        json!([
            {"key": {"id": 2}, "change": "changed", "a": {"n": 2}, "b": {"n": "2.50"}},
            {"key": {"id": 4}, "change": "added", "a": null, "b": {"id": 4, "n": "4.00"}},
        ]),
        "numbers by value, NULL as a value"
    );
    assert_eq!(counts(&found, "public.gone"), [0, 2, 0, 0]);
    assert_eq!(counts(&found, "public.come"), [1, 0, 0, 0]);
    assert_eq!(
        [
            &table(&found, "public.gone")["only"],
            &table(&found, "public.come")["only"],
            &t["only"]
        ],
        [&json!("a"), &json!("b"), &Value::Null]
    );
    let ran = place.run(&["diff", "a", "b"]).exits(0);
    ran.says(&[
        "only in a: old; only in b: new\n",
        "  gone       0        2        0  only in a\n",
        "3 of 3 tables differ\n",
    ]);
    let place = history();
    let moved = place.run(&[
        "sql",
        "d",
        "select * from \"#1\".stock",
        "--format",
        "csv",
        "-o",
        "stock.csv",
    ]);
    moved.exits(0);
    let found = diff(
        &place,
        &[
            "d",
            "stock.csv",
            "--key",
            "sku,warehouse",
            "--table",
            "stock",
        ],
    );
    assert_eq!(counts(&found, "public.stock"), [3, 0, 0, 0]);
}

#[test]
fn two_files_are_compared_whatever_their_names_are() {
    let place = Place::new()
        .with("before.csv", "id,n\n1,a\n2,b\n")
        .with("after.csv", "id,n\n1,a\n2,c\n")
        .with("d/before.csv", "id,n\n1,a\n");
    let ran = place
        .run(&["diff", "before.csv", "after.csv", "--key", "id"])
        .exits(0);
    assert_eq!(
        body(ran),
        "  table   added  removed  changed\n  before      0        0        1\n\nbefore\n  ~ id = 2: n b → c\n\n1 of 1 table differs\n"
    );
    let found = diff(&place, &["before.csv", "d"]);
    assert_eq!(counts(&found, "public.before"), [0, 1, 0, 0]);
    let found = diff(&place, &["after.csv", "d"]);
    assert_eq!(
        counts(&found, "public.before"),
        [1, 0, 0, 0],
        "a directory's tables have names"
    );
    assert_eq!(counts(&found, "public.after"), [0, 2, 0, 0]);
}

#[test]
fn types_that_have_only_text_in_common_are_compared_as_text() {
    let place = Place::new()
        .with(
            "a/schema.sql",
            "create table t (id int primary key, v text, d date);",
        )
        .with("a/t.csv", "id,v,d\n1,7,2026-03-12\n2,7.0,2026-03-12\n")
        .with(
            "b/schema.sql",
            "create table t (id int primary key, v int, d timestamp);",
        )
        .with(
            "b/t.csv",
            "id,v,d\n1,7,2026-03-12 00:00:00\n2,7,2026-03-12 00:00:00\n",
        );
    let ran = place.run(&["diff", "a", "b", "--format", "json"]).exits(0);
    let ran = ran.warns(&[
        "column `v` of table t is text in one source and integer in the other",
        "column `d` of table t is date",
    ]);
    assert_eq!(counts(&ran.json(), "public.t"), [0, 0, 2, 0]);
}

#[test]
fn rows_without_a_key_are_a_multiset() {
    let place = Place::new()
        .with("a/schema.sql", "create table t (a int, b text);")
        .with("b/schema.sql", "create table t (a int, b text);")
        .with("a/t.csv", "a,b\n1,x\n1,x\n1,x\n2,\n2,\"\"\n3,y\n")
        .with("b/t.csv", "a,b\n2,\"\"\n1,x\n3,z\n2,\n2,\n");
    let found = diff(&place, &["a", "b"]);
    assert_eq!(counts(&found, "public.t"), [2, 3, 0, 0]);
    let ran = place.run(&["diff", "a", "b"]).exits(0);
    assert_eq!(
        body(ran),
        "  table  added  removed  changed\n  t          2        3        0  no key: whole rows\n\nt
  - a = 1, b = x
  - a = 1, b = x
  + a = 2, b = NULL
  - a = 3, b = y
  + a = 3, b = z

1 of 1 table differs\n"
    );
}

/// Looked for one behind another, so many would take minutes.
#[test]
fn very_many_equal_rows_cost_no_more_than_others() {
    let rows = |first: usize, second: usize| {
        format!("a,b\n{}{}", "1,x\n".repeat(first), "2,\n".repeat(second))
    };
    let place = Place::new()
        .with("d/schema.sql", "create table t (a int, b text);")
        .with("d/snapshots/1/t.csv", rows(150_000, 1))
        .with("d/snapshots/2/t.csv", rows(150_001, 0))
        .with("d/snapshots/3/t.csv", rows(3, 100_000))
        .with("d/snapshots/4/t.csv", rows(0, 0));
    let changed = |a: &str, b: &str| {
        let ran = place.run(&["diff", "d", a, b, "--format", "json", "--sample", "1"]);
        let [added, removed, ..] = counts(&ran.exits(0).json(), "public.t");
        (added, removed)
    };
    assert_eq!(changed("#0", "#1"), (1, 1));
    assert_eq!(changed("#1", "#2"), (100_000, 149_998));
    assert_eq!(changed("#2", "#3"), (0, 100_003));
    assert_eq!(changed("#0", "#2"), (99_999, 149_997));
    let query = "select commit, op, count(*) from writes.t group by 1, 2 order by 1, 2";
    let ran = place.run(&["sql", "d", query, "--format", "csv"]).exits(0);
    assert_eq!(
        ran.out.lines().skip(1).collect::<Vec<_>>(),
        [
            "1,delete,1",
            "1,insert,1",
            "2,delete,149998",
            "2,insert,100000",
            "3,delete,100003"
        ]
    );
}

#[test]
fn rows_of_one_key_are_paired_equal_ones_first() {
    let schema = "create table t (k text, n int, s text);";
    let place = Place::new()
        .with("a/schema.sql", schema)
        .with("b/schema.sql", schema)
        .with("a/t.csv", "k,n,s\nA,1,x\nA,2,x\nA,3,x\n,1,x\n")
        .with("b/t.csv", "k,n,s\nA,3,x\nA,9,x\nB,1,x\n,2,x\n");
    let keyed = ["diff", "a", "b", "--key", "k,k"];
    let ran = place.run(&keyed).exits(0);
    assert_eq!(
        body(ran),
        "  table  added  removed  changed\n  t          1        1        2\n\nt
  ~ k = A: n 1 → 9
  - k = A: n = 2, s = x
  + k = B: n = 1, s = x
  ~ k = NULL: n 1 → 2

1 of 1 table differs\n"
    );
    let place = history();
    let ran = place
        .run(&["diff", "d", "#0", "#3", "--table", "stock", "--key", "sku"])
        .exits(0);
    ran.says(&[
        "  - sku = A: warehouse = W1, on_hand = 5\n  - sku = A: warehouse = W2, on_hand = 6\n",
    ]);
}

#[test]
fn what_is_not_known_is_neither_the_same_nor_another() {
    let place = partial();
    let found = diff(&place, &["d", "#0", "#1"]);
    assert_eq!(counts(&found, "public.orders"), [0, 0, 0, 1]);
    assert_eq!(
        counts(&found, "public.stock"),
        [0, 0, 0, 0],
        "an update that names nothing changes nothing"
    );
    assert_eq!(found["summary"]["unknown"], 1);
    // The second update names the status as it was, and leaves alone what is not known.
    let found = diff(&place, &["d", "#1", "#2", "--table", "orders"]);
    assert_eq!(counts(&found, "public.orders"), [1, 0, 0, 0]);
    let found = diff(&place, &["d", "#2", "#1", "--table", "orders"]);
    assert_eq!(counts(&found, "public.orders"), [0, 1, 0, 0]);
    let row = &table(&found, "public.orders")["rows"][0];
    assert_eq!(row["a"], json!({"id": 2, "status": "x"}));
    assert_eq!(row["not_known"].as_array().map(Vec::len), Some(16));
    let ran = place.run(&["diff", "d", "#0", "#1"]).exits(0);
    assert_eq!(
        body(ran),
        "  table   added  removed  changed  not known
  orders      0        0        0          1
  log         1        1        0          0  no key: whole rows

log
  - a = 1: not known: b
  + a = 2: not known: b

1 of 5 tables differs; 1 row could not be compared: not all values are known
"
    );
    let rows = table(&diff(&place, &["d", "#0", "#1"]), "public.log")["rows"].clone();
    assert_eq!(
        rows[0],
        json!({"key": {"a": 1}, "change": "removed", "a": {"a": 1}, "b": null, "not_known": ["b"]})
    );
    // A history is compared with what it became.
    let place = place.with(
        "s/schema.sql",
        "create table orders (id bigint primary key, status text, total numeric(12,2));",
    );
    place.write("s/orders.csv", "id,status,total\n9,y,1.00\n");
    let found = diff(&place, &["d", "s", "--table", "orders"]);
    assert_eq!(
        table(&found, "public.orders")["rows"],
        json!([{"key": {"id": 9}, "change": "changed", "a": {"status": "x"}, "b": {"status": "y"}, "not_known": ["total"]}])
    );
    place
        .run(&["diff", "d", "s", "--table", "orders"])
        .exits(0)
        .says(&["~ id = 9: status x → y, not known: total\n"]);
}

#[test]
fn sample_bounds_what_is_listed_and_not_what_is_counted() {
    let schema = "create table t (id int primary key, n int);";
    let rows = |n: u32| (0..40).fold("id,n\n".to_owned(), |text, id| format!("{text}{id},{n}\n"));
    let place = Place::new()
        .with("a/schema.sql", schema)
        .with("b/schema.sql", schema)
        .with("a/t.csv", rows(1))
        .with("b/t.csv", rows(2));
    let listed = |arguments: &[&str], mark: &str| {
        let ran = place
            .run(&[&["diff", "a", "b"], arguments].concat())
            .exits(0);
        ran.out.matches(mark).count()
    };
    assert_eq!(listed(&[], "~ id"), 10);
    assert_eq!(listed(&["--sample", "3"], "~ id"), 3);
    assert_eq!(listed(&["--sample", "3"], "… and 37 more: --sample all"), 1);
    assert_eq!(listed(&["--sample", "all"], "~ id"), 40);
    assert_eq!(listed(&["--sample", "0"], "~ id"), 0);
    assert_eq!(listed(&["--sample", "0"], "       40"), 1);
    assert_eq!(listed(&["--format", "json"], "changed\","), 40);
    assert_eq!(
        listed(&["--format", "json", "--sample", "3"], "\"change\":"),
        3
    );
    assert_eq!(listed(&["--format", "jsonl", "--sample", "3"], "\n"), 3);
}

#[test]
fn a_file_comes_to_be_whole_or_not_at_all() {
    let place = history();
    place
        .run(&["diff", "d", "#0", "#1", "-o", "x.txt"])
        .exits(0);
    assert!(place.read("x.txt").ends_with("2 of 5 tables differ\n"));
    for unwritable in ["nowhere/x", "d", "x.txt/y", "/dev/full"] {
        for format in ["text", "json", "jsonl"] {
            place
                .run(&[
                    "diff", "d", "#0", "#1", "--format", format, "-o", unwritable,
                ])
                .exits(3)
                .warns(&["cannot write"]);
        }
    }
    assert!(place.read("x.txt").ends_with("2 of 5 tables differ\n"));
    let names = std::fs::read_dir(place.path(".")).expect("a directory");
    assert_eq!(names.count(), 2, "nothing is left over");
}
