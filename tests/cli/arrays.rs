//! Arrays of several dimensions have the same type as plain ones in Postgres, and another in the engine.

use crate::place::Place;

fn place(second: &str) -> Place {
    Place::new()
        .with(
            "d/schema.sql",
            "create table t (id integer primary key, n integer[]);",
        )
        .with(
            "d/t.csv",
            format!("id,n\n1,\"{{1,NULL}}\"\n2,\"{second}\"\n"),
        )
        .with(
            "d/rules/r.yaml",
            "rules:\n  - {id: reads-n, key: [id], sql: 'select id from t where n[1] is null'}\n\
             \x20 - {id: reads-id, table: t, range: {column: id, min: 1}}\n",
        )
}

#[test]
fn a_rule_that_reads_an_array_in_an_array_is_unknown() {
    let plain = place("{3}").check(&["d"]).exits(0);
    assert_eq!(plain.rule("reads-n")["verdict"], "held");
    let nested = place("{{1,2},{3,4}}");
    let ran = nested.check(&["d"]).exits(4);
    assert_eq!(ran.rule("reads-n")["verdict"], "unknown");
    assert_eq!(ran.rule("reads-id")["verdict"], "held");
    nested.run(&["sql", "d", "select n from t"]).exits(4);
    // It is not lost: what is compared is the value itself.
    nested.write(
        "e/schema.sql",
        "create table t (id integer primary key, n integer[]);",
    );
    nested.write("e/t.csv", "id,n\n1,\"{1,NULL}\"\n2,\"{{1,2},{3,5}}\"\n");
    nested
        .run(&["diff", "d", "e", "--exit-code"])
        .exits(1)
        .says(&["[[1,2],[3,4]] → [[1,2],[3,5]]"]);
}
