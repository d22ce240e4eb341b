//! What a database administrator runs before a watcher comes, and after it went.

use serde_json::Value;

use crate::place::Place;
use crate::postgres::Cluster;
use crate::psql::{file, url};

const TABLES: &str = "
create role owner login;
create role app login;
grant create on database shop to owner;
create schema sales authorization owner;
set role owner;
create table sales.customers (id bigint primary key, name text not null);
create table sales.\"Orders\" (id bigint primary key, customer_id bigint not null, status text not null);
create table sales.events (id bigint, day date, kind text not null, primary key (id, day)) partition by range (day);
create table sales.events_1 partition of sales.events for values from ('2026-01-01') to ('2026-07-01');
create table sales.events_2 partition of sales.events for values from ('2026-07-01') to ('2027-01-01');
create table sales.secrets (id bigint primary key, word text);
create table sales.loose (word text);
grant usage on schema sales to app;
grant all on all tables in schema sales to app;
insert into sales.customers values (1, 'Ann');
insert into sales.\"Orders\" values (1, 1, 'placed');
insert into sales.events values (1, '2026-03-01', 'login');
";

const RULES: &str = "
rules:
  - {id: order-of-nobody, table: sales.Orders, references: {column: customer_id, to: sales.customers.id}}
  - {id: odd-kind, table: sales.events, accepted_values: {column: kind, values: [login, logout]}}
";

const WATCHED: &str = "tables=sales.customers, sales.\"Orders\", sales.events";

