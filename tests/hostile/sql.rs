//! SQL that writes, looks where it must not, or never ends.

use crate::{HARMLESS, Source};

#[test]
fn nothing_but_a_query_gets_through() {
    let statements = [
        "create table x(a int)",
        "create view v as select 1",
        "create external table x stored as csv location '/etc/passwd'",
        "insert into orders values (1)",
        "update orders set id = 1",
        "delete from orders",
        "merge into orders using orders o on true when matched then delete",
        "truncate orders",
        "drop table orders",
        "alter table orders add x int",
        "copy orders to '/tmp/x.csv'",
        "copy orders from '/etc/passwd'",
        "set datafusion.execution.batch_size = 1",
        "reset all",
        "show tables",
        "show all",
        "describe orders",
        "explain select 1",
        "explain analyze select 1",
        "prepare x as select 1",
        "execute x",
        "begin",
        "commit",
        "vacuum",
        "call f()",
        "do $$ begin end $$",
        "grant select on orders to x",
        "listen x",
        "select 1; drop table orders",
        "select 1; select 2",
        "(select 1); set x = 1",
        "with d as (delete from orders returning *) select * from d",
        "with d as (insert into orders values (9) returning id) select * from d",
        "with d as (update orders set id = 3 returning id) select * from d",
        "select * into x from orders",
        "select * from orders for update",
        "select * from (select * into y from orders) t",
        "",
        "--",
        "/* */",
        "/*",
        "select 'x",
        "select (1",
        "select 1)",
        "select $1",
        "from orders",
        "select",
    ];
    for sql in statements {
        let source = Source::with_orders();
        source.sql(sql).check(&[]).refused("rules.yaml", sql);
        assert!(!source.path("x.csv").exists());
    }
}

#[test]
fn only_registered_tables_and_known_functions_exist() {
    let source = Source::with_orders();
    source
        .file("x.parquet", "PAR1")
        .file("x.csv", "a\nFILESECRET\n");
    let absolute = format!("select * from \"{}\"", source.path("x.csv").display());
    let queries = [
        "select * from '/etc/passwd'",
        "select * from \"/etc/passwd\"",
        "select * from 'http://localhost/x.parquet'",
        "select * from \"s3://b/x.csv\"",
        "select * from \"x.parquet\"",
        "select * from \"x.csv\"",
        "select * from x",
        &absolute,
        "select * from \"file:///etc/passwd\"",
        "select * from information_schema.tables",
        "select * from information_schema.df_settings",
        "select * from pg_catalog.pg_class",
        "select * from pg_tables",
        "select * from read_csv('/etc/passwd')",
        "select * from read_parquet('x.parquet')",
        "select * from parquet_metadata('x.parquet')",
        "select * from \"..\".orders",
        "select getenv('FIRSTBAD_TEST_SECRET')",
        "select current_setting('x')",
        "select pg_read_file('/etc/passwd')",
        "select pg_sleep(100)",
        "select load_extension('x')",
        "select nextval('s')",
        "select lo_import('/etc/passwd')",
        "select * from dblink('x')",
        "select @@version",
        "select * from firstbad.rules",
    ];
    for sql in queries {
        let ran = source.sql(sql).check(&[]);
        assert_eq!(ran.code, Some(2), "{sql}\n{}", ran.stdout);
        for secret in ["FILESECRET", "ENVSECRET", "root:"] {
            assert!(
                !ran.stderr.contains(secret) && !ran.stdout.contains(secret),
                "{sql}"
            );
        }
    }
}

#[test]
fn what_changes_without_a_write_or_has_no_bound_is_refused_alone() {
    let calls = [
        "random()",
        "uuid()",
        "version()",
        "RANDOM()",
        "\"random\"()",
        "repeat('x', 500000000)",
        "lpad('x', 500000000)",
        "rpad('x', 500000000, 'y')",
        "array_repeat(1, 500000000)",
        "list_resize([1], 500000000, 1)",
        "array_resize([1], 500000000, 1)",
        "cardinality(generate_series(1, 500000000))",
        "cardinality(range(1, 500000000))",
    ];
    let source = Source::with_orders();
    for call in calls {
        source
            .sql(&format!("select id from orders where ({call}) is null"))
            .check(&[])
            .unknown("not allowed in rules", call);
    }
    source
        .sql("select * from generate_series(1, 10)")
        .check(&[])
        .unknown("not allowed in rules", "table function");
    source
        .sql("select now()")
        .check(&[])
        .unknown("--now", "now");
}

