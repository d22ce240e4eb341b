//! What `sql/04-quarantine.sql` makes of a database, by itself.

use super::SHOP;
use crate::postgres::Cluster;
use crate::psql::file;

const APART: &str = "do $$ begin perform firstbad.quarantine_rows('s', 'I-3', 'public', 'orders', '[{\"key\": {\"id\": \"4\"}, \"image\": {}}]', true); end $$;";

struct Database {
    cluster: Cluster,
}

impl Database {
    fn new() -> Database {
        let cluster = Cluster::start();
        cluster.sql("postgres", "create database shop");
        cluster.sql("shop", SHOP);
        Database { cluster }
    }

    fn script(&self, name: &str, variables: &[&str]) -> crate::psql::Ran {
        let role = if name.starts_with("99") {
            "postgres"
        } else {
            "owner"
        };
        file(&self.cluster, role, "shop", name, variables)
    }

    fn as_role(&self, role: &str, sql: &str) -> String {
        self.cluster.sql("shop", &format!("set role {role}; {sql}"))
    }

    fn on(&self, arguments: &str) {
        self.as_role(
            "owner",
            &format!("do $on$ begin perform firstbad.quarantine_on({arguments}); end $on$"),
        );
    }

    /// What the server answers to what it must refuse: SQLSTATE, message and hint.
    fn refuses(&self, role: &str, sql: &str) -> String {
        let sql = sql.replace('\'', "''");
        let caught = format!(
            "set role {role};
             create function pg_temp.tried() returns text language plpgsql as $f$
             declare state text; message text; hint text;
             begin
               execute '{sql}';
               return 'it was done';
             exception when others then
               get stacked diagnostics state = returned_sqlstate, message = message_text, hint = pg_exception_hint;
               return state || ' ' || message || '; ' || hint;
             end $f$;
             select pg_temp.tried()"
        );
        self.cluster.sql("shop", &caught)
    }

    fn dump(&self) -> String {
        let dump = String::from_utf8(self.cluster.dump("shop", &[])).expect("UTF-8");
        let lines = dump.lines().filter(|line| !line.contains("restrict "));
        lines.collect::<Vec<_>>().join("\n")
    }
}

#[test]
fn on_and_off_is_identity_and_uninstalling_leaves_nothing() {
    let shop = Database::new();
    let bare = shop.dump();
    for _ in 0..2 {
        shop.script("04-quarantine.sql", &[]).works();
    }
    let installed = shop.dump();
    for arguments in [
        "'orders'",
        "'orders', freeze => true",
        "'orders', hide_from => '{reporting, app}'",
        "'orders', true, '{reporting}'",
    ] {
        shop.on(arguments);
        shop.on(arguments);
        shop.as_role(
            "owner",
            "do $$ begin perform firstbad.quarantine_off('orders'); end $$",
        );
        assert_eq!(shop.dump(), installed, "{arguments}");
    }
    // Both scripts that give rights on the schema can be run again after one another.
    shop.script("03-context.sql", &["grantee=app"]).works();
    shop.script("04-quarantine.sql", &[]).works();
    shop.script("03-context.sql", &["grantee=reporting"])
        .works();
    let may = "select has_schema_privilege('firstbad_quarantine', 'firstbad', 'usage'), has_schema_privilege('app', 'firstbad', 'usage')";
    assert_eq!(shop.as_role("owner", may), "t|f\n");
    shop.on("'orders', true, '{reporting}'");
    shop.on("'shipments'");
    shop.as_role("firstbad_quarantine", APART);
    shop.script("99-uninstall.sql", &[])
        .fails("rows are set apart by I-3");
    let off = "select firstbad.quarantine_off('orders')";
    let said = shop.refuses("owner", off);
    assert!(
        said.contains("rows of public.orders are set apart by I-3"),
        "{said}"
    );
    shop.script("99-uninstall.sql", &["set_apart=release"])
        .works();
    assert_eq!(shop.dump(), bare);
    let roles = "select count(*) from pg_roles where rolname ~ '^firstbad'";
    assert_eq!(shop.cluster.sql("shop", roles), "0\n");
    shop.script("99-uninstall.sql", &[]).works();
}

