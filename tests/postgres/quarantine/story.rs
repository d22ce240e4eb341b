//! From an incident to rows that are set apart, and back.

use std::time::{Duration, Instant};

use super::{Shop, keys};
use crate::postgres::Cluster;
use crate::psql::url;
use crate::{run, session};

/// What takes longer hangs.
const LONGEST: Duration = Duration::from_secs(60);

#[test]
fn rows_are_set_apart_and_released_without_a_trace() {
    let shop = Shop::open();
    shop.switch_on("'orders', freeze => true, hide_from => '{reporting}'");
    shop.switch_on("'shipments'");
    shop.lose_shipments("3, 7, 9");
    shop.app("insert into shipments values (1, 9)");
    shop.watch();
    let before = shop.dump();
    planning_changes_nothing(&shop, &before);
    let applied = shop.json("apply", &["I-1", "--by", "ann"], 0);
    assert_eq!(keys(&applied, "rows", "id"), [3, 7], "{applied}");
    assert_eq!(
        (&applied["set_apart"], &applied["already"]),
        (&2.into(), &0.into())
    );
    assert_eq!(shop.state("I-1"), "quarantined");
    let clean = shop.orders("select id from clean.orders where id < 10 order by id");
    assert_eq!(clean, [1, 2, 4, 5, 6, 8, 9]);
    let again = shop.json("apply", &["I-1"], 0);
    assert_eq!(
        (&again["set_apart"], &again["already"]),
        (&0.into(), &2.into())
    );
    assert_eq!(shop.held(), 2);
    shop.quarantine("release", &["I-1"])
        .exits(0)
        .says(&["I-1: 2 rows are released: 2 of orders"]);
    assert_eq!(shop.state("I-1"), "open");
    assert_eq!(shop.dump(), before, "apply and release are identity");
    shop.quarantine("release", &["I-1"])
        .exits(0)
        .says(&["I-1: nothing was set apart"]);
    shop.quarantine("apply", &["I-1"]).exits(0);
    shop.quarantine("release", &["--all"])
        .exits(0)
        .says(&["all incidents: 2 rows"]);
    assert_eq!(shop.dump(), before);
    assert_eq!(shop.state("I-1"), "open");
}

fn planning_changes_nothing(shop: &Shop, before: &str) {
    let unasked = ["quarantine", "plan", "I-1", "--store", "store"];
    shop.place.run(&unasked).exits(0).says(&[
        "I-1: 2 rows would be set apart, 1 good again",
        "id = 3",
        "email = redacted:",
        "Nothing was changed. The rows are as the store knows them",
    ]);
    let planned = shop.quarantine("plan", &["i-1"]).exits(0);
    let planned = planned.says(&[
        "orders",
        "id = 7  since #1",
        "status = paid",
        "Nothing was changed.\n",
    ]);
    assert!(!planned.out.contains("@example.com"), "{}", planned.out);
    let document = shop.json("plan", &["I-1"], 0);
    assert_eq!(document["schema"], "firstbad/quarantine@1");
    assert_eq!(document["compared"], true);
    assert_eq!(document["passed_over"][0]["reason"], "healed");
    assert_eq!(shop.dump(), before, "a plan changes nothing");
    assert_eq!(shop.state("I-1"), "open");
    // The SQL does what `apply` does, in the columns that are not hidden.
    let sql = shop
        .quarantine("plan", &["I-1", "--format", "sql"])
        .exits(0)
        .out;
    assert!(
        !sql.contains("@example.com") && !sql.contains("email"),
        "{sql}"
    );
    let said = shop
        .cluster
        .sql("shop", &format!("set role firstbad_quarantine; {sql}"));
    assert_eq!(said, "1|set_apart\n2|set_apart\n");
    shop.quarantine("release", &["I-1"])
        .exits(0)
        .says(&["2 rows are released"]);
    assert_eq!(shop.dump(), before);
}

