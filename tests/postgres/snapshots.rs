//! Watching by snapshots: what came of the writes between two of them is judged, and nothing more is claimed.

use serde_json::Value;

use crate::place::{Place, Ran};
use crate::postgres::Cluster;
use crate::watcher::{Watcher, get};

const TABLES: &str = "
create table orders (id integer primary key, status text not null, at timestamptz not null default now(), secret text);
create table ledger (id integer primary key, amount numeric(10,2));
create table unkeyed (a integer, b text);
insert into orders (id, status) values (1, 'paid'), (2, 'lost');
insert into ledger values (1, 1.50), (2, 2.50);
insert into unkeyed values (1, 'x'), (1, 'x');
create role reader login; grant select (id, status, at) on orders to reader; grant select on ledger, unkeyed to reader;
";

const RULES: &str = "
rules:
  - {id: odd-status, table: orders, accepted_values: {column: status, values: [placed, paid]}}
  - {id: ledger-changed, table: ledger, append_only: true}
  - {id: few, table: unkeyed, row_count: {max: 3}}
";

fn as_role(url: &str, role: &str) -> String {
    url.replacen("postgres@", &format!("{role}@"), 1)
}

/// One round of a watch.
fn round(place: &Place, url: &str) -> Ran {
    let arguments = [
        "watch",
        url,
        "--mode",
        "snapshots",
        "--store",
        "s",
        "--rules",
        "r.yaml",
        "--until-now",
    ];
    place.run(&arguments).exits(0)
}

fn head(place: &Place) -> Value {
    let ran = place.check(&["s", "--rules", "r.yaml"]);
    assert!(ran.code == 0 || ran.code == 1, "{ran:?}");
    ran.json()["at"]["commit"].clone()
}

fn incidents(place: &Place) -> Vec<Value> {
    let list = [
        "incident", "list", "--store", "s", "--all", "--format", "json",
    ];
    let document = place.run(&list).exits(0).json();
    let mut incidents = document["incidents"].as_array().expect("incidents").clone();
    incidents.sort_by_key(|one| one["id"].to_string());
    incidents
}

fn of<'a>(incidents: &'a [Value], rule: &str) -> Vec<&'a Value> {
    incidents
        .iter()
        .filter(|one| one["rules"][0] == rule)
        .collect()
}

#[test]
fn what_came_of_the_writes_between_two_snapshots_is_judged() {
    let cluster = Cluster::start();
    cluster.sql("postgres", "create database shop");
    cluster.sql("shop", TABLES);
    let url = as_role(&cluster.url("shop"), "reader");
    let place = Place::new().with("r.yaml", RULES);

    let ran = round(&place, &url);
    assert!(
        ran.err.contains("no logical replication") && ran.err.contains("bounded by two snapshots"),
        "{ran:?}"
    );
    assert!(ran.err.contains("watching from #0"), "{ran:?}");
    assert!(ran.out.contains("bad before it was watched"), "{ran:?}");
    assert_eq!(head(&place), 0);
    // Nothing changed, or nothing came of it: no commit.
    round(&place, &url);
    cluster.sql("shop", "insert into ledger values (9, 9); delete from ledger where id = 9; update orders set status = status");
    let ran = round(&place, &url);
    assert_eq!((ran.out.as_str(), head(&place)), ("", Value::from(0)));

    cluster.sql("shop", "update orders set status = 'shredded' where id = 1; update orders set status = 'paid' where id = 2");
    cluster.sql(
        "shop",
        "update ledger set amount = 7 where id = 2; insert into unkeyed values (1, 'x'), (2, 'y')",
    );
    let ran = round(&place, &url);
    assert!(
        ran.out
            .contains("odd-status opened: 1 key; first bad write after #0, by #1 "),
        "{ran:?}"
    );
    assert!(ran.out.contains("ledger-changed opened"), "{ran:?}");
    assert!(ran.out.contains("few opened"), "{ran:?}");
    let found = incidents(&place);
    for rule in ["odd-status", "ledger-changed", "few"] {
        let one = *of(&found, rule).last().expect("an incident");
        assert_eq!(
            (&one["certainty"], &one["last_good"]["commit"]),
            (&"bounded".into(), &0.into()),
            "{one}"
        );
        assert_eq!(
            (&one["first_bad"]["commit"], &one["first_bad"]["xid"]),
            (&1.into(), &Value::Null),
            "{one}"
        );
    }
    let before = of(&found, "odd-status")[0];
    assert_eq!(
        (&before["certainty"], &before["state"]),
        (&"pre_existing".into(), &"closed".into())
    );
    let list = place.run(&["incident", "list", "--store", "s"]).exits(0);
    assert!(list.out.contains("after #0, by #1"), "{list:?}");

    // What was said is not said again.
    let ran = round(&place, &url);
    assert_eq!((ran.out.as_str(), head(&place)), ("", Value::from(1)));
    cluster.sql("shop", "update orders set status = 'paid'");
    let ran = round(&place, &url);
    assert!(ran.out.contains("odd-status closed"), "{ran:?}");
    place.run(&["verify", "s"]).exits(0);
    // A column that came later is passed over; one that is another now ends the watch.
    cluster.sql("shop", "alter table orders add column later text default 'x'; update orders set status = 'gone' where id = 1");
    let ran = round(&place, &url);
    assert!(ran.out.contains("odd-status opened"), "{ran:?}");
    cluster.sql("shop", "alter table ledger alter column amount type text");
    let again = [
        "watch",
        &url,
        "--mode",
        "snapshots",
        "--store",
        "s",
        "--rules",
        "r.yaml",
        "--until-now",
    ];
    place
        .run(&again)
        .exits(2)
        .warns(&["column amount of ledger is no longer what the store holds"]);
}