#[test]
fn a_frozen_row_is_not_written_and_the_others_are() {
    let shop = Database::new();
    shop.script("04-quarantine.sql", &[]).works();
    shop.on("'orders', freeze => true");
    shop.as_role("app", "update orders set note = 'before' where id = 4");
    shop.as_role("firstbad_quarantine", APART);
    for write in [
        "update orders set note = 'x' where id = 4",
        "update orders set id = 400 where id = 4",
        "update orders set id = 4 where id = 5",
        "update orders set note = 'x'",
        "delete from orders where id = 4",
        "insert into orders values (4, 'placed') on conflict do nothing",
    ] {
        let said = shop.refuses("app", write);
        let text = "FBQ01 a row of public.orders is set apart by firstbad incident I-3";
        assert!(
            said.starts_with(text) && said.contains("release I-3"),
            "{write}: {said}"
        );
    }
    let said = shop.refuses("owner", "truncate orders");
    assert!(
        said.starts_with("FBQ01 rows of public.orders are set apart"),
        "{said}"
    );
    shop.as_role("app", "update orders set note = 'x' where id <> 4; delete from orders where id = 5; insert into orders values (99, 'placed')");
    let count = "select count(*) from clean.orders; select note from orders where id = 4";
    assert_eq!(shop.as_role("app", count), "49\nbefore\n");
    shop.as_role(
        "firstbad_quarantine",
        "do $$ begin perform firstbad.quarantine_release('s', 'I-3'); end $$",
    );
    shop.as_role("app", "update orders set note = 'after' where id = 4");
    shop.as_role("owner", "truncate orders");
}

#[test]
fn rows_are_hidden_from_the_named_roles_only() {
    let shop = Database::new();
    shop.script("04-quarantine.sql", &[]).works();
    shop.on("'orders', hide_from => '{reporting}'");
    let count = "select count(*) from orders";
    let counts = || ["reporting", "app", "owner"].map(|role| shop.as_role(role, count));
    assert_eq!(counts(), ["50\n", "50\n", "50\n"]);
    shop.as_role("firstbad_quarantine", APART);
    assert_eq!(counts(), ["49\n", "50\n", "50\n"]);
    assert_eq!(
        shop.as_role("app", "select count(*) from clean.orders"),
        "49\n"
    );
    // Who hides nothing may do what he could.
    shop.as_role("app", "update orders set note = 'x' where id = 4; insert into orders values (99, 'placed'); delete from orders where id = 5");
    assert_eq!(counts(), ["49\n", "50\n", "50\n"]);
    // A function of somebody's own sees no row that is set apart.
    let leak =
        "create function pg_temp.leak(id bigint) returns boolean language plpgsql cost 0.0001 as
                $$ begin if id = 4 then raise exception 'seen'; end if; return true; end $$;
                select count(*) from clean.orders where pg_temp.leak(id)";
    assert_eq!(shop.as_role("app", leak), "49\n");
    shop.as_role(
        "firstbad_quarantine",
        "do $$ begin perform firstbad.quarantine_release('s', null); end $$",
    );
    assert_eq!(counts(), ["50\n", "50\n", "50\n"]);
}

#[test]
fn policies_of_others_stay_as_they_are() {
    let shop = Database::new();
    shop.script("04-quarantine.sql", &[]).works();
    shop.as_role(
        "owner",
        "create policy cheap on orders for select to app using (total < 20)",
    );
    let said = shop.refuses(
        "owner",
        "select firstbad.quarantine_on('orders', hide_from => '{reporting}')",
    );
    assert!(
        said.contains("has policies that are not in force"),
        "{said}"
    );
    shop.as_role("owner", "alter table orders enable row level security");
    let before = shop.dump();
    shop.on("'orders', hide_from => '{app}'");
    shop.as_role("firstbad_quarantine", APART);
    let counts = "select count(*) from orders; select count(*) from clean.orders";
    assert_eq!(
        shop.as_role("app", counts),
        "17\n17\n",
        "both policies, also in the view"
    );
    assert_eq!(
        shop.as_role("reporting", counts),
        "0\n0\n",
        "no policy lets it in"
    );
    shop.as_role(
        "firstbad_quarantine",
        "do $$ begin perform firstbad.quarantine_release('s', 'I-3'); end $$",
    );
    shop.as_role(
        "owner",
        "do $$ begin perform firstbad.quarantine_off('orders'); end $$",
    );
    assert_eq!(shop.dump(), before);
}

