//! Arithmetic at the ends of `bigint`: a verdict is right, or it is unknown with a reason; it is never wrong.

use serde_json::json;

use crate::place::Place;

const MAX: i64 = i64::MAX;
const MIN: i64 = i64::MIN;

/// One table `t (id, g, x, d)`; rules by their YAML.
fn place(rows: &[(i64, &str, i64)], rules: &str) -> Place {
    let rows: String = rows
        .iter()
        .map(|(id, group, x)| format!("{id},{group},{x},{x}\n"))
        .collect();
    Place::new()
        .with(
            "d/schema.sql",
            "create table t (id bigint primary key, g text, x bigint, d numeric(38,0));\n\
             create table copy (id bigint primary key, g text, x bigint, d numeric(38,0));",
        )
        .with("d/snapshot/t.csv", format!("id,g,x,d\n{rows}"))
        .with("d/snapshot/copy.csv", format!("id,g,x,d\n1,a,{MIN},0\n"))
        .with("d/rules/r.yaml", format!("table: t\nrules:\n{rules}"))
}

/// The verdict of a rule, and why.
#[track_caller]
fn verdict(place: &Place, id: &str) -> (String, String) {
    let rule = place.check(&["d"]).rule(id);
    let text = |name: &str| rule[name].as_str().unwrap_or_default().to_owned();
    (text("verdict"), text("reason"))
}

#[track_caller]
fn unknown(place: &Place, id: &str, reason: &str) {
    let (verdict, found) = verdict(place, id);
    assert_eq!(verdict, "unknown", "{id}: {found}");
    assert!(found.contains(reason), "{id}: {found}");
}

#[test]
fn a_sum_that_leaves_bigint_is_unknown() {
    let rules = "
  - {id: plain, aggregate: {sql: sum(x), min: 0}}
  - {id: groups, aggregate: {sql: sum(x), min: 0, per: [g]}}
  - {id: filtered, aggregate: {sql: sum(x) filter (where id < 3), min: 0}}
  - {id: distinct, aggregate: {sql: sum(distinct x), min: 0}}
  - {id: distinct-groups, aggregate: {sql: sum(distinct x), min: 0, per: [g]}}
  - {id: running, sql: 'select id from (select id, sum(x) over (order by id) as s from t) as q where s < 0'}
  - {id: sliding, sql: 'select id from (select id, sum(x) over (order by id rows between 1 preceding and current row) as s from t) as q where s < 0'}
";
    let place = place(&[(1, "a", MAX), (2, "a", 1), (3, "b", 5)], rules);
    let ids = [
        "plain",
        "groups",
        "filtered",
        "distinct",
        "distinct-groups",
        "running",
        "sliding",
    ];
    for id in ids {
        unknown(&place, id, "a sum of integers does not fit a bigint");
    }
    place.check(&["d"]).exits(4);
}

#[test]
fn a_sum_may_leave_bigint_on_the_way() {
    let rules = format!(
        "
  - {{id: plain, aggregate: {{sql: sum(x), equals: {MAX}}}}}
  - {{id: groups, aggregate: {{sql: sum(x), equals: {MAX}, per: [g]}}}}
  - {{id: distinct, aggregate: {{sql: sum(distinct x), equals: {MAX}}}}}
  - {{id: filtered, aggregate: {{sql: sum(x) filter (where id > 1), equals: 0}}}}
  - {{id: sliding, sql: 'select id, s from (select id, sum(x) over (order by id rows between 1 preceding and current row) as s from t where id <> 2) as q where s <> {MAX}'}}
  - {{id: sliding-distinct, sql: 'select id, s from (select id, sum(distinct x) over (order by id rows between 1 preceding and current row) as s from t where id <> 2) as q where s <> {MAX}'}}
  - {{id: nothing, aggregate: {{sql: sum(x) filter (where id > 9), equals: 7}}}}
"
    );
    let rows = [
        (1, "a", MAX),
        (2, "a", MAX - 1),
        (3, "a", 0),
        (4, "a", -(MAX - 1)),
    ];
    let place = place(&rows, &rules);
    for id in ["plain", "groups", "distinct", "filtered", "nothing"] {
        assert_eq!(
            verdict(&place, id),
            ("held".into(), String::new()),
            "the rule `{id}`"
        );
    }
    // The windows hold {1}, {1, 3}, {3, 4}: only the last sum differs, after the first number has left.
    let ran = place.check(&["d"]);
    for id in ["sliding", "sliding-distinct"] {
        let sample = ran.rule(id)["sample"].clone();
        let expected = json!([{"key": {"id": 4}, "evidence": {"s": (1 - MAX).to_string()}}]);
        assert_eq!(sample, expected, "{id}");
    }
}

