//! Tables that change: large values, partitions, columns, truncation, savepoints, prepared transactions.

use super::{Guest, ORDERS, RULES};

#[test]
fn a_large_value_that_an_update_leaves_alone_stays_known() {
    for identity in ["default", "full"] {
        let sql = format!(
            "create table docs (id bigint primary key, title text, body text);
             alter table docs alter body set storage external;
             alter table docs replica identity {identity};
             insert into docs select i, 't', repeat('x', 10000) from generate_series(1, 3) i;"
        );
        let rules = "
rules:
  - {id: long, table: docs, expression: \"length(body) > 9000 or title = 'short'\"}
  - {id: known, table: docs, not_null: [body]}
";
        let guest = Guest::new(&sql, rules);
        guest.seen();
        guest.sql("update docs set title = 'u' where id = 1; insert into docs values (4, 'v', repeat('y', 9500))");
        guest.seen_all();
        guest.sql("update docs set title = 'w'; update docs set title = 'x', id = 40 where id = 4");
        guest.seen_all();
        guest.is_true();
        for rule in ["long", "known"] {
            assert_eq!(
                guest.verdict(rule),
                ("held".into(), String::new()),
                "{identity}"
            );
        }
        guest.sql("update docs set body = repeat('z', 8000) where id = 2");
        // The watcher begins anew, and the bad value is not sent again.
        guest.seen_all();
        guest.sql("update docs set title = 'again' where id = 2");
        guest.seen_all();
        guest.is_true();
        assert_eq!(
            (guest.verdict("long").0.as_str(), guest.incidents().len()),
            ("violated", 1)
        );
        assert_eq!(guest.verdict("known").0, "held");
    }
}

const PARTITIONED: &str = "
    create table orders (id bigint, day int, status text, primary key (id, day)) partition by range (day);
    create table orders_1 partition of orders for values from (0) to (10);
    create table orders_2 partition of orders for values from (10) to (20);
    insert into orders select i, i % 20, 'paid' from generate_series(1, 100) i;";

const PARTITIONED_RULES: &str = "
rules:
  - {id: status, table: orders, accepted_values: {column: status, values: [paid, open]}}
";

#[test]
fn a_truncated_root_was_not_only_appended_to() {
    let rules = "rules:\n  - {id: kept, table: orders, append_only: true}\n";
    let guest = Guest::new(PARTITIONED, rules);
    guest.seen();
    guest.sql("alter table orders detach partition orders_2");
    guest.seen();
    assert_eq!(
        guest.verdict("kept").0,
        "held",
        "nobody is blamed for what was not seen"
    );
    guest.sql("truncate orders");
    guest.seen();
    assert_eq!(guest.verdict("kept").0, "violated");
    guest.is_true();
}

#[test]
fn what_happens_in_partitions_is_told_of_the_root() {
    let guest = Guest::new(PARTITIONED, PARTITIONED_RULES);
    guest.seen();
    guest.sql(
        "insert into orders_1 values (200, 3, 'open'), (201, 4, 'odd');
         update orders set day = 15 where id = 200;
         create table orders_3 partition of orders for values from (20) to (30);",
    );
    guest.sql("insert into orders_3 values (300, 25, 'paid'); delete from orders_2 where id = 15");
    guest.seen_all();
    assert_eq!(guest.incidents().len(), 1);
    guest.is_true();
    // A partition that is rewritten with its rows is none the less.
    guest.sql("update orders set status = 'paid' where id = 201; vacuum full orders_2;");
    guest.seen_all();
    guest.is_true();
    guest.sql("truncate orders; insert into orders values (1, 1, 'paid')");
    // It looks as if each partition had been truncated by itself, which is not told.
    guest.seen();
    assert_eq!(guest.verdict("status").0, "held");
    guest.is_true();
}

#[test]
fn what_the_stream_does_not_tell_of_partitions_is_a_gap() {
    let guest = Guest::new(PARTITIONED, PARTITIONED_RULES);
    guest.seen();
    let gap = |sql: &str, why: &str| {
        // While nobody watches, and while somebody does.
        guest.sql(sql);
        let said = guest.seen();
        assert!(said.contains(why), "{why}: {said}");
        guest.is_true();
    };
    gap(
        "alter table orders detach partition orders_2",
        "a partition was detached or dropped",
    );
    guest.sql("update orders_2 set status = 'odd' where id = 10");
    gap(
        "alter table orders attach partition orders_2 for values from (10) to (20)",
        "a partition with rows was attached",
    );
    let incidents = guest.incidents();
    assert_eq!(incidents.len(), 1, "{incidents:?}");
    let xid = &incidents[0]["first_bad"]["xid"];
    assert!(
        xid.is_null(),
        "nobody is blamed for what was not seen: {incidents:?}"
    );
    gap("truncate orders_1", "a partition was truncated by itself");
    gap(
        "begin; create table filled (like orders including all); insert into filled values (500, 40, 'open');
         alter table orders attach partition filled for values from (40) to (50); commit;",
        "a partition with rows was attached",
    );
    let mut watcher = guest.start(&[]);
    watcher.says("watching from");
    guest.until("select exists (select from pg_stat_activity where query like '%pg_inherits%' and application_name like 'firstbad%')");
    guest.sql("alter table orders detach partition filled; drop table filled");
    watcher
        .says("a partition was detached or dropped")
        .says("stands for what was not seen");
    guest.sql("insert into orders values (600, 1, 'odd')");
    super::until("another key", || guest.incidents()[0]["keys"] == 2);
    watcher.stop();
    guest.seen_all();
    guest.is_true();
}

#[test]
fn rules_that_read_a_column_that_changed_are_unknown_and_others_go_on() {
    for (change, why) in [
        ("drop column status", "column status is gone"),
        ("rename column status to state", "column status is gone"),
        (
            "alter column status type varchar(20)",
            "column status has another type",
        ),
    ] {
        let guest = Guest::new(ORDERS, RULES);
        let mut watcher = guest.start(&[]);
        watcher.says("watching from");
        guest.sql("alter table orders add column more int default 7; insert into orders (id, status) values (11, 'paid')");
        guest.sql(&format!("alter table orders {change}"));
        guest.sql("update orders set note = 'z' where id = 1");
        watcher.says(why);
        guest.sql("insert into other values (1, 'bad')");
        watcher.says("other");
        super::until("the rule is unknown", || {
            guest.verdict("status").0 == "unknown"
        });
        let reason = guest.verdict("status").1;
        assert!(reason.contains(why), "{reason}");
        super::until("the other rule goes on", || {
            guest.verdict("other").0 == "violated"
        });
        watcher.stop();
        let (code, said) = guest.watch(&[]);
        assert!(code == 2, "{code}: {said}");
        assert!(said.contains("status"), "{said}");
        guest.place.run(&["verify", "store"]).exits(0);
    }
}

#[test]
fn a_column_that_was_dropped_and_made_anew_is_a_gap() {
    let guest = Guest::new(ORDERS, RULES);
    guest.seen();
    guest.sql("alter table orders drop column status; alter table orders add column status text not null default 'odd'");
    let said = guest.seen();
    assert!(
        said.contains("a column status was dropped and made anew"),
        "{said}"
    );
    assert_eq!(guest.verdict("status").0, "violated");
    guest.is_true();
    // Columns that the store lacks, and others in another order.
    guest.sql(
        "alter table orders add column more int not null default 1;
         select pg_drop_replication_slot('firstbad'); update orders set status = 'paid';",
    );
    guest.seen();
    assert_eq!(guest.verdict("status").0, "held");
    guest.sql("insert into orders (id, note, status) values (90, 'paid', 'odd')");
    guest.seen_all();
    assert_eq!(guest.verdict("status").0, "violated");
    guest.is_true();
}

#[test]
fn a_table_that_was_not_published_for_a_while_is_a_gap() {
    let guest = Guest::new(ORDERS, RULES);
    guest.seen();
    for (sql, why) in [
        (
            "alter publication firstbad drop table other; insert into other values (1, 'bad')",
            "publication firstbad lacked other",
        ),
        (
            "alter publication firstbad drop table other; delete from other; alter publication firstbad add table other",
            "was not published for a while",
        ),
        (
            "drop publication firstbad; insert into other values (2, 'bad')",
            "publication \"firstbad\" does not exist",
        ),
    ] {
        guest.sql(sql);
        let said = guest.seen();
        assert!(said.contains(why), "{why}: {said}");
        guest.is_true();
    }
    guest.seen_all();
}

#[test]
fn a_truncated_table_is_empty_and_was_not_only_appended_to() {
    let rules = format!("{RULES}  - {{id: kept, table: orders, append_only: true}}\n");
    let guest = Guest::new(ORDERS, &rules);
    guest.sql("insert into other values (1, 'bad')");
    guest.seen();
    guest.sql("truncate orders, other");
    guest.seen_all();
    assert_eq!(guest.verdict("kept").0, "violated");
    assert_eq!(guest.verdict("other").0, "held");
    guest.is_true();
}

#[test]
fn what_was_rolled_back_to_a_savepoint_was_never_there() {
    let guest = Guest::new(ORDERS, RULES);
    guest.seen();
    guest.sql(
        "begin; insert into other values (1, 'good'); savepoint a; insert into other values (2, 'bad'); savepoint b;
         update orders set status = 'odd'; release b; rollback to a; insert into other values (2, 'good');
         savepoint c; delete from orders where id = 1; release c; commit;
         begin; insert into other values (3, 'bad'); rollback;",
    );
    guest.seen_all();
    assert_eq!(guest.incidents().len(), 0);
    guest.is_true();
}

#[test]
fn a_prepared_transaction_counts_when_it_is_committed() {
    let guest = Guest::with(&["max_prepared_transactions=5"], ORDERS, RULES);
    guest.seen();
    guest.sql("begin; insert into other values (1, 'bad'); prepare transaction 'a'");
    guest.sql("begin; insert into other values (2, 'bad'); prepare transaction 'b'");
    guest.sql("insert into other values (3, 'good')");
    guest.seen_all();
    assert_eq!(guest.incidents().len(), 0);
    guest.sql("rollback prepared 'b'");
    guest.sql("commit prepared 'a'");
    guest.seen_all();
    let incidents = guest.incidents();
    assert_eq!(incidents.len(), 1);
    assert_eq!(incidents[0]["first_bad"]["commit"], 2);
    guest.is_true();
}

#[test]
fn a_key_stays_the_same_when_its_column_gets_more_digits() {
    let sql = "create table prices (id bigint primary key, amount numeric);
        insert into prices values (1, 1.5), (2, 1.5), (3, 7);";
    let guest = Guest::new(
        sql,
        "rules:\n  - {id: once, table: prices, unique: [amount]}\n",
    );
    guest.seen();
    // By its scale, and by a number of another kind; in one run and from run to run.
    let mut running = guest.start(&[]);
    running.says("watching from");
    guest.sql("insert into prices values (4, 2.125)");
    guest.sql("insert into prices values (5, 'NaN')");
    running.stop();
    guest.seen_all();
    let incidents = guest.incidents();
    assert_eq!(
        (incidents.len(), &incidents[0]["state"]),
        (1, &"open".into()),
        "{incidents:?}"
    );
    assert_eq!(incidents[0]["bad"], 1, "{incidents:?}");
    guest.sql("delete from prices where id = 2");
    guest.seen_all();
    let incidents = guest.incidents();
    assert_eq!(
        (incidents.len(), &incidents[0]["state"]),
        (1, &"closed".into()),
        "{incidents:?}"
    );
    guest.is_true();
}

#[test]
fn numbers_of_any_size_are_judged_on_and_recorded() {
    let sql = "
        create table accounts (id bigint primary key, balance numeric(12,2), wei numeric, region text);
        insert into accounts select i, i, i, 'r' || i % 3 from generate_series(1, 30) i;";
    let rules = "
rules:
  - {id: not-a-number, table: accounts, expression: \"balance <> 'NaN'\"}
  - {id: not-too-much, table: accounts, range: {column: wei, max: 100000000000000000000000000000000000000000000000000}}
  - {id: region, table: accounts, sql: 'select region from accounts group by region having sum(balance) > 100000', key: [region]}
";
    let guest = Guest::new(sql, rules);
    guest.seen();
    guest.sql("update accounts set wei = 1e45 + id where id = 7; update accounts set balance = 5.5 where id = 8");
    guest.seen_all();
    guest.is_true();
    assert_eq!(guest.incidents().len(), 0);
    // While it watches, and while it does not.
    let xid = guest.sql("begin; update accounts set balance = 'NaN' where id = 9; select pg_current_xact_id(); commit");
    guest.seen_all();
    guest.is_true();
    let incidents = guest.incidents();
    assert_eq!(incidents.len(), 1, "{incidents:?}");
    assert_eq!(
        incidents[0]["rules"],
        serde_json::json!(["not-a-number", "region"])
    );
    assert_eq!(incidents[0]["first_bad"]["xid"].to_string(), xid);
    assert_eq!(incidents[0]["certainty"], "exact");
    let other = guest.sql(
        "begin; update accounts set wei = 1e60 where id = 7; select pg_current_xact_id(); commit",
    );
    guest.sql("update accounts set balance = 9 where id = 9; insert into accounts values (40, 1, '-Infinity', 'r1')");
    guest.seen_all();
    guest.is_true();
    let open: Vec<_> = guest
        .incidents()
        .into_iter()
        .filter(|one| one["state"] == "open")
        .collect();
    assert_eq!(open.len(), 1, "{open:?}");
    assert_eq!(open[0]["first_bad"]["xid"].to_string(), other);
    for rule in ["not-a-number", "region"] {
        assert_eq!(guest.verdict(rule).0, "held", "{rule}");
    }
}
