//! What is made in the database, and what is refused before anything is made.

use super::{Guest, ORDERS, RULES};

#[test]
fn the_publication_comes_before_the_slot_and_names_tables() {
    let guest = Guest::new(ORDERS, RULES);
    guest.seen();
    let made = "select p.xmin::text::bigint < s.catalog_xmin::text::bigint from pg_publication p, pg_replication_slots s
         where p.pubname = 'firstbad' and s.slot_name = 'firstbad' and not p.puballtables";
    assert_eq!(guest.sql(made), "t");
    let tables = "select string_agg(tablename, ' ' order by tablename) from pg_publication_tables";
    assert_eq!(guest.sql(tables), "orders other");
    guest.is_true();
}

#[test]
fn a_table_that_would_break_its_owner_is_refused_and_nothing_is_published() {
    let sql = "
        create table orders (id bigint, status text);
        create table other (id bigint primary key, v text);
        alter table other replica identity nothing;";
    let guest = Guest::new(sql, RULES);
    let refused = |text: &str| {
        let (code, said) = guest.watch(&[]);
        assert_eq!(code, 2, "{said}");
        assert!(said.contains(text), "{said}");
        assert_eq!(
            (guest.slots(), guest.publications()),
            ("0".into(), "0".into())
        );
        said
    };
    let said = refused("orders has no primary key");
    assert!(
        said.contains("other has REPLICA IDENTITY NOTHING"),
        "{said}"
    );
    guest.sql(
        "alter table orders add unique (id), alter id set not null, replica identity full;
         create unique index other_v on other (v); alter table other alter v set not null;
         alter table other replica identity using index other_v;",
    );
    refused("other has another index than its primary key");
    guest.sql("alter table other replica identity full");
    guest.seen();
    guest.sql(
        "insert into orders values (1, 'paid'), (2, 'odd'); update orders set status = 'open' where id = 1;
         insert into other values (1, 'a'); update other set v = 'bad'; delete from orders where id = 2;",
    );
    guest.seen_all();
    assert_eq!(guest.verdict("other").0, "violated");
    assert_eq!(guest.verdict("status").0, "held");
    guest.is_true();
}

#[test]
fn wrong_rules_leave_nothing_behind() {
    let guest = Guest::new(ORDERS, RULES);
    for (rules, text) in [
        (
            "rules:\n  - {id: a, table: orders, not_null: [stats]}\n",
            "stats",
        ),
        (
            "rules:\n  - {id: a, table: nowhere, not_null: [id]}\n",
            "nowhere",
        ),
        (
            "rules:\n  - {id: a, table: orders, not_nil: [id]}\n",
            "not_nil",
        ),
    ] {
        guest.place.write("rules.yaml", rules);
        let (code, said) = guest.watch(&[]);
        assert!(code == 2 && said.contains(text), "{code}: {said}");
        assert_eq!(
            (guest.slots(), guest.publications()),
            ("0".into(), "0".into())
        );
        assert!(!guest.place.path("store").exists());
    }
}

#[test]
fn a_role_that_lacks_something_is_told_and_leaves_nothing_behind() {
    let guest = Guest::new(ORDERS, RULES);
    guest.sql(
        "create role no_slots login; grant select on all tables in schema public to no_slots;
         create role no_rows login replication; grant select on orders to no_rows;
         create role no_owner login replication; grant select on all tables in schema public to no_owner;",
    );
    for (role, texts) in [
        ("no_slots", &["replication"][..]),
        ("no_rows", &["may not read all of other", "GRANT SELECT"]),
        ("no_owner", &["may not make publication", "publication.sql"]),
    ] {
        let url = guest.url().replacen("postgres@", &format!("{role}@"), 1);
        let (code, said) = guest.start_at(&url, &["--until-now"]).ended();
        assert!(code == 2 || code == 3, "{code}: {said}");
        for text in texts {
            assert!(said.contains(text), "{role}: no `{text}`: {said}");
        }
        assert_eq!(
            (guest.slots(), guest.publications()),
            ("0".into(), "0".into())
        );
    }
    // With what is made for it, the same role watches.
    guest.sql("create publication firstbad for table orders, other");
    let url = guest.url().replacen("postgres@", "no_owner@", 1);
    let (code, said) = guest.start_at(&url, &["--until-now"]).ended();
    assert_eq!(code, 0, "{said}");
}

#[test]
fn a_second_watcher_is_refused() {
    let guest = Guest::new(ORDERS, RULES);
    let mut first = guest.start(&[]);
    first.says("watching from");
    let place = crate::place::Place::new().with("rules.yaml", RULES);
    let store = guest.place.path("store").display().to_string();
    let url = guest.url();
    let watch = [
        "watch",
        &url,
        "--rules",
        "rules.yaml",
        "--until-now",
        "--store",
    ];
    let ran = place.run(&[&watch[..], &[&store]].concat());
    assert!(ran.code == 2 || ran.code == 3, "{ran:?}");
    ran.warns(&["process"]);
    place
        .run(&[&watch[..], &["own"]].concat())
        .exits(3)
        .warns(&["slot firstbad is there already", "--slot"]);
    guest.sql("insert into other values (1, 'bad')");
    first.says("other");
    first.stop();
    // Stopped, it is still the first one's.
    place
        .run(&[&watch[..], &["own"]].concat())
        .exits(3)
        .warns(&["slot firstbad is there already"]);
    guest.seen_all();
    guest.is_true();
}

#[test]
fn a_new_rule_about_a_new_table_needs_a_new_store() {
    let guest = Guest::new(ORDERS, RULES);
    guest.seen();
    guest.sql("create table late (id bigint primary key, v text)");
    let more = format!("{RULES}  - {{id: late, table: late, not_null: [v]}}\n");
    guest.place.write("rules.yaml", more);
    let (code, said) = guest.watch(&[]);
    assert!(
        code == 2 && said.contains("table late, which the store does not hold"),
        "{code}: {said}"
    );
    let tables = "select string_agg(tablename, ' ' order by tablename) from pg_publication_tables";
    assert_eq!(guest.sql(tables), "orders other");
    guest.place.write("rules.yaml", RULES);
    guest.seen_all();
    guest.is_true();
}

#[test]
fn an_interrupt_before_the_first_state_is_there_does_no_harm() {
    let guest = Guest::new(ORDERS, RULES);
    guest.sql("create publication firstbad for table orders, other");
    crate::run(async {
        let holder = crate::session(&guest.url()).await;
        // A slot begins when the transactions that are open have ended.
        let open = "begin; insert into elsewhere values (1, 'x')";
        let opened = holder.client().batch_execute(open).await;
        opened.expect("it can be written");
        let watcher = guest.start(&["--until-now"]);
        guest.until("select exists (select from pg_replication_slots)");
        watcher.interrupt();
        let (code, said) = watcher.ended();
        assert_ne!(code, 0, "{said}");
        holder
            .client()
            .batch_execute("rollback")
            .await
            .expect("it can be let go");
    });
    guest.until("select not exists (select from pg_replication_slots where active)");
    guest.seen_all();
    guest.sql("insert into other values (1, 'bad')");
    guest.seen_all();
    assert_eq!((guest.slots().as_str(), guest.incidents().len()), ("1", 1));
    guest.is_true();
}
