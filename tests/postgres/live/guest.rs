//! What a role may not see, commands that need more than one state, and what is shown of a URL.

use serde_json::Value;

use crate::place::Place;
use crate::postgres::Cluster;

const SCHEMA: &str = "
    create schema sales;
    create table orders (id integer primary key, status text, secret text, total numeric(12,2));
    insert into orders values (1, 'paid', 'canary-value', 10), (2, 'lost', 'canary-value', 20);
    create table sales.hidden (id integer primary key, v text);
    insert into sales.hidden values (1, 'x');
    create table guarded (id integer primary key, who text);
    insert into guarded values (1, 'reader'), (2, 'postgres');
    alter table guarded enable row level security;
    create policy own on guarded using (who = current_user);
    create role reader login; create role nobody_at_all login;
    grant select (id, status) on orders to reader; grant select on guarded to reader;
    create view seen as select * from orders;";

const RULES: &str = "
rules:
  - {id: status, table: orders, accepted_values: {column: status, values: [paid]}}
  - {id: many, table: orders, row_count: {min: 1}}
";

fn as_role(url: &str, role: &str) -> String {
    url.replacen("postgres@", &format!("{role}@"), 1)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn a_guest_reads_what_it_needs_and_says_what_it_may_not() {
    let cluster = Cluster::start();
    cluster.sql("postgres", "create database shop");
    cluster.sql("shop", SCHEMA);
    let (url, place) = (
        cluster.url("shop"),
        Place::new().with("rules/r.yaml", RULES),
    );
    let reader = as_role(&url, "reader");
    only_what_is_needed(&place, &reader);
    what_is_denied(&place, &reader, &url);
    one_state(&place, &url);
    what_is_shown(&place, &cluster, &url);
    other_commands(&place, &cluster, &url);
}

/// The role may read two columns of one table, and that is enough.
fn only_what_is_needed(place: &Place, reader: &str) {
    let ran = place.check(&[reader]).exits(1);
    assert_eq!(ran.err, "");
    let report = json(&ran.out);
    assert_eq!(report["rules"][0]["sample"][0]["key"]["id"], 2);
    assert_eq!(report["rules"][1]["verdict"], "held");
    assert_eq!(report["at"]["commit"], Value::Null);
    assert!(report["at"]["lsn"].is_string() && report["at"]["time"].is_string());
    let ran = place.run(&[
        "sql",
        reader,
        "select count(*) as n from orders",
        "--format",
        "csv",
    ]);
    assert_eq!(ran.exits(0).out, "n\n2\n");
    let ran = place.run(&[
        "sql",
        reader,
        "select status from orders order by id",
        "--format",
        "csv",
    ]);
    assert_eq!(ran.exits(0).out, "status\npaid\nlost\n");
}

fn what_is_denied(place: &Place, reader: &str, url: &str) {
    let ask = |query: &str| place.run(&["sql", reader, query]);
    let ran = ask("select total from orders").exits(3).warns(&[
        "role reader may not read orders (\"total\")",
        "grant select (\"total\") on \"public\".\"orders\" to \"reader\"",
    ]);
    assert_eq!(ran.out, "");
    ask("select o.id from orders o join sales.hidden h on h.id = o.id")
        .exits(3)
        .warns(&[
            "may not read sales.hidden",
            "grant usage on schema \"sales\" to \"reader\"",
            "grant select on \"sales\".\"hidden\" to \"reader\"",
        ]);
    // Fewer rows than there are would be judged.
    ask("select count(*) from guarded")
        .exits(3)
        .warns(&["row security hides rows of table guarded"]);
    let ran = place.run(&[
        "sql",
        url,
        "select count(*) as n from guarded",
        "--format",
        "csv",
    ]);
    assert_eq!(ran.exits(0).out, "n\n2\n");
    place
        .run(&["snapshot", reader, "--store", "denied"])
        .exits(3)
        .warns(&["row security"]);
    let stranger = as_role(url, "nobody_at_all");
    place
        .check(&[&stranger])
        .exits(3)
        .warns(&["role nobody_at_all may not read orders"]);
    // A view is no table, and a mistake is one before anything is read.
    place.run(&["sql", url, "select * from seen"]).exits(2);
    place
        .run(&["sql", url, "select nothing from orders"])
        .exits(2)
        .warns(&["nothing"]);
    place.write(
        "wrong/r.yaml",
        "rules:\n  - {table: orders, not_null: [stats]}\n",
    );
    place
        .run(&["check", reader, "--rules", "wrong"])
        .refused(&["stats", "status"]);
}

fn one_state(place: &Place, url: &str) {
    for at in ["#0", "#3", "0/16B3748", "-10m", "2026-01-01"] {
        place.check(&[url, "--at", at]).refused(&[
            "--at",
            "no position of a live database",
            "watch",
        ]);
    }
    place.check(&[url, "--at", "latest"]).exits(1);
    place.run(&["bisect", url]).refused(&[
        "is a live database: it has one state and no history",
        "watch",
    ]);
    place
        .run(&["bisect", url, "--run", "true"])
        .refused(&["live database"]);
    place
        .run(&["record", url, "--store", "s"])
        .refused(&["one state", "firstbad snapshot"]);
    place
        .run(&["diff", url, "#1", "latest"])
        .refused(&["one state"]);
    place
        .check(&[url, "orders.csv"])
        .refused(&["together with other sources"]);
    place.write(
        "writes/r.yaml",
        "rules:\n  - {table: orders, append_only: true}\n",
    );
    let ran = place.check(&[url, "--rules", "writes"]).exits(4);
    assert!(ran.out.contains("the source has no changes"), "{}", ran.out);
}

/// A password in the URL is shown nowhere.
fn what_is_shown(place: &Place, cluster: &Cluster, url: &str) {
    let secret = url.replacen("postgres@", "postgres:canary-password@", 1);
    let gone = secret.replace("/shop", "/nosuchdatabase");
    place.write("set/firstbad.yaml", "source: ${PGURL}\nrules: ../rules\n");
    let set = ["--config", "set/firstbad.yaml"];
    let by_config = |arguments: &[&str], url: &str| {
        place.run_with(&[&set, arguments].concat(), &[("PGURL", url)])
    };
    let runs = [
        place.check(&[&secret]),
        place.run(&["check", &secret]),
        place.run(&["-v", "check", &secret]),
        place.run(&["check", &gone]),
        place.run(&["check", &secret, "--rules", "nowhere"]),
        place.run(&["bisect", &secret]),
        place.run(&["snapshot", &secret, "--store", "shown"]),
        place.run(&["status", "--store", "shown"]),
        place.run(&["sql", &secret, "select 1"]),
        place.run(&["diff", &secret, &secret]),
        by_config(&["check"], &secret),
        by_config(&["check", "--format", "json"], &secret),
        by_config(&["bisect"], &gone),
        by_config(&["check"], &gone),
    ];
    for ran in &runs {
        assert!(
            !ran.out.contains("canary-password") && !ran.err.contains("canary-password"),
            "{ran:?}"
        );
    }
    let report = json(&runs[0].out);
    let source = report["source"].as_str().unwrap_or_default();
    assert!(
        source.starts_with("postgres") && source.contains("/shop"),
        "{source}"
    );
    assert_eq!(runs[3].code, 3, "{:?}", runs[3]);
    assert!(runs[3].err.contains("nosuchdatabase"), "{:?}", runs[3]);
    let nobody = url.replace(&format!(":{}/", cluster.port()), ":1/");
    place.check(&[&nobody]).exits(3);
    place
        .check(&["postgres://localhost/x?sslmod=disable"])
        .refused(&["sslmode"]);
    assert_eq!((runs[10].code, runs[13].code), (1, 3), "{:?}", runs[10]);
}

fn other_commands(place: &Place, cluster: &Cluster, url: &str) {
    place.write("dump.sql", cluster.dump("shop", &[]));
    let ran = place.run(&["diff", url, "dump.sql", "--exit-code"]);
    assert_eq!(ran.exits(0).err, "");
    let ran = place
        .run(&["snapshot", url, "--store", "kept", "--format", "json"])
        .exits(0);
    assert_eq!(json(&ran.out)["at"], 0);
    let ran = place.run(&["diff", url, "kept", "--exit-code"]).exits(0);
    assert_eq!(ran.err, "");
    cluster.sql("shop", "update orders set total = 21 where id = 2");
    place
        .run(&["diff", url, "dump.sql", "--exit-code", "--table", "orders"])
        .exits(1);
    place.run(&["snapshot", url, "--store", "kept"]).exits(0);
    let ran = place.run(&[
        "sql",
        "kept",
        "select total from orders order by id",
        "--format",
        "csv",
    ]);
    assert_eq!(ran.exits(0).out, "total\n10.00\n21.00\n");
    place.run(&["verify", "kept"]).exits(0);
    let ran = place.run(&["rules", "explain", "status", "--source", url]);
    assert!(ran.code == 0 || ran.code == 2, "{ran:?}");
}
