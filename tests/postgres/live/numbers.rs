//! What is done with numbers of any size is what the server does.

use crate::place::Place;
use crate::postgres::Cluster;
use crate::rng::Rng;

const SEED: u64 = 20_261_122;

/// Numbers of every kind: among them pairs that differ in the last of many digits.
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "2.50",
    "-2.5",
    "3",
    "0.0625",
    "7",
    "100",
    "99999999999999999999999999999999999999",
    "-99999999999999999999999999999999999999.5",
    "115792089237316195423570985008687907853269984665640564039457584007913129639935",
    "115792089237316195423570985008687907853269984665640564039457584007913129639934",
    "1e-30",
    "-3e-45",
    "12345.6789012345678901234567890123456789012345",
    "1e100",
    "'NaN'",
    "'Infinity'",
    "'-Infinity'",
    "null",
];

/// Questions that both are asked. Zeros at the end of a number are passed over.
const ASKED: &[&str] = &[
    "select id, (a + b) as x from pairs",
    "select id, (a - b) as x from pairs",
    "select id, (a * b) as x from pairs",
    "select id, (a / nullif(b, 0)) as x from pairs",
    "select id, (a % nullif(b, 0)) as x from pairs",
    "select id, (-a) as x from pairs",
    "select id, (abs(a)) as x from pairs",
    "select id, (round(a)) as x from pairs",
    "select id, (round(a, 2)) as x from pairs",
    "select id, (trunc(a, 1)) as x from pairs",
    "select id, (ceil(a)) as x from pairs",
    "select id, (floor(a)) as x from pairs",
    "select id, (coalesce(a, b, 0)) as x from pairs",
    "select id, (nullif(a, b)) as x from pairs",
    "select id, (greatest(a, b, 2)) as x from pairs",
    "select id, (least(a, b, 2)) as x from pairs",
    "select id, (case when a > b then a else 0 end) as x from pairs",
    "select id, (a + qty) as x from pairs",
    "select id, (qty - a) as x from pairs",
    "select id, (a * price) as x from pairs",
    "select id from pairs where a = b",
    "select id from pairs where a <> b",
    "select id from pairs where a < b",
    "select id from pairs where a <= b",
    "select id from pairs where a > 2",
    "select id from pairs where a >= 2.5",
    "select id from pairs where a = 'NaN'",
    "select id from pairs where price = 'NaN' or price < 'Infinity' and a = '-Infinity'",
    "select id from pairs where a is distinct from b",
    "select id from pairs where a is not distinct from b",
    "select id from pairs where a between b and 100",
    "select id from pairs where a not between -1 and 1",
    "select id from pairs where a in (1, 2.5, 'NaN', 100)",
    "select id from pairs where a not in (1, 2.5)",
    "select id from pairs where a in (select b from pairs where id < 50)",
    "select id from pairs where a in (select price from pairs)",
    "select id from pairs where qty in (select a from pairs)",
    "select id from pairs where case a when 1 then true when 'NaN' then true else false end",
    "select id from pairs p where a > (select avg(q.a) from pairs q where q.qty = p.qty and q.a < 'Infinity' and q.a > '-Infinity')",
    "select id from pairs p where exists (select 1 from pairs q where q.a = p.b and q.id <> p.id)",
    "select p.id as id, q.id as x from pairs p join pairs q on p.a = q.b where p.id < 60",
    "select p.id as id, q.id as x from pairs p join pairs q on p.a = q.qty where p.id < 60",
    "select qty as id, (sum(a)) as x from pairs where a < 'Infinity' group by qty",
    "select qty as id, (sum(a)) as x from pairs group by qty",
    "select qty as id, (round(avg(a), 25)) as x from pairs where a not in ('NaN', 'Infinity', '-Infinity') group by qty",
    "select qty as id, (min(a)) as x from pairs group by qty",
    "select qty as id, (max(b)) as x from pairs group by qty",
    "select qty as id, count(a) as x from pairs group by qty",
    "select qty as id, count(distinct a) as x from pairs group by qty",
    "select count(*) as id, (a) as x from pairs group by a",
    "select qty as id, (sum(price)) as x from pairs group by qty having sum(a) > 0 or sum(a) = 'NaN'",
    "select id, (sum(a) over (partition by qty order by id rows between 2 preceding and current row)) as x from pairs",
    "select id, (lag(a, 1, 0) over (order by id)) as x from pairs",
    "select id, row_number() over (order by a, id) as x from pairs",
    "select id, count(*) over (order by a) as x from pairs",
    "select id, rank() over (partition by qty order by b desc nulls last) as x from pairs",
    "select id, (a) as x from pairs union select id, (qty) from pairs",
    "select id, (x) as x from (select id, a as x from pairs union all select id, price from pairs) as both_of",
    "select id, (cast(a as numeric(40, 3))) as x from pairs where abs(a) < 1e30",
    "select id, cast(a as bigint) as x from pairs where abs(a) < 1e9",
    "select id from pairs where a > cast(1.5 as double precision)",
];

fn fill(cluster: &Cluster, rng: &mut Rng) {
    let mut sql = String::from(
        "create table pairs (id integer primary key, a numeric, b numeric, price numeric(12,2), qty integer);",
    );
    for id in 0..250 {
        let price = match rng.chance(5) {
            true => "'NaN'".to_owned(),
            false => format!("{}.{:02}", rng.between(-9, 99), rng.below(100)),
        };
        sql += &format!(
            "insert into pairs values ({id}, {}, {}, {price}, {});",
            rng.pick(NUMBERS),
            rng.pick(NUMBERS),
            rng.between(1, 7)
        );
    }
    cluster.sql("numbers", &sql);
}

/// The rows of an answer, sorted: keys, and texts of numbers without zeros at the end.
fn sorted(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    lines
}

fn trimmed(text: &str) -> String {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    }
}

#[test]
fn numbers_of_any_size_are_what_they_are_to_the_server() {
    let cluster = Cluster::start();
    let seed = std::env::var("FIRSTBAD_SEED").map_or(SEED, |seed| seed.parse().expect("a number"));
    println!("FIRSTBAD_SEED={seed}");
    cluster.sql("postgres", "create database numbers");
    fill(&cluster, &mut Rng::new(seed));
    let place = Place::new();
    let url = cluster.url("numbers");
    let mut wrong = Vec::new();
    for asked in ASKED {
        let theirs = cluster.sql("numbers", &format!("copy ({asked}) to stdout (format csv)"));
        let theirs = theirs.lines().map(|line| match line.split_once(',') {
            Some((id, x)) => format!("{id},{}", trimmed(x)),
            None => line.to_owned(),
        });
        let theirs = sorted(theirs);
        let ours = place.run(&["sql", "--format", "csv", &url, asked]);
        let lines = ours.out.lines().skip(1);
        let lines = lines.map(|line| match line.split_once(',') {
            Some((id, x)) => format!("{id},{}", trimmed(x)),
            None => line.to_owned(),
        });
        let lines = sorted(lines);
        if ours.code != 0 || lines != theirs {
            let first = lines.iter().zip(&theirs).find(|(a, b)| a != b);
            let counts = (lines.len(), theirs.len());
            wrong.push(format!("{asked}: {first:?} {counts:?} {}", ours.err));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let refused = place
        .run(&["sql", &url, "select array_agg(a) from pairs"])
        .exits(2);
    assert!(
        refused
            .err
            .contains("takes no numbers of more than 38 digits"),
        "{}",
        refused.err
    );
}