#[test]
fn fragments_cannot_leave_their_parentheses() {
    let source = Source::with_orders();
    for fragment in [
        "true) or (true",
        "true /*",
        "true; drop table orders",
        "1=1) --",
        "(true",
        "true))",
        "select 1",
        "'",
        "\"",
        "true, true",
        "$$",
        "id = $1",
    ] {
        for key in ["where", "impact"] {
            for check in ["not_null: [id]", "sql: select id from orders"] {
                let body = format!(
                    "table: orders\n{check}\n{key}: {}",
                    serde_json::Value::from(fragment)
                );
                source.rule(&body).check(&[]).refused("rules.yaml", &body);
            }
        }
        let body = format!(
            "table: orders\nexpression: {}",
            serde_json::Value::from(fragment)
        );
        source.rule(&body).check(&[]).refused("rules.yaml", &body);
    }
    for fragment in ["id = 1 -- ) or true", "id = 1 /* ) or true */", "id = 1 --"] {
        for check in [
            "not_null: [email]",
            "sql: select * from orders",
            "sql: 'select * from orders -- x'",
            "sql: 'select * from orders; -- x'",
        ] {
            let body = format!(
                "table: orders\n{check}\nwhere: {}",
                serde_json::Value::from(fragment)
            );
            let ran = source.rule(&body).check(&[]);
            let outcome = ran.outcome("hostile");
            assert_eq!(outcome["judged"], 1, "{body}: {outcome}");
        }
    }
}

#[test]
fn bombs_cost_a_limit_and_the_others_are_judged() {
    let rows: String = (1..=10_000)
        .map(|id| format!("{id},paid,1.00,a@b.co,2026-01-01T00:00:00Z\n"))
        .collect();
    let source = Source::new();
    source.file(
        "snapshot/orders.csv",
        format!("id,status,total,email,placed\n{rows}"),
    );
    let nested = |depth: usize, start: &str| {
        (0..depth).fold(start.to_owned(), |sql, _| {
            format!("select x||x as x from ({sql}) t")
        })
    };
    let thousand = "a".repeat(1000);
    let replace = (0..4).fold("'a'".to_owned(), |x, _| {
        format!("replace({x}, 'a', '{thousand}')")
    });
    let pattern = (0..6).fold("'a'".to_owned(), |x, _| {
        format!("regexp_replace({x}, '', '{thousand}', 'g')")
    });
    let groups = (0..6).fold("status".to_owned(), |x, _| {
        format!("regexp_replace({x}, '.*', '{}')", "$0".repeat(500))
    });
    let eightfold = |call: &str| {
        (0..9).fold("select status as x from orders".to_owned(), |sql, _| {
            format!("select {call}x,x,x,x,x,x,x,x) as x from ({sql}) t")
        })
    };
    let doubled = |start: &str, call: &str| {
        (0..26).fold(format!("select {start} as x from orders"), |sql, _| {
            format!("select {call} as x from ({sql}) t")
        })
    };
    let calls = (0..30).fold("status".to_owned(), |x, _| format!("encode({x}, 'hex')"));
    let wide = (1..12).fold(
        "c0 as (select status as x from orders)".to_owned(),
        |sql, at| {
            format!(
                "{sql}, c{at} as (select x||x||x||x||x||x||x||x as x from c{})",
                at - 1
            )
        },
    );
    let bombs = [
        (format!("select {}1{}", "(".repeat(10_000), ")".repeat(10_000)), "limit"),
        (format!("select {}1{}", "(".repeat(5_000), ")".repeat(5_000)), "nested"),
        (format!("select {}1", "-".repeat(5_000).replace('-', "- ")), "nested"),
        (format!("select {} true", "not ".repeat(3_000)), "nested"),
        (format!("select 1{}", "+1".repeat(6_000)), "operators"),
        (format!("select * from orders where {}", vec!["id=1"; 2_000].join(" or ")), "operators"),
        (format!("select '{}'", "x".repeat(900_000)), "limit is 16384"),
        (format!("select {}1{}", "case when true then ".repeat(400), " end".repeat(400)), "nested"),
        (format!("select {}1{}", "[".repeat(400), "]".repeat(400)), "nested"),
        ("select count(*) from orders a, orders b, orders c, orders d, orders e".into(), ""),
        ("select * from orders a, orders b, orders c order by 1".into(), ""),
        ("with recursive r as (select 1 as n union all select n + 1 from r) select * from r".into(), "longer than 2 s"),
        ("with recursive r(x, n) as (select 'aaaaaaaaaaaaaaaa', 1 union all select x||x, n+1 from r where n < 40) select length(x) from r".into(), ""),
        (nested(24, "select 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' as x"), ""),
        (nested(32, "select status as x from orders"), ""),
        (format!("with {wide} select length(x) from c11"), ""),
        (format!("select length({replace})"), ""),
        (format!("select length({pattern})"), ""),
        (format!("select length(x) from ({}) t", eightfold("concat(")), ""),
        (format!("select length(x) from ({}) t", eightfold("concat_ws(',',")), ""),
        (format!("select length({groups}) from orders"), ""),
        (format!("select length(x) from ({}) t", doubled("status", "overlay(x placing x from length(x) + 1)")), ""),
        (format!("select cardinality(x) from ({}) t", doubled("array[status]", "array_concat(x, x)")), ""),
        (format!("select cardinality(x) from ({}) t", doubled("array[status]", "x || x")), ""),
        (format!("select length(x) from ({}) t", doubled("status", "array_to_string(array[x, x], x)")), ""),
        (format!("select {calls} from orders"), "function calls inside each other"),
        (format!("select {}status{} from orders", "lower(".repeat(49), ")".repeat(49)), "function calls inside each other"),
        ("select length(string_agg(a.status||b.status, ',')) from orders a, orders b, orders c".into(), ""),
        ("select cardinality(array_agg(array[a.status, b.status])) from orders a, orders b, orders c".into(), ""),
        ("select a.id, row_number() over (order by a.id, b.id) from orders a, orders b".into(), ""),
        ("select 'a' ~ '(((((a{100}){100}){100}){100}){100})'".into(), ""),
    ];
    for (sql, part) in bombs {
        source
            .sql(&sql)
            .check(&[])
            .unknown(part, &sql[..sql.len().min(100)]);
    }
}

