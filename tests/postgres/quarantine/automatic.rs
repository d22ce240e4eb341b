//! A watcher that sets rows apart by itself.

use std::time::{Duration, Instant};

use super::Shop;
use crate::watcher::Watcher;

/// What takes longer hangs.
const LONGEST: Duration = Duration::from_secs(60);

/// The rules, and `firstbad.yaml` with a ceiling.
fn shop(ceiling: u32) -> Shop {
    let shop = Shop::open();
    let database = &shop.database;
    let file = format!(
        "rules: [rules.yaml]\nstore: store\n\
         quarantine: {{rules: [paid-order-without-shipment], max_rows: {ceiling}, database: \"${{QUARANTINE}}\"}}\n"
    );
    shop.place
        .write("firstbad.yaml", file.replace("${QUARANTINE}", database));
    shop
}

fn until(shop: &Shop, held: i64) {
    let begun = Instant::now();
    while shop.held() != held {
        assert!(
            begun.elapsed() < LONGEST,
            "{held} rows are set apart, not {}",
            shop.held()
        );
    }
}

#[test]
fn rows_are_set_apart_as_incidents_open_and_grow_up_to_a_ceiling() {
    let shop = shop(3);
    let watch = [shop.source.as_str()];
    let mut watcher = Watcher::start(&shop.place.path("."), &watch);
    watcher.says(&["watching from #"]);
    shop.app("update orders set status = 'paid' where id = 3");
    watcher.says(&["I-1", "opened"]);
    watcher.says(&["quarantine is not switched on for orders"]);
    assert_eq!(shop.held(), 0);
    shop.switch_on("'orders'");
    until(&shop, 1);
    watcher.says(&["quarantine: I-1: 1 row set apart"]);
    assert_eq!(shop.state("I-1"), "quarantined");
    shop.app("update orders set status = 'paid' where id in (4, 5, 6, 7)");
    watcher.says(&["quarantine: I-1: 3 rows set apart, 2 more are not: the ceiling is 3"]);
    assert_eq!(shop.held(), 3);
    let (code, said) = watcher.stop();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(shop.held(), 3);
    what_a_person_released_is_left_alone(&shop);
}

fn what_a_person_released_is_left_alone(shop: &Shop) {
    shop.quarantine("release", &["I-1"]).exits(0);
    shop.app("update orders set status = 'paid' where id = 8");
    let ran = shop.place.run(&["watch", &shop.source, "--until-now"]);
    ran.exits(0)
        .warns(&["quarantine: I-1: its rows were released, so they are left alone"]);
    assert_eq!(shop.held(), 0);
    // Until a person sets them apart again.
    shop.quarantine("apply", &["I-1"]).exits(0);
    assert_eq!(shop.held(), 6);
}

#[test]
fn what_others_wrote_meanwhile_is_set_apart_once_it_is_recorded() {
    let shop = shop(100);
    shop.switch_on("'orders'");
    let before = "update orders set status = 'paid' where id in (3, 4)";
    let watch = [shop.source.as_str()];
    let mut watcher = Watcher::start(&shop.place.path("."), &watch);
    watcher.says(&["watching from #"]);
    shop.app(&format!(
        "{before}; update orders set note = 'later' where id = 4"
    ));
    until(&shop, 2);
    let notes =
        "select string_agg(image ->> 'note', ' ' order by row_key) from firstbad.quarantine";
    assert_eq!(shop.owner(notes), "n later\n");
    let (code, said) = watcher.stop();
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_file_that_asks_for_what_is_not_there_is_refused() {
    let shop = shop(3);
    let with = |quarantine: &str| {
        let file = format!("rules: [rules.yaml]\nstore: store\nquarantine: {quarantine}\n");
        shop.place.write("firstbad.yaml", file);
        shop.place.run(&["watch", &shop.source, "--until-now"])
    };
    with("{rules: [paid-order-without-shipmet], database: \"postgres://x@localhost/shop\"}")
        .refused(&[
            "no rule `paid-order-without-shipmet` is watched",
            "did you mean `paid-order-without-shipment`?",
        ]);
    with("{rules: [paid-order-without-shipment]}").refused(&["no database was named"]);
    with("{rules: [paid-order-without-shipment], database: shop.db}").refused(&["is no database"]);
    with("{max_rows: 0}").refused(&["a larger number is expected here"]);
    with("{rows: 1}").refused(&["`quarantine` has no key `rows`"]);
    // A database alone is for the commands.
    with("{database: \"postgres://x@localhost/shop\"}").exits(0);
}