#[test]
fn what_cannot_be_switched_on_is_refused() {
    let shop = Database::new();
    shop.script("04-quarantine.sql", &[]).works();
    shop.as_role(
        "owner",
        "create table events (id bigint, day date, primary key (id, day)) partition by range (day);
         create table events_1 partition of events for values from ('2026-01-01') to ('2027-01-01');
         create table parents (id bigint primary key); create table children () inherits (parents);
         create view some_orders as select * from orders; create schema sales; create table sales.orders (id bigint primary key);
         create table \"sales.orders\" (id bigint primary key);",
    );
    for (arguments, text) in [
        ("'scans'", "has no primary key"),
        ("'events_1'", "name its table, public.events"),
        ("'parents'", "other tables inherit from public.parents"),
        ("'some_orders'", "no table whose rows can be set apart"),
        (
            "'firstbad.quarantine'",
            "no table whose rows can be set apart",
        ),
        (
            "'orders', hide_from => '{nobody_here}'",
            "no role nobody_here",
        ),
        (
            "'orders', hide_from => '{owner}'",
            "nothing can be hidden from role owner",
        ),
        (
            "'orders', hide_from => '{postgres}'",
            "nothing can be hidden from role postgres",
        ),
    ] {
        let said = shop.refuses(
            "owner",
            &format!("select firstbad.quarantine_on({arguments})"),
        );
        assert!(said.contains(text), "{arguments}: {said}");
    }
    shop.on("'sales.orders'");
    let said = shop.refuses("owner", "select firstbad.quarantine_on('\"sales.orders\"')");
    assert!(said.contains("it is not the view of"), "{said}");
    shop.on("'orders'");
    shop.on("'events', freeze => true");
    // The role may call three functions, and nothing else.
    for sql in [
        "select * from orders",
        "select * from firstbad.quarantine",
        "delete from firstbad.quarantine_tables",
        "select firstbad.quarantine_off('orders')",
        "select firstbad.quarantine_on('orders')",
        "select * from firstbad_private.quarantined_keys('orders')",
    ] {
        let said = shop.refuses("firstbad_quarantine", sql);
        assert!(said.starts_with("42501"), "{sql}: {said}");
    }
    let said = shop.refuses("app", "select * from firstbad.quarantine_status('s')");
    assert!(said.starts_with("42501"), "{said}");
}

#[test]
fn a_partitioned_table_and_one_that_changes_its_shape() {
    let shop = Database::new();
    shop.script("04-quarantine.sql", &[]).works();
    shop.as_role(
        "owner",
        "create table events (id bigint, day date, kind text, primary key (id, day)) partition by range (day);
         create table events_1 partition of events for values from ('2026-01-01') to ('2026-07-01');
         create table events_2 partition of events for values from ('2026-07-01') to ('2027-01-01');
         insert into events values (1, '2026-03-01', 'a'), (1, '2026-08-01', 'a'), (2, '2026-03-01', 'a');
         grant all on events, events_1 to app",
    );
    shop.on("'events', freeze => true");
    let rows = "[{\"key\": {\"id\": \"1\", \"day\": \"2026-08-01\"}, \"image\": {\"kind\": \"a\"}},
                 {\"key\": {\"day\": \"2026-03-01\", \"id\": \"2\"}, \"image\": {\"kind\": \"a\"}}]";
    let apart = format!(
        "select outcome from firstbad.quarantine_rows('s', 'I-3', 'public', 'events', '{rows}', true)"
    );
    assert_eq!(
        shop.as_role("firstbad_quarantine", &apart),
        "set_apart\nset_apart\n"
    );
    assert_eq!(
        shop.as_role("app", "select id, day from clean.events"),
        "1|2026-03-01\n"
    );
    for write in [
        "update events_1 set kind = 'b' where id = 2",
        "update events set day = '2026-09-01' where id = 2",
        "delete from events",
    ] {
        let said = shop.refuses("app", write);
        assert!(
            said.contains("set apart by firstbad incident I-3"),
            "{write}: {said}"
        );
    }
    // A column comes; the view has it after the table is switched on again.
    shop.as_role("owner", "alter table events add column note text");
    shop.on("'events', freeze => true");
    assert_eq!(
        shop.as_role("app", "select note is null from clean.events"),
        "t\n"
    );
    let said = shop.refuses("owner", "alter table events drop column note");
    assert!(said.contains("cannot drop"), "the view holds it: {said}");
    // A table that is gone leaves nothing behind that stops anybody.
    shop.as_role("owner", "drop table events cascade");
    shop.on("'orders'");
    assert_eq!(
        shop.as_role("owner", "select view from firstbad.quarantine_tables"),
        "orders\n"
    );
    shop.script("99-uninstall.sql", &[]).works();
}
