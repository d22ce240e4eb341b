//! How answers move with the time, over plans as the engine makes them.

use std::sync::Arc;

use super::clock::Ticking;
use crate::judge::engine::{Limits, Workshop};
use crate::plan::clock::{ask_later, asks};
use crate::plan::trend::{Course, Trend, course};
use crate::plan::{Compiled, Expand, Judged};
use crate::schema::{Column, DataType, Schema, Table, TableName};
use crate::state::{History, Origin};

fn history() -> Arc<History> {
    let table = |name: &str, columns: &[(&str, DataType)]| Table {
        name: TableName::new("public", name),
        columns: columns
            .iter()
            .map(|(name, data_type)| Column {
                name: (*name).to_owned(),
                data_type: data_type.clone(),
                nullable: *name != "id",
            })
            .collect(),
        primary_key: vec![0],
        foreign_keys: Vec::new(),
    };
    let tables = vec![
        table(
            "orders",
            &[
                ("id", DataType::Int64),
                ("customer", DataType::Int64),
                ("t", DataType::TimestampTz),
                ("u", DataType::Timestamp),
                ("d", DataType::Date),
                ("age", DataType::Text),
                ("open", DataType::Bool),
            ],
        ),
        table(
            "lines",
            &[
                ("id", DataType::Int64),
                ("order_id", DataType::Int64),
                ("t", DataType::TimestampTz),
            ],
        ),
    ];
    Arc::new(History::new(Schema { tables }, Origin::Changes, false))
}

/// The course of a query; its first column is the key.
fn course_of(sql: &str) -> Result<Course, &'static str> {
    let workshop = Workshop::new(&Limits::default()).expect("the engine starts");
    let engine = workshop.lifting_engine(&history(), 0, None);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime starts");
    let (plan, asked) = runtime
        .block_on(engine.optimized(sql))
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert!(asked, "it asks for the time: {sql}");
    course(&plan, &[0])
}

fn rows(rows: Trend) -> Result<Course, &'static str> {
    let moving = Vec::new();
    Ok(Course { rows, moving })
}

#[test]
fn rules_that_go_bad_and_rules_that_heal_are_told_apart() {
    let rise = [
        "select id from orders where t < now()",
        "select id from orders where now() > t",
        "select id from orders where t < now() - interval '3 days'",
        "select id from orders where t + interval '1 month' <= now()",
        "select id from orders where now() - t > interval '36 hours'",
        "select id from orders where u < now() - interval '1 hour' and open",
        "select id from orders where open or not (t >= current_timestamp)",
        "select id from orders where d < current_date",
        "select id from orders where d < today() - interval '1 month'",
        "select id from orders where d <= current_date - interval '2 days'",
        "select id from orders where t < date_trunc('day', now())",
        "select id from orders where t < date_bin(interval '15 minutes', now(), timestamp '2000-01-01')",
        "select id from orders where extract(epoch from now() - t) / 60 > 90",
        "select id from orders where cast(extract(epoch from now()) as bigint) - 5 > customer * 3",
        "select id from orders where coalesce(t, u) < least(now(), u)",
        "select id from orders where case when open then t < now() else u < now() end",
        "select id from orders where (t < now()) is true",
        "select id from orders where (t > now()) is not true",
        "select customer from orders group by customer having max(t) < now() - interval '1 day'",
        "select customer from orders where t < now() group by customer",
        "select customer, count(*) from orders where t < now() group by customer having count(*) > 3",
        "select 1 as one from (select 1 from orders where t < now()) x having count(*) > 7",
        "select distinct customer from orders where t < now()",
        "select o.id from orders o join lines l on l.order_id = o.id and l.t < now()",
        "select o.id from orders o join lines l on l.order_id = o.id where l.t < now() - (o.t - o.u)",
        "select id from orders o where exists (select 1 from lines where order_id = o.id and t < now())",
        "select id from orders o where not exists (select 1 from lines where order_id = o.id and t > now())",
        "select id from orders o where t < now() and not exists (select 1 from lines where order_id = o.id)",
        "select id from orders where customer in (select order_id from lines where t < now())",
        "select o.id from orders o left join lines l on l.order_id = o.id where l.id is null and o.t < now()",
        "select id from orders where t < now() union all select id from lines where t < now()",
    ];
    for sql in rise {
        let found = course_of(sql);
        let single = found.as_ref().is_ok_and(|c| c.rows == Trend::Rises);
        assert!(single, "{found:?}: {sql}");
    }
    let fall = [
        "select id from orders where t > now()",
        "select id from orders where not (t < now())",
        "select id from orders where t > now() - interval '1 hour' or now() < u",
        "select id from orders where d >= current_date",
        "select id from orders o where not exists (select 1 from lines where order_id = o.id and t < now())",
        "select o.id from orders o join lines l on l.order_id = o.id where l.t > now()",
        "select customer, count(*) from orders where t > now() group by customer having count(*) > 3",
    ];
    for sql in fall {
        assert_eq!(course_of(sql), rows(Trend::Falls), "{sql}");
    }
}

#[test]
fn evidence_may_move_as_it_likes() {
    let still = [
        "select id, now() - t as since from orders where open",
        "select id, extract(hour from now()) as hour from orders",
        "select id, case when t < now() then 'late' end as state from orders",
    ];
    for sql in still {
        assert_eq!(course_of(sql), rows(Trend::Still), "{sql}");
    }
}

