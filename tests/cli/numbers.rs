//! Numbers that no decimal of 38 digits holds: they are read, recorded, shown and judged as what they are.

use crate::place::Place;

const SCHEMA: &str =
    "create table orders (id integer primary key, total numeric(12,2), wei numeric(78,0));";

const CHANGES: &str = r#"{"commit":1,"time":"2026-03-12T10:00:00Z","changes":[{"table":"orders","op":"insert","after":{"id":1,"total":"1.50","wei":"7"}},{"table":"orders","op":"insert","after":{"id":2,"total":"20.00","wei":"115792089237316195423570985008687907853269984665640564039457584007913129639934"}}]}
{"commit":2,"time":"2026-03-12T10:01:00Z","changes":[{"table":"orders","op":"update","key":{"id":1},"after":{"total":"2.50"}}]}
{"commit":3,"time":"2026-03-12T10:02:00Z","changes":[{"table":"orders","op":"update","key":{"id":1},"after":{"total":"NaN"}}]}
{"commit":4,"time":"2026-03-12T10:03:00Z","changes":[{"table":"orders","op":"update","key":{"id":2},"after":{"wei":"115792089237316195423570985008687907853269984665640564039457584007913129639935"}}]}
{"commit":5,"time":"2026-03-12T10:04:00Z","changes":[{"table":"orders","op":"update","key":{"id":1},"after":{"total":"3.00"}}]}
"#;

const RULES: &str = "rules:
  - {id: not-a-number, table: orders, expression: \"total <> 'NaN'\"}
  - {id: sum, table: orders, aggregate: {sql: sum(total), max: 1000}}
  - {id: full, table: orders, expression: \"wei < 115792089237316195423570985008687907853269984665640564039457584007913129639935\"}
  - {id: keyed, table: orders, key: [id, total], no_delete: true}
";

fn place() -> Place {
    Place::new()
        .with("history/schema.sql", SCHEMA)
        .with("history/changes/0001.ndjson", CHANGES)
        .with("rules.yaml", RULES)
}

#[test]
fn the_write_that_made_a_number_none_is_named_in_files_and_in_a_store() {
    let place = place();
    place
        .run(&["record", "history", "--store", "store"])
        .exits(0);
    place.run(&["verify", "store"]).exits(0);
    for source in ["history", "store"] {
        let ran = place.run(&[
            "bisect",
            source,
            "--at",
            "#4",
            "--rules",
            "rules.yaml",
            "--format",
            "json",
        ]);
        let found = ran.exits(1).json();
        let of = |id: &str| {
            let rules = found["rules"].as_array().expect("rules");
            let rule = rules
                .iter()
                .find(|rule| rule["id"] == id)
                .expect("the rule");
            (
                rule["first_bad"]["commit"].clone(),
                rule["certainty"].clone(),
            )
        };
        let exact = |commit: u64| (commit.into(), "exact".into());
        assert_eq!(of("not-a-number"), exact(3), "{source}");
        assert_eq!(of("sum"), exact(3), "{source}");
        assert_eq!(of("full"), exact(4), "{source}");
        let asked = [
            "--format",
            "csv",
            source,
            "select id, total, wei from orders order by id",
        ];
        let rows = place
            .run(&[&["sql", "--at", "#3"], &asked[..]].concat())
            .exits(0);
        assert_eq!(
            rows.out,
            "id,total,wei\n1,NaN,7\n2,20.00,115792089237316195423570985008687907853269984665640564039457584007913129639934\n"
        );
    }
    let same = ["diff", "history", "store", "--exit-code"];
    place.run(&same).exits(0);
}

#[test]
fn a_snapshot_holds_them() {
    let place = place();
    for (at, sum, most) in [("#2", "22.50", "4"), ("#4", "NaN", "5")] {
        let store = format!("store{at}");
        place
            .run(&["snapshot", "history", "--at", at, "--store", &store])
            .exits(0);
        let asked = "select sum(total), max(wei) from orders";
        let ran = place.run(&["sql", "--format", "csv", &store, asked]);
        let most = format!(
            "11579208923731619542357098500868790785326998466564056403945758400791312963993{most}"
        );
        assert_eq!(
            ran.exits(0).out.lines().nth(1),
            Some(&*format!("{sum},{most}")),
            "{at}"
        );
    }
}