/// Tables without what they hold, as a dump has them.
fn schema(cluster: &Cluster) -> String {
    let dump = cluster.dump("shop", &["--schema-only"]);
    let dump = String::from_utf8(dump).expect("UTF-8");
    // Newer programs mark their dumps with a word that is another one each time.
    let lines = dump.lines().filter(|line| !line.contains("restrict "));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn what_the_scripts_make_is_enough_to_watch_and_is_taken_away_again() {
    let cluster = Cluster::start();
    cluster.sql("postgres", "create database shop");
    cluster.sql("shop", TABLES);
    let before = schema(&cluster);

    the_tables_must_be_named(&cluster);
    each_can_be_run_twice(&cluster);
    the_role_may_do_no_more(&cluster);
    a_context_reaches_the_incident(&cluster);
    a_column_that_came_later_is_passed_over(&cluster);
    what_is_not_named_any_more_is_taken_back(&cluster);
    nothing_of_others_is_taken_away(&cluster);

    file(&cluster, "postgres", "shop", "99-uninstall.sql", &[]).works();
    assert_eq!(schema(&cluster), before, "nothing is left in the database");
    let left = cluster.sql(
        "shop",
        "select count(*) from pg_roles where rolname = 'firstbad_watch'; select count(*) from pg_replication_slots;
         select count(*) from pg_publication",
    );
    assert_eq!(left, "0\n0\n0\n");
    file(&cluster, "postgres", "shop", "99-uninstall.sql", &[]).works();
}

fn the_tables_must_be_named(cluster: &Cluster) {
    for name in ["01-roles.sql", "02-publication.sql"] {
        file(cluster, "postgres", "shop", name, &[]).fails("name the tables");
        file(cluster, "postgres", "shop", name, &["tables= , "]).fails("no table is named");
        let missing = ["tables=sales.customers, sales.nowhere"];
        file(cluster, "postgres", "shop", name, &missing).fails("\"sales.nowhere\" does not exist");
    }
    let loose = ["tables=sales.loose, sales.customers"];
    file(cluster, "owner", "shop", "02-publication.sql", &loose)
        .fails("UPDATE and DELETE would fail in sales.loose");
    let made = "select count(*) from pg_publication; select count(*) from pg_roles where rolname ~ 'firstbad'";
    assert_eq!(cluster.sql("shop", made), "0\n0\n", "everything or nothing");
}

fn each_can_be_run_twice(cluster: &Cluster) {
    for _ in 0..2 {
        file(cluster, "postgres", "shop", "01-roles.sql", &[WATCHED]).works();
        file(cluster, "owner", "shop", "02-publication.sql", &[WATCHED]).works();
        file(cluster, "owner", "shop", "03-context.sql", &[]).works();
    }
    let published = "select string_agg(tablename, ' ' order by tablename), (select pubviaroot from pg_publication)
                     from pg_publication_tables where pubname = 'firstbad'";
    assert_eq!(
        cluster.sql("shop", published),
        "Orders customers events|t\n"
    );
}

fn the_role_may_do_no_more(cluster: &Cluster) {
    let asked = "
        select rolcanlogin, rolreplication, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls
          from pg_roles where rolname = 'firstbad_watch';
        select string_agg(c.relname, ' ' order by c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = 'sales' and c.relkind in ('r', 'p') and has_table_privilege('firstbad_watch', c.oid, 'select');
        select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = 'sales' and c.relkind in ('r', 'p')
           and has_table_privilege('firstbad_watch', c.oid, 'insert, update, delete, truncate')";
    assert_eq!(
        cluster.sql("shop", asked),
        "t|t|f|f|f|f\nOrders customers events\n0\n"
    );
}

fn a_context_reaches_the_incident(cluster: &Cluster) {
    let place = Place::new().with("rules.yaml", RULES);
    let url = url(cluster, "firstbad_watch", "shop");
    let watch = [
        "watch",
        &url,
        "--store",
        "store",
        "--rules",
        "rules.yaml",
        "--until-now",
    ];
    place
        .run(&["doctor", &url, "--rules", "rules.yaml"])
        .exits(0)
        .says(&["watching   can begin"]);
    place.run(&watch).exits(0);
    // An application that may write, and was told of nothing but the function.
    cluster.sql(
        "shop",
        "set role app;
         begin;
         select firstbad.context('{\"service\": \"checkout\", \"version\": \"v1\"}');
         insert into sales.\"Orders\" values (7, 99, 'placed');
         select firstbad.context('{\"version\": \"v2.14.0\", \"trace_id\": \"4bf9\"}');
         select firstbad.context(null);
         commit;
         update sales.events set kind = 'logoff' where id = 1;",
    );
    place.run(&watch).exits(0);
    let listed = place.run(&["incident", "list", "--store", "store", "--format", "json"]);
    let listed: Value = serde_json::from_str(&listed.exits(0).out).expect("JSON");
    let of = |rule: &str| {
        let all = listed["incidents"].as_array().expect("a list");
        let one = all.iter().find(|one| one["rules"][0] == rule);
        one.unwrap_or_else(|| panic!("an incident of {rule}: {listed}"))["first_bad"].clone()
    };
    let first = of("order-of-nobody");
    assert_eq!(
        first["context"],
        serde_json::json!({"service": "checkout", "version": "v2.14.0", "trace_id": "4bf9"}),
        "{first}"
    );
    let other = of("odd-kind");
    assert!(
        other["commit"].is_u64() && other["context"]["service"].is_null(),
        "{other}"
    );
    let wrong = "do $$ begin perform firstbad.context('[1]'); exception when invalid_parameter_value then
                 raise notice 'refused'; return; end; $$;
                 do $$ begin begin perform firstbad.context('[1]'); exception when invalid_parameter_value then return; end;
                 raise exception 'a list was taken'; end $$";
    cluster.sql("shop", wrong.split_once("$$;").expect("two statements").1);
}

/// Also where the watcher was away meanwhile, and the column is one that nobody reads.
fn a_column_that_came_later_is_passed_over(cluster: &Cluster) {
    let place = Place::new().with("rules.yaml", RULES);
    let url = url(cluster, "firstbad_watch", "shop");
    let watch = [
        "watch",
        &url,
        "--slot",
        "later",
        "--store",
        "store",
        "--rules",
        "rules.yaml",
        "--until-now",
    ];
    place.run(&watch).exits(0);
    let added =
        "alter table sales.\"Orders\" add column note text default 'x', add column code int";
    cluster.sql("shop", added);
    cluster.sql(
        "shop",
        "insert into sales.\"Orders\" values (8, 98, 'placed', 'y', 1)",
    );
    place.run(&watch).exits(0);
    let listed = place
        .run(&["incident", "list", "--store", "store"])
        .exits(0);
    listed.says(&["I-2", "order-of-nobody"]);
    cluster.sql(
        "shop",
        "select pg_drop_replication_slot('later'); alter table sales.\"Orders\" drop column note, drop column code",
    );
}

fn what_is_not_named_any_more_is_taken_back(cluster: &Cluster) {
    let fewer = ["tables=sales.customers"];
    file(cluster, "postgres", "shop", "01-roles.sql", &fewer).works();
    let asked = "select string_agg(relname, ' ') from pg_class where relkind in ('r', 'p') and relnamespace = 'sales'::regnamespace
                 and has_table_privilege('firstbad_watch', oid, 'select')";
    assert_eq!(cluster.sql("shop", asked), "customers\n");
    file(cluster, "owner", "shop", "02-publication.sql", &fewer).works();
    let asked = "select string_agg(tablename, ' ') from pg_publication_tables";
    assert_eq!(cluster.sql("shop", asked), "customers\n");
    let granted = ["grantee=app"];
    file(cluster, "owner", "shop", "03-context.sql", &granted).works();
    let asked = "select has_function_privilege('app', 'firstbad.context(jsonb)', 'execute'),
                 has_function_privilege('firstbad_watch', 'firstbad.context(jsonb)', 'execute')";
    assert_eq!(cluster.sql("shop", asked), "t|f\n");
}

fn nothing_of_others_is_taken_away(cluster: &Cluster) {
    let uninstall = || file(cluster, "postgres", "shop", "99-uninstall.sql", &[]);
    cluster.sql("shop", "create table firstbad.mine (id int)");
    uninstall().fails("cannot drop schema firstbad");
    cluster.sql("shop", "drop table firstbad.mine; create table theirs (id int); alter table theirs owner to firstbad_watch");
    uninstall().fails("role firstbad_watch owns something");
    cluster.sql("shop", "drop table theirs; create database other");
    cluster.sql(
        "other",
        "create table theirs (id int); grant select on theirs to firstbad_watch",
    );
    uninstall().fails("is used in database other as well");
    cluster.sql("postgres", "drop database other");
    file(
        cluster,
        "postgres",
        "shop",
        "99-uninstall.sql",
        &["role=postgres"],
    )
    .fails("is no role of a watcher");
    let there = "select count(*) from pg_replication_slots where slot_name = 'firstbad';
                 select count(*) from pg_publication; select firstbad.context('{}') is null";
    assert_eq!(
        cluster
            .sql("shop", there)
            .lines()
            .take(2)
            .collect::<Vec<_>>(),
        ["1", "1"],
        "everything or nothing"
    );
}
