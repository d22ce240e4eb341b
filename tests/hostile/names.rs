//! Names that collide: with our own, with SQL's, with the file system's.

use crate::Source;

/// Names that the generated SQL or the reports use themselves, or that SQL reserves.
const NAMES: [&str; 44] = [
    "_commit",
    "__impact",
    "_n",
    "_m0",
    "_k0",
    "_j0",
    "_a0",
    "_b0",
    "_to",
    "_child",
    "_part",
    "_left",
    "_right",
    "_l",
    "_r",
    "_here",
    "_there",
    "_row0",
    "_rows",
    "_one",
    "_next",
    "_previous",
    "_start",
    "_window",
    "_until",
    "_us",
    "_latest",
    "_open",
    "_before",
    "_has_left",
    "commit",
    "op",
    "ordinal",
    "key_id",
    "count",
    "rows",
    "found",
    "window",
    "missing_in",
    "left",
    "parts",
    "select",
    "a\"b",
    "A b",
];

/// Checks of a table `t` with the columns `id`, the hostile one and `n`, in which exactly one thing is wrong.
fn checks(column: &str) -> Vec<String> {
    let c = serde_json::Value::from(column).to_string();
    let q = serde_json::Value::from(format!("\"{}\"", column.replace('"', "\"\""))).to_string();
    let e = |sql: &str| {
        serde_json::Value::from(sql.replace('?', &format!("\"{}\"", column.replace('"', "\"\""))))
            .to_string()
    };
    vec![
        format!("not_null: [{c}]"),
        format!("not_null: [{c}]\nkey: [{c}]"),
        format!(
            "not_null: [{c}]\nwhere: {}",
            e("coalesce(?, 0) = 0 and id > 0")
        ),
        format!("not_null: [{c}]\nimpact: {}", e("coalesce(?, 3)")),
        format!("unique: [n]\nkey: [{c}, id]"),
        format!(
            "unique: [{c}, n]\nwhere: {}",
            e("? is not null and n = 1 and id <> 3")
        ),
        format!("range: {{column: {c}, max: 6}}"),
        format!("expression: {}", e("? < 7")),
        format!(
            "references: {{column: {c}, to: {{table: t, columns: [n]}}}}\nwhere: {}",
            e("? = 7")
        ),
        format!(
            "has: {{table: t, match: {{n: {c}}}}}\nwhere: {}",
            e("? = 7")
        ),
        format!(
            "has: {{table: t, match: {{{c}: id}}, min: 1, max: 1, where: {}}}\nwhere: id = 3",
            e("? > 0")
        ),
        format!("sequence: {{column: {c}, from: 4}}\nwhere: {}", e("? < 6")),
        format!(
            "no_overlap: {{from: {c}, to: n, per: [id]}}\nwhere: {}",
            e("? > 100")
        ),
        format!("row_count: {{max: 0, per: [{c}]}}\nwhere: id = 1"),
        format!("aggregate: {{sql: {}, max: 0}}", e("sum(?)")),
        format!("aggregate: {{sql: count(*), max: 0, per: [{c}]}}\nwhere: id = 1"),
        format!(
            "balance: {{left: {q}, right: {}, match: {{id: id}}}}\nwhere: id = 1",
            e("sum(u.?)")
        ),
        format!(
            "balance: {{left: {}, right: {}, per: [id]}}\nwhere: id = 1",
            e("sum(?)"),
            e("count(u.?)")
        ),
        format!(
            "same_rows: {{as: u, match: {{{c}: {c}}}}}\nwhere: {}",
            e("? = 5")
        ),
        format!("same_rows: {{as: u, match: {{id: id}}, columns: [{c}]}}\nwhere: id = 1"),
        format!("completeness: {{column: {c}, min_percent: 99}}"),
        format!(
            "sql: {}\nkey: [{c}]",
            e("select ?, id from t where ? is null")
        ),
        format!(
            "sql: {}\nkey: [{c}]\nimpact: {}",
            e("select ?, id from t where ? is null"),
            e("coalesce(?, 1)")
        ),
    ]
}

#[test]
fn columns_may_have_any_name() {
    let mut wrong = Vec::new();
    for column in NAMES {
        let quoted = format!("\"{}\"", column.replace('"', "\"\""));
        let source = Source::new();
        let table = |name: &str| {
            format!("create table {name}(id bigint primary key, {quoted} bigint, n bigint);\n")
        };
        source.file("schema.sql", table("t") + &table("u"));
        source.file(
            "snapshot/t.csv",
            format!("id,{quoted},n\n1,5,1\n2,7,1\n3,,2\n"),
        );
        source.file("snapshot/u.csv", format!("id,{quoted},n\n1,4,1\n"));
        let checks = checks(column);
        let rules: String = checks
            .iter()
            .enumerate()
            .map(|(at, check)| {
                let body: String = check.lines().map(|line| format!("    {line}\n")).collect();
                format!("  - id: r{at}\n    table: t\n{body}")
            })
            .collect();
        source.file("rules.yaml", format!("rules:\n{rules}"));
        let ran = source.check(&[]);
        if ran.code != Some(1) {
            wrong.push(format!("{column}: exit {:?}\n{}", ran.code, ran.stderr));
            continue;
        }
        for (at, check) in checks.iter().enumerate() {
            let outcome = ran.outcome(&format!("r{at}"));
            if !outcome["reason"].is_null() {
                wrong.push(format!("{column}: {check}: {}", outcome["reason"]));
            }
        }
        for at in [0, 1, 2, 3, 6, 7, 14, 16, 19, 20, 21, 22] {
            if ran.verdict(&format!("r{at}")) != "violated" {
                wrong.push(format!("{column}: {} is not violated", checks[at]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn tables_and_schemas_may_have_any_name() {
    let names = [
        "changes",
        "writes",
        "steps",
        "firstbad",
        "transactions",
        "_to",
        "_child",
        "_part",
        "_c",
        "select",
        "\"Orders Two\"",
        "\"a.b\"",
        "\"q\"\"q\"",
        "changes.orders",
        "firstbad.transactions",
        "writes.orders",
        "pg_catalog.pg_class",
        "information_schema.tables",
    ];
    for name in names {
        let source = Source::new();
        source.file("schema.sql", format!("create table {name}(id bigint primary key, n bigint);\ncreate table harmless(id bigint primary key);"));
        let file = name
            .replace("\"\"", "\u{1}")
            .replace('"', "")
            .replace('\u{1}', "\"");
        if name != "\"a.b\"" {
            source.file(&format!("snapshot/{file}.csv"), "id,n\n1,\n");
        }
        let table = serde_json::Value::from(file.as_str());
        source.file("rules.yaml", format!("rules:\n  - id: hostile\n    table: {table}\n    not_null: [n]\n  - id: harmless\n    table: harmless\n    not_null: [id]\n"));
        let ran = source.check(&[]);
        assert!(
            [Some(1), Some(2)].contains(&ran.code),
            "{name}: {:?}\n{}\n{}",
            ran.code,
            ran.stdout,
            ran.stderr
        );
        if ran.code == Some(1) {
            assert_eq!(ran.outcome("hostile")["violations"], 1, "{name}");
        } else {
            assert!(ran.stderr.contains("error: "), "{name}\n{}", ran.stderr);
        }
    }
}