#[test]
fn what_has_changed_since_is_left_alone() {
    let shop = Shop::open();
    shop.switch_on("'orders'");
    shop.lose_shipments("3, 4, 5, 6");
    shop.app("update orders set note = 'seen' where id = 3; delete from orders where id = 4");
    let applied = shop.json("apply", &["I-1"], 1);
    assert_eq!(keys(&applied, "rows", "id"), [5, 6], "{applied}");
    let reasons: Vec<&str> = applied["passed_over"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["reason"].as_str().expect("a reason"))
        .collect();
    assert_eq!(reasons, ["changed", "gone"], "{applied}");
    // What the watcher has seen since is known again.
    shop.watch();
    let applied = shop.json("apply", &["I-1"], 0);
    assert_eq!(keys(&applied, "rows", "id"), [3, 5, 6], "{applied}");
    assert_eq!(
        (&applied["set_apart"], &applied["already"]),
        (&1.into(), &2.into())
    );
    let clean = shop.orders("select id from clean.orders where id < 8 order by id");
    assert_eq!(clean, [1, 2, 7]);
}

#[test]
fn a_writer_who_was_there_first_is_waited_for_and_its_row_is_left_alone() {
    let shop = Shop::open();
    shop.switch_on("'orders'");
    shop.lose_shipments("3, 4, 5");
    let applied = run(async {
        let other = session(&shop.source).await;
        let write = "begin; update orders set note = 'changed' where id = 4; update orders set id = 500 where id = 5";
        other
            .client()
            .batch_execute(write)
            .await
            .expect("it writes");
        let (directory, database) = (shop.place.path("."), shop.database.clone());
        let applying = std::thread::spawn(move || {
            let apply = [
                "quarantine",
                "apply",
                "I-1",
                &database,
                "--store",
                "store",
                "--format",
                "json",
            ];
            crate::place::run(&directory, &apply, &[])
        });
        let waits = "select count(*) from pg_stat_activity where usename = 'firstbad_quarantine' and wait_event_type = 'Lock'";
        let begun = Instant::now();
        while shop.cluster.sql("shop", waits) != "1\n" {
            let goes_on = begun.elapsed() < LONGEST && !applying.is_finished();
            assert!(goes_on, "it waits for the writer");
        }
        other
            .client()
            .batch_execute("commit")
            .await
            .expect("it commits");
        applying.join().expect("it ends")
    });
    let applied = applied.exits(1).json();
    assert_eq!(keys(&applied, "rows", "id"), [3], "{applied}");
    assert_eq!(
        shop.owner("select key ->> 'id' from firstbad.quarantine"),
        "3\n"
    );
}

#[test]
fn under_writers_no_row_is_set_apart_as_it_was_not_recorded() {
    let shop = Shop::open();
    shop.switch_on("'orders'");
    let all: Vec<String> = (1..=50).map(|id| id.to_string()).collect();
    shop.lose_shipments(&all.join(", "));
    let writing = {
        let arguments = ["-X", "-q", "-d", "shop", "-U", "app", "-c"];
        // Backwards, so that it meets the one who goes forwards.
        let work = "do $$ begin for i in reverse 50..1 loop update orders set note = note || i where id = i; commit; end loop; end $$";
        let arguments: Vec<String> = arguments
            .iter()
            .chain([&work])
            .map(|one| (*one).to_owned())
            .collect();
        let (directory, port) = (
            shop.cluster.directory().to_owned(),
            shop.cluster.port().to_string(),
        );
        std::thread::spawn(move || {
            let status = std::process::Command::new("psql")
                .args(arguments)
                .env("PGHOST", directory)
                .env("PGPORT", port)
                .status();
            assert!(status.expect("psql runs").success());
        })
    };
    let applied = shop.quarantine("apply", &["I-1", "--format", "json"]);
    writing.join().expect("the writer ends");
    assert!(applied.code == 0 || applied.code == 1, "{}", applied.err);
    let odd = "select count(*) from firstbad.quarantine where image ->> 'note' <> 'n' or image ->> 'status' <> 'paid'";
    assert_eq!(shop.owner(odd), "0\n");
    let document = applied.json();
    let listed = keys(&document, "rows", "id").len() + keys(&document, "passed_over", "id").len();
    assert_eq!(listed, 50, "every row is accounted for");
    assert_eq!(shop.held() as usize, keys(&document, "rows", "id").len());
}