#[test]
fn keys_that_move_are_watched() {
    let moving = |rows| {
        let moving = vec![0];
        Ok(Course { rows, moving })
    };
    let sql = "select current_date as day, id from orders where t < now()";
    assert_eq!(course_of(sql), moving(Trend::Rises));
    let sql = "select count(*) as late from orders where t < now()";
    assert_eq!(course_of(sql), moving(Trend::Still));
}

/// Queries, and a word of the reason.
const REFUSED: &[(&str, &str)] = &[
    (
        "select id from orders where t between now() - interval '1 hour' and now()",
        "begins",
    ),
    (
        "select id from orders where t < now() and u > now()",
        "begins",
    ),
    ("select id from orders where d = current_date", "equality"),
    ("select id from orders where d <> current_date", "equality"),
    (
        "select id from orders where t < now() - interval '1 month'",
        "up and down",
    ),
    (
        "select id from orders where extract(hour from now()) > 6",
        "up and down",
    ),
    (
        "select id from orders where current_time > time '06:00:00'",
        "up and down",
    ),
    (
        "select id from orders where cast(now() as text) > age",
        "up and down",
    ),
    (
        "select id from orders where case when now() > t then open else not open end",
        "",
    ),
    ("select id from orders where (t < now()) = open", "equality"),
    (
        "select id from orders where now() at time zone 'Europe/Berlin' > u",
        "up and down",
    ),
    (
        "select extract(hour from now()) as hour, id from orders",
        "up and down",
    ),
    (
        "select customer from orders where t < now() group by customer having max(id) > 5",
        "aggregated",
    ),
    (
        "select customer from orders group by customer having max(now() - t) > interval '1 day'",
        "aggregated",
    ),
    (
        "select id from (select id, row_number() over (partition by customer order by id) as n from orders where t < now()) x where n = 1",
        "aggregated",
    ),
    (
        "select o.id from orders o left join lines l on l.order_id = o.id and l.t < now() where l.id is null or l.id > o.id",
        "outer",
    ),
    (
        "select coalesce(o.id, l.id) as id from orders o full join lines l on l.id = o.id and l.t < now()",
        "outer",
    ),
    (
        "select o.id from orders o where t < now() and not exists (select 1 from lines where order_id = o.id and t < now())",
        "begins",
    ),
    (
        "select id from orders where t < now() union all select id from lines where t > now()",
        "begins",
    ),
    (
        "select id from (select id from orders where t < now() order by id limit 3) x",
        "up and down",
    ),
    (
        "select age, id from (select cast(now() as text) as age, id from orders) x",
        "up and down",
    ),
];

#[test]
fn what_may_go_up_and_down_is_refused() {
    for (sql, why) in REFUSED {
        match course_of(sql) {
            Err(found) => assert!(found.contains(why), "{found}: {sql}"),
            Ok(found) => panic!("{found:?}: {sql}"),
        }
    }
}

#[test]
fn windows_may_end_later() {
    let now = "cast(arrow_cast(now(), 'Timestamp(Microsecond, None)') as bigint)";
    let end = format!("({now} - (({now} % 3600) + 3600) % 3600)");
    let query = |end: &str| {
        format!(
            "select customer, id as _window, id as _rows, least(coalesce(lead(id) over (partition by customer order by id), {end}), {end}) as _until from orders"
        )
    };
    let ticking = |end: &str| {
        let workshop = Workshop::new(&Limits::default()).expect("the engine starts");
        let engine = workshop.lifting_engine(&history(), 0, None);
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.expect("a runtime starts");
        let sql = query(end);
        let (plan, _) = runtime
            .block_on(engine.optimized(&sql))
            .expect("the query is planned");
        let compiled = Compiled {
            key: vec!["customer".into()],
            evidence: vec!["_window".into(), "_rows".into(), "_until".into()],
            sql,
            judged: Judged::Returned,
            impact: false,
            expand: Expand::Windows {
                every_us: 3600,
                min_rows: 1,
                zoned: false,
            },
            members: None,
        };
        Ticking::new(&plan, &compiled).words().expect("it moves")
    };
    assert!(ticking(&end).contains("bisection"), "{}", ticking(&end));
    let uneven = format!("({now} - ({now} % 3600))");
    assert!(
        ticking(&uneven).contains("up and down"),
        "{}",
        ticking(&uneven)
    );
}

#[test]
fn no_call_for_the_time_is_overlooked() {
    let workshop = Workshop::new(&Limits::default()).expect("the engine starts");
    let engine = workshop.lifting_engine(&history(), 0, None);
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime starts");
    for call in [
        "now()",
        "current_timestamp",
        "current_timestamp()",
        "cast(current_date as timestamp)",
        "cast(today() as timestamp)",
        "(select max(t) from lines where t < now())",
        "t and exists (select 1 from lines l where l.id = o.id and l.t < now()) and t < t",
    ] {
        let sql = format!("select id from orders o where t < {call}");
        let sql = match call.starts_with("t and") {
            true => sql.replace("t < t and", "t < o.u and"),
            false => sql,
        };
        let (plan, asked) = runtime
            .block_on(engine.optimized(&sql))
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert!(asked && asks(&plan), "{sql}");
        let (_, again) = ask_later(plan).expect("the plan can be walked");
        assert!(!again, "something still asks the engine: {sql}");
    }
}