#[test]
fn a_watcher_of_snapshots_comes_back_when_the_server_does() {
    let cluster = Cluster::start();
    cluster.sql("postgres", "create database shop");
    cluster.sql("shop", TABLES);
    let url = cluster.url("shop");
    let stale = "  - {id: stale, table: orders, fresh: {column: at, max_age: 4s}}\n";
    let place = Place::new().with("r.yaml", format!("{RULES}{stale}"));
    cluster.sql("shop", "update orders set status = 'paid', at = now()");
    let arguments = [
        &url,
        "--mode",
        "snapshots",
        "--every",
        "200ms",
        "--store",
        "s",
        "--rules",
        "r.yaml",
        "--listen",
        "127.0.0.1:0",
    ];
    let mut watcher = Watcher::start(&place.path("."), &arguments);
    let listening = watcher.says(&["listening on http://"]);
    let address = listening
        .trim_start_matches("listening on http://")
        .to_owned();
    watcher.says(&["watching from #0"]);
    // Time alone makes it stale: there is no commit that did.
    watcher.says(&["stale opened"]);
    cluster.sql("shop", "update orders set status = 'lost' where id = 2");
    watcher.says(&["odd-status opened: 1 key; first bad write after #0, by #1"]);
    let health = get(&address, "/healthz");
    assert!(
        health.contains(" 200 ") && health.contains("\"judged\":1"),
        "{health}"
    );
    let metrics = get(&address, "/metrics");
    assert!(metrics.contains("firstbad_judged_commit 1"), "{metrics}");
    assert!(
        metrics.contains("firstbad_verdict{rule=\"odd-status\"} 1"),
        "{metrics}"
    );

    assert!(cluster.stop("immediate", 30), "it stops");
    watcher.says(&["the tables cannot be read", "trying again"]);
    cluster.run();
    cluster.sql(
        "shop",
        "update orders set status = 'paid', at = now() where id = 2",
    );
    watcher.says(&["odd-status closed"]);
    // Somebody else cannot fill the same store.
    let again = [
        "watch",
        &url,
        "--mode",
        "snapshots",
        "--store",
        "s",
        "--rules",
        "r.yaml",
        "--until-now",
    ];
    assert_ne!(place.run(&again).code, 0);
    let (code, said) = watcher.stop();
    assert_eq!(code, Some(0), "{said}");
    let found = incidents(&place);
    assert_eq!(of(&found, "odd-status").len(), 1, "{found:?}");
}

#[test]
fn a_store_is_filled_in_one_way() {
    let cluster = Cluster::start();
    cluster.sql("postgres", "create database shop");
    cluster.sql("shop", TABLES);
    let url = cluster.url("shop");
    let rules =
        "rules:\n  - {id: odd, table: orders, accepted_values: {column: status, values: [paid]}}\n";
    let place = Place::new().with("r.yaml", rules);
    let watch = |store: &str, mode: &str| {
        place.run(&[
            "watch",
            &url,
            "--mode",
            mode,
            "--store",
            store,
            "--rules",
            "r.yaml",
            "--until-now",
        ])
    };
    watch("snapshots", "snapshots").exits(0);
    watch("snapshots", "stream").refused(&["the store holds snapshots", "--mode snapshots"]);
    // Another table is no part of the store, and all of its tables are watched.
    let other = "  - {id: few, table: unkeyed, row_count: {max: 3}}\n";
    place.write("r.yaml", format!("{rules}{other}"));
    watch("snapshots", "snapshots")
        .exits(2)
        .warns(&["table unkeyed, which the store does not hold"]);
    place.write("r.yaml", rules);
    watch("stream", "stream").exits(0);
    watch("stream", "snapshots")
        .exits(2)
        .warns(&["the store holds recorded transactions", "--mode stream"]);
    place
        .run(&[
            "watch", &url, "--every", "5m", "--store", "x", "--rules", "r.yaml",
        ])
        .refused(&["--every is for snapshots"]);
    place
        .run(&["audit", &url, "--store", "snapshots"])
        .refused(&["not recorded by `firstbad watch` in the mode stream"]);
}