#[test]
fn balances_at_the_ends_of_bigint_are_right_or_unknown() {
    let rules = "
  - {id: exact, balance: {left: x, right: sum(copy.x), match: {id: id}}}
  - {id: near, balance: {left: x, right: sum(copy.x), match: {id: id}, tolerance: 1}}
  - {id: per-group, balance: {left: sum(x), right: sum(copy.x), per: [g]}}
  - {id: copied, same_rows: {as: copy, match: {id: id}, columns: [x]}}
  - {id: nearly-copied, same_rows: {as: copy, match: {id: id}, columns: [x], tolerance: 1}}
";
    let place = place(&[(1, "a", MAX)], rules);
    for id in ["exact", "per-group", "copied"] {
        assert_eq!(verdict(&place, id).0, "violated", "{id}");
    }
    // The difference is 2^64 - 1, which no bigint holds.
    for id in ["near", "nearly-copied"] {
        unknown(&place, id, "verflow");
    }
}

#[test]
fn the_smallest_integer_has_no_opposite() {
    let rules = "
  - {id: minus, expression: -x >= 0}
  - {id: minus-inside, expression: 'case when id = 1 then -x else 0 end >= 0'}
  - {id: absolute, expression: abs(x) >= 0}
  - {id: grouped, sql: 'select -x as y, count(*) from t group by -x having count(*) > 1'}
  - {id: fine, expression: -id < 0}
  - {id: decimals, expression: -d > 0 and abs(d) > 0}
";
    let place = place(&[(1, "a", MIN)], rules);
    for id in ["minus", "minus-inside", "absolute", "grouped"] {
        unknown(&place, id, "verflow");
    }
    for id in ["fine", "decimals"] {
        assert_eq!(verdict(&place, id).0, "held", "{id}");
    }
}

#[test]
fn averages_of_integers_are_decimals() {
    let rules = format!(
        "
  - {{id: large, aggregate: {{sql: avg(x), equals: {}}}}}
  - {{id: half, aggregate: {{sql: avg(id), equals: 1.5}}}}
  - {{id: third, aggregate: {{sql: avg(id + id - 1) / 3, min: 0.6666666666, max: 0.6666666667}}}}
  - {{id: distinct, aggregate: {{sql: avg(distinct id), equals: 1.5, per: [g]}}}}
  - {{id: nothing, aggregate: {{sql: avg(x) filter (where id > 9), equals: 7}}}}
  - {{id: sliding, sql: 'select id from (select id, avg(x) over (order by id rows between 1 preceding and current row) as s from t) as q where s < {}'}}
",
        MAX - 1,
        MAX - 1,
    );
    let place = place(&[(1, "a", MAX), (2, "a", MAX - 2)], &rules);
    for id in ["large", "half", "third", "distinct", "nothing", "sliding"] {
        assert_eq!(
            verdict(&place, id),
            ("held".into(), String::new()),
            "the rule `{id}`"
        );
    }
}

#[test]
fn a_sum_of_decimals_that_leaves_its_digits_is_unknown() {
    let wide = "9".repeat(38);
    let place = Place::new()
        .with("d/schema.sql", "create table t (id bigint primary key, d numeric(38,0));")
        .with("d/snapshot/t.csv", format!("id,d\n1,{wide}\n2,{wide}\n3,{wide}\n"))
        .with(
            "d/rules/r.yaml",
            "table: t\nrules:\n  - {id: wide, aggregate: {sql: sum(d), min: 0}}\n  - {id: few, where: id = 1, aggregate: {sql: sum(d), min: 0}}\n",
        );
    unknown(&place, "wide", "a sum of decimals has too many digits");
    assert_eq!(verdict(&place, "few").0, "held");
}