#[test]
fn what_is_not_switched_on_is_refused() {
    let shop = Shop::of(super::SHOP, super::RULES);
    shop.lose_shipments("3, 7");
    let bare = shop.dump();
    let nobody = [
        "quarantine",
        "apply",
        "I-1",
        &shop.source,
        "--store",
        "store",
    ];
    shop.place.run(&nobody).refused(&[
        "quarantine is not set up in this database",
        "sql/04-quarantine.sql",
    ]);
    assert_eq!(shop.dump(), bare);
    shop.install();
    let before = shop.dump();
    // Its own tables are no data of the shop's.
    let read = ["snapshot", &shop.source, "--store", "states"];
    shop.place.run(&read).exits(0);
    let tables = ["sql", "states", "select * from firstbad.quarantine"];
    assert_eq!(shop.place.run(&tables).code, 2);
    for verb in ["plan", "apply"] {
        shop.quarantine(verb, &["I-1"]).refused(&[
            "quarantine is not switched on for orders: nothing was changed",
            "select firstbad.quarantine_on('\"public\".\"orders\"')",
        ]);
    }
    assert_eq!(shop.dump(), before);
    assert_eq!(shop.state("I-1"), "open");
    shop.switch_on("'orders'");
    shop.quarantine("apply", &["I-1", "--max-rows", "1"])
        .refused(&["I-1 stands for 2 rows, more than --max-rows 1: nothing was changed"]);
    assert_eq!(shop.held(), 0);
    shop.quarantine("apply", &["I-9"])
        .refused(&["there is no incident `I-9`"]);
    shop.place
        .run(&["quarantine", "apply", "I-1", "--store", "store"])
        .refused(&["no database was named"]);
    shop.place
        .run(&["quarantine", "release", "--store", "store"])
        .refused(&["one incident is released, or all of them"]);
    // The watcher's role has no part in it.
    shop.cluster.sql(
        "shop",
        "create role firstbad_watch login; grant select on orders to firstbad_watch",
    );
    let watcher = url(&shop.cluster, "firstbad_watch", "shop");
    shop.place
        .run(&["quarantine", "apply", "I-1", &watcher, "--store", "store"])
        .exits(3)
        .warns(&["the role may not set rows apart", "firstbad_quarantine"]);
    assert_eq!(shop.held(), 0);
    // Another server has no part in it either.
    let other = Cluster::start();
    shop.place
        .run(&[
            "quarantine",
            "apply",
            "I-1",
            &other.url("postgres"),
            "--store",
            "store",
        ])
        .refused(&["recorded from another server"]);
}

#[test]
fn a_key_that_names_no_row_is_passed_over() {
    let rules = "
rules:
  - {id: odd-scan, table: scans, accepted_values: {column: sku, values: [A, B]}}
  - {id: too-many, table: orders, row_count: {max: 50}}
  - {id: same-total, table: orders, unique: [total]}
";
    let shop = Shop::of(super::SHOP, rules);
    shop.install();
    shop.switch_on("'orders'");
    shop.owner("insert into scans values ('X', 1); insert into orders values (51, 'placed', 'a@example.com', 1.10, 'n')");
    shop.watch();
    let listed = shop
        .place
        .run(&["incident", "list", "--store", "store", "--format", "json"]);
    let listed = listed.exits(0).json();
    let mut seen = Vec::new();
    for incident in listed["incidents"].as_array().expect("a list") {
        let id = incident["id"].as_str().expect("a name");
        let planned = [
            "quarantine",
            "plan",
            id,
            "--store",
            "store",
            "--format",
            "json",
        ];
        let planned = shop.place.run(&planned).json();
        for passed in planned["passed_over"].as_array().expect("a list") {
            seen.push(format!("{}: {}", passed["rule"], passed["reason"]));
        }
        for row in planned["rows"].as_array().expect("a list") {
            seen.push(format!("{}: {}", row["rules"][0], row["key"]["id"]));
        }
    }
    seen.sort();
    let expected = [
        "\"odd-scan\": \"no_primary_key\"",
        "\"same-total\": 1",
        "\"same-total\": 51",
        "\"too-many\": \"whole_table\"",
    ];
    assert_eq!(seen, expected);
}