#[test]
fn balances_are_taken_apart_or_refused() {
    let source = Source::with_orders();
    let balance = |right: &str| {
        let right = serde_json::Value::from(right);
        format!("table: orders\nbalance: {{left: total, right: {right}, match: {{id: id}}}}")
    };
    // Written out again these are a comment and an operator that does not exist.
    for right in ["sum(orders.total) / - - 1", "sum(orders.total) / @ -5"] {
        let body = balance(right);
        let ran = source.rule(&body).check(&[]);
        ran.refused("cannot be taken apart", &body);
    }
    for depth in 40..=50 {
        let (open, close) = ("(".repeat(depth), ")".repeat(depth));
        let body = balance(&format!("sum(orders.total) / {open}count(*){close}"));
        let outcome = source.rule(&body).check(&[]).outcome("hostile");
        assert_ne!(outcome["verdict"], "violated", "{body}");
    }
}

#[test]
fn rules_after_a_bomb_are_judged_and_a_violation_still_counts() {
    let rows: String = (1..=10_000)
        .map(|id| format!("{id},paid,1.00,,2026-01-01T00:00:00Z\n"))
        .collect();
    let source = Source::new();
    source.file(
        "snapshot/orders.csv",
        format!("id,status,total,email,placed\n{rows}"),
    );
    let others: String = (0..8)
        .map(|n| format!("  - id: other-{n}\n    table: orders\n    not_null: [email]\n"))
        .collect();
    let bomb = "select a.id, row_number() over (order by a.id, b.id) from orders a, orders b";
    source.file(
        "rules.yaml",
        format!("rules:\n  - id: hostile\n    sql: {bomb}\n{others}{HARMLESS}"),
    );
    let ran = source.check(&[]);
    assert_eq!(ran.verdict("hostile"), "unknown");
    for n in 0..8 {
        let other = ran.outcome(&format!("other-{n}"));
        assert_eq!(other["violations"], 10_000, "{other}");
    }
    let harmless = ran.outcome("harmless");
    assert_eq!(harmless["verdict"], "held", "{harmless}");
    assert_eq!(ran.code, Some(1));
}

#[test]
fn checks_with_endless_answers_are_counted_not_listed() {
    let source = Source::new();
    source.file("snapshot/orders.csv", "id,status,total,email,placed\n1,a,1,x,2016-01-01T00:00:00Z\n9000000000000000000,b,2,y,2026-01-01T00:00:00Z\n");
    let now = ["--now", "2026-02-01T00:00:00Z"];
    let check = |body: &str| source.rule(&format!("table: orders\n{body}")).check(&now);
    assert_eq!(
        check("sequence: {column: id}").outcome("hostile")["violations"],
        8_999_999_999_999_999_998_u64
    );
    assert_eq!(
        check("window_gap: {column: placed, every: 1ms}").outcome("hostile")["violations"],
        318_297_599_998_u64
    );
    assert_eq!(
        check("window_gap: {column: placed, every: 1000000w}").verdict("hostile"),
        "held"
    );
    assert_eq!(
        check("not_null: [id]\nwithin: 1000000w").verdict("hostile"),
        "held"
    );
    check("not_null: [id]\nwithin: 99999999999999999999w").refused("duration", "within");
    source
        .rule("table: orders\nsequence: {column: id}")
        .check(&["--sample", "all"])
        .unknown("violations to keep", "all");
    let values: Vec<String> = (0..5000).map(|n| format!("v{n}")).collect();
    assert_eq!(
        check(&format!(
            "accepted_values: {{column: status, values: [{}]}}",
            values.join(", ")
        ))
        .outcome("hostile")["violations"],
        2
    );
    let patterns = [
        ("(((((a{100}){100}){100}){100}){100})", "memory"),
        ("\\p{L}{5000}", "memory"),
        ("a{999999}", "memory"),
    ];
    for (pattern, part) in patterns {
        check(&format!(
            "matches: {{column: status, pattern: '{pattern}'}}"
        ))
        .unknown(part, pattern);
    }
    for pattern in ["(", "[[[[", "(?=x)", "\\"] {
        check(&format!(
            "matches: {{column: status, pattern: '{pattern}'}}"
        ))
        .refused("not a regular expression", pattern);
    }
}

#[test]
fn numbers_that_leave_their_type_are_no_verdict() {
    let source = Source::new();
    source.file(
        "schema.sql",
        "create table orders(id bigint primary key, n bigint, m numeric(38,0));",
    );
    let nines = "9".repeat(38);
    source.file(
        "snapshot/orders.csv",
        format!("id,n,m\n1,9223372036854775807,{nines}\n2,9223372036854775807,{nines}\n"),
    );
    for body in [
        "expression: n + 1 > 0",
        "expression: n * n > 0",
        "expression: 0 - n - 2 < 0",
        "expression: m * 2 > 0",
        "not_null: [id]\nwhere: n + n < 0",
        "aggregate: {sql: sum(m), min: 0}",
        "expression: n / 0 > 1",
        "expression: n % 0 > 1",
    ] {
        source
            .rule(&format!("table: orders\n{body}"))
            .check(&[])
            .unknown("", body);
    }
    let impact = "table: orders\nsql: select id, m from orders\nkey: [id]\nimpact: m";
    let outcome = source.rule(impact).check(&[]).outcome("hostile");
    assert_eq!(
        outcome["impact"],
        format!("1{}8", "9".repeat(37)),
        "{outcome}"
    );
    source.file(
        "snapshot/orders.csv",
        "id,n,m\n-9223372036854775808,1,1\n9223372036854775807,1,1\n",
    );
    let outcome = source
        .rule("table: orders\nsequence: {column: id}")
        .check(&[])
        .outcome("hostile");
    assert_eq!(
        outcome["violations"], 18_446_744_073_709_551_614_u64,
        "{outcome}"
    );
}

#[test]
fn messages_of_the_engine_hold_no_values() {
    let source = Source::new();
    let secret = "SECRET7 it's \"x\"";
    source.file(
        "snapshot/orders.csv",
        format!(
            "id,status,total,email,placed\n777333111,\"{}\",5.00,zz,2026-01-02T00:00:00Z\n",
            secret.replace('"', "\"\"")
        ),
    );
    for sql in [
        "select cast(status as bigint) from orders",
        "select cast(status as date) from orders",
        "select cast(status as timestamp) from orders",
        "select cast(status as numeric) from orders",
        "select cast(status as boolean) from orders",
        "select cast(status as interval) from orders",
        "select to_timestamp(status) from orders",
        "select to_date(status) from orders",
        "select id * 9223372036854775807 from orders",
        "select cast(id as smallint) from orders",
        "select cast(id as numeric(5,2)) from orders",
        "select abs(id - 9223372036854775807 - 777333112) from orders",
        "select chr(id) from orders",
        "select array_element([1], id) / 0 from orders",
        "select gcd(id, 0) / 0 from orders",
        "select id / (total - total) from orders",
        "select make_date(id, 1, 1) from orders",
        "select regexp_like('a', '(' || status) from orders",
        "select factorial(id) from orders",
        "select date_trunc(status, placed) from orders",
        "select date_part(status, placed) from orders",
        "select arrow_cast(status, 'Int32') from orders",
        "select substr(status, 1, -id) from orders",
    ] {
        let ran = source.sql(sql).check(&["--sample", "0"]);
        for text in ["SECRET7", "777333111", "it's"] {
            assert!(
                !ran.stdout.contains(text) && !ran.stderr.contains(text),
                "{sql}\n{}\n{}",
                ran.stdout,
                ran.stderr
            );
        }
        assert_ne!(ran.code, Some(3), "{sql}");
    }
}

#[test]
fn two_thousand_rules_are_judged() {
    let rules: String = (0..2000)
        .map(|n| format!("  - id: r{n}\n    table: orders\n    not_null: [id]\n"))
        .collect();
    let source = Source::with_orders();
    source.file("rules.yaml", format!("rules:\n{rules}"));
    let ran = source.check(&[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(ran.verdict("r1999"), "held");
}
